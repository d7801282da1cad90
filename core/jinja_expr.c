/* Expressions of the template language, by recursive descent in the order of precedence that
 * Jinja2 has (which is not quite Python's: `~` binds tighter than + and looser than *, filters
 * tighter than everything but a leading sign). Depth: every way down passes parse_unary or
 * tl_jparse_expression, which count (TL_JINJA_NEST_MAX). */
#include "jinja.h"

#include <string.h>

static tl_err parse_primary(tl_jparser *p, bool namespaces, tl_jnode **out);
static tl_err parse_call_arguments(tl_jparser *p, tl_jnode *call);

/* ---- literals and names ---- */

static tl_err constant(tl_jparser *p, tl_jval value, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_CONST, out));
    (*out)->value = value;
    return TL_OK;
}

static bool name_constant(tl_str name, tl_jval *out) {
    if (tl_str_is(name, "true") || tl_str_is(name, "True")) {
        *out = tl_jbool(true);
    } else if (tl_str_is(name, "false") || tl_str_is(name, "False")) {
        *out = tl_jbool(false);
    } else if (tl_str_is(name, "none") || tl_str_is(name, "None")) {
        *out = tl_jnone();
    } else {
        return false;
    }
    return true;
}

/* The macros around it get caller, kwargs and varargs only if their text mentions them. */
static void note_special_name(tl_jparser *p, tl_str name) {
    for (unsigned i = 0; i < p->n_macros; i++) {
        p->macros[i]->uses_caller |= tl_str_is(name, "caller");
        p->macros[i]->uses_kwargs |= tl_str_is(name, "kwargs");
        p->macros[i]->uses_varargs |= tl_str_is(name, "varargs");
    }
}

static tl_err name(tl_jparser *p, bool namespaces, tl_jnode **out) {
    tl_str text;
    tl_jval value;
    TL_TRY(tl_jparser_expect_name(p, &text));
    if (name_constant(text, &value)) {
        return constant(p, value, out);
    }
    TL_TRY(tl_jparser_node(p, TL_JN_NAME, out));
    (*out)->name = text;
    note_special_name(p, text);
    if (!namespaces || !tl_jparser_skip_op(p, ".")) {
        return TL_OK;
    }
    tl_jnode *const object = *out;
    TL_TRY(tl_jparser_node(p, TL_JN_NS_ATTR, out));
    (*out)->a = object;
    TL_TRY(tl_jparser_expect_name(p, &(*out)->name));
    return tl_jstr_new(p->j, (*out)->name, &(*out)->value);
}

/* Strings that follow each other are one. */
static tl_err strings(tl_jparser *p, tl_jnode **out) {
    tl_jval value = p->at->value;
    p->at++;
    if (p->at->kind == TL_JT_STR) {
        tl_jbuf b = {.j = p->j};
        TL_TRY(tl_jbuf_add(&b, tl_jval_text(value)));
        for (; p->at->kind == TL_JT_STR; p->at++) {
            TL_TRY(tl_jbuf_add(&b, tl_jval_text(p->at->value)));
        }
        TL_TRY(tl_jbuf_take(&b, &value));
    }
    return constant(p, value, out);
}

static tl_err list_display(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_LIST, out));
    TL_TRY(tl_jparser_expect_op(p, "["));
    while (!tl_jparser_is_op(p, "]")) {
        if ((*out)->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
            if (tl_jparser_is_op(p, "]")) {
                break;
            }
        }
        tl_jnode *item = NULL;
        TL_TRY(tl_jparse_expression(p, true, &item));
        TL_TRY(tl_jnodes_add(p, &(*out)->list, item));
    }
    return tl_jparser_expect_op(p, "]");
}

static tl_err dict_display(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_DICT, out));
    TL_TRY(tl_jparser_expect_op(p, "{"));
    while (!tl_jparser_is_op(p, "}")) {
        if ((*out)->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
            if (tl_jparser_is_op(p, "}")) {
                break;
            }
        }
        tl_jnode *key = NULL, *value = NULL;
        TL_TRY(tl_jparse_expression(p, true, &key));
        TL_TRY(tl_jparser_expect_op(p, ":"));
        TL_TRY(tl_jparse_expression(p, true, &value));
        TL_TRY(tl_jnodes_add(p, &(*out)->list, key));
        TL_TRY(tl_jnodes_add(p, &(*out)->list, value));
    }
    return tl_jparser_expect_op(p, "}");
}

