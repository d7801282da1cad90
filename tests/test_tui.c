/* The full screen's pure parts: widths, cells, text, layout, plots, editor, themes, the two panes.
 * Laws over all sizes and random inputs first, then what a reader would look for on the screen. */
#include "cells.h"

#include "tui/layout.h"
#include "tui/edit.h"
#include "tui/plot.h"
#include "tui/text.h"
#include "tui/theme.h"
#include "tui/width.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

int wcwidth(wchar_t c); /* XSI; the headers hide it from strict C */

/* ---- widths ---- */

static void test_width_table(void **state) {
    (void)state;
    static const struct {
        uint32_t cp;
        int32_t width;
    } table[] = {
        {'a', 1},    {'\n', 0},    {0x7f, 0},   {0xe9, 1},   {0x301, 0},    {0x200b, 0},
        {0x200d, 0}, {0xfe0f, 0},  {0x4e2d, 2}, {0xac00, 2}, {0x1160, 0},   {0xff21, 2},
        {0x3042, 2}, {0x1f600, 2}, {0x2588, 1}, {0x28ff, 1}, {0x2500, 1},   {0x20000, 2},
        {0x0e31, 0}, {0x0915, 1},  {0x093f, 1}, {0x064b, 0}, {0x10ffff, 1}, {0xa0, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (tui_width(table[i].cp) != table[i].width) {
            fail_msg("U+%04X: %d, not %d", table[i].cp, tui_width(table[i].cp), table[i].width);
        }
    }
}

/* Goal: our table and libc's, which have different makers, agree on what is assigned in both but
 * for a few hundred signs that changed between versions of Unicode. */
static void test_width_like_libc(void **state) {
    (void)state;
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        skip();
    }
    unsigned n = 0, different = 0;
    for (uint32_t cp = 0x20; cp < 0x30000; cp++) {
        const int width = wcwidth((wchar_t)cp);
        if (width >= 0 && !(cp >= 0xd800 && cp < 0xe000)) {
            n++;
            different += width != tui_width(cp);
        }
    }
    setlocale(LC_CTYPE, "C");
    assert_true(n > 100000);
    assert_true(different < 400);
}

/* Goal: every code point survives writing and reading; every broken byte becomes one U+FFFD and
 * nothing is read beyond the end. */
static void test_utf8(void **state) {
    (void)state;
    char text[4];
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        size_t len = 0;
        if (cp >= 0xd800 && cp < 0xe000) {
            continue;
        }
        const size_t n = tui_utf8_put(cp, text);
        assert_int_equal(tui_utf8_next(text, n, &len), cp);
        assert_int_equal(len, n);
    }
    struct tl_rng rng = {7};
    for (int i = 0; i < 200000; i++) {
        const size_t n = 1 + rng_below(&rng, 4);
        char *const bytes = malloc(n); /* exactly: ASan sees a byte more */
        for (size_t k = 0; k < n; k++) {
            bytes[k] = (char)rng_next(&rng);
        }
        size_t at = 0;
        while (at < n) {
            size_t len = 0;
            tui_utf8_next(bytes + at, n - at, &len);
            assert_true(len > 0 && len <= n - at);
            at = tui_next_sign(bytes, n, at);
        }
        while (at > 0) {
            const size_t before = tui_prev_sign(bytes, at);
            assert_true(before < at);
            at = before;
        }
        free(bytes);
    }
    static const char signs[] = "a\xcc\x81\xcc\x82z"; /* a with two marks is one sign */
    assert_int_equal(tui_next_sign(signs, 6, 0), 5);
    assert_int_equal(tui_prev_sign(signs, 5), 0);
    assert_int_equal(tui_text_width(signs, 6), 2);
}

/* ---- cells ---- */

