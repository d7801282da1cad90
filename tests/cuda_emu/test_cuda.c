/* The CUDA backend as a whole, on the emulated card (emu.h): models beside the CPU backend for
 * every preset, what happens when the card fails, and that nothing stays behind. The kernels one by
 * one are the business of parity_cuda. */
#include "core/engine.h"
#include "emu.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"
#define MODEL GOLDEN "llama-hd64-linear.gguf"
enum { N_PROMPT = 330, N_STEPS = 10, N_CTX = 420 };

/* A fresh card with its own random order. */
static struct emu_options fresh(uint64_t seed) {
    struct emu_options o = emu_defaults();
    o.seed = seed;
    emu_configure(&o);
    return o;
}

static void assert_nothing_left(void) {
    const struct emu_counts left = emu_count();
    assert_int_equal(left.device_bytes, 0);
    assert_int_equal(left.pinned_bytes, 0);
    assert_int_equal(left.n_objects, 0);
}

struct run {
    tl_engine *e;
    tl_session *s;
};

static tl_err open_run(struct run *r, const char *path, const char *backend, const char *preset,
                       const tl_log *log) {
    *r = (struct run){0};
    struct tl_engine_params params = {.model_path = path, .backend = backend, .n_threads = 1};
    params.n_ctx = N_CTX;
    if (log != NULL) {
        params.log = *log;
    }
    tl_err err = tl_engine_open(&r->e, &params);
    if (err) {
        return err;
    }
    const uint32_t n_layers = tl_engine_model(r->e)->shape.n_layers;
    struct tl_policy *const policies = calloc(n_layers, sizeof *policies);
    assert_non_null(policies);
    const struct tl_preset *const found = tl_preset_find(preset);
    assert_non_null(found);
    for (uint32_t il = 0; il < n_layers; il++) {
        policies[il] = found->policy;
    }
    err = tl_session_open(
        &r->s, r->e,
        &(struct tl_session_params){.n_ctx = N_CTX, .n_chunk = 128, .policies = policies});
    free(policies);
    return err;
}

static void close_run(struct run *r) {
    tl_session_close(&r->s);
    tl_engine_close(&r->e);
}

