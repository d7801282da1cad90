/* What a running session looks like from outside, as one plain struct: filled by the thread that
 * steps, read by anyone, in this process or, through shared memory, in another. Nothing here
 * allocates or waits: a writer never waits for readers, a reader that was overtaken tries again.
 *
 * What is not known is not zero: numbers that may be unknown are NaN or carry a bit that says so.
 */
#ifndef TL_STATS_H
#define TL_STATS_H

#include "engine.h"
#include "hist.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TL_STATS_LAYERS_MAX = 256, /* a deeper model shows its first ones, and how many it has */
    TL_STATS_HEAT = 256,       /* places of the heat strip */
    TL_STATS_VERSION = 3,
};

typedef enum tl_activity {
    TL_ACTIVITY_LOADING,
    TL_ACTIVITY_IDLE,
    TL_ACTIVITY_PROMPT, /* a prompt goes in */
    TL_ACTIVITY_ANSWER, /* tokens come out */
} tl_activity;

/* How an answer ended. */
typedef enum tl_finish {
    TL_FINISH_STOP,   /* the model ended it */
    TL_FINISH_LENGTH, /* as long as it was to be, or the context was full */
    TL_FINISH_ABORT,  /* the user ended it */
    TL_FINISH_ERROR,
    TL_FINISH_COUNT
} tl_finish;

/* Where a step's time went. */
typedef enum tl_time_part {
    TL_TIME_STEP,     /* the whole step on the device, waiting included */
    TL_TIME_COMPUTE,  /* ... of which the device computed */
    TL_TIME_TRANSFER, /* ... of which the link was busy, at the same time or not */
    TL_TIME_WAIT,     /* ... of which the device waited for the link */
    TL_TIME_SAMPLE,   /* choosing the token */
    TL_TIME_COUNT,
} tl_time_part;

struct tl_stats_layer {
    char policy[64];                /* for people: "top 512 by codes, int2/int1, host" */
    struct tl_kv_bytes held;        /* bytes of rows in use now, by tier */
    struct tl_kv_bytes room;        /* and allocated */
    struct tl_traffic total;        /* since the session began */
    struct tl_traffic step;         /* of the last step */
    double dense_score;             /* see identify.h; NaN: not measured */
    double gauge_mass, gauge_error; /* the means of gauge.h; NaN: never looked at */
    uint32_t topk;                  /* 0: it does not select */
    uint32_t gauge_n;               /* looks */
};

struct tl_stats {
    uint32_t version, size; /* of this struct: a reader of another build can tell */
    uint64_t pid;
    uint64_t start_unix_s; /* of the session */
    uint64_t now_ns;       /* monotonic clock, when this was filled */
    uint32_t activity;     /* tl_activity */
    uint32_t n_layers;     /* of the model */
    char command[16], model[128], family[24], backend[16], device[128], kernels[64], kv[64];
    uint32_t ctx_used, ctx_cap, n_layers_shown, unified;
    /* Since the process began. */
    uint64_t n_prompt_tokens, n_answer_tokens, n_answers[TL_FINISH_COUNT];
    uint64_t prompt_ns, answer_ns;
    struct tl_hist hists[TL_HIST_COUNT];
    /* The weights that are brought to the device, or were last; load_bytes 0: not known yet. */
    uint64_t load_done_bytes, load_bytes, load_begin_ns;
    /* The prompt that goes in, or went in last. */
    uint64_t prompt_done, prompt_total, prompt_begin_ns, prompt_end_ns;
    /* The last step: nanoseconds by part; bit p of times_known: part p is known. */
    uint64_t time_ns[TL_TIME_COUNT];
    uint32_t times_known;
    uint32_t heat_layer; /* whose selection the heat strip shows; UINT32_MAX: none */
    double tokens_per_s; /* of the answer going on, over its last steps; NaN: none yet */
    uint64_t weights_bytes, scratch_bytes, device_bytes, host_bytes; /* the plan's */
    uint16_t heat[TL_STATS_HEAT]; /* rows that the last step selected, by place in [0, ctx_used) */
    struct tl_stats_layer layers[TL_STATS_LAYERS_MAX];
};

/* The part of the struct that holds something. */
size_t tl_stats_bytes(const struct tl_stats *stats);

/* All of an opened session. Keeps what counts the process: tokens, answers, times. */
void tl_stats_describe(struct tl_stats *stats, const tl_engine *e, const tl_session *s,
                       const char *kv);
/* After a prompt, which may have changed the policies of layers. */
void tl_stats_describe_layers(struct tl_stats *stats, const tl_engine *e, const tl_session *s);
/* After a step: bytes held, and what it moved. */
void tl_stats_update(struct tl_stats *stats, const tl_engine *e, const tl_session *s);
/* After a step: its times and those of choosing the token before it; updates tokens_per_s. */
void tl_stats_add_step(struct tl_stats *stats, const uint64_t time_ns[TL_TIME_COUNT],
                       uint32_t times_known);

/* The rows that layer il chose in the last step (tl_session_chosen), for the heat strip; n == 0:
 * none. */
void tl_stats_add_heat(struct tl_stats *stats, uint32_t il, const int32_t *rows, uint32_t n);

/* Where snapshots are handed over: memory of tl_stats_page_bytes, zero-filled by its owner before
 * anyone reads, in this process or shared. One writer, any readers. */
typedef struct tl_stats_page tl_stats_page;
size_t tl_stats_page_bytes(void);

void tl_stats_publish(tl_stats_page *page, const struct tl_stats *stats);
/* False where nothing was published yet, the writer is of another version, or it kept overtaking
 * (or died in the middle): *out is then not to be used. *seq, where not NULL, is equal for equal
 * contents. */
bool tl_stats_read(const tl_stats_page *page, struct tl_stats *out, uint64_t *seq);

/* A reader wants to see what this layer looks at, from now on for two seconds; the writer asks
 * before it pays for that. */
void tl_stats_watch(tl_stats_page *page, uint32_t il, uint64_t now_ns);
bool tl_stats_watched(const tl_stats_page *page, uint64_t now_ns, uint32_t *il);

#ifdef __cplusplus
}
#endif

#endif
