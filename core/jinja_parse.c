/* Statements of the template language: the text between tags and the tags themselves, to nodes.
 * Blocks inside blocks are counted (TL_JINJA_NEST_MAX). Tags that reach for other templates are
 * refused by name; so are those whose meaning is autoescaping, which is off. */
#include "jinja.h"

#include <string.h>

static tl_err parse_body(tl_jparser *p, const char *const *ends, tl_jnode **out);

/* ---- tools, shared with jinja_expr.c ---- */

tl_err tl_jparser_node(tl_jparser *p, tl_jnode_kind kind, tl_jnode **out) {
    tl_jnode *const node = tl_jinja_alloc(p->j, sizeof *node);
    if (node == NULL) {
        return TL_ERR_MEMORY;
    }
    node->kind = kind;
    node->line = p->at->line;
    p->j->line = p->at->line;
    *out = node;
    return TL_OK;
}

tl_err tl_jnodes_add(tl_jparser *p, tl_jnodes *list, tl_jnode *node) {
    if (list->n == list->cap) {
        const uint32_t cap = 2 * list->cap + 4;
        tl_jnode **const at =
            tl_jinja_grow(p->j, list->at, list->cap * sizeof *at, cap * sizeof *at);
        if (at == NULL) {
            return TL_ERR_MEMORY;
        }
        list->at = at;
        list->cap = cap;
    }
    list->at[list->n++] = node;
    return TL_OK;
}

tl_err tl_jparser_enter(tl_jparser *p) {
    if (p->nest >= TL_JINJA_NEST_MAX) {
        return tl_jinja_fail(p->j, TL_ERR_MEMORY, "nested more than %d deep", TL_JINJA_NEST_MAX);
    }
    p->nest++;
    return TL_OK;
}

bool tl_jparser_is_op(const tl_jparser *p, const char *op) {
    return p->at->kind == TL_JT_OP && tl_str_is(p->at->text, op);
}

bool tl_jparser_is_name(const tl_jparser *p, const char *name) {
    return p->at->kind == TL_JT_NAME && tl_str_is(p->at->text, name);
}

bool tl_jparser_skip_op(tl_jparser *p, const char *op) {
    const bool is = tl_jparser_is_op(p, op);
    p->at += is;
    return is;
}

bool tl_jparser_skip_name(tl_jparser *p, const char *name) {
    const bool is = tl_jparser_is_name(p, name);
    p->at += is;
    return is;
}

tl_err tl_jparser_unexpected(tl_jparser *p, const char *wanted) {
    p->j->line = p->at->line;
    const char *got = NULL;
    switch (p->at->kind) {
    case TL_JT_END:
        got = "end of template";
        break;
    case TL_JT_TEXT:
        got = "template data / text";
        break;
    case TL_JT_PRINT_END:
        got = "end of print statement";
        break;
    case TL_JT_BLOCK_END:
        got = "end of statement block";
        break;
    default:
        break;
    }
    const int n = got != NULL ? (int)strlen(got) : (int)tl_min_u64(p->at->text.len, 60);
    got = got != NULL ? got : p->at->text.data;
    if (wanted == NULL) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "unexpected '%.*s'", n, got);
    }
    return tl_jinja_fail(p->j, TL_ERR_FORMAT, "expected token '%s', got '%.*s'", wanted, n, got);
}

tl_err tl_jparser_expect_op(tl_jparser *p, const char *op) {
    return tl_jparser_skip_op(p, op) ? TL_OK : tl_jparser_unexpected(p, op);
}

tl_err tl_jparser_expect_name(tl_jparser *p, tl_str *out) {
    if (p->at->kind != TL_JT_NAME) {
        return tl_jparser_unexpected(p, "name");
    }
    *out = p->at->text;
    p->at++;
    return TL_OK;
}

static tl_err expect_kind(tl_jparser *p, tl_jtoken_kind kind, const char *what) {
    if (p->at->kind != kind) {
        return tl_jparser_unexpected(p, what);
    }
    p->at++;
    return TL_OK;
}

static tl_err expect_word(tl_jparser *p, const char *word) {
    return tl_jparser_skip_name(p, word) ? TL_OK : tl_jparser_unexpected(p, word);
}

