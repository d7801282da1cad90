/* Plans on paper: cards and shapes by name, numbers in text, and forecasts beside what is known
 * from elsewhere: publishers' parameter counts, TailorKV's traffic, and the steps that sessions
 * record. */
#include "core/engine.h"
#include "core/forecast.h"
#include "core/named_shapes.h"
#include "core/paper.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

static void test_cards_by_name(void **state) {
    (void)state;
    static const char *const names[][2] = {{"3090", "rtx-3090"},
                                           {"RTX 3090", "rtx-3090"},
                                           {"rtx3060", "rtx-3060"},
                                           {"RTX 3060 12GB", "rtx-3060"},
                                           {"RTX-4090", "rtx-4090"},
                                           {"5090", "rtx-5090"},
                                           {"h200", "h200"},
                                           {"B580", "arc-b580"},
                                           {"Arc A770", "arc-a770"},
                                           {"RX 7900 XTX", "rx-7900-xtx"},
                                           {"7900xtx", "rx-7900-xtx"},
                                           {"GeForce RTX 5090", "rtx-5090"},
                                           {"nvidia a100 80gb", "a100"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct tl_card *const card = tl_card_find(names[i][0]);
        if (card == NULL || strcmp(card->name, names[i][1]) != 0) {
            fail_msg("'%s' is %s", names[i][0], card != NULL ? card->name : "not found");
        }
    }
    static const char *const strangers[] = {"", "90", "gtx", "rtx", "voodoo", "rtx-9999", "xtx"};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        assert_null(tl_card_find(strangers[i]));
    }
    for (const struct tl_card *c = tl_cards; c->name != NULL; c++) {
        assert_ptr_equal(tl_card_find(c->name), c);
        const bool here = strcmp(c->name, "cpu") == 0; /* measured where it is asked for */
        assert_true(here || (c->bytes_per_s > 1e11 && c->bytes > (uint64_t)8e9));
        for (int i = 0; i < TL_COST_CLASS_COUNT; i++) {
            assert_true(c->reached[i] > 0 && c->reached[i] <= 1);
        }
    }
}

static void assert_near(double got, double want, double part) {
    if (!(fabs(got - want) <= part * fabs(want))) {
        fail_msg("%.9g, not %.9g", got, want);
    }
}

static void test_cards_by_numbers(void **state) {
    (void)state;
    struct tl_card c;
    assert_int_equal(tl_card_parse("bw=936,pcie=25,mem=24", &c, NULL), TL_OK);
    assert_near(c.bytes_per_s, 936e9, 1e-9);
    assert_near(c.link_bytes_per_s, 25e9, 1e-9);
    assert_int_equal(c.bytes, 24ull << 30);
    assert_true(c.f16_flops == 0);
    assert_int_equal(
        tl_card_parse("mem=24GB,bw=1.5GiB,f16=71,int8=284,launch=3,latency=2us", &c, NULL), TL_OK);
    assert_int_equal(c.bytes, 24000000000ull);
    assert_near(c.bytes_per_s, 1.5 * 0x1p30, 1e-9);
    assert_near(c.f16_flops, 71e12, 1e-9);
    assert_near(c.i8_ops, 284e12, 1e-9);
    assert_near(c.launch_s, 3e-6, 1e-9);
    assert_near(c.link_latency_s, 2e-6, 1e-9);
    assert_int_equal(tl_card_parse("unified,bw=60", &c, NULL), TL_OK);
    assert_true(c.link_bytes_per_s == 0);
    assert_int_equal(c.bytes, 0);
    static const char *const wrong[] = {"",
                                        "pcie=25",
                                        "bw=",
                                        "bw=x",
                                        "bw=-1",
                                        "bw=0",
                                        "bw=1e999",
                                        "bw=nan",
                                        "bw=inf",
                                        "bw=936,mem=0",
                                        "bw=936,mem",
                                        "bw=936,vram=3",
                                        "bw=936MB",
                                        "bw=9,mem=1K",
                                        "bw=9,f16=1T",
                                        "bw=9,pcie=0x1",
                                        "bw=9 ",
                                        "bw= 9",
                                        "bw=9,launch=2000000"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct kept_log kept = {0};
        const tl_log log = keep_log(&kept);
        if (tl_card_parse(wrong[i], &c, &log) != TL_ERR_FORMAT || kept.n_errors != 1) {
            fail_msg("'%s' was taken", wrong[i]);
        }
    }
}

