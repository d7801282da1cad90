/* The host as a device. Buffers are anonymous mappings, committed by the first touch, so that a
 * long context costs nothing until it is filled; streams are synchronous: an op has happened when
 * its call returns, one stream at a time. The kernel table is the plain one with the versions of
 * the best instruction set that the CPU has, and that `isa_max` allows, laid over it. The backend's
 * one exported symbol is the table at the bottom. */
#define _GNU_SOURCE /* madvise */
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum {
    /* Below this an op takes less time than handing half of it to another thread (about 1 us). */
    SHARE_ELEMS_MIN = 8192,
    HUGE_PAGE_BYTES = 2 << 20,
};

extern const tl_backend tl_backend_cpu;

typedef enum cpu_isa { CPU_ISA_PLAIN, CPU_ISA_AVX2, CPU_ISA_AVX512, CPU_ISA_COUNT } cpu_isa;
static const char *const isa_names[CPU_ISA_COUNT] = {"plain", "avx2", "avx512"};

struct cpu_buf {
    tl_buf base;
    void *map; /* owned; NULL for wrapped memory */
};

static cpu_isa best_isa(void) {
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 29)) != 0;
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi2")) {
        return CPU_ISA_PLAIN;
    }
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
    return wide ? CPU_ISA_AVX512 : CPU_ISA_AVX2;
#else
    return CPU_ISA_PLAIN;
#endif
}

static void init_kernels(struct cpu_kernels *k, cpu_isa isa) {
    cpu_init_plain(k);
#if defined(__x86_64__)
    if (isa >= CPU_ISA_AVX2) {
        cpu_init_avx2(k);
    }
    if (isa >= CPU_ISA_AVX512) {
        cpu_init_avx512(k);
    }
#endif
    (void)isa;
}

/* An instruction set that the machine lacks is not an error: the best there is below it. */
static tl_err choose_isa(cpu_isa *out, const struct tl_dev_params *params) {
    cpu_isa isa = best_isa();
    if (params->isa_max != NULL) {
        int i = 0;
        while (i < CPU_ISA_COUNT && strcmp(params->isa_max, isa_names[i]) != 0) {
            i++;
        }
        if (i == CPU_ISA_COUNT) {
            return tl_fail(&params->log, TL_ERR_UNSUPPORTED,
                           "cpu: instruction set %s is none of plain, avx2, avx512",
                           params->isa_max);
        }
        isa = i < (int)isa ? (cpu_isa)i : isa;
    }
    *out = isa;
    return TL_OK;
}

static uint32_t dev_count(void) { return 1; }

static void dev_close(tl_dev *base) {
    struct cpu_dev *const dev = (struct cpu_dev *)base;
    cpu_pool_close(&dev->pool);
    free(dev->scratch);
    free(dev);
}

static tl_err dev_open(tl_dev **out, const struct tl_dev_params *params) {
    if (params->index != 0) {
        return TL_ERR_UNSUPPORTED;
    }
    cpu_isa isa = CPU_ISA_PLAIN;
    TL_TRY(choose_isa(&isa, params));
    if (params->n_threads > CPU_THREADS_MAX) {
        return tl_fail(&params->log, TL_ERR_UNSUPPORTED, "cpu: %u threads, at most %d",
                       params->n_threads, CPU_THREADS_MAX);
    }
    struct cpu_dev *const dev = calloc(1, sizeof *dev);
    if (dev == NULL) {
        return TL_ERR_MEMORY;
    }
    dev->base.backend = &tl_backend_cpu;
    dev->log = params->log;
    init_kernels(&dev->kernels, isa);
    const tl_err err = cpu_pool_open(&dev->pool, params->n_threads);
    if (err) {
        dev_close(&dev->base);
        return tl_fail(&params->log, err, "cpu: cannot start its threads");
    }
    *out = &dev->base;
    return TL_OK;
}

