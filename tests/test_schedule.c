/* Schedules: what of a recorded step must wait for what, and running it on two streams. Models and
 * policies are random. Happens-before is computed here in full, from the lanes and waits alone, and
 * compared with the hazards of the ops' order; then steps run on a device that takes every liberty
 * (lazy.h), beside the CPU, to the last bit. */
#include "core/decode.h"
#include "core/engine.h"
#include "core/replay.h"
#include "lazy.h"
#include "random_model.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"
enum { CAP = 260, N_LAYERS_MAX = 4 };

extern const tl_backend tl_backend_cpu;
/* Instead of registry.c: engines can be opened on the lazy device by its name. */
const tl_backend *const tl_backends[] = {&tl_backend_cpu, &lazy_backend, NULL};

struct rig {
    tl_dev *dev;
    tl_stream *streams[TL_LANE_COUNT];
    struct random_model m;
    struct tl_policy policies[N_LAYERS_MAX];
    tl_kv *kv;
    struct tl_scratch scratch;
    tl_schedule step;
    tl_replay *replay;
};

/* The same seed gives the same model and policies on any backend. preset NULL: random policies. */
static void open_rig(struct rig *r, const tl_backend *backend, uint64_t seed,
                     const struct tl_policy *policy) {
    *r = (struct rig){0};
    struct tl_rng rng = {seed};
    assert_int_equal(tl_dev_open(&r->dev, backend, &(struct tl_dev_params){.n_threads = 1}), TL_OK);
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        assert_int_equal(tl_stream_open(&r->streams[i], r->dev), TL_OK);
    }
    random_model_open(&r->m, &rng, r->dev);
    const struct tl_shape *const shape = &r->m.model.shape;
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        r->policies[il] = policy != NULL ? *policy : random_policy(&rng);
    }
    assert_int_equal(tl_kv_open(&r->kv, shape, r->policies, NULL, r->dev, CAP), TL_OK);
    const struct tl_plan_params plan = {.n_ctx = CAP, .n_chunk = 1, .policies = r->policies};
    const struct tl_scratch_needs needs = tl_plan_scratch(shape, &plan);
    assert_int_equal(tl_scratch_open(&r->scratch, shape, r->dev, &needs), TL_OK);
    const struct tl_pass pass = {.model = &r->m.model,
                                 .kv = r->kv,
                                 .scratch = &r->scratch,
                                 .stream = r->streams[0],
                                 .record = &r->step};
    assert_int_equal(tl_decode_record_step(&pass), TL_OK);
    tl_schedule_arrange(&r->step);
}

static void close_rig(struct rig *r) {
    assert_int_equal(tl_stream_sync(r->streams[0]), TL_OK);
    tl_replay_close(&r->replay);
    tl_schedule_free(&r->step);
    tl_scratch_close(&r->scratch);
    tl_kv_close(&r->kv);
    random_model_close(&r->m);
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        tl_stream_close(&r->streams[i]);
    }
    tl_dev_close(&r->dev);
}

static void begin_step(struct rig *r, uint32_t id) {
    assert_int_equal(tl_kv_begin_step(r->kv, r->streams[0]), TL_OK);
    *(uint32_t *)tl_view_host(r->scratch.ids) = id % r->m.model.shape.n_vocab;
    memset(tl_view_host(r->scratch.counts), 0, tl_view_bytes(r->scratch.counts));
    const tl_view channel_counts = r->scratch.channel_counts;
    memset(tl_view_host(channel_counts), 0, tl_view_bytes(channel_counts));
}

/* The next token through the replay. */
static void play_step(struct rig *r, uint32_t id) {
    begin_step(r, id);
    assert_int_equal(tl_replay_run(r->replay), TL_OK);
    assert_int_equal(tl_stream_sync(r->streams[0]), TL_OK);
    r->kv->n_rows++;
}

/* The same without lanes and replay: op by op on one stream. */
static void plain_step(struct rig *r, uint32_t id) {
    begin_step(r, id);
    assert_int_equal(tl_schedule_run(&r->step, r->streams[0]), TL_OK);
    assert_int_equal(tl_stream_sync(r->streams[0]), TL_OK);
    r->kv->n_rows++;
}

static bool same_logits(const struct rig *a, const struct rig *b) {
    return memcmp(tl_view_host(a->scratch.logits), tl_view_host(b->scratch.logits),
                  a->m.model.shape.n_vocab * sizeof(float)) == 0;
}

