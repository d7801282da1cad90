/* What gguf.c (the format), meta.c (values) and weights.c (files and names) share; for no one else.
 */
#ifndef TL_GGUF_H
#define TL_GGUF_H

#include "weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One GGUF file in memory. */
struct tl_gguf {
    uint32_t version;
    struct tl_meta *metas; /* owned; n_metas of them, in file order */
    uint64_t n_metas;
    struct tl_tensor *tensors; /* owned; n_tensors of them, in file order */
    uint64_t n_tensors;
};

/* Fills *out from data[0 .. bytes), which must outlive it and be aligned to 16; on failure *out is
 * left alone and nothing is held. `path` begins the sentences. What is checked: every length,
 * count, offset and product; value and tensor types; the alignment; that tensors lie in the file
 * and apart from each other. Not checked: that names differ. Memory allocated is at most four times
 * `bytes`. */
TL_MUST tl_err tl_gguf_parse(struct tl_gguf *out, const uint8_t *data, uint64_t bytes,
                             const char *path, const tl_log *log);
void tl_gguf_free(struct tl_gguf *g);

/* *out := the integer of that name, found by looking through all keys; an absent one leaves *out
 * alone. For the few keys that must be read before names are indexed. */
TL_MUST tl_err tl_gguf_find_u32(const struct tl_gguf *g, const char *key, const char *path,
                                const tl_log *log, uint32_t *out);

/* *out := the integer that m holds; the rules are those of tl_meta_get_u32. */
TL_MUST tl_err tl_meta_u32(const struct tl_meta *m, const char *path, const tl_log *log,
                           uint32_t *out);

/* Bytes of a value of fixed size; 0 for strings and arrays. */
uint64_t tl_meta_scalar_bytes(tl_meta_type type);

/* Length of a name in a sentence, for %.*s. */
static inline int tl_shown(tl_str name) { return (int)tl_min_u64(name.len, 100); }

#ifdef __cplusplus
}
#endif

#endif
