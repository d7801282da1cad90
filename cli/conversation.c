#include "conversation.h"

#include "core/template.h"

#include <stdlib.h>
#include <string.h>

static tl_err add_message(struct cli_conversation *c, const char *role, const char *text,
                          size_t n) {
    json_t *content = json_stringn(text, n);
    if (content == NULL) { /* a terminal or a file can send anything */
        return tl_fail(&c->log, TL_ERR_FORMAT, "the message is not valid UTF-8");
    }
    json_t *const message = json_pack("{s:s,s:o}", "role", role, "content", content);
    return message != NULL && json_array_append_new(c->messages, message) == 0 ? TL_OK
                                                                               : TL_ERR_MEMORY;
}

tl_err cli_conversation_use(struct cli_conversation *c, const struct cli_loaded *loaded) {
    c->vocab = tl_engine_vocab(loaded->engine);
    c->log = *tl_weights_log(tl_engine_weights(loaded->engine));
    c->template_text = (tl_str){"", 0};
    c->warned = false;
    TL_TRY(tl_meta_get_str(tl_engine_weights(loaded->engine), "tokenizer.chat_template",
                           TL_OPTIONAL, &c->template_text));
    if (c->template_text.len == 0) {
        tl_say(&c->log, TL_LEVEL_WARN,
               "the model has no chat template: it continues your text instead of answering");
    }
    return TL_OK;
}

tl_err cli_conversation_open(struct cli_conversation *c, const struct cli_loaded *loaded,
                             const char *system) {
    *c = (struct cli_conversation){0};
    TL_TRY(cli_conversation_use(c, loaded));
    return cli_conversation_reset(c, system);
}

void cli_conversation_close(struct cli_conversation *c) {
    json_decref(c->messages);
    free(c->system);
    tl_bytes_free(&c->document);
    *c = (struct cli_conversation){0};
}

tl_err cli_conversation_reset(struct cli_conversation *c, const char *system) {
    char *const copy = system != NULL && *system != '\0' ? strdup(system) : NULL;
    json_t *const messages = json_array();
    if (messages == NULL || (system != NULL && *system != '\0' && copy == NULL)) {
        json_decref(messages);
        free(copy);
        return TL_ERR_MEMORY;
    }
    json_decref(c->messages);
    free(c->system);
    c->messages = messages;
    c->system = copy;
    c->document.len = 0;
    return copy != NULL ? add_message(c, "system", copy, strlen(copy)) : TL_OK;
}

tl_err cli_conversation_add_document(struct cli_conversation *c, const char *name,
                                     const tl_bytes *text) {
    const int64_t at = cli_not_text_at(text->data, text->len);
    if (at >= 0) {
        return tl_fail(&c->log, TL_ERR_FORMAT, "%s: not a text: byte %lld is no UTF-8", name,
                       (long long)at);
    }
    if (cli_not_text_at(name, strlen(name)) >= 0) {
        return tl_fail(&c->log, TL_ERR_FORMAT, "%s: the name is no UTF-8", name);
    }
    TL_TRY(tl_bytes_add_str(&c->document, "Document "));
    TL_TRY(tl_bytes_add_str(&c->document, name));
    TL_TRY(tl_bytes_add_str(&c->document, ":\n\n"));
    TL_TRY(tl_bytes_add(&c->document, text->data != NULL ? text->data : "", text->len));
    return tl_bytes_add_str(&c->document, "\n\n");
}

tl_err cli_conversation_add_user(struct cli_conversation *c, const char *text, size_t n) {
    tl_bytes whole = {0};
    tl_err err = tl_bytes_add(&whole, c->document.len > 0 ? c->document.data : "", c->document.len);
    if (!err) {
        err = tl_bytes_add(&whole, text, n);
    }
    if (!err) {
        err = add_message(c, "user", whole.data, whole.len);
    }
    if (!err) {
        c->document.len = 0;
    }
    tl_bytes_free(&whole);
    return err;
}

tl_err cli_conversation_add_answer(struct cli_conversation *c, const tl_bytes *text) {
    return add_message(c, "assistant", text->data != NULL ? text->data : "", text->len);
}

void cli_conversation_drop_last(struct cli_conversation *c) {
    json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

size_t cli_conversation_n(const struct cli_conversation *c) { return json_array_size(c->messages); }

const char *cli_conversation_text(const struct cli_conversation *c, size_t i) {
    return json_string_value(json_object_get(json_array_get(c->messages, i), "content"));
}

bool cli_conversation_is(const struct cli_conversation *c, size_t i, const char *role) {
    const char *const its =
        json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
    return its != NULL && strcmp(its, role) == 0;
}

static bool is_message(const json_t *message, bool first) {
    const char *const role = json_string_value(json_object_get(message, "role"));
    const bool known =
        role != NULL && (strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0 ||
                         (first && strcmp(role, "system") == 0));
    return known && json_is_string(json_object_get(message, "content"));
}

tl_err cli_conversation_replace(struct cli_conversation *c, const json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (!is_message(json_array_get(messages, i), i == 0)) {
            return tl_fail(&c->log, TL_ERR_FORMAT,
                           "message %zu is not {\"role\": \"user\" or \"assistant\", \"content\": "
                           "text}",
                           i + 1);
        }
    }
    json_t *const copy = json_deep_copy(messages);
    const char *const first =
        json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    const bool has_system = first != NULL && strcmp(first, "system") == 0;
    char *const system =
        has_system
            ? strdup(json_string_value(json_object_get(json_array_get(messages, 0), "content")))
            : NULL;
    if (copy == NULL || (has_system && system == NULL)) {
        json_decref(copy);
        free(system);
        return TL_ERR_MEMORY;
    }
    json_decref(c->messages);
    free(c->system);
    c->messages = copy;
    c->system = system;
    c->document.len = 0;
    return TL_OK;
}

