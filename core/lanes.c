/* Which stream each op of a schedule runs on, and what it waits for there. The order of the ops is
 * given and right; what is decided here is how much of it must be kept. Since either lane keeps its
 * own order, all that a lane knows of the other is one number, the last op of it that it has waited
 * for; a wait is needed where a hazard lies behind that number, and nowhere else. */
#include "schedule.h"

static bool any_overlap(const tl_view *const *a, uint32_t n_a, const tl_view *const *b,
                        uint32_t n_b) {
    for (uint32_t i = 0; i < n_a; i++) {
        for (uint32_t j = 0; j < n_b; j++) {
            if (tl_view_overlap(a[i], b[j])) {
                return true;
            }
        }
    }
    return false;
}

bool tl_op_hazard(const struct tl_op *first, const struct tl_op *second) {
    struct tl_op_views a, b;
    tl_op_get_views(first, &a);
    tl_op_get_views(second, &b);
    return any_overlap(a.writes, a.n_writes, b.reads, b.n_reads) ||
           any_overlap(a.reads, a.n_reads, b.writes, b.n_writes) ||
           any_overlap(a.writes, a.n_writes, b.writes, b.n_writes);
}

/* The one place that says what crosses the link. */
static tl_lane lane_of(const struct tl_op *op) {
    switch (op->verb) {
    case TL_VERB_FETCH:
    case TL_VERB_CHANNEL_FETCH:
        return TL_LANE_TRANSFER;
    case TL_VERB_COPY:
        return op->u.copy.dst.buf->mem != op->u.copy.src.buf->mem ? TL_LANE_TRANSFER
                                                                  : TL_LANE_COMPUTE;
    default:
        return TL_LANE_COMPUTE;
    }
}

/* The newest op of the other lane, at or behind index `from`, that op i must wait for. */
static uint32_t newest_hazard(const tl_schedule *s, uint32_t i, uint32_t from) {
    for (uint32_t j = i; j-- > from;) {
        if (s->ops[j].lane != s->ops[i].lane && tl_op_hazard(&s->ops[j], &s->ops[i])) {
            return j;
        }
    }
    return TL_WAIT_NONE;
}

void tl_schedule_arrange(tl_schedule *s) {
    uint32_t known[TL_LANE_COUNT] = {0}; /* ops of the other lane below this index are done */
    uint32_t last_transfer = TL_WAIT_NONE;
    for (uint32_t i = 0; i < s->n; i++) {
        struct tl_op *const op = &s->ops[i];
        op->lane = lane_of(op);
        op->wait = newest_hazard(s, i, known[op->lane]);
        if (op->wait != TL_WAIT_NONE) {
            known[op->lane] = op->wait + 1;
        }
        if (op->lane == TL_LANE_TRANSFER) {
            if (last_transfer == TL_WAIT_NONE && op->wait == TL_WAIT_NONE) {
                op->wait = TL_WAIT_START;
            }
            last_transfer = i;
        }
    }
    const bool covered = last_transfer == TL_WAIT_NONE || last_transfer < known[TL_LANE_COMPUTE];
    s->join = covered ? TL_WAIT_NONE : last_transfer;
}

uint32_t tl_schedule_group(const tl_schedule *s, uint32_t i) {
    const uint32_t n = (uint32_t)tl_min_u64(s->ops[i].together, s->n - i);
    for (uint32_t j = 1; j < n; j++) {
        if (s->ops[i + j].lane != s->ops[i].lane) {
            return 1;
        }
    }
    return n > 0 ? n : 1;
}
