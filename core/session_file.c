/* Reading session files; session_file.h draws them. Opening checks header, table and every section
 * that is no tier; resuming checks each tier's section just before its bytes go into the cache, so
 * that a large file is read from the disk once. Invariant: nothing found in the file is used to
 * allocate, index or copy before it was compared with the file's size, a named limit or what the
 * session has. */
#include "session_file.h"

#include "engine_priv.h"
#include "policy_file.h"
#include "session_file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

struct tl_session_file {
    const uint8_t *data; /* the mapping, or borrowed */
    uint64_t bytes;
    bool mapped;
    char *name; /* owned */
    tl_log log;
    uint64_t model_hash, shape_hash;
    uint32_t n_layers, n_rows, n_ctx, n_vocab, n_sections;
    struct tl_sf_section *sections; /* owned */
    json_t *layers;                 /* owned: what section TL_SF_LAYERS says */
    struct tl_policy *policies;     /* owned */
    struct tl_policy dense;
    double dense_above;
    bool has_dense;
    uint32_t *n_blocks; /* owned */
};

static tl_err damaged(const tl_session_file *f, const char *what) {
    return tl_fail(&f->log, TL_ERR_FORMAT, "%s: damaged: %s", f->name, what);
}

static uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_u64(const uint8_t *at) { return get_u32(at) | (uint64_t)get_u32(at + 4) << 32; }

/* ---- what a file must say to be read at all ---- */

/* Magic, version and size, before anything else of the file counts. */
static tl_err check_kind(const tl_session_file *f) {
    const size_t magic_bytes = strlen(TL_SESSION_FILE_MAGIC);
    if (f->bytes < magic_bytes || memcmp(f->data, TL_SESSION_FILE_MAGIC, magic_bytes) != 0) {
        return tl_fail(&f->log, TL_ERR_FORMAT, "%s: is not a session file%s", f->name,
                       f->bytes == 0 ? ", it is empty" : "");
    }
    if (f->bytes < TL_SF_HEADER_BYTES) {
        return damaged(f, "it is cut off in its header");
    }
    const uint32_t version = get_u32(f->data + TL_SF_AT_VERSION);
    if (version != TL_SESSION_FILE_VERSION) {
        return tl_fail(&f->log, TL_ERR_UNSUPPORTED,
                       "%s: is a session file of version %u, this program reads version %d",
                       f->name, version, TL_SESSION_FILE_VERSION);
    }
    return TL_OK;
}

/* The checksum over header and table, where the table lies inside the file. */
static tl_err check_head(const tl_session_file *f) {
    const uint64_t n = get_u32(f->data + TL_SF_AT_N_SECTIONS);
    const uint64_t head_bytes = TL_SF_HEADER_BYTES + n * TL_SF_ENTRY_BYTES;
    if (n < TL_SF_FIRST_TIER || n > TL_SF_FIRST_TIER + TL_LAYERS_MAX * TL_KV_PARTS_MAX ||
        head_bytes > f->bytes) {
        return damaged(f, "its table of sections is cut off or out of range");
    }
    static const uint8_t no_checksum[8];
    XXH3_state_t *const hash = XXH3_createState();
    if (hash == NULL) {
        return TL_ERR_MEMORY;
    }
    XXH3_64bits_reset(hash);
    XXH3_64bits_update(hash, f->data, TL_SF_AT_CHECKSUM);
    XXH3_64bits_update(hash, no_checksum, sizeof no_checksum);
    XXH3_64bits_update(hash, f->data + TL_SF_HEADER_BYTES,
                       (size_t)(head_bytes - TL_SF_HEADER_BYTES));
    const uint64_t checksum = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    if (checksum != get_u64(f->data + TL_SF_AT_CHECKSUM)) {
        return damaged(f, "the header does not match its checksum");
    }
    const uint64_t bytes = get_u64(f->data + TL_SF_AT_BYTES);
    return bytes == f->bytes
               ? TL_OK
               : tl_fail(&f->log, TL_ERR_FORMAT,
                         "%s: damaged: it has %" PRIu64 " bytes and should have %" PRIu64, f->name,
                         f->bytes, bytes);
}

