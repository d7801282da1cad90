/* The cache policies that a command line names: a preset or a policy file, and the knobs over it.
 */
#ifndef TL_CLI_POLICIES_H
#define TL_CLI_POLICIES_H

#include "args.h"

#include "core/policy_file.h"

/* The policies that kv names; set has layers and n_layers. weights: the model that a policy file
 * must have been made for; NULL: files that name one are refused. */
TL_MUST tl_err cli_read_policies(const char *kv, const tl_weights *weights, struct tl_policies *set,
                                 const tl_log *log);

/* --topk, --window and --kv-set over the policies of all layers that they can concern. */
TL_MUST tl_err cli_apply_knobs(const struct cli_args *args, struct tl_policies *set,
                               const tl_log *log);

/* The cache that is asked for, or the default for that many tokens and heads of that size (0: not
 * known yet): `tailor` where a knob of its is given. */
const char *cli_kv(const struct cli_args *args, uint32_t n_ctx, uint32_t head_dim);

/* Whether it is a preset or a file that can be read; false after an error line. Before work begins
 * that would be lost. */
bool cli_kv_exists(const char *kv);

/* The presets with what they do, and every knob with its value in each of them: to stdout. */
void cli_print_presets(void);

/* Are there options that say how the cache is kept? */
bool cli_has_kv_options(const struct cli_args *args);

/* Both, of n_layers layers; what out holds is freed by cli_policies_free. */
TL_MUST tl_err cli_policies(const struct cli_args *args, const char *kv, uint32_t n_layers,
                            const tl_weights *weights, struct tl_policies *out, const tl_log *log);
void cli_policies_free(struct tl_policies *set);

#endif
