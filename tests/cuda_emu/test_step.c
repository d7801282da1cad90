/* The recorded decode step on the emulated card: how many kernels it launches for real shapes,
 * which of them touch host memory, and whether ops that wait for each other change anything.
 * Weights are blank where only that is asked. */
#include "core/decode.h"
#include "core/forecast.h"
#include "core/launches.h"
#include "core/named_shapes.h"
#include "core/plan.h"
#include "core/replay.h"
#include "emu.h"
#include "support.h"

#include <math.h>
#include <string.h>

enum { N_CTX = 4096, N_VOCAB = 512, N_FF = 512, LAYERS_MAX = 4 };

struct step {
    tl_dev *dev;
    tl_stream *streams[TL_LANE_COUNT];
    struct tl_shape shape;
    tl_model *model;
    tl_kv *kv;
    struct tl_scratch scratch;
    tl_schedule schedule;
    tl_replay *replay;
    uint64_t n_launches, n_nodes; /* of the recorded step: kernels; those, copies and fills */
};

/* Copies and fills so far. */
static uint64_t count_copies(void) {
    struct emu_entry entries[128];
    const uint32_t n = emu_entries(entries, 128);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        const bool counts = strcmp(entries[i].name, "cudaMemcpyAsync") == 0 ||
                            strcmp(entries[i].name, "cudaMemsetAsync") == 0;
        sum += counts ? entries[i].n_calls : 0;
    }
    return sum;
}

/* A step of n_layers layers of a named shape, small where sizes do not change what is launched. */
static void open_step(struct step *s, const char *shape, tl_dtype weights, const char *preset,
                      uint32_t n_layers) {
    struct tl_policy policies[LAYERS_MAX];
    *s = (struct step){0};
    struct emu_options o = emu_defaults();
    o.n_sms = 82; /* a 3090's: attention is split as there */
    emu_configure(&o);
    const struct tl_named_shape *const named = tl_named_shape_find(shape);
    assert_non_null(named);
    tl_named_shape_get(named, &s->shape);
    s->shape.n_layers = n_layers;
    s->shape.n_vocab = N_VOCAB;
    s->shape.n_ff = N_FF;
    assert_int_equal(tl_dev_open(&s->dev, tl_backend_find("cuda"), &(struct tl_dev_params){0}),
                     TL_OK);
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        assert_int_equal(tl_stream_open(&s->streams[i], s->dev), TL_OK);
    }
    const struct tl_blank blank = {.outside = weights, .layers = weights};
    assert_int_equal(tl_model_open_blank(&s->model, &s->shape, &blank, s->dev), TL_OK);
    const struct tl_preset *const found = tl_preset_find(preset);
    assert_non_null(found);
    for (uint32_t il = 0; il < n_layers; il++) {
        policies[il] = tl_kv_policy_at(&s->shape, il, &found->policy, N_CTX);
    }
    assert_int_equal(tl_kv_open(&s->kv, &s->shape, policies, NULL, s->dev, N_CTX), TL_OK);
    const struct tl_plan_params plan = {.n_ctx = N_CTX, .n_chunk = 1, .policies = policies};
    const struct tl_scratch_needs needs = tl_plan_scratch(&s->shape, &plan);
    assert_int_equal(tl_scratch_open(&s->scratch, &s->shape, s->dev, &needs), TL_OK);
    const struct tl_pass pass = {
        .model = s->model, .kv = s->kv, .scratch = &s->scratch, .record = &s->schedule};
    assert_int_equal(tl_decode_record_step(&pass), TL_OK);
    tl_schedule_arrange(&s->schedule);
    const uint64_t before = emu_count().n_launches, copies_before = count_copies();
    assert_int_equal(tl_replay_open(&s->replay, &s->schedule, s->streams), TL_OK);
    assert_true(tl_replay_is_graph(s->replay));
    s->n_launches = emu_count().n_launches - before;
    s->n_nodes = s->n_launches + count_copies() - copies_before;
}

