/* Layers in the outer loop, chunks in the inner one. On a device that shares the host's memory all
 * of it happens in place: hidden states lie where they lie, rows in their home, and there is one
 * stream. On one with memory of its own the second stream carries, and the first never reads over
 * the link:
 *
 *     transfer   x 1 in | x 2 in, old rows of the next layer | x 1 out, rows 1 home | x 3 in ...
 *     compute             chunk 1                              chunk 2
 *
 * Two buffers hold the hidden states of a chunk, one or two the exact rows of a layer. A buffer is
 * filled on one stream and freed on the other; each such hand-over is one mark. What the transfer
 * stream does is in order by itself, so a buffer's next filling there needs no mark of its emptying
 * there. */
#include "prompt.h"

#include <stdlib.h>

enum { N_X = 2, N_STAGES_MAX = 2 };

/* An event, once it has been recorded. */
struct mark {
    tl_event *event; /* owned */
    bool set;
};

struct stage {
    tl_buf *buf; /* owned */
    struct tl_stage rows;
    struct mark filled;   /* transfer: old rows are there */
    struct mark absorbed; /* compute: nobody reads it any more but the way home */
    struct mark sent;     /* transfer: all rows are home */
    uint32_t layer;       /* whose old rows are on their way here, or will be */
    uint32_t n_filled;
};

struct tl_prompt {
    struct tl_prompt_params params;
    bool far;
    tl_buf *hidden_buf; /* owned */
    tl_view hidden;     /* (cap, n_embd) f32, host: between layers */
    struct stage stages[N_STAGES_MAX];
    uint32_t n_stages; /* 0: no layer is staged */
    struct {
        struct mark in, done, out; /* transfer: there; compute: finished; transfer: carried away */
    } x[N_X];
};

static const struct tl_shape *shape_of(const tl_prompt *p) { return &p->params.model->shape; }

static struct tl_kv_layer *layer_of(const tl_prompt *p, uint32_t il) {
    return &p->params.kv->layers[il];
}

static bool is_staged(const tl_prompt *p, uint32_t il) {
    return tl_plan_is_staged(&layer_of(p, il)->policy, p->far);
}

/* Behind the link, and brought here for a prompt. */
static bool is_brought(const tl_prompt *p, uint32_t il) {
    return is_staged(p, il) && layer_of(p, il)->home.k.buf != NULL;
}

/* ---- opening ---- */

static tl_err open_mark(const tl_prompt *p, struct mark *m) {
    return tl_event_open(&m->event, p->params.stream->dev);
}

static tl_err open_stage(const tl_prompt *p, uint32_t rows, struct stage *s) {
    const struct tl_shape *const shape = shape_of(p);
    const uint64_t side = rows * tl_row_bytes(TL_F16, shape->head_dim);
    TL_TRY(tl_buf_alloc(&s->buf, p->params.stream->dev, 2 * side, TL_MEM_DEVICE));
    s->rows.rows = (struct tl_kv_rows){
        .k = tl_view_of(s->buf, 0, rows, shape->head_dim, TL_F16),
        .v = tl_view_of(s->buf, side, rows, shape->head_dim, TL_F16),
        .n_kv_heads = shape->n_kv_heads,
    };
    s->layer = UINT32_MAX;
    TL_TRY(open_mark(p, &s->filled));
    TL_TRY(open_mark(p, &s->absorbed));
    return open_mark(p, &s->sent);
}

static tl_err open_parts(tl_prompt *p, const struct tl_plan_params *plan) {
    const struct tl_shape *const shape = shape_of(p);
    const uint64_t row = (uint64_t)shape->n_embd * sizeof(float);
    TL_TRY(tl_buf_alloc(&p->hidden_buf, p->params.stream->dev, row * plan->n_ctx, TL_MEM_HOST));
    p->hidden = tl_view_of(p->hidden_buf, 0, plan->n_ctx, shape->n_embd, TL_F32);
    const uint32_t rows = tl_plan_stage_rows(shape, plan) * shape->n_kv_heads;
    const uint32_t n = rows == 0 ? 0 : (uint32_t)tl_max_u64(plan->n_stages, 1);
    for (; p->n_stages < n; p->n_stages++) {
        TL_TRY(open_stage(p, rows, &p->stages[p->n_stages]));
    }
    for (int i = 0; i < N_X && p->far; i++) {
        TL_TRY(open_mark(p, &p->x[i].in));
        TL_TRY(open_mark(p, &p->x[i].done));
        TL_TRY(open_mark(p, &p->x[i].out));
    }
    return TL_OK;
}

