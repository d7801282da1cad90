/* What keys do: boxes that scroll, the search in the history, the dashboard's keys; and what is
 * said of progress. */
#include "cells.h"

#include "tui/box.h"
#include "tui/dash.h"
#include "tui/edit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tui_key key_of(tui_key_kind kind, uint32_t ch) {
    return (struct tui_key){.kind = kind, .ch = ch};
}

/* ---- boxes ---- */

static void make_lines(tl_bytes *out, int n) {
    out->len = 0;
    for (int i = 0; i < n; i++) {
        char line[32];
        snprintf(line, sizeof line, "%sline %d.", i > 0 ? "\n" : "", i);
        assert_int_equal(tl_bytes_add_str(out, line), TL_OK);
    }
}

/* Goal: at every size that has room for a border and a line, each line can be brought into view. */
static void test_box_every_size(void **state) {
    (void)state;
    tl_bytes text = {0};
    tui_grid g = {0};
    make_lines(&text, 12);
    for (int32_t rows = 1; rows <= 16; rows++) {
        for (int32_t cols = 1; cols <= 40; cols += 3) {
            int32_t first = 0;
            bool seen[12] = {false};
            assert_int_equal(tui_grid_resize(&g, rows, cols), TL_OK);
            for (int step = 0; step < 14; step++) {
                tui_grid_clear(&g);
                assert_int_equal(tui_box_draw(&g, "title", text.data, text.len, &first), TL_OK);
                check_halves(&g);
                for (int i = 0; i < 12; i++) {
                    char line[16];
                    snprintf(line, sizeof line, "line %d.", i);
                    seen[i] |= shows(&g, line);
                }
                const struct tui_key down = key_of(TUI_KEY_DOWN, 0);
                assert_true(tui_box_key(&down, rows, &first));
            }
            for (int i = 0; i < 12 && cols != 10; i++) { /* 10: each is broken into two */
                assert_true(seen[i] == (rows >= 3 && cols > 10));
            }
        }
    }
    tl_bytes_free(&text);
    tui_grid_free(&g);
}

static void test_box_keys(void **state) {
    (void)state;
    tl_bytes text = {0};
    tui_grid g = {0};
    int32_t first = 0;
    make_lines(&text, 40);
    assert_int_equal(tui_grid_resize(&g, 12, 40), TL_OK);
    const struct tui_key end = key_of(TUI_KEY_END, 0), up = key_of(TUI_KEY_UP, 0);
    const struct tui_key other = key_of(TUI_KEY_CHAR, 'x'), escape = key_of(TUI_KEY_ESCAPE, 0);
    assert_true(tui_box_key(&end, 12, &first));
    assert_int_equal(tui_box_draw(&g, "t", text.data, text.len, &first), TL_OK);
    assert_int_equal(first, 30); /* ten lines fit */
    assert_true(shows(&g, "line 39."));
    assert_true(shows(&g, "31-40 of 40"));
    assert_true(tui_box_key(&up, 12, &first));
    assert_int_equal(first, 29);
    assert_false(tui_box_key(&other, 12, &first));
    assert_false(tui_box_key(&escape, 12, &first));
    tui_grid_clear(&g);
    make_lines(&text, 3);
    assert_int_equal(tui_box_draw(&g, "t", text.data, text.len, &first), TL_OK);
    assert_int_equal(first, 0);
    assert_false(shows(&g, " of ")); /* nothing is out of view */
    tl_bytes_free(&text);
    tui_grid_free(&g);
}

static void test_help(void **state) {
    (void)state;
    static const struct tui_help list[] = {{"Up", "older"}, {NULL, ""}, {NULL, "words"}};
    tl_bytes text = {0};
    assert_int_equal(tui_help_spell(list, 3, 80, &text), TL_OK);
    assert_string_equal(text.data, "Up                older\n\nwords");
    text.len = 0;
    assert_int_equal(tui_help_spell(list, 3, 20, &text), TL_OK);
    assert_string_equal(text.data, "Up\n  older\n\nwords");
    tl_bytes_free(&text);
}

/* ---- searching ---- */

