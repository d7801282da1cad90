/* Private to the CPU backend: how a fast attend is cut into tiles, and what an instruction set must
 * bring for it. The plan is in attend.c; the two kernels of each set are in x86_attend.inc.
 *
 * The queries of all heads that share a KV head are that head's rows: row f is query f / group,
 * head kv_head * group + f % group. A tile is up to ATTEND_ROWS consecutive ones over some cache
 * rows. */
#ifndef TL_CPU_ATTEND_H
#define TL_CPU_ATTEND_H

#include "cpu.h"

enum {
    ATTEND_ROWS = 96,  /* rows of a tile: whole register blocks of either width */
    ATTEND_FEW = 16,   /* up to here a tile waits for memory, not for arithmetic */
    ATTEND_BLOCK = 64, /* cache rows that a kernel works on at a time */
};

struct attend_tile {
    const struct tl_attend *op;
    uint32_t kv_head;
    uint32_t row;        /* its first row */
    uint32_t n;          /* rows in it, 1 .. ATTEND_ROWS */
    uint64_t begin, end; /* cache rows, a union over the tile; begin <= end */
    /* What each row sees of them; from n on a copy of row n - 1, for the lanes without a row. */
    int32_t first_of[ATTEND_ROWS], end_of[ATTEND_ROWS];
    /* Results: sums (n, stride) = sum exp(s - most) v, weights = sum exp(s - most), most = max s,
     * which is -inf with the rest 0 where nothing was seen. There is room for whole multiples of 16
     * rows, whose surplus may be scribbled on. */
    float *sums, *weights, *most;
    uint32_t stride; /* head_dim in whole multiples of 16 floats */
    float *work;     /* cpu_attend_work_floats() of this thread's own */
};

typedef void attend_kernel(const struct attend_tile *tile);

struct attend_kernels {
    attend_kernel *few;  /* n <= ATTEND_FEW: K and V are read straight from the cache */
    attend_kernel *many; /* any n: a block is widened to float once and serves all rows */
};

/* The row's query and, through it, its place in a (n, n_heads * head_dim) view. */
const float *cpu_attend_query(const struct attend_tile *tile, uint32_t row);

/* Room that a kernel has at tile->work. */
static inline uint64_t cpu_attend_work_floats(uint32_t stride) {
    return (uint64_t)(ATTEND_ROWS + 2 * ATTEND_BLOCK) * stride +
           (uint64_t)ATTEND_ROWS * (ATTEND_BLOCK + 1);
}

/* False where it has no kernel: a cache that is not f16, or no memory for scratch. */
bool cpu_attend_tiled(struct cpu_dev *dev, const struct tl_attend *op,
                      const struct attend_kernels *kernels);

#endif
