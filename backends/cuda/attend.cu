/* Exact attention, over rows in order and over rows named one by one. The sequence is cut into
 * parts, as many as keep the card busy; a block takes one part of one KV head for up to HEADS query
 * heads, which share every row it reads. Parts are joined by their log-sum-exps. How many parts
 * there are depends on the cache's capacity only; where they begin, on the row count that the
 * kernel reads.
 *
 * A part in scratch, for each (query, head): d sums of weighted values, the largest score, the sum
 * of weights. Parts without rows have the score -inf. */
#include "formats.cuh"

enum {
    ATTEND_THREADS = 128,
    ATTEND_WARPS = ATTEND_THREADS / CU_WARP,
    HEADS = 8,      /* query heads of a block */
    WIDE_HEADS = 4, /* where a head is wider than 256 */
    TILE_ROWS_MAX = 32,
    PART_EXTRA = 2, /* floats behind the sums: score, weights */
    PAD = 8,        /* elements behind a row in shared memory, so that rows start in other banks */
};

struct attend_args {
    const float *q; /* (n, n_heads * d) */
    float *out, *lse;
    float *part; /* (n, n_heads, n_parts, d + PART_EXTRA) or NULL: one part, straight to out */
    const uint8_t *k, *v;
    const int32_t *q_pos, *n_rows; /* rows in order */
    const int32_t *slot;           /* (n_kv_heads, n_slots), or NULL: rows in order */
    uint64_t k_row_bytes, v_row_bytes;
    tl_dtype k_dtype, v_dtype;
    uint32_t d, n_heads, group, cap, row0, n_slots, n_parts, window, tile_rows, head_chunks;
    float scale, softcap;
    bool by_pieces; /* rows are whole pieces of 16 bytes */
};

/* ---- kernels ---- */

struct span {
    int64_t first, end;
};

static __device__ struct span rows_seen(const struct attend_args &a, uint32_t i) {
    if (a.slot != nullptr) {
        return {0, a.n_slots};
    }
    const int64_t n_rows = a.n_rows[0], pos = a.q_pos[i];
    int64_t end = pos + 1 < n_rows ? pos + 1 : n_rows;
    end = end > 0 ? end : 0;
    int64_t first = a.window != 0 ? pos + 1 - (int64_t)a.window : 0;
    first = first > 0 ? first : 0;
    return {first < end ? first : end, end};
}

/* What a block keeps in shared memory. */
template <class E> struct attend_room {
    E *k, *v;      /* (tile_rows, stride) */
    float *q;      /* (HEADS, stride), zeros behind d */
    float *score;  /* (HEADS, TILE_ROWS_MAX) */
    float *shrink; /* (HEADS) */
    int32_t *row;  /* (TILE_ROWS_MAX) of the cache, -1 for none */
    uint32_t stride;
};

static inline __host__ __device__ uint32_t attend_stride(uint32_t d) {
    return (d + 7) / 8 * 8 + PAD;
}

static inline __host__ __device__ uint32_t attend_heads(uint32_t d) {
    return d > 256 ? WIDE_HEADS : HEADS;
}

static __device__ void to_shared(__half *to, float value) { *to = __float2half_rn(value); }
static __device__ void to_shared(float *to, float value) { *to = value; }

/* One tile of keys or values; rows that are none are zeros. */
template <class E>
static __device__ void load_rows(const struct attend_args &a, const struct attend_room<E> &room,
                                 E *to, const uint8_t *from, tl_dtype dtype, uint64_t row_bytes) {
    if (a.by_pieces && sizeof(E) == 2) {
        const uint32_t n = (uint32_t)row_bytes / 16;
        for (uint32_t at = threadIdx.x; at < a.tile_rows * n; at += ATTEND_THREADS) {
            const uint32_t t = at / n, piece = at % n;
            uint4 *const dst = (uint4 *)(void *)(to + t * room.stride) + piece;
            if (room.row[t] >= 0) {
                __pipeline_memcpy_async(dst, from + room.row[t] * row_bytes + 16 * piece, 16);
            } else {
                *dst = {0, 0, 0, 0};
            }
        }
    } else {
        const uint32_t wide = room.stride - PAD;
        for (uint32_t at = threadIdx.x; at < a.tile_rows * wide; at += ATTEND_THREADS) {
            const uint32_t t = at / wide, j = at % wide;
            const bool some = room.row[t] >= 0 && j < a.d;
            to_shared(to + t * room.stride + j,
                      some ? cu_cache_element(dtype, from + room.row[t] * row_bytes, j) : 0.0f);
        }
    }
}