/* The value of the first line "key ... : value" of a /proc file; empty where there is none. */
static void proc_value(const char *path, const char *key, char *value, size_t value_cap) {
    value[0] = '\0';
    FILE *const f = fopen(path, "r");
    if (f == NULL) {
        return;
    }
    char line[512];
    while (value[0] == '\0' && fgets(line, sizeof line, f) != NULL) {
        const char *const colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) == 0 && colon != NULL) {
            const size_t skip = 1 + strspn(colon + 1, " \t");
            snprintf(value, value_cap, "%.*s", (int)strcspn(colon + skip, "\n"), colon + skip);
        }
    }
    fclose(f);
}

static void dev_caps(tl_dev *base, struct tl_dev_caps *out) {
    const struct cpu_dev *const dev = (const struct cpu_dev *)base;
    char value[96];
    proc_value("/proc/cpuinfo", "model name", value, sizeof value);
    if (value[0] == '\0') { /* ARM names no model but here, on some boards */
        proc_value("/proc/cpuinfo", "Model", value, sizeof value);
    }
    const uint32_t n_threads = cpu_pool_n(dev->pool);
    snprintf(out->name, sizeof out->name, "%s, %u thread%s", value[0] != '\0' ? value : "CPU",
             n_threads, n_threads == 1 ? "" : "s");
    snprintf(out->kernels, sizeof out->kernels, "%s", dev->kernels.name);
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    out->bytes_total = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    proc_value("/proc/meminfo", "MemAvailable", value, sizeof value);
    out->bytes_free = strtoull(value, NULL, 10) * 1024;
    out->n_threads = n_threads;
    out->unified = true;
    out->immediate = true;
    out->codebooks = true;
}

static tl_err new_buf(tl_buf **out, tl_dev *dev, void *host, uint64_t bytes, tl_mem mem,
                      void *map) {
    struct cpu_buf *const buf = malloc(sizeof *buf);
    if (buf == NULL) {
        return TL_ERR_MEMORY;
    }
    *buf = (struct cpu_buf){{.dev = dev, .host = host, .bytes = bytes, .mem = mem}, map};
    *out = &buf->base;
    return TL_OK;
}

static tl_err buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem) {
    if (bytes > SIZE_MAX / 2) {
        return TL_ERR_MEMORY;
    }
    void *const map =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        const struct cpu_dev *const cpu = (const struct cpu_dev *)dev;
        return tl_fail(&cpu->log, TL_ERR_MEMORY, "cpu: no room for %llu MiB",
                       (unsigned long long)(bytes >> 20));
    }
    if (bytes >= 2 * HUGE_PAGE_BYTES) {
        madvise(map, (size_t)bytes, MADV_HUGEPAGE); /* a wish: kernels without it are fine too */
    }
    const tl_err err = new_buf(out, dev, map, bytes, mem, map);
    if (err) {
        munmap(map, (size_t)bytes);
    }
    return err;
}

static tl_err buf_wrap(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes) {
    /* The cast is sound: the contract says that nobody writes through it. */
    return new_buf(out, dev, (void *)(uintptr_t)host, bytes, TL_MEM_HOST, NULL);
}

static void buf_free(tl_buf *base) {
    struct cpu_buf *const buf = (struct cpu_buf *)base;
    if (buf->map != NULL) {
        munmap(buf->map, (size_t)base->bytes);
    }
    free(buf);
}

