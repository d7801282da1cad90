/* Streams: command buffers in a ring, a timeline semaphore that counts submissions, barriers from
 * hazard.c and from nowhere else. Ops are recorded as they come and submitted at a sync, or when
 * many have come, so that the device starts early.
 *
 * Invariant: hazards are noted for what is in the queue, submitted or not, since a barrier reaches
 * back over command buffers. Each submission ends with a barrier towards the host. */
#include "vulkan.h"

#include <stdlib.h>
#include <string.h>

enum {
    OPS_A_SUBMIT = 96, /* a layer or five; lavapipe takes 100 us for a submission */
    SETS_A_POOL = 256,
};

static struct vk_stream *stream_of(tl_stream *s) { return (struct vk_stream *)s; }

struct vk_dev *vk_dev_of(const tl_stream *s) {
    return (struct vk_dev *)s->dev;
}

/* ---- timelines ---- */

tl_err vk_timeline_open(struct vk_dev *dev, VkSemaphore *out) {
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                            .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                        .pNext = &type};
    return VK_CALL(dev, CreateSemaphore, VK_ERROR_OUT_OF_HOST_MEMORY,
                   (dev->handle, &info, NULL, out));
}

/* For as long as it takes: a software driver may compute for minutes, and of a card that hangs its
 * own driver says that it is lost. */
tl_err vk_timeline_wait(struct vk_dev *dev, VkSemaphore timeline, uint64_t value) {
    const VkSemaphoreWaitInfo wait = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                      .semaphoreCount = 1,
                                      .pSemaphores = &timeline,
                                      .pValues = &value};
    return VK_CALL(dev, WaitSemaphores, VK_ERROR_DEVICE_LOST, (dev->handle, &wait, UINT64_MAX));
}

/* ---- opening ---- */

tl_err vk_stream_open(tl_stream **out, tl_dev *base) {
    struct vk_dev *const dev = (struct vk_dev *)base;
    struct vk_stream *const s = calloc(1, sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    s->base.dev = base;
    /* The second of two goes where the first is not. */
    pthread_mutex_lock(&dev->lock);
    s->queue = &dev->queues[dev->queues[1].n_streams < dev->queues[0].n_streams];
    s->queue->n_streams++;
    pthread_mutex_unlock(&dev->lock);
    const VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = s->queue->family,
    };
    tl_err err = VK_CALL(dev, CreateCommandPool, VK_ERROR_OUT_OF_HOST_MEMORY,
                         (dev->handle, &pool, NULL, &s->pool));
    if (err == TL_OK) {
        err = vk_timeline_open(dev, &s->timeline);
    }
    VkCommandBuffer cmds[VK_RING];
    const VkCommandBufferAllocateInfo buffers = {.sType =
                                                     VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                 .commandPool = s->pool,
                                                 .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                 .commandBufferCount = VK_RING};
    if (err == TL_OK) {
        err = VK_CALL(dev, AllocateCommandBuffers, VK_ERROR_OUT_OF_HOST_MEMORY,
                      (dev->handle, &buffers, cmds));
    }
    if (err) {
        vk_stream_close(&s->base);
        return err;
    }
    for (uint32_t i = 0; i < VK_RING; i++) {
        s->ring[i].cmd = cmds[i];
        s->ring[i].hazards = &s->hazards;
    }
    *out = &s->base;
    return TL_OK;
}

void vk_recorder_free(struct vk_dev *dev, struct vk_recorder *r) {
    for (uint32_t i = 0; i < r->n_pools; i++) {
        dev->api->DestroyDescriptorPool(dev->handle, r->pools[i], NULL);
    }
    free(r->pools);
    vk_times_close(dev, r->times);
}

void vk_stream_close(tl_stream *base) {
    struct vk_stream *const s = stream_of(base);
    struct vk_dev *const dev = vk_dev_of(base);
    if (s->submitted > 0) {
        vk_settle(dev);
    }
    for (uint32_t i = 0; i < VK_RING; i++) {
        vk_recorder_free(dev, &s->ring[i]);
    }
    for (uint32_t slot = 0; slot < 2; slot++) {
        for (uint32_t i = 0; i < s->n_scratch[slot]; i++) {
            vk_buf_free(s->scratch[slot][i]);
        }
    }
    dev->api->DestroySemaphore(dev->handle, s->timeline, NULL);
    dev->api->DestroyCommandPool(dev->handle, s->pool, NULL);
    pthread_mutex_lock(&dev->lock);
    s->queue->n_streams--;
    pthread_mutex_unlock(&dev->lock);
    free(s);
}

