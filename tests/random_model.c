#include "random_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Carves views of one float array, once to measure and once for real. */
struct carve {
    tl_buf *buf; /* NULL: only measure */
    uint64_t n_floats;
};

static tl_view weight(struct carve *c, uint64_t rows, uint64_t cols) {
    const uint64_t at = c->n_floats;
    c->n_floats += tl_align_up(rows * cols, 64);
    return c->buf != NULL
               ? tl_view_of(c->buf, at * sizeof(float), (uint32_t)rows, (uint32_t)cols, TL_F32)
               : (tl_view){0};
}

static void carve_layer(struct carve *c, const struct tl_shape *s, struct tl_layer *l) {
    const uint64_t q = (uint64_t)s->n_heads * s->head_dim,
                   kv = (uint64_t)s->n_kv_heads * s->head_dim;
    const struct tl_family *const f = s->family;
    *l = (struct tl_layer){.window = 0, .rope_scale = 1};
    l->attn_norm = weight(c, 1, s->n_embd);
    l->wq = weight(c, q, s->n_embd);
    l->wk = weight(c, kv, s->n_embd);
    l->wv = weight(c, kv, s->n_embd);
    if (f->qkv_bias) {
        l->bq = weight(c, 1, q);
        l->bk = weight(c, 1, kv);
        l->bv = weight(c, 1, kv);
    }
    if (f->qk_norm) {
        l->q_norm = weight(c, 1, s->head_dim);
        l->k_norm = weight(c, 1, s->head_dim);
    }
    l->wo = weight(c, s->n_embd, q);
    l->ffn_norm = weight(c, 1, s->n_embd);
    l->gate = weight(c, s->n_ff, s->n_embd);
    l->up = weight(c, s->n_ff, s->n_embd);
    l->down = weight(c, s->n_embd, s->n_ff);
    if (f->post_norms) {
        l->attn_post_norm = weight(c, 1, s->n_embd);
        l->ffn_post_norm = weight(c, 1, s->n_embd);
    }
}

static void carve_model(struct carve *c, tl_model *m) {
    const struct tl_shape *const s = &m->shape;
    m->embd = weight(c, s->n_vocab, s->n_embd);
    m->output = weight(c, s->n_vocab, s->n_embd);
    m->output_norm = weight(c, 1, s->n_embd);
    const tl_view inv_freq = weight(c, 1, s->n_rot / 2);
    for (uint32_t il = 0; il < s->n_layers; il++) {
        carve_layer(c, s, &m->layers[il]);
        m->layers[il].inv_freq = inv_freq;
    }
}

static void draw_shape(struct random_model *m, struct tl_rng *rng) {
    m->family = (struct tl_family){.name = "random",
                                   .pairing = (tl_pairing)rng_below(rng, 2),
                                   .act = (tl_act)rng_below(rng, 2),
                                   .qkv_bias = rng_below(rng, 2) != 0,
                                   .qk_norm = rng_below(rng, 2) != 0,
                                   .post_norms = rng_below(rng, 2) != 0};
    struct tl_shape *const s = &m->model.shape;
    const uint32_t n_kv_heads = 1 + (uint32_t)rng_below(rng, 3);
    const uint32_t head_dim = 8 * (1 + (uint32_t)rng_below(rng, 8));
    *s = (struct tl_shape){.family = &m->family,
                           .name = "random",
                           .n_vocab = 5 + (uint32_t)rng_below(rng, 60),
                           .n_embd = 8 + (uint32_t)rng_below(rng, 90),
                           .n_layers = 1 + (uint32_t)rng_below(rng, 4),
                           .n_heads = n_kv_heads * (1 + (uint32_t)rng_below(rng, 3)),
                           .n_kv_heads = n_kv_heads,
                           .head_dim = head_dim,
                           .n_ff = 8 + (uint32_t)rng_below(rng, 120),
                           .n_ctx_train = 4096,
                           .n_rot = head_dim,
                           .window = rng_below(rng, 2) ? 20 + (uint32_t)rng_below(rng, 100) : 0,
                           .norm_eps = 1e-5f,
                           .attn_scale = 1 / sqrtf((float)head_dim),
                           .attn_softcap = rng_below(rng, 2) ? 30.0f : 0.0f,
                           .embd_scale = 1};
    for (uint32_t il = 0; il < s->n_layers; il++) {
        s->windowed[il] = s->window != 0 && rng_below(rng, 2);
    }
}

void random_model_open(struct random_model *m, struct tl_rng *rng, tl_dev *dev) {
    *m = (struct random_model){0};
    draw_shape(m, rng);
    tl_model *const model = &m->model;
    model->layers = calloc(model->shape.n_layers, sizeof *model->layers);
    model->bufs = calloc(1, sizeof *model->bufs);
    assert_true(model->layers != NULL && model->bufs != NULL);
    struct carve c = {0};
    carve_model(&c, model);
    m->weights = calloc(c.n_floats, sizeof *m->weights);
    assert_non_null(m->weights);
    for (uint64_t i = 0; i < c.n_floats; i++) {
        m->weights[i] = 0.4f * rng_float(rng);
    }
    model->weight_bytes = c.n_floats * sizeof *m->weights;
    assert_int_equal(tl_buf_wrap(&model->bufs[0], dev, m->weights, model->weight_bytes), TL_OK);
    model->n_bufs = 1;
    c = (struct carve){.buf = model->bufs[0]};
    carve_model(&c, model);
}

void random_model_close(struct random_model *m) {
    tl_buf_free(&m->model.bufs[0]);
    free(m->model.bufs);
    free(m->model.layers);
    free(m->weights);
}

struct tl_policy random_policy(struct tl_rng *rng) {
    struct tl_policy p;
    do {
        p = (struct tl_policy){.sink = (uint32_t)rng_below(rng, 40),
                               .recent = (uint32_t)rng_below(rng, 60),
                               .k_codec = (tl_codec)rng_below(rng, TL_CODEC_COUNT),
                               .v_codec = (tl_codec)rng_below(rng, TL_CODEC_COUNT),
                               .home = (tl_home)rng_below(rng, 3),
                               .select = (tl_select)rng_below(rng, 3),
                               .topk = 1 + (uint32_t)rng_below(rng, 40),
                               .index = (tl_index)rng_below(rng, 4),
                               .channels = 1 + (uint32_t)rng_below(rng, 20),
                               .predict = (tl_predict)rng_below(rng, 3),
                               .page = 1u << rng_below(rng, 7),
                               .rest = (tl_rest)rng_below(rng, 2),
                               .hot =
                                   rng_below(rng, 3) == 0 ? 0 : 80 + (uint32_t)rng_below(rng, 40)};
    } while (tl_policy_check(&p, NULL));
    return p;
}
