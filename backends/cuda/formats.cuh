/* The twin of core/dtype.c's decoders for kernels: the drawings stand there. A row of a quantised
 * format is read in units of 16 elements, for which w = d * q - m with q in int8; cu_unit gives the
 * four words of q, and d and m. Offsets of codes (Q4_0's 8, Q6_K's 32) are in m, exact products of
 * a half and small integers. Blocks are read by 2 bytes, or by 4 where a block's size allows. */
#ifndef TL_CUDA_FORMATS_CUH
#define TL_CUDA_FORMATS_CUH

#include "util.cuh"

#include <cuda_bf16.h>

struct cu_codes {
    int q[4]; /* 16 codes, the first in the lowest byte */
    float d, m;
};

template <int T> struct cu_format; /* elements, bytes: of a block */
template <> struct cu_format<TL_Q8_0> {
    enum { elems = 32, bytes = 34 };
};
template <> struct cu_format<TL_Q4_0> {
    enum { elems = 32, bytes = 18 };
};
template <> struct cu_format<TL_Q4_1> {
    enum { elems = 32, bytes = 20 };
};
template <> struct cu_format<TL_Q5_0> {
    enum { elems = 32, bytes = 22 };
};
template <> struct cu_format<TL_Q5_1> {
    enum { elems = 32, bytes = 24 };
};
template <> struct cu_format<TL_IQ4_NL> {
    enum { elems = 32, bytes = 18 };
};
template <> struct cu_format<TL_IQ4_XS> {
    enum { elems = 256, bytes = 136 };
};
template <> struct cu_format<TL_Q2_K> {
    enum { elems = 256, bytes = 84 };
};
template <> struct cu_format<TL_Q3_K> {
    enum { elems = 256, bytes = 110 };
};
template <> struct cu_format<TL_Q4_K> {
    enum { elems = 256, bytes = 144 };
};
template <> struct cu_format<TL_Q5_K> {
    enum { elems = 256, bytes = 176 };
};
template <> struct cu_format<TL_Q6_K> {
    enum { elems = 256, bytes = 210 };
};
template <> struct cu_format<TL_F32> {
    enum { elems = 1, bytes = 4 };
};
template <> struct cu_format<TL_F16> {
    enum { elems = 1, bytes = 2 };
};
template <> struct cu_format<TL_BF16> {
    enum { elems = 1, bytes = 2 };
};

static __device__ inline uint32_t cu_u16(const uint8_t *p) { return *(const uint16_t *)p; }

/* A word whose address is a multiple of 2, or of 4 where A is 4. */
template <int A> static __device__ inline uint32_t cu_u32(const uint8_t *p) {
    return A == 4 ? *(const uint32_t *)p : cu_u16(p) | cu_u16(p + 2) << 16;
}

static __device__ inline float cu_half(const uint8_t *p) {
    return __half2float(__ushort_as_half((unsigned short)cu_u16(p)));
}

/* Four entries of IQ4's table by the low four bits of each byte. */
static __device__ inline uint32_t cu_iq4(uint32_t n) {
    const uint64_t low = 0xf6eaddcfbfad9881u, high = 0x7159453526190d01u;
    uint32_t q = 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t code = n >> 8 * i & 15u;
        const uint64_t table = code < 8 ? low : high;
        q |= (uint32_t)(table >> 8 * (code & 7u) & 255u) << 8 * i;
    }
    return q;
}

/* Bits i .. i + 3 of h at bit `to` of four bytes. */
static __device__ inline uint32_t cu_spread(uint32_t h, uint32_t i, uint32_t to) {
    const uint32_t b = h >> i;
    return ((b & 1u) | (b & 2u) << 7 | (b & 4u) << 14 | (b & 8u) << 21) << to;
}

/* Nibbles of unit `half` of a block of 32 whose 16 bytes are at p. */
static __device__ inline void cu_nibbles(struct cu_codes *c, const uint8_t *p, uint32_t half) {
    for (int i = 0; i < 4; i++) {
        c->q[i] = (int)(cu_u32<2>(p + 4 * i) >> 4 * half & 0x0f0f0f0fu);
    }
}

