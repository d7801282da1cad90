/* Policy files: a cache's policies layer by layer, as JSON:
 *
 *   { "tailor_policy": 1,                         version, required
 *     "model_hash": "0123456789abcdef",           the model it was made for; absent: any
 *     "preset": "tailor",                         where every layer begins; absent: "full"
 *     "dense": [0, "2-3"],                        the dense layers: these begin with the preset's
 *                                                 policy of dense layers; absent: as the preset has
 *                                                 it, which may be that the session finds them
 *     "dense_policy": { "recent": 64 },           knobs of dense layers
 *     "all": { "topk": 512 },                     knobs of every other layer
 *     "layers": { "0": { "k_codec": "q8" }, "2-5": { "topk": 128 } },
 *     "codebooks": { ... },                       what it learned for codecs vq-*, see books.h
 *     "measured": { ... } }                       what `tailor fit` saw; not read
 *
 * Files are hostile: unknown keys, knobs and layers are errors. */
#ifndef TL_POLICY_FILE_H
#define TL_POLICY_FILE_H

#include "books.h"
#include "model.h"
#include "policy.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Ties a policy to a model: names, shapes, types and the first bytes of all tensors. */
uint64_t tl_model_hash(const tl_weights *w);

/* The policies of a cache: `dense` is that of dense layers where has_dense, `others` that with
 * which others begin. With finds_dense it is not yet known which layers are dense. */
struct tl_policies {
    struct tl_policy *layers; /* n_layers of them, of the caller */
    uint32_t n_layers;
    struct tl_policy others, dense;
    bool has_dense, finds_dense;
    bool is_dense[TL_LAYERS_MAX];
    tl_books *books; /* owned: whoever has the set closes it; NULL: nothing was learned */
};

/* Every layer as the preset begins; layers and n_layers are given. */
void tl_policies_of_preset(const struct tl_preset *preset, struct tl_policies *out);

/* One knob from text: "topk" = "256" in all layers but dense ones, "dense.recent" = "64" in dense
 * ones; "dense" = "0" or "2-5" makes these dense as well, "dense" = "none" makes none so, and with
 * either it is known which are. TL_ERR_FORMAT with a sentence; contradictions are
 * tl_policies_check's. */
TL_MUST tl_err tl_policies_set(struct tl_policies *set, const char *knob, const char *value,
                               const tl_log *log);
/* Contradictions of any layer. */
TL_MUST tl_err tl_policies_check(const struct tl_policies *set, const tl_log *log);

/* out := what the text says; layers and n_layers are given. TL_ERR_FORMAT with a sentence, and out
 * is as it was. name stands for the file in sentences. */
TL_MUST tl_err tl_policy_file_read(tl_str text, const char *name, uint64_t model_hash,
                                   struct tl_policies *out, const tl_log *log);

/* "3" or "2-5", layers below n_layers; false where it is neither. */
bool tl_layer_range(const char *text, uint32_t n_layers, uint32_t *first, uint32_t *last);
/* The same from numbers; 24 bytes do. */
void tl_layer_range_spell(uint32_t first, uint32_t last, char *text, size_t cap);

#ifdef __cplusplus
}
#endif

#endif
