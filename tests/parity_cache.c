/* The cases of parity.c for the verbs of the hybrid cache. Compressed blocks are encoded by
 * core/codec.c, so only what the format can hold is tried; integers must be equal. */
#include "parity.h"

#include "core/policy.h"
#include "core/vq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SLOTS_MAX = 300 };

/* One bit twice as often as the others; vector-quantised where all sides have kernels for it. */
static tl_codec pick_codec(struct trial *t) {
    static const tl_codec codecs[] = {TL_CODEC_INT1, TL_CODEC_INT1, TL_CODEC_INT2, TL_CODEC_INT4,
                                      TL_CODEC_Q8};
    bool all = true;
    for (uint32_t i = 0; i < t->sides->n; i++) {
        struct tl_dev_caps caps;
        tl_dev_get_caps(t->sides->all[i].dev, &caps);
        all = all && caps.codebooks;
    }
    return all && rng_below(&t->rng, 2) == 0
               ? (tl_codec)(TL_CODEC_VQ_D2B8 +
                            rng_below(&t->rng, TL_CODEC_COUNT - TL_CODEC_VQ_D2B8))
               : codecs[rng_below(&t->rng, 5)];
}

/* Head sizes of models, and odd ones; all are multiples of 8. */
static uint32_t pick_dim(struct trial *t) {
    static const uint32_t dims[] = {64, 128, 48, 80, 96, 256, 8, 16, 72, 136, 24, 512, 248, 120};
    return dims[rng_below(&t->rng, 14)];
}

/* A sketch on every side: random rows of values up to `most`, encoded. */
struct sketch {
    tl_codec k_codec, v_codec;
    uint32_t d, kv_heads, cap;       /* blocks of a head */
    uint32_t k, v;                   /* operands */
    uint32_t k_book, v_book, smooth; /* where the codecs have them */
};

/* A codebook like a fitted one: the built-in one, drawn off its lattice. */
static uint32_t codebook(struct trial *t, tl_codec codec, float **expanded) {
    *expanded = NULL;
    if (!tl_vq_is(codec)) {
        return 0;
    }
    const uint32_t n = tl_vq_entries(codec) * tl_vq_dim(codec);
    uint16_t *const book = must_alloc(n * sizeof *book);
    tl_vq_builtin(codec, book);
    for (uint32_t i = 0; i < n; i++) {
        book[i] = tl_f32_to_f16(tl_f16_to_f32(book[i]) * (1.0f + 0.2f * rng_float(&t->rng)));
    }
    *expanded = must_alloc(tl_vq_expanded_floats(codec) * sizeof **expanded);
    tl_vq_expand(codec, book, *expanded);
    const uint32_t id = operand(t, tl_vq_entries(codec), tl_vq_dim(codec), TL_F16, book);
    free(book);
    return id;
}

/* Factors from a quarter to 4. */
static uint32_t smoothing(struct trial *t, const struct sketch *s, float **smooth) {
    *smooth = NULL;
    if (!tl_vq_is(s->k_codec)) {
        return 0;
    }
    *smooth = must_alloc((uint64_t)s->kv_heads * s->d * sizeof **smooth);
    for (uint32_t i = 0; i < s->kv_heads * s->d; i++) {
        (*smooth)[i] = exp2f(2.0f * rng_float(&t->rng));
    }
    return operand(t, s->kv_heads, s->d, TL_F32, *smooth);
}

static void encode_block(const struct sketch *s, bool keys, tl_fit fit, float *rows,
                         const float *expanded, const float *smooth, uint8_t *block) {
    if (expanded != NULL) {
        tl_vq_encode(keys ? s->k_codec : s->v_codec, expanded, smooth,
                     keys ? 1.0f : tl_vq_stretch(s->v_codec), rows, s->d, tl_vq_nearest, block);
    } else if (keys) {
        tl_codec_encode_keys(s->k_codec, fit, rows, s->d, block);
    } else {
        tl_codec_encode_values(s->v_codec, fit, rows, s->d, block);
    }
}

