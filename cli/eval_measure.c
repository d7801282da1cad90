/* How the cache gets to act: all but the last token of a task's prompt go in by prefill, which is
 * exact, and the last one through a decode step like those of the answer, so even the answer's
 * first token comes out of the cache under test. Of a text, a first part goes in by prefill and the
 * rest is teacher-forced through decode steps; only what follows those steps is judged. */
#include "eval_measure.h"

#include "eval_runs.h"
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

/* A task while it is answered: greedily, until the model ends, everything expected was said, or
 * n_max tokens. */
struct asking {
    struct cli_task own;         /* owned, or empty */
    const struct cli_task *task; /* borrowed */
    tl_ids ids;                  /* owned: the prompt */
    uint32_t n, n_max;           /* tokens of the answer */
    tl_sampler *sampler;         /* owned */
    tl_decoder decoder;
    tl_bytes text; /* owned */
    double score;
};

static tl_err next_of_answer(void *user, const tl_session *s, uint32_t *id, bool *more) {
    struct asking *const a = user;
    *more = false;
    if (a->n_max == 0) {
        return TL_OK;
    }
    *id = tl_sampler_next(a->sampler, tl_session_logits(s), tl_session_ids(s), tl_session_n(s));
    if (tl_vocab_is_end(a->decoder.vocab, *id)) {
        return TL_OK;
    }
    TL_TRY(tl_decoder_add(&a->decoder, *id, &a->text));
    a->score = cli_task_score(a->task, (tl_str){a->text.data, a->text.len});
    *more = a->score < 1 && tl_session_n(s) < tl_session_ctx(s) && ++a->n < a->n_max;
    return TL_OK;
}

static tl_err open_asking(struct cli_eval *e, struct asking *a, const struct cli_task *task) {
    const struct tl_sampler_params greedy = {.repeat_penalty = 1, .top_p = 1};
    a->task = task;
    a->decoder = (tl_decoder){.vocab = vocab_of(e)};
    TL_TRY(encode_task(e, task, &a->ids));
    TL_TRY(answer_room(e, task, &a->n_max));
    if (a->ids.n == 0) {
        const tl_log log = log_of(e);
        return tl_fail(&log, TL_ERR_FORMAT, "%s: a prompt without tokens", task->name.data);
    }
    return tl_sampler_open(&a->sampler, &greedy, tl_engine_model(e->loaded.engine)->shape.n_vocab);
}

static void close_asking(struct asking *a) {
    cli_task_free(&a->own);
    tl_ids_free(&a->ids);
    tl_sampler_close(&a->sampler);
    tl_bytes_free(&a->text);
}

/* Scores of one task at one context, as they come. */
struct scores {
    const char *name;
    uint32_t n_ctx, preset, n;
    double sum;
};

/* n tasks at once; those that were answered, up to the first that was not, count. */
static tl_err answer_all(struct cli_eval *e, struct asking *asked, uint32_t n,
                         struct scores *scores) {
    struct cli_eval_run runs[TL_BATCH_MAX] = {0};
    for (uint32_t i = 0; i < n; i++) {
        runs[i] = (struct cli_eval_run){.ids = asked[i].ids.data,
                                        .n = asked[i].ids.n,
                                        .next = next_of_answer,
                                        .user = &asked[i]};
    }
    TL_TRY(cli_eval_run_all(e, runs, n));
    for (uint32_t i = 0; i < n && runs[i].done; i++) {
        scores->sum += asked[i].score;
        scores->n++;
        TL_TRY(cli_eval_report_set(&e->report, scores->name, scores->n_ctx, CLI_METRIC_SCORE,
                                   scores->preset, scores->sum / scores->n, scores->n));
    }
    return TL_OK;
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

/* The samples first .. first + n - 1. */
static tl_err ask_samples(struct cli_eval *e, uint32_t first, uint32_t n, struct scores *scores) {
    struct asking asked[TL_BATCH_MAX] = {0};
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < n && !err; i++) {
        err = make_sample(e, scores->name, scores->n_ctx, first + i, &asked[i].own);
        err = err ? err : open_asking(e, &asked[i], &asked[i].own);
    }
    if (!err) {
        err = answer_all(e, asked, n, scores);
    }
    for (uint32_t i = 0; i < n; i++) {
        close_asking(&asked[i]);
    }
    return err;
}

