/* Histograms with fixed bounds, filled by one thread and copied whole: how long tokens and answers
 * took and how long they were. The bounds are those that vLLM exports under the same names, so that
 * what was made to draw its histograms draws these. */
#ifndef TL_HIST_H
#define TL_HIST_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_HIST_BOUNDS = 22 }; /* the most */

typedef enum tl_hist_kind {
    TL_HIST_TOKEN,    /* seconds from one token of an answer to the next */
    TL_HIST_FIRST,    /* seconds from a request to its first token */
    TL_HIST_REQUEST,  /* seconds of a request */
    TL_HIST_PREFILL,  /* ... of which its prompt took */
    TL_HIST_DECODE,   /* ... of which its answer took */
    TL_HIST_N_PROMPT, /* tokens */
    TL_HIST_N_ANSWER, /* tokens */
    TL_HIST_COUNT
} tl_hist_kind;

/* Zero-initialise. n[i]: values above bound i - 1 and not above bound i; the last one: above all.
 */
struct tl_hist {
    uint64_t n[TL_HIST_BOUNDS + 1];
    double sum;
};

/* Ascending. */
const double *tl_hist_bounds(tl_hist_kind kind, uint32_t *n);
void tl_hist_add(struct tl_hist *hist, tl_hist_kind kind, double value);

#ifdef __cplusplus
}
#endif

#endif
