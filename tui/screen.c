/* ncurses gives the terminal's modes and its description; the cells are written here, since ncurses
 * knows 24-bit colours only where the terminal's description has them (xterm's has not) and trusts
 * libc's widths; keys are read here (input.h), since ncurses loses text behind a byte that is no
 * UTF-8. The invariant: `shown` is what the terminal shows, or is not valid, and each run of
 * changed cells is addressed anew, so that a sign whose width the terminal sees otherwise shifts
 * nothing else. Handlers of signals set flags; those of crashes put the terminal back with write
 * and tcsetattr alone. */
#include "screen.h"

#include "input.h"
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
    ESCAPE_MS = 25, /* for what follows an escape character */
    REST_MS = 200,  /* for the rest of a sequence */
    STUCK_MS = 500,
    WAIT_MS = 50,
    RESTORE_CAP = 256,
    CRASH_STACK = 65536,
};

struct tui_screen {
    struct tui_theme theme;
    tui_depth depth;
    SCREEN *curses;
    tui_grid shown;
    bool valid;
    int32_t rows, cols;
    tl_bytes out; /* owned: the bytes of a frame ... */
    size_t sent;  /* ... that the terminal has taken */
    int fd;       /* writes to it never wait; owned where it is not standard output */
    const char *fg, *bg, *address, *reset, *bold, *italic, *underline, *reverse; /* terminfo's */
    int32_t n_colors;
    bool corner; /* writing the last cell does not scroll */
    off_t errors_read;
    tui_input input;
    bool mouse;
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
enum { N_CRASHES = sizeof crash_signals / sizeof crash_signals[0] };
static struct sigaction crash_before[N_CRASHES]; /* what the program does of itself */

/* What would end the process without a word; after these it leaves in order. While another program
 * has the terminal, its keys for SIGINT, SIGQUIT and SIGTSTP are that program's. */
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

/* What a terminal that is stuck has not taken yet is thrown away: there is room for the last words.
 */
static void make_room(void) {
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (poll(&out, 1, STUCK_MS) == 0) {
        tcflush(STDOUT_FILENO, TCOFLUSH);
    }
}

static void on_crash(int signal_number) {
    if (is_open) {
        is_open = 0;
        make_room();
        write_all(STDOUT_FILENO, restore.text, restore.n);
        tcsetattr(STDIN_FILENO, TCSANOW, &restore.modes);
        release_errors();
        if (restore.true_stderr >= 0) {
            dup2(restore.true_stderr, STDERR_FILENO); /* for who comes next */
        }
    }
    for (size_t i = 0; i < N_CRASHES; i++) {
        if (crash_signals[i] == signal_number) {
            sigaction(signal_number, &crash_before[i], NULL);
        }
    }
    raise(signal_number);
}

static bool install_handlers(void) {
    struct sigaction end = {.sa_handler = on_end}, stop = {.sa_handler = on_stop},
                     resize = {.sa_handler = on_resize}, go_on = {.sa_handler = on_continue};
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_RESETHAND};
    static char crash_stack[CRASH_STACK]; /* a stack that overflowed is no place for a handler */
    const stack_t stack = {.ss_sp = crash_stack, .ss_size = sizeof crash_stack};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < N_CRASHES; i++) {
        sigaction(crash_signals[i], &crash, &crash_before[i]);
    }
    for (size_t i = 0; i < N_ENDS; i++) {
        sigaction(end_signals[i], &end, NULL);
    }
    return sigaction(SIGTSTP, &stop, NULL) == 0 && sigaction(SIGWINCH, &resize, NULL) == 0 &&
           sigaction(SIGCONT, &go_on, NULL) == 0;
}

static void lend_signals(bool lent) {
    signal(SIGINT, lent ? SIG_IGN : on_end);
    signal(SIGQUIT, lent ? SIG_IGN : on_end);
    signal(SIGTSTP, lent ? SIG_IGN : on_stop);
}