static tl_err parse_primary(tl_jparser *p, bool namespaces, tl_jnode **out) {
    switch (p->at->kind) {
    case TL_JT_NAME:
        return name(p, namespaces, out);
    case TL_JT_STR:
        return strings(p, out);
    case TL_JT_INT:
    case TL_JT_FLOAT:
        p->at++;
        return constant(p, p->at[-1].value, out);
    default:
        break;
    }
    if (tl_jparser_is_op(p, "[")) {
        return list_display(p, out);
    }
    if (tl_jparser_is_op(p, "{")) {
        return dict_display(p, out);
    }
    if (tl_jparser_skip_op(p, "(")) {
        TL_TRY(tl_jparse_tuple(p, (tl_jtuple_rules){.parentheses = true}, out));
        return tl_jparser_expect_op(p, ")");
    }
    return tl_jparser_unexpected(p, NULL);
}

/* ---- behind an operand: attributes, items, calls, filters, tests ---- */

static bool at_subscript_end(const tl_jparser *p) {
    return tl_jparser_is_op(p, "]") || tl_jparser_is_op(p, ",") || tl_jparser_is_op(p, ":");
}

/* One key between [ and ]: an expression or start:stop:step. */
static tl_err subscript(tl_jparser *p, tl_jnode **out) {
    tl_jnode *bound[3] = {0};
    unsigned n = 0;
    if (!tl_jparser_is_op(p, ":")) {
        TL_TRY(tl_jparse_expression(p, true, &bound[0]));
        if (!tl_jparser_is_op(p, ":")) {
            *out = bound[0];
            return TL_OK;
        }
    }
    while (n < 2 && tl_jparser_skip_op(p, ":")) {
        n++;
        if (!at_subscript_end(p)) {
            TL_TRY(tl_jparse_expression(p, true, &bound[n]));
        }
    }
    TL_TRY(tl_jparser_node(p, TL_JN_SLICE, out));
    (*out)->a = bound[0];
    (*out)->b = bound[1];
    (*out)->c = bound[2];
    return TL_OK;
}

static tl_err item(tl_jparser *p, tl_jnode *object, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_ITEM, out));
    tl_jnode *keys = NULL, *key = NULL;
    TL_TRY(tl_jparser_node(p, TL_JN_TUPLE, &keys));
    TL_TRY(tl_jparser_expect_op(p, "["));
    while (!tl_jparser_is_op(p, "]")) {
        if (keys->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
        }
        TL_TRY(subscript(p, &key));
        if (key->kind == TL_JN_SLICE && (keys->list.n > 0 || tl_jparser_is_op(p, ","))) {
            return tl_jinja_fail(p->j, TL_ERR_UNSUPPORTED, "a slice of more than one dimension");
        }
        TL_TRY(tl_jnodes_add(p, &keys->list, key));
    }
    (*out)->a = object;
    (*out)->b = keys->list.n == 1 ? key : keys;
    return tl_jparser_expect_op(p, "]");
}

static tl_err attribute(tl_jparser *p, tl_jnode *object, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_ATTR, out));
    (*out)->a = object;
    p->at++;
    if (p->at->kind == TL_JT_INT) { /* a.0 is a[0] */
        (*out)->kind = TL_JN_ITEM;
        TL_TRY(constant(p, p->at->value, &(*out)->b));
        p->at++;
        return TL_OK;
    }
    if (p->at->kind != TL_JT_NAME) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "expected name or number");
    }
    TL_TRY(tl_jparser_expect_name(p, &(*out)->name));
    return tl_jstr_new(p->j, (*out)->name, &(*out)->value);
}

static tl_err call(tl_jparser *p, tl_jnode *callee, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_CALL, out));
    (*out)->a = callee;
    return parse_call_arguments(p, *out);
}

