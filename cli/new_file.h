/* A file that is there whole or not at all: it is written beside its place under another name, and
 * takes it when all is on disk. */
#ifndef TL_CLI_NEW_FILE_H
#define TL_CLI_NEW_FILE_H

#include "core/base.h"

#include <stdio.h>

enum { CLI_PATH_MAX = 4096 };

struct cli_new_file {
    const char *path; /* borrowed: what errors call it */
    FILE *f;          /* owned; NULL: not open */
    char target[CLI_PATH_MAX],
        temp[CLI_PATH_MAX + 16]; /* temp is empty for what is no regular file */
};

/* Before the work begins, so that a place that cannot be written is known at once. A regular file
 * that is there already is replaced only if `mark` stands in its first 4096 bytes or it is empty:
 * a mistyped name must not cost a model. False after an error line. */
bool cli_new_file_open(struct cli_new_file *file, const char *path, const char *mark);

/* Writes all of it and puts it in its place. False after an error line; then the place is as it
 * was. Closed either way. */
bool cli_new_file_finish(struct cli_new_file *file, const char *data, size_t n);

/* Leaves nothing behind; does nothing to what is not open. */
void cli_new_file_drop(struct cli_new_file *file);

#endif
