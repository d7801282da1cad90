/* Matrix products for every instruction set: who computes which rows, where scratch lies, and what
 * happens to a finished sum (accumulate, bias, soft-cap). The arithmetic is in the tables of
 * matmul.h.
 *
 * Decode: every thread rounds the activations for itself (a microsecond, cheaper than waiting for
 * another thread to do it) and streams its share of the weight rows. Prefill: threads first round
 * and interleave activation rows, tile by tile; then each takes panels of weight rows, unpacks one
 * into its own scratch and runs all activation tiles over it, in pieces of K_PIECE columns so that
 * a panel stays in the second-level cache. */
#include "matmul.h"

#include <math.h>
#include <string.h>

enum {
    OUTPUTS_MIN = 16,
    K_PIECE_INT8 = 4096, /* x 32 rows: 128 KiB and its scales */
    K_PIECE_FLOAT = 2048,
    DOTS_ROWS = 256,     /* sums that wait for finish() */
    CLAIM_BYTES = 16384, /* weights worth a visit to the shared counter */
};

const uint8_t cpu_iq4_values[16] = {0,   23,  44,  62,  78,  92,  105, 117,
                                    128, 140, 152, 165, 180, 196, 216, 240};
const uint8_t cpu_places_plain[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
const uint8_t cpu_places_nibbles[16] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
const uint8_t cpu_places_q4_k[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
const uint8_t cpu_places_q2_k[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};

/* One product while it runs. */
struct product {
    const struct tl_matmul *op;
    const struct mm_isa *isa;
    const mm_format *format;
    cpu_pool *pool;
    uint32_t n, m, k, k_pad;
    uint32_t n_groups; /* scale groups of a padded row; 0 for float weights */
    uint64_t row_bytes;
    uintptr_t scratch;
    uint64_t act_bytes;    /* one row (decode) or one tile (prefill) of activations */
    uint64_t thread_bytes; /* private scratch of a thread, behind what is shared */
};

static void *carve(uintptr_t *at, uint64_t bytes) {
    void *const piece = (void *)*at;
    *at += (uintptr_t)tl_align_up(bytes, 64);
    return piece;
}

/* Lays a row of activations out at `at` and returns its end; from 0 that is its size. */
static uintptr_t place_row(const struct product *p, uintptr_t at, struct mm_act *act) {
    *act = (struct mm_act){0};
    if (p->n_groups == 0) {
        act->x = carve(&at, (uint64_t)p->k_pad * sizeof *act->x);
        return at;
    }
    act->q = carve(&at, p->k_pad);
    act->d = carve(&at, p->k_pad / MM_BLOCK * sizeof *act->d);
    act->s = carve(&at, p->n_groups * sizeof *act->s);
    act->z = carve(&at, p->n_groups * sizeof *act->z);
    return at;
}

static uintptr_t place_tile(const struct product *p, uintptr_t at, struct mm_tile_act *act) {
    *act = (struct mm_tile_act){0};
    if (p->n_groups == 0) {
        act->x = carve(&at, (uint64_t)MM_TOKENS * p->k_pad * sizeof *act->x);
        return at;
    }
    act->q = carve(&at, (uint64_t)MM_TOKENS * p->k_pad);
    act->d = carve(&at, (uint64_t)MM_TOKENS * p->k_pad / MM_BLOCK * sizeof *act->d);
    act->s = carve(&at, (uint64_t)MM_TOKENS * p->n_groups * sizeof *act->s);
    act->z = carve(&at, (uint64_t)MM_TOKENS * p->n_groups * sizeof *act->z);
    return at;
}

static uint32_t piece_cols(const struct product *p) {
    return p->n_groups == 0 ? K_PIECE_FLOAT : K_PIECE_INT8;
}

static uintptr_t place_panel(const struct product *p, uintptr_t at, struct mm_panel *panel) {
    const uint64_t cols = tl_min_u64(piece_cols(p), p->k_pad), rows = p->format->rows;
    *panel = (struct mm_panel){0};
    if (p->n_groups == 0) {
        panel->w = carve(&at, cols * rows * sizeof *panel->w);
        return at;
    }
    panel->q = carve(&at, cols * rows);
    panel->d = carve(&at, cols / p->format->group * rows * sizeof *panel->d);
    panel->m = carve(&at, cols / p->format->group * rows * sizeof *panel->m);
    return at;
}

/* The activations of row i of x, as dots or a tile needs them. */
static void prepare_row(const struct product *p, uint32_t i, const struct mm_act *to,
                        const uint8_t *places) {
    const float *const x = cpu_row(&p->op->x, i);
    if (p->n_groups == 0) {
        memcpy(to->x, x, p->k * sizeof *x);
        memset(to->x + p->k, 0, (p->k_pad - p->k) * sizeof *x);
        return;
    }
    p->isa->quantise(&(struct mm_quantise){.x = x,
                                           .to = *to,
                                           .places = places,
                                           .k = p->k,
                                           .k_pad = p->k_pad,
                                           .group = p->format->group,
                                           .offset = p->format->offset});
}

struct span {
    uint32_t token, row, n_rows;
    bool first, last; /* piece of k */
};

/* y[token][row ...] from sums of one piece of k. */
static void finish(const struct product *p, struct span at, float *sums) {
    float *const y = (float *)cpu_row(&p->op->y, at.token) + at.row;
    if (!at.first || p->op->accumulate) {
        for (uint32_t i = 0; i < at.n_rows; i++) {
            sums[i] += y[i];
        }
    }
    if (at.last && p->op->bias.buf != NULL) {
        const float *const bias = (const float *)cpu_row(&p->op->bias, 0) + at.row;
        for (uint32_t i = 0; i < at.n_rows; i++) {
            sums[i] += bias[i];
        }
    }
    if (at.last && p->op->softcap != 0.0f) {
        const float cap = p->op->softcap;
        for (uint32_t i = 0; i < at.n_rows; i++) {
            sums[i] = cap * tanhf(sums[i] / cap);
        }
    }
    memcpy(y, sums, at.n_rows * sizeof *y);
}

struct rows {
    uint32_t begin, end;
};

/* `next`: the rows that this thread takes afterwards. */
static void dots_rows(const struct product *p, uintptr_t acts_at, struct rows rows,
                      struct rows next) {
    for (uint32_t row = rows.begin; row < rows.end; row += DOTS_ROWS) {
        float sums[MM_DOTS_MAX * DOTS_ROWS];
        const uint32_t n_rows = (uint32_t)tl_min_u64(rows.end - row, DOTS_ROWS);
        struct mm_dots work = {.y = sums,
                               .w = cpu_row(&p->op->w, row),
                               .row_bytes = p->row_bytes,
                               .n_rows = n_rows,
                               .k = p->k,
                               .y_stride = DOTS_ROWS};
        work.next = row + n_rows < rows.end ? work.w + n_rows * p->row_bytes
                                            : cpu_row(&p->op->w, next.begin);
        for (uint32_t i = 0; i < p->n; i += work.n) {
            work.n = p->n - i >= MM_DOTS_MAX ? MM_DOTS_MAX : p->n - i >= 2 ? 2 : 1;
            for (uint32_t t = 0; t < work.n; t++) {
                place_row(p, acts_at + (i + t) * p->act_bytes, &work.act[t]);
            }
            p->format->dots(&work);
            for (uint32_t t = 0; t < work.n; t++) {
                const struct span at = {i + t, row, n_rows, true, true};
                finish(p, at, sums + (size_t)t * DOTS_ROWS);
            }
        }
    }
}

/* Seven eighths of the rows are dealt out, each thread's in one stream; what remains, from row
 * `first` on, goes in small pieces to whoever is done first, since a thread may have lost time to
 * another process. Empty when all are taken. */
static struct rows claim_rows(const struct product *p, uint32_t first, uint32_t n_threads) {
    const uint64_t left = p->m - first;
    const uint64_t least = tl_div_up(CLAIM_BYTES, p->row_bytes);
    const uint64_t n = tl_align_up(tl_max_u64(least, left / (8 * n_threads)), 4);
    const uint64_t begin = left == 0 ? p->m : first + cpu_pool_next(p->pool) * n;
    return (struct rows){(uint32_t)tl_min_u64(begin, p->m), (uint32_t)tl_min_u64(begin + n, p->m)};
}

static void dots_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct product *const p = arg;
    const uintptr_t own = p->scratch + thread * p->thread_bytes;
    for (uint32_t i = 0; i < p->n; i++) {
        struct mm_act act;
        place_row(p, own + i * p->act_bytes, &act);
        prepare_row(p, i, &act, p->format->places);
    }
    const uint32_t dealt = n_threads == 1 ? p->m : p->m / 8 * 7 / n_threads / 4 * 4;
    struct rows rows = {thread * dealt, (thread + 1) * dealt};
    do {
        const struct rows next = claim_rows(p, n_threads * dealt, n_threads);
        dots_rows(p, own, rows, next);
        rows = next;
    } while (rows.begin < rows.end);
}

static bool run_dots(struct cpu_dev *dev, struct product *p) {
    struct mm_act act;
    p->act_bytes = place_row(p, 0, &act);
    p->thread_bytes = tl_align_up(p->n * p->act_bytes, 4096);
    p->scratch = (uintptr_t)cpu_scratch(dev, p->thread_bytes * cpu_pool_n(p->pool));
    if (p->scratch == 0) {
        return false;
    }
    /* A weight takes an eighth of what an element of another op takes. */
    cpu_share(dev, dots_job, p, (uint64_t)p->m * p->k * p->n / 8);
    return true;
}

static void interleave(void *to, const void *const from[MM_TOKENS], uint32_t n) {
    uint32_t *const dst = to;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t t = 0; t < MM_TOKENS; t++) {
            dst[i * MM_TOKENS + t] = ((const uint32_t *)from[t])[i];
        }
    }
}

