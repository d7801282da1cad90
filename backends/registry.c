/* The explicit list of compiled-in backends, best first. The only file that knows which there are.
 */
#include "core/backend.h"

extern const tl_backend tl_backend_cpu, tl_backend_cuda, tl_backend_vulkan;

const tl_backend *const tl_backends[] = {
#ifdef TL_BUILD_CUDA
    &tl_backend_cuda,
#endif
#ifdef TL_BUILD_VULKAN
    &tl_backend_vulkan,
#endif
    &tl_backend_cpu,
    NULL,
};
