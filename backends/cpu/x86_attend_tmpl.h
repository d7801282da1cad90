/* The two attend kernels for one vector width; included once by each of x86_avx2.c and x86_avx512.c.
 * `few` computes scores as dot products along the head, lanes being dimensions, and reads the f16
 * rows in place: a cache row costs its bytes and little else. `many` is two matrix products with
 * lanes being query rows, so that maxima and sums over cache rows need no shuffling:
 *
 *     scores (block, rows) = K (block, d) Q^T (d, rows)      sums (rows, d) += P^T V (block, d)
 *
 * Neither depends on anything but the tile. A score that a row may not see becomes -inf; the
 * reference of exp is never below -3e38, so that a row which saw nothing gives 0 and not NaN. */
#include "attend.h"
#include "x86_vec.h"

#include <math.h>

/* Register blocks: rows of a product and vectors of its columns that are summed at a time. */
#if defined(__AVX512F__)
enum { FEW_ROWS = 4, MANY_ROWS = 8, MANY_VECS = 3 };
#else
enum { FEW_ROWS = 2, MANY_ROWS = 4, MANY_VECS = 3 };
#endif
enum { FEW_KEYS = 4, FEW_VECS = 4, LINE_BYTES = 64 };

static const uint16_t *cache_row(const tl_view *v, const struct attend_tile *tile, uint64_t t) {
    const uint64_t cap = v->rows / tile->op->kv.n_kv_heads;
    return cpu_row(v, tile->kv_head * cap + t);
}

VEC_INLINE void prefetch(const uint16_t *p, uint32_t n_elems) {
    for (uint32_t at = 0; at < n_elems; at += LINE_BYTES / sizeof *p) {
        _mm_prefetch((const char *)(p + at), _MM_HINT_T0);
    }
}

VEC_INLINE vec capped(vec score, float cap) {
    return vec_mul(vec_all(cap), vec_tanh(vec_mul(score, vec_all(1.0f / cap))));
}

/* scores[r][0 .. m) of n_rows rows; meanwhile the rows of V that follow are asked for. */
VEC_INLINE void few_scores_of(uint32_t n_rows, const struct attend_tile *tile, const float *q,
                              uint64_t t0, uint32_t m, float *scores, bool ahead) {
    const uint32_t d = tile->op->kv.k.cols;
    const uint16_t *const k = cache_row(&tile->op->kv.k, tile, t0);
    const uint16_t *const v = cache_row(&tile->op->kv.v, tile, t0);
    for (uint32_t t = 0; t < m; t += FEW_KEYS) {
        const uint16_t *keys[FEW_KEYS];
        vec sums[FEW_ROWS][FEW_KEYS];
        VEC_UNROLL
        for (uint32_t u = 0; u < FEW_KEYS; u++) {
            keys[u] = k + (uint64_t)(t + u < m ? t + u : m - 1) * d;
            VEC_UNROLL
            for (uint32_t r = 0; r < n_rows; r++) {
                sums[r][u] = vec_zero();
            }
        }
        if (ahead) {
            prefetch(v + (uint64_t)t * d, FEW_KEYS * d);
        }
        uint32_t j = 0;
        for (; j + VEC_N <= d; j += VEC_N) {
            vec key[FEW_KEYS];
            VEC_UNROLL
            for (uint32_t u = 0; u < FEW_KEYS; u++) {
                key[u] = vec_load_f16(keys[u] + j);
            }
            VEC_UNROLL
            for (uint32_t r = 0; r < n_rows; r++) {
                const vec part = vec_load(q + (uint64_t)r * tile->stride + j);
                VEC_UNROLL
                for (uint32_t u = 0; u < FEW_KEYS; u++) {
                    sums[r][u] = vec_fma(part, key[u], sums[r][u]);
                }
            }
        }
        if (j < d) {
            VEC_UNROLL
            for (uint32_t u = 0; u < FEW_KEYS; u++) {
                const vec key = vec_load_f16_n(keys[u] + j, d - j);
                VEC_UNROLL
                for (uint32_t r = 0; r < n_rows; r++) {
                    const vec part = vec_load_n(q + (uint64_t)r * tile->stride + j, d - j);
                    sums[r][u] = vec_fma(part, key, sums[r][u]);
                }
            }
        }
        VEC_UNROLL
        for (uint32_t r = 0; r < n_rows; r++) {
            _mm_storeu_ps(scores + (uint64_t)r * ATTEND_BLOCK + t,
                          vec_sum4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]));
        }
    }
}

