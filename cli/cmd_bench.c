/* tailor bench: prefill and decode speed at chosen depths, with the bytes a step moves and which
 * part of the memory bandwidth, measured in the same run, that is. Random token ids: speed does not
 * depend on what is said. With --parallel decode alone, of each number of sequences; the first
 * measurement is always that of one, which the others are compared with. */
#include "bandwidth.h"
#include "commands.h"
#include "generate.h"
#include "policies.h"
#include "sequences.h"

#include <stdlib.h>
#include <string.h>

enum { N_DEPTHS_MAX = 16, N_REPEATS = 3, N_PREFILL = 512, N_DECODE = 64 };

struct bench {
    const struct cli_args *args;
    struct cli_loaded loaded;
    uint32_t depths[N_DEPTHS_MAX];
    uint32_t n_depths, n_prefill, n_decode;
    uint32_t sizes[TL_BATCH_MAX]; /* of --parallel; the first is 1 */
    uint32_t n_sizes, n_most;     /* n_most: the largest */
    struct cli_sequences sequences;
    char presets[256]; /* as given, cut up as they are measured */
    uint32_t n_ctx;
    double bytes_per_s; /* of the device */
    uint64_t rng;
};

struct result {
    uint32_t depth, n_sequences;
    double prefill_tps, decode_tps; /* of all sequences together */
    double times_one;               /* decode_tps, of one sequence's */
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

/* Exactly depth tokens in the cache of the present session. Going back is free where the cache can;
 * else it is filled anew, outside the clock. */
static tl_err go_to_depth(struct bench *b, uint32_t depth) {
    tl_session *const s = b->loaded.session;
    const uint32_t n = tl_session_n(s);
    const uint32_t kept = tl_session_rewind(s, n < depth ? n : depth);
    double seconds = 0;
    return kept < depth ? feed_random(b, depth - kept, &seconds) : TL_OK;
}

/* The first n sessions likewise, each with tokens of its own. */
static tl_err all_go_to_depth(struct bench *b, uint32_t n, uint32_t depth) {
    tl_session *const first = b->loaded.session;
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < n && !err && !cli_interrupted(); i++) {
        b->loaded.session = b->sequences.sessions[i];
        err = go_to_depth(b, depth);
    }
    b->loaded.session = first;
    return err;
}

/* One sequence takes the path that `run` and `chat` take. batch: NULL for one. */
static tl_err step(struct bench *b, tl_batch *batch, uint32_t n) {
    uint32_t ids[TL_BATCH_MAX];
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = random_id(b);
    }
    return batch != NULL ? tl_batch_step(batch, ids) : tl_session_step(b->loaded.session, ids[0]);
}

static tl_err measure_steps(struct bench *b, tl_batch *batch, struct result *out) {
    struct cli_times times = {0};
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < b->n_decode * N_REPEATS && !err && !cli_interrupted(); i++) {
        const uint64_t start = tl_now_ns();
        err = step(b, batch, out->n_sequences);
        if (!err) {
            err = cli_times_add(&times, tl_now_ns() - start);
        }
    }
    if (!err && times.n > 0) {
        out->step = cli_times_summary(&times);
        out->decode_tps = out->n_sequences * 1e3 / out->step.p50_ms;
        out->step_bytes =
            batch != NULL ? tl_batch_step_bytes(batch) : tl_session_step_bytes(b->loaded.session);
    }
    free(times.ns);
    return err;
}

static tl_err measure_decode(struct bench *b, struct result *out) {
    tl_batch *batch = NULL;
    if (out->n_sequences > 1) {
        TL_TRY(tl_batch_open(&batch, b->sequences.sessions, out->n_sequences));
    }
    const tl_err err = measure_steps(b, batch, out);
    tl_batch_close(&batch);
    return err;
}

