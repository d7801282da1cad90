/* The compressed copy of cache rows: what a block of TL_BLOCK rows of one KV head looks like, and
 * its definition in plain C, which backends are tested against. KIVI's layout (TailorKV section 7):
 *
 *   keys    per channel over the block's rows:  channel 0 .. d-1: f16 scale, f16 minimum
 *           then codes, channel by channel, TL_BLOCK codes each
 *   values  per row over groups of channels:    row 0 .. TL_BLOCK-1, group 0 ..: f16 scale, f16 min
 *           then codes, row by row, d codes each
 *
 * Code i of a run of codes of b bits stands at bit i * b, counted from the lowest bit of the first
 * byte. A value is minimum + scale * code; which minimum and scale a group gets is the fit's
 * business, and a constant group has scale 0. Scales are never negative. */
#ifndef TL_CODEC_H
#define TL_CODEC_H

#include "dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows move between tiers in blocks of this many: the group over which a key channel is coded. */
enum { TL_BLOCK = 64 };

typedef enum tl_codec {
    TL_CODEC_NONE,
    TL_CODEC_Q8,
    TL_CODEC_INT4,
    TL_CODEC_INT2,
    TL_CODEC_INT1,
    /* Vector-quantised by a codebook: codes of b bits for n numbers each. See vq.h, which has their
     * layout and functions; of what is declared here they have the sizes of blocks alone. */
    TL_CODEC_VQ_D2B8,
    TL_CODEC_VQ_D4B8,
    TL_CODEC_VQ_D8B8,
    TL_CODEC_VQ_D8B12,
    TL_CODEC_VQ_D4B10,
    TL_CODEC_VQ_D8B10,
    TL_CODEC_VQ_D2B4,
    TL_CODEC_COUNT,
} tl_codec;

uint32_t tl_codec_bits(tl_codec codec); /* 0, 8, 4, 2, 1; vector-quantised: 0 */

/* How a group's minimum and scale are found. With one bit the range is a bad choice: the two
 * numbers it keeps are the extremes, and the error is 2.7 times the variance of normal numbers, so
 * more than that of their mean; scores come out twice as large as they are. Least squares leave
 * 0.34 times the variance (2 bits: 0.20 and 0.11; 4 bits: 0.008 and 0.007). */
typedef enum tl_fit {
    TL_FIT_RANGE,   /* the least number, and (max - min) / (2^bits - 1): KIVI, the paper */
    TL_FIT_SQUARES, /* from there on, three times: the line through codes and numbers that leaves
                     * the least squares, and the codes that are nearest on it. Values' last scale
                     * in 1 and 2 bits is 25/16 and 19/16 of that, about the same mean: least
                     * squares draw numbers towards their mean (64 normal ones to 0.65 and 0.91),
                     * and in a weighted sum of many rows errors cancel but that does not */
} tl_fit;

/* That factor for values, in sixteenths, so that devices without doubles can make the same bytes;
 * 16: none. */
uint32_t tl_codec_stretch(tl_codec codec);

/* Channels that share a value's scale: the largest divisor of head_dim up to 64. */
uint32_t tl_codec_value_group(uint32_t head_dim);

/* Whether rows of such heads can be compressed: codes fill whole bytes of a row, so that head_dim
 * must be a multiple of 8. */
bool tl_codec_fits(uint32_t head_dim);

/* Bytes of a block of TL_BLOCK rows of one KV head; a multiple of 4. head_dim fits. */
uint64_t tl_codec_key_bytes(tl_codec codec, uint32_t head_dim);
uint64_t tl_codec_value_bytes(tl_codec codec, uint32_t head_dim);

/* One block; rows is (TL_BLOCK, head_dim). Infinities are taken as the largest f16, NaN as 0. */
void tl_codec_encode_keys(tl_codec codec, tl_fit fit, const float *rows, uint32_t head_dim,
                          void *block);
void tl_codec_decode_keys(tl_codec codec, const void *block, uint32_t head_dim, float *rows);
void tl_codec_encode_values(tl_codec codec, tl_fit fit, const float *rows, uint32_t head_dim,
                            void *block);
void tl_codec_decode_values(tl_codec codec, const void *block, uint32_t head_dim, float *rows);

#ifdef __cplusplus
}
#endif

#endif
