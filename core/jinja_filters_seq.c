/* Filters on sequences. Those that Jinja2 writes as generators (map, select, ...) compute nothing
 * until they are walked; unique, batch and slice are walked at once here and give an iterator over
 * the result. Order and equality are Python's; strings compare without case unless asked. */
#include "jinja.h"

/* ---- ends ---- */

static tl_err filter_first(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jiter *it = NULL;
    TL_TRY(tl_jiter_open(j, call->bound[0], &it));
    TL_TRY(tl_jiter_next(j, it, out));
    return out->kind != TL_J_MISSING ? TL_OK
                                     : tl_jundefined_new(j, "No first item, sequence was empty.",
                                                         tl_jmissing(), tl_jmissing(), out);
}

static tl_err not_reversible(tl_jinja *j, tl_jval v) {
    return tl_jinja_fail(j, TL_ERR_FORMAT, "'%s' object is not reversible", tl_jval_type(v));
}

static tl_err filter_last(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval list;
    if (call->bound[0].kind == TL_J_ITER || !tl_jval_iterable(call->bound[0])) {
        return not_reversible(j, call->bound[0]);
    }
    if (call->bound[0].kind == TL_J_STR && call->bound[0].as.str->len > 0) {
        return tl_jval_item(j, call->bound[0], tl_jint(-1), out);
    }
    TL_TRY(tl_jiter_list(j, call->bound[0], &list));
    if (list.as.list->n == 0) {
        return tl_jundefined_new(j, "No last item, sequence was empty.", tl_jmissing(),
                                 tl_jmissing(), out);
    }
    *out = list.as.list->at[list.as.list->n - 1];
    return TL_OK;
}

static tl_err reverse_text(tl_jinja *j, tl_jval v, tl_jval *out) {
    const tl_jval bounds[3] = {tl_jmissing(), tl_jmissing(), tl_jint(-1)};
    return tl_jval_slice(j, v, bounds, out);
}

static tl_err filter_reverse(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval list;
    if (call->bound[0].kind == TL_J_STR) {
        return reverse_text(j, call->bound[0], out);
    }
    if (!tl_jval_iterable(call->bound[0])) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "argument must be iterable");
    }
    TL_TRY(tl_jiter_list(j, call->bound[0], &list));
    tl_jlist *const l = list.as.list;
    for (size_t i = 0; i < l->n / 2; i++) {
        const tl_jval swap = l->at[i];
        l->at[i] = l->at[l->n - 1 - i];
        l->at[l->n - 1 - i] = swap;
    }
    if (call->bound[0].kind != TL_J_ITER) {
        return tl_jiter_over(j, list, out);
    }
    *out = list;
    return TL_OK;
}

static tl_err filter_list(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return tl_jiter_list(j, call->bound[0], out);
}

/* Reached only when the value is walked and is no mapping. */
static tl_err step_no_items(tl_jinja *j, void *state, tl_jval *item) {
    (void)state;
    (void)item;
    return tl_jinja_fail(j, TL_ERR_FORMAT, "Can only get item pairs from a mapping.");
}

static tl_err filter_items(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval none;
    if (call->bound[0].kind == TL_J_UNDEFINED) {
        TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &none));
        return tl_jiter_over(j, none, out);
    }
    if (call->bound[0].kind != TL_J_DICT) {
        return tl_jiter_through(j, call->bound[0], step_no_items, NULL, out);
    }
    struct tl_jview *const view = tl_jinja_alloc(j, sizeof *view);
    if (view == NULL) {
        return TL_ERR_MEMORY;
    }
    *view = (struct tl_jview){call->bound[0].as.dict, TL_JVIEW_ITEMS};
    return tl_jiter_over(j, (tl_jval){.kind = TL_J_VIEW, .as.view = view}, out);
}

static tl_err filter_join(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval separator, item, path = call->bound[2];
    tl_jiter *it = NULL;
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jstr_c(j, "", &separator));
    if (call->bound[1].kind != TL_J_MISSING) {
        TL_TRY(tl_jval_str(j, call->bound[1], &separator));
    }
    TL_TRY(tl_jiter_open(j, call->bound[0], &it));
    for (bool first = true;; first = false) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            break;
        }
        if (path.kind != TL_J_MISSING) {
            TL_TRY(tl_jval_path(j, item, path, tl_jmissing(), &item));
        }
        TL_TRY(first ? TL_OK : tl_jbuf_add(&b, tl_jval_text(separator)));
        TL_TRY(tl_jval_print(&b, item));
    }
    return tl_jbuf_take(&b, out);
}

