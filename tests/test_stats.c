/* The snapshot of a session and how it is handed over: torn reads never show, numbers are those of
 * the session, and what it costs when nobody looks. */
#include "support.h"

#include "cli/share.h"
#include "core/stats.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct shared {
    tl_stats_page *page;
    atomic_bool stop;
    unsigned n_read;
};

/* Every number of the k-th snapshot is made of k. */
static void fill(struct tl_stats *s, uint64_t k) {
    s->version = TL_STATS_VERSION;
    s->size = sizeof *s;
    s->n_layers_shown = (uint32_t)(1 + k % TL_STATS_LAYERS_MAX);
    s->now_ns = k;
    s->n_answer_tokens = 3 * k;
    for (uint32_t il = 0; il < s->n_layers_shown; il++) {
        s->layers[il].total.rows_hit = k + il;
    }
}

static void *read_on(void *user) {
    struct shared *const shared = user;
    struct tl_stats *const s = calloc(1, sizeof *s);
    uint64_t seq = 0, seq_before = 0;
    while (s != NULL && !atomic_load(&shared->stop)) {
        if (!tl_stats_read(shared->page, s, &seq)) {
            continue;
        }
        const uint64_t k = s->now_ns;
        bool whole = s->n_answer_tokens == 3 * k && seq >= seq_before &&
                     s->n_layers_shown == 1 + k % TL_STATS_LAYERS_MAX;
        for (uint32_t il = 0; il < s->n_layers_shown && whole; il++) {
            whole = s->layers[il].total.rows_hit == k + il;
        }
        if (!whole) {
            shared->n_read = 0;
            break;
        }
        seq_before = seq;
        shared->n_read++;
    }
    free(s);
    return NULL;
}

/* Goal: a reader that spins beside a writer that never pauses sees whole snapshots only. */
static void test_no_torn_reads(void **state) {
    (void)state;
    struct shared *const shared = calloc(1, sizeof *shared);
    struct tl_stats *const s = calloc(1, sizeof *s);
    assert_true(shared != NULL && s != NULL);
    shared->page = calloc(1, tl_stats_page_bytes());
    assert_non_null(shared->page);
    assert_false(tl_stats_read(shared->page, s, NULL)); /* nothing was published */
    pthread_t reader;
    fill(s, 1);
    tl_stats_publish(shared->page, s);
    assert_int_equal(pthread_create(&reader, NULL, read_on, shared), 0);
    for (uint64_t k = 2; k < 20000; k++) {
        fill(s, k);
        tl_stats_publish(shared->page, s);
    }
    atomic_store(&shared->stop, true);
    pthread_join(reader, NULL);
    assert_true(shared->n_read > 0);
    free(s);
    free(shared->page);
    free(shared);
}

/* A writer of another build, one that died while writing, and damaged pages are no snapshots. */
static void test_bad_pages(void **state) {
    (void)state;
    tl_stats_page *const page = calloc(1, tl_stats_page_bytes());
    struct tl_stats *const s = calloc(1, sizeof *s);
    struct tl_rng rng = {1};
    assert_true(page != NULL && s != NULL);
    fill(s, 5);
    s->version++;
    tl_stats_publish(page, s);
    assert_false(tl_stats_read(page, s, NULL));
    fill(s, 5);
    tl_stats_publish(page, s);
    assert_true(tl_stats_read(page, s, NULL));
    uint64_t *const words = (uint64_t *)(void *)page; /* the first is the sequence number */
    words[0]++;                                       /* odd for good */
    assert_false(tl_stats_read(page, s, NULL));
    for (int i = 0; i < 300; i++) {
        words[0] = 2;
        for (size_t k = 0; k < 64; k++) {
            words[1 + rng_below(&rng, i % 2 ? 400 : 8)] = rng_next(&rng);
        }
        if (tl_stats_read(page, s, NULL)) {
            assert_true(s->n_layers_shown <= TL_STATS_LAYERS_MAX);
        }
    }
    free(s);
    free(page);
}

/* Goal: the rows that a layer chose are distinct old rows of each head, the heat strip counts each
 * once, and nobody pays for it who does not watch. */
