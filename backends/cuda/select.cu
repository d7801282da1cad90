/* Which rows are attended exactly, and bringing them: top-k by radix, and the hot set's clock.
 *
 * top-k turns scores into 32-bit keys that order as the values do (0: never chosen), counts their
 * top 11 bits, then the next 11 among those that share the k-th best's top, then the last 10: that
 * is the bar. Rows above it, and the first of those at it, are written in order; a row's place is
 * the number of chosen rows before it, so nothing depends on which block comes first. Scores are
 * read twice, keys four times; both are streams of 4 bytes a row.
 *
 * The clock of tl_fetch is sequential by contract, but where the hand stops follows from counts:
 * the misses take the first slots in the hand's order that are free, then, on a second lap, those
 * that were used and got their second chance. */
#include "select.cuh"

enum {
    COPY_WARPS = 4,
    FETCH_CLOSE = 2048, /* wanted rows that are kept in shared memory */
};

/* ---- kernels: top-k ---- */

struct topk_args {
    int32_t *idx;       /* (n_kv_heads, k) */
    const float *score; /* (n_kv_heads * group, cols) */
    const float *base;  /* (n_kv_heads * group) or NULL */
    const int32_t *n_rows;
    uint32_t *most;  /* (n_kv_heads * group) keys of the largest scores, base among them */
    uint32_t *bins;  /* (n_kv_heads, LEVELS, BINS) */
    uint32_t *keys;  /* (n_kv_heads, cols) */
    uint32_t *found; /* (n_kv_heads, n_parts, 2): rows above the bar, rows at it */
    uint32_t k, cols, group, part_rows, n_parts;
};

/* Orders as floats do; no number has key 0. */
static __device__ uint32_t key_of(float v) {
    const uint32_t bits = __float_as_uint(v == 0.0f ? 0.0f : v);
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

static __device__ float value_of(uint32_t key) {
    return key == 0 ? NAN : __uint_as_float(key >> 31 != 0 ? key & 0x7fffffffu : ~key);
}

struct rows_of_part {
    uint32_t first, end;
};

static __device__ struct rows_of_part part_rows(const struct topk_args &a, uint32_t part) {
    const uint32_t n = a.n_rows[0] > 0 ? (uint32_t)a.n_rows[0] : 0;
    const uint32_t n_rows = n < a.cols ? n : a.cols;
    const uint64_t first = (uint64_t)part * a.part_rows;
    const uint64_t end = first + a.part_rows;
    return {(uint32_t)(first < n_rows ? first : n_rows), (uint32_t)(end < n_rows ? end : n_rows)};
}

/* Block (part, query head, op). */
static __global__ void k_topk_most(const __grid_constant__ struct cu_group<topk_args> ops) {
    const struct topk_args &a = ops.of[blockIdx.z];
    __shared__ uint32_t most;
    const struct rows_of_part rows = part_rows(a, blockIdx.x);
    const float *const score = a.score + (uint64_t)blockIdx.y * a.cols;
    if (rows.first == rows.end) {
        return;
    }
    if (threadIdx.x == 0) {
        most = 0;
    }
    __syncthreads();
    float best = a.base != nullptr ? a.base[blockIdx.y] : NAN;
    for (uint32_t t = rows.first + threadIdx.x; t < rows.end; t += SELECT_THREADS) {
        best = fmaxf(best, score[t]);
    }
    for (int o = CU_WARP / 2; o > 0; o /= 2) {
        best = fmaxf(best, __shfl_xor_sync(CU_ALL, best, o));
    }
    if (threadIdx.x % CU_WARP == 0 && best == best) {
        atomicMax(&most, key_of(best));
    }
    __syncthreads();
    if (threadIdx.x == 0 && most != 0) {
        atomicMax(&a.most[blockIdx.y], most);
    }
}

/* Adds a block's counts to those of its head. */
static __device__ void add_bins(uint32_t *to, const uint32_t *bins) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += SELECT_THREADS) {
        if (bins[i] != 0) {
            atomicAdd(&to[i], bins[i]);
        }
    }
}