/* ---- submitting ---- */

static void barrier_to(struct vk_dev *dev, VkCommandBuffer cmd, VkPipelineStageFlags stages,
                       VkAccessFlags accesses) {
    const VkMemoryBarrier memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                    .srcAccessMask =
                                        VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                                    .dstAccessMask = accesses};
    dev->api->CmdPipelineBarrier(
        cmd, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT, stages, 0, 1,
        &memory, 0, NULL, 0, NULL);
}

enum {
    WORK_STAGES = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
    WORK_ACCESSES = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                    VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
    HOST_ACCESSES = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT,
};

void vk_barrier(struct vk_dev *dev, VkCommandBuffer cmd) {
    barrier_to(dev, cmd, WORK_STAGES | VK_PIPELINE_STAGE_HOST_BIT, WORK_ACCESSES | HOST_ACCESSES);
}

tl_err vk_submit(struct vk_dev *dev, const struct vk_submission *s) {
    VkPipelineStageFlags stages[VK_WAITS_MAX];
    TL_ASSERT(s->n_waits <= VK_WAITS_MAX);
    for (uint32_t i = 0; i < s->n_waits; i++) {
        stages[i] = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    }
    const VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = s->n_waits,
        .pWaitSemaphoreValues = s->wait_values,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &s->signal_value};
    const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                               .pNext = &values,
                               .waitSemaphoreCount = s->n_waits,
                               .pWaitSemaphores = s->waits,
                               .pWaitDstStageMask = stages,
                               .commandBufferCount = s->cmd != VK_NULL_HANDLE ? 1 : 0,
                               .pCommandBuffers = &s->cmd,
                               .signalSemaphoreCount = 1,
                               .pSignalSemaphores = &s->signal};
    pthread_mutex_lock(&dev->lock);
    const tl_err err = VK_CALL(dev, QueueSubmit, VK_ERROR_DEVICE_LOST,
                               (s->queue->handle, 1, &info, VK_NULL_HANDLE));
    pthread_mutex_unlock(&dev->lock);
    return err;
}

tl_err vk_stream_submit(struct vk_stream *s, VkCommandBuffer cmd) {
    const struct vk_submission submission = {.queue = s->queue,
                                             .cmd = cmd,
                                             .waits = s->waits,
                                             .wait_values = s->wait_values,
                                             .n_waits = s->n_waits,
                                             .signal = s->timeline,
                                             .signal_value = s->submitted + 1};
    TL_TRY(vk_submit(vk_dev_of(&s->base), &submission));
    s->submitted++;
    s->n_waits = 0;
    return TL_OK;
}

tl_err vk_stream_flush(struct vk_stream *s) {
    struct vk_dev *const dev = vk_dev_of(&s->base);
    struct vk_recorder *const r = &s->ring[s->now];
    if (r->n_ops == 0) {
        return TL_OK;
    }
    r->n_ops = 0;
    barrier_to(dev, r->cmd, VK_PIPELINE_STAGE_HOST_BIT, HOST_ACCESSES);
    TL_TRY(VK_CALL(dev, EndCommandBuffer, VK_ERROR_OUT_OF_HOST_MEMORY, (r->cmd)));
    TL_TRY(vk_stream_submit(s, r->cmd));
    s->ring_values[s->now] = s->submitted;
    s->now = (s->now + 1) % VK_RING;
    return TL_OK;
}

tl_err vk_stream_wait(struct vk_stream *s, VkSemaphore timeline, uint64_t value) {
    TL_TRY(vk_stream_flush(s)); /* what stands before does not wait */
    if (s->n_waits == VK_WAITS_MAX) {
        TL_TRY(vk_stream_submit(s, VK_NULL_HANDLE));
    }
    s->waits[s->n_waits] = timeline;
    s->wait_values[s->n_waits++] = value;
    return TL_OK;
}

