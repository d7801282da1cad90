/* The row ops for one vector width; included once by each of x86_avx2.c and x86_avx512.c. They split
 * their rows (or elements) between threads and compute each the same way whoever has it, so results
 * do not depend on the number of threads. Sums are in float over many lanes: error 1e-6 at most. */
#include "cpu.h"
#include "x86_vec.h"

#include <math.h>

static float sum_of_squares(const float *x, uint32_t n) {
    vec sums[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
    uint32_t j = 0;
    for (; j + 4 * VEC_N <= n; j += 4 * VEC_N) {
        VEC_UNROLL
        for (uint32_t u = 0; u < 4; u++) {
            const vec v = vec_load(x + j + u * VEC_N);
            sums[u] = vec_fma(v, v, sums[u]);
        }
    }
    for (; j < n; j += VEC_N) {
        const vec v = vec_load_n(x + j, n - j < VEC_N ? n - j : VEC_N);
        sums[0] = vec_fma(v, v, sums[0]);
    }
    return vec_sum(vec_add(vec_add(sums[0], sums[1]), vec_add(sums[2], sums[3])));
}

static void rmsnorm_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_rmsnorm *const op = arg;
    const uint32_t d = op->x.cols;
    const float *const w = cpu_row(&op->w, 0);
    uint64_t begin, end;
    cpu_slice(op->x.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *const x = cpu_row(&op->x, i);
        float *const y = cpu_row(&op->y, i);
        const vec scale = vec_all(1.0f / sqrtf(sum_of_squares(x, d) / (float)d + op->eps));
        for (uint32_t j = 0; j < d; j += VEC_N) {
            const uint32_t n = d - j < VEC_N ? d - j : VEC_N;
            const vec value = vec_mul(vec_mul(vec_load_n(x + j, n), scale), vec_load_n(w + j, n));
            vec_store_n(y + j, op->accumulate ? vec_add(vec_load_n(y + j, n), value) : value, n);
        }
    }
}

static void rmsnorm(struct cpu_dev *dev, const struct tl_rmsnorm *op) {
    struct tl_rmsnorm copy = *op;
    cpu_share(dev, rmsnorm_job, &copy, (uint64_t)op->x.rows * op->x.cols);
}

/* x * sigmoid(x), and for the tanh form of gelu x * sigmoid(2 u), which is the same number. */
VEC_INLINE vec activate(tl_act act, vec x) {
    vec arg = x;
    if (act == TL_ACT_GELU_TANH) {
        const vec cubic = vec_fma(vec_mul(x, x), vec_all(0.044715f), vec_all(1.0f));
        arg = vec_mul(vec_mul(x, vec_all(1.5957691216f)), cubic); /* 2 sqrt(2 / pi) */
    }
    return vec_div(x, vec_add(vec_all(1.0f), vec_exp(vec_sub(vec_zero(), arg))));
}

static void glu_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_glu *const op = arg;
    const float *const gate = cpu_row(&op->gate, 0), *const up = cpu_row(&op->up, 0);
    float *const y = cpu_row(&op->y, 0);
    const uint64_t n_elems = (uint64_t)op->y.rows * op->y.cols;
    uint64_t begin, end;
    cpu_slice(tl_div_up(n_elems, VEC_N), thread, n_threads, &begin, &end);
    for (uint64_t i = begin * VEC_N; i < end * VEC_N; i += VEC_N) {
        const uint32_t n = (uint32_t)tl_min_u64(VEC_N, n_elems - i);
        const vec value = activate(op->act, vec_load_n(gate + i, n));
        vec_store_n(y + i, vec_mul(value, vec_load_n(up + i, n)), n);
    }
}

static void glu(struct cpu_dev *dev, const struct tl_glu *op) {
    struct tl_glu copy = *op;
    cpu_share(dev, glu_job, &copy, (uint64_t)op->y.rows * op->y.cols);
}

/* Room for the turns of one row, whole vectors. */
struct turns {
    float cos[TL_HEAD_DIM_MAX / 2 + VEC_N];
    float sin[TL_HEAD_DIM_MAX / 2 + VEC_N];
};

