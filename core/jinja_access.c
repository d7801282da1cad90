/* Attributes, items and slices. `a.b` looks for an attribute first (methods, mostly) and then for
 * the item, `a['b']` the other way round; what is not there is undefined, and only using it fails.
 * That is the whole reach of a template: no name leads out of the values it was given. */
#include "jinja.h"

#include <string.h>

/* ---- attributes ---- */

static tl_err unsafe(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out) {
    const tl_str text = tl_jval_text(name);
    const char *hint = NULL;
    TL_TRY(tl_jinja_sentence(j, &hint, "access to attribute '%.*s' of '%s' object is unsafe.",
                             (int)tl_min_u64(text.len, 100), text.data, tl_jval_type(object)));
    return tl_jundefined_new(j, hint, object, name, out);
}

static tl_err method(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out) {
    bool hidden = false;
    const tl_jbuiltin *const fn = tl_jmethod_find(object, tl_jval_text(name), &hidden);
    if (fn == NULL) {
        return TL_OK;
    }
    if (hidden) {
        return unsafe(j, object, name, out);
    }
    struct tl_jbound *const bound = tl_jinja_alloc(j, sizeof *bound);
    if (bound == NULL) {
        return TL_ERR_MEMORY;
    }
    *bound = (struct tl_jbound){fn, object};
    *out = (tl_jval){.kind = TL_J_BUILTIN, .as.bound = bound};
    return TL_OK;
}

static tl_err macro_attr(tl_jinja *j, tl_jval object, tl_str name, tl_jval *out) {
    const tl_jnode *const node = object.as.macro->node;
    if (tl_str_is(name, "name")) {
        return tl_jstr_new(j, node->name, out);
    }
    if (tl_str_is(name, "arguments")) {
        TL_TRY(tl_jlist_new(j, TL_J_TUPLE, node->list.n, out));
        for (uint32_t i = 0; i < node->list.n; i++) {
            tl_jval argument;
            TL_TRY(tl_jstr_new(j, node->list.at[i]->name, &argument));
            TL_TRY(tl_jlist_add(j, *out, argument));
        }
    }
    return TL_OK;
}

static tl_err group_attr(tl_jval object, tl_str name, tl_jval *out) {
    if (object.as.list->is_group && tl_str_is(name, "grouper")) {
        *out = object.as.list->at[0];
    } else if (object.as.list->is_group && tl_str_is(name, "list")) {
        *out = object.as.list->at[1];
    }
    return TL_OK;
}

/* MISSING where the object has no such attribute. Names with two underscores lead into Python's
 * insides, which are hidden there and do not exist here. */
static tl_err find_attr(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out) {
    const tl_str text = tl_jval_text(name);
    *out = tl_jmissing();
    if (text.len > 4 && memcmp(text.data, "__", 2) == 0 &&
        memcmp(text.data + text.len - 2, "__", 2) == 0) {
        return unsafe(j, object, name, out);
    }
    switch (object.kind) {
    case TL_J_NAMESPACE: {
        tl_jinja_charge(j, object.as.dict->n / TL_JSTEP_KEYS);
        const tl_jval *const found = tl_jdict_get(object.as.dict, text);
        *out = found != NULL ? *found : tl_jmissing();
        return TL_OK;
    }
    case TL_J_LOOP:
        TL_TRY(tl_jloop_attr(j, object.as.loop, text, out));
        break;
    case TL_J_MACRO:
        return macro_attr(j, object, text, out);
    case TL_J_CYCLER:
        if (tl_str_is(text, "current")) {
            *out = object.as.cycler->items->at[object.as.cycler->pos];
        }
        break;
    case TL_J_TUPLE:
        TL_TRY(group_attr(object, text, out));
        break;
    default:
        break;
    }
    return out->kind != TL_J_MISSING ? TL_OK : method(j, object, name, out);
}

tl_err tl_jval_attr_only(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out) {
    if (object.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, object);
    }
    TL_TRY(find_attr(j, object, name, out));
    return out->kind != TL_J_MISSING ? TL_OK : tl_jundefined_new(j, NULL, object, name, out);
}

tl_err tl_jval_attr(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out) {
    if (object.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, object);
    }
    TL_TRY(find_attr(j, object, name, out));
    if (out->kind == TL_J_MISSING && object.kind == TL_J_DICT) {
        TL_TRY(tl_jinja_spend(j, object.as.dict->n / TL_JSTEP_KEYS));
        const tl_jval *const found = tl_jdict_get(object.as.dict, tl_jval_text(name));
        *out = found != NULL ? *found : tl_jmissing();
    }
    return out->kind != TL_J_MISSING ? TL_OK : tl_jundefined_new(j, NULL, object, name, out);
}

/* ---- items ---- */

/* The i-th item counted from the front, or from the back where i < 0; false: there is none. */
static bool place(int64_t i, size_t n, size_t *out) {
    if (i < 0) {
        i += (int64_t)n;
    }
    *out = (size_t)i;
    return i >= 0 && (uint64_t)i < n;
}

