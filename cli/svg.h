/* Pieces of SVG documents. Every function fails with TL_ERR_MEMORY only. */
#ifndef TL_CLI_SVG_H
#define TL_CLI_SVG_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Formatted markup, up to 511 bytes; what is not ours in it must be escaped: see cli_svg_text. */
TL_MUST tl_err cli_svg_add(tl_bytes *out, const char *fmt, ...) TL_PRINTF(2, 3);
/* Text between tags; what XML cannot hold becomes '?'. */
TL_MUST tl_err cli_svg_text(tl_bytes *out, const char *text);
/* The beginning of a white page with a title (escaped here); it ends with "</svg>\n". */
TL_MUST tl_err cli_svg_begin(tl_bytes *out, uint32_t width, uint32_t height, const char *title);

#ifdef __cplusplus
}
#endif

#endif
