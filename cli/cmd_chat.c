/* tailor chat, line mode: read a line, answer it. The conversation is kept as messages; each turn
 * renders all of it with the model's own template, and what the session already holds of the
 * resulting tokens is kept, so a turn costs its new tokens only. Nothing is ever cut: a turn that
 * does not fit is refused with the numbers and the conversation is as it was. */
#include "commands.h"
#include "conversation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat {
    const struct cli_args *args;
    struct cli_loaded loaded;
    struct cli_conversation talk;
    tl_sampler *sampler;
    struct cli_times times; /* of the last answer */
    double prefill_s;
    size_t n_prefill;
    bool prompts; /* a person types: show "> " */
};

static const char help_text[] =
    "/help            this\n"
    "/read FILE       put a document into the conversation\n"
    "/system TEXT     set the system message and start over\n"
    "/regen           answer the last message again\n"
    "/clear           start over (/new does the same)\n"
    "/context         how full the context is\n"
    "/stats           speed of the last answer\n"
    "/quit            leave (Ctrl+D too; /exit and /bye do the same)\n"
    "A line of \"\"\" begins and ends a message of several lines. Ctrl+C stops an answer, a second\n"
    "one leaves.\n";

/* One line without its newline; false at the end of input or on Ctrl+C. */
static bool read_line(tl_bytes *out) {
    out->len = 0;
    for (int c; (c = getchar()) != EOF;) {
        const char byte = (char)c;
        if (byte == '\n') {
            return tl_bytes_add(out, "", 0) == TL_OK;
        }
        if (tl_bytes_add(out, &byte, 1)) {
            return false;
        }
    }
    return out->len > 0 && !cli_interrupted() && tl_bytes_add(out, "", 0) == TL_OK;
}

static void show_prompt(const struct chat *chat, const char *text) {
    if (chat->prompts) {
        fputs(text, stdout);
        fflush(stdout);
    }
}

/* A message: one line, or the lines between two of """. */
static bool read_message(const struct chat *chat, tl_bytes *line, tl_bytes *out) {
    show_prompt(chat, "> ");
    if (!read_line(line)) {
        return false;
    }
    out->len = 0;
    if (strcmp(line->data, "\"\"\"") != 0) {
        return tl_bytes_add(out, line->data, line->len) == TL_OK;
    }
    for (;;) {
        show_prompt(chat, "| ");
        if (!read_line(line)) {
            return false;
        }
        if (strcmp(line->data, "\"\"\"") == 0) {
            return tl_bytes_add(out, "", 0) == TL_OK;
        }
        if (tl_bytes_add(out, line->data, line->len) || tl_bytes_add(out, "\n", 1)) {
            return false;
        }
    }
}

/* What a turn that failed leaves the user to read; the conversation was put back already. */
static int turn_failed(struct chat *chat, tl_err err) {
    if (ferror(stdout)) {
        return 1; /* main says so */
    }
    cli_failed(&chat->loaded.log, err);
    chat->loaded.log.n_errors = 0;
    return err == TL_ERR_DEVICE ? 1 : 0;
}

/* Answers the last message. Returns an exit code only where chatting cannot go on, else 0. */
static int answer(struct chat *chat) {
    const uint64_t start = tl_now_ns();
    struct cli_answer a = {.to_stdout = true,
                           .ignore_end = chat->args->ignore_eos,
                           .n_max = chat->args->n_predict,
                           .times = &chat->times};
    chat->times.n = 0;
    cli_interrupt_clear();
    tl_err err = cli_conversation_feed(&chat->talk, &chat->loaded, &chat->n_prefill);
    chat->prefill_s = (double)(tl_now_ns() - start) / 1e9;
    if (!err && !cli_interrupted()) {
        err = cli_generate(&chat->loaded, chat->sampler, &a);
    }
    const bool begun = a.ids.n > 0 || (!err && !cli_interrupted());
    if (begun) {
        putchar('\n');
        err = err ? err : cli_conversation_add_answer(&chat->talk, &a.text);
    } else {
        cli_conversation_drop_last(&chat->talk);
    }
    if (a.stop == CLI_STOP_CONTEXT) {
        cli_error("the context of %u tokens is full: /clear starts over, --ctx makes it larger",
                  tl_session_ctx(chat->loaded.session));
    }
    cli_answer_free(&a);
    cli_interrupt_clear();
    return err ? turn_failed(chat, err) : 0;
}

static int say(struct chat *chat, const char *text, size_t n) {
    const tl_err err = cli_conversation_add_user(&chat->talk, text, n);
    return err ? turn_failed(chat, err) : answer(chat);
}

static void print_stats(const struct chat *chat) {
    if (chat->times.n == 0) {
        puts("no answer yet");
        return;
    }
    const struct cli_percentiles p = cli_times_summary(&chat->times);
    printf("read %zu tokens in %.2f s (%.0f/s); wrote %zu tokens, %.1f ms each (p95 %.1f), %.1f/s\n",
           chat->n_prefill, chat->prefill_s,
           (double)chat->n_prefill / (chat->prefill_s > 0 ? chat->prefill_s : 1), chat->times.n,
           p.p50_ms, p.p95_ms, 1e3 / p.mean_ms);
}

