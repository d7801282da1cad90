/* The program as a user meets it: exit codes, what goes to which stream, the command line contract
 * of docs/architecture.md. Each case runs the built binary. Values are checked against the
 * committed goldens, which other programs made. */
#include "core/backend.h"
#include "program.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

static void test_usage_errors(void **state) {
    (void)state;
    expect_error("sing", 2, "unknown command 'sing'");
    expect_error("run", 2, "needs -m");
    expect_error("run -m x", 2, "-p TEXT");
    expect_error("run -m x -p y -f z", 2, "one of");
    expect_error("run -m x -p y --colour", 2, "unknown option '--colour'");
    expect_error("run -m x -p y -n", 2, "a value is missing");
    expect_error("run -m x -p y -n -3", 2, "not a valid number");
    expect_error("run -m x -p y -n 12x", 2, "not a valid number");
    expect_error("run -m x -p y -c 99999999999999999999", 2, "not a valid number");
    expect_error("run -m x -p y --temp nan", 2, "not a valid number");
    expect_error("run -m x -p y --top-p 1.5", 2, "between 0 and 1");
    expect_error("run -m x -p y --json=yes", 2, "takes no value");
    expect_error("run -m x -p y --window 3", 2, "two numbers");
    expect_error("run -m x -p y --device-mem lots", 2, "a size");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids '1 x'", 2, "not a list");
    expect_error("tokenize -m x --lines0 -p y", 2, "needs");
    expect_error("template --template x", 2, "--messages");
    expect_error("bench -m x --depth 1,b", 2, "not a list");
    expect_error("chat -m x -f -", 2, "standard input");
    expect_error("eval -m x", 2, "--task LIST");
    expect_error("eval -m x --task juggling", 2, "none of all, ppl, kld, niah_single");
    expect_error("eval -m x --task ppl --ctx 64,many", 2, "not a list");
    expect_error("eval -m x --task ppl --ctx 64,0", 2, "not a list");
    expect_error("eval -m x --task ppl --kv ,", 2, "presets");
    expect_error("eval -m x --task ppl --kv full,abacus", 2, "abacus");
    expect_error("info", 2, "-m MODEL");
}

static void test_failures(void **state) {
    (void)state;
    expect_error("eval -m /nonexistent.gguf --task ppl", 1, "/nonexistent.gguf");
    expect_error("eval -m x --task ppl --text /nonexistent.txt", 1, "/nonexistent.txt");
    expect_error("eval -m x --task ppl --text /dev/null", 1, "no words");
    expect_error("eval -m x --tasks-file /nonexistent.jsonl", 1, "/nonexistent.jsonl");
    expect_error("eval -m " GOLDEN "smollm-9-3.gguf --task vt --ctx 90", 1, "more than 90 tokens");
    expect_error("run -m /nonexistent.gguf -p y", 1, "/nonexistent.gguf");
    expect_error("info -m /tmp", 1, "/tmp");
    expect_error("run -m /etc/passwd -p y", 1, "/etc/passwd");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -f /nonexistent.txt", 1, "nonexistent.txt");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -p y --kv abacus", 1, "abacus");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -p y --kv tailor --topk 0", 1, "topk");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -p y --kv /etc/passwd", 1, "/etc/passwd");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 1 -c 400 --device-mem 100KiB", 1,
                 "more than there is");
    /* The budget holds for every preset, not for the first alone. */
    expect_error("bench -m " TL_SOURCE_DIR
                 "/models/demo.gguf --kv kivi2,full -c 16384 --depth 64 -n 2"
                 " --prefill 0 --json --device-mem 60MiB",
                 1, "more than there is");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 4000000000", 1, "4000000000");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids '1 2 3 4 5' -c 4", 1, "5 tokens");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 1 --backend abacus", 1, "abacus");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 1 --backend cpu --device 7", 1, "7");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 1 --device 7", 1, "auto has no device 7");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 1 --kv /tmp", 1, "/tmp: Is a directory");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -f /dev/zero", 1, "/dev/zero: File too large");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf --ids 1 -n 0 --logits /nonexistent/x", 1,
                 "/nonexistent/x");
    expect_error("template --template /nonexistent --messages /nonexistent", 1, "/nonexistent");
    expect_error("tokenize -m " GOLDEN "smollm-9-3.gguf --decode 4000000000", 1, "4000000000");
}

