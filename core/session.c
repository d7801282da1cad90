/* A session: one timeline of tokens and its cache. The invariant: after every call that returned
 * TL_OK, ids[0 .. n) are exactly the tokens whose rows the cache holds; after one that failed, n is
 * what it was, or less where the cache could not go back (tl_session_rewind says when). */
#include "engine_priv.h"
#include "prompt.h"
#include "replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tl_session {
    tl_engine *engine;            /* borrowed */
    tl_stream *stream, *transfer; /* all but the second lane of a step goes on the first */
    tl_kv *kv;
    struct tl_scratch scratch;
    tl_schedule step; /* one recorded decode step */
    tl_replay *replay;
    struct tl_memory_plan plan;
    struct tl_policy *policies; /* owned, one a layer */
    tl_books *books;            /* owned, or NULL */
    bool was_resumed;           /* it has the codebooks of its file */
    struct tl_policy dense;     /* with finds_dense: what layers found dense change to */
    bool finds_dense;
    double dense_above;
    struct tl_traffic *traffic; /* owned, one a layer */
    tl_prompt *prompt;      /* owned; NULL where a prompt goes through all layers chunk by chunk */
    uint32_t *ids;          /* owned, kv->cap */
    tl_identify *identify;  /* owned; NULL where nobody asked */
    uint32_t identify_rows; /* 0: done, or nobody asked */
    tl_gauges *gauges;      /* owned; NULL where nobody asked */
    uint32_t gauge_every;
    uint64_t n_steps;                 /* that were run, whatever was rewound since */
    struct tl_session_watch *watches; /* borrowed */
    bool has_logits;
    bool has_chosen;     /* scratch.idx is of the last step */
    uint32_t logits_row; /* of scratch.logits */
};

static const struct tl_shape *shape_of(const tl_session *s) { return &s->engine->model->shape; }

/* ---- opening ---- */

static tl_err copy_policies(tl_session *s, const struct tl_session_params *params) {
    const struct tl_policy *const policies = params->policies;
    const uint32_t n = shape_of(s)->n_layers;
    if (params->dense != NULL) {
        TL_TRY(tl_policy_check(params->dense, &s->engine->log));
        s->dense = *params->dense;
        s->finds_dense = true;
    }
    s->policies = calloc(n, sizeof *s->policies);
    s->traffic = calloc(n, sizeof *s->traffic);
    if (s->policies == NULL || s->traffic == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t il = 0; il < n; il++) {
        s->policies[il] = policies != NULL
                              ? policies[il]
                              : (struct tl_policy){.home = TL_HOME_DEVICE, .select = TL_SELECT_ALL};
        TL_TRY(tl_policy_check(&s->policies[il], &s->engine->log));
    }
    return TL_OK;
}

static tl_err open_prompt(tl_session *s, const struct tl_plan_params *plan) {
    if (!tl_plan_is_layered(shape_of(s), plan)) {
        return TL_OK;
    }
    const struct tl_prompt_params params = {.model = s->engine->model,
                                            .kv = s->kv,
                                            .scratch = &s->scratch,
                                            .stream = s->stream,
                                            .transfer = s->transfer};
    return tl_prompt_open(&s->prompt, &params, plan);
}

static struct tl_pass pass_of(tl_session *s) {
    return (struct tl_pass){
        .model = s->engine->model, .kv = s->kv, .scratch = &s->scratch, .stream = s->stream};
}

/* The step as the layers' policies are now. */
static tl_err record_step(tl_session *s) {
    struct tl_pass pass = pass_of(s);
    tl_replay_close(&s->replay);
    tl_schedule_clear(&s->step);
    pass.record = &s->step;
    TL_TRY(tl_decode_record_step(&pass));
    tl_schedule_arrange(&s->step);
    return tl_replay_open(&s->replay, &s->step, (tl_stream *[]){s->stream, s->transfer});
}

