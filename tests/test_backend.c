/* The seam and the specification. Views and contracts of backend.c; then every op of the CPU, at
 * every instruction set this machine has, against numbers that were worked out elsewhere or against
 * direct sums in double written here. Parity (its own program) compares kernels with the plain ops;
 * this is what says that the plain ops are right. */
#include "core/backend.h"
#include "support.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const isas[] = {"plain", "avx2", "avx512"};
enum { N_ISAS = 3 };

struct fixture {
    tl_dev *dev;
    tl_stream *s;
    tl_buf *bufs[32];
    uint32_t n_bufs;
};

static struct fixture open_cpu(const char *isa_max, uint32_t n_threads) {
    struct fixture f = {0};
    const struct tl_dev_params params = {.isa_max = isa_max, .n_threads = n_threads};
    assert_int_equal(tl_dev_open(&f.dev, tl_backend_find("cpu"), &params), TL_OK);
    assert_int_equal(tl_stream_open(&f.s, f.dev), TL_OK);
    return f;
}

static void close_cpu(struct fixture *f) {
    for (uint32_t i = 0; i < f->n_bufs; i++) {
        tl_buf_free(&f->bufs[i]);
    }
    tl_stream_close(&f->s);
    tl_dev_close(&f->dev);
    assert_null(f->dev);
}

static tl_view room(struct fixture *f, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    assert_in_range(f->n_bufs, 0, 31);
    tl_buf **const buf = &f->bufs[f->n_bufs++];
    const uint64_t bytes = rows * tl_row_bytes(dtype, cols);
    assert_int_equal(tl_buf_alloc(buf, f->dev, bytes, TL_MEM_DEVICE), TL_OK);
    return tl_view_of(*buf, 0, rows, cols, dtype);
}

static tl_view floats(struct fixture *f, uint32_t rows, uint32_t cols, const float *values) {
    const tl_view v = room(f, rows, cols, TL_F32);
    memcpy(tl_view_host(v), values, tl_view_bytes(v));
    return v;
}

static tl_view ints(struct fixture *f, uint32_t n, const int32_t *values) {
    const tl_view v = room(f, n, 1, TL_I32);
    memcpy(tl_view_host(v), values, tl_view_bytes(v));
    return v;
}

static tl_view noise(struct fixture *f, struct tl_rng *rng, uint32_t rows, uint32_t cols,
                     tl_dtype dtype) {
    const tl_view v = room(f, rows, cols, dtype);
    float *const row = malloc(cols * sizeof *row);
    assert_non_null(row);
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < cols; j++) {
            row[j] = rng_float(rng);
        }
        assert_true(tl_encode_row(dtype, row, tl_view_host(tl_view_rows(v, i, 1)), cols));
    }
    free(row);
    return v;
}

static void assert_close(double got, double want, double allowed) {
    if (!(fabs(got - want) <= allowed)) {
        fail_msg("%.9g, not %.9g", got, want);
    }
}

static void assert_floats(tl_view v, const float *want, double allowed) {
    const float *const got = tl_view_host(v);
    for (uint64_t i = 0; i < (uint64_t)v.rows * v.cols; i++) {
        assert_close((double)got[i], (double)want[i], allowed);
    }
}

/* True when the function ends its process by a failed assertion. */
static bool dies(void (*run)(struct fixture *f), struct fixture *f) {
    const pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }
        run(f);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void views_are_windows_on_bytes(void **state) {
    (void)state;
    struct fixture f = open_cpu("plain", 1);
    const tl_view v = room(&f, 6, 64, TL_Q8_0);
    assert_int_equal(tl_view_bytes(v), 6 * 68);
    const tl_view rows = tl_view_rows(v, 2, 3);
    assert_int_equal(rows.off_bytes, 136);
    assert_int_equal(tl_view_bytes(rows), 3 * 68);
    assert_ptr_equal(tl_view_host(rows), (uint8_t *)v.buf->host + 136);
    const tl_view wide = tl_view_reshape(v, 3, 128);
    assert_int_equal(tl_view_bytes(wide), tl_view_bytes(v));
    /* The same rows by two ways. */
    const tl_view a = tl_view_rows(tl_view_rows(v, 1, 5), 2, 2), b = tl_view_rows(v, 3, 2);
    assert_int_equal(a.off_bytes, b.off_bytes);
    assert_int_equal(tl_view_bytes(tl_view_rows(v, 6, 0)), 0);
    close_cpu(&f);
}

