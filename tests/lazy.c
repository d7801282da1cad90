#include "lazy.h"

#include "core/schedule.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

enum { N_STREAMS_MAX = 32 };

struct lazy_event {
    tl_event base;
    uint64_t n_recorded, n_done; /* records enqueued, and the newest that has happened */
};

typedef enum kind { KIND_OP, KIND_RECORD, KIND_WAIT, KIND_GRAPH } kind;
struct entry {
    kind kind;
    struct tl_op op;
    struct lazy_event *event;
    uint64_t number; /* of the record, or the one waited for */
    struct lazy_graph *graph;
};
struct queue {
    struct entry *entries; /* owned */
    size_t n, cap, next;
};

struct lazy_graph {
    tl_graph base;
    struct queue queues[TL_CAPTURE_STREAMS_MAX];
    uint32_t n_queues;
};

struct lazy_buf {
    tl_buf base;
    tl_buf *inner;
    uint64_t n_uses; /* by ops that are queued or in a graph */
};

struct lazy_stream {
    tl_stream base;
    struct queue queue;
    struct queue *target; /* where ops go: the queue, or a graph's while it is recorded */
};

struct lazy_dev {
    tl_dev base;
    tl_dev *inner;
    tl_stream *inner_stream;
    struct lazy_stream *streams[N_STREAMS_MAX];
    struct lazy_graph *recording;
    struct tl_rng rng;
    bool has_graphs;
};

static uint64_t configured_seed = 1;
static bool configured_graphs = true;

void lazy_configure(uint64_t seed, bool has_graphs) {
    configured_seed = seed;
    configured_graphs = has_graphs;
}

/* ---- queues ---- */

static void push(struct queue *q, const struct entry *e) {
    if (q->n == q->cap) {
        q->cap = q->cap == 0 ? 64 : 2 * q->cap;
        q->entries = realloc(q->entries, q->cap * sizeof *q->entries);
        TL_ASSERT(q->entries != NULL);
    }
    q->entries[q->n++] = *e;
}

/* Calls fn once for every view of the op, however often it is listed. */
static void each_view(struct tl_op *op, void (*fn)(tl_view *view)) {
    struct tl_op_views views;
    tl_op_get_views(op, &views);
    for (uint32_t i = 0; i < views.n_reads; i++) {
        fn((tl_view *)(uintptr_t)views.reads[i]);
    }
    for (uint32_t i = 0; i < views.n_writes; i++) {
        bool listed = false;
        for (uint32_t j = 0; j < views.n_reads; j++) {
            listed |= views.reads[j] == views.writes[i];
        }
        if (!listed) {
            fn((tl_view *)(uintptr_t)views.writes[i]);
        }
    }
}

static void use(tl_view *view) { ((struct lazy_buf *)view->buf)->n_uses++; }
static void unuse(tl_view *view) { ((struct lazy_buf *)view->buf)->n_uses--; }
static void to_inner(tl_view *view) { view->buf = ((struct lazy_buf *)view->buf)->inner; }

static tl_err enqueue(tl_stream *s, struct tl_op op) {
    each_view(&op, use);
    push(((struct lazy_stream *)s)->target, &(struct entry){.kind = KIND_OP, .op = op});
    return TL_OK;
}

static bool is_ready(const struct queue *q) {
    if (q->next == q->n) {
        return false;
    }
    const struct entry *const e = &q->entries[q->next];
    return e->kind != KIND_WAIT || e->event->n_done >= e->number;
}

static tl_err run_op(struct lazy_dev *dev, const struct tl_op *op) {
    struct tl_op inner = *op;
    each_view(&inner, to_inner);
    if (op->verb == TL_VERB_KEY_SCORE) { /* not read, hence not listed, but there */
        to_inner(&inner.u.key_score.sketch.v);
        if (inner.u.key_score.sketch.v_book.buf != NULL) {
            to_inner(&inner.u.key_score.sketch.v_book);
        }
    } else if (op->verb == TL_VERB_MASS) {
        to_inner(&inner.u.mass.kv.v);
    }
    return tl_op_run(&inner, dev->inner_stream);
}

