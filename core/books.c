/* Fitted codebooks: a list, and its JSON. Invariant: every number that was let in is finite and
 * factors are within their bounds, so that whoever reads them need not look again; every length
 * from a file is compared with what the sizes it states ask for, before anything of it is decoded.
 */
#include "books.h"

#include "backend.h"
#include "model.h"
#include "policy.h"
#include "policy_file.h"

#include <stdlib.h>
#include <string.h>

enum { BOOKS_VERSION = 1, KV_HEADS_MAX = 1 << 16 };

struct book {
    tl_side side;
    tl_codec codec;
    uint32_t first, last;
    uint16_t *entries; /* owned */
};

struct tl_books {
    uint32_t n_layers, n_kv_heads, head_dim;
    float **smooth;    /* owned, n_layers of them, each owned or NULL */
    struct book *list; /* owned */
    size_t n, cap;
};

static const char *const side_names[TL_SIDE_COUNT] = {"keys", "values"};

static uint64_t book_numbers(tl_codec codec) {
    return (uint64_t)tl_vq_entries(codec) * tl_vq_dim(codec);
}

static uint64_t smooth_numbers(const tl_books *b) { return (uint64_t)b->n_kv_heads * b->head_dim; }

tl_err tl_books_open(tl_books **out, uint32_t n_layers, uint32_t n_kv_heads, uint32_t head_dim) {
    TL_ASSERT(n_layers > 0 && n_layers <= TL_LAYERS_MAX && n_kv_heads > 0 && head_dim > 0);
    tl_books *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return TL_ERR_MEMORY;
    }
    b->n_layers = n_layers;
    b->n_kv_heads = n_kv_heads;
    b->head_dim = head_dim;
    b->smooth = calloc(n_layers, sizeof *b->smooth);
    if (b->smooth == NULL) {
        tl_books_close(&b);
        return TL_ERR_MEMORY;
    }
    *out = b;
    return TL_OK;
}

void tl_books_close(tl_books **books) {
    tl_books *const b = *books;
    if (b == NULL) {
        return;
    }
    for (uint32_t il = 0; b->smooth != NULL && il < b->n_layers; il++) {
        free(b->smooth[il]);
    }
    for (size_t i = 0; i < b->n; i++) {
        free(b->list[i].entries);
    }
    free(b->smooth);
    free(b->list);
    free(b);
    *books = NULL;
}

tl_err tl_books_add(tl_books *b, tl_side side, tl_codec codec, uint32_t first, uint32_t last,
                    const uint16_t *book) {
    TL_ASSERT(first <= last && last < b->n_layers);
    if (b->n == b->cap) {
        const size_t cap = b->cap == 0 ? 16 : 2 * b->cap;
        struct book *const list = realloc(b->list, cap * sizeof *list);
        if (list == NULL) {
            return TL_ERR_MEMORY;
        }
        b->list = list;
        b->cap = cap;
    }
    const size_t bytes = (size_t)book_numbers(codec) * sizeof *book;
    uint16_t *const entries = malloc(bytes);
    if (entries == NULL) {
        return TL_ERR_MEMORY;
    }
    memcpy(entries, book, bytes);
    b->list[b->n++] = (struct book){side, codec, first, last, entries};
    return TL_OK;
}

const uint16_t *tl_books_find(const tl_books *b, tl_side side, tl_codec codec, uint32_t il) {
    for (size_t i = b->n; i-- > 0;) {
        const struct book *const book = &b->list[i];
        if (book->side == side && book->codec == codec && il >= book->first && il <= book->last) {
            return book->entries;
        }
    }
    return NULL;
}

tl_err tl_books_set_smooth(tl_books *b, uint32_t il, const float *smooth) {
    TL_ASSERT(il < b->n_layers);
    const size_t bytes = (size_t)smooth_numbers(b) * sizeof *smooth;
    float *const copy = malloc(bytes);
    if (copy == NULL) {
        return TL_ERR_MEMORY;
    }
    memcpy(copy, smooth, bytes);
    free(b->smooth[il]);
    b->smooth[il] = copy;
    return TL_OK;
}

const float *tl_books_smooth(const tl_books *b, uint32_t il) { return b->smooth[il]; }

