/* Matrix-vector products with weights in blocks of 32, AVX-512 with VNNI.
 *
 * A step is four blocks, 128 weights. Formats of 4 and 5 bits keep element i of a block and element
 * i + 16 in the nibbles of one byte, so one vector of 64 bytes holds a step: lane group b (of four
 * 32-bit lanes) belongs to block b, in the low nibbles as in the high ones, and both products land
 * in one accumulator. Activations come in that order (`mm_order_nibbles`). The quants lie between
 * block headers at multiples of two bytes: two overlapping loads cover the step and one 16-bit
 * permutation gathers them, a second one the headers. */
#include "x86_avx512_matmul.h"

enum { STEP = 128 };

/* Word i of the step, as VPERMI2W finds it in the first 64 and the last 32 of its bytes. */
MM_INLINE uint16_t word_at(uint32_t block_bytes, uint32_t word) {
    return (uint16_t)(word < 32 ? word : word + 48 - 2 * block_bytes);
}

/* Gathers the 16 bytes at `head_bytes` of each of four blocks. */
MM_INLINE __m512i pick_quants(uint32_t block_bytes, uint32_t head_bytes) {
    uint16_t words[32];
    for (uint32_t i = 0; i < 32; i++) {
        words[i] = word_at(block_bytes, i / 8 * block_bytes / 2 + head_bytes / 2 + i % 8);
    }
    return _mm512_loadu_si512(words);
}

/* Gathers n_words words of each block's header, the first words of all four blocks first. */
MM_INLINE __m512i pick_heads(uint32_t block_bytes, const uint8_t order[4], uint32_t n_words) {
    uint16_t words[32] = {0};
    for (uint32_t i = 0; i < 4 * n_words; i++) {
        words[i] = word_at(block_bytes, i % 4 * block_bytes / 2 + order[i / 4]);
    }
    return _mm512_loadu_si512(words);
}

/* Lanes 4b .. 4b + 3 take float b. */
MM_INLINE __m512i spread4(void) {
    return _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
}

struct pair {
    __m512i a, b;
};

MM_INLINE struct pair load_step(const uint8_t *w, uint32_t block_bytes, uint32_t n_blocks) {
    const uint8_t *const rest = w + 4 * block_bytes - 32;
    if (n_blocks == 4) {
        const __m256i b = _mm256_loadu_si256((const __m256i *)rest);
        return (struct pair){_mm512_loadu_si512(w), _mm512_castsi256_si512(b)};
    }
    const int n = (int)(n_blocks * block_bytes);
    return (struct pair){mm_load_upto(w, n), mm_load_upto(rest, n - (int)(4 * block_bytes - 32))};
}

/* -offset times the sum of the activations in each lane. */
MM_INLINE __m512i minus_offset(int8_t offset, __m512i q0, __m512i q1) {
    const __m512i off = _mm512_set1_epi8(offset), zero = _mm512_setzero_si512();
    return _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, off, q0), off, q1));
}

MM_INLINE void load_nibbles(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    step->q[0] = _mm512_loadu_si512(act->q + at);
    step->q[1] = _mm512_loadu_si512(act->q + at + 64);
    step->d = _mm512_castps128_ps512(_mm_loadu_ps(act->d + at / MM_BLOCK));
    step->init[0] = _mm512_setzero_si512();
}

MM_INLINE void load_nibbles_min(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_nibbles(step, act, at);
    const __m256 ds = _mm256_insertf128_ps(_mm512_castps512_ps256(step->d),
                                           _mm_loadu_ps(act->s + at / MM_BLOCK), 1);
    step->d = _mm512_castps256_ps512(ds);
}

MM_INLINE __m512 add_scaled(__m512 sum, __m512i dot, __m512 scales, __m512i spread) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(spread, scales), sum);
}

/* dots of both halves, times the scale at word 0..3 of `heads`. */
MM_INLINE __m512 add_block(__m512 sum, __m512i lo, __m512i hi, __m512i heads,
                           const struct mm_step *step) {
    const __m512i dot =
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(step->init[0], lo, step->q[0]), hi, step->q[1]);
    const __m128 d = _mm_cvtph_ps(_mm512_castsi512_si128(heads));
    const __m128 scales = _mm_mul_ps(d, _mm512_castps512_ps128(step->d));
    return add_scaled(sum, dot, _mm512_castps128_ps512(scales), step->spread[0]);
}