/* Fails for good where the device has, or where the validation layer found fault. */
static tl_err check_alive(struct vk_dev *dev) {
    if (vk_has_failed(dev)) {
        return TL_ERR_DEVICE;
    }
    if (vk_has_messages(dev)) {
        vk_set_failed(dev);
        return TL_ERR_DEVICE;
    }
    return TL_OK;
}

static tl_err sync(struct vk_stream *s) {
    struct vk_dev *const dev = vk_dev_of(&s->base);
    TL_TRY(check_alive(dev));
    TL_TRY(vk_stream_flush(s));
    if (s->n_waits > 0) {
        TL_TRY(vk_stream_submit(s, VK_NULL_HANDLE));
    }
    TL_TRY(vk_timeline_wait(dev, s->timeline, s->submitted));
    return check_alive(dev);
}

tl_err vk_stream_sync(tl_stream *s) {
    const tl_err err = sync(stream_of(s));
    if (err) {
        vk_set_failed(vk_dev_of(s));
        vk_settle(vk_dev_of(s));
    }
    return err;
}

void vk_settle(struct vk_dev *dev) {
    pthread_mutex_lock(&dev->lock);
    (void)dev->api->DeviceWaitIdle(dev->handle);
    pthread_mutex_unlock(&dev->lock);
}

/* ---- recording ---- */

static tl_err begin(struct vk_dev *dev, struct vk_recorder *r) {
    for (uint32_t i = 0; i < r->n_pools; i++) {
        TL_TRY(VK_CALL(dev, ResetDescriptorPool, VK_ERROR_OUT_OF_HOST_MEMORY,
                       (dev->handle, r->pools[i], 0)));
    }
    r->n_sets = 0;
    const VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                           .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    return VK_CALL(dev, BeginCommandBuffer, VK_ERROR_OUT_OF_HOST_MEMORY, (r->cmd, &info));
}

/* The command buffer to record in, open. */
static tl_err recorder(struct vk_stream *s, struct vk_recorder **out) {
    struct vk_dev *const dev = vk_dev_of(&s->base);
    TL_TRY(check_alive(dev));
    if (s->graph != NULL) {
        return vk_graph_recorder(s, out);
    }
    if (s->ring[s->now].n_ops >= OPS_A_SUBMIT) {
        TL_TRY(vk_stream_flush(s));
    }
    struct vk_recorder *const r = &s->ring[s->now];
    if (r->n_ops == 0) {
        TL_TRY(vk_timeline_wait(dev, s->timeline, s->ring_values[s->now]));
        TL_TRY(begin(dev, r));
    }
    *out = r;
    return TL_OK;
}

/* A barrier where the op's accesses need one. */
static void order(struct vk_dev *dev, struct vk_recorder *r, const struct vk_access *ops,
                  uint32_t n) {
    if (vk_hazard_note(r->hazards, ops, n)) {
        barrier_to(dev, r->cmd, WORK_STAGES, WORK_ACCESSES);
    }
    r->n_ops++;
}

static struct vk_access access_of(VkBuffer buffer, uint64_t off, uint64_t bytes, bool writes) {
    return (struct vk_access){(uint64_t)(uintptr_t)buffer, off, off + bytes, writes};
}

static const struct vk_buf *buf_of(const tl_view *v) { return (const struct vk_buf *)v->buf; }

tl_err vk_op_failed(struct vk_dev *dev, tl_err err) {
    vk_set_failed(dev);
    return err;
}

static tl_err copy(tl_stream *base, const tl_view *dst, const tl_view *src) {
    struct vk_stream *const s = stream_of(base);
    const struct vk_buf *const to = buf_of(dst), *const from = buf_of(src);
    const VkBufferCopy region = {from->off + src->off_bytes, to->off + dst->off_bytes,
                                 tl_view_bytes(*src)};
    struct vk_recorder *r;
    TL_TRY(recorder(s, &r));
    const struct vk_access accesses[] = {
        access_of(from->block->buffer, region.srcOffset, region.size, false),
        access_of(to->block->buffer, region.dstOffset, region.size, true)};
    order(vk_dev_of(base), r, accesses, 2);
    vk_dev_of(base)->api->CmdCopyBuffer(r->cmd, from->block->buffer, to->block->buffer, 1, &region);
    return TL_OK;
}

