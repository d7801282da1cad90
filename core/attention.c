/* What attention is, layer by layer: new rows go into the layer's tiers, then each tier is attended
 * by its own op and the parts are merged, exactly, by their log-sum-exp. Which parts there are is
 * the layer's policy; nothing here depends on the model's family. */
#include "decode.h"

/* The first op's result is r->attn, r->lse; a further one's goes to the b side and is merged. */
static tl_err merge(const struct tl_pass *p, uint32_t il, const struct tl_attention_rows *r) {
    return tl_pass_emit(
        p, (struct tl_op){
               .verb = TL_VERB_MERGE,
               .layer = il,
               .u.merge = {.out = r->attn, .lse = r->lse, .out_b = r->attn_b, .lse_b = r->lse_b}});
}

static struct tl_attend attend_op(const struct tl_pass *p, const struct tl_attention_rows *r,
                                  const struct tl_kv_rows *kv) {
    const struct tl_shape *const s = &p->model->shape;
    return (struct tl_attend){.out = r->attn,
                              .lse = r->lse,
                              .q = r->q,
                              .kv = *kv,
                              .n_heads = s->n_heads,
                              .scale = s->attn_scale,
                              .softcap = s->attn_softcap};
}

static tl_err encode(const struct tl_pass *p, uint32_t il, const struct tl_attention_rows *r,
                     const struct tl_kv_rows *dst, tl_view slot) {
    return tl_pass_emit(
        p, (struct tl_op){.verb = TL_VERB_KV_ENCODE,
                          .layer = il,
                          .u.kv_encode = {.dst = *dst, .k = r->k, .v = r->v, .slot = slot}});
}

static tl_err emit_attend(const struct tl_pass *p, uint32_t il, const struct tl_attend *op) {
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_ATTEND, .layer = il, .u.attend = *op});
}

/* The compressed rows, less those in skip (may be absent); score as tl_attend_sketch has it. */
static tl_err attend_sketch(const struct tl_pass *p, uint32_t il, const struct tl_attention_rows *r,
                            tl_view n_blocks, tl_view score, tl_view skip) {
    const struct tl_shape *const s = &p->model->shape;
    TL_TRY(tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_ATTEND_SKETCH,
                                          .layer = il,
                                          .u.attend_sketch = {.out = r->attn_b,
                                                              .lse = r->lse_b,
                                                              .q = r->q,
                                                              .n_blocks = n_blocks,
                                                              .score = score,
                                                              .skip = skip,
                                                              .sketch = p->kv->layers[il].sketch,
                                                              .n_heads = s->n_heads,
                                                              .scale = s->attn_scale,
                                                              .softcap = s->attn_softcap}}));
    return merge(p, il, r);
}

/* ---- prompts ---- */

static void set_int(tl_view v, uint32_t value) { *(int32_t *)tl_view_host(v) = (int32_t)value; }

/* Rows that were there before the prompt, and have no exact copy any more: sinks and sketch. */
static tl_err attend_prompt_past(const struct tl_pass *p, uint32_t il,
                                 const struct tl_attention_rows *r) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    struct tl_scratch *const s = p->scratch;
    if (layer->policy.sink > 0) {
        set_int(s->sink_rows, layer->policy.sink);
        struct tl_attend op = attend_op(p, r, &layer->window);
        op.out = r->attn_b;
        op.lse = r->lse_b;
        op.q_pos = tl_view_rows(s->far_pos, 0, r->q.rows);
        op.n_rows = s->sink_rows;
        TL_TRY(emit_attend(p, il, &op));
        TL_TRY(merge(p, il, r));
    }
    if (layer->sketch.k.buf == NULL) {
        return TL_OK;
    }
    set_int(s->n_blocks, layer->n_blocks);
    return attend_sketch(p, il, r, s->n_blocks, (tl_view){0}, (tl_view){0});
}

tl_err tl_attend_prompt(const struct tl_pass *p, uint32_t il, const struct tl_attention_rows *r,
                        uint32_t first) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    struct tl_scratch *const s = p->scratch;
    const uint32_t n = r->q.rows;
    const bool home = p->stage == NULL;
    const uint32_t origin = home ? 0 : p->stage->origin;
    const tl_view pos = tl_view_rows(home ? s->pos : s->stage_pos, 0, n);
    const tl_view n_rows = home ? s->n_rows : s->stage_rows;
    const struct tl_kv_rows *const rows = home ? &layer->home : &p->stage->rows;
    int32_t *const at = tl_view_host(pos);
    for (uint32_t i = 0; i < n; i++) {
        at[i] = (int32_t)(first - origin + i);
    }
    set_int(n_rows, first - origin + n);
    TL_TRY(encode(p, il, r, rows, pos));
    struct tl_attend op = attend_op(p, r, rows);
    op.q_pos = pos;
    op.n_rows = n_rows;
    op.window = layer->model_window;
    TL_TRY(emit_attend(p, il, &op));
    return origin > 0 ? attend_prompt_past(p, il, r) : TL_OK;
}

