/* The chat template interpreter, seen from inside: only core/jinja_*.c and core/template.c include
 * this. The pieces, in the order a template goes through them:
 *
 *     source -> jinja_lex.c -> tokens -> jinja_parse.c, jinja_expr.c -> nodes -> jinja_scope.c
 *            -> nodes with numbered variables -> jinja_eval.c, jinja_loop.c -> text
 *
 * under which lie the values: jinja_value.c (arena, strings, lists, dicts), jinja_text.c (UTF-8),
 * jinja_print.c (str, repr, JSON), jinja_ops.c (operators), jinja_access.c (attributes, items,
 * slices), jinja_iter.c (iteration), jinja_call.c (calls, arguments), and what templates may call:
 * jinja_filters.c, jinja_filters_seq.c, jinja_tests.c, jinja_methods.c, jinja_format.c,
 * jinja_globals.c.
 *
 * Everything lives in one arena that dies with the rendering, so nothing here is ever freed and no
 * value has an owner. Values that a template can see never change, namespaces, iterators, loops and
 * cyclers aside: that is also the sandbox's rule (Jinja2's ImmutableSandboxedEnvironment).
 *
 * Errors: every function that can fail returns tl_err; the first to fail leaves the sentence in the
 * interpreter (tl_jinja_fail), the rest only pass the code upwards. */
#ifndef TL_JINJA_H
#define TL_JINJA_H

#include "base.h"

#include <jansson.h>
#include <locale.h>

enum {
    TL_JINJA_NEST_MAX = 200,      /* syntax: parentheses and blocks inside each other */
    TL_JINJA_DEPTH_MAX = 1000,    /* evaluation: expressions in macros in macros, lists in lists */
    TL_JINJA_RANGE_MAX = 100000,  /* items of a range, as in Jinja2's sandbox */
    TL_JINJA_PARAMS_MAX = 8,      /* parameters of a built-in function */
    TL_JINJA_SENTENCE_MAX = 1024, /* bytes of an error sentence */
};

/* How much of each kind of work counts as one step, so that a step stays a fraction of
 * a microsecond: work that a template can have repeated is charged for by its size. */
enum {
    TL_JSTEP_KEYS = 16,    /* names or values compared */
    TL_JSTEP_CHARS = 64,   /* characters looked at */
    TL_JSTEP_BYTES = 1024, /* bytes compared in a row */
};

/* ---- values ---- */

typedef enum tl_jkind {
    TL_J_MISSING, /* no value: an argument not given, a variable not set; never a template's */
    TL_J_UNDEFINED,
    TL_J_NONE,
    TL_J_BOOL,
    TL_J_INT,
    TL_J_FLOAT,
    TL_J_STR,
    TL_J_LIST,
    TL_J_TUPLE,
    TL_J_DICT,
    TL_J_VIEW, /* keys(), values() or items() of a dict */
    TL_J_RANGE,
    TL_J_ITER, /* what Python calls a generator: it can be walked once */
    TL_J_NAMESPACE,
    TL_J_MACRO,
    TL_J_LOOP,    /* the variable `loop` */
    TL_J_BUILTIN, /* a function, or a method with the object it belongs to */
    TL_J_CYCLER,
    TL_J_JOINER,
} tl_jkind;

typedef struct tl_jinja tl_jinja;
typedef struct tl_jnode tl_jnode;
typedef struct tl_jstr tl_jstr;
typedef struct tl_jlist tl_jlist;
typedef struct tl_jdict tl_jdict;
typedef struct tl_jiter tl_jiter;
typedef struct tl_jloop tl_jloop;
typedef struct tl_jframe tl_jframe;
typedef struct tl_jbuiltin tl_jbuiltin;

