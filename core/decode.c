/* The ops of a layer, and of what stands before and behind the layers. All that families do
 * differently is data by now: an absent view is a step that is left out. */
#include "decode.h"

#include <string.h>

enum { NO_LAYER = -1 };

tl_err tl_pass_emit(const struct tl_pass *pass, struct tl_op op) {
    return pass->record != NULL ? tl_schedule_add(pass->record, &op) : tl_op_run(&op, pass->stream);
}

static tl_err matmul(const struct tl_pass *p, uint32_t il, struct tl_matmul op) {
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_MATMUL, .layer = il, .u.matmul = op});
}

static tl_err rmsnorm(const struct tl_pass *p, uint32_t il, struct tl_rmsnorm op) {
    op.eps = p->model->shape.norm_eps;
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_RMSNORM, .layer = il, .u.rmsnorm = op});
}

/* The scratch as a pass of n rows sees it. */
struct rows {
    tl_view x, norm, gate, up, pos;
    struct tl_attention_rows a;
};

static tl_view first_rows(tl_view v, uint32_t n) {
    return v.buf != NULL ? tl_view_rows(v, 0, n) : v;
}

static struct rows rows_of(const struct tl_scratch *s, tl_view x, tl_view pos) {
    const uint32_t n = x.rows;
    return (struct rows){.x = x,
                         .norm = first_rows(s->norm, n),
                         .gate = first_rows(s->gate, n),
                         .up = first_rows(s->up, n),
                         .pos = pos,
                         .a = {.q = first_rows(s->q, n),
                               .k = first_rows(s->k, n),
                               .v = first_rows(s->v, n),
                               .attn = first_rows(s->attn, n),
                               .attn_b = first_rows(s->attn_b, n),
                               .lse = first_rows(s->lse, n),
                               .lse_b = first_rows(s->lse_b, n)}};
}

/* q or k: per-head norm where there is one, then rotation. */
static tl_err norm_and_turn(const struct tl_pass *p, uint32_t il, tl_view x, tl_view norm,
                            tl_view pos) {
    const struct tl_shape *const s = &p->model->shape;
    const struct tl_layer *const layer = &p->model->layers[il];
    if (norm.buf != NULL) {
        const tl_view heads = tl_view_reshape(x, x.rows * (x.cols / s->head_dim), s->head_dim);
        TL_TRY(rmsnorm(p, il, (struct tl_rmsnorm){.y = heads, .x = heads, .w = norm}));
    }
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_ROPE,
                                          .layer = il,
                                          .u.rope = {.x = x,
                                                     .pos = pos,
                                                     .inv_freq = layer->inv_freq,
                                                     .head_dim = s->head_dim,
                                                     .pairing = s->family->pairing,
                                                     .scale = layer->rope_scale}});
}

/* x += W in + bias; with a post norm the product is normed before it is added. */
static tl_err add_branch(const struct tl_pass *p, uint32_t il, const struct rows *r,
                         const struct tl_matmul *product, tl_view post_norm) {
    struct tl_matmul op = *product;
    if (post_norm.buf == NULL) {
        op.y = r->x;
        op.accumulate = true;
        return matmul(p, il, op);
    }
    op.y = r->norm;
    TL_TRY(matmul(p, il, op));
    return rmsnorm(
        p, il, (struct tl_rmsnorm){.y = r->x, .x = r->norm, .w = post_norm, .accumulate = true});
}

static tl_err project(const struct tl_pass *p, uint32_t il, const struct rows *r) {
    const struct tl_layer *const l = &p->model->layers[il];
    const tl_view in = r->norm;
    TL_TRY(rmsnorm(p, il, (struct tl_rmsnorm){.y = in, .x = r->x, .w = l->attn_norm}));
    TL_TRY(matmul(p, il, (struct tl_matmul){.y = r->a.q, .x = in, .w = l->wq, .bias = l->bq}));
    TL_TRY(matmul(p, il, (struct tl_matmul){.y = r->a.k, .x = in, .w = l->wk, .bias = l->bk}));
    TL_TRY(matmul(p, il, (struct tl_matmul){.y = r->a.v, .x = in, .w = l->wv, .bias = l->bv}));
    TL_TRY(norm_and_turn(p, il, r->a.q, l->q_norm, r->pos));
    return norm_and_turn(p, il, r->a.k, l->k_norm, r->pos);
}

