/* The spine of the tests: every op of every backend beside the specification (the plain CPU ops),
 * on random shapes (one, odd, large), inputs filled three ways (tiny, ordinary, near the limit),
 * every buffer between guard zones. Integers and copied bytes must be equal; floats meet the one
 * table of tolerances below. The CPU's own instruction sets are candidates too, each with 1, 2 and
 * 3 threads, so the AVX2 level is tested on AVX-512 machines. A failure prints what was run and the
 * command that runs it again; the seed is on the first line. The verbs of the hybrid cache are in
 * parity_cache.c and parity_index.c.
 *
 *   parity [--list] [--op NAME] [--backend NAME] [--debug WORDS] [--seed S] [--trial N] [--trials
 * N]
 *          [--bench]                              WORDS: tl_dev_params.debug of a GPU backend */
#include "parity.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GUARD_BYTES = 256,
    GUARD = 0xA5,
    TRIALS = 120, /* of each op, unless --trials says more */
};

static const char *const fill_names[FILL_COUNT] = {"tiny", "ordinary", "near the limit"};

static const double tolerances[] = {
    [OF_FLOAT] = 2e-6,      [OF_ATTEND] = 1e-5, [OF_MATMUL_FP] = 2e-6,
    [OF_MATMUL_Q] = 1.2e-2, [OF_SKETCH] = 8e-3, [OF_HALF] = 5e-4};

void must(tl_err err, const char *what) {
    if (err) {
        fprintf(stderr, "parity: %s failed with %d\n", what, (int)err);
        exit(1);
    }
}

void *must_alloc(uint64_t bytes) {
    void *const p = malloc((size_t)bytes + 1);
    if (p == NULL) {
        must(TL_ERR_MEMORY, "malloc");
    }
    return p;
}

/* What devices say, until the last one is closed: a validation layer may speak at any time. */
static unsigned n_errors_said;
static void hear(void *user, tl_level level, const char *sentence) {
    (void)user;
    if (level == TL_LEVEL_ERROR) {
        n_errors_said++;
        fprintf(stderr, "parity: %s\n", sentence);
    }
}

bool side_open(struct sides *sides, const tl_backend *backend, const char *isa_max,
               uint32_t n_threads, const char *debug) {
    struct side side = {0};
    const struct tl_dev_params params = {
        .isa_max = isa_max, .n_threads = n_threads, .debug = debug, .log = {.fn = hear}};
    const tl_err err = tl_dev_open(&side.dev, backend, &params);
    if (err == TL_ERR_UNSUPPORTED) {
        return false;
    }
    must(err, "tl_dev_open");
    struct tl_dev_caps caps;
    tl_dev_get_caps(side.dev, &caps);
    snprintf(side.name, sizeof side.name, "%s %s, %u threads", backend->name, caps.kernels,
             caps.n_threads);
    for (uint32_t i = 0; i < sides->n; i++) {
        if (strcmp(sides->all[i].name, side.name) == 0) {
            tl_dev_close(&side.dev);
            return false;
        }
    }
    must(tl_stream_open(&side.s, side.dev), "tl_stream_open");
    sides->all[sides->n++] = side;
    return true;
}

void sides_close(struct sides *sides) {
    for (uint32_t i = 0; i < sides->n; i++) {
        tl_stream_close(&sides->all[i].s);
        tl_dev_close(&sides->all[i].dev);
    }
}

/* Moves whole buffers between host memory and any device. */
static void transfer(struct side *side, tl_buf *buf, void *host, bool up) {
    tl_buf *stage;
    must(tl_buf_alloc(&stage, side->dev, buf->bytes, TL_MEM_HOST), "tl_buf_alloc");
    const uint32_t words = (uint32_t)(buf->bytes / 4);
    const tl_view there = tl_view_of(buf, 0, 1, words, TL_I32);
    const tl_view here = tl_view_of(stage, 0, 1, words, TL_I32);
    if (up) {
        memcpy(stage->host, host, (size_t)buf->bytes);
    }
    must(tl_copy(side->s, up ? there : here, up ? here : there), "tl_copy");
    must(tl_stream_sync(side->s), "tl_stream_sync");
    if (!up) {
        memcpy(host, stage->host, (size_t)buf->bytes);
    }
    tl_buf_free(&stage);
}

