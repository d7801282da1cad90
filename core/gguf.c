/* The GGUF format: bytes of one file in, tables of checked keys and tensors out.
 *
 *   "GGUF"  u32 version  u64 n_tensors  u64 n_keys
 *   n_keys times:     string name  u32 type  value
 *   n_tensors times:  string name  u32 n_dims  u64 dims[n_dims]  u32 type  u64 offset
 *   padding to general.alignment (32 where the key is absent), then the data that offsets count
 * from
 *
 *   a string is u64 length and bytes; an array is u32 element type, u64 count and the values
 *
 * Invariant: nothing is read behind `bytes`, and nothing found in the file is added, multiplied or
 * used to allocate before it was compared with what is left of the file. Reading goes through a
 * cursor that only moves forward, in one pass; there is no recursion, and arrays of arrays, which
 * no published model has, are refused. What the keys mean is for others. */
#include "gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    META_BYTES_MIN = 8 + 1 + 4 + 1,           /* a name of one letter, a type, one byte */
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* a name of one letter, one dimension */
    NAME_BYTES_MAX = 65535,                   /* the format's own limit */
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MIN = 8, /* the format's own limit, and enough to read any element in place */
    ALIGNMENT_MAX = 1 << 20,
};

struct cursor {
    const char *path;
    const tl_log *log;
    const uint8_t *data;
    uint64_t at, bytes; /* at <= bytes */
    /* What is being read, for sentences. */
    const char *what;
    uint64_t index;
    tl_str name; /* empty until it is read */
};

/* "key tokenizer.ggml.tokens", or "key 12" while its name is not known. */
static const char *subject(const struct cursor *c, char words[160]) {
    if (c->name.len > 0) {
        snprintf(words, 160, "%s %.*s", c->what, tl_shown(c->name), c->name.data);
    } else {
        snprintf(words, 160, "%s %" PRIu64, c->what, c->index);
    }
    return words;
}

static uint64_t left(const struct cursor *c) { return c->bytes - c->at; }

static tl_err fail_short(const struct cursor *c) {
    char words[160];
    return tl_fail(c->log, TL_ERR_FORMAT,
                   "%s: truncated or damaged: %s does not end within the file's %" PRIu64 " bytes",
                   c->path, subject(c, words), c->bytes);
}

static tl_err read_bytes(struct cursor *c, void *dst, uint64_t n) {
    if (n > left(c)) {
        return fail_short(c);
    }
    memcpy(dst, c->data + c->at, n);
    c->at += n;
    return TL_OK;
}

static tl_err read_u32(struct cursor *c, uint32_t *out) { return read_bytes(c, out, sizeof *out); }

static tl_err read_u64(struct cursor *c, uint64_t *out) { return read_bytes(c, out, sizeof *out); }

/* A name goes into messages, tables and JSON, so it must be what the format asks for: plain ASCII.
 */
static tl_err read_name(struct cursor *c) {
    uint64_t len = 0;
    TL_TRY(read_u64(c, &len));
    if (len > left(c)) {
        return fail_short(c);
    }
    const tl_str name = {(const char *)c->data + c->at, len};
    bool plain = len > 0 && len <= NAME_BYTES_MAX;
    for (size_t i = 0; i < len && plain; i++) {
        plain = name.data[i] >= 0x20 && name.data[i] < 0x7f;
    }
    if (!plain) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: damaged: the name of %s %" PRIu64
                       " is empty, too long or not plain text",
                       c->path, c->what, c->index);
    }
    c->at += len;
    c->name = name;
    return TL_OK;
}

static tl_err read_value_type(struct cursor *c, tl_meta_type *out) {
    uint32_t type = 0;
    TL_TRY(read_u32(c, &type));
    if (type > TL_META_F64) {
        char words[160];
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: damaged: %s has value type %" PRIu32 ", which does not exist", c->path,
                       subject(c, words), type);
    }
    *out = (tl_meta_type)type;
    return TL_OK;
}

/* Moves over n strings. A vocabulary has hundreds of thousands, so the loop is kept bare. */
static tl_err skip_strings(struct cursor *c, uint64_t n) {
    if (n > left(c) / sizeof(uint64_t)) {
        return fail_short(c);
    }
    const uint8_t *at = c->data + c->at;
    const uint8_t *const end = c->data + c->bytes;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t len;
        if ((uint64_t)(end - at) < sizeof len) {
            return fail_short(c);
        }
        memcpy(&len, at, sizeof len);
        at += sizeof len;
        if (len > (uint64_t)(end - at)) {
            return fail_short(c);
        }
        at += len;
    }
    c->at = (uint64_t)(at - c->data);
    return TL_OK;
}

