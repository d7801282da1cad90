/* What the full screen has to do with files: the history of prompts, completion, another editor.
 * None of it matters enough to stop a chat: what cannot be done is a word in the status line. */
#include "full.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HISTORY_TEXT_MAX = 65536 };

/* ---- history ---- */

/* Makes the folders of a path; what cannot be made shows when the file is opened. */
static void make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static bool state_path(char *path, size_t cap) {
    const char *const state = getenv("XDG_STATE_HOME"), *const home = getenv("HOME");
    const bool own = state != NULL && *state == '/';
    if (!own && home == NULL) {
        return false;
    }
    const int n =
        snprintf(path, cap, "%s%s/tailor/history", own ? state : home, own ? "" : "/.local/state");
    return n > 0 && (size_t)n < cap;
}

/* A file that has grown long is written anew with what is remembered of it. */
static void shorten_history(const struct full *f, const char *path) {
    tl_bytes text = {0};
    tl_err err = TL_OK;
    for (size_t i = 0; i < f->edit.n_history && !err; i++) {
        err = tui_history_line(f->edit.history[i], &text);
    }
    const int fd = err ? -1 : open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd >= 0) {
        const ssize_t ignored = write(fd, text.data, text.len);
        (void)ignored;
        close(fd);
    }
    tl_bytes_free(&text);
}

void full_history_open(struct full *f) {
    char path[4096];
    struct stat st;
    if (!state_path(path, sizeof path)) {
        return;
    }
    make_folders(path);
    if (tl_bytes_add_str(&f->history_path, path) || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        return;
    }
    FILE *const file = fopen(path, "rb");
    tl_bytes text = {0};
    char block[4096];
    size_t n_lines = 0;
    for (size_t n = 1; file != NULL && n > 0;) {
        n = fread(block, 1, sizeof block, file);
        for (size_t i = 0; i < n; i++) {
            n_lines += block[i] == '\n';
        }
        if (tl_bytes_add(&text, block, n)) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    if (tui_history_read(&f->edit, text.data != NULL ? text.data : "", text.len) == TL_OK &&
        n_lines > (size_t)2 * TUI_HISTORY_MAX) {
        shorten_history(f, path);
    }
    tl_bytes_free(&text);
}

void full_history_add(struct full *f, const char *text) {
    tl_bytes line = {0};
    const bool wanted = strlen(text) <= HISTORY_TEXT_MAX; /* a pasted book is no prompt */
    const char *const path = wanted ? f->history_path.data : NULL;
    const int fd = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && tui_history_line(text, &line) == TL_OK) {
        const ssize_t ignored = write(fd, line.data, line.len);
        (void)ignored;
    }
    if (fd >= 0) {
        close(fd);
    }
    tl_bytes_free(&line);
}

/* ---- completion ---- */

struct matches {
    char common[4096]; /* what all matches begin with */
    char list[256];    /* their names, as far as they fit */
    size_t n;
};

static void add_match(struct matches *m, const char *name) {
    if (m->n++ == 0) {
        const size_t n = strnlen(name, sizeof m->common - 1);
        memcpy(m->common, name, n);
        m->common[n] = '\0';
    }
    size_t same = 0;
    while (m->common[same] != '\0' && m->common[same] == name[same]) {
        same++;
    }
    m->common[same] = '\0';
    const size_t at = strlen(m->list);
    snprintf(m->list + at, sizeof m->list - at, "%s%s", at > 0 ? "  " : "", name);
}

