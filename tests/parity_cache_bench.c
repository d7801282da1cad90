/* parity --bench of the hybrid cache's verbs: one decode step's op of one layer, at the shapes and
 * depths that matter, beside exact attention over the same rows. Operands rotate through enough
 * copies that no cache helps. "rows" are cache rows of one KV head. Reads only; nothing judges. */
#include "parity.h"

#include "core/policy.h"
#include "core/vq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t working_set_bytes = 128u << 20;

struct shape {
    const char *name;
    uint32_t kv_heads, group, d;
};
static const struct shape shapes[] = {
    {"15m", 6, 1, 48}, {"135m", 3, 3, 64}, {"1b", 8, 4, 64}, {"8b", 8, 4, 128}};

enum { K = 256 /* rows chosen */, N_LAST = 32 /* queries that measure a layer */ };

/* Everything a step of one layer needs. */
struct layer {
    struct side *side;
    const struct shape *shape;
    uint32_t n_rows, heads;
    uint64_t n_copies; /* of the sketch, or of the exact rows */
    struct tl_sketch all;
    tl_view k, v; /* all copies of the exact rows */
    tl_view q, out, lse, out_b, lse_b, score, idx, n_blocks, n_seen, pos;
    tl_view last_q, last_pos;
    bool scored;
    tl_buf *bufs[24];
    uint32_t n_bufs;
};

static tl_view new_view(struct layer *l, uint64_t rows, uint32_t cols, tl_dtype dtype) {
    tl_buf *const buf = filled(l->side, rows * tl_row_bytes(dtype, cols));
    if (buf->host == NULL) {
        must(TL_ERR_UNSUPPORTED, "bench on a device without host views");
    }
    l->bufs[l->n_bufs++] = buf;
    return tl_view_of(buf, 0, (uint32_t)rows, cols, dtype);
}

static void fill_floats(tl_view v, uint64_t seed, float most) {
    struct tl_rng rng = {seed};
    fill_weights(&rng, v.dtype, tl_view_host(v), v.rows, v.cols, most);
}

/* Codes at random behind headers that encoded rows would have: a few blocks are encoded, and
 * copied to all. */
static void fill_blocks_of(tl_view v, bool keys, tl_codec codec, tl_view book, uint32_t d) {
    enum { N = 61 };
    struct tl_rng rng = {keys ? 1 : 2};
    float *const rows = must_alloc((uint64_t)TL_BLOCK * d * sizeof *rows);
    uint8_t *const block = must_alloc((uint64_t)N * v.cols), *const dst = tl_view_host(v);
    float *expanded = NULL;
    if (tl_vq_is(codec)) {
        expanded = must_alloc(tl_vq_expanded_floats(codec) * sizeof *expanded);
        tl_vq_expand(codec, tl_view_host(book), expanded);
    }
    for (uint32_t b = 0; b < N; b++) {
        for (uint32_t i = 0; i < TL_BLOCK * d; i++) {
            rows[i] = rng_float(&rng);
        }
        if (tl_vq_is(codec)) {
            tl_vq_encode(codec, expanded, NULL, 1.0f, rows, d, tl_vq_nearest,
                         block + (uint64_t)b * v.cols);
        } else if (keys) {
            tl_codec_encode_keys(codec, TL_FIT_SQUARES, rows, d, block + (uint64_t)b * v.cols);
        } else {
            tl_codec_encode_values(codec, TL_FIT_SQUARES, rows, d, block + (uint64_t)b * v.cols);
        }
    }
    for (uint64_t b = 0; b < v.rows; b++) {
        memcpy(dst + b * v.cols, block + b % N * v.cols, v.cols);
    }
    free(rows);
    free(block);
    free(expanded);
}

static void set_int(tl_view v, int32_t value) { ((int32_t *)tl_view_host(v))[0] = value; }

