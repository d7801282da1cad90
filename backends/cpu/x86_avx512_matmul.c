/* The table of AVX-512 matrix products (F, BW, VL, DQ, VNNI), and the rounding of activations. */
#include "x86_avx512_matmul.h"

/* The largest magnitude of a block becomes 127. */
static void quantise(const struct mm_quantise *work) {
    const uint32_t group = work->group;
    for (uint32_t at = 0; at < work->k_pad; at += MM_BLOCK) {
        const __mmask16 mask = at < work->k ? 0xffff : 0;
        const __m512 a = _mm512_maskz_loadu_ps(mask, work->x + at);
        const __m512 b = _mm512_maskz_loadu_ps(mask, work->x + at + 16);
        const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        const bool tiny = most < MM_TINY;
        const __m512 inverse = _mm512_set1_ps(tiny ? 0.0f : 127.0f / most);
        const float d = tiny ? 0.0f : most / 127.0f;
        const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        int8_t *const chunk = work->to.q + at / MM_CHUNK * MM_CHUNK;
        const uint8_t *const place = work->places + at % MM_CHUNK / 16;
        _mm_storeu_si128((__m128i *)(chunk + 16 * place[0]), _mm512_cvtepi32_epi8(qa));
        _mm_storeu_si128((__m128i *)(chunk + 16 * place[1]), _mm512_cvtepi32_epi8(qb));
        work->to.d[at / MM_BLOCK] = d;
        const int32_t sum_a = _mm512_reduce_add_epi32(qa), sum_b = _mm512_reduce_add_epi32(qb);
        if (group == MM_BLOCK) {
            work->to.s[at / group] = d * (float)(sum_a + sum_b);
            work->to.z[at / group] = -work->offset * (sum_a + sum_b);
        } else {
            work->to.s[at / group] = d * (float)sum_a;
            work->to.s[at / group + 1] = d * (float)sum_b;
            work->to.z[at / group] = -work->offset * sum_a;
            work->to.z[at / group + 1] = -work->offset * sum_b;
        }
    }
}

#define FORMAT(name, ...)                                                                          \
    { cpu_dots_##name##_avx512, cpu_unpack_##name##_avx512, __VA_ARGS__ }

static const struct mm_isa isa = {
    .quantise = quantise,
    .dots_max = 4,
    .formats =
        {
            [TL_F32] = {cpu_dots_f32_avx512, cpu_unpack_f32_avx512, cpu_tile_float_avx512, NULL, 0,
                        64, 0},
            [TL_F16] = {cpu_dots_f16_avx512, cpu_unpack_f16_avx512, cpu_tile_float_avx512, NULL, 0,
                        64, 0},
            [TL_BF16] = {cpu_dots_bf16_avx512, cpu_unpack_bf16_avx512, cpu_tile_float_avx512, NULL,
                         0, 64, 0},
            [TL_Q8_0] = FORMAT(q8_0, cpu_tile_32_avx512, cpu_places_plain, 32, 32, 128),
            [TL_Q4_0] = FORMAT(q4_0, cpu_tile_32_avx512, cpu_places_nibbles, 32, 32, 8),
            [TL_Q4_1] = FORMAT(q4_1, cpu_tile_32_min_avx512, cpu_places_nibbles, 32, 32, 0),
            [TL_Q5_0] = FORMAT(q5_0, cpu_tile_32_avx512, cpu_places_nibbles, 32, 32, 16),
            [TL_Q5_1] = FORMAT(q5_1, cpu_tile_32_min_avx512, cpu_places_nibbles, 32, 32, 0),
            [TL_IQ4_NL] =
                FORMAT(iq4_nl, cpu_tile_32_avx512, cpu_places_nibbles, 32, 32, MM_IQ4_OFFSET),
            [TL_IQ4_XS] =
                FORMAT(iq4_xs, cpu_tile_32_avx512, cpu_places_nibbles, 32, 32, MM_IQ4_OFFSET),
            [TL_Q2_K] = FORMAT(q2_k, cpu_tile_16_min_avx512, cpu_places_q2_k, 16, 32, 0),
            [TL_Q3_K] = FORMAT(q3_k, cpu_tile_16_avx512, cpu_places_q2_k, 16, 32, 4),
            [TL_Q4_K] = FORMAT(q4_k, cpu_tile_32_min_avx512, cpu_places_q4_k, 32, 32, 0),
            [TL_Q5_K] = FORMAT(q5_k, cpu_tile_32_min_avx512, cpu_places_q4_k, 32, 32, 0),
            [TL_Q6_K] = FORMAT(q6_k, cpu_tile_16_avx512, cpu_places_plain, 16, 32, 32),
        },
};

bool cpu_matmul_avx512(struct cpu_dev *dev, const struct tl_matmul *op) {
    return op->w.dtype < TL_I32 && cpu_matmul_run(dev, op, &isa);
}
