/* The hybrid cache's verbs: scores of compressed keys, the best of them, the rows fetched from
 * their home, attention over compressed rows, and the encoder. As in ops_attend.c, how much is
 * dispatched depends on capacities, not on what the cache holds now. */
#include "ops.h"

#include "core/vq.h"

enum {
    HEADS_MAX = 8,       /* query heads of a subgroup */
    SCORES_MAX = 32,     /* floats of scores that a lane keeps */
    SUMS_MAX = 128,      /* and of weighted sums */
    TEAMS_SOFTWARE = 16, /* subgroups that keep a device busy, as in ops_attend.c */
    HOST_DIM_MAX = 64, /* of attend_sketch_host.comp, and of its query heads together: twice as many
                        * take that driver's compiler ten times as long */
    TEAMS_HARDWARE = 512,
    GROUP_HEADS_MAX = 128, /* topk.comp's array */
};

uint32_t vk_sketch_heads(uint32_t group, uint64_t most) {
    const uint64_t limit = tl_max_u64(tl_min_u64(most, HEADS_MAX), 1);
    return (uint32_t)tl_div_up(group, tl_div_up(group, limit));
}

uint32_t vk_sketch_splits(const struct vk_dev *dev, uint64_t teams, uint32_t cap, uint32_t rounds) {
    const uint64_t wanted = vk_like_gpu(dev) ? TEAMS_HARDWARE : TEAMS_SOFTWARE;
    return (uint32_t)tl_max_u64(tl_min_u64(tl_div_up(wanted, teams), cap),
                                vk_least_teams(dev, (uint64_t)cap * rounds));
}

static tl_err sketch_windows(struct vk_dev *dev, const struct tl_sketch *k, uint64_t score_head,
                             struct vk_kv_walk *w) {
    const struct vk_kv_walk shape = {.n_heads = k->n_kv_heads, .cap = k->k.rows / k->n_kv_heads};
    return vk_windows(dev, &shape, tl_max_u64(k->k.cols, k->v.cols),
                      score_head != 0 ? vk_window_rows(dev, score_head) : UINT32_MAX, w);
}

struct vk_binding vk_bind_scores(const struct vk_dev *dev, const tl_view *score, uint32_t group,
                                 const struct vk_kv_window *at, bool writes) {
    const uint64_t row = (uint64_t)score->cols * 4;
    return vk_bind(dev, score, at->head * group * row, at->heads * group * row, writes);
}

/* Whether the scores of each block begin at 16 bytes. */
static bool are_wide(const struct vk_binding *b, const tl_view *score) {
    return b->first % 16 == 0 && score->cols % 4 == 0;
}

void vk_push_window(struct vk_call *c, const struct vk_kv_window *at) {
    vk_push(c, at->head);
    vk_push(c, at->heads);
    vk_push(c, at->row);
    vk_push(c, at->rows);
}

static tl_err score_window(tl_stream *s, const struct tl_key_score *op, const struct vk_kv_walk *w,
                           const struct vk_kv_window *at) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_sketch *const k = &op->sketch;
    const uint32_t group = op->n_heads / k->n_kv_heads;
    const uint32_t heads = vk_sketch_heads(group, SCORES_MAX * dev->info.subgroup / TL_BLOCK);
    const uint64_t pieces = tl_div_up(group, heads);
    const uint32_t strides =
        vk_sketch_splits(dev, pieces * at->heads, at->rows, 1 + 2 * k->head_dim);
    const bool gpu = vk_like_gpu(dev);
    const struct vk_binding score = vk_bind_scores(dev, &op->score, group, at, true);
    struct vk_call c = vk_call_of(dev, gpu ? VK_SHADER_KEY_SCORE : VK_SHADER_KEY_SCORE_HOST,
                                  2 * dev->info.subgroup);
    vk_spec(&c, tl_codec_bits(k->k_codec));
    vk_spec(&c, heads);
    if (!gpu) {
        vk_spec(&c, are_wide(&score, &op->score));
    }
    vk_push(&c, vk_add(&c, score));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &k->k, w, at, false)));
    vk_push(&c, group);
    vk_push(&c, k->head_dim);
    vk_push(&c, w->cap);
    vk_push(&c, op->score.cols);
    vk_push_window(&c, at);
    vk_push(&c, strides);
    vk_push_float(&c, op->scale);
    vk_push_float(&c, op->softcap);
    vk_teams(&c, strides * pieces * at->heads);
    return vk_dispatch(s, &c);
}

