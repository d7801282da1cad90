/* Presets and knobs. A preset is nothing but a named policy; everything a command line or a policy
 * file can say is one knob set by name. */
#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tl_codec_names[] = {"none",     "q8",      "int4",    "int2",     "int1",
                                      "vq-d2b8",  "vq-d4b8", "vq-d8b8", "vq-d8b12", "vq-d4b10",
                                      "vq-d8b10", "vq-d2b4", NULL};
const char *const tl_home_names[] = {"none", "device", "host", NULL};
const char *const tl_select_names[] = {"all", "none", "topk", NULL};
const char *const tl_rest_names[] = {"drop", "sketch", NULL};
const char *const tl_fit_names[] = {"range", "squares", NULL};
const char *const tl_index_names[] = {"codes", "channels", "pages", "meanstd", NULL};
const char *const tl_predict_names[] = {"check", "trust", "none", NULL};

/* Contexts up to here stay exact by default: Llama-3.1-8B has 512 MiB of rows then, which `tailor`
 * would make 98, beside 4.5 GiB of weights in 4 bits; and on the CPU its steps are slower than
 * those of `full` there. */
enum { SMALL_CTX = 4096 };

/* What a policy has of an index it does not use, so that changing one knob is enough. */
#define INDEX_SIZES .channels = 12, .page = 16
#define SKETCH_ONLY(codec, rows)                                                                   \
    {                                                                                              \
        .recent = (rows), .k_codec = (codec), .v_codec = (codec), .select = TL_SELECT_NONE,        \
        .rest = TL_REST_SKETCH, INDEX_SIZES                                                        \
    }
#define EXACT(where)                                                                               \
    { .home = (where), .select = TL_SELECT_ALL, INDEX_SIZES }

/* TailorKV's settings for long tasks (InfiniteBench, RULER): 64 + 64 rows stay, 896 are fetched, by
 * 12 channels; for LongBench 8 + 56, 128, by 8 channels. */
#define TAILORKV_SPARSE                                                                            \
    {                                                                                              \
        .sink = 64, .recent = 64, .home = TL_HOME_HOST, .select = TL_SELECT_TOPK, .topk = 896,     \
        .index = TL_INDEX_CHANNELS, INDEX_SIZES, .rest = TL_REST_DROP, .hot = 2048                 \
    }
/* Its dense layers are KIVI's but for the fit and the keys of tailor1. With the range of each
 * group, one bit answers 1 of 4 tasks of the constructed retrieval model at 4 to 5 thousand rows,
 * with least squares 4 of 4. Of 28 more, of 24 needles and 6 thousand rows (seven seeds, formats
 * and numbers of heads, four each), keys in one bit lose 7, in two bits 1: needles that differ
 * little round to the same codes. Values may keep one. */
#define TAILORKV_DENSE(keys, values)                                                               \
    {                                                                                              \
        .recent = 128, .k_codec = (keys), .v_codec = (values), .select = TL_SELECT_NONE,           \
        .rest = TL_REST_SKETCH, .fit = TL_FIT_SQUARES, INDEX_SIZES                                 \
    }
static const struct tl_policy tailor1_dense = TAILORKV_DENSE(TL_CODEC_INT2, TL_CODEC_INT1);
static const struct tl_policy tailor2_dense = TAILORKV_DENSE(TL_CODEC_INT2, TL_CODEC_INT2);

static const struct tl_policy whole = EXACT(TL_HOME_DEVICE);

