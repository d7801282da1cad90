/* Engine and session: what must hold whatever the model says. Numbers are test_golden.c's business;
 * here it is invariance (chunking, rewinding, threads), refusals, and memory. */
#include "core/engine.h"
#include "heap.h"
#include "support.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL TL_SOURCE_DIR "/tests/golden/gemma2-swa.gguf"
enum { N_IDS = 90 };

static tl_engine *open_engine(const char *path, uint32_t n_threads) {
    tl_engine *e = NULL;
    const struct tl_engine_params params = {.model_path = path, .n_threads = n_threads};
    assert_int_equal(tl_engine_open(&e, &params), TL_OK);
    return e;
}

static tl_session *open_session(tl_engine *e, uint32_t n_ctx, uint32_t n_chunk) {
    tl_session *s = NULL;
    const struct tl_session_params params = {.n_ctx = n_ctx, .n_chunk = n_chunk};
    assert_int_equal(tl_session_open(&s, e, &params), TL_OK);
    return s;
}

static void make_ids(const tl_engine *e, uint32_t *ids, size_t n, uint64_t seed) {
    struct tl_rng rng = {seed};
    for (size_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)rng_below(&rng, tl_engine_model(e)->shape.n_vocab);
    }
}

static void feed(tl_session *s, const uint32_t *ids, size_t n) {
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = n}), TL_OK);
}

static float worst_difference(const float *a, const float *b, uint32_t n) {
    float worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        const float d = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
        worst = d > worst ? d : worst;
    }
    return worst;
}

/* Goal: the same tokens in any chunks give the same logits (to rounding: kernels for one row and
 * for many add up in different orders). Method: one chunk against sizes that divide nothing. */
static void test_chunks(void **state) {
    (void)state;
    tl_engine *e = open_engine(MODEL, 2);
    const uint32_t n_vocab = tl_engine_model(e)->shape.n_vocab;
    uint32_t ids[N_IDS];
    make_ids(e, ids, N_IDS, 1);
    tl_session *whole = open_session(e, 128, 128);
    feed(whole, ids, N_IDS);
    static const uint32_t chunks[] = {1, 7, 32, 89};
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        tl_session *s = open_session(e, 128, chunks[i]);
        feed(s, ids, N_IDS);
        assert_int_equal(tl_session_n(s), N_IDS);
        assert_true(worst_difference(tl_session_logits(whole), tl_session_logits(s), n_vocab) <
                    2e-3f);
        tl_session_close(&s);
    }
    tl_session_close(&whole);
    tl_engine_close(&e);
}

/* Goal: the same thread count gives the same bits, and so does another one. */
static void test_threads_bit_for_bit(void **state) {
    (void)state;
    static float first[1 << 12];
    for (uint32_t n_threads = 1; n_threads <= 4; n_threads++) {
        tl_engine *e = open_engine(MODEL, n_threads);
        const uint32_t n_vocab = tl_engine_model(e)->shape.n_vocab;
        assert_true(n_vocab <= 1 << 12);
        uint32_t ids[N_IDS];
        make_ids(e, ids, N_IDS, 2);
        tl_session *s = open_session(e, 128, 50);
        feed(s, ids, N_IDS - 3);
        for (int i = N_IDS - 3; i < N_IDS; i++) {
            assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
        }
        if (n_threads == 1) {
            memcpy(first, tl_session_logits(s), n_vocab * sizeof *first);
        }
        assert_memory_equal(first, tl_session_logits(s), n_vocab * sizeof *first);
        tl_session_close(&s);
        tl_engine_close(&e);
    }
}

/* Goal: rewinding and going on is as if the forgotten tokens had never been. */
static void test_rewind(void **state) {
    (void)state;
    tl_engine *e = open_engine(MODEL, 2);
    const uint32_t n_vocab = tl_engine_model(e)->shape.n_vocab;
    uint32_t ids[N_IDS], others[N_IDS];
    make_ids(e, ids, N_IDS, 3);
    make_ids(e, others, N_IDS, 4);
    tl_session *fresh = open_session(e, 128, 40), *used = open_session(e, 128, 40);
    feed(fresh, ids, 40);
    feed(fresh, ids + 40, 20);
    feed(used, ids, 40);
    feed(used, others, 50);
    tl_session_rewind(used, 40);
    assert_null(tl_session_logits(used));
    assert_int_equal(tl_session_n(used), 40);
    feed(used, ids + 40, 20);
    assert_memory_equal(tl_session_logits(fresh), tl_session_logits(used), n_vocab * sizeof(float));
    assert_memory_equal(tl_session_ids(fresh), tl_session_ids(used), 60 * sizeof(uint32_t));
    tl_session_close(&fresh);
    tl_session_close(&used);
    tl_engine_close(&e);
}

