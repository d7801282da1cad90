/* Commands that read files into the chat or look for them: /read, /glob, /list. A file that cannot
 * be read is an error line, and the chat is as it was. */
#include "chat.h"
#include "new_file.h"

#include <dirent.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { GLOB_MAX = 100 };

bool chat_expand(const char *path, char *out, size_t cap) {
    const char *const home = getenv("HOME");
    const bool own = path[0] == '~' && path[1] == '/' && home != NULL;
    const int n = snprintf(out, cap, "%s%s", own ? home : "", own ? path + 1 : path);
    return n > 0 && (size_t)n < cap;
}

/* A document named `name` in the file `path`. Returns 0, or an exit code where nothing works. */
static int add_document(struct chat *chat, const char *name, const char *path) {
    tl_bytes text = {0};
    if (!cli_read_file(path, &text)) {
        return 0;
    }
    const tl_err err = cli_conversation_add_document(&chat->talk, name, &text);
    if (!err) {
        chat->unsaved = true;
        chat_note(chat, "%s (%zu bytes) is part of your next message", name, text.len);
    }
    tl_bytes_free(&text);
    return err ? chat_failed(chat, err) : 0;
}

int chat_read(struct chat *chat, const char *rest) {
    char path[CLI_PATH_MAX];
    if (strcmp(rest, "-") == 0) {
        chat->talk.document.len = 0;
        chat_note(chat, "no document waits any more");
        return 0;
    }
    if (*rest == '\0' || !chat_expand(rest, path, sizeof path)) {
        cli_error("/read: which file?");
        return 0;
    }
    return add_document(chat, rest, path);
}

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int chat_glob(struct chat *chat, const char *rest) {
    char pattern[CLI_PATH_MAX];
    glob_t found = {0};
    if (*rest == '\0' || !chat_expand(rest, pattern, sizeof pattern)) {
        cli_error("/glob: which files?");
        return 0;
    }
    const int failed = glob(pattern, GLOB_NOESCAPE, NULL, &found);
    size_t n = 0;
    int code = 0;
    for (size_t i = 0; !failed && i < found.gl_pathc; i++) {
        n += is_file(found.gl_pathv[i]);
    }
    if (n == 0) {
        cli_error("/glob: %s: no file matches", rest);
    } else if (n > GLOB_MAX) {
        cli_error("/glob: %s: %zu files match, %d are the most", rest, n, GLOB_MAX);
    }
    for (size_t i = 0; n > 0 && n <= GLOB_MAX && i < found.gl_pathc && code == 0; i++) {
        if (is_file(found.gl_pathv[i])) {
            code = add_document(chat, found.gl_pathv[i], found.gl_pathv[i]);
        }
    }
    globfree(&found);
    return code;
}

/* The folder of a file's name: "." where it has none. */
static void folder_of(const char *path, char *out, size_t cap) {
    const char *const slash = strrchr(path, '/');
    const int n = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    snprintf(out, cap, "%.*s", n, slash == NULL ? "." : path);
}

static bool is_model(const char *name) {
    const size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".gguf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int wanted(const struct dirent *entry) { return is_model(entry->d_name); }

int chat_list(struct chat *chat, const char *rest) {
    char folder[CLI_PATH_MAX], path[2 * CLI_PATH_MAX], bytes[16];
    struct dirent **found = NULL;
    tl_bytes text = {0};
    if (*rest == '\0') {
        folder_of(chat->args.model, folder, sizeof folder);
    } else if (!chat_expand(rest, folder, sizeof folder)) {
        cli_error("/list: the name is too long");
        return 0;
    }
    const int n = scandir(folder, &found, wanted, by_name);
    tl_err err = TL_OK;
    for (int i = 0; i < n; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, found[i]->d_name);
        if (stat(path, &st) == 0 && !err) {
            char line[2 * CLI_PATH_MAX + 32];
            snprintf(line, sizeof line, "%10s  %s\n", cli_bytes((uint64_t)st.st_size, bytes), path);
            err = tl_bytes_add_str(&text, line);
        }
        free(found[i]);
    }
    free(found);
    if (n < 0) {
        cli_error("/list: %s: there is no such folder", folder);
    } else if (n == 0) {
        chat_note(chat, "there are no models in %s", folder);
    } else if (!err) {
        chat_note(chat, "%s/model FILE changes to one of them", text.data);
    }
    tl_bytes_free(&text);
    return err ? chat_failed(chat, err) : 0;
}
