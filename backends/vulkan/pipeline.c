/* Shaders, pipelines and their cache on disk. Shaders are the SPIR-V that glslc made at build time,
 * embedded; a pipeline is a shader with its specialisation constants, made at its first use.
 *
 * The cache file is our header (below), then what vkGetPipelineCacheData gave:
 *   0 "tlvkpc1\n"   8 checksum of all that follows (FNV-1a, 64 bits)   16 driver and device UUID
 *   48 the driver's data
 * A file that is damaged, or of another driver, is ignored and written anew. */
#include "vulkan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shaders.inc" /* static const uint32_t spirv_NAME[], made by shaders.cmake */

enum { FILE_HEADER_BYTES = 16 + 2 * VK_UUID_SIZE };
#define CACHE_BYTES_MAX (64u << 20)
static const char magic[8] = "tlvkpc1\n";

static const struct {
    const char *name;
    const uint32_t *words;
    size_t bytes;
    uint32_t n_bindings;
} shaders[VK_SHADER_COUNT] = {
#define VK_CODE(name) #name, spirv_##name, sizeof spirv_##name
    [VK_SHADER_GATHER] = {VK_CODE(gather), 3},
    [VK_SHADER_MATMUL] = {VK_CODE(matmul), 4},
    [VK_SHADER_MATMUL_HOST] = {VK_CODE(matmul_host), 4},
    [VK_SHADER_MATMUL_TILE] = {VK_CODE(matmul_tile), 4},
    [VK_SHADER_MATMUL_COOP] = {VK_CODE(matmul_coop), 4},
    [VK_SHADER_RMSNORM] = {VK_CODE(rmsnorm), 3},
    [VK_SHADER_ROPE] = {VK_CODE(rope), 3},
    [VK_SHADER_GLU] = {VK_CODE(glu), 3},
    [VK_SHADER_KV_ENCODE] = {VK_CODE(kv_encode), 3},
    [VK_SHADER_ATTEND] = {VK_CODE(attend), 7},
    [VK_SHADER_ATTEND_HOST] = {VK_CODE(attend_host), 7},
    [VK_SHADER_ATTEND_TILE] = {VK_CODE(attend_tile), 7},
    [VK_SHADER_ATTEND_JOIN] = {VK_CODE(attend_join), 3},
    [VK_SHADER_MASS_SCORE] = {VK_CODE(mass_score), 5},
    [VK_SHADER_MASS] = {VK_CODE(mass), 5},
    [VK_SHADER_KEY_TRANSPOSE] = {VK_CODE(key_transpose), 3},
    [VK_SHADER_CHANNELS] = {VK_CODE(channels), 4},
    [VK_SHADER_CHANNEL_PLACE] = {VK_CODE(channel_place), 4},
    [VK_SHADER_CHANNEL_ROWS] = {VK_CODE(channel_rows), 4},
    [VK_SHADER_CHANNEL_SCORE] = {VK_CODE(channel_score), 5},
    [VK_SHADER_PAGE_ENCODE] = {VK_CODE(page_encode), 2},
    [VK_SHADER_PAGE_SCORE] = {VK_CODE(page_score), 4},
    [VK_SHADER_MERGE] = {VK_CODE(merge), 4},
    [VK_SHADER_COMPRESS] = {VK_CODE(compress), 2},
    [VK_SHADER_KEY_SCORE] = {VK_CODE(key_score), 4},
    [VK_SHADER_KEY_SCORE_HOST] = {VK_CODE(key_score_host), 4},
    [VK_SHADER_TOPK] = {VK_CODE(topk), 5},
    [VK_SHADER_ATTEND_SKETCH] = {VK_CODE(attend_sketch), 7},
    [VK_SHADER_ATTEND_SKETCH_HOST] = {VK_CODE(attend_sketch_host), 7},
    [VK_SHADER_FETCH] = {VK_CODE(fetch), 7},
    [VK_SHADER_FETCH_ROWS] = {VK_CODE(fetch_rows), 4},
    [VK_SHADER_VQ_TURN] = {VK_CODE(vq_turn), 3},
    [VK_SHADER_VQ_SCALE] = {VK_CODE(vq_scale), 3},
    [VK_SHADER_VQ_ENCODE] = {VK_CODE(vq_encode), 4},
    [VK_SHADER_VQ_TABLE] = {VK_CODE(vq_table), 3},
    [VK_SHADER_VQ_SCORE] = {VK_CODE(vq_score), 4},
    [VK_SHADER_VQ_ATTEND] = {VK_CODE(vq_attend), 9},
#undef VK_CODE
};

const char *vk_shader_name(vk_shader shader) { return shaders[shader].name; }
bool vk_shader_built(vk_shader shader) { return shaders[shader].bytes > 4; }

struct entry {
    struct entry *next;
    struct vk_variant variant;
    struct vk_pipeline pipeline;
};

