/* Model files that should open, and what is then read from them: files of gguf-py (tests/corpus),
 * of our own writer, split models, and the files of ../shared. What should not open is in
 * test_weights_hostile.c. */
#include "core/weights.h"
#include "gguf_writer.h"
#include "heap.h"
#include "support.h"
#include "weights_walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static tl_weights *open_corpus(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/corpus/weights/%s.gguf", TL_SOURCE_DIR, name);
    tl_weights *w = NULL;
    if (tl_weights_open(&w, path, NULL)) {
        fail_msg("%s does not open", path);
    }
    assert_string_equal(tl_weights_path(w), path);
    return w;
}

static tl_str str_of(const tl_weights *w, const char *key) {
    tl_str s = {0};
    assert_int_equal(tl_meta_get_str(w, key, TL_REQUIRED, &s), TL_OK);
    return s;
}

static const struct tl_meta *array_of(const tl_weights *w, const char *key, tl_meta_type elem,
                                      uint64_t n) {
    const struct tl_meta *m = NULL;
    assert_int_equal(tl_meta_get_array(w, key, TL_REQUIRED, elem, &m), TL_OK);
    assert_non_null(m);
    assert_int_equal(m->n, n);
    return m;
}

/* Goal: values of every type are what gguf-py wrote. */
static void reads_keys_of_gguf_py(void **state) {
    (void)state;
    tl_weights *w = open_corpus("keys");
    weights_walk(w);
    assert_int_equal(tl_weights_version(w), 3);
    assert_int_equal(tl_weights_n_metas(w), 17);
    assert_int_equal(tl_weights_n_tensors(w), 0);
    assert_true(tl_str_is(tl_weights_meta(w, 0)->key, "general.architecture"));
    assert_true(tl_str_is(tl_weights_meta(w, 1)->key, "test.u8"));
    assert_true(tl_str_is(str_of(w, "test.str"), "na\xc3\xafve \xf0\x9f\x98\x80"));
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"test.u8", 200},         {"test.i8", -100},
                {"test.u16", 60000},      {"test.i16", -30000},
                {"test.u32", 4000000000}, {"test.i32", -2000000000},
                {"test.u64", INT64_MAX},  {"test.i64", -((int64_t)1 << 62)},
                {"test.bool", 1}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        assert_int_equal(tl_meta_int_at(tl_weights_find_meta(w, ints[i].key), 0), ints[i].value);
    }
    assert_true(tl_meta_float_at(tl_weights_find_meta(w, "test.f32"), 0) == (double)0.1f);
    assert_true(tl_meta_float_at(tl_weights_find_meta(w, "test.f64"), 0) == 0.1);
    const struct tl_meta *m = array_of(w, "test.i32s", TL_META_I32, 4);
    assert_int_equal(tl_meta_int_at(m, 0), -1);
    assert_int_equal(tl_meta_int_at(m, 3), INT32_MAX);
    m = array_of(w, "test.f32s", TL_META_F32, 3);
    assert_true(tl_meta_float_at(m, 1) == -0.25 && tl_meta_float_at(m, 2) == (double)1e30f);
    m = array_of(w, "test.bools", TL_META_BOOL, 3);
    assert_int_equal(tl_meta_int_at(m, 1), 0);
    assert_int_equal(tl_meta_int_at(m, 2), 1);
    m = array_of(w, "test.strs", TL_META_STR, 5);
    const uint8_t *at = m->data;
    assert_int_equal(tl_meta_next_str(&at).len, 0);
    assert_true(tl_str_is(tl_meta_next_str(&at), "a"));
    assert_true(tl_str_is(tl_meta_next_str(&at), "bc"));
    assert_true(tl_str_is(tl_meta_next_str(&at), "\xc3\xa9t\xc3\xa9"));
    assert_int_equal(tl_meta_next_str(&at).len, 300);
    assert_ptr_equal(at, m->end);
    tl_weights_close(&w);
    assert_null(w);
}

/* Goal: tensors of every type lie where gguf-py put them, in version 2 and another alignment too.
 */
