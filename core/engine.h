/* The public face of the engine: an engine is a loaded model on a device, a session is one timeline
 * of tokens with its cache. Nothing here prints, exits, or starts threads but the device's own.
 * An engine may be shared by threads; a session belongs to one thread at a time. */
#ifndef TL_ENGINE_H
#define TL_ENGINE_H

#include "backend.h"
#include "gauge.h"
#include "identify.h"
#include "model.h"
#include "plan.h"
#include "token.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_engine tl_engine;
typedef struct tl_session tl_session;

struct tl_engine_params {
    const char *model_path;
    const char *backend;   /* "auto" or NULL: the best that opens; else a backend's name */
    uint32_t device;       /* which of the backend's devices */
    uint32_t n_threads;    /* CPU; 0: physical cores */
    const char *isa_max;   /* CPU; tests only, NULL: all the machine has */
    const char *cache_dir; /* as in tl_dev_params */
    const char *debug;     /* likewise; tests only */
    uint32_t n_ctx;        /* context the sessions will use; 0: the model's own */
    /* optional: called once file and device are known and before any weight is brought to it; an
     * error ends the opening. shape->weight_bytes is set. */
    tl_err (*before_load)(void *user, const tl_weights *weights, const struct tl_shape *shape,
                          const struct tl_dev_caps *caps);
    /* optional, see tl_load_watch: so many bytes of all are where the device reads them */
    void (*on_load)(void *user, uint64_t done_bytes, uint64_t bytes);
    void *user;
    tl_log log; /* sentences of the engine and its sessions */
};

/* Loads and checks everything. On failure nothing is left and the log has one sentence. */
TL_MUST tl_err tl_engine_open(tl_engine **out, const struct tl_engine_params *params);
void tl_engine_close(tl_engine **engine); /* after its sessions */

const tl_weights *tl_engine_weights(const tl_engine *e);
const tl_vocab *tl_engine_vocab(const tl_engine *e);
const tl_model *tl_engine_model(const tl_engine *e);
const char *tl_engine_backend(const tl_engine *e);
void tl_engine_caps(const tl_engine *e, struct tl_dev_caps *out);
/* Bytes allocated on its device, by the engine and its sessions. */
void tl_engine_usage(const tl_engine *e, struct tl_usage *now, struct tl_usage *peak);

struct tl_session_params {
    uint32_t n_ctx;   /* rows the cache can hold; 0: the engine's n_ctx, as much of it as fits */
    uint32_t n_chunk; /* tokens of prefill at a time; 0: 512 */
    /* one a layer, copied; NULL: every row exact on the device */
    const struct tl_policy *policies;
    const tl_books *books; /* for codecs vq-*, copied; NULL: what comes with the program */
    /* What layers that are found dense on the first long prompt change to, copied; NULL: no layer
     * changes. Those that the model limits to a window do not, nor those without an exact home. */
    const struct tl_policy *dense;
    double dense_above;                /* scores from which a layer is dense; 0: TL_DENSE_ABOVE */
    uint64_t device_bytes, host_bytes; /* budgets; 0: what is free */
    /* So many sessions like it, this one included, are still to be opened, and a batch of them
     * (batch.h): refused where they do not fit all together. 0: this one only. */
    uint32_t n_sessions;
    /* The first prompt that leaves at least so many rows measures the layers as it passes. 0: none
     * does, or with `dense` TL_LONG_ROWS and four times the longest window. A prompt of fewer than
     * TL_LAST_QUERIES tokens never does. */
    uint32_t identify_rows;
    bool identify_codecs; /* and what codecs, fitted so, do to each layer's output */
    tl_fit identify_fit;
    tl_rows_fn
        *on_rows; /* optional: given the measured layers' exact rows; its errors are the feed's */
    void *on_rows_user;
    uint32_t gauge_every; /* steps from one look at the cache's fidelity to the next; 0: none */
};

/* Plans and allocates all memory of the session. TL_ERR_MEMORY says how much was wanted. */
TL_MUST tl_err tl_session_open(tl_session **out, tl_engine *e,
                               const struct tl_session_params *params);
void tl_session_close(tl_session **s);