/* One entry of a graph or of a stream, but for a graph in a stream. */
static tl_err run_simple(struct lazy_dev *dev, struct entry *e) {
    if (e->kind == KIND_OP) {
        return run_op(dev, &e->op);
    }
    if (e->kind == KIND_RECORD) {
        e->event->n_done = e->number;
    }
    return TL_OK;
}

/* Any of the queues whose next entry may run; NULL where none may. */
static struct queue *draw(struct lazy_dev *dev, struct queue *const *queues, uint32_t n) {
    struct queue *ready[N_STREAMS_MAX];
    uint32_t n_ready = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (is_ready(queues[i])) {
            ready[n_ready++] = queues[i];
        }
    }
    return n_ready > 0 ? ready[rng_below(&dev->rng, n_ready)] : NULL;
}

static tl_err run_graph(struct lazy_dev *dev, struct lazy_graph *g) {
    struct queue *queues[TL_CAPTURE_STREAMS_MAX];
    for (uint32_t i = 0; i < g->n_queues; i++) {
        queues[i] = &g->queues[i];
        queues[i]->next = 0;
        for (size_t j = queues[i]->n; j-- > 0;) { /* its events have not happened in this run */
            struct entry *const e = &queues[i]->entries[j];
            if (e->kind == KIND_RECORD) {
                e->event->n_done = e->number - 1;
            }
        }
    }
    for (struct queue *q; (q = draw(dev, queues, g->n_queues)) != NULL;) {
        TL_TRY(run_simple(dev, &q->entries[q->next++]));
    }
    for (uint32_t i = 0; i < g->n_queues; i++) {
        TL_ASSERT(queues[i]->next == queues[i]->n); /* else the graph waits for itself */
    }
    return TL_OK;
}

static tl_err run_entry(struct lazy_dev *dev, struct entry *e) {
    if (e->kind == KIND_GRAPH) {
        return run_graph(dev, e->graph);
    }
    TL_TRY(run_simple(dev, e));
    if (e->kind == KIND_OP) {
        each_view(&e->op, unuse);
    }
    return TL_OK;
}

static tl_err stream_sync(tl_stream *base) {
    struct lazy_stream *const s = (struct lazy_stream *)base;
    struct lazy_dev *const dev = (struct lazy_dev *)base->dev;
    struct queue *queues[N_STREAMS_MAX];
    uint32_t n = 0;
    for (int i = 0; i < N_STREAMS_MAX; i++) {
        if (dev->streams[i] != NULL) {
            queues[n++] = &dev->streams[i]->queue;
        }
    }
    while (s->queue.next < s->queue.n) {
        struct queue *const q = draw(dev, queues, n);
        TL_ASSERT(q != NULL); /* else the streams wait for each other */
        TL_TRY(run_entry(dev, &q->entries[q->next++]));
    }
    s->queue.n = 0;
    s->queue.next = 0;
    return TL_OK;
}

/* ---- streams, events, graphs ---- */

static tl_err stream_open(tl_stream **out, tl_dev *base) {
    struct lazy_dev *const dev = (struct lazy_dev *)base;
    struct lazy_stream *const s = calloc(1, sizeof *s);
    TL_ASSERT(s != NULL);
    s->base.dev = base;
    s->target = &s->queue;
    int i = 0;
    while (i < N_STREAMS_MAX && dev->streams[i] != NULL) {
        i++;
    }
    TL_ASSERT(i < N_STREAMS_MAX);
    dev->streams[i] = s;
    *out = &s->base;
    return TL_OK;
}

static void stream_close(tl_stream *base) {
    struct lazy_stream *const s = (struct lazy_stream *)base;
    struct lazy_dev *const dev = (struct lazy_dev *)base->dev;
    for (int i = 0; i < N_STREAMS_MAX; i++) {
        dev->streams[i] = dev->streams[i] == s ? NULL : dev->streams[i];
    }
    TL_ASSERT(s->queue.next == s->queue.n);
    free(s->queue.entries);
    free(s);
}

