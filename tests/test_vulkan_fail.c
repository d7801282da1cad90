/* Failures of a Vulkan device in whole sessions: whatever call fails, and whether the device is
 * lost or its memory is gone from then on, what is asked for next says so once, nothing crashes,
 * nothing leaks (neither memory nor, for the validation layer, Vulkan's objects), and the session
 * file is the one that was saved last. Besides: devices and drivers that cannot run us. Skipped
 * where no Vulkan device is. */
#include "core/backend.h"
#include "heap.h"
#include "session_kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL TL_SOURCE_DIR "/tests/golden/smollm-9-3.gguf"

enum { N_FED = 150, N_STEPS = 3, N_CTX = 256 };

/* What a trial leaves: how far it came, and how it ended. */
struct trial {
    struct kept_log kept;
    tl_err err;
    uint32_t n_saved; /* tokens in the file; 0: none was written */
    struct heap_report heap;
};

static tl_err save(tl_session *s, struct trial *t) {
    TL_TRY(kept_try_save(s, kept_path("state"), ""));
    t->n_saved = tl_session_n(s);
    return TL_OK;
}

static tl_err steps(tl_session *s) {
    for (uint32_t i = 0; i < N_STEPS; i++) {
        TL_TRY(tl_session_step(s, 7 + i));
    }
    return TL_OK;
}

static tl_err live(tl_engine *e, tl_session **s, const struct tl_session_params *params,
                   const uint32_t *ids, struct trial *t) {
    TL_TRY(tl_session_open(s, e, params));
    TL_TRY(tl_session_feed(*s, &(struct tl_feed){.ids = ids, .n = N_FED}));
    TL_TRY(steps(*s));
    TL_TRY(save(*s, t));
    TL_TRY(steps(*s));
    return save(*s, t);
}

static void run_trial(const char *debug, const uint32_t *ids, struct trial *t) {
    struct tl_policy policies[64];
    kept_small_tailor(policies, 64);
    const struct tl_session_params session = {.n_ctx = N_CTX, .n_chunk = 64, .policies = policies};
    *t = (struct trial){0};
    const struct tl_engine_params params = {
        .model_path = MODEL, .backend = "vulkan", .debug = debug, .log = keep_log(&t->kept)};
    tl_engine *e = NULL;
    tl_session *s = NULL;
    (void)remove(kept_path("state"));
    heap_watch(0);
    t->err = tl_engine_open(&e, &params);
    if (t->err == TL_OK) {
        t->err = live(e, &s, &session, ids, t);
    }
    tl_session_close(&s);
    tl_engine_close(&e);
    t->heap = heap_unwatch();
}

/* The file holds what was saved last, and a sound backend goes on from it. */
static void expect_file(const struct trial *t, tl_engine *cpu) {
    if (t->n_saved == 0) {
        return;
    }
    tl_session *s = kept_resume(cpu, kept_path("state"), N_CTX);
    assert_int_equal(tl_session_n(s), t->n_saved);
    assert_int_equal(tl_session_step(s, 9), TL_OK);
    tl_session_close(&s);
}

/* Fails what `how` says at the n-th call, and looks at what is left. */
static bool survives(struct kept *cpu, const char *words, const char *how, uint32_t n,
                     uint32_t *n_with_file) {
    char debug[128];
    struct trial t;
    snprintf(debug, sizeof debug, "%s,%s=%u", words, how, n);
    run_trial(debug, cpu->ids, &t);
    if (t.heap.n_live != 0 || strstr(t.kept.sentence, "validation") != NULL ||
        (t.err != TL_OK && t.kept.n_errors != 1)) {
        fail_msg("%s: error %d, %u sentences, %lld blocks left, the last: %s", debug, (int)t.err,
                 t.kept.n_errors, (long long)t.heap.n_live, t.kept.sentence);
    }
    assert_true(t.err == TL_OK || t.err == TL_ERR_MEMORY || t.err == TL_ERR_DEVICE);
    expect_file(&t, cpu->engine);
    *n_with_file += t.err != TL_OK && t.n_saved > 0;
    return t.err == TL_OK;
}

