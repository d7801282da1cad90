/* The verbs that index rows by channels or pages. Keys by channels are one matrix a KV head, so a
 * window is some heads; pages are rows like those of a cache. */
#include "ops.h"

enum { STRIDES_SOFTWARE = 4, STRIDES_HARDWARE = 64 }; /* subgroups that share a row or a channel */

static uint32_t strides_of(const struct vk_dev *dev) {
    return vk_like_gpu(dev) ? STRIDES_HARDWARE : STRIDES_SOFTWARE;
}

/* KV heads [head, head + n) of v, whose rows are those of n_heads heads one behind the other. */
static struct vk_binding bind_heads(const struct vk_dev *dev, const tl_view *v, uint32_t n_heads,
                                    uint64_t head, uint64_t n, bool writes) {
    const uint64_t bytes = v->rows / n_heads * tl_row_bytes(v->dtype, v->cols);
    return vk_bind(dev, v, head * bytes, n * bytes, writes);
}

static uint64_t head_bytes(const tl_view *v, uint32_t n_heads) {
    return v->rows / n_heads * tl_row_bytes(v->dtype, v->cols);
}

/* Blocks [first, first + n) of the op, of some channels of some heads; all channels where there is
 * more than one head. */
struct transpose_part {
    uint32_t head, heads, channel, channels, first, n;
};

static tl_err transpose_part(tl_stream *s, const struct tl_key_transpose *op,
                             const struct transpose_part *p) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t d = op->dst.most.cols, n = op->dst.n_kv_heads;
    const uint64_t key_row = tl_row_bytes(TL_F16, op->dst.keys.cols);
    const uint64_t src_cap = op->src.rows / n, src_row = tl_row_bytes(TL_F16, d);
    const uint64_t from = p->head * src_cap + op->src_row + (uint64_t)p->first * TL_BLOCK;
    struct vk_call c = vk_call_of(dev, VK_SHADER_KEY_TRANSPOSE, 64);
    vk_push(&c,
            vk_add(&c, vk_bind(dev, &op->dst.keys, ((uint64_t)p->head * d + p->channel) * key_row,
                               (uint64_t)p->heads * p->channels * key_row, true)));
    vk_push(&c, vk_add(&c, bind_heads(dev, &op->dst.most, n, p->head, p->heads, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->src, from * src_row,
                                   ((p->heads - 1) * src_cap + (uint64_t)p->n * TL_BLOCK) * src_row,
                                   false)));
    vk_push(&c, d);
    vk_push(&c, p->heads);
    vk_push(&c, op->dst.most.rows / n);
    vk_push(&c, (uint32_t)src_cap);
    vk_push(&c, op->dst_block + p->first);
    vk_push(&c, p->n);
    vk_push(&c, p->channel);
    vk_push(&c, p->channels);
    vk_loop_over(&c, (uint64_t)p->heads * p->channels);
    return vk_dispatch(s, &c);
}

/* Whole heads where they fit a binding, else some channels and blocks of one at a time; and no more
 * blocks than an invocation's loops may walk (vk_least_teams). */
tl_err vk_key_transpose(tl_stream *s, const struct tl_key_transpose *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->dst.n_kv_heads, d = op->dst.most.cols, src_cap = op->src.rows / n;
    const uint64_t key_rows = vk_window_rows(dev, tl_row_bytes(TL_F16, op->dst.keys.cols));
    const uint64_t src_rows = vk_window_rows(dev, tl_row_bytes(TL_F16, d));
    const bool whole = key_rows >= d && src_rows >= src_cap;
    const uint64_t heads = whole ? tl_min_u64(key_rows / d, src_rows / src_cap) : 1;
    const uint64_t channels = tl_min_u64(key_rows, d);
    const uint64_t fit =
        dev->debug.range != 0 ? tl_max_u64(src_rows / TL_BLOCK, 1) : src_rows / TL_BLOCK;
    if (channels == 0 || (!whole && fit == 0)) {
        return vk_too_wide(dev, "an index");
    }
    const uint64_t walks = (uint64_t)op->n_blocks * (1 + TL_BLOCK / 2);
    const uint64_t blocks = tl_max_u64(
        tl_min_u64(whole ? op->n_blocks : fit, op->n_blocks / vk_least_teams(dev, walks)), 1);
    for (uint64_t head = 0; head < n; head += heads) {
        for (uint64_t channel = 0; channel < d; channel += channels) {
            for (uint64_t first = 0; first < op->n_blocks; first += blocks) {
                const struct transpose_part part = {
                    .head = (uint32_t)head,
                    .heads = (uint32_t)tl_min_u64(heads, n - head),
                    .channel = (uint32_t)channel,
                    .channels = (uint32_t)tl_min_u64(channels, d - channel),
                    .first = (uint32_t)first,
                    .n = (uint32_t)tl_min_u64(blocks, op->n_blocks - first)};
                TL_TRY(transpose_part(s, op, &part));
            }
        }
    }
    return TL_OK;
}

