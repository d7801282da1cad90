/* Writing session files; session_file.h draws them. The file is written beside the old one, brought
 * to the disk, and put into its place by one rename: nothing but that moment separates the old file
 * from the new. Header and table, which need every section's checksum, are written last. Rows go
 * from device memory through a bounce buffer by the seam's copies; host memory is written as it is.
 */
#include "engine_priv.h"
#include "policy_file.h"
#include "session_file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

struct writer {
    tl_session *session;
    const tl_session_lock *lock;
    FILE *file;                     /* owned */
    tl_buf *bounce;                 /* owned */
    XXH3_state_t *hash;             /* owned: of the section being written */
    struct tl_sf_section *sections; /* owned, n of them written */
    uint32_t n, n_cap;
    uint64_t at; /* bytes written */
};

static tl_err fail_os(const struct writer *w, int why) {
    return tl_fail(&w->lock->log, TL_ERR_IO, "%s: cannot be saved: %s%s", w->lock->path,
                   strerror(why), w->lock->has_file ? "; the file is as it was" : "");
}

static tl_err put(struct writer *w, const void *data, uint64_t n) {
    if (n > 0 && fwrite(data, 1, (size_t)n, w->file) != n) {
        return fail_os(w, errno);
    }
    w->at += n;
    return TL_OK;
}

static tl_err begin_section(struct writer *w, uint32_t kind, uint32_t layer) {
    static const char zeros[TL_SF_ALIGN];
    TL_ASSERT(w->n < w->n_cap);
    TL_TRY(put(w, zeros, tl_align_up(w->at, TL_SF_ALIGN) - w->at));
    w->sections[w->n++] = (struct tl_sf_section){.kind = kind, .layer = layer, .off = w->at};
    XXH3_64bits_reset(w->hash);
    return TL_OK;
}

static tl_err add_bytes(struct writer *w, const void *data, uint64_t n) {
    if (n > 0) {
        XXH3_64bits_update(w->hash, data, (size_t)n);
    }
    return put(w, data, n);
}

static void end_section(struct writer *w) {
    struct tl_sf_section *const s = &w->sections[w->n - 1];
    s->bytes = w->at - s->off;
    s->checksum = XXH3_64bits_digest(w->hash);
}

static tl_err write_section(struct writer *w, uint32_t kind, const void *data, uint64_t n) {
    TL_TRY(begin_section(w, kind, 0));
    TL_TRY(add_bytes(w, data, n));
    end_section(w);
    return TL_OK;
}

static json_t *policy_json(const struct tl_policy *policy) {
    json_t *const knobs = json_object();
    char text[16];
    for (size_t i = 0; tl_policy_knob(i) != NULL; i++) {
        const char *const knob = tl_policy_knob(i);
        json_object_set_new(knobs, knob,
                            json_string(tl_policy_get(policy, knob, text, sizeof text)));
    }
    return knobs;
}

static json_t *layer_json(const struct tl_kv_layer *layer, const struct tl_policy *policy) {
    return json_pack("{s:i,s:o}", "n_blocks", (int)layer->n_blocks, "policy", policy_json(policy));
}

static int add_text(const char *text, size_t n, void *user) {
    return tl_bytes_add(user, text, n) == TL_OK ? 0 : -1;
}

static tl_err write_layers(struct writer *w, const tl_kv *kv, const char *kv_name) {
    double above = 0;
    const struct tl_policy *const dense = tl_session_dense(w->session, &above);
    json_t *const layers = json_array();
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        json_array_append_new(layers,
                              layer_json(&kv->layers[il], &tl_session_policies(w->session)[il]));
    }
    json_t *const name = json_string(kv_name); /* NULL: a path that is no UTF-8 */
    json_t *const all =
        json_pack("{s:o,s:o,s:f,s:o*}", "kv", name != NULL ? name : json_string("a file"), "layers",
                  layers, "dense_above", above, "dense", dense != NULL ? policy_json(dense) : NULL);
    tl_bytes text = {0};
    const bool whole = all != NULL && json_array_size(layers) == kv->n_layers &&
                       json_dump_callback(all, add_text, &text, JSON_COMPACT) == 0;
    json_decref(all);
    const tl_err err = whole ? write_section(w, TL_SF_LAYERS, text.data, text.len) : TL_ERR_MEMORY;
    tl_bytes_free(&text);
    return err;
}