static void rows_past_the_end(struct fixture *f) { tl_view_rows(room(f, 4, 4, TL_F32), 3, 2); }
static void view_past_the_end(struct fixture *f) {
    tl_view_of(room(f, 4, 4, TL_F32).buf, 4, 4, 4, TL_F32);
}
static void part_of_a_block(struct fixture *f) {
    tl_view_of(room(f, 4, 32, TL_Q4_0).buf, 0, 1, 16, TL_Q4_0);
}
static void reshape_of_another_size(struct fixture *f) {
    tl_view_reshape(room(f, 4, 4, TL_F32), 2, 9);
}
static void copy_onto_itself(struct fixture *f) {
    const tl_view v = room(f, 4, 4, TL_F32);
    if (tl_copy(f->s, tl_view_rows(v, 0, 3), tl_view_rows(v, 1, 3))) {
        return;
    }
}
static void matmul_of_unequal_widths(struct fixture *f) {
    const struct tl_matmul op = {
        .x = room(f, 1, 8, TL_F32), .w = room(f, 3, 9, TL_F32), .y = room(f, 1, 3, TL_F32)};
    if (tl_matmul(f->s, &op)) {
        return;
    }
}
static void matmul_into_its_input(struct fixture *f) {
    const tl_view x = room(f, 1, 8, TL_F32);
    const struct tl_matmul op = {.x = x, .w = room(f, 8, 8, TL_F32), .y = x};
    if (tl_matmul(f->s, &op)) {
        return;
    }
}
static void view_that_lies(struct fixture *f) {
    tl_view x = room(f, 1, 8, TL_F32);
    x.rows = 1000;
    const struct tl_glu op = {.y = x, .gate = x, .up = x};
    if (tl_glu(f->s, &op)) {
        return;
    }
}
static void heads_that_do_not_divide(struct fixture *f) {
    const tl_view kv = room(f, 12, 8, TL_F16), q = room(f, 1, 5 * 8, TL_F32);
    const struct tl_attend op = {.out = room(f, 1, 5 * 8, TL_F32),
                                 .q = q,
                                 .q_pos = room(f, 1, 1, TL_I32),
                                 .n_rows = room(f, 1, 1, TL_I32),
                                 .kv = {kv, room(f, 12, 8, TL_F16), 3},
                                 .n_heads = 5};
    if (tl_attend(f->s, &op)) {
        return;
    }
}

/* A broken contract is a bug of the caller and ends the program before memory is touched. */
static void broken_contracts_are_caught(void **state) {
    (void)state;
    struct fixture f = open_cpu("plain", 1);
    assert_true(dies(rows_past_the_end, &f));
    assert_true(dies(view_past_the_end, &f));
    assert_true(dies(part_of_a_block, &f));
    assert_true(dies(reshape_of_another_size, &f));
    assert_true(dies(copy_onto_itself, &f));
    assert_true(dies(matmul_of_unequal_widths, &f));
    assert_true(dies(matmul_into_its_input, &f));
    assert_true(dies(view_that_lies, &f));
    assert_true(dies(heads_that_do_not_divide, &f));
    close_cpu(&f);
}

static uint64_t resident_pages(void) {
    unsigned long long total = 0, resident = 0;
    FILE *const statm = fopen("/proc/self/statm", "r");
    if (statm != NULL) {
        assert_int_equal(fscanf(statm, "%llu %llu", &total, &resident), 2);
        fclose(statm);
    }
    return resident;
}

static void buffers_cost_what_is_touched(void **state) {
    (void)state;
    struct fixture f = open_cpu("plain", 1);
    const uint64_t before = resident_pages();
    tl_buf *buf = NULL;
    assert_int_equal(tl_buf_alloc(&buf, f.dev, 1u << 30, TL_MEM_DEVICE), TL_OK);
    assert_in_range(resident_pages(), 0, before + 4096);
    const uint8_t *const bytes = buf->host;
    assert_int_equal(bytes[0] | bytes[(1u << 30) - 1] | bytes[1u << 29], 0);
    tl_buf_free(&buf);
    assert_null(buf);
    assert_int_equal(tl_buf_alloc(&buf, f.dev, UINT64_MAX, TL_MEM_DEVICE), TL_ERR_MEMORY);
    assert_int_equal(tl_buf_alloc(&buf, f.dev, UINT64_MAX / 4, TL_MEM_HOST), TL_ERR_MEMORY);
    close_cpu(&f);
}

