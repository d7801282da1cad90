/* Laws of the indexes that choose rows: what each of their verbs leaves, computed anew in double
 * from the rows themselves, and what a whole step may depend on. Models and rows are random;
 * nothing here uses a codec or a tokenizer. */
#include "core/decode.h"
#include "core/plan.h"
#include "random_model.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CAP = 700, CTX = 420, N_LAYERS_MAX = 4, BUFS_MAX = 64 };

struct fixture {
    tl_dev *dev;
    tl_stream *s;
    struct tl_rng rng;
    tl_buf *bufs[BUFS_MAX];
    uint32_t n_bufs;
};

static int open_with(void **state, const char *isa) {
    struct fixture *const f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->rng = (struct tl_rng){47};
    const struct tl_dev_params params = {.n_threads = 2, .isa_max = isa};
    assert_int_equal(tl_dev_open(&f->dev, tl_backend_find("cpu"), &params), TL_OK);
    assert_int_equal(tl_stream_open(&f->s, f->dev), TL_OK);
    *state = f;
    return 0;
}
static int open_plain(void **state) { return open_with(state, "plain"); }
static int open_avx2(void **state) { return open_with(state, "avx2"); }
static int open_best(void **state) { return open_with(state, NULL); }

static void free_views(struct fixture *f) {
    while (f->n_bufs > 0) {
        tl_buf_free(&f->bufs[--f->n_bufs]);
    }
}

static int close_fixture(void **state) {
    struct fixture *const f = *state;
    free_views(f);
    tl_stream_close(&f->s);
    tl_dev_close(&f->dev);
    free(f);
    return 0;
}

static tl_view new_view(struct fixture *f, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    assert_true(f->n_bufs < BUFS_MAX);
    tl_buf **const buf = &f->bufs[f->n_bufs++];
    assert_int_equal(tl_buf_alloc(buf, f->dev, rows * tl_row_bytes(dtype, cols), TL_MEM_DEVICE),
                     TL_OK);
    return tl_view_of(*buf, 0, rows, cols, dtype);
}

static uint16_t *halves_of(tl_view v) { return tl_view_host(v); }
static float *floats_of(tl_view v) { return tl_view_host(v); }
static int32_t *ints_of(tl_view v) { return tl_view_host(v); }

static tl_view one_int(struct fixture *f, int32_t value) {
    const tl_view v = new_view(f, 1, 1, TL_I32);
    *ints_of(v) = value;
    return v;
}

static tl_view random_halves(struct fixture *f, uint32_t rows, uint32_t cols) {
    const tl_view v = new_view(f, rows, cols, TL_F16);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
        halves_of(v)[i] = tl_f32_to_f16(3.0f * rng_float(&f->rng) * rng_float(&f->rng));
    }
    return v;
}

static tl_view random_floats(struct fixture *f, uint32_t cols) {
    const tl_view v = new_view(f, 1, cols, TL_F32);
    for (uint32_t i = 0; i < cols; i++) {
        floats_of(v)[i] = rng_float(&f->rng);
    }
    return v;
}

/* Rows, and an index of either sort of all their blocks behind row `first`. */
struct case_of {
    uint32_t heads, kv_heads, group, d, n_blocks, first;
    tl_view keys; /* (kv_heads * CAP, d) f16: the rows */
    struct tl_columns columns;
    struct tl_pages pages;
    tl_view q, count;
};

static double key_at(const struct case_of *c, uint32_t h, uint32_t row, uint32_t channel) {
    return (double)tl_f16_to_f32(
        halves_of(c->keys)[((uint64_t)h * CAP + c->first + row) * c->d + channel]);
}

static double score_at(const struct case_of *c, uint32_t head, uint32_t row) {
    double sum = 0;
    for (uint32_t i = 0; i < c->d; i++) {
        sum += (double)floats_of(c->q)[head * c->d + i] * key_at(c, head / c->group, row, i);
    }
    return sum;
}

