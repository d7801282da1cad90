/* The emulated CUDA device: the .cu files and the C half of backends/cuda, compiled by g++ against
 * the headers in include/, run on the host. Only tests link it. What it does and does not show:
 *
 *   each CUDA thread is a fiber; __syncthreads and warp operations are where fibers meet, and who
 *   runs first in between is drawn anew for every launch. A barrier that not all threads reach ends
 *   the program with a sentence. Dynamic shared memory holds garbage when a launch begins.
 *   streams are queues that run when somebody waits, in any order that events allow; so a missing
 *   wait shows as wrong numbers. Captured graphs are such queues too.
 *   not shown: memory order between blocks, limits of registers, tensor cores' own rounding. */
#ifndef EMU_H
#define EMU_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct emu_options {
    uint64_t seed;
    uint32_t n_devices, capability, n_sms;
    uint64_t device_bytes, pinned_bytes; /* of memory */
    /* The n-th call from now on fails, counted from 1; 0: none does. */
    uint64_t fail_device_alloc, fail_pinned_alloc, fail_other;
    uint64_t fault_launch; /* the n-th kernel breaks the device: every later call says so */
    /* This call, counted from 1, of the entry point of this name fails; NULL: none. */
    const char *fail_entry;
    uint64_t fail_entry_call;
    uint64_t fault_kernel; /* the n-th kernel that was not launched before breaks the device */
    uint64_t fault_run;    /* the n-th run of any, those of graphs too */
    bool busy;             /* the card belongs to another process */
    bool watch_pinned;     /* count kernels that touch pinned memory: emu_counts.n_far */
};
/* One card of capability 8.6 with 3 multiprocessors and 8 GiB. Never while anything is allocated.
 */
struct emu_options emu_defaults(void);
void emu_configure(const struct emu_options *options);

/* What is allocated or open: memory of both kinds, streams, events, graphs. */
struct emu_counts {
    uint64_t device_bytes, pinned_bytes, n_objects, n_launches, n_other;
    uint64_t n_kernels, n_run; /* different kernels launched; runs of them */
    uint64_t n_far; /* kernels run that read or wrote pinned memory, while that was watched */
};
struct emu_counts emu_count(void);
/* Entry points of the runtime that were called since the last emu_configure; returns how many. */
struct emu_entry {
    const char *name;
    uint64_t n_calls;
};
uint32_t emu_entries(struct emu_entry *out, uint32_t cap);

#ifdef __cplusplus
}
#endif

#endif
