/* tailor plan: before anything is loaded, what a model, caches and contexts would take on a card,
 * and how fast they would be. The card and the model are names, numbers, or a file's header. */
#include "bandwidth.h"
#include "commands.h"
#include "load.h"
#include "plan_report.h"
#include "policies.h"

#include "core/named_shapes.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { N_CTXS_MAX = 32, N_CHUNK = 512 };
/* Guesses until many texts are measured: a quarter of the rows, of the channels. */
#define MISS_DEFAULT 0.25
#define LATE_DEFAULT 0.25

struct plan {
    const struct cli_args *args;
    struct cli_log log;
    struct tl_card card;
    tl_weights *weights; /* owned; NULL with a named shape */
    struct tl_blank blank;
    struct tl_shape shape;
    struct tl_budget budget;
    uint32_t ctxs[N_CTXS_MAX];
    uint32_t n_ctxs;
    struct cli_plan_report report;
};

/* ---- what to plan for ---- */

static tl_err open_named(struct plan *p, const tl_log *log) {
    const char *const type = p->args->weights != NULL ? p->args->weights : "q4_k";
    const struct tl_named_shape *const named = tl_named_shape_find(p->args->model);
    if (named == NULL) {
        char names[512] = "";
        for (const struct tl_named_shape *s = tl_named_shapes; s->name != NULL; s++) {
            const size_t at = strlen(names);
            snprintf(names + at, sizeof names - at, "%s%s", at > 0 ? ", " : "", s->name);
        }
        return tl_fail(log, TL_ERR_IO, "%s: neither a file nor a known model (%s)", p->args->model,
                       names);
    }
    for (int dtype = 0; dtype < TL_I32; dtype++) {
        const char *const name = tl_dtype_info((tl_dtype)dtype)->name;
        if (strcasecmp(name, type) == 0) {
            tl_named_shape_get(named, &p->shape);
            p->blank = tl_named_shape_blank(named, (tl_dtype)dtype);
            p->report.model = named->name;
            p->report.weights = name;
            return TL_OK;
        }
    }
    return tl_fail(log, TL_ERR_FORMAT,
                   "--weights: '%s' is no type of weights (f16, q8_0, q4_k ...)", type);
}

static tl_err open_model(struct plan *p, const tl_log *log) {
    p->report.shape = &p->shape;
    if (access(p->args->model, F_OK) != 0) {
        return open_named(p, log);
    }
    if (p->args->weights != NULL) {
        return tl_fail(log, TL_ERR_FORMAT, "--weights: the file says which it has");
    }
    TL_TRY(tl_weights_open(&p->weights, p->args->model, log));
    TL_TRY(tl_shape_read(p->weights, 0, &p->shape));
    TL_TRY(tl_model_check(p->weights, &p->shape));
    p->report.model = p->shape.name[0] != '\0' ? p->shape.name : p->args->model;
    return TL_OK;
}

/* This machine, as its own bandwidth is measured now. */
static tl_err measure_cpu(struct plan *p, const tl_log *log) {
    const tl_backend *const cpu = tl_backend_find("cpu");
    const struct tl_dev_params params = {.n_threads = p->args->n_threads, .log = *log};
    tl_dev *dev = NULL;
    struct tl_dev_caps caps;
    p->card = *tl_card_find("cpu");
    TL_TRY(tl_dev_open(&dev, cpu, &params));
    tl_dev_get_caps(dev, &caps);
    tl_dev_close(&dev);
    p->card.bytes = caps.bytes_total;
    return cli_measure_bandwidth(cpu, &params, &p->card.bytes_per_s);
}

static tl_err open_card(struct plan *p, const tl_log *log) {
    const char *const name = p->args->gpu;
    const struct tl_card *const card = tl_card_find(name);
    p->report.card = &p->card;
    if (card != NULL && strcmp(card->name, "cpu") == 0) {
        return measure_cpu(p, log);
    }
    if (card != NULL) {
        p->card = *card;
        return TL_OK;
    }
    if (strpbrk(name, "=,") != NULL) {
        return tl_card_parse(name, &p->card, log);
    }
    char names[256] = "";
    for (const struct tl_card *c = tl_cards; c->name != NULL; c++) {
        const size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", at > 0 ? ", " : "", c->name);
    }
    return tl_fail(log, TL_ERR_FORMAT, "--gpu: '%s' is none of %s, nor bw=GB/s,pcie=GB/s,mem=GiB",
                   name, names);
}

