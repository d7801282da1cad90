#include "load.h"

#include "policies.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const uint64_t show_after_ns = 300000000, show_every_ns = 100000000;

bool cli_bundled_model(char *path, size_t cap) {
    char exe[4096];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) {
        return false;
    }
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    static const char *const places[] = {"../share/tailor/demo.gguf", "../../models/demo.gguf"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const int len = snprintf(path, cap, "%s/%s", exe, places[i]);
        if (len > 0 && (size_t)len < cap && access(path, R_OK) == 0) {
            return true;
        }
    }
    return false;
}

int cli_session_params(const struct cli_args *args, struct tl_session_params *out) {
    /* Whoever runs or chats may look at the layers; measuring them costs a hundredth of a prompt
     * (the demo model, 7290 tokens: 18 of 1216 ms, 2026-11-22), gauging them 0.2 % of the steps. */
    if ((args->command & (CLI_RUN | CLI_CHAT)) != 0) {
        out->identify_rows = TL_LONG_ROWS;
        out->gauge_every = args->gauge;
    }
    if ((args->device_mem != NULL && !cli_parse_size(args->device_mem, &out->device_bytes)) ||
        (args->host_mem != NULL && !cli_parse_size(args->host_mem, &out->host_bytes))) {
        cli_error("--device-mem and --host-mem take a size such as 6GiB");
        return 2;
    }
    out->n_sessions = args->n_sessions;
    uint32_t window[2];
    if (args->window != NULL && cli_parse_list(args->window, window, 2) != 2) {
        cli_error("--window: '%s' is not two numbers S,R", args->window);
        return 2;
    }
    return 0;
}

static const char *kv_of(const struct cli_args *args, const struct tl_shape *shape) {
    return cli_kv(args, args->n_ctx != 0 ? args->n_ctx : shape->n_ctx_train, shape->head_dim);
}

/* The cache options as they were written, for sentences and to know them again. */
static tl_err spell_kv(const struct cli_args *args, const char *kv, tl_bytes *out) {
    char topk[16];
    out->len = 0;
    snprintf(topk, sizeof topk, "%u", args->topk);
    const char *const words[][2] = {{" --topk ", args->topk != CLI_UNSET ? topk : NULL},
                                    {" --window ", args->window},
                                    {" --kv-set ", args->kv_set}};
    TL_TRY(tl_bytes_add_str(out, kv));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i][1] != NULL) {
            TL_TRY(tl_bytes_add_str(out, words[i][0]));
            TL_TRY(tl_bytes_add_str(out, words[i][1]));
        }
    }
    return TL_OK;
}

/* The policies of a session that goes on: the file's where the options are those that it was begun
 * with, or none; else what the options make of them, which the session will compare with the
 * file's. A session that was to find its dense layers may have found them: then only the file
 * knows. */
static tl_err read_kept_policies(const struct cli_loaded *loaded, const struct cli_args *args,
                                 struct tl_policies *set, const tl_log *log) {
    const struct tl_session_info info = tl_session_file_info(loaded->keep.file);
    if (args->kv != NULL) {
        TL_TRY(cli_read_policies(args->kv, tl_engine_weights(loaded->engine), set, log));
    }
    const bool fixed_file =
        args->kv != NULL && tl_preset_find(args->kv) == NULL && !set->finds_dense;
    const bool same = strcmp(loaded->keep.kv_words.data, info.kv) == 0 && !fixed_file;
    if (same || args->kv == NULL) {
        memcpy(set->layers, info.policies, set->n_layers * sizeof *set->layers);
        set->finds_dense = info.dense != NULL;
        set->dense = info.dense != NULL ? *info.dense : (struct tl_policy){0};
        set->has_dense = set->finds_dense;
    }
    return same ? TL_OK : cli_apply_knobs(args, set, log);
}

static tl_err open_with_policies(struct cli_loaded *loaded, const struct tl_session_params *params,
                                 const struct tl_policies *set, double dense_above) {
    struct tl_session_params with_policies = *params;
    with_policies.policies = set->layers;
    with_policies.books = set->books;
    with_policies.dense = set->finds_dense ? &set->dense : NULL;
    with_policies.dense_above = dense_above;
    return tl_session_open(&loaded->session, loaded->engine, &with_policies);
}

