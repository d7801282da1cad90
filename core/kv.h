/* The cache of a session: for each layer, where its rows are. Bookkeeping is integers; the bytes
 * are moved by ops of the seam. The picture, for a layer with n rows, sinks S, blocks of 64:
 *
 *     row      0 ......... S ................. S + 64 b ................. n
 *     window   [  sinks  ]                     [ newest rows, exact, f16  ]   device
 *     sketch              [ b blocks, coded   ]                               device
 *     index               [ b blocks, transposed or as pages              ]   see below
 *     home     [ every row, exact, f16                                    ]   device or host
 *     hot                  some rows of home, exact, by slot                  device
 *
 * Selecting by codes takes the sketch for an index. Selecting by channels keeps the keys a second
 * time, channel by channel, beside the home; selecting by pages keeps a few numbers of each on the
 * device.
 *
 * A layer has the tiers that its policy asks for. One that selects all rows has a home and nothing
 * else. b is as large as it can be with at least `recent` rows left behind it; a row enters the
 * sketch from its exact copy, so the tiers never drift apart. Rows of a layer that the model itself
 * limits to a window are let go where others are compressed. */
#ifndef TL_KV_H
#define TL_KV_H

#include "books.h"
#include "model.h"
#include "policy.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_KV_LAYER_BUFS_MAX = 20 };

struct tl_kv_layer {
    tl_buf *bufs[TL_KV_LAYER_BUFS_MAX]; /* owned, n_bufs of them: of the views below */
    uint32_t n_bufs;
    struct tl_policy policy;
    uint32_t model_window;    /* the model's own sliding window; 0: none */
    struct tl_kv_rows window; /* sinks in slots 0 .. S-1, then rows from S + 64 n_blocks on */
    struct tl_kv_rows home;   /* row t in slot t */
    struct tl_sketch sketch;
    struct tl_columns columns; /* with index channels */
    struct tl_pages pages;     /* with index pages or meanstd */
    struct tl_kv_rows hot;
    tl_view owner, used, hand; /* of the hot set, see struct tl_fetch; device memory as it is */
    uint32_t n_blocks;         /* compressed, or let go */
    /* What a decode step reads, (1, 1) i32 each, of tl_kv.ints or its copy: the window slot of the
     * new row, the window's rows with it, its last row's position as the window counts (for the
     * model's window), blocks, rows in them. */
    tl_view slot, n_window, window_pos, n_blocks_view, n_old;
};

/* Bytes by tier, before anything is allocated. */
struct tl_kv_bytes {
    /* Device, but for home_host; the columns of an index count as home, codebooks as sketch, which
     * rows the hot set holds as hot. */
    uint64_t window, sketch, index;
    uint64_t home_device, home_host, hot;
};

typedef struct tl_kv {
    struct tl_kv_layer *layers;   /* owned, n_layers of them */
    tl_buf *ints;                 /* owned, host: what the host writes for a step */
    tl_buf *far_ints;             /* owned, device, its twin; NULL where the device is unified */
    tl_dev *dev;                  /* borrowed */
    const struct tl_shape *shape; /* borrowed */
    const tl_books *books;        /* borrowed, or NULL */
    uint32_t n_layers;
    uint32_t cap;             /* rows a layer can hold */
    uint32_t n_rows;          /* rows every layer holds */
    tl_view pos, n_rows_view; /* (1, 1) i32 as a layer's: position of the new row; rows with it */
    /* (any, 1) i32: all numbers that steps read, and what a step's first op copies there; both
     * absent where the device is unified, since there the host writes what kernels read. */
    tl_view numbers, numbers_from;
    tl_view no_hands; /* (n_kv_heads, 1) i32, host, zeros: what empties a hot set */
} tl_kv;

uint64_t tl_kv_device_bytes(const struct tl_kv_bytes *bytes);
uint64_t tl_kv_host_bytes(const struct tl_kv_bytes *bytes);
/* Host: what steps read, beside the layers' tiers; and device, where that is memory of its own. */
uint64_t tl_kv_number_bytes(const struct tl_shape *shape);
uint64_t tl_kv_far_number_bytes(const struct tl_shape *shape);

/* Blocks that a layer of this policy has compressed when it holds n rows. */
uint32_t tl_kv_n_blocks(const struct tl_policy *policy, uint32_t n);

/* True where the layer selects rows by this index. */
bool tl_kv_selects_by(const struct tl_policy *policy, tl_index index);

/* Columns of its index that layer has room for: rows of its blocks. */
uint32_t tl_kv_index_cap(const struct tl_policy *policy, uint32_t cap);

/* True where the layer keeps all its rows exact in one place and attends them all. */
bool tl_kv_is_exact(const struct tl_kv_layer *layer);

/* The policy of layer il: the given one with at most as many channels as a head has, but a layer
 * that the model limits to a window keeps that window exactly and nothing else. */
struct tl_policy tl_kv_layer_policy(const struct tl_shape *shape, uint32_t il,
                                    const struct tl_policy *policy);

/* The policy with topk and hot as they are in a cache of `cap` rows, and share 0. From 16384 rows
 * on keys of 2 bits that leave no room for the least number of slots get 1 bit: small heads, whose
 * scales weigh more. */
struct tl_policy tl_kv_policy_at(const struct tl_shape *shape, uint32_t il,
                                 const struct tl_policy *policy, uint32_t cap);