/* A buffer's bytes, wherever they are. Free them. */
static uint8_t *bytes_of(const struct rig *r, tl_buf *buf) {
    uint8_t *const bytes = malloc((size_t)buf->bytes);
    assert_non_null(bytes);
    tl_buf *host = NULL;
    assert_int_equal(tl_buf_alloc(&host, r->dev, buf->bytes, TL_MEM_HOST), TL_OK);
    assert_int_equal(buf->bytes % 4, 0);
    const uint32_t words = (uint32_t)(buf->bytes / 4);
    assert_int_equal(tl_copy(r->streams[0], tl_view_of(host, 0, 1, words, TL_I32),
                             tl_view_of(buf, 0, 1, words, TL_I32)),
                     TL_OK);
    assert_int_equal(tl_stream_sync(r->streams[0]), TL_OK);
    memcpy(bytes, host->host, (size_t)buf->bytes);
    tl_buf_free(&host);
    return bytes;
}

static bool same_caches(const struct rig *a, const struct rig *b) {
    bool same = true;
    for (uint32_t il = 0; il < a->kv->n_layers; il++) {
        const struct tl_kv_layer *const la = &a->kv->layers[il], *const lb = &b->kv->layers[il];
        same = same && la->n_bufs == lb->n_bufs;
        for (uint32_t i = 0; i < la->n_bufs && same; i++) {
            uint8_t *const x = bytes_of(a, la->bufs[i]), *const y = bytes_of(b, lb->bufs[i]);
            same = memcmp(x, y, (size_t)la->bufs[i]->bytes) == 0;
            free(x);
            free(y);
        }
    }
    return same;
}

/* ---- order ---- */

/* before[i * n + j]: op i is done before op j begins, by lanes and waits. */
static bool *happens_before(const tl_schedule *s) {
    const uint32_t n = s->n;
    bool *const before = calloc((size_t)n * n, sizeof *before);
    assert_non_null(before);
    for (uint32_t j = 0; j < n; j++) {
        for (uint32_t i = 0; i < j; i++) {
            const bool direct = s->ops[i].lane == s->ops[j].lane || s->ops[j].wait == i;
            for (uint32_t k = 0; k <= i && direct; k++) {
                before[k * n + j] |= k == i || before[k * n + i];
            }
        }
    }
    return before;
}

/* The first pair of ops with a hazard that nothing orders; false where there is none. */
static bool find_race(const tl_schedule *s, uint32_t *first, uint32_t *second) {
    bool *const before = happens_before(s);
    bool found = false;
    for (uint32_t j = 0; j < s->n && !found; j++) {
        for (uint32_t i = 0; i < j && !found; i++) {
            if (!before[i * s->n + j] && tl_op_hazard(&s->ops[i], &s->ops[j])) {
                *first = i;
                *second = j;
                found = true;
            }
        }
    }
    free(before);
    return found;
}

static void check_waits_are_sound(const tl_schedule *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t wait = s->ops[i].wait;
        if (wait == TL_WAIT_NONE || wait == TL_WAIT_START) {
            assert_true(wait == TL_WAIT_NONE || s->ops[i].lane == TL_LANE_TRANSFER);
            continue;
        }
        assert_true(wait < i && s->ops[wait].lane != s->ops[i].lane);
    }
}

/* Goal: every hazard of the order is kept, by no wait too many, and both lanes begin and end with
 * the step, so that one step's ops never meet another's. */
