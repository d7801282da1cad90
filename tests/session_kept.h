/* What tests of session files share: a folder to keep them in, an engine with tokens and policies,
 * and sessions that are fed, saved and resumed. What goes wrong fails the running cmocka test. */
#ifndef TL_SESSION_KEPT_H
#define TL_SESSION_KEPT_H

#include "core/session_file.h"
#include "support.h"

enum { KEPT_IDS = 480, KEPT_CTX = 512 };

/* Makes the folder, runs the tests, removes it; returns what main should. */
int kept_main(int (*run)(void));
/* A file in the folder; valid until the next call. */
const char *kept_path(const char *name);

struct kept {
    tl_engine *engine;
    uint32_t n_layers, n_vocab;
    struct tl_policy policies[64];
    const struct tl_policy *dense;
    uint32_t ids[KEPT_IDS];
};

/* An engine of two threads, and a preset in every layer; close f->engine. */
void kept_open_on(struct kept *f, const char *backend, const char *model, const char *preset);
void kept_open(struct kept *f, const char *model, const char *preset); /* on the CPU */
tl_session *kept_session(struct kept *f, uint32_t n_ctx);

void kept_feed(tl_session *s, const uint32_t *ids, uint32_t n);
void kept_step(tl_session *s, const uint32_t *ids, uint32_t n);
void kept_save(tl_session *s, const char *path, const char *app);
/* For sessions that a device may fail: `tailor` so small that rows leave the window and the hot
 * set, in n layers; and a save that may fail. */
void kept_small_tailor(struct tl_policy *policies, uint32_t n);
TL_MUST tl_err kept_try_save(tl_session *s, const char *path, const char *app);
/* A session resumed from a file, with the file's policies. */
tl_session *kept_resume(tl_engine *engine, const char *path, uint32_t n_ctx);
/* The same tokens and the same logits, bit for bit. */
void kept_expect_same(const struct kept *f, tl_session *a, tl_session *b, const char *what);

#endif
