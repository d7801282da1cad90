/* One vector of floats under one set of names, so that the templates (x86_*.inc) are written once
 * and compiled twice: 16 lanes where the file is compiled for AVX-512, 8 where for AVX2. Everything
 * is static inline; loads and stores need no alignment. `_n` versions touch the first n lanes only
 * (0 <= n <= VEC_N) and load zeros into the rest. */
#ifndef TL_X86_VEC_H
#define TL_X86_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) /* else nothing: the header must compile everywhere */

#include <immintrin.h>

#define VEC_INLINE static inline __attribute__((always_inline))
/* Loops over registers must be unrolled, or the arrays they index live in memory. */
#if defined(__clang__) /* which passes over GCC's */
#define VEC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VEC_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__)

enum { VEC_N = 16 };
typedef __m512 vec;
typedef __m512i veci;

VEC_INLINE __mmask16 vec_first(uint32_t n) { return (__mmask16)((1u << n) - 1); }
VEC_INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }
VEC_INLINE vec vec_all(float x) { return _mm512_set1_ps(x); }
VEC_INLINE vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE vec vec_load_n(const float *p, uint32_t n) {
    return _mm512_maskz_loadu_ps(vec_first(n), p);
}
VEC_INLINE void vec_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
VEC_INLINE void vec_store_n(float *p, vec x, uint32_t n) {
    _mm512_mask_storeu_ps(p, vec_first(n), x);
}
VEC_INLINE vec vec_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
VEC_INLINE vec vec_load_f16_n(const uint16_t *p, uint32_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vec_first(n), p));
}
VEC_INLINE void vec_store_f16(uint16_t *p, vec x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
VEC_INLINE void vec_store_f16_n(uint16_t *p, vec x, uint32_t n) {
    _mm256_mask_storeu_epi16(p, vec_first(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
VEC_INLINE vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
VEC_INLINE vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
/* b where either is NaN. */
VEC_INLINE vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
VEC_INLINE vec vec_round(vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
/* Neighbours change places: 1 0 3 2 ... */
VEC_INLINE vec vec_swap(vec x) { return _mm512_permute_ps(x, 0xB1); }
VEC_INLINE float vec_sum(vec x) { return _mm512_reduce_add_ps(x); }
VEC_INLINE float vec_most(vec x) { return _mm512_reduce_max_ps(x); }
/* x * 2^n, n whole. */
VEC_INLINE vec vec_scale(vec x, vec n) { return _mm512_scalef_ps(x, n); }
VEC_INLINE veci veci_all(int32_t x) { return _mm512_set1_epi32(x); }
VEC_INLINE veci veci_load(const int32_t *p) { return _mm512_loadu_si512(p); }
/* 0 1 2 ... */
VEC_INLINE veci veci_count(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
VEC_INLINE veci veci_add(veci a, veci b) { return _mm512_add_epi32(a, b); }
/* x where first <= t < end, else `other`. */
VEC_INLINE vec vec_within(vec x, veci t, veci first, veci end, vec other) {
    const __mmask16 in = _mm512_cmplt_epi32_mask(t, end) & _mm512_cmple_epi32_mask(first, t);
    return _mm512_mask_blend_ps(in, other, x);
}
/* The four sums, in order. */
VEC_INLINE __m128 vec_sum4(vec a, vec b, vec c, vec d) {
    const vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const vec sums = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* Angles a = pos * freq as x + quarter * pi / 2 with |x| <= pi / 4, in double up to the result:
 * at position 2^20 a float product would be off by 0.06. `quarter` is 0 .. 3. */
VEC_INLINE __m512d vec_turns(__m512d a, __m512d *rest) {
    const __m512d n = _mm512_roundscale_pd(_mm512_mul_pd(a, _mm512_set1_pd(0x1.45f306dc9c883p-1)),
                                           _MM_FROUND_TO_NEAREST_INT);
    const __m512d r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.921fb54442d18p+0), a);
    *rest = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.1a62633145c07p-54), r);
    const __m512d fours =
        _mm512_roundscale_pd(_mm512_mul_pd(n, _mm512_set1_pd(0.25)), _MM_FROUND_TO_NEG_INF);
    return _mm512_fnmadd_pd(fours, _mm512_set1_pd(4.0), n);
}
VEC_INLINE vec vec_angle(double pos, vec freq, vec *quarter) {
    const __m512d p = _mm512_set1_pd(pos);
    __m512d rest_lo, rest_hi;
    const __m512d lo =
        vec_turns(_mm512_mul_pd(p, _mm512_cvtps_pd(_mm512_castps512_ps256(freq))), &rest_lo);
    const __m512d hi =
        vec_turns(_mm512_mul_pd(p, _mm512_cvtps_pd(_mm512_extractf32x8_ps(freq, 1))), &rest_hi);
    *quarter =
        _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(lo)), _mm512_cvtpd_ps(hi), 1);
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(rest_lo)),
                              _mm512_cvtpd_ps(rest_hi), 1);
}
/* sin and cos of the whole angle from those of its rest. */
VEC_INLINE void vec_turn(vec quarter, vec *sin_x, vec *cos_x) {
    const veci q = _mm512_cvtps_epi32(quarter);
    const __mmask16 odd = _mm512_test_epi32_mask(q, veci_all(1));
    const vec s = _mm512_mask_blend_ps(odd, *sin_x, *cos_x);
    const vec c = _mm512_mask_blend_ps(odd, *cos_x, *sin_x);
    const __mmask16 s_neg = _mm512_test_epi32_mask(q, veci_all(2));
    const __mmask16 c_neg = _mm512_test_epi32_mask(veci_add(q, veci_all(1)), veci_all(2));
    *sin_x = _mm512_mask_sub_ps(s, s_neg, vec_zero(), s);
    *cos_x = _mm512_mask_sub_ps(c, c_neg, vec_zero(), c);
}
/* a0 a0 a1 a1 ...: the low and the high half of the lanes, each lane twice. */
VEC_INLINE void vec_twice(vec a, vec *lo, vec *hi) {
    const veci first = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    *lo = _mm512_permutexvar_ps(first, a);
    *hi = _mm512_permutexvar_ps(veci_add(first, veci_all(8)), a);
}

