/* A step of several sessions, recorded once like a session's own. The batch owns the rows that
 * products work on; what a sequence selects stays in its session's scratch. The invariant: between
 * calls every session is as if its tokens had been appended one by one, so that nobody who holds
 * one needs to know of the batch. */
#include "batch.h"
#include "decode.h"
#include "engine_priv.h"
#include "replay.h"

#include <stdlib.h>

struct tl_batch {
    tl_session *sessions[TL_BATCH_MAX]; /* borrowed */
    struct tl_session_watch watches[TL_BATCH_MAX];
    uint32_t n;
    const tl_engine *engine; /* borrowed */
    tl_stream *streams[TL_LANE_COUNT];
    struct tl_scratch scratch;
    tl_schedule step, parts[TL_BATCH_MAX];
    tl_replay *replay;
};

static bool any_hybrid(const tl_batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        const tl_kv *const kv = tl_session_kv(b->sessions[i]);
        for (uint32_t il = 0; il < kv->n_layers; il++) {
            if (!tl_kv_is_exact(&kv->layers[il])) {
                return true;
            }
        }
    }
    return false;
}

static tl_err open_scratch(tl_batch *b) {
    const struct tl_scratch_needs needs = {.n_chunk = b->n, .cap = 1, .hybrid = any_hybrid(b)};
    tl_scratch_close(&b->scratch);
    return tl_scratch_open(&b->scratch, &b->engine->model->shape, b->engine->dev, &needs);
}

static tl_err record(tl_batch *b) {
    struct tl_pass each[TL_BATCH_MAX];
    const struct tl_pass all = {.model = b->engine->model,
                                .scratch = &b->scratch,
                                .stream = b->streams[TL_LANE_COMPUTE],
                                .record = &b->step};
    tl_replay_close(&b->replay);
    tl_schedule_clear(&b->step);
    for (uint32_t i = 0; i < b->n; i++) {
        each[i] = all;
        each[i].kv = tl_session_kv(b->sessions[i]);
        each[i].scratch = tl_session_scratch(b->sessions[i]);
        each[i].record = &b->parts[i];
        tl_schedule_clear(&b->parts[i]); /* where it failed half way */
    }
    TL_TRY(open_scratch(b));
    TL_TRY(tl_decode_record_batch(&all, each, b->n));
    tl_schedule_arrange(&b->step);
    return tl_replay_open(&b->replay, &b->step, b->streams);
}

static tl_err open_parts(tl_batch *b) {
    for (int lane = 0; lane < TL_LANE_COUNT; lane++) {
        TL_TRY(tl_stream_open(&b->streams[lane], b->engine->dev));
    }
    return record(b);
}

/* Layers of a session are about to change: the next step is recorded anew. */
static void forget_step(void *user) { tl_replay_close(&((tl_batch *)user)->replay); }

tl_err tl_batch_open(tl_batch **out, tl_session *const *sessions, uint32_t n) {
    TL_ASSERT(n > 0 && n <= TL_BATCH_MAX);
    tl_batch *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return TL_ERR_MEMORY;
    }
    b->n = n;
    b->engine = tl_session_engine(sessions[0]);
    for (uint32_t i = 0; i < n; i++) {
        TL_ASSERT(tl_session_engine(sessions[i]) == b->engine);
        for (uint32_t j = 0; j < i; j++) {
            TL_ASSERT(sessions[i] != sessions[j]);
        }
        b->sessions[i] = sessions[i];
        b->watches[i] = (struct tl_session_watch){.on_change = forget_step, .user = b};
        tl_session_watch(b->sessions[i], &b->watches[i]);
    }
    const tl_err err = open_parts(b);
    if (err) {
        tl_batch_close(&b);
        return err;
    }
    *out = b;
    return TL_OK;
}

void tl_batch_close(tl_batch **batch) {
    tl_batch *const b = *batch;
    if (b == NULL) {
        return;
    }
    for (int lane = 0; lane < TL_LANE_COUNT; lane++) {
        if (b->streams[lane] != NULL && tl_stream_sync(b->streams[lane])) {
            /* a device that failed runs nothing any more */
        }
    }
    tl_replay_close(&b->replay);
    tl_schedule_free(&b->step);
    for (uint32_t i = 0; i < b->n; i++) {
        tl_schedule_free(&b->parts[i]);
        tl_session_unwatch(b->sessions[i], &b->watches[i]);
    }
    tl_scratch_close(&b->scratch);
    for (int lane = 0; lane < TL_LANE_COUNT; lane++) {
        tl_stream_close(&b->streams[lane]);
    }
    free(b);
    *batch = NULL;
}

tl_err tl_batch_step(tl_batch *b, const uint32_t *ids) {
    tl_stream *const stream = b->streams[TL_LANE_COMPUTE];
    for (uint32_t i = 0; i < b->n; i++) { /* what one refuses must not have touched another */
        TL_TRY(tl_session_check_step(b->sessions[i], ids[i]));
    }
    if (b->replay == NULL) {
        TL_TRY(record(b));
    }
    uint32_t *const to = tl_view_host(b->scratch.ids);
    int32_t *const pos = tl_view_host(b->scratch.pos);
    for (uint32_t i = 0; i < b->n; i++) { /* what they left on streams of their own */
        TL_TRY(tl_stream_sync(tl_session_stream(b->sessions[i])));
    }
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < b->n && !err; i++) {
        err = tl_session_begin_step(b->sessions[i], ids[i], stream);
        to[i] = ids[i];
        pos[i] = (int32_t)tl_session_n(b->sessions[i]);
    }
    err = err ? err : tl_replay_run(b->replay);
    /* After an error too: sessions go on on streams of their own. */
    const tl_err synced = tl_stream_sync(stream);
    if (err || synced) {
        return err ? err : synced;
    }
    const float *const logits = tl_view_host(b->scratch.logits);
    for (uint32_t i = 0; i < b->n; i++) {
        const size_t n_vocab = b->scratch.logits.cols;
        tl_session_end_step(b->sessions[i], ids[i], logits + i * n_vocab);
    }
    return TL_OK;
}

uint64_t tl_batch_step_bytes(const tl_batch *b) {
    uint64_t bytes = tl_session_weight_bytes(b->sessions[0]);
    for (uint32_t i = 0; i < b->n; i++) {
        bytes += tl_session_step_bytes(b->sessions[i]) - tl_session_weight_bytes(b->sessions[i]);
    }
    return bytes;
}

const tl_schedule *tl_batch_schedule(const tl_batch *b) { return &b->step; }
