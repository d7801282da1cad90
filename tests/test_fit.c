/* `tailor fit` as a user meets it. What it measures is tested in test_identify.c. */
#include "program.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

enum { FIT_TEXT = 1200 };

/* Letters and spaces: as many tokens as bytes for the golden models, at least. */
static void write_text(const char *name, size_t n) {
    struct tl_rng rng = {3};
    char *const text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) {
        text[i] = rng_below(&rng, 5) == 0 ? ' ' : (char)('a' + rng_below(&rng, 26));
    }
    write_file(scratch(name), text, n);
    free(text);
}

static void expect_fit_error(const char *options, int code, const char *part) {
    char args[1024];
    snprintf(args, sizeof args, "fit -m " GOLDEN "llama-bias.gguf %s", options);
    expect_error(args, code, part);
}

/* Goal: everything that can be wrong is one line, nothing is left of a policy that was not
 * finished, and no file that is not a policy is overwritten. */
static void test_fit_errors(void **state) {
    (void)state;
    char options[768], text[256];
    write_text("text", FIT_TEXT);
    snprintf(text, sizeof text, "%s", scratch("text"));
    expect_error("fit -m x", 2, "-f TEXT");
    expect_fit_error("-f /nonexistent.txt", 1, "/nonexistent.txt");
    expect_fit_error("-f /dev/null", 1, "too short");
    expect_fit_error("-f /tmp", 1, "directory");
    expect_fit_error("-f " GOLDEN "smollm-9-3.gguf", 1, "not a text: byte ");
    snprintf(options, sizeof options, "-f %s -c 100", text);
    expect_fit_error(options, 1, "too short: 100 tokens");
    snprintf(options, sizeof options, "-f %s --kv abacus", text);
    expect_fit_error(options, 2, "abacus");
    snprintf(options, sizeof options, "-f %s -o /nonexistent/p.json", text);
    expect_fit_error(options, 1, "/nonexistent/p.json");
    snprintf(options, sizeof options, "-f %s -o /tmp", text);
    expect_fit_error(options, 1, "directory");
    snprintf(options, sizeof options, "-f %s -o %s", text, text);
    expect_fit_error(options, 1, "not overwritten");
    snprintf(options, sizeof options, "-f %s --plot " GOLDEN "llama-bias.gguf", text);
    expect_fit_error(options, 1, "not overwritten");
    char args[1024];
    snprintf(args, sizeof args, "fit -m /nonexistent.gguf -f %s -o %s", text, scratch("p.json"));
    expect_error(args, 1, "/nonexistent.gguf");
    assert_int_not_equal(access(scratch("p.json"), F_OK), 0);
    char command[512];
    snprintf(command, sizeof command, "ls %s | grep -q tmp-", scratch_dir);
    assert_int_not_equal(system(command), 0);
    struct ran ran = tailor("fit --help");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out.data, "--plot"));
    done(&ran);
}

/* What a policy file says of layer il under "measured". */
static const json_t *measured_layer(const json_t *policy, size_t il) {
    return json_array_get(json_object_get(json_object_get(policy, "measured"), "layers"), il);
}

static double number(const json_t *object, const char *key) {
    assert_true(json_is_number(json_object_get(object, key)));
    return json_number_value(json_object_get(object, key));
}