uint32_t operand(struct trial *t, uint32_t rows, uint32_t cols, tl_dtype dtype, const void *bytes) {
    struct operand *const o = &t->operands[t->n_operands];
    o->bytes = rows * tl_row_bytes(dtype, cols);
    const uint64_t total = tl_align_up(o->bytes, 4) + 2 * GUARD_BYTES;
    uint8_t *const image = must_alloc(total);
    memset(image, GUARD, (size_t)total);
    memcpy(image + GUARD_BYTES, bytes, (size_t)o->bytes);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        struct side *const side = &t->sides->all[i];
        must(tl_buf_alloc(&o->bufs[i], side->dev, total, TL_MEM_DEVICE), "tl_buf_alloc");
        o->views[i] = tl_view_of(o->bufs[i], GUARD_BYTES, rows, cols, dtype);
        transfer(side, o->bufs[i], image, true);
    }
    free(image);
    return t->n_operands++;
}

static float pick_float(struct tl_rng *rng, float size) { return size * rng_float(rng); }

uint32_t floats(struct trial *t, uint32_t rows, uint32_t cols, float size) {
    const uint64_t n = (uint64_t)rows * cols;
    float *const x = must_alloc(n * sizeof *x);
    for (uint64_t i = 0; i < n; i++) {
        x[i] = pick_float(&t->rng, size);
    }
    const uint32_t id = operand(t, rows, cols, TL_F32, x);
    free(x);
    return id;
}

uint32_t ints(struct trial *t, uint32_t n, const int32_t *values) {
    return operand(t, n, 1, TL_I32, values);
}

/* Where a format without an encoder keeps its halves, from the drawing in dtype.c. */
struct halves {
    tl_dtype dtype;
    uint32_t n, at[2];
};
static const struct halves halves_of[] = {
    {TL_Q4_1, 2, {0, 2}}, {TL_Q5_0, 1, {0}},      {TL_Q5_1, 2, {0, 2}}, {TL_IQ4_NL, 1, {0}},
    {TL_IQ4_XS, 1, {0}},  {TL_Q2_K, 2, {80, 82}}, {TL_Q3_K, 1, {108}},  {TL_Q4_K, 2, {0, 2}},
    {TL_Q5_K, 2, {0, 2}}, {TL_Q6_K, 1, {208}},
};

/* Any code is a valid one; only the halves must be finite. A code's value is up to about 128 times
 * its scale (2000 in the large blocks), hence the divisor. */
static void fill_blocks(struct tl_rng *rng, const struct halves *h, uint8_t *dst, uint64_t n_blocks,
                        float size) {
    const struct tl_dtype_info *const info = tl_dtype_info(h->dtype);
    const float scale = size / (info->block_elems == 256 ? 1000.0f : 64.0f);
    for (uint64_t b = 0; b < n_blocks; b++, dst += info->block_bytes) {
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            dst[i] = (uint8_t)rng_next(rng);
        }
        for (uint32_t i = 0; i < h->n; i++) {
            const uint16_t half = tl_f32_to_f16(pick_float(rng, scale));
            memcpy(dst + h->at[i], &half, sizeof half);
        }
    }
}

void fill_weights(struct tl_rng *rng, tl_dtype dtype, void *dst, uint64_t rows, uint32_t cols,
                  float size) {
    for (size_t i = 0; i < sizeof halves_of / sizeof halves_of[0]; i++) {
        if (halves_of[i].dtype == dtype) {
            const uint64_t n = rows * (cols / tl_dtype_info(dtype)->block_elems);
            fill_blocks(rng, &halves_of[i], dst, n, size);
            return;
        }
    }
    float *const x = must_alloc(cols * sizeof *x);
    for (uint64_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < cols; j++) {
            x[j] = pick_float(rng, size);
        }
        if (!tl_encode_row(dtype, x, (uint8_t *)dst + i * tl_row_bytes(dtype, cols), cols)) {
            must(TL_ERR_UNSUPPORTED, "tl_encode_row");
        }
    }
    free(x);
}

uint32_t weights(struct trial *t, uint32_t rows, uint32_t cols, tl_dtype dtype, float size) {
    void *const bytes = must_alloc(rows * tl_row_bytes(dtype, cols));
    fill_weights(&t->rng, dtype, bytes, rows, cols, size);
    const uint32_t id = operand(t, rows, cols, dtype, bytes);
    free(bytes);
    return id;
}

