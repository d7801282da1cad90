/* parity --bench: time, bytes a second by the op's own count, and the part of the bandwidth that a
 * plain read loop reaches in this same run. Operands rotate through enough copies that no cache
 * helps. Reads only; nothing here judges. */
#include "parity.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MEASURE_NS = 300000000,
    READERS_MAX = 256,
};
static const uint64_t working_set_bytes = 192u << 20;

enum { PASSES = 100, SEGMENTS = 6 };

struct reader {
    const uint64_t *words; /* its part of segment 0 */
    uint64_t n_words, step;
    pthread_barrier_t *gate; /* all readers: they begin a pass together */
    uint64_t begin_ns[PASSES], end_ns[PASSES];
    uint64_t sum;
};

/* Each pass reads another segment of the buffer, so that none is in a cache. */
static void *read_words(void *arg) {
    struct reader *const r = arg;
    for (uint32_t pass = 0; pass < PASSES; pass++) {
        const uint64_t *const words = r->words + pass % SEGMENTS * r->step;
        uint64_t sums[8] = {0};
        pthread_barrier_wait(r->gate);
        r->begin_ns[pass] = tl_now_ns();
        for (uint64_t i = 0; i + 8 <= r->n_words; i += 8) {
            for (uint32_t j = 0; j < 8; j++) {
                sums[j] += words[i + j];
            }
        }
        for (uint32_t j = 0; j < 8; j++) {
            r->sum += sums[j];
        }
        r->end_ns[pass] = tl_now_ns();
    }
    return NULL;
}

/* From the first to begin the pass to the last to end it. */
static double pass_seconds(const struct reader *readers, uint32_t n_readers, uint32_t pass) {
    uint64_t begin_ns = UINT64_MAX, end_ns = 0;
    for (uint32_t i = 0; i < n_readers; i++) {
        begin_ns = tl_min_u64(begin_ns, readers[i].begin_ns[pass]);
        end_ns = tl_max_u64(end_ns, readers[i].end_ns[pass]);
    }
    return (double)(end_ns - begin_ns) * 1e-9;
}

