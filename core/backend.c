/* The seam's checks, made once so that no backend repeats them: every view lies inside a buffer of
 * the op's own device and is aligned, every shape and dtype is what backend.h says, and no operand
 * overlaps another where it may not. A violation is a bug of core, hence TL_ASSERT. After the
 * checks the table is called and nothing else happens here; no state is kept. */
#include "backend.h"

#include "vq.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef enum usage_kind { USAGE_DEVICE, USAGE_HOST, USAGE_WRAPPED, USAGE_COUNT } usage_kind;

/* Sessions of several threads may share a device. */
struct tl_dev_account {
    atomic_uint_fast64_t n_captures; /* begun so far; numbers them from 1 */
    atomic_uint_fast64_t now[USAGE_COUNT], peak[USAGE_COUNT]; /* bytes */
};

static usage_kind kind_of(const tl_buf *buf) {
    return buf->is_wrapped ? USAGE_WRAPPED : buf->mem == TL_MEM_DEVICE ? USAGE_DEVICE : USAGE_HOST;
}

static void count_in(tl_buf *buf, bool is_wrapped) {
    buf->is_wrapped = is_wrapped;
    buf->twin = NULL;
    struct tl_dev_account *const a = buf->dev->account;
    const usage_kind kind = kind_of(buf);
    const uint_fast64_t now = atomic_fetch_add(&a->now[kind], buf->bytes) + buf->bytes;
    uint_fast64_t peak = atomic_load(&a->peak[kind]);
    while (peak < now && !atomic_compare_exchange_weak(&a->peak[kind], &peak, now)) {
    }
}

static void count_out(const tl_buf *buf) {
    atomic_fetch_sub(&buf->dev->account->now[kind_of(buf)], buf->bytes);
}

void tl_dev_usage(const tl_dev *dev, struct tl_usage *now, struct tl_usage *peak) {
    struct tl_dev_account *const a = dev->account;
    *now = (struct tl_usage){.device = atomic_load(&a->now[USAGE_DEVICE]),
                             .host = atomic_load(&a->now[USAGE_HOST]),
                             .wrapped = atomic_load(&a->now[USAGE_WRAPPED])};
    *peak = (struct tl_usage){.device = atomic_load(&a->peak[USAGE_DEVICE]),
                              .host = atomic_load(&a->peak[USAGE_HOST]),
                              .wrapped = atomic_load(&a->peak[USAGE_WRAPPED])};
}

static uint64_t view_end(const tl_view *v) { return v->off_bytes + tl_view_bytes(*v); }

static bool overlap(const tl_view *a, const tl_view *b) {
    return a->buf != NULL && a->buf == b->buf && a->off_bytes < view_end(b) &&
           b->off_bytes < view_end(a);
}

static bool same_place(const tl_view *a, const tl_view *b) {
    return a->buf == b->buf && a->off_bytes == b->off_bytes;
}

static bool apart_or_same(const tl_view *a, const tl_view *b) {
    return same_place(a, b) || !overlap(a, b);
}

/* Any dtype, any shape but an empty one. */
static void check_view(const tl_stream *s, const tl_view *v) {
    TL_ASSERT(v->buf != NULL && v->buf->dev == s->dev);
    TL_ASSERT(v->rows > 0 && v->cols > 0);
    TL_ASSERT((unsigned)v->dtype < TL_DTYPE_COUNT);
    const struct tl_dtype_info *const info = tl_dtype_info(v->dtype);
    TL_ASSERT(v->cols % info->block_elems == 0);
    if (info->block_elems == 1) {
        TL_ASSERT(v->off_bytes % info->block_bytes == 0);
    }
    TL_ASSERT(v->off_bytes <= v->buf->bytes && tl_view_bytes(*v) <= v->buf->bytes - v->off_bytes);
}

static void check_shape(const tl_stream *s, const tl_view *v, uint32_t rows, uint32_t cols,
                        tl_dtype dtype) {
    check_view(s, v);
    TL_ASSERT(v->rows == rows && v->cols == cols && v->dtype == dtype);
}

static bool is_weight(tl_dtype dtype) { return dtype < TL_I32; }

static bool is_cache(tl_dtype dtype) {
    return dtype == TL_F32 || dtype == TL_F16 || dtype == TL_BF16 || dtype == TL_Q8_0 ||
           dtype == TL_Q4_0;
}

/* Returns the width of a head. */
static uint32_t check_kv_rows(const tl_stream *s, const struct tl_kv_rows *kv) {
    check_view(s, &kv->k);
    TL_ASSERT(is_cache(kv->k.dtype) && is_cache(kv->v.dtype));
    check_shape(s, &kv->v, kv->k.rows, kv->k.cols, kv->v.dtype);
    TL_ASSERT(kv->n_kv_heads > 0 && kv->k.rows % kv->n_kv_heads == 0);
    TL_ASSERT(kv->k.cols <= TL_HEAD_DIM_MAX);
    TL_ASSERT(!overlap(&kv->k, &kv->v));
    return kv->k.cols;
}

const tl_backend *tl_backend_find(const char *name) {
    for (size_t i = 0; tl_backends[i] != NULL; i++) {
        if (strcmp(tl_backends[i]->name, name) == 0) {
            return tl_backends[i];
        }
    }
    return NULL;
}