/* Block (part, KV head, op). */
static __global__ void k_topk_keys(const __grid_constant__ struct cu_group<topk_args> ops) {
    const struct topk_args &a = ops.of[blockIdx.z];
    __shared__ uint32_t bins[BINS];
    const struct rows_of_part rows = part_rows(a, blockIdx.x);
    if (rows.first == rows.end) {
        return;
    }
    clear_bins(bins);
    uint32_t *const keys = a.keys + (uint64_t)blockIdx.y * a.cols;
    for (uint32_t t = rows.first + threadIdx.x; t < rows.end; t += SELECT_THREADS) {
        float value = NAN;
        for (uint32_t h = blockIdx.y * a.group; h < (blockIdx.y + 1) * a.group; h++) {
            value = fmaxf(value, a.score[(uint64_t)h * a.cols + t] - value_of(a.most[h]));
        }
        const uint32_t key = value > -INFINITY ? key_of(value) : 0;
        keys[t] = key;
        if (key != 0) {
            atomicAdd(&bins[key >> 21], 1u);
        }
    }
    add_bins(a.bins + (uint64_t)blockIdx.y * LEVELS * BINS, bins);
}

/* After `level` counts: 1 to LEVELS. */
static __device__ struct bar find_bar(const struct topk_args &a, uint32_t kv_head, uint32_t level) {
    const uint32_t *const bins = a.bins + (uint64_t)kv_head * LEVELS * BINS;
    struct bar b = {0, a.k};
    for (uint32_t i = 0; i < level && b.wanted > 0; i++) {
        b = next_bar(bins + i * BINS, b, level_shift(i));
    }
    return b;
}

/* Block (part, KV head, op): counts the next bits of keys that share the bar's. */
static __global__ void k_topk_refine(const __grid_constant__ struct cu_group<topk_args> ops,
                                     uint32_t level) {
    const struct topk_args &a = ops.of[blockIdx.z];
    __shared__ uint32_t bins[BINS];
    const struct rows_of_part rows = part_rows(a, blockIdx.x);
    if (rows.first == rows.end) {
        return;
    }
    const struct bar b = find_bar(a, blockIdx.y, level);
    if (b.wanted == 0) {
        return;
    }
    clear_bins(bins);
    const uint32_t known = level_shift(level - 1), next = level_shift(level);
    const uint32_t *const keys = a.keys + (uint64_t)blockIdx.y * a.cols;
    for (uint32_t t = rows.first + threadIdx.x; t < rows.end; t += SELECT_THREADS) {
        const uint32_t key = keys[t];
        if (key >> known == b.bits >> known && key != 0) {
            atomicAdd(&bins[key >> next & ((1u << (known - next)) - 1)], 1u);
        }
    }
    add_bins(a.bins + ((uint64_t)blockIdx.y * LEVELS + level) * BINS, bins);
}

static __device__ bool is_above(const struct bar &b, uint32_t key) {
    return key != 0 && (b.wanted == 0 || key > b.bits);
}

static __device__ bool is_at(const struct bar &b, uint32_t key) {
    return key != 0 && b.wanted != 0 && key == b.bits;
}

/* Block (part, KV head, op). */
static __global__ void k_topk_count(const __grid_constant__ struct cu_group<topk_args> ops) {
    const struct topk_args &a = ops.of[blockIdx.z];
    const struct rows_of_part rows = part_rows(a, blockIdx.x);
    const struct bar b = find_bar(a, blockIdx.y, LEVELS);
    const uint32_t *const keys = a.keys + (uint64_t)blockIdx.y * a.cols;
    uint32_t above = 0, at = 0;
    for (uint32_t t = rows.first + threadIdx.x; t < rows.end; t += SELECT_THREADS) {
        above += is_above(b, keys[t]);
        at += is_at(b, keys[t]);
    }
    uint32_t all_above, all_at;
    block_scan(above, &all_above);
    block_scan(at, &all_at);
    if (threadIdx.x == 0) {
        uint32_t *const found = a.found + ((uint64_t)blockIdx.y * a.n_parts + blockIdx.x) * 2;
        found[0] = all_above;
        found[1] = all_at;
    }
}

static __device__ uint32_t least(uint32_t x, uint32_t y) { return x < y ? x : y; }

