/* What the tests share: a seeded random generator, the way to ../shared, files in memory. */
#ifndef TL_SUPPORT_H
#define TL_SUPPORT_H

#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* splitmix64: same seed, same numbers, on every machine. */
struct tl_rng {
    uint64_t state;
};
uint64_t rng_next(struct tl_rng *rng);
uint64_t rng_below(struct tl_rng *rng, uint64_t n); /* 0 .. n-1; n > 0 */
float rng_float(struct tl_rng *rng);                /* uniform in [-1, 1) */

/* Root mean square of b - a, as a part of a's own. a, b (n) */
double rms_difference(const float *a, const float *b, uint32_t n);

/* The path of a file of ../shared (beside the checkout), in a static buffer per call site's
 * thread: valid until the next call. NULL where ../shared is absent. */
const char *shared_path(const char *relative);
/* Prints why and skips the running cmocka test when ../shared is absent. */
void shared_or_skip(void);

/* The whole file, NUL-terminated; fails the test when it cannot be read. Free with tl_bytes_free.
 */
tl_bytes read_file(const char *path);

/* A log that keeps the last sentence. */
struct kept_log {
    char sentence[1024];
    unsigned n_errors, n_warnings;
};
tl_log keep_log(struct kept_log *kept);

#endif
