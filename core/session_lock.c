/* The right to a session file. It is a lock on a file beside it, not on the file itself, which
 * every save replaces by another one. Invariant: who holds the lock holds it on the PATH.lock that
 * the folder shows, so a lock file may be removed by its holder at any time. */
#include "session_file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES_MAX = 40, LINK_BYTES_MAX = 4096 };

/* The first n bytes of a and all of b as one string; NULL: out of memory. */
static char *join(const char *a, size_t n, const char *b) {
    const size_t m = strlen(b);
    char *const out = malloc(n + m + 1);
    if (out != NULL) {
        memcpy(out, a, n);
        memcpy(out + n, b, m + 1);
    }
    return out;
}

/* The file behind symbolic links: a save must replace it, not the link. NULL: out of memory. */
static char *resolve(const char *path) {
    char target[LINK_BYTES_MAX];
    char *at = join(path, strlen(path), "");
    for (int i = 0; at != NULL && i < TRIES_MAX; i++) {
        const ssize_t n = readlink(at, target, sizeof target - 1);
        if (n <= 0) {
            break;
        }
        target[n] = '\0';
        const char *const slash = target[0] != '/' ? strrchr(at, '/') : NULL;
        char *const next = join(at, slash != NULL ? (size_t)(slash + 1 - at) : 0, target);
        free(at);
        at = next;
    }
    return at;
}

/* PATH may be absent or a file, nothing else. */
static tl_err look_at_file(tl_session_lock *l) {
    struct stat info;
    if (stat(l->path, &info) != 0) {
        return errno == ENOENT ? TL_OK
                               : tl_fail(&l->log, TL_ERR_IO, "%s: %s", l->path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return tl_fail(&l->log, TL_ERR_IO, "%s: is %s, not a session file", l->path,
                       S_ISDIR(info.st_mode) ? "a directory" : "not a regular file");
    }
    l->has_file = true;
    return TL_OK;
}

/* True where the open lock file is still the one that the folder shows. */
static bool is_current(const tl_session_lock *l) {
    struct stat mine, shown;
    return fstat(l->fd, &mine) == 0 && stat(l->lock_path, &shown) == 0 &&
           mine.st_ino == shown.st_ino && mine.st_dev == shown.st_dev;
}

static tl_err take(tl_session_lock *l) {
    for (int i = 0; i < TRIES_MAX; i++) {
        l->fd = open(l->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (l->fd < 0) {
            return tl_fail(&l->log, TL_ERR_IO, "%s: %s", l->lock_path, strerror(errno));
        }
        if (flock(l->fd, LOCK_EX | LOCK_NB) != 0) {
            const int why = errno;
            close(l->fd);
            l->fd = -1;
            return why == EWOULDBLOCK
                       ? tl_fail(&l->log, TL_ERR_IO, "%s: another process is using this session",
                                 l->path)
                       : tl_fail(&l->log, TL_ERR_IO, "%s: %s", l->lock_path, strerror(why));
        }
        if (is_current(l)) {
            return TL_OK;
        }
        close(l->fd); /* its holder removed it while we waited */
        l->fd = -1;
    }
    return tl_fail(&l->log, TL_ERR_IO, "%s: another process is using this session", l->path);
}

static tl_err open_parts(tl_session_lock *l, const char *path) {
    l->path = resolve(path);
    if (l->path == NULL) {
        return TL_ERR_MEMORY;
    }
    l->lock_path = join(l->path, strlen(l->path), ".lock");
    l->tmp_path = join(l->path, strlen(l->path), ".tmp");
    if (l->lock_path == NULL || l->tmp_path == NULL) {
        return TL_ERR_MEMORY;
    }
    TL_TRY(look_at_file(l));
    TL_TRY(take(l));
    l->has_file = false; /* it may have come or gone before the lock was ours */
    TL_TRY(look_at_file(l));
    if (unlink(l->tmp_path) != 0 && errno != ENOENT) {
        return tl_fail(&l->log, TL_ERR_IO, "%s: %s", l->tmp_path, strerror(errno));
    }
    return TL_OK;
}

tl_err tl_session_lock_open(tl_session_lock **out, const char *path, const tl_log *log) {
    tl_session_lock *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return TL_ERR_MEMORY;
    }
    l->fd = -1;
    l->log = log != NULL ? *log : (tl_log){0};
    const tl_err err = open_parts(l, path);
    if (err) {
        tl_session_lock_close(&l);
        return err;
    }
    *out = l;
    return TL_OK;
}

void tl_session_lock_close(tl_session_lock **lock) {
    tl_session_lock *const l = *lock;
    if (l == NULL) {
        return;
    }
    if (l->fd >= 0) {
        unlink(l->lock_path);
        close(l->fd);
    }
    free(l->path);
    free(l->lock_path);
    free(l->tmp_path);
    free(l);
    *lock = NULL;
}

bool tl_session_lock_has_file(const tl_session_lock *lock) { return lock->has_file; }
