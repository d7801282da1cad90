/* How the cache gets to act: all but the last token of a task's prompt go in by prefill, which is
 * exact, and the last one through a decode step like those of the answer, so even the answer's
 * first token comes out of the cache under test. Of a text, a first part goes in by prefill and the
 * rest is teacher-forced through decode steps; only what follows those steps is judged. */
#include "eval_measure.h"

#include "eval_score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint32_t cli_eval_n_ctx(const struct cli_eval *e) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_ctxs; i++) {
        n = (uint32_t)tl_max_u64(n, e->ctxs[i]);
    }
    return n;
}

/* The sizes were read once already, by cli_load. */
struct tl_session_params cli_eval_session_params(const struct cli_eval *e) {
    struct tl_session_params params = {.n_ctx = cli_eval_n_ctx(e)};
    const int usage = cli_session_params(e->args, &params);
    TL_ASSERT(usage == 0);
    return params;
}

static void show(const char *fmt, ...) TL_PRINTF(1, 2);
static void show(const char *fmt, ...) {
    if (!cli_stderr_is_tty()) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, args);
    fflush(stderr);
    va_end(args);
}

static const tl_vocab *vocab_of(const struct cli_eval *e) {
    return tl_engine_vocab(e->loaded.engine);
}

static tl_log log_of(struct cli_eval *e) { return cli_log_of(&e->loaded.log); }

/* Prefill of the first n of ids into an emptied session. */
static tl_err feed_anew(struct cli_eval *e, const uint32_t *ids, size_t n) {
    size_t done = 0;
    tl_session_rewind(e->loaded.session, 0);
    return n > 0 ? cli_feed(&e->loaded, ids, n, NULL, NULL, &done) : TL_OK;
}

/* ---- tasks ---- */

static tl_err encode_task(struct cli_eval *e, const struct cli_task *task, tl_ids *ids) {
    const char *const start = task->start.data != NULL ? task->start.data : "";
    TL_TRY(cli_conversation_reset(&e->talk, NULL));
    TL_TRY(cli_conversation_add_user(&e->talk, task->input.data, task->input.len));
    return cli_conversation_encode(&e->talk, start, ids);
}

/* How many tokens an answer may take: a copy what it copies, other answers also their own words. */
static tl_err answer_room(struct cli_eval *e, const struct cli_task *task, uint32_t *n) {
    if (e->args->n_predict != CLI_UNSET) {
        *n = e->args->n_predict;
        return TL_OK;
    }
    tl_bytes text = {0};
    tl_ids ids = {0};
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < task->n_expected && !err; i++) {
        err = tl_bytes_add_str(&text, " ");
        err = err ? err : tl_bytes_add_str(&text, cli_task_expected(task, i));
    }
    if (!err) {
        err = tl_vocab_encode(vocab_of(e), (tl_str){text.data, text.len}, TL_ENCODE_PLAIN, &ids);
    }
    const cli_task_kind *const kind = cli_task_kind_find(task->name.data);
    const bool copies = kind != NULL && cli_task_kind_copies(kind);
    *n = (uint32_t)(copies ? ids.n + 4 : 4 * ids.n + 16);
    tl_bytes_free(&text);
    tl_ids_free(&ids);
    return err;
}

/* Prompt and answer together, in tokens. */
static tl_err task_size(void *user, const struct cli_task *task, uint64_t *n) {
    struct cli_eval *const e = user;
    tl_ids ids = {0};
    uint32_t room = 0;
    tl_err err = encode_task(e, task, &ids);
    if (!err) {
        err = answer_room(e, task, &room);
    }
    *n = (uint64_t)ids.n + room;
    tl_ids_free(&ids);
    return err;
}

