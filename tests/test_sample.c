/* Sampling against what it means: filters by hand-worked sets, frequencies against probabilities,
 * and a slow sort-everything sampler written here. */
#include "core/sample.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct tl_sampler_params plain = {
    .repeat_penalty = 1, .top_p = 1, .temp = 1, .seed = 7};

static tl_sampler *open_sampler(const struct tl_sampler_params *params, uint32_t n_vocab) {
    tl_sampler *s = NULL;
    assert_int_equal(tl_sampler_open(&s, params, n_vocab), TL_OK);
    return s;
}

/* Goal: greedy takes the largest, the first of equals, and never a NaN. */
static void test_greedy(void **state) {
    (void)state;
    struct tl_sampler_params params = plain;
    params.temp = 0;
    tl_sampler *s = open_sampler(&params, 5);
    const float tie[] = {1, 3, -2, 3, 0};
    assert_int_equal(tl_sampler_next(s, tie, NULL, 0), 1);
    const float nans[] = {NAN, -5, NAN, -4, NAN};
    assert_int_equal(tl_sampler_next(s, nans, NULL, 0), 3);
    const float all_nan[] = {NAN, NAN, NAN, NAN, NAN};
    assert_int_equal(tl_sampler_next(s, all_nan, NULL, 0), 0);
    tl_sampler_close(&s);
    assert_null(s);
}

/* Goal: the set that can be drawn is the one the filters define. Method: draw often, collect. */
static unsigned drawn_set(struct tl_sampler_params params, const float *logits, uint32_t n) {
    unsigned set = 0;
    tl_sampler *s = open_sampler(&params, n);
    for (int i = 0; i < 20000; i++) {
        set |= 1u << tl_sampler_next(s, logits, NULL, 0);
    }
    tl_sampler_close(&s);
    return set;
}

static void test_filters(void **state) {
    (void)state;
    /* probabilities 0.4, 0.3, 0.2, 0.1 at ids 2, 0, 3, 1 */
    const float logits[] = {logf(0.3f), logf(0.1f), logf(0.4f), logf(0.2f)};
    struct tl_sampler_params params = plain;
    assert_int_equal(drawn_set(params, logits, 4), 0xf);
    params.top_k = 2;
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2 | 1u << 0);
    params.top_k = 0;
    params.top_p = 0.65f; /* 0.4 + 0.3 reaches it */
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2 | 1u << 0);
    params.top_p = 0.75f; /* needs the third */
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2 | 1u << 0 | 1u << 3);
    params.top_p = 1;
    params.min_p = 0.45f; /* at least 0.18 */
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2 | 1u << 0 | 1u << 3);
    params.min_p = 1;
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2);
    params.min_p = 0;
    params.top_p = 0; /* never empty */
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2);
    params.top_k = 3;
    params.top_p = 0.6f; /* of 0.9: 0.4 + 0.3 = 0.78 of it */
    assert_int_equal(drawn_set(params, logits, 4), 1u << 2 | 1u << 0);
}

/* Goal: frequencies follow softmax(logits / temp). Method: 200000 draws, 5 standard deviations. */
static void test_frequencies(void **state) {
    (void)state;
    enum { N = 6, DRAWS = 200000 };
    const float logits[N] = {0.5f, -1, 2, 0, 1.5f, -3};
    struct tl_sampler_params params = plain;
    params.temp = 0.7f;
    tl_sampler *s = open_sampler(&params, N);
    unsigned counts[N] = {0};
    for (int i = 0; i < DRAWS; i++) {
        counts[tl_sampler_next(s, logits, NULL, 0)]++;
    }
    tl_sampler_close(&s);
    double total = 0;
    for (int i = 0; i < N; i++) {
        total += exp((double)logits[i] / (double)params.temp);
    }
    for (int i = 0; i < N; i++) {
        const double p = exp((double)logits[i] / (double)params.temp) / total;
        assert_true(fabs(counts[i] - DRAWS * p) < 5 * sqrt(DRAWS * p * (1 - p)) + 1);
    }
}

