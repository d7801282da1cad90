/* Prompts on a device with memory of its own (lazy.h) beside the CPU, which has none: with room for
 * one stage and for two, of several turns, the same to the last bit. And what they take: what is
 * really allocated stays within the plan, and near it. */
#include "core/engine.h"
#include "lazy.h"
#include "random_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"
enum { N_IDS = 700, N_CTX = 768 };

extern const tl_backend tl_backend_cpu;
const tl_backend *const tl_backends[] = {&tl_backend_cpu, &lazy_backend, NULL};

static const char *const models[] = {GOLDEN "smollm-9-3.gguf", GOLDEN "gemma2-swa.gguf",
                                     GOLDEN "qwen3-hd128.gguf"};
enum { N_MODELS = 3 };

static tl_engine *open_engine(const char *model, const char *backend) {
    const struct tl_engine_params params = {
        .model_path = model, .backend = backend, .n_threads = 1};
    tl_engine *e = NULL;
    assert_int_equal(tl_engine_open(&e, &params), TL_OK);
    return e;
}

static struct tl_session_params session_params(const struct tl_policy *policies) {
    return (struct tl_session_params){.n_ctx = N_CTX, .n_chunk = 50, .policies = policies};
}

static tl_session *open_session(tl_engine *e, const struct tl_session_params *params) {
    tl_session *s = NULL;
    assert_int_equal(tl_session_open(&s, e, params), TL_OK);
    return s;
}

static void draw_ids(uint32_t *ids, uint32_t n_vocab) {
    struct tl_rng rng = {5};
    for (int i = 0; i < N_IDS; i++) {
        ids[i] = (uint32_t)rng_below(&rng, n_vocab);
    }
}

static void feed(tl_session *s, const uint32_t *ids, uint32_t n) {
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = n}), TL_OK);
}

static void draw_policies(struct tl_rng *rng, struct tl_policy *policies) {
    for (int i = 0; i < 64; i++) {
        policies[i] = random_policy(rng);
    }
}

/* The device budget with which there is room for one stage, but not for a second. */
static uint64_t budget_for_one_stage(tl_engine *e, const struct tl_session_params *params) {
    tl_session *s = open_session(e, params);
    const struct tl_memory_plan *const plan = tl_session_plan(s);
    const uint64_t bytes = plan->device - plan->stage / 4;
    tl_session_close(&s);
    return bytes;
}

static uint64_t stage_of(const tl_session *s) { return tl_session_plan(s)->stage; }

/* Goal: turns of any lengths, layers of any policies, one stage or two: as on the CPU. */
static void test_turns_are_the_same(void **state) {
    (void)state;
    static const uint32_t turns[][5] = {{700}, {1, 300, 2, 330, 67}, {260, 260, 100, 30, 50}};
    uint32_t ids[N_IDS], n_single = 0;
    for (int round = 0; round < 24; round++) {
        lazy_configure((uint64_t)round, round % 2 == 0);
        struct tl_rng rng = {(uint64_t)round + 77};
        struct tl_policy policies[64];
        draw_policies(&rng, policies);
        tl_engine *cpu = open_engine(models[round % N_MODELS], "cpu");
        tl_engine *lazy = open_engine(models[round % N_MODELS], "lazy");
        const uint32_t n_vocab = tl_engine_model(cpu)->shape.n_vocab;
        draw_ids(ids, n_vocab);
        struct tl_session_params params = session_params(policies);
        tl_session *a = open_session(cpu, &params);
        if (round % 4 >= 2) {
            params.device_bytes = budget_for_one_stage(lazy, &params);
        }
        tl_session *b = open_session(lazy, &params);
        n_single += round % 4 >= 2 && stage_of(b) > 0;
        const uint32_t *const turn = turns[round % 3];
        for (uint32_t at = 0, t = 0; t < 5 && turn[t] > 0; at += turn[t++]) {
            feed(a, ids + at, turn[t]);
            feed(b, ids + at, turn[t]);
            if (memcmp(tl_session_logits(a), tl_session_logits(b), n_vocab * sizeof(float)) != 0) {
                fail_msg("round %d: another result in turn %u", round, t);
            }
        }
        for (int i = 0; i < 5; i++) { /* the tiers are the same too, by what steps make of them */
            assert_int_equal(tl_session_step(a, ids[i]), TL_OK);
            assert_int_equal(tl_session_step(b, ids[i]), TL_OK);
            assert_memory_equal(tl_session_logits(a), tl_session_logits(b),
                                n_vocab * sizeof(float));
        }
        tl_session_close(&a);
        tl_session_close(&b);
        tl_engine_close(&cpu);
        tl_engine_close(&lazy);
    }
    assert_true(n_single > 5);
}

static bool stop_after_some(void *user, size_t done, size_t total) {
    (void)done;
    (void)total;
    return --*(int *)user > 0;
}

/* Goal: a prompt that is stopped leaves nothing on its way. Method: stop behind the first layer,
 * begin again; the buffers would still be in use. */