/* Where 5 % of the rows are many beside a window that all queries attend anyway. */
static uint32_t long_rows(const tl_session *s) {
    uint64_t rows = TL_LONG_ROWS;
    for (uint32_t il = 0; il < s->kv->n_layers; il++) {
        const struct tl_policy *const p = &s->policies[il];
        rows = tl_max_u64(rows, 4 * ((uint64_t)p->sink + p->recent));
    }
    return (uint32_t)rows;
}

static tl_err open_measuring(tl_session *s, const struct tl_session_params *p) {
    s->gauge_every = p->gauge_every;
    if (s->gauge_every > 0) {
        TL_TRY(tl_gauges_open(&s->gauges, shape_of(s), s->engine->dev));
    }
    s->dense_above = p->dense_above > 0 ? p->dense_above : TL_DENSE_ABOVE;
    s->identify_rows = p->identify_rows;
    if (s->finds_dense && s->identify_rows == 0) {
        s->identify_rows = long_rows(s);
    }
    const struct tl_identify_params params = {.codecs = p->identify_codecs,
                                              .fit = p->identify_fit,
                                              .on_rows = p->on_rows,
                                              .user = p->on_rows_user};
    return s->identify_rows == 0
               ? TL_OK
               : tl_identify_open(&s->identify, shape_of(s), s->engine->dev, s->kv->cap, &params);
}

/* Peaks with room for what layers may change to; tiers as they are at the beginning. */
static void make_plan(tl_session *s, const struct tl_plan_params *params) {
    struct tl_plan_params now = *params;
    struct tl_memory_plan as_is;
    now.dense = NULL;
    tl_plan_memory(shape_of(s), &now, &as_is);
    tl_plan_memory(shape_of(s), params, &s->plan);
    s->plan.kv = as_is.kv;
}

static tl_err copy_books(tl_session *s, const tl_books *books) {
    const struct tl_shape *const shape = shape_of(s);
    if (books == NULL) {
        return TL_OK;
    }
    if (!tl_books_fit(books, shape->n_layers, shape->n_kv_heads, shape->head_dim)) {
        return tl_fail(&s->engine->log, TL_ERR_FORMAT,
                       "cache policy: its codebooks are of a model of another shape");
    }
    return tl_books_copy(&s->books, books);
}

/* Codes of one side of a layer whose codebook was not fitted. */
static bool is_builtin(const tl_session *s, uint32_t il, tl_side side, tl_codec codec) {
    return tl_vq_is(codec) &&
           (s->books == NULL || tl_books_find(s->books, side, codec, il) == NULL);
}

uint32_t tl_session_builtin_books(const tl_session *s) {
    uint32_t n = 0;
    for (uint32_t il = 0; il < s->kv->n_layers && !s->was_resumed; il++) {
        const struct tl_policy *const p = &s->kv->layers[il].policy;
        n += is_builtin(s, il, TL_SIDE_K, p->k_codec) || is_builtin(s, il, TL_SIDE_V, p->v_codec);
    }
    return n;
}

