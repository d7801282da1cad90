/* Device and host memory: few large allocations (blocks), each with one buffer over all of it,
 * given out in spans. A tl_buf is a span, a binding a piece of one; nothing is larger than the
 * driver's limit for one allocation.
 *
 * Where the device computes in host memory and can import it, a block is an anonymous mapping of
 * our own: committed by the first touch, as on the CPU, so a long context costs nothing until it is
 * filled. Elsewhere a block is the driver's, and is filled with zeros when a span is given out.
 *
 * Invariant: spans of a block lie in order without gaps, no two free ones side by side; bytes from
 * `top` on were never given out and are zero if the block is an import. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "vulkan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SPAN_ALIGN = 256, /* every offset alignment that Vulkan allows */
    PAD_BYTES = 16,   /* behind a span: kernels read whole words */
};
#define BLOCK_BYTES (64ull << 20)

struct vk_span {
    struct vk_span *next;
    uint64_t off, bytes;
    bool used;
};

static struct vk_dev *dev_of(tl_dev *dev) { return (struct vk_dev *)dev; }

/* ---- blocks ---- */

static void free_block(struct vk_dev *dev, struct vk_block *block) {
    dev->api->DestroyBuffer(dev->handle, block->buffer, NULL);
    dev->api->FreeMemory(dev->handle, block->memory, NULL);
    if (block->pages != NULL) {
        munmap(block->pages, (size_t)block->bytes);
    }
    for (struct vk_span *span = block->spans; span != NULL;) {
        struct vk_span *const next = span->next;
        free(span);
        span = next;
    }
    free(block);
}

/* What is imported may be refused without a word: it is copied then. */
static tl_err judge(struct vk_dev *dev, const void *import, VkResult result, const char *what) {
    const bool refused = result != VK_SUCCESS && result != VK_ERROR_DEVICE_LOST;
    return import != NULL && refused ? TL_ERR_UNSUPPORTED : vk_check(dev, result, what);
}

static tl_err create_buffer(struct vk_dev *dev, struct vk_block *block, const void *import) {
    const VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    uint32_t families[] = {dev->info.family, dev->info.transfer_family};
    const bool two = families[0] != families[1];
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .pNext = import != NULL ? &external : NULL,
        .size = block->bytes,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        .sharingMode = two ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
        .queueFamilyIndexCount = two ? 2 : 0,
        .pQueueFamilyIndices = families,
    };
    return judge(dev, import,
                 VK_RESULT(dev, CreateBuffer, VK_ERROR_OUT_OF_HOST_MEMORY,
                           (dev->handle, &info, NULL, &block->buffer)),
                 "vkCreateBuffer");
}

/* Memory of block->type for the buffer, from `import` where that is not NULL, and mapped. */
static tl_err bind_memory(struct vk_dev *dev, struct vk_block *block, const void *import,
                          bool mapped) {
    VkMemoryRequirements needs;
    dev->api->GetBufferMemoryRequirements(dev->handle, block->buffer, &needs);
    if ((needs.memoryTypeBits >> block->type & 1) == 0) {
        return TL_ERR_UNSUPPORTED;
    }
    const VkImportMemoryHostPointerInfoEXT imported = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
        .pHostPointer = (void *)(uintptr_t)import}; /* read-only, as the contract says */
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = import != NULL ? &imported : NULL,
                                       .allocationSize = import != NULL ? block->bytes : needs.size,
                                       .memoryTypeIndex = block->type};
    TL_TRY(judge(dev, import,
                 VK_RESULT(dev, AllocateMemory, VK_ERROR_OUT_OF_DEVICE_MEMORY,
                           (dev->handle, &info, NULL, &block->memory)),
                 "vkAllocateMemory"));
    TL_TRY(judge(dev, import,
                 VK_RESULT(dev, BindBufferMemory, VK_ERROR_OUT_OF_DEVICE_MEMORY,
                           (dev->handle, block->buffer, block->memory, 0)),
                 "vkBindBufferMemory"));
    if (import != NULL) {
        block->map = (uint8_t *)(uintptr_t)import;
        return TL_OK;
    }
    void *map = NULL;
    if (mapped) {
        TL_TRY(VK_CALL(dev, MapMemory, VK_ERROR_MEMORY_MAP_FAILED,
                       (dev->handle, block->memory, 0, VK_WHOLE_SIZE, 0, &map)));
    }
    block->map = map;
    return TL_OK;
}

