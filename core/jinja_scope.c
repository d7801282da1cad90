/* Which variable a name means. Jinja2 decides this before anything runs, and so does this pass:
 * every name gets a place in a frame (slot, hops outwards), every scope a list of what its
 * variables hold when it is entered.
 *
 *     scope of       opened by                                   own frame
 *     template       the template                                yes
 *     macro          macro, call, generation                     yes
 *     block          for (body, else, and its test), with,       no: more slots of the same frame
 *                    filter, set with a body
 *
 * An `if` opens none. A name that a scope assigns anywhere in itself is that scope's own: on entry
 * it takes the value it has outside (ALIAS); where no enclosing scope knows the name it is looked
 * up among what the caller gave (RESOLVE) unless the scope assigns it before it can have been read
 * (UNDEFINED). A name that is only read belongs to the nearest scope around that knows it.
 *
 * Each scope is walked twice: `declare` collects its names, nested scopes excluded, then `bind`
 * fills the nodes in and walks into the nested scopes, which so see all names of this one. */
#include "jinja.h"

typedef struct symbol {
    tl_str name;
    bool parameter; /* set by who enters the scope: loop variables, arguments */
    struct tl_jload load;
} symbol;

typedef struct symbols {
    struct symbols *outer;
    uint32_t *n_slots; /* of the frame this scope is in */
    symbol *at;
    uint32_t n, cap;
} symbols;

/* ---- tables of names ---- */

static symbol *find_own(const symbols *s, tl_str name) {
    for (uint32_t i = 0; i < s->n; i++) {
        if (tl_str_eq(s->at[i].name, name)) {
            return &s->at[i];
        }
    }
    return NULL;
}

/* The nearest scope's; *hops counts the frames in between. Charged, as hostile templates have many
 * names. */
static tl_err find(tl_jinja *j, const symbols *s, tl_str name, symbol **out, uint32_t *hops) {
    *hops = 0;
    for (; s != NULL; s = s->outer) {
        TL_TRY(tl_jinja_spend(j, s->n / TL_JSTEP_KEYS));
        *out = find_own(s, name);
        if (*out != NULL) {
            return TL_OK;
        }
        *hops += s->outer != NULL && s->outer->n_slots != s->n_slots;
    }
    *out = NULL;
    return TL_OK;
}

static tl_err add(tl_jinja *j, symbols *s, symbol symbol_new) {
    if (s->n == s->cap) {
        const uint32_t cap = 2 * s->cap + 4;
        symbol *const at = tl_jinja_grow(j, s->at, s->cap * sizeof *at, cap * sizeof *at);
        if (at == NULL) {
            return TL_ERR_MEMORY;
        }
        s->at = at;
        s->cap = cap;
    }
    symbol_new.load.slot = (*s->n_slots)++;
    s->at[s->n++] = symbol_new;
    return TL_OK;
}

static tl_err declare_parameter(tl_jinja *j, symbols *s, tl_str name, uint32_t *slot) {
    TL_TRY(tl_jinja_spend(j, s->n / TL_JSTEP_KEYS));
    symbol *own = find_own(s, name);
    if (own == NULL) {
        TL_TRY(add(j, s, (symbol){.name = name}));
        own = &s->at[s->n - 1];
    }
    own->parameter = true;
    if (slot != NULL) {
        *slot = own->load.slot;
    }
    return TL_OK;
}

static tl_err declare_load(tl_jinja *j, symbols *s, tl_str name) {
    symbol *known = NULL;
    uint32_t hops = 0;
    TL_TRY(find(j, s, name, &known, &hops));
    if (known != NULL) {
        return TL_OK;
    }
    return add(j, s, (symbol){.name = name, .load = {.how = TL_JLOAD_RESOLVE, .name = name}});
}

