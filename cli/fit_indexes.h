/* The part of `tailor fit` that says which index finds the rows that matter (`--indexes`): every
 * kind of index, at several sizes, chooses rows for a text's last queries in each layer, and what
 * attention those rows hold is laid beside the most that as many rows can hold. */
#ifndef TL_CLI_FIT_INDEXES_H
#define TL_CLI_FIT_INDEXES_H

#include "core/backend.h"
#include "core/vq_train.h"

#include <jansson.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CLI_INDEXES = 34, /* ways to choose */
    CLI_INDEX_BUDGETS = 3,
    CLI_INDEX_SINK = 8,    /* first rows that no index need find: they are in every window */
    CLI_INDEX_RECENT = 64, /* newest rows, likewise, at least */
};
/* Rows that a KV head chooses. */
extern const uint32_t cli_index_budgets[CLI_INDEX_BUDGETS];

/* Of one layer and one way: sums over queries and heads of the share of attention (of all rows)
 * that lies on the rows chosen. */
struct cli_index_found {
    double held[CLI_INDEX_BUDGETS];
};

struct cli_index_layer {
    bool measured;
    double most[CLI_INDEX_BUDGETS]; /* what each head's own best rows hold, as many of them */
    struct cli_index_found ways[CLI_INDEXES];
};

struct cli_fit_indexes {
    tl_dev *dev; /* owned: the CPU, whatever the model runs on, so that all indexes are there */
    tl_stream *stream;              /* owned */
    struct cli_index_layer *layers; /* owned */
    uint32_t n_layers, head_dim;
    tl_log log;
};

/* log outlives it. */
TL_MUST tl_err cli_fit_indexes_open(struct cli_fit_indexes *f, uint32_t n_layers, uint32_t head_dim,
                                    uint32_t n_threads, tl_log log);
void cli_fit_indexes_close(struct cli_fit_indexes *f);

/* A tl_rows_fn, user is the struct. A layer of too few rows to choose among is left out. */
TL_MUST tl_err cli_fit_indexes_layer(void *user, uint32_t il, const struct tl_exact_rows *rows);

/* All layers together, way by way: the share of the most that could be held. */
void cli_fit_indexes_table(const struct cli_fit_indexes *f, FILE *out);
/* The same, and layer by layer. NULL without memory. */
json_t *cli_fit_indexes_json(const struct cli_fit_indexes *f);

#ifdef __cplusplus
}
#endif

#endif
