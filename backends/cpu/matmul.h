/* Private to the CPU backend: the matrix products. matmul.c splits a product over threads, lays out
 * scratch and finishes results; an instruction set brings one table of kernels, `struct mm_isa`,
 * and one row of it per weight format. Both know two shapes of work:
 *
 *   few activation rows (decode): `dots` streams weight rows once, straight from the model file;
 *   many (prefill): `unpack` turns a panel of weight rows into an interleaved layout that stays in
 *   cache, and `tile` multiplies it with MM_TOKENS activation rows at a time.
 *
 * Quantised weights meet activations rounded to 8 bits in blocks of 32 with a float scale (finer
 * than a K-quant's own block of 256); float weights meet the floats themselves.
 *
 * Invariant: an output element is the same sum in the same order whichever thread computes it and
 * whatever the number of threads. */
#ifndef TL_CPU_MATMUL_H
#define TL_CPU_MATMUL_H

#include "cpu.h"

enum {
    MM_DOTS_MAX = 4, /* activation rows that dots takes at once */
    MM_TOKENS = 6,   /* activation rows a tile: 6 x 2 accumulators fill the registers of AVX2 */
    MM_CHUNK = 256,  /* quantised rows are padded with zeros to a multiple of it */
    MM_BLOCK = 32,   /* activations that share a scale */
    MM_ROWS_MAX = 64,
};

/* A row of activations as `dots` reads it, and as `quantise` makes it. */
struct mm_act {
    float *x;   /* (k_pad), zeros behind k; only for float weights */
    int8_t *q;  /* (k_pad) x / d, rounded; 16-byte units in the format's places */
    float *d;   /* (k_pad / MM_BLOCK) */
    float *s;   /* (k_pad / group) d * sum of q over a group */
    int32_t *z; /* (k_pad / group) -offset * sum of q over a group */
};

/* The arithmetic of an activation row is the same whatever n is, to the bit. */
struct mm_dots {
    float *y;            /* (n, y_stride) y[t][i] := w_i . x_t, i < n_rows */
    const uint8_t *w;    /* first weight row; any alignment */
    const uint8_t *next; /* what this thread will read afterwards; for prefetching only */
    uint64_t row_bytes;
    uint32_t n_rows, k, y_stride;
    uint32_t n; /* activation rows: 1, 2 or MM_DOTS_MAX */
    struct mm_act act[MM_DOTS_MAX];
};

/* Weight rows of a panel, `rows` of the format's tile abreast, rows past the end repeated.
 * Float formats: w (k, rows) f32. Quantised ones: q (k / 4, rows, 4) u8, code + offset; d and m
 * (k / group, rows): w = d * (q - offset) - m. */
struct mm_panel {
    float *w;
    uint8_t *q;
    float *d, *m;
};

struct mm_unpack {
    struct mm_panel to;
    const uint8_t *w; /* row 0 at the first column wanted */
    uint64_t row_bytes;
    uint32_t n_rows, n_cols;
};

/* MM_TOKENS rows of activations abreast, rows past the end zero.
 * x (k, MM_TOKENS) f32; q (k / 4, MM_TOKENS, 4) i8; d (k / 32, MM_TOKENS); s (k / group,
 * MM_TOKENS); z (k / group, MM_TOKENS): -offset * sum of q over a group. */
struct mm_tile_act {
    float *x;
    int8_t *q;
    float *d, *s;
    int32_t *z;
};

struct mm_tile {
    float *y; /* (MM_TOKENS, rows) := */
    struct mm_panel w;
    struct mm_tile_act act;
    uint32_t k; /* a multiple of MM_BLOCK for quantised formats */
};

typedef struct mm_format {
    void (*dots)(const struct mm_dots *work);
    void (*unpack)(const struct mm_unpack *work);
    void (*tile)(const struct mm_tile *work);
    const uint8_t *places; /* of q for dots: one of cpu_places_* */
    uint32_t group;        /* elements of a weight scale, 16 or 32; 0: float weights */
    uint32_t dots_max;     /* so many activation rows are faster by dots than by tiles */
    uint32_t rows;         /* weight rows of a tile, at most MM_ROWS_MAX */
    int32_t offset;
} mm_format;

/* Rounds k floats, taking those from k to k_pad (a multiple of MM_CHUNK) as zeros. */
struct mm_quantise {
    const float *x;
    struct mm_act to; /* all but x are written */
    const uint8_t *places;
    uint32_t k, k_pad, group;
    int32_t offset;
};

struct mm_isa {
    void (*quantise)(const struct mm_quantise *work);
    mm_format formats[TL_I32]; /* every weight dtype */
};

/* The values that IQ4_NL and IQ4_XS codes stand for, plus MM_IQ4_OFFSET. */
enum { MM_IQ4_OFFSET = 127 };
extern const uint8_t cpu_iq4_values[16];

/* Where 16-byte unit i of a chunk of activations goes: for formats with element i and i + 16 of a
 * block in one byte, ... */
extern const uint8_t cpu_places_plain[16], cpu_places_nibbles[16];
/* ... with blocks 2 i and 2 i + 1 in the same bytes (Q4_K, Q5_K), and 0 .. 3 of each half (Q2_K,
 * Q3_K). */
extern const uint8_t cpu_places_q4_k[16], cpu_places_q2_k[16];

/* A block of activations below this becomes zeros: 127 divided by it could overflow. */
#define MM_TINY 1e-36f

bool cpu_matmul_run(struct cpu_dev *dev, const struct tl_matmul *op, const struct mm_isa *isa);

#endif
