/* The compressed rows' format (core/codec.h) against blocks worked out by hand from its drawing,
 * and against the error it promises: half a step and the rounding of scale and minimum. */
#include "core/codec.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_DIM_MAX = 512 };
static const tl_codec codecs[] = {TL_CODEC_Q8, TL_CODEC_INT4, TL_CODEC_INT2, TL_CODEC_INT1};
static const uint32_t head_dims[] = {8, 16, 24, 40, 48, 64, 72, 80, 96, 112, 128, 136, 256, 512};
enum { N_CODECS = 4, N_HEAD_DIMS = sizeof head_dims / sizeof head_dims[0] };

/* Too large for the stack of a thread; written by one test at a time. */
struct work {
    float rows[TL_BLOCK * HEAD_DIM_MAX], back[TL_BLOCK * HEAD_DIM_MAX];
    uint8_t block[4 * TL_BLOCK * HEAD_DIM_MAX];
};

static int open_work(void **state) {
    *state = test_calloc(1, sizeof(struct work));
    return 0;
}

static int close_work(void **state) {
    test_free(*state);
    return 0;
}

static uint16_t half_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* Goal: sizes follow from the drawing alone. */
static void sizes(void **state) {
    (void)state;
    static const struct {
        uint32_t head_dim, group;
    } groups[] = {{8, 8},    {48, 48},  {64, 64},  {72, 36},  {80, 40},  {88, 44}, {96, 48},
                  {112, 56}, {128, 64}, {136, 34}, {192, 64}, {256, 64}, {512, 64}};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        const uint32_t d = groups[i].head_dim, g = groups[i].group;
        assert_int_equal(tl_codec_value_group(d), g);
        for (uint32_t c = 0; c < N_CODECS; c++) {
            const uint32_t bits = tl_codec_bits(codecs[c]);
            assert_int_equal(tl_codec_key_bytes(codecs[c], d), d * 4 + d * 64 * bits / 8);
            assert_int_equal(tl_codec_value_bytes(codecs[c], d), 64 * (d / g * 4 + d * bits / 8));
            assert_int_equal(tl_codec_key_bytes(codecs[c], d) % 4, 0);
            assert_int_equal(tl_codec_value_bytes(codecs[c], d) % 4, 0);
        }
    }
    assert_int_equal(tl_codec_bits(TL_CODEC_Q8), 8);
    assert_int_equal(tl_codec_bits(TL_CODEC_INT4), 4);
    assert_int_equal(tl_codec_bits(TL_CODEC_INT2), 2);
    assert_int_equal(tl_codec_bits(TL_CODEC_INT1), 1);
    assert_int_equal(tl_codec_bits(TL_CODEC_NONE), 0);
    assert_int_equal(tl_codec_key_bytes(TL_CODEC_NONE, 64), 0);
    assert_int_equal(tl_codec_value_bytes(TL_CODEC_NONE, 64), 0);
}

/* Goal: the bytes of a key block. Method: 8 channels by hand. Channel 0 counts 0 .. 3 again and
 * again, channel 1 is constant, channel 2 is -1 and 1 in turn, the others are 0. */
static void keys_by_hand(void **state) {
    struct work *const w = *state;
    memset(w->rows, 0, sizeof w->rows);
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        w->rows[t * 8] = (float)(t % 4);
        w->rows[t * 8 + 1] = 5.0f;
        w->rows[t * 8 + 2] = t % 2 == 0 ? -1.0f : 1.0f;
    }
    memset(w->block, 0xee, sizeof w->block);
    tl_codec_encode_keys(TL_CODEC_INT2, TL_FIT_RANGE, w->rows, 8, w->block);
    assert_int_equal(half_at(w->block), 0x3c00);     /* step 1 */
    assert_int_equal(half_at(w->block + 2), 0);      /* from 0 */
    assert_int_equal(half_at(w->block + 4), 0);      /* constant */
    assert_int_equal(half_at(w->block + 6), 0x4500); /* 5 */
    assert_int_equal(half_at(w->block + 8), 0x3955); /* 2/3 = 0.66650390625 */
    assert_int_equal(half_at(w->block + 10), 0xbc00);
    const uint8_t *const codes = w->block + 8 * 4;
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(codes[i], 0xe4);      /* 3 2 1 0 from the highest bits */
        assert_int_equal(codes[16 + i], 0);    /* scale 0: code 0 */
        assert_int_equal(codes[32 + i], 0xcc); /* 3 0 3 0 */
    }
    assert_int_equal(w->block[tl_codec_key_bytes(TL_CODEC_INT2, 8)], 0xee);
    tl_codec_encode_keys(TL_CODEC_INT1, TL_FIT_RANGE, w->rows, 8, w->block);
    assert_int_equal(half_at(w->block), 0x4200); /* step 3 */
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(w->block[32 + i], 0xcc);      /* 0 1 2 3: nearest of 0 and 3 */
        assert_int_equal(w->block[32 + 16 + i], 0xaa); /* -1 1 -1 1 */
    }
}