static __device__ inline void cu_fifths(struct cu_codes *c, uint32_t h, uint32_t half) {
    for (uint32_t i = 0; i < 4; i++) {
        c->q[i] |= (int)cu_spread(h, 16 * half + 4 * i, 4);
    }
}

/* Scale and minimum of sub-block i of Q4_K and Q5_K. */
static __device__ inline void cu_k4_scale(const uint8_t *s, uint32_t i, float *scale, float *min) {
    if (i < 4) {
        *scale = (float)(s[i] & 63u);
        *min = (float)(s[i + 4] & 63u);
    } else {
        *scale = (float)((s[i + 4] & 15u) | (uint32_t)(s[i - 4] >> 6) << 4);
        *min = (float)((uint32_t)(s[i + 4] >> 4) | (uint32_t)(s[i] >> 6) << 4);
    }
}

/* Unit u of a row. */
template <int T> static __device__ inline struct cu_codes cu_unit(const uint8_t *row, uint32_t u) {
    struct cu_codes c;
    const uint32_t per_block = (uint32_t)cu_format<T>::elems / 16;
    const uint8_t *const b = row + (uint64_t)(u / per_block) * cu_format<T>::bytes;
    const uint32_t i = u % per_block; /* of the block */
    if constexpr (T == TL_Q8_0) {
        c.d = cu_half(b);
        c.m = 0.0f;
        for (int j = 0; j < 4; j++) {
            c.q[j] = (int)cu_u32<2>(b + 2 + 16 * i + 4 * j);
        }
    } else if constexpr (T == TL_Q4_0) {
        c.d = cu_half(b);
        c.m = 8.0f * c.d;
        cu_nibbles(&c, b + 2, i);
    } else if constexpr (T == TL_Q4_1) {
        c.d = cu_half(b);
        c.m = -cu_half(b + 2);
        cu_nibbles(&c, b + 4, i);
    } else if constexpr (T == TL_Q5_0) {
        c.d = cu_half(b);
        c.m = 16.0f * c.d;
        cu_nibbles(&c, b + 6, i);
        cu_fifths(&c, cu_u32<2>(b + 2), i);
    } else if constexpr (T == TL_Q5_1) {
        c.d = cu_half(b);
        c.m = -cu_half(b + 2);
        cu_nibbles(&c, b + 8, i);
        cu_fifths(&c, cu_u32<2>(b + 4), i);
    } else if constexpr (T == TL_IQ4_NL || T == TL_IQ4_XS) {
        c.m = 0.0f;
        if constexpr (T == TL_IQ4_NL) {
            c.d = cu_half(b);
            cu_nibbles(&c, b + 2, i);
        } else {
            const uint32_t sub = i / 2, low = (uint32_t)(b[4 + sub / 2] >> 4 * (sub % 2)) & 15u;
            const uint32_t high = cu_u16(b + 2) >> 2 * sub & 3u;
            c.d = cu_half(b) * (float)((int)(low | high << 4) - 32);
            cu_nibbles(&c, b + 8 + 16 * sub, i % 2);
        }
        for (int j = 0; j < 4; j++) {
            c.q[j] = (int)cu_iq4((uint32_t)c.q[j]);
        }
    } else if constexpr (T == TL_Q2_K) {
        const uint32_t at = 16 * i, shift = 2 * (at / 32 % 4), s = b[i];
        c.d = cu_half(b + 80) * (float)(s & 15u);
        c.m = cu_half(b + 82) * (float)(s >> 4);
        for (int j = 0; j < 4; j++) {
            const uint8_t *const p = b + 16 + 32 * (at / 128) + at % 32 + 4 * j;
            c.q[j] = (int)(cu_u32<4>(p) >> shift & 0x03030303u);
        }
    } else if constexpr (T == TL_Q3_K) {
        const uint32_t at = 16 * i, shift = 2 * (at / 32 % 4), bit = at / 32;
        const uint8_t *const s = b + 96;
        const uint32_t low = i < 8 ? s[i] & 15u : (uint32_t)(s[i - 8] >> 4);
        const uint32_t top = (uint32_t)(s[8 + i % 4] >> 2 * (i / 4)) & 3u;
        c.d = cu_half(b + 108) * (float)((int)(low | top << 4) - 32);
        c.m = 4.0f * c.d;
        for (int j = 0; j < 4; j++) {
            const uint32_t q = cu_u32<2>(b + 32 + 32 * (at / 128) + at % 32 + 4 * j);
            const uint32_t h = cu_u32<2>(b + at % 32 + 4 * j);
            c.q[j] = (int)((q >> shift & 0x03030303u) | (h >> bit & 0x01010101u) << 2);
        }
    } else if constexpr (T == TL_Q4_K || T == TL_Q5_K) {
        const uint32_t at = 16 * i, shift = 4 * (at / 32 % 2), bit = at / 32;
        float scale, min;
        cu_k4_scale(b + 4, at / 32, &scale, &min);
        c.d = cu_half(b) * scale;
        c.m = cu_half(b + 2) * min;
        const uint8_t *const q = b + (T == TL_Q4_K ? 16 : 48) + 32 * (at / 64) + at % 32;
        for (int j = 0; j < 4; j++) {
            c.q[j] = (int)(cu_u32<4>(q + 4 * j) >> shift & 0x0f0f0f0fu);
            if constexpr (T == TL_Q5_K) {
                const uint32_t h = cu_u32<4>(b + 16 + at % 32 + 4 * j);
                c.q[j] |= (int)((h >> bit & 0x01010101u) << 4);
            }
        }
    } else {
        static_assert(T == TL_Q6_K, "a quantised format");
        const uint32_t at = 16 * i, shift = 4 * (at / 64 % 2), high = 2 * (at / 32 % 4);
        c.d = cu_half(b + 208) * (float)(int8_t)b[192 + i];
        c.m = 32.0f * c.d;
        for (int j = 0; j < 4; j++) {
            const uint32_t q = cu_u32<2>(b + 64 * (at / 128) + at % 64 + 4 * j);
            const uint32_t h = cu_u32<2>(b + 128 + 32 * (at / 128) + at % 32 + 4 * j);
            c.q[j] = (int)((q >> shift & 0x0f0f0f0fu) | (h >> high & 0x03030303u) << 4);
        }
    }
    return c;
}

