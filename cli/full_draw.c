/* The whole screen from the state: panes, title, status, what lies over them. */
#include "full.h"

#include "tui/plot.h"

#include <math.h>
#include <string.h>

static const char help_text[] =
    "Enter            send            Alt+Enter, Ctrl+J  new line\n"
    "Ctrl+C, Esc      stop the answer; Ctrl+C again or Ctrl+D leaves\n"
    "Up, Down         history         Tab                complete; on an empty prompt: dashboard\n"
    "PgUp, PgDn       scroll          Ctrl+Home, +End    to the beginning, to the end\n"
    "Ctrl+A E B F     move            Ctrl+K U W Y       cut to the end, the beginning, a word; "
    "put back\n"
    "Ctrl+X Ctrl+E    $EDITOR         Ctrl+L             draw anew    Ctrl+Z  stop\n"
    "\n"
    "F1  this         F2  dashboard   F3  keys to the dashboard   F4  plan\n"
    "F5  pause        F6  sort        F7, F8  faster, slower      F10 leave\n"
    "F9  what the last token looked at, as text\n"
    "\n"
    "In the dashboard: arrows choose a layer, Enter shows it, s sorts, r turns the order,\n"
    "t tells what it looked at, p pauses, + and - set the interval, ? helps, Esc goes back, q "
    "leaves. Clicks choose too.\n"
    "\n"
    "Commands: /help";

static struct tui_at at_of(struct tui_rect rect, int32_t row, int32_t col, unsigned style) {
    return (struct tui_at){rect, row, col, style};
}

static void draw_title(struct full *f) {
    tui_grid *const g = &f->grid;
    const struct tui_rect r = f->layout.title;
    const struct tl_stats *const s = &f->stats;
    if (r.rows == 0) {
        return;
    }
    tui_fill(g, r, TUI_TITLE);
    int32_t col = tui_puts(g, at_of(r, 0, 1, TUI_TITLE | TUI_BOLD), "tailor");
    if (s->n_layers == 0) {
        return;
    }
    char text[96];
    const double share = s->ctx_cap > 0 ? (double)s->ctx_used / s->ctx_cap : (double)NAN;
    const int n =
        snprintf(text, sizeof text, " %u/%u %.0f%% ", s->ctx_used, s->ctx_cap, 100 * share);
    const int32_t bar = r.cols >= 70 ? 16 : 8;
    const int32_t from = r.cols - n - bar;
    col = tui_putf(g, at_of(r, 0, col + 1, TUI_TITLE), "%s, cache %s", s->model, s->kv);
    if (col + 1 < from) {
        tui_plot_gauge(g, at_of(r, 0, from, TUI_TITLE), bar, share);
    }
    if (r.cols > n + 8) {
        tui_repeat(g, at_of(r, 0, r.cols - n, TUI_TITLE), ' ', n);
        tui_puts(g, at_of(r, 0, r.cols - n, TUI_TITLE | (share > 0.8 ? TUI_BOLD : 0u)), text);
    }
}

/* What is going on, with rate and time left where they are known. */
static int32_t draw_activity(struct full *f, struct tui_rect r) {
    static const char *const wheel[] = {"|", "/", "-", "\\"};
    const struct tl_stats *const s = &f->stats;
    const uint64_t now = tl_now_ns();
    const char *const turning = wheel[now / 150000000 % 4];
    tui_grid *const g = &f->grid;
    const struct tui_at at = at_of(r, 0, 1, TUI_STATUS);
    if (f->ended) {
        return tui_puts(g, at, "the model did not load; any key leaves");
    }
    if (!f->ready) {
        return tui_putf(g, at, "%s loading, %.1f s", turning,
                        (double)(now - f->load_begin_ns) / 1e9);
    }
    const bool busy = f->busy || f->n_waiting > 0;
    if (s->activity == TL_ACTIVITY_PROMPT && busy) {
        const double seconds = (double)(now - s->prompt_begin_ns) / 1e9;
        if (s->prompt_done == 0) {
            return tui_putf(g, at, "%s reading %llu tokens, %.1f s", turning,
                            (unsigned long long)s->prompt_total, seconds);
        }
        const double rate =
            (double)s->prompt_done * 1e9 / (double)(s->prompt_end_ns - s->prompt_begin_ns + 1);
        const double left = (double)(s->prompt_total - s->prompt_done) / rate;
        return tui_putf(g, at, "%s reading %llu of %llu tokens, %.0f/s, %.0f s left", turning,
                        (unsigned long long)s->prompt_done, (unsigned long long)s->prompt_total,
                        rate, left);
    }
    if (busy) {
        return isnan(s->tokens_per_s)
                   ? tui_putf(g, at, "%s working", turning)
                   : tui_putf(g, at, "%s answering, %.1f tokens/s", turning, s->tokens_per_s);
    }
    if (isnan(s->tokens_per_s)) {
        return tui_puts(g, at, "ready");
    }
    return tui_putf(g, at, "ready, %.1f tokens/s", s->tokens_per_s);
}