static void reads_tensors_of_gguf_py(void **state) {
    (void)state;
    static const char *const files[] = {"types", "types-v2-aligned-64"};
    for (uint32_t f = 0; f < 2; f++) {
        tl_weights *w = open_corpus(files[f]);
        weights_walk(w);
        assert_int_equal(tl_weights_version(w), 3 - f);
        assert_int_equal(tl_weights_n_tensors(w), TL_I32 + 1);
        for (uint32_t i = 0; i < TL_I32; i++) {
            const struct tl_tensor *const t = tl_weights_tensor(w, i);
            char name[32];
            snprintf(name, sizeof name, "test.%s", tl_dtype_info(t->dtype)->name);
            assert_true(tl_str_is(t->name, name));
            assert_int_equal(t->dtype, (tl_dtype)i);
            assert_int_equal(t->n_dims, 2);
            assert_int_equal(t->dims[0], 256);
            assert_int_equal(t->dims[1], 1 + i % 3);
            const uint64_t row_bytes = tl_row_bytes(t->dtype, 256);
            assert_int_equal(t->bytes, row_bytes * t->dims[1]);
            for (uint64_t row = 0; row < t->dims[1]; row++) {
                assert_int_equal(((const uint8_t *)t->data)[row * row_bytes], i);
            }
        }
        const struct tl_tensor *const deep = tl_weights_find_tensor(w, "test.deep");
        static const uint64_t dims[TL_DIMS_MAX] = {2, 3, 4, 5};
        assert_int_equal(deep->n_dims, 4);
        assert_memory_equal(deep->dims, dims, sizeof dims);
        for (int i = 0; i < 120; i++) {
            assert_true(((const float *)deep->data)[i] == (float)i);
        }
        assert_null(tl_weights_find_tensor(w, "test.dee"));
        assert_null(tl_weights_find_tensor(w, "test.deeper"));
        tl_weights_close(&w);
    }
}

/* Goal: naming any part opens the whole. */
static void reads_split_models_of_gguf_py(void **state) {
    (void)state;
    static const char *const names[] = {"split-00001-of-00002", "split-00002-of-00002"};
    for (int f = 0; f < 2; f++) {
        tl_weights *w = open_corpus(names[f]);
        weights_walk(w);
        assert_true(tl_str_is(str_of(w, "test.name"), "in two parts"));
        assert_int_equal(tl_weights_n_tensors(w), 3);
        for (uint32_t i = 0; i < 3; i++) {
            const struct tl_tensor *const t = tl_weights_tensor(w, i);
            assert_true(*(const float *)t->data == (float)i);
            assert_int_equal(t->name.data[5], '0' + i);
        }
        assert_int_equal(tl_weights_bytes(w), 352 + 224);
        tl_weights_close(&w);
    }
}

/* One file in memory with a key of each kind, for the getters. */
static tl_bytes typed_file(void) {
    struct gguf_writer g;
    gguf_begin(&g);
    gguf_u32(&g, "u32", 4294967295u);
    gguf_i32(&g, "i32", 77);
    gguf_i32(&g, "negative", -1);
    gguf_raw(&g, "u64", TL_META_U64, &(uint64_t){4294967295u}, 8);
    gguf_raw(&g, "large", TL_META_U64, &(uint64_t){4294967296u}, 8);
    gguf_raw(&g, "huge", TL_META_U64, &(uint64_t){UINT64_MAX}, 8);
    gguf_raw(&g, "i64", TL_META_I64, &(int64_t){-4294967296}, 8);
    gguf_f32(&g, "f32", 1.5f);
    gguf_raw(&g, "f64", TL_META_F64, &(double){0.1}, 8);
    gguf_raw(&g, "f64-large", TL_META_F64, &(double){1e300}, 8);
    gguf_raw(&g, "f64-infinite", TL_META_F64, &(double){(double)INFINITY}, 8);
    gguf_f32(&g, "nan", NAN);
    gguf_bool(&g, "true", true);
    gguf_bool(&g, "false", false);
    gguf_str(&g, "str", "text");
    gguf_i32s(&g, "i32s", (int32_t[]){1, 2}, 2);
    gguf_f32s(&g, "f32s", NULL, 0);
    gguf_strs(&g, "strs", (const char *const[]){"a", "b"}, 2);
    return gguf_end(&g);
}

