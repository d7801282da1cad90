/* The plan of a fast attend: rows are cut into tiles, and where tiles alone would leave threads
 * idle (decode) the cache rows are cut into chunks too, whose partial results are merged by their
 * largest scores. Tiles and chunks follow from the op alone, never from the number of threads or
 * from who claims what, so every number of threads gives the same bits. What is computed inside a
 * tile is the business of the kernels. */
#include "attend.h"

#include <math.h>

enum {
    CHUNK_ROWS_MIN = 512,
    /* Chunks are so large that there are about this many tasks: enough to keep 64 threads busy to
     * the end, few enough that merging is nothing. It also bounds scratch. */
    TASKS_WANTED = 256,
};

struct plan {
    const struct tl_attend *op;
    const struct attend_kernels *kernels;
    cpu_pool *pool;
    uint32_t group;     /* query heads of a KV head */
    uint32_t n_rows;    /* of a KV head */
    uint32_t n_tiles;   /* of a KV head */
    uint32_t tile_rows; /* rows that each result has room for */
    uint32_t stride;
    uint64_t begin, end; /* cache rows that anybody sees */
    uint64_t chunk_rows;
    uint32_t n_chunks;
    float *work;    /* one per thread */
    float *sums;    /* one per task, or per thread where there is one chunk */
    float *weights; /* (as many, tile_rows) */
    float *most;    /* likewise */
};

const float *cpu_attend_query(const struct attend_tile *tile, uint32_t row) {
    const struct tl_attend *const op = tile->op;
    const uint32_t group = op->n_heads / op->kv.n_kv_heads, f = tile->row + row;
    const uint64_t head = (uint64_t)tile->kv_head * group + f % group;
    return (const float *)cpu_row(&op->q, f / group) + head * op->kv.k.cols;
}

/* Joins the partial results of one row, `step` rows apart, and writes it out. */
static void finish_row(const struct plan *p, uint32_t kv_head, uint32_t f, uint64_t at,
                       uint64_t step) {
    const struct tl_attend *const op = p->op;
    const uint32_t i = f / p->group, d = op->kv.k.cols;
    const uint32_t head = kv_head * p->group + f % p->group;
    float *const out = (float *)cpu_row(&op->out, i) + (uint64_t)head * d;
    float most = -INFINITY, weights = 0.0f;
    for (uint32_t c = 0; c < p->n_chunks; c++) {
        most = fmaxf(most, p->most[at + c * step]);
    }
    /* Finite, so that chunks which saw nothing weigh 0 and not NaN. */
    const float zero_at = fmaxf(most, -3e38f);
    for (uint32_t c = 0; c < p->n_chunks; c++) {
        weights += expf(p->most[at + c * step] - zero_at) * p->weights[at + c * step];
    }
    for (uint32_t c = 0; c < p->n_chunks; c++) {
        const float *const sums = p->sums + (at + c * step) * p->stride;
        const float share =
            weights > 0.0f ? expf(p->most[at + c * step] - zero_at) / weights : 0.0f;
        for (uint32_t j = 0; j < d; j++) {
            out[j] = (c > 0 ? out[j] : 0.0f) + share * sums[j];
        }
    }
    if (op->lse.buf != NULL) {
        ((float *)cpu_row(&op->lse, i))[head] = most + logf(weights);
    }
}

/* Sets what each row of the tile sees and narrows the tile's range to it. */
static void look(const struct plan *p, struct attend_tile *tile) {
    uint64_t begin = tile->end, end = tile->begin;
    for (uint32_t r = 0; r < ATTEND_ROWS; r++) {
        if (r >= tile->n) {
            tile->first_of[r] = tile->first_of[r - 1];
            tile->end_of[r] = tile->end_of[r - 1];
            continue;
        }
        uint64_t row_first, row_end;
        cpu_rows_seen(p->op, (tile->row + r) / p->group, &row_first, &row_end);
        tile->first_of[r] = (int32_t)row_first;
        tile->end_of[r] = (int32_t)row_end;
        begin = tl_min_u64(begin, row_first);
        end = tl_max_u64(end, row_end);
    }
    tile->begin = tl_max_u64(tile->begin, begin);
    tile->end = tl_max_u64(tl_min_u64(tile->end, end), tile->begin);
}

