/* How much of attention the largest weights hold. Not on the path of a step, hence plain: a block
 * takes (query, head) by (query, head), keeps the weights of its rows in scratch, finds for each
 * part the bar that this many weights reach (weights are not negative, so their bits order as they
 * do) and adds what is above it. Sums are taken in one order, whatever the launch. */
#include "formats.cuh"
#include "select.cuh"

struct mass_args {
    const float *q; /* (n, n_heads * d) */
    const int32_t *q_pos, *n_rows;
    const uint8_t *k;
    uint64_t row_bytes;
    float *weights; /* (blocks, cap) */
    float *held;    /* (n_heads, n, n_parts) */
    float *mass;    /* (n_heads, n_parts) */
    uint32_t n, d, n_heads, group, cap, window, n_parts;
    tl_dtype dtype;
    float scale, softcap;
    uint16_t parts[TL_MASS_PARTS_MAX];
};

/* ---- kernels ---- */

/* The same over all threads of a block, in one order. */
static __device__ float block_sum(float v) {
    __shared__ float of_warp[SELECT_WARPS];
    v = cu_warp_sum(v);
    __syncthreads();
    if (threadIdx.x % CU_WARP == 0) {
        of_warp[threadIdx.x / CU_WARP] = v;
    }
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < SELECT_WARPS; i++) {
        sum += of_warp[i];
    }
    return sum;
}

static __device__ float block_max(float v) {
    __shared__ float of_warp[SELECT_WARPS];
    v = cu_warp_max(v);
    __syncthreads();
    if (threadIdx.x % CU_WARP == 0) {
        of_warp[threadIdx.x / CU_WARP] = v;
    }
    __syncthreads();
    float most = -INFINITY;
    for (int i = 0; i < SELECT_WARPS; i++) {
        most = fmaxf(most, of_warp[i]);
    }
    return most;
}

/* Weights of rows first .. first + n - 1, not normalised, into w; returns their sum. */
static __device__ float weigh(const struct mass_args &a, uint32_t query, uint32_t head,
                              uint32_t first, uint32_t n, float *w) {
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    const float *const q = a.q + ((uint64_t)query * a.n_heads + head) * a.d;
    const uint64_t row0 = (uint64_t)(head / a.group) * a.cap + first;
    float most = -INFINITY;
    for (uint32_t t = warp; t < n; t += SELECT_WARPS) {
        const uint8_t *const row = a.k + (row0 + t) * a.row_bytes;
        float sum = 0.0f;
        for (uint32_t j = lane; j < a.d; j += CU_WARP) {
            sum += q[j] * cu_cache_element(a.dtype, row, j);
        }
        sum = cu_cap(cu_warp_sum(sum) * a.scale, a.softcap);
        most = fmaxf(most, sum);
        if (lane == 0) {
            w[t] = sum;
        }
    }
    most = block_max(most);
    float sum = 0.0f;
    for (uint32_t t = threadIdx.x; t < n; t += SELECT_THREADS) {
        w[t] = expf(w[t] - most);
        sum += w[t];
    }
    return block_sum(sum);
}

/* The sum of the `wanted` largest of n weights. */
static __device__ float largest(const float *w, uint32_t n, uint32_t wanted, uint32_t *bins) {
    struct bar b = {0, wanted};
    for (uint32_t level = 0; level < LEVELS; level++) {
        const uint32_t shift = level_shift(level);
        clear_bins(bins);
        for (uint32_t t = threadIdx.x; t < n; t += SELECT_THREADS) {
            const uint32_t key = __float_as_uint(w[t]);
            if (level == 0 || key >> level_shift(level - 1) == b.bits >> level_shift(level - 1)) {
                atomicAdd(&bins[level == 2 ? key & 1023u : key >> shift & (BINS - 1)], 1u);
            }
        }
        __syncthreads();
        b = next_bar(bins, b, shift);
    }
    float sum = 0.0f;
    for (uint32_t t = threadIdx.x; t < n; t += SELECT_THREADS) {
        sum += __float_as_uint(w[t]) > b.bits ? w[t] : 0.0f;
    }
    return block_sum(sum) + (float)b.wanted * __uint_as_float(b.bits);
}

