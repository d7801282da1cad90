/* The two ways Python formats: 'format' % arguments and 'format'.format(arguments). Both come down
 * to one value laid out by one specification. Fields inside specifications ({:{width}}) and the
 * conversions %a and !a are refused. */
#include "jinja.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TL_JWIDTH_MAX = 1000000, TL_JPRECISION_MAX = 500 };

typedef struct spec {
    tl_str fill;
    char align; /* < > = ^, or \0: what is usual for the value */
    char sign;  /* + or a space: before what is not negative; \0 */
    bool alternate;
    char grouping; /* , or _ between groups of digits; \0 */
    int64_t width;
    int64_t precision; /* -1: not given */
    char type;         /* \0: not given */
} spec;

/* ---- laying out ---- */

static tl_err put_padded(tl_jbuf *b, const spec *s, tl_str sign, tl_str body, char usual) {
    const char align = s->align != '\0' ? s->align : usual;
    tl_jstr points = {.data = body.data, .len = body.len, .n_points = SIZE_MAX};
    const int64_t gap = s->width - (int64_t)sign.len - (int64_t)tl_jstr_points(b->j, &points);
    const size_t n = gap > 0 ? (size_t)gap : 0;
    const size_t left = align == '>' || align == '=' ? n : align == '^' ? n / 2 : 0;
    TL_TRY(align == '=' ? tl_jbuf_add(b, sign) : TL_OK);
    TL_TRY(tl_jbuf_add_many(b, s->fill, left));
    TL_TRY(align != '=' ? tl_jbuf_add(b, sign) : TL_OK);
    TL_TRY(tl_jbuf_add(b, body));
    return tl_jbuf_add_many(b, s->fill, n - left);
}

static tl_str sign_text(const spec *s, bool negative) {
    return negative          ? tl_str_from("-")
           : s->sign == '+'  ? tl_str_from("+")
           : s->sign != '\0' ? tl_str_from(" ")
                             : (tl_str){"", 0};
}

/* Digits with a mark between every three in front of the point. */
static tl_err put_number(tl_jbuf *b, const spec *s, bool negative, tl_str digits) {
    tl_jbuf grouped = {.j = b->j};
    size_t n_whole = 0;
    while (n_whole < digits.len && digits.data[n_whole] >= '0' && digits.data[n_whole] <= '9') {
        n_whole++;
    }
    for (size_t i = 0; i < digits.len && s->grouping != '\0'; i++) {
        if (i > 0 && i < n_whole && (n_whole - i) % 3 == 0) {
            TL_TRY(tl_jbuf_add(&grouped, (tl_str){&s->grouping, 1}));
        }
        TL_TRY(tl_jbuf_add(&grouped, (tl_str){digits.data + i, 1}));
    }
    const tl_str body = s->grouping != '\0' ? (tl_str){grouped.data, grouped.len} : digits;
    return put_padded(b, s, sign_text(s, negative), body, '>');
}

static tl_err put_float(tl_jbuf *b, const spec *s, double f) {
    char text[1024];
    const char type = s->type == '%' ? 'f' : s->type == 'n' || s->type == '\0' ? 'g' : s->type;
    const double shown = s->type == '%' ? f * 100 : f;
    const int precision = (int)(s->precision < 0 ? 6 : s->precision);
    const char format[] = {'%', '.', '*', type, '\0'};
    tl_jbuf body = {.j = b->j};
    if (s->type == '\0' && s->precision < 0) {
        TL_TRY(tl_jfloat_repr(&body, fabs(f)));
    } else if (s->precision > TL_JPRECISION_MAX) {
        return tl_jinja_fail(b->j, TL_ERR_UNSUPPORTED, "more than %d decimals", TL_JPRECISION_MAX);
    } else {
        _Static_assert(sizeof text > 310 + TL_JPRECISION_MAX, "the largest double in full");
        snprintf(text, sizeof text, format, precision, fabs(shown));
        TL_TRY(tl_jbuf_add_c(&body, text));
    }
    TL_TRY(tl_jbuf_add_c(&body, s->type == '%' ? "%" : ""));
    return put_number(b, s, signbit(f) != 0 && !isnan(f), (tl_str){body.data, body.len});
}

