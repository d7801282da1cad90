/* The commands of a chat: one table, one function each. A command that fails says why and leaves
 * the chat as it was; one that changes the conversation shows all of it again. */
#include "chat.h"
#include "look.h"
#include "new_file.h"
#include "others.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct command {
    const char *name, *other; /* another name, or NULL */
    const char *value;        /* what the help calls what follows */
    const char *help;
    int (*run)(struct chat *chat, const char *rest);
    bool takes_file;
};

/* ---- the conversation ---- */

static int run_clear(struct chat *chat, const char *rest) {
    (void)rest;
    const tl_err err = cli_conversation_reset(&chat->talk, chat->talk.system);
    chat_show_all(chat);
    return err ? chat_failed(chat, err) : 0;
}

static int run_system(struct chat *chat, const char *rest) {
    if (*rest == '\0') {
        chat_note(chat, "%s",
                  chat->talk.system != NULL ? chat->talk.system : "there is no system message");
        return 0;
    }
    const tl_err err = cli_conversation_reset(&chat->talk, strcmp(rest, "-") == 0 ? NULL : rest);
    if (err) {
        return chat_failed(chat, err);
    }
    chat_show_all(chat);
    chat_note(chat, strcmp(rest, "-") == 0 ? "no system message any more; a new conversation"
                                           : "a new conversation under this system message");
    return 0;
}

static bool ends_with_answer(const struct chat *chat) {
    const size_t n = cli_conversation_n(&chat->talk);
    return n > 0 && cli_conversation_is(&chat->talk, n - 1, "assistant");
}

/* The last answer, which is dropped; NULL without a sentence where memory is out. */
static char *take_answer(struct chat *chat) {
    char *const old =
        strdup(cli_conversation_text(&chat->talk, cli_conversation_n(&chat->talk) - 1));
    if (old != NULL) {
        cli_conversation_drop_last(&chat->talk);
    }
    return old;
}

static int run_regen(struct chat *chat, const char *rest) {
    (void)rest;
    char *const old = ends_with_answer(chat) ? take_answer(chat) : NULL;
    if (old == NULL) {
        chat_note(chat, "there is no answer to make again");
        return 0;
    }
    chat_show_all(chat);
    int code = chat_answer(chat, "");
    if (!chat->answered) { /* stopped before the first word */
        const tl_bytes text = {.data = old, .len = strlen(old)};
        const tl_err err = cli_conversation_add_answer(&chat->talk, &text);
        code = err ? chat_failed(chat, err) : code;
        chat_show_all(chat);
    }
    free(old);
    return code;
}

static int run_continue(struct chat *chat, const char *rest) {
    (void)rest;
    char *const start = ends_with_answer(chat) ? take_answer(chat) : NULL;
    if (start == NULL) {
        chat_note(chat, "there is no answer to go on with");
        return 0;
    }
    const int code = chat_answer(chat, start);
    if (!chat->answered) {
        const tl_bytes text = {.data = start, .len = strlen(start)};
        const tl_err err = cli_conversation_add_answer(&chat->talk, &text);
        free(start);
        return err ? chat_failed(chat, err) : code;
    }
    free(start);
    return code;
}

/* Drops the last question and what followed. Its text in *said (may be NULL), which the caller
 * frees; false, after a note, where there is none. */
static bool drop_exchange(struct chat *chat, char **said) {
    size_t n = cli_conversation_n(&chat->talk);
    size_t question = n;
    while (question > 0 && !cli_conversation_is(&chat->talk, question - 1, "user")) {
        question--;
    }
    if (question == 0) {
        chat_note(chat, "there is nothing to take back");
        return false;
    }
    if (said != NULL) {
        *said = strdup(cli_conversation_text(&chat->talk, question - 1));
    }
    for (; n >= question; n--) {
        cli_conversation_drop_last(&chat->talk);
    }
    return true;
}

static int run_undo(struct chat *chat, const char *rest) {
    (void)rest;
    if (drop_exchange(chat, NULL)) {
        chat_show_all(chat);
        chat_note(chat, "the last question and its answer are taken back");
    }
    return 0;
}

