/* Events, and recorded steps. An event is a value of a stream's timeline semaphore: to record one
 * is to submit what stands before it.
 *
 * A graph is command buffers recorded once. Where its streams share a queue there is one, with the
 * ops of all streams in the order they came, and the hazards alone make barriers: the streams'
 * events say nothing that these do not. Where they have queues of their own, each stream is a lane
 * of segments, cut where an event is recorded or waited for; the graph's own timeline of each lane
 * counts segments, and a segment waits for the counts that its events stood for. */
#include "vulkan.h"

#include <stdlib.h>
#include <string.h>

enum { LANES_MAX = TL_CAPTURE_STREAMS_MAX };

struct vk_event {
    tl_event base;         /* first */
    VkSemaphore semaphore; /* borrowed, of the stream; not of a capture */
    uint64_t value;        /* in a capture: segments of the lane */
    uint32_t lane;
};

struct segment {
    uint32_t lane;
    uint64_t ordinal; /* among its lane's, from 1 */
    VkCommandBuffer cmd;
    uint64_t waits[LANES_MAX]; /* for so many segments of each lane */
};

struct vk_graph {
    tl_graph base; /* first */
    uint32_t n_lanes;
    struct vk_queue *queues[LANES_MAX];
    VkCommandPool pools[LANES_MAX];
    VkSemaphore timelines[LANES_MAX]; /* of lanes where there are two */
    struct vk_recorder recorders[LANES_MAX];
    struct vk_hazards hazards[LANES_MAX];
    uint64_t n_done[LANES_MAX];           /* segments closed */
    uint64_t waits[LANES_MAX][LANES_MAX]; /* of each lane's next segment */
    bool open[LANES_MAX];
    struct segment *segments; /* owned, in the order they were closed */
    uint32_t n_segments, cap;
    uint64_t n_runs;
    VkSemaphore last; /* borrowed: of the stream that ran it last, and its value then */
    uint64_t last_value;
};

/* ---- events ---- */

tl_err vk_event_open(tl_event **out, tl_dev *dev) {
    struct vk_event *const e = calloc(1, sizeof *e);
    if (e == NULL) {
        return TL_ERR_MEMORY;
    }
    e->base.dev = dev;
    *out = &e->base;
    return TL_OK;
}

void vk_event_close(tl_event *e) { free(e); }

/* ---- segments ---- */

static tl_err open_segment(struct vk_dev *dev, struct vk_graph *g, uint32_t lane) {
    struct vk_recorder *const r = &g->recorders[lane];
    const VkCommandBufferAllocateInfo info = {.sType =
                                                  VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                              .commandPool = g->pools[lane],
                                              .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                              .commandBufferCount = 1};
    TL_TRY(VK_CALL(dev, AllocateCommandBuffers, VK_ERROR_OUT_OF_HOST_MEMORY,
                   (dev->handle, &info, &r->cmd)));
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    TL_TRY(VK_CALL(dev, BeginCommandBuffer, VK_ERROR_OUT_OF_HOST_MEMORY, (r->cmd, &begin)));
    vk_barrier(dev, r->cmd);
    if (dev->times != NULL && g->n_lanes == 1) {
        TL_TRY(vk_times_open(dev, r->cmd, &r->times));
    }
    g->open[lane] = true;
    return TL_OK;
}

/* What is open of a lane becomes a segment; an empty one too, where it waits for something. */
static tl_err close_segment(struct vk_dev *dev, struct vk_graph *g, uint32_t lane) {
    if (!g->open[lane]) {
        return TL_OK;
    }
    if (g->n_segments == g->cap) {
        const uint32_t cap = g->cap == 0 ? 64 : 2 * g->cap;
        struct segment *const all = realloc(g->segments, cap * sizeof *all);
        if (all == NULL) {
            return TL_ERR_MEMORY;
        }
        g->segments = all;
        g->cap = cap;
    }
    const VkCommandBuffer cmd = g->recorders[lane].cmd;
    vk_barrier(dev, cmd);
    TL_TRY(VK_CALL(dev, EndCommandBuffer, VK_ERROR_OUT_OF_HOST_MEMORY, (cmd)));
    struct segment *const s = &g->segments[g->n_segments++];
    *s = (struct segment){.lane = lane, .ordinal = ++g->n_done[lane], .cmd = cmd};
    memcpy(s->waits, g->waits[lane], sizeof s->waits);
    memset(g->waits[lane], 0, sizeof g->waits[lane]);
    g->open[lane] = false;
    return TL_OK;
}

