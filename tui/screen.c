/* ncurses gives the terminal's modes, its description, and keys; the cells are written here, since
 * ncurses knows 24-bit colours only where the terminal's description has them (xterm's has not) and
 * trusts libc's widths. The invariant: `shown` is what the terminal shows, or is not valid, and
 * each run of changed cells is addressed anew, so that a sign whose width the terminal sees
 * otherwise shifts nothing else. Handlers of signals set flags; those of crashes put the terminal
 * back with write and tcsetattr alone. */
#include "screen.h"

#include "width.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <curses.h>
#include <term.h>

enum {
    K_PASTE_BEGIN = 0x1000, /* ncurses numbers a description's own keys from KEY_MAX on */
    K_PASTE_END,
    K_CTRL_LEFT,
    K_CTRL_RIGHT,
    K_CTRL_UP,
    K_CTRL_DOWN,
    K_CTRL_HOME,
    K_CTRL_END,
    K_PAD = 0x1100, /* of the number pad, and its sign */
    ESCAPE_MS = 25,
    RESTORE_CAP = 256,
    CRASH_STACK = 65536,
};

struct tui_screen {
    struct tui_theme theme;
    tui_depth depth;
    SCREEN *curses;
    WINDOW *keys; /* a pad: reading from it never draws */
    tui_grid shown;
    bool valid;
    int32_t rows, cols;
    tl_bytes out; /* owned: the bytes of a frame */
    const char *fg, *bg, *address, *reset, *bold, *italic, *underline, *reverse; /* terminfo's */
    int32_t n_colors;
    bool corner; /* writing the last cell does not scroll */
    off_t errors_read;
    struct tui_key pending; /* read together with the one before it */
    bool has_pending, mouse;
};

/* For signal handlers: there is one terminal a process. */
static volatile sig_atomic_t end_wanted, stop_wanted, resized, continued, is_open;
static struct {
    struct termios modes;
    char text[RESTORE_CAP];
    size_t n;
    int errors, true_stderr; /* the file that stands in for standard error; -1: none */
} restore = {.errors = -1, .true_stderr = -1};

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

/* What would end the process without a word; after these it leaves in order. */
static const int end_signals[] = {SIGTERM, SIGHUP,  SIGINT,  SIGQUIT,
                                  SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU};
enum { N_ENDS = sizeof end_signals / sizeof end_signals[0] };

static void on_end(int signal_number) { end_wanted = signal_number; }

static void on_stop(int signal_number) {
    (void)signal_number;
    stop_wanted = 1;
}

static void on_resize(int signal_number) {
    (void)signal_number;
    resized = 1;
}

static void on_continue(int signal_number) {
    (void)signal_number;
    continued = 1;
}

static void write_all(int fd, const char *data, size_t n) {
    while (n > 0) {
        const ssize_t written = write(fd, data, n);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            return;
        }
        data += written > 0 ? written : 0;
        n -= written > 0 ? (size_t)written : 0;
    }
}

/* What was kept from the screen is written where it was meant to go. */
static void release_errors(void) {
    char block[512];
    if (restore.errors < 0) {
        return;
    }
    lseek(restore.errors, 0, SEEK_SET);
    for (ssize_t n; (n = read(restore.errors, block, sizeof block)) > 0;) {
        write_all(restore.true_stderr, block, (size_t)n);
    }
}

static void on_crash(int signal_number) {
    if (is_open) {
        is_open = 0;
        write_all(STDOUT_FILENO, restore.text, restore.n);
        tcsetattr(STDIN_FILENO, TCSANOW, &restore.modes);
        release_errors();
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static bool install_handlers(void) {
    struct sigaction end = {.sa_handler = on_end}, stop = {.sa_handler = on_stop},
                     resize = {.sa_handler = on_resize}, go_on = {.sa_handler = on_continue};
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_RESETHAND};
    static char crash_stack[CRASH_STACK]; /* a stack that overflowed is no place for a handler */
    const stack_t stack = {.ss_sp = crash_stack, .ss_size = sizeof crash_stack};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof crash_signals / sizeof crash_signals[0]; i++) {
        sigaction(crash_signals[i], &crash, NULL);
    }
    for (size_t i = 0; i < N_ENDS; i++) {
        sigaction(end_signals[i], &end, NULL);
    }
    return sigaction(SIGTSTP, &stop, NULL) == 0 &&
           sigaction(SIGWINCH, &resize, NULL) == 0 && sigaction(SIGCONT, &go_on, NULL) == 0;
}