static void test_help_and_version(void **state) {
    (void)state;
    struct ran ran = tailor("--version");
    assert_int_equal(ran.code, 0);
    assert_string_equal(ran.out.data, "tailor " TL_VERSION "\n");
    done(&ran);
    static const char *const asked[] = {"run --help", "help run", "--help run"};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        ran = tailor(asked[i]);
        assert_int_equal(ran.code, 0);
        assert_non_null(strstr(ran.out.data, "--n-predict"));
        assert_int_equal(ran.err.len, 0);
        done(&ran);
    }
    ran = tailor("devices --json");
    assert_int_equal(ran.code, 0);
    json_t *const devices = json_loads(ran.out.data, 0, NULL);
    assert_true(json_array_size(json_object_get(devices, "devices")) > 0);
    json_decref(devices);
    done(&ran);
}

/* Joins "1 2 3" from a JSON list. */
static void join_ids(const json_t *list, char *out, size_t cap) {
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(list); i++) {
        at += (size_t)snprintf(out + at, cap - at, "%s%d", i > 0 ? " " : "",
                               (int)json_integer_value(json_array_get(list, i)));
        assert_true(at < cap);
    }
}

/* Goal: `run --ids --logits --prefill --json` gives the golden's continuation, a logits file with a
 * row for each token, and every field of the contract. */
