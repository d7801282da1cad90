/* Decode of several sequences at once: each is the sequence that it would be alone. The same
 * program runs on the emulated CUDA card (TL_TEST_BACKEND), where ops of several sequences are one
 * launch. */
#include "core/batch.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

#ifndef TL_TEST_BACKEND
#define TL_TEST_BACKEND "cpu"
enum { EACH_PRESET = 1 };
/* Its products of few rows do with each row what they do with it alone. */
static const double allowed = 0;
#else
static const double allowed = 2e-2;
enum { EACH_PRESET = 3 }; /* full, kivi2, vecinfer2, tailor, quest: a kernel of each sort */
#endif

#define MODEL TL_SOURCE_DIR "/tests/golden/llama-hd64-linear.gguf"
enum { N_CTX = 420, N_STEPS = 4, N_MOST = 5 };

struct fleet {
    tl_engine *engine;
    tl_session *s[N_MOST];
    uint32_t n;
};

static tl_session *open_session(tl_engine *e, const char *preset, uint32_t n_ctx) {
    struct tl_policy policies[64];
    const uint32_t n_layers = tl_engine_model(e)->shape.n_layers;
    const struct tl_preset *const found = tl_preset_find(preset);
    assert_non_null(found);
    assert_true(n_layers <= 64);
    for (uint32_t il = 0; il < n_layers; il++) {
        policies[il] = found->policy;
    }
    tl_session *s = NULL;
    const struct tl_session_params params = {.n_ctx = n_ctx, .n_chunk = 128, .policies = policies};
    assert_int_equal(tl_session_open(&s, e, &params), TL_OK);
    return s;
}

/* Sequence i has a prompt of its own, of another length: with and without compressed blocks. */
static void feed_own(struct fleet *f, uint32_t i, uint64_t seed) {
    static const uint32_t lengths[N_MOST] = {330, 5, 207, 330, 130};
    uint32_t ids[330];
    struct tl_rng rng = {seed + i};
    for (uint32_t t = 0; t < lengths[i]; t++) {
        ids[t] = (uint32_t)rng_below(&rng, tl_engine_model(f->engine)->shape.n_vocab);
    }
    assert_int_equal(tl_session_feed(f->s[i], &(struct tl_feed){.ids = ids, .n = lengths[i]}),
                     TL_OK);
}

static struct fleet open_fleet(const char *const *presets, const uint32_t *ctx, uint32_t n,
                               uint64_t seed) {
    struct fleet f = {.n = n};
    const struct tl_engine_params params = {
        .model_path = MODEL, .backend = TL_TEST_BACKEND, .n_threads = 2, .n_ctx = N_CTX};
    assert_int_equal(tl_engine_open(&f.engine, &params), TL_OK);
    for (uint32_t i = 0; i < n; i++) {
        f.s[i] = open_session(f.engine, presets[i], ctx[i]);
        feed_own(&f, i, seed);
    }
    return f;
}

static void close_fleet(struct fleet *f) {
    for (uint32_t i = 0; i < f->n; i++) {
        tl_session_close(&f->s[i]);
    }
    tl_engine_close(&f->engine);
}

static void compare(const struct fleet *alone, const struct fleet *together, const char *what) {
    const uint32_t n_vocab = tl_engine_model(alone->engine)->shape.n_vocab;
    for (uint32_t i = 0; i < alone->n; i++) {
        const tl_session *const a = alone->s[i], *const b = together->s[i];
        assert_int_equal(tl_session_n(a), tl_session_n(b));
        assert_memory_equal(tl_session_ids(a), tl_session_ids(b), 4 * tl_session_n(a));
        const double diff = rms_difference(tl_session_logits(a), tl_session_logits(b), n_vocab);
        if (!(diff <= allowed)) {
            fail_msg("%s: sequence %u of %u tokens: logits differ by %.2e of their size", what, i,
                     tl_session_n(a), diff);
        }
        const struct tl_traffic x = tl_session_traffic(a), y = tl_session_traffic(b);
        assert_int_equal(x.rows_hit + x.rows_fetched, y.rows_hit + y.rows_fetched);
        assert_int_equal(x.channels_hit + x.channels_fetched, y.channels_hit + y.channels_fetched);
    }
}

