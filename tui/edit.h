/* The prompt's editor: a text of one or many lines, a cursor, a history. No keys, no screen:
 * callers name what to do. */
#ifndef TUI_EDIT_H
#define TUI_EDIT_H

#include "grid.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TUI_HISTORY_MAX = 1000 };

typedef struct tui_edit {
    tl_bytes text;                /* owned, UTF-8 */
    size_t cursor;                /* a byte, at the beginning of a sign */
    tl_bytes killed;              /* owned: what was cut last */
    char **history;               /* owned strings, oldest first */
    size_t n_history, at_history; /* at_history == n_history: the text is a new one */
    tl_bytes draft;               /* owned: the new text while looking at older ones */
    tl_bytes query;               /* owned: what is searched for in the history ... */
    bool searching, missed;       /* ... while this is set; missed: nothing older has it */
} tui_edit;

void tui_edit_free(tui_edit *e);

/* Controls but newlines and tabs are left out, broken UTF-8 becomes U+FFFD, "\r\n" and "\r" are
 * newlines. */
TL_MUST tl_err tui_edit_insert(tui_edit *e, const char *text, size_t n);
TL_MUST tl_err tui_edit_set(tui_edit *e, const char *text, size_t n); /* cursor at the end */
/* Replaces bytes [from, cursor). */
TL_MUST tl_err tui_edit_replace(tui_edit *e, size_t from, const char *text);

typedef enum tui_motion {
    TUI_SIGN_LEFT,
    TUI_SIGN_RIGHT,
    TUI_WORD_LEFT,
    TUI_WORD_RIGHT,
    TUI_LINE_START,
    TUI_LINE_END,
    TUI_TEXT_START,
    TUI_TEXT_END,
} tui_motion;
void tui_edit_move(tui_edit *e, tui_motion motion);
/* Deletes from the cursor to where the motion goes; with keep it can be put back by yank. */
TL_MUST tl_err tui_edit_cut(tui_edit *e, tui_motion motion, bool keep);
TL_MUST tl_err tui_edit_yank(tui_edit *e);

/* One line up or down in a text shown `cols` wide; at its edges an older or newer text. */
TL_MUST tl_err tui_edit_up(tui_edit *e, int32_t cols);
TL_MUST tl_err tui_edit_down(tui_edit *e, int32_t cols);
TL_MUST tl_err tui_edit_older(tui_edit *e);
TL_MUST tl_err tui_edit_newer(tui_edit *e);

/* Searches the history for texts with the query in them, backwards from the newest. The text is the
 * one that was found last; ending without `take` brings back what was there before. */
TL_MUST tl_err tui_edit_search_begin(tui_edit *e);
TL_MUST tl_err tui_edit_search_add(tui_edit *e, const char *text, size_t n);
TL_MUST tl_err tui_edit_search_shorten(tui_edit *e); /* by its last sign */
TL_MUST tl_err tui_edit_search_older(tui_edit *e);
TL_MUST tl_err tui_edit_search_newer(tui_edit *e);
TL_MUST tl_err tui_edit_search_end(tui_edit *e, bool take);

/* The text goes into the history (not twice in a row), and the editor is empty. */
TL_MUST tl_err tui_edit_commit(tui_edit *e);
TL_MUST tl_err tui_edit_remember(tui_edit *e, const char *text);

/* History files: a text a line, with \n and \\ for newline and backslash. */
TL_MUST tl_err tui_history_line(const char *text, tl_bytes *out);
TL_MUST tl_err tui_history_read(tui_edit *e, const char *data, size_t n);

/* Rows that the text takes `cols` wide (prompt sign included in cols), at least 1. */
int32_t tui_edit_rows(const tui_edit *e, int32_t cols);
/* Draws it, scrolled so that the cursor is inside, and sets the grid's cursor. */
void tui_edit_draw(tui_grid *g, struct tui_rect rect, const tui_edit *e, const char *prompt);

#ifdef __cplusplus
}
#endif

#endif
