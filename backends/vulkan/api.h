/* The Vulkan functions that this backend calls, found at run time: nothing is linked against the
 * loader, so one binary runs where there is none. The lists are the only place that names them. */
#ifndef VK_API_H
#define VK_API_H

#define VK_NO_PROTOTYPES
#include <stdbool.h>
#include <vulkan/vulkan.h>

/* VK_KHR_cooperative_matrix, which headers have from 1.3.255 on. */
#ifndef VK_KHR_cooperative_matrix
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    uint32_t AType, BType, CType, ResultType; /* VkComponentTypeKHR */
    VkBool32 saturatingAccumulation;
    uint32_t scope; /* VkScopeKHR */
} VkCooperativeMatrixPropertiesKHR;
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(
    VkPhysicalDevice, uint32_t *, VkCooperativeMatrixPropertiesKHR *);
#endif
/* Their numbers, whose names would need the same headers. */
enum {
    VK_MATRIX_FEATURES = 1000506000, /* structure types */
    VK_MATRIX_PROPERTIES = 1000506001,
    VK_MATRIX_HALF = 0, /* component types */
    VK_MATRIX_FLOAT = 1,
    VK_MATRIX_SUBGROUP = 3, /* scope */
};

/* clang-format off */
#define VK_GLOBAL_FUNCTIONS(X)                                                                     \
    X(CreateInstance) X(EnumerateInstanceVersion) X(EnumerateInstanceLayerProperties)              \
    X(EnumerateInstanceExtensionProperties)

#define VK_INSTANCE_FUNCTIONS(X)                                                                   \
    X(DestroyInstance) X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties2)                 \
    X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties2)                            \
    X(GetPhysicalDeviceQueueFamilyProperties) X(EnumerateDeviceExtensionProperties)                \
    X(CreateDevice) X(GetDeviceProcAddr)

#define VK_DEVICE_FUNCTIONS(X)                                                                     \
    X(DestroyDevice) X(GetDeviceQueue) X(QueueSubmit) X(AllocateMemory) X(FreeMemory)              \
    X(MapMemory) X(CreateBuffer) X(DestroyBuffer) X(BindBufferMemory)                              \
    X(GetBufferMemoryRequirements) X(CreateCommandPool) X(DestroyCommandPool)                      \
    X(AllocateCommandBuffers) X(FreeCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer)      \
    X(CreateSemaphore) X(DestroySemaphore) X(WaitSemaphores) X(CreateShaderModule)                 \
    X(DestroyShaderModule) X(CreateDescriptorSetLayout) X(DestroyDescriptorSetLayout)              \
    X(CreatePipelineLayout) X(DestroyPipelineLayout) X(CreateComputePipelines) X(DestroyPipeline)  \
    X(CreatePipelineCache) X(DestroyPipelineCache) X(GetPipelineCacheData)                         \
    X(CreateDescriptorPool) X(DestroyDescriptorPool) X(ResetDescriptorPool)                        \
    X(AllocateDescriptorSets) X(UpdateDescriptorSets) X(CmdBindPipeline) X(CmdBindDescriptorSets)  \
    X(CmdPushConstants) X(CmdDispatch) X(CmdPipelineBarrier) X(CmdCopyBuffer) X(CmdFillBuffer)     \
    X(DeviceWaitIdle) X(CreateQueryPool) X(DestroyQueryPool) X(CmdResetQueryPool)                  \
    X(CmdWriteTimestamp) X(GetQueryPoolResults)
/* clang-format on */

/* Of extensions: NULL where they are not. */
#define VK_EXTENSION_FUNCTIONS(X) X(CmdPushDescriptorSetKHR) X(GetMemoryHostPointerPropertiesEXT)

#define VK_MEMBER(name) PFN_vk##name name;
struct vk_api {
    void *library; /* owned: dlopen's */
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    VK_GLOBAL_FUNCTIONS(VK_MEMBER)
    VK_INSTANCE_FUNCTIONS(VK_MEMBER)
    VK_DEVICE_FUNCTIONS(VK_MEMBER)
    VK_EXTENSION_FUNCTIONS(VK_MEMBER)
    VK_MEMBER(GetPhysicalDeviceCooperativeMatrixPropertiesKHR) /* the instance's; may be NULL */
};
#undef VK_MEMBER

/* Each is false where a function is missing; *missing then names it, or the library. */
bool vk_api_open(struct vk_api *api, const char **missing);
bool vk_api_load_instance(struct vk_api *api, VkInstance instance, const char **missing);
bool vk_api_load_device(struct vk_api *api, VkDevice device, const char **missing);
void vk_api_close(struct vk_api *api);

#endif
