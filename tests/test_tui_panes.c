/* The two panes of the full screen: the chat's lines and scrolling, the dashboard at every size. */
#include "cells.h"

#include "tui/dash.h"
#include "tui/talk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_talk(void **state) {
    (void)state;
    tui_talk t = {0};
    tui_grid g = {0};
    assert_int_equal(tui_grid_resize(&g, 6, 20), TL_OK);
    const struct tui_rect r = tui_grid_rect(&g);
    assert_int_equal(tui_talk_add(&t, TUI_ITEM_USER, "hi", 2), TL_OK);
    for (int i = 0; i < 30; i++) {
        char line[32];
        const int n = snprintf(line, sizeof line, "line %d\n", i);
        assert_int_equal(tui_talk_append(&t, line, (size_t)n), TL_OK);
    }
    assert_int_equal(t.n, 2);
    assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
    assert_string_equal(row_text(&g, 5), "line 29");
    assert_int_equal(tui_talk_scroll(&t, r, -10), TL_OK);
    tui_grid_clear(&g);
    assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
    assert_string_equal(row_text(&g, 0), "line 14");
    assert_int_equal(tui_talk_below(&t, r), 10);
    assert_true(shows(&g, "10 more below"));
    assert_int_equal(tui_talk_append(&t, "line 30\n", 8), TL_OK); /* the view stays */
    tui_grid_clear(&g);
    assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
    assert_string_equal(row_text(&g, 0), "line 14");
    assert_int_equal(tui_talk_scroll(&t, r, -1000), TL_OK);
    tui_grid_clear(&g);
    assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
    assert_string_equal(row_text(&g, 0), "> hi");
    assert_int_equal(tui_talk_scroll(&t, r, 1000), TL_OK);
    tui_grid_clear(&g);
    assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
    assert_string_equal(row_text(&g, 5), "line 30");
    tui_talk_clear(&t); /* a warning while an answer comes stands behind it */
    tui_grid_clear(&g);
    assert_int_equal(tui_talk_append(&t, "one ", 4), TL_OK);
    assert_int_equal(tui_talk_add(&t, TUI_ITEM_WARN, "mind", 4), TL_OK);
    assert_int_equal(tui_talk_append(&t, "two", 3), TL_OK);
    tui_talk_end(&t);
    assert_int_equal(tui_talk_append(&t, "three", 5), TL_OK);
    assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
    assert_string_equal(row_text(&g, 0), "one two");
    assert_string_equal(row_text(&g, 2), "! mind");
    assert_string_equal(row_text(&g, 4), "three");
    tui_talk_free(&t);
    tui_grid_free(&g);
}

/* Goal: at every size the chat pane stays inside its rectangle while it is resized, scrolled and
 * written to. */
static void test_talk_random(void **state) {
    (void)state;
    struct tl_rng rng = {9};
    tui_talk t = {0};
    tui_grid g = {0};
    tl_bytes text = {0};
    for (int i = 0; i < 3000; i++) {
        random_text(&rng, &text, rng_below(&rng, 30));
        if (rng_below(&rng, 3) == 0) {
            assert_int_equal(tui_talk_append(&t, text.data, text.len), TL_OK);
        } else {
            assert_int_equal(
                tui_talk_add(&t, (tui_item_kind)rng_below(&rng, 5), text.data, text.len), TL_OK);
        }
        if (t.n > 40) {
            tui_talk_clear(&t);
        }
        assert_int_equal(tui_grid_resize(&g, 1 + (int32_t)rng_below(&rng, 60),
                                         1 + (int32_t)rng_below(&rng, 120)),
                         TL_OK);
        const struct tui_rect r = random_rect(&rng, g.rows, g.cols);
        mark_outside(&g, r);
        assert_int_equal(tui_talk_scroll(&t, r, (int32_t)rng_below(&rng, 200) - 100), TL_OK);
        assert_int_equal(tui_talk_draw(&g, r, &t), TL_OK);
        check_outside(&g, r);
    }
    tl_bytes_free(&text);
    tui_talk_free(&t);
    tui_grid_free(&g);
}