static void close_step(struct step *s) {
    tl_replay_close(&s->replay);
    tl_schedule_free(&s->schedule);
    tl_scratch_close(&s->scratch);
    tl_kv_close(&s->kv);
    tl_model_close(&s->model);
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        tl_stream_close(&s->streams[i]);
    }
    tl_dev_close(&s->dev);
    const struct emu_counts left = emu_count();
    assert_int_equal(left.device_bytes + left.pinned_bytes + left.n_objects, 0);
}

/* Goal: what stands behind each other in a layer is launched together: pending.c says how many
 * kernels are left, and this is where the numbers come from. Outside the layers: the embedding, the
 * last norm, which a product of floats takes along, and the logits. */
static void test_launches(void **state) {
    (void)state;
    static const struct {
        const char *shape, *preset;
        tl_dtype weights;
        uint32_t of_layer, outside;
    } cases[] = {
        {"llama-3.1-8b", "full", TL_F16, 8, 2},   {"llama-3.1-8b", "full", TL_Q8_0, 11, 3},
        {"qwen2.5-0.5b", "full", TL_F16, 8, 2},   {"qwen2.5-0.5b", "full", TL_BF16, 8, 2},
        {"qwen2.5-0.5b", "full", TL_Q8_0, 11, 3}, {"qwen2.5-0.5b", "kivi2", TL_F16, 11, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bool large = strcmp(cases[i].shape, "llama-3.1-8b") == 0;
        const uint32_t n_layers = large ? 1 : 3;
        struct step s;
        open_step(&s, cases[i].shape, cases[i].weights, cases[i].preset, n_layers);
        print_message("%-13s %-6s %-5s: %llu kernels for %u layers\n", cases[i].shape,
                      tl_dtype_info(cases[i].weights)->name, cases[i].preset,
                      (unsigned long long)s.n_launches, n_layers);
        assert_int_equal(s.n_launches, cases[i].outside + cases[i].of_layer * n_layers);
        close_step(&s);
    }
}

/* Launches that core counts for a schedule. */
static uint64_t launches_of(const tl_schedule *s) {
    static uint32_t n_of[1024];
    uint64_t sum = 0;
    assert_true(s->n <= 1024);
    tl_launches_of(s, &tl_launching_cuda, n_of);
    for (uint32_t i = 0; i < s->n; i++) {
        sum += n_of[i];
    }
    return sum;
}

/* A named shape's forecast for a 3090, of as many layers and the same cache. */
static uint64_t forecast_launches(const struct step *s, tl_dtype weights, const char *preset) {
    struct tl_policy policies[LAYERS_MAX];
    for (uint32_t il = 0; il < s->shape.n_layers; il++) {
        policies[il] = tl_kv_policy_at(&s->shape, il, &tl_preset_find(preset)->policy, N_CTX);
    }
    const struct tl_forecast_params params = {.shape = &s->shape,
                                              .blank = {.outside = weights, .layers = weights},
                                              .policies = policies,
                                              .card = tl_card_find("3090")};
    tl_forecast *f = NULL;
    struct tl_timeline line;
    assert_int_equal(tl_forecast_open(&f, &params), TL_OK);
    tl_forecast_step(f, N_CTX - 1, &line);
    tl_forecast_close(&f);
    return line.n_launches;
}

/* Goal: what a forecast charges for launches is what the backend launches: kernels, copies and
 * fills, whatever the preset, the family and the weights. */
static void test_forecast_counts_launches(void **state) {
    (void)state;
    static const char *const shapes[] = {"qwen2.5-0.5b", "llama-3.1-8b", "gemma-2-9b", "qwen3-4b",
                                         "phi-3-mini"};
    static const tl_dtype weights[] = {TL_F16, TL_Q8_0, TL_F32};
    for (size_t sh = 0; sh < sizeof shapes / sizeof shapes[0]; sh++) {
        for (size_t i = 0; tl_presets[i].name != NULL; i++) {
            const tl_dtype dtype = weights[i % 3];
            const uint32_t n_layers = sh == 0 ? 3 : 2;
            struct step s;
            open_step(&s, shapes[sh], dtype, tl_presets[i].name, n_layers);
            const uint64_t counted = launches_of(&s.schedule);
            const uint64_t forecast = forecast_launches(&s, dtype, tl_presets[i].name);
            if (counted != s.n_nodes || forecast != s.n_nodes) {
                fail_msg("%s, %s, %s: %llu launches of %u ops, core counts %llu, a forecast %llu",
                         shapes[sh], tl_dtype_info(dtype)->name, tl_presets[i].name,
                         (unsigned long long)s.n_nodes, s.schedule.n, (unsigned long long)counted,
                         (unsigned long long)forecast);
            }
            close_step(&s);
        }
    }
}

/* Goal: so it is for a step of several sequences, whose alike ops are launched eight at a time. */
static void test_batches_count_launches(void **state) {
    (void)state;
    enum { SEQS_MAX = 10 };
    static const uint32_t n_seqs[] = {2, 3, SEQS_MAX};
    static const char *const presets[] = {"full", "tailor", "vecinfer1", "tailor1"};
    for (size_t i = 0; i < 12; i++) {
        const uint32_t n = n_seqs[i / 4];
        struct step s;
        struct tl_policy policies[LAYERS_MAX];
        struct tl_scratch own[SEQS_MAX], shared;
        tl_kv *kvs[SEQS_MAX];
        tl_schedule parts[SEQS_MAX] = {0}, batch = {0};
        struct tl_pass each[SEQS_MAX];
        open_step(&s, "qwen2.5-0.5b", i % 2 == 0 ? TL_Q8_0 : TL_F16, presets[i % 4], 2);
        const bool hybrid = i % 4 != 0;
        const struct tl_scratch_needs needs = {.n_chunk = n, .cap = 1, .hybrid = hybrid};
        assert_int_equal(tl_scratch_open(&shared, &s.shape, s.dev, &needs), TL_OK);
        for (uint32_t il = 0; il < 2; il++) {
            policies[il] =
                tl_kv_policy_at(&s.shape, il, &tl_preset_find(presets[i % 4])->policy, N_CTX);
        }
        const struct tl_plan_params plan = {.n_ctx = N_CTX, .n_chunk = 1, .policies = policies};
        const struct tl_scratch_needs room = tl_plan_scratch(&s.shape, &plan);
        const struct tl_pass all = {.model = s.model, .scratch = &shared, .record = &batch};
        for (uint32_t j = 0; j < n; j++) {
            assert_int_equal(tl_kv_open(&kvs[j], &s.shape, policies, NULL, s.dev, N_CTX), TL_OK);
            assert_int_equal(tl_scratch_open(&own[j], &s.shape, s.dev, &room), TL_OK);
            each[j] = (struct tl_pass){
                .model = s.model, .kv = kvs[j], .scratch = &own[j], .record = &parts[j]};
        }
        assert_int_equal(tl_decode_record_batch(&all, each, n), TL_OK);
        tl_schedule_arrange(&batch);
        const uint64_t before = emu_count().n_launches + count_copies();
        tl_replay *replay = NULL;
        assert_int_equal(tl_replay_open(&replay, &batch, s.streams), TL_OK);
        const uint64_t made = emu_count().n_launches + count_copies() - before;
        print_message("%u sequences, %-9s: %llu launches for %u ops\n", n, presets[i % 4],
                      (unsigned long long)made, batch.n);
        assert_int_equal(launches_of(&batch), made);
        tl_replay_close(&replay);
        tl_schedule_free(&batch);
        for (uint32_t j = 0; j < n; j++) {
            tl_schedule_free(&parts[j]);
            tl_scratch_close(&own[j]);
            tl_kv_close(&kvs[j]);
        }
        tl_scratch_close(&shared);
        close_step(&s);
    }
}

/* Kernels of a step that have business with host memory: the embedding reads its token, the last
 * product writes logits, new rows go home, rows and channels come from there, or are attended
 * there. */
static uint32_t count_far(const struct step *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->schedule.n; i++) {
        const struct tl_op *const op = &s->schedule.ops[i];
        n +=
            op->verb == TL_VERB_GATHER || op->verb == TL_VERB_FETCH ||
            op->verb == TL_VERB_CHANNEL_FETCH ||
            (op->verb == TL_VERB_MATMUL && op->u.matmul.y.buf->mem == TL_MEM_HOST) ||
            (op->verb == TL_VERB_CHANNELS && op->u.channels.most.buf->mem == TL_MEM_HOST) ||
            (op->verb == TL_VERB_ATTEND && op->u.attend.kv.k.buf->mem == TL_MEM_HOST) ||
            (op->verb == TL_VERB_ATTEND_SLOTS && op->u.attend_slots.kv.k.buf->mem == TL_MEM_HOST) ||
            (op->verb == TL_VERB_KV_ENCODE && op->u.kv_encode.dst.k.buf->mem == TL_MEM_HOST);
    }
    return n;
}

