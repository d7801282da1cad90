/* The compressed copy of cache rows: what a block of TL_BLOCK rows of one KV head looks like, and its
 * definition in plain C, which backends are tested against. KIVI's layout (TailorKV section 7):
 *
 *   keys    per channel over the block's rows:  channel 0 .. d-1: f16 scale, f16 minimum
 *           then codes, channel by channel, TL_BLOCK codes each
 *   values  per row over groups of channels:    row 0 .. TL_BLOCK-1, group 0 ..: f16 scale, f16 min
 *           then codes, row by row, d codes each
 *
 * Code i of a run of codes of b bits stands at bit i * b, counted from the lowest bit of the first
 * byte. A value is minimum + scale * code; scale = (max - min) / (2^b - 1), of the numbers as they
 * are stored; a constant group has scale 0. */
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
    TL_CODEC_COUNT,
} tl_codec;

uint32_t tl_codec_bits(tl_codec codec); /* 0, 8, 4, 2, 1 */

/* Channels that share a value's scale: the largest divisor of head_dim up to 64. */
uint32_t tl_codec_value_group(uint32_t head_dim);

/* Bytes of a block of TL_BLOCK rows of one KV head; a multiple of 4. head_dim is a multiple of 8. */
uint64_t tl_codec_key_bytes(tl_codec codec, uint32_t head_dim);
uint64_t tl_codec_value_bytes(tl_codec codec, uint32_t head_dim);

/* One block; rows is (TL_BLOCK, head_dim). Infinities are taken as the largest f16, NaN as 0. */
void tl_codec_encode_keys(tl_codec codec, const float *rows, uint32_t head_dim, void *block);
void tl_codec_decode_keys(tl_codec codec, const void *block, uint32_t head_dim, float *rows);
void tl_codec_encode_values(tl_codec codec, const float *rows, uint32_t head_dim, void *block);
void tl_codec_decode_values(tl_codec codec, const void *block, uint32_t head_dim, float *rows);

#ifdef __cplusplus
}
#endif

#endif
