/* The vocabulary: reading it from a model file, finding tokens by spelling, and the way of a text
 * through the parts of the tokenizer:
 *
 *   text -> spans: added tokens and what is between them        token_special.c
 *        -> words, by the named pre-tokenizer's patterns        token_pre.c   (byte-level BPE)
 *           or stretches that nothing merges across             token_spm.c   (SentencePiece)
 *        -> pieces, merged by rank or by score                  token_merge.c
 *        -> ids, and back to text                               token_text.c
 *
 * What the file says is hostile: ids are checked against the number of tokens here, once, and no
 * array is read past its end. Where it is only odd (a special id out of range, tokens spelt alike,
 * merges of what is no token), it is read as llama.cpp reads it. */
#include "token_priv.h"

#include <stdlib.h>

enum {
    TOKENS_MAX = 1 << 28,
    TEXT_LEN_MAX = 1 << 30, /* bytes; places in a text, tripled by escaped spaces, fit 32 bits */
};

tl_err tl_ids_add(tl_ids *ids, uint32_t id) {
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap > 0 ? 2 * ids->cap : 64;
        uint32_t *const data =
            cap < SIZE_MAX / sizeof *data ? realloc(ids->data, cap * sizeof *data) : NULL;
        if (data == NULL) {
            return TL_ERR_MEMORY;
        }
        ids->data = data;
        ids->cap = cap;
    }
    ids->data[ids->n++] = id;
    return TL_OK;
}

void tl_ids_free(tl_ids *ids) {
    free(ids->data);
    *ids = (tl_ids){0};
}

uint64_t tl_token_hash(const void *data, size_t n) {
    const uint64_t factor = 0x9E3779B97F4A7C15u;
    const uint8_t *p = data;
    uint64_t hash = n * factor;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        hash = (hash ^ word) * factor;
        hash ^= hash >> 32;
    }
    uint64_t tail = 0;
    memcpy(&tail, p, n);
    hash = (hash ^ tail) * factor;
    return hash ^ hash >> 32;
}

static tl_err index_spellings(tl_vocab *v) {
    uint32_t n_slots = 64;
    while (n_slots < 2 * v->n) {
        n_slots *= 2;
    }
    v->spellings = calloc(n_slots, sizeof *v->spellings);
    if (v->spellings == NULL) {
        return TL_ERR_MEMORY;
    }
    v->spelling_mask = n_slots - 1;
    for (uint32_t id = 0; id < v->n; id++) {
        const tl_str spelling = v->tokens[id].spelling;
        const uint64_t hash = tl_token_hash(spelling.data, spelling.len);
        uint32_t i = (uint32_t)hash & v->spelling_mask;
        while (v->spellings[i].id_plus_1 != 0 &&
               !(v->spellings[i].hash_above == hash >> 32 &&
                 tl_str_eq(v->tokens[v->spellings[i].id_plus_1 - 1].spelling, spelling))) {
            i = (i + 1) & v->spelling_mask;
        }
        /* Of tokens spelt alike the last one is found. */
        v->spellings[i] = (struct tl_spelling_slot){(uint32_t)(hash >> 32), id + 1};
        v->spelling_max = spelling.len > v->spelling_max ? spelling.len : v->spelling_max;
    }
    return TL_OK;
}

uint32_t tl_vocab_find(const tl_vocab *v, tl_str text) {
    if (text.len == 0 || text.len > v->spelling_max) {
        return TL_TOKEN_NONE;
    }
    const uint64_t hash = tl_token_hash(text.data, text.len);
    for (uint32_t i = (uint32_t)hash & v->spelling_mask; v->spellings[i].id_plus_1 != 0;
         i = (i + 1) & v->spelling_mask) {
        const uint32_t id = v->spellings[i].id_plus_1 - 1;
        if (v->spellings[i].hash_above == hash >> 32 && tl_str_eq(v->tokens[id].spelling, text)) {
            return id;
        }
    }
    return TL_TOKEN_NONE;
}

