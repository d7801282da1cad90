/* The part of `tailor fit` that learns smoothing factors and codebooks (core/vq_train.h) for the
 * layers whose policies have codecs vq-*, while the text passes through them. */
#ifndef TL_CLI_FIT_BOOKS_H
#define TL_CLI_FIT_BOOKS_H

#include "core/engine.h"
#include "core/policy_file.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Vectors of all layers for one codebook of the whole model. */
struct cli_fit_pool {
    tl_side side;
    tl_codec codec;
    float *vectors; /* owned */
    uint64_t n;
};
enum { CLI_FIT_POOLS_MAX = 4 }; /* of dense and of other layers, keys and values */

struct cli_fit_books {
    const struct tl_policies *set; /* borrowed: which layer has which codecs */
    tl_books *books;               /* owned; NULL: no layer asks for any */
    bool per_model;                /* one codebook for all layers, not one each */
    uint64_t seed;
    tl_log log;
    struct cli_fit_pool pools[CLI_FIT_POOLS_MAX];
    uint32_t n_pools;
};

/* set and log outlive it. */
TL_MUST tl_err cli_fit_books_open(struct cli_fit_books *fit, const struct tl_policies *set,
                                  const struct tl_shape *shape, bool per_model, tl_log log);
void cli_fit_books_close(struct cli_fit_books *fit);

/* A tl_rows_fn, user is the struct: learns from a layer, and says so. */
TL_MUST tl_err cli_fit_books_layer(void *user, uint32_t il, const struct tl_exact_rows *rows);
/* Behind the last layer. */
TL_MUST tl_err cli_fit_books_finish(struct cli_fit_books *fit);

#ifdef __cplusplus
}
#endif

#endif
