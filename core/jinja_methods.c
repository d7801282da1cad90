/* Methods of strings, lists, tuples, dicts and numbers, as Python has them. Two kinds are not run:
 * those that would change a list or a dict, which the sandbox hides (*unsafe), and those that no
 * template needs, which are known by name so that the error can say so. Offsets that come in and go
 * out count code points. */
#include "jinja.h"

#include <math.h>
#include <string.h>

/* ---- strings: case, space, parts ---- */

static tl_str self_text(const tl_jcall *call) { return tl_jval_text(call->bound[0]); }

static tl_err str_upper(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jtext_upper(&b, self_text(call)));
    return tl_jbuf_take(&b, out);
}

static tl_err str_lower(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jtext_lower(&b, self_text(call)));
    return tl_jbuf_take(&b, out);
}

static tl_err str_capitalize(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jtext_capital(&b, self_text(call)));
    return tl_jbuf_take(&b, out);
}

/* A letter is large when none stands before it. */
static tl_err str_title(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_str text = self_text(call);
    tl_jbuf b = {.j = j};
    bool inside = false;
    for (size_t at = 0; at < text.len;) {
        const uint32_t p = tl_utf8_next(text, &at);
        TL_TRY(tl_jbuf_add_point(&b, inside ? tl_jpoint_lower(j, p) : tl_jpoint_upper(j, p)));
        inside = tl_jpoint_is_alpha(j, p);
    }
    return tl_jbuf_take(&b, out);
}

static tl_err str_swapcase(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_str text = self_text(call);
    tl_jbuf b = {.j = j};
    for (size_t at = 0; at < text.len;) {
        const size_t begin = at;
        const uint32_t p = tl_utf8_next(text, &at), lower = tl_jpoint_lower(j, p);
        const tl_str letter = {text.data + begin, at - begin};
        TL_TRY(lower != p ? tl_jbuf_add_point(&b, lower) : tl_jtext_upper(&b, letter));
    }
    return tl_jbuf_take(&b, out);
}

static tl_err strip(tl_jinja *j, const tl_jcall *call, bool left, bool right, tl_jval *out) {
    tl_str chars = {0}, text = self_text(call);
    if (call->bound[1].kind != TL_J_MISSING && call->bound[1].kind != TL_J_NONE) {
        TL_TRY(tl_jarg_str(j, call->bound[1], "strip arg", &chars));
    }
    TL_TRY(tl_jtext_strip(j, text, chars, left, right, &text));
    return tl_jstr_new(j, text, out);
}

static tl_err str_strip(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return strip(j, call, true, true, out);
}

static tl_err str_lstrip(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return strip(j, call, true, false, out);
}

static tl_err str_rstrip(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return strip(j, call, false, true, out);
}

static bool begins_with(tl_str text, tl_str part) {
    return part.len <= text.len && (part.len == 0 || memcmp(text.data, part.data, part.len) == 0);
}

static bool ends_with(tl_str text, tl_str part) {
    return part.len <= text.len &&
           begins_with((tl_str){text.data + text.len - part.len, part.len}, part);
}

static tl_err str_removeprefix(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text = self_text(call), part;
    TL_TRY(tl_jarg_str(j, call->bound[1], "removeprefix() argument", &part));
    tl_jinja_charge(j, part.len / TL_JSTEP_BYTES);
    if (begins_with(text, part)) {
        text = (tl_str){text.data + part.len, text.len - part.len};
    }
    return tl_jstr_new(j, text, out);
}

static tl_err str_removesuffix(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text = self_text(call), part;
    TL_TRY(tl_jarg_str(j, call->bound[1], "removesuffix() argument", &part));
    tl_jinja_charge(j, part.len / TL_JSTEP_BYTES);
    text.len -= ends_with(text, part) ? part.len : 0;
    return tl_jstr_new(j, text, out);
}

/* ---- strings: searching, in a stretch given by start and end ---- */