static tl_err read_numbers(tl_session_file *f) {
    f->n_sections = get_u32(f->data + TL_SF_AT_N_SECTIONS);
    f->model_hash = get_u64(f->data + TL_SF_AT_MODEL);
    f->shape_hash = get_u64(f->data + TL_SF_AT_SHAPE);
    f->n_layers = get_u32(f->data + TL_SF_AT_N_LAYERS);
    f->n_rows = get_u32(f->data + TL_SF_AT_N_ROWS);
    f->n_ctx = get_u32(f->data + TL_SF_AT_N_CTX);
    f->n_vocab = get_u32(f->data + TL_SF_AT_N_VOCAB);
    if (f->n_layers == 0 || f->n_layers > TL_LAYERS_MAX || f->n_ctx == 0 || f->n_ctx > TL_CTX_MAX ||
        f->n_rows > f->n_ctx || f->n_vocab == 0 || f->n_vocab > TL_VOCAB_MAX) {
        return damaged(f, "a number in the header is out of range");
    }
    return TL_OK;
}

static bool all_zero(const uint8_t *at, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

/* The table: sections follow each other at the next aligned place, with zeros between, to the end
 * of the file; first the fixed ones, then those of tiers, layer by layer. */
static tl_err read_table(tl_session_file *f) {
    f->sections = calloc(f->n_sections, sizeof *f->sections);
    if (f->sections == NULL) {
        return TL_ERR_MEMORY;
    }
    uint64_t end = TL_SF_HEADER_BYTES + (uint64_t)f->n_sections * TL_SF_ENTRY_BYTES;
    uint32_t layer = 0;
    for (uint32_t i = 0; i < f->n_sections; i++) {
        const uint8_t *const at = f->data + TL_SF_HEADER_BYTES + (size_t)i * TL_SF_ENTRY_BYTES;
        const struct tl_sf_section s = {.kind = get_u32(at),
                                        .layer = get_u32(at + 4),
                                        .off = get_u64(at + 8),
                                        .bytes = get_u64(at + 16),
                                        .checksum = get_u64(at + 24)};
        const bool fixed = i < TL_SF_FIRST_TIER;
        const bool in_order = fixed ? s.kind == TL_SF_LAYERS + i && s.layer == 0
                                    : s.kind > TL_SF_TIER && s.layer >= layer;
        if (!in_order || s.layer >= f->n_layers || s.off != tl_align_up(end, TL_SF_ALIGN) ||
            s.off > f->bytes || s.bytes > f->bytes - s.off ||
            !all_zero(f->data + end, s.off - end)) {
            return damaged(f, "its sections are out of order");
        }
        layer = s.layer;
        end = s.off + s.bytes;
        f->sections[i] = s;
    }
    return end == f->bytes ? TL_OK : damaged(f, "there is something behind its sections");
}

static tl_err check_section(const tl_session_file *f, uint32_t i, const char *what) {
    const struct tl_sf_section *const s = &f->sections[i];
    return XXH3_64bits(f->data + s->off, (size_t)s->bytes) == s->checksum
               ? TL_OK
               : tl_fail(&f->log, TL_ERR_FORMAT, "%s: damaged: %s do not match their checksum",
                         f->name, what);
}

static tl_err check_fixed(const tl_session_file *f) {
    static const char *const names[] = {"the layers' policies", "the tokens", "the logits",
                                        "the application's data"};
    const struct tl_sf_section *const s = f->sections;
    if (s[0].bytes > TL_SF_LAYERS_BYTES_MAX || s[1].bytes != 4 * (uint64_t)f->n_rows ||
        (s[2].bytes != 0 && s[2].bytes != 4 * (uint64_t)f->n_vocab) ||
        s[3].bytes > TL_SF_APP_BYTES_MAX) {
        return damaged(f, "a section has the wrong size");
    }
    for (uint32_t i = 0; i < TL_SF_FIRST_TIER; i++) {
        TL_TRY(check_section(f, i, names[i]));
    }
    for (uint32_t i = 0; i < f->n_rows; i++) {
        if (get_u32(f->data + s[1].off + 4 * (size_t)i) >= f->n_vocab) {
            return damaged(f, "a token is not in its vocabulary");
        }
    }
    return TL_OK;
}

/* ---- the layers ---- */

/* A knob that is not there is younger than the file, and 0. */
static tl_err read_policy(const tl_session_file *f, json_t *knobs, struct tl_policy *out) {
    const char *knob;
    json_t *value;
    json_object_foreach(knobs, knob, value) {
        if (!json_is_string(value)) {
            return damaged(f, "a knob of a policy is no text");
        }
        TL_TRY(tl_policy_set(out, knob, json_string_value(value), &f->log));
    }
    return TL_OK;
}

static tl_err read_layer(tl_session_file *f, uint32_t il, const json_t *layer) {
    const json_t *const n_blocks = json_object_get(layer, "n_blocks");
    if (!json_is_integer(n_blocks) || json_integer_value(n_blocks) < 0 ||
        json_integer_value(n_blocks) > f->n_rows / TL_BLOCK) {
        return damaged(f, "a layer is not described");
    }
    f->n_blocks[il] = (uint32_t)json_integer_value(n_blocks);
    return read_policy(f, json_object_get(layer, "policy"), &f->policies[il]);
}

static tl_err read_layers(tl_session_file *f) {
    const struct tl_sf_section *const s = &f->sections[0];
    f->layers = json_loadb((const char *)f->data + s->off, (size_t)s->bytes, 0, NULL);
    json_t *const list = json_object_get(f->layers, "layers");
    if (!json_is_string(json_object_get(f->layers, "kv")) || json_array_size(list) != f->n_layers) {
        return damaged(f, "the layers are not described");
    }
    f->policies = calloc(f->n_layers, sizeof *f->policies);
    f->n_blocks = calloc(f->n_layers, sizeof *f->n_blocks);
    if (f->policies == NULL || f->n_blocks == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t il = 0; il < f->n_layers; il++) {
        TL_TRY(read_layer(f, il, json_array_get(list, il)));
    }
    json_t *const dense = json_object_get(f->layers, "dense");
    f->has_dense = dense != NULL;
    f->dense_above = json_number_value(json_object_get(f->layers, "dense_above"));
    if (!(f->dense_above >= 0)) {
        return damaged(f, "the score of dense layers is not a number");
    }
    return f->has_dense ? read_policy(f, dense, &f->dense) : TL_OK;
}

/* ---- opening ---- */

static tl_err read_all(tl_session_file *f) {
    TL_TRY(check_kind(f));
    TL_TRY(check_head(f));
    TL_TRY(read_numbers(f));
    TL_TRY(read_table(f));
    TL_TRY(check_fixed(f));
    return read_layers(f);
}

static tl_err new_file(tl_session_file **out, const char *name, const tl_log *log) {
    tl_session_file *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return TL_ERR_MEMORY;
    }
    f->log = log != NULL ? *log : (tl_log){0};
    const size_t n = strlen(name) + 1;
    f->name = malloc(n);
    if (f->name == NULL) {
        tl_session_file_close(&f);
        return TL_ERR_MEMORY;
    }
    memcpy(f->name, name, n);
    *out = f;
    return TL_OK;
}