enum { N_CALLS_MAX = 4096 }; /* a trial makes fewer, as is checked */

/* The last call of all: what is lost behind it is not missed. */
static uint32_t last_call(struct kept *cpu, const char *words, uint32_t *n_with_file) {
    uint32_t fails = 1, right = N_CALLS_MAX;
    assert_false(survives(cpu, words, "lost", fails, n_with_file));
    assert_true(survives(cpu, words, "lost", right, n_with_file));
    while (right - fails > 1) {
        const uint32_t middle = (fails + right) / 2;
        *(survives(cpu, words, "lost", middle, n_with_file) ? &right : &fails) = middle;
    }
    return fails;
}

/* The first calls one by one, some between, and some of the last, when there is a file. */
static void fail_some(struct kept *cpu, const char *words, const char *how, uint32_t n_calls) {
    enum { FIRST = 6, BETWEEN = 6, LATE = 3 };
    struct tl_rng rng = {11};
    uint32_t n_failed = 0, n_with_file = 0;
    for (uint32_t i = 0; i < FIRST + BETWEEN + LATE; i++) {
        const uint32_t n = i < FIRST             ? i + 1
                           : i < FIRST + BETWEEN ? 1 + (uint32_t)rng_below(&rng, n_calls)
                                                 : n_calls - (uint32_t)rng_below(&rng, 24);
        n_failed += !survives(cpu, words, how, n, &n_with_file);
    }
    print_message("%s,%s: %u of %d ended early, %u of these with a file\n", words, how, n_failed,
                  FIRST + BETWEEN + LATE, n_with_file);
    assert_true(n_failed >= LATE);
}

static void fail_in(const char *words, bool oom) {
    struct kept cpu;
    uint32_t n_with_file = 0;
    kept_open(&cpu, MODEL, "tailor");
    const uint32_t n_calls = last_call(&cpu, words, &n_with_file);
    print_message("%s: %u calls\n", words, n_calls);
    assert_true(n_calls > 300 && n_with_file > 0);
    fail_some(&cpu, words, "fail", n_calls);
    if (oom) {
        fail_some(&cpu, words, "oom", n_calls);
    }
    tl_engine_close(&cpu.engine);
}

static void test_here(void **state) {
    (void)state;
    fail_in("validate", false);
}

static void test_elsewhere(void **state) {
    (void)state;
    fail_in("stage,pools,two-queues", true);
}

/* ---- what cannot run us ---- */

static void expect_refusal(const char *debug, tl_err err, const char *part) {
    uint32_t ids[N_FED] = {0};
    struct trial t;
    run_trial(debug, ids, &t);
    if (t.err != err || t.kept.n_errors != 1 || strstr(t.kept.sentence, part) == NULL ||
        t.heap.n_live != 0) {
        fail_msg("%s: error %d, %u sentences, %lld blocks left, the last: %s", debug, (int)t.err,
                 t.kept.n_errors, (long long)t.heap.n_live, t.kept.sentence);
    }
}

static void test_unable(void **state) {
    (void)state;
    expect_refusal("validate,dumb", TL_ERR_DEVICE, "does not compile");
    expect_refusal("validate,old", TL_ERR_UNSUPPORTED, "lacks Vulkan 1.2");
    expect_refusal("validate,heap=100000", TL_ERR_MEMORY, "more than there is");
    expect_refusal("validate,alloc=1000", TL_ERR_MEMORY, "gives at most");
    expect_refusal("validate,binding=100", TL_ERR_UNSUPPORTED, "driver binds");
}

static int run(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unable),
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
    const tl_backend *const backend = tl_backend_find("vulkan");
    if (backend == NULL || backend->dev_count() == 0) {
        print_message("skipped: no Vulkan device here\n");
        return 77;
    }
    return kept_main(run);
}