static tl_err declare_store(tl_jinja *j, symbols *s, tl_str name, bool in_branch) {
    symbol *known = NULL;
    uint32_t hops = 0;
    TL_TRY(tl_jinja_spend(j, s->n / TL_JSTEP_KEYS));
    if (find_own(s, name) != NULL) {
        return TL_OK;
    }
    symbol own = {.name = name, .load = {.name = name}};
    TL_TRY(find(j, s, name, &known, &hops));
    if (known != NULL) {
        own.load.how = TL_JLOAD_ALIAS;
        own.load.from_hops = hops;
        own.load.from_slot = known->load.slot;
    } else {
        own.load.how = in_branch ? TL_JLOAD_RESOLVE : TL_JLOAD_UNDEFINED;
    }
    return add(j, s, own);
}

/* ---- first walk: the names of one scope ---- */

static tl_err declare(tl_jinja *j, symbols *s, const tl_jnode *node, bool in_branch);

static tl_err declare_all(tl_jinja *j, symbols *s, const tl_jnodes *nodes, bool in_branch) {
    for (uint32_t i = 0; i < nodes->n; i++) {
        TL_TRY(declare(j, s, nodes->at[i], in_branch));
    }
    return TL_OK;
}

static tl_err declare_target(tl_jinja *j, symbols *s, const tl_jnode *node, bool in_branch) {
    if (node->kind == TL_JN_NAME) {
        return declare_store(j, s, node->name, in_branch);
    }
    if (node->kind == TL_JN_NS_ATTR) {
        return declare_load(j, s, node->a->name);
    }
    for (uint32_t i = 0; i < node->list.n; i++) {
        TL_TRY(declare_target(j, s, node->list.at[i], in_branch));
    }
    return TL_OK;
}

static tl_err declare_parameters(tl_jinja *j, symbols *s, const tl_jnode *node) {
    if (node->kind == TL_JN_NAME) {
        return declare_parameter(j, s, node->name, NULL);
    }
    for (uint32_t i = 0; i < node->list.n; i++) {
        TL_TRY(declare_parameters(j, s, node->list.at[i]));
    }
    return TL_OK;
}

static tl_err declare_if(tl_jinja *j, symbols *s, const tl_jnode *node, bool in_branch) {
    for (uint32_t i = 0; i < node->list.n; i += 2) {
        TL_TRY(declare(j, s, node->list.at[i], in_branch));
        TL_TRY(declare(j, s, node->list.at[i + 1], true));
    }
    return declare(j, s, node->a, true);
}

static tl_err declare_node(tl_jinja *j, symbols *s, const tl_jnode *node, bool in_branch) {
    switch (node->kind) {
    case TL_JN_NAME:
        return declare_load(j, s, node->name);
    case TL_JN_SET:
        TL_TRY(declare(j, s, node->b, in_branch));
        return declare_target(j, s, node->a, in_branch);
    case TL_JN_SET_BLOCK:
        return declare_target(j, s, node->a, in_branch);
    case TL_JN_MACRO:
        return declare_store(j, s, node->name, in_branch);
    case TL_JN_IF:
        return declare_if(j, s, node, in_branch);
    case TL_JN_FOR:
    case TL_JN_FILTER_BLOCK:
        return declare(j, s, node->b, in_branch);
    case TL_JN_CALL_BLOCK:
        return declare(j, s, node->a, in_branch);
    case TL_JN_WITH:
        return declare_all(j, s, &node->named, in_branch);
    default: /* expressions, and statements without a scope of their own */
        TL_TRY(declare(j, s, node->a, in_branch));
        TL_TRY(declare(j, s, node->b, in_branch));
        TL_TRY(declare(j, s, node->c, in_branch));
        TL_TRY(declare_all(j, s, &node->list, in_branch));
        return declare_all(j, s, &node->named, in_branch);
    }
}

static tl_err declare(tl_jinja *j, symbols *s, const tl_jnode *node, bool in_branch) {
    if (node == NULL) {
        return TL_OK;
    }
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(declare_node(j, s, node, in_branch));
    tl_jinja_leave(j);
    return TL_OK;
}

/* ---- second walk: names to slots ---- */

static tl_err bind(tl_jinja *j, symbols *s, tl_jnode *node, bool soft);

