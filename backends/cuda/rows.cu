/* Ops that go over rows once: gather, rmsnorm, rope, glu, merge, and the rows of the exact cache.
 * Nothing here is limited by anything but memory. Encoded bytes equal tl_encode_row's, hence this
 * file is compiled without contraction of products and sums (CMake: CU_EXACT). */
#include "formats.cuh"

enum { ROW_THREADS = 256, ROW_WARPS = ROW_THREADS / CU_WARP };

/* ---- kernels ---- */

struct gather_args {
    float *y;           /* (n, cols) */
    const uint8_t *src; /* (any, cols) */
    const int32_t *idx; /* (n) */
    uint64_t row_bytes;
    uint32_t cols;
    float scale;
};

/* Block (piece of the columns, row). */
template <int T> static __global__ void k_gather(struct gather_args a) {
    const uint8_t *const row = a.src + (uint64_t)a.idx[blockIdx.y] * a.row_bytes;
    float *const y = a.y + (uint64_t)blockIdx.y * a.cols;
    const uint32_t u = blockIdx.x * blockDim.x + threadIdx.x;
    if constexpr (cu_format<T>::elems == 1) {
        if (u < a.cols) {
            y[u] = cu_element<T>(row, u) * a.scale;
        }
    } else if (16 * u < a.cols) {
        const struct cu_codes c = cu_unit<T>(row, u);
        for (int e = 0; e < 16; e++) {
            y[16 * u + e] = (c.d * (float)cu_code(&c, e) - c.m) * a.scale;
        }
    }
}

struct rmsnorm_args {
    float *y;
    const float *x, *w;
    uint32_t d;
    float eps;
    bool accumulate;
};

/* A block a row. */
static __global__ void k_rmsnorm(struct rmsnorm_args a) {
    __shared__ float of_warp[ROW_WARPS];
    const float *const x = a.x + (uint64_t)blockIdx.x * a.d;
    float *const y = a.y + (uint64_t)blockIdx.x * a.d;
    float squares = 0.0f;
    for (uint32_t j = threadIdx.x; j < a.d; j += ROW_THREADS) {
        squares += x[j] * x[j];
    }
    squares = cu_warp_sum(squares);
    if (threadIdx.x % CU_WARP == 0) {
        of_warp[threadIdx.x / CU_WARP] = squares;
    }
    __syncthreads();
    squares = 0.0f;
    for (int i = 0; i < ROW_WARPS; i++) {
        squares += of_warp[i];
    }
    const float scale = 1.0f / sqrtf(squares / (float)a.d + a.eps);
    for (uint32_t j = threadIdx.x; j < a.d; j += ROW_THREADS) {
        const float value = x[j] * scale * a.w[j];
        y[j] = a.accumulate ? y[j] + value : value;
    }
}

struct rope_args {
    float *x;
    const int32_t *pos;
    const float *inv_freq;
    uint32_t cols, head_dim, n_pairs;
    float scale;
    bool half;
};

/* Sine and cosine of pair j of row i. The angle in half turns, in double: at position 2^20 a float
 * angle would be off by 0.06. */
static __device__ void turn_of(const struct rope_args &a, uint32_t i, uint32_t j, float *s,
                               float *c) {
    const double turns = (double)a.pos[i] * (double)a.inv_freq[j] * 0.31830988618379067;
    sincospif((float)(turns - 2.0 * rint(turns * 0.5)), s, c);
    *s *= a.scale;
    *c *= a.scale;
}

/* A thread a pair of a row, for all heads. */
static __global__ void k_rope(struct rope_args a) {
    const uint32_t j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= a.n_pairs) {
        return;
    }
    float s, c;
    turn_of(a, blockIdx.y, j, &s, &c);
    float *const row = a.x + (uint64_t)blockIdx.y * a.cols;
    for (uint32_t at = 0; at < a.cols; at += a.head_dim) {
        float *const p = row + at + (a.half ? j : 2 * j);
        float *const q = row + at + (a.half ? j + a.n_pairs : 2 * j + 1);
        const float p_was = *p, q_was = *q;
        *p = p_was * c - q_was * s;
        *q = p_was * s + q_was * c;
    }
}