struct vk_pipelines {
    struct entry *entries; /* owned */
    VkDescriptorSetLayout set_layouts[VK_BINDINGS_MAX + 1];
    VkPipelineLayout layouts[VK_BINDINGS_MAX + 1];
    VkPipelineCache cache;
    uint32_t n_new; /* pipelines made since the file was read */
};

/* ---- the cache on disk ---- */

static uint64_t checksum(const uint8_t *bytes, size_t n) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

static void cache_path(const struct vk_dev *dev, char *path, size_t cap) {
    snprintf(path, cap, "%s/vulkan-%016llx.cache", dev->cache_dir,
             (unsigned long long)checksum(dev->info.uuid, sizeof dev->info.uuid));
}

/* The whole file, or NULL; *n bytes, owned by the caller. */
static uint8_t *read_cache(const struct vk_dev *dev, size_t *n) {
    char path[4096];
    cache_path(dev, path, sizeof path);
    FILE *const f = fopen(path, "rb");
    struct stat st;
    if (f == NULL) {
        return NULL;
    }
    uint8_t *bytes = NULL;
    *n = 0;
    if (fstat(fileno(f), &st) == 0 && st.st_size > FILE_HEADER_BYTES &&
        st.st_size <= (off_t)CACHE_BYTES_MAX) {
        bytes = malloc((size_t)st.st_size);
        *n = bytes != NULL ? fread(bytes, 1, (size_t)st.st_size, f) : 0;
    }
    fclose(f);
    return bytes;
}

static bool is_ours(const struct vk_dev *dev, const uint8_t *bytes, size_t n) {
    uint64_t sum;
    if (n <= FILE_HEADER_BYTES || memcmp(bytes, magic, sizeof magic) != 0) {
        return false;
    }
    memcpy(&sum, bytes + 8, sizeof sum);
    return sum == checksum(bytes + 16, n - 16) &&
           memcmp(bytes + 16, dev->info.uuid, sizeof dev->info.uuid) == 0;
}

static tl_err open_cache(struct vk_dev *dev) {
    size_t n = 0;
    uint8_t *const bytes = dev->cache_dir != NULL ? read_cache(dev, &n) : NULL;
    const bool ours = bytes != NULL && is_ours(dev, bytes, n);
    const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                            .initialDataSize = ours ? n - FILE_HEADER_BYTES : 0,
                                            .pInitialData =
                                                ours ? bytes + FILE_HEADER_BYTES : NULL};
    const tl_err err = VK_CALL(dev, CreatePipelineCache, VK_ERROR_OUT_OF_HOST_MEMORY,
                               (dev->handle, &info, NULL, &dev->pipelines->cache));
    free(bytes);
    return err;
}

/* Written beside the old file and renamed, so that nobody reads half of it. A cache that cannot be
 * written is no failure. */
static void write_cache(struct vk_dev *dev) {
    size_t n = 0;
    const struct vk_pipelines *const p = dev->pipelines;
    if (dev->cache_dir == NULL || p->n_new == 0 ||
        dev->api->GetPipelineCacheData(dev->handle, p->cache, &n, NULL) != VK_SUCCESS || n == 0) {
        return;
    }
    uint8_t *const bytes = malloc(FILE_HEADER_BYTES + n);
    if (bytes == NULL || dev->api->GetPipelineCacheData(dev->handle, p->cache, &n,
                                                        bytes + FILE_HEADER_BYTES) != VK_SUCCESS) {
        free(bytes);
        return;
    }
    memcpy(bytes, magic, sizeof magic);
    memcpy(bytes + 16, dev->info.uuid, sizeof dev->info.uuid);
    const uint64_t sum = checksum(bytes + 16, n + sizeof dev->info.uuid);
    memcpy(bytes + 8, &sum, sizeof sum);
    char path[4096], fresh[4200];
    cache_path(dev, path, sizeof path);
    snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid());
    (void)mkdir(dev->cache_dir, 0700);
    FILE *const f = fopen(fresh, "wb");
    if (f != NULL) {
        const bool whole = fwrite(bytes, 1, FILE_HEADER_BYTES + n, f) == FILE_HEADER_BYTES + n;
        if (fclose(f) != 0 || !whole || rename(fresh, path) != 0) {
            (void)remove(fresh);
        }
    }
    free(bytes);
}

/* ---- pipelines ---- */

tl_err vk_pipelines_open(struct vk_dev *dev) {
    dev->pipelines = calloc(1, sizeof *dev->pipelines);
    return dev->pipelines != NULL ? open_cache(dev) : TL_ERR_MEMORY;
}

void vk_pipelines_close(struct vk_dev *dev) {
    struct vk_pipelines *const p = dev->pipelines;
    if (p == NULL) {
        return;
    }
    write_cache(dev);
    for (struct entry *e = p->entries; e != NULL;) {
        struct entry *const next = e->next;
        dev->api->DestroyPipeline(dev->handle, e->pipeline.handle, NULL);
        free(e);
        e = next;
    }
    for (uint32_t i = 0; i <= VK_BINDINGS_MAX; i++) {
        dev->api->DestroyPipelineLayout(dev->handle, p->layouts[i], NULL);
        dev->api->DestroyDescriptorSetLayout(dev->handle, p->set_layouts[i], NULL);
    }
    dev->api->DestroyPipelineCache(dev->handle, p->cache, NULL);
    free(p);
}

