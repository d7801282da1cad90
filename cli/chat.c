/* Turns. The conversation is kept as messages; each turn renders all of it with the model's own
 * template, and what the session already holds of the resulting tokens is kept, so a turn costs its
 * new tokens only. Nothing is ever cut: a turn that does not fit is refused with the numbers, and
 * the conversation is as it was. */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

static void show(struct chat *chat, chat_kind kind, const char *text, size_t n) {
    chat->face.show(chat->face.user, kind, text, n);
}

void chat_note(struct chat *chat, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    char *const text = n >= 0 ? malloc((size_t)n + 1) : NULL;
    if (text != NULL) {
        vsnprintf(text, (size_t)n + 1, fmt, again);
        show(chat, CHAT_NOTE, text, (size_t)n);
    }
    va_end(args);
    va_end(again);
    free(text);
}

int chat_failed(struct chat *chat, tl_err err) {
    if (ferror(stdout)) {
        return 1; /* main says so */
    }
    cli_failed(&chat->loaded->log, err);
    chat->loaded->log.n_errors = 0;
    return err == TL_ERR_DEVICE ? 1 : 0;
}

/* What ended the answer, where it was not the model. */
static void show_end(struct chat *chat, const struct cli_answer *a) {
    const char *const why = a->stop == CLI_STOP_INTERRUPT ? "stopped"
                            : a->stop == CLI_STOP_LENGTH  ? "length"
                            : a->stop == CLI_STOP_CONTEXT ? "context full"
                                                          : "";
    show(chat, CHAT_END, why, strlen(why));
    if (a->stop == CLI_STOP_CONTEXT) {
        cli_error("the context of %u tokens is full: /clear starts over, --ctx makes it larger",
                  tl_session_ctx(chat->loaded->session));
    }
}

/* The message that could not be answered goes back to who wrote it, its document waits again. */
static tl_err take_back(struct chat *chat, size_t n_document) {
    const char *const text =
        cli_conversation_text(&chat->talk, cli_conversation_n(&chat->talk) - 1);
    TL_TRY(tl_bytes_add(&chat->talk.document, text, n_document));
    show(chat, CHAT_DRAFT, text + n_document, strlen(text + n_document));
    cli_conversation_drop_last(&chat->talk);
    if (n_document > 0) {
        chat_note(chat, "the document waits for your next message (/read - drops it)");
    }
    return TL_OK;
}

/* The answer, `start` included, becomes a message. */
static tl_err keep_answer(struct chat *chat, const char *start, const struct cli_answer *a) {
    tl_bytes whole = {0};
    tl_err err = tl_bytes_add_str(&whole, start);
    if (!err) {
        err = tl_bytes_add(&whole, a->text.data != NULL ? a->text.data : "", a->text.len);
    }
    if (!err) {
        err = cli_conversation_add_answer(&chat->talk, &whole);
    }
    tl_bytes_free(&whole);
    return err;
}

/* Where --session keeps the conversation. A failure is said and the chat goes on: the file is as it
 * was, and the next answer tries again. */
static int save(struct chat *chat) {
    if (!chat->unsaved) {
        return 0;
    }
    const struct cli_keep_what what = {.args = &chat->args,
                                       .kv = chat->loaded->kv,
                                       .params = &chat->sampling,
                                       .sampler = chat->sampler,
                                       .more = cli_conversation_to_json(&chat->talk)};
    const tl_err err = cli_keep_save(&chat->loaded->keep, chat->loaded->session, &what);
    chat->unsaved = err != TL_OK;
    if (err) {
        cli_failed(&chat->loaded->log, err);
        chat->loaded->log.n_errors = 0;
    }
    return err ? 1 : 0;
}

int chat_answer(struct chat *chat, const char *start) {
    const uint64_t began = tl_now_ns();
    struct cli_answer a = {.streams = true,
                           .ignore_end = chat->args.ignore_eos,
                           .n_max = chat->n_predict,
                           .times = &chat->times};
    chat->times.n = 0;
    chat->face.begin(chat->face.user);
    tl_err err = cli_conversation_feed(&chat->talk, chat->loaded, start, &chat->n_prefill);
    chat->prefill_s = (double)(tl_now_ns() - began) / 1e9;
    const bool stopped = chat->face.stop(chat->face.user);
    if (!err && !stopped) {
        err = cli_generate(chat->loaded, chat->sampler, &a);
    }
    chat->answered = a.ids.n > 0 || (!err && !stopped) || *start != '\0';
    if (chat->answered) {
        const tl_err kept = keep_answer(chat, start, &a);
        err = err ? err : kept;
        show_end(chat, &a);
        chat->unsaved = true;
        (void)save(chat); /* it said so itself, and leaving tries again */
    }
    cli_answer_free(&a);
    return err ? chat_failed(chat, err) : 0;
}

int chat_say(struct chat *chat, const char *text, size_t n) {
    const size_t n_document = chat->talk.document.len;
    tl_err err = cli_conversation_add_user(&chat->talk, text, n);
    if (err) {
        show(chat, CHAT_DRAFT, text, n);
        return chat_failed(chat, err);
    }
    show(chat, CHAT_USER, text, n);
    const int code = chat_answer(chat, "");
    err = chat->answered ? TL_OK : take_back(chat, n_document);
    return err ? chat_failed(chat, err) : code;
}