static uint32_t blocks(struct trial *t, const struct sketch *s, bool keys, float most,
                       const float *expanded, const float *smooth) {
    const uint64_t bytes =
        keys ? tl_codec_key_bytes(s->k_codec, s->d) : tl_codec_value_bytes(s->v_codec, s->d);
    const uint32_t n = s->kv_heads * s->cap;
    uint8_t *const codes = must_alloc(n * bytes);
    float *const rows = must_alloc((uint64_t)TL_BLOCK * s->d * sizeof *rows);
    for (uint32_t b = 0; b < n; b++) {
        /* Channels of different sizes and blocks off the middle, as those of models are. */
        const tl_fit fit = (tl_fit)rng_below(&t->rng, 2);
        const float shift = rng_below(&t->rng, 3) == 0 ? 0.5f * most * rng_float(&t->rng) : 0.0f;
        for (uint32_t i = 0; i < TL_BLOCK * s->d; i++) {
            const float share = i % s->d % 7 == 0 ? 0.5f : 0.1f;
            rows[i] = shift + share * most * rng_float(&t->rng);
        }
        encode_block(s, keys, fit, rows, expanded,
                     smooth != NULL ? smooth + (uint64_t)(b / s->cap) * s->d : NULL,
                     codes + b * bytes);
    }
    const uint32_t id = operand(t, n, (uint32_t)bytes, TL_U8, codes);
    free(rows);
    free(codes);
    return id;
}

static struct sketch pick_sketch(struct trial *t, uint32_t cap_most, float most) {
    struct sketch s = {.k_codec = pick_codec(t), .v_codec = pick_codec(t), .d = pick_dim(t)};
    s.kv_heads = size(t, 3);
    s.cap = size(t, s.d > 128 ? cap_most / 4 : cap_most);
    float *k_book, *v_book, *smooth;
    s.k_book = codebook(t, s.k_codec, &k_book);
    s.v_book = codebook(t, s.v_codec, &v_book);
    s.smooth = smoothing(t, &s, &smooth);
    s.k = blocks(t, &s, true, most, k_book, smooth);
    s.v = blocks(t, &s, false, most, v_book, NULL);
    free(k_book);
    free(v_book);
    free(smooth);
    return s;
}

static struct tl_sketch sketch_view(const struct trial *t, const struct sketch *s, uint32_t side) {
    const bool k = tl_vq_is(s->k_codec), v = tl_vq_is(s->v_codec);
    return (struct tl_sketch){.k = view(t, s->k, side),
                              .v = view(t, s->v, side),
                              .k_codec = s->k_codec,
                              .v_codec = s->v_codec,
                              .n_kv_heads = s->kv_heads,
                              .head_dim = s->d,
                              .k_book = k ? view(t, s->k_book, side) : absent,
                              .v_book = v ? view(t, s->v_book, side) : absent,
                              .smooth = k ? view(t, s->smooth, side) : absent};
}

static void parity_compress(struct trial *t) {
    const float most = size_of_fill(t, 2e-6f, 6e4f);
    const struct sketch s = pick_sketch(t, 6, most);
    const uint32_t n = size(t, s.cap), src_cap = n * TL_BLOCK + (uint32_t)rng_below(&t->rng, 70);
    const uint32_t src_row = (uint32_t)rng_below(&t->rng, src_cap - n * TL_BLOCK + 1);
    const uint32_t dst_block = (uint32_t)rng_below(&t->rng, s.cap - n + 1);
    const tl_fit fit = (tl_fit)rng_below(&t->rng, 2);
    snprintf(t->what, sizeof t->what, "%s, %s, %u heads of %u: %u blocks from row %u to block %u",
             tl_codec_names[s.k_codec], tl_codec_names[s.v_codec], s.kv_heads, s.d, n, src_row,
             dst_block);
    const uint32_t k = weights(t, s.kv_heads * src_cap, s.d, TL_F16, most);
    const uint32_t v = weights(t, s.kv_heads * src_cap, s.d, TL_F16, most);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_compress op = {sketch_view(t, &s, i),
                                       {view(t, k, i), view(t, v, i), s.kv_heads},
                                       src_row,
                                       dst_block,
                                       n,
                                       fit};
        must(tl_compress(t->sides->all[i].s, &op), "tl_compress");
    }
    compare_bytes(t, s.k);
    compare_bytes(t, s.v);
}

