/* Tokenizers: agreement with other implementations on the vocabularies of ../shared, and what must
 * hold for any vocabulary and any bytes. Small vocabularies are built in memory. */
#include "core/token.h"
#include "gguf_writer.h"
#include "heap.h"
#include "support.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- vocabularies of ../shared ---- */

struct opened {
    tl_weights *weights;
    tl_vocab *vocab;
};

static struct opened open_file(const char *path) {
    struct opened o = {0};
    assert_non_null(path);
    assert_int_equal(tl_weights_open(&o.weights, path, NULL), TL_OK);
    assert_int_equal(tl_vocab_open(&o.vocab, o.weights, NULL), TL_OK);
    return o;
}

static void close_vocab(struct opened *o) {
    tl_vocab_close(&o->vocab);
    tl_weights_close(&o->weights);
    assert_null(o->vocab);
}

static tl_ids encode(const tl_vocab *v, tl_str text, unsigned flags) {
    tl_ids ids = {0};
    assert_int_equal(tl_vocab_encode(v, text, flags, &ids), TL_OK);
    return ids;
}

static tl_bytes decode(const tl_vocab *v, const uint32_t *ids, size_t n) {
    tl_decoder d = {.vocab = v, .first = true, .special = true};
    tl_bytes text = {0};
    assert_int_equal(tl_bytes_add(&text, "", 0), TL_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tl_decoder_add(&d, ids[i], &text), TL_OK);
    }
    assert_int_equal(tl_decoder_end(&d, &text), TL_OK);
    return text;
}

static void print_ids(const char *what, const uint32_t *ids, size_t n) {
    print_message("  %s", what);
    for (size_t i = 0; i < n; i++) {
        print_message(" %u", ids[i]);
    }
    print_message("\n");
}

/* Compares with a JSON array of ids; says what differs. */
static bool ids_agree(const tl_vocab *v, tl_str text, unsigned flags, const json_t *expected) {
    tl_ids ids = encode(v, text, flags);
    const size_t n = json_array_size(expected);
    uint32_t *const want = malloc((n + 1) * sizeof *want);
    assert_non_null(want);
    bool same = n == ids.n;
    for (size_t i = 0; i < n; i++) {
        want[i] = (uint32_t)json_integer_value(json_array_get(expected, i));
        same = same && ids.data[i] == want[i];
    }
    if (!same) {
        print_message("%.200s\n", text.data);
        print_ids("ids     ", ids.data, ids.n);
        print_ids("expected", want, n);
    }
    free(want);
    tl_ids_free(&ids);
    return same;
}

static json_t *load_json(const char *path) {
    json_error_t error;
    json_t *const json = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (json == NULL) {
        fail_msg("%s: %s", path, error.text);
    }
    return json;
}

static tl_str text_of(const json_t *string) {
    return (tl_str){json_string_value(string), json_string_length(string)};
}

/* The ids of a case decode to its "decoded" text; "same" stands for the text itself. */
static bool text_agrees(const tl_vocab *v, const json_t *test, tl_str text) {
    const json_t *const ids = json_object_get(test, "ids");
    tl_ids list = {0};
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const uint32_t id = (uint32_t)json_integer_value(json_array_get(ids, i));
        assert_int_equal(tl_ids_add(&list, id), TL_OK);
    }
    tl_bytes decoded = decode(v, list.data, list.n);
    tl_vocab_tidy(v, &decoded);
    const tl_str said = text_of(json_object_get(test, "decoded"));
    const tl_str expected = tl_str_is(said, "same") ? text : said;
    const bool same = tl_str_eq((tl_str){decoded.data, decoded.len}, expected);
    if (!same) {
        print_message("decoded  %s\nexpected %s\n", decoded.data, expected.data);
    }
    tl_bytes_free(&decoded);
    tl_ids_free(&list);
    return same;
}

/* A case without ids was refused by the other implementation: only that it ends is checked. */
static unsigned check_extra(const tl_vocab *v, const char *path, size_t n_expected) {
    json_t *const all = load_json(path);
    const json_t *const tests = json_object_get(all, "tests");
    assert_int_equal(json_array_size(tests), n_expected);
    unsigned n_bad = 0;
    for (size_t i = 0; i < json_array_size(tests); i++) {
        const json_t *const test = json_array_get(tests, i);
        const tl_str text = text_of(json_object_get(test, "text"));
        if (!json_is_array(json_object_get(test, "ids"))) {
            tl_ids ids = encode(v, text, TL_ENCODE_PLAIN);
            tl_ids_free(&ids);
            continue;
        }
        n_bad += !ids_agree(v, text, TL_ENCODE_PLAIN, json_object_get(test, "ids"));
        n_bad += !ids_agree(v, text, TL_ENCODE_BOS | TL_ENCODE_SPECIAL,
                            json_object_get(test, "ids_special"));
        n_bad += !text_agrees(v, test, text);
    }
    json_decref(all);
    return n_bad;
}

