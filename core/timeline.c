/* Costs and times. What an op costs is said by verb, once; depth comes from the numbers that the op
 * itself reads. Simulation keeps what a device keeps: each stream's order, the waits, the join.
 * Left out: the two streams sharing the memory's bandwidth (the second moves a hundredth). */
#include "timeline.h"

#include <math.h>

/* Touching one word of many moves this much. */
enum { SECTOR_BYTES = 32 };

const char *const tl_part_names[TL_PART_COUNT] = {
    [TL_PART_WEIGHTS] = "weights",   [TL_PART_WINDOW] = "window", [TL_PART_SKETCH] = "sketch",
    [TL_PART_SELECTED] = "selected", [TL_PART_INDEX] = "index",   [TL_PART_TRANSFER] = "transfer",
    [TL_PART_OTHER] = "other",
};

struct counter {
    const struct tl_timeline_params *params;
    struct tl_op_cost *cost;
};

static bool is_far(const struct counter *c, const tl_view *v) {
    return v->buf->mem == TL_MEM_HOST && c->params->card->link_bytes_per_s > 0;
}

/* `bytes` of what v lies in. */
static void add(const struct counter *c, const tl_view *v, uint64_t bytes) {
    if (v->buf != NULL) {
        *(is_far(c, v) ? &c->cost->link_bytes : &c->cost->device_bytes) += bytes;
    }
}

static void add_whole(const struct counter *c, const tl_view *v) {
    if (v->buf != NULL) {
        add(c, v, tl_view_bytes(*v));
    }
}

static void add_all_views(const struct counter *c, const struct tl_op *op) {
    struct tl_op_views views;
    tl_op_get_views(op, &views);
    for (uint32_t i = 0; i < views.n_reads; i++) {
        add_whole(c, views.reads[i]);
    }
    for (uint32_t i = 0; i < views.n_writes; i++) {
        add_whole(c, views.writes[i]);
    }
}

/* n rows of every head, or n rows of any. */
static void add_rows(const struct counter *c, const struct tl_kv_rows *kv, uint64_t n) {
    add(c, &kv->k, n * tl_row_bytes(kv->k.dtype, kv->k.cols));
    add(c, &kv->v, n * tl_row_bytes(kv->v.dtype, kv->v.cols));
}

static uint64_t number_in(const tl_view *v) {
    const int32_t n = *(const int32_t *)tl_view_host(tl_view_twin(*v));
    return n > 0 ? (uint64_t)n : 0;
}

static void cost_gather(const struct counter *c, const struct tl_gather *op) {
    add(c, &op->src, op->y.rows * tl_row_bytes(op->src.dtype, op->src.cols));
    add_whole(c, &op->idx);
    add_whole(c, &op->y);
}

static void cost_matmul(const struct counter *c, const struct tl_matmul *op) {
    add_whole(c, &op->x);
    add_whole(c, &op->w);
    add_whole(c, &op->bias);
    add(c, &op->y, tl_view_bytes(op->y) * (op->accumulate ? 2 : 1));
    c->cost->flops = 2.0 * op->x.rows * op->w.rows * op->w.cols;
    c->cost->is_i8 = tl_dtype_info(op->w.dtype)->block_elems > 1;
    c->cost->kind = TL_COST_WEIGHTS;
    c->cost->part = TL_PART_WEIGHTS;
}

static void cost_kv_encode(const struct counter *c, const struct tl_kv_encode *op) {
    add_whole(c, &op->k);
    add_whole(c, &op->v);
    add_whole(c, &op->slot);
    add_rows(c, &op->dst, (uint64_t)op->k.rows * op->dst.n_kv_heads);
}

