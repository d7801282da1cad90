/* The full screen of `tailor top`: a list of the tailors where there are several, and the dashboard
 * of one of them. It outlives them: who has gone is marked and keeps what it showed last. */
#include "full.h"
#include "top.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME_MS = 33 };

struct view {
    tui_screen *screen;
    tui_grid grid;
    tui_dash dash;
    gpu *device;
    struct top *top;
    struct tui_rect list, rest, status;
    uint64_t shown;                 /* the process whose dashboard it is */
    const char *hint;               /* a short word in the status line, or NULL */
    int32_t list_first, help_first; /* the first lines in view */
    bool help, quit, dirty;
    uint64_t drawn_ns, refreshed_ns;
};

static const struct tui_help help[] = {
    {"Tab, 1 to 9", "the next tailor, that one"},
    {"Up, Down, j, k", "choose a layer; PgUp, PgDn, Home, End; clicks too"},
    {"Enter", "show all of it; Esc, Enter: back"},
    {"s, F6, arrows", "sort by another column (clicks on their names too)"},
    {"r", "turn the order"},
    {"p, F5", "pause"},
    {"z, M", "begin the histories anew; sort by bytes"},
    {"+, F8", "slower"},
    {"-, F7", "faster"},
    {"?, F1", "this"},
    {"q, F10, Ctrl+C", "leave"},
    {NULL, ""},
    {NULL, "tailor top --help tells of --once, --json, --csv and --prometheus."},
};

static size_t index_of(const struct view *v) {
    for (size_t i = 0; i < v->top->n; i++) {
        if (v->top->ones[i].pid == v->shown) {
            return i;
        }
    }
    return 0;
}

static void show_one(struct view *v, size_t i) {
    if (i < v->top->n && v->top->ones[i].pid != v->shown) {
        v->shown = v->top->ones[i].pid;
        tui_dash_forget(&v->dash);
        v->dash.paused = false;
    }
}

static void refresh(struct view *v) {
    top_refresh(v->top, true);
    if (v->top->n == 0) {
        return;
    }
    const size_t i = index_of(v);
    const struct top_one *const one = &v->top->ones[i];
    show_one(v, i);
    v->dash.ended = one->ended;
    if (one->known) {
        tui_dash_update(&v->dash, &one->stats, tl_now_ns());
    }
    const uint32_t watched = tui_dash_watches(&v->dash);
    if (!one->ended && watched != UINT32_MAX) {
        tl_stats_watch(one->page, watched, tl_now_ns());
    }
    struct gpu_who who = {.pid = one->pid};
    snprintf(who.backend, sizeof who.backend, "%s", one->stats.backend);
    snprintf(who.device, sizeof who.device, "%s", one->stats.device);
    gpu_latest(v->device, &v->dash.device);
    gpu_ask(v->device, &who);
}

/* ---- drawing ---- */

static void draw_list(struct view *v) {
    static const char *const doing[] = {"loading", "idle", "reading", "answering"};
    tui_grid *const g = &v->grid;
    const int32_t n = (int32_t)v->top->n, rows = v->list.rows, at = (int32_t)index_of(v);
    v->list_first = at < v->list_first           ? at
                    : at >= v->list_first + rows ? at - rows + 1
                                                 : v->list_first;
    v->list_first = v->list_first > n - rows ? n - rows : v->list_first;
    for (int32_t row = 0; row < rows; row++) {
        const int32_t i = v->list_first + row;
        const struct top_one *const one = &v->top->ones[i];
        const struct tl_stats *const s = &one->stats;
        const unsigned style = one->pid == v->shown ? TUI_SELECTED : TUI_TEXT;
        const struct tui_at where = {v->list, row, 0, style};
        char rate[24] = "N/A";
        if (!isnan(s->tokens_per_s)) {
            snprintf(rate, sizeof rate, "%.1f", s->tokens_per_s);
        }
        tui_fill(g, (struct tui_rect){v->list.row + row, v->list.col, 1, v->list.cols}, style);
        tui_putf(g, where, " %d %8llu %-5s %-9s %7s/s %6u/%-6u %s, %s", i + 1,
                 (unsigned long long)one->pid, s->command,
                 one->ended ? "ENDED" : doing[s->activity & 3], rate, s->ctx_used, s->ctx_cap,
                 s->model, s->kv);
    }
}

