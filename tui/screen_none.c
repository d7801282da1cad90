/* In place of screen.c where there is no ncurses: opening says so, and callers fall to lines. */
#include "screen.h"

tl_err tui_screen_open(tui_screen **out, const struct tui_screen_params *params,
                       const tl_log *log) {
    (void)out;
    (void)params;
    return tl_fail(log, TL_ERR_UNSUPPORTED, "this build has no full screen (ncursesw was missing)");
}

void tui_screen_close(tui_screen **s) { (void)s; }
tui_depth tui_screen_depth(const tui_screen *s) {
    (void)s;
    return TUI_DEPTH_NONE;
}
bool tui_screen_size(tui_screen *s, int32_t *rows, int32_t *cols) {
    (void)s;
    *rows = *cols = 0;
    return false;
}
bool tui_screen_draw(tui_screen *s, const tui_grid *g) {
    (void)s;
    (void)g;
    return true;
}
void tui_screen_redraw(tui_screen *s) { (void)s; }
void tui_screen_wait(tui_screen *s, int fd, int timeout_ms) {
    (void)s;
    (void)fd;
    (void)timeout_ms;
}
bool tui_screen_key(tui_screen *s, struct tui_key *out) {
    (void)s;
    (void)out;
    return false;
}
int tui_screen_ended(const tui_screen *s) {
    (void)s;
    return 1;
}
bool tui_screen_wants_stop(const tui_screen *s) {
    (void)s;
    return false;
}
void tui_screen_stop(tui_screen *s) { (void)s; }
void tui_screen_leave(tui_screen *s) { (void)s; }
void tui_screen_enter(tui_screen *s) { (void)s; }
void tui_screen_send(tui_screen *s, const char *data, size_t n) {
    (void)s;
    (void)data;
    (void)n;
}
tl_err tui_screen_errors(tui_screen *s, tl_bytes *out) {
    (void)s;
    (void)out;
    return TL_OK;
}
