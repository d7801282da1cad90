/* Snapshots for programs, in JSON and CSV. */
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

double top_prompt_rate(const struct tl_stats *s) {
    const double seconds = (double)(s->prompt_end_ns - s->prompt_begin_ns) / 1e9;
    return s->prompt_done > 0 && seconds > 0 ? (double)s->prompt_done / seconds : (double)NAN;
}

static uint64_t all_answers(const struct tl_stats *s) {
    uint64_t n = 0;
    for (int how = 0; how < TL_FINISH_COUNT; how++) {
        n += s->n_answers[how];
    }
    return n;
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
                     (json_int_t)s->prompt_total, "tokens_per_s", number(top_prompt_rate(s)),
                     "totals", "prompt_tokens", (json_int_t)s->n_prompt_tokens, "answer_tokens",
                     (json_int_t)s->n_answer_tokens, "answers", (json_int_t)all_answers(s),
                     "memory", "weights_bytes", (json_int_t)s->weights_bytes, "scratch_bytes",
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
