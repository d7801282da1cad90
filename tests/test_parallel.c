/* Several sequences at once as a user meets them: what `bench` and `eval` say with --parallel, what
 * they refuse, and that their plans are what is taken. */
#include "core/batch.h"
#include "program.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEMO TL_SOURCE_DIR "/models/demo.gguf"
/* Of the demo model: 6 layers of 2 KV heads of 64 channels, keys and values, 2 bytes each. */
enum { ROW_BYTES = 6 * 2 * 64 * 2 * 2 };

static void test_usage_errors(void **state) {
    (void)state;
    static const char *const wrong[] = {"0",  "17", "two", "2,2",       "1,0",
                                        "-1", "",   "2x",  "4294967297"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char args[128], part[64];
        snprintf(args, sizeof args, "bench -m x --parallel '%s'", wrong[i]);
        snprintf(part, sizeof part, "'%s' is not a list of different numbers from 1 to 16",
                 wrong[i]);
        expect_error(args, 2, part);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char args[128], part[64];
        snprintf(args, sizeof args, "eval -m x --task ppl --parallel '%s'", wrong[i]);
        snprintf(part, sizeof part, "'%s' is not a number from 1 to 16", wrong[i]);
        expect_error(args, 2, part);
    }
    expect_error("eval -m x --task ppl --parallel 4", 2, "4 at once, but there are 1 samples");
    expect_error("eval -m x --task vt,ppl --samples 3 --parallel 4", 2, "but there are 3 samples");
    expect_error("eval -m x --task kld --samples 3 --parallel 3", 2, "not for kld");
    expect_error("bench -m x --parallel", 2, "a value is missing");
    expect_error("bench -m x --parallel 2 --prefill 8", 2, "no --prefill");
    expect_error("bench -m x --parallel 2 -n 0", 2, "-n above 0");
    expect_error("run -m x -p y --parallel 2", 2, "tailor bench");
    expect_error("bench -m x -np 2", 2, "--parallel N");
}

static json_t *bench(const char *args, size_t n_rows) {
    char line[512];
    snprintf(line, sizeof line, "bench -m " DEMO " --json %s", args);
    struct ran ran = tailor(line);
    if (ran.code != 0) {
        fail_msg("%s: exit %d, %s", line, ran.code, ran.err.data);
    }
    json_t *const all = json_loads(ran.out.data, 0, NULL);
    done(&ran);
    assert_int_equal(json_array_size(json_object_get(all, "rows")), n_rows);
    return all;
}