static tl_err open_session_parts(tl_session *s, const struct tl_session_params *p) {
    tl_engine *const e = s->engine;
    TL_TRY(copy_policies(s, p));
    TL_TRY(copy_books(s, p->books));
    struct tl_dev_caps caps;
    tl_dev_get_caps(e->dev, &caps);
    struct tl_plan_params plan = {.n_ctx = p->n_ctx != 0 ? p->n_ctx : e->n_ctx,
                                  .n_chunk = p->n_chunk,
                                  .policies = s->policies,
                                  .dense = s->finds_dense ? &s->dense : NULL,
                                  .weight_bytes = e->model->weight_bytes,
                                  .far = !caps.unified,
                                  .no_codebooks = !caps.codebooks,
                                  .n_sessions = p->n_sessions,
                                  .identify = s->finds_dense || p->identify_rows > 0,
                                  .identify_codecs = p->identify_codecs,
                                  .identify_gives = p->on_rows != NULL};
    const struct tl_budget budget = tl_budget_of(&caps, p->device_bytes, p->host_bytes);
    TL_TRY(tl_plan_settle(shape_of(s), &plan, &budget, &e->log));
    plan.n_sessions = 0; /* from here on its own */
    for (uint32_t il = 0; il < shape_of(s)->n_layers; il++) {
        s->policies[il] = tl_kv_policy_at(shape_of(s), il, &s->policies[il], plan.n_ctx);
    }
    make_plan(s, &plan);
    TL_TRY(tl_stream_open(&s->stream, e->dev));
    TL_TRY(tl_stream_open(&s->transfer, e->dev));
    TL_TRY(tl_kv_open(&s->kv, shape_of(s), s->policies, s->books, e->dev, plan.n_ctx));
    const struct tl_scratch_needs needs = tl_plan_scratch(shape_of(s), &plan);
    TL_TRY(tl_scratch_open(&s->scratch, shape_of(s), e->dev, &needs));
    TL_TRY(open_prompt(s, &plan));
    TL_TRY(open_measuring(s, p));
    s->ids = calloc(plan.n_ctx, sizeof *s->ids);
    if (s->ids == NULL) {
        return TL_ERR_MEMORY;
    }
    return record_step(s);
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
    if ((s->stream != NULL && tl_stream_sync(s->stream)) ||
        (s->transfer != NULL && tl_stream_sync(s->transfer))) {
        /* a device that failed runs nothing any more */
    }
    tl_replay_close(&s->replay);
    tl_schedule_free(&s->step);
    tl_scratch_close(&s->scratch);
    tl_prompt_close(&s->prompt);
    tl_identify_close(&s->identify);
    tl_gauges_close(&s->gauges);
    tl_kv_close(&s->kv);
    tl_books_close(&s->books);
    tl_stream_close(&s->stream);
    tl_stream_close(&s->transfer);
    free(s->policies);
    free(s->traffic);
    free(s->ids);
    free(s);
    *session = NULL;
}

/* ---- feeding ---- */

static tl_err check_ids(const tl_session *s, const uint32_t *ids, size_t n) {
    if (n > s->kv->cap - s->kv->n_rows) {
        return tl_fail(&s->engine->log, TL_ERR_MEMORY,
                       "context full: %zu more tokens asked for, %u of %u are used", n,
                       s->kv->n_rows, s->kv->cap);
    }
    const uint32_t n_vocab = shape_of(s)->n_vocab;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= n_vocab) {
            return tl_fail(&s->engine->log, TL_ERR_FORMAT,
                           "token %u is not in the vocabulary of %u", ids[i], n_vocab);
        }
    }
    return TL_OK;
}

static const float *logits_row(const tl_session *s, uint32_t row) {
    return (const float *)tl_view_host(s->scratch.logits) + (size_t)row * shape_of(s)->n_vocab;
}

/* Logits of the rows x of positions first ...: of all of them where they are asked for, handed over
 * block by block, else of the last one if it ends the feed. */
static tl_err make_logits(tl_session *s, const struct tl_feed *feed, tl_view x, uint32_t first,
                          bool ends) {
    const struct tl_pass pass = pass_of(s);
    if (feed->on_logits == NULL) {
        s->logits_row = 0;
        return ends ? tl_decode_logits(&pass, tl_view_rows(x, x.rows - 1, 1)) : TL_OK;
    }
    for (uint32_t at = 0; at < x.rows; at += TL_LOGIT_ROWS) {
        const uint32_t n = (uint32_t)tl_min_u64(TL_LOGIT_ROWS, x.rows - at);
        TL_TRY(tl_decode_logits(&pass, tl_view_rows(x, at, n)));
        TL_TRY(tl_stream_sync(s->stream));
        for (uint32_t i = 0; i < n; i++) {
            if (!feed->on_logits(feed->user, first + at + i, logits_row(s, i))) {
                return TL_ERR_IO;
            }
        }
        s->logits_row = n - 1;
    }
    return TL_OK;
}

