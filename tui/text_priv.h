/* What text.c and markdown.c share. */
#ifndef TUI_TEXT_PRIV_H
#define TUI_TEXT_PRIV_H

#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tui_glyph {
    uint32_t off;
    uint16_t len, style;
    uint8_t width;
    bool space; /* a line may end behind it */
};

/* Bytes [from, to) of the source. */
struct tui_span {
    size_t from, to;
};

/* How a source line is set. */
struct tui_shape_of_line {
    int32_t first_indent, indent; /* of its first line and of the others */
    tui_mark mark;
    bool words; /* break at spaces */
};

void tui_text_begin(tui_text *t);
size_t tui_line_end(const char *text, size_t n, size_t at);
TL_MUST tl_err tui_add_glyph(tui_text *t, struct tui_glyph glyph);
TL_MUST tl_err tui_add_glyphs(tui_text *t, const char *text, struct tui_span span, unsigned style);
/* The glyphs gathered so far as lines; there are none left then. */
TL_MUST tl_err tui_add_lines(tui_text *t, int32_t cols, struct tui_shape_of_line shape);

#ifdef __cplusplus
}
#endif

#endif