static uint32_t pick_group(struct trial *t) {
    return 1 + (uint32_t)rng_below(&t->rng, rng_below(&t->rng, 4) == 0 ? 9 : 4);
}

static float pick_softcap(struct trial *t) { return rng_below(&t->rng, 4) == 0 ? 30.0f : 0.0f; }

/* Of scores: with 4 they go up to 20, and one row is most of a softmax. */
static float spread_of(const struct trial *t) {
    return t->fill == FILL_TINY ? 0.1f : t->fill == FILL_LIMIT ? 4.0f : 1.5f;
}

/* Queries that give scores of about `spread` with keys of blocks(). */
static uint32_t queries(struct trial *t, uint32_t n, uint32_t cols, float most, float spread) {
    const float key = 0.2f * most; /* root mean square, about */
    return floats(t, n, cols, 1.7f * spread / fmaxf(key, 1e-9f));
}

static void parity_key_score(struct trial *t) {
    const float most = size_of_fill(t, 2e-4f, 6e4f), spread = spread_of(t);
    const struct sketch s = pick_sketch(t, 40, most);
    const uint32_t heads = s.kv_heads * pick_group(t);
    const uint32_t n =
        s.cap - (uint32_t)rng_below(&t->rng, s.cap + 1) * (uint32_t)rng_below(&t->rng, 2);
    const float softcap = pick_softcap(t);
    snprintf(t->what, sizeof t->what,
             "%s, %u x %u heads of %u, %u of %u blocks, softcap %.0f, spread %.1f",
             tl_codec_names[s.k_codec], s.kv_heads, heads / s.kv_heads, s.d, n, s.cap,
             (double)softcap, (double)spread);
    const uint32_t q = queries(t, 1, heads * s.d, most, spread);
    const uint32_t score = floats(t, heads, s.cap * TL_BLOCK, 1.0f);
    const uint32_t count = ints(t, 1, &(int32_t){(int32_t)n});
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_key_score op = {.score = view(t, score, i),
                                        .q = view(t, q, i),
                                        .n_blocks = view(t, count, i),
                                        .sketch = sketch_view(t, &s, i),
                                        .n_heads = heads,
                                        .scale = 1.0f / sqrtf((float)s.d),
                                        .softcap = softcap};
        must(tl_key_score(t->sides->all[i].s, &op), "tl_key_score");
    }
    compare_floats(t, score, (double)spread, OF_SKETCH);
}

/* Scores with ties in plenty, rows that only some heads know, and rows that nobody may choose. */
static uint32_t scores_with_ties(struct trial *t, uint32_t heads, uint32_t cols) {
    const float most = size_of_fill(t, 1e-30f, 1e30f);
    const uint64_t n_values = rng_below(&t->rng, 2) == 0 ? 1000000 : 1 + rng_below(&t->rng, 60);
    const bool damaged = rng_below(&t->rng, 3) == 0, in_a_run = rng_below(&t->rng, 4) == 0;
    float *const x = must_alloc((uint64_t)heads * cols * sizeof *x);
    for (uint64_t i = 0; i < (uint64_t)heads * cols; i++) {
        x[i] = most * ((float)rng_below(&t->rng, n_values) / (float)n_values - 0.5f);
        x[i] += in_a_run && i % cols > cols / 2 && i % cols < cols / 2 + 400 ? most : 0.0f;
        if (damaged && rng_below(&t->rng, 8) == 0) {
            static const float odd[] = {NAN, -INFINITY, -0.0f, 0.0f};
            x[i] = odd[rng_below(&t->rng, 4)];
        }
    }
    if (rng_below(&t->rng, 30) == 0) {
        for (uint64_t i = 0; i < cols; i++) { /* a head that knows nothing */
            x[i] = rng_below(&t->rng, 2) == 0 ? NAN : -INFINITY;
        }
    }
    const uint32_t id = operand(t, heads, cols, TL_F32, x);
    free(x);
    return id;
}