tl_err cli_eval_task(struct cli_eval *e, uint32_t preset, const char *name, uint32_t n_ctx) {
    struct scores scores = {.name = name, .n_ctx = n_ctx, .preset = preset};
    for (uint32_t i = 0; i < e->n_samples && !cli_interrupted(); i += e->sequences.n) {
        const uint32_t n = (uint32_t)tl_min_u64(e->sequences.n, e->n_samples - i);
        show("%s: %s of %u tokens, %u of %u", e->loaded.kv, name, n_ctx, i + n, e->n_samples);
        TL_TRY(ask_samples(e, i, n, &scores));
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

/* At most n of the file's tasks from *at on that belong here; moves *at behind them. */
static tl_err find_tasks(struct cli_eval *e, const struct scores *scores, uint32_t above,
                         const struct cli_task **found, uint32_t *n, size_t *at) {
    const uint32_t n_most = *n;
    for (*n = 0; *n < n_most && *at < e->n_tasks; ++*at) {
        const struct cli_task *const task = &e->tasks[*at];
        uint64_t size = 0;
        if (strcmp(task->name.data, scores->name) != 0) {
            continue;
        }
        TL_TRY(task_size(e, task, &size));
        if (size <= scores->n_ctx && size > above) {
            found[(*n)++] = task;
        }
    }
    return TL_OK;
}

static tl_err ask_tasks(struct cli_eval *e, const struct cli_task *const *tasks, uint32_t n,
                        struct scores *scores) {
    struct asking asked[TL_BATCH_MAX] = {0};
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < n && !err; i++) {
        err = open_asking(e, &asked[i], tasks[i]);
    }
    if (!err) {
        err = answer_all(e, asked, n, scores);
    }
    for (uint32_t i = 0; i < n; i++) {
        close_asking(&asked[i]);
    }
    return err;
}

tl_err cli_eval_file_task(struct cli_eval *e, uint32_t preset, const char *name, uint32_t n_ctx,
                          uint32_t above) {
    struct scores scores = {.name = name, .n_ctx = n_ctx, .preset = preset};
    const uint32_t n_max = e->args->n_samples != 0 ? e->args->n_samples : UINT32_MAX;
    for (size_t at = 0; at < e->n_tasks && scores.n < n_max && !cli_interrupted();) {
        const struct cli_task *tasks[TL_BATCH_MAX];
        uint32_t n = (uint32_t)tl_min_u64(e->sequences.n, n_max - scores.n);
        TL_TRY(find_tasks(e, &scores, above, tasks, &n, &at));
        show("%s: %s within %u tokens, the %u. one", e->loaded.kv, name, n_ctx, scores.n + n);
        TL_TRY(ask_tasks(e, tasks, n, &scores));
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

/* A window while it is read. */
struct reading {
    struct cli_eval *e;
    struct window w; /* owned */
    double *log_p;   /* borrowed (n_vocab), for all of them */
    double nll;
    size_t n; /* tokens that were judged */
};

static tl_err next_of_text(void *user, const tl_session *s, uint32_t *id, bool *more) {
    struct reading *const r = user;
    const size_t at = r->w.n_prefill + ++r->n;
    cli_log_softmax(tl_session_logits(s), tl_engine_model(r->e->loaded.engine)->shape.n_vocab,
                    r->log_p);
    *id = r->w.ids.data[at];
    r->nll -= r->log_p[*id];
    *more = at + 1 < r->w.ids.n;
    if (r->n % 64 == 0) {
        show("%s: ppl, token %zu of %zu", r->e->loaded.kv, at, r->w.ids.n);
    }
    return TL_OK;
}

static tl_err read_all(struct cli_eval *e, struct reading *readings, uint32_t n) {
    struct cli_eval_run runs[TL_BATCH_MAX] = {0};
    for (uint32_t i = 0; i < n; i++) {
        runs[i] = (struct cli_eval_run){.ids = readings[i].w.ids.data,
                                        .n = readings[i].w.n_prefill + 1,
                                        .next = next_of_text,
                                        .user = &readings[i]};
    }
    return cli_eval_run_all(e, runs, n);
}

/* At most as many windows at once as there are sequences, from number *at on. */
struct texts {
    double *log_p, nll;
    size_t n;
    uint32_t n_ctx, at, label;
    bool ended; /* there is no further window */
};

static tl_err read_windows(struct cli_eval *e, struct texts *t) {
    struct reading readings[TL_BATCH_MAX] = {0};
    uint32_t n = 0;
    tl_err err = TL_OK;
    for (; n < e->sequences.n && t->at < e->n_windows && !err && !t->ended; t->at++) {
        struct reading *const r = &readings[n];
        *r = (struct reading){.e = e, .log_p = t->log_p};
        err = make_window(e, t->n_ctx, t->at, &r->w);
        t->ended = !err && r->w.ids.n == 0;
        t->label = t->at == 0 ? r->w.n_ctx : t->label;
        n += !err && !t->ended ? 1 : 0;
    }
    if (!err) {
        err = read_all(e, readings, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        t->nll += readings[i].nll;
        t->n += readings[i].n;
        tl_ids_free(&readings[i].w.ids);
    }
    return err;
}

tl_err cli_eval_ppl(struct cli_eval *e, uint32_t preset, uint32_t n_ctx) {
    const uint32_t n_vocab = tl_engine_model(e->loaded.engine)->shape.n_vocab;
    struct texts t = {.log_p = calloc(n_vocab, sizeof *t.log_p), .n_ctx = n_ctx, .label = n_ctx};
    tl_err err = t.log_p != NULL ? TL_OK : TL_ERR_MEMORY;
    while (t.at < e->n_windows && !t.ended && !err && !cli_interrupted()) {
        err = read_windows(e, &t);
    }
    free(t.log_p);
    return err || t.n == 0 ? err : set_ppl(e, "ppl", t.label, preset, t.nll, t.n);
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
        TL_TRY(cli_eval_feed(e, l->sessions[i], w->ids.data, w->n_prefill));
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
