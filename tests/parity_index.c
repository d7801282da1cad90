/* The cases of parity.c for the indexes of the hybrid cache, and their speed. Keys are f16 like
 * those of every home; chosen channels and moved columns must be equal to the bit. */
#include "parity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES_KINDS = 2 };

/* Head sizes of models, and odd ones. */
static uint32_t pick_dim(struct trial *t) {
    static const uint32_t dims[] = {64, 128, 48, 80, 96, 256, 8, 16, 72, 24, 512, 5};
    return dims[rng_below(&t->rng, 12)];
}

static uint32_t pick_group(struct trial *t) { return 1 + (uint32_t)rng_below(&t->rng, 5); }

/* Fewer blocks of wide heads, or a trial takes too long. */
static uint32_t pick_cap(struct trial *t, uint32_t d, uint32_t most) {
    return size(t, d > 128 ? most / 4 : most);
}

/* f16 rows, some with what no arithmetic should meet. */
static uint32_t keys_of(struct trial *t, uint32_t rows, uint32_t d, float most) {
    uint16_t *const x = must_alloc((uint64_t)rows * d * sizeof *x);
    fill_weights(&t->rng, TL_F16, x, rows, d, most);
    for (uint64_t i = rng_below(&t->rng, 4); i < 3; i++) {
        static const uint16_t odd[] = {0x7c00, 0xfc00, 0x7e01, 0xfe00, 0x8000, 0x0000};
        x[rng_below(&t->rng, (uint64_t)rows * d)] = odd[rng_below(&t->rng, 6)];
    }
    const uint32_t id = operand(t, rows, d, TL_F16, x);
    free(x);
    return id;
}

static uint32_t count_of(struct trial *t, uint32_t cap) {
    const bool all = rng_below(&t->rng, 2) == 0;
    return all ? cap : (uint32_t)rng_below(&t->rng, cap + 1);
}

/* What were the largest values: no sign, no NaN. */
static uint32_t largest_of(struct trial *t, uint32_t rows, uint32_t d) {
    uint16_t *const sizes = must_alloc((uint64_t)rows * d * sizeof *sizes);
    for (uint32_t i = 0; i < rows * d; i++) {
        sizes[i] = (uint16_t)rng_below(&t->rng, rng_below(&t->rng, 2) == 0 ? 3 : 0x7c01);
    }
    const uint32_t id = operand(t, rows, d, TL_F16, sizes);
    free(sizes);
    return id;
}

static void parity_key_transpose(struct trial *t) {
    const uint32_t d = pick_dim(t), kv_heads = size(t, 3), cap = pick_cap(t, d, 8);
    const uint32_t n = size(t, cap), dst_block = (uint32_t)rng_below(&t->rng, cap - n + 1);
    const uint32_t src_cap = n * TL_BLOCK + (uint32_t)rng_below(&t->rng, 70);
    const uint32_t src_row = (uint32_t)rng_below(&t->rng, src_cap - n * TL_BLOCK + 1);
    const float most = size_of_fill(t, 2e-6f, 6e4f);
    snprintf(t->what, sizeof t->what, "%u heads of %u: %u blocks from row %u to block %u of %u",
             kv_heads, d, n, src_row, dst_block, cap);
    const uint32_t src = keys_of(t, kv_heads * src_cap, d, most);
    const uint32_t keys = weights(t, kv_heads * d, cap * TL_BLOCK, TL_F16, most);
    const uint32_t largest = largest_of(t, kv_heads * cap, d);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_key_transpose op = {
            .dst = {view(t, keys, i), view(t, largest, i), kv_heads},
            .src = view(t, src, i),
            .src_row = src_row,
            .dst_block = dst_block,
            .n_blocks = n};
        must(tl_key_transpose(t->sides->all[i].s, &op), "tl_key_transpose");
    }
    compare_bytes(t, keys);
    compare_bytes(t, largest);
    compare_bytes(t, src);
}

/* Queries with ties: some channels equal, some zero, some not numbers. */
static uint32_t queries(struct trial *t, uint32_t cols) {
    float *const x = must_alloc(cols * sizeof *x);
    const bool ties = rng_below(&t->rng, 2) == 0, damaged = rng_below(&t->rng, 5) == 0;
    const float most = size_of_fill(t, 1e-6f, 1e4f);
    for (uint32_t i = 0; i < cols; i++) {
        x[i] = most * (ties ? (float)rng_below(&t->rng, 3) - 1.0f : rng_float(&t->rng));
        x[i] = damaged && rng_below(&t->rng, 9) == 0 ? NAN : x[i];
    }
    const uint32_t id = operand(t, 1, cols, TL_F32, x);
    free(x);
    return id;
}

