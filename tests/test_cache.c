/* Laws of the hybrid cache, on whole sessions and on its bookkeeping. Models are the committed tiny
 * ones; what a preset should give is always said by another way of computing it: the exact cache,
 * another order of the same tokens, or a naive model of the bookkeeping. */
#include "core/engine.h"
#include "random_model.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"
enum { N_IDS = 400, N_CTX = 512 };

static const char *const models[] = {GOLDEN "smollm-9-3.gguf", GOLDEN "gemma2-swa.gguf",
                                     GOLDEN "qwen3-hd128.gguf"};
static const char *const presets[] = {"full",      "q8",        "q4",       "kivi2",   "kivi1",
                                      "offload",   "tailor",    "tailor1",  "tailor2", "quest",
                                      "vecinfer4", "vecinfer2", "vecinfer1"};
enum { N_MODELS = 3, N_PRESETS = sizeof presets / sizeof presets[0] };

struct fixture {
    tl_engine *engine;
    uint32_t n_layers, n_vocab;
    struct tl_policy policies[64];
    uint32_t ids[N_IDS];
};

static void open_fixture(struct fixture *f, const char *model, const char *preset) {
    f->engine = NULL;
    const struct tl_engine_params params = {.model_path = model, .n_threads = 2};
    assert_int_equal(tl_engine_open(&f->engine, &params), TL_OK);
    const struct tl_shape *const shape = &tl_engine_model(f->engine)->shape;
    f->n_layers = shape->n_layers;
    f->n_vocab = shape->n_vocab;
    for (uint32_t il = 0; il < f->n_layers; il++) {
        f->policies[il] = tl_preset_find(preset)->policy;
    }
    struct tl_rng rng = {17};
    for (size_t i = 0; i < N_IDS; i++) {
        f->ids[i] = (uint32_t)rng_below(&rng, f->n_vocab);
    }
}

static void set_knob(struct fixture *f, const char *knob, const char *value) {
    for (uint32_t il = 0; il < f->n_layers; il++) {
        assert_int_equal(tl_policy_set(&f->policies[il], knob, value, NULL), TL_OK);
    }
}

static tl_session *open_session(struct fixture *f, uint32_t n_chunk) {
    tl_session *s = NULL;
    const struct tl_session_params params = {
        .n_ctx = N_CTX, .n_chunk = n_chunk, .policies = f->policies};
    assert_int_equal(tl_session_open(&s, f->engine, &params), TL_OK);
    return s;
}

static void feed(tl_session *s, const uint32_t *ids, uint32_t n) {
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = n}), TL_OK);
}

static void step(tl_session *s, const uint32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
    }
}

static double difference(const struct fixture *f, tl_session *a, tl_session *b) {
    double worst = 0;
    for (uint32_t i = 0; i < f->n_vocab; i++) {
        const double d = fabs((double)tl_session_logits(a)[i] - (double)tl_session_logits(b)[i]);
        worst = d > worst ? d : worst;
    }
    return worst;
}

/* Goal: selecting all rows from a home in host memory is the exact cache, bit for bit. */
static void test_offload_is_full(void **state) {
    (void)state;
    for (int m = 0; m < N_MODELS; m++) {
        struct fixture f;
        open_fixture(&f, models[m], "full");
        tl_session *full = open_session(&f, 64);
        for (uint32_t il = 0; il < f.n_layers; il++) {
            f.policies[il] = tl_preset_find("offload")->policy;
        }
        tl_session *offload = open_session(&f, 64);
        feed(full, f.ids, 200);
        feed(offload, f.ids, 200);
        step(full, f.ids + 200, 100);
        step(offload, f.ids + 200, 100);
        assert_memory_equal(tl_session_logits(full), tl_session_logits(offload),
                            f.n_vocab * sizeof(float));
        const struct tl_traffic t = tl_session_traffic(offload);
        assert_true(t.host_to_device_bytes > 0 && t.device_to_host_bytes > 0);
        assert_int_equal(tl_session_traffic(full).host_to_device_bytes, 0);
        tl_session_close(&full);
        tl_session_close(&offload);
        tl_engine_close(&f.engine);
    }
}