static void open_layer(struct layer *l, struct side *side, const struct shape *shape,
                       uint32_t n_rows) {
    const uint32_t heads = shape->kv_heads * shape->group, d = shape->d;
    *l = (struct layer){.side = side, .shape = shape, .n_rows = n_rows, .heads = heads};
    l->q = new_view(l, 1, heads * d, TL_F32);
    fill_floats(l->q, 3, 1.5f);
    l->out = new_view(l, 1, heads * d, TL_F32);
    l->out_b = new_view(l, 1, heads * d, TL_F32);
    l->lse = new_view(l, 1, heads, TL_F32);
    l->lse_b = new_view(l, 1, heads, TL_F32);
    l->score = new_view(l, heads, n_rows, TL_F32);
    fill_floats(l->score, 4, 5.0f);
    l->idx = new_view(l, shape->kv_heads, K, TL_I32);
    l->last_q = new_view(l, N_LAST, heads * d, TL_F32);
    fill_floats(l->last_q, 7, 1.5f);
    l->last_pos = new_view(l, N_LAST, 1, TL_I32);
    for (uint32_t i = 0; i < N_LAST; i++) {
        set_int(tl_view_rows(l->last_pos, i, 1), (int32_t)(n_rows - N_LAST + i));
    }
    l->n_blocks = new_view(l, 1, 1, TL_I32);
    set_int(l->n_blocks, (int32_t)(n_rows / TL_BLOCK));
    l->n_seen = new_view(l, 1, 1, TL_I32);
    set_int(l->n_seen, (int32_t)n_rows);
    l->pos = new_view(l, 1, 1, TL_I32);
    set_int(l->pos, (int32_t)n_rows - 1);
    const struct tl_topk op = {l->idx, l->score, l->n_seen, absent};
    must(tl_topk(side->s, &op), "tl_topk");
}

static void close_layer(struct layer *l) {
    for (uint32_t i = 0; i < l->n_bufs; i++) {
        tl_buf_free(&l->bufs[i]);
    }
}

static tl_view new_book(struct layer *l, tl_codec codec) {
    if (!tl_vq_is(codec)) {
        return absent;
    }
    const tl_view book = new_view(l, tl_vq_entries(codec), tl_vq_dim(codec), TL_F16);
    tl_vq_builtin(codec, tl_view_host(book));
    return book;
}

static void add_sketch(struct layer *l, tl_codec k_codec, tl_codec v_codec) {
    const uint32_t d = l->shape->d, n_blocks = l->n_rows / TL_BLOCK * l->shape->kv_heads;
    const uint64_t k_bytes = tl_codec_key_bytes(k_codec, d);
    const uint64_t v_bytes = tl_codec_value_bytes(v_codec, d);
    l->n_copies = tl_div_up(working_set_bytes, n_blocks * (k_bytes + v_bytes));
    l->all = (struct tl_sketch){.k = new_view(l, n_blocks * l->n_copies, (uint32_t)k_bytes, TL_U8),
                                .v = new_view(l, n_blocks * l->n_copies, (uint32_t)v_bytes, TL_U8),
                                .k_codec = k_codec,
                                .v_codec = v_codec,
                                .n_kv_heads = l->shape->kv_heads,
                                .head_dim = d};
    if (tl_vq_is(k_codec)) {
        l->all.smooth = new_view(l, l->shape->kv_heads, d, TL_F32);
        float *const smooth = tl_view_host(l->all.smooth);
        for (uint32_t i = 0; i < l->shape->kv_heads * d; i++) {
            smooth[i] = 1.0f;
        }
    }
    l->all.k_book = new_book(l, k_codec);
    l->all.v_book = new_book(l, v_codec);
    fill_blocks_of(l->all.k, true, k_codec, l->all.k_book, d);
    fill_blocks_of(l->all.v, false, v_codec, l->all.v_book, d);
}

static void add_rows(struct layer *l) {
    const uint64_t n = (uint64_t)l->n_rows * l->shape->kv_heads;
    l->n_copies = tl_div_up(working_set_bytes, n * l->shape->d * 4);
    l->k = new_view(l, n * l->n_copies, l->shape->d, TL_F16);
    l->v = new_view(l, n * l->n_copies, l->shape->d, TL_F16);
    fill_floats(tl_view_rows(l->k, 0, (uint32_t)n), 5, 1.0f);
    fill_floats(tl_view_rows(l->v, 0, (uint32_t)n), 6, 1.0f);
    for (uint64_t i = 1; i < l->n_copies; i++) {
        const uint64_t bytes = n * l->shape->d * 2;
        memcpy((uint8_t *)tl_view_host(l->k) + i * bytes, tl_view_host(l->k), bytes);
        memcpy((uint8_t *)tl_view_host(l->v) + i * bytes, tl_view_host(l->v), bytes);
    }
}

static tl_view copy_of(const struct layer *l, tl_view all, uint64_t i) {
    const uint32_t rows = (uint32_t)(all.rows / l->n_copies);
    return tl_view_rows(all, (uint32_t)(i % l->n_copies) * rows, rows);
}

static struct tl_sketch sketch_of(const struct layer *l, uint64_t i) {
    struct tl_sketch s = l->all;
    s.k = copy_of(l, s.k, i);
    s.v = copy_of(l, s.v, i);
    return s;
}