static tl_err read_meta(struct cursor *c, struct tl_meta *m) {
    TL_TRY(read_name(c));
    TL_TRY(read_value_type(c, &m->type));
    m->key = c->name;
    m->elem = m->type;
    m->n = 1;
    if (m->type == TL_META_ARRAY) {
        TL_TRY(read_value_type(c, &m->elem));
        TL_TRY(read_u64(c, &m->n));
    }
    if (m->elem == TL_META_ARRAY) {
        char words[160];
        return tl_fail(c->log, TL_ERR_UNSUPPORTED,
                       "%s: %s is an array of arrays, which cannot be read here", c->path,
                       subject(c, words));
    }
    m->data = c->data + c->at;
    if (m->elem == TL_META_STR) {
        TL_TRY(skip_strings(c, m->n));
    } else {
        const uint64_t bytes = tl_meta_scalar_bytes(m->elem);
        if (m->n > left(c) / bytes) {
            return fail_short(c);
        }
        c->at += m->n * bytes;
    }
    m->end = c->data + c->at;
    return TL_OK;
}

static tl_err fail_tensor_type(const struct cursor *c, uint32_t type) {
    char known[256] = "";
    size_t len = 0;
    for (int i = 0; i < TL_I32 && len < sizeof known; i++) { /* the weights come first */
        len += (size_t)snprintf(known + len, sizeof known - len, " %s",
                                tl_dtype_info((tl_dtype)i)->name);
    }
    char words[160];
    return tl_fail(c->log, TL_ERR_UNSUPPORTED,
                   "%s: %s has type %s (%" PRIu32 "), which cannot be read here; these can:%s",
                   c->path, subject(c, words), tl_gguf_type_name(type), type, known);
}

/* dims, dtype and bytes of *t; the product is built up under the file's size, so it cannot wrap. */
static tl_err read_shape(struct cursor *c, struct tl_tensor *t) {
    char words[160];
    TL_TRY(read_u32(c, &t->n_dims));
    if (t->n_dims < 1 || t->n_dims > TL_DIMS_MAX) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: damaged: %s has %" PRIu32 " dimensions, not 1 to %d", c->path,
                       subject(c, words), t->n_dims, TL_DIMS_MAX);
    }
    for (uint32_t i = 0; i < TL_DIMS_MAX; i++) {
        t->dims[i] = 1;
        if (i < t->n_dims) {
            TL_TRY(read_u64(c, &t->dims[i]));
        }
    }
    uint32_t type = 0;
    TL_TRY(read_u32(c, &type));
    if (!tl_dtype_from_gguf(type, &t->dtype)) {
        return fail_tensor_type(c, type);
    }
    const struct tl_dtype_info *const info = tl_dtype_info(t->dtype);
    if (t->dims[0] % info->block_elems != 0) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: damaged: %s has rows of %" PRIu64
                       " elements, no multiple of %s's %" PRIu32,
                       c->path, subject(c, words), t->dims[0], info->name, info->block_elems);
    }
    uint64_t bytes = info->block_bytes;
    for (uint32_t i = 0; i < TL_DIMS_MAX; i++) {
        const uint64_t n = i == 0 ? t->dims[0] / info->block_elems : t->dims[i];
        if (n == 0) {
            return tl_fail(c->log, TL_ERR_FORMAT, "%s: damaged: %s has a dimension of 0", c->path,
                           subject(c, words));
        }
        if (n > c->bytes / bytes) {
            return tl_fail(c->log, TL_ERR_FORMAT,
                           "%s: truncated or damaged: %s is larger than the file's %" PRIu64
                           " bytes",
                           c->path, subject(c, words), c->bytes);
        }
        bytes *= n;
    }
    t->bytes = bytes;
    return TL_OK;
}

/* All of *t but where its data is: until the end of all entries is known, `data` points to the
 * entry's offset instead. */
static tl_err read_tensor(struct cursor *c, struct tl_tensor *t) {
    TL_TRY(read_name(c));
    t->name = c->name;
    TL_TRY(read_shape(c, t));
    t->data = c->data + c->at;
    uint64_t offset;
    return read_u64(c, &offset);
}

static tl_err place_tensor(const struct cursor *c, struct tl_tensor *t, uint64_t start,
                           uint32_t alignment) {
    uint64_t offset;
    memcpy(&offset, t->data, sizeof offset);
    if (offset % alignment != 0) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: damaged: tensor %.*s begins at %" PRIu64 ", no multiple of the file's "
                       "alignment of %" PRIu32,
                       c->path, tl_shown(t->name), t->name.data, offset, alignment);
    }
    const uint64_t room = c->bytes > start ? c->bytes - start : 0;
    if (offset > room || t->bytes > room - offset) {
        if (offset > UINT64_MAX - start - t->bytes) {
            return tl_fail(c->log, TL_ERR_FORMAT,
                           "%s: damaged: tensor %.*s lies outside of any file", c->path,
                           tl_shown(t->name), t->name.data);
        }
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: truncated: tensor %.*s ends at byte %" PRIu64 " of %" PRIu64, c->path,
                       tl_shown(t->name), t->name.data, start + offset + t->bytes, c->bytes);
    }
    t->data = c->data + start + offset;
    return TL_OK;
}