static tl_err event_open(tl_event **out, tl_dev *dev) {
    struct lazy_event *const e = calloc(1, sizeof *e);
    TL_ASSERT(e != NULL);
    e->base.dev = dev;
    *out = &e->base;
    return TL_OK;
}

static void event_close(tl_event *e) { free(e); }

static tl_err event_record(tl_stream *s, tl_event *base) {
    struct lazy_event *const e = (struct lazy_event *)base;
    push(((struct lazy_stream *)s)->target,
         &(struct entry){.kind = KIND_RECORD, .event = e, .number = ++e->n_recorded});
    return TL_OK;
}

static tl_err event_wait(tl_stream *s, tl_event *base) {
    struct lazy_event *const e = (struct lazy_event *)base;
    push(((struct lazy_stream *)s)->target,
         &(struct entry){.kind = KIND_WAIT, .event = e, .number = e->n_recorded});
    return TL_OK;
}

static tl_err capture_begin(tl_stream *const *streams, uint32_t n) {
    struct lazy_dev *const dev = (struct lazy_dev *)streams[0]->dev;
    if (!dev->has_graphs) {
        return TL_ERR_UNSUPPORTED;
    }
    struct lazy_graph *const g = calloc(1, sizeof *g);
    TL_ASSERT(g != NULL && dev->recording == NULL);
    g->base.dev = &dev->base;
    g->n_queues = n;
    for (uint32_t i = 0; i < n; i++) {
        struct lazy_stream *const s = (struct lazy_stream *)streams[i];
        TL_ASSERT(s->queue.next == s->queue.n);
        s->target = &g->queues[i];
    }
    dev->recording = g;
    return TL_OK;
}

static tl_err capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n) {
    struct lazy_dev *const dev = (struct lazy_dev *)streams[0]->dev;
    for (uint32_t i = 0; i < n; i++) {
        struct lazy_stream *const s = (struct lazy_stream *)streams[i];
        s->target = &s->queue;
    }
    *out = &dev->recording->base;
    dev->recording = NULL;
    return TL_OK;
}

static tl_err graph_run(tl_graph *g, tl_stream *s) {
    push(&((struct lazy_stream *)s)->queue,
         &(struct entry){.kind = KIND_GRAPH, .graph = (struct lazy_graph *)g});
    return TL_OK;
}

static void graph_close(tl_graph *base) {
    struct lazy_graph *const g = (struct lazy_graph *)base;
    for (uint32_t i = 0; i < g->n_queues; i++) {
        for (size_t j = 0; j < g->queues[i].n; j++) {
            if (g->queues[i].entries[j].kind == KIND_OP) {
                each_view(&g->queues[i].entries[j].op, unuse);
            }
        }
        free(g->queues[i].entries);
    }
    free(g);
}

/* ---- device and memory ---- */

static uint32_t dev_count(void) { return 1; }

static tl_err dev_open(tl_dev **out, const struct tl_dev_params *params) {
    struct lazy_dev *const dev = calloc(1, sizeof *dev);
    TL_ASSERT(dev != NULL);
    dev->base.backend = &lazy_backend;
    dev->rng.state = configured_seed;
    dev->has_graphs = configured_graphs;
    tl_err err = tl_dev_open(&dev->inner, tl_backend_find("cpu"), params);
    if (!err) {
        err = tl_stream_open(&dev->inner_stream, dev->inner);
    }
    if (err) {
        tl_dev_close(&dev->inner);
        free(dev);
        return err;
    }
    *out = &dev->base;
    return TL_OK;
}

static void dev_close(tl_dev *base) {
    struct lazy_dev *const dev = (struct lazy_dev *)base;
    for (int i = 0; i < N_STREAMS_MAX; i++) {
        TL_ASSERT(dev->streams[i] == NULL);
    }
    tl_stream_close(&dev->inner_stream);
    tl_dev_close(&dev->inner);
    free(dev);
}