/* Goal: prefill is exact whatever the preset: one feed of any text gives the exact cache's logits.
 */
static void test_prefill_is_exact(void **state) {
    (void)state;
    for (int m = 0; m < N_MODELS; m++) {
        for (int p = 0; p < N_PRESETS; p++) {
            struct fixture f;
            open_fixture(&f, models[m], "full");
            tl_session *full = open_session(&f, 512);
            for (uint32_t il = 0; il < f.n_layers; il++) {
                f.policies[il] = tl_preset_find(presets[p])->policy;
            }
            tl_session *other = open_session(&f, 100);
            feed(full, f.ids, N_IDS);
            feed(other, f.ids, N_IDS);
            const double worst = difference(&f, full, other);
            if (worst > 2e-3) {
                fail_msg("%s, %s: logits differ by %g", models[m], presets[p], worst);
            }
            tl_session_close(&full);
            tl_session_close(&other);
            tl_engine_close(&f.engine);
        }
    }
}

/* Goal: a budget that covers all rows is the exact cache to rounding: by a window as long as the
 * text, and by a top-k of every row. */
static void test_enough_budget_is_full(void **state) {
    (void)state;
    static const struct {
        const char *preset, *knob, *value;
    } cases[] = {{"kivi1", "recent", "400"},      {"tailor", "recent", "400"},
                 {"tailor", "topk", "400"},       {"tailor1", "topk", "400"},
                 {"tailor2", "recent", "400"},    {"quest", "topk", "400"},
                 {"tailor", "index", "channels"}, {"tailor", "index", "pages"},
                 {"quest", "index", "meanstd"},   {"vecinfer1", "recent", "400"},
                 {"tailor", "k_codec", "vq-d8b8"}};
    for (int m = 0; m < N_MODELS; m++) {
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            struct fixture f;
            open_fixture(&f, models[m], "full");
            tl_session *full = open_session(&f, 64);
            for (uint32_t il = 0; il < f.n_layers; il++) {
                f.policies[il] = tl_preset_find(cases[c].preset)->policy;
            }
            if (f.policies[0].select == TL_SELECT_TOPK) {
                set_knob(&f, "hot", "2048");
                set_knob(&f, "topk", "400");
            }
            set_knob(&f, cases[c].knob, cases[c].value);
            tl_session *other = open_session(&f, 64);
            feed(full, f.ids, 300);
            feed(other, f.ids, 300);
            step(full, f.ids + 300, 60);
            step(other, f.ids + 300, 60);
            const double worst = difference(&f, full, other);
            if (worst > 5e-3) {
                fail_msg("%s, %s %s=%s: logits differ by %g", models[m], cases[c].preset,
                         cases[c].knob, cases[c].value, worst);
            }
            tl_session_close(&full);
            tl_session_close(&other);
            tl_engine_close(&f.engine);
        }
    }
}

/* Goal: where rows have an exact home, appending them in any chunking gives the same cache: what
 * the next steps say is the same to rounding. */
static void test_appending_in_any_chunks(void **state) {
    (void)state;
    static const uint32_t cuts[][4] = {{390, 0}, {100, 290, 0}, {1, 200, 189, 0}, {64, 64, 262, 0}};
    for (int m = 0; m < N_MODELS; m++) {
        struct fixture f;
        open_fixture(&f, models[m], "tailor");
        set_knob(&f, "topk", "32");
        tl_session *first = NULL;
        for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
            tl_session *s = open_session(&f, 70);
            for (uint32_t at = 0, i = 0; cuts[c][i] != 0; at += cuts[c][i++]) {
                feed(s, f.ids + at, cuts[c][i]);
            }
            step(s, f.ids + 390, 10);
            if (first == NULL) {
                first = s;
                continue;
            }
            assert_true(difference(&f, first, s) < 5e-3);
            tl_session_close(&s);
        }
        tl_session_close(&first);
        tl_engine_close(&f.engine);
    }
}

