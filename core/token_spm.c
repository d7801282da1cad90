/* SentencePiece BPE: spaces become "▁", characters are merged in the order of the scores of the
 * tokens they make, and what is left without a token falls back to the tokens of its bytes, then
 * to the unknown token.
 *
 * Merging runs over a whole text in principle. In practice hardly any token has anything before a
 * "▁", so a text falls apart: between two characters that stand side by side in no token nothing
 * can ever merge. tl_spm_open collects the pairs that do, and stretches between other places are
 * encoded (and remembered) alone, with the same result. */
#include "token_priv.h"

#include <stdio.h>
#include <stdlib.h>

/* Characters as they are merged: well-formed code points, or single bytes. */
static unsigned char_len(const char *p, size_t n) {
    const unsigned len = tl_utf8_len((const uint8_t *)p, n);
    return len > 0 ? len : 1;
}

static uint32_t char_code(const char *p, unsigned len) {
    uint32_t code = 0;
    memcpy(&code, p, len);
    return code;
}

static uint32_t join_bit(const tl_vocab *v, uint32_t left, uint32_t right) {
    const uint64_t both = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(both >> 32) & v->joins_mask;
}

static bool may_join(const tl_vocab *v, uint32_t left, uint32_t right) {
    const uint32_t bit = join_bit(v, left, right);
    return (v->joins[bit / 64] >> bit % 64 & 1) != 0;
}

static void add_joins(tl_vocab *v, tl_str spelling) {
    uint32_t left = 0;
    for (size_t i = 0; i < spelling.len;) {
        const unsigned len = char_len(spelling.data + i, spelling.len - i);
        const uint32_t right = char_code(spelling.data + i, len);
        if (i > 0) {
            const uint32_t bit = join_bit(v, left, right);
            v->joins[bit / 64] |= UINT64_C(1) << bit % 64;
        }
        left = right;
        i += len;
    }
}

/* The token of a byte is spelt <0x0A>, in some vocabularies as the byte itself. */
static uint32_t find_byte(const tl_vocab *v, unsigned byte) {
    char spelling[8];
    snprintf(spelling, sizeof spelling, "<0x%02X>", byte);
    const uint32_t id = tl_vocab_find(v, tl_str_from(spelling));
    if (id != TL_TOKEN_NONE) {
        return id;
    }
    const char raw = (char)byte;
    return tl_vocab_find(v, (tl_str){&raw, 1});
}

tl_err tl_spm_open(tl_vocab *v) {
    uint32_t n_bits = 1 << 12;
    while (n_bits < (1u << 24) && n_bits / 16 < v->n) {
        n_bits *= 2;
    }
    v->joins = calloc(n_bits / 64, sizeof *v->joins);
    if (v->joins == NULL) {
        return TL_ERR_MEMORY;
    }
    v->joins_mask = n_bits - 1;
    for (uint32_t i = 0; i < v->n; i++) {
        add_joins(v, v->tokens[i].spelling);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        v->byte_ids[byte] = find_byte(v, byte);
    }
    return TL_OK;
}

/* A character that is no token: its bytes, if they all have tokens; else the unknown token. */
static tl_err add_bytes(struct tl_encoder *e, const struct tl_piece *piece) {
    const tl_vocab *const v = e->vocab;
    const uint8_t *const bytes = (const uint8_t *)e->text + piece->at;
    bool all = true;
    for (uint32_t i = 0; i < piece->len; i++) {
        all = all && v->byte_ids[bytes[i]] != TL_TOKEN_NONE;
    }
    if (!all) {
        return v->unk != TL_TOKEN_NONE ? tl_ids_add(e->ids, v->unk) : TL_OK;
    }
    for (uint32_t i = 0; i < piece->len; i++) {
        TL_TRY(tl_ids_add(e->ids, v->byte_ids[bytes[i]]));
    }
    return TL_OK;
}

static tl_err encode_stretch(struct tl_encoder *e, uint32_t at, uint32_t len) {
    e->n_pieces = 0;
    for (uint32_t i = at; i < at + len;) {
        const unsigned n = char_len(e->text + i, at + len - i);
        TL_TRY(tl_encoder_add_piece(e, i, n, TL_TOKEN_NONE));
        i += n;
    }
    TL_TRY(tl_encoder_merge(e));
    for (uint32_t i = 0; i != TL_TOKEN_NONE; i = e->pieces[i].next) {
        struct tl_piece *const piece = &e->pieces[i];
        if (piece->id == TL_TOKEN_NONE) {
            piece->id = tl_vocab_find(e->vocab, (tl_str){e->text + piece->at, piece->len});
        }
        if (piece->id == TL_TOKEN_NONE) {
            TL_TRY(add_bytes(e, piece));
        } else {
            TL_TRY(tl_ids_add(e->ids, piece->id));
        }
    }
    return TL_OK;
}

static tl_err encode_known_stretch(struct tl_encoder *e, uint32_t at, uint32_t len) {
    struct tl_known_word *slot;
    tl_err err;
    if (tl_encoder_knows(e, at, len, &slot, &err)) {
        return err;
    }
    const size_t id_at = e->ids->n;
    TL_TRY(encode_stretch(e, at, len));
    tl_encoder_know(e, slot, at, len, id_at);
    return TL_OK;
}

static tl_err escape(tl_bytes *buffer, tl_str text) {
    for (size_t i = 0; i < text.len;) {
        const char *const space = memchr(text.data + i, ' ', text.len - i);
        const size_t n = space != NULL ? (size_t)(space - text.data) - i : text.len - i;
        TL_TRY(tl_bytes_add(buffer, text.data + i, n));
        i += n;
        if (space != NULL) {
            TL_TRY(tl_bytes_add(buffer, TL_SPM_SPACE, TL_SPM_SPACE_LEN));
            i++;
        }
    }
    return TL_OK;
}

tl_err tl_spm_encode(struct tl_encoder *e, tl_str text, bool add_space) {
    const size_t begin = e->buffer.len;
    if (add_space) {
        TL_TRY(tl_bytes_add(&e->buffer, TL_SPM_SPACE, TL_SPM_SPACE_LEN));
    }
    TL_TRY(escape(&e->buffer, text));
    e->text = e->buffer.data;

    size_t start = begin;
    uint32_t left = 0;
    for (size_t i = begin; i < e->buffer.len;) {
        const unsigned len = char_len(e->text + i, e->buffer.len - i);
        const uint32_t right = char_code(e->text + i, len);
        if (i > start && !may_join(e->vocab, left, right)) {
            TL_TRY(encode_known_stretch(e, (uint32_t)start, (uint32_t)(i - start)));
            start = i;
        }
        left = right;
        i += len;
    }
    if (start < e->buffer.len) {
        TL_TRY(encode_known_stretch(e, (uint32_t)start, (uint32_t)(e->buffer.len - start)));
    }
    return TL_OK;
}