/* At the depth in *r: prefill of n_prefill tokens behind it (best of the repeats), then decode. */
static tl_err measure(struct bench *b, struct result *r) {
    for (uint32_t repeat = 0; repeat < N_REPEATS && b->n_prefill > 0; repeat++) {
        double seconds = 0;
        TL_TRY(go_to_depth(b, r->depth));
        TL_TRY(feed_random(b, b->n_prefill, &seconds));
        const double tps = b->n_prefill / seconds;
        r->prefill_tps = tps > r->prefill_tps ? tps : r->prefill_tps;
    }
    TL_TRY(all_go_to_depth(b, r->n_sequences, r->depth));
    return b->n_decode > 0 ? measure_decode(b, r) : TL_OK;
}

static void print_head(const struct bench *b) {
    printf("memory bandwidth, measured: %.1f GB/s\n", b->bytes_per_s / 1e9);
    fputs("   depth  kv        ", stdout);
    fputs(b->n_sizes > 1 ? "sequences  decode t/s  each t/s  times one" : "prefill t/s  decode t/s",
          stdout);
    puts("    p50 ms    p95 ms    GB/step     GB/s   of peak");
}

static void print_row(const struct bench *b, const struct result *r) {
    const double rate = (double)r->step_bytes * r->decode_tps / r->n_sequences;
    printf("%8u  %-8s  ", r->depth, b->loaded.kv);
    if (b->n_sizes > 1) {
        printf("%9u  %10.2f  %8.2f  %9.2f", r->n_sequences, r->decode_tps,
               r->decode_tps / r->n_sequences, r->times_one);
    } else {
        printf("%11.1f  %10.2f", r->prefill_tps, r->decode_tps);
    }
    printf("  %8.2f  %8.2f  %9.3f  %7.1f  ", r->step.p50_ms, r->step.p95_ms,
           (double)r->step_bytes / 1e9, rate / 1e9);
    if (rate > b->bytes_per_s) { /* a small model is read from the caches */
        puts(" cached");
    } else {
        printf("%6.1f%%\n", 100 * rate / b->bytes_per_s);
    }
    fflush(stdout);
}

