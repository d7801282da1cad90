/* The gauge of a cache's fidelity: against attention computed naively over a crafted cache, and on
 * whole sessions where the answer is known. */
#include "core/engine.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

/* ---- a crafted layer ---- */

enum {
    HEADS = 4,
    KV_HEADS = 2,
    D = 16,
    N = 200,
    CAP = 256,
    N_WINDOW = 20,
    N_CHOSEN = 30,
    BUFS = 32
};

struct crafted {
    tl_dev *dev;
    tl_stream *stream;
    tl_buf *bufs[BUFS];
    uint32_t n_bufs;
    struct tl_shape shape;
    struct tl_kv_layer layers[2];
    tl_kv kv;
    tl_schedule step;
    tl_view q, out, lse, out_b, lse_b, slots;
    double keys[KV_HEADS][N][D], values[KV_HEADS][N][D];
};

static tl_view new_view(struct crafted *c, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    tl_buf **const buf = &c->bufs[c->n_bufs++];
    assert_true(c->n_bufs <= BUFS);
    assert_int_equal(tl_buf_alloc(buf, c->dev, rows * tl_row_bytes(dtype, cols), TL_MEM_HOST),
                     TL_OK);
    return tl_view_of(*buf, 0, rows, cols, dtype);
}

static struct tl_kv_rows new_rows(struct crafted *c, uint32_t cap) {
    return (struct tl_kv_rows){.k = new_view(c, KV_HEADS * cap, D, TL_F16),
                               .v = new_view(c, KV_HEADS * cap, D, TL_F16),
                               .n_kv_heads = KV_HEADS};
}

static tl_view one_int(struct crafted *c, int32_t value) {
    const tl_view v = new_view(c, 1, 1, TL_I32);
    *(int32_t *)tl_view_host(v) = value;
    return v;
}

static double put(const tl_view *v, uint64_t at, float value) {
    const uint16_t half = tl_f32_to_f16(value);
    ((uint16_t *)tl_view_host(*v))[at] = half;
    return (double)tl_f16_to_f32(half);
}

/* Home: N rows. Window: the newest N_WINDOW. Chosen: every fifth row from 3 on, N_CHOSEN of them.
 */
static void fill(struct crafted *c, const struct tl_kv_rows *home,
                 const struct tl_kv_rows *window) {
    struct tl_rng rng = {11};
    for (uint32_t h = 0; h < KV_HEADS; h++) {
        for (uint32_t t = 0; t < N; t++) {
            for (uint32_t j = 0; j < D; j++) {
                const uint64_t at = ((uint64_t)h * CAP + t) * D + j;
                const float k = 2 * rng_float(&rng), v = rng_float(&rng);
                c->keys[h][t][j] = put(&home->k, at, k);
                c->values[h][t][j] = put(&home->v, at, v);
                if (t >= N - N_WINDOW) {
                    const uint64_t w = ((uint64_t)h * N_WINDOW + t - (N - N_WINDOW)) * D + j;
                    put(&window->k, w, k);
                    put(&window->v, w, v);
                }
            }
        }
        for (uint32_t i = 0; i < N_CHOSEN; i++) {
            ((int32_t *)tl_view_host(c->slots))[h * N_CHOSEN + i] = (int32_t)(3 + 5 * i);
        }
    }
    for (uint32_t i = 0; i < HEADS * D; i++) {
        ((float *)tl_view_host(c->q))[i] = 1.5f * rng_float(&rng);
    }
}

static void add(struct crafted *c, struct tl_op op) {
    assert_int_equal(tl_schedule_add(&c->step, &op), TL_OK);
}

