/* Iteration. An iterator over a list, a string, a dict or a range keeps a position in it; one made
 * by a filter (map, select ...) or by a loop's condition asks another iterator and passes the items
 * through a step, one at a time, as Python's generators do: what is never asked for is never
 * computed. Chains of them are as deep as tl_jinja_enter allows. */
#include "jinja.h"

struct tl_jiter {
    tl_jval over; /* what is walked; for a step: unused */
    size_t at;    /* items, or bytes of a string */
    tl_jval source;
    tl_jiter *inner; /* opened at the first item, as a generator's body begins then */
    tl_jiter_step *step;
    void *state;
};

tl_jval tl_jrange_at(const struct tl_jrange *r, size_t i) {
    return tl_jint(r->start + (int64_t)i * r->step);
}

bool tl_jval_iterable(tl_jval v) {
    switch (v.kind) {
    case TL_J_UNDEFINED:
    case TL_J_STR:
    case TL_J_LIST:
    case TL_J_TUPLE:
    case TL_J_DICT:
    case TL_J_VIEW:
    case TL_J_RANGE:
    case TL_J_ITER:
        return true;
    default:
        return false;
    }
}

static tl_err iter_new(tl_jinja *j, tl_jiter template, tl_jiter **out) {
    tl_jiter *const it = tl_jinja_alloc(j, sizeof *it);
    if (it == NULL) {
        return TL_ERR_MEMORY;
    }
    *it = template;
    *out = it;
    return TL_OK;
}

tl_err tl_jiter_open(tl_jinja *j, tl_jval v, tl_jiter **out) {
    if (v.kind == TL_J_ITER) {
        *out = v.as.iter;
        return TL_OK;
    }
    if (!tl_jval_iterable(v)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "'%s' object is not iterable", tl_jval_type(v));
    }
    return iter_new(j, (tl_jiter){.over = v}, out);
}

tl_err tl_jiter_over(tl_jinja *j, tl_jval list, tl_jval *out) {
    tl_jiter *it = NULL;
    TL_TRY(iter_new(j, (tl_jiter){.over = list}, &it));
    *out = (tl_jval){.kind = TL_J_ITER, .as.iter = it};
    return TL_OK;
}

tl_err tl_jiter_through(tl_jinja *j, tl_jval source, tl_jiter_step *step, void *state,
                        tl_jval *out) {
    tl_jiter *it = NULL;
    TL_TRY(iter_new(j, (tl_jiter){.source = source, .step = step, .state = state}, &it));
    *out = (tl_jval){.kind = TL_J_ITER, .as.iter = it};
    return TL_OK;
}

static tl_err next_of_view(tl_jinja *j, const struct tl_jview *view, size_t i, tl_jval *out) {
    if (i >= view->dict->n) {
        return TL_OK;
    }
    const struct tl_jentry e = view->dict->at[i];
    if (view->what == TL_JVIEW_ITEMS) {
        return tl_jtuple2(j, e.key, e.value, out);
    }
    *out = view->what == TL_JVIEW_KEYS ? e.key : e.value;
    return TL_OK;
}

static tl_err next_plain(tl_jinja *j, tl_jiter *it, tl_jval *out) {
    const tl_jval v = it->over;
    switch (v.kind) {
    case TL_J_LIST:
    case TL_J_TUPLE:
        *out = it->at < v.as.list->n ? v.as.list->at[it->at++] : tl_jmissing();
        return TL_OK;
    case TL_J_DICT:
        *out = it->at < v.as.dict->n ? v.as.dict->at[it->at++].key : tl_jmissing();
        return TL_OK;
    case TL_J_VIEW:
        return next_of_view(j, v.as.view, it->at++, out);
    case TL_J_RANGE:
        *out = it->at < v.as.range->n ? tl_jrange_at(v.as.range, it->at) : tl_jmissing();
        it->at++;
        return TL_OK;
    case TL_J_STR:
        break;
    default: /* undefined */
        return TL_OK;
    }
    const size_t begin = it->at;
    if (begin == v.as.str->len) {
        return TL_OK;
    }
    (void)tl_utf8_next(tl_jval_text(v), &it->at);
    return tl_jstr_new(j, (tl_str){v.as.str->data + begin, it->at - begin}, out);
}

/* Asks until the step lets an item through. */
static tl_err next_through(tl_jinja *j, tl_jiter *it, tl_jval *out) {
    if (it->inner == NULL) {
        TL_TRY(tl_jiter_open(j, it->source, &it->inner));
    }
    for (;;) {
        TL_TRY(tl_jiter_next(j, it->inner, out));
        if (out->kind == TL_J_MISSING) {
            return TL_OK;
        }
        TL_TRY(it->step(j, it->state, out));
        if (out->kind != TL_J_MISSING) {
            return TL_OK;
        }
    }
}

tl_err tl_jiter_next(tl_jinja *j, tl_jiter *it, tl_jval *out) {
    *out = tl_jmissing();
    TL_TRY(tl_jinja_spend(j, 1));
    if (it->step == NULL) {
        return next_plain(j, it, out);
    }
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(next_through(j, it, out));
    tl_jinja_leave(j);
    return TL_OK;
}

tl_err tl_jiter_list(tl_jinja *j, tl_jval v, tl_jval *out) {
    tl_jiter *it = NULL;
    tl_jval list, item;
    TL_TRY(tl_jiter_open(j, v, &it));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &list));
    for (;;) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            break;
        }
        TL_TRY(tl_jlist_add(j, list, item));
    }
    *out = list;
    return TL_OK;
}
