/* Drawing the dashboard. Tiers are told apart by sign and colour:
 *
 *     window full block, sketch dark shade, hot medium shade, home on the device squares, host
 *     light shade; the same five in the legend
 *
 * The table takes the columns that fit, the most telling first. */
#include "dash.h"

#include "plot.h"
#include "width.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    NARROW = 30, /* columns; the following too */
    CONTEXT_COLS = 8,
    TIMES_COLS = 60,
    GAUGE_COLS = 58,
    LEGEND_COLS = 64,
    SIGN_FULL = 0x2588,
    SIGN_DARK = 0x2593,
    SIGN_MEDIUM = 0x2592,
    SIGN_LIGHT = 0x2591,
    SIGN_SQUARE = 0x25a0,
    SIGN_SMALL = 0x25aa
};

static struct tui_at at_of(struct tui_rect rect, int32_t row, int32_t col, unsigned style) {
    return (struct tui_at){rect, row, col, style};
}

static void draw_title(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    tui_fill(g, r, TUI_TITLE);
    const unsigned style = TUI_TITLE | (d->focus ? TUI_BOLD : 0u);
    int32_t col = tui_puts(g, at_of(r, 0, 1, style), d->focus ? "\xe2\x96\xb6 cache" : "cache");
    col = tui_putf(g, at_of(r, 0, col, TUI_TITLE), " %s", d->now.kv);
    if (d->ended) {
        col = tui_puts(g, at_of(r, 0, col + 1, TUI_TITLE | TUI_BOLD), "ENDED");
    }
    if (d->paused) {
        col = tui_puts(g, at_of(r, 0, col + 1, TUI_TITLE | TUI_BOLD), "PAUSED");
    }
    char right[64];
    const bool sorted = d->sort != TUI_SORT_LAYER; /* by a column that may be out of view */
    const int n =
        snprintf(right, sizeof right, "%s%s%severy %u ms ", sorted ? "by " : "",
                 sorted ? tui_sort_name(d->sort) : "", sorted ? ", " : "", d->interval_ms);
    if (col + n < r.cols) {
        tui_puts(g, at_of(r, 0, r.cols - n, TUI_TITLE), right);
    }
}

/* With a sign where it goes on. */
static void draw_cut(tui_grid *g, struct tui_rect cell, unsigned style, const char *text) {
    if (tui_puts(g, at_of(cell, 0, 0, style), text) > cell.cols && cell.cols > 0) {
        tui_repeat(g, at_of(cell, 0, cell.cols - 1, style), 0x2026, 1);
    }
}

static void draw_model(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tl_stats *const s = &d->now;
    char text[sizeof s->model + sizeof s->backend + sizeof s->device + sizeof s->kernels + 32];
    snprintf(text, sizeof text, "%s, %u layers, on %s: %s, %s", s->model, s->n_layers, s->backend,
             s->device, s->kernels);
    draw_cut(g, r, TUI_TEXT, text);
}

/* The long text, or the brief one where it is too long. */
static void put_either(tui_grid *g, struct tui_at at, const char *text, const char *brief) {
    const bool fits = tui_text_width(text, strlen(text)) + at.col <= at.rect.cols;
    tui_puts(g, at, fits ? text : brief);
}

static void draw_context(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tl_stats *const s = &d->now;
    const double share = s->ctx_cap > 0 ? (double)s->ctx_used / s->ctx_cap : (double)NAN;
    const unsigned style = share > 0.95 ? TUI_ERROR : share > 0.8 ? TUI_WARN : TUI_GOOD;
    char text[64];
    if (isnan(share)) {
        snprintf(text, sizeof text, " N/A");
    } else {
        snprintf(text, sizeof text, " %u/%u %.0f%%", s->ctx_used, s->ctx_cap, 100 * share);
    }
    const int32_t room = r.cols - CONTEXT_COLS - (int32_t)strlen(text);
    if (room < 4) {
        tui_puts(g, at_of(r, 0, 0, style), text + 1);
        return;
    }
    const int32_t cols = room > 32 ? 32 : room;
    tui_puts(g, at_of(r, 0, 0, TUI_DIM), "context ");
    tui_plot_gauge(g, at_of(r, 0, CONTEXT_COLS, style), cols, share);
    tui_puts(g, at_of(r, 0, CONTEXT_COLS + cols, TUI_TEXT), text);
}

