/* Widths by binary search in ranges that scripts/width_table.py makes from the Unicode data. Joined
 * emoji count as their parts: that is how most terminals draw them, and where one does not, the
 * screen addresses each changed run anew and nothing shifts. */
#include "width.h"

struct range {
    uint32_t first, last;
};

#include "width_ranges.inc"

static bool in_ranges(const struct range *ranges, size_t n, uint32_t cp) {
    size_t low = 0, high = n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (cp > ranges[mid].last) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < n && cp >= ranges[low].first;
}

int32_t tui_width(uint32_t cp) {
    if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
        return 0;
    }
    if (cp < 0x80) {
        return 1;
    }
    if (in_ranges(zero_ranges, sizeof zero_ranges / sizeof zero_ranges[0], cp)) {
        return 0;
    }
    return in_ranges(wide_ranges, sizeof wide_ranges / sizeof wide_ranges[0], cp) ? 2 : 1;
}

static bool is_tail(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

uint32_t tui_utf8_next(const char *text, size_t n, size_t *len) {
    const unsigned char c = (unsigned char)text[0];
    const size_t want = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : 2;
    *len = 1;
    if (want == 1) {
        return c;
    }
    if (c < 0xc2 || c >= 0xf5 || want > n) {
        return 0xfffd;
    }
    uint32_t cp = c & (0xffu >> (want + 1));
    for (size_t i = 1; i < want; i++) {
        if (!is_tail(text[i])) {
            return 0xfffd;
        }
        cp = cp << 6 | ((unsigned char)text[i] & 0x3f);
    }
    const bool overlong = (want == 3 && cp < 0x800) || (want == 4 && cp < 0x10000);
    if (overlong || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) {
        return 0xfffd;
    }
    *len = want;
    return cp;
}

size_t tui_utf8_put(uint32_t cp, char *out) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    const size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3f));
        cp >>= 6;
    }
    out[0] = (char)((0xf00u >> n & 0xff) | cp);
    return n;
}

int32_t tui_text_width(const char *text, size_t n) {
    int32_t width = 0;
    for (size_t at = 0, len; at < n; at += len) {
        width += tui_width(tui_utf8_next(text + at, n - at, &len));
    }
    return width;
}

/* A mark joins the sign before it; controls (line breaks) are signs of their own. */
static bool joins(uint32_t cp) { return cp >= 0xa0 && tui_width(cp) == 0; }

size_t tui_next_sign(const char *text, size_t n, size_t at) {
    size_t len = 0;
    if (at >= n) {
        return n;
    }
    tui_utf8_next(text + at, n - at, &len);
    for (at += len; at < n; at += len) {
        if (!joins(tui_utf8_next(text + at, n - at, &len))) {
            break;
        }
    }
    return at;
}

size_t tui_prev_sign(const char *text, size_t at) {
    while (at > 0) {
        size_t start = at - 1, len = 0;
        while (start > 0 && at - start < 4 && is_tail(text[start])) {
            start--;
        }
        const uint32_t cp = tui_utf8_next(text + start, at - start, &len);
        start = len == at - start ? start : at - 1;
        at = start;
        if (!joins(cp)) {
            break;
        }
    }
    return at;
}
