#include "eval_score.h"

#include <math.h>
#include <stdlib.h>

void cli_log_softmax(const float *logits, uint32_t n, double *log_p) {
    double max = -HUGE_VAL, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        max = (double)logits[i] > max ? (double)logits[i] : max;
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - max);
    }
    const double log_sum = max + log(sum);
    for (uint32_t i = 0; i < n; i++) {
        log_p[i] = (double)logits[i] - log_sum;
    }
}

void cli_kld_free(struct cli_kld *k) {
    free(k->kl);
    *k = (struct cli_kld){0};
}

static uint32_t likeliest(const double *log_p, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = log_p[i] > log_p[best] ? i : best;
    }
    return best;
}

tl_err cli_kld_add(struct cli_kld *k, const double *exact, const double *tested, uint32_t n,
                   uint32_t next) {
    if (k->n == k->cap) {
        const size_t cap = k->cap == 0 ? 1024 : 2 * k->cap;
        double *const grown = realloc(k->kl, cap * sizeof *grown);
        if (grown == NULL) {
            return TL_ERR_MEMORY;
        }
        k->kl = grown;
        k->cap = cap;
    }
    double kl = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double p = exp(exact[i]);
        kl += p > 0 ? p * (exact[i] - tested[i]) : 0; /* 0 log 0 is 0 */
    }
    kl = kl < 0 ? 0 : kl; /* rounding: it is none */
    k->kl[k->n++] = kl;
    k->kl_sum += kl;
    k->difference_sum += fabs(exp(exact[next]) - exp(tested[next]));
    k->n_same += likeliest(exact, n) == likeliest(tested, n);
    return TL_OK;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct cli_kld_report cli_kld_report(struct cli_kld *k) {
    const double n = (double)k->n;
    qsort(k->kl, k->n, sizeof *k->kl, by_value);
    return (struct cli_kld_report){.mean = k->kl_sum / n,
                                   .p99 = k->kl[(k->n * 99 + 99) / 100 - 1], /* nearest rank */
                                   .max = k->kl[k->n - 1],
                                   .top1 = (double)k->n_same / n,
                                   .difference = k->difference_sum / n};
}