static void draw_rate(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tl_stats *const s = &d->now;
    char text[96];
    if (s->activity == TL_ACTIVITY_LOADING || s->activity == TL_ACTIVITY_PROMPT) {
        tui_puts(g, at_of(r, 0, 0, TUI_TEXT), tui_activity(s, s->now_ns, r.cols, text));
        return;
    }
    int32_t col = tui_puts(g, at_of(r, 0, 0, TUI_DIM),
                           s->activity == TL_ACTIVITY_ANSWER ? "answering" : "idle");
    if (isnan(s->tokens_per_s)) {
        tui_puts(g, at_of(r, 0, col + 1, TUI_DIM), "tokens/s N/A yet");
        return;
    }
    col = tui_putf(g, at_of(r, 0, col, TUI_TEXT | TUI_BOLD),
                   r.cols < NARROW ? " %.1f/s" : " %.1f tokens/s", s->tokens_per_s);
    tui_putf(g, at_of(r, 0, col, TUI_TEXT | TUI_BOLD), ", %.1f ms each", 1e3 / s->tokens_per_s);
}

/* Where a step went: the parts that the backend can tell apart. */
static void draw_times(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    static const char *const names[2][TL_TIME_COUNT] = {
        {"step", "compute", "transfer", "wait", "sample"},
        {"step", "comp", "pcie", "wait", "pick"}};
    const bool brief = r.cols < TIMES_COLS;
    int32_t col = tui_puts(g, at_of(r, 0, 0, TUI_DIM), "ms");
    for (int part = 0; part < TL_TIME_COUNT; part++) {
        const bool known = (d->now.times_known >> part & 1) != 0;
        const double ms = (double)d->now.time_ns[part] / 1e6;
        const int digits = ms >= 100 ? 0 : ms >= 10 || brief ? 1 : 2;
        col = tui_putf(g, at_of(r, 0, col, TUI_DIM), " %s ", names[brief][part]);
        col = known ? tui_putf(g, at_of(r, 0, col, TUI_TEXT), "%.*f", digits, ms)
                    : tui_puts(g, at_of(r, 0, col, TUI_DIM), "N/A");
    }
}

static void draw_memory(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tl_stats *const s = &d->now;
    struct tl_kv_bytes sum = {0};
    char text[5][16], all[128], brief[128];
    for (uint32_t il = 0; il < s->n_layers_shown; il++) {
        const struct tl_kv_bytes *const room = &s->layers[il].room;
        sum.window += tl_kv_device_bytes(room);
        sum.home_host += room->home_host;
    }
    tui_bytes((double)s->weights_bytes, text[0]);
    tui_bytes((double)sum.window, text[1]);
    tui_bytes((double)sum.home_host, text[2]);
    tui_bytes((double)s->scratch_bytes, text[3]);
    tui_bytes((double)s->device_bytes, text[4]);
    snprintf(all, sizeof all, "weights %s cache %s + host %s scratch %s peak %s", text[0], text[1],
             text[2], text[3], text[4]);
    snprintf(brief, sizeof brief, "w %s kv %s+%s peak %s", text[0], text[1], text[2], text[4]);
    put_either(g, at_of(r, 0, 0, TUI_TEXT), all, brief);
}

static void draw_device(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tui_device *const dev = &d->device;
    char text[4][16], busy[16] = "N/A", all[160], brief[160];
    if (!isnan(dev->busy)) {
        snprintf(busy, sizeof busy, "%.0f%%", 100 * dev->busy);
    }
    tui_bytes(dev->used_bytes, text[0]);
    tui_bytes(dev->total_bytes, text[1]);
    tui_bytes(dev->rx_bytes_s, text[2]);
    tui_bytes(dev->tx_bytes_s, text[3]);
    const char *const of = isnan(dev->total_bytes) ? "" : "/", *const total = *of ? text[1] : "";
    const char *const source = dev->source[0] != '\0' ? dev->source : "device";
    snprintf(all, sizeof all, "%s: memory %s%s%s, busy %s, link %s/s in, %s/s out", source, text[0],
             of, total, busy, text[2], text[3]);
    snprintf(brief, sizeof brief, "%s %s%s%s %s in %s out %s", source, text[0], of, total, busy,
             text[2], text[3]);
    put_either(g, at_of(r, 0, 0, TUI_DIM), all, brief);
}