/* Goal: no kernel of a step reads a count across the link, whatever the preset: numbers come to the
 * card by one copy at the head of the step; tallies of fetches by another, and go back at its end.
 */
static void test_numbers(void **state) {
    (void)state;
    for (size_t i = 0; tl_presets[i].name != NULL; i++) {
        struct step s;
        open_step(&s, "qwen2.5-0.5b", TL_Q8_0, tl_presets[i].name, 2);
        uint32_t n_copies = 0;
        for (uint32_t j = 0; j < s.schedule.n; j++) {
            n_copies += s.schedule.ops[j].verb == TL_VERB_COPY;
        }
        const bool selects = s.kv->layers[1].policy.select == TL_SELECT_TOPK;
        assert_int_equal(n_copies, selects ? 3 : 1);
        struct emu_options o = emu_defaults();
        o.watch_pinned = true;
        emu_configure(&o);
        tl_kv_pretend(s.kv, 1500);
        assert_int_equal(tl_replay_run(s.replay), TL_OK);
        assert_int_equal(tl_stream_sync(s.streams[0]), TL_OK);
        const uint64_t n_far = emu_count().n_far, most = count_far(&s);
        print_message("%-10s %llu kernels touch host memory, at most %llu have to\n",
                      tl_presets[i].name, (unsigned long long)n_far, (unsigned long long)most);
        assert_true(n_far >= 2 && n_far <= most);
        close_step(&s);
    }
}

