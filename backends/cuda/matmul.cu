/* Matrix products. Two shapes of work:
 *
 *   few rows of x (decode): warps stream rows of w through shared memory in pieces of 16 bytes,
 *   several pieces ahead, whatever the size and alignment of the format's blocks. Quantised w meets
 *   x rounded to int8 in blocks of 32, by integer dot products; float w meets x itself, which a
 *   warp reads once for four rows: floats of x are twice the bytes of a row of halves, and an x of
 *   14336 lies in no L1. Products of one x are one launch, and what makes x (a norm, a gate)
 *   happens where x is rounded, or in the product itself (cu_products). Several rows of x share one
 *   read of w, up to 16 of codes and 8 of floats.
 *
 *   many (prefill): tiles of 64 x 64 of the output. Quantised and F16 w on tensor cores, w exact in
 *   half, x as a half and, for F16, the half of what that left, which together have float's
 *   precision. F32 and BF16 w in floats.
 *
 * Where few ends (tuning.c): tiles read w once for 64 rows, but with 64 x 32 elements of it on the
 * way a block: for Q4_K and m = 4096 64 blocks of 1152 bytes in some 800 ns, 90 GB/s of a 3090's
 * 936, and most products are of zeros.
 *
 * Invariant: an output is the same sum in the same order on every run; nothing is added by atomics.
 */
#include "formats.cuh"

#include <mma.h>

enum {
    VEC_WARPS = 4,
    TILE = 64,
    TILE_K = 32,
    TILE_THREADS = 128,
    TILE_STRIDE = TILE_K + 8, /* halves; 16 bytes more than a multiple of 64 */
    OUT_STRIDE = TILE + 4,
    FLOAT_K = 16,
    PREP_WARPS = 4,
};

static_assert(VEC_WARPS == PREP_WARPS, "norm_factor serves both");

/* ---- kernels: x made ready ---- */

/* What x is made of: itself; a norm of `a` with weights `b`; act(a) * b. The last two are written
 * to x too, since others may read it. All rows are of k, b of a norm is one row. */
enum source { FROM_X, FROM_NORM, FROM_GLU };
struct x_source {
    float *x;
    const float *a, *b; /* NULL for FROM_X */
    float eps;
    bool silu;
};

/* What a norm multiplies a row of k numbers by, beside its weights. By all threads of a block of
 * PREP_WARPS warps; of_warp is theirs. */
static __device__ float norm_factor(const float *row, uint32_t k, float eps, float *of_warp) {
    float squares = 0.0f;
    for (uint32_t j = threadIdx.x; j < k; j += PREP_WARPS * CU_WARP) {
        squares += row[j] * row[j];
    }
    squares = cu_warp_sum(squares);
    if (threadIdx.x % CU_WARP == 0) {
        of_warp[threadIdx.x / CU_WARP] = squares;
    }
    __syncthreads();
    squares = 0.0f;
    for (int i = 0; i < PREP_WARPS; i++) {
        squares += of_warp[i];
    }
    __syncthreads(); /* of_warp may be written again */
    return 1.0f / sqrtf(squares / (float)k + eps);
}

/* x as int8: blocks of 32 with a scale, and the sums of q over both halves. */
struct x_codes {
    int8_t *q; /* (n, k) */
    float *d;  /* (n, k / 32) */
    int *sums; /* (n, k / 32): low and high 16 bits */
};

/* A warp a block: grid (blocks, row). A number that is none makes its block's scale NaN. */
template <int S>
static __global__ void k_quantise(struct x_codes to, struct x_source from, uint32_t k) {
    __shared__ float of_warp[PREP_WARPS];
    const uint32_t lane = threadIdx.x % CU_WARP;
    const uint32_t block = blockIdx.x * PREP_WARPS + threadIdx.x / CU_WARP;
    const float factor = S == FROM_NORM
                             ? norm_factor(from.a + (uint64_t)blockIdx.y * k, k, from.eps, of_warp)
                             : 1.0f;
    if (block >= k / 32) {
        return;
    }
    const uint64_t at = (uint64_t)blockIdx.y * (k / 32) + block, i = at * 32 + lane;
    const float value = S == FROM_X      ? from.x[i]
                        : S == FROM_NORM ? from.a[i] * factor * from.b[block * 32 + lane]
                                         : cu_act(from.a[i], from.silu) * from.b[i];
    if (S != FROM_X) {
        from.x[i] = value;
    }
    const float most = cu_warp_max(fabsf(value));
    const bool finite = __ballot_sync(CU_ALL, isfinite(value)) == CU_ALL;
    const float d = most / 127.0f;
    const int q = finite && d > 0.0f ? (int)rintf(value / d) : 0;
    to.q[at * 32 + lane] = (int8_t)q;
    int sum = q;
    for (int o = 8; o > 0; o /= 2) {
        sum += __shfl_xor_sync(CU_ALL, sum, o);
    }
    const int above = __shfl_sync(CU_ALL, sum, 16);
    if (lane == 0) {
        to.d[at] = finite ? d : NAN;
        to.sums[at] = (int)(((uint32_t)sum & 0xffffu) | (uint32_t)above << 16);
    }
}

