/* The verbs of compressed rows where keys or values are by a codebook (core/vq.h). To encode, rows
 * are turned into scratch, each block's scale is found, and then its codes. To score, queries are
 * turned, their products with every entry go into a table, once for all blocks and for all query
 * heads of a group, and codes look them up; values are looked up in the codebook, and the outputs
 * turned back. ops_cache.c has the rest. */
#include "ops.h"

#include "core/vq.h"

enum {
    TURNED_FLOATS =
        2048, /* of a workgroup's rows in shared memory, rows of wide heads alone more */
    ENCODED_BYTES = 16 << 20, /* of turned rows at a time */
    TABLE_BYTES = 8 << 20,    /* of tables at a time, unless one query of a KV head takes more */
    BOOK_BYTES = 8 << 10,     /* codebooks that go to shared memory */
    PLACE_ROWS = TL_BLOCK,
    SUMS_MAX = 128, /* floats of weighted sums that a lane keeps */
    SCORES_MAX = 64,
};

static uint32_t form_of(tl_codec codec) { return tl_vq_dim(codec) << 8 | tl_vq_bits(codec); }

/* ---- turning ---- */

/* Rows of d floats, or of halves that are to be encoded. */
struct turn {
    const tl_view *to, *from, *smooth;   /* smooth may be absent */
    uint64_t to_at, from_at, from_bytes; /* where they begin; 0 bytes: all */
    uint32_t d, n, heads, group;
    bool encodes;
    uint32_t cap, blocks, head;
};

static tl_err turn(tl_stream *s, const struct turn *t) {
    const struct vk_dev *const dev = vk_dev_of(s);
    uint32_t rows = 16; /* of a workgroup; a divisor of a block's */
    while (rows > 1 && rows * t->d > TURNED_FLOATS) {
        rows /= 2;
    }
    rows = t->encodes ? rows : 1;
    struct vk_call c = vk_call_of(dev, VK_SHADER_VQ_TURN, 64);
    vk_spec(&c, rows);
    vk_spec(&c, t->d);
    vk_spec(&c, t->encodes);
    const struct vk_binding from = vk_bind(dev, t->from, t->from_at, t->from_bytes, false);
    vk_push(&c, vk_add(&c, vk_bind(dev, t->to, t->to_at, 0, true)));
    vk_push(&c, vk_add(&c, from));
    vk_push(&c, vk_add(&c, vk_bind_optional(dev, t->smooth, false, &from)));
    vk_push(&c, t->smooth->buf != NULL);
    vk_push(&c, t->n);
    vk_push(&c, t->heads);
    vk_push(&c, t->group);
    vk_push(&c, t->cap);
    vk_push(&c, t->blocks);
    vk_push(&c, t->head);
    c.groups[0] = (uint32_t)tl_div_up(t->n, rows);
    return vk_dispatch(s, &c);
}

/* ---- encoding ---- */

/* Blocks [first, first + n) of the op for heads [head, head + heads), of keys or of values. */
struct encode_part {
    const struct tl_compress *op;
    bool values;
    uint32_t head, heads, first, n;
};

static const tl_view *side(const struct encode_part *p) {
    return p->values ? &p->op->dst.v : &p->op->dst.k;
}

static struct vk_binding bind_encoded(const struct vk_dev *dev, const struct encode_part *p) {
    const tl_view *const dst = side(p);
    const uint64_t cap = dst->rows / p->op->dst.n_kv_heads;
    return vk_bind(dev, dst, (p->head * cap + p->op->dst_block + p->first) * dst->cols,
                   ((p->heads - 1) * cap + p->n) * dst->cols, true);
}

