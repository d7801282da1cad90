/* Values as text: str() and repr() as Python writes them, and json.dumps as Hugging Face calls it
 * for `tojson`. What Python would show with an address (functions, generators) is shown without. */
#include "jinja.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static tl_err print_int(tl_jbuf *b, int64_t i) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)i);
    return tl_jbuf_add_c(b, text);
}

/* The shortest digits that read back as f; returns the decimal exponent of the first one. */
static int shortest_digits(double f, char digits[24]) {
    char text[40];
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, f);
        if (strtod(text, NULL) == f) { /* both in the C locale */
            break;
        }
    }
    size_t n = 0;
    const char *c = text;
    for (; *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9') {
            digits[n++] = *c;
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    digits[n] = '\0';
    return (int)strtol(c + 1, NULL, 10);
}

/* Python: plain digits for exponents from -4 to 15, else d.ddde+XX. */
tl_err tl_jfloat_repr(tl_jbuf *b, double f) {
    if (isnan(f) || isinf(f)) {
        return tl_jbuf_add_c(b, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
    }
    char digits[24], text[64];
    const int exponent = shortest_digits(fabs(f), digits);
    const int n = (int)strlen(digits);
    const char *const sign = signbit(f) ? "-" : "";
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, sizeof text, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "",
                 digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        snprintf(text, sizeof text, "%s0.%.*s%s", sign, -exponent - 1, "000", digits);
    } else if (n <= exponent + 1) {
        snprintf(text, sizeof text, "%s%s%.*s.0", sign, digits, exponent + 1 - n,
                 "0000000000000000");
    } else {
        snprintf(text, sizeof text, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
    }
    return tl_jbuf_add_c(b, text);
}

/* ---- str and repr ---- */

static tl_err repr_point(tl_jbuf *b, uint32_t p, char quote) {
    char text[16] = {0};
    if (p == (unsigned char)quote || p == '\\') {
        text[0] = '\\';
        text[1] = (char)p;
    } else if (p == '\n' || p == '\r' || p == '\t') {
        text[0] = '\\';
        text[1] = p == '\n' ? 'n' : p == '\r' ? 'r' : 't';
    } else if (tl_jpoint_is_print(b->j, p)) {
        return tl_jbuf_add_point(b, p);
    } else {
        snprintf(text, sizeof text,
                 p < 0x100     ? "\\x%02x"
                 : p < 0x10000 ? "\\u%04x"
                               : "\\U%08x",
                 (unsigned)p);
    }
    return tl_jbuf_add_c(b, text);
}

static tl_err repr_str(tl_jbuf *b, tl_str s) {
    const bool single = s.len > 0 && memchr(s.data, '\'', s.len) != NULL;
    const bool both = single && memchr(s.data, '"', s.len) != NULL;
    const char quote = single && !both ? '"' : '\'';
    TL_TRY(tl_jbuf_add(b, (tl_str){&quote, 1}));
    for (size_t at = 0; at < s.len;) {
        TL_TRY(repr_point(b, tl_utf8_next(s, &at), quote));
    }
    return tl_jbuf_add(b, (tl_str){&quote, 1});
}

static tl_err repr_items(tl_jbuf *b, const tl_jlist *list, const char *open, const char *close) {
    TL_TRY(tl_jbuf_add_c(b, open));
    for (size_t i = 0; i < list->n; i++) {
        TL_TRY(tl_jbuf_add_c(b, i > 0 ? ", " : ""));
        TL_TRY(tl_jval_repr(b, list->at[i]));
    }
    return tl_jbuf_add_c(b, close);
}

static tl_err repr_dict(tl_jbuf *b, const tl_jdict *d) {
    TL_TRY(tl_jbuf_add_c(b, "{"));
    for (size_t i = 0; i < d->n; i++) {
        TL_TRY(tl_jbuf_add_c(b, i > 0 ? ", " : ""));
        TL_TRY(tl_jval_repr(b, d->at[i].key));
        TL_TRY(tl_jbuf_add_c(b, ": "));
        TL_TRY(tl_jval_repr(b, d->at[i].value));
    }
    return tl_jbuf_add_c(b, "}");
}

static tl_err repr_view(tl_jbuf *b, tl_jval v) {
    tl_jval list;
    TL_TRY(tl_jiter_list(b->j, v, &list));
    TL_TRY(tl_jbuf_add_c(b, tl_jval_type(v)));
    return repr_items(b, list.as.list, "([", "])");
}

static tl_err repr_range(tl_jbuf *b, const struct tl_jrange *r) {
    TL_TRY(tl_jbuf_add_c(b, "range("));
    TL_TRY(print_int(b, r->start));
    TL_TRY(tl_jbuf_add_c(b, ", "));
    TL_TRY(print_int(b, r->stop));
    if (r->step != 1) {
        TL_TRY(tl_jbuf_add_c(b, ", "));
        TL_TRY(print_int(b, r->step));
    }
    return tl_jbuf_add_c(b, ")");
}

static tl_err repr_rest(tl_jbuf *b, tl_jval v) {
    switch (v.kind) {
    case TL_J_NAMESPACE:
        TL_TRY(tl_jbuf_add_c(b, "<Namespace "));
        TL_TRY(repr_dict(b, v.as.dict));
        return tl_jbuf_add_c(b, ">");
    case TL_J_MACRO:
        TL_TRY(tl_jbuf_add_c(b, "<Macro "));
        TL_TRY(repr_str(b, v.as.macro->node->name));
        return tl_jbuf_add_c(b, ">");
    case TL_J_BUILTIN:
        TL_TRY(tl_jbuf_add_c(b, "<function "));
        TL_TRY(tl_jbuf_add_c(b, v.as.bound->fn->name));
        return tl_jbuf_add_c(b, ">");
    case TL_J_ITER:
        return tl_jbuf_add_c(b, "<generator object>");
    default:
        TL_TRY(tl_jbuf_add_c(b, "<"));
        TL_TRY(tl_jbuf_add_c(b, tl_jval_type(v)));
        return tl_jbuf_add_c(b, ">");
    }
}

static tl_err repr_value(tl_jbuf *b, tl_jval v) {
    switch (v.kind) {
    case TL_J_UNDEFINED:
        return tl_jbuf_add_c(b, "Undefined");
    case TL_J_NONE:
        return tl_jbuf_add_c(b, "None");
    case TL_J_BOOL:
        return tl_jbuf_add_c(b, v.as.truth ? "True" : "False");
    case TL_J_INT:
        return print_int(b, v.as.integer);
    case TL_J_FLOAT:
        return tl_jfloat_repr(b, v.as.real);
    case TL_J_STR:
        if (!v.as.str->markup) {
            return repr_str(b, tl_jval_text(v));
        }
        TL_TRY(tl_jbuf_add_c(b, "Markup("));
        TL_TRY(repr_str(b, tl_jval_text(v)));
        return tl_jbuf_add_c(b, ")");
    case TL_J_LIST:
        return repr_items(b, v.as.list, "[", "]");
    case TL_J_TUPLE:
        return repr_items(b, v.as.list, "(", v.as.list->n == 1 ? ",)" : ")");
    case TL_J_DICT:
        return repr_dict(b, v.as.dict);
    case TL_J_VIEW:
        return repr_view(b, v);
    case TL_J_RANGE:
        return repr_range(b, v.as.range);
    default:
        return repr_rest(b, v);
    }
}

tl_err tl_jval_repr(tl_jbuf *b, tl_jval v) {
    TL_TRY(tl_jinja_enter(b->j));
    TL_TRY(tl_jinja_spend(b->j, 1));
    const tl_err err = repr_value(b, v);
    tl_jinja_leave(b->j);
    return err;
}

tl_err tl_jval_print(tl_jbuf *b, tl_jval v) {
    if (v.kind == TL_J_STR) {
        return tl_jbuf_add(b, tl_jval_text(v));
    }
    return v.kind == TL_J_UNDEFINED ? TL_OK : tl_jval_repr(b, v);
}

tl_err tl_jval_str(tl_jinja *j, tl_jval v, tl_jval *out) {
    if (v.kind == TL_J_STR) {
        *out = v;
        return TL_OK;
    }
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jval_print(&b, v));
    return tl_jbuf_take(&b, out);
}

