/* The plan of fast key_score and attend_sketch: the rows of a KV head are cut into batches, and the
 * blocks into chunks so that decode has work for all threads; chunks give partial results that are
 * merged in order by their largest scores. Everything follows from the op alone, never from the
 * number of threads or from who claims what, so every number of threads gives the same bits. What
 * is computed inside a task is the business of the kernels. */
#include "sketch.h"

#include "core/vq.h"

#include <math.h>

enum { TASKS_WANTED = 256 /* keeps 64 threads busy to the end, and bounds scratch */ };

struct plan {
    const struct sketch_kernels *kernels;
    cpu_pool *pool;
    const struct tl_sketch *sketch;
    const struct tl_attend_sketch *attend; /* NULL: key_score */
    tl_view q, score;                      /* score is absent where attend computes its own */
    uint32_t n_heads, group;
    float scale, softcap;
    uint32_t n_rows;    /* of a KV head */
    uint32_t n_batches; /* of a KV head */
    uint32_t n_blocks, chunk_blocks, n_chunks;
    uint64_t work_floats;
    float *work;    /* one per thread */
    float *sums;    /* one per task, or per thread where there is one chunk */
    float *weights; /* (as many, SKETCH_ROWS) */
    float *most;    /* likewise */
    uint32_t stride;
    uint16_t place[TL_HEAD_DIM_MAX]; /* of each channel in sums */
};

/* Row f of a KV head: its query and its head. */
static uint32_t query_of(const struct plan *p, uint32_t f) { return f / p->group; }

static uint32_t head_of(const struct plan *p, uint32_t kv_head, uint32_t f) {
    return kv_head * p->group + f % p->group;
}

/* Joins the partial results of one row, `step` rows apart, and writes it out. */
static void finish_row(const struct plan *p, uint32_t kv_head, uint32_t f, uint64_t at,
                       uint64_t step) {
    const struct tl_attend_sketch *const op = p->attend;
    const uint32_t i = query_of(p, f), head = head_of(p, kv_head, f), d = p->sketch->head_dim;
    float most = -INFINITY, weights = 0.0f;
    for (uint32_t c = 0; c < p->n_chunks; c++) {
        most = fmaxf(most, p->most[at + c * step]);
    }
    /* Finite, so that chunks which saw nothing weigh 0 and not NaN. */
    const float zero_at = fmaxf(most, -3e38f);
    float *const sums = p->sums + at * p->stride;
    for (uint32_t c = 0; c < p->n_chunks; c++) {
        const uint64_t from = at + c * step;
        const float share = expf(p->most[from] - zero_at);
        weights += share * p->weights[from];
        const float *const more = p->sums + from * p->stride;
        for (uint32_t j = 0; j < p->stride; j++) {
            sums[j] = (c > 0 ? sums[j] : 0.0f) + share * more[j];
        }
    }
    float *const out = (float *)cpu_row(&op->out, i) + (uint64_t)head * d;
    for (uint32_t j = 0; j < d; j++) {
        out[j] = weights > 0.0f ? sums[p->place[j]] / weights : 0.0f;
    }
    ((float *)cpu_row(&op->lse, i))[head] = most + logf(weights);
}

/* The first `n` of ascending rows, -1 behind them, that are at least `row`. */
static uint32_t find_row(const int32_t *rows, uint32_t n, uint64_t row) {
    uint32_t low = 0;
    while (n > 0) {
        const uint32_t half = n / 2;
        const bool below = rows[low + half] >= 0 && (uint64_t)rows[low + half] < row;
        low += below ? half + 1 : 0;
        n = below ? n - half - 1 : half;
    }
    return low;
}

static void set_skip(const struct plan *p, struct sketch_task *task) {
    if (p->attend == NULL || p->attend->skip.buf == NULL) {
        return;
    }
    const uint32_t k = p->attend->skip.cols;
    const int32_t *const skip = cpu_row(&p->attend->skip, task->kv_head);
    const uint32_t first = find_row(skip, k, (uint64_t)task->begin * TL_BLOCK);
    const uint32_t end = find_row(skip, k, (uint64_t)task->end * TL_BLOCK);
    task->skip = skip + first;
    task->n_skip = end - first;
}

static void run_task(const struct plan *p, uint32_t index, uint32_t thread) {
    const uint32_t chunk = index % p->n_chunks, place = index / p->n_chunks;
    const uint32_t n_kv_heads = p->sketch->n_kv_heads, row = place / n_kv_heads * SKETCH_ROWS;
    struct sketch_task task = {.sketch = p->sketch,
                               .kv_head = place % n_kv_heads,
                               .n = (uint32_t)tl_min_u64(SKETCH_ROWS, p->n_rows - row),
                               .begin = chunk * p->chunk_blocks,
                               .scale = p->scale,
                               .softcap = p->softcap,
                               .stride = p->stride};
    task.end = (uint32_t)tl_min_u64(p->n_blocks, (uint64_t)task.begin + p->chunk_blocks);
    for (uint32_t r = 0; r < task.n; r++) {
        const uint32_t head = head_of(p, task.kv_head, row + r);
        task.q[r] = (const float *)cpu_row(&p->q, query_of(p, row + r)) +
                    (uint64_t)head * p->sketch->head_dim;
        task.score[r] = p->score.buf != NULL ? cpu_row(&p->score, head) : NULL;
    }
    set_skip(p, &task);
    task.work = p->work + thread * p->work_floats;
    if (p->attend == NULL) {
        p->kernels->score(&task);
        return;
    }
    const uint64_t at = (uint64_t)(p->n_chunks > 1 ? index : thread) * SKETCH_ROWS;
    task.sums = p->sums + at * p->stride;
    task.weights = p->weights + at;
    task.most = p->most + at;
    p->kernels->attend(&task);
    for (uint32_t r = 0; p->n_chunks == 1 && r < task.n; r++) {
        finish_row(p, task.kv_head, row + r, at + r, 0);
    }
}

