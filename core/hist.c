/* The bounds of histograms. */
#include "hist.h"

static const double token_s[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                 0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
static const double first_s[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                 1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
static const double request_s[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                   30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
static const double tokens[] = {1,   2,   5,   10,  20,  50,  100, 200, 500, 1e3,
                                2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6};

static const struct {
    const double *bounds;
    uint32_t n;
} kinds[TL_HIST_COUNT] = {
    [TL_HIST_TOKEN] = {token_s, sizeof token_s / sizeof token_s[0]},
    [TL_HIST_FIRST] = {first_s, sizeof first_s / sizeof first_s[0]},
    [TL_HIST_REQUEST] = {request_s, sizeof request_s / sizeof request_s[0]},
    [TL_HIST_PREFILL] = {request_s, sizeof request_s / sizeof request_s[0]},
    [TL_HIST_DECODE] = {request_s, sizeof request_s / sizeof request_s[0]},
    [TL_HIST_N_PROMPT] = {tokens, sizeof tokens / sizeof tokens[0]},
    [TL_HIST_N_ANSWER] = {tokens, sizeof tokens / sizeof tokens[0]},
};
_Static_assert(sizeof first_s / sizeof first_s[0] <= TL_HIST_BOUNDS, "the longest list fits");

const double *tl_hist_bounds(tl_hist_kind kind, uint32_t *n) {
    *n = kinds[kind].n;
    return kinds[kind].bounds;
}

void tl_hist_add(struct tl_hist *hist, tl_hist_kind kind, double value) {
    uint32_t n = 0, i = 0;
    const double *const bounds = tl_hist_bounds(kind, &n);
    while (i < n && value > bounds[i]) {
        i++;
    }
    hist->n[i < n ? i : TL_HIST_BOUNDS]++;
    hist->sum += value;
}