static void wrapped_memory_is_read_in_place(void **state) {
    (void)state;
    struct fixture f = open_cpu(NULL, 1);
    static const float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    tl_buf *buf = NULL;
    assert_int_equal(tl_buf_wrap(&buf, f.dev, numbers, sizeof numbers), TL_OK);
    assert_ptr_equal(buf->host, numbers);
    tl_buf_free(&buf);
    /* A backend that cannot: core makes a copy of as many bytes, rounded up to words. */
    tl_backend table = *f.dev->backend;
    const tl_backend *const own = f.dev->backend;
    table.buf_wrap = NULL;
    f.dev->backend = &table;
    assert_int_equal(tl_buf_wrap(&buf, f.dev, numbers, sizeof numbers - 1), TL_OK);
    assert_ptr_not_equal(buf->host, numbers);
    assert_memory_equal(buf->host, numbers, sizeof numbers - 1);
    tl_buf_free(&buf);
    f.dev->backend = own;
    close_cpu(&f);
}

static void devices_are_described(void **state) {
    (void)state;
    struct fixture f = open_cpu("plain", 2);
    struct tl_dev_caps caps;
    tl_dev_get_caps(f.dev, &caps);
    assert_string_equal(caps.kernels, "plain");
    assert_non_null(strstr(caps.name, "2 threads"));
    assert_int_equal(caps.n_threads, 2);
    assert_true(caps.unified);
    assert_true(caps.bytes_free <= caps.bytes_total);
    close_cpu(&f);
    tl_dev *dev = NULL;
    struct kept_log log = {0};
    struct tl_dev_params params = {.index = 1};
    assert_int_equal(tl_dev_open(&dev, tl_backend_find("cpu"), &params), TL_ERR_UNSUPPORTED);
    params = (struct tl_dev_params){.isa_max = "sse9", .log = keep_log(&log)};
    assert_int_equal(tl_dev_open(&dev, tl_backend_find("cpu"), &params), TL_ERR_UNSUPPORTED);
    assert_non_null(strstr(log.sentence, "sse9"));
    params = (struct tl_dev_params){.n_threads = 1000};
    assert_int_equal(tl_dev_open(&dev, tl_backend_find("cpu"), &params), TL_ERR_UNSUPPORTED);
    assert_null(tl_backend_find("abacus"));
}

/* Worked out by hand: x w^T of small whole numbers. */
static void matmul_by_hand(void **state) {
    (void)state;
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        struct fixture f = open_cpu(isas[isa], 2);
        struct tl_matmul op = {.x = floats(&f, 2, 3, (const float[]){1, 2, 3, -1, 0, 4}),
                               .w = floats(&f, 2, 3, (const float[]){1, 1, 1, 2, -1, 0.5f}),
                               .y = floats(&f, 2, 2, (const float[]){10, 20, 30, 40}),
                               .bias = floats(&f, 1, 2, (const float[]){0.25f, -0.5f})};
        const tl_view absent = {0};
        op.accumulate = true;
        assert_int_equal(tl_matmul(f.s, &op), TL_OK);
        assert_floats(op.y, (const float[]){16.25f, 21, 33.25f, 39.5f}, 1e-5);
        op.accumulate = false;
        op.bias = absent;
        assert_int_equal(tl_matmul(f.s, &op), TL_OK);
        assert_floats(op.y, (const float[]){6, 1.5f, 3, 0}, 1e-6);
        op.softcap = 2;
        assert_int_equal(tl_matmul(f.s, &op), TL_OK);
        /* 2 tanh(3), 2 tanh(0.75), 2 tanh(1.5), 0 */
        assert_floats(op.y, (const float[]){1.99010951f, 1.27029791f, 1.81029651f, 0}, 1e-6);
        close_cpu(&f);
    }
}

