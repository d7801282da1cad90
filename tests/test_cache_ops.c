/* Laws of the hybrid cache's verbs on the CPU backend, of every instruction set it has: what two
 * ways of computing the same must give, and a naive model of the hot set over thousands of steps.
 */
#include "core/backend.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 6, KV_HEADS = 2, D = 48, BUFS_MAX = 32 };

/* A device and the buffers of one test. */
struct fixture {
    tl_dev *dev;
    tl_stream *s;
    tl_buf *bufs[BUFS_MAX];
    uint32_t n_bufs;
    struct tl_rng rng;
};

static int open_fixture(void **state, const char *isa) {
    struct fixture *const f = test_calloc(1, sizeof *f);
    const struct tl_dev_params params = {.n_threads = 2, .isa_max = isa};
    assert_int_equal(tl_dev_open(&f->dev, tl_backend_find("cpu"), &params), TL_OK);
    assert_int_equal(tl_stream_open(&f->s, f->dev), TL_OK);
    f->rng.state = 12345;
    *state = f;
    return 0;
}

static int open_plain(void **state) { return open_fixture(state, "plain"); }
static int open_avx2(void **state) { return open_fixture(state, "avx2"); }
static int open_best(void **state) { return open_fixture(state, NULL); }

static int close_fixture(void **state) {
    struct fixture *const f = *state;
    for (uint32_t i = 0; i < f->n_bufs; i++) {
        tl_buf_free(&f->bufs[i]);
    }
    tl_stream_close(&f->s);
    tl_dev_close(&f->dev);
    test_free(f);
    return 0;
}

static tl_view new_view(struct fixture *f, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    assert_true(f->n_bufs < BUFS_MAX);
    tl_buf **const buf = &f->bufs[f->n_bufs++];
    const uint64_t bytes = rows * tl_row_bytes(dtype, cols);
    assert_int_equal(tl_buf_alloc(buf, f->dev, bytes, TL_MEM_HOST), TL_OK);
    return tl_view_of(*buf, 0, rows, cols, dtype);
}

static void free_views(struct fixture *f) {
    while (f->n_bufs > 0) {
        tl_buf_free(&f->bufs[--f->n_bufs]);
    }
}

static tl_view floats(struct fixture *f, uint32_t rows, uint32_t cols, float most) {
    const tl_view v = new_view(f, rows, cols, TL_F32);
    float *const x = tl_view_host(v);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
        x[i] = most * rng_float(&f->rng);
    }
    return v;
}

static tl_view halves(struct fixture *f, uint32_t rows, uint32_t cols) {
    const tl_view v = new_view(f, rows, cols, TL_F16);
    uint16_t *const x = tl_view_host(v);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
        x[i] = tl_f32_to_f16(rng_float(&f->rng));
    }
    return v;
}

static tl_view ints(struct fixture *f, uint32_t rows, uint32_t cols, int32_t value) {
    const tl_view v = new_view(f, rows, cols, TL_I32);
    int32_t *const x = tl_view_host(v);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
        x[i] = value;
    }
    return v;
}

static float *floats_of(tl_view v) { return tl_view_host(v); }
static int32_t *ints_of(tl_view v) { return tl_view_host(v); }

/* Root mean square of the difference over that of `want`. */
static double error_of(tl_view got, tl_view want) {
    const float *const a = floats_of(got), *const b = floats_of(want);
    double diffs = 0.0, squares = 1e-30;
    for (uint64_t i = 0; i < (uint64_t)want.rows * want.cols; i++) {
        diffs += pow((double)a[i] - (double)b[i], 2.0);
        squares += pow((double)b[i], 2.0);
    }
    return sqrt(diffs / squares);
}

/* Attention of one query over n rows of a cache of (KV_HEADS * n, D). */
static struct tl_attend whole(struct fixture *f, tl_view q, struct tl_kv_rows kv, uint32_t n) {
    return (struct tl_attend){.out = new_view(f, 1, HEADS * D, TL_F32),
                              .lse = new_view(f, 1, HEADS, TL_F32),
                              .q = q,
                              .q_pos = ints(f, 1, 1, INT32_MAX / 2),
                              .n_rows = ints(f, 1, 1, (int32_t)n),
                              .kv = kv,
                              .n_heads = HEADS,
                              .scale = 1.5f / sqrtf(D)};
}