/* Goal: the shapes are those of the models. Method: count the weights of a blank model of floats;
 * what publishers say they have, to the digits they give. */
static void test_named_shapes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double billions;
    } known[] = {{"llama-3.1-8b", 8.03}, {"Llama 3.2 1B", 1.24}, {"llama-3.2-3b", 3.21},
                 {"llama-2-7b", 6.74},   {"mistral-7b", 7.25},   {"mistral-nemo", 12.2},
                 {"yi-6b-200k", 6.06},   {"yi-9b-200k", 8.83},   {"qwen2.5-0.5b", 0.49},
                 {"qwen2.5-1.5b", 1.54}, {"qwen2.5-7b", 7.62},   {"qwen2.5-14b", 14.8},
                 {"qwen3-4b", 4.02},     {"qwen3-8b", 8.19},     {"qwen3-14b", 14.8},
                 {"gemma-2-9b", 9.24},   {"gemma-3-4b", 3.88},   {"gemma-3-12b", 11.77},
                 {"phi-3-mini", 3.82}};
    tl_dev *dev = NULL;
    assert_int_equal(tl_dev_open(&dev, &tl_backend_paper, &(struct tl_dev_params){0}), TL_OK);
    size_t n = 0;
    for (const struct tl_named_shape *s = tl_named_shapes; s->name != NULL; s++) {
        n++;
    }
    assert_int_equal(n, sizeof known / sizeof known[0]);
    for (size_t i = 0; i < n; i++) {
        const struct tl_named_shape *const named = tl_named_shape_find(known[i].name);
        assert_non_null(named);
        struct tl_shape shape;
        tl_named_shape_get(named, &shape);
        struct tl_blank blank = tl_named_shape_blank(named, TL_F32);
        tl_model *m = NULL;
        assert_int_equal(tl_model_open_blank(&m, &shape, &blank, dev), TL_OK);
        assert_near((double)m->weight_bytes / 4e9, known[i].billions, 0.012);
        tl_model_close(&m);
        blank = tl_named_shape_blank(named, TL_Q4_K);
        assert_int_equal(blank.outside, TL_Q6_K);
        assert_int_equal(tl_model_open_blank(&m, &shape, &blank, dev), TL_OK);
        const double bits = (double)m->weight_bytes * 8 / (known[i].billions * 1e9);
        assert_true(bits > 4.4 && bits < (shape.n_embd % 256 == 0 ? 6.7 : 8.6));
        tl_model_close(&m);
    }
    assert_null(tl_named_shape_find("llama"));
    assert_null(tl_named_shape_find(""));
    tl_dev_close(&dev);
}

struct forecast {
    struct tl_shape shape;
    struct tl_policy policies[64];
    tl_forecast *f;
};

static void open_forecast(struct forecast *out, const char *model, const struct tl_policy *policy,
                          const char *card) {
    const struct tl_named_shape *const named = tl_named_shape_find(model);
    tl_named_shape_get(named, &out->shape);
    for (int i = 0; i < 64; i++) {
        out->policies[i] = *policy;
    }
    const struct tl_forecast_params params = {.shape = &out->shape,
                                              .blank = tl_named_shape_blank(named, TL_Q4_K),
                                              .policies = out->policies,
                                              .card = tl_card_find(card),
                                              .miss = 0.25};
    assert_int_equal(tl_forecast_open(&out->f, &params), TL_OK);
}

/* TailorKV's prefetch: 8 channels of all keys of 31 layers of Llama-3.1-8B at 128k are 520 MB a
 * token, 21 ms over PCIe 4.0 x16; the same bytes as 1-bit codes of all channels take 0.6 ms of a
 * 3090's memory. */
