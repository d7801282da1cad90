/* Between cuda.c, which is C and keeps devices, memory and streams, and the .cu files, which hold
 * kernels and their launchers and nothing else. A launcher only enqueues on x->stream; it returns
 * what the launch returned. What a launcher needs beside the operands stands in its scratch, whose
 * size the function of the same name with _scratch says: a number that depends on shapes alone,
 * never on what a view holds, so that a captured step can be replayed. */
#ifndef TL_CUDA_KERNELS_H
#define TL_CUDA_KERNELS_H

#include "core/fusion.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Launch shapes for one generation of cards; the rows are in tuning.c. */
struct cu_tuning {
    const char *name;         /* "sm_86" */
    uint32_t capability;      /* the least compute capability it is for, 10 * major + minor */
    uint32_t vec_sm_warps;    /* matmul of one row: warps a multiprocessor is to have at least */
    uint32_t vec_rows_most;   /* activation rows up to which a product streams its matrix */
    uint32_t attend_sm_parts; /* attention: parts of the sequence, times heads, a multiprocessor */
    uint32_t attend_tile_bytes; /* shared memory that a tile of keys and values may take */
    uint32_t sketch_sm_parts;   /* the same for compressed rows */
    uint32_t topk_part_rows;    /* rows that one block of top-k reads */
    uint32_t tile_pairs_least;  /* (query, head) pairs of a KV head from which tiles are used */
};

/* The row for a compute capability: the last that is for at most this. */
const struct cu_tuning *cu_tuning_of(uint32_t capability);

struct cu_buf {
    tl_buf base;
    void *device;          /* what kernels read: a multiple of 256 */
    uint64_t map_bytes;    /* of anonymous memory pinned in pieces; 0: by cudaHostAlloc, or none */
    uint64_t pinned_bytes; /* of those, from the beginning */
};

/* Alike ops of several sequences that one launch does: their arguments are the kernel's parameters,
 * which may be 4 KiB together. */
enum { CU_TOGETHER_MAX = 8 };

/* Launchers that take n ops take 1 .. CU_TOGETHER_MAX alike ones (tl_together_begin). */
/* Where and how to launch. */
struct cu_exec {
    cudaStream_t stream;
    const struct cu_tuning *tuning;
    uint32_t n_sms, shared_bytes_max;
    uint32_t together;     /* ops of this launch: who counts blocks counts those of all */
    void *scratch;         /* for each op as many bytes as its _scratch says, a multiple of 256 */
    uint64_t scratch_each; /* from one op's to the next one's, likewise */
    bool codes_ready; /* matmul: the scratch holds x rounded already, from the product before */
};

cudaError_t cu_gather(const struct cu_exec *x, const struct tl_gather *op);
cudaError_t cu_rmsnorm(const struct cu_exec *x, const struct tl_rmsnorm *op);
cudaError_t cu_rope(const struct cu_exec *x, const struct tl_rope *op);
cudaError_t cu_glu(const struct cu_exec *x, const struct tl_glu *op);
cudaError_t cu_merge(const struct cu_exec *x, const struct tl_merge *op);
cudaError_t cu_kv_encode(const struct cu_exec *x, const struct tl_kv_encode *const *ops,
                         uint32_t n);
uint64_t cu_compress_scratch(const struct cu_exec *x, const struct tl_compress *op);
cudaError_t cu_compress(const struct cu_exec *x, const struct tl_compress *op);
/* Its vector-quantised keys, or values; a side's scratch holds its codebook as floats. */
uint64_t cu_compress_vq_scratch(tl_codec codec);
cudaError_t cu_compress_vq(const struct cu_exec *x, const struct tl_compress *op, bool keys,
                           float *expanded);
/* to := (from diag(smooth)) H, row by row; to may be from, smooth NULL for ones. Row i belongs to
 * head i % n_heads. */
struct cu_turn {
    const float *from, *smooth; /* (n_rows, d), (n_heads / group, d) */
    float *to;
    uint32_t n_rows, n_heads, group, d;
};
cudaError_t cu_vq_turn(const struct cu_exec *x, const struct cu_turn *op);

