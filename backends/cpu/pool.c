/* Worker threads of one device. A worker waits for a word to change: it spins a short while, since
 * the next op of a token comes within microseconds, and then sleeps, so that an idle engine costs
 * nothing. All waits (a job, its end, a barrier) are that one wait on different words, and all
 * sleepers share one condition variable.
 *
 * Invariant: a sleeper counts itself in `n_sleepers` before it looks at its word for the last time,
 * and whoever changes a word looks at `n_sleepers` afterwards, both sequentially consistent; so one
 * of the two sees the other and no wake-up is lost. The pool decides nothing about who does what.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SPIN_NS = 60000,    /* a sleeping thread takes about as long as this to come back */
    SPINS_A_CLOCK = 64, /* looks at the word between two looks at the clock */
};

struct worker {
    pthread_t thread;
    cpu_pool *pool; /* borrowed */
    uint32_t index;
};

struct cpu_pool {
    uint32_t n_threads;
    uint32_t n_started; /* workers that run; the caller of cpu_pool_run is no worker */
    uint32_t spin_ns;   /* 0 where threads outnumber CPUs: they would wait for each other's slice */
    struct worker *workers; /* owned */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    cpu_job *job;
    void *arg;
    bool stop;
    /* Words that threads hammer on, each on a cache line of its own. */
    alignas(64) atomic_uint n_jobs; /* jobs begun: workers wait for it to change */
    alignas(64) atomic_uint n_done; /* jobs ended: the caller waits for it to change */
    alignas(64) atomic_uint n_running;
    alignas(64) atomic_uint n_sleepers;
    alignas(64) atomic_uint next;
    alignas(64) atomic_uint n_arrived;
    alignas(64) atomic_uint n_barriers; /* barriers passed */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Returns when *word is no longer `old`. */
static void wait_change(cpu_pool *pool, atomic_uint *word, unsigned old) {
    if (pool->spin_ns > 0) {
        const uint64_t begin = tl_now_ns();
        do {
            for (int i = 0; i < SPINS_A_CLOCK; i++) {
                if (atomic_load_explicit(word, memory_order_acquire) != old) {
                    return;
                }
                pause_cpu();
            }
        } while (tl_now_ns() - begin < pool->spin_ns);
    } else {
        for (int i = 0; i < 4; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old) {
                return;
            }
            sched_yield();
        }
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_sleepers, 1);
    while (atomic_load(word) == old) {
        pthread_cond_wait(&pool->wake, &pool->lock);
    }
    atomic_fetch_sub(&pool->n_sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void change(cpu_pool *pool, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&pool->n_sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void *work(void *arg) {
    const struct worker *const me = arg;
    cpu_pool *const pool = me->pool;
    for (unsigned seen = 0;; seen++) {
        wait_change(pool, &pool->n_jobs, seen);
        if (pool->stop) {
            return NULL;
        }
        pool->job(pool->arg, me->index, pool->n_threads);
        if (atomic_fetch_sub(&pool->n_running, 1) == 1) {
            change(pool, &pool->n_done);
        }
    }
}

/* The lowest CPU of "0-1,64" that is in the set, or the count of the set when there is none. */
static int first_of_list(const char *list, const cpu_set_t *allowed) {
    while (*list >= '0' && *list <= '9') {
        char *end;
        const long from = strtol(list, &end, 10);
        const long to = *end == '-' ? strtol(end + 1, &end, 10) : from;
        for (long cpu = from; cpu <= to && cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET((int)cpu, allowed)) {
                return (int)cpu;
            }
        }
        list = *end == ',' ? end + 1 : end;
    }
    return CPU_SETSIZE;
}

/* True when no lower CPU that we may use shares this one's core; also when nothing is known. */
static bool leads_its_core(int cpu, const cpu_set_t *allowed) {
    char path[96], list[256] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *const f = fopen(path, "r");
    if (f == NULL) {
        return true;
    }
    const bool known = fgets(list, sizeof list, f) != NULL;
    fclose(f);
    return !known || first_of_list(list, allowed) >= cpu;
}

/* The CPUs' worth of time that a container grants ("200000 100000" is two); none set: no limit. */
static uint32_t quota_cpus(void) {
    FILE *const f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f == NULL) {
        return UINT32_MAX;
    }
    unsigned long long quota = 0, period = 0;
    const bool limited = fscanf(f, "%llu %llu", &quota, &period) == 2 && quota > 0 && period > 0;
    fclose(f);
    return limited ? (uint32_t)tl_min_u64(tl_div_up(quota, period), UINT32_MAX) : UINT32_MAX;
}

void cpu_pool_count(uint32_t *n_cpus, uint32_t *n_cores) {
    cpu_set_t allowed;
    const uint32_t quota = quota_cpus();
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        const long n = sysconf(_SC_NPROCESSORS_ONLN);
        *n_cpus = *n_cores = n > 0 ? (uint32_t)n : 1;
        return;
    }
    *n_cpus = (uint32_t)CPU_COUNT(&allowed);
    *n_cores = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        *n_cores += CPU_ISSET(cpu, &allowed) && leads_its_core(cpu, &allowed);
    }
    *n_cpus = *n_cpus < quota ? *n_cpus : quota;
    *n_cores = *n_cores < quota ? *n_cores : quota;
}

