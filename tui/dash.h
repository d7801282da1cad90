/* The dashboard: the newest snapshot of a session, its recent history, and how it is looked at.
 * Drawing is a function of these and a rectangle. */
#ifndef TUI_DASH_H
#define TUI_DASH_H

#include "key.h"
#include "layout.h"

#include "core/stats.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TUI_HISTORY = 512 };

/* By each column of the table, in their order. */
typedef enum tui_sort {
    TUI_SORT_LAYER,
    TUI_SORT_POLICY,
    TUI_SORT_BYTES, /* of all tiers together */
    TUI_SORT_DEVICE,
    TUI_SORT_HOST,
    TUI_SORT_STEP,
    TUI_SORT_HIT,
    TUI_SORT_MOVED, /* since the session began */
    TUI_SORT_COUNT,
} tui_sort;

/* What the device itself says; NaN: not known here. */
struct tui_device {
    char source[16];                      /* "NVML", "amdgpu", "" */
    double used_bytes, total_bytes, busy; /* busy: 0 .. 1 */
    double rx_bytes_s, tx_bytes_s;        /* over the link */
};

struct tui_series {
    float values[TUI_HISTORY]; /* oldest first */
    size_t n;
};

/* Zero-initialise, then tui_dash_init. */
typedef struct tui_dash {
    struct tl_stats now;
    uint64_t seq;
    bool known; /* now holds something */
    uint64_t sampled_ns;
    struct tl_stats_layer *before; /* owned, TL_STATS_LAYERS_MAX: at the last sample */
    uint64_t n_tokens_before;
    struct tui_series rate;   /* tokens per second */
    struct tui_series *moved; /* owned, one a layer: bytes over the link per step */
    struct tui_device device;
    tui_sort sort;
    bool descending, detail, paused, focus;
    bool ended;        /* its process is gone; what it showed last stays */
    uint32_t selected; /* a layer */
    uint32_t interval_ms;
    int32_t first; /* the table's first row in view */
} tui_dash;

TL_MUST tl_err tui_dash_init(tui_dash *d);
void tui_dash_free(tui_dash *d);

/* A snapshot read now (monotonic ns); once per interval it enters the history. */
void tui_dash_update(tui_dash *d, const struct tl_stats *stats, uint64_t now_ns);
/* Another session: no history. */
void tui_dash_forget(tui_dash *d);

/* The layer whose selection is worth watching: the chosen one, else the first that selects;
 * UINT32_MAX: none does. */
uint32_t tui_dash_watches(const tui_dash *d);

/* What a key asked of whoever shows the dashboard. */
typedef enum tui_dash_wish {
    TUI_DASH_DONE,    /* nothing more: the key was the dashboard's */
    TUI_DASH_UNKNOWN, /* the key means nothing here */
    TUI_DASH_HELP,
    TUI_DASH_LOOK, /* the text of what the last token looked at */
    TUI_DASH_BACK, /* Esc, with nothing left to close */
    TUI_DASH_QUIT,
} tui_dash_wish;
/* Keys of the dashboard, and F5 to F8, F9 and F1, F10 by what they mean. */
tui_dash_wish tui_dash_key(tui_dash *d, const struct tui_key *key);
/* Of a key that is unknown here and means something in nvtop, btop or htop: what does that here, or
 * NULL. */
const char *tui_dash_other_key(const struct tui_key *key);

void tui_dash_move(tui_dash *d, int32_t rows);
/* By this column; the other way round where it is sorted by it already. */
void tui_dash_sort(tui_dash *d, tui_sort sort);
/* A click at a cell of the screen where d is drawn in rect: selects a layer or a column to sort by.
 */
void tui_dash_click(tui_dash *d, struct tui_rect rect, int32_t row, int32_t col);
const char *tui_sort_name(tui_sort sort);

void tui_dash_draw(tui_grid *g, struct tui_rect rect, tui_dash *d);

/* What a session is doing, with rate and time left where they are known: "reading 512 of 2000
 * tokens, 800/s, 2 s left", in a few words where cols are few ("reading 25% 2 s"). text must hold
 * 96 bytes. */
const char *tui_activity(const struct tl_stats *s, uint64_t now_ns, int32_t cols, char *text);
/* "5.2M"; text must hold 16 bytes. NaN: "N/A". */
const char *tui_bytes(double bytes, char *text);
/* The layers in the order of the table; order must hold n_layers_shown. */
void tui_dash_order(const tui_dash *d, uint32_t *order);
/* Share of wanted rows that were on the device; NaN where none were wanted. */
double tui_hit_rate(const struct tl_traffic *t);

#ifdef __cplusplus
}
#endif

#endif