static void few_scores(const struct attend_tile *tile, const float *q, uint64_t t0, uint32_t m,
                       float *scores) {
    for (uint32_t r = 0; r < tile->n; r += FEW_ROWS) {
        const float *const rows = q + (uint64_t)r * tile->stride;
        float *const out = scores + (uint64_t)r * ATTEND_BLOCK;
        switch (tile->n - r) {
        case 1: few_scores_of(1, tile, rows, t0, m, out, r == 0); break;
#if defined(__AVX512F__)
        case 2: few_scores_of(2, tile, rows, t0, m, out, r == 0); break;
        case 3: few_scores_of(3, tile, rows, t0, m, out, r == 0); break;
#endif
        default: few_scores_of(FEW_ROWS, tile, rows, t0, m, out, r == 0); break;
        }
    }
}

/* Turns a row's scores into weights; returns what its sums so far shrink by. */
static float few_weights(const struct attend_tile *tile, uint32_t r, uint64_t t0, float *scores) {
    const float cap = tile->op->softcap;
    const veci first = veci_all(tile->first_of[r]);
    const veci end = veci_all((int32_t)tl_min_u64((uint64_t)tile->end_of[r], tile->end));
    vec most = vec_all(tile->most[r]);
    for (uint32_t u = 0; u < ATTEND_BLOCK; u += VEC_N) {
        const veci t = veci_add(veci_all((int32_t)(t0 + u)), veci_count());
        vec s = vec_load(scores + u);
        s = vec_within(cap != 0.0f ? capped(s, cap) : s, t, first, end, vec_all(-INFINITY));
        vec_store(scores + u, s);
        most = vec_max(most, s);
    }
    const float new_most = vec_most(most);
    const vec zero_at = vec_max(vec_all(new_most), vec_all(-3e38f));
    vec sum = vec_zero();
    for (uint32_t u = 0; u < ATTEND_BLOCK; u += VEC_N) {
        const vec weight = vec_exp(vec_sub(vec_load(scores + u), zero_at));
        vec_store(scores + u, weight);
        sum = vec_add(sum, weight);
    }
    float shrink[VEC_N];
    vec_store(shrink, vec_exp(vec_sub(vec_all(tile->most[r]), zero_at)));
    tile->weights[r] = tile->weights[r] * shrink[0] + vec_sum(sum);
    tile->most[r] = new_most;
    return shrink[0];
}

/* sums[r][j ..] := shrink[r] * it + weights[r] V for n_vecs vectors of columns. */
VEC_INLINE void few_mix_part(uint32_t n_rows, uint32_t n_vecs, const struct attend_tile *tile,
                             uint32_t row, uint32_t j, uint64_t t0, uint32_t m,
                             const float *weights, const float *shrink) {
    const uint32_t d = tile->op->kv.v.cols, left = d - j < VEC_N ? d - j : VEC_N;
    const uint16_t *v = cache_row(&tile->op->kv.v, tile, t0) + j;
    float *const out = tile->sums + (uint64_t)row * tile->stride + j;
    vec sums[FEW_ROWS][FEW_VECS];
    VEC_UNROLL
    for (uint32_t r = 0; r < n_rows; r++) {
        VEC_UNROLL
        for (uint32_t c = 0; c < n_vecs; c++) {
            sums[r][c] = vec_mul(vec_load(out + (uint64_t)r * tile->stride + c * VEC_N),
                                 vec_all(shrink[r]));
        }
    }
    for (uint32_t t = 0; t < m; t++, v += d) {
        vec value[FEW_VECS];
        VEC_UNROLL
        for (uint32_t c = 0; c < n_vecs; c++) {
            value[c] = n_vecs == 1 ? vec_load_f16_n(v, left) : vec_load_f16(v + c * VEC_N);
        }
        VEC_UNROLL
        for (uint32_t r = 0; r < n_rows; r++) {
            const vec weight = vec_all(weights[r * ATTEND_BLOCK + t]);
            VEC_UNROLL
            for (uint32_t c = 0; c < n_vecs; c++) {
                sums[r][c] = vec_fma(weight, value[c], sums[r][c]);
            }
        }
    }
    VEC_UNROLL
    for (uint32_t r = 0; r < n_rows; r++) {
        VEC_UNROLL
        for (uint32_t c = 0; c < n_vecs; c++) {
            vec_store(out + (uint64_t)r * tile->stride + c * VEC_N, sums[r][c]);
        }
    }
}