/* Goal: the bytes of a value block with two groups. Method: 80 channels are groups of 40; row t
 * holds t + channel % 40 in the first, minus that in the second. */
static void values_by_hand(void **state) {
    struct work *const w = *state;
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        for (uint32_t c = 0; c < 80; c++) {
            w->rows[t * 80 + c] = (float)(t + c % 40) * (c < 40 ? 1.0f : -1.0f);
        }
    }
    tl_codec_encode_values(TL_CODEC_Q8, TL_FIT_RANGE, w->rows, 80, w->block);
    const uint8_t *const codes = w->block + TL_BLOCK * 2 * 4;
    const float scale = tl_f16_to_f32(tl_f32_to_f16(39.0f / 255.0f));
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        const uint8_t *const header = w->block + t * 8;
        assert_int_equal(half_at(header), tl_f32_to_f16(39.0f / 255.0f));
        assert_int_equal(half_at(header + 2), tl_f32_to_f16((float)t));
        assert_int_equal(half_at(header + 4), tl_f32_to_f16(39.0f / 255.0f));
        assert_int_equal(half_at(header + 6), tl_f32_to_f16(-(float)(t + 39)));
        for (uint32_t c = 0; c < 80; c++) {
            const double steps = (c < 40 ? c % 40 : 39 - c % 40) / (double)scale;
            assert_int_equal(codes[t * 80 + c], (int)fmin(255.0, rint(steps)));
        }
    }
}

/* Goal: decoding reads every code where the drawing puts it. Method: blocks of random codes, each
 * taken out bit by bit. */
static void decodes_random_codes(void **state) {
    struct work *const w = *state;
    struct tl_rng rng = {11};
    for (uint32_t i = 0; i < N_CODECS * N_HEAD_DIMS; i++) {
        const uint32_t d = head_dims[i / N_CODECS], bits = tl_codec_bits(codecs[i % N_CODECS]);
        const uint32_t group = tl_codec_value_group(d), n_groups = d / group;
        const uint64_t key_bytes = tl_codec_key_bytes(codecs[i % N_CODECS], d);
        const uint64_t value_bytes = tl_codec_value_bytes(codecs[i % N_CODECS], d);
        for (uint32_t pass = 0; pass < 2; pass++) {
            const bool keys = pass == 0;
            const uint64_t n_headers = keys ? d : TL_BLOCK * n_groups;
            for (uint64_t at = 0; at < (keys ? key_bytes : value_bytes); at++) {
                w->block[at] = (uint8_t)rng_next(&rng);
            }
            for (uint64_t at = 0; at < 2 * n_headers; at++) { /* finite halves */
                w->block[2 * at + 1] &= 0xbb;
            }
            if (keys) {
                tl_codec_decode_keys(codecs[i % N_CODECS], w->block, d, w->back);
            } else {
                tl_codec_decode_values(codecs[i % N_CODECS], w->block, d, w->back);
            }
            for (uint32_t e = 0; e < TL_BLOCK * d; e++) {
                const uint32_t t = e / d, c = e % d;
                const uint64_t header = keys ? c : t * n_groups + c / group;
                const uint64_t code_at = keys ? (uint64_t)c * TL_BLOCK + t : (uint64_t)t * d + c;
                uint32_t code = 0;
                for (uint32_t b = 0; b < bits; b++) {
                    const uint64_t bit = code_at * bits + b;
                    code |= (w->block[n_headers * 4 + bit / 8] >> bit % 8 & 1u) << b;
                }
                const double scale = (double)tl_f16_to_f32(half_at(w->block + header * 4));
                const double minimum = (double)tl_f16_to_f32(half_at(w->block + header * 4 + 2));
                assert_true(w->back[e] == (float)(minimum + scale * code));
            }
        }
    }
}