/* Blocks are entered a few at a time, some again, as rewinds do. */
static struct case_of open_case(struct fixture *f, tl_page_kind kind, uint32_t page) {
    struct case_of c = {.kv_heads = 1 + (uint32_t)rng_below(&f->rng, 3),
                        .group = 1 + (uint32_t)rng_below(&f->rng, 4),
                        .d = 8 * (1 + (uint32_t)rng_below(&f->rng, 10)),
                        .n_blocks = 1 + (uint32_t)rng_below(&f->rng, 8),
                        .first = (uint32_t)rng_below(&f->rng, 90)};
    c.heads = c.kv_heads * c.group;
    c.keys = random_halves(f, c.kv_heads * CAP, c.d);
    c.columns = (struct tl_columns){random_halves(f, c.kv_heads * c.d, c.n_blocks * TL_BLOCK),
                                    random_halves(f, c.kv_heads * c.n_blocks, c.d), c.kv_heads};
    const uint32_t n_pages = c.kv_heads * c.n_blocks * (TL_BLOCK / page);
    c.pages = (struct tl_pages){random_halves(f, n_pages, 2 * c.d), kind, c.kv_heads, page};
    c.q = random_floats(f, c.heads * c.d);
    c.count = one_int(f, (int32_t)c.n_blocks);
    for (uint32_t done = 0; done < c.n_blocks;) {
        const uint32_t from = done - (uint32_t)rng_below(&f->rng, done + 1);
        const uint32_t n = 1 + (uint32_t)rng_below(&f->rng, c.n_blocks - from);
        const uint32_t row = c.first + from * TL_BLOCK;
        const struct tl_key_transpose transpose = {c.columns, c.keys, row, from, n};
        const struct tl_page_encode encode = {c.pages, c.keys, row, from, n};
        assert_int_equal(tl_key_transpose(f->s, &transpose), TL_OK);
        assert_int_equal(tl_page_encode(f->s, &encode), TL_OK);
        done = from + n > done ? from + n : done;
    }
    return c;
}

/* Goal: columns are the rows turned, and `most` is what a look at all keys so far would find. */
static void columns_are_the_rows(void **state) {
    struct fixture *const f = *state;
    for (int trial = 0; trial < 30; trial++) {
        const struct case_of c = open_case(f, TL_PAGE_BOUNDS, 16);
        for (uint32_t h = 0; h < c.kv_heads; h++) {
            for (uint32_t i = 0; i < c.d; i++) {
                double most = 0;
                const uint16_t *const column =
                    halves_of(c.columns.keys) + (uint64_t)(h * c.d + i) * c.n_blocks * TL_BLOCK;
                for (uint32_t t = 0; t < c.n_blocks * TL_BLOCK; t++) {
                    const double key = key_at(&c, h, t, i);
                    assert_true((double)tl_f16_to_f32(column[t]) == key);
                    most = fmax(most, fabs(key));
                    if (t % TL_BLOCK == TL_BLOCK - 1) {
                        const uint64_t at = (h * c.n_blocks + t / TL_BLOCK) * c.d + i;
                        assert_true((double)tl_f16_to_f32(halves_of(c.columns.most)[at]) == most);
                    }
                }
            }
        }
        free_views(f);
    }
}

/* Goal: the channels are those of eq. 10, by a search for each place among all; what is fetched for
 * them, ahead by another query and then late, is what a fetch without a guess leaves; the score is
 * the product over them. */
