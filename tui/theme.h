/* Themes: colours for roles, built in or from a file of lines such as
 *
 *     code    = #d7875f
 *     status  = #d0d0d0 on #303030 bold
 *     # roles that are not named keep the dark theme's look; "default" is the terminal's own colour
 */
#ifndef TUI_THEME_H
#define TUI_THEME_H

#include "style.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tui_look {
    int32_t fg, bg; /* 0xrrggbb; -1: the terminal's own */
    unsigned attrs; /* enum tui_attr */
};

struct tui_theme {
    struct tui_look looks[TUI_ROLE_COUNT];
};

/* "dark", "light", "mono"; NULL where there is none of that name. */
const struct tui_theme *tui_theme_find(const char *name);
/* Reads a file's text over the dark theme. TL_ERR_FORMAT with a sentence that names the line. */
TL_MUST tl_err tui_theme_read(const char *text, size_t n, const char *path, struct tui_theme *out,
                              const tl_log *log);
const char *tui_role_name(tui_role role);

/* The nearest colour of the 256 and of the 16 that terminals have. */
uint32_t tui_nearest_256(int32_t rgb);
uint32_t tui_nearest_16(int32_t rgb);

#ifdef __cplusplus
}
#endif

#endif
