/* Attention over compressed rows, and their scores. A block of threads takes cache blocks of one KV
 * head one after the other: codes come into shared memory in pieces of 16 bytes, are expanded to
 * halves, and meet up to 16 queries (the heads of the group, then those of the next query) on
 * tensor cores. The codecs are coarser than a half, so nothing is lost that they had kept. Codes of
 * codebooks become their entries, which lie in shared memory: a table of products of queries and
 * entries (for four heads of 128 and d4b8, 64 KiB of halves) would hold half of a multiprocessor's,
 * and what it saves, products of sixteen queries, is what tensor cores have to spare. Their queries
 * come turned, and outputs are turned back when all parts are joined (vq.cu); entries are
 * multiplied by a block's scale as scores and mixtures.
 *
 * The drawings of cache blocks are in core/codec.h and core/vq.h. Parts of the sequence are joined
 * as in attend.cu. */
#include "vq.cuh"

#include <mma.h>

enum {
    SKETCH_THREADS = 128,
    SKETCH_WARPS = SKETCH_THREADS / CU_WARP,
    QUERIES = 16,                /* of a block: the height of a tensor core's tile */
    CHANNELS = 128,              /* expanded at a time */
    KEY_STRIDE = TL_BLOCK + 8,   /* halves; keys stand channel by channel */
    VALUE_STRIDE = CHANNELS + 8, /* values row by row */
    SCORE_STRIDE = TL_BLOCK + 4, /* floats */
    OUT_STRIDE = CHANNELS + 4,
    WEIGHT_STRIDE = TL_BLOCK + 8, /* halves */
    PART_EXTRA = 2,               /* as in attend.cu */
    SHARED_MAX = 48 << 10,        /* that every launch may have */
    TILE_BYTES = CHANNELS * KEY_STRIDE * 2,
};

static_assert(TILE_BYTES >= TL_BLOCK * VALUE_STRIDE * 2, "the tile holds keys or values");
static_assert(QUERIES * SCORE_STRIDE <= QUERIES * OUT_STRIDE, "scores and outputs share room");

struct sketch_args {
    const float *q;     /* (n, n_heads * d) */
    float *score_to;    /* (n_heads, score_cols): key_score; else NULL */
    const float *score; /* given scores, or NULL */
    float *out, *lse, *part;
    const uint8_t *k, *v;
    const int32_t *n_blocks, *skip;
    uint64_t k_bytes, v_bytes; /* of a cache block */
    uint64_t score_cols;
    uint32_t n, d, n_heads, group, cap, n_parts, n_skip, k_bits, v_bits, value_group, q_stride;
    uint32_t k_raw, v_raw; /* bytes in shared memory for their codes; 0: read in place */
    struct cu_vq k_vq, v_vq;
    uint32_t k_shared, v_shared; /* bytes in shared memory for their codebooks; 0: read in place */
    float scale, softcap;
};

/* ---- kernels ---- */

struct sketch_room {
    __half *q;      /* (QUERIES, q_stride): rows scaled by a power of two, zeros behind d */
    __half *tile;   /* keys (CHANNELS, KEY_STRIDE) or values (TL_BLOCK, VALUE_STRIDE) */
    __half *weight; /* (QUERIES, WEIGHT_STRIDE) */
    float *score;   /* (QUERIES, SCORE_STRIDE); the same room as out */
    float *out;     /* (QUERIES, OUT_STRIDE) */
    float *q_scale, *shrink; /* (QUERIES) */
    uint8_t *k, *v;          /* raw codes */
    const __half *k_book, *v_book;
};

static inline uint32_t sketch_shared(const struct sketch_args &a) {
    return QUERIES * a.q_stride * 2 + TILE_BYTES + QUERIES * WEIGHT_STRIDE * 2 +
           QUERIES * OUT_STRIDE * 4 + 2 * QUERIES * 4 + a.k_raw + a.v_raw + a.k_shared + a.v_shared;
}

static __device__ struct sketch_room sketch_layout(const struct sketch_args &a, uint8_t *at) {
    struct sketch_room room;
    room.tile = (__half *)(void *)at;
    at += TILE_BYTES;
    room.q = (__half *)(void *)at;
    at += QUERIES * a.q_stride * 2;
    room.weight = (__half *)(void *)at;
    at += QUERIES * WEIGHT_STRIDE * 2;
    room.score = room.out = (float *)(void *)at;
    at += QUERIES * OUT_STRIDE * 4;
    room.q_scale = (float *)(void *)at;
    room.shrink = room.q_scale + QUERIES;
    room.k = at + 2 * QUERIES * 4;
    room.v = room.k + a.k_raw;
    at = room.v + a.v_raw;
    room.k_book = a.k_shared != 0 ? (const __half *)(const void *)at : a.k_vq.book;
    room.v_book = a.v_shared != 0 ? (const __half *)(const void *)(at + a.k_shared) : a.v_vq.book;
    return room;
}

