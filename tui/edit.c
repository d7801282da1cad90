/* The editor. The invariant: text is valid UTF-8 and the cursor stands between two signs. Where a
 * sign is on the screen is one walk over the text (`walk`), shared by drawing and moving. */
#include "edit.h"

#include "width.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPT_COLS = 2 };

void tui_edit_free(tui_edit *e) {
    for (size_t i = 0; i < e->n_history; i++) {
        free(e->history[i]);
    }
    free(e->history);
    tl_bytes_free(&e->text);
    tl_bytes_free(&e->killed);
    tl_bytes_free(&e->draft);
    tl_bytes_free(&e->query);
    *e = (tui_edit){0};
}

static const char *text_of(const tui_edit *e) { return e->text.data != NULL ? e->text.data : ""; }

/* What may stand in the text. */
static tl_err clean(const char *text, size_t n, tl_bytes *out) {
    for (size_t at = 0, len; at < n; at += len) {
        uint32_t cp = tui_utf8_next(text + at, n - at, &len);
        if (cp == '\r') {
            len += at + 1 < n && text[at + 1] == '\n';
            cp = '\n';
        }
        const bool control = cp < 0x20 ? cp != '\n' && cp != '\t' : cp >= 0x7f && cp < 0xa0;
        char bytes[4];
        if (!control) {
            TL_TRY(tl_bytes_add(out, bytes, tui_utf8_put(cp, bytes)));
        }
    }
    return TL_OK;
}

/* Replaces [from, to) by clean text; the cursor stands behind it. */
static tl_err splice(tui_edit *e, size_t from, size_t to, const tl_bytes *with) {
    tl_bytes whole = {0};
    tl_err err = tl_bytes_add(&whole, text_of(e), from);
    if (!err) {
        err = tl_bytes_add(&whole, with->data != NULL ? with->data : "", with->len);
    }
    const size_t cursor = whole.len;
    if (!err) {
        err = tl_bytes_add(&whole, text_of(e) + to, e->text.len - to);
    }
    if (err) {
        tl_bytes_free(&whole);
        return err;
    }
    tl_bytes_free(&e->text);
    e->text = whole;
    e->cursor = cursor;
    return TL_OK;
}

static tl_err replace(tui_edit *e, size_t from, size_t to, const char *text, size_t n) {
    tl_bytes cleaned = {0};
    tl_err err = clean(text, n, &cleaned);
    if (!err) {
        err = splice(e, from, to, &cleaned);
    }
    tl_bytes_free(&cleaned);
    return err;
}

tl_err tui_edit_insert(tui_edit *e, const char *text, size_t n) {
    return replace(e, e->cursor, e->cursor, text, n);
}

tl_err tui_edit_set(tui_edit *e, const char *text, size_t n) {
    return replace(e, 0, e->text.len, text, n);
}

tl_err tui_edit_replace(tui_edit *e, size_t from, const char *text) {
    return replace(e, from, e->cursor, text, strlen(text));
}

/* ---- moving and cutting ---- */

static bool is_word(const tui_edit *e, size_t at) {
    return strchr(" \t\n.,;:!?/()[]{}\"'", text_of(e)[at]) == NULL;
}

static size_t word_left(const tui_edit *e, size_t at) {
    while (at > 0 && !is_word(e, tui_prev_sign(text_of(e), at))) {
        at = tui_prev_sign(text_of(e), at);
    }
    while (at > 0 && is_word(e, tui_prev_sign(text_of(e), at))) {
        at = tui_prev_sign(text_of(e), at);
    }
    return at;
}

static size_t word_right(const tui_edit *e, size_t at) {
    while (at < e->text.len && !is_word(e, at)) {
        at = tui_next_sign(text_of(e), e->text.len, at);
    }
    while (at < e->text.len && is_word(e, at)) {
        at = tui_next_sign(text_of(e), e->text.len, at);
    }
    return at;
}

