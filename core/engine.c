/* The engine: file, vocabulary, device and model, in the order they are opened. */
#include "engine.h"

#include "engine_priv.h"

#include <stdlib.h>
#include <string.h>

/* What the device says of itself is heard on its way. */
static void hear_device(void *user, tl_level level, const char *sentence) {
    tl_engine *const e = user;
    if (e->opening) {
        e->n_device_errors += level == TL_LEVEL_ERROR;
    }
    if (e->log.fn != NULL) {
        e->log.fn(e->log.user, level, sentence);
    }
}

static tl_err open_named_device(tl_engine *e, const struct tl_engine_params *p) {
    const struct tl_dev_params dev = {.index = p->device,
                                      .n_threads = p->n_threads,
                                      .isa_max = p->isa_max,
                                      .cache_dir = p->cache_dir,
                                      .debug = p->debug,
                                      .log = {hear_device, e}};
    const bool automatic = p->backend == NULL || strcmp(p->backend, "auto") == 0;
    if (!automatic) {
        e->backend = tl_backend_find(p->backend);
        if (e->backend == NULL) {
            return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "backend %s is not in this build",
                           p->backend);
        }
        const uint32_t n = e->backend->dev_count();
        if (p->device >= n) {
            return tl_fail(&p->log, TL_ERR_UNSUPPORTED,
                           "backend %s has no device %u: it found %u here", p->backend, p->device,
                           n);
        }
        return tl_dev_open(&e->dev, e->backend, &dev);
    }
    for (size_t i = 0; tl_backends[i] != NULL; i++) {
        const tl_backend *const b = tl_backends[i];
        const uint32_t n = b->dev_count_auto != NULL ? b->dev_count_auto() : b->dev_count();
        if (n > 0 && p->device >= n) {
            return tl_fail(&p->log, TL_ERR_UNSUPPORTED,
                           "backend auto has no device %u: it takes %s, which found %u here",
                           p->device, b->name, n);
        }
        if (n > 0) {
            e->backend = b;
            return tl_dev_open(&e->dev, e->backend, &dev);
        }
        tl_say(&p->log, TL_LEVEL_INFO, "%s: no hardware device here", b->name);
    }
    return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "no backend of this build found a device");
}

static tl_err open_parts(tl_engine *e, const struct tl_engine_params *p) {
    TL_TRY(tl_weights_open(&e->weights, p->model_path, &p->log));
    struct tl_shape shape;
    TL_TRY(tl_shape_read(e->weights, p->n_ctx, &shape));
    TL_TRY(tl_model_check(e->weights, &shape));
    TL_TRY(tl_vocab_open(&e->vocab, e->weights, &p->log));
    TL_TRY(open_named_device(e, p));
    if (p->before_load != NULL) {
        struct tl_dev_caps caps;
        tl_dev_get_caps(e->dev, &caps);
        TL_TRY(p->before_load(p->user, e->weights, &shape, &caps));
    }
    const tl_err err = tl_model_open(&e->model, e->weights, &shape, e->dev,
                                     &(struct tl_load_watch){p->on_load, p->user});
    return err == TL_ERR_MEMORY && e->n_device_errors == 0
               ? tl_fail(&p->log, err, "%s: out of memory for the weights", p->model_path)
               : err;
}

tl_err tl_engine_open(tl_engine **out, const struct tl_engine_params *params) {
    tl_engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return tl_fail(&params->log, TL_ERR_MEMORY, "out of memory");
    }
    e->log = params->log;
    e->n_ctx = params->n_ctx;
    e->opening = true;
    const tl_err err = open_parts(e, params);
    e->opening = false;
    if (err) {
        tl_engine_close(&e);
        return err;
    }
    *out = e;
    return TL_OK;
}

void tl_engine_close(tl_engine **engine) {
    tl_engine *const e = *engine;
    if (e == NULL) {
        return;
    }
    tl_model_close(&e->model);
    tl_dev_close(&e->dev);
    tl_vocab_close(&e->vocab);
    tl_weights_close(&e->weights);
    free(e);
    *engine = NULL;
}

const tl_weights *tl_engine_weights(const tl_engine *e) { return e->weights; }
const tl_vocab *tl_engine_vocab(const tl_engine *e) { return e->vocab; }
const tl_model *tl_engine_model(const tl_engine *e) { return e->model; }
const char *tl_engine_backend(const tl_engine *e) { return e->backend->name; }
void tl_engine_caps(const tl_engine *e, struct tl_dev_caps *out) { tl_dev_get_caps(e->dev, out); }

void tl_engine_usage(const tl_engine *e, struct tl_usage *now, struct tl_usage *peak) {
    tl_dev_usage(e->dev, now, peak);
}
