/* What is peculiar to the Vulkan backend; its ops are parity.c's business, its numbers through
 * whole models test_golden.c's. Barriers against a naive model; memory; whole steps recorded or
 * not, on one queue or two, in windows, with staging, under the validation layer, all beside the
 * CPU; every call that can fail, failing; the cache file, damaged. Skipped where no Vulkan device
 * is. */
#include "backends/vulkan/hazard.h"
#include "core/engine.h"
#include "core/policy.h"
#include "support.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

static const tl_backend *vulkan(void) {
    const tl_backend *const backend = tl_backend_find("vulkan");
    assert_non_null(backend);
    return backend;
}

static tl_err open_device(tl_dev **dev, const char *debug, const char *cache_dir,
                          struct kept_log *kept) {
    return tl_dev_open(
        dev, vulkan(),
        &(struct tl_dev_params){.debug = debug, .cache_dir = cache_dir, .log = keep_log(kept)});
}

/* ---- barriers ---- */

enum { NAIVE_MAX = 4096 };
struct naive {
    struct vk_access all[NAIVE_MAX];
    uint32_t n;
};

static bool clash(const struct vk_access *a, const struct vk_access *b) {
    if (a->buffer != b->buffer || (!a->writes && !b->writes)) {
        return false;
    }
    for (uint64_t byte = a->begin; byte < a->end; byte++) {
        if (byte >= b->begin && byte < b->end) {
            return true;
        }
    }
    return false;
}

/* Goal: a barrier stands wherever an op touches what was written, or writes what was touched, and
 * nowhere else while there is room to remember. Method: random ops against a list that forgets
 * nothing but at barriers, compared byte by byte. */
static void test_hazards(void **state) {
    (void)state;
    struct tl_rng rng = {42};
    static struct naive naive;
    struct vk_hazards h = {0};
    naive.n = 0;
    uint32_t n_barriers = 0, n_forgotten = 0;
    for (uint32_t round = 0; round < 20000; round++) {
        struct vk_access ops[6];
        const uint32_t n = 1 + (uint32_t)rng_below(&rng, 6);
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t begin = rng_below(&rng, 200);
            ops[i] = (struct vk_access){rng_below(&rng, 3), begin, begin + 1 + rng_below(&rng, 8),
                                        rng_below(&rng, 12) == 0};
        }
        bool needed = false;
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = 0; j < naive.n; j++) {
                needed = needed || clash(&ops[i], &naive.all[j]);
            }
        }
        const bool full = naive.n + n > VK_ACCESSES_MAX;
        const bool barrier = vk_hazard_note(&h, ops, n);
        assert_true(barrier == (needed || full));
        n_barriers += barrier;
        n_forgotten += full && !needed;
        naive.n = barrier ? 0 : naive.n;
        memcpy(naive.all + naive.n, ops, n * sizeof *ops);
        naive.n += n;
    }
    assert_true(n_barriers > 100 && n_barriers < 20000 && n_forgotten > 0);
}

/* ---- devices ---- */

static void test_devices(void **state) {
    (void)state;
    struct kept_log kept;
    tl_dev *dev = NULL;
    assert_true(vulkan()->dev_count_auto() <= vulkan()->dev_count());
    assert_int_equal(
        tl_dev_open(&dev, vulkan(), &(struct tl_dev_params){.index = 77, .log = keep_log(&kept)}),
        TL_ERR_UNSUPPORTED);
    assert_non_null(strstr(kept.sentence, "no device 77"));
    assert_int_equal(open_device(&dev, "validate,sing", NULL, &kept), TL_ERR_UNSUPPORTED);
    assert_non_null(strstr(kept.sentence, "no such test option"));
    assert_int_equal(open_device(&dev, NULL, NULL, &kept), TL_OK);
    struct tl_dev_caps caps;
    tl_dev_get_caps(dev, &caps);
    assert_true(caps.name[0] != '\0' && caps.bytes_total > 0 && caps.bytes_free > 0);
    assert_true(caps.n_features >= 8);
    for (uint32_t i = 0; i < caps.n_features; i++) {
        assert_true(strlen(caps.features[i].name) > 3 && strlen(caps.features[i].cost) > 3);
    }
    tl_dev_close(&dev);
}

/* Goal: without a driver there is no device, "auto" takes the CPU and says so, and who names the
 * backend is told. Method: a loader that is told to look where nothing is. */
