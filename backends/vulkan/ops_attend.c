/* Attention in parts: each subgroup takes a stretch of rows and leaves a part, and the parts of a
 * query head are joined. How many parts there are depends on shapes and on the device alone, never
 * on what the cache holds, so that a recorded step serves at any depth. */
#include "ops.h"

enum {
    SUMS_MAX = 128,       /* floats of weighted sums that a lane keeps */
    ROWS_MAX = 8,         /* query heads of a subgroup */
    TEAMS_HARDWARE = 512, /* subgroups for a GPU's units: some for each of 128 */
    TEAMS_SOFTWARE = 16,  /* and for the threads of a software driver */
    HOST_ROWS_MAX = 8,    /* there rows cost more than sums, which live in memory anyway */
    HOST_SUMS_MAX = 256,
    /* attend_tile.comp: its workgroup, query heads of a tile, channels of a unit, the widest head
     * whose sums stay in registers, from how many queries on it is worth it, and workgroups for a
     * GPU. */
    TILE_GROUP = 64,
    TILE_ROWS = 32,
    TILE_UNIT = 32,
    TILE_DIM_MAX = 256,
    TILE_QUERIES_MIN = 8,
    TILE_GROUPS = 256,
    TILE_SHARED_BYTES = 14 << 10,
};

/* What of an op goes into one subgroup. */
struct tiling {
    vk_shader shader;
    uint32_t pairs;   /* of channels, a lane; of attend_tile.comp units */
    uint32_t queries; /* of a subgroup or tile */
    uint32_t chunk;   /* query heads of a group, likewise */
    uint32_t splits;  /* of the rows of a window */
};

/* Many queries on hardware. */
static bool has_tiles(const struct vk_dev *dev, uint32_t n, uint32_t d) {
    return vk_like_gpu(dev) && n >= TILE_QUERIES_MIN && d <= TILE_DIM_MAX &&
           vk_group_size(dev, TILE_GROUP) == TILE_GROUP &&
           dev->info.shared_bytes >= TILE_SHARED_BYTES;
}

static struct tiling tile_many(const struct vk_dev *dev, uint32_t n, uint32_t heads, uint32_t group,
                               uint32_t d, uint32_t cap) {
    struct tiling t = {.shader = VK_SHADER_ATTEND_TILE, .pairs = (uint32_t)tl_div_up(d, TILE_UNIT)};
    t.chunk = (uint32_t)tl_div_up(group, tl_div_up(group, TILE_ROWS));
    t.queries = (uint32_t)tl_min_u64(TILE_ROWS / t.chunk, n);
    const uint64_t tiles = tl_div_up(n, t.queries) * tl_div_up(group, t.chunk) * heads;
    const uint64_t useful = tl_div_up(cap, 8ull * TILE_ROWS);
    const uint64_t rounds = tl_div_up(cap, TILE_ROWS) * (t.pairs * 100ull + 20);
    t.splits = (uint32_t)tl_max_u64(tl_max_u64(tl_min_u64(TILE_GROUPS / tiles, useful), 1),
                                    vk_least_teams(dev, rounds));
    return t;
}

static struct tiling tile(const struct vk_dev *dev, uint32_t n, uint32_t heads, uint32_t group,
                          uint32_t d, uint32_t cap) {
    if (has_tiles(dev, n, d)) {
        return tile_many(dev, n, heads, group, d, cap);
    }
    const uint32_t lanes = dev->info.subgroup;
    const bool gpu = vk_like_gpu(dev);
    struct tiling t = {.shader = gpu ? VK_SHADER_ATTEND : VK_SHADER_ATTEND_HOST,
                       .pairs = (uint32_t)tl_div_up(d, 2ull * lanes)};
    const uint64_t most = gpu ? tl_max_u64(tl_min_u64(SUMS_MAX / (2ull * t.pairs), ROWS_MAX), 1)
                              : tl_max_u64(tl_min_u64(HOST_SUMS_MAX / d, HOST_ROWS_MAX), 1);
    t.chunk = (uint32_t)tl_div_up(group, tl_div_up(group, most));
    t.queries = (uint32_t)tl_max_u64(tl_min_u64(most / t.chunk, n), 1);
    const uint64_t teams = tl_div_up(n, t.queries) * tl_div_up(group, t.chunk) * heads;
    const uint64_t wanted = gpu ? TEAMS_HARDWARE / teams : tl_div_up(TEAMS_SOFTWARE, teams);
    const uint64_t useful = tl_div_up(cap, 4ull * lanes);
    const uint64_t rounds = tl_div_up(cap, lanes) * (1 + tl_div_up(d, 8) + lanes);
    t.splits = (uint32_t)tl_max_u64(tl_min_u64(wanted, useful), vk_least_teams(dev, rounds));
    return t;
}

