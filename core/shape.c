/* The shape of a model, from its file's metadata. All that families do differently is in the table
 * below; all numbers are bounded here, so that later products of two of them fit 64 bits and no
 * count needs a second look. Positions turn linearly with every scaling scheme, so linear, YaRN,
 * Llama 3 and LongRoPE scaling are all baked into one table of inverse frequencies. */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct tl_family families[] = {
    {.name = "llama", .pairing = TL_PAIR_ADJACENT, .act = TL_ACT_SILU, .window_period = 1},
    {.name = "qwen2", .pairing = TL_PAIR_HALF, .act = TL_ACT_SILU, .qkv_bias = true},
    {.name = "qwen3", .pairing = TL_PAIR_HALF, .act = TL_ACT_SILU, .qk_norm = true},
    {.name = "phi3",
     .pairing = TL_PAIR_HALF,
     .act = TL_ACT_SILU,
     .fused = true,
     .window_period = 1},
    {.name = "gemma",
     .pairing = TL_PAIR_HALF,
     .act = TL_ACT_GELU_TANH,
     .scaled_embedding = true,
     .tied_only = true},
    {.name = "gemma2",
     .pairing = TL_PAIR_HALF,
     .act = TL_ACT_GELU_TANH,
     .scaled_embedding = true,
     .tied_only = true,
     .post_norms = true,
     .window_period = 2,
     .window_default = 4096,
     .attn_softcap = 50,
     .logit_softcap = 30,
     .wide_scale_layers = 46},
    {.name = "gemma3",
     .pairing = TL_PAIR_HALF,
     .act = TL_ACT_GELU_TANH,
     .scaled_embedding = true,
     .qk_norm = true,
     .post_norms = true,
     .window_period = 6,
     .local_rope_base = 10000,
     .wide_scale_layers = 62},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

/* A key of the architecture's own: "llama.block_count". */
struct key {
    char text[128];
};

static struct key key_of(const struct tl_shape *shape, const char *suffix) {
    struct key key;
    snprintf(key.text, sizeof key.text, "%s.%s", shape->family->name, suffix);
    return key;
}

static tl_err read_u32(const tl_weights *w, const struct tl_shape *shape, const char *suffix,
                       tl_need need, uint32_t *out) {
    return tl_meta_get_u32(w, key_of(shape, suffix).text, need, out);
}

static tl_err read_f32(const tl_weights *w, const struct tl_shape *shape, const char *suffix,
                       float *out) {
    return tl_meta_get_f32(w, key_of(shape, suffix).text, TL_OPTIONAL, out);
}

static tl_err bad(const tl_weights *w, tl_err err, const char *what, uint64_t value) {
    return tl_fail(tl_weights_log(w), err, "%s: %s (%llu)", tl_weights_path(w), what,
                   (unsigned long long)value);
}

/* Some converters write one value per layer; all layers must agree. */
static tl_err read_per_layer(const tl_weights *w, const struct tl_shape *shape, const char *suffix,
                             tl_need need, uint32_t *out) {
    const struct key key = key_of(shape, suffix);
    const struct tl_meta *const m = tl_weights_find_meta(w, key.text);
    if (m == NULL || m->type != TL_META_ARRAY) {
        return tl_meta_get_u32(w, key.text, need, out);
    }
    const bool integers = m->elem == TL_META_U32 || m->elem == TL_META_I32 ||
                          m->elem == TL_META_U64 || m->elem == TL_META_I64;
    if (!integers || m->n == 0) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: %s: not a list of integers",
                       tl_weights_path(w), key.text);
    }
    const int64_t first = tl_meta_int_at(m, 0);
    for (uint64_t i = 1; i < m->n; i++) {
        if (tl_meta_int_at(m, i) != first) {
            return tl_fail(tl_weights_log(w), TL_ERR_UNSUPPORTED,
                           "%s: %s: differs from layer to layer, which is not supported",
                           tl_weights_path(w), key.text);
        }
    }
    if (first < 0 || first > UINT32_MAX) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: %s: out of range", tl_weights_path(w),
                       key.text);
    }
    *out = (uint32_t)first;
    return TL_OK;
}

