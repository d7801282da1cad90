/* The ground of the template interpreter: its bounds, its arena, and how values are made. Chunks of
 * the arena are at least TL_JCHUNK_BYTES large; a request that does not fit begins a new one, so
 * only the newest chunk has room. Invariant: n_bytes is the sum of all chunks and never passes
 * n_bytes_max. */
#include "jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TL_JCHUNK_BYTES = 65536, TL_JALIGN = 16 };

struct tl_jchunk {
    struct tl_jchunk *older;
    size_t cap, used;
    _Alignas(16) char data[];
};

/* ---- errors and bounds ---- */

static void keep_sentence(tl_jinja *j, bool with_line, const char *fmt, va_list args) {
    if (j->sentence[0] != '\0') {
        return;
    }
    int n = 0;
    if (with_line && j->line > 0) {
        n = snprintf(j->sentence, sizeof j->sentence, "line %u: ", (unsigned)j->line);
    }
    vsnprintf(j->sentence + n, sizeof j->sentence - (size_t)n, fmt, args);
}

tl_err tl_jinja_fail(tl_jinja *j, tl_err err, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    keep_sentence(j, true, fmt, args);
    va_end(args);
    return err;
}

tl_err tl_jinja_raise(tl_jinja *j, tl_str message) {
    if (j->sentence[0] == '\0') {
        snprintf(j->sentence, sizeof j->sentence, "%.*s", (int)tl_min_u64(message.len, 4096),
                 message.data);
    }
    return TL_ERR_FORMAT;
}

