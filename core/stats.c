/* Filling and handing over tl_stats. The page is a seqlock over words: the writer makes seq odd,
 * stores the words, makes it even; a reader that saw the same even seq before and after its loads
 * has a whole struct. Words are relaxed atomics so that the race is a defined one, on one machine
 * and under the thread sanitizer; the fences order them against seq. Only the words in use are
 * copied: 30 layers are 9 KiB. */
#include "stats.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { READ_TRIES = 1000 };
static const uint64_t watch_ns_max = 2000000000;

struct tl_stats_page {
    _Atomic uint64_t seq;         /* odd while the words are being written */
    _Atomic uint64_t watch_ns;    /* the reader's: when somebody wanted ... */
    _Atomic uint32_t watch_layer; /* ... this layer's selection */
    _Atomic uint64_t words[(sizeof(struct tl_stats) + 7) / 8];
};

size_t tl_stats_page_bytes(void) { return sizeof(struct tl_stats_page); }

size_t tl_stats_bytes(const struct tl_stats *stats) {
    const uint32_t n = stats->n_layers_shown;
    return offsetof(struct tl_stats, layers) +
           (n < TL_STATS_LAYERS_MAX ? n : TL_STATS_LAYERS_MAX) * sizeof stats->layers[0];
}

static void add_words(char *out, size_t cap, const char *words) {
    const size_t n = strlen(out);
    snprintf(out + n, cap - n, "%s%s", n > 0 ? ", " : "", words);
}

/* "exact, host", or what is attended, how it is compressed, where its exact rows are: what tells
 * layers apart comes first, since a narrow table shows no more. */
static void spell_policy(const struct tl_policy *p, char *out, size_t cap) {
    char words[48], number[16];
    out[0] = '\0';
    if (p->select == TL_SELECT_ALL) {
        add_words(out, cap, "exact");
    }
    if (p->select == TL_SELECT_TOPK) {
        const char *const index = tl_policy_get(p, "index", number, sizeof number);
        snprintf(words, sizeof words, "top %u by %s", p->topk, index != NULL ? index : "codes");
        add_words(out, cap, words);
    }
    if (p->k_codec != TL_CODEC_NONE) {
        snprintf(words, sizeof words, "%s/%s", tl_codec_names[p->k_codec],
                 tl_codec_names[p->v_codec]);
        add_words(out, cap, words);
    }
    if (p->home != TL_HOME_NONE) {
        add_words(out, cap, tl_home_names[p->home]);
    }
    if (p->select != TL_SELECT_ALL) {
        snprintf(words, sizeof words, "window %u+%u", p->sink, p->recent);
        add_words(out, cap, words);
        if (p->rest == TL_REST_DROP && p->select == TL_SELECT_TOPK) {
            add_words(out, cap, "rest dropped");
        }
    }
}

static struct tl_traffic since(const struct tl_traffic *now, const struct tl_traffic *then) {
    return (struct tl_traffic){
        .host_to_device_bytes = now->host_to_device_bytes - then->host_to_device_bytes,
        .device_to_host_bytes = now->device_to_host_bytes - then->device_to_host_bytes,
        .rows_hit = now->rows_hit - then->rows_hit,
        .rows_fetched = now->rows_fetched - then->rows_fetched,
    };
}

static void update_layer(struct tl_stats_layer *out, const struct tl_shape *shape,
                         const tl_session *s, uint32_t il) {
    const uint32_t n = tl_session_n(s);
    struct tl_policy policy;
    tl_session_get_layer(s, il, &policy, &out->room);
    const struct tl_traffic total = tl_session_layer_traffic(s, il);
    out->held = n > 0 ? tl_kv_layer_bytes(shape, il, &policy, n) : (struct tl_kv_bytes){0};
    out->held.hot = out->room.hot;
    const struct tl_gauge *const gauge = tl_session_gauge(s, il);
    const bool looked = gauge != NULL && gauge->n > 0;
    out->gauge_n = looked ? gauge->n : 0;
    out->gauge_mass = looked ? gauge->mass_mean : (double)NAN;
    out->gauge_error = looked ? gauge->error_mean : (double)NAN;
    out->step = since(&total, &out->total);
    out->total = total;
}

void tl_stats_update(struct tl_stats *stats, const tl_engine *e, const tl_session *s) {
    stats->ctx_used = tl_session_n(s);
    for (uint32_t il = 0; il < stats->n_layers_shown; il++) {
        update_layer(&stats->layers[il], &tl_engine_model(e)->shape, s, il);
    }
}

void tl_stats_describe_layers(struct tl_stats *stats, const tl_engine *e, const tl_session *s) {
    for (uint32_t il = 0; il < stats->n_layers_shown; il++) {
        struct tl_stats_layer *const layer = &stats->layers[il];
        const struct tl_identity *const identity = tl_session_identity(s, il);
        struct tl_policy policy;
        tl_session_get_layer(s, il, &policy, &layer->room);
        spell_policy(&policy, layer->policy, sizeof layer->policy);
        layer->topk = policy.select == TL_SELECT_TOPK ? policy.topk : 0;
        layer->dense_score = identity != NULL ? identity->score : (double)NAN;
    }
    tl_stats_update(stats, e, s);
    for (uint32_t il = 0; il < stats->n_layers_shown; il++) {
        stats->layers[il].step = (struct tl_traffic){0}; /* a prompt is no step */
    }
}

