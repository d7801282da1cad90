/* The other indexes: keys channel by channel, and what is known of pages of keys. Written bytes and
 * chosen channels equal the CPU's, hence this file is compiled without contraction (CMake:
 * CU_EXACT). */
#include "formats.cuh"

enum {
    INDEX_THREADS = 128,
    PAGE_WARPS = 4,
    COLUMN_PAD = 2, /* halves behind a row in shared memory */
    COLUMNS = 64,   /* channels transposed at a time */
};

/* ---- kernels: channels ---- */

struct transpose_args {
    const uint16_t *src;   /* (n_kv_heads * src_cap, d) */
    uint16_t *keys, *most; /* as struct tl_columns */
    uint64_t row_keys;     /* of a row of keys */
    uint32_t d, src_cap, cap, src_row, dst_block, n_blocks;
};

/* Block (cache block, KV head, 64 channels) of INDEX_THREADS; what is largest in this block alone.
 */
static __global__ void k_key_transpose(struct transpose_args a) {
    __shared__ uint16_t tile[TL_BLOCK * (COLUMNS + COLUMN_PAD)];
    const uint32_t c0 = blockIdx.z * COLUMNS, n = a.d - c0 < COLUMNS ? a.d - c0 : (uint32_t)COLUMNS;
    const uint64_t from = (uint64_t)blockIdx.y * a.src_cap + a.src_row + blockIdx.x * TL_BLOCK;
    const uint64_t block = (uint64_t)a.dst_block + blockIdx.x;
    for (uint32_t at = threadIdx.x; at < TL_BLOCK * n; at += INDEX_THREADS) {
        tile[at / n * (COLUMNS + COLUMN_PAD) + at % n] = a.src[(from + at / n) * a.d + c0 + at % n];
    }
    __syncthreads();
    for (uint32_t at = threadIdx.x; at < TL_BLOCK * n; at += INDEX_THREADS) {
        const uint32_t c = at / TL_BLOCK, t = at % TL_BLOCK;
        a.keys[((uint64_t)blockIdx.y * a.d + c0 + c) * a.row_keys + block * TL_BLOCK + t] =
            tile[t * (COLUMNS + COLUMN_PAD) + c];
    }
    if (threadIdx.x < n) {
        uint32_t largest = 0;
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            /* Positive halves order as their bits do; 0x7c00 is infinity, NaNs are above. */
            const uint32_t size = tile[t * (COLUMNS + COLUMN_PAD) + threadIdx.x] & 0x7fffu;
            largest = size <= 0x7c00u && size > largest ? size : largest;
        }
        a.most[((uint64_t)blockIdx.y * a.cap + block) * a.d + c0 + threadIdx.x] = (uint16_t)largest;
    }
}

/* Block (channels, KV head): what is largest goes on from block to block. */
static __global__ void k_key_most(struct transpose_args a) {
    const uint32_t c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= a.d) {
        return;
    }
    uint16_t *const most = a.most + (uint64_t)blockIdx.y * a.cap * a.d + c;
    uint16_t largest = a.dst_block > 0 ? most[(uint64_t)(a.dst_block - 1) * a.d] : 0;
    for (uint32_t i = 0; i < a.n_blocks; i++) {
        uint16_t *const at = most + (uint64_t)(a.dst_block + i) * a.d;
        largest = *at > largest ? *at : largest;
        *at = largest;
    }
}

struct channels_args {
    int32_t *ids; /* (n_kv_heads, k) */
    const float *q;
    const __half *most;
    const int32_t *n_blocks;
    uint32_t k, d, group, cap;
};

