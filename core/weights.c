/* Model files on disk: opening and mapping them, putting the parts of a split one together, and
 * finding keys and tensors by name. gguf.c reads the bytes of each part.
 *
 * Keys are those of the first part (the others repeat at most how the model is split); tensors are
 * those of all parts, in order. Names are found by binary search in a sorted table: unlike a hash
 * table it has no bad case that a file could be made for, and 300 names take nine comparisons.
 *
 * Invariant: an open tl_weights is complete and never changes; every pointer in it leads into a
 * mapping that lives as long. A mapped file that another process shortens is not our case. */
#include "gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "models are mapped whole");

struct part {
    const uint8_t *data; /* bytes of it; owned when mapped */
    uint64_t bytes;
    bool mapped;
};

/* What the keys split.* of a part say; count is 1 for a model in one file. */
struct split {
    uint32_t no, count;
    uint32_t n_tensors; /* of all parts; UINT32_MAX where not said */
};

struct tl_weights {
    tl_log log;
    char *path;         /* owned; as given to open */
    struct part *parts; /* owned */
    size_t n_parts;
    uint64_t bytes;   /* of all parts */
    uint32_t version; /* of the first part */
    struct split split;
    struct tl_meta *metas; /* owned */
    uint64_t n_metas;
    struct tl_tensor *tensors; /* owned */
    uint64_t n_tensors;
    /* Owned; the same by name. Each name is the first member of its struct. */
    const tl_str **metas_by_name, **tensors_by_name;
};

_Static_assert(offsetof(struct tl_meta, key) == 0 && offsetof(struct tl_tensor, name) == 0,
               "names come first");

static tl_err fail_memory(const tl_weights *w) {
    return tl_fail(&w->log, TL_ERR_MEMORY, "%s: not enough memory", w->path);
}

/* The operating system's words for an errno. */
static tl_err fail_os(const tl_weights *w, const char *path, const char *what, int error) {
    char words[128];
    if (strerror_r(error, words, sizeof words) != 0) {
        snprintf(words, sizeof words, "error %d", error);
    }
    return tl_fail(&w->log, TL_ERR_IO, "%s: %s: %s", path, what, words);
}

static tl_err map_descriptor(const tl_weights *w, const char *path, int fd, struct part *out) {
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return fail_os(w, path, "cannot be examined", errno);
    }
    if (!S_ISREG(info.st_mode)) {
        return tl_fail(&w->log, TL_ERR_IO, "%s: is %s, not a model file", path,
                       S_ISDIR(info.st_mode)    ? "a directory"
                       : S_ISFIFO(info.st_mode) ? "a pipe"
                                                : "a device");
    }
    if (info.st_size == 0) {
        return tl_fail(&w->log, TL_ERR_FORMAT, "%s: is an empty file", path);
    }
    void *const data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        return fail_os(w, path, "cannot be mapped", errno);
    }
    *out = (struct part){.data = data, .bytes = (uint64_t)info.st_size, .mapped = true};
    return TL_OK;
}

static tl_err map_file(const tl_weights *w, const char *path, struct part *out) {
    /* O_NONBLOCK: a pipe without a writer must not make us wait before we can see what it is. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return fail_os(w, path, "cannot be opened", errno);
    }
    const tl_err err = map_descriptor(w, path, fd, out);
    close(fd);
    return err;
}

static void drop_part(struct part *part) {
    if (part->mapped) {
        munmap((void *)(uintptr_t)part->data, part->bytes);
    }
}

static void drop_parts(tl_weights *w) {
    for (size_t i = 0; i < w->n_parts; i++) {
        drop_part(&w->parts[i]);
    }
    free(w->parts);
    free(w->metas);
    free(w->tensors);
    w->parts = NULL;
    w->metas = NULL;
    w->tensors = NULL;
    w->n_parts = 0;
    w->bytes = w->n_metas = w->n_tensors = 0;
}

static tl_err read_split(const tl_weights *w, const struct tl_gguf *g, const char *path,
                         struct split *out) {
    struct split s = {.no = 0, .count = 1, .n_tensors = UINT32_MAX};
    TL_TRY(tl_gguf_find_u32(g, "split.count", path, &w->log, &s.count));
    TL_TRY(tl_gguf_find_u32(g, "split.no", path, &w->log, &s.no));
    TL_TRY(tl_gguf_find_u32(g, "split.tensors.count", path, &w->log, &s.n_tensors));
    if (s.count <= 1) {
        s = (struct split){.no = 0, .count = 1, .n_tensors = UINT32_MAX};
    }
    *out = s;
    return TL_OK;
}

/* Adds the tensors of g and, from the first part, its keys; takes over what it needs of g. */
static tl_err add_tables(tl_weights *w, struct tl_gguf *g) {
    if (w->n_parts == 0) {
        w->version = g->version;
        w->metas = g->metas;
        w->n_metas = g->n_metas;
        w->tensors = g->tensors;
        w->n_tensors = g->n_tensors;
        *g = (struct tl_gguf){0};
        return TL_OK;
    }
    const uint64_t n = w->n_tensors + g->n_tensors;
    struct tl_tensor *const tensors = realloc(w->tensors, (n + 1) * sizeof *tensors);
    if (tensors == NULL) {
        return fail_memory(w);
    }
    memcpy(tensors + w->n_tensors, g->tensors, g->n_tensors * sizeof *tensors);
    w->tensors = tensors;
    w->n_tensors = n;
    return TL_OK;
}

/* Takes over `part`, also on failure. */
static tl_err add_part(tl_weights *w, struct part part, const char *path) {
    struct part *const parts = realloc(w->parts, (w->n_parts + 1) * sizeof *parts);
    if (parts == NULL) {
        drop_part(&part);
        return fail_memory(w);
    }
    w->parts = parts;
    struct tl_gguf g = {0};
    tl_err err = tl_gguf_parse(&g, part.data, part.bytes, path, &w->log);
    if (err == TL_OK) {
        err = read_split(w, &g, path, &w->split);
    }
    if (err == TL_OK) {
        err = add_tables(w, &g);
    }
    tl_gguf_free(&g);
    if (err) {
        drop_part(&part);
        return err;
    }
    w->parts[w->n_parts++] = part;
    w->bytes += part.bytes;
    return TL_OK;
}

/* A path "PREFIX-00002-of-00005.gguf", taken apart; count is 0 where it does not look so. */
struct split_name {
    int prefix_len;
    uint32_t no, count; /* no counts from 1 */
};

static uint32_t five_digits(const char *digits) {
    uint32_t value = 0;
    for (int i = 0; i < 5; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return 0;
        }
        value = 10 * value + (uint32_t)(digits[i] - '0');
    }
    return value;
}