typedef struct tl_jval {
    tl_jkind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        tl_jstr *str;
        tl_jlist *list; /* LIST, TUPLE */
        tl_jdict *dict; /* DICT, NAMESPACE */
        tl_jiter *iter;
        tl_jloop *loop;
        struct tl_jundefined *undefined;
        struct tl_jview *view;
        struct tl_jrange *range;
        struct tl_jmacro *macro;
        struct tl_jbound *bound; /* BUILTIN */
        struct tl_jcycler *cycler;
        struct tl_jjoiner *joiner;
    } as;
} tl_jval;

/* Valid UTF-8, never changed. */
struct tl_jstr {
    const char *data;
    size_t len;      /* bytes */
    size_t n_points; /* code points; SIZE_MAX until somebody asks (tl_jstr_points) */
    bool markup;     /* made by `safe` or `escape`: + escapes what is added */
};

struct tl_jlist {
    tl_jval *at;
    size_t n, cap;
    bool is_group; /* a tuple of groupby: also has .grouper and .list */
};

/* In the order of insertion. */
struct tl_jdict {
    struct tl_jentry {
        tl_jval key, value;
    } * at;
    size_t n, cap;
};

struct tl_jundefined {
    const char *hint; /* the whole message, or NULL: made from the two below */
    tl_jval object;   /* MISSING for a variable */
    tl_jval name;
};

struct tl_jview {
    tl_jdict *dict;
    enum tl_jview_kind { TL_JVIEW_KEYS, TL_JVIEW_VALUES, TL_JVIEW_ITEMS } what;
};

struct tl_jrange {
    int64_t start, stop, step;
    size_t n; /* at most TL_JINJA_RANGE_MAX; start + (n - 1) * step is in 64 bits */
};

struct tl_jcycler {
    tl_jlist *items;
    size_t pos;
};

struct tl_jjoiner {
    tl_jval separator;
    bool used;
};

static inline tl_jval tl_jval_plain(tl_jkind kind) {
    tl_jval v;
    v.kind = kind;
    v.as.integer = 0;
    return v;
}
static inline tl_jval tl_jmissing(void) { return tl_jval_plain(TL_J_MISSING); }
static inline tl_jval tl_jnone(void) { return tl_jval_plain(TL_J_NONE); }
static inline tl_jval tl_jbool(bool b) {
    tl_jval v = tl_jval_plain(TL_J_BOOL);
    v.as.truth = b;
    return v;
}
static inline tl_jval tl_jint(int64_t i) {
    tl_jval v = tl_jval_plain(TL_J_INT);
    v.as.integer = i;
    return v;
}
static inline tl_jval tl_jfloat(double f) {
    tl_jval v = tl_jval_plain(TL_J_FLOAT);
    v.as.real = f;
    return v;
}
static inline tl_str tl_jval_text(tl_jval v) {
    const tl_str text = {v.as.str->data, v.as.str->len};
    return text;
}
static inline bool tl_jval_is_number(tl_jval v) {
    return v.kind == TL_J_BOOL || v.kind == TL_J_INT || v.kind == TL_J_FLOAT;
}

/* ---- the interpreter ---- */

struct tl_jinja {
    struct tl_jchunk *chunks; /* the arena, newest first; owned */
    size_t n_bytes, n_bytes_max;
    uint64_t n_steps, n_steps_max;
    size_t n_out, n_out_max;
    size_t n_in;    /* bytes of text the caller gave */
    unsigned depth; /* of evaluation; TL_JINJA_DEPTH_MAX */
    uint32_t line;  /* being lexed, parsed or evaluated */
    enum tl_jflow { TL_JFLOW_ON, TL_JFLOW_BREAK, TL_JFLOW_CONTINUE } flow;
    struct tl_jbuf *out;
    tl_jframe *frame;
    tl_jdict *vars; /* what the caller gave */
    const char *date;
    locale_t utf8; /* for letters beyond ASCII; (locale_t)0 until needed; owned */
    char sentence[TL_JINJA_SENTENCE_MAX];
};

