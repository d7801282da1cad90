#include "cells.h"

#include "tui/width.h"

#include <string.h>

const char *row_text(const tui_grid *g, int32_t row) {
    static char text[8192];
    size_t n = 0;
    for (int32_t col = 0; col < g->cols; col++) {
        const tui_cell *const c = &g->cells[row * g->cols + col];
        for (size_t i = 0; i < TUI_CELL_CHARS && c->ch[i] != 0; i++) {
            n += tui_utf8_put(c->ch[i], text + n);
        }
        if (c->ch[0] == 0 && c->width == 1) {
            text[n++] = ' ';
        }
    }
    while (n > 0 && text[n - 1] == ' ') {
        n--;
    }
    text[n] = '\0';
    return text;
}

bool shows(const tui_grid *g, const char *text) {
    for (int32_t row = 0; row < g->rows; row++) {
        if (strstr(row_text(g, row), text) != NULL) {
            return true;
        }
    }
    return false;
}

void check_halves(const tui_grid *g) {
    for (int32_t row = 0; row < g->rows; row++) {
        for (int32_t col = 0; col < g->cols; col++) {
            const tui_cell *const c = &g->cells[row * g->cols + col];
            assert_true(c->width <= 2);
            assert_true(c->width != 2 || (col + 1 < g->cols && c[1].width == 0));
            assert_true(c->width != 0 || (col > 0 && c[-1].width == 2));
        }
    }
}

enum { CANARY = 0x77 };

void mark_outside(tui_grid *g, struct tui_rect r) {
    tui_grid_clear(g);
    for (int32_t i = 0; i < g->rows * g->cols; i++) {
        if (!tui_rect_has(r, i / g->cols, i % g->cols)) {
            g->cells[i] = (tui_cell){.ch = {CANARY}, .style = CANARY, .width = 1};
        }
    }
}

void check_outside(const tui_grid *g, struct tui_rect r) {
    for (int32_t i = 0; i < g->rows * g->cols; i++) {
        if (!tui_rect_has(r, i / g->cols, i % g->cols)) {
            assert_true(g->cells[i].ch[0] == CANARY && g->cells[i].style == CANARY);
        }
    }
}

struct tui_rect random_rect(struct tl_rng *rng, int32_t rows, int32_t cols) {
    const int32_t row = (int32_t)rng_below(rng, (uint64_t)rows);
    const int32_t col = (int32_t)rng_below(rng, (uint64_t)cols);
    return (struct tui_rect){row, col, (int32_t)rng_below(rng, (uint64_t)(rows - row) + 1),
                             (int32_t)rng_below(rng, (uint64_t)(cols - col) + 1)};
}

const char *const pieces[N_PIECES] = {"a",         "word ", "\xe4\xb8\xad", "\xf0\x9f\x98\x80",
                                      "e\xcc\x81", "\t",    "\n",           "\x1b[31m",
                                      "**",        "`",     "# ",           "- ",
                                      "```\n",     "> ",    "\xff",         "_x_",
                                      "1. ",       "***",   "\\*",          "\xe2\x80\x8b"};

void random_text(struct tl_rng *rng, tl_bytes *out, size_t n) {
    out->len = 0;
    assert_int_equal(tl_bytes_add_str(out, ""), TL_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tl_bytes_add_str(out, pieces[rng_below(rng, N_PIECES)]), TL_OK);
    }
}
