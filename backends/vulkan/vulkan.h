/* Private to the Vulkan backend: the device, its memory, streams, pipelines, and what an op is made
 * of. No decisions are here: which rows, which tier, which codec came from core.
 *
 * A device may be shared by threads (sessions), a stream may not: what several streams use is
 * behind the device's lock. Every call that can fail goes through VK_RESULT, which fails on purpose
 * where a test asked for it. */
#ifndef VK_VULKAN_H
#define VK_VULKAN_H

#include "api.h"
#include "hazard.h"

#include "core/backend.h"

#include <pthread.h>

struct vk_dev;

/* ---- what a device offers ---- */

/* Anything beyond the base: used when it is there. The order is that of vk_feature_info. */
typedef enum vk_feature {
    VK_HAS_PUSH_DESCRIPTORS,
    VK_HAS_SUBGROUP_SIZE_CONTROL,
    VK_HAS_HOST_IMPORT,
    VK_HAS_MEMORY_BUDGET,
    VK_HAS_SECOND_QUEUE,
    VK_HAS_INT_DOT,
    VK_HAS_FLOAT16,
    VK_HAS_COOPERATIVE_MATRIX,
    VK_HAS_MAPPED_DEVICE_MEMORY,
    VK_FEATURE_COUNT,
} vk_feature;

/* What tests make a device pretend (tl_dev_params.debug): names with commas between. */
struct vk_debug {
    bool validate; /* the Khronos layer with synchronisation validation; any message is a failure */
    bool gpuav;    /* and its GPU-assisted validation; implies validate */
    bool stage;    /* device memory cannot be mapped, nothing is imported */
    bool as_gpu;   /* kernels, and their shapes, of hardware devices */
    bool two_queues; /* the one queue stands for two */
    bool pools;      /* no push descriptors */
    bool times;      /* what each shader takes in recorded steps goes to the log: times.c */
    uint64_t range;  /* bytes of a window of what may need windows; 0: the device's */
    /* Limits of a lesser driver; 0: the device's. A binding that is larger fails its op. */
    uint64_t binding; /* bytes: maxStorageBufferRange */
    uint64_t alloc;   /* bytes: maxMemoryAllocationSize */
    uint64_t heap;    /* bytes of all memory; what is more is refused as the driver would */
    uint64_t align;   /* bytes: minStorageBufferOffsetAlignment */
    /* The n-th call that can fail, counted from 1 since dev_open, does; 0: none. */
    uint64_t fail; /* that one, as its kind fails */
    uint64_t lost; /* it and all later ones: the device is lost */
    uint64_t oom;  /* it and all later ones that allocate: no memory */
    bool dumb;     /* the driver compiles no kernel */
    bool old;      /* the device is of Vulkan 1.1 */
};

struct vk_memory_types {
    uint32_t device, host; /* indices */
    bool device_mapped;    /* the host may read and write `device` memory */
};

struct vk_info {
    char name[96], driver[64];
    VkPhysicalDeviceType type;
    uint8_t uuid[2 * VK_UUID_SIZE]; /* driver, device */
    bool has[VK_FEATURE_COUNT];
    bool software;         /* a driver that computes on the host */
    bool unified;          /* TL_MEM_DEVICE is host memory */
    uint64_t range_max;    /* bytes of a binding */
    uint64_t alloc_max;    /* bytes of an allocation */
    uint32_t offset_align; /* of a binding */
    uint64_t import_align;
    uint32_t subgroup; /* lanes */
    uint32_t group_max, shared_bytes;
    uint32_t matrix[3]; /* cooperative matrices: M, N, K of halves with float sums, by a subgroup */
    double timestamp_ns;              /* a timestamp's unit */
    uint32_t family, transfer_family; /* queues; the same where there is one */
    uint64_t heap_bytes;
    uint32_t heap; /* of device memory */
    struct vk_memory_types types;
};

/* NULL: the device can run us. Else what it lacks; info is filled as far as known. */
const char *vk_info_read(struct vk_info *info, const struct vk_api *api, VkPhysicalDevice device,
                         const struct vk_debug *debug);
/* The ops' sentence on what a missing feature costs. */
const char *vk_feature_name(vk_feature f);
const char *vk_feature_cost(vk_feature f);

/* ---- instance.c ---- */

/* An instance and its devices, best first. */
struct vk_instance {
    struct vk_api api;
    VkInstance handle;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice *devices; /* owned */
    uint32_t n_devices, n_hardware;
};

/* user: of vk_on_message, when validating. On failure nothing is left and *why says what is missing
 * (a static sentence). */
bool vk_instance_open(struct vk_instance *out, const struct vk_debug *debug, struct vk_dev *user,
                      const char **why);