static void draw_heat(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tl_stats *const s = &d->now;
    if (s->heat_layer == UINT32_MAX) {
        const bool none = tui_dash_watches(d) == UINT32_MAX;
        tui_puts(g, at_of(r, 0, 0, TUI_DIM),
                 none ? "looked at: N/A, no layer selects rows" : "looked at: N/A yet");
        return;
    }
    tui_putf(g, at_of(r, 0, 0, TUI_DIM), "looked at by layer %u, of %u tokens", s->heat_layer,
             s->ctx_used);
    tui_plot_heat(g, at_of(r, 1, 0, TUI_TEXT), r.cols, s->heat, TL_STATS_HEAT);
}

/* Of all layers that were looked at, and of the rows that all layers wanted. */
static void draw_gauge(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    double mass = 0, error = 0;
    uint32_t n = 0;
    struct tl_traffic rows = {0};
    for (uint32_t il = 0; il < d->now.n_layers_shown; il++) {
        const struct tl_stats_layer *const l = &d->now.layers[il];
        rows.rows_hit += l->total.rows_hit;
        rows.rows_fetched += l->total.rows_fetched;
        if (!isnan(l->gauge_error)) {
            mass += l->gauge_mass;
            error += l->gauge_error;
            n++;
        }
    }
    char hits[32] = "hits N/A", all[96], brief[96];
    if (!isnan(tui_hit_rate(&rows))) {
        snprintf(hits, sizeof hits, "hits %.0f%%", 100 * tui_hit_rate(&rows));
    }
    if (n == 0) {
        tui_putf(g, at_of(r, 0, 0, TUI_DIM), "fidelity N/A, %s", hits);
        return;
    }
    const double share = mass / n;
    const int32_t col = r.cols < GAUGE_COLS ? 0 : tui_puts(g, at_of(r, 0, 0, TUI_DIM), "fidelity ");
    const int32_t cols = r.cols < GAUGE_COLS ? 0 : 16;
    tui_plot_gauge(g, at_of(r, 0, col, share < 0.5 ? TUI_WARN : TUI_GOOD), cols, share);
    snprintf(all, sizeof all, " %.1f%% exact, error %.3f, %s", 100 * share, error / n, hits);
    snprintf(brief, sizeof brief, "exact %.0f%% err %.3f %s", 100 * share, error / n, hits);
    put_either(g, at_of(r, 0, col + cols, TUI_TEXT), all, brief);
}

static void draw_legend(tui_grid *g, struct tui_rect r) {
    static const struct {
        const char *name;
        uint32_t sign;
        unsigned style;
    } tiers[] = {{"window", SIGN_FULL, TUI_WINDOW},   {"sketch", SIGN_DARK, TUI_SKETCH},
                 {"hot", SIGN_MEDIUM, TUI_HOT},       {"index", SIGN_SMALL, TUI_INDEX},
                 {"device", SIGN_SQUARE, TUI_DEVICE}, {"host", SIGN_LIGHT, TUI_HOST}};
    const char *const fmt = r.cols < LEGEND_COLS ? "%s " : " %s  ";
    int32_t col = 0;
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++) {
        tui_repeat(g, at_of(r, 0, col, tiers[i].style), tiers[i].sign, 1);
        col = tui_putf(g, at_of(r, 0, col + 1, TUI_DIM), fmt, tiers[i].name);
    }
    tui_puts(g, at_of(r, 0, col, TUI_DIM), "disk N/A");
}

/* ---- the table ---- */

typedef enum column {
    COL_LAYER,
    COL_POLICY,
    COL_BAR,
    COL_DEVICE,
    COL_HOST,
    COL_STEP,
    COL_HIT,
    COL_SPARK,
    N_COLS
} column;

struct columns {
    int32_t from[N_COLS], cols[N_COLS]; /* cols 0: not shown */
};

