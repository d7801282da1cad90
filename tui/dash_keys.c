/* Keys of the dashboard, the same in the chat and in `tailor top`. */
#include "dash.h"

#include <string.h>

enum { PAGE = 10, INTERVAL_MIN_MS = 100, INTERVAL_MAX_MS = 10000 };

void tui_dash_sort(tui_dash *d, tui_sort sort) {
    const bool up = sort == TUI_SORT_LAYER || sort == TUI_SORT_POLICY;
    d->descending = sort == d->sort ? !d->descending : !up;
    d->sort = sort;
}

static void sort_beside(tui_dash *d, int step) {
    tui_dash_sort(d, (tui_sort)(((int)d->sort + step + TUI_SORT_COUNT) % TUI_SORT_COUNT));
}

static void change_interval(tui_dash *d, bool slower) {
    const uint32_t ms = slower ? d->interval_ms * 2 : d->interval_ms / 2;
    d->interval_ms = ms < INTERVAL_MIN_MS   ? INTERVAL_MIN_MS
                     : ms > INTERVAL_MAX_MS ? INTERVAL_MAX_MS
                                            : ms;
}

static tui_dash_wish char_key(tui_dash *d, uint32_t ch) {
    switch (ch) {
    case 'q':
        return TUI_DASH_QUIT;
    case '?':
    case 'h':
        return TUI_DASH_HELP;
    case 't':
        return TUI_DASH_LOOK;
    case 'p':
    case ' ':
        d->paused = !d->paused;
        return TUI_DASH_DONE;
    case 'z': /* the histories begin anew */
        d->rate.n = 0;
        memset(d->moved, 0, TL_STATS_LAYERS_MAX * sizeof *d->moved);
        return TUI_DASH_DONE;
    case 'M':
        d->sort = TUI_SORT_LAYER; /* by size, the largest first */
        tui_dash_sort(d, TUI_SORT_BYTES);
        return TUI_DASH_DONE;
    case 's':
    case '>':
    case '<':
        sort_beside(d, ch == '<' ? -1 : 1);
        return TUI_DASH_DONE;
    case 'r':
    case 'I':
        d->descending = !d->descending;
        return TUI_DASH_DONE;
    case '+':
    case '-':
        change_interval(d, ch == '+');
        return TUI_DASH_DONE;
    case 'j':
    case 'k':
        tui_dash_move(d, ch == 'j' ? 1 : -1);
        return TUI_DASH_DONE;
    case 'g':
    case 'G':
        tui_dash_move(d, ch == 'G' ? TL_STATS_LAYERS_MAX : -TL_STATS_LAYERS_MAX);
        return TUI_DASH_DONE;
    default:
        return TUI_DASH_UNKNOWN;
    }
}

const char *tui_dash_other_key(const struct tui_key *key) {
    static const struct {
        uint32_t ch;
        const char *instead;
    } keys[] = {
        {'f', "layers are not filtered; s sorts them"},
        {'/', "layers are not filtered; s sorts them"},
        {'e', "there is no tree; Enter shows all of a layer"},
        {'c', "Enter shows all of a layer"},
        {'o', "no options here; + and - change the interval, --theme the colours"},
        {'m', "no menu here; ? lists the keys, q leaves"},
        {'d', "+ and - change the interval"},
        {'K', "nothing is ended from here; kill PID does that"},
        {'P', "s sorts by another column"},
        {'T', "s sorts by another column"},
    };
    for (size_t i = 0; key->kind == TUI_KEY_CHAR && i < sizeof keys / sizeof keys[0]; i++) {
        if (keys[i].ch == key->ch) {
            return keys[i].instead;
        }
    }
    return key->kind == TUI_KEY_FUNCTION && key->ch == 12 ? "nothing is to be saved; --theme, -d"
                                                          : NULL;
}

static tui_dash_wish function_key(tui_dash *d, uint32_t n) {
    static const char as_char[] = {
        [1] = '?', [5] = 'p', [6] = 's', [7] = '-', [8] = '+', [9] = 't', [10] = 'q'};
    return n < sizeof as_char && as_char[n] != 0 ? char_key(d, (unsigned char)as_char[n])
                                                 : TUI_DASH_UNKNOWN;
}

tui_dash_wish tui_dash_key(tui_dash *d, const struct tui_key *key) {
    switch (key->kind) {
    case TUI_KEY_UP:
    case TUI_KEY_WHEEL_UP:
        tui_dash_move(d, -1);
        return TUI_DASH_DONE;
    case TUI_KEY_DOWN:
    case TUI_KEY_WHEEL_DOWN:
        tui_dash_move(d, 1);
        return TUI_DASH_DONE;
    case TUI_KEY_PAGE_UP:
    case TUI_KEY_PAGE_DOWN:
        tui_dash_move(d, key->kind == TUI_KEY_PAGE_DOWN ? PAGE : -PAGE);
        return TUI_DASH_DONE;
    case TUI_KEY_HOME:
    case TUI_KEY_END:
        tui_dash_move(d, key->kind == TUI_KEY_END ? TL_STATS_LAYERS_MAX : -TL_STATS_LAYERS_MAX);
        return TUI_DASH_DONE;
    case TUI_KEY_LEFT:
    case TUI_KEY_RIGHT:
        sort_beside(d, key->kind == TUI_KEY_LEFT ? -1 : 1);
        return TUI_DASH_DONE;
    case TUI_KEY_ENTER:
        d->detail = !d->detail;
        return TUI_DASH_DONE;
    case TUI_KEY_ESCAPE:
        if (!d->detail) {
            return TUI_DASH_BACK;
        }
        d->detail = false;
        return TUI_DASH_DONE;
    case TUI_KEY_FUNCTION:
        return function_key(d, key->ch);
    case TUI_KEY_CHAR:
        d->detail =
            d->detail && !key->alt; /* no key has Alt here: it was Esc and a key in a hurry */
        return char_key(d, key->ch);
    default:
        return TUI_DASH_UNKNOWN;
    }
}
