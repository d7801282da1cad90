/* What long questions are made of: sentences to hide things between, words to name things by, and
 * the generator of random numbers that chooses among them (same seed, same text, everywhere). */
#ifndef TL_CLI_EVAL_FILLER_H
#define TL_CLI_EVAL_FILLER_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* splitmix64 */
struct cli_rng {
    uint64_t state;
};
uint64_t cli_rng_next(struct cli_rng *rng);
uint64_t cli_rng_below(struct cli_rng *rng, uint64_t n); /* 0 .. n-1; n > 0 */

/* Sentences of a text of the user's; zero-initialised it stands for the built-in ones. */
struct cli_filler {
    tl_bytes text;     /* owned: the text, its white space made single spaces */
    tl_str *sentences; /* owned: parts of it */
    size_t n, cap;
};

/* Cuts text into sentences. TL_ERR_FORMAT where it has none. */
TL_MUST tl_err cli_filler_open(struct cli_filler *out, tl_str text);
void cli_filler_close(struct cli_filler *filler);

/* The i-th sentence of an endless text: the user's in their order from a seeded place on, else the
 * built-in ones, shuffled anew each time round. */
tl_str cli_filler_sentence(const struct cli_filler *filler, uint64_t seed, uint64_t i);

/* The i-th sentence of a few that come again and again. */
tl_str cli_noise_sentence(uint64_t i);

enum { CLI_NAME_MAX = 32, CLI_WORDS = 79 };

/* "amber-candle": names number 0, 1, 2 ... of a seed all differ, and the first CLI_WORDS of them
 * differ in both words. text holds CLI_NAME_MAX bytes. */
void cli_name_at(uint64_t seed, uint32_t i, char *text);

#ifdef __cplusplus
}
#endif

#endif
