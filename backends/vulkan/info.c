/* What a physical device is and offers. The base is Vulkan 1.2 with what the drivers of Intel Arc,
 * AMD RDNA and NVIDIA Turing and later all have: 8- and 16-bit storage, timeline semaphores, and
 * subgroups with arithmetic, ballot and shuffle. All else is looked up here and used when it is
 * there. */
#include "vulkan.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *extension, *cost;
} features[VK_FEATURE_COUNT] = {
    [VK_HAS_PUSH_DESCRIPTORS] = {"push descriptors", VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME,
                                 "an op takes a descriptor set from a pool"},
    [VK_HAS_SUBGROUP_SIZE_CONTROL] = {"subgroup size control",
                                      VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME,
                                      "the driver's own subgroup size is used"},
    [VK_HAS_HOST_IMPORT] = {"host memory import", VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME,
                            "the model file is copied, not read in place"},
    [VK_HAS_MEMORY_BUDGET] = {"memory budget", VK_EXT_MEMORY_BUDGET_EXTENSION_NAME,
                              "memory that other programs use is not seen"},
    [VK_HAS_SECOND_QUEUE] = {"second queue", NULL,
                             "rows are fetched between other work, not beside it"},
    [VK_HAS_INT_DOT] = {"integer dot product", VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME,
                        "nothing yet: no kernel uses it"},
    [VK_HAS_FLOAT16] = {"16-bit arithmetic", NULL, "nothing yet: all kernels compute in 32 bits"},
    [VK_HAS_COOPERATIVE_MATRIX] = {"cooperative matrix", "VK_KHR_cooperative_matrix",
                                   "prompts are multiplied on ordinary lanes"},
    [VK_HAS_MAPPED_DEVICE_MEMORY] = {"mapped device memory", NULL,
                                     "weights go to the device through a staging buffer"},
};

const char *vk_feature_name(vk_feature f) { return features[f].name; }
const char *vk_feature_cost(vk_feature f) { return features[f].cost; }

static void find_extensions(struct vk_info *info, const struct vk_api *api,
                            VkPhysicalDevice device) {
    static const uint32_t step = 64;
    /* Read in one go: a driver has some hundred, and the count may not be cut. */
    VkExtensionProperties list[512];
    uint32_t n = 8 * step;
    const VkResult result = api->EnumerateDeviceExtensionProperties(device, NULL, &n, list);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        return;
    }
    for (uint32_t f = 0; f < VK_FEATURE_COUNT; f++) {
        for (uint32_t i = 0; i < n && features[f].extension != NULL; i++) {
            info->has[f] |= strcmp(list[i].extensionName, features[f].extension) == 0;
        }
    }
}

/* The largest matrices of halves with float sums that a subgroup multiplies and the kernel can
 * tile. */
static bool find_matrix(struct vk_info *info, const struct vk_api *api, VkPhysicalDevice device) {
    VkCooperativeMatrixPropertiesKHR list[64];
    uint32_t n = sizeof list / sizeof list[0], best = 0;
    for (uint32_t i = 0; i < n; i++) {
        list[i] =
            (VkCooperativeMatrixPropertiesKHR){.sType = (VkStructureType)VK_MATRIX_PROPERTIES};
    }
    if (api->GetPhysicalDeviceCooperativeMatrixPropertiesKHR == NULL ||
        api->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &n, list) < 0) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        const VkCooperativeMatrixPropertiesKHR *const p = &list[i];
        const uint32_t size = p->MSize * p->NSize * p->KSize;
        if (p->AType == VK_MATRIX_HALF && p->BType == VK_MATRIX_HALF &&
            p->CType == VK_MATRIX_FLOAT && p->ResultType == VK_MATRIX_FLOAT &&
            p->scope == VK_MATRIX_SUBGROUP && size > best && p->MSize <= 16 && p->NSize <= 16 &&
            64 % p->MSize == 0 && 64 % p->NSize == 0 && 32 % p->KSize == 0) {
            best = size;
            memcpy(info->matrix, (uint32_t[]){p->MSize, p->NSize, p->KSize}, sizeof info->matrix);
        }
    }
    return best > 0;
}

