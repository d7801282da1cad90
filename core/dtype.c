/* Element formats: the only drawing of the block layouts, and the definition of what they decode
 * to. Every other decoder (x86, CUDA, shaders) is tested against tl_decode_row.
 *
 * Invariant: a decoded value is the exact number, rounded at most once. All products below (a half
 * times small integers) have at most 24 significant bits, so they are exact in float; only the last
 * addition or subtraction of the formats with a minimum rounds. Contracting it into a fused
 * multiply-add therefore changes nothing, and neither does the order of the factors.
 *
 * Blocks are arrays of bytes, never read as wider types, so a row may start at any address. All is
 * little-endian, as is every host we run on. `e` below is an element's index in its block, bits
 * count from the lowest, and "half" is an IEEE binary16.
 *
 * 32 elements a block:
 *
 *   Q8_0    0  d: half     2  q[32]: int8                                         x = d * q[e]
 *   Q4_0    0  d: half     2  q[16]                                               x = d * (n - 8)
 *   Q4_1    0  d: half     2  m: half    4  q[16]                                 x = d * n + m
 *   Q5_0    0  d: half     2  h[4]       6  q[16]                                 x = d * (n - 16)
 *   Q5_1    0  d: half     2  m: half    4  h[4]    8  q[16]                      x = d * n + m
 *   IQ4_NL  0  d: half     2  q[16]                                               x = d * iq4[n]
 *
 *   n is the low four bits of q[e] for e < 16 and the high four bits of q[e - 16] from there on; in
 *   the Q5 formats bit e of h, as one 32-bit number, is bit 4 of n. iq4 is the table of 16 below.
 *
 * 256 elements a block, where s is a scale and m a minimum of a sub-block of 16 or 32:
 *
 *   Q2_K    0  s[16]            16  q[64]           80  d: half      82  dm: half
 *   Q3_K    0  h[32]            32  q[64]           96  s[12]       108  d: half
 *   Q4_K    0  d: half           2  dm: half         4  s[12]        16  q[128]
 *   Q5_K    0  d: half           2  dm: half         4  s[12]        16  h[32]      48  q[128]
 *   Q6_K    0  q[128]          128  h[64]          192  s[16]: int8 208  d: half
 *   IQ4_XS  0  d: half           2  sh: 16 bits      4  sl[4]         8  q[128]
 *
 *   Q2_K    x = d * (s[e/16] low 4) * n - dm * (s[e/16] high 4); n: two bits, at 2 * (e/32 % 4) of
 *           q[32 * (e/128) + e % 32]
 *   Q3_K    x = d * (s6 - 32) * (n - 4); n: two bits from q as in Q2_K, and above them bit e/32 of
 *           h[e % 32]; s6 of i = e/16: low four bits in s[i] low (i < 8) or s[i - 8] high, top two
 *           at bit 2 * (i/4) of s[8 + i % 4]
 *   Q4_K    x = d * s6 * n - dm * m6; n: low (e/32 even) or high four bits of q[32 * (e/64) + e %
 * 32]; s6 and m6 of i = e/32 < 4: low six bits of s[i] and of s[i + 4]; else low and high four of
 * s[i + 4], and above them the top two of s[i - 4] and of s[i] Q5_K    as Q4_K, with bit e/32 of
 * h[e % 32] as bit 4 of n Q6_K    x = d * s[e/16] * (n - 32); n: low (e/64 even) or high four bits
 * of q[64 * (e/128) + e % 64], and above them two bits at 2 * (e/32 % 4) of h[32 * (e/128) + e %
 * 32] IQ4_XS  x = d * (s6 - 32) * iq4[n]; n: low (e % 32 < 16) or high four bits of q[16 * (e/32) +
 * e % 16]; s6 of i = e/32: low (i even) or high four bits of sl[i/2], and above them the two bits
 * at 2 * i of sh
 */
#include "dtype.h"

#include <math.h>
#include <string.h>

enum { SMALL = 32, LARGE = 256 };

struct q8_0 {
    uint8_t d[2];
    int8_t q[SMALL];
};
struct q4_0 {
    uint8_t d[2], q[16];
};
struct q4_1 {
    uint8_t d[2], m[2], q[16];
};
struct q5_0 {
    uint8_t d[2], h[4], q[16];
};
struct q5_1 {
    uint8_t d[2], m[2], h[4], q[16];
};
struct iq4_nl {
    uint8_t d[2], q[16];
};
struct q2_k {
    uint8_t s[16], q[64], d[2], dm[2];
};
struct q3_k {
    uint8_t h[32], q[64], s[12], d[2];
};
struct q4_k {
    uint8_t d[2], dm[2], s[12], q[128];
};
struct q5_k {
    uint8_t d[2], dm[2], s[12], h[32], q[128];
};
struct q6_k {
    uint8_t q[128], h[64];
    int8_t s[16];
    uint8_t d[2];
};
struct iq4_xs {
    uint8_t d[2], sh[2], sl[4], q[128];
};