struct glu_args {
    float *y;
    const float *gate, *up;
    uint64_t n;
    bool silu;
};

static __global__ void k_glu(struct glu_args a) {
    const uint64_t i = (uint64_t)blockIdx.x * ROW_THREADS + threadIdx.x;
    if (i < a.n) {
        a.y[i] = cu_act(a.gate[i], a.silu) * a.up[i];
    }
}

struct merge_args {
    float *out, *lse;
    const float *out_b, *lse_b;
    uint32_t d;
};

/* A block a head of a row. */
static __global__ void k_merge(struct merge_args a) {
    const uint64_t i = blockIdx.x;
    const float lse_a = a.lse[i], lse_b = a.lse_b[i], most = fmaxf(lse_a, lse_b);
    if (most == -INFINITY) {
        return; /* nothing joined with nothing: zeros already */
    }
    const float of_a = expf(lse_a - most), of_b = expf(lse_b - most), both = of_a + of_b;
    const float share_a = of_a / both, share_b = of_b / both;
    for (uint32_t j = threadIdx.x; j < a.d; j += blockDim.x) {
        float *const out = a.out + i * a.d + j;
        *out = share_a * *out + share_b * a.out_b[i * a.d + j];
    }
    __syncthreads(); /* all have read lse */
    if (threadIdx.x == 0) {
        a.lse[i] = most + logf(both);
    }
}

struct encode_args {
    uint8_t *dst;        /* (heads * cap, d) of its dtype */
    const float *src;    /* (n, heads * d) */
    const int32_t *slot; /* (n) */
    uint64_t row_bytes;
    uint32_t d, heads, cap;
    tl_dtype dtype;
};

/* The half that a block stores as its scale, and what it reads as. */
static __device__ float store_scale(uint8_t *to, float peak, float wanted, bool finite) {
    const float scale = finite ? fminf(fmaxf(peak / wanted, -65504.0f), 65504.0f) : NAN;
    const __half h = __float2half_rn(scale);
    *(__half *)(void *)to = h;
    return __half2float(h);
}

static __device__ int nearest_step(float x, float d, float low, float high) {
    return d == 0.0f || d != d ? 0 : (int)rintf(fminf(fmaxf(x / d, low), high));
}

/* Of a block of 32 by one warp, lane e holding element e: the element of largest size, the first of
 * equals, with its sign. */
static __device__ float peak_of(float x, uint32_t lane, bool *finite) {
    const float most = cu_warp_max(fabsf(x));
    *finite = __ballot_sync(CU_ALL, isfinite(x)) == CU_ALL;
    const uint32_t holders = __ballot_sync(CU_ALL, fabsf(x) == most);
    return __shfl_sync(CU_ALL, x, holders != 0 ? __ffs((int)holders) - 1 : (int)lane);
}

static __device__ void encode_block(const struct encode_args &a, uint8_t *row, uint32_t block,
                                    float x, uint32_t lane) {
    bool finite;
    const float peak = peak_of(x, lane, &finite);
    uint8_t *const b = row + (uint64_t)block * (a.dtype == TL_Q8_0 ? 34 : 18);
    const float wanted = a.dtype == TL_Q8_0 ? 127.0f : -8.0f;
    const float top = a.dtype == TL_Q8_0 ? fabsf(peak) : peak;
    float d = 0.0f;
    if (lane == 0) {
        d = store_scale(b, top, wanted, finite);
    }
    d = __shfl_sync(CU_ALL, d, 0);
    if (a.dtype == TL_Q8_0) {
        b[2 + lane] = (uint8_t)nearest_step(x, d, -127.0f, 127.0f);
    } else {
        const int code = nearest_step(x, d, -8.0f, 7.0f) + 8;
        const int above = __shfl_sync(CU_ALL, code, (int)(lane % 16 + 16));
        if (lane < 16) {
            b[2 + lane] = (uint8_t)(code | above << 4);
        }
    }
}

