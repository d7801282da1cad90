/* Text that becomes a picture; knows nothing of what is drawn. */
#include "svg.h"

#include <stdarg.h>
#include <stdio.h>

tl_err cli_svg_add(tl_bytes *out, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    TL_ASSERT(n >= 0 && (size_t)n < sizeof text);
    return tl_bytes_add(out, text, (size_t)n);
}

tl_err cli_svg_text(tl_bytes *out, const char *text) {
    char shown[512];
    tl_text_copy(shown, sizeof shown, tl_str_from(text));
    for (const char *c = shown; *c != '\0'; c++) {
        const char *const entity = *c == '&'   ? "&amp;"
                                   : *c == '<' ? "&lt;"
                                   : *c == '>' ? "&gt;"
                                               : NULL;
        TL_TRY(entity != NULL ? tl_bytes_add_str(out, entity) : tl_bytes_add(out, c, 1));
    }
    return TL_OK;
}

tl_err cli_svg_begin(tl_bytes *out, uint32_t width, uint32_t height, const char *title) {
    TL_TRY(cli_svg_add(out,
                       "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
                       "font-family=\"sans-serif\" font-size=\"11\">\n"
                       "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
                       "<text x=\"50\" y=\"22\" font-size=\"15\">",
                       width, height));
    TL_TRY(cli_svg_text(out, title));
    return tl_bytes_add_str(out, "</text>\n");
}