/* x times a power of two for each row, so that the largest is about 2^14, as halves. */
struct x_halves {
    __half *high, *low; /* (n, k_pad), zeros behind k; low may be NULL */
    float *scale;       /* (n): what products are to be multiplied with */
};

/* A block a row. */
static __global__ void k_halves(struct x_halves to, const float *x, uint32_t k, uint32_t k_pad) {
    __shared__ float of_warp[PREP_WARPS];
    const float *const row = x + (uint64_t)blockIdx.x * k;
    float most = 0.0f;
    for (uint32_t j = threadIdx.x; j < k; j += blockDim.x) {
        most = fmaxf(most, fabsf(row[j]));
    }
    most = cu_warp_max(most);
    if (threadIdx.x % CU_WARP == 0) {
        of_warp[threadIdx.x / CU_WARP] = most;
    }
    __syncthreads();
    for (int i = 0; i < PREP_WARPS; i++) {
        most = fmaxf(most, of_warp[i]);
    }
    const int exponent = cu_exponent(most);
    const float scale = cu_power(14 - exponent);
    for (uint32_t j = threadIdx.x; j < k_pad; j += blockDim.x) {
        const float value = j < k ? row[j] * scale : 0.0f;
        const __half high = __float2half_rn(value);
        to.high[(uint64_t)blockIdx.x * k_pad + j] = high;
        if (to.low != nullptr) {
            to.low[(uint64_t)blockIdx.x * k_pad + j] = __float2half_rn(value - __half2float(high));
        }
    }
    if (threadIdx.x == 0) {
        to.scale[blockIdx.x] = cu_power(exponent - 14);
    }
}

/* ---- kernels: few rows ---- */

struct product {
    float *y;          /* (n, m) */
    const float *x;    /* (n, k) */
    const uint8_t *w;  /* (m, k) */
    const float *bias; /* (m) or NULL */
    uint64_t row_bytes;
    uint32_t n, m, k;
    float softcap;
    bool accumulate;
};

/* Products of one x: n, k and row_bytes are equal. */
struct products {
    struct product of[TL_FUSION_PRODUCTS];
    uint32_t units[TL_FUSION_PRODUCTS]; /* of each: vec_piece::rows rows, the last one fewer */
    uint32_t n_of, n_units;
    struct x_source from; /* FROM_NORM where b is not NULL: floats only */
};

static __device__ void finish(const struct product &p, uint64_t i, uint32_t row, float sum) {
    float *const y = p.y + i * p.m + row;
    sum += p.accumulate ? *y : 0.0f;
    sum += p.bias != nullptr ? p.bias[row] : 0.0f;
    *y = cu_cap(sum, p.softcap);
}

/* What a warp takes at a time: elements of so many rows, what they occupy at most in shared memory,
 * and how many such pieces are on their way or in use. Four blocks of 4 warps and 3 stages of float
 * rows would be 105 KiB: three stand on a multiprocessor of sm_86, with 48 KB on their way. N: rows
 * of x that meet them. Where those are many, two rows of codes halve what is read of x: 16 rows of
 * it are 16 bytes an element, and an L1 gives 128 bytes a clock. */
template <int T, int N> struct vec_piece {
    enum {
        quantised = cu_format<T>::elems > 1,
        rows = !quantised ? 4
               : N > 1    ? 2
                          : 1,
        outs = rows * N, /* at most a lane each */
        elems = quantised ? 1024 : 512 / cu_format<T>::bytes,
        bytes = elems / cu_format<T>::elems * cu_format<T>::bytes,
        room = (bytes + 15 + 15) / 16 * 16, /* of one row */
        stages = quantised && N == 1 ? 4 : 3,
    };
    static_assert((int)outs <= (int)CU_WARP, "a lane an output");
};

/* The rows of x of a block, where there are several. */
template <int T> static constexpr int vec_several = cu_format<T>::elems > 1 ? 16 : 8;

/* What meets a piece: rows of x `step` apart, n_x of them. */
struct vec_codes {
    struct x_codes x;
    uint64_t block0, step; /* blocks of 32 */
};

