#include "plan_report.h"

#include "load.h"

#include <stdlib.h>
#include <string.h>

static const double mib = 1048576.0;

void cli_plan_report_free(struct cli_plan_report *r) {
    for (uint32_t i = 0; i < r->n_rows; i++) {
        json_decref(r->rows[i].schedule);
    }
    free(r->rows);
    r->rows = NULL;
    r->n_rows = 0;
}

/* ---- the terminal ---- */

static void print_head(const struct cli_plan_report *r) {
    const struct tl_shape *const s = r->shape;
    char weights[16], memory[16], reserved[16];
    printf("%s (%s): %u layers, %u heads over %u KV heads of %u, weights %s%s%s\n", r->model,
           s->family->name, s->n_layers, s->n_heads, s->n_kv_heads, s->head_dim,
           cli_bytes(r->weight_bytes, weights), r->weights != NULL ? " in " : "",
           r->weights != NULL ? r->weights : "");
    printf("%s: %.0f GB/s", r->card->title, r->card->bytes_per_s / 1e9);
    if (r->card->link_bytes_per_s > 0) {
        printf(", %.1f GB/s over the link", r->card->link_bytes_per_s / 1e9);
    } else {
        fputs(", memory shared with the host", stdout);
    }
    if (r->card->bytes > 0) {
        printf(", %s, %s of it for driver and screen", cli_bytes(r->card->bytes, memory),
               cli_bytes(r->card->reserved, reserved));
    }
    puts("");
}

static void print_memory(const struct cli_plan_report *r) {
    puts("\nmemory, MiB                              device                              "
         "                    |        host");
    puts("    ctx  kv        weights  window  sketch   index     hot    home scratch   stage   "
         "total |    home  hidden   total");
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const struct cli_plan_row *const row = &r->rows[i];
        const struct tl_memory_plan *const m = &row->memory;
        const uint64_t device[] = {
            m->weights,        m->kv.window, m->kv.sketch,         m->kv.index, m->kv.hot,
            m->kv.home_device, m->scratch,   m->stage + m->change, m->device};
        const uint64_t host[] = {m->kv.home_host, m->hidden, m->host};
        printf("%7u  %-8.8s", row->n_ctx, row->kv);
        for (size_t k = 0; k < sizeof device / sizeof device[0]; k++) {
            printf(" %7.0f", (double)device[k] / mib);
        }
        fputs(" |", stdout);
        for (size_t k = 0; k < sizeof host / sizeof host[0]; k++) {
            printf(" %7.0f", (double)host[k] / mib);
        }
        puts(row->verdict.fits ? "" : "  does not fit");
    }
}

static void print_times(const struct cli_plan_report *r) {
    puts("\ntime, ms a token, predicted");
    puts("    ctx  kv          total = weights  window  sketch selected  index transfer  other "
         "waiting | token/s  first token");
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const struct cli_plan_row *const row = &r->rows[i];
        const double *const us = row->step.part_us;
        printf("%7u  %-8.8s %8.2f %9.2f %7.2f %7.2f %8.2f %6.2f %8.2f %6.2f %7.2f | %7.1f",
               row->n_ctx, row->kv, row->step.step_us / 1e3, us[TL_PART_WEIGHTS] / 1e3,
               us[TL_PART_WINDOW] / 1e3, us[TL_PART_SKETCH] / 1e3, us[TL_PART_SELECTED] / 1e3,
               us[TL_PART_INDEX] / 1e3, us[TL_PART_TRANSFER] / 1e3, us[TL_PART_OTHER] / 1e3,
               row->step.waiting_us / 1e3, 1e6 / row->step.step_us);
        if (row->prompt.total_s > 0) {
            printf(" %10.2f s\n", row->prompt.total_s);
        } else {
            puts("            -");
        }
    }
}

static bool is_of(const struct tl_validation *v, const struct cli_plan_report *r) {
    return strcmp(v->card, r->card->name) == 0;
}

