/* The compressed cache rows: the only place that reads and writes the blocks drawn in codec.h in
 * plain C. Every other decoder and encoder (x86, CUDA, shaders) is tested against this one.
 *
 * Invariant: a decoded value is minimum + scale * code rounded once, because the product of a
 * binary16 and at most eight bits is exact in float. Encoding is float arithmetic in the order
 * written here (a subtraction, a division, a rounding to the nearest even), so that any machine can
 * give the same bytes. The scale is never negative, and finite: a range that one step of a binary16
 * cannot span (1 bit: from 65504 on) saturates. Blocks are bytes and may start at any address. */
#include "codec.h"

#include <math.h>
#include <string.h>

enum {
    VALUE_GROUP_MAX = 64,
    HEADER_BYTES = 4, /* of a group: scale, minimum */
    CHANNELS = 64,    /* of keys, encoded side by side */
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
    uint32_t group = head_dim < VALUE_GROUP_MAX ? head_dim : VALUE_GROUP_MAX;
    while (head_dim % group != 0) {
        group--;
    }
    return group;
}

uint64_t tl_codec_key_bytes(tl_codec codec, uint32_t head_dim) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(head_dim % 8 == 0);
    return l.bits == 0 ? 0 : bytes_of(&l);
}

uint64_t tl_codec_value_bytes(tl_codec codec, uint32_t head_dim) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(head_dim % 8 == 0);
    return l.bits == 0 ? 0 : bytes_of(&l);
}

static float load_half(const uint8_t *p) {
    return tl_f16_to_f32((uint16_t)((unsigned)p[0] | (unsigned)p[1] << 8));
}

/* Stores the nearest binary16 and returns what it is. */
static float store_half(uint8_t *p, float value) {
    const uint16_t half = tl_f32_to_f16(value);
    p[0] = (uint8_t)(half & 0xffu);
    p[1] = (uint8_t)(half >> 8);
    return tl_f16_to_f32(half);
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

static struct group store_header(uint32_t bits, float low, float high, uint8_t *header) {
    const float levels = (float)((1u << bits) - 1);
    const float minimum = store_half(header + 2, low);
    const float range = high > low && high > minimum ? high - minimum : 0.0f;
    const float wanted = range / levels;
    const float scale = store_half(header, wanted < f16_most ? wanted : f16_most);
    return (struct group){minimum, scale > 0.0f ? scale : INFINITY};
}

/* To the nearest code, ties to the even one: that is what adding 2^23 rounds to. */
static uint32_t code_of(float value, struct group g, float levels) {
    float steps = (clean(value) - g.minimum) / g.divisor;
    steps = steps > 0.0f ? steps : 0.0f;
    steps = steps < levels ? steps : levels;
    return (uint32_t)(int32_t)((steps + 0x1p23f) - 0x1p23f);
}

/* Up to CHANNELS channels; rows are `step` floats apart, runs one behind the other. */
static void encode_channels(uint32_t bits, const float *rows, uint32_t step, uint32_t n,
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
        groups[c] = store_header(bits, low[c], high[c], headers + (uint64_t)c * HEADER_BYTES);
    }
    for (uint32_t at = 0; at < run_bytes; at++) {
        uint32_t bytes[CHANNELS] = {0};
        for (uint32_t i = 0; i < byte_codes; i++) {
            const float *const row = rows + (uint64_t)(at * byte_codes + i) * step;
            for (uint32_t c = 0; c < n; c++) {
                bytes[c] |= code_of(row[c], groups[c], levels) << i * bits;
            }
        }
        for (uint32_t c = 0; c < n; c++) {
            runs[(uint64_t)c * run_bytes + at] = (uint8_t)bytes[c];
        }
    }
}

/* A row; its codes are `run`. */
static void encode_row(uint32_t bits, const float *row, uint32_t n, uint32_t group_codes,
                       uint8_t *headers, uint8_t *run) {
    const float levels = (float)((1u << bits) - 1);
    memset(run, 0, (size_t)n * bits / 8);
    for (uint32_t first = 0; first < n; first += group_codes, headers += HEADER_BYTES) {
        float low = clean(row[first]), high = low;
        for (uint32_t c = 1; c < group_codes; c++) {
            const float value = clean(row[first + c]);
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        const struct group g = store_header(bits, low, high, headers);
        uint32_t codes[VALUE_GROUP_MAX];
        for (uint32_t c = 0; c < group_codes; c++) {
            codes[c] = code_of(row[first + c], g, levels);
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

void tl_codec_encode_keys(tl_codec codec, const float *rows, uint32_t head_dim, void *block) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    uint8_t *const headers = block, *const runs = headers + (uint64_t)head_dim * HEADER_BYTES;
    for (uint32_t c = 0; c < head_dim; c += CHANNELS) {
        const uint32_t n = head_dim - c < CHANNELS ? head_dim - c : CHANNELS;
        encode_channels(l.bits, rows + c, head_dim, n, headers + (uint64_t)c * HEADER_BYTES,
                        runs + (uint64_t)c * (TL_BLOCK / 8 * l.bits));
    }
}

void tl_codec_decode_keys(tl_codec codec, const void *block, uint32_t head_dim, float *rows) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    decode(&l, block, rows, 1, head_dim);
}

void tl_codec_encode_values(tl_codec codec, const float *rows, uint32_t head_dim, void *block) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    const uint64_t row_headers = (uint64_t)l.run_groups * HEADER_BYTES;
    uint8_t *const headers = block, *const runs = headers + TL_BLOCK * row_headers;
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        encode_row(l.bits, rows + (uint64_t)t * head_dim, head_dim, head_dim / l.run_groups,
                   headers + t * row_headers, runs + (uint64_t)t * (head_dim / 8 * l.bits));
    }
}

void tl_codec_decode_values(tl_codec codec, const void *block, uint32_t head_dim, float *rows) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    decode(&l, block, rows, head_dim, 1);
}
