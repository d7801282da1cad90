/* Matrix-vector products with weights in super-blocks of 256, AVX-512 with VNNI. A step is one
 * super-block: four vectors of codes, in the order in which they come out of their bytes (the
 * activations were written in that order), and one vector of scales times activation scales,
 * whose lanes are then spread to the lanes of each product. The formats are drawn in dtype.c. */
#include "x86_avx512_matmul.h"

enum { STEP = 256 };

MM_INLINE void load_codes(struct mm_step *step, const struct mm_act *act, uint32_t at) {
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++) {
        step->q[i] = _mm512_loadu_si512(act->q + at + 64 * i);
    }
}

MM_INLINE void load_offset(struct mm_step *step, int8_t offset) {
    const __m512i zero = _mm512_setzero_si512(), off = _mm512_set1_epi8(offset);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++) {
        step->init[i] = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, off, step->q[i]));
    }
}

/* Activation scales of blocks of 32, each twice. */
MM_INLINE __m512 load_d16(const struct mm_act *act, uint32_t at) {
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m256 d = _mm256_loadu_ps(act->d + at / MM_BLOCK);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(d));
}

MM_INLINE __m512 add_dot(__m512 sum, __m512i codes, __m512i act, __m512i init, __m512 scales,
                         __m512i spread) {
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(init, codes, act));
    return _mm512_fmadd_ps(dot, _mm512_permutexvar_ps(spread, scales), sum);
}

typedef __m512 row_k(__m512 sum, const uint8_t *w, __m512 scales, const struct mm_step *step);

MM_INLINE void rows_k(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                      mm_scales *load_scales, row_k *row) {
    __m512 scales[4];
    load_scales(scales, w, step->d);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row(sum[r], w[r], scales[r], step);
    }
}

/* Q4_K and Q5_K */

MM_INLINE void setup_q4_k(struct mm_step *step) {
    step->spread[0] = spread_of(0, 2, 3);
    step->spread[1] = spread_of(1, 3, 3);
    step->spread[2] = spread_of(4, 6, 3);
    step->spread[3] = spread_of(5, 7, 3);
}

MM_INLINE void load_q4_k(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_codes(step, act, at);
    const __m512 d = _mm512_castps256_ps512(_mm256_loadu_ps(act->d + at / MM_BLOCK));
    step->d = _mm512_insertf32x8(d, _mm256_loadu_ps(act->s + at / MM_BLOCK), 1);
}

MM_INLINE __m512 row_q4_k(__m512 sum, const uint8_t *w, __m512 scales, const struct mm_step *step) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a = _mm512_loadu_si512(w + 16), b = _mm512_loadu_si512(w + 80);
    sum = _mm512_mask_sub_ps(sum, 0xff00, sum, scales);
    sum = add_dot(sum, low_nibbles(a), step->q[0], zero, scales, step->spread[0]);
    sum = add_dot(sum, high_nibbles(a), step->q[1], zero, scales, step->spread[1]);
    sum = add_dot(sum, low_nibbles(b), step->q[2], zero, scales, step->spread[2]);
    return add_dot(sum, high_nibbles(b), step->q[3], zero, scales, step->spread[3]);
}

MM_INLINE void rows_q4_k(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
    (void)n_blocks;
    rows_k(sum, w, step, scales_q4_k, row_q4_k);
}

void cpu_dots_q4_k_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q4_k, load_q4_k, rows_q4_k, STEP, 1, 144});
}

