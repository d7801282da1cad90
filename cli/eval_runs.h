/* Sequences that are decoded at once: each has a session of its own, a prompt, and someone who says
 * behind every step which token comes next. */
#ifndef TL_CLI_EVAL_RUNS_H
#define TL_CLI_EVAL_RUNS_H

#include "eval_measure.h"

struct cli_eval_run {
    const uint32_t *ids; /* borrowed: the prompt, the last token of which is a step */
    size_t n;            /* > 0 */
    /* Behind every step, whose logits the session has: sets *id to the next token, or *more to
     * false where there is none. */
    tl_err (*next)(void *user, const tl_session *s, uint32_t *id, bool *more);
    void *user;
    bool done; /* set: false where Ctrl+C came in between */
};

/* Prefill of the first n of ids into s, emptied. */
TL_MUST tl_err cli_eval_feed(struct cli_eval *e, tl_session *s, const uint32_t *ids, size_t n);

/* n <= e->sequences.n. */
TL_MUST tl_err cli_eval_run_all(struct cli_eval *e, struct cli_eval_run *runs, uint32_t n);

#endif
