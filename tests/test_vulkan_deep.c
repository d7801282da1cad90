/* Long caches on the Vulkan device. Mesa's software driver ends the loops of an invocation after
 * 65535 rounds of all of them together and says nothing, so kernels that are right for the
 * thousands of rows of parity.c were wrong for a hundred thousand. Here every op whose loops grow
 * with the cache meets the CPU's plain loops over more rows than one invocation may walk. Skipped
 * where no Vulkan device is. */
#include "core/backend.h"
#include "core/vq.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_ROWS = 131072,
    N_BLOCKS = N_ROWS / TL_BLOCK,
    DIM = 128,
    KV_HEADS = 2,
    N_HEADS = 8,
    N_BEST = 64,
    N_PARTS = 3,
};

struct side {
    tl_dev *dev;
    tl_stream *s;
    tl_buf *bufs[20];
    uint32_t n_bufs;
    tl_view k, v, q, pos, n_rows, n_blocks, score, idx, out, lse, mass;
    struct tl_sketch sketch;
};

static tl_view take(struct side *side, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    tl_buf **const b = &side->bufs[side->n_bufs++];
    assert_true(side->n_bufs <= sizeof side->bufs / sizeof side->bufs[0]);
    assert_int_equal(tl_buf_alloc(b, side->dev, rows * tl_row_bytes(dtype, cols), TL_MEM_HOST),
                     TL_OK);
    return tl_view_of(*b, 0, rows, cols, dtype);
}

static tl_view number(struct side *side, int32_t value) {
    const tl_view v = take(side, 1, 1, TL_I32);
    memcpy(tl_view_host(v), &value, sizeof value);
    return v;
}

static void fill(tl_view v, struct tl_rng *rng) {
    for (uint64_t i = 0; i < (uint64_t)v.rows * v.cols; i++) {
        const float x = (float)rng_below(rng, 1 << 20) / (1 << 19) - 1.0f;
        if (v.dtype == TL_F16) {
            ((uint16_t *)tl_view_host(v))[i] = tl_f32_to_f16(x);
        } else {
            ((float *)tl_view_host(v))[i] = x;
        }
    }
}

/* The codebook that comes with the program, or nothing. */
static tl_view codebook(struct side *side, tl_codec codec) {
    if (!tl_vq_is(codec)) {
        return (tl_view){0};
    }
    const tl_view book = take(side, tl_vq_entries(codec), tl_vq_dim(codec), TL_F16);
    tl_vq_builtin(codec, tl_view_host(book));
    return book;
}

static void sketch_open(struct side *side, tl_codec k_codec, tl_codec v_codec) {
    const uint32_t k_bytes = (uint32_t)tl_codec_key_bytes(k_codec, DIM);
    const uint32_t v_bytes = (uint32_t)tl_codec_value_bytes(v_codec, DIM);
    side->sketch = (struct tl_sketch){.k = take(side, KV_HEADS * N_BLOCKS, k_bytes, TL_U8),
                                      .v = take(side, KV_HEADS * N_BLOCKS, v_bytes, TL_U8),
                                      .k_codec = k_codec,
                                      .v_codec = v_codec,
                                      .n_kv_heads = KV_HEADS,
                                      .head_dim = DIM,
                                      .k_book = codebook(side, k_codec),
                                      .v_book = codebook(side, v_codec)};
    if (tl_vq_is(k_codec)) {
        side->sketch.smooth = take(side, KV_HEADS, DIM, TL_F32);
        for (uint32_t i = 0; i < KV_HEADS * DIM; i++) {
            ((float *)tl_view_host(side->sketch.smooth))[i] = 0.5f + (float)(i % 9) / 8.0f;
        }
    }
}

static void side_open(struct side *side, const char *backend, const char *debug, tl_codec k_codec,
                      tl_codec v_codec) {
    *side = (struct side){0};
    const struct tl_dev_params params = {.isa_max = "plain", .n_threads = 2, .debug = debug};
    assert_int_equal(tl_dev_open(&side->dev, tl_backend_find(backend), &params), TL_OK);
    assert_int_equal(tl_stream_open(&side->s, side->dev), TL_OK);
    struct tl_rng rng = {5};
    side->k = take(side, KV_HEADS * N_ROWS, DIM, TL_F16);
    side->v = take(side, KV_HEADS * N_ROWS, DIM, TL_F16);
    side->q = take(side, 1, N_HEADS * DIM, TL_F32);
    fill(side->k, &rng);
    fill(side->v, &rng);
    fill(side->q, &rng);
    side->pos = number(side, N_ROWS - 1);
    side->n_rows = number(side, N_ROWS);
    side->n_blocks = number(side, N_BLOCKS);
    side->score = take(side, N_HEADS, N_ROWS, TL_F32);
    side->idx = take(side, KV_HEADS, N_BEST, TL_I32);
    side->out = take(side, 1, N_HEADS * DIM, TL_F32);
    side->lse = take(side, 1, N_HEADS, TL_F32);
    side->mass = take(side, N_HEADS, N_PARTS, TL_F32);
    sketch_open(side, k_codec, v_codec);
}

