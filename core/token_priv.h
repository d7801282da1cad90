/* What the files of the tokenizer share. Everything a tl_vocab points to is made in tl_vocab_open
 * and constant afterwards; what changes while a text is encoded lives in struct tl_encoder. */
#ifndef TL_TOKEN_PRIV_H
#define TL_TOKEN_PRIV_H

#include "token.h"

#include <string.h>

/* GGUF's numbers. */
typedef enum tl_token_type {
    TL_TOKEN_NORMAL = 1,
    TL_TOKEN_UNKNOWN = 2,
    TL_TOKEN_CONTROL = 3,
    TL_TOKEN_USER = 4,
    TL_TOKEN_UNUSED = 5,
    TL_TOKEN_BYTE = 6,
} tl_token_type;

enum {
    TL_TOKEN_IS_END = 1,
    TL_TOKEN_STRIPS_LEFT = 2,  /* matched in a text, it swallows the white space before it */
    TL_TOKEN_STRIPS_RIGHT = 4, /* ... behind it */
};

struct tl_token {
    tl_str spelling; /* borrowed from the file */
    float score;
    uint8_t type;  /* tl_token_type */
    uint8_t flags; /* TL_TOKEN_IS_END ... */
};

/* Open addressing with linear probing, the place by the lower half of the hash; `id_plus_1` == 0
 * is a free slot. */
struct tl_spelling_slot {
    uint32_t hash_above, id_plus_1;
};
struct tl_merge_slot {
    uint32_t left, right; /* ids; left == TL_TOKEN_NONE is a free slot */
    uint32_t rank, merged;
};

/* A compiled pre-tokenizer. */
typedef struct tl_pre tl_pre;

/* What a pre-tokenizer's name says beside its patterns. */
enum {
    TL_PRE_WHOLE_WORDS = 1, /* a word that is a token is taken as it is, before any merge */
    TL_PRE_ADDS_BOS = 2,    /* where the file does not say */
    TL_PRE_TIDIES = 4,      /* see tl_vocab_tidy */
};

struct tl_vocab {
    tl_log log;
    bool is_spm; /* SentencePiece BPE; else byte-level BPE */
    uint32_t n;
    struct tl_token *tokens;            /* owned, [n] */
    struct tl_spelling_slot *spellings; /* owned, [spelling_mask + 1] */
    uint32_t spelling_mask;
    uint32_t byte_ids[256]; /* the token of each single byte, or TL_TOKEN_NONE */
    uint32_t bos, eos, unk; /* TL_TOKEN_NONE where there is none */
    bool add_bos, add_eos, add_space, tidies;

    /* Byte-level BPE. */
    bool whole_words;
    size_t spelling_max;          /* of the longest token, bytes */
    struct tl_merge_slot *merges; /* owned, [merge_mask + 1] */
    uint32_t merge_mask;
    tl_pre *pre; /* owned */

    /* SentencePiece: a Bloom filter of the pairs of neighbouring characters inside tokens. No
     * token, so no merge, spans a place between two characters whose pair is not in it. */
    uint64_t *joins; /* owned, (joins_mask + 1) bits */
    uint32_t joins_mask;

    /* Tokens to look for in a text, and what helps to find them; see token_special.c. */
    uint64_t *openings;        /* owned, one bit per first two bytes */
    uint32_t *special_lengths; /* owned, [n_special_lengths], descending */
    uint32_t n_special_lengths;
};

/* One piece of a text while pieces are merged; pieces form a list in text order. */
struct tl_piece {
    uint32_t at, len; /* bytes of the text; len == 0: merged into another */
    uint32_t prev, next;
    uint32_t id;
};

/* A pair of neighbouring pieces that makes a token. */
struct tl_pair {
    uint64_t order; /* smaller merges first: rank or score above, left piece below */
    uint32_t len;   /* of both; where it no longer fits the pieces, the pair is stale */
    uint32_t id;    /* of the token they make */
};

/* A word that was encoded earlier in this call: its ids are found again in the output. */
struct tl_known_word {
    uint32_t at, len, id_at, n_ids; /* len == 0: free */
};

/* A span of the text in input order: bytes still to be encoded, or (id != NONE) one token. */
struct tl_span {
    uint32_t at, len, id;
};

