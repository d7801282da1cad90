/* Model files that must not open, or may but must not do harm: cut, mutated, lying about sizes, or
 * no model at all. Every refusal is one sentence that begins with the file's name, leaves nothing
 * allocated, and never asks for memory that the file's size does not justify. */
#include "core/weights.h"
#include "gguf_writer.h"
#include "heap.h"
#include "support.h"
#include "weights_walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

/* Checks the sentence of a failure, and what opening asked of the heap. */
static void check_manners(tl_err err, const tl_weights *w, const struct kept_log *kept,
                          const char *name, struct heap_report heap, size_t bytes) {
    assert_int_equal(kept->n_errors, err != TL_OK);
    assert_int_equal(kept->n_warnings, 0);
    assert_true(heap.bytes_total <= 4 * bytes + strlen(name) + 1024);
    assert_true((err == TL_OK) == (w != NULL));
    if (err) {
        assert_int_equal(heap.n_live, 0);
        assert_int_equal(strncmp(kept->sentence, name, strlen(name)), 0);
        assert_int_equal(strncmp(kept->sentence + strlen(name), ": ", 2), 0);
        assert_null(strchr(kept->sentence, '\n'));
    }
}

/* Opens bytes from a block of exactly their size, walks what opens, and returns the error; the
 * sentence is left in *kept. */
static tl_err try_memory(const void *data, size_t bytes, struct kept_log *kept) {
    uint8_t *const exact = test_malloc(bytes);
    memcpy(exact, data, bytes);
    const tl_log log = keep_log(kept);
    tl_weights *w = NULL;
    heap_watch(0);
    const tl_err err = tl_weights_open_memory(&w, exact, bytes, "m.gguf", &log);
    check_manners(err, w, kept, "m.gguf", heap_unwatch(), bytes);
    if (w != NULL) {
        weights_walk(w);
    }
    tl_weights_close(&w);
    test_free(exact);
    return err;
}

static tl_err try_file(const char *path, size_t bytes, struct kept_log *kept) {
    const tl_log log = keep_log(kept);
    tl_weights *w = NULL;
    heap_watch(0);
    const tl_err err = tl_weights_open(&w, path, &log);
    check_manners(err, w, kept, path, heap_unwatch(), bytes);
    tl_weights_close(&w);
    return err;
}

/* Ends the file being written, opens it, and expects this error with these words in the sentence.
 */
static void expect(struct gguf_writer *g, tl_err want, const char *words) {
    tl_bytes file = gguf_end(g);
    struct kept_log kept;
    const tl_err err = try_memory(file.data, file.len, &kept);
    if (err != want || (words != NULL && strstr(kept.sentence, words) == NULL)) {
        fail_msg("error %d, not %d with \"%s\": %s", err, want, words != NULL ? words : "",
                 kept.sentence);
    }
    tl_bytes_free(&file);
}

/* A file with a key of every shape and tensors of several types, the last one up to the last byte.
 */
static tl_bytes whole_file(void) {
    struct gguf_writer g;
    gguf_begin(&g);
    gguf_str(&g, "general.architecture", "llama");
    gguf_u32(&g, "general.alignment", 32);
    gguf_f32(&g, "a.float", 1.5f);
    gguf_bool(&g, "a.bool", true);
    gguf_raw(&g, "a.u64", TL_META_U64, &(uint64_t){7}, 8);
    gguf_strs(&g, "a.strs", (const char *const[]){"one", "", "three"}, 3);
    gguf_i32s(&g, "an.array", (int32_t[]){1, 2, 3}, 3);
    gguf_tensor(&g, "q8", TL_Q8_0, (uint64_t[]){32, 3}, 2, NULL);
    gguf_tensor(&g, "f16", TL_F16, (uint64_t[]){3, 2, 2, 1}, 4, NULL);
    gguf_tensor(&g, "q2", TL_Q2_K, (uint64_t[]){256}, 1, NULL);
    return gguf_end(&g);
}

/* Goal: every proper prefix is refused, from memory and from a file. */
static void check_prefixes(tl_bytes whole) {
    struct kept_log kept;
    assert_int_equal(try_memory(whole.data, whole.len, &kept), TL_OK);
    char path[] = "/tmp/tl-test-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, whole.data, whole.len) == (ssize_t)whole.len);
    for (size_t n = whole.len; n-- > 0;) {
        assert_int_equal(try_memory(whole.data, n, &kept), TL_ERR_FORMAT);
        assert_int_equal(ftruncate(fd, (off_t)n), 0);
        assert_int_equal(try_file(path, n, &kept), TL_ERR_FORMAT);
    }
    close(fd);
    remove(path);
}

