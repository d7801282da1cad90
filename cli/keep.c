/* The application's part of a session file. Files are hostile here too: what is missing or of
 * another type is an error when the file is opened, except for numbers of the sampler, which keep
 * the command's defaults. 64-bit numbers are hexadecimal text: JSON's are signed. */
#include "keep.h"

#include "out.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *name_of(const struct cli_args *args) {
    return args->command == CLI_CHAT ? "chat" : "run";
}

static tl_err read_app(struct cli_keep *keep, const struct cli_args *args, const tl_log *log) {
    const tl_str app = tl_session_file_info(keep->file).app;
    keep->app = json_loadb(app.data, app.len, JSON_ALLOW_NUL, NULL);
    const char *const by = json_string_value(json_object_get(keep->app, "by"));
    if (by == NULL || !json_is_string(json_object_get(keep->app, "kv")) ||
        !json_is_object(json_object_get(keep->app, "sampler"))) {
        return tl_fail(log, TL_ERR_FORMAT, "%s: was not saved by tailor run or chat",
                       args->session);
    }
    if (strcmp(by, name_of(args)) != 0) {
        return tl_fail(log, TL_ERR_FORMAT, "%s: is a session of tailor %s, not of tailor %s",
                       args->session, by, name_of(args));
    }
    return TL_OK;
}

tl_err cli_keep_open(struct cli_keep *keep, const struct cli_args *args, const tl_log *log) {
    if (args->session == NULL) {
        return TL_OK;
    }
    TL_TRY(tl_session_lock_open(&keep->lock, args->session, log));
    if (!tl_session_lock_has_file(keep->lock)) {
        return TL_OK;
    }
    TL_TRY(tl_session_file_open(&keep->file, keep->lock));
    return read_app(keep, args, log);
}

void cli_keep_close(struct cli_keep *keep) {
    tl_session_file_close(&keep->file);
    tl_session_lock_close(&keep->lock);
    json_decref(keep->app);
    tl_bytes_free(&keep->kv_words);
    *keep = (struct cli_keep){0};
}

void cli_keep_move(struct cli_keep *to, struct cli_keep *from) {
    to->lock = from->lock;
    from->lock = NULL;
}

const char *cli_keep_kv(const struct cli_keep *keep) {
    return json_string_value(json_object_get(keep->app, "kv"));
}

static bool get_hex(const json_t *object, const char *key, uint64_t *out) {
    const char *const text = json_string_value(json_object_get(object, key));
    char *end = NULL;
    const unsigned long long value = text != NULL ? strtoull(text, &end, 16) : 0;
    if (text == NULL || end == text || *end != '\0') {
        return false;
    }
    *out = value;
    return true;
}

static void get_float(const json_t *object, const char *key, float max, float *out) {
    const json_t *const value = json_object_get(object, key);
    const double number = json_number_value(value);
    if (json_is_number(value) && isfinite(number) && number >= 0 && number <= (double)max) {
        *out = (float)number;
    }
}

static void get_u32(const json_t *object, const char *key, uint32_t *out) {
    const json_t *const value = json_object_get(object, key);
    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        json_integer_value(value) < UINT32_MAX) {
        *out = (uint32_t)json_integer_value(value);
    }
}

bool cli_keep_sampler(const struct cli_keep *keep, struct tl_sampler_params *params) {
    const json_t *const s = json_object_get(keep->app, "sampler");
    if (s == NULL || !get_hex(s, "seed", &params->seed)) {
        return false;
    }
    get_float(s, "temp", 1e6f, &params->temp);
    get_float(s, "top_p", 1, &params->top_p);
    get_float(s, "min_p", 1, &params->min_p);
    get_float(s, "repeat_penalty", 1e6f, &params->repeat_penalty);
    get_u32(s, "top_k", &params->top_k);
    get_u32(s, "repeat_last", &params->repeat_last);
    params->repeat_penalty = params->repeat_penalty > 0 ? params->repeat_penalty : 1;
    return true;
}

bool cli_keep_sampler_state(const struct cli_keep *keep, uint64_t *state) {
    return get_hex(json_object_get(keep->app, "sampler"), "state", state);
}

static json_t *sampler_json(const struct tl_sampler_params *p, const tl_sampler *sampler) {
    char seed[17], state[17];
    snprintf(seed, sizeof seed, "%" PRIx64, p->seed);
    snprintf(state, sizeof state, "%" PRIx64, tl_sampler_state(sampler));
    return json_pack("{s:s,s:s,s:f,s:f,s:f,s:f,s:I,s:I}", "seed", seed, "state", state, "temp",
                     (double)p->temp, "top_p", (double)p->top_p, "min_p", (double)p->min_p,
                     "repeat_penalty", (double)p->repeat_penalty, "top_k", (json_int_t)p->top_k,
                     "repeat_last", (json_int_t)p->repeat_last);
}

static json_t *app_json(const struct cli_keep_what *what) {
    json_t *const app =
        json_pack("{s:s,s:o,s:o}", "by", name_of(what->args), "kv", cli_json_text(what->kv),
                  "sampler", sampler_json(what->params, what->sampler));
    const bool whole =
        app != NULL && what->more != NULL && json_object_update(app, what->more) == 0;
    json_decref(what->more);
    if (!whole) {
        json_decref(app);
        return NULL;
    }
    return app;
}

tl_err cli_keep_save(struct cli_keep *keep, tl_session *session, const struct cli_keep_what *what) {
    if (keep->lock == NULL) {
        json_decref(what->more);
        return TL_OK;
    }
    json_t *const app = app_json(what);
    char *const text = app != NULL ? json_dumps(app, JSON_COMPACT) : NULL;
    json_decref(app);
    if (text == NULL) {
        return TL_ERR_MEMORY;
    }
    const struct tl_session_save save = {.kv = keep->kv_words.data, .app = tl_str_from(text)};
    const tl_err err = tl_session_save(session, keep->lock, &save);
    free(text);
    return err;
}
