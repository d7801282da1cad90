/* The terminal: cells out, keys in. The only door to ncurses. One screen a process; its functions
 * belong to one thread. However the process ends, the terminal is put back. */
#ifndef TUI_SCREEN_H
#define TUI_SCREEN_H

#include "grid.h"
#include "key.h"
#include "theme.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tui_screen tui_screen;

typedef enum tui_depth { TUI_DEPTH_NONE, TUI_DEPTH_16, TUI_DEPTH_256, TUI_DEPTH_TRUE } tui_depth;

struct tui_screen_params {
    const struct tui_theme *theme; /* copied */
    bool no_color;                 /* NO_COLOR is set */
    bool true_color;               /* COLORTERM says so */
    bool mouse;
};

/* Takes over standard input and output, which are terminals. TL_ERR_UNSUPPORTED: the terminal is
 * not known or cannot address its cursor, and nothing was changed. While it is open, standard error
 * goes to a file (tui_screen_errors); what is there at the end is written out afterwards. */
TL_MUST tl_err tui_screen_open(tui_screen **out, const struct tui_screen_params *params,
                               const tl_log *log);
void tui_screen_close(tui_screen **s);

tui_depth tui_screen_depth(const tui_screen *s);
/* The size now; true where it is another than at the last call. */
bool tui_screen_size(tui_screen *s, int32_t *rows, int32_t *cols);
/* Writes what is different from the last time; never waits. False where the terminal has not taken
 * all of it, or of what was drawn before: what has changed by then is drawn by the next call. */
bool tui_screen_draw(tui_screen *s, const tui_grid *g);
void tui_screen_redraw(tui_screen *s); /* the next draw writes everything */

/* Waits until a key, a byte on fd (-1: none), a signal, or the time is up (-1: no limit). */
void tui_screen_wait(tui_screen *s, int fd, int timeout_ms);
/* The next key; false where there is none now. */
bool tui_screen_key(tui_screen *s, struct tui_key *out);

/* The signal that asks to leave soon (SIGTERM, SIGHUP, SIGQUIT and the like), 0: none came. */
int tui_screen_ended(const tui_screen *s);
/* SIGTSTP came (or the key for it): stops the process; returns when it goes on. */
bool tui_screen_wants_stop(const tui_screen *s);
void tui_screen_stop(tui_screen *s);
/* The terminal for another program, and back. */
void tui_screen_leave(tui_screen *s);
void tui_screen_enter(tui_screen *s);

/* Bytes straight to the terminal: OSC 52 and the like. Waits a while where it is busy. */
void tui_screen_send(tui_screen *s, const char *data, size_t n);
/* What was written to standard error since the last call. */
TL_MUST tl_err tui_screen_errors(tui_screen *s, tl_bytes *out);

#ifdef __cplusplus
}
#endif

#endif
