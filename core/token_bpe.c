/* Byte-level BPE: the byte alphabet, the table of merges, and the encoding of a span of text, word
 * by word as the pre-tokenizer cuts it.
 *
 * Spellings in such a vocabulary are written in an alphabet of 256 printable code points, one for
 * each byte: bytes that are printable Latin-1 stand for themselves, the 68 others are U+0100 and
 * on, in order. Encoding never converts the text: it starts from the ids of single bytes, and a
 * merge is two ids in, a rank and an id out. Merges that name what is no token are left out. */
#include "token_priv.h"

#include <stdlib.h>

enum { BYTES_MOVED = 68 };

static bool byte_is_itself(unsigned byte) {
    return (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
}

/* The code point of `byte`: itself, or U+0100 + how many such bytes are smaller. */
static uint32_t byte_code_point(unsigned byte) {
    if (byte_is_itself(byte)) {
        return byte;
    }
    return byte == 0xAD ? 0x143 : byte <= 0x20 ? 0x100 + byte : 0x121 + byte - 0x7F;
}

int tl_bpe_byte(uint32_t code_point) {
    if (code_point < 0x100) {
        return byte_is_itself(code_point) ? (int)code_point : -1;
    }
    const uint32_t moved = code_point - 0x100;
    if (moved >= BYTES_MOVED) {
        return -1;
    }
    return moved == BYTES_MOVED - 1 ? 0xAD : (int)(moved <= 0x20 ? moved : moved - 0x21 + 0x7F);
}

/* Writes the spelling of one byte, 1 or 2 bytes long. */
static unsigned spell_byte(unsigned byte, char out[2]) {
    const uint32_t code_point = byte_code_point(byte);
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    out[0] = (char)(0xC0 | code_point >> 6);
    out[1] = (char)(0x80 | (code_point & 0x3F));
    return 2;
}

static uint32_t merge_hash(uint32_t left, uint32_t right) {
    const uint64_t both = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(both >> 32);
}

bool tl_bpe_find_merge(const tl_vocab *v, uint32_t left, uint32_t right, uint32_t *rank,
                       uint32_t *merged) {
    if (left == TL_TOKEN_NONE) {
        return false;
    }
    for (uint32_t i = merge_hash(left, right);; i++) {
        const struct tl_merge_slot *const slot = &v->merges[i & v->merge_mask];
        if (slot->left == TL_TOKEN_NONE) {
            return false;
        }
        if (slot->left == left && slot->right == right) {
            *rank = slot->rank;
            *merged = slot->merged;
            return true;
        }
    }
}

static uint32_t find_part(const tl_vocab *v, const char *data, size_t len) {
    return len > 0 ? tl_vocab_find_hash(v, tl_token_hash(data, len)) : TL_TOKEN_NONE;
}

/* "left right" -> the slot of its pair, if all three spellings are tokens and the pair is new. */
static tl_err add_merge(tl_vocab *v, tl_str merge, uint32_t rank, tl_bytes *joined) {
    const char *const space = merge.len > 1 ? memchr(merge.data + 1, ' ', merge.len - 1) : NULL;
    if (space == NULL) {
        return TL_OK;
    }
    const size_t left_len = (size_t)(space - merge.data), right_len = merge.len - left_len - 1;
    joined->len = 0;
    TL_TRY(tl_bytes_add(joined, merge.data, left_len));
    TL_TRY(tl_bytes_add(joined, space + 1, right_len));
    const struct tl_merge_slot found = {.left = find_part(v, merge.data, left_len),
                                        .right = find_part(v, space + 1, right_len),
                                        .rank = rank,
                                        .merged = find_part(v, joined->data, joined->len)};
    if (found.left == TL_TOKEN_NONE || found.right == TL_TOKEN_NONE ||
        found.merged == TL_TOKEN_NONE) {
        return TL_OK;
    }
    uint32_t i = merge_hash(found.left, found.right);
    struct tl_merge_slot *slot;
    while ((slot = &v->merges[i & v->merge_mask])->left != TL_TOKEN_NONE) {
        if (slot->left == found.left && slot->right == found.right) {
            return TL_OK;
        }
        i++;
    }
    *slot = found;
    return TL_OK;
}

tl_err tl_bpe_open(tl_vocab *v, const tl_weights *w) {
    const struct tl_meta *merges;
    TL_TRY(tl_meta_get_array(w, "tokenizer.ggml.merges", TL_REQUIRED, TL_META_STR, &merges));
    if (merges->n > UINT32_MAX / 4) {
        return tl_fail(&v->log, TL_ERR_FORMAT, "%s: tokenizer.ggml.merges: too many",
                       tl_weights_path(w));
    }
    uint32_t n_slots = 64;
    while (n_slots < merges->n + merges->n / 2) {
        n_slots *= 2;
    }
    v->merges = malloc(n_slots * sizeof *v->merges);
    if (v->merges == NULL) {
        return TL_ERR_MEMORY;
    }
    v->merge_mask = n_slots - 1;
    for (uint32_t i = 0; i < n_slots; i++) {
        v->merges[i].left = TL_TOKEN_NONE;
    }

    const uint8_t *at = merges->data;
    tl_bytes joined = {0};
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < merges->n && err == TL_OK; i++) {
        err = add_merge(v, tl_meta_next_str(&at), i, &joined);
    }
    tl_bytes_free(&joined);

    for (unsigned byte = 0; byte < 256; byte++) {
        char spelling[2];
        const unsigned len = spell_byte(byte, spelling);
        v->byte_ids[byte] = tl_vocab_find(v, (tl_str){spelling, len});
    }
    return err;
}

