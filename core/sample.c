/* Sampling. One candidate list is kept for the life of the sampler. Only as much of it is ordered
 * as the filters need: it is a max-heap from which the most likely tokens are popped until top-k or
 * top-p is satisfied, so a vocabulary of 256k costs one linear pass and a few pops, not a sort.
 * Ties in a heap order by the lower id, which makes the result a pure function of its inputs. */
#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float logit;
    uint32_t id;
};

struct tl_sampler {
    struct tl_sampler_params params;
    struct candidate *heap; /* owned, n_vocab */
    struct candidate *kept; /* owned, n_vocab: popped candidates, best first */
    float *penalised;       /* owned, n_vocab */
    uint32_t n_vocab;
    uint64_t rng;
};

tl_err tl_sampler_open(tl_sampler **out, const struct tl_sampler_params *params, uint32_t n_vocab) {
    TL_ASSERT(n_vocab > 0);
    tl_sampler *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    s->params = *params;
    s->n_vocab = n_vocab;
    s->rng = params->seed;
    s->heap = calloc(n_vocab, sizeof *s->heap);
    s->kept = calloc(n_vocab, sizeof *s->kept);
    s->penalised = calloc(n_vocab, sizeof *s->penalised);
    if (s->heap == NULL || s->kept == NULL || s->penalised == NULL) {
        tl_sampler_close(&s);
        return TL_ERR_MEMORY;
    }
    *out = s;
    return TL_OK;
}

void tl_sampler_close(tl_sampler **s) {
    if (*s == NULL) {
        return;
    }
    free((*s)->heap);
    free((*s)->kept);
    free((*s)->penalised);
    free(*s);
    *s = NULL;
}

uint64_t tl_sampler_state(const tl_sampler *s) { return s->rng; }
void tl_sampler_set_state(tl_sampler *s, uint64_t state) { s->rng = state; }

/* splitmix64: 53 random bits as a double in [0, 1). */
static double next_uniform(tl_sampler *s) {
    s->rng += 0x9E3779B97F4A7C15u;
    uint64_t z = s->rng;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static bool better(struct candidate a, struct candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct candidate *heap, uint32_t n, uint32_t i) {
    const struct candidate moved = heap[i];
    for (uint32_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && better(heap[child + 1], heap[child])) {
            child++;
        }
        if (!better(heap[child], moved)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static struct candidate pop(struct candidate *heap, uint32_t *n) {
    const struct candidate best = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) {
        sift_down(heap, *n, 0);
    }
    return best;
}

/* Each token counts once, however often it occurs. */
static const float *penalise(tl_sampler *s, const float *logits, const uint32_t *ids,
                             size_t n_ids) {
    const float penalty = s->params.repeat_penalty;
    const size_t last = s->params.repeat_last;
    if (penalty == 1.0f || last == 0 || n_ids == 0) {
        return logits;
    }
    memcpy(s->penalised, logits, s->n_vocab * sizeof *logits);
    for (size_t i = n_ids > last ? n_ids - last : 0; i < n_ids; i++) {
        const uint32_t id = ids[i];
        if (id < s->n_vocab) {
            const float x = logits[id];
            s->penalised[id] = x > 0 ? x / penalty : x * penalty;
        }
    }
    return s->penalised;
}

static uint32_t greedy(const float *logits, uint32_t n) {
    uint32_t best = 0;
    float best_logit = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (logits[i] > best_logit) {
            best_logit = logits[i];
            best = i;
        }
    }
    return best;
}

/* Pops candidates, best first, until the filters are satisfied; returns how many were kept. */
static uint32_t keep_best(tl_sampler *s, uint32_t n, double total, float max_logit) {
    const struct tl_sampler_params *p = &s->params;
    const uint32_t k = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    double total_k = total;
    if (k < n && p->top_p < 1.0f) {
        /* top-p is a share of what top-k left. */
        total_k = 0;
        uint32_t left = n;
        for (uint32_t i = 0; i < k; i++) {
            s->kept[i] = pop(s->heap, &left);
            total_k += exp((double)s->kept[i].logit - (double)max_logit);
        }
    }
    const bool popped = k < n && p->top_p < 1.0f;
    uint32_t left = n, n_kept = 0;
    double mass = 0;
    while (n_kept < k) {
        const struct candidate c = popped ? s->kept[n_kept] : pop(s->heap, &left);
        const double weight = exp((double)c.logit - (double)max_logit);
        if (n_kept > 0 && weight < (double)p->min_p) {
            break;
        }
        s->kept[n_kept++] = c;
        mass += weight;
        if (p->top_p < 1.0f && mass >= (double)p->top_p * total_k) {
            break;
        }
    }
    return n_kept;
}

uint32_t tl_sampler_next(tl_sampler *s, const float *raw_logits, const uint32_t *ids,
                         size_t n_ids) {
    const float *const logits = penalise(s, raw_logits, ids, n_ids);
    if (!(s->params.temp > 0)) {
        return greedy(logits, s->n_vocab);
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (!isnan(logits[i]) && logits[i] > -INFINITY) {
            s->heap[n++] = (struct candidate){logits[i], i};
        }
    }
    if (n == 0) {
        return 0;
    }
    for (uint32_t i = n / 2; i-- > 0;) {
        sift_down(s->heap, n, i);
    }
    const float max_logit = s->heap[0].logit;
    if (max_logit == INFINITY) {
        return s->heap[0].id;
    }
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += exp((double)s->heap[i].logit - (double)max_logit);
    }
    const uint32_t n_kept = keep_best(s, n, total, max_logit);
    double sum = 0;
    for (uint32_t i = 0; i < n_kept; i++) {
        sum += exp(((double)s->kept[i].logit - (double)max_logit) / (double)s->params.temp);
    }
    double at = next_uniform(s) * sum;
    for (uint32_t i = 0; i + 1 < n_kept; i++) {
        at -= exp(((double)s->kept[i].logit - (double)max_logit) / (double)s->params.temp);
        if (at < 0) {
            return s->kept[i].id;
        }
    }
    return s->kept[n_kept - 1].id;
}
