/* tailor info: what a model file says, and whether it could be run. Everything printed comes from a
 * hostile file, so it goes through cli_print_text. */
#include "commands.h"
#include "load.h"

#include "core/model.h"
#include "core/token.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 120, LIST_MAX = 6 };

static const char *const type_names[] = {"u8",   "i8",  "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "str", "array", "u64", "i64", "f64"};

static bool is_float(tl_meta_type type) { return type == TL_META_F32 || type == TL_META_F64; }

static json_t *json_text(tl_str s) {
    json_t *const text = json_stringn(s.data, s.len);
    return text != NULL ? text : json_string("(not UTF-8)");
}

/* A scalar, or element i of an array of scalars. */
static json_t *json_scalar(const struct tl_meta *m, uint64_t i) {
    if (is_float(m->elem)) {
        const double value = tl_meta_float_at(m, i);
        json_t *const real = json_real(value);
        return real != NULL ? real : json_null(); /* NaN and infinity have no JSON */
    }
    const int64_t value = tl_meta_int_at(m, i);
    return m->elem == TL_META_BOOL ? json_boolean(value != 0) : json_integer(value);
}

/* Arrays are shown by their beginning: a vocabulary is no reading matter. */
static json_t *json_meta(const struct tl_meta *m) {
    const uint8_t *at = m->data;
    if (m->type == TL_META_STR) {
        return json_text(tl_meta_next_str(&at));
    }
    if (m->type != TL_META_ARRAY) {
        return json_scalar(m, 0);
    }
    json_t *const first = json_array();
    for (uint64_t i = 0; i < m->n && i < LIST_MAX && m->elem != TL_META_ARRAY; i++) {
        json_array_append_new(first, m->elem == TL_META_STR ? json_text(tl_meta_next_str(&at))
                                                            : json_scalar(m, i));
    }
    return json_pack("{s:s,s:I,s:o}", "array_of", type_names[m->elem], "length", (json_int_t)m->n,
                     "first", first);
}

static json_t *json_tensors(const tl_weights *w) {
    json_t *const list = json_array();
    for (uint64_t i = 0; i < tl_weights_n_tensors(w); i++) {
        const struct tl_tensor *const t = tl_weights_tensor(w, i);
        json_t *const dims = json_array();
        for (uint32_t d = 0; d < t->n_dims; d++) {
            json_array_append_new(dims, json_integer((json_int_t)t->dims[d]));
        }
        json_array_append_new(list, json_pack("{s:o,s:s,s:o,s:I}", "name", json_text(t->name),
                                              "type", tl_dtype_info(t->dtype)->name, "dims", dims,
                                              "bytes", (json_int_t)t->bytes));
    }
    return list;
}

static bool print_json(const tl_weights *w) {
    json_t *const metas = json_object();
    for (uint64_t i = 0; i < tl_weights_n_metas(w); i++) {
        const struct tl_meta *const m = tl_weights_meta(w, i);
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)tl_min_u64(m->key.len, 255), m->key.data);
        json_object_set_new(metas, key, json_meta(m)); /* fails for a key that is not UTF-8 */
    }
    return cli_print_json(
        json_pack("{s:o,s:i,s:I,s:o,s:o}", "file", cli_json_text(tl_weights_path(w)),
                  "gguf_version", (int)tl_weights_version(w), "bytes",
                  (json_int_t)tl_weights_bytes(w), "metadata", metas, "tensors", json_tensors(w)));
}

static void print_metas(const tl_weights *w) {
    for (uint64_t i = 0; i < tl_weights_n_metas(w); i++) {
        const struct tl_meta *const m = tl_weights_meta(w, i);
        json_t *const value = json_meta(m);
        char *const text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        const size_t n = text != NULL ? strlen(text) : 0;
        fputs("  ", stdout);
        cli_print_text(m->key.data, tl_min_u64(m->key.len, VALUE_MAX));
        fputs(" = ", stdout);
        cli_print_text(text, tl_min_u64(n, VALUE_MAX));
        puts(n > VALUE_MAX ? " ..." : "");
        free(text);
        json_decref(value);
    }
}

/* One line a format: how many tensors, how many bytes. */
static void print_formats(const tl_weights *w) {
    uint64_t n[TL_DTYPE_COUNT] = {0}, bytes[TL_DTYPE_COUNT] = {0};
    for (uint64_t i = 0; i < tl_weights_n_tensors(w); i++) {
        const struct tl_tensor *const t = tl_weights_tensor(w, i);
        n[t->dtype]++;
        bytes[t->dtype] += t->bytes;
    }
    for (uint32_t d = 0; d < TL_DTYPE_COUNT; d++) {
        char text[16];
        if (n[d] > 0) {
            printf("  %-6s %5" PRIu64 " tensors  %s\n", tl_dtype_info(d)->name, n[d],
                   cli_bytes(bytes[d], text));
        }
    }
}

static void print_shape(const struct tl_shape *s) {
    char kv[16];
    const uint64_t per_1k = 1024 * 2ull * s->n_layers * s->n_kv_heads * s->head_dim * 2;
    printf(
        "runs as: %s, %u layers, width %u, feed-forward %u, %u query heads on %u KV heads of %u, "
        "vocabulary %u\n",
        s->family->name, s->n_layers, s->n_embd, s->n_ff, s->n_heads, s->n_kv_heads, s->head_dim,
        s->n_vocab);
    uint32_t n_windowed = 0;
    for (uint32_t il = 0; il < s->n_layers; il++) {
        n_windowed += s->windowed[il];
    }
    if (n_windowed > 0) {
        printf("windows: %u of %u layers see the last %u tokens only\n", n_windowed, s->n_layers,
               s->window);
    }
    printf("context: %u tokens; exact f16 cache: %s per 1024 tokens\n", s->n_ctx_train,
           cli_bytes(per_1k, kv));
}

/* All that would be checked before running, in the same order. */
static tl_err check(const tl_weights *w, struct tl_shape *shape, const tl_log *log) {
    TL_TRY(tl_shape_read(w, 0, shape));
    TL_TRY(tl_model_check(w, shape));
    tl_vocab *vocab = NULL;
    TL_TRY(tl_vocab_open(&vocab, w, log));
    tl_vocab_close(&vocab);
    return TL_OK;
}

static int print_info(const tl_weights *w, const struct cli_args *args, struct cli_log *log) {
    if (args->json) {
        if (!print_json(w)) {
            return 1;
        }
    } else {
        char size[16];
        printf("%s: GGUF v%u, %s\n", tl_weights_path(w), tl_weights_version(w),
               cli_bytes(tl_weights_bytes(w), size));
        print_metas(w);
        print_formats(w);
    }
    if (tl_weights_n_tensors(w) == 0) {
        if (!args->json) {
            puts("a vocabulary without weights: it tokenizes, it cannot be run");
        }
        return 0;
    }
    struct tl_shape shape;
    const tl_log sink = cli_log_of(log);
    const tl_err err = check(w, &shape, &sink);
    if (err) {
        return cli_failed(log, err);
    }
    if (!args->json) {
        print_shape(&shape);
    }
    return cli_strict_failed(log) ? 1 : 0;
}

int cmd_info(const struct cli_args *args) {
    if (args->model == NULL) {
        cli_error("info: needs -m MODEL");
        return 2;
    }
    struct cli_log log = {.strict = args->strict};
    const tl_log sink = cli_log_of(&log);
    tl_weights *w = NULL;
    const tl_err err = tl_weights_open(&w, args->model, &sink);
    const int code = err ? cli_failed(&log, err) : print_info(w, args, &log);
    tl_weights_close(&w);
    return code;
}