const struct tl_family *tl_family_find(tl_str name) {
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (tl_str_is(name, families[i].name)) {
            return &families[i];
        }
    }
    return NULL;
}

static tl_err read_family(const tl_weights *w, struct tl_shape *shape) {
    tl_str arch = {0};
    TL_TRY(tl_meta_get_str(w, "general.architecture", TL_REQUIRED, &arch));
    shape->family = tl_family_find(arch);
    if (shape->family != NULL) {
        return TL_OK;
    }
    char known[256] = "";
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i > 0 ? ", " : "", families[i].name);
    }
    return tl_fail(tl_weights_log(w), TL_ERR_UNSUPPORTED,
                   "%s: architecture '%.*s' is not supported (known: %s)", tl_weights_path(w),
                   (int)tl_min_u64(arch.len, 64), arch.data, known);
}

static tl_err read_sizes(const tl_weights *w, struct tl_shape *s) {
    TL_TRY(read_u32(w, s, "embedding_length", TL_REQUIRED, &s->n_embd));
    TL_TRY(read_u32(w, s, "block_count", TL_REQUIRED, &s->n_layers));
    TL_TRY(read_u32(w, s, "context_length", TL_REQUIRED, &s->n_ctx_train));
    TL_TRY(read_per_layer(w, s, "feed_forward_length", TL_REQUIRED, &s->n_ff));
    TL_TRY(read_per_layer(w, s, "attention.head_count", TL_REQUIRED, &s->n_heads));
    s->n_kv_heads = s->n_heads;
    TL_TRY(read_per_layer(w, s, "attention.head_count_kv", TL_OPTIONAL, &s->n_kv_heads));
    if (s->n_embd == 0 || s->n_embd > TL_WIDTH_MAX) {
        return bad(w, TL_ERR_FORMAT, "embedding_length is out of range", s->n_embd);
    }
    if (s->n_layers == 0 || s->n_layers > TL_LAYERS_MAX) {
        return bad(w, TL_ERR_FORMAT, "block_count is out of range", s->n_layers);
    }
    if (s->n_ff == 0 || s->n_ff > TL_WIDTH_MAX) {
        return bad(w, TL_ERR_FORMAT, "feed_forward_length is out of range", s->n_ff);
    }
    if (s->n_heads == 0 || s->n_heads > TL_HEADS_MAX) {
        return bad(w, TL_ERR_FORMAT, "attention.head_count is out of range", s->n_heads);
    }
    if (s->n_kv_heads == 0 || s->n_kv_heads > s->n_heads || s->n_heads % s->n_kv_heads != 0) {
        return bad(w, TL_ERR_FORMAT, "attention.head_count_kv does not divide the heads",
                   s->n_kv_heads);
    }
    if (s->n_ctx_train == 0) {
        return bad(w, TL_ERR_FORMAT, "context_length is out of range", 0);
    }
    return TL_OK;
}

static tl_err read_head_dim(const tl_weights *w, struct tl_shape *s) {
    s->head_dim = 0;
    TL_TRY(read_u32(w, s, "attention.key_length", TL_OPTIONAL, &s->head_dim));
    if (s->head_dim == 0) {
        if (s->n_embd % s->n_heads != 0) {
            return bad(w, TL_ERR_FORMAT, "attention.head_count does not divide the width",
                       s->n_heads);
        }
        s->head_dim = s->n_embd / s->n_heads;
    }
    uint32_t value_dim = s->head_dim;
    TL_TRY(read_u32(w, s, "attention.value_length", TL_OPTIONAL, &value_dim));
    if (value_dim != s->head_dim) {
        return tl_fail(tl_weights_log(w), TL_ERR_UNSUPPORTED,
                       "%s: keys of size %u with values of size %u are not supported",
                       tl_weights_path(w), s->head_dim, value_dim);
    }
    if (s->head_dim < 2 || s->head_dim > TL_HEAD_DIM_MAX || s->head_dim % 2 != 0 ||
        (uint64_t)s->head_dim * s->n_heads > TL_WIDTH_MAX) {
        return bad(w, TL_ERR_UNSUPPORTED, "the head size is not supported", s->head_dim);
    }
    s->n_rot = s->head_dim;
    TL_TRY(read_u32(w, s, "rope.dimension_count", TL_OPTIONAL, &s->n_rot));
    if (s->n_rot < 2 || s->n_rot > s->head_dim || s->n_rot % 2 != 0) {
        return bad(w, TL_ERR_FORMAT, "rope.dimension_count does not suit the head size", s->n_rot);
    }
    return TL_OK;
}