/* Texts in PATH.inp, each ended by a line of its own; a line of ids for each in PATH.out. */
static unsigned check_pairs(const tl_vocab *v, const char *path) {
    static const char END[] = "\n__ggml_vocab_test__\n";
    char name[1100];
    snprintf(name, sizeof name, "%s.inp", path);
    tl_bytes texts = read_file(name);
    snprintf(name, sizeof name, "%s.out", path);
    tl_bytes lines = read_file(name);
    const char *text = texts.data, *line = lines.data;
    unsigned n = 0, n_bad = 0;
    for (const char *end; (end = strstr(text, END)) != NULL; text = end + sizeof END - 1, n++) {
        json_t *const expected = json_array();
        while (*line != '\n') {
            char *after;
            json_array_append_new(expected, json_integer((json_int_t)strtoul(line, &after, 10)));
            line = after;
        }
        line++;
        n_bad += !ids_agree(v, (tl_str){text, (size_t)(end - text)}, TL_ENCODE_PLAIN, expected);
        json_decref(expected);
    }
    assert_int_equal(n, 46);
    tl_bytes_free(&texts);
    tl_bytes_free(&lines);
    return n_bad;
}

/* Goal: ids and texts equal those of two other implementations, all cases of ../shared. */
static void agrees_with_others(void **state) {
    (void)state;
    shared_or_skip();
    static const char *const NAMES[] = {"llama-bpe", "qwen2", "llama-spm", "gpt-2"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char vocab[256], extra[256], path[1024];
        snprintf(vocab, sizeof vocab, "tokenizers/%s/ggml-vocab-%s.gguf", NAMES[i], NAMES[i]);
        snprintf(extra, sizeof extra, "tokenizers/%s/extra-tests.json", NAMES[i]);
        snprintf(path, sizeof path, "%s", shared_path(vocab));
        struct opened o = open_file(path);
        assert_int_equal(check_extra(o.vocab, shared_path(extra), 177), 0);
        assert_int_equal(check_pairs(o.vocab, path), 0);
        close_vocab(&o);
    }
}

static void agrees_on_story_models(void **state) {
    (void)state;
    shared_or_skip();
    struct opened o = open_file(shared_path("models/stories260K/stories260K.gguf"));
    assert_int_equal(
        check_extra(o.vocab, shared_path("tokenizers/stories260K/extra-tests.json"), 177), 0);
    close_vocab(&o);
    o = open_file(shared_path("models/tinystories-656k/TinyStories-656K-f16.gguf"));
    assert_int_equal(
        check_extra(o.vocab, shared_path("tokenizers/tinystories-656k/extra-tests.json"), 177), 0);
    close_vocab(&o);
}

/* Goal: a model file with the Qwen3 vocabulary; its tokens for turns are ids of the published
 * tokenizer.json. */
static void knows_qwen3(void **state) {
    (void)state;
    shared_or_skip();
    struct opened o =
        open_file(shared_path("models/random-realvocab/random-qwen3-realvocab-q8_0.gguf"));
    const tl_vocab *const v = o.vocab;
    assert_int_equal(tl_vocab_find(v, tl_str_from("<|im_start|>")), 151644);
    assert_int_equal(tl_vocab_eos(v), 151645);
    assert_false(tl_vocab_add_bos(v));
    assert_true(tl_vocab_is_end(v, 151645));
    assert_true(tl_vocab_is_end(v, 151643));
    assert_false(tl_vocab_is_end(v, 151644));
    assert_true(tl_vocab_is_control(v, 151644));
    assert_false(tl_vocab_is_control(v, 872));
    tl_ids ids =
        encode(v, tl_str_from("<|im_start|>user\nhi<|im_end|>"), TL_ENCODE_BOS | TL_ENCODE_SPECIAL);
    const uint32_t expected[] = {151644, 872, 198, 6023, 151645};
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.data, expected, sizeof expected);
    tl_ids_free(&ids);
    close_vocab(&o);
}

/* Goal: the damaged model files of ../shared whose damage is in the tokenizer. */
static void refuses_damaged_files(void **state) {
    (void)state;
    shared_or_skip();
    json_t *const cases = load_json(shared_path("gguf-corrupt/cases.json"));
    static const char *const REJECTED[] = {"no-tokens.gguf", "tokens-u32.gguf", "tokens-empty.gguf",
                                           "tokenizer-unknown.gguf"};
    unsigned n_rejected = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *const item = json_array_get(cases, i);
        const char *const file = json_string_value(json_object_get(item, "file"));
        char relative[256];
        snprintf(relative, sizeof relative, "gguf-corrupt/%s", file);
        struct opened o = {0};
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        if (tl_weights_open(&o.weights, shared_path(relative), &log) != TL_OK) {
            continue;
        }
        const tl_err err = tl_vocab_open(&o.vocab, o.weights, &log);
        for (size_t k = 0; k < sizeof REJECTED / sizeof *REJECTED; k++) {
            if (strcmp(file, REJECTED[k]) == 0) {
                assert_int_not_equal(err, TL_OK);
                assert_int_equal(kept.n_errors, 1);
                n_rejected++;
            }
        }
        if (strcmp(json_string_value(json_object_get(item, "expect")), "accept") == 0) {
            assert_int_equal(err, TL_OK);
        }
        if (err == TL_OK) {
            tl_ids ids = encode(o.vocab, tl_str_from("Once upon <s> a time"),
                                TL_ENCODE_BOS | TL_ENCODE_SPECIAL);
            tl_bytes text = decode(o.vocab, ids.data, ids.n);
            tl_bytes_free(&text);
            tl_ids_free(&ids);
        }
        close_vocab(&o);
    }
    assert_int_equal(n_rejected, 4);
    json_decref(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_others),
        cmocka_unit_test(agrees_on_story_models),
        cmocka_unit_test(knows_qwen3),
        cmocka_unit_test(refuses_damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