tl_err vk_graph_recorder(struct vk_stream *s, struct vk_recorder **out) {
    struct vk_graph *const g = s->graph;
    if (!g->open[s->lane]) {
        TL_TRY(open_segment(vk_dev_of(&s->base), g, s->lane));
    }
    *out = &g->recorders[s->lane];
    return TL_OK;
}

/* ---- events, continued ---- */

static tl_err record(tl_stream *base, tl_event *event) {
    struct vk_stream *const s = (struct vk_stream *)base;
    struct vk_event *const e = (struct vk_event *)event;
    if (s->graph != NULL) {
        if (s->graph->n_lanes > 1) {
            TL_TRY(close_segment(vk_dev_of(base), s->graph, s->lane));
        }
        e->lane = s->lane;
        e->value = s->graph->n_done[s->lane];
        return TL_OK;
    }
    TL_TRY(vk_stream_flush(s));
    e->semaphore = s->timeline;
    e->value = s->submitted;
    return TL_OK;
}

tl_err vk_event_record(tl_stream *s, tl_event *e) {
    const tl_err err = record(s, e);
    return err ? vk_op_failed(vk_dev_of(s), err) : TL_OK;
}

static tl_err wait(tl_stream *base, tl_event *event) {
    struct vk_stream *const s = (struct vk_stream *)base;
    const struct vk_event *const e = (const struct vk_event *)event;
    if (s->graph == NULL) {
        return e->semaphore == s->timeline ? TL_OK : vk_stream_wait(s, e->semaphore, e->value);
    }
    if (s->graph->n_lanes > 1 && e->lane != s->lane) {
        TL_TRY(close_segment(vk_dev_of(base), s->graph, s->lane));
        uint64_t *const wait = &s->graph->waits[s->lane][e->lane];
        *wait = tl_max_u64(*wait, e->value);
    }
    return TL_OK;
}

tl_err vk_event_wait(tl_stream *s, tl_event *e) {
    const tl_err err = wait(s, e);
    return err ? vk_op_failed(vk_dev_of(s), err) : TL_OK;
}

/* ---- capture ---- */

static void free_graph(struct vk_dev *dev, struct vk_graph *g) {
    for (uint32_t i = 0; i < g->n_lanes; i++) {
        vk_recorder_free(dev, &g->recorders[i]);
        dev->api->DestroySemaphore(dev->handle, g->timelines[i], NULL);
        dev->api->DestroyCommandPool(dev->handle, g->pools[i], NULL);
    }
    free(g->segments);
    free(g);
}

static tl_err open_lane(struct vk_dev *dev, struct vk_graph *g, uint32_t lane) {
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .queueFamilyIndex = g->queues[lane]->family};
    TL_TRY(VK_CALL(dev, CreateCommandPool, VK_ERROR_OUT_OF_HOST_MEMORY,
                   (dev->handle, &pool, NULL, &g->pools[lane])));
    g->recorders[lane].hazards = &g->hazards[lane];
    return vk_timeline_open(dev, &g->timelines[lane]);
}

tl_err vk_capture_begin(tl_stream *const *streams, uint32_t n) {
    struct vk_dev *const dev = vk_dev_of(streams[0]);
    struct vk_graph *const g = calloc(1, sizeof *g);
    if (g == NULL) {
        return TL_ERR_MEMORY;
    }
    g->base.dev = &dev->base;
    const struct vk_stream *const first = (const struct vk_stream *)streams[0];
    const struct vk_stream *const other = (const struct vk_stream *)streams[n - 1];
    g->n_lanes = first->queue != other->queue ? n : 1;
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < g->n_lanes && err == TL_OK; i++) {
        g->queues[i] = ((const struct vk_stream *)streams[i])->queue;
        err = open_lane(dev, g, i);
    }
    if (err) {
        free_graph(dev, g);
        return err;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct vk_stream *const s = (struct vk_stream *)streams[i];
        s->graph = g;
        s->lane = g->n_lanes > 1 ? i : 0;
    }
    return TL_OK;
}

