/* What `tailor fit --indexes` counts (cli/fit_indexes.c), on rows whose best ones are known. */
#include "support.h"

#include "cli/fit_indexes.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 1400, D = 64, QUERIES = 32, SILENT_UNTIL = 200, HOT_ROWS = 24 };

static void *room(size_t bytes) {
    void *const p = malloc(bytes);
    assert_non_null(p);
    return p;
}

struct made {
    uint16_t *k;
    float *q;
    struct tl_exact_rows rows;
};

/* Noise; where `hot` is not 0, HOT_ROWS rows of each KV head that its queries want by so much, in
 * some channels of theirs. */
static void make(struct made *m, uint32_t n_heads, uint32_t n_kv_heads, float hot) {
    struct tl_rng rng = {11};
    m->k = room((size_t)n_kv_heads * ROWS * D * sizeof *m->k);
    m->q = room((size_t)QUERIES * n_heads * D * sizeof *m->q);
    for (uint32_t i = 0; i < n_kv_heads * ROWS * D; i++) {
        m->k[i] = tl_f32_to_f16((rng_float(&rng) + rng_float(&rng) + rng_float(&rng)));
    }
    for (uint32_t i = 0; i < QUERIES * n_heads * D; i++) {
        const uint32_t c = i % D;
        m->q[i] = hot != 0.0f ? (c < 8 ? 1.0f : 0.0f)
                              : 3.0f * (rng_float(&rng) + rng_float(&rng) + rng_float(&rng));
    }
    for (uint32_t h = 0; h < n_kv_heads && hot != 0.0f; h++) {
        for (uint32_t i = 0; i < HOT_ROWS; i++) {
            const uint32_t t = SILENT_UNTIL + 40 * i + h;
            for (uint32_t c = 0; c < 8; c++) {
                m->k[((size_t)h * ROWS + t) * D + c] = tl_f32_to_f16(hot);
            }
        }
    }
    m->rows = (struct tl_exact_rows){.k = m->k,
                                     .n_rows = ROWS,
                                     .n_kv_heads = n_kv_heads,
                                     .head_dim = D,
                                     .q = m->q,
                                     .n_queries = QUERIES,
                                     .n_heads = n_heads,
                                     .scale = 0.125f};
}

static void measure(const struct made *m, struct cli_fit_indexes *f) {
    assert_int_equal(cli_fit_indexes_open(f, 2, D, 2, (tl_log){0}), TL_OK);
    assert_int_equal(cli_fit_indexes_layer(f, 1, &m->rows), TL_OK);
    assert_false(f->layers[0].measured);
    assert_true(f->layers[1].measured);
}

static void finish(struct made *m, struct cli_fit_indexes *f) {
    cli_fit_indexes_close(f);
    free(m->k);
    free(m->q);
}

static double recall_of(json_t *found, const char *name, size_t budget) {
    size_t i;
    json_t *way;
    json_array_foreach(json_object_get(found, "ways"), i, way) {
        if (strcmp(json_string_value(json_object_get(way, "index")), name) == 0) {
            return json_real_value(json_array_get(json_object_get(way, "recall"), budget));
        }
    }
    fail_msg("no index '%s'", name);
    return 0;
}

/* Goal: where every head chooses for itself, exact keys hold what the best rows hold, and finer
 * codes no less than coarser ones of the same kind. */
static void test_exact_keys_are_the_best(void **state) {
    (void)state;
    struct made m;
    struct cli_fit_indexes f;
    make(&m, 3, 3, 0.0f);
    measure(&m, &f);
    json_t *const found = cli_fit_indexes_json(&f);
    assert_non_null(found);
    for (size_t j = 0; j < CLI_INDEX_BUDGETS; j++) {
        const double exact = recall_of(found, "exact keys", j);
        assert_true(exact > 1 - 1e-6 && exact < 1 + 1e-6);
        static const char *const finer[][2] = {
            {"exact keys", "int4"},   {"int4", "int2"},
            {"int2", "int1"},         {"int2 rotated", "int1 rotated"},
            {"vq-d2b8", "vq-d4b8"},   {"vq-d4b8", "vq-d8b8"},
            {"vq-d8b12", "vq-d8b10"}, {"channels 12", "channels 4"},
            {"bounds 8", "bounds 32"}};
        for (size_t i = 0; i < sizeof finer / sizeof finer[0]; i++) {
            assert_true(recall_of(found, finer[i][0], j) > recall_of(found, finer[i][1], j));
        }
    }
    json_decref(found);
    finish(&m, &f);
}

/* Goal: rows that stand out are found by every index but those of whole pages, for all heads of a
 * group; pages find the rows' pages, of which fewer fit. */
static void test_rows_that_stand_out(void **state) {
    (void)state;
    struct made m;
    struct cli_fit_indexes f;
    make(&m, 4, 2, 12.0f);
    measure(&m, &f);
    json_t *const found = cli_fit_indexes_json(&f);
    assert_non_null(found);
    size_t i;
    json_t *way;
    json_array_foreach(json_object_get(found, "ways"), i, way) {
        const char *const name = json_string_value(json_object_get(way, "index"));
        const bool pages = strncmp(name, "bounds", 6) == 0 || strncmp(name, "mean", 4) == 0;
        assert_true(pages || recall_of(found, name, 0) > 0.99);
    }
    /* 32 rows are 4 pages of 8, so at most 4 of the 24, which hold the same each. */
    assert_true(recall_of(found, "bounds 8", 0) > 0.9 * 4 / HOT_ROWS);
    assert_true(recall_of(found, "bounds 8", 0) < 1.1 * 4 / HOT_ROWS);
    assert_true(recall_of(found, "bounds 8", 2) > 0.99);
    json_decref(found);
    finish(&m, &f);
}

/* Goal: too few rows to choose among is no measurement. */
static void test_few_rows(void **state) {
    (void)state;
    struct made m;
    struct cli_fit_indexes f;
    make(&m, 2, 1, 0.0f);
    assert_int_equal(cli_fit_indexes_open(&f, 1, D, 1, (tl_log){0}), TL_OK);
    m.rows.n_rows = 500;
    assert_int_equal(cli_fit_indexes_layer(&f, 0, &m.rows), TL_OK);
    assert_false(f.layers[0].measured);
    finish(&m, &f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_keys_are_the_best),
        cmocka_unit_test(test_rows_that_stand_out),
        cmocka_unit_test(test_few_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