/* ---- map, select, reject ---- */

/* What is done with each item. The arguments are looked at when the first item is asked for, as a
 * generator's body begins then. */
struct step {
    tl_jargs args;         /* as given; when ready, those behind the function's name */
    const tl_jbuiltin *fn; /* NULL: the item itself (its truth) */
    tl_jval path, fallback;
    bool by_path, negated, ready;
};

/* The name at args.at[at], with the arguments behind it. */
static tl_err find_function(tl_jinja *j, size_t at, bool is_test, struct step *s) {
    tl_str name;
    TL_TRY(tl_jarg_str(j, s->args.at[at], is_test ? "name of a test" : "name of a filter", &name));
    s->fn = is_test ? tl_jtest_find(name) : tl_jfilter_find(name);
    if (s->fn == NULL) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "No %s named '%.*s'.", is_test ? "test" : "filter",
                             (int)tl_min_u64(name.len, 100), name.data);
    }
    s->args.at += at + 1;
    s->args.n -= at + 1;
    return TL_OK;
}

static tl_err prepare_map(tl_jinja *j, struct step *s) {
    s->ready = true;
    s->path = s->fallback = tl_jmissing();
    for (size_t i = 0; s->args.n == 0 && i < s->args.n_named; i++) {
        const struct tl_jnamed named = s->args.named[i];
        if (tl_str_is(named.name, "attribute")) {
            s->path = named.value;
            s->by_path = true;
        } else if (tl_str_is(named.name, "default")) {
            s->fallback = named.value;
        } else {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "Unexpected keyword argument '%.*s'",
                                 (int)tl_min_u64(named.name.len, 100), named.name.data);
        }
    }
    if (s->by_path) {
        return TL_OK;
    }
    if (s->args.n == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "map requires a filter argument");
    }
    return find_function(j, 0, false, s);
}

static tl_err step_map(tl_jinja *j, void *state, tl_jval *item) {
    struct step *const s = state;
    if (!s->ready) {
        TL_TRY(prepare_map(j, s));
    }
    if (s->by_path) {
        return tl_jval_path(j, *item, s->path, s->fallback, item);
    }
    return tl_jbuiltin_call(j, s->fn, *item, &s->args, item);
}

static tl_err prepare_select(tl_jinja *j, struct step *s) {
    s->ready = true;
    if (s->by_path && s->args.n == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "Missing parameter for attribute name");
    }
    s->path = s->by_path ? s->args.at[0] : tl_jmissing();
    return s->args.n > s->by_path ? find_function(j, s->by_path, true, s) : TL_OK;
}

static tl_err step_select(tl_jinja *j, void *state, tl_jval *item) {
    struct step *const s = state;
    if (!s->ready) {
        TL_TRY(prepare_select(j, s));
    }
    tl_jval subject = *item, verdict = tl_jmissing();
    if (s->by_path) {
        TL_TRY(tl_jval_path(j, *item, s->path, tl_jmissing(), &subject));
    }
    if (s->fn != NULL) {
        TL_TRY(tl_jbuiltin_call(j, s->fn, subject, &s->args, &verdict));
    }
    if (tl_jval_true(s->fn != NULL ? verdict : subject) == s->negated) {
        *item = tl_jmissing();
    }
    return TL_OK;
}

/* The call's value through `step`; what is false has no items. */
static tl_err through(tl_jinja *j, const tl_jcall *call, tl_jiter_step *step, struct step how,
                      tl_jval *out) {
    struct step *const s = tl_jinja_alloc(j, sizeof *s);
    tl_jval source = call->self;
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    if (!tl_jval_true(source)) {
        TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &source));
    }
    *s = how;
    s->args = *call->args;
    return tl_jiter_through(j, source, step, s, out);
}

static tl_err filter_map(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return through(j, call, step_map, (struct step){0}, out);
}

static tl_err filter_select(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return through(j, call, step_select, (struct step){.by_path = false, .negated = false}, out);
}

static tl_err filter_reject(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return through(j, call, step_select, (struct step){.by_path = false, .negated = true}, out);
}

static tl_err filter_selectattr(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return through(j, call, step_select, (struct step){.by_path = true, .negated = false}, out);
}

static tl_err filter_rejectattr(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return through(j, call, step_select, (struct step){.by_path = true, .negated = true}, out);
}

/* ---- order ---- */

