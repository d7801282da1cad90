/* Logits -> token. Filters apply in the order of the fields below; greedy at temp 0 takes the
 * largest logit, ties to the lower id, and ignores everything but the repetition penalty. */
#ifndef TL_SAMPLE_H
#define TL_SAMPLE_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tl_sampler_params {
    float repeat_penalty; /* 1: off; divides positive and multiplies negative logits of ... */
    uint32_t repeat_last; /* ... tokens among this many newest ones */
    uint32_t top_k;       /* 0: off */
    float top_p;          /* 1: off; the smallest set of most likely tokens with this mass */
    float min_p;          /* 0: off; at least this fraction of the best token's probability */
    float temp;           /* 0: greedy */
    uint64_t seed;
};

typedef struct tl_sampler tl_sampler;

/* Allocates all it will ever need. TL_ERR_MEMORY only. */
TL_MUST tl_err tl_sampler_open(tl_sampler **out, const struct tl_sampler_params *params,
                               uint32_t n_vocab);
void tl_sampler_close(tl_sampler **s);

/* Where the sampler is in its stream of random numbers, so that another one of the same params can
 * go on from there. */
uint64_t tl_sampler_state(const tl_sampler *s);
void tl_sampler_set_state(tl_sampler *s, uint64_t state);

/* ids: the timeline so far, for the penalty. NaN logits are never chosen (all NaN: token 0).
 * The same params, logits and call number give the same token. */
uint32_t tl_sampler_next(tl_sampler *s, const float *logits, const uint32_t *ids, size_t n_ids);

#ifdef __cplusplus
}
#endif

#endif