/* This lane's share of one piece, of n elements, in shared memory: rows of w by rows of x. */
template <int T, int N>
static __device__ void vec_quantised(const uint8_t *w,
                                     const uint32_t (&skew)[vec_piece<T, N>::rows], uint32_t n_rows,
                                     const struct vec_codes &x, uint32_t n_x, uint32_t n,
                                     uint32_t lane, float (&sums)[vec_piece<T, N>::outs]) {
    constexpr int rows = vec_piece<T, N>::rows, room = vec_piece<T, N>::room;
    if (32 * lane >= n) {
        return;
    }
    struct cu_codes a[rows], b[rows];
#pragma unroll
    for (int r = 0; r < rows; r++) {
        const uint8_t *const row = w + ((uint32_t)r < n_rows ? r * room + skew[r] : skew[0]);
        a[r] = cu_unit<T>(row, 2 * lane);
        b[r] = cu_unit<T>(row, 2 * lane + 1);
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (N > 1 && (uint32_t)i >= n_x) {
            break;
        }
        const uint64_t block = x.block0 + i * x.step + lane;
        const int4 *const codes = (const int4 *)(const void *)(x.x.q + block * 32);
        const int4 x0 = codes[0], x1 = codes[1];
        const int of_x = x.x.sums[block];
        const float d = x.x.d[block];
        const float sum_a = (float)(int16_t)(of_x & 0xffff), sum_b = (float)(int16_t)(of_x >> 16);
#pragma unroll
        for (int r = 0; r < rows; r++) {
            int dot_a = __dp4a(a[r].q[0], x0.x, 0), dot_b = __dp4a(b[r].q[0], x1.x, 0);
            dot_a = __dp4a(a[r].q[1], x0.y, dot_a);
            dot_b = __dp4a(b[r].q[1], x1.y, dot_b);
            dot_a = __dp4a(a[r].q[2], x0.z, dot_a);
            dot_b = __dp4a(b[r].q[2], x1.z, dot_b);
            dot_a = __dp4a(a[r].q[3], x0.w, dot_a);
            dot_b = __dp4a(b[r].q[3], x1.w, dot_b);
            sums[r * N + i] += d * (a[r].d * (float)dot_a - a[r].m * sum_a +
                                    (b[r].d * (float)dot_b - b[r].m * sum_b));
        }
    }
}

/* 16 bytes of w's width of x, times g where that is not NULL. */
template <uint32_t WIDE>
static __device__ void read_floats(const float *x, const float *g, float (&v)[WIDE]) {
#pragma unroll
    for (uint32_t e = 0; e < WIDE; e += 4) {
        float4 of_x = *(const float4 *)(const void *)(x + e);
        if (g != nullptr) {
            const float4 of_g = *(const float4 *)(const void *)(g + e);
            of_x = {of_x.x * of_g.x, of_x.y * of_g.y, of_x.z * of_g.z, of_x.w * of_g.w};
        }
        v[e] = of_x.x;
        v[e + 1] = of_x.y;
        v[e + 2] = of_x.z;
        v[e + 3] = of_x.w;
    }
}

/* The same for n_rows rows of floats, each vec_piece::room behind the last, and n_x rows of x, k
 * apart; x has no first norm where g is NULL, else is to be multiplied by it. */
template <int T, int N>
static __device__ void vec_floats(const uint8_t *w, const uint32_t (&skew)[vec_piece<T, N>::rows],
                                  uint32_t n_rows, const float *x, uint32_t k, uint32_t n_x,
                                  const float *g, uint32_t n, uint32_t lane, bool aligned,
                                  float (&sums)[vec_piece<T, N>::outs]) {
    constexpr uint32_t wide = 16 / cu_format<T>::bytes;
    constexpr int rows = vec_piece<T, N>::rows, room = vec_piece<T, N>::room;
    static_assert((int)vec_piece<T, N>::elems == wide * CU_WARP, "a lane's share is 16 bytes");
    if (aligned && n % wide == 0) {
        const uint32_t at = wide * lane;
        if (at >= n) {
            return;
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (N > 1 && (uint32_t)i >= n_x) {
                break;
            }
            float v[wide];
            read_floats<wide>(x + (uint64_t)i * k + at, g != nullptr ? g + at : nullptr, v);
#pragma unroll
            for (int r = 0; r < rows; r++) {
                if ((uint32_t)r < n_rows) {
                    const uint4 raw = *(const uint4 *)(const void *)(w + r * room + 16 * lane);
                    const uint8_t *const elems = (const uint8_t *)&raw;
#pragma unroll
                    for (uint32_t e = 0; e < wide; e++) {
                        sums[r * N + i] += cu_element<T>(elems, e) * v[e];
                    }
                }
            }
        }
        return;
    }
#pragma unroll
    for (int r = 0; r < rows; r++) {
        for (uint32_t at = lane; (uint32_t)r < n_rows && at < n; at += CU_WARP) {
            const float weight = g != nullptr ? g[at] : 1.0f;
            const float of_w = cu_element<T>(w + r * room + skew[r], at);
#pragma unroll
            for (int i = 0; i < N; i++) {
                if ((uint32_t)i < n_x) {
                    sums[r * N + i] += of_w * (x[(uint64_t)i * k + at] * weight);
                }
            }
        }
    }
}

