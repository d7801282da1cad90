/* Errors, logging, byte buffers and the clock. Sentences are cut at 1 KiB: one line for a human,
 * never a dump. */
#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TL_SENTENCE_MAX = 1024 };

static void say(const tl_log *log, tl_level level, const char *fmt, va_list args) {
    if (log == NULL || log->fn == NULL) {
        return;
    }
    char sentence[TL_SENTENCE_MAX];
    vsnprintf(sentence, sizeof sentence, fmt, args);
    /* Names come from hostile files: control characters must not reach a terminal. */
    for (char *c = sentence; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    log->fn(log->user, level, sentence);
}

tl_err tl_fail(const tl_log *log, tl_err err, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say(log, TL_LEVEL_ERROR, fmt, args);
    va_end(args);
    return err;
}

void tl_say(const tl_log *log, tl_level level, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say(log, level, fmt, args);
    va_end(args);
}

void tl_assert_failed(const char *file, int line, const char *cond) {
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

tl_str tl_str_from(const char *c_string) { return (tl_str){c_string, strlen(c_string)}; }

bool tl_str_eq(tl_str a, tl_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool tl_str_is(tl_str a, const char *c_string) { return tl_str_eq(a, tl_str_from(c_string)); }

tl_err tl_bytes_add(tl_bytes *b, const void *src, size_t n) {
    if (n > SIZE_MAX / 2 - b->len) {
        return TL_ERR_MEMORY;
    }
    if (b->len + n + 1 > b->cap) {
        const size_t cap = (size_t)tl_max_u64(2 * b->cap, b->len + n + 64);
        char *const data = realloc(b->data, cap);
        if (data == NULL) {
            return TL_ERR_MEMORY;
        }
        b->data = data;
        b->cap = cap;
    }
    if (n > 0) {
        memcpy(b->data + b->len, src, n);
    }
    b->len += n;
    b->data[b->len] = '\0';
    return TL_OK;
}

tl_err tl_bytes_add_str(tl_bytes *b, const char *c_string) {
    return tl_bytes_add(b, c_string, strlen(c_string));
}

void tl_bytes_free(tl_bytes *b) {
    free(b->data);
    *b = (tl_bytes){0};
}

void tl_text_copy(char *out, size_t cap, tl_str text) {
    size_t n = 0;
    for (size_t i = 0; i < text.len;) {
        const uint8_t *const p = (const uint8_t *)text.data + i;
        const unsigned len = tl_utf8_len(p, text.len - i);
        const bool control =
            len == 1 ? p[0] < 0x20 || p[0] == 0x7f : len == 2 && p[0] == 0xC2 && p[1] < 0xA0;
        const bool shown = len > 0 && !control;
        const size_t n_out = shown ? len : 1;
        if (n + n_out >= cap) {
            break;
        }
        memcpy(out + n, shown ? (const char *)p : "?", n_out);
        n += n_out;
        i += len > 0 ? len : 1;
    }
    out[n] = '\0';
}

uint64_t tl_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
