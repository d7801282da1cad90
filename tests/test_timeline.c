/* Timelines: schedules small enough to be timed by hand, on a card of round numbers; then costs of
 * recorded steps, which depend on how deep the cache is and not on how large it may get. */
#include "core/plan.h"
#include "core/paper.h"
#include "core/timeline.h"
#include "random_model.h"

#include <stdlib.h>
#include <string.h>

/* 1000 bytes a microsecond, 100 across the link, every op 1 us, 2 more where it crosses. */
static const struct tl_card round_card = {.name = "round",
                                          .bytes_per_s = 1e9,
                                          .link_bytes_per_s = 1e8,
                                          .link_latency_s = 2e-6,
                                          .launch_s = 1e-6,
                                          .reached = {1, 1, 1, 1, 1, 1}};

struct page {
    tl_dev *dev;
    tl_buf *device, *host;
    uint64_t at_device, at_host;
    tl_schedule s;
    struct tl_op_time times[64];
    struct tl_timeline line;
};

static void open_page(struct page *p) {
    memset(p, 0, sizeof *p);
    assert_int_equal(tl_dev_open(&p->dev, &tl_backend_paper, &(struct tl_dev_params){0}), TL_OK);
    assert_int_equal(tl_buf_alloc(&p->device, p->dev, (uint64_t)1 << 40, TL_MEM_DEVICE), TL_OK);
    assert_null(p->device->host);
    assert_int_equal(tl_buf_alloc(&p->host, p->dev, 1 << 20, TL_MEM_HOST), TL_OK);
}

static void close_page(struct page *p) {
    tl_schedule_free(&p->s);
    tl_buf_free(&p->device);
    tl_buf_free(&p->host);
    tl_dev_close(&p->dev);
}

static tl_view on_device(struct page *p, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    const tl_view v = tl_view_of(p->device, p->at_device, rows, cols, dtype);
    p->at_device += tl_align_up(tl_view_bytes(v), 256);
    return v;
}

static tl_view on_host(struct page *p, uint32_t rows, uint32_t cols, tl_dtype dtype) {
    const tl_view v = tl_view_of(p->host, p->at_host, rows, cols, dtype);
    p->at_host += tl_align_up(tl_view_bytes(v), 256);
    return v;
}

static tl_view number(struct page *p, int32_t value) {
    const tl_view v = on_host(p, 1, 1, TL_I32);
    *(int32_t *)tl_view_host(v) = value;
    return v;
}

static void put(struct page *p, struct tl_op op) {
    assert_int_equal(tl_schedule_add(&p->s, &op), TL_OK);
}

static void put_copy(struct page *p, tl_view dst, tl_view src) {
    put(p, (struct tl_op){.verb = TL_VERB_COPY, .u.copy = {.dst = dst, .src = src}});
}

static void make(struct page *p, const struct tl_card *card, double miss) {
    tl_schedule_arrange(&p->s);
    tl_timeline_make(&p->s, &(struct tl_timeline_params){.card = card, .miss = miss}, NULL,
                     p->times, &p->line);
}

static void assert_span(const struct page *p, uint32_t i, double start, double end) {
    if (p->times[i].start_us < start - 1e-6 || p->times[i].start_us > start + 1e-6 ||
        p->times[i].end_us < end - 1e-6 || p->times[i].end_us > end + 1e-6) {
        fail_msg("op %u: %g to %g us, not %g to %g", i, p->times[i].start_us, p->times[i].end_us,
                 start, end);
    }
}

static void assert_near(double got, double want) {
    if (!(got > want - 1e-6 && got < want + 1e-6)) {
        fail_msg("%.9g, not %.9g", got, want);
    }
}

/* Four copies: a -> b on the device (2 x 4000 bytes: 8 us and 1); host -> c on the second stream
 * beside it (4000 bytes across the link: 40 + 3); b -> d; then c -> a, which waits for the second.
 */
static void test_two_streams(void **state) {
    (void)state;
    struct page p;
    open_page(&p);
    const tl_view a = on_device(&p, 1, 1000, TL_F32), b = on_device(&p, 1, 1000, TL_F32);
    const tl_view c = on_device(&p, 1, 1000, TL_F32), d = on_device(&p, 1, 1000, TL_F32);
    const tl_view h = on_host(&p, 1, 1000, TL_F32);
    put_copy(&p, b, a);
    put_copy(&p, c, h);
    put_copy(&p, d, b);
    put_copy(&p, a, c);
    make(&p, &round_card, 0);
    assert_span(&p, 0, 0, 9);
    assert_span(&p, 1, 0, 43);
    assert_span(&p, 2, 9, 18);
    assert_span(&p, 3, 43, 52);
    assert_near(p.line.waiting_us, 25);
    assert_near(p.line.second_us, 43);
    assert_near(p.line.part_us[TL_PART_OTHER], 27);
    assert_near(p.line.step_us, 52);
    assert_int_equal(p.line.link_bytes, 4000);
    assert_int_equal(p.line.device_bytes, 3 * 8000 + 4000);
    /* Without the last op nothing waits but the end. */
    p.s.n = 3;
    make(&p, &round_card, 0);
    assert_int_equal(p.s.join, 1);
    assert_near(p.line.step_us, 43);
    assert_near(p.line.waiting_us, 25);
    /* One memory: nothing crosses a link, but the lanes stay. */
    struct tl_card shared = round_card;
    shared.link_bytes_per_s = 0;
    make(&p, &shared, 0);
    assert_span(&p, 1, 0, 9);
    assert_int_equal(p.line.link_bytes, 0);
    close_page(&p);
}