static void test_lanes_keep_hazards_and_no_more(void **state) {
    (void)state;
    uint32_t n_waits = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct rig r;
        open_rig(&r, &tl_backend_cpu, seed, NULL);
        tl_schedule *const s = &r.step;
        check_waits_are_sound(s);
        uint32_t first = 0, second = 0;
        if (find_race(s, &first, &second)) {
            fail_msg("seed %d: %s at %u races with %s at %u", (int)seed,
                     tl_verb_name(s->ops[first].verb), first, tl_verb_name(s->ops[second].verb),
                     second);
        }
        uint32_t last_transfer = TL_WAIT_NONE, last_known = 0;
        for (uint32_t i = 0; i < s->n; i++) {
            struct tl_op *const op = &s->ops[i];
            const uint32_t wait = op->wait;
            if (op->lane == TL_LANE_TRANSFER) {
                assert_true(last_transfer != TL_WAIT_NONE || wait != TL_WAIT_NONE);
                last_transfer = i;
            }
            if (wait == TL_WAIT_NONE || wait == TL_WAIT_START) {
                continue;
            }
            last_known = op->lane == TL_LANE_COMPUTE ? wait + 1 : last_known;
            op->wait = TL_WAIT_NONE;
            if (!find_race(s, &first, &second)) {
                fail_msg("seed %d: the wait of op %u, %s, is not needed", (int)seed, i,
                         tl_verb_name(op->verb));
            }
            op->wait = wait;
            n_waits++;
        }
        const bool covered = last_transfer == TL_WAIT_NONE || last_transfer < last_known;
        assert_int_equal(s->join, covered ? TL_WAIT_NONE : last_transfer);
        close_rig(&r);
    }
    assert_true(n_waits > 100);
}

/* ---- what is read has been written ---- */

/* One flag a byte of each buffer that the step touches. */
struct written {
    tl_buf *bufs[256];
    uint8_t *flags[256]; /* owned */
    uint32_t n;
};

static uint8_t *flags_of(struct written *w, tl_buf *buf) {
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->bufs[i] == buf) {
            return w->flags[i];
        }
    }
    assert_true(w->n < 256);
    w->bufs[w->n] = buf;
    w->flags[w->n] = calloc((size_t)buf->bytes, 1);
    assert_non_null(w->flags[w->n]);
    return w->flags[w->n++];
}

static void mark(struct written *w, const tl_view *v) {
    memset(flags_of(w, v->buf) + v->off_bytes, 1, (size_t)tl_view_bytes(*v));
}

static bool is_marked(struct written *w, const tl_view *v) {
    return memchr(flags_of(w, v->buf) + v->off_bytes, 0, (size_t)tl_view_bytes(*v)) == NULL;
}

/* The inputs of a step: weights, the cache (its tiers last from step to step, and tl_kv_begin_step
 * writes its numbers), and what tl_session_step writes: the id and the counts. */
static void mark_inputs(struct written *w, const struct rig *r) {
    memset(flags_of(w, r->kv->ints), 1, (size_t)r->kv->ints->bytes);
    for (uint32_t il = 0; il < r->kv->n_layers; il++) {
        const struct tl_kv_layer *const layer = &r->kv->layers[il];
        for (uint32_t i = 0; i < layer->n_bufs; i++) {
            memset(flags_of(w, layer->bufs[i]), 1, (size_t)layer->bufs[i]->bytes);
        }
    }
    memset(flags_of(w, r->m.model.bufs[0]), 1, (size_t)r->m.model.bufs[0]->bytes);
    const tl_view id = tl_view_rows(r->scratch.ids, 0, 1);
    mark(w, &id);
    mark(w, &r->scratch.counts);
    mark(w, &r->scratch.channel_counts);
}

/* The index of the first op that reads a byte nobody wrote, n where none does. `without`: an op
 * that is taken out. */
static uint32_t first_blind_read(const struct rig *r, uint32_t without) {
    struct written w = {0};
    mark_inputs(&w, r);
    uint32_t at = 0;
    for (; at < r->step.n; at++) {
        struct tl_op_views views;
        tl_op_get_views(&r->step.ops[at], &views);
        bool blind = false;
        for (uint32_t i = 0; i < views.n_reads && at != without; i++) {
            blind |= !is_marked(&w, views.reads[i]);
        }
        if (blind) {
            break;
        }
        for (uint32_t i = 0; i < views.n_writes && at != without; i++) {
            mark(&w, views.writes[i]);
        }
    }
    for (uint32_t i = 0; i < w.n; i++) {
        free(w.flags[i]);
    }
    return at;
}

static bool touches(const tl_view *const *views, uint32_t n, const tl_view *v) {
    bool touched = false;
    for (uint32_t i = 0; i < n; i++) {
        touched |= tl_view_overlap(views[i], v);
    }
    return touched;
}