VEC_INLINE void few_mix_of(uint32_t n_rows, const struct attend_tile *tile, uint32_t row,
                           uint64_t t0, uint32_t m, const float *weights, const float *shrink) {
    const uint32_t d = tile->op->kv.v.cols;
    uint32_t j = 0;
    for (; j + FEW_VECS * VEC_N <= d; j += FEW_VECS * VEC_N) {
        few_mix_part(n_rows, FEW_VECS, tile, row, j, t0, m, weights, shrink);
    }
    for (; j < d; j += VEC_N) {
        few_mix_part(n_rows, 1, tile, row, j, t0, m, weights, shrink);
    }
}

static void few_mix(const struct attend_tile *tile, uint64_t t0, uint32_t m, const float *weights,
                    const float *shrink) {
    for (uint32_t r = 0; r < tile->n; r += FEW_ROWS) {
        const float *const w = weights + (uint64_t)r * ATTEND_BLOCK;
        switch (tile->n - r) {
        case 1: few_mix_of(1, tile, r, t0, m, w, shrink + r); break;
#if defined(__AVX512F__)
        case 2: few_mix_of(2, tile, r, t0, m, w, shrink + r); break;
        case 3: few_mix_of(3, tile, r, t0, m, w, shrink + r); break;
#endif
        default: few_mix_of(FEW_ROWS, tile, r, t0, m, w, shrink + r); break;
        }
    }
}

static void clear_results(const struct attend_tile *tile) {
    for (uint32_t r = 0; r < tl_align_up(tile->n, 16); r++) {
        tile->most[r] = -INFINITY;
        tile->weights[r] = 0.0f;
        memset(tile->sums + (uint64_t)r * tile->stride, 0, tile->stride * sizeof(float));
    }
}

static void attend_few(const struct attend_tile *tile) {
    const struct tl_attend *const op = tile->op;
    const uint32_t d = op->kv.k.cols;
    float *const q = tile->work; /* (n, stride), scaled */
    float *const scores = q + (uint64_t)ATTEND_FEW * tile->stride; /* (n, ATTEND_BLOCK) */
    clear_results(tile);
    for (uint32_t r = 0; r < tile->n; r++) {
        const float *const src = attend_query(tile, r);
        for (uint32_t j = 0; j < d; j++) {
            q[(uint64_t)r * tile->stride + j] = src[j] * op->scale;
        }
    }
    for (uint64_t t0 = tile->begin; t0 < tile->end; t0 += ATTEND_BLOCK) {
        const uint32_t m = (uint32_t)tl_min_u64(ATTEND_BLOCK, tile->end - t0);
        float shrink[ATTEND_FEW];
        few_scores(tile, q, t0, m, scores);
        for (uint32_t r = 0; r < tile->n; r++) {
            shrink[r] = few_weights(tile, r, t0, scores + (uint64_t)r * ATTEND_BLOCK);
        }
        few_mix(tile, t0, m, scores, shrink);
    }
}

/* sums[i][c] += sum over steps of a[i * a_row + step * a_step] * b[step * b_step + c]. */
VEC_INLINE void product(uint32_t n_vecs, const float *a, uint64_t a_row, uint64_t a_step,
                        const float *b, uint64_t b_step, uint32_t n_steps,
                        vec sums[MANY_ROWS][MANY_VECS]) {
    for (uint32_t step = 0; step < n_steps; step++, a += a_step, b += b_step) {
        vec right[MANY_VECS];
        VEC_UNROLL
        for (uint32_t c = 0; c < n_vecs; c++) {
            right[c] = vec_load(b + c * VEC_N);
        }
        VEC_UNROLL
        for (uint32_t i = 0; i < MANY_ROWS; i++) {
            const vec left = vec_all(a[i * a_row]);
            VEC_UNROLL
            for (uint32_t c = 0; c < n_vecs; c++) {
                sums[i][c] = vec_fma(left, right[c], sums[i][c]);
            }
        }
    }
}