/* Greedy, until the model ends, everything expected was said, or n_max tokens. */
static tl_err answer(struct cli_eval *e, const struct cli_task *task, uint32_t n_max,
                     double *score) {
    tl_session *const s = e->loaded.session;
    const struct tl_sampler_params greedy = {.repeat_penalty = 1, .top_p = 1};
    tl_sampler *sampler = NULL;
    tl_bytes text = {0};
    tl_decoder decoder = {.vocab = vocab_of(e)};
    tl_err err =
        tl_sampler_open(&sampler, &greedy, tl_engine_model(e->loaded.engine)->shape.n_vocab);
    for (uint32_t i = 0; i < n_max && !err && !cli_interrupted(); i++) {
        const uint32_t id =
            tl_sampler_next(sampler, tl_session_logits(s), tl_session_ids(s), tl_session_n(s));
        if (tl_vocab_is_end(decoder.vocab, id)) {
            break;
        }
        err = tl_decoder_add(&decoder, id, &text);
        *score = cli_task_score(task, (tl_str){text.data, text.len});
        if (*score >= 1 || tl_session_n(s) == tl_session_ctx(s)) {
            break;
        }
        if (!err && i + 1 < n_max) {
            err = tl_session_step(s, id);
        }
    }
    tl_sampler_close(&sampler);
    tl_bytes_free(&text);
    return err;
}

/* *done is false where Ctrl+C came in between. */
static tl_err run_task(struct cli_eval *e, const struct cli_task *task, double *score, bool *done) {
    tl_ids ids = {0};
    uint32_t room = 0;
    *score = 0;
    tl_err err = encode_task(e, task, &ids);
    if (!err) {
        err = answer_room(e, task, &room);
    }
    if (!err && ids.n == 0) {
        const tl_log log = log_of(e);
        err = tl_fail(&log, TL_ERR_FORMAT, "%s: a prompt without tokens", task->name.data);
    }
    if (!err) {
        err = feed_anew(e, ids.data, ids.n - 1);
    }
    if (!err && !cli_interrupted()) {
        err = tl_session_step(e->loaded.session, ids.data[ids.n - 1]);
    }
    if (!err && !cli_interrupted()) {
        err = answer(e, task, room, score);
    }
    *done = !cli_interrupted();
    tl_ids_free(&ids);
    return err;
}

/* Samples differ between contexts and kinds too: by their names, not by their order in a list. */
static uint64_t sample_seed(const struct cli_eval *e, const char *name, uint32_t n_ctx,
                            uint32_t i) {
    struct cli_rng rng = {e->seed};
    for (const char *c = name; *c != '\0'; c++) {
        rng.state = cli_rng_next(&rng) ^ (unsigned char)*c;
    }
    rng.state = cli_rng_next(&rng) ^ n_ctx;
    rng.state = cli_rng_next(&rng) ^ i;
    return cli_rng_next(&rng);
}

static tl_err make_sample(struct cli_eval *e, const char *name, uint32_t n_ctx, uint32_t i,
                          struct cli_task *task) {
    struct cli_task_params params = {.kind = cli_task_kind_find(name),
                                     .filler = &e->filler,
                                     .seed = sample_seed(e, name, n_ctx, i),
                                     /* the golden section spreads any number of them evenly */
                                     .depth = fmod(0.5 + 0.6180339887498949 * i, 1)};
    const struct cli_task_fit fit = {.n_max = n_ctx, .size = task_size, .user = e};
    const tl_err err = cli_task_make_fit(task, &params, &fit);
    if (err == TL_ERR_UNSUPPORTED) {
        const tl_log log = log_of(e);
        return tl_fail(&log, err, "%s: even the shortest one takes more than %u tokens (see --ctx)",
                       name, n_ctx);
    }
    return err;
}

tl_err cli_eval_task(struct cli_eval *e, uint32_t preset, const char *name, uint32_t n_ctx) {
    double sum = 0;
    for (uint32_t i = 0; i < e->n_samples && !cli_interrupted(); i++) {
        struct cli_task task = {0};
        double score = 0;
        bool done = false;
        TL_TRY(make_sample(e, name, n_ctx, i, &task));
        show("%s: %s of %u tokens, %u of %u", e->loaded.kv, name, n_ctx, i + 1, e->n_samples);
        const tl_err err = run_task(e, &task, &score, &done);
        cli_task_free(&task);
        TL_TRY(err);
        if (done) {
            sum += score;
            TL_TRY(cli_eval_report_set(&e->report, name, n_ctx, CLI_METRIC_SCORE, preset,
                                       sum / (i + 1), i + 1));
        }
    }
    return TL_OK;
}