static struct split_name parse_split_name(const char *path) {
    enum { TAIL_LEN = sizeof "-00001-of-00002.gguf" - 1 };
    struct split_name name = {0};
    const size_t len = strlen(path);
    if (len < TAIL_LEN || len > 65536) {
        return name;
    }
    const char *const tail = path + len - TAIL_LEN;
    if (tail[0] != '-' || memcmp(tail + 6, "-of-", 4) != 0 || strcmp(tail + 15, ".gguf") != 0) {
        return name;
    }
    name.prefix_len = (int)(len - TAIL_LEN);
    name.no = five_digits(tail + 1);
    name.count = five_digits(tail + 10);
    if (name.no < 1 || name.no > name.count) {
        name.count = 0;
    }
    return name;
}

/* Opens part `no` (from 0) of what `name` was taken from and checks that it is that part. */
static tl_err add_split_part(tl_weights *w, struct split_name name, uint32_t no,
                             uint32_t n_tensors) {
    const size_t room = (size_t)name.prefix_len + 64;
    char *const path = malloc(room);
    if (path == NULL) {
        return fail_memory(w);
    }
    snprintf(path, room, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", name.prefix_len, w->path,
             no + 1, name.count);
    struct part part;
    tl_err err;
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        err = tl_fail(&w->log, TL_ERR_IO,
                      "%s: is missing: part %" PRIu32 " of %" PRIu32 " of the model", path, no + 1,
                      name.count);
    } else {
        err = map_file(w, path, &part);
        if (err == TL_OK) {
            err = add_part(w, part, path);
        }
    }
    if (err == TL_OK && (w->split.no != no || w->split.count != name.count)) {
        err = tl_fail(&w->log, TL_ERR_FORMAT,
                      "%s: damaged: its keys say part %" PRIu32 " of %" PRIu32
                      ", its name says part %" PRIu32 " of %" PRIu32,
                      path, w->split.no + 1, w->split.count, no + 1, name.count);
    }
    if (err == TL_OK && w->split.n_tensors != UINT32_MAX && w->split.n_tensors != n_tensors) {
        err =
            tl_fail(&w->log, TL_ERR_FORMAT,
                    "%s: damaged: key split.tensors.count differs from that of another part", path);
    }
    free(path);
    return err;
}

static tl_err open_parts(tl_weights *w) {
    struct part part;
    TL_TRY(map_file(w, w->path, &part));
    TL_TRY(add_part(w, part, w->path));
    const struct split split = w->split;
    if (split.count == 1) {
        return TL_OK;
    }
    const struct split_name name = parse_split_name(w->path);
    if (name.count == 0) {
        return tl_fail(&w->log, TL_ERR_FORMAT,
                       "%s: is part %" PRIu32 " of %" PRIu32 " of a model, but is not named "
                       "NAME-%05" PRIu32 "-of-%05" PRIu32 ".gguf, so the others cannot be found",
                       w->path, split.no + 1, split.count, split.no + 1, split.count);
    }
    drop_parts(w);
    for (uint32_t i = 0; i < name.count; i++) {
        TL_TRY(add_split_part(w, name, i, split.n_tensors));
    }
    if (split.n_tensors != UINT32_MAX && split.n_tensors != w->n_tensors) {
        return tl_fail(&w->log, TL_ERR_FORMAT,
                       "%s: damaged: all parts together hold %" PRIu64 " tensors, key "
                       "split.tensors.count says %" PRIu32,
                       w->path, w->n_tensors, split.n_tensors);
    }
    return TL_OK;
}

