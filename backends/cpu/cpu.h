/* Private to the CPU backend: the device, its thread pool, and the kernel table that
 * instruction-set files lay their faster versions over (cpu.c fills it with ops.c's plain loops
 * first, then cpu_init_avx2 and cpu_init_avx512 overwrite what they do better). */
#ifndef TL_CPU_H
#define TL_CPU_H

#include "core/backend.h"

struct cpu_dev;

/* Worker threads that live as long as the device. A job is a function that every thread calls once
 * with its own number; threads spin briefly between jobs of one token and sleep between tokens. */
typedef struct cpu_pool cpu_pool;
typedef void cpu_job(void *arg, uint32_t thread, uint32_t n_threads);

enum { CPU_THREADS_MAX = 256 };

/* n_threads 0: the physical cores this process may use; more than CPU_THREADS_MAX are not started.
 */
TL_MUST tl_err cpu_pool_open(cpu_pool **out, uint32_t n_threads);
void cpu_pool_close(cpu_pool **pool);
uint32_t cpu_pool_n(const cpu_pool *pool);
/* What this process may use by its affinity and its container: logical CPUs, and physical cores
 * (SMT siblings counted once). */
void cpu_pool_count(uint32_t *n_cpus, uint32_t *n_cores);
/* Runs job on all threads, the caller being thread 0, and returns when all are done. */
void cpu_pool_run(cpu_pool *pool, cpu_job *job, void *arg);
/* Runs job(arg, 0, 1) on the caller: it may use the counter, but must not meet at a barrier. */
void cpu_pool_run_alone(cpu_pool *pool, cpu_job *job, void *arg);
/* Inside a job: the next unclaimed index of a shared counter that pool_run reset to 0; results may
 * not depend on who claims what. */
uint32_t cpu_pool_next(cpu_pool *pool);
/* Inside a job: no thread returns before all have arrived (not together with early returns). */
void cpu_pool_barrier(cpu_pool *pool);

/* One function per op. A faster version handles what it can and hands the rest to the one it
 * replaced: those that return bool return false where they have no kernel for these operands or no
 * scratch, and the plain one runs. */
struct cpu_kernels {
    const char *name; /* the kernel class that users see: "plain", "avx2", "avx512-vnni" */
    bool (*matmul)(struct cpu_dev *dev, const struct tl_matmul *op);
    void (*rmsnorm)(struct cpu_dev *dev, const struct tl_rmsnorm *op);
    void (*glu)(struct cpu_dev *dev, const struct tl_glu *op);
    void (*rope)(struct cpu_dev *dev, const struct tl_rope *op);
    void (*kv_encode)(struct cpu_dev *dev, const struct tl_kv_encode *op);
    bool (*attend)(struct cpu_dev *dev, const struct tl_attend *op);
    bool (*compress)(struct cpu_dev *dev, const struct tl_compress *op);
    bool (*key_score)(struct cpu_dev *dev, const struct tl_key_score *op);
    bool (*topk)(struct cpu_dev *dev, const struct tl_topk *op);
    bool (*attend_sketch)(struct cpu_dev *dev, const struct tl_attend_sketch *op);
    bool (*attend_slots)(struct cpu_dev *dev, const struct tl_attend_slots *op);
    bool (*mass)(struct cpu_dev *dev, const struct tl_mass *op);
    bool (*channel_score)(struct cpu_dev *dev, const struct tl_channel_score *op);
    bool (*page_score)(struct cpu_dev *dev, const struct tl_page_score *op);
};

struct cpu_dev {
    tl_dev base; /* first: a tl_dev * is a cpu_dev * */
    cpu_pool *pool;
    struct cpu_kernels kernels;
    /* Scratch that ops share within one call, grown outside decode: see cpu_scratch. */
    void *scratch; /* owned */
    uint64_t scratch_bytes;
    tl_log log; /* borrowed */
};

/* At least `bytes` of 64-byte-aligned scratch, contents undefined, valid until the next call; NULL
 * when memory is out. Only thread 0, outside jobs. Grows and never shrinks, so a repeated step
 * allocates nothing. */
void *cpu_scratch(struct cpu_dev *dev, uint64_t bytes);

/* Runs a job that slices its work by (thread, n_threads): on all threads, or on the caller alone as
 * (0, 1) when so few elements are not worth waking them. */
void cpu_share(struct cpu_dev *dev, cpu_job *job, void *arg, uint64_t n_elems);
/* Slice `thread` of n things, [*begin, *end), as equal as can be. */
void cpu_slice(uint64_t n, uint32_t thread, uint32_t n_threads, uint64_t *begin, uint64_t *end);

/* ops.c: the specification, double accumulation, plain loops. They need no scratch, cannot fail and
 * always return true. */
