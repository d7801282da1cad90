/* The few things every file shares: the error type, the log a caller hands in, assertions,
 * integer helpers, a clock. Nothing here allocates, prints or exits (a failed TL_ASSERT aside). */
#ifndef TL_BASE_H
#define TL_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The one error type. A bug is never an error but a TL_ASSERT. The sentence for a human goes once,
 * through tl_fail, to the log of the object that failed; the code only says what kind it was. */
typedef enum tl_err {
    TL_OK = 0,
    TL_ERR_MEMORY,      /* host or device memory, or the room of a context, is used up */
    TL_ERR_DEVICE,      /* a device failed; sticky until the device is closed */
    TL_ERR_UNSUPPORTED, /* valid, but nothing here can run it; also: no such device */
    TL_ERR_FORMAT,      /* hostile or damaged data: model, template, vocabulary, policy, session */
    TL_ERR_IO,          /* the operating system refused: open, read, map, write */
} tl_err;

#define TL_NORETURN __attribute__((noreturn))
#define TL_MUST __attribute__((warn_unused_result))
#define TL_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))

typedef enum tl_level { TL_LEVEL_ERROR, TL_LEVEL_WARN, TL_LEVEL_INFO } tl_level;

/* Where sentences go. Borrowed by every object opened with it and copied by value: `user` must
 * outlive the object. `fn` may be NULL (silence). It may be called from any thread that calls in.
 */
typedef struct tl_log {
    void (*fn)(void *user, tl_level level, const char *sentence);
    void *user;
} tl_log;

/* Says why (no newline, no "tailor:" prefix, subject first: "blk.0.attn_k.weight: 3 rows, ...")
 * and returns `err`, so that a failing function can `return tl_fail(...)`. log may be NULL. */
tl_err tl_fail(const tl_log *log, tl_err err, const char *fmt, ...) TL_PRINTF(3, 4);

/* The same for what is not fatal. */
void tl_say(const tl_log *log, tl_level level, const char *fmt, ...) TL_PRINTF(3, 4);

/* Bugs only, on in release: prints file, line and condition to stderr and aborts. */
#define TL_ASSERT(cond) ((cond) ? (void)0 : tl_assert_failed(__FILE__, __LINE__, #cond))
TL_NORETURN void tl_assert_failed(const char *file, int line, const char *cond);

/* Returns the error upwards; the only control-flow macro of the project. */
#define TL_TRY(e)                                                                                  \
    do {                                                                                           \
        const tl_err tl_try_err_ = (e);                                                            \
        if (tl_try_err_) {                                                                         \
            return tl_try_err_;                                                                    \
        }                                                                                          \
    } while (0)

/* Bytes that are not NUL-terminated and may hold NULs. Borrowed unless a comment says owned. */
typedef struct tl_str {
    const char *data;
    size_t len;
} tl_str;

tl_str tl_str_from(const char *c_string);
bool tl_str_eq(tl_str a, tl_str b);
bool tl_str_is(tl_str a, const char *c_string);

/* The length of the code point that starts at p (n bytes left, n > 0), or 0 when it is malformed:
 * no overlong forms, no surrogates, nothing above U+10FFFF. */
static inline unsigned tl_utf8_len(const uint8_t *p, size_t n) {
    if (p[0] < 0x80) {
        return 1;
    }
    const unsigned len = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < len) {
        return 0;
    }
    const uint8_t low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (unsigned i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* Copies as many whole characters as fit and a NUL; what is no UTF-8 or a control character becomes
 * '?': names from outside, on their way to terminals and JSON. cap > 0. */
void tl_text_copy(char *out, size_t cap, tl_str text);

/* A growable byte buffer, always NUL-terminated behind `len` once anything was added.
 * Zero-initialise; tl_bytes_free empties it. Adding fails only with TL_ERR_MEMORY. */
typedef struct tl_bytes {
    char *data; /* owned */
    size_t len, cap;
} tl_bytes;

TL_MUST tl_err tl_bytes_add(tl_bytes *b, const void *src, size_t n);
TL_MUST tl_err tl_bytes_add_str(tl_bytes *b, const char *c_string);
void tl_bytes_free(tl_bytes *b);

static inline uint64_t tl_div_up(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
static inline uint64_t tl_align_up(uint64_t a, uint64_t to) { return tl_div_up(a, to) * to; }
static inline uint64_t tl_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t tl_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Monotonic clock, nanoseconds. */
uint64_t tl_now_ns(void);

#ifdef __cplusplus
}
#endif

#endif
