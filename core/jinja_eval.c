/* Runs the nodes. Statements write to j->out; expressions give values. Invariant: j->frame and
 * j->out are on return what they were on entry, unless it fails, when nothing more is run. */
#include "jinja.h"

#include <string.h>

static tl_err run(tl_jinja *j, const tl_jnode *node);

/* ---- names and scopes ---- */

static tl_jframe *frame_at(const tl_jinja *j, uint32_t hops) {
    tl_jframe *frame = j->frame;
    for (; hops > 0; hops--) {
        frame = frame->outer;
    }
    return frame;
}

static tl_err frame_new(tl_jinja *j, tl_jframe *outer, uint32_t n_slots, tl_jframe **out) {
    tl_jframe *const frame = tl_jinja_alloc(j, sizeof *frame);
    tl_jval *const slots = tl_jinja_alloc(j, n_slots * sizeof *slots);
    if (frame == NULL || slots == NULL) {
        return TL_ERR_MEMORY;
    }
    *frame = (tl_jframe){.outer = outer, .slot = slots}; /* zero is MISSING */
    *out = frame;
    return TL_OK;
}

static tl_err resolve(tl_jinja *j, tl_str name, tl_jval *out) {
    const tl_jval *const given = tl_jdict_get(j->vars, name);
    *out = given != NULL ? *given : tl_jmissing();
    const tl_jbuiltin *const fn = given == NULL ? tl_jglobal_find(name) : NULL;
    if (fn == NULL) {
        return TL_OK;
    }
    struct tl_jbound *const bound = tl_jinja_alloc(j, sizeof *bound);
    if (bound == NULL) {
        return TL_ERR_MEMORY;
    }
    *bound = (struct tl_jbound){.fn = fn, .self = tl_jmissing()};
    *out = (tl_jval){.kind = TL_J_BUILTIN, .as.bound = bound};
    return TL_OK;
}

tl_err tl_jinja_enter_scope(tl_jinja *j, const struct tl_jscope *scope) {
    for (uint32_t i = 0; i < scope->n_loads; i++) {
        const struct tl_jload *const load = &scope->load[i];
        tl_jval *const slot = &j->frame->slot[load->slot];
        TL_TRY(tl_jinja_spend(j, 1));
        if (load->how == TL_JLOAD_RESOLVE) {
            TL_TRY(resolve(j, load->name, slot));
        } else if (load->how == TL_JLOAD_ALIAS) {
            *slot = frame_at(j, load->from_hops)->slot[load->from_slot];
        } else {
            *slot = tl_jmissing();
        }
    }
    return TL_OK;
}

static tl_err load_name(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    *out = frame_at(j, node->hops)->slot[node->slot];
    if (out->kind != TL_J_MISSING) {
        return TL_OK;
    }
    tl_jval name;
    TL_TRY(tl_jstr_new(j, node->name, &name));
    return tl_jundefined_new(j, NULL, tl_jmissing(), name, out);
}

static tl_err assign_tuple(tl_jinja *j, const tl_jnode *target, tl_jval value) {
    tl_jiter *it = NULL;
    tl_jval item;
    TL_TRY(tl_jiter_open(j, value, &it));
    for (uint32_t i = 0; i < target->list.n; i++) {
        TL_TRY(tl_jiter_next(j, it, &item));
        if (item.kind == TL_J_MISSING) {
            return tl_jinja_fail(j, TL_ERR_FORMAT,
                                 "not enough values to unpack (expected %u, got %u)",
                                 (unsigned)target->list.n, (unsigned)i);
        }
        TL_TRY(tl_jinja_assign(j, target->list.at[i], item));
    }
    TL_TRY(tl_jiter_next(j, it, &item));
    return item.kind == TL_J_MISSING
               ? TL_OK
               : tl_jinja_fail(j, TL_ERR_FORMAT, "too many values to unpack (expected %u)",
                               (unsigned)target->list.n);
}