static void print_validations(const struct cli_plan_report *r) {
    uint32_t n = 0;
    for (const struct tl_validation *v = tl_validations; v->card != NULL; v++) {
        if (is_of(v, r)) {
            printf("%s%s, %s, %u tokens: measured %.2f ms, predicted %.2f ms (%s)\n",
                   n++ == 0
                       ? "\npredictions for this device that were compared with a measurement:\n"
                       : "",
                   v->model, v->kv, v->n_ctx, v->measured_ms, v->predicted_ms, v->where);
        }
    }
    if (n == 0) {
        printf("\nno prediction for %s was ever compared with a measurement: all rows are "
               "arithmetic on its data sheet\n",
               r->card->title);
    }
}

void cli_plan_print(const struct cli_plan_report *r) {
    print_head(r);
    print_memory(r);
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const struct cli_plan_row *const row = &r->rows[i];
        char text[512];
        if (!row->verdict.fits) {
            tl_verdict_sentence(&row->verdict, &row->memory, row->n_ctx, text, sizeof text);
            printf("%s: %s\n", row->kv, text);
        }
        if (row->beyond) {
            printf("%s: %u tokens, but the model was made for %u\n", row->kv, row->n_ctx,
                   r->shape->n_ctx_train);
        }
    }
    print_times(r);
    printf("(of the selected rows %.0f %% are taken not to be in the hot set)\n", 100 * r->miss);
    print_validations(r);
}

/* "compute" and "transfer", for people. */
static const char *lane_name(tl_lane lane) {
    return lane == TL_LANE_COMPUTE ? "compute" : "transfer";
}

void cli_plan_print_schedule(const tl_schedule *s, const struct tl_op_time *times) {
    puts("\n   op  verb            layer  stream    waits for  launches  device bytes   link bytes "
         "  "
         "begins us     ends us");
    for (uint32_t i = 0; i < s->n; i++) {
        const struct tl_op *const op = &s->ops[i];
        char layer[16] = "-", wait[16] = "-";
        if (op->layer != UINT32_MAX) {
            snprintf(layer, sizeof layer, "%u", op->layer);
        }
        if (op->wait == TL_WAIT_START) {
            snprintf(wait, sizeof wait, "start");
        } else if (op->wait != TL_WAIT_NONE) {
            snprintf(wait, sizeof wait, "%u", op->wait);
        }
        printf("%5u  %-14s  %5s  %-8s  %9s  %8u  %12llu %12llu  %10.1f  %10.1f\n", i,
               tl_verb_name(op->verb), layer, lane_name(op->lane), wait, times[i].n_launches,
               (unsigned long long)times[i].cost.device_bytes,
               (unsigned long long)times[i].cost.link_bytes, times[i].start_us, times[i].end_us);
    }
    if (s->join != TL_WAIT_NONE) {
        printf("  end  waits for %u\n", s->join);
    }
}

/* ---- JSON ---- */

json_t *cli_plan_json_schedule(const tl_schedule *s, const struct tl_op_time *times) {
    json_t *const list = json_array();
    for (uint32_t i = 0; i < s->n; i++) {
        const struct tl_op *const op = &s->ops[i];
        json_t *const wait = op->wait == TL_WAIT_NONE    ? json_null()
                             : op->wait == TL_WAIT_START ? json_string("start")
                                                         : json_integer(op->wait);
        json_array_append_new(
            list,
            json_pack("{s:s,s:o,s:s,s:o,s:I,s:I,s:I,s:f,s:f}", "op", tl_verb_name(op->verb),
                      "layer", op->layer == UINT32_MAX ? json_null() : json_integer(op->layer),
                      "stream", lane_name(op->lane), "waits_for", wait, "launches",
                      (json_int_t)times[i].n_launches, "device_bytes",
                      (json_int_t)times[i].cost.device_bytes, "link_bytes",
                      (json_int_t)times[i].cost.link_bytes, "start_us", times[i].start_us, "end_us",
                      times[i].end_us));
    }
    return list;
}

static json_t *json_memory(const struct tl_memory_plan *m) {
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "weights_bytes",
                     (json_int_t)m->weights, "window_bytes", (json_int_t)m->kv.window,
                     "sketch_bytes", (json_int_t)m->kv.sketch, "index_bytes",
                     (json_int_t)m->kv.index, "hot_bytes", (json_int_t)m->kv.hot,
                     "home_device_bytes", (json_int_t)m->kv.home_device, "home_host_bytes",
                     (json_int_t)m->kv.home_host, "scratch_bytes", (json_int_t)m->scratch,
                     "stage_bytes", (json_int_t)m->stage, "change_bytes", (json_int_t)m->change,
                     "hidden_bytes", (json_int_t)m->hidden, "peak_device_bytes",
                     (json_int_t)m->device, "peak_host_bytes", (json_int_t)m->host);
}

