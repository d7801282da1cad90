/* Launches of the CUDA backend, counted without it. Each lane keeps a fusion, as each stream of
 * the backend does; it ends where the lane waits for the other one, is waited for, or goes on with
 * something else. An op is charged with what the fusion's launches grow by when it joins. The
 * numbers of kernels per verb are the launchers' (backends/cuda); tests/cuda_emu/test_step.c holds
 * every preset to what the emulated card counts. */
#include "launches.h"

#include "vq.h"

const struct tl_launching tl_launching_cuda = {
    .few_rows = 16, .split_rows = 128, .split_blocks = 4, .together_max = 8};

struct lane {
    struct tl_fusion fusion;
    tl_view codes; /* of which x rounded codes are there */
};

static bool has_host_memory(const tl_view *v) { return v->buf->mem == TL_MEM_HOST; }

/* Rounding x, or making halves of it, is a launch before that of the products. */
static uint32_t launches_of_products(const struct lane *lane, const struct tl_launching *l) {
    const struct tl_fusion *const s = &lane->fusion;
    const struct tl_matmul *const first = &s->products[0];
    if (s->n_products == 0) {
        return 1;
    }
    if (first->x.rows > l->few_rows) {
        return first->w.dtype == TL_F32 || first->w.dtype == TL_BF16 ? 1 : 2;
    }
    if (!tl_matmul_rounds_x(first, l->few_rows)) {
        return 1;
    }
    const bool is_there = s->maker == TL_MAKER_NONE && !has_host_memory(&first->x) &&
                          tl_view_same(&lane->codes, &first->x);
    return is_there ? 1 : 2;
}

static uint32_t launches_of(const struct lane *lane, const struct tl_launching *l) {
    switch (lane->fusion.kind) {
    case TL_FUSION_OF_PRODUCTS:
        return launches_of_products(lane, l);
    case TL_FUSION_OF_TURNS:
        return 1;
    case TL_FUSION_EMPTY:
        break;
    }
    return 0;
}

static void end_fusion(struct lane *lane, const struct tl_launching *l) {
    const struct tl_fusion *const s = &lane->fusion;
    if (s->kind == TL_FUSION_EMPTY) {
        return;
    }
    const struct tl_matmul *const first = &s->products[0];
    const bool rounded = s->kind == TL_FUSION_OF_PRODUCTS && s->n_products > 0 &&
                         tl_matmul_rounds_x(first, l->few_rows) && !has_host_memory(&first->x);
    lane->codes = rounded ? first->x : (tl_view){0};
    lane->fusion.kind = TL_FUSION_EMPTY;
}

/* The other lane's results are to be seen: codes may be of an x that has changed. */
static void end_and_forget(struct lane *lane, const struct tl_launching *l) {
    end_fusion(lane, l);
    lane->codes = (tl_view){0};
}

static uint64_t number_in(const tl_view *v) {
    const int32_t n = *(const int32_t *)tl_view_host(tl_view_twin(*v));
    return n > 0 ? (uint64_t)n : 0;
}

static bool attend_is_split(const struct tl_attend *op, const struct tl_launching *l) {
    const uint64_t room = op->kv.k.rows / op->kv.n_kv_heads;
    const uint64_t rows = tl_max_u64(room, number_in(&op->n_rows));
    return (op->window != 0 ? tl_min_u64(rows, op->window) : rows) > l->split_rows;
}

static bool sketch_is_split(const struct tl_attend_sketch *op, const struct tl_launching *l) {
    const uint64_t room = op->sketch.k.rows / op->sketch.n_kv_heads;
    return tl_max_u64(room, number_in(&op->n_blocks)) > l->split_blocks;
}

/* Launches of an op that is in no fusion: *own, and *shared ones that alike ops of a group do by
 * one. Copies and fills are nodes of the graph as kernels are. */