json_t *cli_conversation_to_json(const struct cli_conversation *c) {
    json_t *const document =
        json_stringn(c->document.data != NULL ? c->document.data : "", c->document.len);
    return json_pack("{s:O,s:o}", "messages", c->messages, "document",
                     document != NULL ? document : json_string("")); /* it was no UTF-8 */
}

tl_err cli_conversation_from_json(struct cli_conversation *c, const json_t *json) {
    const json_t *const document = json_object_get(json, "document");
    const json_t *const messages = json_object_get(json, "messages");
    if (!json_is_array(messages) || !json_is_string(document)) {
        return tl_fail(&c->log, TL_ERR_FORMAT, "there is no conversation in the session file");
    }
    TL_TRY(cli_conversation_replace(c, messages));
    return tl_bytes_add(&c->document, json_string_value(document), json_string_length(document));
}

static json_t *spelling(const tl_vocab *vocab, uint32_t id) {
    const tl_str s = id != TL_TOKEN_NONE ? tl_vocab_spelling(vocab, id) : (tl_str){"", 0};
    json_t *const text = json_stringn(s.data, s.len);
    return text != NULL ? text : json_string("");
}

/* Without a template the messages are one text that goes on. */
static tl_err render_plain(const struct cli_conversation *c, tl_bytes *out) {
    TL_TRY(tl_bytes_add(out, "", 0));
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        const json_t *const content = json_object_get(json_array_get(c->messages, i), "content");
        TL_TRY(tl_bytes_add(out, json_string_value(content), json_string_length(content)));
    }
    return TL_OK;
}

/* The model's own template; where that cannot be rendered, the family it is recognised as. */
static tl_err render_template(struct cli_conversation *c, tl_bytes *out) {
    json_t *const vars =
        json_pack("{s:O,s:b,s:o,s:o}", "messages", c->messages, "add_generation_prompt", 1,
                  "bos_token", spelling(c->vocab, tl_vocab_bos(c->vocab)), "eos_token",
                  spelling(c->vocab, tl_vocab_eos(c->vocab)));
    if (vars == NULL) {
        return TL_ERR_MEMORY;
    }
    const tl_log quiet = {0};
    const char *family = NULL;
    tl_err err = tl_template_render(c->template_text, vars, NULL, out, &quiet);
    if (err && tl_template_fallback(c->template_text, vars, out, &family, &quiet) == TL_OK) {
        if (!c->warned) {
            tl_say(&c->log, TL_LEVEL_WARN,
                   "the model's chat template cannot be rendered, %s's is used instead", family);
        }
        c->warned = true;
        err = TL_OK;
    } else if (err) { /* once more, for its sentence */
        err = tl_template_render(c->template_text, vars, NULL, out, &c->log);
    }
    json_decref(vars);
    return err;
}

/* Behind a mark or white space the answer begins at once, behind a word with a space. */
static tl_err add_start(tl_bytes *text, const char *start) {
    const char last = text->len > 0 ? text->data[text->len - 1] : '\n';
    const bool space = *start != '\0' && strchr(" \n\t>", last) == NULL;
    TL_TRY(space ? tl_bytes_add(text, " ", 1) : TL_OK);
    return tl_bytes_add_str(text, start);
}

tl_err cli_conversation_encode(struct cli_conversation *c, const char *start, tl_ids *ids) {
    tl_bytes text = {0};
    const bool plain = c->template_text.len == 0;
    tl_err err = plain ? render_plain(c, &text) : render_template(c, &text);
    if (!err) {
        err = add_start(&text, start);
    }
    const uint32_t bos = tl_vocab_bos(c->vocab);
    if (!err) {
        const bool add = tl_vocab_add_bos(c->vocab) && bos != TL_TOKEN_NONE;
        const tl_str begin = add ? tl_vocab_spelling(c->vocab, bos) : (tl_str){"", 0};
        const bool written =
            add && !plain && text.len >= begin.len && memcmp(text.data, begin.data, begin.len) == 0;
        const unsigned flags = (plain ? 0 : TL_ENCODE_SPECIAL) | (written ? 0 : TL_ENCODE_BOS);
        err = tl_vocab_encode(c->vocab, (tl_str){text.data, text.len}, flags, ids);
    }
    tl_bytes_free(&text);
    return err;
}

tl_err cli_conversation_feed(struct cli_conversation *c, struct cli_loaded *loaded,
                             const char *start, size_t *n_fed) {
    tl_session *const s = loaded->session;
    tl_ids ids = {0};
    tl_err err = cli_conversation_encode(c, start, &ids);
    if (!err && ids.n == 0) {
        err = tl_fail(&c->log, TL_ERR_FORMAT, "the message has no tokens");
    }
    if (!err && ids.n > tl_session_ctx(s)) {
        err = tl_fail(&c->log, TL_ERR_MEMORY,
                      "the conversation is too long: %zu tokens, the context holds %u (see --ctx, "
                      "/clear)",
                      ids.n, tl_session_ctx(s));
    }
    *n_fed = 0;
    if (!err) {
        uint32_t common = 0;
        while (common + 1 < ids.n && common < tl_session_n(s) &&
               tl_session_ids(s)[common] == ids.data[common]) {
            common++;
        }
        common = tl_session_rewind(s, common);
        err = cli_feed(loaded, ids.data + common, ids.n - common, NULL, NULL, n_fed);
    }
    tl_ids_free(&ids);
    return err;
}
