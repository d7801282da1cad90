/* Text in the template interpreter: UTF-8, Python's white space, letters and printable characters,
 * searching, numbers in strings. Lengths are bytes unless a name says points. Letters beyond ASCII
 * come from the C library's own C.UTF-8 table, loaded when the first one is met; without it they
 * count as letters without case. Nothing here follows the user's locale. */
#include "jinja.h"

#include <stdlib.h>
#include <string.h>
#include <wctype.h>

/* ---- UTF-8 ---- */

uint32_t tl_utf8_next(tl_str text, size_t *at) {
    const unsigned char *const p = (const unsigned char *)text.data + *at;
    const unsigned n = p[0] < 0xC0 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    uint32_t point = n == 1 ? p[0] : p[0] & (0x7Fu >> n);
    for (unsigned i = 1; i < n; i++) {
        point = point << 6 | (p[i] & 0x3Fu);
    }
    *at += n;
    return point;
}

uint32_t tl_utf8_prev(tl_str text, size_t *at) {
    do {
        --*at;
    } while (*at > 0 && ((unsigned char)text.data[*at] & 0xC0) == 0x80);
    size_t next = *at;
    return tl_utf8_next(text, &next);
}

/* Bytes of the valid sequence at the front, 0 where there is none. */
static size_t valid_sequence(const unsigned char *p, size_t len) {
    if (p[0] < 0x80) {
        return 1;
    }
    const size_t n = p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > len) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    const bool overlong = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90);
    const bool surrogate = p[0] == 0xED && p[1] >= 0xA0;
    const bool too_large = p[0] == 0xF4 && p[1] >= 0x90;
    return overlong || surrogate || too_large ? 0 : n;
}

bool tl_utf8_valid(tl_str text) {
    for (size_t at = 0; at < text.len;) {
        const size_t n = valid_sequence((const unsigned char *)text.data + at, text.len - at);
        if (n == 0) {
            return false;
        }
        at += n;
    }
    return true;
}

size_t tl_utf8_put(uint32_t point, char out[4]) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    const size_t n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    out[0] = (char)((0xF00u >> n & 0xFFu) | point);
    return n;
}

size_t tl_jtext_offset(tl_jinja *j, tl_jstr *s, size_t n) {
    if (tl_jstr_points(j, s) == s->len) {
        return n;
    }
    tl_jinja_charge(j, n / TL_JSTEP_CHARS);
    const tl_str text = {s->data, s->len};
    size_t at = 0;
    while (n-- > 0) {
        (void)tl_utf8_next(text, &at);
    }
    return at;
}

/* ---- kinds of characters ---- */

bool tl_jpoint_is_space(uint32_t p) {
    return (p >= 0x09 && p <= 0x0D) || (p >= 0x1C && p <= 0x20) || p == 0x85 || p == 0xA0 ||
           p == 0x1680 || (p >= 0x2000 && p <= 0x200A) || p == 0x2028 || p == 0x2029 ||
           p == 0x202F || p == 0x205F || p == 0x3000;
}

static locale_t letters(tl_jinja *j) {
    if (j->utf8 == (locale_t)0) {
        j->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    }
    return j->utf8;
}

bool tl_jpoint_is_alpha(tl_jinja *j, uint32_t p) {
    if (p < 0x80) {
        return (p | 0x20) >= 'a' && (p | 0x20) <= 'z';
    }
    return letters(j) == (locale_t)0 || iswalpha_l((wint_t)p, letters(j));
}

/* repr() shows a character as it is unless it is a control, a format character, a space other than
 * the plain one, or not assigned. The library's table calls the ranges below printable, Python does
 * not. */
bool tl_jpoint_is_print(tl_jinja *j, uint32_t p) {
    static const uint32_t hidden[][2] = {
        {0xAD, 0xAD},        {0x600, 0x605},     {0x61C, 0x61C},     {0x6DD, 0x6DD},
        {0x70F, 0x70F},      {0x890, 0x891},     {0x8E2, 0x8E2},     {0x180E, 0x180E},
        {0x200B, 0x200F},    {0x202A, 0x202E},   {0x2060, 0x206F},   {0xE000, 0xF8FF},
        {0xFEFF, 0xFEFF},    {0xFFF9, 0xFFFB},   {0x110BD, 0x110BD}, {0x110CD, 0x110CD},
        {0x13430, 0x13438},  {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0001, 0xE007F},
        {0xF0000, 0x10FFFF},
    };
    if (p < 0x80) {
        return p >= 0x20 && p < 0x7F;
    }
    if (tl_jpoint_is_space(p)) {
        return false;
    }
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        if (p >= hidden[i][0] && p <= hidden[i][1]) {
            return false;
        }
    }
    return letters(j) == (locale_t)0 || iswprint_l((wint_t)p, letters(j));
}

uint32_t tl_jpoint_upper(tl_jinja *j, uint32_t p) {
    if (p < 0x80) {
        return p >= 'a' && p <= 'z' ? p - 32 : p;
    }
    return letters(j) == (locale_t)0 ? p : (uint32_t)towupper_l((wint_t)p, letters(j));
}