static size_t target(const tui_edit *e, tui_motion motion) {
    const char *const text = text_of(e);
    size_t at = e->cursor;
    switch (motion) {
    case TUI_SIGN_LEFT:
        return tui_prev_sign(text, at);
    case TUI_SIGN_RIGHT:
        return tui_next_sign(text, e->text.len, at);
    case TUI_WORD_LEFT:
        return word_left(e, at);
    case TUI_WORD_RIGHT:
        return word_right(e, at);
    case TUI_LINE_START:
        while (at > 0 && text[at - 1] != '\n') {
            at--;
        }
        return at;
    case TUI_LINE_END:
        while (at < e->text.len && text[at] != '\n') {
            at++;
        }
        return at;
    case TUI_TEXT_START:
        return 0;
    case TUI_TEXT_END:
        return e->text.len;
    }
    return at;
}

void tui_edit_move(tui_edit *e, tui_motion motion) { e->cursor = target(e, motion); }

tl_err tui_edit_cut(tui_edit *e, tui_motion motion, bool keep) {
    const size_t to = target(e, motion);
    const size_t low = to < e->cursor ? to : e->cursor, high = to < e->cursor ? e->cursor : to;
    if (low == high) {
        return TL_OK;
    }
    if (keep) {
        e->killed.len = 0;
        TL_TRY(tl_bytes_add(&e->killed, text_of(e) + low, high - low));
    }
    return replace(e, low, high, "", 0);
}

tl_err tui_edit_yank(tui_edit *e) {
    return e->killed.len == 0 ? TL_OK : tui_edit_insert(e, e->killed.data, e->killed.len);
}

/* ---- history ---- */

tl_err tui_edit_remember(tui_edit *e, const char *text) {
    e->at_history = e->n_history;
    if (*text == '\0' || (e->n_history > 0 && strcmp(e->history[e->n_history - 1], text) == 0)) {
        return TL_OK;
    }
    char *const copy = strdup(text);
    if (e->history == NULL) {
        e->history = calloc(TUI_HISTORY_MAX, sizeof *e->history);
    }
    if (copy == NULL || e->history == NULL) {
        free(copy);
        return TL_ERR_MEMORY;
    }
    if (e->n_history == TUI_HISTORY_MAX) {
        free(e->history[0]);
        memmove(e->history, e->history + 1, (TUI_HISTORY_MAX - 1) * sizeof *e->history);
        e->n_history--;
    }
    e->history[e->n_history++] = copy;
    e->at_history = e->n_history;
    return TL_OK;
}

tl_err tui_edit_commit(tui_edit *e) {
    TL_TRY(tui_edit_remember(e, text_of(e)));
    e->draft.len = 0;
    return tui_edit_set(e, "", 0);
}

/* Keeps a new text before an older one takes its place. */
static tl_err keep_draft(tui_edit *e) {
    if (e->at_history < e->n_history) {
        return TL_OK;
    }
    e->draft.len = 0;
    return tl_bytes_add(&e->draft, text_of(e), e->text.len);
}

tl_err tui_edit_older(tui_edit *e) {
    if (e->at_history == 0) {
        return TL_OK;
    }
    TL_TRY(keep_draft(e));
    const char *const text = e->history[e->at_history - 1];
    TL_TRY(tui_edit_set(e, text, strlen(text)));
    e->at_history--;
    return TL_OK;
}

tl_err tui_edit_newer(tui_edit *e) {
    if (e->at_history >= e->n_history) {
        return TL_OK;
    }
    const bool last = e->at_history + 1 == e->n_history;
    const char *const text =
        last ? (e->draft.data != NULL ? e->draft.data : "") : e->history[e->at_history + 1];
    TL_TRY(tui_edit_set(e, text, last ? e->draft.len : strlen(text)));
    e->at_history++;
    return TL_OK;
}

/* ---- searching it ---- */

static bool has_query(const tui_edit *e, size_t i) {
    return strstr(e->history[i], e->query.data) != NULL;
}

