/* Matrix products with F32, F16 and BF16 weights, AVX-512: every product and sum in f32 by FMA.
 *
 * BF16 through VDPBF16PS was left out: it would round the activations to 8 bits of mantissa, and
 * splitting them in two parts to keep 16 costs the factor of two that it gains. */
#include "x86_avx512_matmul.h"

enum { STEP = 32, LANES = 16, VECTORS = 4 };

MM_INLINE void setup_none(struct mm_step *step) { (void)step; }

MM_INLINE void load_x(struct mm_step *step, const struct mm_act *act, uint32_t at) {
    step->d = _mm512_loadu_ps(act->x + at);
    step->d2 = _mm512_loadu_ps(act->x + at + LANES);
}

MM_INLINE __m512 from_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

MM_INLINE __m512 row_f32(__m512 sum, const uint8_t *w, const struct mm_step *step, uint32_t n) {
    const int n_bytes = 4 * (int)n;
    const __m512i a = mm_load_upto(w, n_bytes), b = mm_load_upto(w + 64, n_bytes - 64);
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(a), step->d, sum);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(b), step->d2, sum);
}

MM_INLINE __m512 row_f16(__m512 sum, const uint8_t *w, const struct mm_step *step, uint32_t n) {
    __m256i a, b;
    if (n == STEP) {
        a = _mm256_loadu_si256((const __m256i *)w);
        b = _mm256_loadu_si256((const __m256i *)(w + 32));
    } else {
        const __m512i both = mm_load_upto(w, 2 * (int)n);
        a = _mm512_castsi512_si256(both);
        b = _mm512_extracti64x4_epi64(both, 1);
    }
    sum = _mm512_fmadd_ps(_mm512_cvtph_ps(a), step->d, sum);
    return _mm512_fmadd_ps(_mm512_cvtph_ps(b), step->d2, sum);
}

MM_INLINE __m512 row_bf16(__m512 sum, const uint8_t *w, const struct mm_step *step, uint32_t n) {
    __m256i a, b;
    if (n == STEP) {
        a = _mm256_loadu_si256((const __m256i *)w);
        b = _mm256_loadu_si256((const __m256i *)(w + 32));
    } else {
        const __m512i both = mm_load_upto(w, 2 * (int)n);
        a = _mm512_castsi512_si256(both);
        b = _mm512_extracti64x4_epi64(both, 1);
    }
    sum = _mm512_fmadd_ps(from_bf16(a), step->d, sum);
    return _mm512_fmadd_ps(from_bf16(b), step->d2, sum);
}

MM_INLINE void rows_f32(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                        uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_f32(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_f32_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_none, load_x, rows_f32, STEP, STEP, 4});
}

MM_INLINE void rows_f16(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                        uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_f16(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_f16_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_none, load_x, rows_f16, STEP, STEP, 2});
}

MM_INLINE void rows_bf16(__m512 sum[4], const uint8_t *const w[4], const struct mm_step *step,
                         uint32_t n_blocks) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        sum[r] = row_bf16(sum[r], w[r], step, n_blocks);
    }
}

void cpu_dots_bf16_avx512(const struct mm_dots *work) {
    mm_walk_rows(work, (struct mm_walk){setup_none, load_x, rows_bf16, STEP, STEP, 2});
}

/* Up to 16 elements of a row. */
typedef __m512 load16(const uint8_t *w, uint32_t n);

MM_INLINE __m512 load16_f32(const uint8_t *w, uint32_t n) {
    return _mm512_castsi512_ps(mm_load_upto(w, 4 * (int)n));
}

MM_INLINE __m512 load16_f16(const uint8_t *w, uint32_t n) {
    return _mm512_cvtph_ps(_mm512_castsi512_si256(mm_load_upto(w, n < LANES ? 2 * (int)n : 32)));
}

MM_INLINE __m512 load16_bf16(const uint8_t *w, uint32_t n) {
    return from_bf16(_mm512_castsi512_si256(mm_load_upto(w, n < LANES ? 2 * (int)n : 32)));
}

MM_INLINE void unpack(const struct mm_unpack *work, load16 *load, uint32_t elem_bytes) {
    const uint32_t rows = VECTORS * LANES;
    for (uint32_t first = 0; first < rows; first += LANES) {
        for (uint32_t col = 0; col < work->n_cols; col += LANES) {
            const uint32_t n = work->n_cols - col < LANES ? work->n_cols - col : LANES;
            __m512 v[LANES];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < LANES; i++) {
                const uint32_t row = first + i < work->n_rows ? first + i : work->n_rows - 1;
                const uint8_t *const w =
                    work->w + row * work->row_bytes + (uint64_t)col * elem_bytes;
                v[i] = load(w, n);
            }
            mm_transpose16(v);
            for (uint32_t i = 0; i < n; i++) {
                _mm512_storeu_ps(work->to.w + (uint64_t)(col + i) * rows + first, v[i]);
            }
        }
    }
}

void cpu_unpack_f32_avx512(const struct mm_unpack *work) { unpack(work, load16_f32, 4); }
void cpu_unpack_f16_avx512(const struct mm_unpack *work) { unpack(work, load16_f16, 2); }
void cpu_unpack_bf16_avx512(const struct mm_unpack *work) { unpack(work, load16_bf16, 2); }

/* 64 weight rows by 6 activation rows: 24 accumulators, 10 loads for 24 FMAs. */
void cpu_tile_float_avx512(const struct mm_tile *work) {
    __m512 sum[MM_TOKENS * VECTORS];
#pragma GCC unroll 24
    for (int i = 0; i < MM_TOKENS * VECTORS; i++) {
        sum[i] = _mm512_setzero_ps();
    }
    const float *w = work->w.w, *x = work->act.x;
    for (uint32_t j = 0; j < work->k; j++) {
        __m512 v[VECTORS];
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) {
            v[i] = _mm512_loadu_ps(w + LANES * i);
        }
#pragma GCC unroll 6
        for (int t = 0; t < MM_TOKENS; t++) {
            const __m512 b = _mm512_set1_ps(x[t]);
#pragma GCC unroll 4
            for (int i = 0; i < VECTORS; i++) {
                sum[VECTORS * t + i] = _mm512_fmadd_ps(v[i], b, sum[VECTORS * t + i]);
            }
        }
        /* The hardware alone lets long rows wait: 2048 x 8192 by 512, 310 to 400 GFLOP/s with it.
         */
        _mm_prefetch((const char *)(x + 1024), _MM_HINT_T0);
        w += VECTORS * LANES;
        x += MM_TOKENS;
    }
#pragma GCC unroll 24
    for (int i = 0; i < MM_TOKENS * VECTORS; i++) {
        _mm512_storeu_ps(work->y + LANES * i, sum[i]);
    }
}