/* A block a KV head. A channel is chosen when fewer than k others come before it. */
static __global__ void k_channels(struct channels_args a) {
    __shared__ float weight[TL_HEAD_DIM_MAX];
    __shared__ uint8_t chosen[TL_HEAD_DIM_MAX];
    const int32_t n_blocks = a.n_blocks[0];
    const __half *const most =
        a.most + ((uint64_t)blockIdx.x * a.cap + (uint32_t)(n_blocks > 0 ? n_blocks - 1 : 0)) * a.d;
    for (uint32_t c = threadIdx.x; c < a.d; c += INDEX_THREADS) {
        const float *const q = a.q + (uint64_t)blockIdx.x * a.group * a.d + c;
        float sum = q[0];
        for (uint32_t h = 1; h < a.group; h++) {
            sum += q[(uint64_t)h * a.d];
        }
        const float value = fabsf(sum) * (n_blocks > 0 ? __half2float(most[c]) : 0.0f);
        weight[c] = value == value ? value : 0.0f;
    }
    __syncthreads();
    for (uint32_t c = threadIdx.x; c < a.d; c += INDEX_THREADS) {
        uint32_t before = 0;
        for (uint32_t other = 0; other < a.d; other++) {
            before += weight[other] > weight[c] || (weight[other] == weight[c] && other < c);
        }
        chosen[c] = before < a.k;
    }
    __syncthreads();
    for (uint32_t c = threadIdx.x; c < a.d; c += INDEX_THREADS) {
        if (chosen[c]) {
            uint32_t place = 0;
            for (uint32_t other = 0; other < c; other++) {
                place += chosen[other];
            }
            a.ids[(uint64_t)blockIdx.x * a.k + place] = (int32_t)c;
        }
    }
}

struct channel_fetch_args {
    __half *part;       /* (n_kv_heads * k, cols) */
    const __half *keys; /* (n_kv_heads * d, cols) */
    const int32_t *want, *n_blocks;
    int32_t *held, *counts;
    int32_t *copied; /* (n_kv_heads, k): the channel that comes to a place, -1 for none */
    uint64_t cols;
    uint32_t k, d;
    bool keep, by_pieces;
};

static __device__ bool is_among(int32_t id, const int32_t *ids, uint32_t n) {
    bool found = false;
    for (uint32_t i = 0; i < n; i++) {
        found |= ids[i] == id;
    }
    return found;
}

/* A block a KV head: the i-th channel that is missing comes to the i-th place that is free. */
static __global__ void k_channel_plan(struct channel_fetch_args a) {
    __shared__ int32_t want[TL_HEAD_DIM_MAX], held[TL_HEAD_DIM_MAX], missing[TL_HEAD_DIM_MAX];
    __shared__ uint8_t stays[TL_HEAD_DIM_MAX], misses[TL_HEAD_DIM_MAX];
    __shared__ uint32_t n_missing;
    const uint64_t at = (uint64_t)blockIdx.x * a.k;
    for (uint32_t j = threadIdx.x; j < a.k; j += INDEX_THREADS) {
        want[j] = a.want[at + j];
        held[j] = a.held[at + j];
    }
    if (threadIdx.x == 0) {
        n_missing = 0;
    }
    __syncthreads();
    for (uint32_t j = threadIdx.x; j < a.k; j += INDEX_THREADS) {
        stays[j] = a.keep && is_among(held[j], want, a.k);
        misses[j] = !a.keep || !is_among(want[j], held, a.k);
        if (misses[j]) {
            atomicAdd(&n_missing, 1u);
        }
    }
    __syncthreads();
    for (uint32_t j = threadIdx.x; j < a.k; j += INDEX_THREADS) {
        uint32_t before = 0;
        for (uint32_t i = 0; i < j; i++) {
            before += misses[i];
        }
        if (misses[j]) {
            missing[before] = want[j];
        }
    }
    __syncthreads();
    for (uint32_t j = threadIdx.x; j < a.k; j += INDEX_THREADS) {
        uint32_t before = 0;
        for (uint32_t i = 0; i < j; i++) {
            before += !stays[i];
        }
        const bool taken = !stays[j] && before < n_missing;
        a.copied[at + j] = taken ? missing[before] : -1;
        if (taken) {
            a.held[at + j] = missing[before];
        }
    }
    if (threadIdx.x == 0) {
        atomicAdd(&a.counts[0], (int)(a.k - n_missing));
        atomicAdd(&a.counts[1], (int)n_missing);
    }
}

