/* The compressed cache rows: the only place that reads and writes the blocks drawn in codec.h in
 * plain C. Every other decoder and encoder (x86, CUDA, shaders) is tested against this one.
 *
 * Invariant: a decoded value is minimum + scale * code rounded once, because the product of a
 * binary16 and at most eight bits is exact in float. Encoding is arithmetic in the order written
 * here, without contraction, so that any machine can give the same bytes. The scale is never
 * negative, and finite: a range that one step of a binary16 cannot span (1 bit: from 65504 on)
 * saturates. Blocks are bytes and may start at any address. */
#include "codec.h"

#include "vq.h"

#include <math.h>
#include <string.h>

enum {
    GROUP_MAX = 64,
    HEADER_BYTES = 4, /* of a group: scale, minimum */
    CHANNELS = 64,    /* of keys, encoded side by side */
    FIT_ROUNDS = 3,   /* one leaves 3% more error with 1 bit and 20% with 2, eight 1% and 4% less */
    F16_INFINITY = 0x7c00,
};

static const float f16_most = 65504.0f;

/* A block is the headers of all groups, run by run, and then the runs of codes. */
struct layout {
    uint32_t bits;
    uint32_t run_codes;  /* codes of a run: rows of a key channel, channels of a value row */
    uint32_t run_groups; /* groups of a run */
    uint32_t n_runs;
};

static struct layout key_layout(tl_codec codec, uint32_t head_dim) {
    return (struct layout){tl_codec_bits(codec), TL_BLOCK, 1, head_dim};
}

static struct layout value_layout(tl_codec codec, uint32_t head_dim) {
    const uint32_t n_groups = head_dim / tl_codec_value_group(head_dim);
    return (struct layout){tl_codec_bits(codec), head_dim, n_groups, TL_BLOCK};
}

static uint64_t bytes_of(const struct layout *l) {
    const uint64_t run_bytes = (uint64_t)l->run_codes * l->bits / 8;
    return (uint64_t)l->n_runs * (l->run_groups * HEADER_BYTES + run_bytes);
}

uint32_t tl_codec_bits(tl_codec codec) {
    static const uint32_t bits[TL_CODEC_COUNT] = {
        [TL_CODEC_Q8] = 8, [TL_CODEC_INT4] = 4, [TL_CODEC_INT2] = 2, [TL_CODEC_INT1] = 1};
    TL_ASSERT((unsigned)codec < TL_CODEC_COUNT);
    return bits[codec];
}

uint32_t tl_codec_value_group(uint32_t head_dim) {
    TL_ASSERT(head_dim > 0);
    uint32_t group = head_dim < GROUP_MAX ? head_dim : GROUP_MAX;
    while (head_dim % group != 0) {
        group--;
    }
    return group;
}

bool tl_codec_fits(uint32_t head_dim) { return head_dim % 8 == 0; }

uint64_t tl_codec_key_bytes(tl_codec codec, uint32_t head_dim) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(tl_codec_fits(head_dim));
    if (tl_vq_is(codec)) {
        return tl_vq_block_bytes(codec, head_dim);
    }
    return l.bits == 0 ? 0 : bytes_of(&l);
}

uint64_t tl_codec_value_bytes(tl_codec codec, uint32_t head_dim) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(tl_codec_fits(head_dim));
    if (tl_vq_is(codec)) {
        return tl_vq_block_bytes(codec, head_dim);
    }
    return l.bits == 0 ? 0 : bytes_of(&l);
}

static float load_half(const uint8_t *p) {
    return tl_f16_to_f32((uint16_t)((unsigned)p[0] | (unsigned)p[1] << 8));
}

/* Comparisons and not fminf, so that loops over channels become vectors. */
static float clean(float value) {
    value = value > f16_most ? f16_most : value;
    value = value < -f16_most ? -f16_most : value;
    return value == value ? value : 0.0f;
}

/* What codes are made with. A scale of 0 divides as infinity, which gives code 0. */
struct group {
    float minimum, divisor;
};

/* A clean number to the nearest code, ties to the even one: what adding 2^23 rounds to. */
static uint32_t code_of(float value, struct group g, float levels) {
    float steps = (value - g.minimum) / g.divisor;
    steps = steps > 0.0f ? steps : 0.0f;
    steps = steps < levels ? steps : levels;
    return (uint32_t)(int32_t)((steps + 0x1p23f) - 0x1p23f);
}

/* The nearest binary16, which is also left in *half. */
static float round_half(float value, uint16_t *half) {
    *half = tl_f32_to_f16(value);
    return tl_f16_to_f32(*half);
}

/* A group as its header holds it. */
struct header {
    uint16_t scale, minimum;
    struct group group;
};

