/* Tokenizers, made from a model file's own metadata: byte-level BPE with a named pre-tokenizer, and
 * SentencePiece BPE with byte fallback. Read-only after open except where said: any thread may
 * call. Text in is any bytes (malformed UTF-8 included); text out is what the tokens spell. */
#ifndef TL_TOKEN_H
#define TL_TOKEN_H

#include "weights.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_vocab tl_vocab;

/* A growable list of token ids. Zero-initialise; tl_ids_free empties it. */
typedef struct tl_ids {
    uint32_t *data; /* owned */
    size_t n, cap;
} tl_ids;

TL_MUST tl_err tl_ids_add(tl_ids *ids, uint32_t id);
void tl_ids_free(tl_ids *ids);

/* Needs w to outlive it. TL_ERR_FORMAT: no or damaged tokenizer. TL_ERR_UNSUPPORTED: a tokenizer
 * model we do not have (the sentence lists ours). An unknown pre-tokenizer falls back to
 * "default" with a warning that names it. */
TL_MUST tl_err tl_vocab_open(tl_vocab **out, const tl_weights *w, const tl_log *log);
void tl_vocab_close(tl_vocab **v);

enum tl_encode_flags {
    TL_ENCODE_PLAIN = 0,
    TL_ENCODE_BOS = 1,     /* put the begin token (and end token) where the file asks for them */
    TL_ENCODE_SPECIAL = 2, /* match control tokens in the text ("<|eot_id|>") */
};

/* Appends the ids of text to *ids. On failure (TL_ERR_MEMORY) *ids is as it was.
 * User-defined added tokens are matched always, control tokens only with TL_ENCODE_SPECIAL. */
TL_MUST tl_err tl_vocab_encode(const tl_vocab *v, tl_str text, unsigned flags, tl_ids *ids);

#define TL_TOKEN_NONE UINT32_MAX

uint32_t tl_vocab_n(const tl_vocab *v);
uint32_t tl_vocab_bos(const tl_vocab *v); /* TL_TOKEN_NONE where there is none */
uint32_t tl_vocab_eos(const tl_vocab *v);
bool tl_vocab_add_bos(const tl_vocab *v);                 /* what the file (or its family) says */
bool tl_vocab_is_end(const tl_vocab *v, uint32_t id);     /* ends an answer: eos, eot, eom ... */
bool tl_vocab_is_control(const tl_vocab *v, uint32_t id); /* not part of the visible text */
/* The id whose stored spelling is exactly `text`, or TL_TOKEN_NONE. */
uint32_t tl_vocab_find(const tl_vocab *v, tl_str text);
/* The stored spelling (in the vocabulary's own alphabet), borrowed. id < n. */
tl_str tl_vocab_spelling(const tl_vocab *v, uint32_t id);

/* Appends the bytes that one token stands for, e.g. " the"; control tokens are spelt only with
 * `special`. id >= n appends nothing. SentencePiece's first-word space is kept. */
TL_MUST tl_err tl_vocab_piece(const tl_vocab *v, uint32_t id, bool special, tl_bytes *out);

/* Decodes a stream token by token: bytes of an unfinished code point are held back until it is
 * whole, bytes that can never become one are replaced by U+FFFD, so what is appended is always
 * valid UTF-8. `first` strips the space that a SentencePiece vocabulary put before the text. */
typedef struct tl_decoder {
    const tl_vocab *vocab; /* borrowed */
    bool first;            /* set by the caller: the next token begins a text */
    bool special;          /* spell control tokens too */
    uint8_t held[4];
    uint32_t n_held;
} tl_decoder;

TL_MUST tl_err tl_decoder_add(tl_decoder *d, uint32_t id, tl_bytes *out);
TL_MUST tl_err tl_decoder_end(tl_decoder *d, tl_bytes *out); /* what is still held, as U+FFFD */

/* Some families (GPT-2's, Llama 3's) ask that a text decoded as a whole loses the space before
 * . , ? ! and in "it 's": done here, in place; for the others nothing changes. For showing ids as
 * text (`tailor tokenize --decode`), never for a stream: it is not what the tokens spell. */
void tl_vocab_tidy(const tl_vocab *v, tl_bytes *text);

#ifdef __cplusplus
}
#endif

#endif
