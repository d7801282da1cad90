/* Measuring layers while a prompt passes. Nothing here changes what the prompt computes: it reads
 * queries and exact rows, and writes to memory of its own. The codecs' part compresses a layer's
 * rows into one sketch that all layers share, attends it with the newest rows, and compares. */
#include "identify.h"

#include <math.h>
#include <stdlib.h>

const uint16_t tl_curve_parts[TL_CURVE_POINTS] = {10, 20, 50, 100, 200, 500, 1000, 2000, 5000};
const tl_codec tl_codecs_tried[TL_CODECS_TRIED] = {
    TL_CODEC_Q8,      TL_CODEC_INT4,    TL_CODEC_INT2,   TL_CODEC_INT1,
    TL_CODEC_VQ_D2B8, TL_CODEC_VQ_D4B8, TL_CODEC_VQ_D8B8};

enum {
    ALIGN = 256,
    /* Rows that are never compressed in the comparison: at least so many, so that every query sees
     * all the others. */
    NEWEST_MIN = TL_BLOCK,
    NEWEST_MAX = NEWEST_MIN + TL_BLOCK,
    BOOK_NUMBERS = 256 * TL_VQ_DIM_MAX, /* of the largest codebook that is tried */
};
_Static_assert((int)NEWEST_MIN >= (int)TL_LAST_QUERIES, "every query sees all compressed rows");

/* What the codecs' part works on. */
struct trial {
    tl_fit fit;
    tl_view k_codes, v_codes;      /* the largest codec's bytes; views of fewer columns are used */
    struct tl_kv_rows newest;      /* (n_kv_heads * NEWEST_MAX, head_dim) f16 */
    tl_view exact, out, out_b;     /* (TL_LAST_QUERIES, n_heads * head_dim), host but out_b */
    tl_view lse, lse_b;            /* (TL_LAST_QUERIES, n_heads) */
    tl_view pos, n_rows, n_blocks; /* (TL_LAST_QUERIES, 1), (1, 1), (1, 1) i32, host */
    bool codebooks;                /* the device reads them */
    tl_view book, book_from;       /* (BOOK_NUMBERS, 1) f16, device and host */
    tl_view smooth, ones;          /* (n_kv_heads, head_dim) f32, likewise */
};

struct tl_identify {
    tl_buf *device, *host;      /* owned */
    struct tl_identity *layers; /* owned, n_layers of them */
    uint32_t n_layers, n_heads;
    tl_view mass; /* (n_layers * n_heads, TL_CURVE_POINTS), host */
    struct tl_identify_params params;
    bool finished;
    struct trial trial;
    /* (n_kv_heads * cap, head_dim) f16, and (TL_LAST_QUERIES, n_heads * head_dim) f32, host;
     * absent: nobody is given rows */
    tl_view k_rows, v_rows, queries;
};

/* ---- opening: two buffers, carved once to measure and once for real ---- */

struct carve {
    tl_buf *buf; /* NULL: only measure */
    uint64_t at;
};

static tl_view carve(struct carve *c, uint64_t rows, uint64_t cols, tl_dtype dtype) {
    const uint64_t off = c->at;
    c->at = tl_align_up(off + rows * tl_row_bytes(dtype, cols), ALIGN);
    return c->buf != NULL ? tl_view_of(c->buf, off, (uint32_t)rows, (uint32_t)cols, dtype)
                          : (tl_view){0};
}