static void sketch_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct plan *const p = arg;
    const uint32_t n_kv_heads = p->sketch->n_kv_heads;
    const uint32_t n_tasks = p->n_batches * n_kv_heads * p->n_chunks;
    for (uint32_t task; (task = cpu_pool_next(p->pool)) < n_tasks;) {
        run_task(p, task, thread);
    }
    if (p->attend == NULL || p->n_chunks == 1) {
        return;
    }
    if (n_threads > 1) {
        cpu_pool_barrier(p->pool);
    }
    uint64_t begin, end;
    cpu_slice((uint64_t)p->n_rows * n_kv_heads, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const uint32_t kv_head = (uint32_t)(i / p->n_rows), f = (uint32_t)(i % p->n_rows);
        const uint64_t place = (uint64_t)(f / SKETCH_ROWS) * n_kv_heads + kv_head;
        const uint64_t at = place * p->n_chunks * SKETCH_ROWS + f % SKETCH_ROWS;
        finish_row(p, kv_head, f, at, SKETCH_ROWS);
    }
}

/* Where each channel is summed; false where a group's codes reach beyond the kernels' 64. */
static bool find_places(struct plan *p) {
    const tl_codec codec = p->sketch->v_codec;
    const uint32_t d = p->sketch->head_dim, group = tl_codec_value_group(d);
    for (uint32_t j = 0; j < d; j++) {
        const uint32_t g = j / group, i = cpu_sketch_skew(codec, group, g) + j % group;
        if (i >= SKETCH_PLACES) {
            return false;
        }
        p->place[j] = (uint16_t)(g * SKETCH_PLACES + p->kernels->place(codec, i));
    }
    p->stride = d / group * SKETCH_PLACES;
    return true;
}

static bool run_plan(struct plan *p, struct cpu_dev *dev) {
    const uint32_t n_threads = cpu_pool_n(dev->pool), n_kv_heads = p->sketch->n_kv_heads;
    p->pool = dev->pool;
    p->group = p->n_heads / n_kv_heads;
    p->n_rows = p->q.rows * p->group;
    p->n_batches = (uint32_t)tl_div_up(p->n_rows, SKETCH_ROWS);
    const uint32_t n_places = p->n_batches * n_kv_heads;
    const uint32_t chunks_max = n_places < TASKS_WANTED ? TASKS_WANTED / n_places : 1;
    p->chunk_blocks =
        (uint32_t)tl_align_up(tl_max_u64(1, tl_div_up(p->n_blocks, chunks_max)), SKETCH_STEP);
    p->n_chunks = (uint32_t)tl_max_u64(1, tl_div_up(p->n_blocks, p->chunk_blocks));
    /* As much as a full cache would take, so that no later step of the session asks for more. */
    const uint64_t cap = p->sketch->k.rows / n_kv_heads;
    const uint64_t n_chunks = tl_min_u64(chunks_max, tl_div_up(cap, SKETCH_STEP));
    const uint64_t n_results =
        p->attend != NULL ? tl_max_u64(n_threads, n_places * n_chunks) * SKETCH_ROWS : 0;
    p->work_floats = tl_align_up(cpu_sketch_work_floats(p->sketch), 16);
    const uint64_t work = n_threads * p->work_floats;
    p->work = cpu_scratch(dev, (work + n_results * (p->stride + 2)) * sizeof(float));
    if (p->work == NULL) {
        return false;
    }
    p->sums = p->work + work;
    p->weights = p->sums + n_results * p->stride;
    p->most = p->weights + n_results;
    cpu_share(dev, sketch_job, p,
              (uint64_t)p->n_blocks * TL_BLOCK * p->n_heads * p->sketch->head_dim);
    return true;
}

bool cpu_sketch_score(struct cpu_dev *dev, const struct tl_key_score *op,
                      const struct sketch_kernels *kernels) {
    struct plan p = {.kernels = kernels,
                     .sketch = &op->sketch,
                     .q = op->q,
                     .score = op->score,
                     .n_heads = op->n_heads,
                     .scale = op->scale,
                     .softcap = op->softcap,
                     .n_blocks = cpu_blocks_seen(&op->n_blocks)};
    return !tl_vq_is(op->sketch.k_codec) && run_plan(&p, dev);
}

bool cpu_sketch_attend(struct cpu_dev *dev, const struct tl_attend_sketch *op,
                       const struct sketch_kernels *kernels) {
    struct plan p = {.kernels = kernels,
                     .sketch = &op->sketch,
                     .attend = op,
                     .q = op->q,
                     .score = op->score,
                     .n_heads = op->n_heads,
                     .scale = op->scale,
                     .softcap = op->softcap,
                     .n_blocks = cpu_blocks_seen(&op->n_blocks)};
    return !tl_vq_is(op->sketch.k_codec) && !tl_vq_is(op->sketch.v_codec) && find_places(&p) &&
           run_plan(&p, dev);
}