static void test_no_driver(void **state) {
    (void)state;
    setenv("VK_DRIVER_FILES", "/nowhere", 1);
    setenv("VK_ICD_FILENAMES", "/nowhere", 1);
    struct kept_log kept;
    tl_engine *e = NULL;
    assert_int_equal(vulkan()->dev_count(), 0);
    const struct tl_engine_params named = {
        .model_path = GOLDEN "llama-bias.gguf", .backend = "vulkan", .log = keep_log(&kept)};
    assert_int_equal(tl_engine_open(&e, &named), TL_ERR_UNSUPPORTED);
    assert_non_null(strstr(kept.sentence, "backend vulkan has no device 0"));
    const struct tl_engine_params automatic = {.model_path = GOLDEN "llama-bias.gguf",
                                               .log = keep_log(&kept)};
    assert_int_equal(tl_engine_open(&e, &automatic), TL_OK);
    assert_string_equal(tl_engine_backend(e), "cpu");
    assert_non_null(strstr(kept.sentence, "vulkan: no hardware device"));
    tl_engine_close(&e);
    unsetenv("VK_DRIVER_FILES");
    unsetenv("VK_ICD_FILENAMES");
}

/* Goal: GPU-assisted validation is there and sees what it is for. Method: a channel that no head
 * has, which core never asks for: its kernel reads behind the queries, and behind the buffer they
 * are in. */
static void test_gpuav(void **state) {
    (void)state;
    struct kept_log kept;
    tl_dev *dev = NULL;
    tl_stream *s = NULL;
    tl_buf *buf = NULL;
    assert_int_equal(open_device(&dev, "gpuav", NULL, &kept), TL_OK);
    assert_int_equal(tl_stream_open(&s, dev), TL_OK);
    assert_int_equal(tl_buf_alloc(&buf, dev, 8192, TL_MEM_HOST), TL_OK);
    int32_t *const held = buf->host, *const n_blocks = held + 64;
    const struct tl_channel_score op = {.score = tl_view_of(buf, 1024, 1, 64, TL_F32),
                                        .q = tl_view_of(buf, 2048, 1, 32, TL_F32),
                                        .part = tl_view_of(buf, 4096, 1, 64, TL_F16),
                                        .held = tl_view_of(buf, 0, 1, 1, TL_I32),
                                        .n_blocks = tl_view_of(buf, 256, 1, 1, TL_I32),
                                        .n_heads = 1,
                                        .head_dim = 32};
    *n_blocks = 1;
    held[0] = 7;
    assert_int_equal(tl_channel_score(s, &op), TL_OK);
    assert_int_equal(tl_stream_sync(s), TL_OK);
    held[0] = 1 << 20;
    assert_int_equal(tl_channel_score(s, &op), TL_OK);
    const tl_err err = tl_stream_sync(s);
    assert_int_equal(err, TL_ERR_DEVICE);
    assert_non_null(strstr(kept.sentence, "out of bounds"));
    tl_buf_free(&buf);
    tl_stream_close(&s);
    tl_dev_close(&dev);
}

/* ---- memory ---- */

static void copy_bytes(tl_stream *s, tl_buf *dst, tl_buf *src, uint32_t bytes) {
    assert_int_equal(
        tl_copy(s, tl_view_of(dst, 0, 1, bytes, TL_U8), tl_view_of(src, 0, 1, bytes, TL_U8)),
        TL_OK);
    assert_int_equal(tl_stream_sync(s), TL_OK);
}

/* Goal: buffers are zero, again when their room was used before, in any memory; they overlap
 * nothing. Method: random allocations are filled with their number, freed and made again. */
