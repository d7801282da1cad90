/* What compressed rows need beside x86_vec.h, likewise under one set of names for both widths:
 * integer lanes, codes as bytes, one-bit codes as a choice of lanes.
 *
 * A run of 64 codes is taken out of its bits into 64 bytes in the order that costs least: as they
 * are (8 bits), the even ones and then the odd ones (4 bits), every fourth from 0, 1, 2 and 3 on
 * (2 bits). Two runs are interleaved word by word, and the low and the high bytes of these words
 * are pairs to multiply and add; so 64 sums of pairs come in an order that code_place() tells. */
#ifndef TL_X86_CODE_H
#define TL_X86_CODE_H

#include "core/codec.h"
#include "x86_vec.h"

#if defined(__AVX2__)

enum {
    CODE_VECS = TL_BLOCK / (4 * VEC_N), /* registers of 64 bytes */
    WORD_VECS = TL_BLOCK / (2 * VEC_N), /* of 64 words */
    LANE_VECS = TL_BLOCK / VEC_N,       /* of 64 floats or sums */
};

/* The place of code i among the 64 sums. */
VEC_INLINE uint32_t code_place(tl_codec codec, uint32_t i) {
    const uint32_t byte = codec == TL_CODEC_INT4   ? i % 2 * 32 + i / 2
                          : codec == TL_CODEC_INT2 ? i % 4 * 16 + i / 4
                                                   : i;
    const uint32_t reg = byte / (4 * VEC_N), lane = byte % (4 * VEC_N) / 16, at = byte % 16;
    return ((reg * 2 + at / 8) * 2 + at % 2) * VEC_N + lane * 4 + at % 8 / 2;
}

#if defined(__AVX512F__)

typedef __mmask32 vec_where; /* which of 2 * VEC_N words */

VEC_INLINE veci veci_zero(void) { return _mm512_setzero_si512(); }
VEC_INLINE void veci_store(void *p, veci x) { _mm512_storeu_si512(p, x); }
VEC_INLINE veci veci_low_bytes(veci x) { return _mm512_and_si512(x, _mm512_set1_epi16(0xff)); }
VEC_INLINE veci veci_high_bytes(veci x) { return _mm512_srli_epi16(x, 8); }
VEC_INLINE veci veci_add_words(veci a, veci b) { return _mm512_add_epi16(a, b); }
VEC_INLINE veci veci_zip_lo(veci a, veci b) { return _mm512_unpacklo_epi16(a, b); }
VEC_INLINE veci veci_zip_hi(veci a, veci b) { return _mm512_unpackhi_epi16(a, b); }
/* sum + products of words, added in pairs. */
VEC_INLINE veci veci_dot(veci sum, veci a, veci b) { return _mm512_dpwssd_epi32(sum, a, b); }
VEC_INLINE vec vec_of(veci x) { return _mm512_cvtepi32_ps(x); }
VEC_INLINE veci vec_nearest(vec x) { return _mm512_cvtps_epi32(x); }
VEC_INLINE vec vec_abs(vec x) { return _mm512_abs_ps(x); }
/* The largest lane of each, in order. */
VEC_INLINE __m128 vec_most4(vec a, vec b, vec c, vec d) {
    const vec ab = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const vec cd = _mm512_max_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const vec most = _mm512_max_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    const __m256 half =
        _mm256_max_ps(_mm512_castps512_ps256(most), _mm512_extractf32x8_ps(most, 1));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
VEC_INLINE bool vec_any_above(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
VEC_INLINE uint32_t vec_count_from(vec x, vec bar) {
    return (uint32_t)__builtin_popcount(_mm512_cmp_ps_mask(x, bar, _CMP_GE_OQ));
}
/* Stores the lanes that reach the bar, and that lane `first + i` they were; whole vectors, perhaps.
 * Returns how many. */
VEC_INLINE uint32_t vec_keep_from(vec x, vec bar, int32_t first, float *dst, int32_t *at) {
    const __mmask16 keep = _mm512_cmp_ps_mask(x, bar, _CMP_GE_OQ);
    const veci lanes = veci_add(veci_all(first), veci_count());
    _mm512_storeu_ps(dst, _mm512_maskz_compress_ps(keep, x));
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi32(keep, lanes));
    return (uint32_t)__builtin_popcount(keep);
}
/* The low word of each lane, twice. */
VEC_INLINE veci veci_twice(veci x) {
    return _mm512_or_si512(_mm512_and_si512(x, veci_all(0xffff)), _mm512_slli_epi32(x, 16));
}
/* Lanes that fit into words, as words. */
VEC_INLINE void veci_store_words(int16_t *p, veci x) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(x));
}
/* The words as floats, of a whole number of registers at dst. */
VEC_INLINE void veci_words_signed(veci x, vec *lo, vec *hi) {
    *lo = vec_of(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(x)));
    *hi = vec_of(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1)));
}
VEC_INLINE void veci_words_unsigned(veci x, vec *lo, vec *hi) {
    *lo = vec_of(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(x)));
    *hi = vec_of(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(x, 1)));
}
/* 2 * VEC_N one-bit codes. */
VEC_INLINE vec_where where_load(const uint8_t *p) {
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _cvtu32_mask32(bits);
}
/* sum + x, in the words where. GCC 12 moves every such sum to another register and back unless told
 * that it stays (-O3: 25 ns for 4 heads of 64 rows and channels, so 13 ns). */
