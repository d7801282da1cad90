/* Goal: a question that `tailor eval` asks has the answer that it expects, and no other. Method:
 * each text is read again here, by other means than it was made, and the answer is derived from
 * what stands in it. Numbers of divergences and scores are worked out by hand. */
#include "cli/eval_report.h"
#include "cli/eval_score.h"
#include "cli/eval_tasks.h"
#include "heap.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS_MAX = 20000 };

/* What a text says: a name and its value, or a word and its count. */
struct pair {
    char name[48], value[48];
    unsigned count;
};
struct pairs {
    struct pair *list;
    unsigned n;
};

static struct pairs new_pairs(void) {
    return (struct pairs){.list = calloc(PAIRS_MAX, sizeof(struct pair))};
}

static struct pair *find(struct pairs *p, const char *name) {
    for (unsigned i = 0; i < p->n; i++) {
        if (strcmp(p->list[i].name, name) == 0) {
            return &p->list[i];
        }
    }
    return NULL;
}

static struct pair *append(struct pairs *p, const char *name, const char *value) {
    assert_true(p->n < PAIRS_MAX);
    struct pair *const pair = &p->list[p->n++];
    snprintf(pair->name, sizeof pair->name, "%s", name);
    snprintf(pair->value, sizeof pair->value, "%s", value);
    pair->count = 1;
    return pair;
}

static void count_word(struct pairs *p, const char *word) {
    struct pair *const pair = find(p, word);
    if (pair != NULL) {
        pair->count++;
    } else {
        append(p, word, "");
    }
}

static struct cli_task make(const char *kind, uint64_t seed, double depth, uint32_t n_units) {
    static const struct cli_filler built_in;
    struct cli_task task = {0};
    const struct cli_task_params params = {.kind = cli_task_kind_find(kind),
                                           .filler = &built_in,
                                           .seed = seed,
                                           .depth = depth,
                                           .n_units = n_units};
    assert_non_null(params.kind);
    assert_int_equal(cli_task_make(&task, &params), TL_OK);
    assert_string_equal(task.name.data, kind);
    return task;
}

static bool expects(const struct cli_task *task, const char *text) {
    for (uint32_t i = 0; i < task->n_expected; i++) {
        if (strcmp(cli_task_expected(task, i), text) == 0) {
            return true;
        }
    }
    return false;
}

static unsigned n_times(const char *text, const char *part) {
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++) {
        n++;
    }
    return n;
}

/* ---- each kind ---- */

/* All "One of the magic WHATs of NAME is VALUE." */
static struct pairs read_needles(const char *text, const char *what) {
    struct pairs pairs = new_pairs();
    char format[64];
    snprintf(format, sizeof format, "One of the magic %ss of %%47s is %%47[0-9a-f-].", what);
    for (const char *at = text; (at = strstr(at, "One of the magic ")) != NULL; at++) {
        char name[48], value[48];
        assert_int_equal(sscanf(at, format, name, value), 2);
        append(&pairs, name, value);
    }
    return pairs;
}

static void check_needles(const char *kind, const char *what, unsigned n_needles,
                          unsigned n_expected, uint64_t seed, uint32_t n_units) {
    struct cli_task task = make(kind, seed, (double)(seed % 11) / 10, n_units);
    struct pairs needles = read_needles(task.input.data, what);
    const char *const question = strrchr(task.input.data, '\n') + 1;
    unsigned n_asked = 0;
    assert_int_equal(needles.n, n_needles);
    assert_int_equal(task.n_expected, n_expected);
    assert_false(task.any);
    for (unsigned i = 0; i < needles.n; i++) {
        const bool asked = strstr(question, needles.list[i].name) != NULL;
        const bool in_start = strstr(task.start.data, needles.list[i].name) != NULL;
        if (asked != expects(&task, needles.list[i].value) || asked != in_start) {
            fail_msg("%s seed %d: %s is %s", kind, (int)seed, needles.list[i].name,
                     asked ? "asked for, its value not expected" : "expected, not asked for");
        }
        n_asked += asked;
    }
    assert_int_equal(n_asked, n_expected);
    free(needles.list);
    cli_task_free(&task);
}