static void rmsnorm_by_hand(void **state) {
    (void)state;
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        struct fixture f = open_cpu(isas[isa], 1);
        /* mean of squares 12.5, + 0.5 = 13, 1 / sqrt(13) = 0.27735010 */
        struct tl_rmsnorm op = {.x = floats(&f, 1, 2, (const float[]){3, 4}),
                                .w = floats(&f, 1, 2, (const float[]){2, 0.5f}),
                                .y = floats(&f, 1, 2, (const float[]){1, 1}),
                                .eps = 0.5f,
                                .accumulate = true};
        assert_int_equal(tl_rmsnorm(f.s, &op), TL_OK);
        assert_floats(op.y, (const float[]){2.66410059f, 1.55470020f}, 1e-6);
        op.accumulate = false;
        op.y = op.x;
        assert_int_equal(tl_rmsnorm(f.s, &op), TL_OK);
        assert_floats(op.y, (const float[]){1.66410059f, 0.55470020f}, 1e-6);
        close_cpu(&f);
    }
}

/* silu(1), silu(-2) and gelu(1), gelu(-2) as published for these functions. */
static void glu_by_tables(void **state) {
    (void)state;
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        struct fixture f = open_cpu(isas[isa], 1);
        struct tl_glu op = {.gate = floats(&f, 1, 3, (const float[]){1, -2, 100}),
                            .up = floats(&f, 1, 3, (const float[]){2, 1, -1}),
                            .y = room(&f, 1, 3, TL_F32)};
        assert_int_equal(tl_glu(f.s, &op), TL_OK);
        assert_floats(op.y, (const float[]){1.46211716f, -0.23840584f, -100}, 1e-6);
        op.act = TL_ACT_GELU_TANH;
        assert_int_equal(tl_glu(f.s, &op), TL_OK);
        assert_floats(op.y, (const float[]){1.68238398f, -0.04540231f, -100}, 1e-6);
        close_cpu(&f);
    }
}

static void gather_scales_chosen_rows(void **state) {
    (void)state;
    struct fixture f = open_cpu(NULL, 2);
    const struct tl_gather op = {.y = room(&f, 3, 2, TL_F32),
                                 .src = floats(&f, 3, 2, (const float[]){1, 2, 3, 4, 5, 6}),
                                 .idx = ints(&f, 3, (const int32_t[]){2, 0, 2}),
                                 .scale = 0.5f};
    assert_int_equal(tl_gather(f.s, &op), TL_OK);
    assert_floats(op.y, (const float[]){2.5f, 3, 0.5f, 1, 2.5f, 3}, 0.0);
    close_cpu(&f);
}

/* Against long double at far positions, both pairings, with dimensions that are not rotated. */
static void rope_turns_exactly(void **state) {
    (void)state;
    enum { HEADS = 2, DIM = 80, PAIRS = 24, N = 4 };
    const int32_t positions[N] = {0, 1, 4095, 1 << 20};
    float inv_freq[PAIRS];
    for (uint32_t j = 0; j < PAIRS; j++) {
        inv_freq[j] = (float)pow(10000.0, -(double)j / PAIRS);
    }
    for (uint32_t isa = 0; isa < 2 * N_ISAS; isa++) {
        struct fixture f = open_cpu(isas[isa / 2], 1);
        const bool half = isa % 2 == 0;
        struct tl_rng rng = {5};
        const tl_view x = noise(&f, &rng, N, HEADS * DIM, TL_F32);
        float was[N * HEADS * DIM];
        memcpy(was, tl_view_host(x), sizeof was);
        const struct tl_rope op = {.x = x,
                                   .pos = ints(&f, N, positions),
                                   .inv_freq = floats(&f, 1, PAIRS, inv_freq),
                                   .head_dim = DIM,
                                   .pairing = half ? TL_PAIR_HALF : TL_PAIR_ADJACENT,
                                   .scale = 1.25f};
        assert_int_equal(tl_rope(f.s, &op), TL_OK);
        const float *const now = tl_view_host(x);
        for (uint32_t at = 0; at < N * HEADS * DIM; at += DIM) {
            for (uint32_t j = 0; j < PAIRS; j++) {
                const uint32_t a = at + (half ? j : 2 * j);
                const uint32_t b = half ? a + PAIRS : a + 1;
                const long double angle =
                    (long double)positions[at / (HEADS * DIM)] * (long double)inv_freq[j];
                const long double c = 1.25L * cosl(angle), s = 1.25L * sinl(angle);
                const long double was_a = (long double)was[a], was_b = (long double)was[b];
                assert_close((double)now[a], (double)(was_a * c - was_b * s), 5e-7);
                assert_close((double)now[b], (double)(was_a * s + was_b * c), 5e-7);
            }
            assert_memory_equal(now + at + 2 * PAIRS, was + at + 2 * PAIRS,
                                (DIM - 2 * PAIRS) * sizeof *was);
        }
        close_cpu(&f);
    }
}

