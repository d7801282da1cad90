/* Calls: whatever can be called, and for what is built in, arguments to parameters. A parameter
 * list is a string, "s width first blank / ": the names before the slash have to be given, the
 * others are MISSING where they are not. */
#include "jinja.h"

#include <string.h>

/* ---- arguments ---- */

static tl_str next_word(const char **at) {
    while (**at == ' ') {
        ++*at;
    }
    const char *const begin = *at;
    while (**at != '\0' && **at != ' ') {
        ++*at;
    }
    return (tl_str){begin, (size_t)(*at - begin)};
}

struct parameters {
    tl_str name[TL_JINJA_PARAMS_MAX];
    size_t n, n_required;
};

static struct parameters parameters_of(const char *params) {
    struct parameters p = {.n_required = SIZE_MAX};
    for (;;) {
        const tl_str word = next_word(&params);
        if (word.len == 0) {
            break;
        }
        if (tl_str_is(word, "/")) {
            p.n_required = p.n;
        } else {
            TL_ASSERT(p.n < TL_JINJA_PARAMS_MAX);
            p.name[p.n++] = word;
        }
    }
    p.n_required = (size_t)tl_min_u64(p.n_required, p.n);
    return p;
}

static tl_err bind_named(tl_jinja *j, const tl_jbuiltin *fn, const struct parameters *p,
                         const tl_jargs *args, tl_jval *bound) {
    for (size_t i = 0; i < args->n_named; i++) {
        size_t k = 0;
        while (k < p->n && !tl_str_eq(p->name[k], args->named[i].name)) {
            k++;
        }
        const int n = (int)tl_min_u64(args->named[i].name.len, 100);
        if (k == p->n) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "%s() got an unexpected keyword argument '%.*s'",
                                 fn->name, n, args->named[i].name.data);
        }
        if (bound[k].kind != TL_J_MISSING) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "%s() got multiple values for argument '%.*s'",
                                 fn->name, n, args->named[i].name.data);
        }
        bound[k] = args->named[i].value;
    }
    return TL_OK;
}

/* `self` takes the first parameter unless it is MISSING. */
static tl_err bind(tl_jinja *j, const tl_jbuiltin *fn, tl_jval self, const tl_jargs *args,
                   tl_jval *bound) {
    const struct parameters p = parameters_of(fn->params);
    size_t n = 0;
    if (self.kind != TL_J_MISSING) {
        bound[n++] = self;
    }
    if (args->n > p.n - n) {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "%s() takes %zu positional arguments but %zu were given", fn->name,
                             p.n, args->n + n);
    }
    for (size_t i = 0; i < args->n; i++) {
        bound[n++] = args->at[i];
    }
    TL_TRY(bind_named(j, fn, &p, args, bound));
    for (size_t i = 0; i < p.n_required; i++) {
        if (bound[i].kind == TL_J_MISSING) {
            return tl_jinja_fail(j, TL_ERR_FORMAT,
                                 "%s() missing required positional argument: '%.*s'", fn->name,
                                 (int)p.name[i].len, p.name[i].data);
        }
    }
    return TL_OK;
}

tl_err tl_jarg_str(tl_jinja *j, tl_jval v, const char *what, tl_str *out) {
    if (v.kind != TL_J_STR) {
        return v.kind == TL_J_UNDEFINED ? tl_jundefined_fail(j, v)
                                        : tl_jinja_fail(j, TL_ERR_FORMAT, "%s must be str, not %s",
                                                        what, tl_jval_type(v));
    }
    *out = tl_jval_text(v);
    return TL_OK;
}

tl_err tl_jarg_int(tl_jinja *j, tl_jval v, const char *what, int64_t fallback, int64_t *out) {
    *out = fallback;
    if (v.kind == TL_J_MISSING || tl_jval_as_int(v, out)) {
        return TL_OK;
    }
    return v.kind == TL_J_UNDEFINED
               ? tl_jundefined_fail(j, v)
               : tl_jinja_fail(j, TL_ERR_FORMAT,
                               "%s: '%s' object cannot be interpreted as an integer", what,
                               tl_jval_type(v));
}

/* ---- calling ---- */

const tl_jbuiltin *tl_jbuiltin_find(const tl_jbuiltin *table, tl_str name) {
    for (; table->name != NULL; table++) {
        if (tl_str_is(name, table->name)) {
            return table;
        }
    }
    return NULL;
}

tl_err tl_jbuiltin_call(tl_jinja *j, const tl_jbuiltin *fn, tl_jval self, const tl_jargs *args,
                        tl_jval *out) {
    tl_jval bound[TL_JINJA_PARAMS_MAX];
    for (size_t i = 0; i < TL_JINJA_PARAMS_MAX; i++) {
        bound[i] = tl_jmissing();
    }
    if (fn->fn == NULL) {
        return tl_jinja_fail(j, TL_ERR_UNSUPPORTED, "'%s' is not supported", fn->name);
    }
    if (fn->params != NULL) {
        TL_TRY(bind(j, fn, self, args, bound));
    }
    const tl_jcall call = {.self = self, .bound = bound, .args = args};
    return fn->fn(j, &call, out);
}

static tl_err call_value(tl_jinja *j, tl_jval callee, const tl_jargs *args, tl_jval *out) {
    switch (callee.kind) {
    case TL_J_BUILTIN:
        return tl_jbuiltin_call(j, callee.as.bound->fn, callee.as.bound->self, args, out);
    case TL_J_MACRO:
        return tl_jmacro_call(j, callee.as.macro, args, out);
    case TL_J_UNDEFINED:
        return tl_jundefined_fail(j, callee);
    case TL_J_LOOP:
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "The loop must have the 'recursive' marker to be "
                             "called recursively.");
    case TL_J_JOINER:
        if (!callee.as.joiner->used) {
            callee.as.joiner->used = true;
            return tl_jstr_c(j, "", out);
        }
        *out = callee.as.joiner->separator;
        return TL_OK;
    default:
        return tl_jinja_fail(j, TL_ERR_FORMAT, "'%s' object is not callable", tl_jval_type(callee));
    }
}

tl_err tl_jval_call(tl_jinja *j, tl_jval callee, const tl_jargs *args, tl_jval *out) {
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(tl_jinja_spend(j, 1 + args->n + args->n_named));
    TL_TRY(call_value(j, callee, args, out));
    tl_jinja_leave(j);
    return TL_OK;
}