static void memory_of(const char *debug) {
    enum { N = 24, BYTES_MAX = 300000 };
    struct kept_log kept;
    tl_dev *dev = NULL;
    tl_stream *s = NULL;
    tl_buf *bufs[N] = {NULL}, *stage = NULL;
    struct tl_rng rng = {7};
    assert_int_equal(open_device(&dev, debug, NULL, &kept), TL_OK);
    assert_int_equal(tl_stream_open(&s, dev), TL_OK);
    assert_int_equal(tl_buf_alloc(&stage, dev, BYTES_MAX, TL_MEM_HOST), TL_OK);
    for (uint32_t round = 0; round < 120; round++) {
        const uint32_t i = (uint32_t)rng_below(&rng, N);
        if (bufs[i] != NULL) { /* still its own bytes? */
            copy_bytes(s, stage, bufs[i], (uint32_t)bufs[i]->bytes);
            for (uint64_t at = 0; at < bufs[i]->bytes; at++) {
                assert_int_equal(((uint8_t *)stage->host)[at], i + 1);
            }
            tl_buf_free(&bufs[i]);
            continue;
        }
        const uint32_t bytes = 1 + (uint32_t)rng_below(&rng, BYTES_MAX);
        const tl_mem mem = rng_below(&rng, 2) == 0 ? TL_MEM_DEVICE : TL_MEM_HOST;
        assert_int_equal(tl_buf_alloc(&bufs[i], dev, bytes, mem), TL_OK);
        copy_bytes(s, stage, bufs[i], bytes);
        for (uint32_t at = 0; at < bytes; at++) {
            assert_int_equal(((uint8_t *)stage->host)[at], 0);
        }
        memset(stage->host, (int)i + 1, bytes);
        copy_bytes(s, bufs[i], stage, bytes);
    }
    for (uint32_t i = 0; i < N; i++) {
        tl_buf_free(&bufs[i]);
    }
    assert_int_equal(tl_buf_alloc(&bufs[0], dev, UINT64_MAX / 4, TL_MEM_DEVICE), TL_ERR_MEMORY);
    assert_int_equal(tl_buf_alloc(&bufs[0], dev, 1ull << 45, TL_MEM_DEVICE), TL_ERR_MEMORY);
    assert_non_null(strstr(kept.sentence, "vulkan"));
    tl_buf_free(&stage);
    tl_stream_close(&s);
    tl_dev_close(&dev);
    assert_int_equal(kept.n_errors, 2);
}

static void test_memory(void **state) {
    (void)state;
    memory_of("validate");
    memory_of("validate,stage");
}

/* ---- whole steps ---- */

enum { N_IDS = 250, N_FEED = 230, N_VOCAB_MAX = 1 << 12 };

static tl_engine *open_engine(const char *model, const char *backend, const char *debug,
                              struct kept_log *kept) {
    tl_engine *e = NULL;
    const struct tl_engine_params params = {.model_path = model,
                                            .backend = backend,
                                            .n_threads = 2,
                                            .isa_max = "plain",
                                            .debug = debug,
                                            .log = keep_log(kept)};
    if (tl_engine_open(&e, &params)) {
        fail_msg("%s: %s", backend, kept->sentence);
    }
    return e;
}

/* Logits behind each of the last ids, row by row: the first after a feed, the others after steps.
 */
static void logits_of(tl_engine *e, const struct tl_policy *policy, const uint32_t *ids,
                      float *rows) {
    const struct tl_shape *const shape = &tl_engine_model(e)->shape;
    struct tl_policy policies[64];
    assert_true(shape->n_layers <= 64 && shape->n_vocab <= N_VOCAB_MAX);
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        policies[il] = *policy;
    }
    tl_session *s = NULL;
    const struct tl_session_params params = {.n_ctx = N_IDS, .n_chunk = 96, .policies = policies};
    assert_int_equal(tl_session_open(&s, e, &params), TL_OK);
    assert_int_equal(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = N_FEED}), TL_OK);
    for (uint32_t i = N_FEED; i < N_IDS; i++) {
        memcpy(rows + (uint64_t)(i - N_FEED) * shape->n_vocab, tl_session_logits(s),
               shape->n_vocab * sizeof *rows);
        assert_int_equal(tl_session_step(s, ids[i]), TL_OK);
    }
    tl_session_close(&s);
}

/* Root mean square of the difference over the deviation of the reference, worst row. */
static double difference(const float *want, const float *got, uint32_t n_rows, uint32_t n_vocab) {
    double worst = 0.0;
    for (uint32_t i = 0; i < n_rows; i++, want += n_vocab, got += n_vocab) {
        double mean = 0.0, variance = 0.0, squares = 0.0;
        for (uint32_t t = 0; t < n_vocab; t++) {
            mean += (double)want[t] / n_vocab;
        }
        for (uint32_t t = 0; t < n_vocab; t++) {
            const double off = (double)want[t] - (double)got[t];
            variance += ((double)want[t] - mean) * ((double)want[t] - mean);
            squares += off * off;
        }
        const double row = sqrt(squares / fmax(variance, 1e-30));
        worst = row <= worst ? worst : row; /* a NaN stays */
    }
    return worst;
}

