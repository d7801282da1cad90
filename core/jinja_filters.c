/* Filters on single values: text, numbers, JSON. Those on sequences are in jinja_filters_seq.c. The
 * ones without a function are Jinja2's too, but no chat template has a use for them (HTML, URLs,
 * chance): they are refused by name when reached. */
#include "jinja.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

static tl_err to_text(tl_jinja *j, tl_jval v, tl_str *out) {
    TL_TRY(tl_jval_str(j, v, &v));
    *out = tl_jval_text(v);
    return TL_OK;
}

static tl_err filter_upper(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    tl_jbuf b = {.j = j};
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(tl_jtext_upper(&b, text));
    return tl_jbuf_take(&b, out);
}

static tl_err filter_lower(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    tl_jbuf b = {.j = j};
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(tl_jtext_lower(&b, text));
    return tl_jbuf_take(&b, out);
}

static tl_err filter_capitalize(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    tl_jbuf b = {.j = j};
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(tl_jtext_capital(&b, text));
    return tl_jbuf_take(&b, out);
}

/* A word begins behind white space, a dash or an opening bracket, and runs to the next of these. */
static tl_err filter_title(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    tl_jbuf b = {.j = j};
    TL_TRY(to_text(j, call->bound[0], &text));
    for (size_t at = 0; at < text.len;) {
        size_t end = at, next = at;
        while (end < text.len) {
            const uint32_t p = tl_utf8_next(text, &next);
            if (tl_jpoint_is_space(p) || (p < 0x80 && strchr("-({[<", (int)p) != NULL && p != 0)) {
                break;
            }
            end = next;
        }
        TL_TRY(tl_jtext_capital(&b, (tl_str){text.data + at, end - at}));
        TL_TRY(tl_jbuf_add(&b, (tl_str){text.data + end, next - end}));
        at = next;
    }
    return tl_jbuf_take(&b, out);
}

static tl_err filter_trim(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text, chars = {0};
    TL_TRY(to_text(j, call->bound[0], &text));
    if (call->bound[1].kind != TL_J_MISSING && call->bound[1].kind != TL_J_NONE) {
        TL_TRY(tl_jarg_str(j, call->bound[1], "trim: chars", &chars));
    }
    TL_TRY(tl_jtext_strip(j, text, chars, true, true, &text));
    return tl_jstr_new(j, text, out);
}

static tl_err filter_replace(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text, old, new;
    int64_t n_max = -1;
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(to_text(j, call->bound[1], &old));
    TL_TRY(to_text(j, call->bound[2], &new));
    if (call->bound[3].kind != TL_J_NONE) {
        TL_TRY(tl_jarg_int(j, call->bound[3], "replace: count", -1, &n_max));
    }
    return tl_jtext_replace(j, text, old, new, n_max, out);
}

static tl_err filter_string(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return tl_jval_str(j, call->bound[0], out);
}

static tl_err filter_safe(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(tl_jstr_new(j, text, out));
    out->as.str->markup = true;
    return TL_OK;
}

static tl_err filter_escape(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return tl_jval_escape(j, call->bound[0], out);
}

static tl_err filter_forceescape(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    tl_jval plain;
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(tl_jstr_new(j, text, &plain));
    return tl_jval_escape(j, plain, out);
}

static tl_err filter_indent(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text, indention;
    tl_jval lines, space;
    int64_t width = 4;
    TL_TRY(tl_jarg_str(j, call->bound[0], "indent", &text));
    if (call->bound[1].kind == TL_J_STR) {
        indention = tl_jval_text(call->bound[1]);
    } else {
        TL_TRY(tl_jarg_int(j, call->bound[1], "indent: width", 4, &width));
        TL_TRY(tl_jstr_c(j, " ", &space));
        TL_TRY(tl_jval_arith(j, TL_JOP_MUL, space, tl_jint(width), &space));
        indention = tl_jval_text(space);
    }
    const bool first = tl_jval_true(call->bound[2]), blank = tl_jval_true(call->bound[3]);
    tl_jbuf ended = {.j = j}; /* with a line end added, a last empty line counts as one */
    TL_TRY(tl_jbuf_add(&ended, text));
    TL_TRY(tl_jbuf_add_c(&ended, "\n"));
    TL_TRY(tl_jtext_lines(j, (tl_str){ended.data, ended.len}, false, &lines));
    tl_jbuf b = {.j = j};
    for (size_t i = 0; i < lines.as.list->n; i++) {
        const tl_str line = tl_jval_text(lines.as.list->at[i]);
        TL_TRY(tl_jbuf_add_c(&b, i > 0 ? "\n" : ""));
        if (i == 0 ? first : blank || line.len > 0) {
            TL_TRY(tl_jbuf_add(&b, indention));
        }
        TL_TRY(tl_jbuf_add(&b, line));
    }
    return tl_jbuf_take(&b, out);
}