tl_err cli_eval_shortest(struct cli_eval *e, const char *name, uint64_t *n) {
    *n = UINT64_MAX;
    for (size_t i = 0; i < e->n_tasks; i++) {
        uint64_t size = 0;
        if (strcmp(e->tasks[i].name.data, name) == 0) {
            TL_TRY(task_size(e, &e->tasks[i], &size));
            *n = tl_min_u64(*n, size);
        }
    }
    return TL_OK;
}

tl_err cli_eval_file_task(struct cli_eval *e, uint32_t preset, const char *name, uint32_t n_ctx,
                          uint32_t above) {
    double sum = 0;
    const uint32_t n_max = e->args->n_samples != 0 ? e->args->n_samples : UINT32_MAX;
    for (size_t i = 0, n = 0; i < e->n_tasks && n < n_max && !cli_interrupted(); i++) {
        const struct cli_task *const task = &e->tasks[i];
        uint64_t size = 0;
        double score = 0;
        bool done = false;
        if (strcmp(task->name.data, name) != 0) {
            continue;
        }
        TL_TRY(task_size(e, task, &size));
        if (size > n_ctx || size <= above) {
            continue;
        }
        show("%s: %s of %zu tokens, the %zu. one", e->loaded.kv, name, (size_t)size, n + 1);
        TL_TRY(run_task(e, task, &score, &done));
        if (done) {
            n++;
            sum += score;
            TL_TRY(cli_eval_report_set(&e->report, name, n_ctx, CLI_METRIC_SCORE, preset,
                                       sum / (double)n, (uint32_t)n));
        }
    }
    return TL_OK;
}

/* ---- texts ---- */

/* A window of text as tokens, of which the first n_prefill go in at once. */
struct window {
    tl_ids ids;
    size_t n_prefill;
    uint32_t n_ctx; /* that it stands for: what was asked for, or all of a shorter text */
};

/* Built-in sentences of at least n tokens. */
static tl_err encode_sentences(struct cli_eval *e, uint32_t n, uint32_t number, tl_ids *ids) {
    tl_bytes text = {0};
    tl_err err = TL_OK;
    for (uint64_t i = 0, next = 64; !err && ids->n < n;) {
        for (; i < next && !err; i++) {
            const tl_str s = cli_filler_sentence(&e->filler, e->seed + number, i);
            err = i > 0 ? tl_bytes_add(&text, " ", 1) : TL_OK;
            err = err ? err : tl_bytes_add(&text, s.data, s.len);
        }
        ids->n = 0;
        next *= 2;
        if (!err) {
            err = tl_vocab_encode(vocab_of(e), (tl_str){text.data, text.len}, TL_ENCODE_BOS, ids);
        }
    }
    tl_bytes_free(&text);
    return err;
}

/* Window `number` of --text: its tokens in a row, each window with the begin token where the model
 * wants one. Behind the last whole window there is none, but one there always is. */
static tl_err encode_part(struct cli_eval *e, uint32_t n, uint32_t number, tl_ids *ids) {
    const tl_vocab *const vocab = vocab_of(e);
    TL_TRY(tl_vocab_encode(vocab, (tl_str){e->text.data, e->text.len}, TL_ENCODE_BOS, ids));
    const size_t begin = ids->n > 0 && ids->data[0] == tl_vocab_bos(vocab) ? 1 : 0;
    const size_t body = n > begin ? n - begin : 0;
    if (number > 0) {
        const size_t first = begin + body * number;
        const size_t left = ids->n > first ? ids->n - first : 0;
        memmove(ids->data + begin, ids->data + first, left * sizeof *ids->data);
        ids->n = left >= body ? begin + left : 0;
    }
    return TL_OK;
}