static tl_err parse_postfix(tl_jparser *p, tl_jnode **node) {
    for (;;) {
        if (tl_jparser_is_op(p, ".")) {
            TL_TRY(attribute(p, *node, node));
        } else if (tl_jparser_is_op(p, "[")) {
            TL_TRY(item(p, *node, node));
        } else if (tl_jparser_is_op(p, "(")) {
            TL_TRY(call(p, *node, node));
        } else {
            return TL_OK;
        }
    }
}

static tl_err keyword_argument(tl_jparser *p, tl_jnode *call_node) {
    tl_jnode *keyword = NULL;
    TL_TRY(tl_jparser_node(p, TL_JN_KEYWORD, &keyword));
    TL_TRY(tl_jparser_expect_name(p, &keyword->name));
    TL_TRY(tl_jparser_expect_op(p, "="));
    TL_TRY(tl_jparse_expression(p, true, &keyword->a));
    for (uint32_t i = 0; i < call_node->named.n; i++) {
        if (tl_str_eq(call_node->named.at[i]->name, keyword->name)) {
            return tl_jinja_fail(p->j, TL_ERR_FORMAT, "keyword argument repeated: %.*s",
                                 (int)tl_min_u64(keyword->name.len, 100), keyword->name.data);
        }
    }
    TL_TRY(tl_jinja_spend(p->j, call_node->named.n / TL_JSTEP_KEYS));
    return tl_jnodes_add(p, &call_node->named, keyword);
}

static tl_err argument(tl_jparser *p, tl_jnode *call_node) {
    bool ok = true;
    if (tl_jparser_skip_op(p, "*")) {
        ok = call_node->b == NULL && call_node->c == NULL;
        TL_TRY(tl_jparse_expression(p, true, &call_node->b));
    } else if (tl_jparser_skip_op(p, "**")) {
        ok = call_node->c == NULL;
        TL_TRY(tl_jparse_expression(p, true, &call_node->c));
    } else if (p->at->kind == TL_JT_NAME && p->at[1].kind == TL_JT_OP &&
               tl_str_is(p->at[1].text, "=")) {
        ok = call_node->c == NULL;
        TL_TRY(keyword_argument(p, call_node));
    } else {
        ok = call_node->b == NULL && call_node->c == NULL && call_node->named.n == 0;
        tl_jnode *value = NULL;
        TL_TRY(tl_jparse_expression(p, true, &value));
        TL_TRY(tl_jnodes_add(p, &call_node->list, value));
    }
    return ok ? TL_OK
              : tl_jinja_fail(p->j, TL_ERR_FORMAT, "invalid syntax for function call expression");
}

static tl_err parse_call_arguments(tl_jparser *p, tl_jnode *call_node) {
    TL_TRY(tl_jparser_expect_op(p, "("));
    bool first = true;
    while (!tl_jparser_is_op(p, ")")) {
        if (!first) {
            TL_TRY(tl_jparser_expect_op(p, ","));
            if (tl_jparser_is_op(p, ")")) {
                break;
            }
        }
        first = false;
        TL_TRY(argument(p, call_node));
    }
    return tl_jparser_expect_op(p, ")");
}

/* The name of a filter or a test; dots belong to it. */
static tl_err dotted_name(tl_jparser *p, tl_str *out) {
    TL_TRY(tl_jparser_expect_name(p, out));
    while (tl_jparser_skip_op(p, ".")) {
        tl_str part;
        tl_jbuf b = {.j = p->j};
        TL_TRY(tl_jparser_expect_name(p, &part));
        TL_TRY(tl_jbuf_add(&b, *out));
        TL_TRY(tl_jbuf_add_c(&b, "."));
        TL_TRY(tl_jbuf_add(&b, part));
        *out = (tl_str){b.data, b.len};
    }
    return TL_OK;
}

