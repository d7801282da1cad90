/* The thread. Text goes out as it comes; a stop is one atomic flag, looked at between tokens and
 * chunks of a prompt. Signals are the screen's thread's: this one blocks them, so that none lands
 * here. */
#include "worker.h"

#include "thread.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cli_worker {
    pthread_t thread;
    struct cli_events in, out;
    sem_t lines;
    atomic_bool stop, leave; /* this answer; all of them */
    int wake_fd;
    const struct cli_args *args;
    struct cli_share *share;
    int code;         /* of the chat, when the thread is over */
    struct chat chat; /* the thread's */
    tl_bytes plan;    /* the thread's: the one that was sent last */
};

static void emit(cli_worker *w, int kind, const char *text, size_t n) {
    if (cli_events_push(&w->out, kind, text, n)) {
        const char byte = 0;
        const ssize_t ignored = write(w->wake_fd, &byte, 1); /* full: it is awake */
        (void)ignored;
    }
}

static void show(void *user, chat_kind kind, const char *text, size_t n) {
    emit(user, kind, text, n);
}

static bool wants_stop(void *user) {
    cli_worker *const w = user;
    return atomic_load(&w->stop) || atomic_load(&w->leave);
}

static void begin(void *user) {
    cli_worker *const w = user;
    atomic_store(&w->stop, false);
}

static void stream(void *user, const char *data, size_t n) { emit(user, CHAT_ANSWER, data, n); }

/* The screen reads progress from the shared page. */
static void progress(void *user, const struct cli_progress *now) {
    cli_worker *const w = user;
    const char byte = 0;
    const ssize_t ignored = write(w->wake_fd, &byte, 1);
    (void)ignored;
    (void)now;
}

static void sentence(void *user, tl_level level, const char *text) {
    const int kind = level == TL_LEVEL_ERROR  ? EVENT_ERROR
                     : level == TL_LEVEL_WARN ? EVENT_WARN
                                              : EVENT_INFO;
    emit(user, kind, text, strlen(text));
}

/* The plan, where it is another one than before. */
static void send_plan(cli_worker *w, int kind) {
    tl_bytes plan = {0};
    if (cli_spell_plan(w->chat.loaded, &plan) == TL_OK &&
        cli_spell_tiers(w->chat.loaded, &plan) == TL_OK &&
        (w->plan.data == NULL || strcmp(w->plan.data, plan.data) != 0)) {
        emit(w, kind, plan.data, plan.len);
        tl_bytes_free(&w->plan);
        w->plan = plan;
        return;
    }
    tl_bytes_free(&plan);
}

static int work(cli_worker *w) {
    int code = 0;
    for (bool leave = false; !leave && code == 0;) {
        while (sem_wait(&w->lines) != 0) {
        }
        if (atomic_load(&w->leave)) { /* lines that still wait were not begun */
            break;
        }
        const struct cli_event *const line = cli_events_pop(&w->in);
        if (line == NULL) {
            continue;
        }
        emit(w, EVENT_BUSY, line->text, line->n);
        code = chat_line(&w->chat, line->text, &leave);
        send_plan(w, EVENT_PLAN);
        emit(w, EVENT_IDLE, "", 0);
    }
    return code;
}

static void *run(void *user) {
    cli_worker *const w = user;
    const struct chat_face face = {
        .show = show, .stop = wants_stop, .begin = begin, .user = w, .edits = true};
    const struct cli_hooks hooks = {
        .text = stream, .progress = progress, .stop = wants_stop, .user = w};
    int code = chat_open(&w->chat, w->args, &face, &hooks, w->share);
    if (code == 0) {
        send_plan(w, EVENT_READY);
        code = work(w);
    }
    const int kept = chat_close(&w->chat);
    w->code = code != 0 ? code : kept;
    emit(w, EVENT_ENDED, "", 0);
    return NULL;
}

tl_err cli_worker_open(cli_worker **out, const struct cli_args *args, struct cli_share *share,
                       int wake_fd) {
    cli_worker *const w = calloc(1, sizeof *w);
    if (w == NULL) {
        return TL_ERR_MEMORY;
    }
    w->args = args;
    w->share = share;
    w->wake_fd = wake_fd;
    atomic_init(&w->stop, false);
    atomic_init(&w->leave, false);
    tl_err err = cli_events_open(&w->in);
    if (!err) {
        err = cli_events_open(&w->out);
    }
    if (!err && sem_init(&w->lines, 0, 0) != 0) {
        err = TL_ERR_MEMORY;
    }
    if (!err) {
        cli_set_sink(sentence, w);
        err = cli_thread_start(&w->thread, run, w) ? TL_OK : TL_ERR_MEMORY;
    }
    if (err) {
        cli_set_sink(NULL, NULL);
        cli_events_close(&w->in);
        cli_events_close(&w->out);
        free(w);
        return err;
    }
    *out = w;
    return TL_OK;
}

int cli_worker_close(cli_worker **worker) {
    cli_worker *const w = *worker;
    if (w == NULL) {
        return 0;
    }
    atomic_store(&w->leave, true);
    sem_post(&w->lines);
    pthread_join(w->thread, NULL);
    cli_set_sink(NULL, NULL);
    for (const struct cli_event *e; (e = cli_events_pop(&w->out)) != NULL;) {
        if (e->kind == EVENT_ERROR) { /* nobody saw it */
            cli_error("%s", e->text);
        }
    }
    const int code = w->code;
    cli_events_close(&w->in);
    cli_events_close(&w->out);
    sem_destroy(&w->lines);
    tl_bytes_free(&w->plan);
    free(w);
    *worker = NULL;
    return code;
}

tl_err cli_worker_send(cli_worker *w, const char *line) {
    if (!cli_events_push(&w->in, 0, line, strlen(line))) {
        return TL_ERR_MEMORY;
    }
    sem_post(&w->lines);
    return TL_OK;
}

void cli_worker_stop(cli_worker *w) { atomic_store(&w->stop, true); }

const struct cli_event *cli_worker_event(cli_worker *w) { return cli_events_pop(&w->out); }
