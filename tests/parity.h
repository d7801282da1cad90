/* What parity.c (cases) and parity_bench.c (speed) share: a device under test, operands that live
 * on the reference and on every candidate, and the way to print what runs where. */
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

/* Prints the sentence and ends the program when a call that cannot fail did. */
void must(tl_err err, const char *what);

/* Adds a device; false where its kernel class is that of a side with as many threads already. */
bool side_open(struct sides *sides, const tl_backend *backend, const char *isa_max,
               uint32_t n_threads);
void sides_close(struct sides *sides);

/* n_bytes of a row-major view of any dtype, filled for a weight: values of about `size`. */
void fill_weights(struct tl_rng *rng, tl_dtype dtype, void *dst, uint64_t rows, uint32_t cols,
                  float size);

/* Speed of every product and of attend on one side, against the bandwidth measured here. */
void bench(struct side *side, const char *op);

#endif