/* Block (part, KV head, op). */
static __global__ void k_topk_write(const __grid_constant__ struct cu_group<topk_args> ops) {
    const struct topk_args &a = ops.of[blockIdx.z];
    const struct rows_of_part rows = part_rows(a, blockIdx.x);
    const struct bar b = find_bar(a, blockIdx.y, LEVELS);
    const uint32_t *const keys = a.keys + (uint64_t)blockIdx.y * a.cols;
    const uint32_t *const found = a.found + (uint64_t)blockIdx.y * a.n_parts * 2;
    int32_t *const idx = a.idx + (uint64_t)blockIdx.y * a.k;
    uint32_t above = 0, at = 0, all_above = 0, all_at = 0;
    for (uint32_t p = threadIdx.x; p < a.n_parts; p += SELECT_THREADS) {
        above += p < blockIdx.x ? found[2 * p] : 0;
        at += p < blockIdx.x ? found[2 * p + 1] : 0;
        all_above += found[2 * p];
        all_at += found[2 * p + 1];
    }
    block_scan(above, &above);
    block_scan(at, &at);
    for (uint32_t t0 = rows.first; t0 < rows.end; t0 += SELECT_THREADS) {
        const uint32_t t = t0 + threadIdx.x, key = t < rows.end ? keys[t] : 0;
        uint32_t new_above, new_at;
        const uint32_t above_before = above + block_scan(is_above(b, key), &new_above);
        const uint32_t at_before = at + block_scan(is_at(b, key), &new_at);
        if (is_above(b, key) || (is_at(b, key) && at_before < b.wanted)) {
            idx[above_before + least(at_before, b.wanted)] = (int32_t)t;
        }
        above += new_above;
        at += new_at;
    }
    if (blockIdx.x == 0) {
        block_scan(all_above, &all_above);
        block_scan(all_at, &all_at);
        for (uint32_t i = all_above + least(all_at, b.wanted) + threadIdx.x; i < a.k;
             i += SELECT_THREADS) {
            idx[i] = -1;
        }
    }
}

/* ---- kernels: the hot set ---- */

struct fetch_args {
    const int32_t *idx; /* (n_kv_heads, k) */
    int32_t *slot, *owner, *used, *hand, *counts;
    int32_t *misses;    /* (n_kv_heads, k) places in idx that missed, in order */
    uint32_t *n_misses; /* (n_kv_heads) */
    uint8_t *hot_k, *hot_v;
    const uint8_t *home_k, *home_v;
    uint64_t k_bytes, v_bytes; /* of a row */
    uint32_t k, n_slots, home_rows, row0;
    bool by_pieces;
};

/* What one head's block works on. */
struct hot_head {
    const int32_t *idx;
    int32_t *slot, *owner, *used, *misses;
    uint32_t hand;
    bool empty;
};

/* Where in the n ascending rows the given one stands; n: nowhere. */
static __device__ uint32_t place_of(const int32_t *rows, uint32_t n, int32_t row) {
    uint32_t at = 0;
    for (uint32_t left = n; left > 1; left -= left / 2) {
        at += rows[at + left / 2] <= row ? left / 2 : 0;
    }
    return n > 0 && rows[at] == row ? at : n;
}

/* Every slot asks whether its row is wanted: no table of rows is needed, and a slot's owner is read
 * once. Behind it slot says where each row is, -1: nowhere. */
static __device__ void find_slots(const struct fetch_args &a, const struct hot_head &h) {
    __shared__ int32_t close[FETCH_CLOSE];
    uint32_t some = 0, n_some;
    for (uint32_t j = threadIdx.x; j < a.k; j += SELECT_THREADS) {
        const int32_t row = h.idx[j];
        some += row >= 0;
        h.slot[j] = -1;
        if (j < FETCH_CLOSE) {
            close[j] = row;
        }
    }
    block_scan(some, &n_some); /* also a barrier behind the loop */
    const int32_t *const rows = n_some <= FETCH_CLOSE ? close : h.idx;
    for (uint32_t s = threadIdx.x; s < a.n_slots; s += SELECT_THREADS) {
        const int32_t row = h.empty ? -1 : h.owner[s];
        const uint32_t j = row >= 0 ? place_of(rows, n_some, row) : n_some;
        if (j < n_some) {
            h.slot[j] = (int32_t)s;
            h.used[s] = 2;
        } else if (h.empty) {
            h.owner[s] = -1;
            h.used[s] = 0;
        }
    }
    __syncthreads();
}