static void every_prefix_is_refused(void **state) {
    (void)state;
    tl_bytes file = whole_file();
    check_prefixes(file);
    tl_bytes_free(&file);
}

static void every_prefix_of_the_shared_file_is_refused(void **state) {
    (void)state;
    shared_or_skip();
    tl_bytes file = read_file(shared_path("gguf-corrupt/valid.gguf"));
    check_prefixes(file);
    tl_bytes_free(&file);
}

/* Goal: no single changed byte, and no changed eight bytes, makes us read or allocate too much. */
static void every_changed_byte_is_survived(void **state) {
    (void)state;
    tl_bytes file = whole_file();
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    static const uint64_t words[] = {0, (uint64_t)1 << 32, (uint64_t)1 << 61, INT64_MAX,
                                     UINT64_MAX - 7};
    struct kept_log kept;
    unsigned n_open = 0, n_refused = 0;
    for (size_t at = 0; at < file.len; at++) {
        const char was = file.data[at];
        for (size_t i = 0; i < sizeof values; i++) {
            file.data[at] = (char)values[i];
            const bool open = try_memory(file.data, file.len, &kept) == TL_OK;
            n_open += open;
            n_refused += !open;
        }
        for (int bit = 0; bit < 8; bit++) {
            file.data[at] = (char)(was ^ 1 << bit);
            (void)try_memory(file.data, file.len, &kept);
        }
        file.data[at] = was;
        char eight[8];
        for (size_t i = 0; i < sizeof words / sizeof words[0] && at + 8 <= file.len; i++) {
            memcpy(eight, file.data + at, 8);
            memcpy(file.data + at, &words[i], 8);
            (void)try_memory(file.data, file.len, &kept);
            memcpy(file.data + at, eight, 8);
        }
    }
    assert_true(n_open > 0 && n_refused > 0);
    tl_bytes_free(&file);
}

/* Goal: entries of the tensor table that lie, each refused in words that fit. Behind the table are
 * 1024 bytes of data. */