/* Names in the folder of `word` that begin like its last part; folders get a slash. */
static void match_files(struct matches *m, const char *word) {
    char folder[4096], path[8192], name[4200];
    const char *const slash = strrchr(word, '/');
    const char *const part = slash != NULL ? slash + 1 : word;
    const char *const home = getenv("HOME");
    const bool own = word[0] == '~' && word[1] == '/' && home != NULL;
    snprintf(folder, sizeof folder, "%s%.*s", own ? home : "",
             slash != NULL ? (int)(slash - word + 1) - own : 0, word + own);
    DIR *const dir = opendir(folder[0] != '\0' ? folder : ".");
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (strncmp(e->d_name, part, strlen(part)) != 0 ||
            (e->d_name[0] == '.' && part[0] != '.')) {
            continue;
        }
        snprintf(path, sizeof path, "%s%s", folder, e->d_name);
        const bool inner = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        snprintf(name, sizeof name, "%s%s", e->d_name, inner ? "/" : "");
        add_match(m, name);
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void use_matches(struct full *f, struct matches *m, size_t from, bool spaced) {
    if (m->n == 0) {
        full_hint(f, "nothing begins like this");
        return;
    }
    const size_t len = strlen(m->common);
    if (m->n == 1 && spaced && len > 0 && m->common[len - 1] != '/') {
        snprintf(m->common + len, sizeof m->common - len, " ");
    }
    if (tui_edit_replace(&f->edit, from, m->common)) {
        full_hint(f, "out of memory");
    }
    if (m->n > 1) {
        full_hint(f, m->list);
    }
}

void full_complete(struct full *f) {
    const size_t cursor = f->edit.cursor;
    const char *const text = f->edit.text.data;
    struct matches m = {.n = 0};
    char word[4096];
    if (text[0] != '/' || memchr(text, '\n', cursor) != NULL) {
        full_hint(f, "Tab completes commands and their files");
        return;
    }
    const char *const space = memchr(text, ' ', cursor);
    if (space == NULL) {
        snprintf(word, sizeof word, "%.*s", (int)cursor, text);
        for (size_t i = 0; chat_command_name(i) != NULL; i++) {
            if (strncmp(chat_command_name(i), word, strlen(word)) == 0) {
                add_match(&m, chat_command_name(i));
            }
        }
        use_matches(f, &m, 0, true);
        return;
    }
    snprintf(word, sizeof word, "%.*s", (int)(space - text), text);
    if (!chat_command_takes_file(word)) {
        full_hint(f, "this command takes no file");
        return;
    }
    const bool is_kv = strcmp(word, "/kv") == 0;
    const size_t start = (size_t)(space - text) + 1;
    snprintf(word, sizeof word, "%.*s", (int)(cursor - start), text + start);
    for (size_t i = 0; is_kv && tl_presets[i].name != NULL; i++) {
        if (strncmp(tl_presets[i].name, word, strlen(word)) == 0) {
            add_match(&m, tl_presets[i].name);
        }
    }
    match_files(&m, word);
    const char *const slash = strrchr(word, '/');
    use_matches(f, &m, start + (slash != NULL ? (size_t)(slash - word) + 1 : 0), false);
}

/* ---- another editor ---- */

/* Runs $VISUAL or $EDITOR (else vi) on the file; true where it ended well. */
static bool run_editor(const char *path) {
    const char *const visual = getenv("VISUAL"), *const editor = getenv("EDITOR");
    const char *const wanted = visual != NULL && *visual != '\0'   ? visual
                               : editor != NULL && *editor != '\0' ? editor
                                                                   : "vi";
    char command[1024];
    snprintf(command, sizeof command, "%s \"$1\"", wanted);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        signal(SIGTSTP, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command, "sh", path, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    bool waits = child > 0;
    while (waits) {
        const pid_t ended = waitpid(child, &status, WUNTRACED);
        waits = ended > 0 ? WIFSTOPPED(status) : errno == EINTR;
        if (ended > 0 && waits) { /* the shell is to have the terminal, until both go on */
            raise(SIGSTOP);
        }
    }
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void read_back(struct full *f, const char *path) {
    tl_bytes text = {0};
    char block[4096];
    FILE *const file = fopen(path, "rb");
    bool ok = file != NULL;
    for (size_t n = 1; ok && n > 0;) {
        n = fread(block, 1, sizeof block, file);
        ok = tl_bytes_add(&text, block, n) == TL_OK;
    }
    if (file != NULL) {
        fclose(file);
    }
    while (text.len > 0 && text.data[text.len - 1] == '\n') {
        text.len--;
    }
    if (!ok || tui_edit_set(&f->edit, text.data != NULL ? text.data : "", text.len)) {
        full_hint(f, "the text could not be read back");
    }
    tl_bytes_free(&text);
}

void full_edit_outside(struct full *f) {
    char path[] = "/tmp/tailor-prompt-XXXXXX";
    const int fd = mkstemp(path);
    const size_t n = f->edit.text.len;
    const bool written = fd >= 0 && (n == 0 || write(fd, f->edit.text.data, n) == (ssize_t)n);
    if (fd >= 0) {
        close(fd);
    }
    if (!written) {
        full_hint(f, "no file for the editor can be written");
        if (fd >= 0) {
            unlink(path);
        }
        return;
    }
    tui_screen_leave(f->screen);
    const bool ok = run_editor(path);
    tui_screen_enter(f->screen);
    if (ok) {
        read_back(f, path);
    } else {
        full_hint(f, "the editor failed; the text is as it was");
    }
    unlink(path);
}