static tl_err turn_rows(tl_stream *s, const struct encode_part *p, const tl_view *turned) {
    const tl_view *const src = p->values ? &p->op->src.v : &p->op->src.k;
    const uint64_t cap = src->rows / p->op->dst.n_kv_heads, row = tl_row_bytes(TL_F16, src->cols);
    static const tl_view absent;
    const struct turn t = {
        .to = turned,
        .from = src,
        .smooth = p->values ? &absent : &p->op->dst.smooth,
        .from_at = (p->head * cap + p->op->src_row + (uint64_t)p->first * TL_BLOCK) * row,
        .from_bytes = ((p->heads - 1) * cap + (uint64_t)p->n * TL_BLOCK) * row,
        .d = src->cols,
        .n = p->heads * p->n * TL_BLOCK,
        .encodes = true,
        .cap = (uint32_t)cap,
        .blocks = p->n,
        .head = p->head};
    return turn(s, &t);
}

static tl_err find_scales(tl_stream *s, const struct encode_part *p, const tl_view *turned,
                          const tl_view *scales) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const tl_view *const dst = side(p);
    struct vk_call c = vk_call_of(dev, VK_SHADER_VQ_SCALE, 64);
    vk_push(&c, vk_add(&c, bind_encoded(dev, p)));
    vk_push(&c, vk_add(&c, vk_bind(dev, turned, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, scales, 0, 0, true)));
    vk_push(&c, p->op->dst.head_dim);
    vk_push(&c, p->n);
    vk_push(&c, dst->rows / p->op->dst.n_kv_heads);
    vk_push(&c, dst->cols / 4);
    vk_push_float(&c, p->values ? tl_vq_stretch(p->op->dst.v_codec) : 1.0f);
    c.groups[0] = p->heads * p->n;
    return vk_dispatch(s, &c);
}

static tl_err find_codes(tl_stream *s, const struct encode_part *p, const tl_view *turned,
                         const tl_view *scales) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_sketch *const dst = &p->op->dst;
    const tl_codec codec = p->values ? dst->v_codec : dst->k_codec;
    struct vk_call c = vk_call_of(dev, VK_SHADER_VQ_ENCODE, PLACE_ROWS);
    const uint32_t group = c.variant.specs[0];
    const uint32_t vectors = group < PLACE_ROWS      ? PLACE_ROWS / group
                             : tl_vq_dim(codec) == 8 ? 2
                                                     : 4;
    const uint32_t pieces = (uint32_t)tl_div_up(dst->head_dim / tl_vq_dim(codec),
                                                (uint64_t)group * vectors / PLACE_ROWS);
    vk_spec(&c, form_of(codec));
    vk_spec(&c, vectors);
    vk_push(&c, vk_add(&c, bind_encoded(dev, p)));
    vk_push(&c, vk_add(&c, vk_bind(dev, turned, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, scales, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, p->values ? &dst->v_book : &dst->k_book, 0, 0, false)));
    vk_push(&c, dst->head_dim);
    vk_push(&c, p->n);
    vk_push(&c, side(p)->rows / dst->n_kv_heads);
    vk_push(&c, pieces);
    c.groups[0] = pieces * p->heads * p->n;
    return vk_dispatch(s, &c);
}

static tl_err encode_part(tl_stream *s, const struct encode_part *p) {
    const uint64_t blocks = (uint64_t)p->heads * p->n,
                   floats = blocks * TL_BLOCK * p->op->dst.head_dim;
    tl_view all;
    TL_TRY(vk_scratch(s, 0, (floats + blocks) * sizeof(float), &all));
    const tl_view turned = tl_view_rows(all, 0, (uint32_t)floats);
    const tl_view scales = tl_view_rows(all, (uint32_t)floats, (uint32_t)blocks);
    TL_TRY(turn_rows(s, p, &turned));
    TL_TRY(find_scales(s, p, &turned, &scales));
    return find_codes(s, p, &turned, &scales);
}

