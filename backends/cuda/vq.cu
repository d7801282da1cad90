/* Turning and encoding of vector-quantised rows: the twin of core/vq.c, operation by operation,
 * because the bytes must be equal. Compiled without contraction of products and sums (CMake:
 * CU_EXACT). What attends such rows is in sketch.cu; it is given turned queries, and its output is
 * turned back here. */
#include "vq.cuh"

#include "core/codec.h"

enum {
    VQ_THREADS = 128,
    VQ_ROWS = 16,          /* of a block, that pass through shared memory at a time */
    CHANNELS_A_THREAD = 4, /* TL_HEAD_DIM_MAX / VQ_THREADS */
};
static_assert((int)CHANNELS_A_THREAD * (int)VQ_THREADS >= (int)TL_HEAD_DIM_MAX,
              "every channel has a thread");

struct vq_encode_args {
    const __half *from;    /* (heads * src_cap, d) */
    const float *expanded; /* tl_vq_expand */
    const float *smooth;   /* (heads, d) or NULL */
    uint8_t *to;
    uint64_t block_bytes;
    uint32_t d, src_cap, dst_cap, src_row, dst_block, dim, bits;
    float stretch; /* of the header's scale */
};

/* ---- kernels ---- */

/* tl_vq_expand, a thread an entry. */
static __global__ void k_vq_expand(const __half *book, uint32_t n, uint32_t dim, float *expanded) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    float sum = 0.0f;
    for (uint32_t j = 0; j < dim; j++) {
        const float number = __half2float(book[i * dim + j]);
        expanded[i * dim + j] = number;
        sum += number * number;
    }
    expanded[n * dim + i] = 0.5f * sum;
}

static __device__ float clean(float value) {
    value = value > 65504.0f ? 65504.0f : value;
    value = value < -65504.0f ? -65504.0f : value;
    return value == value ? value : 0.0f;
}

/* VQ_ROWS rows, turned. Begins and ends with a barrier. */
static __device__ void load_turned(const struct vq_encode_args &a, const __half *from,
                                   float *rows) {
    const float *const smooth =
        a.smooth != nullptr ? a.smooth + (uint64_t)blockIdx.y * a.d : nullptr;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < VQ_ROWS * a.d; i += VQ_THREADS) {
        const float value = clean(__half2float(from[i]));
        rows[i] = smooth != nullptr ? value / smooth[i % a.d] : value;
    }
    cu_hadamard(rows, VQ_ROWS, a.d);
}

