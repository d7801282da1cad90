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
    const struct tl_policy *dense;    /* what layers may change to in the session; NULL: none do */
    uint64_t weight_bytes;
    bool far;            /* the device has memory of its own: host memory is behind a link */
    uint32_t n_stages;   /* buffers for one layer's exact rows, where any is needed: 1, or 2 so that
                          * one is filled and sent home while the other is attended; 0 is 1 */
    uint32_t n_sessions; /* so many like it at once, at most TL_LOGIT_ROWS, beside one copy of the
                          * weights and with the memory of a batch (batch.h); 0 is 1, without */
    bool identify, identify_codecs, identify_gives; /* layers are measured, see identify.h */
    bool no_codebooks;                              /* the device reads no vector-quantised rows */
};

struct tl_memory_plan {
    struct tl_kv_bytes kv; /* all layers together */
    /* Device memory beside the cache's. */
    uint64_t weights, scratch;
    uint64_t stage;  /* exact rows of a layer or two while a prompt goes in; 0: none needed */
    uint64_t change; /* a layer's new tiers beside its old ones; 0: none changes */
    /* Host memory beside the cache's. */
    uint64_t hidden;       /* a prompt's hidden states between layers; 0: none needed */
    uint64_t host_scratch; /* logits, ids, numbers */
    uint64_t load;         /* through which weights go to a device of its own, before all others */
    uint64_t device, host; /* the peaks: sums, reached in a prompt; of all sessions, while what
                            * stands above is of one */
};

void tl_plan_memory(const struct tl_shape *shape, const struct tl_plan_params *params,
                    struct tl_memory_plan *out);

/* A budget of 0 is no budget. With `unified` the device budget holds for both together. */
struct tl_budget {
    uint64_t device, host;
    bool unified;
};

/* The largest context (a multiple of 256, at most params->n_ctx) whose plan stays within the
 * budgets, 0 where none does. */
uint32_t tl_plan_ctx(const struct tl_shape *shape, const struct tl_plan_params *params,
                     const struct tl_budget *budget);

/* Whether a plan stays within the budgets; where it does not, by how much, and what would. */
enum { TL_ADVICE_MAX = 4 };
struct tl_verdict {
    bool fits;
    bool unified;                          /* as the budget: all is the device's */
    uint64_t device_missing, host_missing; /* bytes */
    uint32_t n_sessions;                   /* that were asked for; 0: one */
    uint32_t n_sessions_fit;               /* so many of them fit at this context */
    uint32_t n_ctx;                        /* the largest context that fits, 0: none */
    const char *presets[TL_ADVICE_MAX];    /* that fit at the context asked for, best first */
    uint32_t n_presets;
};
TL_MUST tl_err tl_plan_judge(const struct tl_shape *shape, const struct tl_plan_params *params,
                             const struct tl_budget *budget, struct tl_verdict *out);
/* The verdict on a plan that does not fit as one sentence: "131072 tokens need 27.21 GiB on the
 * device, 3.71 GiB more than there is; 98304 tokens would fit, or --kv tailor, q4", or "8
 * sequences of 4096 tokens need ...; 5 such sequences would fit; 2304 tokens would fit, or ...". */
void tl_verdict_sentence(const struct tl_verdict *verdict, const struct tl_memory_plan *plan,
                         uint32_t n_ctx, char *text, size_t cap);

/* What a device with these capabilities has to give, or less where less is to be used (0: all). */
struct tl_dev_caps;
struct tl_budget tl_budget_of(const struct tl_dev_caps *caps, uint64_t device_bytes,
                              uint64_t host_bytes);

/* TL_ERR_UNSUPPORTED with a sentence where a policy has a codec that the device lacks or that the
 * model's heads do not fit. A plan of the others may be computed; n_ctx may be 0. */
TL_MUST tl_err tl_plan_check_codecs(const struct tl_shape *shape,
                                    const struct tl_plan_params *params, const tl_log *log);

/* Makes a plan that fits of one that may not: n_ctx, where it is 0, becomes as much of the model's
 * own context as fits, n_chunk 0 becomes 512 and is at most n_ctx, n_stages 2 where there is room.
 * Where even so it does not fit, TL_ERR_MEMORY with the verdict's sentence; what was cut or is
 * larger than the model was made for is said. TL_ERR_UNSUPPORTED: as
 * tl_plan_check_codecs. */
TL_MUST tl_err tl_plan_settle(const struct tl_shape *shape, struct tl_plan_params *params,
                              const struct tl_budget *budget, const tl_log *log);

/* What its policies ask of a session's scratch. */
struct tl_scratch_needs tl_plan_scratch(const struct tl_shape *shape,
                                        const struct tl_plan_params *params);

/* True where a prompt attends the exact rows of a layer with this policy in a stage, not in their
 * home: they have none, or one behind the link. */
bool tl_plan_is_staged(const struct tl_policy *policy, bool far);
/* Slots of one stage for prompts of up to n_ctx rows; 0: no layer is staged. */
uint32_t tl_plan_stage_rows(const struct tl_shape *shape, const struct tl_plan_params *params);
/* True where a prompt goes in layer by layer. */
bool tl_plan_is_layered(const struct tl_shape *shape, const struct tl_plan_params *params);

#ifdef __cplusplus
}
#endif

#endif
