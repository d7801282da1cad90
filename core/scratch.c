/* Where each view of a session's scratch lies: two buffers, carved in one order, once to measure
 * and once for real. */
#include "decode.h"

enum { SCRATCH_ALIGN = 256 }; /* suits any kernel */

struct carve {
    tl_buf *buf; /* NULL: only measure */
    uint64_t at;
};

static tl_view carve(struct carve *c, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    const uint64_t off = c->at;
    c->at = tl_align_up(off + rows * tl_row_bytes(dtype, cols), SCRATCH_ALIGN);
    return c->buf != NULL ? tl_view_of(c->buf, off, rows, cols, dtype) : (tl_view){0};
}

void tl_scratch_need(struct tl_scratch_needs *needs, const struct tl_policy *p) {
    if (p->select == TL_SELECT_TOPK) {
        needs->topk_max = (uint32_t)tl_max_u64(needs->topk_max, p->topk);
    }
    if (tl_kv_selects_by(p, TL_INDEX_CHANNELS)) {
        needs->channels_max = (uint32_t)tl_max_u64(needs->channels_max, p->channels);
    }
}

static void carve_device(struct carve *c, const struct tl_shape *s,
                         const struct tl_scratch_needs *needs, struct tl_scratch *out) {
    const uint32_t n = needs->n_chunk, q_dim = s->n_heads * s->head_dim;
    out->x = carve(c, n, s->n_embd, TL_F32);
    if (needs->carried) {
        out->x_b = carve(c, n, s->n_embd, TL_F32);
    }
    out->norm = carve(c, n, s->n_embd, TL_F32);
    out->q = carve(c, n, q_dim, TL_F32);
    out->attn = carve(c, n, q_dim, TL_F32);
    out->k = carve(c, n, s->n_kv_heads * s->head_dim, TL_F32);
    out->v = carve(c, n, s->n_kv_heads * s->head_dim, TL_F32);
    out->gate = carve(c, n, s->n_ff, TL_F32);
    out->up = carve(c, n, s->n_ff, TL_F32);
    if (needs->hybrid) {
        out->attn_b = carve(c, n, q_dim, TL_F32);
        out->lse = carve(c, n, s->n_heads, TL_F32);
        out->lse_b = carve(c, n, s->n_heads, TL_F32);
    }
    if (needs->topk_max > 0) {
        const uint32_t cap = (uint32_t)tl_align_up(needs->cap, TL_BLOCK);
        out->score = carve(c, s->n_heads, cap, TL_F32);
        out->idx = carve(c, s->n_layers * s->n_kv_heads, needs->topk_max, TL_I32);
        out->slots = carve(c, s->n_kv_heads, needs->topk_max, TL_I32);
        out->tallies = carve(c, 2 * s->n_layers, 2, TL_I32);
    }
    out->step_pos = carve(c, n, 1, TL_I32);
    if (needs->channels_max > 0) {
        const uint32_t cap = (uint32_t)tl_align_up(needs->cap, TL_BLOCK);
        const uint32_t k = (uint32_t)tl_min_u64(needs->channels_max, s->head_dim);
        out->q_next = carve(c, 1, q_dim, TL_F32);
        out->want = carve(c, s->n_kv_heads, k, TL_I32);
        for (int i = 0; i < 2; i++) {
            out->held[i] = carve(c, s->n_kv_heads, k, TL_I32);
            out->part[i] = carve(c, s->n_kv_heads * k, cap, TL_F16);
        }
    }
}

static void carve_host(struct carve *c, const struct tl_shape *s,
                       const struct tl_scratch_needs *needs, struct tl_scratch *out) {
    const uint32_t n = needs->n_chunk;
    out->logits = carve(c, TL_LOGIT_ROWS, s->n_vocab, TL_F32);
    out->ids = carve(c, n, 1, TL_I32);
    out->pos = carve(c, n, 1, TL_I32);
    out->stage_pos = carve(c, n, 1, TL_I32);
    out->far_pos = carve(c, n, 1, TL_I32);
    out->n_rows = carve(c, 1, 1, TL_I32);
    out->stage_rows = carve(c, 1, 1, TL_I32);
    out->sink_rows = carve(c, 1, 1, TL_I32);
    out->n_blocks = carve(c, 1, 1, TL_I32);
    out->tallies_from = carve(c, 2 * s->n_layers, 2, TL_I32);
    if (c->buf != NULL) {
        out->counts = tl_view_rows(out->tallies_from, 0, s->n_layers);
        out->channel_counts = tl_view_rows(out->tallies_from, s->n_layers, s->n_layers);
    }
    if (needs->topk_max > 0) {
        out->looked = carve(c, s->n_kv_heads, needs->topk_max, TL_I32);
    }
}

void tl_scratch_bytes(const struct tl_shape *shape, const struct tl_scratch_needs *needs,
                      uint64_t *device, uint64_t *host) {
    struct tl_scratch unused;
    struct carve on_device = {0}, on_host = {0};
    carve_device(&on_device, shape, needs, &unused);
    carve_host(&on_host, shape, needs, &unused);
    *device = on_device.at;
    *host = on_host.at;
}

tl_err tl_scratch_open(struct tl_scratch *out, const struct tl_shape *shape, tl_dev *dev,
                       const struct tl_scratch_needs *needs) {
    struct tl_scratch s = {.n_chunk = needs->n_chunk};
    struct carve device = {0}, host = {0};
    carve_device(&device, shape, needs, &s);
    carve_host(&host, shape, needs, &s);
    TL_TRY(tl_buf_alloc(&device.buf, dev, device.at, TL_MEM_DEVICE));
    const tl_err err = tl_buf_alloc(&host.buf, dev, host.at, TL_MEM_HOST);
    if (err) {
        tl_buf_free(&device.buf);
        return err;
    }
    device.at = 0;
    host.at = 0;
    carve_device(&device, shape, needs, &s);
    carve_host(&host, shape, needs, &s);
    s.device = device.buf;
    s.host = host.buf;
    int32_t *const far_pos = tl_view_host(s.far_pos);
    for (uint32_t i = 0; i < needs->n_chunk; i++) {
        far_pos[i] = INT32_MAX;
    }
    *out = s;
    return TL_OK;
}

void tl_scratch_close(struct tl_scratch *scratch) {
    tl_buf_free(&scratch->device);
    tl_buf_free(&scratch->host);
    *scratch = (struct tl_scratch){0};
}