static void set_budget(struct plan *p, const struct tl_session_params *sizes) {
    const uint64_t usable = p->card.bytes > p->card.reserved ? p->card.bytes - p->card.reserved : 0;
    p->budget =
        (struct tl_budget){.device = sizes->device_bytes != 0 ? sizes->device_bytes : usable,
                           .host = sizes->host_bytes,
                           .unified = p->card.link_bytes_per_s <= 0 && sizes->device_bytes == 0};
}

/* ---- rows ---- */

/* Two stages where there is room. */
static tl_err plan_memory(const struct plan *p, struct tl_plan_params params,
                          struct cli_plan_row *row) {
    if (tl_plan_settle(&p->shape, &params, &p->budget, NULL)) {
        params.n_ctx = row->n_ctx;
        params.n_stages = 1;
    }
    tl_plan_memory(&p->shape, &params, &row->memory);
    return tl_plan_judge(&p->shape, &params, &p->budget, &row->verdict);
}

static tl_err add_row(struct plan *p, const char *kv, uint32_t n_ctx, const struct tl_policies *set,
                      tl_forecast *f) {
    struct cli_plan_row *const row = &p->report.rows[p->report.n_rows];
    *row = (struct cli_plan_row){.n_ctx = n_ctx, .beyond = n_ctx > p->shape.n_ctx_train};
    tl_text_copy(row->kv, sizeof row->kv, tl_str_from(kv));
    const struct tl_plan_params params = {.n_ctx = n_ctx,
                                          .n_chunk = N_CHUNK,
                                          .policies = set->layers,
                                          .dense = set->finds_dense ? &set->dense : NULL,
                                          .weight_bytes = tl_forecast_weight_bytes(f),
                                          .far = p->card.link_bytes_per_s > 0,
                                          .identify = set->finds_dense};
    TL_TRY(plan_memory(p, params, row));
    tl_forecast_step(f, n_ctx - 1, &row->step);
    tl_forecast_prompt(f, n_ctx, N_CHUNK, &row->prompt);
    if (row->prompt.total_s > 0) {
        row->prompt.total_s += row->step.part_us[TL_PART_WEIGHTS] / 1e6; /* at most: its logits */
    }
    p->report.n_rows++;
    if (p->args->schedule && p->args->json) {
        row->schedule = cli_plan_json_schedule(tl_forecast_schedule(f), tl_forecast_times(f));
    } else if (p->args->schedule) {
        printf("%s behind %u tokens:", kv, n_ctx - 1);
        cli_plan_print_schedule(tl_forecast_schedule(f), tl_forecast_times(f));
        puts("");
    }
    return TL_OK;
}

/* The layers' policies in a cache of n_ctx rows, and what it does with them. */
static tl_err add_forecast(struct plan *p, const char *kv, uint32_t n_ctx,
                           const struct tl_policies *set, struct tl_policy *layers) {
    for (uint32_t il = 0; il < p->shape.n_layers; il++) {
        layers[il] = tl_kv_policy_at(&p->shape, il, &set->layers[il], n_ctx);
    }
    const struct tl_forecast_params params = {.shape = &p->shape,
                                              .weights = p->weights,
                                              .blank = p->blank,
                                              .policies = layers,
                                              .card = &p->card,
                                              .miss = p->report.miss,
                                              .late = LATE_DEFAULT};
    tl_forecast *f = NULL;
    tl_err err = tl_forecast_open(&f, &params);
    if (!err) {
        p->report.weight_bytes = tl_forecast_weight_bytes(f);
        err = add_row(p, kv, n_ctx, set, f);
    }
    tl_forecast_close(&f);
    return err;
}

