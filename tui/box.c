/* Boxes of text. The invariant: every line of the text can be brought into view at every size that
 * has room for a border and one line. */
#include "box.h"

#include "layout.h"
#include "width.h"

#include <stdio.h>
#include <string.h>

enum {
    COLS_MAX = 94,
    COLS_MIN = 6,
    COLS_LIKED = 28, /* that the place in the text can be told */
    FRAME = 4,       /* columns that the border and a blank beside it take */
    KEY_COLS = 18,
    TWO_COLUMNS = 50,
    END = TUI_SIDE_MAX * TUI_SIDE_MAX
};

static struct tui_at at_of(struct tui_rect rect, int32_t row, int32_t col, unsigned style) {
    return (struct tui_at){rect, row, col, style};
}

static void draw_frame(tui_grid *g, struct tui_rect box, const char *title) {
    static const uint32_t corners[2][2] = {{0x250c, 0x2510}, {0x2514, 0x2518}};
    const int32_t right = box.cols - 1, bottom = box.rows - 1;
    tui_fill(g, box, TUI_TEXT);
    for (int32_t row = 0; row < box.rows; row++) {
        const bool edge = row == 0 || row == bottom;
        if (edge) {
            tui_repeat(g, at_of(box, row, 0, TUI_BORDER), 0x2500, box.cols);
        }
        const size_t low = row == bottom;
        tui_repeat(g, at_of(box, row, 0, TUI_BORDER), edge ? corners[low][0] : 0x2502, 1);
        tui_repeat(g, at_of(box, row, right, TUI_BORDER), edge ? corners[low][1] : 0x2502, 1);
    }
    tui_putf(g, at_of(box, 0, 2, TUI_HEADING | TUI_BOLD), " %s ", title);
}

/* Where one is in the text, and the keys that go on. */
static void draw_place(tui_grid *g, struct tui_rect box, int32_t first, int32_t rows, int32_t all) {
    char text[64];
    snprintf(text, sizeof text, " %d-%d of %d, Up Down ", first + 1,
             first + rows < all ? first + rows : all, all);
    if (tui_text_width(text, strlen(text)) > box.cols - 2) {
        snprintf(text, sizeof text, " %d/%d ", first + rows < all ? first + rows : all, all);
    }
    tui_puts(g, at_of(box, box.rows - 1, 1, TUI_DIM), text);
}

/* The widest line of the text, or `most`. */
static int32_t widest(const char *text, size_t n, int32_t most) {
    int32_t widest = COLS_LIKED;
    for (size_t at = 0, end; at < n; at = end + 1) {
        const char *const newline = memchr(text + at, '\n', n - at);
        end = newline != NULL ? (size_t)(newline - text) : n;
        const int32_t cols = tui_text_width(text + at, end - at);
        widest = cols > widest ? cols : widest;
    }
    return widest < most ? widest : most;
}

static void draw_text(tui_grid *g, const char *title, const char *text, const tui_text *lines,
                      int32_t cols, int32_t *first) {
    const int32_t all = (int32_t)lines->n_lines, rows = all < g->rows - 2 ? all : g->rows - 2;
    const struct tui_rect box =
        tui_layout_box(tui_grid_rect(g), (struct tui_rect){0, 0, rows + 2, cols + FRAME});
    const struct tui_rect inside = {box.row + 1, box.col + 2, rows, box.cols - FRAME};
    *first = *first > all - rows ? all - rows : *first;
    *first = *first < 0 ? 0 : *first;
    draw_frame(g, box, title);
    for (int32_t i = 0; i < rows; i++) {
        tui_text_draw(g, at_of(inside, i, 0, TUI_TEXT), lines, (uint32_t)(*first + i), text);
    }
    if (rows < all) {
        draw_place(g, box, *first, rows, all);
    }
}

tl_err tui_box_draw(tui_grid *g, const char *title, const char *text, size_t n, int32_t *first) {
    const int32_t most = (g->cols < COLS_MAX ? g->cols : COLS_MAX) - FRAME;
    tui_text lines = {0};
    if (most < COLS_MIN || g->rows < 3) {
        return TL_OK;
    }
    const int32_t cols = widest(text, n, most);
    const tl_err err = tui_text_wrap(&lines, text, n, cols, TUI_TEXT);
    if (!err) {
        draw_text(g, title, text, &lines, cols, first);
        g->cursor_row = g->cursor_col = -1;
    }
    tui_text_free(&lines);
    return err;
}

static bool char_key(uint32_t ch, int32_t page, int32_t *first) {
    switch (ch) {
    case 'j':
    case 'k':
        *first += ch == 'j' ? 1 : -1;
        return true;
    case ' ':
        *first += page;
        return true;
    case 'g':
    case 'G':
        *first = ch == 'G' ? END : 0;
        return true;
    default:
        return false;
    }
}

bool tui_box_key(const struct tui_key *key, int32_t page, int32_t *first) {
    page = page > 4 ? page - 3 : 1;
    switch (key->kind) {
    case TUI_KEY_UP:
    case TUI_KEY_WHEEL_UP:
        *first -= 1;
        return true;
    case TUI_KEY_DOWN:
    case TUI_KEY_WHEEL_DOWN:
        *first += 1;
        return true;
    case TUI_KEY_PAGE_UP:
        *first -= page;
        return true;
    case TUI_KEY_PAGE_DOWN:
        *first += page;
        return true;
    case TUI_KEY_HOME:
        *first = 0;
        return true;
    case TUI_KEY_END:
        *first = END;
        return true;
    case TUI_KEY_CHAR:
        return char_key(key->ch, page, first);
    default:
        return false;
    }
}

tl_err tui_help_spell(const struct tui_help *list, size_t n, int32_t cols, tl_bytes *out) {
    static const char blanks[] = "                    ";
    for (size_t i = 0; i < n; i++) {
        const struct tui_help *const h = &list[i];
        if (h->key != NULL) {
            TL_TRY(tl_bytes_add_str(out, h->key));
            const size_t used = strlen(h->key);
            const bool beside = cols >= TWO_COLUMNS && used < KEY_COLS;
            TL_TRY(beside ? tl_bytes_add(out, blanks, KEY_COLS - used)
                          : tl_bytes_add_str(out, "\n  "));
        }
        TL_TRY(tl_bytes_add_str(out, h->what));
        TL_TRY(tl_bytes_add_str(out, i + 1 < n ? "\n" : ""));
    }
    return tl_bytes_add(out, "", 0);
}