static void policy_of(const char *preset, struct tl_policy *out) {
    const struct tl_preset *const p = tl_preset_find(preset);
    assert_non_null(p);
    *out = p->policy;
    if (out->select == TL_SELECT_TOPK) { /* smaller than the context */
        out->topk = 48;
        out->hot = out->hot > 0 ? 128 : 0;
    }
    if (out->select != TL_SELECT_ALL) {
        out->sink = 4;
        out->recent = 40;
    }
}

/* Codebooks as the sketch and index of a preset that selects rows, and beside codes by scales. */
static const struct {
    const char *preset;
    tl_codec k, v;
} codebooks[] = {{"tailor", TL_CODEC_VQ_D4B8, TL_CODEC_VQ_D8B8},
                 {"tailor", TL_CODEC_VQ_D8B12, TL_CODEC_INT2},
                 {"tailor", TL_CODEC_INT2, TL_CODEC_VQ_D2B4},
                 {"vecinfer2", TL_CODEC_VQ_D4B10, TL_CODEC_INT2},
                 {"vecinfer1", TL_CODEC_INT4, TL_CODEC_VQ_D8B10}};

/* Goal: every preset gives the CPU's logits. The plain CPU is the reference; what selection of rows
 * by score adds is a row more or less where two scores are within rounding, hence the wider limit.
 */
static void compare_presets(const char *model, const char *debug) {
    static float want[(N_IDS - N_FEED) * N_VOCAB_MAX], got[(N_IDS - N_FEED) * N_VOCAB_MAX];
    struct kept_log kept_cpu, kept;
    tl_engine *const cpu = open_engine(model, "cpu", NULL, &kept_cpu);
    tl_engine *const gpu = open_engine(model, "vulkan", debug, &kept);
    const uint32_t n_vocab = tl_engine_model(cpu)->shape.n_vocab;
    uint32_t ids[N_IDS];
    struct tl_rng rng = {3};
    for (uint32_t i = 0; i < N_IDS; i++) {
        ids[i] = (uint32_t)rng_below(&rng, n_vocab);
    }
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        struct tl_policy policy;
        policy_of(p->name, &policy);
        logits_of(cpu, &policy, ids, want);
        logits_of(gpu, &policy, ids, got);
        const double off = difference(want, got, N_IDS - N_FEED, n_vocab);
        print_message("%s %s: %.1e\n", strrchr(model, '/') + 1, p->name, off);
        assert_true(off <= (policy.select == TL_SELECT_TOPK ? 0.03 : 1e-4));
    }
    for (size_t i = 0; i < sizeof codebooks / sizeof codebooks[0]; i++) {
        /* Of one KV head the table of a book of 1024 entries is 64 KiB, more than such a binding.
         */
        const bool large = tl_vq_is(codebooks[i].k) && tl_vq_entries(codebooks[i].k) > 256;
        if (large && strstr(debug, "binding=") != NULL) {
            continue;
        }
        struct tl_policy policy;
        policy_of(codebooks[i].preset, &policy);
        policy.k_codec = codebooks[i].k;
        policy.v_codec = codebooks[i].v;
        logits_of(cpu, &policy, ids, want);
        logits_of(gpu, &policy, ids, got);
        const double off = difference(want, got, N_IDS - N_FEED, n_vocab);
        print_message("%s %s with %s, %s: %.1e\n", strrchr(model, '/') + 1, codebooks[i].preset,
                      tl_codec_names[policy.k_codec], tl_codec_names[policy.v_codec], off);
        assert_true(off <= (policy.select == TL_SELECT_TOPK ? 0.03 : 1e-4));
    }
    tl_engine *engines[] = {cpu, gpu};
    tl_engine_close(&engines[0]);
    tl_engine_close(&engines[1]);
    assert_int_equal(kept.n_errors, 0); /* those of the layer at closing too */
    /* "times": the device's last words. */
    assert_true((strstr(debug, "times") != NULL) ==
                (strstr(kept.sentence, " dispatches ") != NULL));
}

static void test_presets(void **state) {
    (void)state;
    compare_presets(GOLDEN "qwen2-14-2.gguf", "validate,times");
}

static void test_queues(void **state) {
    (void)state;
    compare_presets(GOLDEN "smollm-9-3.gguf", "validate,two-queues,pools");
}

static void test_staging(void **state) {
    (void)state;
    compare_presets(GOLDEN "smollm-9-3.gguf", "validate,stage,range=20000");
}

/* Goal: a driver with small limits gives the same results: bindings of 64 KiB and less than an
 * allocation of a tier, offsets of 256 bytes, memory in pieces of 2 MiB. */
