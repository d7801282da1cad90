/* What a session will take before anything is allocated: bytes by tier, from shape, policies and
 * context alone. Sessions are opened by it and `tailor plan` prints it. */
#ifndef TL_PLAN_H
#define TL_PLAN_H

#include "decode.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tl_plan_params {
    uint32_t n_ctx, n_chunk;
    const struct tl_policy *policies; /* one a layer */
    const struct tl_policy *dense; /* what layers may change to in the session; NULL: none do */
    uint64_t weight_bytes;
};

struct tl_memory_plan {
    struct tl_kv_bytes kv; /* all layers together */
    uint64_t weights, scratch;
    uint64_t stage;   /* device: one layer's exact rows while a prompt goes in; 0: none needed */
    uint64_t change;  /* device: a layer's new tiers beside its old ones; 0: none changes */
    uint64_t hidden;  /* host: a prompt's hidden states between layers; 0: none needed */
    uint64_t device, host; /* sums; device is the peak, reached in a prompt */
};

void tl_plan_memory(const struct tl_shape *shape, const struct tl_plan_params *params,
                    struct tl_memory_plan *out);

/* The largest context (a multiple of 256, at most params->n_ctx) whose plan stays within the budgets,
 * 0 where none does. A budget of 0 is no budget. With `unified` the device budget holds for both
 * together. */
struct tl_budget {
    uint64_t device, host;
    bool unified;
};
uint32_t tl_plan_ctx(const struct tl_shape *shape, const struct tl_plan_params *params,
                     const struct tl_budget *budget);

/* What its policies ask of a session's scratch. */
struct tl_scratch_needs tl_plan_scratch(const struct tl_shape *shape,
                                        const struct tl_plan_params *params);

/* Slots of the stage that layers without a home need for prompts of up to n_ctx rows; 0: none. */
uint32_t tl_plan_stage_rows(const struct tl_shape *shape, const struct tl_plan_params *params);
/* True where a prompt goes in layer by layer. */
bool tl_plan_is_hybrid(const struct tl_shape *shape, const struct tl_plan_params *params);

#ifdef __cplusplus
}
#endif

#endif