tl_err tl_dev_open(tl_dev **out, const tl_backend *backend, const struct tl_dev_params *params) {
    TL_ASSERT(out != NULL && backend != NULL && params != NULL);
    TL_ASSERT((backend->capture_begin == NULL) == (backend->capture_end == NULL) &&
              (backend->capture_begin == NULL) == (backend->graph_run == NULL) &&
              (backend->capture_begin == NULL) == (backend->graph_close == NULL));
    struct tl_dev_account *const account = calloc(1, sizeof *account);
    if (account == NULL) {
        return TL_ERR_MEMORY;
    }
    const tl_err err = backend->dev_open(out, params);
    if (err) {
        free(account);
        return err;
    }
    TL_ASSERT((*out)->backend == backend);
    (*out)->account = account;
    return TL_OK;
}

void tl_dev_close(tl_dev **dev) {
    if (*dev != NULL) {
        struct tl_dev_account *const account = (*dev)->account;
        (*dev)->backend->dev_close(*dev);
        free(account);
        *dev = NULL;
    }
}

void tl_dev_get_caps(tl_dev *dev, struct tl_dev_caps *out) {
    *out = (struct tl_dev_caps){0};
    dev->backend->dev_caps(dev, out);
}

tl_err tl_buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem) {
    TL_ASSERT(out != NULL && dev != NULL && bytes > 0);
    TL_ASSERT(mem == TL_MEM_DEVICE || mem == TL_MEM_HOST);
    TL_TRY(dev->backend->buf_alloc(out, dev, bytes, mem));
    TL_ASSERT((*out)->dev == dev && (*out)->bytes == bytes && (*out)->mem == mem);
    count_in(*out, false);
    return TL_OK;
}

/* Fills dst through a staging buffer that the device can read. Copied as words, since a copy moves
 * bytes whatever they mean; both buffers are whole words long. */
static tl_err upload(tl_buf *dst, tl_buf *stage, tl_stream *s, const uint8_t *host,
                     uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += stage->bytes) {
        const uint64_t n = tl_min_u64(stage->bytes, bytes - at);
        memcpy(stage->host, host + at, (size_t)n);
        const uint32_t words = (uint32_t)tl_div_up(n, 4);
        TL_TRY(tl_copy(s, tl_view_of(dst, at, 1, words, TL_I32),
                       tl_view_of(stage, 0, 1, words, TL_I32)));
        TL_TRY(tl_stream_sync(s));
    }
    return TL_OK;
}

static tl_err copy_of_host(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes) {
    tl_buf *dst = NULL, *stage = NULL;
    tl_stream *s = NULL;
    const uint64_t whole = tl_align_up(bytes, 4);
    tl_err err = tl_buf_alloc(&dst, dev, whole, TL_MEM_DEVICE);
    if (err == TL_OK && dst->host != NULL) {
        memcpy(dst->host, host, (size_t)bytes);
    } else if (err == TL_OK) {
        err = tl_buf_alloc(&stage, dev, tl_min_u64(whole, TL_UPLOAD_BYTES), TL_MEM_HOST);
        if (err == TL_OK) {
            err = tl_stream_open(&s, dev);
        }
        if (err == TL_OK) {
            err = upload(dst, stage, s, host, bytes);
        }
        tl_stream_close(&s);
        tl_buf_free(&stage);
    }
    if (err) {
        tl_buf_free(&dst);
        return err;
    }
    *out = dst;
    return TL_OK;
}

tl_err tl_buf_wrap(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes) {
    TL_ASSERT(out != NULL && dev != NULL && host != NULL && bytes > 0);
    const tl_err err = dev->backend->buf_wrap != NULL
                           ? dev->backend->buf_wrap(out, dev, host, bytes)
                           : TL_ERR_UNSUPPORTED;
    if (err == TL_ERR_UNSUPPORTED) {
        return copy_of_host(out, dev, host, bytes);
    }
    TL_TRY(err);
    TL_ASSERT((*out)->dev == dev && (*out)->bytes == bytes);
    count_in(*out, true);
    return TL_OK;
}

void tl_buf_free(tl_buf **buf) {
    if (*buf != NULL) {
        count_out(*buf);
        (*buf)->dev->backend->buf_free(*buf);
        *buf = NULL;
    }
}

tl_err tl_stream_open(tl_stream **out, tl_dev *dev) {
    TL_ASSERT(out != NULL && dev != NULL);
    TL_TRY(dev->backend->stream_open(out, dev));
    TL_ASSERT((*out)->dev == dev);
    (*out)->capture = 0;
    return TL_OK;
}

void tl_stream_close(tl_stream **s) {
    if (*s != NULL) {
        (*s)->dev->backend->stream_close(*s);
        *s = NULL;
    }
}

tl_err tl_stream_sync(tl_stream *s) {
    TL_ASSERT(s->capture == 0);
    return s->dev->backend->stream_sync(s);
}

tl_err tl_event_open(tl_event **out, tl_dev *dev) {
    TL_ASSERT(out != NULL && dev != NULL);
    TL_TRY(dev->backend->event_open(out, dev));
    TL_ASSERT((*out)->dev == dev);
    (*out)->capture = 0;
    (*out)->recorded = false;
    return TL_OK;
}

void tl_event_close(tl_event **e) {
    if (*e != NULL) {
        (*e)->dev->backend->event_close(*e);
        *e = NULL;
    }
}

