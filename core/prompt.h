/* A prompt that goes through the layers one by one, all of it through one layer before any of it
 * through the next, so that only one layer's exact rows need room on the device at a time: in their
 * home where that is near, else in a stage. */
#ifndef TL_PROMPT_H
#define TL_PROMPT_H

#include "identify.h"
#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_prompt tl_prompt;

/* What a prompt goes through; all borrowed. */
struct tl_prompt_params {
    const tl_model *model;
    tl_kv *kv;
    struct tl_scratch *scratch;
    tl_stream *stream, *transfer;
};

/* Allocates what the plan says: hidden states, stages. */
TL_MUST tl_err tl_prompt_open(tl_prompt **out, const struct tl_prompt_params *params,
                              const struct tl_plan_params *plan);
void tl_prompt_close(tl_prompt **p); /* after tl_stream_sync of both streams */

/* Rows of the next chunk where n_left are left. The last chunk of a longer prompt has at least
 * TL_LAST_QUERIES rows, where chunks have room for them, so that layers are measured by as many. */
uint32_t tl_prompt_chunk(uint32_t n_left, uint32_t n_chunk);

/* The n tokens `ids` behind the kv->n_rows rows that are there, through layer il; layers in order,
 * from 0. The layer's tiers then hold them. Waits for all but the end of it. identify: measures the
 * layer; NULL: does not. */
TL_MUST tl_err tl_prompt_layer(tl_prompt *p, uint32_t il, const uint32_t *ids, uint32_t n,
                               tl_identify *identify);

/* Behind the last layer: the hidden states of the n tokens, (n, n_embd) in host memory. */
TL_MUST tl_err tl_prompt_hidden(tl_prompt *p, uint32_t n, tl_view *out);

/* Behind the last layer, and before anything else is done where one failed or was the last for
 * other reasons: waits for both streams. */
TL_MUST tl_err tl_prompt_end(tl_prompt *p);

/* Exact rows of a KV head, K and V, that the prompt brought from layer il's home when the cache
 * holds n_rows rows: what later turns pay. */
uint64_t tl_prompt_rows_brought(const tl_prompt *p, uint32_t il, uint32_t n_rows);

#ifdef __cplusplus
}
#endif

#endif