static void channels_are_the_heaviest(void **state) {
    struct fixture *const f = *state;
    for (int trial = 0; trial < 40; trial++) {
        const struct case_of c = open_case(f, TL_PAGE_BOUNDS, 64);
        const uint32_t k = 1 + (uint32_t)rng_below(&f->rng, c.d);
        const tl_view ids = new_view(f, c.kv_heads, k, TL_I32);
        const tl_view held = new_view(f, c.kv_heads, k, TL_I32);
        const tl_view part = new_view(f, c.kv_heads * k, c.n_blocks * TL_BLOCK, TL_F16);
        const tl_view counts = new_view(f, 1, 2, TL_I32);
        const tl_view score = new_view(f, c.kv_heads, c.n_blocks * TL_BLOCK, TL_F32);
        struct tl_channels choose = {ids, random_floats(f, c.heads * c.d), c.columns.most, c.count,
                                     c.heads};
        struct tl_channel_fetch fetch = {part, c.columns.keys, ids, held, counts, c.count, false};
        assert_int_equal(tl_channels(f->s, &choose), TL_OK);
        assert_int_equal(tl_channel_fetch(f->s, &fetch), TL_OK);
        assert_int_equal(ints_of(counts)[1], c.kv_heads * k);
        assert_int_equal(ints_of(counts)[0], 0);
        choose.q = c.q;
        fetch.keep = true;
        assert_int_equal(tl_channels(f->s, &choose), TL_OK);
        assert_int_equal(tl_channel_fetch(f->s, &fetch), TL_OK);
        assert_int_equal(ints_of(counts)[0] + ints_of(counts)[1], 2 * c.kv_heads * k);
        const struct tl_channel_score op = {score, c.q, part, held, c.count, c.heads, c.d};
        assert_int_equal(tl_channel_score(f->s, &op), TL_OK);
        for (uint32_t h = 0; h < c.kv_heads; h++) {
            double mean[TL_HEAD_DIM_MAX] = {0}, weight[TL_HEAD_DIM_MAX];
            bool in[TL_HEAD_DIM_MAX] = {false};
            for (uint32_t i = 0; i < c.d; i++) {
                for (uint32_t g = 0; g < c.group; g++) {
                    mean[i] += (double)floats_of(c.q)[(h * c.group + g) * c.d + i] / c.group;
                }
                const uint64_t at = (uint64_t)((h + 1) * c.n_blocks - 1) * c.d + i;
                weight[i] = fabs(mean[i]) * (double)tl_f16_to_f32(halves_of(c.columns.most)[at]);
            }
            double least = (double)INFINITY, left_out = 0;
            for (uint32_t j = 0; j < k; j++) {
                const int32_t id = ints_of(ids)[h * k + j];
                assert_true(id >= 0 && id < (int32_t)c.d);
                assert_true(j == 0 || id > ints_of(ids)[h * k + j - 1]);
                least = fmin(least, weight[id]);
                in[id] = true;
            }
            for (uint32_t i = 0; i < c.d; i++) {
                left_out = in[i] ? left_out : fmax(left_out, weight[i]);
            }
            assert_true(least >= left_out * (1 - 1e-6));
            for (uint32_t t = 0; t < c.n_blocks * TL_BLOCK; t++) {
                double want = 0;
                for (uint32_t i = 0; i < c.d; i++) {
                    want += in[i] ? mean[i] * key_at(&c, h, t, i) : 0;
                }
                const double got = (double)floats_of(score)[h * c.n_blocks * TL_BLOCK + t];
                assert_true(fabs(got - want) < 2e-5);
            }
        }
        free_views(f);
    }
}

static tl_view page_scores(struct fixture *f, const struct case_of *c, float sigmas) {
    const tl_view score = new_view(f, c->heads, c->n_blocks * TL_BLOCK, TL_F32);
    const struct tl_page_score op = {.score = score,
                                     .q = c->q,
                                     .n_blocks = c->count,
                                     .pages = c->pages,
                                     .n_heads = c->heads,
                                     .scale = 0.5f,
                                     .sigmas = sigmas};
    assert_int_equal(tl_page_score(f->s, &op), TL_OK);
    return score;
}

/* Goal: no row scores more than its page's bounds allow; the mean of a page's scores is the score
 * of its mean; and a page of one row is that row, whichever sort it is. */
static void pages_know_their_rows(void **state) {
    struct fixture *const f = *state;
    for (int trial = 0; trial < 60; trial++) {
        const uint32_t page = 1u << rng_below(&f->rng, 7);
        const tl_page_kind kind = (tl_page_kind)rng_below(&f->rng, 2);
        const struct case_of c = open_case(f, kind, page);
        const tl_view score = page_scores(f, &c, 0.0f);
        for (uint32_t h = 0; h < c.heads; h++) {
            for (uint32_t p = 0; p < c.n_blocks * TL_BLOCK / page; p++) {
                const float *const of_page =
                    floats_of(score) + h * c.n_blocks * TL_BLOCK + p * page;
                double sum = 0, most = -(double)INFINITY;
                for (uint32_t t = 0; t < page; t++) {
                    const double x = 0.5 * score_at(&c, h, p * page + t);
                    assert_true(of_page[t] == of_page[0]);
                    sum += x;
                    most = fmax(most, x);
                }
                const double got = (double)of_page[0];
                const bool bounds = kind == TL_PAGE_BOUNDS;
                assert_true(!bounds || got >= most - 1e-4);
                assert_true(bounds || fabs(got - sum / page) < 4e-3);
                assert_true(page > 1 || fabs(got - most) < 1e-4);
            }
        }
        free_views(f);
    }
}

