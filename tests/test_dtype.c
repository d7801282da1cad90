/* The element formats against what does not come from core/dtype.c: vectors by gguf-py's numpy code
 * (tests/golden/make_dtype.py), vectors by ggml (../shared/data/quant-vectors), blocks worked out
 * by hand, and the arithmetic of ldexp. */
#include "core/dtype.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const tl_dtype weight_types[] = {TL_F32,  TL_F16,  TL_BF16, TL_Q8_0,   TL_Q4_0,
                                        TL_Q4_1, TL_Q5_0, TL_Q5_1, TL_IQ4_NL, TL_IQ4_XS,
                                        TL_Q2_K, TL_Q3_K, TL_Q4_K, TL_Q5_K,   TL_Q6_K};
enum { N_WEIGHT_TYPES = sizeof weight_types / sizeof weight_types[0] };

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* Decodes `blocks` from an odd address, between guards, and compares bit by bit. */
static void check_decoding(tl_dtype dtype, tl_bytes blocks, tl_bytes expected) {
    const struct tl_dtype_info *const info = tl_dtype_info(dtype);
    const uint64_t n = blocks.len / info->block_bytes * info->block_elems;
    assert_int_equal(blocks.len % info->block_bytes, 0);
    assert_int_equal(expected.len, n * sizeof(float));
    assert_true(n > 0);
    uint8_t *const src = test_malloc(blocks.len + 1);
    float *const dst = test_malloc((n + 2) * sizeof *dst);
    memcpy(src + 1, blocks.data, blocks.len);
    dst[0] = dst[n + 1] = 12345.0f;
    tl_decode_row(dtype, src + 1, dst + 1, n);
    assert_true(dst[0] == 12345.0f && dst[n + 1] == 12345.0f);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t want;
        memcpy(&want, expected.data + i * sizeof want, sizeof want);
        if (bits_of(dst[i + 1]) != want) {
            fail_msg("%s: element %lu is %08x, not %08x", info->name, (unsigned long)i,
                     bits_of(dst[i + 1]), want);
        }
    }
    test_free(src);
    test_free(dst);
}

/* Goal: every quantised format decodes as an independent implementation says. */
static void decodes_as_gguf_py(void **state) {
    (void)state;
    for (int i = 0; i < N_WEIGHT_TYPES; i++) {
        const tl_dtype dtype = weight_types[i];
        if (tl_dtype_info(dtype)->block_elems == 1) {
            continue;
        }
        char path[512];
        snprintf(path, sizeof path, "%s/tests/golden/dtype/%s.bin", TL_SOURCE_DIR,
                 tl_dtype_info(dtype)->name);
        tl_bytes blocks = read_file(path);
        snprintf(path, sizeof path, "%s/tests/golden/dtype/%s.f32", TL_SOURCE_DIR,
                 tl_dtype_info(dtype)->name);
        tl_bytes expected = read_file(path);
        check_decoding(dtype, blocks, expected);
        tl_bytes_free(&blocks);
        tl_bytes_free(&expected);
    }
}

static void check_shared(tl_dtype dtype, const char *bin, const char *f32) {
    char path[128];
    snprintf(path, sizeof path, "quant-vectors/%s.%s", tl_dtype_info(dtype)->name, bin);
    tl_bytes blocks = read_file(shared_path(path));
    snprintf(path, sizeof path, "quant-vectors/%s.%s", tl_dtype_info(dtype)->name, f32);
    tl_bytes expected = read_file(shared_path(path));
    check_decoding(dtype, blocks, expected);
    tl_bytes_free(&blocks);
    tl_bytes_free(&expected);
}

/* Goal: the same for ggml's own quantisation of real numbers, and for random bits; of F16 and BF16
 * all codes, NaNs included. */
static void decodes_shared_vectors(void **state) {
    (void)state;
    shared_or_skip();
    for (int i = 0; i < N_WEIGHT_TYPES; i++) {
        if (weight_types[i] != TL_F32) {
            check_shared(weight_types[i], "quant.bin", "dequant.f32");
            check_shared(weight_types[i], "bits.bin", "bits.f32");
        }
    }
}

