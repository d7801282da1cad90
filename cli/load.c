#include "load.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

bool cli_bundled_model(char *path, size_t cap) {
    char exe[4096];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) {
        return false;
    }
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    static const char *const places[] = {"../share/tailor/demo.gguf", "../../models/demo.gguf"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const int len = snprintf(path, cap, "%s/%s", exe, places[i]);
        if (len > 0 && (size_t)len < cap && access(path, R_OK) == 0) {
            return true;
        }
    }
    return false;
}

int cli_load(struct cli_loaded *out, const struct cli_args *args) {
    *out = (struct cli_loaded){.log = {.strict = args->strict}};
    if (args->model == NULL) {
        cli_error("a model is missing: -m FILE");
        return 2;
    }
    if (args->kv != NULL && strcmp(args->kv, "full") != 0) {
        cli_error("--kv: preset '%s' is not in this version (known: full)", args->kv);
        return 2;
    }
    const struct tl_engine_params params = {.model_path = args->model,
                                            .backend = args->backend,
                                            .device = args->device,
                                            .n_threads = args->n_threads,
                                            .n_ctx = args->n_ctx,
                                            .log = cli_log_of(&out->log)};
    tl_err err = tl_engine_open(&out->engine, &params);
    if (!err) {
        err = tl_session_open(&out->session, out->engine, &(struct tl_session_params){0});
    }
    if (err || cli_strict_failed(&out->log)) {
        cli_unload(out);
        return err ? cli_failed(&out->log, err) : 1;
    }
    return 0;
}

void cli_unload(struct cli_loaded *loaded) {
    tl_session_close(&loaded->session);
    tl_engine_close(&loaded->engine);
}

const char *cli_bytes(uint64_t bytes, char *text) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 16, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

void cli_print_plan(const struct cli_loaded *loaded) {
    const struct tl_shape *const shape = &tl_engine_model(loaded->engine)->shape;
    struct tl_dev_caps caps;
    struct tl_session_memory memory;
    tl_engine_caps(loaded->engine, &caps);
    tl_session_get_memory(loaded->session, &memory);
    char weights[16], kv[16], scratch[16];
    fprintf(stderr, "%s (%s) on %s: %s, kernels %s\n",
            shape->name[0] != '\0' ? shape->name : "unnamed model", shape->family->name,
            tl_engine_backend(loaded->engine), caps.name, caps.kernels);
    fprintf(stderr, "weights %s, context %u tokens, cache full: %s when full, scratch %s\n",
            cli_bytes(memory.weights_bytes, weights), tl_session_ctx(loaded->session),
            cli_bytes(memory.kv_device_bytes, kv), cli_bytes(memory.scratch_bytes, scratch));
}

struct tl_sampler_params cli_sampler_params(const struct cli_args *args) {
    uint64_t seed = args->seed;
    if (!args->has_seed && getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        seed = tl_now_ns();
    }
    return (struct tl_sampler_params){.repeat_penalty = args->repeat_penalty,
                                      .repeat_last = args->repeat_last,
                                      .top_k = args->top_k,
                                      .top_p = args->top_p,
                                      .min_p = args->min_p,
                                      .temp = args->temp,
                                      .seed = args->has_seed ? seed : seed >> 12};
}
