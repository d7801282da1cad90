/* A template's source into tokens, with Jinja2's rules for white space:
 *
 *     text {%- tag -%} text      `-` eats all white space on its side
 *     text {%  tag  %}\n         trim_blocks: one newline behind %} and #} goes
 *     \n   {%  tag               lstrip_blocks: blanks between a line's start and {% or {# go
 *          {%+ tag +%}           `+` keeps what the two rules above would take
 *
 * Line ends become \n first, and one at the very end goes. Invariant: every token's text lies in
 * that copy of the source, and brackets inside a tag are balanced. */
#include "jinja.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    tl_jinja *j;
    tl_str source;
    size_t at;
    uint32_t line;
    tl_jtoken *tokens;
    size_t n, cap;
    char closing[TL_JINJA_NEST_MAX]; /* brackets that are open in this tag */
    size_t n_open;
} lexer;

/* ---- small tools ---- */

static bool looking_at(const lexer *x, size_t at, const char *what) {
    const size_t n = strlen(what);
    return n <= x->source.len - at && memcmp(x->source.data + at, what, n) == 0;
}

static char char_at(const lexer *x, size_t at) {
    return at < x->source.len ? x->source.data[at] : '\0';
}

static size_t skip_space(const lexer *x, size_t at) {
    while (at < x->source.len) {
        size_t next = at;
        if (!tl_jpoint_is_space(tl_utf8_next(x->source, &next))) {
            break;
        }
        at = next;
    }
    return at;
}

static void move_to(lexer *x, size_t to) {
    for (size_t i = x->at; i < to; i++) {
        x->line += x->source.data[i] == '\n';
    }
    x->at = to;
    x->j->line = x->line;
}

static tl_err add_token(lexer *x, tl_jtoken_kind kind, tl_str text, tl_jval value) {
    if (x->n == x->cap) {
        const size_t cap = 2 * x->cap + 64;
        tl_jtoken *const tokens =
            tl_jinja_grow(x->j, x->tokens, x->cap * sizeof *x->tokens, cap * sizeof *x->tokens);
        if (tokens == NULL) {
            return TL_ERR_MEMORY;
        }
        x->tokens = tokens;
        x->cap = cap;
    }
    x->tokens[x->n++] = (tl_jtoken){kind, x->line, text, value};
    return TL_OK;
}

/* The source from x->at to `to` as one token. */
static tl_err take(lexer *x, tl_jtoken_kind kind, size_t to, tl_jval value) {
    TL_TRY(add_token(x, kind, (tl_str){x->source.data + x->at, to - x->at}, value));
    move_to(x, to);
    return TL_OK;
}

static tl_err normalise(tl_jinja *j, tl_str source, tl_str *out) {
    char *const data = tl_jinja_alloc(j, source.len + 1);
    if (data == NULL) {
        return TL_ERR_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < source.len; i++) {
        const bool pair =
            source.data[i] == '\r' && i + 1 < source.len && source.data[i + 1] == '\n';
        if (!pair) {
            data[n++] = source.data[i] == '\r' ? '\n' : source.data[i];
        }
    }
    n -= n > 0 && data[n - 1] == '\n';
    *out = (tl_str){data, n};
    return TL_OK;
}

/* ---- text between tags ---- */

/* Where the text that begins at x->at ends, given that a tag with this sign follows at `to`. */
static size_t text_end(const lexer *x, size_t to, char sign, bool is_print) {
    if (sign == '-') {
        size_t end = to;
        while (end > x->at) {
            size_t before = end;
            if (!tl_jpoint_is_space(tl_utf8_prev(x->source, &before))) {
                break;
            }
            end = before;
        }
        return end;
    }
    if (sign == '+' || is_print) {
        return to;
    }
    size_t end = to;
    while (end > x->at) {
        size_t before = end;
        const uint32_t p = tl_utf8_prev(x->source, &before);
        if (p == '\n') {
            return end;
        }
        if (!tl_jpoint_is_space(p)) {
            return to;
        }
        end = before;
    }
    const bool line_begins = end == 0 || x->source.data[end - 1] == '\n';
    return line_begins ? end : to;
}

static tl_err text_before(lexer *x, size_t to, char sign, bool is_print) {
    const size_t end = text_end(x, to, sign, is_print);
    if (end > x->at) {
        TL_TRY(take(x, TL_JT_TEXT, end, tl_jmissing()));
    }
    move_to(x, to);
    return TL_OK;
}

static char sign_at(const lexer *x, size_t at) {
    const char c = char_at(x, at);
    return c == '-' || c == '+' ? c : '\0';
}