static void test_put_stays_inside(void **state) {
    (void)state;
    struct tl_rng rng = {11};
    tui_grid g = {0};
    tl_bytes text = {0};
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(
            tui_grid_resize(&g, 1 + (int32_t)rng_below(&rng, 5), 1 + (int32_t)rng_below(&rng, 20)),
            TL_OK);
        const struct tui_rect r = random_rect(&rng, g.rows, g.cols);
        g.ascii = rng_below(&rng, 2) == 0;
        mark_outside(&g, r);
        for (int k = 0; k < 4; k++) {
            random_text(&rng, &text, rng_below(&rng, 12));
            const struct tui_at at = {r, (int32_t)rng_below(&rng, 7) - 1,
                                      (int32_t)rng_below(&rng, 24) - 3, TUI_TEXT};
            tui_put(&g, at, text.data, text.len);
        }
        check_outside(&g, r);
        check_halves(&g);
    }
    tl_bytes_free(&text);
    tui_grid_free(&g);
}

static void test_put_shows(void **state) {
    (void)state;
    tui_grid g = {0};
    assert_int_equal(tui_grid_resize(&g, 1, 12), TL_OK);
    const struct tui_rect r = tui_grid_rect(&g);
    const struct tui_at start = {r, 0, 0, TUI_TEXT};
    assert_int_equal(tui_puts(&g, start,
                              "\xe4\xb8\xad"
                              "e\xcc\x81\x1b[0mx"),
                     7);
    assert_string_equal(row_text(&g, 0), "\xe4\xb8\xad"
                                         "e\xcc\x81[0mx");
    tui_puts(&g, (struct tui_at){r, 0, 1, TUI_TEXT}, "z"); /* on the right half of the wide one */
    assert_string_equal(row_text(&g, 0), " ze\xcc\x81[0mx");
    tui_grid_clear(&g);
    tui_puts(&g, (struct tui_at){r, 0, 11, TUI_TEXT}, "\xe4\xb8\xad"); /* half of it does not fit */
    assert_string_equal(row_text(&g, 0), "");
    g.ascii = true;
    tui_puts(&g, start, "\xe2\x80\xa2 \xe4\xb8\xad\xc3\xa9\xe2\x94\x82");
    assert_string_equal(row_text(&g, 0), "* ? ?|");
    tui_grid_free(&g);
}

/* ---- layout ---- */

static int64_t area(struct tui_rect r) { return (int64_t)r.rows * r.cols; }

static bool overlap(struct tui_rect a, struct tui_rect b) {
    return area(a) > 0 && area(b) > 0 && a.row < b.row + b.rows && b.row < a.row + a.rows &&
           a.col < b.col + b.cols && b.col < a.col + a.cols;
}

static void check_rects(struct tui_rect screen, const struct tui_rect *rects, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct tui_rect r = rects[i];
        assert_true(r.rows >= 0 && r.cols >= 0);
        assert_true(area(r) == 0 || (r.row >= screen.row && r.col >= screen.col &&
                                     r.row + r.rows <= screen.row + screen.rows &&
                                     r.col + r.cols <= screen.col + screen.cols));
        for (size_t k = 0; k < i; k++) {
            if (overlap(r, rects[k])) {
                fail_msg("%dx%d: rectangles %zu and %zu overlap", screen.rows, screen.cols, i, k);
            }
        }
    }
}

/* Goal: for every size from 1x1 to 200x400 the rectangles lie inside and apart, together they are
 * the whole screen, and from 20x5 on there is a chat or a dashboard, a prompt and a status line. */
static void test_layout_every_size(void **state) {
    (void)state;
    struct tl_rng rng = {3};
    for (int32_t rows = 1; rows <= 200; rows++) {
        for (int32_t cols = 1; cols <= 400; cols++) {
            const struct tui_rect screen = {0, 0, rows, cols};
            const struct tui_wish wish = {.prompt_rows = (int32_t)rng_below(&rng, 20),
                                          .dash = rng_below(&rng, 2) == 0};
            struct tui_layout l;
            tui_layout_chat(screen, &wish, &l);
            const struct tui_rect rects[] = {l.title, l.chat, l.border, l.dash, l.prompt, l.status};
            check_rects(screen, rects, sizeof rects / sizeof rects[0]);
            int64_t sum = 0;
            for (size_t i = 0; i < sizeof rects / sizeof rects[0]; i++) {
                sum += area(rects[i]);
            }
            assert_true(sum == area(screen));
            if (rows >= 5 && cols >= 20) {
                assert_true(area(l.chat) + area(l.dash) > 0 && area(l.prompt) > 0 &&
                            area(l.status) > 0);
                assert_true(l.chat.rows >= 3 || l.dash.rows >= 3);
            }
        }
    }
}