static void kv_encode_puts_rows_in_slots(void **state) {
    (void)state;
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        struct fixture f = open_cpu(isas[isa], 2);
        enum { CAP = 4, DIM = 2, HEADS = 2 };
        const struct tl_kv_encode op = {
            .dst = {room(&f, HEADS * CAP, DIM, TL_F16), room(&f, HEADS * CAP, DIM, TL_F16), HEADS},
            .k = floats(&f, 2, HEADS * DIM, (const float[]){1, 2, 3, 4, 5, 6, 7, 65519}),
            .v = floats(&f, 2, HEADS * DIM, (const float[]){-1, -2, -3, -4, 1e-7f, 0, 0.1f, 1}),
            .slot = ints(&f, 2, (const int32_t[]){3, 1})};
        assert_int_equal(tl_kv_encode(f.s, &op), TL_OK);
        const uint16_t *const k = tl_view_host(op.dst.k), *const v = tl_view_host(op.dst.v);
        /* 1 = 0x3C00 ...; 65519 rounds to the largest half 0x7BFF, 1e-7 to two units of 2^-24 */
        const uint16_t want_k[HEADS * CAP * DIM] = {0, 0, 0x4500, 0x4600, 0, 0, 0x3C00, 0x4000,
                                                    0, 0, 0x4700, 0x7BFF, 0, 0, 0x4200, 0x4400};
        const uint16_t want_v[HEADS * CAP * DIM] = {0, 0, 0x0002, 0,      0, 0, 0xBC00, 0xC000,
                                                    0, 0, 0x2E66, 0x3C00, 0, 0, 0xC200, 0xC400};
        assert_memory_equal(k, want_k, sizeof want_k);
        assert_memory_equal(v, want_v, sizeof want_v);
        close_cpu(&f);
    }
}

/* Attention as the text books have it: all scores first, then their softmax. */
static void direct_attend(const struct tl_attend *op, uint32_t i, uint32_t h, double *out,
                          double *lse) {
    const uint32_t d = op->kv.k.cols, cap = op->kv.k.rows / op->kv.n_kv_heads;
    const uint32_t n_rows = (uint32_t) * (const int32_t *)tl_view_host(op->n_rows);
    const int64_t pos = ((const int32_t *)tl_view_host(op->q_pos))[i];
    const uint32_t first = h * op->kv.n_kv_heads / op->n_heads * cap;
    const float *const q = (const float *)tl_view_host(op->q) + (i * op->n_heads + h) * d;
    const uint16_t *const k = (const uint16_t *)tl_view_host(op->kv.k) + (uint64_t)first * d;
    const uint16_t *const v = (const uint16_t *)tl_view_host(op->kv.v) + (uint64_t)first * d;
    double total = 0.0;
    memset(out, 0, d * sizeof *out);
    for (int64_t t = 0; t < n_rows; t++) {
        if (t > pos || (op->window != 0 && t <= pos - (int64_t)op->window)) {
            continue;
        }
        double score = 0.0;
        for (uint32_t j = 0; j < d; j++) {
            score += (double)q[j] * (double)tl_f16_to_f32(k[t * d + j]);
        }
        score *= (double)op->scale;
        if (op->softcap != 0.0f) {
            score = (double)op->softcap * tanh(score / (double)op->softcap);
        }
        total += exp(score); /* small numbers here: no maximum is needed */
        for (uint32_t j = 0; j < d; j++) {
            out[j] += exp(score) * (double)tl_f16_to_f32(v[t * d + j]);
        }
    }
    for (uint32_t j = 0; j < d; j++) {
        out[j] = total > 0.0 ? out[j] / total : 0.0;
    }
    *lse = log(total);
}