/* A barrier stands before the first use. */
static __device__ void load_books(const struct sketch_args &a, const struct sketch_room &room) {
    uint32_t *const to = (uint32_t *)(void *)(room.v + a.v_raw);
    const uint32_t k_words = a.k_shared / 4, v_words = a.v_shared / 4;
    for (uint32_t i = threadIdx.x; i < k_words + v_words; i += SKETCH_THREADS) {
        const void *const book = i < k_words ? a.k_vq.book : a.v_vq.book;
        to[i] = ((const uint32_t *)book)[i < k_words ? i : i - k_words];
    }
}

/* The queries of this block: row m is head head0 + pair % group of query pair / group. */
struct sketch_rows {
    uint32_t first, n, head0; /* pairs */
};

static __device__ uint64_t item_of(const struct sketch_args &a, const struct sketch_rows &r,
                                   uint32_t m) {
    const uint32_t pair = r.first + m;
    return (uint64_t)(pair / a.group) * a.n_heads + r.head0 + pair % a.group;
}

/* A warp a query at a time. */
static __device__ void load_queries(const struct sketch_args &a, const struct sketch_room &room,
                                    const struct sketch_rows &r) {
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    for (uint32_t m = warp; m < QUERIES; m += SKETCH_WARPS) {
        const float *const q = a.q + (m < r.n ? item_of(a, r, m) : 0) * a.d;
        float most = 0.0f;
        for (uint32_t c = lane; m < r.n && c < a.d; c += CU_WARP) {
            most = fmaxf(most, fabsf(q[c]));
        }
        most = cu_warp_max(most);
        const int exponent = cu_exponent(most);
        const float down = cu_power(-exponent);
        for (uint32_t c = lane; c < a.q_stride; c += CU_WARP) {
            room.q[m * a.q_stride + c] = __float2half_rn(m < r.n && c < a.d ? q[c] * down : 0.0f);
        }
        if (lane == 0) {
            room.q_scale[m] = a.scale * cu_power(exponent);
        }
    }
}

/* Codes i .. i + 7 of a run of b bits each. */
static __device__ uint2 eight_codes(const uint8_t *run, uint32_t i, uint32_t bits) {
    const uint8_t *const p = run + i / 8 * bits;
    if (bits == 1) {
        return {p[0], 0};
    }
    if (bits == 2) {
        return {cu_u16(p), 0};
    }
    if (bits == 4) {
        return {cu_u32<2>(p), 0};
    }
    return {cu_u32<2>(p), cu_u32<2>(p + 4)};
}

static __device__ uint32_t one_code(uint2 codes, uint32_t e, uint32_t bits) {
    const uint32_t at = e * bits;
    return (at < 32 ? codes.x >> at : codes.y >> (at - 32)) & ((1u << bits) - 1);
}

static __device__ __half to_half(float value) {
    return __float2half_rn(fminf(fmaxf(value, -65504.0f), 65504.0f));
}

static __device__ void store_eight(__half *to, const __half (&v)[8]) {
    uint4 raw;
    raw.x = __half_as_ushort(v[0]) | (uint32_t)__half_as_ushort(v[1]) << 16;
    raw.y = __half_as_ushort(v[2]) | (uint32_t)__half_as_ushort(v[3]) << 16;
    raw.z = __half_as_ushort(v[4]) | (uint32_t)__half_as_ushort(v[5]) << 16;
    raw.w = __half_as_ushort(v[6]) | (uint32_t)__half_as_ushort(v[7]) << 16;
    *(uint4 *)(void *)to = raw;
}

/* Channels c0 .. c0 + CHANNELS - 1 of a block of keys, zeros behind d. */
static __device__ void expand_keys(const struct sketch_args &a, const uint8_t *block, uint32_t c0,
                                   __half *tile) {
    const uint32_t run_bytes = TL_BLOCK / 8 * a.k_bits;
    const uint8_t *const runs = block + 4ull * a.d;
    const uint32_t end =
        (a.d - c0 + 15) / 16 * 16 < CHANNELS ? (a.d - c0 + 15) / 16 * 16 : CHANNELS;
    for (uint32_t at = threadIdx.x; at < end * (TL_BLOCK / 8); at += SKETCH_THREADS) {
        const uint32_t c = at / (TL_BLOCK / 8), t = at % (TL_BLOCK / 8) * 8;
        __half v[8];
        const bool some = c0 + c < a.d;
        const uint8_t *const header = block + 4 * (uint64_t)(some ? c0 + c : 0);
        const float scale = some ? cu_half(header) : 0.0f;
        const float minimum = some ? cu_half(header + 2) : 0.0f;
        const uint2 codes = eight_codes(runs + (some ? c0 + c : 0) * run_bytes, t, a.k_bits);
#pragma unroll
        for (uint32_t e = 0; e < 8; e++) {
            v[e] = to_half(minimum + scale * (float)one_code(codes, e, a.k_bits));
        }
        store_eight(tile + c * KEY_STRIDE + t, v);
    }
}