/* All heads at once where that is not too much, else head by head, some blocks at a time. */
static tl_err compress_side(tl_stream *s, const struct tl_compress *op, bool values) {
    struct vk_dev *const dev = vk_dev_of(s);
    const tl_view *const dst = values ? &op->dst.v : &op->dst.k;
    const uint32_t heads = op->dst.n_kv_heads, d = op->dst.head_dim;
    const uint64_t rows = vk_window_rows(dev, tl_row_bytes(TL_F16, d));
    const uint64_t blocks = vk_window_rows(dev, dst->cols);
    const uint64_t block = TL_BLOCK * d * sizeof(float);
    const uint64_t turned = tl_min_u64(ENCODED_BYTES / block, vk_window_rows(dev, block));
    const bool whole =
        op->src.k.rows <= rows && dst->rows <= blocks && (uint64_t)op->n_blocks * heads <= turned;
    const uint64_t step =
        whole ? op->n_blocks : tl_min_u64(tl_min_u64(rows / TL_BLOCK, blocks), turned);
    if (step == 0) {
        return vk_too_wide(dev, "a block");
    }
    for (uint32_t head = 0; head < heads; head += whole ? heads : 1) {
        for (uint64_t first = 0; first < op->n_blocks; first += step) {
            const struct encode_part part = {op,
                                             values,
                                             head,
                                             whole ? heads : 1,
                                             (uint32_t)first,
                                             (uint32_t)tl_min_u64(step, op->n_blocks - first)};
            TL_TRY(encode_part(s, &part));
        }
    }
    return TL_OK;
}

tl_err vk_vq_compress(tl_stream *s, const struct tl_compress *op) {
    if (tl_vq_is(op->dst.k_codec)) {
        TL_TRY(compress_side(s, op, false));
    }
    return tl_vq_is(op->dst.v_codec) ? compress_side(s, op, true) : TL_OK;
}

/* ---- scores and mixtures ---- */

/* How queries meet a sketch. */
struct tiling {
    uint32_t group, heads; /* query heads of a KV head, of a subgroup */
    uint64_t pieces;       /* subgroups of a group */
    uint64_t table_bytes;  /* of a query of a KV head; 0: there is no table */
    uint32_t channels;     /* of a lane */
    struct vk_kv_walk walk;
};

/* Windows of KV heads whose tables are not too many; score_head: bytes of scores of a KV head, or
 * 0. */
static tl_err tile(struct vk_dev *dev, const struct tl_sketch *k, uint32_t n_heads,
                   uint64_t score_head, bool table, struct tiling *t) {
    const uint32_t lanes = dev->info.subgroup, group = n_heads / k->n_kv_heads, d = k->head_dim;
    const uint32_t dim = tl_vq_is(k->v_codec) ? tl_vq_dim(k->v_codec) : 1;
    const struct vk_kv_walk shape = {.n_heads = k->n_kv_heads, .cap = k->k.rows / k->n_kv_heads};
    uint64_t heads_most = score_head != 0 ? vk_window_rows(dev, score_head) : UINT32_MAX;
    *t = (struct tiling){.group = group, .channels = (uint32_t)tl_div_up(d / dim, lanes) * dim};
    t->heads = vk_sketch_heads(
        group, tl_min_u64(SUMS_MAX / t->channels, (uint64_t)SCORES_MAX * lanes / TL_BLOCK));
    t->pieces = tl_div_up(group, t->heads);
    if (table) {
        const uint32_t floats = t->heads > 2 ? (uint32_t)tl_align_up(t->heads, 4) : t->heads;
        t->table_bytes = t->pieces * (d / tl_vq_dim(k->k_codec)) * tl_vq_entries(k->k_codec) *
                         (uint64_t)floats * sizeof(float);
        const uint64_t fit = vk_window_rows(dev, t->table_bytes);
        if (fit == 0) {
            return vk_too_wide(dev, "products with a codebook");
        }
        heads_most =
            tl_min_u64(heads_most, tl_min_u64(fit, tl_max_u64(TABLE_BYTES / t->table_bytes, 1)));
    }
    return vk_windows(dev, &shape, tl_max_u64(k->k.cols, k->v.cols), heads_most, &t->walk);
}

/* Queries as the keys' codebook is, and the room for their tables. */
struct products {
    tl_view q, table;
    uint32_t step; /* queries that have tables at a time */
};

