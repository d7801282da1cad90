/* --session FILE: what the commands keep between two runs of the program. The core saves the
 * session itself; this is the rest of it, which goes along as JSON:
 *
 *   { "by": "run",                      the command; another one refuses the file
 *     "kv": "tailor",                   preset or policy file
 *     "sampler": { "seed": "2a", "state": "9e3779b97f4a7c3f", "temp": 0.8, ... },
 *     ... what the command adds } */
#ifndef TL_CLI_KEEP_H
#define TL_CLI_KEEP_H

#include "args.h"

#include "core/sample.h"
#include "core/session_file.h"

#include <jansson.h>

struct cli_keep {
    tl_session_lock *lock; /* owned; NULL: no --session */
    tl_session_file *file; /* owned; NULL: nothing to resume, or it was resumed */
    json_t *app;           /* owned: the file's JSON; NULL: a new session */
    tl_bytes kv_words;     /* owned: the cache options of the session as they were written */
    uint32_t n_resumed;    /* tokens that came from the file */
};

/* Takes the file, and opens it where it is there. Nothing where args have no --session. Sentences
 * go to the log. */
TL_MUST tl_err cli_keep_open(struct cli_keep *keep, const struct cli_args *args, const tl_log *log);
void cli_keep_close(struct cli_keep *keep);

/* Another loaded model takes the file over from the one that goes. */
void cli_keep_move(struct cli_keep *to, struct cli_keep *from);

/* The file's preset or policy file; only where there is a file. */
const char *cli_keep_kv(const struct cli_keep *keep);

/* Overwrites params with the file's; false where there is none. */
bool cli_keep_sampler(const struct cli_keep *keep, struct tl_sampler_params *params);
bool cli_keep_sampler_state(const struct cli_keep *keep, uint64_t *state);

struct cli_keep_what {
    const struct cli_args *args;
    const char *kv;
    const struct tl_sampler_params *params;
    const tl_sampler *sampler;
    json_t *more; /* an object whose members are added; the reference is taken */
};
/* Saves the session. TL_OK without --session. */
TL_MUST tl_err cli_keep_save(struct cli_keep *keep, tl_session *session,
                             const struct cli_keep_what *what);

#endif