/* Whether a feed of n tokens measures the layers. */
static bool measures(const tl_session *s, size_t n) {
    return s->identify_rows > 0 && n >= TL_LAST_QUERIES && s->kv->n_rows + n >= s->identify_rows;
}

/* Every layer keeps its rows exactly: chunk by chunk through all layers. *n_done may stop short. */
static tl_err feed_chunks(tl_session *s, const struct tl_feed *feed, uint32_t *n_done) {
    const struct tl_pass pass = pass_of(s);
    for (uint32_t done = 0; done < feed->n;) {
        const uint32_t n = tl_prompt_chunk((uint32_t)feed->n - done, s->scratch.n_chunk);
        const uint32_t first = s->kv->n_rows + done;
        const bool measured = done + n == feed->n && measures(s, feed->n);
        const tl_view x = tl_view_rows(s->scratch.x, 0, n);
        TL_TRY(tl_decode_embed(&pass, x, feed->ids + done));
        for (uint32_t il = 0; il < shape_of(s)->n_layers; il++) {
            TL_TRY(tl_decode_prompt_layer(&pass, il, x, first));
            if (measured) {
                TL_TRY(tl_identify_layer(s->identify, &pass, il, first, n));
            }
        }
        TL_TRY(make_logits(s, feed, x, first, done + n == feed->n));
        TL_TRY(tl_stream_sync(s->stream));
        done += n;
        *n_done = done;
        if (feed->on_progress != NULL && !feed->on_progress(feed->user, done, feed->n)) {
            break;
        }
    }
    return TL_OK;
}

/* Layer by layer. Stopping early leaves nothing of the prompt. */
static tl_err feed_layers(tl_session *s, const struct tl_feed *feed, uint32_t *n_done) {
    const uint32_t n = (uint32_t)feed->n, n_layers = shape_of(s)->n_layers;
    for (uint32_t il = 0; il < n_layers; il++) {
        TL_TRY(tl_prompt_layer(s->prompt, il, feed->ids, n, measures(s, n) ? s->identify : NULL));
        const size_t done = (size_t)((uint64_t)n * (il + 1) / n_layers);
        if (feed->on_progress != NULL && !feed->on_progress(feed->user, done, n)) {
            return tl_prompt_end(s->prompt);
        }
    }
    tl_view hidden;
    TL_TRY(tl_prompt_hidden(s->prompt, n, &hidden));
    TL_TRY(make_logits(s, feed, hidden, s->kv->n_rows, true));
    TL_TRY(tl_prompt_end(s->prompt));
    *n_done = n;
    return TL_OK;
}

/* ---- layers that turn out dense ---- */

static bool may_become_dense(const tl_session *s, uint32_t il) {
    const struct tl_identity *const found = tl_identify_get(s->identify, il);
    const struct tl_kv_layer *const layer = &s->kv->layers[il];
    return found != NULL && found->score > s->dense_above && layer->model_window == 0 &&
           layer->home.k.buf != NULL;
}

static void add_kv_bytes(struct tl_kv_bytes *sum, const struct tl_kv_bytes *b, int64_t sign) {
    sum->window += (uint64_t)sign * b->window;
    sum->sketch += (uint64_t)sign * b->sketch;
    sum->index += (uint64_t)sign * b->index;
    sum->home_device += (uint64_t)sign * b->home_device;
    sum->home_host += (uint64_t)sign * b->home_host;
    sum->hot += (uint64_t)sign * b->hot;
}

static tl_err change_policy(tl_session *s, uint32_t il, const struct tl_policy *policy) {
    struct tl_policy unused;
    struct tl_kv_bytes before, after;
    tl_session_get_layer(s, il, &unused, &before);
    TL_TRY(tl_kv_convert(s->kv, il, policy, s->stream));
    s->policies[il] = *policy;
    tl_session_get_layer(s, il, &unused, &after);
    add_kv_bytes(&s->plan.kv, &before, -1);
    add_kv_bytes(&s->plan.kv, &after, 1);
    return TL_OK;
}