/* The text up to n_kept characters; without `killwords` up to the last space before that. */
static tl_err cut(tl_jinja *j, tl_jval v, size_t n_kept, bool killwords, tl_str end, tl_jval *out) {
    tl_str text;
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jarg_str(j, v, "truncate", &text));
    text.len = tl_jtext_offset(j, v.as.str, n_kept);
    for (size_t i = text.len; !killwords && i > 0; i--) {
        if (text.data[i - 1] == ' ') {
            text.len = i - 1;
            break;
        }
    }
    TL_TRY(tl_jbuf_add(&b, text));
    TL_TRY(tl_jbuf_add(&b, end));
    return tl_jbuf_take(&b, out);
}

static tl_err filter_truncate(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str end = tl_str_from("...");
    tl_jval end_value;
    size_t n = 0, n_end = 0;
    int64_t length = 255, leeway = 5;
    TL_TRY(tl_jarg_int(j, call->bound[1], "truncate: length", 255, &length));
    if (call->bound[3].kind != TL_J_MISSING) {
        TL_TRY(tl_jarg_str(j, call->bound[3], "truncate: end", &end));
    }
    if (call->bound[4].kind != TL_J_NONE) {
        TL_TRY(tl_jarg_int(j, call->bound[4], "truncate: leeway", 5, &leeway));
    }
    TL_TRY(tl_jstr_new(j, end, &end_value));
    TL_TRY(tl_jval_len(j, end_value, &n_end));
    TL_TRY(tl_jval_len(j, call->bound[0], &n));
    if (length < (int64_t)n_end || leeway < 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "truncate: expected length >= %zu, leeway >= 0",
                             n_end);
    }
    if ((int64_t)n <= length || (int64_t)n - length <= leeway) {
        *out = call->bound[0];
        return TL_OK;
    }
    return cut(j, call->bound[0], (size_t)length - n_end, tl_jval_true(call->bound[2]), end, out);
}

static tl_err filter_wordcount(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    int64_t n = 0;
    bool inside = false;
    TL_TRY(to_text(j, call->bound[0], &text));
    TL_TRY(tl_jinja_spend(j, text.len / TL_JSTEP_CHARS));
    for (size_t at = 0; at < text.len;) {
        const uint32_t p = tl_utf8_next(text, &at);
        const bool word = p == '_' || (p >= '0' && p <= '9') || tl_jpoint_is_alpha(j, p);
        n += word && !inside;
        inside = word;
    }
    *out = tl_jint(n);
    return TL_OK;
}

static tl_err filter_center(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    int64_t width = 80;
    tl_jval text;
    TL_TRY(tl_jval_str(j, call->bound[0], &text));
    TL_TRY(tl_jarg_int(j, call->bound[1], "center: width", 80, &width));
    const int64_t missing = width - (int64_t)tl_jstr_points(j, text.as.str);
    const size_t gap = missing > 0 ? (size_t)missing : 0;
    const size_t left = gap / 2 + (gap & (size_t)width & 1); /* Python's rounding */
    return tl_jtext_pad(j, text, left, gap - left, tl_str_from(" "), out);
}

static tl_err filter_format(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text;
    tl_jval args;
    TL_TRY(to_text(j, call->self, &text));
    if (call->args->n > 0 && call->args->n_named > 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "can't handle positional and keyword arguments at the same time");
    }
    if (call->args->n_named > 0) {
        TL_TRY(tl_jdict_new(j, TL_J_DICT, &args));
        for (size_t i = 0; i < call->args->n_named; i++) {
            tl_jval key;
            TL_TRY(tl_jstr_new(j, call->args->named[i].name, &key));
            TL_TRY(tl_jdict_set(j, args.as.dict, key, call->args->named[i].value));
        }
    } else {
        TL_TRY(tl_jlist_new(j, TL_J_TUPLE, call->args->n, &args));
        for (size_t i = 0; i < call->args->n; i++) {
            TL_TRY(tl_jlist_add(j, args, call->args->at[i]));
        }
    }
    return tl_jformat_percent(j, text, args, out);
}

/* ---- numbers ---- */

