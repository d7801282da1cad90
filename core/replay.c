/* Running of arranged schedules. An op that another lane waits for is followed by the record of an
 * event of its own; nothing else is added to what the schedule says. A device that can record gets
 * exactly the calls that the op by op way makes, once, inside a capture. */
#include "replay.h"

#include <stdlib.h>

struct tl_replay {
    const tl_schedule *schedule;       /* borrowed */
    tl_stream *streams[TL_LANE_COUNT]; /* borrowed */
    tl_event *start;                   /* owned; NULL where nothing waits for it */
    tl_event **done;                   /* owned; one an op, NULL where nothing waits for it */
    tl_graph *graph;                   /* owned; NULL: op by op */
    bool immediate;                    /* the device's ops can be timed by the host */
    uint64_t transfer_ns;              /* of the last run, where they can */
};

static tl_err open_event(tl_replay *r, uint32_t wait) {
    if (wait == TL_WAIT_NONE) {
        return TL_OK;
    }
    tl_event **const e = wait == TL_WAIT_START ? &r->start : &r->done[wait];
    return *e == NULL ? tl_event_open(e, r->streams[TL_LANE_COMPUTE]->dev) : TL_OK;
}

static tl_err open_events(tl_replay *r) {
    const tl_schedule *const s = r->schedule;
    for (uint32_t i = 0; i < s->n; i++) {
        TL_TRY(open_event(r, s->ops[i].wait));
    }
    return open_event(r, s->join);
}

static tl_err wait_for(const tl_replay *r, const struct tl_op *op) {
    return op->wait == TL_WAIT_NONE
               ? TL_OK
               : tl_event_wait(r->streams[op->lane],
                               op->wait == TL_WAIT_START ? r->start : r->done[op->wait]);
}

static tl_err mark_done(const tl_replay *r, uint32_t i) {
    return r->done[i] != NULL ? tl_event_record(r->streams[r->schedule->ops[i].lane], r->done[i])
                              : TL_OK;
}

static tl_err enqueue_op(tl_replay *r, uint32_t i) {
    const struct tl_op *const op = &r->schedule->ops[i];
    tl_stream *const stream = r->streams[op->lane];
    TL_TRY(wait_for(r, op));
    const bool timed = r->immediate && op->lane == TL_LANE_TRANSFER;
    const uint64_t begin = timed ? tl_now_ns() : 0;
    TL_TRY(tl_op_run(op, stream));
    if (timed) {
        r->transfer_ns += tl_now_ns() - begin;
    }
    return mark_done(r, i);
}

/* All waits of the group come first, and all its events last. */
static tl_err enqueue_group(tl_replay *r, uint32_t i, uint32_t n) {
    const struct tl_op *const ops = &r->schedule->ops[i];
    tl_stream *const stream = r->streams[ops->lane];
    for (uint32_t j = 0; j < n; j++) {
        TL_TRY(wait_for(r, &ops[j]));
    }
    TL_TRY(tl_together_begin(stream));
    tl_err err = TL_OK;
    for (uint32_t j = 0; j < n && !err; j++) {
        err = tl_op_run(&ops[j], stream);
    }
    const tl_err ended = tl_together_end(stream);
    for (uint32_t j = 0; j < n && !err && !ended; j++) {
        err = mark_done(r, i + j);
    }
    return err ? err : ended;
}

static tl_err enqueue(tl_replay *r) {
    tl_stream *const first = r->streams[TL_LANE_COMPUTE];
    r->transfer_ns = 0;
    if (r->start != NULL) {
        TL_TRY(tl_event_record(first, r->start));
    }
    for (uint32_t i = 0, n; i < r->schedule->n; i += n) {
        n = tl_schedule_group(r->schedule, i);
        TL_TRY(n > 1 ? enqueue_group(r, i, n) : enqueue_op(r, i));
    }
    const uint32_t join = r->schedule->join;
    return join != TL_WAIT_NONE ? tl_event_wait(first, r->done[join]) : TL_OK;
}

static tl_err capture(tl_replay *r) {
    const tl_err begun = tl_capture_begin(r->streams, TL_LANE_COUNT);
    if (begun == TL_ERR_UNSUPPORTED) {
        return TL_OK;
    }
    TL_TRY(begun);
    const tl_err err = enqueue(r);
    const tl_err ended = tl_capture_end(&r->graph, r->streams, TL_LANE_COUNT);
    return err ? err : ended;
}

tl_err tl_replay_open(tl_replay **out, const tl_schedule *schedule,
                      tl_stream *const streams[TL_LANE_COUNT]) {
    tl_replay *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return TL_ERR_MEMORY;
    }
    r->schedule = schedule;
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        r->streams[i] = streams[i];
    }
    struct tl_dev_caps caps;
    tl_dev_get_caps(streams[TL_LANE_COMPUTE]->dev, &caps);
    r->immediate = caps.immediate;
    r->done = calloc((size_t)schedule->n + 1, sizeof(tl_event *));
    tl_err err = r->done != NULL ? open_events(r) : TL_ERR_MEMORY;
    if (!err) {
        err = capture(r);
    }
    if (err) {
        tl_replay_close(&r);
        return err;
    }
    *out = r;
    return TL_OK;
}

void tl_replay_close(tl_replay **replay) {
    tl_replay *const r = *replay;
    if (r == NULL) {
        return;
    }
    tl_graph_close(&r->graph);
    for (uint32_t i = 0; r->done != NULL && i < r->schedule->n; i++) {
        tl_event_close(&r->done[i]);
    }
    tl_event_close(&r->start);
    free(r->done);
    free(r);
    *replay = NULL;
}

tl_err tl_replay_run(tl_replay *r) {
    return r->graph != NULL ? tl_graph_run(r->graph, r->streams[TL_LANE_COMPUTE]) : enqueue(r);
}

bool tl_replay_transfer_ns(const tl_replay *r, uint64_t *ns) {
    *ns = r->transfer_ns;
    return r->immediate && r->graph == NULL;
}

bool tl_replay_is_graph(const tl_replay *r) { return r->graph != NULL; }
