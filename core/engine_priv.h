/* What engine.c, session.c and session_file.c share. */
#ifndef TL_ENGINE_PRIV_H
#define TL_ENGINE_PRIV_H

#include "engine.h"

struct tl_engine {
    tl_log log;
    tl_weights *weights;
    tl_vocab *vocab;
    tl_dev *dev;
    const tl_backend *backend;
    tl_model *model;
    uint32_t n_ctx;
    bool opening;
    uint32_t n_device_errors; /* sentences of the device while opening */
};

const tl_engine *tl_session_engine(const tl_session *s);
tl_kv *tl_session_kv(const tl_session *s);
tl_stream *tl_session_stream(const tl_session *s);
/* One a layer, as they were asked for or found. */
const struct tl_policy *tl_session_policies(const tl_session *s);
/* The policy that layers found dense will change to, and the score above which they are; NULL where
 * none will. */
const struct tl_policy *tl_session_dense(const tl_session *s, double *above);
/* For steps of several sessions at once (batch.c). What steps of this one select is in its scratch.
 */
struct tl_scratch;
struct tl_scratch *tl_session_scratch(tl_session *s);
/* Of tl_session_step_bytes, those of weights. */
uint64_t tl_session_weight_bytes(const tl_session *s);
/* Who recorded ops of a session's layers hears before those change, which frees buffers. The watch
 * is its owner's, who takes it out before the session is closed. */
struct tl_session_watch {
    void (*on_change)(void *user);
    void *user;
    struct tl_session_watch *next;
};
void tl_session_watch(tl_session *s, struct tl_session_watch *watch);
void tl_session_unwatch(tl_session *s, struct tl_session_watch *watch);
/* The errors of a step that leave the session as it is: a full context, an id that is none. */
TL_MUST tl_err tl_session_check_step(const tl_session *s, uint32_t id);
/* Checks that and makes all ready for a step behind which the session holds it too; compression
 * that became due is enqueued on `stream`. */
TL_MUST tl_err tl_session_begin_step(tl_session *s, uint32_t id, tl_stream *stream);
/* The step has happened: logits (n_vocab), copied where they are not the session's own. */
void tl_session_end_step(tl_session *s, uint32_t id, const float *logits);
/* The timeline of a session whose cache was just filled with these n tokens' rows: ids (n) u32, and
 * logits (n_vocab) f32 behind the newest one, or NULL; neither need be aligned. */
void tl_session_put(tl_session *s, const void *ids, uint32_t n, const void *logits);

#endif
