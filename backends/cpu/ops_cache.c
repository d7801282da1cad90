/* The specification of the hybrid cache's verbs, like ops.c: plain loops, double accumulation, one
 * rounding. Compressed blocks are decoded by codec.c into scratch, a block for each thread, so
 * these can fail where memory is out, and return false then. Nothing depends on the number of
 * threads: a thread computes whole outputs, and counts are sums of integers. */
#include "books.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

double cpu_cap_softly(double value, float cap) {
    return cap != 0.0f ? (double)cap * tanh(value / (double)cap) : value;
}

static int32_t first_int(const tl_view *v) { return ((const int32_t *)cpu_row(v, 0))[0]; }

uint32_t cpu_blocks_seen(const tl_view *n_blocks) {
    const int32_t n = first_int(n_blocks);
    return n > 0 ? (uint32_t)n : 0;
}

/* An op with a piece of scratch for each thread. */
struct job {
    const void *op;
    float *room;
    uint64_t room_floats;
    struct cpu_books books;   /* ops on sketches */
    tl_vq_search *search;     /* compress */
    atomic_uint hits, misses; /* fetch */
};

/* Shares the job with room for so many floats a thread, and the codebooks of a sketch where there
 * is one; false where there is no memory for it. */
static bool share(struct cpu_dev *dev, cpu_job *run, const void *op, const struct tl_sketch *sketch,
                  uint64_t room_floats, uint64_t n_elems, struct job *job) {
    job->op = op;
    job->room_floats = tl_align_up(room_floats, 16);
    const uint64_t of_threads = job->room_floats * cpu_pool_n(dev->pool);
    const uint64_t of_books = sketch != NULL ? cpu_books_floats(sketch) : 0;
    job->room = cpu_scratch(dev, (of_threads + of_books) * sizeof(float));
    if (job->room == NULL) {
        return false;
    }
    if (sketch != NULL) {
        cpu_books_open(&job->books, sketch, job->room + of_threads);
    }
    cpu_share(dev, run, job, n_elems);
    return true;
}

static float *room_of(const struct job *job, uint32_t thread) {
    return job->room + thread * job->room_floats;
}

static void decode_rows(const tl_view *v, uint64_t first, float *rows) {
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        tl_decode_row(v->dtype, cpu_row(v, first + t), rows + (uint64_t)t * v->cols, v->cols);
    }
}

static void compress_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct job *const job = arg;
    const struct tl_compress *const op = job->op;
    const struct tl_sketch *const dst = &op->dst;
    const uint64_t src_cap = op->src.k.rows / dst->n_kv_heads;
    const uint64_t dst_cap = dst->k.rows / dst->n_kv_heads;
    float *const rows = room_of(job, thread);
    uint64_t begin, end;
    cpu_slice((uint64_t)op->n_blocks * dst->n_kv_heads, thread, n_threads, &begin, &end);
    for (uint64_t item = begin; item < end; item++) {
        const uint64_t i = item / dst->n_kv_heads, h = item % dst->n_kv_heads;
        const uint64_t from = h * src_cap + op->src_row + i * TL_BLOCK;
        const uint64_t to = h * dst_cap + op->dst_block + i;
        decode_rows(&op->src.k, from, rows);
        cpu_encode_keys(dst, &job->books, (uint32_t)h, op->fit, rows, job->search,
                        cpu_row(&dst->k, to));
        decode_rows(&op->src.v, from, rows);
        cpu_encode_values(dst, &job->books, op->fit, rows, job->search, cpu_row(&dst->v, to));
    }
}

bool cpu_compress_by(struct cpu_dev *dev, const struct tl_compress *op, tl_vq_search *search) {
    struct job job = {.search = search};
    const uint64_t block = (uint64_t)TL_BLOCK * op->dst.head_dim;
    const uint64_t n_blocks = (uint64_t)op->n_blocks * op->dst.n_kv_heads;
    return share(dev, compress_job, op, &op->dst, block, n_blocks * block * 2, &job);
}

bool cpu_compress_plain(struct cpu_dev *dev, const struct tl_compress *op) {
    return cpu_compress_by(dev, op, tl_vq_nearest);
}

