/* Recall of indexes. What chooses is the product's own: the seam's verbs score blocks as a
 * session's cache holds them, and tl_topk takes the best for each KV head, by the rule of decode
 * (core/choose.c): a head's say is weighed by what its window holds, but with channels. Beside them
 * stand two ways that no preset has: exact keys, which show what the rule itself loses, and signs
 * of rotated keys with one norm a row.
 *
 * Recall is mass chosen / mass of the best: attention of the last queries, summed over queries and
 * heads, on the rows chosen, against the same sum where each head had its own best rows, as many.
 * Rows of the window (the first CLI_INDEX_SINK, the newest CLI_INDEX_RECENT and what is left of a
 * block) are nobody's merit and in neither sum.
 *
 * Codebooks called fitted, and means, are learned from the first quarter of the rows, hence mostly
 * not on what is searched; but it is the same text. */
#include "fit_indexes.h"

#include "core/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const uint32_t cli_index_budgets[CLI_INDEX_BUDGETS] = {32, 128, 512};

enum { VECTORS = 16384, VIEWS_MAX = 25, CHANNELS_MAX = 12 };

typedef enum kind { EXACT, SIGNS, CODES, CHANNELS, PAGES } kind;
typedef enum form { AS_IS, ROTATED, FITTED, CENTRED } form;

static const struct way {
    const char *name;
    kind kind;
    tl_codec codec;
    form form; /* of what keys codes are, and which codebook */
    tl_page_kind pages;
    uint32_t size; /* channels, rows of a page */
} ways[CLI_INDEXES] = {
    {"exact keys", EXACT, TL_CODEC_NONE, AS_IS, 0, 0},
    {"int4", CODES, TL_CODEC_INT4, AS_IS, 0, 0},
    {"int2", CODES, TL_CODEC_INT2, AS_IS, 0, 0},
    {"int2 rotated", CODES, TL_CODEC_INT2, ROTATED, 0, 0},
    {"int1", CODES, TL_CODEC_INT1, AS_IS, 0, 0},
    {"int1 rotated", CODES, TL_CODEC_INT1, ROTATED, 0, 0},
    {"signs rotated", SIGNS, TL_CODEC_NONE, ROTATED, 0, 0},
    {"vq-d2b8", CODES, TL_CODEC_VQ_D2B8, AS_IS, 0, 0},
    {"vq-d4b10", CODES, TL_CODEC_VQ_D4B10, AS_IS, 0, 0},
    {"vq-d4b8", CODES, TL_CODEC_VQ_D4B8, AS_IS, 0, 0},
    {"vq-d2b4", CODES, TL_CODEC_VQ_D2B4, AS_IS, 0, 0},
    {"vq-d8b12", CODES, TL_CODEC_VQ_D8B12, AS_IS, 0, 0},
    {"vq-d8b10", CODES, TL_CODEC_VQ_D8B10, AS_IS, 0, 0},
    {"vq-d8b8", CODES, TL_CODEC_VQ_D8B8, AS_IS, 0, 0},
    {"vq-d4b10 fitted", CODES, TL_CODEC_VQ_D4B10, FITTED, 0, 0},
    {"vq-d4b8 fitted", CODES, TL_CODEC_VQ_D4B8, FITTED, 0, 0},
    {"vq-d2b4 fitted", CODES, TL_CODEC_VQ_D2B4, FITTED, 0, 0},
    {"vq-d8b12 fitted", CODES, TL_CODEC_VQ_D8B12, FITTED, 0, 0},
    {"vq-d8b10 fitted", CODES, TL_CODEC_VQ_D8B10, FITTED, 0, 0},
    {"vq-d8b8 fitted", CODES, TL_CODEC_VQ_D8B8, FITTED, 0, 0},
    {"vq-d4b10 centred", CODES, TL_CODEC_VQ_D4B10, CENTRED, 0, 0},
    {"vq-d4b8 centred", CODES, TL_CODEC_VQ_D4B8, CENTRED, 0, 0},
    {"vq-d8b12 centred", CODES, TL_CODEC_VQ_D8B12, CENTRED, 0, 0},
    {"vq-d8b8 centred", CODES, TL_CODEC_VQ_D8B8, CENTRED, 0, 0},
    {"channels 12", CHANNELS, TL_CODEC_NONE, AS_IS, 0, 12},
    {"channels 8", CHANNELS, TL_CODEC_NONE, AS_IS, 0, 8},
    {"channels 6", CHANNELS, TL_CODEC_NONE, AS_IS, 0, 6},
    {"channels 4", CHANNELS, TL_CODEC_NONE, AS_IS, 0, 4},
    {"bounds 8", PAGES, TL_CODEC_NONE, AS_IS, TL_PAGE_BOUNDS, 8},
    {"bounds 16", PAGES, TL_CODEC_NONE, AS_IS, TL_PAGE_BOUNDS, 16},
    {"bounds 32", PAGES, TL_CODEC_NONE, AS_IS, TL_PAGE_BOUNDS, 32},
    {"mean+std 8", PAGES, TL_CODEC_NONE, AS_IS, TL_PAGE_MOMENTS, 8},
    {"mean+std 16", PAGES, TL_CODEC_NONE, AS_IS, TL_PAGE_MOMENTS, 16},
    {"mean+std 32", PAGES, TL_CODEC_NONE, AS_IS, TL_PAGE_MOMENTS, 32},
};

