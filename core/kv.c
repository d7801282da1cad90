/* Allocation and bookkeeping of the cache; kv.h draws it. All decisions are functions of the row
 * count and the policy, so any order of appends and rewinds that ends in the same rows ends in the
 * same tiers. */
#include "kv.h"

#include <stdlib.h>
#include <string.h>

enum { N_STEP_INTS = 5, N_SHARED_INTS = 2 };
enum { SHARE_FROM = 16384 }; /* rows from which on a share is kept, if need be by coarser keys */

uint32_t tl_kv_n_blocks(const struct tl_policy *policy, uint32_t n) {
    const uint64_t kept = (uint64_t)policy->sink + policy->recent;
    return n < kept + TL_BLOCK ? 0 : (uint32_t)((n - kept) / TL_BLOCK);
}

bool tl_kv_is_exact(const struct tl_kv_layer *layer) {
    return layer->policy.select == TL_SELECT_ALL;
}

static bool has_home(const struct tl_kv_layer *layer) { return layer->policy.home != TL_HOME_NONE; }

static bool has_sketch(const struct tl_policy *policy) { return policy->k_codec != TL_CODEC_NONE; }

bool tl_kv_selects_by(const struct tl_policy *policy, tl_index index) {
    return policy->select == TL_SELECT_TOPK && policy->index == index;
}

static bool has_pages(const struct tl_policy *policy) {
    return tl_kv_selects_by(policy, TL_INDEX_PAGES) || tl_kv_selects_by(policy, TL_INDEX_MEANSTD);
}

struct tl_policy tl_kv_layer_policy(const struct tl_shape *shape, uint32_t il,
                                    const struct tl_policy *given) {
    if (!shape->windowed[il] || given->select == TL_SELECT_ALL) {
        struct tl_policy policy = *given;
        policy.channels = (uint32_t)tl_min_u64(policy.channels, shape->head_dim);
        return policy;
    }
    return (struct tl_policy){.recent = shape->window, .select = TL_SELECT_NONE};
}

/* Rows that the window must have room for: a block that is not yet due beside those that stay. */
static uint32_t window_cap(const struct tl_policy *policy, uint32_t cap) {
    return (uint32_t)tl_min_u64((uint64_t)policy->sink + policy->recent + TL_BLOCK, cap);
}

static uint32_t block_cap(const struct tl_policy *policy, uint32_t cap) {
    return (uint32_t)tl_max_u64(tl_kv_n_blocks(policy, cap), 1);
}

uint32_t tl_kv_index_cap(const struct tl_policy *policy, uint32_t cap) {
    return block_cap(policy, cap) * TL_BLOCK;
}

static uint64_t book_bytes(tl_codec codec) {
    return tl_vq_is(codec) ? tl_vq_entries(codec) * tl_row_bytes(TL_F16, tl_vq_dim(codec)) : 0;
}

/* Of all heads. */
static uint64_t row_bytes(const struct tl_shape *shape) {
    return 2 * tl_row_bytes(TL_F16, shape->head_dim) * shape->n_kv_heads;
}

/* Of a slot of all heads: its row, owner and used. */
static uint64_t slot_bytes(const struct tl_shape *shape) {
    return row_bytes(shape) + 2 * sizeof(int32_t) * shape->n_kv_heads;
}

/* Slots that one part in `share` of the exact rows has room for beside all that is no slot. */
static uint64_t free_slots(const struct tl_shape *shape, uint32_t il,
                           const struct tl_policy *policy, uint32_t cap, uint32_t share) {
    struct tl_policy without = *policy;
    without.hot = 0;
    const struct tl_kv_bytes rest = tl_kv_layer_bytes(shape, il, &without, cap);
    const uint64_t hands = shape->n_kv_heads * sizeof(int32_t),
                   held = tl_kv_device_bytes(&rest) + hands, most = cap * row_bytes(shape) / share;
    return most > held ? (most - held) / slot_bytes(shape) : 0;
}