static struct header new_header(float minimum, float scale) {
    struct header h;
    h.group.minimum = round_half(minimum, &h.minimum);
    const float rounded = round_half(scale < f16_most ? scale : f16_most, &h.scale);
    h.group.divisor = rounded > 0.0f ? rounded : INFINITY;
    return h;
}

/* By the range. */
static struct header header_of_range(float low, float high, float levels) {
    const struct header h = new_header(low, 0.0f);
    const float range = high > low && high > h.group.minimum ? high - h.group.minimum : 0.0f;
    return new_header(low, range / levels);
}

uint32_t tl_codec_stretch(tl_codec codec) {
    return codec == TL_CODEC_INT1 ? 25 : codec == TL_CODEC_INT2 ? 19 : 16;
}

/* The line through n clean numbers, which come to `total`, and their codes under h that leaves the
 * least squares, made steeper by `stretch` about their mean; h itself where there is none. In
 * double: of binary16 numbers every sum is exact. */
static struct header header_of_squares(struct header h, const float *values, uint32_t n,
                                       double total, float levels, double stretch) {
    uint32_t all[GROUP_MAX], codes = 0, squares = 0;
    double products[4] = {0.0}; /* four sums at a time; n is even, mostly a multiple of 4 */
    for (uint32_t i = 0; i < n; i++) {
        all[i] = code_of(values[i], h.group, levels);
        codes += all[i];
        squares += all[i] * all[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        products[i % 4] += (double)(int32_t)all[i] * (double)values[i];
    }
    const uint64_t spread = (uint64_t)n * squares - (uint64_t)codes * codes;
    if (spread == 0) {
        return h;
    }
    /* One operation a statement, for compilers that would contract two. */
    const double together = n * (products[0] + products[1] + products[2] + products[3]);
    const double apart = codes * total;
    const double slope = (together - apart) / (double)spread;
    const double scale = slope * stretch;
    const double of_codes = scale * codes;
    const double minimum = (total - of_codes) / n;
    const struct header better = new_header((float)minimum, (float)scale);
    const bool finite = better.scale < F16_INFINITY && (better.minimum & 0x7fffu) < F16_INFINITY;
    return better.scale > 0 && finite ? better
                                      : h; /* drawn out, the minimum may be beyond all numbers */
}

/* Of n numbers, `step` floats apart, from `low` to `high`. */
static struct group fit_group(uint32_t bits, tl_fit fit, double stretch, const float *values,
                              uint32_t step, uint32_t n, float low, float high, uint8_t *dst) {
    const float levels = (float)((1u << bits) - 1);
    struct header h = header_of_range(low, high, levels);
    if (fit == TL_FIT_SQUARES && h.scale != 0) {
        float clean_values[GROUP_MAX];
        double total = 0.0;
        for (uint32_t i = 0; i < n; i++) {
            clean_values[i] = clean(values[(uint64_t)i * step]);
            total += (double)clean_values[i];
        }
        for (uint32_t i = 0; i < FIT_ROUNDS; i++) {
            const double now = i + 1 == FIT_ROUNDS ? stretch : 1.0;
            h = header_of_squares(h, clean_values, n, total, levels, now);
        }
    }
    dst[0] = (uint8_t)(h.scale & 0xffu);
    dst[1] = (uint8_t)(h.scale >> 8);
    dst[2] = (uint8_t)(h.minimum & 0xffu);
    dst[3] = (uint8_t)(h.minimum >> 8);
    return h.group;
}

/* Up to CHANNELS channels; rows are `step` floats apart, runs one behind the other. */
static void encode_channels(uint32_t bits, tl_fit fit, const float *rows, uint32_t step, uint32_t n,
                            uint8_t *headers, uint8_t *runs) {
    const float levels = (float)((1u << bits) - 1);
    const uint32_t byte_codes = 8 / bits, run_bytes = TL_BLOCK / byte_codes;
    float low[CHANNELS], high[CHANNELS];
    struct group groups[CHANNELS];
    for (uint32_t c = 0; c < n; c++) {
        low[c] = high[c] = clean(rows[c]);
    }
    for (uint32_t t = 1; t < TL_BLOCK; t++) {
        const float *const row = rows + (uint64_t)t * step;
        for (uint32_t c = 0; c < n; c++) {
            const float value = clean(row[c]);
            low[c] = value < low[c] ? value : low[c];
            high[c] = value > high[c] ? value : high[c];
        }
    }
    for (uint32_t c = 0; c < n; c++) {
        groups[c] = fit_group(bits, fit, 1.0, rows + c, step, TL_BLOCK, low[c], high[c],
                              headers + (uint64_t)c * HEADER_BYTES);
    }
    for (uint32_t at = 0; at < run_bytes; at++) {
        uint32_t bytes[CHANNELS] = {0};
        for (uint32_t i = 0; i < byte_codes; i++) {
            const float *const row = rows + (uint64_t)(at * byte_codes + i) * step;
            for (uint32_t c = 0; c < n; c++) {
                bytes[c] |= code_of(clean(row[c]), groups[c], levels) << i * bits;
            }
        }
        for (uint32_t c = 0; c < n; c++) {
            runs[(uint64_t)c * run_bytes + at] = (uint8_t)bytes[c];
        }
    }
}

/* A row; its codes are `run`. */
static void encode_row(uint32_t bits, tl_fit fit, double stretch, const float *row, uint32_t n,
                       uint32_t group_codes, uint8_t *headers, uint8_t *run) {
    const float levels = (float)((1u << bits) - 1);
    memset(run, 0, (size_t)n * bits / 8);
    for (uint32_t first = 0; first < n; first += group_codes, headers += HEADER_BYTES) {
        float low = clean(row[first]), high = low;
        for (uint32_t c = 1; c < group_codes; c++) {
            const float value = clean(row[first + c]);
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        const struct group g =
            fit_group(bits, fit, stretch, row + first, 1, group_codes, low, high, headers);
        uint32_t codes[GROUP_MAX];
        for (uint32_t c = 0; c < group_codes; c++) {
            codes[c] = code_of(clean(row[first + c]), g, levels);
        }
        for (uint32_t c = 0; c < group_codes; c++) {
            const uint32_t bit = (first + c) * bits;
            run[bit / 8] = (uint8_t)(run[bit / 8] | codes[c] << bit % 8);
        }
    }
}

static void decode_group(uint32_t bits, const uint8_t *header, const uint8_t *run, uint32_t first,
                         float *values, uint32_t step, uint32_t n) {
    const float scale = load_half(header), minimum = load_half(header + 2);
    const uint32_t mask = (1u << bits) - 1;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t bit = (first + i) * bits;
        const uint32_t code = (uint32_t)run[bit / 8] >> bit % 8 & mask;
        values[(uint64_t)i * step] = minimum + scale * (float)code;
    }
}

static void decode(const struct layout *l, const uint8_t *block, float *values, uint32_t run_step,
                   uint32_t step) {
    const uint32_t n = l->run_codes / l->run_groups, run_bytes = l->run_codes * l->bits / 8;
    const uint8_t *const runs = block + (uint64_t)l->n_runs * l->run_groups * HEADER_BYTES;
    for (uint32_t r = 0; r < l->n_runs; r++) {
        for (uint32_t g = 0; g < l->run_groups; g++) {
            const uint8_t *const header = block + (uint64_t)(r * l->run_groups + g) * HEADER_BYTES;
            float *const to = values + (uint64_t)r * run_step + (uint64_t)g * n * step;
            decode_group(l->bits, header, runs + (uint64_t)r * run_bytes, g * n, to, step, n);
        }
    }
}

void tl_codec_encode_keys(tl_codec codec, tl_fit fit, const float *rows, uint32_t head_dim,
                          void *block) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    uint8_t *const headers = block, *const runs = headers + (uint64_t)head_dim * HEADER_BYTES;
    for (uint32_t c = 0; c < head_dim; c += CHANNELS) {
        const uint32_t n = head_dim - c < CHANNELS ? head_dim - c : CHANNELS;
        encode_channels(l.bits, fit, rows + c, head_dim, n, headers + (uint64_t)c * HEADER_BYTES,
                        runs + (uint64_t)c * (TL_BLOCK / 8 * l.bits));
    }
}

void tl_codec_decode_keys(tl_codec codec, const void *block, uint32_t head_dim, float *rows) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    decode(&l, block, rows, 1, head_dim);
}

void tl_codec_encode_values(tl_codec codec, tl_fit fit, const float *rows, uint32_t head_dim,
                            void *block) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    const uint64_t row_headers = (uint64_t)l.run_groups * HEADER_BYTES;
    const double stretch = tl_codec_stretch(codec) / 16.0;
    uint8_t *const headers = block, *const runs = headers + TL_BLOCK * row_headers;
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        encode_row(l.bits, fit, stretch, rows + (uint64_t)t * head_dim, head_dim,
                   head_dim / l.run_groups, headers + t * row_headers,
                   runs + (uint64_t)t * (head_dim / 8 * l.bits));
    }
}

void tl_codec_decode_values(tl_codec codec, const void *block, uint32_t head_dim, float *rows) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    decode(&l, block, rows, head_dim, 1);
}
