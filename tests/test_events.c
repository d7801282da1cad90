/* The queue between the engine's thread and the screen's: everything arrives, in order, whole. */
#include "support.h"

#include "cli/events.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { N_EVENTS = 20000 };

static void *write_all(void *user) {
    struct cli_events *const q = user;
    for (int i = 0; i < N_EVENTS; i++) {
        char text[32];
        const int n = snprintf(text, sizeof text, "event %d", i);
        if (!cli_events_push(q, i, text, (size_t)n)) {
            return q;
        }
    }
    return NULL;
}

static void test_two_threads(void **state) {
    (void)state;
    struct cli_events q;
    pthread_t writer;
    assert_int_equal(cli_events_open(&q), TL_OK);
    assert_null(cli_events_pop(&q));
    assert_int_equal(pthread_create(&writer, NULL, write_all, &q), 0);
    for (int i = 0; i < N_EVENTS;) {
        const struct cli_event *const e = cli_events_pop(&q);
        if (e == NULL) {
            continue;
        }
        char text[32];
        snprintf(text, sizeof text, "event %d", i);
        assert_int_equal(e->kind, i);
        assert_int_equal(e->n, strlen(text));
        assert_string_equal(e->text, text);
        i++;
    }
    void *failed = NULL;
    pthread_join(writer, &failed);
    assert_null(failed);
    assert_null(cli_events_pop(&q));
    assert_true(cli_events_push(&q, 1, "left", 4)); /* closing frees what nobody read */
    cli_events_close(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
