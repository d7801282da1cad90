/* tailor run: one completion. The prompt goes in by prefill, or partly through decode steps
 * (--prefill N), which exercises the cache on known text; --logits writes what the model thought
 * behind every prompt token.
 *
 * With --session the timeline goes on from a file and is kept in it. What was not fed when the
 * program ended is kept too: the newest generated token, whose row no one needed yet, or the rest
 * of a prompt that Ctrl+C cut. It is fed first, in the way it would have been, so that the tokens
 * of two runs are those of one. */
#include "commands.h"
#include "generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
    const struct cli_args *args;
    struct cli_loaded loaded;
    tl_ids prompt;
    FILE *logits; /* NULL unless --logits */
    uint32_t n_vocab;
    struct cli_times times;
    struct cli_answer answer;
    struct tl_sampler_params sampler;
    uint32_t n_base;   /* tokens in the session before this run */
    tl_ids next;       /* owned: tokens of an earlier run that were not fed */
    bool next_sampled; /* they were generated: a decode step each */
    double prefill_ms;
    bool interrupted;
};

static int read_ids(struct run *run) {
    const int64_t n = cli_parse_list(run->args->ids, NULL, 0);
    if (n < 0) {
        cli_error("--ids: not a list of token ids");
        return 2;
    }
    run->prompt.data = calloc((size_t)n + 1, sizeof *run->prompt.data);
    if (run->prompt.data == NULL) {
        return cli_failed(&run->loaded.log, TL_ERR_MEMORY);
    }
    run->prompt.n = (size_t)cli_parse_list(run->args->ids, run->prompt.data, (size_t)n);
    run->prompt.cap = (size_t)n + 1;
    return 0;
}

static bool resumes(const struct run *run) { return run->loaded.keep.app != NULL; }

/* What an earlier run left to be fed. Returns an exit code. */
static int read_next(struct run *run) {
    const json_t *const app = run->loaded.keep.app;
    const json_t *const next = json_object_get(app, "next");
    run->n_base = tl_session_n(run->loaded.session);
    run->next_sampled = json_is_true(json_object_get(app, "sampled"));
    for (size_t i = 0; i < json_array_size(next); i++) {
        const json_int_t id = json_integer_value(json_array_get(next, i));
        if (id < 0 || id >= (json_int_t)run->n_vocab) {
            cli_error("%s: damaged: a token is not in the vocabulary", run->args->session);
            return 1;
        }
        if (tl_ids_add(&run->next, (uint32_t)id)) {
            return cli_failed(&run->loaded.log, TL_ERR_MEMORY);
        }
    }
    return 0;
}

static int read_prompt(struct run *run) {
    const struct cli_args *const a = run->args;
    tl_bytes file = {0};
    if (a->ids == NULL && a->file == NULL && a->prompt == NULL) {
        return 0; /* a session that goes on */
    }
    if (a->ids != NULL) {
        return read_ids(run);
    }
    if (a->file != NULL && !cli_read_file(a->file, &file)) {
        return 1;
    }
    const tl_str text = a->file != NULL ? (tl_str){file.data, file.len} : tl_str_from(a->prompt);
    const unsigned flags =
        (resumes(run) ? 0 : TL_ENCODE_BOS) | (a->special ? TL_ENCODE_SPECIAL : 0);
    const tl_err err =
        tl_vocab_encode(tl_engine_vocab(run->loaded.engine), text, flags, &run->prompt);
    tl_bytes_free(&file);
    return err ? cli_failed(&run->loaded.log, err) : 0;
}

/* The cases in which nothing may be fed: a prompt is refused with the numbers, never cut. */
static int check_prompt(const struct run *run) {
    const uint32_t n_ctx = tl_session_ctx(run->loaded.session);
    const size_t n_new = run->next.n + run->prompt.n;
    if (n_new == 0 && (!resumes(run) || tl_session_logits(run->loaded.session) == NULL)) {
        cli_error(resumes(run) ? "the session has nothing to go on from: give a prompt"
                               : "the prompt is empty");
        return 1;
    }
    if (run->n_base > 0 && n_new > n_ctx - run->n_base) {
        cli_error("the prompt is too long: %zu tokens beside the session's %u, the context holds "
                  "%u (see --ctx)",
                  n_new, run->n_base, n_ctx);
        return 1;
    }
    if (run->n_base == 0 && run->prompt.n > n_ctx) {
        cli_error("the prompt is too long: %zu tokens, the context holds %u (see --ctx)",
                  run->prompt.n, n_ctx);
        return 1;
    }
    return 0;
}