uint32_t tl_vocab_find_hash(const tl_vocab *v, uint64_t hash) {
    uint32_t i = (uint32_t)hash & v->spelling_mask;
    while (v->spellings[i].id_plus_1 != 0 && v->spellings[i].hash_above != hash >> 32) {
        i = (i + 1) & v->spelling_mask;
    }
    return v->spellings[i].id_plus_1 - 1;
}

static uint8_t known_type(int64_t type) {
    return type >= TL_TOKEN_NORMAL && type <= TL_TOKEN_BYTE ? (uint8_t)type : TL_TOKEN_NORMAL;
}

static tl_err read_tokens(tl_vocab *v, const tl_weights *w) {
    const struct tl_meta *tokens, *scores, *types;
    TL_TRY(tl_meta_get_array(w, "tokenizer.ggml.tokens", TL_REQUIRED, TL_META_STR, &tokens));
    TL_TRY(tl_meta_get_array(w, "tokenizer.ggml.scores", TL_OPTIONAL, TL_META_F32, &scores));
    TL_TRY(tl_meta_get_array(w, "tokenizer.ggml.token_type", TL_OPTIONAL, TL_META_I32, &types));
    const char *const path = tl_weights_path(w);
    if (tokens->n == 0 || tokens->n > TOKENS_MAX) {
        return tl_fail(&v->log, TL_ERR_FORMAT, "%s: tokenizer.ggml.tokens: %llu tokens", path,
                       (unsigned long long)tokens->n);
    }
    if ((scores != NULL && scores->n < tokens->n) || (types != NULL && types->n < tokens->n)) {
        return tl_fail(&v->log, TL_ERR_FORMAT, "%s: tokenizer.ggml.%s: fewer than the %llu tokens",
                       path, scores != NULL && scores->n < tokens->n ? "scores" : "token_type",
                       (unsigned long long)tokens->n);
    }
    v->n = (uint32_t)tokens->n;
    v->tokens = calloc(v->n, sizeof *v->tokens);
    if (v->tokens == NULL) {
        return TL_ERR_MEMORY;
    }
    const uint8_t *at = tokens->data;
    for (uint32_t i = 0; i < v->n; i++) {
        v->tokens[i] = (struct tl_token){
            .spelling = tl_meta_next_str(&at),
            .score = scores != NULL ? (float)tl_meta_float_at(scores, i) : 0.0f,
            .type = types != NULL ? known_type(tl_meta_int_at(types, i)) : TL_TOKEN_NORMAL,
        };
    }
    return index_spellings(v);
}

/* A special id that is no token is as good as absent. */
static tl_err read_id(const tl_vocab *v, const tl_weights *w, const char *key, uint32_t *id) {
    uint32_t said = TL_TOKEN_NONE;
    TL_TRY(tl_meta_get_u32(w, key, TL_OPTIONAL, &said));
    if (said < v->n) {
        *id = said;
    } else if (said != TL_TOKEN_NONE) {
        tl_say(&v->log, TL_LEVEL_WARN, "%s: %s is %u, which is no token: not used",
               tl_weights_path(w), key, said);
    }
    if (*id >= v->n) {
        *id = TL_TOKEN_NONE;
    }
    return TL_OK;
}

static void make_end(tl_vocab *v, uint32_t id) {
    if (id != TL_TOKEN_NONE) {
        v->tokens[id].flags |= TL_TOKEN_IS_END;
    }
}

/* Tokens known by the names that families give them. Many files have them with a wrong type: they
 * are control tokens whatever it says. */