static int run_edit(struct chat *chat, const char *rest) {
    char *said = NULL;
    if (*rest == '\0' && !chat->face.edits) {
        cli_error("/edit: the new text is missing");
        return 0;
    }
    if (!drop_exchange(chat, &said)) {
        return 0;
    }
    chat_show_all(chat);
    int code = 0;
    if (*rest != '\0') {
        code = chat_say(chat, rest, strlen(rest));
    } else if (said != NULL) {
        chat->face.show(chat->face.user, CHAT_DRAFT, said, strlen(said));
    }
    free(said);
    return code;
}

/* What is on screen becomes branch `to`. */
static int switch_branch(struct chat *chat, size_t to) {
    json_t *const now = json_deep_copy(chat->talk.messages);
    if (now == NULL) {
        return chat_failed(chat, TL_ERR_MEMORY);
    }
    json_decref(chat->branches[chat->branch]);
    chat->branches[chat->branch] = now;
    const tl_err err = cli_conversation_replace(&chat->talk, chat->branches[to]);
    if (err) {
        return chat_failed(chat, err);
    }
    chat->branch = to;
    chat_show_all(chat);
    return 0;
}

static int run_fork(struct chat *chat, const char *rest) {
    char *end = NULL;
    const unsigned long wanted = strtoul(rest, &end, 10);
    if (*rest != '\0') {
        if (*end != '\0' || wanted == 0 || wanted > chat->n_branches) {
            cli_error("/fork: branches are 1 to %zu", chat->n_branches);
            return 0;
        }
        const int code = switch_branch(chat, wanted - 1);
        chat_note(chat, "branch %zu of %zu", chat->branch + 1, chat->n_branches);
        return code;
    }
    if (chat->n_branches == CHAT_BRANCHES_MAX) {
        cli_error("/fork: %d branches are the most", CHAT_BRANCHES_MAX);
        return 0;
    }
    json_t *const copy = json_deep_copy(chat->talk.messages);
    if (copy == NULL) {
        return chat_failed(chat, TL_ERR_MEMORY);
    }
    chat->branches[chat->n_branches++] = copy;
    const size_t from = chat->branch + 1;
    const int code = switch_branch(chat, chat->n_branches - 1);
    chat_note(chat, "this is branch %zu now; /fork %zu goes back to the other", chat->n_branches,
              from);
    return code;
}

/* ---- files ---- */

/* A file that is there and is not this chat's is not overwritten; false after an error line. */
static bool write_file(struct chat *chat, const char *name, const tl_bytes *text) {
    char path[CLI_PATH_MAX];
    if (!chat_expand(name, path, sizeof path)) {
        cli_error("%s: the name is too long", name);
        return false;
    }
    const bool ours = chat->file.data != NULL && strcmp(chat->file.data, name) == 0;
    if (!ours && access(path, F_OK) == 0) {
        cli_error("%s: is there already; remove it or choose another name", name);
        return false;
    }
    struct cli_new_file file;
    return cli_new_file_open(&file, path, "") && cli_new_file_finish(&file, text->data, text->len);
}

static tl_err remember_file(struct chat *chat, const char *name) {
    if (chat->file.data == name) {
        return TL_OK;
    }
    chat->file.len = 0;
    return tl_bytes_add_str(&chat->file, name);
}

static int run_save(struct chat *chat, const char *rest) {
    const char *const name = *rest != '\0' ? rest : chat->file.data;
    if (name == NULL) {
        cli_error("/save: which file?");
        return 0;
    }
    json_t *const object =
        json_pack("{s:o,s:o,s:O}", "model", cli_json_text(chat->args.model), "kv",
                  cli_json_text(chat->loaded->kv), "messages", chat->talk.messages);
    char *const text = object != NULL ? json_dumps(object, JSON_INDENT(1)) : NULL;
    json_decref(object);
    if (text == NULL) {
        return chat_failed(chat, TL_ERR_MEMORY);
    }
    const tl_bytes bytes = {.data = text, .len = strlen(text)};
    const bool ok = write_file(chat, name, &bytes);
    free(text);
    if (ok) {
        chat_note(chat, "saved: %zu messages in %s", cli_conversation_n(&chat->talk), name);
    }
    const tl_err err = ok ? remember_file(chat, name) : TL_OK;
    return err ? chat_failed(chat, err) : 0;
}