_Static_assert(sizeof(struct q8_0) == 34 && _Alignof(struct q8_0) == 1, "Q8_0");
_Static_assert(sizeof(struct q4_0) == 18, "Q4_0");
_Static_assert(sizeof(struct q4_1) == 20, "Q4_1");
_Static_assert(sizeof(struct q5_0) == 22, "Q5_0");
_Static_assert(sizeof(struct q5_1) == 24, "Q5_1");
_Static_assert(sizeof(struct iq4_nl) == 18, "IQ4_NL");
_Static_assert(sizeof(struct q2_k) == 84, "Q2_K");
_Static_assert(sizeof(struct q3_k) == 110, "Q3_K");
_Static_assert(sizeof(struct q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct q6_k) == 210 && _Alignof(struct q6_k) == 1, "Q6_K");
_Static_assert(sizeof(struct iq4_xs) == 136, "IQ4_XS");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are mapped, not converted");

static const int8_t iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};

static float float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float tl_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = h >> 10 & 0x1fu;
    const uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) {
        const float tiny = (float)mantissa * 0x1p-24f;
        return sign != 0 ? -tiny : tiny;
    }
    if (exponent == 0x1f) {
        /* NaNs come out quiet, as from the conversion instructions of x86 and ARM. */
        const uint32_t quiet = mantissa != 0 ? 0x400000u : 0;
        return float_of_bits(sign | 0x7f800000u | quiet | mantissa << 13);
    }
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t tl_f32_to_f16(float f) {
    const uint32_t bits = bits_of_float(f);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (size >> 13 & 0x3ffu));
    }
    if (size >= 0x477ff000u) { /* from 65520 on, half-way past the largest, is infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (size < 0x38800000u) {
        /* Subnormal: a unit in the last place of 0.5f is 2^-24, that of the result, so the addition
         * rounds as wanted and leaves the code in the low bits. */
        return (uint16_t)(sign | (bits_of_float(float_of_bits(size) + 0.5f) - 0x3f000000u));
    }
    const uint32_t rounded = size + 0xfffu + (size >> 13 & 1u);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

float tl_bf16_to_f32(uint16_t b) { return float_of_bits((uint32_t)b << 16); }

uint16_t tl_f32_to_bf16(float f) {
    const uint32_t bits = bits_of_float(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static uint32_t load_u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static uint32_t load_u32(const uint8_t *p) { return load_u16(p) | load_u16(p + 2) << 16; }

static float load_f16(const uint8_t *p) { return tl_f16_to_f32((uint16_t)load_u16(p)); }

static void store_f16(uint8_t *p, float f) {
    const uint16_t h = tl_f32_to_f16(f);
    p[0] = (uint8_t)(h & 0xffu);
    p[1] = (uint8_t)(h >> 8);
}

/* Four bits of element e where a block of 32 keeps its halves in the low and the high nibbles. */
static int nibble(const uint8_t *q, uint32_t e) { return q[e % 16] >> (e < 16 ? 0 : 4) & 15; }

static void decode_f32(const void *src, float *dst, uint64_t n_blocks) {
    memcpy(dst, src, n_blocks * sizeof *dst);
}

static void decode_f16(const void *src, float *dst, uint64_t n_blocks) {
    const uint8_t *const codes = src;
    for (uint64_t i = 0; i < n_blocks; i++) {
        dst[i] = load_f16(codes + 2 * i);
    }
}

static void decode_bf16(const void *src, float *dst, uint64_t n_blocks) {
    const uint8_t *const codes = src;
    for (uint64_t i = 0; i < n_blocks; i++) {
        dst[i] = tl_bf16_to_f32((uint16_t)load_u16(codes + 2 * i));
    }
}

static void decode_q8_0(const void *src, float *dst, uint64_t n_blocks) {
    const struct q8_0 *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += SMALL) {
        const float d = load_f16(b->d);
        for (uint32_t e = 0; e < SMALL; e++) {
            dst[e] = d * (float)b->q[e];
        }
    }
}

static void decode_q4_0(const void *src, float *dst, uint64_t n_blocks) {
    const struct q4_0 *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += SMALL) {
        const float d = load_f16(b->d);
        for (uint32_t e = 0; e < SMALL; e++) {
            dst[e] = d * (float)(nibble(b->q, e) - 8);
        }
    }
}

