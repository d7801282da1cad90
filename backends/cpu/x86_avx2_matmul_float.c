/* Matrix products with F32, F16 and BF16 weights, AVX2 with FMA and F16C: every product and sum in
 * f32. Panels have 16 weight rows: 16 x 6 sums fill twelve of the sixteen registers. */
#include "x86_avx2_matmul.h"

enum { LANES = 8, VECTORS = 2, ROWS = LANES * VECTORS, DOT_ROWS = 4, AHEAD = 4096 };

/* Eight elements of a row. */
typedef __m256 load8(const uint8_t *w);

MM_INLINE __m256 load8_f32(const uint8_t *w) { return _mm256_castsi256_ps(load_32(w)); }

MM_INLINE __m256 load8_f16(const uint8_t *w) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)w));
}

MM_INLINE __m256 load8_bf16(const uint8_t *w) {
    const __m256i h = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)w));
    return _mm256_castsi256_ps(_mm256_slli_epi32(h, 16));
}

struct format {
    load8 *load;
    uint32_t bytes; /* an element */
};

/* The first n < 8 elements, zeros behind. */
MM_INLINE __m256 load_some(const uint8_t *w, uint32_t n, const struct format *format) {
    uint8_t some[4 * LANES] = {0};
    memcpy(some, w, (size_t)n * format->bytes);
    return format->load(some);
}

MM_INLINE float sum_of(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Two sums a row: four rows with one each would wait for the latency of FMA. */
MM_INLINE void dots_of(const struct mm_dots *work, const struct mm_act *act, float *y,
                       const struct format format) {
    const uint32_t k2 = work->k / (2 * LANES) * (2 * LANES), tail = work->k - k2;
    for (uint32_t i = 0; i < work->n_rows; i += DOT_ROWS) {
        const uint32_t n = work->n_rows - i < DOT_ROWS ? work->n_rows - i : DOT_ROWS;
        const uint8_t *w[DOT_ROWS];
        __m256 a[DOT_ROWS], b[DOT_ROWS];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < DOT_ROWS; r++) {
            w[r] = work->w + (i + (r < n ? r : n - 1)) * work->row_bytes;
            a[r] = b[r] = _mm256_setzero_ps();
        }
        const uint64_t far = tl_max_u64(4 * work->row_bytes, AHEAD);
        uintptr_t ahead = (uintptr_t)w[0] + far;
        for (uint32_t j = 0; j < k2; j += 2 * LANES) {
            const __m256 xa = _mm256_loadu_ps(act->x + j);
            const __m256 xb = _mm256_loadu_ps(act->x + j + LANES);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < DOT_ROWS; r++) {
                a[r] = _mm256_fmadd_ps(format.load(w[r]), xa, a[r]);
                b[r] = _mm256_fmadd_ps(format.load(w[r] + LANES * format.bytes), xb, b[r]);
                w[r] += 2 * LANES * format.bytes;
            }
            for (uint32_t p = 0; p < DOT_ROWS * 2 * LANES * format.bytes; p += 64) {
                _mm_prefetch((const char *)(ahead + p), _MM_HINT_T0);
            }
            ahead += (uintptr_t)DOT_ROWS * 2 * LANES * format.bytes;
        }
        for (uint32_t r = 0; r < n; r++) {
            if (tail > 0) {
                const uint32_t first = tail < LANES ? tail : LANES;
                const uint8_t *const rest = w[r] + (size_t)first * format.bytes;
                const __m256 va = load_some(w[r], first, &format);
                const __m256 vb = load_some(rest, tail - first, &format);
                a[r] = _mm256_fmadd_ps(va, _mm256_loadu_ps(act->x + k2), a[r]);
                b[r] = _mm256_fmadd_ps(vb, _mm256_loadu_ps(act->x + k2 + LANES), b[r]);
            }
            y[i + r] = sum_of(_mm256_add_ps(a[r], b[r]));
        }
    }
}

MM_INLINE void dots(const struct mm_dots *work, const struct format format) {
    for (uint32_t t = 0; t < work->n; t++) {
        dots_of(work, &work->act[t], work->y + (uint64_t)t * work->y_stride, format);
    }
}

void cpu_dots_f32_avx2(const struct mm_dots *work) { dots(work, (struct format){load8_f32, 4}); }
void cpu_dots_f16_avx2(const struct mm_dots *work) { dots(work, (struct format){load8_f16, 2}); }
void cpu_dots_bf16_avx2(const struct mm_dots *work) { dots(work, (struct format){load8_bf16, 2}); }

/* Transposes 8 x 8 floats. */
MM_INLINE void transpose8(__m256 v[8]) {
    __m256 t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        v[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}

MM_INLINE void unpack(const struct mm_unpack *work, const struct format format) {
    for (uint32_t first = 0; first < ROWS; first += LANES) {
        for (uint32_t col = 0; col < work->n_cols; col += LANES) {
            const uint32_t n = work->n_cols - col < LANES ? work->n_cols - col : LANES;
            __m256 v[LANES];
#pragma GCC unroll 8
            for (uint32_t r = 0; r < LANES; r++) {
                const uint32_t row = (uint32_t)tl_min_u64(first + r, work->n_rows - 1);
                const uint8_t *const w =
                    work->w + row * work->row_bytes + (size_t)col * format.bytes;
                v[r] = n == LANES ? format.load(w) : load_some(w, n, &format);
            }
            transpose8(v);
            for (uint32_t j = 0; j < n; j++) {
                _mm256_storeu_ps(work->to.w + (size_t)(col + j) * ROWS + first, v[j]);
            }
        }
    }
}

void cpu_unpack_f32_avx2(const struct mm_unpack *work) {
    unpack(work, (struct format){load8_f32, 4});
}
void cpu_unpack_f16_avx2(const struct mm_unpack *work) {
    unpack(work, (struct format){load8_f16, 2});
}
void cpu_unpack_bf16_avx2(const struct mm_unpack *work) {
    unpack(work, (struct format){load8_bf16, 2});
}

void cpu_tile_float_avx2(const struct mm_tile *work) {
    __m256 sum[MM_TOKENS * VECTORS];
#pragma GCC unroll 12
    for (int i = 0; i < MM_TOKENS * VECTORS; i++) {
        sum[i] = _mm256_setzero_ps();
    }
    const float *w = work->w.w, *x = work->act.x;
    for (uint32_t j = 0; j < work->k; j++) {
        const __m256 a = _mm256_loadu_ps(w), b = _mm256_loadu_ps(w + LANES);
#pragma GCC unroll 6
        for (int t = 0; t < MM_TOKENS; t++) {
            const __m256 v = _mm256_broadcast_ss(x + t);
            sum[2 * t] = _mm256_fmadd_ps(a, v, sum[2 * t]);
            sum[2 * t + 1] = _mm256_fmadd_ps(b, v, sum[2 * t + 1]);
        }
        w += ROWS;
        x += MM_TOKENS;
    }
#pragma GCC unroll 12
    for (int i = 0; i < MM_TOKENS * VECTORS; i++) {
        _mm256_storeu_ps(work->y + i * LANES, sum[i]);
    }
}
