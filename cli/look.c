/* Rows of all KV heads are counted by position; rows close together are one place. */
#include "look.h"

#include <stdlib.h>

enum { PLACES = 10, GAP = 6, AROUND = 3, TOKENS_MAX = 28 };

struct place {
    uint32_t from, to, weight; /* rows [from, to) */
};

static int by_weight(const void *a, const void *b) {
    const struct place *const x = a, *const y = b;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

/* Places of the counted rows, the heaviest first; returns how many. places must hold n. */
static uint32_t find_places(const uint32_t *counts, uint32_t n, struct place *places) {
    uint32_t n_places = 0;
    for (uint32_t row = 0; row < n; row++) {
        struct place *const last = n_places > 0 ? &places[n_places - 1] : NULL;
        if (counts[row] == 0) {
            continue;
        }
        if (last != NULL && row - last->to < GAP && row - last->from < TOKENS_MAX) {
            last->to = row + 1;
            last->weight += counts[row];
        } else {
            places[n_places++] = (struct place){row, row + 1, counts[row]};
        }
    }
    qsort(places, n_places, sizeof *places, by_weight);
    return n_places;
}

/* The tokens of [from, to), on one line. */
static tl_err spell(const struct cli_loaded *loaded, uint32_t from, uint32_t to, tl_bytes *out) {
    tl_decoder decoder = {.vocab = tl_engine_vocab(loaded->engine), .special = true};
    const size_t start = out->len;
    for (uint32_t row = from; row < to; row++) {
        TL_TRY(tl_decoder_add(&decoder, tl_session_ids(loaded->session)[row], out));
    }
    TL_TRY(tl_decoder_end(&decoder, out));
    for (size_t i = start; i < out->len; i++) {
        out->data[i] = (unsigned char)out->data[i] < 0x20 ? ' ' : out->data[i];
    }
    return tl_bytes_add_str(out, "\n");
}

static tl_err spell_places(struct cli_loaded *loaded, const struct place *places, uint32_t n,
                           uint64_t all, tl_bytes *out) {
    const uint32_t n_rows = tl_session_n(loaded->session);
    for (uint32_t i = 0; i < n && i < PLACES; i++) {
        const uint32_t from = places[i].from > AROUND ? places[i].from - AROUND : 0;
        const uint32_t to = (uint32_t)tl_min_u64(places[i].to + AROUND, n_rows);
        char head[48];
        snprintf(head, sizeof head, "%7u %5.1f%%  ", places[i].from,
                 100.0 * places[i].weight / (double)all);
        TL_TRY(tl_bytes_add_str(out, head));
        TL_TRY(spell(loaded, from, to, out));
    }
    return TL_OK;
}

tl_err cli_look(struct cli_loaded *loaded, uint32_t il, tl_bytes *out) {
    const int32_t *rows = NULL;
    uint32_t n = 0;
    const uint32_t n_rows = tl_session_n(loaded->session);
    TL_TRY(tl_session_chosen(loaded->session, il, &rows, &n));
    if (n == 0) {
        return tl_bytes_add_str(out, "nothing to tell: the layer selects no rows, or no token was "
                                     "written since the last prompt");
    }
    uint32_t *const counts = calloc(n_rows + 1, sizeof *counts);
    struct place *const places = calloc(n_rows + 1, sizeof *places);
    tl_err err = counts != NULL && places != NULL ? TL_OK : TL_ERR_MEMORY;
    uint64_t all = 0;
    for (uint32_t i = 0; i < n && !err; i++) {
        if (rows[i] >= 0 && (uint32_t)rows[i] < n_rows) {
            counts[rows[i]]++;
            all++;
        }
    }
    if (!err) {
        char head[96];
        snprintf(head, sizeof head, "layer %u looked at %llu rows of %u, most at:\n", il,
                 (unsigned long long)all, n_rows);
        err = tl_bytes_add_str(out, head);
    }
    if (!err) {
        err = spell_places(loaded, places, find_places(counts, n_rows, places), all, out);
    }
    free(counts);
    free(places);
    return err;
}