static void parity_topk(struct trial *t) {
    const uint32_t kv_heads = size(t, 3), heads = kv_heads * pick_group(t);
    const uint32_t cols = size(t, rng_below(&t->rng, 4) == 0 ? 20000 : 3000), k = size(t, 300);
    const uint32_t n =
        cols - (uint32_t)rng_below(&t->rng, cols + 1) * (uint32_t)rng_below(&t->rng, 2);
    snprintf(t->what, sizeof t->what, "%u of %u of %u rows, %u x %u heads", k, n, cols, kv_heads,
             heads / kv_heads);
    const uint32_t score = scores_with_ties(t, heads, cols);
    int32_t *const zeros = must_alloc((uint64_t)kv_heads * k * sizeof *zeros);
    for (uint32_t i = 0; i < kv_heads * k; i++) {
        zeros[i] = 0;
    }
    const uint32_t idx = operand(t, kv_heads, k, TL_I32, zeros);
    free(zeros);
    const uint32_t count = ints(t, 1, &(int32_t){(int32_t)n});
    const bool based = rng_below(&t->rng, 2) == 0;
    const uint32_t base = scores_with_ties(t, 1, heads);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_topk op = {view(t, idx, i), view(t, score, i), view(t, count, i),
                                   based ? view(t, base, i) : absent};
        must(tl_topk(t->sides->all[i].s, &op), "tl_topk");
    }
    compare_bytes(t, idx);
    compare_bytes(t, score);
}

/* Up to k ascending rows below n for each head, -1 behind them. */
static uint32_t chosen_rows(struct trial *t, uint32_t kv_heads, uint32_t k, uint32_t n) {
    int32_t *const idx = must_alloc((uint64_t)kv_heads * k * sizeof *idx);
    for (uint32_t h = 0; h < kv_heads; h++) {
        uint32_t n_chosen = 0;
        const uint64_t sparse = rng_below(&t->rng, 2) == 0 ? 1 : 1 + n / k;
        for (uint32_t row = 0; row < n && n_chosen < k; row++) {
            if (rng_below(&t->rng, sparse + 1) == 0) {
                idx[h * k + n_chosen++] = (int32_t)row;
            }
        }
        for (; n_chosen < k; n_chosen++) {
            idx[h * k + n_chosen] = -1;
        }
    }
    const uint32_t id = operand(t, kv_heads, k, TL_I32, idx);
    free(idx);
    return id;
}