/* Merges two sorted runs; of equals the left one comes first in both directions. */
static tl_err merge(tl_jinja *j, const tl_jval *keys, const size_t *from, size_t *to, size_t left,
                    size_t middle, size_t right, bool reverse) {
    size_t a = left, b = middle;
    for (size_t i = left; i < right; i++) {
        bool take_right = a == middle;
        if (a < middle && b < right) {
            const tl_jop op = reverse ? TL_JOP_GT : TL_JOP_LT;
            TL_TRY(tl_jval_compare(j, op, keys[from[b]], keys[from[a]], &take_right));
        }
        to[i] = take_right ? from[b++] : from[a++];
    }
    return TL_OK;
}

tl_err tl_jvals_sort(tl_jinja *j, tl_jval *keys, tl_jval *values, size_t n, bool reverse) {
    size_t *from = tl_jinja_alloc(j, n * sizeof *from), *to = tl_jinja_alloc(j, n * sizeof *to);
    tl_jval *const copy = tl_jinja_alloc(j, n * sizeof *copy);
    if (from == NULL || to == NULL || copy == NULL) {
        return TL_ERR_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        from[i] = i;
        copy[i] = values[i];
    }
    for (size_t width = 1; width < n; width *= 2) {
        TL_TRY(tl_jinja_spend(j, n));
        for (size_t left = 0; left < n; left += 2 * width) {
            const size_t middle = (size_t)tl_min_u64(left + width, n);
            const size_t right = (size_t)tl_min_u64(left + 2 * width, n);
            TL_TRY(merge(j, keys, from, to, left, middle, right, reverse));
        }
        size_t *const swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; i < n; i++) {
        values[i] = copy[from[i]];
    }
    return TL_OK;
}

static tl_err ignore_case(tl_jinja *j, tl_jval v, bool case_sensitive, tl_jval *out) {
    *out = v;
    if (case_sensitive || v.kind != TL_J_STR) {
        return TL_OK;
    }
    tl_jbuf b = {.j = j};
    TL_TRY(tl_jtext_lower(&b, tl_jval_text(v)));
    return tl_jbuf_take(&b, out);
}

/* What an item is compared by: itself or what stands at `path` in it. */
static tl_err key_of(tl_jinja *j, tl_jval item, tl_jval path, tl_jval fallback, bool case_sensitive,
                     tl_jval *out) {
    *out = item;
    if (path.kind != TL_J_MISSING) {
        TL_TRY(tl_jval_path(j, item, path, fallback, out));
    }
    return ignore_case(j, *out, case_sensitive, out);
}

/* sort's attribute may name several, with commas; the key is the list of what they lead to. Being a
 * list even for one, equal values are never asked which is less: [none, none] sorts. */
static tl_err sort_key(tl_jinja *j, tl_jval item, tl_jval path, bool case_sensitive, tl_jval *out) {
    tl_jval part;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 1, out));
    if (path.kind != TL_J_STR) {
        TL_TRY(key_of(j, item, path, tl_jmissing(), case_sensitive, &part));
        return tl_jlist_add(j, *out, part);
    }
    const tl_str text = tl_jval_text(path);
    for (size_t begin = 0; begin <= text.len;) {
        size_t end = 0;
        TL_TRY(tl_jtext_find(j, text, tl_str_from(","), begin, &end));
        end = end == SIZE_MAX ? text.len : end;
        TL_TRY(tl_jstr_new(j, (tl_str){text.data + begin, end - begin}, &part));
        TL_TRY(key_of(j, item, part, tl_jmissing(), case_sensitive, &part));
        TL_TRY(tl_jlist_add(j, *out, part));
        begin = end + 1;
    }
    return TL_OK;
}

static tl_err filter_sort(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval keys, key;
    TL_TRY(tl_jiter_list(j, call->bound[0], out));
    const tl_jlist *const list = out->as.list;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, list->n, &keys));
    for (size_t i = 0; i < list->n; i++) {
        TL_TRY(sort_key(j, list->at[i], call->bound[3], tl_jval_true(call->bound[2]), &key));
        TL_TRY(tl_jlist_add(j, keys, key));
    }
    return tl_jvals_sort(j, keys.as.list->at, list->at, list->n, tl_jval_true(call->bound[1]));
}

