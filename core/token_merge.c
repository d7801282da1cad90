/* Merging neighbours by priority, for both kinds of vocabulary, and the memory of words already
 * encoded in this call.
 *
 * Pieces are a doubly linked list inside an array, in text order; a heap holds the pairs of
 * neighbours that make a token. A merge makes the left piece longer and empties the right one, so
 * a pair in the heap is stale exactly when the lengths of its pieces no longer add up to its own:
 * ends of pieces only ever disappear, so equal sums mean the same two pieces. Every merge adds at
 * most two pairs, which keeps a text of n characters at O(n log n). */
#include "token_priv.h"

#include <stdlib.h>

enum {
    KNOWN_WORDS_MAX = 1 << 14,
    KNOWN_WORD_LEN_MAX = 64, /* bytes; longer words hardly ever come again */
};

static tl_err grow(void **data, size_t *cap, size_t n, size_t element) {
    if (n < *cap) {
        return TL_OK;
    }
    const size_t new_cap = *cap > 0 ? 2 * *cap : 64;
    void *const bigger = new_cap < SIZE_MAX / element ? realloc(*data, new_cap * element) : NULL;
    if (bigger == NULL) {
        return TL_ERR_MEMORY;
    }
    *data = bigger;
    *cap = new_cap;
    return TL_OK;
}

tl_err tl_encoder_add_piece(struct tl_encoder *e, uint32_t at, uint32_t len, uint32_t id) {
    void *data = e->pieces;
    TL_TRY(grow(&data, &e->pieces_cap, e->n_pieces, sizeof *e->pieces));
    e->pieces = data;
    const uint32_t i = (uint32_t)e->n_pieces++;
    e->pieces[i] =
        (struct tl_piece){.at = at, .len = len, .prev = i - 1, .next = TL_TOKEN_NONE, .id = id};
    if (i > 0) {
        e->pieces[i - 1].next = i;
    } else {
        e->pieces[i].prev = TL_TOKEN_NONE;
    }
    return TL_OK;
}

/* Scores as integers whose ascending order is the descending order of the scores. */
static uint32_t score_order(float score) {
    const float no_negative_zero = score + 0.0f;
    uint32_t bits;
    memcpy(&bits, &no_negative_zero, sizeof bits);
    return (bits & 0x80000000u) != 0 ? bits : 0x7FFFFFFFu - bits;
}

/* Adds the pair of piece i and the next one to the heap if they make a token. */
static tl_err push_pair(struct tl_encoder *e, uint32_t i) {
    const tl_vocab *const v = e->vocab;
    if (i == TL_TOKEN_NONE || e->pieces[i].next == TL_TOKEN_NONE) {
        return TL_OK;
    }
    const struct tl_piece *const left = &e->pieces[i];
    const struct tl_piece *const right = &e->pieces[left->next];
    struct tl_pair pair = {.len = left->len + right->len};
    uint32_t rank;
    if (v->is_spm) {
        pair.id = tl_vocab_find(v, (tl_str){e->text + left->at, pair.len});
        if (pair.id == TL_TOKEN_NONE) {
            return TL_OK;
        }
        rank = score_order(v->tokens[pair.id].score);
    } else if (!tl_bpe_find_merge(v, left->id, right->id, &rank, &pair.id)) {
        return TL_OK;
    }
    pair.order = (uint64_t)rank << 32 | i;

    void *data = e->heap;
    TL_TRY(grow(&data, &e->heap_cap, e->n_heap, sizeof *e->heap));
    e->heap = data;
    size_t at = e->n_heap++;
    while (at > 0 && e->heap[(at - 1) / 2].order > pair.order) {
        e->heap[at] = e->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    e->heap[at] = pair;
    return TL_OK;
}

static struct tl_pair pop_pair(struct tl_encoder *e) {
    const struct tl_pair top = e->heap[0];
    const struct tl_pair last = e->heap[--e->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < e->n_heap; at = child) {
        if (child + 1 < e->n_heap && e->heap[child + 1].order < e->heap[child].order) {
            child++;
        }
        if (e->heap[child].order >= last.order) {
            break;
        }
        e->heap[at] = e->heap[child];
    }
    e->heap[at] = last;
    return top;
}

tl_err tl_encoder_merge(struct tl_encoder *e) {
    e->n_heap = 0;
    for (uint32_t i = 0; i + 1 < e->n_pieces; i++) {
        TL_TRY(push_pair(e, i));
    }
    while (e->n_heap > 0) {
        const struct tl_pair pair = pop_pair(e);
        const uint32_t i = (uint32_t)pair.order;
        struct tl_piece *const left = &e->pieces[i];
        if (left->len == 0 || left->next == TL_TOKEN_NONE) {
            continue;
        }
        struct tl_piece *const right = &e->pieces[left->next];
        if (left->len + right->len != pair.len) {
            continue;
        }
        left->len = pair.len;
        left->id = pair.id;
        left->next = right->next;
        right->len = 0;
        if (left->next != TL_TOKEN_NONE) {
            e->pieces[left->next].prev = i;
        }
        TL_TRY(push_pair(e, left->prev));
        TL_TRY(push_pair(e, i));
    }
    return TL_OK;
}

void tl_encoder_begin(struct tl_encoder *e, const tl_vocab *v, size_t text_len, tl_ids *ids) {
    uint32_t n = 64;
    while (n < KNOWN_WORDS_MAX && n < text_len / 8) {
        n *= 2;
    }
    /* Without memory for it, words are simply not remembered. */
    *e = (struct tl_encoder){.vocab = v,
                             .ids = ids,
                             .ids_before = ids->n,
                             .known = calloc(n, sizeof *e->known),
                             .known_mask = n - 1};
}

void tl_encoder_end(struct tl_encoder *e) {
    free(e->pieces);
    free(e->heap);
    free(e->known);
    tl_bytes_free(&e->buffer);
    tl_ids_free(&e->cuts);
    tl_ids_free(&e->next_cuts);
}

bool tl_encoder_knows(struct tl_encoder *e, uint32_t at, uint32_t len, struct tl_known_word **slot,
                      tl_err *err) {
    *slot = NULL;
    *err = TL_OK;
    if (len > KNOWN_WORD_LEN_MAX || e->known == NULL) {
        return false;
    }
    struct tl_known_word *const word =
        &e->known[(uint32_t)tl_token_hash(e->text + at, len) & e->known_mask];
    if (word->len != len || memcmp(e->text + word->at, e->text + at, len) != 0) {
        *slot = word;
        return false;
    }
    for (uint32_t i = 0; i < word->n_ids && *err == TL_OK; i++) {
        *err = tl_ids_add(e->ids, e->ids->data[e->ids_before + word->id_at + i]);
    }
    return true;
}

void tl_encoder_know(const struct tl_encoder *e, struct tl_known_word *slot, uint32_t at,
                     uint32_t len, size_t id_at) {
    if (slot != NULL) {
        *slot = (struct tl_known_word){.at = at,
                                       .len = len,
                                       .id_at = (uint32_t)(id_at - e->ids_before),
                                       .n_ids = (uint32_t)(e->ids->n - id_at)};
    }
}