/* Behind a closing mark at `at` (its sign first, if it has one), or SIZE_MAX where none is. A print
 * tag knows no + and trims no newline. */
static size_t behind_close(const lexer *x, size_t at, const char *mark, bool is_print) {
    const char sign = sign_at(x, at);
    if (sign == '+' && is_print) {
        return SIZE_MAX;
    }
    at += sign != '\0';
    if (at > x->source.len || !looking_at(x, at, mark)) {
        return SIZE_MAX;
    }
    at += 2;
    if (sign == '-') {
        return skip_space(x, at);
    }
    return at + (sign == '\0' && !is_print && char_at(x, at) == '\n');
}

static tl_err skip_comment(lexer *x) {
    for (size_t at = x->at; at + 2 <= x->source.len; at++) {
        const size_t end = behind_close(x, at, "#}", false);
        if (end != SIZE_MAX) {
            move_to(x, end);
            return TL_OK;
        }
    }
    return tl_jinja_fail(x->j, TL_ERR_FORMAT, "Missing end of comment tag");
}

/* Behind `{% name %}` at `at`, SIZE_MAX where it is not. *sign: of the opening mark. */
static size_t behind_simple_tag(const lexer *x, size_t at, const char *name, bool trims,
                                char *sign) {
    if (!looking_at(x, at, "{%")) {
        return SIZE_MAX;
    }
    *sign = sign_at(x, at + 2);
    at = skip_space(x, at + 2 + (*sign != '\0'));
    if (!looking_at(x, at, name)) {
        return SIZE_MAX;
    }
    at = skip_space(x, at + strlen(name));
    if (trims) {
        return behind_close(x, at, "%}", false);
    }
    if (looking_at(x, at, "-%}")) {
        return skip_space(x, at + 3);
    }
    return looking_at(x, at, "%}") ? at + 2 : SIZE_MAX;
}

static tl_err raw_block(lexer *x) {
    for (size_t at = x->at; at < x->source.len; at++) {
        char sign = '\0';
        const size_t end = behind_simple_tag(x, at, "endraw", true, &sign);
        if (end != SIZE_MAX) {
            TL_TRY(text_before(x, at, sign, false));
            move_to(x, end);
            return TL_OK;
        }
    }
    return tl_jinja_fail(x->j, TL_ERR_FORMAT, "Missing end of raw directive");
}

/* ---- inside tags ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_name_char(char c) {
    return is_digit(c) || c == '_' || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (unsigned char)c >= 0x80;
}

/* Digits with single underscores between them, from `at`. */
static size_t digits_end(const lexer *x, size_t at) {
    while (is_digit(char_at(x, at)) || (char_at(x, at) == '_' && is_digit(char_at(x, at + 1)) &&
                                        is_digit(char_at(x, at - 1)))) {
        at++;
    }
    return at;
}

static size_t exponent_end(const lexer *x, size_t at) {
    if ((char_at(x, at) | 0x20) != 'e') {
        return at;
    }
    const size_t digits = at + 1 + (char_at(x, at + 1) == '+' || char_at(x, at + 1) == '-');
    return is_digit(char_at(x, digits)) ? digits_end(x, digits) : at;
}

static size_t prefixed_end(const lexer *x, size_t at) {
    const char prefix = (char)(char_at(x, at + 1) | 0x20);
    if (char_at(x, at) != '0' || (prefix != 'x' && prefix != 'o' && prefix != 'b')) {
        return at;
    }
    size_t end = at + 2;
    for (;; end++) {
        const char c = char_at(x, end), lower = (char)(c | 0x20);
        const bool digit = prefix == 'b'   ? c == '0' || c == '1'
                           : prefix == 'o' ? c >= '0' && c <= '7'
                                           : is_digit(c) || (lower >= 'a' && lower <= 'f');
        if (!digit && !(c == '_' && char_at(x, end - 1) != '_')) {
            break;
        }
    }
    end -= char_at(x, end - 1) == '_';
    return end > at + 2 ? end : at;
}