/* *n_hits rows are there; returns how many are not, listed in order. */
static __device__ uint32_t look_up(const struct fetch_args &a, const struct hot_head &h,
                                   uint32_t *n_hits) {
    uint32_t n_misses = 0;
    *n_hits = 0;
    find_slots(a, h);
    for (uint32_t j0 = 0; j0 < a.k; j0 += SELECT_THREADS) {
        const uint32_t j = j0 + threadIdx.x;
        const int32_t row = j < a.k ? h.idx[j] : -1, slot = j < a.k ? h.slot[j] : -1;
        uint32_t hits, missing;
        block_scan(slot >= 0, &hits);
        const uint32_t before = block_scan(row >= 0 && slot < 0, &missing);
        if (row >= 0 && slot < 0) {
            h.misses[n_misses + before] = (int32_t)j;
        }
        n_misses += missing;
        *n_hits += hits;
    }
    __syncthreads();
    return n_misses;
}

/* One lap of the hand: the misses from `taken` on take slots that are free. Returns how many misses
 * have a slot then. */
static __device__ uint32_t lap(const struct fetch_args &a, const struct hot_head &h, uint32_t taken,
                               uint32_t n_misses, int32_t *hand) {
    for (uint32_t p0 = 0; p0 < a.n_slots && taken < n_misses; p0 += SELECT_THREADS) {
        const uint32_t p = p0 + threadIdx.x;
        const uint32_t s = (uint32_t)(((uint64_t)h.hand + p) % a.n_slots);
        const int32_t used = p < a.n_slots ? h.used[s] : 2;
        uint32_t n_free;
        const uint32_t place = taken + block_scan(used == 0, &n_free);
        if (used == 1 && place < n_misses) {
            h.used[s] = 0; /* passed: its second chance */
        }
        if (used == 0 && place < n_misses) {
            const int32_t j = h.misses[place];
            h.owner[s] = h.idx[j];
            h.used[s] = 2;
            h.slot[j] = (int32_t)s;
            if (place + 1 == n_misses) {
                *hand = s + 1 < a.n_slots ? (int32_t)s + 2 : 1;
            }
        }
        taken = least(taken + n_free, n_misses);
    }
    __syncthreads();
    return taken;
}

/* Block (KV head, -, op). */
static __global__ void k_fetch_plan(const __grid_constant__ struct cu_group<fetch_args> ops) {
    const struct fetch_args &a = ops.of[blockIdx.z];
    const uint32_t head = blockIdx.x;
    const int32_t hand = a.hand[head];
    const struct hot_head h = {a.idx + (uint64_t)head * a.k,
                               a.slot + (uint64_t)head * a.k,
                               a.owner + (uint64_t)head * a.n_slots,
                               a.used + (uint64_t)head * a.n_slots,
                               a.misses + (uint64_t)head * a.k,
                               hand > 0 ? (uint32_t)hand - 1 : 0,
                               hand == 0};
    __syncthreads(); /* all know where the hand was */
    if (threadIdx.x == 0 && h.empty) {
        a.hand[head] = 1;
    }
    uint32_t n_hits;
    const uint32_t n_misses = look_up(a, h, &n_hits);
    uint32_t taken = lap(a, h, 0, n_misses, a.hand + head);
    if (taken < n_misses) {
        taken = lap(a, h, taken, n_misses, a.hand + head);
    }
    for (uint32_t j = threadIdx.x; j < a.k; j += SELECT_THREADS) {
        if (h.slot[j] >= 0) {
            h.used[h.slot[j]] = 1;
        }
    }
    if (threadIdx.x == 0) {
        a.n_misses[head] = n_misses;
        atomicAdd(&a.counts[0], (int)n_hits);
        atomicAdd(&a.counts[1], (int)n_misses);
    }
}

static __device__ void copy_bytes(uint8_t *to, const uint8_t *from, uint64_t bytes, uint32_t lane) {
    for (uint64_t at = lane; at < bytes; at += CU_WARP) {
        to[at] = from[at];
    }
}

