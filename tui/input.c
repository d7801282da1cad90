/* What terminals send: ECMA-48 control sequences with xterm's keys and modifiers, rxvt's and
 * Linux's own ways, the mouse by SGR and the old way, keys by their codes ("CSI u",
 * modifyOtherKeys). The invariant: each step takes one byte at least, or waits. */
#include "input.h"

#include "grid.h"
#include "width.h"

#include <string.h>

enum { ESC = 0x1b, PARAMS = 4, STRING_MAX = 1024, PARAM_MAX = 65535 };
enum { MOD_SHIFT = 1, MOD_ALT = 2, MOD_CTRL = 4 };

/* So many bytes are the key; 0: none of these keys, or, where it waits, more bytes are needed. */
struct step {
    size_t n;
    bool waits;
    struct tui_key key;
};

static const struct step none = {0}, more = {.waits = true};

static struct step step_of(size_t n, struct tui_key key) {
    return (struct step){.n = n, .key = key};
}

static struct step other(size_t n) { return step_of(n, (struct tui_key){.kind = TUI_KEY_OTHER}); }

static const struct tui_key escape_key = {.kind = TUI_KEY_ESCAPE, .ch = ESC};

static struct tui_key char_key(uint32_t ch) {
    const tui_key_kind kind = ch == '\r'                 ? TUI_KEY_ENTER
                              : ch == '\t'               ? TUI_KEY_TAB
                              : ch == 0x7f || ch == '\b' ? TUI_KEY_BACKSPACE
                              : ch == ESC                ? TUI_KEY_ESCAPE
                                                         : TUI_KEY_CHAR;
    return (struct tui_key){.kind = kind, .ch = ch};
}

/* ---- control sequences ---- */

struct sequence {
    uint32_t params[PARAMS]; /* 0 where there is none */
    size_t n_params;
    unsigned char mark, final; /* mark: '<' or '?' before the parameters, else 0 */
    size_t n;                  /* bytes of all of it */
};

/* Reads what follows ESC [; false where its end is not there yet. A byte that cannot be in a
 * sequence ends it, and is not part of it: final 0. */
static bool read_sequence(const unsigned char *b, size_t n, struct sequence *s) {
    *s = (struct sequence){.n_params = 1, .n = 2};
    for (; s->n < n; s->n++) {
        const unsigned char c = b[s->n];
        uint32_t *const param = &s->params[s->n_params - 1];
        if (c >= '0' && c <= '9') {
            *param = *param < PARAM_MAX / 10 ? *param * 10 + (c - '0') : PARAM_MAX;
        } else if (c == ';' && s->n_params < PARAMS) {
            s->n_params++;
        } else if (c >= 0x3c && c < 0x40 && s->n == 2) {
            s->mark = c;
        } else if (c < 0x20 || c >= 0x7f) {
            return true;
        } else if (c >= 0x40 || c == '$') { /* rxvt ends Shift's so */
            s->final = c;
            s->n++;
            return true;
        }
    }
    return false;
}

static tui_key_kind kind_of_letter(unsigned char letter) {
    switch (letter) {
    case 'A':
    case 'a':
        return TUI_KEY_UP;
    case 'B':
    case 'b':
        return TUI_KEY_DOWN;
    case 'C':
    case 'c':
        return TUI_KEY_RIGHT;
    case 'D':
    case 'd':
        return TUI_KEY_LEFT;
    case 'H':
        return TUI_KEY_HOME;
    case 'F':
        return TUI_KEY_END;
    case 'P':
    case 'Q':
    case 'R':
    case 'S':
        return TUI_KEY_FUNCTION;
    default:
        return TUI_KEY_OTHER;
    }
}

/* Keys of the form ESC [ number ~. */
static struct tui_key key_of_number(uint32_t number) {
    static const tui_key_kind kinds[] = {
        [1] = TUI_KEY_HOME,    [2] = TUI_KEY_OTHER,     [3] = TUI_KEY_DELETE, [4] = TUI_KEY_END,
        [5] = TUI_KEY_PAGE_UP, [6] = TUI_KEY_PAGE_DOWN, [7] = TUI_KEY_HOME,   [8] = TUI_KEY_END};
    static const unsigned char functions[] = {
        [11] = 1, [12] = 2, [13] = 3, [14] = 4,  [15] = 5,  [17] = 6,
        [18] = 7, [19] = 8, [20] = 9, [21] = 10, [23] = 11, [24] = 12};
    struct tui_key key = {.kind = TUI_KEY_OTHER};
    if (number >= 1 && number < sizeof kinds / sizeof kinds[0]) {
        key.kind = kinds[number];
    } else if (number < sizeof functions && functions[number] != 0) {
        key = (struct tui_key){.kind = TUI_KEY_FUNCTION, .ch = functions[number]};
    } else if (number == 200 || number == 201) {
        key.kind = number == 200 ? TUI_KEY_PASTE_BEGIN : TUI_KEY_PASTE_END;
    }
    return key;
}