static tl_err str_item(tl_jinja *j, tl_jstr *s, int64_t i, tl_jval *out) {
    size_t at = 0;
    if (!place(i, tl_jstr_points(j, s), &at)) {
        return TL_OK;
    }
    const size_t begin = tl_jtext_offset(j, s, at);
    size_t end = begin;
    (void)tl_utf8_next((tl_str){s->data, s->len}, &end);
    return tl_jstr_new(j, (tl_str){s->data + begin, end - begin}, out);
}

static tl_err find_item(tl_jinja *j, tl_jval object, tl_jval key, tl_jval *out) {
    int64_t i = 0;
    size_t at = 0;
    *out = tl_jmissing();
    if (object.kind == TL_J_DICT) {
        tl_jval *found = NULL;
        if (tl_jval_hashable(key)) {
            TL_TRY(tl_jdict_find(j, object.as.dict, key, &found));
        }
        *out = found != NULL ? *found : tl_jmissing();
        return TL_OK;
    }
    if (!tl_jval_as_int(key, &i)) {
        return TL_OK;
    }
    if (object.kind == TL_J_STR) {
        return str_item(j, object.as.str, i, out);
    }
    if (object.kind == TL_J_LIST || object.kind == TL_J_TUPLE) {
        *out = place(i, object.as.list->n, &at) ? object.as.list->at[at] : tl_jmissing();
    } else if (object.kind == TL_J_RANGE) {
        *out =
            place(i, object.as.range->n, &at) ? tl_jrange_at(object.as.range, at) : tl_jmissing();
    }
    return TL_OK;
}

tl_err tl_jval_item(tl_jinja *j, tl_jval object, tl_jval key, tl_jval *out) {
    if (object.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, object);
    }
    TL_TRY(find_item(j, object, key, out));
    if (out->kind == TL_J_MISSING && key.kind == TL_J_STR) {
        TL_TRY(find_attr(j, object, key, out));
    }
    return out->kind != TL_J_MISSING ? TL_OK : tl_jundefined_new(j, NULL, object, key, out);
}

/* One part of a path: digits are an index. */
static tl_err path_part(tl_jinja *j, tl_str part, tl_jval *out) {
    int64_t i = 0;
    bool overflow = false, digits = part.len > 0;
    for (size_t k = 0; k < part.len; k++) {
        digits &= part.data[k] >= '0' && part.data[k] <= '9';
    }
    if (digits && tl_jtext_to_int(part, 10, &i, &overflow) && !overflow) {
        *out = tl_jint(i);
        return TL_OK;
    }
    return tl_jstr_new(j, part, out);
}

tl_err tl_jval_path(tl_jinja *j, tl_jval v, tl_jval path, tl_jval fallback, tl_jval *out) {
    *out = v;
    if (path.kind == TL_J_NONE) {
        return TL_OK;
    }
    tl_str rest = path.kind == TL_J_STR ? tl_jval_text(path) : (tl_str){0};
    for (;;) {
        tl_jval key = path;
        const char *const dot =
            path.kind == TL_J_STR && rest.len > 0 ? memchr(rest.data, '.', rest.len) : NULL;
        if (path.kind == TL_J_STR) {
            const size_t n = dot != NULL ? (size_t)(dot - rest.data) : rest.len;
            TL_TRY(path_part(j, (tl_str){rest.data, n}, &key));
        }
        TL_TRY(tl_jinja_spend(j, 1));
        TL_TRY(tl_jval_item(j, *out, key, out));
        if (out->kind == TL_J_UNDEFINED && fallback.kind != TL_J_MISSING &&
            fallback.kind != TL_J_NONE) {
            *out = fallback;
        }
        if (dot == NULL) {
            return TL_OK;
        }
        rest = (tl_str){dot + 1, rest.len - (size_t)(dot + 1 - rest.data)};
    }
}

/* ---- length and slices ---- */

tl_err tl_jval_len(tl_jinja *j, tl_jval v, size_t *out) {
    tl_jval length;
    switch (v.kind) {
    case TL_J_UNDEFINED:
        *out = 0;
        return TL_OK;
    case TL_J_STR:
        *out = tl_jstr_points(j, v.as.str);
        return TL_OK;
    case TL_J_LIST:
    case TL_J_TUPLE:
        *out = v.as.list->n;
        return TL_OK;
    case TL_J_DICT:
        *out = v.as.dict->n;
        return TL_OK;
    case TL_J_VIEW:
        *out = v.as.view->dict->n;
        return TL_OK;
    case TL_J_RANGE:
        *out = v.as.range->n;
        return TL_OK;
    case TL_J_LOOP:
        TL_TRY(tl_jloop_attr(j, v.as.loop, tl_str_from("length"), &length));
        *out = (size_t)length.as.integer;
        return TL_OK;
    default:
        return tl_jinja_fail(j, TL_ERR_FORMAT, "object of type '%s' has no len()", tl_jval_type(v));
    }
}

struct slice {
    int64_t start, step;
    size_t n;
};