/* Rows [first, first + MM_TOKENS) of x, zeros where x ends, by way of row scratch at `rows_at`. */
static void pack_tile(const struct product *p, uint32_t first, uintptr_t rows_at,
                      const struct mm_tile_act *tile) {
    const void *x[MM_TOKENS], *q[MM_TOKENS], *d[MM_TOKENS], *s[MM_TOKENS], *z[MM_TOKENS];
    for (uint32_t t = 0; t < MM_TOKENS; t++) {
        struct mm_act row;
        const uintptr_t end = place_row(p, rows_at, &row);
        if (first + t < p->n) {
            prepare_row(p, first + t, &row, cpu_places_plain);
        } else {
            memset((void *)rows_at, 0, end - rows_at);
        }
        x[t] = row.x, q[t] = row.q, d[t] = row.d, s[t] = row.s, z[t] = row.z;
        rows_at = end;
    }
    if (p->n_groups == 0) {
        interleave(tile->x, x, p->k_pad);
        return;
    }
    interleave(tile->q, q, p->k_pad / 4);
    interleave(tile->d, d, p->k_pad / MM_BLOCK);
    interleave(tile->s, s, p->n_groups);
    interleave(tile->z, z, p->n_groups);
}

static void pack_job(void *arg, uint32_t thread, uint32_t n_threads) {
    (void)n_threads;
    const struct product *const p = arg;
    const uint32_t n_tiles = (uint32_t)tl_div_up(p->n, MM_TOKENS);
    const uintptr_t own = p->scratch + n_tiles * p->act_bytes + thread * p->thread_bytes;
    for (uint32_t i = cpu_pool_next(p->pool); i < n_tiles; i = cpu_pool_next(p->pool)) {
        struct mm_tile_act tile;
        place_tile(p, p->scratch + i * p->act_bytes, &tile);
        pack_tile(p, i * MM_TOKENS, own, &tile);
    }
}

