/* What a cell looks like, by meaning: a role, which a theme gives colours, and attributes. */
#ifndef TUI_STYLE_H
#define TUI_STYLE_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tui_role {
    TUI_TEXT,
    TUI_DIM,
    TUI_TITLE,
    TUI_STATUS,
    TUI_KEY,
    TUI_USER,
    TUI_HEADING,
    TUI_CODE,
    TUI_QUOTE,
    TUI_NOTE,
    TUI_WARN,
    TUI_ERROR,
    TUI_SELECTED,
    TUI_BORDER,
    TUI_GOOD,
    TUI_WINDOW, /* the tiers */
    TUI_SKETCH,
    TUI_INDEX,
    TUI_HOT,
    TUI_DEVICE,
    TUI_HOST,
    TUI_DISK,
    TUI_PLOT,
    TUI_HEAT1, /* cold to hot */
    TUI_HEAT2,
    TUI_HEAT3,
    TUI_HEAT4,
    TUI_ROLE_COUNT,
} tui_role;

enum tui_attr {
    TUI_ROLE_MASK = 0xff,
    TUI_BOLD = 0x100,
    TUI_ITALIC = 0x200,
    TUI_UNDERLINE = 0x400,
    TUI_REVERSE = 0x800,
};

#ifdef __cplusplus
}
#endif

#endif
