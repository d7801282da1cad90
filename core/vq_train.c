/* k-means over sub-vectors of cache rows. Vectors are kept in groups of TL_BLOCK, transposed as
 * tl_vq_nearest reads them; the last group repeats the last vector, which is not counted.
 * Invariant: the result is a function of vectors, codec, seed and rounds alone. */
#include "vq_train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS_DEFAULT = 30,
    SEED_VECTORS = 8 /* an entry, that k-means++ draws from */,
    SEED_VECTORS_MIN = 4096
};
static const double enough = 2e-4;       /* a round that brings less is the last */
static const float silent_share = 0.01f; /* of the head's largest factor */

/* splitmix64 */
static uint64_t next_bits(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Below n, which is at least 1. */
static uint64_t next_below(uint64_t *state, uint64_t n) { return next_bits(state) % n; }

static double next_share(uint64_t *state) { return (double)(next_bits(state) >> 11) * 0x1p-53; }

void tl_vq_find_smooth(const struct tl_exact_rows *rows, float *smooth) {
    const uint32_t d = rows->head_dim;
    for (uint32_t h = 0; h < rows->n_kv_heads; h++) {
        float *const of_head = smooth + (uint64_t)h * d;
        float most = 0.0f;
        memset(of_head, 0, d * sizeof *of_head);
        for (uint32_t t = 0; t < rows->n_rows; t++) {
            const uint16_t *const row = rows->k + ((uint64_t)h * rows->n_rows + t) * d;
            for (uint32_t c = 0; c < d; c++) {
                const float size = fabsf(tl_f16_to_f32(row[c]));
                of_head[c] = size > of_head[c] && size <= 65504.0f ? size : of_head[c];
            }
        }
        for (uint32_t c = 0; c < d; c++) {
            of_head[c] = sqrtf(of_head[c]);
            most = of_head[c] > most ? of_head[c] : most;
        }
        for (uint32_t c = 0; c < d && most > 0; c++) {
            of_head[c] = fmaxf(of_head[c], silent_share * most);
        }
        for (uint32_t c = 0; c < d; c++) { /* a head that is all zeros is left as it is */
            of_head[c] =
                most > 0 ? fmaxf(TL_SMOOTH_LEAST, fminf(TL_SMOOTH_MOST, of_head[c])) : 1.0f;
        }
    }
}

/* One block of a head, turned and of unit variance. */
static void load_block(const struct tl_exact_rows *rows, const uint16_t *side, uint32_t h,
                       uint32_t first, const struct tl_vq_turn_params *turn, float *block) {
    const uint32_t d = rows->head_dim;
    const uint16_t *const from = side + ((uint64_t)h * rows->n_rows + first) * d;
    double squares = 0.0;
    for (uint32_t i = 0; i < TL_BLOCK * d; i++) {
        block[i] = tl_f16_to_f32(from[i]);
    }
    tl_vq_turn(block, TL_BLOCK, d, turn->smooth != NULL ? turn->smooth + (uint64_t)h * d : NULL,
               turn->rotated);
    for (uint32_t i = 0; i < TL_BLOCK * d; i++) {
        squares += (double)block[i] * (double)block[i];
    }
    const double share = squares > 0 ? sqrt(TL_BLOCK * (double)d / squares) : 0;
    for (uint32_t i = 0; i < TL_BLOCK * d; i++) {
        block[i] = (float)((double)block[i] * share);
    }
}

tl_err tl_vq_sample(const struct tl_exact_rows *rows, const uint16_t *side, uint32_t dim,
                    const struct tl_vq_turn_params *turn, uint64_t seed, uint64_t n,
                    float *vectors) {
    const uint32_t d = rows->head_dim;
    TL_ASSERT(rows->n_rows >= TL_BLOCK && d % dim == 0);
    const uint64_t n_blocks = (uint64_t)(rows->n_rows / TL_BLOCK) * rows->n_kv_heads;
    uint32_t *const order = malloc((size_t)n_blocks * sizeof *order);
    float *const block = malloc((size_t)TL_BLOCK * d * sizeof *block);
    if (order == NULL || block == NULL) {
        free(order);
        free(block);
        return TL_ERR_MEMORY;
    }
    for (uint64_t i = 0; i < n_blocks; i++) {
        order[i] = (uint32_t)i;
    }
    const uint64_t of_block = (uint64_t)TL_BLOCK * (d / dim);
    for (uint64_t i = 0, done = 0; done < n; i++) {
        if (i < n_blocks) { /* each block once, in any order; then again */
            const uint64_t j = i + next_below(&seed, n_blocks - i);
            const uint32_t drawn = order[j];
            order[j] = order[i];
            order[i] = drawn;
        }
        const uint32_t at = order[i % n_blocks], per_head = rows->n_rows / TL_BLOCK;
        load_block(rows, side, at / per_head, at % per_head * TL_BLOCK, turn, block);
        const uint64_t take = n - done < of_block ? n - done : of_block;
        memcpy(vectors + done * dim, block, (size_t)(take * dim) * sizeof *vectors);
        done += take;
    }
    free(order);
    free(block);
    return TL_OK;
}

/* ---- k-means ---- */

struct means {
    tl_codec codec;
    uint32_t dim, n_entries;
    uint64_t n, n_groups;
    const float *vectors;
    float *groups;   /* (n_groups, dim, TL_BLOCK) */
    float *expanded; /* the entries as they are now, see tl_vq_expand */
    double *sums;    /* (n_entries, dim) */
    uint64_t *count; /* (n_entries) */
    float *away;     /* (n): squares of distances */
};

static tl_err open_means(struct means *m) {
    m->groups = malloc((size_t)(m->n_groups * TL_BLOCK * m->dim) * sizeof *m->groups);
    m->expanded = malloc((size_t)tl_vq_expanded_floats(m->codec) * sizeof *m->expanded);
    m->sums = malloc((size_t)m->n_entries * m->dim * sizeof *m->sums);
    m->count = malloc((size_t)m->n_entries * sizeof *m->count);
    m->away = malloc((size_t)m->n * sizeof *m->away);
    if (m->groups == NULL || m->expanded == NULL || m->sums == NULL || m->count == NULL ||
        m->away == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint64_t i = 0; i < m->n_groups * TL_BLOCK; i++) {
        const float *const from = m->vectors + (i < m->n ? i : m->n - 1) * m->dim;
        float *const to = m->groups + i / TL_BLOCK * TL_BLOCK * m->dim + i % TL_BLOCK;
        for (uint32_t j = 0; j < m->dim; j++) {
            to[j * TL_BLOCK] = from[j];
        }
    }
    return TL_OK;
}

static void close_means(struct means *m) {
    free(m->groups);
    free(m->expanded);
    free(m->sums);
    free(m->count);
    free(m->away);
}

/* As numbers of a codebook are kept, so that what is measured is what will be used. */
static void round_entries(struct means *m, uint16_t *book) {
    for (uint32_t i = 0; i < m->n_entries * m->dim; i++) {
        const float most = 65504.0f;
        book[i] = tl_f32_to_f16(fmaxf(-most, fminf(most, m->expanded[i])));
    }
    tl_vq_expand(m->codec, book, m->expanded);
}

static float square_to(const float *a, const float *b, uint32_t dim) {
    float sum = 0.0f;
    for (uint32_t j = 0; j < dim; j++) {
        const float step = a[j] - b[j];
        const float square = step * step;
        sum += square;
    }
    return sum;
}

/* k-means++: each entry is a vector drawn by its squared distance from those that are there. */
static void seed_entries(struct means *m, uint64_t seed) {
    const uint64_t n =
        tl_min_u64(m->n, tl_max_u64(SEED_VECTORS_MIN, (uint64_t)SEED_VECTORS * m->n_entries));
    const uint64_t step = m->n / n; /* spread over all of them */
    for (uint64_t i = 0; i < n; i++) {
        m->away[i] = INFINITY;
    }
    uint64_t drawn = next_below(&seed, n);
    for (uint32_t e = 0; e < m->n_entries; e++) {
        const float *const entry = m->vectors + drawn * step * m->dim;
        memcpy(m->expanded + (uint64_t)e * m->dim, entry, m->dim * sizeof *entry);
        double total = 0.0;
        for (uint64_t i = 0; i < n; i++) {
            const float away = square_to(m->vectors + i * step * m->dim, entry, m->dim);
            m->away[i] = away < m->away[i] ? away : m->away[i];
            total += (double)m->away[i];
        }
        double left = next_share(&seed) * total;
        drawn = total > 0 ? 0 : next_below(&seed, n);
        while (total > 0 && drawn + 1 < n && left >= (double)m->away[drawn]) {
            left -= (double)m->away[drawn++];
        }
    }
}

/* Every vector to its entry; returns the sum of squared distances. */
static double assign(struct means *m) {
    double total = 0.0;
    memset(m->sums, 0, (size_t)m->n_entries * m->dim * sizeof *m->sums);
    memset(m->count, 0, (size_t)m->n_entries * sizeof *m->count);
    for (uint64_t g = 0; g < m->n_groups; g++) {
        uint32_t codes[TL_BLOCK];
        tl_vq_nearest(m->codec, m->expanded, m->groups + g * TL_BLOCK * m->dim, codes);
        for (uint32_t t = 0; t < TL_BLOCK && g * TL_BLOCK + t < m->n; t++) {
            const uint64_t i = g * TL_BLOCK + t;
            const float *const x = m->vectors + i * m->dim;
            double *const sums = m->sums + (uint64_t)codes[t] * m->dim;
            m->away[i] = square_to(x, m->expanded + (uint64_t)codes[t] * m->dim, m->dim);
            total += (double)m->away[i];
            m->count[codes[t]]++;
            for (uint32_t j = 0; j < m->dim; j++) {
                sums[j] += (double)x[j];
            }
        }
    }
    return total;
}

/* The vector that its entry serves worst, which from now on has one of its own. */
static const float *take_farthest(struct means *m) {
    uint64_t farthest = 0;
    for (uint64_t i = 1; i < m->n; i++) {
        farthest = m->away[i] > m->away[farthest] ? i : farthest;
    }
    m->away[farthest] = 0.0f;
    return m->vectors + farthest * m->dim;
}

static void move_entries(struct means *m) {
    for (uint32_t e = 0; e < m->n_entries; e++) {
        float *const entry = m->expanded + (uint64_t)e * m->dim;
        if (m->count[e] == 0) {
            memcpy(entry, take_farthest(m), m->dim * sizeof *entry);
            continue;
        }
        for (uint32_t j = 0; j < m->dim; j++) {
            entry[j] = (float)(m->sums[(uint64_t)e * m->dim + j] / (double)m->count[e]);
        }
    }
}

static double mean_square(const struct means *m) {
    double total = 0.0;
    for (uint64_t i = 0; i < m->n * m->dim; i++) {
        total += (double)m->vectors[i] * (double)m->vectors[i];
    }
    return total;
}

tl_err tl_vq_train(tl_codec codec, const struct tl_vq_training *training, uint16_t *book,
                   double *error) {
    struct means m = {.codec = codec,
                      .dim = tl_vq_dim(codec),
                      .n_entries = tl_vq_entries(codec),
                      .n = training->n,
                      .n_groups = tl_div_up(training->n, TL_BLOCK),
                      .vectors = training->vectors};
    TL_ASSERT(training->n > 0);
    const uint32_t rounds = training->rounds != 0 ? training->rounds : ROUNDS_DEFAULT;
    const tl_err err = open_means(&m);
    if (!err) {
        seed_entries(&m, training->seed);
        round_entries(&m, book);
        double last = assign(&m), best = last;
        for (uint32_t i = 0; i < rounds; i++) {
            move_entries(&m);
            round_entries(&m, book);
            best = assign(&m);
            const bool done = last - best < enough * last;
            last = best;
            if (done) {
                break;
            }
        }
        const double all = mean_square(&m);
        *error = all > 0 ? best / all : 0;
    }
    close_means(&m);
    return err;
}