static bool write_logits(void *user, uint32_t pos, const float *logits) {
    (void)pos;
    struct run *const run = user;
    return fwrite(logits, sizeof *logits, run->n_vocab, run->logits) == run->n_vocab;
}

/* The tokens from `first` on, one decode step each. */
static tl_err step_through(struct run *run, const tl_ids *ids, size_t first, bool to_logits) {
    tl_session *const s = run->loaded.session;
    for (size_t i = first; i < ids->n && !cli_interrupted(); i++) {
        const uint64_t start = tl_now_ns();
        TL_TRY(tl_session_step(s, ids->data[i]));
        TL_TRY(cli_times_add(&run->times, tl_now_ns() - start));
        if (to_logits && !write_logits(run, (uint32_t)i, tl_session_logits(s))) {
            return TL_ERR_IO;
        }
    }
    return TL_OK;
}

static tl_err feed_prompt(struct run *run) {
    const size_t n_prefill = (size_t)tl_min_u64(run->args->n_prefill, run->prompt.n);
    const uint64_t start = tl_now_ns();
    size_t done = 0;
    if (run->next_sampled) {
        TL_TRY(step_through(run, &run->next, 0, false));
    } else if (run->next.n > 0) {
        TL_TRY(cli_feed(&run->loaded, run->next.data, run->next.n, NULL, NULL, &done));
    }
    if (n_prefill > 0 && !cli_interrupted()) {
        TL_TRY(cli_feed(&run->loaded, run->prompt.data, n_prefill,
                        run->logits != NULL ? write_logits : NULL, run, &done));
    }
    run->prefill_ms = (double)(tl_now_ns() - start) / 1e6;
    TL_TRY(step_through(run, &run->prompt, n_prefill, run->logits != NULL));
    run->interrupted =
        tl_session_n(run->loaded.session) < run->n_base + run->next.n + run->prompt.n;
    return TL_OK;
}

/* What this run leaves to the next: of all its tokens those whose rows are not in the cache. */
static json_t *left_json(const struct run *run) {
    const tl_ids *const lists[] = {&run->next, &run->prompt, &run->answer.ids};
    const size_t n_fed = tl_session_n(run->loaded.session) - run->n_base;
    json_t *const next = json_array();
    bool sampled = false;
    size_t at = 0;
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++) {
        for (size_t i = 0; i < lists[l]->n; i++, at++) {
            if (at >= n_fed) {
                const bool generated = l == 2 || (l == 0 && run->next_sampled);
                sampled = generated && (sampled || json_array_size(next) == 0);
                json_array_append_new(next, json_integer(lists[l]->data[i]));
            }
        }
    }
    json_t *const held = json_array();
    for (uint32_t i = 0; i < run->answer.n_held; i++) {
        json_array_append_new(held, json_integer(run->answer.held[i]));
    }
    return json_pack("{s:o,s:b,s:o}", "next", next, "sampled", sampled, "held", held);
}

/* Bytes of an unfinished code point, where nothing comes between. */
static void take_held(struct run *run) {
    const json_t *const held = json_object_get(run->loaded.keep.app, "held");
    run->answer.holds = run->loaded.keep.lock != NULL;
    if (run->prompt.n > 0 || json_array_size(held) >= sizeof run->answer.held) {
        return;
    }
    for (size_t i = 0; i < json_array_size(held); i++) {
        run->answer.held[run->answer.n_held++] =
            (uint8_t)json_integer_value(json_array_get(held, i));
    }
}