static tl_err number(lexer *x) {
    const size_t begin = x->at;
    size_t end = digits_end(x, begin);
    const bool after_dot = begin > 0 && x->source.data[begin - 1] == '.';
    size_t float_end = end;
    if (!after_dot && char_at(x, end) == '.' && is_digit(char_at(x, end + 1))) {
        float_end = digits_end(x, end + 1);
    }
    if (!after_dot) {
        float_end = exponent_end(x, float_end);
    }
    if (float_end > end) {
        double f = 0;
        const tl_str text = {x->source.data + begin, float_end - begin};
        if (!tl_jtext_to_float(text, &f)) {
            return tl_jinja_fail(x->j, TL_ERR_UNSUPPORTED, "a number of %zu digits", text.len);
        }
        return take(x, TL_JT_FLOAT, float_end, tl_jfloat(f));
    }
    const size_t prefixed = prefixed_end(x, begin);
    if (prefixed > begin) {
        end = prefixed;
    } else if (char_at(x, begin) == '0') { /* 007 is two numbers, as Jinja2 has it */
        for (end = begin + 1; char_at(x, end) == '0'; end++) {
        }
    }
    int64_t i = 0;
    bool overflow = false;
    (void)tl_jtext_to_int((tl_str){x->source.data + begin, end - begin}, 0, &i, &overflow);
    if (overflow) {
        return tl_jinja_fail(x->j, TL_ERR_UNSUPPORTED, "an integer beyond 64 bits");
    }
    return take(x, TL_JT_INT, end, tl_jint(i));
}

/* \xhh, \uhhhh, \Uhhhhhhhh, \ooo: the code point, behind which *at moves; -1 where it is none. */
static int64_t numbered_escape(tl_str s, size_t *at) {
    const char kind = s.data[*at];
    const bool octal = kind >= '0' && kind <= '7';
    const size_t n_max = octal ? 3 : kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
    const unsigned base = octal ? 8 : 16;
    size_t i = *at + !octal, n = 0;
    int64_t point = 0;
    for (; n < n_max && i < s.len; n++, i++) {
        const char c = s.data[i], lower = (char)(c | 0x20);
        const unsigned digit = is_digit(c)                    ? (unsigned)(c - '0')
                               : lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a' + 10)
                                                              : 99;
        if (digit >= base) {
            break;
        }
        point = point * base + digit;
    }
    *at = i;
    const bool complete = octal ? n > 0 : n == n_max;
    const bool valid = point <= 0x10FFFF && !(point >= 0xD800 && point < 0xE000);
    return complete && valid ? point : -1;
}

static tl_err unescape(lexer *x, tl_str s, tl_jval *out) {
    static const char letters[] = "\\'\"abfnrtv", meant[] = "\\'\"\a\b\f\n\r\t\v";
    tl_jbuf b = {.j = x->j};
    for (size_t at = 0; at < s.len;) {
        const char *const slash = memchr(s.data + at, '\\', s.len - at);
        const size_t plain = slash == NULL ? s.len - at : (size_t)(slash - (s.data + at));
        TL_TRY(tl_jbuf_add(&b, (tl_str){s.data + at, plain}));
        at += plain + 1;
        if (at >= s.len) {
            break;
        }
        const char c = s.data[at];
        const char *const letter = c != '\0' ? strchr(letters, c) : NULL;
        if (letter != NULL) {
            TL_TRY(tl_jbuf_add(&b, (tl_str){meant + (letter - letters), 1}));
            at++;
        } else if (c == '\n') {
            at++;
        } else if (c == 'x' || c == 'u' || c == 'U' || (c >= '0' && c <= '7')) {
            const int64_t point = numbered_escape(s, &at);
            if (point < 0) {
                return tl_jinja_fail(x->j, TL_ERR_FORMAT, "a string has a damaged \\%c", c);
            }
            TL_TRY(tl_jbuf_add_point(&b, (uint32_t)point));
        } else if (c == 'N') {
            return tl_jinja_fail(x->j, TL_ERR_UNSUPPORTED, "\\N{...} in a string");
        } else {
            TL_TRY(tl_jbuf_add_c(&b, "\\"));
        }
    }
    return tl_jbuf_take(&b, out);
}

static tl_err string(lexer *x) {
    const char quote = x->source.data[x->at];
    size_t end = x->at + 1;
    while (end < x->source.len && x->source.data[end] != quote) {
        end += x->source.data[end] == '\\' ? 2 : 1;
    }
    if (end >= x->source.len) {
        return tl_jinja_fail(x->j, TL_ERR_FORMAT, "unexpected char '%c': a string does not end",
                             quote);
    }
    const tl_str inside = {x->source.data + x->at + 1, end - x->at - 1};
    tl_jval value;
    if (inside.len > 0 && memchr(inside.data, '\\', inside.len) != NULL) {
        TL_TRY(unescape(x, inside, &value));
    } else {
        TL_TRY(tl_jstr_new(x->j, inside, &value));
    }
    return take(x, TL_JT_STR, end + 1, value);
}

