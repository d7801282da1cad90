/* Policy files: a cache's policies layer by layer, as JSON:
 *
 *   { "tailor_policy": 1,                         version, required
 *     "model_hash": "0123456789abcdef",           the model it was made for; absent: any
 *     "preset": "tailor",                         where every layer begins; absent: "full"
 *     "all": { "topk": 512 },                     knobs of every layer
 *     "layers": { "0": { "k_codec": "q8" }, "2-5": { "topk": 128 } } }
 *
 * Files are hostile: unknown keys, knobs and layers are errors. */
#ifndef TL_POLICY_FILE_H
#define TL_POLICY_FILE_H

#include "policy.h"
#include "weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Ties a policy to a model: names, shapes, types and the first bytes of all tensors. */
uint64_t tl_model_hash(const tl_weights *w);

/* policies (n_layers) := what the text says. TL_ERR_FORMAT with a sentence, and policies are as they
 * were. name stands for the file in sentences. */
TL_MUST tl_err tl_policy_file_read(tl_str text, const char *name, uint64_t model_hash,
                                   uint32_t n_layers, struct tl_policy *policies,
                                   const tl_log *log);

#ifdef __cplusplus
}
#endif

#endif
