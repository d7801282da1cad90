/* The backends of programs that test the emulated card; stands in for backends/registry.c. */
#include "core/backend.h"

extern const tl_backend tl_backend_cpu, tl_backend_cuda;

const tl_backend *const tl_backends[] = {
    &tl_backend_cuda,
    &tl_backend_cpu,
    NULL,
};