#else

enum { VEC_N = 8 };
typedef __m256 vec;
typedef __m256i veci;

VEC_INLINE veci veci_all(int32_t x) { return _mm256_set1_epi32(x); }
VEC_INLINE veci veci_load(const int32_t *p) { return _mm256_loadu_si256((const veci *)p); }
VEC_INLINE veci veci_count(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
VEC_INLINE veci veci_add(veci a, veci b) { return _mm256_add_epi32(a, b); }
VEC_INLINE veci vec_first(uint32_t n) {
    return _mm256_cmpgt_epi32(veci_all((int32_t)n), veci_count());
}
VEC_INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }
VEC_INLINE vec vec_all(float x) { return _mm256_set1_ps(x); }
VEC_INLINE vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE vec vec_load_n(const float *p, uint32_t n) {
    return _mm256_maskload_ps(p, vec_first(n));
}
VEC_INLINE void vec_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
VEC_INLINE void vec_store_n(float *p, vec x, uint32_t n) {
    _mm256_maskstore_ps(p, vec_first(n), x);
}
VEC_INLINE vec vec_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
VEC_INLINE vec vec_load_f16_n(const uint16_t *p, uint32_t n) {
    uint16_t lanes[8] = {0};
    memcpy(lanes, p, n * sizeof *p);
    return vec_load_f16(lanes);
}
VEC_INLINE void vec_store_f16(uint16_t *p, vec x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
VEC_INLINE void vec_store_f16_n(uint16_t *p, vec x, uint32_t n) {
    uint16_t lanes[8];
    vec_store_f16(lanes, x);
    memcpy(p, lanes, n * sizeof *p);
}
VEC_INLINE vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
VEC_INLINE vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
VEC_INLINE vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
VEC_INLINE vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
VEC_INLINE vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
VEC_INLINE vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
VEC_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
VEC_INLINE vec vec_round(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
VEC_INLINE vec vec_swap(vec x) { return _mm256_permute_ps(x, 0xB1); }
VEC_INLINE float vec_sum(vec x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VEC_INLINE float vec_most(vec x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* In two steps, so that results below the normal range come out right. */
VEC_INLINE vec vec_scale(vec x, vec n) {
    const veci whole = _mm256_cvtps_epi32(n), bias = veci_all(127);
    const veci half = _mm256_srai_epi32(whole, 1);
    const veci rest = _mm256_sub_epi32(whole, half);
    const vec a = _mm256_castsi256_ps(_mm256_slli_epi32(veci_add(half, bias), 23));
    const vec b = _mm256_castsi256_ps(_mm256_slli_epi32(veci_add(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}
VEC_INLINE vec vec_within(vec x, veci t, veci first, veci end, vec other) {
    const veci in = _mm256_andnot_si256(_mm256_cmpgt_epi32(first, t), _mm256_cmpgt_epi32(end, t));
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(in));
}
VEC_INLINE __m128 vec_sum4(vec a, vec b, vec c, vec d) {
    const vec ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const vec cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256d lo = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    const __m256d hi = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    const vec sums = _mm256_add_ps(_mm256_castpd_ps(lo), _mm256_castpd_ps(hi));
    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}
VEC_INLINE __m256d vec_turns(__m256d a, __m256d *rest) {
    const __m256d n = _mm256_round_pd(_mm256_mul_pd(a, _mm256_set1_pd(0x1.45f306dc9c883p-1)),
                                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256d r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.921fb54442d18p+0), a);
    *rest = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.1a62633145c07p-54), r);
    const __m256d fours = _mm256_round_pd(_mm256_mul_pd(n, _mm256_set1_pd(0.25)),
                                          _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return _mm256_fnmadd_pd(fours, _mm256_set1_pd(4.0), n);
}
VEC_INLINE vec vec_angle(double pos, vec freq, vec *quarter) {
    const __m256d p = _mm256_set1_pd(pos);
    __m256d rest_lo, rest_hi;
    const __m256d lo =
        vec_turns(_mm256_mul_pd(p, _mm256_cvtps_pd(_mm256_castps256_ps128(freq))), &rest_lo);
    const __m256d hi =
        vec_turns(_mm256_mul_pd(p, _mm256_cvtps_pd(_mm256_extractf128_ps(freq, 1))), &rest_hi);
    *quarter = _mm256_set_m128(_mm256_cvtpd_ps(hi), _mm256_cvtpd_ps(lo));
    return _mm256_set_m128(_mm256_cvtpd_ps(rest_hi), _mm256_cvtpd_ps(rest_lo));
}
VEC_INLINE void vec_turn(vec quarter, vec *sin_x, vec *cos_x) {
    const veci q = _mm256_cvtps_epi32(quarter);
    const vec odd = _mm256_castsi256_ps(_mm256_slli_epi32(q, 31));
    const vec s = _mm256_blendv_ps(*sin_x, *cos_x, odd);
    const vec c = _mm256_blendv_ps(*cos_x, *sin_x, odd);
    /* Bit 1 of the quarter (of the next one, for cos) is the sign. */
    const veci sign = veci_all(INT32_MIN);
    const veci s_neg = _mm256_and_si256(_mm256_slli_epi32(q, 30), sign);
    const veci c_neg = _mm256_and_si256(_mm256_slli_epi32(veci_add(q, veci_all(1)), 30), sign);
    *sin_x = _mm256_xor_ps(s, _mm256_castsi256_ps(s_neg));
    *cos_x = _mm256_xor_ps(c, _mm256_castsi256_ps(c_neg));
}
VEC_INLINE void vec_twice(vec a, vec *lo, vec *hi) {
    *lo = _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    *hi = _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
}

#endif

/* e^x as 2^n (1 + r + r^2 q(r)), |r| <= ln 2 / 2; q is a minimax polynomial for the relative error
 * of e^r, which it keeps at 3e-9. 0 below -110, infinity above 89, NaN stays. */
VEC_INLINE vec vec_exp_rest(vec r) {
    vec q = vec_all(0x1.6a2434p-10f);
    q = vec_fma(q, r, vec_all(0x1.1239e2p-7f));
    q = vec_fma(q, r, vec_all(0x1.5558f2p-5f));
    q = vec_fma(q, r, vec_all(0x1.555492p-3f));
    q = vec_fma(q, r, vec_all(0x1.fffffcp-2f));
    return vec_fma(vec_mul(q, r), r, r); /* e^r - 1 */
}
VEC_INLINE vec vec_exp(vec x) {
    x = vec_min(vec_all(89.0f), vec_max(vec_all(-110.0f), x));
    const vec n = vec_round(vec_mul(x, vec_all(0x1.715476p+0f)));
    vec r = vec_fnma(n, vec_all(0x1.62e400p-1f), x); /* ln 2 in two parts: 12 zero bits below */
    r = vec_fnma(n, vec_all(0x1.7f7d1cp-20f), r);
    return vec_scale(vec_add(vec_all(1.0f), vec_exp_rest(r)), n);
}

/* tanh by e^2x - 1, so that small arguments lose nothing. */
VEC_INLINE vec vec_tanh(vec x) {
    const vec y = vec_min(vec_all(20.0f), vec_max(vec_all(-20.0f), vec_add(x, x)));
    const vec n = vec_round(vec_mul(y, vec_all(0x1.715476p+0f)));
    vec r = vec_fnma(n, vec_all(0x1.62e400p-1f), y);
    r = vec_fnma(n, vec_all(0x1.7f7d1cp-20f), r);
    const vec two_n = vec_scale(vec_all(1.0f), n);
    const vec e = vec_fma(two_n, vec_exp_rest(r), vec_sub(two_n, vec_all(1.0f)));
    return vec_div(e, vec_add(e, vec_all(2.0f)));
}

/* sin and cos of |x| <= pi / 4: their series, cut where the next term is under 2^-28. */
VEC_INLINE void vec_sin_cos(vec x, vec *sin_x, vec *cos_x) {
    const vec z = vec_mul(x, x);
    vec s = vec_all(1.0f / 362880.0f);
    s = vec_fma(s, z, vec_all(-1.0f / 5040.0f));
    s = vec_fma(s, z, vec_all(1.0f / 120.0f));
    s = vec_fma(s, z, vec_all(-1.0f / 6.0f));
    *sin_x = vec_fma(vec_mul(s, z), x, x);
    vec c = vec_all(-1.0f / 3628800.0f);
    c = vec_fma(c, z, vec_all(1.0f / 40320.0f));
    c = vec_fma(c, z, vec_all(-1.0f / 720.0f));
    c = vec_fma(c, z, vec_all(1.0f / 24.0f));
    c = vec_fma(c, z, vec_all(-0.5f));
    *cos_x = vec_fma(c, z, vec_all(1.0f));
}

#endif
#endif