tl_err tl_jparse_filters(tl_jparser *p, tl_jnode *input, bool inline_first, tl_jnode **out) {
    *out = input;
    while (inline_first || tl_jparser_skip_op(p, "|")) {
        inline_first = false;
        tl_jnode *filter = NULL;
        TL_TRY(tl_jparser_node(p, TL_JN_FILTER, &filter));
        TL_TRY(dotted_name(p, &filter->name));
        if (tl_jparser_is_op(p, "(")) {
            TL_TRY(parse_call_arguments(p, filter));
        }
        filter->a = *out;
        filter->fn = tl_jfilter_find(filter->name);
        *out = filter;
    }
    return TL_OK;
}

/* What stands behind the name of a test without parentheses is its argument, unless it is one of
 * three words. */
static bool has_bare_argument(const tl_jparser *p) {
    switch (p->at->kind) {
    case TL_JT_NAME:
        return !tl_jparser_is_name(p, "else") && !tl_jparser_is_name(p, "or") &&
               !tl_jparser_is_name(p, "and");
    case TL_JT_STR:
    case TL_JT_INT:
    case TL_JT_FLOAT:
        return true;
    default:
        return tl_jparser_is_op(p, "[") || tl_jparser_is_op(p, "{");
    }
}

static tl_err test(tl_jparser *p, tl_jnode *input, tl_jnode **out) {
    p->at++;
    const bool negated = tl_jparser_skip_name(p, "not");
    tl_jnode *node = NULL, *bare = NULL;
    TL_TRY(tl_jparser_node(p, TL_JN_TEST, &node));
    TL_TRY(dotted_name(p, &node->name));
    if (tl_jparser_is_op(p, "(")) {
        TL_TRY(parse_call_arguments(p, node));
    } else if (has_bare_argument(p)) {
        if (tl_jparser_is_name(p, "is")) {
            return tl_jinja_fail(p->j, TL_ERR_FORMAT, "You cannot chain multiple tests with is");
        }
        TL_TRY(parse_primary(p, false, &bare));
        TL_TRY(parse_postfix(p, &bare));
        TL_TRY(tl_jnodes_add(p, &node->list, bare));
    }
    node->a = input;
    node->fn = tl_jtest_find(node->name);
    *out = node;
    if (negated) {
        TL_TRY(tl_jparser_node(p, TL_JN_NOT, out));
        (*out)->a = node;
    }
    return TL_OK;
}

static tl_err parse_unary(tl_jparser *p, bool with_filter, tl_jnode **out) {
    TL_TRY(tl_jparser_enter(p));
    const bool minus = tl_jparser_is_op(p, "-");
    if (minus || tl_jparser_is_op(p, "+")) {
        p->at++;
        tl_jnode *operand = NULL;
        TL_TRY(parse_unary(p, false, &operand));
        TL_TRY(tl_jparser_node(p, minus ? TL_JN_NEGATE : TL_JN_PLUS, out));
        (*out)->a = operand;
    } else {
        TL_TRY(parse_primary(p, false, out));
    }
    TL_TRY(parse_postfix(p, out));
    while (with_filter) {
        if (tl_jparser_is_op(p, "|")) {
            TL_TRY(tl_jparse_filters(p, *out, false, out));
        } else if (tl_jparser_is_name(p, "is")) {
            TL_TRY(test(p, *out, out));
        } else if (tl_jparser_is_op(p, "(")) {
            TL_TRY(call(p, *out, out));
        } else {
            break;
        }
    }
    p->nest--;
    return TL_OK;
}

/* ---- operators between operands, tightest first ---- */

static tl_err binary(tl_jparser *p, tl_jnode_kind kind, tl_jop op, tl_jnode *left, tl_jnode *right,
                     tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, kind, out));
    (*out)->op = op;
    (*out)->a = left;
    (*out)->b = right;
    return TL_OK;
}

static tl_err parse_power(tl_jparser *p, tl_jnode **out) {
    TL_TRY(parse_unary(p, true, out));
    while (tl_jparser_skip_op(p, "**")) {
        tl_jnode *right = NULL;
        TL_TRY(parse_unary(p, true, &right));
        TL_TRY(binary(p, TL_JN_ARITH, TL_JOP_POW, *out, right, out));
    }
    return TL_OK;
}

