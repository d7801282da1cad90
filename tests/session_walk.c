/* See session_walk.h. Files that ask for much memory are left alone: what a session may take is the
 * plan's business, and tested there. */
#include "session_walk.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { N_CTX_MAX = 1024, HOT_MAX = 2048, HEADER_BYTES = 64, ENTRY_BYTES = 32 };

tl_engine *session_walk_engine(void) {
    static tl_engine *engine;
    if (engine == NULL) {
        const struct tl_engine_params params = {.model_path =
                                                    TL_SOURCE_DIR "/tests/golden/smollm-9-3.gguf",
                                                .backend = "cpu",
                                                .n_threads = 1};
        TL_ASSERT(tl_engine_open(&engine, &params) == TL_OK);
    }
    return engine;
}

static uint64_t read_u64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

void session_fix_checksums(uint8_t *data, size_t bytes) {
    if (bytes < HEADER_BYTES) {
        return;
    }
    uint32_t n;
    memcpy(&n, data + 12, sizeof n);
    const uint64_t head_bytes = HEADER_BYTES + (uint64_t)n * ENTRY_BYTES;
    if (head_bytes > bytes) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *const entry = data + HEADER_BYTES + (size_t)i * ENTRY_BYTES;
        const uint64_t off = read_u64(entry + 8), size = read_u64(entry + 16);
        if (off <= bytes && size <= bytes - off) {
            const uint64_t sum = XXH3_64bits(data + off, (size_t)size);
            memcpy(entry + 24, &sum, sizeof sum);
        }
    }
    memset(data + 56, 0, 8);
    const uint64_t sum = XXH3_64bits(data, (size_t)head_bytes);
    memcpy(data + 56, &sum, sizeof sum);
}

static bool is_small(const struct tl_session_info *info) {
    bool small = info->n_ctx <= N_CTX_MAX && (info->dense == NULL || info->dense->hot <= HOT_MAX);
    for (uint32_t il = 0; il < info->n_layers; il++) {
        small = small && info->policies[il].hot <= HOT_MAX;
    }
    return small;
}

/* Some steps, a rewind and a prompt: whatever the file's bytes were, they are only numbers. */
static void go_on(tl_session *s) {
    static const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const uint32_t n = tl_session_n(s);
    for (uint32_t i = 0; i < 3 && tl_session_n(s) < tl_session_ctx(s); i++) {
        TL_ASSERT(tl_session_step(s, ids[i]) == TL_OK);
    }
    tl_session_rewind(s, n / 2);
    if (tl_session_ctx(s) - tl_session_n(s) >= 10) {
        TL_ASSERT(tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = 10}) == TL_OK);
    }
    if (tl_session_n(s) < tl_session_ctx(s)) {
        TL_ASSERT(tl_session_step(s, 11) == TL_OK);
    }
}

static bool resume(const tl_session_file *f, const struct tl_session_info *info) {
    tl_engine *const engine = session_walk_engine();
    tl_session *s = NULL;
    const struct tl_session_params params = {
        .n_ctx = info->n_ctx, .policies = info->policies, .dense = info->dense};
    bool resumed = false;
    if (tl_session_open(&s, engine, &params) == TL_OK) {
        resumed = tl_session_resume(s, f, info->kv) == TL_OK;
        TL_ASSERT(tl_session_n(s) == (resumed ? info->n_rows : 0));
        go_on(s);
    }
    tl_session_close(&s);
    return resumed;
}

bool session_walk(const uint8_t *data, size_t bytes) {
    tl_session_file *f = NULL;
    bool resumed = false;
    if (tl_session_file_open_memory(&f, data, bytes, "walk", NULL) == TL_OK) {
        const struct tl_session_info info = tl_session_file_info(f);
        resumed =
            is_small(&info) && tl_session_file_fits(f, session_walk_engine()) && resume(f, &info);
    }
    tl_session_file_close(&f);
    return resumed;
}