static tl_err put_int(tl_jbuf *b, const spec *s, int64_t i) {
    static const char digits[] = "0123456789abcdef";
    const unsigned base = s->type == 'x' || s->type == 'X' ? 16
                          : s->type == 'o'                 ? 8
                          : s->type == 'b'                 ? 2
                                                           : 10;
    char text[80];
    size_t at = sizeof text;
    uint64_t rest = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    do {
        const char c = digits[rest % base];
        text[--at] = (char)(s->type == 'X' && c >= 'a' ? c - 32 : c);
        rest /= base;
    } while (rest > 0);
    if (s->alternate && base != 10) {
        text[--at] = s->type;
        text[--at] = '0';
    }
    return put_number(b, s, i < 0, (tl_str){text + at, sizeof text - at});
}

static tl_err put_str(tl_jbuf *b, const spec *s, tl_jval str) {
    tl_str text = tl_jval_text(str);
    if (s->precision >= 0 && (uint64_t)s->precision < tl_jstr_points(b->j, str.as.str)) {
        text.len = tl_jtext_offset(b->j, str.as.str, (size_t)s->precision);
    }
    return put_padded(b, s, (tl_str){"", 0}, text, '<');
}

static bool is_one_of(char c, const char *set) { return c != '\0' && strchr(set, c) != NULL; }

/* A digit string into *out, behind which *at moves. */
static tl_err number_at(tl_jinja *j, tl_str text, size_t *at, int64_t *out) {
    for (*out = 0; *at < text.len && text.data[*at] >= '0' && text.data[*at] <= '9'; ++*at) {
        *out = *out * 10 + (text.data[*at] - '0');
        if (*out > TL_JWIDTH_MAX) {
            return tl_jinja_fail(j, TL_ERR_MEMORY, "a width of more than %d", TL_JWIDTH_MAX);
        }
    }
    return TL_OK;
}

/* ---- % ---- */

typedef struct arguments {
    tl_jval all;
    size_t at; /* of a tuple */
    bool used;
} arguments;

static tl_err next_argument(tl_jinja *j, arguments *a, tl_jval *out) {
    const bool tuple = a->all.kind == TL_J_TUPLE;
    if (tuple ? a->at >= a->all.as.list->n : a->used) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "not enough arguments for format string");
    }
    *out = tuple ? a->all.as.list->at[a->at++] : a->all;
    a->used = true;
    return TL_OK;
}

/* Behind the %: flags, width, precision, a length that means nothing, the type. */
static tl_err percent_spec(tl_jinja *j, tl_str format, size_t *at, arguments *a, spec *s) {
    *s = (spec){.fill = tl_str_from(" "), .align = '>', .precision = -1};
    bool left = false, zero = false;
    for (; *at < format.len && is_one_of(format.data[*at], "-+ #0"); ++*at) {
        const char flag = format.data[*at];
        left |= flag == '-';
        zero |= flag == '0';
        s->alternate |= flag == '#';
        s->sign = flag == '+' || (flag == ' ' && s->sign == '\0') ? flag : s->sign;
    }
    tl_jval star;
    if (*at < format.len && format.data[*at] == '*') {
        ++*at;
        TL_TRY(next_argument(j, a, &star));
        TL_TRY(tl_jarg_int(j, star, "* wants int", 0, &s->width));
        left |= s->width < 0;
        s->width = s->width < -TL_JWIDTH_MAX || s->width > TL_JWIDTH_MAX ? TL_JWIDTH_MAX
                   : s->width < 0                                        ? -s->width
                                                                         : s->width;
    } else {
        TL_TRY(number_at(j, format, at, &s->width));
    }
    if (*at < format.len && format.data[*at] == '.') {
        ++*at;
        TL_TRY(number_at(j, format, at, &s->precision));
    }
    while (*at < format.len && is_one_of(format.data[*at], "hlL")) {
        ++*at;
    }
    if (*at >= format.len) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "incomplete format");
    }
    s->type = format.data[(*at)++];
    s->align = left ? '<' : '>';
    if (zero && !left && is_one_of(s->type, "diouxXeEfFgG")) {
        s->fill = tl_str_from("0");
        s->align = '=';
    }
    return TL_OK;
}