struct tl_policy tl_kv_policy_at(const struct tl_shape *shape, uint32_t il,
                                 const struct tl_policy *policy, uint32_t cap) {
    struct tl_policy at = *policy;
    at.share = 0;
    if (policy->share == 0 || policy->select != TL_SELECT_TOPK) {
        return at;
    }
    uint64_t slots = free_slots(shape, il, &at, cap, policy->share);
    if (cap >= SHARE_FROM && slots < policy->hot && at.k_codec == TL_CODEC_INT2) {
        at.k_codec = TL_CODEC_INT1;
        slots = free_slots(shape, il, &at, cap, policy->share);
    }
    at.hot = (uint32_t)tl_max_u64(policy->hot, tl_min_u64(slots, 2 * TL_TOPK_GROWN));
    at.topk = policy->topk + (at.hot - policy->hot) / 2;
    return at;
}

struct tl_kv_bytes tl_kv_layer_bytes(const struct tl_shape *shape, uint32_t il,
                                     const struct tl_policy *given, uint32_t cap) {
    const struct tl_policy at = tl_kv_policy_at(shape, il, given, cap),
                           policy = tl_kv_layer_policy(shape, il, &at);
    const uint64_t heads = shape->n_kv_heads, row = row_bytes(shape);
    struct tl_kv_bytes bytes = {0};
    const uint64_t blocks = heads * block_cap(&policy, cap);
    uint64_t home = policy.home != TL_HOME_NONE ? cap * row : 0;
    if (tl_kv_selects_by(&policy, TL_INDEX_CHANNELS)) {
        home += blocks * (TL_BLOCK + 1) * tl_row_bytes(TL_F16, shape->head_dim);
    }
    *(policy.home == TL_HOME_HOST ? &bytes.home_host : &bytes.home_device) = home;
    if (policy.select == TL_SELECT_ALL) {
        return bytes;
    }
    if (has_pages(&policy)) {
        bytes.index = blocks * (TL_BLOCK / policy.page) * tl_row_bytes(TL_F16, 2 * shape->head_dim);
    }
    bytes.window = window_cap(&policy, cap) * row;
    if (has_sketch(&policy)) {
        bytes.sketch = blocks * (tl_codec_key_bytes(policy.k_codec, shape->head_dim) +
                                 tl_codec_value_bytes(policy.v_codec, shape->head_dim)) +
                       book_bytes(policy.k_codec) + book_bytes(policy.v_codec);
        if (tl_vq_is(policy.k_codec)) {
            bytes.sketch += heads * shape->head_dim * sizeof(float);
        }
    }
    if (policy.hot > 0) {
        bytes.hot = policy.hot * slot_bytes(shape) + heads * sizeof(int32_t);
    }
    return bytes;
}

uint64_t tl_kv_device_bytes(const struct tl_kv_bytes *bytes) {
    return bytes->window + bytes->sketch + bytes->index + bytes->home_device + bytes->hot;
}

uint64_t tl_kv_host_bytes(const struct tl_kv_bytes *bytes) { return bytes->home_host; }

/* The first of n_kv_heads zeros. */
static uint32_t first_zero(const struct tl_shape *shape) {
    return N_SHARED_INTS + shape->n_layers * N_STEP_INTS;
}

uint64_t tl_kv_number_bytes(const struct tl_shape *shape) {
    return ((uint64_t)first_zero(shape) + shape->n_kv_heads) * sizeof(int32_t);
}

uint64_t tl_kv_far_number_bytes(const struct tl_shape *shape) {
    return (uint64_t)first_zero(shape) * sizeof(int32_t);
}

/* ---- opening ---- */

static tl_err open_view(const tl_kv *kv, struct tl_kv_layer *layer, uint64_t rows, uint64_t cols,
                        tl_dtype dtype, tl_mem mem, tl_view *view) {
    TL_ASSERT(rows <= UINT32_MAX && cols <= UINT32_MAX && layer->n_bufs < TL_KV_LAYER_BUFS_MAX);
    tl_buf **const buf = &layer->bufs[layer->n_bufs];
    TL_TRY(tl_buf_alloc(buf, kv->dev, rows * tl_row_bytes(dtype, cols), mem));
    layer->n_bufs++;
    *view = tl_view_of(*buf, 0, (uint32_t)rows, (uint32_t)cols, dtype);
    return TL_OK;
}

