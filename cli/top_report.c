/* Snapshots for programs: JSON, CSV, and Prometheus. Names of metrics follow vLLM's where it has
 * one (tailor: for vllm:), with labels for layers and tiers beside them. */
#include "top.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const activities[] = {"loading", "idle", "prompt", "answer"};

/* A number that may be unknown. */
static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static double hit_rate(const struct tl_traffic *t) {
    const uint64_t rows = t->rows_hit + t->rows_fetched;
    return rows > 0 ? (double)t->rows_hit / (double)rows : (double)NAN;
}

static json_t *bytes_json(const struct tl_kv_bytes *b) {
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "window", (json_int_t)b->window, "sketch",
                     (json_int_t)b->sketch, "index", (json_int_t)b->index, "hot",
                     (json_int_t)b->hot, "device", (json_int_t)b->home_device, "host",
                     (json_int_t)b->home_host);
}

static json_t *traffic_json(const struct tl_traffic *t) {
    return json_pack("{s:I,s:I,s:I,s:I,s:o}", "host_to_device_bytes",
                     (json_int_t)t->host_to_device_bytes, "device_to_host_bytes",
                     (json_int_t)t->device_to_host_bytes, "rows_hit", (json_int_t)t->rows_hit,
                     "rows_fetched", (json_int_t)t->rows_fetched, "hit_rate", number(hit_rate(t)));
}

static json_t *layer_json(const struct tl_stats_layer *l, uint32_t il) {
    return json_pack("{s:i,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "layer", (int)il, "policy", l->policy,
                     "held_bytes", bytes_json(&l->held), "room_bytes", bytes_json(&l->room), "step",
                     traffic_json(&l->step), "total", traffic_json(&l->total), "dense_score",
                     number(l->dense_score), "gauge_mass", number(l->gauge_mass), "gauge_error",
                     number(l->gauge_error));
}

static json_t *times_json(const struct tl_stats *s) {
    static const char *const names[] = {"step", "compute", "transfer", "waiting", "sampling"};
    json_t *const times = json_object();
    for (int part = 0; part < TL_TIME_COUNT; part++) {
        const bool known = (s->times_known >> part & 1) != 0;
        json_object_set_new(times, names[part],
                            number(known ? (double)s->time_ns[part] / 1e6 : (double)NAN));
    }
    return times;
}

static void sum_layers(const struct tl_stats *s, struct tl_traffic *sum, struct tl_kv_bytes *held) {
    *sum = (struct tl_traffic){0};
    *held = (struct tl_kv_bytes){0};
    for (uint32_t il = 0; il < s->n_layers_shown; il++) {
        const struct tl_stats_layer *const l = &s->layers[il];
        sum->host_to_device_bytes += l->total.host_to_device_bytes;
        sum->device_to_host_bytes += l->total.device_to_host_bytes;
        sum->rows_hit += l->total.rows_hit;
        sum->rows_fetched += l->total.rows_fetched;
        held->home_device += tl_kv_device_bytes(&l->held);
        held->home_host += l->held.home_host;
    }
}

static double prompt_rate(const struct tl_stats *s) {
    const double seconds = (double)(s->prompt_end_ns - s->prompt_begin_ns) / 1e9;
    return s->prompt_done > 0 && seconds > 0 ? (double)s->prompt_done / seconds : (double)NAN;
}

