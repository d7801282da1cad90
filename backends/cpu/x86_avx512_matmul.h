/* What the AVX-512 matrix product files share. */
#ifndef TL_X86_AVX512_MATMUL_H
#define TL_X86_AVX512_MATMUL_H

#include "matmul.h"

#if defined(__AVX512F__) /* else nothing: the header must compile everywhere */

#include <immintrin.h>
#include <string.h>

#define MM_INLINE static inline __attribute__((always_inline))

/* x86_avx512_matmul_float.c */
void cpu_dots_f32_avx512(const struct mm_dots *work);
void cpu_dots_f16_avx512(const struct mm_dots *work);
void cpu_dots_bf16_avx512(const struct mm_dots *work);
void cpu_unpack_f32_avx512(const struct mm_unpack *work);
void cpu_unpack_f16_avx512(const struct mm_unpack *work);
void cpu_unpack_bf16_avx512(const struct mm_unpack *work);
void cpu_tile_float_avx512(const struct mm_tile *work);

/* x86_avx512_matmul_dots.c: formats of blocks of 32 */
void cpu_dots_q8_0_avx512(const struct mm_dots *work);
void cpu_dots_q4_0_avx512(const struct mm_dots *work);
void cpu_dots_q4_1_avx512(const struct mm_dots *work);
void cpu_dots_q5_0_avx512(const struct mm_dots *work);
void cpu_dots_q5_1_avx512(const struct mm_dots *work);
void cpu_dots_iq4_nl_avx512(const struct mm_dots *work);
/* x86_avx512_matmul_dots_k.c: formats of blocks of 256 */
void cpu_dots_iq4_xs_avx512(const struct mm_dots *work);
void cpu_dots_q2_k_avx512(const struct mm_dots *work);
void cpu_dots_q3_k_avx512(const struct mm_dots *work);
void cpu_dots_q4_k_avx512(const struct mm_dots *work);
void cpu_dots_q5_k_avx512(const struct mm_dots *work);
void cpu_dots_q6_k_avx512(const struct mm_dots *work);

/* x86_avx512_matmul_tile.c */
void cpu_unpack_q8_0_avx512(const struct mm_unpack *work);
void cpu_unpack_q4_0_avx512(const struct mm_unpack *work);
void cpu_unpack_q4_1_avx512(const struct mm_unpack *work);
void cpu_unpack_q5_0_avx512(const struct mm_unpack *work);
void cpu_unpack_q5_1_avx512(const struct mm_unpack *work);
void cpu_unpack_iq4_nl_avx512(const struct mm_unpack *work);
void cpu_unpack_iq4_xs_avx512(const struct mm_unpack *work);
void cpu_unpack_q2_k_avx512(const struct mm_unpack *work);
void cpu_unpack_q3_k_avx512(const struct mm_unpack *work);
void cpu_unpack_q4_k_avx512(const struct mm_unpack *work);
void cpu_unpack_q5_k_avx512(const struct mm_unpack *work);
void cpu_unpack_q6_k_avx512(const struct mm_unpack *work);
void cpu_tile_32_avx512(const struct mm_tile *work);
void cpu_tile_32_min_avx512(const struct mm_tile *work);
void cpu_tile_16_avx512(const struct mm_tile *work);
void cpu_tile_16_min_avx512(const struct mm_tile *work);

/* The sums of four vectors. */
MM_INLINE __m128 mm_sum4(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512 all = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* Transposes 16 x 16 dwords: afterwards v[j] holds element j of each of the former vectors. */
MM_INLINE void mm_transpose16(__m512 v[16]) {
    __m512 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* rows 4i .. 4i + 3, columns 4c + j in 128-bit lane c of v[j] */
        const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 2]);
        const __m512d c = _mm512_castps_pd(t[4 * i + 1]), d = _mm512_castps_pd(t[4 * i + 3]);
        v[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        v[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        v[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        v[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        t[j] = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x44);
        t[4 + j] = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xee);
        t[8 + j] = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x44);
        t[12 + j] = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xee);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0x88);
        v[4 + j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0xdd);
        v[8 + j] = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0x88);
        v[12 + j] = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0xdd);
    }
}

/* The activations of one step along k, shared by the four rows that are summed together, and the
 * constants of a format. Each format uses some of it. */
