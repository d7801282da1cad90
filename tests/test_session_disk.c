/* Session files against the world: other processes, full disks, death in the middle of a write, no
 * memory. Whatever happens, the file is the old one or the new one, whole. */
#include "heap.h"
#include "session_kept.h"
#include "session_walk.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GOLDEN TL_SOURCE_DIR "/tests/golden/"

/* Goal: one holder at a time; the lock leaves nothing behind, nor do writers that were killed; a
 * symbolic link stays one. */
static void test_lock(void **state) {
    (void)state;
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    char path[256], link[256], name[512];
    snprintf(path, sizeof path, "%s", kept_path("locked"));
    snprintf(link, sizeof link, "%s", kept_path("link"));
    tl_session_lock *a = NULL, *b = NULL;
    assert_int_equal(tl_session_lock_open(&a, path, &log), TL_OK);
    assert_false(tl_session_lock_has_file(a));
    assert_int_equal(symlink("locked", link), 0);
    assert_int_equal(tl_session_lock_open(&b, link, &log), TL_ERR_IO);
    assert_non_null(strstr(kept.sentence, "another process is using this session"));
    assert_null(b);
    tl_session_lock_close(&a);
    snprintf(name, sizeof name, "%s.lock", path);
    assert_int_not_equal(access(name, F_OK), 0);

    snprintf(name, sizeof name, "%s.tmp", path);
    FILE *const left = fopen(name, "wb");
    assert_non_null(left);
    fclose(left);
    struct kept f;
    kept_open(&f, GOLDEN "smollm-9-3.gguf", "q8");
    tl_session *s = kept_session(&f, 100);
    kept_feed(s, f.ids, 20);
    kept_save(s, link, "");
    assert_int_not_equal(access(name, F_OK), 0);
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(chmod(path, 0640), 0);
    kept_save(s, path, "");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    tl_session_close(&s);
    tl_engine_close(&f.engine);
    assert_int_equal(tl_session_lock_open(&a, "/tmp", &log), TL_ERR_IO);
    assert_int_equal(tl_session_lock_open(&a, "/nonexistent/file", &log), TL_ERR_IO);
    assert_int_equal(kept.n_errors, 3);
}

/* Goal: a write that fails half way (here: a limit on file sizes, as a full disk would) is an error
 * and leaves the old file. */
static void test_no_room(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("room"));
    struct kept f;
    kept_open(&f, GOLDEN "smollm-9-3.gguf", "full");
    tl_session *s = kept_session(&f, KEPT_CTX);
    kept_feed(s, f.ids, 20);
    kept_save(s, path, "old");
    const tl_bytes before = read_file(path);
    kept_feed(s, f.ids + 20, 300);
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    tl_session_lock *lock = NULL;
    assert_int_equal(tl_session_lock_open(&lock, path, &log), TL_OK);
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 8192;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const struct tl_session_save what = {.kv = "test", .app = tl_str_from("new")};
    const tl_err err = tl_session_save(s, lock, &what);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(err, TL_ERR_IO);
    assert_non_null(strstr(kept.sentence, "the file is as it was"));
    tl_bytes after = read_file(path);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, after.len);
    tl_bytes_free(&after);
    assert_int_equal(tl_session_save(s, lock, &what), TL_OK);
    after = read_file(path);
    assert_true(after.len > before.len);
    tl_bytes_free(&after);
    tl_bytes old = before;
    tl_bytes_free(&old);
    tl_session_lock_close(&lock);
    tl_session_close(&s);
    tl_engine_close(&f.engine);
}

/* In a child: saves one of two sessions after the other until it is killed. */
static void save_for_ever(tl_session *const s[2], const char *path) {
    static const char *const apps[] = {"first", "second"};
    tl_session_lock *lock = NULL;
    if (tl_session_lock_open(&lock, path, NULL) != TL_OK) {
        _exit(3);
    }
    for (int i = 0;; i = !i) {
        const struct tl_session_save what = {.kv = "test", .app = tl_str_from(apps[i])};
        if (tl_session_save(s[i], lock, &what) != TL_OK) {
            _exit(4);
        }
    }
}

