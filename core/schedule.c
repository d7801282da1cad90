/* Recording and running of schedules. What each verb reads and writes is said once, in
 * tl_op_get_views; checks and timelines are made from that. */
#include "schedule.h"

#include <stdlib.h>

static const char *const names[] = {
    [TL_VERB_COPY] = "copy",
    [TL_VERB_GATHER] = "gather",
    [TL_VERB_MATMUL] = "matmul",
    [TL_VERB_RMSNORM] = "rmsnorm",
    [TL_VERB_ROPE] = "rope",
    [TL_VERB_GLU] = "glu",
    [TL_VERB_KV_ENCODE] = "kv_encode",
    [TL_VERB_ATTEND] = "attend",
    [TL_VERB_COMPRESS] = "compress",
    [TL_VERB_KEY_SCORE] = "key_score",
    [TL_VERB_TOPK] = "topk",
    [TL_VERB_ATTEND_SKETCH] = "attend_sketch",
    [TL_VERB_ATTEND_SLOTS] = "attend_slots",
    [TL_VERB_FETCH] = "fetch",
    [TL_VERB_MERGE] = "merge",
    [TL_VERB_MASS] = "mass",
    [TL_VERB_KEY_TRANSPOSE] = "key_transpose",
    [TL_VERB_CHANNELS] = "channels",
    [TL_VERB_CHANNEL_FETCH] = "channel_fetch",
    [TL_VERB_CHANNEL_SCORE] = "channel_score",
    [TL_VERB_PAGE_ENCODE] = "page_encode",
    [TL_VERB_PAGE_SCORE] = "page_score",
};

const char *tl_verb_name(tl_verb verb) { return names[verb]; }

tl_err tl_schedule_add(tl_schedule *s, const struct tl_op *op) {
    if (s->n == s->cap) {
        const uint32_t cap = s->cap == 0 ? 256 : 2 * s->cap;
        struct tl_op *const ops = realloc(s->ops, cap * sizeof *ops);
        if (ops == NULL) {
            return TL_ERR_MEMORY;
        }
        s->ops = ops;
        s->cap = cap;
    }
    struct tl_op *const added = &s->ops[s->n++];
    *added = *op;
    added->lane = TL_LANE_COMPUTE;
    added->wait = TL_WAIT_NONE;
    s->join = TL_WAIT_NONE;
    return TL_OK;
}

void tl_schedule_clear(tl_schedule *s) { s->n = 0; }

void tl_schedule_free(tl_schedule *s) {
    free(s->ops);
    *s = (tl_schedule){0};
}

tl_err tl_op_run(const struct tl_op *op, tl_stream *stream) {
    switch (op->verb) {
    case TL_VERB_COPY:
        return tl_copy(stream, op->u.copy.dst, op->u.copy.src);
    case TL_VERB_GATHER:
        return tl_gather(stream, &op->u.gather);
    case TL_VERB_MATMUL:
        return tl_matmul(stream, &op->u.matmul);
    case TL_VERB_RMSNORM:
        return tl_rmsnorm(stream, &op->u.rmsnorm);
    case TL_VERB_ROPE:
        return tl_rope(stream, &op->u.rope);
    case TL_VERB_GLU:
        return tl_glu(stream, &op->u.glu);
    case TL_VERB_KV_ENCODE:
        return tl_kv_encode(stream, &op->u.kv_encode);
    case TL_VERB_ATTEND:
        return tl_attend(stream, &op->u.attend);
    case TL_VERB_COMPRESS:
        return tl_compress(stream, &op->u.compress);
    case TL_VERB_KEY_SCORE:
        return tl_key_score(stream, &op->u.key_score);
    case TL_VERB_TOPK:
        return tl_topk(stream, &op->u.topk);
    case TL_VERB_ATTEND_SKETCH:
        return tl_attend_sketch(stream, &op->u.attend_sketch);
    case TL_VERB_ATTEND_SLOTS:
        return tl_attend_slots(stream, &op->u.attend_slots);
    case TL_VERB_FETCH:
        return tl_fetch(stream, &op->u.fetch);
    case TL_VERB_MERGE:
        return tl_merge(stream, &op->u.merge);
    case TL_VERB_MASS:
        return tl_mass(stream, &op->u.mass);
    case TL_VERB_KEY_TRANSPOSE:
        return tl_key_transpose(stream, &op->u.key_transpose);
    case TL_VERB_CHANNELS:
        return tl_channels(stream, &op->u.channels);
    case TL_VERB_CHANNEL_FETCH:
        return tl_channel_fetch(stream, &op->u.channel_fetch);
    case TL_VERB_CHANNEL_SCORE:
        return tl_channel_score(stream, &op->u.channel_score);
    case TL_VERB_PAGE_ENCODE:
        return tl_page_encode(stream, &op->u.page_encode);
    case TL_VERB_PAGE_SCORE:
        return tl_page_score(stream, &op->u.page_score);
    case TL_VERB_COUNT:
        break;
    }
    TL_ASSERT(!"a verb");
    return TL_OK;
}