static void lying_tensors_are_refused(void **state) {
    (void)state;
    static const struct {
        uint32_t n_dims;
        uint64_t dims[5];
        uint32_t type;
        uint64_t offset;
        tl_err err;
        const char *words;
    } cases[] = {
        {1, {256}, 0, 0, TL_OK, NULL},
        {4, {4, 4, 4, 4}, 0, 0, TL_OK, NULL},
        {1, {8}, 0, 992, TL_OK, NULL},
        {1, {9}, 0, 992, TL_ERR_FORMAT, "truncated: tensor t ends at byte"},
        {1, {8}, 0, 1024, TL_ERR_FORMAT, "truncated: tensor t ends at byte"},
        {1, {257}, 0, 0, TL_ERR_FORMAT, "truncated: tensor t ends at byte"},
        {0, {0}, 0, 0, TL_ERR_FORMAT, "has 0 dimensions"},
        {5, {1, 1, 1, 1, 1}, 0, 0, TL_ERR_FORMAT, "has 5 dimensions"},
        {2, {0, 4}, 0, 0, TL_ERR_FORMAT, "a dimension of 0"},
        {2, {4, 0}, 0, 0, TL_ERR_FORMAT, "a dimension of 0"},
        {2, {0, UINT64_MAX}, 0, 0, TL_ERR_FORMAT, "a dimension of 0"},
        {1, {UINT64_MAX}, 0, 0, TL_ERR_FORMAT, "is larger than the file"},
        {1, {(uint64_t)1 << 62}, 0, 0, TL_ERR_FORMAT, "is larger than the file"},
        {2, {(uint64_t)1 << 32, (uint64_t)1 << 32}, 0, 0, TL_ERR_FORMAT, "is larger than the file"},
        {4, {1 << 16, 1 << 16, 1 << 16, 1 << 16}, 1, 0, TL_ERR_FORMAT, "is larger than the file"},
        {2, {((uint64_t)1 << 62) + 8, 4}, 0, 0, TL_ERR_FORMAT, "is larger than the file"},
        {1, {16}, 8, 0, TL_ERR_FORMAT, "rows of 16 elements, no multiple of Q8_0's 32"},
        {2, {16, 2}, 2, 0, TL_ERR_FORMAT, "rows of 16 elements, no multiple of Q4_0's 32"},
        {1, {128}, 12, 0, TL_ERR_FORMAT, "rows of 128 elements, no multiple of Q4_K's 256"},
        {1, {8}, 0, 8, TL_ERR_FORMAT, "no multiple of the file's alignment of 32"},
        {1, {8}, 0, UINT64_MAX - 31, TL_ERR_FORMAT, "lies outside of any file"},
        {1, {8}, 0, (uint64_t)1 << 63, TL_ERR_FORMAT, "truncated: tensor t ends at byte"},
        {1, {8}, 4, 0, TL_ERR_UNSUPPORTED, "tensor t has type Q4_2 (4)"},
        {1, {256}, 16, 0, TL_ERR_UNSUPPORTED, "tensor t has type IQ2_XXS (16)"},
        {1, {8}, 24, 0, TL_ERR_UNSUPPORTED, "tensor t has type I8 (24)"},
        {1, {8}, 26, 0, TL_ERR_UNSUPPORTED, "tensor t has type I32 (26)"},
        {1, {8}, 28, 0, TL_ERR_UNSUPPORTED, "tensor t has type F64 (28)"},
        {1, {8}, 99, 0, TL_ERR_UNSUPPORTED, "tensor t has type unknown (99)"},
        {1, {8}, UINT32_MAX, 0, TL_ERR_UNSUPPORTED, "tensor t has type unknown (4294967295)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer g;
        gguf_begin(&g);
        gguf_tensor_raw(&g, "t", cases[i].dims, cases[i].n_dims, cases[i].type, cases[i].offset);
        static const uint8_t zeros[1024];
        assert_int_equal(tl_bytes_add(&g.data, zeros, sizeof zeros), TL_OK);
        expect(&g, cases[i].err, cases[i].words);
    }
}

/* Goal: tensors must not share a name or a byte, in whatever order they lie. */
static void tensors_are_apart(void **state) {
    (void)state;
    static const struct {
        uint64_t a, b, c;
        const char *words; /* NULL: fine */
    } cases[] = {
        {0, 32, 64, NULL},      {64, 32, 0, NULL},
        {32, 64, 0, NULL},      {0, 0, 64, "a and b overlap"},
        {64, 0, 64, "overlap"}, {0, 64, 0, "a and c overlap"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer g;
        gguf_begin(&g);
        gguf_tensor_raw(&g, "a", (uint64_t[]){8}, 1, 0, cases[i].a);
        gguf_tensor_raw(&g, "b", (uint64_t[]){5}, 1, 0, cases[i].b);
        gguf_tensor_raw(&g, "c", (uint64_t[]){1}, 1, 0, cases[i].c);
        static const uint8_t zeros[128];
        assert_int_equal(tl_bytes_add(&g.data, zeros, sizeof zeros), TL_OK);
        expect(&g, cases[i].words == NULL ? TL_OK : TL_ERR_FORMAT, cases[i].words);
    }
    struct gguf_writer g;
    gguf_begin(&g);
    gguf_tensor(&g, "twice", TL_F32, (uint64_t[]){8}, 1, NULL);
    gguf_tensor(&g, "once", TL_F32, (uint64_t[]){8}, 1, NULL);
    gguf_tensor(&g, "twice", TL_F32, (uint64_t[]){8}, 1, NULL);
    expect(&g, TL_ERR_FORMAT, "two tensors are named twice");
}

/* Goal: values that lie about their type or size. Each is the last thing in its file. */
static void lying_values_are_refused(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        const char *bytes;
        size_t n;
        tl_err err;
        const char *words;
    } cases[] = {
        {13, "\0\0\0\0\0\0\0\0", 8, TL_ERR_FORMAT, "value type 13, which does not exist"},
        {UINT32_MAX, "\0\0\0\0", 4, TL_ERR_FORMAT, "value type 4294967295"},
        {TL_META_U32, "\1\0\0", 3, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_U64, "\1\0\0\0\0\0\0", 7, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_STR, "\4\0\0\0\0\0\0\0abc", 11, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_STR, "\3\0\0\0\0\0\0\0abc", 11, TL_OK, NULL},
        {TL_META_STR, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_STR, "\xf7\xff\xff\xff\xff\xff\xff\xff", 8, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_ARRAY, "\4\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0", 16, TL_ERR_FORMAT,
         "key k does not end"},
        {TL_META_ARRAY, "\4\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0", 16, TL_OK, NULL},
        {TL_META_ARRAY, "\4\0\0\0\0\0\0\0\0\0\0\0", 12, TL_OK, NULL},
        {TL_META_ARRAY, "\x08\0\0\0\0\0\0\0\0\0\0\0", 12, TL_OK, NULL},
        {TL_META_ARRAY, "\x0a\0\0\0\0\0\0\0\0\0\0\x20", 12, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_ARRAY, "\x08\0\0\0\0\0\0\0\1\0\0\0", 12, TL_ERR_FORMAT, "key k does not end"},
        {TL_META_ARRAY, "\x08\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, TL_ERR_FORMAT, "key k"},
        {TL_META_ARRAY, "\x0d\0\0\0\0\0\0\0\0\0\0\0", 12, TL_ERR_FORMAT, "value type 13"},
        {TL_META_ARRAY, "\x09\0\0\0\1\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0", 24,
         TL_ERR_UNSUPPORTED, "key k is an array of arrays"},
        {TL_META_ARRAY, "\x09\0\0\0\0\0\0\0\0\0\0\0", 12, TL_ERR_UNSUPPORTED, "array of arrays"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer g;
        gguf_begin(&g);
        gguf_raw(&g, "k", cases[i].type, cases[i].bytes, cases[i].n);
        expect(&g, cases[i].err, cases[i].words);
    }
}

/* Goal: names are plain text and no two keys have the same. */
static void odd_names_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"", "a\nb", "\x1b[2J", "\xff\xfe", "t\xc3\xa9", "a\x7f"};
    struct gguf_writer g;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        gguf_begin(&g);
        gguf_u32(&g, names[i], 1);
        gguf_u32(&g, "padding", 1);
        expect(&g, TL_ERR_FORMAT, "the name of key 0");
        gguf_begin(&g);
        gguf_u32(&g, "k", 1);
        gguf_tensor(&g, names[i], TL_F32, (uint64_t[]){64}, 1, NULL);
        expect(&g, TL_ERR_FORMAT, "the name of tensor 0");
    }
    gguf_begin(&g);
    gguf_u32(&g, "twice", 1);
    gguf_str(&g, "once", "");
    gguf_str(&g, "twice", "");
    expect(&g, TL_ERR_FORMAT, "two keys are named twice");
}