static void expect_text(const tui_edit *e, const char *text, bool missed) {
    assert_string_equal(e->text.data, text);
    assert_true(e->missed == missed);
}

static void add_query(tui_edit *e, const char *text) {
    assert_int_equal(tui_edit_search_add(e, text, strlen(text)), TL_OK);
}

static void test_search(void **state) {
    (void)state;
    tui_edit e = {0};
    static const char file[] = "red apple\ngreen apple\nblue sky\n";
    assert_int_equal(tui_history_read(&e, file, sizeof file - 1), TL_OK);
    assert_int_equal(tui_edit_insert(&e, "draft", 5), TL_OK);
    assert_int_equal(tui_edit_search_begin(&e), TL_OK);
    assert_true(e.searching);
    add_query(&e, "app");
    expect_text(&e, "green apple", false);
    assert_int_equal(e.cursor, 6); /* where it was found */
    assert_int_equal(tui_edit_search_older(&e), TL_OK);
    expect_text(&e, "red apple", false);
    assert_int_equal(tui_edit_search_older(&e), TL_OK);
    expect_text(&e, "red apple", true);
    assert_int_equal(tui_edit_search_newer(&e), TL_OK);
    expect_text(&e, "green apple", false);
    add_query(&e, "x");
    expect_text(&e, "green apple", true);
    assert_int_equal(tui_edit_search_shorten(&e), TL_OK);
    expect_text(&e, "green apple", false);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(tui_edit_search_shorten(&e), TL_OK);
    }
    assert_int_equal(e.query.len, 0);
    assert_int_equal(tui_edit_search_end(&e, false), TL_OK);
    expect_text(&e, "draft", false);
    assert_false(e.searching);
    assert_int_equal(tui_edit_search_begin(&e), TL_OK);
    add_query(&e, "sky");
    assert_int_equal(tui_edit_search_end(&e, true), TL_OK);
    expect_text(&e, "blue sky", false);
    assert_int_equal(tui_edit_older(&e), TL_OK); /* history goes on from there */
    expect_text(&e, "green apple", false);
    tui_edit_free(&e);
    assert_int_equal(tui_edit_search_begin(&e), TL_OK); /* without any history */
    add_query(&e, "a");
    assert_int_equal(tui_edit_search_older(&e), TL_OK);
    assert_int_equal(tui_edit_search_newer(&e), TL_OK);
    assert_int_equal(tui_edit_search_end(&e, false), TL_OK);
    expect_text(&e, "", true);
    tui_edit_free(&e);
}

/* ---- the dashboard ---- */

enum { N_LAYERS = 5 };

/* Each column sorts these five otherwise. */
static void make_layers(struct tl_stats *s) {
    static const char *const policies[N_LAYERS] = {"c", "a", "e", "b", "d"};
    static const uint64_t order[N_LAYERS] = {3, 1, 4, 0, 2};
    memset(s, 0, sizeof *s);
    s->n_layers = s->n_layers_shown = N_LAYERS;
    s->ctx_cap = 100;
    s->heat_layer = UINT32_MAX;
    s->tokens_per_s = (double)NAN;
    for (uint32_t il = 0; il < N_LAYERS; il++) {
        struct tl_stats_layer *const l = &s->layers[il];
        snprintf(l->policy, sizeof l->policy, "%s", policies[il]);
        l->held.window = 100 + order[il];
        l->held.home_host = 1000 * ((il + 2) % N_LAYERS);
        l->step.host_to_device_bytes = 10 * ((order[il] + 3) % N_LAYERS);
        l->total.device_to_host_bytes = 7 * ((il + 4) % N_LAYERS);
        l->total.rows_hit = 1 + (order[il] + 1) % N_LAYERS;
        l->total.rows_fetched = 5;
        l->gauge_error = (double)NAN;
    }
}

