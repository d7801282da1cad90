/* Streams, events, recorded steps. A capture takes all its streams into one graph: the others are
 * forked from the first when it begins and joined to it when it ends. The graph has scratch of its
 * own, so that what is enqueued on these streams beside a run of it cannot disturb it. */
#include "cuda.h"

#include <stdlib.h>

struct cu_event {
    tl_event base;
    cudaEvent_t event;
};

static struct cu_stream *stream_of(tl_stream *s) { return (struct cu_stream *)s; }

tl_err cu_stream_open(tl_stream **out, tl_dev *base) {
    struct cu_dev *const dev = (struct cu_dev *)base;
    TL_TRY(cu_enter(dev));
    struct cu_stream *const s = calloc(1, sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    s->base.dev = base;
    s->target = &s->scratch;
    tl_err err = cu_check(dev, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking),
                          "cudaStreamCreate");
    if (err == TL_OK) {
        err = cu_check(dev, cudaEventCreateWithFlags(&s->fork, cudaEventDisableTiming),
                       "cudaEventCreate");
    }
    if (err) {
        cu_stream_close(&s->base);
        return err;
    }
    *out = &s->base;
    return TL_OK;
}

void cu_stream_close(tl_stream *base) {
    struct cu_stream *const s = stream_of(base);
    (void)cudaSetDevice(cu_dev_of(base)->ordinal);
    if (s->stream != NULL) {
        (void)cudaStreamSynchronize(s->stream);
        (void)cudaStreamDestroy(s->stream);
    }
    if (s->fork != NULL) {
        (void)cudaEventDestroy(s->fork);
    }
    cu_scratch_free(&s->scratch);
    free(s);
}

tl_err cu_stream_sync(tl_stream *s) {
    TL_TRY(cu_settle(s));
    stream_of(s)->codes = (tl_view){0};
    TL_TRY(cu_enter(cu_dev_of(s)));
    return cu_check(cu_dev_of(s), cudaStreamSynchronize(stream_of(s)->stream), "the work so far");
}

tl_err cu_event_open(tl_event **out, tl_dev *base) {
    struct cu_dev *const dev = (struct cu_dev *)base;
    TL_TRY(cu_enter(dev));
    struct cu_event *const e = calloc(1, sizeof *e);
    if (e == NULL) {
        return TL_ERR_MEMORY;
    }
    e->base.dev = base;
    const tl_err err = cu_check(dev, cudaEventCreateWithFlags(&e->event, cudaEventDisableTiming),
                                "cudaEventCreate");
    if (err) {
        free(e);
        return err;
    }
    *out = &e->base;
    return TL_OK;
}

void cu_event_close(tl_event *e) {
    (void)cudaSetDevice(((const struct cu_dev *)e->dev)->ordinal);
    (void)cudaEventDestroy(((struct cu_event *)e)->event);
    free(e);
}

tl_err cu_event_record(tl_stream *s, tl_event *e) {
    TL_TRY(cu_settle(s));
    TL_TRY(cu_enter(cu_dev_of(s)));
    return cu_check(cu_dev_of(s),
                    cudaEventRecord(((struct cu_event *)e)->event, stream_of(s)->stream),
                    "event_record");
}

tl_err cu_event_wait(tl_stream *s, tl_event *e) {
    TL_TRY(cu_settle(s));
    stream_of(s)->codes = (tl_view){0};
    TL_TRY(cu_enter(cu_dev_of(s)));
    return cu_check(cu_dev_of(s),
                    cudaStreamWaitEvent(stream_of(s)->stream, ((struct cu_event *)e)->event, 0),
                    "event_wait");
}

static void targets_back(tl_stream *const *streams, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        stream_of(streams[i])->target = &stream_of(streams[i])->scratch;
        stream_of(streams[i])->codes = (tl_view){0};
    }
    stream_of(streams[0])->recording = NULL;
}

