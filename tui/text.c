/* Wrapping. A source line becomes glyphs (bytes, width, style), whoever styles it; glyphs become
 * lines, broken behind the last space that fits, or anywhere in a word that is wider than a line.
 * Each line takes at least one glyph, so that nothing loops whatever the width. */
#include "text_priv.h"

#include "width.h"

#include <stdlib.h>
#include <string.h>

enum { INDENT_MAX = 12 };

void tui_text_free(tui_text *t) {
    free(t->runs);
    free(t->lines);
    free(t->glyphs);
    *t = (tui_text){0};
}

/* Room for one more item; the array may move. */
static tl_err grow(void **items, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap) {
        return TL_OK;
    }
    const uint32_t wanted = *cap == 0 ? 64 : 2 * *cap;
    void *const grown = realloc(*items, wanted * size);
    if (grown == NULL) {
        return TL_ERR_MEMORY;
    }
    *items = grown;
    *cap = wanted;
    return TL_OK;
}

tl_err tui_add_glyph(tui_text *t, struct tui_glyph glyph) {
    void *items = t->glyphs;
    TL_TRY(grow(&items, t->n_glyphs, &t->glyphs_cap, sizeof *t->glyphs));
    t->glyphs = items;
    t->glyphs[t->n_glyphs++] = glyph;
    return TL_OK;
}

tl_err tui_add_glyphs(tui_text *t, const char *text, struct tui_span span, unsigned style) {
    for (size_t at = span.from; at < span.to;) {
        const size_t end = tui_next_sign(text, span.to, at);
        const char c = text[at];
        const int32_t width = c == '\t' ? 1 : tui_text_width(text + at, end - at);
        TL_TRY(tui_add_glyph(
            t, (struct tui_glyph){.off = (uint32_t)at,
                                  .len = (uint16_t)tl_min_u64(end - at, 64),
                                  .width = (uint8_t)tl_min_u64((uint64_t)width, 2),
                                  .style = (uint16_t)style,
                                  .space = (c == ' ' || c == '\t') && end == at + 1}));
        at = end;
    }
    return TL_OK;
}

/* Glyphs [from, to) as one line; neighbours of one style become one run. */
static tl_err add_line(tui_text *t, uint32_t from, uint32_t to, struct tui_line line) {
    void *items = t->lines;
    TL_TRY(grow(&items, t->n_lines, &t->lines_cap, sizeof *t->lines));
    t->lines = items;
    line.run = t->n_runs;
    for (uint32_t i = from; i < to; i++) {
        const struct tui_glyph *const g = &t->glyphs[i];
        struct tui_run *const last = t->n_runs > line.run ? &t->runs[t->n_runs - 1] : NULL;
        if (last != NULL && last->off + last->len == g->off && last->style == g->style) {
            last->len += g->len;
            continue;
        }
        items = t->runs;
        TL_TRY(grow(&items, t->n_runs, &t->runs_cap, sizeof *t->runs));
        t->runs = items;
        t->runs[t->n_runs++] = (struct tui_run){g->off, g->len, g->style};
    }
    line.n_runs = t->n_runs - line.run;
    t->lines[t->n_lines++] = line;
    return TL_OK;
}

/* The end of the line that begins at glyph `from`, and in *next the beginning of the one behind. */
static uint32_t break_line(const tui_text *t, uint32_t from, int32_t cols, bool words,
                           uint32_t *next) {
    int32_t width = 0;
    uint32_t i = from, space = 0;
    for (; i < t->n_glyphs && width + t->glyphs[i].width <= cols; i++) {
        width += t->glyphs[i].width;
        space = t->glyphs[i].space ? i + 1 : space;
    }
    if (i == t->n_glyphs) {
        *next = i;
        return i;
    }
    if (words && t->glyphs[i].space) { /* the line ends just before a space */
        *next = i + 1;
        return i;
    }
    if (words && space > from + 1) {
        *next = space;
        return space - 1;
    }
    i = i > from ? i : from + 1;
    *next = i;
    return i;
}

tl_err tui_add_lines(tui_text *t, int32_t cols, struct tui_shape_of_line shape) {
    shape.first_indent = shape.first_indent > INDENT_MAX ? INDENT_MAX : shape.first_indent;
    shape.indent = shape.indent > INDENT_MAX ? INDENT_MAX : shape.indent;
    if (cols < 16) { /* too narrow to set anything in */
        shape.first_indent = shape.mark == TUI_MARK_BULLET || shape.mark == TUI_MARK_QUOTE ? 2 : 0;
        shape.indent = shape.first_indent;
    }
    uint32_t from = 0;
    bool first = true;
    do {
        const uint16_t indent = (uint16_t)(first ? shape.first_indent : shape.indent);
        const bool marked = first || shape.mark == TUI_MARK_QUOTE;
        const int32_t room = cols - indent > 1 ? cols - indent : 1;
        uint32_t next = from;
        const uint32_t to = break_line(t, from, room, shape.words, &next);
        TL_TRY(add_line(
            t, from, to,
            (struct tui_line){.indent = indent, .mark = (uint16_t)(marked ? shape.mark : 0)}));
        from = next;
        first = false;
    } while (from < t->n_glyphs);
    t->n_glyphs = 0;
    return TL_OK;
}

void tui_text_begin(tui_text *t) { t->n_runs = t->n_lines = t->n_glyphs = 0; }

size_t tui_line_end(const char *text, size_t n, size_t at) {
    const char *const newline = memchr(text + at, '\n', n - at);
    return newline != NULL ? (size_t)(newline - text) : n;
}

tl_err tui_text_wrap(tui_text *t, const char *text, size_t n, int32_t cols, unsigned style) {
    tui_text_begin(t);
    const struct tui_shape_of_line shape = {.words = true};
    for (size_t at = 0; at < n;) {
        const size_t end = tui_line_end(text, n, at);
        TL_TRY(tui_add_glyphs(t, text, (struct tui_span){at, end}, style));
        TL_TRY(tui_add_lines(t, cols, shape));
        at = end + 1;
    }
    return TL_OK;
}

void tui_text_draw(tui_grid *g, struct tui_at at, const tui_text *t, uint32_t i, const char *text) {
    const struct tui_line *const line = &t->lines[i];
    const int32_t left = at.col;
    if (line->mark == TUI_MARK_RULE) {
        tui_repeat(g, at, 0x2500, at.rect.cols - left);
        return;
    }
    if (line->mark != TUI_MARK_NONE && line->indent >= 2) {
        at.col = left + line->indent - 2;
        tui_puts(g, at, line->mark == TUI_MARK_BULLET ? "\xe2\x80\xa2" : "\xe2\x94\x82");
    }
    at.col = left + line->indent;
    for (uint32_t k = 0; k < line->n_runs; k++) {
        const struct tui_run *const run = &t->runs[line->run + k];
        at.style = run->style;
        at.col = tui_put(g, at, text + run->off, run->len);
    }
}