static tl_err open_rows(const tl_kv *kv, struct tl_kv_layer *layer, uint32_t cap, tl_mem mem,
                        struct tl_kv_rows *rows) {
    const struct tl_shape *const s = kv->shape;
    rows->n_kv_heads = s->n_kv_heads;
    const uint64_t n = (uint64_t)cap * s->n_kv_heads;
    TL_TRY(open_view(kv, layer, n, s->head_dim, TL_F16, mem, &rows->k));
    return open_view(kv, layer, n, s->head_dim, TL_F16, mem, &rows->v);
}

/* Brings all bytes of a view of device memory there. */
static tl_err fill(const tl_kv *kv, tl_view view, const void *bytes) {
    if (view.buf->host != NULL) {
        memcpy(tl_view_host(view), bytes, (size_t)tl_view_bytes(view));
        return TL_OK;
    }
    tl_buf *stage = NULL;
    tl_stream *stream = NULL;
    tl_err err = tl_buf_alloc(&stage, kv->dev, tl_view_bytes(view), TL_MEM_HOST);
    if (!err) {
        err = tl_stream_open(&stream, kv->dev);
    }
    if (!err) {
        const tl_view from = tl_view_of(stage, 0, view.rows, view.cols, view.dtype);
        memcpy(tl_view_host(from), bytes, (size_t)tl_view_bytes(from));
        err = tl_copy(stream, view, from);
    }
    if (!err) {
        err = tl_stream_sync(stream);
    }
    tl_stream_close(&stream);
    tl_buf_free(&stage);
    return err;
}