/* The block's scale, not drawn out. Rows are spoilt. */
static __device__ __half find_scale(const struct vq_encode_args &a, const __half *from,
                                    float *rows) {
    float sums[CHANNELS_A_THREAD] = {};
    for (uint32_t t0 = 0; t0 < TL_BLOCK; t0 += VQ_ROWS) {
        load_turned(a, from + (uint64_t)t0 * a.d, rows);
#pragma unroll
        for (uint32_t i = 0; i < CHANNELS_A_THREAD; i++) {
            const uint32_t c = threadIdx.x + i * VQ_THREADS;
            for (uint32_t t = 0; c < a.d && t < VQ_ROWS; t++) {
                sums[i] += rows[t * a.d + c] * rows[t * a.d + c];
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < CHANNELS_A_THREAD; i++) {
        const uint32_t c = threadIdx.x + i * VQ_THREADS;
        if (c < a.d) {
            rows[c] = sums[i];
        }
    }
    __syncthreads();
    double total = 0.0;
    for (uint32_t c = 0; c < a.d; c++) {
        total += (double)rows[c];
    }
    const float scale = (float)sqrt(total / (double)(TL_BLOCK * (uint64_t)a.d));
    return __float2half_rn(scale < 65504.0f ? scale : 65504.0f);
}

/* tl_vq_nearest for one vector. */
static __device__ uint32_t nearest(const struct vq_encode_args &a, const float *row, float share) {
    float x[TL_VQ_DIM_MAX];
#pragma unroll
    for (uint32_t j = 0; j < TL_VQ_DIM_MAX; j++) {
        x[j] = j < a.dim ? row[j] * share : 0.0f;
    }
    const uint32_t n = 1u << a.bits;
    const float *const halves = a.expanded + n * a.dim;
    float best = INFINITY;
    uint32_t code = 0;
    for (uint32_t c = 0; c < n; c++) {
        float away = halves[c];
#pragma unroll
        for (uint32_t j = 0; j < TL_VQ_DIM_MAX; j++) {
            if (j < a.dim) {
                away -= x[j] * a.expanded[c * a.dim + j];
            }
        }
        code = away < best ? c : code;
        best = away < best ? away : best;
    }
    return code;
}

/* Codes of VQ_ROWS rows of a place, which are whole bytes. */
static __device__ void pack(const uint16_t *codes, uint32_t bits, uint8_t *to) {
    uint32_t held = 0, n_held = 0;
    for (uint32_t t = 0; t < VQ_ROWS; t++) {
        held |= (uint32_t)codes[t] << n_held;
        for (n_held += bits; n_held >= 8; n_held -= 8) {
            *to++ = (uint8_t)held;
            held >>= 8;
        }
    }
}

/* Block (cache block, KV head). Shared: rows (VQ_ROWS, d) floats, codes (places, VQ_ROWS) uint16.
 * Rows are turned twice, since all 64 of a wide head do not fit. */
static __global__ void __launch_bounds__(VQ_THREADS) k_compress_vq(struct vq_encode_args a) {
    CU_DYNAMIC_SHARED(shared);
    float *const rows = (float *)(void *)shared;
    uint16_t *const codes = (uint16_t *)(void *)(rows + VQ_ROWS * a.d);
    const uint32_t n_places = a.d / a.dim;
    const __half *const from =
        a.from + ((uint64_t)blockIdx.y * a.src_cap + a.src_row + blockIdx.x * TL_BLOCK) * a.d;
    uint8_t *const to =
        a.to + ((uint64_t)blockIdx.y * a.dst_cap + a.dst_block + blockIdx.x) * a.block_bytes;
    const __half scale = find_scale(a, from, rows);
    const float value = __half2float(scale), share = value > 0.0f ? 1.0f / value : 0.0f;
    if (threadIdx.x == 0) {
        const float drawn = value * a.stretch;
        const uint32_t bits =
            __half_as_ushort(__float2half_rn(drawn < 65504.0f ? drawn : 65504.0f));
        to[0] = (uint8_t)bits;
        to[1] = (uint8_t)(bits >> 8);
        to[2] = to[3] = 0;
    }
    for (uint32_t t0 = 0; t0 < TL_BLOCK; t0 += VQ_ROWS) {
        load_turned(a, from + (uint64_t)t0 * a.d, rows);
        for (uint32_t i = threadIdx.x; i < n_places * VQ_ROWS; i += VQ_THREADS) {
            const uint32_t place = i / VQ_ROWS, t = i % VQ_ROWS;
            codes[i] = (uint16_t)nearest(a, rows + t * a.d + place * a.dim, share);
        }
        __syncthreads();
        for (uint32_t place = threadIdx.x; place < n_places; place += VQ_THREADS) {
            pack(codes + place * VQ_ROWS, a.bits,
                 to + TL_VQ_HEADER_BYTES + (place * TL_BLOCK + t0) / 8 * a.bits);
        }
    }
}

/* Rows of d floats times the factors of their KV head, if any, then rotated; to may be from. Row i
 * is of KV head i % n_heads / group. */
static __global__ void k_vq_turn(const float *from, const float *smooth, float *to,
                                 uint32_t n_heads, uint32_t group, uint32_t d) {
    CU_DYNAMIC_SHARED(shared);
    float *const row = (float *)(void *)shared;
    const uint64_t at = (uint64_t)blockIdx.x * d;
    const uint32_t kv_head = blockIdx.x % n_heads / group;
    for (uint32_t c = threadIdx.x; c < d; c += blockDim.x) {
        row[c] = from[at + c] * (smooth != nullptr ? smooth[kv_head * d + c] : 1.0f);
    }
    cu_hadamard(row, 1, d);
    for (uint32_t c = threadIdx.x; c < d; c += blockDim.x) {
        to[at + c] = row[c];
    }
}

/* ---- launchers ---- */

cudaError_t cu_vq_turn(const struct cu_exec *x, const struct cu_turn *op) {
    return cu_launch(x, dim3(op->n_rows), VQ_THREADS / 2, op->d * sizeof(float), k_vq_turn,
                     op->from, op->smooth, op->to, op->n_heads, op->group, op->d);
}

uint64_t cu_compress_vq_scratch(tl_codec codec) {
    return tl_vq_is(codec) ? tl_align_up(tl_vq_expanded_floats(codec) * sizeof(float), 256) : 0;
}

cudaError_t cu_compress_vq(const struct cu_exec *x, const struct tl_compress *op, bool keys,
                           float *expanded) {
    const struct tl_sketch *const dst = &op->dst;
    const tl_codec codec = keys ? dst->k_codec : dst->v_codec;
    const uint32_t n = tl_vq_entries(codec), dim = tl_vq_dim(codec), d = dst->head_dim;
    const tl_view &to = keys ? dst->k : dst->v;
    const tl_view &from = keys ? op->src.k : op->src.v;
    CU_TRY(cu_launch(x, dim3(cu_div_up(n, VQ_THREADS)), VQ_THREADS, 0, k_vq_expand,
                     cu_at<const __half>(keys ? dst->k_book : dst->v_book), n, dim, expanded));
    const struct vq_encode_args a = {cu_at<const __half>(from),
                                     expanded,
                                     keys ? cu_at<const float>(dst->smooth) : nullptr,
                                     cu_at<uint8_t>(to),
                                     to.cols,
                                     d,
                                     from.rows / dst->n_kv_heads,
                                     to.rows / dst->n_kv_heads,
                                     op->src_row,
                                     op->dst_block,
                                     dim,
                                     tl_vq_bits(codec),
                                     keys ? 1.0f : tl_vq_stretch(codec)};
    const uint32_t shared =
        VQ_ROWS * (d * (uint32_t)sizeof(float) + d / dim * (uint32_t)sizeof(uint16_t));
    return cu_launch(x, dim3(op->n_blocks, dst->n_kv_heads), VQ_THREADS, shared, k_compress_vq, a);
}
