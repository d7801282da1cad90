/* Where a recorded step's time goes, by shader: the test option "times". A timestamp stands behind
 * every dispatch of a graph with one lane; what lies between two of them goes to the shader in
 * between, with the barrier before it. Read when the graph's next run begins, summed in the device,
 * said when it closes. */
#include "vulkan.h"

#include <stdlib.h>

enum { NOTES_MAX = 8192 };

struct vk_times {
    VkQueryPool pool;
    uint32_t n; /* dispatches noted; timestamps: one more */
    uint8_t shaders[NOTES_MAX];
    uint64_t stamps[NOTES_MAX + 1];
};

tl_err vk_times_open(struct vk_dev *dev, VkCommandBuffer cmd, struct vk_times **out) {
    struct vk_times *const t = calloc(1, sizeof *t);
    if (t == NULL) {
        return TL_ERR_MEMORY;
    }
    const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                        .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                        .queryCount = NOTES_MAX + 1};
    const tl_err err = VK_CALL(dev, CreateQueryPool, VK_ERROR_OUT_OF_HOST_MEMORY,
                               (dev->handle, &info, NULL, &t->pool));
    if (err) {
        free(t);
        return err;
    }
    dev->api->CmdResetQueryPool(cmd, t->pool, 0, NOTES_MAX + 1);
    dev->api->CmdWriteTimestamp(cmd, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, t->pool, 0);
    *out = t;
    return TL_OK;
}

void vk_times_close(struct vk_dev *dev, struct vk_times *t) {
    if (t != NULL) {
        dev->api->DestroyQueryPool(dev->handle, t->pool, NULL);
        free(t);
    }
}

void vk_times_note(struct vk_dev *dev, struct vk_times *t, VkCommandBuffer cmd, vk_shader shader) {
    if (t != NULL && t->n < NOTES_MAX) {
        t->shaders[t->n++] = (uint8_t)shader;
        dev->api->CmdWriteTimestamp(cmd, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, t->pool, t->n);
    }
}

void vk_times_read(struct vk_dev *dev, struct vk_times *t) {
    if (t == NULL || t->n == 0 ||
        dev->api->GetQueryPoolResults(dev->handle, t->pool, 0, t->n + 1, sizeof t->stamps,
                                      t->stamps, sizeof t->stamps[0],
                                      VK_QUERY_RESULT_64_BIT) != VK_SUCCESS) {
        return;
    }
    pthread_mutex_lock(&dev->lock);
    for (uint32_t i = 0; i < t->n; i++) {
        struct vk_time *const sum = &dev->times[t->shaders[i]];
        sum->ns += (double)(t->stamps[i + 1] - t->stamps[i]) * dev->info.timestamp_ns;
        sum->n++;
    }
    pthread_mutex_unlock(&dev->lock);
}

void vk_times_say(const struct vk_dev *dev) {
    for (uint32_t i = 0; i < VK_SHADER_COUNT; i++) {
        const struct vk_time *const t = &dev->times[i];
        if (t->n > 0) {
            tl_say(&dev->log, TL_LEVEL_INFO,
                   "vulkan: %-16s %8llu dispatches %10.3f ms, %8.1f us each",
                   vk_shader_name((vk_shader)i), (unsigned long long)t->n, t->ns / 1e6,
                   t->ns / 1e3 / (double)t->n);
        }
    }
}