static tl_err parse_product(tl_jparser *p, tl_jnode **out) {
    static const struct {
        const char *text;
        tl_jop op;
    } ops[] = {{"*", TL_JOP_MUL}, {"/", TL_JOP_DIV}, {"//", TL_JOP_FLOORDIV}, {"%", TL_JOP_MOD}};
    TL_TRY(parse_power(p, out));
    for (;;) {
        size_t i = 0;
        while (i < 4 && !tl_jparser_skip_op(p, ops[i].text)) {
            i++;
        }
        if (i == 4) {
            return TL_OK;
        }
        tl_jnode *right = NULL;
        TL_TRY(parse_power(p, &right));
        TL_TRY(binary(p, TL_JN_ARITH, ops[i].op, *out, right, out));
    }
}

static tl_err parse_concat(tl_jparser *p, tl_jnode **out) {
    TL_TRY(parse_product(p, out));
    if (!tl_jparser_is_op(p, "~")) {
        return TL_OK;
    }
    tl_jnode *concat = NULL, *operand = *out;
    TL_TRY(tl_jparser_node(p, TL_JN_CONCAT, &concat));
    TL_TRY(tl_jnodes_add(p, &concat->list, operand));
    while (tl_jparser_skip_op(p, "~")) {
        TL_TRY(parse_product(p, &operand));
        TL_TRY(tl_jnodes_add(p, &concat->list, operand));
    }
    *out = concat;
    return TL_OK;
}

static tl_err parse_sum(tl_jparser *p, tl_jnode **out) {
    TL_TRY(parse_concat(p, out));
    for (;;) {
        const bool add = tl_jparser_skip_op(p, "+");
        if (!add && !tl_jparser_skip_op(p, "-")) {
            return TL_OK;
        }
        tl_jnode *right = NULL;
        TL_TRY(parse_concat(p, &right));
        TL_TRY(binary(p, TL_JN_ARITH, add ? TL_JOP_ADD : TL_JOP_SUB, *out, right, out));
    }
}

/* The comparison at this place, behind which p->at moves. */
static bool comparison(tl_jparser *p, tl_jop *op) {
    static const struct {
        const char *text;
        tl_jop op;
    } ops[] = {{"==", TL_JOP_EQ}, {"!=", TL_JOP_NE}, {"<", TL_JOP_LT},
               {"<=", TL_JOP_LE}, {">", TL_JOP_GT},  {">=", TL_JOP_GE}};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (tl_jparser_skip_op(p, ops[i].text)) {
            *op = ops[i].op;
            return true;
        }
    }
    if (tl_jparser_skip_name(p, "in")) {
        *op = TL_JOP_IN;
        return true;
    }
    const bool not_in = tl_jparser_is_name(p, "not") && p->at[1].kind == TL_JT_NAME &&
                        tl_str_is(p->at[1].text, "in");
    p->at += not_in ? 2 : 0;
    *op = TL_JOP_NOT_IN;
    return not_in;
}

static tl_err parse_compare(tl_jparser *p, tl_jnode **out) {
    TL_TRY(parse_sum(p, out));
    tl_jnode *compare = NULL;
    tl_jop op = TL_JOP_EQ;
    while (comparison(p, &op)) {
        if (compare == NULL) {
            TL_TRY(tl_jparser_node(p, TL_JN_COMPARE, &compare));
            compare->a = *out;
            *out = compare;
        }
        tl_jnode *operand = NULL;
        TL_TRY(tl_jparser_node(p, TL_JN_OPERAND, &operand));
        operand->op = op;
        TL_TRY(parse_sum(p, &operand->a));
        TL_TRY(tl_jnodes_add(p, &compare->list, operand));
    }
    return TL_OK;
}

static tl_err parse_not(tl_jparser *p, tl_jnode **out) {
    if (!tl_jparser_is_name(p, "not")) {
        return parse_compare(p, out);
    }
    TL_TRY(tl_jparser_enter(p));
    p->at++;
    tl_jnode *operand = NULL;
    TL_TRY(parse_not(p, &operand));
    TL_TRY(tl_jparser_node(p, TL_JN_NOT, out));
    (*out)->a = operand;
    p->nest--;
    return TL_OK;
}

