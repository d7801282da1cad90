/* How far two models' opinions about the next token are apart, token by token. */
#ifndef TL_CLI_EVAL_SCORE_H
#define TL_CLI_EVAL_SCORE_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* log_p (n) := the logarithms of the probabilities that logits (n) stand for, in double. */
void cli_log_softmax(const float *logits, uint32_t n, double *log_p);

/* Sums over tokens. Zero-initialise. */
struct cli_kld {
    double *kl; /* owned: of each token, in nats; the order is lost by cli_kld_report */
    size_t n, cap;
    double kl_sum, difference_sum;
    size_t n_same; /* tokens with the same likeliest next one */
};
void cli_kld_free(struct cli_kld *k);

/* One token: exact (n) and tested (n) are logarithms of probabilities, `next` is the token that
 * followed in the text. Only TL_ERR_MEMORY. */
TL_MUST tl_err cli_kld_add(struct cli_kld *k, const double *exact, const double *tested, uint32_t n,
                           uint32_t next);

struct cli_kld_report {
    double mean, p99, max; /* Kullback-Leibler divergence of tested from exact, nats */
    double top1;           /* fraction of tokens with the same likeliest next one */
    double difference;     /* mean |p - p'| of the token that followed */
};
struct cli_kld_report cli_kld_report(struct cli_kld *k); /* k->n > 0 */

#ifdef __cplusplus
}
#endif

#endif