/* Goal: the deviation is that of scores whose channels do not hang together. Method: keys of which
 * one channel only differs from 0 leave nothing to hang together. */
static void deviations_are_those_of_scores(void **state) {
    struct fixture *const f = *state;
    for (uint32_t page = 1; page <= 64; page *= 2) {
        struct case_of c = open_case(f, TL_PAGE_MOMENTS, page);
        const uint32_t channel = (uint32_t)rng_below(&f->rng, c.d);
        for (uint32_t i = 0; i < c.kv_heads * CAP * c.d; i++) {
            halves_of(c.keys)[i] = i % c.d == channel ? halves_of(c.keys)[i] : 0;
        }
        const struct tl_page_encode op = {c.pages, c.keys, c.first, 0, c.n_blocks};
        assert_int_equal(tl_page_encode(f->s, &op), TL_OK);
        const tl_view mean = page_scores(f, &c, 0.0f), above = page_scores(f, &c, 2.0f);
        for (uint32_t h = 0; h < c.heads; h++) {
            for (uint32_t p = 0; p < c.n_blocks * TL_BLOCK / page; p++) {
                const uint32_t at = h * c.n_blocks * TL_BLOCK + p * page;
                double sum = 0, squares = 0;
                for (uint32_t t = 0; t < page; t++) {
                    const double x = 0.5 * score_at(&c, h, p * page + t);
                    sum += x / page;
                    squares += x * x / page;
                }
                const double deviation = sqrt(fmax(0, squares - sum * sum));
                const double got = (double)floats_of(above)[at] - (double)floats_of(mean)[at];
                assert_true(fabs(got - 2 * deviation) < 4e-3);
            }
        }
        free_views(f);
    }
}

/* ---- whole steps ---- */

/* A random model with a cache, and one recorded step. */
struct rig {
    struct random_model m;
    struct tl_policy policies[N_LAYERS_MAX];
    tl_kv *kv;
    struct tl_scratch scratch;
    tl_schedule step;
    tl_stream *s;
};

static struct tl_policy policy_by(tl_index index, struct tl_rng *rng) {
    struct tl_policy p = tl_preset_find(index == TL_INDEX_CODES ? "tailor" : "tailor1")->policy;
    p.sink = (uint32_t)rng_below(rng, 9);
    p.recent = (uint32_t)rng_below(rng, 40);
    p.topk = 1 + (uint32_t)rng_below(rng, 30);
    p.hot = rng_below(rng, 3) == 0 ? 0 : 2 * p.topk + (uint32_t)rng_below(rng, 20);
    p.index = index;
    p.channels = 1 + (uint32_t)rng_below(rng, 10);
    p.page = 1u << rng_below(rng, 7);
    return p;
}

/* The same seed gives the same model; policy NULL: random ones. */
static void open_rig(struct fixture *f, struct rig *r, uint64_t seed,
                     const struct tl_policy *policy) {
    *r = (struct rig){.s = f->s};
    struct tl_rng rng = {seed};
    random_model_open(&r->m, &rng, f->dev);
    const struct tl_shape *const shape = &r->m.model.shape;
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        r->policies[il] = policy != NULL ? *policy : random_policy(&rng);
    }
    assert_int_equal(tl_kv_open(&r->kv, shape, r->policies, NULL, f->dev, CTX), TL_OK);
    const struct tl_plan_params plan = {.n_ctx = CTX, .n_chunk = 1, .policies = r->policies};
    const struct tl_scratch_needs needs = tl_plan_scratch(shape, &plan);
    assert_int_equal(tl_scratch_open(&r->scratch, shape, f->dev, &needs), TL_OK);
    const struct tl_pass pass = {.model = &r->m.model,
                                 .kv = r->kv,
                                 .scratch = &r->scratch,
                                 .stream = r->s,
                                 .record = &r->step};
    assert_int_equal(tl_decode_record_step(&pass), TL_OK);
}

static void close_rig(struct rig *r) {
    tl_schedule_free(&r->step);
    tl_scratch_close(&r->scratch);
    tl_kv_close(&r->kv);
    random_model_close(&r->m);
}

