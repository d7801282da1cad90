/* The whole screen from the state: panes, title, status, what lies over them. */
#include "full.h"

#include "tui/plot.h"

#include <math.h>
#include <string.h>

static const struct tui_help help[] = {
    {"Enter", "send"},
    {"Alt+Enter, Ctrl+J", "new line; so does \\ at the end, or \"\"\" around all"},
    {"Ctrl+C, Esc", "stop the answer; a second Ctrl+C leaves, as Ctrl+D does"},
    {"Up, Down", "older and newer messages"},
    {"Ctrl+R", "search them; again: older, Ctrl+S: newer, Ctrl+G: give up"},
    {"Tab", "complete a command, a file; on an empty prompt: F2"},
    {"PgUp, PgDn, wheel", "scroll; Ctrl+Home, Ctrl+End: to the beginning, the end"},
    {"Ctrl+A E B F", "move, as the arrows do; Alt+B, Alt+F by words"},
    {"Ctrl+K U W, Alt+D", "cut to the end, the beginning, a word; Ctrl+Y puts it back"},
    {"Ctrl+X Ctrl+E", "write in $EDITOR (Ctrl+O, Ctrl+G too)"},
    {"Ctrl+L", "draw the screen anew"},
    {"Ctrl+Z", "stop; fg goes on"},
    {NULL, ""},
    {"F1", "this"},
    {"F2", "dashboard of the cache"},
    {"F3", "keys go to the dashboard (a click there too), and back"},
    {"F4", "plan: memory by tier, types and kernels by part"},
    {"F5", "pause"},
    {"F6", "sort by the next column"},
    {"F7, F8", "faster, slower"},
    {"F9", "what the last token looked at, as text"},
    {"F10", "leave"},
    {NULL, ""},
    {NULL, "In the dashboard:"},
    {"Up, Down, j, k", "choose a layer; PgUp, PgDn, Home, End; clicks too"},
    {"Enter", "show all of it, and back"},
    {"s, Left, Right", "sort by another column (clicks on their names too)"},
    {"r", "turn the order"},
    {"t", "what the last token looked at, as text"},
    {"p", "pause"},
    {"z, M", "begin the histories anew; sort by bytes"},
    {"+, -", "slower, faster"},
    {"?", "this"},
    {"Esc, Tab", "back to the chat"},
    {"q", "leave"},
    {NULL, ""},
    {NULL, "/help lists the commands. To select text with the mouse hold Shift."},
};

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

/* What is going on, with rate and time left where they are known; cols: room for it. */
static int32_t draw_activity(struct full *f, struct tui_rect r, int32_t cols) {
    static const char *const wheel[] = {"|", "/", "-", "\\"};
    const uint64_t now = tl_now_ns();
    const char *const turning = wheel[now / 150000000 % 4];
    tui_grid *const g = &f->grid;
    const struct tui_at at = at_of(r, 0, 1, TUI_STATUS);
    char text[96];
    if (f->ended) {
        return tui_puts(
            g, at, cols < 40 ? "no model; press a key" : "the model did not load; any key leaves");
    }
    if (!f->ready && f->stats.load_bytes == 0) {
        return tui_putf(g, at, "%s loading, %.1f s", turning,
                        (double)(now - f->load_begin_ns) / 1e9);
    }
    const bool busy = f->busy || f->n_waiting > 0 || !f->ready;
    struct tl_stats s = f->stats;
    s.activity = !busy                            ? TL_ACTIVITY_IDLE
                 : s.activity == TL_ACTIVITY_IDLE ? TL_ACTIVITY_ANSWER
                                                  : s.activity;
    tui_activity(&s, now, cols - (busy ? 3 : 1), text);
    return busy ? tui_putf(g, at, "%s %s", turning, text) : tui_puts(g, at, text);
}

/* What is searched for in the history. */
static int32_t draw_search(struct full *f, struct tui_rect r) {
    const int32_t col = tui_putf(&f->grid, at_of(r, 0, 1, TUI_STATUS | TUI_BOLD), "search: %s_",
                                 f->edit.query.data);
    return f->edit.missed ? tui_puts(&f->grid, at_of(r, 0, col, TUI_STATUS), " (no more)") : col;
}

