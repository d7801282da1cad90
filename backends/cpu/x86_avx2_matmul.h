/* What the AVX2 matrix product files share: how each format's codes and scales come out of their
 * bytes. Codes are 32 bytes of one block in natural order, unsigned and too large by the format's
 * offset, or signed (Q8_0, IQ4_NL, IQ4_XS). The formats are drawn in dtype.c. */
#ifndef TL_X86_AVX2_MATMUL_H
#define TL_X86_AVX2_MATMUL_H

#include "matmul.h"

#if defined(__AVX2__) /* else nothing: the header must compile everywhere */

#include <immintrin.h>
#include <string.h>

#define MM_INLINE static inline __attribute__((always_inline))

/* How a block of a format is stored. `super` blocks hold 8 of 32. */
struct mm_layout {
    __m256i (*codes)(const uint8_t *w,
                     uint32_t i); /* of block i of a super-block, or of w itself */
    /* d[8 or 16] and, where there are minima, m[]: w = d * (code - offset) - m. NULL: 32 elements
     * with a half at the front, and a second, -m, behind it where `mins`. */
    void (*scales)(float *d, float *m, const uint8_t *w);
    uint32_t bytes, group;
    int8_t offset;
    bool is_signed, mins;
};

/* One row of the table for each quantised format, from its layout. */
#define MM_AVX2_FORMATS(X)                                                                         \
    X(q8_0)                                                                                        \
    X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(iq4_nl) X(iq4_xs) X(q2_k) X(q3_k) X(q4_k) X(q5_k) X(q6_k)

#define MM_AVX2_DECLARE(name)                                                                      \
    void cpu_dots_##name##_avx2(const struct mm_dots *work);                                       \
    void cpu_unpack_##name##_avx2(const struct mm_unpack *work);
MM_AVX2_FORMATS(MM_AVX2_DECLARE)

/* x86_avx2_matmul_tile.c: named after the group of a scale and whether codes are signed. */
void cpu_tile_32_avx2(const struct mm_tile *work);
void cpu_tile_32_min_avx2(const struct mm_tile *work);
void cpu_tile_32_signed_avx2(const struct mm_tile *work);
void cpu_tile_16_avx2(const struct mm_tile *work);
void cpu_tile_16_min_avx2(const struct mm_tile *work);
/* x86_avx2_matmul_float.c */
void cpu_dots_f32_avx2(const struct mm_dots *work);
void cpu_dots_f16_avx2(const struct mm_dots *work);
void cpu_dots_bf16_avx2(const struct mm_dots *work);
void cpu_unpack_f32_avx2(const struct mm_unpack *work);
void cpu_unpack_f16_avx2(const struct mm_unpack *work);
void cpu_unpack_bf16_avx2(const struct mm_unpack *work);
void cpu_tile_float_avx2(const struct mm_tile *work);

MM_INLINE uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

MM_INLINE float load_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

MM_INLINE __m256i load_32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

MM_INLINE __m256i low_nibbles(__m256i q) { return _mm256_and_si256(q, _mm256_set1_epi8(15)); }

/* Element i and i + 16 share a byte. */
MM_INLINE __m256i nibbles(const uint8_t *p) {
    const __m128i q = _mm_loadu_si128((const __m128i *)p);
    return low_nibbles(_mm256_inserti128_si256(_mm256_castsi128_si256(q), _mm_srli_epi16(q, 4), 1));
}

/* Bit i of `bits` becomes 16 in byte i. */
MM_INLINE __m256i bits_to_16(uint32_t bits) {
    const __m256i spread =
        _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

MM_INLINE __m256i iq4_values(__m256i codes) {
    const __m128i table = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)cpu_iq4_values),
                                       _mm_set1_epi8(MM_IQ4_OFFSET));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

MM_INLINE __m256i codes_q8_0(const uint8_t *w, uint32_t i) {
    (void)i;
    return load_32(w + 2);
}