static void begin_step(struct rig *r) {
    assert_int_equal(tl_kv_begin_step(r->kv, r->s), TL_OK);
    const uint32_t id = r->kv->n_rows * 2654435761u >> 7;
    *(uint32_t *)tl_view_host(r->scratch.ids) = id % r->m.model.shape.n_vocab;
}

static const float *run_step(struct rig *r) {
    begin_step(r);
    assert_int_equal(tl_schedule_run(&r->step, r->s), TL_OK);
    r->kv->n_rows++;
    return tl_view_host(r->scratch.logits);
}

static void rotate(const struct tl_shape *s, const struct tl_layer *l, uint32_t pos, double *head) {
    const uint32_t half = s->n_rot / 2;
    for (uint32_t j = 0; j < half; j++) {
        const bool adjacent = s->family->pairing == TL_PAIR_ADJACENT;
        double *const a = head + (adjacent ? 2 * j : j), *const b = adjacent ? a + 1 : a + half;
        const double angle = pos * (double)floats_of(l->inv_freq)[j];
        const double x = *a, y = *b, size = (double)l->rope_scale;
        *a = size * (x * cos(angle) - y * sin(angle));
        *b = size * (x * sin(angle) + y * cos(angle));
    }
}

static void norm_in_double(double *x, uint32_t n, const float *w, double eps) {
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) {
        squares += x[i] * x[i] / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        x[i] *= (double)w[i] / sqrt(squares + eps);
    }
}

/* Layer il's query if its input were x (n_embd), in double. */
static void query_of(const struct rig *r, uint32_t il, const float *x, double *q) {
    const struct tl_shape *const s = &r->m.model.shape;
    const struct tl_layer *const l = &r->m.model.layers[il];
    double *const in = malloc(s->n_embd * sizeof *in);
    assert_non_null(in);
    for (uint32_t i = 0; i < s->n_embd; i++) {
        in[i] = (double)x[i];
    }
    norm_in_double(in, s->n_embd, floats_of(l->attn_norm), (double)s->norm_eps);
    for (uint32_t i = 0; i < s->n_heads * s->head_dim; i++) {
        q[i] = l->bq.buf != NULL ? (double)floats_of(l->bq)[i] : 0;
        for (uint32_t j = 0; j < s->n_embd; j++) {
            q[i] += (double)floats_of(l->wq)[(uint64_t)i * s->n_embd + j] * in[j];
        }
    }
    for (uint32_t h = 0; h < s->n_heads; h++) {
        if (l->q_norm.buf != NULL) {
            norm_in_double(q + h * s->head_dim, s->head_dim, floats_of(l->q_norm),
                           (double)s->norm_eps);
        }
        rotate(s, l, r->kv->n_rows, q + h * s->head_dim);
    }
    free(in);
}

/* Goal: what is fetched ahead is chosen by the next layer's own weights, norm, bias and rotation
 * over this layer's input (eq. 13). Method: stop in front of each such choice. */
static void the_predicted_query(void **state) {
    struct fixture *const f = *state;
    uint32_t n_seen = 0;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct tl_rng rng = {seed};
        const struct tl_policy policy = policy_by(TL_INDEX_CHANNELS, &rng);
        struct rig r;
        open_rig(f, &r, seed, &policy);
        for (int i = 0; i < 100; i++) {
            run_step(&r);
        }
        begin_step(&r);
        const struct tl_shape *const s = &r.m.model.shape;
        float *const x = malloc(s->n_embd * sizeof *x);
        double *const q = malloc(s->n_heads * s->head_dim * sizeof *q);
        assert_true(x != NULL && q != NULL);
        bool entered[N_LAYERS_MAX] = {false};
        uint32_t layer = 0;
        for (uint32_t i = 0; i < r.step.n; i++) {
            const struct tl_op *const op = &r.step.ops[i];
            /* A layer is entered by the projection of its own query. */
            if (op->verb == TL_VERB_MATMUL && op->u.matmul.y.off_bytes == r.scratch.q.off_bytes &&
                op->layer < N_LAYERS_MAX && !entered[op->layer]) {
                layer = op->layer;
                entered[layer] = true;
                memcpy(x, tl_view_host(r.scratch.x), s->n_embd * sizeof *x);
            }
            if (op->verb == TL_VERB_CHANNELS && op->layer != layer) {
                assert_int_equal(op->layer, layer + 1);
                query_of(&r, op->layer, x, q);
                for (uint32_t c = 0; c < s->n_heads * s->head_dim; c++) {
                    assert_true(fabs(q[c] - (double)floats_of(op->u.channels.q)[c]) < 2e-4);
                }
                n_seen++;
            }
            assert_int_equal(tl_op_run(op, r.s), TL_OK);
        }
        free(x);
        free(q);
        close_rig(&r);
    }
    assert_true(n_seen > 10);
}

