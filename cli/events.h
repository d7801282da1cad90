/* A queue from one thread to another: unbounded, in order, without locks; neither side ever waits
 * for the other. The engine's thread and the screen's talk through two of them. */
#ifndef TL_CLI_EVENTS_H
#define TL_CLI_EVENTS_H

#include "core/base.h"

struct cli_event {
    int kind;
    size_t n;
    const char *text; /* n bytes and a NUL */
};

struct cli_node;
struct cli_events {
    struct cli_node *head; /* the reader's: the last one read, or a blank */
    struct cli_node *tail; /* the writer's */
};

TL_MUST tl_err cli_events_open(struct cli_events *q);
void cli_events_close(struct cli_events *q); /* when both threads are done with it */

/* The writer's. False where memory is out, and the event is lost. */
bool cli_events_push(struct cli_events *q, int kind, const char *text, size_t n);
/* The reader's: the next event, valid until the next call; NULL: none yet. */
const struct cli_event *cli_events_pop(struct cli_events *q);

#endif