uint32_t tl_jpoint_lower(tl_jinja *j, uint32_t p) {
    if (p < 0x80) {
        return p >= 'A' && p <= 'Z' ? p + 32 : p;
    }
    return letters(j) == (locale_t)0 ? p : (uint32_t)towlower_l((wint_t)p, letters(j));
}

tl_err tl_jtext_upper(tl_jbuf *out, tl_str text) {
    for (size_t at = 0; at < text.len;) {
        const uint32_t p = tl_utf8_next(text, &at);
        if (p == 0xDF) { /* the one common letter whose capital is two */
            TL_TRY(tl_jbuf_add_c(out, "SS"));
        } else {
            TL_TRY(tl_jbuf_add_point(out, tl_jpoint_upper(out->j, p)));
        }
    }
    return TL_OK;
}

/* A capital sigma that ends a word has its own small letter. */
static uint32_t lower_sigma(tl_jinja *j, tl_str text, size_t begin, size_t end) {
    const bool before = begin > 0 && tl_jpoint_is_alpha(j, tl_utf8_prev(text, &begin));
    const bool after = end < text.len && tl_jpoint_is_alpha(j, tl_utf8_next(text, &end));
    return before && !after ? 0x3C2 : 0x3C3;
}

tl_err tl_jtext_lower(tl_jbuf *out, tl_str text) {
    for (size_t at = 0; at < text.len;) {
        const size_t begin = at;
        uint32_t p = tl_utf8_next(text, &at);
        if (p == 0x130) { /* the Turkish dotted capital: i and a dot above */
            TL_TRY(tl_jbuf_add_c(out, "i\xCC\x87"));
            continue;
        }
        p = p == 0x3A3 ? lower_sigma(out->j, text, begin, at) : tl_jpoint_lower(out->j, p);
        TL_TRY(tl_jbuf_add_point(out, p));
    }
    return TL_OK;
}

/* ---- searching ---- */

static bool has_point(tl_str chars, uint32_t point) {
    for (size_t at = 0; at < chars.len;) {
        if (tl_utf8_next(chars, &at) == point) {
            return true;
        }
    }
    return false;
}

tl_err tl_jtext_strip(tl_jinja *j, tl_str text, tl_str chars, bool left, bool right, tl_str *out) {
    size_t begin = 0, end = text.len;
    uint64_t n_looked = 0; /* characters, those of `chars` included */
    while (left && begin < end) {
        size_t next = begin;
        const uint32_t p = tl_utf8_next(text, &next);
        n_looked += 1 + chars.len;
        if (!(chars.data == NULL ? tl_jpoint_is_space(p) : has_point(chars, p)) ||
            n_looked / TL_JSTEP_CHARS > j->n_steps_max) {
            break;
        }
        begin = next;
    }
    while (right && begin < end) {
        size_t next = end;
        const uint32_t p = tl_utf8_prev((tl_str){text.data, end}, &next);
        n_looked += 1 + chars.len;
        if (!(chars.data == NULL ? tl_jpoint_is_space(p) : has_point(chars, p)) ||
            n_looked / TL_JSTEP_CHARS > j->n_steps_max) {
            break;
        }
        end = next;
    }
    *out = (tl_str){text.data + begin, end - begin};
    return tl_jinja_spend(j, n_looked / TL_JSTEP_CHARS);
}

tl_err tl_jtext_find(tl_jinja *j, tl_str text, tl_str needle, size_t from, size_t *out) {
    *out = SIZE_MAX;
    if (needle.len == 0) {
        *out = from <= text.len ? from : SIZE_MAX;
        return TL_OK;
    }
    const size_t began = from;
    while (from <= text.len && needle.len <= text.len - from) {
        const char *const p =
            memchr(text.data + from, needle.data[0], text.len - from - needle.len + 1);
        if (p == NULL) {
            from = text.len;
            break;
        }
        if (memcmp(p, needle.data, needle.len) == 0) {
            *out = (size_t)(p - text.data);
            break;
        }
        from = (size_t)(p - text.data) + 1;
        TL_TRY(tl_jinja_spend(j, needle.len / TL_JSTEP_CHARS));
    }
    return tl_jinja_spend(j, (from - began) / TL_JSTEP_CHARS);
}

/* ---- texts from texts ---- */

static bool ends_line(uint32_t p) {
    return (p >= 0x0A && p <= 0x0D) || (p >= 0x1C && p <= 0x1E) || p == 0x85 || p == 0x2028 ||
           p == 0x2029;
}

