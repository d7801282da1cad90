/* What parity.c and parity_cache.c (cases) and their _bench.c (speed) share: a device under test,
 * operands that live on the reference and on every candidate, and the way to compare them. */
#ifndef TL_PARITY_H
#define TL_PARITY_H

#include "core/backend.h"
#include "support.h"

enum { SIDES_MAX = 16 };

/* A device with a stream; side 0 is the reference, the plain CPU. */
struct side {
    tl_dev *dev;
    tl_stream *s;
    char name[128]; /* "cpu avx2, 2 threads" */
};

struct sides {
    struct side all[SIDES_MAX];
    uint32_t n;
};

enum fill { FILL_TINY, FILL_ORDINARY, FILL_LIMIT, FILL_COUNT };

/* Normalised error: of a whole output, the root mean square of the difference over that of the
 * reference (or of what random operands give, where cancellation left less); a single element may
 * be off by six times that. */
enum tolerance_of {
    OF_FLOAT,  /* rmsnorm, rope, glu, gather: a few roundings, and sums over lanes in float */
    OF_ATTEND, /* exp of scores up to +-30, whose rounding is 1e-7 of them and more for wide heads,
                * and sums of f16 rows. The worst of 1200 random trials is 5.1e-6, heads of 512. */
    OF_MATMUL_FP, /* F32, F16, BF16 weights: float products summed in another order */
    OF_MATMUL_Q, /* quantised weights. Kernels may round activations to int8 in blocks of 32: a step
                  * of max/127, error step/sqrt(12); for uniform inputs max/rms = sqrt(3), so 0.4%
                  * of the rms; weights are exact. Three times that for the unlucky: 0.0095 was seen
                  * for one row of one block. */
    OF_SKETCH, /* compressed rows. Kernels may round products of queries and scales, and of weights
                * and scales, to 16-bit words of a block's own step: with 1 bit an error of 0.05% of
                * the scores, and of that times 4 of the weights where scores spread by 4. */
    OF_HALF,   /* written as f16: a rounding of 2^-11 that may fall on the other side */
};

enum { OPERANDS_MAX = 16 };

struct operand {
    tl_buf *bufs[SIDES_MAX];
    tl_view views[SIDES_MAX];
    uint64_t bytes;
};

/* One random case: its operands on every side, and what it is. */
struct trial {
    struct sides *sides;
    struct tl_rng rng;
    enum fill fill;
    struct operand operands[OPERANDS_MAX];
    uint32_t n_operands;
    char what[256];
    bool failed;
    double worst; /* error as a part of what is allowed */
};

struct parity_op {
    const char *name;
    void (*run)(struct trial *t);
};
/* The verbs of the hybrid cache (parity_cache.c). */
extern const struct parity_op cache_ops[];
extern const uint32_t n_cache_ops;
/* Those of its indexes (parity_index.c). */
extern const struct parity_op index_ops[];
extern const uint32_t n_index_ops;

/* Puts the bytes on every side between guards; returns the operand's number. */
uint32_t operand(struct trial *t, uint32_t rows, uint32_t cols, tl_dtype dtype, const void *bytes);
/* An f32 operand of values up to `size`. */
uint32_t floats(struct trial *t, uint32_t rows, uint32_t cols, float size);
uint32_t ints(struct trial *t, uint32_t n, const int32_t *values);
uint32_t weights(struct trial *t, uint32_t rows, uint32_t cols, tl_dtype dtype, float size);
tl_view view(const struct trial *t, uint32_t id, uint32_t side);
extern const tl_view absent;

void compare_bytes(struct trial *t, uint32_t id);
/* Of f32 or f16. `typical`: the size that random operands give, for outputs so small that they
 * cancelled. */
void compare_floats(struct trial *t, uint32_t id, double typical, enum tolerance_of of);

/* 1, a small number, or one up to `most`; all odd numbers and all even ones have their turn. */
uint32_t size(struct trial *t, uint32_t most);
float size_of_fill(const struct trial *t, float tiny, float limit);

/* Never NULL. */
void *must_alloc(uint64_t bytes);
/* Prints the sentence and ends the program when a call that cannot fail did. */
void must(tl_err err, const char *what);

/* Adds a device; false where its kernel class is that of a side with as many threads already. */
bool side_open(struct sides *sides, const tl_backend *backend, const char *isa_max,
               uint32_t n_threads, const char *debug);
void sides_close(struct sides *sides);

/* n_bytes of a row-major view of any dtype, filled for a weight: values of about `size`. */
void fill_weights(struct tl_rng *rng, tl_dtype dtype, void *dst, uint64_t rows, uint32_t cols,
                  float size);

/* Speed of every product and of attend on one side, against the bandwidth measured here. */
void bench(struct side *side, const char *op);
void bench_cache(struct side *side, const char *op, double peak);
/* What benches share: zeroed memory, the best time of run(arg, i) in nanoseconds, one line. */
tl_buf *filled(struct side *side, uint64_t bytes);
double time_of(void (*run)(void *arg, uint64_t i), void *arg);

#endif