static void check_attend(struct fixture *f, const struct tl_attend *op) {
    assert_int_equal(tl_attend(f->s, op), TL_OK);
    const uint32_t d = op->kv.k.cols;
    const float *const out = tl_view_host(op->out), *const lse = tl_view_host(op->lse);
    for (uint32_t i = 0; i < op->q.rows; i++) {
        for (uint32_t h = 0; h < op->n_heads; h++) {
            double want[TL_HEAD_DIM_MAX], want_lse;
            direct_attend(op, i, h, want, &want_lse);
            for (uint32_t j = 0; j < d; j++) {
                assert_close((double)out[(i * op->n_heads + h) * d + j], want[j], 2e-6);
            }
            const double got_lse = (double)lse[i * op->n_heads + h];
            if (isinf(want_lse)) {
                assert_true(isinf(got_lse) && got_lse < 0.0);
            } else {
                assert_close(got_lse, want_lse, 1e-5);
            }
        }
    }
}

static struct tl_attend attend_of(struct fixture *f, struct tl_rng *rng, uint32_t n, uint32_t cap,
                                  uint32_t n_kv_heads, uint32_t group, uint32_t d) {
    const uint32_t n_heads = n_kv_heads * group;
    struct tl_attend op = {.out = room(f, n, n_heads * d, TL_F32),
                           .lse = room(f, n, n_heads, TL_F32),
                           .q = noise(f, rng, n, n_heads * d, TL_F32),
                           .q_pos = room(f, n, 1, TL_I32),
                           .n_rows = ints(f, 1, &(int32_t){(int32_t)cap}),
                           .kv = {noise(f, rng, n_kv_heads * cap, d, TL_F16),
                                  noise(f, rng, n_kv_heads * cap, d, TL_F16), n_kv_heads},
                           .n_heads = n_heads,
                           .scale = 3.0f / sqrtf((float)d)};
    for (uint32_t i = 0; i < n; i++) {
        ((int32_t *)tl_view_host(op.q_pos))[i] = (int32_t)(cap - n + i);
    }
    return op;
}

/* Causal, windowed and capped; a query before everything sees nothing. */
static void attend_is_softmax(void **state) {
    (void)state;
    static const uint32_t shapes[][5] = {/* n, cap, KV heads, group, d */
                                         {1, 700, 2, 4, 64},  {1, 1, 1, 1, 2},
                                         {3, 130, 1, 7, 80},  {40, 200, 2, 3, 16},
                                         {5, 600, 2, 1, 128}, {2, 90, 1, 16, 96}};
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            const uint32_t *const a = shapes[i];
            struct fixture f = open_cpu(isas[isa], 3);
            struct tl_rng rng = {i + 1};
            struct tl_attend op = attend_of(&f, &rng, a[0], a[1], a[2], a[3], a[4]);
            check_attend(&f, &op);
            op.window = 33;
            check_attend(&f, &op);
            op.softcap = 0.7f;
            check_attend(&f, &op);
            op.window = 0;
            *(int32_t *)tl_view_host(op.n_rows) = (int32_t)(a[1] - a[1] / 3);
            check_attend(&f, &op);
            ((int32_t *)tl_view_host(op.q_pos))[0] = -1;
            check_attend(&f, &op);
            *(int32_t *)tl_view_host(op.n_rows) = 0;
            check_attend(&f, &op);
            close_cpu(&f);
        }
    }
}