static void test_needles(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        const uint32_t n = (uint32_t)(seed * seed);
        check_needles("niah_single", "number", 1, 1, seed, n);
        check_needles("niah_single1", "number", 1, 1, seed, n);
        check_needles("niah_single2", "number", 1, 1, seed, n);
        check_needles("niah_single3", "id", 1, 1, seed, n);
        check_needles("niah_multikey1", "number", 4, 1, seed, n);
        check_needles("niah_multikey2", "number", n + 1, 1, seed, n + 1);
        check_needles("niah_multikey3", "id", n + 1, 1, seed, n + 1);
        check_needles("niah_multivalue", "number", 4, 4, seed, n);
        check_needles("niah_multiquery", "number", 4, 4, seed, n);
    }
}

/* Assignments in the order in which they stand; a variable's value is that of what it was assigned.
 */
static void check_tracking(const char *kind, unsigned hops, uint64_t seed, uint32_t n_units) {
    struct cli_task task = make(kind, seed, 0.5, n_units);
    struct pairs vars = new_pairs();
    for (const char *at = task.input.data; (at = strstr(at, "VAR ")) != NULL;) {
        char name[48], value[48];
        if (sscanf(at, "VAR %5[A-Z] = VAR %5[A-Z].", name, value) == 2) {
            const struct pair *const from = find(&vars, value);
            assert_non_null(from); /* assigned before */
            append(&vars, name, from->value);
        } else {
            assert_int_equal(sscanf(at, "VAR %5[A-Z] = %5[0-9].", name, value), 2);
            append(&vars, name, value);
        }
        at = strchr(at, '.');
    }
    assert_int_equal(vars.n, hops + 1);
    assert_int_equal(task.n_expected, hops + 1);
    char asked[64];
    for (unsigned i = 0; i < vars.n; i++) {
        snprintf(asked, sizeof asked, "have the value %s?", vars.list[i].value);
        assert_int_equal(n_times(task.input.data, asked), 1);
        assert_true(expects(&task, vars.list[i].name));
    }
    free(vars.list);
    cli_task_free(&task);
}

static void test_tracking(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        check_tracking("vt", 4, seed, (uint32_t)seed * 3);
        check_tracking("vt2", 2, seed, (uint32_t)seed * 3);
        check_tracking("vt3", 3, seed, (uint32_t)seed * 3);
        check_tracking("vt4", 4, seed, (uint32_t)seed * 3);
    }
}

static int by_count(const void *a, const void *b) {
    return (int)((const struct pair *)b)->count - (int)((const struct pair *)a)->count;
}

/* The expected words are the most frequent ones, and all others are rarer. */
static void check_counts(const struct cli_task *task, struct pairs *words) {
    qsort(words->list, words->n, sizeof *words->list, by_count);
    assert_true(words->n > task->n_expected);
    assert_true(words->list[task->n_expected - 1].count > words->list[task->n_expected].count);
    for (uint32_t i = 0; i < task->n_expected; i++) {
        assert_true(expects(task, words->list[i].name));
    }
    free(words->list);
}

static void test_common_words(void **state) {
    (void)state;
    static const uint32_t sizes[] = {70, 71, 200, 599, 600, 601, 605, 1200, 5000};
    for (uint64_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        struct cli_task task = make("cwe", i, 0.5, sizes[i / 2]);
        struct pairs words = new_pairs();
        const char *at = strchr(task.input.data, '\n') + 1;
        char word[48];
        int used = 0;
        for (unsigned number = 0, n = 1; sscanf(at, "%u. %47s%n", &number, word, &used) == 2; n++) {
            assert_int_equal(number, n);
            count_word(&words, word);
            at += used;
        }
        assert_int_equal(task.n_expected, 10);
        check_counts(&task, &words);
        cli_task_free(&task);
    }
}

static void test_frequent_words(void **state) {
    (void)state;
    static const uint32_t sizes[] = {160, 161, 300, 1000, 7000};
    for (uint64_t i = 0; i < 20; i++) {
        struct cli_task task = make("fwe", i, 0.5, sizes[i / 4]);
        struct pairs words = new_pairs();
        const char *at = strchr(task.input.data, '\n') + 1;
        const char *const end = strrchr(task.input.data, '\n');
        char word[48];
        unsigned n_dots = 0, n = 0;
        for (int used = 0; at < end && sscanf(at, "%47s%n", word, &used) == 1; at += used, n++) {
            if (strcmp(word, "...") == 0) {
                n_dots++;
            } else {
                assert_int_equal(strlen(word), 6);
                count_word(&words, word);
            }
        }
        assert_true(n_dots * 2 > n);
        assert_int_equal(task.n_expected, 3);
        check_counts(&task, &words);
        cli_task_free(&task);
    }
}

