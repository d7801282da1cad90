/* The only place that reads and writes the blocks drawn in vq.h in plain C.
 *
 * Invariant: what decides over a byte is arithmetic in float in the order written here, one
 * operation a statement so that no compiler contracts two; any machine gives the same bytes.
 * Rotation and scale keep finite numbers finite: a rotated number is at most sqrt(d) times the
 * largest, which TL_SMOOTH_ bounds at 2^26. Blocks are bytes and may start at any address. */
#include "vq.h"

#include <math.h>
#include <string.h>

static const float f16_most = 65504.0f;

static const struct {
    uint8_t dim, bits;
    uint8_t stretch; /* of values, in 1 / 64 */
} forms[TL_CODEC_COUNT] = {
    [TL_CODEC_VQ_D2B8] = {2, 8, 65},   [TL_CODEC_VQ_D4B8] = {4, 8, 72},
    [TL_CODEC_VQ_D8B8] = {8, 8, 94},   [TL_CODEC_VQ_D8B12] = {8, 12, 78},
    [TL_CODEC_VQ_D4B10] = {4, 10, 68}, [TL_CODEC_VQ_D8B10] = {8, 10, 83},
    [TL_CODEC_VQ_D2B4] = {2, 4, 74},
};

/* The first half of each built-in codebook, in units of 1 / 32, by scripts/vq_builtin.py: k-means
 * of normal numbers in which every entry's opposite is an entry too. */
enum { BUILTIN_UNITS = 32 };
#include "vq_builtin.inc"

bool tl_vq_is(tl_codec codec) {
    TL_ASSERT((unsigned)codec < TL_CODEC_COUNT);
    return forms[codec].dim != 0;
}

uint32_t tl_vq_dim(tl_codec codec) {
    TL_ASSERT(tl_vq_is(codec));
    return forms[codec].dim;
}

uint32_t tl_vq_bits(tl_codec codec) {
    TL_ASSERT(tl_vq_is(codec));
    return forms[codec].bits;
}

float tl_vq_stretch(tl_codec codec) {
    TL_ASSERT(tl_vq_is(codec));
    return (float)forms[codec].stretch / 64.0f;
}

uint32_t tl_vq_entries(tl_codec codec) { return 1u << tl_vq_bits(codec); }

uint64_t tl_vq_block_bytes(tl_codec codec, uint32_t head_dim) {
    TL_ASSERT(head_dim > 0 && head_dim % 8 == 0);
    const uint64_t n_places = head_dim / tl_vq_dim(codec);
    return TL_VQ_HEADER_BYTES + n_places * (TL_BLOCK / 8 * tl_vq_bits(codec));
}

void tl_vq_builtin(tl_codec codec, uint16_t *book) {
    const uint32_t half = tl_vq_entries(codec) / 2 * tl_vq_dim(codec);
    const int8_t *const units = builtin[codec];
    for (uint32_t i = 0; i < half; i++) {
        const float value = (float)units[i] / (float)BUILTIN_UNITS;
        book[i] = tl_f32_to_f16(value);
        book[half + i] = tl_f32_to_f16(-value);
    }
}

void tl_vq_expand(tl_codec codec, const uint16_t *book, float *expanded) {
    const uint32_t n = tl_vq_entries(codec), dim = tl_vq_dim(codec);
    for (uint32_t i = 0; i < n; i++) {
        float *const entry = expanded + (uint64_t)i * dim;
        float sum = 0.0f;
        for (uint32_t j = 0; j < dim; j++) {
            entry[j] = tl_f16_to_f32(book[(uint64_t)i * dim + j]);
            const float square = entry[j] * entry[j];
            sum += square;
        }
        expanded[(uint64_t)n * dim + i] = 0.5f * sum;
    }
}

/* n a power of two. */
static void hadamard_block(float *x, uint32_t n) {
    for (uint32_t step = 1; step < n; step *= 2) {
        for (uint32_t first = 0; first < n; first += 2 * step) {
            for (uint32_t i = first; i < first + step; i++) {
                const float a = x[i], b = x[i + step];
                x[i] = a + b;
                x[i + step] = a - b;
            }
        }
    }
    const float share = 1.0f / sqrtf((float)n);
    for (uint32_t i = 0; i < n; i++) {
        x[i] *= share;
    }
}

void tl_hadamard(float *x, uint32_t n) {
    uint32_t block = 1u << 31;
    for (uint32_t at = 0; at < n; at += block) {
        while (block > n - at) {
            block /= 2;
        }
        hadamard_block(x + at, block);
    }
}

/* dim is a constant of the caller: a loop over the block's vectors becomes vector code. */
static inline void nearest(uint32_t dim, uint32_t n, const float *expanded, const float *x,
                           uint32_t *codes) {
    const float *const halves = expanded + (uint64_t)n * dim;
    float best[TL_BLOCK];
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        best[t] = INFINITY;
        codes[t] = 0;
    }
    for (uint32_t c = 0; c < n; c++) {
        const float *const entry = expanded + (uint64_t)c * dim;
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            float away = halves[c];
            for (uint32_t j = 0; j < dim; j++) {
                const float product = x[j * TL_BLOCK + t] * entry[j];
                away -= product;
            }
            const bool nearer = away < best[t];
            best[t] = nearer ? away : best[t];
            codes[t] = nearer ? c : codes[t];
        }
    }
}

void tl_vq_nearest(tl_codec codec, const float *expanded, const float *x, uint32_t *codes) {
    const uint32_t n = tl_vq_entries(codec);
    switch (tl_vq_dim(codec)) {
    case 2:
        nearest(2, n, expanded, x, codes);
        break;
    case 4:
        nearest(4, n, expanded, x, codes);
        break;
    default:
        nearest(8, n, expanded, x, codes);
        break;
    }
}

