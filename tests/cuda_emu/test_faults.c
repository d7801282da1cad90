/* Failures of a card in whole sessions: every entry point of the runtime that the backend calls,
 * its first, its second, a middle and its last call; every kernel's first run. Whatever it is, what
 * is asked for next says so once, nothing is left on the card, and the session's file is the one
 * that was saved last: another backend goes on from it with the tokens that a sound session's file
 * gives. Memory refused at every request is the business of test_cuda.c. */
#include "core/engine.h"
#include "emu.h"
#include "session_kept.h"

#include <stdio.h>
#include <string.h>

#define MODEL TL_SOURCE_DIR "/tests/golden/smollm-9-3.gguf"

enum { N_FED = 150, N_STEPS = 3, N_CTX = 256, N_NEXT = 4, N_SAVES = 2 };

struct trial {
    struct kept_log kept;
    tl_err err;
    uint32_t n_saves, n_saved; /* files written; tokens in the last */
};

static tl_err save(tl_session *s, struct trial *t) {
    TL_TRY(kept_try_save(s, kept_path("state"), ""));
    t->n_saves++;
    t->n_saved = tl_session_n(s);
    return TL_OK;
}

static tl_err live(tl_engine *e, tl_session **s, const uint32_t *ids, uint32_t n_rounds,
                   struct trial *t) {
    struct tl_policy policies[64];
    kept_small_tailor(policies, 64);
    const struct tl_session_params params = {.n_ctx = N_CTX, .n_chunk = 64, .policies = policies};
    TL_TRY(tl_session_open(s, e, &params));
    TL_TRY(tl_session_feed(*s, &(struct tl_feed){.ids = ids, .n = N_FED}));
    for (uint32_t round = 0; round < n_rounds; round++) {
        for (uint32_t i = 0; i < N_STEPS; i++) {
            TL_TRY(tl_session_step(*s, 7 + i));
        }
        TL_TRY(save(*s, t));
    }
    return TL_OK;
}

static void run_trial(const struct emu_options *o, const uint32_t *ids, uint32_t n_rounds,
                      struct trial *t) {
    emu_configure(o);
    *t = (struct trial){0};
    const struct tl_engine_params params = {
        .model_path = MODEL, .backend = "cuda", .log = keep_log(&t->kept)};
    tl_engine *e = NULL;
    tl_session *s = NULL;
    (void)remove(kept_path("state"));
    t->err = tl_engine_open(&e, &params);
    if (t->err == TL_OK) {
        t->err = live(e, &s, ids, n_rounds, t);
    }
    tl_session_close(&s);
    tl_engine_close(&e);
    const struct emu_counts left = emu_count();
    assert_int_equal(left.device_bytes + left.pinned_bytes + left.n_objects, 0);
}

/* What the CPU says behind the file, greedily. */
static void next_tokens(tl_engine *cpu, uint32_t n_saved, uint32_t next[N_NEXT]) {
    tl_session *s = kept_resume(cpu, kept_path("state"), N_CTX);
    assert_int_equal(tl_session_n(s), n_saved);
    const uint32_t n_vocab = tl_engine_model(cpu)->shape.n_vocab;
    for (uint32_t i = 0; i < N_NEXT; i++) {
        assert_int_equal(tl_session_step(s, i == 0 ? 9 : next[i - 1]), TL_OK);
        const float *const logits = tl_session_logits(s);
        next[i] = 0;
        for (uint32_t j = 1; j < n_vocab; j++) {
            next[i] = logits[j] > logits[next[i]] ? j : next[i];
        }
    }
    tl_session_close(&s);
}

struct sweep {
    struct kept cpu;
    uint32_t next[N_SAVES][N_NEXT]; /* behind each file of a sound session */
    uint32_t n_trials, n_failed, n_with_file;
};

/* Sound sessions: what their files give, and what they call. */
static void open_sweep(struct sweep *w, struct emu_options *o) {
    *w = (struct sweep){0};
    kept_open(&w->cpu, MODEL, "tailor");
    *o = emu_defaults();
    struct trial t;
    for (uint32_t n = 1; n <= N_SAVES; n++) { /* the longest last: what it calls is counted */
        run_trial(o, w->cpu.ids, n, &t);
        assert_int_equal(t.err, TL_OK);
        assert_int_equal(t.n_saves, n);
        next_tokens(w->cpu.engine, t.n_saved, w->next[n - 1]);
    }
}

