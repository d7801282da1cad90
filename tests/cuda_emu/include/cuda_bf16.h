#pragma once
#include "cuda_runtime.h"

struct __nv_bfloat16 {
    unsigned short bits;
};
/* Round to nearest even; NaN stays one. */
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    const unsigned v = __float_as_uint(f);
    if (f != f) {
        return {0x7fff};
    }
    return {(unsigned short)((v + 0x7fffu + (v >> 16 & 1u)) >> 16)};
}