static void side_close(struct side *side) {
    for (uint32_t i = 0; i < side->n_bufs; i++) {
        tl_buf_free(&side->bufs[i]);
    }
    tl_stream_close(&side->s);
    tl_dev_close(&side->dev);
}

static void expect_close(tl_view want, tl_view got, double tolerance, const char *what) {
    double worst = 0.0;
    for (uint64_t i = 0; i < (uint64_t)want.rows * want.cols; i++) {
        const double off = fabs((double)((const float *)tl_view_host(want))[i] -
                                (double)((const float *)tl_view_host(got))[i]);
        worst = off <= worst ? worst : off; /* a NaN stays */
    }
    print_message("%s: off by %.1e\n", what, worst);
    assert_true(worst <= tolerance);
}

enum { ATTEND, COMPRESS, KEY_SCORE, TOPK, SKETCH, SKETCH_SCORED, MASS, N_STEPS };

static tl_err attend_sketch(struct side *s, const struct tl_sketch *sketch, float scale,
                            bool scored) {
    struct tl_attend_sketch op = {.out = s->out,
                                  .lse = s->lse,
                                  .q = s->q,
                                  .n_blocks = s->n_blocks,
                                  .sketch = *sketch,
                                  .n_heads = N_HEADS,
                                  .scale = scale};
    if (scored) {
        op.score = s->score;
        op.skip = s->idx;
    }
    return tl_attend_sketch(s->s, &op);
}

static tl_err run_step(struct side *s, int step) {
    const float scale = 0.1f;
    const struct tl_kv_rows kv = {s->k, s->v, KV_HEADS};
    const struct tl_sketch sketch = s->sketch;
    const struct tl_attend attend = {.out = s->out,
                                     .lse = s->lse,
                                     .q = s->q,
                                     .q_pos = s->pos,
                                     .n_rows = s->n_rows,
                                     .kv = kv,
                                     .n_heads = N_HEADS,
                                     .scale = scale};
    const struct tl_compress compress = {
        .dst = sketch, .src = kv, .n_blocks = N_BLOCKS, .fit = TL_FIT_SQUARES};
    const struct tl_key_score key_score = {.score = s->score,
                                           .q = s->q,
                                           .n_blocks = s->n_blocks,
                                           .sketch = sketch,
                                           .n_heads = N_HEADS,
                                           .scale = scale};
    const struct tl_topk topk = {.idx = s->idx, .score = s->score, .n_rows = s->n_rows};
    const struct tl_mass mass = {.mass = s->mass,
                                 .q = s->q,
                                 .q_pos = s->pos,
                                 .n_rows = s->n_rows,
                                 .kv = kv,
                                 .n_heads = N_HEADS,
                                 .scale = scale,
                                 .n_parts = N_PARTS,
                                 .parts = {10, 500, 5000}};
    return step == ATTEND      ? tl_attend(s->s, &attend)
           : step == COMPRESS  ? tl_compress(s->s, &compress)
           : step == KEY_SCORE ? tl_key_score(s->s, &key_score)
           : step == TOPK      ? tl_topk(s->s, &topk)
           : step == MASS      ? tl_mass(s->s, &mass)
                               : attend_sketch(s, &sketch, scale, step == SKETCH_SCORED);
}

/* Outputs are means of so many random rows that a tenth of them left out is far above the
 * tolerance. */
static void deep(const char *debug, tl_codec k_codec, tl_codec v_codec) {
    struct side sides[2];
    side_open(&sides[0], "cpu", NULL, k_codec, v_codec);
    side_open(&sides[1], "vulkan", debug, k_codec, v_codec);
    const struct side *const a = &sides[0], *const b = &sides[1];
    for (int step = 0; step < N_STEPS; step++) {
        for (uint32_t i = 0; i < 2; i++) {
            assert_int_equal(run_step(&sides[i], step), TL_OK);
            assert_int_equal(tl_stream_sync(sides[i].s), TL_OK);
        }
        if (step == COMPRESS) {
            const struct tl_sketch *const want = &a->sketch, *const got = &b->sketch;
            assert_memory_equal(tl_view_host(want->k), tl_view_host(got->k),
                                tl_view_bytes(want->k));
            assert_memory_equal(tl_view_host(want->v), tl_view_host(got->v),
                                tl_view_bytes(want->v));
        } else if (step == KEY_SCORE) {
            expect_close(a->score, b->score, 1e-5, "key_score");
            memcpy(tl_view_host(b->score), tl_view_host(a->score), tl_view_bytes(a->score));
        } else if (step == TOPK) {
            assert_memory_equal(tl_view_host(a->idx), tl_view_host(b->idx), tl_view_bytes(a->idx));
        } else if (step == MASS) {
            expect_close(a->mass, b->mass, 1e-5, "mass");
        } else {
            expect_close(a->out, b->out, 1e-5, step == ATTEND ? "attend" : "attend_sketch");
            expect_close(a->lse, b->lse, 1e-5, "its weight");
        }
    }
    side_close(&sides[0]);
    side_close(&sides[1]);
}

