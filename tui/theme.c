/* Built-in looks, the reader of theme files, and the way down from 24 bits to fewer colours. Roles
 * that mean something (tiers, warnings) also differ by sign or word, so that no colour is needed.
 */
#include "theme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN (-1)

static const char *const role_names[TUI_ROLE_COUNT] = {
    [TUI_TEXT] = "text",         [TUI_DIM] = "dim",       [TUI_TITLE] = "title",
    [TUI_STATUS] = "status",     [TUI_KEY] = "key",       [TUI_USER] = "user",
    [TUI_HEADING] = "heading",   [TUI_CODE] = "code",     [TUI_QUOTE] = "quote",
    [TUI_NOTE] = "note",         [TUI_WARN] = "warn",     [TUI_ERROR] = "error",
    [TUI_SELECTED] = "selected", [TUI_BORDER] = "border", [TUI_GOOD] = "good",
    [TUI_WINDOW] = "window",     [TUI_SKETCH] = "sketch", [TUI_HOT] = "hot",
    [TUI_INDEX] = "index",       [TUI_DEVICE] = "device", [TUI_HOST] = "host",
    [TUI_DISK] = "disk",         [TUI_PLOT] = "plot",     [TUI_HEAT1] = "heat1",
    [TUI_HEAT2] = "heat2",       [TUI_HEAT3] = "heat3",   [TUI_HEAT4] = "heat4",
};

static const struct tui_theme dark = {{
    [TUI_TEXT] = {OWN, OWN, 0},
    [TUI_DIM] = {0x808080, OWN, 0},
    [TUI_TITLE] = {0xd0d0d0, 0x262626, 0},
    [TUI_STATUS] = {0xb2b2b2, 0x262626, 0},
    [TUI_KEY] = {0x87d7af, 0x262626, TUI_BOLD},
    [TUI_USER] = {0x87d7af, OWN, 0},
    [TUI_HEADING] = {0x87afff, OWN, 0},
    [TUI_CODE] = {0xd7af87, OWN, 0},
    [TUI_QUOTE] = {0xafafaf, OWN, TUI_ITALIC},
    [TUI_NOTE] = {0x87afd7, OWN, 0},
    [TUI_WARN] = {0xffd75f, OWN, 0},
    [TUI_ERROR] = {0xff5f5f, OWN, TUI_BOLD},
    [TUI_SELECTED] = {OWN, OWN, TUI_REVERSE},
    [TUI_BORDER] = {0x585858, OWN, 0},
    [TUI_GOOD] = {0x5fd75f, OWN, 0},
    [TUI_WINDOW] = {0x5fafff, OWN, 0},
    [TUI_SKETCH] = {0xaf87ff, OWN, 0},
    [TUI_HOT] = {0xff8700, OWN, 0},
    [TUI_INDEX] = {0xd75faf, OWN, 0},
    [TUI_DEVICE] = {0x5fd7af, OWN, 0},
    [TUI_HOST] = {0x8787af, OWN, 0},
    [TUI_DISK] = {0x875f5f, OWN, 0},
    [TUI_PLOT] = {0x5fd7af, OWN, 0},
    [TUI_HEAT1] = {0x5f5faf, OWN, 0},
    [TUI_HEAT2] = {0xaf5faf, OWN, 0},
    [TUI_HEAT3] = {0xff875f, OWN, 0},
    [TUI_HEAT4] = {0xffff5f, OWN, 0},
}};