struct mm_step {
    __m512i q[4];      /* activations against the weights of each of a step's vectors */
    __m512i init[4];   /* -offset * sum of each lane's activations */
    __m512 d, d2;      /* activation scales, in the place of the weight scales they multiply */
    __m512i spread[4]; /* permutations of scales to the lanes they belong to */
    __m512i pick, head, table;
};

typedef void mm_setup(struct mm_step *step);
typedef void mm_load(struct mm_step *step, const struct mm_act *act, uint32_t at);
/* Adds the products of one step of four rows, n_blocks of whose blocks exist. */
typedef void mm_rows(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                     uint32_t n_blocks);

struct mm_walk {
    mm_setup *setup;
    mm_load *load;
    mm_rows *rows;
    uint32_t step_elems, step_blocks, block_bytes;
};

/* Four rows at a time, so that activations are loaded once for four weights and four sums hide the
 * latency of one. The rows of a model lie one behind the other: prefetching runs in that order, far
 * enough ahead of the four streams to be ahead of the last of them (8192 x 2048 Q8_0 with two
 * threads of an EPYC 9005: 65 GB/s, as much as reading alone; 2048 x 8192: 49 GB/s when it was 8
 * KiB whatever the rows, 72 now; 2026-11), and goes on where the next rows will be asked for. */
enum { MM_AHEAD = 8192, MM_UNPACK_AHEAD = 512 };

/* `n` is a constant, and weights that n activation rows meet one after the other are loaded and
 * unpacked once: the compiler sees the same loads n times. F16 of 135M, 4, 8 and 16 rows: 310, 485
 * and 370 rows/s one by one, 520, 780 and 890 so (two threads, EPYC 9005, 2026-11-23).
 */
MM_INLINE void mm_walk_n(const struct mm_dots *work, const struct mm_walk walk, const uint32_t n) {
    struct mm_step step[MM_DOTS_MAX];
    for (uint32_t t = 0; t < n; t++) {
        walk.setup(&step[t]);
    }
    const uint32_t step_bytes = walk.step_blocks * walk.block_bytes;
    const uint32_t n_steps = work->k / walk.step_elems;
    const uint32_t tail = work->k % walk.step_elems * walk.step_blocks / walk.step_elems;
    const uint64_t far = tl_max_u64(4 * work->row_bytes, MM_AHEAD);
    const uintptr_t end = (uintptr_t)(work->w + work->n_rows * work->row_bytes);
    for (uint32_t i = 0; i < work->n_rows; i += 4) {
        const uint32_t last = work->n_rows - 1 - i;
        const uint8_t *w[4];
        __m512 sum[MM_DOTS_MAX][4];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < 4; r++) {
            w[r] = work->w + (i + (last < r ? last : r)) * work->row_bytes;
#pragma GCC unroll 4
            for (uint32_t t = 0; t < n; t++) {
                sum[t][r] = _mm512_setzero_ps();
            }
        }
        uintptr_t ahead = (uintptr_t)w[0] + far;
        for (uint32_t j = 0; j < n_steps; j++) {
            const uintptr_t at = ahead < end ? ahead : ahead - end + (uintptr_t)work->next;
#pragma GCC unroll 32
            for (uint32_t p = 0; p < 4 * step_bytes; p += 64) {
                _mm_prefetch((const char *)(at + p), _MM_HINT_T0);
            }
            ahead += (uintptr_t)4 * step_bytes;
#pragma GCC unroll 4
            for (uint32_t t = 0; t < n; t++) {
                walk.load(&step[t], &work->act[t], j * walk.step_elems);
                walk.rows(sum[t], w, &step[t], walk.step_blocks);
            }
#pragma GCC unroll 4
            for (uint32_t r = 0; r < 4; r++) {
                w[r] += step_bytes;
            }
        }
#pragma GCC unroll 4
        for (uint32_t t = 0; t < n; t++) {
            if (tail > 0) {
                walk.load(&step[t], &work->act[t], n_steps * walk.step_elems);
                walk.rows(sum[t], w, &step[t], tail);
            }
            const __m128 sums = mm_sum4(sum[t][0], sum[t][1], sum[t][2], sum[t][3]);
            _mm_mask_storeu_ps(work->y + (uint64_t)t * work->y_stride + i,
                               (__mmask8)(last >= 3 ? 15 : (2u << last) - 1), sums);
        }
    }
}