/* Shows entry i with the cursor where the query stands in it. */
static tl_err show_found(tui_edit *e, size_t i) {
    const char *const text = e->history[i];
    TL_TRY(tui_edit_set(e, text, strlen(text)));
    e->at_history = i;
    e->cursor = (size_t)(strstr(text, e->query.data) - text);
    e->missed = false;
    return TL_OK;
}

/* The newest entry below `end` that has the query. */
static tl_err search_below(tui_edit *e, size_t end) {
    for (size_t i = end; i > 0; i--) {
        if (has_query(e, i - 1)) {
            return show_found(e, i - 1);
        }
    }
    e->missed = true;
    return TL_OK;
}

tl_err tui_edit_search_begin(tui_edit *e) {
    TL_TRY(keep_draft(e));
    e->query.len = 0;
    TL_TRY(tl_bytes_add(&e->query, "", 0));
    e->searching = true;
    e->missed = false;
    return TL_OK;
}

tl_err tui_edit_search_add(tui_edit *e, const char *text, size_t n) {
    TL_TRY(clean(text, n, &e->query));
    return search_below(e, e->at_history < e->n_history ? e->at_history + 1 : e->n_history);
}

tl_err tui_edit_search_shorten(tui_edit *e) {
    if (e->query.len == 0) {
        return TL_OK;
    }
    e->query.len = tui_prev_sign(e->query.data, e->query.len);
    TL_TRY(tl_bytes_add(&e->query, "", 0));
    e->missed = false;
    return e->query.len > 0 ? search_below(e, e->n_history) : TL_OK;
}

tl_err tui_edit_search_older(tui_edit *e) { return search_below(e, e->at_history); }

tl_err tui_edit_search_newer(tui_edit *e) {
    for (size_t i = e->at_history + 1; i < e->n_history; i++) {
        if (has_query(e, i)) {
            return show_found(e, i);
        }
    }
    e->missed = true;
    return TL_OK;
}

tl_err tui_edit_search_end(tui_edit *e, bool take) {
    e->searching = false;
    if (take) {
        return TL_OK;
    }
    e->at_history = e->n_history;
    return tui_edit_set(e, e->draft.data != NULL ? e->draft.data : "", e->draft.len);
}

/* ---- history files ---- */

tl_err tui_history_line(const char *text, tl_bytes *out) {
    for (const char *c = text; *c != '\0'; c++) {
        const char *const escaped = *c == '\n' ? "\\n" : *c == '\\' ? "\\\\" : NULL;
        TL_TRY(escaped != NULL ? tl_bytes_add_str(out, escaped) : tl_bytes_add(out, c, 1));
    }
    return tl_bytes_add(out, "\n", 1);
}

tl_err tui_history_read(tui_edit *e, const char *data, size_t n) {
    tl_bytes line = {0};
    tl_err err = TL_OK;
    for (size_t at = 0; at < n && !err; at++) {
        char c = data[at];
        if (c == '\n') {
            tl_bytes cleaned = {0};
            err = line.len > 0 ? clean(line.data, line.len, &cleaned) : TL_OK;
            if (!err && cleaned.len > 0) {
                err = tui_edit_remember(e, cleaned.data);
            }
            tl_bytes_free(&cleaned);
            line.len = 0;
            continue;
        }
        if (c == '\\' && at + 1 < n && (data[at + 1] == 'n' || data[at + 1] == '\\')) {
            c = data[++at] == 'n' ? '\n' : '\\';
        }
        err = tl_bytes_add(&line, &c, 1);
    }
    tl_bytes_free(&line);
    return err;
}

/* ---- on the screen ---- */

struct place {
    int32_t row, col;
};

