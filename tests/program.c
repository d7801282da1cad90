#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char scratch_dir[] = "/tmp/tailor-cli-XXXXXX";

bool program_begin(void) { return mkdtemp(scratch_dir) != NULL; }

int program_end(int n_failed) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch_dir);
    return system(command) == 0 ? n_failed : 1;
}

const char *scratch(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch_dir, name);
    return path;
}

void write_file(const char *path, const void *data, size_t n) {
    FILE *const f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

struct ran tailor(const char *args) {
    char command[4096];
    const int n = snprintf(command, sizeof command, "exec '%s' %s >%s/out 2>%s/err", TL_TAILOR,
                           args, scratch_dir, scratch_dir);
    assert_true(n > 0 && (size_t)n < sizeof command);
    const int status = system(command);
    assert_true(WIFEXITED(status));
    struct ran ran = {.code = WEXITSTATUS(status)};
    ran.out = read_file(scratch("out"));
    ran.err = read_file(scratch("err"));
    return ran;
}

void done(struct ran *ran) {
    tl_bytes_free(&ran->out);
    tl_bytes_free(&ran->err);
}

unsigned n_lines(const tl_bytes *text) {
    unsigned n = 0;
    for (size_t i = 0; i < text->len; i++) {
        n += text->data[i] == '\n';
    }
    return n;
}

void expect_error(const char *args, int code, const char *part) {
    struct ran ran = tailor(args);
    if (ran.code != code || ran.out.len != 0 || n_lines(&ran.err) != 1 ||
        strncmp(ran.err.data, "tailor: ", 8) != 0 || strstr(ran.err.data, part) == NULL) {
        fail_msg("%s: exit %d, stdout %zu bytes, stderr: %s", args, ran.code, ran.out.len,
                 ran.err.data);
    }
    done(&ran);
}