/* ---- JSON ---- */

static tl_err json_point(tl_jbuf *b, uint32_t p, bool ascii) {
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    char text[16] = {'\\', 0};
    const char *const named = p < 0x80 && p > 0 ? strchr(plain, (int)p) : NULL;
    if (named != NULL) {
        text[1] = letter[named - plain];
    } else if (p < 0x20 || (ascii && p >= 0x7F && p < 0x10000)) {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)p);
    } else if (ascii && p >= 0x10000) {
        snprintf(text, sizeof text, "\\u%04x\\u%04x", (unsigned)(0xD7C0 + (p >> 10)),
                 (unsigned)(0xDC00 + (p & 0x3FF)));
    } else {
        return tl_jbuf_add_point(b, p);
    }
    return tl_jbuf_add_c(b, text);
}

static tl_err json_str(tl_jbuf *b, tl_str s, bool ascii) {
    TL_TRY(tl_jbuf_add_c(b, "\""));
    for (size_t at = 0; at < s.len;) {
        TL_TRY(json_point(b, tl_utf8_next(s, &at), ascii));
    }
    return tl_jbuf_add_c(b, "\"");
}

static tl_err json_float(tl_jbuf *b, double f) {
    if (isnan(f) || isinf(f)) {
        return tl_jbuf_add_c(b, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
    }
    return tl_jfloat_repr(b, f);
}

static tl_err json_newline(tl_jbuf *b, const struct tl_jjson *how, unsigned level) {
    if (!how->pretty) {
        return TL_OK;
    }
    TL_TRY(tl_jbuf_add_c(b, "\n"));
    return tl_jbuf_add_many(b, how->indent, level);
}

static tl_err json_value(tl_jbuf *b, tl_jval v, const struct tl_jjson *how, unsigned level);

static tl_err json_list(tl_jbuf *b, const tl_jlist *list, const struct tl_jjson *how,
                        unsigned level) {
    if (list->n == 0) {
        return tl_jbuf_add_c(b, "[]");
    }
    for (size_t i = 0; i < list->n; i++) {
        TL_TRY(tl_jbuf_add(b, i > 0 ? how->comma : tl_str_from("[")));
        TL_TRY(json_newline(b, how, level + 1));
        TL_TRY(json_value(b, list->at[i], how, level + 1));
    }
    TL_TRY(json_newline(b, how, level));
    return tl_jbuf_add_c(b, "]");
}

/* Keys that are no strings are written as if they were. */
static tl_err json_key(tl_jbuf *b, tl_jval key, const struct tl_jjson *how) {
    if (key.kind == TL_J_STR) {
        return json_str(b, tl_jval_text(key), how->ascii);
    }
    if (key.kind != TL_J_NONE && !tl_jval_is_number(key)) {
        return tl_jinja_fail(b->j, TL_ERR_FORMAT,
                             "keys must be str, int, float, bool or None, not %s",
                             tl_jval_type(key));
    }
    TL_TRY(tl_jbuf_add_c(b, "\""));
    TL_TRY(json_value(b, key, how, 0));
    return tl_jbuf_add_c(b, "\"");
}

static tl_err sorted_dict(tl_jinja *j, const tl_jdict *d, tl_jval *out) {
    tl_jval keys, values;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, d->n, &keys));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, d->n, &values));
    for (size_t i = 0; i < d->n; i++) {
        TL_TRY(tl_jlist_add(j, keys, d->at[i].key));
        TL_TRY(tl_jlist_add(j, values, tl_jint((int64_t)i)));
    }
    TL_TRY(tl_jvals_sort(j, keys.as.list->at, values.as.list->at, d->n, false));
    TL_TRY(tl_jdict_new(j, TL_J_DICT, out));
    for (size_t i = 0; i < d->n; i++) {
        const struct tl_jentry e = d->at[values.as.list->at[i].as.integer];
        TL_TRY(tl_jdict_set(j, out->as.dict, e.key, e.value));
    }
    return TL_OK;
}

