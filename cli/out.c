#include "out.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLI_FILE_MAX = 1 << 30 };

/* A progress line may stand on the terminal: an error or a note starts at its beginning. */
static const char *line_start(void) { return cli_stderr_is_tty() ? "\r\033[K" : ""; }

/* Set before other threads begin and after they ended. */
static tl_log sink;

void cli_set_sink(void (*fn)(void *user, tl_level level, const char *sentence), void *user) {
    sink = (tl_log){fn, user};
}

void cli_error(const char *fmt, ...) {
    char sentence[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    for (char *c = sentence; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;
    }
    if (sink.fn != NULL) {
        sink.fn(sink.user, TL_LEVEL_ERROR, sentence);
        return;
    }
    fflush(stdout);
    fprintf(stderr, "%stailor: %s\n", line_start(), sentence);
}

static void log_sentence(void *user, tl_level level, const char *sentence) {
    struct cli_log *const log = user;
    if (level == TL_LEVEL_ERROR) {
        log->n_errors++;
        cli_error("%s", sentence);
        return;
    }
    log->n_warnings += level == TL_LEVEL_WARN;
    if (sink.fn != NULL) {
        sink.fn(sink.user, level, sentence);
    } else if (level == TL_LEVEL_WARN && !log->quiet) {
        fprintf(stderr, "%stailor: warning: %s\n", line_start(), sentence);
    } else if (level == TL_LEVEL_INFO && !log->quiet && cli_stderr_is_tty()) {
        fprintf(stderr, "%s%s\n", line_start(), sentence);
    }
}

tl_log cli_log_of(struct cli_log *log) { return (tl_log){log_sentence, log}; }

int cli_failed(const struct cli_log *log, tl_err err) {
    static const char *const kinds[] = {
        [TL_OK] = "failed",
        [TL_ERR_MEMORY] = "out of memory",
        [TL_ERR_DEVICE] = "the device failed",
        [TL_ERR_UNSUPPORTED] = "not supported",
        [TL_ERR_FORMAT] = "damaged data",
        [TL_ERR_IO] = "reading or writing failed",
    };
    if (log->n_errors == 0) {
        cli_error("%s", kinds[err]);
    }
    return 1;
}

bool cli_strict_failed(const struct cli_log *log) {
    if (!log->strict || log->n_warnings == 0) {
        return false;
    }
    cli_error("--strict: stopped for the warning above");
    return true;
}

void cli_print_text(const char *data, size_t n) {
    if (!cli_stdout_is_tty()) {
        fwrite(data, 1, n, stdout);
        fflush(stdout);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)data[i];
        const bool c1 = c == 0xc2 && i + 1 < n && (unsigned char)data[i + 1] < 0xa0;
        if (c1) {
            i++;
        } else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t') {
            putchar(c);
        }
    }
    fflush(stdout);
}

tl_err cli_osc52(const char *text, size_t n, tl_bytes *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    TL_TRY(tl_bytes_add_str(out, "\033]52;c;"));
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (i + k < n ? (unsigned char)text[i + k] : 0u);
        }
        char four[4];
        for (size_t k = 0; k < 4; k++) {
            four[k] = i + k > n ? '=' : digits[bits >> (18 - 6 * k) & 63];
        }
        TL_TRY(tl_bytes_add(out, four, 4));
    }
    return tl_bytes_add_str(out, "\a");
}

bool cli_print_json(json_t *object) {
    char *const text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (text == NULL) {
        cli_error("json: out of memory");
        return false;
    }
    puts(text);
    free(text);
    return true;
}

tl_err cli_read_file_log(const char *path, tl_bytes *out, const tl_log *log) {
    const bool standard = strcmp(path, "-") == 0;
    FILE *const f = standard ? stdin : fopen(path, "rb");
    struct stat st;
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        return tl_fail(log, TL_ERR_IO, "%s: %s", path, strerror(errno));
    }
    int failed = S_ISDIR(st.st_mode) ? EISDIR : 0;
    char block[65536];
    for (size_t n = 1; !failed && n > 0;) {
        n = fread(block, 1, sizeof block, f);
        failed = ferror(f)                          ? errno
                 : out->len + n > CLI_FILE_MAX      ? EFBIG
                 : tl_bytes_add(out, block, n) != 0 ? ENOMEM
                                                    : 0;
    }
    if (!standard) {
        fclose(f);
    }
    if (failed) {
        tl_bytes_free(out);
        return tl_fail(log, TL_ERR_IO, "%s: %s", path, strerror(failed));
    }
    return TL_OK;
}

bool cli_read_file(const char *path, tl_bytes *out) {
    struct cli_log log = {0};
    const tl_log to = cli_log_of(&log);
    return cli_read_file_log(path, out, &to) == TL_OK;
}

int64_t cli_not_text_at(const char *data, size_t n) {
    for (size_t i = 0; i < n;) {
        const unsigned len = tl_utf8_len((const uint8_t *)data + i, n - i);
        if (len == 0 || data[i] == '\0') {
            return (int64_t)i;
        }
        i += len;
    }
    return -1;
}

json_t *cli_json_text(const char *text) {
    const tl_str whole = tl_str_from(text);
    json_t *json = json_stringn(whole.data, whole.len);
    char *const copy = json == NULL ? malloc(whole.len + 1) : NULL;
    if (copy != NULL) {
        tl_text_copy(copy, whole.len + 1, whole);
        json = json_string(copy);
    }
    free(copy);
    return json;
}

/* Written by the handler alone; that is what sig_atomic_t is for. */
static volatile sig_atomic_t n_interrupts;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (++n_interrupts > 1) {
        static const char newline = '\n';
        const ssize_t ignored = write(STDERR_FILENO, &newline, 1);
        (void)ignored;
        _exit(130);
    }
}

void cli_interrupt_install(void) {
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: reads return */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool cli_interrupted(void) { return n_interrupts > 0; }
void cli_interrupt_clear(void) { n_interrupts = 0; }
bool cli_stderr_is_tty(void) { return isatty(STDERR_FILENO) == 1; }
bool cli_stdout_is_tty(void) { return isatty(STDOUT_FILENO) == 1; }
