/* Tokenizers against other implementations, on vocabularies of our own: golden/token, made by its
 * make.py. Needs nothing from ../shared. */
#include "core/token.h"
#include "core/token_priv.h"
#include "gguf_writer.h"
#include "support.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *load(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/token/%s", TL_SOURCE_DIR, name);
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

/* Says what differs from a JSON array of integers; returns whether anything does. */
static unsigned differs(const char *what, tl_str text, const tl_ids *got, const json_t *expected) {
    bool same = got->n == json_array_size(expected);
    for (size_t i = 0; i < got->n && same; i++) {
        same = got->data[i] == json_integer_value(json_array_get(expected, i));
    }
    if (!same) {
        char *const list = json_dumps(expected, JSON_COMPACT);
        print_message("%s: \"%.*s\"\n  expected %s\n  got       ", what, (int)text.len, text.data,
                      list);
        for (size_t i = 0; i < got->n; i++) {
            print_message("%u,", got->data[i]);
        }
        print_message("\n");
        free(list);
    }
    return !same;
}

/* Goal: every published pre-tokenizer cuts where Hugging Face's tokenizers cuts. */
static void cuts_words_as_published(void **state) {
    (void)state;
    json_t *const all = load("words.json");
    const json_t *const texts = json_object_get(all, "texts");
    const char *name;
    json_t *cases;
    unsigned n_bad = 0, n_rules = 0;
    json_object_foreach(json_object_get(all, "words"), name, cases) {
        tl_pre *pre = NULL;
        unsigned flags;
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        assert_int_equal(tl_pre_open(&pre, tl_str_from(name), &flags, &log), TL_OK);
        assert_int_equal(kept.n_warnings, 0);
        tl_ids cuts = {0}, next = {0}, lengths = {0};
        tl_bytes buffer = {0};
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const tl_str text = text_of(json_array_get(texts, i));
            assert_int_equal(tl_pre_split(pre, text, &cuts, &next, &buffer), TL_OK);
            lengths.n = 0;
            for (size_t k = 0; k < cuts.n && text.len > 0; k++) {
                const uint32_t before = k > 0 ? cuts.data[k - 1] : 0;
                assert_int_equal(tl_ids_add(&lengths, cuts.data[k] - before), TL_OK);
            }
            n_bad += differs(name, text, &lengths, json_array_get(cases, i));
        }
        tl_ids_free(&cuts);
        tl_ids_free(&next);
        tl_ids_free(&lengths);
        tl_bytes_free(&buffer);
        tl_pre_close(&pre);
        n_rules++;
    }
    assert_int_equal(n_rules, 24);
    assert_int_equal(n_bad, 0);
    json_decref(all);
}

/* A vocabulary from JSON: tokens (and more of them), types, scores, merges. */
struct golden_vocab {
    tl_bytes file;
    tl_weights *weights;
    tl_vocab *vocab;
};

static void write_strings(struct gguf_writer *g, const char *key, const json_t *list,
                          const json_t *more) {
    const size_t n_list = json_array_size(list), n = n_list + json_array_size(more);
    tl_str *const values = calloc(n + 1, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++) {
        values[i] =
            text_of(i < n_list ? json_array_get(list, i) : json_array_get(more, i - n_list));
    }
    gguf_tl_strs(g, key, values, n);
    free(values);
}

