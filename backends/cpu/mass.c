/* How much of attention the largest weights hold. The plain version sorts a query's weights in
 * double. The fast one has them from a kernel in float and orders them by their bit patterns, which
 * is right for numbers that are not negative, and only as far as the sums need it: 3.3 ns a weight,
 * where a whole sort takes 5.7 (1B shape, 16k rows, 2026-11-22). Sums are in double. A query's
 * shares are kept apart until all are there and are then added in order, so neither the number of
 * threads nor who claims what shows in a bit. */
#include "mass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Numbers are put into buckets by their upper bits, exponent and a little more, and inside a
     * bucket in order by the others. */
    LOW_BITS = 20,
    N_BUCKETS = 1 << (31 - LOW_BITS),
    DIGIT_BITS = 10,
    /* Scratch grows with the context; beyond this fewer threads work, each at least with its own.
     */
    SCRATCH_BYTES_MAX = 256 << 20,
};

struct mass_job {
    const struct tl_mass *op;
    cpu_pool *pool;
    mass_kernel *kernel; /* NULL: plain */
    double *held;        /* (n_heads, queries, n_parts) */
    void *work;          /* work_bytes for each thread that works */
    uint64_t work_bytes;
    uint32_t n_workers;
    uint64_t room; /* rows that a query may see, in whole multiples of 16 */
};

static void rows_seen(const struct tl_mass *op, uint32_t query, uint64_t *first, uint64_t *end) {
    const struct tl_attend as_attend = {
        .q_pos = op->q_pos, .n_rows = op->n_rows, .window = op->window};
    cpu_rows_seen(&as_attend, query, first, end);
}

/* Rows among the largest ceil(part * n / TL_MASS_WHOLE). */
static uint64_t n_top(uint64_t n, uint16_t part) { return tl_div_up(n * part, TL_MASS_WHOLE); }

static double *held_of(const struct mass_job *job, uint32_t head, uint32_t query) {
    const struct tl_mass *const op = job->op;
    return job->held + ((uint64_t)head * op->q.rows + query) * op->n_parts;
}

/* ---- plain ---- */

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Weights of one query, not normalised: largest first. */
static void plain_weights(const struct tl_mass *op, uint32_t head, uint32_t query, uint64_t first,
                          uint64_t n, double *weights) {
    const uint32_t d = op->kv.k.cols, kv_head = head / (op->n_heads / op->kv.n_kv_heads);
    const uint64_t row0 = (uint64_t)kv_head * (op->kv.k.rows / op->kv.n_kv_heads) + first;
    const float *const q = (const float *)cpu_row(&op->q, query) + (uint64_t)head * d;
    double most = -(double)INFINITY;
    for (uint64_t t = 0; t < n; t++) {
        float key[TL_HEAD_DIM_MAX];
        double sum = 0.0;
        tl_decode_row(op->kv.k.dtype, cpu_row(&op->kv.k, row0 + t), key, d);
        for (uint32_t j = 0; j < d; j++) {
            sum += (double)q[j] * (double)key[j];
        }
        sum *= (double)op->scale;
        weights[t] =
            op->softcap != 0.0f ? (double)op->softcap * tanh(sum / (double)op->softcap) : sum;
        most = fmax(most, weights[t]);
    }
    for (uint64_t t = 0; t < n; t++) {
        weights[t] = exp(weights[t] - most);
    }
    qsort(weights, n, sizeof *weights, descending);
}

static void plain_held(const struct mass_job *job, uint32_t head, uint32_t query, double *weights) {
    const struct tl_mass *const op = job->op;
    double *const held = held_of(job, head, query);
    uint64_t first, end;
    rows_seen(op, query, &first, &end);
    const uint64_t n = end - first;
    if (n == 0) {
        for (uint32_t j = 0; j < op->n_parts; j++) {
            held[j] = 1.0;
        }
        return;
    }
    plain_weights(op, head, query, first, n, weights);
    double sum = 0.0;
    uint32_t part = 0;
    for (uint64_t t = 0; t < n; t++) {
        sum += weights[t];
        for (; part < op->n_parts && t + 1 == n_top(n, op->parts[part]); part++) {
            held[part] = sum;
        }
    }
    for (uint32_t j = 0; j < op->n_parts; j++) {
        held[j] /= sum;
    }
}

