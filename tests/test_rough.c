/* The full screen under rough hands, in a pseudo terminal: random bytes, keys, pastes and sizes
 * while an answer streams; a paste of a megabyte; a terminal that stops reading. Whatever happens,
 * the program lives until it is told to go, goes with the right code, and leaves the terminal as it
 * found it. test_rough --seconds N --seed N for longer walks. */
#define _GNU_SOURCE /* posix_openpt */
#include "program.h"

#include "cli/share.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static const char demo[] = TL_SOURCE_DIR "/models/demo.gguf";
static uint64_t fuzz_ms = 6000, fuzz_seed = 20261123;

enum { TAIL = 1 << 16, WORD_MAX = 64 };

struct term {
    int master, slave;
    pid_t pid;
    struct termios before;
    struct tl_stats_page *page;
    char tail[TAIL + 1]; /* what came last, and a NUL */
    size_t n_tail;
    uint64_t n_read;
};

static uint64_t now_ms(void) { return tl_now_ns() / 1000000; }

static void nap(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static void resize(const struct term *t, unsigned rows, unsigned cols) {
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    assert_int_equal(ioctl(t->master, TIOCSWINSZ, &size), 0);
}

static void child(const char *slave) {
    static const char *const args[] = {TL_TAILOR, "chat", "-m",     demo,           "--temp",
                                       "0",       "--kv", "tailor", "--ignore-eos", NULL};
    setsid();
    const int fd = open(slave, O_RDWR);
    if (fd < 0 || ioctl(fd, TIOCSCTTY, 0) != 0 || chdir(scratch_dir) != 0) {
        _exit(99);
    }
    for (int i = 0; i < 3; i++) {
        dup2(fd, i);
    }
    execv(args[0], (char *const *)(uintptr_t)args);
    _exit(98);
}

/* Takes what the terminal shows; false where there is nothing for `ms`. */
static bool drain(struct term *t, int ms) {
    char block[4096];
    struct pollfd in = {.fd = t->master, .events = POLLIN};
    if (poll(&in, 1, ms) <= 0) {
        return false;
    }
    const ssize_t n = read(t->master, block, sizeof block);
    if (n <= 0) {
        return false;
    }
    if (t->n_tail + (size_t)n > TAIL) {
        const size_t keep = TAIL / 2 < t->n_tail ? TAIL / 2 : t->n_tail;
        memmove(t->tail, t->tail + t->n_tail - keep, keep);
        t->n_tail = keep;
    }
    for (ssize_t i = 0; i < n; i++) { /* a text without NUL */
        t->tail[t->n_tail++] = block[i] != '\0' ? block[i] : ' ';
    }
    t->tail[t->n_tail] = '\0';
    t->n_read += (uint64_t)n;
    return true;
}

static void send_bytes(struct term *t, const char *data, size_t n) {
    const uint64_t limit = now_ms() + 60000;
    while (n > 0) {
        const ssize_t sent = write(t->master, data, n < 512 ? n : 512);
        data += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
        while (drain(t, sent > 0 ? 0 : 5)) {
        }
        assert_true(now_ms() < limit); /* it takes what is typed */
    }
}

static void send_text(struct term *t, const char *text) { send_bytes(t, text, strlen(text)); }

static struct tl_stats *look(struct term *t) {
    static struct tl_stats stats;
    t->page = t->page != NULL ? t->page : cli_share_map((uint64_t)t->pid);
    return t->page != NULL && tl_stats_read(t->page, &stats, NULL) ? &stats : NULL;
}

static bool is_loaded(const struct tl_stats *s) { return s->n_layers > 0; }
static bool is_answering(const struct tl_stats *s) {
    return s->activity == TL_ACTIVITY_ANSWER && s->n_answer_tokens > 5;
}

static void wait_until(struct term *t, bool (*is_so)(const struct tl_stats *)) {
    const uint64_t limit = now_ms() + 60000;
    for (const struct tl_stats *s = look(t); s == NULL || !is_so(s); s = look(t)) {
        while (drain(t, 20)) {
        }
        assert_true(now_ms() < limit);
    }
}

static void open_term(struct term *t) {
    memset(t, 0, sizeof *t);
    t->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    assert_true(t->master >= 0 && grantpt(t->master) == 0 && unlockpt(t->master) == 0);
    const char *const name = ptsname(t->master);
    t->slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(t->slave >= 0);
    assert_int_equal(tcgetattr(t->slave, &t->before), 0);
    resize(t, 24, 80);
    t->pid = fork();
    if (t->pid == 0) {
        child(name);
    }
    assert_true(t->pid > 0);
    wait_until(t, is_loaded);
}

/* The exit status once it has gone, which it does in `ms`; what it shows meanwhile is read, or not.
 */
static int wait_end(struct term *t, uint64_t ms, bool reads) {
    const uint64_t limit = now_ms() + ms;
    int status = 0;
    while (waitpid(t->pid, &status, WNOHANG) == 0) {
        if (!reads || !drain(t, 20)) {
            nap(20);
        }
        if (now_ms() >= limit) {
            kill(t->pid, SIGKILL);
            waitpid(t->pid, &status, 0);
            fail_msg("it did not end in %llu ms", (unsigned long long)ms);
        }
    }
    while (drain(t, 0)) {
    }
    return status;
}

/* The last place of a sequence, or NULL. */
static const char *last_of(const struct term *t, const char *sequence) {
    const char *last = NULL;
    for (const char *at = t->tail; (at = strstr(at, sequence)) != NULL; at++) {
        last = at;
    }
    return last;
}

static void check_restored(struct term *t) {
    struct termios after;
    assert_int_equal(tcgetattr(t->slave, &after), 0);
    assert_true(after.c_iflag == t->before.c_iflag && after.c_oflag == t->before.c_oflag &&
                after.c_lflag == t->before.c_lflag && after.c_cflag == t->before.c_cflag);
    const char *const left = last_of(t, "\033[?1049l"), *const entered = last_of(t, "\033[?1049h");
    if (left == NULL || left < entered || last_of(t, "\033[?25h") < last_of(t, "\033[?25l")) {
        fail_msg("the screen was not left: %s",
                 t->n_tail > 300 ? t->tail + t->n_tail - 300 : t->tail);
    }
    assert_true(last_of(t, "\033[?2004l") > last_of(t, "\033[?2004h"));
}

static void close_term(struct term *t) {
    check_restored(t);
    cli_share_unmap(t->page);
    close(t->master);
    close(t->slave);
}

static void end_term(struct term *t, bool reads) {
    kill(t->pid, SIGTERM);
    const int status = wait_end(t, 20000, reads);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 128 + SIGTERM) {
        fail_msg("status %d: %s", status, t->tail);
    }
    close_term(t);
}