static void cost_attend(const struct counter *c, const struct tl_attend *op) {
    const uint64_t n = number_in(&op->n_rows);
    const uint64_t seen =
        op->window == 0 ? n : tl_min_u64(n, (uint64_t)op->window + op->q.rows - 1);
    add_whole(c, &op->q);
    add_whole(c, &op->q_pos);
    add_whole(c, &op->n_rows);
    add_whole(c, &op->out);
    add_whole(c, &op->lse);
    add_rows(c, &op->kv, seen * op->kv.n_kv_heads);
    c->cost->flops = 4.0 * op->q.rows * op->q.cols * (double)seen;
    c->cost->kind = TL_COST_ROWS;
    c->cost->part = is_far(c, &op->kv.k) ? TL_PART_TRANSFER : TL_PART_WINDOW;
}

static void cost_key_score(const struct counter *c, const struct tl_key_score *op) {
    const uint64_t n = number_in(&op->n_blocks);
    add_whole(c, &op->q);
    add_whole(c, &op->n_blocks);
    add(c, &op->sketch.k, n * op->sketch.n_kv_heads * op->sketch.k.cols);
    add(c, &op->score, n * TL_BLOCK * op->n_heads * sizeof(float));
    c->cost->flops = 2.0 * op->q.cols * (double)n * TL_BLOCK;
    c->cost->kind = TL_COST_CODES;
    c->cost->part = TL_PART_INDEX;
}

static void cost_topk(const struct counter *c, const struct tl_topk *op,
                      struct tl_cost_state *state) {
    const uint64_t n = number_in(&op->n_rows);
    state->n_selectable = n;
    add_whole(c, &op->n_rows);
    add_whole(c, &op->idx);
    add(c, &op->score, n * op->score.rows * sizeof(float));
    c->cost->kind = TL_COST_CODES;
    c->cost->part = TL_PART_INDEX;
}

static void cost_attend_sketch(const struct counter *c, const struct tl_attend_sketch *op) {
    const uint64_t n = number_in(&op->n_blocks), heads = op->sketch.n_kv_heads;
    add_whole(c, &op->q);
    add_whole(c, &op->n_blocks);
    add_whole(c, &op->skip);
    add_whole(c, &op->out);
    add_whole(c, &op->lse);
    if (op->score.buf != NULL) {
        add(c, &op->score, n * TL_BLOCK * op->n_heads * sizeof(float));
    } else {
        add(c, &op->sketch.k, n * heads * op->sketch.k.cols);
    }
    add(c, &op->sketch.v, n * heads * op->sketch.v.cols);
    c->cost->flops = (op->score.buf != NULL ? 2.0 : 4.0) * op->q.cols * (double)n * TL_BLOCK;
    c->cost->kind = TL_COST_CODES;
    c->cost->part = TL_PART_SKETCH;
}

/* Rows that are named, of all heads. */
static uint64_t n_named(const tl_view *idx, const struct tl_cost_state *state) {
    return idx->rows * tl_min_u64(idx->cols, state->n_selectable);
}

static void cost_attend_slots(const struct counter *c, const struct tl_attend_slots *op,
                              const struct tl_cost_state *state) {
    const uint64_t n = n_named(&op->slot, state);
    add_whole(c, &op->q);
    add_whole(c, &op->slot);
    add_whole(c, &op->out);
    add_whole(c, &op->lse);
    add_rows(c, &op->kv, n);
    c->cost->flops = 4.0 * op->q.cols * (double)n / op->kv.n_kv_heads;
    c->cost->kind = is_far(c, &op->kv.k) ? TL_COST_LINK : TL_COST_ROWS;
    c->cost->part = is_far(c, &op->kv.k) ? TL_PART_TRANSFER : TL_PART_SELECTED;
}

/* All owners are looked through, and each hit is marked; each miss takes a slot from another row.
 */
static void cost_fetch(const struct counter *c, const struct tl_fetch *op,
                       const struct tl_cost_state *state) {
    const uint64_t n = n_named(&op->idx, state);
    const uint64_t missed = (uint64_t)llround((double)n * c->params->miss);
    add_whole(c, &op->idx);
    add_whole(c, &op->slot);
    add_whole(c, &op->counts);
    add_whole(c, &op->hand);
    add_whole(c, &op->owner);
    add(c, &op->used, (n + missed) * SECTOR_BYTES);
    add(c, &op->owner, missed * SECTOR_BYTES);
    add_rows(c, &op->home, missed);
    add_rows(c, &op->hot, missed);
    c->cost->kind = TL_COST_LINK;
    c->cost->part = TL_PART_TRANSFER;
}

