/* A linked list whose first node was read already: the writer only touches the last node's `next`,
 * the reader only the first's, and storing `next` with release hands over the node. */
#include "events.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct cli_node {
    struct cli_node *_Atomic next;
    struct cli_event event;
    char text[];
};

static struct cli_node *new_node(int kind, const char *text, size_t n) {
    struct cli_node *const node = malloc(sizeof *node + n + 1);
    if (node != NULL) {
        atomic_init(&node->next, NULL);
        node->event = (struct cli_event){kind, n, node->text};
        memcpy(node->text, text, n);
        node->text[n] = '\0';
    }
    return node;
}

tl_err cli_events_open(struct cli_events *q) {
    q->head = q->tail = new_node(0, "", 0);
    return q->head != NULL ? TL_OK : TL_ERR_MEMORY;
}

void cli_events_close(struct cli_events *q) {
    while (q->head != NULL) {
        struct cli_node *const next = atomic_load(&q->head->next);
        free(q->head);
        q->head = next;
    }
    q->tail = NULL;
}

bool cli_events_push(struct cli_events *q, int kind, const char *text, size_t n) {
    struct cli_node *const node = new_node(kind, text, n);
    if (node == NULL) {
        return false;
    }
    atomic_store_explicit(&q->tail->next, node, memory_order_release);
    q->tail = node;
    return true;
}

const struct cli_event *cli_events_pop(struct cli_events *q) {
    struct cli_node *const next = atomic_load_explicit(&q->head->next, memory_order_acquire);
    if (next == NULL) {
        return NULL;
    }
    free(q->head);
    q->head = next;
    return &next->event;
}