static void test_key_value(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 30; i++) {
        struct cli_task task = make("kv", i, (double)(i % 11) / 10, 1 + i * i);
        const char *const open = strchr(task.input.data, '{');
        json_error_t error;
        json_t *const object =
            json_loads(open, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
        assert_non_null(object);
        assert_int_equal(json_object_size(object), 1 + i * i);
        char key[48];
        assert_int_equal(sscanf(open + error.position, " Key: \"%47[^\"]\"", key), 1);
        assert_int_equal(task.n_expected, 1);
        assert_string_equal(json_string_value(json_object_get(object, key)),
                            cli_task_expected(&task, 0));
        json_decref(object);
        cli_task_free(&task);
    }
}

/* What stood behind the same words before is the answer. */
static void test_copies(void **state) {
    (void)state;
    static const char *const kinds[] = {"copy_one", "copy_many"};
    for (uint32_t i = 0; i < 60; i++) {
        struct cli_task task = make(kinds[i % 2], i, (double)(i % 11) / 10, i * 4);
        const char *const at = strstr(task.input.data, task.start.data);
        assert_non_null(at);
        assert_int_equal(n_times(task.input.data, task.start.data), 1);
        assert_int_equal(n_times(task.input.data, "The code for "), i % 2 == 0 ? 1 : 24);
        char value[16];
        assert_int_equal(sscanf(at + strlen(task.start.data), " %15[0-9].", value), 1);
        assert_int_equal(strlen(value), 7);
        assert_string_equal(value, cli_task_expected(&task, 0));
        assert_int_equal(task.n_expected, 1);
        assert_true(cli_task_kind_copies(cli_task_kind_find(kinds[i % 2])));
        cli_task_free(&task);
    }
}

/* Goal: what is asked for stands at the depth asked for. */
static void test_depth(void **state) {
    (void)state;
    static const char *const kinds[] = {
        "niah_single1",   "niah_single2", "niah_single3", "niah_multikey1", "niah_multikey2",
        "niah_multikey3", "kv",           "copy_one",     "copy_many"};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (int i = 0; i <= 10; i++) {
            struct cli_task task = make(kinds[k], 7, i / 10.0, 400);
            const char *const at = strstr(task.input.data, cli_task_expected(&task, 0));
            assert_non_null(at);
            const double depth = (double)(at - task.input.data) / (double)task.input.len;
            if (fabs(depth - i / 10.0) > 0.04) {
                fail_msg("%s: at %.3f, not %.1f", kinds[k], depth, i / 10.0);
            }
            cli_task_free(&task);
        }
    }
}

/* ---- lengths and seeds ---- */

static bool same_bytes(const tl_bytes *a, const tl_bytes *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void test_seeds(void **state) {
    (void)state;
    for (size_t k = 0; cli_task_kind_name(k) != NULL; k++) {
        const char *const kind = cli_task_kind_name(k);
        struct cli_task a = make(kind, 5, 0.3, 700), b = make(kind, 5, 0.3, 700);
        struct cli_task other = make(kind, 6, 0.3, 700), longer = make(kind, 5, 0.3, 900);
        assert_true(same_bytes(&a.input, &b.input) && same_bytes(&a.start, &b.start) &&
                    same_bytes(&a.expected, &b.expected));
        assert_false(same_bytes(&a.input, &other.input));
        assert_false(same_bytes(&a.expected, &other.expected));
        assert_true(longer.input.len > a.input.len);
        const bool follows = strcmp(kind, "niah_multikey2") == 0 || strcmp(kind, "kv") == 0 ||
                             strcmp(kind, "niah_multikey3") == 0; /* the length: one of all */
        assert_true(follows || same_bytes(&a.expected, &longer.expected));
        cli_task_free(&a);
        cli_task_free(&b);
        cli_task_free(&other);
        cli_task_free(&longer);
    }
}

/* Stands for a tokenizer: a token a word, and one more for each 7 bytes. */
static tl_err size_in_words(void *user, const struct cli_task *task, uint64_t *n) {
    ++*(unsigned *)user;
    *n = task->input.len / 7 + task->start.len / 7 + task->expected.len;
    for (size_t i = 0; i < task->input.len; i++) {
        *n += task->input.data[i] == ' ';
    }
    return TL_OK;
}

static void test_fit(void **state) {
    (void)state;
    static const struct cli_filler built_in;
    static const uint64_t budgets[] = {900, 1000, 2048, 4096, 10000};
    unsigned n_calls = 0;
    for (size_t k = 0; cli_task_kind_name(k) != NULL; k++) {
        struct cli_task_params params = {.kind = cli_task_kind_find(cli_task_kind_name(k)),
                                         .filler = &built_in,
                                         .seed = k,
                                         .depth = 0.5};
        struct cli_task task = {0}, more = {0};
        struct cli_task_fit fit = {.size = size_in_words, .user = &n_calls, .n_max = 20};
        assert_int_equal(cli_task_make_fit(&task, &params, &fit), TL_ERR_UNSUPPORTED);
        for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; b++) {
            fit.n_max = budgets[b];
            uint64_t n = 0;
            assert_int_equal(cli_task_make_fit(&task, &params, &fit), TL_OK);
            assert_int_equal(size_in_words(&n_calls, &task, &n), TL_OK);
            assert_true(n <= budgets[b]);
            params.n_units++; /* one sentence, word or pair more is too long */
            assert_int_equal(cli_task_make(&more, &params), TL_OK);
            assert_int_equal(size_in_words(&n_calls, &more, &n), TL_OK);
            if (n <= budgets[b]) {
                fail_msg("%s: %u units would fit %u", cli_task_kind_name(k), params.n_units,
                         (unsigned)budgets[b]);
            }
            cli_task_free(&task);
            cli_task_free(&more);
        }
    }
    assert_true(n_calls < 40 * 15 * 5); /* each tries a text tens of times, not thousands */
}

