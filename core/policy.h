/* What a cache layer does with its rows, as five knobs (docs/architecture.md, "a layer is a sketch
 * plus exact rows"), the presets that set them, and policy files that set them layer by layer.
 * Plain data and text; no device, no files (callers read and write them). */
#ifndef TL_POLICY_H
#define TL_POLICY_H

#include "codec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the exact copy of rows behind the window lives. */
typedef enum tl_home { TL_HOME_NONE, TL_HOME_DEVICE, TL_HOME_HOST } tl_home;

/* Which of those rows are attended exactly in a decode step. */
typedef enum tl_select { TL_SELECT_ALL, TL_SELECT_NONE, TL_SELECT_TOPK } tl_select;

/* What happens to rows that were not selected. */
typedef enum tl_rest { TL_REST_DROP, TL_REST_SKETCH } tl_rest;

/* What says which rows are worth fetching. */
typedef enum tl_index {
    TL_INDEX_CODES,    /* scores of the compressed keys */
    TL_INDEX_CHANNELS, /* scores over the few channels that matter to the query, fetched from the
                        * home for all rows (TailorKV) */
    TL_INDEX_PAGES,    /* the largest score that a page's bounds allow (Quest) */
    TL_INDEX_MEANSTD,  /* the largest score that a page's mean and deviation let expect */
} tl_index;

/* With channels: what the layer before, which knows this layer's query only roughly, fetches ahead.
 */
typedef enum tl_predict {
    TL_PREDICT_CHECK, /* the channels of the predicted query; those that the layer's own query wants
                       * and that are not there are fetched late: only time depends on the guess */
    TL_PREDICT_TRUST, /* the same, and nothing late: the paper and its code */
    TL_PREDICT_NONE,  /* nothing; all are fetched late */
} tl_predict;

enum { TL_WINDOW_MAX = 65536, TL_TOPK_MAX = 65536, TL_CHANNELS_MAX = 512, TL_TOPK_GROWN = 512 };

struct tl_policy {
    uint32_t sink, recent; /* rows of the window: the first, and at least the newest ones */
    tl_codec k_codec, v_codec;
    tl_home home;
    tl_select select;
    uint32_t topk;     /* rows a KV head, found by the index */
    tl_index index;    /* with topk */
    uint32_t channels; /* with index channels: how many (d_s); as many as a head has at most */
    tl_predict predict;
    uint32_t page; /* with index pages or meanstd: rows of one, a divisor of 64 */
    tl_rest rest;
    uint32_t hot; /* device slots a KV head for fetched rows; 0: none are kept */
    tl_fit fit;   /* of the codecs */
    /* Where the context makes room: topk and hot grow as long as the device holds at most one part
     * in `share` of the layer's exact rows, up to TL_TOPK_GROWN; 0: they stay. Setting topk, hot or
     * k_codec by name sets this to 0. See tl_kv_policy_at. */
    uint32_t share;
};

/* Contradictions that no layer can have: the sentence names the knob. */
TL_MUST tl_err tl_policy_check(const struct tl_policy *p, const tl_log *log);

/* A named policy, of every layer but those that a session or a policy file finds dense: layers that
 * attend to so many rows that a coarse copy of all of them is worth more than a few exact ones. */
struct tl_preset {
    const char *name, *summary;
    struct tl_policy policy;
    const struct tl_policy *dense; /* of dense layers; NULL: the preset makes no difference */
    uint32_t n_dense; /* the first so many layers are those; 0: a prompt must show which */
};
extern const struct tl_preset tl_presets[];               /* ends with a NULL name */
const struct tl_preset *tl_preset_find(const char *name); /* NULL: none */

/* How n_ctx tokens are kept where nobody says: `tailor`; `full` as long as the exact cache is so
 * small that there is little to save, and where codecs do not take heads of that size. */
const struct tl_preset *tl_preset_default(uint32_t n_ctx, uint32_t head_dim);

/* Names as the command line and policy files spell them, NULL-terminated, indexed by the enums. */
extern const char *const tl_codec_names[],
    *const tl_home_names[], *const tl_select_names[], *const tl_rest_names[],
                                                          *const tl_fit_names[],
                                                              *const tl_index_names[],
                                                                  *const tl_predict_names[];

/* One knob from text: "k_codec" = "int2", "topk" = "256". TL_ERR_FORMAT with a sentence. */
TL_MUST tl_err tl_policy_set(struct tl_policy *p, const char *knob, const char *value,
                             const tl_log *log);

/* The same knob as text: a name, or a number written to `text` (12 bytes do). NULL: no such knob.
 */
const char *tl_policy_get(const struct tl_policy *p, const char *knob, char *text, size_t cap);
/* The name of the i-th knob, NULL behind the last. */
const char *tl_policy_knob(size_t i);

#ifdef __cplusplus
}
#endif

#endif