/* A matrix of 8-bit blocks (64 rows of 64: 64 x 68 bytes) times a vector: bytes, or arithmetic. */
static void test_bytes_or_arithmetic(void **state) {
    (void)state;
    struct page p;
    open_page(&p);
    const tl_view w = on_device(&p, 64, 64, TL_Q8_0), x = on_device(&p, 1, 64, TL_F32);
    const tl_view y = on_device(&p, 1, 64, TL_F32);
    put(&p, (struct tl_op){.verb = TL_VERB_MATMUL, .u.matmul = {.y = y, .x = x, .w = w}});
    make(&p, &round_card, 0);
    const double us = (64 * 68 + 256 + 256) / 1000.0 + 1;
    assert_span(&p, 0, 0, us);
    assert_near(p.line.part_us[TL_PART_WEIGHTS], us);
    struct tl_card slow = round_card;
    slow.f16_flops = 1e9;
    slow.i8_ops = 2e8; /* 8192 operations: 40.96 us */
    make(&p, &slow, 0);
    assert_span(&p, 0, 0, 41.96);
    slow.reached[TL_COST_WEIGHTS] = 0.1f;
    make(&p, &slow, 0);
    assert_span(&p, 0, 0, (64 * 68 + 512) / 100.0 + 1);
    close_page(&p);
}

/* Attention reads the rows that its number says, in a cache of room for a million. */
static void test_depth_is_a_number(void **state) {
    (void)state;
    struct page p;
    open_page(&p);
    const struct tl_kv_rows kv = {.k = on_device(&p, 2u << 20, 64, TL_F16),
                                  .v = on_device(&p, 2u << 20, 64, TL_F16),
                                  .n_kv_heads = 2};
    const tl_view n_rows = number(&p, 100), pos = number(&p, 99);
    const tl_view q = on_device(&p, 1, 256, TL_F32), out = on_device(&p, 1, 256, TL_F32);
    struct tl_op op = {
        .verb = TL_VERB_ATTEND,
        .u.attend = {.out = out, .q = q, .q_pos = pos, .n_rows = n_rows, .kv = kv, .n_heads = 4}};
    put(&p, op);
    op.u.attend.window = 30;
    put(&p, op);
    make(&p, &round_card, 0);
    /* 100 rows of 2 heads of 64 f16, K and V: 51200; q and out: 2048; two numbers of the host. */
    assert_int_equal(p.times[0].cost.device_bytes, 51200 + 2048);
    assert_int_equal(p.times[0].cost.link_bytes, 8);
    assert_near(p.times[0].cost.flops, 4.0 * 256 * 100);
    assert_span(&p, 0, 0, 53.248 + 3);
    assert_int_equal(p.times[1].cost.device_bytes, 15360 + 2048);
    *(int32_t *)tl_view_host(n_rows) = 1000;
    make(&p, &round_card, 0);
    assert_int_equal(p.times[0].cost.device_bytes, 512000 + 2048);
    assert_int_equal(p.times[1].cost.device_bytes, 15360 + 2048);
    close_page(&p);
}

/* A fetch moves what the hot set has not: a quarter of 2 x 8 rows of 2 x 128 bytes; and no more
 * rows than the selection could choose from. */