/* The piece that a warp comes to next. */
struct place {
    uint32_t unit, piece;
};

static __device__ struct place next_place(struct place at, uint32_t n_pieces, uint32_t first,
                                          uint32_t step, uint32_t unit_step) {
    at.piece += step;
    if (at.piece >= n_pieces) {
        at.piece = first;
        at.unit += unit_step;
    }
    return at;
}

/* Of a unit: which product's, and which rows. */
struct unit_rows {
    uint32_t product, first, n;
};

static __device__ struct unit_rows rows_of(const struct products &ps, uint32_t unit,
                                           uint32_t per_unit) {
    uint32_t i = 0;
    while (i + 1 < ps.n_of && unit >= ps.units[i]) {
        unit -= ps.units[i++];
    }
    const uint32_t first = unit * per_unit, left = ps.of[i].m - first;
    return {i, first, left < per_unit ? left : per_unit};
}

/* First byte of a piece of a row of p. */
template <int T, int N>
static __device__ const uint8_t *piece_of(const struct product &p, uint32_t row, uint32_t piece) {
    const uint32_t block = piece * ((uint32_t)vec_piece<T, N>::elems / cu_format<T>::elems);
    return p.w + row * p.row_bytes + (uint64_t)block * cu_format<T>::bytes;
}

template <int T, int N>
static __device__ void vec_ask(const struct products &ps, struct place at, uint8_t *to,
                               uint32_t lane) {
    if (at.unit < ps.n_units) {
        const struct unit_rows rows = rows_of(ps, at.unit, vec_piece<T, N>::rows);
        const struct product &p = ps.of[rows.product];
        constexpr uint32_t elems = vec_piece<T, N>::elems;
        const uint32_t left = p.k - at.piece * elems, n = left < elems ? left : elems;
#pragma unroll
        for (uint32_t r = 0; r < (uint32_t)vec_piece<T, N>::rows; r++) {
            if (r < rows.n) {
                cu_stage(to + r * vec_piece<T, N>::room,
                         piece_of<T, N>(p, rows.first + r, at.piece),
                         n / cu_format<T>::elems * cu_format<T>::bytes, lane, CU_WARP);
            }
        }
    }
    __pipeline_commit();
}

/* What one warp adds to the sums of a unit's rows and n_x rows of x: one piece. */
template <int T, int N>
static __device__ void vec_piece_of(const struct products &ps, const struct unit_rows &rows,
                                    const struct x_codes &codes, const float *x, uint32_t n_x,
                                    uint32_t piece, const uint8_t *stage, uint32_t lane,
                                    float (&sums)[vec_piece<T, N>::outs]) {
    constexpr uint32_t elems = vec_piece<T, N>::elems;
    const struct product &p = ps.of[rows.product];
    const uint32_t first = piece * elems, left = p.k - first, n = left < elems ? left : elems;
    uint32_t skew[vec_piece<T, N>::rows];
    bool aligned = (((uintptr_t)x | (uintptr_t)ps.from.b) & 15u) == 0 && (N == 1 || p.k % 4 == 0);
#pragma unroll
    for (uint32_t r = 0; r < (uint32_t)vec_piece<T, N>::rows; r++) {
        skew[r] = cu_skew(piece_of<T, N>(p, rows.first + r, piece));
        aligned = aligned && skew[r] == 0;
    }
    if constexpr (vec_piece<T, N>::quantised) {
        const uint64_t step = p.k / 32;
        const struct vec_codes of_x = {codes, (uint64_t)blockIdx.y * N * step + first / 32, step};
        vec_quantised<T, N>(stage, skew, rows.n, of_x, n_x, n, lane, sums);
    } else {
        const float *const g = ps.from.b != nullptr ? ps.from.b + first : nullptr;
        vec_floats<T, N>(stage, skew, rows.n, x + first, p.k, n_x, g, n, lane, aligned, sums);
    }
}

/* x with its norm goes to memory too: a share of it by each block of a row of x. */
static __device__ void write_normed(const struct products &ps, const float *a, float factor) {
    const uint32_t k = ps.of[0].k;
    float *const to = ps.from.x + (uint64_t)blockIdx.y * k;
    const uint32_t step = gridDim.x * VEC_WARPS * CU_WARP;
    for (uint32_t j = blockIdx.x * VEC_WARPS * CU_WARP + threadIdx.x; j < k; j += step) {
        to[j] = a[j] * factor * ps.from.b[j];
    }
}

/* Block (group of units, N rows of x): row_warps warps share a unit, by pieces. A norm makes x in
 * here where N is 1. Told that four blocks a multiprocessor are enough, ptxas spills nothing for a
 * fifth. */
