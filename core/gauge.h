/* How faithful the cache is, looked at while it works: in a step now and then, one head of one
 * layer is also attended exactly, over all rows of its home, and what the step made of it is
 * compared. All layers that have exact rows behind compressed or dropped ones get their turn, then
 * the next head. */
#ifndef TL_GAUGE_H
#define TL_GAUGE_H

#include "kv.h"
#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_GAUGE_EVERY = 64 }; /* steps; one look reads what a step reads of a head's exact rows */

/* What was seen of one layer. */
struct tl_gauge {
    uint32_t n;            /* looks; the rest is meaningless where there was none */
    uint32_t head, n_rows; /* of the last look */
    /* Of the last look and the mean of all: the share of attention on rows that were attended
     * exactly (the window and those selected), 0 .. 1, and |out - exact| / |exact| of the head. */
    double mass, error, mass_mean, error_mean;
};

typedef struct tl_gauges tl_gauges;

TL_MUST tl_err tl_gauges_open(tl_gauges **out, const struct tl_shape *shape, tl_dev *dev);
void tl_gauges_close(tl_gauges **g);

/* Enqueues the step, op by op, with the look that is due. False in *looks where no layer can be
 * looked at, and nothing is enqueued. */
TL_MUST tl_err tl_gauges_run(tl_gauges *g, const tl_kv *kv, const tl_schedule *step,
                             tl_stream *stream, bool *looks);

/* After the stream was synced behind tl_gauges_run: adds what was seen. */
void tl_gauges_read(tl_gauges *g);

const struct tl_gauge *tl_gauges_get(const tl_gauges *g, uint32_t il);

#ifdef __cplusplus
}
#endif

#endif
