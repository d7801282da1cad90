/* CUDA C++ for g++: qualifiers, built-in variables and intrinsics, as far as backends/cuda uses
 * them. Fibers and meeting points are in tests/cuda_emu/fibers.cpp. */
#pragma once
#include "cuda_runtime_api.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

using std::isfinite;

#define __global__
#define __device__
#define __host__
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static
#define __constant__ static const
#define EMU_DYNAMIC_SHARED emu::dynamic_shared()

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct emu_index {
    unsigned x, y, z;
};
inline emu_index threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

namespace emu {
unsigned lane();
unsigned char *dynamic_shared();
void barrier();
[[noreturn]] void complain(const char *what);
/* The lanes of the mask meet; the last one runs op over what all brought. */
typedef void warp_function(void **of_lane, uint32_t arrived);
void meet(uint32_t mask, void *mine, warp_function *op);
/* Dynamic shared memory beyond 48 KiB is a kernel's only after it was asked for. */
cudaError_t allow_shared(const void *kernel, int bytes);
/* Enqueues fn for every thread of the grid; parameters take so many bytes. */
cudaError_t launch(cudaStream_t s, dim3 grid, dim3 block, size_t shared_bytes, const void *kernel,
                   size_t param_bytes, std::function<void()> fn);
} // namespace emu

inline void __syncthreads() { emu::barrier(); }
inline void __syncwarp(uint32_t mask = ~0u) {
    emu::meet(mask, nullptr, [](void **, uint32_t) {});
}

namespace emu {
/* Each lane reads v of lane `from`; of its own where that one is absent. */
template <class T> T shuffle(uint32_t mask, T v, int from) {
    struct cargo {
        T in, out;
        int from;
    } mine = {v, v, from};
    meet(mask, &mine, [](void **all, uint32_t arrived) {
        for (int i = 0; i < 32; i++) {
            if (arrived >> i & 1) {
                cargo *const c = (cargo *)all[i];
                if (c->from >= 0 && c->from < 32 && (arrived >> c->from & 1)) {
                    c->out = ((const cargo *)all[c->from])->in;
                }
            }
        }
    });
    return mine.out;
}
} // namespace emu

template <class T> T __shfl_sync(uint32_t mask, T v, int from) {
    return emu::shuffle(mask, v, from & 31);
}
template <class T> T __shfl_xor_sync(uint32_t mask, T v, int bits) {
    return emu::shuffle(mask, v, (int)emu::lane() ^ bits);
}
template <class T> T __shfl_up_sync(uint32_t mask, T v, unsigned by) {
    return emu::shuffle(mask, v, (int)emu::lane() - (int)by);
}
inline unsigned __ballot_sync(uint32_t mask, int predicate) {
    struct cargo {
        int predicate;
        unsigned result;
    } mine = {predicate, 0};
    emu::meet(mask, &mine, [](void **all, uint32_t arrived) {
        unsigned result = 0;
        for (int i = 0; i < 32; i++) {
            if (arrived >> i & 1 && ((const cargo *)all[i])->predicate) {
                result |= 1u << i;
            }
        }
        for (int i = 0; i < 32; i++) {
            if (arrived >> i & 1) {
                ((cargo *)all[i])->result = result;
            }
        }
    });
    return mine.result;
}

template <class T> T atomicAdd(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicMax(unsigned *p, unsigned v) {
    unsigned was = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (was < v &&
           !__atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return was;
}

inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) {
        c += (int)(int8_t)((unsigned)a >> 8 * i) * (int)(int8_t)((unsigned)b >> 8 * i);
    }
    return c;
}
inline float __uint_as_float(unsigned v) {
    float f;
    memcpy(&f, &v, sizeof f);
    return f;
}
inline unsigned __float_as_uint(float f) {
    unsigned v;
    memcpy(&v, &f, sizeof v);
    return v;
}
inline float __fdividef(float a, float b) { return a / b; }
inline void sincospif(float x, float *s, float *c) {
    *s = (float)sin(3.14159265358979323846 * (double)x);
    *c = (float)cos(3.14159265358979323846 * (double)x);
}

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes) {
    return emu::allow_shared((const void *)kernel, bytes);
}

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    void *attrs;
    unsigned numAttrs;
};
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A &&...args) {
    std::tuple<P...> kept(std::forward<A>(args)...);
    return emu::launch(c->stream, c->gridDim, c->blockDim, c->dynamicSmemBytes,
                       (const void *)kernel, sizeof kept,
                       [kernel, kept] { std::apply(kernel, kept); });
}
