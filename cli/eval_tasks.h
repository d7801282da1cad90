/* Questions over a long text whose right answer is known: retrieval, tracking and counting after
 * the definitions of RULER (Hsieh et al. 2024), JSON key-value retrieval after Liu et al. 2023, and
 * copying. Made from a seed at any length, or read from a file. No model, no files, no printing. */
#ifndef TL_CLI_EVAL_TASKS_H
#define TL_CLI_EVAL_TASKS_H

#include "eval_filler.h"

#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One question. In a chat `input` is the user's message and the answer begins with `start`; without
 * a chat template they are one text, joined by a space. Owned; zero-initialise. */
struct cli_task {
    tl_bytes name;
    tl_bytes input, start;
    tl_bytes expected; /* strings the answer should hold, each with a NUL behind it */
    uint32_t n_expected;
    bool any; /* one of them is enough; else each is worth its part */
};
void cli_task_free(struct cli_task *task);
const char *cli_task_expected(const struct cli_task *task, uint32_t i); /* i < n_expected */

/* The fraction of the expected strings that the answer holds (any: 1 or 0), by RULER's rule:
 * letters compare without case. */
double cli_task_score(const struct cli_task *task, tl_str answer);

typedef struct cli_task_kind cli_task_kind;
const cli_task_kind *cli_task_kind_find(const char *name); /* NULL: none */
const char *cli_task_kind_name(size_t i);                  /* NULL behind the last */
bool cli_task_kind_copies(
    const cli_task_kind *kind); /* the answer is what follows, to the letter */

struct cli_task_params {
    const cli_task_kind *kind;
    const struct cli_filler *filler;
    uint64_t seed;
    double depth;     /* 0 .. 1: where what is asked for stands, for kinds that ask for one thing */
    uint32_t n_units; /* length: sentences, words or pairs; at least the kind's least */
};
/* The same params make the same task. Only TL_ERR_MEMORY. */
TL_MUST tl_err cli_task_make(struct cli_task *out, const struct cli_task_params *params);

/* The longest task that takes at most n_max by `size`; sets params->n_units. TL_ERR_UNSUPPORTED
 * where even the shortest takes more. */
struct cli_task_fit {
    uint64_t n_max;
    tl_err (*size)(void *user, const struct cli_task *task, uint64_t *n);
    void *user;
};
TL_MUST tl_err cli_task_make_fit(struct cli_task *out, struct cli_task_params *params,
                                 const struct cli_task_fit *fit);

/* {"task", "input", "outputs": [text, ...], "match": "all"|"any"}; absent, `task` is file_name
 * (NULL: it must be there) and `match` "all"; instead of outputs there may be one `answer`, and an
 * `answer_prefix`, as RULER's files have it, begins the answer. Other keys are ignored.
 * TL_ERR_FORMAT where it is not that; *out is then empty. */
TL_MUST tl_err cli_task_read(struct cli_task *out, const json_t *object, const char *file_name);

#ifdef __cplusplus
}
#endif

#endif