static void carve_all(struct carve *device, struct carve *host, const struct tl_shape *s,
                      uint32_t cap, bool codecs, bool rows, tl_identify *id) {
    struct trial *const t = &id->trial;
    const uint64_t q_dim = (uint64_t)s->n_heads * s->head_dim, n = TL_LAST_QUERIES;
    id->mass = carve(host, (uint64_t)s->n_layers * s->n_heads, TL_CURVE_POINTS, TL_F32);
    if (rows) {
        id->k_rows = carve(host, (uint64_t)cap * s->n_kv_heads, s->head_dim, TL_F16);
        id->v_rows = carve(host, (uint64_t)cap * s->n_kv_heads, s->head_dim, TL_F16);
        id->queries = carve(host, n, q_dim, TL_F32);
    }
    if (!codecs) {
        return;
    }
    const uint64_t blocks = tl_max_u64(1, cap / TL_BLOCK) * s->n_kv_heads;
    t->k_codes = carve(device, blocks, tl_codec_key_bytes(TL_CODEC_Q8, s->head_dim), TL_U8);
    t->v_codes = carve(device, blocks, tl_codec_value_bytes(TL_CODEC_Q8, s->head_dim), TL_U8);
    t->newest.n_kv_heads = s->n_kv_heads;
    t->newest.k = carve(device, (uint64_t)NEWEST_MAX * s->n_kv_heads, s->head_dim, TL_F16);
    t->newest.v = carve(device, (uint64_t)NEWEST_MAX * s->n_kv_heads, s->head_dim, TL_F16);
    t->out_b = carve(device, n, q_dim, TL_F32);
    t->lse = carve(device, n, s->n_heads, TL_F32);
    t->lse_b = carve(device, n, s->n_heads, TL_F32);
    t->exact = carve(host, n, q_dim, TL_F32);
    t->out = carve(host, n, q_dim, TL_F32);
    t->pos = carve(host, n, 1, TL_I32);
    t->n_rows = carve(host, 1, 1, TL_I32);
    t->n_blocks = carve(host, 1, 1, TL_I32);
    t->book = carve(device, BOOK_NUMBERS, 1, TL_F16);
    t->smooth = carve(device, s->n_kv_heads, s->head_dim, TL_F32);
    t->book_from = carve(host, BOOK_NUMBERS, 1, TL_F16);
    t->ones = carve(host, s->n_kv_heads, s->head_dim, TL_F32);
}

void tl_identify_bytes(const struct tl_shape *shape, uint32_t cap, bool codecs, bool rows,
                       uint64_t *device, uint64_t *host) {
    tl_identify unused;
    struct carve on_device = {0}, on_host = {0};
    carve_all(&on_device, &on_host, shape, cap, codecs, rows, &unused);
    *device = on_device.at;
    *host = on_host.at;
}

static tl_err open_parts(tl_identify *id, const struct tl_shape *shape, tl_dev *dev, uint32_t cap) {
    struct carve device = {0}, host = {0};
    const bool rows = id->params.on_rows != NULL;
    id->layers = calloc(shape->n_layers, sizeof *id->layers);
    if (id->layers == NULL) {
        return TL_ERR_MEMORY;
    }
    carve_all(&device, &host, shape, cap, id->params.codecs, rows, id);
    TL_TRY(tl_buf_alloc(&id->host, dev, host.at, TL_MEM_HOST));
    if (device.at > 0) {
        TL_TRY(tl_buf_alloc(&id->device, dev, device.at, TL_MEM_DEVICE));
    }
    device = (struct carve){.buf = id->device};
    host = (struct carve){.buf = id->host};
    carve_all(&device, &host, shape, cap, id->params.codecs, rows, id);
    return TL_OK;
}

tl_err tl_identify_open(tl_identify **out, const struct tl_shape *shape, tl_dev *dev, uint32_t cap,
                        const struct tl_identify_params *params) {
    tl_identify *id = calloc(1, sizeof *id);
    if (id == NULL) {
        return TL_ERR_MEMORY;
    }
    id->n_layers = shape->n_layers;
    id->n_heads = shape->n_heads;
    id->params = *params;
    id->trial.fit = params->fit;
    struct tl_dev_caps caps;
    tl_dev_get_caps(dev, &caps);
    id->trial.codebooks = caps.codebooks;
    const tl_err err = open_parts(id, shape, dev, cap);
    if (err) {
        tl_identify_close(&id);
        return err;
    }
    *out = id;
    return TL_OK;
}

void tl_identify_close(tl_identify **id) {
    if (*id != NULL) {
        tl_buf_free(&(*id)->device);
        tl_buf_free(&(*id)->host);
        free((*id)->layers);
        free(*id);
        *id = NULL;
    }
}

/* ---- measuring ---- */