tl_err tl_jinja_sentence(tl_jinja *j, const char **out, const char *fmt, ...) {
    char text[TL_JINJA_SENTENCE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    char *const copy = tl_jinja_alloc(j, strlen(text) + 1);
    if (copy == NULL) {
        return TL_ERR_MEMORY;
    }
    strcpy(copy, text);
    *out = copy;
    return TL_OK;
}

tl_err tl_jinja_spend(tl_jinja *j, uint64_t n_steps) {
    if (n_steps > j->n_steps_max - j->n_steps) {
        return tl_jinja_fail(j, TL_ERR_MEMORY, "the template does not end within %llu steps",
                             (unsigned long long)j->n_steps_max);
    }
    j->n_steps += n_steps;
    return TL_OK;
}

void tl_jinja_charge(tl_jinja *j, uint64_t n_steps) {
    j->n_steps += tl_min_u64(n_steps, j->n_steps_max - j->n_steps);
}

tl_err tl_jinja_enter(tl_jinja *j) {
    if (j->depth >= TL_JINJA_DEPTH_MAX) {
        return tl_jinja_fail(j, TL_ERR_MEMORY, "nested more than %d deep", TL_JINJA_DEPTH_MAX);
    }
    j->depth++;
    return TL_OK;
}

/* ---- the arena ---- */

static struct tl_jchunk *chunk_new(tl_jinja *j, size_t bytes) {
    const size_t cap = (size_t)tl_max_u64(bytes, TL_JCHUNK_BYTES);
    struct tl_jchunk *chunk = NULL;
    if (bytes <= j->n_bytes_max && cap <= j->n_bytes_max - j->n_bytes) {
        chunk = calloc(1, sizeof *chunk + cap);
    }
    if (chunk == NULL) {
        (void)tl_jinja_fail(j, TL_ERR_MEMORY, "the template needs more than %zu MiB of memory",
                            j->n_bytes_max >> 20);
        return NULL;
    }
    chunk->cap = cap;
    chunk->older = j->chunks;
    j->chunks = chunk;
    j->n_bytes += cap;
    return chunk;
}

void *tl_jinja_alloc(tl_jinja *j, size_t bytes) {
    if (bytes > SIZE_MAX / 2) {
        bytes = SIZE_MAX / 2; /* more than any bound */
    }
    const size_t aligned = (size_t)tl_align_up(bytes, TL_JALIGN);
    struct tl_jchunk *chunk = j->chunks;
    if (chunk == NULL || aligned > chunk->cap - chunk->used) {
        chunk = chunk_new(j, aligned);
        if (chunk == NULL) {
            return NULL;
        }
    }
    char *const p = chunk->data + chunk->used;
    chunk->used += aligned;
    return p;
}

void *tl_jinja_grow(tl_jinja *j, void *old, size_t old_bytes, size_t new_bytes) {
    struct tl_jchunk *const chunk = j->chunks;
    const size_t old_aligned = (size_t)tl_align_up(old_bytes, TL_JALIGN);
    if (old_bytes > 0 && new_bytes < SIZE_MAX / 2 &&
        (char *)old + old_aligned == chunk->data + chunk->used) {
        const size_t more = (size_t)tl_align_up(new_bytes, TL_JALIGN) - old_aligned;
        if (more <= chunk->cap - chunk->used) {
            chunk->used += more;
            return old;
        }
    }
    char *const p = tl_jinja_alloc(j, new_bytes);
    if (p != NULL && old_bytes > 0) {
        memcpy(p, old, old_bytes);
    }
    return p;
}

void tl_jinja_free_arena(tl_jinja *j) {
    for (struct tl_jchunk *chunk = j->chunks, *older; chunk != NULL; chunk = older) {
        older = chunk->older;
        free(chunk);
    }
    j->chunks = NULL;
    j->n_bytes = 0;
}

/* ---- strings ---- */

tl_err tl_jbuf_add(tl_jbuf *b, tl_str text) {
    if (text.len > b->cap - b->len) {
        const size_t need = text.len + b->len;
        const size_t cap = (size_t)tl_max_u64(need, 2 * b->cap + 64);
        char *const data = tl_jinja_grow(b->j, b->data, b->cap, cap);
        if (data == NULL) {
            return TL_ERR_MEMORY;
        }
        b->data = data;
        b->cap = cap;
    }
    if (text.len > 0) {
        memcpy(b->data + b->len, text.data, text.len);
    }
    b->len += text.len;
    return TL_OK;
}

tl_err tl_jbuf_add_c(tl_jbuf *b, const char *text) { return tl_jbuf_add(b, tl_str_from(text)); }

tl_err tl_jbuf_add_point(tl_jbuf *b, uint32_t point) {
    char bytes[4];
    const size_t n = tl_utf8_put(point, bytes);
    return tl_jbuf_add(b, (tl_str){bytes, n});
}

tl_err tl_jbuf_add_many(tl_jbuf *b, tl_str text, size_t n_times) {
    if (text.len == 0) {
        return TL_OK;
    }
    TL_TRY(tl_jinja_spend(b->j, n_times));
    for (size_t i = 0; i < n_times; i++) {
        TL_TRY(tl_jbuf_add(b, text));
    }
    return TL_OK;
}

tl_err tl_jbuf_take(tl_jbuf *b, tl_jval *out) {
    return tl_jstr_new(b->j, (tl_str){b->data, b->len}, out);
}

tl_err tl_jstr_new(tl_jinja *j, tl_str text, tl_jval *out) {
    tl_jstr *const s = tl_jinja_alloc(j, sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    *s = (tl_jstr){.data = text.len > 0 ? text.data : "", .len = text.len, .n_points = SIZE_MAX};
    *out = (tl_jval){.kind = TL_J_STR, .as.str = s};
    return TL_OK;
}

tl_err tl_jstr_c(tl_jinja *j, const char *text, tl_jval *out) {
    return tl_jstr_new(j, tl_str_from(text), out);
}

size_t tl_jstr_points(tl_jinja *j, tl_jstr *s) {
    if (s->n_points == SIZE_MAX) {
        size_t n = 0;
        tl_jinja_charge(j, s->len / TL_JSTEP_CHARS);
        for (size_t i = 0; i < s->len; i++) {
            n += ((unsigned char)s->data[i] & 0xC0) != 0x80;
        }
        s->n_points = n;
    }
    return s->n_points;
}

/* ---- lists and dicts ---- */

tl_err tl_jlist_new(tl_jinja *j, tl_jkind list_or_tuple, size_t cap, tl_jval *out) {
    tl_jlist *const list = tl_jinja_alloc(j, sizeof *list);
    if (list == NULL || cap > SIZE_MAX / 2 / sizeof(tl_jval)) {
        return TL_ERR_MEMORY;
    }
    *list = (tl_jlist){.cap = cap};
    if (cap > 0) {
        list->at = tl_jinja_alloc(j, cap * sizeof(tl_jval));
        if (list->at == NULL) {
            return TL_ERR_MEMORY;
        }
    }
    *out = (tl_jval){.kind = list_or_tuple, .as.list = list};
    return TL_OK;
}

tl_err tl_jlist_add(tl_jinja *j, tl_jval list, tl_jval item) {
    tl_jlist *const l = list.as.list;
    if (l->n == l->cap) {
        const size_t cap = 2 * l->cap + 4;
        tl_jval *const at =
            tl_jinja_grow(j, l->at, l->cap * sizeof(tl_jval), cap * sizeof(tl_jval));
        if (at == NULL) {
            return TL_ERR_MEMORY;
        }
        l->at = at;
        l->cap = cap;
    }
    l->at[l->n++] = item;
    return TL_OK;
}

tl_err tl_jtuple2(tl_jinja *j, tl_jval first, tl_jval second, tl_jval *out) {
    TL_TRY(tl_jlist_new(j, TL_J_TUPLE, 2, out));
    TL_TRY(tl_jlist_add(j, *out, first));
    return tl_jlist_add(j, *out, second);
}

tl_err tl_jdict_new(tl_jinja *j, tl_jkind dict_or_namespace, tl_jval *out) {
    tl_jdict *const d = tl_jinja_alloc(j, sizeof *d);
    if (d == NULL) {
        return TL_ERR_MEMORY;
    }
    *out = (tl_jval){.kind = dict_or_namespace, .as.dict = d};
    return TL_OK;
}

/* Keys are strings nearly always, and few: a search from the front, charged for, beats hashing. */
tl_err tl_jdict_find(tl_jinja *j, const tl_jdict *d, tl_jval key, tl_jval **out) {
    *out = NULL;
    TL_TRY(tl_jinja_spend(j, d->n / TL_JSTEP_KEYS));
    if (key.kind == TL_J_STR) {
        *out = tl_jdict_get(d, tl_jval_text(key));
        return TL_OK;
    }
    for (size_t i = 0; i < d->n; i++) {
        bool equal = false;
        TL_TRY(tl_jval_equal(j, d->at[i].key, key, &equal));
        if (equal) {
            *out = &d->at[i].value;
            return TL_OK;
        }
    }
    return TL_OK;
}

tl_jval *tl_jdict_get(const tl_jdict *d, tl_str key) {
    for (size_t i = 0; i < d->n; i++) {
        const tl_jval k = d->at[i].key;
        if (k.kind == TL_J_STR && tl_str_eq(tl_jval_text(k), key)) {
            return &d->at[i].value;
        }
    }
    return NULL;
}

static tl_err dict_append(tl_jinja *j, tl_jdict *d, tl_jval key, tl_jval value) {
    if (d->n == d->cap) {
        const size_t cap = 2 * d->cap + 4;
        struct tl_jentry *const at =
            tl_jinja_grow(j, d->at, d->cap * sizeof *d->at, cap * sizeof *d->at);
        if (at == NULL) {
            return TL_ERR_MEMORY;
        }
        d->at = at;
        d->cap = cap;
    }
    d->at[d->n++] = (struct tl_jentry){key, value};
    return TL_OK;
}

tl_err tl_jdict_set(tl_jinja *j, tl_jdict *d, tl_jval key, tl_jval value) {
    if (!tl_jval_hashable(key)) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "unhashable type: '%s'", tl_jval_type(key));
    }
    tl_jval *found = NULL;
    TL_TRY(tl_jdict_find(j, d, key, &found));
    if (found != NULL) {
        *found = value;
        return TL_OK;
    }
    return dict_append(j, d, key, value);
}

