/* tl_mass: scores of some queries into scratch, then what the largest of them hold, then the mean.
 * The scores of a long cache are many, so queries go through in batches, and where the scores of
 * one query are more than a binding, some of its KV heads at a time. */
#include "ops.h"

enum { BATCH_BYTES = 64 << 20 };

struct batch {
    uint32_t query, queries;
    uint32_t head, heads; /* query heads */
};

/* op: with the KV heads of the batch. */
static tl_err score_window(tl_stream *s, const struct tl_mass *op, const struct batch *b,
                           uint32_t group, const struct vk_kv_walk *w,
                           const struct vk_kv_window *at, const tl_view *scores) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t teams = (uint64_t)b->queries * at->heads * group;
    const uint64_t rounds =
        tl_div_up(at->rows, dev->info.subgroup) * (1 + tl_div_up(op->kv.k.cols, 8) * 9);
    const uint32_t strides = (uint32_t)tl_max_u64(256 / teams, vk_least_teams(dev, rounds));
    struct vk_call c = vk_call_of(dev, VK_SHADER_MASS_SCORE, 4 * dev->info.subgroup);
    vk_spec(&c, op->kv.k.dtype);
    vk_add(&c, vk_bind(dev, scores, 0, 0, true));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q_pos, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_rows, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &op->kv.k, w, at, false)));
    const uint32_t numbers[] = {b->query, b->queries,    b->head,  b->heads,  op->n_heads,
                                group,    op->kv.k.cols, at->head, at->heads, w->cap,
                                at->row,  at->rows,      strides,  op->window};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        vk_push(&c, numbers[i]);
    }
    vk_push_float(&c, op->scale);
    vk_push_float(&c, op->softcap);
    vk_teams(&c, strides * teams);
    return vk_dispatch(s, &c);
}

static tl_err pick(tl_stream *s, const struct tl_mass *op, const struct batch *b, bool mean,
                   const tl_view *scores, const tl_view *held) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_MASS, 256);
    const uint64_t cap = op->kv.k.rows / op->kv.n_kv_heads;
    vk_widen(dev, &c, tl_div_up(cap, dev->info.subgroup) * 5 * (op->n_parts + 1ull));
    vk_spec(&c, mean);
    vk_add(&c, vk_bind(dev, held, 0, 0, !mean));
    vk_add(&c, vk_bind(dev, scores, 0, 0, false));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q_pos, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_rows, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->mass, 0, 0, true)));
    vk_push(&c, b->query);
    vk_push(&c, b->queries);
    vk_push(&c, b->head);
    vk_push(&c, b->heads);
    vk_push(&c, op->n_heads);
    vk_push(&c, (uint32_t)cap);
    vk_push(&c, op->window);
    vk_push(&c, op->n_parts);
    for (uint32_t i = 0; i < TL_MASS_PARTS_MAX / 2; i++) {
        vk_push(&c, op->parts[2 * i] | (uint32_t)op->parts[2 * i + 1] << 16);
    }
    if (mean) {
        vk_loop_over(&c, (uint64_t)op->n_heads * op->n_parts);
    } else {
        c.groups[0] = b->queries * b->heads;
    }
    return vk_dispatch(s, &c);
}

/* One batch: the KV heads of its query heads alone are walked. */
static tl_err batch(tl_stream *s, const struct tl_mass *op, const struct batch *b,
                    const tl_view *held) {
    const uint32_t group = op->n_heads / op->kv.n_kv_heads, cap = op->kv.k.rows / op->kv.n_kv_heads;
    struct tl_mass part = *op;
    struct vk_kv_walk w;
    tl_view scores;
    part.kv.n_kv_heads = b->heads / group;
    part.kv.k = tl_view_rows(op->kv.k, b->head / group * cap, part.kv.n_kv_heads * cap);
    part.kv.v = tl_view_rows(op->kv.v, b->head / group * cap, part.kv.n_kv_heads * cap);
    TL_TRY(vk_kv_windows(vk_dev_of(s), &part.kv, &w));
    TL_TRY(vk_scratch(s, 0, 4ull * b->queries * b->heads * cap, &scores));
    for (uint32_t i = 0; i < w.n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(&w, i);
        TL_TRY(score_window(s, &part, b, group, &w, &at, &scores));
    }
    return pick(s, op, b, false, &scores, held);
}

tl_err vk_mass(tl_stream *s, const struct tl_mass *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t cap = op->kv.k.rows / op->kv.n_kv_heads, n = op->q.rows;
    const uint64_t group = op->n_heads / op->kv.n_kv_heads;
    const uint64_t room = tl_min_u64(BATCH_BYTES, vk_window_rows(dev, 1));
    const uint64_t queries = tl_max_u64(room / (op->n_heads * cap * 4), 1);
    const uint64_t some = room / (group * cap * 4) * group; /* query heads of one query */
    const uint64_t heads = tl_min_u64(some > 0 ? some : group, op->n_heads);
    tl_view held;
    TL_TRY(vk_scratch(s, 1, n * op->n_heads * op->n_parts * 4, &held));
    for (uint64_t query = 0; query < n; query += queries) {
        for (uint64_t head = 0; head < op->n_heads; head += heads) {
            const struct batch b = {(uint32_t)query, (uint32_t)tl_min_u64(queries, n - query),
                                    (uint32_t)head,
                                    (uint32_t)tl_min_u64(heads, op->n_heads - head)};
            TL_TRY(batch(s, op, &b, &held));
        }
    }
    return pick(s, op, &(struct batch){0, op->q.rows, 0, op->n_heads}, true, &held, &held);
}