static void plain_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct mass_job *const job = arg;
    const struct tl_mass *const op = job->op;
    double *const weights = (double *)(void *)((char *)job->work + thread * job->work_bytes);
    (void)n_threads;
    if (thread >= job->n_workers) {
        return;
    }
    for (uint32_t item; (item = cpu_pool_next(job->pool)) < op->n_heads * op->q.rows;) {
        plain_held(job, item / op->q.rows, item % op->q.rows, weights);
    }
}

/* ---- fast ---- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Four sums side by side, as one would wait for each addition. */
static double sum_of(const float *x, uint64_t n) {
    double sums[4] = {0};
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (uint32_t j = 0; j < 4; j++) {
            sums[j] += (double)x[i + j];
        }
    }
    for (; i < n; i++) {
        sums[0] += (double)x[i];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* starts[b] := how many of x lie in buckets below b; n below the last one. */
static void find_starts(const float *x, uint64_t n, uint32_t *starts) {
    uint32_t counts[2][N_BUCKETS]; /* two, as neighbours often fall into one bucket */
    memset(counts, 0, sizeof counts);
    for (uint64_t i = 0; i < n; i++) {
        counts[i % 2][bits_of(x[i]) >> LOW_BITS & (N_BUCKETS - 1)]++;
    }
    uint32_t sum = 0;
    for (uint32_t b = 0; b < N_BUCKETS; b++) {
        starts[b] = sum;
        sum += counts[0][b] + counts[1][b];
    }
    starts[N_BUCKETS] = sum;
}

/* Sorts n numbers of one bucket, ascending, by the digits that the bucket leaves open. */
static void sort_bucket(float *x, float *other, uint64_t n) {
    float *src = x, *dst = other;
    for (uint32_t shift = 0; shift < LOW_BITS; shift += DIGIT_BITS) {
        uint32_t at[1 << DIGIT_BITS] = {0}, sum = 0;
        for (uint64_t i = 0; i < n; i++) {
            at[bits_of(src[i]) >> shift & ((1 << DIGIT_BITS) - 1)]++;
        }
        for (uint32_t digit = 0; digit < 1 << DIGIT_BITS; digit++) {
            const uint32_t count = at[digit];
            at[digit] = sum;
            sum += count;
        }
        for (uint64_t i = 0; i < n; i++) {
            dst[at[bits_of(src[i]) >> shift & ((1 << DIGIT_BITS) - 1)]++] = src[i];
        }
        float *const swapped = src;
        src = dst;
        dst = swapped;
    }
}
_Static_assert(LOW_BITS % (2 * DIGIT_BITS) == 0, "sort_bucket ends where it began");

/* Shares of n weights, which are lost. Buckets are in order; of numbers only those that share one
 * with a part's least are put in order. */
static void fast_held(const struct tl_mass *op, float *weights, uint64_t n, float *sorted,
                      double *held) {
    uint32_t starts[N_BUCKETS + 1], at[N_BUCKETS];
    find_starts(weights, n, starts);
    memcpy(at, starts, sizeof at);
    for (uint64_t i = 0; i < n; i++) {
        sorted[at[bits_of(weights[i]) >> LOW_BITS & (N_BUCKETS - 1)]++] = weights[i];
    }
    uint32_t bucket = N_BUCKETS; /* the lowest one that is in order */
    uint64_t left = n;
    double sum = 0.0;
    for (uint32_t j = 0; j < op->n_parts; j++) {
        const uint64_t next = n - n_top(n, op->parts[j]);
        uint32_t b = bucket < N_BUCKETS ? bucket : N_BUCKETS - 1;
        while (starts[b] > next) {
            b--;
        }
        if (b < bucket && starts[b] != next) {
            sort_bucket(sorted + starts[b], weights, starts[b + 1] - starts[b]);
            bucket = b;
        }
        sum += sum_of(sorted + next, left - next);
        left = next;
        held[j] = sum;
    }
    const double all = sum + sum_of(sorted, left);
    for (uint32_t j = 0; j < op->n_parts; j++) {
        held[j] /= all;
    }
}

static void run_task(const struct mass_job *job, struct mass_task *task, float *sorted) {
    const struct tl_mass *const op = job->op;
    task->begin = UINT64_MAX;
    task->end = 0;
    for (uint32_t r = 0; r < task->n; r++) {
        rows_seen(op, task->query + r, &task->first_of[r], &task->end_of[r]);
        task->begin = tl_min_u64(task->begin, task->first_of[r]);
        task->end = tl_max_u64(task->end, task->end_of[r]);
    }
    if (task->begin < task->end) {
        job->kernel(task);
    }
    for (uint32_t r = 0; r < task->n; r++) {
        double *const held = held_of(job, task->head, task->query + r);
        const uint64_t n = task->end_of[r] - task->first_of[r];
        if (n > 0) {
            float *const seen = task->weights + r * task->room + task->first_of[r] - task->begin;
            fast_held(op, seen, n, sorted, held);
        }
        for (uint32_t j = 0; n == 0 && j < op->n_parts; j++) {
            held[j] = 1.0;
        }
    }
}

static void fast_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct mass_job *const job = arg;
    const struct tl_mass *const op = job->op;
    const uint32_t n_batches = (uint32_t)tl_div_up(op->q.rows, MASS_QUERIES);
    (void)n_threads;
    if (thread >= job->n_workers) {
        return;
    }
    struct mass_task task = {
        .op = op, .room = job->room, .stride = (uint32_t)tl_align_up(op->kv.k.cols, 16)};
    task.weights = (float *)(void *)((char *)job->work + thread * job->work_bytes);
    task.q = task.weights + MASS_QUERIES * job->room;
    float *const sorted = task.q + (uint64_t)MASS_QUERIES * task.stride;
    for (uint32_t item; (item = cpu_pool_next(job->pool)) < op->n_heads * n_batches;) {
        task.head = item / n_batches;
        task.query = item % n_batches * MASS_QUERIES;
        task.n = (uint32_t)tl_min_u64(MASS_QUERIES, op->q.rows - task.query);
        run_task(job, &task, sorted);
    }
}

