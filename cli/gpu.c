/* Which reader is asked, the host's own numbers, and the thread that asks so that no screen has to
 * wait. The invariant of the thread: the lock is held for copies only, never while reading. */
#include "gpu_priv.h"
#include "thread.h"

#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct gpu_places gpu_places = {"libnvidia-ml.so.1", "/sys/class/drm", "/proc"};

struct gpu {
    const struct gpu_places *places;
    gpu_nvml *nvml; /* owned; NULL until it is needed */
    char device[128];
    struct gpu_counters before; /* of `device` */
    /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock;
    sem_t asked;
    bool started, ends; /* ends: under the lock */
    struct gpu_who who;
    struct tui_device latest;
};

static struct tui_device unknown(void) {
    const double nan = (double)NAN;
    return (struct tui_device){"", nan, nan, nan, nan, nan};
}

tl_err gpu_open(gpu **out, const struct gpu_places *places) {
    gpu *const g = calloc(1, sizeof *g);
    if (g == NULL) {
        return TL_ERR_MEMORY;
    }
    g->places = places;
    g->latest = unknown();
    *out = g;
    return TL_OK;
}

/* ---- the host ---- */

/* "MemTotal:   16313572 kB" in bytes. */
static double memory_line(const char *line, const char *name, double otherwise) {
    const size_t n = strlen(name);
    return strncmp(line, name, n) == 0 ? 1024 * strtod(line + n, NULL) : otherwise;
}

static void read_memory(const char *proc, struct tui_device *out) {
    char path[GPU_PATH_CAP], line[128];
    double total = (double)NAN, available = (double)NAN;
    snprintf(path, sizeof path, "%s/meminfo", proc);
    FILE *const f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        total = memory_line(line, "MemTotal:", total);
        available = memory_line(line, "MemAvailable:", available);
    }
    if (f != NULL) {
        fclose(f);
    }
    out->total_bytes = total;
    out->used_bytes = total - available;
}

/* "cpu  user nice system idle iowait irq softirq steal": all but idle and iowait is work. */
static double read_load(const char *proc, struct gpu_counters *before) {
    enum { FIELDS = 8, IDLE = 3, IOWAIT = 4 };
    char path[GPU_PATH_CAP], line[256] = "";
    struct gpu_counters now = {0};
    snprintf(path, sizeof path, "%s/stat", proc);
    FILE *const f = fopen(path, "r");
    const bool there = f != NULL && fgets(line, sizeof line, f) != NULL;
    if (f != NULL) {
        fclose(f);
    }
    if (!there || strncmp(line, "cpu ", 4) != 0) {
        return (double)NAN;
    }
    char *at = line + 4;
    for (int i = 0; i < FIELDS; i++) {
        const double ticks = strtod(at, &at);
        now.all += ticks;
        now.busy += i == IDLE || i == IOWAIT ? 0 : ticks;
    }
    return gpu_busy_since(before, now);
}

void gpu_read(gpu *g, const struct gpu_who *who, struct tui_device *out) {
    *out = unknown();
    if (strcmp(g->device, who->device) != 0) {
        snprintf(g->device, sizeof g->device, "%s", who->device);
        g->before = (struct gpu_counters){0};
    }
    if (who->backend[0] == '\0') {
        return;
    }
    if (strcmp(who->backend, "cpu") == 0) {
        snprintf(out->source, sizeof out->source, "host");
        read_memory(g->places->proc, out);
        out->busy = read_load(g->places->proc, &g->before);
        return;
    }
    if (g->nvml == NULL) {
        g->nvml = gpu_nvml_open(g->places->nvml);
    }
    if (g->nvml == NULL || !gpu_nvml_read(g->nvml, who, out)) {
        gpu_drm_read(g->places, who, &g->before, out);
    }
}

/* ---- the thread ---- */

static void *run(void *user) {
    gpu *const g = user;
    for (;;) {
        while (sem_wait(&g->asked) != 0) {
        }
        while (sem_trywait(&g->asked) == 0) { /* several wishes are one */
        }
        pthread_mutex_lock(&g->lock);
        const struct gpu_who who = g->who;
        const bool ends = g->ends;
        pthread_mutex_unlock(&g->lock);
        if (ends) {
            return NULL;
        }
        struct tui_device now;
        gpu_read(g, &who, &now);
        pthread_mutex_lock(&g->lock);
        g->latest = now;
        pthread_mutex_unlock(&g->lock);
    }
}

tl_err gpu_start(gpu *g) {
    if (pthread_mutex_init(&g->lock, NULL) != 0) {
        return TL_ERR_MEMORY;
    }
    if (sem_init(&g->asked, 0, 0) != 0) {
        pthread_mutex_destroy(&g->lock);
        return TL_ERR_MEMORY;
    }
    g->started = cli_thread_start(&g->thread, run, g);
    if (!g->started) {
        sem_destroy(&g->asked);
        pthread_mutex_destroy(&g->lock);
    }
    return g->started ? TL_OK : TL_ERR_MEMORY;
}

void gpu_ask(gpu *g, const struct gpu_who *who) {
    pthread_mutex_lock(&g->lock);
    g->who = *who;
    pthread_mutex_unlock(&g->lock);
    sem_post(&g->asked);
}

void gpu_latest(gpu *g, struct tui_device *out) {
    pthread_mutex_lock(&g->lock);
    *out = g->latest;
    pthread_mutex_unlock(&g->lock);
}

void gpu_close(gpu **gpu_at) {
    gpu *const g = *gpu_at;
    if (g == NULL) {
        return;
    }
    if (g->started) {
        pthread_mutex_lock(&g->lock);
        g->ends = true;
        pthread_mutex_unlock(&g->lock);
        sem_post(&g->asked);
        pthread_join(g->thread, NULL);
        sem_destroy(&g->asked);
        pthread_mutex_destroy(&g->lock);
    }
    gpu_nvml_close(g->nvml);
    free(g);
    *gpu_at = NULL;
}