/* A session of n layers as it might be after some steps. */
static void make_stats(struct tl_rng *rng, struct tl_stats *s, uint32_t n) {
    memset(s, 0, sizeof *s);
    s->version = TL_STATS_VERSION;
    s->size = sizeof *s;
    s->n_layers = n;
    s->n_layers_shown = n < TL_STATS_LAYERS_MAX ? n : TL_STATS_LAYERS_MAX;
    s->activity = (uint32_t)rng_below(rng, 4);
    snprintf(s->model, sizeof s->model, "a model");
    snprintf(s->kv, sizeof s->kv, "tailor");
    s->ctx_cap = 16384;
    s->ctx_used = (uint32_t)rng_below(rng, 16385);
    s->tokens_per_s = rng_below(rng, 3) == 0 ? (double)NAN : (double)rng_below(rng, 1000) / 7;
    s->times_known = (uint32_t)rng_below(rng, 32);
    s->heat_layer = rng_below(rng, 2) == 0 ? UINT32_MAX : 1;
    s->n_answer_tokens = rng_below(rng, 1000);
    for (uint32_t il = 0; il < s->n_layers_shown; il++) {
        struct tl_stats_layer *const l = &s->layers[il];
        snprintf(l->policy, sizeof l->policy, "window 64+64, int2/int1, top 512 of host");
        l->held = (struct tl_kv_bytes){.window = rng_below(rng, 1u << 20),
                                       .sketch = rng_below(rng, 1u << 22),
                                       .home_host = rng_below(rng, 1u << 30)};
        l->room = l->held;
        l->total.host_to_device_bytes = rng_below(rng, 1u << 30);
        l->total.rows_hit = rng_below(rng, 100);
        l->total.rows_fetched = rng_below(rng, 100);
        l->dense_score = (double)NAN;
    }
}

static void test_dash_every_size(void **state) {
    (void)state;
    struct tl_rng rng = {10};
    struct tl_stats *const s = malloc(sizeof *s);
    tui_dash d;
    tui_grid g = {0};
    assert_non_null(s);
    assert_int_equal(tui_dash_init(&d), TL_OK);
    uint64_t now = 1000000000;
    for (int i = 0; i < 4000; i++) {
        make_stats(&rng, s, 1 + (uint32_t)rng_below(&rng, rng_below(&rng, 4) == 0 ? 300 : 32));
        now += rng_below(&rng, 2000000000);
        tui_dash_update(&d, s, now);
        d.focus = rng_below(&rng, 2) == 0;
        d.detail = rng_below(&rng, 4) == 0;
        d.sort = (tui_sort)rng_below(&rng, TUI_SORT_COUNT);
        d.descending = rng_below(&rng, 2) == 0;
        tui_dash_move(&d, (int32_t)rng_below(&rng, 20) - 10);
        assert_int_equal(tui_grid_resize(&g, 1 + (int32_t)rng_below(&rng, 120),
                                         1 + (int32_t)rng_below(&rng, 400)),
                         TL_OK);
        g.ascii = rng_below(&rng, 2) == 0;
        const struct tui_rect r = random_rect(&rng, g.rows, g.cols);
        mark_outside(&g, r);
        tui_dash_draw(&g, r, &d);
        check_outside(&g, r);
        tui_dash_click(&d, r, (int32_t)rng_below(&rng, 120), (int32_t)rng_below(&rng, 400));
        assert_true(d.selected < d.now.n_layers_shown);
    }
    tui_dash_free(&d);
    tui_grid_free(&g);
    free(s);
}