/* Appends to a line of at most `cap` bytes, as far as there is room. */
static void append(char *line, size_t cap, const char *fmt, ...) TL_PRINTF(3, 4);
static void append(char *line, size_t cap, const char *fmt, ...) {
    const size_t at = strlen(line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + at, cap - at, fmt, args);
    va_end(args);
}

/* What the prompt has measured is known: dense layers change their policy, once. */
static tl_err settle_layers(tl_session *s) {
    char layers[256] = "", scores[512] = "";
    uint32_t n_dense = 0;
    tl_identify_finish(s->identify);
    s->identify_rows = 0;
    if (!s->finds_dense) {
        return TL_OK;
    }
    s->finds_dense = false;
    tl_replay_close(&s->replay); /* it knows buffers that are about to be freed */
    for (const struct tl_session_watch *w = s->watches; w != NULL; w = w->next) {
        w->on_change(w->user);
    }
    tl_err err = TL_OK;
    for (uint32_t il = 0; !err && il < s->kv->n_layers; il++) {
        if (may_become_dense(s, il)) {
            err = change_policy(s, il, &s->dense);
            const char *const comma = n_dense++ > 0 ? ", " : "";
            append(layers, sizeof layers, "%s%u", comma, il);
            append(scores, sizeof scores, "%s%.2f", comma, tl_identify_get(s->identify, il)->score);
        }
    }
    const tl_err recorded = record_step(s);
    if (!err && n_dense > 0) {
        tl_say(&s->engine->log, TL_LEVEL_INFO, "layers %s attend densely (%s): keys %s, values %s",
               layers, scores, tl_codec_names[s->dense.k_codec], tl_codec_names[s->dense.v_codec]);
    } else if (!err) {
        tl_say(&s->engine->log, TL_LEVEL_INFO, "no layer attends densely");
    }
    return err ? err : recorded;
}

static uint64_t row_bytes(const tl_session *s) {
    return 2 * tl_row_bytes(TL_F16, shape_of(s)->head_dim);
}

/* Rows that went to a home in host memory. */
static void count_sent_home(tl_session *s, uint32_t n) {
    for (uint32_t il = 0; il < s->kv->n_layers; il++) {
        if (s->kv->layers[il].policy.home == TL_HOME_HOST) {
            s->traffic[il].device_to_host_bytes += n * shape_of(s)->n_kv_heads * row_bytes(s);
        }
    }
}

/* Rows that came from there for a prompt behind n_rows rows. */
static void count_brought(tl_session *s, uint32_t n_rows) {
    for (uint32_t il = 0; il < s->kv->n_layers && s->prompt != NULL; il++) {
        s->traffic[il].host_to_device_bytes +=
            tl_prompt_rows_brought(s->prompt, il, n_rows) * row_bytes(s);
    }
}

tl_err tl_session_feed(tl_session *s, const struct tl_feed *feed) {
    TL_TRY(check_ids(s, feed->ids, feed->n));
    if (feed->n == 0) {
        return TL_OK;
    }
    const uint32_t base = s->kv->n_rows, n = (uint32_t)feed->n;
    uint32_t n_done = 0;
    s->has_logits = s->has_chosen = false;
    tl_err err = s->prompt != NULL ? feed_layers(s, feed, &n_done) : feed_chunks(s, feed, &n_done);
    if (err && s->prompt != NULL && tl_prompt_end(s->prompt)) {
        err = TL_ERR_DEVICE; /* which then is why */
    }
    const bool measured = measures(s, n) && !err && n_done == n;
    s->kv->n_rows = base + n; /* some layers may hold so many */
    if (err || n_done < n) {
        tl_session_rewind(s, err ? base : base + n_done);
        return err;
    }
    memcpy(s->ids + base, feed->ids, n * sizeof *s->ids);
    count_brought(s, base);
    count_sent_home(s, n);
    const tl_err settled = measured ? settle_layers(s) : TL_OK;
    if (settled) {
        tl_session_rewind(s, base);
        return settled;
    }
    s->has_logits = true;
    return TL_OK;
}

