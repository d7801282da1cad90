/* Finding added tokens in a text: user-defined ones always, control tokens where asked for.
 *
 * The longest token goes first over the whole text, then the next shorter ones over what is left
 * between its matches, as llama.cpp does; so a long token wins over a short one that starts before
 * it. To make that cheap although vocabularies may have thousands of such tokens, one scan collects
 * the places whose first two bytes open any of them (in most texts: few or none), and only these
 * are looked at, once for each length there is. */
#include "token_priv.h"

#include <stdlib.h>

enum {
    SPECIAL_LEN_MAX = 4096, /* longer tokens are not looked for */
    OPENING_BITS = 1 << 16,
};

static unsigned opening_of(const char *p) { return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1]; }

static bool has_opening(const tl_vocab *v, unsigned opening) {
    return (v->openings[opening / 64] >> opening % 64 & 1) != 0;
}

static bool is_special(const struct tl_token *token, bool control) {
    return token->type == TL_TOKEN_USER ||
           (control && (token->type == TL_TOKEN_CONTROL || token->type == TL_TOKEN_UNKNOWN));
}

static void add_opening(tl_vocab *v, tl_str spelling) {
    const unsigned first = (unsigned)(uint8_t)spelling.data[0] << 8;
    for (unsigned second = 0; second < 256; second++) {
        const unsigned opening = first | second;
        if (spelling.len == 1 || opening == opening_of(spelling.data)) {
            v->openings[opening / 64] |= UINT64_C(1) << opening % 64;
        }
    }
}

tl_err tl_special_open(tl_vocab *v) {
    v->openings = calloc(OPENING_BITS / 64, sizeof *v->openings);
    bool *const has_length = calloc(SPECIAL_LEN_MAX + 1, sizeof *has_length);
    v->special_lengths = calloc(SPECIAL_LEN_MAX, sizeof *v->special_lengths);
    if (v->openings == NULL || has_length == NULL || v->special_lengths == NULL) {
        free(has_length);
        return TL_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const struct tl_token *const token = &v->tokens[i];
        const size_t len = token->spelling.len;
        if (len > 0 && len <= SPECIAL_LEN_MAX && is_special(token, true)) {
            has_length[len] = true;
            add_opening(v, token->spelling);
        }
    }
    for (uint32_t len = SPECIAL_LEN_MAX; len > 0; len--) {
        if (has_length[len]) {
            v->special_lengths[v->n_special_lengths++] = len;
        }
    }
    free(has_length);
    return TL_OK;
}

static tl_err add_span(struct tl_spans *spans, struct tl_span span) {
    if (spans->n == spans->cap) {
        const size_t cap = spans->cap > 0 ? 2 * spans->cap : 16;
        struct tl_span *const data = realloc(spans->data, cap * sizeof *data);
        if (data == NULL) {
            return TL_ERR_MEMORY;
        }
        spans->data = data;
        spans->cap = cap;
    }
    spans->data[spans->n++] = span;
    return TL_OK;
}

/* The C locale's isspace. */
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Puts the text [at, end) of one span, cut at the tokens of length len found at the places
 * first .. last-1, into *out. */
static tl_err cut_span(const tl_vocab *v, tl_str text, bool control, uint32_t len,
                       struct tl_span span, const uint32_t *first, const uint32_t *last,
                       struct tl_spans *out) {
    uint32_t at = span.at;
    const uint32_t end = span.at + span.len;
    for (const uint32_t *place = first; place < last; place++) {
        if (*place < at || len > end - *place) {
            continue;
        }
        const uint32_t id = tl_vocab_find(v, (tl_str){text.data + *place, len});
        if (id == TL_TOKEN_NONE || !is_special(&v->tokens[id], control)) {
            continue;
        }
        uint32_t before = *place;
        if ((v->tokens[id].flags & TL_TOKEN_STRIPS_LEFT) != 0) {
            while (before > at && is_space(text.data[before - 1])) {
                before--;
            }
        }
        if (before > at) {
            TL_TRY(add_span(out, (struct tl_span){at, before - at, TL_TOKEN_NONE}));
        }
        TL_TRY(add_span(out, (struct tl_span){*place, len, id}));
        at = *place + len;
        if ((v->tokens[id].flags & TL_TOKEN_STRIPS_RIGHT) != 0) {
            while (at < end && is_space(text.data[at])) {
                at++;
            }
        }
    }
    return at < end ? add_span(out, (struct tl_span){at, end - at, TL_TOKEN_NONE}) : TL_OK;
}

/* One length over all spans: *in is replaced by the finer cut. */
static tl_err cut_spans(const tl_vocab *v, tl_str text, bool control, uint32_t len,
                        const tl_ids *places, struct tl_spans *in, struct tl_spans *out) {
    out->n = 0;
    size_t first = 0;
    for (size_t i = 0; i < in->n; i++) {
        const struct tl_span span = in->data[i];
        while (first < places->n && places->data[first] < span.at) {
            first++;
        }
        size_t last = first;
        while (last < places->n && places->data[last] < span.at + span.len) {
            last++;
        }
        if (span.id != TL_TOKEN_NONE || first == last || len > span.len) {
            TL_TRY(add_span(out, span));
        } else {
            TL_TRY(cut_span(v, text, control, len, span, places->data + first, places->data + last,
                            out));
        }
        first = last;
    }
    const struct tl_spans finer = *out;
    *out = *in;
    *in = finer;
    return TL_OK;
}

static tl_err find_places(const tl_vocab *v, tl_str text, tl_ids *places) {
    if (v->n_special_lengths == 0) {
        return TL_OK;
    }
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (has_opening(v, opening_of(text.data + i))) {
            TL_TRY(tl_ids_add(places, (uint32_t)i));
        }
    }
    /* A token of one byte at the very end; the NUL is any second byte. */
    const char last[2] = {text.data[text.len - 1], '\0'};
    return has_opening(v, opening_of(last)) ? tl_ids_add(places, (uint32_t)text.len - 1) : TL_OK;
}

tl_err tl_special_split(const tl_vocab *v, tl_str text, bool control, struct tl_spans *spans) {
    if (text.len == 0) {
        return TL_OK;
    }
    TL_TRY(add_span(spans, (struct tl_span){0, (uint32_t)text.len, TL_TOKEN_NONE}));
    tl_ids places = {0};
    struct tl_spans other = {0};
    tl_err err = find_places(v, text, &places);
    for (uint32_t i = 0; i < v->n_special_lengths && places.n > 0 && err == TL_OK; i++) {
        err = cut_spans(v, text, control, v->special_lengths[i], &places, spans, &other);
    }
    free(other.data);
    tl_ids_free(&places);
    return err;
}