static __device__ float dot8(const __half *k, const float *q) {
    const uint4 raw = *(const uint4 *)(const void *)k;
    const __half2 *const pairs = (const __half2 *)(const void *)&raw;
    const float4 a = *(const float4 *)(const void *)q, b = *(const float4 *)(const void *)(q + 4);
    const float2 k0 = __half22float2(pairs[0]), k1 = __half22float2(pairs[1]);
    const float2 k2 = __half22float2(pairs[2]), k3 = __half22float2(pairs[3]);
    return (k0.x * a.x + k0.y * a.y) + (k1.x * a.z + k1.y * a.w) +
           ((k2.x * b.x + k2.y * b.y) + (k3.x * b.z + k3.y * b.w));
}

static __device__ float dot8(const float *k, const float *q) {
    float sum = 0.0f;
    for (int e = 0; e < 8; e += 4) {
        const float4 a = *(const float4 *)(const void *)(k + e);
        const float4 b = *(const float4 *)(const void *)(q + e);
        sum += (a.x * b.x + a.y * b.y) + (a.z * b.z + a.w * b.w);
    }
    return sum;
}

/* Scores of n_heads heads with the tile; a dot product is shared by as many lanes as there are too
 * many of, up to 4. */
template <class E>
static __device__ void score_tile(const struct attend_args &a, const struct attend_room<E> &room,
                                  uint32_t n_heads) {
    const uint32_t dots = a.tile_rows * n_heads, wide = room.stride - PAD;
    const uint32_t lanes = dots >= ATTEND_THREADS ? 1 : 2 * dots >= ATTEND_THREADS ? 2 : 4;
    for (uint32_t base = 0; base < dots * lanes; base += ATTEND_THREADS) {
        const uint32_t at = base + threadIdx.x, dot = at / lanes, part = at % lanes;
        const bool some = dot < dots;
        const uint32_t h = some ? dot / a.tile_rows : 0, t = some ? dot % a.tile_rows : 0;
        float sums[2] = {0.0f, 0.0f};
        for (uint32_t j = 8 * part; j < wide; j += 16 * lanes) {
            sums[0] += dot8(room.k + t * room.stride + j, room.q + h * room.stride + j);
            if (j + 8 * lanes < wide) {
                const uint32_t next = j + 8 * lanes;
                sums[1] += dot8(room.k + t * room.stride + next, room.q + h * room.stride + next);
            }
        }
        float sum = sums[0] + sums[1];
        for (uint32_t o = lanes / 2; o > 0; o /= 2) {
            sum += __shfl_xor_sync(CU_ALL, sum, (int)o);
        }
        if (some && part == 0) {
            room.score[h * TILE_ROWS_MAX + t] =
                room.row[t] >= 0 ? cu_cap(sum * a.scale, a.softcap) : -INFINITY;
        }
    }
}

/* The largest score and the sum of weights so far; every lane of a warp has its heads'. */
struct attend_state {
    float most[HEADS / ATTEND_WARPS], weights[HEADS / ATTEND_WARPS];
};

/* Scores become weights; warp w does heads w, w + ATTEND_WARPS. */
template <class E>
static __device__ void weigh_tile(const struct attend_args &a, const struct attend_room<E> &room,
                                  uint32_t n_heads, struct attend_state *s) {
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
#pragma unroll
    for (uint32_t i = 0; i < HEADS / ATTEND_WARPS; i++) {
        const uint32_t h = warp + i * ATTEND_WARPS;
        if (h < n_heads) {
            float *const score = room.score + h * TILE_ROWS_MAX;
            const float mine = lane < a.tile_rows ? score[lane] : -INFINITY;
            const float most = fmaxf(s->most[i], cu_warp_max(mine));
            const float weight = mine > -INFINITY ? expf(mine - most) : 0.0f;
            const float shrink = s->most[i] > -INFINITY ? expf(s->most[i] - most) : 0.0f;
            if (lane < TILE_ROWS_MAX) {
                score[lane] = weight;
            }
            s->weights[i] = s->weights[i] * shrink + cu_warp_sum(weight);
            s->most[i] = most;
            if (lane == 0) {
                room.shrink[h] = shrink;
            }
        }
    }
}

