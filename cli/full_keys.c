/* Keys: what is over the panes takes them first, then those that mean the same everywhere, then the
 * dashboard or the prompt, whichever has the focus. A key that means nothing does nothing. */
#include "full.h"

#include "tui/width.h"

#include <string.h>

enum { WHEEL_LINES = 3, INTERVAL_MIN_MS = 100, INTERVAL_MAX_MS = 10000 };

static void must(struct full *f, tl_err err) {
    if (err) {
        full_hint(f, "out of memory");
    }
}

static const char *text_of(const struct full *f) {
    return f->edit.text.data != NULL ? f->edit.text.data : "";
}

void full_submit(struct full *f) {
    const char *const text = text_of(f);
    if (text[strspn(text, " \t\n")] == '\0') {
        return;
    }
    if (f->ended) {
        full_hint(f, "the model is not there; Ctrl+D leaves");
        return;
    }
    if (cli_worker_send(f->worker, text)) {
        full_hint(f, "out of memory");
        return;
    }
    f->n_waiting++;
    f->talk.scrolled = false;
    f->show_dash = f->show_dash && f->layout.chat.rows > 0; /* the answer is to be seen */
    full_history_add(f, text);
    must(f, tui_edit_commit(&f->edit));
}

static void scroll(struct full *f, int32_t lines) {
    must(f, tui_talk_scroll(&f->talk, f->layout.chat, lines));
}

static int32_t page(const struct full *f) {
    return f->layout.chat.rows > 2 ? f->layout.chat.rows - 1 : 1;
}

/* Ctrl+C: stops, then clears, then asks once, then leaves. */
static void interrupt(struct full *f) {
    if (f->quit_armed || f->ended) {
        f->quit = true;
    } else if (f->busy) {
        cli_worker_stop(f->worker);
        full_hint(f, "stopping; Ctrl+C again leaves");
        f->quit_armed = true;
    } else if (f->edit.text.len > 0) {
        must(f, tui_edit_commit(&f->edit)); /* Up brings it back */
    } else {
        full_hint(f, "Ctrl+C again or Ctrl+D leaves");
        f->quit_armed = true;
    }
}

static void escape(struct full *f) {
    if (f->dash.focus) {
        f->dash.focus = f->dash.detail = false;
    } else if (f->busy) {
        cli_worker_stop(f->worker);
        full_hint(f, "stopping");
    }
}

static void toggle_dash(struct full *f) {
    f->show_dash = !f->show_dash;
    f->dash.focus = f->dash.focus && f->show_dash;
}

static void focus_dash(struct full *f) {
    f->dash.focus = !f->show_dash || !f->dash.focus;
    f->show_dash = true;
}

static void change_interval(struct full *f, bool slower) {
    const uint32_t ms = slower ? f->dash.interval_ms * 2 : f->dash.interval_ms / 2;
    f->dash.interval_ms = ms < INTERVAL_MIN_MS   ? INTERVAL_MIN_MS
                          : ms > INTERVAL_MAX_MS ? INTERVAL_MAX_MS
                                                 : ms;
}

static void next_sort(struct full *f) {
    f->dash.sort = (tui_sort)((f->dash.sort + 1) % TUI_SORT_COUNT);
    f->dash.descending = f->dash.sort != TUI_SORT_LAYER;
}

/* The text of the places that the last token looked at comes into the chat, when the answer is
 * done. */
static void look(struct full *f) {
    const uint32_t il = tui_dash_watches(&f->dash);
    char line[32];
    snprintf(line, sizeof line, "/look %u", il);
    if (il == UINT32_MAX || f->ended) {
        full_hint(f, "no layer of this cache selects rows");
    } else {
        must(f, cli_worker_send(f->worker, line));
        f->n_waiting++;
        f->show_dash = f->show_dash && f->layout.chat.rows > 0;
    }
}

/* True where the function key means something. */
static bool function_key(struct full *f, uint32_t n) {
    switch (n) {
    case 1:
        f->over = f->over == OVER_HELP ? OVER_NONE : OVER_HELP;
        return true;
    case 2:
        toggle_dash(f);
        return true;
    case 3:
        focus_dash(f);
        return true;
    case 4:
        f->over = f->over == OVER_PLAN ? OVER_NONE : OVER_PLAN;
        return true;
    case 5:
        f->dash.paused = !f->dash.paused;
        return true;
    case 6:
        next_sort(f);
        return true;
    case 7:
    case 8:
        change_interval(f, n == 8);
        return true;
    case 9:
        look(f);
        return true;
    case 10:
        f->quit = true;
        return true;
    default:
        return false;
    }
}

/* ---- the dashboard ---- */