static tl_err read_scalars(const tl_weights *w, struct tl_shape *s) {
    const struct tl_family *const f = s->family;
    const struct key eps = key_of(s, "attention.layer_norm_rms_epsilon");
    TL_TRY(tl_meta_get_f32(w, eps.text, TL_REQUIRED, &s->norm_eps));
    if (!(s->norm_eps >= 0 && s->norm_eps < 1)) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: %s is out of range",
                       tl_weights_path(w), eps.text);
    }
    const bool wide = f->wide_scale_layers != 0 && s->n_layers == f->wide_scale_layers;
    s->attn_scale = 1.0f / sqrtf((float)(wide ? s->n_embd / s->n_heads : s->head_dim));
    s->embd_scale = f->scaled_embedding ? sqrtf((float)s->n_embd) : 1.0f;
    s->attn_softcap = f->attn_softcap;
    s->logit_softcap = f->logit_softcap;
    if (f->post_norms) { /* the only families with caps */
        if (f->attn_softcap != 0) {
            TL_TRY(read_f32(w, s, "attn_logit_softcapping", &s->attn_softcap));
        }
        TL_TRY(read_f32(w, s, "final_logit_softcapping", &s->logit_softcap));
    }
    if (!(s->attn_softcap >= 0 && s->logit_softcap >= 0)) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: a soft cap is out of range",
                       tl_weights_path(w));
    }
    uint32_t n_experts = 0;
    TL_TRY(read_u32(w, s, "expert_count", TL_OPTIONAL, &n_experts));
    if (n_experts > 0) {
        return bad(w, TL_ERR_UNSUPPORTED, "mixtures of experts are not supported; experts",
                   n_experts);
    }
    return TL_OK;
}

void tl_shape_set_windows(struct tl_shape *s, uint32_t window, uint32_t period) {
    s->window = window;
    for (uint32_t il = 0; il < s->n_layers; il++) {
        s->windowed[il] = window > 0 && period > 0 && (period == 1 || il % period < period - 1);
    }
}

/* Which layers see a window only: by the family's period, or as the file says, as a period or
 * layer by layer. */
static tl_err read_windows(const tl_weights *w, struct tl_shape *s) {
    uint32_t window = s->family->window_default;
    TL_TRY(read_u32(w, s, "attention.sliding_window", TL_OPTIONAL, &window));
    if (s->family->window_period == 0) {
        if (window > 0) {
            tl_say(tl_weights_log(w), TL_LEVEL_WARN,
                   "%s: the file has a sliding window of %u, but does not say in which layers: "
                   "all see everything",
                   tl_weights_path(w), window);
        }
        return TL_OK;
    }
    s->window = window;
    if (window == 0) {
        return TL_OK;
    }
    uint32_t period = s->family->window_period;
    const struct key key = key_of(s, "attention.sliding_window_pattern");
    const struct tl_meta *const m = tl_weights_find_meta(w, key.text);
    if (m != NULL && m->type == TL_META_ARRAY) {
        if (m->elem != TL_META_BOOL || m->n < s->n_layers) {
            return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: %s: not a flag for each layer",
                           tl_weights_path(w), key.text);
        }
        for (uint32_t il = 0; il < s->n_layers; il++) {
            s->windowed[il] = tl_meta_int_at(m, il) != 0;
        }
        return TL_OK;
    }
    if (s->family->window_period > 1 && m != NULL) {
        TL_TRY(tl_meta_get_u32(w, key.text, TL_REQUIRED, &period));
        if (period == 1) { /* as files mean it: each layer sees everything */
            return TL_OK;
        }
        period = period == 0 ? 1 : period;
    }
    tl_shape_set_windows(s, window, period);
    return TL_OK;
}