tl_err tl_jinja_assign(tl_jinja *j, const tl_jnode *target, tl_jval value) {
    if (target->kind == TL_JN_NAME) {
        frame_at(j, target->hops)->slot[target->slot] = value;
        return TL_OK;
    }
    if (target->kind == TL_JN_TUPLE) {
        return assign_tuple(j, target, value);
    }
    const tl_jval object = frame_at(j, target->a->hops)->slot[target->a->slot];
    if (object.kind != TL_J_NAMESPACE) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "cannot assign attribute on non-namespace object");
    }
    if (target->name.data[0] == '_') {
        return tl_jinja_fail(j, TL_ERR_FORMAT,
                             "a namespace cannot have attributes that begin with an underscore");
    }
    return tl_jdict_set(j, object.as.dict, target->value, value);
}

/* ---- calls ---- */

struct arguments {
    tl_jargs args;
    struct tl_jnamed *named;
    tl_jval list;
};

static tl_err add_named(tl_jinja *j, struct arguments *a, tl_str name, tl_jval value) {
    const size_t n = a->args.n_named;
    a->named = tl_jinja_grow(j, a->named, n * sizeof *a->named, (n + 1) * sizeof *a->named);
    if (a->named == NULL) {
        return TL_ERR_MEMORY;
    }
    TL_TRY(tl_jinja_spend(j, 1 + n / TL_JSTEP_KEYS));
    a->named[n] = (struct tl_jnamed){name, value};
    a->args.named = a->named;
    a->args.n_named = n + 1;
    return TL_OK;
}

static tl_err spread(tl_jinja *j, const tl_jnode *node, struct arguments *a) {
    tl_jval v, item;
    if (node->b != NULL) {
        tl_jiter *it = NULL;
        TL_TRY(tl_jinja_eval(j, node->b, &v));
        TL_TRY(tl_jiter_open(j, v, &it));
        for (;;) {
            TL_TRY(tl_jiter_next(j, it, &item));
            if (item.kind == TL_J_MISSING) {
                break;
            }
            TL_TRY(tl_jlist_add(j, a->list, item));
        }
    }
    if (node->c == NULL) {
        return TL_OK;
    }
    TL_TRY(tl_jinja_eval(j, node->c, &v));
    if (v.kind != TL_J_DICT) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "argument after ** must be a mapping, not %s",
                             tl_jval_type(v));
    }
    for (size_t i = 0; i < v.as.dict->n; i++) {
        tl_str name;
        TL_TRY(tl_jarg_str(j, v.as.dict->at[i].key, "keywords", &name));
        TL_TRY(add_named(j, a, name, v.as.dict->at[i].value));
    }
    return TL_OK;
}

static tl_err eval_arguments(tl_jinja *j, const tl_jnode *node, struct arguments *a) {
    *a = (struct arguments){0};
    TL_TRY(tl_jlist_new(j, TL_J_LIST, node->list.n, &a->list));
    for (uint32_t i = 0; i < node->list.n; i++) {
        tl_jval item;
        TL_TRY(tl_jinja_eval(j, node->list.at[i], &item));
        TL_TRY(tl_jlist_add(j, a->list, item));
    }
    for (uint32_t i = 0; i < node->named.n; i++) {
        tl_jval value;
        TL_TRY(tl_jinja_eval(j, node->named.at[i]->a, &value));
        TL_TRY(add_named(j, a, node->named.at[i]->name, value));
    }
    TL_TRY(spread(j, node, a));
    a->args.at = a->list.as.list->at;
    a->args.n = a->list.as.list->n;
    j->line = node->line;
    return TL_OK;
}

static tl_err eval_call(tl_jinja *j, const tl_jnode *node, const tl_jval *caller, tl_jval *out) {
    tl_jval callee;
    struct arguments a;
    TL_TRY(tl_jinja_eval(j, node->a, &callee));
    TL_TRY(eval_arguments(j, node, &a));
    if (caller != NULL) {
        TL_TRY(add_named(j, &a, tl_str_from("caller"), *caller));
    }
    return tl_jval_call(j, callee, &a.args, out);
}

