#include "policies.h"

#include "out.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_preset_layer(const struct tl_policy *p) { return p->select != TL_SELECT_ALL; }

tl_err cli_apply_knobs(const struct cli_args *args, struct tl_policies *set, const tl_log *log) {
    uint32_t window[2] = {0};
    if (args->window != NULL) {
        cli_parse_list(args->window, window, 2);
    }
    for (uint32_t il = 0; il < set->n_layers; il++) {
        struct tl_policy *const p = &set->layers[il];
        if (args->topk != CLI_UNSET && p->select == TL_SELECT_TOPK) {
            p->topk = args->topk;
            p->share = 0;
            p->hot = p->hot == 0 ? 0 : (uint32_t)tl_max_u64(p->hot, 2ull * args->topk);
        }
        if (args->window != NULL && is_preset_layer(p) && !set->is_dense[il]) {
            p->sink = window[0];
            p->recent = window[1];
        }
    }
    char list[2048];
    const int len = snprintf(list, sizeof list, "%s", args->kv_set != NULL ? args->kv_set : "");
    if ((size_t)len >= sizeof list) {
        return tl_fail(log, TL_ERR_FORMAT, "--kv-set: more than %zu bytes", sizeof list - 1);
    }
    char *rest = list;
    for (char *knob; (knob = strtok_r(rest, ",", &rest)) != NULL;) {
        char *const equals = strchr(knob, '=');
        if (equals == NULL) {
            return tl_fail(log, TL_ERR_FORMAT, "--kv-set: '%s' is not KNOB=VALUE", knob);
        }
        *equals = '\0';
        TL_TRY(tl_policies_set(set, knob, equals + 1, log));
    }
    return tl_policies_check(set, log);
}

static tl_err list_presets(const char *asked, const tl_log *log) {
    char names[256] = "";
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        const size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", at > 0 ? ", " : "", p->name);
    }
    return tl_fail(log, TL_ERR_FORMAT, "--kv: '%s' is neither a preset (%s) nor a policy file",
                   asked, names);
}

tl_err cli_read_policies(const char *kv, const tl_weights *weights, struct tl_policies *set,
                         const tl_log *log) {
    const struct tl_preset *const preset = tl_preset_find(kv);
    if (preset != NULL) {
        tl_policies_of_preset(preset, set);
        return TL_OK;
    }
    if (access(kv, F_OK) != 0) {
        return list_presets(kv, log);
    }
    tl_bytes text = {0};
    TL_TRY(cli_read_file_log(kv, &text, log));
    const uint64_t hash = weights != NULL ? tl_model_hash(weights) : 0;
    const tl_err err = tl_policy_file_read((tl_str){text.data, text.len}, kv, hash, set, log);
    tl_bytes_free(&text);
    return err;
}

void cli_policies_free(struct tl_policies *set) {
    tl_books_close(&set->books);
    free(set->layers);
    set->layers = NULL;
}

tl_err cli_policies(const struct cli_args *args, const char *kv, uint32_t n_layers,
                    const tl_weights *weights, struct tl_policies *out, const tl_log *log) {
    struct tl_policies set = {.n_layers = n_layers};
    set.layers = calloc(n_layers, sizeof *set.layers);
    if (set.layers == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = cli_read_policies(kv, weights, &set, log);
    if (!err) {
        err = cli_apply_knobs(args, &set, log);
    }
    if (err) {
        cli_policies_free(&set);
        return err;
    }
    *out = set;
    return TL_OK;
}

bool cli_has_kv_options(const struct cli_args *args) {
    return args->kv != NULL || args->kv_set != NULL || args->window != NULL ||
           args->topk != CLI_UNSET;
}

const char *cli_kv(const struct cli_args *args, uint32_t n_ctx, uint32_t head_dim) {
    if (args->kv != NULL) {
        return args->kv;
    }
    return tl_preset_default(cli_has_kv_options(args) ? UINT32_MAX : n_ctx, head_dim)->name;
}

bool cli_kv_exists(const char *kv) {
    const bool exists = tl_preset_find(kv) != NULL || access(kv, R_OK) == 0;
    if (!exists) {
        cli_error("--kv: '%s' is neither a preset nor a policy file", kv);
    }
    return exists;
}

void cli_print_presets(void) {
    enum { WIDTH = 10 };
    puts("--kv PRESET, or a policy file (tailor fit):");
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        printf("  %-*s%s\n", WIDTH, p->name, p->summary);
    }
    printf("\n--kv-set KNOB=VALUE; of dense layers dense.KNOB=VALUE:\n%-*s", WIDTH + 2, "");
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        printf("%-*s", WIDTH, p->name);
    }
    puts("");
    const char *knob;
    for (size_t i = 0; (knob = tl_policy_knob(i)) != NULL; i++) {
        printf("  %-*s", WIDTH, knob);
        for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
            char number[12];
            printf("%-*s", WIDTH, tl_policy_get(&p->policy, knob, number, sizeof number));
        }
        puts("");
    }
    printf("%-*sshare: topk and hot grow to fill that part of the exact cache; setting topk, hot "
           "or k_codec "
           "ends it\n",
           WIDTH + 2, "");
}
