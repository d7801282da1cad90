/* tailor devices: what this build can run on, here. */
#include "commands.h"
#include "load.h"

#include "core/backend.h"

/* What a device offers beyond the needed, and what it costs where it does not: null, or a phrase.
 */
static json_t *describe_features(const struct tl_dev_caps *caps) {
    json_t *const all = json_object();
    for (uint32_t i = 0; i < caps->n_features; i++) {
        const struct tl_dev_feature *const f = &caps->features[i];
        json_object_set_new(all, f->name,
                            json_pack("{s:b,s:s?}", "present", f->present, "absence_costs",
                                      f->present ? NULL : f->cost));
    }
    return all;
}

static json_t *describe(const tl_backend *backend, uint32_t index, const struct cli_args *args,
                        struct cli_log *log) {
    tl_dev *dev = NULL;
    const struct tl_dev_params params = {
        .index = index, .n_threads = args->n_threads, .log = cli_log_of(log)};
    if (tl_dev_open(&dev, backend, &params)) {
        return NULL;
    }
    struct tl_dev_caps caps;
    tl_dev_get_caps(dev, &caps);
    tl_dev_close(&dev);
    return json_pack(
        "{s:s,s:i,s:s,s:s,s:I,s:I,s:i,s:b,s:b,s:o}", "backend", backend->name, "device", (int)index,
        "name", caps.name, "kernels", caps.kernels, "bytes_total", (json_int_t)caps.bytes_total,
        "bytes_free", (json_int_t)caps.bytes_free, "threads", (int)caps.n_threads, "unified",
        caps.unified, "codebooks", caps.codebooks, "features", describe_features(&caps));
}

static void print_features(json_t *features) {
    const char *name;
    json_t *feature;
    bool first = true;
    json_object_foreach(features, name, feature) {
        if (json_is_true(json_object_get(feature, "present"))) {
            printf("%s%s", first ? "           has " : ", ", name);
            first = false;
        }
    }
    fputs(first ? "" : "\n", stdout);
    json_object_foreach(features, name, feature) {
        if (!json_is_true(json_object_get(feature, "present"))) {
            printf("           no %s: %s\n", name,
                   json_string_value(json_object_get(feature, "absence_costs")));
        }
    }
}

static void print_device(const json_t *device) {
    char total[16], free_bytes[16];
    printf("%-7s %d  %s\n", json_string_value(json_object_get(device, "backend")),
           (int)json_integer_value(json_object_get(device, "device")),
           json_string_value(json_object_get(device, "name")));
    printf(
        "           memory %s, %s free; kernels %s; runs every preset%s\n",
        cli_bytes((uint64_t)json_integer_value(json_object_get(device, "bytes_total")), total),
        cli_bytes((uint64_t)json_integer_value(json_object_get(device, "bytes_free")), free_bytes),
        json_string_value(json_object_get(device, "kernels")),
        json_is_true(json_object_get(device, "codebooks")) ? "" : " but vecinfer*");
    print_features(json_object_get(device, "features"));
}

int cmd_devices(const struct cli_args *args) {
    struct cli_log log = {0};
    json_t *const devices = json_array();
    for (size_t i = 0; tl_backends[i] != NULL; i++) {
        const uint32_t n = tl_backends[i]->dev_count();
        for (uint32_t index = 0; index < n; index++) {
            json_t *const device = describe(tl_backends[i], index, args, &log);
            if (device != NULL) {
                json_array_append_new(devices, device);
            }
        }
    }
    const bool found = json_array_size(devices) > 0;
    if (args->json) {
        return cli_print_json(json_pack("{s:o}", "devices", devices)) && found ? 0 : 1;
    }
    for (size_t i = 0; i < json_array_size(devices); i++) {
        print_device(json_array_get(devices, i));
    }
    static const char *const planned[] = {"cuda", "vulkan"};
    for (size_t i = 0; i < 2; i++) {
        const tl_backend *const backend = tl_backend_find(planned[i]);
        if (backend == NULL) {
            printf("%-7s -  not in this build\n", planned[i]);
        } else if (backend->dev_count() == 0) {
            printf("%-7s -  no driver, or no card that it can use\n", planned[i]);
        }
    }
    json_decref(devices);
    if (!found) {
        cli_error("no device found");
    }
    return found ? 0 : 1;
}
