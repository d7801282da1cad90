/* Finds, checks and binds the tensors of a model. One table says which tensors a layer has, one
 * walk serves both the check (no device) and the binding, so the two cannot differ. Matrices stay
 * in their file format, in place where the device can read the mapping; vectors (norms, biases)
 * become F32. A fused tensor is bound once and seen through views of its rows. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that tensors have, by name. */
typedef enum size_kind { S_ONE, S_EMBD, S_Q, S_KV, S_HEAD, S_FF } size_kind;

typedef enum need_kind {
    N_ALWAYS,
    N_OPTIONAL,
    N_SPLIT_QKV, /* unless attn_qkv is there */
    N_QKV_BIAS,  /* where the family has it; else optional */
    N_QK_NORM,   /* where the family has it; else not looked for */
    N_POST_NORM, /* likewise */
    N_SPLIT_FFN, /* unless the gate is inside ffn_up */
} need_kind;

struct slot {
    const char *suffix;
    size_t off; /* of the view in struct tl_layer */
    size_kind rows, cols;
    need_kind need;
};

#define AT(field) offsetof(struct tl_layer, field)
static const struct slot slots[] = {
    {"attn_norm.weight", AT(attn_norm), S_ONE, S_EMBD, N_ALWAYS},
    {"attn_q.weight", AT(wq), S_Q, S_EMBD, N_SPLIT_QKV},
    {"attn_k.weight", AT(wk), S_KV, S_EMBD, N_SPLIT_QKV},
    {"attn_v.weight", AT(wv), S_KV, S_EMBD, N_SPLIT_QKV},
    {"attn_q.bias", AT(bq), S_ONE, S_Q, N_QKV_BIAS},
    {"attn_k.bias", AT(bk), S_ONE, S_KV, N_QKV_BIAS},
    {"attn_v.bias", AT(bv), S_ONE, S_KV, N_QKV_BIAS},
    {"attn_q_norm.weight", AT(q_norm), S_ONE, S_HEAD, N_QK_NORM},
    {"attn_k_norm.weight", AT(k_norm), S_ONE, S_HEAD, N_QK_NORM},
    {"attn_output.weight", AT(wo), S_EMBD, S_Q, N_ALWAYS},
    {"attn_output.bias", AT(bo), S_ONE, S_EMBD, N_OPTIONAL},
    {"post_attention_norm.weight", AT(attn_post_norm), S_ONE, S_EMBD, N_POST_NORM},
    {"ffn_norm.weight", AT(ffn_norm), S_ONE, S_EMBD, N_ALWAYS},
    {"ffn_gate.weight", AT(gate), S_FF, S_EMBD, N_SPLIT_FFN},
    {"ffn_up.weight", AT(up), S_FF, S_EMBD, N_SPLIT_FFN},
    {"ffn_gate.bias", AT(b_gate), S_ONE, S_FF, N_OPTIONAL},
    {"ffn_up.bias", AT(b_up), S_ONE, S_FF, N_OPTIONAL},
    {"ffn_down.weight", AT(down), S_EMBD, S_FF, N_ALWAYS},
    {"ffn_down.bias", AT(b_down), S_ONE, S_EMBD, N_OPTIONAL},
    {"post_ffw_norm.weight", AT(ffn_post_norm), S_ONE, S_EMBD, N_POST_NORM},
};
#undef AT
enum { N_SLOTS = sizeof slots / sizeof slots[0] };
/* Fused tensors stand for split ones, so no layer has more than N_SLOTS; beside the layers:
 * embedding, output norm, output, its bias, two rope tables. */
enum { N_GLOBAL_BUFS = 6 };

struct binder {
    const tl_weights *w;
    const struct tl_blank *blank; /* instead of w: every tensor there is, of these types */
    const struct tl_shape *shape;
    tl_model *model; /* NULL: check only */
    tl_dev *dev;
    struct tl_load_watch watch;
    uint64_t n_used; /* tensors */
    uint64_t bytes;  /* of them, as they are bound */
};