static void fail_trial(struct trial *t, uint32_t side, const char *why) {
    printf("  FAIL %s: %s: %s\n", t->sides->all[side].name, t->what, why);
    t->failed = true;
}

/* The operand's bytes from one side, guards checked; free them. */
static uint8_t *download(struct trial *t, uint32_t id, uint32_t side) {
    const struct operand *const o = &t->operands[id];
    const uint64_t total = o->bufs[side]->bytes;
    uint8_t *const image = must_alloc(total);
    transfer(&t->sides->all[side], o->bufs[side], image, false);
    for (uint64_t i = 0; i < GUARD_BYTES; i++) {
        if (image[i] != GUARD || image[GUARD_BYTES + o->bytes + i] != GUARD) {
            fail_trial(t, side, "wrote outside a view");
            break;
        }
    }
    memmove(image, image + GUARD_BYTES, (size_t)o->bytes);
    return image;
}

void compare_bytes(struct trial *t, uint32_t id) {
    uint8_t *const want = download(t, id, 0);
    for (uint32_t side = 1; side < t->sides->n; side++) {
        uint8_t *const got = download(t, id, side);
        if (memcmp(got, want, (size_t)t->operands[id].bytes) != 0) {
            fail_trial(t, side, "bytes differ");
        }
        free(got);
    }
    free(want);
}

/* Difference of two outputs; infinities must match exactly. */
static void compare_side(struct trial *t, uint32_t side, const float *want, const float *got,
                         uint64_t n, double typical, double tolerance) {
    double squares = 0.0, diffs = 0.0, diff_most = 0.0;
    for (uint64_t i = 0; i < n; i++) {
        if (isinf(want[i]) || isnan(got[i]) || isinf(got[i])) {
            if (want[i] == got[i]) {
                continue;
            }
            diff_most = (double)INFINITY;
            break;
        }
        const double diff = fabs((double)want[i] - (double)got[i]);
        squares += (double)want[i] * (double)want[i];
        diffs += diff * diff;
        diff_most = fmax(diff_most, diff);
    }
    const double norm = fmax(fmax(sqrt(squares / (double)n), typical), 1e-37);
    const double error = fmax(sqrt(diffs / (double)n), diff_most / 6.0) / norm;
    t->worst = fmax(t->worst, error / tolerance);
    if (!(error <= tolerance)) {
        char why[128];
        snprintf(why, sizeof why, "normalised error %.2e, at most %.0e is allowed", error,
                 tolerance);
        fail_trial(t, side, why);
    }
}

/* Up to the comma: threads must make no difference to a single bit. */
static bool same_kernels(const struct trial *t, uint32_t a, uint32_t b) {
    const char *const x = t->sides->all[a].name, *const y = t->sides->all[b].name;
    return strncmp(x, y, strcspn(x, ",") + 1) == 0;
}

/* The same as floats; free them. */
static float *download_floats(struct trial *t, uint32_t id, uint32_t side) {
    const tl_view *const v = &t->operands[id].views[side];
    uint8_t *const bytes = download(t, id, side);
    const uint64_t n = (uint64_t)v->rows * v->cols;
    float *const x = must_alloc(n * sizeof *x);
    for (uint64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + i * sizeof half, sizeof half);
        x[i] = v->dtype == TL_F16 ? tl_f16_to_f32(half) : 0.0f;
    }
    if (v->dtype == TL_F32) {
        memcpy(x, bytes, n * sizeof *x);
    }
    free(bytes);
    return x;
}

void compare_floats(struct trial *t, uint32_t id, double typical, enum tolerance_of of) {
    const struct operand *const o = &t->operands[id];
    const uint64_t n = (uint64_t)o->views[0].rows * o->views[0].cols, bytes = n * sizeof(float);
    float *const want = download_floats(t, id, 0), *last = NULL;
    for (uint32_t side = 1; side < t->sides->n; side++) {
        float *const got = download_floats(t, id, side);
        compare_side(t, side, want, got, n, typical, tolerances[of]);
        if (last != NULL && same_kernels(t, side - 1, side) && memcmp(last, got, bytes) != 0) {
            fail_trial(t, side, "bits depend on the number of threads");
        }
        free(last);
        last = got;
    }
    free(last);
    free(want);
}