static double score_of(const float *q, const float *key, uint32_t d, float scale, float softcap) {
    double sum = 0.0;
    for (uint32_t j = 0; j < d; j++) {
        sum += (double)q[j] * (double)key[j];
    }
    return cpu_cap_softly(sum * (double)scale, softcap);
}

static void key_score_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct job *const job = arg;
    const struct tl_key_score *const op = job->op;
    const struct tl_sketch *const k = &op->sketch;
    const uint32_t d = k->head_dim, group = op->n_heads / k->n_kv_heads;
    const uint64_t n_blocks = cpu_blocks_seen(&op->n_blocks), cap = k->k.rows / k->n_kv_heads;
    float *const rows = room_of(job, thread);
    uint64_t begin, end;
    cpu_slice(n_blocks * k->n_kv_heads, thread, n_threads, &begin, &end);
    for (uint64_t item = begin; item < end; item++) {
        const uint64_t kv_head = item / n_blocks, b = item % n_blocks;
        cpu_decode_keys(k, &job->books, (uint32_t)kv_head, cpu_row(&k->k, kv_head * cap + b), rows);
        for (uint64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
            const float *const q = (const float *)cpu_row(&op->q, 0) + h * d;
            float *const score = (float *)cpu_row(&op->score, h) + b * TL_BLOCK;
            for (uint64_t t = 0; t < TL_BLOCK; t++) {
                score[t] = (float)score_of(q, rows + t * d, d, op->scale, op->softcap);
            }
        }
    }
}

bool cpu_key_score_plain(struct cpu_dev *dev, const struct tl_key_score *op) {
    struct job job = {.op = NULL};
    return share(dev, key_score_job, op, &op->sketch, (uint64_t)TL_BLOCK * op->sketch.head_dim,
                 UINT64_MAX, &job);
}

/* What top-k compares: fmaxf and the comparisons pass over NaNs. */
static float value_of(const struct tl_topk *op, uint32_t kv_head, const float *most, uint32_t t) {
    const uint32_t group = op->score.rows / op->idx.rows;
    float value = NAN;
    for (uint32_t h = 0; h < group; h++) {
        const float *const score = cpu_row(&op->score, (uint64_t)kv_head * group + h);
        value = fmaxf(value, score[t] - most[h]);
    }
    return value;
}

/* Lets the smallest of a heap's n values, which stands at 0, sink to where it belongs. */
static void sink(float *heap, uint32_t n) {
    for (uint32_t at = 0; 2 * at + 1 < n;) {
        uint32_t least = 2 * at + 1;
        least += least + 1 < n && heap[least + 1] < heap[least];
        if (heap[at] <= heap[least]) {
            return;
        }
        const float value = heap[at];
        heap[at] = heap[least];
        heap[least] = value;
        at = least;
    }
}

/* The k-th best value, or -inf where there are not as many; heap has room for k. */
static float bar_of(const struct tl_topk *op, uint32_t kv_head, const float *most, uint32_t n_rows,
                    float *heap) {
    const uint32_t k = op->idx.cols;
    for (uint32_t i = 0; i < k; i++) {
        heap[i] = -INFINITY;
    }
    for (uint32_t t = 0; t < n_rows; t++) {
        const float value = value_of(op, kv_head, most, t);
        if (value > heap[0]) {
            heap[0] = value;
            sink(heap, k);
        }
    }
    return heap[0];
}