/* The codebook of one side, fitted or built in. */
static tl_err open_book(const tl_kv *kv, struct tl_kv_layer *layer, uint32_t il, tl_side side,
                        tl_codec codec, tl_view *view) {
    if (!tl_vq_is(codec)) {
        return TL_OK;
    }
    const uint32_t n = tl_vq_entries(codec), dim = tl_vq_dim(codec);
    TL_TRY(open_view(kv, layer, n, dim, TL_F16, TL_MEM_DEVICE, view));
    const uint16_t *const fitted =
        kv->books != NULL ? tl_books_find(kv->books, side, codec, il) : NULL;
    if (fitted != NULL) {
        return fill(kv, *view, fitted);
    }
    uint16_t *const book = malloc((size_t)n * dim * sizeof *book);
    if (book == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_vq_builtin(codec, book);
    const tl_err err = fill(kv, *view, book);
    free(book);
    return err;
}

static tl_err open_smooth(const tl_kv *kv, struct tl_kv_layer *layer, uint32_t il) {
    const uint32_t heads = kv->shape->n_kv_heads, d = kv->shape->head_dim;
    TL_TRY(open_view(kv, layer, heads, d, TL_F32, TL_MEM_DEVICE, &layer->sketch.smooth));
    const float *const fitted = kv->books != NULL ? tl_books_smooth(kv->books, il) : NULL;
    if (fitted != NULL) {
        return fill(kv, layer->sketch.smooth, fitted);
    }
    float *const ones = malloc((size_t)heads * d * sizeof *ones);
    if (ones == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint64_t i = 0; i < (uint64_t)heads * d; i++) {
        ones[i] = 1.0f;
    }
    const tl_err err = fill(kv, layer->sketch.smooth, ones);
    free(ones);
    return err;
}

static tl_err open_sketch(const tl_kv *kv, struct tl_kv_layer *layer, uint32_t il) {
    const struct tl_policy *const p = &layer->policy;
    const struct tl_shape *const s = kv->shape;
    layer->sketch = (struct tl_sketch){.k_codec = p->k_codec,
                                       .v_codec = p->v_codec,
                                       .n_kv_heads = s->n_kv_heads,
                                       .head_dim = s->head_dim};
    const uint64_t n = (uint64_t)block_cap(p, kv->cap) * s->n_kv_heads;
    TL_TRY(open_view(kv, layer, n, tl_codec_key_bytes(p->k_codec, s->head_dim), TL_U8,
                     TL_MEM_DEVICE, &layer->sketch.k));
    TL_TRY(open_view(kv, layer, n, tl_codec_value_bytes(p->v_codec, s->head_dim), TL_U8,
                     TL_MEM_DEVICE, &layer->sketch.v));
    TL_TRY(open_book(kv, layer, il, TL_SIDE_K, p->k_codec, &layer->sketch.k_book));
    TL_TRY(open_book(kv, layer, il, TL_SIDE_V, p->v_codec, &layer->sketch.v_book));
    return tl_vq_is(p->k_codec) ? open_smooth(kv, layer, il) : TL_OK;
}

static tl_mem home_mem(const struct tl_policy *p) {
    return p->home == TL_HOME_HOST ? TL_MEM_HOST : TL_MEM_DEVICE;
}

static tl_err open_columns(const tl_kv *kv, struct tl_kv_layer *layer) {
    const struct tl_policy *const p = &layer->policy;
    const uint64_t heads = kv->shape->n_kv_heads, d = kv->shape->head_dim;
    const uint64_t n_blocks = block_cap(p, kv->cap);
    layer->columns.n_kv_heads = kv->shape->n_kv_heads;
    TL_TRY(open_view(kv, layer, heads * d, n_blocks * TL_BLOCK, TL_F16, home_mem(p),
                     &layer->columns.keys));
    return open_view(kv, layer, heads * n_blocks, d, TL_F16, home_mem(p), &layer->columns.most);
}

static tl_err open_pages(const tl_kv *kv, struct tl_kv_layer *layer) {
    const struct tl_policy *const p = &layer->policy;
    const uint64_t n_blocks = (uint64_t)kv->shape->n_kv_heads * block_cap(p, kv->cap);
    layer->pages.kind = p->index == TL_INDEX_PAGES ? TL_PAGE_BOUNDS : TL_PAGE_MOMENTS;
    layer->pages.n_kv_heads = kv->shape->n_kv_heads;
    layer->pages.page = p->page;
    return open_view(kv, layer, n_blocks * (TL_BLOCK / p->page), 2ull * kv->shape->head_dim, TL_F16,
                     TL_MEM_DEVICE, &layer->pages.rows);
}

/* As zeros it is empty. */
static tl_err open_hot(const tl_kv *kv, struct tl_kv_layer *layer) {
    const uint32_t heads = kv->shape->n_kv_heads, hot = layer->policy.hot;
    TL_TRY(open_rows(kv, layer, hot, TL_MEM_DEVICE, &layer->hot));
    TL_TRY(open_view(kv, layer, heads, hot, TL_I32, TL_MEM_DEVICE, &layer->owner));
    TL_TRY(open_view(kv, layer, heads, hot, TL_I32, TL_MEM_DEVICE, &layer->used));
    return open_view(kv, layer, heads, 1, TL_I32, TL_MEM_DEVICE, &layer->hand);
}

static tl_err forget_hot(const tl_kv *kv, const struct tl_kv_layer *layer, tl_stream *stream) {
    return layer->hot.k.buf != NULL ? tl_copy(stream, layer->hand, kv->no_hands) : TL_OK;
}

static tl_view one_int(tl_buf *buf, uint32_t i) {
    return tl_view_of(buf, (uint64_t)i * 4, 1, 1, TL_I32);
}

static tl_err open_tiers(const tl_kv *kv, struct tl_kv_layer *layer, uint32_t il) {
    const struct tl_policy *const p = &layer->policy;
    if (has_home(layer)) {
        TL_TRY(open_rows(kv, layer, kv->cap, home_mem(p), &layer->home));
    }
    if (tl_kv_is_exact(layer)) {
        return TL_OK;
    }
    TL_TRY(open_rows(kv, layer, window_cap(p, kv->cap), TL_MEM_DEVICE, &layer->window));
    if (has_sketch(p)) {
        TL_TRY(open_sketch(kv, layer, il));
    }
    if (tl_kv_selects_by(p, TL_INDEX_CHANNELS)) {
        TL_TRY(open_columns(kv, layer));
    }
    if (has_pages(p)) {
        TL_TRY(open_pages(kv, layer));
    }
    return p->hot > 0 ? open_hot(kv, layer) : TL_OK;
}

static void free_tiers(struct tl_kv_layer *layer) {
    for (uint32_t i = 0; i < layer->n_bufs; i++) {
        tl_buf_free(&layer->bufs[i]);
    }
    layer->n_bufs = 0;
}

/* Where steps read their numbers. */
static tl_buf *ints_read(const tl_kv *kv) { return kv->far_ints != NULL ? kv->far_ints : kv->ints; }

static tl_err open_layer(const tl_kv *kv, uint32_t il, const struct tl_policy *policy,
                         struct tl_kv_layer *layer) {
    const uint32_t first = N_SHARED_INTS + il * N_STEP_INTS;
    tl_buf *const ints = ints_read(kv);
    const struct tl_policy at = tl_kv_policy_at(kv->shape, il, policy, kv->cap);
    *layer = (struct tl_kv_layer){
        .policy = tl_kv_layer_policy(kv->shape, il, &at),
        .model_window = kv->shape->windowed[il] ? kv->shape->window : 0,
        .slot = one_int(ints, first),
        .n_window = one_int(ints, first + 1),
        .window_pos = one_int(ints, first + 2),
        .n_blocks_view = one_int(ints, first + 3),
        .n_old = one_int(ints, first + 4),
    };
    const tl_err err = open_tiers(kv, layer, il);
    if (err) {
        free_tiers(layer);
    }
    return err;
}

/* Numbers in host memory would be read across the link by every block of every kernel. */
static tl_err open_ints(tl_kv *kv) {
    const uint32_t n = first_zero(kv->shape);
    struct tl_dev_caps caps;
    tl_dev_get_caps(kv->dev, &caps);
    TL_TRY(tl_buf_alloc(&kv->ints, kv->dev, tl_kv_number_bytes(kv->shape), TL_MEM_HOST));
    if (!caps.unified) {
        TL_TRY(
            tl_buf_alloc(&kv->far_ints, kv->dev, tl_kv_far_number_bytes(kv->shape), TL_MEM_DEVICE));
        kv->far_ints->twin = kv->ints;
        kv->numbers = tl_view_of(kv->far_ints, 0, n, 1, TL_I32);
        kv->numbers_from = tl_view_of(kv->ints, 0, n, 1, TL_I32);
    }
    kv->pos = one_int(ints_read(kv), 0);
    kv->n_rows_view = one_int(ints_read(kv), 1);
    return TL_OK;
}

static tl_err open_layers(tl_kv *kv, const struct tl_policy *policies) {
    TL_TRY(open_ints(kv));
    kv->no_hands = tl_view_of(kv->ints, first_zero(kv->shape) * sizeof(int32_t),
                              kv->shape->n_kv_heads, 1, TL_I32);
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        TL_TRY(open_layer(kv, il, &policies[il], &kv->layers[il]));
    }
    return TL_OK;
}

