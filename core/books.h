/* What `tailor fit` learned of a model for vector-quantised rows (vq.h): codebooks of keys and of
 * values for ranges of layers, and the smoothing factors of each layer's keys. Policy files carry
 * it under "codebooks":
 *
 *   { "version": 1, "kv_heads": 2, "head_dim": 64,
 *     "smooth": { "0": "...", ... },          (kv_heads, head_dim) f32 of a layer; absent: ones
 *     "keys":   { "0-5": { "vq-d4b8": "..." }, ... },   (entries, numbers) f16 of a range of layers
 *     "values": { ... } }
 *
 * with numbers as little-endian bytes in base64 (RFC 4648, padded). A layer and codec that nothing
 * is said about has the codebook that comes with the program. */
#ifndef TL_BOOKS_H
#define TL_BOOKS_H

#include "base.h"
#include "vq.h"

#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tl_side { TL_SIDE_K, TL_SIDE_V, TL_SIDE_COUNT } tl_side;

typedef struct tl_books tl_books;

/* Of nothing yet. Sizes within those of models (TL_LAYERS_MAX, TL_HEAD_DIM_MAX). */
TL_MUST tl_err tl_books_open(tl_books **out, uint32_t n_layers, uint32_t n_kv_heads,
                             uint32_t head_dim);
TL_MUST tl_err tl_books_copy(tl_books **out, const tl_books *from);
void tl_books_close(tl_books **books);

/* Copies the codebook (entries, dim) f16 of layers first .. last. Of several that were added for a
 * layer the last one counts. */
TL_MUST tl_err tl_books_add(tl_books *b, tl_side side, tl_codec codec, uint32_t first,
                            uint32_t last, const uint16_t *book);
/* NULL: none was added. */
const uint16_t *tl_books_find(const tl_books *b, tl_side side, tl_codec codec, uint32_t il);

/* Copies the factors (n_kv_heads, head_dim) of a layer; each within TL_SMOOTH_LEAST .. _MOST. */
TL_MUST tl_err tl_books_set_smooth(tl_books *b, uint32_t il, const float *smooth);
const float *tl_books_smooth(const tl_books *b, uint32_t il); /* NULL: ones */

bool tl_books_fit(const tl_books *b, uint32_t n_layers, uint32_t n_kv_heads, uint32_t head_dim);

/* The JSON drawn above; NULL without memory. */
json_t *tl_books_json(const tl_books *b);
/* Reads it, trusting nothing: TL_ERR_FORMAT with a sentence that `name`, the file, begins. */
TL_MUST tl_err tl_books_read(tl_books **out, json_t *root, uint32_t n_layers, const char *name,
                             const tl_log *log);

#ifdef __cplusplus
}
#endif

#endif
