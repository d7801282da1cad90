/* Several sequences at once, for those commands that decode more than one: sessions of one kind
 * within one memory budget. */
#ifndef TL_CLI_SEQUENCES_H
#define TL_CLI_SEQUENCES_H

#include "load.h"

#include "core/batch.h"

struct cli_sequences {
    tl_session *sessions[TL_BATCH_MAX]; /* the first is loaded->session, the others are owned */
    uint32_t n;
};

/* Different numbers from 1 to TL_BATCH_MAX, at most cap of them; how many, or 0 after an error line
 * that names --parallel. */
uint32_t cli_parse_parallel(const char *text, uint32_t *out, uint32_t cap);

/* n sessions as cli_open_session opens one, of which loaded->session is the first where it is open
 * already. Then and after an error loaded->session is that first one. */
TL_MUST tl_err cli_sequences_open(struct cli_sequences *out, struct cli_loaded *loaded,
                                  const struct cli_args *args, const char *kv,
                                  const struct tl_session_params *params, uint32_t n);
void cli_sequences_close(struct cli_sequences *s); /* all but the first */

#endif