/* ---- one step ---- */

/* Channels that crossed the link, each as long as the layer's index. */
static void count_channels(tl_session *s) {
    const int32_t *const counts = tl_view_host(s->scratch.channel_counts);
    for (uint32_t il = 0; il < s->kv->n_layers; il++) {
        const struct tl_kv_layer *const layer = &s->kv->layers[il];
        const uint64_t fetched = (uint64_t)counts[2 * il + 1];
        s->traffic[il].channels_hit += (uint64_t)counts[2 * il];
        s->traffic[il].channels_fetched += fetched;
        s->traffic[il].host_to_device_bytes +=
            layer->policy.home == TL_HOME_HOST
                ? fetched * layer->n_blocks * TL_BLOCK * sizeof(uint16_t)
                : 0;
    }
}

/* What crossed the link in this step, where it happened: the fetch ops counted their own. */
static void count_step(tl_session *s) {
    const int32_t *const counts = tl_view_host(s->scratch.counts);
    const uint64_t heads = shape_of(s)->n_kv_heads;
    for (uint32_t il = 0; il < s->kv->n_layers; il++) {
        const struct tl_kv_layer *const layer = &s->kv->layers[il];
        uint64_t fetched = (uint64_t)counts[2 * il + 1];
        if (layer->policy.select == TL_SELECT_TOPK && layer->policy.hot == 0) {
            fetched = heads * tl_min_u64(layer->policy.topk, layer->n_blocks * TL_BLOCK);
        } else if (tl_kv_is_exact(layer)) {
            fetched = heads * s->kv->n_rows;
        }
        if (layer->policy.home != TL_HOME_HOST) {
            continue;
        }
        s->traffic[il].rows_hit += (uint64_t)counts[2 * il];
        s->traffic[il].rows_fetched += fetched;
        s->traffic[il].host_to_device_bytes += fetched * row_bytes(s);
    }
    count_channels(s);
    count_sent_home(s, 1);
}

/* The step, and in the first of every gauge_every ones a look at a layer. */
static tl_err run_step(tl_session *s) {
    bool looks = false;
    if (s->gauge_every > 0 && s->n_steps++ % s->gauge_every == 0) {
        TL_TRY(tl_gauges_run(s->gauges, s->kv, &s->step, s->stream, &looks));
    }
    if (!looks) {
        TL_TRY(tl_replay_run(s->replay));
    }
    TL_TRY(tl_stream_sync(s->stream));
    if (looks) {
        tl_gauges_read(s->gauges);
    }
    return TL_OK;
}

tl_err tl_session_check_step(const tl_session *s, uint32_t id) { return check_ids(s, &id, 1); }

tl_err tl_session_begin_step(tl_session *s, uint32_t id, tl_stream *stream) {
    TL_TRY(check_ids(s, &id, 1));
    s->has_logits = s->has_chosen = false;
    TL_TRY(tl_kv_begin_step(s->kv, stream));
    *(uint32_t *)tl_view_host(s->scratch.ids) = id;
    memset(tl_view_host(s->scratch.counts), 0, tl_view_bytes(s->scratch.counts));
    memset(tl_view_host(s->scratch.channel_counts), 0, tl_view_bytes(s->scratch.channel_counts));
    return TL_OK;
}

void tl_session_end_step(tl_session *s, uint32_t id, const float *logits) {
    float *const own = tl_view_host(s->scratch.logits);
    if (logits != own) {
        memcpy(own, logits, shape_of(s)->n_vocab * sizeof *own);
    }
    s->has_chosen = true;
    s->ids[s->kv->n_rows++] = id;
    count_step(s);
    s->logits_row = 0;
    s->has_logits = true;
}