enum get { U32, F32, BOOL, STR, I32S };

static tl_err get_any(const tl_weights *w, enum get get, const char *key, tl_need need,
                      double *out) {
    uint32_t u32 = 9;
    float f32 = 9;
    bool boolean = true;
    tl_str str = {"123456789", 9};
    const struct tl_meta *array = NULL;
    tl_err err = TL_OK;
    switch (get) {
    case U32:
        err = tl_meta_get_u32(w, key, need, &u32);
        *out = u32;
        break;
    case F32:
        err = tl_meta_get_f32(w, key, need, &f32);
        *out = (double)f32;
        break;
    case BOOL:
        err = tl_meta_get_bool(w, key, need, &boolean);
        *out = boolean ? 9 : 0;
        break;
    case STR:
        err = tl_meta_get_str(w, key, need, &str);
        *out = (double)str.len;
        break;
    case I32S:
        err = tl_meta_get_array(w, key, need, TL_META_I32, &array);
        *out = array != NULL ? (double)array->n : 9;
        break;
    }
    return err;
}

/* Goal: a getter gives the value or an error that names file and key; 9 below is what was there
 * before, which an absent key leaves alone. */
static void getters_give_what_fits_and_refuse_the_rest(void **state) {
    (void)state;
    static const struct {
        enum get get;
        const char *key;
        tl_err err;
        double value;
    } cases[] = {
        {U32, "u32", TL_OK, 4294967295.0},
        {U32, "i32", TL_OK, 77},
        {U32, "u64", TL_OK, 4294967295.0},
        {U32, "negative", TL_ERR_FORMAT, 9},
        {U32, "large", TL_ERR_FORMAT, 9},
        {U32, "huge", TL_ERR_FORMAT, 9},
        {U32, "i64", TL_ERR_FORMAT, 9},
        {U32, "f32", TL_ERR_FORMAT, 9},
        {U32, "true", TL_ERR_FORMAT, 9},
        {U32, "str", TL_ERR_FORMAT, 9},
        {U32, "i32s", TL_ERR_FORMAT, 9},
        {F32, "f32", TL_OK, 1.5},
        {F32, "f64", TL_OK, (double)0.1f},
        {F32, "f64-large", TL_ERR_FORMAT, 9},
        {F32, "f64-infinite", TL_OK, (double)INFINITY},
        {F32, "nan", TL_OK, (double)NAN},
        {F32, "u32", TL_ERR_FORMAT, 9},
        {F32, "str", TL_ERR_FORMAT, 9},
        {F32, "f32s", TL_ERR_FORMAT, 9},
        {BOOL, "true", TL_OK, 9},
        {BOOL, "false", TL_OK, 0},
        {BOOL, "u32", TL_ERR_FORMAT, 9},
        {BOOL, "str", TL_ERR_FORMAT, 9},
        {STR, "str", TL_OK, 4},
        {STR, "u32", TL_ERR_FORMAT, 9},
        {STR, "strs", TL_ERR_FORMAT, 9},
        {I32S, "i32s", TL_OK, 2},
        {I32S, "f32s", TL_ERR_FORMAT, 9},
        {I32S, "strs", TL_ERR_FORMAT, 9},
        {I32S, "i32", TL_ERR_FORMAT, 9},
        {I32S, "str", TL_ERR_FORMAT, 9},
        {U32, "absent", TL_OK, 9},
        {F32, "absent", TL_OK, 9},
        {BOOL, "absent", TL_OK, 9},
        {STR, "absent", TL_OK, 9},
        {I32S, "absent", TL_OK, 9},
    };
    tl_bytes file = typed_file();
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_weights *w = NULL;
    assert_int_equal(tl_weights_open_memory(&w, file.data, file.len, "m.gguf", &log), TL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int need = TL_OPTIONAL; need <= TL_REQUIRED; need++) {
            const bool missing = need == TL_REQUIRED && strcmp(cases[i].key, "absent") == 0;
            const tl_err want = missing ? TL_ERR_FORMAT : cases[i].err;
            kept = (struct kept_log){0};
            double value = -1;
            assert_int_equal(get_any(w, cases[i].get, cases[i].key, (tl_need)need, &value), want);
            assert_true(value == cases[i].value || (isnan(value) && isnan(cases[i].value)));
            assert_int_equal(kept.n_errors, want != TL_OK);
            if (want) {
                assert_int_equal(strncmp(kept.sentence, "m.gguf: key ", 12), 0);
                assert_non_null(strstr(kept.sentence, cases[i].key));
            }
        }
    }
    assert_true(tl_weights_log(w)->user == &kept);
    tl_weights_close(&w);
    tl_bytes_free(&file);
}

