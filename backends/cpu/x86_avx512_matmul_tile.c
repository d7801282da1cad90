/* Matrix-matrix products with quantised weights, AVX-512 with VNNI: unpacking of panels of 32
 * weight rows, and the product of a panel with six activation rows.
 *
 * Unpacking takes 64 codes (two blocks) of each of 16 rows in natural order, one vector a row, and
 * transposes their 32-bit lanes: vector j then holds codes 4j .. 4j + 3 of 16 rows, as VPDPBUSD
 * wants them against four activations broadcast to all lanes. Scales go the same way. */
#include "x86_avx512_matmul.h"

enum { LANES = 16, VECTORS = 2, ROWS = LANES * VECTORS, PAIR = 64 };

/* The `part`-th pair of blocks of a row, of which n_blocks exist. */
typedef __m512i load_codes(const uint8_t *w, uint32_t part, uint32_t n_blocks);

/* Formats with blocks of 32: `part` is counted from the start of the row. */

MM_INLINE __m512i pair_nibbles(const uint8_t *a, const uint8_t *b) {
    const __m256i q0 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)a));
    const __m256i q1 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)b));
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(q0), q1, 1);
    const __m512i shift = _mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0,
                                           0x0004000400040004, 0x0004000400040004, 0, 0);
    return low_nibbles(_mm512_srlv_epi16(both, shift));
}

/* A second block that does not exist is the first again: its activations are zero. */
MM_INLINE const uint8_t *second(const uint8_t *a, uint32_t block_bytes, uint32_t n_blocks) {
    return n_blocks > 1 ? a + block_bytes : a;
}

MM_INLINE __m512i codes_q8_0(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    const uint8_t *const a = w + (size_t)part * 68, *const b = second(a, 34, n_blocks);
    const __m512i q =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(a + 2))),
                           _mm256_loadu_si256((const __m256i *)(b + 2)), 1);
    return _mm512_xor_si512(q, _mm512_set1_epi8(-128));
}

MM_INLINE __m512i codes_q4_0(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    const uint8_t *const a = w + (size_t)part * 36, *const b = second(a, 18, n_blocks);
    return pair_nibbles(a + 2, b + 2);
}

MM_INLINE __m512i codes_q4_1(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    const uint8_t *const a = w + (size_t)part * 40, *const b = second(a, 20, n_blocks);
    return pair_nibbles(a + 4, b + 4);
}

MM_INLINE __m512i with_bits5(__m512i codes, const uint8_t *a, const uint8_t *b) {
    const __mmask64 bits = load_u32(a) | (uint64_t)load_u32(b) << 32;
    return _mm512_mask_add_epi8(codes, bits, codes, _mm512_set1_epi8(16));
}

MM_INLINE __m512i codes_q5_0(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    const uint8_t *const a = w + (size_t)part * 44, *const b = second(a, 22, n_blocks);
    return with_bits5(pair_nibbles(a + 6, b + 6), a + 2, b + 2);
}

MM_INLINE __m512i codes_q5_1(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    const uint8_t *const a = w + (size_t)part * 48, *const b = second(a, 24, n_blocks);
    return with_bits5(pair_nibbles(a + 8, b + 8), a + 4, b + 4);
}

MM_INLINE __m512i iq4_values(__m512i codes) {
    const __m128i values = _mm_loadu_si128((const __m128i *)cpu_iq4_values);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), codes);
}

MM_INLINE __m512i codes_iq4_nl(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    return iq4_values(codes_q4_0(w, part, n_blocks));
}

/* Formats with blocks of 256: `part` is 0 .. 3, within a block. */

MM_INLINE __m512i codes_iq4_xs(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    (void)n_blocks;
    const uint8_t *const a = w + 8 + (size_t)part * 32;
    return iq4_values(pair_nibbles(a, a + 16));
}

MM_INLINE __m512i halves_shifted(const uint8_t *p, int lo, int hi) {
    return _mm512_srlv_epi16(two_halves(p), _mm512_mask_set1_epi16(_mm512_set1_epi16((int16_t)lo),
                                                                   0xffff0000, (int16_t)hi));
}