/* Goal: the table is sorted as it says, a click chooses the layer under it, unknown is N/A. */
static void test_dash_shows(void **state) {
    (void)state;
    struct tl_rng rng = {12};
    struct tl_stats *const s = malloc(sizeof *s);
    tui_dash d;
    tui_grid g = {0};
    uint32_t order[TL_STATS_LAYERS_MAX];
    assert_non_null(s);
    assert_int_equal(tui_dash_init(&d), TL_OK);
    assert_int_equal(tui_grid_resize(&g, 30, 100), TL_OK);
    make_stats(&rng, s, 8);
    s->heat_layer = UINT32_MAX;
    s->times_known = 1;
    s->time_ns[TL_TIME_STEP] = 12340000;
    for (uint32_t il = 0; il < 8; il++) {
        s->layers[il].total =
            (struct tl_traffic){.rows_hit = il, .rows_fetched = il == 0 ? 0 : 7 - il};
    }
    tui_dash_update(&d, s, 1000000000);
    d.sort = TUI_SORT_HIT;
    d.descending = true;
    tui_dash_order(&d, order);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(order[i], 7 - i);
    }
    tui_dash_draw(&g, tui_grid_rect(&g), &d);
    assert_true(shows(&g, "ms step 12.3 "));
    assert_true(shows(&g, "compute N/A"));
    assert_true(shows(&g, "vhit"));
    assert_true(shows(&g, "100%"));
    int32_t row = 0; /* where layer 5 is */
    while (row < g.rows && strncmp(row_text(&g, row), "     5 window", 13) != 0) {
        row++;
    }
    assert_true(row < g.rows);
    tui_dash_click(&d, tui_grid_rect(&g), row, 8);
    assert_int_equal(d.selected, 5);
    d.detail = true;
    tui_grid_clear(&g);
    tui_dash_draw(&g, tui_grid_rect(&g), &d);
    assert_true(shows(&g, "layer 5 of 8: window 64+64"));
    assert_true(shows(&g, "dense score N/A"));
    char text[16];
    assert_string_equal(tui_bytes(0, text), "0B");
    assert_string_equal(tui_bytes(1536, text), "1.5K");
    assert_string_equal(tui_bytes((double)NAN, text), "N/A");
    tui_dash_free(&d);
    tui_grid_free(&g);
    free(s);
}

/* Goal: what crossed the link is the mean per step between two samples; a new session starts anew.
 */
static void test_dash_history(void **state) {
    (void)state;
    struct tl_rng rng = {13};
    struct tl_stats *const s = malloc(sizeof *s);
    tui_dash d;
    assert_non_null(s);
    assert_int_equal(tui_dash_init(&d), TL_OK);
    make_stats(&rng, s, 2);
    s->n_answer_tokens = 100;
    s->layers[1].total.host_to_device_bytes = 5000;
    tui_dash_update(&d, s, 1000000000);
    s->n_answer_tokens = 110;
    s->layers[1].total.host_to_device_bytes = 7000;
    tui_dash_update(&d, s, 1100000000); /* too soon for a sample */
    assert_int_equal(d.rate.n, 1);
    tui_dash_update(&d, s, 2000000000);
    assert_int_equal(d.rate.n, 2);
    assert_true(isnan(d.rate.values[0]) && fabsf(d.rate.values[1] - 10) < 1e-3f);
    assert_true(isnan(d.moved[1].values[0]) && fabsf(d.moved[1].values[1] - 200) < 1e-3f);
    d.paused = true;
    s->n_answer_tokens = 500;
    tui_dash_update(&d, s, 9000000000);
    assert_int_equal(d.now.n_answer_tokens, 110);
    d.paused = false;
    make_stats(&rng, s, 3);
    tui_dash_update(&d, s, 9900000000);
    assert_int_equal(d.rate.n, 1);
    tui_dash_free(&d);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talk),
        cmocka_unit_test(test_talk_random),
        cmocka_unit_test(test_dash_every_size),
        cmocka_unit_test(test_dash_shows),
        cmocka_unit_test(test_dash_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