/* ---- fusions ---- */

enum { N_ROWS = 2, DIM = 64, D = 32, HEADS = DIM / D, CAP = 4, N_ACTS = 6, N_WEIGHTS = 4 };
static const tl_dtype weight_types[N_WEIGHTS] = {TL_F16, TL_Q8_0, TL_Q8_0, TL_F32};

/* The same memory on one device: activations, matrices, a vector, numbers, two tiers of a cache. */
struct world {
    tl_dev *dev;
    tl_stream *s;
    tl_buf *buf, *acts; /* host, device */
    tl_view host_act,   /* all of them, for the host */
        weight[N_WEIGHTS], norm, inv_freq, pos, tier[4];
};

static tl_view carve(tl_buf *buf, uint64_t *at, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    const tl_view v = tl_view_of(buf, *at, rows, cols, dtype);
    *at += tl_align_up(tl_view_bytes(v), 256);
    return v;
}

static void open_world(struct world *w, const char *backend, uint64_t seed) {
    struct tl_rng rng = {seed};
    assert_int_equal(tl_dev_open(&w->dev, tl_backend_find(backend), &(struct tl_dev_params){0}),
                     TL_OK);
    assert_int_equal(tl_stream_open(&w->s, w->dev), TL_OK);
    tl_buf *buf;
    uint64_t at = 0;
    assert_int_equal(tl_buf_alloc(&buf, w->dev, 1 << 18, TL_MEM_HOST), TL_OK);
    assert_int_equal(tl_buf_alloc(&w->acts, w->dev, 1 << 14, TL_MEM_DEVICE), TL_OK);
    w->buf = buf;
    w->host_act = carve(buf, &at, N_ACTS * N_ROWS, DIM, TL_F32);
    for (uint32_t j = 0; j < N_ACTS * N_ROWS * DIM; j++) {
        ((float *)tl_view_host(w->host_act))[j] = rng_float(&rng);
    }
    assert_int_equal(
        tl_copy(w->s, tl_view_of(w->acts, 0, N_ACTS * N_ROWS, DIM, TL_F32), w->host_act), TL_OK);
    for (int i = 0; i < N_WEIGHTS; i++) {
        w->weight[i] = carve(buf, &at, DIM, DIM, weight_types[i]);
        const uint64_t row_bytes = tl_row_bytes(weight_types[i], DIM);
        for (uint32_t r = 0; r < DIM; r++) {
            float row[DIM];
            for (uint32_t j = 0; j < DIM; j++) {
                row[j] = rng_float(&rng) / 5.0f;
            }
            assert_true(tl_encode_row(weight_types[i], row,
                                      (uint8_t *)tl_view_host(w->weight[i]) + r * row_bytes, DIM));
        }
    }
    w->norm = carve(buf, &at, 1, DIM, TL_F32);
    w->inv_freq = carve(buf, &at, 1, D / 2, TL_F32);
    w->pos = carve(buf, &at, N_ROWS, 1, TL_I32);
    for (uint32_t j = 0; j < DIM; j++) {
        ((float *)tl_view_host(w->norm))[j] = 1.0f + rng_float(&rng) / 4.0f;
    }
    for (uint32_t j = 0; j < D / 2; j++) {
        ((float *)tl_view_host(w->inv_freq))[j] = 1.0f / (float)(j + 1);
    }
    ((int32_t *)tl_view_host(w->pos))[0] = 3; /* a slot too */
    ((int32_t *)tl_view_host(w->pos))[1] = 1;
    for (int i = 0; i < 4; i++) {
        w->tier[i] = carve(buf, &at, HEADS * CAP, D, i < 2 ? TL_F16 : TL_Q8_0);
    }
}