/* Leaves the sentence, with "line N: " before it, and returns err. Only the first call counts. */
tl_err tl_jinja_fail(tl_jinja *j, tl_err err, const char *fmt, ...) TL_PRINTF(3, 4);
/* The same without the line: raise_exception. */
tl_err tl_jinja_raise(tl_jinja *j, tl_str message);

/* Makes a sentence, cut at TL_JINJA_SENTENCE_MAX, for a value that may never be used. */
TL_MUST tl_err tl_jinja_sentence(tl_jinja *j, const char **out, const char *fmt, ...)
    TL_PRINTF(3, 4);

/* Counts work done; fails when the bound on steps is passed. */
TL_MUST tl_err tl_jinja_spend(tl_jinja *j, uint64_t n_steps);
/* The same for small functions that cannot fail: the next to spend does. */
void tl_jinja_charge(tl_jinja *j, uint64_t n_steps);
/* One level deeper, and out again; fails at TL_JINJA_DEPTH_MAX. */
TL_MUST tl_err tl_jinja_enter(tl_jinja *j);
static inline void tl_jinja_leave(tl_jinja *j) { j->depth--; }

/* Zeroed memory of the arena; NULL after leaving a sentence where the bound is passed. */
void *tl_jinja_alloc(tl_jinja *j, size_t bytes);
/* Enlarges what tl_jinja_alloc returned (or NULL), in place if it is the newest. */
void *tl_jinja_grow(tl_jinja *j, void *old, size_t old_bytes, size_t new_bytes);
void tl_jinja_free_arena(tl_jinja *j);

/* ---- jinja_value.c: making values ---- */

typedef struct tl_jbuf {
    tl_jinja *j;
    char *data;
    size_t len, cap;
} tl_jbuf;

TL_MUST tl_err tl_jbuf_add(tl_jbuf *b, tl_str text);
TL_MUST tl_err tl_jbuf_add_c(tl_jbuf *b, const char *text);
TL_MUST tl_err tl_jbuf_add_point(tl_jbuf *b, uint32_t point);
TL_MUST tl_err tl_jbuf_add_many(tl_jbuf *b, tl_str text, size_t n_times);
/* The bytes as a value; the buffer is not to be added to afterwards. */
TL_MUST tl_err tl_jbuf_take(tl_jbuf *b, tl_jval *out);

/* Borrows the bytes: constants, the template's source, parts of other strings. */
TL_MUST tl_err tl_jstr_new(tl_jinja *j, tl_str text, tl_jval *out);
/* A C string that outlives the rendering. */
TL_MUST tl_err tl_jstr_c(tl_jinja *j, const char *text, tl_jval *out);
/* Counted once, and charged for. */
size_t tl_jstr_points(tl_jinja *j, tl_jstr *s);

TL_MUST tl_err tl_jlist_new(tl_jinja *j, tl_jkind list_or_tuple, size_t cap, tl_jval *out);
TL_MUST tl_err tl_jlist_add(tl_jinja *j, tl_jval list, tl_jval item);
TL_MUST tl_err tl_jtuple2(tl_jinja *j, tl_jval first, tl_jval second, tl_jval *out);

TL_MUST tl_err tl_jdict_new(tl_jinja *j, tl_jkind dict_or_namespace, tl_jval *out);
/* NULL where it has no such key. The key is hashable (tl_jval_hashable). */
TL_MUST tl_err tl_jdict_find(tl_jinja *j, const tl_jdict *d, tl_jval key, tl_jval **out);
tl_jval *tl_jdict_get(const tl_jdict *d, tl_str key);
TL_MUST tl_err tl_jdict_set(tl_jinja *j, tl_jdict *d, tl_jval key, tl_jval value);
bool tl_jval_hashable(tl_jval v);

TL_MUST tl_err tl_jundefined_new(tl_jinja *j, const char *hint, tl_jval object, tl_jval name,
                                 tl_jval *out);
