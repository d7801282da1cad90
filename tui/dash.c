/* The model behind the dashboard: history by sampling, order of the table, selection. A sample of
 * what crossed the link is the mean per step since the sample before, since steps may be faster
 * than anybody looks. */
#include "dash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INTERVAL_MS = 500 };

tl_err tui_dash_init(tui_dash *d) {
    *d = (tui_dash){.interval_ms = INTERVAL_MS};
    d->before = calloc(TL_STATS_LAYERS_MAX, sizeof *d->before);
    d->moved = calloc(TL_STATS_LAYERS_MAX, sizeof *d->moved);
    if (d->before == NULL || d->moved == NULL) {
        tui_dash_free(d);
        return TL_ERR_MEMORY;
    }
    const double unknown = (double)NAN;
    d->device = (struct tui_device){"", unknown, unknown, unknown, unknown, unknown};
    return TL_OK;
}

void tui_dash_free(tui_dash *d) {
    free(d->before);
    free(d->moved);
    *d = (tui_dash){0};
}

void tui_dash_forget(tui_dash *d) {
    d->known = false;
    d->rate.n = 0;
    d->sampled_ns = 0;
    memset(d->moved, 0, TL_STATS_LAYERS_MAX * sizeof *d->moved);
}

static void add_sample(struct tui_series *s, float value) {
    if (s->n == TUI_HISTORY) {
        memmove(s->values, s->values + 1, (TUI_HISTORY - 1) * sizeof s->values[0]);
        s->n--;
    }
    s->values[s->n++] = value;
}

/* Bytes over the link, both ways. */
static uint64_t moved(const struct tl_traffic *t) {
    return t->host_to_device_bytes + t->device_to_host_bytes;
}

static void sample(tui_dash *d, uint64_t now_ns) {
    const uint64_t n_steps = d->now.n_answer_tokens - d->n_tokens_before;
    const double seconds = (double)(now_ns - d->sampled_ns) / 1e9;
    const bool first = d->sampled_ns == 0;
    add_sample(&d->rate, first ? NAN : (float)((double)n_steps / seconds));
    for (uint32_t il = 0; il < d->now.n_layers_shown; il++) {
        const struct tl_traffic *const now = &d->now.layers[il].total;
        const uint64_t bytes = moved(now) - moved(&d->before[il].total);
        const bool reset = moved(now) < moved(&d->before[il].total); /* a session began anew */
        const float mean = n_steps == 0 || first || reset ? NAN : (float)bytes / (float)n_steps;
        add_sample(&d->moved[il], n_steps == 0 && !first && !reset ? 0 : mean);
        d->before[il] = d->now.layers[il];
    }
    d->n_tokens_before = d->now.n_answer_tokens;
    d->sampled_ns = now_ns;
}

void tui_dash_update(tui_dash *d, const struct tl_stats *stats, uint64_t now_ns) {
    if (d->paused) {
        return;
    }
    if (d->known && (stats->pid != d->now.pid || stats->n_layers != d->now.n_layers)) {
        tui_dash_forget(d);
    }
    d->now = *stats;
    d->known = true;
    if (now_ns - d->sampled_ns >= (uint64_t)d->interval_ms * 1000000) {
        sample(d, now_ns);
    }
    if (d->selected >= d->now.n_layers_shown) {
        d->selected = d->now.n_layers_shown > 0 ? d->now.n_layers_shown - 1 : 0;
    }
}

uint32_t tui_dash_watches(const tui_dash *d) {
    uint32_t il = d->selected;
    if (il < d->now.n_layers_shown && d->now.layers[il].topk > 0) {
        return il;
    }
    for (il = 0; il < d->now.n_layers_shown; il++) {
        if (d->now.layers[il].topk > 0) {
            return il;
        }
    }
    return UINT32_MAX;
}

double tui_hit_rate(const struct tl_traffic *t) {
    const uint64_t rows = t->rows_hit + t->rows_fetched;
    return rows > 0 ? (double)t->rows_hit / (double)rows : (double)NAN;
}

const char *tui_sort_name(tui_sort sort) {
    static const char *const names[] = {"layer", "policy", "tiers", "device",
                                        "host",  "step",   "hit",   "history"};
    return names[sort];
}

static double sort_value(const tui_dash *d, uint32_t il) {
    const struct tl_stats_layer *const l = &d->now.layers[il];
    const double hit = tui_hit_rate(&l->total);
    switch (d->sort) {
    case TUI_SORT_BYTES:
        return (double)(tl_kv_device_bytes(&l->held) + l->held.home_host);
    case TUI_SORT_DEVICE:
        return (double)tl_kv_device_bytes(&l->held);
    case TUI_SORT_HOST:
        return (double)l->held.home_host;
    case TUI_SORT_STEP:
        return (double)moved(&l->step);
    case TUI_SORT_HIT:
        return isnan(hit) ? -1 : hit;
    case TUI_SORT_MOVED:
        return (double)moved(&l->total);
    case TUI_SORT_LAYER:
    case TUI_SORT_POLICY:
    case TUI_SORT_COUNT:
        break;
    }
    return (double)il;
}

