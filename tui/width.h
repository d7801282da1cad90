/* UTF-8 and how many columns of a terminal a code point takes: by our own table, so that layout is
 * the same on every system. */
#ifndef TUI_WIDTH_H
#define TUI_WIDTH_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The code point at text (n > 0 bytes) and its length in *len; bytes that are none are U+FFFD, one
 * by one. */
uint32_t tui_utf8_next(const char *text, size_t n, size_t *len);
/* Writes cp's bytes, at most 4; returns how many. */
size_t tui_utf8_put(uint32_t cp, char *out);

/* 0 for marks and controls, 2 for wide ones, else 1. */
int32_t tui_width(uint32_t cp);
/* Columns of a text without line breaks. */
int32_t tui_text_width(const char *text, size_t n);

/* The end of the sign (a code point and the marks on it) that begins at `at`, and the beginning of
 * the one that ends at `at`. */
size_t tui_next_sign(const char *text, size_t n, size_t at);
size_t tui_prev_sign(const char *text, size_t at);

#ifdef __cplusplus
}
#endif

#endif
