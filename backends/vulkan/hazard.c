/* Barriers by ranges of bytes. A Vulkan driver knows no ranges, it waits for everything; so a
 * barrier is all or nothing, and all that counts is whether there is one. */
#include "hazard.h"

static bool conflict(const struct vk_access *a, const struct vk_access *b) {
    return (a->writes || b->writes) && a->buffer == b->buffer && a->begin < b->end &&
           b->begin < a->end;
}

bool vk_hazard_note(struct vk_hazards *h, const struct vk_access *ops, uint32_t n) {
    bool barrier = n > VK_ACCESSES_MAX - h->n;
    for (uint32_t i = 0; i < n && !barrier; i++) {
        for (uint32_t j = 0; j < h->n && !barrier; j++) {
            barrier = conflict(&ops[i], &h->since[j]);
        }
    }
    if (barrier) {
        h->n = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        h->since[h->n++] = ops[i];
    }
    return barrier;
}
