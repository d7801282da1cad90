/* tailor chat: chooses between the full screen and the line mode, and is the line mode: read a
 * line, answer it. Pipes, files and terminals that cannot do more get lines. */
#include "chat.h"
#include "commands.h"
#include "full.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 1 << 26 };

struct lines {
    struct chat chat;
    bool prompts; /* a person types: show "> " */
    bool failed;  /* the input is no lines; an error was written */
};

/* A message is a C string further on: what would be lost behind a NUL is not sent in part. */
static bool end_line(tl_bytes *line) {
    if (line->len > 0 && line->data[line->len - 1] == '\r') {
        line->len--; /* a file from Windows */
    }
    if (line->len > 0 && memchr(line->data, '\0', line->len) != NULL) {
        cli_error("a line with a NUL byte in it is left out");
        line->len = 0;
    }
    return tl_bytes_add(line, "", 0) == TL_OK;
}

/* One line without its end; false at the end of input or on Ctrl+C. */
static bool read_line(struct lines *lines, tl_bytes *out) {
    out->len = 0;
    for (int c; (c = getchar()) != EOF;) {
        const char byte = (char)c;
        if (byte == '\n') {
            return end_line(out);
        }
        lines->failed = out->len == LINE_BYTES_MAX;
        if (lines->failed) {
            cli_error("a line is longer than %d bytes", LINE_BYTES_MAX);
        }
        if (lines->failed || tl_bytes_add(out, &byte, 1)) {
            return false;
        }
    }
    return out->len > 0 && !cli_interrupted() && end_line(out);
}

static void show_prompt(const struct lines *lines, const char *text) {
    if (lines->prompts) {
        fputs(text, stdout);
        fflush(stdout);
    }
}

/* True where a person ends the line with a backslash, which goes: another line follows. */
static bool takes_more(const struct lines *lines, tl_bytes *text) {
    if (!lines->prompts || text->len == 0 || text->data[text->len - 1] != '\\') {
        return false;
    }
    text->data[--text->len] = '\0';
    return true;
}

/* A message: one line, or several (chat_unquote). */
static bool read_message(struct lines *lines, tl_bytes *line, tl_bytes *out) {
    tl_bytes all = {0};
    bool ok = true, whole = false;
    for (const char *prompt = "> "; ok && !whole; prompt = "| ") {
        show_prompt(lines, prompt);
        ok = read_line(lines, line) &&
             tl_bytes_add_str(&all, *prompt == '|' ? "\n" : "") == TL_OK &&
             tl_bytes_add(&all, line->data, line->len) == TL_OK;
        if (ok && !takes_more(lines, &all)) {
            ok = chat_unquote(all.data, &whole, out) == TL_OK;
        }
    }
    if (!ok && all.len > 0 && !lines->failed && !cli_interrupted()) {
        cli_error("a message of several lines has no end and is left out");
    }
    tl_bytes_free(&all);
    return ok;
}

static void clip(const char *text, size_t n) {
    tl_bytes code = {0};
    if (!cli_stdout_is_tty()) {
        cli_error("/copy: the output is no terminal");
    } else if (cli_osc52(text, n, &code) == TL_OK) {
        fwrite(code.data, 1, code.len, stdout);
        fflush(stdout);
    }
    tl_bytes_free(&code);
}

static void show(void *user, chat_kind kind, const char *text, size_t n) {
    (void)user;
    switch (kind) {
    case CHAT_ANSWER:
        cli_print_text(text, n);
        return;
    case CHAT_END:
        putchar('\n');
        return;
    case CHAT_NOTE:
        cli_print_text(text, n);
        putchar('\n');
        return;
    case CHAT_CLIP:
        clip(text, n);
        return;
    case CHAT_USER: /* who types lines has just written it, and sees what came before */
    case CHAT_CLEAR:
    case CHAT_OLD_USER:
    case CHAT_OLD_ANSWER:
    case CHAT_DRAFT:
        return;
    }
}

static bool stop(void *user) {
    (void)user;
    return cli_interrupted();
}

static void begin(void *user) {
    (void)user;
    cli_interrupt_clear();
}

static int talk(struct lines *lines) {
    tl_bytes line = {0}, message = {0};
    int code = 0;
    for (bool leave = false; code == 0 && !leave && read_message(lines, &line, &message);) {
        code = chat_line(&lines->chat, message.data, &leave);
        cli_interrupt_clear();
    }
    show_prompt(lines, "\n");
    tl_bytes_free(&line);
    tl_bytes_free(&message);
    return code == 0 && lines->failed ? 1 : code;
}

static int chat_lines(const struct cli_args *args) {
    struct lines lines = {.prompts = isatty(STDIN_FILENO) == 1 && cli_stdout_is_tty()};
    const struct chat_face face = {.show = show, .stop = stop, .begin = begin};
    int code = chat_open(&lines.chat, args, &face, NULL, NULL);
    if (code == 0) {
        cli_say_fallback(lines.chat.loaded, args);
        if (cli_stderr_is_tty()) {
            cli_print_plan(lines.chat.loaded);
            fprintf(stderr, "/help lists the commands; Ctrl+D leaves\n\n");
        } else {
            cli_print_books(lines.chat.loaded);
        }
        cli_interrupt_install();
        code = talk(&lines);
    }
    const int saved = chat_close(&lines.chat);
    return code == 0 ? saved : code;
}

/* A terminal on both sides that can address its cursor. */
static bool wants_full_screen(const struct cli_args *args) {
    const char *const term = getenv("TERM");
    return !args->plain && isatty(STDIN_FILENO) == 1 && cli_stdout_is_tty() && term != NULL &&
           *term != '\0' && strcmp(term, "dumb") != 0;
}

int cmd_chat(const struct cli_args *args) {
    if (args->file != NULL && strcmp(args->file, "-") == 0) {
        cli_error("chat: -f - is not possible, standard input is what you say");
        return 2;
    }
    struct cli_args with_model = *args;
    char bundled[4352];
    if (args->model == NULL && cli_bundled_model(bundled, sizeof bundled)) {
        with_model.model = bundled;
    }
    int code = 0;
    if (wants_full_screen(args) && full_chat(&with_model, &code)) {
        return code;
    }
    return chat_lines(&with_model);
}
