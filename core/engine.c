/* Engine and session: who owns what, and in which order things are opened. The engine owns file,
 * vocabulary, device and model; a session owns its stream, cache, scratch and the tokens so far.
 * The invariant: after every call that returned TL_OK, ids[0 .. n) are exactly the tokens whose rows
 * the cache holds; after one that failed, n is what it was. */
#include "engine.h"

#include "decode.h"

#include <stdlib.h>
#include <string.h>

enum { N_CHUNK_DEFAULT = 512, N_CTX_STEP = 256 };

struct tl_engine {
    tl_log log;
    tl_weights *weights;
    tl_vocab *vocab;
    tl_dev *dev;
    const tl_backend *backend;
    tl_model *model;
    uint32_t n_ctx;
};

struct tl_session {
    tl_engine *engine; /* borrowed */
    tl_stream *stream;
    tl_kv *kv;
    struct tl_scratch scratch;
    uint32_t *ids; /* owned, kv->cap */
    bool has_logits;
    uint32_t logits_row; /* of scratch.logits */
};

static tl_err open_named_device(tl_engine *e, const struct tl_engine_params *p) {
    const struct tl_dev_params dev = {
        .index = p->device, .n_threads = p->n_threads, .isa_max = p->isa_max, .log = p->log};
    const bool automatic = p->backend == NULL || strcmp(p->backend, "auto") == 0;
    if (!automatic) {
        e->backend = tl_backend_find(p->backend);
        if (e->backend == NULL) {
            return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "backend %s is not in this build",
                           p->backend);
        }
        const uint32_t n = e->backend->dev_count();
        if (p->device >= n) {
            return tl_fail(&p->log, TL_ERR_UNSUPPORTED,
                           "backend %s has no device %u: it found %u here", p->backend, p->device,
                           n);
        }
        return tl_dev_open(&e->dev, e->backend, &dev);
    }
    for (size_t i = 0; tl_backends[i] != NULL; i++) {
        if (tl_backends[i]->dev_count() > 0) {
            e->backend = tl_backends[i];
            return tl_dev_open(&e->dev, e->backend, &dev);
        }
    }
    return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "no backend of this build found a device");
}

static tl_err open_parts(tl_engine *e, const struct tl_engine_params *p) {
    TL_TRY(tl_weights_open(&e->weights, p->model_path, &p->log));
    struct tl_shape shape;
    TL_TRY(tl_shape_read(e->weights, p->n_ctx, &shape));
    TL_TRY(tl_model_check(e->weights, &shape));
    TL_TRY(tl_vocab_open(&e->vocab, e->weights, &p->log));
    TL_TRY(open_named_device(e, p));
    const tl_err err = tl_model_open(&e->model, e->weights, &shape, e->dev);
    return err == TL_ERR_MEMORY
               ? tl_fail(&p->log, err, "%s: out of memory for the weights", p->model_path)
               : err;
}

tl_err tl_engine_open(tl_engine **out, const struct tl_engine_params *params) {
    tl_engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return tl_fail(&params->log, TL_ERR_MEMORY, "out of memory");
    }
    e->log = params->log;
    e->n_ctx = params->n_ctx;
    const tl_err err = open_parts(e, params);
    if (err) {
        tl_engine_close(&e);
        return err;
    }
    *out = e;
    return TL_OK;
}

void tl_engine_close(tl_engine **engine) {
    tl_engine *const e = *engine;
    if (e == NULL) {
        return;
    }
    tl_model_close(&e->model);
    tl_dev_close(&e->dev);
    tl_vocab_close(&e->vocab);
    tl_weights_close(&e->weights);
    free(e);
    *engine = NULL;
}

const tl_weights *tl_engine_weights(const tl_engine *e) { return e->weights; }
const tl_vocab *tl_engine_vocab(const tl_engine *e) { return e->vocab; }
const tl_model *tl_engine_model(const tl_engine *e) { return e->model; }
const char *tl_engine_backend(const tl_engine *e) { return e->backend->name; }
void tl_engine_caps(const tl_engine *e, struct tl_dev_caps *out) { tl_dev_get_caps(e->dev, out); }

/* The largest context whose cache fits what is free beside the weights (which may not be read in
 * yet), at most n_ctx. An unknown amount of free memory fits everything. */
static uint32_t ctx_that_fits(const tl_engine *e, uint32_t n_ctx, uint64_t scratch_bytes) {
    struct tl_dev_caps caps;
    tl_dev_get_caps(e->dev, &caps);
    const uint64_t taken = e->model->weight_bytes + scratch_bytes;
    if (caps.bytes_free == 0) {
        return n_ctx;
    }
    const uint64_t left = caps.bytes_free > taken ? caps.bytes_free - taken : 0;
    const uint64_t rows = left / tl_kv_bytes(&e->model->shape, 1);
    return (uint32_t)tl_min_u64(n_ctx, rows / N_CTX_STEP * N_CTX_STEP);
}