tl_err vk_key_score(tl_stream *s, const struct tl_key_score *op) {
    if (tl_vq_is(op->sketch.k_codec)) {
        return vk_vq_key_score(s, op);
    }
    const uint32_t group = op->n_heads / op->sketch.n_kv_heads;
    struct vk_kv_walk w;
    TL_TRY(sketch_windows(vk_dev_of(s), &op->sketch, (uint64_t)group * op->score.cols * 4, &w));
    for (uint32_t i = 0; i < w.n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(&w, i);
        TL_TRY(score_window(s, op, &w, &at));
    }
    return TL_OK;
}

tl_err vk_topk(tl_stream *s, const struct tl_topk *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t kv_heads = op->idx.rows, group = op->score.rows / kv_heads;
    const uint64_t head_bytes = (uint64_t)group * op->score.cols * 4;
    const uint64_t step = vk_window_rows(dev, head_bytes);
    tl_view keys;
    if (step == 0) {
        return vk_too_wide(dev, "scores");
    }
    if (group > GROUP_HEADS_MAX) {
        return vk_op_failed(dev, tl_fail(&dev->log, TL_ERR_UNSUPPORTED,
                                         "vulkan: %u query heads share a KV head, at most %d can",
                                         group, GROUP_HEADS_MAX));
    }
    TL_TRY(vk_scratch(s, 0, (uint64_t)kv_heads * op->score.cols * 4, &keys));
    for (uint64_t head = 0; head < kv_heads; head += step) {
        const uint64_t n = tl_min_u64(step, kv_heads - head);
        struct vk_call c = vk_call_of(dev, VK_SHADER_TOPK, 1024);
        vk_widen(dev, &c, tl_div_up(op->score.cols, dev->info.subgroup) * (2 * group + 8));
        const struct vk_binding count = vk_bind(dev, &op->n_rows, 0, 0, false);
        vk_push(&c, vk_add(&c, vk_bind(dev, &op->idx, 0, 0, true)));
        vk_push(&c, vk_add(&c, vk_bind(dev, &op->score, head * head_bytes, n * head_bytes, false)));
        vk_push(&c, vk_add(&c, count));
        const uint64_t key_bytes = op->score.cols * 4ull;
        vk_push(&c, vk_add(&c, vk_bind(dev, &keys, head * key_bytes, n * key_bytes, true)));
        vk_push(&c, vk_add(&c, vk_bind_optional(dev, &op->base, false, &count)));
        vk_push(&c, op->idx.cols);
        vk_push(&c, group);
        vk_push(&c, op->score.cols);
        vk_push(&c, (uint32_t)head);
        vk_push(&c, op->base.buf != NULL);
        c.groups[0] = (uint32_t)n;
        TL_TRY(vk_dispatch(s, &c));
    }
    return TL_OK;
}

/* What of tl_attend_sketch goes into one subgroup. */
struct tiling {
    bool host; /* attend_sketch_host.comp */
    uint32_t heads, channels, groups, splits;
    uint64_t pieces;
};

static struct tiling tile(const struct vk_dev *dev, const struct tl_attend_sketch *op,
                          const struct vk_kv_walk *w) {
    const uint32_t lanes = dev->info.subgroup, d = op->sketch.head_dim;
    const uint32_t group = op->n_heads / op->sketch.n_kv_heads;
    struct tiling t = {.host = !vk_like_gpu(dev) && d <= HOST_DIM_MAX,
                       .channels = (uint32_t)tl_div_up(d, lanes),
                       .groups = d % 64 == 0 && lanes <= 64 ? d / 64 : 0};
    const uint64_t sums = t.host ? HOST_DIM_MAX / d : SUMS_MAX / t.channels;
    t.heads = vk_sketch_heads(group, tl_min_u64(sums, 2ull * SCORES_MAX * lanes / TL_BLOCK));
    t.pieces = tl_div_up(group, t.heads);
    t.splits = vk_sketch_splits(dev, t.pieces * op->sketch.n_kv_heads * op->q.rows, w->rows_step,
                                1 + TL_BLOCK + (op->score.buf != NULL ? 0 : d));
    return t;
}