static tl_err filter_dictsort(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str by = tl_str_from("key");
    tl_jval keys, key, pair;
    if (call->bound[2].kind != TL_J_MISSING) {
        TL_TRY(tl_jarg_str(j, call->bound[2], "dictsort: by", &by));
    }
    if (!tl_str_is(by, "key") && !tl_str_is(by, "value")) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "You can only sort by either \"key\" or \"value\"");
    }
    if (call->bound[0].kind != TL_J_DICT) {
        return call->bound[0].kind == TL_J_UNDEFINED
                   ? tl_jundefined_fail(j, call->bound[0])
                   : tl_jinja_fail(j, TL_ERR_FORMAT, "'%s' object has no attribute 'items'",
                                   tl_jval_type(call->bound[0]));
    }
    const tl_jdict *const d = call->bound[0].as.dict;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, d->n, out));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, d->n, &keys));
    for (size_t i = 0; i < d->n; i++) {
        const tl_jval subject = tl_str_is(by, "key") ? d->at[i].key : d->at[i].value;
        TL_TRY(ignore_case(j, subject, tl_jval_true(call->bound[1]), &key));
        TL_TRY(tl_jtuple2(j, d->at[i].key, d->at[i].value, &pair));
        TL_TRY(tl_jlist_add(j, keys, key));
        TL_TRY(tl_jlist_add(j, *out, pair));
    }
    return tl_jvals_sort(j, keys.as.list->at, out->as.list->at, d->n, tl_jval_true(call->bound[3]));
}

static tl_err extreme(tl_jinja *j, const tl_jcall *call, tl_jop op, tl_jval *out) {
    const bool case_sensitive = tl_jval_true(call->bound[1]);
    tl_jiter *it = NULL;
    tl_jval item, key, best = tl_jmissing();
    TL_TRY(tl_jiter_open(j, call->bound[0], &it));
    for (*out = tl_jmissing();;) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            break;
        }
        bool better = out->kind == TL_J_MISSING;
        TL_TRY(key_of(j, item, call->bound[2], tl_jmissing(), case_sensitive, &key));
        if (!better) {
            TL_TRY(tl_jval_compare(j, op, key, best, &better));
        }
        *out = better ? item : *out;
        best = better ? key : best;
    }
    return out->kind != TL_J_MISSING
               ? TL_OK
               : tl_jundefined_new(j, "No aggregated item, sequence was empty.", tl_jmissing(),
                                   tl_jmissing(), out);
}

static tl_err filter_min(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return extreme(j, call, TL_JOP_LT, out);
}

static tl_err filter_max(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return extreme(j, call, TL_JOP_GT, out);
}

/* ---- sums and groups ---- */

static tl_err filter_sum(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jiter *it = NULL;
    tl_jval item;
    *out = call->bound[2].kind != TL_J_MISSING ? call->bound[2] : tl_jint(0);
    if (out->kind == TL_J_STR) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "sum() can't sum strings");
    }
    TL_TRY(tl_jiter_open(j, call->bound[0], &it));
    for (;;) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            return TL_OK;
        }
        if (call->bound[1].kind != TL_J_MISSING) {
            TL_TRY(tl_jval_path(j, item, call->bound[1], tl_jmissing(), &item));
        }
        TL_TRY(tl_jval_arith(j, TL_JOP_ADD, *out, item, out));
    }
}

static tl_err filter_unique(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jval list, seen, item, key;
    tl_jiter *it = NULL;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &list));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &seen));
    TL_TRY(tl_jiter_open(j, call->bound[0], &it));
    for (;;) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            return tl_jiter_over(j, list, out);
        }
        TL_TRY(key_of(j, item, call->bound[2], tl_jmissing(), tl_jval_true(call->bound[1]), &key));
        if (!tl_jval_hashable(key)) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "unhashable type: '%s'", tl_jval_type(key));
        }
        bool known = false;
        TL_TRY(tl_jval_compare(j, TL_JOP_IN, key, seen, &known));
        if (!known) {
            TL_TRY(tl_jlist_add(j, seen, key));
            TL_TRY(tl_jlist_add(j, list, item));
        }
    }
}

static tl_err filter_batch(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval fill = call->bound[2];
    int64_t n_line = 0;
    tl_jval items, lists, line = tl_jmissing();
    TL_TRY(tl_jarg_int(j, call->bound[1], "batch: linecount", 1, &n_line));
    TL_TRY(tl_jiter_list(j, call->bound[0], &items));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &lists));
    for (size_t i = 0; i < items.as.list->n; i++) {
        if (line.kind == TL_J_MISSING || (int64_t)line.as.list->n == n_line) {
            if (n_line == 0 && line.kind == TL_J_MISSING) { /* an empty line comes first */
                TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &line));
                TL_TRY(tl_jlist_add(j, lists, line));
            }
            TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &line));
            TL_TRY(tl_jlist_add(j, lists, line));
        }
        TL_TRY(tl_jlist_add(j, line, items.as.list->at[i]));
    }
    while (line.kind != TL_J_MISSING && fill.kind != TL_J_MISSING && fill.kind != TL_J_NONE &&
           (int64_t)line.as.list->n < n_line) {
        TL_TRY(tl_jinja_spend(j, 1));
        TL_TRY(tl_jlist_add(j, line, fill));
    }
    return tl_jiter_over(j, lists, out);
}

