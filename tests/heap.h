/* The heap as tests see it: what this thread allocates can be counted, and made to fail. Everything
 * linked into a test program goes through it (--wrap of malloc, calloc, realloc, aligned_alloc,
 * free); the C library's own allocations do not. */
#ifndef TL_HEAP_H
#define TL_HEAP_H

#include <stdint.h>

struct heap_report {
    uint64_t n_allocs;    /* calls, failed ones included */
    int64_t n_live;       /* blocks allocated and not freed: 0 unless something leaked */
    uint64_t bytes_total; /* asked for, all calls together */
};

/* From now on count, and let the fail_at-th allocation (from 1; 0: none) and all later ones fail.
 */
void heap_watch(uint64_t fail_at);
/* Stops counting and failing. */
struct heap_report heap_unwatch(void);

#endif