/* ---- a walk ---- */

/* clang-format off */
static const char *const words[] = {
    "\r",          "\t",          "\033",         "\033[A",        "\033[B",       "\033[C",
    "\033[D",      "\033[H",      "\033[F",       "\033[1;5H",     "\033[1;5F",    "\033[5~",
    "\033[6~",     "\033[3~",     "\033OP",       "\033OQ",        "\033OR",       "\033OS",
    "\033[15~",    "\033[17~",    "\033[18~",     "\033[19~",      "\033[20~",     "\x18\x05",
    "\x0f",        "\x12",        "\x13",         "\x0c",          "\x0b",         "\x15",
    "\x19",        "\x17",        "\x0a",         "\033\r",        "\033b",        "\033[200~",
    "\033[201~",   "Hello\r",     "/new\r",       "/regen\r",      "/continue\r",  "/stats\r",
    "/fork\r",     "/fork 1\r",   "/undo\r",      "/edit\r",       "/look\r",      "/help\r",
    "/kv kivi2\r", "/kv tailor\r", "/context\r",  "/set temp 1\r", "/system be\r", "\"\"\"",
    "\xe4\xb8\xad\xe6\x96\x87",    "e\xcc\x81",   "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80",
    "\xc3",        "\xff\xfe",     "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x80\x8b", "\033]0;x\007",
    "\033[<0;7;9M", "\033[<64;3;3M", "\033[<65;70;20M", "\033[M !!", "\033[99;99~", "\033[;;;;;;;",
    "j",           "q",           "s",            "p",             "?",            "\003",
};
/* clang-format on */

