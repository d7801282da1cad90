#include "generate.h"

#include <stdlib.h>
#include <string.h>

enum { PROGRESS_MIN_TOKENS = 512 };

const char *cli_stop_name(cli_stop stop) {
    static const char *const names[] = {
        [CLI_STOP_END] = "end",
        [CLI_STOP_LENGTH] = "length",
        [CLI_STOP_CONTEXT] = "context",
        [CLI_STOP_INTERRUPT] = "interrupt",
    };
    return names[stop];
}

tl_err cli_times_add(struct cli_times *times, uint64_t ns) {
    if (times->n == times->cap) {
        const size_t cap = times->cap == 0 ? 256 : 2 * times->cap;
        uint64_t *const grown = realloc(times->ns, cap * sizeof *grown);
        if (grown == NULL) {
            return TL_ERR_MEMORY;
        }
        times->ns = grown;
        times->cap = cap;
    }
    times->ns[times->n++] = ns;
    return TL_OK;
}

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct cli_percentiles cli_times_summary(const struct cli_times *times) {
    qsort(times->ns, times->n, sizeof *times->ns, by_value);
    double sum = 0;
    for (size_t i = 0; i < times->n; i++) {
        sum += (double)times->ns[i];
    }
    return (struct cli_percentiles){.p50_ms = (double)times->ns[times->n / 2] / 1e6,
                                    .p95_ms = (double)times->ns[times->n * 95 / 100] / 1e6,
                                    .mean_ms = sum / (double)times->n / 1e6};
}

static bool stopped(const struct cli_loaded *loaded) {
    const struct cli_hooks *const hooks = loaded->hooks;
    return hooks != NULL ? hooks->stop(hooks->user) : cli_interrupted();
}

struct feeding {
    const struct cli_loaded *loaded;
    uint64_t start_ns;
    size_t done;
    bool shown;
    bool (*on_logits)(void *user, uint32_t pos, const float *logits);
    void *user;
};

static bool pass_logits(void *user, uint32_t pos, const float *logits) {
    const struct feeding *const f = user;
    return f->on_logits(f->user, pos, logits);
}

static bool show_progress(void *user, size_t done, size_t total) {
    struct feeding *const f = user;
    const struct cli_hooks *const hooks = f->loaded->hooks;
    const double seconds = (double)(tl_now_ns() - f->start_ns) / 1e9;
    f->done = done;
    cli_share_prompt(f->loaded->share, done, total);
    if (hooks != NULL) {
        const struct cli_progress now = {done, total, seconds};
        hooks->progress(hooks->user, &now);
    } else if (total >= PROGRESS_MIN_TOKENS && cli_stderr_is_tty()) {
        const double rate = (double)done / (seconds > 0 ? seconds : 1);
        fprintf(stderr, "\r\033[Kreading %zu of %zu tokens, %.0f tokens/s, %.0f s left", done,
                total, rate, (double)(total - done) / rate);
        f->shown = true;
    }
    return !stopped(f->loaded);
}

tl_err cli_feed(struct cli_loaded *loaded, const uint32_t *ids, size_t n,
                bool (*on_logits)(void *user, uint32_t pos, const float *logits), void *user,
                size_t *done) {
    struct feeding f = {
        .loaded = loaded, .start_ns = tl_now_ns(), .on_logits = on_logits, .user = user};
    cli_share_prompt(loaded->share, 0, n);
    const tl_err err = tl_session_feed(
        loaded->session, &(struct tl_feed){.ids = ids,
                                           .n = n,
                                           .on_progress = show_progress,
                                           .on_logits = on_logits ? pass_logits : NULL,
                                           .user = &f});
    if (f.shown) {
        fprintf(stderr, "\r\033[K");
    }
    *done = f.done;
    cli_share_prompt_end(loaded->share, loaded->engine, loaded->session);
    return err;
}

void cli_answer_free(struct cli_answer *answer) {
    tl_ids_free(&answer->ids);
    tl_bytes_free(&answer->text);
}

/* What came to the text behind byte `from`. */
static void stream(const struct cli_loaded *loaded, const struct cli_answer *answer, size_t from) {
    const size_t n = answer->text.len - from;
    if (!answer->streams || n == 0) {
        return;
    }
    if (loaded->hooks != NULL) {
        loaded->hooks->text(loaded->hooks->user, answer->text.data + from, n);
    } else {
        cli_print_text(answer->text.data + from, n);
    }
}

static tl_err generate_tokens(struct cli_loaded *loaded, tl_sampler *sampler,
                              struct cli_answer *answer, tl_decoder *decoder) {
    tl_session *const s = loaded->session;
    uint64_t sample_ns = 0;
    for (;;) {
        if (answer->n_max != CLI_UNSET && answer->ids.n >= answer->n_max) {
            answer->stop = CLI_STOP_LENGTH;
            return TL_OK;
        }
        if (stopped(loaded)) {
            answer->stop = CLI_STOP_INTERRUPT;
            return TL_OK;
        }
        const uint64_t begin = tl_now_ns();
        const uint32_t id =
            tl_sampler_next(sampler, tl_session_logits(s), tl_session_ids(s), tl_session_n(s));
        sample_ns = tl_now_ns() - begin;
        if (!answer->ignore_end && tl_vocab_is_end(decoder->vocab, id)) {
            answer->stop = CLI_STOP_END;
            return TL_OK;
        }
        TL_TRY(tl_ids_add(&answer->ids, id));
        const size_t before = answer->text.len;
        TL_TRY(tl_decoder_add(decoder, id, &answer->text));
        stream(loaded, answer, before);
        const bool last = answer->n_max != CLI_UNSET && answer->ids.n >= answer->n_max;
        if (last) { /* its row is not needed; chat feeds it with the next turn */
            continue;
        }
        if (tl_session_n(s) == tl_session_ctx(s)) {
            answer->stop = CLI_STOP_CONTEXT;
            return TL_OK;
        }
        if (ferror(stdout)) {
            return TL_ERR_IO;
        }
        const uint64_t start = tl_now_ns();
        TL_TRY(tl_session_step(s, id));
        const uint64_t step_ns = tl_now_ns() - start;
        TL_TRY(cli_times_add(answer->times, step_ns));
        cli_share_step(loaded->share, loaded->engine, s, step_ns, sample_ns);
    }
}

static tl_finish finish_of(cli_stop stop) {
    return stop == CLI_STOP_END         ? TL_FINISH_STOP
           : stop == CLI_STOP_INTERRUPT ? TL_FINISH_ABORT
                                        : TL_FINISH_LENGTH;
}

tl_err cli_generate(struct cli_loaded *loaded, tl_sampler *sampler, struct cli_answer *answer) {
    tl_decoder decoder = {.vocab = tl_engine_vocab(loaded->engine), .n_held = answer->n_held};
    memcpy(decoder.held, answer->held, sizeof decoder.held);
    const size_t n_before = answer->ids.n;
    const tl_err err = generate_tokens(loaded, sampler, answer, &decoder);
    cli_share_answer_end(loaded->share, err ? TL_FINISH_ERROR : finish_of(answer->stop),
                         answer->ids.n - n_before);
    TL_TRY(err);
    const bool may_go_on = answer->holds && answer->stop != CLI_STOP_END;
    answer->n_held = may_go_on ? decoder.n_held : 0;
    memcpy(answer->held, decoder.held, sizeof answer->held);
    if (may_go_on) {
        return TL_OK;
    }
    const size_t before = answer->text.len;
    TL_TRY(tl_decoder_end(&decoder, &answer->text));
    stream(loaded, answer, before);
    return TL_OK;
}
