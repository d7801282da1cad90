/* A device for tests of whatever drives a device: the CPU's, made as unhelpful as the seam allows.
 * An op is only queued when it is enqueued, and runs at some sync, in any order that its stream and
 * the events allow (drawn from a seed); device memory has no host address; captures are graphs that
 * run as one op. What forgets a wait or a sync, touches memory that an op still needs, or frees it,
 * gives other results here than on the CPU, or dies. */
#ifndef TL_LAZY_H
#define TL_LAZY_H

#include "core/backend.h"

extern const tl_backend lazy_backend; /* "lazy" */

/* From now on devices that are opened draw their orders from this seed, and can record graphs or
 * not. */
void lazy_configure(uint64_t seed, bool has_graphs);

#endif