static void test_layout_dash(void **state) {
    (void)state;
    struct tl_rng rng = {4};
    for (int i = 0; i < 100000; i++) {
        struct tui_rect parts[TUI_PART_COUNT];
        const struct tui_rect dash = random_rect(&rng, 200, 400);
        tui_layout_dash(dash, (int32_t)rng_below(&rng, 200), parts);
        check_rects(dash, parts, TUI_PART_COUNT);
    }
    const struct tui_rect box =
        tui_layout_box((struct tui_rect){0, 0, 5, 20}, (struct tui_rect){0, 0, 99, 99});
    assert_int_equal(area(box), 100);
}

static void test_layout_shapes(void **state) {
    (void)state;
    struct tui_layout l;
    const struct tui_wish both = {.prompt_rows = 1, .dash = true};
    tui_layout_chat((struct tui_rect){0, 0, 40, 120}, &both, &l); /* side by side */
    assert_true(l.chat.row == l.dash.row && l.chat.rows == l.dash.rows && l.border.cols == 3);
    tui_layout_chat((struct tui_rect){0, 0, 40, 80}, &both, &l); /* stacked */
    assert_true(l.chat.cols == 80 && l.dash.cols == 80 && l.dash.row < l.chat.row);
    tui_layout_chat((struct tui_rect){0, 0, 5, 20}, &both, &l); /* one of the two */
    assert_true(area(l.chat) == 0 && l.dash.rows == 3);
}

/* ---- text ---- */

/* Goal: no line is wider than asked (unless one sign alone is), every word of the source is on some
 * line, and nothing loops, for random text and widths, plain and markdown. */
static void test_wrap_laws(void **state) {
    (void)state;
    struct tl_rng rng = {5};
    tl_bytes text = {0};
    tui_text t = {0};
    for (int i = 0; i < 4000; i++) {
        random_text(&rng, &text, rng_below(&rng, 60));
        const int32_t cols = 1 + (int32_t)rng_below(&rng, 40);
        const bool plain = rng_below(&rng, 2) == 0;
        assert_int_equal(plain ? tui_text_wrap(&t, text.data, text.len, cols, TUI_TEXT)
                               : tui_text_markdown(&t, text.data, text.len, cols, TUI_TEXT),
                         TL_OK);
        size_t covered = 0;
        for (uint32_t k = 0; k < t.n_lines; k++) {
            int32_t width = t.lines[k].indent;
            for (uint32_t j = 0; j < t.lines[k].n_runs; j++) {
                const struct tui_run *const run = &t.runs[t.lines[k].run + j];
                assert_true(run->off + run->len <= text.len);
                width += tui_text_width(text.data + run->off, run->len);
                covered += run->len;
            }
            assert_true(width <= cols || cols < 5);
        }
        if (plain) { /* all but the spaces and newlines that lines ended with */
            size_t signs = 0;
            for (size_t k = 0; k < text.len; k++) {
                signs += strchr(" \t\n", text.data[k]) == NULL;
            }
            assert_true(covered >= signs && covered <= text.len);
        }
    }
    tui_text_free(&t);
    tl_bytes_free(&text);
}

/* A text drawn into a grid of that size. */
static void draw_markdown(tui_grid *g, const char *text) {
    tui_text t = {0};
    tui_grid_clear(g);
    assert_int_equal(tui_text_markdown(&t, text, strlen(text), g->cols, TUI_TEXT), TL_OK);
    for (uint32_t i = 0; i < t.n_lines && (int32_t)i < g->rows; i++) {
        tui_text_draw(g, (struct tui_at){tui_grid_rect(g), (int32_t)i, 0, TUI_DIM}, &t, i, text);
    }
    tui_text_free(&t);
}

static unsigned style_at(const tui_grid *g, int32_t row, int32_t col) {
    return g->cells[row * g->cols + col].style;
}