/* The bytes of text that bound[first] and bound[first + 1] leave, and where they begin in it. */
static tl_err stretch(tl_jinja *j, const tl_jcall *call, unsigned first, tl_str *out, size_t *begin,
                      bool *empty) {
    tl_jstr *const s = call->bound[0].as.str;
    const int64_t n = (int64_t)tl_jstr_points(j, s);
    int64_t bound[2] = {0, n};
    for (unsigned i = 0; i < 2; i++) {
        if (call->bound[first + i].kind != TL_J_NONE) {
            TL_TRY(tl_jarg_int(j, call->bound[first + i], "slice indices", bound[i], &bound[i]));
        }
        bound[i] = bound[i] < -n ? 0 : bound[i] < 0 ? bound[i] + n : bound[i];
    }
    *empty = bound[0] > n || bound[1] < bound[0];
    if (*empty) {
        bound[0] = bound[1] = 0;
    }
    *begin = tl_jtext_offset(j, s, (size_t)bound[0]);
    *out = (tl_str){s->data + *begin,
                    tl_jtext_offset(j, s, (size_t)(bound[1] > n ? n : bound[1])) - *begin};
    return TL_OK;
}

static tl_err find_last(tl_jinja *j, tl_str text, tl_str part, size_t *out) {
    *out = SIZE_MAX;
    for (size_t at = text.len + 1 - (part.len <= text.len ? part.len : text.len + 1); at > 0;
         at--) {
        if (begins_with((tl_str){text.data + at - 1, text.len - at + 1}, part)) {
            *out = at - 1;
            break;
        }
        TL_TRY(tl_jinja_spend(j, (at % TL_JSTEP_CHARS == 0) + part.len / TL_JSTEP_CHARS));
    }
    return TL_OK;
}

static tl_err find(tl_jinja *j, const tl_jcall *call, bool last, bool must, tl_jval *out) {
    tl_str text, part;
    size_t begin = 0, at = SIZE_MAX;
    bool empty = false;
    TL_TRY(tl_jarg_str(j, call->bound[1], "find() argument", &part));
    TL_TRY(stretch(j, call, 2, &text, &begin, &empty));
    if (!empty) {
        TL_TRY(last ? find_last(j, text, part, &at) : tl_jtext_find(j, text, part, 0, &at));
    }
    if (at == SIZE_MAX) {
        *out = tl_jint(-1);
        return must ? tl_jinja_fail(j, TL_ERR_FORMAT, "substring not found") : TL_OK;
    }
    tl_jstr before = {.data = call->bound[0].as.str->data, .len = begin + at, .n_points = SIZE_MAX};
    *out = tl_jint((int64_t)tl_jstr_points(j, &before));
    return TL_OK;
}

static tl_err str_find(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return find(j, call, false, false, out);
}

static tl_err str_rfind(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return find(j, call, true, false, out);
}

static tl_err str_index(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return find(j, call, false, true, out);
}

static tl_err str_rindex(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return find(j, call, true, true, out);
}

static tl_err str_count(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str text, part;
    size_t begin = 0, at = 0;
    bool empty = false;
    int64_t n = 0;
    TL_TRY(tl_jarg_str(j, call->bound[1], "count() argument", &part));
    TL_TRY(stretch(j, call, 2, &text, &begin, &empty));
    if (part.len == 0) {
        tl_jstr whole = {.data = text.data, .len = text.len, .n_points = SIZE_MAX};
        *out = tl_jint(empty ? 0 : (int64_t)tl_jstr_points(j, &whole) + 1);
        return TL_OK;
    }
    for (; !empty; n++) {
        TL_TRY(tl_jtext_find(j, text, part, at, &at));
        if (at == SIZE_MAX) {
            break;
        }
        at += part.len;
    }
    *out = tl_jint(n);
    return TL_OK;
}

/* startswith, endswith: a string or a tuple of them. */
static tl_err begins_or_ends(tl_jinja *j, const tl_jcall *call, bool begins, tl_jval *out) {
    const tl_jval parts = call->bound[1];
    const bool many = parts.kind == TL_J_TUPLE;
    tl_str text, part;
    size_t begin = 0;
    bool empty = false, holds = false;
    TL_TRY(stretch(j, call, 2, &text, &begin, &empty));
    for (size_t i = 0; i < (many ? parts.as.list->n : 1); i++) {
        TL_TRY(tl_jarg_str(j, many ? parts.as.list->at[i] : parts,
                           begins ? "startswith first arg" : "endswith first arg", &part));
        holds |= !empty && (begins ? begins_with(text, part) : ends_with(text, part));
        TL_TRY(tl_jinja_spend(j, part.len / TL_JSTEP_BYTES));
    }
    *out = tl_jbool(holds);
    return TL_OK;
}

