/* The picture, wide (from 100 columns on) and narrow:
 *
 *     title                     title
 *     chat        | dashboard   dashboard
 *                 |             chat
 *     prompt (1 to a third of the rows)
 *     status
 *
 * Title and status go first when rows are scarce: 20 x 5 still has three rows of chat. */
#include "layout.h"

enum {
    WIDE_COLS = 100,
    DASH_COLS_MIN = 46,
    DASH_COLS_MAX = 96,
    GUTTER_COLS = 3, /* the border, and a blank on either side: text never touches it */
    STACKED_ROWS = 16,
    TITLE_ROWS = 8
};

static int32_t clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/* Cuts n rows off the top of *from. */
static struct tui_rect take_rows(struct tui_rect *from, int32_t n) {
    struct tui_rect top = *from;
    top.rows = clamp(n, 0, from->rows);
    *from = tui_rect_below(*from, top.rows);
    return top;
}

static void split_body(struct tui_rect body, const struct tui_wish *wish, struct tui_layout *out) {
    const struct tui_rect none = {body.row, body.col, 0, 0};
    out->chat = body;
    out->dash = out->border = none;
    if (!wish->dash) {
        return;
    }
    if (body.cols >= WIDE_COLS) {
        const int32_t cols = clamp(body.cols * 9 / 20, DASH_COLS_MIN, DASH_COLS_MAX);
        out->chat.cols = body.cols - cols - GUTTER_COLS;
        out->border =
            (struct tui_rect){body.row, body.col + out->chat.cols, body.rows, GUTTER_COLS};
        out->dash = (struct tui_rect){body.row, out->border.col + GUTTER_COLS, body.rows, cols};
    } else if (body.rows >= STACKED_ROWS) {
        out->dash = take_rows(&body, body.rows * 3 / 5);
        out->chat = body;
    } else {
        out->dash = body;
        out->chat = none;
    }
}

void tui_layout_chat(struct tui_rect screen, const struct tui_wish *wish, struct tui_layout *out) {
    struct tui_rect body = screen;
    out->title = take_rows(&body, screen.rows >= TITLE_ROWS ? 1 : 0);
    const int32_t n_status = screen.rows >= 3 ? 1 : 0;
    const int32_t most = clamp(screen.rows / 3, 1, screen.rows);
    const int32_t n_prompt = clamp(wish->prompt_rows, 1, most);
    const int32_t n_body = clamp(body.rows - n_status - n_prompt, 0, body.rows);
    const struct tui_rect upper = take_rows(&body, n_body);
    out->prompt = take_rows(&body, n_prompt);
    out->status = take_rows(&body, n_status);
    split_body(upper, wish, out);
}

/* Who gets how many rows, in the order of who gets them first. A part with two entries may grow. */
static const struct part {
    tui_part part;
    int32_t rows;
} by_rank[] = {
    {TUI_PART_RATE, 1},   {TUI_PART_CONTEXT, 1},
    {TUI_PART_TABLE, 2},  {TUI_PART_TITLE, 1},
    {TUI_PART_TIMES, 1},  {TUI_PART_TABLE, 5},
    {TUI_PART_GAUGE, 1},  {TUI_PART_MEMORY, 1},
    {TUI_PART_HEAT, 2},   {TUI_PART_SPARK, 1},
    {TUI_PART_MODEL, 1},  {TUI_PART_DEVICE, 1},
    {TUI_PART_LEGEND, 1}, {TUI_PART_TABLE, TUI_SIDE_MAX},
    {TUI_PART_SPARK, 2},
};

void tui_layout_dash(struct tui_rect dash, int32_t table_rows,
                     struct tui_rect parts[TUI_PART_COUNT]) {
    int32_t rows[TUI_PART_COUNT] = {0};
    int32_t left = dash.rows;
    for (size_t i = 0; i < sizeof by_rank / sizeof by_rank[0]; i++) {
        const tui_part part = by_rank[i].part;
        int32_t n = by_rank[i].rows;
        if (rows[part] > 0) { /* it grows, as far as it can */
            n = part == TUI_PART_TABLE && n > table_rows - rows[part] ? table_rows - rows[part] : n;
            n = clamp(n, 0, left);
        } else if (n > left) {
            n = 0;
        }
        rows[part] += n;
        left -= n;
    }
    struct tui_rect rest = dash;
    for (size_t i = 0; i < TUI_PART_COUNT; i++) {
        parts[i] = take_rows(&rest, rows[i]);
    }
}

struct tui_rect tui_layout_box(struct tui_rect screen, struct tui_rect wanted) {
    const int32_t rows = clamp(wanted.rows, 0, screen.rows);
    const int32_t cols = clamp(wanted.cols, 0, screen.cols);
    return (struct tui_rect){screen.row + (screen.rows - rows) / 2,
                             screen.col + (screen.cols - cols) / 2, rows, cols};
}