static void test_markdown(void **state) {
    (void)state;
    tui_grid g = {0};
    assert_int_equal(tui_grid_resize(&g, 12, 24), TL_OK);
    draw_markdown(&g, "# Title\n\nA **bold** and *slanted* `co*de` 2*3*4 snake_case_name **open\n"
                      "- one two three four five six\n  - inner\n1. first\n> said\n---\n");
    assert_string_equal(row_text(&g, 0), "Title");
    assert_int_equal(style_at(&g, 0, 0), TUI_HEADING | TUI_BOLD | TUI_UNDERLINE);
    assert_string_equal(row_text(&g, 2), "A bold and slanted co*de");
    assert_int_equal(style_at(&g, 2, 2), TUI_TEXT | TUI_BOLD);
    assert_int_equal(style_at(&g, 2, 0), TUI_TEXT);
    assert_int_equal(style_at(&g, 2, 11), TUI_TEXT | TUI_ITALIC);
    assert_int_equal(style_at(&g, 2, 19), TUI_CODE);
    assert_string_equal(row_text(&g, 3), "2*3*4 snake_case_name");
    assert_string_equal(row_text(&g, 4), "**open");
    assert_string_equal(row_text(&g, 5), "\xe2\x80\xa2 one two three four");
    assert_string_equal(row_text(&g, 6), "  five six");
    assert_string_equal(row_text(&g, 7), "  \xe2\x80\xa2 inner");
    assert_string_equal(row_text(&g, 8), "1. first");
    assert_string_equal(row_text(&g, 9), "\xe2\x94\x82 said");
    assert_string_equal(row_text(&g, 10) + 3 * 23, "\xe2\x94\x80");
    draw_markdown(&g, "```c\nint *a = **b;\n# no heading\n```\nafter *it*");
    assert_string_equal(row_text(&g, 1), "  int *a = **b;");
    assert_int_equal(style_at(&g, 1, 2), TUI_CODE);
    assert_string_equal(row_text(&g, 2), "  # no heading");
    assert_string_equal(row_text(&g, 4), "after it");
    tui_grid_free(&g);
}

/* ---- plots ---- */

static void test_plots_stay_inside(void **state) {
    (void)state;
    struct tl_rng rng = {6};
    tui_grid g = {0};
    float values[300];
    uint16_t counts[256];
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(
            tui_grid_resize(&g, 1 + (int32_t)rng_below(&rng, 8), 1 + (int32_t)rng_below(&rng, 60)),
            TL_OK);
        g.ascii = rng_below(&rng, 2) == 0;
        const struct tui_rect r = random_rect(&rng, g.rows, g.cols);
        mark_outside(&g, r);
        for (size_t k = 0; k < 300; k++) {
            const uint64_t kind = rng_below(&rng, 8);
            values[k] = kind == 0   ? (float)NAN
                        : kind == 1 ? (float)INFINITY
                        : kind == 2 ? -1
                                    : rng_float(&rng) * 1e9f;
        }
        for (size_t k = 0; k < 256; k++) {
            counts[k] = (uint16_t)rng_below(&rng, 1 + rng_below(&rng, 65536));
        }
        const struct tui_share shares[] = {{(double)values[0], 'a', TUI_HOT},
                                           {(double)values[1], 'b', TUI_HOST},
                                           {1e300, 'c', TUI_DISK}};
        const struct tui_at at = {r, 0, (int32_t)rng_below(&rng, 5), TUI_PLOT};
        tui_plot_spark(&g, at, values, rng_below(&rng, 301), 0);
        tui_plot_bar(&g, at, r.cols, shares, 3, (double)values[2]);
        tui_plot_gauge(&g, at, r.cols, (double)values[3]);
        tui_plot_heat(&g, at, r.cols, counts, rng_below(&rng, 257));
        check_outside(&g, r);
    }
    tui_grid_free(&g);
}