/* A filter or a test. */
static tl_err eval_applied(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    tl_jval input;
    struct arguments a;
    if (node->fn == NULL) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "No %s named '%.*s' found.",
                             node->kind == TL_JN_TEST ? "test" : "filter",
                             (int)tl_min_u64(node->name.len, 100), node->name.data);
    }
    TL_TRY(tl_jinja_eval(j, node->a, &input));
    TL_TRY(eval_arguments(j, node, &a));
    return tl_jbuiltin_call(j, node->fn, input, &a.args, out);
}

/* ---- expressions ---- */

static tl_err eval_list(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    const tl_jkind kind = node->kind == TL_JN_TUPLE ? TL_J_TUPLE : TL_J_LIST;
    TL_TRY(tl_jlist_new(j, kind, node->list.n, out));
    for (uint32_t i = 0; i < node->list.n; i++) {
        tl_jval item;
        TL_TRY(tl_jinja_eval(j, node->list.at[i], &item));
        TL_TRY(tl_jlist_add(j, *out, item));
    }
    return TL_OK;
}

static tl_err eval_dict(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    TL_TRY(tl_jdict_new(j, TL_J_DICT, out));
    for (uint32_t i = 0; i + 1 < node->list.n; i += 2) {
        tl_jval key, value;
        TL_TRY(tl_jinja_eval(j, node->list.at[i], &key));
        TL_TRY(tl_jinja_eval(j, node->list.at[i + 1], &value));
        TL_TRY(tl_jdict_set(j, out->as.dict, key, value));
    }
    return TL_OK;
}

static tl_err eval_item(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    tl_jval object, key, bounds[3] = {tl_jmissing(), tl_jmissing(), tl_jmissing()};
    TL_TRY(tl_jinja_eval(j, node->a, &object));
    if (node->b->kind != TL_JN_SLICE) {
        TL_TRY(tl_jinja_eval(j, node->b, &key));
        return tl_jval_item(j, object, key, out);
    }
    const tl_jnode *const parts[3] = {node->b->a, node->b->b, node->b->c};
    for (unsigned i = 0; i < 3; i++) {
        if (parts[i] != NULL) {
            TL_TRY(tl_jinja_eval(j, parts[i], &bounds[i]));
        }
    }
    return tl_jval_slice(j, object, bounds, out);
}

static tl_err eval_unary(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    TL_TRY(tl_jinja_eval(j, node->a, out));
    if (node->kind == TL_JN_NOT) {
        *out = tl_jbool(!tl_jval_true(*out));
        return TL_OK;
    }
    const tl_jval operand = *out;
    TL_TRY(tl_jval_negate(j, operand, out));
    return node->kind == TL_JN_PLUS ? tl_jval_negate(j, *out, out) : TL_OK;
}

static tl_err eval_compare(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    tl_jval left, right;
    TL_TRY(tl_jinja_eval(j, node->a, &left));
    bool holds = true;
    for (uint32_t i = 0; holds && i < node->list.n; i++) {
        TL_TRY(tl_jinja_eval(j, node->list.at[i]->a, &right));
        TL_TRY(tl_jval_compare(j, node->list.at[i]->op, left, right, &holds));
        left = right;
    }
    *out = tl_jbool(holds);
    return TL_OK;
}

static tl_err eval_concat(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    tl_jval text;
    TL_TRY(tl_jlist_new(j, TL_J_LIST, node->list.n, &text));
    for (uint32_t i = 0; i < node->list.n; i++) {
        tl_jval v;
        TL_TRY(tl_jinja_eval(j, node->list.at[i], &v));
        TL_TRY(tl_jlist_add(j, text, v));
    }
    tl_jbuf b = {.j = j};
    for (uint32_t i = 0; i < node->list.n; i++) {
        TL_TRY(tl_jval_print(&b, text.as.list->at[i]));
    }
    return tl_jbuf_take(&b, out);
}

