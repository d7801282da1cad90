/* The cache of a session: for each layer the rows of K and V that its attention reads. Bookkeeping
 * is integers (how many rows there are); the bytes are moved by ops of the seam. Row t of every
 * layer belongs to position t. */
#ifndef TL_KV_H
#define TL_KV_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_kv {
    struct tl_kv_rows *layers; /* owned, n_layers of them; views of bufs */
    tl_buf **bufs;             /* owned, two a layer */
    uint32_t n_layers;
    uint32_t cap;    /* rows a layer can hold */
    uint32_t n_rows; /* rows every layer holds */
    uint64_t device_bytes, host_bytes;
} tl_kv;

/* Bytes that a cache of `cap` rows takes, before anything is allocated. */
uint64_t tl_kv_bytes(const struct tl_shape *shape, uint64_t cap);

/* cap * n_kv_heads must fit 32 bits. Device memory; TL_ERR_MEMORY leaves nothing behind. */
TL_MUST tl_err tl_kv_open(tl_kv **out, const struct tl_shape *shape, tl_dev *dev, uint32_t cap);
void tl_kv_close(tl_kv **kv);

#ifdef __cplusplus
}
#endif

#endif