static struct tl_attend_slots some(struct fixture *f, const struct tl_attend *a, tl_view slot) {
    return (struct tl_attend_slots){.out = new_view(f, 1, HEADS * D, TL_F32),
                                    .lse = new_view(f, 1, HEADS, TL_F32),
                                    .q = a->q,
                                    .slot = slot,
                                    .kv = a->kv,
                                    .n_heads = HEADS,
                                    .scale = a->scale};
}

static void merge(struct fixture *f, const struct tl_attend_slots *a,
                  const struct tl_attend_slots *b) {
    const struct tl_merge op = {a->out, a->lse, b->out, b->lse};
    assert_int_equal(tl_merge(f->s, &op), TL_OK);
}

/* Goal: rows attended in parts and merged, in any order and any split, are rows attended at once.
 * Method: each row goes to one of five parts at random, some of which may stay empty; the parts are
 * merged forwards, backwards and as a tree. */
static void merging_is_order_free(void **state) {
    struct fixture *const f = *state;
    enum { PARTS = 5 };
    for (uint32_t trial = 0; trial < 40; trial++) {
        const uint32_t n = 1 + (uint32_t)rng_below(&f->rng, 300);
        const struct tl_kv_rows kv = {halves(f, KV_HEADS * n, D), halves(f, KV_HEADS * n, D),
                                      KV_HEADS};
        const struct tl_attend all = whole(f, floats(f, 1, HEADS * D, 3.0f), kv, n);
        assert_int_equal(tl_attend(f->s, &all), TL_OK);
        const uint64_t n_parts = 1 + rng_below(&f->rng, PARTS);
        tl_view slot[PARTS];
        for (uint32_t p = 0; p < PARTS; p++) {
            slot[p] = ints(f, KV_HEADS, n, -1);
        }
        for (uint32_t i = 0; i < KV_HEADS * n; i++) {
            ints_of(slot[rng_below(&f->rng, n_parts)])[i] = (int32_t)(i % n);
        }
        for (uint32_t order = 0; order < 3; order++) {
            struct tl_attend_slots part[PARTS];
            const uint32_t n_bufs = f->n_bufs;
            for (uint32_t p = 0; p < PARTS; p++) {
                part[p] = some(f, &all, slot[order == 1 ? PARTS - 1 - p : p]);
                assert_int_equal(tl_attend_slots(f->s, &part[p]), TL_OK);
            }
            if (order == 2) {
                merge(f, &part[2], &part[3]);
                merge(f, &part[0], &part[1]);
                merge(f, &part[4], &part[2]);
                merge(f, &part[0], &part[4]);
            } else {
                for (uint32_t p = 1; p < PARTS; p++) {
                    merge(f, &part[0], &part[p]);
                }
            }
            assert_int_equal(tl_stream_sync(f->s), TL_OK);
            assert_true(error_of(part[0].out, all.out) < 3e-6);
            assert_true(error_of(part[0].lse, all.lse) < 1e-6);
            while (f->n_bufs > n_bufs) {
                tl_buf_free(&f->bufs[--f->n_bufs]);
            }
        }
        free_views(f);
    }
}

/* Goal: merging with nothing changes not a bit; nothing merged with nothing is nothing. */
static void merging_with_nothing(void **state) {
    struct fixture *const f = *state;
    const tl_view out = floats(f, 3, HEADS * D, 1.0f), lse = floats(f, 3, HEADS, 9.0f);
    const tl_view none = new_view(f, 3, HEADS * D, TL_F32), never = floats(f, 3, HEADS, 1.0f);
    const tl_view out_copy = new_view(f, 3, HEADS * D, TL_F32),
                  lse_copy = floats(f, 3, HEADS, 1.0f);
    for (uint32_t i = 0; i < 3 * HEADS; i++) {
        floats_of(never)[i] = -INFINITY;
    }
    memcpy(floats_of(out_copy), floats_of(out), tl_view_bytes(out));
    memcpy(floats_of(lse_copy), floats_of(lse), tl_view_bytes(lse));
    const struct tl_merge with_none = {out, lse, none, never}, into_none = {none, never, out, lse};
    assert_int_equal(tl_merge(f->s, &with_none), TL_OK);
    assert_memory_equal(floats_of(out), floats_of(out_copy), tl_view_bytes(out));
    assert_memory_equal(floats_of(lse), floats_of(lse_copy), tl_view_bytes(lse));
    assert_int_equal(tl_merge(f->s, &into_none), TL_OK);
    assert_memory_equal(floats_of(none), floats_of(out), tl_view_bytes(out));
    assert_memory_equal(floats_of(never), floats_of(lse), tl_view_bytes(lse));
    memset(floats_of(none), 0, tl_view_bytes(none));
    memset(floats_of(out), 0, tl_view_bytes(out));
    for (uint32_t i = 0; i < 3 * HEADS; i++) {
        floats_of(never)[i] = floats_of(lse)[i] = -INFINITY;
    }
    assert_int_equal(tl_merge(f->s, &with_none), TL_OK);
    for (uint32_t i = 0; i < 3 * HEADS * D; i++) {
        assert_true(floats_of(out)[i] == 0.0f);
    }
    assert_true(floats_of(lse)[0] == -INFINITY);
    free_views(f);
}