static void topk_head(const struct tl_topk *op, uint32_t kv_head, float *room) {
    const uint32_t k = op->idx.cols, group = op->score.rows / op->idx.rows;
    const int32_t n = first_int(&op->n_rows);
    const uint32_t n_rows = n > 0 ? (uint32_t)n : 0;
    int32_t *const idx = cpu_row(&op->idx, kv_head);
    float *const most = room + k;
    for (uint32_t h = 0; h < group; h++) {
        const uint64_t head = (uint64_t)kv_head * group + h;
        const float *const score = cpu_row(&op->score, head);
        most[h] = op->base.buf != NULL ? ((const float *)cpu_row(&op->base, 0))[head] : NAN;
        for (uint32_t t = 0; t < n_rows; t++) {
            most[h] = fmaxf(most[h], score[t]);
        }
    }
    const float bar = bar_of(op, kv_head, most, n_rows, room);
    uint32_t n_equal = k;
    for (uint32_t i = 0; i < k; i++) {
        n_equal -= room[i] > bar;
    }
    uint32_t n_chosen = 0;
    for (uint32_t t = 0; t < n_rows && n_chosen < k; t++) {
        const float value = value_of(op, kv_head, most, t);
        if (value > bar || (value == bar && n_equal > 0 && bar > -INFINITY)) {
            n_equal -= value == bar;
            idx[n_chosen++] = (int32_t)t;
        }
    }
    for (uint32_t i = n_chosen; i < k; i++) {
        idx[i] = -1;
    }
}

static void topk_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct job *const job = arg;
    const struct tl_topk *const op = job->op;
    for (uint32_t h = thread; h < op->idx.rows; h += n_threads) {
        topk_head(op, h, room_of(job, thread));
    }
}

bool cpu_topk_plain(struct cpu_dev *dev, const struct tl_topk *op) {
    struct job job = {.op = NULL};
    const uint64_t room = (uint64_t)op->idx.cols + op->score.rows / op->idx.rows;
    return share(dev, topk_job, op, NULL, room, UINT64_MAX, &job);
}

/* A softmax that grows row by row: its scores' largest keeps exp in range. */
struct mix {
    double sums[TL_HEAD_DIM_MAX], weights, most;
};

static void mix_row(struct mix *m, double score, const float *value, uint32_t d) {
    if (score > m->most) {
        const double shrink = exp(m->most - score);
        m->weights *= shrink;
        for (uint32_t j = 0; j < d; j++) {
            m->sums[j] *= shrink;
        }
        m->most = score;
    }
    const double weight = exp(score - m->most);
    m->weights += weight;
    for (uint32_t j = 0; j < d; j++) {
        m->sums[j] += weight * (double)value[j];
    }
}

static void mix_end(const struct mix *m, float *out, float *lse, uint32_t d) {
    for (uint32_t j = 0; j < d; j++) {
        out[j] = m->weights > 0.0 ? (float)(m->sums[j] / m->weights) : 0.0f;
    }
    *lse = (float)(m->most + log(m->weights));
}

/* Query i of head h over all blocks; room for a block of keys and one of values. */
static void sketch_head(const struct tl_attend_sketch *op, const struct cpu_books *books,
                        uint32_t i, uint32_t h, float *room) {
    const struct tl_sketch *const k = &op->sketch;
    const uint32_t d = k->head_dim, kv_head = h / (op->n_heads / k->n_kv_heads);
    const uint64_t first = (uint64_t)kv_head * (k->k.rows / k->n_kv_heads);
    const uint32_t n_blocks = cpu_blocks_seen(&op->n_blocks);
    const float *const q = (const float *)cpu_row(&op->q, i) + (uint64_t)h * d;
    const float *const given = op->score.buf != NULL ? cpu_row(&op->score, h) : NULL;
    const int32_t *const skip = op->skip.buf != NULL ? cpu_row(&op->skip, kv_head) : NULL;
    float *const values = room + (uint64_t)TL_BLOCK * d;
    struct mix m = {.most = -(double)INFINITY};
    uint32_t n_skipped = 0;
    for (uint32_t b = 0; b < n_blocks; b++) {
        cpu_decode_keys(k, books, kv_head, cpu_row(&k->k, first + b), room);
        cpu_decode_values(k, books, cpu_row(&k->v, first + b), values);
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            const uint32_t row = b * TL_BLOCK + t;
            if (skip != NULL && n_skipped < op->skip.cols && skip[n_skipped] == (int32_t)row) {
                n_skipped++;
                continue;
            }
            const float *const key = room + (uint64_t)t * d;
            const double score =
                given != NULL ? (double)given[row] : score_of(q, key, d, op->scale, op->softcap);
            mix_row(&m, score, values + (uint64_t)t * d, d);
        }
    }
    mix_end(&m, (float *)cpu_row(&op->out, i) + (uint64_t)h * d, (float *)cpu_row(&op->lse, i) + h,
            d);
}

