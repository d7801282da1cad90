/* Arithmetic only: the same functions that allocate are asked for their sizes. */
#include "plan.h"

#include "identify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CTX_STEP = 256, CHUNK_DEFAULT = 512 };

static struct tl_policy policy_of(const struct tl_shape *shape, const struct tl_plan_params *p,
                                  uint32_t il) {
    const struct tl_policy at = tl_kv_policy_at(shape, il, &p->policies[il], p->n_ctx);
    return tl_kv_layer_policy(shape, il, &at);
}

static bool is_hybrid(const struct tl_shape *shape, const struct tl_plan_params *params) {
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        if (policy_of(shape, params, il).select != TL_SELECT_ALL) {
            return true;
        }
    }
    return params->dense != NULL;
}

bool tl_plan_is_layered(const struct tl_shape *shape, const struct tl_plan_params *params) {
    return is_hybrid(shape, params) || tl_plan_stage_rows(shape, params) > 0;
}

bool tl_plan_is_staged(const struct tl_policy *p, bool far) {
    return p->home == TL_HOME_NONE || (far && p->home == TL_HOME_HOST);
}

/* Slots of the stage that a layer of this policy needs. */
static uint64_t stage_rows(const struct tl_policy *p, const struct tl_plan_params *params) {
    if (!tl_plan_is_staged(p, params->far)) {
        return 0;
    }
    /* Without a home, what the window keeps goes before the prompt. */
    const uint64_t kept = (uint64_t)p->sink + p->recent + TL_BLOCK;
    return params->n_ctx + (p->home == TL_HOME_NONE ? kept : 0);
}

uint32_t tl_plan_stage_rows(const struct tl_shape *shape, const struct tl_plan_params *params) {
    uint64_t rows = params->dense != NULL ? stage_rows(params->dense, params) : 0;
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        const struct tl_policy p = policy_of(shape, params, il);
        rows = tl_max_u64(rows, stage_rows(&p, params));
    }
    return (uint32_t)tl_min_u64(rows, UINT32_MAX / shape->n_kv_heads);
}