tl_err tl_jtext_lines(tl_jinja *j, tl_str text, bool with_ends, tl_jval *out) {
    size_t begin = 0;
    TL_TRY(tl_jinja_spend(j, text.len / TL_JSTEP_CHARS));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, out));
    for (size_t at = 0, next = 0; begin < text.len; at = next) {
        const bool at_end = at == text.len;
        const uint32_t p = at_end ? '\n' : tl_utf8_next(text, &next);
        if (!ends_line(p)) {
            continue;
        }
        next += p == '\r' && next < text.len && text.data[next] == '\n';
        tl_jval line;
        const size_t end = with_ends ? next : at;
        TL_TRY(tl_jstr_new(j, (tl_str){text.data + begin, end - begin}, &line));
        TL_TRY(tl_jlist_add(j, *out, line));
        begin = next;
        if (at_end) {
            break;
        }
    }
    return TL_OK;
}

tl_err tl_jtext_replace(tl_jinja *j, tl_str text, tl_str old, tl_str new, int64_t n_max,
                        tl_jval *out) {
    tl_jbuf b = {.j = j};
    size_t at = 0, found = 0;
    for (int64_t n = 0; n_max < 0 || n < n_max; n++) {
        size_t from = at;
        if (old.len == 0 && n > 0) { /* between all characters, and at both ends */
            if (at == text.len) {
                break;
            }
            (void)tl_utf8_next(text, &from);
        }
        TL_TRY(tl_jtext_find(j, text, old, from, &found));
        if (found == SIZE_MAX) {
            break;
        }
        TL_TRY(tl_jbuf_add(&b, (tl_str){text.data + at, found - at}));
        TL_TRY(tl_jbuf_add(&b, new));
        at = found + old.len;
    }
    TL_TRY(tl_jbuf_add(&b, (tl_str){text.data + at, text.len - at}));
    return tl_jbuf_take(&b, out);
}

tl_err tl_jtext_capital(tl_jbuf *out, tl_str text) {
    size_t first = 0;
    if (text.len > 0) {
        (void)tl_utf8_next(text, &first);
    }
    TL_TRY(tl_jtext_upper(out, (tl_str){text.data, first}));
    return tl_jtext_lower(out, (tl_str){text.data + first, text.len - first});
}

tl_err tl_jtext_pad(tl_jinja *j, tl_jval str, size_t left, size_t right, tl_str fill,
                    tl_jval *out) {
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jbuf_add_many(&b, fill, left));
    TL_TRY(tl_jbuf_add(&b, tl_jval_text(str)));
    TL_TRY(tl_jbuf_add_many(&b, fill, right));
    return tl_jbuf_take(&b, out);
}

/* ---- numbers ---- */

static tl_str strip_space(tl_str text) {
    while (text.len > 0) {
        size_t next = 0;
        if (!tl_jpoint_is_space(tl_utf8_next(text, &next))) {
            break;
        }
        text = (tl_str){text.data + next, text.len - next};
    }
    while (text.len > 0) {
        size_t end = text.len;
        if (!tl_jpoint_is_space(tl_utf8_prev(text, &end))) {
            break;
        }
        text.len = end;
    }
    return text;
}

static int digit_value(char c) {
    const char lower = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

bool tl_jtext_to_int(tl_str text, int base, int64_t *out, bool *overflow) {
    text = strip_space(text);
    *overflow = false;
    size_t at = 0;
    const bool negative = text.len > 0 && text.data[0] == '-';
    at += text.len > 0 && (text.data[0] == '-' || text.data[0] == '+');
    if (at + 1 < text.len && text.data[at] == '0') {
        const char prefix = (char)(text.data[at + 1] | 0x20);
        const int named = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
        if (named != 0 && (base == named || base == 0)) {
            base = named;
            at += 2;
            at += at < text.len && text.data[at] == '_';
        }
    }
    base = base == 0 ? 10 : base;
    uint64_t value = 0;
    bool was_digit = false;
    for (; at < text.len; at++) {
        if (text.data[at] == '_' && was_digit) {
            was_digit = false;
            continue;
        }
        const int digit = digit_value(text.data[at]);
        if (digit >= base) {
            return false;
        }
        *overflow |= __builtin_mul_overflow(value, (uint64_t)base, &value);
        *overflow |= __builtin_add_overflow(value, (uint64_t)digit, &value);
        was_digit = true;
    }
    const uint64_t limit = (uint64_t)INT64_MAX + negative;
    *overflow |= value > limit;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return was_digit;
}

/* What strtod is to see: a decimal number, or inf and nan, without hexadecimal and underscores. */
static bool plain_float(tl_str text, char *out, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.data[i];
        if (c == '_') {
            const bool between = i > 0 && i + 1 < text.len && digit_value(text.data[i - 1]) < 10 &&
                                 digit_value(text.data[i + 1]) < 10;
            if (!between) {
                return false;
            }
            continue;
        }
        if ((c | 0x20) == 'x' || c == '(' || c == '\0' || n + 1 == cap) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0;
}

bool tl_jtext_to_float(tl_str text, double *out) {
    char number[512];
    text = strip_space(text);
    if (text.len == 0 || tl_jpoint_is_space((unsigned char)text.data[0]) ||
        !plain_float(text, number, sizeof number)) {
        return false;
    }
    char *end = NULL;
    *out = strtod(number, &end); /* in the C locale: tl_template_render sees to that */
    return *end == '\0';
}
