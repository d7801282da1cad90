/* The rules of fusions: which op continues which. They read views and dtypes only, so that a
 * device that launches and a forecast that counts cannot come to different answers. Invariant: an
 * op joins only if no earlier op of the fusion writes what it reads or writes, but for the very
 * view that the fusion hands on, and none reads what it writes. */
#include "fusion.h"

enum { TURN_ROWS_MAX = 16 }; /* a step's; more rows keep a launch of their own busy */

bool tl_view_same(const tl_view *a, const tl_view *b) {
    return a->buf == b->buf && a->off_bytes == b->off_bytes && a->rows == b->rows &&
           a->cols == b->cols && a->dtype == b->dtype;
}

static bool overlaps_any(const tl_view *v, const tl_view *const *others, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (tl_view_overlap(v, others[i])) {
            return true;
        }
    }
    return false;
}

/* ---- products ---- */

bool tl_matmul_rounds_x(const struct tl_matmul *op, uint32_t few_rows) {
    return op->x.rows <= few_rows && tl_dtype_info(op->w.dtype)->block_elems > 1;
}

/* True where the maker that waits alone can be part of this product: where x is rounded for it, or
 * where it is a norm of one row and w of floats, whose every block computes its factor again. A
 * gate is not: for each four rows of w 14336 exponentials again, to win 2 us beside 125. */
static bool makes_x(const struct tl_fusion *s, const struct tl_matmul *op, uint32_t few_rows) {
    const bool norm = s->maker == TL_MAKER_NORM;
    const tl_view *const made = norm ? &s->norm.y : &s->glu.y;
    const tl_view *const from[] = {made, norm ? &s->norm.x : &s->glu.gate,
                                   norm ? &s->norm.w : &s->glu.up};
    return (tl_matmul_rounds_x(op, few_rows) || (norm && op->x.rows == 1)) &&
           tl_view_same(made, &op->x) && !overlaps_any(&op->y, from, 3) &&
           !tl_view_overlap(&op->w, made) && !tl_view_overlap(&op->bias, made);
}

static bool takes_matmul(const struct tl_fusion *s, const struct tl_matmul *op, uint32_t few_rows) {
    if (s->kind != TL_FUSION_OF_PRODUCTS || s->n_products == TL_FUSION_PRODUCTS) {
        return false;
    }
    if (s->maker != TL_MAKER_NONE && !makes_x(s, op, few_rows)) {
        return false;
    }
    for (uint32_t i = 0; i < s->n_products; i++) {
        const struct tl_matmul *const before = &s->products[i];
        const tl_view *const ours[] = {&op->y, &op->x, &op->w, &op->bias};
        const tl_view *const theirs[] = {&before->x, &before->w, &before->bias};
        if (!tl_view_same(&before->x, &op->x) || before->w.dtype != op->w.dtype ||
            op->x.rows > few_rows || overlaps_any(&before->y, ours, 4) ||
            overlaps_any(&op->y, theirs, 3)) {
            return false;
        }
    }
    return true;
}

/* True where n rows of x, made by an op that reads a and b, may be made in a product's launch. */
static bool may_make(const tl_view *made, const tl_view *a, const tl_view *b, bool in_place,
                     uint32_t few_rows) {
    return made->rows <= few_rows &&
           (in_place || (!tl_view_overlap(made, a) && !tl_view_overlap(made, b)));
}

/* Each element is made by the thread that read its two: y may be one of them, whole. */
static bool is_in_place(const struct tl_glu *op) {
    return (tl_view_same(&op->y, &op->gate) && !tl_view_overlap(&op->y, &op->up)) ||
           (tl_view_same(&op->y, &op->up) && !tl_view_overlap(&op->y, &op->gate));
}

static bool products_are_whole(const struct tl_fusion *s, uint32_t few_rows) {
    if (s->n_products > 0) {
        return s->n_products == TL_FUSION_PRODUCTS || s->products[0].x.rows > few_rows;
    }
    const struct tl_rmsnorm *const norm = &s->norm;
    const struct tl_glu *const glu = &s->glu;
    return s->maker == TL_MAKER_NORM
               ? norm->accumulate || !may_make(&norm->y, &norm->x, &norm->w, false, few_rows)
               : !may_make(&glu->y, &glu->gate, &glu->up, is_in_place(glu), few_rows);
}

/* ---- turns ---- */

bool tl_rope_joins(const struct tl_rope *op) {
    return op->x.rows <= TURN_ROWS_MAX && op->head_dim <= TL_HEAD_DIM_MAX;
}