static tl_err str_startswith(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return begins_or_ends(j, call, true, out);
}

static tl_err str_endswith(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return begins_or_ends(j, call, false, out);
}

static tl_err str_replace(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str old, new;
    int64_t n_max = -1;
    TL_TRY(tl_jarg_str(j, call->bound[1], "replace() argument 1", &old));
    TL_TRY(tl_jarg_str(j, call->bound[2], "replace() argument 2", &new));
    TL_TRY(tl_jarg_int(j, call->bound[3], "replace() argument 3", -1, &n_max));
    return tl_jtext_replace(j, self_text(call), old, new, n_max, out);
}

/* ---- strings: splitting and joining ---- */

static tl_err add_part(tl_jinja *j, tl_jval list, const char *data, size_t len) {
    tl_jval part;
    TL_TRY(tl_jstr_new(j, (tl_str){data, len}, &part));
    return tl_jlist_add(j, list, part);
}

static tl_err split_at_space(tl_jinja *j, tl_str text, int64_t n_max, tl_jval list) {
    TL_TRY(tl_jtext_strip(j, text, (tl_str){0}, true, false, &text));
    for (int64_t n = 0; text.len > 0; n++) {
        if (n == n_max) {
            return add_part(j, list, text.data, text.len);
        }
        size_t end = 0, next = 0;
        while (end < text.len && !tl_jpoint_is_space(tl_utf8_next(text, &next))) {
            end = next;
        }
        TL_TRY(add_part(j, list, text.data, end));
        text = (tl_str){text.data + end, text.len - end};
        TL_TRY(tl_jtext_strip(j, text, (tl_str){0}, true, false, &text));
    }
    return TL_OK;
}

static tl_err rsplit_at_space(tl_jinja *j, tl_str text, int64_t n_max, tl_jval list) {
    TL_TRY(tl_jtext_strip(j, text, (tl_str){0}, false, true, &text));
    for (int64_t n = 0; text.len > 0; n++) {
        if (n == n_max) {
            return add_part(j, list, text.data, text.len);
        }
        size_t begin = text.len, next = text.len;
        while (begin > 0 && !tl_jpoint_is_space(tl_utf8_prev(text, &next))) {
            begin = next;
        }
        TL_TRY(add_part(j, list, text.data + begin, text.len - begin));
        text.len = begin;
        TL_TRY(tl_jtext_strip(j, text, (tl_str){0}, false, true, &text));
    }
    return TL_OK;
}

static tl_err split_at(tl_jinja *j, tl_str text, tl_str separator, int64_t n_max, tl_jval list) {
    size_t at = 0, found = 0;
    for (int64_t n = 0; n != n_max; n++) {
        TL_TRY(tl_jtext_find(j, text, separator, at, &found));
        if (found == SIZE_MAX) {
            break;
        }
        TL_TRY(add_part(j, list, text.data + at, found - at));
        at = found + separator.len;
    }
    return add_part(j, list, text.data + at, text.len - at);
}

static tl_err rsplit_at(tl_jinja *j, tl_str text, tl_str separator, int64_t n_max, tl_jval list) {
    size_t found = 0;
    for (int64_t n = 0; n != n_max; n++) {
        TL_TRY(find_last(j, text, separator, &found));
        if (found == SIZE_MAX) {
            break;
        }
        const size_t behind = found + separator.len;
        TL_TRY(add_part(j, list, text.data + behind, text.len - behind));
        text.len = found;
    }
    return add_part(j, list, text.data, text.len);
}