/* Goal: every column of the table sorts by what it shows, both ways, and says so. */
static void test_sort_by_every_column(void **state) {
    (void)state;
    struct tl_stats *const s = malloc(sizeof *s);
    tui_dash d;
    tui_grid g = {0};
    assert_non_null(s);
    make_layers(s);
    assert_int_equal(tui_dash_init(&d), TL_OK);
    assert_int_equal(tui_grid_resize(&g, 30, 120), TL_OK);
    tui_dash_update(&d, s, 1000000000);
    static const struct {
        tui_sort sort;
        uint32_t up[N_LAYERS];
    } cases[] = {
        {TUI_SORT_POLICY, {1, 3, 0, 4, 2}}, {TUI_SORT_BYTES, {3, 4, 0, 1, 2}},
        {TUI_SORT_DEVICE, {3, 1, 4, 0, 2}}, {TUI_SORT_HOST, {3, 4, 0, 1, 2}},
        {TUI_SORT_STEP, {4, 0, 2, 3, 1}},   {TUI_SORT_HIT, {2, 3, 1, 4, 0}},
        {TUI_SORT_MOVED, {1, 2, 3, 4, 0}},  {TUI_SORT_LAYER, {0, 1, 2, 3, 4}},
    };
    const struct tui_key right = key_of(TUI_KEY_RIGHT, 0), turn = key_of(TUI_KEY_CHAR, 'r');
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t order[TL_STATS_LAYERS_MAX];
        char name[32];
        assert_int_equal(tui_dash_key(&d, &right), TUI_DASH_DONE);
        assert_int_equal(d.sort, cases[i].sort);
        assert_true(d.descending == (d.sort != TUI_SORT_LAYER && d.sort != TUI_SORT_POLICY));
        for (int way = 0; way < 2; way++) {
            tui_dash_order(&d, order);
            for (uint32_t k = 0; k < N_LAYERS; k++) {
                assert_int_equal(order[k], cases[i].up[d.descending ? N_LAYERS - 1 - k : k]);
            }
            tui_grid_clear(&g);
            tui_dash_draw(&g, tui_grid_rect(&g), &d);
            snprintf(name, sizeof name, "%c%s", d.descending ? 'v' : '^', tui_sort_name(d.sort));
            assert_true(shows(&g, name));
            assert_int_equal(tui_dash_key(&d, &turn), TUI_DASH_DONE);
        }
    }
    tui_dash_free(&d);
    tui_grid_free(&g);
    free(s);
}

static tui_dash_wish press(tui_dash *d, tui_key_kind kind, uint32_t ch) {
    const struct tui_key key = key_of(kind, ch);
    return tui_dash_key(d, &key);
}

static void test_dash_keys(void **state) {
    (void)state;
    struct tl_stats *const s = malloc(sizeof *s);
    tui_dash d;
    assert_non_null(s);
    make_layers(s);
    assert_int_equal(tui_dash_init(&d), TL_OK);
    assert_int_equal(press(&d, TUI_KEY_DOWN, 0), TUI_DASH_DONE); /* nothing is there yet */
    tui_dash_update(&d, s, 1000000000);
    press(&d, TUI_KEY_CHAR, 'G');
    assert_int_equal(d.selected, N_LAYERS - 1);
    press(&d, TUI_KEY_CHAR, 'k');
    assert_int_equal(d.selected, N_LAYERS - 2);
    press(&d, TUI_KEY_HOME, 0);
    assert_int_equal(d.selected, 0);
    press(&d, TUI_KEY_PAGE_DOWN, 0);
    assert_int_equal(d.selected, N_LAYERS - 1);
    press(&d, TUI_KEY_ENTER, 0);
    assert_true(d.detail);
    assert_int_equal(press(&d, TUI_KEY_ESCAPE, 0), TUI_DASH_DONE);
    assert_false(d.detail);
    assert_int_equal(press(&d, TUI_KEY_ESCAPE, 0), TUI_DASH_BACK);
    d.detail = true;
    const struct tui_key hurried = {.kind = TUI_KEY_CHAR, .ch = '?', .alt = true};
    assert_int_equal(tui_dash_key(&d, &hurried), TUI_DASH_HELP);
    assert_false(d.detail);
    press(&d, TUI_KEY_FUNCTION, 5);
    assert_true(d.paused);
    press(&d, TUI_KEY_CHAR, 'p');
    assert_false(d.paused);
    for (int i = 0; i < 20; i++) {
        press(&d, TUI_KEY_FUNCTION, 7);
    }
    assert_int_equal(d.interval_ms, 100);
    for (int i = 0; i < 20; i++) {
        press(&d, TUI_KEY_CHAR, '+');
    }
    assert_int_equal(d.interval_ms, 10000);
    assert_int_equal(press(&d, TUI_KEY_CHAR, 't'), TUI_DASH_LOOK);
    assert_int_equal(press(&d, TUI_KEY_FUNCTION, 1), TUI_DASH_HELP);
    assert_int_equal(press(&d, TUI_KEY_FUNCTION, 10), TUI_DASH_QUIT);
    assert_int_equal(press(&d, TUI_KEY_FUNCTION, 12), TUI_DASH_UNKNOWN);
    assert_int_equal(press(&d, TUI_KEY_FUNCTION, 99), TUI_DASH_UNKNOWN);
    assert_int_equal(press(&d, TUI_KEY_CHAR, 'Z'), TUI_DASH_UNKNOWN);
    const struct tui_key filter = {.kind = TUI_KEY_CHAR, .ch = 'f'};
    assert_int_equal(tui_dash_key(&d, &filter), TUI_DASH_UNKNOWN);
    assert_non_null(strstr(tui_dash_other_key(&filter), "sorts"));
    assert_null(tui_dash_other_key(&hurried));
    d.rate.n = d.moved[3].n = 7;
    press(&d, TUI_KEY_CHAR, 'z'); /* the histories begin anew */
    assert_true(d.rate.n == 0 && d.moved[3].n == 0);
    press(&d, TUI_KEY_CHAR, 'M');
    assert_true(d.sort == TUI_SORT_BYTES && d.descending);
    press(&d, TUI_KEY_CHAR, 'M'); /* again: the same */
    assert_true(d.sort == TUI_SORT_BYTES && d.descending);
    tui_dash_free(&d);
    free(s);
}