struct rope_scaling {
    float base, base_local;
    float freq_scale; /* 1 / factor */
    float attn_factor;
    bool yarn;
    float ext_factor, beta_fast, beta_slow;
    uint32_t n_ctx_orig;
    float divisors[TL_HEAD_DIM_MAX / 2];
};

static void fill_table(struct tl_rope_table *table, const struct tl_shape *s,
                       const struct rope_scaling *r, double base) {
    const double n = s->n_rot, two_pi = 6.283185307179586;
    const double span = 2 * log(base);
    const double low =
        fmax(0, floor(n * log(r->n_ctx_orig / (two_pi * (double)r->beta_fast)) / span));
    const double high =
        fmin(n - 1, ceil(n * log(r->n_ctx_orig / (two_pi * (double)r->beta_slow)) / span));
    for (uint32_t j = 0; j < s->n_rot / 2; j++) {
        const double extrapolated = pow(base, -2.0 * j / n) / (double)r->divisors[j];
        const double interpolated = extrapolated * (double)r->freq_scale;
        double mix = 0;
        if (r->yarn) {
            const double y = (j - low) / fmax(0.001, high - low);
            mix = (1 - fmin(1, fmax(0, y))) * (double)r->ext_factor;
        }
        table->inv_freq[j] = (float)(interpolated * (1 - mix) + extrapolated * mix);
    }
    table->scale = r->attn_factor;
}

static tl_err read_scaling_type(const tl_weights *w, const struct tl_shape *s,
                                struct rope_scaling *r) {
    float factor = 0;
    TL_TRY(read_f32(w, s, "rope.scale_linear", &factor));
    TL_TRY(read_f32(w, s, "rope.scaling.factor", &factor));
    tl_str type = tl_str_from("linear");
    TL_TRY(tl_meta_get_str(w, key_of(s, "rope.scaling.type").text, TL_OPTIONAL, &type));
    r->yarn = tl_str_is(type, "yarn");
    if (!r->yarn && !tl_str_is(type, "linear") && !tl_str_is(type, "none") &&
        !tl_str_is(type, "longrope")) {
        return tl_fail(
            tl_weights_log(w), TL_ERR_UNSUPPORTED,
            "%s: rope scaling '%.*s' is not supported (known: none, linear, yarn, longrope)",
            tl_weights_path(w), (int)tl_min_u64(type.len, 64), type.data);
    }
    if (!(factor >= 0) || factor > 1e6f) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: rope.scaling.factor is out of range",
                       tl_weights_path(w));
    }
    const bool scaled = factor > 0 && !tl_str_is(type, "none");
    r->freq_scale = scaled ? 1.0f / factor : 1.0f;
    if (r->yarn) {
        float magnitude = factor > 1 ? 0.1f * logf(factor) + 1.0f : 1.0f;
        TL_TRY(read_f32(w, s, "rope.scaling.yarn_attn_factor", &magnitude));
        TL_TRY(read_f32(w, s, "rope.scaling.yarn_ext_factor", &r->ext_factor));
        TL_TRY(read_f32(w, s, "rope.scaling.yarn_beta_fast", &r->beta_fast));
        TL_TRY(read_f32(w, s, "rope.scaling.yarn_beta_slow", &r->beta_slow));
        r->beta_fast = r->beta_fast > 0 ? r->beta_fast : 32;
        r->beta_slow = r->beta_slow > 0 ? r->beta_slow : 1;
        r->attn_factor *= magnitude;
    }
    return TL_OK;
}

/* Llama 3's and LongRoPE's divisors are tensors. LongRoPE has two: the choice follows the context
 * that the session is opened with, so that all rows of one cache turn alike. */