/* Fails with the message of an undefined value that was used. */
TL_MUST tl_err tl_jundefined_fail(tl_jinja *j, tl_jval undefined);

TL_MUST tl_err tl_jval_from_json(tl_jinja *j, const json_t *json, tl_jval *out);
const char *tl_jval_type(tl_jval v); /* Python's name of the type */

/* ---- jinja_text.c: UTF-8 without a locale set ---- */

/* The code point at text.data[*at]; moves *at behind it. The text is valid UTF-8. */
uint32_t tl_utf8_next(tl_str text, size_t *at);
uint32_t tl_utf8_prev(tl_str text, size_t *at);
bool tl_utf8_valid(tl_str text);
size_t tl_utf8_put(uint32_t point, char out[4]);
bool tl_jpoint_is_space(uint32_t point);
bool tl_jpoint_is_alpha(tl_jinja *j, uint32_t point);
bool tl_jpoint_is_print(tl_jinja *j, uint32_t point);
uint32_t tl_jpoint_upper(tl_jinja *j, uint32_t point);
uint32_t tl_jpoint_lower(tl_jinja *j, uint32_t point);
TL_MUST tl_err tl_jtext_upper(tl_jbuf *out, tl_str text);
TL_MUST tl_err tl_jtext_lower(tl_jbuf *out, tl_str text);
/* chars.data NULL: white space. */
TL_MUST tl_err tl_jtext_strip(tl_jinja *j, tl_str text, tl_str chars, bool left, bool right,
                              tl_str *out);
/* Where needle is first at or after `from`, in bytes; SIZE_MAX where it is not. Bounded work. */
TL_MUST tl_err tl_jtext_find(tl_jinja *j, tl_str text, tl_str needle, size_t from, size_t *out);
/* Lines without (or with) what ends them, as a list. */
TL_MUST tl_err tl_jtext_lines(tl_jinja *j, tl_str text, bool with_ends, tl_jval *out);
TL_MUST tl_err tl_jtext_replace(tl_jinja *j, tl_str text, tl_str old, tl_str by, int64_t n_max,
                                tl_jval *out);
/* First letter large, the rest small. */
TL_MUST tl_err tl_jtext_capital(tl_jbuf *out, tl_str text);
/* Spaces, or any other character, around a text up to a width in code points. */
TL_MUST tl_err tl_jtext_pad(tl_jinja *j, tl_jval str, size_t left, size_t right, tl_str fill,
                            tl_jval *out);
/* The bytes before code point `n` (n <= number of points). */
size_t tl_jtext_offset(tl_jinja *j, tl_jstr *s, size_t n);
/* Python's notion of a number in a string: spaces around, underscores between. */
bool tl_jtext_to_int(tl_str text, int base, int64_t *out, bool *overflow);
bool tl_jtext_to_float(tl_str text, double *out);

/* ---- jinja_print.c ---- */

TL_MUST tl_err tl_jval_str(tl_jinja *j, tl_jval v, tl_jval *out); /* str(v) */
TL_MUST tl_err tl_jval_print(tl_jbuf *b, tl_jval v);              /* str(v), added */
TL_MUST tl_err tl_jval_repr(tl_jbuf *b, tl_jval v);               /* repr(v), added */
TL_MUST tl_err tl_jfloat_repr(tl_jbuf *b, double f);

struct tl_jjson {
    bool ascii, sort_keys, pretty;
    tl_str indent, comma, colon;
};
TL_MUST tl_err tl_jval_json(tl_jbuf *b, tl_jval v, const struct tl_jjson *how);

/* ---- jinja_ops.c ---- */

typedef enum tl_jop {
    TL_JOP_ADD,
    TL_JOP_SUB,
    TL_JOP_MUL,
    TL_JOP_DIV,
    TL_JOP_FLOORDIV,
    TL_JOP_MOD,
    TL_JOP_POW,
    TL_JOP_EQ,
    TL_JOP_NE,
    TL_JOP_LT,
    TL_JOP_LE,
    TL_JOP_GT,
    TL_JOP_GE,
    TL_JOP_IN,
    TL_JOP_NOT_IN,
} tl_jop;

