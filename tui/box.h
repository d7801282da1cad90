/* A text over the panes, in a border, scrolled where it does not fit. */
#ifndef TUI_BOX_H
#define TUI_BOX_H

#include "key.h"
#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Draws it in the middle of the screen, as large as the text and the screen allow; *first, its
 * first line in view, is brought into range. What lies outside is told on the lower border. */
TL_MUST tl_err tui_box_draw(tui_grid *g, const char *title, const char *text, size_t n,
                            int32_t *first);

/* Arrows, j, k, the space bar, PgUp, PgDn, Home, End and the wheel scroll; false where the key is
 * another one, which puts the box away. page: rows of the screen. */
bool tui_box_key(const struct tui_key *key, int32_t page, int32_t *first);

/* A key and what it does; a NULL key makes `what` a line of its own, which may be empty. */
struct tui_help {
    const char *key, *what;
};

/* The list as text for a box on a screen of so many columns: two columns where they fit. */
TL_MUST tl_err tui_help_spell(const struct tui_help *list, size_t n, int32_t cols, tl_bytes *out);

#ifdef __cplusplus
}
#endif

#endif