bool tl_books_fit(const tl_books *b, uint32_t n_layers, uint32_t n_kv_heads, uint32_t head_dim) {
    return b->n_layers == n_layers && b->n_kv_heads == n_kv_heads && b->head_dim == head_dim;
}

static tl_err copy_all(tl_books *to, const tl_books *from) {
    for (uint32_t il = 0; il < from->n_layers; il++) {
        if (from->smooth[il] != NULL) {
            TL_TRY(tl_books_set_smooth(to, il, from->smooth[il]));
        }
    }
    for (size_t i = 0; i < from->n; i++) {
        const struct book *const book = &from->list[i];
        TL_TRY(tl_books_add(to, book->side, book->codec, book->first, book->last, book->entries));
    }
    return TL_OK;
}

tl_err tl_books_copy(tl_books **out, const tl_books *from) {
    tl_books *b = NULL;
    TL_TRY(tl_books_open(&b, from->n_layers, from->n_kv_heads, from->head_dim));
    const tl_err err = copy_all(b, from);
    if (err) {
        tl_books_close(&b);
        return err;
    }
    *out = b;
    return TL_OK;
}

/* ---- base64 ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *spell(const uint8_t *bytes, size_t n) {
    const size_t n_chars = (n + 2) / 3 * 4;
    char *const text = malloc(n_chars);
    if (text == NULL) {
        return NULL;
    }
    char *at = text;
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t left = (uint32_t)(n - i < 3 ? n - i : 3);
        uint32_t bits = 0;
        for (uint32_t j = 0; j < 3; j++) {
            bits = bits << 8 | (j < left ? bytes[i + j] : 0u);
        }
        for (uint32_t j = 0; j < 4; j++) {
            *at++ = j <= left ? digits[bits >> (18 - 6 * j) & 63] : '=';
        }
    }
    json_t *const out = json_stringn(text, n_chars);
    free(text);
    return out;
}

/* 0 .. 63, or 64 where c is no digit. */
static uint32_t digit_of(char c) {
    const char *const at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (uint32_t)(at - digits) : 64;
}

/* Exactly n bytes; false where the text says anything else. */
static bool unspell(const char *text, size_t n_chars, uint8_t *bytes, size_t n) {
    if (n_chars != (n + 2) / 3 * 4) {
        return false;
    }
    for (size_t i = 0; i < n; i += 3, text += 4) {
        const uint32_t left = (uint32_t)(n - i < 3 ? n - i : 3);
        uint32_t bits = 0;
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t digit = j <= left ? digit_of(text[j]) : text[j] == '=' ? 0 : 64;
            if (digit == 64) {
                return false;
            }
            bits = bits << 6 | digit;
        }
        if ((left < 3 && (bits & 0xffu) != 0) || (left < 2 && (bits & 0xff00u) != 0)) {
            return false; /* bits that belong to no byte */
        }
        for (uint32_t j = 0; j < left; j++) {
            bytes[i + j] = (uint8_t)(bits >> (16 - 8 * j) & 0xffu);
        }
    }
    return true;
}

/* ---- writing ---- */

static json_t *json_smooth(const float *smooth, size_t n) {
    uint8_t *const bytes = malloc(4 * n);
    json_t *out = NULL;
    for (size_t i = 0; bytes != NULL && i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &smooth[i], sizeof bits);
        for (uint32_t j = 0; j < 4; j++) {
            bytes[4 * i + j] = (uint8_t)(bits >> (8 * j) & 0xffu);
        }
    }
    out = bytes != NULL ? spell(bytes, 4 * n) : NULL;
    free(bytes);
    return out;
}

static json_t *json_book(const struct book *book) {
    const size_t n = (size_t)book_numbers(book->codec);
    uint8_t *const bytes = malloc(2 * n);
    for (size_t i = 0; bytes != NULL && i < n; i++) {
        bytes[2 * i] = (uint8_t)(book->entries[i] & 0xffu);
        bytes[2 * i + 1] = (uint8_t)(book->entries[i] >> 8);
    }
    json_t *const out = bytes != NULL ? spell(bytes, 2 * n) : NULL;
    free(bytes);
    return out;
}

static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0; /* which takes the value, NULL fails */
}

