/* The picture of a fit. Three parts under each other: a bar for every layer's score beside the
 * threshold; a small panel for every layer with the attention-mass curves of its heads; and a map
 * of what each codec does to each layer's output. Colour is the layer's class in the first two. */
#include "fit_report.h"
#include "svg.h"

#include <math.h>

enum {
    LEFT = 60,
    WIDTH = 960,
    PLOT_W = WIDTH - LEFT - 30,
    BARS_Y = 84,
    BARS_H = 150,
    PANELS_MIN = 4, /* of a row */
    PANELS_MAX = 8,
    PANEL_H = 92,
    PANEL_GAP = 16,
    CURVE_H = PANEL_H - 34,
    CELL_H = 18,
    PART_GAP = 58,
};

static const char dense_colour[] = "#cc4433", sparse_colour[] = "#3b73af",
                  window_colour[] = "#8a8f98";

static const char *colour_of(const struct cli_fit_layer *layer) {
    return layer->sliding_window > 0 ? window_colour : layer->dense ? dense_colour : sparse_colour;
}

static tl_err add_legend(tl_bytes *out, const struct cli_fit_report *r) {
    const struct {
        const char *name, *colour;
    } classes[] = {{"dense", dense_colour},
                   {"sparse", sparse_colour},
                   {"bound to a window by the model", window_colour}};
    bool any_window = false;
    for (uint32_t il = 0; il < r->n_layers; il++) {
        any_window |= r->layers[il].sliding_window > 0;
    }
    int x = LEFT;
    for (size_t i = 0; i < (any_window ? 3 : 2); i++) {
        TL_TRY(cli_svg_add(out,
                           "<rect x=\"%d\" y=\"33\" width=\"10\" height=\"10\" fill=\"%s\"/>"
                           "<text x=\"%d\" y=\"42\">%s</text>\n",
                           x, classes[i].colour, x + 14, classes[i].name));
        x += 80;
    }
    return cli_svg_add(
        out,
        "<text x=\"%d\" y=\"42\" text-anchor=\"end\" fill=\"#555\">%u tokens, the last "
        "%u queries, threshold %g</text>\n",
        WIDTH - 30, r->n_tokens, r->layers[0].found->n_queries, r->tau);
}

static tl_err add_heading(tl_bytes *out, double y, const char *text) {
    return cli_svg_add(out, "<text x=\"%d\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n", LEFT, y,
                       text);
}

/* How many layers lie between two numbers below an axis that has room for about 32. */
static uint32_t label_step(uint32_t n_layers) { return 1 + (n_layers - 1) / 32; }

static double bar_y(double score) { return BARS_Y + BARS_H * (1 - score); }

static tl_err add_bars(tl_bytes *out, const struct cli_fit_report *r) {
    TL_TRY(add_heading(out, BARS_Y - 8,
                       "dense preference by layer: attention outside the largest 5 % of the rows"));
    for (int i = 0; i <= 4; i++) {
        TL_TRY(cli_svg_add(out,
                           "<path d=\"M%d %.1fh%d\" stroke=\"#ddd\"/>"
                           "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n",
                           LEFT, bar_y(i / 4.0), PLOT_W, LEFT - 6, bar_y(i / 4.0) + 4, i / 4.0));
    }
    const double step = (double)PLOT_W / r->n_layers, w = step > 60 ? 44 : step * 0.74;
    for (uint32_t il = 0; il < r->n_layers; il++) {
        const struct cli_fit_layer *const layer = &r->layers[il];
        const double score = layer->found->score, x = LEFT + step * (il + 0.5);
        TL_TRY(cli_svg_add(out,
                           "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\">"
                           "<title>layer %u: %.4f</title></rect>\n",
                           x - w / 2, bar_y(score), w, BARS_H * score, colour_of(layer), il,
                           score));
        if (step >= 24) {
            TL_TRY(cli_svg_add(out,
                               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"9\">"
                               "%.2f</text>\n",
                               x, bar_y(score) - 3, score));
        }
        if (il % label_step(r->n_layers) == 0) {
            TL_TRY(cli_svg_add(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%u</text>\n",
                               x, BARS_Y + BARS_H + 14, il));
        }
    }
    return cli_svg_add(out,
                       "<path d=\"M%d %.1fh%d\" stroke=\"#222\" stroke-dasharray=\"5 3\"/>"
                       "<text x=\"%d\" y=\"%.1f\" fill=\"#222\">\xcf\x84</text>\n",
                       LEFT, bar_y(r->tau < 1 ? r->tau : 1), PLOT_W, LEFT + PLOT_W + 4,
                       bar_y(r->tau < 1 ? r->tau : 1) + 4);
}