/* Goal: killed at any moment, a writer leaves the old file or the new one, whole. */
static void test_killed(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("killed"));
    struct kept f;
    kept_open(&f, GOLDEN "smollm-9-3.gguf", "kivi2");
    tl_engine_close(&f.engine);
    f.engine = session_walk_engine(); /* one thread, so that a fork has all of it */
    tl_session *s[2] = {kept_session(&f, KEPT_CTX), kept_session(&f, KEPT_CTX)};
    kept_feed(s[0], f.ids, 100);
    kept_feed(s[1], f.ids, 400);
    kept_save(s[0], path, "first");
    struct tl_rng rng = {11};
    unsigned seen[2] = {0};
    for (int round = 0; round < 200; round++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            save_for_ever(s, path);
        }
        const struct timespec nap = {.tv_nsec = (long)rng_below(&rng, 4000000)};
        nanosleep(&nap, NULL);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        tl_bytes file = read_file(path);
        uint32_t n_rows;
        memcpy(&n_rows, file.data + 44, sizeof n_rows);
        assert_true(n_rows == 100 || n_rows == 400);
        seen[n_rows == 400]++;
        assert_true(session_walk((const uint8_t *)file.data, file.len));
        tl_bytes_free(&file);
    }
    print_message("200 killed: %u left the one file, %u the other\n", seen[0], seen[1]);
    tl_session_close(&s[0]);
    tl_session_close(&s[1]);
}

/* Goal: each allocation that fails is an error without a leak, the file that was there stays, and a
 * session that could not be resumed is empty. */
static void test_no_memory(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", kept_path("memory"));
    struct kept f;
    kept_open(&f, GOLDEN "smollm-9-3.gguf", "tailor");
    f.dense = NULL;
    tl_session *s = kept_session(&f, KEPT_CTX), *t = kept_session(&f, KEPT_CTX);
    kept_feed(s, f.ids, 300);
    kept_save(s, path, "old");
    const struct tl_session_save what = {.kv = "test", .app = tl_str_from("new")};
    bool done = false;
    for (uint64_t fail_at = 1; !done; fail_at++) {
        assert_true(fail_at < 1000);
        tl_session_lock *lock = NULL;
        heap_watch(fail_at);
        tl_err err = tl_session_lock_open(&lock, path, NULL);
        err = err ? err : tl_session_save(s, lock, &what);
        tl_session_lock_close(&lock);
        const struct heap_report report = heap_unwatch();
        assert_int_equal(report.n_live, 0);
        done = report.n_allocs < fail_at;
        assert_true((err == TL_OK) == done);
        tl_bytes file = read_file(path);
        assert_true(session_walk((const uint8_t *)file.data, file.len));
        tl_bytes_free(&file);
    }
    done = false;
    for (uint64_t fail_at = 1; !done; fail_at++) {
        assert_true(fail_at < 1000);
        tl_session_lock *lock = NULL;
        tl_session_file *file = NULL;
        heap_watch(fail_at);
        tl_err err = tl_session_lock_open(&lock, path, NULL);
        err = err ? err : tl_session_file_open(&file, lock);
        err = err ? err : tl_session_resume(t, file, "test");
        tl_session_file_close(&file);
        tl_session_lock_close(&lock);
        const struct heap_report report = heap_unwatch();
        assert_int_equal(report.n_live, 0);
        done = report.n_allocs < fail_at;
        assert_true((err == TL_OK) == done);
        assert_int_equal(tl_session_n(t), done ? 300 : 0);
    }
    kept_expect_same(&f, s, t, "after failures");
    tl_session_close(&s);
    tl_session_close(&t);
    tl_engine_close(&f.engine);
}

static int run(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) { return kept_main(run); }
