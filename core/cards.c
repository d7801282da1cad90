/* Cards by what their data sheets say as far as we remember them (not looked up: no network here;
 * no figure was measured), and the text form of a card. Memory in the unit it is sold in; links by
 * generation and lanes, of which a large copy reaches 80 % (25 GB/s of 4.0 x16's 31.5). Arithmetic
 * is dense and accumulates in f32, which consumer cards of NVIDIA do at half the rate of f16. What
 * part of a rate an op reaches is the same for all cards until somebody measures one. */
#include "cards.h"

#include "launches.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define GIB 1073741824.0
#define PCIE3(lanes) ((lanes)*0.8 * 0.985e9)
#define PCIE4(lanes) ((lanes)*0.8 * 1.969e9)
#define PCIE5(lanes) ((lanes)*0.8 * 3.938e9)
#define MEMORY(gib) (uint64_t)((gib)*GIB)
/* Of a recorded step on a discrete card: 2 us a launch, 1.5 us to see a byte across the link. */
#define DISCRETE                                                                                   \
    .link_latency_s = 1.5e-6, .launch_s = 2e-6, .reserved = (uint64_t)1 << 29,                     \
    .reached = {[TL_COST_WEIGHTS] = 0.85f, [TL_COST_ROWS] = 0.8f, [TL_COST_CODES] = 0.6f,          \
                [TL_COST_SMALL] = 0.3f,    [TL_COST_LINK] = 0.9f, [TL_COST_PROMPT] = 0.5f}
/* One that the CUDA backend runs. */
#define CUDA DISCRETE, .launching = &tl_launching_cuda

const struct tl_card tl_cards[] = {
    {"rtx-3060", "NVIDIA GeForce RTX 3060 12GB", .bytes_per_s = 360e9,
     .link_bytes_per_s = PCIE4(16), .f16_flops = 25.6e12, .i8_ops = 102e12, .bytes = MEMORY(12),
     CUDA},
    {"rtx-3090", "NVIDIA GeForce RTX 3090", .bytes_per_s = 936e9, .link_bytes_per_s = PCIE4(16),
     .f16_flops = 71e12, .i8_ops = 284e12, .bytes = MEMORY(24), CUDA},
    {"rtx-4090", "NVIDIA GeForce RTX 4090", .bytes_per_s = 1008e9, .link_bytes_per_s = PCIE4(16),
     .f16_flops = 165e12, .i8_ops = 661e12, .bytes = MEMORY(24), CUDA},
    {"rtx-5090", "NVIDIA GeForce RTX 5090", .bytes_per_s = 1792e9, .link_bytes_per_s = PCIE5(16),
     .f16_flops = 210e12, .i8_ops = 838e12, .bytes = MEMORY(32), CUDA},
    {"a100", "NVIDIA A100 80GB", .bytes_per_s = 2039e9, .link_bytes_per_s = PCIE4(16),
     .f16_flops = 312e12, .i8_ops = 624e12, .bytes = (uint64_t)80e9, CUDA},
    {"h200", "NVIDIA H200", .bytes_per_s = 4800e9, .link_bytes_per_s = PCIE5(16),
     .f16_flops = 989e12, .i8_ops = 1979e12, .bytes = (uint64_t)141e9, CUDA},
    {"rx-7900-xtx", "AMD Radeon RX 7900 XTX", .bytes_per_s = 960e9, .link_bytes_per_s = PCIE4(16),
     .f16_flops = 122.8e12, .i8_ops = 122.8e12, .bytes = MEMORY(24), DISCRETE},
    {"arc-b580", "Intel Arc B580", .bytes_per_s = 456e9, .link_bytes_per_s = PCIE4(8),
     .f16_flops = 116.5e12, .i8_ops = 233e12, .bytes = MEMORY(12), DISCRETE},
    {"arc-a770", "Intel Arc A770", .bytes_per_s = 560e9, .link_bytes_per_s = PCIE4(16),
     .f16_flops = 131e12, .i8_ops = 262e12, .bytes = MEMORY(16), DISCRETE},
    /* The machine itself: whoever plans for it measures its bandwidth (bytes_per_s). */
    {"cpu", "this machine's CPU", .launch_s = 1e-6,
     .reached = {[TL_COST_WEIGHTS] = 0.9f,
                 [TL_COST_ROWS] = 0.9f,
                 [TL_COST_CODES] = 0.5f,
                 [TL_COST_SMALL] = 0.5f,
                 [TL_COST_LINK] = 1,
                 [TL_COST_PROMPT] = 0.5f}},
    {.name = NULL},
};

#define ON_CPU "bench/results/2026-11-22-plan-cpu.md"
const struct tl_validation tl_validations[] = {
    {"cpu", "1B, Q4_K", "full", 24, 15.28, 14.23, ON_CPU},
    {"cpu", "1B, Q8_0", "full", 24, 27.80, 26.48, ON_CPU},
    {"cpu", "135M, F16", "full", 24, 8.06, 7.71, ON_CPU},
    {"cpu", "135M, F16", "kivi2", 16408, 11.23, 11.60, ON_CPU},
    {.card = NULL},
};

/* ---- by name ---- */

enum { NAME_CAP = 64 };

