/* Presets, knobs and policy files: what is allowed, what is refused, and that a file says what it
 * says. Expected values are written out by hand. */
#include "core/kv.h"
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
        if (p->dense != NULL && tl_policy_check(p->dense, &log)) {
            fail_msg("%s, dense layers: %s", p->name, kept.sentence);
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
        {"v_codec", "none", "both or neither"},
        {"home", "none", "needs a home"},
        {"topk", "0", "topk"},
        {"topk", "70000", "topk"},
        {"hot", "40", "hot"},
        {"sink", "70000", "sink"},
        {"select", "all", NULL},
        {"hot", "0", NULL},
        {"rest", "drop", NULL},
        {"select", "none", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kept_log kept;
        const tl_log log = keep_log(&kept);
        struct tl_policy p = tl_preset_find("tailor")->policy;
        assert_int_equal(tl_policy_set(&p, cases[i].knob, cases[i].value, &log), TL_OK);
        const tl_err err = tl_policy_check(&p, &log);
        if (cases[i].says == NULL
                ? err != TL_OK
                : err != TL_ERR_FORMAT || strstr(kept.sentence, cases[i].says) == NULL) {
            fail_msg("%s=%s: %s", cases[i].knob, cases[i].value, kept.sentence);
        }
    }
}

/* Goal: what grows with the context keeps to its share of the exact cache where the least it begins
 * with does, and from 16384 rows on always; it grows with the rows as long as keys stay as fine, to
 * the limit, and is the same however often it is asked. */
