/* The reader behind weights_walk.h. It knows a model file only through core/weights.h. */
#include "weights_walk.h"

#include <stdlib.h>
#include <string.h>

/* Reading is the point; the sum only keeps it from being optimised away. */
static volatile uint64_t seen;

static void read_all(const void *data, uint64_t n) {
    const uint8_t *const bytes = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        sum += bytes[i];
    }
    seen += sum;
}

/* The name as a C string, from malloc: tl_str is not terminated. */
static char *c_string(tl_str s) {
    char *const copy = malloc(s.len + 1);
    TL_ASSERT(copy != NULL);
    memcpy(copy, s.data, s.len);
    copy[s.len] = '\0';
    TL_ASSERT(strlen(copy) == s.len);
    return copy;
}

static void walk_elements(const struct tl_meta *m) {
    if (m->elem == TL_META_STR) {
        const uint8_t *at = m->data;
        for (uint64_t i = 0; i < m->n; i++) {
            const tl_str s = tl_meta_next_str(&at);
            read_all(s.data, s.len);
            TL_ASSERT(at <= m->end);
        }
        TL_ASSERT(at == m->end);
        return;
    }
    for (uint64_t i = 0; i < m->n; i++) {
        const double d = tl_meta_float_at(m, i);
        if (m->elem != TL_META_F32 && m->elem != TL_META_F64) {
            TL_ASSERT(d == (double)tl_meta_int_at(m, i));
        }
    }
}

static void walk_meta(const tl_weights *w, const struct tl_meta *m) {
    char *const key = c_string(m->key);
    TL_ASSERT(tl_weights_find_meta(w, key) == m);
    TL_ASSERT(m->elem != TL_META_ARRAY && (m->type == TL_META_ARRAY || m->n == 1));
    read_all(m->data, (uint64_t)(m->end - m->data));
    walk_elements(m);
    uint32_t u32 = 0;
    float f32 = 0;
    bool boolean = false;
    tl_str str = {0};
    const struct tl_meta *array = NULL;
    const bool fits[] = {
        tl_meta_get_u32(w, key, TL_REQUIRED, &u32) == TL_OK,
        tl_meta_get_f32(w, key, TL_REQUIRED, &f32) == TL_OK,
        tl_meta_get_bool(w, key, TL_REQUIRED, &boolean) == TL_OK,
        tl_meta_get_str(w, key, TL_REQUIRED, &str) == TL_OK,
        tl_meta_get_array(w, key, TL_REQUIRED, m->elem, &array) == TL_OK,
    };
    TL_ASSERT(fits[0] + fits[1] + fits[2] + fits[3] + fits[4] <= 1);
    TL_ASSERT(fits[4] == (m->type == TL_META_ARRAY) && fits[3] == (m->type == TL_META_STR));
    free(key);
}

static void walk_tensor(const tl_weights *w, const struct tl_tensor *t) {
    char *const name = c_string(t->name);
    TL_ASSERT(tl_weights_find_tensor(w, name) == t);
    free(name);
    const struct tl_dtype_info *const info = tl_dtype_info(t->dtype);
    TL_ASSERT(t->n_dims >= 1 && t->n_dims <= TL_DIMS_MAX && t->dims[0] % info->block_elems == 0);
    TL_ASSERT(t->bytes % tl_row_bytes(t->dtype, t->dims[0]) == 0);
    TL_ASSERT(t->bytes / tl_row_bytes(t->dtype, t->dims[0]) ==
              t->dims[1] * t->dims[2] * t->dims[3]);
    read_all(t->data, t->bytes);
    float *const row = malloc(info->block_elems * sizeof *row);
    TL_ASSERT(row != NULL);
    tl_decode_row(t->dtype, (const uint8_t *)t->data + t->bytes - info->block_bytes, row,
                  info->block_elems);
    free(row);
}

void weights_walk(const tl_weights *w) {
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < tl_weights_n_metas(w); i++) {
        walk_meta(w, tl_weights_meta(w, i));
    }
    for (uint64_t i = 0; i < tl_weights_n_tensors(w); i++) {
        walk_tensor(w, tl_weights_tensor(w, i));
        bytes += tl_weights_tensor(w, i)->bytes;
    }
    TL_ASSERT(bytes < tl_weights_bytes(w));
    TL_ASSERT(tl_weights_find_meta(w, "") == NULL && tl_weights_find_tensor(w, "") == NULL);
    TL_ASSERT(tl_weights_version(w) == 2 || tl_weights_version(w) == 3);
}
