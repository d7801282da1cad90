/* tailor eval: the quality of cache presets side by side. Preset by preset, each with one session
 * for all its tasks; kld last, with all presets beside the exact cache at once. What was measured
 * is shown even when the run is interrupted or fails. */
#include "commands.h"
#include "eval_measure.h"
#include "policies.h"

#include "core/codec.h"
#include "core/policy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { N_CTX_DEFAULT = 4096, N_SAMPLES_DEFAULT = 5, NAMES_MAX = 64 };

struct command {
    struct cli_eval eval;
    char presets[1024], tasks[1024]; /* as given, cut up */
    const char *names[NAMES_MAX];    /* of tasks; ppl and kld apart */
    uint32_t n_names;
    bool ppl, kld;
};

/* "a,b" cut up in place; the count, or -1 where there are none or more than cap. */
static int cut_list(char *list, const char **out, uint32_t cap) {
    uint32_t n = 0;
    char *rest = list;
    for (char *name; (name = strtok_r(rest, ",", &rest)) != NULL;) {
        if (n == cap) {
            return -1;
        }
        out[n++] = name;
    }
    return n > 0 ? (int)n : -1;
}

/* ---- what is asked for, without a model ---- */

static void say_unknown(const struct cli_eval *e, const char *asked) {
    char names[512] = "";
    if (e->args->tasks_file != NULL) {
        cli_error("--task: no '%s' in %s", asked, e->args->tasks_file);
        return;
    }
    for (size_t i = 0; cli_task_kind_name(i) != NULL; i++) {
        const size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, ", %s", cli_task_kind_name(i));
    }
    cli_error("--task: '%s' is none of all, ppl, kld%s", asked, names);
}

static void print_kinds(void) {
    puts("--task: all, ppl, kld, or tasks by name:");
    for (size_t i = 0; cli_task_kind_name(i) != NULL; i++) {
        printf("  %s\n", cli_task_kind_name(i));
    }
}

