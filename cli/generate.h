/* Feeding a prompt with progress, and generating an answer with timing: shared by `run` and `chat`.
 */
#ifndef TL_CLI_GENERATE_H
#define TL_CLI_GENERATE_H

#include "load.h"

/* Why an answer ended. */
typedef enum cli_stop {
    CLI_STOP_END,
    CLI_STOP_LENGTH,
    CLI_STOP_CONTEXT,
    CLI_STOP_INTERRUPT
} cli_stop;
const char *cli_stop_name(cli_stop stop);

struct cli_times {
    uint64_t *ns; /* owned: one for each decode step */
    size_t n, cap;
};
struct cli_percentiles {
    double p50_ms, p95_ms, mean_ms;
};
TL_MUST tl_err cli_times_add(struct cli_times *times, uint64_t ns);
struct cli_percentiles cli_times_summary(const struct cli_times *times); /* n > 0 */

/* Feeds ids, showing progress on stderr when it is a terminal and the prompt is long. *done says
 * how many were fed: fewer than n when interrupted. on_logits as in struct tl_feed. */
TL_MUST tl_err cli_feed(struct cli_loaded *loaded, const uint32_t *ids, size_t n,
                        bool (*on_logits)(void *user, uint32_t pos, const float *logits),
                        void *user, size_t *done);

struct cli_answer {
    bool streams;    /* the text goes to the hooks or to stdout as it comes */
    bool ignore_end; /* go on behind an end token */
    uint32_t n_max;  /* CLI_UNSET: until the end */
    tl_ids ids;      /* owned: the generated tokens, the end token not included */
    tl_bytes text;   /* owned: what they spell */
    /* Bytes of a code point that is not finished: in from a resumed session; out, instead of
     * U+FFFD, where holds is set and the answer may go on. */
    uint8_t held[4];
    uint32_t n_held;
    bool holds;
    struct cli_times *times; /* borrowed: steps are added */
    cli_stop stop;
};
void cli_answer_free(struct cli_answer *answer);

/* Generates from the session's present logits until an end token, n_max, the end of the context or
 * the stop of the hooks (Ctrl+C). The end token is not fed. */
TL_MUST tl_err cli_generate(struct cli_loaded *loaded, tl_sampler *sampler,
                            struct cli_answer *answer);

#endif