VEC_INLINE veci veci_add_where(veci sum, vec_where where, veci x) {
    __asm__("vpaddw %1, %0, %0%{%2%}" : "+v"(sum) : "v"(x), "Yk"(where));
    return sum;
}
/* n pairs of binary16, `step` pairs apart; n < VEC_N only where step is 1, zeros behind. */
VEC_INLINE void vec_load_pairs(const uint8_t *p, uint32_t step, uint32_t n, vec *first,
                               vec *second) {
    veci pairs;
    if (step == 1) {
        pairs = n == VEC_N ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(vec_first(n), p);
    } else if (step == 2) {
        const veci even = _mm512_slli_epi32(veci_count(), 1);
        pairs = _mm512_permutex2var_epi32(_mm512_loadu_si512(p), even, _mm512_loadu_si512(p + 64));
    } else {
        const veci at = _mm512_mullo_epi32(veci_count(), veci_all((int32_t)step));
        pairs = _mm512_i32gather_epi32(at, p, 4);
    }
    *first = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
    *second = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
}
/* 64 codes of 8, 4 or 2 bits as bytes, in the order told above. */
VEC_INLINE void codes_load(tl_codec codec, const uint8_t *p, veci bytes[CODE_VECS]) {
    if (codec == TL_CODEC_Q8) {
        bytes[0] = _mm512_loadu_si512(p);
    } else if (codec == TL_CODEC_INT4) {
        const veci codes =
            _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));
        const veci shifts = _mm512_inserti64x4(veci_zero(), _mm256_set1_epi16(4), 1);
        bytes[0] = _mm512_and_si512(_mm512_srlv_epi16(codes, shifts), _mm512_set1_epi8(15));
    } else {
        const veci codes =
            _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p));
        const veci shifts = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
        bytes[0] = _mm512_and_si512(_mm512_srlv_epi32(codes, shifts), _mm512_set1_epi8(3));
    }
}
/* dst[i] := sums[place[i]] for 64 floats. */
VEC_INLINE void vec_permute(const vec sums[LANE_VECS], const int32_t *place, vec dst[LANE_VECS]) {
    VEC_UNROLL
    for (uint32_t i = 0; i < LANE_VECS; i++) {
        const veci at = veci_load(place + i * VEC_N);
        const vec a = _mm512_permutex2var_ps(sums[0], at, sums[1]);
        const vec b = _mm512_permutex2var_ps(sums[2], at, sums[3]);
        dst[i] = _mm512_mask_blend_ps(_mm512_test_epi32_mask(at, veci_all(32)), a, b);
    }
}

#else

typedef veci vec_where;

