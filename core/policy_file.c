#include "policy_file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HASHED_BYTES = 4096 };

static uint64_t fnv(uint64_t hash, const void *data, size_t n) {
    const unsigned char *const bytes = data;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

uint64_t tl_model_hash(const tl_weights *w) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < tl_weights_n_tensors(w); i++) {
        const struct tl_tensor *const t = tl_weights_tensor(w, i);
        const uint32_t dtype = t->dtype;
        hash = fnv(hash, t->name.data, t->name.len);
        hash = fnv(hash, t->dims, sizeof t->dims);
        hash = fnv(hash, &dtype, sizeof dtype);
        hash = fnv(hash, t->data, (size_t)tl_min_u64(t->bytes, HASHED_BYTES));
    }
    return hash;
}

struct reader {
    const char *name;
    const tl_log *log;
    struct tl_policies set; /* with layers of its own */
};

static tl_err bad(const struct reader *r, const char *what, const char *which) {
    return tl_fail(r->log, TL_ERR_FORMAT, "%s: %s '%s'", r->name, what, which);
}

/* Sets the knobs of one JSON object. */
static tl_err set_knobs(const struct reader *r, json_t *knobs, struct tl_policy *policy) {
    if (!json_is_object(knobs)) {
        return tl_fail(r->log, TL_ERR_FORMAT, "%s: a layer's knobs must be an object", r->name);
    }
    const char *key;
    json_t *value;
    json_object_foreach(knobs, key, value) {
        char number[24];
        const char *text = json_string_value(value);
        if (json_is_integer(value)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
            text = number;
        }
        if (text == NULL) {
            return bad(r, "not a name or a whole number: knob", key);
        }
        TL_TRY(tl_policy_set(policy, key, text, r->log));
    }
    return TL_OK;
}

bool tl_layer_range(const char *text, uint32_t n_layers, uint32_t *first, uint32_t *last) {
    char *end = NULL;
    errno = 0;
    const bool digit = text[0] >= '0' && text[0] <= '9';
    const unsigned long long a = strtoull(text, &end, 10);
    unsigned long long b = a;
    if (digit && *end == '-' && end[1] >= '0' && end[1] <= '9') {
        b = strtoull(end + 1, &end, 10);
    }
    *first = (uint32_t)a;
    *last = (uint32_t)b;
    return digit && *end == '\0' && errno == 0 && a <= b && b < n_layers;
}

void tl_layer_range_spell(uint32_t first, uint32_t last, char *text, size_t cap) {
    if (first == last) {
        snprintf(text, cap, "%u", first);
    } else {
        snprintf(text, cap, "%u-%u", first, last);
    }
}

static tl_err read_layers(const struct reader *r, json_t *layers) {
    if (!json_is_object(layers)) {
        return tl_fail(r->log, TL_ERR_FORMAT, "%s: \"layers\" must be an object", r->name);
    }
    const char *key;
    json_t *knobs;
    json_object_foreach(layers, key, knobs) {
        uint32_t first, last;
        if (!tl_layer_range(key, r->set.n_layers, &first, &last)) {
            return bad(r, "the model has no layers", key);
        }
        for (uint32_t il = first; il <= last; il++) {
            TL_TRY(set_knobs(r, knobs, &r->set.layers[il]));
        }
    }
    return TL_OK;
}

/* Which layers are dense. */
static tl_err read_dense(struct reader *r, const json_t *list) {
    if (!json_is_array(list)) {
        return tl_fail(r->log, TL_ERR_FORMAT, "%s: \"dense\" must be a list of layers", r->name);
    }
    if (!r->set.has_dense && json_array_size(list) > 0) {
        return tl_fail(r->log, TL_ERR_FORMAT,
                       "%s: \"dense\": the preset has no policy of dense layers", r->name);
    }
    memset(r->set.is_dense, 0, sizeof r->set.is_dense);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        char number[24];
        const char *text = json_string_value(item);
        if (json_is_integer(item)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(item));
            text = number;
        }
        uint32_t first, last;
        if (text == NULL || !tl_layer_range(text, r->set.n_layers, &first, &last)) {
            return bad(r, "\"dense\": the model has no layers", text != NULL ? text : "?");
        }
        for (uint32_t il = first; il <= last; il++) {
            r->set.is_dense[il] = true;
        }
    }
    r->set.finds_dense = false;
    return TL_OK;
}

void tl_policies_of_preset(const struct tl_preset *preset, struct tl_policies *out) {
    out->others = preset->policy;
    out->has_dense = preset->dense != NULL;
    out->finds_dense = out->has_dense && preset->n_dense == 0;
    out->books = NULL;
    out->dense = out->has_dense ? *preset->dense : (struct tl_policy){0};
    for (uint32_t il = 0; il < out->n_layers; il++) {
        out->is_dense[il] = il < preset->n_dense;
        out->layers[il] = out->is_dense[il] ? out->dense : out->others;
    }
}

static tl_err set_dense(struct tl_policies *set, const char *value, const tl_log *log) {
    uint32_t first = 0, last = set->n_layers - 1;
    const bool none = strcmp(value, "none") == 0;
    if (!none && !tl_layer_range(value, set->n_layers, &first, &last)) {
        return tl_fail(log, TL_ERR_FORMAT, "cache policy: dense: the model has no layers '%s'",
                       value);
    }
    if (!none && !set->has_dense) {
        return tl_fail(log, TL_ERR_FORMAT,
                       "cache policy: dense: the preset has no policy of dense layers");
    }
    for (uint32_t il = first; il <= last; il++) {
        if (set->is_dense[il] == none) {
            set->layers[il] = none ? set->others : set->dense;
            set->is_dense[il] = !none;
        }
    }
    set->finds_dense = false;
    return TL_OK;
}