static tl_err open_read(tl_session_file **out, tl_session_file *f) {
    const tl_err err = read_all(f);
    if (err) {
        tl_session_file_close(&f);
        return err;
    }
    *out = f;
    return TL_OK;
}

tl_err tl_session_file_open_memory(tl_session_file **out, const void *data, size_t bytes,
                                   const char *name, const tl_log *log) {
    tl_session_file *f = NULL;
    TL_TRY(new_file(&f, name, log));
    f->data = data;
    f->bytes = bytes;
    return open_read(out, f);
}

static tl_err map_file(tl_session_file *f) {
    const int fd = open(f->name, O_RDONLY | O_CLOEXEC);
    struct stat info = {0};
    const uint8_t *data = NULL;
    bool ok = fd >= 0 && fstat(fd, &info) == 0;
    if (ok && info.st_size > 0) {
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        ok = data != MAP_FAILED;
    }
    const int why = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (!ok) {
        return tl_fail(&f->log, TL_ERR_IO, "%s: cannot be read: %s", f->name, strerror(why));
    }
    f->data = data;
    f->bytes = (uint64_t)info.st_size;
    f->mapped = data != NULL;
    return TL_OK;
}

tl_err tl_session_file_open(tl_session_file **out, const tl_session_lock *lock) {
    tl_session_file *f = NULL;
    TL_TRY(new_file(&f, lock->path, &lock->log));
    const tl_err err = map_file(f);
    if (err) {
        tl_session_file_close(&f);
        return err;
    }
    return open_read(out, f);
}