tl_err tl_event_record(tl_stream *s, tl_event *e) {
    TL_ASSERT(s->dev == e->dev);
    TL_TRY(s->dev->backend->event_record(s, e));
    e->recorded = true;
    e->capture = s->capture;
    return TL_OK;
}

tl_err tl_event_wait(tl_stream *s, tl_event *e) {
    TL_ASSERT(s->dev == e->dev);
    TL_ASSERT(e->recorded && e->capture == s->capture);
    return s->dev->backend->event_wait(s, e);
}

static void check_streams(tl_stream *const *streams, uint32_t n, uint64_t capture) {
    TL_ASSERT(n > 0 && n <= TL_CAPTURE_STREAMS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        TL_ASSERT(streams[i]->dev == streams[0]->dev && streams[i]->capture == capture);
        TL_ASSERT(i == 0 || streams[i] != streams[0]);
    }
}

tl_err tl_together_begin(tl_stream *s) {
    const tl_backend *const b = s->dev->backend;
    return b->together_begin != NULL ? b->together_begin(s) : TL_OK;
}

tl_err tl_together_end(tl_stream *s) {
    const tl_backend *const b = s->dev->backend;
    return b->together_end != NULL ? b->together_end(s) : TL_OK;
}

tl_err tl_capture_begin(tl_stream *const *streams, uint32_t n) {
    check_streams(streams, n, 0);
    tl_dev *const dev = streams[0]->dev;
    if (dev->backend->capture_begin == NULL) {
        return TL_ERR_UNSUPPORTED;
    }
    TL_TRY(dev->backend->capture_begin(streams, n));
    const uint64_t number = atomic_fetch_add(&dev->account->n_captures, 1) + 1;
    for (uint32_t i = 0; i < n; i++) {
        streams[i]->capture = number;
    }
    return TL_OK;
}

tl_err tl_capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n) {
    TL_ASSERT(out != NULL && streams[0]->capture != 0);
    check_streams(streams, n, streams[0]->capture);
    for (uint32_t i = 0; i < n; i++) {
        streams[i]->capture = 0;
    }
    tl_dev *const dev = streams[0]->dev;
    TL_TRY(dev->backend->capture_end(out, streams, n));
    TL_ASSERT((*out)->dev == dev);
    return TL_OK;
}

tl_err tl_graph_run(tl_graph *g, tl_stream *s) {
    TL_ASSERT(g->dev == s->dev && s->capture == 0);
    return s->dev->backend->graph_run(g, s);
}

void tl_graph_close(tl_graph **g) {
    if (*g != NULL) {
        (*g)->dev->backend->graph_close(*g);
        *g = NULL;
    }
}

tl_view tl_view_of(tl_buf *buf, uint64_t off_bytes, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    TL_ASSERT(buf != NULL && (unsigned)dtype < TL_DTYPE_COUNT);
    TL_ASSERT(cols % tl_dtype_info(dtype)->block_elems == 0);
    const tl_view v = {buf, off_bytes, rows, cols, dtype};
    TL_ASSERT(off_bytes <= buf->bytes && tl_view_bytes(v) <= buf->bytes - off_bytes);
    return v;
}

tl_view tl_view_rows(tl_view v, uint32_t first, uint32_t rows) {
    TL_ASSERT(first <= v.rows && rows <= v.rows - first);
    v.off_bytes += first * tl_row_bytes(v.dtype, v.cols);
    v.rows = rows;
    return v;
}

tl_view tl_view_reshape(tl_view v, uint32_t rows, uint32_t cols) {
    TL_ASSERT((uint64_t)rows * cols == (uint64_t)v.rows * v.cols);
    TL_ASSERT(cols % tl_dtype_info(v.dtype)->block_elems == 0);
    v.rows = rows;
    v.cols = cols;
    return v;
}

uint64_t tl_view_bytes(tl_view v) { return v.rows * tl_row_bytes(v.dtype, v.cols); }

bool tl_view_overlap(const tl_view *a, const tl_view *b) { return overlap(a, b); }

void *tl_view_host(tl_view v) {
    TL_ASSERT(v.buf != NULL && v.buf->host != NULL);
    return (uint8_t *)v.buf->host + v.off_bytes;
}

tl_err tl_copy(tl_stream *s, tl_view dst, tl_view src) {
    check_view(s, &dst);
    check_view(s, &src);
    TL_ASSERT(dst.dtype == src.dtype && tl_view_bytes(dst) == tl_view_bytes(src));
    TL_ASSERT(!overlap(&dst, &src));
    return s->dev->backend->copy(s, &dst, &src);
}

tl_err tl_gather(tl_stream *s, const struct tl_gather *op) {
    check_view(s, &op->src);
    TL_ASSERT(is_weight(op->src.dtype));
    check_shape(s, &op->y, op->y.rows, op->src.cols, TL_F32);
    check_shape(s, &op->idx, op->y.rows, 1, TL_I32);
    TL_ASSERT(!overlap(&op->y, &op->src) && !overlap(&op->y, &op->idx));
    return s->dev->backend->gather(s, op);
}

