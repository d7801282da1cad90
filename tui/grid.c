/* Drawing into cells. The invariant: a wide sign lies whole inside its rectangle with its right
 * half marked, or is replaced by a blank; nothing outside the rectangle is ever touched. */
#include "grid.h"

#include "width.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tl_err tui_grid_resize(tui_grid *g, int32_t rows, int32_t cols) {
    rows = rows < 1 ? 1 : rows > TUI_SIDE_MAX ? TUI_SIDE_MAX : rows;
    cols = cols < 1 ? 1 : cols > TUI_SIDE_MAX ? TUI_SIDE_MAX : cols;
    tui_cell *const cells = realloc(g->cells, (size_t)rows * (size_t)cols * sizeof *cells);
    if (cells == NULL) {
        return TL_ERR_MEMORY;
    }
    g->cells = cells;
    g->rows = rows;
    g->cols = cols;
    tui_grid_clear(g);
    return TL_OK;
}

void tui_grid_free(tui_grid *g) {
    free(g->cells);
    *g = (tui_grid){0};
}

void tui_grid_clear(tui_grid *g) {
    const size_t n = (size_t)g->rows * (size_t)g->cols;
    memset(g->cells, 0, n * sizeof *g->cells);
    for (size_t i = 0; i < n; i++) {
        g->cells[i].width = 1;
    }
    g->cursor_row = g->cursor_col = -1;
}

struct tui_rect tui_grid_rect(const tui_grid *g) {
    return (struct tui_rect){0, 0, g->rows, g->cols};
}

bool tui_rect_has(struct tui_rect r, int32_t row, int32_t col) {
    return row >= r.row && row < r.row + r.rows && col >= r.col && col < r.col + r.cols;
}

struct tui_rect tui_rect_below(struct tui_rect r, int32_t n) {
    n = n > r.rows ? r.rows : n;
    return (struct tui_rect){r.row + n, r.col, r.rows - n, r.cols};
}

/* The cell, or NULL outside the rectangle or the grid. */
static tui_cell *cell_at(tui_grid *g, struct tui_rect rect, int32_t row, int32_t col) {
    const int32_t y = rect.row + row, x = rect.col + col;
    const bool inside = row >= 0 && row < rect.rows && col >= 0 && col < rect.cols;
    return inside && tui_rect_has(tui_grid_rect(g), y, x) ? &g->cells[y * g->cols + x] : NULL;
}

/* Half a wide sign does not stay behind. */
static void clear_halves(tui_grid *g, const tui_cell *cell) {
    const ptrdiff_t i = cell - g->cells;
    if (cell->width == 0 && i > 0) {
        g->cells[i - 1] = (tui_cell){.style = cell[-1].style, .width = 1};
    } else if (cell->width == 2 && i + 1 < (ptrdiff_t)g->rows * g->cols) {
        g->cells[i + 1] = (tui_cell){.style = cell[1].style, .width = 1};
    }
}

static uint32_t ascii_of(uint32_t cp) {
    static const struct {
        uint32_t cp;
        char ascii;
    } table[] = {
        {0xb7, '.'},   {0x2013, '-'}, {0x2014, '-'}, {0x2018, '\''}, {0x2019, '\''}, {0x201c, '"'},
        {0x201d, '"'}, {0x2022, '*'}, {0x2026, '.'}, {0x2500, '-'},  {0x2502, '|'},  {0x2588, '#'},
        {0x2591, '.'}, {0x2592, ':'}, {0x2593, '%'}, {0x25b6, '>'},  {0x25bc, 'v'},  {0x25b2, '^'},
        {0xd7, 'x'},   {0x258e, '|'}, {0x203a, '>'}, {0x25a0, 'D'},  {0x25aa, 'i'},  {0x2191, '^'},
        {0x2193, 'v'}, {0x250c, '+'}, {0x2510, '+'}, {0x2514, '+'},  {0x2518, '+'},
    };
    if (cp < 0x80) {
        return cp;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].cp == cp) {
            return (unsigned char)table[i].ascii;
        }
    }
    return cp == 0xa0 ? ' ' : '?';
}

static void put_mark(tui_grid *g, struct tui_at at, int32_t col, uint32_t cp) {
    tui_cell *cell = cell_at(g, at.rect, at.row, col - 1);
    if (cell != NULL && cell->width == 0) {
        cell = cell_at(g, at.rect, at.row, col - 2);
    }
    for (size_t i = 1; cell != NULL && cell->ch[0] != 0 && i < TUI_CELL_CHARS; i++) {
        if (cell->ch[i] == 0) {
            cell->ch[i] = cp;
            return;
        }
    }
}

static void put_sign(tui_grid *g, struct tui_at at, int32_t col, uint32_t cp) {
    const int32_t width = tui_width(cp);
    tui_cell *const cell = cell_at(g, at.rect, at.row, col);
    tui_cell *const half = width == 2 ? cell_at(g, at.rect, at.row, col + 1) : NULL;
    if (cell != NULL) {
        const bool whole = width == 1 || half != NULL;
        clear_halves(g, cell);
        *cell = (tui_cell){.ch = {whole && cp != ' ' ? cp : 0},
                           .style = (uint16_t)at.style,
                           .width = whole ? (uint8_t)width : 1};
    }
    if (half != NULL) {
        clear_halves(g, half);
        *half = (tui_cell){.style = (uint16_t)at.style, .width = cell != NULL ? 0 : 1};
    }
}

int32_t tui_put(tui_grid *g, struct tui_at at, const char *text, size_t n) {
    int32_t col = at.col;
    for (size_t i = 0, len; i < n && col < TUI_SIDE_MAX; i += len) {
        uint32_t cp = tui_utf8_next(text + i, n - i, &len);
        cp = cp == '\t' ? ' ' : cp;
        const int32_t width = tui_width(cp);
        if (width == 0) {
            if (cp >= 0xa0 && !g->ascii) {
                put_mark(g, at, col, cp);
            }
            continue;
        }
        if (g->ascii) { /* as many columns as it would have taken */
            for (int32_t k = 0; k < width; k++) {
                put_sign(g, at, col + k, k == 0 ? ascii_of(cp) : ' ');
            }
        } else {
            put_sign(g, at, col, cp);
        }
        col += width;
    }
    return col;
}

int32_t tui_puts(tui_grid *g, struct tui_at at, const char *text) {
    return tui_put(g, at, text, strlen(text));
}

int32_t tui_putf(tui_grid *g, struct tui_at at, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return tui_put(g, at, text, n < 0 ? 0 : (size_t)tl_min_u64((uint64_t)n, sizeof text - 1));
}

void tui_repeat(tui_grid *g, struct tui_at at, uint32_t cp, int32_t n) {
    for (int32_t i = 0; i < n && i < TUI_SIDE_MAX; i++) {
        put_sign(g, at, at.col + i, g->ascii ? ascii_of(cp) : cp);
    }
}

void tui_fill(tui_grid *g, struct tui_rect rect, unsigned style) {
    for (int32_t row = 0; row < rect.rows; row++) {
        tui_repeat(g, (struct tui_at){rect, row, 0, style}, ' ', rect.cols);
    }
}