static tl_err percent_number(tl_jbuf *b, spec *s, tl_jval v) {
    int64_t i = 0;
    const bool whole = tl_jval_as_int(v, &i);
    if (!tl_jval_is_number(v)) {
        return v.kind == TL_J_UNDEFINED
                   ? tl_jundefined_fail(b->j, v)
                   : tl_jinja_fail(b->j, TL_ERR_FORMAT,
                                   "%%%c format: a real number is required, not %s", s->type,
                                   tl_jval_type(v));
    }
    if (is_one_of(s->type, "eEfFgG")) {
        return put_float(b, s, whole ? (double)i : v.as.real);
    }
    if (!whole && is_one_of(s->type, "oxX")) {
        return tl_jinja_fail(b->j, TL_ERR_FORMAT, "%%%c format: an integer is required, not float",
                             s->type);
    }
    if (!whole && !(fabs(v.as.real) < 9.2e18)) {
        return tl_jinja_fail(b->j, TL_ERR_UNSUPPORTED, "an integer beyond 64 bits");
    }
    return put_int(b, s, whole ? i : (int64_t)v.as.real);
}

static tl_err percent_value(tl_jbuf *b, spec *s, tl_jval v) {
    tl_jval text;
    tl_jbuf repr = {.j = b->j};
    switch (s->type) {
    case 's':
        TL_TRY(tl_jval_str(b->j, v, &text));
        return put_str(b, s, text);
    case 'r':
        TL_TRY(tl_jval_repr(&repr, v));
        TL_TRY(tl_jbuf_take(&repr, &text));
        return put_str(b, s, text);
    case 'c':
        if (v.kind != TL_J_STR || tl_jstr_points(b->j, v.as.str) != 1) {
            return tl_jinja_fail(b->j, TL_ERR_FORMAT, "%%c requires int or char");
        }
        return put_str(b, s, v);
    default:
        if (!is_one_of(s->type, "diuoxXeEfFgG")) {
            return tl_jinja_fail(b->j, TL_ERR_FORMAT, "unsupported format character '%c'", s->type);
        }
        return percent_number(b, s, v);
    }
}

/* The value of %(key), behind which *at moves. */
static tl_err percent_key(tl_jinja *j, tl_str format, size_t *at, arguments *a, tl_jval *out) {
    const char *const end = memchr(format.data + *at, ')', format.len - *at);
    tl_jval key, *found = NULL;
    if (end == NULL || a->all.kind != TL_J_DICT) {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             end == NULL ? "incomplete format key" : "format requires a mapping");
    }
    const size_t n = (size_t)(end - (format.data + *at));
    TL_TRY(tl_jstr_new(j, (tl_str){format.data + *at, n}, &key));
    TL_TRY(tl_jdict_find(j, a->all.as.dict, key, &found));
    if (found == NULL) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "'%.*s'", (int)tl_min_u64(n, 100),
                             format.data + *at);
    }
    *at += n + 1;
    *out = *found;
    return TL_OK;
}

static bool may_be_left_over(const arguments *a) {
    return a->all.kind == TL_J_TUPLE
               ? a->at == a->all.as.list->n
               : a->used || a->all.kind == TL_J_DICT || a->all.kind == TL_J_LIST ||
                     a->all.kind == TL_J_UNDEFINED;
}

tl_err tl_jformat_percent(tl_jinja *j, tl_str format, tl_jval args, tl_jval *out) {
    arguments a = {.all = args};
    tl_jbuf b = {.j = j};
    for (size_t at = 0; at < format.len;) {
        const char *const mark = memchr(format.data + at, '%', format.len - at);
        const size_t n = mark == NULL ? format.len - at : (size_t)(mark - (format.data + at));
        TL_TRY(tl_jbuf_add(&b, (tl_str){format.data + at, n}));
        at += n + 1;
        if (mark == NULL) {
            break;
        }
        spec s;
        tl_jval v = tl_jmissing();
        if (at < format.len && format.data[at] == '(') {
            at++;
            TL_TRY(percent_key(j, format, &at, &a, &v));
        }
        TL_TRY(percent_spec(j, format, &at, &a, &s));
        if (s.type == '%') {
            TL_TRY(tl_jbuf_add_c(&b, "%"));
            continue;
        }
        if (v.kind == TL_J_MISSING) {
            TL_TRY(next_argument(j, &a, &v));
        }
        TL_TRY(percent_value(&b, &s, v));
    }
    if (!may_be_left_over(&a)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "not all arguments converted during string formatting");
    }
    return tl_jbuf_take(&b, out);
}