static void test_run_json(void **state) {
    (void)state;
    tl_bytes text = read_file(GOLDEN "qwen2-14-2.ids.json");
    json_t *const golden = json_loads(text.data, 0, NULL);
    tl_bytes_free(&text);
    assert_non_null(golden);
    const json_t *const ids = json_object_get(golden, "ids");
    const json_t *const want = json_object_get(golden, "greedy_ids");
    char joined[2048], args[4096];
    join_ids(ids, joined, sizeof joined);
    snprintf(args, sizeof args,
             "run -m " GOLDEN "qwen2-14-2.gguf --ids '%s' --prefill 7 -n 4 --temp 0 --ignore-eos "
             "--json --logits %s",
             joined, scratch("logits"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    assert_int_equal(n_lines(&ran.out), 1);
    json_t *const got = json_loads(ran.out.data, 0, NULL);
    assert_non_null(got);
    static const char *const fields[] = {
        "text",       "tokens",        "prompt_tokens", "generated_tokens",
        "prefill_ms", "decode_ms",     "backend",       "device",
        "kv",         "memory",        "traffic",       "logits_hash",
        "layers",     "stop",          "kernels",       "ctx",
        "seed",       "resumed_tokens"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (json_object_get(got, fields[i]) == NULL) {
            fail_msg("no field %s", fields[i]);
        }
    }
    const json_t *const tokens = json_object_get(got, "tokens");
    assert_int_equal(json_array_size(tokens), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(json_integer_value(json_array_get(tokens, i)),
                         json_integer_value(json_array_get(want, i)));
    }
    assert_int_equal(json_integer_value(json_object_get(got, "prompt_tokens")),
                     json_array_size(ids));
    struct stat st;
    assert_int_equal(stat(scratch("logits"), &st), 0);
    const json_int_t n_vocab = json_integer_value(json_object_get(golden, "n_vocab"));
    assert_int_equal(st.st_size, (json_int_t)json_array_size(ids) * n_vocab * 4);
    json_decref(got);
    json_decref(golden);
    done(&ran);
}

/* Goal: a seed makes sampling repeatable, and text mode prints the text that JSON mode says. */
static void test_run_repeatable(void **state) {
    (void)state;
    const char *const args = "run -m " GOLDEN "smollm-9-3.gguf --ids '1 5 9' -n 12 --seed 3";
    struct ran a = tailor(args), b = tailor(args);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.out.len, b.out.len);
    assert_memory_equal(a.out.data, b.out.data, a.out.len);
    /* No terminal: nothing but the text, and that a card was looked for where the build has a use
     * for one. */
    const bool alone = strcmp(tl_backends[0]->name, "cpu") == 0;
    assert_int_equal(n_lines(&a.err), alone ? 0 : 1);
    assert_true(alone || strstr(a.err.data, "no hardware device here, the CPU computes") != NULL);
    struct ran named =
        tailor("run --backend cpu -m " GOLDEN "smollm-9-3.gguf --ids '1 5 9' -n 12 --seed 3");
    assert_int_equal(named.err.len, 0);
    done(&named);
    struct ran c = tailor("run -m " GOLDEN "smollm-9-3.gguf --ids '1 5 9' -n 12 --seed 3 --json");
    json_t *const json = json_loadb(c.out.data, c.out.len, JSON_ALLOW_NUL, NULL);
    const json_t *const text = json_object_get(json, "text");
    assert_int_equal(json_string_length(text), a.out.len);
    assert_memory_equal(json_string_value(text), a.out.data, a.out.len);
    json_decref(json);
    done(&a);
    done(&b);
    done(&c);
}

/* Goal: ids and text through every door of `tokenize` agree. */
static void test_tokenize(void **state) {
    (void)state;
    static const char texts[] = "one two\0\0three\n";
    write_file(scratch("texts"), texts, sizeof texts - 1);
    char args[1024];
    snprintf(args, sizeof args, "tokenize -m " GOLDEN "smollm-9-3.gguf --lines0 -f %s",
             scratch("texts"));
    struct ran lines = tailor(args);
    assert_int_equal(lines.code, 0);
    assert_int_equal(n_lines(&lines.out), 3);
    struct ran plain = tailor("tokenize -m " GOLDEN "smollm-9-3.gguf -p 'one two'");
    assert_int_equal(plain.code, 0);
    json_t *const first = json_loadb(lines.out.data, strcspn(lines.out.data, "\n"), 0, NULL);
    char joined[1024];
    join_ids(json_object_get(first, "ids"), joined, sizeof joined);
    json_decref(first);
    assert_int_equal(plain.out.len, strlen(joined) + 1);
    assert_memory_equal(plain.out.data, joined, strlen(joined));
    char decode[2048];
    snprintf(decode, sizeof decode, "tokenize -m " GOLDEN "smollm-9-3.gguf --decode '%s'", joined);
    struct ran back = tailor(decode);
    assert_string_equal(back.out.data, "one two");
    done(&lines);
    done(&plain);
    done(&back);
}

static void test_template(void **state) {
    (void)state;
    static const char template[] =
        "{% for m in messages %}[{{ m.role }}] {{ m['content'] | trim }}{{ eos_token }}\n"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    static const char messages[] = "{\"messages\": [{\"role\": \"user\", \"content\": \" hi \"}], "
                                   "\"eos_token\": \"<e>\"}";
    write_file(scratch("t.jinja"), template, strlen(template));
    write_file(scratch("m.json"), messages, strlen(messages));
    char args[1024];
    char template_path[256];
    snprintf(template_path, sizeof template_path, "%s", scratch("t.jinja"));
    snprintf(args, sizeof args, "template --template %s --messages %s --add-generation-prompt",
             template_path, scratch("m.json"));
    struct ran ran = tailor(args);
    assert_string_equal(ran.out.data, "[user] hi<e>\n[assistant]");
    assert_int_equal(ran.code, 0);
    done(&ran);
}

/* Goal: chat in line mode answers each line of its input and leaves at the end of it; a command
 * that does not exist is said so and costs nothing. */
static void test_chat_lines(void **state) {
    (void)state;
    write_file(scratch("said"), "hello\n/nonsense\n/context\nagain\n", 31);
    char args[1024];
    snprintf(args, sizeof args,
             "chat -m " GOLDEN "smollm-9-3.gguf -n 5 --temp 0 --ignore-eos -c 200 <%s",
             scratch("said"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.err.data, "/nonsense: no such command"));
    assert_non_null(strstr(ran.out.data, " of 200 tokens"));
    done(&ran);
}

/* Goal: every command of a chat answers or says why not, and leaves a conversation that goes on;
 * what is saved is a conversation that other commands read. */
static void test_chat_commands(void **state) {
    (void)state;
    char args[1024];
    static const char say[] =
        "Hello\n/regen\n/continue\n/context\n/stats\n/fork\nmore\n/fork 1\n/fork 7\n/undo\n/undo\n"
        "/set temp 0\n/set parameter top_k 5\n/set temp hot\n/kv q8\n/kv abacus\n/system Be "
        "brief.\n"
        "Hi\n/save %s/talk.json\n/export %s/talk.md\n/new\n/load %s/talk.json\n/context\n"
        "/edit Hi there\n/edit\n/read /nonexistent\n/read %s/talk.md\n/read -\n/copy\n"
        "/model /nonexistent\n/load /etc/passwd\n/look\n/look 99\n/dance\n/quit\nnever read\n";
    char text[2048];
    const int n =
        snprintf(text, sizeof text, say, scratch_dir, scratch_dir, scratch_dir, scratch_dir);
    write_file(scratch("say"), text, (size_t)n);
    snprintf(args, sizeof args,
             "chat -m " GOLDEN "smollm-9-3.gguf -n 3 --temp 0 --ignore-eos -c 400 <%s",
             scratch("say"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    static const char *const said[] = {"of 400 tokens",
                                       "this is branch 2 now",
                                       "branch 1 of 2",
                                       "answer are taken back",
                                       "there is nothing to take back",
                                       "temp 0, top-k 5",
                                       "the cache is q8 now",
                                       "a new conversation under",
                                       "saved: 3 messages",
                                       "written: ",
                                       "talk.json: 3 messages",
                                       "no document waits",
                                       "3 messages"};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        if (strstr(ran.out.data, said[i]) == NULL) {
            fail_msg("no '%s' in: %s", said[i], ran.out.data);
        }
    }
    static const char *const failed[] = {
        "/fork: branches are 1 to 2", "/set: temp is a number", "abacus",
        "/edit: the new text",        "/nonexistent",           "/copy: the output",
        "is no saved conversation",   "/look: layers are 0 to", "/dance: no such command"};
    for (size_t i = 0; i < sizeof failed / sizeof failed[0]; i++) {
        if (strstr(ran.err.data, failed[i]) == NULL) {
            fail_msg("no '%s' in: %s", failed[i], ran.err.data);
        }
    }
    done(&ran);
    /* What was saved is messages for a template, too. */
    snprintf(args, sizeof args,
             "template -m " TL_SOURCE_DIR "/models/demo.gguf --messages %s/talk.json", scratch_dir);
    ran = tailor(args);
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out.data, "Be brief."));
    done(&ran);
    tl_bytes markdown = read_file(scratch("talk.md"));
    assert_non_null(strstr(markdown.data, "## System\n\nBe brief.\n\n## You\n\nHi\n\n## Model\n"));
    tl_bytes_free(&markdown);
}