struct tl_feed {
    const uint32_t *ids; /* each below the vocabulary's size */
    size_t n;
    /* optional: after each chunk; returning false stops there (still TL_OK, see tl_session_n) */
    bool (*on_progress)(void *user, size_t done, size_t total);
    /* optional: called for every token in order with the logits behind it, (n_vocab) f32, valid
     * during the call; returning false stops with TL_ERR_IO. Without it only the last token's
     * logits are computed. */
    bool (*on_logits)(void *user, uint32_t pos, const float *logits);
    void *user;
};

/* Appends tokens to the timeline in chunks (prefill). Logits of the last one are then in
 * tl_session_logits. TL_ERR_MEMORY when they do not fit the context, and nothing is fed; an id
 * outside the vocabulary is TL_ERR_FORMAT, likewise. */
TL_MUST tl_err tl_session_feed(tl_session *s, const struct tl_feed *feed);

/* Appends one token through the decode path; allocates nothing. Errors as above. */
TL_MUST tl_err tl_session_step(tl_session *s, uint32_t id);

/* (n_vocab) f32 behind the newest token; valid until the next feed, step or rewind. NULL while
 * there is none. */
const float *tl_session_logits(const tl_session *s);

/* Forgets tokens from n_keep on (n_keep <= tl_session_n). Logits are gone. Returns how many tokens
 * are left: n_keep, or 0 where the cache has no exact copy of what would have to come back, and
 * the caller feeds again what it wants to keep. */
uint32_t tl_session_rewind(tl_session *s, uint32_t n_keep);

uint32_t tl_session_n(const tl_session *s);          /* tokens in the timeline */
uint32_t tl_session_ctx(const tl_session *s);        /* tokens it can hold */
const uint32_t *tl_session_ids(const tl_session *s); /* the tl_session_n tokens */

/* The plan that the session was opened by. */
const struct tl_memory_plan *tl_session_plan(const tl_session *s);

/* How many layers have vector-quantised rows by codebooks that come with the program, not by ones
 * that were learned from the model. */
uint32_t tl_session_builtin_books(const tl_session *s);

/* Layer il's policy as it runs, and its bytes. */
void tl_session_get_layer(const tl_session *s, uint32_t il, struct tl_policy *policy,
                          struct tl_kv_bytes *bytes);

/* Since the session began. Rows are rows of one KV head, K and V together; channels are those of
 * all keys of one KV head: there when they were wanted, and fetched, ahead or late. */
struct tl_traffic {
    uint64_t host_to_device_bytes, device_to_host_bytes, rows_hit, rows_fetched;
    uint64_t channels_hit, channels_fetched;
};
struct tl_traffic tl_session_traffic(const tl_session *s);
struct tl_traffic tl_session_layer_traffic(const tl_session *s, uint32_t il);

/* What a prompt showed of layer il; NULL: no prompt was long enough yet, or the layer's exact rows
 * were not all there. Valid until the session closes. */
const struct tl_identity *tl_session_identity(const tl_session *s, uint32_t il);
/* The score above which a layer counts as dense. */
double tl_session_dense_above(const tl_session *s);

/* How faithful layer il was when it was looked at last; NULL: never, or it has no exact rows beside
 * those that it attends. */
const struct tl_gauge *tl_session_gauge(const tl_session *s, uint32_t il);

/* The rows that layer il chose by its index in the last step: *n positions, head by head, -1 for
 * none. Valid until the next call of any kind. *n is 0 where the layer chooses none, or no step was
 * made since the last prompt or rewind. Costs a copy from the device and a wait. */
TL_MUST tl_err tl_session_chosen(tl_session *s, uint32_t il, const int32_t **rows, uint32_t *n);

/* The part of the last step in which rows moved between tiers while everything else waited, in
 * nanoseconds. False where the device does not tell, or no step was replayed yet. A step that also
 * looks at a layer (gauge.h) leaves the number of the one before. */
bool tl_session_transfer_ns(const tl_session *s, uint64_t *ns);

/* The recorded decode step. */
const tl_schedule *tl_session_schedule(const tl_session *s);

/* Bytes one decode step must move at the present depth: all weights once, and the cache rows that
 * each layer attends. */
uint64_t tl_session_step_bytes(const tl_session *s);

#ifdef __cplusplus
}
#endif

#endif
