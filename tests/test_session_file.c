/* Session files: what was saved goes on as if nothing had happened, and whatever is not such a file
 * is refused and left alone. The measure of "as if nothing had happened" is the session that was
 * not interrupted: the same logits, bit for bit, and the same traffic. */
#include "lazy.h"
#include "session_kept.h"
#include "session_walk.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Instead of registry.c: engines can be opened on the lazy device by its name. */
extern const tl_backend tl_backend_cpu;
const tl_backend *const tl_backends[] = {&tl_backend_cpu, &lazy_backend, NULL};

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

/* One life, saved and resumed at every turn of it, beside one that is never interrupted: a prompt,
 * steps over the edges of blocks, a second prompt, a rewind, steps. The context changes on the way.
 */
static void live_twice(struct kept *f, const char *what) {
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("life"));
    tl_session *whole = kept_session(f, KEPT_CTX), *cut = kept_session(f, KEPT_CTX);
    static const uint32_t ctxs[] = {KEPT_CTX, 440, 500, 420, KEPT_CTX, 480};
    for (int turn = 0; turn < 6; turn++) {
        tl_session *const both[] = {whole, cut};
        for (int i = 0; i < 2; i++) {
            tl_session *const s = both[i];
            switch (turn) {
            case 0:
                kept_feed(s, f->ids, 210);
                break;
            case 1:
                kept_step(s, f->ids + 210, 47);
                break;
            case 2:
                kept_step(s, f->ids + 257, 90);
                break;
            case 3:
                kept_feed(s, f->ids + 347, 50);
                break;
            case 4:
                tl_session_rewind(s, 230);
                break;
            default:
                kept_feed(s, f->ids, 20);
            }
        }
        kept_expect_same(f, whole, cut, what);
        kept_save(cut, path, "turn");
        tl_session_close(&cut);
        cut = kept_resume(f->engine, path, ctxs[turn]);
        kept_expect_same(f, whole, cut, what);
    }
    kept_step(whole, f->ids + 20, 70);
    kept_step(cut, f->ids + 20, 70);
    kept_expect_same(f, whole, cut, what);
    tl_session_close(&whole);
    tl_session_close(&cut);
}

/* Goal: a resumed session is the saved one, for every preset, with and without sliding windows. */
static void test_goes_on(void **state) {
    (void)state;
    static const char *const models[] = {GOLDEN "smollm-9-3.gguf", GOLDEN "gemma2-swa.gguf",
                                         GOLDEN "qwen3-hd128.gguf"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            struct kept f;
            kept_open(&f, models[m], p->name);
            live_twice(&f, p->name);
            tl_engine_close(&f.engine);
        }
    }
}

static struct tl_policy random_policy(struct tl_rng *rng) {
    struct tl_policy p;
    do {
        p = tl_presets[rng_below(rng, 10)].policy;
        p.index = (tl_index)rng_below(rng, 4);
        p.page = 1u << rng_below(rng, 7);
        p.sink = (uint32_t)rng_below(rng, 100);
        p.recent = (uint32_t)rng_below(rng, 200);
        p.topk = 1 + (uint32_t)rng_below(rng, 40);
        p.home = (tl_home)rng_below(rng, 3);
        p.hot = rng_below(rng, 2) ? 0 : 100;
    } while (tl_policy_check(&p, NULL));
    return p;
}

/* Goal: the same for any policies, another one in each layer. */
static void test_any_policy_goes_on(void **state) {
    (void)state;
    struct tl_rng rng = {31};
    struct kept f;
    kept_open(&f, GOLDEN "gemma2-swa.gguf", "full");
    for (int round = 0; round < 12; round++) {
        for (uint32_t il = 0; il < f.n_layers; il++) {
            f.policies[il] = random_policy(&rng);
        }
        live_twice(&f, "random");
    }
    tl_engine_close(&f.engine);
}

/* Goal: a device whose memory has no address and which works only when it is waited for keeps its
 * sessions as well, and a file goes from one device to another: both compute the same here. */