static void test_limits(void **state) {
    (void)state;
    compare_presets(GOLDEN "qwen2-14-2.gguf", "validate,binding=65536,align=256,alloc=2097152");
    compare_presets(GOLDEN "smollm-9-3.gguf", "validate,stage,binding=40000,alloc=2097152");
}

/* ---- failures ---- */

struct parts {
    tl_dev *dev;
    tl_stream *streams[2];
    tl_event *event;
    tl_graph *graph;
    tl_buf *bufs[3], *wrapped;
};

enum { DIM = 64 };

static tl_err enqueue(struct parts *p) {
    const tl_view x = tl_view_of(p->bufs[0], 0, 1, DIM, TL_F32);
    const tl_view y = tl_view_of(p->bufs[1], 0, 1, DIM, TL_F32);
    const tl_view w = tl_view_of(p->wrapped, 0, DIM, DIM, TL_F32);
    TL_TRY(tl_matmul(p->streams[0], &(struct tl_matmul){.y = y, .x = x, .w = w}));
    TL_TRY(tl_event_record(p->streams[0], p->event));
    TL_TRY(tl_event_wait(p->streams[1], p->event));
    return tl_copy(p->streams[1], tl_view_of(p->bufs[2], 0, 1, DIM, TL_F32), y);
}

/* What a session does, in small: open, allocate, wrap, run, record, run again. */
static tl_err work(struct parts *p, const char *debug, const float *numbers,
                   struct kept_log *kept) {
    TL_TRY(open_device(&p->dev, debug, NULL, kept));
    for (uint32_t i = 0; i < 2; i++) {
        TL_TRY(tl_stream_open(&p->streams[i], p->dev));
    }
    TL_TRY(tl_event_open(&p->event, p->dev));
    for (uint32_t i = 0; i < 3; i++) {
        const tl_mem mem = i == 1 ? TL_MEM_DEVICE : TL_MEM_HOST;
        TL_TRY(tl_buf_alloc(&p->bufs[i], p->dev, DIM * sizeof(float), mem));
    }
    TL_TRY(tl_buf_wrap(&p->wrapped, p->dev, numbers, DIM * DIM * sizeof *numbers));
    memcpy(p->bufs[0]->host, numbers, DIM * sizeof *numbers);
    TL_TRY(enqueue(p));
    TL_TRY(tl_stream_sync(p->streams[0]));
    TL_TRY(tl_stream_sync(p->streams[1]));
    TL_TRY(tl_capture_begin(p->streams, 2));
    const tl_err err = enqueue(p);
    const tl_err ended = tl_capture_end(&p->graph, p->streams, 2);
    TL_TRY(err ? err : ended);
    TL_TRY(tl_graph_run(p->graph, p->streams[0]));
    TL_TRY(tl_graph_run(p->graph, p->streams[0]));
    return tl_stream_sync(p->streams[0]);
}

static void close_parts(struct parts *p) {
    for (uint32_t i = 0; i < 2; i++) {
        if (p->streams[i] != NULL && tl_stream_sync(p->streams[i])) {
            /* a device that failed runs nothing any more */
        }
    }
    tl_graph_close(&p->graph);
    tl_event_close(&p->event);
    for (uint32_t i = 0; i < 3; i++) {
        tl_buf_free(&p->bufs[i]);
    }
    tl_buf_free(&p->wrapped);
    tl_stream_close(&p->streams[0]);
    tl_stream_close(&p->streams[1]);
    tl_dev_close(&p->dev);
}

/* Goal: whatever call fails, there is an error with a sentence, no crash, and nothing is left for
 * the validation layer to complain about. Method: the n-th call fails, for every n until none is
 * left. */
static void fail_each(const char *debug) {
    static float numbers[DIM * DIM];
    for (uint32_t i = 0; i < DIM * DIM; i++) {
        numbers[i] = (float)(i % 7) - 3.0f;
    }
    /* Some failures are survived (memory that cannot be imported is copied): the end is reached
     * when many in a row make no difference. */
    uint32_t n = 0, n_failed = 0;
    for (uint32_t n_right = 0; n_right < 12 && n < 400;) {
        char words[128];
        struct kept_log kept;
        struct parts p = {0};
        snprintf(words, sizeof words, "%s,fail=%u", debug, ++n);
        const tl_err err = work(&p, words, numbers, &kept);
        n_right = err == TL_OK ? n_right + 1 : 0;
        assert_true(err == TL_OK || err == TL_ERR_MEMORY || err == TL_ERR_DEVICE);
        assert_true((kept.n_errors > 0) == (err != TL_OK) || err == TL_OK);
        n_failed += err != TL_OK;
        close_parts(&p);
        if (strstr(kept.sentence, "validation") != NULL) {
            fail_msg("call %u failed, and then: %s", n, kept.sentence);
        }
    }
    print_message("%u calls failed in turn\n", n_failed);
    assert_true(n_failed > 15 && n < 400);
}

