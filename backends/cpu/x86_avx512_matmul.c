/* The table of AVX-512 matrix products (F, BW, VL, DQ, VNNI), and the rounding of activations. */
#include "x86_avx512_matmul.h"

enum { BLOCKS = 4 };

/* Lane i: the largest lane of vector i. */
MM_INLINE __m128 max4(const __m512 v[BLOCKS]) {
    const __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512 all = _mm512_max_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* Sums of the eight 16-byte units of two vectors of int8. */
MM_INLINE __m256i unit_sums(__m512i a, __m512i b) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
    const __m512i sa = _mm512_dpbusd_epi32(zero, one, a), sb = _mm512_dpbusd_epi32(zero, one, b);
    const __m512i pairs =
        _mm512_add_epi32(_mm512_unpacklo_epi32(sa, sb), _mm512_unpackhi_epi32(sa, sb));
    const __m512i sums = _mm512_add_epi32(pairs, _mm512_unpackhi_epi64(pairs, pairs));
    /* a's unit i is now in lane 4i, b's in lane 4i + 1. */
    const __m512i order = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 13, 9, 5, 1, 12, 8, 4, 0);
    return _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, sums));
}

/* Four blocks at a time. The largest magnitude of a block becomes 127. */
static void quantise(const struct mm_quantise *work) {
    for (uint32_t at = 0; at < work->k_pad; at += BLOCKS * MM_BLOCK) {
        __m512 x[2 * BLOCKS], most[BLOCKS];
        for (uint32_t i = 0; i < 8; i++) {
            _mm_prefetch((const char *)(work->x + at) + 64 * i + 2048, _MM_HINT_T0);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < BLOCKS; i++) {
            const __mmask16 mask = at + i * MM_BLOCK < work->k ? 0xffff : 0;
            x[2 * i] = _mm512_maskz_loadu_ps(mask, work->x + at + i * MM_BLOCK);
            x[2 * i + 1] = _mm512_maskz_loadu_ps(mask, work->x + at + i * MM_BLOCK + 16);
            most[i] = _mm512_max_ps(_mm512_abs_ps(x[2 * i]), _mm512_abs_ps(x[2 * i + 1]));
        }
        const __m128 max = max4(most), full = _mm_set1_ps(127.0f);
        const __mmask8 large = _mm_cmp_ps_mask(max, _mm_set1_ps(MM_TINY), _CMP_GE_OQ);
        const __m512 inverse = _mm512_castps128_ps512(_mm_maskz_div_ps(large, full, max));
        const __m128 d = _mm_maskz_div_ps(large, max, full);
        int8_t *const chunk = work->to.q + at / MM_CHUNK * MM_CHUNK;
        const uint8_t *const place = work->places + at % MM_CHUNK / 16;
        __m512i q[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 8
        for (int i = 0; i < 2 * BLOCKS; i++) {
            const __m512 by = _mm512_permutexvar_ps(_mm512_set1_epi32(i / 2), inverse);
            const __m128i unit = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x[i], by)));
            _mm_storeu_si128((__m128i *)(chunk + 16 * place[i]), unit);
            q[i / 4] = _mm512_mask_broadcast_i32x4(q[i / 4], (__mmask16)(15 << i % 4 * 4), unit);
        }
        _mm_storeu_ps(work->to.d + at / MM_BLOCK, d);
        const __m256i sums = unit_sums(q[0], q[1]);
        const __m256i offset = _mm256_set1_epi32(-work->offset);
        if (work->group == MM_BLOCK) {
            const __m256i pairs = _mm256_hadd_epi32(sums, sums);
            const __m128i four = _mm_unpacklo_epi64(_mm256_castsi256_si128(pairs),
                                                    _mm256_extracti128_si256(pairs, 1));
            _mm_storeu_ps(work->to.s + at / MM_BLOCK, _mm_mul_ps(_mm_cvtepi32_ps(four), d));
            _mm_storeu_si128((__m128i *)(work->to.z + at / MM_BLOCK),
                             _mm_mullo_epi32(four, _mm256_castsi256_si128(offset)));
        } else {
            const __m256 d8 = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(d),
                                                       _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0));
            _mm256_storeu_ps(work->to.s + at / 16, _mm256_mul_ps(_mm256_cvtepi32_ps(sums), d8));
            _mm256_storeu_si256((__m256i *)(work->to.z + at / 16),
                                _mm256_mullo_epi32(sums, offset));
        }
    }
}

/* Where tiles overtake dots was measured with models of 135M and 1B on two threads (EPYC 9005,
 * 2026-11-23): floats behind 48 rows (F16 of 1B, 32: 143 rows/s by dots, 115 by tiles; 64: 156 and
 * 163), blocks of 32 near 16 (Q8_0, 16: 990 and 850; 24: 1390 and 1720), those of 256 behind 8
 * (Q6_K, 8: 157 and 141; 16: 176 and 220). */
#define FLOAT(name)                                                                                \
    {                                                                                              \
        .dots = cpu_dots_##name##_avx512, .unpack = cpu_unpack_##name##_avx512,                    \
        .tile = cpu_tile_float_avx512, .dots_max = 48, .rows = 64                                  \
    }
#define QUANTS(name, tile_name, order, group_elems, too_large, most)                               \
    {                                                                                              \
        .dots = cpu_dots_##name##_avx512, .unpack = cpu_unpack_##name##_avx512,                    \
        .tile = cpu_tile_##tile_name##_avx512, .places = cpu_places_##order, .group = group_elems, \
        .dots_max = most, .rows = 32, .offset = too_large                                          \
    }

static const struct mm_isa isa = {
    .quantise = quantise,
    .formats =
        {
            [TL_F32] = FLOAT(f32),
            [TL_F16] = FLOAT(f16),
            [TL_BF16] = FLOAT(bf16),
            [TL_Q8_0] = QUANTS(q8_0, 32, plain, 32, 128, 16),
            [TL_Q4_0] = QUANTS(q4_0, 32, nibbles, 32, 8, 16),
            [TL_Q4_1] = QUANTS(q4_1, 32_min, nibbles, 32, 0, 16),
            [TL_Q5_0] = QUANTS(q5_0, 32, nibbles, 32, 16, 16),
            [TL_Q5_1] = QUANTS(q5_1, 32_min, nibbles, 32, 0, 16),
            [TL_IQ4_NL] = QUANTS(iq4_nl, 32, nibbles, 32, MM_IQ4_OFFSET, 16),
            [TL_IQ4_XS] = QUANTS(iq4_xs, 32, nibbles, 32, MM_IQ4_OFFSET, 8),
            [TL_Q2_K] = QUANTS(q2_k, 16_min, q2_k, 16, 0, 8),
            [TL_Q3_K] = QUANTS(q3_k, 16, q2_k, 16, 4, 8),
            [TL_Q4_K] = QUANTS(q4_k, 32_min, q4_k, 32, 0, 8),
            [TL_Q5_K] = QUANTS(q5_k, 32_min, q4_k, 32, 0, 8),
            [TL_Q6_K] = QUANTS(q6_k, 16, plain, 16, 32, 8),
        },
};

bool cpu_matmul_avx512(struct cpu_dev *dev, const struct tl_matmul *op) {
    return op->w.dtype < TL_I32 && cpu_matmul_run(dev, op, &isa);
}