static bool put_books(const tl_books *b, json_t *sides[TL_SIDE_COUNT]) {
    for (size_t i = 0; i < b->n; i++) {
        const struct book *const book = &b->list[i];
        char range[32];
        tl_layer_range_spell(book->first, book->last, range, sizeof range);
        json_t *layers = json_object_get(sides[book->side], range);
        if (layers == NULL) {
            layers = json_object();
            if (!put(sides[book->side], range, layers)) {
                return false;
            }
        }
        if (!put(layers, tl_codec_names[book->codec], json_book(book))) {
            return false;
        }
    }
    return true;
}

json_t *tl_books_json(const tl_books *b) {
    json_t *const root = json_object(), *const smooth = json_object();
    json_t *sides[TL_SIDE_COUNT] = {json_object(), json_object()};
    bool ok = put(root, "version", json_integer(BOOKS_VERSION)) &&
              put(root, "kv_heads", json_integer(b->n_kv_heads)) &&
              put(root, "head_dim", json_integer(b->head_dim));
    for (uint32_t il = 0; ok && il < b->n_layers; il++) {
        char layer[16];
        tl_layer_range_spell(il, il, layer, sizeof layer);
        ok = b->smooth[il] == NULL ||
             put(smooth, layer, json_smooth(b->smooth[il], (size_t)smooth_numbers(b)));
    }
    ok = ok && put_books(b, sides);
    const bool kept[] = {put(root, "smooth", smooth), put(root, side_names[0], sides[0]),
                         put(root, side_names[1], sides[1])};
    if (!ok || !kept[0] || !kept[1] || !kept[2]) {
        json_decref(root);
        return NULL;
    }
    return root;
}

/* ---- reading ---- */

struct reader {
    const char *name;
    const tl_log *log;
    tl_books *books;
};

static tl_err bad(const struct reader *r, const char *what, const char *which) {
    return tl_fail(r->log, TL_ERR_FORMAT, "%s: \"codebooks\": %s '%s'", r->name, what, which);
}

/* The n bytes that a text stands for; the caller frees them. */
static tl_err read_bytes(const struct reader *r, const json_t *text, size_t n, const char *which,
                         uint8_t **out) {
    uint8_t *const bytes = malloc(n);
    if (bytes == NULL) {
        return TL_ERR_MEMORY;
    }
    if (!json_is_string(text) ||
        !unspell(json_string_value(text), json_string_length(text), bytes, n)) {
        free(bytes);
        return bad(r, "not as much base64 as there should be:", which);
    }
    *out = bytes;
    return TL_OK;
}

static tl_err add_smooth(const struct reader *r, uint32_t il, const uint8_t *bytes, size_t n,
                         const char *which) {
    float *const smooth = malloc(n * sizeof *smooth);
    if (smooth == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = TL_OK;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)bytes[4 * i] | (uint32_t)bytes[4 * i + 1] << 8 |
                              (uint32_t)bytes[4 * i + 2] << 16 | (uint32_t)bytes[4 * i + 3] << 24;
        memcpy(&smooth[i], &bits, sizeof bits);
        if (!(smooth[i] >= TL_SMOOTH_LEAST && smooth[i] <= TL_SMOOTH_MOST)) {
            err = bad(r, "a smoothing factor is out of range: layer", which);
            break;
        }
    }
    err = err ? err : tl_books_set_smooth(r->books, il, smooth);
    free(smooth);
    return err;
}

static tl_err read_smooth(const struct reader *r, json_t *layers) {
    const char *key;
    json_t *value;
    json_object_foreach(layers, key, value) {
        uint32_t first, last;
        if (!tl_layer_range(key, r->books->n_layers, &first, &last) || first != last) {
            return bad(r, "\"smooth\": the model has no layer", key);
        }
        const size_t n = (size_t)smooth_numbers(r->books);
        uint8_t *bytes = NULL;
        TL_TRY(read_bytes(r, value, 4 * n, key, &bytes));
        const tl_err err = add_smooth(r, first, bytes, n, key);
        free(bytes);
        TL_TRY(err);
    }
    return TL_OK;
}