/* What a step reads for one row of one KV head; of channels, those that are fetched. */
static double row_bytes(const struct way *w, uint32_t d) {
    switch (w->kind) {
    case EXACT:
        return 2.0 * d;
    case SIGNS:
        return d / 8.0 + 2;
    case CODES:
        return (double)tl_codec_key_bytes(w->codec, d) / TL_BLOCK;
    case CHANNELS:
        return 2.0 * w->size;
    default:
        return 4.0 * d / w->size;
    }
}

/* ---- one layer ---- */

struct room {
    struct cli_fit_indexes *f;
    const struct tl_exact_rows *rows;
    struct cli_index_layer *found;
    uint32_t n_blocks, n_old, group;
    uint32_t seed;
    tl_buf *bufs[VIEWS_MAX];
    uint32_t n_bufs;
    /* host memory all; k (n_kv_heads * n_rows, d) f16, turned; q, base and lse of one
     * query */
    tl_view k, k_rotated, k_centred, q, base, score, kv_score, n_blocks_view, n_old_view,
        idx[CLI_INDEX_BUDGETS];
    tl_view k_codes, v_codes, book, smooth, pages, columns, most, part, want, held, counts;
    float *weights;          /* owned: (n_queries, n_heads, n_old), shares of all attention */
    float *window;           /* owned: (n_queries, n_heads), log-sum-exp of the window's scores */
    float *learned_smooth;   /* owned: (n_kv_heads, d) of the first quarter */
    float *mean;             /* likewise */
    uint16_t *first_quarter; /* owned: k of those rows, as in tl_exact_rows */
};

static void close_room(struct room *r) {
    for (uint32_t i = 0; i < r->n_bufs; i++) {
        tl_buf_free(&r->bufs[i]);
    }
    free(r->weights);
    free(r->window);
    free(r->learned_smooth);
    free(r->mean);
    free(r->first_quarter);
}

static tl_err new_view(struct room *r, tl_view *out, uint64_t rows, uint64_t cols, tl_dtype dtype) {
    TL_ASSERT(r->n_bufs < VIEWS_MAX);
    TL_TRY(tl_buf_alloc(&r->bufs[r->n_bufs], r->f->dev, rows * tl_row_bytes(dtype, cols),
                        TL_MEM_HOST));
    *out = tl_view_of(r->bufs[r->n_bufs++], 0, (uint32_t)rows, (uint32_t)cols, dtype);
    return TL_OK;
}

