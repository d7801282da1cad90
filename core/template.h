/* Chat templates: the subset of Jinja2 that published models use, rendered in a sandbox. A template
 * comes from a model file and is hostile: steps, output, nesting and memory are bounded, nothing
 * outside the given variables can be reached. */
#ifndef TL_TEMPLATE_H
#define TL_TEMPLATE_H

#include "base.h"

#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Appends to *out what Jinja2 (sandboxed, trim_blocks and lstrip_blocks on, as Hugging Face does)
 * renders `source` to. vars: a JSON object, the template's variables: "messages",
 * "add_generation_prompt", "bos_token", "eos_token", "tools" ...; `date` is what strftime_now is
 * told the day is, NULL for the real one ("26 Jul 2024" in the format %d %b %Y).
 * TL_ERR_FORMAT: the template is not valid, or it called raise_exception (the sentence is its
 * message); TL_ERR_UNSUPPORTED: it uses something we do not have (the sentence names it and the
 * line); TL_ERR_MEMORY: a bound was reached. On failure *out is as it was. */
TL_MUST tl_err tl_template_render(tl_str source, const json_t *vars, const char *date,
                                  tl_bytes *out, const tl_log *log);

/* The family whose turns `source` marks (by the tokens it mentions) rendered without Jinja: what
 * chat falls back to. Returns TL_ERR_UNSUPPORTED where the family is not recognised. Families:
 * ChatML, Llama 2, Llama 3, Mistral, Gemma, Phi-3. An empty source is not recognised. */
TL_MUST tl_err tl_template_fallback(tl_str source, const json_t *vars, tl_bytes *out,
                                    const char **family, const tl_log *log);

#ifdef __cplusplus
}
#endif

#endif