tl_err tl_prompt_open(tl_prompt **out, const struct tl_prompt_params *params,
                      const struct tl_plan_params *plan) {
    tl_prompt *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return TL_ERR_MEMORY;
    }
    p->params = *params;
    p->far = plan->far;
    const tl_err err = open_parts(p, plan);
    if (err) {
        tl_prompt_close(&p);
        return err;
    }
    *out = p;
    return TL_OK;
}

void tl_prompt_close(tl_prompt **prompt) {
    tl_prompt *const p = *prompt;
    if (p == NULL) {
        return;
    }
    for (int i = 0; i < N_STAGES_MAX; i++) {
        struct stage *const s = &p->stages[i];
        tl_buf_free(&s->buf);
        tl_event_close(&s->filled.event);
        tl_event_close(&s->absorbed.event);
        tl_event_close(&s->sent.event);
    }
    for (int i = 0; i < N_X; i++) {
        tl_event_close(&p->x[i].in.event);
        tl_event_close(&p->x[i].done.event);
        tl_event_close(&p->x[i].out.event);
    }
    tl_buf_free(&p->hidden_buf);
    free(p);
    *prompt = NULL;
}

/* ---- hand-overs ---- */

static tl_err set(struct mark *m, tl_stream *s) {
    m->set = true;
    return tl_event_record(s, m->event);
}

/* What comes on s waits for the mark, where it was ever made. */
static tl_err wait_for(const struct mark *m, tl_stream *s) {
    return m->set ? tl_event_wait(s, m->event) : TL_OK;
}

/* ---- exact rows ---- */

static struct stage *stage_of(tl_prompt *p, uint32_t il) { return &p->stages[il % p->n_stages]; }

/* At least n of layer il's old rows, on the second stream. */
static tl_err fill(tl_prompt *p, uint32_t il, uint32_t n) {
    struct stage *const s = stage_of(p, il);
    tl_stream *const transfer = p->params.transfer;
    if (s->layer != il) {
        s->layer = il;
        s->n_filled = 0;
        TL_TRY(wait_for(&s->absorbed, transfer));
    }
    if (s->n_filled >= n) {
        return TL_OK;
    }
    TL_TRY(tl_kv_copy_rows(&s->rows.rows, s->n_filled, &layer_of(p, il)->home, s->n_filled,
                           n - s->n_filled, transfer));
    s->n_filled = n;
    return set(&s->filled, transfer);
}

/* Old rows of the next layer that go through its own buffer, so far as `done` of n tokens are. */
static tl_err fill_ahead(tl_prompt *p, uint32_t il, uint32_t done, uint32_t n) {
    const uint32_t next = il + 1, n_old = p->params.kv->n_rows;
    if (p->n_stages < 2 || next == shape_of(p)->n_layers || !is_brought(p, next)) {
        return TL_OK;
    }
    return fill(p, next, (uint32_t)((uint64_t)n_old * done / n));
}

/* Layer il's stage, or NULL where it needs none, with all rows that were there before the prompt.
 */
static tl_err begin_rows(tl_prompt *p, uint32_t il, struct tl_stage **out) {
    *out = NULL;
    if (!is_staged(p, il)) {
        return TL_OK;
    }
    struct stage *const s = stage_of(p, il);
    *out = &s->rows;
    if (!is_brought(p, il)) {
        TL_TRY(wait_for(&s->sent, p->params.stream));
        return tl_kv_stage(p->params.kv, il, &s->rows, p->params.stream);
    }
    s->rows.origin = 0;
    TL_TRY(fill(p, il, p->params.kv->n_rows));
    s->layer = UINT32_MAX;
    TL_TRY(wait_for(&s->filled, p->params.stream));
    return wait_for(&s->sent, p->params.stream);
}

/* Rows [first, first + n) of layer il, which compute has stored behind `done`, to their home. */
static tl_err send_rows(tl_prompt *p, uint32_t il, uint32_t first, uint32_t n) {
    if (!is_brought(p, il)) {
        return TL_OK;
    }
    struct stage *const s = stage_of(p, il);
    TL_TRY(tl_kv_copy_rows(&layer_of(p, il)->home, first, &s->rows.rows, first, n,
                           p->params.transfer));
    return set(&s->sent, p->params.transfer);
}

uint64_t tl_prompt_rows_brought(const tl_prompt *p, uint32_t il, uint32_t n_rows) {
    return is_brought(p, il) ? (uint64_t)n_rows * shape_of(p)->n_kv_heads : 0;
}

/* ---- hidden states ---- */

/* The k-th chunk's hidden states, where the layers find them. */
static tl_view place(const tl_prompt *p, uint32_t k, uint32_t at, uint32_t n) {
    const struct tl_scratch *const s = p->params.scratch;
    return p->far ? tl_view_rows(k % N_X == 0 ? s->x : s->x_b, 0, n)
                  : tl_view_rows(p->hidden, at, n);
}