tl_err tl_kv_open(tl_kv **out, const struct tl_shape *shape, const struct tl_policy *policies,
                  const tl_books *books, tl_dev *dev, uint32_t cap) {
    TL_ASSERT(cap > 0 && (uint64_t)cap * shape->n_kv_heads <= UINT32_MAX);
    tl_kv *kv = calloc(1, sizeof *kv);
    if (kv == NULL) {
        return TL_ERR_MEMORY;
    }
    kv->n_layers = shape->n_layers;
    kv->cap = cap;
    kv->dev = dev;
    kv->shape = shape;
    kv->books = books;
    kv->layers = calloc(shape->n_layers, sizeof *kv->layers);
    const tl_err err = kv->layers != NULL ? open_layers(kv, policies) : TL_ERR_MEMORY;
    if (err) {
        tl_kv_close(&kv);
        return err;
    }
    *out = kv;
    return TL_OK;
}

void tl_kv_close(tl_kv **kv) {
    if (*kv == NULL) {
        return;
    }
    for (uint32_t il = 0; (*kv)->layers != NULL && il < (*kv)->n_layers; il++) {
        free_tiers(&(*kv)->layers[il]);
    }
    tl_buf_free(&(*kv)->far_ints);
    tl_buf_free(&(*kv)->ints);
    free((*kv)->layers);
    free(*kv);
    *kv = NULL;
}