static void remove_handlers(void) {
    for (size_t i = 0; i < N_ENDS; i++) {
        signal(end_signals[i], SIG_DFL);
    }
    signal(SIGTSTP, SIG_DFL);
    signal(SIGWINCH, SIG_DFL);
    signal(SIGCONT, SIG_DFL);
    for (size_t i = 0; i < sizeof crash_signals / sizeof crash_signals[0]; i++) {
        signal(crash_signals[i], SIG_DFL);
    }
}

/* A terminfo string, "" where there is none. */
static const char *string_of(const char *name) {
    const char *const text = tigetstr(name);
    return text != NULL && text != (const char *)-1 ? text : "";
}

/* Adds a terminfo string without the pauses ("$<5>") that hardware once needed. */
static void add_padded(tl_bytes *out, const char *text) {
    while (*text != '\0') {
        const char *const pause = strstr(text, "$<");
        const size_t n = pause != NULL ? (size_t)(pause - text) : strlen(text);
        if (tl_bytes_add(out, text, n)) {
            return;
        }
        text += n;
        const char *const end = pause != NULL ? strchr(pause, '>') : NULL;
        text = end != NULL ? end + 1 : text + strlen(text);
    }
}

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

static void plan_restore(void) {
    tl_bytes text = {0};
    static const char *const names[] = {"sgr0", "cnorm", "rmkx", "rmcup"};
    int failed =
        tl_bytes_add_str(&text, "\033[?1000l\033[?1006l") || tl_bytes_add_str(&text, paste_off);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        add_padded(&text, string_of(names[i]));
    }
    restore.n = failed ? 0 : tl_min_u64(text.len, sizeof restore.text);
    if (restore.n > 0) {
        memcpy(restore.text, text.data, restore.n);
    }
    tl_bytes_free(&text);
}

/* ---- opening ---- */

static void learn_terminal(tui_screen *s, const struct tui_screen_params *p) {
    s->n_colors = tigetnum("colors");
    const bool direct = tigetflag("RGB") > 0;
    s->depth = p->no_color || s->n_colors < 8 ? TUI_DEPTH_NONE
               : p->true_color || direct      ? TUI_DEPTH_TRUE
               : s->n_colors >= 256           ? TUI_DEPTH_256
                                              : TUI_DEPTH_16;
    s->theme = s->depth == TUI_DEPTH_NONE ? *tui_theme_find("mono") : *p->theme;
    s->address = string_of("cup");
    s->fg = string_of("setaf");
    s->bg = string_of("setab");
    s->reset = string_of("sgr0");
    s->bold = string_of("bold");
    s->italic = string_of("sitm");
    s->underline = string_of("smul");
    s->reverse = string_of("rev");
    s->corner = tigetflag("am") <= 0 || tigetflag("xenl") > 0;
    plan_restore();
}

static void hold_errors(void) {
    char path[] = "/tmp/tailor-stderr-XXXXXX";
    restore.errors = mkstemp(path);
    if (restore.errors < 0) {
        return;
    }
    unlink(path);
    fcntl(restore.errors, F_SETFL, O_APPEND);
    restore.true_stderr = dup(STDERR_FILENO);
    dup2(restore.errors, STDERR_FILENO);
}

/* A description's word goes first, but where it only has a name of its own (kEND5 for Ctrl+End), or
 * none. */
static void add_key(const char *bytes, int code) {
    const int known = key_defined(bytes);
    if (known <= 0 || known > KEY_MAX) {
        define_key(bytes, code);
    }
}