/* The token that is the whole word, or TL_TOKEN_NONE. */
static uint32_t find_word(const tl_vocab *v, const uint8_t *word, uint32_t len) {
    char spelling[256];
    if (len > v->spelling_max || len > sizeof spelling / 2) {
        return TL_TOKEN_NONE;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < len; i++) {
        n += spell_byte(word[i], spelling + n);
    }
    return tl_vocab_find(v, (tl_str){spelling, n});
}

/* Bytes that have no token become the unknown token, or nothing where there is none. */
static tl_err encode_word(struct tl_encoder *e, uint32_t at, uint32_t len) {
    const tl_vocab *const v = e->vocab;
    const uint8_t *const bytes = (const uint8_t *)e->text;
    if (v->whole_words) {
        const uint32_t id = find_word(v, bytes + at, len);
        if (id != TL_TOKEN_NONE) {
            return tl_ids_add(e->ids, id);
        }
    }
    e->n_pieces = 0;
    for (uint32_t i = at; i < at + len; i++) {
        TL_TRY(tl_encoder_add_piece(e, i, 1, v->byte_ids[bytes[i]]));
    }
    TL_TRY(tl_encoder_merge(e));
    for (uint32_t i = 0; i != TL_TOKEN_NONE; i = e->pieces[i].next) {
        const uint32_t id = e->pieces[i].id != TL_TOKEN_NONE ? e->pieces[i].id : v->unk;
        if (id != TL_TOKEN_NONE) {
            TL_TRY(tl_ids_add(e->ids, id));
        }
    }
    return TL_OK;
}

tl_err tl_bpe_encode(struct tl_encoder *e, uint32_t at, uint32_t len) {
    TL_TRY(tl_pre_split(e->vocab->pre, (tl_str){e->text + at, len}, &e->cuts, &e->next_cuts,
                        &e->buffer));
    uint32_t start = 0;
    for (size_t i = 0; i < e->cuts.n; i++) {
        const uint32_t word_at = at + start, word_len = e->cuts.data[i] - start;
        start = e->cuts.data[i];
        struct tl_known_word *slot;
        tl_err err;
        if (!tl_encoder_knows(e, word_at, word_len, &slot, &err)) {
            const size_t id_at = e->ids->n;
            err = encode_word(e, word_at, word_len);
            tl_encoder_know(e, slot, word_at, word_len, id_at);
        }
        TL_TRY(err);
    }
    return TL_OK;
}
