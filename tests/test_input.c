/* Keys from bytes: what terminals send, in whatever pieces, and whatever else may come. */
#include "support.h"

#include "tui/input.h"
#include "tui/width.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 8192 };

static void add(tui_input *in, const char *bytes, size_t n) {
    assert_true(in->n + n <= TUI_INPUT_CAP);
    memcpy(in->bytes + in->n, bytes, n);
    in->n += n;
}

/* All keys that are whole; with `final`, the rest too. */
static size_t take_keys(tui_input *in, bool final, struct tui_key *keys, size_t n) {
    while (n < KEYS_MAX && tui_input_next(in, false, &keys[n]) == TUI_INPUT_KEY) {
        n++;
    }
    while (final && n < KEYS_MAX && tui_input_next(in, true, &keys[n]) == TUI_INPUT_KEY) {
        n++;
    }
    assert_true(n < KEYS_MAX && (!final || in->n == 0));
    return n;
}

/* "^" Ctrl, "!" Alt before a key's name; two keys are parted by a blank. */
static void spell(const struct tui_key *keys, size_t n, char *out, size_t cap) {
    static const char *const names[] = {
        [TUI_KEY_ENTER] = "enter",       [TUI_KEY_TAB] = "tab",
        [TUI_KEY_BACKSPACE] = "back",    [TUI_KEY_DELETE] = "del",
        [TUI_KEY_ESCAPE] = "esc",        [TUI_KEY_UP] = "up",
        [TUI_KEY_DOWN] = "down",         [TUI_KEY_LEFT] = "left",
        [TUI_KEY_RIGHT] = "right",       [TUI_KEY_HOME] = "home",
        [TUI_KEY_END] = "end",           [TUI_KEY_PAGE_UP] = "pgup",
        [TUI_KEY_PAGE_DOWN] = "pgdn",    [TUI_KEY_WHEEL_UP] = "wheel-",
        [TUI_KEY_WHEEL_DOWN] = "wheel+", [TUI_KEY_PASTE_BEGIN] = "paste",
        [TUI_KEY_PASTE_END] = "pasted",  [TUI_KEY_OTHER] = "?"};
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        const struct tui_key *const k = &keys[i];
        char name[32];
        if (k->kind == TUI_KEY_CHAR) {
            snprintf(name, sizeof name, k->ch > 0x20 && k->ch < 0x7f ? "%c" : "%x", k->ch);
        } else if (k->kind == TUI_KEY_FUNCTION) {
            snprintf(name, sizeof name, "F%u", k->ch);
        } else if (k->kind == TUI_KEY_CLICK) {
            snprintf(name, sizeof name, "click%d,%d", k->row, k->col);
        } else {
            snprintf(name, sizeof name, "%s", names[k->kind]);
        }
        at += (size_t)snprintf(out + at, cap - at, "%s%s%s%s", i > 0 ? " " : "", k->ctrl ? "^" : "",
                               k->alt ? "!" : "", name);
        assert_true(at < cap);
    }
}

static struct tui_key keys[KEYS_MAX];

static void expect(tui_input *in, const char *bytes, const char *names) {
    char text[1024];
    for (size_t cut = 0; cut <= strlen(bytes); cut++) { /* in two pieces, wherever they part */
        add(in, bytes, cut);
        size_t n = take_keys(in, false, keys, 0);
        add(in, bytes + cut, strlen(bytes) - cut);
        n = take_keys(in, true, keys, n);
        spell(keys, n, text, sizeof text);
        assert_string_equal(text, names);
    }
}

