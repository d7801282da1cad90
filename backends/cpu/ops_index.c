/* The specification of the verbs that index rows by channels or pages: plain loops, double sums,
 * one rounding. The two that score in every step have faster versions (x86_index.inc); the others
 * copy, compare, or run once in 64 tokens. Nothing needs scratch, so nothing fails, and nothing
 * depends on the number of threads: a thread computes whole outputs. */
#include "cpu.h"

#include <math.h>
#include <string.h>

static const uint16_t *half_row(const tl_view *v, uint64_t i) { return cpu_row(v, i); }

/* One head's block: 64 rows of d become d columns of 64. A channel's largest value goes on from the
 * block before. */
static void transpose_block(const struct tl_key_transpose *op, uint32_t h, uint32_t i) {
    const struct tl_columns *const dst = &op->dst;
    const uint64_t d = dst->most.cols, cap = dst->most.rows / dst->n_kv_heads;
    const uint64_t src_cap = op->src.rows / dst->n_kv_heads;
    const uint64_t block = (uint64_t)op->dst_block + i;
    const uint16_t *const src =
        half_row(&op->src, h * src_cap + op->src_row + (uint64_t)i * TL_BLOCK);
    const uint16_t *const before = block > 0 ? half_row(&dst->most, h * cap + block - 1) : NULL;
    uint16_t *const most = cpu_row(&dst->most, h * cap + block);
    for (uint64_t c = 0; c < d; c++) {
        uint16_t *const column = (uint16_t *)cpu_row(&dst->keys, h * d + c) + block * TL_BLOCK;
        uint16_t largest = before != NULL ? before[c] : 0;
        for (uint64_t t = 0; t < TL_BLOCK; t++) {
            const uint16_t key = src[t * d + c];
            /* Positive halves order as their bits do; 0x7c00 is infinity, NaNs are above. */
            const uint16_t size = key & 0x7fff;
            column[t] = key;
            largest = size <= 0x7c00 && size > largest ? size : largest;
        }
        most[c] = largest;
    }
}

static void key_transpose_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_key_transpose *const op = arg;
    for (uint32_t h = thread; h < op->dst.n_kv_heads; h += n_threads) {
        for (uint32_t i = 0; i < op->n_blocks; i++) {
            transpose_block(op, h, i);
        }
    }
}

void cpu_key_transpose(struct cpu_dev *dev, const struct tl_key_transpose *op) {
    struct tl_key_transpose copy = *op;
    cpu_share(dev, key_transpose_job, &copy, (uint64_t)op->n_blocks * TL_BLOCK * op->dst.keys.rows);
}

/* Sums of a group's queries, channel by channel, in float. */
static void group_query(const tl_view *q, uint32_t kv_head, uint32_t group, uint32_t d,
                        float *sums) {
    const float *const first = (const float *)cpu_row(q, 0) + (uint64_t)kv_head * group * d;
    for (uint32_t c = 0; c < d; c++) {
        sums[c] = first[c];
        for (uint32_t h = 1; h < group; h++) {
            sums[c] += first[(uint64_t)h * d + c];
        }
    }
}

static void choose_channels(const struct tl_channels *op, uint32_t kv_head) {
    const uint32_t n = op->ids.rows, d = op->most.cols, cap = op->most.rows / n;
    const uint32_t n_blocks = cpu_blocks_seen(&op->n_blocks), k = op->ids.cols;
    const uint64_t row = (uint64_t)kv_head * cap + n_blocks;
    const uint16_t *const most = n_blocks > 0 ? half_row(&op->most, row - 1) : NULL;
    float weight[TL_HEAD_DIM_MAX];
    bool chosen[TL_HEAD_DIM_MAX] = {false};
    group_query(&op->q, kv_head, op->n_heads / n, d, weight);
    for (uint32_t c = 0; c < d; c++) {
        const float size = most != NULL ? tl_f16_to_f32(most[c]) : 0.0f;
        weight[c] = fabsf(weight[c]) * size;
        weight[c] = isnan(weight[c]) ? 0.0f : weight[c];
    }
    for (uint32_t j = 0; j < k; j++) {
        uint32_t best = d;
        for (uint32_t c = 0; c < d; c++) {
            best = !chosen[c] && (best == d || weight[c] > weight[best]) ? c : best;
        }
        chosen[best] = true;
    }
    int32_t *ids = cpu_row(&op->ids, kv_head);
    for (uint32_t c = 0; c < d; c++) {
        if (chosen[c]) {
            *ids++ = (int32_t)c;
        }
    }
}