static void test_fetch_moves_misses(void **state) {
    (void)state;
    struct page p;
    open_page(&p);
    const uint32_t cap = 1000, slots = 100;
    const struct tl_kv_rows home = {.k = on_host(&p, 2 * cap, 64, TL_F16),
                                    .v = on_host(&p, 2 * cap, 64, TL_F16),
                                    .n_kv_heads = 2};
    const struct tl_kv_rows hot = {.k = on_device(&p, 2 * slots, 64, TL_F16),
                                   .v = on_device(&p, 2 * slots, 64, TL_F16),
                                   .n_kv_heads = 2};
    const tl_view n_old = number(&p, 640), idx = on_device(&p, 2, 8, TL_I32);
    const tl_view slot = on_device(&p, 2, 8, TL_I32), score = on_device(&p, 4, 6400, TL_F32);
    put(&p, (struct tl_op){.verb = TL_VERB_TOPK,
                           .u.topk = {.idx = idx, .score = score, .n_rows = n_old}});
    put(&p, (struct tl_op){.verb = TL_VERB_FETCH,
                           .u.fetch = {.hot = hot,
                                       .home = home,
                                       .idx = idx,
                                       .slot = slot,
                                       .owner = on_device(&p, 2, slots, TL_I32),
                                       .used = on_device(&p, 2, slots, TL_I32),
                                       .hand = on_device(&p, 2, 1, TL_I32),
                                       .counts = on_device(&p, 1, 2, TL_I32)}});
    make(&p, &round_card, 0.25);
    assert_int_equal(p.times[0].cost.device_bytes, 4 * 640 * 4 + 64);
    assert_int_equal(p.s.ops[1].lane, TL_LANE_TRANSFER);
    assert_int_equal(p.s.ops[1].wait, 0);
    assert_int_equal(p.times[1].cost.link_bytes, 4 * 256);
    assert_near(p.times[1].start_us, p.times[0].end_us);
    make(&p, &round_card, 1);
    assert_int_equal(p.times[1].cost.link_bytes, 16 * 256);
    *(int32_t *)tl_view_host(n_old) = 3;
    make(&p, &round_card, 1);
    assert_int_equal(p.times[1].cost.link_bytes, 6 * 256);
    *(int32_t *)tl_view_host(n_old) = 0;
    make(&p, &round_card, 1);
    assert_int_equal(p.times[1].cost.link_bytes, 0);
    close_page(&p);
}

/* Costs of all ops of a step of a random model at the given room and depth. Free them. */
static struct tl_op_time *costs_of(uint64_t seed, uint32_t cap, uint32_t depth, uint32_t *n,
                                   struct tl_timeline *line) {
    struct tl_rng rng = {seed};
    tl_dev *dev = NULL;
    assert_int_equal(tl_dev_open(&dev, &tl_backend_paper, &(struct tl_dev_params){0}), TL_OK);
    struct random_model m;
    random_model_open(&m, &rng, dev);
    struct tl_policy policies[4];
    for (int i = 0; i < 4; i++) {
        policies[i] = random_policy(&rng);
    }
    tl_kv *kv = NULL;
    assert_int_equal(tl_kv_open(&kv, &m.model.shape, policies, NULL, dev, cap), TL_OK);
    struct tl_scratch scratch;
    const struct tl_plan_params room = {.n_ctx = cap, .n_chunk = 1, .policies = policies};
    const struct tl_scratch_needs needs = tl_plan_scratch(&m.model.shape, &room);
    assert_int_equal(tl_scratch_open(&scratch, &m.model.shape, dev, &needs), TL_OK);
    tl_schedule s = {0};
    const struct tl_pass pass = {.model = &m.model, .kv = kv, .scratch = &scratch, .record = &s};
    assert_int_equal(tl_decode_record_step(&pass), TL_OK);
    tl_schedule_arrange(&s);
    tl_kv_pretend(kv, depth);
    struct tl_op_time *const times = calloc(s.n, sizeof *times);
    assert_non_null(times);
    tl_timeline_make(&s, &(struct tl_timeline_params){.card = &round_card, .miss = 0.5}, NULL,
                     times, line);
    *n = s.n;
    tl_schedule_free(&s);
    tl_scratch_close(&scratch);
    tl_kv_close(&kv);
    random_model_close(&m);
    tl_dev_close(&dev);
    return times;
}

/* Goal: predictions are of the depth, whatever room there is; deeper never costs less; the parts
 * are the whole. */
static void test_costs_follow_the_depth(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        uint32_t n = 0;
        struct tl_timeline small, large, deeper;
        struct tl_op_time *const a = costs_of(seed, 300, 5000, &n, &small);
        struct tl_op_time *const b = costs_of(seed, 9000, 5000, &n, &large);
        struct tl_op_time *const c = costs_of(seed, 300, 5000 + 64 * 16, &n, &deeper);
        double parts = small.waiting_us;
        for (int i = 0; i < TL_PART_COUNT; i++) {
            parts += small.part_us[i];
        }
        assert_near(parts / small.step_us, 1);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(a[i].cost.device_bytes, b[i].cost.device_bytes);
            assert_int_equal(a[i].cost.link_bytes, b[i].cost.link_bytes);
            assert_true(c[i].cost.device_bytes + c[i].cost.link_bytes >=
                        a[i].cost.device_bytes + a[i].cost.link_bytes);
        }
        assert_near(small.step_us, large.step_us);
        assert_true(deeper.step_us >= small.step_us);
        free(a);
        free(b);
        free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_streams),
        cmocka_unit_test(test_bytes_or_arithmetic),
        cmocka_unit_test(test_depth_is_a_number),
        cmocka_unit_test(test_fetch_moves_misses),
        cmocka_unit_test(test_costs_follow_the_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
