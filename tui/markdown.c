/* The markdown that language models write, line by line: an answer that is still coming looks right
 * at every moment, and a marker without its partner is shown as it is. Line breaks are kept. */
#include "text_priv.h"

#include <string.h>

struct block {
    const char *text;
    struct tui_span span; /* of the line, without its newline */
    unsigned style;
};

static bool is_space(char c) { return c == ' ' || c == '\t'; }
static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (unsigned char)c >= 0x80;
}

/* How often c stands at `at`. */
static size_t run_of(const char *text, struct tui_span span, char c) {
    size_t n = 0;
    while (span.from + n < span.to && text[span.from + n] == c) {
        n++;
    }
    return n;
}

/* Where the next run of exactly n times c begins behind `from`; `to` where there is none. */
static size_t find_run(const char *text, struct tui_span span, char c, size_t n) {
    for (size_t at = span.from; at < span.to;) {
        const size_t found = run_of(text, (struct tui_span){at, span.to}, c);
        if (found == n) {
            return at;
        }
        at += found > 0 ? found : 1;
    }
    return span.to;
}

/* Emphasis opens before a word and closes behind one; an underscore or one star only at a word's
 * edge (2*3*4 is a product). */
static bool opens(const char *text, struct tui_span line, size_t at, size_t n) {
    const bool inside = at > line.from && is_word(text[at - 1]);
    return at + n < line.to && !is_space(text[at + n]) && !((text[at] == '_' || n == 1) && inside);
}

static bool closes(const char *text, struct tui_span line, size_t at, size_t n) {
    const bool inside = at + n < line.to && is_word(text[at + n]);
    return at > line.from && !is_space(text[at - 1]) && !((text[at] == '_' || n == 1) && inside);
}

static size_t find_close(const char *text, struct tui_span line, size_t at, size_t n) {
    for (size_t from = at + n; from < line.to;) {
        const size_t end = find_run(text, (struct tui_span){from, line.to}, text[at], n);
        if (end < line.to && end > at + n && closes(text, line, end, n)) {
            return end;
        }
        from = end + n;
    }
    return line.to;
}

/* The words of a line with `code`, **bold** and *italic* in it. */
static tl_err add_inline(tui_text *t, const struct block *b) {
    const char *const s = b->text;
    size_t bold_end = 0, italic_end = 0;
    char bold = 0, italic = 0;
    for (size_t at = b->span.from; at < b->span.to;) {
        const struct tui_span rest = {at, b->span.to};
        const char c = s[at];
        const unsigned style = b->style | (bold ? TUI_BOLD : 0u) | (italic ? TUI_ITALIC : 0u);
        const size_t n = c == '*' || c == '_' || c == '`' ? run_of(s, rest, c) : 0;
        if (c == '`') {
            const size_t end = find_run(s, (struct tui_span){at + n, b->span.to}, '`', n);
            const bool code = end < b->span.to;
            const struct tui_span span = {code ? at + n : at, code ? end : at + n};
            TL_TRY(tui_add_glyphs(t, s, span, code ? TUI_CODE : style));
            at = code ? end + n : at + n;
            continue;
        }
        if ((n == 2 && bold == c && at == bold_end) ||
            (n == 1 && italic == c && at == italic_end)) {
            *(n == 2 ? &bold : &italic) = 0;
            at += n;
            continue;
        }
        const size_t end =
            (n == 1 || n == 2) && !(n == 2 ? bold : italic) && opens(s, b->span, at, n)
                ? find_close(s, b->span, at, n)
                : b->span.to;
        if (end < b->span.to) {
            *(n == 2 ? &bold_end : &italic_end) = end;
            *(n == 2 ? &bold : &italic) = c;
            at += n;
            continue;
        }
        const bool escaped = c == '\\' && at + 1 < b->span.to && strchr("*_`#\\-", s[at + 1]);
        at += escaped;
        size_t to = at + (n > 0 ? n : 1);
        while (to < b->span.to && n == 0 && strchr("*_`\\", s[to]) == NULL) {
            to++;
        }
        TL_TRY(tui_add_glyphs(t, s, (struct tui_span){at, to}, style));
        at = to;
    }
    return TL_OK;
}

static size_t skip_spaces(const struct block *b) {
    size_t at = b->span.from;
    while (at < b->span.to && is_space(b->text[at])) {
        at++;
    }
    return at;
}