static tl_err split(tl_jinja *j, const tl_jcall *call, bool from_right, tl_jval *out) {
    int64_t n_max = -1;
    tl_str separator = {0};
    TL_TRY(tl_jarg_int(j, call->bound[2], "split() maxsplit", -1, &n_max));
    n_max = n_max < 0 ? -1 : n_max;
    TL_TRY(tl_jinja_spend(j, self_text(call).len / TL_JSTEP_CHARS));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, out));
    if (call->bound[1].kind == TL_J_MISSING || call->bound[1].kind == TL_J_NONE) {
        TL_TRY((from_right ? rsplit_at_space : split_at_space)(j, self_text(call), n_max, *out));
    } else {
        TL_TRY(tl_jarg_str(j, call->bound[1], "split() separator", &separator));
        if (separator.len == 0) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "empty separator");
        }
        TL_TRY((from_right ? rsplit_at : split_at)(j, self_text(call), separator, n_max, *out));
    }
    tl_jlist *const l = out->as.list;
    for (size_t i = 0; from_right && i < l->n / 2; i++) {
        const tl_jval swap = l->at[i];
        l->at[i] = l->at[l->n - 1 - i];
        l->at[l->n - 1 - i] = swap;
    }
    return TL_OK;
}

static tl_err str_split(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return split(j, call, false, out);
}

static tl_err str_rsplit(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return split(j, call, true, out);
}

static tl_err str_splitlines(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return tl_jtext_lines(j, self_text(call), tl_jval_true(call->bound[1]), out);
}

/* Before, separator, behind; not found: the whole and two empty ones, on the side it began from. */
static tl_err partition(tl_jinja *j, const tl_jcall *call, bool last, tl_jval *out) {
    const tl_str text = self_text(call);
    tl_str separator;
    size_t at = 0;
    TL_TRY(tl_jarg_str(j, call->bound[1], "partition() argument", &separator));
    if (separator.len == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "empty separator");
    }
    TL_TRY(last ? find_last(j, text, separator, &at) : tl_jtext_find(j, text, separator, 0, &at));
    const bool found = at != SIZE_MAX;
    const size_t begin = found ? at : last ? 0 : text.len;
    const size_t n = found ? separator.len : 0;
    TL_TRY(tl_jlist_new(j, TL_J_TUPLE, 3, out));
    TL_TRY(add_part(j, *out, text.data, begin));
    TL_TRY(add_part(j, *out, separator.data, n));
    return add_part(j, *out, text.data + begin + n, text.len - begin - n);
}

static tl_err str_partition(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return partition(j, call, false, out);
}

static tl_err str_rpartition(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return partition(j, call, true, out);
}

static tl_err str_join(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jiter *it = NULL;
    tl_jval item;
    tl_str text;
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jiter_open(j, call->bound[1], &it));
    for (bool first = true;; first = false) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            return tl_jbuf_take(&b, out);
        }
        if (item.kind != TL_J_STR) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "sequence item: expected str instance, %s found",
                                 tl_jval_type(item));
        }
        text = tl_jval_text(item);
        TL_TRY(first ? TL_OK : tl_jbuf_add(&b, self_text(call)));
        TL_TRY(tl_jbuf_add(&b, text));
    }
}

static tl_err str_format(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return tl_jformat_braces(j, tl_jval_text(call->self), call->args, out);
}

/* ---- strings: padding ---- */

enum side { SIDE_LEFT, SIDE_RIGHT, SIDE_BOTH };

static tl_err pad(tl_jinja *j, const tl_jcall *call, enum side side, tl_jval *out) {
    int64_t width = 0;
    tl_str fill = tl_str_from(" ");
    TL_TRY(tl_jarg_int(j, call->bound[1], "width", 0, &width));
    if (call->bound[2].kind != TL_J_MISSING) {
        TL_TRY(tl_jarg_str(j, call->bound[2], "fill character", &fill));
        if (tl_jstr_points(j, call->bound[2].as.str) != 1) {
            return tl_jinja_fail(j, TL_ERR_FORMAT,
                                 "The fill character must be exactly one character long");
        }
    }
    const int64_t missing = width - (int64_t)tl_jstr_points(j, call->bound[0].as.str);
    const size_t gap = missing > 0 ? (size_t)missing : 0;
    const size_t left = side == SIDE_LEFT    ? gap
                        : side == SIDE_RIGHT ? 0
                                             : gap / 2 + (gap & (size_t)width & 1);
    return tl_jtext_pad(j, call->bound[0], left, gap - left, fill, out);
}

