/* The table of AVX2 matrix products (with FMA, F16C, BMI2), and the rounding of activations. */
#include "x86_avx2_matmul.h"

MM_INLINE int32_t sum_of(__m128i v) {
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}

/* Sum of sixteen int8. */
MM_INLINE int32_t sum_of_16(__m128i q) {
    const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), q);
    return sum_of(_mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

/* The largest magnitude of a block becomes 127. A block so small that the reciprocal overflows
 * becomes zero. */
static void quantise(const struct mm_quantise *work) {
    const uint32_t group = work->group;
    for (uint32_t at = 0; at < work->k_pad; at += MM_BLOCK) {
        __m256 x[4], most = _mm256_setzero_ps();
        for (uint32_t i = 0; i < 4; i++) {
            const __m256 sign = _mm256_set1_ps(-0.0f);
            x[i] = at < work->k ? _mm256_loadu_ps(work->x + at + 8 * i) : _mm256_setzero_ps();
            most = _mm256_max_ps(most, _mm256_andnot_ps(sign, x[i]));
        }
        __m128 top = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        top = _mm_max_ps(top, _mm_movehl_ps(top, top));
        const float max = _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
        const float inverse = max < MM_TINY ? 0.0f : 127.0f / max;
        const float d = max < MM_TINY ? 0.0f : max / 127.0f;
        __m256i q[4];
        for (uint32_t i = 0; i < 4; i++) {
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], _mm256_set1_ps(inverse)));
        }
        const __m256i words_a = _mm256_packs_epi32(q[0], q[1]);
        const __m256i words_b = _mm256_packs_epi32(q[2], q[3]);
        const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
        const __m256i bytes =
            _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words_a, words_b), order);
        _mm256_storeu_si256((__m256i *)(work->to.q + at), bytes);
        work->to.d[at / MM_BLOCK] = d;
        const int32_t a = sum_of_16(_mm256_castsi256_si128(bytes));
        const int32_t b = sum_of_16(_mm256_extracti128_si256(bytes, 1));
        const uint32_t i = at / group;
        work->to.s[i] = d * (float)(group == MM_BLOCK ? a + b : a);
        work->to.z[i] = -work->offset * (group == MM_BLOCK ? a + b : a);
        if (group != MM_BLOCK) {
            work->to.s[i + 1] = d * (float)b;
            work->to.z[i + 1] = -work->offset * b;
        }
    }
}

/* Where tiles overtake dots was measured with 2048 x 2048 weights on two threads (EPYC 9005,
 * 2026-11). */
#define FLOAT(name)                                                                                \
    {                                                                                              \
        .dots = cpu_dots_##name##_avx2, .unpack = cpu_unpack_##name##_avx2,                        \
        .tile = cpu_tile_float_avx2, .dots_max = 10, .rows = 16                                    \
    }
#define QUANTS(name, tile_name, group_elems, too_large)                                            \
    {                                                                                              \
        .dots = cpu_dots_##name##_avx2, .unpack = cpu_unpack_##name##_avx2,                        \
        .tile = cpu_tile_##tile_name##_avx2, .places = cpu_places_plain, .group = group_elems,     \
        .dots_max = 4, .rows = 32, .offset = too_large                                             \
    }

static const struct mm_isa isa = {
    .quantise = quantise,
    .formats =
        {
            [TL_F32] = FLOAT(f32),
            [TL_F16] = FLOAT(f16),
            [TL_BF16] = FLOAT(bf16),
            [TL_Q8_0] = QUANTS(q8_0, 32_signed, 32, 0),
            [TL_Q4_0] = QUANTS(q4_0, 32, 32, 8),
            [TL_Q4_1] = QUANTS(q4_1, 32_min, 32, 0),
            [TL_Q5_0] = QUANTS(q5_0, 32, 32, 16),
            [TL_Q5_1] = QUANTS(q5_1, 32_min, 32, 0),
            [TL_IQ4_NL] = QUANTS(iq4_nl, 32_signed, 32, 0),
            [TL_IQ4_XS] = QUANTS(iq4_xs, 32_signed, 32, 0),
            [TL_Q2_K] = QUANTS(q2_k, 16_min, 16, 0),
            [TL_Q3_K] = QUANTS(q3_k, 16, 16, 4),
            [TL_Q4_K] = QUANTS(q4_k, 32_min, 32, 0),
            [TL_Q5_K] = QUANTS(q5_k, 32_min, 32, 0),
            [TL_Q6_K] = QUANTS(q6_k, 16, 16, 32),
        },
};

bool cpu_matmul_avx2(struct cpu_dev *dev, const struct tl_matmul *op) {
    return op->w.dtype < TL_I32 && cpu_matmul_run(dev, op, &isa);
}
