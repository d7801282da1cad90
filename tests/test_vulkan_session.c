/* Session files across backends: what the CPU saved goes on on the Vulkan device, and the other way
 * round, with rows in every tier. The file holds tiers, not buffers, so only the arithmetic may
 * differ: the steps after a change of backend meet those of the session that stayed, within the
 * tolerance of whole steps in test_vulkan.c. Skipped where no Vulkan device is. */
#include "core/backend.h"
#include "session_kept.h"

#include <math.h>
#include <stdio.h>

#define MODEL TL_SOURCE_DIR "/tests/golden/smollm-9-3.gguf"

enum { N_FED = 260, N_STEPS = 12, N_MORE = 20 };

/* Root mean square of the difference over the deviation of a. */
static double difference(const float *a, const float *b, uint32_t n) {
    double mean = 0.0, variance = 0.0, squares = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        mean += (double)a[i] / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        const double off = (double)a[i] - (double)b[i];
        variance += ((double)a[i] - mean) * ((double)a[i] - mean);
        squares += off * off;
    }
    return sqrt(squares / fmax(variance, 1e-30));
}

/* A cache that is smaller than the context in every knob, so that each tier has rows. */
static void narrow(struct kept *f) {
    for (uint32_t il = 0; il < f->n_layers; il++) {
        struct tl_policy *const p = &f->policies[il];
        if (p->select == TL_SELECT_TOPK) {
            p->topk = 48;
            p->hot = p->hot > 0 ? 128 : 0;
        }
        if (p->select != TL_SELECT_ALL) {
            p->sink = 4;
            p->recent = 40;
        }
    }
    f->dense = NULL;
}

/* kept_open_on with the CPU's plain loops: its best kernels round activations to 8 bits. */
static void open_plain(struct kept *f, const char *backend, const char *preset) {
    kept_open_on(f, backend, MODEL, preset);
    tl_engine_close(&f->engine);
    const struct tl_engine_params params = {
        .model_path = MODEL, .backend = backend, .isa_max = "plain", .n_threads = 2};
    assert_int_equal(tl_engine_open(&f->engine, &params), TL_OK);
    narrow(f);
}

static double moved(const char *from, const char *to, const char *preset) {
    struct kept home, other;
    open_plain(&home, from, preset);
    open_plain(&other, to, preset);
    tl_session *stays = kept_session(&home, KEPT_CTX);
    kept_feed(stays, home.ids, N_FED);
    kept_step(stays, home.ids + N_FED, N_STEPS);
    kept_save(stays, kept_path("moved"), "notes");
    tl_session *goes = kept_resume(other.engine, kept_path("moved"), KEPT_CTX - 64);
    assert_int_equal(tl_session_n(goes), N_FED + N_STEPS);
    assert_memory_equal(tl_session_logits(stays), tl_session_logits(goes),
                        home.n_vocab * sizeof(float)); /* kept, not computed */
    double worst = 0.0;
    for (uint32_t i = N_FED + N_STEPS; i < N_FED + N_STEPS + N_MORE; i++) {
        kept_step(stays, home.ids + i, 1);
        kept_step(goes, home.ids + i, 1);
        const double off =
            difference(tl_session_logits(stays), tl_session_logits(goes), home.n_vocab);
        worst = off <= worst ? worst : off; /* a NaN stays */
    }
    tl_session_close(&goes);
    tl_session_close(&stays);
    tl_engine_close(&other.engine);
    tl_engine_close(&home.engine);
    return worst;
}

/* Goal: a conversation moves to another machine's backend and back. */
static void test_moved(void **state) {
    (void)state;
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        /* A row more or less is chosen where two scores are within rounding. */
        const double limit = p->policy.select == TL_SELECT_TOPK ? 0.03 : 1e-4;
        const double there = moved("cpu", "vulkan", p->name);
        const double back = moved("vulkan", "cpu", p->name);
        print_message("%s: cpu to vulkan %.1e, vulkan to cpu %.1e\n", p->name, there, back);
        assert_true(there <= limit && back <= limit);
    }
}

static int run(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_moved)};
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
