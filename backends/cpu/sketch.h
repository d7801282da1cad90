/* Private to the CPU backend: how fast versions of key_score and attend_sketch are cut into tasks,
 * and what an instruction set must bring for them. The plan is in sketch.c; the kernels of each set
 * are in x86_sketch.inc.
 *
 * The queries of all heads that share a KV head are that head's rows: row f is query f / group,
 * head kv_head * group + f % group. A task is up to SKETCH_ROWS of them, which one look at the
 * codes serves, over some blocks. */
#ifndef TL_CPU_SKETCH_H
#define TL_CPU_SKETCH_H

#include "core/vq.h"
#include "cpu.h"

enum {
    SKETCH_ROWS = 4,
    SKETCH_STEP = 8,    /* blocks that a kernel works on at a time */
    SKETCH_PLACES = 64, /* sums of a value group, one for each code that it can have */
};

struct sketch_task {
    const struct tl_sketch *sketch;
    uint32_t kv_head;
    uint32_t n;          /* rows, 1 .. SKETCH_ROWS */
    uint32_t begin, end; /* blocks */
    float scale, softcap;
    const float *q[SKETCH_ROWS];
    /* The scores of all cache rows: where a score kernel writes them, and an attend kernel reads
     * them; it computes them where this is NULL. */
    float *score[SKETCH_ROWS];
    const int32_t *skip; /* cache rows to leave out, ascending */
    uint32_t n_skip;
    /* Results of attend: sums (n, stride) = sum exp(s - most) v, weights = sum exp(s - most),
     * most = max s, which is -inf with the rest 0 where nothing was left. Code i of value group g
     * is summed at g * SKETCH_PLACES + place(i), and what stands at other places means nothing. */
    float *sums, *weights, *most;
    uint32_t stride; /* value groups * SKETCH_PLACES */
    float *work;     /* cpu_sketch_work_floats() of this thread's own, 64-byte aligned */
    /* Where a side is vector-quantised, q being turned and sums to be turned back: the entries of
     * its codebook, and for keys the products of scaled queries and entries, (places, entries,
     * SKETCH_ROWS). A value's numbers are summed one behind the other. */
    const float *k_book, *v_book;
    float *table;
};

typedef void sketch_kernel(const struct sketch_task *task);

struct sketch_kernels {
    sketch_kernel *score, *attend;
    uint32_t (*place)(tl_codec codec, uint32_t i);
    /* Of vector-quantised keys: n halves to floats, n a multiple of 16; the table's places [begin,
     * end). */
    void (*expand)(const uint16_t *book, uint32_t n, float *dst);
    void (*tables)(const struct sketch_task *task, uint32_t begin, uint32_t end);
};

/* How many codes lie before the group's first one in the byte where it starts: with one bit and
 * groups of 36, four in every other group. */
static inline uint32_t cpu_sketch_skew(tl_codec codec, uint32_t group_codes, uint32_t group) {
    const uint32_t bits = tl_codec_bits(codec);
    return (uint64_t)group * group_codes * bits % 8 / bits;
}

/* 32-bit words that the factors of a row are rounded to: one for each cache row of a block and for
 * each channel, or two channels in one, and never for more than 256 at a time. */
static inline uint32_t cpu_sketch_words(uint32_t head_dim) {
    return (uint32_t)tl_align_up(tl_max_u64(TL_BLOCK, tl_min_u64(head_dim, 256)), 16);
}

/* Weights of a vector-quantised block, for each number of a code. */
enum { SKETCH_LANES = TL_BLOCK * SKETCH_ROWS * TL_VQ_DIM_MAX };

/* Room that a kernel has at task->work: queries and their products, the factors rounded for every
 * block of a step, scores, a copy of one block's values with 64 bytes behind it, and lanes. */
static inline uint64_t cpu_sketch_work_floats(const struct tl_sketch *sketch) {
    const uint64_t of_row = 2 * tl_align_up(sketch->head_dim, 16) +
                            SKETCH_STEP * (cpu_sketch_words(sketch->head_dim) + (uint64_t)TL_BLOCK);
    return SKETCH_ROWS * of_row + tl_align_up(sketch->v.cols + 64u, 64) / sizeof(float) +
           (tl_vq_is(sketch->v_codec) ? SKETCH_LANES : 0);
}

/* False where there is no kernel, which is for a few odd head sizes, or no memory for scratch. */
bool cpu_sketch_score(struct cpu_dev *dev, const struct tl_key_score *op,
                      const struct sketch_kernels *kernels);
bool cpu_sketch_attend(struct cpu_dev *dev, const struct tl_attend_sketch *op,
                       const struct sketch_kernels *kernels);

#endif