/* Goal: a conversation that does not fit is refused with the numbers, nothing is cut. */
static void test_chat_full(void **state) {
    (void)state;
    write_file(scratch("said"), "a b c d e f g h i j k l m n o p q r s t u v w x y z\n", 52);
    char args[1024];
    snprintf(args, sizeof args, "chat -m " GOLDEN "smollm-9-3.gguf -n 5 --temp 0 -c 8 <%s",
             scratch("said"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.err.data, "the conversation is too long: "));
    assert_non_null(strstr(ran.err.data, "the context holds 8"));
    done(&ran);
}

/* `run ARGS --json` on a session file of the scratch folder; the caller frees. */
static json_t *run_session(const char *args) {
    char whole[3072];
    snprintf(whole, sizeof whole,
             "run -m " GOLDEN "smollm-9-3.gguf --session %s/kept --ignore-eos --json %s",
             scratch_dir, args);
    struct ran ran = tailor(whole);
    if (ran.code != 0) {
        fail_msg("%s: exit %d: %s", args, ran.code, ran.err.data);
    }
    assert_int_equal(ran.err.len, 0);
    json_t *const json = json_loadb(ran.out.data, ran.out.len, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    done(&ran);
    return json;
}

static json_int_t number(const json_t *json, const char *key) {
    assert_true(json_is_integer(json_object_get(json, key)));
    return json_integer_value(json_object_get(json, key));
}

static void forget_kept(void) {
    char path[256];
    snprintf(path, sizeof path, "%s/kept", scratch_dir);
    unlink(path);
}

/* Goal: generating in three runs of the program gives the tokens and the text of one run, greedy
 * and sampled, whatever the preset; nothing needs to be said twice. */
static void test_run_session(void **state) {
    (void)state;
    static const char *const how[] = {"--temp 0", "--seed 5 --temp 1.1 --top-k 0"};
    static const char *const kvs[] = {"full", "kivi2", "tailor --topk 20", "offload"};
    char prompt[1024] = "", args[2048];
    for (int i = 1; i <= 200; i++) {
        snprintf(prompt + strlen(prompt), sizeof prompt - strlen(prompt), "%d ", i);
    }
    for (int h = 0; h < 2; h++) {
        for (int k = 0; k < 4; k++) {
            forget_kept();
            snprintf(args, sizeof args, "--ids '%s' -n 60 -c 400 %s --kv %s", prompt, how[h],
                     kvs[k]);
            json_t *const whole = run_session(args);
            forget_kept();
            snprintf(args, sizeof args, "--ids '%s' -n 21 -c 400 %s --kv %s", prompt, how[h],
                     kvs[k]);
            json_t *const parts[] = {run_session(args), run_session("-n 0"), run_session("-n 17"),
                                     run_session("-n 22 -c 300 -t 1")};
            json_t *const tokens = json_array();
            char text[4096]; /* may hold NULs */
            size_t len = 0;
            for (int i = 0; i < 4; i++) {
                json_array_extend(tokens, json_object_get(parts[i], "tokens"));
                const json_t *const part = json_object_get(parts[i], "text");
                assert_true(len + json_string_length(part) <= sizeof text);
                memcpy(text + len, json_string_value(part), json_string_length(part));
                len += json_string_length(part);
            }
            assert_true(json_equal(tokens, json_object_get(whole, "tokens")));
            assert_int_equal(len, json_string_length(json_object_get(whole, "text")));
            assert_memory_equal(text, json_string_value(json_object_get(whole, "text")), len);
            assert_string_equal(json_string_value(json_object_get(parts[3], "logits_hash")),
                                json_string_value(json_object_get(whole, "logits_hash")));
            assert_int_equal(number(whole, "resumed_tokens"), 0);
            assert_int_equal(number(parts[2], "resumed_tokens"), 221);
            assert_int_equal(number(parts[2], "ctx"), 400);
            assert_int_equal(number(parts[3], "ctx"), 300);
            json_decref(tokens);
            json_decref(whole);
            for (int i = 0; i < 4; i++) {
                json_decref(parts[i]);
            }
        }
    }
}

/* Goal: a later prompt goes behind what is there, without another begin token: the same ids in one
 * prompt end in the same logits. */
static void test_run_session_prompt(void **state) {
    (void)state;
    forget_kept();
    json_decref(run_session("--ids '1 5 9 40 41' -n 0 --temp 0"));
    json_t *const cut = run_session("--ids '42 43 44 45' --prefill 0 -n 3");
    struct ran ran = tailor("run -m " GOLDEN "smollm-9-3.gguf --ids '1 5 9 40 41 42 43 44 45' "
                            "--prefill 5 -n 3 --temp 0 --ignore-eos --json");
    json_t *const whole = json_loadb(ran.out.data, ran.out.len, JSON_ALLOW_NUL, NULL);
    assert_true(json_equal(json_object_get(cut, "tokens"), json_object_get(whole, "tokens")));
    assert_int_equal(number(cut, "resumed_tokens"), 5);
    assert_int_equal(number(cut, "prompt_tokens"), 4);
    json_decref(cut);
    json_decref(whole);
    done(&ran);
    json_t *const text = run_session("-p hello -n 2"); /* smollm's file asks for a begin token */
    json_t *const ids = json_object_get(text, "prompt_tokens");
    struct ran plain = tailor("tokenize -m " GOLDEN "smollm-9-3.gguf -p hello --json");
    json_t *const list = json_loads(plain.out.data, 0, NULL);
    assert_int_equal(json_integer_value(ids), json_array_size(json_object_get(list, "ids")));
    json_decref(list);
    json_decref(text);
    done(&plain);
}

#define KEPT "%s/kept"
static void expect_session_error(const char *format, int code, const char *part) {
    char args[1024];
    snprintf(args, sizeof args, format, scratch_dir);
    expect_error(args, code, part);
}

/* Goal: what does not fit is one line and exit 1, and the file is as it was. */
static void test_session_errors(void **state) {
    (void)state;
    forget_kept();
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf --session " KEPT, 2, "one of -p TEXT");
    json_decref(run_session("--ids '1 2 3 4 5' -n 4 --kv tailor --topk 20 --seed 1 -c 300"));
    tl_bytes before = read_file(scratch("kept"));
    expect_session_error("run -m " GOLDEN "qwen3-hd128.gguf -p x --session " KEPT, 1,
                         "another model");
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf --kv q8 -p x --session " KEPT, 1,
                         "--kv tailor --topk 20, not q8 (layer 0");
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf --topk 30 -p x --session " KEPT, 1,
                         "topk 20, not 30");
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf -c 7 -p x --session " KEPT, 1,
                         "holds 8 tokens, the context has room for 7");
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf -c 9 -p 'x y z' --session " KEPT, 1,
                         "too long");
    expect_session_error("chat -m " GOLDEN "smollm-9-3.gguf --session " KEPT, 1,
                         "is a session of tailor run, not of tailor chat");
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session " KEPT "/..", 1, "kept");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session /nonexistent/x", 1,
                 "/nonexistent/x");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session /tmp", 1, "a directory");
    expect_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session " GOLDEN "smollm-9-3.gguf", 1,
                 "is not a session file");
    tl_bytes after = read_file(scratch("kept"));
    assert_int_equal(after.len, before.len);
    assert_memory_equal(after.data, before.data, after.len);
    tl_bytes_free(&after);
    before.data[before.len / 2] ^= 4;
    write_file(scratch("kept"), before.data, before.len);
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session " KEPT, 1, "damaged");
    write_file(scratch("kept"), before.data, before.len / 2);
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session " KEPT, 1, "damaged");
    write_file(scratch("kept"), "", 0);
    expect_session_error("run -m " GOLDEN "smollm-9-3.gguf -p x --session " KEPT, 1, "empty");
    tl_bytes_free(&before);
}