static tl_err too_large(tl_jinja *j) {
    return tl_jinja_fail(j, TL_ERR_UNSUPPORTED, "an integer beyond 64 bits");
}

/* A whole float as an int. */
static tl_err truncated(tl_jinja *j, double f, tl_jval *out) {
    if (!(f > -9.2e18 && f < 9.2e18)) {
        return too_large(j);
    }
    *out = tl_jint((int64_t)f);
    return TL_OK;
}

static tl_err filter_int(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval v = call->bound[0];
    int64_t i = 0, base = 10;
    double f = 0;
    bool overflow = false;
    TL_TRY(tl_jarg_int(j, call->bound[2], "int: base", 10, &base));
    if (v.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, v);
    }
    if (base != 0 && (base < 2 || base > 36)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "int() base must be >= 2 and <= 36, or 0");
    }
    *out = call->bound[1].kind != TL_J_MISSING ? call->bound[1] : tl_jint(0);
    if (tl_jval_as_int(v, &i)) {
        *out = tl_jint(i);
    } else if (v.kind == TL_J_FLOAT) {
        return isnan(v.as.real) ? TL_OK : truncated(j, v.as.real, out);
    } else if (v.kind == TL_J_STR && tl_jtext_to_int(tl_jval_text(v), (int)base, &i, &overflow)) {
        *out = tl_jint(i);
        return overflow ? too_large(j) : TL_OK;
    } else if (v.kind == TL_J_STR && tl_jtext_to_float(tl_jval_text(v), &f) && isfinite(f)) {
        return truncated(j, f, out);
    }
    return TL_OK;
}

static tl_err filter_float(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval v = call->bound[0];
    int64_t i = 0;
    double f = 0;
    if (v.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, v);
    }
    *out = call->bound[1].kind != TL_J_MISSING ? call->bound[1] : tl_jfloat(0);
    if (v.kind == TL_J_FLOAT) {
        *out = v;
    } else if (tl_jval_as_int(v, &i)) {
        *out = tl_jfloat((double)i);
    } else if (v.kind == TL_J_STR && tl_jtext_to_float(tl_jval_text(v), &f)) {
        *out = tl_jfloat(f);
    }
    return TL_OK;
}

static tl_err filter_abs(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval v = call->bound[0];
    int64_t i = 0;
    if (v.kind == TL_J_FLOAT) {
        *out = tl_jfloat(fabs(v.as.real));
        return TL_OK;
    }
    if (tl_jval_as_int(v, &i)) {
        *out = tl_jint(i);
        return i < 0 ? tl_jval_negate(j, *out, out) : TL_OK;
    }
    return tl_jinja_fail(j, TL_ERR_FORMAT, "bad operand type for abs(): '%s'", tl_jval_type(v));
}

/* To `precision` decimals, ties on the exact value to even: printing does it. */
static double rounded(double f, int64_t precision) {
    char text[400];
    if (precision > 300 || !isfinite(f)) {
        return f;
    }
    if (precision < 0) {
        const double scale = pow(10, (double)-precision);
        return isinf(scale) ? 0 : nearbyint(f / scale) * scale;
    }
    const int n = snprintf(text, sizeof text, "%.*f", (int)precision, f);
    return n < (int)sizeof text ? strtod(text, NULL) : f; /* in the C locale */
}

static tl_err filter_round(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval v = call->bound[0];
    tl_str method = tl_str_from("common");
    int64_t precision = 0;
    TL_TRY(tl_jarg_int(j, call->bound[1], "round: precision", 0, &precision));
    if (call->bound[2].kind != TL_J_MISSING) {
        TL_TRY(tl_jarg_str(j, call->bound[2], "round: method", &method));
    }
    if (v.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, v);
    }
    if (!tl_jval_is_number(v)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "type %s doesn't define __round__ method",
                             tl_jval_type(v));
    }
    int64_t i = 0;
    const bool whole = tl_jval_as_int(v, &i);
    const double f = whole ? (double)i : v.as.real;
    if (tl_str_is(method, "common")) {
        *out = whole && precision >= 0 ? tl_jint(i) : tl_jfloat(rounded(f, precision));
        return whole && precision < 0 ? truncated(j, out->as.real, out) : TL_OK;
    }
    if (!tl_str_is(method, "ceil") && !tl_str_is(method, "floor")) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "method must be common, ceil or floor");
    }
    const double scale = pow(10, (double)precision);
    *out = tl_jfloat((tl_str_is(method, "ceil") ? ceil(f * scale) : floor(f * scale)) / scale);
    return TL_OK;
}

