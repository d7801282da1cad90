/* tailor tokenize: text to ids and back, with the vocabulary alone (no weights are needed). */
#include "commands.h"
#include "out.h"

#include "core/token.h"

#include <stdlib.h>
#include <string.h>

static bool encode(const tl_vocab *vocab, const struct cli_args *args, tl_str text, tl_ids *ids) {
    const unsigned flags =
        (args->bos ? TL_ENCODE_BOS : 0) | (args->special ? TL_ENCODE_SPECIAL : 0);
    if (tl_vocab_encode(vocab, text, flags, ids)) {
        cli_error("out of memory");
        return false;
    }
    return true;
}

static bool print_ids(const tl_ids *ids, bool json) {
    if (!json) {
        for (size_t i = 0; i < ids->n; i++) {
            printf("%s%u", i > 0 ? " " : "", ids->data[i]);
        }
        putchar('\n');
        return true;
    }
    json_t *const list = json_array();
    for (size_t i = 0; i < ids->n; i++) {
        json_array_append_new(list, json_integer(ids->data[i]));
    }
    return cli_print_json(json_pack("{s:o}", "ids", list));
}

static bool encode_and_print(const tl_vocab *vocab, const struct cli_args *args, tl_str text,
                             bool json) {
    tl_ids ids = {0};
    const bool ok = encode(vocab, args, text, &ids) && print_ids(&ids, json);
    tl_ids_free(&ids);
    return ok;
}

/* Texts are separated by NUL: n of them have n - 1. */
static bool encode_lines0(const tl_vocab *vocab, const struct cli_args *args, tl_str all) {
    for (const char *at = all.data, *const end = all.data + all.len;;) {
        const char *const nul = memchr(at, '\0', (size_t)(end - at));
        const char *const stop = nul != NULL ? nul : end;
        if (!encode_and_print(vocab, args, (tl_str){at, (size_t)(stop - at)}, true)) {
            return false;
        }
        if (nul == NULL) {
            return true;
        }
        at = nul + 1;
    }
}

static tl_err decode_ids(const tl_vocab *vocab, const uint32_t *ids, size_t n, tl_bytes *text) {
    tl_decoder decoder = {.vocab = vocab, .first = true, .special = true};
    TL_TRY(tl_bytes_add(text, "", 0));
    for (size_t i = 0; i < n; i++) {
        TL_TRY(tl_decoder_add(&decoder, ids[i], text));
    }
    TL_TRY(tl_decoder_end(&decoder, text));
    tl_vocab_tidy(vocab, text);
    return TL_OK;
}

static int decode(const tl_vocab *vocab, const struct cli_args *args) {
    const int64_t n = cli_parse_list(args->decode, NULL, 0);
    if (n < 0) {
        cli_error("--decode: not a list of token ids");
        return 2;
    }
    uint32_t *const ids = calloc((size_t)n + 1, sizeof *ids);
    tl_bytes text = {0};
    int code = 1;
    if (ids == NULL) {
        cli_error("out of memory");
        return 1;
    }
    cli_parse_list(args->decode, ids, (size_t)n);
    int64_t n_valid = 0;
    while (n_valid < n && ids[n_valid] < tl_vocab_n(vocab)) {
        n_valid++;
    }
    if (n_valid < n) {
        cli_error("--decode: token %u is not in the vocabulary of %u", ids[n_valid],
                  tl_vocab_n(vocab));
    } else if (decode_ids(vocab, ids, (size_t)n, &text)) {
        cli_error("out of memory");
    } else if (args->json) {
        code = cli_print_json(json_pack("{s:s#}", "text", text.data, text.len)) ? 0 : 1;
    } else {
        cli_print_text(text.data, text.len);
        if (cli_stdout_is_tty()) {
            putchar('\n');
        }
        code = 0;
    }
    tl_bytes_free(&text);
    free(ids);
    return code;
}

static int tokenize(const tl_vocab *vocab, const struct cli_args *args) {
    if (args->decode != NULL) {
        return decode(vocab, args);
    }
    tl_bytes file = {0};
    if (args->file != NULL && !cli_read_file(args->file, &file)) {
        return 1;
    }
    const tl_str text =
        args->file != NULL ? (tl_str){file.data, file.len} : tl_str_from(args->prompt);
    const bool ok = args->lines0 ? encode_lines0(vocab, args, text)
                                 : encode_and_print(vocab, args, text, args->json);
    tl_bytes_free(&file);
    return ok ? 0 : 1;
}

int cmd_tokenize(const struct cli_args *args) {
    const int n_inputs = (args->prompt != NULL) + (args->file != NULL) + (args->decode != NULL);
    if (args->model == NULL || n_inputs != 1 || (args->lines0 && args->file == NULL)) {
        cli_error("tokenize: needs -m MODEL and one of -p TEXT, -f FILE, --decode LIST "
                  "(--lines0 goes with -f)");
        return 2;
    }
    struct cli_log log = {.strict = args->strict};
    const tl_log sink = cli_log_of(&log);
    tl_weights *weights = NULL;
    tl_vocab *vocab = NULL;
    tl_err err = tl_weights_open(&weights, args->model, &sink);
    if (!err) {
        err = tl_vocab_open(&vocab, weights, &sink);
    }
    int code = err ? cli_failed(&log, err) : 0;
    if (code == 0) {
        code = cli_strict_failed(&log) ? 1 : tokenize(vocab, args);
    }
    tl_vocab_close(&vocab);
    tl_weights_close(&weights);
    return code;
}