uint32_t size(struct trial *t, uint32_t most) {
    switch (rng_below(&t->rng, 4)) {
    case 0:
        return 1;
    case 1:
        return 1 + (uint32_t)rng_below(&t->rng, most < 8 ? most : 8);
    case 2:
        return most;
    default:
        return 1 + (uint32_t)rng_below(&t->rng, most);
    }
}

float size_of_fill(const struct trial *t, float tiny, float limit) {
    return t->fill == FILL_TINY ? tiny : t->fill == FILL_LIMIT ? limit : 1.0f;
}

tl_view view(const struct trial *t, uint32_t id, uint32_t side) {
    return t->operands[id].views[side];
}

const tl_view absent = {0};

static void parity_copy(struct trial *t) {
    const uint32_t rows = size(t, 40), cols = size(t, 300);
    snprintf(t->what, sizeof t->what, "%u x %u", rows, cols);
    const uint32_t src = floats(t, rows, cols, 1.0f), dst = floats(t, rows, cols, 1.0f);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        must(tl_copy(t->sides->all[i].s, view(t, dst, i), view(t, src, i)), "tl_copy");
    }
    compare_bytes(t, dst);
    compare_bytes(t, src);
}

static tl_dtype pick_weight_dtype(struct trial *t, uint32_t *cols, uint32_t cols_most) {
    const tl_dtype dtype = (tl_dtype)rng_below(&t->rng, TL_I32);
    const uint32_t block = tl_dtype_info(dtype)->block_elems;
    *cols = block * size(t, cols_most / block);
    return dtype;
}

static void parity_gather(struct trial *t) {
    uint32_t cols;
    const tl_dtype dtype = pick_weight_dtype(t, &cols, 1024);
    const uint32_t n = size(t, 70), n_src = size(t, 50);
    const float scale = rng_below(&t->rng, 2) == 0 ? 1.0f : 22.627f;
    snprintf(t->what, sizeof t->what, "%s, %u of %u rows, %u columns", tl_dtype_info(dtype)->name,
             n, n_src, cols);
    int32_t ids[70];
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)rng_below(&t->rng, n_src);
    }
    const uint32_t y = floats(t, n, cols, 1.0f), idx = ints(t, n, ids);
    const uint32_t src = weights(t, n_src, cols, dtype, size_of_fill(t, 1e-6f, 1e4f));
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_gather op = {view(t, y, i), view(t, src, i), view(t, idx, i), scale};
        must(tl_gather(t->sides->all[i].s, &op), "tl_gather");
    }
    compare_floats(t, y, 0.0, OF_FLOAT);
    compare_bytes(t, src);
}

/* Root mean square of an operand's decoded values. */
static double rms(struct trial *t, uint32_t id) {
    const tl_view v = view(t, id, 0);
    uint8_t *const bytes = download(t, id, 0);
    float *const row = must_alloc(v.cols * sizeof *row);
    double squares = 0.0;
    for (uint32_t i = 0; i < v.rows; i++) {
        tl_decode_row(v.dtype, bytes + i * tl_row_bytes(v.dtype, v.cols), row, v.cols);
        for (uint32_t j = 0; j < v.cols; j++) {
            squares += (double)row[j] * (double)row[j];
        }
    }
    free(row);
    free(bytes);
    return sqrt(squares / v.rows / v.cols);
}

static void parity_matmul(struct trial *t) {
    uint32_t k;
    const tl_dtype dtype = pick_weight_dtype(t, &k, 2048);
    const uint64_t how = rng_below(&t->rng, 4); /* few rows are done in other ways */
    const uint32_t n = how == 0 ? 1 : how == 1 ? 2 + (uint32_t)rng_below(&t->rng, 16) : size(t, 67);
    const uint32_t m = size(t, 261);
    const bool accumulate = rng_below(&t->rng, 2) == 0, biased = rng_below(&t->rng, 2) == 0;
    const bool capped = rng_below(&t->rng, 3) == 0;
    snprintf(t->what, sizeof t->what, "%s, n %u, m %u, k %u%s%s%s", tl_dtype_info(dtype)->name, n,
             m, k, accumulate ? ", accumulate" : "", biased ? ", bias" : "",
             capped ? ", softcap" : "");
    const uint32_t x = floats(t, n, k, size_of_fill(t, 1e-6f, 1e4f));
    const uint32_t w = weights(t, m, k, dtype, size_of_fill(t, 1e-4f, 1e3f));
    double typical = rms(t, x) * rms(t, w) * sqrt(k);
    /* All of a size with the products: smaller, and they would not be seen; and a cap far below
     * them would make a flipped sign out of a small error. */
    const float softcap = capped ? (float)typical : 0.0f;
    const uint32_t y = floats(t, n, m, (float)typical), bias = floats(t, 1, m, (float)typical);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_matmul op = {.y = view(t, y, i),
                                     .x = view(t, x, i),
                                     .w = view(t, w, i),
                                     .bias = biased ? view(t, bias, i) : absent,
                                     .accumulate = accumulate,
                                     .softcap = softcap};
        must(tl_matmul(t->sides->all[i].s, &op), "tl_matmul");
    }
    const bool floating = dtype == TL_F32 || dtype == TL_F16 || dtype == TL_BF16;
    compare_floats(t, y, typical, floating ? OF_MATMUL_FP : OF_MATMUL_Q);
    compare_bytes(t, w);
    compare_bytes(t, x);
}

