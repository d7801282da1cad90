/* tailor bench: prefill and decode speed at chosen depths, with the bytes a step moves and which
 * part of the memory bandwidth, measured in the same run, that is. Random token ids: speed does not
 * depend on what is said. */
#include "bandwidth.h"
#include "commands.h"
#include "generate.h"
#include "policies.h"

#include <stdlib.h>
#include <string.h>

enum { N_DEPTHS_MAX = 16, N_REPEATS = 3, N_PREFILL = 512, N_DECODE = 64 };

struct bench {
    const struct cli_args *args;
    struct cli_loaded loaded;
    uint32_t depths[N_DEPTHS_MAX];
    uint32_t n_depths, n_prefill, n_decode;
    char presets[256]; /* as given, cut up as they are measured */
    uint32_t n_ctx;
    double bytes_per_s; /* of the device */
    uint64_t rng;
};

struct result {
    double prefill_tps, decode_tps;
    struct cli_percentiles step;
    uint64_t step_bytes;
};

static uint32_t random_id(struct bench *b) {
    b->rng = b->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((b->rng >> 33) % tl_engine_model(b->loaded.engine)->shape.n_vocab);
}

/* Feeds n random tokens; returns the seconds it took in *seconds. */
static tl_err feed_random(struct bench *b, uint32_t n, double *seconds) {
    uint32_t *const ids = calloc((size_t)n + 1, sizeof *ids);
    if (ids == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = random_id(b);
    }
    const uint64_t start = tl_now_ns();
    size_t done = 0;
    const tl_err err = cli_feed(&b->loaded, ids, n, NULL, NULL, &done);
    *seconds = (double)(tl_now_ns() - start) / 1e9;
    free(ids);
    return err;
}

/* Exactly depth tokens in the cache. Going back is free where the cache can; else it is filled
 * anew, outside the clock. */
static tl_err go_to_depth(struct bench *b, uint32_t depth) {
    tl_session *const s = b->loaded.session;
    const uint32_t n = tl_session_n(s);
    const uint32_t kept = tl_session_rewind(s, n < depth ? n : depth);
    double seconds = 0;
    return kept < depth ? feed_random(b, depth - kept, &seconds) : TL_OK;
}

static tl_err measure_decode(struct bench *b, struct result *out) {
    tl_session *const s = b->loaded.session;
    struct cli_times times = {0};
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < b->n_decode * N_REPEATS && !err && !cli_interrupted(); i++) {
        const uint64_t start = tl_now_ns();
        err = tl_session_step(s, random_id(b));
        if (!err) {
            err = cli_times_add(&times, tl_now_ns() - start);
        }
    }
    if (!err && times.n > 0) {
        out->step = cli_times_summary(&times);
        out->decode_tps = 1e3 / out->step.p50_ms;
        out->step_bytes = tl_session_step_bytes(s);
    }
    free(times.ns);
    return err;
}

/* At one depth: prefill of n_prefill tokens behind it (best of the repeats), then decode. */
static tl_err measure(struct bench *b, uint32_t depth, struct result *out) {
    *out = (struct result){0};
    for (uint32_t repeat = 0; repeat < N_REPEATS && b->n_prefill > 0; repeat++) {
        double seconds = 0;
        TL_TRY(go_to_depth(b, depth));
        TL_TRY(feed_random(b, b->n_prefill, &seconds));
        const double tps = b->n_prefill / seconds;
        out->prefill_tps = tps > out->prefill_tps ? tps : out->prefill_tps;
    }
    TL_TRY(go_to_depth(b, depth));
    return b->n_decode > 0 ? measure_decode(b, out) : TL_OK;
}

static void print_row(const struct bench *b, uint32_t depth, const struct result *r) {
    const double rate = (double)r->step_bytes * r->decode_tps;
    printf("%8u  %-8s  %10.1f  %10.2f  %8.2f  %8.2f  %9.3f  %7.1f  ", depth, b->loaded.kv,
           r->prefill_tps, r->decode_tps, r->step.p50_ms, r->step.p95_ms,
           (double)r->step_bytes / 1e9, rate / 1e9);
    if (rate > b->bytes_per_s) { /* a small model is read from the caches */
        puts(" cached");
    } else {
        printf("%6.1f%%\n", 100 * rate / b->bytes_per_s);
    }
    fflush(stdout);
}

static json_t *json_row(const struct bench *b, uint32_t depth, const struct result *r) {
    const double rate = (double)r->step_bytes * r->decode_tps;
    return json_pack("{s:i,s:s,s:f,s:f,s:f,s:f,s:I,s:f,s:f}", "depth", (int)depth, "kv",
                     b->loaded.kv, "prefill_tokens_per_s", r->prefill_tps, "decode_tokens_per_s",
                     r->decode_tps, "p50_ms", r->step.p50_ms, "p95_ms", r->step.p95_ms,
                     "step_bytes", (json_int_t)r->step_bytes, "bytes_per_s", rate,
                     "bandwidth_fraction", rate / b->bytes_per_s);
}

