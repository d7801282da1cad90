/* tl_mass: scores of some queries into scratch, then what the largest of them hold, then the mean.
 * The scores of a long cache are many, so queries go through in batches; a whole batch is one
 * binding. */
#include "ops.h"

enum { BATCH_BYTES = 64 << 20 };

struct batch {
    uint32_t query, queries;
};

static tl_err score_window(tl_stream *s, const struct tl_mass *op, const struct batch *b,
                           const struct vk_kv_walk *w, const struct vk_kv_window *at,
                           const tl_view *scores) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t group = op->n_heads / op->kv.n_kv_heads;
    const uint64_t teams = (uint64_t)b->queries * at->heads * group;
    const uint64_t rounds = tl_div_up(at->rows, dev->info.subgroup) * (1 + tl_div_up(op->kv.k.cols, 8) * 9);
    const uint32_t strides = (uint32_t)tl_max_u64(256 / teams, vk_least_teams(dev, rounds));
    struct vk_call c = vk_call_of(dev, VK_SHADER_MASS_SCORE, 4 * dev->info.subgroup);
    vk_spec(&c, op->kv.k.dtype);
    vk_add(&c, vk_bind(dev, scores, 0, 0, true));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q_pos, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_rows, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &op->kv.k, w, at, false)));
    const uint32_t numbers[] = {b->query,      b->queries, op->n_heads, group,
                                op->kv.k.cols, at->head,   at->heads,   w->cap,
                                at->row,       at->rows,   strides,     op->window};
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
        c.groups[0] = b->queries * op->n_heads;
    }
    return vk_dispatch(s, &c);
}

tl_err vk_mass(tl_stream *s, const struct tl_mass *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t cap = op->kv.k.rows / op->kv.n_kv_heads, query_bytes = op->n_heads * cap * 4;
    const uint64_t fits = tl_max_u64(BATCH_BYTES / query_bytes, 1), n = op->q.rows;
    struct vk_kv_walk w;
    tl_view scores, held;
    TL_TRY(vk_kv_windows(dev, &op->kv, &w));
    TL_TRY(vk_scratch(s, 0, tl_min_u64(fits, n) * query_bytes, &scores));
    TL_TRY(vk_scratch(s, 1, n * op->n_heads * op->n_parts * 4, &held));
    for (uint64_t query = 0; query < n; query += fits) {
        const struct batch b = {(uint32_t)query, (uint32_t)tl_min_u64(fits, n - query)};
        for (uint32_t i = 0; i < w.n_windows; i++) {
            const struct vk_kv_window at = vk_kv_window_at(&w, i);
            TL_TRY(score_window(s, op, &b, &w, &at, &scores));
        }
        TL_TRY(pick(s, op, &b, false, &scores, &held));
    }
    return pick(s, op, &(struct batch){0, op->q.rows}, true, &scores, &held);
}