/* ---- curves ---- */

/* Few layers have wider panels. */
static uint32_t n_columns(const struct cli_fit_report *r) {
    return r->n_layers < PANELS_MIN   ? PANELS_MIN
           : r->n_layers > PANELS_MAX ? PANELS_MAX
                                      : r->n_layers;
}

static double panel_w(const struct cli_fit_report *r) { return (double)PLOT_W / n_columns(r); }
static double curve_w(const struct cli_fit_report *r) { return panel_w(r) - PANEL_GAP; }

/* Shares of the rows lie on a logarithmic axis. */
static double curve_x(const struct cli_fit_report *r, uint32_t point) {
    const double first = log(tl_curve_parts[0]), last = log(tl_curve_parts[TL_CURVE_POINTS - 1]);
    return curve_w(r) * (log(tl_curve_parts[point]) - first) / (last - first);
}

static tl_err add_curve(tl_bytes *out, const struct cli_fit_report *r, const float *mass, double x,
                        double y, const char *colour, double opacity, double width) {
    TL_TRY(tl_bytes_add_str(out, "<polyline fill=\"none\" points=\""));
    for (uint32_t i = 0; i < TL_CURVE_POINTS; i++) {
        TL_TRY(
            cli_svg_add(out, "%.1f,%.1f ", x + curve_x(r, i), y + CURVE_H * (1 - (double)mass[i])));
    }
    return cli_svg_add(out, "\" stroke=\"%s\" stroke-opacity=\"%.2f\" stroke-width=\"%.1f\"/>\n",
                       colour, opacity, width);
}

static tl_err add_panel(tl_bytes *out, const struct cli_fit_report *r, uint32_t il, double x,
                        double y) {
    const struct cli_fit_layer *const layer = &r->layers[il];
    float mean[TL_CURVE_POINTS] = {0};
    TL_TRY(cli_svg_add(out,
                       "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">layer %u</text>"
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"#f6f7f9\"/>"
                       "<path d=\"M%.1f %.1fv%d\" stroke=\"#999\" stroke-dasharray=\"2 2\"/>\n",
                       x, y - 4, colour_of(layer), il, x, y, curve_w(r), CURVE_H,
                       x + curve_x(r, TL_CURVE_SCORE), y, CURVE_H));
    for (uint32_t h = 0; h < r->n_heads; h++) {
        const float *const mass = layer->found->mass + h * TL_CURVE_POINTS;
        TL_TRY(add_curve(out, r, mass, x, y, colour_of(layer), 0.35, 0.8));
        for (uint32_t i = 0; i < TL_CURVE_POINTS; i++) {
            mean[i] += mass[i] / (float)r->n_heads;
        }
    }
    return add_curve(out, r, mean, x, y, colour_of(layer), 1, 2);
}

static uint32_t n_panel_rows(const struct cli_fit_report *r) {
    return (uint32_t)tl_div_up(r->n_layers, n_columns(r));
}

static tl_err add_panels(tl_bytes *out, const struct cli_fit_report *r, double top) {
    TL_TRY(
        add_heading(out, top - 22,
                    "attention held by the largest rows, a line for each head; from 0.1 % of the "
                    "rows to 50 %, dashed at 5 %"));
    const uint32_t columns = n_columns(r);
    for (uint32_t il = 0; il < r->n_layers; il++) {
        const double x = LEFT + panel_w(r) * (il % columns);
        const double y = top + PANEL_H * (double)(il / columns);
        TL_TRY(add_panel(out, r, il, x, y));
        if (il % columns == 0) {
            TL_TRY(cli_svg_add(out,
                               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">1</text>"
                               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">0</text>\n",
                               x - 6, y + 8, x - 6, y + CURVE_H));
        }
        const bool lowest = il + columns >= r->n_layers;
        if (lowest) {
            TL_TRY(cli_svg_add(
                out,
                "<text x=\"%.1f\" y=\"%.1f\" font-size=\"9\" fill=\"#555\">0.1 %%</text>"
                "<text x=\"%.1f\" y=\"%.1f\" font-size=\"9\" fill=\"#555\" "
                "text-anchor=\"end\">50 %%</text>\n",
                x, y + CURVE_H + 10, x + curve_w(r), y + CURVE_H + 10));
        }
    }
    return TL_OK;
}