/* ---- moving rows ---- */

tl_err tl_kv_copy_rows(const struct tl_kv_rows *dst, uint32_t to, const struct tl_kv_rows *src,
                       uint32_t from, uint32_t n, tl_stream *stream) {
    const uint32_t dst_cap = dst->k.rows / dst->n_kv_heads, src_cap = src->k.rows / src->n_kv_heads;
    const bool same = dst->k.buf == src->k.buf;
    TL_ASSERT(!same || to < from || n == 0);
    const uint32_t step = same ? from - to : n;
    for (uint32_t h = 0; h < dst->n_kv_heads; h++) {
        for (uint32_t i = 0; i < n; i += step) {
            const uint32_t rows = (uint32_t)tl_min_u64(step, n - i);
            TL_TRY(tl_copy(stream, tl_view_rows(dst->k, h * dst_cap + to + i, rows),
                           tl_view_rows(src->k, h * src_cap + from + i, rows)));
            TL_TRY(tl_copy(stream, tl_view_rows(dst->v, h * dst_cap + to + i, rows),
                           tl_view_rows(src->v, h * src_cap + from + i, rows)));
        }
    }
    return TL_OK;
}

/* Blocks of the index, the first of them behind those that are there, from the rows of src from
 * `row` on. */
static tl_err enter(const struct tl_kv_layer *layer, const struct tl_kv_rows *src, uint32_t row,
                    uint32_t block, uint32_t n_blocks, tl_stream *stream) {
    if (layer->columns.keys.buf != NULL) {
        TL_TRY(tl_key_transpose(stream, &(struct tl_key_transpose){.dst = layer->columns,
                                                                   .src = src->k,
                                                                   .src_row = row,
                                                                   .dst_block = block,
                                                                   .n_blocks = n_blocks}));
    }
    if (layer->pages.rows.buf != NULL) {
        TL_TRY(tl_page_encode(stream, &(struct tl_page_encode){.dst = layer->pages,
                                                               .src = src->k,
                                                               .src_row = row,
                                                               .dst_block = block,
                                                               .n_blocks = n_blocks}));
    }
    return TL_OK;
}

tl_err tl_kv_rebuild_index(const struct tl_kv_layer *layer, tl_stream *stream) {
    return layer->n_blocks == 0
               ? TL_OK
               : enter(layer, &layer->home, layer->policy.sink, 0, layer->n_blocks, stream);
}

/* The next n blocks of sketch and index from the rows of src from `row` on. The caller counts them.
 */
static tl_err compress(const struct tl_kv_layer *layer, const struct tl_kv_rows *src, uint32_t row,
                       uint32_t n, tl_stream *stream) {
    if (n == 0) {
        return TL_OK;
    }
    TL_TRY(enter(layer, src, row, layer->n_blocks, n, stream));
    if (layer->sketch.k.buf == NULL) {
        return TL_OK;
    }
    return tl_compress(stream, &(struct tl_compress){.dst = layer->sketch,
                                                     .src = *src,
                                                     .src_row = row,
                                                     .dst_block = layer->n_blocks,
                                                     .n_blocks = n,
                                                     .fit = layer->policy.fit});
}