static double number(const json_t *row, const char *name) {
    const json_t *const value = json_object_get(row, name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* Goal: a row for one sequence, asked for or not, and one for each number of them; what they say
 * of speed is one measurement, and a step moves the weights once and every sequence's rows. */
static void test_bench(void **state) {
    (void)state;
    static const int sizes[] = {1, 3, 2};
    json_t *const all = bench("--parallel 3,2 --depth 5,200 -n 4 --kv full", 6);
    for (size_t i = 0; i < 6; i++) {
        const json_t *const row = json_array_get(json_object_get(all, "rows"), i);
        const json_t *const one = json_array_get(json_object_get(all, "rows"), i / 3 * 3);
        const double n = number(row, "sequences"), depth = number(row, "depth");
        assert_int_equal((int)n, sizes[i % 3]);
        assert_int_equal((int)depth, i < 3 ? 5 : 200);
        const double tps = number(row, "decode_tokens_per_s");
        assert_true(tps > 0 && number(row, "p95_ms") >= number(row, "p50_ms"));
        assert_true(fabs(tps * number(row, "p50_ms") - n * 1e3) < 1e-6 * n * 1e3);
        assert_true(fabs(number(row, "decode_tokens_per_s_each") * n - tps) < 1e-9 * tps);
        assert_true(fabs(number(row, "times_one") * number(one, "decode_tokens_per_s") - tps) <
                    1e-9 * tps);
        assert_true(number(row, "prefill_tokens_per_s") == 0);
        /* 3 times 4 steps are measured behind the depth. */
        const double rows = (n - 1) * (depth + 12);
        assert_true(number(row, "step_bytes") - number(one, "step_bytes") == rows * ROW_BYTES);
    }
    json_decref(all);
}

/* Goal: one sequence is the bench that there was, with prefill. */
static void test_bench_of_one(void **state) {
    (void)state;
    json_t *const all = bench("--parallel 1 --depth 5 -n 4 --prefill 16 --kv full", 1);
    const json_t *const row = json_array_get(json_object_get(all, "rows"), 0);
    assert_true(number(row, "prefill_tokens_per_s") > 0);
    assert_int_equal(number(row, "sequences"), 1);
    json_decref(all);
}

/* Goal: as many sequences as a refusal offers fit, and one more does not; every preset of a list is
 * judged. */
static void test_budget(void **state) {
    (void)state;
    struct ran ran =
        tailor("bench -m " DEMO " --parallel 8 --depth 9 -c 4004 -n 1 --kv tailor --json "
               "--device-mem 60MiB");
    assert_int_equal(ran.code, 1);
    assert_int_equal(n_lines(&ran.err), 1);
    assert_int_equal(ran.out.len, 0);
    assert_non_null(strstr(ran.err.data, "8 sequences of 4004 tokens need "));
    const char *const offer = strstr(ran.err.data, "; ");
    assert_non_null(offer);
    const int n = atoi(offer + 2);
    assert_true(n > 1 && n < 8 && strstr(ran.err.data, " such sequences would fit") != NULL);
    done(&ran);
    char args[256];
    snprintf(args, sizeof args,
             "--parallel %d --depth 9 -c 4004 -n 1 --kv tailor --device-mem 60MiB", n);
    json_decref(bench(args, 2));
    snprintf(args, sizeof args,
             "bench -m " DEMO
             " --parallel %d --depth 9 -c 4004 -n 1 --kv tailor --device-mem 60MiB",
             n + 1);
    expect_error(args, 1, "more than there is");
    expect_error("bench -m " DEMO " --parallel 4 --depth 9 -c 4004 -n 1 --kv kivi2,full --json "
                 "--device-mem 50MiB",
                 1, "4 sequences of 4004 tokens need");
}

static void check_usage(const char *what, const struct tl_usage *taken,
                        const struct tl_memory_plan *plan) {
    const uint64_t device = taken->device + taken->wrapped, slack = 32768; /* rope, norms */
    if (device > plan->device + slack || plan->device > device + slack ||
        taken->host > plan->host + slack || plan->host > taken->host + slack) {
        fail_msg("%s: planned %" PRIu64 " and %" PRIu64 " bytes, taken %" PRIu64 " and %" PRIu64,
                 what, plan->device, plan->host, device, taken->host);
    }
}

static tl_bytes eval(const char *args) {
    char line[1024];
    snprintf(line, sizeof line, "eval -m " DEMO " --json %s", args);
    struct ran ran = tailor(line);
    if (ran.code != 0) {
        fail_msg("%s: exit %d, %s", line, ran.code, ran.err.data);
    }
    tl_bytes_free(&ran.err);
    return ran.out;
}

/* All that `eval` prints, to the last digit, one by one and several at once. */
static void expect_same(const char *args, const char *parallel) {
    char at_once[1024];
    snprintf(at_once, sizeof at_once, "%s %s", args, parallel);
    tl_bytes one = eval(args), all = eval(at_once);
    if (one.len != all.len || memcmp(one.data, all.data, one.len) != 0) {
        fail_msg("%s\n%s%s", at_once, one.data, all.data);
    }
    tl_bytes_free(&one);
    tl_bytes_free(&all);
}

/* Goal: answers and texts at once are those one by one, whatever of them ends first: tasks by name,
 * windows of a text, the tasks of a file, also where their number is no multiple of how many go
 * together. */
static void test_eval_is_the_same(void **state) {
    (void)state;
    expect_same("--task niah_single1,vt2,copy_one,ppl --ctx 400,700 --samples 5 --kv full,tailor "
                "-n 12 --backend cpu",
                "--parallel 3");
    FILE *const f = fopen(scratch("tasks.jsonl"), "w");
    assert_non_null(f);
    for (int i = 0; i < 7; i++) { /* of other lengths; the last ends an answer early */
        fprintf(f,
                "{\"task\": \"say\", \"input\": \"Say the word %d%.*s\", \"outputs\": "
                "[\"%s\"]}\n",
                i, 37 * i,
                "and then the next one, and the one that comes behind it, and so on and "
                "on until there is nothing left to be said, which takes a good while, "
                "and a while more, and then the next one, and the one behind, and on",
                i == 6 ? "e" : "a word that nobody says");
    }
    assert_int_equal(fclose(f), 0);
    char args[512];
    snprintf(args, sizeof args, "--tasks-file %s --ctx 512 --kv full,kivi2 -n 20 --backend cpu",
             scratch("tasks.jsonl"));
    expect_same(args, "--parallel 4");
}

/* Goal: the memory of all that are at once is asked for before anything is measured. */
static void test_eval_budget(void **state) {
    (void)state;
    expect_error("eval -m " DEMO " --task ppl --samples 4 --parallel 4 --ctx 4096 --json --kv full "
                 "--device-mem 50MiB",
                 1, "4 sequences of 4096 tokens need ");
}

/* Goal: the plan of several sessions is what they and their batch take. */
static void test_plan_is_taken(void **state) {
    (void)state;
    tl_engine *engine = NULL;
    const struct tl_engine_params params = {
        .model_path = DEMO, .backend = "cpu", .n_threads = 1, .n_ctx = 2048};
    assert_int_equal(tl_engine_open(&engine, &params), TL_OK);
    const tl_model *const model = tl_engine_model(engine);
    struct tl_policy policies[64];
    for (size_t p = 0; tl_presets[p].name != NULL; p++) {
        enum { N = 3 };
        for (uint32_t il = 0; il < model->shape.n_layers; il++) {
            policies[il] = tl_presets[p].policy;
        }
        const struct tl_plan_params planned = {.n_ctx = 2048,
                                               .n_chunk = 512,
                                               .policies = policies,
                                               .weight_bytes = model->weight_bytes,
                                               .n_stages = 1,
                                               .n_sessions = N};
        struct tl_memory_plan plan;
        tl_plan_memory(&model->shape, &planned, &plan);
        tl_session *s[N] = {NULL};
        for (uint32_t i = 0; i < N; i++) {
            const struct tl_session_params each = {.policies = policies, .n_sessions = N - i};
            assert_int_equal(tl_session_open(&s[i], engine, &each), TL_OK);
        }
        tl_batch *batch = NULL;
        assert_int_equal(tl_batch_open(&batch, s, N), TL_OK);
        struct tl_usage now, peak;
        tl_engine_usage(engine, &now, &peak);
        check_usage(tl_presets[p].name, &now, &plan);
        tl_batch_close(&batch);
        for (uint32_t i = 0; i < N; i++) {
            tl_session_close(&s[i]);
        }
    }
    tl_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_errors),  cmocka_unit_test(test_bench),
        cmocka_unit_test(test_bench_of_one),  cmocka_unit_test(test_budget),
        cmocka_unit_test(test_plan_is_taken), cmocka_unit_test(test_eval_is_the_same),
        cmocka_unit_test(test_eval_budget),
    };
    if (!program_begin()) {
        return 1;
    }
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