template <int T, int N>
static __global__ void __launch_bounds__(VEC_WARPS *CU_WARP, N > 1 ? 4 : 1)
    k_matmul_vec(const __grid_constant__ struct products ps, struct x_codes codes,
                 uint32_t row_warps) {
    typedef vec_piece<T, N> shape;
    constexpr int rows_max = shape::rows, n_stages = shape::stages, outs = shape::outs;
    __shared__ __align__(16) uint8_t stages[VEC_WARPS][n_stages][rows_max * shape::room];
    __shared__ float parts[VEC_WARPS][outs];
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    const uint32_t part = warp % row_warps, units_at_once = VEC_WARPS / row_warps;
    const uint32_t k = ps.of[0].k, n_pieces = cu_div_up(k, shape::elems);
    const uint32_t unit_step = gridDim.x * units_at_once;
    const uint32_t x0 = blockIdx.y * N, x_left = ps.of[0].n - x0, n_x = x_left < N ? x_left : N;
    const bool idle = part >= n_pieces;
    uint32_t unit = blockIdx.x * units_at_once + warp / row_warps;
    struct place ahead = {idle ? ps.n_units : unit, part};
    for (int i = 0; i < n_stages - 1; i++) {
        vec_ask<T, N>(ps, ahead, stages[warp][i], lane);
        ahead = next_place(ahead, n_pieces, part, row_warps, unit_step);
    }
    const float *const x = (ps.from.b != nullptr ? ps.from.a : ps.of[0].x) + (uint64_t)x0 * k;
    float factor = 1.0f;
    if (!shape::quantised && N == 1 && ps.from.b != nullptr) { /* while rows are on the way */
        factor = norm_factor(x, k, ps.from.eps, &parts[0][0]);
        write_normed(ps, x, factor);
    }
    uint32_t stage = 0;
    for (uint32_t base = blockIdx.x * units_at_once; base < ps.n_units;
         base += unit_step, unit += unit_step) {
        struct unit_rows rows = {0, 0, 0};
        float sums[outs] = {};
        if (unit < ps.n_units) {
            rows = rows_of(ps, unit, rows_max);
        }
        for (uint32_t piece = part; piece < n_pieces && rows.n > 0; piece += row_warps) {
            __pipeline_wait_prior(n_stages - 2);
            __syncwarp();
            vec_ask<T, N>(ps, ahead, stages[warp][(stage + n_stages - 1) % n_stages], lane);
            ahead = next_place(ahead, n_pieces, part, row_warps, unit_step);
            vec_piece_of<T, N>(ps, rows, codes, x, n_x, piece, stages[warp][stage], lane, sums);
            stage = (stage + 1) % n_stages;
        }
        float mine = 0.0f; /* output `lane`: of row lane / N of w, row lane % N of x */
#pragma unroll
        for (int o = 0; o < outs; o++) {
            if ((uint32_t)(o % N) < n_x) {
                const float sum = cu_warp_sum(sums[o]);
                mine = lane == (uint32_t)o ? sum : mine;
            }
        }
        if (row_warps > 1) {
            __syncthreads();
            if (lane < (uint32_t)outs) {
                parts[warp][lane] = mine;
            }
            __syncthreads();
            for (uint32_t i = 1; part == 0 && lane < (uint32_t)outs && i < row_warps; i++) {
                mine += parts[warp + i][lane];
            }
        }
        if (lane / N < rows.n && lane % N < n_x && part == 0) {
            finish(ps.of[rows.product], x0 + lane % N, rows.first + lane / N, mine * factor);
        }
    }
}

/* ---- kernels: many rows ---- */

/* A thread's 16 elements of w, as halves: unit `half` of TILE_K columns from k0 of a row. */
template <int T>
static __device__ void load_unit(const struct product &p, uint32_t row, uint32_t k0, __half *to) {
    if (row >= p.m || k0 >= p.k) {
        for (int e = 0; e < 16; e++) {
            to[e] = __float2half_rn(0.0f);
        }
        return;
    }
    const uint8_t *const w = p.w + row * p.row_bytes;
    if constexpr (cu_format<T>::elems > 1) {
        const struct cu_codes c = cu_unit<T>(w, k0 / 16);
        for (int e = 0; e < 16; e++) {
            const float value = c.d * (float)cu_code(&c, e) - c.m;
            to[e] = __float2half_rn(fminf(fmaxf(value, -65504.0f), 65504.0f));
        }
    } else if (k0 + 16 <= p.k && ((uintptr_t)(w + 2 * (uint64_t)k0) & 15u) == 0) {
        const uint4 *const from = (const uint4 *)(const void *)(w + 2 * (uint64_t)k0);
        ((uint4 *)(void *)to)[0] = from[0];
        ((uint4 *)(void *)to)[1] = from[1];
    } else {
        for (uint32_t e = 0; e < 16; e++) {
            const __half *const from = (const __half *)(const void *)w;
            to[e] = k0 + e < p.k ? from[k0 + e] : __float2half_rn(0.0f);
        }
    }
}

