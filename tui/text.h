/* Text broken into lines of a width: plain, or with the markdown that models write (headings,
 * lists, quotes, code, bold, italic). Lines name bytes of the source; nothing is copied. */
#ifndef TUI_TEXT_H
#define TUI_TEXT_H

#include "grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes [off, off + len) of the source in one style. */
struct tui_run {
    uint32_t off, len;
    uint16_t style;
};

typedef enum tui_mark { TUI_MARK_NONE, TUI_MARK_BULLET, TUI_MARK_QUOTE, TUI_MARK_RULE } tui_mark;

struct tui_line {
    uint32_t run, n_runs; /* the first of its runs */
    uint16_t indent;      /* columns before them; the mark stands two before the text */
    uint16_t mark;
};

/* Zero-initialise; tui_text_free empties it. */
typedef struct tui_text {
    struct tui_run *runs;     /* owned */
    struct tui_line *lines;   /* owned */
    struct tui_glyph *glyphs; /* owned: of the source line at hand */
    uint32_t n_runs, n_lines, n_glyphs, runs_cap, lines_cap, glyphs_cap;
} tui_text;

void tui_text_free(tui_text *t);

/* Breaks n bytes (n < 2^32) into lines of at most cols columns, at spaces where it can; a text
 * without bytes has no lines. style is that of plain words. */
TL_MUST tl_err tui_text_wrap(tui_text *t, const char *text, size_t n, int32_t cols, unsigned style);
TL_MUST tl_err tui_text_markdown(tui_text *t, const char *text, size_t n, int32_t cols,
                                 unsigned style);

/* Line i at row at.row of the rectangle, from column at.col on; at.style is the mark's. */
void tui_text_draw(tui_grid *g, struct tui_at at, const tui_text *t, uint32_t i, const char *text);

#ifdef __cplusplus
}
#endif

#endif