static void test_other_device(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("device"));
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        struct kept lazy, cpu;
        lazy_configure(7, p->policy.hot > 0);
        kept_open_on(&lazy, "lazy", GOLDEN "gemma2-swa.gguf", p->name);
        kept_open(&cpu, GOLDEN "gemma2-swa.gguf", p->name);
        live_twice(&lazy, p->name);
        tl_session *a = kept_session(&lazy, KEPT_CTX), *b = NULL;
        kept_feed(a, lazy.ids, 300);
        kept_step(a, lazy.ids + 300, 20);
        kept_save(a, path, "");
        b = kept_resume(cpu.engine, path, KEPT_CTX);
        kept_step(b, lazy.ids + 320, 40);
        kept_save(b, path, "");
        tl_session_close(&b);
        b = kept_resume(lazy.engine, path, KEPT_CTX);
        kept_step(a, lazy.ids + 320, 70);
        kept_step(b, lazy.ids + 360, 30);
        kept_expect_same(&lazy, a, b, p->name);
        tl_session_close(&a);
        tl_session_close(&b);
        tl_engine_close(&lazy.engine);
        tl_engine_close(&cpu.engine);
    }
}

/* Goal: the hot set comes back, so that nothing crosses the link again that was there. */
static void test_hot_set_is_kept(void **state) {
    (void)state;
    struct kept f;
    kept_open(&f, GOLDEN "smollm-9-3.gguf", "tailor");
    assert_int_equal(tl_policy_set(&f.policies[0], "topk", "24", NULL), TL_OK);
    assert_int_equal(tl_policy_set(&f.policies[0], "hot", "64", NULL), TL_OK);
    tl_session *whole = kept_session(&f, KEPT_CTX);
    kept_feed(whole, f.ids, 400);
    kept_step(whole, f.ids + 400, 20);
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("hot"));
    kept_save(whole, path, "");
    tl_session *cut = kept_resume(f.engine, path, 460);
    const struct tl_traffic before = tl_session_traffic(whole);
    kept_step(whole, f.ids + 420, 30);
    kept_step(cut, f.ids + 420, 30);
    const struct tl_traffic a = tl_session_traffic(whole), b = tl_session_traffic(cut);
    assert_true(b.rows_hit > 0 && b.rows_fetched > 0);
    assert_int_equal(a.rows_hit - before.rows_hit, b.rows_hit);
    assert_int_equal(a.rows_fetched - before.rows_fetched, b.rows_fetched);
    tl_session_close(&whole);
    tl_session_close(&cut);
    tl_engine_close(&f.engine);
}

/* A small file of the walker's model in memory: `n` tokens of a preset. */
static tl_bytes small_file(const char *preset, uint32_t n) {
    struct kept f;
    kept_open(&f, GOLDEN "smollm-9-3.gguf", preset);
    if (f.policies[0].hot > 0) {
        assert_int_equal(tl_policy_set(&f.policies[0], "topk", "8", NULL), TL_OK);
        assert_int_equal(tl_policy_set(&f.policies[0], "hot", "16", NULL), TL_OK);
        assert_int_equal(tl_policy_set(&f.policies[0], "sink", "8", NULL), TL_OK);
        assert_int_equal(tl_policy_set(&f.policies[0], "recent", "8", NULL), TL_OK);
    }
    f.dense = NULL;
    tl_session *s = kept_session(&f, 256);
    if (n > 3) {
        kept_feed(s, f.ids, n - 3);
        kept_step(s, f.ids + n - 3, 3);
    }
    kept_save(s, kept_path("small"), "{\"some\": \"thing\"}");
    tl_bytes file = read_file(kept_path("small"));
    tl_session_close(&s);
    tl_engine_close(&f.engine);
    return file;
}