MM_INLINE __m512i codes_q4_k(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    (void)n_blocks;
    return low_nibbles(halves_shifted(w + 16 + (size_t)part * 32, 0, 4));
}

MM_INLINE __m512i codes_q5_k(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    (void)n_blocks;
    const __m512i codes = low_nibbles(halves_shifted(w + 48 + (size_t)part * 32, 0, 4));
    const int bit = 2 * (int)part;
    return with_bits(codes, rotate(two_halves(w + 16), 4 - bit, 3 - bit), 16);
}

MM_INLINE __m512i codes_q6_k(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    (void)n_blocks;
    const __m512i q = _mm512_loadu_si512(w + (size_t)(part / 2) * 64);
    const __m512i high = two_halves(w + 128 + (size_t)(part / 2) * 32);
    return part % 2 == 0 ? with_bits(low_nibbles(q), rotate(high, 4, 2), 48)
                         : with_bits(high_nibbles(q), rotate(high, 0, -2), 48);
}

MM_INLINE __m512i codes_q2_k(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    (void)n_blocks;
    const int shift = 4 * (int)(part % 2);
    return two_bits(halves_shifted(w + 16 + (size_t)(part / 2) * 32, shift, shift + 2), 0);
}

MM_INLINE __m512i codes_q3_k(const uint8_t *w, uint32_t part, uint32_t n_blocks) {
    const int bit = 2 * (int)part;
    const __m512i high = rotate(two_halves(w), 2 - bit, 1 - bit);
    return with_bits(codes_q2_k(w + 16, part, n_blocks), high, 4);
}

/* Row `first + i` of the panel. */
MM_INLINE const uint8_t *row_at(const struct mm_unpack *work, uint32_t first, uint32_t i) {
    const uint32_t row = first + i < work->n_rows ? first + i : work->n_rows - 1;
    return work->w + row * work->row_bytes;
}

/* One pair of blocks of 16 rows. */
MM_INLINE void unpack_pair(const uint8_t *const rows[LANES], uint32_t part, uint32_t n_blocks,
                           load_codes *load, uint8_t *to, size_t ahead) {
    __m512 v[LANES]; /* in memory: unrolled, sanitizers took minutes over the twelve formats */
    for (int i = 0; i < LANES; i++) {
        v[i] = _mm512_castsi512_ps(load(rows[i], part, n_blocks));
        _mm_prefetch((const char *)rows[i] + ahead, _MM_HINT_T0);
    }
    mm_transpose16(v);
    const int n = n_blocks > 1 ? 16 : 8;
    for (int i = 0; i < n; i++) {
        _mm512_storeu_ps(to + (size_t)i * ROWS * 4, v[i]);
    }
}

struct layout32 {
    load_codes *load;
    uint32_t block_bytes;
    bool mins;
};

MM_INLINE float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

MM_INLINE void unpack32(const struct mm_unpack *work, const struct layout32 layout) {
    const uint32_t n_blocks = work->n_cols / MM_BLOCK;
    for (uint32_t first = 0; first < ROWS; first += LANES) {
        const uint8_t *rows[LANES];
        for (uint32_t i = 0; i < LANES; i++) {
            rows[i] = row_at(work, first, i);
        }
        for (uint32_t b = 0; b < n_blocks; b += 2) {
            uint8_t *const to = work->to.q + ((size_t)b * MM_BLOCK * ROWS + first * 4);
            unpack_pair(rows, b / 2, n_blocks - b, layout.load, to,
                        (size_t)b * layout.block_bytes + MM_UNPACK_AHEAD);
        }
        for (uint32_t b = 0; b < n_blocks; b++) {
            const size_t from = (size_t)b * layout.block_bytes, to = (size_t)b * ROWS + first;
            for (uint32_t i = 0; i < LANES; i++) {
                work->to.d[to + i] = f16_at(rows[i] + from);
                if (layout.mins) {
                    work->to.m[to + i] = -f16_at(rows[i] + from + 2);
                }
            }
        }
    }
}