/* Bit b of a byte of high bits belongs to block b; rotated to bit 4. */
MM_INLINE __m512 row_q5_k(__m512 sum, const uint8_t *w, __m512 scales, const struct mm_step *step) {
    const __m512i zero = _mm512_setzero_si512(), high = two_halves(w + 16);
    const __m512i a = _mm512_loadu_si512(w + 48), b = _mm512_loadu_si512(w + 112);
    const __m512i q0 = with_bits(low_nibbles(a), rotate(high, 4, 2), 16);
    const __m512i q1 = with_bits(high_nibbles(a), rotate(high, 3, 1), 16);
    const __m512i q2 = with_bits(low_nibbles(b), rotate(high, 0, -2), 16);
    const __m512i q3 = with_bits(high_nibbles(b), rotate(high, -1, -3), 16);
    sum = _mm512_mask_sub_ps(sum, 0xff00, sum, scales);
    sum = add_dot(sum, q0, step->q[0], zero, scales, step->spread[0]);
    sum = add_dot(sum, q1, step->q[1], zero, scales, step->spread[1]);
    sum = add_dot(sum, q2, step->q[2], zero, scales, step->spread[2]);
    return add_dot(sum, q3, step->q[3], zero, scales, step->spread[3]);
}

MM_INLINE void rows_q5_k(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
    (void)n_blocks;
    rows_k(sum, w, step, scales_q4_k, row_q5_k);
}

void cpu_dots_q5_k_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q4_k, load_q4_k, rows_q5_k, STEP, 1, 176});
}

/* Q6_K: 16 signed scales; two high bits of element i of a half's quarter b in bits 2b, 2b + 1. */

MM_INLINE void setup_q6_k(struct mm_step *step) {
    for (int i = 0; i < 4; i++) {
        step->spread[i] = spread_of(4 * i, 4 * i + 2, 2);
    }
}

MM_INLINE void load_q6_k(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_codes(step, act, at);
    load_offset(step, 32);
    step->d = load_d16(act, at);
}

MM_INLINE __m512 row_q6_k(__m512 sum, const uint8_t *w, __m512 scales, const struct mm_step *step) {
    const __m512i a = _mm512_loadu_si512(w), b = _mm512_loadu_si512(w + 64);
    const __m512i high_a = two_halves(w + 128), high_b = two_halves(w + 160);
    const __m512i q0 = with_bits(low_nibbles(a), rotate(high_a, 4, 2), 48);
    const __m512i q1 = with_bits(high_nibbles(a), rotate(high_a, 0, -2), 48);
    const __m512i q2 = with_bits(low_nibbles(b), rotate(high_b, 4, 2), 48);
    const __m512i q3 = with_bits(high_nibbles(b), rotate(high_b, 0, -2), 48);
    sum = add_dot(sum, q0, step->q[0], step->init[0], scales, step->spread[0]);
    sum = add_dot(sum, q1, step->q[1], step->init[1], scales, step->spread[1]);
    sum = add_dot(sum, q2, step->q[2], step->init[2], scales, step->spread[2]);
    return add_dot(sum, q3, step->q[3], step->init[3], scales, step->spread[3]);
}

MM_INLINE void rows_q6_k(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
    (void)n_blocks;
    rows_k(sum, w, step, scales_q6_k, row_q6_k);
}

void cpu_dots_q6_k_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q6_k, load_q6_k, rows_q6_k, STEP, 1, 210});
}

/* Q2_K and Q3_K: vector i holds bits 2i, 2i + 1 of 64 bytes, that is blocks i and 4 + i. */

MM_INLINE void setup_q2_k(struct mm_step *step) {
    for (int i = 0; i < 4; i++) {
        step->spread[i] = spread_of(2 * i, 8 + 2 * i, 2);
    }
}

MM_INLINE void load_q2_k(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_codes(step, act, at);
    step->d = load_d16(act, at);
    step->d2 = _mm512_loadu_ps(act->s + at / 16);
}

MM_INLINE __m512 row_q2_k(__m512 sum, const uint8_t *w, __m512 scales, const struct mm_step *step) {
    const __m512i q = _mm512_loadu_si512(w + 16), zero = _mm512_setzero_si512();
    sum = add_dot(sum, two_bits(q, 0), step->q[0], zero, scales, step->spread[0]);
    sum = add_dot(sum, two_bits(q, 2), step->q[1], zero, scales, step->spread[1]);
    sum = add_dot(sum, two_bits(q, 4), step->q[2], zero, scales, step->spread[2]);
    return add_dot(sum, two_bits(q, 6), step->q[3], zero, scales, step->spread[3]);
}

