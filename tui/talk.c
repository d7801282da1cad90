/* Items become lines when they are first seen at a width, or have grown; an answer of n lines costs
 * its own wrapping for each piece that comes, other items nothing. A blank line follows each item.
 */
#include "talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARGIN = 2 }; /* columns before what the user said and notes */

void tui_talk_clear(tui_talk *t) {
    for (size_t i = 0; i < t->n; i++) {
        tl_bytes_free(&t->items[i].text);
        tui_text_free(&t->items[i].lines);
    }
    t->n = 0;
    t->open = 0;
    t->top = 0;
    t->scrolled = false;
}

void tui_talk_free(tui_talk *t) {
    tui_talk_clear(t);
    free(t->items);
    *t = (tui_talk){0};
}

tl_err tui_talk_add(tui_talk *t, tui_item_kind kind, const char *text, size_t n) {
    if (t->n == t->cap) {
        const size_t cap = t->cap == 0 ? 32 : 2 * t->cap;
        struct tui_item *const items = realloc(t->items, cap * sizeof *items);
        if (items == NULL) {
            return TL_ERR_MEMORY;
        }
        t->items = items;
        t->cap = cap;
    }
    struct tui_item item = {.kind = kind};
    TL_TRY(tl_bytes_add(&item.text, text, n));
    t->items[t->n++] = item;
    return TL_OK;
}

tl_err tui_talk_append(tui_talk *t, const char *text, size_t n) {
    if (t->open == 0 && t->n > 0 && t->items[t->n - 1].kind == TUI_ITEM_ANSWER) {
        t->open = t->n; /* it goes on */
    }
    if (t->open == 0) {
        TL_TRY(tui_talk_add(t, TUI_ITEM_ANSWER, text, n));
        t->open = t->n;
        return TL_OK;
    }
    return tl_bytes_add(&t->items[t->open - 1].text, text, n);
}

void tui_talk_end(tui_talk *t) { t->open = 0; }

static unsigned style_of(tui_item_kind kind) {
    static const unsigned styles[] = {
        [TUI_ITEM_USER] = TUI_USER | TUI_BOLD,
        [TUI_ITEM_ANSWER] = TUI_TEXT,
        [TUI_ITEM_NOTE] = TUI_NOTE,
        [TUI_ITEM_WARN] = TUI_WARN,
        [TUI_ITEM_ERROR] = TUI_ERROR,
    };
    return styles[kind];
}

static tl_err wrap_item(struct tui_item *item, int32_t cols) {
    if (item->wrapped_cols == cols && item->wrapped_len == item->text.len) {
        return TL_OK;
    }
    const unsigned style = style_of(item->kind);
    if (item->kind == TUI_ITEM_ANSWER) {
        TL_TRY(tui_text_markdown(&item->lines, item->text.data, item->text.len, cols, style));
    } else {
        TL_TRY(tui_text_wrap(&item->lines, item->text.data, item->text.len, cols - MARGIN, style));
    }
    item->wrapped_cols = cols;
    item->wrapped_len = item->text.len;
    return TL_OK;
}

/* Lines of an item with the blank one behind it. */
static size_t height(const struct tui_item *item) { return (size_t)item->lines.n_lines + 1; }

/* The item that line t->top belongs to, and how far in it is. */
static size_t item_at_top(const tui_talk *t, size_t *offset) {
    size_t line = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (line + height(&t->items[i]) > t->top) {
            *offset = t->top - line;
            return i;
        }
        line += height(&t->items[i]);
    }
    *offset = 0;
    return t->n;
}

/* Breaks what is not broken for this width yet; the view stays at its place in the text. Returns
 * how many lines there are in *total. */
static tl_err wrap_all(tui_talk *t, int32_t cols, size_t *total) {
    size_t offset = 0;
    const size_t at_top = item_at_top(t, &offset);
    size_t line = 0;
    for (size_t i = 0; i < t->n; i++) {
        TL_TRY(wrap_item(&t->items[i], cols));
        if (i == at_top) {
            t->top = line + (offset < height(&t->items[i]) ? offset : height(&t->items[i]) - 1);
        }
        line += height(&t->items[i]);
    }
    *total = line > 0 ? line - 1 : 0; /* no blank line behind the last */
    return TL_OK;
}

static size_t last_top(size_t total, struct tui_rect view) {
    return total > (size_t)view.rows ? total - (size_t)view.rows : 0;
}

tl_err tui_talk_scroll(tui_talk *t, struct tui_rect view, int32_t lines) {
    size_t total = 0;
    TL_TRY(wrap_all(t, view.cols, &total));
    const size_t last = last_top(total, view);
    const int64_t from = (int64_t)(t->scrolled && t->top < last ? t->top : last);
    const int64_t to = from + lines;
    t->scrolled = to < (int64_t)last;
    t->top = to < 0 ? 0 : (size_t)to;
    return TL_OK;
}

size_t tui_talk_below(tui_talk *t, struct tui_rect view) {
    size_t total = 0;
    if (!t->scrolled || wrap_all(t, view.cols, &total)) {
        return 0;
    }
    const size_t last = last_top(total, view);
    return last > t->top ? last - t->top : 0;
}

static void draw_line(tui_grid *g, struct tui_rect view, int32_t row, const struct tui_item *item,
                      size_t i) {
    const bool answer = item->kind == TUI_ITEM_ANSWER;
    struct tui_at at = {view, row, answer ? 0 : MARGIN, TUI_DIM};
    tui_text_draw(g, at, &item->lines, (uint32_t)i, item->text.data);
    if (i == 0 && !answer) {
        at.col = 0;
        at.style = style_of(item->kind);
        tui_puts(g, at,
                 item->kind == TUI_ITEM_USER   ? ">"
                 : item->kind == TUI_ITEM_NOTE ? "\xc2\xb7"
                                               : "!");
    }
}

tl_err tui_talk_draw(tui_grid *g, struct tui_rect view, tui_talk *t) {
    size_t total = 0, line = 0;
    if (view.rows <= 0 || view.cols <= 0) {
        return TL_OK;
    }
    TL_TRY(wrap_all(t, view.cols, &total));
    const size_t last = last_top(total, view);
    t->scrolled = t->scrolled && t->top < last;
    t->top = t->scrolled ? t->top : last;
    for (size_t i = 0; i < t->n && line < t->top + (size_t)view.rows; i++) {
        const struct tui_item *const item = &t->items[i];
        const size_t n = height(item);
        for (size_t k = t->top > line ? t->top - line : 0; k + 1 < n; k++) {
            if (line + k >= t->top + (size_t)view.rows) {
                break;
            }
            draw_line(g, view, (int32_t)(line + k - t->top), item, k);
        }
        line += n;
    }
    const size_t below = t->scrolled ? last - t->top : 0;
    if (below > 0) {
        char text[48];
        snprintf(text, sizeof text, " %zu more below ", below);
        const int32_t col = view.cols - (int32_t)strlen(text);
        tui_puts(g, (struct tui_at){view, view.rows - 1, col > 0 ? col : 0, TUI_STATUS}, text);
    }
    return TL_OK;
}