struct layout256 {
    load_codes *load;
    mm_scales *scales, *mins;
    uint32_t block_bytes, n_scales;
    bool mins_behind; /* scales 8 .. 15 are the minima */
};

MM_INLINE void unpack_scales(const uint8_t *const rows[LANES], mm_scales *load, float *first8,
                             float *rest8) {
    __m512 v[LANES];
    for (int i = 0; i < LANES; i += 4) {
        load(v + i, rows + i, _mm512_set1_ps(1.0f));
    }
    mm_transpose16(v);
    for (size_t i = 0; i < 8; i++) {
        _mm512_storeu_ps(first8 + i * ROWS, v[i]);
        if (rest8 != NULL) {
            _mm512_storeu_ps(rest8 + i * ROWS, v[8 + i]);
        }
    }
}

MM_INLINE void unpack256(const struct mm_unpack *work, const struct layout256 layout) {
    const uint32_t n_blocks = work->n_cols / 256;
    for (uint32_t first = 0; first < ROWS; first += LANES) {
        const uint8_t *rows[LANES];
        for (uint32_t i = 0; i < LANES; i++) {
            rows[i] = row_at(work, first, i);
        }
        for (uint32_t b = 0; b < n_blocks; b++) {
            const size_t at = ((size_t)b * layout.n_scales) * ROWS + first;
            float *const d = work->to.d + at, *const m = work->to.m + at;
            float *const rest = layout.mins_behind      ? m
                                : layout.n_scales == 16 ? d + 8 * ROWS
                                                        : NULL;
            unpack_scales(rows, layout.scales, d, rest);
            if (layout.mins != NULL) {
                unpack_scales(rows, layout.mins, m, m + 8 * ROWS);
            }
            uint8_t *const to = work->to.q + ((size_t)b * 256 * ROWS + first * 4);
            for (uint32_t part = 0; part < 4; part++) {
                unpack_pair(rows, part, 2, layout.load, to + (size_t)part * PAIR * ROWS,
                            MM_UNPACK_AHEAD + (size_t)part * 64);
            }
            for (uint32_t i = 0; i < LANES; i++) {
                rows[i] += layout.block_bytes;
            }
        }
    }
}

void cpu_unpack_q8_0_avx512(const struct mm_unpack *work) {
    unpack32(work, (struct layout32){codes_q8_0, 34, false});
}
void cpu_unpack_q4_0_avx512(const struct mm_unpack *work) {
    unpack32(work, (struct layout32){codes_q4_0, 18, false});
}
void cpu_unpack_q4_1_avx512(const struct mm_unpack *work) {
    unpack32(work, (struct layout32){codes_q4_1, 20, true});
}
void cpu_unpack_q5_0_avx512(const struct mm_unpack *work) {
    unpack32(work, (struct layout32){codes_q5_0, 22, false});
}
void cpu_unpack_q5_1_avx512(const struct mm_unpack *work) {
    unpack32(work, (struct layout32){codes_q5_1, 24, true});
}
void cpu_unpack_iq4_nl_avx512(const struct mm_unpack *work) {
    unpack32(work, (struct layout32){codes_iq4_nl, 18, false});
}
void cpu_unpack_iq4_xs_avx512(const struct mm_unpack *work) {
    unpack256(work, (struct layout256){codes_iq4_xs, scales_iq4_xs, NULL, 136, 8, false});
}
void cpu_unpack_q2_k_avx512(const struct mm_unpack *work) {
    unpack256(work, (struct layout256){codes_q2_k, scales_q2_k, mins_q2_k, 84, 16, false});
}
void cpu_unpack_q3_k_avx512(const struct mm_unpack *work) {
    unpack256(work, (struct layout256){codes_q3_k, scales_q3_k, NULL, 110, 16, false});
}
void cpu_unpack_q4_k_avx512(const struct mm_unpack *work) {
    unpack256(work, (struct layout256){codes_q4_k, scales_q4_k, NULL, 144, 8, true});
}
void cpu_unpack_q5_k_avx512(const struct mm_unpack *work) {
    unpack256(work, (struct layout256){codes_q5_k, scales_q4_k, NULL, 176, 8, true});
}
void cpu_unpack_q6_k_avx512(const struct mm_unpack *work) {
    unpack256(work, (struct layout256){codes_q6_k, scales_q6_k, NULL, 210, 16, false});
}