static void check_chosen(tl_session *session, struct tl_stats *s, tl_stats_page *page) {
    const int32_t *rows = NULL;
    uint32_t n = 0, il = 0, sum = 0;
    assert_int_equal(tl_session_chosen(session, 1, &rows, &n), TL_OK);
    const struct tl_policy *const policy = &tl_preset_find("tailor")->policy;
    assert_int_equal(n % policy->topk, 0); /* so many of each head */
    assert_true(n > 0);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(rows[i] == -1 || (rows[i] >= (int32_t)policy->sink && rows[i] < 600));
        assert_true(i % policy->topk == 0 || rows[i] == -1 || rows[i] > rows[i - 1]);
    }
    tl_stats_add_heat(s, 1, rows, n);
    for (size_t i = 0; i < TL_STATS_HEAT; i++) {
        sum += s->heat[i];
    }
    assert_int_equal(sum, n);
    assert_int_equal(s->heat_layer, 1);
    tl_stats_add_heat(s, 1, rows, 0);
    assert_true(s->heat_layer == UINT32_MAX);
    assert_false(tl_stats_watched(page, 5, &il));
    tl_stats_watch(page, 3, 1000000000);
    assert_true(tl_stats_watched(page, 1500000000, &il));
    assert_int_equal(il, 3);
    assert_false(tl_stats_watched(page, 4000000000, &il));
    assert_int_equal(tl_session_rewind(session, 600), 600);
    assert_int_equal(tl_session_chosen(session, 1, &rows, &n), TL_OK);
    assert_int_equal(n, 0);
}

/* Goal: each value is counted at the first bound that it does not pass, and the bounds are those
 * that dashboards of vLLM expect. */
static void test_hists(void **state) {
    (void)state;
    struct tl_rng rng = {3};
    for (int kind = 0; kind < TL_HIST_COUNT; kind++) {
        struct tl_hist hist = {0};
        uint64_t below[TL_HIST_BOUNDS] = {0}, n_above = 0;
        uint32_t n = 0;
        double sum = 0;
        const double *const bounds = tl_hist_bounds((tl_hist_kind)kind, &n);
        assert_true(n > 10 && n <= TL_HIST_BOUNDS);
        for (int i = 0; i < 2000; i++) {
            const double pick = bounds[rng_below(&rng, n)];
            const double value =
                i % 3 == 0 ? pick : pick * (0.5 + (double)rng_below(&rng, 1000) / 999);
            tl_hist_add(&hist, (tl_hist_kind)kind, value);
            sum += value;
            for (uint32_t b = 0; b < n; b++) {
                below[b] += value <= bounds[b];
            }
            n_above += value > bounds[n - 1];
        }
        uint64_t so_far = 0;
        for (uint32_t b = 0; b < n; b++) {
            assert_true(b == 0 || bounds[b] > bounds[b - 1]);
            so_far += hist.n[b];
            assert_true(so_far == below[b]);
        }
        assert_true(hist.n[TL_HIST_BOUNDS] == n_above && fabs(hist.sum - sum) <= 1e-9 * sum);
    }
    uint32_t n = 0;
    const double *const token = tl_hist_bounds(TL_HIST_TOKEN, &n);
    assert_true(n == 19 && token[0] == 0.01 && token[3] == 0.075 && token[n - 1] == 80);
    const double *const first = tl_hist_bounds(TL_HIST_FIRST, &n);
    assert_true(n == 22 && first[0] == 0.001 && first[n - 1] == 2560);
}

static const char demo[] = TL_SOURCE_DIR "/models/demo.gguf";

/* Goal: bytes and rows are the session's own, and a step with its stats costs what a step costs:
 * filling and publishing takes under 20 us for a model of 32 layers (measured: 2 us), 0.1 % of a
 * step. */