MM_INLINE void mm_walk_rows(const struct mm_dots *work, const struct mm_walk walk) {
    if (work->n == MM_DOTS_MAX) {
        mm_walk_n(work, walk, MM_DOTS_MAX);
    } else if (work->n == 2) {
        mm_walk_n(work, walk, 2);
    } else {
        mm_walk_n(work, walk, 1);
    }
}

/* The first n (possibly none, possibly more than 64) bytes at p, zeros behind. */
MM_INLINE __m512i mm_load_upto(const uint8_t *p, int n) {
    if (n >= 64) {
        return _mm512_loadu_si512(p);
    }
    return _mm512_maskz_loadu_epi8(n <= 0 ? 0 : ~(__mmask64)0 >> (64 - n), p);
}

MM_INLINE uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

MM_INLINE __m512 broadcast_f16(const uint8_t *p) {
    int16_t h;
    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}

/* Lane i of a product takes scale first + i / lanes, and other the upper half. */
MM_INLINE __m512i spread_of(int first, int other, int lanes_log2) {
    const __m512i i = _mm512_set_epi32(7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i base = _mm512_mask_set1_epi32(_mm512_set1_epi32(first), 0xff00, other);
    return _mm512_add_epi32(base, _mm512_srli_epi32(i, (unsigned)lanes_log2));
}

MM_INLINE __m512i two_halves(const uint8_t *p) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
}

/* Per-lane rotations, one for each half of the vector. */
MM_INLINE __m512i rotate(__m512i v, int lo, int hi) {
    return _mm512_rolv_epi32(v,
                             _mm512_mask_set1_epi32(_mm512_set1_epi32(lo & 31), 0xff00, hi & 31));
}

/* codes | (high & mask) */
MM_INLINE __m512i with_bits(__m512i codes, __m512i high, int8_t mask) {
    return _mm512_ternarylogic_epi32(codes, high, _mm512_set1_epi8(mask), 0xf8);
}

MM_INLINE __m512i low_nibbles(__m512i q) { return _mm512_and_si512(q, _mm512_set1_epi8(15)); }

MM_INLINE __m512i high_nibbles(__m512i q) {
    return _mm512_and_si512(_mm512_srli_epi16(q, 4), _mm512_set1_epi8(15));
}

MM_INLINE __m512i two_bits(__m512i q, unsigned shift) {
    return _mm512_and_si512(_mm512_srli_epi16(q, shift), _mm512_set1_epi8(3));
}

/* The scales of one block of 256 of each of four rows, times a factor for each (activation scales,
 * or ones). */
typedef void mm_scales(__m512 scales[4], const uint8_t *const w[4], __m512 act);

/* Sixteen bytes of each row, one behind the other. */
MM_INLINE __m512i load_heads(const uint8_t *const w[4], uint32_t at) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(w[0] + at)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(w[1] + at)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(w[2] + at)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(w[3] + at)), 3);
}

/* The same four dwords in each 128-bit lane, the first of them lowest. */
MM_INLINE __m512i four_u32(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return _mm512_broadcast_i32x4(_mm_set_epi32((int)d, (int)c, (int)b, (int)a));
}

/* The four 128-bit lanes. */
MM_INLINE void split_lanes(__m128i lanes[4], __m512i v) {
    lanes[0] = _mm512_castsi512_si128(v);
    lanes[1] = _mm512_extracti32x4_epi32(v, 1);
    lanes[2] = _mm512_extracti32x4_epi32(v, 2);
    lanes[3] = _mm512_extracti32x4_epi32(v, 3);
}

/* Eight 6-bit scales and eight minima in 12 bytes, behind two halfs d and dmin that multiply them:
 * scales in lanes 0..7, minima in lanes 8..15. Unpacked for four rows at once: one by one it is a
 * third of the product's instructions. */