struct tl_scratch_needs tl_plan_scratch(const struct tl_shape *shape,
                                        const struct tl_plan_params *params) {
    struct tl_scratch_needs needs = {.n_chunk = params->n_chunk,
                                     .cap = params->n_ctx,
                                     .hybrid = is_hybrid(shape, params),
                                     .carried = params->far && tl_plan_is_layered(shape, params)};
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
    struct tl_kv_bytes b = tl_kv_layer_bytes(shape, il, &params->policies[il], params->n_ctx);
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

/* The peaks, from the parts. Layers change in one session at a time. */
static void add_up(const struct tl_shape *shape, const struct tl_plan_params *params,
                   struct tl_memory_plan *plan) {
    const uint64_t n = tl_max_u64(params->n_sessions, 1);
    uint64_t device = 0, host = 0; /* a batch's */
    TL_ASSERT(n <= TL_LOGIT_ROWS);
    if (params->n_sessions > 0) {
        const struct tl_scratch_needs needs = {
            .n_chunk = params->n_sessions, .cap = 1, .hybrid = is_hybrid(shape, params)};
        tl_scratch_bytes(shape, &needs, &device, &host);
    }
    plan->device = plan->weights + plan->change + device +
                   n * (tl_kv_device_bytes(&plan->kv) + plan->scratch + plan->stage);
    host += n * (tl_kv_host_bytes(&plan->kv) + plan->hidden + plan->host_scratch);
    plan->host = tl_max_u64(host, plan->load);
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
    tl_scratch_bytes(shape, &needs, &plan.scratch, &plan.host_scratch);
    plan.host_scratch += tl_kv_number_bytes(shape);
    plan.scratch += params->far ? tl_kv_far_number_bytes(shape) : 0;
    if (params->identify) {
        uint64_t device = 0, host = 0;
        tl_identify_bytes(shape, params->n_ctx, params->identify_codecs, params->identify_gives,
                          &device, &host);
        plan.scratch += device;
        plan.host_scratch += host;
    }
    const uint64_t row = 2 * tl_row_bytes(TL_F16, shape->head_dim) * shape->n_kv_heads;
    plan.stage = tl_plan_stage_rows(shape, params) * row * tl_max_u64(params->n_stages, 1);
    if (tl_plan_is_layered(shape, params)) {
        plan.hidden = (uint64_t)params->n_ctx * shape->n_embd * sizeof(float);
    }
    plan.load = params->far ? tl_min_u64(TL_UPLOAD_BYTES, plan.weights) : 0;
    add_up(shape, params, &plan);
    *out = plan;
}

static uint64_t excess(uint64_t need, uint64_t budget) {
    return budget == 0 || need <= budget ? 0 : need - budget;
}

static uint64_t device_excess(const struct tl_memory_plan *plan, const struct tl_budget *budget) {
    return excess(plan->device + (budget->unified ? plan->host : 0), budget->device);
}

static bool fits(const struct tl_memory_plan *plan, const struct tl_budget *budget) {
    return device_excess(plan, budget) == 0 && excess(plan->host, budget->host) == 0;
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

/* How many of the sessions fit, fewer than were asked for. */
static uint32_t sessions_fitting(const struct tl_shape *shape, const struct tl_plan_params *params,
                                 const struct tl_budget *budget) {
    struct tl_plan_params p = *params;
    struct tl_memory_plan plan;
    for (p.n_sessions = params->n_sessions; p.n_sessions > 1;) {
        p.n_sessions--;
        tl_plan_memory(shape, &p, &plan);
        if (fits(&plan, budget)) {
            return p.n_sessions;
        }
    }
    return 0;
}

/* In the order in which they are worth recommending: what costs least quality, then least time. */
static const char *const recommended[] = {"full",  "q8",    "tailor", "q4",
                                          "kivi2", "kivi1", "offload"};

/* True where the preset, begun in all layers, fits. policies: room for one a layer. */
static bool preset_fits(const struct tl_shape *shape, const struct tl_plan_params *params,
                        const struct tl_budget *budget, const struct tl_preset *preset,
                        struct tl_policy *policies) {
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        policies[il] = il < preset->n_dense ? *preset->dense : preset->policy;
    }
    struct tl_plan_params p = *params;
    p.policies = policies;
    p.dense = preset->n_dense == 0 ? preset->dense : NULL;
    p.n_stages = 1;
    struct tl_memory_plan plan;
    if (tl_plan_check_codecs(shape, &p, NULL)) {
        return false;
    }
    tl_plan_memory(shape, &p, &plan);
    return fits(&plan, budget);
}

tl_err tl_plan_judge(const struct tl_shape *shape, const struct tl_plan_params *params,
                     const struct tl_budget *budget, struct tl_verdict *out) {
    struct tl_memory_plan plan;
    tl_plan_memory(shape, params, &plan);
    *out = (struct tl_verdict){.device_missing = device_excess(&plan, budget),
                               .host_missing = excess(plan.host, budget->host),
                               .unified = budget->unified,
                               .n_sessions = params->n_sessions,
                               .n_sessions_fit = sessions_fitting(shape, params, budget),
                               .n_ctx = tl_plan_ctx(shape, params, budget)};
    out->fits = out->device_missing == 0 && out->host_missing == 0;
    if (out->fits) {
        return TL_OK;
    }
    struct tl_policy *const policies = calloc(shape->n_layers, sizeof *policies);
    if (policies == NULL) {
        return TL_ERR_MEMORY;
    }
    for (size_t i = 0; i < sizeof recommended / sizeof recommended[0]; i++) {
        const struct tl_preset *const preset = tl_preset_find(recommended[i]);
        if (out->n_presets < TL_ADVICE_MAX && preset != NULL &&
            preset_fits(shape, params, budget, preset, policies)) {
            out->presets[out->n_presets++] = preset->name;
        }
    }
    free(policies);
    return TL_OK;
}

/* Appends as far as there is room. */
static void append(char *text, size_t cap, const char *fmt, ...) TL_PRINTF(3, 4);
static void append(char *text, size_t cap, const char *fmt, ...) {
    const size_t at = strlen(text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + at, cap - at, fmt, args);
    va_end(args);
}

/* " 3.71 GiB", " 12.00 KiB" */
static void append_bytes(char *text, size_t cap, uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB"};
    size_t unit = 0;
    double value = (double)bytes / 1024;
    for (; value >= 1024 && unit < 2; unit++) {
        value /= 1024;
    }
    append(text, cap, " %.2f %s", value, units[unit]);
}

static void append_need(char *text, size_t cap, const char *where, uint64_t need,
                        uint64_t missing) {
    append_bytes(text, cap, need);
    append(text, cap, " on the %s,", where);
    append_bytes(text, cap, missing);
    append(text, cap, " more than there is");
}

void tl_verdict_sentence(const struct tl_verdict *v, const struct tl_memory_plan *plan,
                         uint32_t n_ctx, char *text, size_t cap) {
    text[0] = '\0';
    if (v->n_sessions > 1) {
        append(text, cap, "%u sequences of ", v->n_sessions);
    }
    append(text, cap, "%u tokens need", n_ctx);
    if (v->device_missing > 0) {
        append_need(text, cap, "device", plan->device + (v->unified ? plan->host : 0),
                    v->device_missing);
    }
    if (v->host_missing > 0) {
        append(text, cap, "%s", v->device_missing > 0 ? ", and" : "");
        append_need(text, cap, "host", plan->host, v->host_missing);
    }
    if (v->n_sessions_fit > 0) {
        append(text, cap, "; %u such sequence%s would fit", v->n_sessions_fit,
               v->n_sessions_fit > 1 ? "s" : "");
    }
    if (v->n_ctx == 0 && v->n_presets == 0) {
        append(text, cap, "%s",
               v->n_sessions_fit > 0 ? "" : "; no context and no preset would fit");
        return;
    }
    if (v->n_ctx > 0) {
        append(text, cap, "; %u tokens would fit", v->n_ctx);
    } else {
        append(text, cap, "; no context would fit");
    }
    for (uint32_t i = 0; i < v->n_presets; i++) {
        append(text, cap, "%s%s", i == 0 ? ", or --kv " : ", ", v->presets[i]);
    }
}

struct tl_budget tl_budget_of(const struct tl_dev_caps *caps, uint64_t device_bytes,
                              uint64_t host_bytes) {
    return (struct tl_budget){.device = device_bytes != 0 ? device_bytes : caps->bytes_free,
                              .host = host_bytes,
                              .unified = caps->unified && device_bytes == 0};
}

static tl_err refuse(const struct tl_shape *shape, const struct tl_plan_params *params,
                     const struct tl_budget *budget, const tl_log *log) {
    struct tl_memory_plan plan;
    struct tl_verdict verdict;
    char text[512];
    tl_plan_memory(shape, params, &plan);
    TL_TRY(tl_plan_judge(shape, params, budget, &verdict));
    tl_verdict_sentence(&verdict, &plan, params->n_ctx, text, sizeof text);
    return tl_fail(log, TL_ERR_MEMORY, "context: %s", text);
}

/* A second stage where it costs no context. */
static void add_stage(const struct tl_shape *shape, struct tl_plan_params *params,
                      const struct tl_budget *budget) {
    struct tl_memory_plan plan;
    params->n_stages = params->far && tl_plan_stage_rows(shape, params) > 0 ? 2 : 1;
    tl_plan_memory(shape, params, &plan);
    if (!fits(&plan, budget)) {
        params->n_stages = 1;
    }
}

static bool has_codebook(const struct tl_policy *p) {
    return tl_vq_is(p->k_codec) || tl_vq_is(p->v_codec);
}

static bool has_codec(const struct tl_policy *p) {
    return p->select != TL_SELECT_ALL &&
           (p->k_codec != TL_CODEC_NONE || p->v_codec != TL_CODEC_NONE);
}

tl_err tl_plan_check_codecs(const struct tl_shape *shape, const struct tl_plan_params *params,
                            const tl_log *log) {
    bool codebook = params->dense != NULL && has_codebook(params->dense);
    bool codec = params->dense != NULL && has_codec(params->dense);
    for (uint32_t il = 0; il < shape->n_layers; il++) {
        const struct tl_policy p = tl_kv_layer_policy(shape, il, &params->policies[il]);
        codebook = codebook || has_codebook(&p);
        codec = codec || has_codec(&p);
    }
    if (codec && !tl_codec_fits(shape->head_dim)) {
        return tl_fail(log, TL_ERR_UNSUPPORTED,
                       "cache: codecs take heads of a multiple of 8 channels, this model's have "
                       "%u; --kv full, offload and quest have none",
                       shape->head_dim);
    }
    return codebook && params->no_codebooks
               ? tl_fail(log, TL_ERR_UNSUPPORTED,
                         "cache: codecs vq-* have no kernels on this device yet; the backend cpu "
                         "has them")
               : TL_OK;
}

tl_err tl_plan_settle(const struct tl_shape *shape, struct tl_plan_params *params,
                      const struct tl_budget *budget, const tl_log *log) {
    TL_TRY(tl_plan_check_codecs(shape, params, log));
    const uint32_t asked = params->n_ctx;
    const uint32_t limit = (uint32_t)tl_min_u64(TL_CTX_MAX, UINT32_MAX / 2 / shape->n_kv_heads);
    const uint32_t wanted = asked != 0 ? asked : (uint32_t)tl_min_u64(shape->n_ctx_train, limit);
    if (wanted > limit) {
        return tl_fail(log, TL_ERR_MEMORY, "context: %u tokens asked for, at most %u possible",
                       wanted, limit);
    }
    params->n_ctx = wanted;
    params->n_chunk = params->n_chunk != 0 ? params->n_chunk : CHUNK_DEFAULT;
    params->n_stages = 1;
    const uint32_t fitting = tl_plan_ctx(shape, params, budget);
    if (fitting < wanted && (asked != 0 || fitting == 0)) {
        return refuse(shape, params, budget, log);
    }
    if (fitting < wanted) {
        tl_say(log, TL_LEVEL_INFO, "context: %u tokens fit in memory, the model has %u", fitting,
               wanted);
    }
    if (asked > shape->n_ctx_train) {
        tl_say(log, TL_LEVEL_WARN, "context: %u tokens, but the model was made for %u", asked,
               shape->n_ctx_train);
    }
    params->n_ctx = fitting;
    params->n_chunk = (uint32_t)tl_min_u64(params->n_chunk, fitting);
    add_stage(shape, params, budget);
    return TL_OK;
}