static tl_err stream_open(tl_stream **out, tl_dev *dev) {
    tl_stream *const s = malloc(sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    *s = (tl_stream){.dev = dev};
    *out = s;
    return TL_OK;
}

static void stream_close(tl_stream *s) { free(s); }

static struct cpu_dev *dev_of(const tl_stream *s) { return (struct cpu_dev *)s->dev; }

/* Nothing is pending, and a CPU op cannot fail: where scratch is short the plain version runs. */
static tl_err stream_sync(tl_stream *s) {
    (void)s;
    return TL_OK;
}

static tl_err event_open(tl_event **out, tl_dev *dev) {
    tl_event *const e = malloc(sizeof *e);
    if (e == NULL) {
        return TL_ERR_MEMORY;
    }
    *e = (tl_event){.dev = dev};
    *out = e;
    return TL_OK;
}

static void event_close(tl_event *e) { free(e); }

/* Whatever an event stands behind has happened already. */
static tl_err event_is_past(tl_stream *s, tl_event *e) {
    (void)s;
    (void)e;
    return TL_OK;
}

void *cpu_scratch(struct cpu_dev *dev, uint64_t bytes) {
    if (bytes > dev->scratch_bytes) {
        free(dev->scratch);
        const uint64_t rounded = tl_align_up(bytes, 4096);
        dev->scratch = rounded <= SIZE_MAX / 2 ? aligned_alloc(4096, (size_t)rounded) : NULL;
        dev->scratch_bytes = dev->scratch != NULL ? rounded : 0;
    }
    return dev->scratch;
}

void cpu_slice(uint64_t n, uint32_t thread, uint32_t n_threads, uint64_t *begin, uint64_t *end) {
    *begin = n / n_threads * thread + tl_min_u64(n % n_threads, thread);
    *end = *begin + n / n_threads + (thread < n % n_threads);
}

void cpu_share(struct cpu_dev *dev, cpu_job *job, void *arg, uint64_t n_elems) {
    if (n_elems < SHARE_ELEMS_MIN) {
        cpu_pool_run_alone(dev->pool, job, arg);
    } else {
        cpu_pool_run(dev->pool, job, arg);
    }
}

static tl_err copy(tl_stream *s, const tl_view *dst, const tl_view *src) {
    (void)s;
    memcpy(cpu_row(dst, 0), cpu_row(src, 0), (size_t)tl_view_bytes(*src));
    return TL_OK;
}

static void gather_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_gather *const op = arg;
    const int32_t *const idx = cpu_row(&op->idx, 0);
    uint64_t begin, end;
    cpu_slice(op->y.rows, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        TL_ASSERT(idx[i] >= 0 && (uint32_t)idx[i] < op->src.rows);
        float *const y = cpu_row(&op->y, i);
        tl_decode_row(op->src.dtype, cpu_row(&op->src, (uint64_t)idx[i]), y, op->src.cols);
        for (uint32_t j = 0; j < op->y.cols; j++) {
            y[j] *= op->scale;
        }
    }
}

/* Belongs to no instruction set: tl_decode_row is the definition of every format already, and a
 * step gathers one row. */
static tl_err gather(tl_stream *s, const struct tl_gather *op) {
    struct tl_gather args = *op;
    cpu_share(dev_of(s), gather_job, &args, (uint64_t)op->y.rows * op->y.cols);
    return TL_OK;
}

static tl_err matmul(tl_stream *s, const struct tl_matmul *op) {
    struct cpu_dev *const dev = dev_of(s);
    if (!dev->kernels.matmul(dev, op)) {
        cpu_matmul_plain(dev, op);
    }
    return TL_OK;
}

static tl_err rmsnorm(tl_stream *s, const struct tl_rmsnorm *op) {
    dev_of(s)->kernels.rmsnorm(dev_of(s), op);
    return TL_OK;
}

static tl_err rope(tl_stream *s, const struct tl_rope *op) {
    dev_of(s)->kernels.rope(dev_of(s), op);
    return TL_OK;
}

static tl_err glu(tl_stream *s, const struct tl_glu *op) {
    dev_of(s)->kernels.glu(dev_of(s), op);
    return TL_OK;
}

static tl_err kv_encode(tl_stream *s, const struct tl_kv_encode *op) {
    dev_of(s)->kernels.kv_encode(dev_of(s), op);
    return TL_OK;
}

static tl_err attend(tl_stream *s, const struct tl_attend *op) {
    struct cpu_dev *const dev = dev_of(s);
    if (!dev->kernels.attend(dev, op)) {
        cpu_attend_plain(dev, op);
    }
    return TL_OK;
}

/* Of a plain version that found no scratch; the others cannot fail. */
static tl_err fail_memory(const struct cpu_dev *dev, const char *op) {
    return tl_fail(&dev->log, TL_ERR_MEMORY, "cpu: no scratch for %s", op);
}

static tl_err compress(tl_stream *s, const struct tl_compress *op) {
    struct cpu_dev *const dev = dev_of(s);
    const bool done = dev->kernels.compress(dev, op) || cpu_compress_plain(dev, op);
    return done ? TL_OK : fail_memory(dev, "compress");
}