/* Goal: every truncation and every altered byte is refused, and nothing crashes. */
static void test_damaged(void **state) {
    (void)state;
    static const char *const presets[] = {"kivi1", "tailor"};
    for (int p = 0; p < 2; p++) {
        tl_bytes file = small_file(presets[p], 150);
        uint8_t *const copy = malloc(file.len);
        assert_non_null(copy);
        memcpy(copy, file.data, file.len);
        assert_true(session_walk(copy, file.len));
        for (size_t n = 0; n < file.len; n += n < 2000 ? 1 : 17) {
            assert_false(session_walk(copy, n));
        }
        struct tl_rng rng = {5};
        for (size_t i = 0; i < file.len; i += i < 2000 ? 1 : 1 + rng_below(&rng, 8)) {
            const uint8_t flip = (uint8_t)(1u << rng_below(&rng, 8));
            copy[i] ^= flip;
            if (session_walk(copy, file.len)) {
                fail_msg("%s: byte %zu of %zu altered and nobody noticed", presets[p], i, file.len);
            }
            copy[i] ^= flip;
        }
        free(copy);
        char *const longer = malloc(file.len + 1);
        assert_non_null(longer);
        memcpy(longer, file.data, file.len);
        longer[file.len] = 0;
        assert_false(session_walk((const uint8_t *)longer, file.len + 1));
        free(longer);
        tl_bytes_free(&file);
    }
}

/* Goal: what stands behind right checksums is hostile all the same: any numbers in header, table,
 * policies and hot set are refused or do no harm. */
static void test_hostile(void **state) {
    (void)state;
    static const char *const presets[] = {"kivi2", "tailor", "full"};
    struct tl_rng rng = {7};
    unsigned n_resumed = 0;
    for (int p = 0; p < 3; p++) {
        tl_bytes file = small_file(presets[p], 150);
        uint8_t *const copy = malloc(file.len);
        assert_non_null(copy);
        uint32_t n_sections;
        memcpy(&n_sections, file.data + 12, sizeof n_sections);
        const size_t head = 64 + 32 * (size_t)n_sections;
        for (int round = 0; round < 1500; round++) {
            memcpy(copy, file.data, file.len);
            const size_t where = round % 3 == 0   ? rng_below(&rng, head)
                                 : round % 3 == 1 ? head + rng_below(&rng, 1200)
                                                  : rng_below(&rng, file.len);
            for (size_t i = where; i < file.len && i < where + 1 + (size_t)round % 5; i++) {
                copy[i] = (uint8_t)(copy[i] + (round % 2 ? rng_next(&rng) : 1));
            }
            session_fix_checksums(copy, file.len);
            n_resumed += session_walk(copy, file.len);
        }
        free(copy);
        tl_bytes_free(&file);
    }
    assert_true(n_resumed > 100); /* altered rows are only numbers */
}

/* The bytes of the first section of a kind. */
static char *section(const tl_bytes *file, uint32_t kind) {
    uint32_t n, k;
    uint64_t off;
    memcpy(&n, file->data + 12, sizeof n);
    for (uint32_t i = 0; i < n; i++) {
        const char *const entry = file->data + 64 + (size_t)i * 32;
        memcpy(&k, entry, sizeof k);
        memcpy(&off, entry + 8, sizeof off);
        if (k == kind) {
            return file->data + off;
        }
    }
    fail_msg("no section of kind %u", kind);
    return NULL;
}

static void expect_contradiction(tl_bytes *file, const char *what) {
    session_fix_checksums((uint8_t *)file->data, file->len);
    if (session_walk((const uint8_t *)file->data, file->len)) {
        fail_msg("%s: nobody noticed", what);
    }
}

static void put_int(char *at, int32_t value) { memcpy(at, &value, sizeof value); }

/* Goal: what the checksums say is right and the layers cannot be: block counts that do not follow
 * from the rows, a hot set that names rows that are not there, one twice, or no slot. */
