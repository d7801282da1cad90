/* Forecasts. The step is the real one, recorded by the code that records it for sessions, on the
 * paper device; its cache has only as much room as a recording needs, since costs follow the
 * numbers that ops read. The prompt is arithmetic: 2 operations a weight and token, 4 a row, query
 * and channel. */
#include "forecast.h"

#include "launches.h"
#include "paper.h"

#include <math.h>
#include <stdlib.h>

struct tl_forecast {
    struct tl_forecast_params params;
    tl_dev *dev;
    tl_model *model;
    tl_kv *kv;
    struct tl_scratch scratch;
    tl_schedule step;
    struct tl_op_time *times; /* owned, one an op */
    uint32_t *launches;       /* likewise; NULL: one each */
};

/* Room for every tier to be at its full width. */
static uint32_t smallest_cap(const struct tl_forecast_params *p) {
    uint64_t cap = TL_BLOCK;
    for (uint32_t il = 0; il < p->shape->n_layers; il++) {
        const struct tl_policy policy = tl_kv_layer_policy(p->shape, il, &p->policies[il]);
        cap = tl_max_u64(cap, (uint64_t)policy.sink + policy.recent + policy.topk);
    }
    return (uint32_t)tl_align_up(cap, TL_BLOCK) + 2 * TL_BLOCK;
}

static tl_err open_parts(tl_forecast *f) {
    const struct tl_forecast_params *const p = &f->params;
    const bool unified = p->card->link_bytes_per_s <= 0;
    TL_TRY(tl_dev_open(&f->dev, &tl_backend_paper,
                       &(struct tl_dev_params){.debug = unified ? TL_PAPER_UNIFIED : NULL}));
    TL_TRY(p->weights != NULL ? tl_model_open(&f->model, p->weights, p->shape, f->dev, NULL)
                              : tl_model_open_blank(&f->model, p->shape, &p->blank, f->dev));
    TL_TRY(tl_kv_open(&f->kv, p->shape, p->policies, NULL, f->dev, smallest_cap(p)));
    const struct tl_plan_params room = {.n_ctx = f->kv->cap, .n_chunk = 1, .policies = p->policies};
    const struct tl_scratch_needs needs = tl_plan_scratch(p->shape, &room);
    TL_TRY(tl_scratch_open(&f->scratch, p->shape, f->dev, &needs));
    const struct tl_pass pass = {
        .model = f->model, .kv = f->kv, .scratch = &f->scratch, .record = &f->step};
    TL_TRY(tl_decode_record_step(&pass));
    tl_schedule_arrange(&f->step);
    f->times = calloc((size_t)f->step.n + 1, sizeof *f->times);
    if (p->card->launching != NULL) {
        f->launches = calloc((size_t)f->step.n + 1, sizeof *f->launches);
    }
    return f->times != NULL && (f->launches != NULL || p->card->launching == NULL) ? TL_OK
                                                                                   : TL_ERR_MEMORY;
}

tl_err tl_forecast_open(tl_forecast **out, const struct tl_forecast_params *params) {
    tl_forecast *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return TL_ERR_MEMORY;
    }
    f->params = *params;
    const tl_err err = open_parts(f);
    if (err) {
        tl_forecast_close(&f);
        return err;
    }
    *out = f;
    return TL_OK;
}

void tl_forecast_close(tl_forecast **forecast) {
    tl_forecast *const f = *forecast;
    if (f == NULL) {
        return;
    }
    tl_schedule_free(&f->step);
    free(f->times);
    free(f->launches);
    tl_scratch_close(&f->scratch);
    tl_kv_close(&f->kv);
    tl_model_close(&f->model);
    tl_dev_close(&f->dev);
    free(f);
    *forecast = NULL;
}

uint64_t tl_forecast_weight_bytes(const tl_forecast *f) { return f->model->weight_bytes; }
const tl_schedule *tl_forecast_schedule(const tl_forecast *f) { return &f->step; }
const struct tl_op_time *tl_forecast_times(const tl_forecast *f) { return f->times; }

void tl_forecast_step(tl_forecast *f, uint32_t n_rows, struct tl_timeline *out) {
    tl_kv_pretend(f->kv, n_rows);
    const struct tl_timeline_params params = {
        .card = f->params.card, .miss = f->params.miss, .late = f->params.late};
    if (f->launches != NULL) {
        tl_launches_of(&f->step, f->params.card->launching, f->launches);
    }
    tl_timeline_make(&f->step, &params, f->launches, f->times, out);
}

/* ---- prompts ---- */

static double n_elems(tl_view v) { return v.buf != NULL ? (double)v.rows * v.cols : 0; }

/* Weights that every token of a prompt goes through. */
static double matrix_elems(const tl_model *m) {
    double n = 0;
    for (uint32_t il = 0; il < m->shape.n_layers; il++) {
        const struct tl_layer *const l = &m->layers[il];
        n += n_elems(l->wq) + n_elems(l->wk) + n_elems(l->wv) + n_elems(l->wo) + n_elems(l->gate) +
             n_elems(l->up) + n_elems(l->down);
    }
    return n;
}

/* Pairs of a query and a row it sees, over a prompt of n tokens. */
static double n_pairs(const struct tl_shape *s, uint32_t il, double n) {
    const double window = s->windowed[il] ? fmin(s->window, n) : n;
    return window * (window + 1) / 2 + (n - window) * window;
}

/* Bytes that a prompt of n tokens sends over the link: rows to their home and, where layers go one
 * by one, hidden states there and back for each. */
static double link_bytes(const tl_forecast *f, double n) {
    const struct tl_shape *const s = f->params.shape;
    const double row = 2.0 * s->n_kv_heads * (double)tl_row_bytes(TL_F16, s->head_dim);
    double bytes = 0;
    bool by_layers = false;
    for (uint32_t il = 0; il < s->n_layers; il++) {
        const struct tl_kv_layer *const layer = &f->kv->layers[il];
        by_layers |= !tl_kv_is_exact(layer) || layer->policy.home == TL_HOME_HOST;
        bytes += layer->policy.home == TL_HOME_HOST ? n * row : 0;
    }
    return bytes + (by_layers ? 2.0 * s->n_layers * n * s->n_embd * sizeof(float) : 0);
}

void tl_forecast_prompt(const tl_forecast *f, uint32_t n, uint32_t n_chunk,
                        struct tl_prompt_forecast *out) {
    const struct tl_card *const card = f->params.card;
    const struct tl_shape *const s = f->params.shape;
    *out = (struct tl_prompt_forecast){0};
    if (card->f16_flops <= 0) {
        return;
    }
    const double rate = card->f16_flops * (double)card->reached[TL_COST_PROMPT];
    out->matmul_s = 2 * matrix_elems(f->model) * n / rate;
    for (uint32_t il = 0; il < s->n_layers; il++) {
        out->attention_s += 4.0 * s->n_heads * s->head_dim * n_pairs(s, il, n) / rate;
    }
    out->weights_s = (double)f->model->weight_bytes * (double)tl_div_up(n, n_chunk) /
                     (card->bytes_per_s * (double)card->reached[TL_COST_WEIGHTS]);
    out->link_s = card->link_bytes_per_s > 0 ? link_bytes(f, n) / card->link_bytes_per_s : 0;
    out->total_s = fmax(fmax(out->matmul_s, out->weights_s) + out->attention_s, out->link_s);
}