static bool parse_depths(struct bench *b) {
    const char *const text = b->args->depth != NULL ? b->args->depth : "0";
    const int64_t n = cli_parse_list(text, b->depths, N_DEPTHS_MAX);
    if (n <= 0) {
        cli_error("--depth: '%s' is not a list of at most %d numbers", text, N_DEPTHS_MAX);
        return false;
    }
    b->n_depths = (uint32_t)n;
    return true;
}

/* The context that the deepest measurement needs, unless one was asked for. */
static uint32_t needed_ctx(const struct bench *b) {
    uint64_t deepest = 0;
    for (uint32_t i = 0; i < b->n_depths; i++) {
        deepest = tl_max_u64(deepest, b->depths[i]);
    }
    const uint64_t steps = (uint64_t)b->n_decode * N_REPEATS;
    return (uint32_t)tl_min_u64(deepest + tl_max_u64(b->n_prefill, steps) + 1, UINT32_MAX - 1);
}

/* All depths of the present session. */
static tl_err measure_depths(struct bench *b, json_t *rows) {
    for (uint32_t i = 0; i < b->n_depths; i++) {
        struct result r;
        TL_TRY(measure(b, b->depths[i], &r));
        if (cli_interrupted()) {
            return TL_OK;
        }
        if (b->args->json) {
            json_array_append_new(rows, json_row(b, b->depths[i], &r));
        } else {
            print_row(b, b->depths[i], &r);
        }
    }
    return TL_OK;
}

/* One preset behind the other, each within the same budgets; the first session is open already. */
static tl_err measure_presets(struct bench *b, json_t *rows) {
    TL_TRY(measure_depths(b, rows));
    struct tl_session_params params = {.n_ctx = b->n_ctx};
    if (cli_session_params(b->args, &params) != 0) {
        return TL_ERR_FORMAT;
    }
    char *rest = b->presets;
    strtok_r(rest, ",", &rest);
    for (char *kv; (kv = strtok_r(rest, ",", &rest)) != NULL && !cli_interrupted();) {
        tl_session_close(&b->loaded.session);
        TL_TRY(cli_open_session(&b->loaded, b->args, kv, &params));
        TL_TRY(measure_depths(b, rows));
    }
    return TL_OK;
}

static bool print_json(const struct bench *b, json_t *rows) {
    struct tl_dev_caps caps;
    tl_engine_caps(b->loaded.engine, &caps);
    return cli_print_json(json_pack("{s:s,s:s,s:s,s:s,s:f,s:i,s:i,s:O}", "model", b->args->model,
                                    "backend", tl_engine_backend(b->loaded.engine), "device",
                                    caps.name, "kernels", caps.kernels, "device_bytes_per_s",
                                    b->bytes_per_s, "prefill", (int)b->n_prefill, "decode",
                                    (int)b->n_decode, "rows", rows));
}

static int measure_all(struct bench *b) {
    json_t *const rows = json_array();
    if (!b->args->json) {
        cli_print_plan(&b->loaded);
        printf("memory bandwidth, measured: %.1f GB/s\n", b->bytes_per_s / 1e9);
        puts("   depth  kv        prefill t/s  decode t/s    p50 ms    p95 ms    GB/step     GB/s"
             "   of peak");
    }
    tl_err err = measure_presets(b, rows);
    if (!err && b->args->json && !print_json(b, rows)) {
        err = TL_ERR_MEMORY;
    }
    json_decref(rows);
    if (err) {
        return cli_failed(&b->loaded.log, err);
    }
    return cli_interrupted() ? 130 : 0;
}

int cmd_bench(const struct cli_args *args) {
    struct bench b = {.args = args,
                      .n_prefill = args->n_prefill != CLI_UNSET ? args->n_prefill : N_PREFILL,
                      .n_decode = args->n_predict != CLI_UNSET ? args->n_predict : N_DECODE,
                      .rng = 1};
    if (args->model == NULL || !parse_depths(&b)) {
        if (args->model == NULL) {
            cli_error("bench: needs -m MODEL");
        }
        return 2;
    }
    b.n_ctx = args->n_ctx != 0 ? args->n_ctx : needed_ctx(&b);
    snprintf(b.presets, sizeof b.presets, "%s", cli_kv(args, b.n_ctx));
    char first[sizeof b.presets];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(b.presets, ","), b.presets);
    struct cli_args sized = *args;
    sized.n_ctx = b.n_ctx;
    sized.kv = first;
    int code = cli_load(&b.loaded, &sized);
    if (code != 0) {
        return code;
    }
    const struct tl_dev_params dev = {
        .index = args->device, .n_threads = args->n_threads, .log = cli_log_of(&b.loaded.log)};
    const tl_err err = cli_measure_bandwidth(tl_backend_find(tl_engine_backend(b.loaded.engine)),
                                             &dev, &b.bytes_per_s);
    cli_interrupt_install();
    code = err ? cli_failed(&b.loaded.log, err) : measure_all(&b);
    cli_unload(&b.loaded);
    return code;
}