static uint32_t best_of(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* The same text through both; the CPU's greedy choice goes on. `allowed`: difference of logits. The
 * card must choose the same token, but for one that the CPU holds as good to within the error. */
static void compare_runs(const char *path, const char *preset, uint32_t n_prompt, uint64_t seed,
                         double allowed) {
    struct run cpu, card;
    fresh(seed);
    assert_int_equal(open_run(&cpu, path, "cpu", preset, NULL), TL_OK);
    assert_int_equal(open_run(&card, path, "cuda", preset, NULL), TL_OK);
    const uint32_t n_vocab = tl_engine_model(cpu.e)->shape.n_vocab;
    struct tl_rng rng = {seed};
    uint32_t ids[N_PROMPT];
    for (uint32_t i = 0; i < n_prompt; i++) {
        ids[i] = (uint32_t)rng_below(&rng, n_vocab);
    }
    const struct tl_feed prompt = {.ids = ids, .n = n_prompt};
    assert_int_equal(tl_session_feed(cpu.s, &prompt), TL_OK);
    assert_int_equal(tl_session_feed(card.s, &prompt), TL_OK);
    double worst = 0.0;
    for (uint32_t i = 0; i <= N_STEPS; i++) {
        const float *const want = tl_session_logits(cpu.s), *const got = tl_session_logits(card.s);
        const double diff = rms_difference(want, got, n_vocab);
        const uint32_t best = best_of(want, n_vocab), chosen = best_of(got, n_vocab);
        worst = fmax(worst, diff);
        if (!(diff <= allowed)) {
            fail_msg("%s: step %u: logits differ by %.2e of their size", preset, i, diff);
        }
        double size = 0.0;
        for (uint32_t j = 0; j < n_vocab; j++) {
            size += (double)want[j] * (double)want[j];
        }
        size = sqrt(size / n_vocab);
        assert_true((double)want[best] - (double)want[chosen] <= 6.0 * allowed * size);
        if (i < N_STEPS) {
            assert_int_equal(tl_session_step(cpu.s, best), TL_OK);
            assert_int_equal(tl_session_step(card.s, best), TL_OK);
        }
    }
    const struct tl_traffic a = tl_session_traffic(cpu.s), b = tl_session_traffic(card.s);
    assert_int_equal(a.rows_hit + a.rows_fetched, b.rows_hit + b.rows_fetched);
    print_message("%-10s worst difference %.1e, %llu rows fetched\n", preset, worst,
                  (unsigned long long)b.rows_fetched);
    close_run(&cpu);
    close_run(&card);
    assert_nothing_left();
}

/* Goal: every preset runs on the card as on the CPU, through prefill and decode. */
static void test_presets(void **state) {
    (void)state;
    for (size_t i = 0; tl_presets[i].name != NULL; i++) {
        compare_runs(MODEL, tl_presets[i].name, N_PROMPT, 100 + i, 2e-2);
    }
}

/* Goal: a trained model, with heads of 64 and quantised weights, gives the same text. */
static void test_demo(void **state) {
    (void)state;
    compare_runs(TL_SOURCE_DIR "/models/demo.gguf", "tailor", 40, 7, 5e-2);
}

/* Goal: no card is an answer: no device, no error, and `auto` takes the CPU. */
static void test_no_card(void **state) {
    (void)state;
    struct emu_options o = emu_defaults();
    o.n_devices = 0;
    emu_configure(&o);
    assert_int_equal(tl_backend_find("cuda")->dev_count(), 0);
    struct run r;
    assert_int_equal(open_run(&r, MODEL, "auto", "full", NULL), TL_OK);
    assert_string_equal(tl_engine_backend(r.e), "cpu");
    close_run(&r);
    o.n_devices = 1;
    o.capability = 61; /* older than anything we compile for */
    emu_configure(&o);
    assert_int_equal(tl_backend_find("cuda")->dev_count(), 0);
}

/* Goal: a card of somebody else: one sentence, nothing left. */
static void test_busy_card(void **state) {
    (void)state;
    struct emu_options o = emu_defaults();
    o.busy = true;
    emu_configure(&o);
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    struct run r;
    assert_int_equal(open_run(&r, MODEL, "cuda", "full", &log), TL_ERR_DEVICE);
    assert_non_null(strstr(kept.sentence, "busy"));
    close_run(&r);
    assert_nothing_left();
}

/* Opens, feeds, steps; the first error. */
static tl_err try_all(const tl_log *log) {
    struct run r;
    static const uint32_t ids[200] = {1, 2, 3, 4, 5, 6, 7};
    tl_err err = open_run(&r, MODEL, "cuda", "tailor", log);
    if (err == TL_OK) {
        err = tl_session_feed(r.s, &(struct tl_feed){.ids = ids, .n = 200});
    }
    for (uint32_t i = 0; i < 3 && err == TL_OK; i++) {
        err = tl_session_step(r.s, 5 + i);
    }
    close_run(&r);
    return err;
}

/* Lets the n-th of one kind of call fail, for every n until none does. */
static void fail_each(uint64_t *countdown, struct emu_options *o, uint64_t step, tl_err wanted) {
    uint64_t n_failed = 0;
    for (uint64_t n = 1;; n += step) {
        *countdown = n;
        emu_configure(o);
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        const tl_err err = try_all(&log);
        assert_nothing_left();
        if (err == TL_OK) {
            break;
        }
        n_failed++;
        if (err != wanted || kept.n_errors == 0 || kept.sentence[0] == 0) {
            fail_msg("call %llu failed: error %d, %u sentences, the last: %s",
                     (unsigned long long)n, (int)err, kept.n_errors, kept.sentence);
        }
    }
    assert_true(n_failed > 3);
}

/* Goal: memory refused at any request, on the card or pinned: TL_ERR_MEMORY, one sentence, no leak.
 */
static void test_no_memory(void **state) {
    (void)state;
    struct emu_options o = emu_defaults();
    fail_each(&o.fail_device_alloc, &o, 1, TL_ERR_MEMORY);
    o = emu_defaults();
    fail_each(&o.fail_pinned_alloc, &o, 1, TL_ERR_MEMORY);
}

/* Goal: any call of the runtime fails (streams, events, copies, launches, captures), or a kernel
 * breaks the card: the session says TL_ERR_DEVICE once and everything closes. */
static void test_failures(void **state) {
    (void)state;
    struct emu_options o = emu_defaults();
    fail_each(&o.fail_other, &o, 61, TL_ERR_DEVICE);
    o = emu_defaults();
    fail_each(&o.fault_launch, &o, 37, TL_ERR_DEVICE);
}

/* Goal: a device that failed stays failed, and another one opened later works. */
static void test_sticky(void **state) {
    (void)state;
    struct emu_options o = fresh(2);
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    struct run r;
    assert_int_equal(open_run(&r, MODEL, "cuda", "full", &log), TL_OK);
    o.fault_launch = 5; /* from here on: recorded steps have launches too */
    emu_configure(&o);
    const uint32_t ids[] = {1, 2, 3};
    const struct tl_feed feed = {.ids = ids, .n = 3};
    assert_int_equal(tl_session_feed(r.s, &feed), TL_ERR_DEVICE);
    assert_non_null(strstr(kept.sentence, "illegal memory access"));
    assert_int_equal(tl_session_feed(r.s, &feed), TL_ERR_DEVICE);
    assert_int_equal(kept.n_errors, 1);
    close_run(&r);
    assert_nothing_left();
    fresh(3);
    assert_int_equal(try_all(NULL), TL_OK);
    assert_nothing_left();
}

/* Goal: host memory beyond a piece is pinned piece by piece, copied across their border, and where
 * the system refuses, the sentence says how far it came. */
static void test_pinned_pieces(void **state) {
    (void)state;
    struct emu_options o = fresh(1);
    struct kept_log kept;
    const struct tl_dev_params params = {.log = keep_log(&kept)};
    tl_dev *dev = NULL;
    tl_stream *s = NULL;
    assert_int_equal(tl_dev_open(&dev, tl_backend_find("cuda"), &params), TL_OK);
    assert_int_equal(tl_stream_open(&s, dev), TL_OK);
    const uint64_t piece = (uint64_t)1 << 30, bytes = 2 * piece + 4096;
    tl_buf *host = NULL, *device = NULL;
    assert_int_equal(tl_buf_alloc(&host, dev, bytes, TL_MEM_HOST), TL_OK);
    assert_int_equal(tl_buf_alloc(&device, dev, 64, TL_MEM_DEVICE), TL_OK);
    uint8_t *const border = (uint8_t *)host->host + piece - 32;
    assert_int_equal(border[0], 0);
    for (uint8_t i = 0; i < 64; i++) {
        border[i] = i;
    }
    const tl_view there = tl_view_of(device, 0, 1, 64, TL_U8);
    assert_int_equal(tl_copy(s, there, tl_view_of(host, piece - 32, 1, 64, TL_U8)), TL_OK);
    assert_int_equal(tl_copy(s, tl_view_of(host, 0, 1, 64, TL_U8), there), TL_OK);
    assert_int_equal(tl_stream_sync(s), TL_OK);
    assert_memory_equal(host->host, border, 64);
    tl_buf_free(&host);
    o.fail_pinned_alloc = 2;
    emu_configure(&o);
    assert_int_equal(tl_buf_alloc(&host, dev, bytes, TL_MEM_HOST), TL_ERR_MEMORY);
    assert_non_null(strstr(kept.sentence, "1.00 of 2.00 GiB"));
    tl_buf_free(&device);
    tl_stream_close(&s);
    tl_dev_close(&dev);
    assert_nothing_left();
}

/* One op of a batch: `n_rows` rows of a cache of its own. */
static struct tl_attend small_attend(const tl_view *v, uint32_t i) {
    enum { HEADS = 4, KV_HEADS = 2, D = 32, CAP = 96 };
    return (struct tl_attend){.out = tl_view_rows(v[0], i, 1),
                              .lse = tl_view_rows(v[1], i, 1),
                              .q = tl_view_rows(v[2], i, 1),
                              .q_pos = tl_view_rows(v[3], i, 1),
                              .n_rows = tl_view_rows(v[4], i, 1),
                              .kv = {.k = tl_view_rows(v[5], i * KV_HEADS * CAP, KV_HEADS * CAP),
                                     .v = tl_view_rows(v[6], i * KV_HEADS * CAP, KV_HEADS * CAP),
                                     .n_kv_heads = KV_HEADS},
                              .n_heads = HEADS,
                              .scale = 0.2f};
}

/* Goal: alike ops of several sequences, each with its own length, are one launch, or as many as
 * their number needs, and give the very bits that they give alone. */
static void test_together(void **state) {
    (void)state;
    enum { N = 11, HEADS = 4, KV_HEADS = 2, D = 32, CAP = 96, N_VIEWS = 7 };
    fresh(5);
    static const struct {
        uint32_t rows, cols;
        tl_dtype dtype;
    } shapes[N_VIEWS] = {{N, HEADS * D, TL_F32},
                         {N, HEADS, TL_F32},
                         {N, HEADS * D, TL_F32},
                         {N, 1, TL_I32},
                         {N, 1, TL_I32},
                         {N * KV_HEADS * CAP, D, TL_F16},
                         {N * KV_HEADS * CAP, D, TL_F16}};
    tl_dev *dev = NULL;
    tl_stream *s = NULL;
    assert_int_equal(tl_dev_open(&dev, tl_backend_find("cuda"), &(struct tl_dev_params){0}), TL_OK);
    assert_int_equal(tl_stream_open(&s, dev), TL_OK);
    tl_buf *bufs[N_VIEWS];
    tl_view v[N_VIEWS];
    struct tl_rng rng = {8};
    for (int i = 0; i < N_VIEWS; i++) {
        const uint64_t bytes = shapes[i].rows * tl_row_bytes(shapes[i].dtype, shapes[i].cols);
        assert_int_equal(tl_buf_alloc(&bufs[i], dev, bytes, TL_MEM_HOST), TL_OK);
        v[i] = tl_view_of(bufs[i], 0, shapes[i].rows, shapes[i].cols, shapes[i].dtype);
        for (uint64_t j = 0; shapes[i].dtype == TL_F16 && j < bytes / 2; j++) {
            ((uint16_t *)bufs[i]->host)[j] = (uint16_t)(0x3000 + rng_below(&rng, 0xc00));
        }
    }
    for (uint32_t j = 0; j < N * HEADS * D; j++) {
        ((float *)bufs[2]->host)[j] = rng_float(&rng);
    }
    for (uint32_t i = 0; i < N; i++) {
        ((int32_t *)bufs[3]->host)[i] = (int32_t)(7 * i);
        ((int32_t *)bufs[4]->host)[i] = (int32_t)(7 * i + 1);
    }
    float alone[N * HEADS * D];
    assert_int_equal(tl_stream_sync(s), TL_OK);
    uint64_t launches = emu_count().n_launches;
    for (uint32_t i = 0; i < N; i++) {
        const struct tl_attend op = small_attend(v, i);
        assert_int_equal(tl_attend(s, &op), TL_OK);
    }
    assert_int_equal(tl_stream_sync(s), TL_OK);
    const uint64_t one_by_one = emu_count().n_launches - launches;
    memcpy(alone, bufs[0]->host, sizeof alone);
    memset(bufs[0]->host, 0, sizeof alone);
    launches = emu_count().n_launches;
    assert_int_equal(tl_together_begin(s), TL_OK);
    for (uint32_t i = 0; i < N; i++) {
        const struct tl_attend op = small_attend(v, i);
        assert_int_equal(tl_attend(s, &op), TL_OK);
    }
    assert_int_equal(tl_together_end(s), TL_OK);
    assert_int_equal(tl_stream_sync(s), TL_OK);
    assert_int_equal((emu_count().n_launches - launches) * N, 2 * one_by_one); /* 8 and 3 */
    assert_memory_equal(alone, bufs[0]->host, sizeof alone);
    for (int i = 0; i < N_VIEWS; i++) {
        tl_buf_free(&bufs[i]);
    }
    tl_stream_close(&s);
    tl_dev_close(&dev);
    assert_nothing_left();
}

/* Every row of w is its number, from 1, all along. */
static void fill_rows(const tl_view *w) {
    const uint64_t row_bytes = tl_row_bytes(w->dtype, w->cols);
    float row[256];
    assert_true(w->cols <= 256);
    for (uint32_t m = 0; m < w->rows; m++) {
        for (uint32_t k = 0; k < w->cols; k++) {
            row[k] = (float)(m + 1);
        }
        assert_true(
            tl_encode_row(w->dtype, row, (uint8_t *)tl_view_host(*w) + m * row_bytes, w->cols));
    }
}

/* Goal: products of one x are one launch where their matrices are of one format, and round x once
 * whatever the formats; x is rounded anew as soon as anything else was done. */
static void test_codes_kept(void **state) {
    (void)state;
    enum { M = 32, K = 64, N_PRODUCTS = 3, N_BUFS = 5 };
    fresh(6);
    tl_dev *dev = NULL;
    tl_stream *s = NULL;
    tl_buf *bufs[N_BUFS];
    assert_int_equal(tl_dev_open(&dev, tl_backend_find("cuda"), &(struct tl_dev_params){0}), TL_OK);
    assert_int_equal(tl_stream_open(&s, dev), TL_OK);
    for (int i = 0; i < N_BUFS; i++) {
        const tl_mem mem = i == 0 ? TL_MEM_DEVICE : TL_MEM_HOST;
        assert_int_equal(tl_buf_alloc(&bufs[i], dev, (uint64_t)M * K * 4, mem), TL_OK);
    }
    const tl_view x = tl_view_of(bufs[0], 0, 1, K, TL_F32),
                  from = tl_view_of(bufs[1], 0, 1, K, TL_F32);
    const tl_view y = tl_view_of(bufs[2], 0, N_PRODUCTS, M, TL_F32);
    const tl_view w = tl_view_of(bufs[3], 0, M, K, TL_Q8_0),
                  w4 = tl_view_of(bufs[4], 0, M, K, TL_Q4_0);
    fill_rows(&w);
    fill_rows(&w4);
    for (uint32_t round = 1; round <= 3; round++) { /* x changes by a copy between the rounds */
        for (uint32_t k = 0; k < K; k++) {
            ((float *)tl_view_host(from))[k] = (float)round;
        }
        assert_int_equal(tl_copy(s, x, from), TL_OK);
        const uint64_t launches = emu_count().n_launches;
        for (uint32_t i = 0; i < N_PRODUCTS; i++) {
            const struct tl_matmul op = {
                .y = tl_view_rows(y, i, 1), .x = x, .w = i + 1 < N_PRODUCTS ? w : w4};
            assert_int_equal(tl_matmul(s, &op), TL_OK);
        }
        assert_int_equal(tl_stream_sync(s), TL_OK);
        assert_int_equal(emu_count().n_launches - launches, 3); /* codes, w and w, w4 */
        for (uint32_t i = 0; i < N_PRODUCTS * M; i++) {
            const double want = (double)round * K * (i % M + 1);
            assert_true(fabs((double)((float *)tl_view_host(y))[i] - want) < 1e-2 * want);
        }
    }
    for (int i = 0; i < N_BUFS; i++) {
        tl_buf_free(&bufs[i]);
    }
    tl_stream_close(&s);
    tl_dev_close(&dev);
    assert_nothing_left();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_card),   cmocka_unit_test(test_busy_card),
        cmocka_unit_test(test_presets),   cmocka_unit_test(test_demo),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_sticky),    cmocka_unit_test(test_pinned_pieces),
        cmocka_unit_test(test_together),  cmocka_unit_test(test_codes_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