/* ---- the rest ---- */

static tl_err filter_length(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    size_t n = 0;
    TL_TRY(tl_jval_len(j, call->bound[0], &n));
    *out = tl_jint((int64_t)n);
    return TL_OK;
}

static tl_err filter_default(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    *out = call->bound[0];
    if (out->kind != TL_J_UNDEFINED && !(tl_jval_true(call->bound[2]) && !tl_jval_true(*out))) {
        return TL_OK;
    }
    *out = call->bound[1];
    return out->kind != TL_J_MISSING ? TL_OK : tl_jstr_c(j, "", out);
}

static tl_err filter_attr(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str name;
    TL_TRY(tl_jarg_str(j, call->bound[1], "attribute name", &name));
    return tl_jval_attr_only(j, call->bound[0], call->bound[1], out);
}

static tl_err json_separators(tl_jinja *j, tl_jval v, struct tl_jjson *how) {
    how->comma = tl_str_from(how->pretty ? "," : ", ");
    how->colon = tl_str_from(": ");
    if (v.kind == TL_J_MISSING || v.kind == TL_J_NONE) {
        return TL_OK;
    }
    if ((v.kind != TL_J_LIST && v.kind != TL_J_TUPLE) || v.as.list->n != 2) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "tojson: separators must be a pair of strings");
    }
    TL_TRY(tl_jarg_str(j, v.as.list->at[0], "tojson: separators", &how->comma));
    return tl_jarg_str(j, v.as.list->at[1], "tojson: separators", &how->colon);
}

/* json.dumps as Hugging Face offers it: value, ensure_ascii, indent, separators, sort_keys. */
static tl_err filter_tojson(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval indent = call->bound[2];
    struct tl_jjson how = {.ascii = tl_jval_true(call->bound[1]),
                           .sort_keys = tl_jval_true(call->bound[4])};
    tl_jval space;
    how.pretty = indent.kind != TL_J_MISSING && indent.kind != TL_J_NONE;
    if (indent.kind == TL_J_STR) {
        how.indent = tl_jval_text(indent);
    } else if (how.pretty) {
        int64_t width = 0;
        TL_TRY(tl_jarg_int(j, indent, "tojson: indent", 0, &width));
        TL_TRY(tl_jstr_c(j, " ", &space));
        TL_TRY(tl_jval_arith(j, TL_JOP_MUL, space, tl_jint(width), &space));
        how.indent = tl_jval_text(space);
    }
    TL_TRY(json_separators(j, call->bound[3], &how));
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jval_json(&b, call->bound[0], &how));
    return tl_jbuf_take(&b, out);
}

const tl_jbuiltin tl_jfilters_text[] = {
    {"abs", "value", filter_abs},
    {"attr", "obj name", filter_attr},
    {"capitalize", "s", filter_capitalize},
    {"center", "value / width", filter_center},
    {"count", "value", filter_length},
    {"d", "value / default_value boolean", filter_default},
    {"default", "value / default_value boolean", filter_default},
    {"e", "s", filter_escape},
    {"escape", "s", filter_escape},
    {"filesizeformat", NULL, NULL},
    {"float", "value / default", filter_float},
    {"forceescape", "value", filter_forceescape},
    {"format", NULL, filter_format},
    {"indent", "s / width first blank", filter_indent},
    {"int", "value / default base", filter_int},
    {"length", "value", filter_length},
    {"lower", "s", filter_lower},
    {"pprint", NULL, NULL},
    {"random", NULL, NULL},
    {"replace", "s old new / count", filter_replace},
    {"round", "value / precision method", filter_round},
    {"safe", "value", filter_safe},
    {"string", "object", filter_string},
    {"striptags", NULL, NULL},
    {"title", "s", filter_title},
    {"tojson", "x / ensure_ascii indent separators sort_keys", filter_tojson},
    {"trim", "value / chars", filter_trim},
    {"truncate", "s / length killwords end leeway", filter_truncate},
    {"upper", "s", filter_upper},
    {"urlencode", NULL, NULL},
    {"urlize", NULL, NULL},
    {"wordcount", "s", filter_wordcount},
    {"wordwrap", NULL, NULL},
    {"xmlattr", NULL, NULL},
    {NULL, NULL, NULL},
};

const tl_jbuiltin *tl_jfilter_find(tl_str name) {
    const tl_jbuiltin *const found = tl_jbuiltin_find(tl_jfilters_text, name);
    return found != NULL ? found : tl_jbuiltin_find(tl_jfilters_seq, name);
}
