/* Table and policy file; the picture is in fit_plot.c. */
#include "fit_report.h"

#include "out.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *class_of(const struct cli_fit_layer *layer) {
    return layer->sliding_window > 0 ? "window" : layer->dense ? "dense" : "sparse";
}

static void print_errors(const double *errors, FILE *out) {
    for (uint32_t i = 0; i < TL_CODECS_TRIED; i++) {
        if (errors[i] < 0) {
            fprintf(out, " %7s", "-");
        } else {
            fprintf(out, " %7.2f", 100 * errors[i]);
        }
    }
}

static void print_codecs(FILE *out) {
    for (uint32_t i = 0; i < TL_CODECS_TRIED; i++) {
        fprintf(out, " %7s", tl_codec_names[tl_codecs_tried[i]]);
    }
    fputc('\n', out);
}

void cli_fit_report_table(const struct cli_fit_report *report, FILE *out) {
    uint32_t n_dense = 0;
    fprintf(out, "%-6s %-7s %6s   keys: output error %%\n%-6s %-7s %6s  ", "", "", "", "layer",
            "class", "score");
    print_codecs(out);
    for (uint32_t il = 0; il < report->n_layers; il++) {
        const struct cli_fit_layer *const layer = &report->layers[il];
        fprintf(out, "%-6u %-7s %6.3f  ", il, class_of(layer), layer->found->score);
        print_errors(layer->found->k_error, out);
        fputc('\n', out);
        n_dense += layer->dense;
    }
    fprintf(out, "\n%-21s   values: output error %%\n%-21s  ", "", "layer");
    print_codecs(out);
    for (uint32_t il = 0; il < report->n_layers; il++) {
        fprintf(out, "%-21u  ", il);
        print_errors(report->layers[il].found->v_error, out);
        fputc('\n', out);
    }
    fprintf(out,
            "\n%u of %u layers attend densely (score above %g, %u tokens); codes fitted by %s\n",
            n_dense, report->n_layers, report->tau, report->n_tokens, tl_fit_names[report->fit]);
    if (report->indexes != NULL) {
        cli_fit_indexes_table(report->indexes, out);
    }
    fflush(out);
}

/* What the digits of a measurement are worth. */
static json_t *rounded(double value) {
    const double scaled = value * 1e6;
    return json_real((double)(int64_t)(scaled + (scaled < 0 ? -0.5 : 0.5)) / 1e6);
}

static json_t *json_errors(const double *errors) {
    json_t *const object = json_object();
    for (uint32_t i = 0; i < TL_CODECS_TRIED; i++) {
        json_object_set_new(object, tl_codec_names[tl_codecs_tried[i]],
                            errors[i] < 0 ? json_null() : rounded(errors[i]));
    }
    return object;
}

static json_t *json_layer(const struct cli_fit_report *report, uint32_t il) {
    const struct cli_fit_layer *const layer = &report->layers[il];
    json_t *const heads = json_array();
    for (uint32_t h = 0; h < report->n_heads; h++) {
        json_t *const curve = json_array();
        for (uint32_t i = 0; i < TL_CURVE_POINTS; i++) {
            json_array_append_new(curve,
                                  rounded((double)layer->found->mass[h * TL_CURVE_POINTS + i]));
        }
        json_array_append_new(heads, curve);
    }
    return json_pack("{s:i,s:s,s:o,s:i,s:o,s:o,s:o}", "layer", (int)il, "class", class_of(layer),
                     "score", rounded(layer->found->score), "sliding_window",
                     (int)layer->sliding_window, "mass", heads, "k_error",
                     json_errors(layer->found->k_error), "v_error",
                     json_errors(layer->found->v_error));
}

/* The knobs of --kv-set: those of dense layers into "dense_policy", all others into "all". */
static void add_knobs(json_t *root, const char *kv_set) {
    static const char prefix[] = "dense.";
    char list[512];
    snprintf(list, sizeof list, "%s", kv_set);
    char *rest = list;
    for (char *knob; (knob = strtok_r(rest, ",", &rest)) != NULL;) {
        char *const equals = strchr(knob, '=');
        const bool dense = strncmp(knob, prefix, sizeof prefix - 1) == 0;
        const char *const group = dense ? "dense_policy" : "all";
        if (equals == NULL) {
            continue; /* refused when the policies were made */
        }
        *equals = '\0';
        json_t *knobs = json_object_get(root, group);
        if (knobs == NULL) {
            knobs = json_object();
            json_object_set_new(root, group, knobs);
        }
        json_object_set_new(knobs, dense ? knob + sizeof prefix - 1 : knob,
                            json_string(equals + 1));
    }
}

