/* Learning what vector-quantised rows of a model need (vq.h): smoothing factors and codebooks, from
 * rows that a text left in a cache. VecInfer, sections 3.2 and 4.1. Arithmetic of the caller's
 * thread. */
#ifndef TL_VQ_TRAIN_H
#define TL_VQ_TRAIN_H

#include "vq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Exact rows of one layer, f16: row t of KV head h is at ((h * n_rows) + t) * head_dim. */
struct tl_exact_rows {
    const uint16_t *k, *v; /* borrowed */
    uint32_t n_rows, n_kv_heads, head_dim;
    /* Queries (n_queries, n_heads * head_dim) at the last n_queries rows; codebooks need none. */
    const float *q; /* borrowed; NULL: none */
    uint32_t n_queries, n_heads;
    float scale, softcap; /* as in tl_attend */
};

/* smooth[h][c] := the square root of the largest |k| of that head and channel (eq. 4), but at least
 * a hundredth of the head's largest factor, so that a channel that the text left silent is not
 * blown up. smooth (n_kv_heads, head_dim). */
void tl_vq_find_smooth(const struct tl_exact_rows *rows, float *smooth);

/* What of rows a codebook is trained on, step by step for ablations: `smooth` may be NULL (ones).
 */
struct tl_vq_turn_params {
    const float *smooth; /* (n_kv_heads, head_dim) or NULL */
    bool rotated;
};

/* Takes `n` vectors of `dim` numbers from `side` (k or v of rows), turned and divided by the root
 * mean square of their block of TL_BLOCK rows, as encoders see them: random blocks, all their
 * vectors, until there are n. vectors (n, dim). rows holds at least one block. Only TL_ERR_MEMORY.
 */
TL_MUST tl_err tl_vq_sample(const struct tl_exact_rows *rows, const uint16_t *side, uint32_t dim,
                            const struct tl_vq_turn_params *turn, uint64_t seed, uint64_t n,
                            float *vectors);

struct tl_vq_training {
    const float *vectors; /* (n, dim of the codec), finite; borrowed */
    uint64_t n;           /* at least 1 */
    uint64_t seed;
    uint32_t rounds; /* of Lloyd's, at most; 0: 30 as the paper has it */
};
/* k-means++, then Lloyd's rounds until one brings less than 0.02 %; a cluster that is left empty
 * takes the vector that is farthest from its own. book (entries, dim) f16; *error: what is left of
 * the vectors' mean square. The same numbers for the same seed. Only TL_ERR_MEMORY. */
TL_MUST tl_err tl_vq_train(tl_codec codec, const struct tl_vq_training *training, uint16_t *book,
                           double *error);

#ifdef __cplusplus
}
#endif

#endif