/* Goal: counts and versions of the header. */
static void lying_headers_are_refused(void **state) {
    (void)state;
    static const uint64_t counts[] = {
        2, 3, 1000, (uint64_t)1 << 32, (uint64_t)1 << 60, (uint64_t)1 << 63, UINT64_MAX};
    struct gguf_writer g;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (int which = 0; which < 3; which++) {
            gguf_begin(&g);
            gguf_u32(&g, "k", 1);
            gguf_tensor(&g, "t", TL_F32, (uint64_t[]){8}, 1, NULL);
            g.n_metas = which != 1 ? counts[i] : 1;
            g.n_tensors = which != 0 ? counts[i] : 1;
            expect(&g, TL_ERR_FORMAT, NULL);
        }
    }
    static const struct {
        uint32_t version;
        tl_err err;
        const char *words;
    } versions[] = {{2, TL_OK, NULL},
                    {3, TL_OK, NULL},
                    {0, TL_ERR_UNSUPPORTED, "GGUF version 0"},
                    {1, TL_ERR_UNSUPPORTED, "GGUF version 1"},
                    {4, TL_ERR_UNSUPPORTED, "GGUF version 4"},
                    {0x02000000, TL_ERR_UNSUPPORTED, "big-endian"},
                    {0x03000000, TL_ERR_UNSUPPORTED, "big-endian"},
                    {UINT32_MAX, TL_ERR_UNSUPPORTED, "GGUF version 4294967295"}};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        gguf_begin(&g);
        g.version = versions[i].version;
        gguf_u32(&g, "k", 1);
        expect(&g, versions[i].err, versions[i].words);
    }
}