static void attend_sketch_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct job *const job = arg;
    const struct tl_attend_sketch *const op = job->op;
    for (uint64_t item = thread; item < (uint64_t)op->q.rows * op->n_heads; item += n_threads) {
        sketch_head(op, &job->books, (uint32_t)(item / op->n_heads), (uint32_t)(item % op->n_heads),
                    room_of(job, thread));
    }
}

bool cpu_attend_sketch_plain(struct cpu_dev *dev, const struct tl_attend_sketch *op) {
    struct job job = {.op = NULL};
    return share(dev, attend_sketch_job, op, &op->sketch, 2ull * TL_BLOCK * op->sketch.head_dim,
                 UINT64_MAX, &job);
}

static void slots_head(const struct tl_attend_slots *op, uint32_t h) {
    const uint32_t d = op->kv.k.cols, kv_head = h / (op->n_heads / op->kv.n_kv_heads);
    const uint64_t first = (uint64_t)kv_head * (op->kv.k.rows / op->kv.n_kv_heads);
    const float *const q = (const float *)cpu_row(&op->q, 0) + (uint64_t)h * d;
    const int32_t *const slot = cpu_row(&op->slot, kv_head);
    struct mix m = {.most = -(double)INFINITY};
    for (uint32_t j = 0; j < op->slot.cols; j++) {
        if (slot[j] < 0) {
            continue;
        }
        float row[TL_HEAD_DIM_MAX];
        const uint64_t at = first + op->row0 + (uint64_t)slot[j];
        tl_decode_row(op->kv.k.dtype, cpu_row(&op->kv.k, at), row, d);
        const double score = score_of(q, row, d, op->scale, op->softcap);
        tl_decode_row(op->kv.v.dtype, cpu_row(&op->kv.v, at), row, d);
        mix_row(&m, score, row, d);
    }
    mix_end(&m, (float *)cpu_row(&op->out, 0) + (uint64_t)h * d, (float *)cpu_row(&op->lse, 0) + h,
            d);
}

static void attend_slots_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_attend_slots *const op = arg;
    for (uint32_t h = thread; h < op->n_heads; h += n_threads) {
        slots_head(op, h);
    }
}

bool cpu_attend_slots_plain(struct cpu_dev *dev, const struct tl_attend_slots *op) {
    struct tl_attend_slots copy = *op;
    cpu_share(dev, attend_slots_job, &copy, (uint64_t)op->slot.cols * op->q.cols * 2);
    return true;
}

/* A head's clock; slots wanted by this very op are marked 2 until it is done. */
struct clock {
    int32_t *owner, *used;
    uint32_t n_slots, hand;
};

/* The slot that a row takes from another. */
static int32_t take_slot(struct clock *c, int32_t row) {
    for (;;) {
        const uint32_t s = c->hand;
        c->hand = s + 1 < c->n_slots ? s + 1 : 0;
        if (c->used[s] == 0) {
            c->owner[s] = row;
            c->used[s] = 2;
            return (int32_t)s;
        }
        c->used[s] = c->used[s] == 2 ? 2 : 0;
    }
}

static void copy_row(const tl_view *dst, uint64_t to, const tl_view *src, uint64_t from) {
    memcpy(cpu_row(dst, to), cpu_row(src, from), (size_t)tl_row_bytes(src->dtype, src->cols));
}

/* Marks the slots that hold a wanted row and says where the rows are; returns how many. */
static uint32_t find_rows(const struct clock *c, const int32_t *idx, int32_t *slot, uint32_t k) {
    uint32_t n_some = 0, n_hits = 0;
    for (uint32_t j = 0; j < k; j++) {
        n_some += idx[j] >= 0;
        slot[j] = -1;
    }
    for (uint32_t s = 0; s < c->n_slots && n_some > 0; s++) {
        const int32_t *at = idx; /* the last of the ascending rows that is at most the owner */
        for (uint32_t n = n_some; n > 1; n -= n / 2) {
            at += at[n / 2] <= c->owner[s] ? n / 2 : 0;
        }
        if (*at == c->owner[s]) {
            slot[at - idx] = (int32_t)s;
            c->used[s] = 2;
            n_hits++;
        }
    }
    return n_hits;
}