/* ---- progress ---- */

static void expect_activity(const struct tl_stats *s, uint64_t now_ns, int32_t cols,
                            const char *text) {
    char is[96];
    assert_string_equal(tui_activity(s, now_ns, cols, is), text);
}

/* Goal: rate and time left of loading and reading, by hand: 1 GiB of 4 in 2 s, 500 of 2000 tokens
 * in 0.5 s; nothing is said of what is not known. */
static void test_activity(void **state) {
    (void)state;
    struct tl_stats *const s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->tokens_per_s = (double)NAN;
    s->activity = TL_ACTIVITY_LOADING;
    expect_activity(s, 5000000000, 80, "loading");
    s->load_begin_ns = 1000000000;
    s->load_bytes = 4ull << 30;
    expect_activity(s, 3000000000, 80, "loading 0B of 4.0G");
    s->load_done_bytes = 1ull << 30;
    expect_activity(s, 3000000000, 80, "loading 1.0G of 4.0G, 512M/s, 6 s left");
    expect_activity(s, 3000000000, 20, "loading 25% 6 s");
    s->activity = TL_ACTIVITY_PROMPT;
    s->prompt_begin_ns = 1000000000;
    s->prompt_total = 2000;
    expect_activity(s, 3000000000, 80, "reading 2000 tokens, 2 s");
    s->prompt_done = 500;
    s->prompt_end_ns = 1500000000;
    expect_activity(s, 9000000000, 80, "reading 500 of 2000 tokens, 1000/s, 2 s left");
    expect_activity(s, 9000000000, 30, "reading 25% 2 s");
    s->prompt_end_ns = 501000000000;
    expect_activity(s, 9000000000, 80, "reading 500 of 2000 tokens, 1/s, 25 min left");
    s->activity = TL_ACTIVITY_ANSWER;
    expect_activity(s, 0, 80, "working");
    s->tokens_per_s = 12.34;
    expect_activity(s, 0, 80, "answering, 12.3 tokens/s");
    expect_activity(s, 0, 20, "answering 12.3/s");
    s->activity = TL_ACTIVITY_IDLE;
    expect_activity(s, 0, 80, "ready, 12.3 tokens/s");
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_box_every_size),
        cmocka_unit_test(test_box_keys),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_sort_by_every_column),
        cmocka_unit_test(test_dash_keys),
        cmocka_unit_test(test_activity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
