/* Six families of chat templates written out in C, for models whose own template cannot be
 * rendered. A family is recognised by the marks its templates put around turns; what is written is
 * what the family's first published template writes. Content that is a list of parts gives the text
 * of its text parts. */
#include "template.h"

#include <string.h>

typedef struct chat {
    const json_t *messages;
    const char *bos, *eos; /* "" where the caller gave none */
    bool add_generation_prompt;
    tl_bytes *out;
} chat;

static tl_err add(const chat *c, const char *text) { return tl_bytes_add_str(c->out, text); }

static const char *text_of(const json_t *object, const char *key) {
    const char *const text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool has_role(const json_t *message, const char *role) {
    return strcmp(text_of(message, "role"), role) == 0;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The content of a message; `trim` takes white space from both ends. */
static tl_err add_content(const chat *c, const json_t *message, bool trim) {
    const json_t *const content = json_object_get(message, "content");
    tl_bytes all = {0};
    tl_err err = tl_bytes_add_str(&all, "");
    if (json_is_string(content)) {
        err = tl_bytes_add(&all, json_string_value(content), json_string_length(content));
    }
    for (size_t i = 0; !err && i < json_array_size(content); i++) {
        err = tl_bytes_add_str(&all, text_of(json_array_get(content, i), "text"));
    }
    if (!err) {
        size_t begin = 0, end = all.len;
        while (trim && begin < end && is_space(all.data[begin])) {
            begin++;
        }
        while (trim && begin < end && is_space(all.data[end - 1])) {
            end--;
        }
        err = tl_bytes_add(c->out, all.data + begin, end - begin);
    }
    tl_bytes_free(&all);
    return err;
}

/* The first message where it is the system's, for families that have no turn for it. */
static const json_t *system_message(const chat *c) {
    const json_t *const first = json_array_get(c->messages, 0);
    return first != NULL && has_role(first, "system") ? first : NULL;
}

/* ---- the families ---- */

static tl_err render_chatml(const chat *c) {
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        const json_t *const m = json_array_get(c->messages, i);
        TL_TRY(add(c, "<|im_start|>"));
        TL_TRY(add(c, text_of(m, "role")));
        TL_TRY(add(c, "\n"));
        TL_TRY(add_content(c, m, false));
        TL_TRY(add(c, "<|im_end|>\n"));
    }
    return c->add_generation_prompt ? add(c, "<|im_start|>assistant\n") : TL_OK;
}

static tl_err render_llama3(const chat *c) {
    TL_TRY(add(c, c->bos));
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        const json_t *const m = json_array_get(c->messages, i);
        TL_TRY(add(c, "<|start_header_id|>"));
        TL_TRY(add(c, text_of(m, "role")));
        TL_TRY(add(c, "<|end_header_id|>\n\n"));
        TL_TRY(add_content(c, m, true));
        TL_TRY(add(c, "<|eot_id|>"));
    }
    return c->add_generation_prompt ? add(c, "<|start_header_id|>assistant<|end_header_id|>\n\n")
                                    : TL_OK;
}

static tl_err render_phi3(const chat *c) {
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        const json_t *const m = json_array_get(c->messages, i);
        TL_TRY(add(c, "<|"));
        TL_TRY(add(c, text_of(m, "role")));
        TL_TRY(add(c, "|>\n"));
        TL_TRY(add_content(c, m, false));
        TL_TRY(add(c, "<|end|>\n"));
    }
    return add(c, c->add_generation_prompt ? "<|assistant|>\n" : c->eos);
}

static tl_err render_gemma(const chat *c) {
    const json_t *system = system_message(c);
    TL_TRY(add(c, c->bos));
    for (size_t i = system != NULL; i < json_array_size(c->messages); i++) {
        const json_t *const m = json_array_get(c->messages, i);
        const bool model = has_role(m, "assistant");
        TL_TRY(add(c, model ? "<start_of_turn>model\n" : "<start_of_turn>user\n"));
        if (system != NULL && !model) {
            TL_TRY(add_content(c, system, false));
            TL_TRY(add(c, "\n\n"));
            system = NULL;
        }
        TL_TRY(add_content(c, m, true));
        TL_TRY(add(c, "<end_of_turn>\n"));
    }
    return c->add_generation_prompt ? add(c, "<start_of_turn>model\n") : TL_OK;
}