static void dev_caps(tl_dev *base, struct tl_dev_caps *out) {
    tl_dev_get_caps(((struct lazy_dev *)base)->inner, out);
    out->unified = false;
}

static tl_err buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem) {
    struct lazy_buf *const buf = calloc(1, sizeof *buf);
    TL_ASSERT(buf != NULL);
    const tl_err err = tl_buf_alloc(&buf->inner, ((struct lazy_dev *)dev)->inner, bytes, mem);
    if (err) {
        free(buf);
        return err;
    }
    buf->base = (tl_buf){.dev = dev, .bytes = bytes, .mem = mem};
    buf->base.host = mem == TL_MEM_HOST ? buf->inner->host : NULL;
    *out = &buf->base;
    return TL_OK;
}

static void buf_free(tl_buf *base) {
    struct lazy_buf *const buf = (struct lazy_buf *)base;
    TL_ASSERT(buf->n_uses == 0);
    tl_buf_free(&buf->inner);
    free(buf);
}

/* ---- verbs ---- */

static tl_err copy(tl_stream *s, const tl_view *dst, const tl_view *src) {
    return enqueue(s, (struct tl_op){.verb = TL_VERB_COPY, .u.copy = {.dst = *dst, .src = *src}});
}

#define QUEUED(name, VERB)                                                                         \
    static tl_err name(tl_stream *s, const struct tl_##name *op) {                                 \
        return enqueue(s, (struct tl_op){.verb = TL_VERB_##VERB, .u.name = *op});                  \
    }
QUEUED(gather, GATHER)
QUEUED(matmul, MATMUL)
QUEUED(rmsnorm, RMSNORM)
QUEUED(rope, ROPE)
QUEUED(glu, GLU)
QUEUED(kv_encode, KV_ENCODE)
QUEUED(attend, ATTEND)
QUEUED(compress, COMPRESS)
QUEUED(key_score, KEY_SCORE)
QUEUED(topk, TOPK)
QUEUED(attend_sketch, ATTEND_SKETCH)
QUEUED(attend_slots, ATTEND_SLOTS)
QUEUED(fetch, FETCH)
QUEUED(merge, MERGE)
QUEUED(mass, MASS)
QUEUED(key_transpose, KEY_TRANSPOSE)
QUEUED(channels, CHANNELS)
QUEUED(channel_fetch, CHANNEL_FETCH)
QUEUED(channel_score, CHANNEL_SCORE)
QUEUED(page_encode, PAGE_ENCODE)
QUEUED(page_score, PAGE_SCORE)
_Static_assert(TL_VERB_COUNT == 22, "a new verb: a line above, one below, and count it here");

const tl_backend lazy_backend = {
    .name = "lazy",
    .dev_count = dev_count,
    .dev_open = dev_open,
    .dev_close = dev_close,
    .dev_caps = dev_caps,
    .buf_alloc = buf_alloc,
    .buf_free = buf_free,
    .copy = copy,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_sync = stream_sync,
    .event_open = event_open,
    .event_close = event_close,
    .event_record = event_record,
    .event_wait = event_wait,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_run = graph_run,
    .graph_close = graph_close,
    .gather = gather,
    .matmul = matmul,
    .rmsnorm = rmsnorm,
    .rope = rope,
    .glu = glu,
    .kv_encode = kv_encode,
    .attend = attend,
    .compress = compress,
    .key_score = key_score,
    .topk = topk,
    .attend_sketch = attend_sketch,
    .attend_slots = attend_slots,
    .fetch = fetch,
    .merge = merge,
    .mass = mass,
    .key_transpose = key_transpose,
    .channels = channels,
    .channel_fetch = channel_fetch,
    .channel_score = channel_score,
    .page_encode = page_encode,
    .page_score = page_score,
};