/* What a value of a group may be off by: half a step, the rounding of the minimum, and that of the
 * scale, which counts once for every step up to the value. */
static double bound_of(uint32_t bits, double low, double high) {
    const double levels = (double)((1u << bits) - 1), range = high - low;
    const double of_low = fmax(fabs(low) * 0x1p-11, 0x1p-25);
    const double of_scale = fmax(range / levels * 0x1p-11, 0x1p-25);
    return 0.5 * (range + of_low) / levels + 2 * of_low + levels * of_scale * 1.01;
}

static double noise(struct tl_rng *rng, uint32_t kind) {
    const double x = (double)rng_float(rng);
    switch (kind) {
    case 0:
        return x;
    case 1:
        return 1e-6 * x; /* scales below the normal halves */
    case 2:
        return 1000.0 + x; /* a minimum far from 0 */
    case 3:
        return 3e4 * x;
    default: /* a few large ones */
        return rng_below(rng, 16) == 0 ? 50.0 * x : 0.1 * x;
    }
}

/* Goal: encoding then decoding is off by at most the bound, for every codec and head size. */
static void comes_back(void **state) {
    struct work *const w = *state;
    struct tl_rng rng = {7};
    for (uint32_t i = 0; i < N_CODECS * N_HEAD_DIMS * 5; i++) {
        const tl_codec codec = codecs[i % N_CODECS];
        const uint32_t d = head_dims[i / N_CODECS % N_HEAD_DIMS], bits = tl_codec_bits(codec);
        const uint32_t group = tl_codec_value_group(d);
        for (uint32_t e = 0; e < TL_BLOCK * d; e++) {
            w->rows[e] = (float)noise(&rng, i / (N_CODECS * N_HEAD_DIMS));
        }
        for (uint32_t pass = 0; pass < 2; pass++) {
            if (pass == 0) {
                tl_codec_encode_keys(codec, TL_FIT_RANGE, w->rows, d, w->block);
                tl_codec_decode_keys(codec, w->block, d, w->back);
            } else {
                tl_codec_encode_values(codec, TL_FIT_RANGE, w->rows, d, w->block);
                tl_codec_decode_values(codec, w->block, d, w->back);
            }
            for (uint32_t e = 0; e < TL_BLOCK * d; e++) {
                const uint32_t n = pass == 0 ? TL_BLOCK : group, step = pass == 0 ? d : 1;
                const uint32_t first = pass == 0 ? e % d : e - e % d % group;
                double low = HUGE_VAL, high = -HUGE_VAL;
                for (uint32_t j = 0; j < n; j++) {
                    low = fmin(low, (double)w->rows[first + j * step]);
                    high = fmax(high, (double)w->rows[first + j * step]);
                }
                const double off = fabs((double)w->back[e] - (double)w->rows[e]);
                if (!(off <= bound_of(bits, low, high))) {
                    fail_msg("%u bits, head %u, pass %u: %g came back as %g, bound %g", bits, d,
                             pass, (double)w->rows[e], (double)w->back[e],
                             bound_of(bits, low, high));
                }
            }
        }
    }
}

/* Goal: the line of least squares. Method: by hand, one bit: of -3 -1 1 3 again and again, the
 * codes 0 0 1 1 stand for -2 and 2; of 32 zeros, 31 ones and a ten, only the ten has code 1, and
 * the rest their mean, 31/63. As values the first run's scale is 25/16 of that, about the mean 0.
 */
