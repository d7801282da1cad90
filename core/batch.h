/* Decode of several sequences at once: each keeps its own session, with its own tokens, cache and
 * length; a step appends a token to every one of them. Weights are read once for all, and where the
 * device can, so are launches: an op of the caches is one launch for all sequences whose caches are
 * of one policy and one size. Sessions can be fed, stepped, rewound and saved on their own in
 * between. */
#ifndef TL_BATCH_H
#define TL_BATCH_H

#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_BATCH_MAX = 16 };

typedef struct tl_batch tl_batch;

/* n sessions of one engine, all different, borrowed: they outlive the batch. 1 <= n <=
 * TL_BATCH_MAX. The memory of the batch (a few rows of activations, n of logits) is beside what the
 * sessions planned, unless they were told of it (n_sessions). */
TL_MUST tl_err tl_batch_open(tl_batch **out, tl_session *const *sessions, uint32_t n);
void tl_batch_close(tl_batch **b);

/* Appends ids[i] to session i, whose logits are behind it then. TL_ERR_MEMORY and TL_ERR_FORMAT of
 * one that cannot take its token, as from tl_session_step, leave all sessions as they were; any
 * other error leaves them with the tokens they had and no logits. Allocates nothing, unless a
 * session's layers changed their policy since the last step. */
TL_MUST tl_err tl_batch_step(tl_batch *b, const uint32_t *ids);

/* Bytes one step must move at the present depths: all weights once, and the cache rows that each
 * sequence attends. */
uint64_t tl_batch_step_bytes(const tl_batch *b);

/* The recorded step, for who wants to look at it. */
const tl_schedule *tl_batch_schedule(const tl_batch *b);

#ifdef __cplusplus
}
#endif

#endif
