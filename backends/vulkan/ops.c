/* The ops of a layer: each picks a variant of its shader, says which bytes it reads and writes, and
 * how many workgroups there are. Where a tensor is larger than a binding may be, windows of whole
 * rows go through one after the other, into the same outputs. Shapes were checked in backend.c. */
#include "ops.h"

#include <string.h>

/* Workgroups of kernels that loop: enough for any device, few for a software one. */
enum { LOOP_GROUPS_MAX = 4096 };

enum { ROUNDS_MAX = 40000 }; /* of 65535: what ops count is what grows with the cache */

enum {
    /* matmul_host.comp: tokens and rows of w at a time; more of either takes its compiler seconds.
     */
    HOST_TOKENS_MAX = 8,
    HOST_ROWS_MAX = 4,
    HOST_TEAMS_MIN = 12, /* subgroups that keep its threads busy to the end */
    /* matmul_tile.comp: its workgroup, its rows of w, and from how many tokens it is worth it. */
    TILE_GROUP = 256,
    TILE_ROWS = 64,
    TILE_TOKENS_MIN = 16,
    /* matmul_coop.comp: its workgroup, its tokens and rows of w, and likewise. */
    COOP_GROUP = 128,
    COOP_TILE = 64,
    COOP_TOKENS_MIN = 32,
};

bool vk_like_gpu(const struct vk_dev *dev) { return !dev->info.software || dev->debug.as_gpu; }

uint32_t vk_group_size(const struct vk_dev *dev, uint32_t wanted) {
    if (!vk_like_gpu(dev)) {
        return dev->info.subgroup; /* a workgroup of more runs as coroutines on lavapipe */
    }
    const uint64_t most = tl_min_u64(wanted, dev->info.group_max);
    return (uint32_t)tl_max_u64(most / dev->info.subgroup, 1) * dev->info.subgroup;
}

uint32_t vk_least_teams(const struct vk_dev *dev, uint64_t rounds) {
    return dev->info.software ? (uint32_t)tl_max_u64(tl_div_up(rounds, ROUNDS_MAX), 1) : 1;
}

struct vk_call vk_call_of(const struct vk_dev *dev, vk_shader shader, uint32_t wanted_group) {
    struct vk_call c = {.variant = {.shader = shader}, .groups = {1, 1, 1}};
    c.variant.specs[0] = vk_group_size(dev, wanted_group);
    c.variant.specs[1] = dev->info.subgroup;
    c.variant.n_specs = 2;
    return c;
}

void vk_widen(const struct vk_dev *dev, struct vk_call *c, uint64_t rounds) {
    const uint32_t lanes = dev->info.subgroup;
    const uint64_t wanted = (uint64_t)vk_least_teams(dev, rounds) * lanes;
    const uint64_t most = dev->info.group_max / lanes * lanes;
    c->variant.specs[0] = (uint32_t)tl_max_u64(c->variant.specs[0], tl_min_u64(wanted, most));
}

void vk_spec(struct vk_call *c, uint32_t value) {
    TL_ASSERT(c->variant.n_specs < VK_SPECS_MAX);
    c->variant.specs[c->variant.n_specs++] = value;
}

uint32_t vk_add(struct vk_call *c, struct vk_binding b) {
    TL_ASSERT(c->n_bindings < VK_BINDINGS_MAX);
    c->bindings[c->n_bindings++] = b;
    return b.first;
}

void vk_push(struct vk_call *c, uint32_t value) {
    TL_ASSERT(c->n_push < VK_PUSH_BYTES / 4);
    c->push[c->n_push++] = value;
}

void vk_push_float(struct vk_call *c, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    vk_push(c, bits);
}

void vk_loop_over(struct vk_call *c, uint64_t n) {
    const uint64_t groups = tl_div_up(n, c->variant.specs[0]);
    c->groups[0] = (uint32_t)tl_max_u64(tl_min_u64(groups, LOOP_GROUPS_MAX), 1);
}

