/* tailor template: the prompt that a conversation becomes, and nothing else. */
#include "commands.h"
#include "out.h"

#include "core/template.h"
#include "core/token.h"

#include <string.h>

struct source {
    tl_weights *weights; /* with -m */
    tl_vocab *vocab;
    tl_bytes file; /* with --template */
    tl_str text;
};

static tl_err open_model(struct source *s, const char *path, const tl_log *log) {
    TL_TRY(tl_weights_open(&s->weights, path, log));
    TL_TRY(tl_vocab_open(&s->vocab, s->weights, log));
    return tl_meta_get_str(s->weights, "tokenizer.chat_template", TL_REQUIRED, &s->text);
}

/* A token's spelling under its usual name, where the file of messages does not have it. */
static void add_token(json_t *vars, const char *name, const tl_vocab *vocab, uint32_t id) {
    if (vocab != NULL && id != TL_TOKEN_NONE && json_object_get(vars, name) == NULL) {
        const tl_str spelling = tl_vocab_spelling(vocab, id);
        json_object_set_new(vars, name, json_stringn(spelling.data, spelling.len));
    }
}

static json_t *load_vars(const struct cli_args *args, const struct source *source) {
    tl_bytes text = {0};
    if (!cli_read_file(args->messages, &text)) {
        return NULL;
    }
    json_error_t error;
    json_t *const vars = json_loadb(text.data, text.len, JSON_ALLOW_NUL, &error);
    tl_bytes_free(&text);
    if (vars == NULL) {
        cli_error("%s: line %d: %s", args->messages, error.line, error.text);
        return NULL;
    }
    if (!json_is_object(vars) || !json_is_array(json_object_get(vars, "messages"))) {
        cli_error("%s: not an object with a list of \"messages\"", args->messages);
        json_decref(vars);
        return NULL;
    }
    if (args->generation_prompt || json_object_get(vars, "add_generation_prompt") == NULL) {
        json_object_set_new(vars, "add_generation_prompt", json_boolean(args->generation_prompt));
    }
    if (source->vocab != NULL) {
        add_token(vars, "bos_token", source->vocab, tl_vocab_bos(source->vocab));
        add_token(vars, "eos_token", source->vocab, tl_vocab_eos(source->vocab));
    }
    return vars;
}

static int render(const struct cli_args *args, const struct source *source, struct cli_log *log) {
    json_t *const vars = load_vars(args, source);
    if (vars == NULL) {
        return 1;
    }
    const tl_log sink = cli_log_of(log);
    tl_bytes out = {0};
    const tl_err err = tl_template_render(source->text, vars, args->date, &out, &sink);
    json_decref(vars);
    if (!err) {
        fwrite(out.data, 1, out.len, stdout);
    }
    tl_bytes_free(&out);
    return err ? cli_failed(log, err) : 0;
}

int cmd_template(const struct cli_args *args) {
    if ((args->model != NULL) == (args->template_file != NULL) || args->messages == NULL) {
        cli_error("template: needs --messages FILE.json and one of -m MODEL, --template FILE");
        return 2;
    }
    struct cli_log log = {.strict = args->strict};
    const tl_log sink = cli_log_of(&log);
    struct source source = {0};
    int code = 0;
    if (args->model != NULL) {
        const tl_err err = open_model(&source, args->model, &sink);
        code = err ? cli_failed(&log, err) : 0;
    } else if (cli_read_file(args->template_file, &source.file)) {
        source.text = (tl_str){source.file.data, source.file.len};
    } else {
        code = 1;
    }
    if (code == 0) {
        code = cli_strict_failed(&log) ? 1 : render(args, &source, &log);
    }
    tl_vocab_close(&source.vocab);
    tl_weights_close(&source.weights);
    tl_bytes_free(&source.file);
    return code;
}