static void test_session(void **state) {
    (void)state;
    tl_engine *engine = NULL;
    tl_session *session = NULL;
    const struct tl_engine_params params = {.model_path = demo, .backend = "cpu", .n_ctx = 1024};
    assert_int_equal(tl_engine_open(&engine, &params), TL_OK);
    const uint32_t n_layers = tl_engine_model(engine)->shape.n_layers;
    struct tl_policy *const policies = calloc(n_layers, sizeof *policies);
    for (uint32_t il = 0; il < n_layers; il++) {
        policies[il] = tl_preset_find("tailor")->policy;
    }
    const struct tl_session_params open = {.policies = policies};
    assert_int_equal(tl_session_open(&session, engine, &open), TL_OK);
    struct tl_stats *const s = calloc(1, sizeof *s);
    tl_stats_page *const page = calloc(1, tl_stats_page_bytes());
    assert_true(s != NULL && page != NULL && policies != NULL);
    tl_stats_describe(s, engine, session, "tailor");
    assert_int_equal(s->ctx_cap, 1024);
    assert_int_equal(s->ctx_used, 0);
    assert_true(isnan(s->tokens_per_s));
    assert_string_equal(s->backend, "cpu");
    assert_non_null(strstr(s->layers[0].policy, "int2/int2"));
    uint32_t ids[600];
    for (size_t i = 0; i < 600; i++) {
        ids[i] = (uint32_t)(10 + i % 500);
    }
    assert_int_equal(tl_session_feed(session, &(struct tl_feed){.ids = ids, .n = 600}), TL_OK);
    tl_stats_describe_layers(s, engine, session);
    assert_int_equal(s->ctx_used, 600);
    assert_int_equal(s->layers[0].step.rows_fetched, 0);
    uint64_t moved_ns;
    assert_false(tl_session_transfer_ns(session, &moved_ns) && moved_ns > 0);
    const uint64_t begin = tl_now_ns();
    assert_int_equal(tl_session_step(session, 42), TL_OK);
    const uint64_t step_ns = tl_now_ns() - begin;
    assert_true(
        tl_session_transfer_ns(session, &moved_ns)); /* rows were fetched, and more was done */
    assert_true(moved_ns > 0 && moved_ns < step_ns);
    const uint64_t times[TL_TIME_COUNT] = {[TL_TIME_STEP] = 9000000, [TL_TIME_SAMPLE] = 1000000};
    const uint64_t start = tl_now_ns();
    tl_stats_update(s, engine, session);
    tl_stats_add_step(s, times, 1);
    tl_stats_publish(page, s);
    const uint64_t ns = tl_now_ns() - start;
    assert_true(fabs(s->tokens_per_s - 100) < 1e-6);
    struct tl_traffic sum = {0};
    for (uint32_t il = 0; il < n_layers; il++) {
        sum.rows_fetched += s->layers[il].total.rows_fetched;
        assert_true(s->layers[il].held.home_host > 0 &&
                    s->layers[il].held.home_host < s->layers[il].room.home_host);
        assert_true(s->layers[il].step.rows_fetched > 0);
    }
    assert_true(sum.rows_fetched == tl_session_traffic(session).rows_fetched);
    check_chosen(session, s, page);
    print_message("stats of %u layers: %.2f us\n", n_layers, (double)ns / 1e3);
    free(policies);
    free(page);
    free(s);
    tl_session_close(&session);
    tl_engine_close(&engine);
}

/* ---- what it costs: test_stats --bench ---- */

enum { ROUNDS = 24, ROUND_STEPS = 200, DEPTH = 4000, N_TIMES = ROUNDS * ROUND_STEPS / 2 };

/* Somebody who looks thirty times a second, as a screen does at its fastest. */
static void *watch_on(void *user) {
    struct shared *const shared = user;
    struct tl_stats *const s = calloc(1, sizeof *s);
    while (s != NULL && !atomic_load(&shared->stop)) {
        tl_stats_watch(shared->page, 0, tl_now_ns());
        shared->n_read += tl_stats_read(shared->page, s, NULL);
        nanosleep(&(struct timespec){.tv_nsec = 33000000}, NULL);
    }
    free(s);
    return NULL;
}

static int by_time(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Nanoseconds: whole steps without and with statistics, turn by turn, and the statistics alone. */
struct costs {
    uint64_t steps[2][N_TIMES], stats[N_TIMES];
};

/* Turn by turn, so that whatever else the machine does meets both alike; who begins changes with
 * the round. */
static void run_steps(tl_engine *engine, tl_session *session, struct cli_share *share,
                      struct costs *costs) {
    size_t n[2] = {0};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        assert_int_equal(tl_session_rewind(session, DEPTH), DEPTH);
        for (uint32_t i = 0; i < ROUND_STEPS; i++) {
            const size_t with = (i + round) % 2;
            const uint64_t begin = tl_now_ns();
            assert_int_equal(tl_session_step(session, 10 + i), TL_OK);
            const uint64_t stepped = tl_now_ns();
            cli_share_step(with ? share : NULL, engine, session, stepped - begin, 1000);
            const uint64_t end = tl_now_ns();
            if (with) {
                costs->stats[n[1]] = end - stepped;
            }
            costs->steps[with][n[with]++] = end - begin;
        }
    }
}