static tl_err bind_all(tl_jinja *j, symbols *s, const tl_jnodes *nodes, bool soft) {
    for (uint32_t i = 0; i < nodes->n; i++) {
        TL_TRY(bind(j, s, nodes->at[i], soft));
    }
    return TL_OK;
}

/* What the declared names hold on entry, for the evaluator. */
static tl_err scope_new(tl_jinja *j, const symbols *s, struct tl_jscope **out) {
    struct tl_jscope *const scope = tl_jinja_alloc(j, sizeof *scope);
    if (scope == NULL) {
        return TL_ERR_MEMORY;
    }
    scope->load = tl_jinja_alloc(j, s->n * sizeof *scope->load);
    if (scope->load == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->at[i].parameter) {
            scope->load[scope->n_loads++] = s->at[i].load;
        }
    }
    scope->caller_slot = scope->kwargs_slot = scope->varargs_slot = UINT32_MAX;
    *out = scope;
    return TL_OK;
}

static tl_err bind_for(tl_jinja *j, symbols *s, tl_jnode *node, bool soft) {
    symbols loop = {.outer = s, .n_slots = s->n_slots};
    uint32_t loop_slot = 0;
    TL_TRY(bind(j, s, node->b, soft));
    TL_TRY(declare_parameter(j, &loop, tl_str_from("loop"), &loop_slot));
    TL_TRY(declare_parameters(j, &loop, node->a));
    TL_TRY(declare(j, &loop, node->c, false));
    TL_TRY(scope_new(j, &loop, &node->c->scope));
    node->c->scope->loop_slot = loop_slot;
    TL_TRY(bind(j, &loop, node->a, false));
    TL_TRY(bind(j, &loop, node->c, false));
    if (node->named.n > 0) {
        symbols test = {.outer = s, .n_slots = s->n_slots};
        TL_TRY(declare_parameters(j, &test, node->named.at[1]));
        TL_TRY(declare(j, &test, node->named.at[0], false));
        TL_TRY(scope_new(j, &test, &node->scope));
        TL_TRY(bind_all(j, &test, &node->named, false));
    }
    if (node->list.n > 0) {
        symbols otherwise = {.outer = s, .n_slots = s->n_slots};
        TL_TRY(declare(j, &otherwise, node->list.at[0], false));
        TL_TRY(scope_new(j, &otherwise, &node->list.at[0]->scope));
        TL_TRY(bind(j, &otherwise, node->list.at[0], false));
    }
    return TL_OK;
}

/* set with a body, filter: `b` is the filter, `c` the body. */
static tl_err bind_block(tl_jinja *j, symbols *s, tl_jnode *node) {
    symbols inner = {.outer = s, .n_slots = s->n_slots};
    TL_TRY(declare(j, &inner, node->b, false));
    TL_TRY(declare(j, &inner, node->c, false));
    TL_TRY(scope_new(j, &inner, &node->c->scope));
    TL_TRY(bind(j, &inner, node->b, false));
    return bind(j, &inner, node->c, false);
}

static tl_err bind_with(tl_jinja *j, symbols *s, tl_jnode *node, bool soft) {
    symbols inner = {.outer = s, .n_slots = s->n_slots};
    TL_TRY(bind_all(j, s, &node->named, soft));
    for (uint32_t i = 0; i < node->list.n; i++) {
        TL_TRY(declare_parameters(j, &inner, node->list.at[i]));
    }
    TL_TRY(declare(j, &inner, node->c, false));
    TL_TRY(scope_new(j, &inner, &node->c->scope));
    TL_TRY(bind_all(j, &inner, &node->list, false));
    return bind(j, &inner, node->c, false);
}

