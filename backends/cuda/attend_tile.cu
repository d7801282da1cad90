/* Exact attention of many queries (prefill), on tensor cores: a block holds ROWS (query, head)
 * pairs of one KV head and goes over the keys they see in tiles, keeping a running maximum for each
 * pair.
 *
 * Keys and values are halves and exact. Queries and weights are split into a half and the half of
 * what that left, each scaled by a power of two so that neither falls below a half's range:
 * products keep 22 bits, as many as a float's sum of them. A tile's product is summed in registers
 * of its own and then added, because tensor cores cut what they add to a large sum.
 *
 * Which element of an accumulator a lane holds is the hardware's business; a matrix of row numbers,
 * loaded as an accumulator once, says it. */
#include "formats.cuh"

#include <mma.h>

enum {
    TILE_WARPS = 8,
    TILE_THREADS = TILE_WARPS * CU_WARP,
    WEIGHT_SCALE = 1024,
};

/* Sizes for heads of D. */
template <int D> struct tile_shape {
    enum {
        rows = D > 128 ? 32 : 64,
        keys = D > 128 ? 32 : 64,
        stride = D + 8,           /* halves of a query, key or value */
        score_stride = keys + 4,  /* floats */
        weight_stride = keys + 8, /* halves */
        out_stride = D + 4,       /* floats; outputs take the queries' room */
        row_groups = rows / 16,
        column_groups = TILE_WARPS / row_groups,
        q_bytes = 2 * rows * stride * 2,
        kv_bytes = keys * stride * 2,
        score_bytes = rows * score_stride * 4,
        weight_bytes = 2 * rows * weight_stride * 2,
        state_bytes = 4 * rows * 4 + 2 * rows * 4 + 256 * 4,
        bytes = q_bytes + kv_bytes + score_bytes + weight_bytes + state_bytes,
    };
    static_assert(rows * out_stride * 4 <= q_bytes, "outputs fit where the queries were");
};

struct tile_args {
    const float *q;
    float *out, *lse;
    const __half *k, *v;
    const int32_t *q_pos, *n_rows;
    uint32_t n, n_heads, group, cap, window;
    float scale, softcap;
};

/* ---- kernels ---- */

template <int D> struct tile_room {
    __half *q_high, *q_low, *kv, *w_high, *w_low;
    float *score, *out, *most, *weights, *shrink, *q_scale;
    int32_t *first, *end;
    float *row_of; /* (16, 16): each its row's number */
};

template <int D> static __device__ struct tile_room<D> tile_layout(uint8_t *at) {
    typedef struct tile_shape<D> shape;
    struct tile_room<D> room;
    room.q_high = (__half *)(void *)at;
    room.q_low = room.q_high + shape::rows * shape::stride;
    room.out = (float *)(void *)at;
    at += shape::q_bytes;
    room.kv = (__half *)(void *)at;
    at += shape::kv_bytes;
    room.score = (float *)(void *)at;
    at += shape::score_bytes;
    room.w_high = (__half *)(void *)at;
    room.w_low = room.w_high + shape::rows * shape::weight_stride;
    at += shape::weight_bytes;
    room.row_of = (float *)(void *)at;
    room.most = room.row_of + 256;
    room.weights = room.most + shape::rows;
    room.shrink = room.weights + shape::rows;
    room.q_scale = room.shrink + shape::rows;
    room.first = (int32_t *)(void *)(room.q_scale + shape::rows);
    room.end = room.first + shape::rows;
    return room;
}

/* Row r of this block is pair r0 + r: head pair % group of query pair / group. */
static __device__ uint64_t
pair_item(const struct tile_args &a, uint32_t pair) {
    return (uint64_t)(pair / a.group) * a.n_heads + blockIdx.y * a.group + pair % a.group;
}