/* One bound, brought into low..high as Python does. */
static tl_err slice_bound(tl_jinja *j, tl_jval v, int64_t n, int64_t fallback, int64_t low,
                          int64_t high, int64_t *out) {
    *out = fallback;
    if (v.kind == TL_J_MISSING || v.kind == TL_J_NONE) {
        return TL_OK;
    }
    if (!tl_jval_as_int(v, out)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "slice indices must be integers or None or have an __index__ method");
    }
    if (*out < 0) {
        *out = *out < -n ? low : *out + n;
    }
    *out = *out < low ? low : *out > high ? high : *out;
    return TL_OK;
}

static tl_err slice_of(tl_jinja *j, const tl_jval bounds[3], size_t len, struct slice *out) {
    const int64_t n = (int64_t)len;
    int64_t start = 0, stop = 0, step = 1;
    if (bounds[2].kind != TL_J_MISSING && bounds[2].kind != TL_J_NONE &&
        !tl_jval_as_int(bounds[2], &step)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "slice indices must be integers or None or have an __index__ method");
    }
    if (step == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "slice step cannot be zero");
    }
    step = step < -n - 1 ? -n - 1 : step > n + 1 ? n + 1 : step; /* longer steps do the same */
    const bool back = step < 0;
    const int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
    TL_TRY(slice_bound(j, bounds[0], n, back ? high : low, low, high, &start));
    TL_TRY(slice_bound(j, bounds[1], n, back ? low : high, low, high, &stop));
    const int64_t distance = back ? start - stop : stop - start;
    const int64_t stride = back ? -step : step;
    *out = (struct slice){start, step, distance > 0 ? (size_t)((distance - 1) / stride + 1) : 0};
    return TL_OK;
}

static tl_err slice_str(tl_jinja *j, tl_jval v, struct slice s, tl_jval *out) {
    tl_jstr *const str = v.as.str;
    if (s.step == 1) {
        const size_t begin = tl_jtext_offset(j, str, (size_t)s.start);
        const size_t end = tl_jtext_offset(j, str, (size_t)s.start + s.n);
        return tl_jstr_new(j, (tl_str){str->data + begin, end - begin}, out);
    }
    const tl_str text = {str->data, str->len};
    tl_jbuf b = {.j = j};
    size_t at = s.n > 0 ? tl_jtext_offset(j, str, (size_t)s.start) : 0;
    for (size_t i = 0; i < s.n; i++) {
        size_t end = at;
        (void)tl_utf8_next(text, &end);
        TL_TRY(tl_jbuf_add(&b, (tl_str){text.data + at, end - at}));
        for (int64_t k = s.step; k > 0 && at < text.len; k--) {
            (void)tl_utf8_next(text, &at);
        }
        for (int64_t k = s.step; k < 0 && at > 0; k++) {
            (void)tl_utf8_prev(text, &at);
        }
    }
    return tl_jbuf_take(&b, out);
}

static tl_err slice_range(tl_jinja *j, const struct tl_jrange *old, struct slice s, tl_jval *out) {
    struct tl_jrange *const range = tl_jinja_alloc(j, sizeof *range);
    if (range == NULL) {
        return TL_ERR_MEMORY;
    }
    bool overflow = __builtin_mul_overflow(old->step, s.step, &range->step);
    overflow |= __builtin_mul_overflow(range->step, (int64_t)s.n, &range->stop);
    overflow |= __builtin_mul_overflow(old->step, s.start, &range->start);
    overflow |= __builtin_add_overflow(range->start, old->start, &range->start);
    overflow |= __builtin_add_overflow(range->stop, range->start, &range->stop);
    range->n = s.n;
    *out = (tl_jval){.kind = TL_J_RANGE, .as.range = range};
    return overflow ? tl_jinja_fail(j, TL_ERR_UNSUPPORTED, "an integer beyond 64 bits") : TL_OK;
}

tl_err tl_jval_slice(tl_jinja *j, tl_jval object, const tl_jval bounds[3], tl_jval *out) {
    struct slice s = {0, 1, 0};
    size_t n = 0;
    if (object.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, object);
    }
    if (object.kind != TL_J_STR && object.kind != TL_J_LIST && object.kind != TL_J_TUPLE &&
        object.kind != TL_J_RANGE) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "'%s' object is not subscriptable",
                             tl_jval_type(object));
    }
    TL_TRY(tl_jval_len(j, object, &n));
    TL_TRY(slice_of(j, bounds, n, &s));
    if (object.kind == TL_J_STR) {
        return slice_str(j, object, s, out);
    }
    if (object.kind == TL_J_RANGE) {
        return slice_range(j, object.as.range, s, out);
    }
    TL_TRY(tl_jlist_new(j, object.kind, s.n, out));
    for (size_t i = 0; i < s.n; i++) {
        const int64_t at = s.start + (int64_t)i * s.step;
        TL_TRY(tl_jlist_add(j, *out, object.as.list->at[at]));
    }
    return TL_OK;
}
