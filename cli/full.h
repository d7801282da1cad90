/* The full screen of `tailor chat`: the chat, the dashboard, the prompt. One thread, one clock;
 * what the engine does comes as events and through the shared page. */
#ifndef TL_CLI_FULL_H
#define TL_CLI_FULL_H

#include "gpu.h"
#include "worker.h"

#include "tui/box.h"
#include "tui/dash.h"
#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/screen.h"
#include "tui/talk.h"

/* What lies over the panes. */
typedef enum full_overlay { OVER_NONE, OVER_HELP, OVER_PLAN } full_overlay;

enum { FULL_BUTTONS = 4 };

struct full {
    tui_screen *screen;
    tui_grid grid;
    struct tui_layout layout;
    tui_talk talk;
    tui_edit edit;
    tui_dash dash;
    cli_worker *worker;
    struct cli_share *share;
    gpu *device;
    int wake[2]; /* a pipe: the worker writes */
    struct tl_stats stats;
    uint64_t stats_seq;
    tl_bytes plan, history_path, hint; /* hint: a short word in the status line */
    tl_bytes pasted;                   /* what came of a paste and is not in the editor yet */
    full_overlay over;
    int32_t over_first; /* its first line in view */
    struct full_button {
        int32_t from, to; /* columns of the status line */
        uint32_t key;     /* the function key that a click there is */
    } buttons[FULL_BUTTONS];
    bool show_dash, ready, busy, pasting, paste_return, chord, quit_armed, quit, ended, dirty;
    bool warned_soon, warned_full; /* of the context */
    int code, signal;              /* signal: that ended it; 0: none */
    uint32_t n_waiting;            /* lines sent and not begun */
    uint64_t load_begin_ns;
};

/* Runs the chat on the terminal. *code is the exit code; false where the terminal cannot do it, and
 * lines are the way (a sentence says why where it is the terminal's fault). */
bool full_chat(const struct cli_args *args, int *code);

/* full_keys.c */
void full_key(struct full *f, const struct tui_key *key);
void full_submit(struct full *f);
/* What was pasted goes into the editor, all at once: sign by sign a long text takes its square. */
void full_paste(struct full *f);
/* full_draw.c */
void full_draw(struct full *f);
/* full_files.c: history, completion, the editor of the user's choice */
void full_history_open(struct full *f);
void full_history_add(struct full *f, const char *text);
void full_complete(struct full *f);
void full_edit_outside(struct full *f);

void full_hint(struct full *f, const char *text);
void full_say(struct full *f, tui_item_kind kind, const char *text, size_t n);

/* Reads a theme by name or file, and opens the screen on this terminal. */
TL_MUST tl_err full_screen_open(tui_screen **out, bool *ascii, const char *theme,
                                const tl_log *log);

#endif