/* Block (piece of the columns, place, KV head). Keys are host memory, read across the link. */
static __global__ void k_channel_copy(struct channel_fetch_args a) {
    const uint64_t place = (uint64_t)blockIdx.z * a.k + blockIdx.y;
    const int32_t channel = a.copied[place];
    if (channel < 0 || a.n_blocks[0] <= 0) {
        return;
    }
    const uint64_t n = (uint64_t)a.n_blocks[0] * TL_BLOCK;
    __half *const to = a.part + place * a.cols;
    const __half *const from = a.keys + ((uint64_t)blockIdx.z * a.d + (uint32_t)channel) * a.cols;
    const uint64_t first = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    if (a.by_pieces) {
        for (uint64_t i = first; i < n / 8; i += step) {
            ((uint4 *)(void *)to)[i] = ((const uint4 *)(const void *)from)[i];
        }
    } else {
        for (uint64_t i = first; i < n; i += step) {
            to[i] = from[i];
        }
    }
}

struct channel_score_args {
    float *score; /* (n_kv_heads, cols) */
    const float *q;
    const __half *part;
    const int32_t *held, *n_blocks;
    uint64_t cols;
    uint32_t k, d, group;
};

/* Block (rows, KV head). */
static __global__ void k_channel_score(struct channel_score_args a) {
    __shared__ float mean[TL_HEAD_DIM_MAX];
    const uint64_t n = (uint64_t)(a.n_blocks[0] > 0 ? a.n_blocks[0] : 0) * TL_BLOCK;
    for (uint32_t j = threadIdx.x; j < a.k; j += INDEX_THREADS) {
        const uint32_t c = (uint32_t)a.held[(uint64_t)blockIdx.y * a.k + j];
        const float *const q = a.q + (uint64_t)blockIdx.y * a.group * a.d + c;
        float sum = 0.0f;
        for (uint32_t h = 0; h < a.group; h++) {
            sum += q[(uint64_t)h * a.d];
        }
        mean[j] = sum / (float)a.group;
    }
    __syncthreads();
    const __half *const part = a.part + (uint64_t)blockIdx.y * a.k * a.cols;
    for (uint64_t t = (uint64_t)blockIdx.x * INDEX_THREADS + threadIdx.x; t < n;
         t += (uint64_t)gridDim.x * INDEX_THREADS) {
        float sum = 0.0f;
        for (uint32_t j = 0; j < a.k; j++) {
            sum += mean[j] * __half2float(part[j * a.cols + t]);
        }
        a.score[(uint64_t)blockIdx.y * a.cols + t] = sum;
    }
}

/* ---- kernels: pages ---- */

struct page_args {
    __half *rows; /* (n_kv_heads * cap, 2 d) */
    const __half *src;
    uint32_t d, page, cap, src_cap, src_row, first;
    bool bounds;
};

/* What a page is made from: no infinities, no NaN, one zero. */
static __device__ double page_number(__half h) {
    const float x = __half2float(h);
    return x != x ? 0.0 : fmax(-65504.0, fmin(65504.0, (double)x)) + 0.0;
}

/* Block (page, KV head, channels). */
static __global__ void k_page_encode(struct page_args a) {
    const uint32_t c = blockIdx.z * blockDim.x + threadIdx.x;
    if (c >= a.d) {
        return;
    }
    const uint64_t row0 =
        (uint64_t)blockIdx.y * a.src_cap + a.src_row + (uint64_t)blockIdx.x * a.page;
    const __half *const keys = a.src + row0 * a.d + c;
    __half *const to = a.rows + ((uint64_t)blockIdx.y * a.cap + a.first + blockIdx.x) * 2 * a.d + c;
    double least = INFINITY, most = -INFINITY, sum = 0.0, squares = 0.0;
    for (uint32_t t = 0; t < a.page; t++) {
        const double x = page_number(keys[(uint64_t)t * a.d]);
        least = fmin(least, x);
        most = fmax(most, x);
        sum += x;
    }
    if (a.bounds) {
        to[0] = __float2half_rn((float)least);
        to[a.d] = __float2half_rn((float)most);
        return;
    }
    const double mean = sum / a.page;
    for (uint32_t t = 0; t < a.page; t++) {
        const double x = page_number(keys[(uint64_t)t * a.d]) - mean;
        squares += x * x;
    }
    to[0] = __float2half_rn((float)mean);
    to[a.d] = __float2half_rn((float)sqrt(squares / a.page));
}