static void draw_help(struct view *v) {
    tl_bytes text = {0};
    tl_err err = tui_help_spell(help, sizeof help / sizeof help[0], v->grid.cols, &text);
    if (!err) {
        err = tui_box_draw(&v->grid, "keys", text.data, text.len, &v->help_first);
    }
    v->help = v->help && !err;
    tl_bytes_free(&text);
}

static void draw(struct view *v) {
    tui_grid *const g = &v->grid;
    const struct tui_rect screen = tui_grid_rect(g);
    const int32_t n = (int32_t)v->top->n;
    const int32_t n_list = n > 1 ? (n < screen.rows / 3 ? n : screen.rows / 3) : 0;
    tui_grid_clear(g);
    v->list = (struct tui_rect){0, 0, n_list, screen.cols};
    v->status = (struct tui_rect){screen.rows - 1, 0, screen.rows > 2 ? 1 : 0, screen.cols};
    v->rest = tui_rect_below(screen, n_list);
    v->rest.rows -= v->rest.rows > v->status.rows ? v->status.rows : 0;
    draw_list(v);
    if (n == 0) {
        tui_puts(g, (struct tui_at){v->rest, 0, 1, TUI_DIM},
                 "no tailor is running; waiting for one");
    } else {
        v->dash.focus = true;
        tui_dash_draw(g, v->rest, &v->dash);
    }
    tui_fill(g, v->status, TUI_STATUS);
    const struct tui_at at = {v->status, 0, 1, TUI_STATUS};
    if (v->hint != NULL) {
        tui_puts(g, at, v->hint);
    } else if (n > 0) {
        tui_putf(g, at, "%llu%s  ?:help s:sort p:pause Enter:layer q:quit",
                 (unsigned long long)v->shown, v->dash.ended ? " has ended" : "");
    } else {
        tui_puts(g, at, "q:quit");
    }
    if (v->help) {
        draw_help(v);
    }
}

/* ---- keys ---- */

/* Keys that are not the dashboard's; false where this is none of them. */
static bool own_key(struct view *v, const struct tui_key *key) {
    if (key->kind == TUI_KEY_TAB && v->top->n > 0) {
        show_one(v, (index_of(v) + 1) % v->top->n);
    } else if (key->kind != TUI_KEY_CHAR || key->alt) {
        return false;
    } else if (key->ch == 'C' - '@' || key->ch == 'D' - '@') {
        v->quit = true;
    } else if (key->ch == 'L' - '@') {
        tui_screen_redraw(v->screen);
    } else if (key->ch == 'Z' - '@') {
        tui_screen_stop(v->screen);
    } else if (key->ch >= '1' && key->ch <= '9') {
        show_one(v, key->ch - '1');
    } else {
        return false;
    }
    return true;
}

static void take_wish(struct view *v, const struct tui_key *key) {
    const char *const instead = tui_dash_other_key(key);
    switch (tui_dash_key(&v->dash, key)) {
    case TUI_DASH_DONE:
    case TUI_DASH_BACK:
        return;
    case TUI_DASH_UNKNOWN:
        v->hint = instead != NULL ? instead : "no such key; ? lists them";
        return;
    case TUI_DASH_HELP:
        v->help = !v->help;
        v->help_first = 0;
        return;
    case TUI_DASH_LOOK:
        v->hint = "the words are the chat's: F9 there";
        return;
    case TUI_DASH_QUIT:
        v->quit = true;
        return;
    }
}