static bool is_file_task(const struct cli_eval *e, const char *name) {
    for (size_t i = 0; i < e->n_tasks; i++) {
        if (strcmp(e->tasks[i].name.data, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds a task's name once. */
static bool add_name(struct command *c, const char *name) {
    for (uint32_t i = 0; i < c->n_names; i++) {
        if (strcmp(c->names[i], name) == 0) {
            return true;
        }
    }
    if (c->n_names == NAMES_MAX) {
        cli_error("--task: more than %d", NAMES_MAX);
        return false;
    }
    c->names[c->n_names++] = name;
    return true;
}

/* Every kind, or every name in the file. */
static bool add_all(struct command *c) {
    bool ok = true;
    if (c->eval.args->tasks_file != NULL) {
        for (size_t i = 0; i < c->eval.n_tasks && ok; i++) {
            ok = add_name(c, c->eval.tasks[i].name.data);
        }
        return ok;
    }
    for (size_t i = 0; cli_task_kind_name(i) != NULL && ok; i++) {
        const char *const name = cli_task_kind_name(i);
        const bool again = strcmp(name, "vt4") == 0 || strcmp(name, "niah_single") == 0;
        ok = again || add_name(c, name); /* those are other names */
    }
    return ok;
}

static bool parse_tasks(struct command *c) {
    const struct cli_args *const a = c->eval.args;
    const char *asked[NAMES_MAX];
    const int len = snprintf(c->tasks, sizeof c->tasks, "%s", a->tasks != NULL ? a->tasks : "all");
    const int n = cut_list(c->tasks, asked, NAMES_MAX);
    if (n < 0 || (size_t)len >= sizeof c->tasks) {
        cli_error("--task: needs between 1 and %d names", NAMES_MAX);
        return false;
    }
    for (int i = 0; i < n; i++) {
        const char *const name = asked[i];
        const bool is_ppl = strcmp(name, "ppl") == 0, is_kld = strcmp(name, "kld") == 0;
        c->ppl = c->ppl || is_ppl;
        c->kld = c->kld || is_kld;
        if (is_ppl || is_kld) {
            continue;
        }
        if (strcmp(name, "all") == 0) {
            if (!add_all(c)) {
                return false;
            }
        } else if (a->tasks_file != NULL ? !is_file_task(&c->eval, name)
                                         : cli_task_kind_find(name) == NULL) {
            say_unknown(&c->eval, name);
            return false;
        } else if (!add_name(c, name)) {
            return false;
        }
    }
    return true;
}

static bool parse_lists(struct command *c) {
    const struct cli_args *const a = c->eval.args;
    struct cli_eval_report *const report = &c->eval.report;
    snprintf(c->presets, sizeof c->presets, "%s", a->kv != NULL ? a->kv : "full,tailor");
    const int n_presets = cut_list(c->presets, report->presets, CLI_PRESETS_MAX);
    if (n_presets < 0 || (a->kv != NULL && strlen(a->kv) >= sizeof c->presets)) {
        cli_error("--kv: needs between 1 and %d presets", CLI_PRESETS_MAX);
        return false;
    }
    report->n_presets = (uint32_t)n_presets;
    for (int i = 0; i < n_presets; i++) { /* the last one must not fail behind all the others */
        if (!cli_kv_exists(report->presets[i])) {
            return false;
        }
    }
    c->eval.ctxs[0] = N_CTX_DEFAULT;
    c->eval.n_ctxs = 1;
    if (a->ctxs != NULL) {
        const int64_t n = cli_parse_list(a->ctxs, c->eval.ctxs, CLI_CTXS_MAX);
        c->eval.n_ctxs = n > 0 ? (uint32_t)n : 0;
    }
    for (uint32_t i = 0; i < c->eval.n_ctxs; i++) {
        c->eval.n_ctxs = c->eval.ctxs[i] > 0 ? c->eval.n_ctxs : 0;
    }
    if (c->eval.n_ctxs == 0) {
        cli_error("--ctx: '%s' is not a list of at most %d numbers", a->ctxs, CLI_CTXS_MAX);
        return false;
    }
    return true;
}

/* How many samples of a task, or windows, there can be at once. */
static uint32_t n_samples_most(const struct command *c) {
    const struct cli_eval *const e = &c->eval;
    uint64_t most = c->ppl ? e->n_windows : 1;
    if (c->n_names > 0) {
        const uint64_t n = e->args->tasks_file == NULL ? e->n_samples : e->n_tasks;
        most = tl_max_u64(most, e->args->n_samples != 0 ? tl_min_u64(n, e->args->n_samples) : n);
    }
    return (uint32_t)tl_min_u64(most, TL_BATCH_MAX);
}

static bool parse_parallel(struct command *c) {
    struct cli_eval *const e = &c->eval;
    uint32_t asked = 1;
    if (e->args->parallel != NULL && cli_parse_parallel(e->args->parallel, &asked, 1) == 0) {
        return false;
    }
    if (asked > 1 && c->n_names == 0 && !c->ppl) {
        cli_error("eval: --parallel is for tasks and ppl, not for kld");
        return false;
    }
    e->n_parallel = (uint32_t)tl_min_u64(asked, n_samples_most(c));
    if (e->n_parallel < asked) {
        cli_error("--parallel: %u at once, but there are %u samples (see --samples)", asked,
                  e->n_parallel);
    }
    return e->n_parallel == asked;
}

static bool read_text(struct cli_eval *e) {
    const char *const path = e->args->text;
    if (path == NULL) {
        return true;
    }
    if (!cli_read_file(path, &e->text)) {
        return false;
    }
    const tl_err err = cli_filler_open(&e->filler, (tl_str){e->text.data, e->text.len});
    if (err) {
        cli_error("%s: %s", path, err == TL_ERR_MEMORY ? "out of memory" : "no words in it");
    }
    return !err;
}

/* Adds a task of the file; `where` says which for the sentence. */
static bool add_task(struct cli_eval *e, const json_t *object, const char *where, size_t number) {
    const char *const path = e->args->tasks_file;
    const char *const slash = strrchr(path, '/');
    char name[256];
    tl_text_copy(name, sizeof name, tl_str_from(slash != NULL ? slash + 1 : path));
    name[strcspn(name, ".")] = '\0';
    struct cli_task *const grown = realloc(e->tasks, (e->n_tasks + 1) * sizeof *grown);
    if (grown != NULL) {
        e->tasks = grown;
    }
    if (grown == NULL || cli_task_read(&e->tasks[e->n_tasks], object, name)) {
        cli_error("%s: %s %zu: not an object with task, input, outputs and match", path, where,
                  number);
        return false;
    }
    e->n_tasks++;
    return true;
}

/* A line of JSON for each task. */
static bool read_lines(struct cli_eval *e, const tl_bytes *file) {
    bool ok = true;
    size_t number = 1;
    for (size_t at = 0; at < file->len && ok; number++) {
        const char *const end = memchr(file->data + at, '\n', file->len - at);
        const size_t n = end != NULL ? (size_t)(end - (file->data + at)) : file->len - at;
        if (n > 0) {
            json_t *const object = json_loadb(file->data + at, n, 0, NULL);
            ok = add_task(e, object, "line", number);
            json_decref(object);
        }
        at += n + 1;
    }
    return ok;
}

/* One JSON value: a list of tasks, or a task. */
static bool read_value(struct cli_eval *e, const json_t *value) {
    bool ok = true;
    for (size_t i = 0; i < json_array_size(value) && ok; i++) {
        ok = add_task(e, json_array_get(value, i), "task", i + 1);
    }
    return json_is_array(value) ? ok : add_task(e, value, "line", 1);
}

static bool read_tasks(struct cli_eval *e) {
    tl_bytes file = {0};
    if (e->args->tasks_file == NULL) {
        return true;
    }
    if (!cli_read_file(e->args->tasks_file, &file)) {
        return false;
    }
    json_t *const whole = file.len > 0 ? json_loadb(file.data, file.len, 0, NULL) : NULL;
    const bool ok = whole != NULL ? read_value(e, whole) : read_lines(e, &file);
    json_decref(whole);
    tl_bytes_free(&file);
    if (ok && e->n_tasks == 0) {
        cli_error("%s: no tasks in it", e->args->tasks_file);
    }
    return ok && e->n_tasks > 0;
}

/* ---- measuring ---- */

static tl_err open_talk(struct cli_eval *e) {
    const tl_weights *const weights = tl_engine_weights(e->loaded.engine);
    e->talk = (struct cli_conversation){.vocab = tl_engine_vocab(e->loaded.engine),
                                        .log = *tl_weights_log(weights)};
    return e->args->raw ? TL_OK
                        : tl_meta_get_str(weights, "tokenizer.chat_template", TL_OPTIONAL,
                                          &e->talk.template_text);
}

/* The largest context below n_ctx, or 0: where a file's tasks that fit that one are left out. */
static uint32_t ctx_below(const struct cli_eval *e, uint32_t n_ctx) {
    uint32_t below = 0;
    for (uint32_t i = 0; i < e->n_ctxs; i++) {
        below = e->ctxs[i] < n_ctx && e->ctxs[i] > below ? e->ctxs[i] : below;
    }
    return below;
}

/* A file's tasks that fit no context must not just be missing. */
static tl_err warn_if_missing(struct cli_eval *e, const char *name) {
    uint64_t n = 0;
    for (size_t i = 0; i < e->report.n_lines; i++) {
        if (strcmp(e->report.lines[i].task, name) == 0) {
            return TL_OK;
        }
    }
    TL_TRY(cli_eval_shortest(e, name, &n));
    const tl_log *const log = tl_weights_log(tl_engine_weights(e->loaded.engine));
    tl_say(log, TL_LEVEL_WARN,
           "%s: none of its tasks fits %u tokens, the shortest takes %" PRIu64 " (see --ctx)", name,
           cli_eval_n_ctx(e), n);
    return TL_OK;
}

static tl_err measure_preset(struct command *c, uint32_t preset) {
    struct cli_eval *const e = &c->eval;
    for (uint32_t t = 0; t < c->n_names; t++) {
        for (uint32_t i = 0; i < e->n_ctxs && !cli_interrupted(); i++) {
            const uint32_t n_ctx = e->ctxs[i];
            if (e->args->tasks_file != NULL) {
                TL_TRY(cli_eval_file_task(e, preset, c->names[t], n_ctx, ctx_below(e, n_ctx)));
            } else {
                TL_TRY(cli_eval_task(e, preset, c->names[t], n_ctx));
            }
        }
        if (preset == 0 && !cli_interrupted()) {
            TL_TRY(warn_if_missing(e, c->names[t]));
        }
    }
    for (uint32_t i = 0; i < e->n_ctxs && c->ppl && !cli_interrupted(); i++) {
        TL_TRY(cli_eval_ppl(e, preset, e->ctxs[i]));
    }
    return TL_OK;
}

/* The session of the first preset is open already. */
static tl_err measure_all(struct command *c) {
    struct cli_eval *const e = &c->eval;
    const bool alone = c->n_names > 0 || c->ppl;
    TL_TRY(open_talk(e));
    for (uint32_t i = 0; i < e->report.n_presets && alone && !cli_interrupted(); i++) {
        const struct tl_session_params params = cli_eval_session_params(e);
        tl_err err = cli_sequences_open(&e->sequences, &e->loaded, e->args, e->report.presets[i],
                                        &params, e->n_parallel);
        err = err ? err : measure_preset(c, i);
        cli_sequences_close(&e->sequences);
        tl_session_close(&e->loaded.session);
        TL_TRY(err);
    }
    tl_session_close(&e->loaded.session);
    return c->kld && !cli_interrupted() ? cli_eval_kld(e) : TL_OK;
}

/* ---- showing ---- */

static bool print_json(const struct cli_eval *e) {
    struct tl_dev_caps caps;
    tl_engine_caps(e->loaded.engine, &caps);
    return cli_print_json(json_pack(
        "{s:o,s:s,s:s,s:s,s:I,s:b,s:b,s:o}", "model", cli_json_text(e->args->model), "backend",
        tl_engine_backend(e->loaded.engine), "device", caps.name, "kernels", caps.kernels, "seed",
        (json_int_t)e->seed, "chat_template", e->talk.template_text.len > 0, "interrupted",
        cli_interrupted(), "results", cli_eval_report_json(&e->report)));
}

static bool write_plot(struct cli_eval *e) {
    const char *const slash = strrchr(e->args->model, '/');
    tl_bytes svg = {0};
    bool ok =
        cli_eval_report_svg(&e->report, slash != NULL ? slash + 1 : e->args->model, &svg) == 0;
    if (ok) {
        ok = cli_new_file_finish(&e->plot_file, svg.data, svg.len);
    } else {
        cli_error("%s: out of memory", e->args->plot);
    }
    tl_bytes_free(&svg);
    return ok;
}

static int show_results(struct cli_eval *e, tl_err err) {
    if (cli_stderr_is_tty()) {
        fputs("\r\033[K", stderr);
    }
    bool ok = true;
    if (e->args->json) {
        ok = err || print_json(e);
    } else if (e->report.n_lines > 0) {
        cli_eval_report_table(&e->report, stdout);
    }
    if (!err && e->plot_file.f != NULL) {
        ok = write_plot(e) && ok;
    }
    if (err) {
        return cli_failed(&e->loaded.log, err);
    }
    /* What was not measured is said; that nothing was is no success. */
    ok = ok && e->report.n_lines > 0;
    return cli_interrupted() ? 130 : ok ? 0 : 1;
}

static int run(struct command *c) {
    struct cli_eval *const e = &c->eval;
    struct cli_args sized = *e->args;
    sized.kv = e->report.presets[0];
    sized.n_ctx = cli_eval_n_ctx(e);
    sized.n_sessions = e->n_parallel > 1 ? e->n_parallel : 0;
    const int code = cli_load(&e->loaded, &sized);
    if (code != 0) {
        return code;
    }
    const uint32_t head_dim = tl_engine_model(e->loaded.engine)->shape.head_dim;
    if (e->args->kv == NULL && !tl_codec_fits(head_dim)) {
        e->report.n_presets = 1; /* of "full,tailor" */
    }
    if (!e->args->json && cli_stderr_is_tty()) {
        cli_print_plan(&e->loaded);
    }
    cli_interrupt_install();
    const tl_err err = measure_all(c);
    const int shown = show_results(e, err);
    cli_conversation_close(&e->talk);
    cli_unload(&e->loaded);
    return shown;
}

int cmd_eval(const struct cli_args *args) {
    struct command c = {
        .eval = {.args = args,
                 .n_samples = args->n_samples != 0 ? args->n_samples : N_SAMPLES_DEFAULT,
                 .n_windows = args->n_samples != 0 ? args->n_samples : 1,
                 .seed = args->has_seed ? args->seed : 1}};
    struct cli_eval *const e = &c.eval;
    if (args->tasks != NULL && strcmp(args->tasks, "help") == 0 && args->tasks_file == NULL) {
        print_kinds();
        return 0;
    }
    if (args->model == NULL || (args->tasks == NULL && args->tasks_file == NULL)) {
        cli_error("eval: needs -m MODEL and --task LIST or --tasks-file FILE");
        return 2;
    }
    int code = parse_lists(&c) ? 0 : 2;
    if (code == 0) {
        code = read_text(e) && read_tasks(e) ? 0 : 1;
    }
    if (code == 0) {
        code = parse_tasks(&c) && parse_parallel(&c) ? 0 : 2;
    }
    if (code == 0 && args->plot != NULL) {
        code = cli_new_file_open(&e->plot_file, args->plot, "<svg") ? 0 : 1;
    }
    if (code == 0) {
        code = run(&c);
    }
    for (size_t i = 0; i < e->n_tasks; i++) {
        cli_task_free(&e->tasks[i]);
    }
    free(e->tasks);
    cli_new_file_drop(&e->plot_file);
    cli_eval_report_free(&e->report);
    cli_filler_close(&e->filler);
    tl_bytes_free(&e->text);
    return code;
}
