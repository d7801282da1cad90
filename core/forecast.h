/* What a model, a cache and a card will do together, before any of them is there: the decode step
 * is recorded on paper at full width and timed at any depth; a prompt is estimated by its
 * arithmetic and its bytes. */
#ifndef TL_FORECAST_H
#define TL_FORECAST_H

#include "plan.h"
#include "timeline.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tl_forecast_params {
    const struct tl_shape *shape;
    /* The weights: a file's header (no tensor is read but vectors), or, with NULL, `blank`. */
    const tl_weights *weights;
    struct tl_blank blank;
    const struct tl_policy *policies; /* one a layer, as they are in the cache (tl_kv_policy_at) */
    const struct tl_card *card;
    double miss, late; /* as struct tl_timeline_params has them */
};

typedef struct tl_forecast tl_forecast;

/* Borrows all that params points at. */
TL_MUST tl_err tl_forecast_open(tl_forecast **out, const struct tl_forecast_params *params);
void tl_forecast_close(tl_forecast **f);

uint64_t tl_forecast_weight_bytes(const tl_forecast *f);
const tl_schedule *tl_forecast_schedule(const tl_forecast *f);

/* The step behind n_rows rows; the ops' times are valid until the next call. */
void tl_forecast_step(tl_forecast *f, uint32_t n_rows, struct tl_timeline *out);
const struct tl_op_time *tl_forecast_times(const tl_forecast *f);

/* A prompt of n tokens into an empty cache. */
struct tl_prompt_forecast {
    double matmul_s, attention_s; /* arithmetic */
    double weights_s;             /* streaming the weights, once a chunk: hidden by the arithmetic
                                   * where chunks are long */
    double link_s;  /* hidden states and exact rows across the link, beside the rest */
    double total_s; /* to the first token; 0: the card's arithmetic is not known */
};
void tl_forecast_prompt(const tl_forecast *f, uint32_t n, uint32_t n_chunk,
                        struct tl_prompt_forecast *out);

#ifdef __cplusplus
}
#endif

#endif