static void draw_status(struct full *f) {
    static const struct {
        const char *key, *name;
    } keys[] = {{"F1", "help"}, {"F2", "cache"}, {"F4", "plan"}, {"F10", "quit"}};
    tui_grid *const g = &f->grid;
    const struct tui_rect r = f->layout.status;
    if (r.rows == 0) {
        return;
    }
    tui_fill(g, r, TUI_STATUS);
    int32_t col = f->hint.len > 0
                      ? tui_put(g, at_of(r, 0, 1, TUI_STATUS | TUI_BOLD), f->hint.data, f->hint.len)
                      : draw_activity(f, r);
    if (f->n_waiting > 0 && f->busy) {
        col = tui_putf(g, at_of(r, 0, col, TUI_STATUS), ", %u waiting", f->n_waiting);
    }
    if (f->layout.title.rows == 0 && f->stats.ctx_cap > 0) {
        col = tui_putf(g, at_of(r, 0, col + 1, TUI_STATUS), "%llu%%",
                       (unsigned long long)f->stats.ctx_used * 100 / f->stats.ctx_cap);
    }
    int32_t right = r.cols;
    for (size_t i = sizeof keys / sizeof keys[0]; i > 0; i--) {
        const int32_t n = (int32_t)(strlen(keys[i - 1].key) + strlen(keys[i - 1].name)) + 2;
        if (right - n <= col + 1) {
            break;
        }
        right -= n;
        const int32_t at = tui_puts(g, at_of(r, 0, right, TUI_KEY), keys[i - 1].key);
        tui_puts(g, at_of(r, 0, at + 1, TUI_STATUS), keys[i - 1].name);
    }
}

/* A box with a border, as wide as its text and the screen allow. */
static void draw_box(struct full *f, const char *title, const char *text, size_t n) {
    tui_grid *const g = &f->grid;
    const struct tui_rect screen = tui_grid_rect(g);
    tui_text lines = {0};
    const int32_t cols = screen.cols - 4 < 94 ? screen.cols - 4 : 94;
    if (cols < 8 || tui_text_wrap(&lines, text, n, cols - 2, TUI_TEXT)) {
        tui_text_free(&lines);
        return;
    }
    const struct tui_rect box =
        tui_layout_box(screen, (struct tui_rect){0, 0, (int32_t)lines.n_lines + 2, cols + 2});
    const struct tui_rect inside = {box.row + 1, box.col + 2, box.rows - 2, box.cols - 4};
    tui_fill(g, box, TUI_TEXT);
    for (int32_t row = 0; row < box.rows; row++) {
        const bool edge = row == 0 || row + 1 == box.rows;
        if (edge) {
            tui_repeat(g, at_of(box, row, 0, TUI_BORDER), 0x2500, box.cols);
        }
        tui_repeat(g, at_of(box, row, 0, TUI_BORDER), edge ? '+' : 0x2502, 1);
        tui_repeat(g, at_of(box, row, box.cols - 1, TUI_BORDER), edge ? '+' : 0x2502, 1);
    }
    tui_putf(g, at_of(box, 0, 2, TUI_HEADING | TUI_BOLD), " %s ", title);
    for (uint32_t i = 0; i < lines.n_lines; i++) {
        tui_text_draw(g, at_of(inside, (int32_t)i, 0, TUI_TEXT), &lines, i, text);
    }
    tui_text_free(&lines);
    g->cursor_row = g->cursor_col = -1;
}

static void draw_plan(struct full *f) {
    static const char none[] = "nothing is loaded yet";
    tl_bytes text = {0};
    tl_err err = tl_bytes_add_str(&text, f->plan.len > 0 ? f->plan.data : none);
    for (uint32_t il = 0; il < f->stats.n_layers_shown && !err; il++) {
        const struct tl_stats_layer *const l = &f->stats.layers[il];
        char line[192], bytes[2][16];
        if (il > 0 && strcmp(l->policy, l[-1].policy) == 0) {
            continue; /* like the one before */
        }
        snprintf(line, sizeof line, "layers from %u: %s, each %s on the device, %s on the host\n",
                 il, l->policy, tui_bytes((double)tl_kv_device_bytes(&l->room), bytes[0]),
                 tui_bytes((double)l->room.home_host, bytes[1]));
        err = tl_bytes_add_str(&text, line);
    }
    if (!err) {
        draw_box(f, "plan", text.data, text.len);
    }
    tl_bytes_free(&text);
}

void full_draw(struct full *f) {
    tui_grid *const g = &f->grid;
    const struct tui_rect screen = tui_grid_rect(g);
    const struct tui_wish wish = {.prompt_rows = tui_edit_rows(&f->edit, screen.cols),
                                  .dash = f->show_dash};
    tui_grid_clear(g);
    tui_layout_chat(screen, &wish, &f->layout);
    draw_title(f);
    if (tui_talk_draw(g, f->layout.chat, &f->talk)) {
        full_hint(f, "out of memory");
    }
    for (int32_t row = 0; row < f->layout.border.rows; row++) {
        tui_repeat(g, at_of(f->layout.border, row, 0, TUI_BORDER), 0x2502, f->layout.border.cols);
    }
    if (f->layout.dash.rows > 0) {
        tui_dash_draw(g, f->layout.dash, &f->dash);
    }
    tui_edit_draw(g, f->layout.prompt, &f->edit, ">");
    if (f->edit.text.len == 0) {
        tui_puts(g, at_of(f->layout.prompt, 0, 2, TUI_DIM),
                 f->ready ? "say something" : "you can write already");
    }
    draw_status(f);
    if (f->dash.focus) {
        g->cursor_row = g->cursor_col = -1;
    }
    if (f->over == OVER_HELP) {
        draw_box(f, "keys", help_text, sizeof help_text - 1);
    } else if (f->over == OVER_PLAN) {
        draw_plan(f);
    }
}
