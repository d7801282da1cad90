/* The schedule of a pass. All that families do differently is data by now: an absent view is a step
 * that is left out. Buffers are planned once, in tl_scratch_open; nothing here allocates. */
#include "decode.h"

#include <string.h>

/* Where each view of the scratch lies; offsets are aligned for any kernel. */
enum { SCRATCH_ALIGN = 256 };

struct carve {
    tl_buf *buf; /* NULL: only measure */
    uint64_t at;
};

static tl_view carve(struct carve *c, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    const uint64_t off = c->at;
    c->at = tl_align_up(off + rows * tl_row_bytes(dtype, cols), SCRATCH_ALIGN);
    return c->buf != NULL ? tl_view_of(c->buf, off, rows, cols, dtype) : (tl_view){0};
}

static void carve_device(struct carve *c, const struct tl_shape *s, uint32_t n,
                         struct tl_scratch *out) {
    out->x = carve(c, n, s->n_embd, TL_F32);
    out->norm = carve(c, n, s->n_embd, TL_F32);
    out->q = carve(c, n, s->n_heads * s->head_dim, TL_F32);
    out->attn = carve(c, n, s->n_heads * s->head_dim, TL_F32);
    out->k = carve(c, n, s->n_kv_heads * s->head_dim, TL_F32);
    out->v = carve(c, n, s->n_kv_heads * s->head_dim, TL_F32);
    out->gate = carve(c, n, s->n_ff, TL_F32);
    out->up = carve(c, n, s->n_ff, TL_F32);
}

static void carve_host(struct carve *c, const struct tl_shape *s, uint32_t n,
                       struct tl_scratch *out) {
    out->logits = carve(c, TL_LOGIT_ROWS, s->n_vocab, TL_F32);
    out->ids = carve(c, n, 1, TL_I32);
    out->pos = carve(c, n, 1, TL_I32);
    out->n_rows = carve(c, 1, 1, TL_I32);
}

uint64_t tl_scratch_bytes(const struct tl_shape *shape, uint32_t n_chunk) {
    struct tl_scratch unused;
    struct carve c = {0};
    carve_device(&c, shape, n_chunk, &unused);
    carve_host(&c, shape, n_chunk, &unused);
    return c.at;
}

tl_err tl_scratch_open(struct tl_scratch *out, const struct tl_shape *shape, tl_dev *dev,
                       uint32_t n_chunk) {
    struct tl_scratch s = {.n_chunk = n_chunk};
    struct carve device = {0}, host = {0};
    carve_device(&device, shape, n_chunk, &s);
    carve_host(&host, shape, n_chunk, &s);
    TL_TRY(tl_buf_alloc(&device.buf, dev, device.at, TL_MEM_DEVICE));
    const tl_err err = tl_buf_alloc(&host.buf, dev, host.at, TL_MEM_HOST);
    if (err) {
        tl_buf_free(&device.buf);
        return err;
    }
    device.at = 0;
    host.at = 0;
    carve_device(&device, shape, n_chunk, &s);
    carve_host(&host, shape, n_chunk, &s);
    s.device = device.buf;
    s.host = host.buf;
    *out = s;
    return TL_OK;
}

void tl_scratch_close(struct tl_scratch *scratch) {
    tl_buf_free(&scratch->device);
    tl_buf_free(&scratch->host);
    *scratch = (struct tl_scratch){0};
}

/* The scratch as one pass of n tokens sees it. */
struct rows {
    tl_view x, norm, q, attn, k, v, gate, up, pos;
    uint32_t n;
};

static struct rows rows_of(const struct tl_scratch *s, uint32_t n) {
    return (struct rows){
        .x = tl_view_rows(s->x, 0, n),
        .norm = tl_view_rows(s->norm, 0, n),
        .q = tl_view_rows(s->q, 0, n),
        .attn = tl_view_rows(s->attn, 0, n),
        .k = tl_view_rows(s->k, 0, n),
        .v = tl_view_rows(s->v, 0, n),
        .gate = tl_view_rows(s->gate, 0, n),
        .up = tl_view_rows(s->up, 0, n),
        .pos = tl_view_rows(s->pos, 0, n),
        .n = n,
    };
}

/* q or k: per-head norm where there is one, then rotation. */
static tl_err norm_and_turn(const struct tl_pass *p, const struct tl_layer *layer, tl_view x,
                            tl_view norm, tl_view pos) {
    const struct tl_shape *const s = &p->model->shape;
    if (norm.buf != NULL) {
        const tl_view heads = tl_view_reshape(x, x.rows * (x.cols / s->head_dim), s->head_dim);
        TL_TRY(tl_rmsnorm(p->stream, &(struct tl_rmsnorm){
                                         .y = heads, .x = heads, .w = norm, .eps = s->norm_eps}));
    }
    return tl_rope(p->stream, &(struct tl_rope){.x = x,
                                                .pos = pos,
                                                .inv_freq = layer->inv_freq,
                                                .head_dim = s->head_dim,
                                                .pairing = s->family->pairing,
                                                .scale = layer->rope_scale});
}

/* x += W in + bias; with a post norm the product is normed before it is added, by way of `tmp`. */
static tl_err add_branch(const struct tl_pass *p, const struct rows *r, tl_view in, tl_view w,
                         tl_view bias, tl_view post_norm) {
    if (post_norm.buf == NULL) {
        return tl_matmul(p->stream, &(struct tl_matmul){
                                        .y = r->x, .x = in, .w = w, .bias = bias, .accumulate = true});
    }
    TL_TRY(tl_matmul(p->stream, &(struct tl_matmul){.y = r->norm, .x = in, .w = w, .bias = bias}));
    return tl_rmsnorm(p->stream, &(struct tl_rmsnorm){.y = r->x,
                                                      .x = r->norm,
                                                      .w = post_norm,
                                                      .eps = p->model->shape.norm_eps,
                                                      .accumulate = true});
}

