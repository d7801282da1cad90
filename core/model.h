/* A model: its shape, read from a file's metadata and checked against its tensors, and its weights
 * bound as views of a device. There is one description of a layer; what families do differently is
 * data in it: an absent tensor is an absent view, a feature that is off is a zero. */
#ifndef TL_MODEL_H
#define TL_MODEL_H

#include "backend.h"
#include "weights.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TL_LAYERS_MAX = 1024,
    TL_HEADS_MAX = 1024,
    TL_WIDTH_MAX = 1 << 20, /* embedding, feed-forward and heads * head_dim */
    TL_VOCAB_MAX = 1 << 24,
    TL_CTX_MAX = 1 << 24,
};

/* What a family's name alone decides. The table is in model.c. */
struct tl_family {
    const char *name; /* general.architecture */
    tl_pairing pairing;
    tl_act act;
    bool scaled_embedding;              /* rows of the embedding times sqrt(width) */
    bool tied_only;                     /* has no output.weight of its own */
    bool qkv_bias, qk_norm, post_norms; /* tensors that every model of the family has */
    bool fused;                         /* may have attn_qkv and a gate inside ffn_up */
    uint32_t window_period;  /* each period-th layer sees all rows; 1: none does; 0: no windows */
    uint32_t window_default; /* where the file says nothing */
    float local_rope_base;   /* of windowed layers; 0: the model's */
    float attn_softcap, logit_softcap; /* where the file says nothing */
    /* The model of this many layers scales q . k by sqrt(width / heads), not sqrt(head_dim). */
    uint32_t wide_scale_layers;
};

/* One rotary table: angle of pair j at position p is p * inv_freq[j]. */
struct tl_rope_table {
    float inv_freq[TL_HEAD_DIM_MAX / 2];
    float scale; /* multiplies the rotated dimensions (YaRN, LongRoPE); else 1 */
};

struct tl_shape {
    const struct tl_family *family;
    char name[128];   /* general.name, printable; may be empty */
    uint32_t n_vocab; /* rows of the embedding */
    uint32_t n_embd, n_layers, n_heads, n_kv_heads, head_dim, n_ff;
    uint32_t n_ctx_train;
    uint32_t n_rot;  /* rotated dimensions of a head, even */
    uint32_t window; /* rows a windowed layer sees, the query's own included; 0: no windows */
    bool windowed[TL_LAYERS_MAX]; /* which layers are */
    float norm_eps;
    float attn_scale;   /* multiplies q . k */
    float attn_softcap; /* 0: none */
    float logit_softcap;
    float embd_scale;
    struct tl_rope_table rope, rope_local; /* of layers that see all rows, of windowed ones */
    uint64_t weight_bytes; /* of all tensors as they are bound; set by tl_model_check */
};

/* Reads and checks the metadata (n_vocab stays 0); tl_model_check then sets n_vocab and checks that
 * every tensor is there with the right shape. No device is needed. n_ctx is the context the session
 * will use (LongRoPE picks its table by it; 0: trained). TL_ERR_UNSUPPORTED: unknown architecture
 * (the sentence lists ours) or a variation we do not have; TL_ERR_FORMAT: damaged. Sentences start
 * with the path. */
TL_MUST tl_err tl_shape_read(const tl_weights *w, uint32_t n_ctx, struct tl_shape *out);
TL_MUST tl_err tl_model_check(const tl_weights *w, struct tl_shape *shape);

/* A family by its name, NULL when it is none of ours. */
const struct tl_family *tl_family_find(tl_str name);

/* Sets which layers see a window of `window` rows: all but each period-th, all where period is 1,
 * none where it or the window is 0. */
void tl_shape_set_windows(struct tl_shape *shape, uint32_t window, uint32_t period);

struct tl_layer {
    tl_view attn_norm;      /* (1, n_embd) */
    tl_view wq, wk, wv;     /* (heads * head_dim, n_embd) each */
    tl_view bq, bk, bv;     /* (1, heads * head_dim) or absent */
    tl_view q_norm, k_norm; /* (1, head_dim) or absent */
    tl_view wo, bo;         /* (n_embd, n_heads * head_dim); (1, n_embd) or absent */
    tl_view attn_post_norm; /* (1, n_embd) or absent */
    tl_view ffn_norm;       /* (1, n_embd) */
    tl_view gate, up;       /* (n_ff, n_embd) */
    tl_view b_gate, b_up;   /* (1, n_ff) or absent */
    tl_view down, b_down;   /* (n_embd, n_ff); (1, n_embd) or absent */
    tl_view ffn_post_norm;  /* (1, n_embd) or absent */
    uint32_t window;        /* 0: sees all rows */
    tl_view inv_freq;       /* (1, n_rot / 2) */
    float rope_scale;
};

typedef struct tl_model {
    struct tl_shape shape;
    tl_view embd;            /* (n_vocab, n_embd) */
    tl_view output_norm;     /* (1, n_embd) */
    tl_view output;          /* (n_vocab, n_embd); the embedding where tied */
    tl_view output_bias;     /* (1, n_vocab) or absent */
    struct tl_layer *layers; /* owned, shape.n_layers of them */
    tl_buf **bufs;           /* owned, one for each tensor that is bound, and the rope tables */
    uint32_t n_bufs;
    uint64_t weight_bytes; /* of the bound tensors */
} tl_model;

/* Who wants to know how far the weights are: called before the first tensor, behind each, and
 * within large ones. Weights that are read in place are read from the disk then, too. */
struct tl_load_watch {
    void (*on_load)(void *user, uint64_t done_bytes, uint64_t bytes); /* may be NULL */
    void *user;
};

/* Binds the tensors of w to dev: in place where the device can read the mapping, else copied. w and
 * dev must outlive the model. A dtype that the device cannot run is TL_ERR_UNSUPPORTED here. watch
 * may be NULL. */
TL_MUST tl_err tl_model_open(tl_model **out, const tl_weights *w, const struct tl_shape *shape,
                             tl_dev *dev, const struct tl_load_watch *watch);
/* A model whose weights nobody has written, for plans and timings: every tensor that the shape's
 * family needs, matrices of the given types (where a row is no whole number of blocks, Q8_0 or
 * F16). */
struct tl_blank {
    tl_dtype layers, outside; /* outside: embedding and output */
    bool tied;                /* the output is the embedding */
};
TL_MUST tl_err tl_model_open_blank(tl_model **out, const struct tl_shape *shape,
                                   const struct tl_blank *blank, tl_dev *dev);
void tl_model_close(tl_model **model);

#ifdef __cplusplus
}
#endif

#endif