static tl_err read_divisors(const tl_weights *w, const struct tl_shape *s, uint32_t n_ctx,
                            struct rope_scaling *r) {
    for (uint32_t j = 0; j < s->n_rot / 2; j++) {
        r->divisors[j] = 1;
    }
    const struct tl_tensor *const longs = tl_weights_find_tensor(w, "rope_factors_long.weight");
    const struct tl_tensor *const shorts = tl_weights_find_tensor(w, "rope_factors_short.weight");
    const bool use_long = longs != NULL && (shorts == NULL || n_ctx > r->n_ctx_orig);
    const struct tl_tensor *t = use_long ? longs : shorts;
    if (t == NULL) {
        t = tl_weights_find_tensor(w, "rope_freqs.weight");
    }
    if (t == NULL) {
        return TL_OK;
    }
    if (t->n_dims != 1 || t->dims[0] != s->n_rot / 2 || tl_dtype_info(t->dtype)->block_elems != 1) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT, "%s: %.*s: expected %u rotary factors",
                       tl_weights_path(w), (int)t->name.len, t->name.data, s->n_rot / 2);
    }
    tl_decode_row(t->dtype, t->data, r->divisors, t->dims[0]);
    for (uint32_t j = 0; j < s->n_rot / 2; j++) {
        if (!(r->divisors[j] > 0) || isinf(r->divisors[j])) {
            return tl_fail(tl_weights_log(w), TL_ERR_FORMAT,
                           "%s: %.*s: a rotary factor is not positive", tl_weights_path(w),
                           (int)t->name.len, t->name.data);
        }
    }
    return TL_OK;
}

static tl_err read_rope(const tl_weights *w, struct tl_shape *s, uint32_t n_ctx) {
    struct rope_scaling r = {.base = 10000,
                             .attn_factor = 1,
                             .ext_factor = 1,
                             .beta_fast = 32,
                             .beta_slow = 1,
                             .n_ctx_orig = s->n_ctx_train};
    TL_TRY(read_f32(w, s, "rope.freq_base", &r.base));
    r.base_local = s->family->local_rope_base > 0 ? s->family->local_rope_base : r.base;
    TL_TRY(read_f32(w, s, "rope.freq_base_swa", &r.base_local));
    TL_TRY(read_u32(w, s, "rope.scaling.original_context_length", TL_OPTIONAL, &r.n_ctx_orig));
    TL_TRY(read_f32(w, s, "rope.scaling.attn_factor", &r.attn_factor));
    /* Constructed models have bases near the largest float: keys that hardly turn. */
    const bool bases_ok =
        r.base > 0 && r.base_local > 0 && isfinite(r.base) && isfinite(r.base_local);
    if (!bases_ok || r.n_ctx_orig == 0 || !(r.attn_factor > 0 && r.attn_factor < 100)) {
        return tl_fail(tl_weights_log(w), TL_ERR_FORMAT,
                       "%s: rotary base or scaling is out of range", tl_weights_path(w));
    }
    TL_TRY(read_scaling_type(w, s, &r));
    TL_TRY(read_divisors(w, s, n_ctx != 0 ? n_ctx : s->n_ctx_train, &r));
    fill_table(&s->rope, s, &r, (double)r.base);
    if (s->family->local_rope_base > 0) {
        r.freq_scale = 1; /* only layers that see everything are stretched */
        r.attn_factor = 1;
        r.yarn = false;
    }
    fill_table(&s->rope_local, s, &r, (double)r.base_local);
    return TL_OK;
}

tl_err tl_shape_read(const tl_weights *w, uint32_t n_ctx, struct tl_shape *out) {
    struct tl_shape shape = {0};
    TL_TRY(read_family(w, &shape));
    tl_str name = {0};
    TL_TRY(tl_meta_get_str(w, "general.name", TL_OPTIONAL, &name));
    tl_text_copy(shape.name, sizeof shape.name, name);
    TL_TRY(read_sizes(w, &shape));
    TL_TRY(read_head_dim(w, &shape));
    TL_TRY(read_scalars(w, &shape));
    TL_TRY(read_windows(w, &shape));
    TL_TRY(read_rope(w, &shape, n_ctx));
    *out = shape;
    return TL_OK;
}