static int compare_places(const void *a, const void *b) {
    const struct tl_tensor *const x = *(const struct tl_tensor *const *)a;
    const struct tl_tensor *const y = *(const struct tl_tensor *const *)b;
    const uintptr_t i = (uintptr_t)x->data, j = (uintptr_t)y->data;
    return (i > j) - (i < j);
}

/* Tensors that share bytes would let a small file ask a device for any amount of memory. */
static tl_err check_apart(const struct cursor *c, const struct tl_gguf *g) {
    if (g->n_tensors == 0) {
        return TL_OK;
    }
    const struct tl_tensor **const order = malloc(g->n_tensors * sizeof *order);
    if (order == NULL) {
        return tl_fail(c->log, TL_ERR_MEMORY, "%s: not enough memory", c->path);
    }
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        order[i] = &g->tensors[i];
    }
    qsort(order, g->n_tensors, sizeof *order, compare_places);
    tl_err err = TL_OK;
    for (uint64_t i = 1; i < g->n_tensors && err == TL_OK; i++) {
        const struct tl_tensor *const a = order[i - 1], *const b = order[i];
        if ((uintptr_t)b->data - (uintptr_t)a->data < a->bytes) {
            err =
                tl_fail(c->log, TL_ERR_FORMAT, "%s: damaged: tensors %.*s and %.*s overlap",
                        c->path, tl_shown(a->name), a->name.data, tl_shown(b->name), b->name.data);
        }
    }
    free(order);
    return err;
}

/* What a file without the magic seems to be, from its first bytes; NULL where nothing fits. */
static const char *guess_kind(const uint8_t *data, uint64_t bytes) {
    static const struct {
        const char *magic, *kind;
        uint8_t n;
    } kinds[] = {
        {"lmgg", "an old ggml model from before GGUF; it must be converted", 4},
        {"fmgg", "an old ggml model (ggmf) from before GGUF; it must be converted", 4},
        {"tjgg", "an old ggml model (ggjt) from before GGUF; it must be converted", 4},
        {"algg", "an old ggml adapter (ggla), not a model", 4},
        {"ggml", "an old ggml model from before GGUF; it must be converted", 4},
        {"ggjt", "an old ggml model (ggjt) from before GGUF; it must be converted", 4},
        {"ggla", "an old ggml adapter (ggla), not a model", 4},
        {"PK\x03\x04", "a zip archive or a PyTorch checkpoint; it must be unpacked or converted",
         4},
        {"\x80\x02", "a PyTorch checkpoint; it must be converted to GGUF", 2},
        {"\x1f\x8b", "gzip-compressed; unpack it first", 2},
        {"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first", 4},
        {"\xfd"
         "7zXZ",
         "xz-compressed; unpack it first", 5},
        {"version https://git-lfs", "a Git LFS pointer, not the model itself; run git lfs pull",
         23},
        {"<", "a web page; the download went wrong", 1},
        {"{", "a JSON file", 1},
        {"\0\0\0\0", "a file of zeros; the download may be unfinished", 4},
    };
    /* safetensors: u64 length of a JSON header, then the header. */
    if (bytes > 9 && data[8] == '{' && data[5] == 0 && data[6] == 0 && data[7] == 0) {
        return "a safetensors file; it must be converted to GGUF";
    }
    uint64_t at = 0;
    while (at < bytes && strchr(" \t\r\n", data[at]) != NULL && data[at] != '\0') {
        at++;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i].n <= bytes - at && memcmp(data + at, kinds[i].magic, kinds[i].n) == 0) {
            return kinds[i].kind;
        }
    }
    return NULL;
}