static tl_view part_of(tl_view v, uint64_t rows, uint64_t cols) {
    return tl_view_of(v.buf, 0, (uint32_t)rows, (uint32_t)cols, v.dtype);
}

static tl_err open_views(struct room *r) {
    const struct tl_exact_rows *const x = r->rows;
    const uint64_t kv = x->n_kv_heads, d = x->head_dim, blocks = kv * r->n_blocks, old = r->n_old;
    TL_TRY(new_view(r, &r->k, kv * x->n_rows, d, TL_F16));
    TL_TRY(new_view(r, &r->k_rotated, kv * x->n_rows, d, TL_F16));
    TL_TRY(new_view(r, &r->k_centred, kv * x->n_rows, d, TL_F16));
    TL_TRY(new_view(r, &r->q, 1, x->n_heads * d, TL_F32));
    TL_TRY(new_view(r, &r->base, 1, x->n_heads, TL_F32));
    TL_TRY(new_view(r, &r->score, x->n_heads, old, TL_F32));
    TL_TRY(new_view(r, &r->kv_score, kv, old, TL_F32));
    TL_TRY(new_view(r, &r->n_blocks_view, 1, 1, TL_I32));
    TL_TRY(new_view(r, &r->n_old_view, 1, 1, TL_I32));
    for (uint32_t i = 0; i < CLI_INDEX_BUDGETS; i++) {
        TL_TRY(new_view(r, &r->idx[i], kv, cli_index_budgets[i], TL_I32));
    }
    TL_TRY(new_view(r, &r->k_codes, blocks, tl_codec_key_bytes(TL_CODEC_INT4, (uint32_t)d), TL_U8));
    TL_TRY(
        new_view(r, &r->v_codes, blocks, tl_codec_value_bytes(TL_CODEC_INT1, (uint32_t)d), TL_U8));
    TL_TRY(new_view(r, &r->book, 1 << TL_VQ_BITS_MAX, TL_VQ_DIM_MAX, TL_F16));
    TL_TRY(new_view(r, &r->smooth, kv, d, TL_F32));
    TL_TRY(new_view(r, &r->pages, blocks * 8, 2 * d, TL_F16));
    TL_TRY(new_view(r, &r->columns, kv * d, old, TL_F16));
    TL_TRY(new_view(r, &r->most, blocks, d, TL_F16));
    TL_TRY(new_view(r, &r->part, kv * CHANNELS_MAX, old, TL_F16));
    TL_TRY(new_view(r, &r->want, kv, CHANNELS_MAX, TL_I32));
    TL_TRY(new_view(r, &r->held, kv, CHANNELS_MAX, TL_I32));
    TL_TRY(new_view(r, &r->counts, 1, 2, TL_I32));
    *(int32_t *)tl_view_host(r->n_blocks_view) = (int32_t)r->n_blocks;
    *(int32_t *)tl_view_host(r->n_old_view) = (int32_t)r->n_old;
    return TL_OK;
}

/* What is learned from the first quarter of the rows. */
static tl_err learn(struct room *r) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t d = x->head_dim, quarter = x->n_rows / 4;
    const uint64_t n_factors = (uint64_t)x->n_kv_heads * d;
    r->first_quarter = malloc((size_t)(n_factors * quarter) * sizeof *r->first_quarter);
    r->learned_smooth = malloc((size_t)n_factors * sizeof *r->learned_smooth);
    r->mean = malloc((size_t)n_factors * sizeof *r->mean);
    if (r->first_quarter == NULL || r->learned_smooth == NULL || r->mean == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t h = 0; h < x->n_kv_heads; h++) {
        const uint16_t *const rows = x->k + (uint64_t)h * x->n_rows * d;
        memcpy(r->first_quarter + (uint64_t)h * quarter * d, rows,
               (size_t)quarter * d * sizeof *rows);
        for (uint32_t c = 0; c < d; c++) {
            double sum = 0;
            for (uint32_t t = 0; t < quarter; t++) {
                sum += (double)tl_f16_to_f32(rows[(uint64_t)t * d + c]);
            }
            r->mean[(uint64_t)h * d + c] = (float)(sum / quarter);
        }
    }
    const struct tl_exact_rows part = {
        .k = r->first_quarter, .n_rows = quarter, .n_kv_heads = x->n_kv_heads, .head_dim = d};
    tl_vq_find_smooth(&part, r->learned_smooth);
    return TL_OK;
}

