/* A pass of tokens through the model, as the straight list of ops that it is. A decode step is
 * recorded once as a schedule and run for every token; a prompt goes through in chunks, and where a
 * layer has no exact home for its rows, layer by layer, so that only one layer's exact rows are
 * staged at a time. */
#ifndef TL_DECODE_H
#define TL_DECODE_H

#include "kv.h"
#include "model.h"
#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_LOGIT_ROWS = 16 }; /* rows of logits that fit the scratch at a time */

/* Activations for up to n_chunk tokens, and what the host writes for each pass. Views of buffers
 * that the scratch owns; absent where no layer's policy needs them. */
struct tl_scratch {
    tl_buf *device, *host; /* owned */
    uint32_t n_chunk;
    tl_view x, x_b, norm;    /* (n_chunk, n_embd); x_b with `carried` only */
    tl_view q, attn, attn_b; /* (n_chunk, n_heads * head_dim) */
    tl_view lse, lse_b;      /* (n_chunk, n_heads) */
    tl_view k, v;            /* (n_chunk, n_kv_heads * head_dim) */
    tl_view gate, up;        /* (n_chunk, n_ff) */
    tl_view score;           /* (n_heads, cap) */
    tl_view idx;             /* (n_layers * n_kv_heads, topk_max) i32: a layer's rows stay until its
                              * next step; of fewer columns, packed at the layer's beginning */
    tl_view slots;           /* (n_kv_heads, topk_max) i32; views of fewer columns are used */
    tl_view looked;          /* the same, host: a copy of one layer's idx for who looks */
    tl_view q_next;          /* (1, n_heads * head_dim): the next layer's query, predicted */
    tl_view want;            /* (n_kv_heads, channels_max) i32; likewise */
    /* Channels fetched for layers of even and of odd number, so that one is filled while the other
     * is read: which, and (n_kv_heads * channels_max, cap) f16. */
    tl_view held[2], part[2];
    tl_view logits;   /* (TL_LOGIT_ROWS, n_vocab), host memory */
    tl_view ids, pos; /* (n_chunk, 1) i32, host memory; a row's position is its home slot */
    tl_view stage_pos, far_pos; /* (n_chunk, 1) i32, host: slots of the stage; behind every row */
    tl_view n_rows, stage_rows, sink_rows, n_blocks; /* (1, 1) i32, host */
    tl_view counts; /* (n_layers, 2) i32, host: rows hit and fetched by this step, see tl_fetch */
    tl_view channel_counts; /* the same of channels, see tl_channel_fetch */
    /* (2 n_layers, 2) i32: both behind each other, and on the device, where fetches count on
     * devices with memory of their own; a step copies them there and back. With topk only. */
    tl_view tallies_from, tallies;
    tl_view step_pos; /* (n_chunk, 1) i32, device: pos as a step of several sequences reads it */
};

/* What the policies of a cache ask of the scratch. */
struct tl_scratch_needs {
    uint32_t n_chunk, cap, topk_max, channels_max;
    bool hybrid;  /* any layer is not exact */
    bool carried; /* hidden states of a prompt are carried over a link, chunk by chunk */
};
/* Adds what a layer's policy asks. */
void tl_scratch_need(struct tl_scratch_needs *needs, const struct tl_policy *policy);

void tl_scratch_bytes(const struct tl_shape *shape, const struct tl_scratch_needs *needs,
                      uint64_t *device, uint64_t *host);
TL_MUST tl_err tl_scratch_open(struct tl_scratch *out, const struct tl_shape *shape, tl_dev *dev,
                               const struct tl_scratch_needs *needs);
void tl_scratch_close(struct tl_scratch *scratch);

struct tl_pass {
    const tl_model *model;
    tl_kv *kv;
    struct tl_scratch *scratch;
    tl_stream *stream;
    tl_schedule *record; /* NULL: ops are enqueued at once; else they are added to it */
    /* Prompts only: where the layer at hand attends its exact rows; NULL: in their home. */
    struct tl_stage *stage;
};

/* Where a step counts the rows, or the channels, that layer il hits and fetches: (1, 2) i32. */
tl_view tl_pass_counts(const struct tl_pass *pass, uint32_t il, bool channels);

/* One op of layer il: recorded or enqueued. */
TL_MUST tl_err tl_pass_emit(const struct tl_pass *pass, struct tl_op op);

/* x := the embeddings of n ids. */
TL_MUST tl_err tl_decode_embed(const struct tl_pass *pass, tl_view x, const uint32_t *ids);

/* Layer il of a prompt's chunk: x (n, n_embd), the rows of positions first .. first + n - 1, in
 * place. Rows before `first` that belong to the prompt have been through this layer. */
TL_MUST tl_err tl_decode_prompt_layer(const struct tl_pass *pass, uint32_t il, tl_view x,
                                      uint32_t first);

/* Records a whole decode step: from scratch->ids[0] to scratch->logits[0]. */
TL_MUST tl_err tl_decode_record_step(const struct tl_pass *pass);

/* Records a step of n sequences: all->scratch has room for n rows, in ids, pos and logits row i is
 * sequence i's; each[i] has its cache, a scratch of its own for what it selects, and a schedule of
 * its own, empty, which is left empty. Products and norms are of n rows; ops of the caches stand in
 * groups where all sequences have alike ones. n <= TL_LOGIT_ROWS. */
TL_MUST tl_err tl_decode_record_batch(const struct tl_pass *all, const struct tl_pass *each,
                                      uint32_t n);

/* The logits of rows x (n <= TL_LOGIT_ROWS, n_embd) into scratch->logits. */
TL_MUST tl_err tl_decode_logits(const struct tl_pass *pass, tl_view x);

/* attention.c: the new rows into layer il's tiers, and what the queries see of it: k, v, q of n
 * rows into r->attn. */
struct tl_attention_rows {
    tl_view q, k, v, attn, attn_b, lse, lse_b;
};
TL_MUST tl_err tl_attend_prompt(const struct tl_pass *pass, uint32_t il,
                                const struct tl_attention_rows *r, uint32_t first);
/* A step's attention in two halves, so that what needs no row of this layer can stand between them:
 * first the new row is stored and the rows to fetch are on their way, then all is attended. */
TL_MUST tl_err tl_attend_step_begin(const struct tl_pass *pass, uint32_t il,
                                    const struct tl_attention_rows *r);
TL_MUST tl_err tl_attend_step_end(const struct tl_pass *pass, uint32_t il,
                                  const struct tl_attention_rows *r);

/* choose.c: which rows of layer il, one that selects by an index, a step attends exactly. base (1,
 * n_heads) or absent: what the rows that are attended anyway add up to, see tl_topk. */
TL_MUST tl_err tl_choose_rows(const struct tl_pass *pass, uint32_t il, tl_view q, tl_view base);
/* What that writes: the rows (n_kv_heads, topk), and what the index scored; with codes that is what
 * tl_attend_sketch takes. */
struct tl_choice {
    tl_view idx, score;
};
struct tl_choice tl_choice_of(const struct tl_pass *pass, uint32_t il);
/* True where layer il, not the first, wants what tl_choose_ahead does. */
bool tl_chooses_ahead(const struct tl_pass *pass, uint32_t il);
/* Starts the fetch of the channels that layer il will want if its query is q (1, n_heads *
 * head_dim), while the layer before is at work. */
TL_MUST tl_err tl_choose_ahead(const struct tl_pass *pass, uint32_t il, tl_view q);

#ifdef __cplusplus
}
#endif

#endif
