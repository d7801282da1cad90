/* Loader, instance and the order of devices: discrete, integrated, virtual, then software. Nothing
 * outlives a device that was opened, so looking for devices costs an instance each time (25 ms with
 * one driver), and no state is global. */
#include "vulkan.h"

#include <stdlib.h>
#include <string.h>

static const char validation_layer[] = "VK_LAYER_KHRONOS_validation";

static bool has_validation(const struct vk_api *api) {
    VkLayerProperties layers[64];
    uint32_t n = sizeof layers / sizeof layers[0];
    const VkResult result = api->EnumerateInstanceLayerProperties(&n, layers);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(layers[i].layerName, validation_layer) == 0) {
            return true;
        }
    }
    return false;
}

static VkResult create_instance(struct vk_instance *in, const struct vk_debug *debug,
                                const VkDebugUtilsMessengerCreateInfoEXT *messenger) {
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "tailor",
                                   .apiVersion = VK_API_VERSION_1_2};
    static const VkValidationFeatureEnableEXT checks[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,
        VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT,
        VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_RESERVE_BINDING_SLOT_EXT};
    const bool validate = debug->validate;
    const VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = messenger,
        .enabledValidationFeatureCount = debug->gpuav ? 3 : 1,
        .pEnabledValidationFeatures = checks,
    };
    const char *const layers[] = {validation_layer};
    const char *const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pNext = validate ? &features : NULL,
                                       .pApplicationInfo = &app,
                                       .enabledLayerCount = validate ? 1 : 0,
                                       .ppEnabledLayerNames = layers,
                                       .enabledExtensionCount = validate ? 1 : 0,
                                       .ppEnabledExtensionNames = extensions};
    return in->api.CreateInstance(&info, NULL, &in->handle);
}

/* A messenger that is only chained to the instance's creation would see that alone. */
static bool watch_messages(struct vk_instance *in, const VkDebugUtilsMessengerCreateInfoEXT *info) {
    const PFN_vkCreateDebugUtilsMessengerEXT create =
        (PFN_vkCreateDebugUtilsMessengerEXT)in->api.GetInstanceProcAddr(
            in->handle, "vkCreateDebugUtilsMessengerEXT");
    return create != NULL && create(in->handle, info, NULL, &in->messenger) == VK_SUCCESS;
}

static uint32_t rank_of(const struct vk_api *api, VkPhysicalDevice device, bool *hardware) {
    static const uint32_t ranks[] = {[VK_PHYSICAL_DEVICE_TYPE_OTHER] = 3,
                                     [VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU] = 1,
                                     [VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU] = 0,
                                     [VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU] = 2,
                                     [VK_PHYSICAL_DEVICE_TYPE_CPU] = 4};
    static const struct vk_debug none = {0};
    struct vk_info info;
    const bool usable = vk_info_read(&info, api, device, &none) == NULL;
    const uint32_t rank = info.type < sizeof ranks / sizeof ranks[0] ? ranks[info.type] : 3;
    *hardware = usable && !info.software;
    return usable ? rank : rank + 10;
}

/* Best first, those that cannot run us last; few, so sorted by insertion. */
static bool list_devices(struct vk_instance *in) {
    uint32_t n = 0;
    if (in->api.EnumeratePhysicalDevices(in->handle, &n, NULL) != VK_SUCCESS) {
        return false;
    }
    in->devices = calloc((size_t)n + 1, sizeof(VkPhysicalDevice));
    uint32_t *const ranks = calloc((size_t)n + 1, sizeof *ranks);
    const bool listed = in->devices != NULL && ranks != NULL &&
                        in->api.EnumeratePhysicalDevices(in->handle, &n, in->devices) >= 0;
    for (uint32_t i = 0; listed && i < n; i++) {
        const VkPhysicalDevice device = in->devices[i];
        bool hardware;
        const uint32_t rank = rank_of(&in->api, device, &hardware);
        uint32_t at = i;
        for (; at > 0 && ranks[at - 1] > rank; at--) {
            ranks[at] = ranks[at - 1];
            in->devices[at] = in->devices[at - 1];
        }
        ranks[at] = rank;
        in->devices[at] = device;
        in->n_hardware += hardware;
    }
    in->n_devices = listed ? n : 0;
    free(ranks);
    return listed;
}

bool vk_instance_open(struct vk_instance *out, const struct vk_debug *debug, struct vk_dev *user,
                      const char **why) {
    *out = (struct vk_instance){0};
    const char *missing;
    if (!vk_api_open(&out->api, &missing)) {
        *why = "no Vulkan loader here (libvulkan.so.1)";
        return false;
    }
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = vk_on_message,
        .pUserData = user,
    };
    uint32_t version = 0;
    *why = NULL;
    if (debug->validate && !has_validation(&out->api)) {
        *why = "the Khronos validation layer is not installed";
    } else if (out->api.EnumerateInstanceVersion(&version) != VK_SUCCESS ||
               version < VK_API_VERSION_1_2) {
        *why = "the Vulkan loader is older than 1.2";
    } else if (create_instance(out, debug, &messenger) != VK_SUCCESS) {
        out->handle = VK_NULL_HANDLE;
        *why = "the Vulkan loader found no driver that starts";
    } else if (!vk_api_load_instance(&out->api, out->handle, &missing)) {
        *why = "the Vulkan loader lacks functions of 1.2";
    } else if (debug->validate && !watch_messages(out, &messenger)) {
        *why = "the validation layer takes no messenger";
    } else if (!list_devices(out)) {
        *why = "the Vulkan loader cannot list its devices";
    }
    if (*why != NULL) {
        vk_instance_close(out);
    }
    return *why == NULL;
}

void vk_instance_close(struct vk_instance *in) {
    if (in->messenger != VK_NULL_HANDLE) {
        const PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT)in->api.GetInstanceProcAddr(
                in->handle, "vkDestroyDebugUtilsMessengerEXT");
        destroy(in->handle, in->messenger, NULL);
    }
    if (in->handle != VK_NULL_HANDLE && in->api.DestroyInstance != NULL) {
        in->api.DestroyInstance(in->handle, NULL);
    }
    free(in->devices);
    vk_api_close(&in->api);
    *in = (struct vk_instance){0};
}