/* The length of "12. " or "3) " at `at`, 0 where there is no such thing. */
static size_t number_marker(const struct block *b, size_t at) {
    size_t end = at;
    while (end < b->span.to && b->text[end] >= '0' && b->text[end] <= '9' && end - at < 4) {
        end++;
    }
    const bool marked = end > at && end + 1 < b->span.to &&
                        (b->text[end] == '.' || b->text[end] == ')') && is_space(b->text[end + 1]);
    return marked ? end + 2 - at : 0;
}

static bool is_rule(const struct block *b) {
    const size_t at = skip_spaces(b);
    size_t n = 0;
    for (size_t i = at; i < b->span.to; i++) {
        n += b->text[i] == b->text[at];
        if (b->text[i] != b->text[at] && !is_space(b->text[i])) {
            return false;
        }
    }
    return n >= 3 && strchr("-*_", b->text[at]) != NULL;
}

static tl_err add_heading(tui_text *t, struct block b, int32_t cols) {
    const size_t n = run_of(b.text, b.span, '#');
    b.span.from += n + 1;
    b.style = TUI_HEADING | TUI_BOLD | (n == 1 ? TUI_UNDERLINE : 0u);
    TL_TRY(add_inline(t, &b));
    return tui_add_lines(t, cols, (struct tui_shape_of_line){.words = true});
}

static tl_err add_block(tui_text *t, struct block b, int32_t cols) {
    const size_t at = skip_spaces(&b), n_hash = run_of(b.text, b.span, '#');
    const int32_t depth = (int32_t)tl_min_u64(at - b.span.from, 8);
    if (n_hash >= 1 && n_hash <= 6 && b.span.from + n_hash < b.span.to &&
        is_space(b.text[b.span.from + n_hash])) {
        return add_heading(t, b, cols);
    }
    if (at < b.span.to && is_rule(&b)) {
        return tui_add_lines(t, cols, (struct tui_shape_of_line){.mark = TUI_MARK_RULE});
    }
    struct tui_shape_of_line shape = {.words = true, .first_indent = depth, .indent = depth};
    const bool spaced = at + 1 < b.span.to && is_space(b.text[at + 1]);
    if (spaced && strchr("-*+", b.text[at]) != NULL) {
        b.span.from = at + 2;
        shape.mark = TUI_MARK_BULLET;
        shape.first_indent = shape.indent = depth + 2;
    } else if (at < b.span.to && b.text[at] == '>') {
        b.span.from = at + 1 + spaced;
        b.style = TUI_QUOTE;
        shape.mark = TUI_MARK_QUOTE;
        shape.first_indent = shape.indent = 2;
    } else {
        shape.indent = depth + (int32_t)number_marker(&b, at);
        b.span.from = at;
    }
    TL_TRY(add_inline(t, &b));
    return tui_add_lines(t, cols, shape);
}

tl_err tui_text_markdown(tui_text *t, const char *text, size_t n, int32_t cols, unsigned style) {
    tui_text_begin(t);
    size_t fence = 0; /* length of the fence that is open */
    char fence_sign = 0;
    for (size_t at = 0; at < n;) {
        const size_t end = tui_line_end(text, n, at);
        struct block b = {text, {at, end}, style};
        const size_t start = skip_spaces(&b);
        const char sign = start < end ? text[start] : 0;
        const size_t length =
            sign == '`' || sign == '~' ? run_of(text, (struct tui_span){start, end}, sign) : 0;
        at = end + 1;
        if (fence == 0 && length >= 3) {
            fence = length;
            fence_sign = sign;
            TL_TRY(tui_add_glyphs(t, text, (struct tui_span){start, end}, TUI_DIM));
            TL_TRY(tui_add_lines(t, cols, (struct tui_shape_of_line){0}));
        } else if (fence > 0 && length >= fence && sign == fence_sign) {
            fence = 0;
            TL_TRY(tui_add_glyphs(t, text, (struct tui_span){start, end}, TUI_DIM));
            TL_TRY(tui_add_lines(t, cols, (struct tui_shape_of_line){0}));
        } else if (fence > 0) {
            TL_TRY(tui_add_glyphs(t, text, b.span, TUI_CODE));
            TL_TRY(
                tui_add_lines(t, cols, (struct tui_shape_of_line){.first_indent = 2, .indent = 2}));
        } else {
            TL_TRY(add_block(t, b, cols));
        }
    }
    return TL_OK;
}
