/* The specification: every op of the seam in plain loops, accumulating in double and rounding once.
 * Other kernels, of this backend and of all others, are tested against these, so nothing here is
 * clever, and nothing depends on the number of threads: a thread computes whole outputs. These also
 * run where no faster version exists. The caller (backend.c) has checked every shape. */
#include "cpu.h"

#include <math.h>

enum {
    PIECE = 256,      /* weights decoded at a time: a multiple of every block */
    MATMUL_TILE = 16, /* rows of x that share one decoded piece */
};

static double cap_softly(double value, float cap) {
    return cap != 0.0f ? (double)cap * tanh(value / (double)cap) : value;
}

/* y[first .. first + n) [col] of one weight row. */
static void matmul_tile(const struct tl_matmul *op, uint32_t col, uint32_t first, uint32_t n) {
    const uint8_t *const w = cpu_row(&op->w, col);
    double sums[MATMUL_TILE] = {0};
    for (uint32_t at = 0; at < op->w.cols; at += PIECE) {
        const uint32_t len = op->w.cols - at < PIECE ? op->w.cols - at : PIECE;
        float piece[PIECE];
        tl_decode_row(op->w.dtype, w + tl_row_bytes(op->w.dtype, at), piece, len);
        for (uint32_t i = 0; i < n; i++) {
            const float *const x = (const float *)cpu_row(&op->x, first + i) + at;
            for (uint32_t j = 0; j < len; j++) {
                sums[i] += (double)x[j] * (double)piece[j];
            }
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        float *const y = (float *)cpu_row(&op->y, first + i) + col;
        double sum = sums[i] + (op->accumulate ? (double)*y : 0.0);
        if (op->bias.buf != NULL) {
            sum += (double)((const float *)cpu_row(&op->bias, 0))[col];
        }
        *y = (float)cap_softly(sum, op->softcap);
    }
}

static void matmul_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_matmul *const op = arg;
    uint64_t begin, end;
    cpu_slice(op->w.rows, thread, n_threads, &begin, &end);
    for (uint64_t col = begin; col < end; col++) {
        for (uint32_t i = 0; i < op->x.rows; i += MATMUL_TILE) {
            const uint32_t n = op->x.rows - i < MATMUL_TILE ? op->x.rows - i : MATMUL_TILE;
            matmul_tile(op, (uint32_t)col, i, n);
        }
    }
}

bool cpu_matmul_plain(struct cpu_dev *dev, const struct tl_matmul *op) {
    struct tl_matmul copy = *op;
    cpu_share(dev, matmul_job, &copy, (uint64_t)op->w.rows * op->w.cols * op->x.rows);
    return true;
}

static void rmsnorm_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_rmsnorm *const op = arg;
    const float *const w = cpu_row(&op->w, 0);
    uint64_t begin, end;
    cpu_slice(op->x.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *const x = cpu_row(&op->x, i);
        float *const y = cpu_row(&op->y, i);
        double squares = 0.0;
        for (uint32_t j = 0; j < op->x.cols; j++) {
            squares += (double)x[j] * (double)x[j];
        }
        const double scale = 1.0 / sqrt(squares / op->x.cols + (double)op->eps);
        for (uint32_t j = 0; j < op->x.cols; j++) {
            const double value = (double)x[j] * scale * (double)w[j];
            y[j] = (float)(op->accumulate ? (double)y[j] + value : value);
        }
    }
}

static void rmsnorm(struct cpu_dev *dev, const struct tl_rmsnorm *op) {
    struct tl_rmsnorm copy = *op;
    cpu_share(dev, rmsnorm_job, &copy, (uint64_t)op->x.rows * op->x.cols);
}

static void rope_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_rope *const op = arg;
    const float *const inv_freq = cpu_row(&op->inv_freq, 0);
    const int32_t *const pos = cpu_row(&op->pos, 0);
    const uint32_t n_pairs = op->inv_freq.cols;
    const bool half = op->pairing == TL_PAIR_HALF;
    uint64_t begin, end;
    cpu_slice(op->x.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        float *const row = cpu_row(&op->x, i);
        for (uint32_t j = 0; j < n_pairs; j++) {
            const double angle = (double)pos[i] * (double)inv_freq[j];
            const double c = cos(angle) * (double)op->scale;
            const double s = sin(angle) * (double)op->scale;
            for (uint32_t at = 0; at < op->x.cols; at += op->head_dim) {
                float *const a = row + at + (half ? j : 2 * j);
                float *const b = row + at + (half ? j + n_pairs : 2 * j + 1);
                const double a_was = (double)*a, b_was = (double)*b;
                *a = (float)(a_was * c - b_was * s);
                *b = (float)(a_was * s + b_was * c);
            }
        }
    }
}

static void rope(struct cpu_dev *dev, const struct tl_rope *op) {
    struct tl_rope copy = *op;
    cpu_share(dev, rope_job, &copy, (uint64_t)op->x.rows * op->x.cols);
}

/* 0.5 (1 + tanh u) is the sigmoid of 2 u, which loses nothing where tanh nears -1. */
static double activate(tl_act act, double x) {
    const double two_sqrt_2_over_pi = 1.5957691216057307;
    const double arg = act == TL_ACT_SILU ? x : two_sqrt_2_over_pi * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(-arg));
}

static void glu_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_glu *const op = arg;
    const float *const gate = cpu_row(&op->gate, 0), *const up = cpu_row(&op->up, 0);
    float *const y = cpu_row(&op->y, 0);
    uint64_t begin, end;
    cpu_slice((uint64_t)op->y.rows * op->y.cols, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        y[i] = (float)(activate(op->act, (double)gate[i]) * (double)up[i]);
    }
}