static void add_modifiers(struct tui_key *key, uint32_t mods) {
    key->alt = key->kind != TUI_KEY_OTHER && (mods & MOD_ALT) != 0;
    key->ctrl = key->kind != TUI_KEY_OTHER && (mods & MOD_CTRL) != 0;
}

/* A key by its code point: terminals that tell Shift+Enter from Enter. */
static struct tui_key key_of_code(uint32_t code, uint32_t mods) {
    struct tui_key key = char_key(code);
    const uint32_t letter = code | 0x20;
    if (key.kind == TUI_KEY_CHAR && (mods & MOD_CTRL) != 0 && letter >= 'a' && letter <= 'z') {
        key = char_key(letter - 'a' + 1);
    }
    if (key.kind == TUI_KEY_ENTER && mods != 0) {
        key.alt = true; /* a new line */
    } else if (key.kind == TUI_KEY_CHAR && code >= 0xe000 && code < 0xf900) {
        key.kind = TUI_KEY_OTHER; /* kitty's own keys */
    } else {
        key.alt = (mods & MOD_ALT) != 0;
    }
    return key;
}

/* Buttons and places as xterm numbers them; places count from 1. */
static struct tui_key key_of_mouse(uint32_t button, uint32_t col, uint32_t row) {
    const bool placed = col > 0 && row > 0 && col <= TUI_SIDE_MAX && row <= TUI_SIDE_MAX;
    struct tui_key key = {.kind = !placed        ? TUI_KEY_OTHER
                                  : button == 0  ? TUI_KEY_CLICK
                                  : button == 64 ? TUI_KEY_WHEEL_UP
                                  : button == 65 ? TUI_KEY_WHEEL_DOWN
                                                 : TUI_KEY_OTHER};
    key.row = placed ? (int32_t)row - 1 : 0;
    key.col = placed ? (int32_t)col - 1 : 0;
    return key;
}

static struct tui_key key_of_sequence(const struct sequence *s) {
    struct tui_key key = {.kind = TUI_KEY_OTHER};
    const uint32_t mods = s->params[1] > 0 ? s->params[1] - 1 : 0;
    if (s->mark == '<') {
        return s->final == 'M' ? key_of_mouse(s->params[0], s->params[1], s->params[2]) : key;
    }
    if (s->mark != 0 || s->final == 0) {
        return key;
    }
    if (s->final == '~' && s->params[0] == 27) {
        return key_of_code(s->params[2], mods);
    }
    if (s->final == 'u') {
        return key_of_code(s->params[0], mods);
    }
    if (s->final == '~' || s->final == '^' || s->final == '@' || s->final == '$') {
        key = key_of_number(s->params[0]);
        add_modifiers(&key, s->final == '^' || s->final == '@' ? MOD_CTRL : mods);
        return key;
    }
    key.kind = kind_of_letter(s->final);
    if (key.kind == TUI_KEY_FUNCTION && s->params[0] > 1) {
        key.kind = TUI_KEY_OTHER; /* where the cursor is, and the like */
    }
    key.ch = key.kind == TUI_KEY_FUNCTION ? s->final - 'P' + 1u : 0;
    add_modifiers(&key, mods);
    return key;
}

static struct step control_sequence(const unsigned char *b, size_t n) {
    struct sequence s;
    if (n >= 3 && b[2] == '[') { /* Linux: F1 to F5 */
        const uint32_t f = n >= 4 ? (uint32_t)b[3] - 'A' + 1 : 0;
        return n < 4              ? more
               : f >= 1 && f <= 5 ? step_of(4, (struct tui_key){.kind = TUI_KEY_FUNCTION, .ch = f})
                                  : other(3);
    }
    if (!read_sequence(b, n, &s)) {
        return more;
    }
    if (s.final == 'M' && s.n == 3) { /* the old way: three bytes behind it, each from 32 on */
        return n < 6 ? more
                     : step_of(6, key_of_mouse((uint32_t)b[3] - 32, (uint32_t)b[4] - 32,
                                               (uint32_t)b[5] - 32));
    }
    return step_of(s.n, key_of_sequence(&s));
}

/* ESC O and a letter: keys of the application mode, and the number pad's signs. */
static struct step application_key(const unsigned char *b, size_t n) {
    if (n < 3) {
        return more;
    }
    struct tui_key key = {.kind = kind_of_letter(b[2])};
    if (b[2] == 'M') {
        key.kind = TUI_KEY_ENTER;
    } else if (b[2] >= 'j' && b[2] <= 'y') {
        key = char_key(b[2] - 0x40u);
    } else if (key.kind == TUI_KEY_FUNCTION) {
        key.ch = b[2] - 'P' + 1u;
    } else if (key.kind == TUI_KEY_OTHER) {
        return none; /* Alt+O, and another key */
    }
    key.ctrl = b[2] >= 'a' && b[2] <= 'd'; /* rxvt */
    return step_of(3, key);
}