/* ids.n is 0 where there is no such window. */
static tl_err make_window(struct cli_eval *e, uint32_t n_ctx, uint32_t number, struct window *w) {
    const struct cli_args *const a = e->args;
    *w = (struct window){0};
    const tl_err err = e->text.len > 0 ? encode_part(e, n_ctx, number, &w->ids)
                                       : encode_sentences(e, n_ctx, number, &w->ids);
    w->ids.n = (size_t)tl_min_u64(w->ids.n, n_ctx);
    w->n_ctx = (uint32_t)w->ids.n;
    if (err || (w->ids.n < 3 && number > 0)) {
        tl_ids_free(&w->ids);
        return err;
    }
    if (w->ids.n < 3) {
        const tl_log log = log_of(e);
        tl_ids_free(&w->ids);
        return tl_fail(&log, TL_ERR_FORMAT, "a text of fewer than 3 tokens tells nothing");
    }
    const size_t n_judged = (size_t)tl_max_u64(1, tl_min_u64(a->n_predict, w->ids.n - 2));
    if (a->n_prefill != CLI_UNSET) {
        w->n_prefill = (size_t)tl_min_u64(a->n_prefill, w->ids.n - 2);
    } else {
        w->n_prefill = a->n_predict != CLI_UNSET ? w->ids.n - 1 - n_judged : w->ids.n / 2;
    }
    w->ids.n = (size_t)tl_min_u64(w->ids.n, w->n_prefill + n_judged + 1);
    return TL_OK;
}

static tl_err set_ppl(struct cli_eval *e, const char *task, uint32_t n_ctx, uint32_t preset,
                      double nll_sum, size_t n) {
    const double nll = nll_sum / (double)n;
    TL_TRY(cli_eval_report_set(&e->report, task, n_ctx, CLI_METRIC_NLL, preset, nll, (uint32_t)n));
    return cli_eval_report_set(&e->report, task, n_ctx, CLI_METRIC_PPL, preset, exp(nll),
                               (uint32_t)n);
}

static tl_err judge_window(struct cli_eval *e, const struct window *w, double *log_p, double *nll,
                           size_t *n) {
    tl_session *const s = e->loaded.session;
    const uint32_t n_vocab = tl_engine_model(e->loaded.engine)->shape.n_vocab;
    TL_TRY(feed_anew(e, w->ids.data, w->n_prefill));
    for (size_t i = w->n_prefill; i + 1 < w->ids.n && !cli_interrupted(); i++) {
        TL_TRY(tl_session_step(s, w->ids.data[i]));
        cli_log_softmax(tl_session_logits(s), n_vocab, log_p);
        *nll -= log_p[w->ids.data[i + 1]];
        ++*n;
        if (*n % 64 == 0) {
            show("%s: ppl, token %zu of %zu", e->loaded.kv, i + 1, w->ids.n);
        }
    }
    return TL_OK;
}

tl_err cli_eval_ppl(struct cli_eval *e, uint32_t preset, uint32_t n_ctx) {
    const uint32_t n_vocab = tl_engine_model(e->loaded.engine)->shape.n_vocab;
    double *const log_p = calloc(n_vocab, sizeof *log_p);
    tl_err err = log_p != NULL ? TL_OK : TL_ERR_MEMORY;
    double nll = 0;
    size_t n = 0;
    uint32_t label = n_ctx;
    for (uint32_t i = 0; i < e->n_windows && !err && !cli_interrupted(); i++) {
        struct window w;
        err = make_window(e, n_ctx, i, &w);
        if (err || w.ids.n == 0) {
            break;
        }
        label = i == 0 ? w.n_ctx : label;
        err = judge_window(e, &w, log_p, &nll, &n);
        tl_ids_free(&w.ids);
    }
    free(log_p);
    return err || n == 0 ? err : set_ppl(e, "ppl", label, preset, nll, n);
}

/* ---- the exact cache and all presets, token by token ---- */

struct lockstep {
    struct cli_eval *e;
    tl_session *sessions[1 + CLI_PRESETS_MAX]; /* owned; the first is exact */
    uint32_t n_vocab;
    double *exact, *tested; /* owned (n_vocab): logarithms of probabilities */
    struct cli_kld kld[CLI_PRESETS_MAX];
    double nll[CLI_PRESETS_MAX];
};

static tl_err open_lockstep(struct lockstep *l) {
    struct cli_eval *const e = l->e;
    struct cli_args plain = *e->args;
    plain.kv_set = plain.window = NULL;
    plain.topk = CLI_UNSET;
    const struct tl_session_params params = cli_eval_session_params(e);
    for (uint32_t i = 0; i <= e->report.n_presets; i++) {
        const char *const kv = i == 0 ? "full" : e->report.presets[i - 1];
        TL_TRY(cli_open_session(&e->loaded, i == 0 ? &plain : e->args, kv, &params));
        l->sessions[i] = e->loaded.session;
        e->loaded.session = NULL;
    }
    l->n_vocab = tl_engine_model(e->loaded.engine)->shape.n_vocab;
    l->exact = calloc(l->n_vocab, sizeof *l->exact);
    l->tested = calloc(l->n_vocab, sizeof *l->tested);
    return l->exact != NULL && l->tested != NULL ? TL_OK : TL_ERR_MEMORY;
}