void cpu_channels(const struct tl_channels *op) {
    for (uint32_t h = 0; h < op->ids.rows; h++) {
        choose_channels(op, h);
    }
}

/* The place of id in ids (n), or n. */
static uint32_t place_of(int32_t id, const int32_t *ids, uint32_t n) {
    uint32_t i = 0;
    while (i < n && ids[i] != id) {
        i++;
    }
    return i;
}

/* Decides which channel goes where and brings held up to date; what must be copied stands there as
 * -1 - id until it is. Returns how many. */
static uint32_t place_channels(const struct tl_channel_fetch *op, uint32_t h) {
    const uint32_t k = op->want.cols;
    const int32_t *const want = cpu_row(&op->want, h);
    int32_t *const held = cpu_row(&op->held, h);
    bool stays[TL_HEAD_DIM_MAX];
    int32_t missing[TL_HEAD_DIM_MAX];
    uint32_t n_missing = 0, place = 0;
    for (uint32_t j = 0; j < k; j++) {
        stays[j] = op->keep && place_of(held[j], want, k) < k;
        if (!op->keep || place_of(want[j], held, k) == k) {
            missing[n_missing++] = want[j];
        }
    }
    for (uint32_t i = 0; i < n_missing; i++) {
        while (stays[place]) {
            place++;
        }
        held[place++] = -1 - missing[i];
    }
    return n_missing;
}

static void channel_copy_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_channel_fetch *const op = arg;
    const uint32_t k = op->held.cols, d = op->keys.rows / op->held.rows;
    const size_t bytes = (size_t)cpu_blocks_seen(&op->n_blocks) * TL_BLOCK * sizeof(uint16_t);
    for (uint64_t i = thread; i < op->part.rows; i += n_threads) {
        const int32_t held = ((const int32_t *)cpu_row(&op->held, i / k))[i % k];
        if (held < 0) {
            const uint64_t from = i / k * d + (uint32_t)(-1 - held);
            memcpy(cpu_row(&op->part, i), cpu_row(&op->keys, from), bytes);
        }
    }
}

void cpu_channel_fetch(struct cpu_dev *dev, const struct tl_channel_fetch *op) {
    const uint32_t n = op->held.rows, k = op->held.cols;
    int32_t *const counts = cpu_row(&op->counts, 0);
    for (uint32_t h = 0; h < n; h++) {
        const uint32_t n_missing = place_channels(op, h);
        counts[0] += (int32_t)(k - n_missing);
        counts[1] += (int32_t)n_missing;
    }
    struct tl_channel_fetch copy = *op;
    const uint64_t n_rows = (uint64_t)cpu_blocks_seen(&op->n_blocks) * TL_BLOCK;
    cpu_share(dev, channel_copy_job, &copy, n_rows * op->part.rows);
    for (uint32_t h = 0; h < n; h++) {
        int32_t *const held = cpu_row(&op->held, h);
        for (uint32_t j = 0; j < k; j++) {
            held[j] = held[j] < 0 ? -1 - held[j] : held[j];
        }
    }
}

static void channel_score_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_channel_score *const op = arg;
    const uint32_t n = op->held.rows, k = op->held.cols, group = op->n_heads / n;
    const uint64_t n_rows = (uint64_t)cpu_blocks_seen(&op->n_blocks) * TL_BLOCK;
    uint64_t begin, end;
    cpu_slice(n_rows * n, thread, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const uint32_t h = (uint32_t)(i / n_rows);
        const uint64_t t = i % n_rows;
        const int32_t *const held = cpu_row(&op->held, h);
        const float *const q =
            (const float *)cpu_row(&op->q, 0) + (uint64_t)h * group * op->head_dim;
        double sum = 0.0;
        for (uint32_t j = 0; j < k; j++) {
            double mean = 0.0;
            for (uint32_t g = 0; g < group; g++) {
                mean += (double)q[(uint64_t)g * op->head_dim + (uint32_t)held[j]];
            }
            const uint16_t key = half_row(&op->part, (uint64_t)h * k + j)[t];
            sum += mean / group * (double)tl_f16_to_f32(key);
        }
        ((float *)cpu_row(&op->score, h))[t] = (float)sum;
    }
}

bool cpu_channel_score_plain(struct cpu_dev *dev, const struct tl_channel_score *op) {
    struct tl_channel_score copy = *op;
    cpu_share(dev, channel_score_job, &copy, UINT64_MAX);
    return true;
}

