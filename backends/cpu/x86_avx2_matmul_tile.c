/* Matrix-matrix products with quantised weights, AVX2: panels of 32 weight rows in four strips of
 * 8, each strip (k / 4, 8, 4) codes with its scales (k / group, 8), against six activation rows.
 * Two VPMADDUBSW of codes below 64 still fit 16 bits together (4 * 63 * 127 < 2^15), so they share
 * the widening to 32; signed codes are used one by one (see x86_avx2_matmul_dots.c). */
#include "x86_avx2_matmul.h"

enum { LANES = 8, STRIPS = 4, ROWS = LANES * STRIPS, SUPER = 256 };

/* Transposes 8 x 8 dwords. */
MM_INLINE void transpose8(__m256i v[8]) {
    __m256i t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(u[i], u[4 + i], 0x20);
        v[4 + i] = _mm256_permute2x128_si256(u[i], u[4 + i], 0x31);
    }
}

/* Block `i` of each row of a strip, to `to`. */
MM_INLINE void unpack_block(const uint8_t *const w[LANES], uint32_t i, uint8_t *to,
                            const struct mm_layout *layout) {
    __m256i v[LANES]; /* in memory: unrolled, sanitizers took minutes over the twelve formats */
    for (int r = 0; r < LANES; r++) {
        v[r] = layout->codes(w[r], i);
    }
    transpose8(v);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        _mm256_storeu_si256((__m256i *)(to + 32 * j), v[j]);
    }
}

/* The scales of one block, or of one super-block, to d and m, which have LANES in a row. */
MM_INLINE void unpack_scales(const uint8_t *const w[LANES], float *d, float *m,
                             const struct mm_layout *layout) {
    const uint32_t n = layout->scales == NULL ? 1 : SUPER / layout->group;
    for (uint32_t r = 0; r < LANES; r++) {
        float row_d[16], row_m[16];
        if (layout->scales == NULL) {
            row_d[0] = load_f16(w[r]);
            row_m[0] = layout->mins ? -load_f16(w[r] + 2) : 0.0f;
        } else {
            layout->scales(row_d, row_m, w[r]);
        }
        for (uint32_t j = 0; j < n; j++) {
            d[j * LANES + r] = row_d[j];
            if (layout->mins) {
                m[j * LANES + r] = row_m[j];
            }
        }
    }
}

MM_INLINE void unpack(const struct mm_unpack *work, const struct mm_layout layout) {
    const uint32_t step = layout.scales != NULL ? SUPER : MM_BLOCK;
    const size_t n_groups = work->n_cols / layout.group;
    for (uint32_t s = 0; s < STRIPS; s++) {
        const uint8_t *w[LANES];
        for (uint32_t r = 0; r < LANES; r++) {
            const uint32_t row = (uint32_t)tl_min_u64(s * LANES + r, work->n_rows - 1);
            w[r] = work->w + row * work->row_bytes;
        }
        uint8_t *q = work->to.q + (size_t)s * LANES * work->n_cols;
        float *d = work->to.d + s * LANES * n_groups, *m = work->to.m + s * LANES * n_groups;
        for (uint32_t at = 0; at < work->n_cols; at += step) {
            unpack_scales(w, d, m, &layout);
            d += (size_t)step / layout.group * LANES;
            m += (size_t)step / layout.group * LANES;
            for (uint32_t i = 0; i < step / MM_BLOCK; i++) {
                unpack_block(w, i, q, &layout);
                q += (size_t)MM_BLOCK * LANES;
            }
            for (uint32_t r = 0; r < LANES; r++) {
                w[r] += layout.bytes;
            }
        }
    }
}

#define UNPACK(name)                                                                               \
    void cpu_unpack_##name##_avx2(const struct mm_unpack *work) { unpack(work, layout_##name()); }
MM_AVX2_FORMATS(UNPACK)

struct kind {
    uint32_t group;
    bool is_signed, mins;
};

