/* What the readers of cli/gpu.c share. */
#ifndef TL_CLI_GPU_PRIV_H
#define TL_CLI_GPU_PRIV_H

#include "gpu.h"

enum { GPU_PATH_CAP = 512 };

/* ---- gpu_nvml.c ---- */

typedef struct gpu_nvml gpu_nvml;
/* Never NULL but where memory is out; a library that is missing or does not start answers nothing.
 */
gpu_nvml *gpu_nvml_open(const char *library);
void gpu_nvml_close(gpu_nvml *n);
/* False where none of its cards is meant. */
bool gpu_nvml_read(const gpu_nvml *n, const struct gpu_who *who, struct tui_device *out);

/* ---- gpu_drm.c ---- */

/* Counters at the last look; units are the driver's and cancel out. */
struct gpu_counters {
    double busy, all;
};
/* False where there is no such card. before: of the last call, and of this one then. */
bool gpu_drm_read(const struct gpu_places *places, const struct gpu_who *who,
                  struct gpu_counters *before, struct tui_device *out);

/* busy since the last call, 0 .. 1; NaN where that is not known. Keeps `now`. */
double gpu_busy_since(struct gpu_counters *before, struct gpu_counters now);

#endif