/* The last queries of a chunk and the exact rows they attend. */
struct probe {
    const struct tl_pass *pass;
    uint32_t il, n, n_rows; /* queries; rows, the last query's included */
    tl_view q, pos, n_rows_view;
    struct tl_kv_rows rows;
    uint32_t window; /* the model's own */
};

static tl_err measure_mass(tl_identify *id, const struct probe *p) {
    const struct tl_shape *const s = &p->pass->model->shape;
    struct tl_mass op = {.mass = tl_view_rows(id->mass, p->il * id->n_heads, id->n_heads),
                         .q = p->q,
                         .q_pos = p->pos,
                         .n_rows = p->n_rows_view,
                         .kv = p->rows,
                         .n_heads = s->n_heads,
                         .scale = s->attn_scale,
                         .softcap = s->attn_softcap,
                         .window = p->window,
                         .n_parts = TL_CURVE_POINTS};
    for (uint32_t i = 0; i < TL_CURVE_POINTS; i++) {
        op.parts[i] = tl_curve_parts[i];
    }
    return tl_pass_emit(p->pass,
                        (struct tl_op){.verb = TL_VERB_MASS, .layer = p->il, .u.mass = op});
}

static void set_int(tl_view v, uint32_t i, uint32_t value) {
    ((int32_t *)tl_view_host(v))[i] = (int32_t)value;
}

static struct tl_attend attend_op(const struct probe *p, const struct tl_kv_rows *kv) {
    const struct tl_shape *const s = &p->pass->model->shape;
    return (struct tl_attend){.q = p->q,
                              .kv = *kv,
                              .n_heads = s->n_heads,
                              .scale = s->attn_scale,
                              .softcap = s->attn_softcap};
}

/* The rows from `old` on, which stay exact, to where they are alone. */
static tl_err copy_newest(const struct trial *t, const struct probe *p, uint32_t old) {
    const uint32_t heads = t->newest.n_kv_heads, cap = p->rows.k.rows / heads, n = p->n_rows - old;
    for (uint32_t h = 0; h < heads; h++) {
        TL_TRY(tl_copy(p->pass->stream, tl_view_rows(t->newest.k, h * NEWEST_MAX, n),
                       tl_view_rows(p->rows.k, h * cap + old, n)));
        TL_TRY(tl_copy(p->pass->stream, tl_view_rows(t->newest.v, h * NEWEST_MAX, n),
                       tl_view_rows(p->rows.v, h * cap + old, n)));
    }
    return TL_OK;
}

/* The codebook of the side that has one, as a sketch wants it; absent for other codecs. */
static tl_view book_of(const struct trial *t, tl_codec codec) {
    return tl_vq_is(codec) ? tl_view_of(t->book.buf, t->book.off_bytes, tl_vq_entries(codec),
                                        tl_vq_dim(codec), TL_F16)
                           : (tl_view){0};
}

/* Brings a codec's codebook, where it has one, to the device. The stream has nothing left to do. */
static tl_err load_book(const struct trial *t, tl_stream *stream, tl_codec codec) {
    if (!tl_vq_is(codec)) {
        return TL_OK;
    }
    float *const ones = tl_view_host(t->ones);
    for (uint64_t i = 0; i < (uint64_t)t->ones.rows * t->ones.cols; i++) {
        ones[i] = 1.0f;
    }
    tl_vq_builtin(codec, tl_view_host(t->book_from));
    TL_TRY(tl_copy(stream, t->smooth, t->ones));
    const uint32_t n = tl_vq_entries(codec) * tl_vq_dim(codec);
    return tl_copy(stream, tl_view_rows(t->book, 0, n), tl_view_rows(t->book_from, 0, n));
}

