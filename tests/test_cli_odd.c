/* The program among odd files, names and lines: what it must not write over, what changes while it
 * is used, what no line of a message is. */
#include "program.h"

#include <jansson.h>
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
    static const char said[] =
        "/context\r\nsecret\0 words\n/set seed 1e3\n/set top-k 2.5\n"
        "/set n 0.5\n/set seed 18446744073709551615\n/qq\n/context\r\n/quit\r\n"
        "/dance\n";
    write_file(scratch("said"), said, sizeof said - 1);
    char args[1024];
    snprintf(args, sizeof args, "chat -m " GOLDEN "smollm-9-3.gguf -n 5 -c 200 <%s",
             scratch("said"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    const char *const first = strstr(ran.out.data, "0 of 200 tokens");
    assert_true(first != NULL && strstr(first + 1, "0 of 200 tokens") != NULL);
    assert_non_null(strstr(ran.err.data, "a line with a NUL byte"));
    assert_non_null(strstr(ran.err.data, "/set: seed is a whole number"));
    assert_non_null(strstr(ran.err.data, "top-k is a whole number"));
    assert_non_null(strstr(ran.err.data, "/set: n is a whole number"));
    assert_non_null(strstr(ran.out.data, "seed 18446744073709551615"));
    assert_non_null(strstr(ran.err.data, "/qq: no such command (see /help)"));
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

/* Goal: paths need not be UTF-8: what is JSON of them is still JSON, whole. */
static void test_odd_paths(void **state) {
    (void)state;
    static const struct {
        const char *args, *key;
    } cases[] = {{"run -m %s/m.gguf --ids '5 6' -n 1 --kv %s/p.json --json", "kv"},
                 {"info -m %s/m.gguf --json", "file"},
                 {"bench -m %s/m.gguf --kv %s/p.json --prefill 4 -n 2 --json 2>/dev/null", "model"},
                 {"eval -m %s/m.gguf --kv full,%s/p.json --task ppl --ctx 64 --json", "model"},
                 {"chat -m %s/m.gguf --kv %s/p.json -c 200 <%s 2>/dev/null", NULL}};
    char folder[128], path[256], say[256], args[1024];
    snprintf(folder, sizeof folder, "%s/caf\xe9", scratch_dir);
    assert_int_equal(mkdir(folder, 0755), 0);
    tl_bytes model = read_file(GOLDEN "smollm-9-3.gguf");
    static const char policy[] = "{\"tailor_policy\": 1, \"preset\": \"q8\"}";
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    write_file(path, model.data, model.len);
    tl_bytes_free(&model);
    snprintf(path, sizeof path, "%s/p.json", folder);
    write_file(path, policy, sizeof policy - 1);
    snprintf(path, sizeof path, "%s/talk.json", scratch_dir);
    const int n = snprintf(say, sizeof say, "/system be brief\n/save %s\n", path);
    write_file(scratch("say"), say, (size_t)n);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(args, sizeof args, cases[i].args, folder, folder, scratch("say"));
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 0);
        if (cases[i].key == NULL) {
            done(&ran);
            ran.out = read_file(path);
        }
        json_t *const json = json_loadb(ran.out.data, ran.out.len, 0, NULL);
        const char *const text =
            json_string_value(json_object_get(json, cases[i].key != NULL ? cases[i].key : "model"));
        assert_non_null(text);
        assert_non_null(strstr(text, "/caf?/"));
        const json_t *const results = json_object_get(json, "results");
        assert_true(results == NULL || json_array_size(results) == 2);
        json_decref(json);
        done(&ran);
    }
}

/* Goal: tasks of a file are told apart by their whole names, whatever is in them. */
static void test_long_task_names(void **state) {
    (void)state;
    char name[3][128], tasks[2048], args[1024];
    memset(name, 'n', sizeof name);
    memcpy(name[1], "x", 1);
    for (size_t i = 1; i + 2 < sizeof name[0]; i += 2) {
        memcpy(name[2] + i, "\xc3\xa9", 2);
    }
    int n = 0;
    for (size_t i = 0; i < 3; i++) {
        name[i][121] = '\0';
        n += snprintf(tasks + n, sizeof tasks - (size_t)n,
                      "{\"task\": \"%s%zu\", \"input\": \"a\", \"outputs\": [\"b\"]}\n",
                      name[i == 0 ? 0 : i - 1], i);
    }
    n += snprintf(tasks + n, sizeof tasks - (size_t)n,
                  "{\"task\": \"%s\\u001b[31m\", \"input\": \"a\", \"outputs\": [\"b\"]}\n",
                  name[2]);
    write_file(scratch("tasks"), tasks, (size_t)n);
    snprintf(args, sizeof args,
             "eval -m " GOLDEN "smollm-9-3.gguf --kv full -n 1 --ctx 99 --tasks-file %s --json",
             scratch("tasks"));
    struct ran ran = tailor(args);
    json_t *const json = json_loadb(ran.out.data, ran.out.len, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "results")), 4);
    json_decref(json);
    done(&ran);
    args[strlen(args) - strlen("--json")] = '\0';
    ran = tailor(args);
    assert_int_equal(n_lines(&ran.out), 5);
    assert_null(strchr(ran.out.data, '\033'));
    assert_non_null(strstr(ran.out.data, "?[31m"));
    done(&ran);
}

/* Goal: what is wrong is said before anything is measured, and one place is not written twice. */
static void test_odd_arguments(void **state) {
    (void)state;
    char args[1024], text[4096];
    expect_error("bench -m " GOLDEN "smollm-9-3.gguf --kv full,abacus", 2, "abacus");
    expect_error("bench -m " GOLDEN "smollm-9-3.gguf --kv ,", 2, "names no preset");
    expect_error("plan -m llama-3.1-8b --gpu 3090 --kv ,", 1, "names no preset");
    expect_error("top 1 2", 2, "'2'");
    expect_error("devices x", 2, "'x' (see");
    memset(text, 'x', sizeof text);
    write_file(scratch("text"), text, sizeof text);
    snprintf(args, sizeof args, "fit -m " GOLDEN "smollm-9-3.gguf -f %s -o %s.p --plot %s.p",
             scratch("text"), scratch_dir, scratch_dir);
    expect_error(args, 1, "cannot be one file");
    static const char said[] = "\"\"\"one\ntwo\n";
    write_file(scratch("said"), said, sizeof said - 1);
    snprintf(args, sizeof args, "chat --backend cpu -m " TL_SOURCE_DIR "/models/demo.gguf <%s",
             scratch("said"));
    expect_error(args, 0, "has no end and is left out");
    memset(text, 'k', sizeof text);
    snprintf(args, sizeof args, "bench -m x --kv %.600s", text);
    expect_error(args, 2, "too long a list");
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
        cmocka_unit_test(test_logits_place),    cmocka_unit_test(test_model_cut_short),
        cmocka_unit_test(test_chat_odd_lines),  cmocka_unit_test(test_chat_odd_documents),
        cmocka_unit_test(test_closed_streams),  cmocka_unit_test(test_odd_paths),
        cmocka_unit_test(test_long_task_names), cmocka_unit_test(test_odd_arguments),
        cmocka_unit_test(test_task_help),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
