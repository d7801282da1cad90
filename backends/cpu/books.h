/* Private to the CPU backend: the codebooks of a sketch as an op reads them, and blocks of either
 * kind of codec, by scales or by codebook. Everything lies in the op's scratch. */
#ifndef TL_CPU_BOOKS_H
#define TL_CPU_BOOKS_H

#include "core/vq.h"
#include "cpu.h"

/* Expanded (vq.h), or NULL where that side has none. */
struct cpu_books {
    const float *k, *v;
};

uint64_t cpu_books_floats(const struct tl_sketch *sketch); /* a whole multiple of 16 */
void cpu_books_open(struct cpu_books *books, const struct tl_sketch *sketch, float *room);

/* tl_compress with this search for entries (ops_cache.c). */
bool cpu_compress_by(struct cpu_dev *dev, const struct tl_compress *op, tl_vq_search *search);

/* The smoothing factors of a KV head; NULL where keys are not vector-quantised. */
const float *cpu_smooth_of(const struct tl_sketch *sketch, uint32_t kv_head);

/* rows (TL_BLOCK, head_dim); encoders spoil them. */
void cpu_encode_keys(const struct tl_sketch *sketch, const struct cpu_books *books,
                     uint32_t kv_head, tl_fit fit, float *rows, tl_vq_search *search, void *block);
void cpu_encode_values(const struct tl_sketch *sketch, const struct cpu_books *books, tl_fit fit,
                       float *rows, tl_vq_search *search, void *block);
void cpu_decode_keys(const struct tl_sketch *sketch, const struct cpu_books *books,
                     uint32_t kv_head, const void *block, float *rows);
void cpu_decode_values(const struct tl_sketch *sketch, const struct cpu_books *books,
                       const void *block, float *rows);

#endif
