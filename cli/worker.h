/* The engine's own thread under the full screen: lines in, events out. It loads the model, answers,
 * and closes everything; the screen's thread never touches what is in here. */
#ifndef TL_CLI_WORKER_H
#define TL_CLI_WORKER_H

#include "chat.h"
#include "events.h"

/* Events: chat_kind, and these. */
enum cli_event_kind {
    EVENT_ERROR = 100, /* sentences */
    EVENT_WARN,
    EVENT_INFO,
    EVENT_READY, /* the model is loaded; the text is the plan */
    EVENT_PLAN,  /* another plan, after a change of model or cache */
    EVENT_BUSY,  /* a line is being worked on */
    EVENT_IDLE,  /* it is done */
    EVENT_ENDED, /* the thread is over */
};

typedef struct cli_worker cli_worker;

/* wake_fd gets a byte after each event (written without waiting). args and share outlive it. */
TL_MUST tl_err cli_worker_open(cli_worker **out, const struct cli_args *args,
                               struct cli_share *share, int wake_fd);
/* Ends the answer, begins no line that still waits, and waits for the thread. Errors that were not
 * taken are printed. Returns the chat's exit code. */
int cli_worker_close(cli_worker **w);

TL_MUST tl_err cli_worker_send(cli_worker *w, const char *line);
void cli_worker_stop(cli_worker *w); /* the answer, or the reading of a prompt */
const struct cli_event *cli_worker_event(cli_worker *w); /* NULL: none now */

#endif