static void decode_q4_1(const void *src, float *dst, uint64_t n_blocks) {
    const struct q4_1 *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += SMALL) {
        const float d = load_f16(b->d), m = load_f16(b->m);
        for (uint32_t e = 0; e < SMALL; e++) {
            dst[e] = d * (float)nibble(b->q, e) + m;
        }
    }
}

static int five_bits(const uint8_t *q, uint32_t h, uint32_t e) {
    return nibble(q, e) | (int)(h >> e & 1u) << 4;
}

static void decode_q5_0(const void *src, float *dst, uint64_t n_blocks) {
    const struct q5_0 *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += SMALL) {
        const float d = load_f16(b->d);
        const uint32_t h = load_u32(b->h);
        for (uint32_t e = 0; e < SMALL; e++) {
            dst[e] = d * (float)(five_bits(b->q, h, e) - 16);
        }
    }
}

static void decode_q5_1(const void *src, float *dst, uint64_t n_blocks) {
    const struct q5_1 *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += SMALL) {
        const float d = load_f16(b->d), m = load_f16(b->m);
        const uint32_t h = load_u32(b->h);
        for (uint32_t e = 0; e < SMALL; e++) {
            dst[e] = d * (float)five_bits(b->q, h, e) + m;
        }
    }
}

static void decode_iq4_nl(const void *src, float *dst, uint64_t n_blocks) {
    const struct iq4_nl *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += SMALL) {
        const float d = load_f16(b->d);
        for (uint32_t e = 0; e < SMALL; e++) {
            dst[e] = d * (float)iq4[nibble(b->q, e)];
        }
    }
}

/* Large blocks are decoded by sub-blocks of 16 or 32 elements, first element `at`, within which
 * scales and shifts are the same and bytes lie side by side. */

static void decode_q2_k(const void *src, float *dst, uint64_t n_blocks) {
    const struct q2_k *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += LARGE) {
        const float d = load_f16(b->d), dm = load_f16(b->dm);
        for (uint32_t at = 0; at < LARGE; at += 16) {
            const uint8_t *const q = b->q + 32 * (at / 128) + at % 32;
            const uint32_t shift = 2 * (at / 32 % 4);
            const float s = d * (float)(b->s[at / 16] & 15), m = dm * (float)(b->s[at / 16] >> 4);
            for (uint32_t e = 0; e < 16; e++) {
                dst[at + e] = s * (float)(q[e] >> shift & 3) - m;
            }
        }
    }
}

static int q3_k_scale(const uint8_t *s, uint32_t i) {
    const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    return (low | (s[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32;
}

static void decode_q3_k(const void *src, float *dst, uint64_t n_blocks) {
    const struct q3_k *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += LARGE) {
        const float d = load_f16(b->d);
        for (uint32_t at = 0; at < LARGE; at += 16) {
            const uint8_t *const q = b->q + 32 * (at / 128) + at % 32, *const h = b->h + at % 32;
            const uint32_t shift = 2 * (at / 32 % 4), bit = at / 32;
            const float s = d * (float)q3_k_scale(b->s, at / 16);
            for (uint32_t e = 0; e < 16; e++) {
                const int n = (q[e] >> shift & 3) | (h[e] >> bit & 1) << 2;
                dst[at + e] = s * (float)(n - 4);
            }
        }
    }
}

/* Scale and minimum of sub-block i of Q4_K and Q5_K. */
static void q4_k_scale(const uint8_t *s, uint32_t i, int *scale, int *min) {
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[i + 4] & 63;
    } else {
        *scale = (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
        *min = s[i + 4] >> 4 | s[i] >> 6 << 4;
    }
}

static void decode_q4_k(const void *src, float *dst, uint64_t n_blocks) {
    const struct q4_k *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += LARGE) {
        const float d = load_f16(b->d), dm = load_f16(b->dm);
        for (uint32_t at = 0; at < LARGE; at += 32) {
            int scale, min;
            q4_k_scale(b->s, at / 32, &scale, &min);
            const uint8_t *const q = b->q + 32 * (at / 64);
            const uint32_t shift = 4 * (at / 32 % 2);
            const float s = d * (float)scale, m = dm * (float)min;
            for (uint32_t e = 0; e < 32; e++) {
                dst[at + e] = s * (float)(q[e] >> shift & 15) - m;
            }
        }
    }
}

static void decode_q5_k(const void *src, float *dst, uint64_t n_blocks) {
    const struct q5_k *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += LARGE) {
        const float d = load_f16(b->d), dm = load_f16(b->dm);
        for (uint32_t at = 0; at < LARGE; at += 32) {
            int scale, min;
            q4_k_scale(b->s, at / 32, &scale, &min);
            const uint8_t *const q = b->q + 32 * (at / 64);
            const uint32_t shift = 4 * (at / 32 % 2), bit = at / 32;
            const float s = d * (float)scale, m = dm * (float)min;
            for (uint32_t e = 0; e < 32; e++) {
                const int n = (q[e] >> shift & 15) | (b->h[e] >> bit & 1) << 4;
                dst[at + e] = s * (float)n - m;
            }
        }
    }
}

