/* One place that knows which signals a helping thread may see. */
#include "thread.h"

#include <signal.h>

bool cli_thread_start(pthread_t *out, void *(*run)(void *user), void *user) {
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t all, old;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++) {
        sigdelset(&all, crashes[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int failed = pthread_create(out, NULL, run, user);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed == 0;
}