/* Columns c0 .. of a block of values; d and so the number of columns is a multiple of 8. */
static __device__ void expand_values(const struct sketch_args &a, const uint8_t *block, uint32_t c0,
                                     __half *tile) {
    const uint32_t n_groups = a.d / a.value_group, run_bytes = a.d / 8 * a.v_bits;
    const uint8_t *const runs = block + 4ull * TL_BLOCK * n_groups;
    const uint32_t wide =
        (a.d - c0 + 15) / 16 * 2 < CHANNELS / 8 ? (a.d - c0 + 15) / 16 * 2 : CHANNELS / 8;
    for (uint32_t at = threadIdx.x; at < TL_BLOCK * wide; at += SKETCH_THREADS) {
        const uint32_t t = at / wide, c = at % wide * 8;
        __half v[8];
        const bool some = c0 + c < a.d;
        const uint2 codes = eight_codes(runs + t * run_bytes, some ? c0 + c : 0, a.v_bits);
        const uint8_t *const headers = block + 4 * (uint64_t)t * n_groups;
        uint32_t group = 0xffffffffu;
        float scale = 0.0f, minimum = 0.0f;
#pragma unroll
        for (uint32_t e = 0; e < 8; e++) {
            const uint32_t mine = (c0 + c + e) / a.value_group;
            if (some && mine != group) {
                group = mine;
                scale = cu_half(headers + 4 * group);
                minimum = cu_half(headers + 4 * group + 2);
            }
            v[e] = to_half(minimum + scale * (float)one_code(codes, e, a.v_bits));
        }
        store_eight(tile + t * VALUE_STRIDE + c, v);
    }
}

/* The same of codes by a codebook: eight rows of a place at a time. */
template <int DIM>
static __device__ void expand_key_entries(const struct sketch_args &a, const __half *book,
                                          const uint8_t *block, uint32_t c0, __half *tile) {
    const uint32_t run_bytes = TL_BLOCK / 8 * a.k_vq.bits;
    const uint32_t end =
        (a.d - c0 + 15) / 16 * 16 < CHANNELS ? (a.d - c0 + 15) / 16 * 16 : CHANNELS;
    for (uint32_t at = threadIdx.x; at < end / DIM * (TL_BLOCK / 8); at += SKETCH_THREADS) {
        const uint32_t place = at / (TL_BLOCK / 8), t = at % (TL_BLOCK / 8) * 8;
        const uint32_t c = c0 + place * DIM;
        const uint8_t *const run = block + TL_VQ_HEADER_BYTES + (c < a.d ? c : 0) / DIM * run_bytes;
        struct cu_entry<DIM> entries[8];
#pragma unroll
        for (uint32_t e = 0; e < 8; e++) {
            entries[e] = cu_vq_entry<DIM>(book, cu_vq_code(run, t + e, a.k_vq.bits));
        }
#pragma unroll
        for (int j = 0; j < DIM; j++) {
            uint4 raw;
            uint32_t *const words[4] = {&raw.x, &raw.y, &raw.z, &raw.w};
#pragma unroll
            for (uint32_t e = 0; e < 8; e += 2) {
                const uint32_t low = entries[e].w[j / 2] >> 16 * (j % 2) & 0xffffu;
                const uint32_t high = entries[e + 1].w[j / 2] >> 16 * (j % 2) & 0xffffu;
                *words[e / 2] = c < a.d ? low | high << 16 : 0;
            }
            *(uint4 *)(void *)(tile + (place * DIM + j) * KEY_STRIDE + t) = raw;
        }
    }
}

