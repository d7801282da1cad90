/* What `tailor fit` found, as a table, as a policy file and as a picture. */
#ifndef TL_CLI_FIT_REPORT_H
#define TL_CLI_FIT_REPORT_H

#include "core/books.h"
#include "core/engine.h"
#include "fit_indexes.h"

#include <jansson.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cli_fit_layer {
    const struct tl_identity *found; /* borrowed, of the session */
    uint32_t sliding_window;         /* the model's own; such layers keep it exact */
    bool dense;
};

struct cli_fit_report {
    const char *model_name, *text_name; /* borrowed */
    const struct tl_preset *preset;
    uint64_t model_hash;
    struct cli_fit_layer *layers; /* owned by the caller */
    uint32_t n_layers, n_heads, n_tokens;
    double tau;
    tl_fit fit;            /* of the codecs that were tried */
    const char *kv_set;    /* borrowed: knobs over the preset's, KNOB=V[,..]; NULL: none */
    const tl_books *books; /* borrowed: what was learned; NULL: nothing */
    const struct cli_fit_indexes *indexes; /* borrowed: what was tried; NULL: nothing */
};

void cli_fit_report_table(const struct cli_fit_report *report, FILE *out);

/* The policy file (core/policy_file.h) with all measurements under "measured". NULL without memory.
 */
json_t *cli_fit_report_json(const struct cli_fit_report *report);

/* The same as text, a layer to a line. Only TL_ERR_MEMORY. */
TL_MUST tl_err cli_fit_report_text(const struct cli_fit_report *report, tl_bytes *out);

/* An SVG document: scores by layer with the threshold, attention-mass curves of every head, and
 * what each codec does to each layer. Only TL_ERR_MEMORY. */
TL_MUST tl_err cli_fit_report_svg(const struct cli_fit_report *report, tl_bytes *out);

#ifdef __cplusplus
}
#endif

#endif
