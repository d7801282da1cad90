/* What engine.c and session.c share. */
#ifndef TL_ENGINE_PRIV_H
#define TL_ENGINE_PRIV_H

#include "engine.h"

struct tl_engine {
    tl_log log;
    tl_weights *weights;
    tl_vocab *vocab;
    tl_dev *dev;
    const tl_backend *backend;
    tl_model *model;
    uint32_t n_ctx;
};

#endif