/* One failure. */
static void expect_trial(struct sweep *w, const struct emu_options *o, const char *what) {
    struct trial t;
    run_trial(o, w->cpu.ids, N_SAVES, &t);
    if ((t.err != TL_OK && (t.err != TL_ERR_DEVICE || t.kept.n_errors != 1)) ||
        (t.err == TL_OK && t.n_saves != N_SAVES)) {
        fail_msg("%s: error %d, %u sentences, the last: %s", what, (int)t.err, t.kept.n_errors,
                 t.kept.sentence);
    }
    w->n_trials++;
    w->n_failed += t.err != TL_OK;
    if (t.n_saves == 0) {
        return;
    }
    uint32_t next[N_NEXT];
    next_tokens(w->cpu.engine, t.n_saved, next);
    w->n_with_file += t.err != TL_OK;
    if (memcmp(w->next[t.n_saves - 1], next, sizeof next) != 0) {
        fail_msg("%s: the file of save %u goes on otherwise", what, t.n_saves);
    }
}

/* Goal: whichever call of the runtime fails. */
static void test_entries(void **state) {
    (void)state;
    enum { ENTRIES_MAX = 64 };
    struct sweep w;
    struct emu_options o;
    struct emu_entry entries[ENTRIES_MAX];
    open_sweep(&w, &o);
    const uint32_t n = emu_entries(entries, ENTRIES_MAX);
    assert_in_range(n, 10, ENTRIES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t calls[] = {1, 2, entries[i].n_calls / 2, entries[i].n_calls};
        for (int j = 0; j < 4; j++) {
            char what[96];
            if (calls[j] == 0 || calls[j] > entries[i].n_calls || (j > 1 && calls[j] <= 2)) {
                continue;
            }
            snprintf(what, sizeof what, "%s, call %llu of %llu", entries[i].name,
                     (unsigned long long)calls[j], (unsigned long long)entries[i].n_calls);
            o = emu_defaults();
            o.fail_entry = entries[i].name;
            o.fail_entry_call = calls[j];
            expect_trial(&w, &o, what);
        }
    }
    print_message("%u entry points: %u of %u ended early, %u of these with a file\n", n, w.n_failed,
                  w.n_trials, w.n_with_file);
    assert_true(w.n_failed >= 2 * n && w.n_with_file > 0);
    tl_engine_close(&w.cpu.engine);
}

/* Goal: whichever kernel breaks the card, in its first run. */
static void test_kernels(void **state) {
    (void)state;
    struct sweep w;
    struct emu_options o;
    open_sweep(&w, &o);
    const uint64_t n = emu_count().n_kernels;
    assert_true(n > 15);
    for (uint64_t i = 1; i <= n; i++) {
        char what[48];
        snprintf(what, sizeof what, "kernel %llu of %llu", (unsigned long long)i,
                 (unsigned long long)n);
        o = emu_defaults();
        o.fault_kernel = i;
        expect_trial(&w, &o, what);
    }
    print_message("%llu kernels: %u of %u ended early, %u of these with a file\n",
                  (unsigned long long)n, w.n_failed, w.n_trials, w.n_with_file);
    assert_int_equal(w.n_failed, n);
    tl_engine_close(&w.cpu.engine);
}

/* Goal: a card that breaks in the middle of a session, some launches before and behind its save,
 * takes no file along. */
static void test_sticky_session(void **state) {
    (void)state;
    enum { N_TRIALS = 12 };
    struct sweep w;
    struct emu_options o;
    open_sweep(&w, &o);
    const uint64_t n = emu_count().n_run;
    for (uint64_t i = 0; i < N_TRIALS; i++) {
        char what[48];
        o = emu_defaults();
        o.fault_run = n - n / 3 + i * (n / 3) / N_TRIALS;
        snprintf(what, sizeof what, "run %llu of %llu", (unsigned long long)o.fault_run,
                 (unsigned long long)n);
        expect_trial(&w, &o, what);
    }
    print_message("%u of %u ended early, %u of these with a file\n", w.n_failed, w.n_trials,
                  w.n_with_file);
    assert_true(w.n_failed == N_TRIALS && w.n_with_file > 0);
    tl_engine_close(&w.cpu.engine);
}

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_sticky_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) { return kept_main(run_all); }