/* ---- names and sentences ---- */

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void test_names(void **state) {
    (void)state;
    enum { N = 3 * CLI_WORDS * CLI_WORDS };
    char(*const names)[CLI_NAME_MAX] = calloc(N, sizeof *names);
    for (uint64_t seed = 0; seed < 3; seed++) {
        for (uint32_t i = 0; i < N; i++) {
            cli_name_at(seed, i, names[i]);
        }
        for (uint32_t i = 0; i < CLI_WORDS; i++) {
            for (uint32_t j = 0; j < i; j++) { /* both words differ */
                const size_t dash = strcspn(names[i], "-") + 1;
                assert_false(strncmp(names[i], names[j], dash) == 0);
                assert_string_not_equal(strchr(names[i], '-'), strchr(names[j], '-'));
            }
        }
        qsort(names, N, sizeof *names, by_text);
        for (uint32_t i = 1; i < N; i++) {
            assert_string_not_equal(names[i - 1], names[i]);
        }
    }
    free(names);
}

static void test_filler(void **state) {
    (void)state;
    static const char text[] =
        "  One short. Then a sentence that is long enough to stand alone.\n\n"
        "\tWas this the second one, and was it as long? No\x01 end of it";
    struct cli_filler filler = {0};
    assert_int_equal(cli_filler_open(&filler, tl_str_from(text)), TL_OK);
    assert_int_equal(filler.n, 3);
    assert_true(tl_str_is(filler.sentences[0],
                          "One short. Then a sentence that is long enough to stand alone."));
    assert_true(tl_str_is(filler.sentences[1], "Was this the second one, and was it as long?"));
    assert_true(tl_str_is(filler.sentences[2], "No\x01 end of it"));
    const tl_str a = cli_filler_sentence(&filler, 4, 0), b = cli_filler_sentence(&filler, 4, 3);
    assert_true(tl_str_eq(a, b)); /* round and round */
    cli_filler_close(&filler);
    tl_bytes spaceless = {0}; /* 700 letters of three bytes */
    for (int i = 0; i < 700; i++) {
        assert_int_equal(tl_bytes_add_str(&spaceless, "\xe6\xb0\xb4"), TL_OK);
    }
    assert_int_equal(cli_filler_open(&filler, (tl_str){spaceless.data, spaceless.len}), TL_OK);
    assert_int_equal(filler.n, 4);
    for (size_t i = 0; i < filler.n; i++) {
        assert_int_equal(filler.sentences[i].len % 3, 0);
        assert_int_equal((unsigned char)filler.sentences[i].data[0], 0xe6);
    }
    cli_filler_close(&filler);
    tl_bytes_free(&spaceless);
    assert_int_equal(cli_filler_open(&filler, tl_str_from(" \n ")), TL_ERR_FORMAT);
    assert_int_equal(filler.n, 0);
    for (uint64_t i = 0; i < 53 * 3; i++) { /* each round has every sentence once */
        for (uint64_t j = i / 53 * 53; j < i; j++) {
            assert_false(
                tl_str_eq(cli_filler_sentence(&filler, 9, i), cli_filler_sentence(&filler, 9, j)));
        }
    }
}

/* ---- scores ---- */

