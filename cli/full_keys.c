/* Keys: what is over the panes takes them first, then those that mean the same everywhere, then the
 * dashboard or the prompt, whichever has the focus. A key that means nothing does nothing. */
#include "full.h"

#include "tui/width.h"

#include <string.h>

enum { WHEEL_LINES = 3 };

static void must(struct full *f, tl_err err) {
    if (err) {
        full_hint(f, "out of memory");
    }
}

static const char *text_of(const struct full *f) {
    return f->edit.text.data != NULL ? f->edit.text.data : "";
}

/* What is written, to the engine; or, where it is to go on (chat_unquote, or a backslash at its
 * end, as in llama-cli), a new line. */
static tl_err send_message(struct full *f, bool *whole) {
    tui_edit *const e = &f->edit;
    tl_bytes message = {0};
    if (e->cursor == e->text.len && e->text.data[e->cursor - 1] == '\\') {
        TL_TRY(tui_edit_cut(e, TUI_SIGN_LEFT, false));
        return tui_edit_insert(e, "\n", 1);
    }
    tl_err err = chat_unquote(text_of(f), whole, &message);
    if (!err && *whole) {
        err = cli_worker_send(f->worker, message.data);
        f->n_waiting += !err;
    } else if (!err) {
        err = tui_edit_insert(e, "\n", 1);
    }
    tl_bytes_free(&message);
    return err;
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
    bool whole = false;
    tl_err err = send_message(f, &whole);
    if (err || !whole) {
        must(f, err);
        return;
    }
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

static void dash_key(struct full *f, const struct tui_key *key);

static void escape(struct full *f, const struct tui_key *key) {
    if (f->dash.focus) {
        dash_key(f, key);
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

static void toggle_over(struct full *f, full_overlay over) {
    f->over = f->over == over ? OVER_NONE : over;
    f->over_first = 0;
}

/* ---- the dashboard ---- */

static void take_wish(struct full *f, const struct tui_key *key) {
    const char *const instead = tui_dash_other_key(key);
    switch (tui_dash_key(&f->dash, key)) {
    case TUI_DASH_DONE:
        return;
    case TUI_DASH_UNKNOWN:
        full_hint(f, instead != NULL ? instead
                                     : "no such key here; ? lists them, Esc goes back to the chat");
        return;
    case TUI_DASH_HELP:
        toggle_over(f, OVER_HELP);
        return;
    case TUI_DASH_LOOK:
        look(f);
        return;
    case TUI_DASH_BACK:
        f->dash.focus = false;
        return;
    case TUI_DASH_QUIT:
        f->quit = true;
        return;
    }
}

static void dash_key(struct full *f, const struct tui_key *key) {
    if (key->kind == TUI_KEY_TAB) {
        f->dash.focus = false;
    } else if (key->kind != TUI_KEY_OTHER) { /* such as a button that is let go */
        take_wish(f, key);
    }
}

static void function_key(struct full *f, const struct tui_key *key) {
    switch (key->ch) {
    case 2:
        toggle_dash(f);
        return;
    case 3:
        focus_dash(f);
        return;
    case 4:
        toggle_over(f, OVER_PLAN);
        return;
    case 1:
    case 9:
    case 10:
        take_wish(f, key);
        return;
    case 5:
    case 6:
    case 7:
    case 8:
        f->show_dash = true; /* to be seen */
        take_wish(f, key);
        return;
    default:
        full_hint(f, tui_dash_other_key(key) != NULL ? tui_dash_other_key(key)
                                                     : "no such key; F1 lists them");
        return;
    }
}

/* ---- the prompt ---- */

static void edit_move(struct full *f, const struct tui_key *key) {
    tui_edit *const e = &f->edit;
    switch (key->kind) {
    case TUI_KEY_LEFT:
        tui_edit_move(e, key->ctrl || key->alt ? TUI_WORD_LEFT : TUI_SIGN_LEFT);
        return;
    case TUI_KEY_RIGHT:
        tui_edit_move(e, key->ctrl || key->alt ? TUI_WORD_RIGHT : TUI_SIGN_RIGHT);
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
    case TUI_KEY_DOWN:
        if (key->ctrl) {
            scroll(f, key->kind == TUI_KEY_UP ? -1 : 1);
        } else if (key->kind == TUI_KEY_UP) {
            must(f, tui_edit_up(e, f->layout.prompt.cols));
        } else {
            must(f, tui_edit_down(e, f->layout.prompt.cols));
        }
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
        full_hint(f, "no such key; F1 lists them");
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
    case 'G': /* as in ollama */
    case 'O':
        full_edit_outside(f);
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
    case 'R':
        must(f, tui_edit_search_begin(e));
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
        full_hint(f, "no such key; F1 lists them");
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

/* While the history is searched; false where the key ends that and means what it always does. */
static bool search_key(struct full *f, const struct tui_key *key) {
    tui_edit *const e = &f->edit;
    const uint32_t control = key->kind == TUI_KEY_CHAR && key->ch < 0x20 ? key->ch + '@' : 0;
    if (control == 'R' || control == 'S') {
        must(f, control == 'R' ? tui_edit_search_older(e) : tui_edit_search_newer(e));
        return true;
    }
    if (control == 'C' || control == 'G') {
        must(f, tui_edit_search_end(e, false));
        return true;
    }
    if (key->kind == TUI_KEY_BACKSPACE) {
        must(f, tui_edit_search_shorten(e));
        return true;
    }
    if (key->kind == TUI_KEY_CHAR && control == 0 && !key->alt) {
        char text[4];
        must(f, tui_edit_search_add(e, text, tui_utf8_put(key->ch, text)));
        return true;
    }
    must(f, tui_edit_search_end(e, true));
    return key->kind == TUI_KEY_ESCAPE;
}

/* ---- everywhere ---- */

void full_paste(struct full *f) {
    if (f->pasted.len > 0) {
        must(f, tui_edit_insert(&f->edit, f->pasted.data, f->pasted.len));
        f->pasted.len = 0;
    }
}

/* What a paste brings is text, whatever keys it looks like. */
static void paste_key(struct full *f, const struct tui_key *key) {
    char text[4];
    const bool return_before = f->paste_return; /* its line feed is the same line's */
    f->paste_return = key->kind == TUI_KEY_ENTER;
    if (key->kind == TUI_KEY_PASTE_END) {
        f->pasting = false;
        full_paste(f);
    } else if (key->kind == TUI_KEY_ENTER) {
        must(f, tl_bytes_add(&f->pasted, "\n", 1));
    } else if (key->kind == TUI_KEY_CHAR && key->ch == '\n' && return_before) {
        return;
    } else if (key->kind == TUI_KEY_TAB) {
        must(f, tl_bytes_add(&f->pasted, "\t", 1));
    } else if (key->kind == TUI_KEY_CHAR && (key->ch >= 0x20 || key->ch == '\n')) {
        must(f, tl_bytes_add(&f->pasted, text, tui_utf8_put(key->ch, text)));
    }
}

static void click_status(struct full *f, int32_t col) {
    for (size_t i = 0; i < FULL_BUTTONS; i++) {
        if (col >= f->buttons[i].from && col < f->buttons[i].to) {
            function_key(f, &(struct tui_key){.kind = TUI_KEY_FUNCTION, .ch = f->buttons[i].key});
            return;
        }
    }
}

static void mouse_key(struct full *f, const struct tui_key *key) {
    const bool on_dash = tui_rect_has(f->layout.dash, key->row, key->col);
    const int32_t lines = key->kind == TUI_KEY_WHEEL_UP ? -WHEEL_LINES : WHEEL_LINES;
    if (key->kind == TUI_KEY_CLICK && tui_rect_has(f->layout.status, key->row, key->col)) {
        click_status(f, key->col - f->layout.status.col);
        return;
    }
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
        function_key(f, key);
        return true;
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
        escape(f, key);
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
        if (!tui_box_key(key, f->grid.rows, &f->over_first) && key->kind != TUI_KEY_OTHER) {
            f->over = OVER_NONE; /* any other key puts it away */
        }
        return;
    }
    if (f->edit.searching && search_key(f, key)) {
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