/* What xterm, VTE, Linux, rxvt, PuTTY, kitty and tmux send. */
static void test_sequences(void **state) {
    (void)state;
    static tui_input in;
    static const char *const pairs[][2] = {
        {"a\r\n\t\x7f\b\x01", "a enter a tab back back 1"},
        {"\033[A\033[B\033[C\033[D\033[H\033[F", "up down right left home end"},
        {"\033OA\033OD\033OH\033OF", "up left home end"},
        {"\033[1~\033[4~\033[7~\033[8~\033[3~\033[5~\033[6~", "home end home end del pgup pgdn"},
        {"\033[2~\033[Z\033[I\033[O", "? ? ? ?"},
        {"\033[1;5H\033[1;5F\033[1;5D\033[1;3C\033[1;2A", "^home ^end ^left !right up"},
        {"\033[7^\033[8^\033Od\033Oc\033[5^", "^home ^end ^left ^right ^pgup"},
        {"\033OP\033OQ\033OR\033OS\033[15~\033[17~\033[21~\033[24~", "F1 F2 F3 F4 F5 F6 F10 F12"},
        {"\033[11~\033[14~\033[[A\033[[E\033[1;2P\033[[G", "F1 F4 F1 F5 F1 ? G"},
        {"\033OM\033Op\033Oy\033Ok\033Oj", "enter 0 9 + *"},
        {"\033b\033<\033\r\033\x7f\033\033[A\033\033", "!b !< !enter !back !up esc esc"},
        {"\033\033OP\033\x03", "esc F1 esc 3"},
        {"\033[200~x\033[201~", "paste x pasted"},
        {"\033[<0;10;5M\033[<0;10;5m\033[<64;1;1M\033[<65;1;1M", "click4,9 ? wheel- wheel+"},
        {"\033[<0;0;5M\033[<0;99999;1M\033[<2;3;3M", "? ? ?"},
        {"\033[M *%\033[M#*%\033[M`!!", "click4,9 ? wheel-"},
        {"\033[13;2u\033[27;5;13~\033[13u\033[99;5u\033[97;3u", "!enter !enter enter 3 !a"},
        {"\033[57400u\033[24;80R\033[?1;2c\033]11;rgb:0/0/0\033\\\033]0;t\ax", "? ? ? ? ? x"},
        {"\033[99;99~\033[;;;;;;;;A\033[9999999999~", "? up ?"},
        {"\033[12\033[A\033[1\x03", "? up ? 3"},
        {"\033[\033[", "? !["},
        {"\033O\033O", "!O !O"},
        {"\033Oz", "!O z"},
        {"\xc3\xa4\xe4\xb8\xad\xf0\x9f\x98\x80", "e4 4e2d 1f600"},
        {"\xc3(\xff\xfe a\x80", "fffd ( fffd fffd 20 a fffd"},
        {"\xe4\xb8\033[A\xe4\xb8", "fffd fffd up fffd fffd"},
        {"\xed\xa0\x80\xf4\x90\x80\x80", "fffd fffd fffd fffd fffd fffd fffd"},
        {"\033\xc3\xa4", "!e4"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        expect(&in, pairs[i][0], pairs[i][1]);
    }
}

static void test_names(void **state) {
    (void)state;
    static tui_input in;
    in.names[in.n_names++] = (struct tui_key_name){"\033Ot", TUI_KEY_FUNCTION, 5};
    in.names[in.n_names++] = (struct tui_key_name){"\033[", TUI_KEY_FUNCTION, 9};
    in.names[in.n_names++] = (struct tui_key_name){"\033[[xy", TUI_KEY_END, 0};
    expect(&in, "\033Ot\033Os", "F5 3"); /* vt100's F5, not the pad's 4 */
    expect(&in, "\033[[xy", "end");      /* the longest */
}

/* What is waited for, and how long. */
static void test_waiting(void **state) {
    (void)state;
    static tui_input in;
    struct tui_key key;
    assert_int_equal(tui_input_next(&in, false, &key), TUI_INPUT_NOTHING);
    add(&in, "\033", 1);
    assert_int_equal(tui_input_next(&in, false, &key), TUI_INPUT_SOON);
    add(&in, "[1;", 3);
    assert_int_equal(tui_input_next(&in, false, &key), TUI_INPUT_REST);
    add(&in, "5C\xe2", 3);
    assert_int_equal(tui_input_next(&in, false, &key), TUI_INPUT_KEY);
    assert_true(key.kind == TUI_KEY_RIGHT && key.ctrl);
    assert_int_equal(tui_input_next(&in, false, &key), TUI_INPUT_REST);
    assert_int_equal(tui_input_next(&in, true, &key), TUI_INPUT_KEY);
    assert_int_equal(key.ch, 0xfffd);
}

/* Goal: random bytes end, in whatever pieces; text without escape characters comes whole, as UTF-8
 * is read elsewhere; and a full buffer never stands still. */
static void test_random(void **state) {
    (void)state;
    static tui_input in;
    static const char likely[] = "\033[O<0;9M~A\x80\xe4\xb8\xad";
    struct tl_rng rng = {7};
    struct tui_key key;
    for (int round = 0; round < 3000; round++) {
        char bytes[64];
        const bool text = round % 2 == 0;
        const size_t n = rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < n; i++) {
            const char some = rng_below(&rng, 2) ? likely[rng_below(&rng, sizeof likely - 1)]
                                                 : (char)rng_below(&rng, 256);
            bytes[i] = text && some == '\033' ? 'x' : some;
        }
        size_t n_keys = 0;
        for (size_t at = 0; at < n;) {
            const size_t piece = 1 + rng_below(&rng, n - at);
            add(&in, bytes + at, piece);
            n_keys = take_keys(&in, false, keys, n_keys);
            at += piece;
        }
        n_keys = take_keys(&in, true, keys, n_keys);
        for (size_t at = 0, i = 0; text && at < n; i++) {
            size_t len = 0;
            const uint32_t ch = tui_utf8_next(bytes + at, n - at, &len);
            assert_true(i < n_keys && keys[i].ch == ch);
            at += len;
        }
    }
    memset(in.bytes, '0', TUI_INPUT_CAP);
    memcpy(in.bytes, "\033[", 2);
    in.n = TUI_INPUT_CAP;
    assert_int_equal(tui_input_next(&in, false, &key), TUI_INPUT_KEY);
    assert_int_equal(in.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