static struct cli_task task_of(const char *json) {
    struct cli_task task = {0};
    json_t *const object = json_loads(json, 0, NULL);
    assert_non_null(object);
    assert_int_equal(cli_task_read(&task, object, NULL), TL_OK);
    json_decref(object);
    return task;
}

static void check_score(const struct cli_task *task, const char *answer, double want) {
    assert_true(fabs(cli_task_score(task, tl_str_from(answer)) - want) < 1e-12);
}

static void test_score(void **state) {
    (void)state;
    struct cli_task all = task_of("{\"task\":\"t\",\"input\":\"i\",\"outputs\":[\"Amber\",\"12\","
                                  "\"x y\"],\"match\":\"all\",\"depth\":1}");
    check_score(&all, "amber 12 x y", 1);
    check_score(&all, "X Y, AMBER", 2.0 / 3);
    check_score(&all, "3127", 1.0 / 3); /* a part of a word counts, as in RULER */
    check_score(&all, "1 2 x  y ambe", 0);
    check_score(&all, "", 0);
    struct cli_task any = task_of(
        "{\"task\":\"t\",\"input\":\"i\",\"outputs\":[\"yes\",\"true\"],\"match\":\"any\"}");
    check_score(&any, "that is True", 1);
    check_score(&any, "yes, true", 1);
    check_score(&any, "no", 0);
    check_score(&any, "tru", 0);
    cli_task_free(&all);
    cli_task_free(&any);
    static const char *const wrong[] = {
        "[]",
        "{}",
        "{\"task\":\"t\",\"input\":\"i\",\"outputs\":[]}",
        "{\"task\":\"t\",\"input\":\"i\",\"outputs\":[1]}",
        "{\"task\":\"t\",\"input\":\"i\",\"outputs\":[\"\"]}",
        "{\"task\":\"t\",\"input\":\"i\",\"outputs\":\"x\"}",
        "{\"task\":\"t\",\"input\":7,\"outputs\":[\"x\"]}",
        "{\"task\":\"t\",\"input\":\"i\",\"outputs\":[\"x\"],\"match\":\"most\"}",
        "{\"input\":\"i\",\"outputs\":[\"x\"]}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct cli_task task = {0};
        json_t *const object = json_loads(wrong[i], 0, NULL);
        assert_int_equal(cli_task_read(&task, object, NULL), TL_ERR_FORMAT);
        assert_null(task.input.data);
        json_decref(object);
    }
}

/* Goal: files as RULER and others write them are tasks too: no name but the file's, one answer
 * instead of a list, the beginning of the answer apart. */
static void test_other_files(void **state) {
    (void)state;
    static const char text[] = "{\"index\":0,\"input\":\"i\",\"answer\":\"7\",\"answer_prefix\":"
                               "\" It is\",\"length\":9}";
    struct cli_task task = {0};
    json_t *const object = json_loads(text, 0, NULL);
    assert_int_equal(cli_task_read(&task, object, NULL), TL_ERR_FORMAT);
    assert_int_equal(cli_task_read(&task, object, "vt"), TL_OK);
    assert_string_equal(task.name.data, "vt");
    assert_string_equal(task.start.data, " It is");
    assert_int_equal(task.n_expected, 1);
    check_score(&task, "it is 7", 1);
    cli_task_free(&task);
    json_decref(object);
}

/* Goal: Kullback-Leibler divergences worked out by hand. Of (1/2, 1/2) from (1/4, 3/4): 1/2 ln 2 +
 * 1/2 ln 2/3 = 0.143841; of (1, 0) from (1/2, 1/2): ln 2. */