static __device__ float at_shared(const __half *p) { return __half2float(*p); }
static __device__ float at_shared(const float *p) { return *p; }

/* sums[h][i] of column threadIdx + 128 i. */
template <class E, int COLUMNS, int H>
static __device__ void mix_tile(const struct attend_args &a, const struct attend_room<E> &room,
                                uint32_t n_heads, float (&sums)[H][COLUMNS]) {
#pragma unroll
    for (int i = 0; i < COLUMNS; i++) {
        const uint32_t c = threadIdx.x + i * ATTEND_THREADS;
        if (c < a.d) {
#pragma unroll
            for (int h = 0; h < H; h++) {
                sums[h][i] *= (uint32_t)h < n_heads ? room.shrink[h] : 1.0f;
            }
            for (uint32_t t = 0; t < a.tile_rows; t += 4) {
                float v[4];
#pragma unroll
                for (uint32_t e = 0; e < 4; e++) {
                    v[e] = at_shared(room.v + (t + e) * room.stride + c);
                }
#pragma unroll
                for (int h = 0; h < H; h++) {
                    if ((uint32_t)h < n_heads) {
                        const float4 w =
                            *(const float4 *)(const void *)(room.score + h * TILE_ROWS_MAX + t);
                        sums[h][i] += (w.x * v[0] + w.y * v[1]) + (w.z * v[2] + w.w * v[3]);
                    }
                }
            }
        }
    }
}

template <class E>
static __device__ struct attend_room<E> attend_layout(const struct attend_args &a,
                                                      unsigned char *at) {
    struct attend_room<E> room;
    room.stride = attend_stride(a.d);
    room.k = (E *)(void *)at;
    room.v = room.k + a.tile_rows * room.stride;
    room.q = (float *)(void *)(room.v + a.tile_rows * room.stride);
    room.score = room.q + attend_heads(a.d) * room.stride;
    room.shrink = room.score + HEADS * TILE_ROWS_MAX;
    room.row = (int32_t *)(void *)(room.shrink + HEADS);
    return room;
}

/* The end of a part: head h of this block is head `head` of query i. */
template <class E, int COLUMNS, int H>
static __device__ void attend_end(const struct attend_args &a, const struct attend_room<E> &room,
                                  uint32_t n_heads, uint32_t head0, uint32_t i,
                                  const struct attend_state &s, float (&sums)[H][COLUMNS]) {
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    float *const most = room.score, *const weights = room.score + HEADS;
    __syncthreads();
#pragma unroll
    for (uint32_t j = 0; j < HEADS / ATTEND_WARPS; j++) {
        if (lane == 0) {
            most[warp + j * ATTEND_WARPS] = s.most[j];
            weights[warp + j * ATTEND_WARPS] = s.weights[j];
        }
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < H; h++) {
        if ((uint32_t)h >= n_heads) {
            break;
        }
        const uint64_t item = (uint64_t)i * a.n_heads + head0 + h;
        float *const part = a.part + (item * a.n_parts + blockIdx.x) * (a.d + PART_EXTRA);
        const float share = weights[h] > 0.0f ? __fdividef(1.0f, weights[h]) : 0.0f;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            const uint32_t c = threadIdx.x + j * ATTEND_THREADS;
            if (c < a.d) {
                if (a.part != nullptr) {
                    part[c] = sums[h][j];
                } else {
                    a.out[item * a.d + c] = sums[h][j] * share;
                }
            }
        }
        if (threadIdx.x == 0) {
            if (a.part != nullptr) {
                part[a.d] = most[h];
                part[a.d + 1] = weights[h];
            } else if (a.lse != nullptr) {
                a.lse[item] = weights[h] > 0.0f ? most[h] + logf(weights[h]) : -INFINITY;
            }
        }
    }
}

/* Block (part, KV head x chunk of its query heads, query of an op). E: half where the cache is F16.
 */