static void parity_channels(struct trial *t) {
    const uint32_t d = pick_dim(t), kv_heads = size(t, 4), cap = size(t, 9);
    const uint32_t heads = kv_heads * pick_group(t), k = size(t, d), n = count_of(t, cap);
    snprintf(t->what, sizeof t->what, "%u of %u channels, %u x %u heads, %u of %u blocks", k, d,
             kv_heads, heads / kv_heads, n, cap);
    const uint32_t most = largest_of(t, kv_heads * cap, d);
    const uint32_t q = queries(t, heads * d), count = ints(t, 1, &(int32_t){(int32_t)n});
    int32_t *const none = must_alloc((uint64_t)kv_heads * k * sizeof *none);
    const uint32_t ids = operand(t, kv_heads, k, TL_I32, none);
    free(none);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_channels op = {.ids = view(t, ids, i),
                                       .q = view(t, q, i),
                                       .most = view(t, most, i),
                                       .n_blocks = view(t, count, i),
                                       .n_heads = heads};
        must(tl_channels(t->sides->all[i].s, &op), "tl_channels");
    }
    compare_bytes(t, ids);
}

/* k different channels of d for each head, ascending or as they come. */
static uint32_t some_channels(struct trial *t, uint32_t heads, uint32_t k, uint32_t d) {
    int32_t *const ids = must_alloc((uint64_t)heads * k * sizeof *ids);
    int32_t all[TL_HEAD_DIM_MAX];
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t c = 0; c < d; c++) {
            all[c] = (int32_t)c;
        }
        for (uint32_t j = 0; j < k; j++) {
            const uint64_t other = j + rng_below(&t->rng, d - j);
            const int32_t id = all[other];
            all[other] = all[j];
            all[j] = id;
            ids[h * k + j] = id;
        }
    }
    const uint32_t id = operand(t, heads, k, TL_I32, ids);
    free(ids);
    return id;
}

/* A fetch ahead, and one that keeps what is there. */
static void parity_channel_fetch(struct trial *t) {
    const uint32_t d = pick_dim(t), kv_heads = size(t, 3), cap = pick_cap(t, d, 6);
    const uint32_t k = size(t, d < 40 ? d : 40), n = count_of(t, cap);
    snprintf(t->what, sizeof t->what, "%u of %u channels, %u heads, %u of %u blocks", k, d,
             kv_heads, n, cap);
    const uint32_t keys = weights(t, kv_heads * d, cap * TL_BLOCK, TL_F16, 1.0f);
    const uint32_t part = weights(t, kv_heads * k, cap * TL_BLOCK, TL_F16, 1.0f);
    const uint32_t first = some_channels(t, kv_heads, k, d);
    const uint32_t second = some_channels(t, kv_heads, k, d);
    const uint32_t held = some_channels(t, kv_heads, k, d);
    const uint32_t counts = ints(t, 2, (int32_t[]){3, 4});
    const uint32_t count = ints(t, 1, &(int32_t){(int32_t)n});
    for (uint32_t i = 0; i < t->sides->n; i++) {
        struct tl_channel_fetch op = {.part = view(t, part, i),
                                      .keys = view(t, keys, i),
                                      .want = view(t, first, i),
                                      .held = view(t, held, i),
                                      .counts = tl_view_reshape(view(t, counts, i), 1, 2),
                                      .n_blocks = view(t, count, i)};
        must(tl_channel_fetch(t->sides->all[i].s, &op), "tl_channel_fetch");
        op.want = view(t, second, i);
        op.keep = true;
        must(tl_channel_fetch(t->sides->all[i].s, &op), "tl_channel_fetch");
    }
    const uint32_t outs[] = {part, held, counts, first, second, keys};
    for (uint32_t i = 0; i < sizeof outs / sizeof outs[0]; i++) {
        compare_bytes(t, outs[i]);
    }
}

static void parity_channel_score(struct trial *t) {
    const uint32_t d = pick_dim(t), kv_heads = size(t, 3), cap = size(t, 40);
    const uint32_t heads = kv_heads * pick_group(t), k = size(t, d < 40 ? d : 40);
    const uint32_t n = count_of(t, cap);
    const float most = size_of_fill(t, 2e-4f, 6e4f);
    snprintf(t->what, sizeof t->what, "%u of %u channels, %u x %u heads, %u of %u blocks", k, d,
             kv_heads, heads / kv_heads, n, cap);
    const uint32_t part = weights(t, kv_heads * k, cap * TL_BLOCK, TL_F16, most);
    const uint32_t held = some_channels(t, kv_heads, k, d), q = floats(t, 1, heads * d, 1.0f);
    const uint32_t score = floats(t, kv_heads, cap * TL_BLOCK, most);
    const uint32_t count = ints(t, 1, &(int32_t){(int32_t)n});
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_channel_score op = {.score = view(t, score, i),
                                            .q = view(t, q, i),
                                            .part = view(t, part, i),
                                            .held = view(t, held, i),
                                            .n_blocks = view(t, count, i),
                                            .n_heads = heads,
                                            .head_dim = d};
        must(tl_channel_score(t->sides->all[i].s, &op), "tl_channel_score");
    }
    compare_floats(t, score, 0.2 * (double)most, OF_FLOAT);
}

