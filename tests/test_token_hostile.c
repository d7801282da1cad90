/* Tokenizers given anything: texts of any bytes, long runs, vocabularies that make no sense, no
 * memory. Vocabularies are built in memory; expected values follow from the rules by hand. */
#include "core/token.h"
#include "gguf_writer.h"
#include "heap.h"
#include "support.h"
#include "token_walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct opened {
    tl_bytes file;
    tl_weights *weights;
    tl_vocab *vocab;
};

/* Takes the file over. */
static struct opened open_bytes(tl_bytes file, const tl_log *log, tl_err expected) {
    struct opened o = {.file = file};
    assert_int_equal(tl_weights_open_memory(&o.weights, file.data, file.len, "test", log), TL_OK);
    assert_int_equal(tl_vocab_open(&o.vocab, o.weights, log), expected);
    return o;
}

static void close_bytes(struct opened *o) {
    tl_vocab_close(&o->vocab);
    tl_weights_close(&o->weights);
    tl_bytes_free(&o->file);
}

static struct opened open_bpe(const char *pre) {
    tl_bytes file = {0};
    assert_int_equal(token_make_bpe(pre, &file), TL_OK);
    return open_bytes(file, NULL, TL_OK);
}

static struct opened open_spm(bool add_space) {
    tl_bytes file = {0};
    assert_int_equal(token_make_spm(add_space, &file), TL_OK);
    return open_bytes(file, NULL, TL_OK);
}

static const char *const PRES[] = {
    "default",      "gpt-2",       "starcoder",      "llama-bpe", "qwen2",    "qwen35",
    "deepseek-llm", "deepseek-v3", "falcon",         "bloom",     "viking",   "tekken",
    "gpt-4o",       "chameleon",   "tiny_aya",       "kimi-k2",   "superbpe", "bailingmoe",
    "seed-coder",   "exaone-moe",  "deepseek-coder", "afmoe",     "youtu",    "jais-2",
    "minicpm5",     "ufakzeka",
};
enum { N_PRES = sizeof PRES / sizeof *PRES };

/* Bytes of one kind: all, ASCII, pieces of UTF-8, few different ones. */
static size_t random_text(struct tl_rng *rng, char *text, size_t cap) {
    static const char *const PARTS[] = {
        "hello",      " ",          "  ",   "\n",           "\n\n",       "\xC3\xA9", "\u2581",
        "aaaa",       "\U0001F999", "'s",   "12",           "<|im_end|>", "<think>",  "<0x41>",
        "\xF0\x9F",   "\xA6",       "\xFF", "\xED\xA0\x80", "\xC0\x80",   "\u180E",   "\u3000",
        "\U00031350", "\t",         "\r\n", "Ab",           "AB",         "\u4E2D",   "!"};
    const uint64_t kind = rng_below(rng, 4);
    size_t n = 0;
    const size_t want = (size_t)rng_below(rng, cap - 16);
    while (n < want) {
        if (kind == 3) {
            const char *const part = PARTS[rng_below(rng, sizeof PARTS / sizeof *PARTS)];
            memcpy(text + n, part, strlen(part));
            n += strlen(part);
        } else {
            text[n++] = (char)(kind == 0   ? rng_below(rng, 256)
                               : kind == 1 ? 32 + rng_below(rng, 96)
                                           : rng_below(rng, 5));
        }
    }
    return n;
}

/* Goal: with a token for every byte nothing is lost, whatever the text; a fresh buffer for each so
 * that sanitizers see its end. */
static void any_bytes_come_back(void **state) {
    (void)state;
    struct tl_rng rng = {7};
    char text[400];
    for (size_t p = 0; p <= N_PRES; p++) {
        struct opened o = p < N_PRES ? open_bpe(PRES[p]) : open_spm(false);
        for (unsigned i = 0; i < 60; i++) {
            const size_t n = random_text(&rng, text, sizeof text);
            char *const copy = malloc(n + 1);
            assert_non_null(copy);
            memcpy(copy, text, n);
            token_round_trip(o.vocab, p == N_PRES, (tl_str){copy, n});
            token_walk(o.vocab, (tl_str){copy, n});
            free(copy);
        }
        close_bytes(&o);
    }
}

/* Goal: time grows with the text, not with its square, for every pre-tokenizer. Measured here
 * (2026-11, 256 KiB, two busy cores): at most 0.21 s each; the square would take minutes. */
