/* Operators between values, with Python's rules: bool counts as int, int and float mix, / always
 * gives a float, // and % round down, sequences repeat and concatenate, lists compare item by item.
 * One departure: integers have 64 bits, and what does not fit is an error. */
#include "jinja.h"

#include <math.h>
#include <string.h>

/* ---- kinds ---- */

static bool is_integer(tl_jval v) { return v.kind == TL_J_BOOL || v.kind == TL_J_INT; }

static int64_t integer_of(tl_jval v) { return v.kind == TL_J_BOOL ? v.as.truth : v.as.integer; }

static double real_of(tl_jval v) {
    return v.kind == TL_J_FLOAT ? v.as.real : (double)integer_of(v);
}

bool tl_jval_as_int(tl_jval v, int64_t *out) {
    if (!is_integer(v)) {
        return false;
    }
    *out = integer_of(v);
    return true;
}

bool tl_jval_true(tl_jval v) {
    switch (v.kind) {
    case TL_J_MISSING:
    case TL_J_UNDEFINED:
    case TL_J_NONE:
        return false;
    case TL_J_BOOL:
        return v.as.truth;
    case TL_J_INT:
        return v.as.integer != 0;
    case TL_J_FLOAT:
        return v.as.real != 0;
    case TL_J_STR:
        return v.as.str->len > 0;
    case TL_J_LIST:
    case TL_J_TUPLE:
        return v.as.list->n > 0;
    case TL_J_DICT:
        return v.as.dict->n > 0;
    case TL_J_VIEW:
        return v.as.view->dict->n > 0;
    case TL_J_RANGE:
        return v.as.range->n > 0;
    default:
        return true;
    }
}

/* ---- arithmetic ---- */

static const char *op_text(tl_jop op) {
    static const char *const text[] = {"+",  "-", "*",  "/", "//", "%",  "** or pow()", "==",
                                       "!=", "<", "<=", ">", ">=", "in", "not in"};
    return text[op];
}

static tl_err no_operator(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b) {
    return tl_jinja_fail(j, TL_ERR_FORMAT, "unsupported operand type(s) for %s: '%s' and '%s'",
                         op_text(op), tl_jval_type(a), tl_jval_type(b));
}

static tl_err too_large(tl_jinja *j) {
    return tl_jinja_fail(j, TL_ERR_UNSUPPORTED, "an integer beyond 64 bits");
}

static tl_err by_zero(tl_jinja *j) { return tl_jinja_fail(j, TL_ERR_FORMAT, "division by zero"); }

static tl_err int_pow(tl_jinja *j, int64_t base, int64_t exponent, tl_jval *out) {
    if (exponent < 0) {
        if (base == 0) {
            return by_zero(j);
        }
        *out = tl_jfloat(pow((double)base, (double)exponent));
        return TL_OK;
    }
    int64_t result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) {
            return too_large(j);
        }
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) {
            return too_large(j);
        }
    }
    *out = tl_jint(result);
    return TL_OK;
}

static tl_err int_divide(tl_jinja *j, tl_jop op, int64_t a, int64_t b, tl_jval *out) {
    if (b == 0) {
        return by_zero(j);
    }
    if (b == -1) { /* the one quotient that overflows, and the one remainder that traps */
        int64_t negated = 0;
        if (op == TL_JOP_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &negated)) {
            return too_large(j);
        }
        *out = tl_jint(negated);
        return TL_OK;
    }
    const bool round_down = a % b != 0 && (a % b < 0) != (b < 0);
    *out = tl_jint(op == TL_JOP_FLOORDIV ? a / b - round_down : a % b + (round_down ? b : 0));
    return TL_OK;
}

static tl_err int_arith(tl_jinja *j, tl_jop op, int64_t a, int64_t b, tl_jval *out) {
    int64_t result = 0;
    bool overflow = false;
    switch (op) {
    case TL_JOP_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case TL_JOP_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case TL_JOP_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case TL_JOP_DIV:
        *out = tl_jfloat((double)a / (double)b);
        return b == 0 ? by_zero(j) : TL_OK;
    case TL_JOP_POW:
        return int_pow(j, a, b, out);
    default:
        return int_divide(j, op, a, b, out);
    }
    *out = tl_jint(result);
    return overflow ? too_large(j) : TL_OK;
}

/* Quotient rounded down, and the remainder that goes with it, as Python computes them. */
static double float_floordiv(double a, double b, double *remainder) {
    double mod = fmod(a, b), quotient = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            quotient -= 1;
        }
    } else {
        mod = copysign(0.0, b);
    }
    *remainder = mod;
    double whole = floor(quotient);
    if (quotient - whole > 0.5) {
        whole += 1;
    }
    return quotient != 0 ? whole : copysign(0.0, a / b);
}