static void random_bytes(struct term *t, struct tl_rng *rng) {
    char bytes[WORD_MAX];
    const size_t n = 1 + rng_below(rng, sizeof bytes);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)rng_below(rng, 256);
    }
    send_bytes(t, bytes, n);
}

static void random_act(struct term *t, struct tl_rng *rng) {
    static const unsigned sizes[][2] = {{5, 20}, {24, 80}, {50, 200}, {1, 1}, {2, 7}, {12, 100}};
    switch (rng_below(rng, 16)) {
    case 0: {
        const unsigned *const size = sizes[rng_below(rng, sizeof sizes / sizeof sizes[0])];
        resize(t, size[0], size[1]);
        return;
    }
    case 1:
        resize(t, 1 + (unsigned)rng_below(rng, 70), 1 + (unsigned)rng_below(rng, 250));
        return;
    case 2:
    case 3:
        random_bytes(t, rng);
        return;
    case 4:
        kill(t->pid, rng_below(rng, 2) ? SIGCONT : SIGWINCH);
        return;
    default:
        send_text(t, words[rng_below(rng, sizeof words / sizeof words[0])]);
        return;
    }
}

/* Goal: whatever is typed, whatever the size: it lives, or leaves as the user who hit such a key
 * wants to. */
static void test_walk(void **state) {
    (void)state;
    static struct term t;
    struct tl_rng rng = {fuzz_seed};
    unsigned n_acts = 0, n_left = 0;
    open_term(&t);
    send_text(&t, "Tell me a story\r");
    for (const uint64_t end = now_ms() + fuzz_ms; now_ms() < end; n_acts++) {
        int status = 0;
        random_act(&t, &rng);
        for (int i = 0; i < 64 && drain(&t, i == 0 ? (int)rng_below(&rng, 12) : 0); i++) {
        }
        if (waitpid(t.pid, &status, WNOHANG) == 0) {
            continue;
        }
        /* The keys of a terminal that was given back already end what is still closing. */
        const bool hurried =
            WIFSIGNALED(status) && (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGQUIT);
        if (!hurried && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
            fail_msg("seed %llu, act %u: status %d: %s", (unsigned long long)fuzz_seed, n_acts,
                     status, t.tail);
        }
        while (drain(&t, 0)) {
        }
        close_term(&t);
        n_left++;
        open_term(&t);
        send_text(&t, "Tell me a story\r");
    }
    end_term(&t, true);
    print_message("%u acts, left by a key %u times\n", n_acts, n_left);
}

/* ---- a paste ---- */

/* Goal: a megabyte of text with long lines, wide and combining signs and broken bytes goes in, can
 * be sent, and is refused with its size where the context is too small. */
static void test_paste(void **state) {
    (void)state;
    enum { BYTES = 1 << 20 };
    static struct term t;
    char *const text = malloc(BYTES);
    assert_non_null(text);
    static const char piece[] = "words and \xe4\xb8\xad\xe6\x96\x87 e\xcc\x81 \xff\x80 ";
    for (size_t i = 0; i < BYTES; i++) {
        text[i] = i % 40000 == 39999 ? '\r' : piece[i % (sizeof piece - 1)];
    }
    open_term(&t);
    send_text(&t, "\033[200~");
    send_bytes(&t, text, BYTES);
    send_text(&t, "\033[201~\r");
    bool refused = false;
    for (const uint64_t limit = now_ms() + 30000; !refused && now_ms() < limit;) {
        send_text(&t, "\f"); /* all is drawn anew */
        for (int i = 0; i < 50 && drain(&t, 20); i++) {
        }
        refused = strstr(t.tail, "too long") != NULL;
    }
    if (!refused) {
        fail_msg("not refused: %s", t.n_tail > 6000 ? t.tail + t.n_tail - 6000 : t.tail);
    }
    free(text);
    end_term(&t, true);
}