/* Bytes of one layer at `cap` rows. */
struct tl_kv_bytes tl_kv_layer_bytes(const struct tl_shape *shape, uint32_t il,
                                     const struct tl_policy *policy, uint32_t cap);

/* policies: one a layer. books: what is known of this shape's vector-quantised rows, or NULL. cap *
 * n_kv_heads must fit 32 bits. shape, books and dev must outlive the cache. TL_ERR_MEMORY leaves
 * nothing behind. */
TL_MUST tl_err tl_kv_open(tl_kv **out, const struct tl_shape *shape,
                          const struct tl_policy *policies, const tl_books *books, tl_dev *dev,
                          uint32_t cap);
void tl_kv_close(tl_kv **kv);

/* Before a decode step: enqueues the compression of blocks that became due, and writes what the
 * step's ops read. */
TL_MUST tl_err tl_kv_begin_step(tl_kv *kv, tl_stream *stream);

/* For plans on paper: from now on the cache says, and steps read, what they would behind n_rows
 * rows, which may be more than there is room for. No byte of the tiers is moved. */
void tl_kv_pretend(tl_kv *kv, uint32_t n_rows);

/* Exact rows of one layer while a prompt goes in: slot i stands for row `origin` + i. */
struct tl_stage {
    struct tl_kv_rows rows;
    uint32_t origin;
};

/* Rows [from, from + n) of src to [to, to + n) of dst, every head. The ranges may overlap in one
 * buffer only downwards (to < from), and are then moved in pieces that do not. */
TL_MUST tl_err tl_kv_copy_rows(const struct tl_kv_rows *dst, uint32_t to,
                               const struct tl_kv_rows *src, uint32_t from, uint32_t n,
                               tl_stream *stream);

/* Before layer il's first chunk of a prompt that begins at kv->n_rows: puts the window's rows into
 * the stage and sets its origin. Only for layers without a home. */
TL_MUST tl_err tl_kv_stage(const tl_kv *kv, uint32_t il, struct tl_stage *stage, tl_stream *stream);

/* After layer il's last chunk, n_total rows in all: compresses the blocks that are due and fills
 * the window, from the stage or, with NULL, from the home. */
TL_MUST tl_err tl_kv_absorb(tl_kv *kv, uint32_t il, uint32_t n_total, const struct tl_stage *stage,
                            tl_stream *stream);

/* Gives layer il another policy: its rows go from their exact home, which it must have unless it
 * has no rows, into the tiers that the policy asks for, as if it had been that of the layer from
 * the beginning; its old tiers are freed when the stream has been waited for. Steps that were
 * recorded must be recorded anew. On an error the layer is as it was. */
TL_MUST tl_err tl_kv_convert(tl_kv *kv, uint32_t il, const struct tl_policy *policy,
                             tl_stream *stream);

/* Forgets all rows, whatever state a failure left. */
void tl_kv_clear(tl_kv *kv, tl_stream *stream);

/* What a tier of a layer is to those who save it; session files know them by these numbers. */
typedef enum tl_kv_tier {
    TL_TIER_WINDOW_K = 1,
    TL_TIER_WINDOW_V,
    TL_TIER_HOME_K,
    TL_TIER_HOME_V,
    TL_TIER_SKETCH_K,
    TL_TIER_SKETCH_V,
    TL_TIER_HOT_K,
    TL_TIER_HOT_V,
    TL_TIER_HOT_OWNER,
    TL_TIER_HOT_USED,
    TL_TIER_HOT_HAND,
    TL_TIER_BOOK_K, /* what codes mean belongs to them */
    TL_TIER_BOOK_V,
    TL_TIER_SMOOTH,
} tl_kv_tier;

/* The bytes of a tier that hold something: view is n_groups runs of as many rows (a run a KV head),
 * and the first n_used rows of each count. */
struct tl_kv_part {
    tl_kv_tier tier;
    tl_view view;
    uint32_t n_groups, n_used;
};
enum { TL_KV_PARTS_MAX = 24 };

/* All parts of a layer that holds n_rows rows, n_blocks of it compressed; returns how many. With
 * them and the counts the layer is whole, but for what follows from them: columns and pages of an
 * index from the home. */
uint32_t tl_kv_list_parts(const struct tl_kv_layer *layer, uint32_t n_rows,
                          struct tl_kv_part parts[TL_KV_PARTS_MAX]);
/* What the hot set's owner, used and hand hold, or are to hold: i32 of any alignment, shapes as in
 * struct tl_fetch. */
struct tl_kv_hot {
    const uint8_t *owner, *used, *hand;
};
/* *can_be := false where they say what cannot be. TL_ERR_MEMORY: it could not be found out. */
TL_MUST tl_err tl_kv_check_hot(const struct tl_kv_layer *layer, const struct tl_kv_hot *hot,
                               bool *can_be);
/* Enters all blocks of the layer into its index. */
TL_MUST tl_err tl_kv_rebuild_index(const struct tl_kv_layer *layer, tl_stream *stream);

/* Forgets rows from n_keep on. Returns how many rows are left: n_keep, or 0 where a layer has no
 * exact copy of rows that would have to return to its window (or the device fails). */
uint32_t tl_kv_rewind(tl_kv *kv, uint32_t n_keep, tl_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
