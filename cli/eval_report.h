/* What was measured, as lines of numbers: one line for a task, a context and a metric, one number
 * for each preset. Shown as a table, as JSON and as a picture. */
#ifndef TL_CLI_EVAL_REPORT_H
#define TL_CLI_EVAL_REPORT_H

#include "core/base.h"

#include <jansson.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CLI_PRESETS_MAX = 16 };

typedef enum cli_metric {
    CLI_METRIC_SCORE, /* 0 .. 1 */
    CLI_METRIC_PPL,
    CLI_METRIC_NLL, /* nats a token */
    CLI_METRIC_KLD_MEAN,
    CLI_METRIC_KLD_P99,
    CLI_METRIC_KLD_MAX,
    CLI_METRIC_TOP1,       /* 0 .. 1 */
    CLI_METRIC_DIFFERENCE, /* 0 .. 1 */
} cli_metric;

struct cli_eval_line {
    const char *task; /* borrowed */
    uint32_t n_ctx;
    cli_metric metric;
    double values[CLI_PRESETS_MAX];
    uint32_t n[CLI_PRESETS_MAX]; /* samples or tokens behind each; 0: not measured */
};

struct cli_eval_report {
    const char *presets[CLI_PRESETS_MAX]; /* borrowed */
    uint32_t n_presets;
    struct cli_eval_line *lines; /* owned */
    size_t n_lines, cap;
};
void cli_eval_report_free(struct cli_eval_report *report);

/* Sets one number. Only TL_ERR_MEMORY. */
TL_MUST tl_err cli_eval_report_set(struct cli_eval_report *report, const char *task, uint32_t n_ctx,
                                   cli_metric metric, uint32_t preset, double value, uint32_t n);

void cli_eval_report_table(const struct cli_eval_report *report, FILE *out);
/* A list of {task, ctx, kv, n, METRIC: value ...}; NULL without memory. A number that is none (an
 * infinite divergence) is null. */
json_t *cli_eval_report_json(const struct cli_eval_report *report);
/* An SVG document: a panel of bars for each task and metric. Only TL_ERR_MEMORY. */
TL_MUST tl_err cli_eval_report_svg(const struct cli_eval_report *report, const char *title,
                                   tl_bytes *out);

#ifdef __cplusplus
}
#endif

#endif