TL_MUST tl_err tl_jval_arith(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b, tl_jval *out);
TL_MUST tl_err tl_jval_negate(tl_jinja *j, tl_jval v, tl_jval *out);
TL_MUST tl_err tl_jval_compare(tl_jinja *j, tl_jop op, tl_jval a, tl_jval b, bool *out);
TL_MUST tl_err tl_jval_equal(tl_jinja *j, tl_jval a, tl_jval b, bool *out);
bool tl_jval_true(tl_jval v);
/* As Python's index: an int or a bool. */
bool tl_jval_as_int(tl_jval v, int64_t *out);
TL_MUST tl_err tl_jval_escape(tl_jinja *j, tl_jval v, tl_jval *out); /* HTML; marked safe */

/* ---- jinja_access.c ---- */

TL_MUST tl_err tl_jval_attr(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out); /* a.b */
TL_MUST tl_err tl_jval_item(tl_jinja *j, tl_jval object, tl_jval key, tl_jval *out);  /* a[b] */
TL_MUST tl_err tl_jval_slice(tl_jinja *j, tl_jval object, const tl_jval bounds[3], tl_jval *out);
TL_MUST tl_err tl_jval_len(tl_jinja *j, tl_jval v, size_t *out);
/* The attribute alone: no item of that name is looked for. */
TL_MUST tl_err tl_jval_attr_only(tl_jinja *j, tl_jval object, tl_jval name, tl_jval *out);
/* "a.b.0" of an item, as `map(attribute=...)`: what is not there is undefined, or `fallback`. */
TL_MUST tl_err tl_jval_path(tl_jinja *j, tl_jval v, tl_jval path, tl_jval fallback, tl_jval *out);
tl_jval tl_jrange_at(const struct tl_jrange *r, size_t i);

/* ---- calls ---- */

typedef struct tl_jargs {
    const tl_jval *at;
    size_t n;
    const struct tl_jnamed {
        tl_str name;
        tl_jval value;
    } * named;
    size_t n_named;
} tl_jargs;

/* What a built-in gets. bound[i] is the argument for its i-th parameter, MISSING where none was
 * given; bound[0] of a filter, a test or a method is the value it is applied to. `args` are the
 * arguments as they were given, without that value; those of functions with params NULL are only
 * there (and `self`). */
typedef struct tl_jcall {
    tl_jval self;
    const tl_jval *bound;
    const tl_jargs *args;
} tl_jcall;

typedef tl_err tl_jfn(tl_jinja *j, const tl_jcall *call, tl_jval *out);

struct tl_jbuiltin {
    const char *name;
    const char *params; /* separated by spaces; those before '/' have no default; NULL: any */
    tl_jfn *fn;         /* NULL: known to Jinja2 or Python, but not offered here */
};

struct tl_jbound {
    const tl_jbuiltin *fn;
    tl_jval self; /* MISSING for a function */
};

const tl_jbuiltin *tl_jfilter_find(tl_str name);
const tl_jbuiltin *tl_jtest_find(tl_str name);
const tl_jbuiltin *tl_jglobal_find(tl_str name);
/* A method of values of this kind. *unsafe: it would change the object, so the sandbox hides it. */
const tl_jbuiltin *tl_jmethod_find(tl_jval object, tl_str name, bool *unsafe);
extern const tl_jbuiltin tl_jfilters_text[], tl_jfilters_seq[]; /* ended by a NULL name */
const tl_jbuiltin *tl_jbuiltin_find(const tl_jbuiltin *table, tl_str name);

TL_MUST tl_err tl_jbuiltin_call(tl_jinja *j, const tl_jbuiltin *fn, tl_jval self,
                                const tl_jargs *args, tl_jval *out);