/* Layer 1 attends its window and the chosen rows and drops the rest; layer 0 is exact. */
static void open_crafted(struct crafted *c) {
    *c = (struct crafted){0};
    const struct tl_dev_params params = {.n_threads = 2};
    assert_int_equal(tl_dev_open(&c->dev, tl_backend_find("cpu"), &params), TL_OK);
    assert_int_equal(tl_stream_open(&c->stream, c->dev), TL_OK);
    c->shape.n_layers = 2;
    c->shape.n_heads = HEADS;
    c->shape.n_kv_heads = KV_HEADS;
    c->shape.head_dim = D;
    c->q = new_view(c, 1, HEADS * D, TL_F32);
    c->out = new_view(c, 1, HEADS * D, TL_F32);
    c->out_b = new_view(c, 1, HEADS * D, TL_F32);
    c->lse = new_view(c, 1, HEADS, TL_F32);
    c->lse_b = new_view(c, 1, HEADS, TL_F32);
    c->slots = new_view(c, KV_HEADS, N_CHOSEN, TL_I32);
    const struct tl_kv_rows home = new_rows(c, CAP), window = new_rows(c, N_WINDOW);
    fill(c, &home, &window);
    c->kv = (tl_kv){.layers = c->layers,
                    .n_layers = 2,
                    .n_rows = N - 1,
                    .cap = CAP,
                    .pos = one_int(c, N - 1),
                    .n_rows_view = one_int(c, N)};
    c->layers[0].policy = tl_preset_find("full")->policy;
    c->layers[0].home = home;
    c->layers[1].policy = tl_preset_find("tailor")->policy;
    c->layers[1].home = home;
    c->layers[1].window = window;
    add(c, (struct tl_op){.verb = TL_VERB_ATTEND,
                          .layer = 1,
                          .u.attend = {.out = c->out,
                                       .lse = c->lse,
                                       .q = c->q,
                                       .q_pos = one_int(c, N_WINDOW - 1),
                                       .n_rows = one_int(c, N_WINDOW),
                                       .kv = window,
                                       .n_heads = HEADS,
                                       .scale = 0.25f}});
    add(c, (struct tl_op){.verb = TL_VERB_ATTEND_SLOTS,
                          .layer = 1,
                          .u.attend_slots = {.out = c->out_b,
                                             .lse = c->lse_b,
                                             .q = c->q,
                                             .slot = c->slots,
                                             .kv = home,
                                             .n_heads = HEADS,
                                             .scale = 0.25f}});
    add(c, (struct tl_op){
               .verb = TL_VERB_MERGE, .layer = 1, .u.merge = {c->out, c->lse, c->out_b, c->lse_b}});
}

static void close_crafted(struct crafted *c) {
    tl_schedule_free(&c->step);
    for (uint32_t i = 0; i < c->n_bufs; i++) {
        tl_buf_free(&c->bufs[i]);
    }
    tl_stream_close(&c->stream);
    tl_dev_close(&c->dev);
}

static bool is_near(uint32_t t) {
    return t >= N - N_WINDOW || (t >= 3 && (t - 3) % 5 == 0 && (t - 3) / 5 < N_CHOSEN);
}

/* Mass on the near rows and the error that dropping the others makes, in plain arithmetic. */
static void naive(const struct crafted *c, uint32_t head, double *mass, double *error) {
    const uint32_t h = head / (HEADS / KV_HEADS);
    const float *const q = (const float *)tl_view_host(c->q) + head * D;
    double near = 0, all = 0, of_near[D] = {0}, of_all[D] = {0};
    for (uint32_t t = 0; t < N; t++) {
        double score = 0;
        for (uint32_t j = 0; j < D; j++) {
            score += (double)q[j] * c->keys[h][t][j];
        }
        const double weight = exp(0.25 * score);
        all += weight;
        near += is_near(t) ? weight : 0;
        for (uint32_t j = 0; j < D; j++) {
            of_all[j] += weight * c->values[h][t][j];
            of_near[j] += is_near(t) ? weight * c->values[h][t][j] : 0;
        }
    }
    double off = 0, size = 0;
    for (uint32_t j = 0; j < D; j++) {
        off += pow(of_near[j] / near - of_all[j] / all, 2);
        size += pow(of_all[j] / all, 2);
    }
    *mass = near / all;
    *error = sqrt(off / size);
}

/* Goal: mass and error are those of a naive computation, head by head in turn; a layer that is
 * exact is never looked at; means are means. */
static void test_crafted(void **state) {
    (void)state;
    struct crafted c;
    open_crafted(&c);
    tl_gauges *g = NULL;
    assert_int_equal(tl_gauges_open(&g, &c.shape, c.dev), TL_OK);
    double masses = 0, errors = 0;
    for (uint32_t look = 0; look < 2 * HEADS; look++) {
        bool looks = false;
        assert_int_equal(tl_gauges_run(g, &c.kv, &c.step, c.stream, &looks), TL_OK);
        assert_true(looks);
        assert_int_equal(tl_stream_sync(c.stream), TL_OK);
        tl_gauges_read(g);
        const struct tl_gauge *const got = tl_gauges_get(g, 1);
        double mass, error;
        naive(&c, look % HEADS, &mass, &error);
        masses += mass;
        errors += error;
        assert_int_equal(got->n, look + 1);
        assert_int_equal(got->head, look % HEADS);
        assert_int_equal(got->n_rows, N);
        assert_true(mass > 0.05 && mass < 0.95 && error > 0.05);
        assert_true(fabs(got->mass - mass) < 1e-5);
        assert_true(fabs(got->error - error) < 1e-5);
        assert_true(fabs(got->mass_mean - masses / got->n) < 1e-5);
        assert_true(fabs(got->error_mean - errors / got->n) < 1e-5);
    }
    assert_int_equal(tl_gauges_get(g, 0)->n, 0);
    c.layers[1].home = (struct tl_kv_rows){0}; /* a layer that became dense */
    bool looks = true;
    assert_int_equal(tl_gauges_run(g, &c.kv, &c.step, c.stream, &looks), TL_OK);
    assert_false(looks);
    tl_gauges_close(&g);
    close_crafted(&c);
}