/* Layouts differ by the number of bindings alone. */
static tl_err get_layout(struct vk_dev *dev, uint32_t n) {
    struct vk_pipelines *const p = dev->pipelines;
    VkDescriptorSetLayoutBinding bindings[VK_BINDINGS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        bindings[i] =
            (VkDescriptorSetLayoutBinding){.binding = i,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    }
    const bool push = dev->info.has[VK_HAS_PUSH_DESCRIPTORS];
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .flags = push ? VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR : 0,
        .bindingCount = n,
        .pBindings = bindings};
    if (p->set_layouts[n] == VK_NULL_HANDLE) {
        TL_TRY(VK_CALL(dev, CreateDescriptorSetLayout, VK_ERROR_OUT_OF_HOST_MEMORY,
                       (dev->handle, &set, NULL, &p->set_layouts[n])));
    }
    const VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, VK_PUSH_BYTES};
    const VkPipelineLayoutCreateInfo layout = {.sType =
                                                   VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                               .setLayoutCount = 1,
                                               .pSetLayouts = &p->set_layouts[n],
                                               .pushConstantRangeCount = 1,
                                               .pPushConstantRanges = &range};
    if (p->layouts[n] == VK_NULL_HANDLE) {
        TL_TRY(VK_CALL(dev, CreatePipelineLayout, VK_ERROR_OUT_OF_HOST_MEMORY,
                       (dev->handle, &layout, NULL, &p->layouts[n])));
    }
    return TL_OK;
}

static tl_err create(struct vk_dev *dev, const struct vk_variant *v, VkPipelineLayout layout,
                     VkPipeline *out) {
    VkSpecializationMapEntry map[VK_SPECS_MAX];
    for (uint32_t i = 0; i < v->n_specs; i++) {
        map[i] = (VkSpecializationMapEntry){i, 4 * i, 4};
    }
    const VkSpecializationInfo specs = {v->n_specs, map, 4 * v->n_specs, v->specs};
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize = dev->info.subgroup};
    const VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                           .codeSize = shaders[v->shader].bytes,
                                           .pCode = shaders[v->shader].words};
    VkShaderModule module;
    TL_TRY(VK_CALL(dev, CreateShaderModule, VK_ERROR_OUT_OF_HOST_MEMORY,
                   (dev->handle, &code, NULL, &module)));
    const bool control = dev->info.has[VK_HAS_SUBGROUP_SIZE_CONTROL];
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = control ? &size : NULL,
                  .flags =
                      control ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &specs},
        .layout = layout};
    const VkResult result = vk_injected(dev, VK_ERROR_INVALID_SHADER_NV)
                                ? vk_failure(dev, VK_ERROR_INVALID_SHADER_NV)
                                : dev->api->CreateComputePipelines(
                                      dev->handle, dev->pipelines->cache, 1, &info, NULL, out);
    dev->api->DestroyShaderModule(dev->handle, module, NULL);
    char what[96];
    snprintf(what, sizeof what, "vkCreateComputePipelines of %s", shaders[v->shader].name);
    return vk_check(dev, result, what);
}

static tl_err add(struct vk_dev *dev, const struct vk_variant *v, const struct vk_pipeline **out) {
    struct vk_pipelines *const p = dev->pipelines;
    const uint32_t n = shaders[v->shader].n_bindings;
    TL_TRY(get_layout(dev, n));
    struct entry *const e = calloc(1, sizeof *e);
    if (e == NULL) {
        return TL_ERR_MEMORY;
    }
    e->variant = *v;
    e->pipeline = (struct vk_pipeline){
        .layout = p->layouts[n], .set_layout = p->set_layouts[n], .n_bindings = n};
    const tl_err err = create(dev, v, p->layouts[n], &e->pipeline.handle);
    if (err) {
        free(e);
        return err;
    }
    e->next = p->entries;
    p->entries = e;
    p->n_new++;
    *out = &e->pipeline;
    return TL_OK;
}

static bool same(const struct vk_variant *a, const struct vk_variant *b) {
    return a->shader == b->shader && a->n_specs == b->n_specs &&
           memcmp(a->specs, b->specs, a->n_specs * sizeof *a->specs) == 0;
}

tl_err vk_pipeline_get(struct vk_dev *dev, const struct vk_variant *variant,
                       const struct vk_pipeline **out) {
    pthread_mutex_lock(&dev->lock);
    const struct entry *e = dev->pipelines->entries;
    while (e != NULL && !same(&e->variant, variant)) {
        e = e->next;
    }
    tl_err err = TL_OK;
    if (e != NULL) {
        *out = &e->pipeline;
    } else {
        err = add(dev, variant, out);
    }
    pthread_mutex_unlock(&dev->lock);
    return err;
}