static tl_err json_dict(tl_jbuf *b, const tl_jdict *d, const struct tl_jjson *how, unsigned level) {
    if (d->n == 0) {
        return tl_jbuf_add_c(b, "{}");
    }
    tl_jval sorted;
    if (how->sort_keys) {
        TL_TRY(sorted_dict(b->j, d, &sorted));
        d = sorted.as.dict;
    }
    for (size_t i = 0; i < d->n; i++) {
        TL_TRY(tl_jbuf_add(b, i > 0 ? how->comma : tl_str_from("{")));
        TL_TRY(json_newline(b, how, level + 1));
        TL_TRY(json_key(b, d->at[i].key, how));
        TL_TRY(tl_jbuf_add(b, how->colon));
        TL_TRY(json_value(b, d->at[i].value, how, level + 1));
    }
    TL_TRY(json_newline(b, how, level));
    return tl_jbuf_add_c(b, "}");
}

static tl_err json_inner(tl_jbuf *b, tl_jval v, const struct tl_jjson *how, unsigned level) {
    switch (v.kind) {
    case TL_J_NONE:
        return tl_jbuf_add_c(b, "null");
    case TL_J_BOOL:
        return tl_jbuf_add_c(b, v.as.truth ? "true" : "false");
    case TL_J_INT:
        return print_int(b, v.as.integer);
    case TL_J_FLOAT:
        return json_float(b, v.as.real);
    case TL_J_STR:
        return json_str(b, tl_jval_text(v), how->ascii);
    case TL_J_LIST:
    case TL_J_TUPLE:
        return json_list(b, v.as.list, how, level);
    case TL_J_DICT:
        return json_dict(b, v.as.dict, how, level);
    default:
        return tl_jinja_fail(b->j, TL_ERR_FORMAT, "Object of type %s is not JSON serializable",
                             tl_jval_type(v));
    }
}

static tl_err json_value(tl_jbuf *b, tl_jval v, const struct tl_jjson *how, unsigned level) {
    TL_TRY(tl_jinja_enter(b->j));
    TL_TRY(tl_jinja_spend(b->j, 1));
    const tl_err err = json_inner(b, v, how, level);
    tl_jinja_leave(b->j);
    return err;
}

tl_err tl_jval_json(tl_jbuf *b, tl_jval v, const struct tl_jjson *how) {
    return json_value(b, v, how, 0);
}