static void test_stopped_prompt(void **state) {
    (void)state;
    uint32_t ids[N_IDS];
    lazy_configure(3, true);
    tl_engine *cpu = open_engine(models[1], "cpu"), *lazy = open_engine(models[1], "lazy");
    struct tl_policy policies[64];
    for (uint32_t i = 0; i < 64; i++) { /* windowed layers keep what is needed to go back */
        const bool windowed = tl_engine_model(cpu)->shape.windowed[i];
        policies[i] = tl_preset_find(windowed ? "offload" : "tailor")->policy;
    }
    const struct tl_session_params params = session_params(policies);
    const uint32_t n_vocab = tl_engine_model(cpu)->shape.n_vocab;
    draw_ids(ids, n_vocab);
    tl_session *a = open_session(cpu, &params), *b = open_session(lazy, &params);
    feed(a, ids, 200);
    feed(b, ids, 200);
    int left = 1;
    const struct tl_feed stopped = {
        .ids = ids + 300, .n = 300, .on_progress = stop_after_some, .user = &left};
    assert_int_equal(tl_session_feed(b, &stopped), TL_OK);
    assert_int_equal(tl_session_n(b), 200);
    feed(a, ids + 200, 400);
    feed(b, ids + 200, 400);
    assert_memory_equal(tl_session_logits(a), tl_session_logits(b), n_vocab * sizeof(float));
    tl_session_close(&a);
    tl_session_close(&b);
    tl_engine_close(&cpu);
    tl_engine_close(&lazy);
}

/* What was allocated for anything but weights, at most. */
static void check_peak(const char *what, const tl_engine *e, const tl_session *s, bool far) {
    struct tl_usage now, peak;
    tl_engine_usage(e, &now, &peak);
    const struct tl_memory_plan *const plan = tl_session_plan(s);
    const uint64_t device = peak.device + peak.wrapped, host = peak.host;
    const uint64_t slack = 4096; /* rope tables */
    if (device > plan->device + slack || host > plan->host) {
        fail_msg("%s: %llu bytes on the device, %llu planned; %llu on the host, %llu planned", what,
                 (unsigned long long)device, (unsigned long long)plan->device,
                 (unsigned long long)host, (unsigned long long)plan->host);
    }
    assert_true(plan->device <= device + slack);
    const bool loading_is_more = far && plan->load == plan->host;
    assert_true(loading_is_more || plan->host <= host + slack);
}

/* Goal: the plan's peaks are met, and are no guesses: bytes allocated by kind of memory, all
 * presets, a prompt that fills the context. */
static void test_peaks_are_the_plans(void **state) {
    (void)state;
    uint32_t ids[N_IDS];
    for (int m = 0; m < N_MODELS; m++) {
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            for (int far = 0; far < 2; far++) {
                struct tl_policy policies[64];
                for (uint32_t i = 0; i < 64; i++) {
                    policies[i] = i < p->n_dense ? *p->dense : p->policy;
                }
                tl_engine *e = open_engine(models[m], far ? "lazy" : "cpu");
                draw_ids(ids, tl_engine_model(e)->shape.n_vocab);
                struct tl_session_params params = session_params(policies);
                params.identify_rows = 500;
                tl_session *s = open_session(e, &params);
                feed(s, ids, N_IDS);
                for (int i = 0; i < 60; i++) {
                    assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
                }
                check_peak(p->name, e, s, far != 0);
                tl_session_close(&s);
                struct tl_usage now, peak;
                tl_engine_usage(e, &now, &peak);
                assert_true(now.host <= 4096 * 64); /* vectors that were decoded */
                tl_engine_close(&e);
            }
        }
    }
}

/* Goal: a budget that is met is enough, and one byte less is refused with a sentence that helps. */
static void test_budgets(void **state) {
    (void)state;
    lazy_configure(1, true);
    struct kept_log kept = {0};
    const struct tl_engine_params engine = {
        .model_path = models[1], .backend = "lazy", .n_threads = 1, .log = keep_log(&kept)};
    tl_engine *e = NULL;
    assert_int_equal(tl_engine_open(&e, &engine), TL_OK);
    struct tl_policy policies[64];
    for (int i = 0; i < 64; i++) {
        policies[i] = tl_preset_find("full")->policy;
    }
    struct tl_session_params params = session_params(policies);
    params.n_ctx = 8192;
    tl_session *s = open_session(e, &params);
    const struct tl_memory_plan plan = *tl_session_plan(s);
    tl_session_close(&s);
    params.device_bytes = plan.device;
    params.host_bytes = plan.host;
    s = open_session(e, &params);
    tl_session_close(&s);
    params.device_bytes--;
    params.host_bytes = 0;
    assert_int_equal(tl_session_open(&s, e, &params), TL_ERR_MEMORY);
    assert_non_null(strstr(kept.sentence, "8192 tokens need"));
    assert_non_null(strstr(kept.sentence, "more than there is"));
    unsigned fits = 0;
    const char *const advice = strstr(kept.sentence, "; ");
    assert_non_null(advice);
    assert_int_equal(sscanf(advice, "; %u tokens would fit", &fits), 1);
    assert_true(fits == 8192 - 256);
    assert_non_null(strstr(kept.sentence, "--kv q8, "));
    params.n_ctx = fits; /* what it says is true: the context */
    s = open_session(e, &params);
    tl_session_close(&s);
    params.n_ctx = 8192; /* and the preset */
    for (int i = 0; i < 64; i++) {
        policies[i] = tl_preset_find("q8")->policy;
    }
    s = open_session(e, &params);
    tl_session_close(&s);
    params.device_bytes = 1000;
    assert_int_equal(tl_session_open(&s, e, &params), TL_ERR_MEMORY);
    assert_non_null(strstr(kept.sentence, "no context and no preset would fit"));
    tl_engine_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_are_the_same),
        cmocka_unit_test(test_stopped_prompt),
        cmocka_unit_test(test_peaks_are_the_plans),
        cmocka_unit_test(test_budgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