/* Keys as they are, rotated, and without their mean. */
static void load_keys(struct room *r) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t d = x->head_dim;
    const uint64_t n = (uint64_t)x->n_kv_heads * x->n_rows;
    uint16_t *const rotated = tl_view_host(r->k_rotated), *const centred =
                                                              tl_view_host(r->k_centred);
    memcpy(tl_view_host(r->k), x->k, (size_t)(n * d) * sizeof *x->k);
    for (uint64_t t = 0; t < n; t++) {
        const float *const mean = r->mean + t / x->n_rows * d;
        float row[TL_HEAD_DIM_MAX];
        for (uint32_t c = 0; c < d; c++) {
            row[c] = tl_f16_to_f32(x->k[t * d + c]);
            centred[t * d + c] = tl_f32_to_f16(row[c] - mean[c]);
        }
        tl_hadamard(row, d);
        for (uint32_t c = 0; c < d; c++) {
            rotated[t * d + c] = tl_f32_to_f16(row[c]);
        }
    }
}

static double capped(const struct tl_exact_rows *x, double product) {
    const double score = product * (double)x->scale, cap = (double)x->softcap;
    return cap > 0 ? cap * tanh(score / cap) : score;
}

/* scores[t] of query i and head h over the rows that it sees; how many. */
static uint32_t exact_scores(const struct room *r, uint32_t i, uint32_t h, float *scores) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t d = x->head_dim, n = x->n_rows - x->n_queries + i + 1;
    const float *const q = x->q + ((uint64_t)i * x->n_heads + h) * d;
    const uint16_t *const k = x->k + (uint64_t)(h / r->group) * x->n_rows * d;
    for (uint32_t t = 0; t < n; t++) {
        double sum = 0;
        for (uint32_t c = 0; c < d; c++) {
            sum += (double)q[c] * (double)tl_f16_to_f32(k[(uint64_t)t * d + c]);
        }
        scores[t] = (float)capped(x, sum);
    }
    return n;
}

static bool is_old(const struct room *r, uint32_t t) {
    return t >= CLI_INDEX_SINK && t < CLI_INDEX_SINK + r->n_old;
}

static int descending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* What each query and head truly attends, and the most that its best rows hold. */
static tl_err weigh(struct room *r) {
    const struct tl_exact_rows *const x = r->rows;
    const uint64_t n_items = (uint64_t)x->n_queries * x->n_heads;
    float *const scores = malloc((size_t)x->n_rows * sizeof *scores);
    r->weights = malloc((size_t)(n_items * r->n_old) * sizeof *r->weights);
    r->window = malloc((size_t)n_items * sizeof *r->window);
    if (scores == NULL || r->weights == NULL || r->window == NULL) {
        free(scores);
        return TL_ERR_MEMORY;
    }
    for (uint64_t item = 0; item < n_items; item++) {
        float *const weights = r->weights + item * r->n_old;
        const uint32_t n =
            exact_scores(r, (uint32_t)(item / x->n_heads), (uint32_t)(item % x->n_heads), scores);
        double most = -(double)INFINITY, all = 0, near = 0;
        for (uint32_t t = 0; t < n; t++) {
            most = fmax(most, (double)scores[t]);
        }
        for (uint32_t t = 0; t < n; t++) {
            const double e = exp((double)scores[t] - most);
            all += e;
            near += is_old(r, t) ? 0 : e;
        }
        for (uint32_t t = 0; t < r->n_old; t++) {
            weights[t] = (float)(exp((double)scores[CLI_INDEX_SINK + t] - most) / all);
        }
        r->window[item] = (float)(most + log(near));
        memcpy(scores, weights, r->n_old * sizeof *scores);
        qsort(scores, r->n_old, sizeof *scores, descending);
        for (uint32_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
            for (uint32_t t = 0; t < cli_index_budgets[j] && t < r->n_old; t++) {
                r->found->most[j] += (double)scores[t];
            }
        }
    }
    free(scores);
    return TL_OK;
}