struct page_score_args {
    float *score; /* (n_heads, cols) */
    const float *q;
    const __half *rows;
    const int32_t *n_blocks;
    uint64_t cols;
    uint32_t d, page, cap, group;
    float scale, softcap, sigmas;
    bool bounds;
};

/* A warp a page, for all heads of a KV head: block (pages, KV head). */
static __global__ void k_page_score(struct page_score_args a) {
    const uint32_t lane = threadIdx.x % CU_WARP;
    const uint64_t n_pages =
        (uint64_t)(a.n_blocks[0] > 0 ? a.n_blocks[0] : 0) * (TL_BLOCK / a.page);
    const uint64_t step = (uint64_t)gridDim.x * PAGE_WARPS;
    for (uint64_t i = (uint64_t)blockIdx.x * PAGE_WARPS + threadIdx.x / CU_WARP; i < n_pages;
         i += step) {
        const __half *const page = a.rows + ((uint64_t)blockIdx.y * a.cap + i) * 2 * a.d;
        for (uint32_t h = blockIdx.y * a.group; h < (blockIdx.y + 1) * a.group; h++) {
            const float *const q = a.q + (uint64_t)h * a.d;
            float sum = 0.0f, squares = 0.0f;
            for (uint32_t c = lane; c < a.d; c += CU_WARP) {
                const float first = q[c] * __half2float(page[c]);
                const float second = q[c] * __half2float(page[a.d + c]);
                sum += a.bounds ? fmaxf(first, second) : first;
                squares += second * second;
            }
            sum = cu_warp_sum(sum);
            squares = cu_warp_sum(squares);
            sum += a.bounds ? 0.0f : a.sigmas * sqrtf(squares);
            const float value = cu_cap(sum * a.scale, a.softcap);
            for (uint32_t t = lane; t < a.page; t += CU_WARP) {
                a.score[(uint64_t)h * a.cols + i * a.page + t] = value;
            }
        }
    }
}

/* ---- launchers ---- */

cudaError_t cu_key_transpose(const struct cu_exec *x, const struct tl_key_transpose *op) {
    const uint32_t n = op->dst.n_kv_heads, d = op->dst.most.cols;
    const struct transpose_args a = {cu_at<const uint16_t>(op->src),
                                     cu_at<uint16_t>(op->dst.keys),
                                     cu_at<uint16_t>(op->dst.most),
                                     op->dst.keys.cols,
                                     d,
                                     op->src.rows / n,
                                     op->dst.most.rows / n,
                                     op->src_row,
                                     op->dst_block,
                                     op->n_blocks};
    CU_TRY(cu_launch(x, dim3(op->n_blocks, n, cu_div_up(d, COLUMNS)), INDEX_THREADS, 0,
                     k_key_transpose, a));
    return cu_launch(x, dim3(cu_div_up(d, 64), n), 64, 0, k_key_most, a);
}

cudaError_t cu_channels(const struct cu_exec *x, const struct tl_channels *op) {
    const uint32_t n = op->ids.rows;
    const struct channels_args a = {cu_at<int32_t>(op->ids),
                                    cu_at<const float>(op->q),
                                    cu_at<const __half>(op->most),
                                    cu_at<const int32_t>(op->n_blocks),
                                    op->ids.cols,
                                    op->most.cols,
                                    op->n_heads / n,
                                    op->most.rows / n};
    return cu_launch(x, n, INDEX_THREADS, 0, k_channels, a);
}