/* The same with a minimum, added, at words 4..7. */
MM_INLINE __m512 add_block_min(__m512 sum, __m512i lo, __m512i hi, __m128i heads,
                               const struct mm_step *step) {
    const __m512i dot =
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(step->init[0], lo, step->q[0]), hi, step->q[1]);
    const __m512 scales = _mm512_castps256_ps512(
        _mm256_mul_ps(_mm256_cvtph_ps(heads), _mm512_castps512_ps256(step->d)));
    sum = _mm512_mask_add_ps(sum, 0xf0, sum, scales);
    return add_scaled(sum, dot, scales, step->spread[0]);
}

/* Q4_0, and IQ4_NL, whose nibbles are places in a table */

MM_INLINE void setup_q4_0(struct mm_step *step) {
    static const uint8_t d[4] = {0};
    step->pick = pick_quants(18, 2);
    step->head = pick_heads(18, d, 1);
    step->spread[0] = spread4();
}

MM_INLINE void load_q4_0(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_nibbles(step, act, at);
    step->init[0] = minus_offset(8, step->q[0], step->q[1]);
}

MM_INLINE __m512 row_q4_0(__m512 sum, const uint8_t *w, const struct mm_step *step,
                          uint32_t n_blocks) {
    const struct pair p = load_step(w, 18, n_blocks);
    const __m512i q = _mm512_permutex2var_epi16(p.a, step->pick, p.b);
    const __m512i heads = _mm512_permutex2var_epi16(p.a, step->head, p.b);
    return add_block(sum, low_nibbles(q), high_nibbles(q), heads, step);
}

MM_INLINE void rows_q4_0(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_q4_0(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_q4_0_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q4_0, load_q4_0, rows_q4_0, STEP, 4, 18});
}

MM_INLINE void setup_iq4_nl(struct mm_step *step) {
    setup_q4_0(step);
    step->table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)cpu_iq4_values));
}

MM_INLINE void load_iq4_nl(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_nibbles(step, act, at);
    step->init[0] = minus_offset(127, step->q[0], step->q[1]);
}

MM_INLINE __m512 row_iq4_nl(__m512 sum, const uint8_t *w, const struct mm_step *step,
                            uint32_t n_blocks) {
    const struct pair p = load_step(w, 18, n_blocks);
    const __m512i q = _mm512_permutex2var_epi16(p.a, step->pick, p.b);
    const __m512i heads = _mm512_permutex2var_epi16(p.a, step->head, p.b);
    const __m512i lo = _mm512_shuffle_epi8(step->table, low_nibbles(q));
    const __m512i hi = _mm512_shuffle_epi8(step->table, high_nibbles(q));
    return add_block(sum, lo, hi, heads, step);
}

MM_INLINE void rows_iq4_nl(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                           uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_iq4_nl(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_iq4_nl_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_iq4_nl, load_iq4_nl, rows_iq4_nl, STEP, 4, 18});
}

/* Q4_1 */

MM_INLINE void setup_q4_1(struct mm_step *step) {
    static const uint8_t d_m[4] = {0, 1};
    step->pick = pick_quants(20, 4);
    step->head = pick_heads(20, d_m, 2);
    step->spread[0] = spread4();
}

MM_INLINE __m512 row_q4_1(__m512 sum, const uint8_t *w, const struct mm_step *step,
                          uint32_t n_blocks) {
    const struct pair p = load_step(w, 20, n_blocks);
    const __m512i q = _mm512_permutex2var_epi16(p.a, step->pick, p.b);
    const __m512i heads = _mm512_permutex2var_epi16(p.a, step->head, p.b);
    return add_block_min(sum, low_nibbles(q), high_nibbles(q), _mm512_castsi512_si128(heads), step);
}

MM_INLINE void rows_q4_1(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_q4_1(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_q4_1_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q4_1, load_nibbles_min, rows_q4_1, STEP, 4, 20});
}

/* Q5_0 and Q5_1: bit i of a block's 32 high bits belongs to element i, so that the four blocks'
 * lower halves are the mask of the low nibbles. */

struct nibbles5 {
    __m512i lo, hi;
    __m128i heads;
};

MM_INLINE struct nibbles5 load_q5(const uint8_t *w, const struct mm_step *step,
                                  uint32_t block_bytes, uint32_t n_blocks) {
    const struct pair p = load_step(w, block_bytes, n_blocks);
    const __m512i q = _mm512_permutex2var_epi16(p.a, step->pick, p.b);
    const __m256i heads = _mm512_castsi512_si256(_mm512_permutex2var_epi16(p.a, step->head, p.b));
    const __m128i bits = _mm256_extracti128_si256(heads, 1);
    const __m512i lo = low_nibbles(q), hi = high_nibbles(q), bit = _mm512_set1_epi8(16);
    const __mmask64 lo_bits = (__mmask64)_mm_cvtsi128_si64(bits);
    const __mmask64 hi_bits = (__mmask64)_mm_extract_epi64(bits, 1);
    return (struct nibbles5){_mm512_mask_add_epi8(lo, lo_bits, lo, bit),
                             _mm512_mask_add_epi8(hi, hi_bits, hi, bit),
                             _mm256_castsi256_si128(heads)};
}