static void parity_rmsnorm(struct trial *t) {
    const uint32_t n = size(t, 70), d = size(t, 4100);
    const bool accumulate = rng_below(&t->rng, 2) == 0;
    const bool in_place = !accumulate && rng_below(&t->rng, 2) == 0;
    snprintf(t->what, sizeof t->what, "%u x %u%s%s", n, d, accumulate ? ", accumulate" : "",
             in_place ? ", in place" : "");
    const uint32_t x = floats(t, n, d, size_of_fill(t, 1e-4f, 1e6f));
    const uint32_t w = floats(t, 1, d, 1.0f), y = floats(t, n, d, 1.0f);
    const uint32_t out = in_place ? x : y;
    const double typical = accumulate ? rms(t, w) + rms(t, y) : 0.0; /* which may cancel */
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_rmsnorm op = {view(t, out, i), view(t, x, i), view(t, w, i), 1e-6f,
                                      accumulate};
        must(tl_rmsnorm(t->sides->all[i].s, &op), "tl_rmsnorm");
    }
    compare_floats(t, out, typical, OF_FLOAT);
}

static void parity_rope(struct trial *t) {
    const uint32_t head_dims[] = {2, 8, 64, 80, 96, 128, 256, 34};
    const uint32_t d = head_dims[rng_below(&t->rng, 8)], heads = size(t, 9), n = size(t, 33);
    const uint32_t pairs =
        rng_below(&t->rng, 2) == 0 ? d / 2 : 1 + (uint32_t)rng_below(&t->rng, d / 2);
    const tl_pairing pairing = (tl_pairing)rng_below(&t->rng, 2);
    const float scale = rng_below(&t->rng, 2) == 0 ? 1.0f : 1.19f;
    snprintf(t->what, sizeof t->what, "n %u, %u heads of %u, %u pairs, %s", n, heads, d, pairs,
             pairing == TL_PAIR_HALF ? "halves" : "neighbours");
    float inv_freq[128];
    for (uint32_t j = 0; j < pairs; j++) {
        inv_freq[j] = (float)pow(10000.0, -2.0 * j / d);
    }
    int32_t positions[33];
    const uint64_t farthest = t->fill == FILL_TINY ? 2 : t->fill == FILL_LIMIT ? 1 << 20 : 4096;
    for (uint32_t i = 0; i < n; i++) {
        positions[i] = (int32_t)(farthest - rng_below(&t->rng, farthest));
    }
    const uint32_t x = floats(t, n, heads * d, size_of_fill(t, 1e-6f, 1e4f));
    const uint32_t pos = ints(t, n, positions), freq = operand(t, 1, pairs, TL_F32, inv_freq);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_rope op = {view(t, x, i), view(t, pos, i), view(t, freq, i), d, pairing,
                                   scale};
        must(tl_rope(t->sides->all[i].s, &op), "tl_rope");
    }
    compare_floats(t, x, 0.0, OF_FLOAT);
}