void vk_instance_close(struct vk_instance *instance);
VKAPI_ATTR VkBool32 VKAPI_CALL vk_on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                             VkDebugUtilsMessageTypeFlagsEXT types,
                                             const VkDebugUtilsMessengerCallbackDataEXT *data,
                                             void *user);

/* ---- the device ---- */

struct vk_queue {
    VkQueue handle;
    uint32_t family;
    uint32_t n_streams;
};

struct vk_dev {
    tl_dev base; /* first */
    struct vk_instance instance;
    struct vk_api *api; /* of instance */
    VkPhysicalDevice physical;
    VkDevice handle;
    struct vk_info info;
    struct vk_debug debug;
    struct vk_queue queues[2]; /* compute, transfer; may be one and the same */
    pthread_mutex_t lock;      /* queues, memory, pipelines */
    struct vk_block *blocks;   /* owned, memory.c */
    uint64_t allocated_bytes;
    struct vk_pipelines *pipelines; /* owned, pipeline.c */
    char *cache_dir;                /* owned; NULL: no cache on disk */
    struct vk_time *times;          /* owned: VK_SHADER_COUNT sums, debug.times only */
    struct vk_state *state;         /* owned, device.c: what threads share without the lock */
    tl_log log;
};

/* The result of a Vulkan call as an error: its sentence goes to the log, and a lost device stays
 * lost and says no more. `what` is the function's name. */
tl_err vk_check(struct vk_dev *dev, VkResult result, const char *what);
/* A device that failed stays so; messages are the validation layer's. */
bool vk_has_failed(const struct vk_dev *dev);
void vk_set_failed(struct vk_dev *dev);
bool vk_has_messages(const struct vk_dev *dev);
/* Whether a test wants the next call to fail, whose kind fails with `failure`; and as what it does.
 */
bool vk_injected(struct vk_dev *dev, VkResult failure);
VkResult vk_failure(const struct vk_dev *dev, VkResult failure);

/* VK_RESULT(dev, CreateBuffer, VK_ERROR_..., (args)): what the call gives, or the failure that a
 * test asked for instead of it. A macro, since the call must not be made then. VK_CALL: as an
 * error. */
#define VK_RESULT(dev, name, failure, args)                                                        \
    (vk_injected((dev), (failure)) ? vk_failure((dev), (failure)) : (dev)->api->name args)
#define VK_CALL(dev, name, failure, args)                                                          \
    vk_check((dev), VK_RESULT(dev, name, failure, args), "vk" #name)

/* ---- memory.c ---- */

/* One VkDeviceMemory with one VkBuffer over all of it, given out in spans. */
struct vk_block {
    struct vk_block *next;
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint8_t *map; /* NULL: not for the host */
    void *pages;  /* owned mapping that was imported, or NULL */
    uint64_t bytes;
    uint64_t top;          /* bytes from here on were never given out: zero */
    struct vk_span *spans; /* owned, in order, no gaps */
    uint32_t type;         /* memory type */
    bool wrapped;          /* somebody else's memory, one span */
};

struct vk_buf {
    tl_buf base; /* first */
    struct vk_block *block;
    uint64_t off; /* in the block's buffer */
};

tl_err vk_buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem);
tl_err vk_buf_wrap(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes);
void vk_buf_free(tl_buf *buf);
void vk_memory_close(struct vk_dev *dev);
/* Total and free bytes of the memory that TL_MEM_DEVICE comes from; 0: not known. */
void vk_memory_budget(struct vk_dev *dev, uint64_t *total, uint64_t *free_bytes);

/* ---- pipeline.c ---- */

typedef enum vk_shader {
    VK_SHADER_GATHER,
    VK_SHADER_MATMUL,
    VK_SHADER_MATMUL_HOST,
    VK_SHADER_MATMUL_TILE,
    VK_SHADER_MATMUL_COOP,
    VK_SHADER_RMSNORM,
    VK_SHADER_ROPE,
    VK_SHADER_GLU,
    VK_SHADER_KV_ENCODE,
    VK_SHADER_ATTEND,
    VK_SHADER_ATTEND_HOST,
    VK_SHADER_ATTEND_TILE,
    VK_SHADER_ATTEND_JOIN,
    VK_SHADER_MERGE,
    VK_SHADER_COMPRESS,
    VK_SHADER_KEY_SCORE,
    VK_SHADER_KEY_SCORE_HOST,
    VK_SHADER_TOPK,
    VK_SHADER_ATTEND_SKETCH,
    VK_SHADER_ATTEND_SKETCH_HOST,
    VK_SHADER_FETCH,
    VK_SHADER_FETCH_ROWS,
    VK_SHADER_MASS_SCORE,
    VK_SHADER_MASS,
    VK_SHADER_KEY_TRANSPOSE,
    VK_SHADER_CHANNELS,
    VK_SHADER_CHANNEL_PLACE,
    VK_SHADER_CHANNEL_ROWS,
    VK_SHADER_CHANNEL_SCORE,
    VK_SHADER_PAGE_ENCODE,
    VK_SHADER_PAGE_SCORE,
    VK_SHADER_VQ_TURN,
    VK_SHADER_VQ_SCALE,
    VK_SHADER_VQ_ENCODE,
    VK_SHADER_VQ_TABLE,
    VK_SHADER_VQ_SCORE,
    VK_SHADER_VQ_ATTEND,
    VK_SHADER_COUNT,
} vk_shader;