static void dash_char(struct full *f, uint32_t ch) {
    switch (ch) {
    case 'q':
        f->quit = true;
        return;
    case '?':
    case 'h':
        f->over = OVER_HELP;
        return;
    case 'p':
    case ' ':
        f->dash.paused = !f->dash.paused;
        return;
    case 's':
    case '>':
        next_sort(f);
        return;
    case 't':
        look(f);
        return;
    case 'r':
        f->dash.descending = !f->dash.descending;
        return;
    case '+':
    case '-':
        change_interval(f, ch == '+');
        return;
    case 'j':
    case 'k':
        tui_dash_move(&f->dash, ch == 'j' ? 1 : -1);
        return;
    default:
        return;
    }
}

static void dash_key(struct full *f, const struct tui_key *key) {
    switch (key->kind) {
    case TUI_KEY_UP:
    case TUI_KEY_DOWN:
        tui_dash_move(&f->dash, key->kind == TUI_KEY_DOWN ? 1 : -1);
        return;
    case TUI_KEY_PAGE_UP:
    case TUI_KEY_PAGE_DOWN:
        tui_dash_move(&f->dash, key->kind == TUI_KEY_PAGE_DOWN ? 10 : -10);
        return;
    case TUI_KEY_HOME:
    case TUI_KEY_END:
        tui_dash_move(&f->dash,
                      key->kind == TUI_KEY_END ? TL_STATS_LAYERS_MAX : -TL_STATS_LAYERS_MAX);
        return;
    case TUI_KEY_ENTER:
        f->dash.detail = !f->dash.detail;
        return;
    case TUI_KEY_TAB:
        f->dash.focus = false;
        return;
    case TUI_KEY_LEFT:
    case TUI_KEY_RIGHT:
        next_sort(f);
        return;
    case TUI_KEY_CHAR:
        dash_char(f, key->ch);
        return;
    default:
        return;
    }
}

/* ---- the prompt ---- */

static void edit_move(struct full *f, const struct tui_key *key) {
    tui_edit *const e = &f->edit;
    switch (key->kind) {
    case TUI_KEY_LEFT:
        tui_edit_move(e, key->ctrl ? TUI_WORD_LEFT : TUI_SIGN_LEFT);
        return;
    case TUI_KEY_RIGHT:
        tui_edit_move(e, key->ctrl ? TUI_WORD_RIGHT : TUI_SIGN_RIGHT);
        return;
    case TUI_KEY_HOME:
        if (key->ctrl) {
            scroll(f, -TUI_SIDE_MAX * TUI_SIDE_MAX);
        } else {
            tui_edit_move(e, TUI_LINE_START);
        }
        return;
    case TUI_KEY_END:
        if (key->ctrl) {
            f->talk.scrolled = false;
        } else {
            tui_edit_move(e, TUI_LINE_END);
        }
        return;
    case TUI_KEY_UP:
        must(f, tui_edit_up(e, f->layout.prompt.cols));
        return;
    case TUI_KEY_DOWN:
        must(f, tui_edit_down(e, f->layout.prompt.cols));
        return;
    default:
        return;
    }
}

static void alt_char(struct full *f, uint32_t ch) {
    tui_edit *const e = &f->edit;
    switch (ch) {
    case 'b':
        tui_edit_move(e, TUI_WORD_LEFT);
        return;
    case 'f':
        tui_edit_move(e, TUI_WORD_RIGHT);
        return;
    case 'd':
        must(f, tui_edit_cut(e, TUI_WORD_RIGHT, true));
        return;
    case '<':
        scroll(f, -TUI_SIDE_MAX * TUI_SIDE_MAX);
        return;
    case '>':
        f->talk.scrolled = false;
        return;
    default:
        return;
    }
}

/* Ctrl and a letter: 1 is Ctrl+A. */
static void control_char(struct full *f, uint32_t ch) {
    tui_edit *const e = &f->edit;
    switch (ch + '@') {
    case 'A':
        tui_edit_move(e, TUI_LINE_START);
        return;
    case 'B':
        tui_edit_move(e, TUI_SIGN_LEFT);
        return;
    case 'D':
        if (e->text.len == 0) {
            f->quit = true;
        } else {
            must(f, tui_edit_cut(e, TUI_SIGN_RIGHT, false));
        }
        return;
    case 'E':
        tui_edit_move(e, TUI_LINE_END);
        return;
    case 'F':
        tui_edit_move(e, TUI_SIGN_RIGHT);
        return;
    case 'J':
        must(f, tui_edit_insert(e, "\n", 1));
        return;
    case 'K':
        must(f, tui_edit_cut(e, TUI_LINE_END, true));
        return;
    case 'N':
        must(f, tui_edit_newer(e));
        return;
    case 'P':
        must(f, tui_edit_older(e));
        return;
    case 'U':
        must(f, tui_edit_cut(e, TUI_LINE_START, true));
        return;
    case 'W':
        must(f, tui_edit_cut(e, TUI_WORD_LEFT, true));
        return;
    case 'X':
        f->chord = true;
        full_hint(f, "Ctrl+X: Ctrl+E opens $EDITOR");
        return;
    case 'Y':
        must(f, tui_edit_yank(e));
        return;
    default:
        return;
    }
}