/* A model, or a file of --session, is meant by other commands. */
static void say_no_conversation(const char *name, const char *path, const char *why) {
    char magic[4] = "";
    FILE *const f = fopen(path, "rb");
    const bool read = f != NULL && fread(magic, 1, sizeof magic, f) == sizeof magic;
    if (f != NULL) {
        fclose(f);
    }
    if (read && memcmp(magic, "GGUF", sizeof magic) == 0) {
        cli_error("%s: is a model, no saved conversation; /model %s loads it", name, name);
    } else {
        cli_error("%s: is no saved conversation%s%s", name, why != NULL ? ": " : "",
                  why != NULL ? why : "");
    }
}

static int run_load(struct chat *chat, const char *rest) {
    char path[4096];
    tl_bytes text = {0};
    if (*rest == '\0' || !chat_expand(rest, path, sizeof path)) {
        cli_error("/load: which file?");
        return 0;
    }
    if (!cli_read_file(path, &text)) {
        return 0;
    }
    json_error_t error;
    json_t *const whole = json_loadb(text.data, text.len, JSON_ALLOW_NUL, &error);
    const json_t *const list = json_is_array(whole) ? whole : json_object_get(whole, "messages");
    tl_bytes_free(&text);
    if (!json_is_array(list)) {
        say_no_conversation(rest, path, whole == NULL ? error.text : NULL);
        json_decref(whole);
        return 0;
    }
    tl_err err = cli_conversation_replace(&chat->talk, list);
    json_decref(whole);
    if (!err) {
        err = remember_file(chat, rest);
        chat_show_all(chat);
        chat_note(chat, "%s: %zu messages", rest, cli_conversation_n(&chat->talk));
    }
    return err ? chat_failed(chat, err) : 0;
}

/* For people: headings and texts. */
static tl_err spell_markdown(const struct chat *chat, tl_bytes *out) {
    for (size_t i = 0; i < cli_conversation_n(&chat->talk); i++) {
        const bool user = cli_conversation_is(&chat->talk, i, "user");
        const bool answer = cli_conversation_is(&chat->talk, i, "assistant");
        TL_TRY(tl_bytes_add_str(out, i > 0 ? "\n" : ""));
        TL_TRY(tl_bytes_add_str(out, user     ? "## You\n\n"
                                     : answer ? "## Model\n\n"
                                              : "## System\n\n"));
        TL_TRY(tl_bytes_add_str(out, cli_conversation_text(&chat->talk, i)));
        TL_TRY(tl_bytes_add_str(out, "\n"));
    }
    return tl_bytes_add(out, "", 0);
}

static int run_export(struct chat *chat, const char *rest) {
    if (*rest == '\0') {
        cli_error("/export: which file?");
        return 0;
    }
    tl_bytes text = {0};
    const tl_err err = spell_markdown(chat, &text);
    if (!err && write_file(chat, rest, &text)) {
        chat_note(chat, "written: %s", rest);
    }
    tl_bytes_free(&text);
    return err ? chat_failed(chat, err) : 0;
}

static int run_copy(struct chat *chat, const char *rest) {
    (void)rest;
    if (!ends_with_answer(chat)) {
        chat_note(chat, "there is no answer to copy");
        return 0;
    }
    const char *const text =
        cli_conversation_text(&chat->talk, cli_conversation_n(&chat->talk) - 1);
    chat->face.show(chat->face.user, CHAT_CLIP, text, strlen(text));
    return 0;
}

/* ---- the model and its settings ---- */

#define AT(field) offsetof(struct tl_sampler_params, field)
static const struct setting {
    const char *name, *other;
    size_t off;
    bool whole; /* an integer */
    double low, high;
} settings[] = {
    {"temp", "temperature", AT(temp), false, 0, 100},
    {"top-k", NULL, AT(top_k), true, 0, 1e9},
    {"top-p", NULL, AT(top_p), false, 0, 1},
    {"min-p", NULL, AT(min_p), false, 0, 1},
    {"repeat-penalty", NULL, AT(repeat_penalty), false, 1e-3, 100},
    {"repeat-last-n", NULL, AT(repeat_last), true, 0, 1e9},
};
#undef AT
enum { N_SETTINGS = sizeof settings / sizeof settings[0] };