/* Column j of head h of row i, x; by whole warps, who hold 32 columns behind each other. */
static __device__ void encode_column(const struct encode_args &a, uint32_t i, uint32_t h,
                                     uint32_t j, float x) {
    const uint64_t row = (uint64_t)h * a.cap + (uint64_t)a.slot[i];
    uint8_t *const dst = a.dst + row * a.row_bytes;
    const bool inside = j < a.d;
    if (a.dtype == TL_Q8_0 || a.dtype == TL_Q4_0) {
        if (j / CU_WARP * CU_WARP < a.d) { /* whole warps: d is whole blocks */
            encode_block(a, dst, j / CU_WARP, x, j % CU_WARP);
        }
    } else if (inside && a.dtype == TL_F16) {
        ((__half *)(void *)dst)[j] = __float2half_rn(x);
    } else if (inside && a.dtype == TL_BF16) {
        ((__nv_bfloat16 *)(void *)dst)[j] = __float2bfloat16_rn(x);
    } else if (inside) {
        ((float *)(void *)dst)[j] = x;
    }
}

typedef struct cu_group<encode_args, 2 * CU_TOGETHER_MAX> encode_group;

/* A warp for 32 columns of a head of a row: block (columns, head, row of an op's keys or values).
 */
static __global__ void k_kv_encode(const __grid_constant__ encode_group ops, uint32_t depth) {
    const struct encode_args &a = ops.of[blockIdx.z / depth];
    const uint32_t j = blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y;
    const uint32_t i = blockIdx.z % depth;
    encode_column(a, i, h, j, j < a.d ? a.src[((uint64_t)i * a.heads + h) * a.d + j] : 0.0f);
}

/* Rows of one kind, q or k or v, of which each head is turned, stored, or both. */
struct turn_line {
    struct rope_args turn; /* inv_freq NULL: not turned; x and n_pairs else */
    struct encode_args to[TL_FUSION_TIERS];
    uint32_t heads, n_to;
};

struct turn_args {
    struct turn_line of[TL_FUSION_TURNS + 2]; /* what is turned; keys and values that are not */
    uint32_t n_of, d;
};

/* Block (head of any line, row). The angle is k_rope's, computed for each head: two multiplications
 * of doubles are nothing beside a launch. */
static __global__ void k_turn_and_store(const __grid_constant__ struct turn_args a) {
    __shared__ float row[TL_HEAD_DIM_MAX];
    uint32_t l = 0, h = blockIdx.x;
    const uint32_t i = blockIdx.y;
    while (h >= a.of[l].heads) {
        h -= a.of[l++].heads;
    }
    const struct turn_line &line = a.of[l];
    const struct rope_args &r = line.turn;
    float *const x = r.x + ((uint64_t)i * line.heads + h) * a.d;
    for (uint32_t j = threadIdx.x; j < a.d; j += blockDim.x) {
        row[j] = x[j];
    }
    __syncthreads();
    for (uint32_t j = threadIdx.x; r.inv_freq != nullptr && j < r.n_pairs; j += blockDim.x) {
        const uint32_t p = r.half ? j : 2 * j, q = r.half ? j + r.n_pairs : 2 * j + 1;
        float s, c;
        turn_of(r, i, j, &s, &c);
        const float p_was = row[p], q_was = row[q];
        x[p] = row[p] = p_was * c - q_was * s;
        x[q] = row[q] = p_was * s + q_was * c;
    }
    __syncthreads();
    for (uint32_t t = 0; t < line.n_to; t++) {
        for (uint32_t j = threadIdx.x; j < (a.d + CU_WARP - 1) / CU_WARP * CU_WARP;
             j += blockDim.x) {
            encode_column(line.to[t], i, h, j, j < a.d ? row[j] : 0.0f);
        }
    }
}

