/* The functions a template finds without being given them: Jinja2's, and the two that Hugging Face
 * adds, raise_exception and strftime_now. */
#include "jinja.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- range, dict, namespace ---- */

static tl_err global_range(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    struct tl_jrange *const range = tl_jinja_alloc(j, sizeof *range);
    int64_t given[3] = {0, 0, 1};
    if (range == NULL) {
        return TL_ERR_MEMORY;
    }
    if (call->args->n == 0 || call->args->n > 3 || call->args->n_named > 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "range expected 1 to 3 arguments, got %zu",
                             call->args->n);
    }
    for (size_t i = 0; i < call->args->n; i++) {
        TL_TRY(tl_jarg_int(j, call->args->at[i], "range", 0, &given[call->args->n == 1 ? 1 : i]));
    }
    const uint64_t start = (uint64_t)given[0], stop = (uint64_t)given[1], step = (uint64_t)given[2];
    if (step == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "range() arg 3 must not be zero");
    }
    const bool forward = given[2] > 0;
    uint64_t n = 0;
    if (forward ? given[0] < given[1] : given[0] > given[1]) {
        n = forward ? (stop - start - 1) / step + 1 : (start - stop - 1) / (0 - step) + 1;
    }
    if (n > TL_JINJA_RANGE_MAX) {
        return tl_jinja_fail(j, TL_ERR_MEMORY,
                             "Range too big. The sandbox blocks ranges larger than %d.",
                             TL_JINJA_RANGE_MAX);
    }
    *range = (struct tl_jrange){given[0], given[1], given[2], (size_t)n};
    *out = (tl_jval){.kind = TL_J_RANGE, .as.range = range};
    return TL_OK;
}

static tl_err add_pairs(tl_jinja *j, tl_jval pairs, tl_jdict *d) {
    tl_jiter *it = NULL, *of_pair = NULL;
    tl_jval pair, item[3];
    TL_TRY(tl_jiter_open(j, pairs, &it));
    for (;;) {
        TL_TRY(tl_jiter_next(j, it, &pair));
        if (pair.kind == TL_J_MISSING) {
            return TL_OK;
        }
        TL_TRY(tl_jiter_open(j, pair, &of_pair));
        for (unsigned i = 0; i < 3; i++) {
            TL_TRY(tl_jiter_next(j, of_pair, &item[i]));
        }
        if (item[1].kind == TL_J_MISSING || item[2].kind != TL_J_MISSING) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "a dict is made from pairs");
        }
        TL_TRY(tl_jdict_set(j, d, item[0], item[1]));
    }
}

/* dict(mapping or pairs, name=value ...) */
static tl_err dict_of(tl_jinja *j, const tl_jcall *call, tl_jkind kind, tl_jval *out) {
    const tl_jargs *const args = call->args;
    TL_TRY(tl_jdict_new(j, kind, out));
    if (args->n > 1) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "dict expected at most 1 argument, got %zu",
                             args->n);
    }
    if (args->n == 1 && args->at[0].kind == TL_J_DICT) {
        const tl_jdict *const d = args->at[0].as.dict;
        for (size_t i = 0; i < d->n; i++) {
            TL_TRY(tl_jdict_set(j, out->as.dict, d->at[i].key, d->at[i].value));
        }
    } else if (args->n == 1) {
        TL_TRY(add_pairs(j, args->at[0], out->as.dict));
    }
    for (size_t i = 0; i < args->n_named; i++) {
        tl_jval key;
        TL_TRY(tl_jstr_new(j, args->named[i].name, &key));
        TL_TRY(tl_jdict_set(j, out->as.dict, key, args->named[i].value));
    }
    return TL_OK;
}

static tl_err global_dict(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return dict_of(j, call, TL_J_DICT, out);
}

static tl_err global_namespace(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    TL_TRY(dict_of(j, call, TL_J_NAMESPACE, out));
    for (size_t i = 0; i < out->as.dict->n; i++) {
        const tl_jval key = out->as.dict->at[i].key;
        if (key.kind == TL_J_STR && key.as.str->len > 0 && key.as.str->data[0] == '_') {
            return tl_jinja_fail(
                j, TL_ERR_FORMAT,
                "a namespace cannot have attributes that begin with an underscore");
        }
    }
    return TL_OK;
}

/* ---- cycler, joiner ---- */