MM_INLINE __m256i broadcast4(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Adds eight products to each lane of `dot` for every token. */
MM_INLINE void dot8(__m256i dot[MM_TOKENS], const uint8_t *q, const int8_t *x, bool is_signed) {
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i a = load_32(q), b = load_32(q + 4 * LANES);
#pragma GCC unroll 6
    for (int t = 0; t < MM_TOKENS; t++) {
        const __m256i xa = broadcast4(x + 4 * t), xb = broadcast4(x + 4 * (MM_TOKENS + t));
        __m256i sum;
        if (is_signed) {
            const __m256i pa = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(xa, a));
            const __m256i pb = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(xb, b));
            sum = _mm256_add_epi32(_mm256_madd_epi16(pa, ones), _mm256_madd_epi16(pb, ones));
        } else {
            const __m256i pa = _mm256_maddubs_epi16(a, xa), pb = _mm256_maddubs_epi16(b, xb);
            sum = _mm256_madd_epi16(_mm256_add_epi16(pa, pb), ones);
        }
        dot[t] = _mm256_add_epi32(dot[t], sum);
    }
}

MM_INLINE void strip(const struct mm_tile *work, uint32_t s, const struct kind kind) {
    const size_t n_groups = work->k / kind.group;
    const uint8_t *q = work->w.q + (size_t)s * LANES * work->k;
    const float *const d = work->w.d + s * LANES * n_groups;
    const float *const m = work->w.m + s * LANES * n_groups;
    const int8_t *x = work->act.q;
    __m256 sum[MM_TOKENS];
#pragma GCC unroll 6
    for (int t = 0; t < MM_TOKENS; t++) {
        sum[t] = _mm256_setzero_ps();
    }
    for (size_t j = 0; j < n_groups; j++) {
        __m256i dot[MM_TOKENS];
#pragma GCC unroll 6
        for (int t = 0; t < MM_TOKENS; t++) {
            dot[t] = _mm256_set1_epi32(work->act.z[j * MM_TOKENS + (size_t)t]);
        }
        for (uint32_t c = 0; c < kind.group; c += 8) {
            dot8(dot, q, x, kind.is_signed);
            q += 8 * LANES;
            x += 8 * MM_TOKENS;
        }
        const float *const act_d = work->act.d + j * kind.group / MM_BLOCK * MM_TOKENS;
        const __m256 wd = _mm256_loadu_ps(d + j * LANES);
#pragma GCC unroll 6
        for (int t = 0; t < MM_TOKENS; t++) {
            const __m256 scale = _mm256_mul_ps(wd, _mm256_set1_ps(act_d[t]));
            sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[t]), scale, sum[t]);
            if (kind.mins) {
                const __m256 act_s = _mm256_set1_ps(work->act.s[j * MM_TOKENS + (size_t)t]);
                sum[t] = _mm256_fnmadd_ps(_mm256_loadu_ps(m + j * LANES), act_s, sum[t]);
            }
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < MM_TOKENS; t++) {
        _mm256_storeu_ps(work->y + t * ROWS + s * LANES, sum[t]);
    }
}

MM_INLINE void tile(const struct mm_tile *work, const struct kind kind) {
    for (uint32_t s = 0; s < STRIPS; s++) {
        strip(work, s, kind);
    }
}

void cpu_tile_32_avx2(const struct mm_tile *work) { tile(work, (struct kind){32, false, false}); }
void cpu_tile_32_min_avx2(const struct mm_tile *work) {
    tile(work, (struct kind){32, false, true});
}
void cpu_tile_32_signed_avx2(const struct mm_tile *work) {
    tile(work, (struct kind){32, true, false});
}
void cpu_tile_16_avx2(const struct mm_tile *work) { tile(work, (struct kind){16, false, false}); }
void cpu_tile_16_min_avx2(const struct mm_tile *work) {
    tile(work, (struct kind){16, false, true});
}