static void print_context(const struct chat *chat) {
    const uint32_t n = tl_session_n(chat->loaded.session);
    const uint32_t n_ctx = tl_session_ctx(chat->loaded.session);
    printf("%u of %u tokens (%.1f%%)\n", n, n_ctx, 100.0 * n / n_ctx);
}

static int start_over(struct chat *chat, const char *system) {
    const tl_err err = cli_conversation_reset(&chat->talk, system);
    return err ? turn_failed(chat, err) : 0;
}

static int read_document(struct chat *chat, const char *path) {
    tl_bytes text = {0};
    if (!cli_read_file(path, &text)) {
        return 0;
    }
    const tl_err err = cli_conversation_add_document(&chat->talk, path, &text);
    tl_bytes_free(&text);
    if (!err) {
        printf("%s is part of your next message\n", path);
    }
    return err ? turn_failed(chat, err) : 0;
}

/* Runs a command; *leave says that the chat is over. Returns an exit code where it cannot go on. */
static int run_command(struct chat *chat, const char *line, bool *leave) {
    const char *const space = strchr(line, ' ');
    const size_t n = space != NULL ? (size_t)(space - line) : strlen(line);
    const char *const rest = space != NULL ? space + 1 : "";
    const tl_str name = {line, n};
    if (tl_str_is(name, "/quit") || tl_str_is(name, "/exit") || tl_str_is(name, "/bye")) {
        *leave = true;
    } else if (tl_str_is(name, "/help") || tl_str_is(name, "/?")) {
        fputs(help_text, stdout);
    } else if (tl_str_is(name, "/clear") || tl_str_is(name, "/new")) {
        return start_over(chat, chat->talk.system);
    } else if (tl_str_is(name, "/system")) {
        return start_over(chat, rest);
    } else if (tl_str_is(name, "/context")) {
        print_context(chat);
    } else if (tl_str_is(name, "/stats")) {
        print_stats(chat);
    } else if (tl_str_is(name, "/read") && *rest != '\0') {
        return read_document(chat, rest);
    } else if (tl_str_is(name, "/regen")) {
        if (!cli_conversation_drop_answer(&chat->talk)) {
            puts("there is no answer to make again");
            return 0;
        }
        return answer(chat);
    } else {
        cli_error("%.*s: no such command (see /help)", (int)tl_min_u64(n, 40), line);
    }
    return 0;
}

static int talk(struct chat *chat) {
    tl_bytes line = {0}, message = {0};
    int code = 0;
    for (bool leave = false; code == 0 && !leave;) {
        if (!read_message(chat, &line, &message)) {
            break;
        }
        const char *const text = message.data;
        if (text[strspn(text, " \t\n")] == '\0') {
            continue;
        }
        code = text[0] == '/' ? run_command(chat, text, &leave) : say(chat, text, message.len);
    }
    if (chat->prompts) {
        putchar('\n');
    }
    tl_bytes_free(&line);
    tl_bytes_free(&message);
    return code;
}

static int open_chat(struct chat *chat) {
    const struct cli_args *const a = chat->args;
    const struct tl_sampler_params sampler = cli_sampler_params(a);
    const uint32_t n_vocab = tl_engine_model(chat->loaded.engine)->shape.n_vocab;
    tl_err err = tl_sampler_open(&chat->sampler, &sampler, n_vocab);
    if (!err) {
        err = cli_conversation_open(&chat->talk, &chat->loaded, a->system);
    }
    if (err) {
        return cli_failed(&chat->loaded.log, err);
    }
    if (cli_strict_failed(&chat->loaded.log)) {
        return 1;
    }
    tl_bytes document = {0};
    if (a->file != NULL) {
        if (!cli_read_file(a->file, &document)) {
            return 1;
        }
        err = cli_conversation_add_document(&chat->talk, a->file, &document);
        tl_bytes_free(&document);
    }
    return err ? cli_failed(&chat->loaded.log, err) : 0;
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
    struct chat chat = {.args = &with_model,
                        .prompts = isatty(STDIN_FILENO) == 1 && cli_stdout_is_tty()};
    int code = cli_load(&chat.loaded, &with_model);
    if (code == 0) {
        if (cli_stderr_is_tty()) {
            cli_print_plan(&chat.loaded);
            fprintf(stderr, "/help lists the commands; Ctrl+D leaves\n\n");
        }
        code = open_chat(&chat);
    }
    if (code == 0) {
        cli_interrupt_install();
        code = talk(&chat);
    }
    cli_conversation_close(&chat.talk);
    tl_sampler_close(&chat.sampler);
    free(chat.times.ns);
    cli_unload(&chat.loaded);
    return code;
}