static struct tl_sketch sketch_of(const struct trial *t, const struct tl_shape *s, uint32_t blocks,
                                  tl_codec k_codec, tl_codec v_codec) {
    const uint32_t rows = blocks * s->n_kv_heads, d = s->head_dim;
    return (struct tl_sketch){.k = tl_view_of(t->k_codes.buf, t->k_codes.off_bytes, rows,
                                              (uint32_t)tl_codec_key_bytes(k_codec, d), TL_U8),
                              .v = tl_view_of(t->v_codes.buf, t->v_codes.off_bytes, rows,
                                              (uint32_t)tl_codec_value_bytes(v_codec, d), TL_U8),
                              .k_codec = k_codec,
                              .v_codec = v_codec,
                              .n_kv_heads = s->n_kv_heads,
                              .head_dim = d,
                              .k_book = book_of(t, k_codec),
                              .v_book = book_of(t, v_codec),
                              .smooth = tl_vq_is(k_codec) ? t->smooth : (tl_view){0}};
}

/* t->out := what the queries get where the first rows are compressed. */
static tl_err attend_compressed(const struct trial *t, const struct probe *p, uint32_t blocks,
                                const struct tl_sketch *sketch) {
    const struct tl_shape *const s = &p->pass->model->shape;
    tl_stream *const stream = p->pass->stream;
    TL_TRY(tl_compress(
        stream,
        &(struct tl_compress){.dst = *sketch, .src = p->rows, .n_blocks = blocks, .fit = t->fit}));
    struct tl_attend op = attend_op(p, &t->newest);
    op.out = tl_view_rows(t->out, 0, p->n);
    op.lse = tl_view_rows(t->lse, 0, p->n);
    op.q_pos = tl_view_rows(t->pos, 0, p->n);
    op.n_rows = t->n_rows;
    TL_TRY(tl_attend(stream, &op));
    const struct tl_attend_sketch rest = {.out = tl_view_rows(t->out_b, 0, p->n),
                                          .lse = tl_view_rows(t->lse_b, 0, p->n),
                                          .q = p->q,
                                          .n_blocks = t->n_blocks,
                                          .sketch = *sketch,
                                          .n_heads = s->n_heads,
                                          .scale = s->attn_scale,
                                          .softcap = s->attn_softcap};
    TL_TRY(tl_attend_sketch(stream, &rest));
    TL_TRY(tl_merge(stream, &(struct tl_merge){op.out, op.lse, rest.out, rest.lse}));
    return tl_stream_sync(stream);
}

static double relative_error(tl_view out, tl_view exact, uint64_t n) {
    const float *const a = tl_view_host(out), *const b = tl_view_host(exact);
    double off = 0, all = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double difference = (double)a[i] - (double)b[i];
        off += difference * difference;
        all += (double)b[i] * (double)b[i];
    }
    return all > 0 ? sqrt(off / all) : 0;
}

static tl_err measure_codecs(tl_identify *id, const struct probe *p, struct tl_identity *found) {
    const struct trial *const t = &id->trial;
    const struct tl_shape *const s = &p->pass->model->shape;
    const uint32_t blocks = p->n_rows < NEWEST_MIN ? 0 : (p->n_rows - NEWEST_MIN) / TL_BLOCK;
    if (blocks == 0 || p->window != 0) {
        return TL_OK; /* such layers keep their rows exact */
    }
    const uint32_t old = blocks * TL_BLOCK;
    for (uint32_t i = 0; i < p->n; i++) {
        set_int(t->pos, i, p->n_rows - p->n + i - old);
    }
    set_int(t->n_rows, 0, p->n_rows - old);
    set_int(t->n_blocks, 0, blocks);
    TL_TRY(copy_newest(t, p, old));
    struct tl_attend exact = attend_op(p, &p->rows);
    exact.out = tl_view_rows(t->exact, 0, p->n);
    exact.q_pos = p->pos;
    exact.n_rows = p->n_rows_view;
    TL_TRY(tl_attend(p->pass->stream, &exact));
    const uint64_t n_floats = (uint64_t)p->n * t->exact.cols;
    for (uint32_t i = 0; i < TL_CODECS_TRIED; i++) {
        const tl_codec codec = tl_codecs_tried[i];
        if (tl_vq_is(codec) && !t->codebooks) {
            continue;
        }
        TL_TRY(load_book(t, p->pass->stream, codec));
        const struct tl_sketch of_keys = sketch_of(t, s, blocks, codec, TL_CODEC_Q8);
        TL_TRY(attend_compressed(t, p, blocks, &of_keys));
        found->k_error[i] = relative_error(t->out, t->exact, n_floats);
        const struct tl_sketch of_values = sketch_of(t, s, blocks, TL_CODEC_Q8, codec);
        TL_TRY(attend_compressed(t, p, blocks, &of_values));
        found->v_error[i] = relative_error(t->out, t->exact, n_floats);
    }
    return TL_OK;
}