/* Bytes a second that n_threads read out of memory in the best of many passes. */
static double read_bandwidth(const tl_buf *buf, uint32_t n_threads) {
    struct reader *const readers = calloc(n_threads, sizeof *readers);
    pthread_t threads[READERS_MAX];
    pthread_barrier_t gate;
    must(readers == NULL || n_threads > READERS_MAX ? TL_ERR_MEMORY : TL_OK, "calloc");
    const uint64_t segment = buf->bytes / 8 / SEGMENTS, part = segment / n_threads;
    pthread_barrier_init(&gate, NULL, n_threads);
    for (uint32_t i = 0; i < n_threads; i++) {
        readers[i].words = (const uint64_t *)buf->host + i * part;
        readers[i].n_words = part;
        readers[i].step = segment;
        readers[i].gate = &gate;
        must(pthread_create(&threads[i], NULL, read_words, &readers[i]) ? TL_ERR_MEMORY : TL_OK,
             "pthread_create");
    }
    double best = 0.0;
    for (uint32_t i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    for (uint32_t pass = 0; pass < PASSES; pass++) {
        best = fmax(best, (double)(part * n_threads * 8) / pass_seconds(readers, n_threads, pass));
    }
    pthread_barrier_destroy(&gate);
    free(readers);
    return best;
}

tl_buf *filled(struct side *side, uint64_t bytes) {
    tl_buf *buf;
    must(tl_buf_alloc(&buf, side->dev, bytes, TL_MEM_DEVICE), "tl_buf_alloc");
    return buf;
}

static void print_row(const char *name, double ns, uint64_t bytes, double flops, double peak) {
    const double rate = (double)bytes / (ns * 1e-9);
    printf("%-34s %10.1f us %8.2f GB/s", name, ns * 1e-3, rate * 1e-9);
    if (peak > 0.0) {
        printf(" %5.1f%% of the bandwidth", 100.0 * rate / peak);
    }
    printf(" %8.1f GFLOP/s\n", flops / ns);
    fflush(stdout);
}

/* Nanoseconds of run(arg, i), the best of all runs within the time, as for the bandwidth: on a
 * shared machine that is what repeats. */
double time_of(void (*run)(void *arg, uint64_t i), void *arg) {
    double best = (double)INFINITY;
    const uint64_t begin_ns = tl_now_ns();
    for (uint64_t i = 0; i < 3 || tl_now_ns() - begin_ns < MEASURE_NS; i++) {
        const uint64_t run_ns = tl_now_ns();
        run(arg, i);
        best = fmin(best, (double)(tl_now_ns() - run_ns));
    }
    return best;
}

struct matmul_bench {
    struct side *side;
    struct tl_matmul op;
    tl_view w; /* all copies, one below the other */
    uint64_t n_copies;
};

static void run_matmul(void *arg, uint64_t i) {
    struct matmul_bench *const b = arg;
    const uint32_t m = b->op.y.cols;
    b->op.w = tl_view_rows(b->w, (uint32_t)(i % b->n_copies) * m, m);
    must(tl_matmul(b->side->s, &b->op), "tl_matmul");
    must(tl_stream_sync(b->side->s), "tl_stream_sync");
}

static void bench_matmul(struct side *side, tl_dtype dtype, uint32_t n, double peak) {
    const uint32_t m = 4096, k = 4096;
    const uint64_t w_bytes = m * tl_row_bytes(dtype, k);
    struct matmul_bench b = {.side = side, .n_copies = tl_div_up(working_set_bytes, w_bytes)};
    tl_buf *const w = filled(side, w_bytes * b.n_copies);
    tl_buf *const x = filled(side, (uint64_t)n * k * 4), *const y =
                                                             filled(side, (uint64_t)n * m * 4);
    if (w->host != NULL && x->host != NULL) { /* zeros serve elsewhere */
        struct tl_rng rng = {1};
        fill_weights(&rng, dtype, w->host, m, k, 1.0f);
        for (uint64_t i = 1; i < b.n_copies; i++) {
            memcpy((uint8_t *)w->host + i * w_bytes, w->host, (size_t)w_bytes);
        }
        fill_weights(&rng, TL_F32, x->host, n, k, 1.0f);
    }
    b.w = tl_view_of(w, 0, (uint32_t)(m * b.n_copies), k, dtype);
    b.op = (struct tl_matmul){.y = tl_view_of(y, 0, n, m, TL_F32),
                              .x = tl_view_of(x, 0, n, k, TL_F32)};
    const double ns = time_of(run_matmul, &b);
    char name[64];
    snprintf(name, sizeof name, "matmul %s n %u, %u x %u", tl_dtype_info(dtype)->name, n, m, k);
    print_row(name, ns, tl_matmul_bytes(&b.op), 2.0 * n * m * k, n == 1 ? peak : 0.0);
    tl_buf *bufs[] = {w, x, y};
    for (uint32_t i = 0; i < 3; i++) {
        tl_buf_free(&bufs[i]);
    }
}

struct attend_bench {
    struct side *side;
    struct tl_attend op;
    tl_view k, v; /* all copies */
    uint64_t n_copies;
};

static void run_attend(void *arg, uint64_t i) {
    struct attend_bench *const b = arg;
    const uint32_t rows = (uint32_t)(b->k.rows / b->n_copies);
    const uint32_t first = (uint32_t)(i % b->n_copies) * rows;
    b->op.kv.k = tl_view_rows(b->k, first, rows);
    b->op.kv.v = tl_view_rows(b->v, first, rows);
    must(tl_attend(b->side->s, &b->op), "tl_attend");
    must(tl_stream_sync(b->side->s), "tl_stream_sync");
}

struct attend_case {
    uint32_t n, depth, kv_heads, group, d, window;
};

/* n new rows over `depth` older ones. */
static void bench_attend(struct side *side, const struct attend_case *c, double peak) {
    const uint32_t rows = c->depth + c->n, heads = c->kv_heads * c->group;
    const uint64_t copy_rows = (uint64_t)rows * c->kv_heads;
    const uint64_t set = c->n == 1 ? working_set_bytes / 2 : 1; /* of K; V is as large */
    struct attend_bench b = {.side = side};
    b.n_copies = tl_div_up(set, copy_rows * c->d * 2);
    tl_buf *bufs[6];
    for (uint32_t i = 0; i < 2; i++) {
        bufs[i] = filled(side, b.n_copies * copy_rows * c->d * 2);
        if (bufs[i]->host != NULL) {
            struct tl_rng rng = {i + 1};
            fill_weights(&rng, TL_F16, bufs[i]->host, b.n_copies * copy_rows, c->d, 1.0f);
        }
    }
    bufs[2] = filled(side, (uint64_t)c->n * heads * c->d * 4);
    bufs[3] = filled(side, (uint64_t)c->n * heads * c->d * 4);
    bufs[4] = filled(side, (uint64_t)c->n * 4);
    bufs[5] = filled(side, 4);
    if (bufs[4]->host == NULL || bufs[5]->host == NULL || bufs[2]->host == NULL) {
        must(TL_ERR_UNSUPPORTED, "bench on a device without host views");
    }
    struct tl_rng rng = {3};
    fill_weights(&rng, TL_F32, bufs[2]->host, c->n, heads * c->d, 1.0f);
    for (uint32_t i = 0; i < c->n; i++) {
        ((int32_t *)bufs[4]->host)[i] = (int32_t)(c->depth + i);
    }
    ((int32_t *)bufs[5]->host)[0] = (int32_t)rows;
    b.k = tl_view_of(bufs[0], 0, (uint32_t)(copy_rows * b.n_copies), c->d, TL_F16);
    b.v = tl_view_of(bufs[1], 0, (uint32_t)(copy_rows * b.n_copies), c->d, TL_F16);
    b.op = (struct tl_attend){.q = tl_view_of(bufs[2], 0, c->n, heads * c->d, TL_F32),
                              .out = tl_view_of(bufs[3], 0, c->n, heads * c->d, TL_F32),
                              .q_pos = tl_view_of(bufs[4], 0, c->n, 1, TL_I32),
                              .n_rows = tl_view_of(bufs[5], 0, 1, 1, TL_I32),
                              .kv.n_kv_heads = c->kv_heads,
                              .n_heads = heads,
                              .scale = 1.0f / sqrtf((float)c->d),
                              .window = c->window};
    const double ns = time_of(run_attend, &b);
    char name[80];
    snprintf(name, sizeof name, "attend n %u at %u, %u x %u x %u", c->n, c->depth, c->kv_heads,
             c->group, c->d);
    const double pairs = (double)c->n * (c->depth + (c->n + 1) / 2.0);
    print_row(name, ns, tl_attend_bytes(&b.op, rows), 4.0 * pairs * heads * c->d,
              c->n == 1 ? peak : 0.0);
    for (uint32_t i = 0; i < 6; i++) {
        tl_buf_free(&bufs[i]);
    }
}

void bench(struct side *side, const char *op) {
    struct tl_dev_caps caps;
    tl_dev_get_caps(side->dev, &caps);
    tl_buf *const buf = filled(side, working_set_bytes);
    double peak = 0.0;
    if (buf->host != NULL && caps.n_threads > 0) {
        memset(buf->host, 1, (size_t)buf->bytes);
        peak = read_bandwidth(buf, caps.n_threads);
    }
    tl_buf *bufs[] = {buf};
    tl_buf_free(&bufs[0]);
    printf("%s (%s): a read loop reaches %.1f GB/s\n", caps.name, side->name, peak * 1e-9);
    static const struct attend_case cases[] = {
        {1, 1023, 8, 4, 128, 0},   {1, 4095, 8, 4, 128, 0},   {1, 4095, 8, 1, 128, 0},
        {1, 4095, 8, 8, 128, 0},   {1, 4095, 4, 8, 64, 0},    {1, 4095, 3, 3, 64, 0},
        {1, 32767, 8, 4, 128, 0},  {1, 131071, 8, 4, 128, 0}, {512, 0, 8, 4, 128, 0},
        {512, 4096, 8, 4, 128, 0}, {512, 4096, 4, 8, 64, 0},  {512, 32768, 8, 4, 128, 0},
    };
    for (uint32_t n = 1; (op == NULL || strcmp(op, "matmul") == 0) && n <= 512; n += 511) {
        for (tl_dtype dtype = 0; dtype < TL_I32; dtype++) {
            bench_matmul(side, dtype, n, peak);
        }
    }
    for (size_t i = 0;
         (op == NULL || strcmp(op, "attend") == 0) && i < sizeof cases / sizeof cases[0]; i++) {
        bench_attend(side, &cases[i], peak);
    }
    bench_cache(side, op, peak);
}
