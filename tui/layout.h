/* From a size to rectangles: pure functions, tested for every size there is. Rectangles never
 * overlap and never leave the screen; one that there is no room for has no rows or columns. */
#ifndef TUI_LAYOUT_H
#define TUI_LAYOUT_H

#include "grid.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tui_wish {
    int32_t prompt_rows; /* that the text in the editor would take */
    bool dash;           /* the dashboard is shown; where only one of the two fits, it alone */
};

struct tui_layout {
    struct tui_rect title, chat, dash, prompt, status;
    struct tui_rect border; /* a line in its middle column, and a blank on either side */
};

/* Side by side from 100 columns on, stacked where there are rows for both, else one of the two. */
void tui_layout_chat(struct tui_rect screen, const struct tui_wish *wish, struct tui_layout *out);

typedef enum tui_part {
    TUI_PART_TITLE,
    TUI_PART_MODEL,
    TUI_PART_CONTEXT,
    TUI_PART_RATE,
    TUI_PART_SPARK,
    TUI_PART_TIMES,
    TUI_PART_MEMORY,
    TUI_PART_DEVICE,
    TUI_PART_HEAT,
    TUI_PART_GAUGE,
    TUI_PART_TABLE,
    TUI_PART_LEGEND,
    TUI_PART_COUNT,
} tui_part;

/* The parts of a dashboard from top to bottom. table_rows: what the table would like. The most
 * telling ones come first where there is little room. */
void tui_layout_dash(struct tui_rect dash, int32_t table_rows,
                     struct tui_rect parts[TUI_PART_COUNT]);

/* A box in the middle, as large as wanted and possible. */
struct tui_rect tui_layout_box(struct tui_rect screen, struct tui_rect wanted);

#ifdef __cplusplus
}
#endif

#endif
