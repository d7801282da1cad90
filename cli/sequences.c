/* Opens what is decoded together. The first session is refused where all do not fit, so that the
 * sentence speaks of all of them; the others say nothing that it said. */
#include "sequences.h"

uint32_t cli_parse_parallel(const char *text, uint32_t *out, uint32_t cap) {
    const int64_t n = cli_parse_list(text, out, cap);
    bool ok = n > 0;
    for (int64_t i = 0; i < n; i++) {
        ok = ok && out[i] >= 1 && out[i] <= TL_BATCH_MAX;
        for (int64_t j = 0; j < i; j++) {
            ok = ok && out[i] != out[j];
        }
    }
    if (ok) {
        return (uint32_t)n;
    }
    if (cap == 1) {
        cli_error("--parallel: '%s' is not a number from 1 to %d", text, TL_BATCH_MAX);
    } else {
        cli_error("--parallel: '%s' is not a list of different numbers from 1 to %d", text,
                  TL_BATCH_MAX);
    }
    return 0;
}

/* A budget that was named holds for all together; what is free is less by those that are open. */
static uint32_t n_to_open(const struct tl_session_params *params, uint32_t n, uint32_t n_open) {
    if (n == 1) {
        return 0;
    }
    return params->device_bytes != 0 ? n : n - n_open;
}

tl_err cli_sequences_open(struct cli_sequences *out, struct cli_loaded *loaded,
                          const struct cli_args *args, const char *kv,
                          const struct tl_session_params *params, uint32_t n) {
    struct tl_session_params each = *params;
    *out = (struct cli_sequences){.sessions = {loaded->session}};
    out->n = loaded->session != NULL ? 1 : 0;
    const bool quiet = loaded->log.quiet;
    tl_err err = TL_OK;
    while (out->n < n && !err) {
        each.n_sessions = n_to_open(params, n, out->n);
        loaded->log.quiet = quiet || out->n > 0;
        err = cli_open_session(loaded, args, kv, &each);
        if (!err) {
            out->sessions[out->n++] = loaded->session;
        }
    }
    loaded->log.quiet = quiet;
    loaded->session = out->sessions[0];
    if (err) {
        cli_sequences_close(out);
    }
    return err;
}

void cli_sequences_close(struct cli_sequences *s) {
    for (uint32_t i = 1; i < s->n; i++) {
        tl_session_close(&s->sessions[i]);
    }
    *s = (struct cli_sequences){0};
}
