/* Vector-quantised blocks as kernels read them; the drawing is in core/vq.h. An entry of a codebook
 * is one to four words, a code of 4, 8, 10 or 12 bits. Books begin at multiples of 16. */
#ifndef TL_CUDA_VQ_CUH
#define TL_CUDA_VQ_CUH

#include "formats.cuh"

#include "core/vq.h"

/* Of one side of a sketch; dim 0: it has codecs by scales. */
struct cu_vq {
    const __half *book; /* (entries, dim) */
    uint32_t dim, bits;
    uint32_t book_bytes;
};

static inline struct cu_vq cu_vq_of(tl_codec codec, const tl_view &book) {
    struct cu_vq vq = {};
    if (tl_vq_is(codec)) {
        vq.book = cu_at<const __half>(book);
        vq.dim = tl_vq_dim(codec);
        vq.bits = tl_vq_bits(codec);
        vq.book_bytes = tl_vq_entries(codec) * vq.dim * (uint32_t)sizeof(__half);
    }
    return vq;
}

/* Two halves a word. */
template <int DIM> struct cu_entry { uint32_t w[DIM / 2]; };

template <int DIM>
static __device__ inline struct cu_entry<DIM> cu_vq_entry(const __half *book, uint32_t code) {
    struct cu_entry<DIM> entry;
    const void *const at = book + code * DIM;
    if constexpr (DIM == 8) {
        const uint4 four = *(const uint4 *)at;
        entry.w[0] = four.x;
        entry.w[1] = four.y;
        entry.w[2] = four.z;
        entry.w[3] = four.w;
    } else if constexpr (DIM == 4) {
        const uint2 two = *(const uint2 *)at;
        entry.w[0] = two.x;
        entry.w[1] = two.y;
    } else {
        entry.w[0] = *(const uint32_t *)at;
    }
    return entry;
}

/* Code t of a run. */
static __device__ inline uint32_t
cu_vq_code(const uint8_t *run, uint32_t t, uint32_t bits) {
    const uint32_t at = t * bits, shift = at % 8;
    const uint8_t *const p = run + at / 8;
    const uint32_t low = p[0], high = shift + bits > 8 ? p[1] : 0;
    return (low | high << 8) >> shift & ((1u << bits) - 1);
}

/* x := x H for n_rows rows of d floats in shared memory: core/vq.c's order of operations, by all
 * threads of a block. Begins and ends with a barrier. */
static __device__ inline void cu_hadamard(float *rows, uint32_t n_rows, uint32_t d) {
    uint32_t n = 512; /* TL_HEAD_DIM_MAX */
    __syncthreads();
    for (uint32_t first = 0; first < d; first += n) {
        while (n > d - first) {
            n /= 2;
        }
        for (uint32_t step = 1; step < n; step *= 2) {
            for (uint32_t at = threadIdx.x; at < n_rows * (n / 2); at += blockDim.x) {
                const uint32_t pair = at % (n / 2);
                const uint32_t i = pair / step * 2 * step + pair % step;
                float *const x = rows + at / (n / 2) * d + first + i;
                const float a = x[0], b = x[step];
                x[0] = a + b;
                x[step] = a - b;
            }
            __syncthreads();
        }
        const float share = 1.0f / sqrtf((float)n);
        for (uint32_t at = threadIdx.x; at < n_rows * n; at += blockDim.x) {
            rows[at / n * d + first + at % n] *= share;
        }
        __syncthreads();
    }
}

#endif