void cpu_init_plain(struct cpu_kernels *k);
bool cpu_matmul_plain(struct cpu_dev *dev, const struct tl_matmul *op);
bool cpu_attend_plain(struct cpu_dev *dev, const struct tl_attend *op);
void cpu_kv_encode_plain(struct cpu_dev *dev, const struct tl_kv_encode *op);
/* The rows [*first, *end) that query i of an attend sees. */
void cpu_rows_seen(const struct tl_attend *op, uint32_t i, uint64_t *first, uint64_t *end);

/* ops_cache.c: the specification of the hybrid cache's verbs; false where scratch is out. */
bool cpu_compress_plain(struct cpu_dev *dev, const struct tl_compress *op);
bool cpu_key_score_plain(struct cpu_dev *dev, const struct tl_key_score *op);
bool cpu_topk_plain(struct cpu_dev *dev, const struct tl_topk *op);
bool cpu_attend_sketch_plain(struct cpu_dev *dev, const struct tl_attend_sketch *op);
bool cpu_attend_slots_plain(struct cpu_dev *dev, const struct tl_attend_slots *op);
bool cpu_mass_plain(struct cpu_dev *dev, const struct tl_mass *op); /* mass.c */
/* These two have one version. */
void cpu_fetch(struct cpu_dev *dev, const struct tl_fetch *op);
void cpu_merge(struct cpu_dev *dev, const struct tl_merge *op);
/* n_blocks[0], a negative one being none. */
uint32_t cpu_blocks_seen(const tl_view *n_blocks);
double cpu_cap_softly(double value, float cap);

/* ops_index.c: the indexes' verbs. These two cannot fail and always return true. */
bool cpu_channel_score_plain(struct cpu_dev *dev, const struct tl_channel_score *op);
bool cpu_page_score_plain(struct cpu_dev *dev, const struct tl_page_score *op);
/* These have one version. */
void cpu_key_transpose(struct cpu_dev *dev, const struct tl_key_transpose *op);
void cpu_channels(const struct tl_channels *op);
void cpu_channel_fetch(struct cpu_dev *dev, const struct tl_channel_fetch *op);
void cpu_page_encode(struct cpu_dev *dev, const struct tl_page_encode *op);

/* First byte of row i. */
static inline void *cpu_row(const tl_view *v, uint64_t i) {
    return (uint8_t *)v->buf->host + v->off_bytes + i * tl_row_bytes(v->dtype, v->cols);
}

/* x86 files; compiled only for x86-64, called only when the CPU has the flags. */
void cpu_init_avx2(struct cpu_kernels *k);   /* AVX2, FMA, F16C, BMI2 */
void cpu_init_avx512(struct cpu_kernels *k); /* F, BW, VL, DQ, VNNI */
/* Their matmul halves, in files of their own. */
bool cpu_matmul_avx2(struct cpu_dev *dev, const struct tl_matmul *op);
bool cpu_matmul_avx512(struct cpu_dev *dev, const struct tl_matmul *op);
/* The hybrid cache's verbs, likewise. */
bool cpu_topk_avx2(struct cpu_dev *dev, const struct tl_topk *op);
bool cpu_topk_avx512(struct cpu_dev *dev, const struct tl_topk *op);
bool cpu_attend_slots_avx2(struct cpu_dev *dev, const struct tl_attend_slots *op);
bool cpu_attend_slots_avx512(struct cpu_dev *dev, const struct tl_attend_slots *op);
bool cpu_compress_avx2(struct cpu_dev *dev, const struct tl_compress *op);
bool cpu_compress_avx512(struct cpu_dev *dev, const struct tl_compress *op);
bool cpu_key_score_avx2(struct cpu_dev *dev, const struct tl_key_score *op);
bool cpu_key_score_avx512(struct cpu_dev *dev, const struct tl_key_score *op);
bool cpu_attend_sketch_avx2(struct cpu_dev *dev, const struct tl_attend_sketch *op);
bool cpu_attend_sketch_avx512(struct cpu_dev *dev, const struct tl_attend_sketch *op);
bool cpu_mass_avx2(struct cpu_dev *dev, const struct tl_mass *op);
bool cpu_mass_avx512(struct cpu_dev *dev, const struct tl_mass *op);
bool cpu_channel_score_avx2(struct cpu_dev *dev, const struct tl_channel_score *op);
bool cpu_channel_score_avx512(struct cpu_dev *dev, const struct tl_channel_score *op);
bool cpu_page_score_avx2(struct cpu_dev *dev, const struct tl_page_score *op);
bool cpu_page_score_avx512(struct cpu_dev *dev, const struct tl_page_score *op);

#endif
