/* A whole model of a known shape on a device, without a file: random weights, a cache of random
 * rows as deep as asked for, decode steps, and every sort of op of a step on its own. For cards
 * that are at hand for minutes: each line is printed as soon as it is known.
 *
 *   card SHAPE WEIGHTS BACKEND KV[,KV] DEPTH[,DEPTH] STEPS [LAYERS [VOCABULARY]]
 *
 *   rate    what plain copies reach: device memory (bytes read and written) and the link
 *   step    times of decode steps, what they moved, and the time to read the weights once at that
 * rate op      one line a sort of op at that depth: how many a step, time, bytes, part of the rate
 *   skip    a cache that does not fit
 *
 * LAYERS, VOCABULARY: fewer than the shape has, for a try. For developers: target `card`, and
 * `card_emu` on the emulated card. */
#include "core/cards.h"
#include "core/decode.h"
#include "core/named_shapes.h"
#include "core/plan.h"
#include "core/replay.h"
#include "core/timeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS_MAX = 256, CLASSES_MAX = 96, STEPS_MAX = 1024, TILE_BYTES = 1 << 19, OP_ROUNDS = 4 };

struct bench {
    tl_dev *dev;
    struct tl_dev_caps caps;
    tl_stream *streams[TL_LANE_COUNT];
    struct tl_shape shape;
    tl_model *model;
    tl_buf *tile; /* host: random rows of one kind, to be copied */
    tl_dtype tile_dtype;
    uint32_t tile_cols, tile_rows;
    float tile_scale;
    double copy_rate, link_rate; /* bytes a second */
    uint64_t rng;
};

static void must(tl_err err, const char *what) {
    if (err) {
        fprintf(stderr, "card: %s: error %d\n", what, (int)err);
        exit(1);
    }
}

static void print_log(void *user, tl_level level, const char *sentence) {
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", sentence);
}

static uint32_t random_bits(struct bench *b) {
    b->rng = b->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(b->rng >> 33);
}

/* About normal, deviation 1. */
static float random_float(struct bench *b) {
    float sum = 0.0f;
    for (int i = 0; i < 4; i++) {
        sum += (float)random_bits(b) * 0x1p-31f - 0.5f;
    }
    return sum * 1.7320508f;
}

/* A row of a type that nothing here encodes: random codes, small finite scales. */
static void random_blocks(struct bench *b, tl_dtype dtype, uint8_t *row, uint32_t cols) {
    const struct tl_dtype_info *const info = tl_dtype_info(dtype);
    const uint64_t bytes = tl_row_bytes(dtype, cols);
    if (dtype != TL_Q4_K && dtype != TL_Q5_K && dtype != TL_Q6_K) {
        must(TL_ERR_UNSUPPORTED, "weights of this type");
    }
    for (uint64_t i = 0; i < bytes; i++) {
        row[i] = (uint8_t)random_bits(b);
    }
    for (uint64_t at = 0; at < bytes; at += info->block_bytes) {
        const uint16_t small = 0x1000; /* as a half: 2^-11 */
        memcpy(row + at + (dtype == TL_Q6_K ? info->block_bytes - 2u : 0), &small, 2);
        if (dtype != TL_Q6_K) {
            memcpy(row + at + 2, &small, 2);
        }
    }
}

static void make_tile(struct bench *b, tl_dtype dtype, uint32_t cols, float scale) {
    const uint64_t row_bytes = tl_row_bytes(dtype, cols);
    if (b->tile != NULL && b->tile_dtype == dtype && b->tile_cols == cols &&
        b->tile_scale == scale) {
        return;
    }
    tl_buf_free(&b->tile);
    b->tile_rows = (uint32_t)tl_max_u64(1, TILE_BYTES / row_bytes);
    must(tl_buf_alloc(&b->tile, b->dev, b->tile_rows * row_bytes, TL_MEM_HOST), "a tile");
    float *const floats = malloc(cols * sizeof *floats);
    must(floats != NULL ? TL_OK : TL_ERR_MEMORY, "a row");
    for (uint32_t r = 0; r < b->tile_rows; r++) {
        uint8_t *const row = (uint8_t *)b->tile->host + r * row_bytes;
        for (uint32_t c = 0; c < cols; c++) {
            floats[c] = scale * random_float(b);
        }
        if (!tl_encode_row(dtype, floats, row, cols)) {
            random_blocks(b, dtype, row, cols);
        }
    }
    free(floats);
    b->tile_dtype = dtype;
    b->tile_cols = cols;
    b->tile_scale = scale;
}