static tl_err float_arith(tl_jinja *j, tl_jop op, double a, double b, tl_jval *out) {
    double remainder = 0;
    if (b == 0 && (op == TL_JOP_DIV || op == TL_JOP_FLOORDIV || op == TL_JOP_MOD)) {
        return by_zero(j);
    }
    switch (op) {
    case TL_JOP_ADD:
        *out = tl_jfloat(a + b);
        return TL_OK;
    case TL_JOP_SUB:
        *out = tl_jfloat(a - b);
        return TL_OK;
    case TL_JOP_MUL:
        *out = tl_jfloat(a * b);
        return TL_OK;
    case TL_JOP_DIV:
        *out = tl_jfloat(a / b);
        return TL_OK;
    case TL_JOP_FLOORDIV:
        *out = tl_jfloat(float_floordiv(a, b, &remainder));
        return TL_OK;
    case TL_JOP_MOD:
        (void)float_floordiv(a, b, &remainder);
        *out = tl_jfloat(remainder);
        return TL_OK;
    default:
        if ((a < 0 && b != floor(b)) || (a == 0 && b < 0)) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "a power that is not a real number");
        }
        *out = tl_jfloat(pow(a, b));
        return isinf(out->as.real) && !isinf(a) && !isinf(b)
                   ? tl_jinja_fail(j, TL_ERR_FORMAT, "Result too large")
                   : TL_OK;
    }
}

static tl_err repeat(tl_jinja *j, tl_jval v, int64_t n_times, tl_jval *out) {
    const size_t n = n_times < 0 ? 0 : (size_t)n_times;
    if (v.kind == TL_J_STR) {
        tl_jbuf b = {.j = j};
        TL_TRY(tl_jbuf_add_many(&b, tl_jval_text(v), n));
        return tl_jbuf_take(&b, out);
    }
    const tl_jlist *const list = v.as.list;
    TL_TRY(tl_jlist_new(j, v.kind, 0, out));
    for (size_t i = 0; list->n > 0 && i < n; i++) {
        TL_TRY(tl_jinja_spend(j, 1));
        for (size_t k = 0; k < list->n; k++) {
            TL_TRY(tl_jlist_add(j, *out, list->at[k]));
        }
    }
    return TL_OK;
}

static tl_err concat(tl_jinja *j, tl_jval a, tl_jval b, tl_jval *out) {
    if (a.kind != TL_J_STR) {
        TL_TRY(tl_jlist_new(j, a.kind, a.as.list->n + b.as.list->n, out));
        for (size_t i = 0; i < a.as.list->n; i++) {
            TL_TRY(tl_jlist_add(j, *out, a.as.list->at[i]));
        }
        for (size_t i = 0; i < b.as.list->n; i++) {
            TL_TRY(tl_jlist_add(j, *out, b.as.list->at[i]));
        }
        return TL_OK;
    }
    const bool markup = a.as.str->markup || b.as.str->markup;
    if (markup && !a.as.str->markup) {
        TL_TRY(tl_jval_escape(j, a, &a));
    }
    if (markup && !b.as.str->markup) {
        TL_TRY(tl_jval_escape(j, b, &b));
    }
    tl_jbuf joined = {.j = j};
    TL_TRY(tl_jbuf_add(&joined, tl_jval_text(a)));
    TL_TRY(tl_jbuf_add(&joined, tl_jval_text(b)));
    TL_TRY(tl_jbuf_take(&joined, out));
    out->as.str->markup = markup;
    return TL_OK;
}

static bool is_sequence(tl_jval v) {
    return v.kind == TL_J_STR || v.kind == TL_J_LIST || v.kind == TL_J_TUPLE;
}

tl_err tl_jval_arith(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b, tl_jval *out) {
    if (op == TL_JOP_MOD && a.kind == TL_J_STR) {
        return tl_jformat_percent(j, tl_jval_text(a), b, out);
    }
    if (a.kind == TL_J_UNDEFINED || b.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, a.kind == TL_J_UNDEFINED ? a : b);
    }
    if (is_integer(a) && is_integer(b)) {
        return int_arith(j, op, integer_of(a), integer_of(b), out);
    }
    if (tl_jval_is_number(a) && tl_jval_is_number(b)) {
        return float_arith(j, op, real_of(a), real_of(b), out);
    }
    if (op == TL_JOP_MUL && is_sequence(a) && is_integer(b)) {
        return repeat(j, a, integer_of(b), out);
    }
    if (op == TL_JOP_MUL && is_integer(a) && is_sequence(b)) {
        return repeat(j, b, integer_of(a), out);
    }
    if (op == TL_JOP_ADD && is_sequence(a)) {
        if (a.kind == b.kind) {
            return concat(j, a, b, out);
        }
        return tl_jinja_fail(j, TL_ERR_FORMAT, "can only concatenate %s (not \"%s\") to %s",
                             tl_jval_type(a), tl_jval_type(b), tl_jval_type(a));
    }
    return no_operator(j, op, a, b);
}