static void report(const char *name, struct costs *c) {
    double mean = 0;
    for (size_t i = 0; i < N_TIMES; i++) {
        mean += (double)c->stats[i] / N_TIMES / 1e3;
    }
    qsort(c->steps[0], N_TIMES, sizeof c->steps[0][0], by_time);
    qsort(c->steps[1], N_TIMES, sizeof c->steps[1][0], by_time);
    qsort(c->stats, N_TIMES, sizeof c->stats[0], by_time);
    const double without = (double)c->steps[0][N_TIMES / 2] / 1e3;
    const double with = (double)c->steps[1][N_TIMES / 2] / 1e3;
    printf("%-15s step without %.1f us, with %.1f us (medians of %d each): %+.2f %%\n"
           "%-15s the statistics alone: median %.2f us, mean %.2f us: %.2f %% of a step\n",
           name, without, with, N_TIMES, 100 * (with / without - 1), "",
           (double)c->stats[N_TIMES / 2] / 1e3, mean, (double)c->stats[N_TIMES / 2] / 10 / without);
}

static void measure(tl_engine *engine, tl_session *session, struct cli_share *share) {
    static struct costs costs;
    struct shared shared = {.page = share->page};
    pthread_t watcher;
    run_steps(engine, session, share, &costs);
    report("nobody watches", &costs);
    assert_int_equal(pthread_create(&watcher, NULL, watch_on, &shared), 0);
    run_steps(engine, session, share, &costs);
    atomic_store(&shared.stop, true);
    pthread_join(watcher, NULL);
    report("watched", &costs);
}

static void bench(void) {
    tl_engine *engine = NULL;
    tl_session *session = NULL;
    struct cli_share *share = NULL;
    const struct tl_engine_params params = {.model_path = demo, .backend = "cpu", .n_ctx = 8192};
    assert_int_equal(tl_engine_open(&engine, &params), TL_OK);
    const uint32_t n_layers = tl_engine_model(engine)->shape.n_layers;
    struct tl_policy *const policies = calloc(n_layers, sizeof *policies);
    uint32_t *const ids = calloc(DEPTH, sizeof *ids);
    assert_true(policies != NULL && ids != NULL);
    for (uint32_t il = 0; il < n_layers; il++) {
        policies[il] = tl_preset_find("tailor")->policy;
    }
    const struct tl_session_params open = {.policies = policies, .gauge_every = 64};
    assert_int_equal(tl_session_open(&session, engine, &open), TL_OK);
    for (uint32_t i = 0; i < DEPTH; i++) {
        ids[i] = 10 + i * 7 % 700;
    }
    assert_int_equal(tl_session_feed(session, &(struct tl_feed){.ids = ids, .n = DEPTH}), TL_OK);
    cli_share_open(&share, "bench");
    assert_non_null(share);
    cli_share_session(share, engine, session, "tailor");
    measure(engine, session, share);
    cli_share_close(&share);
    free(ids);
    free(policies);
    tl_session_close(&session);
    tl_engine_close(&engine);
}

/* Goal: names reach terminals and JSON as whole characters, none of which is a control. */
static void test_text_copy(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t cap;
        const char *copy;
    } cases[] = {{"plain", 16, "plain"},
                 {"plain", 6, "plain"},
                 {"plain", 5, "plai"},
                 {"plain", 1, ""},
                 {"", 1, ""},
                 {"\xc3\xa9\xc3\xa9", 5, "\xc3\xa9\xc3\xa9"},
                 {"\xc3\xa9\xc3\xa9", 4, "\xc3\xa9"},
                 {"\xf0\x9f\x98\x80", 4, ""},
                 {"a\033[1m\tb\x7f", 16, "a?[1m?b?"},
                 {"\xc2\x9b"
                  "5m\xc2\xa0",
                  16, "?5m\xc2\xa0"},
                 {"caf\xe9", 16, "caf?"},
                 {"\xed\xa0\x80", 16, "???"},
                 {"\xe2\x82", 16, "??"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char copy[16];
        tl_text_copy(copy, cases[i].cap, tl_str_from(cases[i].text));
        assert_string_equal(copy, cases[i].copy);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_copy), cmocka_unit_test(test_no_torn_reads),
        cmocka_unit_test(test_bad_pages), cmocka_unit_test(test_session),
        cmocka_unit_test(test_hists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
