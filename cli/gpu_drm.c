/* Cards by files. sysfs tells of amdgpu's memory and load. xe and i915 tell users of neither there,
 * but all drivers write what a process uses of a card into the information on its open files
 * (drm-usage-stats): memory, and cycles or nanoseconds by engine, of which the busiest counts. That
 * also tells which of several cards is meant. */
#include "gpu_priv.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { USES_MAX = 8, CLIENTS_MAX = 64, ENGINES_MAX = 8 };

struct engine {
    char name[16];
    struct gpu_counters counters;
};

/* What the process uses of one card. */
struct use {
    char driver[16], pdev[32];
    double bytes; /* NaN: not told */
    struct engine engines[ENGINES_MAX];
    size_t n_engines;
};

struct uses {
    struct use list[USES_MAX];
    size_t n;
    char clients[CLIENTS_MAX][64]; /* seen: the same card may be open several times */
    size_t n_clients;
};

/* The number in a file of sysfs; NaN where there is none. */
static double read_number(const char *folder, const char *name) {
    char path[GPU_PATH_CAP], text[64];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *const f = n > 0 && (size_t)n < sizeof path ? fopen(path, "r") : NULL;
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

/* ---- what the process's files say ---- */

static struct engine *engine_of(struct use *u, const char *name) {
    for (size_t i = 0; i < u->n_engines; i++) {
        if (strcmp(u->engines[i].name, name) == 0) {
            return &u->engines[i];
        }
    }
    if (u->n_engines == ENGINES_MAX || strlen(name) >= sizeof u->engines[0].name) {
        return NULL;
    }
    struct engine *const e = &u->engines[u->n_engines++];
    snprintf(e->name, sizeof e->name, "%s", name);
    return e;
}

/* "drm-NAME: VALUE [KiB|MiB]" into the use. Cycles bring their own clock, nanoseconds ours. */
static void take_line(struct use *u, const char *name, const char *value) {
    static const char cycles[] = "drm-cycles-", all[] = "drm-total-cycles-", ns[] = "drm-engine-";
    static const char resident[] = "drm-resident-vram", memory[] = "drm-memory-vram";
    char *end = NULL;
    double number = strtod(value, &end);
    number *= strstr(end, "KiB") != NULL ? 1024 : strstr(end, "MiB") != NULL ? 1024 * 1024 : 1;
    struct engine *e = NULL;
    if (strcmp(name, "drm-driver") == 0) {
        snprintf(u->driver, sizeof u->driver, "%.15s", value);
    } else if (strcmp(name, "drm-pdev") == 0) {
        snprintf(u->pdev, sizeof u->pdev, "%.31s", value);
    } else if (strncmp(name, resident, sizeof resident - 1) == 0 ||
               strncmp(name, memory, sizeof memory - 1) == 0) {
        u->bytes = isnan(u->bytes) || number > u->bytes ? number : u->bytes;
    } else if (strncmp(name, all, sizeof all - 1) == 0) {
        e = engine_of(u, name + sizeof all - 1);
        if (e != NULL) {
            e->counters.all = number;
        }
    } else if (strncmp(name, cycles, sizeof cycles - 1) == 0 ||
               (strncmp(name, ns, sizeof ns - 1) == 0 && strstr(name, "capacity") == NULL)) {
        const bool counts_ns = name[4] == 'e';
        e = engine_of(u, name + (counts_ns ? sizeof ns : sizeof cycles) - 1);
        if (e != NULL) {
            e->counters.busy = number;
            e->counters.all = counts_ns ? (double)tl_now_ns() : e->counters.all;
        }
    }
}

/* One open file; false where it is none of a card. */
static bool read_use(const char *path, struct use *u, char client[64]) {
    char line[256];
    FILE *const f = fopen(path, "r");
    *u = (struct use){.bytes = (double)NAN};
    client[0] = '\0';
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *const colon = strchr(line, ':');
        if (strncmp(line, "drm-", 4) != 0 || colon == NULL) {
            continue;
        }
        *colon = '\0';
        char *value = colon + 1;
        value += strspn(value, " \t");
        value[strcspn(value, "\n")] = '\0';
        if (strcmp(line, "drm-client-id") == 0) {
            snprintf(client, 64, "%.20s", value);
        }
        take_line(u, line, value);
    }
    if (f != NULL) {
        fclose(f);
    }
    const size_t n = strlen(client);
    snprintf(client + n, 64 - n, " %s", u->pdev);
    return u->driver[0] != '\0' && u->pdev[0] != '\0';
}

static bool seen(struct uses *all, const char *client) {
    for (size_t i = 0; i < all->n_clients; i++) {
        if (strcmp(all->clients[i], client) == 0) {
            return true;
        }
    }
    if (all->n_clients < CLIENTS_MAX) {
        snprintf(all->clients[all->n_clients++], sizeof all->clients[0], "%s", client);
    }
    return false;
}