static void show_settings(struct chat *chat) {
    const struct tl_sampler_params *const p = &chat->sampling;
    char n[24] = "until the end";
    if (chat->n_predict != CLI_UNSET) {
        snprintf(n, sizeof n, "%u", chat->n_predict);
    }
    chat_note(chat,
              "temp %g, top-k %u, top-p %g, min-p %g, repeat-penalty %g, repeat-last-n %u, seed "
              "%llu, n %s\n/set NAME VALUE changes one",
              (double)p->temp, p->top_k, (double)p->top_p, (double)p->min_p,
              (double)p->repeat_penalty, p->repeat_last, (unsigned long long)p->seed, n);
}

/* Names of how long an answer may be. */
static bool is_length(const char *name) {
    static const char *const names[] = {"n", "n-predict", "num-predict", "max-tokens",
                                        "max-output-tokens"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* One of the numbers above; false after an error line. */
static bool set_number(struct chat *chat, const char *name, const char *value) {
    char *end = NULL;
    const double number = strtod(value, &end);
    const bool whole = value[strspn(value, "0123456789")] == '\0';
    const bool valid = *value != '\0' && *end == '\0' && number >= 0 && number <= 9e15;
    const bool is_seed = strcmp(name, "seed") == 0, is_n = is_length(name);
    errno = 0;
    const unsigned long long seed = is_seed ? strtoull(value, NULL, 10) : 0;
    if ((is_seed || is_n) && (*value == '\0' || !whole || errno != 0 || (is_n && !valid))) {
        cli_error("/set: %s is a whole number", name);
        return false;
    }
    if (is_seed || is_n) {
        if (is_seed) {
            chat->sampling.seed = seed;
        } else {
            chat->n_predict =
                number == 0 ? CLI_UNSET : (uint32_t)tl_min_u64((uint64_t)number, CLI_UNSET - 1);
        }
        return true;
    }
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *const s = &settings[i];
        if (strcmp(name, s->name) != 0 && (s->other == NULL || strcmp(name, s->other) != 0)) {
            continue;
        }
        if (!valid || (s->whole && !whole) || !(number >= s->low && number <= s->high)) {
            cli_error("/set: %s is a %snumber from %g to %g", s->name, s->whole ? "whole " : "",
                      s->low, s->high);
            return false;
        }
        void *const field = (char *)&chat->sampling + s->off;
        if (s->whole) {
            *(uint32_t *)field = (uint32_t)number;
        } else {
            *(float *)field = (float)number;
        }
        return true;
    }
    if (cli_others_setting(name) != NULL) {
        cli_error("/set: '%s' is no setting; %s", name, cli_others_setting(name));
        return false;
    }
    cli_error(
        "/set: '%s' is none of temp, top-k, top-p, min-p, repeat-penalty, repeat-last-n, seed, n",
        name);
    return false;
}

static int run_set(struct chat *chat, const char *rest) {
    char words[256];
    snprintf(words, sizeof words, "%s", rest);
    for (char *c = words; *c != '\0'; c++) {
        *c = *c == '_' ? '-' : *c == '=' ? ' ' : *c;
    }
    char *left = words;
    char *name = strtok_r(left, " ", &left);
    if (name != NULL && strcmp(name, "parameter") == 0) {
        name = strtok_r(left, " ", &left);
    }
    if (name == NULL) {
        show_settings(chat);
        return 0;
    }
    if (strcmp(name, "system") == 0) {
        const char *const text = strstr(rest, "system") + strlen("system");
        return run_system(chat, text + strspn(text, " ="));
    }
    const char *const value = strtok_r(left, " ", &left);
    if (!set_number(chat, name, value != NULL ? value : "")) {
        return 0;
    }
    const tl_err err = chat_open_sampler(chat);
    chat->unsaved = true;
    show_settings(chat);
    return err ? chat_failed(chat, err) : 0;
}

static int run_model(struct chat *chat, const char *rest) {
    if (*rest == '\0') {
        chat_note(chat, "%s", chat->args.model);
        return 0;
    }
    char path[4096];
    struct cli_loaded *const other = &chat->slots[chat->loaded == &chat->slots[0]];
    struct cli_args args = chat->args;
    char *const name = chat_expand(rest, path, sizeof path) ? strdup(path) : NULL;
    args.model = name;
    args.session = NULL;
    other->hooks = chat->loaded->hooks;
    other->share = chat->loaded->share;
    if (name == NULL || cli_load(other, &args) != 0) {
        free(name);
        cli_share_session(chat->loaded->share, chat->loaded->engine, chat->loaded->session,
                          chat->loaded->kv);
        chat_note(chat, "the model is still %s", chat->args.model);
        return 0;
    }
    struct cli_loaded *const old = chat->loaded;
    other->owns_share = old->owns_share;
    old->owns_share = false;
    chat->loaded = other;
    tl_err err = chat_open_sampler(chat);
    if (!err) {
        err = cli_conversation_use(&chat->talk, other);
    }
    cli_keep_move(&other->keep, &old->keep);
    cli_unload(old);
    free(chat->model);
    chat->model = name;
    chat->args.model = name;
    if (!err) {
        chat_note(chat, "the model is %s now; it reads the conversation with your next message",
                  rest);
    }
    return err ? chat_failed(chat, err) : 0;
}

static int run_kv(struct chat *chat, const char *rest) {
    struct cli_loaded *const loaded = chat->loaded;
    char books[CLI_BOOKS_MAX];
    if (*rest == '\0') {
        char names[512] = "";
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            const size_t at = strlen(names);
            snprintf(names + at, sizeof names - at, "%s%s", at > 0 ? ", " : "", p->name);
        }
        cli_spell_books(loaded, books);
        chat_note(chat, "the cache is %s; there are %s, and policy files%s%s", loaded->kv, names,
                  books[0] != '\0' ? "; " : "", books);
        return 0;
    }
    struct tl_session_params params = {0};
    char *const name = strdup(rest);
    tl_session *const old = loaded->session;
    const char *const old_name = loaded->kv;
    const bool ok = name != NULL && cli_session_params(&chat->args, &params) == 0;
    tl_err err = ok ? cli_open_session(loaded, &chat->args, name, &params) : TL_ERR_MEMORY;
    if (err) {
        loaded->session = old;
        loaded->kv = old_name;
        free(name);
        const int code = chat_failed(chat, err);
        chat_note(chat, "the cache is still %s", loaded->kv);
        return code;
    }
    tl_session_close((tl_session *[]){old});
    free(chat->kv);
    chat->kv = name;
    chat->args.kv = name;
    cli_spell_books(loaded, books);
    chat_note(chat, "the cache is %s now; it is filled with your next message%s%s", name,
              books[0] != '\0' ? "; " : "", books);
    return 0;
}