tl_err vk_channels(tl_stream *s, const struct tl_channels *op) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->ids.rows;
    struct vk_call c = vk_call_of(dev, VK_SHADER_CHANNELS, dev->info.subgroup);
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->ids, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->most, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, op->most.cols);
    vk_push(&c, op->ids.cols);
    vk_push(&c, op->n_heads / n);
    vk_push(&c, op->most.rows / n);
    c.groups[0] = n;
    return vk_dispatch(s, &c);
}

static tl_err place_channels(tl_stream *s, const struct tl_channel_fetch *op,
                             const tl_view *moves) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_CHANNEL_PLACE, dev->info.subgroup);
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->want, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->held, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->counts, 0, 0, true)));
    vk_add(&c, vk_bind(dev, moves, 0, 0, true));
    vk_push(&c, op->held.rows);
    vk_push(&c, op->held.cols);
    vk_push(&c, op->keep);
    c.groups[0] = op->held.rows;
    return vk_dispatch(s, &c);
}

/* Of heads [head, head + heads) the places [place, place + places) of what is held, and the
 * channels [channel, channel + channels) of all keys: all of both where there is more than one
 * head. */
struct channel_part {
    uint64_t head, heads, place, places, channel, channels;
};

/* Rows [first, first + n) of each head of v, of which all or one are in the part. */
static struct vk_binding bind_rows(const struct vk_dev *dev, const tl_view *v, uint32_t n_heads,
                                   const struct channel_part *p, uint64_t first, uint64_t n,
                                   bool writes) {
    const uint64_t row = tl_row_bytes(v->dtype, v->cols), per_head = v->rows / n_heads;
    return vk_bind(dev, v, (p->head * per_head + first) * row,
                   ((p->heads - 1) * per_head + n) * row, writes);
}

static tl_err copy_channels(tl_stream *s, const struct tl_channel_fetch *op, const tl_view *moves,
                            const struct channel_part *p) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->held.rows, strides = strides_of(dev);
    struct vk_call c = vk_call_of(dev, VK_SHADER_CHANNEL_ROWS, 4 * dev->info.subgroup);
    vk_push(&c, vk_add(&c, bind_rows(dev, &op->part, n, p, p->place, p->places, true)));
    vk_push(&c, vk_add(&c, bind_rows(dev, &op->keys, n, p, p->channel, p->channels, false)));
    vk_add(&c, vk_bind(dev, moves, 0, 0, false));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, op->held.cols);
    vk_push(&c, op->keys.rows / n);
    vk_push(&c, op->keys.cols / 2);
    vk_push(&c, strides);
    vk_push(&c, (uint32_t)p->head);
    vk_push(&c, (uint32_t)p->heads);
    vk_push(&c, (uint32_t)p->place);
    vk_push(&c, (uint32_t)p->places);
    vk_push(&c, (uint32_t)p->channel);
    vk_push(&c, (uint32_t)p->channels);
    vk_teams(&c, strides * p->heads * p->places);
    return vk_dispatch(s, &c);
}