/* Goal: the alignment is a sane power of two of an integer type; tensors follow it. */
static void odd_alignments_are_refused(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 1, 3, 4, 24, 33, 1u << 21, 1u << 31, UINT32_MAX};
    static const uint32_t good[] = {8, 16, 32, 64, 4096, 65536};
    struct gguf_writer g;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gguf_begin(&g);
        gguf_u32(&g, "general.alignment", bad[i]);
        gguf_tensor(&g, "t", TL_F32, (uint64_t[]){8}, 1, NULL);
        expect(&g, TL_ERR_FORMAT, "general.alignment");
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        gguf_begin(&g);
        g.alignment = good[i];
        gguf_u32(&g, "general.alignment", good[i]);
        gguf_tensor(&g, "t", TL_F32, (uint64_t[]){1}, 1, NULL);
        gguf_tensor(&g, "u", TL_F32, (uint64_t[]){1}, 1, NULL);
        expect(&g, TL_OK, NULL);
    }
    gguf_begin(&g);
    gguf_str(&g, "general.alignment", "32");
    expect(&g, TL_ERR_FORMAT, "key general.alignment is text");
    gguf_begin(&g);
    gguf_i32(&g, "general.alignment", -32);
    expect(&g, TL_ERR_FORMAT, "key general.alignment is negative");
}