/* The same steps one by one and together. Returns how many groups the recorded step has. */
static uint32_t run_both(const char *const *presets, const uint32_t *ctx, uint32_t n, uint64_t seed,
                         const char *what) {
    struct fleet alone = open_fleet(presets, ctx, n, seed);
    struct fleet together = open_fleet(presets, ctx, n, seed);
    struct tl_rng rng = {seed};
    tl_batch *batch = NULL;
    assert_int_equal(tl_batch_open(&batch, together.s, n), TL_OK);
    for (uint32_t step = 0; step < N_STEPS; step++) {
        uint32_t ids[N_MOST];
        for (uint32_t i = 0; i < n; i++) {
            ids[i] = (uint32_t)rng_below(&rng, tl_engine_model(alone.engine)->shape.n_vocab);
            assert_int_equal(tl_session_step(alone.s[i], ids[i]), TL_OK);
        }
        if (step == 3) { /* one of them goes its own way for a step */
            assert_int_equal(tl_session_step(together.s[0], ids[0]), TL_OK);
            assert_int_equal(tl_session_step(alone.s[0], 7), TL_OK);
            ids[0] = 7;
        }
        assert_int_equal(tl_batch_step(batch, ids), TL_OK);
        compare(&alone, &together, what);
    }
    uint32_t n_groups = 0;
    const tl_schedule *const s = tl_batch_schedule(batch);
    for (uint32_t i = 0; i < s->n; i++) {
        assert_true(s->ops[i].together == 0 || s->ops[i].together == n);
        n_groups += s->ops[i].together > 0;
    }
    tl_batch_close(&batch);
    close_fleet(&together);
    close_fleet(&alone);
    return n_groups;
}

/* Goal: for every preset, sequences of different lengths are what they are alone, and their caches'
 * ops stand side by side. */
static void test_presets(void **state) {
    (void)state;
    size_t n_presets = 0;
    while (tl_presets[n_presets].name != NULL) {
        n_presets++;
    }
    for (size_t p = 0; p < n_presets; p += EACH_PRESET) {
        const char *const presets[N_MOST] = {tl_presets[p].name, tl_presets[p].name,
                                             tl_presets[p].name, tl_presets[p].name,
                                             tl_presets[p].name};
        static const uint32_t ctx[N_MOST] = {N_CTX, N_CTX, N_CTX, N_CTX, N_CTX};
        const uint32_t n = p % 2 == 0 || EACH_PRESET > 1 ? 3 : N_MOST;
        assert_true(run_both(presets, ctx, n, 40 + p, presets[0]) > 0);
    }
}

/* Goal: caches of several sorts and sizes in one batch: nothing stands side by side then, and all
 * is right all the same. */
static void test_mixed(void **state) {
    (void)state;
    static const char *const presets[] = {"tailor", "full", "tailor", "quest"};
    static const uint32_t ctx[] = {N_CTX, N_CTX, N_CTX - 70, N_CTX};
    assert_int_equal(run_both(presets, ctx, 4, 9, "mixed"), 0);
    static const char *const same[] = {"tailor", "tailor"};
    static const uint32_t other[] = {N_CTX, N_CTX - 70};
    run_both(same, other, 2, 10, "of two sizes");
}

/* Goal: a token that one sequence cannot take leaves all of them as they were; a batch of one
 * works. */
static void test_refused(void **state) {
    (void)state;
    static const char *const presets[] = {"tailor", "full"};
    static const uint32_t ctx[] = {N_CTX, 6};
    struct fleet f = open_fleet(presets, ctx, 2, 3);
    tl_batch *batch = NULL;
    assert_int_equal(tl_batch_open(&batch, f.s, 2), TL_OK);
    const uint32_t unknown[] = {1, UINT32_MAX}, fine[] = {1, 2};
    assert_int_equal(tl_batch_step(batch, unknown), TL_ERR_FORMAT);
    assert_int_equal(tl_session_n(f.s[0]), 330);
    assert_int_equal(tl_batch_step(batch, fine), TL_OK);
    assert_int_equal(tl_batch_step(batch, fine), TL_ERR_MEMORY); /* its context is full */
    assert_int_equal(tl_session_n(f.s[0]), 331);
    assert_int_equal(tl_session_n(f.s[1]), 6);
    tl_batch_close(&batch);
    assert_int_equal(tl_batch_open(&batch, f.s, 1), TL_OK);
    assert_int_equal(tl_batch_step(batch, fine), TL_OK);
    assert_int_equal(tl_session_n(f.s[0]), 332);
    tl_batch_close(&batch);
    close_fleet(&f);
}