static void parity_attend_sketch(struct trial *t) {
    /* Values of 1 bit are drawn out to more than their rows had; tensor cores cut them at 65504. */
    const float most = size_of_fill(t, 2e-4f, 3e4f), spread = spread_of(t);
    const struct sketch s = pick_sketch(t, 24, most);
    const uint32_t heads = s.kv_heads * pick_group(t);
    const bool scored = rng_below(&t->rng, 3) == 0, skipping = rng_below(&t->rng, 2) == 0;
    const uint32_t n = scored || rng_below(&t->rng, 2) == 0 ? 1 : size(t, 9), k = size(t, 300);
    const uint32_t n_blocks =
        s.cap - (uint32_t)rng_below(&t->rng, s.cap + 1) * (uint32_t)rng_below(&t->rng, 2);
    const float softcap = pick_softcap(t);
    snprintf(t->what, sizeof t->what,
             "%s, %s, n %u, %u x %u heads of %u, %u of %u blocks%s%s, softcap %.0f, spread %.1f",
             tl_codec_names[s.k_codec], tl_codec_names[s.v_codec], n, s.kv_heads,
             heads / s.kv_heads, s.d, n_blocks, s.cap, scored ? ", scored" : "",
             skipping ? ", skipping" : "", (double)softcap, (double)spread);
    const uint32_t q = queries(t, n, heads * s.d, most, spread);
    const uint32_t out = floats(t, n, heads * s.d, 1.0f), lse = floats(t, n, heads, 1.0f);
    const uint32_t score = floats(t, heads, s.cap * TL_BLOCK, 3.0f * spread);
    const uint32_t skip = chosen_rows(t, s.kv_heads, k, n_blocks * TL_BLOCK);
    const uint32_t count = ints(t, 1, &(int32_t){(int32_t)n_blocks});
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_attend_sketch op = {.out = view(t, out, i),
                                            .lse = view(t, lse, i),
                                            .q = view(t, q, i),
                                            .n_blocks = view(t, count, i),
                                            .score = scored ? view(t, score, i) : absent,
                                            .skip = skipping ? view(t, skip, i) : absent,
                                            .sketch = sketch_view(t, &s, i),
                                            .n_heads = heads,
                                            .scale = 1.0f / sqrtf((float)s.d),
                                            .softcap = softcap};
        must(tl_attend_sketch(t->sides->all[i].s, &op), "tl_attend_sketch");
    }
    compare_floats(t, out, 0.0, OF_SKETCH);
    compare_floats(t, lse, 1.0, OF_SKETCH);
}

static void parity_attend_slots(struct trial *t) {
    static const tl_dtype dtypes[] = {TL_F16, TL_F16, TL_F16, TL_F32};
    static const uint32_t dims[] = {64, 128, 48, 80, 96, 256, 8, 2, 34, 512};
    const tl_dtype dtype = dtypes[rng_below(&t->rng, 4)];
    const uint32_t d = dims[rng_below(&t->rng, 10)], kv_heads = size(t, 3);
    const uint32_t heads = kv_heads * pick_group(t), cap = size(t, 900), k = size(t, SLOTS_MAX);
    const uint32_t row0 = (uint32_t)rng_below(&t->rng, cap);
    const float softcap = pick_softcap(t), spread = spread_of(t);
    snprintf(
        t->what, sizeof t->what, "%s, %u of %u rows from %u, %u x %u heads of %u, softcap %.0f",
        tl_dtype_info(dtype)->name, k, cap, row0, kv_heads, heads / kv_heads, d, (double)softcap);
    int32_t slots[3 * SLOTS_MAX]; /* in any order, some twice, some none */
    const bool empty = rng_below(&t->rng, 20) == 0;
    for (uint32_t i = 0; i < kv_heads * k; i++) {
        slots[i] =
            empty || rng_below(&t->rng, 9) == 0 ? -1 : (int32_t)rng_below(&t->rng, cap - row0);
    }
    const float most = size_of_fill(t, 2e-4f, 6e4f);
    const uint32_t keys = weights(t, kv_heads * cap, d, dtype, most);
    const uint32_t values = weights(t, kv_heads * cap, d, dtype, most);
    const uint32_t q = floats(t, 1, heads * d, 3.0f * spread / most);
    const uint32_t slot = operand(t, kv_heads, k, TL_I32, slots);
    const uint32_t out = floats(t, 1, heads * d, 1.0f), lse = floats(t, 1, heads, 1.0f);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_attend_slots op = {.out = view(t, out, i),
                                           .lse = view(t, lse, i),
                                           .q = view(t, q, i),
                                           .slot = view(t, slot, i),
                                           .kv = {view(t, keys, i), view(t, values, i), kv_heads},
                                           .row0 = row0,
                                           .n_heads = heads,
                                           .scale = 1.0f / sqrtf((float)d),
                                           .softcap = softcap};
        must(tl_attend_slots(t->sides->all[i].s, &op), "tl_attend_slots");
    }
    compare_floats(t, out, 0.0, OF_ATTEND);
    compare_floats(t, lse, 1.0, OF_ATTEND);
}