/* Letters and digits only, small: "RTX 3090" becomes "rtx3090". */
static void plain_name(const char *text, char *out) {
    size_t n = 0;
    for (const char *c = text; *c != '\0' && n + 1 < NAME_CAP; c++) {
        if (isalnum((unsigned char)*c)) {
            out[n++] = (char)tolower((unsigned char)*c);
        }
    }
    out[n] = '\0';
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return m <= n && strcmp(text + n - m, end) == 0;
}

const struct tl_card *tl_card_find(const char *name) {
    char asked[NAME_CAP], known[NAME_CAP], title[NAME_CAP];
    plain_name(name, asked);
    for (const struct tl_card *c = tl_cards; c->name != NULL; c++) {
        plain_name(c->name, known);
        plain_name(c->title, title);
        const bool has_digits = strlen(asked) >= 4;
        if (strcmp(asked, known) == 0 ||
            (has_digits && (ends_with(known, asked) || ends_with(title, asked)))) {
            return c;
        }
    }
    return NULL;
}

/* ---- by numbers ---- */

struct unit {
    const char *name;
    double factor;
};
static const struct unit rate_units[] = {{"", 1e9}, {"GB", 1e9}, {"GiB", GIB}, {NULL, 0}};
static const struct unit size_units[] = {{"", GIB},   {"GiB", GIB},       {"G", GIB}, {"GB", 1e9},
                                         {"MB", 1e6}, {"MiB", 1048576.0}, {NULL, 0}};
static const struct unit tera_units[] = {{"", 1e12}, {NULL, 0}};
static const struct unit micro_units[] = {{"", 1e-6}, {"us", 1e-6}, {NULL, 0}};

static const struct field {
    const char *key;
    const struct unit *units;
    size_t off;
    double max;
} fields[] = {
    {"bw", rate_units, offsetof(struct tl_card, bytes_per_s), 1e15},
    {"pcie", rate_units, offsetof(struct tl_card, link_bytes_per_s), 1e15},
    {"f16", tera_units, offsetof(struct tl_card, f16_flops), 1e18},
    {"int8", tera_units, offsetof(struct tl_card, i8_ops), 1e18},
    {"launch", micro_units, offsetof(struct tl_card, launch_s), 1},
    {"latency", micro_units, offsetof(struct tl_card, link_latency_s), 1},
    {"mem", size_units, SIZE_MAX, 1e15}, /* the one that is no double */
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static bool parse_number(const char *text, const struct unit *units, double max, double *out) {
    char *end = NULL;
    const double number = strtod(text, &end);
    const bool decimal = isdigit((unsigned char)text[0]) || text[0] == '.';
    if (!decimal || end == text || text[1] == 'x' || text[1] == 'X') {
        return false;
    }
    for (const struct unit *u = units; u->name != NULL; u++) {
        if (strcmp(u->name, end) == 0) {
            *out = number * u->factor;
            return *out > 0 && *out <= max;
        }
    }
    return false;
}

static tl_err set_field(struct tl_card *card, char *item, bool first, const tl_log *log) {
    char *const equals = strchr(item, '=');
    if (equals == NULL) {
        if (strcmp(item, "unified") == 0) {
            card->link_bytes_per_s = 0;
            return TL_OK;
        }
        const struct tl_card *const known = first ? tl_card_find(item) : NULL;
        if (known != NULL) {
            *card = *known;
            return TL_OK;
        }
        return tl_fail(log, TL_ERR_FORMAT, "--gpu: '%s' is neither a card nor KEY=VALUE", item);
    }
    *equals = '\0';
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (strcmp(fields[i].key, item) != 0) {
            continue;
        }
        double value = 0;
        if (!parse_number(equals + 1, fields[i].units, fields[i].max, &value)) {
            return tl_fail(log, TL_ERR_FORMAT, "--gpu: %s cannot be '%s'", item, equals + 1);
        }
        if (fields[i].off == SIZE_MAX) {
            card->bytes = (uint64_t)value;
        } else {
            memcpy((char *)card + fields[i].off, &value, sizeof value);
        }
        return TL_OK;
    }
    return tl_fail(log, TL_ERR_FORMAT,
                   "--gpu: there is no '%s' (bw, pcie, mem, f16, int8, launch, latency, unified)",
                   item);
}

tl_err tl_card_parse(const char *text, struct tl_card *out, const tl_log *log) {
    struct tl_card card = {"custom", "a card of your numbers", .link_bytes_per_s = PCIE4(16), CUDA};
    char list[256];
    if (strlen(text) >= sizeof list) {
        return tl_fail(log, TL_ERR_FORMAT, "--gpu: more than %zu characters", sizeof list - 1);
    }
    memcpy(list, text, strlen(text) + 1);
    char *rest = list;
    bool first = true;
    for (char *item; (item = strtok_r(rest, ",", &rest)) != NULL; first = false) {
        TL_TRY(set_field(&card, item, first, log));
    }
    if (card.bytes_per_s == 0) {
        return tl_fail(log, TL_ERR_FORMAT, "--gpu: bw=, the memory bandwidth in GB/s, is missing");
    }
    card.reserved = card.bytes == 0 ? 0 : card.reserved;
    *out = card;
    return TL_OK;
}
