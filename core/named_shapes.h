/* Shapes of well-known models, so that a plan can be made before anything is downloaded. From the
 * config.json files of their publishers. */
#ifndef TL_NAMED_SHAPES_H
#define TL_NAMED_SHAPES_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tl_named_shape {
    const char *name, *family; /* "llama-3.1-8b", "llama" */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx;
    uint32_t window, window_period; /* as tl_shape_set_windows has it; 0: none */
    bool tied;                      /* the output is the embedding */
};
extern const struct tl_named_shape tl_named_shapes[]; /* ends with a NULL name */

/* Case, dots and dashes do not matter; NULL: none. */
const struct tl_named_shape *tl_named_shape_find(const char *name);

/* The shape as a file of the model would give it, weight_bytes as `weights` has it: matrices of
 * that type, but embedding and output in Q6_K where it is one of the smaller K types, as files have
 * it. */
void tl_named_shape_get(const struct tl_named_shape *named, struct tl_shape *out);
struct tl_blank tl_named_shape_blank(const struct tl_named_shape *named, tl_dtype weights);

#ifdef __cplusplus
}
#endif

#endif