static tl_page_kind pick_kind(struct trial *t) {
    return (tl_page_kind)rng_below(&t->rng, PAGES_KINDS);
}

static void parity_page_encode(struct trial *t) {
    const uint32_t d = pick_dim(t), kv_heads = size(t, 3), cap = pick_cap(t, d, 8);
    const uint32_t n = size(t, cap), dst_block = (uint32_t)rng_below(&t->rng, cap - n + 1);
    const uint32_t src_cap = n * TL_BLOCK + (uint32_t)rng_below(&t->rng, 70);
    const uint32_t src_row = (uint32_t)rng_below(&t->rng, src_cap - n * TL_BLOCK + 1);
    const uint32_t page = 1u << rng_below(&t->rng, 7);
    const tl_page_kind kind = pick_kind(t);
    const float most = size_of_fill(t, 2e-3f, 6e4f);
    snprintf(
        t->what, sizeof t->what, "%s, %u heads of %u, pages of %u: %u blocks from row %u to %u",
        kind == TL_PAGE_BOUNDS ? "bounds" : "moments", kv_heads, d, page, n, src_row, dst_block);
    const uint32_t src = keys_of(t, kv_heads * src_cap, d, most);
    const uint32_t rows = weights(t, kv_heads * cap * (TL_BLOCK / page), 2 * d, TL_F16, most);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_page_encode op = {.dst = {view(t, rows, i), kind, kv_heads, page},
                                          .src = view(t, src, i),
                                          .src_row = src_row,
                                          .dst_block = dst_block,
                                          .n_blocks = n};
        must(tl_page_encode(t->sides->all[i].s, &op), "tl_page_encode");
    }
    if (kind == TL_PAGE_BOUNDS) {
        compare_bytes(t, rows);
    } else {
        compare_floats(t, rows, 0.0, OF_HALF);
    }
    compare_bytes(t, src);
}

static void parity_page_score(struct trial *t) {
    const uint32_t d = pick_dim(t), kv_heads = size(t, 3), cap = pick_cap(t, d, 24);
    const uint32_t heads = kv_heads * pick_group(t), page = 1u << rng_below(&t->rng, 7);
    const uint32_t n = count_of(t, cap);
    const tl_page_kind kind = pick_kind(t);
    const float most = size_of_fill(t, 2e-4f, 6e4f), softcap = rng_below(&t->rng, 4) ? 0.0f : 30.0f;
    snprintf(t->what, sizeof t->what, "%s, %u x %u heads of %u, pages of %u, %u of %u blocks",
             kind == TL_PAGE_BOUNDS ? "bounds" : "moments", kv_heads, heads / kv_heads, d, page, n,
             cap);
    const uint32_t rows = weights(t, kv_heads * cap * (TL_BLOCK / page), 2 * d, TL_F16, most);
    const uint32_t q = floats(t, 1, heads * d, 4.0f / most);
    const uint32_t score = floats(t, heads, cap * TL_BLOCK, 1.0f);
    const uint32_t count = ints(t, 1, &(int32_t){(int32_t)n});
    const float scale = 1.0f / sqrtf((float)d);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_page_score op = {
            .score = view(t, score, i),
            .q = view(t, q, i),
            .n_blocks = view(t, count, i),
            .pages = {view(t, rows, i), kind, kv_heads, page},
            .n_heads = heads,
            .scale = scale,
            .softcap = softcap,
            .sigmas = kind == TL_PAGE_MOMENTS ? 1.766f : 0.0f,
        };
        must(tl_page_score(t->sides->all[i].s, &op), "tl_page_score");
    }
    compare_floats(t, score, 1.0, OF_FLOAT);
}

const struct parity_op index_ops[] = {
    {"key_transpose", parity_key_transpose}, {"channels", parity_channels},
    {"channel_fetch", parity_channel_fetch}, {"channel_score", parity_channel_score},
    {"page_encode", parity_page_encode},     {"page_score", parity_page_score},
};
const uint32_t n_index_ops = sizeof index_ops / sizeof index_ops[0];