static void test_plots_show(void **state) {
    (void)state;
    tui_grid g = {0};
    assert_int_equal(tui_grid_resize(&g, 1, 10), TL_OK);
    const struct tui_rect r = tui_grid_rect(&g);
    const struct tui_at at = {r, 0, 0, TUI_PLOT};
    const struct tui_share shares[] = {
        {50, 'a', TUI_HOT}, {0, 'b', TUI_HOST}, {0.1, 'c', TUI_DISK}};
    tui_plot_bar(&g, at, 10, shares, 3, 100);
    assert_string_equal(row_text(&g, 0), "aaaaac"); /* nothing for 0, something for a little */
    tui_grid_clear(&g);
    tui_plot_gauge(&g, at, 10, (double)NAN);
    assert_string_equal(row_text(&g, 0), "N/A");
    tui_grid_clear(&g);
    g.ascii = true;
    tui_plot_gauge(&g, at, 10, 0.32);
    assert_string_equal(row_text(&g, 0), "###.......");
    tui_grid_clear(&g);
    const float values[] = {0, 9, NAN, 4.5f};
    tui_plot_spark(&g, at, values, 4, 0);
    assert_string_equal(row_text(&g, 0), "      _@ +");
    g.ascii = false;
    tui_grid_clear(&g);
    tui_plot_spark(&g, at, values, 4, 0);
    assert_string_equal(row_text(&g, 0), "        \xe2\xa3\xb8\xe2\xa2\xa0"); /* newest right */
    tui_grid_free(&g);
}

/* ---- editor ---- */

static void type(tui_edit *e, const char *text) {
    assert_int_equal(tui_edit_insert(e, text, strlen(text)), TL_OK);
}

static void test_edit(void **state) {
    (void)state;
    tui_edit e = {0};
    type(&e, "hello w\xc3\xb6rld");
    tui_edit_move(&e, TUI_WORD_LEFT);
    type(&e, "big ");
    assert_string_equal(e.text.data, "hello big w\xc3\xb6rld");
    assert_int_equal(tui_edit_cut(&e, TUI_LINE_END, true), TL_OK);
    tui_edit_move(&e, TUI_TEXT_START);
    assert_int_equal(tui_edit_yank(&e), TL_OK);
    assert_string_equal(e.text.data, "w\xc3\xb6rldhello big ");
    assert_int_equal(tui_edit_cut(&e, TUI_SIGN_LEFT, false), TL_OK);
    assert_int_equal(tui_edit_cut(&e, TUI_WORD_LEFT, false), TL_OK);
    assert_string_equal(e.text.data, "hello big ");
    assert_int_equal(tui_edit_set(&e, "a\r\nb\rc\x1b[0m\xff", 11), TL_OK);
    assert_string_equal(e.text.data, "a\nb\nc[0m\xef\xbf\xbd");
    assert_int_equal(tui_edit_rows(&e, 40), 3);
    assert_int_equal(tui_edit_set(&e, "0123456789", 10), TL_OK);
    assert_int_equal(tui_edit_rows(&e, 7), 3); /* 5 a row, and one for the cursor behind the last */
    tui_edit_free(&e);
}

static void test_edit_history(void **state) {
    (void)state;
    tui_edit e = {0};
    static const char file[] = "first\nsecond\\nline\nwith \\\\ sign\n\n";
    assert_int_equal(tui_history_read(&e, file, sizeof file - 1), TL_OK);
    assert_int_equal(e.n_history, 3);
    type(&e, "draft");
    assert_int_equal(tui_edit_up(&e, 40), TL_OK);
    assert_string_equal(e.text.data, "with \\ sign");
    assert_int_equal(tui_edit_older(&e), TL_OK);
    assert_string_equal(e.text.data, "second\nline");
    assert_int_equal(tui_edit_up(&e, 40), TL_OK); /* inside a text of two lines: its first */
    assert_string_equal(e.text.data, "second\nline");
    assert_int_equal(tui_edit_up(&e, 40), TL_OK);
    assert_string_equal(e.text.data, "first");
    assert_int_equal(tui_edit_up(&e, 40), TL_OK); /* nothing older */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tui_edit_newer(&e), TL_OK);
    }
    assert_string_equal(e.text.data, "draft");
    assert_int_equal(tui_edit_commit(&e), TL_OK);
    assert_int_equal(e.text.len, 0);
    tl_bytes line = {0};
    assert_int_equal(tui_history_line("a\nb\\", &line), TL_OK);
    assert_string_equal(line.data, "a\\nb\\\\\n");
    tl_bytes_free(&line);
    for (int i = 0; i < TUI_HISTORY_MAX + 10; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(tui_edit_remember(&e, text), TL_OK);
    }
    assert_int_equal(e.n_history, TUI_HISTORY_MAX);
    assert_string_equal(e.history[0], "10");
    tui_edit_free(&e);
}

