/* Lines come in the order in which they were first set; those of one task and context are
 * neighbours. The picture has a panel for each task and metric, in it a group of bars for each
 * context, in it a bar for each preset; heights are shares of the panel's largest value, or of its
 * decades where presets differ by orders of magnitude. */
#include "eval_report.h"

#include "out.h"
#include "svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct metric {
    const char *key, *label;
    double scale; /* of the number in table and picture */
    int decimals;
    bool in_picture, by_decades;
} metrics[] = {
    [CLI_METRIC_SCORE] = {"score", "score %", 100, 1, true, false},
    [CLI_METRIC_PPL] = {"ppl", "perplexity", 1, 4, true, false},
    [CLI_METRIC_NLL] = {"nll", "nll", 1, 5, false, false},
    [CLI_METRIC_KLD_MEAN] = {"kld_mean", "KL mean", 1, 6, true, true},
    [CLI_METRIC_KLD_P99] = {"kld_p99", "KL 99%", 1, 6, true, true},
    [CLI_METRIC_KLD_MAX] = {"kld_max", "KL max", 1, 6, false, true},
    [CLI_METRIC_TOP1] = {"top1", "same top-1 %", 100, 2, true, false},
    [CLI_METRIC_DIFFERENCE] = {"p_difference", "mean |dp| %", 100, 4, false, false},
};

void cli_eval_report_free(struct cli_eval_report *report) {
    free(report->lines);
    report->lines = NULL;
    report->n_lines = report->cap = 0;
}

static struct cli_eval_line *find_line(struct cli_eval_report *report, const char *task,
                                       uint32_t n_ctx, cli_metric metric) {
    for (size_t i = 0; i < report->n_lines; i++) {
        struct cli_eval_line *const line = &report->lines[i];
        if (line->n_ctx == n_ctx && line->metric == metric && strcmp(line->task, task) == 0) {
            return line;
        }
    }
    return NULL;
}

tl_err cli_eval_report_set(struct cli_eval_report *report, const char *task, uint32_t n_ctx,
                           cli_metric metric, uint32_t preset, double value, uint32_t n) {
    TL_ASSERT(preset < report->n_presets);
    struct cli_eval_line *line = find_line(report, task, n_ctx, metric);
    if (line == NULL) {
        if (report->n_lines == report->cap) {
            const size_t cap = report->cap == 0 ? 32 : 2 * report->cap;
            struct cli_eval_line *const grown = realloc(report->lines, cap * sizeof *grown);
            if (grown == NULL) {
                return TL_ERR_MEMORY;
            }
            report->lines = grown;
            report->cap = cap;
        }
        line = &report->lines[report->n_lines++];
        *line = (struct cli_eval_line){.task = task, .n_ctx = n_ctx, .metric = metric};
    }
    line->values[preset] = value;
    line->n[preset] = n;
    return TL_OK;
}

/* ---- table ---- */

enum { NAME_SHOWN_MAX = 256 };

static int column_width(const char *preset) {
    const size_t n = strlen(preset);
    return n < 10 ? 10 : n > 24 ? 24 : (int)n;
}

/* The end of a path says more than its beginning. */
static const char *column_name(const char *preset) {
    const size_t n = strlen(preset);
    return n > 24 ? preset + n - 24 : preset;
}

void cli_eval_report_table(const struct cli_eval_report *report, FILE *out) {
    fprintf(out, "%-16s %8s  %-12s", "task", "ctx", "");
    for (uint32_t i = 0; i < report->n_presets; i++) {
        fprintf(out, "  %*s", column_width(report->presets[i]), column_name(report->presets[i]));
    }
    fputc('\n', out);
    for (size_t l = 0; l < report->n_lines; l++) {
        const struct cli_eval_line *const line = &report->lines[l];
        const struct metric *const m = &metrics[line->metric];
        char name[NAME_SHOWN_MAX];
        tl_text_copy(name, sizeof name, tl_str_from(line->task));
        fprintf(out, "%-16s %8u  %-12s", name, line->n_ctx, m->label);
        for (uint32_t i = 0; i < report->n_presets; i++) {
            const int width = column_width(report->presets[i]);
            if (line->n[i] == 0) {
                fprintf(out, "  %*s", width, "-");
            } else {
                fprintf(out, "  %*.*f", width, m->decimals, line->values[i] * m->scale);
            }
        }
        fputc('\n', out);
    }
    fflush(out);
}

/* ---- JSON ---- */

static bool same_row(const struct cli_eval_line *a, const struct cli_eval_line *b) {
    return a->n_ctx == b->n_ctx && strcmp(a->task, b->task) == 0;
}