void tl_session_file_close(tl_session_file **file) {
    tl_session_file *const f = *file;
    if (f == NULL) {
        return;
    }
    if (f->mapped) {
        munmap((void *)(uintptr_t)f->data, (size_t)f->bytes);
    }
    json_decref(f->layers);
    free(f->policies);
    free(f->n_blocks);
    free(f->sections);
    free(f->name);
    free(f);
    *file = NULL;
}

struct tl_session_info tl_session_file_info(const tl_session_file *f) {
    const struct tl_sf_section *const app = &f->sections[3];
    return (struct tl_session_info){
        .n_layers = f->n_layers,
        .n_rows = f->n_rows,
        .n_ctx = f->n_ctx,
        .policies = f->policies,
        .dense = f->has_dense ? &f->dense : NULL,
        .dense_above = f->dense_above,
        .kv = json_string_value(json_object_get(f->layers, "kv")),
        .app = {(const char *)f->data + app->off, (size_t)app->bytes},
    };
}

/* ---- does it fit? ---- */

static uint64_t hash_more(uint64_t hash, const void *data, size_t n) {
    return XXH3_64bits_withSeed(data, n, hash);
}

static uint64_t hash_rope(uint64_t hash, const struct tl_rope_table *rope, uint32_t n_rot) {
    hash = hash_more(hash, rope->inv_freq, n_rot / 2 * sizeof *rope->inv_freq);
    return hash_more(hash, &rope->scale, sizeof rope->scale);
}

uint64_t tl_sf_shape_hash(const struct tl_shape *s) {
    const uint32_t numbers[] = {s->n_vocab,  s->n_embd, s->n_layers, s->n_heads, s->n_kv_heads,
                                s->head_dim, s->n_ff,   s->n_rot,    s->window};
    const float scales[] = {s->norm_eps, s->attn_scale, s->attn_softcap, s->logit_softcap,
                            s->embd_scale};
    uint64_t hash = hash_more(0, s->family->name, strlen(s->family->name));
    hash = hash_more(hash, numbers, sizeof numbers);
    hash = hash_more(hash, scales, sizeof scales);
    hash = hash_more(hash, s->windowed, s->n_layers * sizeof *s->windowed);
    hash = hash_rope(hash, &s->rope, s->n_rot);
    return s->window != 0 ? hash_rope(hash, &s->rope_local, s->n_rot) : hash;
}

bool tl_session_file_fits(const tl_session_file *f, const tl_engine *e) {
    const struct tl_shape *const shape = &e->model->shape;
    if (f->model_hash != tl_model_hash(e->weights) || f->n_layers != shape->n_layers ||
        f->n_vocab != shape->n_vocab) {
        tl_say(&f->log, TL_LEVEL_ERROR, "%s: was saved with another model than %s", f->name,
               tl_weights_path(e->weights));
        return false;
    }
    if (f->shape_hash != tl_sf_shape_hash(shape)) {
        tl_say(&f->log, TL_LEVEL_ERROR,
               "%s: was saved with this model's weights but another shape or rotary scaling (the "
               "model's metadata was changed, or it has one for long contexts and --ctx is "
               "another)",
               f->name);
        return false;
    }
    return true;
}