MM_INLINE __m256i codes_q4_0(const uint8_t *w, uint32_t i) {
    (void)i;
    return nibbles(w + 2);
}

MM_INLINE __m256i codes_q4_1(const uint8_t *w, uint32_t i) {
    (void)i;
    return nibbles(w + 4);
}

MM_INLINE __m256i codes_q5_0(const uint8_t *w, uint32_t i) {
    (void)i;
    return _mm256_or_si256(nibbles(w + 6), bits_to_16(load_u32(w + 2)));
}

MM_INLINE __m256i codes_q5_1(const uint8_t *w, uint32_t i) {
    (void)i;
    return _mm256_or_si256(nibbles(w + 8), bits_to_16(load_u32(w + 4)));
}

MM_INLINE __m256i codes_iq4_nl(const uint8_t *w, uint32_t i) {
    return iq4_values(codes_q4_0(w, i));
}

MM_INLINE __m256i codes_iq4_xs(const uint8_t *w, uint32_t i) {
    return iq4_values(nibbles(w + 8 + (size_t)i * 16));
}

MM_INLINE __m256i shifted_right(__m256i q, uint32_t n) {
    return _mm256_srl_epi16(q, _mm_cvtsi32_si128((int)n));
}

MM_INLINE __m256i codes_q4_k(const uint8_t *w, uint32_t i) {
    return low_nibbles(shifted_right(load_32(w + 16 + (size_t)(i / 2) * 32), i % 2 * 4));
}

MM_INLINE __m256i codes_q5_k(const uint8_t *w, uint32_t i) {
    const __m256i low =
        low_nibbles(shifted_right(load_32(w + 48 + (size_t)(i / 2) * 32), i % 2 * 4));
    const __m256i bit = _mm256_and_si256(shifted_right(load_32(w + 16), i), _mm256_set1_epi8(1));
    return _mm256_or_si256(low, _mm256_slli_epi16(bit, 4));
}

MM_INLINE __m256i codes_q6_k(const uint8_t *w, uint32_t i) {
    const size_t half = i / 4;
    const __m256i q = load_32(w + half * 64 + (size_t)(i % 2) * 32);
    const __m256i low = low_nibbles(shifted_right(q, i % 4 / 2 * 4));
    const __m256i bits = shifted_right(load_32(w + 128 + half * 32), i % 4 * 2);
    return _mm256_or_si256(low, _mm256_slli_epi16(_mm256_and_si256(bits, _mm256_set1_epi8(3)), 4));
}

MM_INLINE __m256i codes_q2_k(const uint8_t *w, uint32_t i) {
    const __m256i q = shifted_right(load_32(w + 16 + (size_t)(i / 4) * 32), i % 4 * 2);
    return _mm256_and_si256(q, _mm256_set1_epi8(3));
}

MM_INLINE __m256i codes_q3_k(const uint8_t *w, uint32_t i) {
    const __m256i bit = _mm256_and_si256(shifted_right(load_32(w), i), _mm256_set1_epi8(1));
    return _mm256_or_si256(codes_q2_k(w + 16, i), _mm256_slli_epi16(bit, 2));
}

MM_INLINE void store_scaled(float *to, __m256i codes, float d) {
    _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(d)));
}

MM_INLINE void scales_q4_k(float *d, float *m, const uint8_t *w) {
    const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030, all = 0x3f3f3f3f;
    const uint32_t a = load_u32(w + 4), b = load_u32(w + 8), c = load_u32(w + 12);
    const __m128i codes = _mm_set_epi32((int)(((c >> 4) & lo) | ((b >> 2) & hi)), (int)(b & all),
                                        (int)((c & lo) | ((a >> 2) & hi)), (int)(a & all));
    store_scaled(d, _mm256_cvtepu8_epi32(codes), load_f16(w));
    store_scaled(m, _mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)), load_f16(w + 2));
}

MM_INLINE void store_16_scaled(float *to, __m128i codes, float d) {
    store_scaled(to, _mm256_cvtepi8_epi32(codes), d);
    store_scaled(to + 8, _mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8)), d);
}