json_t *top_json(const struct tl_stats *s) {
    struct tl_traffic sum;
    struct tl_kv_bytes held;
    sum_layers(s, &sum, &held);
    json_t *const layers = json_array();
    for (uint32_t il = 0; il < s->n_layers_shown; il++) {
        json_array_append_new(layers, layer_json(&s->layers[il], il));
    }
    return json_pack("{s:I,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:{s:i,s:i},s:o,s:o,s:{s:I,s:I,s:o},"
                     "s:{s:I,s:I,s:I},s:{s:I,s:I,s:I,s:I,s:I,s:I},s:o,s:o}",
                     "pid", (json_int_t)s->pid, "command", s->command, "activity",
                     activities[s->activity & 3], "model", s->model, "family", s->family, "backend",
                     s->backend, "device", s->device, "kernels", s->kernels, "kv", s->kv,
                     "start_unix_s", (json_int_t)s->start_unix_s, "ctx", "used", (int)s->ctx_used,
                     "cap", (int)s->ctx_cap, "tokens_per_s", number(s->tokens_per_s), "time_ms",
                     times_json(s), "prompt", "done", (json_int_t)s->prompt_done, "total",
                     (json_int_t)s->prompt_total, "tokens_per_s", number(prompt_rate(s)), "totals",
                     "prompt_tokens", (json_int_t)s->n_prompt_tokens, "answer_tokens",
                     (json_int_t)s->n_answer_tokens, "answers", (json_int_t)s->n_answers, "memory",
                     "weights_bytes", (json_int_t)s->weights_bytes, "scratch_bytes",
                     (json_int_t)s->scratch_bytes, "kv_device_bytes", (json_int_t)held.home_device,
                     "kv_host_bytes", (json_int_t)held.home_host, "peak_device_bytes",
                     (json_int_t)s->device_bytes, "peak_host_bytes", (json_int_t)s->host_bytes,
                     "traffic", traffic_json(&sum), "layers", layers);
}

/* ---- CSV ---- */

const char top_csv_head[] =
    "unix_s,pid,command,activity,ctx_used,ctx_cap,tokens_per_s,step_ms,prompt_tokens,answer_tokens,"
    "kv_device_bytes,kv_host_bytes,host_to_device_bytes,device_to_host_bytes,rows_hit,rows_"
    "fetched\n";

/* Empty where it is not known. */
static const char *field(double value, char *text, size_t cap) {
    snprintf(text, cap, "%.3f", value);
    return isfinite(value) ? text : "";
}

tl_err top_csv_line(const struct tl_stats *s, tl_bytes *out) {
    struct tl_traffic sum;
    struct tl_kv_bytes held;
    char line[512], rate[32], step[32];
    sum_layers(s, &sum, &held);
    const bool stepped = (s->times_known >> TL_TIME_STEP & 1) != 0;
    const double step_ms = stepped ? (double)s->time_ns[TL_TIME_STEP] / 1e6 : (double)NAN;
    snprintf(line, sizeof line, ",%llu,%s,%s,%u,%u,%s,%s,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu\n",
             (unsigned long long)s->pid, s->command, activities[s->activity & 3], s->ctx_used,
             s->ctx_cap, field(s->tokens_per_s, rate, sizeof rate),
             field(step_ms, step, sizeof step), (unsigned long long)s->n_prompt_tokens,
             (unsigned long long)s->n_answer_tokens, (unsigned long long)held.home_device,
             (unsigned long long)held.home_host, (unsigned long long)sum.host_to_device_bytes,
             (unsigned long long)sum.device_to_host_bytes, (unsigned long long)sum.rows_hit,
             (unsigned long long)sum.rows_fetched);
    return tl_bytes_add_str(out, line);
}

/* ---- Prometheus ---- */

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
static double answers(const struct tl_stats *s) { return (double)s->n_answers; }
static double answer_rate(const struct tl_stats *s) { return s->tokens_per_s; }
static double per_token(const struct tl_stats *s) { return 1 / s->tokens_per_s; }
static double weights(const struct tl_stats *s) { return (double)s->weights_bytes; }

static const struct metric metrics[] = {
    {"num_requests_running", "gauge", "Requests being worked on.", running},
    {"num_requests_waiting", "gauge", "Requests waiting.", waiting},
    {"kv_cache_usage_perc", "gauge", "Share of the context in use, 0 to 1.", usage},
    {"prompt_tokens_total", "counter", "Prompt tokens read.", prompt_tokens},
    {"generation_tokens_total", "counter", "Tokens generated.", answer_tokens},
    {"request_success_total", "counter", "Answers given.", answers},
    {"avg_prompt_throughput_toks_per_s", "gauge", "Speed of the newest prompt.", prompt_rate},
    {"avg_generation_throughput_toks_per_s", "gauge", "Speed of the newest answer.", answer_rate},
    {"time_per_output_token_seconds", "gauge", "Seconds a token, newest answer.", per_token},
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