struct ranked {
    float value;
    int32_t row;
};

static int by_value_then_row(const void *a, const void *b) {
    const struct ranked *const x = a, *const y = b;
    return x->value != y->value ? (x->value < y->value ? 1 : -1)
                                : (x->row > y->row) - (x->row < y->row);
}

static int by_number(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Goal: top-k is the beginning of a sort, in the order of rows. Method: random scores of three
 * heads a group, with ties, against qsort. */
static void topk_is_a_sort(void **state) {
    struct fixture *const f = *state;
    enum { ROWS_MAX = 9000 };
    struct ranked *const ranked = test_malloc(ROWS_MAX * sizeof *ranked);
    for (uint32_t trial = 0; trial < 60; trial++) {
        const uint32_t cols = 1 + (uint32_t)rng_below(&f->rng, ROWS_MAX);
        const uint32_t n = 1 + (uint32_t)rng_below(&f->rng, cols);
        const uint32_t k = 1 + (uint32_t)rng_below(&f->rng, trial % 2 == 0 ? 20 : 600);
        const tl_view score = floats(f, HEADS, cols, 5.0f), idx = ints(f, KV_HEADS, k, 99);
        for (uint64_t i = 0; trial % 3 == 0 && i < (uint64_t)HEADS * cols; i++) {
            floats_of(score)[i] = rintf(floats_of(score)[i]);
        }
        struct tl_topk op = {idx, score, ints(f, 1, 1, (int32_t)n), {0}};
        if (trial % 4 == 1) {
            op.base = floats(f, 1, HEADS, 20.0f); /* half of the heads look elsewhere */
        }
        assert_int_equal(tl_topk(f->s, &op), TL_OK);
        for (uint32_t kv_head = 0; kv_head < KV_HEADS; kv_head++) {
            for (uint32_t t = 0; t < n; t++) {
                ranked[t] = (struct ranked){-INFINITY, (int32_t)t};
            }
            for (uint32_t h = 0; h < HEADS / KV_HEADS; h++) {
                const float *const s = floats_of(score) + (kv_head * 3 + h) * (uint64_t)cols;
                float most = op.base.buf != NULL ? floats_of(op.base)[kv_head * 3 + h] : -INFINITY;
                for (uint32_t t = 0; t < n; t++) {
                    most = s[t] > most ? s[t] : most;
                }
                for (uint32_t t = 0; t < n; t++) {
                    ranked[t].value = fmaxf(ranked[t].value, s[t] - most);
                }
            }
            qsort(ranked, n, sizeof *ranked, by_value_then_row);
            const uint32_t n_best = k < n ? k : n;
            int32_t best[600];
            for (uint32_t i = 0; i < k; i++) {
                best[i] = i < n_best ? ranked[i].row : -1;
            }
            qsort(best, n_best, sizeof *best, by_number);
            assert_memory_equal(ints_of(idx) + kv_head * k, best, k * sizeof *best);
        }
        free_views(f);
    }
    test_free(ranked);
}

/* Goal: a head that attends to no row in particular has no say where another does, once it is known
 * what the rest of its attention adds up to; without that it takes the first rows. */
static void idle_heads_have_no_say(void **state) {
    struct fixture *const f = *state;
    enum { N = 700, K_BEST = 40 };
    const tl_view score = floats(f, 2, N, 1.0f), idx = ints(f, 1, K_BEST, 99);
    for (uint32_t t = 0; t < N; t++) {
        floats_of(score)[t] = 0.0f; /* idle */
        floats_of(score)[N + t] = t >= N - K_BEST ? 12.0f : 3.0f;
    }
    struct tl_topk op = {idx, score, ints(f, 1, 1, N), {0}};
    assert_int_equal(tl_topk(f->s, &op), TL_OK);
    assert_int_equal(ints_of(idx)[0], 0);
    op.base = floats(f, 1, 2, 1.0f);
    floats_of(op.base)[0] = logf(100.0f); /* of a window of 100 rows */
    floats_of(op.base)[1] = -2.0f;
    assert_int_equal(tl_topk(f->s, &op), TL_OK);
    for (int32_t j = 0; j < K_BEST; j++) {
        assert_int_equal(ints_of(idx)[j], N - K_BEST + j);
    }
    free_views(f);
}

/* Goal: rows that cannot be told apart from nothing are never chosen. */
static void topk_without_numbers(void **state) {
    struct fixture *const f = *state;
    const tl_view score = floats(f, 2, 100, 1.0f), idx = ints(f, 1, 8, 99);
    for (uint32_t t = 0; t < 200; t++) {
        floats_of(score)[t] = t % 2 == 0 ? NAN : -INFINITY;
    }
    const struct tl_topk op = {idx, score, ints(f, 1, 1, 100), {0}};
    assert_int_equal(tl_topk(f->s, &op), TL_OK);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(ints_of(idx)[i], -1);
    }
    floats_of(score)[17] = -1e30f; /* the only number of the first head, two of the second */
    floats_of(score)[100 + 17] = 5.0f;
    floats_of(score)[100 + 63] = -3.0f;
    assert_int_equal(tl_topk(f->s, &op), TL_OK);
    assert_int_equal(ints_of(idx)[0], 17);
    assert_int_equal(ints_of(idx)[1], 63);
    assert_int_equal(ints_of(idx)[2], -1);
    free_views(f);
}