/* The rest of an opening tag and the body behind it; p->at is then on the word that ends it. */
static tl_err parse_block(tl_jparser *p, const char *const *ends, tl_jnode **out) {
    (void)tl_jparser_skip_op(p, ":");
    TL_TRY(expect_kind(p, TL_JT_BLOCK_END, "end of statement block"));
    return parse_body(p, ends, out);
}

/* The same up to `end`, which is dropped. */
static tl_err parse_block_to(tl_jparser *p, const char *end, tl_jnode **out) {
    const char *const ends[] = {end, NULL};
    TL_TRY(parse_block(p, ends, out));
    p->at++;
    return TL_OK;
}

/* ---- if, for ---- */

static tl_err parse_if(tl_jparser *p, tl_jnode **out) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    TL_TRY(tl_jparser_node(p, TL_JN_IF, out));
    do {
        tl_jnode *test = NULL, *body = NULL;
        p->at++; /* if, elif */
        TL_TRY(tl_jparse_tuple(p, (tl_jtuple_rules){.no_condition = true}, &test));
        TL_TRY(parse_block(p, ends, &body));
        TL_TRY(tl_jnodes_add(p, &(*out)->list, test));
        TL_TRY(tl_jnodes_add(p, &(*out)->list, body));
    } while (tl_jparser_is_name(p, "elif"));
    if (tl_jparser_skip_name(p, "else")) {
        return parse_block_to(p, "endif", &(*out)->a);
    }
    p->at++;
    return TL_OK;
}

static tl_err parse_for_test(tl_jparser *p, tl_jtoken *target_at, tl_jnode *node) {
    tl_jnode *test = NULL, *target = NULL;
    TL_TRY(tl_jparse_expression(p, true, &test));
    tl_jtoken *const behind = p->at;
    p->at = target_at; /* the test has the loop's variables of its own */
    TL_TRY(tl_jparse_target(p, false, "in", &target));
    p->at = behind;
    TL_TRY(tl_jnodes_add(p, &node->named, test));
    return tl_jnodes_add(p, &node->named, target);
}

static tl_err parse_for(tl_jparser *p, tl_jnode **out) {
    static const char *const ends[] = {"endfor", "else", NULL};
    TL_TRY(tl_jparser_node(p, TL_JN_FOR, out));
    tl_jnode *const node = *out;
    p->at++;
    tl_jtoken *const target_at = p->at;
    p->n_for++;
    TL_TRY(tl_jparse_target(p, false, "in", &node->a));
    TL_TRY(expect_word(p, "in"));
    const tl_jtuple_rules rules = {.no_condition = true, .end_name = "recursive"};
    TL_TRY(tl_jparse_tuple(p, rules, &node->b));
    if (tl_jparser_skip_name(p, "if")) {
        TL_TRY(parse_for_test(p, target_at, node));
    }
    if (tl_jparser_is_name(p, "recursive")) {
        return tl_jinja_fail(p->j, TL_ERR_UNSUPPORTED, "recursive loops are not supported");
    }
    p->n_loops++;
    TL_TRY(parse_block(p, ends, &node->c));
    p->n_loops--;
    if (tl_jparser_skip_name(p, "else")) {
        tl_jnode *otherwise = NULL;
        TL_TRY(parse_block_to(p, "endfor", &otherwise));
        TL_TRY(tl_jnodes_add(p, &node->list, otherwise));
    } else {
        p->at++;
    }
    p->n_for--;
    return TL_OK;
}

/* ---- set, with, filter ---- */

static tl_err parse_set(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_SET, out));
    p->at++;
    TL_TRY(tl_jparse_target(p, true, NULL, &(*out)->a));
    if (tl_jparser_skip_op(p, "=")) {
        return tl_jparse_tuple(p, (tl_jtuple_rules){0}, &(*out)->b);
    }
    (*out)->kind = TL_JN_SET_BLOCK;
    if (tl_jparser_is_op(p, "|")) {
        tl_jnode *captured = NULL;
        TL_TRY(tl_jparser_node(p, TL_JN_CAPTURED, &captured));
        TL_TRY(tl_jparse_filters(p, captured, false, &(*out)->b));
    }
    return parse_block_to(p, "endset", &(*out)->c);
}