/* Rows of one group, a piece at a time where they are not in host memory. */
static tl_err write_rows(struct writer *w, const struct tl_kv_part *part, uint32_t group) {
    if (part->view.buf->mem == TL_MEM_HOST) {
        const tl_view rows = tl_sf_part_rows(part, group, 0, part->n_used);
        return add_bytes(w, tl_view_host(rows), tl_view_bytes(rows));
    }
    const uint64_t row_bytes = tl_row_bytes(part->view.dtype, part->view.cols);
    const uint64_t step = TL_SF_BOUNCE_BYTES / row_bytes;
    TL_ASSERT(step > 0);
    tl_stream *const stream = tl_session_stream(w->session);
    for (uint32_t at = 0; at < part->n_used;) {
        const uint32_t n = (uint32_t)tl_min_u64(step, part->n_used - at);
        const tl_view to = tl_view_of(w->bounce, 0, n, part->view.cols, part->view.dtype);
        TL_TRY(tl_copy(stream, to, tl_sf_part_rows(part, group, at, n)));
        TL_TRY(tl_stream_sync(stream));
        TL_TRY(add_bytes(w, tl_view_host(to), tl_view_bytes(to)));
        at += n;
    }
    return TL_OK;
}

static tl_err write_tiers(struct writer *w, const tl_kv *kv) {
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        struct tl_kv_part parts[TL_KV_PARTS_MAX];
        const uint32_t n = tl_kv_list_parts(&kv->layers[il], kv->n_rows, parts);
        for (uint32_t i = 0; i < n; i++) {
            TL_TRY(begin_section(w, TL_SF_TIER + (uint32_t)parts[i].tier, il));
            for (uint32_t g = 0; g < parts[i].n_groups && parts[i].n_used > 0; g++) {
                TL_TRY(write_rows(w, &parts[i], g));
            }
            end_section(w);
        }
    }
    return TL_OK;
}

static void put_u32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> 8 * i);
    }
}

static void put_u64(uint8_t *to, uint64_t value) {
    put_u32(to, (uint32_t)value);
    put_u32(to + 4, (uint32_t)(value >> 32));
}

/* Header and table over the place that was left for them. */
static tl_err write_head(struct writer *w, uint64_t head_bytes) {
    const tl_engine *const e = tl_session_engine(w->session);
    const tl_kv *const kv = tl_session_kv(w->session);
    uint8_t *const head = calloc(1, (size_t)head_bytes);
    if (head == NULL) {
        return TL_ERR_MEMORY;
    }
    memcpy(head, TL_SESSION_FILE_MAGIC, 8);
    put_u32(head + TL_SF_AT_VERSION, TL_SESSION_FILE_VERSION);
    put_u32(head + TL_SF_AT_N_SECTIONS, w->n);
    put_u64(head + TL_SF_AT_BYTES, w->at);
    put_u64(head + TL_SF_AT_MODEL, tl_model_hash(e->weights));
    put_u64(head + TL_SF_AT_SHAPE, tl_sf_shape_hash(&e->model->shape));
    put_u32(head + TL_SF_AT_N_LAYERS, kv->n_layers);
    put_u32(head + TL_SF_AT_N_ROWS, kv->n_rows);
    put_u32(head + TL_SF_AT_N_CTX, kv->cap);
    put_u32(head + TL_SF_AT_N_VOCAB, e->model->shape.n_vocab);
    for (uint32_t i = 0; i < w->n; i++) {
        uint8_t *const entry = head + TL_SF_HEADER_BYTES + (size_t)i * TL_SF_ENTRY_BYTES;
        put_u32(entry, w->sections[i].kind);
        put_u32(entry + 4, w->sections[i].layer);
        put_u64(entry + 8, w->sections[i].off);
        put_u64(entry + 16, w->sections[i].bytes);
        put_u64(entry + 24, w->sections[i].checksum);
    }
    put_u64(head + TL_SF_AT_CHECKSUM, XXH3_64bits(head, (size_t)head_bytes));
    const bool ok = fseek(w->file, 0, SEEK_SET) == 0 &&
                    fwrite(head, 1, (size_t)head_bytes, w->file) == head_bytes;
    const int why = errno;
    free(head);
    return ok ? TL_OK : fail_os(w, why);
}