static void check_measured(const json_t *policy, size_t n_layers, size_t n_heads) {
    static const char *const codecs[] = {"q8", "int4", "int2", "int1"};
    const json_t *const parts = json_object_get(json_object_get(policy, "measured"), "mass_parts");
    for (size_t il = 0; il < n_layers; il++) {
        const json_t *const layer = measured_layer(policy, il);
        const json_t *const mass = json_object_get(layer, "mass");
        assert_int_equal(json_array_size(mass), n_heads);
        double outside = 0;
        for (size_t h = 0; h < n_heads; h++) {
            const json_t *const curve = json_array_get(mass, h);
            assert_int_equal(json_array_size(curve), json_array_size(parts));
            for (size_t i = 0; i < json_array_size(parts); i++) {
                const double share = json_number_value(json_array_get(curve, i));
                assert_true(share <= 1.0 &&
                            (i == 0 || share >= json_number_value(json_array_get(curve, i - 1))));
                if (json_number_value(json_array_get(parts, i)) == 0.05) {
                    outside += (1 - share) / (double)n_heads;
                }
            }
        }
        assert_true(outside - number(layer, "score") < 1e-5);
        assert_true(number(layer, "score") - outside < 1e-5);
        for (int side = 0; side < 2; side++) {
            const json_t *const errors = json_object_get(layer, side ? "k_error" : "v_error");
            assert_true(number(errors, "q8") > 0 && number(errors, "q8") < 0.01);
            for (int i = 1; i < 4; i++) { /* fewer bits, more error */
                assert_true(number(errors, codecs[i]) > number(errors, codecs[i - 1]));
            }
            assert_true(number(errors, "vq-d2b8") > number(errors, "q8"));
            assert_true(number(errors, "vq-d4b8") > number(errors, "vq-d2b8"));
            assert_true(number(errors, "vq-d8b8") > number(errors, "vq-d4b8"));
        }
    }
}

/* Goal: a fitted file says what was measured, is a policy that the model takes and another one
 * refuses, and says in --json what it says in the file; the dense layers it names are dense. */
static void test_fit(void **state) {
    (void)state;
    char args[1024], text[256], policy[256];
    write_text("text", FIT_TEXT);
    snprintf(text, sizeof text, "%s", scratch("text"));
    snprintf(policy, sizeof policy, "%s", scratch("fitted.json"));
    write_file(policy, "", 0);
    for (int tau = 0; tau < 2; tau++) { /* the second time over its own file */
        snprintf(args, sizeof args,
                 "fit -m " GOLDEN "llama-bias.gguf -f %s -o %s --tau %s --plot %s", text, policy,
                 tau ? "0" : "1", scratch("fit.svg"));
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 0);
        assert_int_equal(n_lines(&ran.err), 1); /* 512 tokens are few */
        assert_non_null(strstr(ran.out.data, tau ? "2 of 2 layers" : "0 of 2 layers"));
        done(&ran);
        json_t *const file = json_load_file(policy, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(file);
        json_t *const of_file = json_object_get(file, "dense");
        assert_int_equal(json_array_size(of_file), tau ? 2 : 0);
        assert_true(
            json_equal(json_object_get(json_object_get(file, "measured"), "dense"), of_file));
        assert_string_equal(json_string_value(json_object_get(file, "preset")), "tailor1");
        check_measured(file, 2, 2);
        snprintf(args, sizeof args, "fit -m " GOLDEN "llama-bias.gguf -f %s --json --tau %s", text,
                 tau ? "0" : "1");
        ran = tailor(args);
        assert_int_equal(ran.code, 0);
        json_t *const printed = json_loads(ran.out.data, 0, NULL);
        assert_non_null(printed);
        check_measured(printed, 2, 2);
        assert_true(json_equal(json_object_get(printed, "dense"), of_file));
        json_decref(printed);
        json_decref(file);
        done(&ran);
        snprintf(args, sizeof args,
                 "run -m " GOLDEN "llama-bias.gguf -p hello -n 3 --seed 1 --json --kv %s", policy);
        ran = tailor(args);
        assert_int_equal(ran.code, 0);
        json_t *const run = json_loads(ran.out.data, 0, NULL);
        const json_t *const layer = json_array_get(json_object_get(run, "layers"), 1);
        assert_true(
            json_is_null(json_object_get(layer, "class"))); /* a short prompt says nothing */
        json_decref(run);
        done(&ran);
    }
    snprintf(args, sizeof args, "run -m " GOLDEN "smollm-9-3.gguf -p hello --kv %s", policy);
    expect_error(args, 1, "another model");
    tl_bytes svg = read_file(scratch("fit.svg"));
    assert_int_equal(strncmp(svg.data, "<svg ", 5), 0);
    assert_non_null(strstr(svg.data, "layer 1"));
    assert_string_equal(svg.data + svg.len - 7, "</svg>\n");
    tl_bytes_free(&svg);
}