static void decode_q6_k(const void *src, float *dst, uint64_t n_blocks) {
    const struct q6_k *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += LARGE) {
        const float d = load_f16(b->d);
        for (uint32_t at = 0; at < LARGE; at += 16) {
            const uint8_t *const q = b->q + 64 * (at / 128) + at % 64;
            const uint8_t *const h = b->h + 32 * (at / 128) + at % 32;
            const uint32_t shift = 4 * (at / 64 % 2), high = 2 * (at / 32 % 4);
            const float s = d * (float)b->s[at / 16];
            for (uint32_t e = 0; e < 16; e++) {
                const int n = (q[e] >> shift & 15) | (h[e] >> high & 3) << 4;
                dst[at + e] = s * (float)(n - 32);
            }
        }
    }
}

static void decode_iq4_xs(const void *src, float *dst, uint64_t n_blocks) {
    const struct iq4_xs *b = src;
    for (uint64_t i = 0; i < n_blocks; i++, b++, dst += LARGE) {
        const float d = load_f16(b->d);
        const uint32_t sh = load_u16(b->sh);
        for (uint32_t at = 0; at < LARGE; at += 32) {
            const uint32_t sub = at / 32;
            const int low = b->sl[sub / 2] >> 4 * (sub % 2) & 15;
            const float s = d * (float)((low | (int)(sh >> 2 * sub & 3u) << 4) - 32);
            for (uint32_t e = 0; e < 32; e++) {
                dst[at + e] = s * (float)iq4[nibble(b->q + 16 * sub, e)];
            }
        }
    }
}

/* Name and sizes for users; decode is NULL for what is never a weight. */
static const struct format {
    struct tl_dtype_info info;
    void (*decode)(const void *src, float *dst, uint64_t n_blocks);
} formats[TL_DTYPE_COUNT] = {
    [TL_F32] = {{"F32", 1, 4, 0}, decode_f32},
    [TL_F16] = {{"F16", 1, 2, 1}, decode_f16},
    [TL_BF16] = {{"BF16", 1, 2, 30}, decode_bf16},
    [TL_Q8_0] = {{"Q8_0", SMALL, sizeof(struct q8_0), 8}, decode_q8_0},
    [TL_Q4_0] = {{"Q4_0", SMALL, sizeof(struct q4_0), 2}, decode_q4_0},
    [TL_Q4_1] = {{"Q4_1", SMALL, sizeof(struct q4_1), 3}, decode_q4_1},
    [TL_Q5_0] = {{"Q5_0", SMALL, sizeof(struct q5_0), 6}, decode_q5_0},
    [TL_Q5_1] = {{"Q5_1", SMALL, sizeof(struct q5_1), 7}, decode_q5_1},
    [TL_IQ4_NL] = {{"IQ4_NL", SMALL, sizeof(struct iq4_nl), 20}, decode_iq4_nl},
    [TL_IQ4_XS] = {{"IQ4_XS", LARGE, sizeof(struct iq4_xs), 23}, decode_iq4_xs},
    [TL_Q2_K] = {{"Q2_K", LARGE, sizeof(struct q2_k), 10}, decode_q2_k},
    [TL_Q3_K] = {{"Q3_K", LARGE, sizeof(struct q3_k), 11}, decode_q3_k},
    [TL_Q4_K] = {{"Q4_K", LARGE, sizeof(struct q4_k), 12}, decode_q4_k},
    [TL_Q5_K] = {{"Q5_K", LARGE, sizeof(struct q5_k), 13}, decode_q5_k},
    [TL_Q6_K] = {{"Q6_K", LARGE, sizeof(struct q6_k), 14}, decode_q6_k},
    [TL_I32] = {{"I32", 1, 4, 26}, NULL},
    [TL_U8] = {{"U8", 1, 1, UINT32_MAX}, NULL},
};

static const struct format *format_of(tl_dtype dtype) {
    TL_ASSERT((unsigned)dtype < TL_DTYPE_COUNT);
    return &formats[dtype];
}

