/* Halves by F16C. */
#pragma once
#include "cuda_runtime.h"

#include <immintrin.h>

struct __half {
    unsigned short bits;
};
struct __half2 {
    __half x, y;
};
inline float __half2float(__half h) { return _cvtsh_ss(h.bits); }
inline __half __float2half_rn(float f) { return {(unsigned short)_cvtss_sh(f, 0)}; }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
