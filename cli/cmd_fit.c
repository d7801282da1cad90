/* tailor fit: which layers of a model attend densely, measured on a text, and what every codec does
 * to each layer; the codebooks that the preset's codecs want; the policy file that follows, and a
 * picture. The text goes through once, exactly, a layer at a time, so that the measurement takes no
 * more memory than a compressed cache. */
#include "commands.h"
#include "fit_books.h"
#include "fit_report.h"
#include "generate.h"
#include "new_file.h"
#include "policies.h"

#include "core/policy_file.h"

#include <stdlib.h>
#include <string.h>

enum {
    TOKENS_DEFAULT = 16384, /* the profile of a model is the same from a few thousand on */
    TOKENS_MIN = 128,       /* 5 % are then 7 rows */
};

struct fit {
    const struct cli_args *args;
    struct cli_loaded loaded;   /* log and engine; session once it is open */
    struct tl_policy *policies; /* owned: of the session that measures */
    struct tl_policies set;     /* those that the policy file will say */
    struct cli_fit_books books;
    struct cli_fit_indexes indexes;
    tl_bytes text;
    tl_ids ids;
    struct cli_new_file policy_file, plot_file;
    struct cli_fit_report report;
};

static const struct tl_shape *shape_of(const struct fit *fit) {
    return &tl_engine_model(fit->loaded.engine)->shape;
}

/* The text and the places for what comes out: all that can be known to be wrong before a model is
 * loaded. */
static int open_files(struct fit *fit) {
    const struct cli_args *const a = fit->args;
    if (!cli_read_file(a->file, &fit->text)) {
        return 1;
    }
    const int64_t at = cli_not_text_at(fit->text.data, fit->text.len);
    if (at >= 0) {
        cli_error("%s: not a text: byte %lld is no UTF-8", a->file, (long long)at);
        return 1;
    }
    if (a->output != NULL &&
        !cli_new_file_open(&fit->policy_file, a->output, "\"tailor_policy\"")) {
        return 1;
    }
    if (a->plot != NULL && !cli_new_file_open(&fit->plot_file, a->plot, "<svg")) {
        return 1;
    }
    const char *const place = fit->policy_file.target;
    if (place[0] != '\0' && strcmp(place, fit->plot_file.target) == 0) {
        cli_error("%s: the policy and the picture cannot be one file", a->plot);
        return 1;
    }
    return 0;
}

static int load_engine(struct fit *fit) {
    const struct cli_args *const a = fit->args;
    char cache_dir[4096];
    const struct tl_engine_params params = {.model_path = a->model,
                                            .backend = a->backend,
                                            .device = a->device,
                                            .n_threads = a->n_threads,
                                            .n_ctx = a->n_ctx,
                                            .cache_dir = cli_cache_dir(cache_dir, sizeof cache_dir),
                                            .debug = getenv("TAILOR_TEST_DEVICE"),
                                            .log = cli_log_of(&fit->loaded.log)};
    fit->loaded.log.strict = a->strict;
    const tl_err err = tl_engine_open(&fit->loaded.engine, &params);
    return err ? cli_failed(&fit->loaded.log, err) : cli_strict_failed(&fit->loaded.log) ? 1 : 0;
}

/* The text as tokens, no more than are used. */
static int encode_text(struct fit *fit) {
    const struct tl_shape *const shape = shape_of(fit);
    const uint64_t default_max = tl_min_u64(TOKENS_DEFAULT, shape->n_ctx_train);
    const uint64_t n_max = fit->args->n_ctx != 0 ? fit->args->n_ctx : default_max;
    const tl_str text = {fit->text.data, fit->text.len};
    const tl_err err =
        tl_vocab_encode(tl_engine_vocab(fit->loaded.engine), text, TL_ENCODE_BOS, &fit->ids);
    if (err) {
        return cli_failed(&fit->loaded.log, err);
    }
    const uint64_t n = tl_min_u64(fit->ids.n, n_max);
    if (n < TOKENS_MIN) {
        cli_error("%s: too short: %llu tokens are used, at least %d are needed", fit->args->file,
                  (unsigned long long)n, TOKENS_MIN);
        return 1;
    }
    const tl_log log = cli_log_of(&fit->loaded.log);
    if (n < fit->ids.n) {
        tl_say(&log, TL_LEVEL_INFO, "the first %llu of %zu tokens are used", (unsigned long long)n,
               fit->ids.n);
    }
    if (n < TL_LONG_ROWS) {
        tl_say(&log, TL_LEVEL_WARN, "%llu tokens are few: scores are coarse below %d",
               (unsigned long long)n, TL_LONG_ROWS);
    }
    fit->ids.n = (size_t)n;
    return cli_strict_failed(&fit->loaded.log) ? 1 : 0;
}