/* Returns how many rows were copied; *n_hits: how many were there. */
static uint32_t fetch_head(const struct tl_fetch *op, uint32_t h, uint32_t *n_hits) {
    const uint32_t k = op->idx.cols, n_slots = op->owner.cols;
    const uint64_t cap = op->home.k.rows / op->home.n_kv_heads;
    const int32_t *const idx = cpu_row(&op->idx, h);
    int32_t *const slot = cpu_row(&op->slot, h), *const hand = cpu_row(&op->hand, h);
    struct clock c = {cpu_row(&op->owner, h), cpu_row(&op->used, h), n_slots,
                      *hand > 0 ? (uint32_t)*hand - 1 : 0};
    uint32_t n_copied = 0;
    for (uint32_t s = 0; *hand == 0 && s < n_slots; s++) {
        c.owner[s] = -1;
        c.used[s] = 0;
    }
    *n_hits += find_rows(&c, idx, slot, k);
    for (uint32_t j = 0; j < k; j++) {
        if (idx[j] >= 0 && slot[j] < 0) {
            slot[j] = take_slot(&c, idx[j]);
            const uint64_t to = (uint64_t)h * n_slots + (uint64_t)slot[j];
            const uint64_t from = h * cap + op->row0 + (uint64_t)idx[j];
            copy_row(&op->hot.k, to, &op->home.k, from);
            copy_row(&op->hot.v, to, &op->home.v, from);
            n_copied++;
        }
    }
    for (uint32_t j = 0; j < k; j++) {
        if (slot[j] >= 0) {
            c.used[slot[j]] = 1;
        }
    }
    *hand = (int32_t)c.hand + 1;
    return n_copied;
}

static void fetch_job(void *arg, uint32_t thread, uint32_t n_threads) {
    struct job *const job = arg;
    const struct tl_fetch *const op = job->op;
    uint32_t n_hits = 0, n_copied = 0;
    for (uint32_t h = thread; h < op->idx.rows; h += n_threads) {
        n_copied += fetch_head(op, h, &n_hits);
    }
    atomic_fetch_add(&job->hits, n_hits);
    atomic_fetch_add(&job->misses, n_copied);
}

/* Integers and copies: no instruction set does better. */
void cpu_fetch(struct cpu_dev *dev, const struct tl_fetch *op) {
    struct job job = {.op = op};
    int32_t *const counts = cpu_row(&op->counts, 0);
    cpu_share(dev, fetch_job, &job, (uint64_t)op->idx.rows * op->idx.cols * op->hot.k.cols);
    counts[0] += (int32_t)atomic_load(&job.hits);
    counts[1] += (int32_t)atomic_load(&job.misses);
}

static void merge_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_merge *const op = arg;
    const uint32_t n_heads = op->lse.cols, d = op->out.cols / n_heads;
    uint64_t begin, end;
    cpu_slice((uint64_t)op->lse.rows * n_heads, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        float *const lse = (float *)cpu_row(&op->lse, 0) + i;
        const double a = (double)*lse, b = (double)((const float *)cpu_row(&op->lse_b, 0))[i];
        const double most = fmax(a, b);
        if (most == -(double)INFINITY) {
            continue; /* nothing joined with nothing: zeros already */
        }
        const double of_a = exp(a - most), of_b = exp(b - most), both = of_a + of_b;
        float *const out = (float *)cpu_row(&op->out, 0) + i * d;
        const float *const out_b = (const float *)cpu_row(&op->out_b, 0) + i * d;
        for (uint32_t j = 0; j < d; j++) {
            out[j] = (float)((of_a * (double)out[j] + of_b * (double)out_b[j]) / both);
        }
        *lse = (float)(most + log(both));
    }
}

/* Two exponentials a head are no work: no instruction set does noticeably better. */
void cpu_merge(struct cpu_dev *dev, const struct tl_merge *op) {
    struct tl_merge copy = *op;
    cpu_share(dev, merge_job, &copy, (uint64_t)op->out.rows * op->out.cols);
}
