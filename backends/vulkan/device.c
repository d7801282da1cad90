/* Opening a device, its capabilities, and the backend's one exported symbol, the table at the
 * bottom. A device owns its instance. Whatever goes wrong is said once, in one sentence that begins
 * with "vulkan:". */
#include "vulkan.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const tl_backend tl_backend_vulkan;

/* ---- failures ---- */

struct vk_state {
    atomic_bool failed;
    atomic_uint n_messages;
    atomic_uint_fast64_t n_calls; /* VK_CALL's */
};

bool vk_has_failed(const struct vk_dev *dev) { return atomic_load(&dev->state->failed); }
void vk_set_failed(struct vk_dev *dev) { atomic_store(&dev->state->failed, true); }
bool vk_has_messages(const struct vk_dev *dev) { return atomic_load(&dev->state->n_messages) > 0; }

static const char *name_of(VkResult result) {
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return "out of device memory";
    case VK_ERROR_TOO_MANY_OBJECTS:
        return "too many allocations";
    case VK_ERROR_DEVICE_LOST:
        return "the device was lost";
    case VK_ERROR_MEMORY_MAP_FAILED:
        return "memory cannot be mapped";
    case VK_ERROR_INITIALIZATION_FAILED:
        return "the driver could not start";
    case VK_ERROR_INVALID_SHADER_NV:
        return "the driver does not compile this shader";
    default:
        return "the driver refused";
    }
}

static bool is_memory(VkResult result) {
    return result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
           result == VK_ERROR_TOO_MANY_OBJECTS || result == VK_ERROR_MEMORY_MAP_FAILED;
}

bool vk_injected(struct vk_dev *dev, VkResult failure) {
    const struct vk_debug *const d = &dev->debug;
    if (d->dumb && failure == VK_ERROR_INVALID_SHADER_NV) {
        return true;
    }
    if (d->fail == 0 && d->lost == 0 && d->oom == 0) {
        return false;
    }
    const uint64_t n = atomic_fetch_add(&dev->state->n_calls, 1) + 1;
    return n == d->fail || (d->lost != 0 && n >= d->lost) ||
           (d->oom != 0 && n >= d->oom && is_memory(failure));
}

VkResult vk_failure(const struct vk_dev *dev, VkResult failure) {
    return dev->debug.lost != 0 ? VK_ERROR_DEVICE_LOST : failure;
}

tl_err vk_check(struct vk_dev *dev, VkResult result, const char *what) {
    if (result == VK_SUCCESS) {
        return TL_OK;
    }
    const bool memory = is_memory(result);
    if (vk_has_failed(dev)) {
        return TL_ERR_DEVICE;
    }
    if (!memory) {
        vk_set_failed(dev);
    }
    return tl_fail(&dev->log, memory ? TL_ERR_MEMORY : TL_ERR_DEVICE, "vulkan: %s: %s: %s (%d)",
                   dev->info.name, what, name_of(result), (int)result);
}

VKAPI_ATTR VkBool32 VKAPI_CALL vk_on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                             VkDebugUtilsMessageTypeFlagsEXT types,
                                             const VkDebugUtilsMessengerCallbackDataEXT *data,
                                             void *user) {
    struct vk_dev *const dev = user;
    (void)severity;
    (void)types;
    if (dev != NULL && atomic_fetch_add(&dev->state->n_messages, 1) < 5) {
        (void)tl_fail(&dev->log, TL_ERR_DEVICE, "vulkan: validation: %.600s", data->pMessage);
    }
    return VK_FALSE;
}

/* ---- opening ---- */

static bool parse_word(struct vk_debug *d, const char *word) {
    const struct {
        const char *name;
        bool *flag;
        uint64_t *number;
    } known[] = {
        {"validate", &d->validate, NULL}, {"stage", &d->stage, NULL},
        {"as-gpu", &d->as_gpu, NULL},     {"two-queues", &d->two_queues, NULL},
        {"pools", &d->pools, NULL},       {"times", &d->times, NULL},
        {"range=", NULL, &d->range},      {"binding=", NULL, &d->binding},
        {"alloc=", NULL, &d->alloc},      {"heap=", NULL, &d->heap},
        {"align=", NULL, &d->align},      {"fail=", NULL, &d->fail},
        {"lost=", NULL, &d->lost},        {"oom=", NULL, &d->oom},
        {"dumb", &d->dumb, NULL},         {"old", &d->old, NULL},
        {"gpuav", &d->gpuav, NULL},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const size_t n = strlen(known[i].name);
        if (known[i].flag != NULL && strcmp(word, known[i].name) == 0) {
            *known[i].flag = true;
            return true;
        }
        if (known[i].number != NULL && strncmp(word, known[i].name, n) == 0) {
            *known[i].number = strtoull(word + n, NULL, 10);
            return true;
        }
    }
    return false;
}