const struct tl_preset tl_presets[] = {
    {"full", "every row exact on the device", EXACT(TL_HOME_DEVICE), NULL, 0},
    {"q8", "rows behind the newest 64 in 8 bits", SKETCH_ONLY(TL_CODEC_Q8, 64), NULL, 0},
    {"q4", "the same in 4 bits", SKETCH_ONLY(TL_CODEC_INT4, 64), NULL, 0},
    {"kivi2", "rows behind the newest 128 in 2 bits", SKETCH_ONLY(TL_CODEC_INT2, 128), NULL, 0},
    {"kivi1", "the same in 1 bit", SKETCH_ONLY(TL_CODEC_INT1, 128), NULL, 0},
    {"vecinfer4", "VecInfer: rows behind the newest 128 by a codebook, in 4 bits",
     SKETCH_ONLY(TL_CODEC_VQ_D2B8, 128), NULL, 0},
    {"vecinfer2", "the same in 2 bits", SKETCH_ONLY(TL_CODEC_VQ_D4B8, 128), NULL, 0},
    {"vecinfer1", "the same in 1 bit", SKETCH_ONLY(TL_CODEC_VQ_D8B8, 128), NULL, 0},
    {"offload", "every row exact in host memory, streamed at each step", EXACT(TL_HOME_HOST), NULL,
     0},
    /* Resident: 2.5 bits a number with their scales, 88 rows of the window and at least 64 slots;
     * from 15 thousand rows on less than a sixth of the exact cache, which more slots then fill.
     * Codes are fitted by least squares: with ranges the divergence from the exact cache was 0.119,
     * not 0.026 (demo model, 1152 tokens of stories). Coarse keys cost more than few rows: at equal
     * bytes (a demo model in training, 4096 tokens of Alice) 1 bit and 192 rows diverge by 0.080, 2
     * bits and 40 rows by 0.029; at 16384 tokens 0.080 and 0.022. */
    {"tailor",
     "a sketch of every row in 2 bits, by which the best are fetched exactly from host memory: as "
     "many "
     "as a sixth of the exact cache has room for, 32 to 512",
     {.sink = 8,
      .recent = 16,
      .k_codec = TL_CODEC_INT2,
      .v_codec = TL_CODEC_INT2,
      .home = TL_HOME_HOST,
      .select = TL_SELECT_TOPK,
      .topk = 32,
      INDEX_SIZES,
      .rest = TL_REST_SKETCH,
      .hot = 64,
      .fit = TL_FIT_SQUARES,
      .share = 6},
     NULL,
     0},
    {"tailor1",
     "TailorKV: 896 rows fetched by 12 channels of all keys; dense layers with keys in 2 bits and "
     "values in 1 "
     "(the paper's 1 and 1: dense.k_codec=int1; its settings for LongBench: "
     "topk=128,channels=8,sink=8,recent=56)",
     TAILORKV_SPARSE, &tailor1_dense, 0},
    {"tailor2", "the same with dense layers in 2 bits", TAILORKV_SPARSE, &tailor2_dense, 0},
    {"quest",
     "Quest: 64 pages of 16 rows fetched by the bounds of their keys, the first two layers exact",
     {.recent = 64,
      .home = TL_HOME_HOST,
      .select = TL_SELECT_TOPK,
      .topk = 1024,
      .index = TL_INDEX_PAGES,
      INDEX_SIZES,
      .rest = TL_REST_DROP,
      .hot = 2048},
     &whole,
     2},
    {NULL, NULL, {0}, NULL, 0},
};

const struct tl_preset *tl_preset_find(const char *name) {
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        if (strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

const struct tl_preset *tl_preset_default(uint32_t n_ctx, uint32_t head_dim) {
    return tl_preset_find(n_ctx <= SMALL_CTX || !tl_codec_fits(head_dim) ? "full" : "tailor");
}

static bool has_sketch(const struct tl_policy *p) {
    return p->k_codec != TL_CODEC_NONE && p->v_codec != TL_CODEC_NONE;
}

static bool has_pages(const struct tl_policy *p) {
    return p->index == TL_INDEX_PAGES || p->index == TL_INDEX_MEANSTD;
}

/* The first contradiction, or NULL. */
static const char *contradiction(const struct tl_policy *p) {
    if ((p->k_codec == TL_CODEC_NONE) != (p->v_codec == TL_CODEC_NONE)) {
        return "k_codec and v_codec: both or neither";
    }
    if (p->sink > TL_WINDOW_MAX || p->recent > TL_WINDOW_MAX) {
        return "sink and recent: at most 65536 rows each";
    }
    if (p->select == TL_SELECT_ALL && p->home == TL_HOME_NONE) {
        return "select all: needs a home for the exact rows";
    }
    if (p->select == TL_SELECT_NONE && !has_sketch(p)) {
        return "select none: needs a codec, or older rows would be lost";
    }
    if (p->select == TL_SELECT_NONE && p->rest != TL_REST_SKETCH) {
        return "select none: rest must be sketch, or older rows would be lost";
    }
    if (p->select != TL_SELECT_TOPK) {
        return NULL;
    }
    if (p->topk == 0 || p->topk > TL_TOPK_MAX) {
        return "topk: between 1 and 65536";
    }
    if (p->home == TL_HOME_NONE) {
        return "select topk: needs a home for the exact rows";
    }
    if (!has_sketch(p) && p->index == TL_INDEX_CODES) {
        return "index codes: needs a codec, whose codes it scans";
    }
    if (!has_sketch(p) && p->rest == TL_REST_SKETCH) {
        return "rest sketch: needs a codec";
    }
    if (p->index == TL_INDEX_CHANNELS && (p->channels == 0 || p->channels > TL_CHANNELS_MAX)) {
        return "channels: between 1 and 512";
    }
    if (has_pages(p) && (p->page == 0 || TL_BLOCK % p->page != 0)) {
        return "page: 1, 2, 4, 8, 16, 32 or 64 rows";
    }
    if (p->hot != 0 && p->hot < 2 * p->topk) {
        return "hot: at least twice topk, or 0";
    }
    if (p->share != 0 && p->hot == 0) {
        return "share: needs slots that can grow (hot)";
    }
    return NULL;
}

tl_err tl_policy_check(const struct tl_policy *p, const tl_log *log) {
    const char *const what = contradiction(p);
    return what == NULL ? TL_OK : tl_fail(log, TL_ERR_FORMAT, "cache policy: %s", what);
}

/* The index of value in names, -1 when it is not there. */
static int name_index(const char *const *names, const char *value) {
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], value) == 0) {
            return i;
        }
    }
    return -1;
}