static const struct {
    tui_sort sort;        /* which names it too */
    int32_t least, share; /* share: of what is left over */
    bool left;            /* its name stands left */
} column_of[N_COLS] = {
    [COL_LAYER] = {TUI_SORT_LAYER, 6, 0, false}, [COL_POLICY] = {TUI_SORT_POLICY, 10, 4, true},
    [COL_BAR] = {TUI_SORT_BYTES, 8, 3, true},    [COL_DEVICE] = {TUI_SORT_DEVICE, 7, 0, false},
    [COL_HOST] = {TUI_SORT_HOST, 7, 0, false},   [COL_STEP] = {TUI_SORT_STEP, 7, 0, false},
    [COL_HIT] = {TUI_SORT_HIT, 5, 0, false},     [COL_SPARK] = {TUI_SORT_MOVED, 8, 2, true},
};

static struct columns choose_columns(int32_t cols) {
    static const column by_rank[N_COLS] = {COL_LAYER, COL_BAR,    COL_DEVICE, COL_STEP,
                                           COL_HIT,   COL_POLICY, COL_HOST,   COL_SPARK};
    struct columns c = {0};
    int32_t left = cols, shares = 0;
    for (size_t i = 0; i < N_COLS; i++) {
        const int32_t need = column_of[by_rank[i]].least + 1;
        if (left < need) {
            break;
        }
        c.cols[by_rank[i]] = need - 1;
        left -= need;
        shares += column_of[by_rank[i]].share;
    }
    int32_t from = 0;
    for (size_t i = 0; i < N_COLS; i++) {
        c.from[i] = from;
        if (c.cols[i] > 0) {
            c.cols[i] += shares > 0 ? left * column_of[i].share / shares : 0;
            from += c.cols[i] + 1;
        }
    }
    return c;
}

static struct tui_rect cell_rect(struct tui_rect table, const struct columns *c, column col,
                                 int32_t row) {
    return (struct tui_rect){table.row + row, table.col + c->from[col], 1, c->cols[col]};
}

static void draw_right(tui_grid *g, struct tui_rect cell, unsigned style, const char *text) {
    const int32_t col = cell.cols - (int32_t)strlen(text);
    tui_puts(g, at_of(cell, 0, col > 0 ? col : 0, style), text);
}

static double held_sum(const struct tl_kv_bytes *b) {
    return (double)(tl_kv_device_bytes(b) + b->home_host);
}

static void draw_bar(tui_grid *g, struct tui_rect cell, const struct tl_kv_bytes *b, double whole) {
    const struct tui_share shares[] = {{(double)b->window, SIGN_FULL, TUI_WINDOW},
                                       {(double)b->sketch, SIGN_DARK, TUI_SKETCH},
                                       {(double)b->hot, SIGN_MEDIUM, TUI_HOT},
                                       {(double)b->index, SIGN_SMALL, TUI_INDEX},
                                       {(double)b->home_device, SIGN_SQUARE, TUI_DEVICE},
                                       {(double)b->home_host, SIGN_LIGHT, TUI_HOST}};
    tui_plot_bar(g, at_of(cell, 0, 0, TUI_TEXT), cell.cols, shares,
                 sizeof shares / sizeof shares[0], whole);
}

static void draw_layer(tui_grid *g, struct tui_rect table, const struct columns *c, int32_t row,
                       const tui_dash *d, uint32_t il, double whole) {
    const struct tl_stats_layer *const l = &d->now.layers[il];
    const unsigned style = il == d->selected && d->focus ? TUI_SELECTED : TUI_TEXT;
    char text[16];
    if (style == TUI_SELECTED) {
        tui_fill(g, (struct tui_rect){table.row + row, table.col, 1, table.cols}, style);
    }
    snprintf(text, sizeof text, "%u", il);
    draw_right(g, cell_rect(table, c, COL_LAYER, row), style, text);
    draw_cut(g, cell_rect(table, c, COL_POLICY, row), style, l->policy);
    draw_bar(g, cell_rect(table, c, COL_BAR, row), &l->held, whole);
    const double device = (double)tl_kv_device_bytes(&l->held);
    draw_right(g, cell_rect(table, c, COL_DEVICE, row), style, tui_bytes(device, text));
    draw_right(g, cell_rect(table, c, COL_HOST, row), style,
               tui_bytes((double)l->held.home_host, text));
    draw_right(
        g, cell_rect(table, c, COL_STEP, row), style,
        tui_bytes((double)(l->step.host_to_device_bytes + l->step.device_to_host_bytes), text));
    const double hit = tui_hit_rate(&l->total);
    snprintf(text, sizeof text, "%.0f%%", 100 * hit);
    draw_right(g, cell_rect(table, c, COL_HIT, row), style, isnan(hit) ? "N/A" : text);
    const struct tui_rect spark = cell_rect(table, c, COL_SPARK, row);
    tui_plot_spark(g, at_of(spark, 0, 0, style == TUI_SELECTED ? style : TUI_PLOT),
                   d->moved[il].values, d->moved[il].n, 0);
}