/* Comparisons and not fminf, so that the loop becomes vector code. */
static float clean(float value) {
    value = value > f16_most ? f16_most : value;
    value = value < -f16_most ? -f16_most : value;
    return value == value ? value : 0.0f;
}

void tl_vq_turn(float *rows, uint32_t n, uint32_t head_dim, const float *smooth, bool rotated) {
    for (uint32_t t = 0; t < n; t++) {
        float *const row = rows + (uint64_t)t * head_dim;
        for (uint32_t c = 0; c < head_dim; c++) {
            row[c] = clean(row[c]);
        }
        for (uint32_t c = 0; smooth != NULL && c < head_dim; c++) {
            row[c] /= smooth[c];
        }
        if (rotated) {
            tl_hadamard(row, head_dim);
        }
    }
}

/* The root mean square of a block as its header holds it. Sums run down the channels, eight side by
 * side, which head sizes are whole multiples of. */
static uint16_t scale_of(const float *rows, uint32_t head_dim) {
    double total = 0.0;
    for (uint32_t c = 0; c < head_dim; c += 8) {
        float sums[8] = {0.0f};
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            const float *const at = rows + (uint64_t)t * head_dim + c;
            for (uint32_t j = 0; j < 8; j++) {
                const float square = at[j] * at[j];
                sums[j] += square;
            }
        }
        for (uint32_t j = 0; j < 8; j++) {
            total += (double)sums[j];
        }
    }
    const float scale = (float)sqrt(total / (double)(TL_BLOCK * (uint64_t)head_dim));
    return tl_f32_to_f16(scale < f16_most ? scale : f16_most);
}

/* Codes of bits that are 4, 8, 10 or 12 into whole bytes. */
static void pack(uint32_t bits, const uint32_t *codes, uint8_t *dst) {
    uint64_t held = 0;
    uint32_t n_held = 0;
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        held |= (uint64_t)codes[t] << n_held;
        for (n_held += bits; n_held >= 8; n_held -= 8) {
            *dst++ = (uint8_t)(held & 0xffu);
            held >>= 8;
        }
    }
}

static float load_half(const uint8_t *p) {
    return tl_f16_to_f32((uint16_t)((unsigned)p[0] | (unsigned)p[1] << 8));
}

void tl_vq_encode(tl_codec codec, const float *expanded, const float *smooth, float stretch,
                  float *rows, uint32_t head_dim, tl_vq_search *search, void *block) {
    const uint32_t dim = tl_vq_dim(codec), bits = tl_vq_bits(codec);
    uint8_t *const bytes = block;
    tl_vq_turn(rows, TL_BLOCK, head_dim, smooth, true);
    const float scale = tl_f16_to_f32(scale_of(rows, head_dim)),
                share = scale > 0.0f ? 1.0f / scale : 0.0f;
    const float drawn = scale * stretch;
    const uint16_t header = tl_f32_to_f16(drawn < f16_most ? drawn : f16_most);
    bytes[0] = (uint8_t)(header & 0xffu);
    bytes[1] = (uint8_t)(header >> 8);
    bytes[2] = bytes[3] = 0;
    uint8_t *run = bytes + TL_VQ_HEADER_BYTES;
    for (uint32_t c = 0; c < head_dim; c += dim, run += TL_BLOCK / 8 * bits) {
        float x[TL_VQ_DIM_MAX * TL_BLOCK];
        uint32_t codes[TL_BLOCK];
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            for (uint32_t j = 0; j < dim; j++) {
                x[j * TL_BLOCK + t] = rows[(uint64_t)t * head_dim + c + j] * share;
            }
        }
        search(codec, expanded, x, codes);
        pack(bits, codes, run);
    }
}

void tl_vq_codes(tl_codec codec, const void *block, uint32_t place, uint16_t codes[TL_BLOCK]) {
    const uint32_t bits = tl_vq_bits(codec), mask = (1u << bits) - 1;
    const uint8_t *at =
        (const uint8_t *)block + TL_VQ_HEADER_BYTES + (uint64_t)place * (TL_BLOCK / 8 * bits);
    uint32_t held = 0, n_held = 0;
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        for (; n_held < bits; n_held += 8) {
            held |= (uint32_t)*at++ << n_held;
        }
        codes[t] = (uint16_t)(held & mask);
        held >>= bits;
        n_held -= bits;
    }
}

float tl_vq_scale(const void *block) { return load_half(block); }

void tl_vq_decode(tl_codec codec, const float *expanded, const float *smooth, const void *block,
                  uint32_t head_dim, float *rows) {
    const uint32_t dim = tl_vq_dim(codec);
    const float scale = tl_vq_scale(block);
    for (uint32_t c = 0; c < head_dim; c += dim) {
        uint16_t codes[TL_BLOCK];
        tl_vq_codes(codec, block, c / dim, codes);
        for (uint32_t t = 0; t < TL_BLOCK; t++) {
            for (uint32_t j = 0; j < dim; j++) {
                rows[(uint64_t)t * head_dim + c + j] = scale * expanded[codes[t] * dim + j];
            }
        }
    }
    for (uint32_t t = 0; t < TL_BLOCK; t++) {
        float *const row = rows + (uint64_t)t * head_dim;
        tl_hadamard(row, head_dim);
        for (uint32_t c = 0; smooth != NULL && c < head_dim; c++) {
            row[c] *= smooth[c];
        }
    }
}
