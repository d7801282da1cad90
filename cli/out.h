/* What commands share in talking to the user: one-line errors, the log of a command, text that may
 * go to a terminal, files, the interrupt key. */
#ifndef TL_CLI_OUT_H
#define TL_CLI_OUT_H

#include "core/base.h"

#include <jansson.h>
#include <stdio.h>

/* "tailor: SENTENCE" on stderr, one line. */
void cli_error(const char *fmt, ...) TL_PRINTF(1, 2);

/* From now on sentences of every level go there instead, from any thread; NULL: to stderr again.
 * For the full screen, which has no other place for them. */
void cli_set_sink(void (*fn)(void *user, tl_level level, const char *sentence), void *user);

/* A log that prints as it goes: errors and warnings as one line on stderr, notes only when stderr
 * is a terminal. With strict, a warning counts as an error. */
struct cli_log {
    bool strict;
    bool quiet;        /* errors only */
    unsigned n_errors; /* sentences printed as errors */
    unsigned n_warnings;
};
tl_log cli_log_of(struct cli_log *log);

/* The exit code of a command that failed with err: makes sure that one sentence was printed. */
int cli_failed(const struct cli_log *log, tl_err err);
/* True, after an error line, when strict and a warning was printed. */
bool cli_strict_failed(const struct cli_log *log);

/* Text of a model: as it is into a pipe or file; on a terminal without control characters that
 * could move the cursor or change its state. Flushes. */
void cli_print_text(const char *data, size_t n);

/* The bytes that make a terminal put the text into its clipboard (OSC 52). */
TL_MUST tl_err cli_osc52(const char *text, size_t n, tl_bytes *out);

/* One JSON object and a newline on stdout; takes the reference. False after an error line. */
bool cli_print_json(json_t *object);

/* A name from a command line or a file as a JSON string: what is no UTF-8 becomes '?'. NULL: out of
 * memory. */
json_t *cli_json_text(const char *text);

/* The whole file, "-" is standard input; more than a gigabyte (a device that never ends, a wrong
 * name) is an error. False after an error line. Free with tl_bytes_free. */
bool cli_read_file(const char *path, tl_bytes *out);
/* The same, with the sentence in a log. */
TL_MUST tl_err cli_read_file_log(const char *path, tl_bytes *out, const tl_log *log);

/* The first byte that does not belong to a text, which is UTF-8 without NUL; -1: all do. */
int64_t cli_not_text_at(const char *data, size_t n);

/* Ctrl+C: the first sets a flag, a second one while it is set ends the process at once (exit 130).
 * SIGTERM and SIGHUP end as they do. */
void cli_interrupt_install(void);
bool cli_interrupted(void);
void cli_interrupt_clear(void);

bool cli_stderr_is_tty(void);
bool cli_stdout_is_tty(void);

#endif