tl_err tl_matmul(tl_stream *s, const struct tl_matmul *op) {
    check_view(s, &op->w);
    TL_ASSERT(is_weight(op->w.dtype));
    check_shape(s, &op->x, op->x.rows, op->w.cols, TL_F32);
    check_shape(s, &op->y, op->x.rows, op->w.rows, TL_F32);
    TL_ASSERT(!overlap(&op->y, &op->x) && !overlap(&op->y, &op->w));
    if (op->bias.buf != NULL) {
        check_shape(s, &op->bias, 1, op->w.rows, TL_F32);
        TL_ASSERT(!overlap(&op->y, &op->bias));
    }
    TL_ASSERT(op->softcap >= 0.0f && isfinite(op->softcap));
    return s->dev->backend->matmul(s, op);
}

tl_err tl_rmsnorm(tl_stream *s, const struct tl_rmsnorm *op) {
    check_shape(s, &op->x, op->x.rows, op->x.cols, TL_F32);
    check_shape(s, &op->y, op->x.rows, op->x.cols, TL_F32);
    check_shape(s, &op->w, 1, op->x.cols, TL_F32);
    TL_ASSERT(op->accumulate ? !overlap(&op->y, &op->x) : apart_or_same(&op->y, &op->x));
    TL_ASSERT(!overlap(&op->y, &op->w));
    return s->dev->backend->rmsnorm(s, op);
}

tl_err tl_rope(tl_stream *s, const struct tl_rope *op) {
    check_shape(s, &op->x, op->x.rows, op->x.cols, TL_F32);
    check_shape(s, &op->pos, op->x.rows, 1, TL_I32);
    check_shape(s, &op->inv_freq, 1, op->inv_freq.cols, TL_F32);
    TL_ASSERT(op->head_dim > 0 && op->x.cols % op->head_dim == 0);
    TL_ASSERT(op->head_dim <= TL_HEAD_DIM_MAX && op->inv_freq.cols <= op->head_dim / 2);
    TL_ASSERT(op->pairing == TL_PAIR_ADJACENT || op->pairing == TL_PAIR_HALF);
    TL_ASSERT(!overlap(&op->x, &op->pos) && !overlap(&op->x, &op->inv_freq));
    return s->dev->backend->rope(s, op);
}

tl_err tl_glu(tl_stream *s, const struct tl_glu *op) {
    check_shape(s, &op->y, op->y.rows, op->y.cols, TL_F32);
    check_shape(s, &op->gate, op->y.rows, op->y.cols, TL_F32);
    check_shape(s, &op->up, op->y.rows, op->y.cols, TL_F32);
    TL_ASSERT(apart_or_same(&op->y, &op->gate) && apart_or_same(&op->y, &op->up));
    TL_ASSERT(op->act == TL_ACT_SILU || op->act == TL_ACT_GELU_TANH);
    return s->dev->backend->glu(s, op);
}

tl_err tl_kv_encode(tl_stream *s, const struct tl_kv_encode *op) {
    const uint32_t head_dim = check_kv_rows(s, &op->dst);
    const uint64_t cols = (uint64_t)op->dst.n_kv_heads * head_dim;
    TL_ASSERT(cols <= UINT32_MAX);
    check_shape(s, &op->k, op->k.rows, (uint32_t)cols, TL_F32);
    check_shape(s, &op->v, op->k.rows, (uint32_t)cols, TL_F32);
    check_shape(s, &op->slot, op->k.rows, 1, TL_I32);
    const tl_view *const srcs[] = {&op->k, &op->v, &op->slot};
    for (size_t i = 0; i < sizeof srcs / sizeof srcs[0]; i++) {
        TL_ASSERT(!overlap(&op->dst.k, srcs[i]) && !overlap(&op->dst.v, srcs[i]));
    }
    return s->dev->backend->kv_encode(s, op);
}

tl_err tl_attend(tl_stream *s, const struct tl_attend *op) {
    const uint32_t head_dim = check_kv_rows(s, &op->kv);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % op->kv.n_kv_heads == 0);
    const uint64_t cols = (uint64_t)op->n_heads * head_dim;
    TL_ASSERT(cols <= UINT32_MAX);
    check_shape(s, &op->q, op->q.rows, (uint32_t)cols, TL_F32);
    check_shape(s, &op->out, op->q.rows, (uint32_t)cols, TL_F32);
    check_shape(s, &op->q_pos, op->q.rows, 1, TL_I32);
    check_shape(s, &op->n_rows, 1, 1, TL_I32);
    if (op->lse.buf != NULL) {
        check_shape(s, &op->lse, op->q.rows, op->n_heads, TL_F32);
        TL_ASSERT(!overlap(&op->lse, &op->out));
    }
    const tl_view *const srcs[] = {&op->q, &op->q_pos, &op->n_rows, &op->kv.k, &op->kv.v};
    for (size_t i = 0; i < sizeof srcs / sizeof srcs[0]; i++) {
        TL_ASSERT(!overlap(&op->out, srcs[i]) && !overlap(&op->lse, srcs[i]));
    }
    TL_ASSERT(op->softcap >= 0.0f && isfinite(op->softcap) && isfinite(op->scale));
    return s->dev->backend->attend(s, op);
}

/* A codebook where the codec has one. */
static void check_book(const tl_stream *s, const tl_view *book, tl_codec codec) {
    TL_ASSERT(tl_vq_is(codec) == (book->buf != NULL));
    if (book->buf != NULL) {
        check_shape(s, book, tl_vq_entries(codec), tl_vq_dim(codec), TL_F16);
    }
}

