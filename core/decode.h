/* One pass of tokens through the model, written as the straight list of ops that it is. A chunk of
 * prefill and a single decode step are the same list at different widths. */
#ifndef TL_DECODE_H
#define TL_DECODE_H

#include "kv.h"
#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_LOGIT_ROWS = 16 }; /* rows of logits that fit the scratch at a time */

/* Activations for up to n_chunk tokens: views into one device buffer, and what the host writes for
 * each pass, into one host buffer. */
struct tl_scratch {
    tl_buf *device, *host; /* owned */
    uint32_t n_chunk;
    tl_view x, norm;  /* (n_chunk, n_embd) */
    tl_view q, attn;  /* (n_chunk, n_heads * head_dim) */
    tl_view k, v;     /* (n_chunk, n_kv_heads * head_dim) */
    tl_view gate, up; /* (n_chunk, n_ff) */
    tl_view logits;   /* (TL_LOGIT_ROWS, n_vocab), host memory */
    tl_view ids, pos; /* (n_chunk, 1) i32, host memory; a row's position is its slot too */
    tl_view n_rows;   /* (1, 1) i32, host memory */
};

uint64_t tl_scratch_bytes(const struct tl_shape *shape, uint32_t n_chunk);
TL_MUST tl_err tl_scratch_open(struct tl_scratch *out, const struct tl_shape *shape, tl_dev *dev,
                               uint32_t n_chunk);
void tl_scratch_close(struct tl_scratch *scratch);

struct tl_pass {
    const tl_model *model;
    tl_kv *kv;
    struct tl_scratch *scratch;
    tl_stream *stream;
};

/* Enqueues n tokens (1 .. n_chunk) behind the rows that kv holds; scratch->x is then their last
 * hidden state. Does not change kv->n_rows. */
TL_MUST tl_err tl_decode_layers(const struct tl_pass *pass, const uint32_t *ids, uint32_t n);

/* Enqueues the logits of rows first .. first + n - 1 (n <= TL_LOGIT_ROWS) of that pass into
 * scratch->logits. */
TL_MUST tl_err tl_decode_logits(const struct tl_pass *pass, uint32_t first, uint32_t n);

#ifdef __cplusplus
}
#endif

#endif
