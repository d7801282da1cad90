/* What session_file.c (reading) and session_save.c (writing) share: the layout's numbers. */
#ifndef TL_SESSION_FILE_PRIV_H
#define TL_SESSION_FILE_PRIV_H

#include "session_file.h"

enum {
    TL_SF_HEADER_BYTES = 64,
    TL_SF_ENTRY_BYTES = 32,
    TL_SF_ALIGN = 64, /* a cache line; small models make small files */
    /* The sections that every file begins with; those of tiers follow. */
    TL_SF_LAYERS = 1,
    TL_SF_IDS,
    TL_SF_LOGITS,
    TL_SF_APP,
    TL_SF_TIER = 16,
    TL_SF_FIRST_TIER = 4, /* index in the table */
    TL_SF_AT_VERSION = 8,
    TL_SF_AT_N_SECTIONS = 12,
    TL_SF_AT_BYTES = 16,
    TL_SF_AT_MODEL = 24,
    TL_SF_AT_SHAPE = 32,
    TL_SF_AT_N_LAYERS = 40,
    TL_SF_AT_N_ROWS = 44,
    TL_SF_AT_N_CTX = 48,
    TL_SF_AT_N_VOCAB = 52,
    TL_SF_AT_CHECKSUM = 56,
    TL_SF_LAYERS_BYTES_MAX = 1 << 24,
    TL_SF_APP_BYTES_MAX = 1 << 30,
    TL_SF_BOUNCE_BYTES = 1 << 20, /* device memory goes through host memory in pieces of this */
};

struct tl_sf_section {
    uint32_t kind, layer;
    uint64_t off, bytes, checksum;
};

struct tl_session_lock {
    char *path, *lock_path, *tmp_path; /* owned */
    tl_log log;
    int fd;
    bool has_file;
};

/* What of a shape decides over the meaning of cached rows, rotation included. */
uint64_t tl_sf_shape_hash(const struct tl_shape *shape);

/* Bytes of a part as a section has them. */
static inline uint64_t tl_sf_part_bytes(const struct tl_kv_part *part) {
    return (uint64_t)part->n_groups * part->n_used *
           tl_row_bytes(part->view.dtype, part->view.cols);
}

/* Row `row` of group `group` of a part, and `rows` of them. */
static inline tl_view tl_sf_part_rows(const struct tl_kv_part *part, uint32_t group, uint32_t row,
                                      uint32_t rows) {
    const uint32_t stride = part->view.rows / part->n_groups;
    return tl_view_rows(part->view, group * stride + row, rows);
}

#endif
