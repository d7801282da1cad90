/* The loop: wait for a key, an event or the clock; take all there is; draw at most 30 times a
 * second, and only when something changed. The invariant: this thread never waits for the engine,
 * but at the very end. */
#include "full.h"

#include <fcntl.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAID_MAX = 4000, SAID_HEAD = 200, SAID_TAIL = 600 };
enum { FRAME_MS = 33, CONTEXT_SOON = 80, CONTEXT_FULL = 95 };

void full_hint(struct full *f, const char *text) {
    f->hint.len = 0;
    if (tl_bytes_add_str(&f->hint, text)) {
        f->hint.len = 0;
    }
    f->dirty = true;
}

void full_say(struct full *f, tui_item_kind kind, const char *text, size_t n) {
    while (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    if (tui_talk_add(&f->talk, kind, text, n)) {
        full_hint(f, "out of memory");
    }
    f->dirty = true;
}

/* ---- what the engine says ---- */

static void copy_to_clipboard(struct full *f, const char *text, size_t n) {
    tl_bytes code = {0};
    if (cli_osc52(text, n, &code) == TL_OK) {
        tui_screen_send(f->screen, code.data, code.len);
        static const char copied[] = "copied, where the terminal allows it";
        full_say(f, TUI_ITEM_NOTE, copied, sizeof copied - 1);
    }
    tl_bytes_free(&code);
}

static void take_draft(struct full *f, const char *text, size_t n) {
    if (f->edit.text.len == 0 && tui_edit_set(&f->edit, text, n)) {
        full_hint(f, "out of memory");
    }
}

/* What the user said; of a message with a long document in it the beginning and the end, and how
 * much lies between. */
static void take_said(struct full *f, const char *text, size_t n) {
    size_t head = SAID_HEAD, tail = n - tl_min_u64(n, SAID_TAIL);
    if (n <= SAID_MAX) {
        full_say(f, TUI_ITEM_USER, text, n);
        return;
    }
    while (head > 0 && ((unsigned char)text[head] & 0xc0) == 0x80) {
        head--;
    }
    while (tail < n && ((unsigned char)text[tail] & 0xc0) == 0x80) {
        tail++;
    }
    tl_bytes shown = {0};
    char between[64];
    snprintf(between, sizeof between, " ...\n[%zu bytes more]\n... ", tail - head);
    if (tl_bytes_add(&shown, text, head) == TL_OK && tl_bytes_add_str(&shown, between) == TL_OK &&
        tl_bytes_add(&shown, text + tail, n - tail) == TL_OK) {
        full_say(f, TUI_ITEM_USER, shown.data, shown.len);
    }
    tl_bytes_free(&shown);
}

static void take_chat(struct full *f, const struct cli_event *e) {
    switch ((chat_kind)e->kind) {
    case CHAT_USER:
    case CHAT_OLD_USER:
        take_said(f, e->text, e->n);
        break;
    case CHAT_OLD_ANSWER:
        full_say(f, TUI_ITEM_ANSWER, e->text, e->n);
        break;
    case CHAT_ANSWER:
        if (tui_talk_append(&f->talk, e->text, e->n)) {
            full_hint(f, "out of memory");
        }
        break;
    case CHAT_END:
        tui_talk_end(&f->talk);
        if (e->n > 0) {
            full_say(f, TUI_ITEM_NOTE, e->text, e->n);
        }
        break;
    case CHAT_NOTE:
        full_say(f, TUI_ITEM_NOTE, e->text, e->n);
        break;
    case CHAT_CLEAR:
        tui_talk_clear(&f->talk);
        f->warned_soon = f->warned_full = false;
        break;
    case CHAT_DRAFT:
        take_draft(f, e->text, e->n);
        break;
    case CHAT_CLIP:
        copy_to_clipboard(f, e->text, e->n);
        break;
    }
}

static void keep_plan(struct full *f, const struct cli_event *e) {
    f->plan.len = 0;
    if (tl_bytes_add(&f->plan, e->text, e->n)) {
        f->plan.len = 0;
    }
}

static void take_event(struct full *f, const struct cli_event *e) {
    f->dirty = true;
    switch (e->kind) {
    case EVENT_ERROR:
        full_say(f, TUI_ITEM_ERROR, e->text, e->n);
        return;
    case EVENT_WARN:
        full_say(f, TUI_ITEM_WARN, e->text, e->n);
        return;
    case EVENT_INFO:
        full_say(f, TUI_ITEM_NOTE, e->text, e->n);
        return;
    case EVENT_READY:
        f->ready = true;
        keep_plan(f, e);
        return;
    case EVENT_PLAN:
        keep_plan(f, e);
        return;
    case EVENT_BUSY:
        f->busy = true;
        f->n_waiting -= f->n_waiting > 0;
        return;
    case EVENT_IDLE:
        tui_talk_end(&f->talk); /* where it failed on the way */
        f->busy = false;
        f->hint.len = 0; /* "stopping" is over */
        return;
    case EVENT_ENDED:
        f->ended = true;
        return;
    default:
        take_chat(f, e);
        return;
    }
}

/* ---- what the session looks like ---- */

/* Once when it gets close, once when it is nearly there; each again after the context was emptied.
 */
static void warn_of_context(struct full *f) {
    const uint64_t used = f->stats.ctx_used, cap = f->stats.ctx_cap;
    char text[160];
    if (cap == 0 || used * 100 < cap * CONTEXT_SOON) {
        f->warned_soon = f->warned_full = false;
        return;
    }
    const bool full = used * 100 >= cap * CONTEXT_FULL;
    if (full ? f->warned_full : f->warned_soon) {
        return;
    }
    f->warned_soon = true;
    f->warned_full = full;
    const int n =
        snprintf(text, sizeof text,
                 "the context is %u%% full: %llu of %llu tokens (/new starts over, --ctx "
                 "makes it larger)",
                 (unsigned)(used * 100 / cap), (unsigned long long)used, (unsigned long long)cap);
    full_say(f, TUI_ITEM_WARN, text, (size_t)n);
}

/* What the device said when it was asked last, and asks again. */
static void ask_device(struct full *f) {
    struct gpu_who who = {.pid = f->stats.pid};
    snprintf(who.backend, sizeof who.backend, "%s", f->stats.backend);
    snprintf(who.device, sizeof who.device, "%s", f->stats.device);
    gpu_latest(f->device, &f->dash.device);
    gpu_ask(f->device, &who);
}

static void look(struct full *f) {
    uint64_t seq = 0;
    const uint64_t now = tl_now_ns();
    const uint32_t watched = f->show_dash ? tui_dash_watches(&f->dash) : UINT32_MAX;
    if (watched != UINT32_MAX) {
        tl_stats_watch(f->share->page, watched, now);
    }
    if (!tl_stats_read(f->share->page, &f->stats, &seq)) {
        return;
    }
    const bool sampled = f->show_dash && !f->dash.paused &&
                         now - f->dash.sampled_ns >= (uint64_t)f->dash.interval_ms * 1000000;
    if (sampled) {
        ask_device(f);
    }
    if (seq != f->stats_seq || sampled) {
        tui_dash_update(&f->dash, &f->stats, now);
        warn_of_context(f);
        f->dirty = true;
    }
    f->stats_seq = seq;
}

/* What drivers and libraries wrote to standard error belongs on the screen too. */
static void take_stray_errors(struct full *f) {
    tl_bytes text = {0};
    if (tui_screen_errors(f->screen, &text) == TL_OK && text.len > 0) {
        full_say(f, TUI_ITEM_WARN, text.data, text.len);
    }
    tl_bytes_free(&text);
}

/* ---- the loop ---- */

/* How long to sleep: until the frame is due, or until something may have changed by itself. */
static int sleep_ms(const struct full *f, uint64_t drawn_ns) {
    if (f->dirty) {
        const uint64_t since_ms = (tl_now_ns() - drawn_ns) / 1000000;
        return since_ms >= FRAME_MS ? 0 : (int)(FRAME_MS - since_ms);
    }
    if (f->busy || !f->ready) {
        return 100;
    }
    return f->show_dash && !f->dash.paused ? (int)f->dash.interval_ms : 1000;
}

static void one_round(struct full *f, uint64_t *drawn_ns) {
    struct tui_key key;
    int32_t rows = 0, cols = 0;
    tui_screen_wait(f->screen, f->wake[0], sleep_ms(f, *drawn_ns));
    /* A long paste is many keys: the screen goes on meanwhile. */
    for (const uint64_t until = tl_now_ns() + (uint64_t)FRAME_MS * 1000000;
         !f->quit && tl_now_ns() < until && tui_screen_key(f->screen, &key);) {
        full_key(f, &key);
    }
    full_paste(f);
    for (const struct cli_event *e; (e = cli_worker_event(f->worker)) != NULL;) {
        take_event(f, e);
    }
    if (tui_screen_wants_stop(f->screen)) {
        tui_screen_stop(f->screen);
        f->dirty = true;
    }
    if (tui_screen_ended(f->screen) != 0) {
        f->quit = true;
        f->signal = tui_screen_ended(f->screen);
    }
    take_stray_errors(f);
    look(f);
    f->dirty |= f->busy || !f->ready; /* clocks and progress */
    f->dirty |= tui_screen_size(f->screen, &rows, &cols);
    const uint64_t now = tl_now_ns();
    if (f->dirty && now - *drawn_ns >= (uint64_t)FRAME_MS * 1000000) {
        if (f->grid.rows != rows || f->grid.cols != cols) {
            f->dirty = tui_grid_resize(&f->grid, rows, cols) != TL_OK;
        }
        full_draw(f);
        f->dirty = !tui_screen_draw(f->screen, &f->grid);
        *drawn_ns = now;
    }
}

/* A model that does not load leaves its error on the screen until a key is pressed. */
static void run(struct full *f) {
    uint64_t drawn_ns = 0;
    f->dirty = true;
    while (!f->quit && !(f->ended && f->ready)) {
        one_round(f, &drawn_ns);
    }
}

static bool open_wake(struct full *f) {
    if (pipe(f->wake) != 0) {
        f->wake[0] = f->wake[1] = -1;
        return false;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(f->wake[i], F_SETFL, O_NONBLOCK);
        fcntl(f->wake[i], F_SETFD, FD_CLOEXEC);
    }
    return true;
}

tl_err full_screen_open(tui_screen **out, bool *ascii, const char *theme, const tl_log *log) {
    const char *const no_color = getenv("NO_COLOR"), *const color = getenv("COLORTERM");
    struct tui_theme own = *tui_theme_find("dark");
    if (theme != NULL && tui_theme_find(theme) != NULL) {
        own = *tui_theme_find(theme);
    } else if (theme != NULL) {
        tl_bytes text = {0};
        if (!cli_read_file(theme, &text)) {
            return TL_ERR_IO;
        }
        const tl_err err = tui_theme_read(text.data, text.len, theme, &own, log);
        tl_bytes_free(&text);
        TL_TRY(err);
    }
    const struct tui_screen_params params = {
        .theme = &own,
        .no_color = no_color != NULL && *no_color != '\0',
        .true_color =
            color != NULL && (strcmp(color, "truecolor") == 0 || strcmp(color, "24bit") == 0),
        .mouse = true,
    };
    *ascii = *ascii || strcmp(nl_langinfo(CODESET), "UTF-8") != 0;
    return tui_screen_open(out, &params, log);
}

static void greet(struct full *f) {
    static const char text[] = "Type a message, or /help for the commands. F1 keys, F2 dashboard, "
                               "F4 plan, F10 leaves.";
    full_say(f, TUI_ITEM_NOTE, text, sizeof text - 1);
}

/* Returns the chat's exit code. */
static int close_parts(struct full *f) {
    tui_screen_close(&f->screen);
    if (f->worker != NULL && !f->ended && !f->ready) {
        _exit(f->signal != 0 ? 128 + f->signal : 0); /* still loading: nobody waits for that */
    }
    const int code = cli_worker_close(&f->worker);
    cli_share_close(&f->share);
    gpu_close(&f->device);
    close(f->wake[0]);
    close(f->wake[1]);
    tui_grid_free(&f->grid);
    tui_talk_free(&f->talk);
    tui_edit_free(&f->edit);
    tui_dash_free(&f->dash);
    tl_bytes_free(&f->plan);
    tl_bytes_free(&f->hint);
    tl_bytes_free(&f->pasted);
    tl_bytes_free(&f->history_path);
    return code;
}

bool full_chat(const struct cli_args *args, int *code) {
    struct full f = {.wake = {-1, -1}, .load_begin_ns = tl_now_ns()};
    struct cli_log said = {0};
    const tl_log log = cli_log_of(&said);
    bool ascii = args->ascii;
    tl_err err = full_screen_open(&f.screen, &ascii, args->theme, &log);
    if (err) {
        *code = 1;
        return err != TL_ERR_UNSUPPORTED; /* lines will do, but not for a broken theme */
    }
    f.grid.ascii = ascii;
    cli_share_open(&f.share, "chat");
    err = f.share == NULL || tui_dash_init(&f.dash) || !open_wake(&f) ? TL_ERR_MEMORY : TL_OK;
    if (!err) {
        err = gpu_open(&f.device, &gpu_places);
    }
    if (!err) {
        err = gpu_start(f.device);
    }
    if (!err) {
        err = cli_worker_open(&f.worker, args, f.share, f.wake[1]);
    }
    if (!err) {
        full_history_open(&f);
        greet(&f);
        run(&f);
    }
    const int signal_number = f.signal, kept = close_parts(&f);
    *code = err ? 1 : signal_number != 0 ? 128 + signal_number : kept;
    if (err) {
        cli_error("chat: out of memory");
    }
    return true;
}
