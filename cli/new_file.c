/* Devices and pipes cannot be renamed to and are written as they are; a link's target is replaced,
 * not the link. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "new_file.h"

#include "out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MARK_WITHIN = 4096 };

/* Whether the file is ours to replace. */
static bool is_ours(const char *path, const char *mark) {
    char head[MARK_WITHIN + 1];
    FILE *const f = fopen(path, "rb");
    if (f == NULL) {
        return false;
    }
    const size_t n = fread(head, 1, MARK_WITHIN, f);
    fclose(f);
    for (size_t i = 0; i < n; i++) {
        head[i] = head[i] == '\0' ? '?' : head[i];
    }
    head[n] = '\0';
    return n == 0 || strstr(head, mark) != NULL;
}

static bool failed(struct cli_new_file *file, const char *why) {
    cli_error("%s: %s", file->path, why);
    cli_new_file_drop(file);
    return false;
}

/* Where the file goes in the end; false after an error line. */
static bool find_target(struct cli_new_file *file, const char *mark, mode_t *mode) {
    struct stat st;
    if (stat(file->path, &st) != 0) {
        if (errno != ENOENT) {
            return failed(file, strerror(errno));
        }
        const int n = snprintf(file->target, sizeof file->target, "%s", file->path);
        return (size_t)n < sizeof file->target || failed(file, strerror(ENAMETOOLONG));
    }
    if (S_ISDIR(st.st_mode)) {
        return failed(file, strerror(EISDIR));
    }
    if (!S_ISREG(st.st_mode)) {
        return true;
    }
    if (!is_ours(file->path, mark)) {
        return failed(file, "there is a file of another kind, which is not overwritten");
    }
    char *const real = realpath(file->path, NULL);
    const int n = real != NULL ? snprintf(file->target, sizeof file->target, "%s", real) : -1;
    free(real);
    *mode = st.st_mode & 0777;
    return (n >= 0 && (size_t)n < sizeof file->target) || failed(file, strerror(ENAMETOOLONG));
}

bool cli_new_file_open(struct cli_new_file *file, const char *path, const char *mark) {
    *file = (struct cli_new_file){.path = path};
    mode_t mode = 0644;
    if (!find_target(file, mark, &mode)) {
        return false;
    }
    if (file->target[0] == '\0') { /* a device, a pipe */
        file->f = fopen(path, "wb");
        return file->f != NULL || failed(file, strerror(errno));
    }
    snprintf(file->temp, sizeof file->temp, "%s.tmp-XXXXXX", file->target);
    const int fd = mkstemp(file->temp);
    if (fd < 0) {
        file->temp[0] = '\0';
        return failed(file, strerror(errno));
    }
    file->f = fchmod(fd, mode) == 0 ? fdopen(fd, "wb") : NULL;
    if (file->f == NULL) {
        close(fd);
        return failed(file, strerror(errno));
    }
    return true;
}

bool cli_new_file_finish(struct cli_new_file *file, const char *data, size_t n) {
    const bool atomic = file->temp[0] != '\0';
    bool ok = fwrite(data, 1, n, file->f) == n && fflush(file->f) == 0;
    ok = ok && (!atomic || fsync(fileno(file->f)) == 0);
    const int write_errno = errno;
    ok = fclose(file->f) == 0 && ok;
    file->f = NULL;
    if (!ok) {
        return failed(file, strerror(write_errno != 0 ? write_errno : EIO));
    }
    if (atomic && rename(file->temp, file->target) != 0) {
        return failed(file, strerror(errno));
    }
    file->temp[0] = '\0';
    return true;
}

void cli_new_file_drop(struct cli_new_file *file) {
    if (file->f != NULL) {
        fclose(file->f);
        file->f = NULL;
    }
    if (file->temp[0] != '\0') {
        unlink(file->temp);
        file->temp[0] = '\0';
    }
}
