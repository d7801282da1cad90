/* Whatever is done to sessions, in batches of any of them or alone, in any order: prompts, steps,
 * going back, files, steps that are refused. The same acts one by one on the CPU are the reference;
 * the batches run on a device with memory of its own that does things as late as it may (lazy.h),
 * with policies drawn at random, and must agree to the last bit. */
#include "core/batch.h"
#include "lazy.h"
#include "random_model.h"
#include "session_kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"
enum { N_SESSIONS = 5, N_BATCHES = 3, N_ACTS = 60, N_LAYERS_MAX = 64, N_CTX_MAX = 360 };

extern const tl_backend tl_backend_cpu;
const tl_backend *const tl_backends[] = {&tl_backend_cpu, &lazy_backend, NULL};

struct batch {
    tl_batch *batch;
    uint32_t members[N_SESSIONS], n;
};

/* Sessions i of both engines are the same timeline. */
struct pair {
    struct tl_rng rng;
    tl_engine *alone_engine, *engine;
    tl_session *alone[N_SESSIONS], *s[N_SESSIONS];
    bool finds_dense[N_SESSIONS]; /* such a one is not kept in files here */
    struct batch batches[N_BATCHES];
    uint32_t n_vocab;
    uint64_t seed;
    const char *what; /* the act at hand */
};

static uint32_t below(struct pair *p, uint32_t n) { return (uint32_t)rng_below(&p->rng, n); }

static tl_engine *open_engine(const char *model, const char *backend) {
    const struct tl_engine_params params = {
        .model_path = model, .backend = backend, .n_threads = 1};
    tl_engine *e = NULL;
    assert_int_equal(tl_engine_open(&e, &params), TL_OK);
    return e;
}

/* Every other session has the policies and the size of the one before, so that their ops stand side
 * by side; some find their dense layers in a prompt, which then change. */
static void open_sessions(struct pair *p) {
    struct tl_policy policies[N_LAYERS_MAX], dense = {0};
    struct tl_session_params params = {.n_chunk = 64, .policies = policies};
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        if (i % 2 == 0) {
            for (uint32_t il = 0; il < N_LAYERS_MAX; il++) {
                policies[il] = random_policy(&p->rng);
            }
            dense = random_policy(&p->rng);
            params.dense = below(p, 3) == 0 ? &dense : NULL;
            params.identify_rows = params.dense != NULL ? 80 : 0;
            params.dense_above = 1e-9;
            params.n_ctx = 40 + below(p, N_CTX_MAX - 40);
        }
        p->finds_dense[i] = params.dense != NULL;
        assert_int_equal(tl_session_open(&p->alone[i], p->alone_engine, &params), TL_OK);
        assert_int_equal(tl_session_open(&p->s[i], p->engine, &params), TL_OK);
    }
}

/* A batch of sessions drawn at random, each once, in any order. */
static void reopen_batch(struct pair *p, struct batch *b) {
    uint32_t all[N_SESSIONS];
    tl_session *members[N_SESSIONS];
    tl_batch_close(&b->batch);
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        const uint32_t at = below(p, i + 1);
        all[i] = all[at];
        all[at] = i;
    }
    b->n = 1 + below(p, N_SESSIONS);
    for (uint32_t i = 0; i < b->n; i++) {
        b->members[i] = all[i];
        members[i] = p->s[all[i]];
    }
    assert_int_equal(tl_batch_open(&b->batch, members, b->n), TL_OK);
}

static void expect_same(const struct pair *p) {
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        const tl_session *const a = p->alone[i], *const b = p->s[i];
        const float *const x = tl_session_logits(a), *const y = tl_session_logits(b);
        const uint32_t n = tl_session_n(a);
        if (n != tl_session_n(b) || memcmp(tl_session_ids(a), tl_session_ids(b), 4 * n) != 0 ||
            (x == NULL) != (y == NULL)) {
            fail_msg("seed %u, %s: session %u: %u and %u tokens, logits %d and %d",
                     (unsigned)p->seed, p->what, i, n, tl_session_n(b), x != NULL, y != NULL);
        }
        if (x != NULL && memcmp(x, y, p->n_vocab * sizeof *x) != 0) {
            fail_msg("seed %u, %s: session %u of %u tokens: logits differ by %.2e of their size",
                     (unsigned)p->seed, p->what, i, n, rms_difference(x, y, p->n_vocab));
        }
    }
}

static void feed_one(struct pair *p, uint32_t i) {
    uint32_t ids[N_CTX_MAX];
    const uint32_t n = 1 + below(p, below(p, 2) == 0 ? 8 : N_CTX_MAX - 1);
    for (uint32_t t = 0; t < n; t++) {
        ids[t] = below(p, p->n_vocab);
    }
    const struct tl_feed feed = {.ids = ids, .n = n};
    const tl_err err = tl_session_feed(p->alone[i], &feed);
    assert_int_equal(tl_session_feed(p->s[i], &feed), err);
}