/* The policies to write, and what there is to learn for them. */
static int open_policies(struct fit *fit) {
    const struct tl_shape *const shape = shape_of(fit);
    const tl_log log = cli_log_of(&fit->loaded.log);
    tl_err err =
        cli_policies(fit->args, fit->report.preset->name, shape->n_layers, NULL, &fit->set, &log);
    if (!err) {
        err = cli_fit_books_open(&fit->books, &fit->set, shape, fit->args->books_per_model, log);
    }
    if (!err && fit->books.books != NULL && shape->head_dim % 8 != 0) {
        err = tl_fail(&log, TL_ERR_UNSUPPORTED, "heads of %u: codecs need multiples of 8",
                      shape->head_dim);
    }
    return err ? cli_failed(&fit->loaded.log, err) : 0;
}

/* A tl_rows_fn: all that is learned from a layer's rows. */
static tl_err on_rows(void *user, uint32_t il, const struct tl_exact_rows *rows) {
    struct fit *const fit = user;
    if (fit->books.books != NULL) {
        TL_TRY(cli_fit_books_layer(&fit->books, il, rows));
    }
    return fit->args->indexes ? cli_fit_indexes_layer(&fit->indexes, il, rows) : TL_OK;
}

static int open_indexes(struct fit *fit) {
    const struct tl_shape *const shape = shape_of(fit);
    const tl_log log = cli_log_of(&fit->loaded.log);
    if (!fit->args->indexes) {
        return 0;
    }
    const tl_err err = shape->head_dim % 8 != 0
                           ? tl_fail(&log, TL_ERR_UNSUPPORTED,
                                     "heads of %u: indexes need multiples of 8", shape->head_dim)
                           : cli_fit_indexes_open(&fit->indexes, shape->n_layers, shape->head_dim,
                                                  fit->args->n_threads, log);
    fit->report.indexes = &fit->indexes;
    return err ? cli_failed(&fit->loaded.log, err) : 0;
}

static int open_session(struct fit *fit) {
    const struct tl_shape *const shape = shape_of(fit);
    const bool has_codecs = shape->head_dim % 8 == 0;
    /* Nothing is read back from these tiers: the smallest there are. */
    const struct tl_preset *const tiers = tl_preset_find(has_codecs ? "kivi1" : "full");
    fit->policies = calloc(shape->n_layers, sizeof *fit->policies);
    if (fit->policies == NULL) {
        return cli_failed(&fit->loaded.log, TL_ERR_MEMORY);
    }
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        fit->policies[il] = tiers->policy;
    }
    TL_ASSERT(fit->set.layers != NULL);
    struct tl_session_params params = {0};
    const int usage = cli_session_params(fit->args, &params);
    if (usage != 0) {
        return usage;
    }
    params.n_ctx = (uint32_t)fit->ids.n;
    params.policies = fit->policies;
    params.identify_rows = 1;
    params.identify_codecs = has_codecs;
    params.identify_fit = fit->report.fit =
        fit->set.has_dense ? fit->set.dense.fit : fit->set.others.fit;
    if (fit->books.books != NULL || fit->args->indexes) {
        params.on_rows = on_rows;
        params.on_rows_user = fit;
    }
    const tl_err err = tl_session_open(&fit->loaded.session, fit->loaded.engine, &params);
    return err ? cli_failed(&fit->loaded.log, err) : 0;
}

/* Returns an exit code; 130 where the user stopped it. */
static int measure(struct fit *fit) {
    size_t done = 0;
    cli_interrupt_install();
    const tl_err err = cli_feed(&fit->loaded, fit->ids.data, fit->ids.n, NULL, NULL, &done);
    if (err) {
        return cli_failed(&fit->loaded.log, err);
    }
    if (done < fit->ids.n) {
        return 130;
    }
    const tl_err finished = cli_fit_books_finish(&fit->books);
    return finished ? cli_failed(&fit->loaded.log, finished) : 0;
}

