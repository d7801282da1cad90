/* Matrix-vector products with quantised weights, AVX2. VPMADDUBSW multiplies unsigned codes with
 * signed activations and adds pairs with saturation: exact as long as codes stay below 64 (2 * 63 *
 * 127 < 2^15). Signed codes go in as their magnitudes, against activations that took their signs
 * (2 * 128 * 127 < 2^15). */
#include "x86_avx2_matmul.h"

enum { ROWS = 4, SUPER = 256, AHEAD = 4096 };

/* Sums of four products in each lane. */
MM_INLINE __m256i dot4(__m256i codes, __m256i x, bool is_signed) {
    const __m256i a = is_signed ? _mm256_abs_epi8(codes) : codes;
    const __m256i b = is_signed ? _mm256_sign_epi8(x, codes) : x;
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
}

/* Activations of one block. */
struct block_act {
    __m256i q, excess; /* excess: offset * sum of each lane's activations */
};

MM_INLINE struct block_act load_act(const struct mm_act *act, uint32_t at, int8_t offset) {
    const __m256i q = _mm256_loadu_si256((const __m256i *)(act->q + at));
    return (struct block_act){q, dot4(_mm256_set1_epi8(offset), q, false)};
}

MM_INLINE __m256 add_block(__m256 sum, __m256i codes, const struct block_act *x, __m256 scale,
                           const struct mm_layout *layout) {
    __m256i dot = dot4(codes, x->q, layout->is_signed);
    if (layout->offset != 0) {
        dot = _mm256_sub_epi32(dot, x->excess);
    }
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sum);
}

/* Adds `x` to one lane: lanes are summed in the end. */
MM_INLINE __m256 add_once(__m256 sum, float x) {
    return _mm256_add_ps(sum, _mm256_zextps128_ps256(_mm_set_ss(x)));
}

MM_INLINE void blocks_of_32(__m256 sum[ROWS], const uint8_t *const w[ROWS],
                            const struct mm_act *act, uint32_t at, const struct mm_layout *layout) {
    const struct block_act x = load_act(act, at, layout->offset);
    const float d = act->d[at / MM_BLOCK];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
        const __m256 scale = _mm256_set1_ps(load_f16(w[r]) * d);
        sum[r] = add_block(sum[r], layout->codes(w[r], 0), &x, scale, layout);
        if (layout->mins) {
            sum[r] = add_once(sum[r], load_f16(w[r] + 2) * act->s[at / MM_BLOCK]);
        }
    }
}

MM_INLINE __m256 block_of_256(__m256 sum, const uint8_t *w, const struct mm_act *act, uint32_t at,
                              const struct mm_layout *layout) {
    float d[16], m[16];
    layout->scales(d, m, w);
    if (layout->mins) {
        const float *const s = act->s + at / layout->group;
        sum = _mm256_fnmadd_ps(_mm256_loadu_ps(m), _mm256_loadu_ps(s), sum);
        if (layout->group == 16) {
            sum = _mm256_fnmadd_ps(_mm256_loadu_ps(m + 8), _mm256_loadu_ps(s + 8), sum);
        }
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < 8; i++) {
        const struct block_act x = load_act(act, at + 32 * i, layout->offset);
        const float by = act->d[at / MM_BLOCK + i];
        const __m256 scale = layout->group == 32 ? _mm256_set1_ps(d[i] * by)
                                                 : _mm256_set_m128(_mm_set1_ps(d[2 * i + 1] * by),
                                                                   _mm_set1_ps(d[2 * i] * by));
        sum = add_block(sum, layout->codes(w, i), &x, scale, layout);
    }
    return sum;
}

MM_INLINE float sum_of(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

MM_INLINE void dots_of(const struct mm_dots *work, const struct mm_act *act, float *y,
                       const struct mm_layout layout) {
    const uint32_t step = layout.scales != NULL ? SUPER : MM_BLOCK;
    for (uint32_t i = 0; i < work->n_rows; i += ROWS) {
        const uint32_t n = work->n_rows - i < ROWS ? work->n_rows - i : ROWS;
        const uint8_t *w[ROWS];
        __m256 sum[ROWS];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < ROWS; r++) {
            w[r] = work->w + (i + (r < n ? r : n - 1)) * work->row_bytes;
            sum[r] = _mm256_setzero_ps();
        }
        const uint64_t far = tl_max_u64(4 * work->row_bytes, AHEAD);
        uintptr_t ahead = (uintptr_t)w[0] + far;
        for (uint32_t at = 0; at < work->k; at += step) {
            for (uint32_t p = 0; p < ROWS * layout.bytes; p += 64) {
                _mm_prefetch((const char *)(ahead + p), _MM_HINT_T0);
            }
            ahead += (uintptr_t)ROWS * layout.bytes;
            if (layout.scales == NULL) {
                blocks_of_32(sum, w, act, at, &layout);
            } else {
#pragma GCC unroll 4
                for (int r = 0; r < ROWS; r++) {
                    sum[r] = block_of_256(sum[r], w[r], act, at, &layout);
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++) {
                w[r] += layout.bytes;
            }
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < ROWS; r++) {
            if (r < n) {
                y[i + r] = sum_of(sum[r]);
            }
        }
    }
}

MM_INLINE void dots(const struct mm_dots *work, const struct mm_layout layout) {
    for (uint32_t t = 0; t < work->n; t++) {
        dots_of(work, &work->act[t], work->y + (uint64_t)t * work->y_stride, layout);
    }
}

#define DOTS(name)                                                                                 \
    void cpu_dots_##name##_avx2(const struct mm_dots *work) { dots(work, layout_##name()); }
MM_AVX2_FORMATS(DOTS)