static __device__ void load_x(const __half *x, uint32_t n, uint32_t k_pad, uint32_t i0, uint32_t k0,
                              __half *tile) {
    for (uint32_t at = threadIdx.x; at < TILE * TILE_K / 8; at += TILE_THREADS) {
        const uint32_t i = at / (TILE_K / 8), j = at % (TILE_K / 8) * 8;
        uint4 v = {0, 0, 0, 0};
        if (i0 + i < n) {
            v = *(const uint4 *)(const void *)(x + (uint64_t)(i0 + i) * k_pad + k0 + j);
        }
        *(uint4 *)(void *)(tile + i * TILE_STRIDE + j) = v;
    }
}

namespace wmma = nvcuda::wmma;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> frag_x;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> frag_w;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> frag_y;

/* sums += the warp's quarter of a tile of x times a tile of w. */
static __device__ void multiply(frag_y (&sums)[2][2], const __half *x, const __half *w,
                                uint32_t warp) {
    for (int kk = 0; kk < TILE_K; kk += 16) {
        frag_x a[2];
        frag_w b[2];
        for (int i = 0; i < 2; i++) {
            wmma::load_matrix_sync(a[i], x + (warp / 2 * 32 + 16 * i) * TILE_STRIDE + kk,
                                   TILE_STRIDE);
            wmma::load_matrix_sync(b[i], w + (warp % 2 * 32 + 16 * i) * TILE_STRIDE + kk,
                                   TILE_STRIDE);
        }
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 2; j++) {
                wmma::mma_sync(sums[i][j], a[i], b[j], sums[i][j]);
            }
        }
    }
}

static __device__ void finish_tile(const struct product &p, const float *out, const float *scale,
                                   uint32_t i0, uint32_t m0) {
    for (uint32_t at = threadIdx.x; at < TILE * TILE; at += TILE_THREADS) {
        const uint32_t i = at / TILE, j = at % TILE;
        if (i0 + i < p.n && m0 + j < p.m) {
            const float of_row = scale != nullptr ? scale[i0 + i] : 1.0f;
            finish(p, i0 + i, m0 + j, out[i * OUT_STRIDE + j] * of_row);
        }
    }
}

/* Block (tile of m, tile of n). */
template <int T>
static __global__ void __launch_bounds__(TILE_THREADS)
    k_matmul_tile(struct product p, struct x_halves x, uint32_t k_pad) {
    constexpr bool two = T == TL_F16; /* halves of x */
    constexpr uint32_t tile_bytes = TILE * TILE_STRIDE * sizeof(__half);
    constexpr uint32_t out_bytes = TILE * OUT_STRIDE * sizeof(float);
    __shared__ __align__(128) uint8_t room[out_bytes > 3 * tile_bytes ? out_bytes : 3 * tile_bytes];
    __half *const w_tile = (__half *)(void *)room, *const high = w_tile + TILE * TILE_STRIDE;
    __half *const low = high + TILE * TILE_STRIDE;
    const uint32_t m0 = blockIdx.x * TILE, i0 = blockIdx.y * TILE, warp = threadIdx.x / CU_WARP;
    frag_y sums[2][2];
    for (int i = 0; i < 4; i++) {
        wmma::fill_fragment(sums[i / 2][i % 2], 0.0f);
    }
    for (uint32_t k0 = 0; k0 < k_pad; k0 += TILE_K) {
        const uint32_t row = threadIdx.x / 2, unit = threadIdx.x % 2;
        load_unit<T>(p, m0 + row, k0 + 16 * unit, w_tile + row * TILE_STRIDE + 16 * unit);
        load_x(x.high, p.n, k_pad, i0, k0, high);
        if constexpr (two) {
            load_x(x.low, p.n, k_pad, i0, k0, low);
        }
        __syncthreads();
        multiply(sums, high, w_tile, warp);
        if constexpr (two) {
            multiply(sums, low, w_tile, warp);
        }
        __syncthreads();
    }
    float *const out = (float *)(void *)room;
    for (int i = 0; i < 4; i++) {
        float *const at =
            out + (warp / 2 * 32 + 16 * (i / 2)) * OUT_STRIDE + warp % 2 * 32 + 16 * (i % 2);
        wmma::store_matrix_sync(at, sums[i / 2][i % 2], OUT_STRIDE, wmma::mem_row_major);
    }
    __syncthreads();
    finish_tile(p, out, x.scale, i0, m0);
}