static void cost_channels(const struct counter *c, const struct tl_channels *op) {
    add_whole(c, &op->q);
    add_whole(c, &op->ids);
    add_whole(c, &op->n_blocks);
    add(c, &op->most, op->ids.rows * tl_row_bytes(op->most.dtype, op->most.cols));
    c->cost->part = TL_PART_INDEX;
}

/* Channels are long rows: the link runs as for a large copy. */
static void cost_channel_fetch(const struct counter *c, const struct tl_channel_fetch *op) {
    const double moved = op->keep ? c->params->late : 1;
    const uint64_t n = number_in(&op->n_blocks) * TL_BLOCK * sizeof(uint16_t);
    const uint64_t bytes = (uint64_t)llround((double)op->part.rows * (double)n * moved);
    add_whole(c, &op->want);
    add_whole(c, &op->held);
    add_whole(c, &op->counts);
    add_whole(c, &op->n_blocks);
    add(c, &op->keys, bytes);
    add(c, &op->part, bytes);
    c->cost->kind = TL_COST_ROWS;
    c->cost->part = TL_PART_TRANSFER;
}

static void cost_channel_score(const struct counter *c, const struct tl_channel_score *op) {
    const uint64_t n = number_in(&op->n_blocks) * TL_BLOCK;
    add_whole(c, &op->q);
    add_whole(c, &op->held);
    add_whole(c, &op->n_blocks);
    add(c, &op->part, op->part.rows * n * sizeof(uint16_t));
    add(c, &op->score, op->score.rows * n * sizeof(float));
    c->cost->flops = 2.0 * op->part.rows * (double)n;
    c->cost->kind = TL_COST_CODES;
    c->cost->part = TL_PART_INDEX;
}

static void cost_page_score(const struct counter *c, const struct tl_page_score *op) {
    const uint64_t n = number_in(&op->n_blocks) * TL_BLOCK;
    const uint64_t pages = n / op->pages.page * op->pages.n_kv_heads;
    add_whole(c, &op->q);
    add_whole(c, &op->n_blocks);
    add(c, &op->pages.rows, pages * tl_row_bytes(op->pages.rows.dtype, op->pages.rows.cols));
    add(c, &op->score, n * op->n_heads * sizeof(float));
    c->cost->flops = 4.0 * op->q.cols * (double)n / op->pages.page;
    c->cost->kind = TL_COST_CODES;
    c->cost->part = TL_PART_INDEX;
}

/* True where the verb was one of these. */
static bool cost_index_op(const struct counter *c, const struct tl_op *op) {
    switch (op->verb) {
    case TL_VERB_CHANNELS:
        cost_channels(c, &op->u.channels);
        return true;
    case TL_VERB_CHANNEL_FETCH:
        cost_channel_fetch(c, &op->u.channel_fetch);
        return true;
    case TL_VERB_CHANNEL_SCORE:
        cost_channel_score(c, &op->u.channel_score);
        return true;
    case TL_VERB_PAGE_SCORE:
        cost_page_score(c, &op->u.page_score);
        return true;
    default:
        return false;
    }
}

