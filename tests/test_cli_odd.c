/* The program among odd files, names and lines: what it must not write over, what changes while it
 * is used, what no line of a message is. */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

/* Goal: logits are not written over a model, a session or what the run reads; over older ones they
 * are. */
static void test_logits_place(void **state) {
    (void)state;
    static const char text[] = "one two three";
    char args[2048], place[4][256];
    tl_bytes model = read_file(GOLDEN "smollm-9-3.gguf");
    const char *const names[] = {"own.gguf", "other.gguf", "text", "logits"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(place[i], sizeof place[i], "%s", scratch(names[i]));
        write_file(place[i], i < 2 ? model.data : text, i < 2 ? model.len : sizeof text - 1);
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(args, sizeof args, "run --backend cpu -m %s -f %s -n 0 --logits %s", place[0],
                 place[2], place[i]);
        if (i < 3) {
            expect_error(args, 1, "is not overwritten");
            tl_bytes kept = read_file(place[i]);
            assert_int_equal(kept.len, i < 2 ? model.len : sizeof text - 1);
            tl_bytes_free(&kept);
            continue;
        }
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 0);
        done(&ran);
        struct stat st;
        assert_int_equal(stat(place[i], &st), 0);
        assert_int_equal(st.st_size % 4, 0);
        assert_true(st.st_size > (off_t)sizeof text);
    }
    tl_bytes_free(&model);
}

/* Goal: a model that is cut short while it is used ends the program with a sentence. */
static void test_model_cut_short(void **state) {
    (void)state;
    tl_bytes model = read_file(TL_SOURCE_DIR "/models/demo.gguf");
    char path[256], command[2048];
    snprintf(path, sizeof path, "%s", scratch("cut.gguf"));
    write_file(path, model.data, model.len);
    tl_bytes_free(&model);
    snprintf(command, sizeof command,
             "(echo one; sleep 2; : >%s; echo two) | '%s' chat --backend cpu -m %s -n 2 -c 300"
             " >%s/out 2>%s/err",
             path, TL_TAILOR, path, scratch_dir, scratch_dir);
    const int status = system(command);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    tl_bytes err = read_file(scratch("err"));
    assert_int_equal(n_lines(&err), 1);
    assert_non_null(strstr(err.data, "tailor: a file in use was cut short"));
    tl_bytes_free(&err);
}

/* Goal: lines of a pipe may end as Windows ends them; one that cannot be sent whole is not sent. */
static void test_chat_odd_lines(void **state) {
    (void)state;
    static const char said[] = "/context\r\nsecret\0 words\n/set seed 1e3\n/set top-k 2.5\n"
                               "/set n 0.5\n/context\r\n/quit\r\n/dance\n";
    write_file(scratch("said"), said, sizeof said - 1);
    char args[1024];
    snprintf(args, sizeof args, "chat -m " GOLDEN "smollm-9-3.gguf -n 5 -c 200 <%s",
             scratch("said"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    const char *const first = strstr(ran.out.data, "0 of 200 tokens");
    assert_true(first != NULL && strstr(first + 1, "0 of 200 tokens") != NULL);
    assert_non_null(strstr(ran.err.data, "a line with a NUL byte"));
    assert_non_null(strstr(ran.err.data, "'seed' is none of"));
    assert_non_null(strstr(ran.err.data, "top-k is a whole number"));
    assert_non_null(strstr(ran.err.data, "'n' is none of"));
    assert_null(strstr(ran.err.data, "/quit"));
    assert_null(strstr(ran.err.data, "/dance"));
    done(&ran);
}

int main(void) {
    if (!program_begin()) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_place),
        cmocka_unit_test(test_model_cut_short),
        cmocka_unit_test(test_chat_odd_lines),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