/* Goal: only time depends on the guess: with late fetches, logits are those without a guess, to the
 * bit; and the guess is worth something, or nothing would be there. */
static void a_guess_changes_nothing(void **state) {
    struct fixture *const f = *state;
    uint64_t n_there = 0;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct tl_rng rng = {seed};
        struct tl_policy policy = policy_by(TL_INDEX_CHANNELS, &rng);
        struct rig with, without;
        open_rig(f, &with, seed, &policy);
        policy.predict = TL_PREDICT_NONE;
        open_rig(f, &without, seed, &policy);
        const size_t bytes = with.m.model.shape.n_vocab * sizeof(float);
        for (int i = 0; i < 200; i++) {
            assert_memory_equal(run_step(&with), run_step(&without), bytes);
        }
        for (uint32_t il = 0; il < with.m.model.shape.n_layers; il++) {
            n_there += (uint64_t)ints_of(with.scratch.channel_counts)[2 * il];
            assert_int_equal(ints_of(without.scratch.channel_counts)[2 * il], 0);
        }
        close_rig(&with);
        close_rig(&without);
    }
    assert_true(n_there > 0);
}

/* Goal: what was forgotten and said again leaves no trace, to the bit, whatever rows are chosen by.
 * Method: steps to and fro; each logit is compared with that of the first time. */
static void saying_it_again(void **state) {
    struct fixture *const f = *state;
    for (uint64_t seed = 1; seed < 24; seed++) {
        struct tl_rng rng = {seed};
        const struct tl_policy policy = policy_by((tl_index)(seed % 4), &rng);
        struct rig r;
        open_rig(f, &r, seed, &policy);
        const uint32_t n_vocab = r.m.model.shape.n_vocab;
        float *const first = calloc((size_t)CTX * n_vocab, sizeof *first);
        assert_non_null(first);
        uint32_t n_said = 0;
        for (int turn = 0; turn < 8; turn++) {
            const uint32_t to = (uint32_t)rng_below(&rng, CTX);
            while (r.kv->n_rows < to) {
                const uint32_t at = r.kv->n_rows;
                const float *const logits = run_step(&r);
                if (at < n_said) {
                    assert_memory_equal(logits, first + (size_t)at * n_vocab,
                                        n_vocab * sizeof *logits);
                } else {
                    memcpy(first + (size_t)at * n_vocab, logits, n_vocab * sizeof *logits);
                    n_said++;
                }
            }
            bool home = true;
            for (uint32_t il = 0; il < r.m.model.shape.n_layers; il++) {
                home = home && r.kv->layers[il].home.k.buf != NULL;
            }
            const uint32_t keep = (uint32_t)rng_below(&rng, r.kv->n_rows + 1);
            const uint32_t kept = tl_kv_rewind(r.kv, keep, r.s);
            assert_true(kept == keep || (kept == 0 && !home)); /* the model's own windows */
        }
        free(first);
        close_rig(&r);
    }
}

#define TESTS_ON(open)                                                                             \
    cmocka_unit_test_setup_teardown(columns_are_the_rows, open, close_fixture),                    \
        cmocka_unit_test_setup_teardown(channels_are_the_heaviest, open, close_fixture),           \
        cmocka_unit_test_setup_teardown(pages_know_their_rows, open, close_fixture),               \
        cmocka_unit_test_setup_teardown(deviations_are_those_of_scores, open, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        TESTS_ON(open_plain),
        TESTS_ON(open_avx2),
        TESTS_ON(open_best),
        cmocka_unit_test_setup_teardown(the_predicted_query, open_best, close_fixture),
        cmocka_unit_test_setup_teardown(a_guess_changes_nothing, open_best, close_fixture),
        cmocka_unit_test_setup_teardown(saying_it_again, open_best, close_fixture),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