/* Columns [col, ...) of tile i. */
static struct mm_tile_act tile_from(const struct product *p, uint32_t i, uint32_t col) {
    struct mm_tile_act act;
    place_tile(p, p->scratch + i * p->act_bytes, &act);
    if (p->n_groups == 0) {
        act.x += (uint64_t)MM_TOKENS * col;
        return act;
    }
    const uint32_t group = col / p->format->group;
    act.q += (uint64_t)MM_TOKENS * col;
    act.d += (uint64_t)MM_TOKENS * col / MM_BLOCK;
    act.s += (uint64_t)MM_TOKENS * group;
    act.z += (uint64_t)MM_TOKENS * group;
    return act;
}

static uint32_t rows_from(const struct product *p, uint32_t row) {
    return (uint32_t)tl_min_u64(p->m - row, p->format->rows);
}

static void unpack_panel(const struct product *p, const struct mm_panel *panel, uint32_t row,
                         uint32_t col, uint32_t n_cols) {
    const uint64_t skip = tl_row_bytes(p->op->w.dtype, col);
    p->format->unpack(&(struct mm_unpack){.to = *panel,
                                          .w = (uint8_t *)cpu_row(&p->op->w, row) + skip,
                                          .row_bytes = p->row_bytes,
                                          .n_rows = rows_from(p, row),
                                          .n_cols = n_cols});
}