static void squares_by_hand(void **state) {
    struct work *const w = *state;
    memset(w->rows, 0, sizeof w->rows);
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        w->rows[t * 8] = (float)(t % 4 * 2) - 3.0f;
        w->rows[t * 8 + 1] = t == 5 ? 10.0f : t % 2 == 0 ? 1.0f : 0.0f;
        w->rows[t * 8 + 2] = 7.0f;
    }
    w->rows[0 * 8 + 1] = 0.0f;
    tl_codec_encode_keys(TL_CODEC_INT1, TL_FIT_SQUARES, w->rows, 8, w->block);
    assert_int_equal(half_at(w->block), 0x4400);     /* 4 */
    assert_int_equal(half_at(w->block + 2), 0xc000); /* -2 */
    assert_int_equal(half_at(w->block + 4), tl_f32_to_f16(10.0f - 31.0f / 63.0f));
    assert_int_equal(half_at(w->block + 6), tl_f32_to_f16(31.0f / 63.0f));
    assert_int_equal(half_at(w->block + 8), 0); /* constant */
    assert_int_equal(half_at(w->block + 10), 0x4700);
    assert_int_equal(w->block[32], 0xcc);
    assert_int_equal(w->block[32 + 8], 1 << 5);
    assert_int_equal(w->block[32 + 9], 0);
    for (uint32_t c = 0; c < 64; c++) {
        w->rows[c] = (float)(c % 4 * 2) - 3.0f;
    }
    tl_codec_encode_values(TL_CODEC_INT1, TL_FIT_SQUARES, w->rows, 64, w->block);
    assert_int_equal(half_at(w->block), tl_f32_to_f16(6.25f));
    assert_int_equal(half_at(w->block + 2), tl_f32_to_f16(-3.125f));
    assert_int_equal(w->block[TL_BLOCK * 4], 0xcc);
}

/* Sum of squared errors of keys or values. */
static double squares_of(struct work *w, tl_codec codec, tl_fit fit, uint32_t d, bool keys) {
    if (keys) {
        tl_codec_encode_keys(codec, fit, w->rows, d, w->block);
        tl_codec_decode_keys(codec, w->block, d, w->back);
    } else {
        tl_codec_encode_values(codec, fit, w->rows, d, w->block);
        tl_codec_decode_values(codec, w->block, d, w->back);
    }
    double squares = 0.0;
    for (uint32_t e = 0; e < TL_BLOCK * d; e++) {
        squares += pow((double)w->back[e] - (double)w->rows[e], 2.0);
    }
    return squares;
}

/* Normal numbers, nearly: twelve uniform ones each. Returns the sum of their squares. */
static double draw_rows(struct work *w, uint32_t d, struct tl_rng *rng) {
    double variance = 0.0;
    for (uint32_t e = 0; e < TL_BLOCK * d; e++) {
        float x = 0.0f;
        for (uint32_t j = 0; j < 12; j++) {
            x += rng_float(rng);
        }
        w->rows[e] = 0.5f * x;
        variance += (double)(w->rows[e] * w->rows[e]);
    }
    return variance;
}

/* Goal: least squares never leave more than the range does (but for the rounding of halves), and
 * with one bit a seventh of it for normal numbers, as codec.h says. Values of 1 and 2 bits are
 * drawn out on top, which in small groups may leave more; with one bit 0.57 times the variance. */
static void squares_are_less(void **state) {
    struct work *const w = *state;
    struct tl_rng rng = {5};
    for (uint32_t i = 0; i < N_CODECS * N_HEAD_DIMS * 2; i++) {
        const tl_codec codec = codecs[i % N_CODECS];
        const uint32_t d = head_dims[i / N_CODECS % N_HEAD_DIMS];
        const bool keys = i < N_CODECS * N_HEAD_DIMS;
        const double variance = draw_rows(w, d, &rng);
        const double of_range = squares_of(w, codec, TL_FIT_RANGE, d, keys);
        const double of_squares = squares_of(w, codec, TL_FIT_SQUARES, d, keys);
        assert_true(of_squares <= 1.001 * of_range || (!keys && d < 48));
        if (codec == TL_CODEC_INT1 && (keys || d >= 48)) {
            assert_true(of_range > 1.8 * variance);
            assert_true(of_squares < (keys ? 0.4 : 0.62) * variance);
        }
    }
}

/* Goal: sums of many values keep their size, as codec.h says. Method: the part of themselves that
 * normal numbers come back as, beside what the same steps leave of 4000 groups of 64 in numpy
 * (keys: 0.653 0.913 0.994, values: 0.999 0.987 0.994). */