static void mark_by_name(tl_vocab *v) {
    static const char *const ENDS[] = {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "\u2581<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<end_of_utterance>",
        "<eos>",
        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
        /* Padding, or another file begins: what a code model says when its answer is over. */
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
        "<|file_sep|>",
    };
    static const char *const CONTROLS[] = {
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>",
        "<PRE>",          "\u2581<PRE>",  "<\uFF5Cfim\u2581begin\uFF5C>",
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>",
        "<SUF>",          "\u2581<SUF>",  "<\uFF5Cfim\u2581hole\uFF5C>",
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>",
        "<MID>",          "\u2581<MID>",  "<\uFF5Cfim\u2581end\uFF5C>",
    };
    for (size_t i = 0; i < sizeof ENDS / sizeof *ENDS; i++) {
        const uint32_t id = tl_vocab_find(v, tl_str_from(ENDS[i]));
        if (id != TL_TOKEN_NONE) {
            v->tokens[id].type = TL_TOKEN_CONTROL;
            make_end(v, id);
        }
    }
    for (size_t i = 0; i < sizeof CONTROLS / sizeof *CONTROLS; i++) {
        const uint32_t id = tl_vocab_find(v, tl_str_from(CONTROLS[i]));
        if (id != TL_TOKEN_NONE) {
            v->tokens[id].type = TL_TOKEN_CONTROL;
        }
    }
    /* In some vocabularies this is text, the HTML tag. */
    const uint32_t s = tl_vocab_find(v, tl_str_from("</s>"));
    if (s != TL_TOKEN_NONE && v->tokens[s].type == TL_TOKEN_CONTROL) {
        make_end(v, s);
    }
    /* Where answers end in one of these, <|end|> only ends a part of one. */
    if (tl_vocab_find(v, tl_str_from("<|return|>")) != TL_TOKEN_NONE &&
        tl_vocab_find(v, tl_str_from("<|call|>")) != TL_TOKEN_NONE) {
        const uint32_t end = tl_vocab_find(v, tl_str_from("<|end|>"));
        if (end != TL_TOKEN_NONE) {
            v->tokens[end].flags &= (uint8_t)~TL_TOKEN_IS_END;
        }
    }
}

static tl_err read_ids(tl_vocab *v, const tl_weights *w) {
    v->bos = v->is_spm ? 1 : TL_TOKEN_NONE;
    v->eos = v->is_spm ? 2 : TL_TOKEN_NONE;
    v->unk = v->is_spm ? 0 : TL_TOKEN_NONE;
    uint32_t eot = TL_TOKEN_NONE, eom = TL_TOKEN_NONE;
    TL_TRY(read_id(v, w, "tokenizer.ggml.bos_token_id", &v->bos));
    TL_TRY(read_id(v, w, "tokenizer.ggml.eos_token_id", &v->eos));
    TL_TRY(read_id(v, w, "tokenizer.ggml.unknown_token_id", &v->unk));
    /* Some byte-level vocabularies name a token here that they use for something else. */
    if (!v->is_spm && v->unk != TL_TOKEN_NONE && v->tokens[v->unk].type != TL_TOKEN_UNKNOWN) {
        v->unk = TL_TOKEN_NONE;
    }
    TL_TRY(read_id(v, w, "tokenizer.ggml.eot_token_id", &eot));
    TL_TRY(read_id(v, w, "tokenizer.ggml.eom_token_id", &eom));
    mark_by_name(v);
    make_end(v, v->eos);
    make_end(v, eot);
    make_end(v, eom);
    return TL_OK;
}

/* Whether `text` holds `part`, in lower case. */
static bool has_part(tl_str text, const char *part) {
    const size_t n = strlen(part);
    for (size_t i = 0; i + n <= text.len; i++) {
        size_t same = 0;
        while (same < n) {
            const char c = text.data[i + same];
            if ((c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c) != part[same]) {
                break;
            }
            same++;
        }
        if (same == n) {
            return true;
        }
    }
    return false;
}

static void set_strips(tl_vocab *v, const char *spelling, uint8_t strips, bool on) {
    const uint32_t id = tl_vocab_find(v, tl_str_from(spelling));
    if (id != TL_TOKEN_NONE) {
        v->tokens[id].flags =
            (uint8_t)(on ? v->tokens[id].flags | strips : v->tokens[id].flags & ~strips);
    }
}