/* ---- looking ---- */

static int run_context(struct chat *chat, const char *rest) {
    (void)rest;
    const uint32_t n = tl_session_n(chat->loaded->session);
    const uint32_t n_ctx = tl_session_ctx(chat->loaded->session);
    chat_note(chat, "%u of %u tokens (%.1f%%), %zu messages%s", n, n_ctx, 100.0 * n / n_ctx,
              cli_conversation_n(&chat->talk),
              chat->talk.document.len > 0 ? ", a document waits for your next message" : "");
    return 0;
}

static int run_stats(struct chat *chat, const char *rest) {
    (void)rest;
    if (chat->times.n == 0) {
        chat_note(chat, "no answer yet");
        return 0;
    }
    const struct cli_percentiles p = cli_times_summary(&chat->times);
    const struct tl_traffic t = tl_session_traffic(chat->loaded->session);
    const uint64_t rows = t.rows_hit + t.rows_fetched;
    chat_note(chat,
              "read %zu tokens in %.2f s (%.0f/s); wrote %zu tokens, %.1f ms each (p95 %.1f), "
              "%.1f/s",
              chat->n_prefill, chat->prefill_s,
              (double)chat->n_prefill / (chat->prefill_s > 0 ? chat->prefill_s : 1), chat->times.n,
              p.p50_ms, p.p95_ms, 1e3 / p.mean_ms);
    if (rows > 0) {
        char bytes[16];
        chat_note(chat, "cache %s: %s came from host memory, %.1f%% of the rows were on the device",
                  chat->loaded->kv, cli_bytes(t.host_to_device_bytes, bytes),
                  100.0 * (double)t.rows_hit / (double)rows);
    }
    return 0;
}

