/* What a GPU says of itself, read from outside: NVIDIA through NVML, loaded when it is there; AMD
 * and Intel through sysfs. */
#ifndef TL_CLI_GPU_H
#define TL_CLI_GPU_H

#include "tui/dash.h"

/* Fills *out for the device that a session of this backend runs on. Whatever cannot be read here,
 * or does not exist (the CPU backend), is NaN. */
void gpu_read(const char *backend, const char *device, struct tui_device *out);

#endif
