/* Which ops of a stream must wait for which: the one place that decides on barriers. Pure
 * bookkeeping without a device, so that it can be tested against a naive model. */
#ifndef VK_HAZARD_H
#define VK_HAZARD_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes [begin, end) of a buffer that an op reads, or writes (and perhaps reads). */
struct vk_access {
    uint64_t buffer, begin, end;
    bool writes;
};

enum { VK_ACCESSES_MAX = 128 };

/* What happened since the last barrier. Zero-initialise. */
struct vk_hazards {
    struct vk_access since[VK_ACCESSES_MAX];
    uint32_t n;
};

/* Notes an op's n accesses. True where a barrier must stand before it: it reads what was written
 * since the last one, or writes what was read or written; or there is no room to remember it. With
 * the barrier, all before it is forgotten. The accesses of one op do not count against each other.
 * n is at most VK_ACCESSES_MAX. */
bool vk_hazard_note(struct vk_hazards *h, const struct vk_access *ops, uint32_t n);

#endif