static uint32_t size_of(const struct tl_shape *s, size_kind kind) {
    switch (kind) {
    case S_EMBD:
        return s->n_embd;
    case S_Q:
        return s->n_heads * s->head_dim;
    case S_KV:
        return s->n_kv_heads * s->head_dim;
    case S_HEAD:
        return s->head_dim;
    case S_FF:
        return s->n_ff;
    case S_ONE:
        break;
    }
    return 1;
}

static bool has_shape(const struct tl_tensor *t, uint64_t rows, uint64_t cols) {
    return t->dims[0] == cols && t->dims[1] == rows && t->dims[2] == 1 && t->dims[3] == 1;
}

/* A vector as F32, which is what the ops take; a matrix as it is. */
static tl_err bind(struct binder *b, const struct tl_tensor *t, bool vector, tl_view *view) {
    tl_model *const m = b->model;
    tl_buf **const buf = &m->bufs[m->n_bufs];
    const bool in_place = !vector || (t->dtype == TL_F32 && (uintptr_t)t->data % 4 == 0);
    if (in_place) {
        TL_TRY(tl_buf_wrap(buf, b->dev, t->data, t->bytes));
        m->n_bufs++;
        *view = tl_view_of(*buf, 0, (uint32_t)t->dims[1], (uint32_t)t->dims[0], t->dtype);
        return TL_OK;
    }
    const uint32_t n = (uint32_t)t->dims[0];
    TL_TRY(tl_buf_alloc(buf, b->dev, (uint64_t)n * 4, TL_MEM_HOST));
    m->n_bufs++;
    *view = tl_view_of(*buf, 0, 1, n, TL_F32);
    tl_decode_row(t->dtype, t->data, tl_view_host(*view), n);
    return TL_OK;
}

static tl_err bind_blank(struct binder *b, const char *name, uint32_t rows, uint32_t cols,
                         tl_view *view) {
    const bool outside =
        strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output.weight") == 0;
    tl_dtype dtype = outside ? b->blank->outside : b->blank->layers;
    dtype = cols % tl_dtype_info(dtype)->block_elems != 0 ? TL_Q8_0 : dtype;
    dtype = cols % tl_dtype_info(dtype)->block_elems != 0 ? TL_F16 : dtype;
    dtype = rows == 1 ? TL_F32 : dtype;
    const uint64_t bytes = rows * tl_row_bytes(dtype, cols);
    tl_model *const m = b->model;
    TL_TRY(tl_buf_alloc(&m->bufs[m->n_bufs], b->dev, bytes, TL_MEM_DEVICE));
    *view = tl_view_of(m->bufs[m->n_bufs++], 0, rows, cols, dtype);
    b->bytes += bytes;
    return TL_OK;
}

static bool has_tensor(const struct binder *b, const char *name) {
    return b->blank == NULL && tl_weights_find_tensor(b->w, name) != NULL;
}

static void tell(const struct binder *b) {
    if (b->model != NULL && b->watch.on_load != NULL) {
        b->watch.on_load(b->watch.user, b->bytes, b->shape->weight_bytes);
    }
}

/* A mapped file comes from the disk when it is touched. That is here, where somebody watches, not
 * in the middle of the first prompt; a large tensor is told of in slices. */
static void bring_in(const struct binder *b, const struct tl_tensor *t) {
    enum { PAGE_BYTES = 4096, SLICE_BYTES = 8 << 20 };
    const volatile unsigned char *const data = t->data;
    if (b->watch.on_load == NULL) {
        return;
    }
    for (uint64_t at = 0; at < t->bytes; at += PAGE_BYTES) {
        (void)data[at];
        if (at > 0 && at % SLICE_BYTES == 0) {
            b->watch.on_load(b->watch.user, b->bytes + at, b->shape->weight_bytes);
        }
    }
}