template <int DIM>
static __device__ void expand_value_entries(const struct sketch_args &a, const __half *book,
                                            const uint8_t *block, uint32_t c0, __half *tile) {
    const uint32_t run_bytes = TL_BLOCK / 8 * a.v_vq.bits;
    const uint32_t end =
        (a.d - c0 + 15) / 16 * 16 < CHANNELS ? (a.d - c0 + 15) / 16 * 16 : CHANNELS;
    for (uint32_t at = threadIdx.x; at < end / DIM * TL_BLOCK; at += SKETCH_THREADS) {
        const uint32_t place = at / TL_BLOCK, t = at % TL_BLOCK, c = c0 + place * DIM;
        const uint8_t *const run = block + TL_VQ_HEADER_BYTES + (c < a.d ? c : 0) / DIM * run_bytes;
        struct cu_entry<DIM> entry = cu_vq_entry<DIM>(book, cu_vq_code(run, t, a.v_vq.bits));
        __half *const to = tile + t * VALUE_STRIDE + place * DIM;
#pragma unroll
        for (int i = 0; i < DIM / 2; i++) {
            *(uint32_t *)(void *)(to + 2 * i) = c < a.d ? entry.w[i] : 0;
        }
    }
}

static __device__ void fill_keys(const struct sketch_args &a, const struct sketch_room &room,
                                 const uint8_t *block, uint32_t c0) {
    switch (a.k_vq.dim) {
    case 0:
        expand_keys(a, block, c0, room.tile);
        break;
    case 2:
        expand_key_entries<2>(a, room.k_book, block, c0, room.tile);
        break;
    case 4:
        expand_key_entries<4>(a, room.k_book, block, c0, room.tile);
        break;
    default:
        expand_key_entries<8>(a, room.k_book, block, c0, room.tile);
        break;
    }
}

static __device__ void fill_values(const struct sketch_args &a, const struct sketch_room &room,
                                   const uint8_t *block, uint32_t c0) {
    switch (a.v_vq.dim) {
    case 0:
        expand_values(a, block, c0, room.tile);
        break;
    case 2:
        expand_value_entries<2>(a, room.v_book, block, c0, room.tile);
        break;
    case 4:
        expand_value_entries<4>(a, room.v_book, block, c0, room.tile);
        break;
    default:
        expand_value_entries<8>(a, room.v_book, block, c0, room.tile);
        break;
    }
}

/* What a block's tile is yet to be multiplied by; block is not the staged copy, which others may
 * replace. */
static __device__ float block_scale(const struct cu_vq &vq, const uint8_t *block) {
    return vq.dim != 0 ? cu_half(block) : 1.0f;
}

namespace wmma = nvcuda::wmma;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> frag_left;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> frag_right;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> frag_sum;

/* Scores of the block in room.score, not yet scaled. Begins and ends with a barrier. */
static __device__ void score_block(const struct sketch_args &a, const struct sketch_room &room,
                                   const uint8_t *block) {
    const uint32_t warp = threadIdx.x / CU_WARP;
    frag_sum sum;
    wmma::fill_fragment(sum, 0.0f);
    for (uint32_t c0 = 0; c0 < a.d; c0 += CHANNELS) {
        __syncthreads();
        fill_keys(a, room, block, c0);
        __syncthreads();
        for (uint32_t c = 0; c < CHANNELS && c0 + c < a.d; c += 16) {
            frag_left left;
            frag_right right;
            wmma::load_matrix_sync(left, room.q + c0 + c, a.q_stride);
            wmma::load_matrix_sync(right, room.tile + c * KEY_STRIDE + 16 * warp, KEY_STRIDE);
            wmma::mma_sync(sum, left, right, sum);
        }
    }
    wmma::store_matrix_sync(room.score + 16 * warp, sum, SCORE_STRIDE, wmma::mem_row_major);
    __syncthreads();
}

/* Asks for the codes of a block where there is room for them in shared memory. */
static __device__ void ask_codes(const uint8_t *from, uint8_t *to, uint64_t bytes, uint32_t room) {
    if (room != 0) {
        cu_stage(to, from, (uint32_t)bytes, threadIdx.x, SKETCH_THREADS);
    }
}

static __device__ const uint8_t *codes_at(const uint8_t *from, const uint8_t *staged,
                                          uint32_t room) {
    return room != 0 ? staged + cu_skew(from) : from;
}