const struct tl_dtype_info *tl_dtype_info(tl_dtype dtype) { return &format_of(dtype)->info; }

bool tl_dtype_from_gguf(uint32_t gguf_type, tl_dtype *out) {
    for (int i = 0; i < TL_DTYPE_COUNT; i++) {
        if (formats[i].info.gguf_type == gguf_type && formats[i].decode != NULL) {
            *out = (tl_dtype)i;
            return true;
        }
    }
    return false;
}

const char *tl_gguf_type_name(uint32_t gguf_type) {
    static const char *const names[] = {
        "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
        "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
        "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
        "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
        "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
        "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
    };
    return gguf_type < sizeof names / sizeof names[0] ? names[gguf_type] : "unknown";
}

uint64_t tl_row_bytes(tl_dtype dtype, uint64_t cols) {
    const struct tl_dtype_info *const info = tl_dtype_info(dtype);
    TL_ASSERT(cols % info->block_elems == 0);
    return cols / info->block_elems * info->block_bytes;
}

void tl_decode_row(tl_dtype dtype, const void *src, float *dst, uint64_t n) {
    const struct format *const format = format_of(dtype);
    TL_ASSERT(format->decode != NULL && n % format->info.block_elems == 0);
    if (n > 0) {
        format->decode(src, dst, n / format->info.block_elems);
    }
}

/* The half that a block stores as its scale, for values that should come to `wanted` steps at
 * `peak`. Values beyond what a half can scale saturate; a block with an infinity or a NaN gets a
 * NaN scale, so that the damage stays visible. */
static float store_scale(uint8_t *d, float peak, float wanted, bool finite) {
    const float scale = finite ? fminf(fmaxf(peak / wanted, -65504.0f), 65504.0f) : NAN;
    store_f16(d, scale);
    return load_f16(d);
}

/* x in steps of the stored scale d: the nearest of low..high, ties to even. */
static int nearest_step(float x, float d, float low, float high) {
    if (d == 0 || isnan(d)) {
        return 0;
    }
    return (int)rintf(fminf(fmaxf(x / d, low), high));
}

/* The element of largest size, with its sign. */
static float peak_of(const float *src, uint32_t n, bool *finite) {
    float peak = 0;
    *finite = true;
    for (uint32_t e = 0; e < n; e++) {
        *finite = *finite && isfinite(src[e]);
        peak = fabsf(src[e]) > fabsf(peak) ? src[e] : peak;
    }
    return peak;
}

static void encode_q8_0(const float *src, struct q8_0 *b, uint64_t n_blocks) {
    for (uint64_t i = 0; i < n_blocks; i++, b++, src += SMALL) {
        bool finite;
        const float peak = peak_of(src, SMALL, &finite);
        const float d = store_scale(b->d, fabsf(peak), 127, finite);
        for (uint32_t e = 0; e < SMALL; e++) {
            b->q[e] = (int8_t)nearest_step(src[e], d, -127, 127);
        }
    }
}

static void encode_q4_0(const float *src, struct q4_0 *b, uint64_t n_blocks) {
    for (uint64_t i = 0; i < n_blocks; i++, b++, src += SMALL) {
        /* The steps reach from -8 to 7, so the scale takes the sign that puts the peak at -8. */
        bool finite;
        const float peak = peak_of(src, SMALL, &finite);
        const float d = store_scale(b->d, peak, -8, finite);
        for (uint32_t e = 0; e < 16; e++) {
            const int low = nearest_step(src[e], d, -8, 7) + 8;
            const int high = nearest_step(src[e + 16], d, -8, 7) + 8;
            b->q[e] = (uint8_t)(low | high << 4);
        }
    }
}

bool tl_encode_row(tl_dtype dtype, const float *src, void *dst, uint64_t n) {
    TL_ASSERT(n % tl_dtype_info(dtype)->block_elems == 0);
    uint8_t *const bytes = dst;
    switch (dtype) {
    case TL_F32:
        decode_f32(src, dst, n);
        return true;
    case TL_F16:
        for (uint64_t i = 0; i < n; i++) {
            store_f16(bytes + 2 * i, src[i]);
        }
        return true;
    case TL_BF16:
        for (uint64_t i = 0; i < n; i++) {
            const uint16_t code = tl_f32_to_bf16(src[i]);
            memcpy(bytes + 2 * i, &code, sizeof code);
        }
        return true;
    case TL_Q8_0:
        encode_q8_0(src, dst, n / SMALL);
        return true;
    case TL_Q4_0:
        encode_q4_0(src, dst, n / SMALL);
        return true;
    default:
        return false;
    }
}