static tl_err key_score(tl_stream *s, const struct tl_key_score *op) {
    struct cpu_dev *const dev = dev_of(s);
    const bool done = dev->kernels.key_score(dev, op) || cpu_key_score_plain(dev, op);
    return done ? TL_OK : fail_memory(dev, "key_score");
}

static tl_err topk(tl_stream *s, const struct tl_topk *op) {
    struct cpu_dev *const dev = dev_of(s);
    const bool done = dev->kernels.topk(dev, op) || cpu_topk_plain(dev, op);
    return done ? TL_OK : fail_memory(dev, "topk");
}

static tl_err attend_sketch(tl_stream *s, const struct tl_attend_sketch *op) {
    struct cpu_dev *const dev = dev_of(s);
    const bool done = dev->kernels.attend_sketch(dev, op) || cpu_attend_sketch_plain(dev, op);
    return done ? TL_OK : fail_memory(dev, "attend_sketch");
}

static tl_err attend_slots(tl_stream *s, const struct tl_attend_slots *op) {
    struct cpu_dev *const dev = dev_of(s);
    if (!dev->kernels.attend_slots(dev, op)) {
        cpu_attend_slots_plain(dev, op);
    }
    return TL_OK;
}

static tl_err fetch(tl_stream *s, const struct tl_fetch *op) {
    cpu_fetch(dev_of(s), op);
    return TL_OK;
}

static tl_err merge(tl_stream *s, const struct tl_merge *op) {
    cpu_merge(dev_of(s), op);
    return TL_OK;
}

static tl_err mass(tl_stream *s, const struct tl_mass *op) {
    struct cpu_dev *const dev = dev_of(s);
    const bool done = dev->kernels.mass(dev, op) || cpu_mass_plain(dev, op);
    return done ? TL_OK : fail_memory(dev, "mass");
}

static tl_err key_transpose(tl_stream *s, const struct tl_key_transpose *op) {
    cpu_key_transpose(dev_of(s), op);
    return TL_OK;
}

static tl_err channels(tl_stream *s, const struct tl_channels *op) {
    (void)s;
    cpu_channels(op);
    return TL_OK;
}

static tl_err channel_fetch(tl_stream *s, const struct tl_channel_fetch *op) {
    cpu_channel_fetch(dev_of(s), op);
    return TL_OK;
}

static tl_err channel_score(tl_stream *s, const struct tl_channel_score *op) {
    dev_of(s)->kernels.channel_score(dev_of(s), op);
    return TL_OK;
}

static tl_err page_encode(tl_stream *s, const struct tl_page_encode *op) {
    cpu_page_encode(dev_of(s), op);
    return TL_OK;
}

static tl_err page_score(tl_stream *s, const struct tl_page_score *op) {
    dev_of(s)->kernels.page_score(dev_of(s), op);
    return TL_OK;
}

const tl_backend tl_backend_cpu = {
    .name = "cpu",
    .dev_count = dev_count,
    .dev_open = dev_open,
    .dev_close = dev_close,
    .dev_caps = dev_caps,
    .buf_alloc = buf_alloc,
    .buf_wrap = buf_wrap,
    .buf_free = buf_free,
    .copy = copy,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_sync = stream_sync,
    .event_open = event_open,
    .event_close = event_close,
    .event_record = event_is_past,
    .event_wait = event_is_past,
    .gather = gather,
    .matmul = matmul,
    .rmsnorm = rmsnorm,
    .rope = rope,
    .glu = glu,
    .kv_encode = kv_encode,
    .attend = attend,
    .compress = compress,
    .key_score = key_score,
    .topk = topk,
    .attend_sketch = attend_sketch,
    .attend_slots = attend_slots,
    .fetch = fetch,
    .merge = merge,
    .mass = mass,
    .key_transpose = key_transpose,
    .channels = channels,
    .channel_fetch = channel_fetch,
    .channel_score = channel_score,
    .page_encode = page_encode,
    .page_score = page_score,
};
