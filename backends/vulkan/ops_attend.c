/* Attention in parts: each subgroup takes a stretch of rows and leaves a part, and the parts of a
 * query head are joined. How many parts there are depends on shapes and on the device alone, never
 * on what the cache holds, so that a recorded step serves at any depth. */
#include "ops.h"

enum {
    SUMS_MAX = 128,      /* floats of weighted sums that a lane keeps */
    ROWS_MAX = 8,        /* query heads of a subgroup */
    TEAMS_SOFTWARE = 8,  /* subgroups that keep a software driver's threads busy */
    TEAMS_HARDWARE = 512 /* and a GPU's units: some for each of 128 */
};

/* What of an op goes into one subgroup. */
struct tiling {
    uint32_t pairs;   /* of channels, a lane */
    uint32_t queries; /* of a subgroup */
    uint32_t chunk;   /* query heads of a group, likewise */
    uint32_t splits;  /* of the rows of a window */
};

static struct tiling tile(const struct vk_dev *dev, uint32_t n, uint32_t heads, uint32_t group,
                          uint32_t d, uint32_t cap) {
    const uint32_t lanes = dev->info.subgroup;
    struct tiling t = {.pairs = (uint32_t)tl_div_up(d, 2ull * lanes)};
    const uint64_t most = tl_max_u64(tl_min_u64(SUMS_MAX / (2ull * t.pairs), ROWS_MAX), 1);
    t.chunk = (uint32_t)tl_min_u64(group, most);
    t.queries = (uint32_t)tl_max_u64(tl_min_u64(most / t.chunk, n), 1);
    const uint64_t teams = tl_div_up(n, t.queries) * tl_div_up(group, t.chunk) * heads;
    const uint64_t wanted = vk_like_gpu(dev) ? TEAMS_HARDWARE : TEAMS_SOFTWARE;
    const uint64_t useful = tl_div_up(cap, 4ull * lanes);
    const uint64_t rounds = tl_div_up(cap, lanes) * (1 + tl_div_up(d, 8) + lanes);
    t.splits = (uint32_t)tl_max_u64(tl_min_u64(wanted / teams, useful), vk_least_teams(dev, rounds));
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

static tl_err attend_window(tl_stream *s, const struct job *j, const struct tiling *t,
                            const struct vk_kv_walk *w, const struct vk_kv_window *at,
                            const tl_view *parts) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t group = j->n_heads / j->kv->n_kv_heads, n = j->q->rows;
    struct vk_call c = vk_call_of(dev, VK_SHADER_ATTEND, 2 * dev->info.subgroup);
    vk_spec(&c, j->kv->k.dtype);
    vk_spec(&c, j->kv->v.dtype);
    vk_spec(&c, t->chunk * t->queries);
    vk_spec(&c, t->pairs);
    vk_spec(&c, j->slot != NULL);
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
    vk_teams(&c, (uint64_t)t->splits * tl_div_up(group, t->chunk) * at->heads *
                     tl_div_up(n, t->queries));
    return vk_dispatch(s, &c);
}

static tl_err attend(tl_stream *s, const struct job *j) {
    struct vk_dev *const dev = vk_dev_of(s);
    struct vk_kv_walk w;
    TL_TRY(vk_kv_windows(dev, j->kv, &w));
    const uint32_t rows = j->slot != NULL ? j->slot->cols : w.rows_step;
    const struct tiling t = tile(dev, j->q->rows, j->kv->n_kv_heads, j->n_heads / j->kv->n_kv_heads,
                                 j->kv->k.cols, rows);
    const uint32_t n_parts = t.splits * w.row_pieces;
    tl_view parts;
    TL_TRY(vk_scratch(
        s, 0, (uint64_t)j->q->rows * j->n_heads * n_parts * (j->kv->k.cols + 2ull) * 4, &parts));
    for (uint32_t i = 0; i < w.n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(&w, i);
        TL_TRY(attend_window(s, j, &t, &w, &at, &parts));
    }
    return vk_attend_join(s, &parts, j->out, j->lse, j->n_heads, n_parts);
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

tl_err vk_merge(tl_stream *s, const struct tl_merge *op) {
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
