/* A library that answers like NVML for four cards, two of one name; the first refuses load and
 * traffic, as some do. */
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { N = 4, NOT_SUPPORTED = 3, NOT_STARTED = 1 };
static const struct card {
    const char *name;
    unsigned compute_pid, graphics_pid;
} cards[N] = {{"NVIDIA GeForce RTX 3080", 0, 0},
              {"NVIDIA GeForce RTX 3080 Ti", 0, 0},
              {"NVIDIA RTX A6000", 1, 4343},
              {"NVIDIA RTX A6000", 4242, 0}};
static int started;

struct memory {
    unsigned long long total, free, used;
};
struct process {
    unsigned pid;
    unsigned long long used;
    unsigned instances[2];
};

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *n);
int nvmlDeviceGetHandleByIndex_v2(unsigned i, const struct card **out);
int nvmlDeviceGetName(const struct card *d, char *text, unsigned cap);
int nvmlDeviceGetMemoryInfo(const struct card *d, struct memory *out);
int nvmlDeviceGetUtilizationRates(const struct card *d, unsigned out[2]);
int nvmlDeviceGetPcieThroughput(const struct card *d, unsigned direction, unsigned *kib_s);
int nvmlDeviceGetComputeRunningProcesses_v3(const struct card *d, unsigned *n, struct process *out);
int nvmlDeviceGetGraphicsRunningProcesses_v3(const struct card *d, unsigned *n,
                                             struct process *out);

EXPORT int nvmlInit_v2(void) {
    started++;
    return 0;
}

EXPORT int nvmlShutdown(void) {
    started--;
    return 0;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = N;
    return started > 0 ? 0 : NOT_STARTED;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, const struct card **out) {
    *out = &cards[i];
    return i < N ? 0 : NOT_SUPPORTED;
}

EXPORT int nvmlDeviceGetName(const struct card *d, char *text, unsigned cap) {
    strncpy(text, d->name, cap);
    return 0;
}

EXPORT int nvmlDeviceGetMemoryInfo(const struct card *d, struct memory *out) {
    const unsigned long long billion = 1000000000, i = (unsigned long long)(d - cards);
    *out = (struct memory){(11 + i) * billion, 10 * billion, (1 + i) * billion};
    return 0;
}

EXPORT int nvmlDeviceGetUtilizationRates(const struct card *d, unsigned out[2]) {
    out[0] = 50;
    out[1] = 7;
    return d == &cards[0] ? NOT_SUPPORTED : 0;
}

EXPORT int nvmlDeviceGetPcieThroughput(const struct card *d, unsigned direction, unsigned *kib_s) {
    *kib_s = direction == 1 ? 2000 : 200; /* 1: received */
    return d == &cards[0] ? NOT_SUPPORTED : 0;
}

static int list(unsigned pid, unsigned *n, struct process *out) {
    out[0] = (struct process){pid, 5, {0, 0}};
    *n = pid != 0;
    return 0;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(const struct card *d, unsigned *n,
                                                   struct process *out) {
    return list(d->compute_pid, n, out);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(const struct card *d, unsigned *n,
                                                    struct process *out) {
    return list(d->graphics_pid, n, out);
}
