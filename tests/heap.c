/* The wrappers behind heap.h. Invariant: without heap_watch they are the C library's functions. */
#include "heap.h"

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void __real_free(void *block);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void __wrap_free(void *block);

static _Thread_local struct {
    bool on;
    uint64_t fail_at;
    struct heap_report report;
} watch;

/* Counts one allocation; false when it must fail. */
static bool count(size_t bytes, bool new_block) {
    if (!watch.on) {
        return true;
    }
    watch.report.n_allocs++;
    watch.report.bytes_total += bytes;
    const bool fails = watch.fail_at != 0 && watch.report.n_allocs >= watch.fail_at;
    watch.report.n_live += new_block && !fails;
    return !fails;
}

void *__wrap_malloc(size_t bytes) { return count(bytes, true) ? __real_malloc(bytes) : NULL; }

void *__wrap_calloc(size_t n, size_t bytes) {
    return count(n * bytes, true) ? __real_calloc(n, bytes) : NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return count(bytes, true) ? __real_aligned_alloc(alignment, bytes) : NULL;
}

void *__wrap_realloc(void *block, size_t bytes) {
    return count(bytes, block == NULL) ? __real_realloc(block, bytes) : NULL;
}

void __wrap_free(void *block) {
    watch.report.n_live -= watch.on && block != NULL;
    __real_free(block);
}

void heap_watch(uint64_t fail_at) {
    watch.report = (struct heap_report){0};
    watch.fail_at = fail_at;
    watch.on = true;
}

struct heap_report heap_unwatch(void) {
    watch.on = false;
    return watch.report;
}