template <class E, int COLUMNS, int H>
static __global__ void __launch_bounds__(ATTEND_THREADS, 4)
    k_attend(const __grid_constant__ struct cu_group<attend_args> ops, uint32_t depth) {
    CU_DYNAMIC_SHARED(shared);
    const struct attend_args &a = ops.of[blockIdx.z / depth];
    const struct attend_room<E> room = attend_layout<E>(a, shared);
    const uint32_t i = blockIdx.z % depth, kv_head = blockIdx.y / a.head_chunks;
    const uint32_t chunk = blockIdx.y % a.head_chunks * H;
    const uint32_t n_heads = a.group - chunk < (uint32_t)H ? a.group - chunk : H;
    const uint32_t head0 = kv_head * a.group + chunk;
    const struct span seen = rows_seen(a, i);
    const int64_t per = ((seen.end - seen.first + a.n_parts - 1) / a.n_parts + a.tile_rows - 1) /
                        a.tile_rows * a.tile_rows;
    const int64_t first = seen.first + (int64_t)blockIdx.x * per;
    const int64_t end = first + per < seen.end ? first + per : seen.end;
    for (uint32_t at = threadIdx.x; at < n_heads * room.stride; at += ATTEND_THREADS) {
        const uint32_t h = at / room.stride, j = at % room.stride;
        room.q[at] = j < a.d ? a.q[((uint64_t)i * a.n_heads + head0 + h) * a.d + j] : 0.0f;
    }
    struct attend_state s;
#pragma unroll
    for (uint32_t j = 0; j < HEADS / ATTEND_WARPS; j++) {
        s.most[j] = -INFINITY;
        s.weights[j] = 0.0f;
    }
    float sums[H][COLUMNS] = {};
    for (int64_t t0 = first; t0 < end; t0 += a.tile_rows) {
        __syncthreads();
        if (threadIdx.x < a.tile_rows) {
            const int64_t t = t0 + threadIdx.x;
            int64_t row = t < end ? t : -1;
            if (a.slot != nullptr && row >= 0) {
                row = a.slot[(uint64_t)kv_head * a.n_slots + t];
            }
            room.row[threadIdx.x] = row < 0 ? -1 : (int32_t)(a.row0 + row);
        }
        __syncthreads();
        load_rows<E>(a, room, room.k, a.k + (uint64_t)kv_head * a.cap * a.k_row_bytes, a.k_dtype,
                     a.k_row_bytes);
        load_rows<E>(a, room, room.v, a.v + (uint64_t)kv_head * a.cap * a.v_row_bytes, a.v_dtype,
                     a.v_row_bytes);
        __pipeline_commit();
        __pipeline_wait_prior(0);
        __syncthreads();
        score_tile<E>(a, room, n_heads);
        __syncthreads();
        weigh_tile<E>(a, room, n_heads, &s);
        __syncthreads();
        mix_tile<E, COLUMNS, H>(a, room, n_heads, sums);
    }
    attend_end<E, COLUMNS, H>(a, room, n_heads, head0, i, s, sums);
}

/* Block (head of a query, op). */
static __global__ void k_join_parts(const __grid_constant__ struct cu_group<cu_parts> ops) {
    const struct cu_parts &a = ops.of[blockIdx.y];
    const uint64_t item = blockIdx.x;
    const float *const part = a.part + item * a.n_parts * (a.d + PART_EXTRA);
    float most = -INFINITY, weights = 0.0f;
    for (uint32_t p = 0; p < a.n_parts; p++) {
        most = fmaxf(most, part[(uint64_t)p * (a.d + PART_EXTRA) + a.d]);
    }
    for (uint32_t p = 0; p < a.n_parts; p++) {
        const float *const at = part + (uint64_t)p * (a.d + PART_EXTRA) + a.d;
        weights += at[0] > -INFINITY ? expf(at[0] - most) * at[1] : 0.0f;
    }
    for (uint32_t c = threadIdx.x; c < a.d; c += blockDim.x) {
        float sum = 0.0f;
        for (uint32_t p = 0; p < a.n_parts; p++) {
            const float *const at = part + (uint64_t)p * (a.d + PART_EXTRA);
            sum += at[a.d] > -INFINITY ? expf(at[a.d] - most) * at[c] : 0.0f;
        }
        a.out[item * a.d + c] = weights > 0.0f ? sum / weights : 0.0f;
    }
    if (threadIdx.x == 0 && a.lse != nullptr) {
        a.lse[item] = weights > 0.0f ? most + logf(weights) : -INFINITY;
    }
}

/* ---- launchers ---- */

cudaError_t cu_join_parts(const struct cu_exec *x, const struct cu_parts *ops, uint32_t n) {
    struct cu_group<cu_parts> group = {};
    for (uint32_t i = 0; i < n; i++) {
        group.of[i] = ops[i];
    }
    return cu_launch(x, dim3(ops->n_rows, n), 128, 0, k_join_parts, group);
}