/* A cache of whole blocks and its compressed copy. */
struct both {
    struct tl_kv_rows kv;
    struct tl_sketch sketch;
    uint32_t n_rows;
    tl_view n_blocks;
};

static struct both new_both(struct fixture *f, uint32_t n_blocks, tl_codec k, tl_codec v) {
    struct both b = {.n_rows = n_blocks * TL_BLOCK, .n_blocks = ints(f, 1, 1, (int32_t)n_blocks)};
    b.kv = (struct tl_kv_rows){halves(f, KV_HEADS * b.n_rows, D), halves(f, KV_HEADS * b.n_rows, D),
                               KV_HEADS};
    b.sketch = (struct tl_sketch){
        .k = new_view(f, KV_HEADS * n_blocks, (uint32_t)tl_codec_key_bytes(k, D), TL_U8),
        .v = new_view(f, KV_HEADS * n_blocks, (uint32_t)tl_codec_value_bytes(v, D), TL_U8),
        .k_codec = k,
        .v_codec = v,
        .n_kv_heads = KV_HEADS,
        .head_dim = D};
    const struct tl_compress op = {b.sketch, b.kv, 0, 0, n_blocks, TL_FIT_SQUARES};
    assert_int_equal(tl_compress(f->s, &op), TL_OK);
    return b;
}

static struct tl_attend_sketch through(struct fixture *f, const struct both *b,
                                       const struct tl_attend *a) {
    return (struct tl_attend_sketch){.out = new_view(f, 1, HEADS * D, TL_F32),
                                     .lse = new_view(f, 1, HEADS, TL_F32),
                                     .q = a->q,
                                     .n_blocks = b->n_blocks,
                                     .sketch = b->sketch,
                                     .n_heads = HEADS,
                                     .scale = a->scale};
}

/* Goal: finer codes come closer to the exact rows. The bounds are for these operands: an error of
 * step / sqrt(12) in values of root mean square 1 / sqrt(3), and as much again from the scores. */
static void codes_approximate(void **state) {
    struct fixture *const f = *state;
    static const struct {
        tl_codec codec;
        double bound;
    } cases[] = {{TL_CODEC_Q8, 0.01}, {TL_CODEC_INT4, 0.2}, {TL_CODEC_INT2, 0.8}};
    double before = 0.0;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct both b = new_both(f, 12, cases[i].codec, cases[i].codec);
        const struct tl_attend a = whole(f, floats(f, 1, HEADS * D, 2.0f), b.kv, b.n_rows);
        const struct tl_attend_sketch s = through(f, &b, &a);
        assert_int_equal(tl_attend(f->s, &a), TL_OK);
        assert_int_equal(tl_attend_sketch(f->s, &s), TL_OK);
        const double error = error_of(s.out, a.out);
        assert_true(error < cases[i].bound);
        assert_true(error > before);
        before = error;
        free_views(f);
    }
}