/* Which tokens swallow white space is published with a model, but no key says it: it goes by the
 * names of the families where it is known. */
static tl_err mark_strips(tl_vocab *v, const tl_weights *w, tl_str pre) {
    tl_str name = {0};
    TL_TRY(tl_meta_get_str(w, "general.name", TL_OPTIONAL, &name));
    if (has_part(pre, "jina-v2-")) {
        set_strips(v, "<mask>", TL_TOKEN_STRIPS_LEFT, true);
    } else if (has_part(name, "phi-3") || has_part(name, "phi3")) {
        for (uint32_t i = 0; i < v->n; i++) {
            const uint8_t type = v->tokens[i].type;
            if (type == TL_TOKEN_CONTROL || type == TL_TOKEN_USER || type == TL_TOKEN_UNKNOWN) {
                v->tokens[i].flags |= TL_TOKEN_STRIPS_RIGHT;
            }
        }
        set_strips(v, "</s>", TL_TOKEN_STRIPS_RIGHT, true);
        set_strips(v, "<unk>", TL_TOKEN_STRIPS_RIGHT, false);
        set_strips(v, "<s>", TL_TOKEN_STRIPS_RIGHT, false);
        set_strips(v, "<|endoftext|>", TL_TOKEN_STRIPS_RIGHT, false);
    }
    return TL_OK;
}

static tl_err read_flags(tl_vocab *v, const tl_weights *w, unsigned pre_flags) {
    v->add_space = v->is_spm;
    v->add_bos = v->is_spm || (pre_flags & TL_PRE_ADDS_BOS) != 0;
    v->whole_words = (pre_flags & TL_PRE_WHOLE_WORDS) != 0;
    v->tidies = (pre_flags & TL_PRE_TIDIES) != 0;
    TL_TRY(tl_meta_get_bool(w, "tokenizer.ggml.add_bos_token", TL_OPTIONAL, &v->add_bos));
    TL_TRY(tl_meta_get_bool(w, "tokenizer.ggml.add_eos_token", TL_OPTIONAL, &v->add_eos));
    if (v->is_spm) {
        TL_TRY(tl_meta_get_bool(w, "tokenizer.ggml.add_space_prefix", TL_OPTIONAL, &v->add_space));
    }
    v->add_bos = v->add_bos && v->bos != TL_TOKEN_NONE;
    v->add_eos = v->add_eos && v->eos != TL_TOKEN_NONE;
    return TL_OK;
}

static tl_err read_vocab(tl_vocab *v, const tl_weights *w) {
    tl_str model = {0}, pre = {0};
    TL_TRY(tl_meta_get_str(w, "tokenizer.ggml.model", TL_REQUIRED, &model));
    TL_TRY(tl_meta_get_str(w, "tokenizer.ggml.pre", TL_OPTIONAL, &pre));
    v->is_spm = tl_str_is(model, "llama");
    if (!v->is_spm && !tl_str_is(model, "gpt2")) {
        return tl_fail(&v->log, TL_ERR_UNSUPPORTED,
                       "%s: tokenizer.ggml.model is '%.*s'; there is 'gpt2' (byte-level BPE) and "
                       "'llama' (SentencePiece BPE)",
                       tl_weights_path(w), model.len < 64 ? (int)model.len : 64, model.data);
    }
    TL_TRY(read_tokens(v, w));
    TL_TRY(read_ids(v, w));
    TL_TRY(mark_strips(v, w, pre));
    unsigned pre_flags = 0;
    if (v->is_spm) {
        TL_TRY(tl_spm_open(v));
    } else {
        TL_TRY(tl_bpe_open(v, w));
        TL_TRY(tl_pre_open(&v->pre, pre, &pre_flags, &v->log));
    }
    TL_TRY(read_flags(v, w, pre_flags));
    return tl_special_open(v);
}

