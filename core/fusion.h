/* Ops that one launch can do together, as far as that can be said of the ops alone. A device that
 * holds an op back until it sees the next one keeps one fusion a stream, of one of two kinds:
 *
 *   products   [a norm, or a gate]  up to three products of what it makes
 *   turns      rope, rope, and the new row's keys and values into the tiers of the cache
 *
 * Whatever does not continue the fusion ends it. Every result is written where its op said, also
 * those between two ops of a fusion. What a fusion is launched as is the device's affair; how
 * many launches that takes is known to launches.h too. */
#ifndef TL_FUSION_H
#define TL_FUSION_H

#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_FUSION_PRODUCTS = 3, TL_FUSION_TURNS = 2, TL_FUSION_TIERS = 2 };

typedef enum tl_fusion_kind {
    TL_FUSION_EMPTY,
    TL_FUSION_OF_PRODUCTS,
    TL_FUSION_OF_TURNS,
} tl_fusion_kind;

/* Of the x of the products. */
typedef enum tl_maker { TL_MAKER_NONE, TL_MAKER_NORM, TL_MAKER_GLU } tl_maker;

/* Copies of the ops, in order within each list; zeroed it is empty. */
struct tl_fusion {
    tl_fusion_kind kind;
    tl_maker maker;
    uint32_t n_products, n_ropes, n_encodes;
    struct tl_rmsnorm norm;
    struct tl_glu glu;
    struct tl_matmul products[TL_FUSION_PRODUCTS];
    struct tl_rope ropes[TL_FUSION_TURNS];
    struct tl_kv_encode encodes[TL_FUSION_TIERS];
};

/* few_rows below: products of at most so many rows of x stream the matrix and join; those of more
 * are launches of their own. */

/* True where op continues s: no earlier op of s writes what it reads or writes, but for the very
 * view that the fusion hands on. An empty fusion is continued by none. */
bool tl_fusion_takes(const struct tl_fusion *s, const struct tl_op *op, uint32_t few_rows);
/* True for matmul, rmsnorm, glu and rope. */
bool tl_fusion_may_begin(const struct tl_op *op);
/* Adds an op that it takes, or one that begins an empty one. */
void tl_fusion_put(struct tl_fusion *s, const struct tl_op *op);
/* True where nothing can continue s: it need not be held back. */
bool tl_fusion_is_whole(const struct tl_fusion *s, uint32_t few_rows);

/* A rope that turns few enough rows and channels to be part of a longer fusion. */
bool tl_rope_joins(const struct tl_rope *op);
/* True where a product rounds x to 8 bits in blocks first: quantised w, few rows. */
bool tl_matmul_rounds_x(const struct tl_matmul *op, uint32_t few_rows);

/* The same bytes as the same rows. */
bool tl_view_same(const tl_view *a, const tl_view *b);

#ifdef __cplusplus
}
#endif

#endif
