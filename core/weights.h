/* A model file: GGUF v2 or v3, one file or split (`-00001-of-0000N.gguf`), mapped read-only.
 * Everything in it is hostile until checked, and it is all checked in tl_weights_open: after that
 * every key, string, array and tensor lies inside the mapping. Nothing is copied but small tables
 * whose size is bounded by the bytes of the file. Read-only after open: any thread may call. */
#ifndef TL_WEIGHTS_H
#define TL_WEIGHTS_H

#include "dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_DIMS_MAX = 4 };

/* GGUF's value types, with its numbers. */
typedef enum tl_meta_type {
    TL_META_U8,
    TL_META_I8,
    TL_META_U16,
    TL_META_I16,
    TL_META_U32,
    TL_META_I32,
    TL_META_F32,
    TL_META_BOOL,
    TL_META_STR,
    TL_META_ARRAY,
    TL_META_U64,
    TL_META_I64,
    TL_META_F64,
} tl_meta_type;

struct tl_meta {
    tl_str key;
    tl_meta_type type;
    tl_meta_type elem;   /* of an array; == type otherwise */
    uint64_t n;          /* elements of an array; 1 otherwise */
    const uint8_t *data; /* first value, unaligned, little-endian; strings are u64 length + bytes */
    const uint8_t *end;  /* one past the last value */
};

struct tl_tensor {
    tl_str name;
    tl_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[TL_DIMS_MAX]; /* [0] is the row length; absent ones are 1 */
    const void *data;           /* in the mapping; from the start of the file, a multiple of
                                   general.alignment, which is at least 8 */
    uint64_t bytes;
};

typedef struct tl_weights tl_weights;

/* Opens and checks the whole file (all parts of a split one; any part may be named).
 * TL_ERR_IO: cannot be opened, mapped, or is no regular file. TL_ERR_FORMAT: damaged or hostile.
 * TL_ERR_UNSUPPORTED: a version or tensor type we do not read (the sentence names tensor and type).
 * The sentence starts with the path. */
TL_MUST tl_err tl_weights_open(tl_weights **out, const char *path, const tl_log *log);
/* The same from memory that outlives it and is aligned to 16, as malloc's is (fuzzing, tests);
 * `name` stands for the path. */
TL_MUST tl_err tl_weights_open_memory(tl_weights **out, const void *data, size_t bytes,
                                      const char *name, const tl_log *log);
void tl_weights_close(tl_weights **w);

const char *tl_weights_path(const tl_weights *w);
uint64_t tl_weights_bytes(const tl_weights *w); /* of all parts, file headers included */
uint32_t tl_weights_version(const tl_weights *w);

/* Keys (of a split model's first part: the others only say which part they are) and tensors (of all
 * parts) in file order, and by name (NULL when absent). No two have one name. */
uint64_t tl_weights_n_metas(const tl_weights *w);
const struct tl_meta *tl_weights_meta(const tl_weights *w, uint64_t i);
const struct tl_meta *tl_weights_find_meta(const tl_weights *w, const char *key);
uint64_t tl_weights_n_tensors(const tl_weights *w);
const struct tl_tensor *tl_weights_tensor(const tl_weights *w, uint64_t i);
const struct tl_tensor *tl_weights_find_tensor(const tl_weights *w, const char *name);

/* Typed reading. Absent: *out is left alone; with `required` that is TL_ERR_FORMAT. Present with
 * a wrong type, or a value that does not fit (negative, above 2^32-1): TL_ERR_FORMAT. Any integer
 * type serves as an integer; only F32 and F64 serve as a float. The sentence names the key. */
typedef enum tl_need { TL_OPTIONAL, TL_REQUIRED } tl_need;
TL_MUST tl_err tl_meta_get_u32(const tl_weights *w, const char *key, tl_need need, uint32_t *out);
TL_MUST tl_err tl_meta_get_f32(const tl_weights *w, const char *key, tl_need need, float *out);
TL_MUST tl_err tl_meta_get_bool(const tl_weights *w, const char *key, tl_need need, bool *out);
TL_MUST tl_err tl_meta_get_str(const tl_weights *w, const char *key, tl_need need, tl_str *out);
/* *out := NULL when absent. The element type must be `elem`. */
TL_MUST tl_err tl_meta_get_array(const tl_weights *w, const char *key, tl_need need,
                                 tl_meta_type elem, const struct tl_meta **out);

/* Walks a string array: start with *at = m->data, call m->n times. */
tl_str tl_meta_next_str(const uint8_t **at);
/* Element i of a scalar array (i < m->n) as an integer or a float; elem must be such a type. */
int64_t tl_meta_int_at(const struct tl_meta *m, uint64_t i);
double tl_meta_float_at(const struct tl_meta *m, uint64_t i);

/* The log given to open, for those who go on checking what the file says. */
const tl_log *tl_weights_log(const tl_weights *w);

#ifdef __cplusplus
}
#endif

#endif
