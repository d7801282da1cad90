/* THE SEAM. Core decides, a backend moves bytes; this is all they say to each other.
 *
 * A view is rank 2: rows x cols of one dtype, rows packed one behind the other. More dimensions are
 * a field of an op or a loop in core. Ops only enqueue on a stream: order within a stream is kept,
 * across streams only by events. Whatever changes from token to token (positions, slots, row
 * counts) is a view that the kernel reads; whatever is fixed for a session is a plain field. A
 * failed op makes its device fail for good: the next call or tl_stream_sync returns TL_ERR_DEVICE.
 *
 * Callers use the tl_ functions, never the table: backend.c checks each contract once, with
 * TL_ASSERT since a wrong shape here is a bug of core (files are checked in weights.c and model.c),
 * and backends check nothing again. */
#ifndef TL_BACKEND_H
#define TL_BACKEND_H

#include "codec.h"
#include "dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_backend tl_backend;
/* First member of every backend's own struct of the same kind. What is "core's" is set and read in
 * backend.c alone. */
typedef struct tl_dev {
    const tl_backend *backend;
    struct tl_dev_account *account; /* core's */
} tl_dev;
typedef struct tl_stream {
    tl_dev *dev;
    uint64_t capture; /* core's: which capture records it now; 0: none does */
} tl_stream;
/* A mark in a stream that other streams can wait for. */
typedef struct tl_event {
    tl_dev *dev;
    uint64_t capture; /* core's: the capture it was last recorded in; 0: in none */
    bool recorded;    /* core's */
} tl_event;
/* Ops recorded once, to be run many times. */
typedef struct tl_graph {
    tl_dev *dev;
} tl_graph;

typedef enum tl_mem {
    TL_MEM_DEVICE, /* where kernels are fastest */
    TL_MEM_HOST,   /* host memory that kernels can read and write too (pinned on a GPU) */
} tl_mem;

typedef struct tl_buf {
    tl_dev *dev;
    void *host; /* the bytes for the CPU to touch; non-NULL iff TL_MEM_HOST or a unified device */
    uint64_t bytes;
    tl_mem mem;
    bool is_wrapped; /* core's: the bytes are the caller's */
    /* Core's, borrowed: host memory of as many bytes that a step copies here before it reads them;
     * NULL: none. */
    struct tl_buf *twin;
} tl_buf;

/* A value; owns nothing. Rows are tl_row_bytes(dtype, cols) apart. buf == NULL: an absent view. */
typedef struct tl_view {
    tl_buf *buf;
    uint64_t off_bytes;
    uint32_t rows, cols;
    tl_dtype dtype;
} tl_view;

struct tl_dev_params {
    uint32_t index;     /* which device of the backend */
    uint32_t n_threads; /* CPU only; 0: the physical cores this process may use */
    /* CPU only: the best instruction set it may use; NULL for all that the machine has, "plain" for
     * the specification, "avx2", "avx512". Parity tests lay one over the other with it. */
    const char *isa_max;
    /* A folder for what a backend keeps between runs (compiled kernels); made when it is missing.
     * NULL: nothing is kept. */
    const char *cache_dir;
    /* Tests only: what a backend pretends or checks, words of its own with commas between; NULL:
     * nothing. Vulkan's are in backends/vulkan/vulkan.h. */
    const char *debug;
    tl_log log;
};

enum { TL_DEV_FEATURES_MAX = 16 };
/* Something beyond what a backend needs, used where it is there. */
struct tl_dev_feature {
    const char *name, *cost; /* of doing without: a phrase */
    bool present;
};

struct tl_dev_caps {
    char name[128];       /* "AMD EPYC 9965, 2 threads" */
    char kernels[64];     /* kernel class in use: "avx512-vnni" */
    uint64_t bytes_total; /* 0: not known */
    uint64_t bytes_free;  /* 0: not known */
    uint32_t n_threads;   /* CPU only, else 0 */
    bool unified;         /* TL_MEM_DEVICE is host memory */
    bool immediate;       /* an op has happened when its call returns */
    struct tl_dev_feature features[TL_DEV_FEATURES_MAX];
    uint32_t n_features;
    bool codebooks; /* its sketches may be vector-quantised (TL_CODEC_VQ_*) */
};

/* y[i] := scale * src[idx[i]].  y (n, cols) f32; src (any, cols) any dtype; idx (n, 1) i32, each
 * 0 <= idx < src.rows (an id outside is a bug of the caller). */