/* The first row behind the sinks and the blocks: what window slot `sink` holds. */
static uint32_t window_origin(const struct tl_kv_layer *layer) {
    return layer->policy.sink + layer->n_blocks * TL_BLOCK;
}

/* The oldest block's worth of the window, which is due: into the sketch, and the rest moves up. */
static tl_err promote(struct tl_kv_layer *layer, uint32_t n_rows, tl_stream *stream) {
    const uint32_t sink = layer->policy.sink;
    TL_TRY(compress(layer, &layer->window, sink, 1, stream));
    layer->n_blocks++;
    return tl_kv_copy_rows(&layer->window, sink, &layer->window, sink + TL_BLOCK,
                           n_rows - window_origin(layer), stream);
}

static void set_int(tl_view v, uint32_t value) {
    *(int32_t *)tl_view_host(tl_view_twin(v)) = (int32_t)value;
}

/* What the step behind n rows reads. */
static void set_step_ints(const tl_kv *kv, uint32_t n) {
    set_int(kv->pos, n);
    set_int(kv->n_rows_view, n + 1);
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        const struct tl_kv_layer *const layer = &kv->layers[il];
        if (tl_kv_is_exact(layer)) {
            continue;
        }
        const uint32_t old = layer->n_blocks * TL_BLOCK;
        set_int(layer->slot, n - old);
        set_int(layer->n_window, n - old + 1);
        set_int(layer->window_pos, n - old);
        set_int(layer->n_blocks_view, layer->n_blocks);
        set_int(layer->n_old, old);
    }
}

tl_err tl_kv_begin_step(tl_kv *kv, tl_stream *stream) {
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        struct tl_kv_layer *const layer = &kv->layers[il];
        while (!tl_kv_is_exact(layer) &&
               layer->n_blocks < tl_kv_n_blocks(&layer->policy, kv->n_rows)) {
            TL_TRY(promote(layer, kv->n_rows, stream));
        }
    }
    set_step_ints(kv, kv->n_rows);
    return TL_OK;
}

void tl_kv_pretend(tl_kv *kv, uint32_t n_rows) {
    kv->n_rows = n_rows;
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        struct tl_kv_layer *const layer = &kv->layers[il];
        layer->n_blocks = tl_kv_is_exact(layer) ? 0 : tl_kv_n_blocks(&layer->policy, n_rows);
    }
    set_step_ints(kv, n_rows);
}

tl_err tl_kv_stage(const tl_kv *kv, uint32_t il, struct tl_stage *stage, tl_stream *stream) {
    const struct tl_kv_layer *const layer = &kv->layers[il];
    const uint32_t skip = layer->n_blocks > 0 ? layer->policy.sink : 0;
    stage->origin = layer->n_blocks > 0 ? window_origin(layer) : 0;
    const uint32_t n = kv->n_rows - stage->origin;
    return n == 0 ? TL_OK : tl_kv_copy_rows(&stage->rows, 0, &layer->window, skip, n, stream);
}

tl_err tl_kv_absorb(tl_kv *kv, uint32_t il, uint32_t n_total, const struct tl_stage *stage,
                    tl_stream *stream) {
    struct tl_kv_layer *const layer = &kv->layers[il];
    if (tl_kv_is_exact(layer)) {
        return TL_OK;
    }
    const struct tl_kv_rows *const src = stage != NULL ? &stage->rows : &layer->home;
    const uint32_t origin = stage != NULL ? stage->origin : 0;
    const uint32_t sink = layer->policy.sink;
    const bool fills_sinks = kv->n_rows < sink;
    const uint32_t due = tl_kv_n_blocks(&layer->policy, n_total);
    TL_TRY(compress(layer, src, window_origin(layer) - origin, due - layer->n_blocks, stream));
    layer->n_blocks = due;
    if (fills_sinks) {
        const uint32_t n = (uint32_t)tl_min_u64(sink, n_total);
        TL_TRY(tl_kv_copy_rows(&layer->window, 0, src, 0, n, stream));
    }
    const uint32_t first = window_origin(layer);
    return n_total <= first ? TL_OK
                            : tl_kv_copy_rows(&layer->window, sink, src, first - origin,
                                              n_total - first, stream);
}