bool tl_jval_hashable(tl_jval v) {
    if (v.kind == TL_J_TUPLE) {
        for (size_t i = 0; i < v.as.list->n; i++) {
            const tl_jval item = v.as.list->at[i];
            /* A tuple in a tuple is refused, which Python allows: it keeps this from recursing. */
            if (item.kind == TL_J_TUPLE || !tl_jval_hashable(item)) {
                return false;
            }
        }
        return true;
    }
    return v.kind != TL_J_LIST && v.kind != TL_J_DICT && v.kind != TL_J_VIEW;
}

/* ---- undefined ---- */

tl_err tl_jundefined_new(tl_jinja *j, const char *hint, tl_jval object, tl_jval name,
                         tl_jval *out) {
    struct tl_jundefined *const u = tl_jinja_alloc(j, sizeof *u);
    if (u == NULL) {
        return TL_ERR_MEMORY;
    }
    *u = (struct tl_jundefined){.hint = hint, .object = object, .name = name};
    *out = (tl_jval){.kind = TL_J_UNDEFINED, .as.undefined = u};
    return TL_OK;
}

tl_err tl_jundefined_fail(tl_jinja *j, tl_jval undefined) {
    const struct tl_jundefined *const u = undefined.as.undefined;
    if (u->hint != NULL) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "%s", u->hint);
    }
    tl_jbuf name = {.j = j};
    TL_TRY(tl_jval_repr(&name, u->name));
    const int n = (int)tl_min_u64(name.len, 200);
    if (u->object.kind == TL_J_MISSING) {
        return tl_jinja_fail(j, TL_ERR_FORMAT, "%.*s is undefined", n, name.data);
    }
    const bool none = u->object.kind == TL_J_NONE, attribute = u->name.kind == TL_J_STR;
    const char *const quote = attribute ? "'" : "";
    return tl_jinja_fail(j, TL_ERR_FORMAT, "%s%s%s%s has no %s %.*s", quote,
                         none ? "None" : tl_jval_type(u->object), none ? "" : " object", quote,
                         attribute ? "attribute" : "element", n, name.data);
}