void vk_teams(struct vk_call *c, uint64_t n) {
    c->groups[0] = (uint32_t)tl_div_up(n, c->variant.specs[0] / c->variant.specs[1]);
}

uint64_t vk_window_rows(const struct vk_dev *dev, uint64_t row_bytes) {
    /* What alignment at both ends may add. */
    const uint64_t room = dev->info.range_max - dev->info.offset_align - 16;
    const uint64_t rows = (dev->debug.range != 0 ? dev->debug.range : room) / row_bytes;
    return dev->debug.range != 0 && rows == 0 ? 1 : rows;
}

tl_err vk_too_wide(struct vk_dev *dev, const char *what) {
    return vk_op_failed(
        dev, tl_fail(&dev->log, TL_ERR_UNSUPPORTED,
                     "vulkan: %s: one row of %s is more than the driver binds (%llu bytes)",
                     dev->info.name, what, (unsigned long long)dev->info.range_max));
}

/* 16-bit words at odd addresses, words at odd halves: nothing that a file or a session has. */
static tl_err check_aligned(struct vk_dev *dev, const tl_view *v) {
    const uint64_t unit =
        v->dtype == TL_F32 || v->dtype == TL_I32 || tl_row_bytes(v->dtype, v->cols) % 4 == 0 ? 4
                                                                                             : 2;
    if (v->off_bytes % unit != 0 || ((const struct vk_buf *)v->buf)->off % 4 != 0) {
        return vk_op_failed(dev, tl_fail(&dev->log, TL_ERR_UNSUPPORTED,
                                         "vulkan: a %s tensor at an odd address",
                                         tl_dtype_info(v->dtype)->name));
    }
    return TL_OK;
}

static tl_err gather_rows(tl_stream *s, const struct tl_gather *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t row_bytes = tl_row_bytes(op->src.dtype, op->src.cols);
    const uint64_t rows = vk_window_rows(dev, row_bytes);
    for (uint64_t row = 0; row < op->src.rows; row += rows) {
        const uint64_t n = tl_min_u64(rows, op->src.rows - row);
        struct vk_call c = vk_call_of(dev, VK_SHADER_GATHER, 64);
        vk_spec(&c, op->src.dtype);
        vk_push(&c, vk_add(&c, vk_bind(dev, &op->y, 0, 0, true)));
        vk_push(&c, vk_add(&c, vk_bind(dev, &op->src, row * row_bytes, n * row_bytes, false)));
        vk_push(&c, vk_add(&c, vk_bind(dev, &op->idx, 0, 0, false)));
        vk_push(&c, op->y.rows);
        vk_push(&c, op->y.cols);
        vk_push(&c, (uint32_t)row);
        vk_push(&c, (uint32_t)n);
        vk_push_float(&c, op->scale);
        vk_loop_over(&c, op->y.rows * tl_div_up(op->y.cols, 32));
        TL_TRY(vk_dispatch(s, &c));
    }
    return TL_OK;
}

tl_err vk_gather(tl_stream *s, const struct tl_gather *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t step = vk_window_rows(dev, 4ull * op->y.cols);
    TL_TRY(check_aligned(dev, &op->src));
    if (step == 0 || vk_window_rows(dev, tl_row_bytes(op->src.dtype, op->src.cols)) == 0) {
        return vk_too_wide(dev, "a table");
    }
    for (uint64_t at = 0; at < op->y.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->y.rows - at);
        struct tl_gather part = *op;
        part.y = tl_view_rows(op->y, first, n);
        part.idx = tl_view_rows(op->idx, first, n);
        TL_TRY(gather_rows(s, &part));
    }
    return TL_OK;
}

/* How a product is shared out: which shader, and what of y a workgroup makes. */
struct product {
    vk_shader shader;
    uint32_t group;        /* invocations wanted */
    uint32_t tokens, rows; /* of x, of w */
    uint32_t specs[3], n_specs;
};