/* Piece `at` of a row's key and value behind each other. */
struct fetch_row {
    const uint8_t *from_k, *from_v;
    uint8_t *to_k, *to_v;
    uint64_t k_bytes, bytes;
};

static __device__ uint4 read_piece(const struct fetch_row &r, uint64_t at) {
    return *(const uint4 *)(const void *)(at < r.k_bytes ? r.from_k + at
                                                         : r.from_v + (at - r.k_bytes));
}

static __device__ void write_piece(const struct fetch_row &r, uint64_t at, uint4 piece) {
    *(uint4 *)(void *)(at < r.k_bytes ? r.to_k + at : r.to_v + (at - r.k_bytes)) = piece;
}

/* Key and value at once, and two pieces a lane before the first is written: a read of the link
 * takes a microsecond and more, and a warp that copies one behind the other waits twice. A row of
 * 128 halves is 512 bytes, one instruction of a warp; 256 are two. */
static __device__ void copy_row(const struct fetch_row &r, uint32_t lane) {
    constexpr uint64_t wide = 16 * CU_WARP;
    for (uint64_t at = 16 * lane; at < r.bytes; at += 2 * wide) {
        const bool has_next = at + wide < r.bytes;
        const uint4 piece = read_piece(r, at);
        const uint4 next = has_next ? read_piece(r, at + wide) : piece;
        write_piece(r, at, piece);
        if (has_next) {
            write_piece(r, at + wide, next);
        }
    }
}

/* A warp a missing row: block (misses, KV head, op). Home is host memory, read across the link. */
static __global__ void k_fetch_copy(const __grid_constant__ struct cu_group<fetch_args> ops) {
    const struct fetch_args &a = ops.of[blockIdx.z];
    const uint32_t lane = threadIdx.x % CU_WARP, head = blockIdx.y;
    const uint32_t miss = blockIdx.x * COPY_WARPS + threadIdx.x / CU_WARP;
    if (miss >= a.n_misses[head]) {
        return;
    }
    const uint64_t j = (uint64_t)head * a.k + (uint32_t)a.misses[(uint64_t)head * a.k + miss];
    const uint64_t from = (uint64_t)head * a.home_rows + a.row0 + (uint32_t)a.idx[j];
    const uint64_t to = (uint64_t)head * a.n_slots + (uint32_t)a.slot[j];
    const struct fetch_row row = {a.home_k + from * a.k_bytes,
                                  a.home_v + from * a.v_bytes,
                                  a.hot_k + to * a.k_bytes,
                                  a.hot_v + to * a.v_bytes,
                                  a.k_bytes,
                                  a.k_bytes + a.v_bytes};
    if (a.by_pieces) {
        copy_row(row, lane);
    } else {
        copy_bytes(row.to_k, row.from_k, a.k_bytes, lane);
        copy_bytes(row.to_v, row.from_v, a.v_bytes, lane);
    }
}

/* ---- launchers ---- */

/* The parts of top-k's scratch; those that begin as zeros first. Returns its bytes. */
static uint64_t topk_layout(const struct cu_exec *x, const struct tl_topk *op, uint8_t *base,
                            struct topk_args *a, uint64_t *zero_bytes) {
    const uint64_t n = op->idx.rows, cols = op->score.cols;
    uint64_t at = 0;
    a->part_rows = x->tuning->topk_part_rows;
    a->n_parts = cu_div_up(cols, a->part_rows);
    a->most = (uint32_t *)(void *)base;
    at += tl_align_up(op->score.rows * 4ull, 256);
    a->bins = (uint32_t *)(void *)(base + at);
    at += n * LEVELS * BINS * 4;
    *zero_bytes = at;
    a->found = (uint32_t *)(void *)(base + at);
    at += tl_align_up(n * a->n_parts * 8, 256);
    a->keys = (uint32_t *)(void *)(base + at);
    return at + n * cols * 4;
}

uint64_t cu_topk_scratch(const struct cu_exec *x, const struct tl_topk *op) {
    struct topk_args a;
    uint64_t zero_bytes;
    return topk_layout(x, op, nullptr, &a, &zero_bytes);
}