/* One tensor: present where required, of the right shape, bound where there is a model. */
static tl_err take(struct binder *b, const char *name, uint32_t rows, uint32_t cols, tl_need need,
                   tl_view *view) {
    if (b->blank != NULL) {
        return need == TL_OPTIONAL ? TL_OK : bind_blank(b, name, rows, cols, view);
    }
    const struct tl_tensor *const t = tl_weights_find_tensor(b->w, name);
    if (t == NULL) {
        return need == TL_OPTIONAL
                   ? TL_OK
                   : tl_fail(tl_weights_log(b->w), TL_ERR_FORMAT, "%s: tensor %s is missing",
                             tl_weights_path(b->w), name);
    }
    if (!has_shape(t, rows, cols)) {
        return tl_fail(tl_weights_log(b->w), TL_ERR_FORMAT,
                       "%s: tensor %s: expected %u rows of %u, found %llu rows of %llu",
                       tl_weights_path(b->w), name, rows, cols, (unsigned long long)t->dims[1],
                       (unsigned long long)t->dims[0]);
    }
    if (rows == 1 && tl_dtype_info(t->dtype)->block_elems != 1) {
        return tl_fail(tl_weights_log(b->w), TL_ERR_UNSUPPORTED,
                       "%s: tensor %s: a vector of type %s is not supported", tl_weights_path(b->w),
                       name, tl_dtype_info(t->dtype)->name);
    }
    if (b->model != NULL) {
        bring_in(b, t);
        TL_TRY(bind(b, t, rows == 1, view));
    }
    b->n_used++;
    b->bytes += rows == 1 ? (uint64_t)cols * sizeof(float) : t->bytes;
    tell(b);
    return TL_OK;
}

struct tensor_name {
    char text[64];
};

static struct tensor_name layer_tensor(uint32_t il, const char *suffix) {
    struct tensor_name name;
    snprintf(name.text, sizeof name.text, "blk.%u.%s", il, suffix);
    return name;
}

/* A column range of a (1, n) F32 view. */
static tl_view slice_vector(tl_view v, uint32_t first, uint32_t n) {
    return tl_view_of(v.buf, v.off_bytes + (uint64_t)first * 4, 1, n, TL_F32);
}

/* attn_qkv: the rows of q, k and v one behind the other. */
static tl_err take_fused_qkv(struct binder *b, uint32_t il, struct tl_layer *layer) {
    const struct tl_shape *const s = b->shape;
    const uint32_t n_q = size_of(s, S_Q), n_kv = size_of(s, S_KV);
    tl_view weight = {0}, bias = {0};
    TL_TRY(take(b, layer_tensor(il, "attn_qkv.weight").text, n_q + 2 * n_kv, s->n_embd, TL_REQUIRED,
                &weight));
    TL_TRY(take(b, layer_tensor(il, "attn_qkv.bias").text, 1, n_q + 2 * n_kv,
                s->family->qkv_bias ? TL_REQUIRED : TL_OPTIONAL, &bias));
    if (weight.buf != NULL) {
        layer->wq = tl_view_rows(weight, 0, n_q);
        layer->wk = tl_view_rows(weight, n_q, n_kv);
        layer->wv = tl_view_rows(weight, n_q + n_kv, n_kv);
    }
    if (bias.buf != NULL) {
        layer->bq = slice_vector(bias, 0, n_q);
        layer->bk = slice_vector(bias, n_q, n_kv);
        layer->bv = slice_vector(bias, n_q + n_kv, n_kv);
    }
    return TL_OK;
}

/* ffn_up: the rows of the gate, then those of up. */
static tl_err take_fused_ffn(struct binder *b, uint32_t il, struct tl_layer *layer) {
    const uint32_t n_ff = b->shape->n_ff;
    tl_view both = {0};
    TL_TRY(take(b, layer_tensor(il, "ffn_up.weight").text, 2 * n_ff, b->shape->n_embd, TL_REQUIRED,
                &both));
    if (both.buf != NULL) {
        layer->gate = tl_view_rows(both, 0, n_ff);
        layer->up = tl_view_rows(both, n_ff, n_ff);
    }
    return TL_OK;
}