/* What terminals answer, and nobody types: ESC ] ... up to BEL or ESC \. */
static struct step string_reply(const unsigned char *b, size_t n) {
    for (size_t i = 2; i < n && i < STRING_MAX; i++) {
        if (b[i] == 0x07) {
            return other(i + 1);
        }
        if (b[i] == ESC) {
            return i + 1 == n ? more : other(b[i + 1] == '\\' ? i + 2 : i);
        }
    }
    return n < STRING_MAX ? more : none;
}

/* ---- signs ---- */

/* How many bytes the sign has that begins so, as far as its first byte knows. */
static size_t sign_length(unsigned char first) {
    return first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
}

static struct step sign(const unsigned char *b, size_t n, bool final) {
    size_t len = 1, here = 1;
    const size_t whole = b[0] < 0xf5 ? sign_length(b[0]) : 1;
    while (here < n && here < whole && (b[here] & 0xc0) == 0x80) {
        here++;
    }
    if (here == n && here < whole && !final) {
        return more;
    }
    const uint32_t ch = tui_utf8_next((const char *)b, n, &len);
    return step_of(len, char_key(ch));
}

/* ---- keys ---- */

/* The longest name that the bytes begin with; more where they may yet become one. */
static struct step named(const tui_input *in, bool final) {
    struct step best = none;
    for (size_t i = 0; i < in->n_names; i++) {
        const struct tui_key_name *const name = &in->names[i];
        const size_t len = strlen(name->bytes), here = in->n < len ? in->n : len;
        if (memcmp(in->bytes, name->bytes, here) != 0) {
            continue;
        }
        if (here < len && !final) {
            return more;
        }
        if (here == len && len > best.n) {
            best = step_of(len, (struct tui_key){.kind = name->kind, .ch = name->ch});
        }
    }
    return best;
}

/* Behind an escape character: Alt's, but for keys that nobody types with Alt, which are keys of
 * their own. */
static struct step with_alt(struct step step) {
    const struct tui_key *const k = &step.key;
    const bool alone = k->kind == TUI_KEY_FUNCTION || k->kind == TUI_KEY_ESCAPE ||
                       k->kind == TUI_KEY_CLICK || k->kind == TUI_KEY_PASTE_BEGIN ||
                       k->kind == TUI_KEY_PASTE_END || k->kind == TUI_KEY_OTHER ||
                       (k->kind == TUI_KEY_CHAR && k->ch < 0x20);
    if (step.n == 0) {
        return step;
    }
    if (alone) {
        return step_of(1, escape_key);
    }
    step.n++;
    step.key.alt = true;
    return step;
}

/* What begins with an escape character and another byte. */
static struct step escaped(const unsigned char *b, size_t n, bool final) {
    const bool reply = b[1] == ']' || b[1] == 'P', control = b[1] == '[';
    const struct step sequence = control       ? control_sequence(b, n)
                                 : reply       ? string_reply(b, n)
                                 : b[1] == 'O' ? application_key(b, n)
                                               : none;
    if (sequence.n > 0 || (sequence.waits && !final)) {
        return sequence;
    }
    if (sequence.waits && n > 2) { /* the beginning of one whose end never came is no text */
        return other(n);
    }
    return with_alt(sign(b + 1, n - 1, final));
}

/* Two escape characters: rxvt sends Alt and an arrow so; else the first is a key of its own. */
static struct step escaped_twice(const unsigned char *b, size_t n, bool final) {
    const struct step second = n > 2 ? escaped(b + 1, n - 1, final) : final ? none : more;
    return second.waits ? more : second.n > 0 ? with_alt(second) : step_of(1, escape_key);
}

static struct step take(const tui_input *in, bool final) {
    const unsigned char *const b = in->bytes;
    const struct step step = named(in, final);
    if (step.n > 0 || step.waits) {
        return step;
    }
    if (b[0] != ESC) {
        return sign(b, in->n, final);
    }
    if (in->n == 1) {
        return final ? step_of(1, escape_key) : more;
    }
    return b[1] == ESC ? escaped_twice(b, in->n, final) : escaped(b, in->n, final);
}

tui_input_need tui_input_next(tui_input *in, bool final, struct tui_key *out) {
    if (in->n == 0) {
        return TUI_INPUT_NOTHING;
    }
    const struct step step = take(in, final || in->n == TUI_INPUT_CAP);
    if (step.n == 0) {
        return in->bytes[in->n - 1] == ESC ? TUI_INPUT_SOON : TUI_INPUT_REST;
    }
    *out = step.key;
    in->n -= step.n;
    memmove(in->bytes, in->bytes + step.n, in->n);
    return TUI_INPUT_KEY;
}
