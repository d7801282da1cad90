/* The measurements of `tailor eval` on a loaded model: how a preset answers a task, how likely it
 * finds a text, how far it is from the exact cache. Each adds its numbers to the report; after
 * Ctrl+C those of what was measured so far. */
#ifndef TL_CLI_EVAL_MEASURE_H
#define TL_CLI_EVAL_MEASURE_H

#include "conversation.h"
#include "eval_report.h"
#include "eval_tasks.h"
#include "new_file.h"
#include "sequences.h"

enum { CLI_CTXS_MAX = 16 };

struct cli_eval {
    const struct cli_args *args;
    struct cli_loaded loaded;       /* session: the first of the present preset's */
    struct cli_sequences sequences; /* of the present preset, n_parallel of them */
    uint32_t n_parallel;
    struct cli_conversation talk; /* turns a task into tokens */
    struct cli_filler filler;
    tl_bytes text; /* owned: of --text; empty: the built-in sentences */
    uint32_t ctxs[CLI_CTXS_MAX], n_ctxs;
    struct cli_task *tasks; /* owned: of --tasks-file */
    size_t n_tasks;
    uint32_t n_samples; /* of each task */
    uint32_t n_windows; /* of text */
    uint64_t seed;
    struct cli_eval_report report;
    struct cli_new_file plot_file;
};

/* The largest of the contexts, and sessions that hold it within the memory that may be used. */
uint32_t cli_eval_n_ctx(const struct cli_eval *e);
struct tl_session_params cli_eval_session_params(const struct cli_eval *e);

/* The generated task `name` at one context, with the present session, which is preset `preset`. */
TL_MUST tl_err cli_eval_task(struct cli_eval *e, uint32_t preset, const char *name, uint32_t n_ctx);
/* The tokens, answer included, of the shortest of the file's tasks that are called `name`. */
TL_MUST tl_err cli_eval_shortest(struct cli_eval *e, const char *name, uint64_t *n);
/* Those of the file's tasks that are called `name` and fit n_ctx but not `above` tokens, at most
 * --samples of them. */
TL_MUST tl_err cli_eval_file_task(struct cli_eval *e, uint32_t preset, const char *name,
                                  uint32_t n_ctx, uint32_t above);
TL_MUST tl_err cli_eval_ppl(struct cli_eval *e, uint32_t preset, uint32_t n_ctx);

/* All presets beside the exact cache, token by token, at every context. Opens its own sessions: the
 * present one must be closed. */
TL_MUST tl_err cli_eval_kld(struct cli_eval *e);

#endif