/* Where the sign at `at` stands, and in *next where the one behind it does. */
static struct place walk(const tui_edit *e, size_t at, int32_t cols, struct place *next) {
    const size_t end = tui_next_sign(text_of(e), e->text.len, at);
    int32_t width = tui_text_width(text_of(e) + at, end - at);
    width += text_of(e)[at] == '\t';
    struct place here = *next;
    if (here.col + width > cols && here.col > PROMPT_COLS) {
        here = (struct place){here.row + 1, PROMPT_COLS};
    }
    *next = text_of(e)[at] == '\n' ? (struct place){here.row + 1, PROMPT_COLS}
                                   : (struct place){here.row, here.col + width};
    return here;
}

/* Where the byte stands; at the end of a full row, at the beginning of the next. */
static struct place place_of(const tui_edit *e, size_t byte, int32_t cols) {
    struct place next = {0, PROMPT_COLS};
    for (size_t at = 0; at < e->text.len; at = tui_next_sign(text_of(e), e->text.len, at)) {
        const struct place here = walk(e, at, cols, &next);
        if (at >= byte) {
            return here;
        }
    }
    return next.col >= cols && next.col > PROMPT_COLS ? (struct place){next.row + 1, PROMPT_COLS}
                                                      : next;
}

int32_t tui_edit_rows(const tui_edit *e, int32_t cols) {
    return place_of(e, e->text.len, cols).row + 1;
}

/* The byte that stands in this row nearest to this column. */
static size_t byte_at(const tui_edit *e, struct place wanted, int32_t cols) {
    struct place next = {0, PROMPT_COLS};
    size_t best = e->text.len;
    for (size_t at = 0; at < e->text.len; at = tui_next_sign(text_of(e), e->text.len, at)) {
        const struct place here = walk(e, at, cols, &next);
        if (here.row == wanted.row && (here.col <= wanted.col || best == e->text.len)) {
            best = at;
        }
        if (here.row > wanted.row) {
            return best;
        }
    }
    const struct place end = place_of(e, e->text.len, cols);
    return end.row == wanted.row && end.col <= wanted.col ? e->text.len : best;
}

tl_err tui_edit_up(tui_edit *e, int32_t cols) {
    const struct place here = place_of(e, e->cursor, cols);
    if (here.row == 0) {
        return tui_edit_older(e);
    }
    e->cursor = byte_at(e, (struct place){here.row - 1, here.col}, cols);
    return TL_OK;
}

tl_err tui_edit_down(tui_edit *e, int32_t cols) {
    const struct place here = place_of(e, e->cursor, cols);
    if (here.row + 1 >= tui_edit_rows(e, cols)) {
        return tui_edit_newer(e);
    }
    e->cursor = byte_at(e, (struct place){here.row + 1, here.col}, cols);
    return TL_OK;
}

void tui_edit_draw(tui_grid *g, struct tui_rect rect, const tui_edit *e, const char *prompt) {
    const struct place cursor = place_of(e, e->cursor, rect.cols);
    const int32_t rows = tui_edit_rows(e, rect.cols);
    int32_t skip = cursor.row >= rect.rows ? cursor.row - rect.rows + 1 : 0;
    skip = rows - skip < rect.rows && rows > rect.rows ? rows - rect.rows : skip;
    tui_puts(g, (struct tui_at){rect, -skip, 0, TUI_USER | TUI_BOLD}, prompt);
    struct place next = {0, PROMPT_COLS};
    for (size_t at = 0; at < e->text.len;) {
        const size_t end = tui_next_sign(text_of(e), e->text.len, at);
        const struct place here = walk(e, at, rect.cols, &next);
        if (text_of(e)[at] != '\n') {
            const struct tui_at cell = {rect, here.row - skip, here.col, TUI_TEXT};
            tui_put(g, cell, text_of(e) + at, end - at);
        }
        at = end;
    }
    if (rect.rows > 0 && rect.cols > 0) { /* behind a full line's last sign: on it */
        g->cursor_row = rect.row + cursor.row - skip;
        g->cursor_col = rect.col + (cursor.col < rect.cols ? cursor.col : rect.cols - 1);
    }
}