/* The session of --session's file. */
static tl_err resume_session(struct cli_loaded *loaded, const struct cli_args *args,
                             const struct tl_session_params *params) {
    const tl_log log = cli_log_of(&loaded->log);
    struct cli_keep *const keep = &loaded->keep;
    const struct tl_session_info info = tl_session_file_info(keep->file);
    if (!tl_session_file_fits(keep->file, loaded->engine)) {
        return TL_ERR_FORMAT;
    }
    loaded->kv = args->kv != NULL ? args->kv : cli_keep_kv(keep);
    TL_TRY(cli_has_kv_options(args) ? spell_kv(args, loaded->kv, &keep->kv_words)
                                    : tl_bytes_add_str(&keep->kv_words, info.kv));
    struct tl_policies set = {.n_layers = info.n_layers};
    set.layers = calloc(set.n_layers, sizeof *set.layers);
    tl_err err = set.layers != NULL ? read_kept_policies(loaded, args, &set, &log) : TL_ERR_MEMORY;
    if (!err) {
        err = open_with_policies(loaded, params, &set, info.dense_above);
    }
    if (!err) {
        err = tl_session_resume(loaded->session, keep->file, keep->kv_words.data);
    }
    cli_policies_free(&set);
    keep->n_resumed = info.n_rows;
    return err;
}

static tl_err begin_session(struct cli_loaded *loaded, const struct cli_args *args,
                            const struct tl_session_params *params) {
    if (loaded->keep.file != NULL) {
        const tl_err err = resume_session(loaded, args, params);
        tl_session_file_close(&loaded->keep.file);
        return err;
    }
    return cli_open_session(loaded, args, kv_of(args, &tl_engine_model(loaded->engine)->shape),
                            params);
}

tl_err cli_open_session(struct cli_loaded *loaded, const struct cli_args *args, const char *kv,
                        const struct tl_session_params *params) {
    const tl_log log = cli_log_of(&loaded->log);
    const uint32_t n_layers = tl_engine_model(loaded->engine)->shape.n_layers;
    struct tl_policies set;
    loaded->kv = kv;
    TL_TRY(cli_policies(args, kv, n_layers, tl_engine_weights(loaded->engine), &set, &log));
    const double above = args->tau > 0 ? (double)args->tau : 1e-9; /* 0: every layer */
    tl_err err = open_with_policies(loaded, params, &set, above);
    if (!err) {
        err = spell_kv(args, loaded->kv, &loaded->keep.kv_words);
    }
    cli_policies_free(&set);
    if (!err) {
        cli_share_session(loaded->share, loaded->engine, loaded->session, loaded->kv);
    }
    return err;
}

const char *cli_cache_dir(char *path, size_t cap) {
    const char *const xdg = getenv("XDG_CACHE_HOME"), *const home = getenv("HOME");
    const bool has_xdg = xdg != NULL && xdg[0] == '/';
    if (!has_xdg && (home == NULL || home[0] != '/')) {
        return NULL;
    }
    const int n = has_xdg ? snprintf(path, cap, "%s/tailor", xdg)
                          : snprintf(path, cap, "%s/.cache/tailor", home);
    return n > 0 && (size_t)n < cap ? path : NULL;
}

static void open_share(struct cli_loaded *out, unsigned command) {
    const char *const name = command == CLI_CHAT    ? "chat"
                             : command == CLI_RUN   ? "run"
                             : command == CLI_BENCH ? "bench"
                             : command == CLI_EVAL  ? "eval"
                             : command == CLI_FIT   ? "fit"
                                                    : "tailor";
    if (out->share == NULL) {
        cli_share_open(&out->share, name);
        out->owns_share = true;
    }
}

/* What is about to be loaded, and for whom. */
struct loading {
    struct cli_loaded *loaded;
    const struct cli_args *args;
    const struct tl_session_params *session;
    uint64_t begin_ns,
        shown_ns; /* of the weights; shown_ns: their progress was written; 0: never */
};

/* Tests only: no faster than so many MB a second, as from a slow disk. */
static void hold_back(const struct loading *l, uint64_t done_bytes) {
    const char *const limit = getenv("TAILOR_TEST_LOAD");
    const double bytes_s = limit != NULL ? 1e6 * strtod(limit, NULL) : 0;
    const double taken_s = (double)(tl_now_ns() - l->begin_ns) / 1e9;
    const double early_s = bytes_s > 0 ? (double)done_bytes / bytes_s - taken_s : 0;
    if (early_s > 0) {
        const struct timespec left = {(time_t)early_s, (long)(1e9 * (early_s - floor(early_s)))};
        nanosleep(&left, NULL);
    }
}