/* The same knobs; `which` names the layers for the sentence. */
static tl_err check_policy(const tl_session_file *f, const struct tl_policy *theirs,
                           const struct tl_policy *ours, const char *kv_name, const char *which) {
    for (size_t i = 0; tl_policy_knob(i) != NULL; i++) {
        const char *const knob = tl_policy_knob(i);
        char a_text[16], b_text[16];
        const char *const a = tl_policy_get(theirs, knob, a_text, sizeof a_text);
        const char *const b = tl_policy_get(ours, knob, b_text, sizeof b_text);
        if (strcmp(a, b) != 0) {
            return tl_fail(&f->log, TL_ERR_FORMAT,
                           "%s: was saved with --kv %s, not %s (%s: %s %s, not %s); without --kv "
                           "the file's is used",
                           f->name, tl_session_file_info(f).kv, kv_name, which, knob, a, b);
        }
    }
    return TL_OK;
}

/* In every layer, and of dense layers where they are still to be found. */
static tl_err check_policies(const tl_session_file *f, const tl_session *s, const char *kv_name) {
    const tl_kv *const kv = tl_session_kv(s);
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        char which[24];
        snprintf(which, sizeof which, "layer %u", il);
        const struct tl_policy theirs = tl_kv_layer_policy(kv->shape, il, &f->policies[il]);
        TL_TRY(check_policy(f, &theirs, &kv->layers[il].policy, kv_name, which));
    }
    double above = 0;
    const struct tl_policy *const dense = tl_session_dense(s, &above);
    if (f->has_dense != (dense != NULL)) {
        return tl_fail(&f->log, TL_ERR_FORMAT,
                       "%s: was saved with --kv %s, not %s (dense layers: %s still to be found); "
                       "without --kv the file's is used",
                       f->name, tl_session_file_info(f).kv, kv_name,
                       f->has_dense ? "they were" : "none were");
    }
    return dense != NULL ? check_policy(f, &f->dense, dense, kv_name, "dense layers") : TL_OK;
}

static tl_err check_fit(const tl_session_file *f, const tl_session *s, const char *kv_name) {
    const tl_kv *const kv = tl_session_kv(s);
    if (!tl_session_file_fits(f, tl_session_engine(s))) {
        return TL_ERR_FORMAT;
    }
    TL_TRY(check_policies(f, s, kv_name));
    if (f->n_rows > kv->cap) {
        return tl_fail(&f->log, TL_ERR_MEMORY,
                       "%s: holds %u tokens, the context has room for %u (see --ctx)", f->name,
                       f->n_rows, kv->cap);
    }
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        /* Blocks are compressed by the step after they became due. */
        const struct tl_policy *const p = &kv->layers[il].policy;
        const uint32_t n = f->n_rows, before = n > 0 ? n - 1 : 0;
        const bool exact = tl_kv_is_exact(&kv->layers[il]);
        if (f->n_blocks[il] > (exact ? 0 : tl_kv_n_blocks(p, n)) ||
            f->n_blocks[il] < (exact ? 0 : tl_kv_n_blocks(p, before))) {
            return damaged(f, "a layer has a number of blocks that it cannot have");
        }
    }
    return TL_OK;
}

/* ---- resuming ---- */

/* Rows of one group from the file, a piece at a time where they are not in host memory. */
static tl_err read_rows(const struct tl_kv_part *part, uint32_t group, const uint8_t *from,
                        tl_buf *bounce, tl_stream *stream) {
    if (part->view.buf->mem == TL_MEM_HOST) {
        const tl_view rows = tl_sf_part_rows(part, group, 0, part->n_used);
        memcpy(tl_view_host(rows), from, (size_t)tl_view_bytes(rows));
        return TL_OK;
    }
    const uint64_t row_bytes = tl_row_bytes(part->view.dtype, part->view.cols);
    const uint64_t step = TL_SF_BOUNCE_BYTES / row_bytes;
    TL_ASSERT(step > 0);
    for (uint32_t at = 0; at < part->n_used;) {
        const uint32_t n = (uint32_t)tl_min_u64(step, part->n_used - at);
        const tl_view piece = tl_view_of(bounce, 0, n, part->view.cols, part->view.dtype);
        memcpy(tl_view_host(piece), from + at * row_bytes, (size_t)tl_view_bytes(piece));
        TL_TRY(tl_copy(stream, tl_sf_part_rows(part, group, at, n), piece));
        TL_TRY(tl_stream_sync(stream));
        at += n;
    }
    return TL_OK;
}