static void test_contradictions(void **state) {
    (void)state;
    enum { OWNER = 16 + TL_TIER_HOT_OWNER, USED, HAND };
    const tl_bytes good = small_file("tailor", 250); /* 3 blocks, rows 8 .. 199 of them */
    tl_bytes file = {0};
    assert_int_equal(tl_bytes_add(&file, good.data, good.len), TL_OK);
    session_fix_checksums((uint8_t *)file.data, file.len);
    assert_true(session_walk((const uint8_t *)file.data, file.len));
    assert_memory_equal(file.data, good.data, good.len); /* they were right */

    char *const blocks = strstr(section(&file, 1), "\"n_blocks\":3");
    assert_non_null(blocks);
    for (char count = '0'; count <= '9'; count++) {
        blocks[11] = count;
        if (count != '3') {
            expect_contradiction(&file, "blocks");
        }
    }
    blocks[11] = '3';
    static const int32_t owners[] = {192, 1000, -2, INT32_MIN, INT32_MAX};
    char *const owner = section(&file, OWNER);
    for (size_t i = 0; i < sizeof owners / sizeof owners[0]; i++) {
        put_int(owner, owners[i]);
        expect_contradiction(&file, "owner");
    }
    memcpy(owner, owner + 4, 4);
    assert_true(*(const int32_t *)(const void *)owner >= 0);
    expect_contradiction(&file, "a row in two slots");
    memcpy(file.data, good.data, good.len);
    put_int(section(&file, USED), 2);
    expect_contradiction(&file, "used");
    memcpy(file.data, good.data, good.len);
    put_int(section(&file, HAND), 17);
    expect_contradiction(&file, "hand");
    put_int(section(&file, HAND), -1);
    expect_contradiction(&file, "hand");
    memcpy(file.data, good.data, good.len);
    put_int(section(&file, 2) + 40, 264); /* the vocabulary's size */
    expect_contradiction(&file, "token");
    tl_bytes_free(&file);
    file = good;
    tl_bytes_free(&file);
}

/* Goal: a session that has not found its dense layers yet finds them after it was resumed, and one
 * that has does not look again. */
static void test_dense_layers(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("dense"));
    struct kept f;
    kept_open(&f, GOLDEN "gemma2-swa.gguf", "tailor");
    const struct tl_policy dense = tl_preset_find("kivi2")->policy;
    struct tl_session_params params = {.n_ctx = KEPT_CTX,
                                       .n_chunk = 64,
                                       .policies = f.policies,
                                       .dense = &dense,
                                       .dense_above = 1e-9,
                                       .identify_rows = 100};
    tl_session *whole = NULL;
    assert_int_equal(tl_session_open(&whole, f.engine, &params), TL_OK);
    kept_feed(whole, f.ids, 60);
    kept_save(whole, path, "");
    tl_session_lock *lock = NULL;
    tl_session_file *file = NULL;
    tl_session *cut = NULL;
    assert_int_equal(tl_session_lock_open(&lock, path, NULL), TL_OK);
    assert_int_equal(tl_session_file_open(&file, lock), TL_OK);
    const struct tl_session_info info = tl_session_file_info(file);
    assert_non_null(info.dense);
    params.policies = info.policies;
    params.dense = info.dense;
    params.dense_above = info.dense_above;
    assert_int_equal(tl_session_open(&cut, f.engine, &params), TL_OK);
    assert_int_equal(tl_session_resume(cut, file, "test"), TL_OK);
    tl_session_file_close(&file);
    tl_session_lock_close(&lock);
    kept_feed(whole, f.ids + 60, 200);
    kept_feed(cut, f.ids + 60, 200);
    kept_expect_same(&f, whole, cut, "dense");
    unsigned n_dense = 0;
    for (uint32_t il = 0; il < f.n_layers; il++) {
        struct tl_policy a, b;
        struct tl_kv_bytes bytes;
        tl_session_get_layer(whole, il, &a, &bytes);
        tl_session_get_layer(cut, il, &b, &bytes);
        assert_int_equal(a.home, b.home);
        n_dense += a.home == TL_HOME_NONE && a.k_codec == TL_CODEC_INT2;
    }
    assert_true(n_dense > 0);
    kept_save(cut, path, "");
    tl_session_close(&cut);
    cut = kept_resume(f.engine, path, 480);
    kept_step(whole, f.ids + 260, 80);
    kept_step(cut, f.ids + 260, 80);
    kept_expect_same(&f, whole, cut, "dense, found");
    tl_session_close(&whole);
    tl_session_close(&cut);
    tl_engine_close(&f.engine);
}

static void expect_refused(tl_session *s, const char *path, tl_err want, const char *part) {
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_session_lock *lock = NULL;
    tl_session_file *file = NULL;
    assert_int_equal(tl_session_lock_open(&lock, path, &log), TL_OK);
    tl_err err = tl_session_file_open(&file, lock);
    err = err ? err : tl_session_resume(s, file, "mine");
    if (err != want || strstr(kept.sentence, part) == NULL || kept.n_errors != 1) {
        fail_msg("error %d: %s", (int)err, kept.sentence);
    }
    assert_int_equal(tl_session_n(s), 0);
    tl_session_file_close(&file);
    tl_session_lock_close(&lock);
}