tl_err vk_attend_join(tl_stream *s, const tl_view *parts, const tl_view *out, const tl_view *lse,
                      uint32_t n_heads, uint32_t n_parts) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_ATTEND_JOIN, 2 * dev->info.subgroup);
    const uint32_t n = out->rows * n_heads;
    const struct vk_binding to = vk_bind(dev, out, 0, 0, true);
    vk_add(&c, vk_bind(dev, parts, 0, 0, false));
    vk_push(&c, vk_add(&c, to));
    vk_push(&c, vk_add(&c, lse->buf != NULL ? vk_bind(dev, lse, 0, 0, true) : to));
    vk_push(&c, n);
    vk_push(&c, out->cols / n_heads);
    vk_push(&c, n_parts);
    vk_push(&c, lse->buf != NULL);
    vk_teams(&c, n);
    return vk_dispatch(s, &c);
}

/* tl_attend and tl_attend_slots, whose kernel is one. */
struct job {
    const tl_view *out, *lse, *q, *pos, *count,
        *slot; /* slot: NULL for tl_attend, pos and count else */
    const struct tl_kv_rows *kv;
    uint32_t n_heads, window, slot_row;
    float scale, softcap;
};

/* Whether each row of the window begins at 16 bytes. */
static bool is_wide(const struct vk_binding *b, const tl_view *v) {
    return b->first % 16 == 0 && tl_row_bytes(v->dtype, v->cols) % 16 == 0 && v->cols % 8 == 0 &&
           (v->dtype == TL_F32 || v->dtype == TL_F16 || v->dtype == TL_BF16);
}

/* What attend_host.comp has instead of pairs of channels. */
static void host_specs(const struct vk_dev *dev, struct vk_call *c, const struct job *j,
                       const struct vk_kv_walk *w, const struct vk_kv_window *at) {
    const struct vk_binding k = vk_bind_window(dev, &j->kv->k, w, at, false);
    const struct vk_binding v = vk_bind_window(dev, &j->kv->v, w, at, false);
    const struct vk_binding q = vk_bind(dev, j->q, 0, 0, false);
    vk_spec(c, (uint32_t)tl_div_up(j->kv->k.cols, 4ull * dev->info.subgroup));
    vk_spec(c, j->slot != NULL);
    vk_spec(c, (is_wide(&k, &j->kv->k) ? 1u : 0u) | (is_wide(&v, &j->kv->v) ? 2u : 0u) |
                   (q.first % 16 == 0 && j->kv->k.cols % 4 == 0 ? 4u : 0u));
}

static tl_err attend_window(tl_stream *s, const struct job *j, const struct tiling *t,
                            const struct vk_kv_walk *w, const struct vk_kv_window *at,
                            const tl_view *parts) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t group = j->n_heads / j->kv->n_kv_heads, n = j->q->rows;
    const bool tiled = t->shader == VK_SHADER_ATTEND_TILE;
    struct vk_call c = vk_call_of(dev, t->shader, tiled ? TILE_GROUP : 2 * dev->info.subgroup);
    vk_spec(&c, j->kv->k.dtype);
    vk_spec(&c, j->kv->v.dtype);
    if (tiled) {
        vk_spec(&c, t->pairs);
    } else {
        vk_spec(&c, t->chunk * t->queries);
    }
    if (t->shader == VK_SHADER_ATTEND) {
        vk_spec(&c, t->pairs);
        vk_spec(&c, j->slot != NULL);
    } else if (!tiled) {
        host_specs(dev, &c, j, w, at);
    }
    const struct vk_binding q = vk_bind(dev, j->q, 0, 0, false);
    vk_add(&c, vk_bind(dev, parts, 0, 0, true));
    vk_push(&c, vk_add(&c, q));
    vk_push(&c, vk_add(&c, j->pos != NULL ? vk_bind(dev, j->pos, 0, 0, false) : q));
    vk_push(&c, vk_add(&c, j->count != NULL ? vk_bind(dev, j->count, 0, 0, false) : q));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &j->kv->k, w, at, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &j->kv->v, w, at, false)));
    vk_push(&c, vk_add(&c, j->slot != NULL ? vk_bind(dev, j->slot, 0, 0, false) : q));
    const uint32_t numbers[] = {n,
                                j->n_heads,
                                group,
                                j->kv->k.cols,
                                at->head,
                                at->heads,
                                w->cap,
                                at->row,
                                at->rows,
                                t->queries,
                                t->chunk,
                                t->splits,
                                t->splits * w->row_pieces,
                                t->splits * at->row_piece,
                                j->window,
                                j->slot != NULL ? j->slot->cols : 0,
                                j->slot_row};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        vk_push(&c, numbers[i]);
    }
    vk_push_float(&c, j->scale);
    vk_push_float(&c, j->softcap);
    const uint64_t teams =
        (uint64_t)t->splits * tl_div_up(group, t->chunk) * at->heads * tl_div_up(n, t->queries);
    vk_teams(&c, teams);
    c.groups[0] = tiled ? (uint32_t)teams : c.groups[0]; /* a workgroup each */
    return vk_dispatch(s, &c);
}