/* Twelve exact integer sums over a group of scales, then one conversion and one FMA for each. */
MM_INLINE void tile(const struct mm_tile *work, uint32_t group, bool mins) {
    __m512 sum[MM_TOKENS * VECTORS];
#pragma GCC unroll 12
    for (int i = 0; i < MM_TOKENS * VECTORS; i++) {
        sum[i] = _mm512_setzero_ps();
    }
    const uint8_t *q = work->w.q;
    const int8_t *x = work->act.q;
    for (uint32_t j = 0; j < work->k / group; j++) {
        __m512i dot[MM_TOKENS * VECTORS];
#pragma GCC unroll 6
        for (int t = 0; t < MM_TOKENS; t++) {
            dot[2 * t] = dot[2 * t + 1] = _mm512_set1_epi32(work->act.z[j * MM_TOKENS + t]);
        }
#pragma GCC unroll 8
        for (uint32_t c = 0; c < group; c += 4) {
            const __m512i a = _mm512_loadu_si512(q), b = _mm512_loadu_si512(q + 64);
#pragma GCC unroll 6
            for (int t = 0; t < MM_TOKENS; t++) {
                int32_t four;
                memcpy(&four, x + 4 * t, sizeof four);
                const __m512i v = _mm512_set1_epi32(four);
                dot[2 * t] = _mm512_dpbusd_epi32(dot[2 * t], a, v);
                dot[2 * t + 1] = _mm512_dpbusd_epi32(dot[2 * t + 1], b, v);
            }
            q += 4 * ROWS;
            x += 4 * MM_TOKENS;
        }
        const float *const d = work->act.d + (size_t)j * group / MM_BLOCK * MM_TOKENS;
        const __m512 da = _mm512_loadu_ps(work->w.d + j * ROWS);
        const __m512 db = _mm512_loadu_ps(work->w.d + j * ROWS + LANES);
#pragma GCC unroll 6
        for (int t = 0; t < MM_TOKENS; t++) {
            const __m512 v = _mm512_set1_ps(d[t]);
            sum[2 * t] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[2 * t]), _mm512_mul_ps(da, v), sum[2 * t]);
            sum[2 * t + 1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[2 * t + 1]),
                                             _mm512_mul_ps(db, v), sum[2 * t + 1]);
        }
        if (mins) {
            const __m512 ma = _mm512_loadu_ps(work->w.m + j * ROWS);
            const __m512 mb = _mm512_loadu_ps(work->w.m + j * ROWS + LANES);
#pragma GCC unroll 6
            for (int t = 0; t < MM_TOKENS; t++) {
                const __m512 v = _mm512_set1_ps(work->act.s[j * MM_TOKENS + t]);
                sum[2 * t] = _mm512_fnmadd_ps(ma, v, sum[2 * t]);
                sum[2 * t + 1] = _mm512_fnmadd_ps(mb, v, sum[2 * t + 1]);
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < MM_TOKENS * VECTORS; i++) {
        _mm512_storeu_ps(work->y + i * LANES, sum[i]);
    }
}

void cpu_tile_32_avx512(const struct mm_tile *work) { tile(work, 32, false); }
void cpu_tile_32_min_avx512(const struct mm_tile *work) { tile(work, 32, true); }
void cpu_tile_16_avx512(const struct mm_tile *work) { tile(work, 16, false); }
void cpu_tile_16_min_avx512(const struct mm_tile *work) { tile(work, 16, true); }