/* The function keys, as many as there is room for behind column `col`. */
static void draw_buttons(struct full *f, struct tui_rect r, int32_t col) {
    static const struct {
        const char *name;
        uint32_t key;
    } keys[FULL_BUTTONS] = {{"help", 1}, {"cache", 2}, {"plan", 4}, {"quit", 10}};
    int32_t right = r.cols;
    for (size_t i = FULL_BUTTONS; i > 0; i--) {
        char key[8];
        const int32_t n = snprintf(key, sizeof key, "F%u", keys[i - 1].key) +
                          (int32_t)strlen(keys[i - 1].name) + 2;
        const bool fits = right - n > col + 1;
        f->buttons[i - 1] =
            (struct full_button){fits ? right - n : 0, fits ? right - 1 : 0, keys[i - 1].key};
        if (!fits) {
            continue;
        }
        right -= n;
        const int32_t at = tui_puts(&f->grid, at_of(r, 0, right, TUI_KEY), key);
        tui_puts(&f->grid, at_of(r, 0, at + 1, TUI_STATUS), keys[i - 1].name);
    }
}

static void draw_status(struct full *f) {
    tui_grid *const g = &f->grid;
    struct tui_rect r = f->layout.status;
    char full[16] = "";
    if (r.rows == 0) {
        return;
    }
    tui_fill(g, r, TUI_STATUS);
    if (f->layout.title.rows == 0 && f->stats.ctx_cap > 0) { /* there is no other gauge */
        const uint64_t percent = (uint64_t)f->stats.ctx_used * 100 / f->stats.ctx_cap;
        const int n = snprintf(full, sizeof full, " %llu%%", (unsigned long long)percent);
        const unsigned style = percent >= 80 ? TUI_WARN | TUI_BOLD : TUI_STATUS;
        tui_puts(g, at_of(r, 0, r.cols - n, style), full);
        r.cols -= n;
    }
    int32_t col = f->edit.searching ? draw_search(f, r)
                  : f->hint.len > 0
                      ? tui_put(g, at_of(r, 0, 1, TUI_STATUS | TUI_BOLD), f->hint.data, f->hint.len)
                      : draw_activity(f, r, r.cols);
    if (f->n_waiting > 0 && f->busy) {
        col = tui_putf(g, at_of(r, 0, col, TUI_STATUS), ", %u waiting", f->n_waiting);
    }
    draw_buttons(f, r, col);
}

static void draw_box(struct full *f, const char *title, const tl_bytes *text) {
    if (tui_box_draw(&f->grid, title, text->data, text->len, &f->over_first)) {
        full_hint(f, "out of memory");
    }
}

static void draw_help(struct full *f) {
    tl_bytes text = {0};
    if (tui_help_spell(help, sizeof help / sizeof help[0], f->grid.cols, &text) == TL_OK) {
        draw_box(f, "keys", &text);
    }
    tl_bytes_free(&text);
}

/* Layers from..to, as one line. */
static tl_err spell_layers(const struct tl_stats *s, uint32_t from, uint32_t to, tl_bytes *out) {
    const struct tl_stats_layer *const l = &s->layers[from];
    char line[192], name[32], bytes[2][16];
    snprintf(name, sizeof name, from == to ? "layer %u" : "layers %u to %u", from, to);
    snprintf(line, sizeof line, "%s: %s, each %s on the device, %s on the host\n", name, l->policy,
             tui_bytes((double)tl_kv_device_bytes(&l->room), bytes[0]),
             tui_bytes((double)l->room.home_host, bytes[1]));
    return tl_bytes_add_str(out, line);
}

static void draw_plan(struct full *f) {
    static const char none[] = "nothing is loaded yet";
    const struct tl_stats *const s = &f->stats;
    tl_bytes text = {0};
    tl_err err = tl_bytes_add_str(&text, f->plan.len > 0 ? f->plan.data : none);
    for (uint32_t from = 0, to; from < s->n_layers_shown && !err; from = to + 1) {
        to = from;
        while (to + 1 < s->n_layers_shown &&
               strcmp(s->layers[from].policy, s->layers[to + 1].policy) == 0) {
            to++;
        }
        err = spell_layers(s, from, to, &text);
    }
    if (!err) {
        draw_box(f, "plan", &text);
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
        tui_repeat(g, at_of(f->layout.border, row, f->layout.border.cols / 2, TUI_BORDER), 0x2502,
                   1);
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
        draw_help(f);
    } else if (f->over == OVER_PLAN) {
        draw_plan(f);
    }
}