static tl_err give_rows(const tl_identify *id, const struct probe *p) {
    const uint32_t heads = p->rows.n_kv_heads, cap = p->rows.k.rows / heads, n = p->n_rows;
    tl_stream *const stream = p->pass->stream;
    for (uint32_t h = 0; h < heads; h++) {
        TL_TRY(tl_copy(stream, tl_view_rows(id->k_rows, h * n, n),
                       tl_view_rows(p->rows.k, h * cap, n)));
        TL_TRY(tl_copy(stream, tl_view_rows(id->v_rows, h * n, n),
                       tl_view_rows(p->rows.v, h * cap, n)));
    }
    const struct tl_shape *const s = &p->pass->model->shape;
    TL_TRY(tl_copy(stream, tl_view_rows(id->queries, 0, p->n), p->q));
    TL_TRY(tl_stream_sync(stream));
    const struct tl_exact_rows rows = {.k = tl_view_host(id->k_rows),
                                       .v = tl_view_host(id->v_rows),
                                       .n_rows = n,
                                       .n_kv_heads = heads,
                                       .head_dim = p->rows.k.cols,
                                       .q = tl_view_host(id->queries),
                                       .n_queries = p->n,
                                       .n_heads = s->n_heads,
                                       .scale = s->attn_scale,
                                       .softcap = s->attn_softcap};
    return id->params.on_rows(id->params.user, p->il, &rows);
}

tl_err tl_identify_layer(tl_identify *id, const struct tl_pass *pass, uint32_t il, uint32_t first,
                         uint32_t n) {
    const struct tl_kv_layer *const layer = &pass->kv->layers[il];
    const struct tl_scratch *const s = pass->scratch;
    const bool home = pass->stage == NULL;
    struct tl_identity *const found = &id->layers[il];
    *found = (struct tl_identity){0};
    for (uint32_t i = 0; i < TL_CODECS_TRIED; i++) {
        found->k_error[i] = found->v_error[i] = -1;
    }
    id->finished = false;
    if (!home && pass->stage->origin > 0) {
        return TL_OK;
    }
    const uint32_t n_queries = (uint32_t)tl_min_u64(n, TL_LAST_QUERIES);
    const struct probe p = {
        .pass = pass,
        .il = il,
        .n = n_queries,
        .n_rows = first + n,
        .q = tl_view_rows(s->q, n - n_queries, n_queries),
        .pos = tl_view_rows(home ? s->pos : s->stage_pos, n - n_queries, n_queries),
        .n_rows_view = home ? s->n_rows : s->stage_rows,
        .rows = home ? layer->home : pass->stage->rows,
        .window = layer->model_window,
    };
    found->n_queries = n_queries;
    found->n_rows = p.n_rows;
    TL_TRY(measure_mass(id, &p));
    if (id->params.on_rows != NULL && p.window == 0) {
        TL_TRY(give_rows(id, &p));
    }
    return id->params.codecs ? measure_codecs(id, &p, found) : TL_OK;
}

void tl_identify_finish(tl_identify *id) {
    for (uint32_t il = 0; il < id->n_layers; il++) {
        struct tl_identity *const found = &id->layers[il];
        double inside = 0;
        found->mass = tl_view_host(tl_view_rows(id->mass, il * id->n_heads, id->n_heads));
        for (uint32_t h = 0; h < id->n_heads; h++) {
            inside += (double)found->mass[h * TL_CURVE_POINTS + TL_CURVE_SCORE];
        }
        found->score = 1 - inside / id->n_heads;
    }
    id->finished = true;
}

const struct tl_identity *tl_identify_get(const tl_identify *id, uint32_t il) {
    return id->finished && id->layers[il].n_rows > 0 ? &id->layers[il] : NULL;
}