/* A folder of our own under /tmp, removed with all that is in it by drop_folder. */
static void make_folder(char path[64]) {
    snprintf(path, 64, "/tmp/tl-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void part_path(char *path, size_t room, const char *folder, unsigned no, unsigned count) {
    snprintf(path, room, "%s/model-%05u-of-%05u.gguf", folder, no, count);
}

static void drop_folder(const char *folder, unsigned count) {
    char path[256];
    for (unsigned no = 1; no <= count + 1; no++) {
        part_path(path, sizeof path, folder, no, count);
        remove(path);
    }
    snprintf(path, sizeof path, "%s/renamed.gguf", folder);
    remove(path);
    assert_int_equal(rmdir(folder), 0);
}

/* How one part of a split model is written; the honest values unless a test changes them. */
struct part_plan {
    const char *folder;
    unsigned no, count;         /* of the file's name, from 1 */
    unsigned key_no, key_count; /* of the keys, no from 0 */
    int n_tensors;              /* of split.tensors.count; -1: no such key */
    const char *tensor;         /* name of its one tensor; NULL: none */
};

static void write_part(struct part_plan plan) {
    struct gguf_writer g;
    gguf_begin(&g);
    gguf_u32(&g, "test.part", plan.no);
    if (plan.no == 1) {
        gguf_str(&g, "test.first", "yes");
    }
    gguf_raw(&g, "split.no", TL_META_U16, &(uint16_t){(uint16_t)plan.key_no}, 2);
    gguf_raw(&g, "split.count", TL_META_U16, &(uint16_t){(uint16_t)plan.key_count}, 2);
    if (plan.n_tensors >= 0) {
        gguf_i32(&g, "split.tensors.count", plan.n_tensors);
    }
    if (plan.tensor != NULL) {
        const float values[4] = {(float)plan.no, 0, 0, 0};
        gguf_tensor_f32(&g, plan.tensor, TL_F32, (uint64_t[]){4}, 1, values);
    }
    char path[256];
    part_path(path, sizeof path, plan.folder, plan.no, plan.count);
    gguf_end_to_file(&g, path);
}

/* Three parts, the first without tensors, as gguf-split's --no-tensor-first-split makes them. */
static void write_model(const char *folder) {
    write_part((struct part_plan){folder, 1, 3, 0, 3, 2, NULL});
    write_part((struct part_plan){folder, 2, 3, 1, 3, 2, "b"});
    write_part((struct part_plan){folder, 3, 3, 2, 3, 2, "a"});
}

static void expect_failure(const char *folder, unsigned no, tl_err want, unsigned guilty,
                           const char *words) {
    char path[256];
    part_path(path, sizeof path, folder, no, 3);
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_weights *w = NULL;
    heap_watch(0);
    const tl_err err = tl_weights_open(&w, path, &log);
    assert_int_equal(heap_unwatch().n_live, 0);
    assert_int_equal(err, want);
    assert_null(w);
    assert_int_equal(kept.n_errors, 1);
    part_path(path, sizeof path, folder, guilty, 3);
    if (strncmp(kept.sentence, path, strlen(path)) != 0 || strstr(kept.sentence, words) == NULL) {
        fail_msg("%s", kept.sentence);
    }
}

/* Goal: tensors of all parts in order, keys of the first, whichever part is named. */
static void split_models_open_by_any_part(void **state) {
    (void)state;
    char folder[64], path[256];
    make_folder(folder);
    write_model(folder);
    for (unsigned no = 1; no <= 3; no++) {
        part_path(path, sizeof path, folder, no, 3);
        tl_weights *w = NULL;
        assert_int_equal(tl_weights_open(&w, path, NULL), TL_OK);
        weights_walk(w);
        assert_string_equal(tl_weights_path(w), path);
        assert_true(tl_str_is(str_of(w, "test.first"), "yes"));
        uint32_t part = 0;
        assert_int_equal(tl_meta_get_u32(w, "test.part", TL_REQUIRED, &part), TL_OK);
        assert_int_equal(part, 1);
        assert_int_equal(tl_weights_n_metas(w), 5);
        assert_int_equal(tl_weights_n_tensors(w), 2);
        assert_true(tl_str_is(tl_weights_tensor(w, 0)->name, "b"));
        assert_true(*(const float *)tl_weights_find_tensor(w, "b")->data == 2.0f);
        assert_true(*(const float *)tl_weights_find_tensor(w, "a")->data == 3.0f);
        tl_weights_close(&w);
    }
    drop_folder(folder, 3);
}

/* Goal: whatever is wrong with one part is said of that part. */
static void split_models_with_a_bad_part_are_refused(void **state) {
    (void)state;
    char folder[64], path[256];
    make_folder(folder);
    for (unsigned no = 1; no <= 3; no++) {
        const unsigned named = no % 3 + 1;
        write_model(folder);
        part_path(path, sizeof path, folder, no, 3);
        assert_int_equal(remove(path), 0);
        expect_failure(folder, named, TL_ERR_IO, no, "is missing: part");
        write_model(folder);
        assert_int_equal(truncate(path, 20), 0);
        expect_failure(folder, named, TL_ERR_FORMAT, no, "truncated");
        assert_int_equal(truncate(path, 0), 0);
        expect_failure(folder, named, TL_ERR_FORMAT, no, "is an empty file");
    }
    write_model(folder);
    write_part((struct part_plan){folder, 2, 3, 2, 3, 2, "b"});
    expect_failure(folder, 1, TL_ERR_FORMAT, 2, "its keys say part 3 of 3");
    write_part((struct part_plan){folder, 2, 3, 1, 4, 2, "b"});
    expect_failure(folder, 1, TL_ERR_FORMAT, 2, "its keys say part 2 of 4");
    write_part((struct part_plan){folder, 2, 3, 0, 1, 2, "b"});
    expect_failure(folder, 1, TL_ERR_FORMAT, 2, "its keys say part 1 of 1");
    write_part((struct part_plan){folder, 2, 3, 1, 3, 7, "b"});
    expect_failure(folder, 1, TL_ERR_FORMAT, 2, "split.tensors.count");
    write_part((struct part_plan){folder, 2, 3, 1, 3, 2, "a"});
    expect_failure(folder, 1, TL_ERR_FORMAT, 1, "two tensors are named a");
    write_part((struct part_plan){folder, 1, 3, 0, 3, 3, NULL});
    write_part((struct part_plan){folder, 2, 3, 1, 3, 3, "b"});
    write_part((struct part_plan){folder, 3, 3, 2, 3, 3, "a"});
    expect_failure(folder, 1, TL_ERR_FORMAT, 1, "hold 2 tensors");
    drop_folder(folder, 3);
}

/* Goal: a part under another name says why it cannot be used; a lone file may have any name. */
static void split_models_need_their_names(void **state) {
    (void)state;
    char folder[64], path[256], other[256];
    make_folder(folder);
    write_model(folder);
    part_path(path, sizeof path, folder, 2, 3);
    snprintf(other, sizeof other, "%s/renamed.gguf", folder);
    assert_int_equal(rename(path, other), 0);
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_weights *w = NULL;
    assert_int_equal(tl_weights_open(&w, other, &log), TL_ERR_FORMAT);
    assert_non_null(strstr(kept.sentence, "NAME-00002-of-00003.gguf"));
    tl_bytes part = read_file(other);
    assert_int_equal(tl_weights_open_memory(&w, part.data, part.len, "m", &log), TL_ERR_FORMAT);
    assert_non_null(strstr(kept.sentence, "part 2 of 3"));
    tl_bytes_free(&part);
    write_part((struct part_plan){folder, 3, 3, 0, 1, -1, "a"});
    part_path(path, sizeof path, folder, 3, 3);
    assert_int_equal(tl_weights_open(&w, path, &log), TL_OK);
    assert_int_equal(tl_weights_n_tensors(w), 1);
    tl_weights_close(&w);
    drop_folder(folder, 3);
}

/* Goal: a model of 20000 keys and tensors with long common beginnings opens, and all are found, in
 * no time: looking each up by walking through all would take 400 million comparisons of 60 bytes.
 */
static void many_names_are_found_quickly(void **state) {
    (void)state;
    enum { N = 20000 };
    struct gguf_writer g;
    gguf_begin(&g);
    char name[80];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "a.name.that.is.long.and.begins.as.all.others.do.%05u",
                 i * 7919u % N);
        gguf_u32(&g, name, i);
        gguf_tensor(&g, name, TL_F32, (uint64_t[]){1}, 1, &(float){(float)i});
    }
    tl_bytes file = gguf_end(&g);
    tl_weights *w = NULL;
    const uint64_t begin_ns = tl_now_ns();
    assert_int_equal(tl_weights_open_memory(&w, file.data, file.len, "m", NULL), TL_OK);
    weights_walk(w);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "a.name.that.is.long.and.begins.as.all.others.do.%05u",
                 i * 7919u % N);
        assert_int_equal(tl_meta_int_at(tl_weights_find_meta(w, name), 0), i);
        assert_true(*(const float *)tl_weights_find_tensor(w, name)->data == (float)i);
    }
    assert_true(tl_now_ns() - begin_ns < 5000000000u); /* the whole program: 90 ms, 2026-11 */
    tl_weights_close(&w);
    tl_bytes_free(&file);
}