static void long_runs_are_no_trap(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    static const struct {
        const char *part, *last;
    } RUNS[] = {{"a", ""},  {" ", ""},          {" ", "x"},     {" ", "1"},     {"\n", "x"},
                {"1", ""},  {"1", "x"},         {"A", ""},      {"A", "1"},     {"!", ""},
                {"a ", ""}, {"\U0001F999", ""}, {"\u0301", ""}, {"\u4E2D", ""}, {"'", ""},
                {"<|", ""}, {"\xFF", ""},       {" \n", "x"},   {"aA", ""},     {"a1", ""}};
    char *const text = malloc(N + 8);
    assert_non_null(text);
    for (size_t p = 0; p <= N_PRES; p++) {
        struct opened o = p < N_PRES ? open_bpe(PRES[p]) : open_spm(false);
        for (size_t r = 0; r < sizeof RUNS / sizeof *RUNS; r++) {
            size_t n = 0;
            for (const size_t len = strlen(RUNS[r].part); n + len <= N; n += len) {
                memcpy(text + n, RUNS[r].part, len);
            }
            memcpy(text + n, RUNS[r].last, strlen(RUNS[r].last));
            n += strlen(RUNS[r].last);
            const uint64_t begin = tl_now_ns();
            tl_ids ids = {0};
            assert_int_equal(tl_vocab_encode(o.vocab, (tl_str){text, n}, 0, &ids), TL_OK);
            tl_ids_free(&ids);
            const double seconds = (double)(tl_now_ns() - begin) * 1e-9;
            if (seconds > 10) {
                fail_msg("%s: 256 KiB of '%s' and '%s' took %.1f s", p < N_PRES ? PRES[p] : "spm",
                         RUNS[r].part, RUNS[r].last, seconds);
            }
        }
        close_bytes(&o);
    }
    free(text);
}

static void expect_text(const tl_vocab *v, const uint32_t *ids, size_t n, bool special,
                        const char *expected) {
    tl_decoder d = {.vocab = v, .first = true, .special = special};
    tl_bytes text = {0};
    assert_int_equal(tl_bytes_add(&text, "", 0), TL_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tl_decoder_add(&d, ids[i], &text), TL_OK);
    }
    assert_int_equal(tl_decoder_end(&d, &text), TL_OK);
    assert_string_equal(text.data, expected);
    tl_bytes_free(&text);
}

/* Goal: a code point over several tokens appears when it is whole; what cannot become one is
 * replaced, one U+FFFD for each longest beginning, as the Unicode standard recommends (table 3-8
 * of chapter 3). Ids below 256 are bytes here. */