static bool parse_debug(struct vk_debug *d, const char *text) {
    char words[256];
    snprintf(words, sizeof words, "%s", text != NULL ? text : "");
    char *rest = words;
    bool known = true;
    for (char *word; (word = strtok_r(rest, ",", &rest)) != NULL;) {
        known = known && parse_word(d, word);
    }
    d->validate = d->validate || d->gpuav;
    return known;
}

static uint32_t list_extensions(const struct vk_info *info, const char **names) {
    static const struct {
        vk_feature feature;
        const char *name;
    } used[] = {
        {VK_HAS_PUSH_DESCRIPTORS, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME},
        {VK_HAS_SUBGROUP_SIZE_CONTROL, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME},
        {VK_HAS_HOST_IMPORT, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME},
        {VK_HAS_MEMORY_BUDGET, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME},
        {VK_HAS_COOPERATIVE_MATRIX, "VK_KHR_cooperative_matrix"},
    };
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) {
        if (info->has[used[i].feature]) {
            names[n++] = used[i].name;
        }
    }
    return n;
}

static tl_err create_device(struct vk_dev *dev) {
    const struct vk_info *const info = &dev->info;
    const bool two = info->has[VK_HAS_SECOND_QUEUE],
               families = info->transfer_family != info->family;
    static const float priorities[] = {1.0f, 1.0f};
    const VkDeviceQueueCreateInfo queues[] = {
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = info->family,
         .queueCount = two && !families ? 2 : 1,
         .pQueuePriorities = priorities},
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = info->transfer_family,
         .queueCount = 1,
         .pQueuePriorities = priorities},
    };
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT control = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = (VkStructureType)VK_MATRIX_FEATURES,
        .pNext = info->has[VK_HAS_SUBGROUP_SIZE_CONTROL] ? &control : NULL,
        .cooperativeMatrix = VK_TRUE};
    const bool matrices = info->has[VK_HAS_COOPERATIVE_MATRIX];
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = matrices ? &matrix : matrix.pNext,
        .shaderFloat16 = matrices,
        .vulkanMemoryModel = matrices,
        .timelineSemaphore = VK_TRUE};
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &v12,
        .storageBuffer16BitAccess = VK_TRUE};
    /* A read behind the end of a binding, where whole words are read, gives zeros, not a fault.
     * Where it is granted the layer does not look for such reads. */
    const VkBool32 robust = dev->debug.gpuav ? VK_FALSE : VK_TRUE;
    const VkPhysicalDeviceFeatures2 base = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                            .pNext = &v11,
                                            .features = {.robustBufferAccess = robust}};
    const char *names[8];
    const VkDeviceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                       .pNext = &base,
                                       .queueCreateInfoCount = two && families ? 2 : 1,
                                       .pQueueCreateInfos = queues,
                                       .enabledExtensionCount = list_extensions(info, names),
                                       .ppEnabledExtensionNames = names};
    TL_TRY(VK_CALL(dev, CreateDevice, VK_ERROR_INITIALIZATION_FAILED,
                   (dev->physical, &create, NULL, &dev->handle)));
    const char *missing;
    if (!vk_api_load_device(dev->api, dev->handle, &missing)) {
        return tl_fail(&dev->log, TL_ERR_UNSUPPORTED, "vulkan: %s: the driver has no %s",
                       info->name, missing);
    }
    dev->queues[0].family = info->family;
    dev->queues[1].family = info->transfer_family;
    dev->api->GetDeviceQueue(dev->handle, info->family, 0, &dev->queues[0].handle);
    dev->api->GetDeviceQueue(dev->handle, info->transfer_family, two && !families ? 1 : 0,
                             &dev->queues[1].handle);
    if (!two && !dev->debug.two_queues) {
        dev->queues[1].n_streams = UINT32_MAX; /* never chosen: it is the first */
    }
    return TL_OK;
}

static void dev_close(tl_dev *base) {
    struct vk_dev *const dev = (struct vk_dev *)base;
    if (dev->handle != VK_NULL_HANDLE && dev->api->DestroyDevice != NULL) {
        vk_pipelines_close(dev);
        vk_memory_close(dev);
        dev->api->DestroyDevice(dev->handle, NULL);
    }
    if (dev->times != NULL) {
        vk_times_say(dev);
        free(dev->times);
    }
    vk_instance_close(&dev->instance);
    pthread_mutex_destroy(&dev->lock);
    free(dev->cache_dir);
    free(dev->state);
    free(dev);
}