MM_INLINE void rows_q2_k(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
    (void)n_blocks;
    __m512 mins[4];
    mins_q2_k(mins, w, step->d2);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = _mm512_sub_ps(sum[r], mins[r]);
    }
    rows_k(sum, w, step, scales_q2_k, row_q2_k);
}

void cpu_dots_q2_k_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q2_k, load_q2_k, rows_q2_k, STEP, 1, 84});
}

MM_INLINE void load_q3_k(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_codes(step, act, at);
    load_offset(step, 4);
    step->d = load_d16(act, at);
}

MM_INLINE __m512 row_q3_k(__m512 sum, const uint8_t *w, __m512 scales, const struct mm_step *step) {
    const __m512i high = two_halves(w), q = _mm512_loadu_si512(w + 32);
    const __m512i q0 = with_bits(two_bits(q, 0), rotate(high, 2, -2), 4);
    const __m512i q1 = with_bits(two_bits(q, 2), rotate(high, 1, -3), 4);
    const __m512i q2 = with_bits(two_bits(q, 4), rotate(high, 0, -4), 4);
    const __m512i q3 = with_bits(two_bits(q, 6), rotate(high, -1, -5), 4);
    sum = add_dot(sum, q0, step->q[0], step->init[0], scales, step->spread[0]);
    sum = add_dot(sum, q1, step->q[1], step->init[1], scales, step->spread[1]);
    sum = add_dot(sum, q2, step->q[2], step->init[2], scales, step->spread[2]);
    return add_dot(sum, q3, step->q[3], step->init[3], scales, step->spread[3]);
}

MM_INLINE void rows_q3_k(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
    (void)n_blocks;
    rows_k(sum, w, step, scales_q3_k, row_q3_k);
}

void cpu_dots_q3_k_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q2_k, load_q3_k, rows_q3_k, STEP, 1, 110});
}

/* IQ4_XS: the nibbles of IQ4_NL. */

MM_INLINE void setup_iq4_xs(struct mm_step *step) {
    step->spread[0] = spread_of(0, 2, 2);
    step->spread[1] = spread_of(4, 6, 2);
    step->table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)cpu_iq4_values));
}

MM_INLINE void load_iq4_xs(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_codes(step, act, at);
    load_offset(step, MM_IQ4_OFFSET);
    step->init[0] = _mm512_add_epi32(step->init[0], step->init[1]);
    step->init[1] = _mm512_add_epi32(step->init[2], step->init[3]);
    step->d = _mm512_castps256_ps512(_mm256_loadu_ps(act->d + at / MM_BLOCK));
}

MM_INLINE __m512 row_iq4_xs(__m512 sum, const uint8_t *w, __m512 scales,
                            const struct mm_step *step) {
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 2; i++) {
        const __m512i q = _mm512_loadu_si512(w + 8 + 64 * i);
        const __m512i lo = _mm512_shuffle_epi8(step->table, low_nibbles(q));
        const __m512i hi = _mm512_shuffle_epi8(step->table, high_nibbles(q));
        const __m512i dot = _mm512_dpbusd_epi32(step->init[i], lo, step->q[2 * i]);
        sum = add_dot(sum, hi, step->q[2 * i + 1], dot, scales, step->spread[i]);
    }
    return sum;
}

MM_INLINE void rows_iq4_xs(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                           uint32_t n_blocks) {
    (void)n_blocks;
    rows_k(sum, w, step, scales_iq4_xs, row_iq4_xs);
}

void cpu_dots_iq4_xs_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_iq4_xs, load_iq4_xs, rows_iq4_xs, STEP, 1, 136});
}