static tl_err parse_with(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_WITH, out));
    tl_jnode *const node = *out;
    p->at++;
    while (p->at->kind != TL_JT_BLOCK_END) {
        tl_jnode *target = NULL, *value = NULL;
        if (node->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
        }
        TL_TRY(tl_jparse_target(p, false, NULL, &target));
        TL_TRY(tl_jparser_expect_op(p, "="));
        TL_TRY(tl_jparse_expression(p, true, &value));
        TL_TRY(tl_jnodes_add(p, &node->list, target));
        TL_TRY(tl_jnodes_add(p, &node->named, value));
    }
    return parse_block_to(p, "endwith", &node->c);
}

static tl_err parse_filter_block(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_FILTER_BLOCK, out));
    tl_jnode *captured = NULL;
    TL_TRY(tl_jparser_node(p, TL_JN_CAPTURED, &captured));
    p->at++;
    TL_TRY(tl_jparse_filters(p, captured, true, &(*out)->b));
    return parse_block_to(p, "endfilter", &(*out)->c);
}

/* ---- macro, call, generation ---- */

static tl_err parse_signature(tl_jparser *p, tl_jnode *node) {
    TL_TRY(tl_jparser_expect_op(p, "("));
    while (!tl_jparser_is_op(p, ")")) {
        if (node->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
        }
        tl_jnode *parameter = NULL, *fallback = NULL;
        TL_TRY(tl_jparser_node(p, TL_JN_NAME, &parameter));
        TL_TRY(tl_jparser_expect_name(p, &parameter->name));
        TL_TRY(tl_jnodes_add(p, &node->list, parameter));
        if (tl_jparser_skip_op(p, "=")) {
            TL_TRY(tl_jparse_expression(p, true, &fallback));
            TL_TRY(tl_jnodes_add(p, &node->named, fallback));
        } else if (node->named.n > 0) {
            return tl_jinja_fail(p->j, TL_ERR_FORMAT,
                                 "non-default argument follows default argument");
        }
    }
    return tl_jparser_expect_op(p, ")");
}

static tl_err parse_macro_body(tl_jparser *p, const char *end, tl_jnode *node) {
    if (p->n_macros == TL_JINJA_NEST_MAX) {
        return tl_jinja_fail(p->j, TL_ERR_MEMORY, "nested more than %d deep", TL_JINJA_NEST_MAX);
    }
    const unsigned n_loops = p->n_loops;
    p->n_loops = 0; /* break does not leave a macro */
    p->macros[p->n_macros++] = node;
    TL_TRY(parse_block_to(p, end, &node->c));
    p->n_macros--;
    p->n_loops = n_loops;
    return TL_OK;
}

static tl_err parse_macro(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_MACRO, out));
    p->at++;
    TL_TRY(tl_jparser_node(p, TL_JN_NAME, &(*out)->a));
    TL_TRY(tl_jparser_expect_name(p, &(*out)->name));
    (*out)->a->name = (*out)->name;
    TL_TRY(parse_signature(p, *out));
    return parse_macro_body(p, "endmacro", *out);
}

static tl_err parse_call_block(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_CALL_BLOCK, out));
    p->at++;
    if (tl_jparser_is_op(p, "(")) {
        TL_TRY(parse_signature(p, *out));
    }
    TL_TRY(tl_jparse_expression(p, true, &(*out)->a));
    if ((*out)->a->kind != TL_JN_CALL) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "expected call");
    }
    (*out)->name = tl_str_from("caller");
    return parse_macro_body(p, "endcall", *out);
}

/* Hugging Face's mark around what the assistant said: the text itself, in a scope of its own. */
static tl_err parse_generation(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_CALL_BLOCK, out));
    p->at++;
    (*out)->name = tl_str_from("generation");
    return parse_macro_body(p, "endgeneration", *out);
}

/* ---- the rest ---- */

static tl_err parse_print(tl_jparser *p, tl_jnode **out) {
    TL_TRY(tl_jparser_node(p, TL_JN_BODY, out));
    p->at++;
    while (p->at->kind != TL_JT_BLOCK_END) {
        if ((*out)->list.n > 0) {
            TL_TRY(tl_jparser_expect_op(p, ","));
        }
        tl_jnode *output = NULL;
        TL_TRY(tl_jparser_node(p, TL_JN_OUTPUT, &output));
        TL_TRY(tl_jparse_expression(p, true, &output->a));
        TL_TRY(tl_jnodes_add(p, &(*out)->list, output));
    }
    return TL_OK;
}