static void read_world(struct world *w) {
    assert_int_equal(
        tl_copy(w->s, w->host_act, tl_view_of(w->acts, 0, N_ACTS * N_ROWS, DIM, TL_F32)), TL_OK);
    assert_int_equal(tl_stream_sync(w->s), TL_OK);
}

static void close_world(struct world *w) {
    tl_buf_free(&w->buf);
    tl_buf_free(&w->acts);
    tl_stream_close(&w->s);
    tl_dev_close(&w->dev);
}

/* n rows of the activations: mostly the same few, so that fusions come about; some lie across two
 * of those, so that rows of one op are parts of another's. */
static tl_view random_rows(const struct world *w, struct tl_rng *rng, uint32_t n) {
    enum { STEP = 16 }; /* floats */
    const uint32_t which = (uint32_t)rng_below(rng, rng_below(rng, 3) == 0 ? N_ACTS : 3);
    uint64_t at = (uint64_t)which * N_ROWS * DIM;
    if (rng_below(rng, 5) == 0) {
        at = STEP * rng_below(rng, ((N_ACTS * N_ROWS - n) * DIM) / STEP);
    }
    return tl_view_of(w->acts, at * sizeof(float), n, DIM, TL_F32);
}

/* A random op of a step on random rows of the world; what may not overlap does not. */
static tl_err random_op(const struct world *w, struct tl_rng *rng, uint32_t n) {
    tl_view v[3];
    for (uint32_t i = 0; i < 3; i++) {
        bool again;
        do {
            v[i] = random_rows(w, rng, n);
            again = false;
            for (uint32_t j = 0; j < i; j++) {
                again |= tl_view_overlap(&v[j], &v[i]);
            }
        } while (again);
    }
    switch (rng_below(rng, 11)) {
    case 0:
    case 1: {
        const bool accumulate = rng_below(rng, 8) == 0;
        return tl_rmsnorm(w->s, &(struct tl_rmsnorm){.y = v[!accumulate && rng_below(rng, 4) == 0],
                                                     .x = v[1],
                                                     .w = w->norm,
                                                     .eps = 1e-5f,
                                                     .accumulate = accumulate});
    }
    case 2:
        return tl_glu(w->s,
                      &(struct tl_glu){
                          .y = v[rng_below(rng, 3)], .gate = v[1], .up = v[2], .act = TL_ACT_SILU});
    case 3:
    case 4:
        return tl_rope(w->s, &(struct tl_rope){.x = v[0],
                                               .pos = tl_view_rows(w->pos, 0, n),
                                               .inv_freq = w->inv_freq,
                                               .head_dim = D,
                                               .pairing = rng_below(rng, 2) == 0 ? TL_PAIR_HALF
                                                                                 : TL_PAIR_ADJACENT,
                                               .scale = 1.0f});
    case 5:
    case 6: {
        const uint32_t tier = 2 * (uint32_t)rng_below(rng, 2);
        return tl_kv_encode(
            w->s, &(struct tl_kv_encode){
                      .dst = {.k = w->tier[tier], .v = w->tier[tier + 1], .n_kv_heads = HEADS},
                      .k = v[0],
                      .v = v[1],
                      .slot = tl_view_rows(w->pos, 0, n)});
    }
    case 7:
        return tl_copy(w->s, v[0], v[1]);
    default:
        return tl_matmul(
            w->s, &(struct tl_matmul){.y = v[0],
                                      .x = v[1],
                                      .w = w->weight[rng_below(rng, N_WEIGHTS)],
                                      .bias = rng_below(rng, 3) == 0 ? tl_view_rows(v[2], 0, 1)
                                                                     : (tl_view){0},
                                      .accumulate = rng_below(rng, 2) == 0,
                                      .softcap = rng_below(rng, 4) == 0 ? 5.0f : 0.0f});
    }
}