/* ---- a terminal that is stuck ---- */

/* Goal: the engine goes on while the terminal takes nothing, and the process ends when it is told
 * to, with the terminal restored. */
static void test_stuck(void **state) {
    (void)state;
    static struct term t;
    uint64_t tokens[3];
    open_term(&t);
    send_text(&t, "Tell me a story\r");
    wait_until(&t, is_answering);
    for (int i = 0; i < 40; i++) { /* whole screens, until no more goes through */
        resize(&t, i % 2 ? 60 : 70, i % 2 ? 200 : 240);
        nap(50);
    }
    int waiting[2] = {0};
    for (int i = 0; i < 3; i++) {
        const struct tl_stats *const s = look(&t);
        assert_non_null(s);
        tokens[i] = s->n_answer_tokens;
        if (i < 2) {
            assert_int_equal(ioctl(t.master, FIONREAD, &waiting[i]), 0);
            nap(1000);
        }
    }
    print_message("stuck with %d bytes: %llu tokens, a second later %llu, then %llu\n", waiting[1],
                  (unsigned long long)tokens[0], (unsigned long long)tokens[1],
                  (unsigned long long)tokens[2]);
    assert_true(waiting[0] > 2000 && waiting[1] == waiting[0]); /* nothing moves */
    assert_true(tokens[1] > tokens[0] && tokens[2] > tokens[1]);
    end_term(&t, false);
}

/* Goal: a terminal that was stuck shows what is so now, when it reads again, and takes keys. */
static void test_stuck_and_back(void **state) {
    (void)state;
    static struct term t;
    open_term(&t);
    send_text(&t, "Tell me a story\r");
    wait_until(&t, is_answering);
    for (int i = 0; i < 40; i++) {
        resize(&t, i % 2 ? 60 : 70, i % 2 ? 200 : 240);
        nap(50);
    }
    resize(&t, 24, 80);
    t.n_tail = 0;
    for (int i = 0; i < 200 && drain(&t, 100); i++) {
    }
    send_text(&t, "\033"); /* stops the answer */
    nap(100);
    send_text(&t, "\f");
    for (int i = 0; i < 50 && drain(&t, 100); i++) {
    }
    assert_non_null(strstr(t.tail, "stopped"));
    end_term(&t, true);
}

/* Goal: however it is ended, with a terminal that reads or does not, that is as it was. */
static void test_signals(void **state) {
    (void)state;
    static struct term t;
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        open_term(&t);
        send_text(&t, "Tell me a story\r\033OQ");
        wait_until(&t, is_answering);
        kill(t.pid, signals[i]);
        const int status = wait_end(&t, 20000, true);
        const bool crash = signals[i] == SIGSEGV || signals[i] == SIGABRT || signals[i] == SIGBUS;
        /* A sanitizer catches crashes itself, before and after our handler. */
        assert_true(crash ? !WIFEXITED(status) || WEXITSTATUS(status) != 0
                          : WIFEXITED(status) && WEXITSTATUS(status) == 128 + signals[i]);
        close_term(&t);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const uint64_t value = strtoull(argv[i + 1], NULL, 10);
        fuzz_ms = strcmp(argv[i], "--seconds") == 0 ? 1000 * value : fuzz_ms;
        fuzz_seed = strcmp(argv[i], "--seed") == 0 ? value : fuzz_seed;
    }
    if (!program_begin()) {
        return 1;
    }
    setenv("HOME", scratch_dir, 1);
    setenv("XDG_RUNTIME_DIR", scratch_dir, 1);
    setenv("XDG_STATE_HOME", scratch_dir, 1);
    setenv("EDITOR", "true", 1);
    setenv("TERM", "xterm-256color", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("VISUAL");
    unsetenv("NO_COLOR");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),    cmocka_unit_test(test_paste),
        cmocka_unit_test(test_stuck),   cmocka_unit_test(test_stuck_and_back),
        cmocka_unit_test(test_signals),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