/* What nearly every terminal sends, whatever its description says. */
static void add_common_keys(void) {
    static const struct {
        const char *bytes;
        int code;
    } keys[] = {
        {"\033[A", KEY_UP},         {"\033[B", KEY_DOWN},        {"\033[C", KEY_RIGHT},
        {"\033[D", KEY_LEFT},       {"\033OA", KEY_UP},          {"\033OB", KEY_DOWN},
        {"\033OC", KEY_RIGHT},      {"\033OD", KEY_LEFT},        {"\033[H", KEY_HOME},
        {"\033[F", KEY_END},        {"\033OH", KEY_HOME},        {"\033OF", KEY_END},
        {"\033[1~", KEY_HOME},      {"\033[4~", KEY_END},        {"\033[7~", KEY_HOME},
        {"\033[8~", KEY_END},       {"\033[3~", KEY_DC},         {"\033[5~", KEY_PPAGE},
        {"\033[6~", KEY_NPAGE},     {"\033OP", KEY_F(1)},        {"\033OQ", KEY_F(2)},
        {"\033OR", KEY_F(3)},       {"\033OS", KEY_F(4)},        {"\033[11~", KEY_F(1)},
        {"\033[12~", KEY_F(2)},     {"\033[13~", KEY_F(3)},      {"\033[14~", KEY_F(4)},
        {"\033[15~", KEY_F(5)},     {"\033[17~", KEY_F(6)},      {"\033[18~", KEY_F(7)},
        {"\033[19~", KEY_F(8)},     {"\033[20~", KEY_F(9)},      {"\033[21~", KEY_F(10)},
        {"\033[1;5D", K_CTRL_LEFT}, {"\033[1;5C", K_CTRL_RIGHT}, {"\033[1;5A", K_CTRL_UP},
        {"\033[1;5B", K_CTRL_DOWN}, {"\033[1;5H", K_CTRL_HOME},  {"\033[1;5F", K_CTRL_END},
        {"\033[1;3D", K_CTRL_LEFT}, {"\033[1;3C", K_CTRL_RIGHT}, {"\033[1;3A", K_CTRL_UP},
        {"\033[1;3B", K_CTRL_DOWN}, {"\033Od", K_CTRL_LEFT},     {"\033Oc", K_CTRL_RIGHT},
        {"\033Oa", K_CTRL_UP},      {"\033Ob", K_CTRL_DOWN},     {"\033[7^", K_CTRL_HOME},
        {"\033[8^", K_CTRL_END},    {"\033[5;5~", KEY_PPAGE},    {"\033[6;5~", KEY_NPAGE},
        {"\033[5^", KEY_PPAGE},     {"\033[6^", KEY_NPAGE},      {"\033OM", KEY_ENTER},
        {"\033[200~", K_PASTE_BEGIN}, {"\033[201~", K_PASTE_END},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        add_key(keys[i].bytes, keys[i].code);
    }
    for (char sign = '*'; sign <= '9'; sign++) { /* the number pad, where it sends itself apart */
        const char bytes[] = {'\033', 'O', (char)(sign + 0x40), '\0'};
        add_key(bytes, K_PAD + sign);
    }
}

static void start_keys(tui_screen *s) {
    raw();
    noecho();
    nonl(); /* Enter and Ctrl+J stay two keys */
    set_escdelay(ESCAPE_MS);
    keypad(s->keys, TRUE);
    nodelay(s->keys, TRUE);
    add_common_keys();
    if (s->mouse) {
        mousemask(BUTTON1_PRESSED | BUTTON4_PRESSED | BUTTON5_PRESSED, NULL);
        mouseinterval(0);
    }
}

tl_err tui_screen_open(tui_screen **out, const struct tui_screen_params *params,
                       const tl_log *log) {
    int status = 0;
    if (setupterm(NULL, STDOUT_FILENO, &status) != OK || *string_of("cup") == '\0') {
        return tl_fail(log, TL_ERR_UNSUPPORTED, "the terminal cannot show a full screen");
    }
    tui_screen *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    tcgetattr(STDIN_FILENO, &restore.modes);
    s->curses = newterm(NULL, stdout, stdin);
    s->keys = s->curses != NULL ? newpad(1, 1) : NULL;
    s->mouse = params->mouse;
    if (s->keys == NULL) {
        tui_screen_close(&s);
        return tl_fail(log, TL_ERR_UNSUPPORTED, "the terminal cannot show a full screen");
    }
    learn_terminal(s, params);
    end_wanted = stop_wanted = 0;
    is_open = 1;
    install_handlers();
    start_keys(s);
    refresh();
    tui_screen_send(s, paste_on, sizeof paste_on - 1);
    hold_errors();
    *out = s;
    return TL_OK;
}