static json_t *json_row(const struct bench *b, const struct result *r) {
    const double each = r->decode_tps / r->n_sequences, rate = (double)r->step_bytes * each;
    return json_pack("{s:i,s:o,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:f,s:f}", "depth", (int)r->depth,
                     "kv", cli_json_text(b->loaded.kv), "sequences", (int)r->n_sequences,
                     "prefill_tokens_per_s", r->prefill_tps, "decode_tokens_per_s", r->decode_tps,
                     "decode_tokens_per_s_each", each, "times_one", r->times_one, "p50_ms",
                     r->step.p50_ms, "p95_ms", r->step.p95_ms, "step_bytes",
                     (json_int_t)r->step_bytes, "bytes_per_s", rate, "bandwidth_fraction",
                     rate / b->bytes_per_s);
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

/* How many sequences at once: one first, then what was asked for. */
static bool parse_sizes(struct bench *b) {
    uint32_t asked[TL_BATCH_MAX], n = 0;
    if (b->args->parallel != NULL) {
        n = cli_parse_parallel(b->args->parallel, asked, TL_BATCH_MAX);
        if (n == 0) {
            return false;
        }
    }
    b->sizes[b->n_sizes++] = b->n_most = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (asked[i] > 1) {
            b->sizes[b->n_sizes++] = asked[i];
            b->n_most = (uint32_t)tl_max_u64(b->n_most, asked[i]);
        }
    }
    if (b->n_sizes == 1) {
        return true;
    }
    const bool wants_prefill = b->args->n_prefill != CLI_UNSET && b->args->n_prefill > 0;
    if (wants_prefill || b->n_decode == 0) {
        cli_error("bench: --parallel measures decode alone, which takes no --prefill and -n above "
                  "0");
        return false;
    }
    b->n_prefill = 0;
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

/* All numbers of sequences at one depth. */
static tl_err measure_sizes(struct bench *b, uint32_t depth, json_t *rows) {
    double one_tps = 0;
    for (uint32_t i = 0; i < b->n_sizes; i++) {
        struct result r = {.depth = depth, .n_sequences = b->sizes[i]};
        TL_TRY(measure(b, &r));
        if (cli_interrupted()) {
            return TL_OK;
        }
        one_tps = i == 0 ? r.decode_tps : one_tps;
        r.times_one = i == 0 ? 1 : r.decode_tps / one_tps;
        if (b->args->json) {
            json_array_append_new(rows, json_row(b, &r));
        } else {
            print_row(b, &r);
        }
    }
    return TL_OK;
}

/* All depths of one preset, whose first session is open already or not. */
static tl_err measure_depths(struct bench *b, const char *kv,
                             const struct tl_session_params *params, json_t *rows) {
    tl_err err = cli_sequences_open(&b->sequences, &b->loaded, b->args, kv, params, b->n_most);
    for (uint32_t i = 0; i < b->n_depths && !err && !cli_interrupted(); i++) {
        err = measure_sizes(b, b->depths[i], rows);
    }
    cli_sequences_close(&b->sequences);
    tl_session_close(&b->loaded.session);
    return err;
}

/* One preset behind the other, each within the same budgets; the first session is open already. */
static tl_err measure_presets(struct bench *b, json_t *rows) {
    struct tl_session_params params = {.n_ctx = b->n_ctx};
    if (cli_session_params(b->args, &params) != 0) {
        return TL_ERR_FORMAT;
    }
    char *rest = b->presets;
    for (char *kv; (kv = strtok_r(rest, ",", &rest)) != NULL && !cli_interrupted();) {
        TL_TRY(measure_depths(b, kv, &params, rows));
    }
    return TL_OK;
}

static bool print_json(const struct bench *b, json_t *rows) {
    struct tl_dev_caps caps;
    tl_engine_caps(b->loaded.engine, &caps);
    return cli_print_json(
        json_pack("{s:o,s:s,s:s,s:s,s:f,s:i,s:i,s:O}", "model", cli_json_text(b->args->model),
                  "backend", tl_engine_backend(b->loaded.engine), "device", caps.name, "kernels",
                  caps.kernels, "device_bytes_per_s", b->bytes_per_s, "prefill", (int)b->n_prefill,
                  "decode", (int)b->n_decode, "rows", rows));
}

static int measure_all(struct bench *b) {
    json_t *const rows = json_array();
    if (!b->args->json) {
        cli_print_plan(&b->loaded);
        print_head(b);
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

/* All presets are looked for before the first one is measured. */
static bool parse_presets(struct bench *b) {
    char list[sizeof b->presets];
    const int len = snprintf(b->presets, sizeof b->presets, "%s", cli_kv(b->args, b->n_ctx, 0));
    if ((size_t)len >= sizeof b->presets) {
        cli_error("--kv: too long a list");
        return false;
    }
    memcpy(list, b->presets, sizeof list);
    char *rest = list;
    size_t n = 0;
    for (char *kv; (kv = strtok_r(rest, ",", &rest)) != NULL; n++) {
        if (!cli_kv_exists(kv)) {
            return false;
        }
    }
    if (n == 0) {
        cli_error("--kv: names no preset");
    }
    return n > 0;
}

int cmd_bench(const struct cli_args *args) {
    struct bench b = {.args = args,
                      .n_prefill = args->n_prefill != CLI_UNSET ? args->n_prefill : N_PREFILL,
                      .n_decode = args->n_predict != CLI_UNSET ? args->n_predict : N_DECODE,
                      .rng = 1};
    if (args->model == NULL) {
        cli_error("bench: needs -m MODEL");
        return 2;
    }
    if (!parse_depths(&b) || !parse_sizes(&b)) {
        return 2;
    }
    b.n_ctx = args->n_ctx != 0 ? args->n_ctx : needed_ctx(&b);
    if (!parse_presets(&b)) {
        return 2;
    }
    char first[sizeof b.presets];
    const char *const begin = b.presets + strspn(b.presets, ",");
    snprintf(first, sizeof first, "%.*s", (int)strcspn(begin, ","), begin);
    struct cli_args sized = *args;
    sized.n_ctx = b.n_ctx;
    sized.kv = first;
    sized.n_sessions = b.n_most > 1 ? b.n_most : 0;
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