static int compare_names(const void *a, const void *b) {
    const tl_str x = **(const tl_str *const *)a, y = **(const tl_str *const *)b;
    const int order = memcmp(x.data, y.data, tl_min_u64(x.len, y.len));
    return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

/* Sorts n names, each the first member of one of n structs of `stride` bytes from `first` on. */
static tl_err index_names(const tl_weights *w, const char *what, const void *first, uint64_t n,
                          size_t stride, const tl_str ***out) {
    const tl_str **const names = malloc((n + 1) * sizeof *names);
    if (names == NULL) {
        return fail_memory(w);
    }
    for (uint64_t i = 0; i < n; i++) {
        names[i] = (const tl_str *)(const void *)((const char *)first + i * stride);
    }
    qsort(names, n, sizeof *names, compare_names);
    *out = names;
    for (uint64_t i = 1; i < n; i++) {
        if (tl_str_eq(*names[i - 1], *names[i])) {
            return tl_fail(&w->log, TL_ERR_FORMAT, "%s: damaged: two %ss are named %.*s", w->path,
                           what, tl_shown(*names[i]), names[i]->data);
        }
    }
    return TL_OK;
}

static const void *find_name(const tl_str *const *names, uint64_t n, const char *wanted) {
    const tl_str name = tl_str_from(wanted);
    const tl_str *const key = &name;
    const tl_str *const *const found =
        n > 0 ? bsearch(&key, names, n, sizeof *names, compare_names) : NULL;
    return found != NULL ? *found : NULL;
}

static tl_weights *alloc_weights(const char *path, const tl_log *log) {
    tl_weights *const w = calloc(1, sizeof *w);
    char *const copy = malloc(strlen(path) + 1);
    if (w == NULL || copy == NULL) {
        free(w);
        free(copy);
        (void)tl_fail(log, TL_ERR_MEMORY, "%s: not enough memory", path);
        return NULL;
    }
    strcpy(copy, path);
    w->path = copy;
    w->log = log != NULL ? *log : (tl_log){0};
    return w;
}

/* The end of both ways to open: w has its parts unless err. */
static tl_err finish_open(tl_weights **out, tl_weights *w, tl_err err) {
    if (err == TL_OK) {
        err = index_names(w, "key", w->metas, w->n_metas, sizeof *w->metas, &w->metas_by_name);
    }
    if (err == TL_OK) {
        err = index_names(w, "tensor", w->tensors, w->n_tensors, sizeof *w->tensors,
                          &w->tensors_by_name);
    }
    if (err) {
        tl_weights_close(&w);
        return err;
    }
    *out = w;
    return TL_OK;
}

tl_err tl_weights_open(tl_weights **out, const char *path, const tl_log *log) {
    tl_weights *const w = alloc_weights(path, log);
    return w != NULL ? finish_open(out, w, open_parts(w)) : TL_ERR_MEMORY;
}

tl_err tl_weights_open_memory(tl_weights **out, const void *data, size_t bytes, const char *name,
                              const tl_log *log) {
    tl_weights *const w = alloc_weights(name, log);
    if (w == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = add_part(w, (struct part){.data = data, .bytes = bytes}, name);
    if (err == TL_OK && w->split.count > 1) {
        err = tl_fail(log, TL_ERR_FORMAT,
                      "%s: is part %" PRIu32 " of %" PRIu32 " of a model; the others are not there",
                      name, w->split.no + 1, w->split.count);
    }
    return finish_open(out, w, err);
}

void tl_weights_close(tl_weights **w) {
    if (*w != NULL) {
        drop_parts(*w);
        free((*w)->metas_by_name);
        free((*w)->tensors_by_name);
        free((*w)->path);
        free(*w);
        *w = NULL;
    }
}

const char *tl_weights_path(const tl_weights *w) { return w->path; }

uint64_t tl_weights_bytes(const tl_weights *w) { return w->bytes; }

uint32_t tl_weights_version(const tl_weights *w) { return w->version; }

const tl_log *tl_weights_log(const tl_weights *w) { return &w->log; }

uint64_t tl_weights_n_metas(const tl_weights *w) { return w->n_metas; }

const struct tl_meta *tl_weights_meta(const tl_weights *w, uint64_t i) {
    TL_ASSERT(i < w->n_metas);
    return &w->metas[i];
}

const struct tl_meta *tl_weights_find_meta(const tl_weights *w, const char *key) {
    return find_name(w->metas_by_name, w->n_metas, key);
}

uint64_t tl_weights_n_tensors(const tl_weights *w) { return w->n_tensors; }

const struct tl_tensor *tl_weights_tensor(const tl_weights *w, uint64_t i) {
    TL_ASSERT(i < w->n_tensors);
    return &w->tensors[i];
}

const struct tl_tensor *tl_weights_find_tensor(const tl_weights *w, const char *name) {
    return find_name(w->tensors_by_name, w->n_tensors, name);
}