static void fill(struct bench *b, tl_view v, float scale) {
    if (v.buf == NULL) {
        return;
    }
    make_tile(b, v.dtype, v.cols, scale);
    for (uint32_t at = 0; at < v.rows; at += b->tile_rows) {
        const uint32_t n = (uint32_t)tl_min_u64(b->tile_rows, v.rows - at);
        must(tl_copy(b->streams[0], tl_view_rows(v, at, n),
                     tl_view_of(b->tile, 0, n, v.cols, v.dtype)),
             "tl_copy");
    }
    must(tl_stream_sync(b->streams[0]), "random rows");
}

static void fill_ones(struct bench *b, tl_view v) {
    tl_buf *ones = NULL;
    if (v.buf == NULL) {
        return;
    }
    must(tl_buf_alloc(&ones, b->dev, tl_view_bytes(v), TL_MEM_HOST), "a row");
    for (uint32_t c = 0; c < v.cols; c++) {
        ((float *)ones->host)[c] = 1.0f;
    }
    must(tl_copy(b->streams[0], v, tl_view_of(ones, 0, 1, v.cols, TL_F32)), "tl_copy");
    must(tl_stream_sync(b->streams[0]), "ones");
    tl_buf_free(&ones);
}

static void fill_model(struct bench *b) {
    tl_model *const m = b->model;
    const float by_embd = 1.0f / sqrtf((float)m->shape.n_embd);
    fill(b, m->embd, 1.0f);
    fill(b, m->output, by_embd);
    fill_ones(b, m->output_norm);
    for (uint32_t il = 0; il < m->shape.n_layers; il++) {
        const struct tl_layer *const l = &m->layers[il];
        const tl_view norms[] = {l->attn_norm, l->ffn_norm,       l->q_norm,
                                 l->k_norm,    l->attn_post_norm, l->ffn_post_norm};
        const tl_view matrices[] = {l->wq, l->wk, l->wv, l->wo, l->gate, l->up, l->down};
        for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
            fill_ones(b, norms[i]);
        }
        for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
            fill(b, matrices[i], 0.7f / sqrtf((float)matrices[i].cols));
        }
    }
}

/* The best of a few copies: bytes a second. */
static double copy_rate(struct bench *b, uint64_t bytes, tl_mem from, tl_mem to) {
    enum { MIB = 1 << 20 };
    tl_buf *src = NULL, *dst = NULL;
    double best = 1e30;
    const uint32_t rows = (uint32_t)(bytes / MIB);
    must(tl_buf_alloc(&src, b->dev, bytes, from), "copy");
    must(tl_buf_alloc(&dst, b->dev, bytes, to), "copy");
    for (int i = 0; i < 6; i++) {
        const uint64_t begin = tl_now_ns();
        must(tl_copy(b->streams[0], tl_view_of(dst, 0, rows, MIB, TL_U8),
                     tl_view_of(src, 0, rows, MIB, TL_U8)),
             "tl_copy");
        must(tl_stream_sync(b->streams[0]), "copy");
        best = fmin(best, (double)(tl_now_ns() - begin));
    }
    tl_buf_free(&src);
    tl_buf_free(&dst);
    return (double)bytes / (best * 1e-9);
}

/* ---- one cache ---- */

struct run {
    struct bench *b;
    const char *kv_name;
    tl_kv *kv;
    struct tl_scratch scratch;
    tl_schedule step;
    tl_replay *replay;
    struct tl_stage stage; /* for layers without a home; views of stage_bufs */
    tl_buf *stage_bufs[2];
};