/* Goal: another model, another rotation, other policies, too small a context, another version: each
 * is said, and the session that was to be filled is still usable. */
static void test_does_not_fit(void **state) {
    (void)state;
    char path[256], future[256];
    struct kept f, other;
    snprintf(path, sizeof path, "%s", kept_path("fit"));
    snprintf(future, sizeof future, "%s", kept_path("future"));
    kept_open(&f, GOLDEN "smollm-9-3.gguf", "kivi2");
    kept_open(&other, GOLDEN "qwen3-hd128.gguf", "kivi2");
    tl_session *s = kept_session(&f, 300);
    kept_feed(s, f.ids, 250);
    kept_save(s, path, "");
    tl_session_close(&s);
    tl_session *t = kept_session(&other, 300);
    expect_refused(t, path, TL_ERR_FORMAT, "another model");
    kept_feed(t, other.ids, 200);
    tl_session_close(&t);
    s = kept_session(&f, 249);
    expect_refused(s, path, TL_ERR_MEMORY, "holds 250 tokens, the context has room for 249");
    kept_feed(s, f.ids, 249);
    tl_session_close(&s);
    assert_int_equal(tl_policy_set(&f.policies[0], "v_codec", "int4", NULL), TL_OK);
    s = kept_session(&f, 300);
    expect_refused(s, path, TL_ERR_FORMAT, "--kv test, not mine (layer 0: v_codec int2, not int4)");
    tl_session_close(&s);
    tl_bytes file = read_file(path);
    file.data[8]++;
    session_fix_checksums((uint8_t *)file.data, file.len);
    FILE *const out = fopen(future, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file.data, 1, file.len, out), file.len);
    fclose(out);
    tl_bytes_free(&file);
    s = kept_session(&f, 300);
    expect_refused(s, future, TL_ERR_UNSUPPORTED, "version 2, this program reads version 1");
    expect_refused(s, GOLDEN "smollm-9-3.gguf", TL_ERR_FORMAT, "is not a session file");
    tl_session_close(&s);
    tl_engine_close(&f.engine);
    tl_engine_close(&other.engine);
}

/* Goal: a model whose rotary table depends on the context does not go on with rows of another
 * table.
 */
static void test_long_rope(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("rope"));
    struct tl_engine_params params = {.model_path = GOLDEN "phi3-longrope.gguf", .n_threads = 1};
    static const uint32_t ids[] = {1, 2, 3};
    for (uint32_t il = 0; il < 2; il++) {
        tl_engine *e = NULL;
        tl_session *s = NULL;
        params.n_ctx = il == 0 ? 16 : 100000;
        assert_int_equal(tl_engine_open(&e, &params), TL_OK);
        const struct tl_session_params session = {.n_ctx = 16};
        assert_int_equal(tl_session_open(&s, e, &session), TL_OK);
        if (il == 0) {
            kept_feed(s, ids, 3);
            kept_save(s, path, "");
        } else {
            expect_refused(s, path, TL_ERR_FORMAT, "rotary");
        }
        tl_session_close(&s);
        tl_engine_close(&e);
    }
}

/* Goal: the fuzzer's seeds are files that this program resumes (else tests/corpus/make_sessions.sh
 * is to be run). */
static void test_seeds(void **state) {
    (void)state;
    static const char folder[] = TL_SOURCE_DIR "/tests/corpus/session";
    DIR *const dir = opendir(folder);
    assert_non_null(dir);
    unsigned n = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.') {
            continue;
        }
        tl_bytes file = read_file(path);
        if (!session_walk((const uint8_t *)file.data, file.len)) {
            fail_msg("%s cannot be resumed", path);
        }
        tl_bytes_free(&file);
        n++;
    }
    closedir(dir);
    assert_true(n >= 5);
}

static int run(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_device),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_any_policy_goes_on),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_dense_layers),
        cmocka_unit_test(test_does_not_fit),
        cmocka_unit_test(test_long_rope),
        cmocka_unit_test(test_hot_set_is_kept),
        cmocka_unit_test(test_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) { return kept_main(run); }
