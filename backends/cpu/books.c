/* Blocks of a sketch, whichever codec each side has: core's functions and what they ask for.
 * Nothing here decides over a number. */
#include "books.h"

static uint64_t floats_of(tl_codec codec) {
    return tl_vq_is(codec) ? tl_align_up(tl_vq_expanded_floats(codec), 16) : 0;
}

uint64_t cpu_books_floats(const struct tl_sketch *sketch) {
    return floats_of(sketch->k_codec) + floats_of(sketch->v_codec);
}

static const float *open_side(tl_codec codec, const tl_view *book, float *room) {
    if (!tl_vq_is(codec)) {
        return NULL;
    }
    tl_vq_expand(codec, cpu_row(book, 0), room);
    return room;
}

void cpu_books_open(struct cpu_books *books, const struct tl_sketch *sketch, float *room) {
    books->k = open_side(sketch->k_codec, &sketch->k_book, room);
    books->v = open_side(sketch->v_codec, &sketch->v_book, room + floats_of(sketch->k_codec));
}

const float *cpu_smooth_of(const struct tl_sketch *sketch, uint32_t kv_head) {
    return sketch->smooth.buf != NULL ? cpu_row(&sketch->smooth, kv_head) : NULL;
}

void cpu_encode_keys(const struct tl_sketch *s, const struct cpu_books *books, uint32_t kv_head,
                     tl_fit fit, float *rows, tl_vq_search *search, void *block) {
    if (books->k != NULL) {
        tl_vq_encode(s->k_codec, books->k, cpu_smooth_of(s, kv_head), 1.0f, rows, s->head_dim,
                     search, block);
    } else {
        tl_codec_encode_keys(s->k_codec, fit, rows, s->head_dim, block);
    }
}

void cpu_encode_values(const struct tl_sketch *s, const struct cpu_books *books, tl_fit fit,
                       float *rows, tl_vq_search *search, void *block) {
    if (books->v != NULL) {
        tl_vq_encode(s->v_codec, books->v, NULL, tl_vq_stretch(s->v_codec), rows, s->head_dim,
                     search, block);
    } else {
        tl_codec_encode_values(s->v_codec, fit, rows, s->head_dim, block);
    }
}

void cpu_decode_keys(const struct tl_sketch *s, const struct cpu_books *books, uint32_t kv_head,
                     const void *block, float *rows) {
    if (books->k != NULL) {
        tl_vq_decode(s->k_codec, books->k, cpu_smooth_of(s, kv_head), block, s->head_dim, rows);
    } else {
        tl_codec_decode_keys(s->k_codec, block, s->head_dim, rows);
    }
}

void cpu_decode_values(const struct tl_sketch *s, const struct cpu_books *books, const void *block,
                       float *rows) {
    if (books->v != NULL) {
        tl_vq_decode(s->v_codec, books->v, NULL, block, s->head_dim, rows);
    } else {
        tl_codec_decode_values(s->v_codec, block, s->head_dim, rows);
    }
}