static tl_err save_session(struct run *run, const tl_sampler *sampler) {
    if (tl_session_n(run->loaded.session) < run->n_base) {
        return TL_OK; /* a prompt was cut and the cache could not go back: the file is better */
    }
    return cli_keep_save(&run->loaded.keep, run->loaded.session,
                         &(struct cli_keep_what){.args = run->args,
                                                 .kv = run->loaded.kv,
                                                 .params = &run->sampler,
                                                 .sampler = sampler,
                                                 .more = left_json(run)});
}

/* FNV-1a over the bytes of the newest logits: any drift shows in one word. */
static uint64_t hash_logits(const float *logits, uint32_t n) {
    const unsigned char *const bytes = (const unsigned char *)logits;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < (size_t)n * sizeof *logits; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

/* A layer's policy, knob by knob. */
static json_t *json_policy(const struct tl_policy *policy) {
    json_t *const object = json_object();
    for (size_t i = 0; tl_policy_knob(i) != NULL; i++) {
        char text[16];
        json_object_set_new(
            object, tl_policy_knob(i),
            json_string(tl_policy_get(policy, tl_policy_knob(i), text, sizeof text)));
    }
    return object;
}

static json_t *json_traffic(const struct tl_traffic *t) {
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I}", "host_to_device_bytes", (json_int_t)t->host_to_device_bytes,
        "device_to_host_bytes", (json_int_t)t->device_to_host_bytes, "rows_hit",
        (json_int_t)t->rows_hit, "rows_fetched", (json_int_t)t->rows_fetched, "channels_hit",
        (json_int_t)t->channels_hit, "channels_fetched", (json_int_t)t->channels_fetched);
}

/* NULL: not known. */
static const char *class_of(const struct run *run, uint32_t il, const struct tl_identity *found) {
    if (tl_engine_model(run->loaded.engine)->shape.windowed[il]) {
        return "window";
    }
    return found == NULL                                                ? NULL
           : found->score > tl_session_dense_above(run->loaded.session) ? "dense"
                                                                        : "sparse";
}

static json_t *json_gauge(const struct tl_gauge *g) {
    return g == NULL ? json_null()
                     : json_pack("{s:i,s:f,s:f,s:f,s:f,s:i,s:i}", "n", (int)g->n, "mass", g->mass,
                                 "error", g->error, "mass_mean", g->mass_mean, "error_mean",
                                 g->error_mean, "head", (int)g->head, "rows", (int)g->n_rows);
}

static json_t *json_layers(const struct run *run) {
    const struct tl_shape *const shape = &tl_engine_model(run->loaded.engine)->shape;
    json_t *const layers = json_array();
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        struct tl_policy policy;
        struct tl_kv_bytes b;
        tl_session_get_layer(run->loaded.session, il, &policy, &b);
        const struct tl_traffic traffic = tl_session_layer_traffic(run->loaded.session, il);
        const struct tl_identity *const found = tl_session_identity(run->loaded.session, il);
        json_array_append_new(
            layers,
            json_pack("{s:i,s:o,s:o,s:s?,s:o,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "layer", (int)il,
                      "policy", json_policy(&policy), "dense_score",
                      found != NULL ? json_real(found->score) : json_null(), "class",
                      class_of(run, il, found), "gauge",
                      json_gauge(tl_session_gauge(run->loaded.session, il)), "sliding_window",
                      (int)(shape->windowed[il] ? shape->window : 0), "window_bytes",
                      (json_int_t)b.window, "sketch_bytes", (json_int_t)b.sketch, "hot_bytes",
                      (json_int_t)b.hot, "index_bytes", (json_int_t)b.index, "kv_device_bytes",
                      (json_int_t)tl_kv_device_bytes(&b), "kv_host_bytes", (json_int_t)b.home_host,
                      "traffic", json_traffic(&traffic)));
    }
    return layers;
}

static json_t *json_decode_ms(const struct run *run) {
    if (run->times.n == 0) {
        return json_pack("{s:n,s:n,s:n}", "p50", "p95", "mean");
    }
    const struct cli_percentiles p = cli_times_summary(&run->times);
    return json_pack("{s:f,s:f,s:f}", "p50", p.p50_ms, "p95", p.p95_ms, "mean", p.mean_ms);
}