void tui_screen_close(tui_screen **screen) {
    tui_screen *const s = *screen;
    if (s == NULL) {
        return;
    }
    if (s->keys != NULL) {
        tui_screen_leave(s);
        is_open = 0;
        remove_handlers();
        delwin(s->keys);
    }
    if (s->curses != NULL) {
        delscreen(s->curses);
    }
    if (restore.errors >= 0) {
        dup2(restore.true_stderr, STDERR_FILENO);
        release_errors();
        close(restore.errors);
        close(restore.true_stderr);
        restore.errors = restore.true_stderr = -1;
    }
    tui_grid_free(&s->shown);
    tl_bytes_free(&s->out);
    free(s);
    *screen = NULL;
}

void tui_screen_leave(tui_screen *s) {
    tui_screen_send(s, paste_off, sizeof paste_off - 1);
    curs_set(1);
    endwin();
    fflush(stdout);
    if (restore.errors >= 0) {
        dup2(restore.true_stderr, STDERR_FILENO);
    }
}

void tui_screen_enter(tui_screen *s) {
    if (restore.errors >= 0) {
        dup2(restore.errors, STDERR_FILENO);
    }
    refresh();
    fflush(stdout);
    tui_screen_send(s, paste_on, sizeof paste_on - 1);
    tui_screen_redraw(s);
}

void tui_screen_stop(tui_screen *s) {
    stop_wanted = 0;
    tui_screen_leave(s);
    signal(SIGTSTP, SIG_DFL);
    kill(0, SIGTSTP); /* the whole job: a pager or make beside us stops too */
    signal(SIGTSTP, on_stop);
    continued = 0;
    tui_screen_enter(s);
}

int tui_screen_ended(const tui_screen *s) {
    (void)s;
    return end_wanted;
}

bool tui_screen_wants_stop(const tui_screen *s) {
    (void)s;
    return stop_wanted != 0;
}

tui_depth tui_screen_depth(const tui_screen *s) { return s->depth; }

void tui_screen_send(tui_screen *s, const char *data, size_t n) {
    (void)s;
    write_all(STDOUT_FILENO, data, n);
}

tl_err tui_screen_errors(tui_screen *s, tl_bytes *out) {
    char block[512];
    ssize_t n = 0;
    while (restore.errors >= 0 &&
           (n = pread(restore.errors, block, sizeof block, s->errors_read)) > 0) {
        s->errors_read += n;
        TL_TRY(tl_bytes_add(out, block, (size_t)n));
    }
    return TL_OK;
}

/* ---- drawing ---- */

bool tui_screen_size(tui_screen *s, int32_t *rows, int32_t *cols) {
    struct winsize size = {0};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
    *rows = known ? size.ws_row : LINES;
    *cols = known ? size.ws_col : COLS;
    /* There and back again is no other size, but what was on the screen is lost. */
    const bool changed = resized != 0 || *rows != s->rows || *cols != s->cols;
    resized = 0;
    s->rows = *rows;
    s->cols = *cols;
    s->valid = s->valid && !changed;
    return changed;
}

void tui_screen_redraw(tui_screen *s) { s->valid = false; }

static void add(tui_screen *s, const char *text, size_t n) {
    if (tl_bytes_add(&s->out, text, n)) {
        s->valid = false; /* the next frame writes everything again */
    }
}

