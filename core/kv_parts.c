/* A layer's tiers as a list: which bytes of which views hold something. Whoever saves, restores or
 * weighs a cache walks this list, so that a new tier is named in one place. The order is fixed by
 * the policy and the extents by row and block counts: two layers of one policy with the same counts
 * have the same list, whatever their capacity. */
#include "kv.h"

#include <stdlib.h>
#include <string.h>

struct list {
    struct tl_kv_part *parts;
    uint32_t n;
};

static void add(struct list *list, tl_kv_tier tier, tl_view view, uint32_t n_groups,
                uint32_t n_used) {
    TL_ASSERT(list->n < TL_KV_PARTS_MAX && view.rows % n_groups == 0);
    TL_ASSERT(n_used <= view.rows / n_groups);
    list->parts[list->n++] =
        (struct tl_kv_part){.tier = tier, .view = view, .n_groups = n_groups, .n_used = n_used};
}

static void add_rows(struct list *list, tl_kv_tier k, tl_kv_tier v, const struct tl_kv_rows *rows,
                     uint32_t n_used) {
    if (rows->k.buf != NULL) {
        add(list, k, rows->k, rows->n_kv_heads, n_used);
        add(list, v, rows->v, rows->n_kv_heads, n_used);
    }
}

uint32_t tl_kv_list_parts(const struct tl_kv_layer *layer, uint32_t n_rows,
                          struct tl_kv_part parts[TL_KV_PARTS_MAX]) {
    struct list list = {.parts = parts};
    const struct tl_sketch *const sketch = &layer->sketch;
    const uint32_t heads = layer->hot.n_kv_heads;
    add_rows(&list, TL_TIER_WINDOW_K, TL_TIER_WINDOW_V, &layer->window,
             n_rows - layer->n_blocks * TL_BLOCK);
    add_rows(&list, TL_TIER_HOME_K, TL_TIER_HOME_V, &layer->home, n_rows);
    if (sketch->k.buf != NULL) {
        add(&list, TL_TIER_SKETCH_K, sketch->k, sketch->n_kv_heads, layer->n_blocks);
        add(&list, TL_TIER_SKETCH_V, sketch->v, sketch->n_kv_heads, layer->n_blocks);
    }
    const tl_view books[] = {sketch->k_book, sketch->v_book, sketch->smooth};
    for (uint32_t i = 0; i < sizeof books / sizeof books[0]; i++) {
        if (books[i].buf != NULL) {
            add(&list, (tl_kv_tier)(TL_TIER_BOOK_K + i), books[i], 1, books[i].rows);
        }
    }
    if (layer->hot.k.buf != NULL) {
        add_rows(&list, TL_TIER_HOT_K, TL_TIER_HOT_V, &layer->hot, layer->hot.k.rows / heads);
        add(&list, TL_TIER_HOT_OWNER, layer->owner, heads, 1);
        add(&list, TL_TIER_HOT_USED, layer->used, heads, 1);
        add(&list, TL_TIER_HOT_HAND, layer->hand, heads, 1);
    }
    return list.n;
}

static int32_t int_at(const uint8_t *ints, uint64_t i) {
    int32_t value;
    memcpy(&value, ints + i * sizeof value, sizeof value);
    return value;
}

/* Head h; rows: a bit for each that was seen, all of them 0. */
static bool check_head(const struct tl_kv_layer *layer, const struct tl_kv_hot *hot, uint32_t h,
                       uint8_t *rows) {
    const int64_t n_old = (int64_t)layer->n_blocks * TL_BLOCK;
    const uint32_t n_slots = layer->owner.cols;
    const int32_t hand = int_at(hot->hand, h);
    if (hand < 0 || hand > (int64_t)n_slots) {
        return false;
    }
    for (uint32_t slot = 0; hand != 0 && slot < n_slots; slot++) {
        const uint64_t at = (uint64_t)h * n_slots + slot;
        const int32_t row = int_at(hot->owner, at), used = int_at(hot->used, at);
        if (row < -1 || row >= n_old || used < 0 || used > 1) {
            return false;
        }
        if (row >= 0 && (rows[row / 8] >> row % 8 & 1) != 0) {
            return false;
        }
        if (row >= 0) {
            rows[row / 8] = (uint8_t)(rows[row / 8] | 1 << row % 8);
        }
    }
    return true;
}

tl_err tl_kv_check_hot(const struct tl_kv_layer *layer, const struct tl_kv_hot *hot, bool *can_be) {
    const size_t n_bytes = (size_t)layer->n_blocks * TL_BLOCK / 8;
    *can_be = true;
    for (uint32_t h = 0; h < layer->hot.n_kv_heads && *can_be; h++) {
        uint8_t *const rows = calloc(n_bytes + 1, 1);
        if (rows == NULL) {
            return TL_ERR_MEMORY;
        }
        *can_be = check_head(layer, hot, h, rows);
        free(rows);
    }
    return TL_OK;
}