void chat_show_all(struct chat *chat) {
    chat->unsaved = true;
    show(chat, CHAT_CLEAR, "", 0);
    for (size_t i = 0; i < cli_conversation_n(&chat->talk); i++) {
        const char *const text = cli_conversation_text(&chat->talk, i);
        if (cli_conversation_is(&chat->talk, i, "user")) {
            show(chat, CHAT_OLD_USER, text, strlen(text));
        } else if (cli_conversation_is(&chat->talk, i, "assistant")) {
            show(chat, CHAT_OLD_ANSWER, text, strlen(text));
        }
    }
}

tl_err chat_unquote(const char *text, bool *whole, tl_bytes *out) {
    const char *const begin = text + strspn(text, " \t");
    const bool quoted = strncmp(begin, "\"\"\"", 3) == 0 || strncmp(begin, ":::", 3) == 0;
    const char *const inner = begin + (quoted ? 3 + (begin[3] == '\n') : 0);
    size_t n = strlen(inner);
    out->len = 0;
    *whole = !quoted;
    if (!quoted) {
        return tl_bytes_add_str(out, text);
    }
    while (n > 0 && strchr(" \t\n", inner[n - 1]) != NULL) {
        n--;
    }
    if (n < 3 || strncmp(inner + n - 3, begin, 3) != 0) {
        return TL_OK;
    }
    n -= 3;
    n -= n > 0 && inner[n - 1] == '\n';
    *whole = true;
    return tl_bytes_add(out, inner, n);
}

int chat_line(struct chat *chat, const char *text, bool *leave) {
    *leave = false;
    if (text[strspn(text, " \t\n")] == '\0') {
        return 0;
    }
    if (chat_is_dotted(text)) {
        return 0;
    }
    return text[0] == '/' ? chat_command(chat, text, leave) : chat_say(chat, text, strlen(text));
}

tl_err chat_open_sampler(struct chat *chat) {
    tl_sampler *sampler = NULL;
    const uint32_t n_vocab = tl_engine_model(chat->loaded->engine)->shape.n_vocab;
    TL_TRY(tl_sampler_open(&sampler, &chat->sampling, n_vocab));
    tl_sampler_close(&chat->sampler);
    chat->sampler = sampler;
    return TL_OK;
}

/* The conversation of --session's file. */
static tl_err resume(struct chat *chat) {
    const struct cli_keep *const keep = &chat->loaded->keep;
    const char *const asked = chat->args.system;
    TL_TRY(cli_conversation_from_json(&chat->talk, keep->app));
    const char *const system = chat->talk.system != NULL ? chat->talk.system : "";
    if (asked != NULL && strcmp(asked, system) != 0) {
        return tl_fail(&chat->talk.log, TL_ERR_FORMAT,
                       "%s: has another system message (without --system it is kept, /system "
                       "starts over with a new one)",
                       chat->args.session);
    }
    cli_restore_sampler(chat->loaded, &chat->sampling, chat->sampler);
    chat->kv = strdup(chat->loaded->kv); /* /model goes on with it */
    chat->args.kv = chat->kv;
    chat_show_all(chat);
    chat_note(chat, "resumed %u tokens, %zu messages from %s", keep->n_resumed,
              cli_conversation_n(&chat->talk), chat->args.session);
    return chat->kv != NULL ? TL_OK : TL_ERR_MEMORY;
}

static tl_err open_parts(struct chat *chat) {
    TL_TRY(chat_open_sampler(chat));
    TL_TRY(cli_conversation_open(&chat->talk, chat->loaded, chat->args.system));
    chat->n_branches = 1;
    TL_TRY(chat->loaded->keep.app != NULL ? resume(chat) : TL_OK);
    chat->unsaved = false;
    return TL_OK;
}

int chat_open(struct chat *chat, const struct cli_args *args, const struct chat_face *face,
              const struct cli_hooks *hooks, struct cli_share *share) {
    *chat = (struct chat){.args = *args, .face = *face, .n_predict = args->n_predict};
    chat->loaded = &chat->slots[0];
    chat->loaded->hooks = hooks;
    chat->loaded->share = share;
    const int code = cli_load(chat->loaded, &chat->args);
    if (code != 0) {
        return code;
    }
    chat->sampling = cli_sampler_params(chat->loaded, args);
    tl_err err = open_parts(chat);
    if (err) {
        return cli_failed(&chat->loaded->log, err);
    }
    if (cli_strict_failed(&chat->loaded->log)) {
        return 1;
    }
    tl_bytes document = {0};
    if (args->file != NULL) {
        if (!cli_read_file(args->file, &document)) {
            return 1;
        }
        err = cli_conversation_add_document(&chat->talk, args->file, &document);
        if (!err) {
            chat_note(chat, "%s (%zu bytes) is part of your next message", args->file,
                      document.len);
        }
        tl_bytes_free(&document);
    }
    return err ? cli_failed(&chat->loaded->log, err) : 0;
}

int chat_close(struct chat *chat) {
    const int code = save(chat);
    cli_conversation_close(&chat->talk);
    tl_sampler_close(&chat->sampler);
    for (size_t i = 0; i < CHAT_BRANCHES_MAX; i++) {
        json_decref(chat->branches[i]);
    }
    free(chat->times.ns);
    free(chat->model);
    free(chat->kv);
    tl_bytes_free(&chat->file);
    cli_unload(&chat->slots[0]);
    cli_unload(&chat->slots[1]);
    return code;
}