static void test_failures(void **state) {
    (void)state;
    fail_each("validate");
}

static void test_failures_elsewhere(void **state) {
    (void)state;
    fail_each("validate,stage,pools,two-queues");
}

/* ---- the cache file ---- */

static bool find_cache(const char *folder, char *path, size_t cap) {
    DIR *const dir = opendir(folder);
    bool found = false;
    for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (strstr(d->d_name, ".cache") != NULL) {
            found = true;
            snprintf(path, cap, "%s/%s", folder, d->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

static void run_with_cache(const char *folder) {
    struct kept_log kept;
    tl_dev *dev = NULL;
    tl_stream *s = NULL;
    tl_buf *buf = NULL;
    assert_int_equal(open_device(&dev, "validate", folder, &kept), TL_OK);
    assert_int_equal(tl_stream_open(&s, dev), TL_OK);
    assert_int_equal(tl_buf_alloc(&buf, dev, 4096, TL_MEM_DEVICE), TL_OK);
    const tl_view x = tl_view_of(buf, 0, 1, 64, TL_F32), y = tl_view_of(buf, 1024, 1, 64, TL_F32);
    const struct tl_glu op = {y, x, x, TL_ACT_SILU};
    assert_int_equal(tl_glu(s, &op), TL_OK);
    assert_int_equal(tl_stream_sync(s), TL_OK);
    tl_buf_free(&buf);
    tl_stream_close(&s);
    tl_dev_close(&dev);
    assert_int_equal(kept.n_errors, 0);
}

static void write_file(const char *path, const char *data, size_t n) {
    FILE *const f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* Goal: kernels are kept between runs; a damaged file is ignored and replaced. Method: every byte
 * of the header flipped, the file cut, emptied, lengthened; each time the device works and leaves
 * the file it would have written. */
static void test_cache_file(void **state) {
    (void)state;
    char folder[] = "/tmp/tailor-vulkan-XXXXXX", inner[64], path[512];
    assert_non_null(mkdtemp(folder));
    snprintf(inner, sizeof inner, "%s/new", folder); /* made when it is missing */
    run_with_cache(inner);
    assert_true(find_cache(inner, path, sizeof path));
    tl_bytes whole = read_file(path);
    assert_true(whole.len > 48);
    for (size_t i = 0; i < 56; i++) {
        char *const damaged = malloc(whole.len + 9);
        assert_non_null(damaged);
        memcpy(damaged, whole.data, whole.len);
        memset(damaged + whole.len, 1, 9);
        size_t n = whole.len;
        if (i < 50) {
            damaged[i % whole.len] ^= 0x20;
        } else {
            n = i == 50   ? 0
                : i == 51 ? 7
                : i == 52 ? 47
                : i == 53 ? n - 1
                : i == 54 ? n + 9
                          : n / 2;
        }
        if (i % 8 == 0 || i >= 48) { /* an instance takes 50 ms */
            write_file(path, damaged, n);
            run_with_cache(inner);
            tl_bytes again = read_file(path);
            assert_int_equal(again.len, whole.len);
            assert_memory_equal(again.data, whole.data, whole.len);
            tl_bytes_free(&again);
        }
        free(damaged);
    }
    tl_bytes_free(&whole);
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(inner), 0);
    run_with_cache("/proc/nowhere"); /* cannot be made: nothing is kept, nothing fails */
    assert_int_equal(rmdir(folder), 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]); /* "test_gpuav", "test_*" */
    }
    if (tl_backend_find("vulkan") == NULL || vulkan()->dev_count() == 0) {
        print_message("skipped: no Vulkan device here\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hazards),    cmocka_unit_test(test_devices),
        cmocka_unit_test(test_no_driver),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_failures),   cmocka_unit_test(test_failures_elsewhere),
        cmocka_unit_test(test_cache_file), cmocka_unit_test(test_presets),
        cmocka_unit_test(test_queues),     cmocka_unit_test(test_staging),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_gpuav),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