/* The tiers of a new layer from the exact rows of src, which are all n of them. */
static tl_err fill_tiers(struct tl_kv_layer *layer, const struct tl_kv_rows *src, uint32_t n,
                         tl_stream *stream) {
    if (has_home(layer) && layer->home.k.buf != src->k.buf) {
        TL_TRY(tl_kv_copy_rows(&layer->home, 0, src, 0, n, stream));
    }
    if (tl_kv_is_exact(layer)) {
        return TL_OK;
    }
    const uint32_t due = tl_kv_n_blocks(&layer->policy, n), sink = layer->policy.sink;
    TL_TRY(compress(layer, src, window_origin(layer), due, stream));
    layer->n_blocks = due;
    TL_TRY(tl_kv_copy_rows(&layer->window, 0, src, 0, (uint32_t)tl_min_u64(sink, n), stream));
    const uint32_t first = window_origin(layer);
    return n <= first ? TL_OK
                      : tl_kv_copy_rows(&layer->window, sink, src, first, n - first, stream);
}

tl_err tl_kv_convert(tl_kv *kv, uint32_t il, const struct tl_policy *policy, tl_stream *stream) {
    struct tl_kv_layer *const old = &kv->layers[il];
    TL_ASSERT(has_home(old) || kv->n_rows == 0);
    struct tl_kv_layer fresh;
    TL_TRY(open_layer(kv, il, policy, &fresh));
    tl_err err = kv->n_rows > 0 ? fill_tiers(&fresh, &old->home, kv->n_rows, stream) : TL_OK;
    if (!err) {
        err = tl_stream_sync(stream);
    }
    free_tiers(err ? &fresh : old);
    if (!err) {
        *old = fresh;
    }
    return err;
}

static bool can_rewind(const struct tl_kv_layer *layer, uint32_t n_keep) {
    return tl_kv_is_exact(layer) || has_home(layer) ||
           tl_kv_n_blocks(&layer->policy, n_keep) >= layer->n_blocks;
}

/* The window's rows behind n_keep's last block, from the home. */
static tl_err refill_window(struct tl_kv_layer *layer, uint32_t n_keep, tl_stream *stream) {
    const uint32_t due = tl_kv_n_blocks(&layer->policy, n_keep);
    const bool misses_rows = due < layer->n_blocks;
    layer->n_blocks = due;
    const uint32_t first = window_origin(layer);
    return misses_rows && n_keep > first
               ? tl_kv_copy_rows(&layer->window, layer->policy.sink, &layer->home, first,
                                 n_keep - first, stream)
               : TL_OK;
}

uint32_t tl_kv_rewind(tl_kv *kv, uint32_t n_keep, tl_stream *stream) {
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        n_keep = can_rewind(&kv->layers[il], n_keep) ? n_keep : 0;
    }
    for (uint32_t il = 0; il < kv->n_layers && n_keep < kv->n_rows; il++) {
        struct tl_kv_layer *const layer = &kv->layers[il];
        if (tl_kv_is_exact(layer)) {
            continue;
        }
        /* Slots may hold rows that come again with other contents. */
        if (forget_hot(kv, layer, stream) || refill_window(layer, n_keep, stream)) {
            n_keep = 0; /* the device failed, which its next op will say */
            layer->n_blocks = 0;
        }
    }
    kv->n_rows = n_keep;
    return n_keep;
}

void tl_kv_clear(tl_kv *kv, tl_stream *stream) {
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        kv->layers[il].n_blocks = 0;
        if (forget_hot(kv, &kv->layers[il], stream)) {
            /* the device failed, which its next op will say */
        }
    }
    kv->n_rows = 0;
}