/* What `run` says of the demo model's layers behind a long prompt; free with json_decref. */
static json_t *layers_of_run(const char *text, const char *options) {
    char args[1024];
    snprintf(args, sizeof args,
             "run -m " TL_SOURCE_DIR "/models/demo.gguf -f %s -n 9 --ignore-eos --temp 0 --json -c "
             "4096 %s",
             text, options);
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    json_t *const root = json_loads(ran.out.data, 0, NULL);
    json_t *const layers = json_incref(json_object_get(root, "layers"));
    assert_true(number(root, "prompt_tokens") >= 1024);
    json_decref(root);
    done(&ran);
    return layers;
}

static const char *policy_knob(const json_t *layer, const char *knob) {
    return json_string_value(json_object_get(json_object_get(layer, "policy"), knob));
}

/* Goal: end to end: without a policy file a long prompt decides which layers attend densely, by the
 * scores that `fit` finds on the same text; dense layers are then as tailor1 has dense ones, and
 * have no gauge; the others have. A file made by `fit` gives the same policies from the start. */
static void test_online(void **state) {
    (void)state;
    char args[1024], text[256], policy[256], options[320];
    write_text("long", 2400);
    snprintf(text, sizeof text, "%s", scratch("long"));
    snprintf(policy, sizeof policy, "%s", scratch("demo.json"));
    snprintf(args, sizeof args, "fit -m " TL_SOURCE_DIR "/models/demo.gguf -f %s -o %s --tau 0.4",
             text, policy);
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    done(&ran);
    json_t *const fitted = json_load_file(policy, 0, NULL);
    json_t *const online = layers_of_run(text, "--kv tailor1 --tau 0.4 --gauge 1");
    snprintf(options, sizeof options, "--kv %s --tau 0.4", policy);
    json_t *const from_file = layers_of_run(text, options);
    size_t n_dense = 0, n_gauges = 0;
    for (size_t il = 0; il < json_array_size(online); il++) {
        const json_t *const layer = json_array_get(online, il);
        const double difference =
            number(layer, "dense_score") - number(measured_layer(fitted, il), "score");
        assert_true(difference < 1e-4 && difference > -1e-4);
        const bool dense = number(layer, "dense_score") > 0.4;
        assert_string_equal(json_string_value(json_object_get(layer, "class")),
                            dense ? "dense" : "sparse");
        assert_string_equal(policy_knob(layer, "home"), dense ? "none" : "host");
        assert_string_equal(policy_knob(layer, "v_codec"), dense ? "int1" : "none");
        assert_true((number(layer, "kv_host_bytes") > 0) == !dense);
        const json_t *const gauge = json_object_get(layer, "gauge");
        assert_true(json_is_null(gauge) == dense);
        n_gauges += dense ? 0 : (size_t)number(gauge, "n");
        assert_true(dense || (number(gauge, "mass") > 0 && number(gauge, "mass") <= 1));
        assert_true(json_equal(json_object_get(layer, "policy"),
                               json_object_get(json_array_get(from_file, il), "policy")));
        n_dense += dense;
    }
    assert_true(n_dense > 0 && n_dense < json_array_size(online)); /* the case shows both */
    assert_int_equal(n_gauges, 8);
    assert_int_equal(json_array_size(json_object_get(fitted, "dense")), n_dense);
    json_decref(online);
    json_decref(from_file);
    json_decref(fitted);
}

int main(void) {
    if (!program_begin()) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fit_errors),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_online),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
