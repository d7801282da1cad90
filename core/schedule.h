/* A schedule: the ops of a pass as plain data, in the order they are enqueued, each on one of two
 * streams. It is recorded once and run for every token, since all that changes from token to token
 * is in views that ops read. It can be printed, checked without a device, and timed on paper. */
#ifndef TL_SCHEDULE_H
#define TL_SCHEDULE_H

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tl_verb {
    TL_VERB_COPY,
    TL_VERB_GATHER,
    TL_VERB_MATMUL,
    TL_VERB_RMSNORM,
    TL_VERB_ROPE,
    TL_VERB_GLU,
    TL_VERB_KV_ENCODE,
    TL_VERB_ATTEND,
    TL_VERB_COMPRESS,
    TL_VERB_KEY_SCORE,
    TL_VERB_TOPK,
    TL_VERB_ATTEND_SKETCH,
    TL_VERB_ATTEND_SLOTS,
    TL_VERB_FETCH,
    TL_VERB_MERGE,
    TL_VERB_MASS,
    TL_VERB_COUNT,
} tl_verb;

struct tl_copy {
    tl_view dst, src;
};

struct tl_op {
    tl_verb verb;
    uint32_t layer; /* UINT32_MAX: outside the layers */
    union {
        struct tl_copy copy;
        struct tl_gather gather;
        struct tl_matmul matmul;
        struct tl_rmsnorm rmsnorm;
        struct tl_rope rope;
        struct tl_glu glu;
        struct tl_kv_encode kv_encode;
        struct tl_attend attend;
        struct tl_compress compress;
        struct tl_key_score key_score;
        struct tl_topk topk;
        struct tl_attend_sketch attend_sketch;
        struct tl_attend_slots attend_slots;
        struct tl_fetch fetch;
        struct tl_merge merge;
        struct tl_mass mass;
    } u;
};

typedef struct tl_schedule {
    struct tl_op *ops; /* owned */
    uint32_t n, cap;
} tl_schedule;

/* Enqueues one op. */
TL_MUST tl_err tl_op_run(const struct tl_op *op, tl_stream *stream);

/* Appends a copy of *op. */
TL_MUST tl_err tl_schedule_add(tl_schedule *s, const struct tl_op *op);
void tl_schedule_clear(tl_schedule *s); /* keeps the memory */
void tl_schedule_free(tl_schedule *s);

/* Enqueues all ops. Allocates nothing. */
TL_MUST tl_err tl_schedule_run(const tl_schedule *s, tl_stream *stream);

const char *tl_verb_name(tl_verb verb);

/* The views that an op reads and writes, absent ones left out; at most TL_OP_VIEWS_MAX. A view that
 * is both stands in both lists. */
enum { TL_OP_VIEWS_MAX = 16 };
struct tl_op_views {
    const tl_view *reads[TL_OP_VIEWS_MAX], *writes[TL_OP_VIEWS_MAX];
    uint32_t n_reads, n_writes;
};
void tl_op_get_views(const struct tl_op *op, struct tl_op_views *out);

#ifdef __cplusplus
}
#endif

#endif