/* The base, or what of it is missing. */
static const char *check_base(struct vk_info *info, const struct vk_api *api,
                              VkPhysicalDevice device, uint32_t version,
                              const VkPhysicalDeviceSubgroupProperties *subgroup) {
    if (version < VK_API_VERSION_1_2) {
        return "Vulkan 1.2";
    }
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT control = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = (VkStructureType)VK_MATRIX_FEATURES,
        .pNext = info->has[VK_HAS_SUBGROUP_SIZE_CONTROL] ? &control : NULL};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = info->has[VK_HAS_COOPERATIVE_MATRIX] ? &matrix : matrix.pNext};
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &v12};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &v11};
    api->GetPhysicalDeviceFeatures2(device, &all);
    info->has[VK_HAS_FLOAT16] = v12.shaderFloat16 != 0;
    info->has[VK_HAS_COOPERATIVE_MATRIX] &=
        vk_shader_built(VK_SHADER_MATMUL_COOP) && matrix.cooperativeMatrix != 0 &&
        v12.shaderFloat16 != 0 && v12.vulkanMemoryModel != 0 && find_matrix(info, api, device);
    info->has[VK_HAS_SUBGROUP_SIZE_CONTROL] &=
        control.subgroupSizeControl != 0 && control.computeFullSubgroups != 0;
    const VkSubgroupFeatureFlags wanted =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT |
        VK_SUBGROUP_FEATURE_BALLOT_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    if ((subgroup->supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) == 0 ||
        (subgroup->supportedOperations & wanted) != wanted) {
        return "subgroups with arithmetic, ballot and shuffle";
    }
    return !v12.timelineSemaphore                       ? "timeline semaphores"
           : !v11.storageBuffer16BitAccess              ? "16-bit storage"
           : info->subgroup < 4 || info->subgroup > 128 ? "subgroups of 4 to 128 lanes"
                                                        : NULL;
}

static bool find_queues(struct vk_info *info, const struct vk_api *api, VkPhysicalDevice device) {
    VkQueueFamilyProperties list[32];
    uint32_t n = sizeof list / sizeof list[0], best = UINT32_MAX, transfer = UINT32_MAX;
    api->GetPhysicalDeviceQueueFamilyProperties(device, &n, list);
    for (uint32_t i = 0; i < n; i++) {
        const VkQueueFlags flags = list[i].queueFlags;
        if ((flags & VK_QUEUE_COMPUTE_BIT) == 0 || list[i].queueCount == 0) {
            continue;
        }
        /* Kernels fetch rows, so the second queue must compute too: best one without graphics. */
        const bool graphics = (flags & VK_QUEUE_GRAPHICS_BIT) != 0;
        best = best == UINT32_MAX ? i : best;
        transfer = !graphics && i != best ? i : transfer;
        if (list[i].queueCount > 1 && transfer == UINT32_MAX && i == best) {
            info->has[VK_HAS_SECOND_QUEUE] = true;
        }
    }
    info->family = best;
    info->transfer_family = transfer != UINT32_MAX ? transfer : best;
    info->has[VK_HAS_SECOND_QUEUE] |= transfer != UINT32_MAX;
    return best != UINT32_MAX;
}

/* The first type with all of `wanted` and none of `shunned`. */
static bool find_type(const VkPhysicalDeviceMemoryProperties *m, VkMemoryPropertyFlags wanted,
                      VkMemoryPropertyFlags shunned, uint32_t *type) {
    for (uint32_t i = 0; i < m->memoryTypeCount; i++) {
        const VkMemoryPropertyFlags flags = m->memoryTypes[i].propertyFlags;
        if ((flags & wanted) == wanted && (flags & shunned) == 0) {
            *type = i;
            return true;
        }
    }
    return false;
}

/* Device memory that the host sees too is taken where the device shares the host's memory, or where
 * all of its own is mapped (a resizable BAR); a small window of 256 MiB is not. */
static bool find_memory(struct vk_info *info, const struct vk_api *api, VkPhysicalDevice device) {
    enum {
        LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
        COHERENT = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        CACHED = COHERENT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        ODD = VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT,
    };
    VkPhysicalDeviceMemoryProperties2 all = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    api->GetPhysicalDeviceMemoryProperties2(device, &all);
    const VkPhysicalDeviceMemoryProperties *const m = &all.memoryProperties;
    struct vk_memory_types *const t = &info->types;
    if (!find_type(m, LOCAL, ODD, &t->device) && !find_type(m, 0, ODD, &t->device)) {
        return false;
    }
    if (!find_type(m, CACHED, ODD | LOCAL, &t->host) && !find_type(m, CACHED, ODD, &t->host) &&
        !find_type(m, COHERENT, ODD, &t->host)) {
        return false;
    }
    info->heap = m->memoryTypes[t->device].heapIndex;
    info->heap_bytes = m->memoryHeaps[info->heap].size;
    uint32_t mapped;
    const bool shares = info->software || info->type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    if (find_type(m, LOCAL | (shares ? CACHED : COHERENT), ODD, &mapped) ||
        (shares && find_type(m, LOCAL | COHERENT, ODD, &mapped))) {
        const uint64_t bytes = m->memoryHeaps[m->memoryTypes[mapped].heapIndex].size;
        t->device_mapped = shares || bytes >= info->heap_bytes;
        t->device = t->device_mapped ? mapped : t->device;
    }
    info->unified = shares && t->device_mapped;
    info->has[VK_HAS_MAPPED_DEVICE_MEMORY] = t->device_mapped;
    return true;
}