/* What a page is made from: no infinities, no NaN, one zero. */
static double number_of(uint16_t half) {
    const float x = tl_f16_to_f32(half);
    return isnan(x) ? 0.0 : fmax(-65504.0, fmin(65504.0, (double)x)) + 0.0;
}

static void encode_channel(const struct tl_pages *dst, const uint16_t *keys, uint32_t d,
                           uint16_t *first, uint16_t *second) {
    double least = (double)INFINITY, most = -(double)INFINITY, sum = 0.0, squares = 0.0;
    for (uint32_t t = 0; t < dst->page; t++) {
        const double x = number_of(keys[(uint64_t)t * d]);
        least = fmin(least, x);
        most = fmax(most, x);
        sum += x;
    }
    if (dst->kind == TL_PAGE_BOUNDS) {
        *first = tl_f32_to_f16((float)least);
        *second = tl_f32_to_f16((float)most);
        return;
    }
    const double mean = sum / dst->page;
    for (uint32_t t = 0; t < dst->page; t++) {
        const double x = number_of(keys[(uint64_t)t * d]) - mean;
        squares += x * x;
    }
    *first = tl_f32_to_f16((float)mean);
    *second = tl_f32_to_f16((float)sqrt(squares / dst->page));
}

static void page_encode_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_page_encode *const op = arg;
    const struct tl_pages *const dst = &op->dst;
    const uint32_t d = dst->rows.cols / 2, per_block = TL_BLOCK / dst->page;
    const uint64_t cap = dst->rows.rows / dst->n_kv_heads;
    const uint64_t src_cap = op->src.rows / dst->n_kv_heads;
    const uint64_t n_pages = (uint64_t)op->n_blocks * per_block;
    uint64_t begin, end;
    cpu_slice(n_pages * dst->n_kv_heads, thread, n_threads, &begin, &end);
    for (uint64_t item = begin; item < end; item++) {
        const uint64_t h = item / n_pages, i = item % n_pages;
        const uint16_t *const src = half_row(&op->src, h * src_cap + op->src_row + i * dst->page);
        uint16_t *const page =
            cpu_row(&dst->rows, h * cap + (uint64_t)op->dst_block * per_block + i);
        for (uint32_t c = 0; c < d; c++) {
            encode_channel(dst, src + c, d, page + c, page + d + c);
        }
    }
}

void cpu_page_encode(struct cpu_dev *dev, const struct tl_page_encode *op) {
    struct tl_page_encode copy = *op;
    cpu_share(dev, page_encode_job, &copy, (uint64_t)op->n_blocks * TL_BLOCK * op->src.cols * 4);
}

static double page_value(const struct tl_page_score *op, const float *q, const uint16_t *page) {
    const uint32_t d = op->pages.rows.cols / 2;
    double sum = 0.0, squares = 0.0;
    for (uint32_t c = 0; c < d; c++) {
        const double a = (double)q[c] * (double)tl_f16_to_f32(page[c]);
        const double b = (double)q[c] * (double)tl_f16_to_f32(page[d + c]);
        sum += op->pages.kind == TL_PAGE_BOUNDS ? fmax(a, b) : a;
        squares += b * b;
    }
    sum += op->pages.kind == TL_PAGE_BOUNDS ? 0.0 : (double)op->sigmas * sqrt(squares);
    return cpu_cap_softly(sum * (double)op->scale, op->softcap);
}

static void page_score_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const struct tl_page_score *const op = arg;
    const struct tl_pages *const p = &op->pages;
    const uint32_t d = p->rows.cols / 2, group = op->n_heads / p->n_kv_heads;
    const uint64_t cap = p->rows.rows / p->n_kv_heads;
    const uint64_t n_pages = (uint64_t)cpu_blocks_seen(&op->n_blocks) * (TL_BLOCK / p->page);
    uint64_t begin, end;
    cpu_slice(n_pages * op->n_heads, thread, n_threads, &begin, &end);
    for (uint64_t item = begin; item < end; item++) {
        const uint64_t h = item / n_pages, i = item % n_pages;
        const float *const q = (const float *)cpu_row(&op->q, 0) + h * d;
        const double value = page_value(op, q, half_row(&p->rows, h / group * cap + i));
        float *const score = (float *)cpu_row(&op->score, h) + i * p->page;
        for (uint32_t t = 0; t < p->page; t++) {
            score[t] = (float)value;
        }
    }
}

bool cpu_page_score_plain(struct cpu_dev *dev, const struct tl_page_score *op) {
    struct tl_page_score copy = *op;
    cpu_share(dev, page_score_job, &copy, UINT64_MAX);
    return true;
}