/* Parts of `rows` rows, of which `blocks` blocks of an op stand side by side anyway. */
static uint32_t parts_of(const struct cu_exec *x, uint64_t rows, uint64_t blocks) {
    const uint64_t wanted = (uint64_t)x->n_sms * x->tuning->attend_sm_parts;
    const uint64_t useful = tl_div_up(rows, 4 * TILE_ROWS_MAX);
    return (uint32_t)tl_max_u64(1, tl_min_u64(tl_div_up(wanted, blocks * x->together), useful));
}

static uint32_t tile_rows_of(const struct cu_exec *x, uint32_t d, uint32_t elem_bytes) {
    const uint32_t row_bytes = 2 * attend_stride(d) * elem_bytes;
    uint32_t rows = TILE_ROWS_MAX;
    while (rows > 4 && rows * row_bytes > x->tuning->attend_tile_bytes) {
        rows /= 2;
    }
    return rows;
}

/* n_ops ops of n queries each. */
template <class E>
static cudaError_t attend_as(const struct cu_exec *x, struct cu_group<attend_args> &ops,
                             uint32_t n_ops, uint32_t n_kv_heads, uint32_t n) {
    const struct attend_args &a = ops.of[0];
    const uint32_t stride = attend_stride(a.d), heads = attend_heads(a.d);
    const uint32_t tile_rows = tile_rows_of(x, a.d, sizeof(E));
    const size_t bytes = 2ull * tile_rows * stride * sizeof(E) +
                         ((size_t)heads * stride + HEADS * TILE_ROWS_MAX + HEADS) * sizeof(float) +
                         TILE_ROWS_MAX * sizeof(int32_t);
    struct cu_parts parts[CU_TOGETHER_MAX];
    for (uint32_t i = 0; i < n_ops; i++) {
        struct attend_args &one = ops.of[i];
        one.tile_rows = tile_rows;
        parts[i] = {one.part, one.out, one.lse, n * one.n_heads, one.n_parts, one.d};
    }
    const dim3 grid(a.n_parts, n_kv_heads * a.head_chunks, n * n_ops);
    if (a.d > 256) {
        CU_TRY(cu_launch(x, grid, ATTEND_THREADS, bytes, k_attend<E, 4, WIDE_HEADS>, ops, n));
    } else if (a.d > ATTEND_THREADS) {
        CU_TRY(cu_launch(x, grid, ATTEND_THREADS, bytes, k_attend<E, 2, HEADS>, ops, n));
    } else {
        CU_TRY(cu_launch(x, grid, ATTEND_THREADS, bytes, k_attend<E, 1, HEADS>, ops, n));
    }
    return a.part == nullptr ? cudaSuccess : cu_join_parts(x, parts, n_ops);
}

static uint64_t part_bytes(uint64_t items, uint32_t n_parts, uint32_t d) {
    return n_parts == 1 ? 0 : items * n_parts * (d + PART_EXTRA) * sizeof(float);
}

static void fill_rows(const struct cu_exec *x, struct attend_args *a, const struct tl_kv_rows *kv,
                      uint32_t op) {
    a->k = cu_at<const uint8_t>(kv->k);
    a->v = cu_at<const uint8_t>(kv->v);
    a->k_dtype = kv->k.dtype;
    a->v_dtype = kv->v.dtype;
    a->d = kv->k.cols;
    a->k_row_bytes = tl_row_bytes(a->k_dtype, a->d);
    a->v_row_bytes = tl_row_bytes(a->v_dtype, a->d);
    a->cap = kv->k.rows / kv->n_kv_heads;
    a->group = a->n_heads / kv->n_kv_heads;
    a->head_chunks = cu_div_up(a->group, attend_heads(a->d));
    a->part = a->n_parts == 1 ? nullptr : (float *)(void *)cu_scratch_of(x, op);
    a->by_pieces = a->d % 8 == 0 && (((uintptr_t)a->k | (uintptr_t)a->v) & 15u) == 0;
}

/* The queries from `first` on. */
static struct attend_args from_query(struct attend_args a, uint32_t first) {
    a.q += (uint64_t)first * a.n_heads * a.d;
    a.out += (uint64_t)first * a.n_heads * a.d;
    a.lse = a.lse != nullptr ? a.lse + (uint64_t)first * a.n_heads : nullptr;
    a.q_pos = a.q_pos != nullptr ? a.q_pos + first : nullptr;
    return a;
}