static json_t *json_memory(const struct run *run) {
    const struct tl_memory_plan *const m = tl_session_plan(run->loaded.session);
    struct tl_usage now, peak;
    tl_engine_usage(run->loaded.engine, &now, &peak);
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "weights_bytes", (json_int_t)m->weights,
                     "kv_device_bytes", (json_int_t)tl_kv_device_bytes(&m->kv), "kv_host_bytes",
                     (json_int_t)m->kv.home_host, "scratch_bytes",
                     (json_int_t)(m->scratch + m->stage), "peak_device_bytes",
                     (json_int_t)m->device, "peak_host_bytes", (json_int_t)m->host,
                     "allocated_device_bytes", (json_int_t)(peak.device + peak.wrapped),
                     "allocated_host_bytes", (json_int_t)peak.host);
}

static bool print_json(const struct run *run) {
    struct tl_dev_caps caps;
    tl_engine_caps(run->loaded.engine, &caps);
    json_t *const tokens = json_array();
    for (size_t i = 0; i < run->answer.ids.n; i++) {
        json_array_append_new(tokens, json_integer(run->answer.ids.data[i]));
    }
    const struct tl_traffic traffic = tl_session_traffic(run->loaded.session);
    char hash[17] = "";
    const float *const logits = tl_session_logits(run->loaded.session);
    if (logits != NULL) {
        snprintf(hash, sizeof hash, "%016llx",
                 (unsigned long long)hash_logits(logits, run->n_vocab));
    }
    return cli_print_json(json_pack(
        "{s:s#,s:o,s:I,s:I,s:I,s:s,s:f,s:o,s:s,s:s,s:s,s:o,s:I,s:I,s:I,s:o,s:o,s:s,s:o}", "text",
        run->answer.text.data != NULL ? run->answer.text.data : "", run->answer.text.len, "tokens",
        tokens, "resumed_tokens", (json_int_t)run->n_base, "prompt_tokens",
        (json_int_t)run->prompt.n, "generated_tokens", (json_int_t)run->answer.ids.n, "stop",
        cli_stop_name(run->answer.stop), "prefill_ms", run->prefill_ms, "decode_ms",
        json_decode_ms(run), "backend", tl_engine_backend(run->loaded.engine), "device", caps.name,
        "kernels", caps.kernels, "kv", cli_json_text(run->loaded.kv), "builtin_codebooks",
        (json_int_t)tl_session_builtin_books(run->loaded.session), "ctx",
        (json_int_t)tl_session_ctx(run->loaded.session), "seed", (json_int_t)run->sampler.seed,
        "memory", json_memory(run), "traffic", json_traffic(&traffic), "logits_hash", hash,
        "layers", json_layers(run)));
}

static int feed_and_generate(struct run *run) {
    run->answer = (struct cli_answer){.streams = !run->args->json,
                                      .ignore_end = run->args->ignore_eos,
                                      .n_max = run->args->n_predict,
                                      .times = &run->times};
    tl_sampler *sampler = NULL;
    take_held(run);
    run->sampler = cli_sampler_params(&run->loaded, run->args);
    tl_err err = tl_sampler_open(&sampler, &run->sampler, run->n_vocab);
    if (!err) {
        cli_restore_sampler(&run->loaded, &run->sampler, sampler);
        err = feed_prompt(run);
    }
    if (!err && !run->interrupted) {
        err = cli_generate(&run->loaded, sampler, &run->answer);
    }
    if (!err) {
        err = save_session(run, sampler);
    }
    tl_sampler_close(&sampler);
    if (err == TL_ERR_IO && ferror(stdout)) {
        return 1; /* main says so */
    }
    if (err == TL_ERR_IO && run->loaded.log.n_errors == 0) {
        cli_error("%s: writing failed: %s", run->args->logits, strerror(errno));
        return 1;
    }
    return err ? cli_failed(&run->loaded.log, err) : 0;
}

