/* The full screen of `tailor top`: a list of the tailors where there are several, and the dashboard
 * of one of them. It outlives them: who has gone is marked and keeps what it showed last. */
#include "full.h"
#include "gpu.h"
#include "top.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME_MS = 33 };

struct view {
    tui_screen *screen;
    tui_grid grid;
    tui_dash dash;
    struct top *top;
    struct tui_rect list, rest, status;
    uint64_t shown; /* the process whose dashboard it is */
    bool help, quit, dirty;
};

static const char help_text[] =
    "Tab, 1 to 9    the next tailor, that one\n"
    "Up, Down       choose a layer            Enter  show it, and back\n"
    "s, F6          sort by the next column   r      turn the order\n"
    "p, F5          pause                     + -    slower, faster\n"
    "?, F1          this                      q, F10 leave\n"
    "Clicks choose a tailor, a layer or a column.";

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
    gpu_read(one->stats.backend, one->stats.device, &v->dash.device);
}

/* ---- drawing ---- */

static void draw_list(struct view *v) {
    static const char *const doing[] = {"loading", "idle", "reading", "answering"};
    tui_grid *const g = &v->grid;
    for (int32_t row = 0; row < v->list.rows; row++) {
        const struct top_one *const one = &v->top->ones[row];
        const struct tl_stats *const s = &one->stats;
        const unsigned style = one->pid == v->shown ? TUI_SELECTED : TUI_TEXT;
        const struct tui_at at = {v->list, row, 0, style};
        char rate[24] = "N/A";
        if (!isnan(s->tokens_per_s)) {
            snprintf(rate, sizeof rate, "%.1f", s->tokens_per_s);
        }
        tui_fill(g, (struct tui_rect){v->list.row + row, v->list.col, 1, v->list.cols}, style);
        tui_putf(g, at, " %d %8llu %-5s %-9s %7s/s %6u/%-6u %s, %s", row + 1,
                 (unsigned long long)one->pid, s->command,
                 one->ended ? "ENDED" : doing[s->activity & 3], rate, s->ctx_used, s->ctx_cap,
                 s->model, s->kv);
    }
}