/* Whole heads where they fit a binding, else some places and some channels of one at a time. */
tl_err vk_channel_fetch(tl_stream *s, const struct tl_channel_fetch *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->held.rows, k = op->held.cols, d = op->keys.rows / n;
    const uint64_t fit = vk_window_rows(dev, tl_row_bytes(TL_F16, op->keys.cols));
    const uint64_t heads = tl_max_u64(fit / d, 1);
    const uint64_t places = tl_min_u64(fit, k), channels = tl_min_u64(fit, d);
    tl_view moves;
    if (fit == 0) {
        return vk_too_wide(dev, "an index");
    }
    TL_TRY(vk_scratch(s, 1, (uint64_t)n * k * 4, &moves));
    TL_TRY(place_channels(s, op, &moves));
    for (uint64_t head = 0; head < n; head += heads) {
        for (uint64_t place = 0; place < k; place += places) {
            for (uint64_t channel = 0; channel < d; channel += channels) {
                const struct channel_part part = {.head = head,
                                                  .heads = tl_min_u64(heads, n - head),
                                                  .place = place,
                                                  .places = tl_min_u64(places, k - place),
                                                  .channel = channel,
                                                  .channels = tl_min_u64(channels, d - channel)};
                TL_TRY(copy_channels(s, op, &moves, &part));
            }
        }
    }
    return TL_OK;
}