static tl_err eval_cond(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    TL_TRY(tl_jinja_eval(j, node->a, out));
    if (tl_jval_true(*out)) {
        return tl_jinja_eval(j, node->b, out);
    }
    if (node->c != NULL) {
        return tl_jinja_eval(j, node->c, out);
    }
    const char *hint = NULL;
    TL_TRY(tl_jinja_sentence(j, &hint,
                             "the inline if-expression on line %u evaluated to false and no else "
                             "section was defined.",
                             (unsigned)node->line));
    return tl_jundefined_new(j, hint, tl_jmissing(), tl_jmissing(), out);
}

static tl_err eval_node(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    tl_jval left, right;
    switch (node->kind) {
    case TL_JN_CONST:
    case TL_JN_CAPTURED:
        *out = node->value;
        return TL_OK;
    case TL_JN_NAME:
        return load_name(j, node, out);
    case TL_JN_TUPLE:
    case TL_JN_LIST:
        return eval_list(j, node, out);
    case TL_JN_DICT:
        return eval_dict(j, node, out);
    case TL_JN_ATTR:
        TL_TRY(tl_jinja_eval(j, node->a, &left));
        return tl_jval_attr(j, left, node->value, out);
    case TL_JN_ITEM:
        return eval_item(j, node, out);
    case TL_JN_CALL:
        return eval_call(j, node, NULL, out);
    case TL_JN_FILTER:
    case TL_JN_TEST:
        return eval_applied(j, node, out);
    case TL_JN_NEGATE:
    case TL_JN_PLUS:
    case TL_JN_NOT:
        return eval_unary(j, node, out);
    case TL_JN_AND:
    case TL_JN_OR:
        TL_TRY(tl_jinja_eval(j, node->a, out));
        return tl_jval_true(*out) == (node->kind == TL_JN_AND) ? tl_jinja_eval(j, node->b, out)
                                                               : TL_OK;
    case TL_JN_CONCAT:
        return eval_concat(j, node, out);
    case TL_JN_COMPARE:
        return eval_compare(j, node, out);
    case TL_JN_COND:
        return eval_cond(j, node, out);
    default:
        TL_ASSERT(node->kind == TL_JN_ARITH);
        TL_TRY(tl_jinja_eval(j, node->a, &left));
        TL_TRY(tl_jinja_eval(j, node->b, &right));
        return tl_jval_arith(j, node->op, left, right, out);
    }
}

tl_err tl_jinja_eval(tl_jinja *j, const tl_jnode *expression, tl_jval *out) {
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(tl_jinja_spend(j, 1));
    j->line = expression->line;
    TL_TRY(eval_node(j, expression, out));
    tl_jinja_leave(j);
    return TL_OK;
}

/* ---- text ---- */

static tl_err write_text(tl_jinja *j, tl_str text) {
    if (text.len > j->n_out_max - j->n_out) {
        return tl_jinja_fail(j, TL_ERR_MEMORY, "the template writes more than %zu MiB",
                             j->n_out_max >> 20);
    }
    j->n_out += text.len;
    return tl_jbuf_add(j->out, text);
}

static tl_err write_value(tl_jinja *j, const tl_jnode *expression) {
    tl_jval v;
    TL_TRY(tl_jinja_eval(j, expression, &v));
    TL_TRY(tl_jval_str(j, v, &v));
    return write_text(j, tl_jval_text(v));
}

/* What a filter block or a call block gives has to be text already. */
static tl_err write_result(tl_jinja *j, tl_jval v) {
    tl_str text;
    TL_TRY(tl_jarg_str(j, v, "what a block gives", &text));
    return write_text(j, text);
}

