/* Speed of one backend at a depth that would take it long to reach: the CPU fills a session with
 * random tokens and keeps it in a file (or finds the file of an earlier run), the backend that is
 * measured resumes it. Which backend wrote a file makes no difference to what is read
 * (core/session_file.h).
 *
 *   deep MODEL BACKEND KV DEPTH STEPS PROMPT FILE
 *
 * prints the best of the steps one by one, their median, and the rate of one prompt of PROMPT
 * tokens behind them (0: none). FILE "repeat": nothing is kept; the first thousand tokens are fed,
 * and their rows repeated up to the depth, which takes a second and makes no difference to a preset
 * that reads all rows. For developers: `cmake --build --preset release --target deep`. */
#include "core/engine.h"
#include "core/engine_priv.h"
#include "core/policy.h"
#include "core/session_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LAYERS_MAX = 256,
    STEPS_MAX = 256,
    ROOM = 1024 /* tokens behind the depth */,
    REPEATED = 1024
};

struct task {
    const char *model, *backend, *kv, *file;
    uint32_t depth, n_steps, n_prompt;
    uint64_t rng;
};

static uint32_t random_id(struct task *t, const tl_engine *e) {
    t->rng = t->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((t->rng >> 33) % tl_engine_model(e)->shape.n_vocab);
}

static tl_err feed(struct task *t, tl_engine *e, tl_session *s, uint32_t n) {
    uint32_t *const ids = calloc((size_t)n + 1, sizeof *ids);
    if (ids == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = random_id(t, e);
    }
    const tl_err err = tl_session_feed(s, &(struct tl_feed){.ids = ids, .n = n});
    free(ids);
    return err;
}

static void print_log(void *user, tl_level level, const char *sentence) {
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", sentence);
}

static const tl_log to_stderr = {.fn = print_log};

static tl_err open_engine(const struct task *t, const char *backend, tl_engine **out) {
    const char *const cache = getenv("XDG_CACHE_HOME");
    const struct tl_engine_params params = {.model_path = t->model,
                                            .backend = backend,
                                            .n_threads = 2,
                                            .cache_dir = cache != NULL ? cache : "/tmp/tailor-deep",
                                            .debug = getenv("TAILOR_TEST_DEVICE"),
                                            .log = to_stderr};
    return tl_engine_open(out, &params);
}

static tl_err open_session(const struct task *t, tl_engine *e, tl_session **out) {
    const struct tl_preset *const preset = tl_preset_find(t->kv);
    static struct tl_policy policies[LAYERS_MAX];
    const uint32_t n = tl_engine_model(e)->shape.n_layers;
    if (preset == NULL || n > LAYERS_MAX) {
        return TL_ERR_UNSUPPORTED;
    }
    for (uint32_t il = 0; il < n; il++) {
        policies[il] = preset->policy;
    }
    const struct tl_session_params params = {.n_ctx = t->depth + ROOM, .policies = policies};
    return tl_session_open(out, e, &params);
}

static tl_err fill(struct task *t) {
    tl_engine *e = NULL;
    tl_session *s = NULL;
    tl_session_lock *lock = NULL;
    tl_err err = open_engine(t, "cpu", &e);
    err = err ? err : open_session(t, e, &s);
    err = err ? err : feed(t, e, s, t->depth);
    err = err ? err : tl_session_lock_open(&lock, t->file, &to_stderr);
    err = err ? err : tl_session_save(s, lock, &(struct tl_session_save){.kv = t->kv});
    tl_session_lock_close(&lock);
    tl_session_close(&s);
    tl_engine_close(&e);
    return err;
}

static tl_err resume(const struct task *t, tl_session *s) {
    tl_session_lock *lock = NULL;
    tl_session_file *file = NULL;
    tl_err err = tl_session_lock_open(&lock, t->file, &to_stderr);
    err = err ? err : tl_session_file_open(&file, lock);
    err = err ? err : tl_session_resume(s, file, t->kv);
    tl_session_file_close(&file);
    tl_session_lock_close(&lock);
    return err;
}