static tl_err open_products(tl_stream *s, const tl_view *q, const struct tl_sketch *k,
                            uint32_t n_heads, const struct tiling *t, struct products *p) {
    const uint64_t q_bytes = tl_align_up(tl_view_bytes(*q), 256);
    const uint64_t query = t->table_bytes * t->walk.heads_step;
    const uint64_t most = tl_min_u64(TABLE_BYTES / query, vk_window_rows(vk_dev_of(s), query));
    tl_view all;
    p->step = (uint32_t)tl_max_u64(tl_min_u64(most, q->rows), 1);
    TL_TRY(vk_scratch(s, 1, q_bytes + p->step * query, &all));
    p->q = tl_view_of(all.buf, 0, q->rows * n_heads, k->head_dim, TL_F32);
    p->table = tl_view_rows(all, (uint32_t)(q_bytes / 4), (uint32_t)(p->step * query / 4));
    const struct turn turn_q = {.to = &p->q,
                                .from = q,
                                .smooth = &k->smooth,
                                .d = k->head_dim,
                                .n = q->rows * n_heads,
                                .heads = n_heads,
                                .group = t->group};
    return turn(s, &turn_q);
}

/* The tables of queries [query, query + n) and the window's heads. */
static tl_err make_table(tl_stream *s, const struct products *p, const struct tl_sketch *k,
                         const struct tiling *t, const struct vk_kv_window *at, uint32_t query,
                         uint32_t n) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_VQ_TABLE, 64);
    vk_spec(&c, form_of(k->k_codec));
    vk_spec(&c, t->heads);
    vk_push(&c, vk_add(&c, vk_bind(dev, &p->table, 0, n * at->heads * t->table_bytes, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &p->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &k->k_book, 0, 0, false)));
    vk_push(&c, n);
    vk_push(&c, query);
    vk_push(&c, k->n_kv_heads * t->group);
    vk_push(&c, t->group);
    vk_push(&c, k->head_dim);
    vk_push(&c, at->head);
    vk_push(&c, at->heads);
    vk_loop_over(&c, n * at->heads * t->pieces * (k->head_dim / tl_vq_dim(k->k_codec)) *
                         tl_vq_entries(k->k_codec));
    return vk_dispatch(s, &c);
}

static tl_err score_window(tl_stream *s, const struct tl_key_score *op, const struct products *p,
                           const struct tiling *t, const struct vk_kv_window *at) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_sketch *const k = &op->sketch;
    const uint64_t teams = t->pieces * at->heads;
    const uint32_t places = k->head_dim / tl_vq_dim(k->k_codec);
    const uint32_t strides = vk_sketch_splits(dev, teams, at->rows, 1 + places);
    struct vk_call c = vk_call_of(dev, VK_SHADER_VQ_SCORE, 2 * dev->info.subgroup);
    vk_spec(&c, form_of(k->k_codec));
    vk_spec(&c, t->heads);
    vk_push(&c, vk_add(&c, vk_bind_scores(dev, &op->score, t->group, at, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &p->table, 0, at->heads * t->table_bytes, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &k->k, &t->walk, at, false)));
    vk_push(&c, t->group);
    vk_push(&c, k->head_dim);
    vk_push(&c, t->walk.cap);
    vk_push(&c, op->score.cols);
    vk_push_window(&c, at);
    vk_push(&c, strides);
    vk_push_float(&c, op->scale);
    vk_push_float(&c, op->softcap);
    vk_teams(&c, strides * teams);
    return vk_dispatch(s, &c);
}

tl_err vk_vq_key_score(tl_stream *s, const struct tl_key_score *op) {
    struct tiling t;
    struct products p;
    const uint64_t score_head =
        (uint64_t)(op->n_heads / op->sketch.n_kv_heads) * op->score.cols * 4;
    TL_TRY(tile(vk_dev_of(s), &op->sketch, op->n_heads, score_head, true, &t));
    TL_TRY(open_products(s, &op->q, &op->sketch, op->n_heads, &t, &p));
    for (uint32_t i = 0; i < t.walk.n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(&t.walk, i);
        if (at.row_piece == 0) {
            TL_TRY(make_table(s, &p, &op->sketch, &t, &at, 0, 1));
        }
        TL_TRY(score_window(s, op, &p, &t, &at));
    }
    return TL_OK;
}