static tl_err operator_token(lexer *x) {
    static const char *const twice[] = {"//", "**", "==", "!=", ">=", "<="};
    for (size_t i = 0; i < sizeof twice / sizeof twice[0]; i++) {
        if (looking_at(x, x->at, twice[i])) {
            return take(x, TL_JT_OP, x->at + 2, tl_jmissing());
        }
    }
    const char c = x->source.data[x->at];
    if (c == '\0' || strchr("+-/*%~[](){}><=.:|,;", c) == NULL) {
        return tl_jinja_fail(x->j, TL_ERR_FORMAT, "unexpected char '%c'", c);
    }
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_open == TL_JINJA_NEST_MAX) {
            return tl_jinja_fail(x->j, TL_ERR_MEMORY, "nested more than %d deep",
                                 TL_JINJA_NEST_MAX);
        }
        x->closing[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (x->n_open == 0) {
            return tl_jinja_fail(x->j, TL_ERR_FORMAT, "unexpected '%c'", c);
        }
        const char expected = x->closing[--x->n_open];
        if (expected != c) {
            return tl_jinja_fail(x->j, TL_ERR_FORMAT, "unexpected '%c', expected '%c'", c,
                                 expected);
        }
    }
    return take(x, TL_JT_OP, x->at + 1, tl_jmissing());
}

static tl_err one_token(lexer *x) {
    const char c = x->source.data[x->at];
    if (is_digit(c)) {
        return number(x);
    }
    if (c == '\'' || c == '"') {
        return string(x);
    }
    if (is_name_char(c)) {
        size_t end = x->at;
        for (size_t next = end; is_name_char(char_at(x, end)); end = next) {
            if (tl_jpoint_is_space(tl_utf8_next(x->source, &next))) {
                break;
            }
        }
        return take(x, TL_JT_NAME, end, tl_jmissing());
    }
    return operator_token(x);
}

static tl_err tag(lexer *x, bool is_print) {
    const char *const mark = is_print ? "}}" : "%}";
    x->n_open = 0;
    while (x->at < x->source.len) {
        const size_t end = x->n_open == 0 ? behind_close(x, x->at, mark, is_print) : SIZE_MAX;
        if (end != SIZE_MAX) {
            return take(x, is_print ? TL_JT_PRINT_END : TL_JT_BLOCK_END, end, tl_jmissing());
        }
        const size_t next = skip_space(x, x->at);
        if (next > x->at) {
            move_to(x, next);
        } else {
            TL_TRY(one_token(x));
        }
    }
    return TL_OK; /* the parser says that the template ended too early */
}

/* ---- the whole ---- */

static size_t next_mark(const lexer *x) {
    for (size_t at = x->at; at + 1 < x->source.len; at++) {
        const char *const brace = memchr(x->source.data + at, '{', x->source.len - at - 1);
        if (brace == NULL) {
            break;
        }
        at = (size_t)(brace - x->source.data);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') {
            return at;
        }
    }
    return SIZE_MAX;
}

static tl_err next_piece(lexer *x) {
    const size_t mark = next_mark(x);
    if (mark == SIZE_MAX) {
        return take(x, TL_JT_TEXT, x->source.len, tl_jmissing());
    }
    const char what = x->source.data[mark + 1];
    char sign = '\0';
    const size_t raw = what == '%' ? behind_simple_tag(x, mark, "raw", false, &sign) : SIZE_MAX;
    sign = sign_at(x, mark + 2);
    TL_TRY(text_before(x, mark, sign, what == '{'));
    if (raw != SIZE_MAX) {
        move_to(x, raw);
        return raw_block(x);
    }
    const size_t inside = mark + 2 + (sign != '\0');
    if (what == '#') {
        move_to(x, inside);
        return skip_comment(x);
    }
    TL_TRY(take(x, what == '{' ? TL_JT_PRINT_BEGIN : TL_JT_BLOCK_BEGIN, inside, tl_jmissing()));
    return tag(x, what == '{');
}

tl_err tl_jinja_lex(tl_jinja *j, tl_str source, tl_jtoken **out) {
    if (!tl_utf8_valid(source)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "the template is not UTF-8");
    }
    lexer x = {.j = j, .line = 1};
    TL_TRY(normalise(j, source, &x.source));
    j->line = 1;
    while (x.at < x.source.len) {
        TL_TRY(next_piece(&x));
    }
    TL_TRY(add_token(&x, TL_JT_END, (tl_str){"", 0}, tl_jmissing()));
    *out = x.tokens;
    return TL_OK;
}