/* The same in floats; thread (8 rows of x) x (4 rows of w). */
template <int T>
static __global__ void __launch_bounds__(TILE_THREADS) k_matmul_floats(struct product p) {
    __shared__ __align__(16) float xs[FLOAT_K][OUT_STRIDE], ws[FLOAT_K][OUT_STRIDE];
    const uint32_t m0 = blockIdx.x * TILE, i0 = blockIdx.y * TILE;
    const uint32_t ti = threadIdx.x / 16 * 8, tj = threadIdx.x % 16 * 4;
    float sums[8][4] = {};
    for (uint32_t k0 = 0; k0 < p.k; k0 += FLOAT_K) {
        for (uint32_t at = threadIdx.x; at < TILE * FLOAT_K; at += TILE_THREADS) {
            const uint32_t i = at / FLOAT_K, j = at % FLOAT_K;
            const bool inside = k0 + j < p.k;
            xs[j][i] = inside && i0 + i < p.n ? p.x[(uint64_t)(i0 + i) * p.k + k0 + j] : 0.0f;
            ws[j][i] =
                inside && m0 + i < p.m ? cu_element<T>(p.w + (m0 + i) * p.row_bytes, k0 + j) : 0.0f;
        }
        __syncthreads();
        for (uint32_t j = 0; j < FLOAT_K; j++) {
            const float4 w = *(const float4 *)(const void *)&ws[j][tj];
            for (uint32_t i = 0; i < 8; i++) {
                const float x = xs[j][ti + i];
                sums[i][0] += x * w.x;
                sums[i][1] += x * w.y;
                sums[i][2] += x * w.z;
                sums[i][3] += x * w.w;
            }
        }
        __syncthreads();
    }
    for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t j = 0; j < 4; j++) {
            if (i0 + ti + i < p.n && m0 + tj + j < p.m) {
                finish(p, i0 + ti + i, m0 + tj + j, sums[i][j]);
            }
        }
    }
}

/* ---- launchers ---- */

/* Scratch: either the codes of x or its halves. */
static uint32_t k_padded(const struct tl_matmul *op) {
    return cu_div_up(op->w.cols, TILE_K) * TILE_K;
}

static bool by_vec(const struct cu_exec *x, const struct tl_matmul *op) {
    return op->x.rows <= x->tuning->vec_rows_most;
}

static struct x_codes codes_in(const struct tl_matmul *op, void *scratch, uint64_t *bytes) {
    const uint64_t n = op->x.rows, k = op->x.cols;
    uint8_t *const at = (uint8_t *)scratch;
    const uint64_t q_bytes = tl_align_up(n * k, 256), block_bytes = tl_align_up(n * k / 8, 256);
    *bytes = q_bytes + 2 * block_bytes;
    return {(int8_t *)at, (float *)(void *)(at + q_bytes),
            (int *)(void *)(at + q_bytes + block_bytes)};
}

static struct x_halves halves_in(const struct tl_matmul *op, void *scratch, uint64_t *bytes) {
    const uint64_t all = (uint64_t)op->x.rows * k_padded(op) * sizeof(__half);
    const uint64_t half_bytes = tl_align_up(all, 256);
    uint8_t *const at = (uint8_t *)scratch;
    const bool two = op->w.dtype == TL_F16;
    *bytes = half_bytes * (two ? 2 : 1) + op->x.rows * sizeof(float);
    return {(__half *)(void *)at, two ? (__half *)(void *)(at + half_bytes) : nullptr,
            (float *)(void *)(at + half_bytes * (two ? 2 : 1))};
}

uint64_t cu_matmul_scratch(const struct cu_exec *x, const struct tl_matmul *op) {
    uint64_t bytes = 0;
    if (tl_matmul_rounds_x(op, x->tuning->vec_rows_most)) {
        codes_in(op, nullptr, &bytes);
    } else if (!by_vec(x, op) && op->w.dtype != TL_F32 && op->w.dtype != TL_BF16) {
        halves_in(op, nullptr, &bytes);
    }
    return bytes;
}

static struct x_source source_of(const struct cu_products *ps) {
    struct x_source from = {cu_at<float>(ps->of[0].x), nullptr, nullptr, 0.0f, false};
    if (ps->norm != nullptr) {
        from.a = cu_at<const float>(ps->norm->x);
        from.b = cu_at<const float>(ps->norm->w);
        from.eps = ps->norm->eps;
    } else if (ps->glu != nullptr) {
        from.a = cu_at<const float>(ps->glu->gate);
        from.b = cu_at<const float>(ps->glu->up);
        from.silu = ps->glu->act == TL_ACT_SILU;
    }
    return from;
}

static cudaError_t quantise(const struct cu_exec *x, const struct cu_products *ps,
                            const struct x_codes &codes) {
    const uint32_t n = ps->of[0].x.rows, k = ps->of[0].x.cols;
    const dim3 grid(cu_div_up(k / 32, PREP_WARPS), n);
    return cu_launch(x, grid, PREP_WARPS * CU_WARP, 0,
                     ps->norm != nullptr  ? k_quantise<FROM_NORM>
                     : ps->glu != nullptr ? k_quantise<FROM_GLU>
                                          : k_quantise<FROM_X>,
                     codes, source_of(ps), k);
}