static void count_op(const struct tl_op *op, const struct tl_launching *l, uint32_t *shared,
                     uint32_t *own) {
    enum { TOPK_KERNELS = 6, TOPK_FILLS = 1 };
    *shared = 1;
    *own = 0;
    switch (op->verb) {
    case TL_VERB_ATTEND:
        *shared += attend_is_split(&op->u.attend, l) ? 1 : 0;
        return;
    case TL_VERB_ATTEND_SLOTS:
        *shared += op->u.attend_slots.slot.cols > l->split_rows ? 1 : 0;
        return;
    case TL_VERB_KEY_SCORE: /* queries are turned as the keys' codebook is, and outputs back */
        *own = tl_vq_is(op->u.key_score.sketch.k_codec) ? 1 : 0;
        return;
    case TL_VERB_ATTEND_SKETCH:
        *shared += sketch_is_split(&op->u.attend_sketch, l) ? 1 : 0;
        *own = (tl_vq_is(op->u.attend_sketch.sketch.k_codec) ? 1 : 0) +
               (tl_vq_is(op->u.attend_sketch.sketch.v_codec) ? 1 : 0);
        return;
    case TL_VERB_TOPK:
        *shared = TOPK_KERNELS;
        *own = TOPK_FILLS;
        return;
    case TL_VERB_FETCH: /* a plan, and copies; channels alike */
    case TL_VERB_CHANNEL_FETCH:
        *shared = 2;
        return;
    default:
        return;
    }
}

/* Op i, which waits for nothing and nothing waits for, on its lane. */
static uint32_t count_one(struct lane *lane, const struct tl_op *op, const struct tl_launching *l) {
    uint32_t before = 0;
    if (tl_fusion_takes(&lane->fusion, op, l->few_rows)) {
        before = launches_of(lane, l);
    } else if (tl_fusion_may_begin(op)) {
        end_fusion(lane, l);
    } else {
        uint32_t shared, own;
        end_and_forget(lane, l);
        count_op(op, l, &shared, &own);
        return shared + own;
    }
    tl_fusion_put(&lane->fusion, op);
    const uint32_t n = launches_of(lane, l) - before;
    if (tl_fusion_is_whole(&lane->fusion, l->few_rows)) {
        end_fusion(lane, l);
    }
    return n;
}

/* Op j of a group. */
static uint32_t count_in_group(struct lane *lane, const struct tl_op *op, uint32_t j,
                               const struct tl_launching *l) {
    uint32_t shared, own;
    switch (op->verb) {
    case TL_VERB_KV_ENCODE:
    case TL_VERB_ATTEND:
    case TL_VERB_KEY_SCORE:
    case TL_VERB_TOPK:
    case TL_VERB_ATTEND_SKETCH:
    case TL_VERB_ATTEND_SLOTS:
    case TL_VERB_FETCH:
        end_and_forget(lane, l);
        count_op(op, l, &shared, &own);
        return own + (j % l->together_max == 0 ? shared : 0);
    default:
        return count_one(lane, op, l);
    }
}

static void wait_for(struct lane *lane, const struct tl_op *op, const struct tl_launching *l) {
    if (op->wait != TL_WAIT_NONE) {
        end_and_forget(lane, l);
    }
}

void tl_launches_of(const tl_schedule *s, const struct tl_launching *l, uint32_t *n_of) {
    enum { WAITED_FOR = 1 };
    struct lane lanes[TL_LANE_COUNT] = {0};
    for (uint32_t i = 0; i < s->n; i++) {
        n_of[i] = 0;
        if (s->ops[i].wait < i) { /* not one of TL_WAIT_ */
            n_of[s->ops[i].wait] = WAITED_FOR;
        }
    }
    if (s->join < s->n) {
        n_of[s->join] = WAITED_FOR;
    }
    for (uint32_t i = 0, n; i < s->n; i += n) {
        struct lane *const lane = &lanes[s->ops[i].lane];
        n = tl_schedule_group(s, i);
        bool is_waited_for = false;
        for (uint32_t j = 0; j < n; j++) {
            wait_for(lane, &s->ops[i + j], l);
            is_waited_for |= n_of[i + j] == WAITED_FOR;
        }
        if (n > 1) {
            end_fusion(lane, l);
        }
        for (uint32_t j = 0; j < n; j++) {
            n_of[i + j] = n > 1 ? count_in_group(lane, &s->ops[i + j], j, l)
                                : count_one(lane, &s->ops[i + j], l);
        }
        if (is_waited_for) {
            end_fusion(lane, l);
        }
    }
}