/* Queries, what each sees, and empty states; a warp a row at a time. */
template <int D>
static __device__ void tile_begin(const struct tile_args &a, const struct tile_room<D> &room,
                                  uint32_t r0) {
    typedef struct tile_shape<D> shape;
    const uint32_t lane = threadIdx.x % CU_WARP, n_pairs = a.n * a.group;
    for (uint32_t r = threadIdx.x / CU_WARP; r < shape::rows; r += TILE_WARPS) {
        const bool some = r0 + r < n_pairs;
        const float *const q = a.q + (some ? pair_item(a, r0 + r) : 0) * D;
        float most = 0.0f;
        for (uint32_t c = lane; some && c < D; c += CU_WARP) {
            most = fmaxf(most, fabsf(q[c]));
        }
        most = cu_warp_max(most);
        const int exponent = cu_exponent(most);
        const float up = cu_power(14 - exponent);
        for (uint32_t c = lane; c < D; c += CU_WARP) {
            const float value = some ? q[c] * up : 0.0f;
            const __half high = __float2half_rn(value);
            room.q_high[r * shape::stride + c] = high;
            room.q_low[r * shape::stride + c] = __float2half_rn(value - __half2float(high));
        }
        if (lane == 0) {
            const int32_t n_rows = a.n_rows[0];
            const int32_t pos = some ? a.q_pos[(r0 + r) / a.group] : -1;
            const int32_t end = pos < n_rows ? pos + 1 : n_rows;
            const int64_t first = a.window != 0 ? (int64_t)pos + 1 - (int64_t)a.window : 0;
            room.end[r] = some && end > 0 ? end : 0;
            room.first[r] = first > 0 ? (int32_t)first : 0;
            room.most[r] = -INFINITY;
            room.weights[r] = 0.0f;
            room.q_scale[r] = a.scale * cu_power(exponent - 14);
        }
    }
    for (uint32_t i = threadIdx.x; i < 256; i += TILE_THREADS) {
        room.row_of[i] = (float)(i / 16);
    }
}

/* Asks for rows t0 .. of keys or values; rows from `end` on are zeros. */
template <int D>
static __device__ void tile_ask(const struct tile_args &a, const __half *from, __half *to,
                                uint32_t t0, uint32_t end) {
    typedef struct tile_shape<D> shape;
    const __half *const rows = from + ((uint64_t)blockIdx.y * a.cap + t0) * D;
    for (uint32_t at = threadIdx.x; at < shape::keys * (D / 8); at += TILE_THREADS) {
        const uint32_t t = at / (D / 8), j = at % (D / 8) * 8;
        uint4 *const dst = (uint4 *)(void *)(to + t * shape::stride + j);
        if (t0 + t < end) {
            __pipeline_memcpy_async(dst, rows + (uint64_t)t * D + j, 16);
        } else {
            *dst = {0, 0, 0, 0};
        }
    }
    __pipeline_commit();
}

namespace wmma = nvcuda::wmma;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> frag_left;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> frag_keys;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> frag_values;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> frag_sum;

template <int D> static __device__ void tile_score(const struct tile_room<D> &room) {
    typedef struct tile_shape<D> shape;
    const uint32_t warp = threadIdx.x / CU_WARP, row = warp / shape::column_groups * 16;
    for (uint32_t t = warp % shape::column_groups * 16; t < shape::keys;
         t += 16 * shape::column_groups) {
        frag_sum sum;
        wmma::fill_fragment(sum, 0.0f);
#pragma unroll 2
        for (uint32_t c = 0; c < D; c += 16) {
            frag_left high, low;
            frag_keys keys;
            wmma::load_matrix_sync(keys, room.kv + t * shape::stride + c, shape::stride);
            wmma::load_matrix_sync(high, room.q_high + row * shape::stride + c, shape::stride);
            wmma::load_matrix_sync(low, room.q_low + row * shape::stride + c, shape::stride);
            wmma::mma_sync(sum, high, keys, sum);
            wmma::mma_sync(sum, low, keys, sum);
        }
        wmma::store_matrix_sync(room.score + row * shape::score_stride + t, sum,
                                shape::score_stride, wmma::mem_row_major);
    }
}