static tl_err render_llama2(const chat *c) {
    const json_t *system = system_message(c);
    for (size_t i = system != NULL; i < json_array_size(c->messages); i++) {
        const json_t *const m = json_array_get(c->messages, i);
        if (has_role(m, "assistant")) {
            TL_TRY(add(c, " "));
            TL_TRY(add_content(c, m, true));
            TL_TRY(add(c, " "));
            TL_TRY(add(c, c->eos));
            continue;
        }
        TL_TRY(add(c, c->bos));
        TL_TRY(add(c, "[INST] "));
        if (system != NULL) {
            TL_TRY(add(c, "<<SYS>>\n"));
            TL_TRY(add_content(c, system, false));
            TL_TRY(add(c, "\n<</SYS>>\n\n"));
            system = NULL;
        }
        TL_TRY(add_content(c, m, true));
        TL_TRY(add(c, " [/INST]"));
    }
    return TL_OK;
}

static tl_err render_mistral(const chat *c) {
    const json_t *system = system_message(c);
    TL_TRY(add(c, c->bos));
    for (size_t i = system != NULL; i < json_array_size(c->messages); i++) {
        const json_t *const m = json_array_get(c->messages, i);
        if (has_role(m, "assistant")) {
            TL_TRY(add_content(c, m, false));
            TL_TRY(add(c, c->eos));
            continue;
        }
        TL_TRY(add(c, "[INST] "));
        if (system != NULL) {
            TL_TRY(add_content(c, system, false));
            TL_TRY(add(c, "\n\n"));
            system = NULL;
        }
        TL_TRY(add_content(c, m, false));
        TL_TRY(add(c, " [/INST]"));
    }
    return TL_OK;
}

/* In the order they are tried: a template that mentions both marks, as Llama 2's does of
 * Mistral's, belongs to the first. */
static const struct {
    const char *name;
    const char *mark, *second_mark; /* both must be there */
    tl_err (*render)(const chat *c);
} families[] = {
    {"Llama 3", "<|start_header_id|>", "<|end_header_id|>", render_llama3},
    {"ChatML", "<|im_start|>", "<|im_end|>", render_chatml},
    {"Gemma", "<start_of_turn>", "<end_of_turn>", render_gemma},
    {"Phi-3", "<|end|>", "<|user|>", render_phi3},
    {"Phi-3", "<|end|>", "'<|' + message", render_phi3},
    {"Llama 2", "[INST]", "<<SYS>>", render_llama2},
    {"Mistral", "[INST]", "[/INST]", render_mistral},
};

static bool mentions(tl_str source, const char *mark) {
    const size_t n = strlen(mark);
    for (size_t i = 0; n <= source.len && i <= source.len - n; i++) {
        if (memcmp(source.data + i, mark, n) == 0) {
            return true;
        }
    }
    return false;
}

tl_err tl_template_fallback(tl_str source, const json_t *vars, tl_bytes *out, const char **family,
                            const tl_log *log) {
    size_t i = 0;
    const size_t n = sizeof families / sizeof families[0];
    while (i < n &&
           !(mentions(source, families[i].mark) && mentions(source, families[i].second_mark))) {
        i++;
    }
    if (i == n) {
        return tl_fail(log, TL_ERR_UNSUPPORTED, "chat template: of no family known here");
    }
    const chat c = {.messages = json_object_get(vars, "messages"),
                    .bos = text_of(vars, "bos_token"),
                    .eos = text_of(vars, "eos_token"),
                    .add_generation_prompt =
                        json_is_true(json_object_get(vars, "add_generation_prompt")),
                    .out = out};
    if (!json_is_array(c.messages)) {
        return tl_fail(log, TL_ERR_FORMAT, "chat template: no list of messages");
    }
    const size_t len_before = out->len;
    if (tl_bytes_add(out, "", 0) || families[i].render(&c)) {
        out->len = len_before;
        return tl_fail(log, TL_ERR_MEMORY, "chat template: no memory");
    }
    *family = families[i].name;
    return TL_OK;
}