MM_INLINE void setup_q5_0(struct mm_step *step) {
    static const uint8_t d_high[4] = {0, 0, 1, 2};
    step->pick = pick_quants(22, 6);
    step->head = pick_heads(22, d_high, 4);
    step->spread[0] = spread4();
}

MM_INLINE void load_q5_0(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    load_nibbles(step, act, at);
    step->init[0] = minus_offset(16, step->q[0], step->q[1]);
}

MM_INLINE __m512 row_q5_0(__m512 sum, const uint8_t *w, const struct mm_step *step,
                          uint32_t n_blocks) {
    const struct nibbles5 q = load_q5(w, step, 22, n_blocks);
    return add_block(sum, q.lo, q.hi, _mm512_castsi128_si512(q.heads), step);
}

MM_INLINE void rows_q5_0(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_q5_0(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_q5_0_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q5_0, load_q5_0, rows_q5_0, STEP, 4, 22});
}

MM_INLINE void setup_q5_1(struct mm_step *step) {
    static const uint8_t d_m_high[4] = {0, 1, 2, 3};
    step->pick = pick_quants(24, 8);
    step->head = pick_heads(24, d_m_high, 4);
    step->spread[0] = spread4();
}

MM_INLINE __m512 row_q5_1(__m512 sum, const uint8_t *w, const struct mm_step *step,
                          uint32_t n_blocks) {
    const struct nibbles5 q = load_q5(w, step, 24, n_blocks);
    return add_block_min(sum, q.lo, q.hi, q.heads, step);
}

MM_INLINE void rows_q5_1(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_q5_1(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_q5_1_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q5_1, load_nibbles_min, rows_q5_1, STEP, 4, 24});
}

/* Q8_0: two blocks fill a vector; their bytes become unsigned by flipping the sign bit. */

MM_INLINE void setup_q8_0(struct mm_step *step) {
    uint16_t first[16];
    for (uint32_t i = 0; i < 16; i++) {
        first[i] = (uint16_t)(i / 8 * 17);
    }
    step->head = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)first));
    step->spread[0] = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
}

MM_INLINE void load_q8_0(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    const __m512 d = _mm512_castps128_ps512(_mm_loadu_ps(act->d + at / MM_BLOCK));
    const __m512i two = _mm512_set1_epi32(2), off = _mm512_set1_epi8(-128);
    const __m512i zero = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 2; i++) {
        step->q[i] = _mm512_loadu_si512(act->q + at + 64 * i);
        step->init[i] = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, off, step->q[i]));
    }
    step->d = _mm512_permutexvar_ps(step->spread[0], d);
    step->d2 = _mm512_permutexvar_ps(_mm512_add_epi32(step->spread[0], two), d);
}

/* Two blocks of a row, or the one that is left. */
MM_INLINE __m512 pair_q8_0(__m512 sum, const uint8_t *w, __m512i act, __m512i init, __m512 d,
                           __m512i head, bool both) {
    const __m256i lo = _mm256_loadu_si256((const __m256i *)(w + 2));
    __m512i q = _mm512_castsi256_si512(lo), heads;
    if (both) {
        q = _mm512_inserti64x4(q, _mm256_loadu_si256((const __m256i *)(w + 36)), 1);
        heads = _mm512_permutexvar_epi16(head, _mm512_loadu_si512(w));
    } else {
        q = _mm512_zextsi256_si512(lo);
        heads = _mm512_permutexvar_epi16(head, mm_load_upto(w, 34));
    }
    const __m512 scales = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(heads)), d);
    const __m512i dot = _mm512_dpbusd_epi32(init, _mm512_xor_si512(q, _mm512_set1_epi8(-128)), act);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scales, sum);
}

MM_INLINE __m512 row_q8_0(__m512 sum, const uint8_t *w, const struct mm_step *step,
                          uint32_t n_blocks) {
    sum = pair_q8_0(sum, w, step->q[0], step->init[0], step->d, step->head, n_blocks > 1);
    if (n_blocks > 2) {
        sum = pair_q8_0(sum, w + 68, step->q[1], step->init[1], step->d2, step->head, n_blocks > 3);
    }
    return sum;
}

MM_INLINE void rows_q8_0(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_q8_0(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_q8_0_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_q8_0, load_q8_0, rows_q8_0, STEP, 4, 34});
}