static void glu(struct cpu_dev *dev, const struct tl_glu *op) {
    struct tl_glu copy = *op;
    cpu_share(dev, glu_job, &copy, (uint64_t)op->y.rows * op->y.cols);
}

static void encode_head(const tl_view *dst, uint64_t row, const float *src) {
    const bool known = tl_encode_row(dst->dtype, src, cpu_row(dst, row), dst->cols);
    TL_ASSERT(known);
}

static void kv_encode_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_kv_encode *const op = arg;
    const int32_t *const slot = cpu_row(&op->slot, 0);
    const uint32_t head_dim = op->dst.k.cols;
    const uint64_t cap = op->dst.k.rows / op->dst.n_kv_heads;
    uint64_t begin, end;
    cpu_slice(op->k.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        for (uint32_t h = 0; h < op->dst.n_kv_heads; h++) {
            const uint64_t row = h * cap + (uint64_t)slot[i];
            encode_head(&op->dst.k, row, (const float *)cpu_row(&op->k, i) + h * head_dim);
            encode_head(&op->dst.v, row, (const float *)cpu_row(&op->v, i) + h * head_dim);
        }
    }
}

void cpu_kv_encode_plain(struct cpu_dev *dev, const struct tl_kv_encode *op) {
    struct tl_kv_encode copy = *op;
    cpu_share(dev, kv_encode_job, &copy, 2 * (uint64_t)op->k.rows * op->k.cols);
}

/* One query head over rows [first, end) of its KV head; the running maximum keeps exp in range. */
static void attend_head(const struct tl_attend *op, uint32_t i, uint32_t h, uint64_t first,
                        uint64_t end) {
    const uint32_t d = op->kv.k.cols;
    const uint64_t cap = op->kv.k.rows / op->kv.n_kv_heads;
    const uint64_t base = h / (op->n_heads / op->kv.n_kv_heads) * cap;
    const float *const q = (const float *)cpu_row(&op->q, i) + (uint64_t)h * d;
    float *const out = (float *)cpu_row(&op->out, i) + (uint64_t)h * d;
    double sums[TL_HEAD_DIM_MAX] = {0}, weights = 0.0, most = -(double)INFINITY;
    for (uint64_t t = first; t < end; t++) {
        float row[TL_HEAD_DIM_MAX];
        tl_decode_row(op->kv.k.dtype, cpu_row(&op->kv.k, base + t), row, d);
        double score = 0.0;
        for (uint32_t j = 0; j < d; j++) {
            score += (double)q[j] * (double)row[j];
        }
        score = cap_softly(score * (double)op->scale, op->softcap);
        if (score > most) {
            const double shrink = exp(most - score);
            weights *= shrink;
            for (uint32_t j = 0; j < d; j++) {
                sums[j] *= shrink;
            }
            most = score;
        }
        const double weight = exp(score - most);
        weights += weight;
        tl_decode_row(op->kv.v.dtype, cpu_row(&op->kv.v, base + t), row, d);
        for (uint32_t j = 0; j < d; j++) {
            sums[j] += weight * (double)row[j];
        }
    }
    for (uint32_t j = 0; j < d; j++) {
        out[j] = weights > 0.0 ? (float)(sums[j] / weights) : 0.0f;
    }
    if (op->lse.buf != NULL) {
        ((float *)cpu_row(&op->lse, i))[h] = (float)(most + log(weights));
    }
}

void cpu_rows_seen(const struct tl_attend *op, uint32_t i, uint64_t *first, uint64_t *end) {
    const int64_t n_rows = ((const int32_t *)cpu_row(&op->n_rows, 0))[0];
    const int64_t pos = ((const int32_t *)cpu_row(&op->q_pos, 0))[i];
    const int64_t last = pos + 1 < n_rows ? pos + 1 : n_rows;
    const int64_t oldest = op->window != 0 ? pos + 1 - (int64_t)op->window : 0;
    *end = last > 0 ? (uint64_t)last : 0;
    *first = oldest > 0 ? tl_min_u64((uint64_t)oldest, *end) : 0;
}

static void attend_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_attend *const op = arg;
    for (uint64_t item = thread; item < (uint64_t)op->q.rows * op->n_heads; item += n_threads) {
        const uint32_t i = (uint32_t)(item / op->n_heads), h = (uint32_t)(item % op->n_heads);
        uint64_t first, end;
        cpu_rows_seen(op, i, &first, &end);
        attend_head(op, i, h, first, end);
    }
}

bool cpu_attend_plain(struct cpu_dev *dev, const struct tl_attend *op) {
    struct tl_attend copy = *op;
    cpu_share(dev, attend_job, &copy, UINT64_MAX);
    return true;
}

void cpu_init_plain(struct cpu_kernels *k) {
    *k = (struct cpu_kernels){.name = "plain",
                              .matmul = cpu_matmul_plain,
                              .rmsnorm = rmsnorm,
                              .glu = glu,
                              .rope = rope,
                              .kv_encode = cpu_kv_encode_plain,
                              .attend = cpu_attend_plain,
                              .compress = cpu_compress_plain,
                              .key_score = cpu_key_score_plain,
                              .topk = cpu_topk_plain,
                              .attend_sketch = cpu_attend_sketch_plain,
                              .attend_slots = cpu_attend_slots_plain,
                              .mass = cpu_mass_plain,
                              .channel_score = cpu_channel_score_plain,
                              .page_score = cpu_page_score_plain};
}