/* What chat says to `said`, with a session file or without. */
static struct ran chat(const char *said, const char *options) {
    write_file(scratch("said"), said, strlen(said));
    char args[1024];
    snprintf(args, sizeof args, "chat -m " GOLDEN "smollm-9-3.gguf -n 9 --ignore-eos %s <%s/said",
             options, scratch_dir);
    return tailor(args);
}

/* Goal: a conversation in two runs of the program is the conversation of one. */
static void test_chat_session(void **state) {
    (void)state;
    char begin[512], go_on[512];
    static const char *const kvs[] = {"full", "kivi1", "tailor"};
    snprintf(go_on, sizeof go_on, "--session %s/kept", scratch_dir);
    for (int k = 0; k < 3; k++) {
        forget_kept();
        snprintf(begin, sizeof begin, "-c 700 --seed 3 --system 'be brief' --kv %s", kvs[k]);
        struct ran whole = chat("hello\nand again\n/regen\nonce more\n", begin);
        snprintf(begin + strlen(begin), sizeof begin - strlen(begin), " --session %s/kept",
                 scratch_dir);
        struct ran first = chat("hello\nand again\n/regen\n", begin);
        struct ran second = chat("once more\n", go_on);
        assert_int_equal(first.code, 0);
        assert_int_equal(second.code, 0);
        const char *const answer = strchr(second.out.data, '\n') + 1; /* behind the note */
        assert_memory_equal(second.out.data, "resumed ", 8);
        assert_non_null(strstr(second.out.data, " tokens, 5 messages from "));
        assert_int_equal(tl_bytes_add_str(&first.out, answer), TL_OK);
        assert_string_equal(first.out.data, whole.out.data);
        struct ran other = chat("x\n", "--system 'be long' --session /dev/null");
        assert_int_equal(other.code, 1);
        done(&other);
        snprintf(begin, sizeof begin, "--system 'be long' --session %s/kept", scratch_dir);
        other = chat("x\n", begin);
        assert_int_equal(other.code, 1);
        assert_non_null(strstr(other.err.data, "another system message"));
        done(&other);
        done(&whole);
        done(&first);
        done(&second);
    }
}