static void test_reference_numbers(void **state) {
    (void)state;
    struct forecast fc;
    struct tl_policy policy = tl_preset_find("tailor1")->policy;
    policy.channels = 8;
    policy.predict = TL_PREDICT_TRUST;
    open_forecast(&fc, "llama-3.1-8b", &policy, "3090");
    struct tl_timeline line;
    tl_forecast_step(fc.f, 131072, &line);
    const tl_schedule *const s = tl_forecast_schedule(fc.f);
    uint64_t bytes = 0;
    double us = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct tl_op_time *const t = &tl_forecast_times(fc.f)[i];
        if (s->ops[i].verb == TL_VERB_CHANNEL_FETCH && s->ops[i].layer > 0) {
            assert_int_equal(s->ops[i].lane, TL_LANE_TRANSFER);
            bytes += t->cost.link_bytes;
            us += t->end_us - t->start_us;
        }
    }
    assert_near((double)bytes, 520e6, 0.01);
    assert_near(us, 21e3, 0.03);
    assert_true(line.step_us > us);
    tl_forecast_close(&fc.f);
    policy = tl_preset_find("tailor")->policy;
    policy.k_codec = TL_CODEC_INT1;
    open_forecast(&fc, "llama-3.1-8b", &policy, "3090");
    tl_forecast_step(fc.f, 131072, &line);
    bytes = 0;
    for (uint32_t i = 0; i < tl_forecast_schedule(fc.f)->n; i++) {
        const struct tl_op *const op = &tl_forecast_schedule(fc.f)->ops[i];
        if (op->verb == TL_VERB_KEY_SCORE) { /* codes, scales and minima; scores are not codes */
            bytes += 131072 / 64 * 8 * 128 * (64 / 8);
            assert_true(tl_forecast_times(fc.f)[i].cost.device_bytes >
                        131072 / 64 * 8 * 128 * (64 / 8));
            assert_true(tl_forecast_times(fc.f)[i].cost.link_bytes < 64);
        }
    }
    assert_near((double)bytes / 936e9 * 1e6, 600, 0.06);
    tl_forecast_close(&fc.f);
}

/* Goal: presets order as they must at length on a card behind a link: streaming all rows is worst,
 * and bytes of weights are the floor of all. */
static void test_presets_in_order(void **state) {
    (void)state;
    static const char *const names[] = {"tailor", "full", "offload"};
    double us[3];
    for (int i = 0; i < 3; i++) {
        struct forecast fc;
        struct tl_timeline line;
        open_forecast(&fc, "llama-3.1-8b", &tl_preset_find(names[i])->policy, "4090");
        tl_forecast_step(fc.f, 131071, &line);
        us[i] = line.step_us;
        assert_true(us[i] > (double)tl_forecast_weight_bytes(fc.f) * 0.9 / 1008e9 * 1e6);
        tl_forecast_close(&fc.f);
    }
    assert_true(us[0] < us[1] && 10 * us[1] < us[2]);
    /* All 131072 rows of K and V: 17.2 GB over a link of 25.2 GB/s. */
    assert_near(us[2], 131072.0 * 2 * 128 * 2 * 8 * 32 / 25.2e9 * 1e6, 0.03);
}

/* A prompt: 2 operations a weight and token, 4 a pair and channel, at half the card's rate. */
static void test_prompts(void **state) {
    (void)state;
    struct forecast fc;
    open_forecast(&fc, "llama-3.1-8b", &tl_preset_find("full")->policy, "3090");
    struct tl_prompt_forecast p;
    tl_forecast_prompt(fc.f, 16384, 512, &p);
    const double layers = 8.03e9 - 2 * 128256.0 * 4096; /* without embedding and output */
    assert_near(p.matmul_s, 2 * layers * 16384 / 35.5e12, 0.01);
    assert_near(p.attention_s, 4.0 * 4096 * 32 * 16384 * 16384 / 2 / 35.5e12, 0.01);
    assert_true(p.link_s == 0);
    assert_true(p.total_s > p.matmul_s + p.attention_s - 1e-9);
    tl_forecast_close(&fc.f);
    open_forecast(&fc, "gemma-2-9b", &tl_preset_find("full")->policy, "3090");
    struct tl_prompt_forecast windowed;
    tl_forecast_prompt(fc.f, 16384, 512, &windowed);
    const double n = 16384, w = 4096;
    assert_near(windowed.attention_s,
                4.0 * 16 * 256 * 21 * (n * (n + 1) / 2 + w * (w + 1) / 2 + (n - w) * w) / 35.5e12,
                0.001);
    tl_forecast_close(&fc.f);
}