struct seen {
    uint32_t next;
    float *last;
    uint32_t n_vocab, stop_at;
};

static bool see_logits(void *user, uint32_t pos, const float *logits) {
    struct seen *const seen = user;
    assert_int_equal(pos, seen->next++);
    memcpy(seen->last, logits, seen->n_vocab * sizeof *logits);
    return seen->next != seen->stop_at;
}

static bool stop_after_first_chunk(void *user, size_t done, size_t total) {
    (void)user;
    assert_true(done <= total);
    return false;
}

/* Goal: logits of all tokens come in order and end in the last ones; a stop leaves a session that
 * says truthfully what it holds. */
static void test_callbacks(void **state) {
    (void)state;
    tl_engine *e = open_engine(MODEL, 2);
    uint32_t ids[N_IDS];
    make_ids(e, ids, N_IDS, 5);
    struct seen seen = {.n_vocab = tl_engine_model(e)->shape.n_vocab};
    seen.last = calloc(seen.n_vocab, sizeof *seen.last);
    assert_non_null(seen.last);
    tl_session *s = open_session(e, 128, 33);
    struct tl_feed all = {.ids = ids, .n = N_IDS, .on_logits = see_logits, .user = &seen};
    assert_int_equal(tl_session_feed(s, &all), TL_OK);
    assert_int_equal(seen.next, N_IDS);
    assert_memory_equal(seen.last, tl_session_logits(s), seen.n_vocab * sizeof(float));

    tl_session_rewind(s, 0);
    seen.next = 0;
    seen.stop_at = 40; /* in the second chunk */
    assert_int_equal(tl_session_feed(s, &all), TL_ERR_IO);
    assert_int_equal(tl_session_n(s), 0);
    assert_null(tl_session_logits(s));

    const struct tl_feed stopped = {.ids = ids, .n = N_IDS, .on_progress = stop_after_first_chunk};
    assert_int_equal(tl_session_feed(s, &stopped), TL_OK);
    assert_int_equal(tl_session_n(s), 33);
    assert_null(tl_session_logits(s));
    free(seen.last);
    tl_session_close(&s);
    tl_engine_close(&e);
}

struct loads {
    uint64_t n, done, bytes;
    bool ordered;
};

static void see_load(void *user, uint64_t done_bytes, uint64_t bytes) {
    struct loads *const l = user;
    l->ordered = (l->n == 0 ? done_bytes == 0 : done_bytes > l->done && bytes == l->bytes) &&
                 (l->n == 0 || l->ordered);
    l->n++;
    l->done = done_bytes;
    l->bytes = bytes;
}

/* Goal: loading tells how far it is: from nothing to all, tensor by tensor, of the bytes that the
 * model has in the end. */
static void test_load_is_told(void **state) {
    (void)state;
    tl_engine *e = NULL;
    struct loads loads = {0};
    const struct tl_engine_params params = {
        .model_path = MODEL, .n_threads = 1, .on_load = see_load, .user = &loads};
    assert_int_equal(tl_engine_open(&e, &params), TL_OK);
    const uint64_t n_tensors = tl_weights_n_tensors(tl_engine_weights(e));
    assert_true(loads.ordered);
    assert_true(loads.n > n_tensors / 2 && loads.n <= n_tensors + 1);
    assert_int_equal(loads.done, loads.bytes);
    assert_int_equal(loads.bytes, tl_engine_model(e)->weight_bytes);
    tl_engine_close(&e);
}