cudaError_t cu_topk(const struct cu_exec *x, const struct tl_topk *const *ops, uint32_t n) {
    struct cu_group<topk_args> all = {};
    for (uint32_t i = 0; i < n; i++) {
        const struct tl_topk *const op = ops[i];
        struct topk_args &a = all.of[i];
        uint64_t zero_bytes;
        topk_layout(x, op, cu_scratch_of(x, i), &a, &zero_bytes);
        a.idx = cu_at<int32_t>(op->idx);
        a.score = cu_at<const float>(op->score);
        a.base = op->base.buf != nullptr ? cu_at<const float>(op->base) : nullptr;
        a.n_rows = cu_at<const int32_t>(op->n_rows);
        a.k = op->idx.cols;
        a.cols = op->score.cols;
        a.group = op->score.rows / op->idx.rows;
        CU_TRY(cudaMemsetAsync(a.most, 0, zero_bytes, x->stream));
    }
    const uint32_t n_parts = all.of[0].n_parts;
    const dim3 grid(n_parts, ops[0]->idx.rows, n), by_query(n_parts, ops[0]->score.rows, n);
    CU_TRY(cu_launch(x, by_query, SELECT_THREADS, 0, k_topk_most, all));
    CU_TRY(cu_launch(x, grid, SELECT_THREADS, 0, k_topk_keys, all));
    CU_TRY(cu_launch(x, grid, SELECT_THREADS, 0, k_topk_refine, all, 1u));
    CU_TRY(cu_launch(x, grid, SELECT_THREADS, 0, k_topk_refine, all, 2u));
    CU_TRY(cu_launch(x, grid, SELECT_THREADS, 0, k_topk_count, all));
    return cu_launch(x, grid, SELECT_THREADS, 0, k_topk_write, all);
}

uint64_t cu_fetch_scratch(const struct cu_exec *x, const struct tl_fetch *op) {
    (void)x;
    return ((uint64_t)op->idx.rows * op->idx.cols + op->idx.rows) * sizeof(int32_t);
}

static struct fetch_args fetch_of(const struct tl_fetch *op, uint8_t *scratch) {
    const uint32_t n = op->idx.rows, k = op->idx.cols;
    struct fetch_args a = {};
    a.idx = cu_at<const int32_t>(op->idx);
    a.slot = cu_at<int32_t>(op->slot);
    a.owner = cu_at<int32_t>(op->owner);
    a.used = cu_at<int32_t>(op->used);
    a.hand = cu_at<int32_t>(op->hand);
    a.counts = cu_at<int32_t>(op->counts);
    a.misses = (int32_t *)(void *)scratch;
    a.n_misses = (uint32_t *)(void *)a.misses + (uint64_t)n * k;
    a.hot_k = cu_at<uint8_t>(op->hot.k);
    a.hot_v = cu_at<uint8_t>(op->hot.v);
    a.home_k = cu_at<const uint8_t>(op->home.k);
    a.home_v = cu_at<const uint8_t>(op->home.v);
    a.k_bytes = tl_row_bytes(op->home.k.dtype, op->home.k.cols);
    a.v_bytes = tl_row_bytes(op->home.v.dtype, op->home.v.cols);
    a.k = k;
    a.n_slots = op->owner.cols;
    a.home_rows = op->home.k.rows / n;
    a.row0 = op->row0;
    const uintptr_t all = (uintptr_t)a.hot_k | (uintptr_t)a.hot_v | (uintptr_t)a.home_k |
                          (uintptr_t)a.home_v | a.k_bytes | a.v_bytes;
    a.by_pieces = (all & 15u) == 0;
    return a;
}

cudaError_t cu_fetch(const struct cu_exec *x, const struct tl_fetch *const *ops, uint32_t n) {
    const uint32_t n_heads = ops[0]->idx.rows, k = ops[0]->idx.cols;
    struct cu_group<fetch_args> all = {};
    for (uint32_t i = 0; i < n; i++) {
        all.of[i] = fetch_of(ops[i], cu_scratch_of(x, i));
    }
    CU_TRY(cu_launch(x, dim3(n_heads, 1, n), SELECT_THREADS, 0, k_fetch_plan, all));
    return cu_launch(x, dim3(cu_div_up(k, COPY_WARPS), n_heads, n), COPY_WARPS * CU_WARP, 0,
                     k_fetch_copy, all);
}