static void test_divergence(void **state) {
    (void)state;
    struct cli_kld kld = {0};
    double p[2], q[2];
    cli_log_softmax((const float[]){7, 7}, 2, p);
    assert_true(fabs(p[0] + 0.6931471805599453) < 1e-12);
    cli_log_softmax((const float[]){0, 1.0986123f}, 2, q); /* ln 3 */
    assert_int_equal(cli_kld_add(&kld, p, q, 2, 1), TL_OK);
    assert_true(fabs(kld.kl[0] - 0.14384104) < 1e-6);
    assert_int_equal(kld.n_same, 0); /* ties go to the first */
    cli_log_softmax((const float[]){0, -INFINITY}, 2, q);
    assert_int_equal(cli_kld_add(&kld, q, p, 2, 0), TL_OK);
    assert_true(fabs(kld.kl[1] - 0.6931471805599453) < 1e-12);
    assert_int_equal(kld.n_same, 1);
    assert_int_equal(cli_kld_add(&kld, p, p, 2, 0), TL_OK);
    const struct cli_kld_report r = cli_kld_report(&kld);
    assert_true(fabs(r.mean - (0.14384104 + 0.69314718) / 3) < 1e-6);
    assert_true(fabs(r.max - 0.69314718) < 1e-6 && fabs(r.p99 - r.max) < 1e-12);
    assert_true(fabs(r.top1 - 2.0 / 3) < 1e-12);
    assert_true(fabs(r.difference - (0.25 + 0.5 + 0) / 3) < 1e-6);
    cli_kld_free(&kld);
    for (int i = 1; i <= 200; i++) { /* ranks: the 198th of 200 */
        const double a[2] = {0, -HUGE_VAL}, b[2] = {-i, -HUGE_VAL};
        assert_int_equal(cli_kld_add(&kld, a, b, 2, 0), TL_OK);
    }
    assert_true(fabs(cli_kld_report(&kld).p99 - 198) < 1e-9);
    cli_kld_free(&kld);
}

/* ---- reports ---- */

static void test_report(void **state) {
    (void)state;
    struct cli_eval_report report = {.presets = {"full", "a<b&c"}, .n_presets = 2};
    assert_int_equal(cli_eval_report_set(&report, "kld", 64, CLI_METRIC_KLD_MEAN, 0, 0, 9), TL_OK);
    assert_int_equal(cli_eval_report_set(&report, "kld", 64, CLI_METRIC_TOP1, 0, 1, 9), TL_OK);
    assert_int_equal(cli_eval_report_set(&report, "kld", 64, CLI_METRIC_KLD_MEAN, 1, HUGE_VAL, 9),
                     TL_OK);
    assert_int_equal(cli_eval_report_set(&report, "kld", 64, CLI_METRIC_TOP1, 1, 0.5, 9), TL_OK);
    assert_int_equal(cli_eval_report_set(&report, "vt", 64, CLI_METRIC_SCORE, 0, 0.25, 4), TL_OK);
    assert_int_equal(report.n_lines, 3);
    json_t *const json = cli_eval_report_json(&report);
    char *const text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(
        text,
        "[{\"task\":\"kld\",\"ctx\":64,\"kv\":\"full\",\"n\":9,\"kld_mean\":0.0,\"top1\":1.0},"
        "{\"task\":\"kld\",\"ctx\":64,\"kv\":\"a<b&c\",\"n\":9,\"kld_mean\":null,\"top1\":0.5},"
        "{\"task\":\"vt\",\"ctx\":64,\"kv\":\"full\",\"n\":4,\"score\":0.25}]");
    free(text);
    json_decref(json);
    tl_bytes svg = {0};
    assert_int_equal(cli_eval_report_svg(&report, "<m>", &svg), TL_OK);
    assert_int_equal(n_times(svg.data, "a&lt;b&amp;c"), 3); /* the legend and two bars */
    assert_int_equal(n_times(svg.data, "<title>"), 5);
    assert_int_equal(n_times(svg.data, "inf\""), 0); /* no size is infinite */
    assert_string_equal(svg.data + svg.len - 7, "</svg>\n");
    tl_bytes_free(&svg);
    cli_eval_report_free(&report);
}

/* Goal: without memory a task is an error, nothing is left behind. */
static void test_no_memory(void **state) {
    (void)state;
    static const struct cli_filler built_in;
    for (size_t k = 0; cli_task_kind_name(k) != NULL; k++) {
        const struct cli_task_params params = {
            .kind = cli_task_kind_find(cli_task_kind_name(k)), .filler = &built_in, .n_units = 700};
        tl_err err = TL_ERR_MEMORY;
        for (uint64_t at = 1; err; at++) {
            struct cli_task task = {0};
            heap_watch(at);
            err = cli_task_make(&task, &params);
            const struct heap_report heap = heap_unwatch();
            assert_true(err ? err == TL_ERR_MEMORY && heap.n_live == 0 : heap.n_allocs < at);
            cli_task_free(&task);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needles),      cmocka_unit_test(test_tracking),
        cmocka_unit_test(test_common_words), cmocka_unit_test(test_frequent_words),
        cmocka_unit_test(test_key_value),    cmocka_unit_test(test_copies),
        cmocka_unit_test(test_depth),        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_fit),          cmocka_unit_test(test_names),
        cmocka_unit_test(test_filler),       cmocka_unit_test(test_score),
        cmocka_unit_test(test_other_files),  cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_report),       cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
