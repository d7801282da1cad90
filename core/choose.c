/* Which rows a step fetches: by one of four indexes scores of all rows behind the window, then the
 * best of them. Selecting by channels begins a layer early: the layer before guesses this layer's
 * query and starts the one large transfer there is, so that it overlaps; what the guess missed
 * comes late (TL_PREDICT_CHECK), so the choice depends on the layer's own query alone. Nothing here
 * depends on the model's family. */
#include "decode.h"

static tl_err emit(const struct tl_pass *p, uint32_t il, struct tl_op op) {
    op.layer = il;
    return tl_pass_emit(p, op);
}

/* A view at the beginning of another with fewer elements. */
static tl_view part_of(tl_view v, uint32_t rows, uint32_t cols) {
    return tl_view_of(v.buf, v.off_bytes, rows, cols, v.dtype);
}

static tl_err score_by_codes(const struct tl_pass *p, uint32_t il, tl_view q, tl_view score) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const struct tl_shape *const s = &p->model->shape;
    return emit(p, il,
                (struct tl_op){.verb = TL_VERB_KEY_SCORE,
                               .u.key_score = {.score = score,
                                               .q = q,
                                               .n_blocks = layer->n_blocks_view,
                                               .sketch = layer->sketch,
                                               .n_heads = s->n_heads,
                                               .scale = s->attn_scale,
                                               .softcap = s->attn_softcap}});
}

/* The largest of n normal numbers lies so many deviations above their mean, on average. */
static float expected_most(uint32_t n) {
    static const float of_powers[] = {0.0f, 0.5642f, 1.0294f, 1.4236f, 1.7660f, 2.0697f, 2.3437f};
    uint32_t power = 0;
    while ((1u << power) < n) {
        power++;
    }
    return of_powers[power];
}

static tl_err score_by_pages(const struct tl_pass *p, uint32_t il, tl_view q, tl_view score) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const struct tl_shape *const s = &p->model->shape;
    return emit(p, il,
                (struct tl_op){.verb = TL_VERB_PAGE_SCORE,
                               .u.page_score = {.score = score,
                                                .q = q,
                                                .n_blocks = layer->n_blocks_view,
                                                .pages = layer->pages,
                                                .n_heads = s->n_heads,
                                                .scale = s->attn_scale,
                                                .softcap = s->attn_softcap,
                                                .sigmas = expected_most(layer->pages.page)}});
}

/* The channels that q wants, fetched into the buffers of the layer's parity; with keep only those
 * that are not there. */
static tl_err fetch_channels(const struct tl_pass *p, uint32_t il, tl_view q, bool keep) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const struct tl_scratch *const s = p->scratch;
    const uint32_t heads = layer->columns.n_kv_heads, k = layer->policy.channels;
    const tl_view want = part_of(s->want, heads, k);
    TL_TRY(emit(p, il,
                (struct tl_op){.verb = TL_VERB_CHANNELS,
                               .u.channels = {.ids = want,
                                              .q = q,
                                              .most = layer->columns.most,
                                              .n_blocks = layer->n_blocks_view,
                                              .n_heads = p->model->shape.n_heads}}));
    return emit(p, il,
                (struct tl_op){.verb = TL_VERB_CHANNEL_FETCH,
                               .u.channel_fetch = {.part = part_of(s->part[il % 2], heads * k,
                                                                   layer->columns.keys.cols),
                                                   .want = want,
                                                   .held = part_of(s->held[il % 2], heads, k),
                                                   .counts = tl_pass_counts(p, il, true),
                                                   .n_blocks = layer->n_blocks_view,
                                                   .keys = layer->columns.keys,
                                                   .keep = keep}});
}

static tl_err score_by_channels(const struct tl_pass *p, uint32_t il, tl_view q, tl_view score) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const struct tl_scratch *const s = p->scratch;
    const uint32_t heads = layer->columns.n_kv_heads, k = layer->policy.channels;
    const bool ahead = tl_chooses_ahead(p, il);
    if (!ahead || layer->policy.predict == TL_PREDICT_CHECK) {
        TL_TRY(fetch_channels(p, il, q, ahead));
    }
    return emit(p, il,
                (struct tl_op){.verb = TL_VERB_CHANNEL_SCORE,
                               .u.channel_score = {.score = score,
                                                   .q = q,
                                                   .part = part_of(s->part[il % 2], heads * k,
                                                                   layer->columns.keys.cols),
                                                   .held = part_of(s->held[il % 2], heads, k),
                                                   .n_blocks = layer->n_blocks_view,
                                                   .n_heads = p->model->shape.n_heads,
                                                   .head_dim = p->model->shape.head_dim}});
}

bool tl_chooses_ahead(const struct tl_pass *p, uint32_t il) {
    const struct tl_policy *const policy = &p->kv->layers[il].policy;
    return il > 0 && tl_kv_selects_by(policy, TL_INDEX_CHANNELS) &&
           policy->predict != TL_PREDICT_NONE;
}

tl_err tl_choose_ahead(const struct tl_pass *p, uint32_t il, tl_view q) {
    return fetch_channels(p, il, q, false);
}

struct tl_choice tl_choice_of(const struct tl_pass *p, uint32_t il) {
    const struct tl_policy *const policy = &p->kv->layers[il].policy;
    const struct tl_shape *const s = &p->model->shape;
    const uint32_t heads = policy->index == TL_INDEX_CHANNELS ? s->n_kv_heads : s->n_heads;
    const tl_view own = tl_view_rows(p->scratch->idx, il * s->n_kv_heads, s->n_kv_heads);
    return (struct tl_choice){
        .idx = part_of(own, s->n_kv_heads, policy->topk),
        .score = part_of(p->scratch->score, heads, tl_kv_index_cap(policy, p->kv->cap))};
}

tl_err tl_choose_rows(const struct tl_pass *p, uint32_t il, tl_view q, tl_view base) {
    const struct tl_kv_layer *const layer = &p->kv->layers[il];
    const tl_index index = layer->policy.index;
    const struct tl_choice out = tl_choice_of(p, il);
    TL_TRY((index == TL_INDEX_CODES      ? score_by_codes
            : index == TL_INDEX_CHANNELS ? score_by_channels
                                         : score_by_pages)(p, il, q, out.score));
    return emit(
        p, il,
        (struct tl_op){
            .verb = TL_VERB_TOPK,
            .u.topk = {.idx = out.idx, .score = out.score, .n_rows = layer->n_old, .base = base}});
}