static tl_err bind_macro(tl_jinja *j, symbols *s, tl_jnode *node) {
    const struct {
        const char *name;
        bool used;
    } special[3] = {{"caller", node->uses_caller},
                    {"kwargs", node->uses_kwargs},
                    {"varargs", node->uses_varargs}};
    uint32_t n_slots = 0, slots[3];
    symbols inner = {.outer = s, .n_slots = &n_slots};
    for (uint32_t i = 0; i < node->list.n; i++) {
        TL_TRY(declare_parameter(j, &inner, node->list.at[i]->name, NULL));
    }
    for (unsigned i = 0; i < 3; i++) {
        const tl_str name = tl_str_from(special[i].name);
        slots[i] = UINT32_MAX;
        if (special[i].used && find_own(&inner, name) == NULL) {
            TL_TRY(declare_parameter(j, &inner, name, &slots[i]));
        }
    }
    TL_TRY(declare_all(j, &inner, &node->named, false));
    TL_TRY(declare(j, &inner, node->c, false));
    struct tl_jscope *scope = NULL;
    TL_TRY(scope_new(j, &inner, &scope));
    node->c->scope = scope;
    TL_TRY(bind_all(j, &inner, &node->list, false));
    TL_TRY(bind_all(j, &inner, &node->named, false));
    TL_TRY(bind(j, &inner, node->c, false));
    scope->caller_slot = slots[0];
    scope->kwargs_slot = slots[1];
    scope->varargs_slot = slots[2];
    scope->n_slots = n_slots;
    return TL_OK;
}

static tl_err bind_name(tl_jinja *j, symbols *s, tl_jnode *node) {
    symbol *known = NULL;
    TL_TRY(find(j, s, node->name, &known, &node->hops));
    TL_ASSERT(known != NULL); /* declare has seen every name */
    node->slot = known->load.slot;
    return TL_OK;
}

/* Names of filters and tests must exist, but those directly inside an if matter only when they are
 * reached. */
static tl_err check_function(tl_jinja *j, const tl_jnode *node, bool soft) {
    if (node->fn != NULL || soft) {
        return TL_OK;
    }
    return tl_jinja_fail(j, TL_ERR_FORMAT, "No %s named '%.*s'.",
                         node->kind == TL_JN_TEST ? "test" : "filter",
                         (int)tl_min_u64(node->name.len, 100), node->name.data);
}

static tl_err bind_node(tl_jinja *j, symbols *s, tl_jnode *node, bool soft) {
    switch (node->kind) {
    case TL_JN_NAME:
        return bind_name(j, s, node);
    case TL_JN_FOR:
        return bind_for(j, s, node, soft);
    case TL_JN_SET_BLOCK:
        TL_TRY(bind(j, s, node->a, soft));
        return bind_block(j, s, node);
    case TL_JN_FILTER_BLOCK:
        return bind_block(j, s, node);
    case TL_JN_WITH:
        return bind_with(j, s, node, soft);
    case TL_JN_MACRO:
    case TL_JN_CALL_BLOCK:
        TL_TRY(bind(j, s, node->a, soft));
        return bind_macro(j, s, node);
    case TL_JN_FILTER:
    case TL_JN_TEST:
        TL_TRY(check_function(j, node, soft));
        break;
    default:
        soft |= node->kind == TL_JN_IF || node->kind == TL_JN_COND;
        break;
    }
    TL_TRY(bind(j, s, node->a, soft));
    TL_TRY(bind(j, s, node->b, soft));
    TL_TRY(bind(j, s, node->c, soft));
    TL_TRY(bind_all(j, s, &node->list, soft));
    return bind_all(j, s, &node->named, soft);
}

static tl_err bind(tl_jinja *j, symbols *s, tl_jnode *node, bool soft) {
    if (node == NULL) {
        return TL_OK;
    }
    j->line = node->line;
    TL_TRY(tl_jinja_enter(j));
    TL_TRY(bind_node(j, s, node, soft));
    tl_jinja_leave(j);
    return TL_OK;
}

tl_err tl_jinja_resolve(tl_jinja *j, tl_jnode *root) {
    uint32_t n_slots = 0;
    symbols s = {.n_slots = &n_slots};
    TL_TRY(declare(j, &s, root, false));
    TL_TRY(scope_new(j, &s, &root->scope));
    TL_TRY(bind(j, &s, root, false));
    root->scope->n_slots = n_slots;
    return TL_OK;
}