static void decodes_a_stream(void **state) {
    (void)state;
    struct opened o = open_bpe("gpt-2");
    const tl_vocab *const v = o.vocab;
    tl_decoder d = {.vocab = v};
    tl_bytes text = {0};
    static const uint32_t LLAMA[] = {0xF0, 0x9F, 0xA6, 0x99};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(text.len, 0);
        assert_int_equal(tl_decoder_add(&d, LLAMA[i], &text), TL_OK);
    }
    assert_string_equal(text.data, "\U0001F999");
    assert_int_equal(tl_decoder_end(&d, &text), TL_OK);
    assert_int_equal(text.len, 4);
    tl_bytes_free(&text);

    static const uint32_t TABLE[] = {0x61, 0xF1, 0x80, 0x80, 0xE1, 0x80, 0xC2,
                                     0x62, 0x80, 0x63, 0x80, 0xBF, 0x64};
    expect_text(v, TABLE, 13, false, "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
    static const uint32_t SURROGATE[] = {0xED, 0xA0, 0x80, 0xF4, 0x91, 0x41};
    expect_text(v, SURROGATE, 6, false, "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
    static const uint32_t CUT[] = {0x41, 0xE2, 0x96};
    expect_text(v, CUT, 3, false, "A\uFFFD");

    /* Control tokens are spelt only where asked; ids that are no token are nothing. */
    const uint32_t end = tl_vocab_find(v, tl_str_from("<|im_end|>"));
    const uint32_t think = tl_vocab_find(v, tl_str_from("<think>"));
    assert_true(tl_vocab_is_end(v, end) && tl_vocab_is_control(v, end));
    assert_false(tl_vocab_is_end(v, think) || tl_vocab_is_control(v, think));
    const uint32_t mixed[] = {think, 0x41, end, 0x42, 9999, TL_TOKEN_NONE};
    expect_text(v, mixed, 6, false, "<think>AB");
    expect_text(v, mixed, 6, true, "<think>A<|im_end|>B");
    close_bytes(&o);
}

/* Goal: SentencePiece's space goes with the first visible token only. */
static void strips_the_first_space(void **state) {
    (void)state;
    struct opened o = open_spm(true);
    const uint32_t hello = tl_vocab_find(o.vocab, tl_str_from("\u2581hello"));
    const uint32_t bos = tl_vocab_bos(o.vocab);
    assert_int_equal(bos, 1);
    const uint32_t ids[] = {bos, hello, hello};
    expect_text(o.vocab, ids, 3, false, "hello hello");
    expect_text(o.vocab, ids, 3, true, "<s> hello hello");
    expect_text(o.vocab, ids + 1, 2, true, "hello hello");
    tl_bytes piece = {0};
    assert_int_equal(tl_vocab_piece(o.vocab, hello, false, &piece), TL_OK);
    assert_string_equal(piece.data, " hello");
    tl_bytes_free(&piece);
    close_bytes(&o);
}

/* Goal: the clean-up of whole texts, by the rules of Hugging Face's clean_up_tokenization that
 * llama.cpp has too; only for families that ask for it. */
static void tidies_whole_texts(void **state) {
    (void)state;
    static const struct {
        const char *before, *after;
    } CASES[] = {{"a , b . c ! d ?", "a, b. c! d?"},
                 {"it 's I 'm they 've we 're", "it's I'm they've we're"},
                 {"do n't I 'd we 'll", "do n't I 'd we 'll"},
                 {"a ' b ' c", "a'b'c"},
                 {"a  .", "a ."},
                 {"", ""},
                 {" .", "."},
                 {" '", " '"}};
    struct opened gpt2 = open_bpe("gpt-2"), qwen2 = open_bpe("qwen2");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        tl_bytes text = {0};
        assert_int_equal(tl_bytes_add_str(&text, CASES[i].before), TL_OK);
        tl_vocab_tidy(qwen2.vocab, &text);
        assert_string_equal(text.data, CASES[i].before);
        tl_vocab_tidy(gpt2.vocab, &text);
        assert_string_equal(text.data, CASES[i].after);
        tl_bytes_free(&text);
    }
    close_bytes(&gpt2);
    close_bytes(&qwen2);
}

static void refuses(struct gguf_writer *g, tl_err expected, const char *word) {
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    struct opened o = open_bytes(gguf_end(g), &log, expected);
    assert_null(o.vocab);
    assert_int_equal(kept.n_errors, 1);
    if (strstr(kept.sentence, word) == NULL) {
        fail_msg("'%s' does not name '%s'", kept.sentence, word);
    }
    close_bytes(&o);
}

/* Goal: what is damaged is refused, with a sentence that names the key. */
static void refuses_damaged_vocabularies(void **state) {
    (void)state;
    static const char *const TOKENS[] = {"a", "b", "ab"};
    static const float SCORES[] = {0, -1};
    static const int32_t TYPES[] = {1, 1};
    struct gguf_writer g;
    gguf_begin(&g);
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.model");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "bert");
    refuses(&g, TL_ERR_UNSUPPORTED, "gpt2");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "llama");
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.tokens");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "llama");
    gguf_i32s(&g, "tokenizer.ggml.tokens", TYPES, 2);
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.tokens");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "llama");
    gguf_strs(&g, "tokenizer.ggml.tokens", TOKENS, 0);
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.tokens");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "llama");
    gguf_strs(&g, "tokenizer.ggml.tokens", TOKENS, 3);
    gguf_f32s(&g, "tokenizer.ggml.scores", SCORES, 2);
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.scores");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "llama");
    gguf_strs(&g, "tokenizer.ggml.tokens", TOKENS, 3);
    gguf_i32s(&g, "tokenizer.ggml.token_type", TYPES, 2);
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.token_type");
    gguf_begin(&g);
    gguf_str(&g, "tokenizer.ggml.model", "gpt2");
    gguf_strs(&g, "tokenizer.ggml.tokens", TOKENS, 3);
    refuses(&g, TL_ERR_FORMAT, "tokenizer.ggml.merges");
}

