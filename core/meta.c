/* Values of a model file's keys: reading them where they lie, and with the type a caller wants.
 * Invariant: a value that does not fit what is asked for is an error that names the key, never
 * another value. That values lie inside the file was checked when it was opened. */
#include "gguf.h"

#include <math.h>
#include <string.h>

uint64_t tl_meta_scalar_bytes(tl_meta_type type) {
    switch (type) {
    case TL_META_U8:
    case TL_META_I8:
    case TL_META_BOOL:
        return 1;
    case TL_META_U16:
    case TL_META_I16:
        return 2;
    case TL_META_U32:
    case TL_META_I32:
    case TL_META_F32:
        return 4;
    case TL_META_U64:
    case TL_META_I64:
    case TL_META_F64:
        return 8;
    case TL_META_STR:
    case TL_META_ARRAY:
        return 0;
    }
    TL_ASSERT(!"a value type");
    return 0;
}

/* Values as a user calls them. */
enum kind { KIND_INT, KIND_FLOAT, KIND_BOOL, KIND_STR, KIND_ARRAY };

static enum kind kind_of(tl_meta_type type) {
    switch (type) {
    case TL_META_STR:
        return KIND_STR;
    case TL_META_ARRAY:
        return KIND_ARRAY;
    case TL_META_BOOL:
        return KIND_BOOL;
    case TL_META_F32:
    case TL_META_F64:
        return KIND_FLOAT;
    default:
        return KIND_INT;
    }
}

static tl_err check_kind(const struct tl_meta *m, const char *path, const tl_log *log,
                         enum kind wanted) {
    static const char *const words[] = {
        [KIND_INT] = "a whole number", [KIND_FLOAT] = "a floating-point number",
        [KIND_BOOL] = "true or false", [KIND_STR] = "text",
        [KIND_ARRAY] = "an array",
    };
    const enum kind kind = kind_of(m->type);
    if (kind != wanted) {
        return tl_fail(log, TL_ERR_FORMAT, "%s: key %.*s is %s, not %s", path, tl_shown(m->key),
                       m->key.data, words[kind], words[wanted]);
    }
    return TL_OK;
}

static const uint8_t *scalar_at(const struct tl_meta *m, uint64_t i) {
    const uint64_t bytes = tl_meta_scalar_bytes(m->elem);
    TL_ASSERT(bytes > 0 && i < m->n);
    return m->data + i * bytes;
}

int64_t tl_meta_int_at(const struct tl_meta *m, uint64_t i) {
    const uint8_t *const at = scalar_at(m, i);
    union {
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } v = {0};
    memcpy(&v, at, tl_meta_scalar_bytes(m->elem));
    switch (m->elem) {
    case TL_META_U8:
        return *at;
    case TL_META_I8:
        return v.i8;
    case TL_META_U16:
        return v.u16;
    case TL_META_I16:
        return v.i16;
    case TL_META_U32:
        return v.u32;
    case TL_META_I32:
        return v.i32;
    case TL_META_BOOL:
        return *at != 0;
    case TL_META_U64:
        return (int64_t)tl_min_u64(v.u64, INT64_MAX);
    case TL_META_I64:
        return v.i64;
    default:
        TL_ASSERT(!"an integer type");
        return 0;
    }
}

double tl_meta_float_at(const struct tl_meta *m, uint64_t i) {
    const uint8_t *const at = scalar_at(m, i);
    if (m->elem == TL_META_F32) {
        float f;
        memcpy(&f, at, sizeof f);
        return (double)f;
    }
    if (m->elem == TL_META_F64) {
        double d;
        memcpy(&d, at, sizeof d);
        return d;
    }
    return (double)tl_meta_int_at(m, i);
}

tl_str tl_meta_next_str(const uint8_t **at) {
    uint64_t len;
    memcpy(&len, *at, sizeof len);
    const tl_str s = {(const char *)*at + sizeof len, len};
    *at += sizeof len + len;
    return s;
}

tl_err tl_meta_u32(const struct tl_meta *m, const char *path, const tl_log *log, uint32_t *out) {
    TL_TRY(check_kind(m, path, log, KIND_INT));
    const int64_t value = tl_meta_int_at(m, 0);
    if (value < 0 || value > UINT32_MAX) {
        return tl_fail(log, TL_ERR_FORMAT, "%s: key %.*s is %s", path, tl_shown(m->key),
                       m->key.data, value < 0 ? "negative" : "larger than 4294967295");
    }
    *out = (uint32_t)value;
    return TL_OK;
}

/* *out := the key, or NULL where it is absent and need not be there. */
static tl_err find(const tl_weights *w, const char *key, tl_need need, const struct tl_meta **out) {
    *out = tl_weights_find_meta(w, key);
    if (*out == NULL && need == TL_REQUIRED) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: key %s is missing",
                       tl_weights_path(w), key);
    }
    return TL_OK;
}

tl_err tl_meta_get_u32(const tl_weights *w, const char *key, tl_need need, uint32_t *out) {
    const struct tl_meta *m;
    TL_TRY(find(w, key, need, &m));
    return m != NULL ? tl_meta_u32(m, tl_weights_path(w), tl_weights_log(w), out) : TL_OK;
}

tl_err tl_meta_get_f32(const tl_weights *w, const char *key, tl_need need, float *out) {
    const struct tl_meta *m;
    TL_TRY(find(w, key, need, &m));
    if (m == NULL) {
        return TL_OK;
    }
    TL_TRY(check_kind(m, tl_weights_path(w), tl_weights_log(w), KIND_FLOAT));
    const double value = tl_meta_float_at(m, 0);
    if (isfinite(value) && isinf((float)value)) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: key %s is %g, too large for a float",
                       tl_weights_path(w), key, value);
    }
    *out = (float)value;
    return TL_OK;
}

tl_err tl_meta_get_bool(const tl_weights *w, const char *key, tl_need need, bool *out) {
    const struct tl_meta *m;
    TL_TRY(find(w, key, need, &m));
    if (m == NULL) {
        return TL_OK;
    }
    TL_TRY(check_kind(m, tl_weights_path(w), tl_weights_log(w), KIND_BOOL));
    *out = tl_meta_int_at(m, 0) != 0;
    return TL_OK;
}

tl_err tl_meta_get_str(const tl_weights *w, const char *key, tl_need need, tl_str *out) {
    const struct tl_meta *m;
    TL_TRY(find(w, key, need, &m));
    if (m == NULL) {
        return TL_OK;
    }
    TL_TRY(check_kind(m, tl_weights_path(w), tl_weights_log(w), KIND_STR));
    const uint8_t *at = m->data;
    *out = tl_meta_next_str(&at);
    return TL_OK;
}

tl_err tl_meta_get_array(const tl_weights *w, const char *key, tl_need need, tl_meta_type elem,
                         const struct tl_meta **out) {
    static const char *const types[] = {"u8",   "i8",  "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "str", "array", "u64", "i64", "f64"};
    const struct tl_meta *m;
    TL_TRY(find(w, key, need, &m));
    if (m != NULL) {
        TL_TRY(check_kind(m, tl_weights_path(w), tl_weights_log(w), KIND_ARRAY));
        if (m->elem != elem) {
            return tl_fail(tl_weights_log(w), TL_ERR_FORMAT,
                           "%s: key %s is an array of %s, not of %s", tl_weights_path(w), key,
                           types[m->elem], types[elem]);
        }
    }
    *out = m;
    return TL_OK;
}