/* ---- launchers ---- */

template <int T> static cudaError_t gather_of(const struct cu_exec *x, const struct tl_gather *op) {
    const struct gather_args a = {cu_at<float>(op->y),
                                  cu_at<const uint8_t>(op->src),
                                  cu_at<const int32_t>(op->idx),
                                  tl_row_bytes(op->src.dtype, op->src.cols),
                                  op->src.cols,
                                  op->scale};
    const uint32_t per_thread = cu_format<T>::elems == 1 ? 1 : 16, threads = 64;
    for (uint32_t first = 0; first < op->y.rows; first += 65535) {
        struct gather_args part = a;
        part.y += (uint64_t)first * a.cols;
        part.idx += first;
        const uint32_t n = op->y.rows - first < 65535 ? op->y.rows - first : 65535;
        CU_TRY(cu_launch(x, dim3(cu_div_up(a.cols, per_thread * threads), n), threads, 0,
                         k_gather<T>, part));
    }
    return cudaSuccess;
}

cudaError_t cu_gather(const struct cu_exec *x, const struct tl_gather *op) {
    switch (op->src.dtype) {
    case TL_F32:
        return gather_of<TL_F32>(x, op);
    case TL_F16:
        return gather_of<TL_F16>(x, op);
    case TL_BF16:
        return gather_of<TL_BF16>(x, op);
    case TL_Q8_0:
        return gather_of<TL_Q8_0>(x, op);
    case TL_Q4_0:
        return gather_of<TL_Q4_0>(x, op);
    case TL_Q4_1:
        return gather_of<TL_Q4_1>(x, op);
    case TL_Q5_0:
        return gather_of<TL_Q5_0>(x, op);
    case TL_Q5_1:
        return gather_of<TL_Q5_1>(x, op);
    case TL_IQ4_NL:
        return gather_of<TL_IQ4_NL>(x, op);
    case TL_IQ4_XS:
        return gather_of<TL_IQ4_XS>(x, op);
    case TL_Q2_K:
        return gather_of<TL_Q2_K>(x, op);
    case TL_Q3_K:
        return gather_of<TL_Q3_K>(x, op);
    case TL_Q4_K:
        return gather_of<TL_Q4_K>(x, op);
    case TL_Q5_K:
        return gather_of<TL_Q5_K>(x, op);
    case TL_Q6_K:
        return gather_of<TL_Q6_K>(x, op);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t cu_rmsnorm(const struct cu_exec *x, const struct tl_rmsnorm *op) {
    const struct rmsnorm_args a = {cu_at<float>(op->y),
                                   cu_at<const float>(op->x),
                                   cu_at<const float>(op->w),
                                   op->x.cols,
                                   op->eps,
                                   op->accumulate};
    return cu_launch(x, op->x.rows, ROW_THREADS, 0, k_rmsnorm, a);
}

static struct rope_args rope_of(const struct tl_rope *op) {
    return {cu_at<float>(op->x),
            cu_at<const int32_t>(op->pos),
            cu_at<const float>(op->inv_freq),
            op->x.cols,
            op->head_dim,
            op->inv_freq.cols,
            op->scale,
            op->pairing == TL_PAIR_HALF};
}

cudaError_t cu_rope(const struct cu_exec *x, const struct tl_rope *op) {
    struct rope_args a = rope_of(op);
    const uint32_t threads = 32;
    for (uint32_t first = 0; a.n_pairs > 0 && first < op->x.rows; first += 65535) {
        const uint32_t n = op->x.rows - first < 65535 ? op->x.rows - first : 65535;
        CU_TRY(cu_launch(x, dim3(cu_div_up(a.n_pairs, threads), n), threads, 0, k_rope, a));
        a.x += (uint64_t)n * a.cols;
        a.pos += n;
    }
    return cudaSuccess;
}

cudaError_t cu_glu(const struct cu_exec *x, const struct tl_glu *op) {
    const struct glu_args a = {cu_at<float>(op->y), cu_at<const float>(op->gate),
                               cu_at<const float>(op->up), (uint64_t)op->y.rows * op->y.cols,
                               op->act == TL_ACT_SILU};
    return cu_launch(x, cu_div_up(a.n, ROW_THREADS), ROW_THREADS, 0, k_glu, a);
}

cudaError_t cu_merge(const struct cu_exec *x, const struct tl_merge *op) {
    const struct merge_args a = {cu_at<float>(op->out), cu_at<float>(op->lse),
                                 cu_at<const float>(op->out_b), cu_at<const float>(op->lse_b),
                                 op->out.cols / op->lse.cols};
    return cu_launch(x, op->lse.rows * op->lse.cols, 64, 0, k_merge, a);
}

static struct encode_args encode_of(const struct tl_kv_encode *op, bool keys) {
    const tl_view &dst = keys ? op->dst.k : op->dst.v;
    return {cu_at<uint8_t>(dst),
            cu_at<const float>(keys ? op->k : op->v),
            cu_at<const int32_t>(op->slot),
            tl_row_bytes(dst.dtype, dst.cols),
            dst.cols,
            op->dst.n_kv_heads,
            dst.rows / op->dst.n_kv_heads,
            dst.dtype};
}

/* Keys and values are of one width, so they are alike too. */
cudaError_t cu_kv_encode(const struct cu_exec *x, const struct tl_kv_encode *const *ops,
                         uint32_t n) {
    encode_group all = {};
    for (uint32_t i = 0; i < n; i++) {
        all.of[2 * i] = encode_of(ops[i], true);
        all.of[2 * i + 1] = encode_of(ops[i], false);
    }
    const struct encode_args &a = all.of[0];
    const uint32_t threads = 64, most = 65535 / (2 * n), n_rows = ops[0]->slot.rows;
    for (uint32_t first = 0; first < n_rows; first += most) {
        const uint32_t rows = n_rows - first < most ? n_rows - first : most;
        const dim3 grid(cu_div_up(a.d, threads), a.heads, rows * 2 * n);
        CU_TRY(cu_launch(x, grid, threads, 0, k_kv_encode, all, rows));
        for (uint32_t i = 0; i < 2 * n; i++) {
            all.of[i].src += (uint64_t)rows * a.heads * a.d;
            all.of[i].slot += rows;
        }
    }
    return cudaSuccess;
}

/* The line of rows x, a new one where there is none yet. */
static struct turn_line *line_of(struct turn_args *a, float *x, uint32_t heads) {
    for (uint32_t i = 0; i < a->n_of; i++) {
        if (a->of[i].turn.x == x) {
            return &a->of[i];
        }
    }
    struct turn_line *const line = &a->of[a->n_of++];
    line->turn.x = x;
    line->heads = heads;
    return line;
}

cudaError_t cu_turn_and_store(const struct cu_exec *x, const struct cu_turns *op) {
    struct turn_args a = {};
    a.d = op->ropes[0].head_dim;
    for (uint32_t i = 0; i < op->n_ropes; i++) {
        const struct rope_args turn = rope_of(&op->ropes[i]);
        line_of(&a, turn.x, turn.cols / a.d)->turn = turn;
    }
    for (uint32_t i = 0; i < op->n_encodes; i++) {
        for (int keys = 1; keys >= 0; keys--) {
            const struct encode_args to = encode_of(&op->encodes[i], keys != 0);
            struct turn_line *const line = line_of(&a, const_cast<float *>(to.src), to.heads);
            line->to[line->n_to++] = to;
        }
    }
    uint32_t heads = 0;
    for (uint32_t i = 0; i < a.n_of; i++) {
        heads += a.of[i].heads;
    }
    return cu_launch(x, dim3(heads, op->ropes[0].x.rows), 128, 0, k_turn_and_store, a);
}