static void compare_forecasts(const struct tl_card *card) {
    static const char *const models[] = {GOLDEN "smollm-9-3.gguf", GOLDEN "gemma2-swa.gguf",
                                         GOLDEN "qwen3-hd128.gguf"};
    for (int m = 0; m < 3; m++) {
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            tl_engine *e = NULL;
            const struct tl_engine_params engine = {
                .model_path = models[m], .backend = "cpu", .n_threads = 1};
            assert_int_equal(tl_engine_open(&e, &engine), TL_OK);
            const struct tl_shape *const shape = &tl_engine_model(e)->shape;
            struct tl_policy policies[64];
            for (uint32_t i = 0; i < 64; i++) {
                policies[i] = i < p->n_dense ? *p->dense : p->policy;
            }
            tl_session *s = NULL;
            const struct tl_session_params params = {.n_ctx = 600, .policies = policies};
            assert_int_equal(tl_session_open(&s, e, &params), TL_OK);
            uint32_t ids[400] = {1, 2, 3};
            assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = 400}), TL_OK);
            assert_int_equal(tl_session_step(s, 1), TL_OK); /* the step behind 400 rows */
            tl_forecast *f = NULL;
            const struct tl_forecast_params forecast = {.shape = shape,
                                                        .weights = tl_engine_weights(e),
                                                        .policies = policies,
                                                        .card = card,
                                                        .miss = 0.5};
            assert_int_equal(tl_forecast_open(&f, &forecast), TL_OK);
            assert_int_equal(tl_forecast_weight_bytes(f), tl_engine_model(e)->weight_bytes);
            struct tl_timeline paper, real;
            tl_forecast_step(f, 400, &paper);
            const tl_schedule *const a = tl_forecast_schedule(f), *const b = tl_session_schedule(s);
            struct tl_op_time *const times = calloc(b->n, sizeof *times);
            assert_non_null(times);
            const struct tl_timeline_params on = {.card = card, .miss = 0.5};
            tl_timeline_make(b, &on, NULL, times, &real);
            uint32_t n_copies = 0; /* that a device with memory of its own needs besides */
            for (uint32_t at = 0; at < a->n; at++) {
                if (a->ops[at].verb == TL_VERB_COPY) {
                    n_copies++;
                    continue;
                }
                const uint32_t i = at - n_copies;
                assert_true(i < b->n);
                assert_int_equal(a->ops[at].verb, b->ops[i].verb);
                assert_int_equal(a->ops[at].layer, b->ops[i].layer);
                assert_int_equal(a->ops[at].lane, b->ops[i].lane);
                assert_true(card->link_bytes_per_s > 0 || a->ops[at].wait == b->ops[i].wait);
                const struct tl_op_cost *const x = &tl_forecast_times(f)[at].cost;
                /* Weights that the CPU reads in the mapped file count as the host's there. */
                if (x->device_bytes + x->link_bytes !=
                    times[i].cost.device_bytes + times[i].cost.link_bytes) {
                    fail_msg("%s, %s: op %u, %s, costs %llu bytes on paper, %llu here", models[m],
                             p->name, i, tl_verb_name(a->ops[i].verb),
                             (unsigned long long)(x->device_bytes + x->link_bytes),
                             (unsigned long long)(times[i].cost.device_bytes +
                                                  times[i].cost.link_bytes));
                }
            }
            assert_int_equal(a->n, b->n + n_copies);
            assert_true(card->link_bytes_per_s > 0 ? n_copies == 1 || n_copies == 3
                                                   : n_copies == 0);
            free(times);
            tl_forecast_close(&f);
            tl_session_close(&s);
            tl_engine_close(&e);
        }
    }
}