/* Goal: other kinds of files are called by their name. */
static void other_files_are_recognised(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } cases[] = {
        {"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}", 28, "safetensors"},
        {"PK\x03\x04\x14\0\0\0\x08\x08", 10, "zip archive or a PyTorch checkpoint"},
        {"\x80\x02}q\0(X\x05", 8, "PyTorch checkpoint"},
        {"tjgg\x03\0\0\0\0\x7d\0\0", 12, "old ggml model (ggjt)"},
        {"fmgg\x01\0\0\0\0\x7d\0\0", 12, "old ggml model (ggmf)"},
        {"lmgg\0\x7d\0\0\0\x10\0\0", 12, "old ggml model"},
        {"algg\x01\0\0\0\x08\0\0\0", 12, "old ggml adapter"},
        {"<!DOCTYPE html>\n<html>", 22, "web page"},
        {"\n  <html lang=en>", 17, "web page"},
        {"{\"error\": \"not found\"}", 22, "JSON"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer"},
        {"\x1f\x8b\x08\0\0\0\0\0", 8, "gzip"},
        {"\x28\xb5\x2f\xfd\0\0\0\0", 8, "zstd"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0", 12, "zeros"},
        {"gguf\x03\0\0\0", 8, "not a GGUF model file"},
        {"Call me Ishmael.", 16, "not a GGUF model file"},
        {" ", 1, "not a GGUF model file"},
        {"G", 1, "truncated"},
        {"GGUF", 4, "truncated"},
        {"", 0, "empty file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kept_log kept;
        assert_int_equal(try_memory(cases[i].bytes, cases[i].n, &kept), TL_ERR_FORMAT);
        if (strstr(kept.sentence, cases[i].words) == NULL) {
            fail_msg("case %lu: %s", (unsigned long)i, kept.sentence);
        }
    }
}

/* Goal: what is no regular file, or not there, is an error and never a wait. */
static void what_is_no_file_is_refused(void **state) {
    (void)state;
    char folder[] = "/tmp/tl-test-XXXXXX", path[64];
    struct kept_log kept;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(try_file(folder, 0, &kept), TL_ERR_IO);
    assert_non_null(strstr(kept.sentence, "is a directory"));
    snprintf(path, sizeof path, "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(try_file(path, 0, &kept), TL_ERR_IO);
    assert_non_null(strstr(kept.sentence, "is a pipe"));
    remove(path);
    assert_int_equal(try_file(path, 0, &kept), TL_ERR_IO);
    assert_non_null(strstr(kept.sentence, "cannot be opened: No such file"));
    assert_int_equal(try_file("/dev/zero", 0, &kept), TL_ERR_IO);
    assert_non_null(strstr(kept.sentence, "is a device"));
    assert_int_equal(try_file("", 0, &kept), TL_ERR_IO);
    struct gguf_writer g;
    gguf_begin(&g);
    gguf_u32(&g, "k", 1);
    snprintf(path, sizeof path, "%s/file", folder);
    gguf_end_to_file(&g, path);
    assert_int_equal(try_file(path, 64, &kept), TL_OK);
    assert_int_equal(chmod(path, 0), 0);
    if (geteuid() != 0) { /* root may read anything */
        assert_int_equal(try_file(path, 64, &kept), TL_ERR_IO);
        assert_non_null(strstr(kept.sentence, "cannot be opened: Permission denied"));
    }
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(try_file(path, 0, &kept), TL_ERR_FORMAT);
    assert_non_null(strstr(kept.sentence, "is an empty file"));
    remove(path);
    assert_int_equal(rmdir(folder), 0);
}

/* Opens with the n-th allocation failing for every n, until opening succeeds. */
static void check_allocations(const char *path, const void *data, size_t bytes) {
    for (uint64_t n = 1;; n++) {
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        tl_weights *w = NULL;
        heap_watch(n);
        const tl_err err = data != NULL ? tl_weights_open_memory(&w, data, bytes, "m.gguf", &log)
                                        : tl_weights_open(&w, path, &log);
        tl_weights_close(&w);
        const struct heap_report heap = heap_unwatch();
        assert_int_equal(heap.n_live, 0);
        if (err == TL_OK) {
            assert_true(n > 5 && heap.n_allocs == n - 1);
            return;
        }
        assert_int_equal(err, TL_ERR_MEMORY);
        assert_int_equal(kept.n_errors, 1);
        assert_non_null(strstr(kept.sentence, "not enough memory"));
        assert_true(n < 100);
    }
}

/* Goal: running out of memory anywhere is an error that leaves nothing behind. */
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    tl_bytes file = whole_file();
    check_allocations(NULL, file.data, file.len);
    tl_bytes_free(&file);
    check_allocations(TL_SOURCE_DIR "/tests/corpus/weights/types.gguf", NULL, 0);
    check_allocations(TL_SOURCE_DIR "/tests/corpus/weights/split-00002-of-00002.gguf", NULL, 0);
}

/* Cases whose fault only the model or the tokenizer can see: at this level they are good files. */
static bool is_for_others(const char *file) {
    static const char *const names[] = {
        "missing-token_embd", "missing-attn_k",       "missing-ffn_down",
        "shape-attn_k",       "shape-token_embd",     "no-architecture",
        "architecture-type",  "architecture-unknown", "no-embedding_length",
        "embedding_length-0", "head_count-0",         "head_count-5",
        "head_count_kv-0",    "head_count_kv-3",      "head_count_kv-8",
        "block_count-2",      "block_count-max",      "eps-u32",
        "rope-dim-7",         "rope-dim-64",          "no-tokens",
        "tokens-u32",         "tokens-empty",         "tokenizer-unknown",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const size_t len = strlen(names[i]);
        if (strncmp(file, names[i], len) == 0 && strcmp(file + len, ".gguf") == 0) {
            return true;
        }
    }
    return false;
}

/* Goal: the cases of ../shared, as cases.json says. */
static void the_corrupt_files_of_shared(void **state) {
    (void)state;
    shared_or_skip();
    json_t *const cases = json_load_file(shared_path("gguf-corrupt/cases.json"), 0, NULL);
    assert_true(json_array_size(cases) > 100);
    size_t n_others = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *const entry = json_array_get(cases, i);
        const char *const file = json_string_value(json_object_get(entry, "file"));
        const char *expect_words = json_string_value(json_object_get(entry, "expect"));
        if (is_for_others(file)) {
            n_others++;
            expect_words = "accept";
        }
        char path[256];
        snprintf(path, sizeof path, "gguf-corrupt/%s", file);
        tl_bytes bytes = read_file(shared_path(path));
        struct kept_log kept;
        const tl_err err = try_memory(bytes.data, bytes.len, &kept);
        assert_int_equal(try_file(shared_path(path), bytes.len, &kept), err);
        if (strcmp(expect_words, "either") != 0 &&
            (err == TL_OK) != (strcmp(expect_words, "accept") == 0)) {
            fail_msg("%s: %s expected, but: %s", file, expect_words, kept.sentence);
        }
        tl_bytes_free(&bytes);
    }
    assert_int_equal(n_others, 24);
    json_decref(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(every_prefix_of_the_shared_file_is_refused),
        cmocka_unit_test(every_changed_byte_is_survived),
        cmocka_unit_test(lying_tensors_are_refused),
        cmocka_unit_test(tensors_are_apart),
        cmocka_unit_test(lying_values_are_refused),
        cmocka_unit_test(odd_names_are_refused),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(odd_alignments_are_refused),
        cmocka_unit_test(other_files_are_recognised),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(the_corrupt_files_of_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
