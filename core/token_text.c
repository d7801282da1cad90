/* From tokens back to text: the bytes of one token, the streaming decoder, and the tidying of a
 * whole decoded text. */
#include "token_priv.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* <0x0A> */
static tl_err add_byte_token(tl_str spelling, tl_bytes *out) {
    if (spelling.len != 6 || memcmp(spelling.data, "<0x", 3) != 0) {
        return TL_OK;
    }
    const int high = hex_digit(spelling.data[3]), low = hex_digit(spelling.data[4]);
    const char byte = (char)(high * 16 + low);
    return high >= 0 && low >= 0 ? tl_bytes_add(out, &byte, 1) : TL_OK;
}

/* What is not of the byte alphabet is kept as it is. */
static tl_err add_byte_level(tl_str spelling, tl_bytes *out) {
    for (size_t i = 0; i < spelling.len;) {
        const uint8_t *const p = (const uint8_t *)spelling.data + i;
        const unsigned len = tl_utf8_len(p, spelling.len - i);
        const int byte = len > 0 ? tl_bpe_byte(tl_utf8_value(p, len)) : -1;
        if (byte >= 0) {
            const char c = (char)byte;
            TL_TRY(tl_bytes_add(out, &c, 1));
        } else {
            TL_TRY(tl_bytes_add(out, p, len > 0 ? len : 1));
        }
        i += len > 0 ? len : 1;
    }
    return TL_OK;
}

static tl_err add_spm(tl_str spelling, tl_bytes *out) {
    for (size_t i = 0; i < spelling.len;) {
        const char *const p = spelling.data + i;
        if (spelling.len - i >= TL_SPM_SPACE_LEN &&
            memcmp(p, TL_SPM_SPACE, TL_SPM_SPACE_LEN) == 0) {
            TL_TRY(tl_bytes_add(out, " ", 1));
            i += TL_SPM_SPACE_LEN;
        } else {
            TL_TRY(tl_bytes_add(out, p, 1));
            i++;
        }
    }
    return TL_OK;
}

tl_err tl_vocab_piece(const tl_vocab *v, uint32_t id, bool special, tl_bytes *out) {
    if (id >= v->n) {
        return TL_OK;
    }
    const struct tl_token *const token = &v->tokens[id];
    switch ((tl_token_type)token->type) {
    case TL_TOKEN_CONTROL:
    case TL_TOKEN_UNKNOWN:
        return special ? tl_bytes_add(out, token->spelling.data, token->spelling.len) : TL_OK;
    case TL_TOKEN_USER:
        return tl_bytes_add(out, token->spelling.data, token->spelling.len);
    case TL_TOKEN_UNUSED:
        return TL_OK;
    case TL_TOKEN_BYTE:
        return add_byte_token(token->spelling, out);
    case TL_TOKEN_NORMAL:
        break;
    }
    return v->is_spm ? add_spm(token->spelling, out) : add_byte_level(token->spelling, out);
}

static const char REPLACEMENT[] = "\xEF\xBF\xBD";
enum { REPLACEMENT_LEN = 3 };

/* How many of the n bytes at p, which start no whole code point, could still become one. */
static unsigned unfinished_len(const uint8_t *p, size_t n) {
    static const uint8_t ENDINGS[2] = {0x80, 0xBF};
    uint8_t trial[4];
    for (unsigned len = n < 3 ? (unsigned)n : 3; len > 0; len--) {
        /* A prefix is alive when some continuation makes it whole; the second byte decides, and
         * the lowest and the highest continuation stand for all others. */
        memcpy(trial, p, len);
        for (unsigned ending = 0; ending < 2; ending++) {
            memset(trial + len, ENDINGS[ending], sizeof trial - len);
            if (tl_utf8_len(trial, sizeof trial) > len) {
                return len;
            }
        }
    }
    return 0;
}