/* attend_sketch_host.comp's WIDE. */
static uint32_t host_wide(const struct vk_dev *dev, const struct tl_attend_sketch *op,
                          const struct vk_kv_walk *w, const struct vk_kv_window *at,
                          uint32_t group) {
    const uint32_t bits = op->sketch.head_dim * tl_codec_bits(op->sketch.v_codec); /* of a row */
    const struct vk_binding v = vk_bind_window(dev, &op->sketch.v, w, at, false);
    uint32_t wide = 0;
    if (op->score.buf != NULL) {
        const struct vk_binding score = vk_bind_scores(dev, &op->score, group, at, false);
        wide = are_wide(&score, &op->score) ? 1 : 0;
    }
    if (v.first % 16 != 0 || op->sketch.v.cols % 16 != 0) {
        return wide;
    }
    return wide | (bits % 128 == 0 ? 2 : bits % 64 == 0 ? 4 : 0);
}

static tl_err sketch_window(tl_stream *s, const struct tl_attend_sketch *op, const struct tiling *t,
                            const struct vk_kv_walk *w, const struct vk_kv_window *at,
                            const tl_view *parts) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_sketch *const k = &op->sketch;
    const bool scored = op->score.buf != NULL, skips = op->skip.buf != NULL;
    const uint32_t group = op->n_heads / k->n_kv_heads;
    struct vk_call c =
        vk_call_of(dev, t->host ? VK_SHADER_ATTEND_SKETCH_HOST : VK_SHADER_ATTEND_SKETCH,
                   2 * dev->info.subgroup);
    vk_spec(&c, scored ? 1 : tl_codec_bits(k->k_codec)); /* a codebook's have none */
    vk_spec(&c, t->heads);
    vk_spec(&c, tl_codec_bits(k->v_codec));
    vk_spec(&c, t->host ? k->head_dim : t->channels);
    vk_spec(&c, (scored ? 1u : 0u) | (skips ? 2u : 0u));
    vk_spec(&c, t->host ? host_wide(dev, op, w, at, group) : t->groups);
    const struct vk_binding q = vk_bind(dev, &op->q, 0, 0, false);
    vk_add(&c, vk_bind(dev, parts, 0, 0, true));
    vk_push(&c, vk_add(&c, q));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, vk_add(&c, scored ? vk_bind_scores(dev, &op->score, group, at, false) : q));
    vk_push(&c, vk_add(&c, vk_bind_optional(dev, &op->skip, false, &q)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &k->k, w, at, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &k->v, w, at, false)));
    vk_push(&c, op->q.rows);
    vk_push(&c, op->n_heads);
    vk_push(&c, group);
    vk_push(&c, k->head_dim);
    vk_push(&c, w->cap);
    vk_push(&c, scored ? op->score.cols : 0);
    vk_push_window(&c, at);
    vk_push(&c, t->splits);
    vk_push(&c, t->splits * w->row_pieces);
    vk_push(&c, t->splits * at->row_piece);
    vk_push(&c, skips ? op->skip.cols : 0);
    vk_push_float(&c, op->scale);
    vk_push_float(&c, op->softcap);
    vk_teams(&c, t->splits * t->pieces * at->heads * op->q.rows);
    return vk_dispatch(s, &c);
}

static uint64_t part_bytes(const struct tl_attend_sketch *op, uint32_t n_parts) {
    return (uint64_t)op->n_heads * n_parts * (op->sketch.head_dim + 2ull) * 4;
}

static tl_err sketch_queries(tl_stream *s, const struct tl_attend_sketch *op,
                             const struct tiling *t, const struct vk_kv_walk *w) {
    const uint32_t n_parts = t->splits * w->row_pieces;
    tl_view parts;
    TL_TRY(vk_scratch(s, 0, op->q.rows * part_bytes(op, n_parts), &parts));
    for (uint32_t i = 0; i < w->n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(w, i);
        TL_TRY(sketch_window(s, op, t, w, &at, &parts));
    }
    return vk_attend_join(s, &parts, &op->out, &op->lse, op->n_heads, n_parts);
}