static const struct tui_theme light = {{
    [TUI_TEXT] = {OWN, OWN, 0},
    [TUI_DIM] = {0x767676, OWN, 0},
    [TUI_TITLE] = {0x303030, 0xdadada, 0},
    [TUI_STATUS] = {0x444444, 0xdadada, 0},
    [TUI_KEY] = {0x005f5f, 0xdadada, TUI_BOLD},
    [TUI_USER] = {0x00875f, OWN, 0},
    [TUI_HEADING] = {0x005faf, OWN, 0},
    [TUI_CODE] = {0x875f00, OWN, 0},
    [TUI_QUOTE] = {0x585858, OWN, TUI_ITALIC},
    [TUI_NOTE] = {0x005f87, OWN, 0},
    [TUI_WARN] = {0xaf5f00, OWN, 0},
    [TUI_ERROR] = {0xd70000, OWN, TUI_BOLD},
    [TUI_SELECTED] = {OWN, OWN, TUI_REVERSE},
    [TUI_BORDER] = {0xb2b2b2, OWN, 0},
    [TUI_GOOD] = {0x008700, OWN, 0},
    [TUI_WINDOW] = {0x005fd7, OWN, 0},
    [TUI_SKETCH] = {0x8700d7, OWN, 0},
    [TUI_HOT] = {0xd75f00, OWN, 0},
    [TUI_INDEX] = {0xaf0087, OWN, 0},
    [TUI_DEVICE] = {0x00875f, OWN, 0},
    [TUI_HOST] = {0x5f5f87, OWN, 0},
    [TUI_DISK] = {0x875f5f, OWN, 0},
    [TUI_PLOT] = {0x00875f, OWN, 0},
    [TUI_HEAT1] = {0x8787d7, OWN, 0},
    [TUI_HEAT2] = {0xaf5faf, OWN, 0},
    [TUI_HEAT3] = {0xd75f00, OWN, 0},
    [TUI_HEAT4] = {0xd70000, OWN, 0},
}};

/* Attributes only: what NO_COLOR and terminals without colours get. */
static const struct tui_theme mono = {{
    [TUI_TEXT] = {OWN, OWN, 0},
    [TUI_DIM] = {OWN, OWN, 0},
    [TUI_TITLE] = {OWN, OWN, TUI_REVERSE},
    [TUI_STATUS] = {OWN, OWN, TUI_REVERSE},
    [TUI_KEY] = {OWN, OWN, TUI_REVERSE | TUI_BOLD},
    [TUI_USER] = {OWN, OWN, TUI_BOLD},
    [TUI_HEADING] = {OWN, OWN, TUI_BOLD},
    [TUI_CODE] = {OWN, OWN, 0},
    [TUI_QUOTE] = {OWN, OWN, TUI_ITALIC},
    [TUI_NOTE] = {OWN, OWN, 0},
    [TUI_WARN] = {OWN, OWN, TUI_BOLD},
    [TUI_ERROR] = {OWN, OWN, TUI_BOLD},
    [TUI_SELECTED] = {OWN, OWN, TUI_REVERSE},
    [TUI_BORDER] = {OWN, OWN, 0},
    [TUI_GOOD] = {OWN, OWN, 0},
    [TUI_WINDOW] = {OWN, OWN, 0},
    [TUI_SKETCH] = {OWN, OWN, 0},
    [TUI_HOT] = {OWN, OWN, TUI_BOLD},
    [TUI_INDEX] = {OWN, OWN, 0},
    [TUI_DEVICE] = {OWN, OWN, 0},
    [TUI_HOST] = {OWN, OWN, 0},
    [TUI_DISK] = {OWN, OWN, 0},
    [TUI_PLOT] = {OWN, OWN, 0},
    [TUI_HEAT1] = {OWN, OWN, 0},
    [TUI_HEAT2] = {OWN, OWN, 0},
    [TUI_HEAT3] = {OWN, OWN, TUI_BOLD},
    [TUI_HEAT4] = {OWN, OWN, TUI_BOLD},
}};

const struct tui_theme *tui_theme_find(const char *name) {
    return strcmp(name, "dark") == 0    ? &dark
           : strcmp(name, "light") == 0 ? &light
           : strcmp(name, "mono") == 0  ? &mono
                                        : NULL;
}

const char *tui_role_name(tui_role role) { return role_names[role]; }

static bool read_color(const char *word, int32_t *out) {
    if (strcmp(word, "default") == 0) {
        *out = OWN;
        return true;
    }
    if (word[0] != '#' || strlen(word) != 7 || strspn(word + 1, "0123456789abcdefABCDEF") != 6) {
        return false;
    }
    *out = (int32_t)strtol(word + 1, NULL, 16);
    return true;
}