tl_err tl_schedule_run(const tl_schedule *s, tl_stream *stream) {
    for (uint32_t i = 0; i < s->n; i++) {
        TL_TRY(tl_op_run(&s->ops[i], stream));
    }
    return TL_OK;
}

static void reads(struct tl_op_views *out, const tl_view *v) {
    if (v->buf != NULL) {
        TL_ASSERT(out->n_reads < TL_OP_VIEWS_MAX);
        out->reads[out->n_reads++] = v;
    }
}

static void writes(struct tl_op_views *out, const tl_view *v) {
    if (v->buf != NULL) {
        TL_ASSERT(out->n_writes < TL_OP_VIEWS_MAX);
        out->writes[out->n_writes++] = v;
    }
}

static void updates(struct tl_op_views *out, const tl_view *v) {
    reads(out, v);
    writes(out, v);
}

static void reads_kv(struct tl_op_views *out, const struct tl_kv_rows *kv) {
    reads(out, &kv->k);
    reads(out, &kv->v);
}

/* The keys of a sketch and what it takes to read them. */
static void reads_sketch(struct tl_op_views *out, const struct tl_sketch *sketch) {
    reads(out, &sketch->k);
    reads(out, &sketch->k_book);
    reads(out, &sketch->smooth);
}

static void writes_kv(struct tl_op_views *out, const struct tl_kv_rows *kv) {
    writes(out, &kv->k);
    writes(out, &kv->v);
}

static void row_op_views(const struct tl_op *op, struct tl_op_views *out) {
    switch (op->verb) {
    case TL_VERB_COPY:
        reads(out, &op->u.copy.src);
        writes(out, &op->u.copy.dst);
        return;
    case TL_VERB_GATHER:
        reads(out, &op->u.gather.src);
        reads(out, &op->u.gather.idx);
        writes(out, &op->u.gather.y);
        return;
    case TL_VERB_MATMUL:
        reads(out, &op->u.matmul.x);
        reads(out, &op->u.matmul.w);
        reads(out, &op->u.matmul.bias);
        (op->u.matmul.accumulate ? updates : writes)(out, &op->u.matmul.y);
        return;
    case TL_VERB_RMSNORM:
        reads(out, &op->u.rmsnorm.x);
        reads(out, &op->u.rmsnorm.w);
        (op->u.rmsnorm.accumulate ? updates : writes)(out, &op->u.rmsnorm.y);
        return;
    case TL_VERB_ROPE:
        updates(out, &op->u.rope.x);
        reads(out, &op->u.rope.pos);
        reads(out, &op->u.rope.inv_freq);
        return;
    case TL_VERB_GLU:
        reads(out, &op->u.glu.gate);
        reads(out, &op->u.glu.up);
        writes(out, &op->u.glu.y);
        return;
    default:
        return;
    }
}

static void attend_op_views(const struct tl_op *op, struct tl_op_views *out) {
    switch (op->verb) {
    case TL_VERB_ATTEND:
        reads(out, &op->u.attend.q);
        reads(out, &op->u.attend.q_pos);
        reads(out, &op->u.attend.n_rows);
        reads_kv(out, &op->u.attend.kv);
        writes(out, &op->u.attend.out);
        writes(out, &op->u.attend.lse);
        return;
    case TL_VERB_ATTEND_SKETCH:
        reads(out, &op->u.attend_sketch.q);
        reads(out, &op->u.attend_sketch.n_blocks);
        reads(out, &op->u.attend_sketch.score);
        reads(out, &op->u.attend_sketch.skip);
        reads_sketch(out, &op->u.attend_sketch.sketch);
        reads(out, &op->u.attend_sketch.sketch.v);
        reads(out, &op->u.attend_sketch.sketch.v_book);
        writes(out, &op->u.attend_sketch.out);
        writes(out, &op->u.attend_sketch.lse);
        return;
    case TL_VERB_ATTEND_SLOTS:
        reads(out, &op->u.attend_slots.q);
        reads(out, &op->u.attend_slots.slot);
        reads_kv(out, &op->u.attend_slots.kv);
        writes(out, &op->u.attend_slots.out);
        writes(out, &op->u.attend_slots.lse);
        return;
    case TL_VERB_MASS:
        reads(out, &op->u.mass.q);
        reads(out, &op->u.mass.q_pos);
        reads(out, &op->u.mass.n_rows);
        reads(out, &op->u.mass.kv.k);
        writes(out, &op->u.mass.mass);
        return;
    case TL_VERB_MERGE:
        updates(out, &op->u.merge.out);
        updates(out, &op->u.merge.lse);
        reads(out, &op->u.merge.out_b);
        reads(out, &op->u.merge.lse_b);
        return;
    default:
        return;
    }
}

