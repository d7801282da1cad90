/* A recorded step timed on paper: what each op moves and computes at the depth that its numbers
 * say, how long a described device takes for it, and when it begins and ends on its stream. */
#ifndef TL_TIMELINE_H
#define TL_TIMELINE_H

#include "cards.h"
#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a step's time goes to, by the streams' first lane. */
typedef enum tl_part {
    TL_PART_WEIGHTS,  /* matrix products */
    TL_PART_WINDOW,   /* exact attention of rows that stay where they are */
    TL_PART_SKETCH,   /* attention through the compressed copy */
    TL_PART_SELECTED, /* attention of selected rows */
    TL_PART_INDEX,    /* finding them */
    TL_PART_TRANSFER, /* what the link keeps waiting: fetches, rows read in host memory */
    TL_PART_OTHER,    /* norms, rotations, products, stores, merges */
    TL_PART_COUNT,
} tl_part;
extern const char *const tl_part_names[TL_PART_COUNT];

struct tl_op_cost {
    uint64_t device_bytes, link_bytes; /* moved at least, each operand once */
    double flops;
    bool is_i8; /* the flops can be done on 8-bit units */
    tl_cost_class kind;
    tl_part part;
};

struct tl_timeline_params {
    const struct tl_card *card;
    double miss; /* part of the selected rows that the hot set has not: 0 .. 1 */
    double late; /* part of the wanted channels that the layer before did not guess: 0 .. 1 */
};

/* What has been seen of a step so far: how many rows the last selection could choose from. */
struct tl_cost_state {
    uint64_t n_selectable;
};

/* The cost of an op with the row counts that its views hold now, host memory all of them;
 * tl_kv_pretend sets them. Operands of a capacity cost what is used of them. Ops of one schedule in
 * order, from a zeroed state on. */
void tl_op_get_cost(const struct tl_op *op, const struct tl_timeline_params *p,
                    struct tl_cost_state *state, struct tl_op_cost *out);

struct tl_op_time {
    struct tl_op_cost cost;
    uint32_t n_launches; /* 0: it rides in an earlier op's */
    double start_us, end_us;
};

struct tl_timeline {
    double step_us;                /* the sum of the parts and of the waiting */
    double part_us[TL_PART_COUNT]; /* of the first lane */
    double waiting_us;             /* of the first lane, for the second */
    double second_us;              /* the second lane is busy, beside the first */
    uint64_t device_bytes, link_bytes;
    uint64_t n_launches;
};

/* Times an arranged schedule. launches: of each op (tl_launches_of), NULL: one each. times: s->n of
 * them, filled in. */
void tl_timeline_make(const tl_schedule *s, const struct tl_timeline_params *params,
                      const uint32_t *launches, struct tl_op_time *times, struct tl_timeline *out);

#ifdef __cplusplus
}
#endif

#endif