/* Goal: a context too small for anything but sinks is no trap, whatever the preset. */
static void test_tiny_context(void **state) {
    (void)state;
    for (size_t p = 0; tl_presets[p].name != NULL; p++) {
        const char *const presets[] = {tl_presets[p].name, tl_presets[p].name};
        static const uint32_t ctx[] = {342, 6};
        struct fleet f = open_fleet(presets, ctx, 2, 4);
        assert_int_equal(tl_session_step(f.s[1], 3), TL_OK);
        assert_int_equal(tl_session_step(f.s[0], 3), TL_OK);
        close_fleet(&f);
    }
}

enum { K = 768, M = 37, N = 8 };

static tl_view view_alloc(tl_dev *dev, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    tl_buf *buf = NULL;
    assert_int_equal(tl_buf_alloc(&buf, dev, rows * tl_row_bytes(dtype, cols), TL_MEM_HOST), TL_OK);
    return tl_view_of(buf, 0, rows, cols, dtype);
}

/* n_most rows of x at once and one by one. */
static void check_rows(tl_dev *dev, tl_dtype dtype, uint32_t n_most, struct tl_rng *rng) {
    tl_view x = view_alloc(dev, N, K, TL_F32), w = view_alloc(dev, M, K, dtype);
    tl_view y = view_alloc(dev, N, M, TL_F32), one = view_alloc(dev, 1, M, TL_F32);
    tl_stream *stream = NULL;
    assert_int_equal(tl_stream_open(&stream, dev), TL_OK);
    for (uint32_t i = 0; i < N * K; i++) {
        ((float *)tl_view_host(x))[i] = rng_float(rng);
    }
    for (uint64_t i = 0; i < tl_view_bytes(w); i++) { /* of every format a number below 2 */
        ((uint8_t *)tl_view_host(w))[i] = rng_below(rng, 256) & 0xbf;
    }
    for (uint32_t n = 1; n <= n_most; n++) {
        struct tl_matmul op = {.y = tl_view_rows(y, 0, n), .x = tl_view_rows(x, 0, n), .w = w};
        assert_int_equal(tl_matmul(stream, &op), TL_OK);
        for (uint32_t i = 0; i < n; i++) {
            op.y = one;
            op.x = tl_view_rows(x, i, 1);
            assert_int_equal(tl_matmul(stream, &op), TL_OK);
            assert_int_equal(tl_stream_sync(stream), TL_OK);
            const tl_view row = tl_view_rows(y, i, 1);
            if (memcmp(tl_view_host(row), tl_view_host(one), M * sizeof(float)) != 0) {
                fail_msg("%s: row %u of %u", tl_dtype_info(dtype)->name, i, n);
            }
        }
    }
    tl_stream_close(&stream);
    tl_buf *bufs[] = {x.buf, w.buf, y.buf, one.buf};
    for (size_t i = 0; i < 4; i++) {
        tl_buf_free(&bufs[i]);
    }
}

/* Goal: a product of up to 8 rows is each row's own product, to the bit, for every type of weights
 * (where AVX2 is the best there is, of up to 4 rows). */
static void test_products_of_few_rows(void **state) {
    (void)state;
    static const char *const isas[] = {"plain", "avx2", NULL};
    struct tl_rng rng = {77};
    for (size_t isa = 0; isa < 3; isa++) {
        tl_dev *dev = NULL;
        const struct tl_dev_params params = {.n_threads = 2, .isa_max = isas[isa]};
        assert_int_equal(tl_dev_open(&dev, tl_backend_find("cpu"), &params), TL_OK);
        struct tl_dev_caps caps;
        tl_dev_get_caps(dev, &caps);
        const uint32_t n_most = strncmp(caps.kernels, "avx2", 4) == 0 ? 4 : N;
        for (int dtype = 0; dtype < TL_I32; dtype++) {
            check_rows(dev, (tl_dtype)dtype, n_most, &rng);
        }
        tl_dev_close(&dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_of_few_rows),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tiny_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