/* ---- both ---- */

/* Means over the queries, in their order. */
static void write_means(const struct mass_job *job) {
    const struct tl_mass *const op = job->op;
    for (uint32_t h = 0; h < op->n_heads; h++) {
        float *const mass = cpu_row(&op->mass, h);
        for (uint32_t j = 0; j < op->n_parts; j++) {
            double sum = 0.0;
            for (uint32_t i = 0; i < op->q.rows; i++) {
                sum += held_of(job, h, i)[j];
            }
            mass[j] = (float)(sum / op->q.rows);
        }
    }
}

/* The rows between the first and the last that any query sees. */
static uint64_t span_of(const struct tl_mass *op) {
    uint64_t begin = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < op->q.rows; i++) {
        uint64_t row_first, row_end;
        rows_seen(op, i, &row_first, &row_end);
        begin = tl_min_u64(begin, row_first);
        end = tl_max_u64(end, row_end);
    }
    return end > begin ? end - begin : 0;
}

/* Shares the job, whose threads take work_bytes each; false where there is no memory for one. */
static bool share(struct cpu_dev *dev, cpu_job *run, struct mass_job *job) {
    const struct tl_mass *const op = job->op;
    const uint64_t n_held = (uint64_t)op->n_heads * op->q.rows * op->n_parts;
    const uint64_t held_bytes = tl_align_up(n_held * sizeof *job->held, 64);
    job->pool = dev->pool;
    job->n_workers = (uint32_t)tl_min_u64(cpu_pool_n(dev->pool),
                                          tl_max_u64(1, SCRATCH_BYTES_MAX / job->work_bytes));
    job->held = cpu_scratch(dev, held_bytes + job->n_workers * job->work_bytes);
    if (job->held == NULL) {
        return false;
    }
    job->work = (char *)job->held + held_bytes;
    cpu_share(dev, run, job, op->n_heads * (uint64_t)op->q.rows * job->room * op->kv.k.cols);
    write_means(job);
    return true;
}

bool cpu_mass_plain(struct cpu_dev *dev, const struct tl_mass *op) {
    struct mass_job job = {.op = op, .room = tl_align_up(span_of(op) + 1, 16)};
    job.work_bytes = tl_align_up(job.room * sizeof(double), 64);
    return share(dev, plain_job, &job);
}

bool cpu_mass_fast(struct cpu_dev *dev, const struct tl_mass *op, mass_kernel *kernel) {
    if (op->kv.k.dtype != TL_F16) {
        return false;
    }
    struct mass_job job = {.op = op, .kernel = kernel, .room = tl_align_up(span_of(op) + 1, 16)};
    const uint64_t q_floats = MASS_QUERIES * tl_align_up(op->kv.k.cols, 16);
    job.work_bytes = tl_align_up(((MASS_QUERIES + 1) * job.room + q_floats) * sizeof(float), 64);
    return share(dev, fast_job, &job);
}