/* The n lines of a task and context, as one object for preset i. */
static json_t *json_row(const struct cli_eval_report *report, const struct cli_eval_line *lines,
                        size_t n, uint32_t i) {
    json_t *const row = json_pack("{s:o,s:I,s:o,s:I}", "task", cli_json_text(lines->task), "ctx",
                                  (json_int_t)lines->n_ctx, "kv", cli_json_text(report->presets[i]),
                                  "n", (json_int_t)lines->n[i]);
    for (size_t l = 0; l < n; l++) {
        const double value = lines[l].values[i];
        json_object_set_new(row, metrics[lines[l].metric].key,
                            isfinite(value) ? json_real(value) : json_null());
    }
    return row;
}

json_t *cli_eval_report_json(const struct cli_eval_report *report) {
    json_t *const rows = json_array();
    for (size_t first = 0; first < report->n_lines;) {
        size_t n = 1;
        while (first + n < report->n_lines &&
               same_row(&report->lines[first], &report->lines[first + n])) {
            n++;
        }
        for (uint32_t i = 0; i < report->n_presets; i++) {
            if (report->lines[first].n[i] > 0) {
                json_array_append_new(rows, json_row(report, &report->lines[first], n, i));
            }
        }
        first += n;
    }
    return rows;
}

/* ---- picture ---- */

enum { PANEL_W = 300, PANEL_H = 190, PER_ROW = 3, PLOT_W = 240, PLOT_H = 120 };
enum { DECADES_MAX = 6 };
enum { LEFT = 50, LEGEND_TOP = 42, LEGEND_LINE = 16, BAR_W_LABELLED = 26 };

static const char *const colours[CLI_PRESETS_MAX] = {
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222255",
    "#994455", "#004488", "#ddaa33", "#117733", "#882255", "#44aa99", "#999933", "#555555",
};

static bool same_panel(const struct cli_eval_line *a, const struct cli_eval_line *b) {
    return a->metric == b->metric && strcmp(a->task, b->task) == 0;
}

/* Whether line l is the first of its panel. */
static bool begins_panel(const struct cli_eval_report *report, size_t l) {
    if (!metrics[report->lines[l].metric].in_picture) {
        return false;
    }
    for (size_t i = 0; i < l; i++) {
        if (same_panel(&report->lines[i], &report->lines[l])) {
            return false;
        }
    }
    return true;
}

/* The values at a panel's bottom and top. */
struct axis {
    double low, high;
    bool by_decades;
};

static double axis_share(const struct axis *a, double value) {
    if (!isfinite(value)) {
        return 1;
    }
    if (!a->by_decades) {
        return value / a->high;
    }
    return value > a->low ? log(value / a->low) / log(a->high / a->low) : 0;
}

static double axis_at(const struct axis *a, double share) {
    return a->by_decades ? a->low * pow(a->high / a->low, share) : a->high * share;
}

/* A full score, or the largest finite value; by decades the powers of ten around all values that
 * are above nothing, or the highest of them. */
static struct axis panel_axis(const struct cli_eval_report *report,
                              const struct cli_eval_line *panel, uint32_t *n_groups) {
    double top = metrics[panel->metric].scale == 100.0 ? 1 : 0, bottom = HUGE_VAL;
    *n_groups = 0;
    for (size_t l = 0; l < report->n_lines; l++) {
        const struct cli_eval_line *const line = &report->lines[l];
        if (!same_panel(line, panel)) {
            continue;
        }
        ++*n_groups;
        for (uint32_t i = 0; i < report->n_presets; i++) {
            const double value = line->values[i];
            const bool counts = line->n[i] > 0 && isfinite(value);
            top = counts && value > top ? value : top;
            bottom = counts && value > 0 && value < bottom ? value : bottom;
        }
    }
    if (!metrics[panel->metric].by_decades || !(top > 0)) {
        return (struct axis){.high = top > 0 ? top : 1};
    }
    const double high = ceil(log10(top)), low = floor(log10(bottom) - 0.05);
    /* An even number, so that one is in the middle. What is a millionth of the top is as good as
     * nothing. */
    const double n = fmin(fmax(2 * ceil((high - low) / 2), 2), DECADES_MAX);
    return (struct axis){.low = pow(10, high - n), .high = pow(10, high), .by_decades = true};
}

