/* Allocation of the cache: K and V of each layer are one f16 buffer each, head-major as
 * struct tl_kv_rows draws it, so that decode reads each head's rows in one run of memory.
 * The CPU device commits pages as they are first written: a large context costs what it holds. */
#include "kv.h"

#include <stdlib.h>

static uint64_t side_bytes(const struct tl_shape *shape, uint64_t cap) {
    return cap * shape->n_kv_heads * tl_row_bytes(TL_F16, shape->head_dim);
}

uint64_t tl_kv_bytes(const struct tl_shape *shape, uint64_t cap) {
    return 2 * side_bytes(shape, cap) * shape->n_layers;
}

static tl_err open_side(tl_kv *kv, const struct tl_shape *shape, tl_dev *dev, uint32_t i,
                        tl_view *view) {
    TL_TRY(tl_buf_alloc(&kv->bufs[i], dev, side_bytes(shape, kv->cap), TL_MEM_DEVICE));
    *view = tl_view_of(kv->bufs[i], 0, shape->n_kv_heads * kv->cap, shape->head_dim, TL_F16);
    return TL_OK;
}

tl_err tl_kv_open(tl_kv **out, const struct tl_shape *shape, tl_dev *dev, uint32_t cap) {
    TL_ASSERT(cap > 0 && (uint64_t)cap * shape->n_kv_heads <= UINT32_MAX);
    tl_kv *kv = calloc(1, sizeof *kv);
    if (kv == NULL) {
        return TL_ERR_MEMORY;
    }
    kv->n_layers = shape->n_layers;
    kv->cap = cap;
    kv->device_bytes = tl_kv_bytes(shape, cap);
    kv->layers = calloc(shape->n_layers, sizeof *kv->layers);
    kv->bufs = calloc((size_t)shape->n_layers * 2, sizeof(tl_buf *));
    tl_err err = kv->layers != NULL && kv->bufs != NULL ? TL_OK : TL_ERR_MEMORY;
    for (uint32_t il = 0; il < shape->n_layers && !err; il++) {
        kv->layers[il].n_kv_heads = shape->n_kv_heads;
        err = open_side(kv, shape, dev, 2 * il, &kv->layers[il].k);
        if (!err) {
            err = open_side(kv, shape, dev, 2 * il + 1, &kv->layers[il].v);
        }
    }
    if (err) {
        tl_kv_close(&kv);
        return err;
    }
    *out = kv;
    return TL_OK;
}

void tl_kv_close(tl_kv **kv) {
    if (*kv == NULL) {
        return;
    }
    for (uint32_t i = 0; (*kv)->bufs != NULL && i < (*kv)->n_layers * 2; i++) {
        tl_buf_free(&(*kv)->bufs[i]);
    }
    free((*kv)->bufs);
    free((*kv)->layers);
    free(*kv);
    *kv = NULL;
}