static int run_look(struct chat *chat, const char *rest) {
    const uint32_t n_layers = tl_engine_model(chat->loaded->engine)->shape.n_layers;
    char *end = NULL;
    const unsigned long il = strtoul(rest, &end, 10);
    tl_bytes text = {0};
    if (*end != '\0' || il >= n_layers) {
        cli_error("/look: layers are 0 to %u", n_layers - 1);
        return 0;
    }
    const tl_err err = cli_look(chat->loaded, (uint32_t)il, &text);
    if (!err) {
        chat_note(chat, "%s", text.data);
    }
    tl_bytes_free(&text);
    return err ? chat_failed(chat, err) : 0;
}

/* What ollama's users ask for by these words. */
static int run_show(struct chat *chat, const char *rest) {
    tl_bytes text = {0};
    if (strcmp(rest, "parameters") == 0) {
        show_settings(chat);
        return 0;
    }
    if (strcmp(rest, "system") == 0) {
        return run_system(chat, "");
    }
    if (strcmp(rest, "template") == 0) {
        const tl_str own = chat->talk.template_text;
        const tl_str t = own.len > 0 ? own : tl_str_from("the model has no chat template");
        chat_note(chat, "%.*s", (int)tl_min_u64(t.len, INT32_MAX), t.data);
        return 0;
    }
    if (*rest != '\0' && strcmp(rest, "info") != 0) {
        cli_error("/show: '%s' is none of info, parameters, system, template", rest);
        return 0;
    }
    tl_err err = cli_spell_plan(chat->loaded, &text);
    if (!err) {
        err = cli_spell_tiers(chat->loaded, &text);
    }
    if (!err) {
        chat_note(chat, "%s\n%s", chat->args.model, text.data);
    }
    tl_bytes_free(&text);
    return err ? chat_failed(chat, err) : 0;
}

static int run_help(struct chat *chat, const char *rest);

static int run_quit(struct chat *chat, const char *rest) {
    (void)chat;
    (void)rest;
    return 0; /* chat_command knows it by its name */
}

static const struct command commands[] = {
    {"/help", "/?", "", "this", run_help, false},
    {"/read", "/file", "FILE", "put a document into your next message", chat_read, true},
    {"/glob", NULL, "PATTERN", "the same for all files that match", chat_glob, true},
    {"/new", "/reset", "", "start over (/clear, /reset)", run_clear, false},
    {"/clear", NULL, NULL, NULL, run_clear, false},
    {"/regen", "/retry", "", "answer the last message again (/regenerate, /retry)", run_regen,
     false},
    {"/regenerate", NULL, NULL, NULL, run_regen, false},
    {"/continue", NULL, "", "go on with the last answer", run_continue, false},
    {"/edit", NULL, "[TEXT]", "write the last message anew", run_edit, false},
    {"/undo", NULL, "", "take the last message and its answer back", run_undo, false},
    {"/fork", NULL, "[N]", "go on in a copy; with a number: go to that branch", run_fork, false},
    {"/system", NULL, "[TEXT|-]", "show, set or remove the system message (starts over)",
     run_system, false},
    {"/set", NULL, "[NAME VALUE]", "show or change temp, top-k, top-p, min-p, seed, n ...", run_set,
     false},
    {"/model", NULL, "[FILE]", "show or change the model", run_model, true},
    {"/kv", NULL, "[PRESET|FILE]", "show or change the cache", run_kv, true},
    {"/save", NULL, "FILE", "keep the conversation (JSON)", run_save, true},
    {"/load", NULL, "FILE", "go on with one that was kept", run_load, true},
    {"/export", NULL, "FILE", "write the conversation as Markdown", run_export, true},
    {"/copy", NULL, "", "the last answer to the terminal's clipboard (OSC 52)", run_copy, false},
    {"/context", NULL, "", "how full the context is", run_context, false},
    {"/stats", NULL, "", "speed of the last answer", run_stats, false},
    {"/look", NULL, "[LAYER]", "what the last token looked at, as text", run_look, false},
    {"/list", "/models", "[FOLDER]", "models beside this one (/ls too)", chat_list, true},
    {"/ls", NULL, NULL, NULL, chat_list, true},
    {"/show", "/info", "[PART]", "info, parameters, system or template of the model", run_show,
     false},
    {"/quit", "/q", "", "leave (Ctrl+D too; /exit, /bye, /q)", run_quit, false},
    {"/exit", "/bye", NULL, NULL, run_quit, false},
    {"/plan", "/memory", NULL, NULL, run_show, false},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static int run_help(struct chat *chat, const char *rest) {
    if (strcmp(rest, "shortcuts") == 0 || strcmp(rest, "keys") == 0) {
        chat_note(chat, "F1 lists the keys of the full screen");
        return 0;
    }
    char text[4096];
    size_t at = 0;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (commands[i].help != NULL) {
            char left[32];
            snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].value);
            at +=
                (size_t)snprintf(text + at, sizeof text - at, "%-20s %s\n", left, commands[i].help);
        }
    }
    snprintf(text + at, sizeof text - at,
             "A message of several lines stands between \"\"\" and \"\"\", or its lines end with a "
             "backslash.\nCtrl+C stops an answer, a second one leaves.");
    chat_note(chat, "%s", text);
    return 0;
}