/* Scores by some places; those behind the first add to what the ones before gave. */
static tl_err score_places(tl_stream *s, const struct tl_channel_score *op,
                           const struct channel_part *p) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->held.rows, group = op->n_heads / n;
    const uint64_t rounds =
        tl_div_up(op->part.cols / 2, dev->info.subgroup) * (1 + p->places * (1ull + group));
    const uint32_t strides = (uint32_t)tl_max_u64(4 * strides_of(dev), vk_least_teams(dev, rounds));
    struct vk_call c = vk_call_of(dev, VK_SHADER_CHANNEL_SCORE, 2 * dev->info.subgroup);
    vk_push(&c, vk_add(&c, bind_heads(dev, &op->score, n, p->head, p->heads, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, bind_rows(dev, &op->part, n, p, p->place, p->places, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->held, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    vk_push(&c, op->held.cols);
    vk_push(&c, op->head_dim);
    vk_push(&c, group);
    vk_push(&c, op->score.cols);
    vk_push(&c, strides);
    vk_push(&c, (uint32_t)p->head);
    vk_push(&c, (uint32_t)p->heads);
    vk_push(&c, (uint32_t)p->place);
    vk_push(&c, (uint32_t)p->places);
    vk_teams(&c, strides * p->heads);
    return vk_dispatch(s, &c);
}

tl_err vk_channel_score(tl_stream *s, const struct tl_channel_score *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->held.rows, k = op->held.cols;
    const uint64_t fit = vk_window_rows(dev, tl_row_bytes(TL_F16, op->part.cols));
    const uint64_t scores = vk_window_rows(dev, (uint64_t)op->score.cols * 4);
    const uint64_t heads = tl_max_u64(tl_min_u64(fit / k, scores), 1), places = tl_min_u64(fit, k);
    if (fit == 0 || scores == 0) {
        return vk_too_wide(dev, "an index");
    }
    for (uint64_t head = 0; head < n; head += heads) {
        for (uint64_t place = 0; place < k; place += places) {
            const struct channel_part part = {.head = head,
                                              .heads = tl_min_u64(heads, n - head),
                                              .place = place,
                                              .places = tl_min_u64(places, k - place)};
            TL_TRY(score_places(s, op, &part));
        }
    }
    return TL_OK;
}

/* Blocks [first, first + n) of the op, of some heads. */
struct page_part {
    uint64_t head, heads, first, n;
};

static tl_err encode_pages(tl_stream *s, const struct tl_page_encode *op,
                           const struct page_part *p) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_pages *const pages = &op->dst;
    const uint64_t d = op->src.cols, per_block = TL_BLOCK / pages->page;
    const uint64_t cap = pages->rows.rows / pages->n_kv_heads,
                   src_cap = op->src.rows / pages->n_kv_heads;
    const uint64_t row = tl_row_bytes(TL_F16, pages->rows.cols),
                   src_row = tl_row_bytes(TL_F16, op->src.cols);
    const uint64_t to = p->head * cap + (op->dst_block + p->first) * per_block;
    const uint64_t from = p->head * src_cap + op->src_row + p->first * TL_BLOCK;
    struct vk_call c = vk_call_of(dev, VK_SHADER_PAGE_ENCODE, 64);
    vk_spec(&c, pages->kind == TL_PAGE_MOMENTS);
    vk_push(&c, vk_add(&c, vk_bind(dev, &pages->rows, to * row,
                                   ((p->heads - 1) * cap + p->n * per_block) * row, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->src, from * src_row,
                                   ((p->heads - 1) * src_cap + p->n * TL_BLOCK) * src_row, false)));
    vk_push(&c, (uint32_t)d);
    vk_push(&c, (uint32_t)p->heads);
    vk_push(&c, (uint32_t)cap);
    vk_push(&c, (uint32_t)src_cap);
    vk_push(&c, (uint32_t)(p->n * per_block));
    vk_push(&c, pages->page);
    vk_loop_over(&c, p->heads * p->n * per_block * d);
    return vk_dispatch(s, &c);
}

/* All heads at once where their rows fit a binding, else head by head, some blocks at a time. */
tl_err vk_page_encode(tl_stream *s, const struct tl_page_encode *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->dst.n_kv_heads;
    const uint64_t rows = vk_window_rows(dev, tl_row_bytes(TL_F16, op->src.cols));
    const uint64_t pages = vk_window_rows(dev, tl_row_bytes(TL_F16, op->dst.rows.cols));
    const bool whole = op->src.rows <= rows && op->dst.rows.rows <= pages;
    const uint64_t fit = tl_min_u64(rows / TL_BLOCK, pages / (TL_BLOCK / op->dst.page));
    const uint64_t step = whole ? op->n_blocks : dev->debug.range != 0 ? tl_max_u64(fit, 1) : fit;
    if (step == 0) {
        return vk_too_wide(dev, "pages");
    }
    for (uint64_t head = 0; head < n; head += whole ? n : 1) {
        for (uint64_t first = 0; first < op->n_blocks; first += step) {
            const struct page_part part = {.head = head,
                                           .heads = whole ? n : 1,
                                           .first = first,
                                           .n = tl_min_u64(step, op->n_blocks - first)};
            TL_TRY(encode_pages(s, op, &part));
        }
    }
    return TL_OK;
}

static tl_err score_pages(tl_stream *s, const struct tl_page_score *op, const struct vk_kv_walk *w,
                          const struct vk_kv_window *at) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const struct tl_pages *const p = &op->pages;
    const uint32_t group = op->n_heads / p->n_kv_heads;
    const uint64_t rounds =
        tl_div_up(at->rows, dev->info.subgroup) * (1 + p->rows.cols / 4 + (uint64_t)p->page);
    const uint32_t strides = (uint32_t)tl_max_u64(strides_of(dev), vk_least_teams(dev, rounds));
    struct vk_call c = vk_call_of(dev, VK_SHADER_PAGE_SCORE, 2 * dev->info.subgroup);
    vk_spec(&c, p->kind == TL_PAGE_MOMENTS);
    vk_push(&c, vk_add(&c, bind_heads(dev, &op->score, p->n_kv_heads, at->head, at->heads, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->q, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind_window(dev, &p->rows, w, at, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->n_blocks, 0, 0, false)));
    const uint32_t numbers[] = {p->rows.cols / 2, group,    w->cap,    p->page, op->score.cols,
                                strides,          at->head, at->heads, at->row, at->rows};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        vk_push(&c, numbers[i]);
    }
    vk_push_float(&c, op->scale);
    vk_push_float(&c, op->softcap);
    vk_push_float(&c, op->sigmas);
    vk_teams(&c, (uint64_t)strides * at->heads * group);
    return vk_dispatch(s, &c);
}

tl_err vk_page_score(tl_stream *s, const struct tl_page_score *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t n = op->pages.n_kv_heads;
    const struct vk_kv_walk shape = {.n_heads = n, .cap = op->pages.rows.rows / n};
    struct vk_kv_walk w;
    TL_TRY(vk_windows(dev, &shape, tl_row_bytes(TL_F16, op->pages.rows.cols),
                      vk_window_rows(dev, head_bytes(&op->score, n)), &w));
    for (uint32_t i = 0; i < w.n_windows; i++) {
        const struct vk_kv_window at = vk_kv_window_at(&w, i);
        TL_TRY(score_pages(s, op, &w, &at));
    }
    return TL_OK;
}