static tl_err read_part(const tl_session_file *f, uint32_t i, const struct tl_kv_part *part,
                        tl_buf *bounce, tl_stream *stream) {
    TL_TRY(check_section(f, i, "rows of its cache"));
    const uint64_t group_bytes = tl_sf_part_bytes(part) / part->n_groups;
    const uint8_t *from = f->data + f->sections[i].off;
    for (uint32_t g = 0; g < part->n_groups && part->n_used > 0; g++) {
        TL_TRY(read_rows(part, g, from, bounce, stream));
        from += group_bytes;
    }
    return TL_OK;
}

/* What section i says of a hot set. */
static void note_hot(const tl_session_file *f, uint32_t i, tl_kv_tier tier, struct tl_kv_hot *hot) {
    const uint8_t *const ints = f->data + f->sections[i].off;
    hot->owner = tier == TL_TIER_HOT_OWNER ? ints : hot->owner;
    hot->used = tier == TL_TIER_HOT_USED ? ints : hot->used;
    hot->hand = tier == TL_TIER_HOT_HAND ? ints : hot->hand;
}

static tl_err check_hot(const tl_session_file *f, const struct tl_kv_layer *layer,
                        const struct tl_kv_hot *hot) {
    bool can_be = true;
    if (hot->owner != NULL) {
        TL_TRY(tl_kv_check_hot(layer, hot, &can_be));
    }
    return can_be ? TL_OK : damaged(f, "the hot set of a layer contradicts itself");
}

/* The tiers, whose sections must be exactly those that the session's own would have. */
static tl_err read_tiers(const tl_session_file *f, tl_session *s, tl_buf *bounce) {
    const tl_kv *const kv = tl_session_kv(s);
    uint32_t i = TL_SF_FIRST_TIER;
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        struct tl_kv_layer *const layer = &kv->layers[il];
        struct tl_kv_part parts[TL_KV_PARTS_MAX];
        layer->n_blocks = f->n_blocks[il];
        const uint32_t n = tl_kv_list_parts(layer, f->n_rows, parts);
        struct tl_kv_hot hot = {0};
        for (uint32_t p = 0; p < n; p++, i++) {
            if (i == f->n_sections || f->sections[i].layer != il ||
                f->sections[i].kind != TL_SF_TIER + (uint32_t)parts[p].tier ||
                f->sections[i].bytes != tl_sf_part_bytes(&parts[p])) {
                return damaged(f, "a layer's rows are missing or of another size");
            }
            TL_TRY(read_part(f, i, &parts[p], bounce, tl_session_stream(s)));
            note_hot(f, i, parts[p].tier, &hot);
        }
        TL_TRY(check_hot(f, layer, &hot));
        TL_TRY(tl_kv_rebuild_index(layer, tl_session_stream(s)));
    }
    return i == f->n_sections ? TL_OK : damaged(f, "there are more sections than layers have");
}

tl_err tl_session_resume(tl_session *s, const tl_session_file *f, const char *kv_name) {
    TL_ASSERT(tl_session_n(s) == 0);
    TL_TRY(check_fit(f, s, kv_name));
    tl_buf *bounce = NULL;
    TL_TRY(tl_buf_alloc(&bounce, tl_session_engine(s)->dev, TL_SF_BOUNCE_BYTES, TL_MEM_HOST));
    const tl_err err = read_tiers(f, s, bounce);
    tl_buf_free(&bounce);
    if (err) {
        tl_kv_clear(tl_session_kv(s), tl_session_stream(s));
        return err;
    }
    const struct tl_sf_section *const ids = &f->sections[1], *const logits = &f->sections[2];
    tl_session_put(s, f->data + ids->off, f->n_rows,
                   logits->bytes > 0 ? f->data + logits->off : NULL);
    return TL_OK;
}