void tl_stats_describe(struct tl_stats *stats, const tl_engine *e, const tl_session *s,
                       const char *kv) {
    const struct tl_shape *const shape = &tl_engine_model(e)->shape;
    const struct tl_memory_plan *const plan = tl_session_plan(s);
    struct tl_dev_caps caps;
    tl_engine_caps(e, &caps);
    stats->version = TL_STATS_VERSION;
    stats->size = sizeof *stats;
    const char *const path = tl_weights_path(tl_engine_weights(e));
    const char *const slash = strrchr(path, '/');
    tl_text_copy(stats->model, sizeof stats->model,
                 tl_str_from(shape->name[0] != '\0' ? shape->name
                             : slash != NULL        ? slash + 1
                                                    : path));
    snprintf(stats->family, sizeof stats->family, "%s", shape->family->name);
    snprintf(stats->backend, sizeof stats->backend, "%s", tl_engine_backend(e));
    snprintf(stats->device, sizeof stats->device, "%s", caps.name);
    snprintf(stats->kernels, sizeof stats->kernels, "%s", caps.kernels);
    tl_text_copy(stats->kv, sizeof stats->kv, tl_str_from(kv));
    stats->unified = caps.unified;
    stats->n_layers = shape->n_layers;
    stats->n_layers_shown = (uint32_t)tl_min_u64(shape->n_layers, TL_STATS_LAYERS_MAX);
    stats->ctx_cap = tl_session_ctx(s);
    stats->weights_bytes = plan->weights;
    stats->scratch_bytes = plan->scratch;
    stats->device_bytes = plan->device;
    stats->host_bytes = plan->host;
    stats->heat_layer = UINT32_MAX;
    stats->tokens_per_s = (double)NAN;
    stats->times_known = 0;
    memset(stats->layers, 0, sizeof stats->layers);
    tl_stats_describe_layers(stats, e, s);
}

void tl_stats_add_step(struct tl_stats *stats, const uint64_t time_ns[TL_TIME_COUNT],
                       uint32_t times_known) {
    const double newest = 0.1; /* weight of a step: the rate is that of the last ten or so */
    memcpy(stats->time_ns, time_ns, sizeof stats->time_ns);
    stats->times_known = times_known;
    const uint64_t ns = time_ns[TL_TIME_STEP] + time_ns[TL_TIME_SAMPLE];
    const double step_s = (double)(ns > 0 ? ns : 1) / 1e9;
    const double mean_s = isnan(stats->tokens_per_s) ? step_s : 1 / stats->tokens_per_s;
    stats->tokens_per_s = 1 / (mean_s + newest * (step_s - mean_s));
    stats->n_answer_tokens++;
    stats->answer_ns += ns;
    tl_hist_add(&stats->hists[TL_HIST_TOKEN], TL_HIST_TOKEN, step_s);
}

void tl_stats_add_heat(struct tl_stats *stats, uint32_t il, const int32_t *rows, uint32_t n) {
    stats->heat_layer = n > 0 ? il : UINT32_MAX;
    memset(stats->heat, 0, sizeof stats->heat);
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i] >= 0 && (uint32_t)rows[i] < stats->ctx_used) {
            const uint64_t place = (uint64_t)rows[i] * TL_STATS_HEAT / stats->ctx_used;
            stats->heat[place] = (uint16_t)(stats->heat[place] + (stats->heat[place] < UINT16_MAX));
        }
    }
}

void tl_stats_watch(tl_stats_page *page, uint32_t il, uint64_t now_ns) {
    atomic_store_explicit(&page->watch_layer, il, memory_order_relaxed);
    atomic_store_explicit(&page->watch_ns, now_ns, memory_order_release);
}

bool tl_stats_watched(const tl_stats_page *page, uint64_t now_ns, uint32_t *il) {
    const uint64_t at = atomic_load_explicit(&page->watch_ns, memory_order_acquire);
    *il = atomic_load_explicit(&page->watch_layer, memory_order_relaxed);
    return at != 0 && at + watch_ns_max > now_ns;
}

void tl_stats_publish(tl_stats_page *page, const struct tl_stats *stats) {
    const uint64_t seq = atomic_load_explicit(&page->seq, memory_order_relaxed);
    const unsigned char *const bytes = (const unsigned char *)stats;
    const size_t n = tl_stats_bytes(stats);
    atomic_store_explicit(&page->seq, seq + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; 8 * i < n; i++) {
        uint64_t word = 0;
        memcpy(&word, bytes + 8 * i, n - 8 * i < 8 ? n - 8 * i : 8);
        atomic_store_explicit(&page->words[i], word, memory_order_relaxed);
    }
    atomic_store_explicit(&page->seq, seq + 2, memory_order_release);
}

static void load_words(const tl_stats_page *page, unsigned char *out, size_t from, size_t to) {
    for (size_t i = from / 8; 8 * i < to; i++) {
        const uint64_t word = atomic_load_explicit(&page->words[i], memory_order_relaxed);
        memcpy(out + 8 * i, &word, to - 8 * i < 8 ? to - 8 * i : 8);
    }
}

bool tl_stats_read(const tl_stats_page *page, struct tl_stats *out, uint64_t *seq) {
    for (int i = 0; i < READ_TRIES; i++) {
        const uint64_t before = atomic_load_explicit(&page->seq, memory_order_acquire);
        if (before == 0) {
            return false;
        }
        const size_t head = offsetof(struct tl_stats, layers);
        load_words(page, (unsigned char *)out, 0, head);
        if (out->n_layers_shown <= TL_STATS_LAYERS_MAX) {
            load_words(page, (unsigned char *)out, head - head % 8, tl_stats_bytes(out));
        }
        atomic_thread_fence(memory_order_acquire);
        const uint64_t after = atomic_load_explicit(&page->seq, memory_order_relaxed);
        if (before == after && before % 2 == 0) {
            if (seq != NULL) {
                *seq = after;
            }
            return out->version == TL_STATS_VERSION && out->size == sizeof *out &&
                   out->n_layers_shown <= TL_STATS_LAYERS_MAX;
        }
    }
    return false;
}