/* The number `key` of the result of `task` and `kv`. */
static double result(const json_t *results, const char *task, const char *kv, const char *key) {
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *const r = json_array_get(results, i);
        if (strcmp(json_string_value(json_object_get(r, "task")), task) == 0 &&
            strcmp(json_string_value(json_object_get(r, "kv")), kv) == 0) {
            assert_true(json_is_number(json_object_get(r, key)));
            return json_number_value(json_object_get(r, key));
        }
    }
    fail_msg("no result of %s for %s", task, kv);
    return 0;
}

/* Goal: `eval` finds no distance of the exact cache from itself and some of a coarse one, and puts
 * the same numbers into JSON as into the table. */
static void test_eval(void **state) {
    (void)state;
    char args[1024];
    snprintf(args, sizeof args,
             "eval -m " GOLDEN "smollm-9-3.gguf --task kld,ppl --ctx 420 -n 60 --kv full,kivi1,q8 "
             "--json --plot %s",
             scratch("eval.svg"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    assert_int_equal(n_lines(&ran.out), 1);
    assert_int_equal(ran.err.len, 0);
    json_t *const json = json_loads(ran.out.data, 0, NULL);
    const json_t *const r = json_object_get(json, "results");
    assert_int_equal(json_array_size(r), 6);
    assert_true(result(r, "kld", "full", "kld_max") == 0.0);
    assert_true(result(r, "kld", "full", "top1") == 1.0);
    assert_true(result(r, "kld", "full", "p_difference") == 0.0);
    assert_true(result(r, "kld", "kivi1", "kld_mean") > 0.01);
    const double top1 = result(r, "kld", "kivi1", "top1");
    assert_true(top1 >= 0 && top1 < 1);
    assert_true(result(r, "kld", "kivi1", "kld_p99") <= result(r, "kld", "kivi1", "kld_max"));
    assert_true(result(r, "kld", "q8", "kld_mean") < result(r, "kld", "kivi1", "kld_mean") / 10);
    assert_int_equal((int)result(r, "kld", "q8", "n"), 60);
    assert_true(result(r, "ppl", "q8", "nll") == result(r, "kld", "q8", "nll"));
    json_decref(json);
    done(&ran);
    tl_bytes svg = read_file(scratch("eval.svg"));
    assert_int_equal(strncmp(svg.data, "<svg ", 5), 0);
    tl_bytes_free(&svg);
}

/* Goal: where nobody says how rows are kept, contexts with something to save are kept by `tailor`,
 * and so are those of which a knob is given. */
static void test_kv_default(void **state) {
    (void)state;
    static const struct {
        const char *options, *kv;
    } cases[] = {{"-c 4096", "full"},
                 {"-c 4097", "tailor"},
                 {"-c 300 --topk 20", "tailor"},
                 {"-c 300 --kv-set recent=32", "tailor"},
                 {"-c 5000 --kv full", "full"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char args[512], expected[32];
        snprintf(args, sizeof args,
                 "run -m " TL_SOURCE_DIR "/models/demo.gguf -p Hello -n 1 --json %s",
                 cases[i].options);
        snprintf(expected, sizeof expected, "\"kv\":\"%s\"", cases[i].kv);
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 0);
        assert_non_null(strstr(ran.out.data, expected));
        done(&ran);
    }
    struct ran help = tailor("run --kv help");
    assert_int_equal(help.code, 0);
    assert_non_null(strstr(help.out.data, "tailor2"));
    assert_non_null(strstr(help.out.data, "k_codec"));
    done(&help);
}

/* Goal: who keeps rows by codebooks that come with the program is told, wherever its words go; who
 * does not is not. */
static void test_kv_codebooks(void **state) {
    (void)state;
    static const char *const said =
        "codebooks: built in, for 6 of 6 layers (tailor fit learns those";
    static const struct {
        const char *args;
        bool is_said;
    } cases[] = {
        {"run -m %s -c 300 -p Hello -n 1 --kv vecinfer2", true},
        {"run -m %s -c 300 -p Hello -n 1 --kv q4 --kv-set v_codec=vq-d8b12", true},
        {"run -m %s -c 300 -p Hello -n 1 --kv kivi2", false},
        {"chat -m %s -c 300 --plain --kv vecinfer1 </dev/null", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char args[512];
        snprintf(args, sizeof args, cases[i].args, TL_SOURCE_DIR "/models/demo.gguf");
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 0);
        assert_true((ran.err.len > 0 && strstr(ran.err.data, said) != NULL) == cases[i].is_said);
        done(&ran);
    }
    static const char commands[] = "/kv vecinfer2\n/kv\n";
    write_file(scratch("kv.txt"), commands, sizeof commands - 1);
    char args[512];
    snprintf(args, sizeof args, "chat -m %s -c 300 --plain < %s", TL_SOURCE_DIR "/models/demo.gguf",
             scratch("kv.txt"));
    struct ran kv = tailor(args);
    assert_int_equal(kv.code, 0);
    const char *const first = kv.out.len > 0 ? strstr(kv.out.data, said) : NULL;
    assert_true(first != NULL &&
                strstr(first + 1, said) != NULL); /* when it changes, and when asked */
    done(&kv);
}

/* Goal: a picture takes no place of a file that is none of ours, and a place that cannot be written
 * is named before the work begins. */
static void test_eval_plot_place(void **state) {
    (void)state;
    write_file(scratch("model.gguf"), "GGUF precious", 13);
    char model[256];
    snprintf(model, sizeof model, "%s", scratch("model.gguf"));
    const char *const places[] = {model, "/no/such/place.svg"};
    for (size_t i = 0; i < 2; i++) {
        char args[1024];
        snprintf(args, sizeof args,
                 "eval -m " GOLDEN "smollm-9-3.gguf --task ppl --ctx 420 --kv full --plot %s",
                 places[i]);
        struct ran ran = tailor(args);
        assert_int_equal(ran.code, 1);
        assert_int_equal(ran.out.len, 0);
        assert_int_equal(n_lines(&ran.err), 1);
        assert_non_null(strstr(ran.err.data, places[i]));
        done(&ran);
    }
    tl_bytes kept = read_file(model);
    assert_int_equal(kept.len, 13);
    tl_bytes_free(&kept);
}

/* Goal: tasks from a file are asked where they fit, scored by the file's answers, and chosen by
 * name. The model babbles: any letter is an answer that it can be expected to give. */
static void test_eval_file(void **state) {
    (void)state;
    static const char tasks[] =
        "{\"task\": \"easy\", \"input\": \"say\", \"outputs\": [\"a\", \"e\", \"i\", \"o\", "
        "\"u\", \"n\", \"t\", \"s\", \"r\", \"0\", \"1\", \"2\"], \"match\": \"any\"}\n\n"
        "{\"task\": \"hard\", \"input\": \"say\", \"outputs\": [\"no such words\"]}\n";
    write_file(scratch("tasks.jsonl"), tasks, strlen(tasks));
    char args[1024];
    snprintf(args, sizeof args,
             "eval -m " GOLDEN "smollm-9-3.gguf --tasks-file %s --ctx 16,512 --kv full,q4 -n 200 "
             "--json",
             scratch("tasks.jsonl"));
    struct ran ran = tailor(args);
    assert_int_equal(ran.code, 0);
    json_t *const json = json_loads(ran.out.data, 0, NULL);
    const json_t *const r = json_object_get(json, "results");
    assert_int_equal(json_array_size(r), 4); /* nothing fits 16 tokens */
    assert_true(result(r, "easy", "full", "score") == 1.0);
    assert_true(result(r, "hard", "full", "score") == 0.0);
    assert_int_equal((int)result(r, "hard", "q4", "ctx"), 512);
    json_decref(json);
    done(&ran);
    static const char list[] = "[{\"input\": \"say\", \"answer\": \"a\"},\n"
                               " {\"input\": \"say it again\", \"answer\": \"a\"}]";
    write_file(scratch("niah.v2.json"), list, strlen(list));
    snprintf(args, sizeof args, "eval -m " GOLDEN "smollm-9-3.gguf --tasks-file %s --ctx 2 --json",
             scratch("niah.v2.json"));
    ran = tailor(args);
    assert_int_equal(ran.code, 1); /* nothing was measured */
    assert_non_null(
        strstr(ran.err.data, "niah: none of its tasks fits 2 tokens, the shortest takes "));
    done(&ran);
    snprintf(args, sizeof args, "eval -m x --tasks-file %s --task easy,medium",
             scratch("tasks.jsonl"));
    expect_error(args, 2, "no 'medium'");
    write_file(scratch("tasks.jsonl"), "{}\n", 3);
    snprintf(args, sizeof args, "eval -m x --tasks-file %s", scratch("tasks.jsonl"));
    expect_error(args, 1, "line 1");
}

/* Goal: every prefix of a model file is one line of error through the program too. */
static void test_truncated_model(void **state) {
    (void)state;
    tl_bytes model = read_file(GOLDEN "llama-hd128-yarn-params.gguf");
    struct tl_rng rng = {5};
    for (int i = 0; i < 40; i++) {
        const size_t n = i < 10 ? (size_t)i * 7 : (size_t)rng_below(&rng, model.len);
        write_file(scratch("cut.gguf"), model.data, n);
        char args[512];
        snprintf(args, sizeof args, "run -m %s --ids 1 -n 1", scratch("cut.gguf"));
        expect_error(args, 1, "cut.gguf");
    }
    tl_bytes_free(&model);
}

static void test_full_disk(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    char command[1024];
    snprintf(command, sizeof command,
             "'%s' run -m " GOLDEN "smollm-9-3.gguf --ids '1 2' -n 8 --temp 0 --ignore-eos "
             ">/dev/full 2>%s",
             TL_TAILOR, scratch("err"));
    const int status = system(command);
    assert_int_equal(WEXITSTATUS(status), 1);
    tl_bytes err = read_file(scratch("err"));
    assert_int_equal(n_lines(&err), 1);
    tl_bytes_free(&err);
}

int main(void) {
    if (!program_begin()) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_errors),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_run_json),
        cmocka_unit_test(test_run_repeatable),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_template),
        cmocka_unit_test(test_chat_lines),
        cmocka_unit_test(test_chat_commands),
        cmocka_unit_test(test_chat_full),
        cmocka_unit_test(test_truncated_model),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_eval),
        cmocka_unit_test(test_kv_default),
        cmocka_unit_test(test_kv_codebooks),
        cmocka_unit_test(test_eval_plot_place),
        cmocka_unit_test(test_eval_file),
        cmocka_unit_test(test_run_session),
        cmocka_unit_test(test_run_session_prompt),
        cmocka_unit_test(test_session_errors),
        cmocka_unit_test(test_chat_session),
    };
    return program_end(cmocka_run_group_tests(tests, NULL, NULL));
}
