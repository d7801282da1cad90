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

/* Root mean square of the difference as a part of the logits' own. */
static double difference(const float *a, const float *b, uint32_t n) {
    double diffs = 0.0, squares = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        diffs += d * d;
        squares += (double)a[i] * (double)a[i];
    }
    return sqrt(diffs / fmax(squares, 1e-30));
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
        const double diff = difference(want, got, n_vocab);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_card),   cmocka_unit_test(test_busy_card),
        cmocka_unit_test(test_presets),   cmocka_unit_test(test_demo),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_sticky),    cmocka_unit_test(test_pinned_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