/* ---- one way ---- */

/* The codebook and the factors of a way by codebooks. */
static tl_err set_book(struct room *r, const struct way *w, tl_view *book) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t dim = tl_vq_dim(w->codec), n_factors = x->n_kv_heads * x->head_dim;
    float *const smooth = tl_view_host(r->smooth);
    *book = part_of(r->book, tl_vq_entries(w->codec), dim);
    if (w->form != FITTED) {
        tl_vq_builtin(w->codec, tl_view_host(*book));
        for (uint32_t i = 0; i < n_factors; i++) {
            smooth[i] = 1.0f;
        }
        return TL_OK;
    }
    memcpy(smooth, r->learned_smooth, n_factors * sizeof *smooth);
    const struct tl_exact_rows part = {.k = r->first_quarter,
                                       .n_rows = x->n_rows / 4,
                                       .n_kv_heads = x->n_kv_heads,
                                       .head_dim = x->head_dim};
    const struct tl_vq_turn_params turn = {.smooth = smooth, .rotated = true};
    float *const vectors = malloc((size_t)VECTORS * dim * sizeof *vectors);
    if (vectors == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = tl_vq_sample(&part, part.k, dim, &turn, r->seed, VECTORS, vectors);
    double error;
    const struct tl_vq_training training = {.vectors = vectors, .n = VECTORS, .seed = r->seed};
    err = err ? err : tl_vq_train(w->codec, &training, tl_view_host(*book), &error);
    free(vectors);
    return err;
}

/* An index of all old rows, of those ways that the seam has. */
struct index {
    struct tl_sketch sketch;
    struct tl_pages pages;
    struct tl_columns columns;
};

static tl_err build_codes(struct room *r, const struct way *w, struct index *index) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t d = x->head_dim;
    const uint64_t blocks = (uint64_t)x->n_kv_heads * r->n_blocks;
    struct tl_sketch *const s = &index->sketch;
    *s = (struct tl_sketch){.k = part_of(r->k_codes, blocks, tl_codec_key_bytes(w->codec, d)),
                            .v = r->v_codes,
                            .k_codec = w->codec,
                            .v_codec = TL_CODEC_INT1, /* never read: a sketch has both sides */
                            .n_kv_heads = x->n_kv_heads,
                            .head_dim = d};
    if (tl_vq_is(w->codec)) {
        TL_TRY(set_book(r, w, &s->k_book));
        s->smooth = r->smooth;
    }
    const tl_view k = w->form == ROTATED ? r->k_rotated : w->form == CENTRED ? r->k_centred : r->k;
    const struct tl_kv_rows src = {k, k.buf == r->k.buf ? r->k_rotated : r->k, x->n_kv_heads};
    return tl_compress(r->f->stream, &(struct tl_compress){.dst = *s,
                                                           .src = src,
                                                           .src_row = CLI_INDEX_SINK,
                                                           .n_blocks = r->n_blocks,
                                                           .fit = TL_FIT_SQUARES});
}