MM_INLINE void scales_q4_k(__m512 scales[4], const uint8_t *const w[4], __m512 act) {
    const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030, all = 0x3f3f3f3f;
    const __m512i heads = load_heads(w, 0);
    const __m512i own = _mm512_srlv_epi32(_mm512_shuffle_epi32(heads, 0xa5), four_u32(0, 2, 0, 2));
    const __m512i more = _mm512_srlv_epi32(_mm512_shuffle_epi32(heads, 0xff), four_u32(0, 0, 0, 4));
    const __m512i codes = _mm512_or_si512(_mm512_and_si512(own, four_u32(all, hi, all, hi)),
                                          _mm512_and_si512(more, four_u32(0, lo, 0, lo)));
    const __m512i firsts = _mm512_permutexvar_epi32(
        _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0), heads);
    const __m512 dm = _mm512_castps256_ps512(_mm256_cvtph_ps(_mm512_castsi512_si128(firsts)));
    __m128i lanes[4];
    split_lanes(lanes, codes);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m512 row_dm = _mm512_permutexvar_ps(spread_of(2 * r, 2 * r + 1, 3), dm);
        const __m512 factors = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(lanes[r]));
        scales[r] = _mm512_mul_ps(factors, _mm512_mul_ps(row_dm, act));
    }
}

/* Sixteen 6-bit scales less 32: low nibbles in 8 bytes, two high bits each in 4 more; then d. */
MM_INLINE void scales_q3_k(__m512 scales[4], const uint8_t *const w[4], __m512 act) {
    const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030;
    const __m512i heads = load_heads(w, 94); /* from two bytes before the scales to the end */
    const __m512i nibbles =
        _mm512_shuffle_epi8(heads, four_u32(0x05040302, 0x09080706, 0x05040302, 0x09080706));
    const __m512i bits =
        _mm512_shuffle_epi8(heads, four_u32(0x0d0c0b0a, 0x0d0c0b0a, 0x0d0c0b0a, 0x0d0c0b0a));
    const __m512i low = _mm512_srlv_epi32(nibbles, four_u32(0, 0, 4, 4));
    const __m512i high = _mm512_rolv_epi32(bits, four_u32(4, 2, 0, 30));
    const __m512i codes = _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32((int)lo)),
                                          _mm512_and_si512(high, _mm512_set1_epi32((int)hi)));
    __m128i lanes[4];
    split_lanes(lanes, _mm512_sub_epi8(codes, _mm512_set1_epi8(32)));
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m512 d = _mm512_mul_ps(broadcast_f16(w[r] + 108), act);
        scales[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(lanes[r])), d);
    }
}

MM_INLINE void scales_q2_k(__m512 scales[4], const uint8_t *const w[4], __m512 act) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m128i heads = _mm_loadu_si128((const __m128i *)w[r]);
        const __m512i codes = _mm512_cvtepu8_epi32(_mm_and_si128(heads, _mm_set1_epi8(15)));
        const __m512 d = _mm512_mul_ps(broadcast_f16(w[r] + 80), act);
        scales[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(codes), d);
    }
}

MM_INLINE void mins_q2_k(__m512 mins[4], const uint8_t *const w[4], __m512 act_sums) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m128i heads = _mm_srli_epi16(_mm_loadu_si128((const __m128i *)w[r]), 4);
        const __m512i codes = _mm512_cvtepu8_epi32(_mm_and_si128(heads, _mm_set1_epi8(15)));
        const __m512 m = _mm512_mul_ps(broadcast_f16(w[r] + 82), act_sums);
        mins[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(codes), m);
    }
}

MM_INLINE void scales_q6_k(__m512 scales[4], const uint8_t *const w[4], __m512 act) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m128i codes = _mm_loadu_si128((const __m128i *)(w[r] + 192));
        const __m512 d = _mm512_mul_ps(broadcast_f16(w[r] + 208), act);
        scales[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), d);
    }
}

/* Eight 6-bit scales less 32: their low nibbles in 4 bytes, two high bits each in 2 more. */
MM_INLINE void scales_iq4_xs(__m512 scales[4], const uint8_t *const w[4], __m512 act) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const uint64_t codes = _pdep_u64(load_u32(w[r] + 4), 0x0f0f0f0f0f0f0f0f) |
                               _pdep_u64(load_u32(w[r]) >> 16, 0x3030303030303030);
        const __m512i d8 = _mm512_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)codes));
        const __m512 d = _mm512_mul_ps(broadcast_f16(w[r]), act);
        scales[r] =
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(d8, _mm512_set1_epi32(32))), d);
    }
}

#endif
#endif