static tl_err add_preset(struct plan *p, const char *kv, const tl_log *log) {
    struct tl_policies set;
    TL_TRY(cli_policies(p->args, kv, p->shape.n_layers, p->weights, &set, log));
    struct tl_policy *const layers = calloc(p->shape.n_layers, sizeof *layers);
    const struct tl_plan_params params = {.policies = set.layers,
                                          .dense = set.finds_dense ? &set.dense : NULL};
    tl_err err = layers != NULL ? tl_plan_check_codecs(&p->shape, &params, log) : TL_ERR_MEMORY;
    for (uint32_t i = 0; !err && i < p->n_ctxs; i++) {
        err = add_forecast(p, kv, p->ctxs[i], &set, layers);
    }
    free(layers);
    cli_policies_free(&set);
    return err;
}

static tl_err add_presets(struct plan *p, const tl_log *log) {
    char kvs[512];
    const char *const both = tl_codec_fits(p->shape.head_dim) ? "full,tailor" : "full";
    const int len = snprintf(kvs, sizeof kvs, "%s", p->args->kv != NULL ? p->args->kv : both);
    if ((size_t)len >= sizeof kvs) {
        return tl_fail(log, TL_ERR_FORMAT, "--kv: too long a list");
    }
    size_t n = 1;
    for (const char *c = kvs; *c != '\0'; c++) {
        n += *c == ',';
    }
    p->report.rows = calloc(n * p->n_ctxs, sizeof *p->report.rows);
    if (p->report.rows == NULL) {
        return TL_ERR_MEMORY;
    }
    char *rest = kvs;
    for (char *kv; (kv = strtok_r(rest, ",", &rest)) != NULL;) {
        TL_TRY(add_preset(p, kv, log));
    }
    return p->report.n_rows > 0 ? TL_OK : tl_fail(log, TL_ERR_FORMAT, "--kv: names no preset");
}

/* ---- the command ---- */

static tl_err make(struct plan *p, const struct tl_session_params *sizes) {
    const tl_log log = cli_log_of(&p->log);
    TL_TRY(open_card(p, &log));
    set_budget(p, sizes);
    TL_TRY(open_model(p, &log));
    if (p->n_ctxs == 0) {
        p->ctxs[p->n_ctxs++] = p->shape.n_ctx_train;
    }
    for (uint32_t i = 0; i < p->n_ctxs; i++) {
        if (p->ctxs[i] == 0 || p->ctxs[i] > TL_CTX_MAX) {
            return tl_fail(&log, TL_ERR_FORMAT, "--ctx: between 1 and %d tokens", TL_CTX_MAX);
        }
    }
    return add_presets(p, &log);
}

int cmd_plan(const struct cli_args *args) {
    struct plan p = {.args = args,
                     .log = {.strict = args->strict},
                     .report = {.miss = args->miss >= 0 ? (double)args->miss : MISS_DEFAULT}};
    if (args->model == NULL || args->gpu == NULL) {
        cli_error("plan: needs -m NAME|FILE and --gpu NAME|bw=..,pcie=..,mem=..");
        return 2;
    }
    const int64_t n = args->ctxs != NULL ? cli_parse_list(args->ctxs, p.ctxs, N_CTXS_MAX) : 0;
    if (n < 0 || (args->ctxs != NULL && n == 0) || args->miss > 1) {
        cli_error("plan: --ctx takes up to %d numbers, --miss one between 0 and 1", N_CTXS_MAX);
        return 2;
    }
    p.n_ctxs = (uint32_t)n;
    struct tl_session_params sizes = {0};
    const int usage = cli_session_params(args, &sizes);
    if (usage != 0) {
        return usage;
    }
    const tl_err err = make(&p, &sizes);
    bool ok = !err;
    if (ok && args->json) {
        ok = cli_plan_print_json(&p.report);
    } else if (ok) {
        cli_plan_print(&p.report);
    }
    cli_plan_report_free(&p.report);
    tl_weights_close(&p.weights);
    return err ? cli_failed(&p.log, err) : ok && !cli_strict_failed(&p.log) ? 0 : 1;
}