/* Appends the n bytes at p; what is unfinished at the end is held. */
static tl_err add_text(tl_decoder *d, const uint8_t *p, size_t n, tl_bytes *out) {
    for (size_t i = 0; i < n;) {
        const unsigned len = tl_utf8_len(p + i, n - i);
        if (len > 0) {
            TL_TRY(tl_bytes_add(out, p + i, len));
            i += len;
            continue;
        }
        const unsigned unfinished = unfinished_len(p + i, n - i);
        if (unfinished > 0 && unfinished == n - i) {
            memcpy(d->held, p + i, unfinished);
            d->n_held = unfinished;
            return TL_OK;
        }
        TL_TRY(tl_bytes_add(out, REPLACEMENT, REPLACEMENT_LEN));
        i += unfinished > 0 ? unfinished : 1;
    }
    return TL_OK;
}

static void cut_to(tl_bytes *b, size_t len) {
    if (b->data != NULL) {
        b->len = len;
        b->data[len] = '\0';
    }
}

/* Nearly every piece is whole, so it is written where it belongs and looked at there. */
tl_err tl_decoder_add(tl_decoder *d, uint32_t id, tl_bytes *out) {
    const size_t begin = out->len, begin_piece = begin + d->n_held;
    tl_err err = tl_bytes_add(out, d->held, d->n_held);
    err = err ? err : tl_vocab_piece(d->vocab, id, d->special, out);
    if (err || out->len == begin_piece) {
        cut_to(out, begin);
        return err;
    }
    if (d->first && d->vocab->add_space && out->data[begin_piece] == ' ') {
        memmove(out->data + begin_piece, out->data + begin_piece + 1, out->len - begin_piece);
        out->len--;
    }
    d->first = false;
    d->n_held = 0;

    size_t at = begin;
    while (at < out->len) {
        const unsigned len = tl_utf8_len((const uint8_t *)out->data + at, out->len - at);
        if (len == 0) {
            break;
        }
        at += len;
    }
    if (at == out->len) {
        return TL_OK;
    }
    tl_bytes rest = {0};
    err = tl_bytes_add(&rest, out->data + at, out->len - at);
    cut_to(out, at);
    if (err == TL_OK) {
        err = add_text(d, (const uint8_t *)rest.data, rest.len, out);
    }
    tl_bytes_free(&rest);
    return err;
}

tl_err tl_decoder_end(tl_decoder *d, tl_bytes *out) {
    const bool holds = d->n_held > 0;
    d->n_held = 0;
    return holds ? tl_bytes_add(out, REPLACEMENT, REPLACEMENT_LEN) : TL_OK;
}

/* The steps below rewrite a text in place, each from left to right over the result of the one
 * before; `was` is the character before as that step found it. */

/* " ?" -> "?", and the same for ! . , */
static size_t join_marks(char *text, size_t n) {
    size_t kept = 0;
    char was = '\0';
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        if (was == ' ' && (c == '?' || c == '!' || c == '.' || c == ',')) {
            kept--;
        }
        text[kept++] = c;
        was = c;
    }
    return kept;
}

/* "a ' b" -> "a'b" */
static size_t join_lone_apostrophes(char *text, size_t n) {
    size_t kept = 0;
    char was = '\0';
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        const bool is_lone = c == '\'' && was == ' ' && i + 1 < n && text[i + 1] == ' ';
        if (is_lone) {
            kept--;
            i++;
        }
        text[kept++] = c;
        was = is_lone ? '\0' : c;
    }
    return kept;
}

/* "it 's" -> "it's", and the same for 'm 're 've */
static size_t join_contractions(char *text, size_t n) {
    size_t kept = 0;
    char was = '\0';
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        if (was == ' ' && c == '\'' && i + 1 < n) {
            const char next = text[i + 1];
            const bool has_e = i + 2 < n && text[i + 2] == 'e';
            kept -= next == 's' || next == 'm' || ((next == 'r' || next == 'v') && has_e);
        }
        text[kept++] = c;
        was = c;
    }
    return kept;
}

void tl_vocab_tidy(const tl_vocab *v, tl_bytes *text) {
    if (v->tidies && text->len > 0) {
        size_t n = join_marks(text->data, text->len);
        n = join_lone_apostrophes(text->data, n);
        cut_to(text, join_contractions(text->data, n));
    }
}