uint64_t cu_channel_fetch_scratch(const struct cu_exec *x, const struct tl_channel_fetch *op) {
    (void)x;
    return (uint64_t)op->held.rows * op->held.cols * sizeof(int32_t);
}

cudaError_t cu_channel_fetch(const struct cu_exec *x, const struct tl_channel_fetch *op) {
    struct channel_fetch_args a = {};
    a.part = cu_at<__half>(op->part);
    a.keys = cu_at<const __half>(op->keys);
    a.want = cu_at<const int32_t>(op->want);
    a.n_blocks = cu_at<const int32_t>(op->n_blocks);
    a.held = cu_at<int32_t>(op->held);
    a.counts = cu_at<int32_t>(op->counts);
    a.copied = (int32_t *)x->scratch;
    a.cols = op->part.cols;
    a.k = op->held.cols;
    a.d = op->keys.rows / op->held.rows;
    a.keep = op->keep;
    a.by_pieces = (((uintptr_t)a.part | (uintptr_t)a.keys | 2 * a.cols) & 15u) == 0;
    CU_TRY(cu_launch(x, op->held.rows, INDEX_THREADS, 0, k_channel_plan, a));
    const uint32_t pieces = cu_div_up(a.cols, 8 * 4 * INDEX_THREADS); /* 4 for each thread */
    return cu_launch(x, dim3(pieces, a.k, op->held.rows), INDEX_THREADS, 0, k_channel_copy, a);
}

cudaError_t cu_channel_score(const struct cu_exec *x, const struct tl_channel_score *op) {
    const struct channel_score_args a = {cu_at<float>(op->score),
                                         cu_at<const float>(op->q),
                                         cu_at<const __half>(op->part),
                                         cu_at<const int32_t>(op->held),
                                         cu_at<const int32_t>(op->n_blocks),
                                         op->part.cols,
                                         op->held.cols,
                                         op->head_dim,
                                         op->n_heads / op->held.rows};
    const uint32_t blocks = cu_div_up(a.cols, 2 * INDEX_THREADS);
    return cu_launch(x, dim3(blocks, op->held.rows), INDEX_THREADS, 0, k_channel_score, a);
}

cudaError_t cu_page_encode(const struct cu_exec *x, const struct tl_page_encode *op) {
    const uint32_t n = op->dst.n_kv_heads, per_block = TL_BLOCK / op->dst.page;
    const struct page_args a = {cu_at<__half>(op->dst.rows),
                                cu_at<const __half>(op->src),
                                op->src.cols,
                                op->dst.page,
                                op->dst.rows.rows / n,
                                op->src.rows / n,
                                op->src_row,
                                op->dst_block * per_block,
                                op->dst.kind == TL_PAGE_BOUNDS};
    return cu_launch(x, dim3(op->n_blocks * per_block, n, cu_div_up(a.d, 64)), 64, 0, k_page_encode,
                     a);
}

cudaError_t cu_page_score(const struct cu_exec *x, const struct tl_page_score *op) {
    const struct tl_pages *const p = &op->pages;
    const struct page_score_args a = {cu_at<float>(op->score),
                                      cu_at<const float>(op->q),
                                      cu_at<const __half>(p->rows),
                                      cu_at<const int32_t>(op->n_blocks),
                                      op->score.cols,
                                      p->rows.cols / 2,
                                      p->page,
                                      p->rows.rows / p->n_kv_heads,
                                      op->n_heads / p->n_kv_heads,
                                      op->scale,
                                      op->softcap,
                                      op->sigmas,
                                      p->kind == TL_PAGE_BOUNDS};
    const uint32_t wanted = x->n_sms * 8, useful = cu_div_up(a.cap, PAGE_WARPS);
    return cu_launch(x, dim3(wanted < useful ? wanted : useful, p->n_kv_heads),
                     PAGE_WARPS * CU_WARP, 0, k_page_score, a);
}
