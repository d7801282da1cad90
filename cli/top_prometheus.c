/* Snapshots for Prometheus. Names, types and buckets of metrics follow vLLM's where it has them
 * (tailor: for vllm:); what it has not is told by layer and tier. */
#include "top.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Label values: backslash, quote and newline are escaped. */
static void escape(const char *text, char *out, size_t cap) {
    size_t n = 0;
    for (; *text != '\0' && n + 3 < cap; text++) {
        if (*text == '"' || *text == '\\') {
            out[n++] = '\\';
        }
        out[n++] = (unsigned char)*text < 0x20 ? ' ' : *text;
    }
    out[n] = '\0';
}

struct metric {
    const char *name, *type, *help;
    double (*value)(const struct tl_stats *s);
};

static double running(const struct tl_stats *s) { return s->activity >= TL_ACTIVITY_PROMPT; }
static double waiting(const struct tl_stats *s) {
    (void)s;
    return 0; /* one session a process: nothing queues behind it */
}
static double usage(const struct tl_stats *s) {
    return s->ctx_cap > 0 ? (double)s->ctx_used / s->ctx_cap : (double)NAN;
}
static double prompt_tokens(const struct tl_stats *s) { return (double)s->n_prompt_tokens; }
static double answer_tokens(const struct tl_stats *s) { return (double)s->n_answer_tokens; }
static double answer_rate(const struct tl_stats *s) { return s->tokens_per_s; }
static double weights(const struct tl_stats *s) { return (double)s->weights_bytes; }

static const struct metric metrics[] = {
    {"num_requests_running", "gauge", "Requests being worked on.", running},
    {"num_requests_waiting", "gauge", "Requests waiting.", waiting},
    {"kv_cache_usage_perc", "gauge", "Share of the context in use, 0 to 1.", usage},
    {"prompt_tokens_total", "counter", "Prompt tokens read.", prompt_tokens},
    {"generation_tokens_total", "counter", "Tokens generated.", answer_tokens},
    {"avg_prompt_throughput_toks_per_s", "gauge", "Speed of the newest prompt.", top_prompt_rate},
    {"avg_generation_throughput_toks_per_s", "gauge", "Speed of the newest answer.", answer_rate},
    {"weights_bytes", "gauge", "Bytes of the weights.", weights},
};

static tl_err add_head(tl_bytes *out, const char *name, const char *type, const char *help) {
    char line[256];
    snprintf(line, sizeof line, "# HELP tailor:%s %s\n# TYPE tailor:%s %s\n", name, help, name,
             type);
    return tl_bytes_add_str(out, line);
}

static tl_err add_sample(tl_bytes *out, const struct tl_stats *s, const char *name,
                         const char *labels, double value) {
    char line[512], model[160];
    if (!isfinite(value)) {
        return TL_OK; /* what is not known is not exported */
    }
    escape(s->model, model, sizeof model);
    snprintf(line, sizeof line, "tailor:%s{model_name=\"%s\",pid=\"%llu\"%s} %.17g\n", name, model,
             (unsigned long long)s->pid, labels, value);
    return tl_bytes_add_str(out, line);
}

static tl_err add_tiers(tl_bytes *out, const struct tl_stats *s, uint32_t il) {
    const struct tl_kv_bytes *const b = &s->layers[il].held;
    const struct {
        const char *tier;
        uint64_t bytes;
    } tiers[] = {{"window", b->window}, {"sketch", b->sketch},      {"index", b->index},
                 {"hot", b->hot},       {"device", b->home_device}, {"host", b->home_host}};
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++) {
        char labels[64];
        snprintf(labels, sizeof labels, ",layer=\"%u\",tier=\"%s\"", il, tiers[i].tier);
        TL_TRY(add_sample(out, s, "kv_cache_bytes", labels, (double)tiers[i].bytes));
    }
    return TL_OK;
}

/* Two counters of a layer, told apart by a label. */
struct pair {
    const char *name, *label, *first, *second;
    size_t first_off, second_off; /* in struct tl_traffic */
};

static tl_err add_pair(tl_bytes *out, const struct tl_stats *s, uint32_t il, const struct pair *p) {
    const char *const total = (const char *)&s->layers[il].total;
    const char *const names[] = {p->first, p->second};
    const size_t offs[] = {p->first_off, p->second_off};
    for (size_t i = 0; i < 2; i++) {
        char labels[96];
        uint64_t value = 0;
        memcpy(&value, total + offs[i], sizeof value);
        snprintf(labels, sizeof labels, ",layer=\"%u\",%s=\"%s\"", il, p->label, names[i]);
        TL_TRY(add_sample(out, s, p->name, labels, (double)value));
    }
    return TL_OK;
}

