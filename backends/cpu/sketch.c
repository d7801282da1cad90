/* The plan of fast key_score and attend_sketch: the rows of a KV head are cut into batches, and the
 * blocks into chunks so that decode has work for all threads; chunks give partial results that are
 * merged in order by their largest scores. Everything follows from the op alone, never from the
 * number of threads or from who claims what, so every number of threads gives the same bits. What
 * is computed inside a task is the business of the kernels.
 *
 * Vector-quantised keys are scored by tables of queries and codebook entries. Where a batch is cut
 * into chunks its table is made before them, by all threads, for all of its chunks; else by the
 * task that uses it. */
#include "sketch.h"

#include "core/vq.h"

#include <math.h>

enum { TASKS_WANTED = 256 /* keeps 64 threads busy to the end, and bounds scratch */ };
#define TABLES_FLOATS_MAX (16ull << 20) /* of all batches; for more, a table a thread */

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
    /* Of a side that is vector-quantised: its codebook; for keys that are scored here, turned
     * queries (n, n_heads * head_dim) and tables, one a batch and KV head or one a thread. */
    float *k_book, *v_book, *turned, *tables;
    uint64_t table_floats; /* 0: no table */
    bool shares_tables;
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
    if (p->v_book != NULL) {
        tl_hadamard(out, d);
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

/* The first row of a place (batch and KV head) among those of its KV head. */
static uint32_t first_row(const struct plan *p, uint32_t place) {
    return place / p->sketch->n_kv_heads * SKETCH_ROWS;
}

/* A task without its blocks: who asks. */
static struct sketch_task task_of(const struct plan *p, uint32_t place, uint32_t thread) {
    const uint32_t row = first_row(p, place);
    struct sketch_task task = {.sketch = p->sketch,
                               .kv_head = place % p->sketch->n_kv_heads,
                               .n = (uint32_t)tl_min_u64(SKETCH_ROWS, p->n_rows - row),
                               .scale = p->scale,
                               .softcap = p->softcap,
                               .k_book = p->k_book,
                               .v_book = p->v_book,
                               .stride = p->stride};
    const float *const q = p->turned != NULL ? p->turned : cpu_row(&p->q, 0);
    for (uint32_t r = 0; r < task.n; r++) {
        const uint32_t head = head_of(p, task.kv_head, row + r);
        task.q[r] =
            q + (uint64_t)query_of(p, row + r) * p->q.cols + (uint64_t)head * p->sketch->head_dim;
        task.score[r] = p->score.buf != NULL ? cpu_row(&p->score, head) : NULL;
    }
    if (p->table_floats > 0) {
        task.table = p->tables + (p->shares_tables ? place : thread) * p->table_floats;
    }
    return task;
}

static uint32_t places_of_keys(const struct plan *p) {
    return p->sketch->head_dim / tl_vq_dim(p->sketch->k_codec);
}

static void run_task(const struct plan *p, uint32_t index, uint32_t thread) {
    const uint32_t chunk = index % p->n_chunks, place = index / p->n_chunks;
    const uint32_t row = first_row(p, place);
    struct sketch_task task = task_of(p, place, thread);
    task.begin = chunk * p->chunk_blocks;
    task.end = (uint32_t)tl_min_u64(p->n_blocks, (uint64_t)task.begin + p->chunk_blocks);
    if (p->table_floats > 0 && !p->shares_tables) {
        p->kernels->tables(&task, 0, places_of_keys(p));
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

static void meet(const struct plan *p, uint32_t n_threads) {
    if (n_threads > 1) {
        cpu_pool_barrier(p->pool);
    }
}

/* Queries as codebook entries are (vq.h), and the tables that batches share. */
static void make_tables(const struct plan *p, uint32_t thread, uint32_t n_threads) {
    const uint32_t d = p->sketch->head_dim, n_heads = p->n_heads;
    uint64_t begin, end;
    cpu_slice((uint64_t)p->q.rows * n_heads, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *const q = (const float *)cpu_row(&p->q, 0) + i * d;
        const float *const smooth = cpu_row(&p->sketch->smooth, (uint32_t)(i % n_heads) / p->group);
        float *const turned = p->turned + i * d;
        for (uint32_t j = 0; j < d; j++) {
            turned[j] = q[j] * smooth[j];
        }
        tl_hadamard(turned, d);
    }
    meet(p, n_threads);
    if (!p->shares_tables) {
        return;
    }
    const uint32_t n_places = places_of_keys(p);
    cpu_slice((uint64_t)p->n_batches * p->sketch->n_kv_heads * n_places, thread, n_threads, &begin,
              &end);
    for (uint64_t i = begin; i < end; i++) {
        const struct sketch_task task = task_of(p, (uint32_t)(i / n_places), thread);
        p->kernels->tables(&task, (uint32_t)(i % n_places), (uint32_t)(i % n_places) + 1);
    }
    meet(p, n_threads);
}

static void sketch_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct plan *const p = arg;
    const uint32_t n_kv_heads = p->sketch->n_kv_heads;
    const uint32_t n_tasks = p->n_batches * n_kv_heads * p->n_chunks;
    if (p->table_floats > 0) {
        make_tables(p, thread, n_threads);
    }
    for (uint32_t task; (task = cpu_pool_next(p->pool)) < n_tasks;) {
        run_task(p, task, thread);
    }
    if (p->attend == NULL || p->n_chunks == 1) {
        return;
    }
    meet(p, n_threads);
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
    if (tl_vq_is(codec)) {
        for (uint32_t j = 0; j < d; j++) {
            p->place[j] = (uint16_t)j;
        }
        p->stride = (uint32_t)tl_align_up(d, SKETCH_PLACES);
        return true;
    }
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

/* The table of one batch and KV head, or 0 where keys are not scored by tables. */
static uint64_t table_floats_of(const struct plan *p) {
    const struct tl_sketch *const s = p->sketch;
    const bool scored = p->attend != NULL && p->score.buf != NULL;
    return tl_vq_is(s->k_codec) && !scored ? (uint64_t)s->head_dim / tl_vq_dim(s->k_codec) *
                                                 tl_vq_entries(s->k_codec) * SKETCH_ROWS
                                           : 0;
}

static uint64_t entry_floats(tl_codec codec) {
    return tl_vq_is(codec) ? tl_align_up((uint64_t)tl_vq_entries(codec) * tl_vq_dim(codec), 16) : 0;
}

/* A piece of scratch, in whole cache lines; NULL where it is of nothing. */
static float *take(float **room, uint64_t n_floats) {
    float *const piece = n_floats > 0 ? *room : NULL;
    *room += tl_align_up(n_floats, 16);
    return piece;
}

/* Reserves what the op needs, as much as a full cache would take, so that no later step of the
 * session asks for more; false where there is no memory. */
static bool reserve(struct plan *p, struct cpu_dev *dev, uint32_t chunks_max) {
    const uint32_t n_threads = cpu_pool_n(dev->pool),
                   n_places = p->n_batches * p->sketch->n_kv_heads;
    const uint64_t cap = p->sketch->k.rows / p->sketch->n_kv_heads;
    const uint64_t n_chunks = tl_min_u64(chunks_max, tl_div_up(cap, SKETCH_STEP));
    const uint64_t n_results =
        p->attend != NULL ? tl_max_u64(n_threads, n_places * n_chunks) * SKETCH_ROWS : 0;
    const uint64_t tables = (p->shares_tables ? n_places : n_threads) * p->table_floats;
    const uint64_t turned = p->table_floats > 0 ? (uint64_t)p->q.rows * p->q.cols : 0;
    const uint64_t k_book = p->table_floats > 0 ? entry_floats(p->sketch->k_codec) : 0;
    const uint64_t v_book = p->attend != NULL ? entry_floats(p->sketch->v_codec) : 0;
    p->work_floats = tl_align_up(cpu_sketch_work_floats(p->sketch), 16);
    const uint64_t pieces[] = {n_threads * p->work_floats,
                               n_results * p->stride,
                               n_results,
                               n_results,
                               tables,
                               turned,
                               k_book,
                               v_book};
    uint64_t all = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        all += tl_align_up(pieces[i], 16);
    }
    float *room = cpu_scratch(dev, all * sizeof(float));
    if (room == NULL) {
        return false;
    }
    p->work = take(&room, pieces[0]);
    p->sums = take(&room, pieces[1]);
    p->weights = take(&room, pieces[2]);
    p->most = take(&room, pieces[3]);
    p->tables = take(&room, tables);
    p->turned = take(&room, turned);
    p->k_book = take(&room, k_book);
    p->v_book = take(&room, v_book);
    if (p->k_book != NULL) {
        p->kernels->expand(cpu_row(&p->sketch->k_book, 0), (uint32_t)k_book, p->k_book);
    }
    if (p->v_book != NULL) {
        p->kernels->expand(cpu_row(&p->sketch->v_book, 0), (uint32_t)v_book, p->v_book);
    }
    return true;
}

static bool run_plan(struct plan *p, struct cpu_dev *dev) {
    const uint32_t n_kv_heads = p->sketch->n_kv_heads;
    p->pool = dev->pool;
    p->group = p->n_heads / n_kv_heads;
    p->n_rows = p->q.rows * p->group;
    p->n_batches = (uint32_t)tl_div_up(p->n_rows, SKETCH_ROWS);
    const uint32_t n_places = p->n_batches * n_kv_heads;
    uint32_t chunks_max = n_places < TASKS_WANTED ? TASKS_WANTED / n_places : 1;
    p->table_floats = table_floats_of(p);
    p->shares_tables = chunks_max > 1 && n_places * p->table_floats <= TABLES_FLOATS_MAX;
    chunks_max = p->table_floats > 0 && !p->shares_tables ? 1 : chunks_max;
    p->chunk_blocks =
        (uint32_t)tl_align_up(tl_max_u64(1, tl_div_up(p->n_blocks, chunks_max)), SKETCH_STEP);
    p->n_chunks = (uint32_t)tl_max_u64(1, tl_div_up(p->n_blocks, p->chunk_blocks));
    if (!reserve(p, dev, chunks_max)) {
        return false;
    }
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
    return run_plan(&p, dev);
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
    return find_places(&p) && run_plan(&p, dev);
}
