/* Uses bytes as a session file, as the program would: opens them, opens a session as they say on a
 * small committed model, resumes it and goes on. A promise that is broken aborts (TL_ASSERT) or
 * trips a sanitizer. For tests and fuzzers. */
#ifndef TL_SESSION_WALK_H
#define TL_SESSION_WALK_H

#include "core/session_file.h"

/* The model that seeds are made with, one layer of 3 heads of 8; never closed. */
tl_engine *session_walk_engine(void);

/* Writes what the checksums of a file should be into it, as far as its header and table make sense:
 * then what stands behind the checksums is reached too. */
void session_fix_checksums(uint8_t *data, size_t bytes);

/* True where a session could be resumed from the bytes. */
bool session_walk(const uint8_t *data, size_t bytes);

#endif