static int fill_report(struct fit *fit) {
    const struct tl_shape *const shape = shape_of(fit);
    struct cli_fit_report *const r = &fit->report;
    const char *const slash = strrchr(fit->args->model, '/');
    r->model_name = shape->name[0] != '\0' ? shape->name
                    : slash != NULL        ? slash + 1
                                           : fit->args->model;
    r->text_name = fit->args->file;
    r->model_hash = tl_model_hash(tl_engine_weights(fit->loaded.engine));
    r->n_layers = shape->n_layers;
    r->n_heads = shape->n_heads;
    r->n_tokens = (uint32_t)fit->ids.n;
    r->tau = (double)fit->args->tau;
    r->kv_set = fit->args->kv_set;
    r->books = fit->books.books;
    r->layers = calloc(shape->n_layers, sizeof *r->layers);
    if (r->layers == NULL) {
        return cli_failed(&fit->loaded.log, TL_ERR_MEMORY);
    }
    for (uint32_t il = 0; il < r->n_layers; il++) {
        struct cli_fit_layer *const layer = &r->layers[il];
        layer->found = tl_session_identity(fit->loaded.session, il);
        TL_ASSERT(layer->found != NULL);
        layer->sliding_window = shape->windowed[il] ? shape->window : 0;
        layer->dense = layer->sliding_window == 0 && layer->found->score > r->tau;
    }
    return 0;
}

static bool write_file(const struct fit *fit, struct cli_new_file *file,
                       tl_err (*make)(const struct cli_fit_report *report, tl_bytes *out)) {
    tl_bytes text = {0};
    const tl_err err = make(&fit->report, &text);
    if (err) {
        cli_failed(&fit->loaded.log, err);
    }
    const bool ok = !err && cli_new_file_finish(file, text.data, text.len);
    tl_bytes_free(&text);
    return ok;
}

static int show(struct fit *fit) {
    const struct cli_fit_report *const r = &fit->report;
    if (fit->policy_file.f != NULL && !write_file(fit, &fit->policy_file, cli_fit_report_text)) {
        return 1;
    }
    if (fit->plot_file.f != NULL && !write_file(fit, &fit->plot_file, cli_fit_report_svg)) {
        return 1;
    }
    if (fit->args->json) {
        return cli_print_json(cli_fit_report_json(r)) ? 0 : 1;
    }
    cli_fit_report_table(r, stdout);
    if (r->preset->dense == NULL) {
        printf("the preset %s treats all layers alike\n", r->preset->name);
    }
    if (fit->args->output != NULL) {
        printf("policy: %s (use it with --kv)\n", fit->args->output);
    }
    return 0;
}

/* The first one that treats dense layers in their own way. */
static const struct tl_preset *default_preset(void) {
    const struct tl_preset *p = tl_presets;
    while (p->name != NULL && p->dense == NULL) {
        p++;
    }
    return p->name != NULL ? p : tl_preset_find("tailor");
}

int cmd_fit(const struct cli_args *args) {
    struct fit fit = {.args = args};
    fit.report.preset = args->kv != NULL ? tl_preset_find(args->kv) : default_preset();
    if (args->model == NULL || args->file == NULL) {
        cli_error("fit: needs -m MODEL and -f TEXT");
        return 2;
    }
    if (fit.report.preset == NULL) {
        cli_error("fit: --kv: '%s' is not a preset", args->kv);
        return 2;
    }
    int code = open_files(&fit);
    code = code != 0 ? code : load_engine(&fit);
    code = code != 0 ? code : encode_text(&fit);
    code = code != 0 ? code : open_policies(&fit);
    code = code != 0 ? code : open_indexes(&fit);
    code = code != 0 ? code : open_session(&fit);
    code = code != 0 ? code : measure(&fit);
    code = code != 0 ? code : fill_report(&fit);
    code = code != 0 ? code : show(&fit);
    cli_new_file_drop(&fit.policy_file);
    cli_new_file_drop(&fit.plot_file);
    free(fit.report.layers);
    free(fit.policies);
    cli_fit_books_close(&fit.books);
    cli_fit_indexes_close(&fit.indexes);
    cli_policies_free(&fit.set);
    tl_ids_free(&fit.ids);
    tl_bytes_free(&fit.text);
    cli_unload(&fit.loaded);
    return code;
}