static void step_one(struct pair *p, uint32_t i) {
    const uint32_t id = below(p, p->n_vocab);
    const tl_err err = tl_session_step(p->alone[i], id);
    assert_int_equal(tl_session_step(p->s[i], id), err);
}

static void rewind_one(struct pair *p, uint32_t i) {
    const uint32_t n = tl_session_n(p->s[i]);
    const uint32_t most = below(p, 2) == 0 ? (uint32_t)tl_min_u64(n, 9) : n;
    const uint32_t keep = n - below(p, most + 1);
    const uint32_t left = tl_session_rewind(p->alone[i], keep);
    assert_int_equal(tl_session_rewind(p->s[i], keep), left);
}

/* Some steps of one batch. One that a member cannot make, none makes. */
static void step_together(struct pair *p, struct batch *b) {
    for (uint32_t n = 1 + below(p, 12); n > 0; n--) {
        uint32_t ids[N_SESSIONS];
        tl_err expected = TL_OK;
        for (uint32_t i = 0; i < b->n; i++) {
            const tl_session *const s = p->s[b->members[i]];
            ids[i] = below(p, 40) == 0 ? p->n_vocab : below(p, p->n_vocab);
            const bool is_full = tl_session_n(s) == tl_session_ctx(s);
            const tl_err own = is_full               ? TL_ERR_MEMORY
                               : ids[i] < p->n_vocab ? TL_OK
                                                     : TL_ERR_FORMAT;
            expected = expected ? expected : own;
        }
        assert_int_equal(tl_batch_step(b->batch, ids), expected);
        for (uint32_t i = 0; i < b->n && !expected; i++) {
            assert_int_equal(tl_session_step(p->alone[b->members[i]], ids[i]), TL_OK);
        }
        expect_same(p);
    }
}

/* Session i goes through a file; the batches are made anew. */
static void keep_one(struct pair *p, uint32_t i) {
    const uint32_t n_ctx = tl_session_ctx(p->s[i]);
    if (p->finds_dense[i] || tl_session_n(p->s[i]) == 0) {
        return;
    }
    for (uint32_t b = 0; b < N_BATCHES; b++) {
        tl_batch_close(&p->batches[b].batch);
    }
    kept_save(p->s[i], kept_path("one"), "{}");
    tl_session_close(&p->s[i]);
    p->s[i] = kept_resume(p->engine, kept_path("one"), n_ctx);
    for (uint32_t b = 0; b < N_BATCHES; b++) {
        reopen_batch(p, &p->batches[b]);
    }
}

static void act(struct pair *p) {
    static const char *const acts[] = {"prompt", "step", "rewind", "together", "file", "reopen"};
    const uint32_t draw = below(p, 16), i = below(p, N_SESSIONS), b = below(p, N_BATCHES);
    const uint32_t kind = draw < 3 ? 0 : draw < 5 ? 1 : draw < 7 ? 2 : draw < 14 ? 3 : draw - 10;
    p->what = acts[kind];
    switch (kind) {
    case 0:
        feed_one(p, i);
        break;
    case 1:
        step_one(p, i);
        break;
    case 2:
        rewind_one(p, i);
        break;
    case 3:
        step_together(p, &p->batches[b]);
        break;
    case 4:
        keep_one(p, i);
        break;
    default:
        reopen_batch(p, &p->batches[b]);
        break;
    }
    expect_same(p);
}

static void run_acts(const char *model, uint64_t seed) {
    struct pair p = {.rng = {seed}, .seed = seed};
    lazy_configure(seed, seed % 2 == 0);
    p.alone_engine = open_engine(model, "cpu");
    p.engine = open_engine(model, "lazy");
    p.n_vocab = tl_engine_model(p.engine)->shape.n_vocab;
    open_sessions(&p);
    for (uint32_t b = 0; b < N_BATCHES; b++) {
        reopen_batch(&p, &p.batches[b]);
    }
    for (uint32_t i = 0; i < N_ACTS; i++) {
        act(&p);
    }
    for (uint32_t b = 0; b < N_BATCHES; b++) {
        tl_batch_close(&p.batches[b].batch);
    }
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        tl_session_close(&p.alone[i]);
        tl_session_close(&p.s[i]);
    }
    tl_engine_close(&p.alone_engine);
    tl_engine_close(&p.engine);
}

/* Goal: see above. More rounds from another seed: TL_BATCH_SEED=N. */
static void test_any_acts(void **state) {
    (void)state;
    static const char *const models[] = {GOLDEN "smollm-9-3.gguf", GOLDEN "gemma2-swa.gguf",
                                         GOLDEN "llama-hd64-linear.gguf"};
    const char *const from = getenv("TL_BATCH_SEED");
    const uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + 18; seed++) {
        run_acts(models[seed % 3], seed);
    }
}

static int run(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_acts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) { return kept_main(run); }