/* ---- braces ---- */

static tl_err braces_spec(tl_jinja *j, tl_str text, spec *s) {
    size_t at = 0, next = 0;
    *s = (spec){.fill = tl_str_from(" "), .precision = -1};
    if (text.len > 0) {
        (void)tl_utf8_next(text, &next);
    }
    if (next > 0 && next < text.len && is_one_of(text.data[next], "<>=^")) {
        s->fill = (tl_str){text.data, next};
        s->align = text.data[next];
        at = next + 1;
    } else if (text.len > 0 && is_one_of(text.data[0], "<>=^")) {
        s->align = text.data[at++];
    }
    if (at < text.len && is_one_of(text.data[at], "+- ")) {
        s->sign = text.data[at] == '-' ? '\0' : text.data[at];
        at++;
    }
    if (at < text.len && text.data[at] == '#') {
        s->alternate = true;
        at++;
    }
    if (at < text.len && text.data[at] == '0' && s->align == '\0') {
        s->fill = tl_str_from("0");
        s->align = '=';
        at++;
    }
    TL_TRY(number_at(j, text, &at, &s->width));
    if (at < text.len && is_one_of(text.data[at], ",_")) {
        s->grouping = text.data[at++];
    }
    if (at < text.len && text.data[at] == '.') {
        at++;
        TL_TRY(number_at(j, text, &at, &s->precision));
    }
    s->type = at < text.len ? text.data[at++] : '\0';
    return at == text.len ? TL_OK : tl_jinja_fail(j, TL_ERR_FORMAT, "Invalid format specifier");
}

static tl_err braces_value(tl_jbuf *b, tl_str text, tl_jval v) {
    spec s;
    int64_t i = 0;
    if (text.len == 0) {
        return tl_jval_print(b, v);
    }
    TL_TRY(braces_spec(b->j, text, &s));
    if (v.kind == TL_J_STR && (s.type == '\0' || s.type == 's') && s.align != '=') {
        return put_str(b, &s, v);
    }
    if (tl_jval_as_int(v, &i) && (s.type == '\0' || is_one_of(s.type, "dnxXob")) &&
        s.precision < 0) {
        return put_int(b, &s, i);
    }
    if (tl_jval_is_number(v) && (s.type == '\0' || is_one_of(s.type, "eEfFgGn%"))) {
        return put_float(b, &s, v.kind == TL_J_FLOAT ? v.as.real : (double)i);
    }
    return tl_jinja_fail(b->j, TL_ERR_FORMAT, "unsupported format string passed to %s.__format__",
                         tl_jval_type(v));
}

/* The argument that a field names first: a number, a name, or nothing: the next one. */
static tl_err field_start(tl_jinja *j, tl_str name, const tl_jargs *args, size_t *n_auto,
                          tl_jval *out) {
    int64_t i = 0;
    bool overflow = false;
    const bool number = name.len > 0 && name.data[0] >= '0' && name.data[0] <= '9' &&
                        tl_jtext_to_int(name, 10, &i, &overflow) && !overflow;
    if (name.len == 0 || number) {
        const size_t at = number ? (size_t)i : (*n_auto)++;
        if (at >= args->n) {
            return tl_jinja_fail(j, TL_ERR_FORMAT,
                                 "Replacement index %zu out of range for "
                                 "positional args tuple",
                                 at);
        }
        *out = args->at[at];
        return TL_OK;
    }
    for (size_t k = 0; k < args->n_named; k++) {
        if (tl_str_eq(args->named[k].name, name)) {
            *out = args->named[k].value;
            return TL_OK;
        }
    }
    return tl_jinja_fail(j, TL_ERR_FORMAT, "'%.*s'", (int)tl_min_u64(name.len, 100), name.data);
}