/* Block (part, KV head, QUERIES of its heads in an op). */
static __global__ void __launch_bounds__(SKETCH_THREADS, 4)
    k_key_score(const __grid_constant__ struct cu_group<sketch_args> ops, uint32_t depth) {
    CU_DYNAMIC_SHARED(shared);
    const struct sketch_args &a = ops.of[blockIdx.z / depth];
    const struct sketch_room room = sketch_layout(a, shared);
    const uint32_t first = blockIdx.z % depth * QUERIES;
    const struct sketch_rows r = {first, a.group - first < QUERIES ? a.group - first : QUERIES,
                                  blockIdx.y * a.group};
    const uint8_t *const k = a.k + (uint64_t)blockIdx.y * a.cap * a.k_bytes;
    const int32_t n_blocks = a.n_blocks[0];
    load_queries(a, room, r);
    load_books(a, room);
    for (int32_t b = (int32_t)blockIdx.x; b < n_blocks; b += (int32_t)gridDim.x) {
        const uint8_t *const block = k + (uint64_t)b * a.k_bytes;
        ask_codes(block, room.k, a.k_bytes, a.k_raw);
        __pipeline_commit();
        __pipeline_wait_prior(0);
        score_block(a, room, codes_at(block, room.k, a.k_raw));
        const float scale = block_scale(a.k_vq, block);
        for (uint32_t at = threadIdx.x; at < r.n * TL_BLOCK; at += SKETCH_THREADS) {
            const uint32_t m = at / TL_BLOCK, t = at % TL_BLOCK;
            const float score = room.score[m * SCORE_STRIDE + t] * room.q_scale[m] * scale;
            a.score_to[item_of(a, r, m) * a.score_cols + (uint64_t)b * TL_BLOCK + t] =
                cu_cap(score, a.softcap);
        }
    }
}

/* Is the row among the ascending ids, behind which stand -1s? */
static __device__ bool is_skipped(const int32_t *skip, uint32_t n, uint32_t row) {
    uint32_t low = 0, high = n;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if ((uint32_t)skip[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && (uint32_t)skip[low] == row;
}

struct sketch_state {
    float most[QUERIES / SKETCH_WARPS], weights[QUERIES / SKETCH_WARPS];
};

/* Scores become weights, as halves; warp w has rows w, w + SKETCH_WARPS, ...; a lane two columns.
 */
static __device__ void weigh_block(const struct sketch_args &a, const struct sketch_room &room,
                                   const struct sketch_rows &r, uint32_t b, float scale,
                                   struct sketch_state *s) {
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    const int32_t *const skip =
        a.skip != nullptr ? a.skip + (uint64_t)blockIdx.y * a.n_skip : nullptr;
    bool out[2] = {false, false};
    for (uint32_t j = 0; skip != nullptr && j < 2; j++) {
        out[j] = is_skipped(skip, a.n_skip, b * TL_BLOCK + lane + j * CU_WARP);
    }
#pragma unroll
    for (uint32_t i = 0; i < QUERIES / SKETCH_WARPS; i++) {
        const uint32_t m = warp + i * SKETCH_WARPS;
        float mine[2] = {-INFINITY, -INFINITY};
        for (uint32_t j = 0; m < r.n && j < 2; j++) {
            const uint32_t t = lane + j * CU_WARP;
            if (a.score != nullptr) {
                mine[j] = a.score[item_of(a, r, m) * a.score_cols + (uint64_t)b * TL_BLOCK + t];
            } else {
                mine[j] =
                    cu_cap(room.score[m * SCORE_STRIDE + t] * room.q_scale[m] * scale, a.softcap);
            }
            mine[j] = out[j] ? -INFINITY : mine[j];
        }
        const float most = fmaxf(s->most[i], cu_warp_max(fmaxf(mine[0], mine[1])));
        const float shrink = s->most[i] > -INFINITY ? expf(s->most[i] - most) : 0.0f;
        float sum = 0.0f;
        for (uint32_t j = 0; j < 2; j++) {
            const float weight = mine[j] > -INFINITY ? expf(mine[j] - most) : 0.0f;
            const __half rounded = __float2half_rn(weight);
            room.weight[m * WEIGHT_STRIDE + lane + j * CU_WARP] = rounded;
            sum += __half2float(rounded);
        }
        s->weights[i] = s->weights[i] * shrink + cu_warp_sum(sum);
        s->most[i] = most;
        if (lane == 0) {
            room.shrink[m] = shrink;
        }
    }
}

/* sums[chunk][i]: row i of column chunk * CHANNELS + threadIdx. */
template <int CHUNKS>
static __device__ void mix_block(const struct sketch_args &a, const struct sketch_room &room,
                                 const uint8_t *block, float scale,
                                 float (&sums)[CHUNKS][QUERIES]) {
    const uint32_t warp = threadIdx.x / CU_WARP;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        const uint32_t c0 = chunk * CHANNELS;
        if (c0 < a.d) {
            __syncthreads();
            fill_values(a, room, block, c0);
            __syncthreads();
            for (uint32_t c = 16 * warp; c < CHANNELS && c0 + c < a.d; c += 16 * SKETCH_WARPS) {
                frag_sum sum;
                wmma::fill_fragment(sum, 0.0f);
                for (uint32_t t = 0; t < TL_BLOCK; t += 16) {
                    frag_left left;
                    frag_right right;
                    wmma::load_matrix_sync(left, room.weight + t, WEIGHT_STRIDE);
                    wmma::load_matrix_sync(right, room.tile + t * VALUE_STRIDE + c, VALUE_STRIDE);
                    wmma::mma_sync(sum, left, right, sum);
                }
                wmma::store_matrix_sync(room.out + c, sum, OUT_STRIDE, wmma::mem_row_major);
            }
            __syncthreads();
            if (c0 + threadIdx.x < a.d) {
#pragma unroll
                for (uint32_t m = 0; m < QUERIES; m++) {
                    sums[chunk][m] = sums[chunk][m] * room.shrink[m] +
                                     scale * room.out[m * OUT_STRIDE + threadIdx.x];
                }
            }
        }
    }
}

template <int CHUNKS>
static __device__ void sketch_end(const struct sketch_args &a, const struct sketch_room &room,
                                  const struct sketch_rows &r, const struct sketch_state &s,
                                  float (&sums)[CHUNKS][QUERIES]) {
    const uint32_t lane = threadIdx.x % CU_WARP, warp = threadIdx.x / CU_WARP;
    float *const most = room.q_scale, *const weights = room.shrink;
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < QUERIES / SKETCH_WARPS; i++) {
        if (lane == 0) {
            most[warp + i * SKETCH_WARPS] = s.most[i];
            weights[warp + i * SKETCH_WARPS] = s.weights[i];
        }
    }
    __syncthreads();
#pragma unroll
    for (uint32_t m = 0; m < QUERIES; m++) {
        if (m >= r.n) {
            break;
        }
        const uint64_t item = item_of(a, r, m);
        float *const part = a.part + (item * a.n_parts + blockIdx.x) * (a.d + PART_EXTRA);
        const float share = weights[m] > 0.0f ? __fdividef(1.0f, weights[m]) : 0.0f;
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const uint32_t c = chunk * CHANNELS + threadIdx.x;
            if (c < a.d) {
                if (a.part != nullptr) {
                    part[c] = sums[chunk][m];
                } else {
                    a.out[item * a.d + c] = sums[chunk][m] * share;
                }
            }
        }
        if (threadIdx.x == 0) {
            if (a.part != nullptr) {
                part[a.d] = most[m];
                part[a.d + 1] = weights[m];
            } else {
                a.lse[item] = weights[m] > 0.0f ? most[m] + logf(weights[m]) : -INFINITY;
            }
        }
    }
}