tl_err vk_capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n) {
    struct vk_dev *const dev = vk_dev_of(streams[0]);
    struct vk_graph *const g = ((struct vk_stream *)streams[0])->graph;
    tl_err err = vk_has_failed(dev) ? TL_ERR_DEVICE : TL_OK;
    for (uint32_t i = 0; i < g->n_lanes && err == TL_OK; i++) {
        bool waits = false;
        for (uint32_t j = 0; j < g->n_lanes; j++) {
            waits |= g->waits[i][j] > 0;
        }
        if (!g->open[i] && waits) {
            err = open_segment(dev, g, i);
        }
        err = err == TL_OK ? close_segment(dev, g, i) : err;
    }
    for (uint32_t i = 0; i < n; i++) {
        ((struct vk_stream *)streams[i])->graph = NULL;
    }
    if (err) {
        free_graph(dev, g);
        return err;
    }
    *out = &g->base;
    return TL_OK;
}

/* ---- running ---- */

/* One segment on its lane's queue; its counts go on from where the last run's ended. */
static tl_err submit_segment(struct vk_dev *dev, struct vk_graph *g, const struct segment *s,
                             VkSemaphore start, uint64_t start_value) {
    VkSemaphore waits[LANES_MAX + 1];
    uint64_t values[LANES_MAX + 1];
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_lanes; i++) {
        if (s->waits[i] > 0) {
            waits[n] = g->timelines[i];
            values[n++] = g->n_runs * g->n_done[i] + s->waits[i];
        }
    }
    if (s->ordinal == 1 && start_value > 0) {
        waits[n] = start;
        values[n++] = start_value;
    }
    const struct vk_submission submission = {
        .queue = g->queues[s->lane],
        .cmd = s->cmd,
        .waits = waits,
        .wait_values = values,
        .n_waits = n,
        .signal = g->timelines[s->lane],
        .signal_value = g->n_runs * g->n_done[s->lane] + s->ordinal,
    };
    return vk_submit(dev, &submission);
}

/* Behind the last segment of every lane. */
static tl_err join_lanes(struct vk_stream *s, struct vk_graph *g) {
    for (uint32_t i = 0; i < g->n_lanes; i++) {
        if (g->n_done[i] > 0) {
            TL_TRY(vk_stream_wait(s, g->timelines[i], (g->n_runs + 1) * g->n_done[i]));
        }
    }
    return vk_stream_submit(s, VK_NULL_HANDLE);
}

static tl_err run(tl_graph *base, tl_stream *stream) {
    struct vk_graph *const g = (struct vk_graph *)base;
    struct vk_stream *const s = (struct vk_stream *)stream;
    struct vk_dev *const dev = vk_dev_of(stream);
    TL_TRY(vk_stream_flush(s));
    if (g->n_lanes > 1 && s->n_waits > 0) { /* what lanes wait for is one value of the stream's */
        TL_TRY(vk_stream_submit(s, VK_NULL_HANDLE));
    }
    if (g->last_value > 0) { /* its command buffers may not be in the queue twice */
        TL_TRY(vk_timeline_wait(dev, g->last, g->last_value));
        if (g->n_runs > 1) { /* in their first run many drivers compile kernels */
            vk_times_read(dev, g->recorders[0].times);
        }
    }
    s->hazards.n = 0; /* the graph's own barriers stand at both ends */
    if (g->n_lanes == 1) {
        TL_TRY(g->n_segments > 0 ? vk_stream_submit(s, g->segments[0].cmd) : TL_OK);
    } else {
        for (uint32_t i = 0; i < g->n_segments; i++) {
            TL_TRY(submit_segment(dev, g, &g->segments[i], s->timeline, s->submitted));
        }
        TL_TRY(join_lanes(s, g));
    }
    g->n_runs++;
    g->last = s->timeline;
    g->last_value = s->submitted;
    return TL_OK;
}

tl_err vk_graph_run(tl_graph *g, tl_stream *s) {
    const tl_err err = run(g, s);
    return err ? vk_op_failed(vk_dev_of(s), err) : TL_OK;
}

void vk_graph_close(tl_graph *base) {
    struct vk_graph *const g = (struct vk_graph *)base;
    struct vk_dev *const dev = (struct vk_dev *)base->dev;
    /* Not a wait for its last value: Mesa's queue thread (22.3) still touches a semaphore that was
     * waited for after it signalled the next one. */
    vk_settle(dev);
    free_graph(dev, g);
}