/* Bytes of the parts of one query. */
static uint64_t part_bytes(const struct job *j, const struct vk_kv_walk *w, uint32_t splits) {
    return (uint64_t)j->n_heads * splits * w->row_pieces * (j->kv->k.cols + 2ull) * 4;
}

/* How rows are shared out among subgroups, for at most `*n` queries at a time: those whose parts
 * are one binding. A query's own splits become fewer where even they are more. */
static struct tiling tile_fitting(const struct vk_dev *dev, const struct job *j,
                                  const struct vk_kv_walk *w, uint64_t *n) {
    const uint32_t rows = j->slot != NULL ? j->slot->cols : w->rows_step;
    const uint32_t heads = j->kv->n_kv_heads, group = j->n_heads / heads, d = j->kv->k.cols;
    struct tiling t = tile(dev, (uint32_t)*n, heads, group, d, rows);
    while (*n > 1 && vk_window_rows(dev, part_bytes(j, w, t.splits)) < *n) {
        *n = tl_div_up(*n, 2);
        t = tile(dev, (uint32_t)*n, heads, group, d, rows);
    }
    while (t.splits > 1 && vk_window_rows(dev, part_bytes(j, w, t.splits)) == 0) {
        t.splits--;
    }
    return t;
}

static tl_err attend_queries(tl_stream *s, const struct job *j, const struct tiling *t,
                             const struct vk_kv_walk *w) {
    const uint32_t n_parts = t->splits * w->row_pieces;
    tl_view parts;
    TL_TRY(vk_scratch(s, 0, j->q->rows * part_bytes(j, w, t->splits), &parts));
    for (uint32_t i = 0; i < w->n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(w, i);
        TL_TRY(attend_window(s, j, t, w, &at, &parts));
    }
    return vk_attend_join(s, &parts, j->out, j->lse, j->n_heads, n_parts);
}

static tl_err attend(tl_stream *s, const struct job *j) {
    struct vk_dev *const dev = vk_dev_of(s);
    struct vk_kv_walk w;
    TL_TRY(vk_kv_windows(dev, j->kv, &w));
    uint64_t step = tl_min_u64(vk_window_rows(dev, 4ull * j->q->cols), j->q->rows);
    if (step == 0) {
        return vk_too_wide(dev, "queries");
    }
    const struct tiling t = tile_fitting(dev, j, &w, &step);
    for (uint64_t at = 0; at < j->q->rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, j->q->rows - at);
        struct job part = *j;
        const tl_view out = tl_view_rows(*j->out, first, n), q = tl_view_rows(*j->q, first, n);
        const tl_view lse = j->lse->buf != NULL ? tl_view_rows(*j->lse, first, n) : (tl_view){0};
        const tl_view pos = j->pos != NULL ? tl_view_rows(*j->pos, first, n) : (tl_view){0};
        part.out = &out;
        part.q = &q;
        part.lse = &lse;
        part.pos = j->pos != NULL ? &pos : NULL;
        TL_TRY(attend_queries(s, &part, &t, &w));
    }
    return TL_OK;
}

tl_err vk_attend(tl_stream *s, const struct tl_attend *op) {
    return attend(s, &(struct job){.out = &op->out,
                                   .lse = &op->lse,
                                   .q = &op->q,
                                   .pos = &op->q_pos,
                                   .count = &op->n_rows,
                                   .kv = &op->kv,
                                   .n_heads = op->n_heads,
                                   .window = op->window,
                                   .scale = op->scale,
                                   .softcap = op->softcap});
}

tl_err vk_attend_slots(tl_stream *s, const struct tl_attend_slots *op) {
    return attend(s, &(struct job){.out = &op->out,
                                   .lse = &op->lse,
                                   .q = &op->q,
                                   .slot = &op->slot,
                                   .kv = &op->kv,
                                   .n_heads = op->n_heads,
                                   .slot_row = op->row0,
                                   .scale = op->scale,
                                   .softcap = op->softcap});
}

static tl_err merge_rows(tl_stream *s, const struct tl_merge *op) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_MERGE, 2 * dev->info.subgroup);
    const uint32_t n = op->lse.rows * op->lse.cols;
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->out, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->lse, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->out_b, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->lse_b, 0, 0, false)));
    vk_push(&c, n);
    vk_push(&c, op->out.cols / op->lse.cols);
    vk_teams(&c, n);
    return vk_dispatch(s, &c);
}

tl_err vk_merge(tl_stream *s, const struct tl_merge *op) {
    const uint64_t step = vk_window_rows(vk_dev_of(s), 4ull * op->out.cols);
    if (step == 0) {
        return vk_too_wide(vk_dev_of(s), "heads");
    }
    for (uint64_t at = 0; at < op->out.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->out.rows - at);
        const struct tl_merge part = {.out = tl_view_rows(op->out, first, n),
                                      .lse = tl_view_rows(op->lse, first, n),
                                      .out_b = tl_view_rows(op->out_b, first, n),
                                      .lse_b = tl_view_rows(op->lse_b, first, n)};
        TL_TRY(merge_rows(s, &part));
    }
    return TL_OK;
}