/* True where layer b, which has the smaller number, stays before layer a. */
static bool stays_before(const tui_dash *d, uint32_t b, uint32_t a) {
    if (d->sort == TUI_SORT_POLICY) {
        const int order = strcmp(d->now.layers[b].policy, d->now.layers[a].policy);
        return d->descending ? order >= 0 : order <= 0;
    }
    const double value_b = sort_value(d, b), value_a = sort_value(d, a);
    return d->descending ? value_b >= value_a : value_b <= value_a;
}

void tui_dash_order(const tui_dash *d, uint32_t *order) {
    const uint32_t n = d->now.n_layers_shown;
    for (uint32_t i = 0; i < n; i++) { /* by insertion: 256 at the most, and nearly in order */
        uint32_t at = i;
        for (; at > 0 && !stays_before(d, order[at - 1], i); at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
}

void tui_dash_move(tui_dash *d, int32_t rows) {
    uint32_t order[TL_STATS_LAYERS_MAX];
    const int32_t n = (int32_t)d->now.n_layers_shown;
    if (n == 0) {
        return;
    }
    tui_dash_order(d, order);
    int32_t at = 0;
    while (at + 1 < n && order[at] != d->selected) {
        at++;
    }
    at += rows;
    d->selected = order[at < 0 ? 0 : at >= n ? n - 1 : at];
}

const char *tui_bytes(double bytes, char *text) {
    static const char units[] = "BKMGTP";
    size_t unit = 0;
    if (isnan(bytes)) {
        snprintf(text, 16, "N/A");
        return text;
    }
    while (bytes >= 1024 && unit + 2 < sizeof units) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, 16, unit == 0 || bytes >= 100 ? "%.0f%c" : "%.1f%c", bytes, units[unit]);
    return text;
}

/* "40 s", "12 min", "3.5 h"; text must hold 16 bytes. */
static const char *spell_seconds(double seconds, char *text) {
    if (seconds < 100) {
        snprintf(text, 16, "%.0f s", seconds);
    } else if (seconds < 6000) {
        snprintf(text, 16, "%.0f min", seconds / 60);
    } else {
        snprintf(text, 16, seconds < 3.6e6 ? "%.1f h" : "days", seconds / 3600);
    }
    return text;
}

enum { ACTIVITY_CAP = 96 };

/* done of all units since `ns` ago. */
struct progress {
    const char *verb;
    double done, all, ns;
    bool bytes;
};

static void spell_progress(const struct progress *p, bool brief, char *text) {
    char left[16], number[3][16];
    const double rate = p->ns > 0 ? p->done * 1e9 / p->ns : 0;
    const bool known = rate > 0 && p->all > 0;
    spell_seconds(known ? (p->all - p->done) / rate : 0, left);
    if (p->all <= 0) {
        snprintf(text, ACTIVITY_CAP, "%s", p->verb);
    } else if (brief) {
        snprintf(text, ACTIVITY_CAP, "%s %.0f%%%s%s", p->verb, 100 * p->done / p->all,
                 known ? " " : "", known ? left : "");
    } else if (p->bytes) {
        snprintf(text, ACTIVITY_CAP, "%s %s of %s%s%s%s%s%s", p->verb,
                 tui_bytes(p->done, number[0]), tui_bytes(p->all, number[1]), known ? ", " : "",
                 known ? tui_bytes(rate, number[2]) : "", known ? "/s, " : "", known ? left : "",
                 known ? " left" : "");
    } else if (known) {
        snprintf(text, ACTIVITY_CAP, "%s %.0f of %.0f tokens, %.0f/s, %s left", p->verb, p->done,
                 p->all, rate, left);
    } else {
        snprintf(text, ACTIVITY_CAP, "%s %.0f tokens, %s", p->verb, p->all,
                 spell_seconds(p->ns / 1e9, number[0]));
    }
}

static void spell_activity(const struct tl_stats *s, uint64_t now_ns, bool brief, char *text) {
    const bool loading = s->activity == TL_ACTIVITY_LOADING;
    if (loading || s->activity == TL_ACTIVITY_PROMPT) {
        const uint64_t begin = loading ? s->load_begin_ns : s->prompt_begin_ns;
        const uint64_t end = loading || s->prompt_done == 0 ? now_ns : s->prompt_end_ns;
        const struct progress p = {.verb = loading ? "loading" : "reading",
                                   .done = (double)(loading ? s->load_done_bytes : s->prompt_done),
                                   .all = (double)(loading ? s->load_bytes : s->prompt_total),
                                   .ns = end > begin ? (double)(end - begin) : 0,
                                   .bytes = loading};
        spell_progress(&p, brief, text);
        return;
    }
    const bool answering = s->activity == TL_ACTIVITY_ANSWER;
    const char *const verb = answering ? "answering" : "ready";
    if (isnan(s->tokens_per_s)) {
        snprintf(text, ACTIVITY_CAP, "%s", answering ? "working" : verb);
    } else {
        snprintf(text, ACTIVITY_CAP, brief ? "%s %.1f/s" : "%s, %.1f tokens/s", verb,
                 s->tokens_per_s);
    }
}

const char *tui_activity(const struct tl_stats *s, uint64_t now_ns, int32_t cols, char *text) {
    spell_activity(s, now_ns, false, text);
    if ((int32_t)strlen(text) > cols) {
        spell_activity(s, now_ns, true, text);
    }
    return text;
}