/* Goal: rewinding and saying the same again gives the same. Where the cache cannot go back it says
 * so, by forgetting all. */
static void test_rewind(void **state) {
    (void)state;
    for (int p = 0; p < N_PRESETS; p++) {
        struct fixture f;
        open_fixture(&f, models[0], presets[p]);
        tl_session *s = open_session(&f, 64);
        feed(s, f.ids, 250);
        step(s, f.ids + 250, 30);
        float *const before = malloc(f.n_vocab * sizeof *before);
        assert_non_null(before);
        memcpy(before, tl_session_logits(s), f.n_vocab * sizeof *before);
        step(s, f.ids + 280, 100);
        const bool has_home = f.policies[0].home != TL_HOME_NONE;
        const uint32_t kept = tl_session_rewind(s, 250);
        assert_int_equal(kept, has_home ? 250 : 0);
        assert_int_equal(tl_session_n(s), kept);
        assert_null(tl_session_logits(s));
        feed(s, f.ids + kept, 250 - kept > 0 ? 250 - kept : 1);
        step(s, f.ids + tl_session_n(s), 280 - tl_session_n(s));
        /* With a home nothing but the sum's order differs; without one, as from the beginning. */
        double worst = 0;
        for (uint32_t i = 0; i < f.n_vocab; i++) {
            worst = fmax(worst, fabs((double)before[i] - (double)tl_session_logits(s)[i]));
        }
        if (worst > 5e-3) {
            fail_msg("%s: logits differ by %g after a rewind", presets[p], worst);
        }
        free(before);
        tl_session_close(&s);
        tl_engine_close(&f.engine);
    }
}

/* Goal: the recorded step never reads device bytes that nothing has written. Method: walk the ops,
 * mark written ranges; weights and what kv and host wrote before the step count as written. */
static bool is_written(const struct tl_op *ops, uint32_t n, const tl_view *v) {
    for (uint32_t i = n; i-- > 0;) {
        struct tl_op_views views;
        tl_op_get_views(&ops[i], &views);
        for (uint32_t w = 0; w < views.n_writes; w++) {
            const tl_view *const o = views.writes[w];
            if (o->buf == v->buf && o->off_bytes <= v->off_bytes &&
                v->off_bytes + tl_view_bytes(*v) <= o->off_bytes + tl_view_bytes(*o)) {
                return true;
            }
        }
    }
    return false;
}

static void test_schedule_reads_what_is_written(void **state) {
    (void)state;
    struct tl_rng rng = {23};
    struct fixture f;
    open_fixture(&f, models[0], "full");
    for (int round = 0; round < 40; round++) {
        for (uint32_t il = 0; il < f.n_layers; il++) {
            f.policies[il] = random_policy(&rng);
        }
        tl_session *s = open_session(&f, 64);
        const tl_schedule *const schedule = tl_session_schedule(s);
        const struct tl_op *const ops = schedule->ops;
        for (uint32_t i = 0; i < schedule->n; i++) {
            struct tl_op_views views;
            tl_op_get_views(&ops[i], &views);
            for (uint32_t r = 0; r < views.n_reads; r++) {
                const tl_view *const v = views.reads[r];
                /* Activations are written in the step itself; they are those that any op of the
                 * step writes and that are not cache or host memory. */
                const bool activation = v->dtype == TL_F32 && v->buf->mem == TL_MEM_DEVICE &&
                                        is_written(ops, schedule->n, v);
                if (activation && !is_written(ops, i, v)) {
                    fail_msg("op %u, %s, reads what only a later op writes", i,
                             tl_verb_name(ops[i].verb));
                }
            }
        }
        feed(s, f.ids, 1 + (uint32_t)rng_below(&rng, 350));
        step(s, f.ids, 3);
        for (uint32_t i = 0; i < f.n_vocab; i++) {
            assert_true(isfinite(tl_session_logits(s)[i]));
        }
        tl_session_close(&s);
    }
    tl_engine_close(&f.engine);
}

/* Goal: the window and the blocks hold each row once, whatever was appended and forgotten. Method:
 * thousands of random feeds, steps and rewinds; a naive count says what should be where. */