tl_err vk_copy(tl_stream *s, const tl_view *dst, const tl_view *src) {
    const tl_err err = copy(s, dst, src);
    return err ? vk_op_failed(vk_dev_of(s), err) : TL_OK;
}

tl_err vk_zero(tl_stream *base, const struct vk_buf *buf, uint64_t bytes) {
    struct vk_stream *const s = stream_of(base);
    struct vk_recorder *r;
    TL_TRY(recorder(s, &r));
    const struct vk_access access = access_of(buf->block->buffer, buf->off, bytes, true);
    order(vk_dev_of(base), r, &access, 1);
    vk_dev_of(base)->api->CmdFillBuffer(r->cmd, buf->block->buffer, buf->off, bytes, 0);
    return TL_OK;
}

struct vk_binding vk_bind(const struct vk_dev *dev, const tl_view *v, uint64_t at, uint64_t n,
                          bool writes) {
    const struct vk_buf *const buf = buf_of(v);
    const uint64_t first = buf->off + v->off_bytes + at;
    const uint64_t off = first / dev->info.offset_align * dev->info.offset_align;
    const uint64_t bytes = n != 0 ? n : tl_view_bytes(*v) - at;
    /* Whole vectors are read: to the next 16 bytes, which a span's padding leaves room for. */
    const uint64_t end = tl_min_u64(tl_align_up(first + bytes, 16), buf->block->bytes);
    return (struct vk_binding){buf->block->buffer, off, end - off, (uint32_t)(first - off), writes};
}

struct vk_binding vk_bind_optional(const struct vk_dev *dev, const tl_view *v, bool writes,
                                   const struct vk_binding *instead) {
    if (v->buf != NULL) {
        return vk_bind(dev, v, 0, 0, writes);
    }
    struct vk_binding b = *instead;
    b.writes = false;
    return b;
}

/* A set of the newest pool that has one left. */
static tl_err take_set(struct vk_dev *dev, struct vk_recorder *r, VkDescriptorSetLayout layout,
                       VkDescriptorSet *set) {
    const uint32_t pool = r->n_sets / SETS_A_POOL;
    if (pool == r->n_pools) {
        VkDescriptorPool *const pools =
            realloc(r->pools, (r->n_pools + 1) * sizeof(VkDescriptorPool));
        if (pools == NULL) {
            return TL_ERR_MEMORY;
        }
        r->pools = pools;
        const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           SETS_A_POOL * VK_BINDINGS_MAX};
        const VkDescriptorPoolCreateInfo info = {.sType =
                                                     VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                                 .maxSets = SETS_A_POOL,
                                                 .poolSizeCount = 1,
                                                 .pPoolSizes = &size};
        TL_TRY(VK_CALL(dev, CreateDescriptorPool, VK_ERROR_OUT_OF_HOST_MEMORY,
                       (dev->handle, &info, NULL, &pools[r->n_pools])));
        r->n_pools++;
    }
    const VkDescriptorSetAllocateInfo info = {.sType =
                                                  VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                              .descriptorPool = r->pools[pool],
                                              .descriptorSetCount = 1,
                                              .pSetLayouts = &layout};
    TL_TRY(VK_CALL(dev, AllocateDescriptorSets, VK_ERROR_OUT_OF_DEVICE_MEMORY,
                   (dev->handle, &info, set)));
    r->n_sets++;
    return TL_OK;
}