struct tl_gather {
    tl_view y, src, idx;
    float scale;
};

/* y (+)= x w^T + bias, then y := cap * tanh(y / cap) where softcap is not 0.
 * x (n, k) f32; w (m, k) any weight dtype; y (n, m) f32; bias (1, m) f32 or absent.
 * n == 1 is decode's matrix-vector product. y aliases neither x nor w. */
struct tl_matmul {
    tl_view y, x, w, bias;
    bool accumulate;
    float softcap;
};

/* y (+)= x / sqrt(mean(x^2) + eps) * w, row by row.  x, y (n, d) f32; w (1, d) f32.
 * y may be x when not accumulating. Per-head norms: view (n * heads, head_dim). */
struct tl_rmsnorm {
    tl_view y, x, w;
    float eps;
    bool accumulate;
};

typedef enum tl_pairing {
    TL_PAIR_ADJACENT, /* (0,1) (2,3) ...: GGUF llama */
    TL_PAIR_HALF,     /* (0,r/2) (1,r/2+1) ...: NeoX order, r rotated dimensions */
} tl_pairing;

/* In place: pair j of each head of row i turns by pos[i] * inv_freq[j], and the result of rotated
 * dimensions is multiplied by `scale` (YaRN's attention factor; else 1). x (n, heads * head_dim)
 * f32; pos (n, 1) i32; inv_freq (1, r / 2) f32, r <= head_dim; dimensions from r on are left. The
 * angle is computed so that it is good to 1e-6 at position 2^20. */
struct tl_rope {
    tl_view x, pos, inv_freq;
    uint32_t head_dim;
    tl_pairing pairing;
    float scale;
};

typedef enum tl_act { TL_ACT_SILU, TL_ACT_GELU_TANH } tl_act;

/* y := act(gate) * up.  All (n, d) f32; y may be gate or up. */
struct tl_glu {
    tl_view y, gate, up;
    tl_act act;
};

/* Rows of a cache: head-major, so that one head's rows are contiguous. Row t of head h is row
 * h * cap + t of k and of v, with cap = k.rows / n_kv_heads. k, v (n_kv_heads * cap, head_dim). */
struct tl_kv_rows {
    tl_view k, v;
    uint32_t n_kv_heads;
};

/* Stores n new rows: row i goes to row slot[i] of every head, converted to the cache's dtype.
 * k, v (n, n_kv_heads * head_dim) f32; slot (n, 1) i32, 0 <= slot < cap. */
struct tl_kv_encode {
    struct tl_kv_rows dst;
    tl_view k, v, slot;
};

/* The widest head there is room for (kernels keep one in registers or on the stack). */
enum { TL_HEAD_DIM_MAX = 512 };

/* Attention of n queries over the first n_rows[0] rows of a cache; row t stands for position t.
 * For query i and head h (with KV head h / (n_heads / n_kv_heads)):
 *   s_t = scale * q . k_t, then softcap * tanh(s_t / softcap) where softcap is not 0, over
 *   t <= q_pos[i] and, where window is not 0, t > q_pos[i] - window;
 *   out = sum softmax(s)_t v_t;  lse = log sum exp s_t.
 * q, out (n, n_heads * head_dim) f32; lse (n, n_heads) f32 or absent; q_pos (n, 1) i32;
 * n_rows (1, 1) i32. A query that sees no row gives out = 0 and lse = -inf. */
struct tl_attend {
    tl_view out, lse, q, q_pos, n_rows;
    struct tl_kv_rows kv;
    uint32_t n_heads;
    float scale, softcap;
    uint32_t window;
};

/* ---- The hybrid cache: compressed rows, selection, exact rows fetched from their home ---- */

/* The compressed copy of a layer's rows, blocks of TL_BLOCK rows as codec.h draws them: block b of
 * KV head h is row h * cap + b of k and of v, with cap = k.rows / n_kv_heads. k (n_kv_heads * cap,
 * tl_codec_key_bytes) u8; v likewise with tl_codec_value_bytes. A side whose codec is
 * vector-quantised has blocks as vq.h draws them and its codebook (entries, numbers) f16, and such
 * keys their smoothing factors (n_kv_heads, head_dim) f32; else these are absent. */
struct tl_sketch {
    tl_view k, v;
    tl_codec k_codec, v_codec;
    uint32_t n_kv_heads, head_dim;
    tl_view k_book, v_book, smooth;
};