static void run_tile(const struct product *p, const struct mm_panel *panel, uint32_t row,
                     uint32_t token, uint32_t col, uint32_t n_cols) {
    const uint32_t n_rows = rows_from(p, row), n = (uint32_t)tl_min_u64(p->n - token, MM_TOKENS);
    for (uint32_t i = 0; i < n; i++) { /* y comes while the tile is computed */
        for (uint32_t j = 0; j < n_rows; j += 16) {
            __builtin_prefetch((float *)cpu_row(&p->op->y, token + i) + row + j, 1);
        }
    }
    float sums[MM_TOKENS * MM_ROWS_MAX];
    p->format->tile(&(struct mm_tile){
        .y = sums, .w = *panel, .act = tile_from(p, token / MM_TOKENS, col), .k = n_cols});
    for (uint32_t i = 0; i < n; i++) {
        const struct span at = {token + i, row, n_rows, col == 0, col + n_cols == p->k};
        finish(p, at, sums + (size_t)i * p->format->rows);
    }
}

/* Several panels at a time, so that a tile of activations is read once for all of them, was 2 to
 * 10% slower (4096 x 2048 by 512, Q4_0 and F16, EPYC 9005, 2026-11): panels then leave the cache.
 */
static void run_panel(const struct product *p, const struct mm_panel *panel, uint32_t row) {
    for (uint32_t col = 0; col < p->k; col += piece_cols(p)) {
        const uint32_t n_cols = (uint32_t)tl_min_u64(p->k - col, piece_cols(p));
        unpack_panel(p, panel, row, col, n_cols);
        for (uint32_t token = 0; token < p->n; token += MM_TOKENS) {
            run_tile(p, panel, row, token, col, n_cols);
        }
    }
}

static void panel_job(void *arg, uint32_t thread, uint32_t n_threads) {
    (void)n_threads;
    const struct product *const p = arg;
    const uint32_t rows = p->format->rows;
    const uint64_t shared = tl_div_up(p->n, MM_TOKENS) * p->act_bytes;
    struct mm_panel panel;
    place_panel(p, p->scratch + shared + thread * p->thread_bytes, &panel);
    for (uint64_t i = cpu_pool_next(p->pool); i * rows < p->m; i = cpu_pool_next(p->pool)) {
        run_panel(p, &panel, (uint32_t)i * rows);
    }
}

static bool run_tiles(struct cpu_dev *dev, struct product *p) {
    struct mm_act row;
    struct mm_tile_act tile;
    struct mm_panel panel;
    p->act_bytes = place_tile(p, 0, &tile);
    const uint64_t rows_bytes = MM_TOKENS * place_row(p, 0, &row);
    const uint64_t panel_bytes = place_panel(p, 0, &panel);
    p->thread_bytes = tl_align_up(tl_max_u64(rows_bytes, panel_bytes), 4096);
    p->scratch = (uintptr_t)cpu_scratch(dev, tl_div_up(p->n, MM_TOKENS) * p->act_bytes +
                                                 p->thread_bytes * cpu_pool_n(p->pool));
    if (p->scratch == 0) {
        return false;
    }
    cpu_pool_run(p->pool, pack_job, p);
    cpu_pool_run(p->pool, panel_job, p);
    return true;
}

bool cpu_matmul_run(struct cpu_dev *dev, const struct tl_matmul *op, const struct mm_isa *isa) {
    const mm_format *const format = &isa->formats[op->w.dtype];
    struct product p = {.op = op,
                        .isa = isa,
                        .format = format,
                        .pool = dev->pool,
                        .n = op->x.rows,
                        .m = op->w.rows,
                        .k = op->w.cols,
                        .k_pad = (uint32_t)tl_align_up(op->w.cols, MM_CHUNK),
                        .row_bytes = tl_row_bytes(op->w.dtype, op->w.cols)};
    p.n_groups = format->group == 0 ? 0 : p.k_pad / format->group;
    /* The plain loops are quick enough for a handful of outputs, and exact. */
    const bool few = (uint64_t)p.n * p.m < OUTPUTS_MIN;
    if (few || p.k == 0 || format->dots == NULL) {
        return false;
    }
    const bool tiles = format->tile != NULL && p.n > format->dots_max;
    return tiles ? run_tiles(dev, &p) : run_dots(dev, &p);
}