tl_err tl_policies_set(struct tl_policies *set, const char *knob, const char *value,
                       const tl_log *log) {
    static const char prefix[] = "dense.";
    if (strcmp(knob, "dense") == 0) {
        return set_dense(set, value, log);
    }
    const bool of_dense = strncmp(knob, prefix, sizeof prefix - 1) == 0;
    const char *const name = of_dense ? knob + sizeof prefix - 1 : knob;
    if (of_dense && !set->has_dense) {
        return tl_fail(log, TL_ERR_FORMAT,
                       "cache policy: %s: the preset has no policy of dense layers", knob);
    }
    TL_TRY(tl_policy_set(of_dense ? &set->dense : &set->others, name, value, log));
    for (uint32_t il = 0; il < set->n_layers; il++) {
        if (set->is_dense[il] == of_dense) {
            TL_TRY(tl_policy_set(&set->layers[il], name, value, log));
        }
    }
    return TL_OK;
}

tl_err tl_policies_check(const struct tl_policies *set, const tl_log *log) {
    for (uint32_t il = 0; il < set->n_layers; il++) {
        TL_TRY(tl_policy_check(&set->layers[il], log));
    }
    return set->has_dense ? tl_policy_check(&set->dense, log) : TL_OK;
}

static tl_err read_preset(struct reader *r, const json_t *root) {
    const json_t *const name = json_object_get(root, "preset");
    const char *const text = name != NULL ? json_string_value(name) : "full";
    const struct tl_preset *const preset = text != NULL ? tl_preset_find(text) : NULL;
    if (preset == NULL) {
        return bad(r, "no such preset:", text != NULL ? text : "(not a name)");
    }
    tl_policies_of_preset(preset, &r->set);
    return TL_OK;
}

static tl_err check_header(const struct reader *r, json_t *root, uint64_t model_hash) {
    static const char *const known[] = {"tailor_policy", "model_hash",   "preset",
                                        "dense",         "dense_policy", "all",
                                        "layers",        "codebooks",    "measured"};
    if (!json_is_object(root)) {
        return tl_fail(r->log, TL_ERR_FORMAT, "%s: not a policy file", r->name);
    }
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        size_t i = 0;
        while (i < sizeof known / sizeof known[0] && strcmp(known[i], key) != 0) {
            i++;
        }
        if (i == sizeof known / sizeof known[0]) {
            return bad(r, "unknown key", key);
        }
    }
    const json_t *const version = json_object_get(root, "tailor_policy");
    if (!json_is_integer(version) || json_integer_value(version) != 1) {
        return tl_fail(r->log, TL_ERR_FORMAT, "%s: \"tailor_policy\" must be 1, the version",
                       r->name);
    }
    const json_t *const hash = json_object_get(root, "model_hash");
    char expected[17];
    snprintf(expected, sizeof expected, "%016" PRIx64, model_hash);
    if (hash != NULL && (!json_is_string(hash) || strcmp(json_string_value(hash), expected) != 0)) {
        return tl_fail(r->log, TL_ERR_FORMAT,
                       "%s: made for another model (hash %s, this one has %s)", r->name,
                       json_is_string(hash) ? json_string_value(hash) : "?", expected);
    }
    return TL_OK;
}

static tl_err read_root(struct reader *r, json_t *root, uint64_t model_hash) {
    TL_TRY(check_header(r, root, model_hash));
    TL_TRY(read_preset(r, root));
    json_t *const list = json_object_get(root, "dense");
    if (list != NULL) {
        TL_TRY(read_dense(r, list));
    }
    json_t *const dense = json_object_get(root, "dense_policy");
    if (dense != NULL && !r->set.has_dense) {
        return tl_fail(r->log, TL_ERR_FORMAT,
                       "%s: \"dense_policy\": the preset has no policy of dense layers", r->name);
    }
    if (dense != NULL) {
        TL_TRY(set_knobs(r, dense, &r->set.dense));
    }
    json_t *const all = json_object_get(root, "all");
    if (all != NULL) {
        TL_TRY(set_knobs(r, all, &r->set.others));
    }
    for (uint32_t il = 0; il < r->set.n_layers; il++) {
        r->set.layers[il] = r->set.is_dense[il] ? r->set.dense : r->set.others;
    }
    json_t *const layers = json_object_get(root, "layers");
    if (layers != NULL) {
        TL_TRY(read_layers(r, layers));
    }
    TL_TRY(tl_policies_check(&r->set, r->log));
    json_t *const books = json_object_get(root, "codebooks");
    return books != NULL ? tl_books_read(&r->set.books, books, r->set.n_layers, r->name, r->log)
                         : TL_OK;
}

tl_err tl_policy_file_read(tl_str text, const char *name, uint64_t model_hash,
                           struct tl_policies *out, const tl_log *log) {
    struct reader r = {.name = name, .log = log, .set = {.n_layers = out->n_layers}};
    json_error_t error;
    json_t *const root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return tl_fail(log, TL_ERR_FORMAT, "%s: line %d: %s", name, error.line, error.text);
    }
    struct tl_policy *const layers = calloc(out->n_layers, sizeof *layers);
    r.set.layers = layers;
    const tl_err err = layers != NULL ? read_root(&r, root, model_hash) : TL_ERR_MEMORY;
    if (!err) {
        memcpy(out->layers, layers, out->n_layers * sizeof *layers);
        r.set.layers = out->layers;
        *out = r.set;
    }
    free(layers);
    json_decref(root);
    return err;
}