static tl_err add_answers(tl_bytes *out, const struct top *top) {
    static const char *const how[TL_FINISH_COUNT] = {"stop", "length", "abort", "error"};
    TL_TRY(add_head(out, "request_success_total", "counter", "Answers given, by what ended them."));
    for (size_t i = 0; i < top->n * TL_FINISH_COUNT; i++) {
        const struct tl_stats *const s = &top->ones[i / TL_FINISH_COUNT].stats;
        char labels[48];
        snprintf(labels, sizeof labels, ",finished_reason=\"%s\"", how[i % TL_FINISH_COUNT]);
        TL_TRY(add_sample(out, s, "request_success_total", labels,
                          (double)s->n_answers[i % TL_FINISH_COUNT]));
    }
    return TL_OK;
}

/* ---- histograms ---- */

static const struct hist_metric {
    const char *name, *help;
    tl_hist_kind kind;
} hist_metrics[] = {
    {"inter_token_latency_seconds", "Seconds from one token to the next.", TL_HIST_TOKEN},
    {"time_per_output_token_seconds", "The same, by its older name.", TL_HIST_TOKEN},
    {"time_to_first_token_seconds", "Seconds until an answer's first token.", TL_HIST_FIRST},
    {"e2e_request_latency_seconds", "Seconds of a whole request.", TL_HIST_REQUEST},
    {"request_prefill_time_seconds", "Seconds of a request's prompt.", TL_HIST_PREFILL},
    {"request_decode_time_seconds", "Seconds of a request's answer.", TL_HIST_DECODE},
    {"request_prompt_tokens", "Prompt tokens read for a request; those still cached are not.",
     TL_HIST_N_PROMPT},
    {"request_generation_tokens", "Tokens of an answer.", TL_HIST_N_ANSWER},
};

/* The buckets count all values up to their bound; the last one, and _count, count all. */
static tl_err add_hist(tl_bytes *out, const struct tl_stats *s, const struct hist_metric *m) {
    const struct tl_hist *const hist = &s->hists[m->kind];
    char name[64], labels[48];
    uint32_t n_bounds = 0;
    uint64_t n = 0;
    const double *const bounds = tl_hist_bounds(m->kind, &n_bounds);
    snprintf(name, sizeof name, "%s_bucket", m->name);
    for (uint32_t i = 0; i < n_bounds; i++) {
        n += hist->n[i];
        snprintf(labels, sizeof labels, ",le=\"%.15g\"", bounds[i]);
        TL_TRY(add_sample(out, s, name, labels, (double)n));
    }
    n += hist->n[TL_HIST_BOUNDS];
    TL_TRY(add_sample(out, s, name, ",le=\"+Inf\"", (double)n));
    snprintf(name, sizeof name, "%s_sum", m->name);
    TL_TRY(add_sample(out, s, name, "", hist->sum));
    snprintf(name, sizeof name, "%s_count", m->name);
    return add_sample(out, s, name, "", (double)n);
}

static tl_err add_hists(tl_bytes *out, const struct top *top) {
    for (size_t m = 0; m < sizeof hist_metrics / sizeof hist_metrics[0]; m++) {
        TL_TRY(add_head(out, hist_metrics[m].name, "histogram", hist_metrics[m].help));
        for (size_t i = 0; i < top->n; i++) {
            TL_TRY(add_hist(out, &top->ones[i].stats, &hist_metrics[m]));
        }
    }
    return TL_OK;
}

tl_err top_prometheus(const struct top *top, tl_bytes *out) {
    static const struct pair pairs[] = {
        {"kv_transfer_bytes_total", "direction", "host_to_device", "device_to_host",
         offsetof(struct tl_traffic, host_to_device_bytes),
         offsetof(struct tl_traffic, device_to_host_bytes)},
        {"kv_rows_total", "result", "hit", "fetched", offsetof(struct tl_traffic, rows_hit),
         offsetof(struct tl_traffic, rows_fetched)},
    };
    for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
        TL_TRY(add_head(out, metrics[m].name, metrics[m].type, metrics[m].help));
        for (size_t i = 0; i < top->n; i++) {
            const struct tl_stats *const s = &top->ones[i].stats;
            TL_TRY(add_sample(out, s, metrics[m].name, "", metrics[m].value(s)));
        }
    }
    TL_TRY(add_answers(out, top));
    TL_TRY(add_hists(out, top));
    TL_TRY(add_head(out, "kv_cache_bytes", "gauge", "Bytes of cached rows by layer and tier."));
    for (size_t i = 0; i < top->n; i++) {
        for (uint32_t il = 0; il < top->ones[i].stats.n_layers_shown; il++) {
            TL_TRY(add_tiers(out, &top->ones[i].stats, il));
        }
    }
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        TL_TRY(add_head(out, pairs[k].name, "counter", "Of the cache, by layer."));
        for (size_t i = 0; i < top->n; i++) {
            for (uint32_t il = 0; il < top->ones[i].stats.n_layers_shown; il++) {
                TL_TRY(add_pair(out, &top->ones[i].stats, il, &pairs[k]));
            }
        }
    }
    return tl_bytes_add(out, "", 0);
}
