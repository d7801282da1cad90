/* Private to the C half of the CUDA backend: what stands behind the seam's nouns. */
#ifndef TL_CUDA_H
#define TL_CUDA_H

#include "kernels.h"

struct cu_dev {
    tl_dev base; /* first: a tl_dev * is a cu_dev * */
    tl_log log;
    int ordinal; /* the runtime's number of it */
    uint32_t capability, n_sms, shared_bytes_max;
    const struct cu_tuning *tuning;
    bool maps_registered; /* registered host memory has the same address for kernels */
    uint32_t failed;      /* sticky; by __atomic functions, since threads share a device */
};

/* Device memory that ops of one stream, or of one graph, use one after the other. A graph keeps
 * every piece it ever had, since its kernels hold their addresses. */
enum { CU_PIECES_MAX = 48 };
struct cu_scratch {
    void *pieces[CU_PIECES_MAX]; /* owned; the last one is in use */
    uint32_t n;
    uint64_t bytes; /* of the last */
};

struct cu_graph {
    tl_graph base;
    cudaGraphExec_t exec;
    struct cu_scratch scratch[TL_CAPTURE_STREAMS_MAX];
};

/* Ops that wait for others alike, to be launched with them. */
struct cu_held {
    bool on; /* between tl_together_begin and its end */
    tl_err (*run)(tl_stream *s, const void *const *ops, uint32_t n); /* NULL: none are held */
    uint32_t n;
    union { /* copies: the caller's may be gone */
        struct tl_kv_encode kv_encode;
        struct tl_attend attend;
        struct tl_key_score key_score;
        struct tl_topk topk;
        struct tl_attend_sketch attend_sketch;
        struct tl_attend_slots attend_slots;
        struct tl_fetch fetch;
    } ops[CU_TOGETHER_MAX];
};

struct cu_stream {
    tl_stream base;
    cudaStream_t stream;
    struct cu_scratch scratch;
    struct cu_scratch *target;  /* scratch, or the one of the graph that is being recorded */
    struct cu_graph *recording; /* of the first stream of a capture; owned until its end */
    cudaEvent_t fork;           /* for captures of several streams */
    bool gave_up;               /* an op of the capture found no scratch */
    struct cu_held held;
    struct tl_fusion pending; /* ops that wait for the next one: see pending.c */
    /* Of which x the scratch at codes_at holds the codes: several products of one x stand behind
     * each other. Anything else on the stream makes it an absent view. */
    tl_view codes;
    const void *codes_at;
};

static inline struct cu_dev *cu_dev_of(const tl_stream *s) { return (struct cu_dev *)s->dev; }

/* Makes the device the calling thread's own, and gives TL_ERR_DEVICE where it failed before. */
TL_MUST tl_err cu_enter(struct cu_dev *dev);
/* What an answer of the runtime means: memory is out, or the device has failed, from now on. Says
 * so once: "cuda: matmul: an illegal memory access was encountered". */
TL_MUST tl_err cu_check(struct cu_dev *dev, cudaError_t err, const char *what);

/* Where an op of s is to be launched; its scratch is yet to be had. */
struct cu_exec cu_exec_of(const tl_stream *s);

/* pending.c: launches what waits on s. Whatever is enqueued on s, or waits for it, comes after. */
TL_MUST tl_err cu_settle(tl_stream *s);
/* Ops that another one may join, or that may join one that waits. */
TL_MUST tl_err cu_pend_matmul(tl_stream *s, const struct tl_matmul *op);
TL_MUST tl_err cu_pend_rmsnorm(tl_stream *s, const struct tl_rmsnorm *op);
TL_MUST tl_err cu_pend_glu(tl_stream *s, const struct tl_glu *op);
TL_MUST tl_err cu_pend_rope(tl_stream *s, const struct tl_rope *op);
/* *joined: whether op is launched with what waits; if not, nothing has happened. */
TL_MUST tl_err cu_pend_encode(tl_stream *s, const struct tl_kv_encode *op, bool *joined);

/* memory.c */
TL_MUST tl_err cu_buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem);
void cu_buf_free(tl_buf *buf);
TL_MUST tl_err cu_copy(tl_stream *s, const tl_view *dst, const tl_view *src);
/* At least so many bytes of scratch for the next op of s; NULL for none. */
TL_MUST tl_err cu_scratch_get(void **out, struct cu_stream *s, uint64_t bytes, const char *what);
void cu_scratch_free(struct cu_scratch *scratch);

/* stream.c */
TL_MUST tl_err cu_stream_open(tl_stream **out, tl_dev *dev);
void cu_stream_close(tl_stream *s);
TL_MUST tl_err cu_stream_sync(tl_stream *s);
TL_MUST tl_err cu_event_open(tl_event **out, tl_dev *dev);
void cu_event_close(tl_event *e);
TL_MUST tl_err cu_event_record(tl_stream *s, tl_event *e);
TL_MUST tl_err cu_event_wait(tl_stream *s, tl_event *e);
TL_MUST tl_err cu_capture_begin(tl_stream *const *streams, uint32_t n);
TL_MUST tl_err cu_capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n);
TL_MUST tl_err cu_graph_run(tl_graph *g, tl_stream *s);
void cu_graph_close(tl_graph *g);

#endif