MM_INLINE void scales_q6_k(float *d, float *m, const uint8_t *w) {
    (void)m;
    store_16_scaled(d, _mm_loadu_si128((const __m128i *)(w + 192)), load_f16(w + 208));
}

MM_INLINE void scales_q2_k(float *d, float *m, const uint8_t *w) {
    const __m128i heads = _mm_loadu_si128((const __m128i *)w), mask = _mm_set1_epi8(15);
    store_16_scaled(d, _mm_and_si128(heads, mask), load_f16(w + 80));
    store_16_scaled(m, _mm_and_si128(_mm_srli_epi16(heads, 4), mask), load_f16(w + 82));
}

MM_INLINE void scales_q3_k(float *d, float *m, const uint8_t *w) {
    (void)m;
    const uint32_t lo = 0x0f0f0f0f, hi = 0x30303030;
    const uint32_t a = load_u32(w + 96), b = load_u32(w + 100), c = load_u32(w + 104);
    const __m128i codes =
        _mm_set_epi32((int)(((b >> 4) & lo) | ((c >> 2) & hi)), (int)(((a >> 4) & lo) | (c & hi)),
                      (int)((b & lo) | ((c << 2) & hi)), (int)((a & lo) | ((c << 4) & hi)));
    store_16_scaled(d, _mm_sub_epi8(codes, _mm_set1_epi8(32)), load_f16(w + 108));
}

MM_INLINE void scales_iq4_xs(float *d, float *m, const uint8_t *w) {
    (void)m;
    const uint64_t codes = _pdep_u64(load_u32(w + 4), 0x0f0f0f0f0f0f0f0f) |
                           _pdep_u64(load_u32(w) >> 16, 0x3030303030303030);
    const __m256i d8 = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)codes));
    store_scaled(d, _mm256_sub_epi32(d8, _mm256_set1_epi32(32)), load_f16(w));
}

/* clang-format off */
MM_INLINE struct mm_layout layout_q8_0(void) { return (struct mm_layout){codes_q8_0, NULL, 34, 32, 0, true, false}; }
MM_INLINE struct mm_layout layout_q4_0(void) { return (struct mm_layout){codes_q4_0, NULL, 18, 32, 8, false, false}; }
MM_INLINE struct mm_layout layout_q4_1(void) { return (struct mm_layout){codes_q4_1, NULL, 20, 32, 0, false, true}; }
MM_INLINE struct mm_layout layout_q5_0(void) { return (struct mm_layout){codes_q5_0, NULL, 22, 32, 16, false, false}; }
MM_INLINE struct mm_layout layout_q5_1(void) { return (struct mm_layout){codes_q5_1, NULL, 24, 32, 0, false, true}; }
MM_INLINE struct mm_layout layout_iq4_nl(void) { return (struct mm_layout){codes_iq4_nl, NULL, 18, 32, 0, true, false}; }
MM_INLINE struct mm_layout layout_iq4_xs(void) { return (struct mm_layout){codes_iq4_xs, scales_iq4_xs, 136, 32, 0, true, false}; }
MM_INLINE struct mm_layout layout_q2_k(void) { return (struct mm_layout){codes_q2_k, scales_q2_k, 84, 16, 0, false, true}; }
MM_INLINE struct mm_layout layout_q3_k(void) { return (struct mm_layout){codes_q3_k, scales_q3_k, 110, 16, 4, false, false}; }
MM_INLINE struct mm_layout layout_q4_k(void) { return (struct mm_layout){codes_q4_k, scales_q4_k, 144, 32, 0, false, true}; }
MM_INLINE struct mm_layout layout_q5_k(void) { return (struct mm_layout){codes_q5_k, scales_q4_k, 176, 32, 0, false, true}; }
MM_INLINE struct mm_layout layout_q6_k(void) { return (struct mm_layout){codes_q6_k, scales_q6_k, 210, 16, 32, false, false}; }
/* clang-format on */

#endif
#endif