static void test_deep(void **state) {
    (void)state;
    deep(NULL, TL_CODEC_INT1, TL_CODEC_INT1);
}

static void test_deep_codebooks(void **state) {
    (void)state;
    deep(NULL, TL_CODEC_VQ_D4B8, TL_CODEC_VQ_D8B8);
}

/* Goal: 128k rows on a driver that binds little at once: here a thirtieth of the keys, as 4 GiB are
 * of a cache of 128 GiB. */
static void test_narrow(void **state) {
    (void)state;
    deep("validate,binding=2200000,align=256", TL_CODEC_INT1, TL_CODEC_INT1);
}

enum { WIDE_BLOCKS = 2304, WIDE_DIM = 16, WIDE_HEADS = 2 };

/* Keys by channels of more rows than one invocation may walk, entered by one op. */
static void transpose(const char *backend, const char *debug, uint16_t *keys, uint16_t *most) {
    struct side s = {0};
    const struct tl_dev_params params = {.isa_max = "plain", .n_threads = 2, .debug = debug};
    assert_int_equal(tl_dev_open(&s.dev, tl_backend_find(backend), &params), TL_OK);
    assert_int_equal(tl_stream_open(&s.s, s.dev), TL_OK);
    struct tl_rng rng = {6};
    const tl_view src = take(&s, WIDE_HEADS * WIDE_BLOCKS * TL_BLOCK, WIDE_DIM, TL_F16);
    fill(src, &rng);
    const struct tl_columns dst = {
        .keys = take(&s, WIDE_HEADS * WIDE_DIM, WIDE_BLOCKS * TL_BLOCK, TL_F16),
        .most = take(&s, WIDE_HEADS * WIDE_BLOCKS, WIDE_DIM, TL_F16),
        .n_kv_heads = WIDE_HEADS};
    const struct tl_key_transpose op = {.dst = dst, .src = src, .n_blocks = WIDE_BLOCKS};
    assert_int_equal(tl_key_transpose(s.s, &op), TL_OK);
    assert_int_equal(tl_stream_sync(s.s), TL_OK);
    memcpy(keys, tl_view_host(dst.keys), tl_view_bytes(dst.keys));
    memcpy(most, tl_view_host(dst.most), tl_view_bytes(dst.most));
    side_close(&s);
}

/* Goal: an index of 147 thousand rows is that of the CPU, whether heads fit a binding or, with a
 * pretended limit, channels and stretches of rows have bindings of their own. */
static void test_transpose(void **state) {
    (void)state;
    const size_t n_keys = (size_t)WIDE_HEADS * WIDE_DIM * WIDE_BLOCKS * TL_BLOCK;
    const size_t n_most = (size_t)WIDE_HEADS * WIDE_BLOCKS * WIDE_DIM;
    uint16_t *const numbers = calloc(2 * (n_keys + n_most), sizeof *numbers);
    assert_non_null(numbers);
    uint16_t *const keys = numbers, *const most = keys + n_keys;
    uint16_t *const got_keys = most + n_most, *const got_most = got_keys + n_keys;
    transpose("cpu", NULL, keys, most);
    static const char *const debugs[] = {"validate", "validate,range=1000000"};
    for (size_t i = 0; i < sizeof debugs / sizeof debugs[0]; i++) {
        transpose("vulkan", debugs[i], got_keys, got_most);
        assert_memory_equal(keys, got_keys, n_keys * sizeof *keys);
        assert_memory_equal(most, got_most, n_most * sizeof *most);
    }
    free(numbers);
}

int main(void) {
    if (tl_backend_find("vulkan") == NULL || tl_backend_find("vulkan")->dev_count() == 0) {
        print_message("skipped: no Vulkan device here\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deep), cmocka_unit_test(test_deep_codebooks),
        cmocka_unit_test(test_narrow), cmocka_unit_test(test_transpose)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