static tl_err str_center(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return pad(j, call, SIDE_BOTH, out);
}

static tl_err str_ljust(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return pad(j, call, SIDE_RIGHT, out);
}

static tl_err str_rjust(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return pad(j, call, SIDE_LEFT, out);
}

static tl_err str_zfill(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_str text = self_text(call);
    int64_t width = 0;
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jarg_int(j, call->bound[1], "width", 0, &width));
    const size_t n_sign = text.len > 0 && (text.data[0] == '-' || text.data[0] == '+');
    const int64_t missing = width - (int64_t)tl_jstr_points(j, call->bound[0].as.str);
    TL_TRY(tl_jbuf_add(&b, (tl_str){text.data, n_sign}));
    TL_TRY(tl_jbuf_add_many(&b, tl_str_from("0"), missing > 0 ? (size_t)missing : 0));
    TL_TRY(tl_jbuf_add(&b, (tl_str){text.data + n_sign, text.len - n_sign}));
    return tl_jbuf_take(&b, out);
}

/* ---- strings: what they consist of ---- */

typedef bool point_test(tl_jinja *j, uint32_t p);

static bool is_digit(tl_jinja *j, uint32_t p) {
    (void)j;
    return p >= '0' && p <= '9';
}

static bool is_alnum(tl_jinja *j, uint32_t p) { return is_digit(j, p) || tl_jpoint_is_alpha(j, p); }

static bool is_space(tl_jinja *j, uint32_t p) {
    (void)j;
    return tl_jpoint_is_space(p);
}

static bool is_ascii(tl_jinja *j, uint32_t p) {
    (void)j;
    return p < 0x80;
}

static tl_err all_points(tl_jinja *j, const tl_jcall *call, point_test *test, bool when_empty,
                         tl_jval *out) {
    const tl_str text = self_text(call);
    bool holds = text.len > 0 || when_empty;
    for (size_t at = 0; holds && at < text.len;) {
        holds = test(j, tl_utf8_next(text, &at));
    }
    *out = tl_jbool(holds);
    return tl_jinja_spend(j, text.len / TL_JSTEP_CHARS);
}

static tl_err str_isalpha(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return all_points(j, call, tl_jpoint_is_alpha, false, out);
}

static tl_err str_isalnum(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return all_points(j, call, is_alnum, false, out);
}

static tl_err str_isdigit(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return all_points(j, call, is_digit, false, out);
}

static tl_err str_isspace(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return all_points(j, call, is_space, false, out);
}

static tl_err str_isascii(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return all_points(j, call, is_ascii, true, out);
}

static tl_err str_isprintable(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return all_points(j, call, tl_jpoint_is_print, true, out);
}

static tl_err by_test(tl_jinja *j, const tl_jcall *call, const char *test, tl_jval *out) {
    return tl_jbuiltin_call(j, tl_jtest_find(tl_str_from(test)), call->bound[0], &(tl_jargs){0},
                            out);
}

static tl_err str_islower(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return by_test(j, call, "lower", out);
}

static tl_err str_isupper(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return by_test(j, call, "upper", out);
}

/* ---- lists and dicts ---- */

static tl_err list_count(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jlist *const list = call->bound[0].as.list;
    int64_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        bool equal = false;
        TL_TRY(tl_jval_equal(j, list->at[i], call->bound[1], &equal));
        n += equal;
    }
    *out = tl_jint(n);
    return tl_jinja_spend(j, list->n / TL_JSTEP_KEYS);
}