/* Words of the values' codebook that go to shared memory; 0: it is read in place. */
static uint32_t book_words(const struct vk_dev *dev, const struct vk_call *c,
                           const struct tl_sketch *k, const struct tiling *t) {
    if (!tl_vq_is(k->v_codec)) {
        return 0;
    }
    const uint64_t bytes = tl_vq_entries(k->v_codec) * tl_vq_dim(k->v_codec) * 2ull;
    const uint64_t held = c->variant.specs[0] / c->variant.specs[1] * t->heads * TL_BLOCK * 4ull;
    return bytes <= BOOK_BYTES && held + bytes <= dev->info.shared_bytes ? (uint32_t)(bytes / 4)
                                                                         : 0;
}

/* Queries [query, query + n) over a window. */
struct attend_part {
    const struct tl_attend_sketch *op;
    const struct tiling *t;
    const struct products *p; /* NULL: there is no table */
    const tl_view *parts;
    uint32_t splits, query, n;
};

static void push_attend(struct vk_call *c, const struct attend_part *a,
                        const struct vk_kv_window *at) {
    const struct tl_attend_sketch *const op = a->op;
    const bool scored = op->score.buf != NULL;
    vk_push(c, a->n);
    vk_push(c, a->query);
    vk_push(c, op->n_heads);
    vk_push(c, a->t->group);
    vk_push(c, op->sketch.head_dim);
    vk_push(c, a->t->walk.cap);
    vk_push(c, scored ? op->score.cols : 0);
    vk_push_window(c, at);
    vk_push(c, a->splits);
    vk_push(c, a->splits * a->t->walk.row_pieces);
    vk_push(c, a->splits * at->row_piece);
    vk_push(c, op->skip.buf != NULL ? op->skip.cols : 0);
    vk_push_float(c, op->scale);
    vk_push_float(c, op->softcap);
}

static tl_err attend_window(tl_stream *s, const struct attend_part *a,
                            const struct vk_kv_window *at) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_attend_sketch *const op = a->op;
    const struct tl_sketch *const k = &op->sketch;
    const struct tiling *const t = a->t;
    const bool scored = op->score.buf != NULL, v_vq = tl_vq_is(k->v_codec);
    struct vk_call c = vk_call_of(dev, VK_SHADER_VQ_ATTEND, 2 * dev->info.subgroup);
    vk_spec(&c, scored ? 0 : a->p != NULL ? form_of(k->k_codec) : tl_codec_bits(k->k_codec));
    vk_spec(&c, t->heads);
    vk_spec(&c, v_vq ? form_of(k->v_codec) : tl_codec_bits(k->v_codec));
    vk_spec(&c, t->channels);
    vk_spec(&c, (scored ? 1u : 0u) | (op->skip.buf != NULL ? 2u : 0u));
    vk_spec(&c, book_words(dev, &c, k, t));
    const struct vk_binding q = vk_bind(dev, &op->q, 0, 0, false);
    vk_add(&c, vk_bind(dev, a->parts, 0, 0, true));
    vk_push(&c, vk_add(&c, q));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, vk_add(&c, scored ? vk_bind_scores(dev, &op->score, t->group, at, false) : q));
    vk_push(&c, vk_add(&c, vk_bind_optional(dev, &op->skip, false, &q)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &k->k, &t->walk, at, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &k->v, &t->walk, at, false)));
    vk_push(&c, vk_add(&c, a->p != NULL ? vk_bind(dev, &a->p->table, 0, 0, false) : q));
    vk_push(&c, vk_add(&c, vk_bind_optional(dev, &k->v_book, false, &q)));
    push_attend(&c, a, at);
    vk_teams(&c, a->splits * t->pieces * at->heads * a->n);
    return vk_dispatch(s, &c);
}