static tl_err global_cycler(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    struct tl_jcycler *const c = tl_jinja_alloc(j, sizeof *c);
    tl_jval items;
    if (c == NULL) {
        return TL_ERR_MEMORY;
    }
    if (call->args->n == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "at least one item has to be provided");
    }
    TL_TRY(tl_jlist_new(j, TL_J_LIST, call->args->n, &items));
    for (size_t i = 0; i < call->args->n; i++) {
        TL_TRY(tl_jlist_add(j, items, call->args->at[i]));
    }
    c->items = items.as.list;
    *out = (tl_jval){.kind = TL_J_CYCLER, .as.cycler = c};
    return TL_OK;
}

static tl_err global_joiner(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    struct tl_jjoiner *const joiner = tl_jinja_alloc(j, sizeof *joiner);
    if (joiner == NULL) {
        return TL_ERR_MEMORY;
    }
    joiner->separator = call->bound[0];
    if (joiner->separator.kind == TL_J_MISSING) {
        TL_TRY(tl_jstr_c(j, ", ", &joiner->separator));
    }
    *out = (tl_jval){.kind = TL_J_JOINER, .as.joiner = joiner};
    return TL_OK;
}

/* ---- Hugging Face's two ---- */

static tl_err global_raise(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    TL_TRY(tl_jval_str(j, call->bound[0], out));
    return tl_jinja_raise(j, tl_jval_text(*out));
}

/* "26 Jul 2024" */
static bool parse_date(const char *text, struct tm *out) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int day = 0, year = 0, end = 0;
    char month[4] = {0};
    if (sscanf(text, "%2d %3[A-Za-z] %4d%n", &day, month, &year, &end) != 3 || text[end] != '\0' ||
        strlen(month) != 3) {
        return false;
    }
    const char *const found = strstr(months, month);
    if (found == NULL || (found - months) % 3 != 0 || day < 1 || day > 31 || year < 1) {
        return false;
    }
    const int m = (int)(found - months) / 3;
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    const int days = before[m] + day - 1 + (leap && m > 1);
    const int past = year - 1;
    *out = (struct tm){.tm_mday = day,
                       .tm_mon = m,
                       .tm_year = year - 1900,
                       .tm_yday = days,
                       .tm_isdst = -1,
                       /* 1 January of the year 1 was a Monday */
                       .tm_wday = (past * 365 + past / 4 - past / 100 + past / 400 + days + 1) % 7};
    return true;
}

/* Python fills in what C does not know: the fraction of a second, and no time zone. */
static tl_err python_format(tl_jbuf *b, tl_str format) {
    for (size_t i = 0; i < format.len; i++) {
        const char next = format.data[i] == '%' && i + 1 < format.len ? format.data[i + 1] : '\0';
        if (next == 'f') {
            TL_TRY(tl_jbuf_add_c(b, "000000"));
        } else if (next != 'z' && next != 'Z') {
            TL_TRY(tl_jbuf_add(b, (tl_str){format.data + i, next != '\0' ? 2 : 1}));
        }
        i += next != '\0';
    }
    return tl_jbuf_add(b, (tl_str){"|", 2}); /* the mark tells an empty result from a failure */
}

static tl_err global_strftime(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_str format;
    struct tm day = {0};
    TL_TRY(tl_jarg_str(j, call->bound[0], "strftime() argument 1", &format));
    if (j->date != NULL) {
        if (!parse_date(j->date, &day)) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "the date '%s' is not like '26 Jul 2024'",
                                 j->date);
        }
    } else {
        const time_t now = time(NULL);
        localtime_r(&now, &day);
    }
    tl_jbuf b = {.j = j};
    TL_TRY(python_format(&b, format));
    const size_t cap = 256 + 32 * b.len;
    char *const text = tl_jinja_alloc(j, cap);
    if (text == NULL) {
        return TL_ERR_MEMORY;
    }
    const size_t n = strftime(text, cap, b.data, &day); /* in the C locale */
    if (n == 0 || !tl_utf8_valid((tl_str){text, n - 1})) {
        return tl_jinja_fail(j, TL_ERR_UNSUPPORTED, "strftime_now: the format");
    }
    return tl_jstr_new(j, (tl_str){text, n - 1}, out);
}

static const tl_jbuiltin globals[] = {
    {"cycler", NULL, global_cycler},
    {"dict", NULL, global_dict},
    {"joiner", "/ sep", global_joiner},
    {"lipsum", NULL, NULL},
    {"namespace", NULL, global_namespace},
    {"raise_exception", "message", global_raise},
    {"range", NULL, global_range},
    {"strftime_now", "format", global_strftime},
    {NULL, NULL, NULL},
};

const tl_jbuiltin *tl_jglobal_find(tl_str name) { return tl_jbuiltin_find(globals, name); }