TL_MUST tl_err tl_jval_call(tl_jinja *j, tl_jval callee, const tl_jargs *args, tl_jval *out);
/* The n-th argument as what it must be; fails with the sentence Python would give. */
TL_MUST tl_err tl_jarg_str(tl_jinja *j, tl_jval v, const char *what, tl_str *out);
TL_MUST tl_err tl_jarg_int(tl_jinja *j, tl_jval v, const char *what, int64_t fallback,
                           int64_t *out);

TL_MUST tl_err tl_jformat_percent(tl_jinja *j, tl_str format, tl_jval args, tl_jval *out);
TL_MUST tl_err tl_jformat_braces(tl_jinja *j, tl_str format, const tl_jargs *args, tl_jval *out);
TL_MUST tl_err tl_jvals_sort(tl_jinja *j, tl_jval *keys, tl_jval *values, size_t n, bool reverse);

/* ---- jinja_iter.c ---- */

/* Fails where v cannot be iterated over. An ITER gives itself: it is walked only once. */
TL_MUST tl_err tl_jiter_open(tl_jinja *j, tl_jval v, tl_jiter **out);
/* MISSING at the end. */
TL_MUST tl_err tl_jiter_next(tl_jinja *j, tl_jiter *it, tl_jval *out);
bool tl_jval_iterable(tl_jval v);
TL_MUST tl_err tl_jiter_list(tl_jinja *j, tl_jval v, tl_jval *out); /* list(v) */
/* An ITER over a list made beforehand. */
TL_MUST tl_err tl_jiter_over(tl_jinja *j, tl_jval list, tl_jval *out);
/* A lazy ITER: `source`'s items through `step`, which leaves MISSING in *item to drop one. */
typedef tl_err tl_jiter_step(tl_jinja *j, void *state, tl_jval *item);
TL_MUST tl_err tl_jiter_through(tl_jinja *j, tl_jval source, tl_jiter_step *step, void *state,
                                tl_jval *out);

/* ---- tokens ---- */

typedef enum tl_jtoken_kind {
    TL_JT_END,
    TL_JT_TEXT,
    TL_JT_PRINT_BEGIN,
    TL_JT_PRINT_END,
    TL_JT_BLOCK_BEGIN,
    TL_JT_BLOCK_END,
    TL_JT_NAME,
    TL_JT_STR,
    TL_JT_INT,
    TL_JT_FLOAT,
    TL_JT_OP, /* text says which */
} tl_jtoken_kind;

typedef struct tl_jtoken {
    tl_jtoken_kind kind;
    uint32_t line;
    tl_str text;   /* as in the source; the text itself for TEXT */
    tl_jval value; /* STR, INT, FLOAT */
} tl_jtoken;

/* *out: ended by TL_JT_END. */
TL_MUST tl_err tl_jinja_lex(tl_jinja *j, tl_str source, tl_jtoken **out);

/* ---- nodes ---- */

typedef struct tl_jnodes {
    tl_jnode **at;
    uint32_t n, cap;
} tl_jnodes;