/* Encodes n_blocks blocks: rows src_row + 64 i ... of src, of every KV head, become block
 * dst_block + i. src f16. Not part of a recorded step, hence plain numbers. fit is of codecs with a
 * minimum and a scale. */
struct tl_compress {
    struct tl_sketch dst;
    struct tl_kv_rows src;
    uint32_t src_row, dst_block, n_blocks;
    tl_fit fit;
};

/* Scores of all compressed rows for one query: score[h][t] = scale * q_h . k_t (soft-capped as in
 * tl_attend), t < n_blocks[0] * TL_BLOCK; other columns are left. q (1, n_heads * head_dim) f32;
 * score (n_heads, cap * TL_BLOCK) f32; n_blocks (1, 1) i32. */
struct tl_key_score {
    tl_view score, q, n_blocks;
    struct tl_sketch sketch;
    uint32_t n_heads;
    float scale, softcap;
};

/* The k best rows of each KV head: among t < n_rows[0] by max over the query heads h of the group
 * of (score[h][t] - most[h]) with most[h] = max_t score[h][t], or base[0][h] where that is present
 * and larger: what other rows add up to, so that a head that looks elsewhere has no say. idx
 * ascending, ties go to the lower row, unused places are -1 and last. The difference is rounded to
 * float; NaNs count neither as scores nor as differences, and a row with nothing above -inf is
 * never chosen. idx (n_kv_heads, k) i32; score (n_heads, any) f32; base (1, n_heads) f32 or absent;
 * n_rows (1, 1) i32. */
struct tl_topk {
    tl_view idx, score, n_rows, base;
};

/* tl_attend over the compressed rows t < n_blocks[0] * TL_BLOCK, all of which every query sees,
 * less those named in skip. score, where present, holds tl_key_score's result for this very query
 * (n == 1) and saves computing it again. skip (n_kv_heads, k) i32 as tl_topk gives it, or absent.
 * q, out (n, n_heads * head_dim) f32; lse (n, n_heads) f32. No row left: out = 0, lse = -inf. */
struct tl_attend_sketch {
    tl_view out, lse, q, n_blocks, score, skip;
    struct tl_sketch sketch;
    uint32_t n_heads;
    float scale, softcap;
};

/* tl_attend over rows named one by one: for KV head h the slots row0 + slot[h][0 .. k) of kv, slot
 * -1 is none. q, out (1, n_heads * head_dim) f32; lse (1, n_heads) f32; slot (n_kv_heads, k) i32.
 */
struct tl_attend_slots {
    tl_view out, lse, q, slot;
    struct tl_kv_rows kv;
    uint32_t row0, n_heads;
    float scale, softcap;
};

/* Copies the exact rows row0 + idx[h][j] of home to slots of hot, those that are not there already.
 * owner[h][s] is the row in slot s, -1 for none, and no row is in two; used[h][s] is 1 when the
 * slot was wanted since the clock's hand last passed it, else 0. hand[h][0] is the slot where the
 * hand stands and 1, or 0: nothing is there, whatever owner and used hold, and the hand begins at
 * slot 0; zeroed memory is an empty hot set. First the slots of all rows that are there become
 * used. Then the rows that are not, in the order of j, each turn the hand: it passes slots wanted
 * by this very op, passes used ones and makes them unused (a second chance), and stops behind the
 * first other one, which the row takes; that slot becomes used and loses its old row. slot[h][j] :=
 * where idx[h][j] is now, -1 for -1. counts (1, 2) i32: [0] += rows that were there, [1] += rows
 * copied. idx is as tl_topk gives it: ascending, -1 last. hot.k.rows / n_kv_heads >= 2 * k. idx,
 * slot (n_kv_heads, k) i32; owner, used (n_kv_heads, slots) i32; hand (n_kv_heads, 1) i32. */
struct tl_fetch {
    struct tl_kv_rows hot, home;
    tl_view idx, slot, owner, used, hand, counts;
    uint32_t row0;
};

/* ---- Other indexes of the same rows: what says, before they are fetched, which are worth it ----
 */

/* Keys channel by channel, and what the largest were: `keys` row h * d + c holds channel c of KV
 * head h, row t of the index in column t; `most` row h * cap + b is, channel by channel, the
 * largest absolute value in blocks 0 .. b, so that forgetting blocks leaves it right, with cap =
 * most.rows / n_kv_heads. keys (n_kv_heads * d, cap * TL_BLOCK) f16; most (n_kv_heads * cap, d)
 * f16. */
