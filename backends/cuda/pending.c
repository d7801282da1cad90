/* Ops that wait for the next one, since one launch can do both. At most one fusion waits on a
 * stream; which op continues it is core's to say (fusion.h). Whatever does not ends it: it is
 * launched, and then the op is what a new one may begin with. So an op of a recorded step and one
 * enqueued alone take the same way.
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
 * where the matrices of a launch are of one format (tests/cuda_emu/test_step.c counts them, and
 * holds the forecast's count, core/launches.h, to it). Bytes stay what they were but for 40 KiB (q
 * and k of Llama 3.1 8B are read and written once, not twice) beside 416 MiB of weights: what is
 * won are round trips of an idle card, 7 or 8 a layer. */
#include "cuda.h"

static tl_err run_products(struct cu_stream *s, const struct tl_fusion *p) {
    struct cu_dev *const dev = cu_dev_of(&s->base);
    const struct tl_matmul *const first = &p->products[0];
    const struct cu_products all = {.norm = p->maker == TL_MAKER_NORM ? &p->norm : NULL,
                                    .glu = p->maker == TL_MAKER_GLU ? &p->glu : NULL,
                                    .of = p->products,
                                    .n = p->n_products};
    struct cu_exec x = cu_exec_of(&s->base);
    const tl_view codes = s->codes;
    s->codes = (tl_view){0};
    if (p->n_products == 0) {
        return p->maker == TL_MAKER_NORM ? cu_check(dev, cu_rmsnorm(&x, &p->norm), "rmsnorm")
                                         : cu_check(dev, cu_glu(&x, &p->glu), "glu");
    }
    /* Products of one x round it once. What host memory holds the host may have written anew. */
    const bool has_codes =
        tl_matmul_rounds_x(first, x.tuning->vec_rows_most) && first->x.buf->mem == TL_MEM_DEVICE;
    TL_TRY(cu_scratch_get(&x.scratch, s, cu_matmul_scratch(&x, first), "matmul"));
    x.codes_ready = has_codes && p->maker == TL_MAKER_NONE && tl_view_same(&codes, &first->x) &&
                    s->codes_at == x.scratch;
    TL_TRY(cu_check(dev, cu_matmul(&x, &all), "matmul"));
    s->codes = has_codes ? first->x : (tl_view){0};
    s->codes_at = x.scratch;
    return TL_OK;
}

static tl_err run_turns(struct cu_stream *s, const struct tl_fusion *p) {
    struct cu_dev *const dev = cu_dev_of(&s->base);
    const struct cu_exec x = cu_exec_of(&s->base);
    const struct cu_turns all = {
        .ropes = p->ropes, .encodes = p->encodes, .n_ropes = p->n_ropes, .n_encodes = p->n_encodes};
    s->codes = (tl_view){0};
    return cu_check(
        dev, tl_rope_joins(&p->ropes[0]) ? cu_turn_and_store(&x, &all) : cu_rope(&x, &p->ropes[0]),
        "rope");
}

tl_err cu_settle(tl_stream *base) {
    struct cu_stream *const s = (struct cu_stream *)base;
    const struct tl_fusion *const p = &s->pending;
    const tl_fusion_kind kind = p->kind;
    s->pending.kind = TL_FUSION_EMPTY;
    if (kind == TL_FUSION_EMPTY) {
        return TL_OK;
    }
    TL_TRY(cu_enter(cu_dev_of(base)));
    return kind == TL_FUSION_OF_PRODUCTS ? run_products(s, p) : run_turns(s, p);
}

/* Adds an op to what waits, and runs that where nothing else can join. */
static tl_err put(tl_stream *base, const struct tl_op *op, bool takes) {
    struct cu_stream *const s = (struct cu_stream *)base;
    if (!takes) {
        TL_TRY(cu_settle(base));
    }
    TL_TRY(cu_enter(cu_dev_of(base)));
    tl_fusion_put(&s->pending, op);
    const uint32_t few_rows = cu_dev_of(base)->tuning->vec_rows_most;
    return tl_fusion_is_whole(&s->pending, few_rows) ? cu_settle(base) : TL_OK;
}

static bool takes(const tl_stream *base, const struct tl_op *op) {
    return tl_fusion_takes(&((const struct cu_stream *)base)->pending, op,
                           cu_dev_of(base)->tuning->vec_rows_most);
}

static tl_err pend(tl_stream *base, const struct tl_op *op) {
    return put(base, op, takes(base, op));
}

tl_err cu_pend_matmul(tl_stream *s, const struct tl_matmul *op) {
    return pend(s, &(struct tl_op){.verb = TL_VERB_MATMUL, .u.matmul = *op});
}

tl_err cu_pend_rmsnorm(tl_stream *s, const struct tl_rmsnorm *op) {
    return pend(s, &(struct tl_op){.verb = TL_VERB_RMSNORM, .u.rmsnorm = *op});
}

tl_err cu_pend_glu(tl_stream *s, const struct tl_glu *op) {
    return pend(s, &(struct tl_op){.verb = TL_VERB_GLU, .u.glu = *op});
}

tl_err cu_pend_rope(tl_stream *s, const struct tl_rope *op) {
    return pend(s, &(struct tl_op){.verb = TL_VERB_ROPE, .u.rope = *op});
}

tl_err cu_pend_encode(tl_stream *s, const struct tl_kv_encode *op, bool *joined) {
    const struct tl_op any = {.verb = TL_VERB_KV_ENCODE, .u.kv_encode = *op};
    *joined = takes(s, &any);
    return *joined ? put(s, &any, true) : TL_OK;
}