static tl_err open_device(struct vk_dev *dev, const struct tl_dev_params *p) {
    if (!parse_debug(&dev->debug, p->debug)) {
        return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "vulkan: '%s': no such test option", p->debug);
    }
    const char *why;
    if (!vk_instance_open(&dev->instance, &dev->debug, dev, &why)) {
        return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "vulkan: %s", why);
    }
    dev->api = &dev->instance.api;
    if (p->index >= dev->instance.n_devices) {
        return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "vulkan: no device %u: it found %u here",
                       p->index, dev->instance.n_devices);
    }
    dev->physical = dev->instance.devices[p->index];
    const char *const missing = vk_info_read(&dev->info, dev->api, dev->physical, &dev->debug);
    if (missing != NULL) {
        return tl_fail(&p->log, TL_ERR_UNSUPPORTED, "vulkan: %s lacks %s", dev->info.name, missing);
    }
    if (p->cache_dir != NULL) {
        dev->cache_dir = malloc(strlen(p->cache_dir) + 1);
        if (dev->cache_dir == NULL) {
            return TL_ERR_MEMORY;
        }
        strcpy(dev->cache_dir, p->cache_dir);
    }
    if (dev->debug.times) {
        dev->times = calloc(VK_SHADER_COUNT, sizeof *dev->times);
        if (dev->times == NULL) {
            return TL_ERR_MEMORY;
        }
    }
    TL_TRY(create_device(dev));
    return vk_pipelines_open(dev);
}

static tl_err dev_open(tl_dev **out, const struct tl_dev_params *params) {
    struct vk_dev *const dev = calloc(1, sizeof *dev);
    struct vk_state *const state = calloc(1, sizeof *state);
    if (dev == NULL || state == NULL || pthread_mutex_init(&dev->lock, NULL) != 0) {
        free(state);
        free(dev);
        return TL_ERR_MEMORY;
    }
    dev->state = state;
    dev->base.backend = &tl_backend_vulkan;
    dev->log = params->log;
    const tl_err err = open_device(dev, params);
    if (err) {
        dev_close(&dev->base);
        return err;
    }
    *out = &dev->base;
    return TL_OK;
}

/* ---- looking ---- */

static void count_devices(uint32_t *n, uint32_t *n_hardware) {
    static const struct vk_debug none = {0};
    struct vk_instance instance;
    const char *why;
    *n = 0;
    *n_hardware = 0;
    if (vk_instance_open(&instance, &none, NULL, &why)) {
        *n = instance.n_devices;
        *n_hardware = instance.n_hardware;
        vk_instance_close(&instance);
    }
}

static uint32_t dev_count(void) {
    uint32_t n, n_hardware;
    count_devices(&n, &n_hardware);
    return n;
}

/* They come first. */
static uint32_t dev_count_auto(void) {
    uint32_t n, n_hardware;
    count_devices(&n, &n_hardware);
    return n_hardware;
}

static void dev_caps(tl_dev *base, struct tl_dev_caps *out) {
    struct vk_dev *const dev = (struct vk_dev *)base;
    const struct vk_info *const info = &dev->info;
    snprintf(out->name, sizeof out->name, "%.70s, %.50s", info->name, info->driver);
    snprintf(out->kernels, sizeof out->kernels, "spirv, subgroups of %u%s", info->subgroup,
             dev->debug.as_gpu ? ", as on a GPU" : "");
    vk_memory_budget(dev, &out->bytes_total, &out->bytes_free);
    out->unified = info->unified;
    out->codebooks = true;
    for (uint32_t f = 0; f < VK_FEATURE_COUNT && f < TL_DEV_FEATURES_MAX; f++) {
        out->features[f] = (struct tl_dev_feature){vk_feature_name((vk_feature)f),
                                                   vk_feature_cost((vk_feature)f), info->has[f]};
        out->n_features++;
    }
}

const tl_backend tl_backend_vulkan = {
    .name = "vulkan",
    .dev_count = dev_count,
    .dev_count_auto = dev_count_auto,
    .dev_open = dev_open,
    .dev_close = dev_close,
    .dev_caps = dev_caps,
    .buf_alloc = vk_buf_alloc,
    .buf_wrap = vk_buf_wrap,
    .buf_free = vk_buf_free,
    .copy = vk_copy,
    .stream_open = vk_stream_open,
    .stream_close = vk_stream_close,
    .stream_sync = vk_stream_sync,
    .event_open = vk_event_open,
    .event_close = vk_event_close,
    .event_record = vk_event_record,
    .event_wait = vk_event_wait,
    .capture_begin = vk_capture_begin,
    .capture_end = vk_capture_end,
    .graph_run = vk_graph_run,
    .graph_close = vk_graph_close,
    .gather = vk_gather,
    .matmul = vk_matmul,
    .rmsnorm = vk_rmsnorm,
    .rope = vk_rope,
    .glu = vk_glu,
    .kv_encode = vk_kv_encode,
    .attend = vk_attend,
    .compress = vk_compress,
    .key_score = vk_key_score,
    .topk = vk_topk,
    .attend_sketch = vk_attend_sketch,
    .attend_slots = vk_attend_slots,
    .fetch = vk_fetch,
    .merge = vk_merge,
    .mass = vk_mass,
    .key_transpose = vk_key_transpose,
    .channels = vk_channels,
    .channel_fetch = vk_channel_fetch,
    .channel_score = vk_channel_score,
    .page_encode = vk_page_encode,
    .page_score = vk_page_score,
};