static void draw_head(tui_grid *g, struct tui_rect table, const struct columns *c,
                      const tui_dash *d) {
    for (size_t i = 0; i < N_COLS; i++) {
        const struct tui_rect cell = cell_rect(table, c, (column)i, 0);
        const bool sorted = column_of[i].sort == d->sort;
        const unsigned style = TUI_DIM | TUI_UNDERLINE | (sorted ? TUI_BOLD : 0u);
        char text[24];
        snprintf(text, sizeof text, "%s%s", sorted ? (d->descending ? "v" : "^") : "",
                 tui_sort_name(column_of[i].sort));
        if (column_of[i].left) {
            tui_puts(g, at_of(cell, 0, 0, style), text);
        } else {
            draw_right(g, cell, style, text);
        }
    }
}

static void draw_table(tui_grid *g, struct tui_rect r, tui_dash *d) {
    uint32_t order[TL_STATS_LAYERS_MAX];
    const struct columns c = choose_columns(r.cols);
    const int32_t n = (int32_t)d->now.n_layers_shown, room = r.rows - 1;
    int32_t at = 0;
    double whole = 0;
    if (r.rows <= 0) {
        return;
    }
    tui_dash_order(d, order);
    for (int32_t i = 0; i < n; i++) {
        const double held = held_sum(&d->now.layers[order[i]].held);
        whole = held > whole ? held : whole;
        at = order[i] == d->selected ? i : at;
    }
    d->first = at < d->first ? at : at >= d->first + room ? at - room + 1 : d->first;
    d->first = d->first > n - room ? n - room : d->first;
    d->first = d->first < 0 ? 0 : d->first;
    draw_head(g, r, &c, d);
    for (int32_t i = 0; i < room && d->first + i < n; i++) {
        draw_layer(g, r, &c, i + 1, d, order[d->first + i], whole);
    }
}

/* ---- one layer ---- */

static void draw_tier(tui_grid *g, struct tui_rect r, int32_t row, const char *name, uint64_t held,
                      uint64_t room) {
    char text[2][16];
    if (row < r.rows) {
        tui_putf(g, at_of(r, row, 2, TUI_TEXT), "%-8s %8s of %8s", name,
                 tui_bytes((double)held, text[0]), tui_bytes((double)room, text[1]));
    }
}