static tl_err add_book(const struct reader *r, tl_side side, tl_codec codec, uint32_t first,
                       uint32_t last, const uint8_t *bytes) {
    const size_t n = (size_t)book_numbers(codec);
    uint16_t *const book = malloc(n * sizeof *book);
    if (book == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = TL_OK;
    for (size_t i = 0; i < n && !err; i++) {
        book[i] = (uint16_t)((unsigned)bytes[2 * i] | (unsigned)bytes[2 * i + 1] << 8);
        const bool finite = (book[i] & 0x7c00u) != 0x7c00u;
        err = finite ? TL_OK : bad(r, "an entry is not finite:", tl_codec_names[codec]);
    }
    err = err ? err : tl_books_add(r->books, side, codec, first, last, book);
    free(book);
    return err;
}

/* The codec of that name; false where there is none or it has no codebook. */
static bool find_codec(const char *name, tl_codec *out) {
    for (int i = 0; tl_codec_names[i] != NULL; i++) {
        if (strcmp(tl_codec_names[i], name) == 0) {
            *out = (tl_codec)i;
            return tl_vq_is(*out);
        }
    }
    return false;
}

static tl_err read_codecs(const struct reader *r, tl_side side, uint32_t first, uint32_t last,
                          json_t *codecs) {
    const char *key;
    json_t *value;
    json_object_foreach(codecs, key, value) {
        tl_codec codec;
        if (!find_codec(key, &codec)) {
            return bad(r, "no codec with a codebook:", key);
        }
        uint8_t *bytes = NULL;
        TL_TRY(read_bytes(r, value, 2 * (size_t)book_numbers(codec), key, &bytes));
        const tl_err err = add_book(r, side, codec, first, last, bytes);
        free(bytes);
        TL_TRY(err);
    }
    return TL_OK;
}

static tl_err read_side(const struct reader *r, tl_side side, json_t *ranges) {
    const char *key;
    json_t *value;
    json_object_foreach(ranges, key, value) {
        uint32_t first, last;
        if (!tl_layer_range(key, r->books->n_layers, &first, &last) || !json_is_object(value)) {
            return bad(r, "no layers of the model with their codebooks:", key);
        }
        TL_TRY(read_codecs(r, side, first, last, value));
    }
    return TL_OK;
}

static tl_err read_parts(const struct reader *r, json_t *root) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        const bool number = strcmp(key, "version") == 0 || strcmp(key, "kv_heads") == 0 ||
                            strcmp(key, "head_dim") == 0;
        if (number) {
            continue;
        }
        if (!json_is_object(value)) {
            return bad(r, "not an object:", key);
        }
        if (strcmp(key, "smooth") == 0) {
            TL_TRY(read_smooth(r, value));
        } else if (strcmp(key, side_names[TL_SIDE_K]) == 0) {
            TL_TRY(read_side(r, TL_SIDE_K, value));
        } else if (strcmp(key, side_names[TL_SIDE_V]) == 0) {
            TL_TRY(read_side(r, TL_SIDE_V, value));
        } else {
            return bad(r, "unknown key", key);
        }
    }
    return TL_OK;
}

/* A whole number from 1 to most, else 0. */
static uint32_t number_of(json_t *root, const char *key, int64_t most) {
    const json_t *const value = json_object_get(root, key);
    const int64_t n = json_is_integer(value) ? (int64_t)json_integer_value(value) : 0;
    return n >= 1 && n <= most ? (uint32_t)n : 0;
}

tl_err tl_books_read(tl_books **out, json_t *root, uint32_t n_layers, const char *name,
                     const tl_log *log) {
    struct reader r = {.name = name, .log = log};
    if (!json_is_object(root) || number_of(root, "version", INT32_MAX) != BOOKS_VERSION) {
        return bad(&r, "the version must be", "1");
    }
    const uint32_t heads = number_of(root, "kv_heads", KV_HEADS_MAX);
    const uint32_t d = number_of(root, "head_dim", TL_HEAD_DIM_MAX);
    if (heads == 0 || d == 0) {
        return bad(&r, "kv_heads and head_dim must be", "sizes of a model");
    }
    TL_TRY(tl_books_open(&r.books, n_layers, heads, d));
    const tl_err err = read_parts(&r, root);
    if (err) {
        tl_books_close(&r.books);
        return err;
    }
    *out = r.books;
    return TL_OK;
}