static tl_err filter_slice(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval fill = call->bound[2];
    int64_t n_slices = 0;
    tl_jval items, lists, line;
    TL_TRY(tl_jarg_int(j, call->bound[1], "slice: slices", 1, &n_slices));
    TL_TRY(tl_jiter_list(j, call->bound[0], &items));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, &lists));
    if (n_slices == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "integer division or modulo by zero");
    }
    const size_t n = items.as.list->n;
    size_t at = 0;
    for (int64_t i = 0; i < n_slices; i++) {
        const bool longer = (size_t)i < n % (size_t)n_slices;
        const size_t n_line = n / (size_t)n_slices + longer;
        TL_TRY(tl_jinja_spend(j, 1));
        TL_TRY(tl_jlist_new(j, TL_J_LIST, n_line, &line));
        for (size_t k = 0; k < n_line; k++) {
            TL_TRY(tl_jlist_add(j, line, items.as.list->at[at++]));
        }
        if (!longer && fill.kind != TL_J_MISSING && fill.kind != TL_J_NONE) {
            TL_TRY(tl_jlist_add(j, line, fill));
        }
        TL_TRY(tl_jlist_add(j, lists, line));
    }
    return tl_jiter_over(j, lists, out);
}

static tl_err group_new(tl_jinja *j, tl_jval lists, tl_jval grouper, tl_jval *members) {
    tl_jval group;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, members));
    TL_TRY(tl_jtuple2(j, grouper, *members, &group));
    group.as.list->is_group = true;
    return tl_jlist_add(j, lists, group);
}

static tl_err filter_groupby(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval path = call->bound[1], fallback = call->bound[2];
    const bool case_sensitive = tl_jval_true(call->bound[3]);
    tl_jval items, keys, key, grouper, last = tl_jmissing(), members = tl_jmissing();
    TL_TRY(tl_jiter_list(j, call->bound[0], &items));
    const tl_jlist *const list = items.as.list;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, list->n, &keys));
    for (size_t i = 0; i < list->n; i++) {
        TL_TRY(key_of(j, list->at[i], path, fallback, case_sensitive, &key));
        TL_TRY(tl_jlist_add(j, keys, key));
    }
    TL_TRY(tl_jvals_sort(j, keys.as.list->at, list->at, list->n, false));
    TL_TRY(tl_jlist_new(j, TL_J_LIST, 0, out));
    for (size_t i = 0; i < list->n; i++) {
        bool same = false;
        TL_TRY(key_of(j, list->at[i], path, fallback, case_sensitive, &key));
        TL_TRY(tl_jval_equal(j, key, last, &same));
        if (!same || i == 0) {
            TL_TRY(tl_jval_path(j, list->at[i], path, fallback, &grouper));
            TL_TRY(group_new(j, *out, grouper, &members));
            last = key;
        }
        TL_TRY(tl_jlist_add(j, members, list->at[i]));
    }
    return TL_OK;
}

const tl_jbuiltin tl_jfilters_seq[] = {
    {"batch", "value linecount / fill_with", filter_batch},
    {"dictsort", "value / case_sensitive by reverse", filter_dictsort},
    {"first", "seq", filter_first},
    {"groupby", "value attribute / default case_sensitive", filter_groupby},
    {"items", "value", filter_items},
    {"join", "value / d attribute", filter_join},
    {"last", "seq", filter_last},
    {"list", "value", filter_list},
    {"map", NULL, filter_map},
    {"max", "value / case_sensitive attribute", filter_max},
    {"min", "value / case_sensitive attribute", filter_min},
    {"reject", NULL, filter_reject},
    {"rejectattr", NULL, filter_rejectattr},
    {"reverse", "value", filter_reverse},
    {"select", NULL, filter_select},
    {"selectattr", NULL, filter_selectattr},
    {"slice", "value slices / fill_with", filter_slice},
    {"sort", "value / reverse case_sensitive attribute", filter_sort},
    {"sum", "iterable / attribute start", filter_sum},
    {"unique", "value / case_sensitive attribute", filter_unique},
    {NULL, NULL, NULL},
};
