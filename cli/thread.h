/* Threads beside the one that has the screen. */
#ifndef TL_CLI_THREAD_H
#define TL_CLI_THREAD_H

#include "core/base.h"

#include <pthread.h>

/* Starts run(user) with all signals blocked but those of a crash: the others are the screen's
 * thread's, and a crash puts the terminal back wherever it happens. False where there is no room
 * for a thread. */
bool cli_thread_start(pthread_t *out, void *(*run)(void *user), void *user);

#endif