static void parity_glu(struct trial *t) {
    const uint32_t n = size(t, 33), d = size(t, 3000);
    const tl_act act = (tl_act)rng_below(&t->rng, 2);
    const uint32_t in_place = (uint32_t)rng_below(&t->rng, 3);
    snprintf(t->what, sizeof t->what, "%u x %u, %s, into %s", n, d,
             act == TL_ACT_SILU ? "silu" : "gelu",
             in_place == 0   ? "y"
             : in_place == 1 ? "gate"
                             : "up");
    const float gate_size = t->fill == FILL_ORDINARY ? 8.0f : size_of_fill(t, 1e-6f, 1e4f);
    const uint32_t gate = floats(t, n, d, gate_size), up = floats(t, n, d, gate_size);
    const uint32_t y = floats(t, n, d, 1.0f);
    const uint32_t out = in_place == 0 ? y : in_place == 1 ? gate : up;
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_glu op = {view(t, out, i), view(t, gate, i), view(t, up, i), act};
        must(tl_glu(t->sides->all[i].s, &op), "tl_glu");
    }
    /* A far negative gate leaves e^-50 of `up`, of which float knows less. */
    const double typical = 0.01 * (double)gate_size * (double)gate_size;
    compare_floats(t, out, typical, OF_FLOAT);
}

/* Head sizes of models, sizes of test models, and odd ones. */
static uint32_t pick_head_dim(struct trial *t, bool by_blocks) {
    static const uint32_t dims[] = {64, 128, 80, 96, 256, 8, 16, 2, 34, 512};
    static const uint32_t whole[] = {32, 64, 96, 128, 256};
    return by_blocks ? whole[rng_below(&t->rng, 5)] : dims[rng_below(&t->rng, 10)];
}

static tl_dtype pick_cache_dtype(struct trial *t) {
    static const tl_dtype dtypes[] = {TL_F16, TL_F16,  TL_F16,  TL_F16,
                                      TL_F32, TL_BF16, TL_Q8_0, TL_Q4_0};
    return dtypes[rng_below(&t->rng, 8)];
}

static void parity_kv_encode(struct trial *t) {
    const tl_dtype dtype = pick_cache_dtype(t);
    const uint32_t d = pick_head_dim(t, tl_dtype_info(dtype)->block_elems > 1);
    const uint32_t heads = size(t, 8), cap = size(t, 60), n = size(t, cap);
    snprintf(t->what, sizeof t->what, "%s, %u rows into %u heads of %u x %u",
             tl_dtype_info(dtype)->name, n, heads, cap, d);
    int32_t slots[60]; /* a shuffled beginning: no slot twice */
    for (uint32_t i = 0; i < cap; i++) {
        const uint32_t j = (uint32_t)rng_below(&t->rng, i + 1);
        slots[i] = slots[j];
        slots[j] = (int32_t)i;
    }
    const float most = size_of_fill(t, 2e-7f, 6e4f);
    const uint32_t k_dst = weights(t, heads * cap, d, dtype, most);
    const uint32_t v_dst = weights(t, heads * cap, d, dtype, most);
    const uint32_t k = floats(t, n, heads * d, most), v = floats(t, n, heads * d, most);
    const uint32_t slot = ints(t, n, slots);
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_kv_encode op = {{view(t, k_dst, i), view(t, v_dst, i), heads},
                                        view(t, k, i),
                                        view(t, v, i),
                                        view(t, slot, i)};
        must(tl_kv_encode(t->sides->all[i].s, &op), "tl_kv_encode");
    }
    compare_bytes(t, k_dst);
    compare_bytes(t, v_dst);
}

struct attend_shape {
    uint32_t d, kv_heads, group, cap, n, n_rows, window;
    tl_dtype dtype;
};

/* Decode (one query, deep), small batches, and prefill over tile borders. */
static struct attend_shape pick_attend(struct trial *t) {
    struct attend_shape a = {.dtype = pick_cache_dtype(t), .kv_heads = size(t, 3)};
    a.d = pick_head_dim(t, tl_dtype_info(a.dtype)->block_elems > 1);
    a.group = 1 + (uint32_t)rng_below(&t->rng, rng_below(&t->rng, 4) == 0 ? 17 : 5);
    const bool deep = rng_below(&t->rng, 2) == 0;
    a.n = deep ? 1 + (uint32_t)rng_below(&t->rng, 3) : size(t, 70);
    a.cap = size(t, deep ? 1500 : 150);
    a.n_rows = a.cap - (uint32_t)rng_below(&t->rng, a.cap + 1) * (uint32_t)rng_below(&t->rng, 2);
    a.window = rng_below(&t->rng, 3) == 0 ? size(t, 100) : 0;
    return a;
}