/* Block (part, KV head, QUERIES of its (query, head) pairs in an op). */
template <int CHUNKS>
/* Two blocks at least: left to itself ptxas 13.0 stops at 128 registers and spills (sm_90, wide
   heads). */
static __global__ void __launch_bounds__(SKETCH_THREADS, 2)
    k_attend_sketch(const __grid_constant__ struct cu_group<sketch_args> ops, uint32_t depth) {
    CU_DYNAMIC_SHARED(shared);
    const struct sketch_args &a = ops.of[blockIdx.z / depth];
    const struct sketch_room room = sketch_layout(a, shared);
    const uint32_t pairs = a.n * a.group, first = blockIdx.z % depth * QUERIES;
    const struct sketch_rows r = {first, pairs - first < QUERIES ? pairs - first : QUERIES,
                                  blockIdx.y * a.group};
    const uint8_t *const k = a.k + (uint64_t)blockIdx.y * a.cap * a.k_bytes;
    const uint8_t *const v = a.v + (uint64_t)blockIdx.y * a.cap * a.v_bytes;
    const uint32_t n_blocks = a.n_blocks[0] > 0 ? (uint32_t)a.n_blocks[0] : 0;
    const uint32_t per = (n_blocks + a.n_parts - 1) / a.n_parts, begin = blockIdx.x * per;
    const uint32_t end = begin + per < n_blocks ? begin + per : n_blocks;
    const bool scoring = a.score == nullptr;
    load_queries(a, room, r);
    load_books(a, room);
    struct sketch_state s;
#pragma unroll
    for (uint32_t i = 0; i < QUERIES / SKETCH_WARPS; i++) {
        s.most[i] = -INFINITY;
        s.weights[i] = 0.0f;
    }
    float sums[CHUNKS][QUERIES] = {};
    for (uint32_t b = begin; b < end; b++) {
        const uint8_t *const keys = k + b * a.k_bytes, *const values = v + b * a.v_bytes;
        __syncthreads(); /* the last block's codes are done with */
        if (scoring) {
            ask_codes(keys, room.k, a.k_bytes, a.k_raw);
        }
        __pipeline_commit();
        ask_codes(values, room.v, a.v_bytes, a.v_raw);
        __pipeline_commit();
        if (scoring) {
            __pipeline_wait_prior(1);
            score_block(a, room, codes_at(keys, room.k, a.k_raw));
        }
        weigh_block(a, room, r, b, block_scale(a.k_vq, keys), &s);
        __pipeline_wait_prior(0);
        mix_block<CHUNKS>(a, room, codes_at(values, room.v, a.v_raw), block_scale(a.v_vq, values),
                          sums);
    }
    sketch_end<CHUNKS>(a, room, r, s, sums);
}