static void add_color(tui_screen *s, int32_t rgb, bool background) {
    char text[32];
    if (rgb < 0 || s->depth == TUI_DEPTH_NONE) {
        return;
    }
    if (s->depth == TUI_DEPTH_TRUE) {
        const int n = snprintf(text, sizeof text, "\033[%d;2;%d;%d;%dm", background ? 48 : 38,
                               rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255);
        add(s, text, (size_t)n);
        return;
    }
    uint32_t color = s->depth == TUI_DEPTH_256 ? tui_nearest_256(rgb) : tui_nearest_16(rgb);
    if ((int32_t)color >= s->n_colors) {
        color -= 8; /* eight colours: bright ones are as the others ... */
        if (color == 0 && !background) {
            return; /* ... but grey is not black */
        }
    }
    const char *const how = background ? s->bg : s->fg;
    if (*how != '\0') {
        add_padded(&s->out, tiparm(how, (int)color));
    }
}

static void add_style(tui_screen *s, unsigned style) {
    const unsigned role = style & TUI_ROLE_MASK;
    const struct tui_look *const look = &s->theme.looks[role < TUI_ROLE_COUNT ? role : 0];
    const unsigned attrs = (style & ~(unsigned)TUI_ROLE_MASK) ^ (look->attrs & TUI_REVERSE);
    const unsigned all = attrs | (look->attrs & ~(unsigned)TUI_REVERSE);
    add_padded(&s->out, s->reset);
    add_padded(&s->out, all & TUI_BOLD ? s->bold : "");
    add_padded(&s->out, all & TUI_ITALIC ? s->italic : "");
    add_padded(&s->out, all & TUI_UNDERLINE ? s->underline : "");
    add_padded(&s->out, all & TUI_REVERSE ? s->reverse : "");
    add_color(s, look->fg, false);
    add_color(s, look->bg, true);
}

static bool same_cell(const tui_cell *a, const tui_cell *b) {
    return a->style == b->style && a->width == b->width && memcmp(a->ch, b->ch, sizeof a->ch) == 0;
}

static void add_cell(tui_screen *s, const tui_cell *cell) {
    char text[4 * TUI_CELL_CHARS];
    size_t n = 0;
    for (size_t i = 0; i < TUI_CELL_CHARS && cell->ch[i] != 0; i++) {
        n += tui_utf8_put(cell->ch[i], text + n);
    }
    add(s, n > 0 ? text : " ", n > 0 ? n : 1);
}

static void draw_row(tui_screen *s, const tui_grid *g, int32_t row, int *style) {
    bool at_cell = false; /* the terminal's cursor is known to stand there */
    for (int32_t col = 0; col < g->cols; col++) {
        const tui_cell *const cell = &g->cells[row * g->cols + col];
        const tui_cell *const old = &s->shown.cells[row * g->cols + col];
        const bool last = row + 1 == g->rows && col + 1 == g->cols && !s->corner;
        if (cell->width == 0 || last || (s->valid && same_cell(cell, old))) {
            at_cell = false;
            continue;
        }
        if (!at_cell) {
            add_padded(&s->out, tiparm(s->address, (int)row, (int)col));
        }
        if (*style != cell->style) {
            add_style(s, cell->style);
            *style = cell->style;
        }
        add_cell(s, cell);
        at_cell = cell->width == 1 && cell->ch[1] == 0;
    }
}

void tui_screen_draw(tui_screen *s, const tui_grid *g) {
    if (s->shown.rows != g->rows || s->shown.cols != g->cols || s->shown.cells == NULL) {
        s->valid = false;
        if (tui_grid_resize(&s->shown, g->rows, g->cols)) {
            return;
        }
    }
    s->out.len = 0;
    add_padded(&s->out, string_of("civis"));
    const size_t empty = s->out.len;
    int style = -1;
    const bool valid = s->valid;
    for (int32_t row = 0; row < g->rows; row++) {
        draw_row(s, g, row, &style);
    }
    const bool moved = g->cursor_row != s->shown.cursor_row || g->cursor_col != s->shown.cursor_col;
    if (s->out.len == empty && !moved && valid) {
        return;
    }
    s->valid = true;
    add_padded(&s->out, s->reset);
    if (g->cursor_row >= 0) {
        add_padded(&s->out, tiparm(s->address, (int)g->cursor_row, (int)g->cursor_col));
        add_padded(&s->out, string_of("cnorm"));
    }
    write_all(STDOUT_FILENO, s->out.data, s->out.len);
    memcpy(s->shown.cells, g->cells, (size_t)g->rows * (size_t)g->cols * sizeof *g->cells);
    s->shown.cursor_row = g->cursor_row;
    s->shown.cursor_col = g->cursor_col;
}