static struct tl_kv_rows rows_of(const struct layer *l, uint64_t i) {
    return (struct tl_kv_rows){copy_of(l, l->k, i), copy_of(l, l->v, i), l->shape->kv_heads};
}

static float scale_of(const struct layer *l) { return 1.0f / sqrtf((float)l->shape->d); }

static struct tl_attend attend_op(const struct layer *l, uint64_t i) {
    return (struct tl_attend){.out = l->out,
                              .lse = l->lse,
                              .q = l->q,
                              .q_pos = l->pos,
                              .n_rows = l->n_seen,
                              .kv = rows_of(l, i),
                              .n_heads = l->heads,
                              .scale = scale_of(l)};
}

static struct tl_key_score score_op(const struct layer *l, uint64_t i) {
    return (struct tl_key_score){.score = l->score,
                                 .q = l->q,
                                 .n_blocks = l->n_blocks,
                                 .sketch = sketch_of(l, i),
                                 .n_heads = l->heads,
                                 .scale = scale_of(l)};
}

static struct tl_attend_sketch sketch_op(const struct layer *l, uint64_t i) {
    struct tl_attend_sketch op = {.out = l->out,
                                  .lse = l->lse,
                                  .q = l->q,
                                  .n_blocks = l->n_blocks,
                                  .sketch = sketch_of(l, i),
                                  .n_heads = l->heads,
                                  .scale = scale_of(l)};
    if (l->scored) {
        op.score = l->score;
        op.skip = l->idx;
    }
    return op;
}

static struct tl_attend_slots slots_op(const struct layer *l, uint64_t i) {
    return (struct tl_attend_slots){.out = l->out_b,
                                    .lse = l->lse_b,
                                    .q = l->q,
                                    .slot = l->idx,
                                    .kv = rows_of(l, i),
                                    .n_heads = l->heads,
                                    .scale = scale_of(l)};
}