static void open_stage(struct run *r) {
    const struct tl_shape *const s = &r->b->shape;
    const uint32_t rows = r->kv->cap * s->n_kv_heads;
    tl_view *const views[2] = {&r->stage.rows.k, &r->stage.rows.v};
    for (int i = 0; i < 2; i++) {
        must(tl_buf_alloc(&r->stage_bufs[i], r->b->dev, rows * tl_row_bytes(TL_F16, s->head_dim),
                          TL_MEM_DEVICE),
             "a stage");
        *views[i] = tl_view_of(r->stage_bufs[i], 0, rows, s->head_dim, TL_F16);
        fill(r->b, *views[i], 1.0f);
    }
    r->stage.rows.n_kv_heads = s->n_kv_heads;
}

/* Rows up to n of every layer, as if a prompt had left them. */
static void deepen(struct run *r, uint32_t n) {
    for (uint32_t il = 0; il < r->kv->n_layers; il++) {
        const struct tl_kv_layer *const layer = &r->kv->layers[il];
        const bool staged = layer->home.k.buf == NULL;
        must(tl_kv_absorb(r->kv, il, n, staged ? &r->stage : NULL, r->b->streams[0]), "absorb");
        must(tl_stream_sync(r->b->streams[0]), "absorb");
    }
    r->kv->n_rows = n;
}

static bool fits(const struct run *r, const struct tl_policy *policies, uint32_t cap) {
    struct tl_kv_bytes b;
    uint64_t device = 0, host = 0, stage = 0;
    for (uint32_t il = 0; il < r->b->shape.n_layers; il++) {
        b = tl_kv_layer_bytes(&r->b->shape, il, &policies[il], cap);
        device += tl_kv_device_bytes(&b);
        host += tl_kv_host_bytes(&b);
        stage = policies[il].home == TL_HOME_NONE
                    ? 4ull * cap * r->b->shape.n_kv_heads * r->b->shape.head_dim
                    : stage;
    }
    struct tl_dev_caps caps;
    tl_dev_get_caps(r->b->dev, &caps);
    const uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t margin = tl_min_u64(1ull << 30, caps.bytes_free / 16);
    const bool fit = device + stage + margin <= caps.bytes_free && host <= ram / 10 * 8;
    printf("%s %-8s context %u: device %.2f GiB of %.2f free, host %.2f GiB\n",
           fit ? "cache" : "skip ", r->kv_name, cap, (double)(device + stage) / 0x1p30,
           (double)caps.bytes_free / 0x1p30, (double)host / 0x1p30);
    fflush(stdout);
    return fit;
}

static bool open_run(struct run *r, uint32_t cap) {
    struct bench *const b = r->b;
    static struct tl_policy policies[LAYERS_MAX];
    const struct tl_preset *const preset = tl_preset_find(r->kv_name);
    must(preset != NULL ? TL_OK : TL_ERR_UNSUPPORTED, r->kv_name);
    for (uint32_t il = 0; il < b->shape.n_layers; il++) {
        policies[il] = tl_kv_policy_at(&b->shape, il, &preset->policy, cap);
    }
    if (!fits(r, policies, cap)) {
        return false;
    }
    must(tl_kv_open(&r->kv, &b->shape, policies, NULL, b->dev, cap), "tl_kv_open");
    const struct tl_plan_params plan = {.n_ctx = cap, .n_chunk = 1, .policies = policies};
    const struct tl_scratch_needs needs = tl_plan_scratch(&b->shape, &plan);
    must(tl_scratch_open(&r->scratch, &b->shape, b->dev, &needs), "tl_scratch_open");
    bool staged = false;
    for (uint32_t il = 0; il < b->shape.n_layers; il++) {
        fill(b, r->kv->layers[il].home.k, 1.0f);
        fill(b, r->kv->layers[il].home.v, 1.0f);
        staged |= r->kv->layers[il].home.k.buf == NULL;
    }
    if (staged) {
        open_stage(r);
    }
    const struct tl_pass pass = {
        .model = b->model, .kv = r->kv, .scratch = &r->scratch, .record = &r->step};
    must(tl_decode_record_step(&pass), "recording");
    tl_schedule_arrange(&r->step);
    must(tl_replay_open(&r->replay, &r->step, b->streams), "replay");
    return true;
}

