/* Writes small GGUF files in memory, for tests of what reads them. It checks nothing: with the
 * fields and the _raw functions a test can write what no honest program would.
 *
 *     struct gguf_writer g;
 *     gguf_begin(&g);
 *     gguf_str(&g, "general.architecture", "llama");
 *     gguf_tensor(&g, "token_embd.weight", TL_F32, (uint64_t[]){32, 8}, 2, NULL);
 *     tl_bytes file = gguf_end(&g);
 *     ... tl_weights_open_memory(&w, file.data, file.len, "test", NULL) ...
 *     tl_bytes_free(&file);
 *
 * A failure (no memory, a file that cannot be written) fails the running cmocka test. */
#ifndef TL_GGUF_WRITER_H
#define TL_GGUF_WRITER_H

#include "core/weights.h"

struct gguf_writer {
    uint32_t version; /* 3 */
    uint32_t
        alignment; /* 32; another one also needs its key: gguf_u32(.., "general.alignment", ..) */
    uint64_t n_metas, n_tensors; /* as written to the header */
    tl_bytes metas, infos, data; /* owned */
};

void gguf_begin(struct gguf_writer *g);

void gguf_u32(struct gguf_writer *g, const char *key, uint32_t value);
void gguf_i32(struct gguf_writer *g, const char *key, int32_t value);
void gguf_f32(struct gguf_writer *g, const char *key, float value);
void gguf_bool(struct gguf_writer *g, const char *key, bool value);
void gguf_str(struct gguf_writer *g, const char *key, const char *value);
void gguf_strs(struct gguf_writer *g, const char *key, const char *const *values, uint64_t n);
/* As gguf_strs, for texts with NULs or invalid UTF-8. */
void gguf_tl_strs(struct gguf_writer *g, const char *key, const tl_str *values, uint64_t n);
void gguf_i32s(struct gguf_writer *g, const char *key, const int32_t *values, uint64_t n);
void gguf_f32s(struct gguf_writer *g, const char *key, const float *values, uint64_t n);
/* A key of any type whose value is these bytes (of an array: u32 type, u64 count, values). */
void gguf_raw(struct gguf_writer *g, const char *key, uint32_t type, const void *value,
              size_t bytes);

/* A tensor at the next aligned place. data: tl_row_bytes(dtype, dims[0]) * rows of it, or NULL for
 * zeros. */
void gguf_tensor(struct gguf_writer *g, const char *name, tl_dtype dtype, const uint64_t *dims,
                 uint32_t n_dims, const void *data);
/* As above from floats, encoded: F32, F16, BF16, Q8_0 or Q4_0. */
void gguf_tensor_f32(struct gguf_writer *g, const char *name, tl_dtype dtype, const uint64_t *dims,
                     uint32_t n_dims, const float *values);
/* Only the entry in the table, with any type and offset. */
void gguf_tensor_raw(struct gguf_writer *g, const char *name, const uint64_t *dims, uint32_t n_dims,
                     uint32_t type, uint64_t offset);

/* The file. Frees what *g owns; the caller frees the bytes. */
tl_bytes gguf_end(struct gguf_writer *g);
/* The same into a file. */
void gguf_end_to_file(struct gguf_writer *g, const char *path);

#endif