/* Where rows of w and of x begin at 16 bytes, whole units each. */
static bool is_wide(const struct tl_matmul *op) {
    const uint64_t w = ((const struct vk_buf *)op->w.buf)->off + op->w.off_bytes;
    const uint64_t x = ((const struct vk_buf *)op->x.buf)->off + op->x.off_bytes;
    return op->w.cols % 32 == 0 && w % 16 == 0 && x % 16 == 0;
}

static struct product host_product_of(const struct vk_dev *dev, const struct tl_matmul *op) {
    const uint32_t lanes = dev->info.subgroup, n = op->x.rows;
    const uint32_t tokens = n > 4 ? HOST_TOKENS_MAX : n > 2 ? 4 : n;
    uint32_t rows = HOST_ROWS_MAX;
    while (rows > 1 &&
           tl_div_up(op->w.rows, (uint64_t)rows * lanes) * tl_div_up(n, tokens) < HOST_TEAMS_MIN) {
        rows /= 2;
    }
    return (struct product){VK_SHADER_MATMUL_HOST,       lanes, tokens, rows * lanes,
                            {tokens, rows, is_wide(op)}, 3};
}

/* Whether matrix units do it: whole matrices for each of the workgroup's subgroups. */
static bool fits_coop(const struct vk_dev *dev, uint32_t n) {
    const uint32_t *const m = dev->info.matrix, lanes = dev->info.subgroup;
    if (!dev->info.has[VK_HAS_COOPERATIVE_MATRIX] || n < COOP_TOKENS_MIN ||
        COOP_GROUP % lanes != 0 || vk_group_size(dev, COOP_GROUP) != COOP_GROUP) {
        return false;
    }
    const uint32_t teams = COOP_GROUP / lanes, matrices = COOP_TILE / m[0] * (COOP_TILE / m[1]);
    const uint64_t bytes = 4ull * COOP_TILE * 40 * 2 + 4ull * teams * (m[0] * m[1] + 2);
    return matrices % teams == 0 && bytes <= dev->info.shared_bytes;
}

static struct product product_of(const struct vk_dev *dev, const struct tl_matmul *op) {
    const uint32_t lanes = dev->info.subgroup, n = op->x.rows;
    if (!vk_like_gpu(dev)) {
        return host_product_of(dev, op);
    }
    if (fits_coop(dev, n)) {
        const uint32_t *const m = dev->info.matrix;
        return (struct product){VK_SHADER_MATMUL_COOP, COOP_GROUP, COOP_TILE, COOP_TILE,
                                {m[0], m[1], m[2]},    3};
    }
    const uint32_t group = vk_group_size(dev, TILE_GROUP), tokens = group / 4;
    const uint64_t tile_bytes = 32ull * (TILE_ROWS + tokens + 1) * sizeof(float);
    if (n >= TILE_TOKENS_MIN && group % 64 == 0 && tile_bytes <= dev->info.shared_bytes) {
        return (struct product){VK_SHADER_MATMUL_TILE, group, tokens, TILE_ROWS, {0}, 0};
    }
    const uint32_t few = n >= 8 ? 8 : n >= 3 ? 4 : n;
    return (struct product){
        VK_SHADER_MATMUL, 4 * lanes, few, vk_group_size(dev, 4 * lanes) / lanes, {few}, 1};
}

