/* How many launches a step is: what a forecast charges for, and what the emulated card counts. */
#ifndef TL_LAUNCHES_H
#define TL_LAUNCHES_H

#include "fusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What decides it beside the ops: fields of a kind of device. */
struct tl_launching {
    uint32_t few_rows; /* as fusion.h has it */
    /* Attention over more rows, or blocks of compressed rows, than these is done in parts, which
     * one more launch joins: cards of more multiprocessors than a layer has heads. */
    uint32_t split_rows, split_blocks;
    uint32_t together_max; /* ops of a group that one launch does (tl_together_begin) */
};
/* The CUDA backend: a step is one graph of kernels, copies and fills, each of which is a launch. */
extern const struct tl_launching tl_launching_cuda;

/* n_of[i] := launches that begin with op i of s, an arranged schedule, when tl_replay runs it; an
 * op that rides in the launch of another one has none. n_of: s->n of them. Depth counts as the
 * numbers that ops read say, or as their caches have room, whichever is more. */
void tl_launches_of(const tl_schedule *s, const struct tl_launching *l, uint32_t *n_of);

#ifdef __cplusplus
}
#endif

#endif