static int report(const struct run *run) {
    if (run->args->json) {
        if (!print_json(run)) {
            return 1;
        }
    } else if (cli_stdout_is_tty()) {
        putchar('\n');
    }
    if (run->answer.stop == CLI_STOP_CONTEXT) {
        cli_error("stopped: the context of %u tokens is full", tl_session_ctx(run->loaded.session));
    }
    return run->interrupted || run->answer.stop == CLI_STOP_INTERRUPT ? 130 : 0;
}

static bool is_same_file(const char *path, const struct stat *st) {
    struct stat other;
    return path != NULL && stat(path, &other) == 0 && other.st_dev == st->st_dev &&
           other.st_ino == st->st_ino;
}

/* Logits say nothing of themselves, so that any file could be older ones. But a model or a session
 * by a mistyped name, or what this run reads (the model is in use), is not written over. */
static bool may_write_logits(const struct cli_args *a) {
    static const char *const kept[] = {"GGUF", TL_SESSION_FILE_MAGIC};
    const char *const inputs[] = {a->model, a->file, a->kv, a->session};
    char head[sizeof TL_SESSION_FILE_MAGIC] = "";
    struct stat st;
    if (stat(a->logits, &st) != 0 || !S_ISREG(st.st_mode)) {
        return true;
    }
    bool may = true;
    FILE *const f = fopen(a->logits, "rb");
    const size_t n = f != NULL ? fread(head, 1, sizeof head - 1, f) : 0;
    if (f != NULL) {
        fclose(f);
    }
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        may = may && (n < strlen(kept[i]) || memcmp(head, kept[i], strlen(kept[i])) != 0);
    }
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        may = may && !is_same_file(inputs[i], &st);
    }
    if (!may) {
        cli_error("%s: there is a file of another kind, which is not overwritten", a->logits);
    }
    return may;
}

static int open_logits(struct run *run) {
    const char *const path = run->args->logits;
    if (path == NULL) {
        return 0;
    }
    if (!may_write_logits(run->args)) {
        return 1;
    }
    run->logits = fopen(path, "wb");
    if (run->logits == NULL) {
        cli_error("%s: %s", path, strerror(errno));
    }
    return run->logits != NULL ? 0 : 1;
}

static int run_loaded(struct run *run) {
    run->n_vocab = tl_engine_model(run->loaded.engine)->shape.n_vocab;
    int code = read_next(run);
    code = code != 0 ? code : read_prompt(run);
    code = code != 0 ? code : check_prompt(run);
    code = code != 0 ? code : open_logits(run);
    if (code == 0) {
        cli_interrupt_install();
        code = feed_and_generate(run);
    }
    if (run->logits != NULL && fclose(run->logits) != 0 && code == 0) {
        cli_error("%s: writing failed: %s", run->args->logits, strerror(errno));
        code = 1;
    }
    return code == 0 ? report(run) : code;
}

int cmd_run(const struct cli_args *args) {
    const int n_prompts = (args->prompt != NULL) + (args->file != NULL) + (args->ids != NULL);
    const bool goes_on = args->session != NULL && access(args->session, F_OK) == 0;
    if (args->model == NULL || n_prompts > 1 || (n_prompts == 0 && !goes_on)) {
        cli_error("run: needs -m MODEL and one of -p TEXT, -f FILE, --ids LIST");
        return 2;
    }
    struct run run = {.args = args};
    int code = cli_load(&run.loaded, args);
    if (code == 0) {
        if (!args->json && cli_stderr_is_tty()) {
            cli_print_plan(&run.loaded);
        } else if (!args->json) {
            cli_print_books(&run.loaded);
        }
        if (resumes(&run) && cli_stderr_is_tty()) {
            fprintf(stderr, "resumed %u tokens from %s\n", run.loaded.keep.n_resumed,
                    args->session);
        }
        code = run_loaded(&run);
        if (code == 0 && !args->json) {
            cli_say_fallback(&run.loaded, args);
        }
    }
    cli_answer_free(&run.answer);
    tl_ids_free(&run.prompt);
    tl_ids_free(&run.next);
    free(run.times.ns);
    cli_unload(&run.loaded);
    return code;
}