/* True where op i is the first to write v, and the next op to touch it reads it. */
static bool is_source(const struct rig *r, uint32_t i, const tl_view *v) {
    struct tl_op_views views;
    for (uint32_t j = 0; j < i; j++) {
        tl_op_get_views(&r->step.ops[j], &views);
        if (touches(views.writes, views.n_writes, v)) {
            return false;
        }
    }
    for (uint32_t j = i + 1; j < r->step.n; j++) {
        tl_op_get_views(&r->step.ops[j], &views);
        if (touches(views.reads, views.n_reads, v)) {
            return true;
        }
        if (touches(views.writes, views.n_writes, v)) {
            return false;
        }
    }
    return false;
}

static bool is_needed(const struct rig *r, uint32_t i) {
    struct tl_op_views views;
    tl_op_get_views(&r->step.ops[i], &views);
    bool needed = false;
    for (uint32_t v = 0; v < views.n_writes; v++) {
        needed |= views.writes[v]->buf == r->scratch.device && is_source(r, i, views.writes[v]);
    }
    return needed;
}

/* Goal: a step depends on nothing but its inputs, byte by byte. The check is proven able to fail:
 * it does when an op that writes something first is taken out. */
static void test_reads_what_was_written(void **state) {
    (void)state;
    uint32_t n_removed = 0;
    for (uint64_t seed = 100; seed < 160; seed++) {
        struct rig r;
        open_rig(&r, &tl_backend_cpu, seed, NULL);
        const uint32_t at = first_blind_read(&r, UINT32_MAX);
        if (at < r.step.n) {
            fail_msg("seed %d: op %u, %s, reads what nothing wrote", (int)seed, at,
                     tl_verb_name(r.step.ops[at].verb));
        }
        for (uint32_t i = 0; i < r.step.n; i++) {
            if (is_needed(&r, i)) {
                assert_true(first_blind_read(&r, i) < r.step.n);
                n_removed++;
            }
        }
        close_rig(&r);
    }
    assert_true(n_removed > 300);
}

/* ---- any legal order ---- */

static void open_replay(struct rig *r) {
    assert_int_equal(tl_replay_open(&r->replay, &r->step, r->streams), TL_OK);
}

/* Goal: whatever the streams make of a step, as a graph or op by op, it is the step run in order.
 */
static void test_any_legal_order_is_the_same(void **state) {
    (void)state;
    for (uint64_t seed = 200; seed < 230; seed++) {
        const bool graphs = seed % 2 == 0;
        lazy_configure(seed, graphs);
        struct rig cpu, lazy;
        open_rig(&cpu, &tl_backend_cpu, seed, NULL);
        open_rig(&lazy, &lazy_backend, seed, NULL);
        open_replay(&lazy);
        assert_int_equal(tl_replay_is_graph(lazy.replay), graphs);
        struct tl_rng rng = {seed};
        for (uint32_t i = 0; i < 250; i++) {
            const uint32_t id = (uint32_t)rng_below(&rng, 1000);
            plain_step(&cpu, id);
            play_step(&lazy, id);
            if (!same_logits(&cpu, &lazy)) {
                fail_msg("seed %d: another result at step %u", (int)seed, i);
            }
        }
        assert_true(same_caches(&cpu, &lazy));
        close_rig(&cpu);
        close_rig(&lazy);
    }
}

static const struct tl_policy fetching = {.sink = 3,
                                          .recent = 10,
                                          .k_codec = TL_CODEC_INT2,
                                          .v_codec = TL_CODEC_INT1,
                                          .home = TL_HOME_HOST,
                                          .select = TL_SELECT_TOPK,
                                          .topk = 16,
                                          .rest = TL_REST_SKETCH,
                                          .hot = 40};

/* Goal: the test above can fail. Method: take one wait out; some order must show it. */
static void test_a_missing_wait_shows(void **state) {
    (void)state;
    for (int lane = 0; lane < TL_LANE_COUNT; lane++) {
        bool shown = false;
        for (uint64_t seed = 300; seed < 320 && !shown; seed++) {
            lazy_configure(seed, true);
            struct rig cpu, lazy;
            open_rig(&cpu, &tl_backend_cpu, seed, &fetching);
            open_rig(&lazy, &lazy_backend, seed, &fetching);
            for (uint32_t i = 0; i < lazy.step.n; i++) {
                if (lazy.step.ops[i].lane == (tl_lane)lane) {
                    lazy.step.ops[i].wait = TL_WAIT_NONE;
                }
            }
            open_replay(&lazy);
            for (uint32_t i = 0; i < 200 && !shown; i++) {
                plain_step(&cpu, i);
                play_step(&lazy, i);
                shown = !same_logits(&cpu, &lazy);
            }
            close_rig(&cpu);
            close_rig(&lazy);
        }
        assert_true(shown);
    }
}