static tl_err build(struct room *r, const struct way *w, struct index *index) {
    const struct tl_exact_rows *const x = r->rows;
    if (w->kind == CODES) {
        return build_codes(r, w, index);
    }
    if (w->kind == PAGES) {
        const uint64_t pages = (uint64_t)x->n_kv_heads * r->n_blocks * (TL_BLOCK / w->size);
        index->pages = (struct tl_pages){.rows = part_of(r->pages, pages, 2ull * x->head_dim),
                                         .kind = w->pages,
                                         .n_kv_heads = x->n_kv_heads,
                                         .page = w->size};
        return tl_page_encode(r->f->stream, &(struct tl_page_encode){.dst = index->pages,
                                                                     .src = r->k,
                                                                     .src_row = CLI_INDEX_SINK,
                                                                     .n_blocks = r->n_blocks});
    }
    if (w->kind == CHANNELS) {
        index->columns = (struct tl_columns){r->columns, r->most, x->n_kv_heads};
        return tl_key_transpose(r->f->stream, &(struct tl_key_transpose){.dst = index->columns,
                                                                         .src = r->k,
                                                                         .src_row = CLI_INDEX_SINK,
                                                                         .n_blocks = r->n_blocks});
    }
    return TL_OK;
}

/* Exact keys and signs: scores in plain C. */
static void score_rows(const struct room *r, const struct way *w) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t d = x->head_dim;
    const uint16_t *const keys = tl_view_host(w->kind == SIGNS ? r->k_rotated : r->k);
    for (uint32_t h = 0; h < x->n_heads; h++) {
        const float *const q = (const float *)tl_view_host(r->q) + (uint64_t)h * d;
        float *const to = (float *)tl_view_host(r->score) + (uint64_t)h * r->n_old;
        for (uint32_t t = 0; t < r->n_old; t++) {
            const uint64_t row = (uint64_t)(h / r->group) * x->n_rows + CLI_INDEX_SINK + t;
            double sum = 0, norm = 0;
            for (uint32_t c = 0; c < d; c++) {
                const double key = (double)tl_f16_to_f32(keys[row * d + c]);
                norm += key * key;
                sum += (double)q[c] * (w->kind == SIGNS ? (key < 0 ? -1.0 : 1.0) : key);
            }
            /* As long as the key was. */
            sum *= w->kind == SIGNS ? sqrt(norm / d) : 1.0;
            to[t] = (float)capped(x, sum);
        }
    }
}

static tl_err score_channels(const struct room *r, const struct way *w, const struct index *index) {
    const struct tl_exact_rows *const x = r->rows;
    tl_stream *const s = r->f->stream;
    const uint32_t kv = x->n_kv_heads, k = w->size;
    const tl_view part = part_of(r->part, (uint64_t)kv * k, r->n_old);
    const tl_view want = part_of(r->want, kv, k), held = part_of(r->held, kv, k);
    TL_TRY(
        tl_channels(s, &(struct tl_channels){want, r->q, r->most, r->n_blocks_view, x->n_heads}));
    TL_TRY(tl_channel_fetch(s, &(struct tl_channel_fetch){.part = part,
                                                          .keys = index->columns.keys,
                                                          .want = want,
                                                          .held = held,
                                                          .counts = r->counts,
                                                          .n_blocks = r->n_blocks_view}));
    return tl_channel_score(s, &(struct tl_channel_score){.score = r->kv_score,
                                                          .q = r->q,
                                                          .part = part,
                                                          .held = held,
                                                          .n_blocks = r->n_blocks_view,
                                                          .n_heads = x->n_heads,
                                                          .head_dim = x->head_dim});
}

/* The largest of n normal numbers lies so many deviations above their mean (core/choose.c). */
static float expected_most(uint32_t n) { return n == 8 ? 1.4236f : n == 16 ? 1.7660f : 2.0697f; }

static tl_err score_all(const struct room *r, const struct way *w, const struct index *index) {
    const struct tl_exact_rows *const x = r->rows;
    if (w->kind == CODES) {
        return tl_key_score(r->f->stream, &(struct tl_key_score){.score = r->score,
                                                                 .q = r->q,
                                                                 .n_blocks = r->n_blocks_view,
                                                                 .sketch = index->sketch,
                                                                 .n_heads = x->n_heads,
                                                                 .scale = x->scale,
                                                                 .softcap = x->softcap});
    }
    if (w->kind == PAGES) {
        return tl_page_score(r->f->stream,
                             &(struct tl_page_score){.score = r->score,
                                                     .q = r->q,
                                                     .n_blocks = r->n_blocks_view,
                                                     .pages = index->pages,
                                                     .n_heads = x->n_heads,
                                                     .scale = x->scale,
                                                     .softcap = x->softcap,
                                                     .sigmas = expected_most(w->size)});
    }
    if (w->kind == CHANNELS) {
        return score_channels(r, w, index);
    }
    score_rows(r, w);
    return TL_OK;
}