/* Code e of a unit. */
static __device__ inline int cu_code(const struct cu_codes *c, int e) {
    return (int)(int8_t)((uint32_t)c->q[e / 4] >> 8 * (e % 4));
}

/* Element i of a row of a float format. */
template <int T> static __device__ inline float cu_element(const uint8_t *row, uint64_t i) {
    if constexpr (T == TL_F32) {
        return ((const float *)(const void *)row)[i];
    } else if constexpr (T == TL_F16) {
        return __half2float(((const __half *)(const void *)row)[i]);
    } else {
        static_assert(T == TL_BF16, "a float format");
        return __uint_as_float((uint32_t)((const uint16_t *)(const void *)row)[i] << 16);
    }
}

/* Element i of a row of what a cache may hold. */
static __device__ inline float cu_cache_element(tl_dtype dtype, const uint8_t *row, uint32_t i) {
    switch (dtype) {
    case TL_F32:
        return cu_element<TL_F32>(row, i);
    case TL_F16:
        return cu_element<TL_F16>(row, i);
    case TL_BF16:
        return cu_element<TL_BF16>(row, i);
    case TL_Q8_0: {
        const uint8_t *const b = row + (uint64_t)(i / 32) * 34;
        return cu_half(b) * (float)(int8_t)b[2 + i % 32];
    }
    default: {
        const uint8_t *const b = row + (uint64_t)(i / 32) * 18;
        const uint32_t e = i % 32, n = (uint32_t)(b[2 + e % 16] >> (e < 16 ? 0 : 4)) & 15u;
        return cu_half(b) * (float)((int)n - 8);
    }
    }
}

#endif