tl_err tl_jval_negate(tl_jinja *j, tl_jval v, tl_jval *out) {
    if (is_integer(v)) {
        return int_arith(j, TL_JOP_SUB, 0, integer_of(v), out);
    }
    if (v.kind == TL_J_FLOAT) {
        *out = tl_jfloat(-v.as.real);
        return TL_OK;
    }
    if (v.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, v);
    }
    return tl_jinja_fail(j, TL_ERR_FORMAT, "bad operand type for unary -: '%s'", tl_jval_type(v));
}

/* ---- equality ---- */

static tl_err equal_lists(tl_jinja *j, const tl_jlist *a, const tl_jlist *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        TL_TRY(tl_jval_equal(j, a->at[i], b->at[i], out));
    }
    return TL_OK;
}

static tl_err equal_dicts(tl_jinja *j, const tl_jdict *a, const tl_jdict *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        tl_jval *other = NULL;
        TL_TRY(tl_jdict_find(j, b, a->at[i].key, &other));
        *out = other != NULL;
        if (other != NULL) {
            TL_TRY(tl_jval_equal(j, a->at[i].value, *other, out));
        }
    }
    return TL_OK;
}

static tl_err equal_same_kind(tl_jinja *j, tl_jval a, tl_jval b, bool *out) {
    switch (a.kind) {
    case TL_J_UNDEFINED:
    case TL_J_NONE:
        *out = true;
        return TL_OK;
    case TL_J_STR:
        *out = tl_str_eq(tl_jval_text(a), tl_jval_text(b));
        return TL_OK;
    case TL_J_LIST:
    case TL_J_TUPLE:
        return equal_lists(j, a.as.list, b.as.list, out);
    case TL_J_DICT:
        return equal_dicts(j, a.as.dict, b.as.dict, out);
    case TL_J_RANGE:
        *out = a.as.range->n == b.as.range->n &&
               (a.as.range->n == 0 || a.as.range->start == b.as.range->start) &&
               (a.as.range->n <= 1 || a.as.range->step == b.as.range->step);
        return TL_OK;
    case TL_J_BUILTIN:
        *out = a.as.bound == b.as.bound ||
               (a.as.bound->fn == b.as.bound->fn && a.as.bound->self.kind == TL_J_MISSING);
        return TL_OK;
    default:
        *out = (const void *)a.as.list == (const void *)b.as.list; /* the same object */
        return TL_OK;
    }
}

tl_err tl_jval_equal(tl_jinja *j, tl_jval a, tl_jval b, bool *out) {
    if (tl_jval_is_number(a) && tl_jval_is_number(b)) {
        *out = is_integer(a) && is_integer(b) ? integer_of(a) == integer_of(b)
                                              : real_of(a) == real_of(b);
        return TL_OK;
    }
    *out = false;
    if (a.kind != b.kind) {
        return TL_OK;
    }
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(tl_jinja_spend(j, a.kind == TL_J_STR ? a.as.str->len / TL_JSTEP_BYTES : 1));
    TL_TRY(equal_same_kind(j, a, b, out));
    tl_jinja_leave(j);
    return TL_OK;
}

/* ---- order ---- */

static tl_err no_order(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b) {
    return tl_jinja_fail(j, TL_ERR_FORMAT, "'%s' not supported between instances of '%s' and '%s'",
                         op_text(op), tl_jval_type(a), tl_jval_type(b));
}

static bool holds(tl_jop op, int order) {
    return op == TL_JOP_LT   ? order < 0
           : op == TL_JOP_LE ? order <= 0
           : op == TL_JOP_GT ? order > 0
                             : order >= 0;
}

/* The order of UTF-8 bytes is the order of code points. */
static int order_of_texts(tl_str a, tl_str b) {
    const size_t n = a.len < b.len ? a.len : b.len;
    const int order = n > 0 ? memcmp(a.data, b.data, n) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static tl_err compare_lists(tl_jinja *j, tl_jop op, const tl_jlist *a, const tl_jlist *b,
                            bool *out) {
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool equal = false;
        TL_TRY(tl_jval_equal(j, a->at[i], b->at[i], &equal));
        if (!equal) {
            TL_TRY(tl_jinja_enter(j));
            TL_TRY(tl_jval_compare(j, op, a->at[i], b->at[i], out));
            tl_jinja_leave(j);
            return TL_OK;
        }
    }
    *out = holds(op, (a->n > b->n) - (a->n < b->n));
    return TL_OK;
}