/* Goal: whatever stands behind each other, ops that wait for each other change nothing: random
 * short lists of ops, with the same few rows, or parts of them, in many roles, end in the same
 * memory as on the CPU.
 */
static void test_fusions(void **state) {
    (void)state;
    enum { N_LISTS = 1500 };
    struct emu_options o = emu_defaults();
    emu_configure(&o);
    uint64_t n_launches = 0, n_ops = 0;
    for (uint64_t list = 0; list < N_LISTS; list++) {
        struct world cpu, card;
        open_world(&cpu, "cpu", list);
        open_world(&card, "cuda", list);
        const uint64_t before = emu_count().n_launches;
        struct tl_rng rng = {list}, again = {list};
        const uint32_t n = 1 + (uint32_t)rng_below(&rng, N_ROWS),
                       len = 2 + (uint32_t)rng_below(&rng, 5);
        (void)rng_below(&again, N_ROWS);
        (void)rng_below(&again, 5);
        for (uint32_t i = 0; i < len; i++) {
            assert_int_equal(random_op(&cpu, &rng, n), TL_OK);
            assert_int_equal(random_op(&card, &again, n), TL_OK);
        }
        read_world(&cpu);
        read_world(&card);
        n_launches += emu_count().n_launches - before;
        n_ops += len;
        for (uint32_t i = 0; i < N_ACTS; i++) {
            const uint32_t size = N_ROWS * DIM;
            const double off =
                rms_difference((float *)tl_view_host(cpu.host_act) + i * size,
                               (float *)tl_view_host(card.host_act) + i * size, size);
            if (!(off < 5e-2)) {
                fail_msg("list %llu of %u ops: rows %u differ by %.1e of their size",
                         (unsigned long long)list, len, i, off);
            }
        }
        for (int i = 0; i < 4; i++) {
            float want[D], got[D];
            for (uint32_t r = 0; r < HEADS * CAP; r++) {
                const tl_dtype dtype = cpu.tier[i].dtype;
                const uint64_t off = r * tl_row_bytes(dtype, D);
                tl_decode_row(dtype, (const uint8_t *)tl_view_host(cpu.tier[i]) + off, want, D);
                tl_decode_row(dtype, (const uint8_t *)tl_view_host(card.tier[i]) + off, got, D);
                for (uint32_t j = 0; j < D; j++) {
                    assert_true(fabsf(want[j] - got[j]) <= 0.1f * (1.0f + fabsf(want[j])));
                }
            }
        }
        close_world(&cpu);
        close_world(&card);
    }
    print_message("%llu ops, %llu kernels\n", (unsigned long long)n_ops,
                  (unsigned long long)n_launches);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launches),
        cmocka_unit_test(test_forecast_counts_launches),
        cmocka_unit_test(test_batches_count_launches),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_fusions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