/* Returns the blocks that each head has room for. */
static uint32_t check_sketch(const tl_stream *s, const struct tl_sketch *k) {
    TL_ASSERT(k->n_kv_heads > 0 && k->k.rows % k->n_kv_heads == 0);
    TL_ASSERT(k->head_dim > 0 && k->head_dim % 8 == 0 && k->head_dim <= TL_HEAD_DIM_MAX);
    TL_ASSERT(k->k_codec > TL_CODEC_NONE && k->k_codec < TL_CODEC_COUNT);
    TL_ASSERT(k->v_codec > TL_CODEC_NONE && k->v_codec < TL_CODEC_COUNT);
    check_shape(s, &k->k, k->k.rows, (uint32_t)tl_codec_key_bytes(k->k_codec, k->head_dim), TL_U8);
    check_shape(s, &k->v, k->k.rows, (uint32_t)tl_codec_value_bytes(k->v_codec, k->head_dim),
                TL_U8);
    TL_ASSERT(!overlap(&k->k, &k->v));
    check_book(s, &k->k_book, k->k_codec);
    check_book(s, &k->v_book, k->v_codec);
    TL_ASSERT(tl_vq_is(k->k_codec) == (k->smooth.buf != NULL));
    if (k->smooth.buf != NULL) {
        check_shape(s, &k->smooth, k->n_kv_heads, k->head_dim, TL_F32);
    }
    const uint32_t cap = k->k.rows / k->n_kv_heads;
    TL_ASSERT(cap <= INT32_MAX / TL_BLOCK);
    return cap;
}

/* A view of n queries, or of their outputs. */
static void check_heads(const tl_stream *s, const tl_view *v, uint32_t n, uint32_t n_heads,
                        uint32_t head_dim) {
    const uint64_t cols = (uint64_t)n_heads * head_dim;
    TL_ASSERT(n_heads > 0 && cols <= UINT32_MAX);
    check_shape(s, v, n, (uint32_t)cols, TL_F32);
}

static void check_scaling(float scale, float softcap) {
    TL_ASSERT(softcap >= 0.0f && isfinite(softcap) && isfinite(scale));
}

/* No output lies over an input or over another output. */
static void check_apart(const tl_view *const *outs, size_t n_outs, const tl_view *const *ins,
                        size_t n_ins) {
    for (size_t i = 0; i < n_outs; i++) {
        for (size_t j = 0; j < n_ins; j++) {
            TL_ASSERT(!overlap(outs[i], ins[j]));
        }
        for (size_t j = 0; j < i; j++) {
            TL_ASSERT(!overlap(outs[i], outs[j]));
        }
    }
}

#define CHECK_APART(outs, ins)                                                                     \
    check_apart(outs, sizeof(outs) / sizeof *(outs), ins, sizeof(ins) / sizeof *(ins))

tl_err tl_compress(tl_stream *s, const struct tl_compress *op) {
    const uint32_t dst_cap = check_sketch(s, &op->dst);
    TL_ASSERT(check_kv_rows(s, &op->src) == op->dst.head_dim);
    TL_ASSERT(op->src.k.dtype == TL_F16 && op->src.v.dtype == TL_F16);
    TL_ASSERT(op->src.n_kv_heads == op->dst.n_kv_heads);
    TL_ASSERT(op->fit == TL_FIT_RANGE || op->fit == TL_FIT_SQUARES);
    const uint64_t src_cap = op->src.k.rows / op->src.n_kv_heads;
    TL_ASSERT(op->n_blocks > 0 && (uint64_t)op->dst_block + op->n_blocks <= dst_cap);
    TL_ASSERT(op->src_row + (uint64_t)op->n_blocks * TL_BLOCK <= src_cap);
    const tl_view *const outs[] = {&op->dst.k, &op->dst.v};
    const tl_view *const ins[] = {&op->src.k, &op->src.v, &op->dst.k_book, &op->dst.v_book,
                                  &op->dst.smooth};
    CHECK_APART(outs, ins);
    return s->dev->backend->compress(s, op);
}

tl_err tl_key_score(tl_stream *s, const struct tl_key_score *op) {
    const uint32_t cap = check_sketch(s, &op->sketch);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % op->sketch.n_kv_heads == 0);
    check_heads(s, &op->q, 1, op->n_heads, op->sketch.head_dim);
    check_shape(s, &op->score, op->n_heads, cap * TL_BLOCK, TL_F32);
    check_shape(s, &op->n_blocks, 1, 1, TL_I32);
    check_scaling(op->scale, op->softcap);
    const tl_view *const outs[] = {&op->score};
    const tl_view *const ins[] = {&op->q, &op->n_blocks, &op->sketch.k, &op->sketch.k_book,
                                  &op->sketch.smooth};
    CHECK_APART(outs, ins);
    return s->dev->backend->key_score(s, op);
}

tl_err tl_topk(tl_stream *s, const struct tl_topk *op) {
    check_shape(s, &op->idx, op->idx.rows, op->idx.cols, TL_I32);
    check_shape(s, &op->score, op->score.rows, op->score.cols, TL_F32);
    check_shape(s, &op->n_rows, 1, 1, TL_I32);
    TL_ASSERT(op->score.rows % op->idx.rows == 0 && op->score.cols <= INT32_MAX);
    if (op->base.buf != NULL) {
        check_shape(s, &op->base, 1, op->score.rows, TL_F32);
    }
    const tl_view *const outs[] = {&op->idx};
    const tl_view *const ins[] = {&op->score, &op->n_rows, &op->base};
    CHECK_APART(outs, ins);
    return s->dev->backend->topk(s, op);
}

