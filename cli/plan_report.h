/* What `tailor plan` found, as tables on a terminal and as JSON. */
#ifndef TL_CLI_PLAN_REPORT_H
#define TL_CLI_PLAN_REPORT_H

#include "core/forecast.h"

#include <jansson.h>

/* One context with one cache. */
struct cli_plan_row {
    char kv[64];
    uint32_t n_ctx;
    bool beyond; /* more than the model was made for */
    struct tl_memory_plan memory;
    struct tl_verdict verdict;
    struct tl_timeline step;
    struct tl_prompt_forecast prompt;
    json_t *schedule; /* owned; NULL: not asked for */
};

struct cli_plan_report {
    const struct tl_card *card;
    const struct tl_shape *shape;
    const char *model, *weights; /* weights: "Q4_K"; NULL: as in the file */
    uint64_t weight_bytes;
    double miss;
    struct cli_plan_row *rows; /* owned */
    uint32_t n_rows;
};

void cli_plan_report_free(struct cli_plan_report *r);
void cli_plan_print(const struct cli_plan_report *r);
/* False after an error line. */
bool cli_plan_print_json(const struct cli_plan_report *r);

/* The step's ops with their times: as lines on stdout, as an array. */
void cli_plan_print_schedule(const tl_schedule *s, const struct tl_op_time *times);
json_t *cli_plan_json_schedule(const tl_schedule *s, const struct tl_op_time *times);

#endif