/* ---- one step ---- */

/* Where the chosen rows are to be found: slots of the hot set, or those of the home itself. */
static tl_view slots_of(const struct tl_pass *p, uint32_t il) {
    const tl_view idx = tl_choice_of(p, il).idx, slots = p->scratch->slots;
    return p->kv->layers[il].hot.k.buf == NULL
               ? idx
               : tl_view_of(slots.buf, slots.off_bytes, idx.rows, idx.cols, TL_I32);
}

/* The home's row that index row 0 is; a cache too small for rows behind the sinks never has any. */
static uint32_t first_row(const struct tl_pass *p, uint32_t il) {
    const uint32_t sink = p->kv->layers[il].policy.sink;
    return sink < p->kv->cap ? sink : 0;
}

static tl_err fetch_rows(const struct tl_pass *p, uint32_t il) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    if (layer->hot.k.buf == NULL) {
        return TL_OK;
    }
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_FETCH,
                                          .layer = il,
                                          .u.fetch = {.hot = layer->hot,
                                                      .home = layer->home,
                                                      .idx = tl_choice_of(p, il).idx,
                                                      .slot = slots_of(p, il),
                                                      .owner = layer->owner,
                                                      .used = layer->used,
                                                      .hand = layer->hand,
                                                      .counts = tl_pass_counts(p, il, false),
                                                      .row0 = first_row(p, il)}});
}

static tl_err attend_slots(const struct tl_pass *p, uint32_t il,
                           const struct tl_attention_rows *r) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const struct tl_shape *const s = &p->model->shape;
    const bool hot = layer->hot.k.buf != NULL;
    TL_TRY(tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_ATTEND_SLOTS,
                                          .layer = il,
                                          .u.attend_slots = {.out = r->attn_b,
                                                             .lse = r->lse_b,
                                                             .q = r->q,
                                                             .slot = slots_of(p, il),
                                                             .kv = hot ? layer->hot : layer->home,
                                                             .row0 = hot ? 0 : first_row(p, il),
                                                             .n_heads = s->n_heads,
                                                             .scale = s->attn_scale,
                                                             .softcap = s->attn_softcap}}));
    return merge(p, il, r);
}

static tl_err attend_exact_step(const struct tl_pass *p, uint32_t il,
                                const struct tl_attention_rows *r) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    struct tl_attend op = attend_op(p, r, &layer->home);
    op.lse = (tl_view){0};
    op.q_pos = p->kv->pos;
    op.n_rows = p->kv->n_rows_view;
    op.window = layer->model_window;
    return emit_attend(p, il, &op);
}

static tl_err attend_window(const struct tl_pass *p, uint32_t il,
                            const struct tl_attention_rows *r) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    struct tl_attend op = attend_op(p, r, &layer->window);
    op.q_pos = layer->window_pos;
    op.n_rows = layer->n_window;
    op.window = layer->model_window;
    return emit_attend(p, il, &op);
}

/* True where a head's say in the choice depends on how much of its attention the window has.
 * Channels are scored once for all heads of a group, and need not wait for the window. */
static bool asks_window(const struct tl_policy *policy) {
    return policy->select == TL_SELECT_TOPK && policy->index != TL_INDEX_CHANNELS;
}

tl_err tl_attend_step_begin(const struct tl_pass *p, uint32_t il,
                            const struct tl_attention_rows *r) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const bool asks = asks_window(&layer->policy);
    if (layer->home.k.buf != NULL) {
        TL_TRY(encode(p, il, r, &layer->home, p->kv->pos));
    }
    if (layer->window.k.buf != NULL) {
        TL_TRY(encode(p, il, r, &layer->window, layer->slot));
    }
    if (asks) {
        TL_TRY(attend_window(p, il, r));
    }
    if (layer->policy.select != TL_SELECT_TOPK) {
        return TL_OK;
    }
    TL_TRY(tl_choose_rows(p, il, r->q, asks ? r->lse : (tl_view){0}));
    return fetch_rows(p, il);
}

tl_err tl_attend_step_end(const struct tl_pass *p, uint32_t il, const struct tl_attention_rows *r) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const struct tl_policy *const policy = &layer->policy;
    if (tl_kv_is_exact(layer)) {
        return attend_exact_step(p, il, r);
    }
    if (!asks_window(policy)) {
        TL_TRY(attend_window(p, il, r));
    }
    const bool topk = policy->select == TL_SELECT_TOPK;
    if (layer->sketch.k.buf != NULL && policy->rest == TL_REST_SKETCH) {
        const struct tl_choice choice = topk ? tl_choice_of(p, il) : (struct tl_choice){0};
        const bool scored = tl_kv_selects_by(policy, TL_INDEX_CODES);
        TL_TRY(attend_sketch(p, il, r, layer->n_blocks_view, scored ? choice.score : (tl_view){0},
                             choice.idx));
    }
    /* Last, since these may still be on their way. */
    return topk ? attend_slots(p, il, r) : TL_OK;
}