static tl_err one_span(struct vk_block *block) {
    block->spans = calloc(1, sizeof *block->spans);
    if (block->spans == NULL) {
        return TL_ERR_MEMORY;
    }
    block->spans->bytes = block->bytes;
    return TL_OK;
}

/* import NULL: the driver's own memory. Not in the list of blocks yet. */
static tl_err new_block(struct vk_dev *dev, uint64_t bytes, uint32_t type, const void *import,
                        bool mapped, struct vk_block **out) {
    struct vk_block *const block = calloc(1, sizeof *block);
    if (block == NULL) {
        return TL_ERR_MEMORY;
    }
    block->bytes = bytes;
    block->type = type;
    tl_err err = one_span(block);
    if (err == TL_OK) {
        err = create_buffer(dev, block, import);
    }
    if (err == TL_OK) {
        err = bind_memory(dev, block, import, mapped);
    }
    if (err) {
        free_block(dev, block);
        return err;
    }
    *out = block;
    return TL_OK;
}

/* The memory type with which [host, host + bytes) can be imported; false where it cannot. */
static bool import_type(struct vk_dev *dev, const void *host, uint32_t wanted, uint32_t *type) {
    if (!dev->info.has[VK_HAS_HOST_IMPORT] || dev->api->GetMemoryHostPointerPropertiesEXT == NULL) {
        return false;
    }
    VkMemoryHostPointerPropertiesEXT p = {.sType =
                                              VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    if (vk_injected(dev, VK_ERROR_OUT_OF_HOST_MEMORY) ||
        dev->api->GetMemoryHostPointerPropertiesEXT(
            dev->handle, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, host, &p) !=
            VK_SUCCESS ||
        p.memoryTypeBits == 0) {
        return false;
    }
    *type =
        (p.memoryTypeBits >> wanted & 1) != 0 ? wanted : (uint32_t)__builtin_ctz(p.memoryTypeBits);
    return true;
}

/* Our own pages, imported; fails quietly where the driver does not want them. */
static bool import_pages(struct vk_dev *dev, uint64_t bytes, uint32_t wanted,
                         struct vk_block **out) {
    void *const pages =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t type;
    if (pages == MAP_FAILED) {
        return false;
    }
    if (!import_type(dev, pages, wanted, &type) ||
        new_block(dev, bytes, type, pages, true, out) != TL_OK) {
        munmap(pages, (size_t)bytes);
        return false;
    }
    (*out)->pages = pages;
    (*out)->type = wanted; /* what it stands for */
    return true;
}

/* Whether so many bytes more are still within what the device says is free. */
static bool has_room(struct vk_dev *dev, uint64_t bytes) {
    uint64_t total, free_bytes;
    vk_memory_budget(dev, &total, &free_bytes);
    return free_bytes == 0 || bytes <= free_bytes;
}

/* A block of its own where memory is short, or where the layer is to see what lies behind it; else
 * one that has room for more. */
static tl_err add_block(struct vk_dev *dev, uint64_t bytes, uint32_t type, bool mapped,
                        struct vk_block **out) {
    const uint64_t page = tl_max_u64(dev->info.import_align, 4096);
    const uint64_t whole = tl_align_up(tl_max_u64(bytes, BLOCK_BYTES), page);
    const uint64_t rounded =
        whole <= dev->info.alloc_max && !dev->debug.gpuav && has_room(dev, whole)
            ? whole
            : tl_align_up(bytes, page);
    if (rounded > dev->info.alloc_max || bytes > SIZE_MAX / 2) {
        return tl_fail(&dev->log, TL_ERR_MEMORY,
                       "vulkan: %s: %llu MiB at once, its driver gives at most %llu",
                       dev->info.name, (unsigned long long)(bytes >> 20),
                       (unsigned long long)(dev->info.alloc_max >> 20));
    }
    if (dev->debug.heap != 0 && dev->allocated_bytes + rounded > dev->debug.heap) {
        return vk_check(dev, VK_ERROR_OUT_OF_DEVICE_MEMORY, "vkAllocateMemory");
    }
    if (!dev->info.unified || !import_pages(dev, rounded, type, out)) {
        TL_TRY(new_block(dev, rounded, type, NULL, mapped, out));
    }
    dev->allocated_bytes += rounded;
    (*out)->next = dev->blocks;
    dev->blocks = *out;
    return TL_OK;
}

static void drop_block(struct vk_dev *dev, struct vk_block *block) {
    struct vk_block **at = &dev->blocks;
    while (*at != block) {
        at = &(*at)->next;
    }
    *at = block->next;
    dev->allocated_bytes -= block->wrapped ? 0 : block->bytes;
    free_block(dev, block);
}

void vk_memory_close(struct vk_dev *dev) {
    while (dev->blocks != NULL) {
        drop_block(dev, dev->blocks);
    }
}

/* ---- spans ---- */

static bool is_empty(const struct vk_block *block) {
    return !block->spans->used && block->spans->next == NULL;
}

/* A free span of at least `bytes` in a block of this kind, or NULL. */
static struct vk_span *find_span(struct vk_dev *dev, uint64_t bytes, uint32_t type, bool mapped,
                                 struct vk_block **in) {
    for (struct vk_block *block = dev->blocks; block != NULL; block = block->next) {
        if (block->type != type || block->wrapped || mapped != (block->map != NULL)) {
            continue;
        }
        for (struct vk_span *span = block->spans; span != NULL; span = span->next) {
            if (!span->used && span->bytes >= bytes) {
                *in = block;
                return span;
            }
        }
    }
    return NULL;
}

/* Cuts what is too much off a free span; without memory for that it stays too large. */
static void take_span(struct vk_span *span, uint64_t bytes) {
    span->used = true;
    struct vk_span *const rest = span->bytes > bytes ? calloc(1, sizeof *rest) : NULL;
    if (rest != NULL) {
        *rest = (struct vk_span){span->next, span->off + bytes, span->bytes - bytes, false};
        span->next = rest;
        span->bytes = bytes;
    }
}

static void join_behind(struct vk_span *span) {
    struct vk_span *const next = span->next;
    if (next != NULL && !span->used && !next->used) {
        span->bytes += next->bytes;
        span->next = next->next;
        free(next);
    }
}

static void give_span(struct vk_block *block, uint64_t off) {
    struct vk_span *before = NULL, *span = block->spans;
    while (span->off != off) {
        before = span;
        span = span->next;
    }
    span->used = false;
    join_behind(span);
    if (before != NULL) {
        join_behind(before);
    }
}

/* ---- buffers ---- */

/* Zeros where the host cannot write them. */
static tl_err fill_on_device(struct vk_dev *dev, struct vk_buf *buf, uint64_t bytes) {
    tl_stream *s;
    TL_TRY(vk_stream_open(&s, &dev->base));
    tl_err err = vk_zero(s, buf, bytes);
    if (err == TL_OK) {
        err = vk_stream_sync(s);
    }
    vk_stream_close(s);
    return err;
}

static tl_err clear(struct vk_dev *dev, struct vk_buf *buf, uint64_t bytes) {
    struct vk_block *const block = buf->block;
    const uint64_t end = buf->off + bytes;
    const uint64_t dirty = block->pages == NULL ? end : tl_min_u64(end, block->top);
    block->top = tl_max_u64(block->top, end);
    if (buf->off >= dirty) {
        return TL_OK;
    }
    if (block->map != NULL) {
        memset(block->map + buf->off, 0, (size_t)(dirty - buf->off));
        return TL_OK;
    }
    return fill_on_device(dev, buf, bytes);
}

static tl_err take(struct vk_dev *dev, uint64_t bytes, uint32_t type, bool mapped,
                   struct vk_buf *buf) {
    struct vk_span *span = find_span(dev, bytes, type, mapped, &buf->block);
    if (span == NULL) {
        TL_TRY(add_block(dev, bytes, type, mapped, &buf->block));
        span = buf->block->spans;
    }
    take_span(span, bytes);
    buf->off = span->off;
    return TL_OK;
}

tl_err vk_buf_alloc(tl_buf **out, tl_dev *base, uint64_t bytes, tl_mem mem) {
    struct vk_dev *const dev = dev_of(base);
    if (bytes > SIZE_MAX / 2) {
        return tl_fail(&dev->log, TL_ERR_MEMORY, "vulkan: no room for %llu MiB",
                       (unsigned long long)(bytes >> 20));
    }
    struct vk_buf *const buf = calloc(1, sizeof *buf);
    if (buf == NULL) {
        return TL_ERR_MEMORY;
    }
    const struct vk_memory_types *const types = &dev->info.types;
    const bool host = mem == TL_MEM_HOST, mapped = host || types->device_mapped;
    const uint64_t whole = tl_align_up(bytes + PAD_BYTES, SPAN_ALIGN);
    pthread_mutex_lock(&dev->lock);
    tl_err err = take(dev, whole, host ? types->host : types->device, mapped, buf);
    pthread_mutex_unlock(&dev->lock);
    if (err) {
        free(buf);
        return err;
    }
    const bool seen = host || dev->info.unified;
    buf->base = (tl_buf){
        .dev = base, .host = seen ? buf->block->map + buf->off : NULL, .bytes = bytes, .mem = mem};
    err = clear(dev, buf, whole);
    if (err) {
        vk_buf_free(&buf->base);
        return err;
    }
    *out = &buf->base;
    return TL_OK;
}

/* In place where kernels compute in host memory anyway; across a bus the weights belong in the
 * device's own, so core copies them. */
tl_err vk_buf_wrap(tl_buf **out, tl_dev *base, const void *host, uint64_t bytes) {
    struct vk_dev *const dev = dev_of(base);
    const uint64_t page = tl_max_u64(dev->info.import_align, 1);
    const uint64_t at = (uint64_t)(uintptr_t)host, begin = at / page * page;
    const uint64_t whole = tl_align_up(at + bytes, page) - begin;
    const void *const first = (const uint8_t *)host - (at - begin);
    uint32_t type;
    if (!dev->info.unified || at % 4 != 0 || whole > dev->info.alloc_max ||
        !import_type(dev, first, dev->info.types.device, &type)) {
        return TL_ERR_UNSUPPORTED;
    }
    struct vk_buf *const buf = calloc(1, sizeof *buf);
    if (buf == NULL) {
        return TL_ERR_MEMORY;
    }
    const tl_err err = new_block(dev, whole, type, first, true, &buf->block);
    if (err) {
        free(buf);
        return err;
    }
    buf->block->wrapped = true;
    buf->off = at - begin;
    buf->base =
        (tl_buf){.dev = base, .host = (void *)(uintptr_t)host, .bytes = bytes, .mem = TL_MEM_HOST};
    pthread_mutex_lock(&dev->lock);
    buf->block->next = dev->blocks;
    dev->blocks = buf->block;
    pthread_mutex_unlock(&dev->lock);
    *out = &buf->base;
    return TL_OK;
}

void vk_buf_free(tl_buf *base) {
    struct vk_buf *const buf = (struct vk_buf *)base;
    struct vk_dev *const dev = dev_of(base->dev);
    if (vk_has_failed(dev)) {
        vk_settle(dev); /* nobody could wait for what used it */
    }
    pthread_mutex_lock(&dev->lock);
    if (!buf->block->wrapped) {
        give_span(buf->block, buf->off);
    }
    /* The newest small block stays for the next buffer. */
    if (buf->block->wrapped ||
        (is_empty(buf->block) && (buf->block != dev->blocks || buf->block->bytes > BLOCK_BYTES))) {
        drop_block(dev, buf->block);
    }
    pthread_mutex_unlock(&dev->lock);
    free(buf);
}

/* ---- what there is ---- */

static uint64_t available_bytes(void) {
    uint64_t kib = 0;
    char line[256];
    FILE *const f = fopen("/proc/meminfo", "r");
    while (f != NULL && kib == 0 && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "MemAvailable:", 13) == 0) {
            kib = strtoull(line + 13, NULL, 10);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib * 1024;
}

void vk_memory_budget(struct vk_dev *dev, uint64_t *total, uint64_t *free_bytes) {
    const struct vk_info *const info = &dev->info;
    if (dev->debug.heap != 0) {
        *total = dev->debug.heap;
        *free_bytes = *total > dev->allocated_bytes ? *total - dev->allocated_bytes : 1;
        return;
    }
    if (info->unified && info->has[VK_HAS_HOST_IMPORT]) {
        /* Memory is our own pages, whatever size of heap the driver states (lavapipe: 2 GiB). */
        const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
        *total = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
        *free_bytes = available_bytes();
        return;
    }
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 all = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = info->has[VK_HAS_MEMORY_BUDGET] ? &budget : NULL};
    dev->api->GetPhysicalDeviceMemoryProperties2(dev->physical, &all);
    const uint64_t limit =
        info->has[VK_HAS_MEMORY_BUDGET] ? budget.heapBudget[info->heap] : info->heap_bytes;
    const uint64_t used =
        info->has[VK_HAS_MEMORY_BUDGET] ? budget.heapUsage[info->heap] : dev->allocated_bytes;
    *total = info->heap_bytes;
    *free_bytes = limit > used ? limit - used : 1;
}