static uint32_t same_ints(struct trial *t, uint32_t rows, uint32_t cols, int32_t value) {
    int32_t *const x = must_alloc((uint64_t)rows * cols * sizeof *x);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
        x[i] = value;
    }
    const uint32_t id = operand(t, rows, cols, TL_I32, x);
    free(x);
    return id;
}

/* Several fetches behind each other, so that slots are taken, kept and lost. */
static void parity_fetch(struct trial *t) {
    const uint32_t kv_heads = size(t, 3), k = size(t, 40), cap = size(t, 500), n_steps = size(t, 6);
    const uint32_t row0 = (uint32_t)rng_below(&t->rng, cap), d = 8 * size(t, 16);
    const uint32_t n_slots = 2 * k + (uint32_t)rng_below(&t->rng, 50);
    snprintf(t->what, sizeof t->what, "%u heads of %u, %u rows of %u from %u, %u slots, %u steps",
             kv_heads, d, k, cap, row0, n_slots, n_steps);
    const uint32_t idx = chosen_rows(t, n_steps * kv_heads, k, cap - row0);
    const uint32_t slot = same_ints(t, n_steps * kv_heads, k, 7);
    const uint32_t home_k = weights(t, kv_heads * cap, d, TL_F16, 1.0f);
    const uint32_t home_v = weights(t, kv_heads * cap, d, TL_F16, 1.0f);
    const uint32_t hot_k = weights(t, kv_heads * n_slots, d, TL_F16, 1.0f);
    const uint32_t hot_v = weights(t, kv_heads * n_slots, d, TL_F16, 1.0f);
    const uint32_t owner = same_ints(t, kv_heads, n_slots, 3); /* of an empty set: anything */
    const uint32_t used = same_ints(t, kv_heads, n_slots, 1);
    const uint32_t hand = same_ints(t, kv_heads, 1, 0), counts = same_ints(t, 1, 2, 5);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        for (uint32_t step = 0; step < n_steps; step++) {
            const struct tl_fetch op = {
                .hot = {view(t, hot_k, i), view(t, hot_v, i), kv_heads},
                .home = {view(t, home_k, i), view(t, home_v, i), kv_heads},
                .idx = tl_view_rows(view(t, idx, i), step * kv_heads, kv_heads),
                .slot = tl_view_rows(view(t, slot, i), step * kv_heads, kv_heads),
                .owner = view(t, owner, i),
                .used = view(t, used, i),
                .hand = view(t, hand, i),
                .counts = view(t, counts, i),
                .row0 = row0};
            must(tl_fetch(t->sides->all[i].s, &op), "tl_fetch");
        }
    }
    const uint32_t outs[] = {slot, owner, used, hand, counts, hot_k, hot_v, home_k};
    for (uint32_t i = 0; i < sizeof outs / sizeof outs[0]; i++) {
        compare_bytes(t, outs[i]);
    }
}

static void parity_merge(struct trial *t) {
    const uint32_t n = size(t, 20), heads = size(t, 40), d = size(t, 130);
    snprintf(t->what, sizeof t->what, "n %u, %u heads of %u", n, heads, d);
    const float most = size_of_fill(t, 1e-6f, 1e5f);
    float lses[2][800];
    for (uint32_t i = 0; i < 2 * n * heads; i++) {
        const bool nothing = rng_below(&t->rng, 6) == 0;
        lses[i / (n * heads)][i % (n * heads)] =
            nothing ? -INFINITY : size_of_fill(t, 0.1f, 300.0f) * rng_float(&t->rng);
    }
    const uint32_t out = floats(t, n, heads * d, most), out_b = floats(t, n, heads * d, most);
    const uint32_t lse = operand(t, n, heads, TL_F32, lses[0]);
    const uint32_t lse_b = operand(t, n, heads, TL_F32, lses[1]);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_merge op = {view(t, out, i), view(t, lse, i), view(t, out_b, i),
                                    view(t, lse_b, i)};
        must(tl_merge(t->sides->all[i].s, &op), "tl_merge");
    }
    compare_floats(t, out, 0.0, OF_ATTEND);
    compare_floats(t, lse, 1.0, OF_ATTEND);
    compare_bytes(t, out_b);
}