/* Layer il's query as layer il - 1 can know it: from its own input instead of its output, which in
 * a deep model differ little (TailorKV eq. 13). Not the released code's, which takes the norm of
 * the wrong layer. */
static tl_err predict(const struct tl_pass *p, uint32_t il, const struct rows *r) {
    const struct tl_layer *const l = &p->model->layers[il];
    const tl_view in = r->norm, q = p->scratch->q_next;
    TL_TRY(rmsnorm(p, il, (struct tl_rmsnorm){.y = in, .x = r->x, .w = l->attn_norm}));
    TL_TRY(matmul(p, il, (struct tl_matmul){.y = q, .x = in, .w = l->wq, .bias = l->bq}));
    TL_TRY(norm_and_turn(p, il, q, l->q_norm, r->pos));
    return tl_choose_ahead(p, il, q);
}

static tl_err feed_forward(const struct tl_pass *p, uint32_t il, const struct rows *r) {
    const struct tl_layer *const l = &p->model->layers[il];
    const tl_view in = r->norm;
    TL_TRY(rmsnorm(p, il, (struct tl_rmsnorm){.y = in, .x = r->x, .w = l->ffn_norm}));
    TL_TRY(
        matmul(p, il, (struct tl_matmul){.y = r->gate, .x = in, .w = l->gate, .bias = l->b_gate}));
    TL_TRY(matmul(p, il, (struct tl_matmul){.y = r->up, .x = in, .w = l->up, .bias = l->b_up}));
    TL_TRY(tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_GLU,
                                          .layer = il,
                                          .u.glu = {.y = r->gate,
                                                    .gate = r->gate,
                                                    .up = r->up,
                                                    .act = p->model->shape.family->act}}));
    const struct tl_matmul down = {.x = r->gate, .w = l->down, .bias = l->b_down};
    return add_branch(p, il, r, &down, l->ffn_post_norm);
}

static tl_err output_and_ffn(const struct tl_pass *p, uint32_t il, const struct rows *r) {
    const struct tl_layer *const l = &p->model->layers[il];
    const struct tl_matmul out = {.x = r->a.attn, .w = l->wo, .bias = l->bo};
    TL_TRY(add_branch(p, il, r, &out, l->attn_post_norm));
    return feed_forward(p, il, r);
}

static tl_err embed(const struct tl_pass *p, tl_view x) {
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_GATHER,
                                          .layer = (uint32_t)NO_LAYER,
                                          .u.gather = {.y = x,
                                                       .src = p->model->embd,
                                                       .idx = first_rows(p->scratch->ids, x.rows),
                                                       .scale = p->model->shape.embd_scale}});
}

tl_err tl_decode_embed(const struct tl_pass *pass, tl_view x, const uint32_t *ids) {
    memcpy(tl_view_host(pass->scratch->ids), ids, x.rows * sizeof *ids);
    return embed(pass, x);
}

tl_err tl_decode_prompt_layer(const struct tl_pass *pass, uint32_t il, tl_view x, uint32_t first) {
    const struct rows r = rows_of(pass->scratch, x, tl_view_rows(pass->scratch->pos, 0, x.rows));
    int32_t *const pos = tl_view_host(r.pos);
    for (uint32_t i = 0; i < x.rows; i++) {
        pos[i] = (int32_t)(first + i);
    }
    TL_TRY(project(pass, il, &r));
    TL_TRY(tl_attend_prompt(pass, il, &r.a, first));
    return output_and_ffn(pass, il, &r);
}

