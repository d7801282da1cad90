/* NVML by dlopen, its few types declared here, so that one program runs where it is missing; a
 * library that fails to start is not asked again. amdgpu and xe by files. The device is found by
 * its name. */
#include "gpu.h"

#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *nvml_device;
struct nvml_memory {
    unsigned long long total, free, used;
};
struct nvml_utilization {
    unsigned gpu, memory; /* percent */
};
enum { NVML_TX = 0, NVML_RX = 1, NVML_DEVICES_MAX = 64 };

/* Loaded once; a const table after that. */
static struct nvml {
    bool tried, works;
    int (*init)(void);
    int (*count)(unsigned *n);
    int (*by_index)(unsigned i, nvml_device *out);
    int (*name)(nvml_device d, char *text, unsigned cap);
    int (*memory)(nvml_device d, struct nvml_memory *out);
    int (*utilization)(nvml_device d, struct nvml_utilization *out);
    int (*throughput)(nvml_device d, unsigned direction, unsigned *kib_s);
} nvml;

/* POSIX says that dlsym's result may become a function; C has no cast for it. */
static bool bind(void *library, const char *name, void *field, size_t size) {
    void *const symbol = dlsym(library, name);
    memcpy(field, &symbol, size);
    return symbol != NULL;
}

static bool nvml_open(void) {
    if (nvml.tried) {
        return nvml.works;
    }
    nvml.tried = true;
    void *const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    nvml.works =
        library != NULL && bind(library, "nvmlInit_v2", &nvml.init, sizeof nvml.init) &&
        bind(library, "nvmlDeviceGetCount_v2", &nvml.count, sizeof nvml.count) &&
        bind(library, "nvmlDeviceGetHandleByIndex_v2", &nvml.by_index, sizeof nvml.by_index) &&
        bind(library, "nvmlDeviceGetName", &nvml.name, sizeof nvml.name) &&
        bind(library, "nvmlDeviceGetMemoryInfo", &nvml.memory, sizeof nvml.memory) &&
        bind(library, "nvmlDeviceGetUtilizationRates", &nvml.utilization,
             sizeof nvml.utilization) &&
        bind(library, "nvmlDeviceGetPcieThroughput", &nvml.throughput, sizeof nvml.throughput) &&
        nvml.init() == 0;
    return nvml.works;
}

static bool nvml_find(const char *wanted, nvml_device *out) {
    unsigned n = 0;
    char name[128];
    if (!nvml_open() || nvml.count(&n) != 0) {
        return false;
    }
    for (unsigned i = 0; i < n && i < NVML_DEVICES_MAX; i++) {
        if (nvml.by_index(i, out) == 0 && nvml.name(*out, name, sizeof name) == 0 &&
            strstr(wanted, name) != NULL) {
            return true;
        }
    }
    return false;
}

static bool nvml_read(const char *device, struct tui_device *out) {
    nvml_device d = NULL;
    struct nvml_memory memory;
    struct nvml_utilization utilization;
    unsigned kib_s = 0;
    if (!nvml_find(device, &d)) {
        return false;
    }
    snprintf(out->source, sizeof out->source, "NVML");
    if (nvml.memory(d, &memory) == 0) {
        out->used_bytes = (double)memory.used;
        out->total_bytes = (double)memory.total;
    }
    if (nvml.utilization(d, &utilization) == 0) {
        out->busy = utilization.gpu / 100.0;
    }
    if (nvml.throughput(d, NVML_RX, &kib_s) == 0) {
        out->rx_bytes_s = 1024.0 * kib_s;
    }
    if (nvml.throughput(d, NVML_TX, &kib_s) == 0) {
        out->tx_bytes_s = 1024.0 * kib_s;
    }
    return true;
}

/* The number in a file of sysfs; NaN where there is none. */
static double read_number(const char *folder, const char *name) {
    char path[512], text[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *const f = fopen(path, "r");
    char *end = text;
    double value = (double)NAN;
    if (f != NULL && fgets(text, sizeof text, f) != NULL) {
        value = strtod(text, &end);
        value = end != text ? value : (double)NAN;
    }
    if (f != NULL) {
        fclose(f);
    }
    return value;
}

/* The first card of sysfs with this driver's vendor number. */
static bool find_card(double vendor, char *folder, size_t cap) {
    DIR *const dir = opendir("/sys/class/drm");
    bool found = false;
    for (const struct dirent *e; dir != NULL && !found && (e = readdir(dir)) != NULL;) {
        if (strncmp(e->d_name, "card", 4) == 0 && strchr(e->d_name, '-') == NULL) {
            const int n = snprintf(folder, cap, "/sys/class/drm/%s/device", e->d_name);
            found = n > 0 && (size_t)n < cap && read_number(folder, "vendor") == vendor;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

/* Vulkan's names: "AMD Radeon ...", "Intel(R) Arc ...". xe tells of its memory and load in debugfs
 * only, which users cannot read: those stay unknown. */
static bool sysfs_read(const char *device, struct tui_device *out) {
    const bool amd = strstr(device, "AMD") != NULL || strstr(device, "Radeon") != NULL;
    const bool intel = strstr(device, "Intel") != NULL;
    char folder[300];
    if (!(amd || intel) || !find_card(amd ? 0x1002 : 0x8086, folder, sizeof folder)) {
        return false;
    }
    snprintf(out->source, sizeof out->source, amd ? "amdgpu" : "xe");
    out->used_bytes = read_number(folder, "mem_info_vram_used");
    out->total_bytes = read_number(folder, "mem_info_vram_total");
    out->busy = read_number(folder, "gpu_busy_percent") / 100;
    return true;
}

void gpu_read(const char *backend, const char *device, struct tui_device *out) {
    const double unknown = (double)NAN;
    *out = (struct tui_device){"", unknown, unknown, unknown, unknown, unknown};
    if (strcmp(backend, "cpu") == 0 || *backend == '\0') {
        return;
    }
    if (!nvml_read(device, out)) {
        sysfs_read(device, out);
    }
}
