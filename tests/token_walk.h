/* Everything one can do with a vocabulary, with what must hold whatever its tokens are, for tests
 * and fuzzing; and small vocabularies to do it with. Without cmocka: a breach is a TL_ASSERT. */
#ifndef TL_TOKEN_WALK_H
#define TL_TOKEN_WALK_H

#include "core/token.h"

/* Encodes text in all ways, decodes it again token by token, and checks: ids in range, the output
 * of the decoder well-formed, *ids unchanged by a failure. */
void token_walk(const tl_vocab *v, tl_str text);

/* Files (GGUF, no tensors) whose vocabularies lose nothing: every byte has a token. The first is
 * byte-level BPE with a few merges and the pre-tokenizer `pre`, the second SentencePiece BPE; both
 * have control and user-defined tokens. The caller frees the bytes. */
TL_MUST tl_err token_make_bpe(const char *pre, tl_bytes *file);
TL_MUST tl_err token_make_spm(bool add_space, tl_bytes *file);

/* Checks that the ids of text, nothing added, spell exactly text (SentencePiece: with a space for
 * each U+2581; it must not add spaces of its own). */
void token_round_trip(const tl_vocab *v, bool is_spm, tl_str text);

#endif