static tl_err read_header(struct cursor *c, struct tl_gguf *g) {
    if (c->bytes < 4 && memcmp(c->data, "GGUF", c->bytes) == 0) {
        return tl_fail(c->log, TL_ERR_FORMAT, "%s: truncated: it has %" PRIu64 " bytes", c->path,
                       c->bytes);
    }
    if (c->bytes < 4 || memcmp(c->data, "GGUF", 4) != 0) {
        const char *const kind = guess_kind(c->data, c->bytes);
        return tl_fail(c->log, TL_ERR_FORMAT, "%s: not a GGUF model file%s%s", c->path,
                       kind != NULL ? ": it seems to be " : "", kind != NULL ? kind : "");
    }
    if (c->bytes < 24) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: truncated: it has %" PRIu64 " bytes, less than a header", c->path,
                       c->bytes);
    }
    c->at = 4;
    TL_TRY(read_u32(c, &g->version));
    if (g->version != 0 && (g->version & 0xffffu) == 0) {
        return tl_fail(c->log, TL_ERR_UNSUPPORTED,
                       "%s: a big-endian GGUF file, which cannot be read here", c->path);
    }
    if (g->version < VERSION_MIN || g->version > VERSION_MAX) {
        return tl_fail(c->log, TL_ERR_UNSUPPORTED,
                       "%s: GGUF version %" PRIu32 ", which cannot be read here (%d and %d can)",
                       c->path, g->version, VERSION_MIN, VERSION_MAX);
    }
    TL_TRY(read_u64(c, &g->n_tensors));
    TL_TRY(read_u64(c, &g->n_metas));
    if (g->n_metas > left(c) / META_BYTES_MIN ||
        g->n_tensors > (left(c) - g->n_metas * META_BYTES_MIN) / TENSOR_BYTES_MIN) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: truncated or damaged: it announces %" PRIu64 " keys and %" PRIu64
                       " tensors, more than its %" PRIu64 " bytes can hold",
                       c->path, g->n_metas, g->n_tensors, c->bytes);
    }
    return TL_OK;
}

static tl_err read_alignment(const struct cursor *c, const struct tl_gguf *g, uint32_t *out) {
    uint32_t alignment = ALIGNMENT_DEFAULT;
    TL_TRY(tl_gguf_find_u32(g, "general.alignment", c->path, c->log, &alignment));
    if (alignment < ALIGNMENT_MIN || alignment > ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0) {
        return tl_fail(c->log, TL_ERR_FORMAT,
                       "%s: damaged: key general.alignment is %" PRIu32
                       ", not a power of two from %d to %d",
                       c->path, alignment, ALIGNMENT_MIN, ALIGNMENT_MAX);
    }
    *out = alignment;
    return TL_OK;
}

static tl_err read_tables(struct cursor *c, struct tl_gguf *g) {
    /* One element more, so that an empty table is no NULL. */
    g->metas = calloc(g->n_metas + 1, sizeof *g->metas);
    g->tensors = calloc(g->n_tensors + 1, sizeof *g->tensors);
    if (g->metas == NULL || g->tensors == NULL) {
        return tl_fail(c->log, TL_ERR_MEMORY, "%s: not enough memory", c->path);
    }
    c->what = "key";
    for (c->index = 0; c->index < g->n_metas; c->index++) {
        c->name = (tl_str){0};
        TL_TRY(read_meta(c, &g->metas[c->index]));
    }
    uint32_t alignment = ALIGNMENT_DEFAULT;
    TL_TRY(read_alignment(c, g, &alignment));
    c->what = "tensor";
    for (c->index = 0; c->index < g->n_tensors; c->index++) {
        c->name = (tl_str){0};
        TL_TRY(read_tensor(c, &g->tensors[c->index]));
    }
    const uint64_t start = tl_align_up(c->at, alignment);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        TL_TRY(place_tensor(c, &g->tensors[i], start, alignment));
    }
    return check_apart(c, g);
}

tl_err tl_gguf_parse(struct tl_gguf *out, const uint8_t *data, uint64_t bytes, const char *path,
                     const tl_log *log) {
    TL_ASSERT((uintptr_t)data % 16 == 0);
    if (bytes == 0) {
        return tl_fail(log, TL_ERR_FORMAT, "%s: is an empty file", path);
    }
    struct cursor c = {.path = path, .log = log, .data = data, .bytes = bytes, .what = "header"};
    struct tl_gguf g = {0};
    tl_err err = read_header(&c, &g);
    if (err == TL_OK) {
        err = read_tables(&c, &g);
    }
    if (err) {
        tl_gguf_free(&g);
        return err;
    }
    *out = g;
    return TL_OK;
}

void tl_gguf_free(struct tl_gguf *g) {
    free(g->metas);
    free(g->tensors);
    *g = (struct tl_gguf){0};
}

tl_err tl_gguf_find_u32(const struct tl_gguf *g, const char *key, const char *path,
                        const tl_log *log, uint32_t *out) {
    for (uint64_t i = 0; i < g->n_metas; i++) {
        if (tl_str_is(g->metas[i].key, key)) {
            return tl_meta_u32(&g->metas[i], path, log, out);
        }
    }
    return TL_OK;
}