static void close_run(struct run *r) {
    tl_replay_close(&r->replay);
    tl_schedule_free(&r->step);
    tl_scratch_close(&r->scratch);
    tl_kv_close(&r->kv);
    tl_buf_free(&r->stage_bufs[0]);
    tl_buf_free(&r->stage_bufs[1]);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_counts(const struct run *r, uint64_t *hit, uint64_t *fetched) {
    const int32_t *const counts = tl_view_host(r->scratch.counts);
    for (uint32_t il = 0; il < r->kv->n_layers; il++) {
        *hit += (uint64_t)counts[2 * il];
        *fetched += (uint64_t)counts[2 * il + 1];
    }
}

static void run_steps(struct run *r, uint32_t n_steps) {
    static double ms[STEPS_MAX];
    struct bench *const b = r->b;
    uint64_t hit = 0, fetched = 0;
    const uint32_t depth = r->kv->n_rows, n_warm = n_steps / 4 + 1;
    for (uint32_t i = 0; i < n_warm + n_steps; i++) {
        must(tl_kv_begin_step(r->kv, b->streams[0]), "begin_step");
        must(tl_stream_sync(b->streams[0]), "begin_step");
        *(uint32_t *)tl_view_host(r->scratch.ids) = random_bits(b) % b->shape.n_vocab;
        memset(tl_view_host(r->scratch.counts), 0, tl_view_bytes(r->scratch.counts));
        memset(tl_view_host(r->scratch.channel_counts), 0,
               tl_view_bytes(r->scratch.channel_counts));
        const uint64_t begin = tl_now_ns();
        must(tl_replay_run(r->replay), "a step");
        must(tl_stream_sync(b->streams[0]), "a step");
        r->kv->n_rows++;
        if (i >= n_warm) {
            ms[i - n_warm] = (double)(tl_now_ns() - begin) * 1e-6;
            add_counts(r, &hit, &fetched);
        }
    }
    qsort(ms, n_steps, sizeof *ms, by_value);
    const double p50 = ms[n_steps / 2], p95 = ms[(uint64_t)n_steps * 95 / 100];
    const double weights = (double)b->model->weight_bytes / b->copy_rate * 1e3;
    struct tl_usage now, peak;
    tl_dev_usage(b->dev, &now, &peak);
    printf("step %-8s depth %u: p50 %.3f ms, p95 %.3f, least %.3f; weights once %.3f ms, ratio "
           "%.2f; device %.2f GiB, host %.2f GiB; rows fetched a step %.0f, hits %.1f %%; %s\n",
           r->kv_name, depth, p50, p95, ms[0], weights, p50 / weights, (double)now.device / 0x1p30,
           (double)now.host / 0x1p30, (double)fetched / n_steps,
           100.0 * (double)hit / fmax(1.0, (double)(hit + fetched)),
           tl_replay_is_graph(r->replay) ? "one graph" : "op by op");
    fflush(stdout);
}

/* ---- ops ---- */

struct sort {
    char name[72];
    tl_schedule ops;
    uint64_t device_bytes, link_bytes;
};

static struct sort *sort_of(struct sort *sorts, uint32_t *n, const struct tl_op *op,
                            const struct tl_op_cost *cost) {
    char name[72];
    int length = snprintf(name, sizeof name, "%s", tl_verb_name(op->verb));
    if (op->verb == TL_VERB_MATMUL) {
        snprintf(name + length, sizeof name - (size_t)length, " %s %u x %u",
                 tl_dtype_info(op->u.matmul.w.dtype)->name, op->u.matmul.w.rows,
                 op->u.matmul.w.cols);
    } else {
        snprintf(name + length, sizeof name - (size_t)length, " (%s)", tl_part_names[cost->part]);
    }
    for (uint32_t i = 0; i < *n; i++) {
        if (strcmp(sorts[i].name, name) == 0) {
            return &sorts[i];
        }
    }
    must(*n < CLASSES_MAX ? TL_OK : TL_ERR_UNSUPPORTED, "sorts of ops");
    memcpy(sorts[*n].name, name, sizeof name);
    return &sorts[(*n)++];
}

/* All ops of a sort behind each other, recorded where the device can: other layers' weights and
 * rows come in between, so that no cache keeps them where the model is larger than it. */
static void time_sort(const struct run *r, struct sort *sort) {
    struct bench *const b = r->b;
    tl_replay *replay = NULL;
    double best = 1e30;
    must(tl_replay_open(&replay, &sort->ops, b->streams), "replay");
    for (uint32_t i = 0; i < OP_ROUNDS; i++) {
        const uint64_t begin = tl_now_ns();
        must(tl_replay_run(replay), sort->name);
        must(tl_stream_sync(b->streams[0]), sort->name);
        best = fmin(best, (double)(tl_now_ns() - begin));
    }
    tl_replay_close(&replay);
    const double n = sort->ops.n, us = best * 1e-3 / n;
    const bool far = sort->link_bytes * 20 > sort->device_bytes && sort->link_bytes / n > 512;
    const double bytes = (double)(far ? sort->link_bytes : sort->device_bytes) / n;
    const double rate = bytes / (us * 1e-6);
    printf("op   %-40s %4.0f a step, %9.1f us, %10.0f bytes%s, %8.1f GB/s, %5.1f %%\n", sort->name,
           n, us, bytes, far ? " over the link" : "", rate * 1e-9,
           100.0 * rate / (far ? b->link_rate : b->copy_rate));
    fflush(stdout);
}

static void time_ops(struct run *r) {
    static const struct tl_card any = {.name = "any", .link_bytes_per_s = 1};
    const struct tl_timeline_params params = {
        .card = r->b->caps.unified ? &(struct tl_card){.name = "any"} : &any, .miss = 0.1};
    static struct sort sorts[CLASSES_MAX];
    struct tl_cost_state state = {0};
    uint32_t n = 0;
    memset(sorts, 0, sizeof sorts);
    must(tl_kv_begin_step(r->kv, r->b->streams[0]), "begin_step");
    for (uint32_t i = 0; i < r->step.n; i++) {
        struct tl_op_cost cost = {0};
        tl_op_get_cost(&r->step.ops[i], &params, &state, &cost);
        struct sort *const sort = sort_of(sorts, &n, &r->step.ops[i], &cost);
        sort->device_bytes += cost.device_bytes;
        sort->link_bytes += cost.link_bytes;
        must(tl_schedule_add(&sort->ops, &r->step.ops[i]), "a schedule");
    }
    for (uint32_t i = 0; i < n; i++) {
        time_sort(r, &sorts[i]);
        tl_schedule_free(&sorts[i].ops);
    }
}

/* ---- the command ---- */

static uint32_t numbers_in(const char *text, uint32_t *out, uint32_t most) {
    uint32_t n = 0;
    for (char *end; n < most && *text != 0; text = *end == ',' ? end + 1 : end) {
        out[n++] = (uint32_t)strtoul(text, &end, 10);
        if (end == text || (*end != ',' && *end != 0)) {
            must(TL_ERR_FORMAT, "a list of numbers");
        }
    }
    return n;
}

static tl_dtype dtype_named(const char *name) {
    for (int dtype = 0; dtype < TL_I32; dtype++) {
        if (strcmp(tl_dtype_info((tl_dtype)dtype)->name, name) == 0) {
            return (tl_dtype)dtype;
        }
    }
    must(TL_ERR_UNSUPPORTED, name);
    return TL_F16;
}

static void open_bench(struct bench *b, char **args, const char *n_layers, const char *n_vocab) {
    const struct tl_named_shape *const named = tl_named_shape_find(args[1]);
    const tl_backend *const backend = tl_backend_find(args[3]);
    must(named != NULL && backend != NULL ? TL_OK : TL_ERR_UNSUPPORTED, "shape or backend");
    const struct tl_dev_params params = {.log = {.fn = print_log}};
    must(tl_dev_open(&b->dev, backend, &params), "no such device");
    tl_dev_get_caps(b->dev, &b->caps);
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        must(tl_stream_open(&b->streams[i], b->dev), "a stream");
    }
    const uint64_t room = tl_min_u64(1ull << 30, b->caps.bytes_free / 64 + (8u << 20));
    const uint64_t bytes = room >> 20 << 20;
    b->copy_rate = 2.0 * copy_rate(b, bytes, TL_MEM_DEVICE, TL_MEM_DEVICE);
    b->link_rate = copy_rate(b, tl_min_u64(bytes, 256u << 20), TL_MEM_HOST, TL_MEM_DEVICE);
    printf("rate %s, %s: device %.1f GB/s, link %.1f GB/s\n", b->caps.name, b->caps.kernels,
           b->copy_rate * 1e-9, b->link_rate * 1e-9);
    fflush(stdout);
    tl_named_shape_get(named, &b->shape);
    if (n_layers != NULL) {
        b->shape.n_layers = (uint32_t)tl_min_u64(strtoul(n_layers, NULL, 10), b->shape.n_layers);
    }
    if (n_vocab != NULL) {
        b->shape.n_vocab = (uint32_t)tl_max_u64(strtoul(n_vocab, NULL, 10), 1);
    }
    const struct tl_blank blank = tl_named_shape_blank(named, dtype_named(args[2]));
    must(tl_model_open_blank(&b->model, &b->shape, &blank, b->dev), "the weights");
    fill_model(b);
    printf("model %s %s, %u layers, %.2f GiB\n", named->name, args[2], b->shape.n_layers,
           (double)b->model->weight_bytes / 0x1p30);
    fflush(stdout);
}

