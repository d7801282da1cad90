/* What the ops share: a call under construction, and windows of tensors that are larger than a
 * binding. */
#ifndef VK_OPS_H
#define VK_OPS_H

#include "vulkan.h"

/* Kernels of hardware, or those that suit a driver which computes on the host. */
bool vk_like_gpu(const struct vk_dev *dev);
/* Invocations of a workgroup: a whole number of subgroups near `wanted`. */
uint32_t vk_group_size(const struct vk_dev *dev, uint32_t wanted);

/* Mesa's software driver ends the loops of an invocation, without a word, after 65535 rounds of all
 * of them together. So there such loops are shared among at least this many subgroups, `rounds`
 * being what one would need for all; elsewhere 1. */
uint32_t vk_least_teams(const struct vk_dev *dev, uint64_t rounds);

/* Gives a call's workgroup the subgroups that its loops need there, as far as the device goes. */
void vk_widen(const struct vk_dev *dev, struct vk_call *c, uint64_t rounds);

/* A call of one workgroup, with the first two specialisation constants. */
struct vk_call vk_call_of(const struct vk_dev *dev, vk_shader shader, uint32_t wanted_group);
void vk_spec(struct vk_call *c, uint32_t value);
uint32_t vk_add(struct vk_call *c, struct vk_binding b); /* returns b.first */
void vk_push(struct vk_call *c, uint32_t value);
void vk_push_float(struct vk_call *c, float value);
/* Workgroups for n invocations of a kernel that loops, or for n subgroups. */
void vk_loop_over(struct vk_call *c, uint64_t n);
void vk_teams(struct vk_call *c, uint64_t n);

/* ops_attend.c: one softmax of n_parts parts a query head; lse may be absent. */
tl_err vk_attend_join(tl_stream *s, const tl_view *parts, const tl_view *out, const tl_view *lse,
                      uint32_t n_heads, uint32_t n_parts);

/* Rows of so many bytes that one binding has room for. */
uint64_t vk_window_rows(const struct vk_dev *dev, uint64_t row_bytes);
tl_err vk_too_wide(struct vk_dev *dev, const char *what);

/* Windows of a cache of n_heads heads with cap rows each: some heads with all their rows, or, where
 * one head is too large, one head with some of them. */
struct vk_kv_walk {
    uint32_t n_heads, cap, heads_step, rows_step, n_windows;
    uint32_t row_pieces; /* windows of one head */
};
struct vk_kv_window {
    uint32_t head, heads, row, rows;
    uint32_t row_piece; /* which of the head's windows */
};
/* Rows of at most row_bytes, and heads_most heads at a time. TL_ERR_UNSUPPORTED where no row fits.
 */
tl_err vk_windows(struct vk_dev *dev, const struct vk_kv_walk *shape, uint64_t row_bytes,
                  uint64_t heads_most, struct vk_kv_walk *w);
tl_err vk_kv_windows(struct vk_dev *dev, const struct tl_kv_rows *kv, struct vk_kv_walk *w);
struct vk_kv_window vk_kv_window_at(const struct vk_kv_walk *w, uint32_t i);
/* Of k, v, or a tensor of the same number of rows. */
struct vk_binding vk_bind_window(const struct vk_dev *dev, const tl_view *v,
                                 const struct vk_kv_walk *w, const struct vk_kv_window *at,
                                 bool writes);

/* ops_cache.c, for ops_vq.c too. Query heads for a subgroup: at most `most`, shared out evenly. */
uint32_t vk_sketch_heads(uint32_t group, uint64_t most);
/* Parts that the `cap` blocks of a head are cut into, each block being so many rounds of loops. */
uint32_t vk_sketch_splits(const struct vk_dev *dev, uint64_t teams, uint32_t cap, uint32_t rounds);
/* The scores of a window's heads. */
struct vk_binding vk_bind_scores(const struct vk_dev *dev, const tl_view *score, uint32_t group,
                                 const struct vk_kv_window *at, bool writes);
void vk_push_window(struct vk_call *c, const struct vk_kv_window *at);

/* ops_vq.c: the same verbs where codebooks have a say. Of tl_compress the sides that have one. */
tl_err vk_vq_compress(tl_stream *s, const struct tl_compress *op);
tl_err vk_vq_key_score(tl_stream *s, const struct tl_key_score *op);
tl_err vk_vq_attend(tl_stream *s, const struct tl_attend_sketch *op);

#endif