/* ---- launchers ---- */

static void fill_sketch(struct sketch_args *a, const struct tl_sketch *s) {
    a->k = cu_at<const uint8_t>(s->k);
    a->v = cu_at<const uint8_t>(s->v);
    a->k_bytes = s->k.cols;
    a->v_bytes = s->v.cols;
    a->d = s->head_dim;
    a->group = a->n_heads / s->n_kv_heads;
    a->cap = s->k.rows / s->n_kv_heads;
    a->k_bits = tl_codec_bits(s->k_codec);
    a->v_bits = tl_codec_bits(s->v_codec);
    a->k_vq = cu_vq_of(s->k_codec, s->k_book);
    a->v_vq = cu_vq_of(s->v_codec, s->v_book);
    a->k_shared = a->k_vq.book_bytes;
    a->v_shared = a->v_vq.book_bytes;
    a->value_group = tl_codec_value_group(s->head_dim);
    a->q_stride = (s->head_dim + 15) / 16 * 16 + 8;
    a->k_raw = (uint32_t)tl_align_up(a->k_bytes + 15, 16);
    a->v_raw = (uint32_t)tl_align_up(a->v_bytes + 15, 16);
}

/* What there is no room for is read in place: codebooks first, of which cards keep copies close
 * anyway. */
static uint32_t fit_shared(struct sketch_args *a) {
    if (sketch_shared(*a) > SHARED_MAX) {
        a->k_shared = a->v_shared = 0;
    }
    if (sketch_shared(*a) > SHARED_MAX) {
        a->k_raw = a->v_raw = 0;
    }
    return sketch_shared(*a);
}

/* So many parts of the sequence that the card is busy, of at least 4 blocks each. */
static uint32_t sketch_parts(const struct cu_exec *x, const struct tl_sketch *s, uint64_t side) {
    const uint64_t wanted = (uint64_t)x->n_sms * x->tuning->sketch_sm_parts;
    const uint64_t useful = tl_div_up(s->k.rows / s->n_kv_heads, 4);
    return (uint32_t)tl_max_u64(1, tl_min_u64(tl_div_up(wanted, side * x->together), useful));
}

/* For queries that are turned. */
static uint64_t turned_bytes(const tl_view &q, const struct tl_sketch *s) {
    return tl_vq_is(s->k_codec) ? tl_align_up(tl_view_bytes(q), 256) : 0;
}

/* Queries as the keys' codebook is, in `room`; or as they are. */
static cudaError_t turn_queries(const struct cu_exec *x, const tl_view &q,
                                const struct tl_sketch *s, uint32_t n_heads, void *room,
                                const float **out) {
    *out = cu_at<const float>(q);
    if (!tl_vq_is(s->k_codec)) {
        return cudaSuccess;
    }
    const struct cu_turn turn = {
        *out,    cu_at<const float>(s->smooth), (float *)room, q.rows * n_heads,
        n_heads, n_heads / s->n_kv_heads,       s->head_dim};
    *out = (const float *)room;
    return cu_vq_turn(x, &turn);
}

uint64_t cu_key_score_scratch(const struct cu_exec *x, const struct tl_key_score *op) {
    (void)x;
    return turned_bytes(op->q, &op->sketch);
}

cudaError_t cu_key_score(const struct cu_exec *x, const struct tl_key_score *const *ops,
                         uint32_t n) {
    struct cu_group<sketch_args> all = {};
    uint32_t shared = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct tl_key_score *const op = ops[i];
        struct sketch_args &a = all.of[i];
        CU_TRY(turn_queries(x, op->q, &op->sketch, op->n_heads, cu_scratch_of(x, i), &a.q));
        a.score_to = cu_at<float>(op->score);
        a.score_cols = op->score.cols;
        a.n_blocks = cu_at<const int32_t>(op->n_blocks);
        a.n = 1;
        a.n_heads = op->n_heads;
        a.scale = op->scale;
        a.softcap = op->softcap;
        fill_sketch(&a, &op->sketch);
        a.v_raw = a.v_shared = 0;
        shared = fit_shared(&a);
    }
    const struct tl_sketch *const s = &ops[0]->sketch;
    const uint32_t chunks = cu_div_up(all.of[0].group, QUERIES);
    const dim3 grid(sketch_parts(x, s, (uint64_t)s->n_kv_heads * chunks), s->n_kv_heads,
                    chunks * n);
    return cu_launch(x, grid, SKETCH_THREADS, shared, k_key_score, all, chunks);
}