/* Goal: compressed rows less those skipped, merged with those exactly, is one softmax: with every
 * row chosen it is exact attention, with none it is the sketch alone. Method: chosen rows grow from
 * none to all; every step is compared with attention over rows of which the unchosen are decoded
 * blocks, in double. */
static void chosen_rows_leave_the_sketch(void **state) {
    struct fixture *const f = *state;
    enum { N_BLOCKS = 3, N = N_BLOCKS * TL_BLOCK };
    for (uint32_t n_chosen = 0; n_chosen <= N; n_chosen += n_chosen < 4 ? 1 : 47) {
        const struct both b = new_both(f, N_BLOCKS, TL_CODEC_INT2, TL_CODEC_INT4);
        const uint32_t k = n_chosen > 0 ? n_chosen : 1;
        const tl_view idx = ints(f, KV_HEADS, k, -1);
        for (uint32_t i = 0; i < KV_HEADS * k && n_chosen > 0; i++) {
            ints_of(idx)[i] = (int32_t)(i % k * (N / n_chosen)); /* spread out, ascending */
        }
        struct tl_attend a = whole(f, floats(f, 1, HEADS * D, 2.0f), b.kv, N);
        struct tl_attend_sketch rest = through(f, &b, &a);
        rest.skip = idx;
        const struct tl_attend_slots exact = some(f, &a, idx);
        assert_int_equal(tl_attend_sketch(f->s, &rest), TL_OK);
        assert_int_equal(tl_attend_slots(f->s, &exact), TL_OK);
        const struct tl_merge join = {rest.out, rest.lse, exact.out, exact.lse};
        assert_int_equal(tl_merge(f->s, &join), TL_OK);
        /* The same rows in one cache of floats. */
        const tl_view keys = new_view(f, KV_HEADS * N, D, TL_F32);
        const tl_view values = new_view(f, KV_HEADS * N, D, TL_F32);
        for (uint32_t i = 0; i < KV_HEADS * N_BLOCKS; i++) {
            const uint8_t *const k_block =
                (const uint8_t *)tl_view_host(b.sketch.k) + (uint64_t)i * b.sketch.k.cols;
            const uint8_t *const v_block =
                (const uint8_t *)tl_view_host(b.sketch.v) + (uint64_t)i * b.sketch.v.cols;
            tl_codec_decode_keys(TL_CODEC_INT2, k_block, D, floats_of(keys) + i * TL_BLOCK * D);
            tl_codec_decode_values(TL_CODEC_INT4, v_block, D, floats_of(values) + i * TL_BLOCK * D);
        }
        for (uint32_t i = 0; i < KV_HEADS * k && n_chosen > 0; i++) {
            const uint64_t row = i / k * N + (uint64_t)ints_of(idx)[i];
            tl_decode_row(TL_F16, (uint16_t *)tl_view_host(b.kv.k) + row * D,
                          floats_of(keys) + row * D, D);
            tl_decode_row(TL_F16, (uint16_t *)tl_view_host(b.kv.v) + row * D,
                          floats_of(values) + row * D, D);
        }
        a.kv = (struct tl_kv_rows){keys, values, KV_HEADS};
        assert_int_equal(tl_attend(f->s, &a), TL_OK);
        assert_true(error_of(rest.out, a.out) < (n_chosen == N ? 3e-6 : 1e-3));
        assert_true(error_of(rest.lse, a.lse) < 1e-4);
        free_views(f);
    }
}

