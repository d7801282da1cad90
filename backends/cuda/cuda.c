/* The CUDA backend: devices, errors, and the table. Kernels and their launchers are in the .cu
 * files, memory in memory.c, streams and recorded steps in stream.c. The runtime is linked
 * statically and finds the driver by itself, so a machine without one has no device and nothing
 * else happens. An error of the runtime other than lack of memory makes the device fail for good:
 * after a fault in a kernel the runtime answers nothing else anyway. */
#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const tl_backend tl_backend_cuda;

/* Of what this is compiled for. */
enum { CAPABILITY_MIN = 75 };

tl_err cu_enter(struct cu_dev *dev) {
    if (__atomic_load_n(&dev->failed, __ATOMIC_ACQUIRE) != 0) {
        return TL_ERR_DEVICE;
    }
    return cu_check(dev, cudaSetDevice(dev->ordinal), "cudaSetDevice");
}

tl_err cu_check(struct cu_dev *dev, cudaError_t err, const char *what) {
    if (err == cudaSuccess) {
        return TL_OK;
    }
    if (err == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return tl_fail(&dev->log, TL_ERR_MEMORY, "cuda: %s: %s", what, cudaGetErrorString(err));
    }
    if (__atomic_exchange_n(&dev->failed, 1u, __ATOMIC_ACQ_REL) == 0) {
        return tl_fail(&dev->log, TL_ERR_DEVICE, "cuda: %s: %s", what, cudaGetErrorString(err));
    }
    return TL_ERR_DEVICE;
}

static uint32_t attribute(int ordinal, enum cudaDeviceAttr what) {
    int value = 0;
    return cudaDeviceGetAttribute(&value, what, ordinal) == cudaSuccess ? (uint32_t)value : 0;
}

static uint32_t capability_of(int ordinal) {
    return 10 * attribute(ordinal, cudaDevAttrComputeCapabilityMajor) +
           attribute(ordinal, cudaDevAttrComputeCapabilityMinor);
}

/* The ordinal of the index-th card that can run our kernels, or -1; *n: how many there are. */
static int find_card(uint32_t index, uint32_t *n) {
    int n_cards = 0, found = -1;
    *n = 0;
    if (cudaGetDeviceCount(&n_cards) != cudaSuccess) {
        (void)cudaGetLastError();
        return -1;
    }
    for (int i = 0; i < n_cards; i++) {
        if (capability_of(i) >= CAPABILITY_MIN) {
            found = *n == index ? i : found;
            ++*n;
        }
    }
    return found;
}

static uint32_t dev_count(void) {
    uint32_t n;
    (void)find_card(0, &n);
    return n;
}

static void dev_close(tl_dev *dev) { free(dev); }

