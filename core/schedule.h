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
    TL_VERB_KEY_TRANSPOSE,
    TL_VERB_CHANNELS,
    TL_VERB_CHANNEL_FETCH,
    TL_VERB_CHANNEL_SCORE,
    TL_VERB_PAGE_ENCODE,
    TL_VERB_PAGE_SCORE,
    TL_VERB_COUNT,
} tl_verb;

struct tl_copy {
    tl_view dst, src;
};

/* The two streams of a step. What crosses the link between host and device goes on the second, so
 * that it can happen beside what needs none of it. */
typedef enum tl_lane { TL_LANE_COMPUTE, TL_LANE_TRANSFER, TL_LANE_COUNT } tl_lane;

#define TL_WAIT_NONE UINT32_MAX
#define TL_WAIT_START                                                                              \
    (UINT32_MAX - 1) /* for all that stood before the schedule in the first lane */

struct tl_op {
    tl_verb verb;
    uint32_t layer; /* UINT32_MAX: outside the layers */
    tl_lane lane;
    uint32_t wait; /* the op of the other lane (an index) that must be done before, or TL_WAIT_ */
    uint32_t together; /* so many ops, this one and those behind it, are alike and independent of
                        * each other, see tl_together_begin; 0 for one inside such a group, and for
                        * all others */
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
        struct tl_key_transpose key_transpose;
        struct tl_channels channels;
        struct tl_channel_fetch channel_fetch;
        struct tl_channel_score channel_score;
        struct tl_page_encode page_encode;
        struct tl_page_score page_score;
    } u;
};

/* In the order of ops all of them could run one by one. Done when the first lane's last op is and
 * `join` is, an op of the second lane (TL_WAIT_NONE: some wait covers that lane already). */
typedef struct tl_schedule {
    struct tl_op *ops; /* owned */
    uint32_t n, cap;
    uint32_t join;
} tl_schedule;

/* Enqueues one op. */
TL_MUST tl_err tl_op_run(const struct tl_op *op, tl_stream *stream);

/* Appends a copy of *op, in the first lane and waiting for nothing. */
TL_MUST tl_err tl_schedule_add(tl_schedule *s, const struct tl_op *op);
void tl_schedule_clear(tl_schedule *s); /* keeps the memory */
void tl_schedule_free(tl_schedule *s);

/* Enqueues all ops in order on one stream. Allocates nothing. */
TL_MUST tl_err tl_schedule_run(const tl_schedule *s, tl_stream *stream);

/* lanes.c. How many ops from op i on are one group, which stands on one lane; 1: none. */
uint32_t tl_schedule_group(const tl_schedule *s, uint32_t i);
/* True where the ops may stand in one group: one verb, views of equal shapes, each absent in both
 * or in none. What else they say is the caller's to know. */
bool tl_op_alike(const struct tl_op *a, const struct tl_op *b);

/* lanes.c. True where `second`, which stands behind `first`, must not begin before it is done: one
 * writes bytes that the other reads or writes. */
bool tl_op_hazard(const struct tl_op *first, const struct tl_op *second);

/* Sets every op's lane and wait, and the join, so that each hazard of the order in ops is kept; a
 * wait that the lanes' order and other waits imply is left out. Within a run and from one run to
 * the next: the second lane begins behind TL_WAIT_START and ends before the join. */
void tl_schedule_arrange(tl_schedule *s);

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