static bool takes_rope(const struct tl_fusion *s, const struct tl_rope *op) {
    if (s->kind != TL_FUSION_OF_TURNS || s->n_ropes == TL_FUSION_TURNS || s->n_encodes > 0 ||
        !tl_rope_joins(op)) {
        return false;
    }
    const tl_view *const read[] = {&op->x, &op->pos, &op->inv_freq};
    const struct tl_rope *const before = &s->ropes[0];
    return before->x.rows == op->x.rows && before->head_dim == op->head_dim &&
           !overlaps_any(&before->x, read, 3) && !tl_view_overlap(&op->x, &before->pos) &&
           !tl_view_overlap(&op->x, &before->inv_freq);
}

/* A row that is stored is one that the fusion turned, or one that it does not touch. */
static bool is_turned_or_apart(const struct tl_fusion *s, const tl_view *row) {
    for (uint32_t i = 0; i < s->n_ropes; i++) {
        if (!tl_view_same(row, &s->ropes[i].x) && tl_view_overlap(row, &s->ropes[i].x)) {
            return false;
        }
    }
    return true;
}

static bool writes_apart(const struct tl_fusion *s, const struct tl_kv_encode *op,
                         const tl_view *written) {
    for (uint32_t i = 0; i < s->n_ropes; i++) {
        const struct tl_rope *const r = &s->ropes[i];
        const tl_view *const theirs[] = {&r->x, &r->pos, &r->inv_freq};
        if (overlaps_any(written, theirs, 3) || tl_view_overlap(&op->slot, &r->x)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < s->n_encodes; i++) {
        const struct tl_kv_encode *const e = &s->encodes[i];
        const tl_view *const theirs[] = {&e->k, &e->v, &e->slot, &e->dst.k, &e->dst.v};
        const tl_view *const ours[] = {&op->k, &op->v, &op->slot};
        if (!tl_view_same(&e->k, &op->k) || !tl_view_same(&e->v, &op->v) ||
            overlaps_any(written, theirs, 5) || overlaps_any(&e->dst.k, ours, 3) ||
            overlaps_any(&e->dst.v, ours, 3)) {
            return false;
        }
    }
    return true;
}

static bool takes_encode(const struct tl_fusion *s, const struct tl_kv_encode *op) {
    return s->kind == TL_FUSION_OF_TURNS && s->n_encodes < TL_FUSION_TIERS &&
           s->ropes[0].x.rows == op->slot.rows && s->ropes[0].head_dim == op->dst.k.cols &&
           is_turned_or_apart(s, &op->k) && is_turned_or_apart(s, &op->v) &&
           !tl_view_overlap(&op->k, &op->v) && writes_apart(s, op, &op->dst.k) &&
           writes_apart(s, op, &op->dst.v);
}

/* ---- any ---- */

bool tl_fusion_takes(const struct tl_fusion *s, const struct tl_op *op, uint32_t few_rows) {
    switch (op->verb) {
    case TL_VERB_MATMUL:
        return takes_matmul(s, &op->u.matmul, few_rows);
    case TL_VERB_ROPE:
        return takes_rope(s, &op->u.rope);
    case TL_VERB_KV_ENCODE:
        return takes_encode(s, &op->u.kv_encode);
    default:
        return false;
    }
}

bool tl_fusion_may_begin(const struct tl_op *op) {
    return op->verb == TL_VERB_MATMUL || op->verb == TL_VERB_RMSNORM || op->verb == TL_VERB_GLU ||
           op->verb == TL_VERB_ROPE;
}

void tl_fusion_put(struct tl_fusion *s, const struct tl_op *op) {
    if (s->kind == TL_FUSION_EMPTY) {
        s->kind = op->verb == TL_VERB_ROPE ? TL_FUSION_OF_TURNS : TL_FUSION_OF_PRODUCTS;
        s->maker = TL_MAKER_NONE;
        s->n_products = s->n_ropes = s->n_encodes = 0;
    }
    switch (op->verb) {
    case TL_VERB_MATMUL:
        s->products[s->n_products++] = op->u.matmul;
        return;
    case TL_VERB_RMSNORM:
        s->maker = TL_MAKER_NORM;
        s->norm = op->u.rmsnorm;
        return;
    case TL_VERB_GLU:
        s->maker = TL_MAKER_GLU;
        s->glu = op->u.glu;
        return;
    case TL_VERB_ROPE:
        s->ropes[s->n_ropes++] = op->u.rope;
        return;
    case TL_VERB_KV_ENCODE:
        s->encodes[s->n_encodes++] = op->u.kv_encode;
        return;
    default:
        TL_ASSERT(!"a verb of fusions");
    }
}

bool tl_fusion_is_whole(const struct tl_fusion *s, uint32_t few_rows) {
    return s->kind == TL_FUSION_OF_PRODUCTS
               ? products_are_whole(s, few_rows)
               : s->n_encodes == TL_FUSION_TIERS || !tl_rope_joins(&s->ropes[0]);
}