/* The rows chosen for query i, and what they hold. */
static tl_err choose(struct room *r, const struct way *w, uint32_t i,
                     struct cli_index_found *found) {
    const struct tl_exact_rows *const x = r->rows;
    const bool of_heads = w->kind != CHANNELS;
    for (uint32_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
        const uint32_t k = cli_index_budgets[j];
        const struct tl_topk op = {.idx = r->idx[j],
                                   .score = of_heads ? r->score : r->kv_score,
                                   .n_rows = r->n_old_view,
                                   .base = of_heads ? r->base : (tl_view){0}};
        TL_TRY(tl_topk(r->f->stream, &op));
        TL_TRY(tl_stream_sync(r->f->stream));
        for (uint32_t h = 0; h < x->n_heads; h++) {
            const int32_t *const idx =
                (const int32_t *)tl_view_host(r->idx[j]) + (uint64_t)(h / r->group) * k;
            const float *const weights = r->weights + ((uint64_t)i * x->n_heads + h) * r->n_old;
            for (uint32_t t = 0; t < k; t++) {
                found->held[j] += idx[t] >= 0 ? (double)weights[idx[t]] : 0;
            }
        }
    }
    return TL_OK;
}

/* Query i as the way's keys want it. */
static void load_query(struct room *r, const struct way *w, uint32_t i) {
    const struct tl_exact_rows *const x = r->rows;
    const uint32_t d = x->head_dim;
    float *const base = tl_view_host(r->base);
    for (uint32_t h = 0; h < x->n_heads; h++) {
        float *const q = (float *)tl_view_host(r->q) + (uint64_t)h * d;
        memcpy(q, x->q + ((uint64_t)i * x->n_heads + h) * d, d * sizeof *q);
        base[h] = r->window[(uint64_t)i * x->n_heads + h];
        if (w->form == ROTATED) {
            tl_hadamard(q, d);
        }
        double shift = 0; /* of all scores, and so of what the window is compared with */
        for (uint32_t c = 0; c < d && w->form == CENTRED; c++) {
            shift += (double)q[c] * (double)r->mean[(uint64_t)(h / r->group) * d + c];
        }
        base[h] -= (float)(shift * (double)x->scale);
    }
}

static tl_err measure_way(struct room *r, const struct way *w, struct cli_index_found *found) {
    struct index index = {0};
    TL_TRY(build(r, w, &index));
    for (uint32_t i = 0; i < r->rows->n_queries; i++) {
        load_query(r, w, i);
        TL_TRY(score_all(r, w, &index));
        TL_TRY(choose(r, w, i, found));
    }
    return TL_OK;
}

/* ---- the fit's part ---- */

tl_err cli_fit_indexes_open(struct cli_fit_indexes *f, uint32_t n_layers, uint32_t head_dim,
                            uint32_t n_threads, tl_log log) {
    const struct tl_dev_params params = {.n_threads = n_threads, .log = log};
    *f = (struct cli_fit_indexes){.n_layers = n_layers, .head_dim = head_dim, .log = log};
    f->layers = calloc(n_layers, sizeof *f->layers);
    if (f->layers == NULL) {
        return TL_ERR_MEMORY;
    }
    TL_TRY(tl_dev_open(&f->dev, tl_backend_find("cpu"), &params));
    return tl_stream_open(&f->stream, f->dev);
}

void cli_fit_indexes_close(struct cli_fit_indexes *f) {
    tl_stream_close(&f->stream);
    tl_dev_close(&f->dev);
    free(f->layers);
    *f = (struct cli_fit_indexes){0};
}