/* Goal: small blocks whose values follow from the drawing by mental arithmetic. */
static void decodes_blocks_worked_by_hand(void **state) {
    (void)state;
    float x[256];

    /* d = 0.5 (0x3800); byte j holds j low and 15 - j high. */
    uint8_t q4_0[18] = {0x00, 0x38};
    for (int j = 0; j < 16; j++) {
        q4_0[2 + j] = (uint8_t)(j | (15 - j) << 4);
    }
    tl_decode_row(TL_Q4_0, q4_0, x, 32);
    for (int j = 0; j < 16; j++) {
        assert_true(x[j] == 0.5f * (float)(j - 8));
        assert_true(x[16 + j] == 0.5f * (float)(7 - j));
    }

    /* d = -2 (0xc000), m = 1 (0x3c00), every fifth bit set but those of elements 3 and 20. */
    uint8_t q5_1[24] = {0x00, 0xc0, 0x00, 0x3c, 0xf7, 0xff, 0xef, 0xff};
    tl_decode_row(TL_Q5_1, q5_1, x, 32);
    for (int j = 0; j < 32; j++) {
        assert_true(x[j] == (j == 3 || j == 20 ? 1.0f : -31.0f));
    }

    /* Q4_K, d = 1, dm = 1. Scales 1 .. 8 times 7, minima 8 .. 1 times 7, all nibbles 1, so that
     * sub-block i is 7 (i + 1) - 7 (8 - i). Packed: bytes 0..3 are scales 7 14 21 28 with the top
     * two bits of 35 42 49 56 (2 2 3 3) above, 4..7 are minima 56 49 42 35 with those of 28 21 14 7
     * (1 1 0 0), 8..11 the low nibbles 3 10 1 8 of the former and 12 5 14 7 of the latter. */
    uint8_t q4_k[144] = {
        0x00,        0x3c,        0x00, 0x3c, 7 | 2 << 6,  14 | 2 << 6, 21 | 3 << 6, 28 | 3 << 6,
        56 | 1 << 6, 49 | 1 << 6, 42,   35,   3 | 12 << 4, 10 | 5 << 4, 1 | 14 << 4, 8 | 7 << 4};
    memset(q4_k + 16, 0x11, 128);
    tl_decode_row(TL_Q4_K, q4_k, x, 256);
    for (int e = 0; e < 256; e++) {
        assert_true(x[e] == (float)(7 * (e / 32 + 1) - 7 * (8 - e / 32)));
    }
}

/* The value of a code with the given field widths, by ldexp. */
static double value_of(uint32_t code, int exponent_bits, int mantissa_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (int)(code >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const int mantissa = (int)code & ((1 << mantissa_bits) - 1);
    const double sign = code >> (exponent_bits + mantissa_bits) ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) {
        return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    }
    const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
    return sign * ldexp(whole, (exponent == 0 ? 1 : exponent) - bias - mantissa_bits);
}

static void check_code(uint16_t code, float got, double want, uint16_t back) {
    if (isnan(want)) {
        assert_true(isnan(got));
        assert_int_equal(signbit(got) != 0, code >> 15);
        assert_int_equal(back >> 15, code >> 15);
        return;
    }
    assert_true((double)got == want);
    assert_int_equal(signbit(got) != 0, code >> 15);
    assert_int_equal(back, code);
}

/* Goal: all 65536 codes of both halves mean what their fields say, and encode to themselves. */
static void sixteen_bit_codes_mean_their_fields(void **state) {
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        const uint16_t c = (uint16_t)code;
        const float f16 = tl_f16_to_f32(c), bf16 = tl_bf16_to_f32(c);
        check_code(c, f16, value_of(code, 5, 10), tl_f32_to_f16(f16));
        check_code(c, bf16, value_of(code, 8, 7), tl_f32_to_bf16(bf16));
        if (isnan(f16)) {
            assert_true(isnan(tl_f16_to_f32(tl_f32_to_f16(f16))));
        }
        if (isnan(bf16)) {
            assert_true(isnan(tl_bf16_to_f32(tl_f32_to_bf16(bf16))));
        }
    }
}

static void check_rounding(uint16_t (*encode)(float), double a, double b, uint16_t code) {
    const float middle = (float)((a + b) / 2);
    assert_true((double)middle == (a + b) / 2);
    const uint16_t even = (uint16_t)(code + (code & 1));
    for (int negative = 0; negative < 2; negative++) {
        const float sign = negative ? -1.0f : 1.0f;
        const uint16_t top = negative ? 0x8000 : 0;
        assert_int_equal(encode(sign * middle), even | top);
        assert_int_equal(encode(sign * nextafterf(middle, 0)), code | top);
        assert_int_equal(encode(sign * nextafterf(middle, INFINITY)), (code + 1) | top);
    }
}

