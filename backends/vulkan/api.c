/* Opens the Vulkan loader and finds the functions of api.h. ISO C has no way from an object pointer
 * to a function pointer, POSIX promises one: the bytes are copied. */
#include "api.h"

#include <dlfcn.h>
#include <string.h>

bool vk_api_open(struct vk_api *api, const char **missing) {
    *api = (struct vk_api){0};
    *missing = "libvulkan.so.1";
    api->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (api->library == NULL) {
        return false;
    }
    void *const symbol = dlsym(api->library, "vkGetInstanceProcAddr");
    memcpy(&api->GetInstanceProcAddr, &symbol, sizeof symbol);
    if (symbol == NULL) {
        *missing = "vkGetInstanceProcAddr";
        vk_api_close(api);
        return false;
    }
#define VK_LOAD(name)                                                                              \
    api->name = (PFN_vk##name)api->GetInstanceProcAddr(NULL, "vk" #name);                          \
    if (api->name == NULL) {                                                                       \
        *missing = "vk" #name;                                                                     \
    }
    *missing = NULL;
    VK_GLOBAL_FUNCTIONS(VK_LOAD)
#undef VK_LOAD
    if (*missing != NULL) {
        vk_api_close(api);
    }
    return *missing == NULL;
}

bool vk_api_load_instance(struct vk_api *api, VkInstance instance, const char **missing) {
    *missing = NULL;
#define VK_LOAD(name)                                                                              \
    api->name = (PFN_vk##name)api->GetInstanceProcAddr(instance, "vk" #name);                      \
    if (api->name == NULL) {                                                                       \
        *missing = "vk" #name;                                                                     \
    }
    VK_INSTANCE_FUNCTIONS(VK_LOAD)
#undef VK_LOAD
    api->GetPhysicalDeviceCooperativeMatrixPropertiesKHR =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)api->GetInstanceProcAddr(
            instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    return *missing == NULL;
}

bool vk_api_load_device(struct vk_api *api, VkDevice device, const char **missing) {
    *missing = NULL;
#define VK_LOAD(name)                                                                              \
    api->name = (PFN_vk##name)api->GetDeviceProcAddr(device, "vk" #name);                          \
    if (api->name == NULL) {                                                                       \
        *missing = "vk" #name;                                                                     \
    }
    VK_DEVICE_FUNCTIONS(VK_LOAD)
#undef VK_LOAD
#define VK_LOAD(name) api->name = (PFN_vk##name)api->GetDeviceProcAddr(device, "vk" #name);
    VK_EXTENSION_FUNCTIONS(VK_LOAD)
#undef VK_LOAD
    return *missing == NULL;
}

void vk_api_close(struct vk_api *api) {
    if (api->library != NULL) {
        dlclose(api->library);
        api->library = NULL;
    }
}