/* Runs the body, whose scope has been entered, with its text going to *out instead. */
static tl_err capture(tl_jinja *j, const tl_jnode *body, tl_jval *out) {
    tl_jbuf *const outside = j->out;
    tl_jbuf inside = {.j = j};
    j->out = &inside;
    TL_TRY(run(j, body));
    j->out = outside;
    return tl_jbuf_take(&inside, out);
}

/* The text through a filter block's filters: their innermost input is the CAPTURED node, which
 * holds the text from here on. The nodes belong to this rendering alone. */
static tl_err through_filters(tl_jinja *j, tl_jnode *filters, tl_jval text, tl_jval *out) {
    tl_jnode *input = filters;
    while (input->kind != TL_JN_CAPTURED) {
        input = input->a;
    }
    input->value = text;
    return tl_jinja_eval(j, filters, out);
}

/* ---- macros ---- */

static tl_err macro_new(tl_jinja *j, const tl_jnode *node, tl_jval *out) {
    struct tl_jmacro *const macro = tl_jinja_alloc(j, sizeof *macro);
    if (macro == NULL) {
        return TL_ERR_MEMORY;
    }
    *macro = (struct tl_jmacro){.node = node, .outer = j->frame};
    *out = (tl_jval){.kind = TL_J_MACRO, .as.macro = macro};
    return TL_OK;
}

/* Arguments by position into the frame's first slots, the surplus into varargs. */
static tl_err bind_positional(tl_jinja *j, const tl_jnode *macro, const tl_jargs *args) {
    const struct tl_jscope *const scope = macro->c->scope;
    tl_jval rest;
    for (uint32_t i = 0; i < macro->list.n && i < args->n; i++) {
        j->frame->slot[macro->list.at[i]->slot] = args->at[i];
    }
    if (args->n > macro->list.n && !macro->uses_varargs) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "macro '%.*s' takes not more than %u argument(s)",
                             (int)tl_min_u64(macro->name.len, 100), macro->name.data,
                             (unsigned)macro->list.n);
    }
    if (scope->varargs_slot == UINT32_MAX) {
        return TL_OK;
    }
    TL_TRY(tl_jlist_new(j, TL_J_TUPLE, 0, &rest));
    for (size_t i = macro->list.n; i < args->n; i++) {
        TL_TRY(tl_jlist_add(j, rest, args->at[i]));
    }
    j->frame->slot[scope->varargs_slot] = rest;
    return TL_OK;
}

static tl_err bind_keyword(tl_jinja *j, const tl_jnode *macro, const tl_jargs *args,
                           const struct tl_jnamed *named, tl_jval rest) {
    const struct tl_jscope *const scope = macro->c->scope;
    for (uint32_t i = (uint32_t)tl_min_u64(args->n, macro->list.n); i < macro->list.n; i++) {
        const tl_jnode *const parameter = macro->list.at[i];
        if (tl_str_eq(parameter->name, named->name)) {
            j->frame->slot[parameter->slot] = named->value;
            return TL_OK;
        }
    }
    if (scope->caller_slot != UINT32_MAX && tl_str_is(named->name, "caller")) {
        j->frame->slot[scope->caller_slot] = named->value;
        return TL_OK;
    }
    if (scope->kwargs_slot == UINT32_MAX) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "macro '%.*s' takes no keyword argument '%.*s'",
                             (int)tl_min_u64(macro->name.len, 100), macro->name.data,
                             (int)tl_min_u64(named->name.len, 100), named->name.data);
    }
    tl_jval key;
    TL_TRY(tl_jstr_new(j, named->name, &key));
    return tl_jdict_set(j, rest.as.dict, key, named->value);
}

