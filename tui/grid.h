/* A screen as plain data: cells of text and style. Views draw into rectangles of it, and whatever
 * would lie outside is cut; the terminal never appears here. */
#ifndef TUI_GRID_H
#define TUI_GRID_H

#include "style.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TUI_CELL_CHARS = 4, TUI_SIDE_MAX = 1000 };

typedef struct tui_cell {
    uint32_t ch[TUI_CELL_CHARS]; /* a code point and marks on it; 0 ends; all 0: a blank */
    uint16_t style;
    uint8_t width; /* 1, 2; 0: the right half of the wide one before it */
} tui_cell;

struct tui_rect {
    int32_t row, col, rows, cols;
};

typedef struct tui_grid {
    int32_t rows, cols;
    tui_cell *cells;                /* owned, rows * cols */
    bool ascii;                     /* draw with ASCII only */
    int32_t cursor_row, cursor_col; /* -1: hidden */
} tui_grid;

/* Blank, of a new size (each side at most TUI_SIDE_MAX). On failure it is as it was. */
TL_MUST tl_err tui_grid_resize(tui_grid *g, int32_t rows, int32_t cols);
void tui_grid_free(tui_grid *g);
void tui_grid_clear(tui_grid *g);

struct tui_rect tui_grid_rect(const tui_grid *g);
bool tui_rect_has(struct tui_rect r, int32_t row, int32_t col);
/* The part of r that lies n rows down (and as many less high); never negative sizes. */
struct tui_rect tui_rect_below(struct tui_rect r, int32_t n);

/* Where to draw: row and column inside the rectangle. */
struct tui_at {
    struct tui_rect rect;
    int32_t row, col;
    unsigned style;
};

/* One line of text; controls are left out, a tab is a blank. Cut at the rectangle's right edge.
 * Returns the column behind the text, as if nothing had been cut. */
int32_t tui_put(tui_grid *g, struct tui_at at, const char *text, size_t n);
int32_t tui_puts(tui_grid *g, struct tui_at at, const char *text);
int32_t tui_putf(tui_grid *g, struct tui_at at, const char *fmt, ...) TL_PRINTF(3, 4);
/* One code point of width 1, n times. */
void tui_repeat(tui_grid *g, struct tui_at at, uint32_t cp, int32_t n);
void tui_fill(tui_grid *g, struct tui_rect rect, unsigned style);

#ifdef __cplusplus
}
#endif

#endif