/* ---- keys ---- */

/* Goes on after a stop that nobody could see coming (SIGSTOP): the shell has had the terminal since,
 * and where it still has it, reading stops us until it is given back. */
static void go_on(tui_screen *s) {
    enum { TRIES = 100 }; /* nothing stops a process that has no shell any more */
    for (int i = 0; i < TRIES; i++) {
        const pid_t has_it = tcgetpgrp(STDIN_FILENO);
        if (has_it <= 0 || has_it == getpgrp()) {
            break;
        }
        raise(SIGTTIN);
    }
    continued = 0;
    tui_screen_leave(s);
    tui_screen_enter(s);
    resized = 1; /* it may be, and all of it is to be drawn */
}

void tui_screen_wait(tui_screen *s, int fd, int timeout_ms) {
    if (continued) {
        go_on(s);
    }
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    const int n = poll(fds, fd >= 0 ? 2 : 1, timeout_ms);
    if (n > 0 && (fds[0].revents & (POLLHUP | POLLERR)) != 0) {
        end_wanted = SIGHUP; /* the terminal is gone */
    }
    if (n > 0 && fd >= 0 && fds[1].revents != 0) {
        char drained[64];
        while (read(fd, drained, sizeof drained) == (ssize_t)sizeof drained) {
        }
    }
}

static bool mouse_key(struct tui_key *key) {
    MEVENT event;
    if (getmouse(&event) != OK) {
        return false;
    }
    key->kind = event.bstate & BUTTON4_PRESSED   ? TUI_KEY_WHEEL_UP
                : event.bstate & BUTTON5_PRESSED ? TUI_KEY_WHEEL_DOWN
                : event.bstate & BUTTON1_PRESSED ? TUI_KEY_CLICK
                                                 : TUI_KEY_OTHER;
    key->row = event.y;
    key->col = event.x;
    return key->kind != TUI_KEY_OTHER;
}

static void function_key(wint_t code, struct tui_key *key) {
    static const struct {
        wint_t code;
        tui_key_kind kind;
        bool ctrl;
    } table[] = {
        {KEY_UP, TUI_KEY_UP, false},
        {KEY_DOWN, TUI_KEY_DOWN, false},
        {KEY_LEFT, TUI_KEY_LEFT, false},
        {KEY_RIGHT, TUI_KEY_RIGHT, false},
        {K_CTRL_LEFT, TUI_KEY_LEFT, true},
        {K_CTRL_RIGHT, TUI_KEY_RIGHT, true},
        {KEY_HOME, TUI_KEY_HOME, false},
        {KEY_END, TUI_KEY_END, false},
        {K_CTRL_UP, TUI_KEY_UP, true},
        {K_CTRL_DOWN, TUI_KEY_DOWN, true},
        {K_CTRL_HOME, TUI_KEY_HOME, true},
        {K_CTRL_END, TUI_KEY_END, true},
        {KEY_PPAGE, TUI_KEY_PAGE_UP, false},
        {KEY_NPAGE, TUI_KEY_PAGE_DOWN, false},
        {KEY_BACKSPACE, TUI_KEY_BACKSPACE, false},
        {KEY_DC, TUI_KEY_DELETE, false},
        {KEY_ENTER, TUI_KEY_ENTER, false},
        {K_PASTE_BEGIN, TUI_KEY_PASTE_BEGIN, false},
        {K_PASTE_END, TUI_KEY_PASTE_END, false},
    };
    key->kind = TUI_KEY_OTHER;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].code == code) {
            key->kind = table[i].kind;
            key->ctrl = table[i].ctrl;
        }
    }
    if (code >= KEY_F(1) && code <= KEY_F(12)) {
        key->kind = TUI_KEY_FUNCTION;
        key->ch = (uint32_t)(code - KEY_F0);
    }
    if (code >= K_PAD + '*' && code <= K_PAD + '9') {
        key->kind = TUI_KEY_CHAR;
        key->ch = (uint32_t)(code - K_PAD);
    }
}