/* ---- whole sessions ---- */

enum { N_IDS = 300 };

/* dense: layers above the usual threshold change to this one (NULL: none do). */
static tl_session *open_session(tl_engine **engine, const char *model, const char *backend,
                                const struct tl_policy *policy, const struct tl_policy *dense) {
    const struct tl_engine_params params = {
        .model_path = model, .backend = backend, .n_threads = 1};
    *engine = NULL;
    assert_int_equal(tl_engine_open(engine, &params), TL_OK);
    struct tl_policy policies[64];
    for (int i = 0; i < 64; i++) {
        policies[i] = *policy;
    }
    tl_session *s = NULL;
    const struct tl_session_params session = {.n_ctx = 512,
                                              .n_chunk = 50,
                                              .policies = policies,
                                              .dense = dense,
                                              .identify_rows = 200,
                                              .identify_codecs = true,
                                              .gauge_every = 3};
    assert_int_equal(tl_session_open(&s, *engine, &session), TL_OK);
    return s;
}

static void assert_same_sessions(const tl_session *a, const tl_session *b, uint32_t n_vocab) {
    assert_int_equal(tl_session_n(a), tl_session_n(b));
    assert_memory_equal(tl_session_logits(a), tl_session_logits(b), n_vocab * sizeof(float));
}

/* Two feeds, steps, a rewind (or a new beginning), and steps again. */
static void live(tl_session *a, tl_session *b, uint32_t n_vocab) {
    struct tl_rng rng = {5};
    uint32_t ids[N_IDS];
    for (int i = 0; i < N_IDS; i++) {
        ids[i] = (uint32_t)rng_below(&rng, n_vocab);
    }
    tl_session *const both[] = {a, b};
    for (int i = 0; i < 2; i++) {
        tl_session *const s = both[i];
        assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = 170}), TL_OK);
        assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids + 170, .n = 90}), TL_OK);
    }
    assert_same_sessions(a, b, n_vocab);
    for (int round = 0; round < 2; round++) {
        for (uint32_t at = tl_session_n(a), i = 0; i < 40; i++) {
            assert_int_equal(tl_session_step(a, ids[(at + i) % N_IDS]), TL_OK);
            assert_int_equal(tl_session_step(b, ids[(at + i) % N_IDS]), TL_OK);
            assert_same_sessions(a, b, n_vocab);
        }
        const uint32_t keep = tl_session_n(a) < 130 ? tl_session_n(a) : 130;
        assert_int_equal(tl_session_rewind(a, keep), tl_session_rewind(b, keep));
    }
    struct tl_traffic ta = tl_session_traffic(a), tb = tl_session_traffic(b);
    assert_true(tb.host_to_device_bytes >= ta.host_to_device_bytes); /* and for later turns */
    ta.host_to_device_bytes = tb.host_to_device_bytes;
    assert_memory_equal(&ta, &tb, sizeof ta);
}

/* What was measured of the layers, to the last bit too. */
static void assert_same_findings(const tl_session *a, const tl_session *b,
                                 const struct tl_shape *shape) {
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        const struct tl_identity *const ia = tl_session_identity(a, il);
        const struct tl_identity *const ib = tl_session_identity(b, il);
        assert_true((ia == NULL) == (ib == NULL));
        if (ia != NULL) {
            assert_true(ia->score == ib->score);
            assert_memory_equal(ia->k_error, ib->k_error, sizeof ia->k_error);
            assert_memory_equal(ia->v_error, ib->v_error, sizeof ia->v_error);
        }
        const struct tl_gauge *const ga = tl_session_gauge(a, il), *const gb =
                                                                       tl_session_gauge(b, il);
        assert_true((ga == NULL) == (gb == NULL));
        assert_true(ga == NULL || (ga->n == gb->n && ga->mass_mean == gb->mass_mean &&
                                   ga->error_mean == gb->error_mean));
    }
}

