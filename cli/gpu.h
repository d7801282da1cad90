/* What the device itself says of its memory, load and link: NVML where that is installed, amdgpu,
 * xe and i915 by sysfs and by what the process's open files say of it, the host's own numbers for
 * the CPU. What cannot be read is a NaN. */
#ifndef TL_CLI_GPU_H
#define TL_CLI_GPU_H

#include "tui/dash.h"

/* Where to look. */
struct gpu_places {
    const char *nvml; /* a library's name */
    const char *drm;  /* "/sys/class/drm" */
    const char *proc; /* "/proc" */
};
extern const struct gpu_places gpu_places;

/* Whose device: the names of core/stats.h, and the process, by which one of several equal cards is
 * told from the others. */
struct gpu_who {
    char backend[16], device[128];
    uint64_t pid;
};

typedef struct gpu gpu;
/* Borrows the places. */
TL_MUST tl_err gpu_open(gpu **out, const struct gpu_places *places);
void gpu_close(gpu **g);

/* Reads now; asking NVML of the link takes 40 ms. Loads are means since the last call for the same
 * device, NaN at the first. */
void gpu_read(gpu *g, const struct gpu_who *who, struct tui_device *out);

/* The same in a thread of its own, so that nobody waits: what is asked for here is in gpu_latest
 * some time later. Not to be mixed with gpu_read. */
TL_MUST tl_err gpu_start(gpu *g);
void gpu_ask(gpu *g, const struct gpu_who *who);
void gpu_latest(gpu *g, struct tui_device *out);

#endif