/* What the fields of a node are, by its kind:
 *
 *   kind          a            b         c         list          named       other
 *   expressions
 *   CONST                                                                    value
 *   NAME                                                                     name, hops, slot
 *   TUPLE, LIST                                    items
 *   DICT                                           key, value ...
 *   ATTR          object                                                     name, value
 *   ITEM          object       key
 *   SLICE         start        stop      step                                (key of an ITEM)
 *   CALL          callee       *         **        arguments     KEYWORDs
 *   KEYWORD       value                                                      name
 *   FILTER, TEST  input        *         **        arguments     KEYWORDs    name, fn
 *   NEGATE, PLUS, NOT operand
 *   ARITH         left         right                                         op
 *   AND, OR       left         right
 *   CONCAT                                         operands
 *   COMPARE       first                            OPERANDs
 *   OPERAND       right                                                      op
 *   COND          test         then      else
 *   CAPTURED                                                                 value
 *   targets of assignments: NAME, TUPLE, and
 *   NS_ATTR       NAME                                                       name
 *   statements
 *   TEXT                                                                     name: the text
 *   OUTPUT        expression
 *   BODY                                           statements                scope
 *   IF            else                             test, BODY ...
 *   FOR           target       iterable  BODY      else BODY     test, target  scope: test's
 *   SET           target       value
 *   SET_BLOCK     target       FILTER    BODY
 *   WITH                                 BODY      targets       values
 *   MACRO         NAME                   BODY      parameters    defaults    name
 *   CALL_BLOCK    CALL                   BODY      parameters    defaults
 *   FILTER_BLOCK               FILTER    BODY
 *
 * NULL or empty where the template has none. CAPTURED is the innermost input of the filters of a
 * block: its text. The test of a FOR has the target again, with variables of its own. */
typedef enum tl_jnode_kind {
    TL_JN_CONST,
    TL_JN_NAME,
    TL_JN_TUPLE,
    TL_JN_LIST,
    TL_JN_DICT,
    TL_JN_ATTR,
    TL_JN_ITEM,
    TL_JN_SLICE,
    TL_JN_CALL,
    TL_JN_KEYWORD,
    TL_JN_FILTER,
    TL_JN_TEST,
    TL_JN_NEGATE,
    TL_JN_PLUS,
    TL_JN_NOT,
    TL_JN_ARITH,
    TL_JN_AND,
    TL_JN_OR,
    TL_JN_CONCAT,
    TL_JN_COMPARE,
    TL_JN_OPERAND,
    TL_JN_COND,
    TL_JN_CAPTURED,
    TL_JN_NS_ATTR,
    TL_JN_TEXT,
    TL_JN_OUTPUT,
    TL_JN_BODY,
    TL_JN_IF,
    TL_JN_FOR,
    TL_JN_SET,
    TL_JN_SET_BLOCK,
    TL_JN_WITH,
    TL_JN_MACRO,
    TL_JN_CALL_BLOCK,
    TL_JN_FILTER_BLOCK,
    TL_JN_BREAK,
    TL_JN_CONTINUE,
} tl_jnode_kind;

struct tl_jnode {
    tl_jnode_kind kind;
    tl_jop op;
    uint32_t line;
    uint32_t hops, slot;                         /* NAME: frames outwards, variable in that frame */
    bool uses_caller, uses_kwargs, uses_varargs; /* MACRO, CALL_BLOCK */
    tl_str name;
    tl_jval value;
    tl_jnode *a, *b, *c;
    tl_jnodes list, named;
    const tl_jbuiltin *fn;
    struct tl_jscope *scope;
};

/* The variables of a stretch of template, worked out by jinja_scope.c. Variables live in frames:
 * one for the template, one for each call of a macro; scopes in between (loops) only number
 * more variables of the frame they are in. */
struct tl_jscope {
    struct tl_jload { /* what a variable is when the scope is entered */
        enum { TL_JLOAD_RESOLVE, TL_JLOAD_ALIAS, TL_JLOAD_UNDEFINED } how;
        uint32_t slot;
        uint32_t from_hops, from_slot; /* ALIAS */
        tl_str name;                   /* RESOLVE */
    } * load;
    uint32_t n_loads;
    uint32_t n_slots;                                /* of the frame; for its own scope only */
    uint32_t loop_slot;                              /* FOR */
    uint32_t caller_slot, kwargs_slot, varargs_slot; /* MACRO, CALL_BLOCK; UINT32_MAX: none */
};

struct tl_jframe {
    tl_jframe *outer;
    tl_jval *slot;
};

struct tl_jmacro {
    const tl_jnode *node;
    tl_jframe *outer;
};