static tl_err bind_keywords(tl_jinja *j, const tl_jnode *macro, const tl_jargs *args) {
    const struct tl_jscope *const scope = macro->c->scope;
    tl_jval rest;
    TL_TRY(tl_jdict_new(j, TL_J_DICT, &rest));
    for (size_t i = 0; i < args->n_named; i++) {
        TL_TRY(tl_jinja_spend(j, 1 + macro->list.n / TL_JSTEP_KEYS));
        TL_TRY(bind_keyword(j, macro, args, &args->named[i], rest));
    }
    if (scope->kwargs_slot != UINT32_MAX) {
        j->frame->slot[scope->kwargs_slot] = rest;
    }
    if (scope->caller_slot == UINT32_MAX ||
        j->frame->slot[scope->caller_slot].kind != TL_J_MISSING) {
        return TL_OK;
    }
    return tl_jundefined_new(j, "No caller defined", tl_jmissing(), tl_jmissing(),
                             &j->frame->slot[scope->caller_slot]);
}

/* Defaults belong to the last parameters and may use those before them. */
static tl_err fill_defaults(tl_jinja *j, const tl_jnode *macro) {
    const uint32_t n_without = macro->list.n - macro->named.n;
    for (uint32_t i = 0; i < macro->list.n; i++) {
        const tl_jnode *const parameter = macro->list.at[i];
        tl_jval *const slot = &j->frame->slot[parameter->slot];
        if (slot->kind != TL_J_MISSING) {
            continue;
        }
        if (i >= n_without) {
            TL_TRY(tl_jinja_eval(j, macro->named.at[i - n_without], slot));
        } else {
            const char *hint = NULL;
            TL_TRY(tl_jinja_sentence(j, &hint, "parameter '%.*s' was not provided",
                                     (int)tl_min_u64(parameter->name.len, 100),
                                     parameter->name.data));
            TL_TRY(tl_jundefined_new(j, hint, tl_jmissing(), tl_jmissing(), slot));
        }
    }
    return TL_OK;
}

tl_err tl_jmacro_call(tl_jinja *j, const struct tl_jmacro *m, const tl_jargs *args, tl_jval *out) {
    const tl_jnode *const body = m->node->c;
    tl_jframe *const outside = j->frame;
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(frame_new(j, m->outer, body->scope->n_slots, &j->frame));
    TL_TRY(tl_jinja_enter_scope(j, body->scope));
    TL_TRY(bind_positional(j, m->node, args));
    TL_TRY(bind_keywords(j, m->node, args));
    TL_TRY(fill_defaults(j, m->node));
    TL_TRY(capture(j, body, out));
    j->frame = outside;
    tl_jinja_leave(j);
    return TL_OK;
}

/* ---- statements ---- */

/* The else part runs when no round came to the end of the body: one that is left by break or
 * continue does not count, as in Jinja2. */
static tl_err run_for(tl_jinja *j, const tl_jnode *node) {
    const struct tl_jscope *const scope = node->c->scope;
    tl_jloop *loop = NULL;
    tl_jval iterable, item;
    bool was_left = false, was_whole = false;
    TL_TRY(tl_jinja_eval(j, node->b, &iterable));
    TL_TRY(tl_jloop_new(j, node, iterable, &loop));
    while (!was_left) {
        TL_TRY(tl_jloop_next(j, loop, &item));
        if (item.kind == TL_J_MISSING) {
            break;
        }
        TL_TRY(tl_jinja_enter_scope(j, scope));
        j->frame->slot[scope->loop_slot] = (tl_jval){.kind = TL_J_LOOP, .as.loop = loop};
        TL_TRY(tl_jinja_assign(j, node->a, item));
        TL_TRY(run(j, node->c));
        was_left = j->flow == TL_JFLOW_BREAK;
        was_whole |= j->flow == TL_JFLOW_ON;
        j->flow = TL_JFLOW_ON;
    }
    if (!was_whole && node->list.n > 0) {
        TL_TRY(tl_jinja_enter_scope(j, node->list.at[0]->scope));
        return run(j, node->list.at[0]);
    }
    return TL_OK;
}