tl_err cli_fit_indexes_layer(void *user, uint32_t il, const struct tl_exact_rows *rows) {
    struct cli_fit_indexes *const f = user;
    struct cli_index_layer *const found = &f->layers[il];
    const uint32_t kept = CLI_INDEX_SINK + CLI_INDEX_RECENT;
    const uint32_t n_blocks = rows->n_rows > kept ? (rows->n_rows - kept) / TL_BLOCK : 0;
    if (n_blocks * TL_BLOCK < cli_index_budgets[CLI_INDEX_BUDGETS - 1]) {
        return TL_OK;
    }
    struct room r = {.f = f,
                     .rows = rows,
                     .found = found,
                     .n_blocks = n_blocks,
                     .n_old = n_blocks * TL_BLOCK,
                     .group = rows->n_heads / rows->n_kv_heads,
                     .seed = 1 + il};
    *found = (struct cli_index_layer){0};
    tl_err err = open_views(&r);
    err = err ? err : learn(&r);
    if (!err) {
        load_keys(&r);
        err = weigh(&r);
    }
    for (uint32_t i = 0; i < CLI_INDEXES && !err; i++) {
        err = measure_way(&r, &ways[i], &found->ways[i]);
    }
    found->measured = !err;
    close_room(&r);
    tl_say(&f->log, TL_LEVEL_INFO, "layer %u: %d indexes tried", il, CLI_INDEXES);
    return err;
}

/* ---- showing ---- */

/* Over the layers that were measured. */
static double recall(const struct cli_fit_indexes *f, uint32_t way, uint32_t budget) {
    double held = 0, most = 0;
    for (uint32_t il = 0; il < f->n_layers; il++) {
        held += f->layers[il].ways[way].held[budget];
        most += f->layers[il].most[budget];
    }
    return most > 0 ? held / most : 0;
}

void cli_fit_indexes_table(const struct cli_fit_indexes *f, FILE *out) {
    fprintf(out,
            "\nindex: attention on the rows it chooses, %% of what the best rows hold\n%-17s %11s",
            "", "bytes a row");
    for (uint32_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
        fprintf(out, "  best %3u", cli_index_budgets[j]);
    }
    fputc('\n', out);
    for (uint32_t i = 0; i < CLI_INDEXES; i++) {
        fprintf(out, "%-17s %11.2f", ways[i].name, row_bytes(&ways[i], f->head_dim));
        for (uint32_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
            fprintf(out, "  %8.1f", 100 * recall(f, i, j));
        }
        fputc('\n', out);
    }
}

json_t *cli_fit_indexes_json(const struct cli_fit_indexes *f) {
    json_t *const list = json_array(), *const budgets = json_array();
    for (uint32_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
        json_array_append_new(budgets, json_integer(cli_index_budgets[j]));
    }
    for (uint32_t i = 0; i < CLI_INDEXES; i++) {
        json_t *const all = json_array(), *const layers = json_array();
        for (uint32_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
            json_array_append_new(all, json_real(recall(f, i, j)));
        }
        for (uint32_t il = 0; il < f->n_layers; il++) {
            const struct cli_index_layer *const layer = &f->layers[il];
            json_t *const of_layer = layer->measured ? json_array() : json_null();
            for (uint32_t j = 0; j < CLI_INDEX_BUDGETS && layer->measured; j++) {
                const double most = layer->most[j];
                json_array_append_new(of_layer,
                                      json_real(most > 0 ? layer->ways[i].held[j] / most : 0));
            }
            json_array_append_new(layers, of_layer);
        }
        json_array_append_new(list, json_pack("{s:s,s:f,s:o,s:o}", "index", ways[i].name,
                                              "row_bytes", row_bytes(&ways[i], f->head_dim),
                                              "recall", all, "layers", layers));
    }
    return json_pack("{s:o,s:i,s:i,s:o}", "rows", budgets, "sink", CLI_INDEX_SINK, "recent",
                     CLI_INDEX_RECENT, "ways", list);
}
