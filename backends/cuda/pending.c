/* Ops that wait for the next one, since one launch can do both. At most one sentence waits on a
 * stream, one of two kinds:
 *
 *   products   [a norm, or a gate]  up to three products of what it makes
 *   turns      rope, rope, and the new row's keys and values into the tiers of the cache
 *
 * Whatever does not continue the sentence ends it: it is launched, and then the op is what a new
 * one may begin with. So an op of a recorded step and one enqueued alone take the same way. Every
 * result is written where its op said, also those between two ops of a sentence. Invariant: an op
 * joins only if no earlier op of the sentence writes what it reads or writes, but for the very view
 * that the sentence hands on.
 *
 * Launches of a layer in a decode step that attends all rows, before and after:
 *
 *   F16     norm q k v rope rope store attend join o norm gate up act down               15
 *           norm+q+k+v rope+rope+store attend join o norm+gate+up act down                8
 *   Q8_0    norm codes q k v rope rope store attend join codes o norm codes gate up
 *           act codes down                                                               19
 *           norm+codes q+k+v rope+rope+store attend join codes o norm+codes gate+up
 *           act+codes down                                                               11
 *
 * where the matrices of a launch are of one format (tests/cuda_emu/test_step.c counts them). Bytes
 * stay what they were but for 40 KiB (q and k of Llama 3.1 8B are read and written once, not twice)
 * beside 416 MiB of weights: what is won are round trips of an idle card, 7 or 8 a layer. */
#include "cuda.h"

#include <string.h>

enum { TURN_ROWS_MAX = 16 }; /* a step's; more rows keep a launch of their own busy */