/* Goal: what does not fit or does not exist is refused before anything changes. */
static void test_refusals(void **state) {
    (void)state;
    struct kept_log kept;
    tl_engine *e = NULL;
    const struct tl_engine_params params = {.model_path = MODEL, .log = keep_log(&kept)};
    assert_int_equal(tl_engine_open(&e, &params), TL_OK);
    uint32_t ids[N_IDS];
    make_ids(e, ids, N_IDS, 6);
    tl_session *s = open_session(e, 64, 0);
    feed(s, ids, 10);
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = 55}), TL_ERR_MEMORY);
    assert_non_null(strstr(kept.sentence, "55 more tokens"));
    ids[3] = tl_engine_model(e)->shape.n_vocab;
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = 5}), TL_ERR_FORMAT);
    assert_int_equal(tl_session_step(s, UINT32_MAX), TL_ERR_FORMAT);
    assert_int_equal(tl_session_n(s), 10);
    assert_non_null(tl_session_logits(s));
    tl_session *none = NULL;
    const struct tl_session_params huge = {.n_ctx = UINT32_MAX};
    assert_int_equal(tl_session_open(&none, e, &huge), TL_ERR_MEMORY);
    assert_null(none);
    tl_session_close(&s);
    tl_engine_close(&e);
    tl_engine *missing = NULL;
    const struct tl_engine_params nowhere = {
        .model_path = MODEL, .backend = "abacus", .log = keep_log(&kept)};
    assert_int_equal(tl_engine_open(&missing, &nowhere), TL_ERR_UNSUPPORTED);
    assert_non_null(strstr(kept.sentence, "abacus"));
    assert_null(missing);
}

/* Goal: a decode step allocates nothing, from the first one on. */
static void test_step_allocates_nothing(void **state) {
    (void)state;
    tl_engine *e = open_engine(MODEL, 2);
    uint32_t ids[N_IDS];
    make_ids(e, ids, N_IDS, 7);
    tl_session *s = open_session(e, 128, 32);
    feed(s, ids, 30);
    heap_watch(0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
    }
    const struct heap_report report = heap_unwatch();
    assert_int_equal(report.n_allocs, 0);
    tl_session_close(&s);
    tl_engine_close(&e);
}

/* Goal: whichever allocation fails, opening fails with an error and leaks nothing. */
static void test_every_allocation_fails(void **state) {
    (void)state;
    uint64_t n_failed = 0;
    for (uint64_t at = 1;; at++) {
        tl_engine *e = NULL;
        tl_session *s = NULL;
        heap_watch(at);
        tl_err err =
            tl_engine_open(&e, &(struct tl_engine_params){.model_path = MODEL, .n_threads = 1});
        if (!err) {
            err = tl_session_open(&s, e, &(struct tl_session_params){.n_ctx = 64});
        }
        tl_session_close(&s);
        tl_engine_close(&e);
        const struct heap_report report = heap_unwatch();
        assert_int_equal(report.n_live, 0);
        if (report.n_allocs < at) { /* none failed any more */
            assert_int_equal(err, TL_OK);
            break;
        }
        assert_int_equal(err, TL_ERR_MEMORY);
        n_failed++;
    }
    assert_true(n_failed > 20);
}

/* Goal: every file of gguf-corrupt is refused with one sentence, or runs a token. */
static void test_corrupt_files(void **state) {
    (void)state;
    shared_or_skip();
    tl_bytes text = read_file(shared_path("gguf-corrupt/cases.json"));
    json_t *const cases = json_loads(text.data, 0, NULL);
    assert_true(json_is_array(cases));
    size_t i;
    json_t *one;
    json_array_foreach(cases, i, one) {
        const char *const file = json_string_value(json_object_get(one, "file"));
        const char *const expect = json_string_value(json_object_get(one, "expect"));
        char relative[256];
        snprintf(relative, sizeof relative, "gguf-corrupt/%s", file);
        struct kept_log kept;
        tl_engine *e = NULL;
        tl_session *s = NULL;
        const struct tl_engine_params params = {
            .model_path = shared_path(relative), .n_threads = 1, .log = keep_log(&kept)};
        tl_err err = tl_engine_open(&e, &params);
        if (!err) {
            err = tl_session_open(&s, e, &(struct tl_session_params){.n_ctx = 64});
        }
        if (!err) {
            err = tl_session_step(s, 0);
        }
        const bool accepted = !err;
        if ((strcmp(expect, "accept") == 0 && !accepted) ||
            (strcmp(expect, "reject") == 0 && accepted)) {
            fail_msg("%s: %s expected, %s", file, expect, accepted ? "accepted" : kept.sentence);
        }
        if (!accepted && kept.n_errors != 1) {
            fail_msg("%s: %u error sentences", file, kept.n_errors);
        }
        tl_session_close(&s);
        tl_engine_close(&e);
    }
    json_decref(cases);
    tl_bytes_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_threads_bit_for_bit),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_load_is_told),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_step_allocates_nothing),
        cmocka_unit_test(test_every_allocation_fails),
        cmocka_unit_test(test_corrupt_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