tl_err cpu_pool_open(cpu_pool **out, uint32_t n_threads) {
    uint32_t n_cpus, n_cores;
    cpu_pool_count(&n_cpus, &n_cores);
    n_threads = n_threads > 0 ? n_threads : n_cores;
    if (n_threads > CPU_THREADS_MAX) {
        n_threads = CPU_THREADS_MAX;
    }
    cpu_pool *pool = aligned_alloc(64, tl_align_up(sizeof *pool, 64));
    struct worker *const workers = calloc(n_threads, sizeof *workers);
    if (pool == NULL || workers == NULL) {
        free(pool);
        free(workers);
        return TL_ERR_MEMORY;
    }
    *pool = (cpu_pool){
        .n_threads = n_threads, .spin_ns = n_threads <= n_cpus ? SPIN_NS : 0, .workers = workers};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (uint32_t i = 1; i < n_threads; i++) {
        workers[i] = (struct worker){.pool = pool, .index = i};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            cpu_pool_close(&pool);
            return TL_ERR_MEMORY;
        }
        pool->n_started++;
    }
    *out = pool;
    return TL_OK;
}

void cpu_pool_close(cpu_pool **pool_at) {
    cpu_pool *const pool = *pool_at;
    if (pool == NULL) {
        return;
    }
    pool->stop = true;
    change(pool, &pool->n_jobs);
    for (uint32_t i = 1; i <= pool->n_started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
    *pool_at = NULL;
}

uint32_t cpu_pool_n(const cpu_pool *pool) { return pool->n_threads; }

void cpu_pool_run_alone(cpu_pool *pool, cpu_job *job, void *arg) {
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    job(arg, 0, 1);
}

void cpu_pool_run(cpu_pool *pool, cpu_job *job, void *arg) {
    if (pool->n_threads == 1) {
        cpu_pool_run_alone(pool, job, arg);
        return;
    }
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    const unsigned done = atomic_load(&pool->n_done);
    pool->job = job;
    pool->arg = arg;
    atomic_store(&pool->n_running, pool->n_threads - 1);
    change(pool, &pool->n_jobs);
    job(arg, 0, pool->n_threads);
    wait_change(pool, &pool->n_done, done);
}

uint32_t cpu_pool_next(cpu_pool *pool) {
    return atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
}

void cpu_pool_barrier(cpu_pool *pool) {
    if (pool->n_threads == 1) {
        return;
    }
    const unsigned passed = atomic_load(&pool->n_barriers);
    if (atomic_fetch_add(&pool->n_arrived, 1) == pool->n_threads - 1) {
        atomic_store(&pool->n_arrived, 0);
        change(pool, &pool->n_barriers);
    } else {
        wait_change(pool, &pool->n_barriers, passed);
    }
}