tl_err tl_vocab_open(tl_vocab **out, const tl_weights *w, const tl_log *log) {
    tl_vocab *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return TL_ERR_MEMORY;
    }
    v->log = log != NULL ? *log : (tl_log){0};
    const tl_err err = read_vocab(v, w);
    if (err) {
        tl_vocab_close(&v);
        return err;
    }
    *out = v;
    return TL_OK;
}

void tl_vocab_close(tl_vocab **v) {
    if (*v != NULL) {
        free((*v)->tokens);
        free((*v)->spellings);
        free((*v)->merges);
        free((*v)->joins);
        free((*v)->openings);
        free((*v)->special_lengths);
        tl_pre_close(&(*v)->pre);
        free(*v);
        *v = NULL;
    }
}

static tl_err encode_spans(struct tl_encoder *e, tl_str text, const struct tl_spans *spans) {
    const tl_vocab *const v = e->vocab;
    /* SentencePiece puts its space before a text, and again behind each token found in it. */
    bool begins = true;
    for (size_t i = 0; i < spans->n; i++) {
        const struct tl_span span = spans->data[i];
        if (span.id != TL_TOKEN_NONE) {
            TL_TRY(tl_ids_add(e->ids, span.id));
            begins = true;
        } else if (v->is_spm) {
            const tl_str part = {text.data + span.at, span.len};
            TL_TRY(tl_spm_encode(e, part, begins && v->add_space));
            begins = false;
        } else {
            e->text = text.data;
            TL_TRY(tl_bpe_encode(e, span.at, span.len));
        }
    }
    return TL_OK;
}

static tl_err encode_text(const tl_vocab *v, tl_str text, unsigned flags, tl_ids *ids) {
    struct tl_spans spans = {0};
    tl_err err = tl_special_split(v, text, (flags & TL_ENCODE_SPECIAL) != 0, &spans);
    if (err == TL_OK) {
        struct tl_encoder e;
        tl_encoder_begin(&e, v, text.len, ids);
        err = encode_spans(&e, text, &spans);
        tl_encoder_end(&e);
    }
    free(spans.data);
    return err;
}

tl_err tl_vocab_encode(const tl_vocab *v, tl_str text, unsigned flags, tl_ids *ids) {
    const size_t n_before = ids->n;
    tl_err err = text.len > TEXT_LEN_MAX ? TL_ERR_MEMORY : TL_OK;
    if (err == TL_OK && (flags & TL_ENCODE_BOS) != 0 && v->add_bos) {
        err = tl_ids_add(ids, v->bos);
    }
    err = err ? err : encode_text(v, text, flags, ids);
    if (err == TL_OK && (flags & TL_ENCODE_BOS) != 0 && v->add_eos) {
        err = tl_ids_add(ids, v->eos);
    }
    if (err) {
        ids->n = n_before;
    }
    return err;
}

uint32_t tl_vocab_n(const tl_vocab *v) { return v->n; }
uint32_t tl_vocab_bos(const tl_vocab *v) { return v->bos; }
uint32_t tl_vocab_eos(const tl_vocab *v) { return v->eos; }
bool tl_vocab_add_bos(const tl_vocab *v) { return v->add_bos; }

bool tl_vocab_is_end(const tl_vocab *v, uint32_t id) {
    return id < v->n && (v->tokens[id].flags & TL_TOKEN_IS_END) != 0;
}

bool tl_vocab_is_control(const tl_vocab *v, uint32_t id) {
    return id < v->n &&
           (v->tokens[id].type == TL_TOKEN_CONTROL || v->tokens[id].type == TL_TOKEN_UNKNOWN);
}

tl_str tl_vocab_spelling(const tl_vocab *v, uint32_t id) {
    TL_ASSERT(id < v->n);
    return v->tokens[id].spelling;
}
