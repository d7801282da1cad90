#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

uint64_t rng_next(struct tl_rng *rng) {
    rng->state += 0x9E3779B97F4A7C15u;
    uint64_t z = rng->state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct tl_rng *rng, uint64_t n) { return rng_next(rng) % n; }

float rng_float(struct tl_rng *rng) {
    return (float)(rng_next(rng) >> 40) / (float)(1 << 23) - 1.0f;
}

double rms_difference(const float *a, const float *b, uint32_t n) {
    double diffs = 0.0, squares = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        diffs += d * d;
        squares += (double)a[i] * (double)a[i];
    }
    return sqrt(diffs / fmax(squares, 1e-30));
}

const char *shared_path(const char *relative) {
    static _Thread_local char path[1024];
    snprintf(path, sizeof path, "%s/../shared/data/%s", TL_SOURCE_DIR, relative);
    return access(path, F_OK) == 0 ? path : NULL;
}

void shared_or_skip(void) {
    if (shared_path("README.md") == NULL) {
        print_message("skipped: ../shared is not beside this checkout\n");
        skip();
    }
}

tl_bytes read_file(const char *path) {
    tl_bytes bytes = {0};
    FILE *const f = path != NULL ? fopen(path, "rb") : NULL;
    if (f == NULL) {
        fail_msg("cannot open %s", path != NULL ? path : "(no path)");
        return bytes;
    }
    char block[65536];
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) {
        if (tl_bytes_add(&bytes, block, n)) {
            fail_msg("out of memory");
        }
    }
    fclose(f);
    if (bytes.data == NULL && tl_bytes_add(&bytes, "", 0)) {
        fail_msg("out of memory");
    }
    return bytes;
}

static void keep(void *user, tl_level level, const char *sentence) {
    struct kept_log *const kept = user;
    kept->n_errors += level == TL_LEVEL_ERROR;
    kept->n_warnings += level == TL_LEVEL_WARN;
    snprintf(kept->sentence, sizeof kept->sentence, "%s", sentence);
}

tl_log keep_log(struct kept_log *kept) {
    *kept = (struct kept_log){0};
    return (tl_log){keep, kept};
}