/* Goal: a session waits wherever a device that runs late and has memory of its own needs it to. */
static void test_sessions_on_a_lazy_device(void **state) {
    (void)state;
    static const char *const models[] = {GOLDEN "smollm-9-3.gguf", GOLDEN "gemma2-swa.gguf",
                                         GOLDEN "qwen3-hd128.gguf"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            lazy_configure(m + 7, m != 0);
            struct tl_policy policy = p->policy;
            policy.topk = policy.topk != 0 ? 20 : 0;
            const struct tl_policy dense = tl_preset_find("kivi2")->policy;
            const struct tl_policy *const change = m == 1 ? &dense : NULL; /* scores of 0.6 */
            tl_engine *cpu = NULL, *lazy = NULL;
            tl_session *a = open_session(&cpu, models[m], "cpu", &policy, change);
            tl_session *b = open_session(&lazy, models[m], "lazy", &policy, change);
            live(a, b, tl_engine_model(cpu)->shape.n_vocab);
            assert_same_findings(a, b, &tl_engine_model(cpu)->shape);
            tl_session_close(&a);
            tl_session_close(&b);
            tl_engine_close(&cpu);
            tl_engine_close(&lazy);
        }
    }
}

/* ---- contracts ---- */

static bool dies(void (*run)(struct rig *r), struct rig *r) {
    const pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }
        run(r);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void must(tl_err err) { assert_int_equal(err, TL_OK); }

static tl_event *new_event(struct rig *r) {
    tl_event *e = NULL;
    must(tl_event_open(&e, r->dev));
    return e;
}

static void wait_for_nothing(struct rig *r) { must(tl_event_wait(r->streams[1], new_event(r))); }
static void sync_in_capture(struct rig *r) {
    must(tl_capture_begin(r->streams, 2));
    must(tl_stream_sync(r->streams[1]));
}
static void wait_in_capture_for_before(struct rig *r) {
    tl_event *const e = new_event(r);
    must(tl_event_record(r->streams[0], e));
    must(tl_capture_begin(r->streams, 2));
    must(tl_event_wait(r->streams[1], e));
}
static void wait_outside_for_captured(struct rig *r) {
    tl_event *const e = new_event(r);
    tl_graph *g = NULL;
    must(tl_capture_begin(r->streams, 2));
    must(tl_event_record(r->streams[0], e));
    must(tl_capture_end(&g, r->streams, 2));
    must(tl_event_wait(r->streams[1], e));
}
static void capture_twice(struct rig *r) {
    must(tl_capture_begin(r->streams, 1));
    must(tl_capture_begin(r->streams, 2));
}
static void end_without_begin(struct rig *r) {
    tl_graph *g = NULL;
    must(tl_capture_end(&g, r->streams, 2));
}
static void free_what_is_used(struct rig *r) {
    begin_step(r, 1);
    must(tl_replay_run(r->replay));
    tl_scratch_close(&r->scratch);
}

static void test_contracts(void **state) {
    (void)state;
    lazy_configure(1, true);
    static void (*const lazy_cases[])(struct rig * r) = {
        wait_for_nothing, sync_in_capture,   wait_in_capture_for_before, wait_outside_for_captured,
        capture_twice,    end_without_begin, free_what_is_used};
    struct rig lazy, cpu;
    open_rig(&lazy, &lazy_backend, 9, NULL);
    open_replay(&lazy);
    for (size_t i = 0; i < sizeof lazy_cases / sizeof lazy_cases[0]; i++) {
        if (!dies(lazy_cases[i], &lazy)) {
            fail_msg("contract case %zu passed", i);
        }
    }
    open_rig(&cpu, &tl_backend_cpu, 9, NULL);
    assert_true(dies(wait_for_nothing, &cpu));
    assert_int_equal(tl_capture_begin(cpu.streams, 2), TL_ERR_UNSUPPORTED);
    tl_event *e = new_event(&cpu);
    must(tl_event_record(cpu.streams[0], e));
    must(tl_event_wait(cpu.streams[1], e));
    tl_event_close(&e);
    assert_null(e);
    close_rig(&cpu);
    close_rig(&lazy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_keep_hazards_and_no_more),
        cmocka_unit_test(test_reads_what_was_written),
        cmocka_unit_test(test_any_legal_order_is_the_same),
        cmocka_unit_test(test_a_missing_wait_shows),
        cmocka_unit_test(test_sessions_on_a_lazy_device),
        cmocka_unit_test(test_contracts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