/* Attention over two halves, merged by their log-sum-exp, is attention over all. */
static void halves_merge_to_the_whole(void **state) {
    (void)state;
    enum { CAP = 900, SPLIT = 311, GROUP = 4, DIM = 64 };
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        struct fixture f = open_cpu(isas[isa], 2);
        struct tl_rng rng = {9};
        struct tl_attend whole = attend_of(&f, &rng, 2, CAP, 1, GROUP, DIM);
        struct tl_attend parts[2] = {whole, whole};
        for (uint32_t p = 0; p < 2; p++) {
            const uint32_t first = p == 0 ? 0 : SPLIT, rows = p == 0 ? SPLIT : CAP - SPLIT;
            parts[p].out = room(&f, 2, GROUP * DIM, TL_F32);
            parts[p].lse = room(&f, 2, GROUP, TL_F32);
            parts[p].kv.k = tl_view_rows(whole.kv.k, first, rows);
            parts[p].kv.v = tl_view_rows(whole.kv.v, first, rows);
            parts[p].n_rows = ints(&f, 1, &(int32_t){(int32_t)rows});
            const int32_t pos = CAP - 2 - (int32_t)first;
            parts[p].q_pos = ints(&f, 2, (const int32_t[]){pos, pos + 1});
            assert_int_equal(tl_attend(f.s, &parts[p]), TL_OK);
        }
        assert_int_equal(tl_attend(f.s, &whole), TL_OK);
        const float *const a = tl_view_host(parts[0].out), *const b = tl_view_host(parts[1].out);
        for (uint32_t i = 0; i < 2 * GROUP * DIM; i++) {
            const double lse_a = (double)((float *)tl_view_host(parts[0].lse))[i / DIM];
            const double lse_b = (double)((float *)tl_view_host(parts[1].lse))[i / DIM];
            const double share = 1.0 / (1.0 + exp(lse_b - lse_a));
            const double merged = share * (double)a[i] + (1.0 - share) * (double)b[i];
            assert_close((double)((float *)tl_view_host(whole.out))[i], merged, 1e-6);
            assert_close((double)((float *)tl_view_host(whole.lse))[i / DIM],
                         lse_a + log1p(exp(lse_b - lse_a)), 1e-5);
        }
        close_cpu(&f);
    }
}

/* Greedy decoding must repeat to the last bit whatever -t says. */
static void threads_change_no_bit_of_attend(void **state) {
    (void)state;
    for (uint32_t isa = 0; isa < N_ISAS; isa++) {
        float first[8 * 64];
        for (uint32_t n_threads = 1; n_threads <= 5; n_threads++) {
            struct fixture f = open_cpu(isas[isa], n_threads);
            struct tl_rng rng = {11};
            const struct tl_attend op = attend_of(&f, &rng, 1, 3000, 2, 4, 64);
            assert_int_equal(tl_attend(f.s, &op), TL_OK);
            if (n_threads == 1) {
                memcpy(first, tl_view_host(op.out), sizeof first);
            }
            assert_memory_equal(tl_view_host(op.out), first, sizeof first);
            close_cpu(&f);
        }
    }
}

/* The counts that benches divide by, by hand. */
static void bytes_of_ops(void **state) {
    (void)state;
    struct fixture f = open_cpu("plain", 1);
    struct tl_matmul product = {
        .x = room(&f, 2, 64, TL_F32), .w = room(&f, 3, 64, TL_Q8_0), .y = room(&f, 2, 3, TL_F32)};
    assert_int_equal(tl_matmul_bytes(&product), 2 * 64 * 4 + 3 * 68 + 2 * 3 * 4);
    product.accumulate = true;
    product.bias = room(&f, 1, 3, TL_F32);
    assert_int_equal(tl_matmul_bytes(&product), 2 * 64 * 4 + 3 * 68 + 2 * 2 * 3 * 4 + 3 * 4);
    struct tl_rng rng = {1};
    struct tl_attend op = attend_of(&f, &rng, 1, 50, 2, 3, 8);
    assert_int_equal(tl_attend_bytes(&op, 40), 40 * 2 * 2 * 16 + 2 * 48 * 4);
    op.window = 10;
    assert_int_equal(tl_attend_bytes(&op, 40), 10 * 2 * 2 * 16 + 2 * 48 * 4);
    close_cpu(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_are_windows_on_bytes),
        cmocka_unit_test(broken_contracts_are_caught),
        cmocka_unit_test(buffers_cost_what_is_touched),
        cmocka_unit_test(wrapped_memory_is_read_in_place),
        cmocka_unit_test(devices_are_described),
        cmocka_unit_test(matmul_by_hand),
        cmocka_unit_test(rmsnorm_by_hand),
        cmocka_unit_test(glu_by_tables),
        cmocka_unit_test(gather_scales_chosen_rows),
        cmocka_unit_test(rope_turns_exactly),
        cmocka_unit_test(kv_encode_puts_rows_in_slots),
        cmocka_unit_test(attend_is_softmax),
        cmocka_unit_test(halves_merge_to_the_whole),
        cmocka_unit_test(threads_change_no_bit_of_attend),
        cmocka_unit_test(bytes_of_ops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
