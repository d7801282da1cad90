/* Blocks of threads that count: sums over a block, and the k-th largest of keys by radix. */
#ifndef TL_CUDA_SELECT_CUH
#define TL_CUDA_SELECT_CUH

#include "util.cuh"

enum {
    SELECT_THREADS = 256,
    SELECT_WARPS = SELECT_THREADS / CU_WARP,
    BINS = 2048, /* of the 11 bits that a level tells apart */
    LEVELS = 3,  /* bits 31 .. 21, 20 .. 10, 9 .. 0 of a key */
};

/* The sum of v over the threads before this one; *total: over all. Every thread of a block. */
static __device__ inline uint32_t block_scan(uint32_t v, uint32_t *total) {
    __shared__ uint32_t of_warp[SELECT_WARPS];
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    const uint32_t inclusive = cu_warp_scan(v, lane);
    __syncthreads();
    if (lane == CU_WARP - 1) {
        of_warp[warp] = inclusive;
    }
    __syncthreads();
    uint32_t before = 0;
    *total = 0;
    for (uint32_t i = 0; i < SELECT_WARPS; i++) {
        before += i < warp ? of_warp[i] : 0;
        *total += of_warp[i];
    }
    return before + inclusive - v;
}

static __device__ inline void clear_bins(uint32_t *bins) {
    for (uint32_t i = threadIdx.x; i < BINS; i += SELECT_THREADS) {
        bins[i] = 0;
    }
    __syncthreads();
}

/* What is known of the bar: its upper bits; how many rows at it or, while bits are missing, of
 * those that share them, are still wanted. None wanted: every key but 0 is above the bar. */
struct bar {
    uint32_t bits, wanted;
};

/* Finds the bin that holds the wanted-th largest. Every thread of a block. */
static __device__ inline struct bar next_bar(const uint32_t *bins, struct bar known,
                                             uint32_t shift) {
    __shared__ struct bar shared;
    enum { EACH = BINS / SELECT_THREADS };
    const uint32_t top = BINS - EACH * threadIdx.x; /* this thread's bins lie below */
    uint32_t sum = 0, total;
    for (uint32_t i = 1; i <= EACH; i++) {
        sum += bins[top - i];
    }
    uint32_t before = block_scan(sum, &total);
    if (threadIdx.x == 0) {
        shared = {0, 0};
    }
    __syncthreads();
    if (before < known.wanted && known.wanted <= before + sum) {
        uint32_t bin = top - 1;
        for (; before + bins[bin] < known.wanted; bin--) {
            before += bins[bin];
        }
        shared = {known.bits | bin << shift, known.wanted - before};
    }
    __syncthreads();
    const struct bar result = shared;
    __syncthreads();
    return result;
}

/* The levels' lowest bits. */
static __device__ inline uint32_t level_shift(uint32_t level) {
    return level == 0 ? 21 : level == 1 ? 10 : 0;
}

#endif