tl_err tl_attend_sketch(tl_stream *s, const struct tl_attend_sketch *op) {
    const uint32_t cap = check_sketch(s, &op->sketch), n = op->q.rows;
    TL_ASSERT(op->n_heads > 0 && op->n_heads % op->sketch.n_kv_heads == 0);
    check_heads(s, &op->q, n, op->n_heads, op->sketch.head_dim);
    check_heads(s, &op->out, n, op->n_heads, op->sketch.head_dim);
    check_shape(s, &op->lse, n, op->n_heads, TL_F32);
    check_shape(s, &op->n_blocks, 1, 1, TL_I32);
    if (op->score.buf != NULL) {
        TL_ASSERT(n == 1);
        check_shape(s, &op->score, op->n_heads, cap * TL_BLOCK, TL_F32);
    }
    if (op->skip.buf != NULL) {
        check_shape(s, &op->skip, op->sketch.n_kv_heads, op->skip.cols, TL_I32);
    }
    check_scaling(op->scale, op->softcap);
    const tl_view *const outs[] = {&op->out, &op->lse};
    const tl_view *const ins[] = {
        &op->q,        &op->n_blocks,      &op->score,         &op->skip,         &op->sketch.k,
        &op->sketch.v, &op->sketch.k_book, &op->sketch.v_book, &op->sketch.smooth};
    CHECK_APART(outs, ins);
    return s->dev->backend->attend_sketch(s, op);
}

tl_err tl_attend_slots(tl_stream *s, const struct tl_attend_slots *op) {
    const uint32_t head_dim = check_kv_rows(s, &op->kv);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % op->kv.n_kv_heads == 0);
    check_heads(s, &op->q, 1, op->n_heads, head_dim);
    check_heads(s, &op->out, 1, op->n_heads, head_dim);
    check_shape(s, &op->lse, 1, op->n_heads, TL_F32);
    check_shape(s, &op->slot, op->kv.n_kv_heads, op->slot.cols, TL_I32);
    TL_ASSERT(op->row0 < op->kv.k.rows / op->kv.n_kv_heads);
    check_scaling(op->scale, op->softcap);
    const tl_view *const outs[] = {&op->out, &op->lse};
    const tl_view *const ins[] = {&op->q, &op->slot, &op->kv.k, &op->kv.v};
    CHECK_APART(outs, ins);
    return s->dev->backend->attend_slots(s, op);
}

tl_err tl_fetch(tl_stream *s, const struct tl_fetch *op) {
    const uint32_t n = op->hot.n_kv_heads, k = op->idx.cols;
    TL_ASSERT(check_kv_rows(s, &op->hot) == check_kv_rows(s, &op->home));
    TL_ASSERT(op->hot.k.dtype == op->home.k.dtype && op->hot.v.dtype == op->home.v.dtype);
    TL_ASSERT(op->home.n_kv_heads == n);
    const uint32_t n_slots = op->hot.k.rows / n;
    TL_ASSERT(n_slots / 2 >= k && n_slots <= INT32_MAX && op->row0 < op->home.k.rows / n);
    check_shape(s, &op->idx, n, k, TL_I32);
    check_shape(s, &op->slot, n, k, TL_I32);
    check_shape(s, &op->owner, n, n_slots, TL_I32);
    check_shape(s, &op->used, n, n_slots, TL_I32);
    check_shape(s, &op->hand, n, 1, TL_I32);
    check_shape(s, &op->counts, 1, 2, TL_I32);
    const tl_view *const outs[] = {&op->hot.k, &op->hot.v, &op->slot,  &op->owner,
                                   &op->used,  &op->hand,  &op->counts};
    const tl_view *const ins[] = {&op->home.k, &op->home.v, &op->idx};
    CHECK_APART(outs, ins);
    return s->dev->backend->fetch(s, op);
}

tl_err tl_merge(tl_stream *s, const struct tl_merge *op) {
    const uint32_t n = op->out.rows;
    check_shape(s, &op->out, n, op->out.cols, TL_F32);
    check_shape(s, &op->out_b, n, op->out.cols, TL_F32);
    check_shape(s, &op->lse, n, op->lse.cols, TL_F32);
    check_shape(s, &op->lse_b, n, op->lse.cols, TL_F32);
    TL_ASSERT(op->out.cols % op->lse.cols == 0);
    const tl_view *const outs[] = {&op->out, &op->lse};
    const tl_view *const ins[] = {&op->out_b, &op->lse_b};
    CHECK_APART(outs, ins);
    return s->dev->backend->merge(s, op);
}

