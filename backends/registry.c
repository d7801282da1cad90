/* The explicit list of compiled-in backends, best first. The only file that knows which there are. */
#include "core/backend.h"

extern const tl_backend tl_backend_cpu;

const tl_backend *const tl_backends[] = {
    &tl_backend_cpu,
    NULL,
};