struct tl_columns {
    tl_view keys, most;
    uint32_t n_kv_heads;
};

/* Enters n_blocks blocks: rows src_row + 64 i ... of src become block dst_block + i. Blocks are
 * entered in order: dst_block is the number of those there, or less to write them again. NaNs are
 * no largest values. src (n_kv_heads * any, d) f16. Like tl_compress not part of a recorded step.
 */
struct tl_key_transpose {
    struct tl_columns dst;
    tl_view src;
    uint32_t src_row, dst_block, n_blocks;
};

/* The channels that matter to one query (TailorKV eq. 10): for each KV head the channels c with the
 * largest |sum over the group's heads of q[c]| * most[n_blocks[0] - 1][c], ascending; ties go to
 * the lower channel. Sum and product are taken in float in the order of heads; a NaN weighs 0, and
 * without blocks all weigh 0. ids (n_kv_heads, 1 .. d) i32; q (1, n_heads * d) f32; most as in
 * struct tl_columns; n_blocks (1, 1) i32. */
struct tl_channels {
    tl_view ids, q, most, n_blocks;
    uint32_t n_heads;
};

/* Copies channels of the first n_blocks[0] blocks: row h * k + j of part becomes channel held[h][j]
 * of KV head h. Without keep, held := want and all are copied. With keep, what held names is there
 * already: wanted ones that are not take, in their order, the lowest places of those that are not
 * wanted. counts (1, 2) i32: [0] += channels that were there, [1] += channels copied. The ids of
 * one head differ from each other. want, held (n_kv_heads, k) i32; keys as in struct tl_columns;
 * part (n_kv_heads * k, as keys) f16. */
struct tl_channel_fetch {
    tl_view part, keys, want, held, counts, n_blocks;
    bool keep;
};

/* score[h][t] := sum over j of the mean of q[held[h][j]] over the group's heads * part[h * k +
 * j][t], for t < n_blocks[0] * TL_BLOCK; other columns are left. score (n_kv_heads, as part) f32; q
 * (1, n_heads * d) f32; the rest as in tl_channel_fetch. */
struct tl_channel_score {
    tl_view score, q, part, held, n_blocks;
    uint32_t n_heads, head_dim;
};

typedef enum tl_page_kind {
    TL_PAGE_BOUNDS,  /* least and largest: no row scores more than the page (Quest) */
    TL_PAGE_MOMENTS, /* mean and standard deviation */
} tl_page_kind;

/* What is known of the keys of each page of `page` rows (a divisor of TL_BLOCK), channel by
 * channel: page i of KV head h is row h * cap + i, with cap = rows.rows / n_kv_heads: first d
 * numbers of the first sort (least, mean), then d of the second. rows (n_kv_heads * cap, 2 d) f16.
 */
struct tl_pages {
    tl_view rows;
    tl_page_kind kind;
    uint32_t n_kv_heads, page;
};

/* Enters n_blocks blocks of 64 / page pages each, as tl_key_transpose does but in any order. NaNs
 * are taken as 0 and infinities as the largest f16; a zero is positive. src (n_kv_heads * any, d)
 * f16. */
struct tl_page_encode {
    struct tl_pages dst;
    tl_view src;
    uint32_t src_row, dst_block, n_blocks;
};

/* Every row of a page gets the page's score: score[h][t] = scale * s, soft-capped as in tl_attend,
 * with bounds   s = sum_c max(q_c least_c, q_c most_c) moments  s = sum_c q_c mean_c + sigmas *
 * sqrt(sum_c (q_c deviation_c)^2) for t < n_blocks[0] * TL_BLOCK; other columns are left. q (1,
 * n_heads * d) f32; score (n_heads, pages of a head * page) f32; n_blocks (1, 1) i32. */
struct tl_page_score {
    tl_view score, q, n_blocks;
    struct tl_pages pages;
    uint32_t n_heads;
    float scale, softcap, sigmas;
};

/* (out, lse) := (out, lse) joined with (out_b, lse_b), the exact softmax over both sets of rows.
 * out, out_b (n, n_heads * head_dim) f32; lse, lse_b (n, n_heads) f32. */
struct tl_merge {
    tl_view out, lse, out_b, lse_b;
};