static bool same_view(const tl_view *a, const tl_view *b) {
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

static tl_err run_products(struct cu_stream *s, const struct cu_pending *p) {
    struct cu_dev *const dev = cu_dev_of(&s->base);
    const struct tl_matmul *const first = &p->products[0];
    const struct cu_products all = {.norm = p->maker == CU_MAKES_NORM ? &p->norm : NULL,
                                    .glu = p->maker == CU_MAKES_GLU ? &p->glu : NULL,
                                    .of = p->products,
                                    .n = p->n_products};
    struct cu_exec x = cu_exec_of(&s->base);
    const tl_view codes = s->codes;
    s->codes = (tl_view){0};
    if (p->n_products == 0) {
        return p->maker == CU_MAKES_NORM ? cu_check(dev, cu_rmsnorm(&x, &p->norm), "rmsnorm")
                                         : cu_check(dev, cu_glu(&x, &p->glu), "glu");
    }
    /* Products of one x round it once. What host memory holds the host may have written anew. */
    const bool has_codes = cu_matmul_has_codes(&x, first) && first->x.buf->mem == TL_MEM_DEVICE;
    TL_TRY(cu_scratch_get(&x.scratch, s, cu_matmul_scratch(&x, first), "matmul"));
    x.codes_ready = has_codes && p->maker == CU_MAKES_NOTHING && same_view(&codes, &first->x) &&
                    s->codes_at == x.scratch;
    TL_TRY(cu_check(dev, cu_matmul(&x, &all), "matmul"));
    s->codes = has_codes ? first->x : (tl_view){0};
    s->codes_at = x.scratch;
    return TL_OK;
}

/* True where the maker that waits alone can be part of this product. */
static bool makes_x(const struct cu_exec *x, const struct cu_pending *p,
                    const struct tl_matmul *op) {
    const bool norm = p->maker == CU_MAKES_NORM;
    const tl_view *const made = norm ? &p->norm.y : &p->glu.y;
    const tl_view *const from[] = {made, norm ? &p->norm.x : &p->glu.gate,
                                   norm ? &p->norm.w : &p->glu.up};
    return cu_matmul_is_vec(x, op->x.rows) && (norm || cu_matmul_has_codes(x, op)) &&
           same_view(made, &op->x) && !overlaps_any(&op->y, from, 3) &&
           !tl_view_overlap(&op->w, made) && !tl_view_overlap(&op->bias, made);
}

static bool joins_products(const struct cu_exec *x, const struct cu_pending *p,
                           const struct tl_matmul *op) {
    if (p->kind != CU_PRODUCTS || p->n_products == CU_PRODUCTS_MAX) {
        return false;
    }
    if (p->n_products == 0 || p->maker != CU_MAKES_NOTHING) {
        if (!makes_x(x, p, op)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < p->n_products; i++) {
        const struct tl_matmul *const before = &p->products[i];
        const tl_view *const ours[] = {&op->y, &op->x, &op->w, &op->bias};
        const tl_view *const theirs[] = {&before->x, &before->w, &before->bias};
        if (!same_view(&before->x, &op->x) || before->w.dtype != op->w.dtype ||
            !cu_matmul_is_vec(x, op->x.rows) || overlaps_any(&before->y, ours, 4) ||
            overlaps_any(&op->y, theirs, 3)) {
            return false;
        }
    }
    return true;
}

/* Ends what waits; the op that calls is yet to be added. */
static tl_err begin_products(struct cu_stream *s, enum cu_maker maker) {
    TL_TRY(cu_settle(&s->base));
    TL_TRY(cu_enter(cu_dev_of(&s->base)));
    s->pending.kind = CU_PRODUCTS;
    s->pending.maker = maker;
    s->pending.n_products = 0;
    return TL_OK;
}

tl_err cu_pend_matmul(tl_stream *base, const struct tl_matmul *op) {
    struct cu_stream *const s = (struct cu_stream *)base;
    struct cu_pending *const p = &s->pending;
    const struct cu_exec x = cu_exec_of(base);
    TL_TRY(cu_enter(cu_dev_of(base)));
    if (!joins_products(&x, p, op)) {
        TL_TRY(begin_products(s, CU_MAKES_NOTHING));
    }
    p->products[p->n_products++] = *op;
    return cu_matmul_is_vec(&x, op->x.rows) ? TL_OK : cu_settle(base);
}

/* True where n rows of x, made by an op that reads a and b, may be made in a product's launch. */
static bool may_make(const struct cu_exec *x, const tl_view *made, const tl_view *a,
                     const tl_view *b, bool in_place) {
    return cu_matmul_is_vec(x, made->rows) &&
           (in_place || (!tl_view_overlap(made, a) && !tl_view_overlap(made, b)));
}

tl_err cu_pend_rmsnorm(tl_stream *base, const struct tl_rmsnorm *op) {
    struct cu_stream *const s = (struct cu_stream *)base;
    const struct cu_exec x = cu_exec_of(base);
    TL_TRY(begin_products(s, CU_MAKES_NORM));
    s->pending.norm = *op;
    return !op->accumulate && may_make(&x, &op->y, &op->x, &op->w, false) ? TL_OK : cu_settle(base);
}

tl_err cu_pend_glu(tl_stream *base, const struct tl_glu *op) {
    struct cu_stream *const s = (struct cu_stream *)base;
    const struct cu_exec x = cu_exec_of(base);
    TL_TRY(begin_products(s, CU_MAKES_GLU));
    s->pending.glu = *op;
    /* Each element is made by the thread that read its two: y may be one of them, whole. */
    const bool in_place = (same_view(&op->y, &op->gate) && !tl_view_overlap(&op->y, &op->up)) ||
                          (same_view(&op->y, &op->up) && !tl_view_overlap(&op->y, &op->gate));
    return may_make(&x, &op->y, &op->gate, &op->up, in_place) ? TL_OK : cu_settle(base);
}

/* ---- turns ---- */

static tl_err run_turns(struct cu_stream *s, const struct cu_pending *p) {
    struct cu_dev *const dev = cu_dev_of(&s->base);
    const struct cu_exec x = cu_exec_of(&s->base);
    const struct cu_turns all = {
        .ropes = p->ropes, .encodes = p->encodes, .n_ropes = p->n_ropes, .n_encodes = p->n_encodes};
    s->codes = (tl_view){0};
    return cu_check(dev, cu_turn_and_store(&x, &all), "rope");
}

static bool joins_ropes(const struct cu_pending *p, const struct tl_rope *op) {
    if (p->kind != CU_TURNS || p->n_ropes == CU_TURNS_MAX || p->n_encodes > 0) {
        return false;
    }
    const tl_view *const read[] = {&op->x, &op->pos, &op->inv_freq};
    const struct tl_rope *const before = &p->ropes[0];
    return before->x.rows == op->x.rows && before->head_dim == op->head_dim &&
           !overlaps_any(&before->x, read, 3) && !tl_view_overlap(&op->x, &before->pos) &&
           !tl_view_overlap(&op->x, &before->inv_freq);
}

tl_err cu_pend_rope(tl_stream *base, const struct tl_rope *op) {
    struct cu_stream *const s = (struct cu_stream *)base;
    struct cu_pending *const p = &s->pending;
    const bool few = op->x.rows <= TURN_ROWS_MAX && op->head_dim <= TL_HEAD_DIM_MAX;
    TL_TRY(cu_enter(cu_dev_of(base)));
    if (!few || !joins_ropes(p, op)) {
        TL_TRY(cu_settle(base));
        p->kind = CU_TURNS;
        p->n_ropes = p->n_encodes = 0;
    }
    if (!few) {
        const struct cu_exec x = cu_exec_of(base);
        p->kind = CU_NOTHING;
        s->codes = (tl_view){0};
        return cu_check(cu_dev_of(base), cu_rope(&x, op), "rope");
    }
    p->ropes[p->n_ropes++] = *op;
    return TL_OK;
}

/* A row that is stored is one that the sentence turned, or one that it does not touch. */
static bool is_turned_or_apart(const struct cu_pending *p, const tl_view *row) {
    for (uint32_t i = 0; i < p->n_ropes; i++) {
        if (!same_view(row, &p->ropes[i].x) && tl_view_overlap(row, &p->ropes[i].x)) {
            return false;
        }
    }
    return true;
}

bool cu_joins_turns(const struct cu_stream *s, const struct tl_kv_encode *op) {
    const struct cu_pending *const p = &s->pending;
    if (p->kind != CU_TURNS || p->n_encodes == CU_TIERS_MAX ||
        p->ropes[0].x.rows != op->slot.rows || p->ropes[0].head_dim != op->dst.k.cols ||
        !is_turned_or_apart(p, &op->k) || !is_turned_or_apart(p, &op->v) ||
        tl_view_overlap(&op->k, &op->v)) {
        return false;
    }
    const tl_view *const written[] = {&op->dst.k, &op->dst.v};
    for (uint32_t w = 0; w < 2; w++) {
        for (uint32_t i = 0; i < p->n_ropes; i++) {
            const tl_view *const theirs[] = {&p->ropes[i].x, &p->ropes[i].pos,
                                             &p->ropes[i].inv_freq};
            if (overlaps_any(written[w], theirs, 3) || tl_view_overlap(&op->slot, &p->ropes[i].x)) {
                return false;
            }
        }
        for (uint32_t i = 0; i < p->n_encodes; i++) {
            const struct tl_kv_encode *const e = &p->encodes[i];
            const tl_view *const theirs[] = {&e->k, &e->v, &e->slot, &e->dst.k, &e->dst.v};
            const tl_view *const ours[] = {&op->k, &op->v, &op->slot};
            if (!same_view(&e->k, &op->k) || !same_view(&e->v, &op->v) ||
                overlaps_any(written[w], theirs, 5) || overlaps_any(&e->dst.k, ours, 3) ||
                overlaps_any(&e->dst.v, ours, 3)) {
                return false;
            }
        }
    }
    return true;
}

void cu_pend_encode(struct cu_stream *s, const struct tl_kv_encode *op) {
    s->pending.encodes[s->pending.n_encodes++] = *op;
}

tl_err cu_settle(tl_stream *base) {
    struct cu_stream *const s = (struct cu_stream *)base;
    const struct cu_pending *const p = &s->pending;
    const enum cu_pending_kind kind = p->kind;
    s->pending.kind = CU_NOTHING;
    if (kind == CU_NOTHING) {
        return TL_OK;
    }
    TL_TRY(cu_enter(cu_dev_of(base)));
    return kind == CU_PRODUCTS ? run_products(s, p) : run_turns(s, p);
}