static json_t *json_step(const struct tl_timeline *t) {
    json_t *const parts = json_object();
    for (int i = 0; i < TL_PART_COUNT; i++) {
        json_object_set_new(parts, tl_part_names[i], json_real(t->part_us[i] / 1e3));
    }
    json_object_set_new(parts, "waiting", json_real(t->waiting_us / 1e3));
    return json_pack("{s:f,s:o,s:f,s:I,s:I,s:I}", "total", t->step_us / 1e3, "parts", parts,
                     "second_stream", t->second_us / 1e3, "launches", (json_int_t)t->n_launches,
                     "device_bytes", (json_int_t)t->device_bytes, "link_bytes",
                     (json_int_t)t->link_bytes);
}

static json_t *json_advice(const struct tl_verdict *v) {
    json_t *const presets = json_array();
    for (uint32_t i = 0; i < v->n_presets; i++) {
        json_array_append_new(presets, json_string(v->presets[i]));
    }
    return json_pack("{s:I,s:I,s:I,s:o}", "device_missing_bytes", (json_int_t)v->device_missing,
                     "host_missing_bytes", (json_int_t)v->host_missing, "ctx", (json_int_t)v->n_ctx,
                     "presets", presets);
}

static json_t *json_prompt(const struct tl_prompt_forecast *p) {
    if (p->total_s <= 0) {
        return json_null();
    }
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "total", p->total_s, "matmul", p->matmul_s,
                     "attention", p->attention_s, "weights", p->weights_s, "link", p->link_s);
}

static json_t *json_row(const struct cli_plan_row *row) {
    json_t *const object = json_pack(
        "{s:I,s:s,s:b,s:o,s:o,s:f,s:o}", "ctx", (json_int_t)row->n_ctx, "kv", row->kv, "fits",
        row->verdict.fits, "memory", json_memory(&row->memory), "decode_ms", json_step(&row->step),
        "tokens_per_s", 1e6 / row->step.step_us, "first_token_s", json_prompt(&row->prompt));
    if (!row->verdict.fits) {
        json_object_set_new(object, "would_fit", json_advice(&row->verdict));
    }
    if (row->schedule != NULL) {
        json_object_set(object, "schedule", row->schedule);
    }
    return object;
}

static json_t *json_card(const struct tl_card *c) {
    return json_pack("{s:s,s:s,s:f,s:f,s:I,s:I,s:f,s:f}", "name", c->name, "title", c->title,
                     "bytes_per_s", c->bytes_per_s, "link_bytes_per_s", c->link_bytes_per_s,
                     "bytes", (json_int_t)c->bytes, "reserved_bytes", (json_int_t)c->reserved,
                     "f16_flops", c->f16_flops, "int8_ops", c->i8_ops);
}

bool cli_plan_print_json(const struct cli_plan_report *r) {
    json_t *const rows = json_array(), *const validations = json_array();
    for (uint32_t i = 0; i < r->n_rows; i++) {
        json_array_append_new(rows, json_row(&r->rows[i]));
    }
    for (const struct tl_validation *v = tl_validations; v->card != NULL; v++) {
        if (is_of(v, r)) {
            json_array_append_new(
                validations, json_pack("{s:s,s:s,s:I,s:f,s:f,s:s}", "model", v->model, "kv", v->kv,
                                       "ctx", (json_int_t)v->n_ctx, "measured_ms", v->measured_ms,
                                       "predicted_ms", v->predicted_ms, "where", v->where));
        }
    }
    return cli_print_json(json_pack("{s:s,s:s,s:s,s:I,s:o,s:f,s:o,s:o}", "model", r->model,
                                    "family", r->shape->family->name, "weights",
                                    r->weights != NULL ? r->weights : "file", "weights_bytes",
                                    (json_int_t)r->weight_bytes, "card", json_card(r->card), "miss",
                                    r->miss, "validations", validations, "rows", rows));
}