static unsigned attr_of(const char *word) {
    return strcmp(word, "bold") == 0        ? TUI_BOLD
           : strcmp(word, "italic") == 0    ? TUI_ITALIC
           : strcmp(word, "underline") == 0 ? TUI_UNDERLINE
           : strcmp(word, "reverse") == 0   ? TUI_REVERSE
                                            : 0;
}

/* "#rrggbb on #rrggbb bold"; false at a word that is none of these. */
static bool read_look(char *text, struct tui_look *out) {
    struct tui_look look = {OWN, OWN, 0};
    bool background = false;
    char *rest = text;
    for (char *word; (word = strtok_r(rest, " \t\r", &rest)) != NULL;) {
        const unsigned attr = attr_of(word);
        if (strcmp(word, "on") == 0) {
            background = true;
        } else if (attr != 0) {
            look.attrs |= attr;
        } else if (!read_color(word, background ? &look.bg : &look.fg)) {
            return false;
        }
    }
    *out = look;
    return true;
}

static tui_role role_of(const char *name) {
    tui_role role = TUI_TEXT;
    while (role < TUI_ROLE_COUNT && strcmp(role_names[role], name) != 0) {
        role++;
    }
    return role;
}

/* False where the line is neither empty, a comment nor "role = look". */
static bool read_line(char *line, struct tui_theme *out) {
    line += strspn(line, " \t\r");
    if (*line == '\0' || *line == '#') {
        return true;
    }
    char *const equals = strchr(line, '=');
    if (equals == NULL) {
        return false;
    }
    *equals = '\0';
    line[strcspn(line, " \t")] = '\0';
    const tui_role role = role_of(line);
    return role < TUI_ROLE_COUNT && read_look(equals + 1, &out->looks[role]);
}

tl_err tui_theme_read(const char *text, size_t n, const char *path, struct tui_theme *out,
                      const tl_log *log) {
    struct tui_theme theme = dark;
    unsigned n_line = 0;
    for (size_t at = 0; at < n;) {
        const char *const newline = memchr(text + at, '\n', n - at);
        const size_t len = newline != NULL ? (size_t)(newline - (text + at)) : n - at;
        char line[256];
        n_line++;
        snprintf(line, sizeof line, "%.*s", (int)tl_min_u64(len, sizeof line - 1), text + at);
        if (len >= sizeof line || !read_line(line, &theme)) {
            return tl_fail(log, TL_ERR_FORMAT,
                           "%s: line %u is not ROLE = #rrggbb [on #rrggbb] [bold italic underline "
                           "reverse]",
                           path, n_line);
        }
        at += len + 1;
    }
    *out = theme;
    return TL_OK;
}

static int32_t distance(int32_t a, int32_t b) {
    const int32_t r = (a >> 16 & 255) - (b >> 16 & 255), g = (a >> 8 & 255) - (b >> 8 & 255);
    const int32_t l = (a & 255) - (b & 255);
    return r * r + g * g + l * l;
}

/* The cube's steps are 0, 95, 135, ... 255; 24 greys from 8 on. */
static int32_t color_256(uint32_t i) {
    if (i >= 232) {
        return (int32_t)(8 + (i - 232) * 10) * 0x10101;
    }
    const uint32_t at = i - 16, r = at / 36, g = at / 6 % 6, b = at % 6;
    const uint32_t step[] = {0, 95, 135, 175, 215, 255};
    return (int32_t)(step[r] << 16 | step[g] << 8 | step[b]);
}

uint32_t tui_nearest_256(int32_t rgb) {
    uint32_t best = 16;
    for (uint32_t i = 16; i < 256; i++) {
        best = distance(rgb, color_256(i)) < distance(rgb, color_256(best)) ? i : best;
    }
    return best;
}

uint32_t tui_nearest_16(int32_t rgb) {
    static const int32_t table[16] = {0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x0000ee, 0xcd00cd,
                                      0x00cdcd, 0xe5e5e5, 0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00,
                                      0x5c5cff, 0xff00ff, 0x00ffff, 0xffffff};
    uint32_t best = 0;
    for (uint32_t i = 1; i < 16; i++) {
        best = distance(rgb, table[i]) < distance(rgb, table[best]) ? i : best;
    }
    return best;
}