tl_err tl_session_step(tl_session *s, uint32_t id) {
    TL_TRY(tl_session_begin_step(s, id, s->stream));
    TL_TRY(run_step(s));
    tl_session_end_step(s, id, logits_row(s, 0));
    return TL_OK;
}

const float *tl_session_logits(const tl_session *s) {
    return s->has_logits ? logits_row(s, s->logits_row) : NULL;
}

uint32_t tl_session_rewind(tl_session *s, uint32_t n_keep) {
    TL_ASSERT(n_keep <= s->kv->n_rows);
    s->has_logits = s->has_logits && n_keep == s->kv->n_rows;
    s->has_chosen = s->has_chosen && n_keep == s->kv->n_rows;
    return tl_kv_rewind(s->kv, n_keep, s->stream);
}

/* ---- looking ---- */

uint32_t tl_session_n(const tl_session *s) { return s->kv->n_rows; }
uint32_t tl_session_ctx(const tl_session *s) { return s->kv->cap; }
const uint32_t *tl_session_ids(const tl_session *s) { return s->ids; }
const struct tl_memory_plan *tl_session_plan(const tl_session *s) { return &s->plan; }
const tl_schedule *tl_session_schedule(const tl_session *s) { return &s->step; }

void tl_session_get_layer(const tl_session *s, uint32_t il, struct tl_policy *policy,
                          struct tl_kv_bytes *bytes) {
    *policy = s->kv->layers[il].policy;
    *bytes = tl_kv_layer_bytes(shape_of(s), il, &s->policies[il], s->kv->cap);
}

bool tl_session_transfer_ns(const tl_session *s, uint64_t *ns) {
    *ns = 0;
    return s->replay != NULL && tl_replay_transfer_ns(s->replay, ns);
}

tl_err tl_session_chosen(tl_session *s, uint32_t il, const int32_t **rows, uint32_t *n) {
    const struct tl_kv_layer *const layer = &s->kv->layers[il];
    *n = 0;
    if (!s->has_chosen || layer->policy.select != TL_SELECT_TOPK) {
        return TL_OK;
    }
    const struct tl_pass pass = pass_of(s);
    const tl_view idx = tl_choice_of(&pass, il).idx, looked = s->scratch.looked;
    const tl_view copy = tl_view_of(looked.buf, looked.off_bytes, idx.rows, idx.cols, TL_I32);
    TL_TRY(tl_copy(s->stream, copy, idx));
    TL_TRY(tl_stream_sync(s->stream));
    int32_t *const at = tl_view_host(copy);
    for (uint32_t i = 0; i < idx.rows * idx.cols; i++) {
        at[i] += at[i] >= 0 ? (int32_t)layer->policy.sink : 0;
    }
    *rows = at;
    *n = idx.rows * idx.cols;
    return TL_OK;
}

struct tl_traffic tl_session_layer_traffic(const tl_session *s, uint32_t il) {
    return s->traffic[il];
}

struct tl_traffic tl_session_traffic(const tl_session *s) {
    struct tl_traffic sum = {0};
    for (uint32_t il = 0; il < s->kv->n_layers; il++) {
        sum.host_to_device_bytes += s->traffic[il].host_to_device_bytes;
        sum.device_to_host_bytes += s->traffic[il].device_to_host_bytes;
        sum.rows_hit += s->traffic[il].rows_hit;
        sum.rows_fetched += s->traffic[il].rows_fetched;
        sum.channels_hit += s->traffic[il].channels_hit;
        sum.channels_fetched += s->traffic[il].channels_fetched;
    }
    return sum;
}

const struct tl_identity *tl_session_identity(const tl_session *s, uint32_t il) {
    return s->identify != NULL ? tl_identify_get(s->identify, il) : NULL;
}