static void close_lockstep(struct lockstep *l) {
    for (uint32_t i = 0; i <= CLI_PRESETS_MAX; i++) {
        tl_session_close(&l->sessions[i]);
    }
    free(l->exact);
    free(l->tested);
}

/* One token through all sessions; what they expect next is compared. */
static tl_err step_all(struct lockstep *l, uint32_t id, uint32_t next) {
    TL_TRY(tl_session_step(l->sessions[0], id));
    cli_log_softmax(tl_session_logits(l->sessions[0]), l->n_vocab, l->exact);
    for (uint32_t i = 0; i < l->e->report.n_presets; i++) {
        TL_TRY(tl_session_step(l->sessions[i + 1], id));
        cli_log_softmax(tl_session_logits(l->sessions[i + 1]), l->n_vocab, l->tested);
        TL_TRY(cli_kld_add(&l->kld[i], l->exact, l->tested, l->n_vocab, next));
        l->nll[i] -= l->tested[next];
    }
    return TL_OK;
}

static tl_err compare_window(struct lockstep *l, const struct window *w) {
    struct cli_eval *const e = l->e;
    for (uint32_t i = 0; i <= e->report.n_presets && !cli_interrupted(); i++) {
        e->loaded.session = l->sessions[i];
        const tl_err err = feed_anew(e, w->ids.data, w->n_prefill);
        e->loaded.session = NULL;
        TL_TRY(err);
    }
    for (size_t i = w->n_prefill; i + 1 < w->ids.n && !cli_interrupted(); i++) {
        TL_TRY(step_all(l, w->ids.data[i], w->ids.data[i + 1]));
        if (i % 16 == 0) {
            show("kld, token %zu of %zu", i + 1, w->ids.n);
        }
    }
    return TL_OK;
}

static tl_err report_kld(struct lockstep *l, uint32_t n_ctx) {
    struct cli_eval_report *const report = &l->e->report;
    for (uint32_t i = 0; i < report->n_presets; i++) {
        struct cli_kld *const k = &l->kld[i];
        if (k->n == 0) {
            continue;
        }
        const struct cli_kld_report r = cli_kld_report(k);
        const double values[] = {r.mean, r.p99, r.max, r.top1, r.difference};
        static const cli_metric metrics[] = {CLI_METRIC_KLD_MEAN, CLI_METRIC_KLD_P99,
                                             CLI_METRIC_KLD_MAX, CLI_METRIC_TOP1,
                                             CLI_METRIC_DIFFERENCE};
        for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
            TL_TRY(cli_eval_report_set(report, "kld", n_ctx, metrics[m], i, values[m],
                                       (uint32_t)k->n));
        }
        TL_TRY(set_ppl(l->e, "kld", n_ctx, i, l->nll[i], k->n));
    }
    return TL_OK;
}

static tl_err compare_at(struct lockstep *l, uint32_t n_ctx) {
    tl_err err = TL_OK;
    uint32_t label = n_ctx;
    for (uint32_t i = 0; i < l->e->n_windows && !err && !cli_interrupted(); i++) {
        struct window w;
        err = make_window(l->e, n_ctx, i, &w);
        if (err || w.ids.n == 0) {
            break;
        }
        label = i == 0 ? w.n_ctx : label;
        err = compare_window(l, &w);
        tl_ids_free(&w.ids);
    }
    if (!err) {
        err = report_kld(l, label);
    }
    for (uint32_t i = 0; i < CLI_PRESETS_MAX; i++) {
        cli_kld_free(&l->kld[i]);
        l->nll[i] = 0;
    }
    return err;
}

tl_err cli_eval_kld(struct cli_eval *e) {
    struct lockstep l = {.e = e};
    tl_err err = open_lockstep(&l);
    for (uint32_t i = 0; i < e->n_ctxs && !err && !cli_interrupted(); i++) {
        err = compare_at(&l, e->ctxs[i]);
    }
    close_lockstep(&l);
    return err;
}