static __global__ void k_mass_held(struct mass_args a) {
    __shared__ uint32_t bins[BINS];
    float *const w = a.weights + (uint64_t)blockIdx.x * a.cap;
    for (uint32_t item = blockIdx.x; item < a.n * a.n_heads; item += gridDim.x) {
        const uint32_t query = item % a.n, head = item / a.n;
        const int64_t n_rows = a.n_rows[0], pos = a.q_pos[query];
        int64_t end = pos + 1 < n_rows ? pos + 1 : n_rows;
        end = end > 0 ? end : 0;
        int64_t first = a.window != 0 ? pos + 1 - (int64_t)a.window : 0;
        first = first > 0 ? first < end ? first : end : 0;
        const uint32_t n = (uint32_t)(end - first);
        __syncthreads(); /* the last item's weights are done with */
        const float all = n > 0 ? weigh(a, query, head, (uint32_t)first, n, w) : 1.0f;
        __syncthreads();
        for (uint32_t j = 0; j < a.n_parts; j++) {
            const uint32_t wanted = cu_div_up((uint64_t)n * a.parts[j], TL_MASS_WHOLE);
            const float held = n > 0 ? largest(w, n, wanted, bins) / all : 1.0f;
            if (threadIdx.x == 0) {
                a.held[(uint64_t)item * a.n_parts + j] = held;
            }
        }
    }
}

/* A thread a (head, part). */
static __global__ void k_mass_mean(struct mass_args a) {
    const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < a.n_heads * a.n_parts) {
        const uint32_t head = at / a.n_parts, part = at % a.n_parts;
        double sum = 0.0;
        for (uint32_t i = 0; i < a.n; i++) {
            sum += (double)a.held[((uint64_t)head * a.n + i) * a.n_parts + part];
        }
        a.mass[at] = (float)(sum / a.n);
    }
}

/* ---- launchers ---- */

static uint32_t blocks_of(const struct cu_exec *x, const struct tl_mass *op) {
    return (uint32_t)tl_min_u64((uint64_t)op->q.rows * op->n_heads, 2ull * x->n_sms);
}

static uint64_t held_bytes(const struct tl_mass *op) {
    return tl_align_up((uint64_t)op->q.rows * op->n_heads * op->n_parts * sizeof(float), 256);
}

uint64_t cu_mass_scratch(const struct cu_exec *x, const struct tl_mass *op) {
    const uint64_t cap = op->kv.k.rows / op->kv.n_kv_heads;
    return held_bytes(op) + blocks_of(x, op) * cap * sizeof(float);
}

cudaError_t cu_mass(const struct cu_exec *x, const struct tl_mass *op) {
    struct mass_args a = {};
    a.q = cu_at<const float>(op->q);
    a.q_pos = cu_at<const int32_t>(op->q_pos);
    a.n_rows = cu_at<const int32_t>(op->n_rows);
    a.k = cu_at<const uint8_t>(op->kv.k);
    a.row_bytes = tl_row_bytes(op->kv.k.dtype, op->kv.k.cols);
    a.held = (float *)x->scratch;
    a.weights = (float *)(void *)((uint8_t *)x->scratch + held_bytes(op));
    a.mass = cu_at<float>(op->mass);
    a.n = op->q.rows;
    a.d = op->kv.k.cols;
    a.n_heads = op->n_heads;
    a.group = op->n_heads / op->kv.n_kv_heads;
    a.cap = op->kv.k.rows / op->kv.n_kv_heads;
    a.window = op->window;
    a.n_parts = op->n_parts;
    a.dtype = op->kv.k.dtype;
    a.scale = op->scale;
    a.softcap = op->softcap;
    for (uint32_t i = 0; i < op->n_parts; i++) {
        a.parts[i] = op->parts[i];
    }
    CU_TRY(cu_launch(x, blocks_of(x, op), SELECT_THREADS, 0, k_mass_held, a));
    return cu_launch(x, cu_div_up(a.n_heads * a.n_parts, 64), 64, 0, k_mass_mean, a);
}