json_t *cli_fit_report_json(const struct cli_fit_report *report) {
    json_t *const dense = json_array(), *const layers = json_array(), *const parts = json_array();
    for (uint32_t il = 0; il < report->n_layers; il++) {
        if (report->layers[il].dense) {
            json_array_append_new(dense, json_integer(il));
        }
        json_array_append_new(layers, json_layer(report, il));
    }
    for (uint32_t i = 0; i < TL_CURVE_POINTS; i++) {
        json_array_append_new(parts, json_real((double)tl_curve_parts[i] / TL_MASS_WHOLE));
    }
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, report->model_hash);
    json_t *const root = json_pack("{s:i,s:s,s:s}", "tailor_policy", 1, "model_hash", hash,
                                   "preset", report->preset->name);
    if (report->preset->dense != NULL) {
        json_object_set(root, "dense", dense);
    }
    if (report->kv_set != NULL) {
        add_knobs(root, report->kv_set);
    }
    if (report->books != NULL) {
        json_object_set_new(root, "codebooks", tl_books_json(report->books));
    }
    json_t *const measured = json_pack(
        "{s:o,s:o,s:i,s:i,s:f,s:s,s:O,s:o,s:o}", "model", cli_json_text(report->model_name), "text",
        cli_json_text(report->text_name), "tokens", (int)report->n_tokens, "queries",
        (int)report->layers[0].found->n_queries, "tau", report->tau, "fit",
        tl_fit_names[report->fit], "dense", dense, "mass_parts", parts, "layers", layers);
    if (report->indexes != NULL) {
        json_object_set_new(measured, "indexes", cli_fit_indexes_json(report->indexes));
    }
    json_object_set_new(root, "measured", measured);
    json_decref(dense);
    return root;
}

/* A value, objects and arrays of the outer levels line by line. */
static tl_err add_lines(tl_bytes *out, const json_t *value, int levels) {
    const size_t n = json_is_object(value) ? json_object_size(value) : json_array_size(value);
    if (levels == 0 || n == 0) {
        char *const text =
            json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        const tl_err err = text != NULL ? tl_bytes_add_str(out, text) : TL_ERR_MEMORY;
        free(text);
        return err;
    }
    const bool is_object = json_is_object(value);
    /* The iterator wants an object that may change; nothing here changes it. */
    void *item = is_object ? json_object_iter((json_t *)(uintptr_t)value) : NULL;
    TL_TRY(tl_bytes_add_str(out, is_object ? "{" : "["));
    for (size_t i = 0; i < n; i++) {
        TL_TRY(tl_bytes_add_str(out, i > 0 ? ",\n" : "\n"));
        if (is_object) {
            TL_TRY(tl_bytes_add_str(out, "\""));
            TL_TRY(tl_bytes_add_str(out, json_object_iter_key(item)));
            TL_TRY(tl_bytes_add_str(out, "\": "));
        }
        const json_t *const child =
            is_object ? json_object_iter_value(item) : json_array_get(value, i);
        const bool opens = json_is_object(child) || (!is_object && json_is_array(child));
        const bool layers =
            is_object && json_is_array(child) && json_is_object(json_array_get(child, 0));
        TL_TRY(add_lines(out, child, (opens || layers) && levels > 1 ? levels - 1 : 0));
        item = is_object ? json_object_iter_next((json_t *)(uintptr_t)value, item) : NULL;
    }
    return tl_bytes_add_str(out, is_object ? "\n}" : "\n]");
}

tl_err cli_fit_report_text(const struct cli_fit_report *report, tl_bytes *out) {
    json_t *const root = cli_fit_report_json(report);
    tl_err err = root != NULL ? add_lines(out, root, 3) : TL_ERR_MEMORY;
    json_decref(root);
    return err ? err : tl_bytes_add_str(out, "\n");
}
