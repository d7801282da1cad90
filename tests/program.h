/* What the tests share that run the built program as a user would. */
#ifndef TL_PROGRAM_H
#define TL_PROGRAM_H

#include "support.h"

/* An empty folder for the program's files, there between the two calls. */
extern char scratch_dir[];
bool program_begin(void);
int program_end(int n_failed); /* what main returns */

/* The path of a file in it, valid until the next call. */
const char *scratch(const char *name);
void write_file(const char *path, const void *data, size_t n);

/* What `tailor` said and how it ended; free with done. */
struct ran {
    int code;
    tl_bytes out, err;
};
/* Runs `tailor ARGS` through the shell, input from where the test's comes unless ARGS redirect it.
 */
struct ran tailor(const char *args);
void done(struct ran *ran);

unsigned n_lines(const tl_bytes *text);

/* An error is one line on stderr that begins with the program's name and has `part` in it, and
 * nothing on stdout. */
void expect_error(const char *args, int code, const char *part);

#endif