/* Outputs are sums of entries, turned. */
static tl_err turn_back(tl_stream *s, const struct tl_attend_sketch *op) {
    static const tl_view absent;
    const struct turn t = {.to = &op->out,
                           .from = &op->out,
                           .smooth = &absent,
                           .d = op->sketch.head_dim,
                           .n = op->q.rows * op->n_heads,
                           .heads = op->n_heads,
                           .group = 1};
    return tl_vq_is(op->sketch.v_codec) ? turn(s, &t) : TL_OK;
}

static uint64_t part_bytes(const struct tl_attend_sketch *op, uint32_t n_parts) {
    return (uint64_t)op->n_heads * n_parts * (op->sketch.head_dim + 2ull) * 4;
}

static tl_err attend_queries(tl_stream *s, const struct tl_attend_sketch *op,
                             const struct tiling *t, uint32_t splits) {
    const struct tl_sketch *const k = &op->sketch;
    const bool table = t->table_bytes != 0;
    const uint32_t n_parts = splits * t->walk.row_pieces;
    struct products p = {.step = op->q.rows};
    if (table) {
        TL_TRY(open_products(s, &op->q, k, op->n_heads, t, &p));
    }
    tl_view parts;
    struct attend_part a = {
        .op = op, .t = t, .p = table ? &p : NULL, .parts = &parts, .splits = splits};
    TL_TRY(vk_scratch(s, 0, op->q.rows * part_bytes(op, n_parts), &parts));
    for (a.query = 0; a.query < op->q.rows; a.query += p.step) {
        a.n = (uint32_t)tl_min_u64(p.step, op->q.rows - a.query);
        for (uint32_t i = 0; i < t->walk.n_windows; i++) {
            const struct vk_kv_window at = vk_kv_window_at(&t->walk, i);
            if (table && at.row_piece == 0) {
                TL_TRY(make_table(s, &p, k, t, &at, a.query, a.n));
            }
            TL_TRY(attend_window(s, &a, &at));
        }
    }
    TL_TRY(vk_attend_join(s, &parts, &op->out, &op->lse, op->n_heads, n_parts));
    return turn_back(s, op);
}

/* So many queries at a time that their parts are one binding, as in ops_cache.c. */
tl_err vk_vq_attend(tl_stream *s, const struct tl_attend_sketch *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_sketch *const k = &op->sketch;
    const bool scored = op->score.buf != NULL, table = tl_vq_is(k->k_codec) && !scored;
    const uint64_t score_head =
        scored ? (uint64_t)(op->n_heads / k->n_kv_heads) * op->score.cols * 4 : 0;
    struct tiling t;
    TL_TRY(tile(dev, k, op->n_heads, score_head, table, &t));
    uint32_t splits = vk_sketch_splits(dev, t.pieces * k->n_kv_heads * op->q.rows, t.walk.rows_step,
                                       1 + 2 * TL_BLOCK + (scored ? 0 : k->head_dim));
    while (splits > 1 && vk_window_rows(dev, part_bytes(op, splits * t.walk.row_pieces)) == 0) {
        splits--;
    }
    const uint64_t fit = tl_min_u64(vk_window_rows(dev, part_bytes(op, splits * t.walk.row_pieces)),
                                    vk_window_rows(dev, 4ull * op->q.cols));
    const uint64_t step = tl_max_u64(tl_min_u64(fit, op->q.rows), 1);
    for (uint64_t at = 0; at < op->q.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->q.rows - at);
        struct tl_attend_sketch part = *op;
        part.q = tl_view_rows(op->q, first, n);
        part.out = tl_view_rows(op->out, first, n);
        part.lse = tl_view_rows(op->lse, first, n);
        TL_TRY(attend_queries(s, &part, &t, splits));
    }
    return TL_OK;
}