static void run_attend(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    const struct tl_attend op = attend_op(l, i);
    must(tl_attend(l->side->s, &op), "tl_attend");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

static void run_score(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    const struct tl_key_score op = score_op(l, i);
    must(tl_key_score(l->side->s, &op), "tl_key_score");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

static void run_topk(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    (void)i;
    const struct tl_topk op = {l->idx, l->score, l->n_seen, absent};
    must(tl_topk(l->side->s, &op), "tl_topk");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

static void run_sketch(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    const struct tl_attend_sketch op = sketch_op(l, i);
    must(tl_attend_sketch(l->side->s, &op), "tl_attend_sketch");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

static void run_slots(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    const struct tl_attend_slots op = slots_op(l, i);
    must(tl_attend_slots(l->side->s, &op), "tl_attend_slots");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

/* The score of a layer: 32 queries at the end, the largest 5 %. */
static void run_mass(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    const struct tl_mass op = {.mass = tl_view_reshape(l->lse, l->heads, 1),
                               .q = l->last_q,
                               .q_pos = l->last_pos,
                               .n_rows = l->n_seen,
                               .kv = rows_of(l, i),
                               .n_heads = l->heads,
                               .scale = scale_of(l),
                               .n_parts = 1,
                               .parts = {500}};
    must(tl_mass(l->side->s, &op), "tl_mass");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

static void run_merge(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    (void)i;
    const struct tl_merge op = {l->out, l->lse, l->out_b, l->lse_b};
    must(tl_merge(l->side->s, &op), "tl_merge");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

static void run_compress(void *arg, uint64_t i) {
    const struct layer *const l = arg;
    const struct tl_compress op = {sketch_of(l, i), {l->k, l->v, l->shape->kv_heads}, 0, 0, 16,
                                   TL_FIT_SQUARES};
    must(tl_compress(l->side->s, &op), "tl_compress");
    must(tl_stream_sync(l->side->s), "tl_stream_sync");
}

/* Time, bytes by the op's own count, cache rows. */
static void print_line(const struct layer *l, const char *what, double ns, uint64_t bytes,
                       double rows, double peak) {
    const double rate = (double)bytes / ns;
    printf("%-4s %6u  %-28s %9.1f us %7.2f GB/s", l->shape->name, l->n_rows, what, ns * 1e-3, rate);
    if (peak > 0.0) {
        printf(" %5.1f%% of the bandwidth", 100.0 * rate * 1e9 / peak);
    }
    printf(" %8.1f Mrows/s\n", 1e3 * rows / ns);
    fflush(stdout);
}

static void bench_sketch(struct side *side, const struct shape *shape, uint32_t n_rows,
                         tl_codec k_codec, tl_codec v_codec, double peak) {
    struct layer l;
    char what[64];
    const uint64_t n_blocks = n_rows / TL_BLOCK;
    const double rows = (double)n_rows * shape->kv_heads;
    open_layer(&l, side, shape, n_rows);
    add_sketch(&l, k_codec, v_codec);
    const struct tl_key_score score = score_op(&l, 0);
    snprintf(what, sizeof what, "key_score %s", tl_codec_names[k_codec]);
    print_line(&l, what, time_of(run_score, &l), tl_key_score_bytes(&score, n_blocks), rows, peak);
    struct tl_attend_sketch sketch = sketch_op(&l, 0);
    snprintf(what, sizeof what, "attend_sketch %s %s", tl_codec_names[k_codec],
             tl_codec_names[v_codec]);
    print_line(&l, what, time_of(run_sketch, &l), tl_attend_sketch_bytes(&sketch, n_blocks), rows,
               peak);
    l.scored = true;
    sketch = sketch_op(&l, 0);
    snprintf(what, sizeof what, "attend_sketch scored %s", tl_codec_names[v_codec]);
    print_line(&l, what, time_of(run_sketch, &l), tl_attend_sketch_bytes(&sketch, n_blocks), rows,
               peak);
    if (k_codec == TL_CODEC_INT1) {
        print_line(&l, "topk 256", time_of(run_topk, &l), tl_view_bytes(l.score), rows, peak);
        print_line(&l, "merge", time_of(run_merge, &l), 3 * tl_view_bytes(l.out), 0.0, 0.0);
    }
    close_layer(&l);
}

static void bench_rows(struct side *side, const struct shape *shape, uint32_t n_rows, double peak) {
    struct layer l;
    open_layer(&l, side, shape, n_rows);
    add_rows(&l);
    const struct tl_attend attend = attend_op(&l, 0);
    print_line(&l, "attend f16", time_of(run_attend, &l), tl_attend_bytes(&attend, n_rows),
               (double)n_rows * shape->kv_heads, peak);
    const struct tl_attend_slots slots = slots_op(&l, 0);
    print_line(&l, "attend_slots 256", time_of(run_slots, &l), tl_attend_slots_bytes(&slots),
               (double)K * shape->kv_heads, peak);
    const uint64_t key_bytes = tl_view_bytes(attend.kv.k) + tl_view_bytes(l.last_q);
    print_line(&l, "mass, 32 queries", time_of(run_mass, &l), key_bytes,
               (double)n_rows * shape->kv_heads, peak);
    close_layer(&l);
}

static void bench_compress(struct side *side, const struct shape *shape, tl_codec codec) {
    struct layer l;
    char what[64];
    open_layer(&l, side, shape, 16 * TL_BLOCK);
    add_rows(&l);
    l.k = copy_of(&l, l.k, 0);
    l.v = copy_of(&l, l.v, 0);
    add_sketch(&l, codec, codec);
    const double rows = 16.0 * TL_BLOCK * shape->kv_heads;
    snprintf(what, sizeof what, "compress %s", tl_codec_names[codec]);
    print_line(&l, what, time_of(run_compress, &l), (uint64_t)rows * shape->d * 4, rows, 0.0);
    close_layer(&l);
}

void bench_cache(struct side *side, const char *op, double peak) {
    static const uint32_t depths[] = {16384, 32768, 131072};
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (op != NULL && strcmp(op, "cache") != 0 && strcmp(op, shapes[i].name) != 0) {
            continue;
        }
        for (uint32_t j = 0; j < sizeof depths / sizeof depths[0]; j++) {
            bench_rows(side, &shapes[i], depths[j], peak);
            bench_sketch(side, &shapes[i], depths[j], TL_CODEC_INT1, TL_CODEC_INT1, peak);
        }
        for (tl_codec codec = TL_CODEC_Q8; codec < TL_CODEC_INT1; codec++) {
            bench_sketch(side, &shapes[i], 32768, codec, codec, peak);
        }
        bench_compress(side, &shapes[i], TL_CODEC_INT1);
        bench_compress(side, &shapes[i], TL_CODEC_Q8);
        for (tl_codec codec = TL_CODEC_VQ_D2B8; codec < TL_CODEC_COUNT; codec++) {
            bench_sketch(side, &shapes[i], 32768, codec, codec, peak);
            bench_compress(side, &shapes[i], codec);
        }
    }
}
