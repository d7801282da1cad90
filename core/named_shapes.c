/* The table, and how a row of it becomes a shape: what files say beside it (epsilons, rotary bases)
 * has no part in plans and is left at something harmless. */
#include "named_shapes.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* name, family, layers, width, heads, KV heads, head size, feed-forward, vocabulary, context */
const struct tl_named_shape tl_named_shapes[] = {
    {"llama-3.1-8b", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 0, 0, false},
    {"llama-3.2-1b", "llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 0, 0, true},
    {"llama-3.2-3b", "llama", 28, 3072, 24, 8, 128, 8192, 128256, 131072, 0, 0, true},
    {"llama-2-7b", "llama", 32, 4096, 32, 32, 128, 11008, 32000, 4096, 0, 0, false},
    {"mistral-7b", "llama", 32, 4096, 32, 8, 128, 14336, 32768, 32768, 0, 0, false},
    {"mistral-nemo", "llama", 40, 5120, 32, 8, 128, 14336, 131072, 131072, 0, 0, false},
    {"yi-6b-200k", "llama", 32, 4096, 32, 4, 128, 11008, 64000, 200000, 0, 0, false},
    {"yi-9b-200k", "llama", 48, 4096, 32, 4, 128, 11008, 64000, 262144, 0, 0, false},
    {"qwen2.5-0.5b", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, 32768, 0, 0, true},
    {"qwen2.5-1.5b", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, 32768, 0, 0, true},
    {"qwen2.5-7b", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, 131072, 0, 0, false},
    {"qwen2.5-14b", "qwen2", 48, 5120, 40, 8, 128, 13824, 152064, 131072, 0, 0, false},
    {"qwen3-4b", "qwen3", 36, 2560, 32, 8, 128, 9728, 151936, 40960, 0, 0, true},
    {"qwen3-8b", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, 40960, 0, 0, false},
    {"qwen3-14b", "qwen3", 40, 5120, 40, 8, 128, 17408, 151936, 40960, 0, 0, false},
    {"gemma-2-9b", "gemma2", 42, 3584, 16, 8, 256, 14336, 256000, 8192, 4096, 2, true},
    {"gemma-3-4b", "gemma3", 34, 2560, 8, 4, 256, 10240, 262144, 131072, 1024, 6, true},
    {"gemma-3-12b", "gemma3", 48, 3840, 16, 8, 256, 15360, 262144, 131072, 1024, 6, true},
    {"phi-3-mini", "phi3", 32, 3072, 32, 32, 96, 8192, 32064, 131072, 0, 0, false},
    {.name = NULL},
};

/* Letters and digits, small, compared. */
static bool same_name(const char *a, const char *b) {
    while (true) {
        while (*a != '\0' && !isalnum((unsigned char)*a)) {
            a++;
        }
        while (*b != '\0' && !isalnum((unsigned char)*b)) {
            b++;
        }
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
            return false;
        }
        if (*a == '\0') {
            return true;
        }
        a++;
        b++;
    }
}

const struct tl_named_shape *tl_named_shape_find(const char *name) {
    for (const struct tl_named_shape *s = tl_named_shapes; s->name != NULL; s++) {
        if (same_name(s->name, name)) {
            return s;
        }
    }
    return NULL;
}

void tl_named_shape_get(const struct tl_named_shape *named, struct tl_shape *out) {
    const struct tl_family *const family = tl_family_find(tl_str_from(named->family));
    TL_ASSERT(family != NULL);
    *out = (struct tl_shape){.family = family,
                             .n_vocab = named->n_vocab,
                             .n_embd = named->n_embd,
                             .n_layers = named->n_layers,
                             .n_heads = named->n_heads,
                             .n_kv_heads = named->n_kv_heads,
                             .head_dim = named->head_dim,
                             .n_ff = named->n_ff,
                             .n_ctx_train = named->n_ctx,
                             .n_rot = named->head_dim,
                             .norm_eps = 1e-5f,
                             .attn_scale = 1 / sqrtf((float)named->head_dim),
                             .attn_softcap = family->attn_softcap,
                             .logit_softcap = family->logit_softcap,
                             .embd_scale = 1};
    snprintf(out->name, sizeof out->name, "%s", named->name);
    tl_shape_set_windows(out, named->window, named->window_period);
}

struct tl_blank tl_named_shape_blank(const struct tl_named_shape *named, tl_dtype weights) {
    const bool small_k = weights >= TL_Q2_K && weights < TL_Q6_K;
    return (struct tl_blank){
        .layers = weights, .outside = small_k ? TL_Q6_K : weights, .tied = named->tied};
}
