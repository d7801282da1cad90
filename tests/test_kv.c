/* The cache's tiers, byte by byte, without a model: what the same rows leave in them must not
 * depend on the way they took. Expected bytes are those of a cache that took the plainest way, and
 * the rows themselves. */
#include "core/kv.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

enum { HEADS = 2, D = 16, CAP = 700, N_LAYERS = 1 };

struct fixture {
    tl_dev *dev;
    tl_stream *s;
    struct tl_shape shape;
    uint16_t *rows; /* (2, HEADS, CAP, D): keys, values */
    tl_buf *stage_buf;
    struct tl_stage stage;
    struct tl_rng rng;
};

static int open_fixture(void **state) {
    struct fixture *const f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->rng = (struct tl_rng){31};
    f->shape = (struct tl_shape){.n_layers = N_LAYERS, .n_kv_heads = HEADS, .head_dim = D};
    const size_t side = (size_t)HEADS * CAP * D;
    f->rows = malloc(2 * side * sizeof *f->rows);
    assert_non_null(f->rows);
    for (size_t i = 0; i < 2 * side; i++) {
        f->rows[i] = tl_f32_to_f16(2.0f * rng_float(&f->rng));
    }
    const struct tl_dev_params params = {.n_threads = 2};
    assert_int_equal(tl_dev_open(&f->dev, tl_backend_find("cpu"), &params), TL_OK);
    assert_int_equal(tl_stream_open(&f->s, f->dev), TL_OK);
    assert_int_equal(tl_buf_alloc(&f->stage_buf, f->dev, 2 * side * 2, TL_MEM_DEVICE), TL_OK);
    f->stage.rows =
        (struct tl_kv_rows){tl_view_of(f->stage_buf, 0, HEADS * CAP, D, TL_F16),
                            tl_view_of(f->stage_buf, side * 2, HEADS * CAP, D, TL_F16), HEADS};
    *state = f;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *const f = *state;
    tl_buf_free(&f->stage_buf);
    tl_stream_close(&f->s);
    tl_dev_close(&f->dev);
    free(f->rows);
    free(f);
    return 0;
}

static struct tl_policy preset(const char *name) { return tl_preset_find(name)->policy; }

static tl_kv *open_kv(struct fixture *f, struct tl_policy policy) {
    tl_kv *kv = NULL;
    assert_int_equal(tl_policy_check(&policy, NULL), TL_OK);
    assert_int_equal(tl_kv_open(&kv, &f->shape, &policy, NULL, f->dev, CAP), TL_OK);
    return kv;
}

/* Row `row` of the text to slot `slot`, as kv_encode would. */
static void put_row(const struct fixture *f, const struct tl_kv_rows *dst, uint32_t slot,
                    uint32_t row) {
    const size_t cap = dst->k.rows / HEADS, side = (size_t)HEADS * CAP * D;
    for (size_t h = 0; h < HEADS; h++) {
        const uint16_t *const from = f->rows + (h * CAP + row) * D;
        memcpy((uint16_t *)tl_view_host(dst->k) + (h * cap + slot) * D, from, D * 2);
        memcpy((uint16_t *)tl_view_host(dst->v) + (h * cap + slot) * D, from + side, D * 2);
    }
}

static void append_prompt(struct fixture *f, tl_kv *kv, uint32_t n) {
    struct tl_kv_layer *const layer = &kv->layers[0];
    const bool home = layer->home.k.buf != NULL;
    f->stage.origin = 0;
    if (!home) {
        assert_int_equal(tl_kv_stage(kv, 0, &f->stage, f->s), TL_OK);
    }
    for (uint32_t i = kv->n_rows; i < kv->n_rows + n; i++) {
        put_row(f, home ? &layer->home : &f->stage.rows, i - f->stage.origin, i);
    }
    assert_int_equal(tl_kv_absorb(kv, 0, kv->n_rows + n, home ? NULL : &f->stage, f->s), TL_OK);
    kv->n_rows += n;
}

static void append_step(struct fixture *f, tl_kv *kv) {
    assert_int_equal(tl_kv_begin_step(kv, f->s), TL_OK);
    struct tl_kv_layer *const layer = &kv->layers[0];
    if (layer->home.k.buf != NULL) {
        put_row(f, &layer->home, kv->n_rows, kv->n_rows);
    }
    if (layer->window.k.buf != NULL) {
        const int32_t slot = *(const int32_t *)tl_view_host(layer->slot);
        put_row(f, &layer->window, (uint32_t)slot, kv->n_rows);
    }
    kv->n_rows++;
}

/* The first n of a head's rows, which are `per` rows of the view each. */
static void same_heads(tl_view a, tl_view b, uint32_t n, const char *what) {
    assert_int_equal(a.rows, b.rows);
    assert_int_equal(a.cols, b.cols);
    const size_t row = (size_t)tl_row_bytes(a.dtype, a.cols), cap = a.rows / HEADS;
    for (size_t h = 0; h < HEADS; h++) {
        const uint8_t *const x = (const uint8_t *)tl_view_host(a) + h * cap * row;
        const uint8_t *const y = (const uint8_t *)tl_view_host(b) + h * cap * row;
        if (memcmp(x, y, n * row) != 0) {
            fail_msg("%s of head %zu differ in the first %u", what, h, n);
        }
    }
}

static void same_rows(const struct tl_kv_rows *a, const struct tl_kv_rows *b, uint32_t n,
                      const char *what) {
    if (a->k.buf != NULL || b->k.buf != NULL) {
        same_heads(a->k, b->k, n, what);
        same_heads(a->v, b->v, n, what);
    }
}

/* Every tier, as far as it is filled. Blocks that are due count as filled: the next step fills
 * them. */