static tl_err list_index(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jlist *const list = call->bound[0].as.list;
    const int64_t n = (int64_t)list->n;
    int64_t bound[2] = {0, n};
    for (unsigned i = 0; i < 2; i++) {
        TL_TRY(tl_jarg_int(j, call->bound[2 + i], "slice indices", bound[i], &bound[i]));
        bound[i] = bound[i] < -n ? 0 : bound[i] < 0 ? bound[i] + n : bound[i];
    }
    TL_TRY(tl_jinja_spend(j, list->n / TL_JSTEP_KEYS));
    for (int64_t i = bound[0]; i < bound[1] && i < n; i++) {
        bool equal = false;
        TL_TRY(tl_jval_equal(j, list->at[i], call->bound[1], &equal));
        if (equal) {
            *out = tl_jint(i);
            return TL_OK;
        }
    }
    return tl_jinja_fail(j, TL_ERR_FORMAT, "the value is not in the list");
}

static tl_err list_copy(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return tl_jiter_list(j, call->bound[0], out);
}

static tl_err view(tl_jinja *j, const tl_jcall *call, enum tl_jview_kind what, tl_jval *out) {
    struct tl_jview *const v = tl_jinja_alloc(j, sizeof *v);
    if (v == NULL) {
        return TL_ERR_MEMORY;
    }
    *v = (struct tl_jview){call->bound[0].as.dict, what};
    *out = (tl_jval){.kind = TL_J_VIEW, .as.view = v};
    return TL_OK;
}

static tl_err dict_keys(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return view(j, call, TL_JVIEW_KEYS, out);
}

static tl_err dict_values(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return view(j, call, TL_JVIEW_VALUES, out);
}

static tl_err dict_items(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return view(j, call, TL_JVIEW_ITEMS, out);
}

static tl_err dict_get(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval *found = NULL;
    if (!tl_jval_hashable(call->bound[1])) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "unhashable type: '%s'",
                             tl_jval_type(call->bound[1]));
    }
    TL_TRY(tl_jdict_find(j, call->bound[0].as.dict, call->bound[1], &found));
    *out = found != NULL                         ? *found
           : call->bound[2].kind != TL_J_MISSING ? call->bound[2]
                                                 : tl_jnone();
    return TL_OK;
}

static tl_err dict_copy(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jdict *const d = call->bound[0].as.dict;
    TL_TRY(tl_jdict_new(j, TL_J_DICT, out));
    for (size_t i = 0; i < d->n; i++) {
        TL_TRY(tl_jdict_set(j, out->as.dict, d->at[i].key, d->at[i].value));
    }
    return TL_OK;
}

static tl_err float_is_integer(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    const double f = call->bound[0].as.real;
    *out = tl_jbool(isfinite(f) && f == floor(f));
    return TL_OK;
}

/* ---- cyclers ---- */

static tl_err cycler_next(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    struct tl_jcycler *const c = call->bound[0].as.cycler;
    *out = c->items->at[c->pos];
    c->pos = (c->pos + 1) % c->items->n;
    return TL_OK;
}

static tl_err cycler_reset(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    call->bound[0].as.cycler->pos = 0;
    *out = tl_jnone();
    return TL_OK;
}

/* ---- tables ---- */

static const tl_jbuiltin str_methods[] = {
    {"capitalize", "self", str_capitalize},
    {"casefold", "self", str_lower},
    {"center", "self width / fillchar", str_center},
    {"count", "self sub / start end", str_count},
    {"encode", NULL, NULL},
    {"endswith", "self suffix / start end", str_endswith},
    {"expandtabs", NULL, NULL},
    {"find", "self sub / start end", str_find},
    {"format", NULL, str_format},
    {"format_map", NULL, NULL},
    {"index", "self sub / start end", str_index},
    {"isalnum", "self", str_isalnum},
    {"isalpha", "self", str_isalpha},
    {"isascii", "self", str_isascii},
    {"isdecimal", "self", str_isdigit},
    {"isdigit", "self", str_isdigit},
    {"isidentifier", NULL, NULL},
    {"islower", "self", str_islower},
    {"isnumeric", "self", str_isdigit},
    {"isprintable", "self", str_isprintable},
    {"isspace", "self", str_isspace},
    {"istitle", NULL, NULL},
    {"isupper", "self", str_isupper},
    {"join", "self iterable", str_join},
    {"ljust", "self width / fillchar", str_ljust},
    {"lower", "self", str_lower},
    {"lstrip", "self / chars", str_lstrip},
    {"maketrans", NULL, NULL},
    {"partition", "self sep", str_partition},
    {"removeprefix", "self prefix", str_removeprefix},
    {"removesuffix", "self suffix", str_removesuffix},
    {"replace", "self old new / count", str_replace},
    {"rfind", "self sub / start end", str_rfind},
    {"rindex", "self sub / start end", str_rindex},
    {"rjust", "self width / fillchar", str_rjust},
    {"rpartition", "self sep", str_rpartition},
    {"rsplit", "self / sep maxsplit", str_rsplit},
    {"rstrip", "self / chars", str_rstrip},
    {"split", "self / sep maxsplit", str_split},
    {"splitlines", "self / keepends", str_splitlines},
    {"startswith", "self prefix / start end", str_startswith},
    {"strip", "self / chars", str_strip},
    {"swapcase", "self", str_swapcase},
    {"title", "self", str_title},
    {"translate", NULL, NULL},
    {"upper", "self", str_upper},
    {"zfill", "self width", str_zfill},
    {NULL, NULL, NULL},
};

