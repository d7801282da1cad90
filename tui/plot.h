/* Plots into cells: pure functions of numbers and a rectangle. A number that is not known is a NaN
 * and is left out; it never looks like a zero. */
#ifndef TUI_PLOT_H
#define TUI_PLOT_H

#include "grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A share of a bar: how much, in which role, as which sign (told apart without colours too). */
struct tui_share {
    double value;
    uint32_t sign;
    unsigned style;
};

/* Shares side by side in `cols` columns that stand for `whole`; a share above 0 has a column at
 * least while there is one left. */
void tui_plot_bar(tui_grid *g, struct tui_at at, int32_t cols, const struct tui_share *shares,
                  size_t n, double whole);

/* How full: filled columns, then dots. A NaN draws N/A. */
void tui_plot_gauge(tui_grid *g, struct tui_at at, int32_t cols, double fraction);

/* The newest n_cols * 2 values, newest right, over all rows of at.rect, 0 at the bottom; braille,
 * or one sign a value in ASCII. The scale is `top`, or the largest value where top is 0. */
void tui_plot_spark(tui_grid *g, struct tui_at at, const float *values, size_t n, float top);

/* n counts as a strip of cols columns, each the largest count of its places. */
void tui_plot_heat(tui_grid *g, struct tui_at at, int32_t cols, const uint16_t *counts, size_t n);

#ifdef __cplusplus
}
#endif

#endif