/* Goal: vocabularies and models that others made open, and every byte of them can be read. */
static void reads_the_models_of_shared(void **state) {
    (void)state;
    shared_or_skip();
    static const struct {
        const char *path;
        uint64_t n_tokens, n_tensors;
    } files[] = {
        {"tokenizers/llama-bpe/ggml-vocab-llama-bpe.gguf", 128256, 0},
        {"tokenizers/qwen2/ggml-vocab-qwen2.gguf", 151936, 0},
        {"tokenizers/llama-spm/ggml-vocab-llama-spm.gguf", 32000, 0},
        {"tokenizers/gpt-2/ggml-vocab-gpt-2.gguf", 50257, 0},
        {"models/stories260K/stories260K.gguf", 512, 48},
        {"models/tinystories-656k/TinyStories-656K-Q4_K_M.gguf", 2048, 20},
        {"models/random-kquant/random-llama-kq-IQ4_XS.gguf", 0, 21},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        tl_weights *w = NULL;
        assert_int_equal(tl_weights_open(&w, shared_path(files[i].path), NULL), TL_OK);
        weights_walk(w);
        assert_int_equal(tl_weights_n_tensors(w), files[i].n_tensors);
        if (files[i].n_tokens > 0) {
            array_of(w, "tokenizer.ggml.tokens", TL_META_STR, files[i].n_tokens);
        }
        tl_weights_close(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keys_of_gguf_py),
        cmocka_unit_test(reads_tensors_of_gguf_py),
        cmocka_unit_test(reads_split_models_of_gguf_py),
        cmocka_unit_test(getters_give_what_fits_and_refuse_the_rest),
        cmocka_unit_test(split_models_open_by_any_part),
        cmocka_unit_test(split_models_with_a_bad_part_are_refused),
        cmocka_unit_test(split_models_need_their_names),
        cmocka_unit_test(many_names_are_found_quickly),
        cmocka_unit_test(reads_the_models_of_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