static void same_tiers(struct fixture *f, tl_kv *a, tl_kv *b) {
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(tl_kv_begin_step(a, f->s), TL_OK);
    assert_int_equal(tl_kv_begin_step(b, f->s), TL_OK);
    const struct tl_kv_layer *const x = &a->layers[0], *const y = &b->layers[0];
    assert_memory_equal(&x->policy, &y->policy, sizeof x->policy);
    assert_int_equal(x->n_blocks, y->n_blocks);
    same_rows(&x->home, &y->home, a->n_rows, "home");
    same_rows(&x->window, &y->window, a->n_rows - x->n_blocks * TL_BLOCK, "window");
    if (x->sketch.k.buf != NULL) {
        same_heads(x->sketch.k, y->sketch.k, x->n_blocks, "coded keys");
        same_heads(x->sketch.v, y->sketch.v, x->n_blocks, "coded values");
    }
    if (x->columns.most.buf != NULL) {
        same_heads(x->columns.most, y->columns.most, x->n_blocks, "largest keys");
        const tl_view a_keys = x->columns.keys, b_keys = y->columns.keys;
        for (size_t c = 0; c < HEADS * D; c++) {
            const size_t at = c * a_keys.cols;
            assert_memory_equal((const uint16_t *)tl_view_host(a_keys) + at,
                                (const uint16_t *)tl_view_host(b_keys) + at,
                                x->n_blocks * TL_BLOCK * sizeof(uint16_t));
        }
    }
    if (x->pages.rows.buf != NULL) {
        same_heads(x->pages.rows, y->pages.rows, x->n_blocks * TL_BLOCK / x->pages.page, "pages");
    }
}

static const char *const names[] = {"full",  "q8",      "q4",        "kivi2",
                                    "kivi1", "offload", "tailor",    "tailor1",
                                    "quest", "tailor",  "vecinfer2", "vecinfer1"};
enum { N_NAMES = sizeof names / sizeof names[0] };

/* A preset, or that with windows of other sizes. */
static struct tl_policy pick_policy(struct fixture *f) {
    struct tl_policy p = preset(names[rng_below(&f->rng, N_NAMES)]);
    if (p.select != TL_SELECT_ALL && rng_below(&f->rng, 2) == 0) {
        p.sink = (uint32_t)rng_below(&f->rng, 70);
        p.recent = (uint32_t)rng_below(&f->rng, 150);
        p.page = 1u << rng_below(&f->rng, 7);
        const bool codes = p.k_codec != TL_CODEC_NONE;
        p.index = (tl_index)(codes ? rng_below(&f->rng, 4) : 1 + rng_below(&f->rng, 3));
    }
    return p;
}

/* Goal: a cache is a function of its rows: however they came, and whatever was forgotten in
 * between, its tiers hold what those of a cache hold that saw them as one prompt. */
static void tiers_follow_from_rows(void **state) {
    struct fixture *const f = *state;
    for (int trial = 0; trial < 60; trial++) {
        const struct tl_policy policy = pick_policy(f);
        tl_kv *kv = open_kv(f, policy);
        for (int i = 0; i < 40; i++) {
            const uint32_t room = CAP - kv->n_rows;
            const uint64_t what = rng_below(&f->rng, 8);
            if (what == 0) {
                const uint32_t keep = (uint32_t)rng_below(&f->rng, kv->n_rows + 1);
                const uint32_t kept = tl_kv_rewind(kv, keep, f->s);
                assert_true(kept == keep || (kept == 0 && policy.home == TL_HOME_NONE));
                assert_int_equal(kv->n_rows, kept);
            } else if (what == 1 && room > 1) {
                append_prompt(f, kv, 1 + (uint32_t)rng_below(&f->rng, room < 200 ? room : 200));
            } else {
                for (uint64_t n = rng_below(&f->rng, 40); n > 0 && kv->n_rows < CAP; n--) {
                    append_step(f, kv);
                }
            }
        }
        if (kv->n_rows > 0) {
            tl_kv *fresh = open_kv(f, policy);
            append_prompt(f, fresh, kv->n_rows);
            same_tiers(f, kv, fresh);
            tl_kv_close(&fresh);
        }
        tl_kv_close(&kv);
    }
}

/* Goal: a layer that changed its policy is as one that had it from the beginning, and goes on so.
 */
static void converting_a_layer(void **state) {
    struct fixture *const f = *state;
    for (int trial = 0; trial < 60; trial++) {
        struct tl_policy before = pick_policy(f);
        while (before.home == TL_HOME_NONE) {
            before = pick_policy(f);
        }
        const struct tl_policy after = pick_policy(f);
        tl_kv *kv = open_kv(f, before), *fresh = open_kv(f, after);
        const uint32_t n = (uint32_t)rng_below(&f->rng, CAP - 100);
        if (n > 0) {
            append_prompt(f, kv, n);
            append_prompt(f, fresh, n);
        }
        assert_int_equal(tl_kv_convert(kv, 0, &after, f->s), TL_OK);
        same_tiers(f, kv, fresh);
        for (uint64_t i = rng_below(&f->rng, 100); i > 0; i--) {
            append_step(f, kv);
            append_step(f, fresh);
        }
        same_tiers(f, kv, fresh);
        const uint32_t keep = (uint32_t)rng_below(&f->rng, kv->n_rows + 1);
        assert_int_equal(tl_kv_rewind(kv, keep, f->s), tl_kv_rewind(fresh, keep, f->s));
        if (kv->n_rows > 0) {
            same_tiers(f, kv, fresh);
        }
        tl_kv_close(&kv);
        tl_kv_close(&fresh);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tiers_follow_from_rows, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(converting_a_layer, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