/* So many queries at a time that their parts are one binding, as in ops_attend.c. */
tl_err vk_attend_sketch(tl_stream *s, const struct tl_attend_sketch *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    if (tl_vq_is(op->sketch.v_codec) || (tl_vq_is(op->sketch.k_codec) && op->score.buf == NULL)) {
        return vk_vq_attend(s, op);
    }
    const uint64_t score_head =
        op->score.buf != NULL ? (uint64_t)(op->n_heads / op->sketch.n_kv_heads) * op->score.cols * 4
                              : 0;
    struct vk_kv_walk w;
    TL_TRY(sketch_windows(dev, &op->sketch, score_head, &w));
    struct tiling t = tile(dev, op, &w);
    uint64_t step = tl_min_u64(vk_window_rows(dev, 4ull * op->q.cols), op->q.rows);
    if (step == 0) {
        return vk_too_wide(dev, "queries");
    }
    while (t.splits > 1 && vk_window_rows(dev, part_bytes(op, t.splits * w.row_pieces)) == 0) {
        t.splits--;
    }
    step = tl_max_u64(
        tl_min_u64(vk_window_rows(dev, part_bytes(op, t.splits * w.row_pieces)), step), 1);
    for (uint64_t at = 0; at < op->q.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->q.rows - at);
        struct tl_attend_sketch part = *op;
        part.q = tl_view_rows(op->q, first, n);
        part.out = tl_view_rows(op->out, first, n);
        part.lse = tl_view_rows(op->lse, first, n);
        TL_TRY(sketch_queries(s, &part, &t, &w));
    }
    return TL_OK;
}

/* Which row goes where; moves (2 n_kv_heads, k): slots to copy to, and fetch.comp's own notes. */
static tl_err fetch_slots(tl_stream *s, const struct tl_fetch *op, const tl_view *moves) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_FETCH, dev->info.subgroup);
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->idx, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->slot, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->owner, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->used, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->hand, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->counts, 0, 0, true)));
    vk_add(&c, vk_bind(dev, moves, 0, 0, true));
    vk_push(&c, op->idx.rows);
    vk_push(&c, op->idx.cols);
    vk_push(&c, op->owner.cols);
    vk_teams(&c, op->idx.rows);
    return vk_dispatch(s, &c);
}

static tl_err fetch_window(tl_stream *s, const struct tl_fetch *op, const tl_view *moves,
                           const struct vk_kv_walk *w, const struct vk_kv_window *at, bool keys) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const tl_view *const hot = keys ? &op->hot.k : &op->hot.v;
    const tl_view *const home = keys ? &op->home.k : &op->home.v;
    const uint64_t row_bytes = tl_row_bytes(hot->dtype, hot->cols);
    const uint64_t head_bytes = op->owner.cols * row_bytes;
    struct vk_call c = vk_call_of(dev, VK_SHADER_FETCH_ROWS, 4 * dev->info.subgroup);
    vk_push(&c, vk_add(&c, vk_bind(dev, hot, at->head * head_bytes, at->heads * head_bytes, true)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, home, w, at, false)));
    vk_add(&c, vk_bind(dev, moves, 0, 0, false));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->idx, 0, 0, false)));
    vk_push(&c, op->idx.cols);
    vk_push(&c, op->owner.cols);
    vk_push(&c, w->cap);
    vk_push(&c, (uint32_t)row_bytes);
    vk_push(&c, op->row0);
    vk_push_window(&c, at);
    vk_teams(&c, (uint64_t)at->heads * op->idx.cols);
    return vk_dispatch(s, &c);
}

tl_err vk_fetch(tl_stream *s, const struct tl_fetch *op) {
    struct vk_kv_walk w;
    tl_view moves;
    TL_TRY(vk_kv_windows(vk_dev_of(s), &op->home, &w));
    /* A window's heads are bound of the hot rows too. */
    const uint64_t hot_row = tl_max_u64(tl_row_bytes(op->hot.k.dtype, op->hot.k.cols),
                                        tl_row_bytes(op->hot.v.dtype, op->hot.v.cols));
    TL_TRY(vk_windows(vk_dev_of(s), &w, hot_row,
                      vk_window_rows(vk_dev_of(s), op->owner.cols * hot_row), &w));
    TL_TRY(vk_scratch(s, 1, 2ull * op->idx.rows * op->idx.cols * 4, &moves));
    TL_TRY(fetch_slots(s, op, &moves));
    for (uint32_t i = 0; i < w.n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(&w, i);
        TL_TRY(fetch_window(s, op, &moves, &w, &at, true));
        TL_TRY(fetch_window(s, op, &moves, &w, &at, false));
    }
    return TL_OK;
}