/* ---- from JSON ---- */

static tl_err from_json_array(tl_jinja *j, const json_t *json, tl_jval *out) {
    const size_t n = json_array_size(json);
    TL_TRY(tl_jlist_new(j, TL_J_LIST, n, out));
    for (size_t i = 0; i < n; i++) {
        tl_jval item;
        TL_TRY(tl_jval_from_json(j, json_array_get(json, i), &item));
        TL_TRY(tl_jlist_add(j, *out, item));
    }
    return TL_OK;
}

static tl_err from_json_object(tl_jinja *j, const json_t *json, tl_jval *out) {
    TL_TRY(tl_jdict_new(j, TL_J_DICT, out));
    json_t *const object =
        (json_t *)(uintptr_t)json; /* iterating takes no const, changes nothing */
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        tl_jval key, value;
        TL_TRY(tl_jstr_c(j, json_object_iter_key(it), &key));
        j->n_in += key.as.str->len;
        TL_TRY(tl_jval_from_json(j, json_object_iter_value(it), &value));
        TL_TRY(dict_append(j, out->as.dict, key, value)); /* jansson has no key twice */
    }
    return TL_OK;
}

tl_err tl_jval_from_json(tl_jinja *j, const json_t *json, tl_jval *out) {
    TL_TRY(tl_jinja_enter(j));
    tl_err err = TL_OK;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        err = from_json_object(j, json, out);
        break;
    case JSON_ARRAY:
        err = from_json_array(j, json, out);
        break;
    case JSON_STRING:
        j->n_in += json_string_length(json);
        err = tl_jstr_new(j, (tl_str){json_string_value(json), json_string_length(json)}, out);
        break;
    case JSON_INTEGER:
        *out = tl_jint(json_integer_value(json));
        break;
    case JSON_REAL:
        *out = tl_jfloat(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = tl_jbool(json_is_true(json));
        break;
    case JSON_NULL:
        *out = tl_jnone();
        break;
    }
    tl_jinja_leave(j);
    return err;
}

const char *tl_jval_type(tl_jval v) {
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    static const char *const names[] = {
        [TL_J_MISSING] = "missing",  [TL_J_UNDEFINED] = "Undefined",
        [TL_J_NONE] = "NoneType",    [TL_J_BOOL] = "bool",
        [TL_J_INT] = "int",          [TL_J_FLOAT] = "float",
        [TL_J_STR] = "str",          [TL_J_LIST] = "list",
        [TL_J_TUPLE] = "tuple",      [TL_J_DICT] = "dict",
        [TL_J_VIEW] = "dict_view",   [TL_J_RANGE] = "range",
        [TL_J_ITER] = "generator",   [TL_J_NAMESPACE] = "Namespace",
        [TL_J_MACRO] = "Macro",      [TL_J_LOOP] = "LoopContext",
        [TL_J_BUILTIN] = "function", [TL_J_CYCLER] = "Cycler",
        [TL_J_JOINER] = "Joiner",
    };
    return v.kind == TL_J_VIEW ? views[v.as.view->what] : names[v.kind];
}