/* What was asked for, or as much of the model's own context as fits; 0 and a sentence where the
 * request cannot be met. */
static tl_err plan_ctx(const tl_engine *e, const struct tl_session_params *p, uint32_t n_chunk,
                       uint32_t *out) {
    const struct tl_shape *const shape = &e->model->shape;
    const uint32_t asked = p->n_ctx != 0 ? p->n_ctx : e->n_ctx;
    const uint32_t limit =
        (uint32_t)tl_min_u64(TL_CTX_MAX, UINT32_MAX / shape->n_kv_heads);
    const uint32_t wanted =
        asked != 0 ? asked : (uint32_t)tl_min_u64(shape->n_ctx_train, limit);
    if (wanted > limit) {
        return tl_fail(&e->log, TL_ERR_MEMORY, "context: %u tokens asked for, at most %u possible",
                       wanted, limit);
    }
    const uint32_t fits = ctx_that_fits(e, wanted, tl_scratch_bytes(shape, n_chunk));
    if (fits < wanted && (asked != 0 || fits == 0)) {
        return tl_fail(&e->log, TL_ERR_MEMORY,
                       "context: %u tokens need %.1f GiB of cache, memory is left for %u tokens",
                       wanted, (double)tl_kv_bytes(shape, wanted) / 0x1p30, fits);
    }
    if (fits < wanted) {
        tl_say(&e->log, TL_LEVEL_INFO, "context: %u tokens fit in memory, the model has %u", fits,
               wanted);
    }
    if (asked > shape->n_ctx_train) {
        tl_say(&e->log, TL_LEVEL_WARN, "context: %u tokens, but the model was made for %u", asked,
               shape->n_ctx_train);
    }
    *out = fits;
    return TL_OK;
}

static tl_err open_session_parts(tl_session *s, const struct tl_session_params *p) {
    tl_engine *const e = s->engine;
    uint32_t n_ctx = 0;
    uint32_t n_chunk = p->n_chunk != 0 ? p->n_chunk : N_CHUNK_DEFAULT;
    TL_TRY(plan_ctx(e, p, n_chunk, &n_ctx));
    n_chunk = (uint32_t)tl_min_u64(n_chunk, n_ctx);
    TL_TRY(tl_stream_open(&s->stream, e->dev));
    TL_TRY(tl_kv_open(&s->kv, &e->model->shape, e->dev, n_ctx));
    TL_TRY(tl_scratch_open(&s->scratch, &e->model->shape, e->dev, n_chunk));
    s->ids = calloc(n_ctx, sizeof *s->ids);
    return s->ids != NULL ? TL_OK : TL_ERR_MEMORY;
}

tl_err tl_session_open(tl_session **out, tl_engine *e, const struct tl_session_params *params) {
    tl_session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return tl_fail(&e->log, TL_ERR_MEMORY, "out of memory");
    }
    s->engine = e;
    const tl_err err = open_session_parts(s, params);
    if (err) {
        tl_session_close(&s);
        return err;
    }
    *out = s;
    return TL_OK;
}

void tl_session_close(tl_session **session) {
    tl_session *const s = *session;
    if (s == NULL) {
        return;
    }
    tl_scratch_close(&s->scratch);
    tl_kv_close(&s->kv);
    tl_stream_close(&s->stream);
    free(s->ids);
    free(s);
    *session = NULL;
}

static tl_err check_ids(const tl_session *s, const uint32_t *ids, size_t n) {
    if (n > s->kv->cap - s->kv->n_rows) {
        return tl_fail(&s->engine->log, TL_ERR_MEMORY,
                       "context full: %zu more tokens asked for, %u of %u are used", n,
                       s->kv->n_rows, s->kv->cap);
    }
    const uint32_t n_vocab = s->engine->model->shape.n_vocab;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= n_vocab) {
            return tl_fail(&s->engine->log, TL_ERR_FORMAT,
                           "token %u is not in the vocabulary of %u", ids[i], n_vocab);
        }
    }
    return TL_OK;
}

static struct tl_pass pass_of(tl_session *s) {
    return (struct tl_pass){.model = s->engine->model,
                            .kv = s->kv,
                            .scratch = &s->scratch,
                            .stream = s->stream};
}

static const float *logits_row(const tl_session *s, uint32_t row) {
    return (const float *)tl_view_host(s->scratch.logits) +
           (size_t)row * s->engine->model->shape.n_vocab;
}