static void values_keep_their_size(void **state) {
    static const tl_codec coarse[] = {TL_CODEC_INT1, TL_CODEC_INT2, TL_CODEC_INT4};
    static const double kept[] = {0.653, 0.913, 0.994, 0.999, 0.987, 0.994};
    struct work *const w = *state;
    struct tl_rng rng = {6};
    for (uint32_t i = 0; i < 6; i++) {
        const bool keys = i < 3;
        double together = 0.0;
        const double variance = draw_rows(w, 128, &rng);
        squares_of(w, coarse[i % 3], TL_FIT_SQUARES, 128, keys);
        for (uint32_t e = 0; e < TL_BLOCK * 128; e++) {
            together += (double)w->back[e] * (double)w->rows[e];
        }
        assert_true(fabs(together / variance - kept[i]) < 0.01);
    }
}

/* Goal: a constant group comes back as the binary16 of its value, with scale 0. */
static void constant_groups(void **state) {
    struct work *const w = *state;
    static const float values[] = {0.0f, 1.0f, -3.5f, 0.1f, 65504.0f, -1e-7f};
    for (uint32_t i = 0; i < 6 * N_CODECS; i++) {
        const tl_codec codec = codecs[i % N_CODECS];
        const float value = values[i / N_CODECS];
        for (uint32_t e = 0; e < TL_BLOCK * 96; e++) {
            w->rows[e] = value;
        }
        tl_codec_encode_keys(codec, TL_FIT_RANGE, w->rows, 96, w->block);
        assert_int_equal(half_at(w->block), 0);
        tl_codec_decode_keys(codec, w->block, 96, w->back);
        for (uint32_t e = 0; e < TL_BLOCK * 96; e++) {
            assert_true(w->back[e] == tl_f16_to_f32(tl_f32_to_f16(value)));
        }
        tl_codec_encode_values(codec, TL_FIT_RANGE, w->rows, 96, w->block);
        assert_int_equal(half_at(w->block), 0);
        tl_codec_decode_values(codec, w->block, 96, w->back);
        for (uint32_t e = 0; e < TL_BLOCK * 96; e++) {
            assert_true(w->back[e] == tl_f16_to_f32(tl_f32_to_f16(value)));
        }
    }
}

/* Goal: values at the ends of a binary16 stay finite where their scale is drawn out. */
static void largest_values(void **state) {
    struct work *const w = *state;
    for (uint32_t i = 0; i < N_CODECS; i++) {
        for (uint32_t e = 0; e < TL_BLOCK * 64; e++) {
            w->rows[e] = (e % 3 == 0 ? 65504.0f : 50000.0f) * (e % 2 == 0 ? 1.0f : -1.0f);
        }
        tl_codec_encode_values(codecs[i], TL_FIT_SQUARES, w->rows, 64, w->block);
        tl_codec_decode_values(codecs[i], w->block, 64, w->back);
        for (uint32_t e = 0; e < TL_BLOCK * 64; e++) {
            assert_true(isfinite(w->back[e]));
        }
    }
}

/* Goal: infinities, NaNs and numbers beyond a binary16 do no harm. Method: one of each among
 * zeros; what comes back is finite, and what a step can reach is right. */