static tl_err attention(const struct tl_pass *p, const struct rows *r, uint32_t il) {
    const struct tl_layer *const layer = &p->model->layers[il];
    const struct tl_shape *const s = &p->model->shape;
    tl_stream *const st = p->stream;
    TL_TRY(tl_rmsnorm(st, &(struct tl_rmsnorm){
                              .y = r->norm, .x = r->x, .w = layer->attn_norm, .eps = s->norm_eps}));
    TL_TRY(tl_matmul(
        st, &(struct tl_matmul){.y = r->q, .x = r->norm, .w = layer->wq, .bias = layer->bq}));
    TL_TRY(tl_matmul(
        st, &(struct tl_matmul){.y = r->k, .x = r->norm, .w = layer->wk, .bias = layer->bk}));
    TL_TRY(tl_matmul(
        st, &(struct tl_matmul){.y = r->v, .x = r->norm, .w = layer->wv, .bias = layer->bv}));
    TL_TRY(norm_and_turn(p, layer, r->q, layer->q_norm, r->pos));
    TL_TRY(norm_and_turn(p, layer, r->k, layer->k_norm, r->pos));
    TL_TRY(tl_kv_encode(
        st, &(struct tl_kv_encode){
                .dst = p->kv->layers[il], .k = r->k, .v = r->v, .slot = r->pos}));
    TL_TRY(tl_attend(st, &(struct tl_attend){.out = r->attn,
                                             .q = r->q,
                                             .q_pos = r->pos,
                                             .n_rows = p->scratch->n_rows,
                                             .kv = p->kv->layers[il],
                                             .n_heads = s->n_heads,
                                             .scale = s->attn_scale,
                                             .softcap = s->attn_softcap,
                                             .window = layer->window}));
    return add_branch(p, r, r->attn, layer->wo, layer->bo, layer->attn_post_norm);
}

static tl_err feed_forward(const struct tl_pass *p, const struct rows *r, uint32_t il) {
    const struct tl_layer *const layer = &p->model->layers[il];
    const struct tl_shape *const s = &p->model->shape;
    tl_stream *const st = p->stream;
    TL_TRY(tl_rmsnorm(st, &(struct tl_rmsnorm){
                              .y = r->norm, .x = r->x, .w = layer->ffn_norm, .eps = s->norm_eps}));
    TL_TRY(tl_matmul(
        st,
        &(struct tl_matmul){.y = r->gate, .x = r->norm, .w = layer->gate, .bias = layer->b_gate}));
    TL_TRY(tl_matmul(
        st, &(struct tl_matmul){.y = r->up, .x = r->norm, .w = layer->up, .bias = layer->b_up}));
    TL_TRY(tl_glu(
        st, &(struct tl_glu){.y = r->gate, .gate = r->gate, .up = r->up, .act = s->family->act}));
    return add_branch(p, r, r->gate, layer->down, layer->b_down, layer->ffn_post_norm);
}

/* What the host says of this pass: token ids, positions (which are slots too), rows to attend. */
static void write_inputs(const struct tl_pass *p, const uint32_t *ids, uint32_t n) {
    memcpy(tl_view_host(p->scratch->ids), ids, n * sizeof *ids);
    int32_t *const pos = tl_view_host(p->scratch->pos);
    for (uint32_t i = 0; i < n; i++) {
        pos[i] = (int32_t)(p->kv->n_rows + i);
    }
    *(int32_t *)tl_view_host(p->scratch->n_rows) = (int32_t)(p->kv->n_rows + n);
}

tl_err tl_decode_layers(const struct tl_pass *pass, const uint32_t *ids, uint32_t n) {
    TL_ASSERT(n > 0 && n <= pass->scratch->n_chunk && n <= pass->kv->cap - pass->kv->n_rows);
    write_inputs(pass, ids, n);
    const struct rows r = rows_of(pass->scratch, n);
    TL_TRY(tl_gather(pass->stream, &(struct tl_gather){.y = r.x,
                                                       .src = pass->model->embd,
                                                       .idx = tl_view_rows(pass->scratch->ids, 0, n),
                                                       .scale = pass->model->shape.embd_scale}));
    for (uint32_t il = 0; il < pass->model->shape.n_layers; il++) {
        TL_TRY(attention(pass, &r, il));
        TL_TRY(feed_forward(pass, &r, il));
    }
    return TL_OK;
}

tl_err tl_decode_logits(const struct tl_pass *pass, uint32_t first, uint32_t n) {
    TL_ASSERT(n > 0 && n <= TL_LOGIT_ROWS);
    const tl_view x = tl_view_rows(pass->scratch->x, first, n);
    const tl_view norm = tl_view_rows(pass->scratch->norm, 0, n);
    const struct tl_model *const m = pass->model;
    TL_TRY(tl_rmsnorm(pass->stream, &(struct tl_rmsnorm){.y = norm,
                                                         .x = x,
                                                         .w = m->output_norm,
                                                         .eps = m->shape.norm_eps}));
    return tl_matmul(pass->stream, &(struct tl_matmul){.y = tl_view_rows(pass->scratch->logits, 0, n),
                                                       .x = norm,
                                                       .w = m->output,
                                                       .bias = m->output_bias,
                                                       .softcap = m->shape.logit_softcap});
}