/* Blocks [first, first + n) of the op for heads [head, head + heads), of keys or of values:
 * headers, or the codes that follow from them. */
struct compress_part {
    uint32_t head, heads, first, n;
    bool values, headers;
};

static tl_err compress_part(tl_stream *s, const struct tl_compress *op,
                            const struct compress_part *p) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const tl_view *const dst = p->values ? &op->dst.v : &op->dst.k;
    const tl_view *const src = p->values ? &op->src.v : &op->src.k;
    const uint32_t bits = tl_codec_bits(p->values ? op->dst.v_codec : op->dst.k_codec);
    const uint32_t d = op->dst.head_dim;
    const uint64_t dst_cap = dst->rows / op->dst.n_kv_heads;
    const uint64_t src_cap = src->rows / op->dst.n_kv_heads, src_row = tl_row_bytes(TL_F16, d);
    const uint64_t to = p->head * dst_cap + op->dst_block + p->first;
    const uint64_t from = p->head * src_cap + op->src_row + (uint64_t)p->first * TL_BLOCK;
    struct vk_call c = vk_call_of(dev, VK_SHADER_COMPRESS, 64);
    vk_spec(&c, bits);
    vk_spec(&c, p->headers);
    vk_spec(&c, p->values);
    vk_spec(&c, op->fit == TL_FIT_SQUARES);
    vk_spec(&c, p->values ? tl_codec_stretch(op->dst.v_codec) : 16);
    vk_push(&c, vk_add(&c, vk_bind(dev, dst, to * dst->cols,
                                   ((p->heads - 1) * dst_cap + p->n) * dst->cols, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, src, from * src_row,
                                   ((p->heads - 1) * src_cap + p->n * TL_BLOCK) * src_row, false)));
    vk_push(&c, d);
    vk_push(&c, p->heads);
    vk_push(&c, p->n);
    vk_push(&c, (uint32_t)dst_cap);
    vk_push(&c, (uint32_t)src_cap);
    const uint32_t groups = p->values ? TL_BLOCK * (d / tl_codec_value_group(d)) : d;
    vk_loop_over(&c, (uint64_t)p->heads * p->n * (p->headers ? groups : 2 * bits * d));
    return vk_dispatch(s, &c);
}

/* All heads at once where their rows fit a binding, else head by head, some blocks at a time. */
tl_err vk_compress(tl_stream *s, const struct tl_compress *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t heads = op->dst.n_kv_heads;
    const uint64_t rows = vk_window_rows(dev, tl_row_bytes(TL_F16, op->dst.head_dim));
    const uint64_t sketch_rows = vk_window_rows(dev, tl_max_u64(op->dst.k.cols, op->dst.v.cols));
    const bool whole = op->src.k.rows <= rows && op->dst.k.rows <= sketch_rows;
    const uint64_t step = whole ? op->n_blocks : tl_min_u64(rows / TL_BLOCK, sketch_rows);
    if (step == 0) {
        return vk_too_wide(dev, "a block");
    }
    for (uint32_t head = 0; head < heads; head += whole ? heads : 1) {
        for (uint64_t first = 0; first < op->n_blocks; first += step) {
            struct compress_part part = {.head = head,
                                         .heads = whole ? heads : 1,
                                         .first = (uint32_t)first,
                                         .n = (uint32_t)tl_min_u64(step, op->n_blocks - first)};
            for (uint32_t pass = 0; pass < 4; pass++) {
                part.values = pass % 2 == 1;
                part.headers = pass < 2;
                if (!tl_vq_is(part.values ? op->dst.v_codec : op->dst.k_codec)) {
                    TL_TRY(compress_part(s, op, &part));
                }
            }
        }
    }
    return vk_vq_compress(s, op);
}