static void insert_char(struct full *f, uint32_t ch) {
    char text[4];
    must(f, tui_edit_insert(&f->edit, text, tui_utf8_put(ch, text)));
}

static void prompt_key(struct full *f, const struct tui_key *key) {
    switch (key->kind) {
    case TUI_KEY_ENTER:
        if (key->alt) {
            must(f, tui_edit_insert(&f->edit, "\n", 1));
        } else {
            full_submit(f);
        }
        return;
    case TUI_KEY_BACKSPACE:
        must(f, tui_edit_cut(&f->edit, key->alt ? TUI_WORD_LEFT : TUI_SIGN_LEFT, key->alt));
        return;
    case TUI_KEY_DELETE:
        must(f, tui_edit_cut(&f->edit, TUI_SIGN_RIGHT, false));
        return;
    case TUI_KEY_TAB:
        if (f->edit.text.len == 0) {
            toggle_dash(f);
        } else {
            full_complete(f);
        }
        return;
    case TUI_KEY_CHAR:
        if (key->alt) {
            alt_char(f, key->ch);
        } else if (key->ch < 0x20) {
            control_char(f, key->ch);
        } else {
            insert_char(f, key->ch);
        }
        return;
    default:
        edit_move(f, key);
        return;
    }
}

/* ---- everywhere ---- */

/* What a paste brings is text, whatever keys it looks like. */
static void paste_key(struct full *f, const struct tui_key *key) {
    if (key->kind == TUI_KEY_PASTE_END) {
        f->pasting = false;
    } else if (key->kind == TUI_KEY_ENTER) {
        must(f, tui_edit_insert(&f->edit, "\n", 1));
    } else if (key->kind == TUI_KEY_TAB) {
        must(f, tui_edit_insert(&f->edit, "\t", 1));
    } else if (key->kind == TUI_KEY_CHAR && (key->ch >= 0x20 || key->ch == '\n')) {
        insert_char(f, key->ch);
    }
}

static void mouse_key(struct full *f, const struct tui_key *key) {
    const bool on_dash = tui_rect_has(f->layout.dash, key->row, key->col);
    const int32_t lines = key->kind == TUI_KEY_WHEEL_UP ? -WHEEL_LINES : WHEEL_LINES;
    if (key->kind != TUI_KEY_CLICK) {
        if (on_dash) {
            tui_dash_move(&f->dash, lines / WHEEL_LINES);
        } else {
            scroll(f, lines);
        }
        return;
    }
    if (on_dash) {
        tui_dash_click(&f->dash, f->layout.dash, key->row, key->col);
    }
    f->dash.focus = on_dash;
}

/* Keys that mean the same wherever the focus is; true where this was one. */
static bool common_key(struct full *f, const struct tui_key *key) {
    switch (key->kind) {
    case TUI_KEY_FUNCTION:
        return function_key(f, key->ch);
    case TUI_KEY_PASTE_BEGIN:
        f->pasting = true;
        f->dash.focus = false;
        return true;
    case TUI_KEY_CLICK:
    case TUI_KEY_WHEEL_UP:
    case TUI_KEY_WHEEL_DOWN:
        mouse_key(f, key);
        return true;
    case TUI_KEY_ESCAPE:
        escape(f);
        return true;
    case TUI_KEY_PAGE_UP:
    case TUI_KEY_PAGE_DOWN:
        if (f->dash.focus) {
            return false;
        }
        scroll(f, key->kind == TUI_KEY_PAGE_UP ? -page(f) : page(f));
        return true;
    case TUI_KEY_CHAR:
        if (key->ch == 'C' - '@') {
            interrupt(f);
        } else if (key->ch == 'L' - '@') {
            tui_screen_redraw(f->screen);
        } else if (key->ch == 'Z' - '@') {
            tui_screen_stop(f->screen);
        } else {
            return false;
        }
        return true;
    default:
        return false;
    }
}

void full_key(struct full *f, const struct tui_key *key) {
    const bool is_interrupt = key->kind == TUI_KEY_CHAR && key->ch == 'C' - '@';
    f->dirty = true;
    f->hint.len = 0;
    f->quit_armed = f->quit_armed && is_interrupt;
    if (f->pasting) {
        paste_key(f, key);
        return;
    }
    if (f->chord) {
        f->chord = false;
        if (key->kind == TUI_KEY_CHAR && key->ch == 'E' - '@') {
            full_edit_outside(f);
        }
        return;
    }
    const bool function = key->kind == TUI_KEY_FUNCTION;
    if (f->over != OVER_NONE && !is_interrupt && !function) {
        f->over = OVER_NONE; /* any key puts it away */
        return;
    }
    if (f->ended && !f->ready) { /* the model did not load, which was read by now */
        f->quit = f->quit || key->kind != TUI_KEY_OTHER;
        return;
    }
    if (common_key(f, key)) {
        return;
    }
    if (f->dash.focus) {
        dash_key(f, key);
    } else {
        prompt_key(f, key);
    }
}