/* What `many` keeps in tile->work. */
struct many {
    float *q;      /* (d, ATTEND_ROWS), scaled */
    float *k;      /* (ATTEND_BLOCK, d) */
    float *v;      /* (ATTEND_BLOCK, stride) */
    float *scores; /* (ATTEND_BLOCK, ATTEND_ROWS), then weights */
    float *shrink; /* (ATTEND_ROWS) */
};

VEC_INLINE void many_scores_part(uint32_t n_vecs, const struct many *w, uint32_t d, uint32_t m,
                                 uint32_t col) {
    for (uint32_t t = 0; t < m; t += MANY_ROWS) {
        vec sums[MANY_ROWS][MANY_VECS];
        VEC_UNROLL
        for (uint32_t i = 0; i < MANY_ROWS; i++) {
            VEC_UNROLL
            for (uint32_t c = 0; c < n_vecs; c++) {
                sums[i][c] = vec_zero();
            }
        }
        product(n_vecs, w->k + (uint64_t)t * d, d, 1, w->q + col, ATTEND_ROWS, d, sums);
        VEC_UNROLL
        for (uint32_t i = 0; i < MANY_ROWS; i++) {
            VEC_UNROLL
            for (uint32_t c = 0; c < n_vecs; c++) {
                vec_store(w->scores + (uint64_t)(t + i) * ATTEND_ROWS + col + c * VEC_N,
                          sums[i][c]);
            }
        }
    }
}

static void many_scores(const struct attend_tile *tile, const struct many *w, uint32_t m) {
    const uint32_t d = tile->op->kv.k.cols;
    for (uint32_t col = 0; col < tile->n; col += MANY_VECS * VEC_N) {
        switch (tl_div_up(tile->n - col, VEC_N)) {
        case 1: many_scores_part(1, w, d, m, col); break;
        case 2: many_scores_part(2, w, d, m, col); break;
        default: many_scores_part(MANY_VECS, w, d, m, col); break;
        }
    }
}

/* One vector of rows: their scores over the block become weights. */
static void many_weights(const struct attend_tile *tile, const struct many *w, uint64_t t0,
                         uint32_t m, uint32_t col, bool all_seen) {
    const float cap = tile->op->softcap;
    const veci first = veci_load(tile->first_of + col), end = veci_load(tile->end_of + col);
    float *const scores = w->scores + col;
    const vec old_most = vec_load(tile->most + col);
    vec most = old_most;
    for (uint32_t t = 0; t < m; t++) {
        float *const at = scores + (uint64_t)t * ATTEND_ROWS;
        vec s = vec_load(at);
        if (cap != 0.0f) {
            s = capped(s, cap);
        }
        if (!all_seen) {
            s = vec_within(s, veci_all((int32_t)(t0 + t)), first, end, vec_all(-INFINITY));
        }
        vec_store(at, s);
        most = vec_max(most, s);
    }
    const vec zero_at = vec_max(most, vec_all(-3e38f));
    vec sum = vec_zero();
    for (uint32_t t = 0; t < m; t++) {
        float *const at = scores + (uint64_t)t * ATTEND_ROWS;
        const vec weight = vec_exp(vec_sub(vec_load(at), zero_at));
        vec_store(at, weight);
        sum = vec_add(sum, weight);
    }
    const vec shrink = vec_exp(vec_sub(old_most, zero_at));
    vec_store(w->shrink + col, shrink);
    vec_store(tile->weights + col, vec_fma(vec_load(tile->weights + col), shrink, sum));
    vec_store(tile->most + col, most);
}