/* Rows of w [row, row + n). Of one token only these columns of y are bound. */
static tl_err matmul_window(tl_stream *s, const struct tl_matmul *op, const struct product *p,
                            uint64_t row, uint64_t n) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t row_bytes = tl_row_bytes(op->w.dtype, op->w.cols);
    const uint64_t at = op->x.rows == 1 ? row * 4 : 0, y_bytes = op->x.rows == 1 ? n * 4 : 0;
    struct vk_call c = vk_call_of(dev, p->shader, p->group);
    vk_spec(&c, op->w.dtype);
    for (uint32_t i = 0; i < p->n_specs; i++) {
        vk_spec(&c, p->specs[i]);
    }
    const struct vk_binding y = vk_bind(dev, &op->y, at, y_bytes, true);
    const struct vk_binding x = vk_bind(dev, &op->x, 0, 0, false);
    vk_push(&c, vk_add(&c, y));
    vk_push(&c, vk_add(&c, x));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->w, row * row_bytes, n * row_bytes, false)));
    vk_push(&c, vk_add(&c, op->bias.buf != NULL ? vk_bind(dev, &op->bias, at, y_bytes, false) : x));
    vk_push(&c, op->x.rows);
    vk_push(&c, op->x.cols);
    vk_push(&c, op->w.rows);
    vk_push(&c, op->x.rows == 1 ? 0 : (uint32_t)row);
    vk_push(&c, (uint32_t)n);
    vk_push(&c, (op->accumulate ? 1u : 0u) | (op->bias.buf != NULL ? 2u : 0u));
    vk_push_float(&c, op->softcap);
    c.groups[0] = (uint32_t)tl_div_up(n, p->rows);
    c.groups[1] = (uint32_t)tl_div_up(op->x.rows, p->tokens);
    return vk_dispatch(s, &c);
}

/* Tokens by tokens where activations are more than a binding, and of one token as many columns as
 * fit. */
tl_err vk_matmul(tl_stream *s, const struct tl_matmul *op) {
    struct vk_dev *const dev = vk_dev_of(s);
    const uint64_t tokens = tl_max_u64(
        tl_min_u64(vk_window_rows(dev, 4ull * op->x.cols), vk_window_rows(dev, 4ull * op->y.cols)),
        1);
    const uint64_t w_rows = vk_window_rows(dev, tl_row_bytes(op->w.dtype, op->w.cols));
    TL_TRY(check_aligned(dev, &op->w));
    if (w_rows == 0) {
        return vk_too_wide(dev, "a weight");
    }
    for (uint64_t token = 0; token < op->x.rows; token += tokens) {
        const uint32_t n = (uint32_t)tl_min_u64(tokens, op->x.rows - token);
        struct tl_matmul part = *op;
        part.x = tl_view_rows(op->x, (uint32_t)token, n);
        part.y = tl_view_rows(op->y, (uint32_t)token, n);
        const struct product p = product_of(dev, &part);
        const uint64_t rows = n == 1 ? tl_min_u64(w_rows, vk_window_rows(dev, 4)) : w_rows;
        for (uint64_t row = 0; row < op->w.rows; row += rows) {
            TL_TRY(matmul_window(s, &part, &p, row, tl_min_u64(rows, op->w.rows - row)));
        }
    }
    return TL_OK;
}

static tl_err rmsnorm_rows(tl_stream *s, const struct tl_rmsnorm *op) {
    const struct vk_dev *const dev = vk_dev_of(s);
    const uint32_t lanes = dev->info.subgroup;
    struct vk_call c =
        vk_call_of(dev, VK_SHADER_RMSNORM, (uint32_t)tl_min_u64(op->x.cols / 4 + lanes, 256));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->y, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->x, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->w, 0, 0, false)));
    vk_push(&c, op->x.rows);
    vk_push(&c, op->x.cols);
    vk_push(&c, op->accumulate);
    vk_push_float(&c, op->eps);
    c.groups[0] = (uint32_t)tl_min_u64(op->x.rows, LOOP_GROUPS_MAX);
    return vk_dispatch(s, &c);
}

tl_err vk_rmsnorm(tl_stream *s, const struct tl_rmsnorm *op) {
    const uint64_t step = vk_window_rows(vk_dev_of(s), 4ull * op->x.cols);
    if (step == 0) {
        return vk_too_wide(vk_dev_of(s), "a norm");
    }
    for (uint64_t at = 0; at < op->x.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->x.rows - at);
        struct tl_rmsnorm part = *op;
        part.x = tl_view_rows(op->x, first, n);
        part.y = tl_view_rows(op->y, first, n);
        TL_TRY(rmsnorm_rows(s, &part));
    }
    return TL_OK;
}

