/* The state of a running `for`: its iterator, one item of looking ahead, and the variable `loop`.
 * An item is asked for as late as possible, since the condition of `for x in y if condition` may
 * depend on what the body did before. A loop can be seen after its round (a macro may keep it): it
 * lives in the arena. */
#include "jinja.h"

struct tl_jloop {
    tl_jiter *it;
    tl_jval iterable;
    tl_jval previous, current, next; /* next: MISSING until somebody looks ahead */
    tl_jval changed;                 /* what loop.changed was last asked about */
    bool peeked, ended;
    int64_t index0, length; /* length: -1 until somebody asks */
};

static tl_err loop_peek(tl_jinja *j, tl_jloop *loop) {
    if (!loop->peeked && !loop->ended) {
        TL_TRY(tl_jiter_next(j, loop->it, &loop->next));
        loop->peeked = true;
        loop->ended = loop->next.kind == TL_J_MISSING;
    }
    return TL_OK;
}

/* What has no length is drawn to its end to be counted, and walked from the copy. */
static tl_err loop_length(tl_jinja *j, tl_jloop *loop) {
    size_t n = 0;
    if (loop->length >= 0) {
        return TL_OK;
    }
    if (loop->iterable.kind != TL_J_ITER) {
        TL_TRY(tl_jval_len(j, loop->iterable, &n));
        loop->length = (int64_t)n;
        return TL_OK;
    }
    tl_jval rest;
    TL_TRY(tl_jiter_list(j, loop->iterable, &rest));
    loop->length = (int64_t)rest.as.list->n + loop->index0 + 1 +
                   (loop->peeked && loop->next.kind != TL_J_MISSING);
    return tl_jiter_open(j, rest, &loop->it);
}

static tl_err loop_cycle(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    if (call->args->n == 0) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "no items for cycling given");
    }
    *out = call->args->at[(uint64_t)call->self.as.loop->index0 % call->args->n];
    return TL_OK;
}

static tl_err loop_changed(tl_jinja *j, const tl_jcall *call, tl_jval *out) {
    tl_jloop *const loop = call->self.as.loop;
    tl_jval now;
    bool same = false;
    TL_TRY(tl_jlist_new(j, TL_J_TUPLE, call->args->n, &now));
    for (size_t i = 0; i < call->args->n; i++) {
        TL_TRY(tl_jlist_add(j, now, call->args->at[i]));
    }
    TL_TRY(tl_jval_equal(j, now, loop->changed, &same));
    loop->changed = now;
    *out = tl_jbool(!same);
    return TL_OK;
}

static tl_err loop_method(tl_jinja *j, tl_jloop *loop, tl_str name, tl_jval *out) {
    static const tl_jbuiltin methods[] = {{"cycle", NULL, loop_cycle},
                                          {"changed", NULL, loop_changed}};
    for (size_t i = 0; i < 2; i++) {
        if (tl_str_is(name, methods[i].name)) {
            struct tl_jbound *const bound = tl_jinja_alloc(j, sizeof *bound);
            if (bound == NULL) {
                return TL_ERR_MEMORY;
            }
            *bound = (struct tl_jbound){&methods[i], {.kind = TL_J_LOOP, .as.loop = loop}};
            *out = (tl_jval){.kind = TL_J_BUILTIN, .as.bound = bound};
        }
    }
    return TL_OK;
}

static tl_err loop_neighbour(tl_jinja *j, tl_jval item, const char *hint, tl_jval *out) {
    *out = item;
    return item.kind != TL_J_MISSING
               ? TL_OK
               : tl_jundefined_new(j, hint, tl_jmissing(), tl_jmissing(), out);
}

tl_err tl_jloop_attr(tl_jinja *j, tl_jloop *loop, tl_str name, tl_jval *out) {
    *out = tl_jmissing();
    if (tl_str_is(name, "index0") || tl_str_is(name, "index")) {
        *out = tl_jint(loop->index0 + tl_str_is(name, "index"));
    } else if (tl_str_is(name, "first")) {
        *out = tl_jbool(loop->index0 == 0);
    } else if (tl_str_is(name, "last")) {
        TL_TRY(loop_peek(j, loop));
        *out = tl_jbool(loop->next.kind == TL_J_MISSING);
    } else if (tl_str_is(name, "length")) {
        TL_TRY(loop_length(j, loop));
        *out = tl_jint(loop->length);
    } else if (tl_str_is(name, "revindex") || tl_str_is(name, "revindex0")) {
        TL_TRY(loop_length(j, loop));
        *out = tl_jint(loop->length - loop->index0 - tl_str_is(name, "revindex0"));
    } else if (tl_str_is(name, "depth") || tl_str_is(name, "depth0")) {
        *out = tl_jint(tl_str_is(name, "depth"));
    } else if (tl_str_is(name, "previtem")) {
        return loop_neighbour(j, loop->previous, "there is no previous item", out);
    } else if (tl_str_is(name, "nextitem")) {
        TL_TRY(loop_peek(j, loop));
        return loop_neighbour(j, loop->next, "there is no next item", out);
    } else {
        return loop_method(j, loop, name, out);
    }
    return TL_OK;
}

tl_err tl_jloop_next(tl_jinja *j, tl_jloop *loop, tl_jval *out) {
    TL_TRY(loop_peek(j, loop));
    loop->previous = loop->current;
    loop->current = loop->next;
    loop->next = tl_jmissing();
    loop->peeked = false;
    loop->index0++;
    *out = loop->current;
    return TL_OK;
}

struct condition {
    const tl_jnode *node;
    tl_jframe *frame;
};

/* The condition of `for x in y if condition`, with x in variables of its own. A macro called in the
 * loop may be what asks for the next item, hence the frame. */
static tl_err loop_condition(tl_jinja *j, void *state, tl_jval *item) {
    const struct condition *const condition = state;
    const tl_jnode *const node = condition->node;
    tl_jframe *const outside = j->frame;
    tl_jval holds;
    j->frame = condition->frame;
    TL_TRY(tl_jinja_enter_scope(j, node->scope));
    TL_TRY(tl_jinja_assign(j, node->named.at[1], *item));
    TL_TRY(tl_jinja_eval(j, node->named.at[0], &holds));
    j->frame = outside;
    if (!tl_jval_true(holds)) {
        *item = tl_jmissing();
    }
    return TL_OK;
}

tl_err tl_jloop_new(tl_jinja *j, const tl_jnode *node, tl_jval iterable, tl_jloop **out) {
    tl_jloop *const loop = tl_jinja_alloc(j, sizeof *loop);
    struct condition *const condition = tl_jinja_alloc(j, sizeof *condition);
    if (loop == NULL || condition == NULL) {
        return TL_ERR_MEMORY;
    }
    *loop = (tl_jloop){.iterable = iterable, .index0 = -1, .length = -1};
    if (node->named.n > 0) {
        *condition = (struct condition){.node = node, .frame = j->frame};
        TL_TRY(tl_jiter_through(j, iterable, loop_condition, condition, &loop->iterable));
    }
    *out = loop;
    return tl_jiter_open(j, loop->iterable, &loop->it);
}