/* *out: a BODY. */
TL_MUST tl_err tl_jinja_parse(tl_jinja *j, tl_jtoken *tokens, tl_jnode **out);
TL_MUST tl_err tl_jinja_resolve(tl_jinja *j, tl_jnode *root);
TL_MUST tl_err tl_jinja_run(tl_jinja *j, const tl_jnode *root);
TL_MUST tl_err tl_jinja_eval(tl_jinja *j, const tl_jnode *expression, tl_jval *out);
TL_MUST tl_err tl_jmacro_call(tl_jinja *j, const struct tl_jmacro *m, const tl_jargs *args,
                              tl_jval *out);
/* Gives the scope's variables what they hold at its beginning. */
TL_MUST tl_err tl_jinja_enter_scope(tl_jinja *j, const struct tl_jscope *scope);
TL_MUST tl_err tl_jinja_assign(tl_jinja *j, const tl_jnode *target, tl_jval value);

/* ---- jinja_loop.c ---- */

TL_MUST tl_err tl_jloop_new(tl_jinja *j, const tl_jnode *node, tl_jval iterable, tl_jloop **out);
/* MISSING at the end. */
TL_MUST tl_err tl_jloop_next(tl_jinja *j, tl_jloop *loop, tl_jval *out);
/* MISSING where `loop` has no such attribute. */
TL_MUST tl_err tl_jloop_attr(tl_jinja *j, tl_jloop *loop, tl_str name, tl_jval *out);

/* ---- the parser, shared by jinja_parse.c and jinja_expr.c ---- */

typedef struct tl_jparser {
    tl_jinja *j;
    tl_jtoken *at;
    unsigned nest;                       /* TL_JINJA_NEST_MAX */
    unsigned n_loops;                    /* inside the body of a for of the same macro */
    unsigned n_for;                      /* inside any for */
    tl_jnode *macros[TL_JINJA_NEST_MAX]; /* open macros and call blocks, for their special names */
    unsigned n_macros;
} tl_jparser;

TL_MUST tl_err tl_jparser_node(tl_jparser *p, tl_jnode_kind kind, tl_jnode **out);
TL_MUST tl_err tl_jnodes_add(tl_jparser *p, tl_jnodes *list, tl_jnode *node);
bool tl_jparser_is_op(const tl_jparser *p, const char *op);
bool tl_jparser_is_name(const tl_jparser *p, const char *name);
bool tl_jparser_skip_op(tl_jparser *p, const char *op);
bool tl_jparser_skip_name(tl_jparser *p, const char *name);
TL_MUST tl_err tl_jparser_expect_op(tl_jparser *p, const char *op);
TL_MUST tl_err tl_jparser_expect_name(tl_jparser *p, tl_str *out);
/* Fails: "expected token 'wanted', got ...". */
TL_MUST tl_err tl_jparser_unexpected(tl_jparser *p, const char *wanted);
/* One level of syntax deeper; leaving is p->nest--. */
TL_MUST tl_err tl_jparser_enter(tl_jparser *p);

/* How far a list without brackets goes. */
typedef struct tl_jtuple_rules {
    bool no_condition;    /* `x if y` belongs to the statement */
    bool targets;         /* only what can stand before = */
    bool namespaces;      /* a.b among them */
    bool parentheses;     /* () is a tuple */
    const char *end_name; /* "in", "recursive" */
} tl_jtuple_rules;

TL_MUST tl_err tl_jparse_tuple(tl_jparser *p, tl_jtuple_rules rules, tl_jnode **out);
TL_MUST tl_err tl_jparse_expression(tl_jparser *p, bool with_condition, tl_jnode **out);
TL_MUST tl_err tl_jparse_target(tl_jparser *p, bool namespaces, const char *end_name,
                                tl_jnode **out);
TL_MUST tl_err tl_jparse_filters(tl_jparser *p, tl_jnode *input, bool inline_first, tl_jnode **out);

#endif
