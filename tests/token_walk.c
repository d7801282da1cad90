/* See token_walk.h. The small vocabularies are written as GGUF with nothing but tl_bytes. */
#include "token_walk.h"
#include "core/token_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* text[from ..] */
static bool is_well_formed(const tl_bytes *text, size_t from) {
    for (size_t i = from; i < text->len;) {
        const unsigned len = tl_utf8_len((const uint8_t *)text->data + i, text->len - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

void token_walk(const tl_vocab *v, tl_str text) {
    const uint32_t n = tl_vocab_n(v);
    TL_ASSERT(tl_vocab_bos(v) == TL_TOKEN_NONE || tl_vocab_bos(v) < n);
    TL_ASSERT(tl_vocab_eos(v) == TL_TOKEN_NONE || tl_vocab_eos(v) < n);
    for (unsigned flags = 0; flags < 4; flags++) {
        tl_ids ids = {0};
        tl_bytes decoded = {0};
        tl_decoder d = {.vocab = v, .first = true, .special = (flags & TL_ENCODE_SPECIAL) != 0};
        tl_err err = tl_vocab_encode(v, text, flags, &ids);
        TL_ASSERT(err == TL_OK || ids.n == 0);
        for (size_t i = 0; i < ids.n && err == TL_OK; i++) {
            TL_ASSERT(ids.data[i] < n);
            const size_t len = decoded.len;
            err = tl_decoder_add(&d, ids.data[i], &decoded);
            TL_ASSERT(is_well_formed(&decoded, len));
        }
        err = err ? err : tl_decoder_end(&d, &decoded);
        TL_ASSERT(err || is_well_formed(&decoded, 0));
        tl_vocab_tidy(v, &decoded);
        TL_ASSERT(is_well_formed(&decoded, 0));
        tl_bytes_free(&decoded);
        tl_ids_free(&ids);
    }
    tl_bytes pieces = {0};
    for (uint32_t id = 0; id < n && pieces.len < 1 << 20; id++) {
        (void)tl_vocab_is_end(v, id);
        (void)tl_vocab_is_control(v, id);
        const tl_str spelling = tl_vocab_spelling(v, id);
        const uint32_t found = tl_vocab_find(v, spelling);
        TL_ASSERT(spelling.len == 0 ? found == TL_TOKEN_NONE
                                    : tl_str_eq(tl_vocab_spelling(v, found), spelling));
        if (tl_vocab_piece(v, id, true, &pieces)) {
            break;
        }
    }
    TL_ASSERT(tl_vocab_piece(v, n, true, &pieces) == TL_OK);
    tl_bytes_free(&pieces);
}

void token_round_trip(const tl_vocab *v, bool is_spm, tl_str text) {
    tl_ids ids = {0};
    tl_bytes spelt = {0}, expected = {0};
    tl_err err = tl_vocab_encode(v, text, TL_ENCODE_PLAIN, &ids);
    for (size_t i = 0; i < ids.n && err == TL_OK; i++) {
        err = tl_vocab_piece(v, ids.data[i], true, &spelt);
    }
    for (size_t i = 0; i < text.len && err == TL_OK;) {
        const bool mark = is_spm && text.len - i >= TL_SPM_SPACE_LEN &&
                          memcmp(text.data + i, TL_SPM_SPACE, TL_SPM_SPACE_LEN) == 0;
        err = tl_bytes_add(&expected, mark ? " " : text.data + i, 1);
        i += mark ? TL_SPM_SPACE_LEN : 1;
    }
    if (err == TL_OK) {
        TL_ASSERT(spelt.len == expected.len);
        TL_ASSERT(expected.len == 0 || memcmp(spelt.data, expected.data, expected.len) == 0);
    }
    tl_bytes_free(&expected);
    tl_bytes_free(&spelt);
    tl_ids_free(&ids);
}

/* ---- writing vocabularies ---- */

struct writer {
    tl_bytes keys; /* owned */
    uint64_t n_keys;
    tl_err err;
};

static void put(struct writer *w, const void *data, size_t n) {
    w->err = w->err ? w->err : tl_bytes_add(&w->keys, data, n);
}

static void put_u32(struct writer *w, uint32_t value) { put(w, &value, sizeof value); }
static void put_u64(struct writer *w, uint64_t value) { put(w, &value, sizeof value); }

static void put_str(struct writer *w, tl_str s) {
    put_u64(w, s.len);
    put(w, s.data, s.len);
}

static void begin_key(struct writer *w, const char *key, tl_meta_type type) {
    put_str(w, tl_str_from(key));
    put_u32(w, type);
    w->n_keys++;
}

static void begin_array(struct writer *w, const char *key, tl_meta_type elem, uint64_t n) {
    begin_key(w, key, TL_META_ARRAY);
    put_u32(w, elem);
    put_u64(w, n);
}

static void string_key(struct writer *w, const char *key, const char *value) {
    begin_key(w, key, TL_META_STR);
    put_str(w, tl_str_from(value));
}

static tl_err end_file(struct writer *w, tl_bytes *file) {
    const uint32_t version = 3;
    const uint64_t n_tensors = 0;
    tl_err err = w->err;
    err = err ? err : tl_bytes_add(file, "GGUF", 4);
    err = err ? err : tl_bytes_add(file, &version, 4);
    err = err ? err : tl_bytes_add(file, &n_tensors, 8);
    err = err ? err : tl_bytes_add(file, &w->n_keys, 8);
    err = err ? err : tl_bytes_add(file, w->keys.data, w->keys.len);
    tl_bytes_free(&w->keys);
    return err;
}

static const struct {
    const char *spelling;
    tl_token_type type;
} ADDED[] = {
    {"<|im_start|>", TL_TOKEN_CONTROL},
    {"<|im_end|>", TL_TOKEN_CONTROL},
    {"<think>", TL_TOKEN_USER},
    {"</think>", TL_TOKEN_USER},
    {"\n\n", TL_TOKEN_USER},
    {"\n\n\n\n", TL_TOKEN_USER},
};
enum { N_ADDED = sizeof ADDED / sizeof *ADDED };

static tl_str spell_byte(unsigned byte, char out[2]) {
    uint32_t code_point = 0;
    while (tl_bpe_byte(code_point) != (int)byte) {
        code_point++;
    }
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return (tl_str){out, 1};
    }
    out[0] = (char)(0xC0 | code_point >> 6);
    out[1] = (char)(0x80 | (code_point & 0x3F));
    return (tl_str){out, 2};
}

static void put_added(struct writer *w) {
    for (size_t i = 0; i < N_ADDED; i++) {
        put_str(w, tl_str_from(ADDED[i].spelling));
    }
}

static void put_added_types(struct writer *w) {
    for (size_t i = 0; i < N_ADDED; i++) {
        put_u32(w, ADDED[i].type);
    }
}

tl_err token_make_bpe(const char *pre, tl_bytes *file) {
    static const char *const MERGES[] = {"h e",
                                         "l l",
                                         "he ll",
                                         "hell o",
                                         "\xC4\xA0 w",
                                         "a a",
                                         "aa aa",
                                         "\xC3\xB0 \xC5\x81",
                                         "\xC4\xA0 \xC4\xA0",
                                         "1 2"};
    enum { N_MERGES = sizeof MERGES / sizeof *MERGES };
    struct writer w = {0};
    string_key(&w, "tokenizer.ggml.model", "gpt2");
    string_key(&w, "tokenizer.ggml.pre", pre);
    begin_array(&w, "tokenizer.ggml.tokens", TL_META_STR, 256 + N_MERGES + N_ADDED);
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelling[2];
        put_str(&w, spell_byte(byte, spelling));
    }
    for (size_t i = 0; i < N_MERGES; i++) {
        char joined[32];
        const size_t left = strcspn(MERGES[i], " ");
        snprintf(joined, sizeof joined, "%.*s%s", (int)left, MERGES[i], MERGES[i] + left + 1);
        put_str(&w, tl_str_from(joined));
    }
    put_added(&w);
    begin_array(&w, "tokenizer.ggml.token_type", TL_META_I32, 256 + N_MERGES + N_ADDED);
    for (size_t i = 0; i < 256 + N_MERGES; i++) {
        put_u32(&w, TL_TOKEN_NORMAL);
    }
    put_added_types(&w);
    begin_array(&w, "tokenizer.ggml.merges", TL_META_STR, N_MERGES);
    for (size_t i = 0; i < N_MERGES; i++) {
        put_str(&w, tl_str_from(MERGES[i]));
    }
    return end_file(&w, file);
}

tl_err token_make_spm(bool add_space, tl_bytes *file) {
    static const char *const PIECES[] = {"\u2581",       "h",  "e",    "l",     "o",
                                         "he",           "ll", "hell", "hello", "\u2581hello",
                                         "\u2581\u2581", "a",  "aa",   "aaaa",  "\u00E9",
                                         "\U0001F999",   "<",  ">"};
    enum { N_PIECES = sizeof PIECES / sizeof *PIECES, N = 3 + 256 + N_PIECES + N_ADDED };
    struct writer w = {0};
    string_key(&w, "tokenizer.ggml.model", "llama");
    begin_key(&w, "tokenizer.ggml.add_space_prefix", TL_META_BOOL);
    put(&w, &add_space, 1);
    begin_array(&w, "tokenizer.ggml.tokens", TL_META_STR, N);
    put_str(&w, tl_str_from("<unk>"));
    put_str(&w, tl_str_from("<s>"));
    put_str(&w, tl_str_from("</s>"));
    for (size_t i = 0; i < N_PIECES; i++) {
        put_str(&w, tl_str_from(PIECES[i]));
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelling[8];
        snprintf(spelling, sizeof spelling, "<0x%02X>", byte);
        put_str(&w, tl_str_from(spelling));
    }
    put_added(&w);
    begin_array(&w, "tokenizer.ggml.token_type", TL_META_I32, N);
    put_u32(&w, TL_TOKEN_UNKNOWN);
    put_u32(&w, TL_TOKEN_CONTROL);
    put_u32(&w, TL_TOKEN_CONTROL);
    for (size_t i = 0; i < N_PIECES + 256; i++) {
        put_u32(&w, i < N_PIECES ? TL_TOKEN_NORMAL : TL_TOKEN_BYTE);
    }
    put_added_types(&w);
    begin_array(&w, "tokenizer.ggml.scores", TL_META_F32, N);
    for (size_t i = 0; i < N; i++) {
        const float score = -(float)i;
        put(&w, &score, sizeof score);
    }
    return end_file(&w, file);
}
