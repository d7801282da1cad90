/* Encoding of cache rows: the twin of core/codec.c's encoders, operation by operation, because the
 * bytes must be equal. Compiled without contraction of products and sums (CMake: CU_EXACT). A block
 * of threads encodes the keys or the values of one cache block of one KV head, a thread a channel
 * or a row; rows pass through shared memory a group of columns at a time. */
#include "formats.cuh"

#include "core/vq.h"

enum { GROUP_MAX = 64, FIT_ROUNDS = 3, TILE_STRIDE = GROUP_MAX + 2 };

struct compress_args {
    const __half *k, *v; /* (heads * src_cap, d) */
    uint8_t *k_to, *v_to;
    uint64_t k_bytes, v_bytes; /* of a block */
    uint32_t d, src_cap, dst_cap, src_row, dst_block, value_group;
    uint32_t k_bits, v_bits;
    uint32_t first_side; /* 0: keys, 1: values */
    double stretch;      /* of values */
    bool squares;
};

/* ---- kernels ---- */

struct group_fit {
    float minimum, divisor;
    __half scale_half, minimum_half;
};

static __device__ float clean(float value) {
    value = value > 65504.0f ? 65504.0f : value;
    value = value < -65504.0f ? -65504.0f : value;
    return value == value ? value : 0.0f;
}

static __device__ uint32_t code_of(float value, const struct group_fit &g, float levels) {
    float steps = (value - g.minimum) / g.divisor;
    steps = steps > 0.0f ? steps : 0.0f;
    steps = steps < levels ? steps : levels;
    return (uint32_t)(int)rintf(steps);
}

static __device__ struct group_fit new_fit(float minimum, float scale) {
    struct group_fit g;
    g.minimum_half = __float2half_rn(minimum);
    g.minimum = __half2float(g.minimum_half);
    g.scale_half = __float2half_rn(scale < 65504.0f ? scale : 65504.0f);
    const float rounded = __half2float(g.scale_half);
    g.divisor = rounded > 0.0f ? rounded : INFINITY;
    return g;
}

/* Numbers of a group in shared memory, `step` halves apart. */
struct numbers {
    const __half *first;
    uint32_t step, n;
};

static __device__ float number(const struct numbers &x, uint32_t i) {
    return clean(__half2float(x.first[i * x.step]));
}

static __device__ struct group_fit fit_squares(const struct group_fit &g, const struct numbers &x,
                                               double total, float levels, double stretch) {
    uint32_t codes = 0, squares = 0;
    double products[4] = {0.0, 0.0, 0.0, 0.0};
    for (uint32_t i = 0; i < x.n; i += 2) { /* n is even: products keep the order of codec.c */
        for (uint32_t j = 0; j < 2; j++) {
            const float value = number(x, i + j);
            const uint32_t code = code_of(value, g, levels);
            codes += code;
            squares += code * code;
            const double product = (double)(int)code * (double)value;
            if (i % 4 == 0) {
                products[j] += product;
            } else {
                products[2 + j] += product;
            }
        }
    }
    const uint64_t spread = (uint64_t)x.n * squares - (uint64_t)codes * codes;
    if (spread == 0) {
        return g;
    }
    const double together = x.n * (products[0] + products[1] + products[2] + products[3]);
    const double apart = codes * total;
    const double slope = (together - apart) / (double)spread;
    const double scale = slope * stretch;
    const double of_codes = scale * codes;
    const double minimum = (total - of_codes) / x.n;
    const struct group_fit better = new_fit((float)minimum, (float)scale);
    const uint32_t bits = __half_as_ushort(better.scale_half);
    const uint32_t minimum_bits = __half_as_ushort(better.minimum_half) & 0x7fffu;
    return bits > 0 && bits < 0x7c00u && minimum_bits < 0x7c00u ? better : g;
}

static __device__ struct group_fit fit_group(const struct numbers &x, uint32_t bits, bool squares,
                                             double stretch) {
    const float levels = (float)((1u << bits) - 1);
    float low = number(x, 0), high = low;
    double total = 0.0;
    for (uint32_t i = 0; i < x.n; i++) {
        const float value = number(x, i);
        low = value < low ? value : low;
        high = value > high ? value : high;
        total += (double)value;
    }
    struct group_fit g = new_fit(low, 0.0f);
    const float range = high > low && high > g.minimum ? high - g.minimum : 0.0f;
    g = new_fit(low, range / levels);
    for (int i = 0; squares && i < FIT_ROUNDS && __half_as_ushort(g.scale_half) != 0; i++) {
        g = fit_squares(g, x, total, levels, i + 1 == FIT_ROUNDS ? stretch : 1.0);
    }
    return g;
}

static __device__ void store_header(uint8_t *to, const struct group_fit &g) {
    ((__half *)(void *)to)[0] = g.scale_half;
    ((__half *)(void *)to)[1] = g.minimum_half;
}

/* 64 rows of columns [first, first + n) into the tile. */
static __device__ void load_tile(__half *tile, const __half *rows, uint32_t d, uint32_t first,
                                 uint32_t n) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < TL_BLOCK * n; i += TL_BLOCK) {
        tile[i / n * TILE_STRIDE + i % n] = rows[(uint64_t)(i / n) * d + first + i % n];
    }
    __syncthreads();
}