static void draw_detail(tui_grid *g, struct tui_rect r, const tui_dash *d) {
    const struct tl_stats_layer *const l = &d->now.layers[d->selected];
    char text[4][16], dense[32] = "N/A";
    if (!isnan(l->dense_score)) {
        snprintf(dense, sizeof dense, "%.3f", l->dense_score);
    }
    tui_putf(g, at_of(r, 0, 0, TUI_HEADING | TUI_BOLD), "layer %u of %u: %s", d->selected,
             d->now.n_layers, l->policy);
    draw_tier(g, r, 1, "window", l->held.window, l->room.window);
    draw_tier(g, r, 2, "sketch", l->held.sketch, l->room.sketch);
    draw_tier(g, r, 3, "hot", l->held.hot, l->room.hot);
    draw_tier(g, r, 4, "index", l->held.index, l->room.index);
    draw_tier(g, r, 5, "device", l->held.home_device, l->room.home_device);
    draw_tier(g, r, 6, "host", l->held.home_host, l->room.home_host);
    tui_putf(g, at_of(r, 7, 0, TUI_TEXT), "this step: %s in, %s out; so far %s in, %s out",
             tui_bytes((double)l->step.host_to_device_bytes, text[0]),
             tui_bytes((double)l->step.device_to_host_bytes, text[1]),
             tui_bytes((double)l->total.host_to_device_bytes, text[2]),
             tui_bytes((double)l->total.device_to_host_bytes, text[3]));
    tui_putf(g, at_of(r, 8, 0, TUI_TEXT), "rows hit %llu, fetched %llu; dense score %s",
             (unsigned long long)l->total.rows_hit, (unsigned long long)l->total.rows_fetched,
             dense);
    if (isnan(l->gauge_error)) {
        tui_puts(g, at_of(r, 9, 0, TUI_DIM), "fidelity N/A");
    } else {
        const double mass = 100 * l->gauge_mass, error = l->gauge_error;
        char all[96], brief[96];
        snprintf(all, sizeof all, "fidelity: %.1f%% of attention exact, error %.3f (%u looks)",
                 mass, error, l->gauge_n);
        snprintf(brief, sizeof brief, "fidelity: %.0f%% exact, error %.3f of %u", mass, error,
                 l->gauge_n);
        put_either(g, at_of(r, 9, 0, TUI_TEXT), all, brief);
    }
    const struct tui_rect spark = tui_rect_below(r, 10);
    tui_plot_spark(g, at_of(spark, 0, 0, TUI_PLOT), d->moved[d->selected].values,
                   d->moved[d->selected].n, 0);
}

void tui_dash_draw(tui_grid *g, struct tui_rect rect, tui_dash *d) {
    struct tui_rect parts[TUI_PART_COUNT];
    const int32_t n = (int32_t)d->now.n_layers_shown;
    const bool detail = d->detail && n > 0;
    if (!d->known || d->now.n_layers == 0) {
        char text[96] = "nothing is loaded yet";
        tui_puts(g, at_of(rect, 0, 0, TUI_DIM),
                 d->known ? tui_activity(&d->now, d->now.now_ns, rect.cols, text) : text);
        return;
    }
    tui_layout_dash(rect, detail && n < 14 ? 14 : n + 1, parts);
    draw_title(g, parts[TUI_PART_TITLE], d);
    draw_model(g, parts[TUI_PART_MODEL], d);
    draw_context(g, parts[TUI_PART_CONTEXT], d);
    draw_rate(g, parts[TUI_PART_RATE], d);
    tui_plot_spark(g, at_of(parts[TUI_PART_SPARK], 0, 0, TUI_PLOT), d->rate.values, d->rate.n, 0);
    draw_times(g, parts[TUI_PART_TIMES], d);
    draw_memory(g, parts[TUI_PART_MEMORY], d);
    draw_device(g, parts[TUI_PART_DEVICE], d);
    draw_heat(g, parts[TUI_PART_HEAT], d);
    draw_gauge(g, parts[TUI_PART_GAUGE], d);
    if (detail) {
        draw_detail(g, parts[TUI_PART_TABLE], d);
    } else {
        draw_table(g, parts[TUI_PART_TABLE], d);
    }
    draw_legend(g, parts[TUI_PART_LEGEND]);
}

void tui_dash_click(tui_dash *d, struct tui_rect rect, int32_t row, int32_t col) {
    struct tui_rect parts[TUI_PART_COUNT];
    uint32_t order[TL_STATS_LAYERS_MAX];
    const int32_t n = (int32_t)d->now.n_layers_shown;
    tui_layout_dash(rect, d->detail && n > 0 && n < 14 ? 14 : n + 1, parts);
    const struct tui_rect table = parts[TUI_PART_TABLE];
    if (!tui_rect_has(table, row, col) || d->detail) {
        d->detail = false;
        return;
    }
    if (row == table.row) {
        const struct columns c = choose_columns(table.cols);
        for (size_t i = 0; i < N_COLS; i++) {
            const int32_t x = col - table.col - c.from[i];
            if (c.cols[i] > 0 && x >= 0 && x < c.cols[i]) {
                tui_dash_sort(d, column_of[i].sort);
            }
        }
        return;
    }
    const int32_t at = d->first + row - table.row - 1;
    tui_dash_order(d, order);
    if (at >= 0 && at < n) {
        d->detail = order[at] == d->selected && d->focus;
        d->selected = order[at];
    }
}