static void remove_handlers(void) {
    for (size_t i = 0; i < N_ENDS; i++) {
        signal(end_signals[i], SIG_DFL);
    }
    signal(SIGTSTP, SIG_DFL);
    signal(SIGWINCH, SIG_DFL);
    signal(SIGCONT, SIG_DFL);
    for (size_t i = 0; i < N_CRASHES; i++) {
        sigaction(crash_signals[i], &crash_before[i], NULL);
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
static const char mouse_on[] = "\033[?1000h\033[?1006h", mouse_off[] = "\033[?1000l\033[?1006l";

static void plan_restore(void) {
    tl_bytes text = {0};
    static const char *const names[] = {"sgr0", "cnorm", "rmkx", "rmcup"};
    int failed = tl_bytes_add_str(&text, mouse_off) || tl_bytes_add_str(&text, paste_off);
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

/* What the description says of keys; those that it has no word for send what nearly all do. */
static void learn_keys(tui_input *in) {
    static const struct {
        const char *name;
        tui_key_kind kind;
        uint32_t ch;
    } keys[] = {
        {"kcuu1", TUI_KEY_UP, 0},     {"kcud1", TUI_KEY_DOWN, 0},     {"kcub1", TUI_KEY_LEFT, 0},
        {"kcuf1", TUI_KEY_RIGHT, 0},  {"khome", TUI_KEY_HOME, 0},     {"kend", TUI_KEY_END, 0},
        {"kpp", TUI_KEY_PAGE_UP, 0},  {"knp", TUI_KEY_PAGE_DOWN, 0},  {"kdch1", TUI_KEY_DELETE, 0},
        {"kent", TUI_KEY_ENTER, 0},   {"kf1", TUI_KEY_FUNCTION, 1},   {"kf2", TUI_KEY_FUNCTION, 2},
        {"kf3", TUI_KEY_FUNCTION, 3}, {"kf4", TUI_KEY_FUNCTION, 4},   {"kf5", TUI_KEY_FUNCTION, 5},
        {"kf6", TUI_KEY_FUNCTION, 6}, {"kf7", TUI_KEY_FUNCTION, 7},   {"kf8", TUI_KEY_FUNCTION, 8},
        {"kf9", TUI_KEY_FUNCTION, 9}, {"kf10", TUI_KEY_FUNCTION, 10},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && in->n_names < TUI_INPUT_NAMES; i++) {
        const char *const bytes = string_of(keys[i].name);
        if (bytes[0] == '\033' && bytes[1] != '\0') {
            in->names[in->n_names++] = (struct tui_key_name){bytes, keys[i].kind, keys[i].ch};
        }
    }
}

/* A description of the terminal of our own, since standard output's is the shell's as well: there
 * writes may not become others. */
static int open_output(void) {
    const char *const name = ttyname(STDOUT_FILENO);
    const int fd = name != NULL ? open(name, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
    return fd >= 0 ? fd : STDOUT_FILENO;
}

static void start_keys(tui_screen *s) {
    raw();
    noecho();
    nonl(); /* Enter and Ctrl+J stay two keys */
    learn_keys(&s->input);
    s->mouse = s->mouse && *string_of("kmous") != '\0';
}

/* What the terminal is to tell us, or no more. */
static void send_modes(tui_screen *s, bool on) {
    const char *const keys = string_of(on ? "smkx" : "rmkx");
    tui_screen_send(s, keys, strlen(keys));
    tui_screen_send(s, on ? paste_on : paste_off, sizeof paste_on - 1);
    if (s->mouse) {
        tui_screen_send(s, on ? mouse_on : mouse_off, sizeof mouse_on - 1);
    }
    if (!on) { /* ncurses does not know that a frame hid the cursor */
        const char *const shown = string_of("cnorm");
        tui_screen_send(s, shown, strlen(shown));
    }
}

/* newterm ends the process where the terminal is not known: it is asked after one that returns. */
static bool can_address(void) {
    int status = 0;
    if (setupterm(NULL, STDOUT_FILENO, &status) != OK) {
        return false;
    }
    const bool can = *string_of("cup") != '\0';
    del_curterm(cur_term);
    return can;
}

tl_err tui_screen_open(tui_screen **out, const struct tui_screen_params *params,
                       const tl_log *log) {
    if (!can_address()) {
        return tl_fail(log, TL_ERR_UNSUPPORTED, "the terminal cannot show a full screen");
    }
    tui_screen *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    s->fd = open_output();
    tcgetattr(STDIN_FILENO, &restore.modes);
    s->curses = newterm(NULL, stdout, stdin);
    s->mouse = params->mouse;
    if (s->curses == NULL) {
        tui_screen_close(&s);
        return tl_fail(log, TL_ERR_UNSUPPORTED, "the terminal cannot show a full screen");
    }
    learn_terminal(s, params);
    end_wanted = stop_wanted = 0;
    is_open = 1;
    install_handlers();
    start_keys(s);
    refresh();
    send_modes(s, true);
    hold_errors();
    *out = s;
    return TL_OK;
}

void tui_screen_close(tui_screen **screen) {
    tui_screen *const s = *screen;
    if (s == NULL) {
        return;
    }
    if (s->curses != NULL) {
        tui_screen_leave(s);
        is_open = 0;
        remove_handlers();
        delscreen(s->curses);
    }
    if (restore.errors >= 0) {
        dup2(restore.true_stderr, STDERR_FILENO);
        release_errors();
        close(restore.errors);
        close(restore.true_stderr);
        restore.errors = restore.true_stderr = -1;
    }
    if (s->fd != STDOUT_FILENO) {
        close(s->fd);
    }
    tui_grid_free(&s->shown);
    tl_bytes_free(&s->out);
    free(s);
    *screen = NULL;
}

void tui_screen_leave(tui_screen *s) {
    s->out.len = s->sent = 0; /* nobody needs the rest of a frame any more */
    make_room();
    send_modes(s, false);
    s->out.len = s->sent = 0;
    lend_signals(true);
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
    lend_signals(false);
    send_modes(s, true);
    tui_screen_redraw(s);
}

void tui_screen_stop(tui_screen *s) {
    stop_wanted = 0;
    tui_screen_leave(s);
    signal(SIGTSTP, SIG_DFL);
    kill(0, SIGTSTP); /* the whole job: a pager or make beside us stops too */
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

/* What is left of the frame, as far as the terminal takes it now; true where nothing is left. */
static bool flush(tui_screen *s) {
    while (s->sent < s->out.len) {
        const ssize_t n = write(s->fd, s->out.data + s->sent, s->out.len - s->sent);
        if (n < 0 && errno == EAGAIN) {
            return false;
        }
        if (n < 0 && errno != EINTR) {
            break; /* it is gone, which waiting for keys will tell */
        }
        s->sent += n > 0 ? (size_t)n : 0;
    }
    s->out.len = s->sent = 0;
    return true;
}

void tui_screen_send(tui_screen *s, const char *data, size_t n) {
    struct pollfd out = {.fd = s->fd, .events = POLLOUT};
    bool done = tl_bytes_add(&s->out, data, n) == TL_OK && flush(s);
    for (int ms = 0; !done && ms < STUCK_MS; ms += WAIT_MS) {
        poll(&out, 1, WAIT_MS);
        done = flush(s);
    }
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

bool tui_screen_draw(tui_screen *s, const tui_grid *g) {
    if (!flush(s)) {
        return false;
    }
    if (s->shown.rows != g->rows || s->shown.cols != g->cols || s->shown.cells == NULL) {
        s->valid = false;
        if (tui_grid_resize(&s->shown, g->rows, g->cols)) {
            return false;
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
        s->out.len = 0;
        return true;
    }
    s->valid = true;
    add_padded(&s->out, s->reset);
    if (g->cursor_row >= 0) {
        add_padded(&s->out, tiparm(s->address, (int)g->cursor_row, (int)g->cursor_col));
        add_padded(&s->out, string_of("cnorm"));
    }
    memcpy(s->shown.cells, g->cells, (size_t)g->rows * (size_t)g->cols * sizeof *g->cells);
    s->shown.cursor_row = g->cursor_row;
    s->shown.cursor_col = g->cursor_col;
    return flush(s);
}

/* ---- keys ---- */

/* Goes on after a stop that nobody could see coming (SIGSTOP): the shell has had the terminal
 * since, and where it still has it, reading stops us until it is given back. */
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
    const int n = poll(fds, fd >= 0 ? 2 : 1, s->input.n > 0 ? 0 : timeout_ms);
    if (n > 0 && (fds[0].revents & (POLLHUP | POLLERR)) != 0) {
        end_wanted = SIGHUP; /* the terminal is gone */
    }
    if (n > 0 && fd >= 0 && fds[1].revents != 0) {
        char drained[64];
        while (read(fd, drained, sizeof drained) == (ssize_t)sizeof drained) {
        }
    }
}

/* Reads what is there, within `ms`; false where nothing came. */
static bool read_more(tui_screen *s, int ms) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    const size_t room = TUI_INPUT_CAP - s->input.n;
    if (room == 0 || poll(&in, 1, ms) <= 0) {
        return false;
    }
    const ssize_t n = read(STDIN_FILENO, s->input.bytes + s->input.n, room);
    if (n == 0 || (n < 0 && errno == EIO)) {
        end_wanted = SIGHUP;
    }
    s->input.n += n > 0 ? (size_t)n : 0;
    return n > 0;
}

bool tui_screen_key(tui_screen *s, struct tui_key *out) {
    tui_input_need need = tui_input_next(&s->input, false, out);
    while (need != TUI_INPUT_KEY) {
        const int ms = need == TUI_INPUT_SOON ? ESCAPE_MS : need == TUI_INPUT_REST ? REST_MS : 0;
        const bool came = read_more(s, ms);
        if (!came && need == TUI_INPUT_NOTHING) {
            return false;
        }
        need = tui_input_next(&s->input, !came, out);
    }
    return true;
}