enum {
    VK_SPECS_MAX = 8,
    VK_BINDINGS_MAX = 12,
    VK_PUSH_BYTES = 128,
};

/* A shader with its specialisation constants, numbers 0 .. n_specs - 1; 0 is the workgroup's size,
 * 1 the subgroup's, as in common.glsl. */
struct vk_variant {
    vk_shader shader;
    uint32_t specs[VK_SPECS_MAX], n_specs;
};

/* ---- times.c ---- */

/* What a shader's dispatches took together. */
struct vk_time {
    uint64_t n;
    double ns;
};
struct vk_times; /* timestamps of one command buffer; NULL everywhere: none are wanted */
tl_err vk_times_open(struct vk_dev *dev, VkCommandBuffer cmd, struct vk_times **out);
void vk_times_close(struct vk_dev *dev, struct vk_times *t);
void vk_times_note(struct vk_dev *dev, struct vk_times *t, VkCommandBuffer cmd, vk_shader shader);
/* After a run that is done. */
void vk_times_read(struct vk_dev *dev, struct vk_times *t);
void vk_times_say(const struct vk_dev *dev);

struct vk_pipeline {
    VkPipeline handle;
    VkPipelineLayout layout;
    VkDescriptorSetLayout set_layout;
    uint32_t n_bindings;
};

const char *vk_shader_name(vk_shader shader);
/* Whether this build's glslc could compile it. */
bool vk_shader_built(vk_shader shader);
tl_err vk_pipelines_open(struct vk_dev *dev);
void vk_pipelines_close(struct vk_dev *dev);
/* Made at its first use, kept until the device closes. */
tl_err vk_pipeline_get(struct vk_dev *dev, const struct vk_variant *variant,
                       const struct vk_pipeline **out);

/* ---- stream.c ---- */

/* Bytes of a view as a shader sees them: a binding begins where the device allows, and `first` is
 * how many bytes further the view's do. */
struct vk_binding {
    VkBuffer buffer;
    uint64_t off, bytes;
    uint32_t first;
    bool writes;
};

/* One dispatch. */
struct vk_call {
    struct vk_variant variant;
    struct vk_binding bindings[VK_BINDINGS_MAX];
    uint32_t n_bindings;
    uint32_t push[VK_PUSH_BYTES / 4], n_push;
    uint32_t groups[3];
};

/* Where commands go: a stream's own buffers, or a graph that is being captured. */
struct vk_recorder {
    VkCommandBuffer cmd;
    struct vk_hazards *hazards; /* borrowed: of the stream, or of the graph's lane */
    VkDescriptorPool *pools;    /* owned; only without push descriptors */
    uint32_t n_pools, n_sets;   /* sets taken of the newest pool */
    uint32_t n_ops;
    struct vk_times *times; /* owned, or NULL */
};

enum { VK_RING = 3, VK_WAITS_MAX = 4 };

/* What goes into a queue at once; cmd NULL: only the semaphores. */
struct vk_submission {
    const struct vk_queue *queue;
    VkCommandBuffer cmd;
    const VkSemaphore *waits;
    const uint64_t *wait_values;
    uint32_t n_waits;
    VkSemaphore signal;
    uint64_t signal_value;
};

struct vk_stream {
    tl_stream base; /* first */
    struct vk_queue *queue;
    VkCommandPool pool;
    VkSemaphore timeline;
    uint64_t submitted; /* the timeline's value when all that was submitted is done */
    struct vk_recorder ring[VK_RING];
    uint64_t ring_values[VK_RING];   /* of the timeline, when that buffer is free again */
    uint32_t now;                    /* of ring; open when ring[now].n_ops > 0 */
    struct vk_hazards hazards;       /* of the stream, across its command buffers */
    VkSemaphore waits[VK_WAITS_MAX]; /* of the next submission */
    uint64_t wait_values[VK_WAITS_MAX];
    uint32_t n_waits;
    struct vk_graph *graph; /* borrowed: the one being captured, or NULL */
    uint32_t lane;          /* of it */
    tl_buf *scratch[2][24]; /* owned: what ops need between their dispatches, grown by doubling */
    uint32_t n_scratch[2];
};