static void bench_cache(struct bench *b, const char *kv_name, const uint32_t *depths, uint32_t n,
                        uint32_t n_steps) {
    for (uint32_t i = 0; i < n; i++) { /* a cache for each depth: policies depend on its size */
        struct run r = {.b = b, .kv_name = kv_name};
        const uint32_t room = 2 * n_steps + 16;
        if (open_run(&r, (uint32_t)tl_align_up(depths[i] + room, TL_BLOCK))) {
            deepen(&r, depths[i]);
            run_steps(&r, n_steps);
            time_ops(&r);
        }
        close_run(&r);
    }
}

int main(int argc, char **argv) {
    if (argc < 7 || argc > 9) {
        fprintf(stderr,
                "card SHAPE WEIGHTS BACKEND KV[,KV] DEPTH[,DEPTH] STEPS [LAYERS [VOCABULARY]]\n");
        return 2;
    }
    static struct bench b = {.rng = 1};
    uint32_t depths[16], n_steps = (uint32_t)strtoul(argv[6], NULL, 10);
    const uint32_t n_depths = numbers_in(argv[5], depths, 16);
    n_steps = n_steps > STEPS_MAX ? STEPS_MAX : n_steps > 0 ? n_steps : 1;
    open_bench(&b, argv, argc > 7 ? argv[7] : NULL, argc > 8 ? argv[8] : NULL);
    char *save = NULL;
    for (const char *kv = strtok_r(argv[4], ",", &save); kv != NULL;
         kv = strtok_r(NULL, ",", &save)) {
        bench_cache(&b, kv, depths, n_depths, n_steps);
    }
    tl_buf_free(&b.tile);
    tl_model_close(&b.model);
    for (int i = 0; i < TL_LANE_COUNT; i++) {
        tl_stream_close(&b.streams[i]);
    }
    tl_dev_close(&b.dev);
    return 0;
}