static tl_err bind_buffers(struct vk_dev *dev, struct vk_recorder *r, const struct vk_call *call,
                           const struct vk_pipeline *pipeline) {
    VkDescriptorBufferInfo buffers[VK_BINDINGS_MAX];
    VkWriteDescriptorSet writes[VK_BINDINGS_MAX];
    VkDescriptorSet set = VK_NULL_HANDLE;
    const bool push = dev->info.has[VK_HAS_PUSH_DESCRIPTORS];
    if (!push) {
        TL_TRY(take_set(dev, r, pipeline->set_layout, &set));
    }
    for (uint32_t i = 0; i < call->n_bindings; i++) {
        const struct vk_binding *const b = &call->bindings[i];
        buffers[i] = (VkDescriptorBufferInfo){b->buffer, b->off, b->bytes};
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = set,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &buffers[i]};
    }
    if (push) {
        dev->api->CmdPushDescriptorSetKHR(r->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->layout,
                                          0, call->n_bindings, writes);
    } else {
        dev->api->UpdateDescriptorSets(dev->handle, call->n_bindings, writes, 0, NULL);
        dev->api->CmdBindDescriptorSets(r->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->layout, 0,
                                        1, &set, 0, NULL);
    }
    return TL_OK;
}

static tl_err dispatch(tl_stream *base, const struct vk_call *call) {
    struct vk_stream *const s = stream_of(base);
    struct vk_dev *const dev = vk_dev_of(base);
    TL_ASSERT(call->n_bindings <= VK_BINDINGS_MAX && call->n_push * 4 <= VK_PUSH_BYTES);
    for (uint32_t i = 0; i < call->n_bindings; i++) {
        if (call->bindings[i].bytes > dev->info.range_max) {
            return tl_fail(&dev->log, TL_ERR_UNSUPPORTED,
                           "vulkan: %s: %s needs %llu bytes at once, its driver binds at most %llu",
                           dev->info.name, vk_shader_name(call->variant.shader),
                           (unsigned long long)call->bindings[i].bytes,
                           (unsigned long long)dev->info.range_max);
        }
    }
    const struct vk_pipeline *pipeline;
    struct vk_recorder *r;
    TL_TRY(check_alive(dev));
    TL_TRY(vk_pipeline_get(dev, &call->variant, &pipeline));
    TL_TRY(recorder(s, &r));
    struct vk_access accesses[VK_BINDINGS_MAX];
    for (uint32_t i = 0; i < call->n_bindings; i++) {
        const struct vk_binding *const b = &call->bindings[i];
        accesses[i] = access_of(b->buffer, b->off, b->bytes, b->writes);
    }
    order(dev, r, accesses, call->n_bindings);
    dev->api->CmdBindPipeline(r->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->handle);
    TL_TRY(bind_buffers(dev, r, call, pipeline));
    dev->api->CmdPushConstants(r->cmd, pipeline->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                               call->n_push * 4, call->push);
    dev->api->CmdDispatch(r->cmd, call->groups[0], call->groups[1], call->groups[2]);
    vk_times_note(dev, r->times, r->cmd, call->variant.shader);
    return TL_OK;
}

tl_err vk_dispatch(tl_stream *s, const struct vk_call *call) {
    const tl_err err = dispatch(s, call);
    return err ? vk_op_failed(vk_dev_of(s), err) : TL_OK;
}

/* Buffers that became too small stay until the stream closes: commands that were recorded name
 * them. Doubling bounds them to as much again. */
tl_err vk_scratch(tl_stream *base, uint32_t slot, uint64_t bytes, tl_view *out) {
    struct vk_stream *const s = stream_of(base);
    uint32_t *const n = &s->n_scratch[slot];
    const uint64_t has = *n > 0 ? s->scratch[slot][*n - 1]->bytes : 0;
    if (bytes > has) {
        if (*n == sizeof s->scratch[slot] / sizeof s->scratch[slot][0]) {
            return tl_fail(&vk_dev_of(base)->log, TL_ERR_MEMORY, "vulkan: no more scratch");
        }
        const uint64_t wanted = tl_max_u64(tl_max_u64(bytes, 2 * has), 1u << 20);
        const tl_err err =
            vk_buf_alloc(&s->scratch[slot][*n], base->dev, tl_align_up(wanted, 256), TL_MEM_DEVICE);
        if (err) {
            return vk_op_failed(vk_dev_of(base), err);
        }
        ++*n;
    }
    *out = (tl_view){s->scratch[slot][*n - 1], 0, (uint32_t)(tl_align_up(bytes, 4) / 4), 1, TL_I32};
    return TL_OK;
}