static void parity_attend(struct trial *t) {
    const struct attend_shape a = pick_attend(t);
    const float softcap = rng_below(&t->rng, 4) == 0 ? 50.0f : 0.0f;
    const bool with_lse = rng_below(&t->rng, 2) == 0;
    const float spread = t->fill == FILL_TINY ? 0.1f : t->fill == FILL_LIMIT ? 8.0f : 2.0f;
    snprintf(t->what, sizeof t->what,
             "%s, n %u, %u x %u heads of %u, %u of %u rows, window %u, softcap %.0f, spread %.1f",
             tl_dtype_info(a.dtype)->name, a.n, a.kv_heads, a.group, a.d, a.n_rows, a.cap, a.window,
             (double)softcap, (double)spread);
    int32_t positions[70];
    for (uint32_t i = 0; i < a.n; i++) { /* mostly the newest rows in order, some anywhere */
        const int32_t newest = (int32_t)a.n_rows - (int32_t)a.n + (int32_t)i;
        positions[i] = newest >= 0 && rng_below(&t->rng, 8) > 0
                           ? newest
                           : (int32_t)rng_below(&t->rng, (uint64_t)a.cap + 9) - 4;
    }
    const float cache = size_of_fill(t, 2e-6f, 6e4f);
    const uint32_t n_heads = a.kv_heads * a.group, rows = a.kv_heads * a.cap;
    const uint32_t k = weights(t, rows, a.d, a.dtype, cache);
    const uint32_t v = weights(t, rows, a.d, a.dtype, cache);
    /* Scores are sums of d products of uniform numbers, each of variance (q k / 3)^2. */
    const float scale = 1.0f / sqrtf((float)a.d);
    const uint32_t q =
        floats(t, a.n, n_heads * a.d, 3.0f * spread / (float)fmax(rms(t, k) * sqrt(3.0), 1e-9));
    const uint32_t out = floats(t, a.n, n_heads * a.d, 1.0f), lse = floats(t, a.n, n_heads, 1.0f);
    const uint32_t pos = ints(t, a.n, positions), count = ints(t, 1, &(int32_t){(int32_t)a.n_rows});
    for (uint32_t i = 0; i < t->sides->n; i++) {
        const struct tl_attend op = {.out = view(t, out, i),
                                     .lse = with_lse ? view(t, lse, i) : absent,
                                     .q = view(t, q, i),
                                     .q_pos = view(t, pos, i),
                                     .n_rows = view(t, count, i),
                                     .kv = {view(t, k, i), view(t, v, i), a.kv_heads},
                                     .n_heads = n_heads,
                                     .scale = scale,
                                     .softcap = softcap,
                                     .window = a.window};
        must(tl_attend(t->sides->all[i].s, &op), "tl_attend");
    }
    compare_floats(t, out, 0.0, OF_ATTEND);
    compare_floats(t, lse, 1.0, OF_ATTEND);
}

static const struct parity_op ops[] = {
    {"copy", parity_copy},           {"gather", parity_gather}, {"matmul", parity_matmul},
    {"rmsnorm", parity_rmsnorm},     {"rope", parity_rope},     {"glu", parity_glu},
    {"kv_encode", parity_kv_encode}, {"attend", parity_attend},
};
enum { N_OPS = sizeof ops / sizeof ops[0] };

struct options {
    const char *op, *backend, *debug;
    uint64_t seed, trial, n_trials; /* trial: UINT64_MAX for all */
    bool list, bench;
};

/* Returns the number of failed trials. A trial depends on seed, op and its own number only. */
static uint64_t run_op(const struct parity_op *op, struct sides *sides, const struct options *o) {
    uint64_t n_failed = 0;
    double worst = 0.0;
    const uint64_t begin_ns = tl_now_ns();
    for (uint64_t i = 0; i < o->n_trials; i++) {
        if (o->trial != UINT64_MAX && o->trial != i) {
            continue;
        }
        struct trial t = {.sides = sides, .fill = (enum fill)(i % FILL_COUNT)};
        t.rng.state = o->seed + i * 0x100000001b3u;
        op->run(&t);
        worst = fmax(worst, t.worst);
        for (uint32_t j = 0; j < t.n_operands; j++) {
            for (uint32_t side = 0; side < sides->n; side++) {
                tl_buf_free(&t.operands[j].bufs[side]);
            }
        }
        if (t.failed) {
            n_failed++;
            printf("  fill %s; again with: parity --op %s --seed %llu --trial %llu\n",
                   fill_names[t.fill], op->name, (unsigned long long)o->seed,
                   (unsigned long long)i);
        }
    }
    printf("%-10s %s, worst error %.0f%% of what is allowed, %.1f s\n", op->name,
           n_failed > 0 ? "FAILED" : "ok", 100.0 * worst, (double)(tl_now_ns() - begin_ns) * 1e-9);
    fflush(stdout);
    return n_failed;
}