static tl_err parse_and(tl_jparser *p, tl_jnode **out) {
    TL_TRY(parse_not(p, out));
    while (tl_jparser_skip_name(p, "and")) {
        tl_jnode *right = NULL;
        TL_TRY(parse_not(p, &right));
        TL_TRY(binary(p, TL_JN_AND, TL_JOP_EQ, *out, right, out));
    }
    return TL_OK;
}

static tl_err parse_or(tl_jparser *p, tl_jnode **out) {
    TL_TRY(parse_and(p, out));
    while (tl_jparser_skip_name(p, "or")) {
        tl_jnode *right = NULL;
        TL_TRY(parse_and(p, &right));
        TL_TRY(binary(p, TL_JN_OR, TL_JOP_EQ, *out, right, out));
    }
    return TL_OK;
}

/* ---- whole expressions ---- */

tl_err tl_jparse_expression(tl_jparser *p, bool with_condition, tl_jnode **out) {
    TL_TRY(tl_jparser_enter(p));
    TL_TRY(parse_or(p, out));
    while (with_condition && tl_jparser_skip_name(p, "if")) {
        tl_jnode *cond = NULL;
        TL_TRY(tl_jparser_node(p, TL_JN_COND, &cond));
        cond->b = *out;
        TL_TRY(parse_or(p, &cond->a));
        if (tl_jparser_skip_name(p, "else")) {
            TL_TRY(tl_jparse_expression(p, true, &cond->c));
        }
        *out = cond;
    }
    p->nest--;
    return TL_OK;
}

static bool at_tuple_end(const tl_jparser *p, const tl_jtuple_rules *rules) {
    return p->at->kind == TL_JT_PRINT_END || p->at->kind == TL_JT_BLOCK_END ||
           tl_jparser_is_op(p, ")") ||
           (rules->end_name != NULL && tl_jparser_is_name(p, rules->end_name));
}

tl_err tl_jparse_tuple(tl_jparser *p, tl_jtuple_rules rules, tl_jnode **out) {
    tl_jnode *tuple = NULL, *one = NULL;
    bool is_tuple = false;
    TL_TRY(tl_jparser_node(p, TL_JN_TUPLE, &tuple));
    for (;;) {
        if (tuple->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
        }
        if (at_tuple_end(p, &rules)) {
            break;
        }
        if (rules.targets) {
            TL_TRY(tl_jparser_enter(p));
            TL_TRY(parse_primary(p, rules.namespaces, &one));
            p->nest--;
        } else {
            TL_TRY(tl_jparse_expression(p, !rules.no_condition, &one));
        }
        TL_TRY(tl_jnodes_add(p, &tuple->list, one));
        if (!tl_jparser_is_op(p, ",")) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple && tuple->list.n == 0 && !rules.parentheses) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "Expected an expression, got '%.*s'",
                             (int)tl_min_u64(p->at->text.len, 40), p->at->text.data);
    }
    *out = !is_tuple && tuple->list.n == 1 ? one : tuple;
    return TL_OK;
}

/* Names, attributes of namespaces where allowed, and tuples of them. */
static tl_err check_target(tl_jparser *p, const tl_jnode *node, unsigned depth) {
    if (node->kind == TL_JN_NAME || node->kind == TL_JN_NS_ATTR) {
        return p->n_for > 0 && node->kind == TL_JN_NAME && tl_str_is(node->name, "loop")
                   ? tl_jinja_fail(p->j, TL_ERR_FORMAT, "Can't assign to special loop variable")
                   : TL_OK;
    }
    if (node->kind != TL_JN_TUPLE || depth == TL_JINJA_NEST_MAX) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "can't assign to an expression");
    }
    for (uint32_t i = 0; i < node->list.n; i++) {
        TL_TRY(check_target(p, node->list.at[i], depth + 1));
    }
    return TL_OK;
}

tl_err tl_jparse_target(tl_jparser *p, bool namespaces, const char *end_name, tl_jnode **out) {
    const tl_jtuple_rules rules = {.targets = true, .namespaces = namespaces, .end_name = end_name};
    TL_TRY(tl_jparse_tuple(p, rules, out));
    return check_target(p, *out, 0);
}