struct knob {
    const char *name;
    const char *const *values; /* NULL: a number */
    size_t off;
};

#define AT(field) offsetof(struct tl_policy, field)
static const struct knob knobs[] = {
    {"sink", NULL, AT(sink)},
    {"recent", NULL, AT(recent)},
    {"k_codec", tl_codec_names, AT(k_codec)},
    {"v_codec", tl_codec_names, AT(v_codec)},
    {"home", tl_home_names, AT(home)},
    {"select", tl_select_names, AT(select)},
    {"topk", NULL, AT(topk)},
    {"index", tl_index_names, AT(index)},
    {"channels", NULL, AT(channels)},
    {"predict", tl_predict_names, AT(predict)},
    {"page", NULL, AT(page)},
    {"rest", tl_rest_names, AT(rest)},
    {"hot", NULL, AT(hot)},
    {"fit", tl_fit_names, AT(fit)},
    {"share", NULL, AT(share)}, /* behind topk and hot, which set it to 0 */
};
enum { N_KNOBS = sizeof knobs / sizeof knobs[0] };
_Static_assert(sizeof(tl_codec) == 4 && sizeof(tl_home) == 4 && sizeof(tl_select) == 4 &&
                   sizeof(tl_rest) == 4 && sizeof(tl_fit) == 4 && sizeof(tl_index) == 4 &&
                   sizeof(tl_predict) == 4,
               "knobs are stored as 32-bit numbers");

tl_err tl_policy_set(struct tl_policy *p, const char *knob, const char *value, const tl_log *log) {
    for (size_t i = 0; i < N_KNOBS; i++) {
        if (strcmp(knobs[i].name, knob) != 0) {
            continue;
        }
        uint32_t number = 0;
        bool ok = false;
        if (knobs[i].values != NULL) {
            const int index = name_index(knobs[i].values, value);
            ok = index >= 0;
            number = ok ? (uint32_t)index : 0;
        } else {
            char *end = NULL;
            errno = 0;
            const unsigned long long n = strtoull(value, &end, 10);
            ok =
                value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0 && n <= UINT32_MAX;
            number = ok ? (uint32_t)n : 0;
        }
        if (!ok) {
            return tl_fail(log, TL_ERR_FORMAT, "cache policy: %s cannot be '%s'", knob, value);
        }
        memcpy((char *)p + knobs[i].off, &number, sizeof number);
        if (knobs[i].off == AT(topk) || knobs[i].off == AT(hot) || knobs[i].off == AT(k_codec)) {
            p->share = 0;
        }
        return TL_OK;
    }
    return tl_fail(log, TL_ERR_FORMAT, "cache policy: there is no knob '%s'", knob);
}

const char *tl_policy_get(const struct tl_policy *p, const char *knob, char *text, size_t cap) {
    for (size_t i = 0; i < N_KNOBS; i++) {
        if (strcmp(knobs[i].name, knob) == 0) {
            uint32_t number;
            memcpy(&number, (const char *)p + knobs[i].off, sizeof number);
            if (knobs[i].values != NULL) {
                return knobs[i].values[number];
            }
            snprintf(text, cap, "%u", number);
            return text;
        }
    }
    return NULL;
}

#undef AT

const char *tl_policy_knob(size_t i) { return i < N_KNOBS ? knobs[i].name : NULL; }
