/* The plan of a session that is open, for people: where every byte is and which kernels work on it.
 * Lines are at most 36 columns wide where they are tables, so that they stand in 40. */
#include "load.h"

#include <string.h>

enum { TYPES_CAP = 48 };

/* A part of the weights: its bytes and the types of its matrices. */
struct part {
    uint64_t bytes;
    char types[TYPES_CAP];
};

static void add_view(struct part *p, const tl_view *v) {
    if (v->buf == NULL) {
        return;
    }
    p->bytes += v->rows * tl_row_bytes(v->dtype, v->cols);
    const char *const name = tl_dtype_info(v->dtype)->name;
    const size_t n = strlen(name), used = strlen(p->types);
    const char *const at = strstr(p->types, name);
    const bool listed = at != NULL && (at[n] == ' ' || at[n] == '\0');
    if (v->rows > 1 && !listed && used + n + 2 < TYPES_CAP) {
        snprintf(p->types + used, TYPES_CAP - used, "%s%s", used > 0 ? " " : "", name);
    }
}

static void add_layer(const struct tl_layer *l, struct part *attention, struct part *feed) {
    const tl_view *const of_attention[] = {&l->attn_norm, &l->wq, &l->wk, &l->wv,
                                           &l->bq,        &l->bk, &l->bv, &l->q_norm,
                                           &l->k_norm,    &l->wo, &l->bo, &l->attn_post_norm};
    const tl_view *const of_feed[] = {&l->ffn_norm, &l->gate, &l->up,     &l->b_gate,
                                      &l->b_up,     &l->down, &l->b_down, &l->ffn_post_norm};
    for (size_t i = 0; i < sizeof of_attention / sizeof of_attention[0]; i++) {
        add_view(attention, of_attention[i]);
    }
    for (size_t i = 0; i < sizeof of_feed / sizeof of_feed[0]; i++) {
        add_view(feed, of_feed[i]);
    }
}

static tl_err add_part(tl_bytes *out, const char *name, const struct part *p, const char *kernels) {
    char line[192], bytes[16];
    snprintf(line, sizeof line, "%-12s %10s  %s: %s\n", name, cli_bytes(p->bytes, bytes), p->types,
             kernels);
    return tl_bytes_add_str(out, line);
}

/* What the layers' rows are stored as: "f16 int2". */
static void cache_types(const struct cli_loaded *loaded, struct part *p) {
    const uint32_t n_layers = tl_engine_model(loaded->engine)->shape.n_layers;
    bool seen[TL_CODEC_COUNT] = {false};
    p->bytes = tl_kv_device_bytes(&tl_session_plan(loaded->session)->kv);
    for (uint32_t il = 0; il < n_layers; il++) {
        struct tl_policy policy;
        struct tl_kv_bytes bytes;
        tl_session_get_layer(loaded->session, il, &policy, &bytes);
        seen[policy.k_codec] = seen[policy.v_codec] = true;
    }
    snprintf(p->types, sizeof p->types, "f16");
    for (size_t c = 0; c < TL_CODEC_COUNT; c++) {
        const size_t used = strlen(p->types);
        if (seen[c] && c != TL_CODEC_NONE && used + 16 < sizeof p->types) {
            snprintf(p->types + used, sizeof p->types - used, " %s", tl_codec_names[c]);
        }
    }
}

static tl_err spell_parts(const struct cli_loaded *loaded, tl_bytes *out) {
    const tl_model *const m = tl_engine_model(loaded->engine);
    struct part embedding = {0}, attention = {0}, feed = {0}, output = {0}, cache = {0};
    struct tl_dev_caps caps;
    tl_engine_caps(loaded->engine, &caps);
    add_view(&embedding, &m->embd);
    for (uint32_t il = 0; il < m->shape.n_layers; il++) {
        add_layer(&m->layers[il], &attention, &feed);
    }
    const bool tied = m->output.buf == m->embd.buf;
    add_view(&output, &m->output);
    output.bytes = tied ? 0 : output.bytes;
    add_view(&output, &m->output_norm);
    add_view(&output, &m->output_bias);
    cache_types(loaded, &cache);
    TL_TRY(tl_bytes_add_str(out, "\npart               size  types: kernels\n"));
    TL_TRY(add_part(out, "embedding", &embedding, caps.kernels));
    TL_TRY(add_part(out, "attention", &attention, caps.kernels));
    TL_TRY(add_part(out, "feed forward", &feed, caps.kernels));
    TL_TRY(add_part(out, tied ? "output, tied" : "output", &output, caps.kernels));
    return add_part(out, "cache", &cache, caps.kernels);
}

static tl_err add_tier(tl_bytes *out, const char *name, uint64_t device, uint64_t host) {
    char line[64], bytes[2][16];
    if (device == 0 && host == 0) {
        return TL_OK;
    }
    snprintf(line, sizeof line, "%-14s %10s %10s\n", name, cli_bytes(device, bytes[0]),
             cli_bytes(host, bytes[1]));
    return tl_bytes_add_str(out, line);
}

tl_err cli_spell_tiers(const struct cli_loaded *loaded, tl_bytes *out) {
    const struct tl_memory_plan *const m = tl_session_plan(loaded->session);
    TL_TRY(spell_parts(loaded, out));
    TL_TRY(tl_bytes_add_str(out, "\nmemory             device       host\n"));
    TL_TRY(add_tier(out, "weights", m->weights, m->load));
    TL_TRY(add_tier(out, "window", m->kv.window, 0));
    TL_TRY(add_tier(out, "sketch", m->kv.sketch, 0));
    TL_TRY(add_tier(out, "index", m->kv.index, 0));
    TL_TRY(add_tier(out, "hot set", m->kv.hot, 0));
    TL_TRY(add_tier(out, "exact rows", m->kv.home_device, m->kv.home_host));
    TL_TRY(add_tier(out, "scratch", m->scratch, m->host_scratch));
    TL_TRY(add_tier(out, "for prompts", m->stage + m->change, m->hidden));
    TL_TRY(add_tier(out, "peak", m->device, m->host));
    return tl_bytes_add_str(out, "disk: N/A, no rows are kept there\n\n");
}
