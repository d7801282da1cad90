/* Element formats: what a view or a tensor of a model file may hold. The block layouts are drawn in
 * dtype.c and nowhere else; tl_decode_row there is the definition of each format. */
#ifndef TL_DTYPE_H
#define TL_DTYPE_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tl_dtype {
    TL_F32,
    TL_F16,
    TL_BF16,
    TL_Q8_0,
    TL_Q4_0,
    TL_Q4_1,
    TL_Q5_0,
    TL_Q5_1,
    TL_IQ4_NL,
    TL_IQ4_XS,
    TL_Q2_K,
    TL_Q3_K,
    TL_Q4_K,
    TL_Q5_K,
    TL_Q6_K,
    TL_I32, /* positions, slots, ids; never a weight */
    TL_U8,  /* compressed cache blocks (codec.h); never a weight */
    TL_DTYPE_COUNT,
} tl_dtype;

struct tl_dtype_info {
    const char *name;     /* as users write it: "Q4_K" */
    uint32_t block_elems; /* elements a block; rows are whole blocks */
    uint32_t block_bytes;
    uint32_t gguf_type; /* number in a GGUF tensor header */
};

/* Never NULL for a valid dtype. */
const struct tl_dtype_info *tl_dtype_info(tl_dtype dtype);

/* False where the number is none of ours (TL_I32 and TL_U8 are not weights). */
bool tl_dtype_from_gguf(uint32_t gguf_type, tl_dtype *out);

/* The name of any GGUF tensor type ever assigned ("IQ2_XXS"), or "unknown"; for error messages. */
const char *tl_gguf_type_name(uint32_t gguf_type);

/* Bytes of a row of `cols` elements; cols must be a multiple of block_elems. */
uint64_t tl_row_bytes(tl_dtype dtype, uint64_t cols);

/* dst[n] := the exact values of one row of n elements, rounded once to float where a format's
 * own arithmetic needs it. Any weight dtype. src needs no alignment. */
void tl_decode_row(tl_dtype dtype, const void *src, float *dst, uint64_t n);

/* The opposite, round to nearest, for F32, F16, BF16, Q8_0, Q4_0 only (what the cache, tests and
 * the model maker write). Returns false for another dtype. */
bool tl_encode_row(tl_dtype dtype, const float *src, void *dst, uint64_t n);

/* IEEE binary16 and bfloat16, round to nearest even; overflow gives infinity, NaN stays NaN. */
float tl_f16_to_f32(uint16_t h);
uint16_t tl_f32_to_f16(float f);
float tl_bf16_to_f32(uint16_t b);
uint16_t tl_f32_to_bf16(float f);

#ifdef __cplusplus
}
#endif

#endif