/* The longest tiles, which are the last, come first; the chunks of a tile side by side. */
static void run_task(const struct plan *p, uint32_t task, uint32_t thread) {
    const uint32_t chunk = task % p->n_chunks, place = task / p->n_chunks;
    const uint32_t n_kv_heads = p->op->kv.n_kv_heads;
    const uint32_t index = p->n_tiles - 1 - place / n_kv_heads;
    struct attend_tile tile = {.op = p->op, .kv_head = place % n_kv_heads};
    tile.row = index * ATTEND_ROWS;
    tile.n = (uint32_t)tl_min_u64(ATTEND_ROWS, p->n_rows - tile.row);
    tile.begin = p->begin + chunk * p->chunk_rows;
    tile.end = tl_min_u64(p->end, tile.begin + p->chunk_rows);
    look(p, &tile);
    const uint64_t at = (uint64_t)(p->n_chunks > 1 ? task : thread) * p->tile_rows;
    tile.sums = p->sums + at * p->stride;
    tile.weights = p->weights + at;
    tile.most = p->most + at;
    tile.stride = p->stride;
    tile.work = p->work + thread * cpu_attend_work_floats(p->stride);
    if (tile.n <= ATTEND_FEW) {
        p->kernels->few(&tile);
    } else {
        p->kernels->many(&tile);
    }
    for (uint32_t r = 0; p->n_chunks == 1 && r < tile.n; r++) {
        finish_row(p, tile.kv_head, tile.row + r, at + r, 0);
    }
}

static void attend_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct plan *const p = arg;
    const uint32_t n_places = p->n_tiles * p->op->kv.n_kv_heads;
    for (uint32_t task; (task = cpu_pool_next(p->pool)) < n_places * p->n_chunks;) {
        run_task(p, task, thread);
    }
    if (p->n_chunks == 1) {
        return;
    }
    if (n_threads > 1) {
        cpu_pool_barrier(p->pool);
    }
    uint64_t begin, end;
    cpu_slice((uint64_t)p->n_rows * p->op->kv.n_kv_heads, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const uint32_t kv_head = (uint32_t)(i / p->n_rows), f = (uint32_t)(i % p->n_rows);
        const uint32_t place = (p->n_tiles - 1 - f / ATTEND_ROWS) * p->op->kv.n_kv_heads + kv_head;
        const uint64_t at = (uint64_t)place * p->n_chunks * p->tile_rows + f % ATTEND_ROWS;
        finish_row(p, kv_head, f, at, p->tile_rows);
    }
}

static void find_range(struct plan *p) {
    p->begin = UINT64_MAX;
    p->end = 0;
    for (uint32_t i = 0; i < p->op->q.rows; i++) {
        uint64_t first, end;
        cpu_rows_seen(p->op, i, &first, &end);
        p->begin = tl_min_u64(p->begin, first);
        p->end = tl_max_u64(p->end, end);
    }
}

bool cpu_attend_tiled(struct cpu_dev *dev, const struct tl_attend *op,
                      const struct attend_kernels *kernels) {
    if (op->kv.k.dtype != TL_F16 || op->kv.v.dtype != TL_F16) {
        return false;
    }
    struct plan p = {.op = op, .kernels = kernels, .pool = dev->pool};
    const uint32_t d = op->kv.k.cols, n_threads = cpu_pool_n(dev->pool);
    p.group = op->n_heads / op->kv.n_kv_heads;
    p.n_rows = op->q.rows * p.group;
    p.n_tiles = (uint32_t)tl_div_up(p.n_rows, ATTEND_ROWS);
    p.tile_rows = (uint32_t)tl_align_up(tl_min_u64(p.n_rows, ATTEND_ROWS), 16);
    p.stride = (uint32_t)tl_align_up(d, 16);
    find_range(&p);
    const uint32_t n_places = p.n_tiles * op->kv.n_kv_heads;
    const uint64_t chunks_max = tl_max_u64(1, TASKS_WANTED / n_places);
    const uint64_t span = p.end - p.begin;
    p.chunk_rows = tl_align_up(tl_max_u64(1, tl_div_up(span, chunks_max)), CHUNK_ROWS_MIN);
    p.n_chunks = (uint32_t)tl_max_u64(1, tl_div_up(span, p.chunk_rows));
    /* As much as a full cache would take, so that no later step of the session asks for more. */
    const uint64_t cap = op->kv.k.rows / op->kv.n_kv_heads;
    const uint64_t n_chunks = tl_min_u64(chunks_max, tl_div_up(cap, CHUNK_ROWS_MIN));
    const uint64_t n_parts = n_chunks > 1 ? n_places * n_chunks : 0;
    const uint64_t n_results = tl_max_u64(n_threads, n_parts) * p.tile_rows;
    const uint64_t work = n_threads * cpu_attend_work_floats(p.stride);
    p.work = cpu_scratch(dev, (work + n_results * (p.stride + 2)) * sizeof(float));
    if (p.work == NULL) {
        return false;
    }
    p.sums = p.work + work;
    p.weights = p.sums + n_results * p.stride;
    p.most = p.weights + n_results;
    cpu_share(dev, attend_job, &p, span * op->kv.n_kv_heads * d * op->q.rows);
    return true;
}