static cudaError_t attend_rows(const struct cu_exec *x, const struct cu_group<attend_args> &all,
                               uint32_t n_ops, uint32_t n_kv_heads, uint32_t n) {
    const struct attend_args &a = all.of[0];
    const uint32_t most = 65535 / n_ops; /* blocks of a grid's depth */
    for (uint32_t first = 0; first < n; first += most) {
        struct cu_group<attend_args> some = {};
        const uint32_t rows = n - first < most ? n - first : most;
        for (uint32_t i = 0; i < n_ops; i++) {
            some.of[i] = from_query(all.of[i], first);
        }
        if (a.k_dtype == TL_F16 && a.v_dtype == TL_F16) {
            CU_TRY(attend_as<__half>(x, some, n_ops, n_kv_heads, rows));
        } else {
            CU_TRY(attend_as<float>(x, some, n_ops, n_kv_heads, rows));
        }
    }
    return cudaSuccess;
}

static uint32_t attend_parts(const struct cu_exec *x, const struct tl_attend *op) {
    uint64_t rows = op->kv.k.rows / op->kv.n_kv_heads;
    rows = op->window != 0 ? tl_min_u64(rows, op->window) : rows;
    return parts_of(x, rows, (uint64_t)op->kv.n_kv_heads * op->q.rows);
}

uint64_t cu_attend_scratch(const struct cu_exec *x, const struct tl_attend *op) {
    if (cu_attend_tile_fits(x, op)) {
        return 0;
    }
    return part_bytes((uint64_t)op->q.rows * op->n_heads, attend_parts(x, op), op->kv.k.cols);
}

static struct attend_args attend_of(const struct cu_exec *x, const struct tl_attend *op,
                                    uint32_t i) {
    struct attend_args a = {};
    a.q = cu_at<const float>(op->q);
    a.out = cu_at<float>(op->out);
    a.lse = cu_at<float>(op->lse);
    a.q_pos = cu_at<const int32_t>(op->q_pos);
    a.n_rows = cu_at<const int32_t>(op->n_rows);
    a.n_heads = op->n_heads;
    a.n_parts = attend_parts(x, op);
    a.window = op->window;
    a.scale = op->scale;
    a.softcap = op->softcap;
    fill_rows(x, &a, &op->kv, i);
    return a;
}

cudaError_t cu_attend(const struct cu_exec *x, const struct tl_attend *const *ops, uint32_t n) {
    struct cu_group<attend_args> all = {};
    for (uint32_t i = 0; i < n; i++) {
        if (cu_attend_tile_fits(x, ops[0])) {
            CU_TRY(cu_attend_tile(x, ops[i]));
        } else {
            all.of[i] = attend_of(x, ops[i], i);
        }
    }
    return cu_attend_tile_fits(x, ops[0])
               ? cudaSuccess
               : attend_rows(x, all, n, ops[0]->kv.n_kv_heads, ops[0]->q.rows);
}

static uint32_t slots_parts(const struct cu_exec *x, const struct tl_attend_slots *op) {
    return parts_of(x, op->slot.cols, op->kv.n_kv_heads);
}

uint64_t cu_attend_slots_scratch(const struct cu_exec *x, const struct tl_attend_slots *op) {
    return part_bytes(op->n_heads, slots_parts(x, op), op->kv.k.cols);
}

cudaError_t cu_attend_slots(const struct cu_exec *x, const struct tl_attend_slots *const *ops,
                            uint32_t n) {
    struct cu_group<attend_args> all = {};
    for (uint32_t i = 0; i < n; i++) {
        const struct tl_attend_slots *const op = ops[i];
        struct attend_args &a = all.of[i];
        a.q = cu_at<const float>(op->q);
        a.out = cu_at<float>(op->out);
        a.lse = cu_at<float>(op->lse);
        a.slot = cu_at<const int32_t>(op->slot);
        a.n_slots = op->slot.cols;
        a.row0 = op->row0;
        a.n_heads = op->n_heads;
        a.n_parts = slots_parts(x, op);
        a.scale = op->scale;
        a.softcap = op->softcap;
        fill_rows(x, &a, &op->kv, i);
    }
    return attend_rows(x, all, n, ops[0]->kv.n_kv_heads, 1);
}
