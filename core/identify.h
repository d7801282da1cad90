/* Which layers attend densely (TailorKV, section 4.1), measured while a prompt goes through: its
 * last queries against all exact rows, with the causal mask and the model's own windows. The dense
 * preference score of a layer is the mean attention mass outside the largest 5 % of the weights,
 * over queries and heads (the paper's eq. 7 and 8, divided by the number of queries): 0.95 where
 * attention is spread evenly, 0 where it rests on few rows. A layer above the threshold is dense:
 * it bears coarse codes of all rows better than the loss of any. On demand the measurement also
 * says what each codec does to the layer's output. */
#ifndef TL_IDENTIFY_H
#define TL_IDENTIFY_H

#include "decode.h"
#include "vq_train.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TL_LAST_QUERIES = 32, /* the paper's n_q, from its code */
    TL_LONG_ROWS = 1024,  /* a prompt is long from here on: 5 % are then 51 rows */
    TL_CURVE_POINTS = 9,
    TL_CURVE_SCORE = 5, /* the point of the 5 % */
    TL_CODECS_TRIED = 7,
};
#define TL_DENSE_ABOVE 0.2 /* the paper's threshold tau */

/* Shares of the visible rows, in 1 / TL_MASS_WHOLE: 0.1 % .. 50 %. */
extern const uint16_t tl_curve_parts[TL_CURVE_POINTS];
extern const tl_codec tl_codecs_tried[TL_CODECS_TRIED];

/* What was measured of one layer. */
struct tl_identity {
    uint32_t n_queries, n_rows; /* n_rows: of the cache, at the last query; 0: nothing measured */
    double score;
    const float *mass; /* (n_heads, TL_CURVE_POINTS): the share that the largest weights hold */
    /* |out - exact| / |exact| of the attention output with all but the newest rows compressed: keys
     * by the codec and values in 8 bits, and the other way round; codecs vq-* by the codebooks that
     * come with the program. Negative: not measured, or the device reads no codebooks. */
    double k_error[TL_CODECS_TRIED], v_error[TL_CODECS_TRIED];
};

typedef struct tl_identify tl_identify;

/* Given the exact rows of layer il and its last queries, in host memory until it returns. What it
 * returns, the measurement does. */
typedef tl_err tl_rows_fn(void *user, uint32_t il, const struct tl_exact_rows *rows);

struct tl_identify_params {
    /* Measure what codecs, fitted so, do, too, for which a layer's compressed copy has to have
     * room; head_dim is then a multiple of 8. */
    bool codecs;
    tl_fit fit;
    tl_rows_fn *on_rows; /* optional: for each layer that has no window of the model's */
    void *user;
};

/* What it takes for a cache of cap rows; `rows`: somebody is given them. */
void tl_identify_bytes(const struct tl_shape *shape, uint32_t cap, bool codecs, bool rows,
                       uint64_t *device, uint64_t *host);
TL_MUST tl_err tl_identify_open(tl_identify **out, const struct tl_shape *shape, tl_dev *dev,
                                uint32_t cap, const struct tl_identify_params *params);
void tl_identify_close(tl_identify **id);

/* Behind tl_decode_prompt_layer of a prompt's last chunk of n rows in layer il, which begins at row
 * `first`; its queries and rows are still where that put them. Layers whose older rows are only
 * there compressed are passed over. Waits for the stream only where codecs are measured or rows
 * given. */
TL_MUST tl_err tl_identify_layer(tl_identify *id, const struct tl_pass *pass, uint32_t il,
                                 uint32_t first, uint32_t n);

/* After the stream was synced behind the last layer: makes scores of what was measured. */
void tl_identify_finish(tl_identify *id);

/* NULL: nothing was measured of this layer, or the measurement is not finished. */
const struct tl_identity *tl_identify_get(const tl_identify *id, uint32_t il);

#ifdef __cplusplus
}
#endif

#endif