/* Scores become weights; some lanes side by side share a row. */
template <int D>
static __device__ void tile_weigh(const struct tile_args &a, const struct tile_room<D> &room,
                                  uint32_t t0) {
    typedef struct tile_shape<D> shape;
    constexpr uint32_t lanes = TILE_THREADS / shape::rows;
    const uint32_t r = threadIdx.x / lanes, part = threadIdx.x % lanes;
    float *const score = room.score + r * shape::score_stride;
    const int32_t first = room.first[r], end = room.end[r];
    const float was = room.most[r], scale = room.q_scale[r];
    float most = was;
    for (uint32_t t = part; t < shape::keys; t += lanes) {
        const int32_t row = (int32_t)(t0 + t);
        const bool seen = row >= first && row < end;
        score[t] = seen ? cu_cap(score[t] * scale, a.softcap) : -INFINITY;
        most = fmaxf(most, score[t]);
    }
    for (uint32_t o = lanes / 2; o > 0; o /= 2) {
        most = fmaxf(most, __shfl_xor_sync(CU_ALL, most, (int)o));
    }
    float sum = 0.0f;
    for (uint32_t t = part; t < shape::keys; t += lanes) {
        const float weight = score[t] > -INFINITY ? expf(score[t] - most) : 0.0f;
        const __half high = __float2half_rn(weight * WEIGHT_SCALE);
        room.w_high[r * shape::weight_stride + t] = high;
        room.w_low[r * shape::weight_stride + t] =
            __float2half_rn(weight * WEIGHT_SCALE - __half2float(high));
        sum += weight;
    }
    for (uint32_t o = lanes / 2; o > 0; o /= 2) {
        sum += __shfl_xor_sync(CU_ALL, sum, (int)o);
    }
    if (part == 0) {
        const float shrink = was > -INFINITY ? expf(was - most) : 0.0f;
        room.shrink[r] = shrink;
        room.weights[r] = room.weights[r] * shrink + sum;
        room.most[r] = most;
    }
}

/* sums of columns 16 (column group + i * column groups). */
template <int D, int N>
static __device__ void tile_mix(const struct tile_room<D> &room, const frag_sum &row_of,
                                frag_sum (&sums)[N]) {
    typedef struct tile_shape<D> shape;
    const uint32_t warp = threadIdx.x / CU_WARP, row = warp / shape::column_groups * 16;
    float shrink[frag_sum::num_elements];
#pragma unroll
    for (int e = 0; e < frag_sum::num_elements; e++) {
        shrink[e] = room.shrink[row + (uint32_t)row_of.x[e]];
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = (warp % shape::column_groups + i * shape::column_groups) * 16;
        frag_sum part;
        wmma::fill_fragment(part, 0.0f);
        for (uint32_t t = 0; t < shape::keys; t += 16) {
            frag_left high, low;
            frag_values values;
            wmma::load_matrix_sync(values, room.kv + t * shape::stride + c, shape::stride);
            wmma::load_matrix_sync(high, room.w_high + row * shape::weight_stride + t,
                                   shape::weight_stride);
            wmma::load_matrix_sync(low, room.w_low + row * shape::weight_stride + t,
                                   shape::weight_stride);
            wmma::mma_sync(part, high, values, part);
            wmma::mma_sync(part, low, values, part);
        }
#pragma unroll
        for (int e = 0; e < frag_sum::num_elements; e++) {
            sums[i].x[e] = sums[i].x[e] * shrink[e] + part.x[e];
        }
    }
}

template <int D, int N>
static __device__ void tile_end(const struct tile_args &a, const struct tile_room<D> &room,
                                uint32_t r0, frag_sum (&sums)[N]) {
    typedef struct tile_shape<D> shape;
    const uint32_t warp = threadIdx.x / CU_WARP, row = warp / shape::column_groups * 16;
    __syncthreads(); /* the queries are done with */
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = (warp % shape::column_groups + i * shape::column_groups) * 16;
        wmma::store_matrix_sync(room.out + row * shape::out_stride + c, sums[i], shape::out_stride,
                                wmma::mem_row_major);
    }
    __syncthreads();
    for (uint32_t at = threadIdx.x; at < shape::rows * D; at += TILE_THREADS) {
        const uint32_t r = at / D, c = at % D;
        if (r0 + r < a.n * a.group) {
            const float weights = room.weights[r] * WEIGHT_SCALE;
            a.out[pair_item(a, r0 + r) * D + c] =
                weights > 0.0f ? room.out[r * shape::out_stride + c] / weights : 0.0f;
        }
    }
    for (uint32_t r = threadIdx.x; a.lse != nullptr && r < shape::rows; r += TILE_THREADS) {
        if (r0 + r < a.n * a.group) {
            a.lse[pair_item(a, r0 + r)] =
                room.weights[r] > 0.0f ? room.most[r] + logf(room.weights[r]) : -INFINITY;
        }
    }
}