VEC_INLINE void many_mix_part(uint32_t n_vecs, const struct attend_tile *tile,
                              const struct many *w, uint32_t m, uint32_t j) {
    for (uint32_t row = 0; row < tile->n; row += MANY_ROWS) {
        vec sums[MANY_ROWS][MANY_VECS];
        float *const out = tile->sums + (uint64_t)row * tile->stride + j;
        VEC_UNROLL
        for (uint32_t i = 0; i < MANY_ROWS; i++) {
            VEC_UNROLL
            for (uint32_t c = 0; c < n_vecs; c++) {
                sums[i][c] = vec_mul(vec_load(out + (uint64_t)i * tile->stride + c * VEC_N),
                                     vec_all(w->shrink[row + i]));
            }
        }
        product(n_vecs, w->scores + row, 1, ATTEND_ROWS, w->v + j, tile->stride, m, sums);
        VEC_UNROLL
        for (uint32_t i = 0; i < MANY_ROWS; i++) {
            VEC_UNROLL
            for (uint32_t c = 0; c < n_vecs; c++) {
                vec_store(out + (uint64_t)i * tile->stride + c * VEC_N, sums[i][c]);
            }
        }
    }
}

static void many_mix(const struct attend_tile *tile, const struct many *w, uint32_t m) {
    for (uint32_t j = 0; j < tile->stride; j += MANY_VECS * VEC_N) {
        switch ((tile->stride - j) / VEC_N) {
        case 1: many_mix_part(1, tile, w, m, j); break;
        case 2: many_mix_part(2, tile, w, m, j); break;
        default: many_mix_part(MANY_VECS, tile, w, m, j); break;
        }
    }
}

/* dst (n_rows, stride) := the m rows at src, zeros behind each and below. */
static void widen(float *dst, uint32_t stride, const uint16_t *src, uint32_t d, uint32_t m,
                  uint32_t n_rows) {
    for (uint32_t t = 0; t < m; t++, src += d, dst += stride) {
        uint32_t j = 0;
        for (; j + VEC_N <= d; j += VEC_N) {
            vec_store(dst + j, vec_load_f16(src + j));
        }
        for (; j < stride; j += VEC_N) {
            const uint32_t n = j < d ? d - j : 0;
            vec_store_n(dst + j, vec_load_f16_n(src + j, n),
                        stride - j < VEC_N ? stride - j : VEC_N);
        }
    }
    memset(dst, 0, (uint64_t)(n_rows - m) * stride * sizeof *dst);
}

static bool sees_all(const struct attend_tile *tile, uint64_t t0, uint32_t m) {
    for (uint32_t r = 0; r < tile->n; r++) {
        if (tile->first_of[r] > (int32_t)t0 || tile->end_of[r] < (int32_t)(t0 + m)) {
            return false;
        }
    }
    return true;
}

static void attend_many(const struct attend_tile *tile) {
    const struct tl_attend *const op = tile->op;
    const uint32_t d = op->kv.k.cols;
    struct many w = {.q = tile->work};
    w.k = w.q + (uint64_t)ATTEND_ROWS * tile->stride;
    w.v = w.k + (uint64_t)ATTEND_BLOCK * tile->stride;
    w.scores = w.v + (uint64_t)ATTEND_BLOCK * tile->stride;
    w.shrink = w.scores + ATTEND_BLOCK * ATTEND_ROWS;
    clear_results(tile);
    for (uint32_t r = 0; r < ATTEND_ROWS; r++) {
        const float *const src = attend_query(tile, r < tile->n ? r : 0);
        for (uint32_t j = 0; j < d; j++) {
            w.q[(uint64_t)j * ATTEND_ROWS + r] = r < tile->n ? src[j] * op->scale : 0.0f;
        }
    }
    for (uint64_t t0 = tile->begin; t0 < tile->end; t0 += ATTEND_BLOCK) {
        const uint32_t m = (uint32_t)tl_min_u64(ATTEND_BLOCK, tile->end - t0);
        const uint32_t whole = (uint32_t)tl_align_up(m, MANY_ROWS);
        widen(w.k, d, cache_row(&op->kv.k, tile, t0), d, m, whole);
        widen(w.v, tile->stride, cache_row(&op->kv.v, tile, t0), d, m, m);
        many_scores(tile, &w, m);
        const bool all_seen = sees_all(tile, t0, m);
        for (uint32_t col = 0; col < tile->n; col += VEC_N) {
            many_weights(tile, &w, t0, m, col, all_seen);
        }
        many_mix(tile, &w, m);
    }
}

static bool attend(struct cpu_dev *dev, const struct tl_attend *op) {
    static const struct attend_kernels kernels = {attend_few, attend_many};
    return cpu_attend_tiled(dev, op, &kernels);
}