/* Logits of all n rows of the pass, handed over block by block; the last row's stay. */
static tl_err hand_over_logits(tl_session *s, const struct tl_feed *feed, uint32_t n) {
    const struct tl_pass pass = pass_of(s);
    for (uint32_t first = 0; first < n; first += TL_LOGIT_ROWS) {
        const uint32_t rows = (uint32_t)tl_min_u64(TL_LOGIT_ROWS, n - first);
        TL_TRY(tl_decode_logits(&pass, first, rows));
        TL_TRY(tl_stream_sync(s->stream));
        for (uint32_t i = 0; i < rows; i++) {
            if (!feed->on_logits(feed->user, s->kv->n_rows + first + i, logits_row(s, i))) {
                return TL_ERR_IO;
            }
        }
        s->logits_row = rows - 1;
    }
    return TL_OK;
}

/* One chunk; logits of its last row when it ends the feed, of all rows when they are asked for. */
static tl_err feed_chunk(tl_session *s, const struct tl_feed *feed, const uint32_t *ids,
                         uint32_t n) {
    const struct tl_pass pass = pass_of(s);
    TL_TRY(tl_decode_layers(&pass, ids, n));
    if (feed->on_logits != NULL) {
        TL_TRY(hand_over_logits(s, feed, n));
    } else if (ids + n == feed->ids + feed->n) {
        TL_TRY(tl_decode_logits(&pass, n - 1, 1));
        s->logits_row = 0;
    }
    TL_TRY(tl_stream_sync(s->stream));
    memcpy(s->ids + s->kv->n_rows, ids, n * sizeof *ids);
    s->kv->n_rows += n;
    return TL_OK;
}

tl_err tl_session_feed(tl_session *s, const struct tl_feed *feed) {
    TL_TRY(check_ids(s, feed->ids, feed->n));
    const uint32_t n_before = s->kv->n_rows;
    s->has_logits = s->has_logits && feed->n == 0;
    for (size_t done = 0; done < feed->n;) {
        const uint32_t n = (uint32_t)tl_min_u64(feed->n - done, s->scratch.n_chunk);
        const tl_err err = feed_chunk(s, feed, feed->ids + done, n);
        if (err) {
            s->kv->n_rows = n_before;
            return err;
        }
        done += n;
        s->has_logits = done == feed->n;
        if (feed->on_progress != NULL && !feed->on_progress(feed->user, done, feed->n)) {
            break;
        }
    }
    return TL_OK;
}

tl_err tl_session_step(tl_session *s, uint32_t id) {
    return tl_session_feed(s, &(struct tl_feed){.ids = &id, .n = 1});
}

const float *tl_session_logits(const tl_session *s) {
    return s->has_logits ? logits_row(s, s->logits_row) : NULL;
}

void tl_session_rewind(tl_session *s, uint32_t n_keep) {
    TL_ASSERT(n_keep <= s->kv->n_rows);
    s->has_logits = s->has_logits && n_keep == s->kv->n_rows;
    s->kv->n_rows = n_keep;
}

uint32_t tl_session_n(const tl_session *s) { return s->kv->n_rows; }
uint32_t tl_session_ctx(const tl_session *s) { return s->kv->cap; }
const uint32_t *tl_session_ids(const tl_session *s) { return s->ids; }

void tl_session_get_memory(const tl_session *s, struct tl_session_memory *out) {
    *out = (struct tl_session_memory){
        .weights_bytes = s->engine->model->weight_bytes,
        .kv_device_bytes = s->kv->device_bytes,
        .kv_host_bytes = s->kv->host_bytes,
        .scratch_bytes = s->scratch.device->bytes + s->scratch.host->bytes,
    };
    out->peak_device_bytes =
        out->weights_bytes + out->kv_device_bytes + s->scratch.device->bytes;
}

/* Each weight once (of the embedding one row, unless it is the output too), and the rows that each
 * layer's window lets it see. */
uint64_t tl_session_step_bytes(const tl_session *s) {
    const tl_model *const m = s->engine->model;
    const bool tied = m->output.buf == m->embd.buf;
    uint64_t bytes = m->weight_bytes;
    bytes -= tied ? 0 : tl_view_bytes(m->embd) - tl_view_bytes(m->embd) / m->embd.rows;
    const uint64_t row = tl_kv_bytes(&m->shape, 1) / m->shape.n_layers;
    for (uint32_t il = 0; il < m->shape.n_layers; il++) {
        const uint32_t window = m->layers[il].window;
        bytes += row * (window != 0 ? tl_min_u64(window, s->kv->n_rows) : s->kv->n_rows);
    }
    return bytes;
}