/* Brings the k-th chunk. Whatever was in its buffer was carried away before, on the same stream. */
static tl_err bring(tl_prompt *p, uint32_t k, uint32_t at, uint32_t n) {
    if (!p->far || n == 0) {
        return TL_OK;
    }
    TL_TRY(tl_copy(p->params.transfer, place(p, k, at, n), tl_view_rows(p->hidden, at, n)));
    return set(&p->x[k % N_X].in, p->params.transfer);
}

/* Behind chunk k's last op. */
static tl_err carry_away(tl_prompt *p, uint32_t il, uint32_t k, uint32_t at, uint32_t n) {
    if (!p->far) {
        return TL_OK;
    }
    tl_stream *const transfer = p->params.transfer;
    TL_TRY(set(&p->x[k % N_X].done, p->params.stream));
    TL_TRY(wait_for(&p->x[k % N_X].done, transfer));
    TL_TRY(tl_copy(transfer, tl_view_rows(p->hidden, at, n), place(p, k, at, n)));
    TL_TRY(set(&p->x[k % N_X].out, transfer));
    return send_rows(p, il, p->params.kv->n_rows + at, n);
}

/* ---- layers ---- */

uint32_t tl_prompt_chunk(uint32_t n_left, uint32_t n_chunk) {
    const uint32_t n = (uint32_t)tl_min_u64(n_left, n_chunk), behind = n_left - n;
    return behind > 0 && behind < TL_LAST_QUERIES && n > TL_LAST_QUERIES
               ? n - (TL_LAST_QUERIES - behind)
               : n;
}

/* Chunk k's hidden states before layer il: embeddings, or what the layer before left. */
static tl_err begin_chunk(tl_prompt *p, const struct tl_pass *pass, uint32_t il, uint32_t k,
                          const uint32_t *ids, tl_view x) {
    if (il > 0) {
        return p->far ? wait_for(&p->x[k % N_X].in, p->params.stream) : TL_OK;
    }
    TL_TRY(wait_for(&p->x[k % N_X].out, p->params.stream));
    return tl_decode_embed(pass, x, ids);
}

tl_err tl_prompt_layer(tl_prompt *p, uint32_t il, const uint32_t *ids, uint32_t n,
                       tl_identify *identify) {
    struct tl_pass pass = {.model = p->params.model,
                           .kv = p->params.kv,
                           .scratch = p->params.scratch,
                           .stream = p->params.stream};
    const uint32_t n_chunk = p->params.scratch->n_chunk, n_old = p->params.kv->n_rows;
    uint32_t rows = tl_prompt_chunk(n, n_chunk);
    if (il > 0) {
        TL_TRY(bring(p, 0, 0, rows));
    }
    TL_TRY(begin_rows(p, il, &pass.stage));
    for (uint32_t k = 0, at = 0, next; at < n; k++, at += rows, rows = next) {
        next = tl_prompt_chunk(n - at - rows, n_chunk);
        const tl_view x = place(p, k, at, rows);
        TL_TRY(begin_chunk(p, &pass, il, k, ids + at, x));
        if (il > 0) {
            TL_TRY(bring(p, k + 1, at + rows, next));
        }
        TL_TRY(tl_decode_prompt_layer(&pass, il, x, n_old + at));
        if (at + rows == n && identify != NULL) {
            TL_TRY(tl_identify_layer(identify, &pass, il, n_old + at, rows));
        }
        TL_TRY(carry_away(p, il, k, at, rows));
        TL_TRY(fill_ahead(p, il, at + rows, n));
        TL_TRY(
            tl_stream_sync(pass.stream)); /* the next chunk's positions go where these are read */
    }
    TL_TRY(tl_kv_absorb(p->params.kv, il, n_old + n, pass.stage, pass.stream));
    return pass.stage != NULL ? set(&stage_of(p, il)->absorbed, pass.stream) : TL_OK;
}

tl_err tl_prompt_hidden(tl_prompt *p, uint32_t n, tl_view *out) {
    for (int i = 0; i < N_X; i++) {
        TL_TRY(wait_for(&p->x[i].out, p->params.stream));
    }
    *out = tl_view_rows(p->hidden, 0, n);
    return TL_OK;
}

tl_err tl_prompt_end(tl_prompt *p) {
    for (uint32_t i = 0; i < p->n_stages; i++) {
        p->stages[i].layer = UINT32_MAX;
    }
    TL_TRY(tl_stream_sync(p->params.stream));
    return tl_stream_sync(p->params.transfer);
}
