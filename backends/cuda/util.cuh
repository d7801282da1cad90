/* What the kernels share: views as pointers, reductions over a warp, copies in pieces of 16 bytes,
 * launches. Only intrinsics that tests/cuda_emu provides too; no lane count but CU_WARP. */
#ifndef TL_CUDA_UTIL_CUH
#define TL_CUDA_UTIL_CUH

#include "kernels.h"

#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

enum { CU_WARP = 32 };
static constexpr uint32_t CU_ALL = 0xffffffffu; /* every lane of a warp */

/* Shared memory whose size the launch says. The emulated device has its own. */
#ifdef EMU_DYNAMIC_SHARED
#define CU_DYNAMIC_SHARED(name) unsigned char *const name = EMU_DYNAMIC_SHARED
#else
#define CU_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

/* First byte of a view, for kernels; NULL for an absent one. */
template <class T> static inline T *cu_at(const tl_view &v) {
    if (v.buf == nullptr) {
        return nullptr;
    }
    uint8_t *const base = (uint8_t *)((const struct cu_buf *)v.buf)->device;
    return (T *)(void *)(base + v.off_bytes);
}

static __host__ __device__ inline uint32_t cu_div_up(uint64_t a, uint64_t b) {
    return (uint32_t)((a + b - 1) / b);
}

template <class... P, class... A>
static inline cudaError_t cu_launch(const struct cu_exec *x, dim3 grid, dim3 block,
                                    size_t shared_bytes, void (*kernel)(P...), A... args) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = x->stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
}

/* Arguments of alike ops. Blocks of all stand behind each other in z, `depth` for each. */
template <class A, int N = CU_TOGETHER_MAX> struct cu_group { A of[N]; };

/* The scratch of op i of a launch. */
static inline uint8_t *cu_scratch_of(const struct cu_exec *x, uint32_t i) {
    return x->scratch != nullptr ? (uint8_t *)x->scratch + i * x->scratch_each : nullptr;
}

#define CU_TRY(e)                                                                                  \
    do {                                                                                           \
        const cudaError_t cu_err_ = (e);                                                           \
        if (cu_err_ != cudaSuccess) {                                                              \
            return cu_err_;                                                                        \
        }                                                                                          \
    } while (0)

static __device__ inline float cu_warp_sum(float v) {
    for (int o = CU_WARP / 2; o > 0; o /= 2) {
        v += __shfl_xor_sync(CU_ALL, v, o);
    }
    return v;
}

static __device__ inline float cu_warp_max(float v) {
    for (int o = CU_WARP / 2; o > 0; o /= 2) {
        v = fmaxf(v, __shfl_xor_sync(CU_ALL, v, o));
    }
    return v;
}

/* Inclusive sum over the lanes up to this one. */
static __device__ inline uint32_t cu_warp_scan(uint32_t v, uint32_t lane) {
    for (uint32_t o = 1; o < CU_WARP; o *= 2) {
        const uint32_t below = __shfl_up_sync(CU_ALL, v, o);
        v += lane >= o ? below : 0;
    }
    return v;
}

static __device__ inline float cu_cap(float value, float cap) {
    /* A full division is a call, around which registers are spilled. */
    return cap != 0.0f ? cap * tanhf(__fdividef(value, cap)) : value;
}

/* SiLU, or GELU's usual approximation by tanh. */
static __device__ inline float cu_act(float x, bool silu) {
    const float u = silu ? x : 1.5957691216057307f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-u));
}

/* e with most < 2^e, nearly; what is no finite positive number has 0. In -100 .. 126, so that 2^e
 * and 2^(14 - e) are floats. */
static __device__ inline int cu_exponent(float most) {
    const int e = (int)(__float_as_uint(most) >> 23 & 255u);
    const bool usual = most > 0.0f && e < 255;
    return !usual ? 0 : e < 26 ? -100 : e > 252 ? 126 : e - 126;
}

static __device__ inline float cu_power(int e) {
    return __uint_as_float((uint32_t)(e + 127) << 23);
}

/* Begins to copy [src, src + bytes), and what stands in the same 16-byte pieces at both ends, to
 * shared memory; it will begin at dst + (src mod 16). Buffers are whole pieces, so nothing outside
 * one is touched. Thread i of n; __pipeline_commit and a wait are the caller's. */
static __device__ inline void cu_stage(uint8_t *dst, const uint8_t *src, uint32_t bytes, uint32_t i,
                                       uint32_t n) {
    const uint32_t skew = (uint32_t)((uintptr_t)src & 15u);
    const uint8_t *const from = src - skew;
    for (uint32_t at = 16 * i; at < skew + bytes; at += 16 * n) {
        __pipeline_memcpy_async(dst + at, from + at, 16);
    }
}
static __device__ inline uint32_t cu_skew(const uint8_t *src) {
    return (uint32_t)((uintptr_t)src & 15u);
}

#endif