VEC_INLINE veci veci_zero(void) { return _mm256_setzero_si256(); }
VEC_INLINE void veci_store(void *p, veci x) { _mm256_storeu_si256((veci *)p, x); }
VEC_INLINE veci veci_low_bytes(veci x) { return _mm256_and_si256(x, _mm256_set1_epi16(0xff)); }
VEC_INLINE veci veci_high_bytes(veci x) { return _mm256_srli_epi16(x, 8); }
VEC_INLINE veci veci_add_words(veci a, veci b) { return _mm256_add_epi16(a, b); }
VEC_INLINE veci veci_zip_lo(veci a, veci b) { return _mm256_unpacklo_epi16(a, b); }
VEC_INLINE veci veci_zip_hi(veci a, veci b) { return _mm256_unpackhi_epi16(a, b); }
VEC_INLINE veci veci_dot(veci sum, veci a, veci b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
VEC_INLINE vec vec_of(veci x) { return _mm256_cvtepi32_ps(x); }
VEC_INLINE veci vec_nearest(vec x) { return _mm256_cvtps_epi32(x); }
VEC_INLINE vec vec_abs(vec x) { return _mm256_andnot_ps(vec_all(-0.0f), x); }
VEC_INLINE __m128 vec_most4(vec a, vec b, vec c, vec d) {
    const vec ab = _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const vec cd = _mm256_max_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256d lo = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    const __m256d hi = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    const vec most = _mm256_max_ps(_mm256_castpd_ps(lo), _mm256_castpd_ps(hi));
    return _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
}
VEC_INLINE bool vec_any_above(vec a, vec b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}
VEC_INLINE uint32_t vec_count_from(vec x, vec bar) {
    const int reached = _mm256_movemask_ps(_mm256_cmp_ps(x, bar, _CMP_GE_OQ));
    return (uint32_t)__builtin_popcount((unsigned)reached);
}
VEC_INLINE uint32_t vec_keep_from(vec x, vec bar, int32_t first, float *dst, int32_t *at) {
    unsigned left = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x, bar, _CMP_GE_OQ));
    float lanes[VEC_N];
    vec_store(lanes, x);
    uint32_t n = 0;
    for (; left != 0; left &= left - 1) {
        const int32_t lane = __builtin_ctz(left);
        dst[n] = lanes[lane];
        at[n++] = first + lane;
    }
    return n;
}
VEC_INLINE veci veci_twice(veci x) {
    return _mm256_or_si256(_mm256_and_si256(x, veci_all(0xffff)), _mm256_slli_epi32(x, 16));
}
VEC_INLINE void veci_store_words(int16_t *p, veci x) {
    const veci words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x, x), 0x08);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(words));
}
VEC_INLINE void veci_words_signed(veci x, vec *lo, vec *hi) {
    *lo = vec_of(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(x)));
    *hi = vec_of(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1)));
}
VEC_INLINE void veci_words_unsigned(veci x, vec *lo, vec *hi) {
    *lo = vec_of(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)));
    *hi = vec_of(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1)));
}
VEC_INLINE vec_where where_load(const uint8_t *p) {
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    const veci bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                       8192, 16384, INT16_MIN);
    return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16((int16_t)bits), bit), bit);
}
VEC_INLINE veci veci_add_where(veci sum, vec_where where, veci x) {
    return _mm256_add_epi16(sum, _mm256_and_si256(where, x));
}
VEC_INLINE void vec_load_pairs(const uint8_t *p, uint32_t step, uint32_t n, vec *first,
                               vec *second) {
    (void)n; /* head sizes are whole multiples of VEC_N */
    veci pairs;
    if (step == 1) {
        pairs = _mm256_loadu_si256((const veci *)(const void *)p);
    } else {
        const veci at = _mm256_mullo_epi32(veci_count(), veci_all((int32_t)step));
        pairs = _mm256_i32gather_epi32((const int *)(const void *)p, at, 4);
    }
    const veci low = _mm256_and_si256(pairs, veci_all(0xffff));
    const veci halves = _mm256_packus_epi32(low, _mm256_srli_epi32(pairs, 16));
    const veci sorted = _mm256_permute4x64_epi64(halves, 0xd8);
    *first = _mm256_cvtph_ps(_mm256_castsi256_si128(sorted));
    *second = _mm256_cvtph_ps(_mm256_extracti128_si256(sorted, 1));
}
VEC_INLINE void codes_load(tl_codec codec, const uint8_t *p, veci bytes[CODE_VECS]) {
    const veci *const codes = (const veci *)(const void *)p;
    if (codec == TL_CODEC_Q8) {
        bytes[0] = _mm256_loadu_si256(codes);
        bytes[1] = _mm256_loadu_si256(codes + 1);
    } else if (codec == TL_CODEC_INT4) {
        const veci both = _mm256_loadu_si256(codes), low = _mm256_set1_epi8(15);
        bytes[0] = _mm256_and_si256(both, low);
        bytes[1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    } else {
        const veci all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)codes));
        const veci shifts = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2), low = _mm256_set1_epi8(3);
        bytes[0] = _mm256_and_si256(_mm256_srlv_epi32(all, shifts), low);
        bytes[1] = _mm256_and_si256(_mm256_srlv_epi32(all, veci_add(shifts, veci_all(4))), low);
    }
}
VEC_INLINE void vec_permute(const vec sums[LANE_VECS], const int32_t *place, vec dst[LANE_VECS]) {
    float from[TL_BLOCK], to[TL_BLOCK];
    VEC_UNROLL
    for (uint32_t i = 0; i < LANE_VECS; i++) {
        vec_store(from + i * VEC_N, sums[i]);
    }
    for (uint32_t i = 0; i < TL_BLOCK; i++) {
        to[i] = from[place[i]];
    }
    VEC_UNROLL
    for (uint32_t i = 0; i < LANE_VECS; i++) {
        dst[i] = vec_load(to + i * VEC_N);
    }
}

#endif
#endif
#endif
