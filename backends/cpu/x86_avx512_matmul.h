/* What the AVX-512 matrix product files share. */
#ifndef TL_X86_AVX512_MATMUL_H
#define TL_X86_AVX512_MATMUL_H

#include "matmul.h"

#include <immintrin.h>
#include <string.h>

#define MM_INLINE static inline __attribute__((always_inline))

/* x86_avx512_matmul_float.c */
void mm512_dots_f32(const struct mm_dots *work);
void mm512_dots_f16(const struct mm_dots *work);
void mm512_dots_bf16(const struct mm_dots *work);
void mm512_unpack_f32(const struct mm_unpack *work);
void mm512_unpack_f16(const struct mm_unpack *work);
void mm512_unpack_bf16(const struct mm_unpack *work);
void mm512_tile_float(const struct mm_tile *work);

/* x86_avx512_matmul_dots.c: formats of blocks of 32 */
void mm512_dots_q8_0(const struct mm_dots *work);
void mm512_dots_q4_0(const struct mm_dots *work);
void mm512_dots_q4_1(const struct mm_dots *work);
void mm512_dots_q5_0(const struct mm_dots *work);
void mm512_dots_q5_1(const struct mm_dots *work);
void mm512_dots_iq4_nl(const struct mm_dots *work);
/* x86_avx512_matmul_dots_k.c: formats of blocks of 256 */
void mm512_dots_iq4_xs(const struct mm_dots *work);
void mm512_dots_q2_k(const struct mm_dots *work);
void mm512_dots_q3_k(const struct mm_dots *work);
void mm512_dots_q4_k(const struct mm_dots *work);
void mm512_dots_q5_k(const struct mm_dots *work);
void mm512_dots_q6_k(const struct mm_dots *work);

/* x86_avx512_matmul_tile.c */
void mm512_unpack_q8_0(const struct mm_unpack *work);
void mm512_unpack_q4_0(const struct mm_unpack *work);
void mm512_unpack_q4_1(const struct mm_unpack *work);
void mm512_unpack_q5_0(const struct mm_unpack *work);
void mm512_unpack_q5_1(const struct mm_unpack *work);
void mm512_unpack_iq4_nl(const struct mm_unpack *work);
void mm512_unpack_iq4_xs(const struct mm_unpack *work);
void mm512_unpack_q2_k(const struct mm_unpack *work);
void mm512_unpack_q3_k(const struct mm_unpack *work);
void mm512_unpack_q4_k(const struct mm_unpack *work);
void mm512_unpack_q5_k(const struct mm_unpack *work);
void mm512_unpack_q6_k(const struct mm_unpack *work);
void mm512_tile_32(const struct mm_tile *work);
void mm512_tile_32_min(const struct mm_tile *work);
void mm512_tile_16(const struct mm_tile *work);
void mm512_tile_16_min(const struct mm_tile *work);