tl_err vk_stream_open(tl_stream **out, tl_dev *dev);
void vk_stream_close(tl_stream *s);
tl_err vk_stream_sync(tl_stream *s);
tl_err vk_copy(tl_stream *s, const tl_view *dst, const tl_view *src);
/* The first `bytes` of buf become zero. */
tl_err vk_zero(tl_stream *s, const struct vk_buf *buf, uint64_t bytes);

/* Returns when nothing runs any more on any queue; at once where the device is lost. */
void vk_settle(struct vk_dev *dev);
tl_err vk_timeline_open(struct vk_dev *dev, VkSemaphore *out);
tl_err vk_timeline_wait(struct vk_dev *dev, VkSemaphore timeline, uint64_t value);
/* Between all that stands before and all behind it, the host included. */
void vk_barrier(struct vk_dev *dev, VkCommandBuffer cmd);
tl_err vk_submit(struct vk_dev *dev, const struct vk_submission *s);
/* Submits what was recorded; a closed command buffer of somebody else; a wait before what comes. */
tl_err vk_stream_flush(struct vk_stream *s);
tl_err vk_stream_submit(struct vk_stream *s, VkCommandBuffer cmd);
tl_err vk_stream_wait(struct vk_stream *s, VkSemaphore timeline, uint64_t value);
void vk_recorder_free(struct vk_dev *dev, struct vk_recorder *r);
/* Notes that an op failed, which fails the device for good; returns err. */
tl_err vk_op_failed(struct vk_dev *dev, tl_err err);

/* ---- graph.c ---- */

tl_err vk_event_open(tl_event **out, tl_dev *dev);
void vk_event_close(tl_event *e);
tl_err vk_event_record(tl_stream *s, tl_event *e);
tl_err vk_event_wait(tl_stream *s, tl_event *e);
tl_err vk_capture_begin(tl_stream *const *streams, uint32_t n);
tl_err vk_capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n);
tl_err vk_graph_run(tl_graph *g, tl_stream *s);
void vk_graph_close(tl_graph *g);
/* Where the ops of a stream that is being captured go. */
tl_err vk_graph_recorder(struct vk_stream *s, struct vk_recorder **out);

struct vk_dev *vk_dev_of(const tl_stream *s);
/* Bytes [at, at + n) of a view; n == 0: all from `at` on. */
struct vk_binding vk_bind(const struct vk_dev *dev, const tl_view *v, uint64_t at, uint64_t n,
                          bool writes);
/* The same for an absent view: something that may be bound. */
struct vk_binding vk_bind_optional(const struct vk_dev *dev, const tl_view *v, bool writes,
                                   const struct vk_binding *instead);
/* Enqueues a dispatch behind the barrier that its accesses need. */
tl_err vk_dispatch(tl_stream *s, const struct vk_call *call);
/* At least `bytes` that live as long as the stream; slot 0 or 1, each call with the same slot may
 * give the same bytes. */
tl_err vk_scratch(tl_stream *s, uint32_t slot, uint64_t bytes, tl_view *out);

/* ---- ops.c, ops_attend.c, ops_cache.c, ops_mass.c, ops_index.c, ops_vq.c ---- */

tl_err vk_gather(tl_stream *s, const struct tl_gather *op);
tl_err vk_matmul(tl_stream *s, const struct tl_matmul *op);
tl_err vk_rmsnorm(tl_stream *s, const struct tl_rmsnorm *op);
tl_err vk_rope(tl_stream *s, const struct tl_rope *op);
tl_err vk_glu(tl_stream *s, const struct tl_glu *op);
tl_err vk_kv_encode(tl_stream *s, const struct tl_kv_encode *op);
tl_err vk_attend(tl_stream *s, const struct tl_attend *op);
tl_err vk_compress(tl_stream *s, const struct tl_compress *op);
tl_err vk_key_score(tl_stream *s, const struct tl_key_score *op);
tl_err vk_topk(tl_stream *s, const struct tl_topk *op);
tl_err vk_attend_sketch(tl_stream *s, const struct tl_attend_sketch *op);
tl_err vk_attend_slots(tl_stream *s, const struct tl_attend_slots *op);
tl_err vk_fetch(tl_stream *s, const struct tl_fetch *op);
tl_err vk_merge(tl_stream *s, const struct tl_merge *op);
tl_err vk_mass(tl_stream *s, const struct tl_mass *op);
tl_err vk_key_transpose(tl_stream *s, const struct tl_key_transpose *op);
tl_err vk_channels(tl_stream *s, const struct tl_channels *op);
tl_err vk_channel_fetch(tl_stream *s, const struct tl_channel_fetch *op);
tl_err vk_channel_score(tl_stream *s, const struct tl_channel_score *op);
tl_err vk_page_encode(tl_stream *s, const struct tl_page_encode *op);
tl_err vk_page_score(tl_stream *s, const struct tl_page_score *op);

#endif