/* Goal: the forecast is of the very step that a session records, at the depth where it is; on a
 * card with memory of its own with the copies of what a step reads and counts. */
static void test_forecast_is_the_session(void **state) {
    (void)state;
    struct tl_card unified;
    assert_int_equal(tl_card_parse("unified,bw=60", &unified, NULL), TL_OK);
    compare_forecasts(&unified);
    compare_forecasts(tl_card_find("3090"));
}

/* Goal: the whole of a plan is what its tiers add up to, and every shape, preset and context has
 * one. */
static void test_every_plan_adds_up(void **state) {
    (void)state;
    for (const struct tl_named_shape *n = tl_named_shapes; n->name != NULL; n++) {
        struct tl_shape shape;
        tl_named_shape_get(n, &shape);
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            struct tl_policy policies[64];
            for (uint32_t i = 0; i < 64; i++) {
                policies[i] = i < p->n_dense ? *p->dense : p->policy;
            }
            uint64_t last = 0;
            for (uint32_t ctx = 1024; ctx <= 1u << 20; ctx *= 4) {
                const struct tl_plan_params params = {.n_ctx = ctx,
                                                      .n_chunk = 512,
                                                      .policies = policies,
                                                      .weight_bytes = 1 << 30,
                                                      .far = true};
                struct tl_memory_plan plan;
                tl_plan_memory(&shape, &params, &plan);
                assert_int_equal(plan.device, plan.weights + plan.kv.window + plan.kv.sketch +
                                                  plan.kv.index + plan.kv.hot +
                                                  plan.kv.home_device + plan.scratch + plan.stage +
                                                  plan.change);
                assert_true(plan.device > last);
                last = plan.device;
            }
        }
    }
}

/* Goal: codes fill whole bytes of a row, so that heads of 100 channels (OpenLLaMA 3B's) can be kept
 * exactly only: a preset with codecs is refused with one sentence, none is recommended, and none is
 * the default. */
static void test_heads_without_codecs(void **state) {
    (void)state;
    const struct tl_named_shape *const named = tl_named_shape_find("llama-3.1-8b");
    struct tl_shape shape;
    tl_named_shape_get(named, &shape);
    shape.head_dim = 100;
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        struct tl_policy policies[64];
        for (uint32_t i = 0; i < 64; i++) {
            policies[i] = i < p->n_dense ? *p->dense : p->policy;
        }
        const bool exact = strcmp(p->name, "full") == 0 || strcmp(p->name, "offload") == 0 ||
                           strcmp(p->name, "quest") == 0;
        struct kept_log kept = {0};
        const tl_log log = keep_log(&kept);
        struct tl_plan_params params = {
            .n_ctx = 8192, .policies = policies, .dense = p->n_dense == 0 ? p->dense : NULL};
        const struct tl_budget none = {0}, small = {.device = 1 << 20, .unified = true};
        assert_int_equal(tl_plan_settle(&shape, &params, &none, &log),
                         exact ? TL_OK : TL_ERR_UNSUPPORTED);
        assert_int_equal(kept.n_errors, !exact);
        assert_true(exact || strstr(kept.sentence, "heads of a multiple of 8 channels") != NULL);
        struct tl_verdict verdict;
        if (exact) {
            assert_int_equal(tl_plan_judge(&shape, &params, &small, &verdict), TL_OK);
        }
        for (uint32_t i = 0; exact && i < verdict.n_presets; i++) {
            assert_true(strcmp(verdict.presets[i], "full") == 0 ||
                        strcmp(verdict.presets[i], "offload") == 0);
        }
    }
    assert_string_equal(tl_preset_default(1 << 20, 100)->name, "full");
    assert_string_equal(tl_preset_default(1 << 20, 96)->name, "tailor");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cards_by_name),
        cmocka_unit_test(test_cards_by_numbers),
        cmocka_unit_test(test_named_shapes),
        cmocka_unit_test(test_reference_numbers),
        cmocka_unit_test(test_presets_in_order),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_forecast_is_the_session),
        cmocka_unit_test(test_every_plan_adds_up),
        cmocka_unit_test(test_heads_without_codecs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