static tl_err run_if(tl_jinja *j, const tl_jnode *node) {
    for (uint32_t i = 0; i < node->list.n; i += 2) {
        tl_jval test;
        TL_TRY(tl_jinja_eval(j, node->list.at[i], &test));
        if (tl_jval_true(test)) {
            return run(j, node->list.at[i + 1]);
        }
    }
    return node->a != NULL ? run(j, node->a) : TL_OK;
}

static tl_err run_set_block(tl_jinja *j, const tl_jnode *node) {
    tl_jval text;
    TL_TRY(tl_jinja_enter_scope(j, node->c->scope));
    TL_TRY(capture(j, node->c, &text));
    if (node->b != NULL) {
        TL_TRY(through_filters(j, node->b, text, &text));
    }
    return tl_jinja_assign(j, node->a, text);
}

static tl_err run_filter_block(tl_jinja *j, const tl_jnode *node) {
    tl_jval text;
    TL_TRY(tl_jinja_enter_scope(j, node->c->scope));
    TL_TRY(capture(j, node->c, &text));
    TL_TRY(through_filters(j, node->b, text, &text));
    return write_result(j, text);
}

static tl_err run_with(tl_jinja *j, const tl_jnode *node) {
    TL_TRY(tl_jinja_enter_scope(j, node->c->scope));
    for (uint32_t i = 0; i < node->list.n; i++) {
        tl_jval value;
        TL_TRY(tl_jinja_eval(j, node->named.at[i], &value));
        TL_TRY(tl_jinja_assign(j, node->list.at[i], value));
    }
    return run(j, node->c);
}

static tl_err run_call_block(tl_jinja *j, const tl_jnode *node) {
    tl_jval caller, text;
    TL_TRY(macro_new(j, node, &caller));
    if (node->a == NULL) { /* generation */
        TL_TRY(tl_jmacro_call(j, caller.as.macro, &(tl_jargs){0}, &text));
    } else {
        TL_TRY(eval_call(j, node->a, &caller, &text));
    }
    return write_result(j, text);
}

static tl_err run_node(tl_jinja *j, const tl_jnode *node) {
    tl_jval v;
    switch (node->kind) {
    case TL_JN_TEXT:
        return write_text(j, node->name);
    case TL_JN_OUTPUT:
        return write_value(j, node->a);
    case TL_JN_BODY:
        return run(j, node);
    case TL_JN_IF:
        return run_if(j, node);
    case TL_JN_FOR:
        return run_for(j, node);
    case TL_JN_SET:
        TL_TRY(tl_jinja_eval(j, node->b, &v));
        return tl_jinja_assign(j, node->a, v);
    case TL_JN_SET_BLOCK:
        return run_set_block(j, node);
    case TL_JN_WITH:
        return run_with(j, node);
    case TL_JN_MACRO:
        TL_TRY(macro_new(j, node, &v));
        return tl_jinja_assign(j, node->a, v);
    case TL_JN_CALL_BLOCK:
        return run_call_block(j, node);
    case TL_JN_FILTER_BLOCK:
        return run_filter_block(j, node);
    default:
        j->flow = node->kind == TL_JN_BREAK ? TL_JFLOW_BREAK : TL_JFLOW_CONTINUE;
        return TL_OK;
    }
}

/* A BODY, until a break or continue in it. */
static tl_err run(tl_jinja *j, const tl_jnode *body) {
    TL_TRY(tl_jinja_enter(j));
    for (uint32_t i = 0; i < body->list.n && j->flow == TL_JFLOW_ON; i++) {
        const tl_jnode *const node = body->list.at[i];
        TL_TRY(tl_jinja_spend(j, 1));
        j->line = node->line;
        TL_TRY(run_node(j, node));
    }
    tl_jinja_leave(j);
    return TL_OK;
}

tl_err tl_jinja_run(tl_jinja *j, const tl_jnode *root) {
    TL_TRY(frame_new(j, NULL, root->scope->n_slots, &j->frame));
    TL_TRY(tl_jinja_enter_scope(j, root->scope));
    return run(j, root);
}