static tl_err rope_rows(tl_stream *s, const struct tl_rope *op) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_ROPE, 64);
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->x, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->pos, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->inv_freq, 0, 0, false)));
    vk_push(&c, op->x.rows);
    vk_push(&c, op->x.cols);
    vk_push(&c, op->head_dim);
    vk_push(&c, op->inv_freq.cols);
    vk_push(&c, op->pairing == TL_PAIR_HALF);
    vk_push_float(&c, op->scale);
    vk_loop_over(&c, (uint64_t)op->x.rows * op->inv_freq.cols);
    return vk_dispatch(s, &c);
}

tl_err vk_rope(tl_stream *s, const struct tl_rope *op) {
    const uint64_t step = vk_window_rows(vk_dev_of(s), 4ull * op->x.cols);
    if (step == 0) {
        return vk_too_wide(vk_dev_of(s), "heads");
    }
    for (uint64_t at = 0; at < op->x.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->x.rows - at);
        struct tl_rope part = *op;
        part.x = tl_view_rows(op->x, first, n);
        part.pos = tl_view_rows(op->pos, first, n);
        TL_TRY(rope_rows(s, &part));
    }
    return TL_OK;
}

static tl_err glu_rows(tl_stream *s, const struct tl_glu *op) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_GLU, 128);
    const uint64_t n = (uint64_t)op->y.rows * op->y.cols;
    vk_spec(&c, op->act == TL_ACT_GELU_TANH);
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->y, 0, 0, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->gate, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, &op->up, 0, 0, false)));
    vk_push(&c, (uint32_t)n);
    vk_loop_over(&c, n);
    return vk_dispatch(s, &c);
}

tl_err vk_glu(tl_stream *s, const struct tl_glu *op) {
    const uint64_t step = vk_window_rows(vk_dev_of(s), 4ull * op->y.cols);
    if (step == 0) {
        return vk_too_wide(vk_dev_of(s), "activations");
    }
    for (uint64_t at = 0; at < op->y.rows; at += step) {
        const uint32_t first = (uint32_t)at, n = (uint32_t)tl_min_u64(step, op->y.rows - at);
        const struct tl_glu part = {.y = tl_view_rows(op->y, first, n),
                                    .gate = tl_view_rows(op->gate, first, n),
                                    .up = tl_view_rows(op->up, first, n),
                                    .act = op->act};
        TL_TRY(glu_rows(s, &part));
    }
    return TL_OK;
}

tl_err vk_windows(struct vk_dev *dev, const struct vk_kv_walk *shape, uint64_t row_bytes,
                  uint64_t heads_most, struct vk_kv_walk *w) {
    const uint64_t fits = vk_window_rows(dev, row_bytes), cap = shape->cap;
    if (fits == 0 || heads_most == 0) {
        return vk_too_wide(dev, "a cache");
    }
    *w = *shape;
    const uint64_t heads = tl_min_u64(tl_min_u64(fits / cap, heads_most), shape->n_heads);
    w->heads_step = (uint32_t)tl_max_u64(heads, 1);
    w->rows_step = (uint32_t)tl_min_u64(fits, cap);
    w->row_pieces = (uint32_t)tl_div_up(cap, w->rows_step);
    w->n_windows = (uint32_t)tl_div_up(shape->n_heads, w->heads_step) * w->row_pieces;
    return TL_OK;
}

tl_err vk_kv_windows(struct vk_dev *dev, const struct tl_kv_rows *kv, struct vk_kv_walk *w) {
    const uint64_t k_bytes = tl_row_bytes(kv->k.dtype, kv->k.cols);
    const uint64_t v_bytes = tl_row_bytes(kv->v.dtype, kv->v.cols);
    const struct vk_kv_walk shape = {.n_heads = kv->n_kv_heads, .cap = kv->k.rows / kv->n_kv_heads};
    if (kv->k.cols % 2 != 0) {
        return vk_op_failed(dev, tl_fail(&dev->log, TL_ERR_UNSUPPORTED,
                                         "vulkan: heads of odd width (%u)", kv->k.cols));
    }
    TL_TRY(check_aligned(dev, &kv->k));
    TL_TRY(check_aligned(dev, &kv->v));
    return vk_windows(dev, &shape, tl_max_u64(k_bytes, v_bytes), UINT32_MAX, w);
}