static void test_share(void **state) {
    (void)state;
    const uint32_t head_dims[] = {48, 64, 80, 96, 128, 256};
    for (size_t d = 0; d < sizeof head_dims / sizeof head_dims[0]; d++) {
        const struct tl_shape shape = {
            .n_layers = 1, .n_heads = 8, .n_kv_heads = 2, .head_dim = head_dims[d]};
        uint32_t topk = 0;
        tl_codec keys = TL_CODEC_NONE;
        for (uint32_t cap = 512; cap <= 1u << 20; cap += cap / 3) {
            const struct tl_policy preset = tl_preset_find("tailor")->policy;
            const struct tl_policy at = tl_kv_policy_at(&shape, 0, &preset, cap);
            const struct tl_kv_bytes bytes = tl_kv_layer_bytes(&shape, 0, &preset, cap);
            const uint64_t exact = (uint64_t)cap * 2 * 2 * 2 * head_dims[d];
            assert_true(at.topk >= preset.topk && at.topk <= TL_TOPK_GROWN);
            assert_true(at.topk >= topk || at.k_codec != keys);
            assert_true(at.hot >= 2 * at.topk && at.share == 0);
            struct tl_policy least = preset;
            least.share = 0;
            const struct tl_kv_bytes begins = tl_kv_layer_bytes(&shape, 0, &least, cap);
            const bool fits = tl_kv_device_bytes(&begins) * 6 <= exact;
            assert_true(tl_kv_device_bytes(&bytes) * 6 <= exact || (!fits && cap < 16384));
            assert_true(at.k_codec == TL_CODEC_INT2 || cap >= 16384);
            /* Of two heads: a key and a value of halves, who owns the slot and when it was used;
             * and a hand a head. */
            assert_int_equal(bytes.hot, (uint64_t)at.hot * 2 * (2 * 2 * head_dims[d] + 8) + 8);
            const struct tl_policy again = tl_kv_policy_at(&shape, 0, &at, cap / 2);
            assert_memory_equal(&again, &at, sizeof at);
            topk = at.topk;
            keys = at.k_codec;
        }
        assert_true(topk == TL_TOPK_GROWN || head_dims[d] == 80); /* 2-bit codes leave it little */
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
    assert_int_equal(p[0].v_codec, TL_CODEC_INT2);
    assert_int_equal(p[1].select, TL_SELECT_TOPK);
    assert_int_equal(p[1].topk, 10);
    assert_int_equal(p[1].share, 0);
    assert_int_equal(p[2].topk, 32);
    assert_int_equal(p[2].share, 6);
    assert_int_equal(p[2].sink, 7);
    assert_int_equal(p[4].sink, 7);
    assert_int_equal(p[1].sink, 8);
    for (int il = 0; il < N_LAYERS; il++) {
        assert_int_equal(p[il].recent, 96);
    }
}

static struct tl_policies read_good(const char *text, struct tl_policy *policies) {
    struct kept_log kept;
    struct tl_policies set = {.layers = policies, .n_layers = N_LAYERS};
    if (read_set(text, &set, &kept)) {
        fail_msg("%s: %s", text, kept.sentence);
    }
    return set;
}

/* Goal: the list of dense layers settles which they are, and they have knobs of their own; without
 * a list it is as the preset has it: to be found, or the first two. */
static void test_dense_layers_of_files(void **state) {
    (void)state;
    struct tl_policy p[N_LAYERS];
    struct tl_policies set = read_good("{\"tailor_policy\": 1, \"dense\": []}", p);
    assert_false(set.has_dense || set.finds_dense);
    set = read_good("{\"tailor_policy\": 1, \"preset\": \"tailor2\", \"all\": {\"topk\": 50}}", p);
    assert_true(set.has_dense && set.finds_dense);
    assert_int_equal(set.dense.k_codec, TL_CODEC_INT2);
    assert_int_equal(p[0].topk, 50);
    set = read_good("{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"dense\": [0, \"3-4\"],"
                    " \"dense_policy\": {\"recent\": 99}, \"all\": {\"sink\": 11},"
                    " \"layers\": {\"4\": {\"recent\": 77}, \"5\": {\"sink\": 3}}}",
                    p);
    assert_true(set.has_dense && !set.finds_dense);
    static const bool dense[N_LAYERS] = {true, false, false, true, true, false};
    for (int il = 0; il < N_LAYERS; il++) {
        assert_int_equal(set.is_dense[il], dense[il]);
        assert_int_equal(p[il].select, dense[il] ? TL_SELECT_NONE : TL_SELECT_TOPK);
        assert_int_equal(p[il].k_codec, dense[il] ? TL_CODEC_INT2 : TL_CODEC_NONE);
        assert_int_equal(p[il].v_codec, dense[il] ? TL_CODEC_INT1 : TL_CODEC_NONE);
        assert_int_equal(p[il].recent, il == 4 ? 77 : dense[il] ? 99 : 64);
        assert_int_equal(p[il].sink, il == 5 ? 3 : dense[il] ? 0 : 11);
    }
    set = read_good("{\"tailor_policy\": 1, \"preset\": \"quest\"}", p);
    assert_false(set.finds_dense);
    assert_int_equal(p[1].select, TL_SELECT_ALL);
    assert_int_equal(p[2].index, TL_INDEX_PAGES);
    set = read_good("{\"tailor_policy\": 1, \"preset\": \"quest\", \"dense\": [5]}", p);
    assert_int_equal(p[1].index, TL_INDEX_PAGES);
    assert_int_equal(p[5].select, TL_SELECT_ALL);
}

/* Goal: the same from knobs, in the order in which they are given. */
static void test_dense_layers_by_knobs(void **state) {
    (void)state;
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    struct tl_policy p[N_LAYERS];
    struct tl_policies set = {.layers = p, .n_layers = N_LAYERS};
    tl_policies_of_preset(tl_preset_find("tailor1"), &set);
    static const char *const knobs[][2] = {
        {"dense", "1"},   {"topk", "40"},    {"recent", "20"},    {"dense.recent", "30"},
        {"dense", "3-4"}, {"channels", "3"}, {"predict", "trust"}};
    for (size_t i = 0; i < sizeof knobs / sizeof knobs[0]; i++) {
        assert_int_equal(tl_policies_set(&set, knobs[i][0], knobs[i][1], &log), TL_OK);
    }
    assert_int_equal(tl_policies_check(&set, &log), TL_OK);
    assert_false(set.finds_dense);
    for (int il = 0; il < N_LAYERS; il++) {
        const bool dense = il == 1 || il == 3 || il == 4;
        assert_int_equal(p[il].select, dense ? TL_SELECT_NONE : TL_SELECT_TOPK);
        assert_int_equal(p[il].recent, dense ? 30 : 20);
        assert_true(dense ||
                    (p[il].topk == 40 && p[il].channels == 3 && p[il].predict == TL_PREDICT_TRUST));
    }
    assert_int_equal(tl_policies_set(&set, "dense", "none", &log), TL_OK);
    for (int il = 0; il < N_LAYERS; il++) {
        assert_int_equal(p[il].topk, 40);
        assert_int_equal(p[il].recent, 20);
    }
    assert_int_equal(tl_policies_set(&set, "dense", "6", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policies_set(&set, "dense", "all", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policies_set(&set, "dense.colour", "1", &log), TL_ERR_FORMAT);
    tl_policies_of_preset(tl_preset_find("tailor"), &set);
    assert_int_equal(tl_policies_set(&set, "dense", "0", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policies_set(&set, "dense.recent", "0", &log), TL_ERR_FORMAT);
    assert_int_equal(tl_policies_set(&set, "dense", "none", &log), TL_OK);
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
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"dense\": [6]}",
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"dense\": [true]}",
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"dense\": [\"4-9\"]}",
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"dense_policy\": {\"topk\": []}}",
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"dense_policy\": {\"rest\": \"drop\"}}",
        "{\"tailor_policy\": 1, \"preset\": \"quest\", \"all\": {\"page\": 12}}",
        "{\"tailor_policy\": 1, \"preset\": \"quest\", \"all\": {\"index\": \"codes\"}}",
        "{\"tailor_policy\": 1, \"preset\": \"quest\", \"all\": {\"rest\": \"sketch\"}}",
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"all\": {\"channels\": 0}}",
        "{\"tailor_policy\": 1, \"preset\": \"tailor1\", \"all\": {\"predict\": \"maybe\"}}",
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
        cmocka_unit_test(test_presets_are_consistent),
        cmocka_unit_test(test_knobs),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_dense_layers_of_files),
        cmocka_unit_test(test_dense_layers_by_knobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
