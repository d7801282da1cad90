/* A look is a few ops put between those of the recorded step: the exact attention of one head where
 * its layer attends its window, copies of the log-sum-exp of each part that is attended exactly,
 * and a copy of the head's output when its layer is done. The step itself is as it is without them.
 */
#include "gauge.h"

#include <math.h>
#include <stdlib.h>

enum { NO_OP = -1 };

struct tl_gauges {
    const struct tl_shape *shape; /* borrowed */
    tl_buf *buf;                  /* owned, host */
    tl_view exact, out;           /* (1, head_dim) f32 */
    tl_view lse_all;              /* (1, 1) f32 */
    tl_view lse_near;             /* (2, 1) f32: of the window, of the rows fetched */
    bool fetches;                 /* there are any of those */
    struct tl_gauge *layers;      /* owned, n_layers of them */
    uint32_t il, head;            /* of the look that was run; of the next one `turn` decides */
    uint32_t n_rows;
    uint64_t turn;
};

tl_err tl_gauges_open(tl_gauges **out, const struct tl_shape *shape, tl_dev *dev) {
    tl_gauges *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return TL_ERR_MEMORY;
    }
    g->shape = shape;
    g->layers = calloc(shape->n_layers, sizeof *g->layers);
    const uint64_t row = tl_align_up(shape->head_dim * sizeof(float), 256);
    const tl_err err =
        g->layers != NULL ? tl_buf_alloc(&g->buf, dev, 2 * row + 512, TL_MEM_HOST) : TL_ERR_MEMORY;
    if (err) {
        tl_gauges_close(&g);
        return err;
    }
    g->exact = tl_view_of(g->buf, 0, 1, shape->head_dim, TL_F32);
    g->out = tl_view_of(g->buf, row, 1, shape->head_dim, TL_F32);
    g->lse_all = tl_view_of(g->buf, 2 * row, 1, 1, TL_F32);
    g->lse_near = tl_view_of(g->buf, 2 * row + 256, 2, 1, TL_F32);
    *out = g;
    return TL_OK;
}

void tl_gauges_close(tl_gauges **g) {
    if (*g != NULL) {
        tl_buf_free(&(*g)->buf);
        free((*g)->layers);
        free(*g);
        *g = NULL;
    }
}

static bool can_look(const struct tl_kv_layer *layer) {
    return layer->home.k.buf != NULL && !tl_kv_is_exact(layer);
}

/* Layers take turns, and after each round it is the next head's. */
static bool choose(tl_gauges *g, const tl_kv *kv) {
    uint32_t n = 0;
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        n += can_look(&kv->layers[il]) ? 1 : 0;
    }
    if (n == 0) {
        return false;
    }
    uint32_t skip = (uint32_t)(g->turn % n);
    g->head = (uint32_t)(g->turn / n % g->shape->n_heads);
    g->turn++;
    for (g->il = 0; !can_look(&kv->layers[g->il]) || skip-- > 0; g->il++) {
    }
    return true;
}

/* The ops of the step at which the look acts. */
struct place {
    int64_t attend, fetched, last; /* indices; NO_OP: there is none */
};

static struct place find_place(const tl_schedule *step, uint32_t il) {
    struct place p = {NO_OP, NO_OP, NO_OP};
    for (uint32_t i = 0; i < step->n; i++) {
        const struct tl_op *const op = &step->ops[i];
        if (op->layer != il) {
            continue;
        }
        if (op->verb == TL_VERB_ATTEND && p.attend == NO_OP) {
            p.attend = i;
        }
        if (op->verb == TL_VERB_ATTEND_SLOTS) {
            p.fetched = i;
        }
        const bool attends = op->verb == TL_VERB_ATTEND || op->verb == TL_VERB_MERGE;
        p.last = attends ? (int64_t)i : p.last;
    }
    return p;
}

/* n columns from `col` on of a single row. */
static tl_view columns(tl_view v, uint32_t col, uint32_t n) {
    return tl_view_of(v.buf, v.off_bytes + (uint64_t)col * sizeof(float), 1, n, TL_F32);
}

/* The head of the window's attention, over its home. */
static tl_err attend_home(const tl_gauges *g, const tl_kv *kv, const struct tl_attend *window,
                          tl_stream *stream) {
    const struct tl_kv_layer *const layer = &kv->layers[g->il];
    const uint32_t d = g->shape->head_dim, heads = layer->home.n_kv_heads;
    const uint32_t cap = layer->home.k.rows / heads;
    const uint32_t kv_head = g->head / (window->n_heads / heads);
    struct tl_attend op = *window;
    op.out = g->exact;
    op.lse = g->lse_all;
    op.q = columns(window->q, g->head * d, d);
    op.q_pos = kv->pos;
    op.n_rows = kv->n_rows_view;
    op.kv = (struct tl_kv_rows){.k = tl_view_rows(layer->home.k, kv_head * cap, cap),
                                .v = tl_view_rows(layer->home.v, kv_head * cap, cap),
                                .n_kv_heads = 1};
    op.n_heads = 1;
    return tl_attend(stream, &op);
}

tl_err tl_gauges_run(tl_gauges *g, const tl_kv *kv, const tl_schedule *step, tl_stream *stream,
                     bool *looks) {
    *looks = choose(g, kv);
    if (!*looks) {
        return TL_OK;
    }
    const struct place at = find_place(step, g->il);
    TL_ASSERT(at.attend != NO_OP);
    const struct tl_attend *const window = &step->ops[at.attend].u.attend;
    const uint32_t d = g->shape->head_dim;
    g->n_rows = kv->n_rows + 1;
    g->fetches = at.fetched != NO_OP;
    for (uint32_t i = 0; i < step->n; i++) {
        TL_TRY(tl_op_run(&step->ops[i], stream));
        if (i == at.attend) {
            TL_TRY(
                tl_copy(stream, tl_view_rows(g->lse_near, 0, 1), columns(window->lse, g->head, 1)));
            TL_TRY(attend_home(g, kv, window, stream));
        }
        if (i == at.fetched) {
            TL_TRY(tl_copy(stream, tl_view_rows(g->lse_near, 1, 1),
                           columns(step->ops[i].u.attend_slots.lse, g->head, 1)));
        }
        if (i == at.last) {
            TL_TRY(tl_copy(stream, g->out, columns(window->out, g->head * d, d)));
        }
    }
    return TL_OK;
}

void tl_gauges_read(tl_gauges *g) {
    const float *const out = tl_view_host(g->out), *const exact = tl_view_host(g->exact);
    const float *const near = tl_view_host(g->lse_near);
    const double all = (double)*(const float *)tl_view_host(g->lse_all);
    double off = 0, size = 0;
    for (uint32_t i = 0; i < g->shape->head_dim; i++) {
        const double difference = (double)out[i] - (double)exact[i];
        off += difference * difference;
        size += (double)exact[i] * (double)exact[i];
    }
    struct tl_gauge *const seen = &g->layers[g->il];
    seen->n++;
    seen->head = g->head;
    seen->n_rows = g->n_rows;
    const double fetched = g->fetches ? exp((double)near[1] - all) : 0;
    seen->mass = fmin(1, exp((double)near[0] - all) + fetched);
    seen->error = size > 0 ? sqrt(off / size) : 0;
    seen->mass_mean += (seen->mass - seen->mass_mean) / seen->n;
    seen->error_mean += (seen->error - seen->error_mean) / seen->n;
}

const struct tl_gauge *tl_gauges_get(const tl_gauges *g, uint32_t il) { return &g->layers[il]; }