/* ---- codecs ---- */

/* White at 0.1 % and below, full at 100 %. */
static void shade(double error, uint32_t rgb[3]) {
    static const double full[3] = {150, 40, 20};
    const double share = fmin(1, fmax(0, (log10(fmax(error, 1e-9)) + 3) / 3));
    for (int i = 0; i < 3; i++) {
        rgb[i] = (uint32_t)(255 + (full[i] - 255) * share);
    }
}

static tl_err add_cell(tl_bytes *out, double error, double x, double y, double w) {
    uint32_t rgb[3];
    if (error < 0) {
        return cli_svg_add(
            out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"#eee\"/>\n", x, y,
            w, CELL_H - 1);
    }
    shade(error, rgb);
    TL_TRY(cli_svg_add(out,
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" "
                       "fill=\"rgb(%u,%u,%u)\"><title>%.3g %%</title></rect>\n",
                       x, y, w, CELL_H - 1, rgb[0], rgb[1], rgb[2], 100 * error));
    return w < 26
               ? TL_OK
               : cli_svg_add(out,
                             "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"9\" "
                             "fill=\"%s\">%.*f</text>\n",
                             x + w / 2, y + 12, error > 0.12 ? "white" : "#222",
                             error < 0.0995 ? 1 : 0, 100 * error);
}

static tl_err add_codecs(tl_bytes *out, const struct cli_fit_report *r, double top) {
    const double step = (double)PLOT_W / r->n_layers;
    TL_TRY(add_heading(out, top - 8,
                       "error of the layer's output in %, keys or values compressed behind the "
                       "newest rows (the other side in 8 bits)"));
    for (uint32_t row = 0; row < 2 * TL_CODECS_TRIED; row++) {
        const bool keys = row < TL_CODECS_TRIED;
        const uint32_t codec = row % TL_CODECS_TRIED;
        const double y = top + CELL_H * (double)row + (keys ? 0 : 6);
        TL_TRY(cli_svg_add(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s %s</text>\n",
                           LEFT - 6, y + 12, keys ? "K" : "V",
                           tl_codec_names[tl_codecs_tried[codec]]));
        for (uint32_t il = 0; il < r->n_layers; il++) {
            const struct tl_identity *const found = r->layers[il].found;
            const double error = keys ? found->k_error[codec] : found->v_error[codec];
            TL_TRY(add_cell(out, error, LEFT + step * il, y, step - (step > 6 ? 1 : 0)));
        }
    }
    const double under = top + CELL_H * 2.0 * TL_CODECS_TRIED + 20;
    for (uint32_t il = 0; il < r->n_layers; il += label_step(r->n_layers)) {
        TL_TRY(cli_svg_add(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%u</text>\n",
                           LEFT + step * (il + 0.5), under, il));
    }
    return TL_OK;
}

tl_err cli_fit_report_svg(const struct cli_fit_report *report, tl_bytes *out) {
    const uint32_t panels_y = BARS_Y + BARS_H + PART_GAP + 16;
    const uint32_t codecs_y = panels_y + n_panel_rows(report) * PANEL_H + 24;
    const uint32_t height = codecs_y + CELL_H * 2 * TL_CODECS_TRIED + 36;
    TL_TRY(cli_svg_begin(out, WIDTH, height, report->model_name));
    TL_TRY(add_legend(out, report));
    TL_TRY(add_bars(out, report));
    TL_TRY(add_panels(out, report, panels_y));
    TL_TRY(add_codecs(out, report, codecs_y));
    return tl_bytes_add_str(out, "</svg>\n");
}