void tl_op_get_cost(const struct tl_op *op, const struct tl_timeline_params *p,
                    struct tl_cost_state *state, struct tl_op_cost *out) {
    *out = (struct tl_op_cost){.kind = TL_COST_SMALL, .part = TL_PART_OTHER};
    const struct counter c = {p, out};
    if (cost_index_op(&c, op)) {
        return;
    }
    switch (op->verb) {
    case TL_VERB_GATHER:
        cost_gather(&c, &op->u.gather);
        return;
    case TL_VERB_MATMUL:
        cost_matmul(&c, &op->u.matmul);
        return;
    case TL_VERB_KV_ENCODE:
        cost_kv_encode(&c, &op->u.kv_encode);
        return;
    case TL_VERB_ATTEND:
        cost_attend(&c, &op->u.attend);
        return;
    case TL_VERB_KEY_SCORE:
        cost_key_score(&c, &op->u.key_score);
        return;
    case TL_VERB_TOPK:
        cost_topk(&c, &op->u.topk, state);
        return;
    case TL_VERB_ATTEND_SKETCH:
        cost_attend_sketch(&c, &op->u.attend_sketch);
        return;
    case TL_VERB_ATTEND_SLOTS:
        cost_attend_slots(&c, &op->u.attend_slots, state);
        return;
    case TL_VERB_FETCH:
        cost_fetch(&c, &op->u.fetch, state);
        return;
    case TL_VERB_COPY:
    case TL_VERB_COMPRESS: /* this one and the next three stand in no step */
    case TL_VERB_MASS:
    case TL_VERB_KEY_TRANSPOSE:
    case TL_VERB_PAGE_ENCODE:
    case TL_VERB_RMSNORM:
    case TL_VERB_ROPE:
    case TL_VERB_GLU:
    case TL_VERB_MERGE:
        add_all_views(&c, op);
        return;
    case TL_VERB_CHANNELS:
    case TL_VERB_CHANNEL_FETCH:
    case TL_VERB_CHANNEL_SCORE:
    case TL_VERB_PAGE_SCORE:
    case TL_VERB_COUNT:
        break;
    }
    TL_ASSERT(!"a verb");
}

static double op_us(const struct tl_op_cost *cost, uint32_t n_launches,
                    const struct tl_card *card) {
    double s = (double)cost->device_bytes / (card->bytes_per_s * (double)card->reached[cost->kind]);
    if (cost->link_bytes > 0) {
        const double part = cost->kind == TL_COST_LINK ? (double)card->reached[TL_COST_LINK] : 1;
        s = fmax(s, (double)cost->link_bytes / (card->link_bytes_per_s * part));
    }
    const double rate = cost->is_i8 && card->i8_ops > 0 ? card->i8_ops : card->f16_flops;
    if (rate > 0) {
        s = fmax(s, cost->flops / rate);
    }
    return 1e6 *
           (s + n_launches * card->launch_s + (cost->link_bytes > 0 ? card->link_latency_s : 0));
}

void tl_timeline_make(const tl_schedule *s, const struct tl_timeline_params *params,
                      const uint32_t *launches, struct tl_op_time *times, struct tl_timeline *out) {
    struct tl_cost_state state = {0};
    double free_us[TL_LANE_COUNT] = {0};
    *out = (struct tl_timeline){0};
    for (uint32_t i = 0; i < s->n; i++) {
        const struct tl_op *const op = &s->ops[i];
        struct tl_op_time *const t = &times[i];
        tl_op_get_cost(op, params, &state, &t->cost);
        t->n_launches = launches != NULL ? launches[i] : 1;
        const bool waits = op->wait != TL_WAIT_NONE && op->wait != TL_WAIT_START;
        const double idle_from = free_us[op->lane];
        t->start_us = waits ? fmax(idle_from, times[op->wait].end_us) : idle_from;
        t->end_us = t->start_us + op_us(&t->cost, t->n_launches, params->card);
        free_us[op->lane] = t->end_us;
        if (op->lane == TL_LANE_COMPUTE) {
            out->waiting_us += t->start_us - idle_from;
            out->part_us[t->cost.part] += t->end_us - t->start_us;
        } else {
            out->second_us += t->end_us - t->start_us;
        }
        out->device_bytes += t->cost.device_bytes;
        out->link_bytes += t->cost.link_bytes;
        out->n_launches += t->n_launches;
    }
    out->step_us = free_us[TL_LANE_COMPUTE];
    if (s->join != TL_WAIT_NONE) {
        out->step_us = fmax(out->step_us, times[s->join].end_us);
        out->waiting_us += out->step_us - free_us[TL_LANE_COMPUTE];
    }
}
