/* NVML by dlopen, its few types declared here, so that one program runs where it is missing; a
 * library that fails to start is not asked again. A card is found by its name, the longest that
 * fits (an RTX 3080 is no RTX 3080 Ti), and of several of one name by who runs on it. */
#include "gpu_priv.h"

#include <dlfcn.h>
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
struct nvml_process {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};
enum { NVML_TX = 0, NVML_RX = 1, DEVICES_MAX = 64, PROCESSES_MAX = 256 };

typedef int processes_fn(nvml_device d, unsigned *n, struct nvml_process *out);

struct gpu_nvml {
    void *library; /* owned; NULL: it answers nothing */
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *n);
    int (*by_index)(unsigned i, nvml_device *out);
    int (*name)(nvml_device d, char *text, unsigned cap);
    int (*memory)(nvml_device d, struct nvml_memory *out);
    int (*utilization)(nvml_device d, struct nvml_utilization *out);
    int (*throughput)(nvml_device d, unsigned direction, unsigned *kib_s);
    processes_fn *compute, *graphics; /* may be NULL: drivers before 510 */
};

/* POSIX says that dlsym's result may become a function; C has no cast for it. */
static bool bind(void *library, const char *name, void *field, size_t size) {
    void *const symbol = dlsym(library, name);
    memcpy(field, &symbol, size);
    return symbol != NULL;
}

static bool bind_all(gpu_nvml *n, void *lib) {
    bind(lib, "nvmlDeviceGetComputeRunningProcesses_v3", &n->compute, sizeof n->compute);
    bind(lib, "nvmlDeviceGetGraphicsRunningProcesses_v3", &n->graphics, sizeof n->graphics);
    return bind(lib, "nvmlInit_v2", &n->init, sizeof n->init) &&
           bind(lib, "nvmlShutdown", &n->shutdown, sizeof n->shutdown) &&
           bind(lib, "nvmlDeviceGetCount_v2", &n->count, sizeof n->count) &&
           bind(lib, "nvmlDeviceGetHandleByIndex_v2", &n->by_index, sizeof n->by_index) &&
           bind(lib, "nvmlDeviceGetName", &n->name, sizeof n->name) &&
           bind(lib, "nvmlDeviceGetMemoryInfo", &n->memory, sizeof n->memory) &&
           bind(lib, "nvmlDeviceGetUtilizationRates", &n->utilization, sizeof n->utilization) &&
           bind(lib, "nvmlDeviceGetPcieThroughput", &n->throughput, sizeof n->throughput);
}

gpu_nvml *gpu_nvml_open(const char *library) {
    gpu_nvml *const n = calloc(1, sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    void *const lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (lib != NULL && bind_all(n, lib) && n->init() == 0) {
        n->library = lib;
    } else if (lib != NULL) {
        dlclose(lib);
    }
    return n;
}

void gpu_nvml_close(gpu_nvml *n) {
    if (n != NULL && n->library != NULL) {
        n->shutdown();
        dlclose(n->library);
    }
    free(n);
}

static bool lists(processes_fn *ask, nvml_device d, uint64_t pid) {
    struct nvml_process list[PROCESSES_MAX];
    unsigned n = PROCESSES_MAX;
    if (ask == NULL || ask(d, &n, list) != 0) {
        return false;
    }
    for (unsigned i = 0; i < n && i < PROCESSES_MAX; i++) {
        if (list[i].pid == pid) {
            return true;
        }
    }
    return false;
}

/* What there is of cards that fit. */
struct best {
    nvml_device device;
    size_t name_len;
    unsigned n_equal; /* with a name as long */
    bool runs;        /* the process is seen on it */
};

static void consider(const gpu_nvml *n, const struct gpu_who *who, nvml_device d,
                     struct best *best) {
    char name[128] = "";
    if (n->name(d, name, sizeof name) != 0 || name[0] == '\0' ||
        strstr(who->device, name) == NULL || strlen(name) < best->name_len) {
        return;
    }
    const bool longer = strlen(name) > best->name_len;
    const bool runs = lists(n->compute, d, who->pid) || lists(n->graphics, d, who->pid);
    const unsigned n_equal = longer ? 1 : best->n_equal + 1;
    if (longer || (runs && !best->runs)) {
        *best = (struct best){d, strlen(name), n_equal, runs};
    }
    best->n_equal = n_equal;
}

static bool find(const gpu_nvml *n, const struct gpu_who *who, nvml_device *out) {
    unsigned n_devices = 0;
    struct best best = {0};
    if (n->library == NULL || n->count(&n_devices) != 0) {
        return false;
    }
    for (unsigned i = 0; i < n_devices && i < DEVICES_MAX; i++) {
        nvml_device d = NULL;
        if (n->by_index(i, &d) == 0) {
            consider(n, who, d, &best);
        }
    }
    *out = best.device;
    return best.n_equal == 1 || best.runs; /* which of several is not known: no numbers */
}

bool gpu_nvml_read(const gpu_nvml *n, const struct gpu_who *who, struct tui_device *out) {
    nvml_device d = NULL;
    struct nvml_memory memory;
    struct nvml_utilization utilization;
    unsigned kib_s = 0;
    if (!find(n, who, &d)) {
        return false;
    }
    snprintf(out->source, sizeof out->source, "NVML");
    if (n->memory(d, &memory) == 0) {
        out->used_bytes = (double)memory.used;
        out->total_bytes = (double)memory.total;
    }
    if (n->utilization(d, &utilization) == 0) {
        out->busy = utilization.gpu / 100.0;
    }
    if (n->throughput(d, NVML_RX, &kib_s) == 0) {
        out->rx_bytes_s = 1024.0 * kib_s;
    }
    if (n->throughput(d, NVML_TX, &kib_s) == 0) {
        out->tx_bytes_s = 1024.0 * kib_s;
    }
    return true;
}
