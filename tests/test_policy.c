/* Presets, knobs and policy files: what is allowed, what is refused, and that a file says what it
 * says. Expected values are written out by hand. */
#include "core/policy_file.h"
#include "support.h"

#include <string.h>

static void test_presets_are_consistent(void **state) {
    (void)state;
    for (const struct tl_preset *p = tl_presets; p->name != NULL; p++) {
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        if (tl_policy_check(&p->policy, &log)) {
            fail_msg("%s: %s", p->name, kept.sentence);
        }
        assert_ptr_equal(tl_preset_find(p->name), p);
    }
    assert_null(tl_preset_find("abacus"));
    assert_null(tl_preset_find(""));
}

static void test_knobs(void **state) {
    (void)state;
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    struct tl_policy p = tl_preset_find("tailor")->policy;
    assert_int_equal(tl_policy_set(&p, "k_codec", "int4", &log), TL_OK);
    assert_int_equal(p.k_codec, TL_CODEC_INT4);
    assert_int_equal(tl_policy_set(&p, "topk", "77", &log), TL_OK);
    assert_int_equal(p.topk, 77);
    assert_int_equal(tl_policy_set(&p, "topk", "-1", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policy_set(&p, "topk", "5x", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policy_set(&p, "topk", "4294967296", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policy_set(&p, "home", "moon", &log), TL_ERR_FORMAT);
    assert_non_null(strstr(kept.sentence, "moon"));
    assert_int_equal(tl_policy_set(&p, "colour", "red", &log), TL_ERR_FORMAT);
    assert_int_equal(p.topk, 77);
    char text[16];
    assert_string_equal(tl_policy_get(&p, "k_codec", text, sizeof text), "int4");
    assert_string_equal(tl_policy_get(&p, "topk", text, sizeof text), "77");
    assert_null(tl_policy_get(&p, "colour", text, sizeof text));
}

/* Goal: every contradiction is named. Each line breaks one thing of a good policy. */
static void test_contradictions(void **state) {
    (void)state;
    static const struct {
        const char *knob, *value, *says;
    } cases[] = {
        {"v_codec", "none", "both or neither"}, {"home", "none", "needs a home"},
        {"topk", "0", "topk"},                  {"topk", "70000", "topk"},
        {"hot", "100", "hot"},                  {"sink", "70000", "sink"},
        {"select", "all", NULL},                {"hot", "0", NULL},
        {"rest", "drop", NULL},                 {"select", "none", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        struct tl_policy p = tl_preset_find("tailor")->policy;
        assert_int_equal(tl_policy_set(&p, cases[i].knob, cases[i].value, &log), TL_OK);
        const tl_err err = tl_policy_check(&p, &log);
        if (cases[i].says == NULL ? err != TL_OK
                                  : err != TL_ERR_FORMAT ||
                                        strstr(kept.sentence, cases[i].says) == NULL) {
            fail_msg("%s=%s: %s", cases[i].knob, cases[i].value, kept.sentence);
        }
    }
}

enum { N_LAYERS = 6 };

static tl_err read_set(const char *text, struct tl_policies *set, struct kept_log *kept) {
    const tl_log log = keep_log(kept);
    return tl_policy_file_read(tl_str_from(text), "p.json", 0x1234, set, &log);
}

static tl_err read_file_text(const char *text, struct tl_policy *policies, struct kept_log *kept) {
    struct tl_policies set = {.layers = policies, .n_layers = N_LAYERS};
    return read_set(text, &set, kept);
}

static void test_file(void **state) {
    (void)state;
    struct kept_log kept;
    struct tl_policy p[N_LAYERS];
    assert_int_equal(read_file_text("{\"tailor_policy\": 1, \"model_hash\": \"0000000000001234\","
                                    " \"preset\": \"tailor\","
                                    " \"all\": {\"recent\": 96},"
                                    " \"layers\": {\"1\": {\"topk\": 10, \"hot\": 20},"
                                    "              \"2-4\": {\"sink\": 7}}}",
                                    p, &kept),
                     TL_OK);
    assert_int_equal(p[0].v_codec, TL_CODEC_INT1);
    assert_int_equal(p[1].select, TL_SELECT_TOPK);
    assert_int_equal(p[1].topk, 10);
    assert_int_equal(p[2].topk, 256);
    assert_int_equal(p[2].sink, 7);
    assert_int_equal(p[4].sink, 7);
    assert_int_equal(p[1].sink, 64);
    for (int il = 0; il < N_LAYERS; il++) {
        assert_int_equal(p[il].recent, 96);
    }
}

/* Goal: the list of dense layers settles which they are, and their knobs are their own. No preset
 * here has a policy of dense layers yet, but an empty list is always right. */
static void test_file_without_dense_layers(void **state) {
    (void)state;
    struct kept_log kept;
    struct tl_policy p[N_LAYERS];
    struct tl_policies set = {.layers = p, .n_layers = N_LAYERS};
    assert_int_equal(read_set("{\"tailor_policy\": 1, \"dense\": []}", &set, &kept), TL_OK);
    assert_false(set.has_dense || set.finds_dense);
}

static void test_bad_files(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"tailor_policy\": 2}",
        "{\"tailor_policy\": \"1\"}",
        "{\"tailor_policy\": 1, \"tailor_policy\": 1}",
        "{\"tailor_policy\": 1, \"model_hash\": \"0000000000001235\"}",
        "{\"tailor_policy\": 1, \"model_hash\": 4660}",
        "{\"tailor_policy\": 1, \"preset\": \"abacus\"}",
        "{\"tailor_policy\": 1, \"preset\": 3}",
        "{\"tailor_policy\": 1, \"colour\": 0}",
        "{\"tailor_policy\": 1, \"layers\": {\"6\": {}}}",
        "{\"tailor_policy\": 1, \"layers\": {\"3-2\": {}}}",
        "{\"tailor_policy\": 1, \"layers\": {\"0-9999999999999999999\": {}}}",
        "{\"tailor_policy\": 1, \"layers\": {\"x\": {}}}",
        "{\"tailor_policy\": 1, \"layers\": {\"0\": 3}}",
        "{\"tailor_policy\": 1, \"layers\": {\"0\": {\"topk\": true}}}",
        "{\"tailor_policy\": 1, \"layers\": {\"0\": {\"topk\": -3}}}",
        "{\"tailor_policy\": 1, \"layers\": {\"0\": {\"home\": \"none\"}}}",
        "{\"tailor_policy\": 1, \"layers\": []}",
        "{\"tailor_policy\": 1, \"dense\": [0]}",
        "{\"tailor_policy\": 1, \"dense\": 0}",
        "{\"tailor_policy\": 1, \"dense_policy\": {\"recent\": 1}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct kept_log kept;
        struct tl_policy p[N_LAYERS];
        memset(p, 0x55, sizeof p);
        struct tl_policy before[N_LAYERS];
        memcpy(before, p, sizeof p);
        if (read_file_text(texts[i], p, &kept) != TL_ERR_FORMAT || kept.n_errors != 1) {
            fail_msg("accepted, or %u sentences: %s", kept.n_errors, texts[i]);
        }
        assert_memory_equal(before, p, sizeof p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets_are_consistent), cmocka_unit_test(test_knobs),
        cmocka_unit_test(test_contradictions),         cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_files),              cmocka_unit_test(test_file_without_dense_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
