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

enum { VALUE_GROUP_MAX = 64, HEADER_BYTES = 4 /* of a group: scale, minimum */ };

static const float f16_most = 65504.0f;

/* Where the parts of a block are: `n_groups` headers, then `n_runs` runs of codes. Element `e` of
 * group `g` of values and keys alike is named by the run and the place in it. */
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

static float clean(float value) {
    return isnan(value) ? 0.0f : fminf(fmaxf(value, -f16_most), f16_most);
}

/* The codes of n values, `step` floats apart, from code `first` of the run on. */
static void encode_group(uint32_t bits, const float *values, uint32_t step, uint32_t n,
                         uint8_t *header, uint8_t *run, uint32_t first) {
    const float levels = (float)((1u << bits) - 1);
    float low = clean(values[0]), high = low;
    for (uint32_t i = 1; i < n; i++) {
        const float value = clean(values[(uint64_t)i * step]);
        low = fminf(low, value);
        high = fmaxf(high, value);
    }
    const float minimum = store_half(header + 2, low);
    const float range = high > low ? fmaxf(high - minimum, 0.0f) : 0.0f;
    const float scale = store_half(header, fminf(range / levels, f16_most));
    for (uint32_t i = 0; i < n && scale > 0.0f; i++) {
        const float steps = rintf((clean(values[(uint64_t)i * step]) - minimum) / scale);
        const uint32_t code = (uint32_t)fminf(fmaxf(steps, 0.0f), levels);
        const uint32_t bit = (first + i) * bits;
        run[bit / 8] = (uint8_t)(run[bit / 8] | code << bit % 8);
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

/* Value e of run r stands at values[r * run_step + e * step]. */
static void encode(const struct layout *l, const float *values, uint32_t run_step, uint32_t step,
                   uint8_t *block) {
    const uint32_t n = l->run_codes / l->run_groups, run_bytes = l->run_codes * l->bits / 8;
    uint8_t *const runs = block + (uint64_t)l->n_runs * l->run_groups * HEADER_BYTES;
    memset(runs, 0, (size_t)l->n_runs * run_bytes);
    for (uint32_t r = 0; r < l->n_runs; r++) {
        for (uint32_t g = 0; g < l->run_groups; g++) {
            uint8_t *const header = block + (uint64_t)(r * l->run_groups + g) * HEADER_BYTES;
            const float *const from = values + (uint64_t)r * run_step + (uint64_t)g * n * step;
            encode_group(l->bits, from, step, n, header, runs + (uint64_t)r * run_bytes, g * n);
        }
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
    encode(&l, rows, 1, head_dim, block);
}

void tl_codec_decode_keys(tl_codec codec, const void *block, uint32_t head_dim, float *rows) {
    const struct layout l = key_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    decode(&l, block, rows, 1, head_dim);
}

void tl_codec_encode_values(tl_codec codec, const float *rows, uint32_t head_dim, void *block) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    encode(&l, rows, head_dim, 1, block);
}

void tl_codec_decode_values(tl_codec codec, const void *block, uint32_t head_dim, float *rows) {
    const struct layout l = value_layout(codec, head_dim);
    TL_ASSERT(l.bits > 0 && head_dim % 8 == 0);
    decode(&l, block, rows, head_dim, 1);
}
