/* What a key, a click or the wheel is, apart from the terminal that sent it. */
#ifndef TUI_KEY_H
#define TUI_KEY_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tui_key_kind {
    TUI_KEY_CHAR, /* ch; controls are 1 .. 31 */
    TUI_KEY_ENTER,
    TUI_KEY_TAB,
    TUI_KEY_BACKSPACE,
    TUI_KEY_DELETE,
    TUI_KEY_ESCAPE,
    TUI_KEY_UP,
    TUI_KEY_DOWN,
    TUI_KEY_LEFT,
    TUI_KEY_RIGHT,
    TUI_KEY_HOME,
    TUI_KEY_END,
    TUI_KEY_PAGE_UP,
    TUI_KEY_PAGE_DOWN,
    TUI_KEY_FUNCTION, /* ch: 1 .. 12 */
    TUI_KEY_CLICK,    /* row, col */
    TUI_KEY_WHEEL_UP,
    TUI_KEY_WHEEL_DOWN,
    TUI_KEY_PASTE_BEGIN, /* what comes until the end is text, whatever keys it looks like */
    TUI_KEY_PASTE_END,
    TUI_KEY_OTHER,
} tui_key_kind;

struct tui_key {
    tui_key_kind kind;
    uint32_t ch;
    bool alt, ctrl; /* ctrl: of keys that are no CHAR */
    int32_t row, col;
};

#ifdef __cplusplus
}
#endif

#endif