tl_err tl_decode_logits(const struct tl_pass *pass, tl_view x) {
    const struct tl_model *const m = pass->model;
    const tl_view norm = tl_view_rows(pass->scratch->norm, 0, x.rows);
    TL_TRY(rmsnorm(pass, (uint32_t)NO_LAYER,
                   (struct tl_rmsnorm){.y = norm, .x = x, .w = m->output_norm}));
    return matmul(pass, (uint32_t)NO_LAYER,
                  (struct tl_matmul){.y = tl_view_rows(pass->scratch->logits, 0, x.rows),
                                     .x = norm,
                                     .w = m->output,
                                     .bias = m->output_bias,
                                     .softcap = m->shape.logit_softcap});
}

/* ---- steps ---- */

static tl_err copy(const struct tl_pass *p, tl_view dst, tl_view src) {
    return tl_pass_emit(p, (struct tl_op){.verb = TL_VERB_COPY,
                                          .layer = (uint32_t)NO_LAYER,
                                          .u.copy = {.dst = dst, .src = src}});
}

/* True where what a step reads and counts is device memory, and is copied there and back. */
static bool is_far(const struct tl_pass *p) { return p->kv->numbers.buf != NULL; }

tl_view tl_pass_counts(const struct tl_pass *p, uint32_t il, bool channels) {
    const struct tl_scratch *const s = p->scratch;
    const tl_view all = is_far(p) ? s->tallies : s->tallies_from;
    return tl_view_rows(all, il + (channels ? p->model->shape.n_layers : 0), 1);
}

/* The numbers of p's cache to where `all`'s step reads them. */
static tl_err step_head(const struct tl_pass *all, const struct tl_pass *p) {
    if (!is_far(p)) {
        return TL_OK;
    }
    TL_TRY(copy(all, p->kv->numbers, p->kv->numbers_from));
    return p->scratch->tallies.buf != NULL
               ? copy(all, p->scratch->tallies, p->scratch->tallies_from)
               : TL_OK;
}

static tl_err step_tail(const struct tl_pass *all, const struct tl_pass *p) {
    return is_far(p) && p->scratch->tallies.buf != NULL
               ? copy(all, p->scratch->tallies_from, p->scratch->tallies)
               : TL_OK;
}

/* What layer il sees of its cache, for one sequence. */
static tl_err attend_alone(const struct tl_pass *p, uint32_t il, const struct rows *r) {
    TL_TRY(tl_attend_step_begin(p, il, &r->a));
    if (il + 1 < p->model->shape.n_layers && tl_chooses_ahead(p, il + 1)) {
        TL_TRY(predict(p, il + 1, r));
    }
    return tl_attend_step_end(p, il, &r->a);
}

tl_err tl_decode_record_step(const struct tl_pass *pass) {
    TL_ASSERT(pass->record != NULL);
    const tl_view x = tl_view_rows(pass->scratch->x, 0, 1);
    const struct rows r = rows_of(pass->scratch, x, pass->kv->pos);
    TL_TRY(step_head(pass, pass));
    TL_TRY(embed(pass, x));
    for (uint32_t il = 0; il < pass->model->shape.n_layers; il++) {
        TL_TRY(project(pass, il, &r));
        TL_TRY(attend_alone(pass, il, &r));
        TL_TRY(output_and_ffn(pass, il, &r));
    }
    TL_TRY(step_tail(pass, pass));
    return tl_decode_logits(pass, x);
}

/* ---- a step of several sequences ---- */

static struct rows row_of(const struct rows *r, uint32_t i) {
    struct rows one = *r;
    tl_view *const views[] = {&one.x,      &one.norm,  &one.gate,    &one.up,
                              &one.pos,    &one.a.q,   &one.a.k,     &one.a.v,
                              &one.a.attn, &one.a.lse, &one.a.lse_b, &one.a.attn_b};
    for (size_t v = 0; v < sizeof views / sizeof views[0]; v++) {
        *views[v] = views[v]->buf != NULL ? tl_view_rows(*views[v], i, 1) : *views[v];
    }
    return one;
}

