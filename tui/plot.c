/* Braille has 2 x 4 dots in a cell: dot bits by column (left, right) and height from the bottom. */
#include "plot.h"

#include <math.h>

void tui_plot_bar(tui_grid *g, struct tui_at at, int32_t cols, const struct tui_share *shares,
                  size_t n, double whole) {
    double sum = 0;
    int32_t from = 0;
    for (size_t i = 0; i < n && whole > 0; i++) {
        if (!(shares[i].value > 0)) {
            continue;
        }
        sum += shares[i].value;
        const double end = floor((double)cols * sum / whole + 0.5);
        int32_t to = end < (double)cols ? (int32_t)end : cols;
        to = to > from ? to : from + 1;
        to = to < cols ? to : cols;
        const struct tui_at start = {at.rect, at.row, at.col + from, shares[i].style};
        tui_repeat(g, start, shares[i].sign, to - from);
        from = to;
    }
}

void tui_plot_gauge(tui_grid *g, struct tui_at at, int32_t cols, double fraction) {
    if (isnan(fraction)) {
        at.style = TUI_DIM;
        tui_puts(g, at, "N/A");
        return;
    }
    const double clipped = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    const int32_t full = (int32_t)(clipped * (double)cols + 0.5);
    tui_repeat(g, at, 0x2588, full);
    at.col += full;
    tui_repeat(g, at, 0xb7, cols - full);
}

static float top_of(const float *values, size_t n, float top) {
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = values[i] > largest ? values[i] : largest;
    }
    return top > 0 ? top : largest;
}

/* How many of `levels` a value fills; a value above 0 fills one at least; -1: nothing is known. */
static int32_t level_of(float value, float top, int32_t levels) {
    if (isnan(value)) {
        return -1;
    }
    if (!(value > 0) || !(top > 0)) {
        return 0;
    }
    const float level = value >= top ? (float)levels : value / top * (float)levels;
    return level < 1 ? 1 : (int32_t)(level + 0.5f);
}

static void spark_ascii(tui_grid *g, struct tui_at at, const float *values, size_t n, float top) {
    static const char signs[] = " .:-=+*#%@";
    const int32_t bottom = at.rect.rows - 1;
    const size_t cols = at.rect.cols > at.col ? (size_t)(at.rect.cols - at.col) : 0;
    const size_t shown = n < cols ? n : cols;
    for (size_t i = 0; i < shown; i++) {
        const int32_t level = level_of(values[n - shown + i], top, (int32_t)sizeof signs - 2);
        const struct tui_at cell = {at.rect, bottom, at.rect.cols - (int32_t)(shown - i), at.style};
        tui_repeat(g, cell, (unsigned char)(level < 0 ? ' ' : level == 0 ? '_' : signs[level]), 1);
    }
}

/* One cell: values left and right of it, -1 where there is none. */
static uint32_t braille(int32_t left, int32_t right, int32_t base) {
    static const uint8_t dots[2][4] = {{0x40, 0x04, 0x02, 0x01}, {0x80, 0x20, 0x10, 0x08}};
    uint32_t bits = 0;
    for (int32_t i = 0; i < 4; i++) {
        bits |= left > base + i || (left == 0 && base + i == 0) ? dots[0][i] : 0;
        bits |= right > base + i || (right == 0 && base + i == 0) ? dots[1][i] : 0;
    }
    return 0x2800 + bits;
}

void tui_plot_spark(tui_grid *g, struct tui_at at, const float *values, size_t n, float top) {
    const int32_t cols = at.rect.cols - at.col;
    if (cols <= 0 || at.rect.rows <= 0) {
        return;
    }
    const size_t room = g->ascii ? (size_t)cols : 2 * (size_t)cols;
    const size_t shown = n < room ? n : room;
    top = top_of(values + (n - shown), shown, top);
    if (g->ascii) {
        spark_ascii(g, at, values, n, top);
        return;
    }
    const int32_t levels = 4 * at.rect.rows;
    for (int32_t x = 0; x < cols; x++) {
        int32_t level[2];
        for (size_t side = 0; side < 2; side++) { /* how far from the newest, which is right */
            const size_t back = room - 1 - (2 * (size_t)x + side);
            level[side] = back < shown ? level_of(values[n - 1 - back], top, levels) : -1;
        }
        for (int32_t y = 0; y < at.rect.rows; y++) {
            const uint32_t cp = braille(level[0], level[1], 4 * (at.rect.rows - 1 - y));
            if (cp != 0x2800) {
                tui_repeat(g, (struct tui_at){at.rect, y, at.col + x, at.style}, cp, 1);
            }
        }
    }
}

void tui_plot_heat(tui_grid *g, struct tui_at at, int32_t cols, const uint16_t *counts, size_t n) {
    static const uint32_t signs[] = {0xb7, 0x2591, 0x2592, 0x2593, 0x2588};
    uint16_t top = 1;
    for (size_t i = 0; i < n; i++) {
        top = counts[i] > top ? counts[i] : top;
    }
    for (int32_t x = 0; x < cols && n > 0; x++) {
        const size_t from = (size_t)x * n / (size_t)cols, to = (size_t)(x + 1) * n / (size_t)cols;
        uint16_t most = counts[from];
        for (size_t i = from; i < to; i++) {
            most = counts[i] > most ? counts[i] : most;
        }
        const unsigned level = most == 0 ? 0 : 1 + (unsigned)most * 3 / top;
        const unsigned style = level == 0 ? TUI_DIM : TUI_HEAT1 + level - 1;
        tui_repeat(g, (struct tui_at){at.rect, at.row, at.col + x, style}, signs[level], 1);
    }
}