/* Who types lines sees how far a slow loading is; the full screen reads it from the shared page. */
static void show_load(void *user, uint64_t done_bytes, uint64_t bytes) {
    struct loading *const l = user;
    const uint64_t now = tl_now_ns();
    cli_share_load(l->loaded->share, done_bytes, bytes);
    l->begin_ns = done_bytes == 0 ? now : l->begin_ns;
    hold_back(l, done_bytes);
    const uint64_t last_ns = l->shown_ns != 0 ? l->shown_ns : l->begin_ns + show_after_ns;
    if (l->loaded->hooks != NULL || !cli_stderr_is_tty() || now < last_ns + show_every_ns) {
        return;
    }
    char text[3][16];
    const double rate = (double)done_bytes * 1e9 / (double)(now - l->begin_ns);
    l->shown_ns = now;
    fprintf(stderr, "\r\033[Kloading %s of %s, %s/s, %.0f s left", cli_bytes(done_bytes, text[0]),
            cli_bytes(bytes, text[1]), cli_bytes((uint64_t)rate, text[2]),
            (double)(bytes - done_bytes) / (rate + 1));
}

/* Before weights go anywhere: does the session fit that will be opened on them? What is worth
 * saying of a plan that does is said when that happens. */
static tl_err check_plan(void *user, const tl_weights *weights, const struct tl_shape *shape,
                         const struct tl_dev_caps *caps) {
    const struct loading *const l = user;
    const tl_log log = cli_log_of(&l->loaded->log);
    struct tl_policies set;
    TL_TRY(cli_policies(l->args, kv_of(l->args, shape), shape->n_layers, weights, &set, &log));
    struct tl_plan_params plan = {.n_ctx = l->args->n_ctx,
                                  .policies = set.layers,
                                  .dense = set.finds_dense ? &set.dense : NULL,
                                  .weight_bytes = shape->weight_bytes,
                                  .far = !caps->unified,
                                  .no_codebooks = !caps->codebooks,
                                  .n_sessions = l->session->n_sessions,
                                  .identify = set.finds_dense || l->session->identify_rows > 0};
    const struct tl_budget budget =
        tl_budget_of(caps, l->session->device_bytes, l->session->host_bytes);
    const bool quiet = l->loaded->log.quiet;
    l->loaded->log.quiet = true;
    const tl_err err = tl_plan_settle(shape, &plan, &budget, &log);
    l->loaded->log.quiet = quiet;
    cli_policies_free(&set);
    return err;
}

int cli_load(struct cli_loaded *out, const struct cli_args *args) {
    *out = (struct cli_loaded){
        .log = {.strict = args->strict}, .hooks = out->hooks, .share = out->share};
    if (args->model == NULL) {
        cli_error("a model is missing: -m FILE");
        return 2;
    }
    struct tl_session_params session = {0};
    const int usage = cli_session_params(args, &session);
    if (usage != 0) {
        return usage;
    }
    char cache_dir[4096];
    open_share(out, args->command);
    struct tl_engine_params params = {.model_path = args->model,
                                      .backend = args->backend,
                                      .device = args->device,
                                      .n_threads = args->n_threads,
                                      .n_ctx = args->n_ctx,
                                      .cache_dir = cli_cache_dir(cache_dir, sizeof cache_dir),
                                      .debug = getenv("TAILOR_TEST_DEVICE"),
                                      .log = cli_log_of(&out->log)};
    tl_err err = cli_keep_open(&out->keep, args, &params.log);
    struct loading loading = {out, args, &session, 0, 0};
    params.on_load = show_load;
    params.user = &loading;
    if (!err && out->keep.file == NULL) {
        params.before_load = check_plan;
    } else if (!err && params.n_ctx == 0) {
        params.n_ctx = tl_session_file_info(out->keep.file).n_ctx;
    }
    if (!err) {
        err = tl_engine_open(&out->engine, &params);
    }
    if (loading.shown_ns != 0) {
        fprintf(stderr, "\r\033[K");
    }
    if (!err) {
        err = begin_session(out, args, &session);
    }
    if (err || cli_strict_failed(&out->log)) {
        cli_unload(out);
        return err ? cli_failed(&out->log, err) : 1;
    }
    cli_share_session(out->share, out->engine, out->session, out->kv);
    return 0;
}

void cli_unload(struct cli_loaded *loaded) {
    tl_session_close(&loaded->session);
    tl_engine_close(&loaded->engine);
    cli_keep_close(&loaded->keep);
    if (loaded->owns_share) {
        cli_share_close(&loaded->share);
    }
    loaded->share = NULL;
    loaded->owns_share = false;
}

const char *cli_bytes(uint64_t bytes, char *text) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 16, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

const char *cli_spell_books(const struct cli_loaded *loaded, char text[CLI_BOOKS_MAX]) {
    const uint32_t n = tl_session_builtin_books(loaded->session);
    text[0] = '\0';
    if (n > 0) {
        snprintf(text, CLI_BOOKS_MAX,
                 "codebooks: built in, for %u of %u layers (tailor fit learns those of the model)",
                 n, tl_engine_model(loaded->engine)->shape.n_layers);
    }
    return text;
}