static tl_err parse_jump(tl_jparser *p, tl_jnode **out) {
    const bool is_break = tl_jparser_is_name(p, "break");
    if (p->n_loops == 0) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "'%s' outside loop",
                             is_break ? "break" : "continue");
    }
    TL_TRY(tl_jparser_node(p, is_break ? TL_JN_BREAK : TL_JN_CONTINUE, out));
    p->at++;
    return TL_OK;
}

static tl_err refuse(tl_jparser *p, tl_jnode **out) {
    static const char *const others[] = {"include", "import", "from",
                                         "extends", "block",  "autoescape"};
    *out = NULL;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (tl_jparser_is_name(p, others[i])) {
            return tl_jinja_fail(p->j, TL_ERR_UNSUPPORTED, "the tag '%s' is not supported",
                                 others[i]);
        }
    }
    return tl_jinja_fail(p->j, TL_ERR_FORMAT, "Encountered unknown tag '%.*s'.",
                         (int)tl_min_u64(p->at->text.len, 60), p->at->text.data);
}

static tl_err parse_statement(tl_jparser *p, tl_jnode **out) {
    static const struct {
        const char *name;
        tl_err (*parse)(tl_jparser *p, tl_jnode **out);
    } tags[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"with", parse_with},
        {"filter", parse_filter_block},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"generation", parse_generation},
        {"print", parse_print},
        {"break", parse_jump},
        {"continue", parse_jump},
    };
    p->j->line = p->at->line;
    if (p->at->kind != TL_JT_NAME) {
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "tag name expected");
    }
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (tl_jparser_is_name(p, tags[i].name)) {
            return tags[i].parse(p, out);
        }
    }
    return refuse(p, out);
}

static bool at_one_of(const tl_jparser *p, const char *const *ends) {
    for (; ends != NULL && *ends != NULL; ends++) {
        if (tl_jparser_is_name(p, *ends)) {
            return true;
        }
    }
    return false;
}

/* Text, print tags and statements up to one of `ends` behind a {%, or to the template's end. */
static tl_err parse_pieces(tl_jparser *p, const char *const *ends, tl_jnode *body) {
    while (p->at->kind != TL_JT_END) {
        tl_jnode *piece = NULL;
        const tl_jtoken_kind kind = p->at->kind;
        if (kind == TL_JT_TEXT) {
            TL_TRY(tl_jparser_node(p, TL_JN_TEXT, &piece));
            piece->name = p->at->text;
            p->at++;
        } else if (kind == TL_JT_PRINT_BEGIN) {
            p->at++;
            TL_TRY(tl_jparser_node(p, TL_JN_OUTPUT, &piece));
            TL_TRY(tl_jparse_tuple(p, (tl_jtuple_rules){0}, &piece->a));
            TL_TRY(expect_kind(p, TL_JT_PRINT_END, "end of print statement"));
        } else {
            p->at++; /* the {% */
            if (at_one_of(p, ends)) {
                return TL_OK;
            }
            TL_TRY(parse_statement(p, &piece));
            TL_TRY(expect_kind(p, TL_JT_BLOCK_END, "end of statement block"));
        }
        TL_TRY(tl_jnodes_add(p, &body->list, piece));
    }
    return TL_OK;
}

static tl_err parse_body(tl_jparser *p, const char *const *ends, tl_jnode **out) {
    TL_TRY(tl_jparser_enter(p));
    TL_TRY(tl_jparser_node(p, TL_JN_BODY, out));
    TL_TRY(parse_pieces(p, ends, *out));
    if (ends != NULL && p->at->kind == TL_JT_END) {
        p->j->line = p->at->line;
        size_t last = 0;
        while (ends[last + 1] != NULL) {
            last++;
        }
        return tl_jinja_fail(p->j, TL_ERR_FORMAT, "Unexpected end of template, '%s' is missing",
                             ends[last]);
    }
    p->nest--;
    return TL_OK;
}

tl_err tl_jinja_parse(tl_jinja *j, tl_jtoken *tokens, tl_jnode **out) {
    tl_jparser *const p = tl_jinja_alloc(j, sizeof *p);
    if (p == NULL) {
        return TL_ERR_MEMORY;
    }
    *p = (tl_jparser){.j = j, .at = tokens};
    return parse_body(p, NULL, out);
}