/* Goal: recent tokens are weakened once, whatever their sign, and only recent ones. */
static void test_penalty(void **state) {
    (void)state;
    struct tl_sampler_params params = plain;
    params.temp = 0;
    params.repeat_penalty = 2;
    params.repeat_last = 2;
    tl_sampler *s = open_sampler(&params, 3);
    const float logits[] = {3, 2, -1};
    assert_int_equal(tl_sampler_next(s, logits, (uint32_t[]){0, 0}, 2), 1);    /* 1.5 < 2 */
    assert_int_equal(tl_sampler_next(s, logits, (uint32_t[]){0, 1, 1}, 3), 0); /* 0 is long ago */
    const float negative[] = {-1, -1.5f, -9};
    assert_int_equal(tl_sampler_next(s, negative, (uint32_t[]){0}, 1), 1); /* -2 < -1.5 */
    tl_sampler_close(&s);
}

/* Goal: the same seed gives the same tokens, another seed others. */
static void test_seed(void **state) {
    (void)state;
    enum { N = 1000, DRAWS = 64 };
    float *const logits = calloc(N, sizeof *logits);
    assert_non_null(logits);
    struct tl_sampler_params params = plain;
    tl_sampler *a = open_sampler(&params, N), *b = open_sampler(&params, N);
    params.seed = 8;
    tl_sampler *c = open_sampler(&params, N);
    int n_different = 0;
    for (int i = 0; i < DRAWS; i++) {
        const uint32_t token = tl_sampler_next(a, logits, NULL, 0);
        assert_int_equal(token, tl_sampler_next(b, logits, NULL, 0));
        n_different += token != tl_sampler_next(c, logits, NULL, 0);
    }
    assert_true(n_different > DRAWS / 2);
    tl_sampler_close(&a);
    tl_sampler_close(&b);
    tl_sampler_close(&c);
    free(logits);
}

struct pair {
    float logit;
    uint32_t id;
};

static int best_first(const void *a, const void *b) {
    const struct pair *const x = a, *const y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit)
                                : (x->id > y->id) - (x->id < y->id);
}

/* The set of the filters, by sorting everything. */
static uint32_t slow_set(const struct tl_sampler_params *p, const float *logits, uint32_t n,
                         bool *in_set) {
    struct pair *const pairs = calloc(n, sizeof *pairs);
    assert_non_null(pairs);
    for (uint32_t i = 0; i < n; i++) {
        pairs[i] = (struct pair){logits[i], i};
        in_set[i] = false;
    }
    qsort(pairs, n, sizeof *pairs, best_first);
    const uint32_t k = p->top_k != 0 && p->top_k < n ? p->top_k : n;
    double total = 0, mass = 0;
    for (uint32_t i = 0; i < k; i++) {
        total += exp((double)(pairs[i].logit - pairs[0].logit));
    }
    uint32_t kept = 0;
    while (kept < k) {
        const double w = exp((double)pairs[kept].logit - (double)pairs[0].logit);
        if (kept > 0 && w < (double)p->min_p) {
            break;
        }
        in_set[pairs[kept++].id] = true;
        mass += w;
        if (p->top_p < 1 && mass >= (double)p->top_p * total) {
            break;
        }
    }
    free(pairs);
    return kept;
}

/* Goal: on vocabularies of any size the draws stay inside the set that sorting gives. */
static void test_against_sorting(void **state) {
    (void)state;
    struct tl_rng rng = {11};
    for (int round = 0; round < 200; round++) {
        const uint32_t n = 1 + (uint32_t)rng_below(&rng, 3000);
        float *const logits = calloc(n, sizeof *logits);
        bool *const in_set = calloc(n, sizeof *in_set);
        assert_true(logits != NULL && in_set != NULL);
        for (uint32_t i = 0; i < n; i++) {
            logits[i] = 6 * rng_float(&rng);
        }
        const struct tl_sampler_params params = {
            .repeat_penalty = 1,
            .top_k = (uint32_t)rng_below(&rng, 60),
            .top_p = round % 3 == 0 ? 1 : fabsf(rng_float(&rng)),
            .min_p = round % 2 == 0 ? 0 : 0.3f * fabsf(rng_float(&rng)),
            .temp = 0.1f + fabsf(rng_float(&rng)) * 2,
            .seed = rng_next(&rng)};
        slow_set(&params, logits, n, in_set);
        tl_sampler *s = open_sampler(&params, n);
        for (int i = 0; i < 50; i++) {
            assert_true(in_set[tl_sampler_next(s, logits, NULL, 0)]);
        }
        tl_sampler_close(&s);
        free(logits);
        free(in_set);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),      cmocka_unit_test(test_filters),
        cmocka_unit_test(test_frequencies), cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_seed),        cmocka_unit_test(test_against_sorting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
