/* Vector-quantised cache rows (VecInfer, arXiv 2510.06175): the codecs TL_CODEC_VQ_* of codec.h,
 * and their definition in plain C, which backends are tested against.
 *
 * A row x of d channels is turned before it is coded: divided by the smoothing factors of its KV
 * head, channel by channel (keys only; eq. 3, 4), rotated by the orthonormal Walsh-Hadamard matrix
 * (eq. 5, 6; values too, which the paper codes raw: so one built-in codebook fits them as well),
 * and divided by one number of its block, the root mean square of all of the block's turned
 * numbers. What is left has unit variance and is cut into d / n vectors of n numbers, each of which
 * becomes the number of the nearest of 2^b codebook entries; one codebook serves all places. A
 * decoded row is
 *
 *     ((scale * entries) H) diag(smooth),  hence  q . k = ((q diag(smooth)) H) . (scale * entries)
 *
 * so that scores and mixtures are computed from codes and codebooks, and only queries and outputs
 * are ever turned. A block of TL_BLOCK rows of one KV head:
 *
 *     f16 scale, 2 zero bytes; then place by place the codes of the block's rows, TL_BLOCK each,
 * code i of a place at bit i * b, counted from the lowest bit of the place's first byte
 *
 * The Hadamard matrix of a head whose size is no power of two has blocks: the largest power of two
 * that fits, then what is left likewise (80 = 64 + 16). */
#ifndef TL_VQ_H
#define TL_VQ_H

#include "codec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_VQ_DIM_MAX = 8, TL_VQ_BITS_MAX = 12, TL_VQ_HEADER_BYTES = 4 };

bool tl_vq_is(tl_codec codec);          /* one of the VQ codecs; all others below take only those */
uint32_t tl_vq_dim(tl_codec codec);     /* n: numbers that a code stands for; a divisor of 8 */
uint32_t tl_vq_bits(tl_codec codec);    /* b: bits of a code */
uint32_t tl_vq_entries(tl_codec codec); /* 2^b */

/* By how much values' scale is drawn out in a block's header. A code stands for the mean of what is
 * coded so, hence rows come back shorter; in a weighted sum of many rows errors cancel, but that
 * does not. Normal numbers keep their size by it with the built-in codebooks. Keys are not drawn
 * out: 1. */
float tl_vq_stretch(tl_codec codec);

/* Bytes of a block of one KV head, keys and values alike; head_dim is a multiple of 8. */
uint64_t tl_vq_block_bytes(tl_codec codec, uint32_t head_dim);

/* Codebooks are kept as (entries, dim) f16 numbers. book := the one that comes with the program,
 * made for numbers of unit variance and no structure: entry 2^(b-1) + i is minus entry i. */
void tl_vq_builtin(tl_codec codec, uint16_t *book);

/* What encoders and decoders read: the entries as float, and behind them half the square of each
 * (ascending sum in float). (entries * (dim + 1)) floats. */
void tl_vq_expand(tl_codec codec, const uint16_t *book, float *expanded);
static inline uint64_t tl_vq_expanded_floats(tl_codec codec) {
    return (uint64_t)tl_vq_entries(codec) * (tl_vq_dim(codec) + 1);
}

/* x := x H, n numbers in place, n a multiple of 8; H is its own inverse. */
void tl_hadamard(float *x, uint32_t n);

/* Finds the nearest entry for TL_BLOCK vectors: the least of half |entry|^2 - x . entry in float,
 * summed in order and without contraction, ties to the lower entry. x (dim, TL_BLOCK). */
typedef void tl_vq_search(tl_codec codec, const float *expanded, const float *x, uint32_t *codes);
void tl_vq_nearest(tl_codec codec, const float *expanded, const float *x, uint32_t *codes);

/* One block. rows (TL_BLOCK, head_dim) are turned in place, hence lost; infinities are taken as the
 * largest f16 and NaN as 0. smooth (head_dim), each in [TL_SMOOTH_LEAST, TL_SMOOTH_MOST], or NULL
 * for ones; stretch is 1 for keys and tl_vq_stretch for values. `search` is tl_vq_nearest or a
 * faster one of the same results. */
#define TL_SMOOTH_LEAST 0x1p-10f
#define TL_SMOOTH_MOST 0x1p+10f
void tl_vq_encode(tl_codec codec, const float *expanded, const float *smooth, float stretch,
                  float *rows, uint32_t head_dim, tl_vq_search *search, void *block);
void tl_vq_decode(tl_codec codec, const float *expanded, const float *smooth, const void *block,
                  uint32_t head_dim, float *rows);

/* The same up to the turn, and the steps of it, for those who look at what each brings: rows are
 * divided by smooth (NULL: not) and rotated (if rotated); then coded and decoded by `scale`. */
void tl_vq_turn(float *rows, uint32_t n, uint32_t head_dim, const float *smooth, bool rotated);

/* The codes of one place of a block. */
void tl_vq_codes(tl_codec codec, const void *block, uint32_t place, uint16_t codes[TL_BLOCK]);
/* The scale of a block. */
float tl_vq_scale(const void *block);

#ifdef __cplusplus
}
#endif

#endif