/* How few rows hold the attention of some queries. For query i and head h, over the n rows that
 * tl_attend lets it see and with its weights a = softmax(s): held = the sum of the
 * ceil(parts[j] * n / 10000) largest a; mass[h][j] := the mean of held over the queries. A query
 * that sees no row leaves nothing out: 1. Not part of a recorded step. q (n, n_heads * head_dim)
 * f32; q_pos (n, 1) i32; n_rows (1, 1) i32; mass (n_heads, n_parts) f32; v of kv is not read. */
enum { TL_MASS_PARTS_MAX = 16, TL_MASS_WHOLE = 10000 };
struct tl_mass {
    tl_view mass, q, q_pos, n_rows;
    struct tl_kv_rows kv;
    uint32_t n_heads;
    float scale, softcap;
    uint32_t window;
    uint32_t n_parts;
    uint16_t parts[TL_MASS_PARTS_MAX]; /* ascending, 1 .. TL_MASS_WHOLE */
};

struct tl_backend {
    const char *name;
    /* How many devices there are; 0 where the driver is absent. Never an error. */
    uint32_t (*dev_count)(void);
    /* optional: how many of the first of them "auto" may choose; NULL: all. Software drivers run
     * only when their backend is named. */
    uint32_t (*dev_count_auto)(void);
    tl_err (*dev_open)(tl_dev **out, const struct tl_dev_params *params);
    void (*dev_close)(tl_dev *dev);
    void (*dev_caps)(tl_dev *dev, struct tl_dev_caps *out);
    tl_err (*buf_alloc)(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem);
    /* optional: lets kernels read host memory in place (a mapped file); where it is NULL or answers
     * TL_ERR_UNSUPPORTED, core copies. */
    tl_err (*buf_wrap)(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes);
    void (*buf_free)(tl_buf *buf);
    tl_err (*copy)(tl_stream *s, const tl_view *dst, const tl_view *src);
    tl_err (*stream_open)(tl_stream **out, tl_dev *dev);
    void (*stream_close)(tl_stream *s);
    tl_err (*stream_sync)(tl_stream *s);
    tl_err (*event_open)(tl_event **out, tl_dev *dev);
    void (*event_close)(tl_event *e);
    tl_err (*event_record)(tl_stream *s, tl_event *e);
    tl_err (*event_wait)(tl_stream *s, tl_event *e);
    /* optional, both or none; NULL: ops are run one by one as they come. */
    tl_err (*together_begin)(tl_stream *s);
    tl_err (*together_end)(tl_stream *s);
    /* optional, all four or none; NULL: core enqueues the ops of a step one by one, each time. */
    tl_err (*capture_begin)(tl_stream *const *streams, uint32_t n);
    tl_err (*capture_end)(tl_graph **out, tl_stream *const *streams, uint32_t n);
    tl_err (*graph_run)(tl_graph *g, tl_stream *s);
    void (*graph_close)(tl_graph *g);
    tl_err (*gather)(tl_stream *s, const struct tl_gather *op);
    tl_err (*matmul)(tl_stream *s, const struct tl_matmul *op);
    tl_err (*rmsnorm)(tl_stream *s, const struct tl_rmsnorm *op);
    tl_err (*rope)(tl_stream *s, const struct tl_rope *op);
    tl_err (*glu)(tl_stream *s, const struct tl_glu *op);
    tl_err (*kv_encode)(tl_stream *s, const struct tl_kv_encode *op);
    tl_err (*attend)(tl_stream *s, const struct tl_attend *op);
    tl_err (*compress)(tl_stream *s, const struct tl_compress *op);
    tl_err (*key_score)(tl_stream *s, const struct tl_key_score *op);
    tl_err (*topk)(tl_stream *s, const struct tl_topk *op);
    tl_err (*attend_sketch)(tl_stream *s, const struct tl_attend_sketch *op);
    tl_err (*attend_slots)(tl_stream *s, const struct tl_attend_slots *op);
    tl_err (*fetch)(tl_stream *s, const struct tl_fetch *op);
    tl_err (*merge)(tl_stream *s, const struct tl_merge *op);
    tl_err (*mass)(tl_stream *s, const struct tl_mass *op);
    tl_err (*key_transpose)(tl_stream *s, const struct tl_key_transpose *op);
    tl_err (*channels)(tl_stream *s, const struct tl_channels *op);
    tl_err (*channel_fetch)(tl_stream *s, const struct tl_channel_fetch *op);
    tl_err (*channel_score)(tl_stream *s, const struct tl_channel_score *op);
    tl_err (*page_encode)(tl_stream *s, const struct tl_page_encode *op);
    tl_err (*page_score)(tl_stream *s, const struct tl_page_score *op);
};

