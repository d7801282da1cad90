/* Training as the text passes: a layer's rows are there for one call, so its codebooks are made in
 * it, or its share of the model's vectors is kept. */
#include "fit_books.h"

#include <stdlib.h>
#include <string.h>

enum { VECTORS = 32768 /* that one codebook is trained on: 8 for each of 4096 entries */ };
static const char *const side_names[TL_SIDE_COUNT] = {"keys", "values"};

/* The codecs that layers may have on one side, others' and dense ones'; returns how many of them
 * have a codebook. */
static uint32_t codecs_of(const struct cli_fit_books *fit, uint32_t il, tl_side side,
                          tl_codec codecs[2]) {
    const struct tl_policies *const set = fit->set;
    const struct tl_policy *const policies[] = {&set->layers[il],
                                                set->has_dense ? &set->dense : &set->layers[il]};
    uint32_t n = 0;
    for (uint32_t i = 0; i < 2; i++) {
        const tl_codec codec = side == TL_SIDE_K ? policies[i]->k_codec : policies[i]->v_codec;
        if (tl_vq_is(codec) && (n == 0 || codecs[0] != codec)) {
            codecs[n++] = codec;
        }
    }
    return n;
}

tl_err cli_fit_books_open(struct cli_fit_books *fit, const struct tl_policies *set,
                          const struct tl_shape *shape, bool per_model, tl_log log) {
    *fit = (struct cli_fit_books){.set = set, .per_model = per_model, .seed = 1, .log = log};
    bool any = false;
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        tl_codec codecs[2];
        any = any || codecs_of(fit, il, TL_SIDE_K, codecs) > 0 ||
              codecs_of(fit, il, TL_SIDE_V, codecs) > 0;
    }
    return any ? tl_books_open(&fit->books, shape->n_layers, shape->n_kv_heads, shape->head_dim)
               : TL_OK;
}

void cli_fit_books_close(struct cli_fit_books *fit) {
    tl_books_close(&fit->books);
    for (uint32_t i = 0; i < fit->n_pools; i++) {
        free(fit->pools[i].vectors);
    }
    fit->n_pools = 0;
}

static tl_err train(struct cli_fit_books *fit, tl_side side, tl_codec codec, uint32_t first,
                    uint32_t last, const float *vectors, uint64_t n) {
    const uint64_t start = tl_now_ns();
    uint16_t *const book = malloc((size_t)tl_vq_entries(codec) * tl_vq_dim(codec) * sizeof *book);
    if (book == NULL) {
        return TL_ERR_MEMORY;
    }
    double error = 0;
    const struct tl_vq_training training = {.vectors = vectors, .n = n, .seed = fit->seed};
    tl_err err = tl_vq_train(codec, &training, book, &error);
    err = err ? err : tl_books_add(fit->books, side, codec, first, last, book);
    free(book);
    if (!err) {
        char layers[32];
        tl_layer_range_spell(first, last, layers, sizeof layers);
        tl_say(&fit->log, TL_LEVEL_INFO, "layer %s: %s %s: %.1f %% error left, %.1f s", layers,
               side_names[side], tl_codec_names[codec], 100 * error,
               (double)(tl_now_ns() - start) * 1e-9);
    }
    return err;
}

/* The model's vectors for this codebook, with room for all layers' shares. NULL without memory. */
static struct cli_fit_pool *pool_of(struct cli_fit_books *fit, tl_side side, tl_codec codec) {
    for (uint32_t i = 0; i < fit->n_pools; i++) {
        if (fit->pools[i].side == side && fit->pools[i].codec == codec) {
            return &fit->pools[i];
        }
    }
    TL_ASSERT(fit->n_pools < CLI_FIT_POOLS_MAX);
    struct cli_fit_pool *const pool = &fit->pools[fit->n_pools];
    *pool = (struct cli_fit_pool){.side = side, .codec = codec};
    pool->vectors = malloc((size_t)VECTORS * tl_vq_dim(codec) * sizeof *pool->vectors);
    fit->n_pools += pool->vectors != NULL;
    return pool->vectors != NULL ? pool : NULL;
}

static tl_err learn(struct cli_fit_books *fit, uint32_t il, tl_side side, tl_codec codec,
                    const struct tl_exact_rows *rows, const float *smooth) {
    const uint32_t dim = tl_vq_dim(codec);
    const struct tl_vq_turn_params turn = {.smooth = side == TL_SIDE_K ? smooth : NULL,
                                           .rotated = true};
    const uint16_t *const from = side == TL_SIDE_K ? rows->k : rows->v;
    if (fit->per_model) {
        struct cli_fit_pool *const pool = pool_of(fit, side, codec);
        const uint64_t n = VECTORS / fit->set->n_layers;
        if (pool == NULL) {
            return TL_ERR_MEMORY;
        }
        TL_TRY(
            tl_vq_sample(rows, from, dim, &turn, fit->seed + il, n, pool->vectors + pool->n * dim));
        pool->n += n;
        return TL_OK;
    }
    float *const vectors = malloc((size_t)VECTORS * dim * sizeof *vectors);
    if (vectors == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = tl_vq_sample(rows, from, dim, &turn, fit->seed + il, VECTORS, vectors);
    err = err ? err : train(fit, side, codec, il, il, vectors, VECTORS);
    free(vectors);
    return err;
}

static tl_err learn_sides(struct cli_fit_books *fit, uint32_t il, const struct tl_exact_rows *rows,
                          float *smooth) {
    for (tl_side side = TL_SIDE_K; side < TL_SIDE_COUNT; side++) {
        tl_codec codecs[2];
        const uint32_t n = codecs_of(fit, il, side, codecs);
        if (side == TL_SIDE_K && n > 0) {
            tl_vq_find_smooth(rows, smooth);
            TL_TRY(tl_books_set_smooth(fit->books, il, smooth));
        }
        for (uint32_t i = 0; i < n; i++) {
            TL_TRY(learn(fit, il, side, codecs[i], rows, smooth));
        }
    }
    return TL_OK;
}

tl_err cli_fit_books_layer(void *user, uint32_t il, const struct tl_exact_rows *rows) {
    struct cli_fit_books *const fit = user;
    float *const smooth = malloc((size_t)rows->n_kv_heads * rows->head_dim * sizeof *smooth);
    const tl_err err = smooth != NULL ? learn_sides(fit, il, rows, smooth) : TL_ERR_MEMORY;
    free(smooth);
    return err;
}

tl_err cli_fit_books_finish(struct cli_fit_books *fit) {
    for (uint32_t i = 0; i < fit->n_pools; i++) {
        const struct cli_fit_pool *const pool = &fit->pools[i];
        TL_TRY(
            train(fit, pool->side, pool->codec, 0, fit->set->n_layers - 1, pool->vectors, pool->n));
    }
    return TL_OK;
}
