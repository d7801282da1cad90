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

/* Goal: a document that is no text is refused when it is named and costs no message; a conversation
 * with a NUL in it, which a model can write, is kept and found again. */
static void test_chat_odd_documents(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *says;
    } files[] = {{"caf\xe9", "byte 3 is no UTF-8"},      {"ab\xe0\x80\x80", "byte 2 is no UTF-8"},
                 {"\xed\xa0\x80", "byte 0 is no UTF-8"}, {"\xf4\x90\x80\x80", "byte 0 is no UTF-8"},
                 {"\xc3", "byte 0 is no UTF-8"},         {"\xf0\x9f\x98\x80 caf\xc3\xa9", NULL}};
    char path[256], say[2048], args[1024];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s", scratch("doc"));
        write_file(path, files[i].bytes, strlen(files[i].bytes));
        const int n = snprintf(say, sizeof say, "/read %s\nhello\n/context\n", path);
        write_file(scratch("say"), say, (size_t)n);
        snprintf(args, sizeof args, "chat --backend cpu -m " GOLDEN "smollm-9-3.gguf -n 2 <%s",
                 scratch("say"));
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 0);
        assert_true(files[i].says == NULL || strstr(ran.err.data, files[i].says) != NULL);
        assert_int_equal(n_lines(&ran.err), files[i].says != NULL ? 2 : 1); /* no template: one */
        assert_non_null(strstr(ran.out.data, "2 messages"));
        done(&ran);
    }
    static const char kept[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u0000b\"}]}";
    write_file(scratch("kept"), kept, sizeof kept - 1);
    snprintf(path, sizeof path, "%s", scratch("kept"));
    const int n = snprintf(say, sizeof say, "/load %s\n/save %s2\n/load %s2\n", path, path, path);
    write_file(scratch("say"), say, (size_t)n);
    struct ran ran = tailor(args);
    assert_int_equal(n_lines(&ran.err), 1);
    assert_non_null(strstr(ran.out.data, "kept2: 1 messages"));
    done(&ran);
}

/* Goal: a standard stream that is closed is a failure of what needs it, not the next file that the
 * program opens. */
static void test_closed_streams(void **state) {
    (void)state;
    static const struct {
        const char *args;
        int code;
    } cases[] = {{"run --backend cpu -m %s -f - -n 2 <&- 2>%s/err", 1},
                 {"run --backend cpu -m %s --ids '5 6' -n 2 >&- 2>%s/err", 1},
                 {"tokenize -m %s -p hello >&- 2>%s/err", 1},
                 {"run --backend cpu -m %s --ids '5 6' -n 2 <&- >/dev/null 2>%s/err", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char args[512], command[1024];
        snprintf(args, sizeof args, cases[i].args, GOLDEN "smollm-9-3.gguf", scratch_dir);
        snprintf(command, sizeof command, "'%s' %s", TL_TAILOR, args);
        const int status = system(command);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), cases[i].code);
        tl_bytes err = read_file(scratch("err"));
        assert_int_equal(n_lines(&err), cases[i].code);
        tl_bytes_free(&err);
    }
}

static void test_task_help(void **state) {
    (void)state;
    struct ran ran = tailor("eval --task help");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out.data, "niah_multikey1"));
    done(&ran);
}

int main(void) {
    if (!program_begin()) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_place),   cmocka_unit_test(test_model_cut_short),
        cmocka_unit_test(test_chat_odd_lines), cmocka_unit_test(test_chat_odd_documents),
        cmocka_unit_test(test_closed_streams), cmocka_unit_test(test_task_help),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
