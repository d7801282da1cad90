/* The worker threads of the CPU backend: every thread runs every job once, counters and barriers
 * hold, many small jobs pass, and nobody works while there is nothing to do. */
#include "backends/cpu/cpu.h"
#include "support.h"

#include <stdatomic.h>
#include <time.h>

static const uint32_t thread_counts[] = {1, 2, 3, 8, 64, 256};
enum { N_COUNTS = sizeof thread_counts / sizeof thread_counts[0] };

static cpu_pool *open_pool(uint32_t n_threads) {
    cpu_pool *pool = NULL;
    assert_int_equal(cpu_pool_open(&pool, n_threads), TL_OK);
    return pool;
}

struct visits {
    cpu_pool *pool;
    uint32_t n_threads; /* as every thread was told */
    uint32_t n[CPU_THREADS_MAX];
};

static void visit(void *arg, uint32_t thread, uint32_t n_threads) {
    struct visits *const v = arg;
    v->n[thread] += n_threads == v->n_threads;
}

/* Each thread has its number and is called once a job; plain memory suffices to see the results. */
static void every_thread_runs_each_job_once(void **state) {
    (void)state;
    for (uint32_t c = 0; c < N_COUNTS; c++) {
        struct visits v = {.pool = open_pool(thread_counts[c]), .n_threads = thread_counts[c]};
        assert_int_equal(cpu_pool_n(v.pool), thread_counts[c]);
        for (uint32_t job = 1; job <= 20; job++) {
            cpu_pool_run(v.pool, visit, &v);
            for (uint32_t i = 0; i < thread_counts[c]; i++) {
                assert_int_equal(v.n[i], job);
            }
        }
        cpu_pool_close(&v.pool);
        assert_null(v.pool);
    }
}

static void add_own_number(void *arg, uint32_t thread, uint32_t n_threads) {
    atomic_uint *const sum = arg;
    (void)n_threads;
    atomic_fetch_add_explicit(sum, thread + 1, memory_order_relaxed);
}

static void many_small_jobs(void **state) {
    (void)state;
    cpu_pool *pool = open_pool(3);
    atomic_uint sum = 0;
    for (uint32_t job = 0; job < 3000; job++) {
        cpu_pool_run(pool, add_own_number, &sum);
    }
    assert_int_equal(atomic_load(&sum), 3000 * (1 + 2 + 3));
    cpu_pool_close(&pool);
}

enum { N_CLAIMS = 1000 };

struct claims {
    cpu_pool *pool;
    atomic_uint n[N_CLAIMS];
};

static void claim(void *arg, uint32_t thread, uint32_t n_threads) {
    struct claims *const c = arg;
    (void)thread;
    (void)n_threads;
    for (uint32_t i; (i = cpu_pool_next(c->pool)) < N_CLAIMS;) {
        atomic_fetch_add_explicit(&c->n[i], 1, memory_order_relaxed);
    }
}

/* Twice, since the counter starts anew with each job; and once by the caller alone. */
static void every_index_is_claimed_once(void **state) {
    (void)state;
    for (uint32_t n_threads = 1; n_threads <= 5; n_threads += 2) {
        struct claims c = {.pool = open_pool(n_threads)};
        cpu_pool_run(c.pool, claim, &c);
        cpu_pool_run(c.pool, claim, &c);
        cpu_pool_run_alone(c.pool, claim, &c);
        for (uint32_t i = 0; i < N_CLAIMS; i++) {
            assert_int_equal(atomic_load(&c.n[i]), 3);
        }
        cpu_pool_close(&c.pool);
    }
}

enum { N_PHASES = 50 };

struct phases {
    cpu_pool *pool;
    uint32_t at[CPU_THREADS_MAX];
    bool behind; /* somebody was not where the barrier says */
};

static void pass_phases(void *arg, uint32_t thread, uint32_t n_threads) {
    struct phases *const p = arg;
    for (uint32_t phase = 1; phase <= N_PHASES; phase++) {
        p->at[thread] = phase;
        cpu_pool_barrier(p->pool);
        for (uint32_t i = 0; thread == 0 && i < n_threads; i++) {
            p->behind |= p->at[i] != phase;
        }
        cpu_pool_barrier(p->pool);
    }
}

static void nobody_passes_a_barrier_alone(void **state) {
    (void)state;
    for (uint32_t n_threads = 1; n_threads <= 16; n_threads *= 2) {
        struct phases p = {.pool = open_pool(n_threads)};
        cpu_pool_run(p.pool, pass_phases, &p);
        cpu_pool_run(p.pool, pass_phases, &p);
        assert_false(p.behind);
        cpu_pool_close(&p.pool);
    }
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The time that the process computed while its caller slept a fifth of a second: at most the short
 * spin after the last job. */
static void idle_threads_sleep(void **state) {
    (void)state;
    cpu_pool *pool = open_pool(2);
    atomic_uint sum = 0;
    cpu_pool_run(pool, add_own_number, &sum);
    const double before = cpu_seconds();
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    assert_true(cpu_seconds() - before < 0.02);
    cpu_pool_run(pool, add_own_number, &sum); /* and they wake again */
    assert_int_equal(atomic_load(&sum), 6);
    cpu_pool_close(&pool);
}

static void zero_means_the_cores_there_are(void **state) {
    (void)state;
    uint32_t n_cpus = 0, n_cores = 0;
    cpu_pool_count(&n_cpus, &n_cores);
    assert_in_range(n_cores, 1, n_cpus);
    cpu_pool *pool = open_pool(0);
    assert_int_equal(cpu_pool_n(pool), tl_min_u64(n_cores, CPU_THREADS_MAX));
    cpu_pool_close(&pool);
    cpu_pool_close(&pool); /* closing nothing is fine */
}

/* Slices cover everything, in order, and differ by one at most. */
static void slices_are_even(void **state) {
    (void)state;
    for (uint32_t n_threads = 1; n_threads <= 7; n_threads++) {
        for (uint64_t n = 0; n < 40; n++) {
            uint64_t at = 0;
            for (uint32_t i = 0; i < n_threads; i++) {
                uint64_t begin, end;
                cpu_slice(n, i, n_threads, &begin, &end);
                assert_int_equal(begin, at);
                assert_in_range(end - begin, n / n_threads, tl_div_up(n, n_threads));
                at = end;
            }
            assert_int_equal(at, n);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_each_job_once),
        cmocka_unit_test(many_small_jobs),
        cmocka_unit_test(every_index_is_claimed_once),
        cmocka_unit_test(nobody_passes_a_barrier_alone),
        cmocka_unit_test(idle_threads_sleep),
        cmocka_unit_test(zero_means_the_cores_there_are),
        cmocka_unit_test(slices_are_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