static void cache_op_views(const struct tl_op *op, struct tl_op_views *out) {
    switch (op->verb) {
    case TL_VERB_KV_ENCODE:
        reads(out, &op->u.kv_encode.k);
        reads(out, &op->u.kv_encode.v);
        reads(out, &op->u.kv_encode.slot);
        writes_kv(out, &op->u.kv_encode.dst);
        return;
    case TL_VERB_COMPRESS:
        reads_kv(out, &op->u.compress.src);
        reads(out, &op->u.compress.dst.k_book);
        reads(out, &op->u.compress.dst.v_book);
        reads(out, &op->u.compress.dst.smooth);
        writes(out, &op->u.compress.dst.k);
        writes(out, &op->u.compress.dst.v);
        return;
    case TL_VERB_KEY_SCORE:
        reads(out, &op->u.key_score.q);
        reads(out, &op->u.key_score.n_blocks);
        reads_sketch(out, &op->u.key_score.sketch);
        writes(out, &op->u.key_score.score);
        return;
    case TL_VERB_TOPK:
        reads(out, &op->u.topk.score);
        reads(out, &op->u.topk.n_rows);
        reads(out, &op->u.topk.base);
        writes(out, &op->u.topk.idx);
        return;
    case TL_VERB_FETCH:
        reads_kv(out, &op->u.fetch.home);
        reads(out, &op->u.fetch.idx);
        writes_kv(out, &op->u.fetch.hot);
        writes(out, &op->u.fetch.slot);
        updates(out, &op->u.fetch.owner);
        updates(out, &op->u.fetch.used);
        updates(out, &op->u.fetch.hand);
        updates(out, &op->u.fetch.counts);
        return;
    default:
        return;
    }
}

static void index_op_views(const struct tl_op *op, struct tl_op_views *out) {
    switch (op->verb) {
    case TL_VERB_KEY_TRANSPOSE:
        reads(out, &op->u.key_transpose.src);
        writes(out, &op->u.key_transpose.dst.keys);
        updates(out, &op->u.key_transpose.dst.most);
        return;
    case TL_VERB_CHANNELS:
        reads(out, &op->u.channels.q);
        reads(out, &op->u.channels.n_blocks);
        reads(out, &op->u.channels.most);
        writes(out, &op->u.channels.ids);
        return;
    case TL_VERB_CHANNEL_FETCH:
        reads(out, &op->u.channel_fetch.want);
        reads(out, &op->u.channel_fetch.n_blocks);
        reads(out, &op->u.channel_fetch.keys);
        (op->u.channel_fetch.keep ? updates : writes)(out, &op->u.channel_fetch.held);
        (op->u.channel_fetch.keep ? updates : writes)(out, &op->u.channel_fetch.part);
        updates(out, &op->u.channel_fetch.counts);
        return;
    case TL_VERB_CHANNEL_SCORE:
        reads(out, &op->u.channel_score.q);
        reads(out, &op->u.channel_score.part);
        reads(out, &op->u.channel_score.held);
        reads(out, &op->u.channel_score.n_blocks);
        writes(out, &op->u.channel_score.score);
        return;
    case TL_VERB_PAGE_ENCODE:
        reads(out, &op->u.page_encode.src);
        writes(out, &op->u.page_encode.dst.rows);
        return;
    case TL_VERB_PAGE_SCORE:
        reads(out, &op->u.page_score.q);
        reads(out, &op->u.page_score.n_blocks);
        reads(out, &op->u.page_score.pages.rows);
        writes(out, &op->u.page_score.score);
        return;
    default:
        return;
    }
}

void tl_op_get_views(const struct tl_op *op, struct tl_op_views *out) {
    out->n_reads = 0;
    out->n_writes = 0;
    row_op_views(op, out);
    attend_op_views(op, out);
    cache_op_views(op, out);
    index_op_views(op, out);
}

static bool same_shapes(const tl_view *const *a, const tl_view *const *b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (a[i]->rows != b[i]->rows || a[i]->cols != b[i]->cols || a[i]->dtype != b[i]->dtype ||
            a[i]->buf->mem != b[i]->buf->mem) {
            return false;
        }
    }
    return true;
}

bool tl_op_alike(const struct tl_op *a, const struct tl_op *b) {
    struct tl_op_views of_a, of_b;
    if (a->verb != b->verb) {
        return false;
    }
    tl_op_get_views(a, &of_a);
    tl_op_get_views(b, &of_b);
    return of_a.n_reads == of_b.n_reads && of_a.n_writes == of_b.n_writes &&
           same_shapes(of_a.reads, of_b.reads, of_a.n_reads) &&
           same_shapes(of_a.writes, of_b.writes, of_a.n_writes);
}