/* Goal: random keys in random widths: the cursor stays between signs, the drawn cursor inside. */
static void test_edit_random(void **state) {
    (void)state;
    struct tl_rng rng = {8};
    tui_edit e = {0};
    tui_grid g = {0};
    for (int i = 0; i < 30000; i++) {
        const int32_t cols = 1 + (int32_t)rng_below(&rng, 30),
                      rows = 1 + (int32_t)rng_below(&rng, 4);
        const uint64_t what = rng_below(&rng, 8);
        if (what < 3) {
            type(&e, pieces[rng_below(&rng, N_PIECES)]);
        } else if (what < 5) {
            tui_edit_move(&e, (tui_motion)rng_below(&rng, TUI_TEXT_END + 1));
        } else if (what == 5) {
            assert_int_equal(tui_edit_cut(&e, (tui_motion)rng_below(&rng, 4), true), TL_OK);
        } else {
            assert_int_equal(what == 6 ? tui_edit_up(&e, cols) : tui_edit_down(&e, cols), TL_OK);
        }
        assert_true(e.cursor <= e.text.len);
        assert_true(e.cursor == e.text.len ||
                    ((unsigned char)e.text.data[e.cursor] & 0xc0) != 0x80);
        assert_int_equal(tui_grid_resize(&g, rows, cols), TL_OK);
        tui_edit_draw(&g, tui_grid_rect(&g), &e, ">");
        assert_true(tui_rect_has(tui_grid_rect(&g), g.cursor_row, g.cursor_col));
        if (e.text.len > 200) {
            assert_int_equal(tui_edit_set(&e, "", 0), TL_OK);
        }
    }
    tui_grid_free(&g);
    tui_edit_free(&e);
}

/* ---- themes ---- */

static void test_theme(void **state) {
    (void)state;
    struct kept_log kept = {0};
    const tl_log log = keep_log(&kept);
    struct tui_theme theme;
    static const char good[] =
        "# mine\ncode = #ff8000 on #000000 bold\n  user=default underline\r\n";
    assert_int_equal(tui_theme_read(good, sizeof good - 1, "t", &theme, &log), TL_OK);
    assert_int_equal(theme.looks[TUI_CODE].fg, 0xff8000);
    assert_int_equal(theme.looks[TUI_CODE].bg, 0);
    assert_int_equal(theme.looks[TUI_CODE].attrs, TUI_BOLD);
    assert_int_equal(theme.looks[TUI_USER].fg, -1);
    static const char *const bad[] = {"code\n",        "noise = #112233",  "code = red",
                                      "code = #12345", "code = #11223344", "code = #11zz33"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(tui_theme_read(bad[i], strlen(bad[i]), "t", &theme, &log), TL_ERR_FORMAT);
        assert_non_null(strstr(kept.sentence, "t: line 1"));
    }
    for (tui_role role = 0; role < TUI_ROLE_COUNT; role++) {
        assert_non_null(tui_role_name(role));
    }
    assert_int_equal(tui_nearest_256(0xff0000), 196);
    assert_int_equal(tui_nearest_256(0x808080), 244);
    assert_int_equal(tui_nearest_16(0xffffff), 15);
    assert_null(tui_theme_find("pink"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_width_table),
        cmocka_unit_test(test_width_like_libc),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_put_stays_inside),
        cmocka_unit_test(test_put_shows),
        cmocka_unit_test(test_layout_every_size),
        cmocka_unit_test(test_layout_dash),
        cmocka_unit_test(test_layout_shapes),
        cmocka_unit_test(test_wrap_laws),
        cmocka_unit_test(test_markdown),
        cmocka_unit_test(test_plots_stay_inside),
        cmocka_unit_test(test_plots_show),
        cmocka_unit_test(test_edit),
        cmocka_unit_test(test_edit_history),
        cmocka_unit_test(test_edit_random),
        cmocka_unit_test(test_theme),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