static void char_key(uint32_t ch, struct tui_key *key) {
    key->ch = ch;
    key->kind = ch == '\r'                 ? TUI_KEY_ENTER
                : ch == '\t'               ? TUI_KEY_TAB
                : ch == 0x7f || ch == '\b' ? TUI_KEY_BACKSPACE
                : ch == 0x1b               ? TUI_KEY_ESCAPE
                                           : TUI_KEY_CHAR;
}

static void decode(int kind, wint_t ch, struct tui_key *key) {
    if (kind != KEY_CODE_YES) {
        char_key((uint32_t)ch, key);
    } else if (ch != KEY_MOUSE) {
        function_key(ch, key);
    } else if (!mouse_key(key)) {
        key->kind = TUI_KEY_OTHER;
    }
}

/* "<button;column;row" as terminals report the mouse (SGR), whatever their description says. */
static void mouse_report(const char *text, bool pressed, struct tui_key *key) {
    char *end = NULL;
    const long button = strtol(text + 1, &end, 10);
    const long col = *end == ';' ? strtol(end + 1, &end, 10) : 0;
    const long row = *end == ';' ? strtol(end + 1, &end, 10) : 0;
    const bool placed = col > 0 && row > 0 && col <= TUI_SIDE_MAX && row <= TUI_SIDE_MAX;
    key->kind = !placed || !pressed ? TUI_KEY_OTHER
                : button == 0       ? TUI_KEY_CLICK
                : button == 64      ? TUI_KEY_WHEEL_UP
                : button == 65      ? TUI_KEY_WHEEL_DOWN
                                    : TUI_KEY_OTHER;
    key->row = (int32_t)row - 1;
    key->col = (int32_t)col - 1;
}

/* The rest of a control sequence that ncurses does not know: it is no text. Alt+[ where nothing
 * follows. */
static void read_sequence(tui_screen *s, struct tui_key *key) {
    char text[32];
    size_t n = 0;
    wint_t ch = 0;
    int kind = OK;
    while ((kind = wget_wch(s->keys, &ch)) == OK && ch >= 0x20 && ch < 0x40) {
        if (n + 1 < sizeof text) {
            text[n++] = (char)ch;
        }
    }
    text[n] = '\0';
    if (kind == ERR && n == 0) {
        return;
    }
    key->kind = TUI_KEY_OTHER;
    if (kind == OK && n > 0 && text[0] == '<') {
        mouse_report(text, ch == 'M', key);
    }
}

/* Keys that nobody types with Alt: behind an escape character they are a second key. */
static bool stands_alone(const struct tui_key *key) {
    return key->kind == TUI_KEY_FUNCTION || key->kind == TUI_KEY_ESCAPE ||
           (key->kind == TUI_KEY_CHAR && key->ch < 0x20);
}

bool tui_screen_key(tui_screen *s, struct tui_key *out) {
    wint_t ch = 0;
    struct tui_key key = {0};
    if (s->has_pending) { /* an escape character may begin a sequence of its own */
        s->has_pending = false;
        key = s->pending;
    } else {
        const int kind = wget_wch(s->keys, &ch);
        if (kind == ERR) {
            return false;
        }
        decode(kind, ch, &key);
    }
    if (key.kind == TUI_KEY_ESCAPE) { /* alone, or Alt and a key, or two keys in a hurry */
        struct tui_key second = {0};
        const int more = wget_wch(s->keys, &ch);
        if (more != ERR) {
            decode(more, ch, &second);
            s->has_pending = stands_alone(&second);
            s->pending = second;
            key = s->has_pending ? key : second;
            key.alt = !s->has_pending;
            if (key.kind == TUI_KEY_CHAR && key.ch == '[') {
                read_sequence(s, &key);
            }
        }
    }
    *out = key;
    return true;
}