static void test_bookkeeping(void **state) {
    (void)state;
    struct tl_rng rng = {29};
    struct fixture f;
    open_fixture(&f, models[0], "tailor");
    set_knob(&f, "sink", "10");
    set_knob(&f, "recent", "30");
    set_knob(&f, "topk", "8");
    set_knob(&f, "hot", "16");
    tl_session *s = open_session(&f, 64);
    uint32_t n = 0;
    for (int i = 0; i < 1500; i++) {
        const uint64_t what = rng_below(&rng, 10);
        if (what == 0) {
            n = tl_session_rewind(s, (uint32_t)rng_below(&rng, n + 1));
        } else if (what == 1 && n + 20 < N_CTX) {
            const uint32_t more = 1 + (uint32_t)rng_below(&rng, 20);
            feed(s, f.ids, more);
            n += more;
        } else if (n + 1 < N_CTX) {
            step(s, f.ids + n % N_IDS, 1);
            n++;
        } else {
            n = tl_session_rewind(s, 100);
        }
        assert_int_equal(tl_session_n(s), n);
        const uint32_t blocks = n < 10 + 30 + 64 ? 0 : (n - 40) / 64;
        assert_int_equal(tl_kv_n_blocks(&f.policies[0], n), blocks);
    }
    /* After all that, the cache is as one that saw the same tokens in one piece. */
    uint32_t ids[N_CTX];
    memcpy(ids, tl_session_ids(s), n * sizeof *ids);
    tl_session *fresh = open_session(&f, 64);
    feed(fresh, ids, n - 1);
    step(fresh, ids + n - 1, 1);
    n = tl_session_rewind(s, n - 1);
    step(s, ids + n, 1);
    for (uint32_t i = 0; i < f.n_vocab; i++) {
        assert_true(isfinite(tl_session_logits(s)[i]));
    }
    tl_session_close(&fresh);
    tl_session_close(&s);
    tl_engine_close(&f.engine);
}

/* Goal: what the plan promised is what was allocated, and `tailor` needs at most a sixth of the
 * exact cache on the device for a long context. */
static void test_plan(void **state) {
    (void)state;
    struct fixture f;
    open_fixture(&f, models[2], "tailor");
    struct tl_shape shape = tl_engine_model(f.engine)->shape;
    struct tl_policy exact[64];
    for (uint32_t il = 0; il < f.n_layers; il++) {
        exact[il] = tl_preset_find("full")->policy;
    }
    struct tl_plan_params params = {.n_ctx = 65536, .n_chunk = 512, .policies = exact};
    struct tl_memory_plan full, tailor;
    tl_plan_memory(&shape, &params, &full);
    params.policies = f.policies;
    tl_plan_memory(&shape, &params, &tailor);
    const uint64_t resident = tailor.kv.window + tailor.kv.sketch + tailor.kv.hot;
    assert_int_equal(full.kv.home_device,
                     65536ull * 2 * 2 * shape.head_dim * shape.n_kv_heads * shape.n_layers);
    assert_int_equal(tailor.kv.home_host, full.kv.home_device);
    assert_true(resident * 6 <= full.kv.home_device);
    const struct tl_budget budget = {.device = full.device / 2};
    params.policies = exact;
    const uint32_t fits = tl_plan_ctx(&shape, &params, &budget);
    assert_true(fits > 0 && fits < 65536 && fits % 256 == 0);
    params.n_ctx = fits;
    tl_plan_memory(&shape, &params, &full);
    assert_true(full.device <= budget.device);
    params.n_ctx = fits + 256;
    tl_plan_memory(&shape, &params, &full);
    assert_true(full.device > budget.device);
    tl_engine_close(&f.engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offload_is_full),
        cmocka_unit_test(test_prefill_is_exact),
        cmocka_unit_test(test_enough_budget_is_full),
        cmocka_unit_test(test_appending_in_any_chunks),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_schedule_reads_what_is_written),
        cmocka_unit_test(test_bookkeeping),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