struct tl_spans {
    struct tl_span *data; /* owned */
    size_t n, cap;
};

/* The state of one tl_vocab_encode. */
struct tl_encoder {
    const tl_vocab *vocab;
    tl_ids *ids;
    size_t ids_before; /* ids->n at the start */
    const char *text;  /* what pieces and words point into */
    struct tl_piece *pieces;
    struct tl_pair *heap;
    size_t n_pieces, pieces_cap, n_heap, heap_cap;
    struct tl_known_word *known; /* [known_mask + 1], or NULL */
    uint32_t known_mask;
    tl_bytes buffer;        /* the text with spaces escaped (SentencePiece), or fit for PCRE2 */
    tl_ids cuts, next_cuts; /* ends of words, before and after a step of the pre-tokenizer */
};

/* token.c */
uint64_t tl_token_hash(const void *data, size_t n);
/* The token whose spelling has this hash as far as slots tell, or TL_TOKEN_NONE. It reads no
 * spelling, so it is only for the file's own merges: one that is made to collide fools itself. */
uint32_t tl_vocab_find_hash(const tl_vocab *v, uint64_t hash);

/* token_special.c */
TL_MUST tl_err tl_special_open(tl_vocab *v);
/* Cuts text into *spans: tokens found in it, and what is between them. */
TL_MUST tl_err tl_special_split(const tl_vocab *v, tl_str text, bool control,
                                struct tl_spans *spans);

/* token_merge.c */
void tl_encoder_begin(struct tl_encoder *e, const tl_vocab *v, size_t text_len, tl_ids *ids);
void tl_encoder_end(struct tl_encoder *e);
/* Replaces neighbours by the token they make, best pair first, until none is left.
 * The pieces are e->pieces[0 .. n_pieces-1], linked; the first one always stays the first. */
TL_MUST tl_err tl_encoder_merge(struct tl_encoder *e);
TL_MUST tl_err tl_encoder_add_piece(struct tl_encoder *e, uint32_t at, uint32_t len, uint32_t id);
/* True, and the ids are appended, when the same bytes were a word before in this call (*err tells
 * of memory). Otherwise *slot is where to note it with tl_encoder_know. */
bool tl_encoder_knows(struct tl_encoder *e, uint32_t at, uint32_t len, struct tl_known_word **slot,
                      tl_err *err);
void tl_encoder_know(const struct tl_encoder *e, struct tl_known_word *slot, uint32_t at,
                     uint32_t len, size_t id_at);

/* token_bpe.c */
TL_MUST tl_err tl_bpe_open(tl_vocab *v, const tl_weights *w);
TL_MUST tl_err tl_bpe_encode(struct tl_encoder *e, uint32_t at, uint32_t len);
/* The rank and the result of merging two tokens. */
bool tl_bpe_find_merge(const tl_vocab *v, uint32_t left, uint32_t right, uint32_t *rank,
                       uint32_t *merged);
/* The byte that a code point of the byte alphabet stands for, or -1. */
int tl_bpe_byte(uint32_t code_point);

/* token_spm.c */
TL_MUST tl_err tl_spm_open(tl_vocab *v);
TL_MUST tl_err tl_spm_encode(struct tl_encoder *e, tl_str text, bool add_space);

/* token_pre.c */
TL_MUST tl_err tl_pre_open(tl_pre **out, tl_str name, unsigned *flags, const tl_log *log);
void tl_pre_close(tl_pre **pre);
/* The ends of the words of text, in *cuts. `next` and `buffer` are scratch. */
TL_MUST tl_err tl_pre_split(const tl_pre *pre, tl_str text, tl_ids *cuts, tl_ids *next,
                            tl_bytes *buffer);

/* "▁", which stands for a space in SentencePiece vocabularies. */
#define TL_SPM_SPACE "\xE2\x96\x81"
enum { TL_SPM_SPACE_LEN = 3 };

/* The value of a well-formed code point. */
static inline uint32_t tl_utf8_value(const uint8_t *p, unsigned len) {
    uint32_t value = len == 1 ? p[0] : p[0] & (0xFFu >> (len + 1));
    for (unsigned i = 1; i < len; i++) {
        value = value << 6 | (p[i] & 0x3F);
    }
    return value;
}

#endif