/* ---- sessions ---- */

enum { N_IDS = 300, N_STEPS = 48 };

static tl_engine *open_engine(const char *model) {
    tl_engine *e = NULL;
    const struct tl_engine_params params = {.model_path = model, .n_threads = 2};
    assert_int_equal(tl_engine_open(&e, &params), TL_OK);
    return e;
}

static tl_session *open_session(tl_engine *e, const struct tl_policy *policy, uint32_t every) {
    struct tl_policy policies[64];
    for (uint32_t il = 0; il < tl_engine_model(e)->shape.n_layers; il++) {
        policies[il] = *policy;
    }
    tl_session *s = NULL;
    const struct tl_session_params params = {
        .n_ctx = 512, .policies = policies, .gauge_every = every};
    assert_int_equal(tl_session_open(&s, e, &params), TL_OK);
    return s;
}

static void feed_and_step(tl_session *s, uint32_t n_vocab) {
    struct tl_rng rng = {41};
    uint32_t ids[N_IDS];
    for (uint32_t i = 0; i < N_IDS; i++) {
        ids[i] = (uint32_t)rng_below(&rng, n_vocab);
    }
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = N_IDS}), TL_OK);
    for (uint32_t i = 0; i < N_STEPS; i++) {
        assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
    }
}

/* Goal: where all rows are attended exactly the mass is 1 and the error rounding; where most are
 * left to one bit it is neither. Looking changes no bit of what the session says. */
static void test_sessions(void **state) {
    (void)state;
    static const char *const models[] = {GOLDEN "llama-bias.gguf", GOLDEN "gemma2-swa.gguf"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        tl_engine *e = open_engine(models[m]);
        const struct tl_shape *const shape = &tl_engine_model(e)->shape;
        for (int all = 0; all < 2; all++) {
            struct tl_policy policy = tl_preset_find("tailor")->policy;
            policy.sink = policy.recent = 8;
            policy.topk = all ? 400 : 4;
            policy.hot = 800;
            policy.k_codec = policy.v_codec = TL_CODEC_INT1;
            tl_session *s = open_session(e, &policy, 1), *plain = open_session(e, &policy, 0);
            feed_and_step(s, shape->n_vocab);
            feed_and_step(plain, shape->n_vocab);
            assert_memory_equal(tl_session_logits(s), tl_session_logits(plain),
                                shape->n_vocab * sizeof(float));
            for (uint32_t il = 0; il < shape->n_layers; il++) {
                const struct tl_gauge *const g = tl_session_gauge(s, il);
                assert_null(tl_session_gauge(plain, il));
                if (shape->windowed[il]) {
                    assert_null(g); /* its rows behind the window do not matter */
                    continue;
                }
                assert_non_null(g);
                assert_int_equal(g->n, N_STEPS / 2); /* two layers take turns */
                assert_true(g->n_rows > N_IDS && g->n_rows <= N_IDS + N_STEPS);
                if (all) {
                    assert_true(g->mass_mean > 1 - 1e-5 && g->error_mean < 1e-4);
                } else {
                    assert_true(g->mass_mean < 0.9 && g->error_mean > 0.01);
                }
            }
            tl_session_close(&s);
            tl_session_close(&plain);
        }
        tl_engine_close(&e);
    }
}

/* Goal: exact layers and layers without exact rows have no gauge, and steps run as ever. */
static void test_not_applicable(void **state) {
    (void)state;
    static const char *const presets[] = {"full", "offload", "kivi2"};
    tl_engine *e = open_engine(GOLDEN "llama-bias.gguf");
    for (size_t p = 0; p < sizeof presets / sizeof presets[0]; p++) {
        tl_session *s = open_session(e, &tl_preset_find(presets[p])->policy, 1);
        feed_and_step(s, tl_engine_model(e)->shape.n_vocab);
        assert_null(tl_session_gauge(s, 0));
        assert_null(tl_session_gauge(s, 1));
        tl_session_close(&s);
    }
    tl_engine_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crafted),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_not_applicable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