tl_err tl_mass(tl_stream *s, const struct tl_mass *op) {
    const uint32_t head_dim = check_kv_rows(s, &op->kv);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % op->kv.n_kv_heads == 0);
    check_heads(s, &op->q, op->q.rows, op->n_heads, head_dim);
    check_shape(s, &op->q_pos, op->q.rows, 1, TL_I32);
    check_shape(s, &op->n_rows, 1, 1, TL_I32);
    TL_ASSERT(op->n_parts > 0 && op->n_parts <= TL_MASS_PARTS_MAX);
    for (uint32_t i = 0; i < op->n_parts; i++) {
        TL_ASSERT(op->parts[i] > (i > 0 ? op->parts[i - 1] : 0) && op->parts[i] <= TL_MASS_WHOLE);
    }
    check_shape(s, &op->mass, op->n_heads, op->n_parts, TL_F32);
    check_scaling(op->scale, op->softcap);
    const tl_view *const outs[] = {&op->mass};
    const tl_view *const ins[] = {&op->q, &op->q_pos, &op->n_rows, &op->kv.k, &op->kv.v};
    CHECK_APART(outs, ins);
    return s->dev->backend->mass(s, op);
}

/* Returns the blocks that each head has room for. */
static uint32_t check_columns(const tl_stream *s, const struct tl_columns *c) {
    check_view(s, &c->most);
    const uint32_t n = c->n_kv_heads, d = c->most.cols;
    TL_ASSERT(n > 0 && c->most.rows % n == 0 && c->most.dtype == TL_F16 && d <= TL_HEAD_DIM_MAX);
    const uint32_t cap = c->most.rows / n;
    TL_ASSERT(cap <= INT32_MAX / TL_BLOCK);
    check_shape(s, &c->keys, n * d, cap * TL_BLOCK, TL_F16);
    TL_ASSERT(!overlap(&c->keys, &c->most));
    return cap;
}

/* Keys that go into an index: blocks of src into one of `cap` blocks a head. */
static void check_entered(const tl_stream *s, const tl_view *src, uint32_t n_kv_heads, uint32_t d,
                          uint64_t src_row, uint64_t dst_block, uint64_t n_blocks, uint32_t cap) {
    check_shape(s, src, src->rows, d, TL_F16);
    TL_ASSERT(src->rows % n_kv_heads == 0 && n_blocks > 0 && dst_block + n_blocks <= cap);
    TL_ASSERT(src_row + n_blocks * TL_BLOCK <= src->rows / n_kv_heads);
}

tl_err tl_key_transpose(tl_stream *s, const struct tl_key_transpose *op) {
    const uint32_t cap = check_columns(s, &op->dst);
    check_entered(s, &op->src, op->dst.n_kv_heads, op->dst.most.cols, op->src_row, op->dst_block,
                  op->n_blocks, cap);
    const tl_view *const outs[] = {&op->dst.keys, &op->dst.most};
    const tl_view *const ins[] = {&op->src};
    CHECK_APART(outs, ins);
    return s->dev->backend->key_transpose(s, op);
}

tl_err tl_channels(tl_stream *s, const struct tl_channels *op) {
    const uint32_t n = op->ids.rows, d = op->most.cols;
    check_shape(s, &op->ids, n, op->ids.cols, TL_I32);
    check_shape(s, &op->most, op->most.rows, d, TL_F16);
    TL_ASSERT(op->most.rows % n == 0 && d <= TL_HEAD_DIM_MAX && op->ids.cols <= d);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % n == 0);
    check_heads(s, &op->q, 1, op->n_heads, d);
    check_shape(s, &op->n_blocks, 1, 1, TL_I32);
    const tl_view *const outs[] = {&op->ids};
    const tl_view *const ins[] = {&op->q, &op->n_blocks, &op->most};
    CHECK_APART(outs, ins);
    return s->dev->backend->channels(s, op);
}

tl_err tl_channel_fetch(tl_stream *s, const struct tl_channel_fetch *op) {
    const uint32_t n = op->want.rows, k = op->want.cols;
    check_shape(s, &op->want, n, k, TL_I32);
    check_shape(s, &op->held, n, k, TL_I32);
    check_shape(s, &op->keys, op->keys.rows, op->keys.cols, TL_F16);
    TL_ASSERT(op->keys.rows % n == 0 && op->keys.rows / n <= TL_HEAD_DIM_MAX);
    TL_ASSERT(k <= op->keys.rows / n);
    check_shape(s, &op->part, n * k, op->keys.cols, TL_F16);
    check_shape(s, &op->counts, 1, 2, TL_I32);
    check_shape(s, &op->n_blocks, 1, 1, TL_I32);
    const tl_view *const outs[] = {&op->part, &op->held, &op->counts};
    const tl_view *const ins[] = {&op->want, &op->n_blocks, &op->keys};
    CHECK_APART(outs, ins);
    return s->dev->backend->channel_fetch(s, op);
}

tl_err tl_channel_score(tl_stream *s, const struct tl_channel_score *op) {
    const uint32_t n = op->held.rows, k = op->held.cols;
    check_shape(s, &op->held, n, k, TL_I32);
    check_shape(s, &op->part, n * k, op->part.cols, TL_F16);
    check_shape(s, &op->score, n, op->part.cols, TL_F32);
    check_shape(s, &op->n_blocks, 1, 1, TL_I32);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % n == 0 && op->head_dim <= TL_HEAD_DIM_MAX);
    check_heads(s, &op->q, 1, op->n_heads, op->head_dim);
    const tl_view *const outs[] = {&op->score};
    const tl_view *const ins[] = {&op->q, &op->part, &op->held, &op->n_blocks};
    CHECK_APART(outs, ins);
    return s->dev->backend->channel_score(s, op);
}