/* One context's bars, in a group of width w at x. */
static tl_err add_bars(tl_bytes *out, const struct cli_eval_report *report,
                       const struct cli_eval_line *line, double x, double y, double w,
                       const struct axis *axis) {
    const struct metric *const m = &metrics[line->metric];
    const double bar = w * 0.9 / report->n_presets;
    for (uint32_t i = 0; i < report->n_presets; i++) {
        if (line->n[i] == 0) {
            continue;
        }
        const double value = line->values[i];
        const double h = PLOT_H * axis_share(axis, value);
        TL_TRY(cli_svg_add(
            out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"><title>",
            x + w * 0.05 + bar * i, y + PLOT_H - h, bar * 0.92, h, colours[i]));
        TL_TRY(cli_svg_text(out, report->presets[i]));
        TL_TRY(cli_svg_add(out, " at %u: %.*f</title></rect>\n", line->n_ctx, m->decimals,
                           value * m->scale));
        if (bar >= BAR_W_LABELLED) {
            TL_TRY(cli_svg_add(
                out,
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"9\">%.*g"
                "</text>\n",
                x + w * 0.05 + bar * (i + 0.46), y + PLOT_H - h - 2, m->by_decades ? 2 : 3,
                value * m->scale));
        }
    }
    return cli_svg_add(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%u</text>\n",
                       x + w / 2, y + PLOT_H + 14, line->n_ctx);
}

static tl_err add_panel(tl_bytes *out, const struct cli_eval_report *report,
                        const struct cli_eval_line *panel, uint32_t at, uint32_t panels_top) {
    const struct metric *const m = &metrics[panel->metric];
    const double x = LEFT + PANEL_W * (double)(at % PER_ROW);
    const double y = panels_top + 38 + PANEL_H * (double)(at / PER_ROW);
    uint32_t n_groups = 0;
    const struct axis axis = panel_axis(report, panel, &n_groups);
    TL_TRY(cli_svg_add(out, "<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">", x, y - 18));
    TL_TRY(cli_svg_text(out, panel->task));
    TL_TRY(cli_svg_add(out, ": %s</text>\n", m->label));
    for (uint32_t i = 0; i <= 2; i++) {
        const double line_y = y + PLOT_H * (1 - i / 2.0);
        TL_TRY(cli_svg_add(out,
                           "<path d=\"M%.1f %.1fh%d\" stroke=\"#ccc\"/>"
                           "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n",
                           x, line_y, PLOT_W, x - 4, line_y + 4,
                           axis_at(&axis, i / 2.0) * m->scale));
    }
    const double w = PLOT_W / (double)n_groups;
    for (size_t l = 0, group = 0; l < report->n_lines; l++) {
        if (same_panel(&report->lines[l], panel)) {
            TL_TRY(add_bars(out, report, &report->lines[l], x + w * (double)group++, y, w, &axis));
        }
    }
    return TL_OK;
}

/* Pixels of preset i's entry in the legend. */
static uint32_t legend_width(const struct cli_eval_report *report, uint32_t i) {
    return 30 + 7 * (uint32_t)strlen(column_name(report->presets[i]));
}

/* Adds the legend, as many lines as it takes; returns where it ends. out may be NULL: nothing is
 * added. */
static tl_err add_legend(tl_bytes *out, const struct cli_eval_report *report, uint32_t *bottom) {
    uint32_t x = LEFT, y = LEGEND_TOP;
    for (uint32_t i = 0; i < report->n_presets; i++) {
        if (x > LEFT && x + legend_width(report, i) > PANEL_W * PER_ROW) {
            x = LEFT;
            y += LEGEND_LINE;
        }
        if (out != NULL) {
            TL_TRY(cli_svg_add(out,
                               "<rect x=\"%u\" y=\"%u\" width=\"10\" height=\"10\" fill=\"%s\"/>"
                               "<text x=\"%u\" y=\"%u\">",
                               x, y - 9, colours[i], x + 14, y));
            TL_TRY(cli_svg_text(out, column_name(report->presets[i])));
            TL_TRY(tl_bytes_add_str(out, "</text>\n"));
        }
        x += legend_width(report, i);
    }
    *bottom = y;
    return TL_OK;
}

tl_err cli_eval_report_svg(const struct cli_eval_report *report, const char *title, tl_bytes *out) {
    uint32_t n_panels = 0, top = 0;
    for (size_t l = 0; l < report->n_lines; l++) {
        n_panels += begins_panel(report, l) ? 1 : 0;
    }
    TL_TRY(add_legend(NULL, report, &top));
    const uint32_t height = top + PANEL_H * (uint32_t)tl_div_up(n_panels, PER_ROW) + 20;
    TL_TRY(cli_svg_begin(out, PANEL_W * PER_ROW + 30, height, title));
    TL_TRY(add_legend(out, report, &top));
    for (size_t l = 0, at = 0; l < report->n_lines; l++) {
        if (begins_panel(report, l)) {
            TL_TRY(add_panel(out, report, &report->lines[l], (uint32_t)at++, top));
        }
    }
    return tl_bytes_add_str(out, "</svg>\n");
}
