/* tailor top: looks at running tailors through the pages that they show: once, as a stream of
 * lines, for Prometheus, or on the full screen. Nothing here touches the engine of anybody. */
#include "commands.h"
#include "out.h"
#include "top.h"

#include "tui/dash.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The one that works, else the youngest. */
static const struct top_one *pick(const struct top *top) {
    const struct top_one *best = NULL;
    for (size_t i = 0; i < top->n; i++) {
        const struct top_one *const one = &top->ones[i];
        const bool works = one->stats.activity >= TL_ACTIVITY_PROMPT;
        const bool best_works = best != NULL && best->stats.activity >= TL_ACTIVITY_PROMPT;
        if (one->known &&
            (best == NULL || works > best_works ||
             (works == best_works && one->stats.start_unix_s > best->stats.start_unix_s))) {
            best = one;
        }
    }
    return best;
}

static int print_json(const struct top *top) {
    const struct top_one *const one = pick(top);
    json_t *const object = top_json(&one->stats);
    json_t *const pids = json_array();
    for (size_t i = 0; i < top->n; i++) {
        json_array_append_new(pids, json_integer((json_int_t)top->ones[i].pid));
    }
    json_object_set_new(object, "pids", pids);
    return cli_print_json(object) ? 0 : 1;
}

static void print_table(const struct top *top) {
    printf("%8s %-5s %-9s %13s %8s %7s %7s %-8s %s\n", "pid", "what", "doing", "context",
           "tokens/s", "device", "host", "cache", "model");
    for (size_t i = 0; i < top->n; i++) {
        const struct tl_stats *const s = &top->ones[i].stats;
        static const char *const doing[] = {"loading", "idle", "reading", "answering"};
        struct tl_kv_bytes sum = {0};
        char rate[16] = "N/A", context[32], bytes[2][16];
        for (uint32_t il = 0; il < s->n_layers_shown; il++) {
            sum.home_device += tl_kv_device_bytes(&s->layers[il].held);
            sum.home_host += s->layers[il].held.home_host;
        }
        if (!isnan(s->tokens_per_s)) {
            snprintf(rate, sizeof rate, "%.1f", s->tokens_per_s);
        }
        snprintf(context, sizeof context, "%u/%u", s->ctx_used, s->ctx_cap);
        printf("%8llu %-5s %-9s %13s %8s %7s %7s %-8s %s, %s\n", (unsigned long long)s->pid,
               s->command, doing[s->activity & 3], context, rate,
               tui_bytes((double)sum.home_device, bytes[0]),
               tui_bytes((double)sum.home_host, bytes[1]), s->kv, s->model, s->backend);
    }
}

/* One line for each tailor; false where writing failed. */
static bool print_csv(const struct top *top) {
    const uint64_t now = (uint64_t)time(NULL);
    for (size_t i = 0; i < top->n; i++) {
        tl_bytes line = {0};
        if (top_csv_line(&top->ones[i].stats, &line) == TL_OK) {
            printf("%llu%s", (unsigned long long)now, line.data);
        }
        tl_bytes_free(&line);
    }
    return fflush(stdout) == 0;
}

static void sleep_for(double seconds) {
    struct timespec left = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&left, NULL); /* cut short by Ctrl+C */
}

/* Until interrupted, or the one that is watched has gone. */
static int stream_csv(struct top *top, double seconds) {
    fputs(top_csv_head, stdout);
    while (!cli_interrupted()) {
        if (!print_csv(top)) {
            return 1;
        }
        sleep_for(seconds);
        top_refresh(top, false);
        if (top->only != 0 && top->n == 0) {
            return 0;
        }
    }
    return 0;
}

static int nobody(uint64_t pid) {
    if (pid != 0) {
        cli_error("top: %llu: no such tailor is running", (unsigned long long)pid);
    } else {
        cli_error("top: no tailor is running");
    }
    return 1;
}

static int report(struct top *top, const struct cli_args *args) {
    const double seconds = args->delay > 0 ? (double)args->delay : 1;
    if (args->prometheus != 0) {
        return top_serve(top, args->prometheus);
    }
    if (top->n == 0 && (args->once || top->only != 0)) {
        return nobody(top->only);
    }
    if (args->json) {
        return print_json(top);
    }
    if (args->csv && !args->once) {
        return stream_csv(top, seconds);
    }
    if (args->csv) {
        fputs(top_csv_head, stdout);
        return print_csv(top) ? 0 : 1;
    }
    print_table(top);
    return 0;
}

static bool parse_pid(const char *text, uint64_t *pid) {
    char *end = NULL;
    *pid = text != NULL ? strtoull(text, &end, 10) : 0;
    return text == NULL || (*end == '\0' && *pid > 0);
}

int cmd_top(const struct cli_args *args) {
    struct top top;
    uint64_t pid = 0;
    if (!parse_pid(args->pid, &pid)) {
        cli_error("top: '%s' is no process number", args->pid);
        return 2;
    }
    if (args->json && !args->once) {
        cli_error("top: --json goes with --once");
        return 2;
    }
    if (args->prometheus > 65535) {
        cli_error("top: --prometheus: %u is no port", args->prometheus);
        return 2;
    }
    if (top_open(&top, pid)) {
        cli_error("top: out of memory");
        return 1;
    }
    top_refresh(&top, false);
    const char *const term = getenv("TERM");
    const bool screen = !args->once && !args->csv && args->prometheus == 0;
    const bool able = isatty(STDIN_FILENO) == 1 && cli_stdout_is_tty() && term != NULL &&
                      strcmp(term, "dumb") != 0;
    int code = 0;
    if (screen && able && (pid == 0 || top.n > 0)) {
        code = top_screen(&top, args);
    } else if (screen && !able && top.n == 0) {
        code = nobody(pid);
    } else {
        cli_interrupt_install();
        code = report(&top, args);
    }
    top_close(&top);
    return code;
}