static void click(struct view *v, const struct tui_key *key) {
    if (tui_rect_has(v->list, key->row, key->col)) {
        show_one(v, (size_t)(v->list_first + key->row - v->list.row));
    } else if (tui_rect_has(v->rest, key->row, key->col) && v->top->n > 0) {
        tui_dash_click(&v->dash, v->rest, key->row, key->col);
    }
}

static void take_key(struct view *v, const struct tui_key *key) {
    const bool control = key->kind == TUI_KEY_CHAR && key->ch < 0x20;
    v->dirty = true;
    v->hint = NULL;
    if (v->help && !control && key->kind != TUI_KEY_OTHER) {
        v->help = tui_box_key(key, v->grid.rows, &v->help_first); /* other keys put it away */
    } else if (key->kind == TUI_KEY_CLICK) {
        click(v, key);
    } else if (key->kind != TUI_KEY_OTHER && !own_key(v, key)) {
        take_wish(v, key);
    }
}

/* ---- the loop ---- */

/* Milliseconds until the next frame, where there is something to draw, or the next look. */
static int sleep_ms(const struct view *v) {
    const uint64_t ms = v->dirty ? FRAME_MS : v->dash.interval_ms;
    const uint64_t since_ms = (tl_now_ns() - (v->dirty ? v->drawn_ns : v->refreshed_ns)) / 1000000;
    return since_ms >= ms ? 0 : (int)(ms - since_ms) + !v->dirty;
}

static void draw_now(struct view *v, int32_t rows, int32_t cols) {
    if (v->grid.rows != rows || v->grid.cols != cols) {
        if (tui_grid_resize(&v->grid, rows, cols)) {
            return;
        }
    }
    draw(v);
    v->dirty = !tui_screen_draw(v->screen, &v->grid);
    v->drawn_ns = tl_now_ns();
}

static void one_round(struct view *v) {
    struct tui_key key;
    int32_t rows = 0, cols = 0;
    tui_screen_wait(v->screen, -1, sleep_ms(v));
    while (!v->quit && tui_screen_key(v->screen, &key)) {
        take_key(v, &key);
    }
    if (tui_screen_wants_stop(v->screen)) {
        tui_screen_stop(v->screen);
    }
    v->quit = v->quit || tui_screen_ended(v->screen) != 0;
    v->dirty |= tui_screen_size(v->screen, &rows, &cols);
    const uint64_t now = tl_now_ns();
    const bool look = now - v->refreshed_ns >= (uint64_t)v->dash.interval_ms * 1000000;
    const bool due = now - v->drawn_ns >= (uint64_t)FRAME_MS * 1000000;
    if (due && (look || v->dirty)) { /* keys may have chosen another one */
        refresh(v);
        v->refreshed_ns = now;
        draw_now(v, rows, cols);
    }
}

int top_screen(struct top *top, const struct cli_args *args) {
    struct view v = {.top = top, .dirty = true};
    struct cli_log said = {0};
    const tl_log log = cli_log_of(&said);
    bool ascii = args->ascii;
    if (full_screen_open(&v.screen, &ascii, args->theme, &log)) {
        return 1;
    }
    v.grid.ascii = ascii;
    tl_err err = tui_dash_init(&v.dash);
    if (!err) {
        err = gpu_open(&v.device, &gpu_places);
    }
    if (!err) {
        err = gpu_start(v.device);
    }
    if (!err) {
        v.dash.interval_ms = args->delay > 0 ? (uint32_t)(args->delay * 1000) : v.dash.interval_ms;
        v.dash.interval_ms = v.dash.interval_ms < 100 ? 100 : v.dash.interval_ms;
        while (!v.quit) {
            one_round(&v);
        }
    }
    const int signal_number = tui_screen_ended(v.screen);
    tui_screen_close(&v.screen);
    gpu_close(&v.device);
    tui_grid_free(&v.grid);
    tui_dash_free(&v.dash);
    return err ? 1 : signal_number != 0 ? 128 + signal_number : 0;
}