static void row_turns(const struct tl_rope *op, int32_t pos, struct turns *out) {
    const float *const inv_freq = cpu_row(&op->inv_freq, 0);
    const uint32_t n_pairs = op->inv_freq.cols;
    for (uint32_t j = 0; j < n_pairs; j += VEC_N) {
        const uint32_t n = n_pairs - j < VEC_N ? n_pairs - j : VEC_N;
        vec quarter, s, c;
        const vec rest = vec_angle((double)pos, vec_load_n(inv_freq + j, n), &quarter);
        vec_sin_cos(rest, &s, &c);
        vec_turn(quarter, &s, &c);
        vec_store(out->cos + j, vec_mul(c, vec_all(op->scale)));
        vec_store(out->sin + j, vec_mul(s, vec_all(op->scale)));
    }
}

static void turn_halves(float *head, const struct turns *turns, uint32_t n_pairs) {
    for (uint32_t j = 0; j < n_pairs; j += VEC_N) {
        const uint32_t n = n_pairs - j < VEC_N ? n_pairs - j : VEC_N;
        const vec a = vec_load_n(head + j, n), b = vec_load_n(head + n_pairs + j, n);
        const vec c = vec_load(turns->cos + j), s = vec_load(turns->sin + j);
        vec_store_n(head + j, vec_fnma(b, s, vec_mul(a, c)), n);
        vec_store_n(head + n_pairs + j, vec_fma(a, s, vec_mul(b, c)), n);
    }
}

static void turn_neighbours(float *head, const struct turns *turns, uint32_t n_pairs) {
    float signs[VEC_N];
    for (uint32_t u = 0; u < VEC_N; u++) {
        signs[u] = u % 2 == 0 ? -1.0f : 1.0f;
    }
    const vec sign = vec_load(signs);
    for (uint32_t j = 0; j < n_pairs; j += VEC_N) {
        vec c[2], s[2];
        vec_twice(vec_load(turns->cos + j), &c[0], &c[1]);
        vec_twice(vec_load(turns->sin + j), &s[0], &s[1]);
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t at = 2 * j + half * VEC_N;
            const uint32_t left = at < 2 * n_pairs ? 2 * n_pairs - at : 0;
            const uint32_t n = left < VEC_N ? left : VEC_N;
            const vec x = vec_load_n(head + at, n);
            const vec turned =
                vec_fma(vec_swap(x), vec_mul(s[half], sign), vec_mul(x, c[half]));
            vec_store_n(head + at, turned, n);
        }
    }
}

static void rope_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_rope *const op = arg;
    const int32_t *const pos = cpu_row(&op->pos, 0);
    uint64_t begin, end;
    cpu_slice(op->x.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        float *const row = cpu_row(&op->x, i);
        struct turns turns;
        row_turns(op, pos[i], &turns);
        for (uint32_t at = 0; at < op->x.cols; at += op->head_dim) {
            if (op->pairing == TL_PAIR_HALF) {
                turn_halves(row + at, &turns, op->inv_freq.cols);
            } else {
                turn_neighbours(row + at, &turns, op->inv_freq.cols);
            }
        }
    }
}

static void rope(struct cpu_dev *dev, const struct tl_rope *op) {
    struct tl_rope copy = *op;
    cpu_share(dev, rope_job, &copy, (uint64_t)op->x.rows * op->x.cols);
}

static void encode_f16(uint16_t *dst, const float *src, uint32_t n_elems) {
    for (uint32_t j = 0; j < n_elems; j += VEC_N) {
        const uint32_t n = n_elems - j < VEC_N ? n_elems - j : VEC_N;
        vec_store_f16_n(dst + j, vec_load_n(src + j, n), n);
    }
}

static void kv_encode_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_kv_encode *const op = arg;
    const int32_t *const slot = cpu_row(&op->slot, 0);
    const uint32_t d = op->dst.k.cols;
    const uint64_t cap = op->dst.k.rows / op->dst.n_kv_heads;
    uint64_t begin, end;
    cpu_slice(op->k.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *const k = cpu_row(&op->k, i), *const v = cpu_row(&op->v, i);
        for (uint32_t h = 0; h < op->dst.n_kv_heads; h++) {
            const uint64_t row = h * cap + (uint64_t)slot[i];
            encode_f16(cpu_row(&op->dst.k, row), k + (uint64_t)h * d, d);
            encode_f16(cpu_row(&op->dst.v, row), v + (uint64_t)h * d, d);
        }
    }
}

static void kv_encode(struct cpu_dev *dev, const struct tl_kv_encode *op) {
    if (op->dst.k.dtype != TL_F16 || op->dst.v.dtype != TL_F16) {
        cpu_kv_encode_plain(dev, op);
        return;
    }
    struct tl_kv_encode copy = *op;
    cpu_share(dev, kv_encode_job, &copy, 2 * (uint64_t)op->k.rows * op->k.cols);
}