static tl_err compare_order(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b, bool *out) {
    if (a.kind == TL_J_UNDEFINED || b.kind == TL_J_UNDEFINED) {
        return tl_jundefined_fail(j, a.kind == TL_J_UNDEFINED ? a : b);
    }
    if (is_integer(a) && is_integer(b)) {
        const int64_t x = integer_of(a), y = integer_of(b);
        *out = holds(op, (x > y) - (x < y));
        return TL_OK;
    }
    if (tl_jval_is_number(a) && tl_jval_is_number(b)) {
        const double x = real_of(a), y = real_of(b);
        *out = !isnan(x) && !isnan(y) && holds(op, (x > y) - (x < y));
        return TL_OK;
    }
    if (a.kind != b.kind || !is_sequence(a)) {
        return no_order(j, op, a, b);
    }
    if (a.kind != TL_J_STR) {
        return compare_lists(j, op, a.as.list, b.as.list, out);
    }
    TL_TRY(tl_jinja_spend(j, a.as.str->len / TL_JSTEP_BYTES));
    *out = holds(op, order_of_texts(tl_jval_text(a), tl_jval_text(b)));
    return TL_OK;
}

/* ---- in ---- */

static tl_err contains_item(tl_jinja *j, tl_jval item, tl_jval container, bool *out) {
    tl_jiter *it = NULL;
    tl_jval other;
    TL_TRY(tl_jiter_open(j, container, &it));
    *out = false;
    while (!*out) {
        TL_TRY(tl_jiter_next(j, it, &other));
        if (other.kind == TL_J_MISSING) {
            break;
        }
        TL_TRY(tl_jval_equal(j, item, other, out));
    }
    return TL_OK;
}

static tl_err contains(tl_jinja *j, tl_jval item, tl_jval container, bool *out) {
    if (container.kind == TL_J_STR) {
        size_t at = 0;
        if (item.kind != TL_J_STR) {
            return tl_jinja_fail(j, TL_ERR_FORMAT,
                                 "'in <string>' requires string as left operand, not %s",
                                 tl_jval_type(item));
        }
        TL_TRY(tl_jtext_find(j, tl_jval_text(container), tl_jval_text(item), 0, &at));
        *out = at != SIZE_MAX;
        return TL_OK;
    }
    if (container.kind == TL_J_DICT) {
        tl_jval *found = NULL;
        if (!tl_jval_hashable(item)) {
            return tl_jinja_fail(j, TL_ERR_FORMAT, "unhashable type: '%s'", tl_jval_type(item));
        }
        TL_TRY(tl_jdict_find(j, container.as.dict, item, &found));
        *out = found != NULL;
        return TL_OK;
    }
    if (!tl_jval_iterable(container)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "argument of type '%s' is not iterable",
                             tl_jval_type(container));
    }
    return contains_item(j, item, container, out);
}

tl_err tl_jval_compare(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b, bool *out) {
    switch (op) {
    case TL_JOP_EQ:
    case TL_JOP_NE:
        TL_TRY(tl_jval_equal(j, a, b, out));
        *out ^= op == TL_JOP_NE;
        return TL_OK;
    case TL_JOP_IN:
    case TL_JOP_NOT_IN:
        TL_TRY(contains(j, a, b, out));
        *out ^= op == TL_JOP_NOT_IN;
        return TL_OK;
    default:
        return compare_order(j, op, a, b, out);
    }
}

/* ---- HTML ---- */

tl_err tl_jval_escape(tl_jinja *j, tl_jval v, tl_jval *out) {
    static const char special[] = "&<>\"'";
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    TL_TRY(tl_jval_str(j, v, &v));
    *out = v;
    if (v.as.str->markup) {
        return TL_OK;
    }
    const tl_str text = tl_jval_text(v);
    tl_jbuf b = {.j = j};
    for (size_t i = 0; i < text.len; i++) {
        const char *const found = text.data[i] != '\0' ? strchr(special, text.data[i]) : NULL;
        TL_TRY(found != NULL ? tl_jbuf_add_c(&b, entity[found - special])
                             : tl_jbuf_add(&b, (tl_str){text.data + i, 1}));
    }
    TL_TRY(tl_jbuf_take(&b, out));
    out->as.str->markup = true;
    return TL_OK;
}