void cli_print_books(const struct cli_loaded *loaded) {
    char text[CLI_BOOKS_MAX];
    if (cli_spell_books(loaded, text)[0] != '\0') {
        fprintf(stderr, "tailor: %s\n", text);
    }
}

tl_err cli_spell_plan(const struct cli_loaded *loaded, tl_bytes *out) {
    const struct tl_shape *const shape = &tl_engine_model(loaded->engine)->shape;
    const struct tl_memory_plan *const m = tl_session_plan(loaded->session);
    struct tl_dev_caps caps;
    tl_engine_caps(loaded->engine, &caps);
    char bytes[6][16], text[1024];
    snprintf(text, sizeof text,
             "%s (%s) on %s: %s, kernels %s\n"
             "context %u tokens, cache %s: %s on the device, %s in host memory\n"
             "weights %s, scratch %s; a full prompt takes %s on the device, %s on the host\n",
             shape->name[0] != '\0' ? shape->name : "unnamed model", shape->family->name,
             tl_engine_backend(loaded->engine), caps.name, caps.kernels,
             tl_session_ctx(loaded->session), loaded->kv,
             cli_bytes(tl_kv_device_bytes(&m->kv), bytes[0]), cli_bytes(m->kv.home_host, bytes[1]),
             cli_bytes(m->weights, bytes[2]), cli_bytes(m->scratch, bytes[3]),
             cli_bytes(m->device, bytes[4]), cli_bytes(m->host, bytes[5]));
    TL_TRY(tl_bytes_add_str(out, text));
    char books[CLI_BOOKS_MAX];
    if (cli_spell_books(loaded, books)[0] != '\0') {
        TL_TRY(tl_bytes_add_str(out, books));
        TL_TRY(tl_bytes_add_str(out, "\n"));
    }
    return TL_OK;
}

void cli_print_plan(const struct cli_loaded *loaded) {
    tl_bytes text = {0};
    if (cli_spell_plan(loaded, &text) == TL_OK) {
        fputs(text.data, stderr);
    }
    tl_bytes_free(&text);
}

void cli_say_fallback(const struct cli_loaded *loaded, const struct cli_args *args) {
    const bool automatic = args->backend == NULL || strcmp(args->backend, "auto") == 0;
    char names[64] = "";
    for (size_t i = 0; tl_backends[i] != NULL && strcmp(tl_backends[i]->name, "cpu") != 0; i++) {
        const size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n > 0 ? ", " : "", tl_backends[i]->name);
    }
    if (automatic && names[0] != '\0' && !cli_stderr_is_tty() &&
        strcmp(tl_engine_backend(loaded->engine), "cpu") == 0) {
        fprintf(stderr, "tailor: %s: no hardware device here, the CPU computes\n", names);
    }
}

struct tl_sampler_params cli_sampler_params(const struct cli_loaded *loaded,
                                            const struct cli_args *args) {
    struct tl_sampler_params p = {.repeat_penalty = 1,
                                  .repeat_last = 64,
                                  .top_k = 40,
                                  .top_p = 0.95f,
                                  .min_p = 0.05f,
                                  .temp = 0.8f};
    if (getrandom(&p.seed, sizeof p.seed, 0) != sizeof p.seed) {
        p.seed = tl_now_ns();
    }
    p.seed >>= 12; /* short enough for JSON's numbers */
    cli_keep_sampler(&loaded->keep, &p);
    p.repeat_penalty =
        args->repeat_penalty != CLI_UNSET_FLOAT ? args->repeat_penalty : p.repeat_penalty;
    p.repeat_last = args->repeat_last != CLI_UNSET ? args->repeat_last : p.repeat_last;
    p.top_k = args->top_k != CLI_UNSET ? args->top_k : p.top_k;
    p.top_p = args->top_p != CLI_UNSET_FLOAT ? args->top_p : p.top_p;
    p.min_p = args->min_p != CLI_UNSET_FLOAT ? args->min_p : p.min_p;
    p.temp = args->temp != CLI_UNSET_FLOAT ? args->temp : p.temp;
    p.seed = args->has_seed ? args->seed : p.seed;
    return p;
}

void cli_restore_sampler(const struct cli_loaded *loaded, const struct tl_sampler_params *params,
                         tl_sampler *sampler) {
    struct tl_sampler_params kept = *params;
    uint64_t state = 0;
    if (cli_keep_sampler(&loaded->keep, &kept) && kept.seed == params->seed &&
        cli_keep_sampler_state(&loaded->keep, &state)) {
        tl_sampler_set_state(sampler, state);
    }
}