/* The compiled-in backends, best first, NULL-terminated (backends/registry.c). */
extern const tl_backend *const tl_backends[];
/* By name, NULL when it is not compiled in. */
const tl_backend *tl_backend_find(const char *name);

/* TL_ERR_UNSUPPORTED: no such device. */
TL_MUST tl_err tl_dev_open(tl_dev **out, const tl_backend *backend,
                           const struct tl_dev_params *params);
void tl_dev_close(tl_dev **dev);
void tl_dev_get_caps(tl_dev *dev, struct tl_dev_caps *out);

/* Zero-filled. Owned by the caller, who frees it after tl_stream_sync. */
TL_MUST tl_err tl_buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem);
/* Read-only, in place where the backend can, else a copy; host must outlive it. */
TL_MUST tl_err tl_buf_wrap(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes);
void tl_buf_free(tl_buf **buf);

/* Bytes of the buffers that are open, or were at the worst moment, by what they are. */
struct tl_usage {
    uint64_t device, host; /* allocated: TL_MEM_DEVICE, TL_MEM_HOST */
    uint64_t wrapped;      /* memory of the caller's that kernels read in place */
};
void tl_dev_usage(const tl_dev *dev, struct tl_usage *now, struct tl_usage *peak);

/* Host memory through which weights go to a device that cannot read them in place, at most. */
#define TL_UPLOAD_BYTES (64ull << 20)

TL_MUST tl_err tl_stream_open(tl_stream **out, tl_dev *dev);
void tl_stream_close(tl_stream **s);
/* Returns when all that was enqueued on s has happened, and is seen by the host. What the host
 * wrote before it enqueued an op, the op sees. Not inside a capture. */
TL_MUST tl_err tl_stream_sync(tl_stream *s);

/* Order across streams of one device. What is enqueued on `s` behind tl_event_wait happens after
 * what was enqueued before the newest tl_event_record of `e`, and sees what it wrote. A wait for an
 * event that was never recorded is a bug. Calls come in an order in which all ops could run one by
 * one: a backend with a single queue may enqueue both streams into it as they come, and then an
 * event is at most a barrier. */
TL_MUST tl_err tl_event_open(tl_event **out, tl_dev *dev);
void tl_event_close(tl_event **e); /* after tl_stream_sync of the streams that wait for it */
TL_MUST tl_err tl_event_record(tl_stream *s, tl_event *e);
TL_MUST tl_err tl_event_wait(tl_stream *s, tl_event *e);

/* Recorded steps. Between begin and end nothing is run: what is enqueued on `streams` (n of them,
 * each once, drained by tl_stream_sync before) is recorded in *out instead: every op, tl_copy,
 * tl_event_record, and tl_event_wait for events that were recorded in the same capture. Not legal
 * in between: anything else on these streams (sync, tl_graph_run, a second begin). Ops keep the
 * values of their structs, and the buffers of their views must outlive the graph; what views hold
 * is read when the graph runs, hence they can change from run to run. tl_graph_run enqueues the
 * whole on s, where it counts as one op: none of its ops begins before all that stands before it in
 * s is done, and what stands behind it in s begins when all of them are done, whichever stream they
 * were recorded on; inside, only the order of each stream and the events hold. s may be any stream
 * of the device; runs of one graph never overlap. begin returns TL_ERR_UNSUPPORTED where the device
 * cannot, and then nothing has begun. After an op that failed end is still called, gives up the
 * capture and fails too. */
enum { TL_CAPTURE_STREAMS_MAX = 2 };
TL_MUST tl_err tl_capture_begin(tl_stream *const *streams, uint32_t n);
TL_MUST tl_err tl_capture_end(tl_graph **out, tl_stream *const *streams, uint32_t n);
TL_MUST tl_err tl_graph_run(tl_graph *g, tl_stream *s);
void tl_graph_close(tl_graph **g); /* after tl_stream_sync of the streams it was run on */

/* The ops of several sequences at once. What is enqueued on s from begin to end is of one verb and
 * alike: all is equal but the buffers and offsets of views, and no op touches what another one
 * writes. So a device may hold ops back and run all of them by one launch when end is called.
 * Inside a capture too; nothing else may be enqueued on s in between. After an error end is still
 * called. */