/* Goal: scores given are scores computed. */
static void given_scores(void **state) {
    struct fixture *const f = *state;
    const struct both b = new_both(f, 20, TL_CODEC_INT1, TL_CODEC_INT1);
    const struct tl_attend a = whole(f, floats(f, 1, HEADS * D, 2.0f), b.kv, b.n_rows);
    const struct tl_attend_sketch fresh = through(f, &b, &a);
    struct tl_attend_sketch given = through(f, &b, &a);
    given.score = new_view(f, HEADS, b.n_rows, TL_F32);
    const struct tl_key_score score = {.score = given.score,
                                       .q = a.q,
                                       .n_blocks = b.n_blocks,
                                       .sketch = b.sketch,
                                       .n_heads = HEADS,
                                       .scale = a.scale};
    assert_int_equal(tl_attend_sketch(f->s, &fresh), TL_OK);
    assert_int_equal(tl_key_score(f->s, &score), TL_OK);
    assert_int_equal(tl_attend_sketch(f->s, &given), TL_OK);
    assert_true(error_of(given.out, fresh.out) < 1e-6);
    assert_true(error_of(given.lse, fresh.lse) < 1e-6);
    free_views(f);
}

/* Goal: blocks written out of order and again are the blocks written at once. */
static void compressing_in_pieces(void **state) {
    struct fixture *const f = *state;
    enum { N_BLOCKS = 9 };
    const struct both b = new_both(f, N_BLOCKS, TL_CODEC_INT2, TL_CODEC_INT1);
    struct tl_sketch again = b.sketch;
    again.k = new_view(f, again.k.rows, again.k.cols, TL_U8);
    again.v = new_view(f, again.v.rows, again.v.cols, TL_U8);
    static const uint32_t pieces[][2] = {{4, 3}, {0, 2}, {7, 2}, {1, 4}};
    for (uint32_t i = 0; i < 4; i++) {
        const struct tl_compress op = {again,        b.kv,         pieces[i][0] * TL_BLOCK,
                                       pieces[i][0], pieces[i][1], TL_FIT_SQUARES};
        assert_int_equal(tl_compress(f->s, &op), TL_OK);
    }
    assert_memory_equal(tl_view_host(again.k), tl_view_host(b.sketch.k), tl_view_bytes(again.k));
    assert_memory_equal(tl_view_host(again.v), tl_view_host(b.sketch.v), tl_view_bytes(again.v));
    free_views(f);
}

enum { HOT_ROWS = 200, HOT_SLOTS_MAX = 64, HOT_K_MAX = 24 };

/* A hot set as its header tells it, written down anew: `there` is the row in each slot. */
struct hot_model {
    int32_t there[HOT_SLOTS_MAX];
    bool used[HOT_SLOTS_MAX], wanted[HOT_SLOTS_MAX];
    uint32_t n_slots, hand;
};

static int32_t slot_of(const struct hot_model *m, int32_t row) {
    for (uint32_t s = 0; s < m->n_slots; s++) {
        if (m->there[s] == row) {
            return (int32_t)s;
        }
    }
    return -1;
}

static void model_fetch(struct hot_model *m, const int32_t *idx, uint32_t k, int32_t *counts) {
    memset(m->wanted, 0, sizeof m->wanted);
    bool missing[HOT_K_MAX];
    for (uint32_t j = 0; j < k; j++) {
        const int32_t s = idx[j] >= 0 ? slot_of(m, idx[j]) : -1;
        missing[j] = idx[j] >= 0 && s < 0;
        counts[0] += s >= 0;
        if (s >= 0) {
            m->used[s] = m->wanted[s] = true;
        }
    }
    for (uint32_t j = 0; j < k; j++) {
        while (missing[j]) {
            const uint32_t s = m->hand;
            m->hand = (m->hand + 1) % m->n_slots;
            if (m->wanted[s]) {
                continue;
            }
            if (m->used[s]) {
                m->used[s] = false;
                continue;
            }
            m->there[s] = idx[j];
            m->used[s] = m->wanted[s] = true;
            counts[1]++;
            missing[j] = false;
        }
    }
}

/* Ascending rows, a few at the end none; steps resemble each other, as queries do. */
static void want_rows(struct fixture *f, int32_t *idx, uint32_t k) {
    const uint64_t first = rng_below(&f->rng, HOT_ROWS - 3 * k);
    const uint32_t n = k - (uint32_t)(rng_below(&f->rng, 4) == 0 ? rng_below(&f->rng, k + 1) : 0);
    int32_t row = (int32_t)first;
    for (uint32_t j = 0; j < k; j++) {
        idx[j] = j < n ? row : -1;
        row += 1 + (int32_t)rng_below(&f->rng, 3);
    }
}

/* Goal: the hot set is the model's after every one of thousands of fetches, its tables agree with
 * each other, and a slot holds its row's bytes. */