static void add_use(struct uses *all, const struct use *one) {
    struct use *sum = NULL;
    for (size_t i = 0; i < all->n; i++) {
        sum = strcmp(all->list[i].pdev, one->pdev) == 0 ? &all->list[i] : sum;
    }
    if (sum == NULL) {
        if (all->n < USES_MAX) {
            all->list[all->n++] = *one;
        }
        return;
    }
    sum->bytes = isnan(sum->bytes)   ? one->bytes
                 : isnan(one->bytes) ? sum->bytes
                                     : sum->bytes + one->bytes;
    for (size_t i = 0; i < one->n_engines; i++) {
        struct engine *const e = engine_of(sum, one->engines[i].name);
        if (e != NULL) {
            e->counters.busy += one->engines[i].counters.busy;
            e->counters.all = fmax(e->counters.all, one->engines[i].counters.all);
        }
    }
}

static void read_uses(const char *proc, uint64_t pid, struct uses *all) {
    char folder[GPU_PATH_CAP], path[GPU_PATH_CAP + 300], client[64];
    snprintf(folder, sizeof folder, "%s/%llu/fdinfo", proc, (unsigned long long)pid);
    DIR *const dir = opendir(folder);
    all->n = all->n_clients = 0;
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        struct use one;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' && read_use(path, &one, client) && !seen(all, client)) {
            add_use(all, &one);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* ---- the card ---- */

/* The end of the link that a card's folder is: "0000:03:00.0". */
static void name_pdev(const char *folder, char *out, size_t cap) {
    char target[GPU_PATH_CAP];
    const ssize_t n = readlink(folder, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    const char *const slash = strrchr(target, '/');
    snprintf(out, cap, "%.31s", slash != NULL ? slash + 1 : target);
}

/* The one of this vendor that the process uses most, or the only one there is. */
static bool find_card(const char *drm, double vendor, const struct uses *uses, char *folder,
                      const struct use **use) {
    DIR *const dir = opendir(drm);
    unsigned n_cards = 0;
    double most = -1;
    *use = NULL;
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char path[GPU_PATH_CAP], pdev[32];
        const int n = snprintf(path, sizeof path, "%s/%.32s/device", drm, e->d_name);
        if (strncmp(e->d_name, "card", 4) != 0 || strchr(e->d_name, '-') != NULL || n <= 0 ||
            (size_t)n >= sizeof path || read_number(path, "vendor") != vendor) {
            continue;
        }
        if (n_cards++ == 0) {
            memcpy(folder, path, sizeof path);
        }
        name_pdev(path, pdev, sizeof pdev);
        for (size_t i = 0; i < uses->n; i++) {
            const struct use *const u = &uses->list[i];
            const double bytes = isnan(u->bytes) ? 0 : u->bytes;
            if (strcmp(u->pdev, pdev) == 0 && bytes > most) {
                most = bytes;
                *use = u;
                memcpy(folder, path, sizeof path);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n_cards == 1 || *use != NULL;
}

double gpu_busy_since(struct gpu_counters *before, struct gpu_counters now) {
    const double busy = now.busy - before->busy, all = now.all - before->all;
    const bool first = before->all <= 0;
    *before = now;
    return first || !(all > 0) || busy < 0 ? (double)NAN : fmin(busy / all, 1);
}

/* Of the engine that has worked most so far. */
static struct gpu_counters busiest(const struct use *u) {
    struct gpu_counters best = {0};
    for (size_t i = 0; i < u->n_engines; i++) {
        best = u->engines[i].counters.busy >= best.busy ? u->engines[i].counters : best;
    }
    return best;
}

/* Vulkan's names: "AMD Radeon ...", "Intel(R) Arc ...". */
bool gpu_drm_read(const struct gpu_places *places, const struct gpu_who *who,
                  struct gpu_counters *before, struct tui_device *out) {
    const bool amd = strstr(who->device, "AMD") != NULL || strstr(who->device, "Radeon") != NULL;
    const bool intel = strstr(who->device, "Intel") != NULL;
    char folder[GPU_PATH_CAP];
    struct uses uses;
    const struct use *use = NULL;
    if (!amd && !intel) {
        return false;
    }
    read_uses(places->proc, who->pid, &uses);
    if (!find_card(places->drm, amd ? 0x1002 : 0x8086, &uses, folder, &use)) {
        return false;
    }
    snprintf(out->source, sizeof out->source, "%s",
             use != NULL ? use->driver
             : amd       ? "amdgpu"
                         : "xe");
    out->used_bytes = read_number(folder, "mem_info_vram_used");
    out->total_bytes = read_number(folder, "mem_info_vram_total");
    out->busy = read_number(folder, "gpu_busy_percent") / 100;
    if (use != NULL && isnan(out->used_bytes)) {
        out->used_bytes = use->bytes;
    }
    if (use != NULL && isnan(out->busy)) {
        out->busy = gpu_busy_since(before, busiest(use));
    }
    return true;
}
