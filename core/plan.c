/* Arithmetic only: the same functions that allocate are asked for their sizes. */
#include "plan.h"

enum { CTX_STEP = 256 };

static struct tl_policy policy_of(const struct tl_shape *shape, const struct tl_plan_params *p,
                                  uint32_t il) {
    return tl_kv_layer_policy(shape, il, &p->policies[il]);
}

bool tl_plan_is_hybrid(const struct tl_shape *shape, const struct tl_plan_params *params) {
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        if (policy_of(shape, params, il).select != TL_SELECT_ALL) {
            return true;
        }
    }
    return params->dense != NULL;
}

/* Slots of the stage that a layer of this policy needs. */
static uint64_t stage_rows(const struct tl_policy *p, uint32_t n_ctx) {
    const bool staged = p->select != TL_SELECT_ALL && p->home == TL_HOME_NONE;
    return staged ? (uint64_t)p->sink + p->recent + TL_BLOCK + n_ctx : 0;
}

uint32_t tl_plan_stage_rows(const struct tl_shape *shape, const struct tl_plan_params *params) {
    uint64_t rows = params->dense != NULL ? stage_rows(params->dense, params->n_ctx) : 0;
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        const struct tl_policy p = policy_of(shape, params, il);
        rows = tl_max_u64(rows, stage_rows(&p, params->n_ctx));
    }
    return (uint32_t)tl_min_u64(rows, UINT32_MAX / shape->n_kv_heads);
}

struct tl_scratch_needs tl_plan_scratch(const struct tl_shape *shape,
                                        const struct tl_plan_params *params) {
    struct tl_scratch_needs needs = {.n_chunk = params->n_chunk,
                                     .cap = params->n_ctx,
                                     .hybrid = tl_plan_is_hybrid(shape, params)};
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        const struct tl_policy p = policy_of(shape, params, il);
        tl_scratch_need(&needs, &p);
    }
    if (params->dense != NULL) {
        tl_scratch_need(&needs, params->dense);
    }
    return needs;
}

/* Room for a layer as it begins and as it may become, tier by tier. *change becomes at least what
 * it takes on the device to have both at once. */
static struct tl_kv_bytes layer_bytes(const struct tl_shape *shape,
                                      const struct tl_plan_params *params, uint32_t il,
                                      uint64_t *change) {
    struct tl_kv_bytes b =
        tl_kv_layer_bytes(shape, il, &params->policies[il], params->n_ctx);
    if (params->dense == NULL || shape->windowed[il]) {
        return b;
    }
    const struct tl_kv_bytes d = tl_kv_layer_bytes(shape, il, params->dense, params->n_ctx);
    *change = tl_max_u64(*change, tl_kv_device_bytes(&d));
    b.window = tl_max_u64(b.window, d.window);
    b.sketch = tl_max_u64(b.sketch, d.sketch);
    b.index = tl_max_u64(b.index, d.index);
    b.home_device = tl_max_u64(b.home_device, d.home_device);
    b.home_host = tl_max_u64(b.home_host, d.home_host);
    b.hot = tl_max_u64(b.hot, d.hot);
    return b;
}

void tl_plan_memory(const struct tl_shape *shape, const struct tl_plan_params *params,
                    struct tl_memory_plan *out) {
    struct tl_memory_plan plan = {.weights = params->weight_bytes};
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        const struct tl_kv_bytes b = layer_bytes(shape, params, il, &plan.change);
        plan.kv.window += b.window;
        plan.kv.sketch += b.sketch;
        plan.kv.home_device += b.home_device;
        plan.kv.home_host += b.home_host;
        plan.kv.hot += b.hot;
        plan.kv.index += b.index;
    }
    const struct tl_scratch_needs needs = tl_plan_scratch(shape, params);
    plan.scratch = tl_scratch_bytes(shape, &needs);
    const uint64_t row = 2 * tl_row_bytes(TL_F16, shape->head_dim) * shape->n_kv_heads;
    plan.stage = tl_plan_stage_rows(shape, params) * row;
    plan.hidden = needs.hybrid ? (uint64_t)params->n_ctx * shape->n_embd * sizeof(float) : 0;
    plan.device = plan.weights + tl_kv_device_bytes(&plan.kv) + plan.scratch + plan.stage +
                  plan.change;
    plan.host = plan.kv.home_host + plan.hidden;
    *out = plan;
}

static bool fits(const struct tl_memory_plan *plan, const struct tl_budget *budget) {
    const uint64_t device = budget->unified ? plan->device + plan->host : plan->device;
    return (budget->device == 0 || device <= budget->device) &&
           (budget->host == 0 || plan->host <= budget->host);
}

uint32_t tl_plan_ctx(const struct tl_shape *shape, const struct tl_plan_params *params,
                     const struct tl_budget *budget) {
    struct tl_plan_params p = *params;
    struct tl_memory_plan plan;
    tl_plan_memory(shape, &p, &plan);
    if (fits(&plan, budget)) {
        return p.n_ctx;
    }
    /* Bytes grow with the context: halve the interval. */
    uint32_t good = 0, bad = (uint32_t)tl_div_up(params->n_ctx, CTX_STEP);
    while (bad - good > 1) {
        const uint32_t middle = good + (bad - good) / 2;
        p.n_ctx = middle * CTX_STEP;
        tl_plan_memory(shape, &p, &plan);
        *(fits(&plan, budget) ? &good : &bad) = middle;
    }
    return good * CTX_STEP;
}