const struct tl_gauge *tl_session_gauge(const tl_session *s, uint32_t il) {
    const struct tl_gauge *const g = s->gauges != NULL ? tl_gauges_get(s->gauges, il) : NULL;
    return g != NULL && g->n > 0 ? g : NULL;
}

double tl_session_dense_above(const tl_session *s) { return s->dense_above; }

/* Exact rows and codes that a step reads of one layer. */
static uint64_t layer_step_bytes(const tl_session *s, const struct tl_kv_layer *layer) {
    const struct tl_shape *const shape = shape_of(s);
    const uint64_t row = shape->n_kv_heads * row_bytes(s), n = s->kv->n_rows;
    if (tl_kv_is_exact(layer)) {
        return row * (layer->model_window != 0 ? tl_min_u64(layer->model_window, n) : n);
    }
    const uint64_t old = (uint64_t)layer->n_blocks * TL_BLOCK;
    uint64_t bytes = row * (n - old);
    if (layer->sketch.k.buf != NULL) {
        bytes += (uint64_t)layer->n_blocks * shape->n_kv_heads *
                 (layer->sketch.k.cols + layer->sketch.v.cols);
    }
    if (layer->policy.select == TL_SELECT_TOPK) {
        bytes += row * tl_min_u64(layer->policy.topk, old);
    }
    if (layer->columns.keys.buf != NULL) { /* fetched, then read where they are */
        bytes += 2 * old * sizeof(uint16_t) * shape->n_kv_heads * layer->policy.channels;
    }
    if (layer->pages.rows.buf != NULL) {
        bytes += old / layer->pages.page * shape->n_kv_heads *
                 tl_row_bytes(TL_F16, layer->pages.rows.cols);
    }
    return bytes;
}

uint64_t tl_session_weight_bytes(const tl_session *s) {
    const tl_model *const m = s->engine->model;
    const bool tied = m->output.buf == m->embd.buf;
    return m->weight_bytes -
           (tied ? 0 : tl_view_bytes(m->embd) - tl_view_bytes(m->embd) / m->embd.rows);
}

uint64_t tl_session_step_bytes(const tl_session *s) {
    uint64_t bytes = tl_session_weight_bytes(s);
    for (uint32_t il = 0; il < s->kv->n_layers; il++) {
        bytes += layer_step_bytes(s, &s->kv->layers[il]);
    }
    return bytes;
}

/* ---- for session files ---- */

const tl_engine *tl_session_engine(const tl_session *s) { return s->engine; }
tl_kv *tl_session_kv(const tl_session *s) { return s->kv; }
tl_stream *tl_session_stream(const tl_session *s) { return s->stream; }
const struct tl_policy *tl_session_policies(const tl_session *s) { return s->policies; }
struct tl_scratch *tl_session_scratch(tl_session *s) {
    return &s->scratch;
}

void tl_session_watch(tl_session *s, struct tl_session_watch *watch) {
    watch->next = s->watches;
    s->watches = watch;
}

void tl_session_unwatch(tl_session *s, struct tl_session_watch *watch) {
    for (struct tl_session_watch **at = &s->watches; *at != NULL; at = &(*at)->next) {
        if (*at == watch) {
            *at = watch->next;
            return;
        }
    }
}

const struct tl_policy *tl_session_dense(const tl_session *s, double *above) {
    *above = s->dense_above;
    return s->finds_dense ? &s->dense : NULL;
}

void tl_session_put(tl_session *s, const void *ids, uint32_t n, const void *logits) {
    TL_ASSERT(n <= s->kv->cap);
    s->was_resumed = true;
    memcpy(s->ids, ids, n * sizeof *s->ids);
    s->kv->n_rows = n;
    s->has_logits = logits != NULL;
    s->logits_row = 0;
    if (logits != NULL) {
        memcpy(tl_view_host(s->scratch.logits), logits, shape_of(s)->n_vocab * sizeof(float));
    }
}