static uint64_t run_ops(const struct parity_op *list, uint32_t n, struct sides *sides,
                        const struct options *o) {
    uint64_t n_failed = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (o->op != NULL && strcmp(o->op, list[i].name) != 0) {
            continue;
        }
        if (o->list) {
            printf("%s\n", list[i].name);
        } else {
            n_failed += run_op(&list[i], sides, o);
        }
    }
    return n_failed;
}

static void open_sides(struct sides *sides, const struct options *o) {
    const tl_backend *const cpu = tl_backend_find("cpu");
    side_open(sides, cpu, "plain", 0, NULL);
    for (size_t i = 0; tl_backends[i] != NULL; i++) {
        if (o->backend != NULL && strcmp(o->backend, tl_backends[i]->name) != 0) {
            continue;
        }
        static const char *const isas[] = {"plain", "avx2", "avx512"};
        for (uint32_t isa = 0; tl_backends[i] == cpu && isa < 3; isa++) {
            for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
                side_open(sides, cpu, isas[isa], n_threads, NULL);
            }
        }
        if (tl_backends[i] != cpu && tl_backends[i]->dev_count() > 0) {
            side_open(sides, tl_backends[i], NULL, 0, o->debug);
        }
    }
}

static const char usage[] = "usage: parity [--list] [--op NAME] [--backend NAME] [--debug WORDS] "
                            "[--seed S] [--trial N] [--trials N] [--bench]\n";

static bool parse(struct options *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *const value = i + 1 < argc ? argv[i + 1] : NULL;
        const bool number = value != NULL && value[0] >= '0' && value[0] <= '9';
        if (strcmp(argv[i], "--list") == 0) {
            o->list = true;
        } else if (strcmp(argv[i], "--bench") == 0) {
            o->bench = true;
        } else if (strcmp(argv[i], "--op") == 0 && value != NULL) {
            o->op = argv[++i];
        } else if (strcmp(argv[i], "--backend") == 0 && value != NULL) {
            o->backend = argv[++i];
        } else if (strcmp(argv[i], "--debug") == 0 && value != NULL) {
            o->debug = argv[++i];
        } else if (strcmp(argv[i], "--seed") == 0 && number) {
            o->seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--trial") == 0 && number) {
            o->trial = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--trials") == 0 && number) {
            o->n_trials = strtoull(argv[++i], NULL, 10);
        } else {
            return false;
        }
    }
    if (o->trial != UINT64_MAX && o->trial >= o->n_trials) {
        o->n_trials = o->trial + 1;
    }
    return o->backend == NULL || tl_backend_find(o->backend) != NULL;
}

static int run_bench(const struct options *o) {
    const tl_backend *const backend = tl_backend_find(o->backend != NULL ? o->backend : "cpu");
    struct sides sides = {0};
    if (!side_open(&sides, backend, NULL, 0, o->debug)) {
        return 77;
    }
    bench(&sides.all[0], o->op);
    sides_close(&sides);
    return 0;
}

int main(int argc, char **argv) {
    struct options o = {.seed = tl_now_ns() % 1000000007u, .trial = UINT64_MAX, .n_trials = TRIALS};
    if (!parse(&o, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (o.bench) {
        return run_bench(&o);
    }
    struct sides sides = {0};
    open_sides(&sides, &o);
    printf("seed %llu\nreference: %s\n", (unsigned long long)o.seed, sides.all[0].name);
    for (uint32_t i = 1; i < sides.n; i++) {
        printf("candidate: %s\n", sides.all[i].name);
    }
    uint64_t n_failed = run_ops(ops, N_OPS, &sides, &o);
    n_failed += run_ops(cache_ops, n_cache_ops, &sides, &o);
    n_failed += run_ops(index_ops, n_index_ops, &sides, &o);
    sides_close(&sides);
    return n_failed > 0 || n_errors_said > 0;
}