/* The sums of four vectors. */
MM_INLINE __m128 mm512_sum4(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512 all = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* Transposes 16 x 16 dwords: afterwards v[j] holds element j of each of the former vectors. */
MM_INLINE void mm512_transpose16(__m512 v[16]) {
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
struct mm512_step {
    __m512i q[4];    /* activations against the weights of each of a step's vectors */
    __m512i init[4]; /* -offset * sum of each lane's activations */
    __m512 d, d2;    /* activation scales, in the place of the weight scales they multiply */
    __m512i spread[4]; /* permutations of scales to the lanes they belong to */
    __m512i pick, head, table;
};

typedef void mm512_setup(struct mm512_step *step);
typedef void mm512_load(struct mm512_step *step, const struct mm_act *act, uint32_t at);
/* Adds the products of one step of a row, n_blocks of whose blocks exist. */
typedef __m512 mm512_row(__m512 sum, const uint8_t *w, const struct mm512_step *step,
                         uint32_t n_blocks);

struct mm512_walk {
    mm512_setup *setup;
    mm512_load *load;
    mm512_row *row;
    uint32_t step_elems, step_blocks, block_bytes;
};

/* Four rows at a time, so that activations are loaded once for four weights and four sums hide the
 * latency of one. The rows of a model lie one behind the other: prefetching runs in that order, a
 * fixed distance ahead of the four streams, across the ends of rows. */
enum { MM512_AHEAD = 8192 };

MM_INLINE void mm512_walk_rows(const struct mm_dots *work, const struct mm512_walk walk) {
    struct mm512_step step;
    walk.setup(&step);
    const uint32_t step_bytes = walk.step_blocks * walk.block_bytes;
    const uint32_t n_steps = work->k / walk.step_elems;
    const uint32_t tail = work->k % walk.step_elems * walk.step_blocks / walk.step_elems;
    for (uint32_t i = 0; i < work->n_rows; i += 4) {
        const uint32_t last = work->n_rows - 1 - i;
        const uint8_t *const w0 = work->w + i * work->row_bytes;
        const uint8_t *const w1 = w0 + (last < 1 ? last : 1) * work->row_bytes;
        const uint8_t *const w2 = w0 + (last < 2 ? last : 2) * work->row_bytes;
        const uint8_t *const w3 = w0 + (last < 3 ? last : 3) * work->row_bytes;
        const uint8_t *ahead = w0 + MM512_AHEAD;
        __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
        for (uint32_t j = 0; j < n_steps; j++) {
            const uint64_t at = (uint64_t)j * step_bytes;
            for (uint32_t p = 0; p < 4 * step_bytes; p += 64) {
                _mm_prefetch((const char *)ahead + p, _MM_HINT_T0);
            }
            ahead += (size_t)4 * step_bytes;
            walk.load(&step, &work->act, j * walk.step_elems);
            a = walk.row(a, w0 + at, &step, walk.step_blocks);
            b = walk.row(b, w1 + at, &step, walk.step_blocks);
            c = walk.row(c, w2 + at, &step, walk.step_blocks);
            d = walk.row(d, w3 + at, &step, walk.step_blocks);
        }
        if (tail > 0) {
            const uint64_t at = (uint64_t)n_steps * step_bytes;
            walk.load(&step, &work->act, n_steps * walk.step_elems);
            a = walk.row(a, w0 + at, &step, tail);
            b = walk.row(b, w1 + at, &step, tail);
            c = walk.row(c, w2 + at, &step, tail);
            d = walk.row(d, w3 + at, &step, tail);
        }
        const __m128 sums = mm512_sum4(a, b, c, d);
        _mm_mask_storeu_ps(work->y + i, (__mmask8)(last >= 3 ? 15 : (2u << last) - 1), sums);
    }
}

/* The first n (possibly none, possibly more than 64) bytes at p, zeros behind. */
MM_INLINE __m512i mm512_load_upto(const uint8_t *p, int n) {
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
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

/* Lanes 0..7 take the first of the two halfs at p, lanes 8..15 the second. */
MM_INLINE __m512 two_f16(const uint8_t *p, __m512i head) {
    const __m128 both = _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(p)));
    return _mm512_permutexvar_ps(head, _mm512_castps128_ps512(both));
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
    return _mm512_rolv_epi32(v, _mm512_mask_set1_epi32(_mm512_set1_epi32(lo & 31), 0xff00, hi & 31));
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

/* Eight scales times activation scales, then eight minima times activation sums. */
MM_INLINE __m512 scales_q4_k(const uint8_t *w, __m512 act) {
    const uint32_t a = load_u32(w + 4), b = load_u32(w + 8), c = load_u32(w + 12);
    const uint32_t d_hi = (c & 0x0f0f0f0f) | ((a >> 2) & 0x30303030);
    const uint32_t m_hi = ((c >> 4) & 0x0f0f0f0f) | ((b >> 2) & 0x30303030);
    const uint64_t d8 = (a & 0x3f3f3f3f) | (uint64_t)d_hi << 32;
    const uint64_t m8 = (b & 0x3f3f3f3f) | (uint64_t)m_hi << 32;
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_set_epi64x((int64_t)m8, (int64_t)d8));
    const __m512 dm = _mm512_mul_ps(two_f16(w, spread_of(0, 1, 3)), act);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(codes), dm);
}

/* Sixteen 6-bit scales: low nibbles in 8 bytes, two high bits each in 4 more. */
MM_INLINE __m512 scales_q3_k(const uint8_t *w, __m512 act) {
    const uint32_t a = load_u32(w + 96), b = load_u32(w + 100), c = load_u32(w + 104);
    const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030;
    const __m128i codes = _mm_set_epi32((int)(((b >> 4) & lo) | ((c >> 2) & hi)),
                                        (int)(((a >> 4) & lo) | (c & hi)),
                                        (int)((b & lo) | ((c << 2) & hi)),
                                        (int)((a & lo) | ((c << 4) & hi)));
    const __m512i d16 =
        _mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), _mm512_set1_epi32(32));
    const __m512 d = _mm512_mul_ps(broadcast_f16(w + 108), act);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(d16), d);
}

MM_INLINE __m512 scales_q2_k(const uint8_t *w, __m512 act) {
    const __m128i codes = _mm_and_si128(_mm_loadu_si128((const __m128i *)w), _mm_set1_epi8(15));
    const __m512 d = _mm512_mul_ps(broadcast_f16(w + 80), act);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes)), d);
}

MM_INLINE __m512 mins_q2_k(const uint8_t *w, __m512 act_sums) {
    const __m128i heads = _mm_loadu_si128((const __m128i *)w);
    const __m128i codes = _mm_and_si128(_mm_srli_epi16(heads, 4), _mm_set1_epi8(15));
    const __m512 m = _mm512_mul_ps(broadcast_f16(w + 82), act_sums);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes)), m);
}

MM_INLINE __m512 scales_q6_k(const uint8_t *w, __m512 act) {
    const __m512i codes = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(w + 192)));
    const __m512 d = _mm512_mul_ps(broadcast_f16(w + 208), act);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(codes), d);
}

/* Eight 6-bit scales: their low nibbles in 4 bytes, two high bits each in 2 more. */
MM_INLINE __m512 scales_iq4_xs(const uint8_t *w, __m512 act) {
    const uint64_t codes = _pdep_u64(load_u32(w + 4), 0x0f0f0f0f0f0f0f0f) |
                           _pdep_u64(load_u32(w) >> 16, 0x3030303030303030);
    const __m512i d8 = _mm512_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)codes));
    const __m512 d = _mm512_mul_ps(broadcast_f16(w), act);
    return _mm512_mul_ps(
        _mm512_cvtepi32_ps(_mm512_sub_epi32(d8, _mm512_set1_epi32(32))), d);
}

#endif