/* Thread c encodes channel first + c. */
static __device__ void encode_keys(const struct compress_args &a, __half *tile, const __half *rows,
                                   uint8_t *to) {
    const uint32_t run_bytes = TL_BLOCK / 8 * a.k_bits, per_byte = 8 / a.k_bits;
    const float levels = (float)((1u << a.k_bits) - 1);
    for (uint32_t first = 0; first < a.d; first += GROUP_MAX) {
        const uint32_t n = a.d - first < GROUP_MAX ? a.d - first : GROUP_MAX;
        load_tile(tile, rows, a.d, first, n);
        if (threadIdx.x < n) {
            const struct numbers x = {tile + threadIdx.x, TILE_STRIDE, TL_BLOCK};
            const struct group_fit g = fit_group(x, a.k_bits, a.squares, 1.0);
            const uint64_t c = first + threadIdx.x;
            store_header(to + 4 * c, g);
            uint8_t *const run = to + 4ull * a.d + c * run_bytes;
            for (uint32_t at = 0; at < run_bytes; at++) {
                uint32_t byte = 0;
                for (uint32_t i = 0; i < per_byte; i++) {
                    byte |= code_of(number(x, at * per_byte + i), g, levels) << i * a.k_bits;
                }
                run[at] = (uint8_t)byte;
            }
        }
    }
}

/* Thread t encodes row t, group by group; a byte may hold codes of two groups. */
static __device__ void encode_values(const struct compress_args &a, __half *tile,
                                     const __half *rows, uint8_t *to) {
    const uint32_t n = a.value_group, n_groups = a.d / n;
    const float levels = (float)((1u << a.v_bits) - 1);
    uint8_t *const header = to + (uint64_t)threadIdx.x * n_groups * 4;
    uint8_t *run = to + (uint64_t)TL_BLOCK * n_groups * 4 + threadIdx.x * (a.d / 8 * a.v_bits);
    uint32_t byte = 0, filled = 0;
    for (uint32_t i = 0; i < n_groups; i++) {
        load_tile(tile, rows, a.d, i * n, n);
        const struct numbers x = {tile + threadIdx.x * TILE_STRIDE, 1, n};
        const struct group_fit g = fit_group(x, a.v_bits, a.squares, a.stretch);
        store_header(header + 4 * i, g);
        for (uint32_t c = 0; c < n; c++) {
            byte |= code_of(number(x, c), g, levels) << filled;
            filled += a.v_bits;
            if (filled == 8) {
                *run++ = (uint8_t)byte;
                byte = filled = 0;
            }
        }
    }
}

/* Block (cache block, KV head, side) of TL_BLOCK threads. */
static __global__ void k_compress(struct compress_args a) {
    __shared__ __half tile[TL_BLOCK * TILE_STRIDE];
    const uint64_t from = (uint64_t)blockIdx.y * a.src_cap + a.src_row + blockIdx.x * TL_BLOCK;
    const uint64_t to = (uint64_t)blockIdx.y * a.dst_cap + a.dst_block + blockIdx.x;
    if (blockIdx.z + a.first_side == 0) {
        encode_keys(a, tile, a.k + from * a.d, a.k_to + to * a.k_bytes);
    } else {
        encode_values(a, tile, a.v + from * a.d, a.v_to + to * a.v_bytes);
    }
}

/* ---- launchers ---- */

uint64_t cu_compress_scratch(const struct cu_exec *x, const struct tl_compress *op) {
    (void)x;
    return cu_compress_vq_scratch(op->dst.k_codec) + cu_compress_vq_scratch(op->dst.v_codec);
}

cudaError_t cu_compress(const struct cu_exec *x, const struct tl_compress *op) {
    const struct tl_sketch *const dst = &op->dst;
    const bool k_vq = tl_vq_is(dst->k_codec), v_vq = tl_vq_is(dst->v_codec);
    uint8_t *const scratch = (uint8_t *)x->scratch;
    if (k_vq) {
        CU_TRY(cu_compress_vq(x, op, true, (float *)(void *)scratch));
    }
    if (v_vq) {
        void *const expanded = scratch + cu_compress_vq_scratch(dst->k_codec);
        CU_TRY(cu_compress_vq(x, op, false, (float *)expanded));
    }
    if (k_vq && v_vq) {
        return cudaSuccess;
    }
    const struct compress_args a = {cu_at<const __half>(op->src.k),
                                    cu_at<const __half>(op->src.v),
                                    cu_at<uint8_t>(dst->k),
                                    cu_at<uint8_t>(dst->v),
                                    dst->k.cols,
                                    dst->v.cols,
                                    dst->head_dim,
                                    op->src.k.rows / dst->n_kv_heads,
                                    dst->k.rows / dst->n_kv_heads,
                                    op->src_row,
                                    op->dst_block,
                                    tl_codec_value_group(dst->head_dim),
                                    tl_codec_bits(dst->k_codec),
                                    tl_codec_bits(dst->v_codec),
                                    k_vq ? 1u : 0u,
                                    tl_codec_stretch(dst->v_codec) / 16.0,
                                    op->fit == TL_FIT_SQUARES};
    const uint32_t n_sides = k_vq || v_vq ? 1 : 2;
    return cu_launch(x, dim3(op->n_blocks, dst->n_kv_heads, n_sides), TL_BLOCK, 0, k_compress, a);
}