static void write_types(struct gguf_writer *g, const json_t *list) {
    const size_t n = json_array_size(list);
    int32_t *const values = calloc(n + 1, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++) {
        values[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    gguf_i32s(g, "tokenizer.ggml.token_type", values, n);
    free(values);
}

static void write_scores(struct gguf_writer *g, const json_t *list, size_t n) {
    float *const values = calloc(n + 1, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n && i < json_array_size(list); i++) {
        values[i] = (float)json_number_value(json_array_get(list, i));
    }
    gguf_f32s(g, "tokenizer.ggml.scores", values, n);
    free(values);
}

static void write_keys(struct gguf_writer *g, json_t *keys) {
    const char *key;
    json_t *value;
    json_object_foreach(keys, key, value) {
        char name[64];
        snprintf(name, sizeof name, "%s%s",
                 strncmp(key, "general.", 8) == 0 ? "" : "tokenizer.ggml.", key);
        if (json_is_boolean(value)) {
            gguf_bool(g, name, json_boolean_value(value));
        } else if (json_is_integer(value)) {
            gguf_u32(g, name, (uint32_t)json_integer_value(value));
        } else {
            gguf_str(g, name, json_string_value(value));
        }
    }
}

/* base: bpe.json or spm.json; added: [tokens, types of all], or NULL; keys: may be NULL. */
static struct golden_vocab open_golden(const json_t *base, const json_t *added, json_t *keys) {
    struct golden_vocab o = {0};
    struct gguf_writer g;
    const json_t *const tokens = json_object_get(base, "tokens");
    const json_t *const more = json_array_get(added, 0);
    const json_t *const types =
        added != NULL ? json_array_get(added, 1) : json_object_get(base, "types");
    const bool is_bpe = json_object_get(base, "merges") != NULL;
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", is_bpe ? "gpt2" : "llama");
    write_strings(&g, "tokenizer.ggml.tokens", tokens, more);
    if (types != NULL) {
        write_types(&g, types);
    }
    if (is_bpe) {
        write_strings(&g, "tokenizer.ggml.merges", json_object_get(base, "merges"), NULL);
    } else {
        write_scores(&g, json_object_get(base, "scores"),
                     json_array_size(tokens) + json_array_size(more));
    }
    write_keys(&g, keys);
    o.file = gguf_end(&g);
    assert_int_equal(tl_weights_open_memory(&o.weights, o.file.data, o.file.len, "golden", NULL),
                     TL_OK);
    assert_int_equal(tl_vocab_open(&o.vocab, o.weights, NULL), TL_OK);
    return o;
}

static void close_golden(struct golden_vocab *o) {
    tl_vocab_close(&o->vocab);
    tl_weights_close(&o->weights);
    tl_bytes_free(&o->file);
}

static unsigned check_ids(const char *what, const tl_vocab *v, unsigned flags, const json_t *texts,
                          const json_t *expected) {
    unsigned n_bad = 0;
    assert_int_equal(json_array_size(texts), json_array_size(expected));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const tl_str text = text_of(json_array_get(texts, i));
        tl_ids ids = {0};
        assert_int_equal(tl_vocab_encode(v, text, flags, &ids), TL_OK);
        n_bad += differs(what, text, &ids, json_array_get(expected, i));
        tl_ids_free(&ids);
    }
    return n_bad;
}

/* Goal: ids of a byte-level BPE vocabulary, with and without taking whole words. */
static void bpe_agrees_with_tokenizers(void **state) {
    (void)state;
    json_t *const base = load("bpe.json");
    const char *pre;
    json_t *ids;
    unsigned n_bad = 0;
    json_object_foreach(json_object_get(base, "ids"), pre, ids) {
        json_t *const keys = json_pack("{ss}", "pre", pre);
        struct golden_vocab o = open_golden(base, NULL, keys);
        n_bad += check_ids(pre, o.vocab, TL_ENCODE_PLAIN, json_object_get(base, "texts"), ids);
        close_golden(&o);
        json_decref(keys);
    }
    assert_int_equal(n_bad, 0);
    json_decref(base);
}

/* Goal: ids of a SentencePiece vocabulary with byte fallback. */
static void spm_agrees_with_sentencepiece(void **state) {
    (void)state;
    json_t *const base = load("spm.json");
    struct golden_vocab o = open_golden(base, NULL, NULL);
    assert_int_equal(check_ids("spm", o.vocab, TL_ENCODE_PLAIN, json_object_get(base, "texts"),
                               json_object_get(base, "ids")),
                     0);
    close_golden(&o);
    json_decref(base);
}

/* Goal: added tokens, begin and end tokens and the space of SentencePiece, as llama.cpp has them
 * for several families. */
static void special_tokens_agree_with_llama_cpp(void **state) {
    (void)state;
    json_t *const bpe = load("bpe.json"), *const spm = load("spm.json");
    json_t *const all = load("special.json");
    const json_t *const texts = json_object_get(all, "texts");
    const char *name;
    json_t *variant;
    unsigned n_bad = 0, n_variants = 0;
    json_object_foreach(json_object_get(all, "variants"), name, variant) {
        const char *const kind = json_string_value(json_object_get(variant, "vocabulary"));
        struct golden_vocab o =
            open_golden(strcmp(kind, "bpe") == 0 ? bpe : spm, json_object_get(all, kind),
                        json_object_get(variant, "keys"));
        n_bad += check_ids(name, o.vocab, TL_ENCODE_PLAIN, texts, json_object_get(variant, "ids"));
        n_bad += check_ids(name, o.vocab, TL_ENCODE_BOS | TL_ENCODE_SPECIAL, texts,
                           json_object_get(variant, "ids_special"));
        close_golden(&o);
        n_variants++;
    }
    assert_int_equal(n_variants, 9);
    assert_int_equal(n_bad, 0);
    json_decref(bpe);
    json_decref(spm);
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_words_as_published),
        cmocka_unit_test(bpe_agrees_with_tokenizers),
        cmocka_unit_test(spm_agrees_with_sentencepiece),
        cmocka_unit_test(special_tokens_agree_with_llama_cpp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
