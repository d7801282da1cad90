/* The chat pane: what was said, broken into lines once per width, and which part of it is in view.
 */
#ifndef TUI_TALK_H
#define TUI_TALK_H

#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tui_item_kind {
    TUI_ITEM_USER,
    TUI_ITEM_ANSWER, /* markdown */
    TUI_ITEM_NOTE,
    TUI_ITEM_WARN,
    TUI_ITEM_ERROR,
} tui_item_kind;

struct tui_item {
    tui_item_kind kind;
    tl_bytes text;        /* owned */
    tui_text lines;       /* owned: as broken for ... */
    size_t wrapped_len;   /* ... so many bytes ... */
    int32_t wrapped_cols; /* ... and columns; 0: not yet */
};

/* Zero-initialise; tui_talk_free empties it. It follows the newest line until it is scrolled. */
typedef struct tui_talk {
    struct tui_item *items; /* owned */
    size_t n, cap;
    size_t top; /* the first line in view, where it does not follow */
    bool scrolled;
    size_t open; /* 1 + the answer that is still coming; 0: none is */
} tui_talk;

void tui_talk_free(tui_talk *t);
void tui_talk_clear(tui_talk *t);
TL_MUST tl_err tui_talk_add(tui_talk *t, tui_item_kind kind, const char *text, size_t n);
/* More of the answer that is coming; where none is, of the last item if that is one, else of a new
 * one. Notes and warnings that come in between stand behind it, and do not break it in two. */
TL_MUST tl_err tui_talk_append(tui_talk *t, const char *text, size_t n);
void tui_talk_end(tui_talk *t); /* the answer is whole */

/* Up (negative) or down by lines of a view of that size; down to the end follows again. */
TL_MUST tl_err tui_talk_scroll(tui_talk *t, struct tui_rect view, int32_t lines);
/* How many lines lie below a view of that size. */
size_t tui_talk_below(tui_talk *t, struct tui_rect view);

TL_MUST tl_err tui_talk_draw(tui_grid *g, struct tui_rect view, tui_talk *t);

#ifdef __cplusplus
}
#endif

#endif
