/* See session_kept.h. The folder is the only thing kept between calls: made once, by the first test
 * program's main. */
#include "session_kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/tailor-session-XXXXXX";

int kept_main(int (*run)(void)) {
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    const int n_failed = run();
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? n_failed : 1;
}

const char *kept_path(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void kept_open_on(struct kept *f, const char *backend, const char *model, const char *preset) {
    *f = (struct kept){0};
    const struct tl_engine_params params = {
        .model_path = model, .backend = backend, .n_threads = 2};
    assert_int_equal(tl_engine_open(&f->engine, &params), TL_OK);
    const struct tl_shape *const shape = &tl_engine_model(f->engine)->shape;
    f->n_layers = shape->n_layers;
    f->n_vocab = shape->n_vocab;
    f->dense = tl_preset_find(preset)->dense;
    for (uint32_t il = 0; il < f->n_layers; il++) {
        f->policies[il] = tl_preset_find(preset)->policy;
    }
    struct tl_rng rng = {17};
    for (size_t i = 0; i < KEPT_IDS; i++) {
        f->ids[i] = (uint32_t)rng_below(&rng, f->n_vocab);
    }
}

void kept_open(struct kept *f, const char *model, const char *preset) {
    kept_open_on(f, "cpu", model, preset);
}

tl_session *kept_session(struct kept *f, uint32_t n_ctx) {
    tl_session *s = NULL;
    const struct tl_session_params params = {
        .n_ctx = n_ctx, .n_chunk = 64, .policies = f->policies, .dense = f->dense};
    assert_int_equal(tl_session_open(&s, f->engine, &params), TL_OK);
    return s;
}

void kept_feed(tl_session *s, const uint32_t *ids, uint32_t n) {
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = n}), TL_OK);
}

void kept_step(tl_session *s, const uint32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
    }
}

void kept_small_tailor(struct tl_policy *policies, uint32_t n) {
    for (uint32_t il = 0; il < n; il++) {
        policies[il] = tl_preset_find("tailor")->policy;
        policies[il].topk = 32;
        policies[il].hot = 64;
        policies[il].sink = 4;
        policies[il].recent = 40;
    }
}

tl_err kept_try_save(tl_session *s, const char *path, const char *app) {
    tl_session_lock *lock = NULL;
    TL_TRY(tl_session_lock_open(&lock, path, NULL));
    const tl_err err =
        tl_session_save(s, lock, &(struct tl_session_save){.kv = "test", .app = tl_str_from(app)});
    tl_session_lock_close(&lock);
    return err;
}

void kept_save(tl_session *s, const char *path, const char *app) {
    assert_int_equal(kept_try_save(s, path, app), TL_OK);
}

tl_session *kept_resume(tl_engine *engine, const char *path, uint32_t n_ctx) {
    tl_session_lock *lock = NULL;
    tl_session_file *file = NULL;
    tl_session *s = NULL;
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_err err = tl_session_lock_open(&lock, path, &log);
    err = err ? err : tl_session_file_open(&file, lock);
    if (err) {
        fail_msg("%s", kept.sentence);
    }
    const struct tl_session_info info = tl_session_file_info(file);
    const struct tl_session_params params = {
        .n_ctx = n_ctx, .n_chunk = 64, .policies = info.policies, .dense = info.dense};
    assert_int_equal(tl_session_open(&s, engine, &params), TL_OK);
    if (tl_session_resume(s, file, "test")) {
        fail_msg("%s", kept.sentence);
    }
    tl_session_file_close(&file);
    tl_session_lock_close(&lock);
    return s;
}

void kept_expect_same(const struct kept *f, tl_session *a, tl_session *b, const char *what) {
    assert_int_equal(tl_session_n(a), tl_session_n(b));
    assert_memory_equal(tl_session_ids(a), tl_session_ids(b), 4 * tl_session_n(a));
    const float *const x = tl_session_logits(a), *const y = tl_session_logits(b);
    assert_true((x == NULL) == (y == NULL));
    if (x != NULL && memcmp(x, y, f->n_vocab * sizeof *x) != 0) {
        fail_msg("%s: the logits behind %u tokens differ", what, tl_session_n(a));
    }
}