/* Queries at the end of a text, or anywhere, some of which see nothing. */
static uint32_t positions(struct trial *t, uint32_t n, uint32_t n_rows) {
    int32_t at[64];
    const bool at_end = rng_below(&t->rng, 2) == 0;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = at_end ? (int32_t)n_rows - (int32_t)n + (int32_t)i
                       : (int32_t)rng_below(&t->rng, n_rows + 3) - 2;
    }
    return ints(t, n, at);
}

static void parity_mass(struct trial *t) {
    static const tl_dtype dtypes[] = {TL_F16, TL_F16, TL_F16, TL_F32};
    static const uint32_t dims[] = {64, 128, 48, 80, 96, 256, 8, 2, 34, 512};
    static const uint16_t parts[] = {1, 10, 33, 100, 500, 501, 2500, 9999, 10000};
    const tl_dtype dtype = dtypes[rng_below(&t->rng, 4)];
    const uint32_t d = dims[rng_below(&t->rng, 10)], kv_heads = size(t, 3), n = size(t, 33);
    const uint32_t heads = kv_heads * pick_group(t), cap = size(t, 700);
    const uint32_t n_rows = 1 + (uint32_t)rng_below(&t->rng, cap);
    const uint32_t window = rng_below(&t->rng, 3) == 0 ? size(t, n_rows) : 0;
    const float softcap = pick_softcap(t), spread = spread_of(t);
    snprintf(t->what, sizeof t->what, "%s, n %u, %u rows, %u x %u heads of %u, window %u",
             tl_dtype_info(dtype)->name, n, n_rows, kv_heads, heads / kv_heads, d, window);
    const float most = size_of_fill(t, 2e-4f, 6e4f);
    const uint32_t keys = weights(t, kv_heads * cap, d, dtype, most);
    const uint32_t values = weights(t, kv_heads * cap, d, dtype, most);
    const uint32_t q = floats(t, n, heads * d, 3.0f * spread / most);
    const uint32_t pos = positions(t, n, n_rows), count = ints(t, 1, &(int32_t){(int32_t)n_rows});
    const uint32_t n_parts = 1 + (uint32_t)rng_below(&t->rng, sizeof parts / sizeof parts[0]);
    const uint32_t mass = floats(t, heads, n_parts, 1.0f);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        struct tl_mass op = {.mass = view(t, mass, i),
                             .q = view(t, q, i),
                             .q_pos = view(t, pos, i),
                             .n_rows = view(t, count, i),
                             .kv = {view(t, keys, i), view(t, values, i), kv_heads},
                             .n_heads = heads,
                             .scale = 1.0f / sqrtf((float)d),
                             .softcap = softcap,
                             .window = window,
                             .n_parts = n_parts};
        for (uint32_t j = 0; j < n_parts; j++) {
            op.parts[j] = parts[j];
        }
        must(tl_mass(t->sides->all[i].s, &op), "tl_mass");
    }
    compare_floats(t, mass, 0.0, OF_ATTEND);
}

const struct parity_op cache_ops[] = {
    {"compress", parity_compress},
    {"key_score", parity_key_score},
    {"topk", parity_topk},
    {"attend_sketch", parity_attend_sketch},
    {"attend_slots", parity_attend_slots},
    {"fetch", parity_fetch},
    {"merge", parity_merge},
    {"mass", parity_mass},
};
const uint32_t n_cache_ops = sizeof cache_ops / sizeof cache_ops[0];