static void draw_help(struct view *v) {
    tui_grid *const g = &v->grid;
    tui_text lines = {0};
    const struct tui_rect box = tui_layout_box(tui_grid_rect(g), (struct tui_rect){0, 0, 8, 76});
    if (tui_text_wrap(&lines, help_text, sizeof help_text - 1, box.cols - 2, TUI_TEXT) == TL_OK) {
        tui_fill(g, box, TUI_TITLE);
        const struct tui_rect inside = {box.row + 1, box.col + 1, box.rows - 2, box.cols - 2};
        for (uint32_t i = 0; i < lines.n_lines; i++) {
            tui_text_draw(g, (struct tui_at){inside, (int32_t)i, 0, TUI_TEXT}, &lines, i,
                          help_text);
        }
    }
    tui_text_free(&lines);
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
    if (n > 0) {
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

static void next_sort(struct view *v) {
    v->dash.sort = (tui_sort)((v->dash.sort + 1) % TUI_SORT_COUNT);
    v->dash.descending = v->dash.sort != TUI_SORT_LAYER;
}

static void set_interval(struct view *v, bool slower) {
    const uint32_t ms = slower ? v->dash.interval_ms * 2 : v->dash.interval_ms / 2;
    v->dash.interval_ms = ms < 100 ? 100 : ms > 10000 ? 10000 : ms;
}

static void char_key(struct view *v, uint32_t ch) {
    if (ch == 'q' || ch == 'C' - '@' || ch == 'D' - '@') {
        v->quit = true;
    } else if (ch == '?' || ch == 'h') {
        v->help = !v->help;
    } else if (ch == 'p' || ch == ' ') {
        v->dash.paused = !v->dash.paused;
    } else if (ch == 's' || ch == '>') {
        next_sort(v);
    } else if (ch == 'r') {
        v->dash.descending = !v->dash.descending;
    } else if (ch == '+' || ch == '-') {
        set_interval(v, ch == '+');
    } else if (ch == 'j' || ch == 'k') {
        tui_dash_move(&v->dash, ch == 'j' ? 1 : -1);
    } else if (ch == 'L' - '@') {
        tui_screen_redraw(v->screen);
    } else if (ch == 'Z' - '@') {
        tui_screen_stop(v->screen);
    } else if (ch >= '1' && ch <= '9') {
        show_one(v, ch - '1');
    }
}

static void function_key(struct view *v, uint32_t n) {
    static const char as_char[] = {
        [1] = '?', [5] = 'p', [6] = 's', [7] = '-', [8] = '+', [10] = 'q'};
    if (n < sizeof as_char && as_char[n] != 0) {
        char_key(v, (unsigned char)as_char[n]);
    }
}

static void click(struct view *v, const struct tui_key *key) {
    if (tui_rect_has(v->list, key->row, key->col)) {
        show_one(v, (size_t)(key->row - v->list.row));
    } else if (tui_rect_has(v->rest, key->row, key->col) && v->top->n > 0) {
        tui_dash_click(&v->dash, v->rest, key->row, key->col);
    }
}

static void take_key(struct view *v, const struct tui_key *key) {
    v->dirty = true;
    if (v->help && !(key->kind == TUI_KEY_CHAR && key->ch < 0x20)) {
        v->help = false; /* any key puts it away */
        return;
    }
    switch (key->kind) {
    case TUI_KEY_UP:
    case TUI_KEY_WHEEL_UP:
        tui_dash_move(&v->dash, -1);
        return;
    case TUI_KEY_DOWN:
    case TUI_KEY_WHEEL_DOWN:
        tui_dash_move(&v->dash, 1);
        return;
    case TUI_KEY_PAGE_UP:
        tui_dash_move(&v->dash, -10);
        return;
    case TUI_KEY_PAGE_DOWN:
        tui_dash_move(&v->dash, 10);
        return;
    case TUI_KEY_LEFT:
    case TUI_KEY_RIGHT:
        next_sort(v);
        return;
    case TUI_KEY_ENTER:
        v->dash.detail = !v->dash.detail;
        return;
    case TUI_KEY_ESCAPE:
        v->dash.detail = false;
        return;
    case TUI_KEY_TAB:
        if (v->top->n > 0) {
            show_one(v, (index_of(v) + 1) % v->top->n);
        }
        return;
    case TUI_KEY_CLICK:
        click(v, key);
        return;
    case TUI_KEY_FUNCTION:
        function_key(v, key->ch);
        return;
    case TUI_KEY_CHAR:
        char_key(v, key->ch);
        return;
    default:
        return;
    }
}

/* ---- the loop ---- */

static void one_round(struct view *v, uint64_t *refreshed_ns) {
    struct tui_key key;
    int32_t rows = 0, cols = 0;
    const uint64_t interval_ns = (uint64_t)v->dash.interval_ms * 1000000;
    const uint64_t since = tl_now_ns() - *refreshed_ns;
    tui_screen_wait(v->screen, -1,
                    since >= interval_ns ? 0 : (int)((interval_ns - since) / 1000000) + 1);
    while (!v->quit && tui_screen_key(v->screen, &key)) {
        take_key(v, &key);
    }
    if (tui_screen_wants_stop(v->screen)) {
        tui_screen_stop(v->screen);
    }
    v->quit = v->quit || tui_screen_ended(v->screen) != 0;
    if (tl_now_ns() - *refreshed_ns >= interval_ns || v->dirty) {
        refresh(v);
        *refreshed_ns = tl_now_ns();
        v->dirty = true;
    }
    v->dirty |= tui_screen_size(v->screen, &rows, &cols);
    if (v->dirty) {
        if (v->grid.rows != rows || v->grid.cols != cols) {
            if (tui_grid_resize(&v->grid, rows, cols)) {
                return;
            }
        }
        draw(v);
        tui_screen_draw(v->screen, &v->grid);
        v->dirty = false;
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
        v.dash.interval_ms = args->delay > 0 ? (uint32_t)(args->delay * 1000) : v.dash.interval_ms;
        v.dash.interval_ms = v.dash.interval_ms < 100 ? 100 : v.dash.interval_ms;
        uint64_t refreshed_ns = 0;
        while (!v.quit) {
            one_round(&v, &refreshed_ns);
        }
    }
    const int signal_number = tui_screen_ended(v.screen);
    tui_screen_close(&v.screen);
    tui_grid_free(&v.grid);
    tui_dash_free(&v.dash);
    return err ? 1 : signal_number != 0 ? 128 + signal_number : 0;
}