/* Products of one x, at most TL_FUSION_PRODUCTS, and what makes x: at most one of the two, NULL
 * where x is there already. They are one launch, two where x is rounded first. All have x, and a
 * dtype of w, in common; more than one where x has at most vec_rows_most rows; a norm or a gate
 * where tl_matmul_rounds_x says so, a norm for one row of x by any w. */
struct cu_products {
    const struct tl_rmsnorm *norm;
    const struct tl_glu *glu;
    const struct tl_matmul *of;
    uint32_t n;
};
/* Its scratch begins with the codes of x where tl_matmul_rounds_x says so. */
uint64_t cu_matmul_scratch(const struct cu_exec *x, const struct tl_matmul *op);
cudaError_t cu_matmul(const struct cu_exec *x, const struct cu_products *ps);

/* Rows turned and rows stored, by one launch: all heads are equally wide, rows equally many, and a
 * row that is stored is either one of those that are turned or none of them. */
struct cu_turns {
    const struct tl_rope *ropes; /* 1 .. TL_FUSION_TURNS of them */
    const struct tl_kv_encode *encodes;
    uint32_t n_ropes, n_encodes; /* of the same k and v, at most TL_FUSION_TIERS */
};
cudaError_t cu_turn_and_store(const struct cu_exec *x, const struct cu_turns *op);

uint64_t cu_attend_scratch(const struct cu_exec *x, const struct tl_attend *op);
cudaError_t cu_attend(const struct cu_exec *x, const struct tl_attend *const *ops, uint32_t n);
/* Attention of many queries at once; whether it can do this one. */
bool cu_attend_tile_fits(const struct cu_exec *x, const struct tl_attend *op);
cudaError_t cu_attend_tile(const struct cu_exec *x, const struct tl_attend *op);
uint64_t cu_attend_slots_scratch(const struct cu_exec *x, const struct tl_attend_slots *op);
cudaError_t cu_attend_slots(const struct cu_exec *x, const struct tl_attend_slots *const *ops,
                            uint32_t n);

uint64_t cu_attend_sketch_scratch(const struct cu_exec *x, const struct tl_attend_sketch *op);
cudaError_t cu_attend_sketch(const struct cu_exec *x, const struct tl_attend_sketch *const *ops,
                             uint32_t n);
uint64_t cu_key_score_scratch(const struct cu_exec *x, const struct tl_key_score *op);
cudaError_t cu_key_score(const struct cu_exec *x, const struct tl_key_score *const *ops,
                         uint32_t n);

uint64_t cu_topk_scratch(const struct cu_exec *x, const struct tl_topk *op);
cudaError_t cu_topk(const struct cu_exec *x, const struct tl_topk *const *ops, uint32_t n);
uint64_t cu_fetch_scratch(const struct cu_exec *x, const struct tl_fetch *op);
cudaError_t cu_fetch(const struct cu_exec *x, const struct tl_fetch *const *ops, uint32_t n);

uint64_t cu_mass_scratch(const struct cu_exec *x, const struct tl_mass *op);
cudaError_t cu_mass(const struct cu_exec *x, const struct tl_mass *op);

cudaError_t cu_key_transpose(const struct cu_exec *x, const struct tl_key_transpose *op);
cudaError_t cu_channels(const struct cu_exec *x, const struct tl_channels *op);
uint64_t cu_channel_fetch_scratch(const struct cu_exec *x, const struct tl_channel_fetch *op);
cudaError_t cu_channel_fetch(const struct cu_exec *x, const struct tl_channel_fetch *op);
cudaError_t cu_channel_score(const struct cu_exec *x, const struct tl_channel_score *op);
cudaError_t cu_page_encode(const struct cu_exec *x, const struct tl_page_encode *op);
cudaError_t cu_page_score(const struct cu_exec *x, const struct tl_page_score *op);

/* (rows of out) parts of an attention joined: see attend.cu. */
struct cu_parts {
    const float *part;
    float *out, *lse; /* lse may be NULL */
    uint32_t n_rows, n_parts, d;
};
cudaError_t cu_join_parts(const struct cu_exec *x, const struct cu_parts *ops, uint32_t n);

#ifdef __cplusplus
}
#endif

#endif