static tl_err take_layer(struct binder *b, uint32_t il, struct tl_layer *layer) {
    const struct tl_family *const f = b->shape->family;
    const bool fused_qkv = has_tensor(b, layer_tensor(il, "attn_qkv.weight").text);
    const bool fused_ffn =
        f->fused && b->blank == NULL && !has_tensor(b, layer_tensor(il, "ffn_gate.weight").text);
    for (size_t i = 0; i < N_SLOTS; i++) {
        const struct slot *const slot = &slots[i];
        const bool of_qkv = slot->need == N_SPLIT_QKV || slot->need == N_QKV_BIAS;
        const bool not_looked_for = (slot->need == N_QK_NORM && !f->qk_norm) ||
                                    (slot->need == N_POST_NORM && !f->post_norms);
        if ((of_qkv && fused_qkv) || (slot->need == N_SPLIT_FFN && fused_ffn) || not_looked_for) {
            continue;
        }
        const bool optional =
            slot->need == N_OPTIONAL || (slot->need == N_QKV_BIAS && !f->qkv_bias);
        TL_TRY(take(b, layer_tensor(il, slot->suffix).text, size_of(b->shape, slot->rows),
                    size_of(b->shape, slot->cols), optional ? TL_OPTIONAL : TL_REQUIRED,
                    (tl_view *)(void *)((char *)layer + slot->off)));
    }
    if (fused_qkv) {
        TL_TRY(take_fused_qkv(b, il, layer));
    }
    return fused_ffn ? take_fused_ffn(b, il, layer) : TL_OK;
}

/* Everything outside the layers, then the layers into `layers`, or into nothing when checking. */
static tl_err take_all(struct binder *b, struct tl_layer *layers) {
    const struct tl_shape *const s = b->shape;
    tl_view embd = {0}, norm = {0}, output = {0}, bias = {0};
    TL_TRY(take(b, "token_embd.weight", s->n_vocab, s->n_embd, TL_REQUIRED, &embd));
    TL_TRY(take(b, "output_norm.weight", 1, s->n_embd, TL_REQUIRED, &norm));
    if (!s->family->tied_only) {
        const bool own = b->blank != NULL && !b->blank->tied;
        TL_TRY(take(b, "output.weight", s->n_vocab, s->n_embd, own ? TL_REQUIRED : TL_OPTIONAL,
                    &output));
        TL_TRY(take(b, "output.bias", 1, s->n_vocab, TL_OPTIONAL, &bias));
    }
    if (b->model != NULL) {
        b->model->embd = embd;
        b->model->output_norm = norm;
        b->model->output = output.buf != NULL ? output : embd;
        b->model->output_bias = bias;
    }
    for (uint32_t il = 0; il < s->n_layers; il++) {
        struct tl_layer checked = {0};
        TL_TRY(take_layer(b, il, layers != NULL ? &layers[il] : &checked));
    }
    return TL_OK;
}

static bool ends_with(tl_str name, const char *end) {
    const size_t n = strlen(end);
    return name.len >= n && memcmp(name.data + name.len - n, end, n) == 0;
}

/* Rotary tables are in the shape already, or, in old files, repeated in each layer for nobody. */
static bool is_known_extra(tl_str name) {
    return ends_with(name, "rope_freqs.weight") || ends_with(name, "rope_factors_long.weight") ||
           ends_with(name, "rope_factors_short.weight") || ends_with(name, "rot_embd");
}

static void warn_of_unused(const struct binder *b) {
    uint64_t n_known = 0;
    for (uint64_t i = 0; i < tl_weights_n_tensors(b->w); i++) {
        n_known += is_known_extra(tl_weights_tensor(b->w, i)->name);
    }
    const uint64_t n_all = tl_weights_n_tensors(b->w);
    if (b->n_used + n_known < n_all) {
        tl_say(tl_weights_log(b->w), TL_LEVEL_WARN,
               "%s: %llu of %llu tensors are not used by architecture %s: answers may be wrong",
               tl_weights_path(b->w), (unsigned long long)(n_all - b->n_used - n_known),
               (unsigned long long)n_all, b->shape->family->name);
    }
}