static const tl_jbuiltin list_methods[] = {
    {"count", "self value", list_count},
    {"index", "self value / start stop", list_index},
    {"copy", "self", list_copy}, /* lists only from here on */
    {"append", NULL, NULL},
    {"clear", NULL, NULL},
    {"extend", NULL, NULL},
    {"insert", NULL, NULL},
    {"pop", NULL, NULL},
    {"remove", NULL, NULL},
    {"reverse", NULL, NULL},
    {"sort", NULL, NULL},
    {NULL, NULL, NULL},
};

static const tl_jbuiltin dict_methods[] = {
    {"copy", "self", dict_copy},
    {"fromkeys", NULL, NULL},
    {"get", "self key / default", dict_get},
    {"items", "self", dict_items},
    {"keys", "self", dict_keys},
    {"values", "self", dict_values},
    {"clear", NULL, NULL},
    {"pop", NULL, NULL},
    {"popitem", NULL, NULL},
    {"setdefault", NULL, NULL},
    {"update", NULL, NULL},
    {NULL, NULL, NULL},
};

static const tl_jbuiltin int_methods[] = {
    {"as_integer_ratio", NULL, NULL},
    {"bit_count", NULL, NULL},
    {"bit_length", NULL, NULL},
    {"conjugate", NULL, NULL},
    {"from_bytes", NULL, NULL},
    {"to_bytes", NULL, NULL},
    {NULL, NULL, NULL},
};

static const tl_jbuiltin float_methods[] = {
    {"as_integer_ratio", NULL, NULL},
    {"conjugate", NULL, NULL},
    {"fromhex", NULL, NULL},
    {"hex", NULL, NULL},
    {"is_integer", "self", float_is_integer},
    {NULL, NULL, NULL},
};

static const tl_jbuiltin cycler_methods[] = {
    {"next", "self", cycler_next},
    {"reset", "self", cycler_reset},
    {NULL, NULL, NULL},
};

const tl_jbuiltin *tl_jmethod_find(tl_jval object, tl_str name, bool *unsafe) {
    static const tl_jbuiltin *const tables[] = {
        [TL_J_STR] = str_methods,     [TL_J_LIST] = list_methods,     [TL_J_TUPLE] = list_methods,
        [TL_J_DICT] = dict_methods,   [TL_J_BOOL] = int_methods,      [TL_J_INT] = int_methods,
        [TL_J_FLOAT] = float_methods, [TL_J_CYCLER] = cycler_methods, [TL_J_JOINER] = NULL,
    };
    *unsafe = false;
    if (tables[object.kind] == NULL) {
        return NULL;
    }
    const tl_jbuiltin *const found = tl_jbuiltin_find(tables[object.kind], name);
    if (found == NULL || (object.kind == TL_J_TUPLE && found >= list_methods + 2)) {
        return NULL;
    }
    const bool changes = (object.kind == TL_J_LIST || object.kind == TL_J_DICT) &&
                         found->fn == NULL && !tl_str_is(name, "fromkeys");
    *unsafe = changes;
    return found;
}