static uint32_t pair_chunks(const struct tl_attend_sketch *op) {
    const uint32_t group = op->n_heads / op->sketch.n_kv_heads;
    return cu_div_up((uint64_t)op->q.rows * group, QUERIES);
}

static uint32_t attend_sketch_parts(const struct cu_exec *x, const struct tl_attend_sketch *op) {
    return sketch_parts(x, &op->sketch, (uint64_t)op->sketch.n_kv_heads * pair_chunks(op));
}

uint64_t cu_attend_sketch_scratch(const struct cu_exec *x, const struct tl_attend_sketch *op) {
    const uint64_t n_parts = attend_sketch_parts(x, op);
    const uint64_t items = (uint64_t)op->q.rows * op->n_heads;
    return turned_bytes(op->q, &op->sketch) +
           (n_parts == 1 ? 0
                         : items * n_parts * (op->sketch.head_dim + PART_EXTRA) * sizeof(float));
}

/* Outputs are sums of entries, turned. */
static cudaError_t turn_outputs(const struct cu_exec *x, const struct tl_attend_sketch *op) {
    float *const out = cu_at<float>(op->out);
    const struct cu_turn turn = {out,
                                 nullptr,
                                 out,
                                 op->q.rows * op->n_heads,
                                 op->n_heads,
                                 op->n_heads / op->sketch.n_kv_heads,
                                 op->sketch.head_dim};
    return tl_vq_is(op->sketch.v_codec) ? cu_vq_turn(x, &turn) : cudaSuccess;
}

static cudaError_t sketch_of(const struct cu_exec *x, const struct tl_attend_sketch *op, uint32_t i,
                             struct sketch_args *a) {
    uint8_t *const scratch = cu_scratch_of(x, i);
    CU_TRY(turn_queries(x, op->q, &op->sketch, op->n_heads, scratch, &a->q));
    a->score = cu_at<const float>(op->score);
    a->score_cols = op->score.buf != nullptr ? op->score.cols : 0;
    a->out = cu_at<float>(op->out);
    a->lse = cu_at<float>(op->lse);
    a->n_blocks = cu_at<const int32_t>(op->n_blocks);
    a->skip = cu_at<const int32_t>(op->skip);
    a->n_skip = op->skip.buf != nullptr ? op->skip.cols : 0;
    a->n = op->q.rows;
    a->n_heads = op->n_heads;
    a->scale = op->scale;
    a->softcap = op->softcap;
    fill_sketch(a, &op->sketch);
    a->n_parts = attend_sketch_parts(x, op);
    a->part =
        a->n_parts == 1 ? nullptr : (float *)(void *)(scratch + turned_bytes(op->q, &op->sketch));
    return cudaSuccess;
}

cudaError_t cu_attend_sketch(const struct cu_exec *x, const struct tl_attend_sketch *const *ops,
                             uint32_t n) {
    struct cu_group<sketch_args> all = {};
    struct cu_parts parts[CU_TOGETHER_MAX];
    uint32_t shared = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct sketch_args &one = all.of[i];
        CU_TRY(sketch_of(x, ops[i], i, &one));
        shared = fit_shared(&one);
        parts[i] = {one.part, one.out, one.lse, one.n * one.n_heads, one.n_parts, one.d};
    }
    const struct sketch_args &a = all.of[0];
    const uint32_t depth = pair_chunks(ops[0]);
    const dim3 grid(a.n_parts, ops[0]->sketch.n_kv_heads, depth * n);
    if (a.d > 2 * CHANNELS) {
        CU_TRY(cu_launch(x, grid, SKETCH_THREADS, shared, k_attend_sketch<4>, all, depth));
    } else if (a.d > CHANNELS) {
        CU_TRY(cu_launch(x, grid, SKETCH_THREADS, shared, k_attend_sketch<2>, all, depth));
    } else {
        CU_TRY(cu_launch(x, grid, SKETCH_THREADS, shared, k_attend_sketch<1>, all, depth));
    }
    if (a.part != nullptr) {
        CU_TRY(cu_join_parts(x, parts, n));
    }
    for (uint32_t i = 0; i < n; i++) {
        CU_TRY(turn_outputs(x, ops[i]));
    }
    return cudaSuccess;
}