TL_MUST tl_err tl_together_begin(tl_stream *s);
TL_MUST tl_err tl_together_end(tl_stream *s);

/* A view of `rows` x `cols` at a byte offset; asserts that it lies inside. */
tl_view tl_view_of(tl_buf *buf, uint64_t off_bytes, uint32_t rows, uint32_t cols, tl_dtype dtype);
/* Rows [first, first + rows) of a view. */
tl_view tl_view_rows(tl_view v, uint32_t first, uint32_t rows);
/* The same bytes as another shape of as many elements. */
tl_view tl_view_reshape(tl_view v, uint32_t rows, uint32_t cols);
uint64_t tl_view_bytes(tl_view v);
/* First byte for the CPU; the buffer must have `host`. */
void *tl_view_host(tl_view v);
/* Where the host writes and reads what v is to hold: the same bytes of its buffer's twin, or v. */
static inline tl_view tl_view_twin(tl_view v) {
    v.buf = v.buf->twin != NULL ? v.buf->twin : v.buf;
    return v;
}
/* True where a byte belongs to both; absent views overlap nothing. */
bool tl_view_overlap(const tl_view *a, const tl_view *b);

/* Views of equal bytes and dtype, any memory to any memory. */
TL_MUST tl_err tl_copy(tl_stream *s, tl_view dst, tl_view src);
TL_MUST tl_err tl_gather(tl_stream *s, const struct tl_gather *op);
TL_MUST tl_err tl_matmul(tl_stream *s, const struct tl_matmul *op);
TL_MUST tl_err tl_rmsnorm(tl_stream *s, const struct tl_rmsnorm *op);
TL_MUST tl_err tl_rope(tl_stream *s, const struct tl_rope *op);
TL_MUST tl_err tl_glu(tl_stream *s, const struct tl_glu *op);
TL_MUST tl_err tl_kv_encode(tl_stream *s, const struct tl_kv_encode *op);
TL_MUST tl_err tl_attend(tl_stream *s, const struct tl_attend *op);
TL_MUST tl_err tl_compress(tl_stream *s, const struct tl_compress *op);
TL_MUST tl_err tl_key_score(tl_stream *s, const struct tl_key_score *op);
TL_MUST tl_err tl_topk(tl_stream *s, const struct tl_topk *op);
TL_MUST tl_err tl_attend_sketch(tl_stream *s, const struct tl_attend_sketch *op);
TL_MUST tl_err tl_attend_slots(tl_stream *s, const struct tl_attend_slots *op);
TL_MUST tl_err tl_fetch(tl_stream *s, const struct tl_fetch *op);
TL_MUST tl_err tl_merge(tl_stream *s, const struct tl_merge *op);
TL_MUST tl_err tl_mass(tl_stream *s, const struct tl_mass *op);
TL_MUST tl_err tl_key_transpose(tl_stream *s, const struct tl_key_transpose *op);
TL_MUST tl_err tl_channels(tl_stream *s, const struct tl_channels *op);
TL_MUST tl_err tl_channel_fetch(tl_stream *s, const struct tl_channel_fetch *op);
TL_MUST tl_err tl_channel_score(tl_stream *s, const struct tl_channel_score *op);
TL_MUST tl_err tl_page_encode(tl_stream *s, const struct tl_page_encode *op);
TL_MUST tl_err tl_page_score(tl_stream *s, const struct tl_page_score *op);

/* The bytes an op must move at least (each operand once); what benches divide by. */
uint64_t tl_matmul_bytes(const struct tl_matmul *op);
uint64_t tl_attend_bytes(const struct tl_attend *op, uint64_t n_rows);
uint64_t tl_key_score_bytes(const struct tl_key_score *op, uint64_t n_blocks);
uint64_t tl_attend_sketch_bytes(const struct tl_attend_sketch *op, uint64_t n_blocks);
uint64_t tl_attend_slots_bytes(const struct tl_attend_slots *op);
uint64_t tl_channel_fetch_bytes(const struct tl_channel_fetch *op, uint64_t n_blocks);
uint64_t tl_channel_score_bytes(const struct tl_channel_score *op, uint64_t n_blocks);
uint64_t tl_page_score_bytes(const struct tl_page_score *op, uint64_t n_blocks);

#ifdef __cplusplus
}
#endif

#endif
