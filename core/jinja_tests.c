/* Tests: what may stand behind `is`, and the names that select and reject take. */
#include "jinja.h"

static tl_err test_defined(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind != TL_J_UNDEFINED);
    return TL_OK;
}

static tl_err test_undefined(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_UNDEFINED);
    return TL_OK;
}

static tl_err test_none(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_NONE);
    return TL_OK;
}

static tl_err test_boolean(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_BOOL);
    return TL_OK;
}

static tl_err test_true(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_BOOL && call->bound[0].as.truth);
    return TL_OK;
}

static tl_err test_false(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_BOOL && !call->bound[0].as.truth);
    return TL_OK;
}

static tl_err test_integer(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_INT);
    return TL_OK;
}

static tl_err test_float(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_FLOAT);
    return TL_OK;
}

static tl_err test_number(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(tl_jval_is_number(call->bound[0]));
    return TL_OK;
}

static tl_err test_string(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_STR);
    return TL_OK;
}

static tl_err test_mapping(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_DICT);
    return TL_OK;
}

/* Has a length and items: Python's Undefined says yes to both. */
static tl_err test_sequence(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    const tl_jkind kind = call->bound[0].kind;
    *out = tl_jbool(kind == TL_J_UNDEFINED || kind == TL_J_STR || kind == TL_J_LIST ||
                    kind == TL_J_TUPLE || kind == TL_J_DICT || kind == TL_J_RANGE);
    return TL_OK;
}

static tl_err test_iterable(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(tl_jval_iterable(call->bound[0]) || call->bound[0].kind == TL_J_LOOP);
    return TL_OK;
}

static tl_err test_callable(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    const tl_jkind kind = call->bound[0].kind;
    *out = tl_jbool(kind == TL_J_UNDEFINED || kind == TL_J_BUILTIN || kind == TL_J_MACRO ||
                    kind == TL_J_JOINER || kind == TL_J_LOOP);
    return TL_OK;
}

static tl_err test_escaped(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    *out = tl_jbool(call->bound[0].kind == TL_J_STR && call->bound[0].as.str->markup);
    return TL_OK;
}

/* The same object, where that can be told; equal numbers and strings count as the same. */
static tl_err test_sameas(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    const tl_jval a = call->bound[0], b = call->bound[1];
    bool same = a.kind == b.kind;
    if (same && (a.kind == TL_J_LIST || a.kind == TL_J_TUPLE || a.kind == TL_J_DICT)) {
        same = (const void *)a.as.list == (const void *)b.as.list;
    } else if (same) {
        TL_TRY(tl_jval_equal(j, a, b, &same));
    }
    *out = tl_jbool(same);
    return TL_OK;
}

/* ---- comparisons ---- */

static tl_err compare(tl_jinja *j, const tl_jcall *call, tl_jop op, tl_jval *out) {
    bool holds = false;
    TL_TRY(tl_jval_compare(j, op, call->bound[0], call->bound[1], &holds));
    *out = tl_jbool(holds);
    return TL_OK;
}

static tl_err test_eq(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_EQ, out);
}

static tl_err test_ne(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_NE, out);
}

static tl_err test_lt(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_LT, out);
}

static tl_err test_le(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_LE, out);
}

static tl_err test_gt(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_GT, out);
}

static tl_err test_ge(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_GE, out);
}

static tl_err test_in(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return compare(j, call, TL_JOP_IN, out);
}

static tl_err remainder_is(tl_jinja *j, tl_jval v, tl_jval divisor, int64_t wanted, tl_jval *out) {
    tl_jval remainder;
    bool equal = false;
    TL_TRY(tl_jval_arith(j, TL_JOP_MOD, v, divisor, &remainder));
    TL_TRY(tl_jval_equal(j, remainder, tl_jint(wanted), &equal));
    *out = tl_jbool(equal);
    return TL_OK;
}

static tl_err test_odd(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return remainder_is(j, call->bound[0], tl_jint(2), 1, out);
}

static tl_err test_even(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return remainder_is(j, call->bound[0], tl_jint(2), 0, out);
}

static tl_err test_divisibleby(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return remainder_is(j, call->bound[0], call->bound[1], 0, out);
}

/* ---- case and names ---- */

/* At least one letter with case, and none of the other case. */
static tl_err has_case(tl_jinja *j, tl_jval v, bool upper, tl_jval *out) {
    bool some = false, other = false;
    TL_TRY(tl_jval_str(j, v, &v));
    const tl_str text = tl_jval_text(v);
    TL_TRY(tl_jinja_spend(j, text.len / TL_JSTEP_CHARS));
    for (size_t at = 0; at < text.len;) {
        const uint32_t p = tl_utf8_next(text, &at);
        const bool is_upper = tl_jpoint_lower(j, p) != p, is_lower = tl_jpoint_upper(j, p) != p;
        some |= upper ? is_upper : is_lower || p == 0xDF;
        other |= upper ? is_lower || p == 0xDF : is_upper;
    }
    *out = tl_jbool(some && !other);
    return TL_OK;
}

static tl_err test_lower(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return has_case(j, call->bound[0], false, out);
}

static tl_err test_upper(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    return has_case(j, call->bound[0], true, out);
}

static tl_err test_filter(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    const tl_jval v = call->bound[0];
    *out = tl_jbool(v.kind == TL_J_STR && tl_jfilter_find(tl_jval_text(v)) != NULL);
    return TL_OK;
}

static tl_err test_test(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    (void)j;
    const tl_jval v = call->bound[0];
    *out = tl_jbool(v.kind == TL_J_STR && tl_jtest_find(tl_jval_text(v)) != NULL);
    return TL_OK;
}

static const tl_jbuiltin tests[] = {
    {"!=", "a b", test_ne},
    {"<", "a b", test_lt},
    {"<=", "a b", test_le},
    {"==", "a b", test_eq},
    {">", "a b", test_gt},
    {">=", "a b", test_ge},
    {"boolean", "value", test_boolean},
    {"callable", "obj", test_callable},
    {"defined", "value", test_defined},
    {"divisibleby", "value num", test_divisibleby},
    {"eq", "a b", test_eq},
    {"equalto", "a b", test_eq},
    {"escaped", "value", test_escaped},
    {"even", "value", test_even},
    {"false", "value", test_false},
    {"filter", "value", test_filter},
    {"float", "value", test_float},
    {"ge", "a b", test_ge},
    {"greaterthan", "a b", test_gt},
    {"gt", "a b", test_gt},
    {"in", "value seq", test_in},
    {"integer", "value", test_integer},
    {"iterable", "value", test_iterable},
    {"le", "a b", test_le},
    {"lessthan", "a b", test_lt},
    {"lower", "value", test_lower},
    {"lt", "a b", test_lt},
    {"mapping", "value", test_mapping},
    {"ne", "a b", test_ne},
    {"none", "value", test_none},
    {"number", "value", test_number},
    {"odd", "value", test_odd},
    {"sameas", "value other", test_sameas},
    {"sequence", "value", test_sequence},
    {"string", "value", test_string},
    {"test", "value", test_test},
    {"true", "value", test_true},
    {"undefined", "value", test_undefined},
    {"upper", "value", test_upper},
    {NULL, NULL, NULL},
};

const tl_jbuiltin *tl_jtest_find(tl_str name) { return tl_jbuiltin_find(tests, name); }