/* Block (pairs, KV head); the last pairs, which see most, first. */
template <int D>
static __global__ void __launch_bounds__(TILE_THREADS) k_attend_tile(struct tile_args a) {
    typedef struct tile_shape<D> shape;
    constexpr int n_sums = D / 16 / shape::column_groups;
    CU_DYNAMIC_SHARED(shared);
    const struct tile_room<D> room = tile_layout<D>(shared);
    const uint32_t r0 = (gridDim.x - 1 - blockIdx.x) * shape::rows;
    tile_begin<D>(a, room, r0);
    __syncthreads();
    int32_t first = INT32_MAX, end = 0;
    for (uint32_t r = 0; r < shape::rows; r++) {
        first = room.first[r] < first && room.end[r] > 0 ? room.first[r] : first;
        end = room.end[r] > end ? room.end[r] : end;
    }
    frag_sum row_of, sums[n_sums];
    wmma::load_matrix_sync(row_of, room.row_of, 16, wmma::mem_row_major);
#pragma unroll
    for (int i = 0; i < n_sums; i++) {
        wmma::fill_fragment(sums[i], 0.0f);
    }
    for (int32_t t0 = first / shape::keys * shape::keys; t0 < end; t0 += shape::keys) {
        tile_ask<D>(a, a.k, room.kv, (uint32_t)t0, (uint32_t)end);
        __pipeline_wait_prior(0);
        __syncthreads();
        tile_score<D>(room);
        __syncthreads();
        tile_ask<D>(a, a.v, room.kv, (uint32_t)t0, (uint32_t)end);
        tile_weigh<D>(a, room, (uint32_t)t0);
        __pipeline_wait_prior(0);
        __syncthreads();
        tile_mix<D, n_sums>(room, row_of, sums);
        __syncthreads();
    }
    tile_end<D, n_sums>(a, room, r0, sums);
}

/* ---- launchers ---- */

template <int D>
static cudaError_t tile_as(const struct cu_exec *x, const struct tile_args &a,
                           uint32_t n_kv_heads) {
    const uint32_t blocks = cu_div_up((uint64_t)a.n * a.group, tile_shape<D>::rows);
    CU_TRY(cudaFuncSetAttribute(k_attend_tile<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                tile_shape<D>::bytes));
    return cu_launch(x, dim3(blocks, n_kv_heads), TILE_THREADS, tile_shape<D>::bytes,
                     k_attend_tile<D>, a);
}

static uint32_t tile_bytes(uint32_t d) {
    switch (d) {
    case 64:
        return tile_shape<64>::bytes;
    case 96:
        return tile_shape<96>::bytes;
    case 128:
        return tile_shape<128>::bytes;
    case 256:
        return tile_shape<256>::bytes;
    default:
        return UINT32_MAX;
    }
}

bool cu_attend_tile_fits(const struct cu_exec *x, const struct tl_attend *op) {
    const uint32_t d = op->kv.k.cols, group = op->n_heads / op->kv.n_kv_heads;
    const uintptr_t at = (uintptr_t)cu_at<uint8_t>(op->kv.k) | (uintptr_t)cu_at<uint8_t>(op->kv.v);
    return op->kv.k.dtype == TL_F16 && op->kv.v.dtype == TL_F16 && (at & 15u) == 0 &&
           (uint64_t)op->q.rows * group >= x->tuning->tile_pairs_least && op->q.rows > 1 &&
           tile_bytes(d) <= x->shared_bytes_max;
}

cudaError_t cu_attend_tile(const struct cu_exec *x, const struct tl_attend *op) {
    const uint32_t n = op->kv.n_kv_heads;
    const struct tile_args a = {cu_at<const float>(op->q),
                                cu_at<float>(op->out),
                                cu_at<float>(op->lse),
                                cu_at<const __half>(op->kv.k),
                                cu_at<const __half>(op->kv.v),
                                cu_at<const int32_t>(op->q_pos),
                                cu_at<const int32_t>(op->n_rows),
                                op->q.rows,
                                op->n_heads,
                                op->n_heads / n,
                                op->kv.k.rows / n,
                                op->window,
                                op->scale,
                                op->softcap};
    switch (op->kv.k.cols) {
    case 64:
        return tile_as<64>(x, a, n);
    case 96:
        return tile_as<96>(x, a, n);
    case 128:
        return tile_as<128>(x, a, n);
    case 256:
        return tile_as<256>(x, a, n);
    default:
        return cudaErrorInvalidValue;
    }
}