static void pretend(struct vk_info *info, const struct vk_debug *debug) {
    if (debug->stage) {
        info->unified = false;
        info->types.device_mapped = false;
        info->has[VK_HAS_MAPPED_DEVICE_MEMORY] = false;
        info->has[VK_HAS_HOST_IMPORT] = false;
    }
    if (debug->pools ||
        debug->gpuav) { /* whose tables (1.3.239) take pushed descriptors for none */
        info->has[VK_HAS_PUSH_DESCRIPTORS] = false;
    }
    if (debug->align != 0) {
        info->offset_align = (uint32_t)tl_max_u64(info->offset_align, debug->align);
    }
    if (debug->binding != 0) { /* of which a row and an alignment at both ends have room */
        const uint64_t least = 2ull * (info->offset_align + 16);
        info->range_max = tl_min_u64(info->range_max, tl_max_u64(debug->binding, least) & ~15ull);
    }
    if (debug->alloc != 0) {
        info->alloc_max = tl_min_u64(info->alloc_max, debug->alloc);
    }
    if (debug->heap != 0) {
        info->heap_bytes = tl_min_u64(info->heap_bytes, debug->heap);
        info->has[VK_HAS_MEMORY_BUDGET] = false; /* nobody else is there */
    }
}

const char *vk_info_read(struct vk_info *info, const struct vk_api *api, VkPhysicalDevice device,
                         const struct vk_debug *debug) {
    *info = (struct vk_info){0};
    find_extensions(info, api, device);
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT import = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT control = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT,
        .pNext = info->has[VK_HAS_HOST_IMPORT] ? &import : NULL};
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
        .pNext = info->has[VK_HAS_SUBGROUP_SIZE_CONTROL] ? &control : control.pNext};
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                                       .pNext = &driver};
    VkPhysicalDeviceMaintenance3Properties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &id};
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &sizes};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &subgroup};
    api->GetPhysicalDeviceProperties2(device, &all);
    const VkPhysicalDeviceLimits *const limits = &all.properties.limits;
    snprintf(info->name, sizeof info->name, "%.90s", all.properties.deviceName);
    snprintf(info->driver, sizeof info->driver, "%.20s %.40s", driver.driverName,
             driver.driverInfo);
    memcpy(info->uuid, id.driverUUID, VK_UUID_SIZE);
    memcpy(info->uuid + VK_UUID_SIZE, id.deviceUUID, VK_UUID_SIZE);
    info->type = all.properties.deviceType;
    info->software = info->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    info->subgroup = subgroup.subgroupSize;
    info->range_max = limits->maxStorageBufferRange & ~(uint64_t)15;
    info->alloc_max = sizes.maxMemoryAllocationSize;
    info->offset_align = (uint32_t)tl_max_u64(limits->minStorageBufferOffsetAlignment, 4);
    info->import_align = import.minImportedHostPointerAlignment;
    info->group_max = (uint32_t)tl_min_u64(limits->maxComputeWorkGroupInvocations,
                                           limits->maxComputeWorkGroupSize[0]);
    info->shared_bytes = limits->maxComputeSharedMemorySize;
    info->timestamp_ns = (double)limits->timestampPeriod;
    const char *const missing = check_base(
        info, api, device, debug->old ? VK_API_VERSION_1_1 : all.properties.apiVersion, &subgroup);
    if (missing != NULL) {
        return missing;
    }
    if (limits->maxPerStageDescriptorStorageBuffers < VK_BINDINGS_MAX) {
        return "storage buffers enough for a shader";
    }
    /* A size that is asked for has a limit of its own. */
    if (info->has[VK_HAS_SUBGROUP_SIZE_CONTROL]) {
        info->group_max = (uint32_t)tl_min_u64(
            info->group_max, (uint64_t)control.maxComputeWorkgroupSubgroups * info->subgroup);
    }
    if (!find_queues(info, api, device)) {
        return "a queue that computes";
    }
    if (!find_memory(info, api, device)) {
        return "memory that the host can see";
    }
    pretend(info, debug);
    return NULL;
}