static const struct command *find_command(tl_str name) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (tl_str_is(name, commands[i].name) ||
            (commands[i].other != NULL && tl_str_is(name, commands[i].other))) {
            return &commands[i];
        }
    }
    return NULL;
}

const char *chat_command_name(size_t i) { return i < N_COMMANDS ? commands[i].name : NULL; }

bool chat_command_takes_file(const char *name) {
    const struct command *const command = find_command(tl_str_from(name));
    return command != NULL && command->takes_file;
}

/* What was meant: a habit from elsewhere, or one of ours that is written almost so. */
static void unknown_command(tl_str name) {
    enum { TYPOS_MAX = 2 };
    char word[32];
    const char *nearest = NULL;
    size_t best = TYPOS_MAX + 1;
    snprintf(word, sizeof word, "%.*s", (int)tl_min_u64(name.len, sizeof word - 1), name.data);
    const char *const instead = cli_others_command(word + 1);
    for (size_t i = 0; i < N_COMMANDS && instead == NULL; i++) {
        const bool begins = name.len > 1 && strncmp(commands[i].name, word, strlen(word)) == 0;
        size_t far = begins ? 0 : cli_word_distance(word, commands[i].name, TYPOS_MAX);
        far = far + 1 < name.len ? far : best; /* else nothing of it is left */
        nearest = far < best ? commands[i].name : nearest;
        best = far < best ? far : best;
    }
    if (instead != NULL) {
        cli_error("%s: no such command; %s", word, instead);
    } else if (nearest != NULL) {
        cli_error("%s: no such command; is it %s? (see /help)", word, nearest);
    } else {
        cli_error("%s: no such command (see /help)", word);
    }
}

bool chat_is_dotted(const char *text) {
    char word[32];
    const size_t n = strcspn(text + 1, " \t\n");
    snprintf(word, sizeof word, "/%.*s", (int)tl_min_u64(n, sizeof word - 2), text + 1);
    const bool known =
        find_command(tl_str_from(word)) != NULL || cli_others_command(word + 1) != NULL;
    if (text[0] == '.' && n > 0 && known) {
        cli_error(".%s: commands begin with a slash here (see /help)", word + 1);
        return true;
    }
    return false;
}

int chat_command(struct chat *chat, const char *line, bool *leave) {
    const size_t n = strcspn(line, " \t\n");
    const char *const rest = line + n + strspn(line + n, " \t\n");
    const struct command *const command = find_command((tl_str){line, n});
    if (command == NULL) {
        unknown_command((tl_str){line, n});
        return 0;
    }
    if (command->run == run_quit) {
        *leave = true;
        return 0;
    }
    size_t len = strlen(rest);
    while (len > 0 && strchr(" \t\n", rest[len - 1]) != NULL) {
        len--;
    }
    char *const copy = strndup(rest, len);
    const int code = copy != NULL ? command->run(chat, copy) : chat_failed(chat, TL_ERR_MEMORY);
    free(copy);
    return code;
}