static void hot_set_against_a_model(void **state) {
    struct fixture *const f = *state;
    for (uint32_t trial = 0; trial < 6; trial++) {
        const uint32_t k = 1 + (uint32_t)rng_below(&f->rng, HOT_K_MAX), row0 = trial;
        const uint32_t n_slots = 2 * k + (uint32_t)rng_below(&f->rng, HOT_SLOTS_MAX - 2 * k + 1);
        const uint32_t cap = HOT_ROWS + row0;
        const struct tl_fetch op = {
            .hot = {halves(f, KV_HEADS * n_slots, 8), halves(f, KV_HEADS * n_slots, 8), KV_HEADS},
            .home = {halves(f, KV_HEADS * cap, 8), halves(f, KV_HEADS * cap, 8), KV_HEADS},
            .idx = ints(f, KV_HEADS, k, -1),
            .slot = ints(f, KV_HEADS, k, 7),
            .owner = ints(f, KV_HEADS, n_slots, 9), /* of an empty set: anything */
            .used = ints(f, KV_HEADS, n_slots, 1),
            .hand = ints(f, KV_HEADS, 1, 0),
            .counts = ints(f, 1, 2, 0),
            .row0 = row0};
        struct hot_model models[KV_HEADS];
        for (uint32_t h = 0; h < KV_HEADS; h++) {
            models[h] = (struct hot_model){.n_slots = n_slots};
            memset(models[h].there, 0xff, sizeof models[h].there);
        }
        int32_t counts[2] = {0};
        for (uint32_t step = 0; step < 1000; step++) {
            for (uint32_t h = 0; h < KV_HEADS; h++) {
                want_rows(f, ints_of(op.idx) + h * k, k);
                model_fetch(&models[h], ints_of(op.idx) + h * k, k, counts);
            }
            assert_int_equal(tl_fetch(f->s, &op), TL_OK);
            assert_memory_equal(ints_of(op.counts), counts, sizeof counts);
            for (uint32_t h = 0; h < KV_HEADS; h++) {
                const struct hot_model *const m = &models[h];
                assert_int_equal(ints_of(op.hand)[h], m->hand + 1);
                for (uint32_t s = 0; s < n_slots; s++) {
                    const int32_t row = m->there[s];
                    assert_int_equal(ints_of(op.owner)[h * n_slots + s], row);
                    assert_int_equal(ints_of(op.used)[h * n_slots + s], m->used[s]);
                    if (row >= 0) {
                        const uint64_t from = h * cap + row0 + (uint32_t)row, to = h * n_slots + s;
                        assert_memory_equal((uint16_t *)tl_view_host(op.hot.k) + to * 8,
                                            (uint16_t *)tl_view_host(op.home.k) + from * 8, 16);
                        assert_memory_equal((uint16_t *)tl_view_host(op.hot.v) + to * 8,
                                            (uint16_t *)tl_view_host(op.home.v) + from * 8, 16);
                    }
                }
                for (uint32_t j = 0; j < k; j++) {
                    const int32_t row = ints_of(op.idx)[h * k + j];
                    assert_int_equal(ints_of(op.slot)[h * k + j], row >= 0 ? slot_of(m, row) : -1);
                }
            }
        }
        free_views(f);
    }
}

#define TESTS_ON(open)                                                                             \
    cmocka_unit_test_setup_teardown(merging_is_order_free, open, close_fixture),                   \
        cmocka_unit_test_setup_teardown(topk_is_a_sort, open, close_fixture),                      \
        cmocka_unit_test_setup_teardown(topk_without_numbers, open, close_fixture),                \
        cmocka_unit_test_setup_teardown(idle_heads_have_no_say, open, close_fixture),              \
        cmocka_unit_test_setup_teardown(codes_approximate, open, close_fixture),                   \
        cmocka_unit_test_setup_teardown(chosen_rows_leave_the_sketch, open, close_fixture),        \
        cmocka_unit_test_setup_teardown(given_scores, open, close_fixture),                        \
        cmocka_unit_test_setup_teardown(compressing_in_pieces, open, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        TESTS_ON(open_plain),
        TESTS_ON(open_avx2),
        TESTS_ON(open_best),
        cmocka_unit_test_setup_teardown(merging_with_nothing, open_best, close_fixture),
        cmocka_unit_test_setup_teardown(hot_set_against_a_model, open_best, close_fixture),
    };
    return cmocka_run_group_tests_name("cache_ops", tests, NULL, NULL);
}