/* Goal: what is only odd opens, and nothing goes out of range. */
static void bears_odd_vocabularies(void **state) {
    (void)state;
    static const tl_str TOKENS[] = {{"", 0},     {"a", 1},    {"a", 1},      {"ab", 2},
                                    {"a\0b", 3}, {"\xFF", 1}, {"<0xZZ>", 6}, {"<0x", 3},
                                    {" ", 1},    {"ab a", 4}, {"b", 1},      {"<s>", 3}};
    static const int32_t TYPES[] = {4, 1, 4, 3, 4, 2, 6, 6, 77, -5, 1, 0};
    static const float SCORES[] = {
        0, -1, (float)INFINITY, (float)-INFINITY, (float)NAN, 5, 0, 0, 0, 0, 0, -0.0f};
    static const char *const MERGES[] = {"", " ", "a", "a b", "a b", "b  a", "ab a", "x y", " a b"};
    for (unsigned kind = 0; kind < 2; kind++) {
        struct gguf_writer g;
        gguf_begin(&g);
        gguf_str(&g, "tokenizer.ggml.model", kind == 0 ? "gpt2" : "llama");
        gguf_str(&g, "tokenizer.ggml.pre", "no such thing");
        gguf_tl_strs(&g, "tokenizer.ggml.tokens", TOKENS, 12);
        gguf_i32s(&g, "tokenizer.ggml.token_type", TYPES, 12);
        gguf_f32s(&g, "tokenizer.ggml.scores", SCORES, 12);
        gguf_strs(&g, "tokenizer.ggml.merges", MERGES, 9);
        gguf_u32(&g, "tokenizer.ggml.bos_token_id", 12);
        gguf_u32(&g, "tokenizer.ggml.eos_token_id", UINT32_MAX);
        gguf_u32(&g, "tokenizer.ggml.unknown_token_id", 1000000);
        gguf_bool(&g, "tokenizer.ggml.add_bos_token", true);
        gguf_bool(&g, "tokenizer.ggml.add_eos_token", true);
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        struct opened o = open_bytes(gguf_end(&g), &log, TL_OK);
        assert_true(kept.n_warnings > 0);
        assert_int_equal(tl_vocab_n(o.vocab), 12);
        static const tl_str TEXTS[] = {{"", 0},         {"a", 1},     {"aab a\0b", 7},
                                       {"\xFF\xFE", 2}, {"<s>ab", 5}, {"abababab", 8},
                                       {"\0", 1},       {"  ", 2}};
        for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
            token_walk(o.vocab, TEXTS[i]);
        }
        close_bytes(&o);
    }
}

/* Goal: an unknown pre-tokenizer is a warning with its name, and works as "default". */
static void warns_of_unknown_pre_tokenizers(void **state) {
    (void)state;
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_bytes file = {0};
    assert_int_equal(token_make_bpe("tomorrow-v9", &file), TL_OK);
    struct opened o = open_bytes(file, &log, TL_OK);
    assert_int_equal(kept.n_warnings, 1);
    assert_non_null(strstr(kept.sentence, "tomorrow-v9"));
    token_round_trip(o.vocab, false, tl_str_from("hello, world 123!"));
    close_bytes(&o);
}

/* Goal: without memory at any point, open and encode say so, leak nothing and change nothing. */
static void survives_without_memory(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        tl_bytes file = {0};
        assert_int_equal(kind == 0 ? token_make_bpe("qwen2", &file) : token_make_spm(true, &file),
                         TL_OK);
        tl_weights *w = NULL;
        assert_int_equal(tl_weights_open_memory(&w, file.data, file.len, "test", NULL), TL_OK);
        const tl_str text = tl_str_from("hello <think> \xFF hello hello hello\n\n\n\n <|im_end|>");
        tl_err err = TL_ERR_MEMORY;
        for (uint64_t fail_at = 1; err == TL_ERR_MEMORY; fail_at++) {
            tl_vocab *v = NULL;
            tl_ids ids = {0};
            heap_watch(fail_at);
            err = tl_vocab_open(&v, w, NULL);
            if (err == TL_OK) {
                err = tl_vocab_encode(v, text, TL_ENCODE_SPECIAL, &ids);
                assert_true(err == TL_OK || ids.n == 0);
            } else {
                assert_null(v);
            }
            tl_ids_free(&ids);
            tl_vocab_close(&v);
            assert_int_equal(heap_unwatch().n_live, 0);
            assert_true(err == TL_OK || err == TL_ERR_MEMORY);
        }
        tl_weights_close(&w);
        tl_bytes_free(&file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(long_runs_are_no_trap),
        cmocka_unit_test(decodes_a_stream),
        cmocka_unit_test(strips_the_first_space),
        cmocka_unit_test(tidies_whole_texts),
        cmocka_unit_test(refuses_damaged_vocabularies),
        cmocka_unit_test(bears_odd_vocabularies),
        cmocka_unit_test(warns_of_unknown_pre_tokenizers),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