tl_err cu_capture_begin(tl_stream *const *streams, uint32_t n) {
    struct cu_dev *const dev = cu_dev_of(streams[0]);
    struct cu_stream *const first = stream_of(streams[0]);
    TL_TRY(cu_enter(dev));
    struct cu_graph *const g = calloc(1, sizeof *g);
    if (g == NULL) {
        return TL_ERR_MEMORY;
    }
    g->base.dev = &dev->base;
    /* Relaxed: scratch may grow while a step is recorded. */
    tl_err err = cu_check(dev, cudaStreamBeginCapture(first->stream, cudaStreamCaptureModeRelaxed),
                          "capture_begin");
    if (err) {
        free(g);
        return err;
    }
    err = cu_check(dev, cudaEventRecord(first->fork, first->stream), "capture_begin");
    for (uint32_t i = 0; i < n; i++) {
        struct cu_stream *const s = stream_of(streams[i]);
        s->target = &g->scratch[i];
        s->gave_up = false;
        s->codes = (tl_view){0};
        if (i > 0 && err == TL_OK) {
            err = cu_check(dev, cudaStreamWaitEvent(s->stream, first->fork, 0), "capture_begin");
        }
    }
    if (err) {
        cudaGraph_t graph = NULL;
        (void)cudaStreamEndCapture(first->stream, &graph);
        if (graph != NULL) {
            (void)cudaGraphDestroy(graph);
        }
        targets_back(streams, n);
        free(g);
        return err;
    }
    first->recording = g;
    return TL_OK;
}

/* Ends the capture and makes the graph, also where an op failed: the stream must be free again. */
static tl_err end_capture(struct cu_dev *dev, struct cu_graph *g, tl_stream *const *streams,
                          uint32_t n) {
    cudaStream_t const first = stream_of(streams[0])->stream;
    cudaError_t err = cudaSuccess;
    for (uint32_t i = 1; i < n && err == cudaSuccess; i++) {
        const struct cu_stream *const s = stream_of(streams[i]);
        err = cudaEventRecord(s->fork, s->stream);
        if (err == cudaSuccess) {
            err = cudaStreamWaitEvent(first, s->fork, 0);
        }
    }
    cudaGraph_t graph = NULL;
    const cudaError_t ended = cudaStreamEndCapture(first, &graph);
    bool gave_up = false;
    for (uint32_t i = 0; i < n; i++) {
        gave_up |= stream_of(streams[i])->gave_up;
    }
    err = err == cudaSuccess ? ended : err;
    if (err == cudaSuccess && !gave_up) {
        err = cudaGraphInstantiate(&g->exec, graph, 0);
    }
    if (graph != NULL) {
        (void)cudaGraphDestroy(graph);
    }
    return gave_up ? TL_ERR_MEMORY : cu_check(dev, err, "capture_end");
}

tl_err cu_capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n) {
    struct cu_dev *const dev = cu_dev_of(streams[0]);
    struct cu_graph *const g = stream_of(streams[0])->recording;
    tl_err err = cu_enter(dev);
    for (uint32_t i = 0; i < n; i++) { /* into the capture, which ends in any case */
        const tl_err settled = cu_settle(streams[i]);
        err = err ? err : settled;
    }
    const tl_err ended = end_capture(dev, g, streams, n);
    targets_back(streams, n);
    if (err || ended) {
        cu_graph_close(&g->base);
        return err ? err : ended;
    }
    *out = &g->base;
    return TL_OK;
}

tl_err cu_graph_run(tl_graph *g, tl_stream *s) {
    TL_TRY(cu_settle(s));
    stream_of(s)->codes = (tl_view){0};
    TL_TRY(cu_enter(cu_dev_of(s)));
    return cu_check(cu_dev_of(s),
                    cudaGraphLaunch(((struct cu_graph *)g)->exec, stream_of(s)->stream),
                    "graph_run");
}

void cu_graph_close(tl_graph *base) {
    struct cu_graph *const g = (struct cu_graph *)base;
    (void)cudaSetDevice(((const struct cu_dev *)base->dev)->ordinal);
    if (g->exec != NULL) {
        (void)cudaGraphExecDestroy(g->exec);
    }
    for (uint32_t i = 0; i < TL_CAPTURE_STREAMS_MAX; i++) {
        cu_scratch_free(&g->scratch[i]);
    }
    free(g);
}