static void damaged_rows(void **state) {
    struct work *const w = *state;
    for (uint32_t i = 0; i < N_CODECS; i++) {
        memset(w->rows, 0, sizeof w->rows);
        w->rows[0] = NAN;       /* channel 0: all zeros then */
        w->rows[1] = INFINITY;  /* channel 1: 0 .. 65504 */
        w->rows[2] = -INFINITY; /* channel 2: -65504 .. 0 */
        w->rows[3] = 1e30f;     /* as an infinity */
        w->rows[4] = INFINITY;  /* channel 4: the whole range, which may saturate */
        w->rows[64 + 4] = -INFINITY;
        tl_codec_encode_keys(codecs[i], TL_FIT_RANGE, w->rows, 64, w->block);
        tl_codec_decode_keys(codecs[i], w->block, 64, w->back);
        for (uint32_t e = 0; e < TL_BLOCK * 64; e++) {
            assert_true(isfinite(w->back[e]));
        }
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            assert_true(w->back[t * 64] == 0.0f);
        }
        assert_true(fabsf(w->back[1] - 65504.0f) <= 65504.0f * 0x1p-10f);
        assert_true(w->back[64 + 1] == 0.0f);
        assert_true(w->back[2] == -65504.0f);
        assert_true(fabsf(w->back[64 + 2]) <= 65504.0f * 0x1p-10f);
        assert_true(w->back[3] == w->back[1]);
        assert_true(w->back[64 + 4] == -65504.0f);
        if (tl_codec_bits(codecs[i]) > 1) {
            assert_true(fabsf(w->back[4] - 65504.0f) <= 2 * 65504.0f * 0x1p-10f);
        }
        tl_codec_encode_values(codecs[i], TL_FIT_RANGE, w->rows, 64, w->block);
        tl_codec_decode_values(codecs[i], w->block, 64, w->back);
        for (uint32_t e = 0; e < TL_BLOCK * 64; e++) {
            assert_true(isfinite(w->back[e]));
        }
        for (uint32_t e = 2 * 64; e < TL_BLOCK * 64; e++) {
            assert_true(w->back[e] == 0.0f);
        }
    }
}

/* Goal: what was decoded encodes to itself where halves hold the numbers exactly, so copies of
 * copies do not drift. Method: random codes under scales that are powers of two. */
static void decoding_then_encoding(void **state) {
    struct work *const w = *state;
    uint8_t *const again = w->block + sizeof w->block / 2;
    struct tl_rng rng = {3};
    for (uint32_t i = 0; i < N_CODECS * 3; i++) {
        static const uint32_t dims[] = {48, 80, 128};
        const tl_codec codec = codecs[i % N_CODECS];
        const uint32_t d = dims[i / N_CODECS], levels = (1u << tl_codec_bits(codec)) - 1;
        for (uint32_t e = 0; e < TL_BLOCK * d; e++) {
            /* Every key channel and every value group holds the least and the greatest code. */
            const uint32_t t = e / d, c = e % d % tl_codec_value_group(d);
            const bool least = t < 2 ? (c + t) % 2 == 0 : c == t % 2;
            const bool most = t < 2 ? (c + t) % 2 == 1 : c == 2 + t % 2;
            const uint32_t code = least ? 0 : most ? levels : (uint32_t)rng_below(&rng, levels + 1);
            w->rows[e] = (float)code * 0.25f - 2.0f;
        }
        tl_codec_encode_keys(codec, TL_FIT_RANGE, w->rows, d, w->block);
        tl_codec_decode_keys(codec, w->block, d, w->back);
        assert_memory_equal(w->back, w->rows, TL_BLOCK * d * sizeof(float));
        tl_codec_encode_keys(codec, TL_FIT_RANGE, w->back, d, again);
        assert_memory_equal(again, w->block, tl_codec_key_bytes(codec, d));
        tl_codec_encode_values(codec, TL_FIT_RANGE, w->rows, d, w->block);
        tl_codec_decode_values(codec, w->block, d, w->back);
        assert_memory_equal(w->back, w->rows, TL_BLOCK * d * sizeof(float));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test_setup_teardown(keys_by_hand, open_work, close_work),
        cmocka_unit_test_setup_teardown(values_by_hand, open_work, close_work),
        cmocka_unit_test_setup_teardown(decodes_random_codes, open_work, close_work),
        cmocka_unit_test_setup_teardown(comes_back, open_work, close_work),
        cmocka_unit_test_setup_teardown(squares_by_hand, open_work, close_work),
        cmocka_unit_test_setup_teardown(squares_are_less, open_work, close_work),
        cmocka_unit_test_setup_teardown(values_keep_their_size, open_work, close_work),
        cmocka_unit_test_setup_teardown(constant_groups, open_work, close_work),
        cmocka_unit_test_setup_teardown(largest_values, open_work, close_work),
        cmocka_unit_test_setup_teardown(damaged_rows, open_work, close_work),
        cmocka_unit_test_setup_teardown(decoding_then_encoding, open_work, close_work),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