/* Returns the blocks that each head has room for. */
static uint32_t check_pages(const tl_stream *s, const struct tl_pages *p) {
    check_shape(s, &p->rows, p->rows.rows, p->rows.cols, TL_F16);
    TL_ASSERT(p->kind == TL_PAGE_BOUNDS || p->kind == TL_PAGE_MOMENTS);
    TL_ASSERT(p->page > 0 && TL_BLOCK % p->page == 0 && p->n_kv_heads > 0);
    TL_ASSERT(p->rows.cols % 2 == 0 && p->rows.cols / 2 <= TL_HEAD_DIM_MAX);
    const uint32_t per_block = TL_BLOCK / p->page;
    TL_ASSERT(p->rows.rows % (p->n_kv_heads * per_block) == 0);
    const uint32_t cap = p->rows.rows / p->n_kv_heads / per_block;
    TL_ASSERT(cap <= INT32_MAX / TL_BLOCK);
    return cap;
}

tl_err tl_page_encode(tl_stream *s, const struct tl_page_encode *op) {
    const uint32_t cap = check_pages(s, &op->dst);
    check_entered(s, &op->src, op->dst.n_kv_heads, op->dst.rows.cols / 2, op->src_row,
                  op->dst_block, op->n_blocks, cap);
    TL_ASSERT(!overlap(&op->dst.rows, &op->src));
    return s->dev->backend->page_encode(s, op);
}

tl_err tl_page_score(tl_stream *s, const struct tl_page_score *op) {
    const uint32_t cap = check_pages(s, &op->pages);
    TL_ASSERT(op->n_heads > 0 && op->n_heads % op->pages.n_kv_heads == 0);
    check_heads(s, &op->q, 1, op->n_heads, op->pages.rows.cols / 2);
    check_shape(s, &op->score, op->n_heads, cap * TL_BLOCK, TL_F32);
    check_shape(s, &op->n_blocks, 1, 1, TL_I32);
    check_scaling(op->scale, op->softcap);
    TL_ASSERT(op->sigmas >= 0.0f && isfinite(op->sigmas));
    const tl_view *const outs[] = {&op->score};
    const tl_view *const ins[] = {&op->q, &op->n_blocks, &op->pages.rows};
    CHECK_APART(outs, ins);
    return s->dev->backend->page_score(s, op);
}

uint64_t tl_matmul_bytes(const struct tl_matmul *op) {
    const uint64_t y_bytes = tl_view_bytes(op->y);
    return tl_view_bytes(op->x) + tl_view_bytes(op->w) + y_bytes + (op->accumulate ? y_bytes : 0) +
           (op->bias.buf != NULL ? tl_view_bytes(op->bias) : 0);
}

uint64_t tl_attend_bytes(const struct tl_attend *op, uint64_t n_rows) {
    /* The newest query is taken to stand at the newest row. */
    const uint64_t seen =
        op->window == 0 ? n_rows : tl_min_u64(n_rows, (uint64_t)op->window + op->q.rows - 1);
    const uint64_t row_bytes =
        tl_row_bytes(op->kv.k.dtype, op->kv.k.cols) + tl_row_bytes(op->kv.v.dtype, op->kv.v.cols);
    return seen * op->kv.n_kv_heads * row_bytes + 2 * tl_view_bytes(op->q);
}

uint64_t tl_key_score_bytes(const struct tl_key_score *op, uint64_t n_blocks) {
    return n_blocks * (op->sketch.n_kv_heads * (uint64_t)op->sketch.k.cols +
                       (uint64_t)op->n_heads * TL_BLOCK * sizeof(float)) +
           tl_view_bytes(op->q);
}

uint64_t tl_attend_sketch_bytes(const struct tl_attend_sketch *op, uint64_t n_blocks) {
    const uint64_t key_bytes = op->score.buf != NULL
                                   ? (uint64_t)op->n_heads * TL_BLOCK * sizeof(float)
                                   : op->sketch.n_kv_heads * (uint64_t)op->sketch.k.cols;
    return n_blocks * (key_bytes + op->sketch.n_kv_heads * (uint64_t)op->sketch.v.cols) +
           2 * tl_view_bytes(op->q);
}

uint64_t tl_attend_slots_bytes(const struct tl_attend_slots *op) {
    const uint64_t row_bytes =
        tl_row_bytes(op->kv.k.dtype, op->kv.k.cols) + tl_row_bytes(op->kv.v.dtype, op->kv.v.cols);
    return (uint64_t)op->slot.rows * op->slot.cols * row_bytes + 2 * tl_view_bytes(op->q);
}

uint64_t tl_channel_fetch_bytes(const struct tl_channel_fetch *op, uint64_t n_blocks) {
    return 2 * (uint64_t)op->part.rows * n_blocks * TL_BLOCK * sizeof(uint16_t);
}

uint64_t tl_channel_score_bytes(const struct tl_channel_score *op, uint64_t n_blocks) {
    return n_blocks * TL_BLOCK *
           (op->part.rows * sizeof(uint16_t) + op->score.rows * sizeof(float));
}

uint64_t tl_page_score_bytes(const struct tl_page_score *op, uint64_t n_blocks) {
    const uint64_t page_bytes = tl_row_bytes(TL_F16, op->pages.rows.cols);
    return n_blocks * (TL_BLOCK / op->pages.page * op->pages.n_kv_heads * page_bytes +
                       (uint64_t)op->n_heads * TL_BLOCK * sizeof(float));
}
