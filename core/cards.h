/* Devices described by numbers, for predictions: public data sheets of cards, and what part of
 * those numbers our ops are taken to reach. A prediction is as good as the last measurement of its
 * row: tl_validations says which were ever compared with one. */
#ifndef TL_CARDS_H
#define TL_CARDS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What an op's time hangs on. */
typedef enum tl_cost_class {
    TL_COST_WEIGHTS, /* matrix times vector: streams a matrix once */
    TL_COST_ROWS,    /* exact attention: streams f16 rows */
    TL_COST_CODES,   /* attention and scores over compressed rows */
    TL_COST_SMALL,   /* the rest: a few kilobytes, all overhead */
    TL_COST_LINK,    /* rows picked one by one across the link, 256 bytes and up a piece */
    TL_COST_PROMPT,  /* matrix times matrix, attention of many queries: of the arithmetic rate */
    TL_COST_CLASS_COUNT,
} tl_cost_class;

struct tl_launching;
struct tl_card {
    const char *name, *title; /* "3090", "NVIDIA GeForce RTX 3090" */
    double bytes_per_s;       /* device memory, data sheet */
    double link_bytes_per_s;  /* what a large copy reaches, one direction; 0: memory is shared */
    double link_latency_s;    /* an op that touches host memory at all */
    double launch_s;          /* one launch of a recorded step */
    /* How many launches ops are (launches.h); NULL: each op is one. */
    const struct tl_launching *launching;
    double f16_flops, i8_ops; /* matrix units, dense, f32 accumulation; 0: not known */
    uint64_t bytes, reserved; /* memory, and what of it driver and context take; 0: not known */
    float reached[TL_COST_CLASS_COUNT]; /* part of the rate above that ops of a class reach */
};

extern const struct tl_card tl_cards[];               /* ends with a NULL name */
const struct tl_card *tl_card_find(const char *name); /* NULL: none */

/* "bw=936,pcie=25,mem=24": bw and pcie in GB/s (a bare number, or with GB or GiB), mem in GiB
 * (bare, or with MiB GiB MB GB), f16 and int8 in tera-operations a second, launch and latency in
 * microseconds; `unified` for a device that shares the host's memory. A card's name in the first
 * place, "3090,pcie=12", begins with that card; else bw is required, and what is not named is that
 * of a present-day card of NVIDIA, mem and the arithmetic rates are then not known. TL_ERR_FORMAT
 * with a sentence. */
TL_MUST tl_err tl_card_parse(const char *text, struct tl_card *out, const tl_log *log);

/* A prediction that was compared with a measurement. */
struct tl_validation {
    const char *card, *model, *kv;
    uint32_t n_ctx;
    double measured_ms, predicted_ms; /* a token */
    const char *where;                /* the file that holds the measurement, and when */
};
extern const struct tl_validation tl_validations[]; /* ends with a NULL card */

#ifdef __cplusplus
}
#endif

#endif