static tl_err read_n_vocab(const tl_weights *w, struct tl_shape *shape) {
    const struct tl_tensor *const embd = tl_weights_find_tensor(w, "token_embd.weight");
    if (embd == NULL) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: tensor token_embd.weight is missing",
                       tl_weights_path(w));
    }
    const struct tl_meta *tokens = NULL;
    TL_TRY(tl_meta_get_array(w, "tokenizer.ggml.tokens", TL_REQUIRED, TL_META_STR, &tokens));
    if (embd->dims[1] == 0 || embd->dims[1] > TL_VOCAB_MAX || embd->dims[1] < tokens->n) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT,
                       "%s: tensor token_embd.weight: %llu rows for a vocabulary of %llu",
                       tl_weights_path(w), (unsigned long long)embd->dims[1],
                       (unsigned long long)tokens->n);
    }
    shape->n_vocab = (uint32_t)embd->dims[1];
    return TL_OK;
}

tl_err tl_model_check(const tl_weights *w, struct tl_shape *shape) {
    TL_TRY(read_n_vocab(w, shape));
    struct binder b = {.w = w, .shape = shape};
    TL_TRY(take_all(&b, NULL));
    shape->weight_bytes = b.bytes;
    warn_of_unused(&b);
    return TL_OK;
}

/* table: of m's own shape. Every layer reads it at each token, so it lies with the weights. */
static tl_err bind_rope(tl_model *m, tl_dev *dev, const struct tl_rope_table *table,
                        tl_view *view) {
    const uint32_t n = m->shape.n_rot / 2;
    tl_buf **const buf = &m->bufs[m->n_bufs];
    TL_TRY(tl_buf_wrap(buf, dev, table->inv_freq, (uint64_t)n * sizeof(float)));
    m->n_bufs++;
    *view = tl_view_of(*buf, 0, 1, n, TL_F32);
    return TL_OK;
}

static tl_err open_model(tl_model **out, struct binder *b) {
    const struct tl_shape *const shape = b->shape;
    tl_model *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return TL_ERR_MEMORY;
    }
    m->shape = *shape;
    m->layers = calloc(shape->n_layers, sizeof *m->layers);
    m->bufs = calloc((size_t)shape->n_layers * N_SLOTS + N_GLOBAL_BUFS, sizeof(tl_buf *));
    tl_err err = m->layers != NULL && m->bufs != NULL ? TL_OK : TL_ERR_MEMORY;
    b->shape = &m->shape;
    b->model = m;
    if (!err) {
        tell(b);
        err = take_all(b, m->layers);
    }
    m->weight_bytes = b->bytes;
    m->shape.weight_bytes = b->bytes;
    tl_view rope = {0}, rope_local = {0};
    if (!err) {
        err = bind_rope(m, b->dev, &m->shape.rope, &rope);
    }
    if (!err) {
        err = bind_rope(m, b->dev, &m->shape.rope_local, &rope_local);
    }
    if (err) {
        tl_model_close(&m);
        return err;
    }
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        struct tl_layer *const layer = &m->layers[il];
        const bool local = shape->windowed[il];
        layer->window = local ? shape->window : 0;
        layer->inv_freq = local ? rope_local : rope;
        layer->rope_scale = local ? shape->rope_local.scale : shape->rope.scale;
    }
    *out = m;
    return TL_OK;
}

tl_err tl_model_open(tl_model **out, const tl_weights *w, const struct tl_shape *shape, tl_dev *dev,
                     const struct tl_load_watch *watch) {
    struct binder b = {.w = w, .shape = shape, .dev = dev};
    b.watch = watch != NULL ? *watch : b.watch;
    return open_model(out, &b);
}

tl_err tl_model_open_blank(tl_model **out, const struct tl_shape *shape,
                           const struct tl_blank *blank, tl_dev *dev) {
    struct binder b = {.blank = blank, .shape = shape, .dev = dev};
    return open_model(out, &b);
}

void tl_model_close(tl_model **model) {
    tl_model *const m = *model;
    if (m == NULL) {
        return;
    }
    for (uint32_t i = 0; i < m->n_bufs; i++) {
        tl_buf_free(&m->bufs[i]);
    }
    free(m->bufs);
    free(m->layers);
    free(m);
    *model = NULL;
}
