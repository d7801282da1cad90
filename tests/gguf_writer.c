/* The writer behind gguf_writer.h: three buffers (keys, table of tensors, data) that grow side by
 * side and are put one behind the other at the end. Written from the format's description, not from
 * core/gguf.c, so that the two check each other. */
#include "gguf_writer.h"

#include "support.h"

#include <stdio.h>
#include <string.h>

static void add(tl_bytes *b, const void *src, size_t n) {
    if (tl_bytes_add(b, src, n)) {
        fail_msg("out of memory");
    }
}

static void add_u32(tl_bytes *b, uint32_t v) { add(b, &v, sizeof v); }

static void add_u64(tl_bytes *b, uint64_t v) { add(b, &v, sizeof v); }

static void add_str(tl_bytes *b, tl_str s) {
    add_u64(b, s.len);
    add(b, s.data, s.len);
}

static void add_zeros_to(tl_bytes *b, uint64_t multiple) {
    while (multiple != 0 && b->len % multiple != 0) {
        add(b, "", 1);
    }
}

void gguf_begin(struct gguf_writer *g) { *g = (struct gguf_writer){.version = 3, .alignment = 32}; }

void gguf_raw(struct gguf_writer *g, const char *key, uint32_t type, const void *value,
              size_t bytes) {
    add_str(&g->metas, tl_str_from(key));
    add_u32(&g->metas, type);
    add(&g->metas, value, bytes);
    g->n_metas++;
}

void gguf_u32(struct gguf_writer *g, const char *key, uint32_t value) {
    gguf_raw(g, key, TL_META_U32, &value, sizeof value);
}

void gguf_i32(struct gguf_writer *g, const char *key, int32_t value) {
    gguf_raw(g, key, TL_META_I32, &value, sizeof value);
}

void gguf_f32(struct gguf_writer *g, const char *key, float value) {
    gguf_raw(g, key, TL_META_F32, &value, sizeof value);
}

void gguf_bool(struct gguf_writer *g, const char *key, bool value) {
    const uint8_t byte = value;
    gguf_raw(g, key, TL_META_BOOL, &byte, sizeof byte);
}

void gguf_str(struct gguf_writer *g, const char *key, const char *value) {
    gguf_raw(g, key, TL_META_STR, NULL, 0);
    add_str(&g->metas, tl_str_from(value));
}

static void begin_array(struct gguf_writer *g, const char *key, tl_meta_type elem, uint64_t n) {
    gguf_raw(g, key, TL_META_ARRAY, NULL, 0);
    add_u32(&g->metas, elem);
    add_u64(&g->metas, n);
}

void gguf_tl_strs(struct gguf_writer *g, const char *key, const tl_str *values, uint64_t n) {
    begin_array(g, key, TL_META_STR, n);
    for (uint64_t i = 0; i < n; i++) {
        add_str(&g->metas, values[i]);
    }
}

void gguf_strs(struct gguf_writer *g, const char *key, const char *const *values, uint64_t n) {
    begin_array(g, key, TL_META_STR, n);
    for (uint64_t i = 0; i < n; i++) {
        add_str(&g->metas, tl_str_from(values[i]));
    }
}

void gguf_i32s(struct gguf_writer *g, const char *key, const int32_t *values, uint64_t n) {
    begin_array(g, key, TL_META_I32, n);
    add(&g->metas, values, n * sizeof *values);
}

void gguf_f32s(struct gguf_writer *g, const char *key, const float *values, uint64_t n) {
    begin_array(g, key, TL_META_F32, n);
    add(&g->metas, values, n * sizeof *values);
}

void gguf_tensor_raw(struct gguf_writer *g, const char *name, const uint64_t *dims, uint32_t n_dims,
                     uint32_t type, uint64_t offset) {
    add_str(&g->infos, tl_str_from(name));
    add_u32(&g->infos, n_dims);
    add(&g->infos, dims, n_dims * sizeof *dims);
    add_u32(&g->infos, type);
    add_u64(&g->infos, offset);
    g->n_tensors++;
}

static uint64_t rows_of(const uint64_t *dims, uint32_t n_dims) {
    uint64_t rows = 1;
    for (uint32_t i = 1; i < n_dims; i++) {
        rows *= dims[i];
    }
    return rows;
}

void gguf_tensor(struct gguf_writer *g, const char *name, tl_dtype dtype, const uint64_t *dims,
                 uint32_t n_dims, const void *data) {
    add_zeros_to(&g->data, g->alignment);
    gguf_tensor_raw(g, name, dims, n_dims, tl_dtype_info(dtype)->gguf_type, g->data.len);
    const size_t bytes = tl_row_bytes(dtype, dims[0]) * rows_of(dims, n_dims);
    if (data != NULL) {
        add(&g->data, data, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        add(&g->data, "", 1);
    }
}

void gguf_tensor_f32(struct gguf_writer *g, const char *name, tl_dtype dtype, const uint64_t *dims,
                     uint32_t n_dims, const float *values) {
    const uint64_t rows = rows_of(dims, n_dims);
    const size_t row_bytes = tl_row_bytes(dtype, dims[0]);
    uint8_t *const data = test_malloc(rows * row_bytes);
    for (uint64_t i = 0; i < rows; i++) {
        assert_true(tl_encode_row(dtype, values + i * dims[0], data + i * row_bytes, dims[0]));
    }
    gguf_tensor(g, name, dtype, dims, n_dims, data);
    test_free(data);
}

tl_bytes gguf_end(struct gguf_writer *g) {
    tl_bytes file = {0};
    add(&file, "GGUF", 4);
    add_u32(&file, g->version);
    add_u64(&file, g->n_tensors);
    add_u64(&file, g->n_metas);
    add(&file, g->metas.data, g->metas.len);
    add(&file, g->infos.data, g->infos.len);
    if (g->data.len > 0) {
        add_zeros_to(&file, g->alignment);
        add(&file, g->data.data, g->data.len);
    }
    tl_bytes_free(&g->metas);
    tl_bytes_free(&g->infos);
    tl_bytes_free(&g->data);
    return file;
}

void gguf_end_to_file(struct gguf_writer *g, const char *path) {
    tl_bytes bytes = gguf_end(g);
    FILE *const f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes.data, 1, bytes.len, f) != bytes.len || fclose(f) != 0) {
        fail_msg("cannot write %s", path);
    }
    tl_bytes_free(&bytes);
}
