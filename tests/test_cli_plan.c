/* `tailor plan` as a user meets it: what it takes, what it prints, and that `run` says the same of
 * a plan that does not fit and does what was planned. */
#include "program.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

static void test_errors(void **state) {
    (void)state;
    expect_error("plan", 2, "-m NAME|FILE");
    expect_error("plan -m llama-3.1-8b", 2, "--gpu");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --ctx many", 2, "--ctx");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --miss 2", 2, "--miss");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --device-mem lots", 2, "a size");
    expect_error("plan -m abacus --gpu 3090", 1, "llama-3.1-8b");
    expect_error("plan -m llama-3.1-8b --gpu abacus", 1, "rtx-3090");
    expect_error("plan -m llama-3.1-8b --gpu pcie=25", 1, "bw=");
    expect_error("plan -m llama-3.1-8b --gpu bw=9,colour=3", 1, "'colour'");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --ctx 0", 1, "--ctx");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --kv abacus", 1, "abacus");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --weights abacus", 1, "abacus");
    expect_error("plan -m /etc/passwd --gpu 3090", 1, "/etc/passwd");
    expect_error("plan -m " GOLDEN "smollm-9-3.gguf --gpu 3090 --weights f16", 1, "the file");
}

static json_t *plan(const char *args) {
    char line[512];
    snprintf(line, sizeof line, "plan %s --json", args);
    struct ran ran = tailor(line);
    if (ran.code != 0) {
        fail_msg("%s: %s", line, ran.err.data);
    }
    json_t *const json = json_loads(ran.out.data, 0, NULL);
    assert_non_null(json);
    done(&ran);
    return json;
}

static const json_t *row_of(const json_t *json, size_t i) {
    return json_array_get(json_object_get(json, "rows"), i);
}

static double number_at(const json_t *object, const char *a, const char *b) {
    const json_t *v = json_object_get(object, a);
    v = b != NULL ? json_object_get(v, b) : v;
    assert_true(json_is_number(v));
    return json_number_value(v);
}

/* Goal: rows for every cache and context, parts that are the whole, what fits and what would. */
static void test_rows(void **state) {
    (void)state;
    json_t *const json = plan("-m llama-3.1-8b --gpu 3090 --ctx 8192,131072 --kv full,tailor "
                              "--weights q8_0");
    assert_int_equal(json_array_size(json_object_get(json, "rows")), 4);
    assert_int_equal(json_array_size(json_object_get(json, "validations")), 0);
    for (size_t i = 0; i < 4; i++) {
        const json_t *const row = row_of(json, i);
        const bool fits = json_is_true(json_object_get(row, "fits"));
        assert_int_equal(fits, i != 1); /* 8 GiB of weights and 16 of rows in 23.5 */
        const json_t *const ms = json_object_get(row, "decode_ms");
        const char *part;
        json_t *value;
        double sum = 0;
        json_object_foreach(json_object_get(ms, "parts"), part, value) {
            sum += json_number_value(value);
        }
        const double total = number_at(ms, "total", NULL);
        assert_true(sum > total - 1e-6 && sum < total + 1e-6);
        assert_true(number_at(row, "first_token_s", "total") > 1);
    }
    const json_t *const advice = json_object_get(row_of(json, 1), "would_fit");
    const double missing = number_at(advice, "device_missing_bytes", NULL);
    const double have =
        number_at(json, "card", "bytes") - number_at(json, "card", "reserved_bytes");
    assert_true(number_at(row_of(json, 1), "memory", "peak_device_bytes") == have + missing);
    assert_true(number_at(advice, "ctx", NULL) > 8192);
    assert_string_equal(json_string_value(json_array_get(json_object_get(advice, "presets"), 0)),
                        "q8");
    json_decref(json);
}

/* Goal: the schedule is plain data: ops in order, streams, waits for ops that stand before. */
static void test_schedule(void **state) {
    (void)state;
    json_t *const json = plan("-m llama-3.2-1b --gpu bw=400,pcie=12,mem=8 --ctx 65536 --kv tailor "
                              "--schedule");
    const json_t *const ops = json_object_get(row_of(json, 0), "schedule");
    size_t n_fetches = 0;
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const json_t *const op = json_array_get(ops, i);
        const json_t *const wait = json_object_get(op, "waits_for");
        assert_true(number_at(op, "end_us", NULL) > number_at(op, "start_us", NULL));
        if (strcmp(json_string_value(json_object_get(op, "op")), "fetch") == 0) {
            assert_string_equal(json_string_value(json_object_get(op, "stream")), "transfer");
            assert_true(number_at(op, "link_bytes", NULL) > 1000);
            n_fetches++;
        }
        if (json_is_integer(wait)) {
            const json_t *const before = json_array_get(ops, (size_t)json_integer_value(wait));
            assert_true((size_t)json_integer_value(wait) < i);
            assert_true(number_at(before, "end_us", NULL) <= number_at(op, "start_us", NULL));
        }
    }
    assert_int_equal(n_fetches, 16);
    json_decref(json);
    struct ran ran = tailor("plan -m llama-3.2-1b --gpu 3060 --ctx 4096 --schedule");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out.data, "attend"));
    assert_non_null(strstr(ran.out.data, "was ever compared with a measurement"));
    done(&ran);
}

/* Goal: a file is planned by its header, and run with the same numbers: the plan that `run` reports
 * is that of a device that shares the host's memory, and what it allocates stays within. */
static void test_run_does_what_is_planned(void **state) {
    (void)state;
    json_t *const json = plan("-m " GOLDEN "qwen3-hd128.gguf --gpu bw=50,unified,mem=8 --ctx 512 "
                              "--kv q8");
    const double planned = number_at(row_of(json, 0), "memory", "peak_device_bytes");
    struct ran ran =
        tailor("run -m " GOLDEN "qwen3-hd128.gguf --ids '1 2 3' -n 2 -c 512 --kv q8 --json");
    assert_int_equal(ran.code, 0);
    json_t *const run = json_loads(ran.out.data, 0, NULL);
    assert_true(number_at(run, "memory", "peak_device_bytes") == planned);
    assert_true(number_at(run, "memory", "allocated_device_bytes") <= planned + 4096);
    json_decref(run);
    json_decref(json);
    done(&ran);
    ran = tailor("plan -m " GOLDEN "qwen3-hd128.gguf --gpu bw=50,unified --ctx 8192 "
                 "--kv full --device-mem 4MiB");
    assert_int_equal(ran.code, 0);
    const char *const same = "8192 tokens need 6.4";
    assert_non_null(strstr(ran.out.data, same));
    done(&ran);
    expect_error("run -m " GOLDEN "qwen3-hd128.gguf --ids 1 -c 8192 --kv full --device-mem 4MiB", 1,
                 same);
}

int main(void) {
    if (!program_begin()) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_run_does_what_is_planned),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