struct vk_kv_window vk_kv_window_at(const struct vk_kv_walk *w, uint32_t i) {
    const uint32_t head = i / w->row_pieces * w->heads_step;
    const uint32_t row = i % w->row_pieces * w->rows_step;
    return (struct vk_kv_window){
        .head = head,
        .heads = (uint32_t)tl_min_u64(w->heads_step, w->n_heads - head),
        .row = row,
        .rows = (uint32_t)tl_min_u64(w->rows_step, w->cap - row),
        .row_piece = i % w->row_pieces,
    };
}

struct vk_binding vk_bind_window(const struct vk_dev *dev, const tl_view *v,
                                 const struct vk_kv_walk *w, const struct vk_kv_window *at,
                                 bool writes) {
    const uint64_t row_bytes = tl_row_bytes(v->dtype, v->cols);
    const uint64_t first = (uint64_t)at->head * w->cap + at->row;
    const uint64_t n = (uint64_t)(at->heads - 1) * w->cap + at->rows;
    return vk_bind(dev, v, first * row_bytes, n * row_bytes, writes);
}

static tl_err encode_window(tl_stream *s, const tl_view *slot, const tl_view *dst,
                            const tl_view *src, const struct vk_kv_walk *w,
                            const struct vk_kv_window *at) {
    const struct vk_dev *const dev = vk_dev_of(s);
    struct vk_call c = vk_call_of(dev, VK_SHADER_KV_ENCODE, 64);
    vk_spec(&c, dst->dtype);
    vk_push(&c, vk_add(&c, vk_bind_window(dev, dst, w, at, true)));
    vk_push(&c, vk_add(&c, vk_bind(dev, src, 0, 0, false)));
    vk_push(&c, vk_add(&c, vk_bind(dev, slot, 0, 0, false)));
    vk_push(&c, src->rows);
    vk_push(&c, dst->cols);
    vk_push(&c, (uint32_t)tl_row_bytes(dst->dtype, dst->cols));
    vk_push(&c, w->n_heads);
    vk_push(&c, at->head);
    vk_push(&c, at->heads);
    vk_push(&c, w->cap);
    vk_push(&c, at->row);
    vk_push(&c, at->rows);
    vk_loop_over(&c, (uint64_t)src->rows * at->heads * tl_div_up(dst->cols, 32));
    return vk_dispatch(s, &c);
}

tl_err vk_kv_encode(tl_stream *s, const struct tl_kv_encode *op) {
    const uint64_t step = vk_window_rows(vk_dev_of(s), 4ull * op->k.cols);
    struct vk_kv_walk w;
    TL_TRY(vk_kv_windows(vk_dev_of(s), &op->dst, &w));
    if (step == 0) {
        return vk_too_wide(vk_dev_of(s), "new rows");
    }
    for (uint64_t first = 0; first < op->k.rows; first += step) {
        const uint32_t n = (uint32_t)tl_min_u64(step, op->k.rows - first);
        const tl_view slot = tl_view_rows(op->slot, (uint32_t)first, n);
        const tl_view k = tl_view_rows(op->k, (uint32_t)first, n);
        const tl_view v = tl_view_rows(op->v, (uint32_t)first, n);
        for (uint32_t i = 0; i < w.n_windows; i++) {
            const struct vk_kv_window at = vk_kv_window_at(&w, i);
            TL_TRY(encode_window(s, &slot, &op->dst.k, &k, &w, &at));
            TL_TRY(encode_window(s, &slot, &op->dst.v, &v, &w, &at));
        }
    }
    return TL_OK;
}