static tl_err dev_open(tl_dev **out, const struct tl_dev_params *params) {
    uint32_t n;
    const int ordinal = find_card(params->index, &n);
    if (ordinal < 0) {
        return TL_ERR_UNSUPPORTED;
    }
    struct cu_dev *const dev = calloc(1, sizeof *dev);
    if (dev == NULL) {
        return TL_ERR_MEMORY;
    }
    dev->base.backend = &tl_backend_cuda;
    dev->log = params->log;
    dev->ordinal = ordinal;
    dev->capability = capability_of(ordinal);
    dev->n_sms = attribute(ordinal, cudaDevAttrMultiProcessorCount);
    dev->shared_bytes_max = attribute(ordinal, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    dev->tuning = cu_tuning_of(dev->capability);
    dev->maps_registered = attribute(ordinal, cudaDevAttrCanUseHostPointerForRegisteredMem) != 0;
    /* The first call that needs the card: it may be taken by another process. */
    tl_err err = cu_enter(dev);
    if (err == TL_OK) {
        err = cu_check(dev, cudaFree(NULL), "the card cannot be opened");
    }
    if (err) {
        free(dev);
        return err;
    }
    *out = &dev->base;
    return TL_OK;
}

static void dev_caps(tl_dev *base, struct tl_dev_caps *out) {
    const struct cu_dev *const dev = (const struct cu_dev *)base;
    struct cudaDeviceProp properties;
    (void)cudaSetDevice(dev->ordinal);
    const bool named = cudaGetDeviceProperties(&properties, dev->ordinal) == cudaSuccess;
    snprintf(out->name, sizeof out->name, "%.96s, %u multiprocessors",
             named ? properties.name : "CUDA card", dev->n_sms);
    snprintf(out->kernels, sizeof out->kernels, "%s", dev->tuning->name);
    out->codebooks = true;
    size_t free_bytes = 0, total_bytes = 0;
    if (cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) {
        out->bytes_free = free_bytes;
        out->bytes_total = total_bytes;
    }
}

struct cu_exec cu_exec_of(const tl_stream *s) {
    const struct cu_dev *const dev = cu_dev_of(s);
    return (struct cu_exec){.stream = ((const struct cu_stream *)s)->stream,
                            .tuning = dev->tuning,
                            .n_sms = dev->n_sms,
                            .together = 1,
                            .shared_bytes_max = dev->shared_bytes_max};
}

/* Before an op that joins nothing. */
static tl_err begin_op(tl_stream *s) {
    TL_TRY(cu_settle(s));
    ((struct cu_stream *)s)->codes = (tl_view){0};
    return cu_enter(cu_dev_of(s));
}

/* The two shapes of a verb here; a function for each would be its name five times. */
#define VERB(name)                                                                                 \
    static tl_err name(tl_stream *s, const struct tl_##name *op) {                                 \
        const struct cu_exec x = cu_exec_of(s);                                                    \
        TL_TRY(begin_op(s));                                                                       \
        return cu_check(cu_dev_of(s), cu_##name(&x, op), #name);                                   \
    }

#define VERB_WITH_SCRATCH(name)                                                                    \
    static tl_err name(tl_stream *s, const struct tl_##name *op) {                                 \
        struct cu_exec x = cu_exec_of(s);                                                          \
        const uint64_t bytes = cu_##name##_scratch(&x, op);                                        \
        TL_TRY(begin_op(s));                                                                       \
        TL_TRY(cu_scratch_get(&x.scratch, (struct cu_stream *)s, bytes, #name));                   \
        return cu_check(cu_dev_of(s), cu_##name(&x, op), #name);                                   \
    }

/* Runs what is held, by one launch. */
static tl_err run_held(struct cu_stream *s) {
    struct cu_held *const held = &s->held;
    const void *ops[CU_TOGETHER_MAX];
    const uint32_t n = held->n;
    for (uint32_t i = 0; i < n; i++) {
        ops[i] = &held->ops[i];
    }
    held->n = 0;
    return n > 0 ? held->run(&s->base, ops, n) : TL_OK;
}

static tl_err together_begin(tl_stream *s) {
    TL_TRY(cu_settle(s));
    ((struct cu_stream *)s)->held.on = true;
    return TL_OK;
}

static tl_err together_end(tl_stream *s) {
    ((struct cu_stream *)s)->held.on = false;
    return run_held((struct cu_stream *)s);
}

/* Keeps an op for later, or runs it now. */
static tl_err hold_or_run(tl_stream *base, const void *op, size_t op_bytes,
                          tl_err (*run)(tl_stream *s, const void *const *ops, uint32_t n)) {
    struct cu_stream *const s = (struct cu_stream *)base;
    if (!s->held.on) {
        return run(base, &op, 1);
    }
    if (s->held.n == CU_TOGETHER_MAX || (s->held.n > 0 && s->held.run != run)) {
        TL_TRY(run_held(s));
    }
    s->held.run = run;
    memcpy(&s->held.ops[s->held.n++], op, op_bytes);
    return TL_OK;
}

/* A verb that takes ops of several sequences, as run_NAME; scratch bytes of one: 0 or a function.
 */
#define RUN_TOGETHER(name, scratch_bytes)                                                          \
    static tl_err run_##name(tl_stream *s, const void *const *ops, uint32_t n) {                   \
        const struct tl_##name *of[CU_TOGETHER_MAX];                                               \
        struct cu_exec x = cu_exec_of(s);                                                          \
        for (uint32_t i = 0; i < n; i++) {                                                         \
            of[i] = ops[i];                                                                        \
        }                                                                                          \
        x.together = n;                                                                            \
        x.scratch_each = tl_align_up(scratch_bytes, 256);                                          \
        TL_TRY(begin_op(s));                                                                       \
        TL_TRY(cu_scratch_get(&x.scratch, (struct cu_stream *)s, n *x.scratch_each, #name));       \
        return cu_check(cu_dev_of(s), cu_##name(&x, of, n), #name);                                \
    }

#define VERB_TOGETHER(name, scratch_bytes)                                                         \
    RUN_TOGETHER(name, scratch_bytes)                                                              \
    static tl_err name(tl_stream *s, const struct tl_##name *op) {                                 \
        return hold_or_run(s, op, sizeof *op, run_##name);                                         \
    }

VERB(gather)
RUN_TOGETHER(kv_encode, 0)
VERB_TOGETHER(attend, cu_attend_scratch(&x, of[0]))
VERB_WITH_SCRATCH(compress)
VERB_TOGETHER(key_score, cu_key_score_scratch(&x, of[0]))
VERB_TOGETHER(topk, cu_topk_scratch(&x, of[0]))
VERB_TOGETHER(attend_sketch, cu_attend_sketch_scratch(&x, of[0]))
VERB_TOGETHER(attend_slots, cu_attend_slots_scratch(&x, of[0]))
VERB_TOGETHER(fetch, cu_fetch_scratch(&x, of[0]))
VERB(merge)
VERB_WITH_SCRATCH(mass)
VERB(key_transpose)
VERB(channels)
VERB_WITH_SCRATCH(channel_fetch)
VERB(channel_score)
VERB(page_encode)
VERB(page_score)

static tl_err kv_encode(tl_stream *base, const struct tl_kv_encode *op) {
    const struct cu_stream *const s = (const struct cu_stream *)base;
    bool joined = false;
    if (!s->held.on) {
        TL_TRY(cu_pend_encode(base, op, &joined));
    }
    return joined ? TL_OK : hold_or_run(base, op, sizeof *op, run_kv_encode);
}

const tl_backend tl_backend_cuda = {
    .name = "cuda",
    .dev_count = dev_count,
    .dev_open = dev_open,
    .dev_close = dev_close,
    .dev_caps = dev_caps,
    .buf_alloc = cu_buf_alloc,
    .buf_free = cu_buf_free,
    .copy = cu_copy,
    .stream_open = cu_stream_open,
    .stream_close = cu_stream_close,
    .stream_sync = cu_stream_sync,
    .event_open = cu_event_open,
    .event_close = cu_event_close,
    .event_record = cu_event_record,
    .event_wait = cu_event_wait,
    .together_begin = together_begin,
    .together_end = together_end,
    .capture_begin = cu_capture_begin,
    .capture_end = cu_capture_end,
    .graph_run = cu_graph_run,
    .graph_close = cu_graph_close,
    .gather = gather,
    .matmul = cu_pend_matmul,
    .rmsnorm = cu_pend_rmsnorm,
    .rope = cu_pend_rope,
    .glu = cu_pend_glu,
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