/* Goal: rounding is to nearest, ties to even, between every two neighbouring codes, subnormal ones
 * and the step from the largest to infinity included. That is all there is to test: in between
 * nothing changes. */
static void sixteen_bit_rounding_is_to_nearest_even(void **state) {
    (void)state;
    for (uint16_t code = 0; code < 0x7bff; code++) {
        check_rounding(tl_f32_to_f16, value_of(code, 5, 10), value_of(code + 1u, 5, 10), code);
    }
    check_rounding(tl_f32_to_f16, 65504, 65536, 0x7bff);
    for (uint16_t code = 0; code < 0x7f7f; code++) {
        check_rounding(tl_f32_to_bf16, value_of(code, 8, 7), value_of(code + 1u, 8, 7), code);
    }
    assert_int_equal(tl_f32_to_bf16(0x1.fep127f), 0x7f7f);
    assert_int_equal(tl_f32_to_bf16(0x1.fffffep127f), 0x7f80);
    assert_int_equal(tl_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(tl_f32_to_f16(-INFINITY), 0xfc00);
}

/* A row of 32-element blocks and the law of its encoding: the stored scale is the half nearest to
 * the wanted one, and each step is the nearest of all that the format has. */
static void check_encoding(tl_dtype dtype, const float *src, uint64_t n, int low, int high) {
    uint8_t bytes[34];
    for (uint64_t at = 0; at < n; at += 32) {
        const float *const x = src + at;
        assert_true(tl_encode_row(dtype, x, bytes, 32));
        float y[32];
        tl_decode_row(dtype, bytes, y, 32);
        const double d = value_of((uint32_t)(bytes[0] | bytes[1] << 8), 5, 10);
        double peak = 0;
        for (int i = 0; i < 32; i++) {
            peak = fmax(peak, fabs((double)x[i]));
        }
        const double wanted = peak / (dtype == TL_Q8_0 ? 127 : 8);
        assert_true(fabs(fabs(d) - wanted) <= fmax(wanted * 0x1p-11, 0x1p-25) * 1.0001);
        for (int i = 0; i < 32; i++) {
            double best = (double)INFINITY;
            for (int step = low; step <= high; step++) {
                best = fmin(best, fabs((double)x[i] - d * step));
            }
            assert_true(fabs((double)x[i] - (double)y[i]) <= best * 1.000001);
        }
    }
}

/* Goal: what we encode comes back as near as the format allows, at all sizes of numbers. */
static void encoding_takes_the_nearest_steps(void **state) {
    (void)state;
    struct tl_rng rng = {17};
    for (int round = 0; round < 400; round++) {
        float x[64];
        const float size = ldexpf(1, (int)rng_below(&rng, 40) - 24);
        for (int i = 0; i < 64; i++) {
            x[i] = rng_float(&rng) * size * (rng_below(&rng, 8) == 0 ? 0.0f : 1.0f);
        }
        check_encoding(TL_Q8_0, x, 64, -127, 127);
        check_encoding(TL_Q4_0, x, 64, -8, 7);
    }
}

/* Goal: what no scale can express is neither undefined nor hidden. */
static void encoding_survives_odd_values(void **state) {
    (void)state;
    static const tl_dtype types[] = {TL_Q8_0, TL_Q4_0};
    for (int t = 0; t < 2; t++) {
        uint8_t bytes[34];
        float x[32] = {0}, y[32];
        assert_true(tl_encode_row(types[t], x, bytes, 32));
        tl_decode_row(types[t], bytes, y, 32);
        for (int i = 0; i < 32; i++) {
            assert_true(y[i] == 0);
        }
        x[5] = 1e30f; /* far above what a half can scale: the largest there is */
        assert_true(tl_encode_row(types[t], x, bytes, 32));
        tl_decode_row(types[t], bytes, y, 32);
        assert_true(y[5] == 65504.0f * (types[t] == TL_Q8_0 ? 127 : 8) && y[6] == 0);
        x[5] = 1e-30f; /* far below */
        assert_true(tl_encode_row(types[t], x, bytes, 32));
        tl_decode_row(types[t], bytes, y, 32);
        assert_true(y[5] == 0);
        for (int k = 0; k < 2; k++) {
            x[5] = k == 0 ? NAN : -INFINITY;
            assert_true(tl_encode_row(types[t], x, bytes, 32));
            tl_decode_row(types[t], bytes, y, 32);
            assert_true(isnan(y[5]) && isnan(y[6]));
        }
    }
}

static double rmse(const float *a, const float *b, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sqrt(sum / (double)n);
}

/* Goal: our Q8_0 and Q4_0 of real-looking numbers are as near to them as ggml's; F16 and BF16,
 * where there is one right answer, are the same bytes. */
static void encodes_as_well_as_ggml(void **state) {
    (void)state;
    shared_or_skip();
    tl_bytes source = read_file(shared_path("quant-vectors/source.f32"));
    const uint64_t n = source.len / sizeof(float);
    const float *const x = (const float *)(const void *)source.data;
    static const tl_dtype types[] = {TL_F16, TL_BF16, TL_Q8_0, TL_Q4_0};
    for (int t = 0; t < 4; t++) {
        char path[128];
        snprintf(path, sizeof path, "quant-vectors/%s.quant.bin", tl_dtype_info(types[t])->name);
        tl_bytes theirs = read_file(shared_path(path));
        const size_t bytes = tl_row_bytes(types[t], n);
        assert_int_equal(theirs.len, bytes);
        uint8_t *const ours = test_malloc(bytes);
        float *const y = test_malloc(2 * n * sizeof *y);
        assert_true(tl_encode_row(types[t], x, ours, n));
        tl_decode_row(types[t], ours, y, n);
        tl_decode_row(types[t], theirs.data, y + n, n);
        if (tl_dtype_info(types[t])->block_elems == 1) {
            assert_memory_equal(ours, theirs.data, bytes);
        } else {
            assert_true(rmse(x, y, n) <= rmse(x, y + n, n));
        }
        test_free(ours);
        test_free(y);
        tl_bytes_free(&theirs);
    }
    tl_bytes_free(&source);
}

/* Goal: the numbers and sizes of the format, and names for all that we cannot read. */
static void formats_have_their_numbers_and_sizes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t type, elems, bytes;
    } table[] = {{"F32", 0, 1, 4},         {"F16", 1, 1, 2},       {"BF16", 30, 1, 2},
                 {"Q8_0", 8, 32, 34},      {"Q4_0", 2, 32, 18},    {"Q4_1", 3, 32, 20},
                 {"Q5_0", 6, 32, 22},      {"Q5_1", 7, 32, 24},    {"IQ4_NL", 20, 32, 18},
                 {"IQ4_XS", 23, 256, 136}, {"Q2_K", 10, 256, 84},  {"Q3_K", 11, 256, 110},
                 {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176}, {"Q6_K", 14, 256, 210}};
    uint32_t n_readable = 0;
    for (uint32_t type = 0; type < 100; type++) {
        tl_dtype dtype;
        n_readable += tl_dtype_from_gguf(type, &dtype);
    }
    assert_int_equal(n_readable, N_WEIGHT_TYPES);
    for (int i = 0; i < N_WEIGHT_TYPES; i++) {
        tl_dtype dtype;
        assert_true(tl_dtype_from_gguf(table[i].type, &dtype));
        assert_int_equal(dtype, weight_types[i]);
        const struct tl_dtype_info *const info = tl_dtype_info(dtype);
        assert_string_equal(info->name, table[i].name);
        assert_string_equal(tl_gguf_type_name(table[i].type), table[i].name);
        assert_int_equal(info->block_elems, table[i].elems);
        assert_int_equal(info->block_bytes, table[i].bytes);
        assert_int_equal(tl_row_bytes(dtype, 512), 512 / table[i].elems * table[i].bytes);
    }
    assert_string_equal(tl_gguf_type_name(16), "IQ2_XXS");
    assert_string_equal(tl_gguf_type_name(29), "IQ1_M");
    assert_string_equal(tl_gguf_type_name(39), "MXFP4");
    assert_string_equal(tl_gguf_type_name(99), "unknown");
    assert_string_equal(tl_gguf_type_name(UINT32_MAX), "unknown");
    float x[32] = {0};
    uint8_t bytes[256];
    assert_false(tl_encode_row(TL_Q4_1, x, bytes, 32));
    assert_false(tl_encode_row(TL_I32, x, bytes, 32));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_as_gguf_py),
        cmocka_unit_test(decodes_shared_vectors),
        cmocka_unit_test(decodes_blocks_worked_by_hand),
        cmocka_unit_test(sixteen_bit_codes_mean_their_fields),
        cmocka_unit_test(sixteen_bit_rounding_is_to_nearest_even),
        cmocka_unit_test(encoding_takes_the_nearest_steps),
        cmocka_unit_test(encoding_survives_odd_values),
        cmocka_unit_test(encodes_as_well_as_ggml),
        cmocka_unit_test(formats_have_their_numbers_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
