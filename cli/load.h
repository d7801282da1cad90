/* From arguments to a model that is ready: what `run`, `chat` and `bench` begin with. */
#ifndef TL_CLI_LOAD_H
#define TL_CLI_LOAD_H

#include "args.h"
#include "keep.h"
#include "out.h"
#include "share.h"

#include "core/engine.h"

/* Tokens of a prompt that went in, of how many, in what time. */
struct cli_progress {
    size_t done, total;
    double seconds;
};

/* Where text and progress go and what stops them. */
struct cli_hooks {
    void (*text)(void *user, const char *data, size_t n);         /* more of an answer */
    void (*progress)(void *user, const struct cli_progress *now); /* of a prompt */
    bool (*stop)(void *user);
    void *user;
};

struct cli_loaded {
    struct cli_log log;
    tl_engine *engine;
    tl_session *session;
    const char *kv;                /* the preset or policy file of the session */
    const struct cli_hooks *hooks; /* borrowed; NULL: stdout, stderr and Ctrl+C */
    struct cli_keep keep;          /* --session */
    struct cli_share *share;       /* borrowed where it was there before cli_load, else owned */
    bool owns_share;
};

/* The model that comes with the program, beside it where it was installed or built; false where it
 * is not there. */
bool cli_bundled_model(char *path, size_t cap);

/* Opens engine and session, resumed where --session names a file that is there; hooks and share may
 * be set before, the rest is zero. Returns 0, or the exit code after an error line. The log member
 * must not move while it is open. */
int cli_load(struct cli_loaded *out, const struct cli_args *args);
/* What can be said of the session without a model: its budgets. Returns 0 or an exit code. */
int cli_session_params(const struct cli_args *args, struct tl_session_params *out);
/* A session with the cache that kv (NULL: full) and the cache options of args say. */
TL_MUST tl_err cli_open_session(struct cli_loaded *loaded, const struct cli_args *args,
                                const char *kv, const struct tl_session_params *params);
void cli_unload(struct cli_loaded *loaded);

/* Backend, device, kernel class, context and memory in a few lines: as text, and on stderr. */
TL_MUST tl_err cli_spell_plan(const struct cli_loaded *loaded, tl_bytes *out);
/* More of it: parts of the model with size, types and kernels, and memory by tier. plan_text.c */
TL_MUST tl_err cli_spell_tiers(const struct cli_loaded *loaded, tl_bytes *out);
void cli_print_plan(const struct cli_loaded *loaded);
/* That codebooks are built in and for how many layers; "" where none are. */
enum { CLI_BOOKS_MAX = 96 };
const char *cli_spell_books(const struct cli_loaded *loaded, char text[CLI_BOOKS_MAX]);
/* That alone on stderr, for those who see no plan. */
void cli_print_books(const struct cli_loaded *loaded);
/* Into a pipe, which gets no plan, one line on stderr where no other device than the CPU was found
 * though the build could use one and nobody named a backend. */
void cli_say_fallback(const struct cli_loaded *loaded, const struct cli_args *args);

/* args' sampling options; a random seed where none was given, so that it can be reported. Where a
 * session was resumed, what was not given is as it was there. */
struct tl_sampler_params cli_sampler_params(const struct cli_loaded *loaded,
                                            const struct cli_args *args);
/* Lets a new sampler of these params go on with the resumed session's random numbers, unless they
 * have another seed. */
void cli_restore_sampler(const struct cli_loaded *loaded, const struct tl_sampler_params *params,
                         tl_sampler *sampler);

/* Where compiled kernels are kept, XDG's cache folder, in `path`; NULL where nobody says which it
 * is. */
const char *cli_cache_dir(char *path, size_t cap);

/* "5.2 MiB"; text must hold 16 bytes. */
const char *cli_bytes(uint64_t bytes, char *text);

#endif