static bool all_alike(const struct tl_pass *each, uint32_t n, uint32_t op) {
    for (uint32_t i = 1; i < n; i++) {
        if (!tl_op_alike(&each[0].record->ops[op], &each[i].record->ops[op])) {
            return false;
        }
    }
    return true;
}

static bool continues(const tl_view *v, const tl_view *first, uint32_t i) {
    return v->buf == first->buf && v->off_bytes == first->off_bytes + i * tl_view_bytes(*first);
}

/* The merges of all sequences as one of n rows, where they are rows behind each other. */
static bool merge_at_once(const struct tl_pass *each, uint32_t n, uint32_t op, struct tl_op *out) {
    *out = each[0].record->ops[op];
    struct tl_merge *const m = &out->u.merge;
    tl_view *const views[] = {&m->out, &m->lse, &m->out_b, &m->lse_b};
    for (uint32_t i = 1; i < n; i++) {
        const struct tl_merge *const next = &each[i].record->ops[op].u.merge;
        if (!continues(&next->out, &m->out, i) || !continues(&next->lse, &m->lse, i) ||
            !continues(&next->out_b, &m->out_b, i) || !continues(&next->lse_b, &m->lse_b, i)) {
            return false;
        }
    }
    for (size_t v = 0; v < sizeof views / sizeof views[0]; v++) {
        views[v]->rows = n;
    }
    return true;
}

/* The sequences' ops number `op`. */
static tl_err add_group(const struct tl_pass *all, const struct tl_pass *each, uint32_t n,
                        uint32_t op) {
    struct tl_op merged;
    const bool alike = all_alike(each, n, op);
    if (alike && each[0].record->ops[op].verb == TL_VERB_MERGE &&
        merge_at_once(each, n, op, &merged)) {
        return tl_schedule_add(all->record, &merged);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tl_op one = each[i].record->ops[op];
        one.together = alike && i == 0 && n > 1 ? n : 0;
        TL_TRY(tl_schedule_add(all->record, &one));
    }
    return TL_OK;
}

/* The sequences' own ops into the step: side by side where their lists are equally long, else one
 * list behind the other. */
static tl_err add_lists(const struct tl_pass *all, const struct tl_pass *each, uint32_t n) {
    bool same = true;
    for (uint32_t i = 1; i < n; i++) {
        same = same && each[i].record->n == each[0].record->n;
    }
    for (uint32_t op = 0; same && op < each[0].record->n; op++) {
        TL_TRY(add_group(all, each, n, op));
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t op = 0; !same && op < each[i].record->n; op++) {
            TL_TRY(tl_schedule_add(all->record, &each[i].record->ops[op]));
        }
        tl_schedule_clear(each[i].record);
    }
    return TL_OK;
}

tl_err tl_decode_record_batch(const struct tl_pass *all, const struct tl_pass *each, uint32_t n) {
    TL_ASSERT(all->record != NULL && n > 0 && n <= TL_LOGIT_ROWS);
    const tl_view x = tl_view_rows(all->scratch->x, 0, n);
    const tl_view pos = tl_view_rows(all->scratch->pos, 0, n);
    const tl_view step_pos = tl_view_rows(all->scratch->step_pos, 0, n);
    const bool far = is_far(&each[0]);
    const struct rows r = rows_of(all->scratch, x, far ? step_pos : pos);
    for (uint32_t i = 0; i < n; i++) {
        TL_TRY(step_head(all, &each[i]));
    }
    if (far) {
        TL_TRY(copy(all, step_pos, pos));
    }
    TL_TRY(embed(all, x));
    for (uint32_t il = 0; il < all->model->shape.n_layers; il++) {
        TL_TRY(project(all, il, &r));
        for (uint32_t i = 0; i < n; i++) {
            const struct rows one = row_of(&r, i);
            TL_TRY(attend_alone(&each[i], il, &one));
        }
        TL_TRY(add_lists(all, each, n));
        TL_TRY(output_and_ffn(all, il, &r));
    }
    for (uint32_t i = 0; i < n; i++) {
        TL_TRY(step_tail(all, &each[i]));
    }
    return tl_decode_logits(all, x);
}