static struct product product_of(const struct tl_matmul *op) {
    return {cu_at<float>(op->y),
            cu_at<const float>(op->x),
            cu_at<const uint8_t>(op->w),
            cu_at<const float>(op->bias),
            tl_row_bytes(op->w.dtype, op->w.cols),
            op->x.rows,
            op->w.rows,
            op->w.cols,
            op->softcap,
            op->accumulate};
}

/* N rows of x at a time. */
template <int T, int N>
static cudaError_t vec_by(const struct cu_exec *x, const struct cu_products *ps) {
    struct products all = {};
    struct x_codes codes = {};
    for (uint32_t i = 0; i < ps->n; i++) {
        all.of[i] = product_of(&ps->of[i]);
        all.units[i] = cu_div_up(all.of[i].m, vec_piece<T, N>::rows);
        all.n_units += all.units[i];
    }
    all.n_of = ps->n;
    if constexpr (cu_format<T>::elems > 1) {
        uint64_t bytes;
        codes = codes_in(&ps->of[0], x->scratch, &bytes);
        if (!x->codes_ready) {
            CU_TRY(quantise(x, ps, codes));
        }
    } else {
        all.from = source_of(ps);
    }
    /* Few rows are shared by warps, so that the machine has enough of them. */
    const uint64_t wanted = (uint64_t)x->n_sms * x->tuning->vec_sm_warps;
    const uint32_t row_warps = all.n_units >= wanted ? 1 : 2ull * all.n_units >= wanted ? 2 : 4;
    const uint32_t blocks = cu_div_up(all.n_units, VEC_WARPS / row_warps);
    const uint32_t most = x->n_sms * 16; /* then each warp has several rows to run through */
    const dim3 grid(blocks < most ? blocks : most, cu_div_up(all.of[0].n, N));
    return cu_launch(x, grid, VEC_WARPS * CU_WARP, 0, k_matmul_vec<T, N>, all, codes, row_warps);
}

template <int T> static cudaError_t vec_of(const struct cu_exec *x, const struct cu_products *ps) {
    return ps->of[0].x.rows == 1 ? vec_by<T, 1>(x, ps) : vec_by<T, vec_several<T>>(x, ps);
}

template <int T>
static cudaError_t tile_of(const struct cu_exec *x, const struct tl_matmul *op,
                           const struct product &p) {
    const dim3 grid(cu_div_up(p.m, TILE), cu_div_up(p.n, TILE));
    if constexpr (T == TL_F32 || T == TL_BF16) {
        return cu_launch(x, grid, TILE_THREADS, 0, k_matmul_floats<T>, p);
    } else {
        uint64_t bytes;
        const struct x_halves halves = halves_in(op, x->scratch, &bytes);
        const uint32_t k_pad = k_padded(op);
        CU_TRY(cu_launch(x, p.n, PREP_WARPS * CU_WARP, 0, k_halves, halves, p.x, p.k, k_pad));
        return cu_launch(x, grid, TILE_THREADS, 0, k_matmul_tile<T>, p, halves, k_pad);
    }
}

template <int T>
static cudaError_t matmul_of(const struct cu_exec *x, const struct cu_products *ps) {
    return by_vec(x, &ps->of[0]) ? vec_of<T>(x, ps)
                                 : tile_of<T>(x, &ps->of[0], product_of(&ps->of[0]));
}

cudaError_t cu_matmul(const struct cu_exec *x, const struct cu_products *ps) {
    switch (ps->of[0].w.dtype) {
    case TL_F32:
        return matmul_of<TL_F32>(x, ps);
    case TL_F16:
        return matmul_of<TL_F16>(x, ps);
    case TL_BF16:
        return matmul_of<TL_BF16>(x, ps);
    case TL_Q8_0:
        return matmul_of<TL_Q8_0>(x, ps);
    case TL_Q4_0:
        return matmul_of<TL_Q4_0>(x, ps);
    case TL_Q4_1:
        return matmul_of<TL_Q4_1>(x, ps);
    case TL_Q5_0:
        return matmul_of<TL_Q5_0>(x, ps);
    case TL_Q5_1:
        return matmul_of<TL_Q5_1>(x, ps);
    case TL_IQ4_NL:
        return matmul_of<TL_IQ4_NL>(x, ps);
    case TL_IQ4_XS:
        return matmul_of<TL_IQ4_XS>(x, ps);
    case TL_Q2_K:
        return matmul_of<TL_Q2_K>(x, ps);
    case TL_Q3_K:
        return matmul_of<TL_Q3_K>(x, ps);
    case TL_Q4_K:
        return matmul_of<TL_Q4_K>(x, ps);
    case TL_Q5_K:
        return matmul_of<TL_Q5_K>(x, ps);
    case TL_Q6_K:
        return matmul_of<TL_Q6_K>(x, ps);
    default:
        return cudaErrorInvalidValue;
    }
}