static tl_err write_all(struct writer *w, const struct tl_session_save *what) {
    const tl_session *const s = w->session;
    const tl_kv *const kv = tl_session_kv(s);
    const float *const logits = tl_session_logits(s);
    const uint64_t n_vocab = tl_session_engine(s)->model->shape.n_vocab;
    const uint64_t head_bytes = TL_SF_HEADER_BYTES + (uint64_t)w->n_cap * TL_SF_ENTRY_BYTES;
    TL_TRY(tl_stream_sync(tl_session_stream(s)));
    if (fseek(w->file, (long)head_bytes, SEEK_SET) != 0) {
        return fail_os(w, errno);
    }
    w->at = head_bytes;
    TL_TRY(write_layers(w, kv, what->kv));
    TL_TRY(write_section(w, TL_SF_IDS, tl_session_ids(s), 4 * (uint64_t)kv->n_rows));
    TL_TRY(write_section(w, TL_SF_LOGITS, logits, logits != NULL ? 4 * n_vocab : 0));
    TL_TRY(write_section(w, TL_SF_APP, what->app.data, what->app.len));
    TL_TRY(write_tiers(w, kv));
    TL_ASSERT(w->n == w->n_cap);
    return write_head(w, head_bytes);
}

static uint32_t count_sections(const tl_kv *kv) {
    uint32_t n = TL_SF_FIRST_TIER;
    for (uint32_t il = 0; il < kv->n_layers; il++) {
        struct tl_kv_part parts[TL_KV_PARTS_MAX];
        n += tl_kv_list_parts(&kv->layers[il], kv->n_rows, parts);
    }
    return n;
}

static tl_err open_writer(struct writer *w) {
    w->n_cap = count_sections(tl_session_kv(w->session));
    w->sections = calloc(w->n_cap, sizeof *w->sections);
    w->hash = XXH3_createState();
    if (w->sections == NULL || w->hash == NULL) {
        return TL_ERR_MEMORY;
    }
    TL_TRY(tl_buf_alloc(&w->bounce, tl_session_engine(w->session)->dev, TL_SF_BOUNCE_BYTES,
                        TL_MEM_HOST));
    /* What a conversation holds is its user's own business; a file that is there keeps its mode. */
    struct stat old;
    const mode_t mode = stat(w->lock->path, &old) == 0 ? old.st_mode & 0777 : 0600;
    unlink(w->lock->tmp_path);
    const int fd =
        open(w->lock->tmp_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    w->file = fd >= 0 && fchmod(fd, mode) == 0 ? fdopen(fd, "wb") : NULL;
    if (w->file == NULL) {
        const int why = errno;
        if (fd >= 0) {
            close(fd);
            unlink(w->lock->tmp_path);
        }
        return fail_os(w, why);
    }
    return TL_OK;
}

/* The folder that holds the file, synced: only then is the rename on the disk. */
static tl_err sync_folder(const struct writer *w) {
    const char *const path = w->lock->path;
    const char *const slash = strrchr(path, '/');
    tl_bytes folder = {0};
    TL_TRY(slash != NULL ? tl_bytes_add(&folder, path, (size_t)(slash + 1 - path))
                         : tl_bytes_add_str(&folder, "."));
    const int fd = open(folder.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tl_bytes_free(&folder);
    const bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL); /* some file systems cannot */
    const int why = errno;
    if (fd >= 0) {
        close(fd);
    }
    return ok ? TL_OK
              : tl_fail(&w->lock->log, TL_ERR_IO, "%s: saved, but its folder cannot be synced: %s",
                        path, strerror(why));
}

/* Brings the new file to the disk and into its place. */
static tl_err finish(struct writer *w, tl_session_lock *lock) {
    if (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0) {
        return fail_os(w, errno);
    }
    FILE *const file = w->file;
    w->file = NULL;
    if (fclose(file) != 0 || rename(lock->tmp_path, lock->path) != 0) {
        return fail_os(w, errno);
    }
    lock->has_file = true;
    return sync_folder(w);
}

tl_err tl_session_save(tl_session *s, tl_session_lock *lock, const struct tl_session_save *what) {
    TL_ASSERT(what->app.len <= TL_SF_APP_BYTES_MAX);
    struct writer w = {.session = s, .lock = lock};
    tl_err err = open_writer(&w);
    const bool opened = w.file != NULL;
    err = err ? err : write_all(&w, what);
    err = err ? err : finish(&w, lock);
    if (w.file != NULL) {
        fclose(w.file);
    }
    if (err && opened) {
        unlink(lock->tmp_path);
    }
    XXH3_freeState(w.hash);
    tl_buf_free(&w.bounce);
    free(w.sections);
    return err;
}