/* Rows [n_there, n) of each head := those that are there, again and again. */
static bool repeat_rows(const tl_view *v, uint32_t n_heads, uint32_t n_there, uint32_t n) {
    const uint64_t row = tl_row_bytes(v->dtype, v->cols), cap = v->rows / n_heads;
    if (v->buf->host == NULL || n_there == 0) {
        return false;
    }
    for (uint32_t h = 0; h < n_heads; h++) {
        uint8_t *const rows = (uint8_t *)tl_view_host(*v) + h * cap * row;
        for (uint32_t i = n_there; i < n; i++) {
            memcpy(rows + i * row, rows + (uint64_t)(i % n_there) * row, row);
        }
    }
    return true;
}

/* As if the session held t->depth rows. */
static tl_err repeat(struct task *t, tl_engine *e, tl_session *s) {
    tl_kv *const kv = tl_session_kv(s);
    uint32_t *const ids = calloc(t->depth, sizeof *ids);
    tl_err err = ids != NULL ? feed(t, e, s, REPEATED) : TL_ERR_MEMORY;
    for (uint32_t il = 0; !err && il < kv->n_layers; il++) {
        struct tl_kv_layer *const layer = &kv->layers[il];
        struct tl_kv_part there[TL_KV_PARTS_MAX], parts[TL_KV_PARTS_MAX];
        tl_kv_list_parts(layer, REPEATED, there);
        layer->n_blocks = tl_kv_is_exact(layer) ? 0 : tl_kv_n_blocks(&layer->policy, t->depth - 1);
        const uint32_t n = tl_kv_list_parts(layer, t->depth, parts);
        for (uint32_t i = 0; !err && i < n; i++) {
            const bool grows = parts[i].tier >= TL_TIER_HOME_K && parts[i].tier <= TL_TIER_SKETCH_V;
            err = !grows || repeat_rows(&parts[i].view, parts[i].n_groups, there[i].n_used,
                                        parts[i].n_used)
                      ? TL_OK
                      : TL_ERR_UNSUPPORTED;
        }
    }
    if (!err) {
        tl_session_put(s, ids, t->depth, NULL);
    }
    free(ids);
    return err;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static tl_err measure(struct task *t, tl_engine *e, tl_session *s) {
    double seconds[STEPS_MAX];
    TL_TRY(tl_session_step(s, random_id(t, e))); /* kernels are compiled */
    for (uint32_t i = 0; i < t->n_steps; i++) {
        const uint64_t start = tl_now_ns();
        TL_TRY(tl_session_step(s, random_id(t, e)));
        seconds[i] = (double)(tl_now_ns() - start) / 1e9;
    }
    qsort(seconds, t->n_steps, sizeof *seconds, compare);
    printf("%s %s %s depth %u: %.2f tokens/s, best %.2f", strrchr(t->model, '/') + 1, t->backend,
           t->kv, t->depth, 1 / seconds[t->n_steps / 2], 1 / seconds[0]);
    if (t->n_prompt > 0) {
        const uint64_t start = tl_now_ns();
        TL_TRY(feed(t, e, s, t->n_prompt));
        printf(", prompt of %u: %.1f tokens/s", t->n_prompt,
               1e9 * t->n_prompt / (double)(tl_now_ns() - start));
    }
    puts("");
    return TL_OK;
}

int main(int argc, char **argv) {
    if (argc != 8) {
        return 2;
    }
    struct task t = {argv[1],
                     argv[2],
                     argv[3],
                     argv[7],
                     (uint32_t)strtoul(argv[4], NULL, 10),
                     (uint32_t)strtoul(argv[5], NULL, 10),
                     (uint32_t)strtoul(argv[6], NULL, 10),
                     1};
    tl_engine *e = NULL;
    tl_session *s = NULL;
    if (t.n_steps == 0 || t.n_steps > STEPS_MAX || t.n_steps + t.n_prompt >= ROOM ||
        strchr(t.model, '/') == NULL) {
        return 2;
    }
    const bool repeats = strcmp(t.file, "repeat") == 0;
    tl_err err = !repeats && access(t.file, R_OK) != 0 ? fill(&t) : TL_OK;
    err = err ? err : open_engine(&t, t.backend, &e);
    err = err ? err : open_session(&t, e, &s);
    err = err ? err : repeats ? repeat(&t, e, s) : resume(&t, s);
    err = err ? err : measure(&t, e, s);
    tl_session_close(&s);
    tl_engine_close(&e);
    return err ? 1 : 0;
}