/* One .name or [key] behind it. */
static tl_err field_step(tl_jinja *j, tl_str field, size_t *at, tl_jval *v) {
    const bool item = field.data[*at] == '[';
    const size_t begin = ++*at;
    int64_t i = 0;
    bool overflow = false;
    tl_jval key;
    while (*at < field.len && !(item ? field.data[*at] == ']' : is_one_of(field.data[*at], ".["))) {
        ++*at;
    }
    const tl_str name = {field.data + begin, *at - begin};
    *at += item && *at < field.len;
    TL_TRY(tl_jstr_new(j, name, &key));
    if (item && tl_jtext_to_int(name, 10, &i, &overflow) && name.data[0] != '-' && !overflow) {
        key = tl_jint(i);
    }
    return item ? tl_jval_item(j, *v, key, v) : tl_jval_attr(j, *v, key, v);
}

/* What stands between { and }. */
static tl_err replacement(tl_jbuf *b, tl_str field, const tl_jargs *args, size_t *n_auto) {
    tl_jval v;
    tl_str how = {"", 0};
    char conversion = '\0';
    size_t at = 0, end = 0;
    while (end < field.len && field.data[end] != ':' && field.data[end] != '!') {
        const char *const close = field.data[end] == '['
                                      ? memchr(field.data + end, ']', field.len - end)
                                      : NULL; /* : and ! in a key are part of it */
        end = close != NULL ? (size_t)(close - field.data) + 1 : end + 1;
    }
    const tl_str path = {field.data, end};
    if (end < field.len && field.data[end] == '!') {
        conversion = end + 1 < field.len ? field.data[end + 1] : '?';
        end += 2;
    }
    if (end < field.len) {
        how = (tl_str){field.data + end + 1, field.len - end - 1};
    }
    while (at < path.len && !is_one_of(path.data[at], ".[")) {
        at++;
    }
    if (at == 0 && path.len > 0) { /* the formatter that Jinja2's sandbox uses has no {.name} */
        return tl_jinja_fail(b->j, TL_ERR_FORMAT, "a field of a format string has no name");
    }
    TL_TRY(field_start(b->j, (tl_str){path.data, at}, args, n_auto, &v));
    while (at < path.len) {
        TL_TRY(field_step(b->j, path, &at, &v));
    }
    if (conversion == 'r') {
        tl_jbuf repr = {.j = b->j};
        TL_TRY(tl_jval_repr(&repr, v));
        TL_TRY(tl_jbuf_take(&repr, &v));
    } else if (conversion == 's') {
        TL_TRY(tl_jval_str(b->j, v, &v));
    } else if (conversion != '\0') {
        return tl_jinja_fail(b->j, TL_ERR_UNSUPPORTED, "the conversion !%c", conversion);
    }
    return braces_value(b, how, v);
}

tl_err tl_jformat_braces(tl_jinja *j, tl_str format, const tl_jargs *args, tl_jval *out) {
    tl_jbuf b = {.j = j};
    size_t n_auto = 0;
    for (size_t at = 0; at < format.len; at++) {
        const char c = format.data[at];
        const bool twice = at + 1 < format.len && format.data[at + 1] == c;
        if ((c != '{' && c != '}') || twice) {
            TL_TRY(tl_jbuf_add(&b, (tl_str){&format.data[at], 1}));
            at += (c == '{' || c == '}') && twice;
            continue;
        }
        const char *const end = c == '{' ? memchr(format.data + at, '}', format.len - at) : NULL;
        if (end == NULL) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "Single '%c' encountered in format string", c);
        }
        const tl_str field = {format.data + at + 1, (size_t)(end - (format.data + at + 1))};
        if (field.len > 0 && memchr(field.data, '{', field.len) != NULL) {
            return tl_jinja_fail(j, TL_ERR_UNSUPPORTED, "fields in fields of a format string");
        }
        TL_TRY(replacement(&b, field, args, &n_auto));
        at = (size_t)(end - format.data);
    }
    return tl_jbuf_take(&b, out);
}
