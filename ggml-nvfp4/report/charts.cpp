#include "report/charts.h"

#include "core/strings.h"
#include "report/figure_text.h"

#include <algorithm>
#include <cmath>

namespace gnv {

bool can_be_drawn(double value) { return std::abs(value) < 1e200; }

std::string place(double coordinate) {
    std::string text = fixed_text(coordinate, 1);
    if (ends_with(text, ".0")) text.resize(text.size() - 2);
    return text == "-0" ? "0" : text;
}

std::string svg_text(double x, double y, const char * anchor, std::string_view text) {
    return concat("<text x=\"", place(x), "\" y=\"", place(y), "\" text-anchor=\"", anchor, "\">", html_escape(text),
                  "</text>\n");
}

Html chart_figure(const ChartText & text, const std::string & description, double height, const std::string & drawing,
                  const Html & legend) {
    Html content(concat("<figcaption>", html_escape(text.title), "</figcaption>\n<svg viewBox=\"0 0 ",
                        place(chart_width), " ", place(height), "\" role=\"img\"><title>", html_escape(text.title),
                        "</title><desc>", html_escape(description), "</desc>\n", drawing, "</svg>\n"));
    content += legend;
    if (!text.note.empty()) content += paragraph(text.note, "class=\"note\"");
    return element("figure", content);
}

namespace {

constexpr double left = 44, right = 10, top = 24, bottom = 40, plot_height = 140;
constexpr double plot_width = chart_width - left - right, height = top + plot_height + bottom;

// A scale of values on an axis.
struct Axis {
    double low = 0, high = 1;
    bool logarithmic = false;
    std::vector<double> ticks;
    double step = 0; // between ticks of a linear axis

    double share(double value) const {
        if (logarithmic) return (std::log10(value) - std::log10(low)) / (std::log10(high) - std::log10(low));
        return (value - low) / (high - low);
    }
    double x(double value) const { return left + plot_width * share(value); }
    double y(double value) const { return top + plot_height * (1 - share(value)); }
    bool shows(double value) const { return can_be_drawn(value) && (!logarithmic || value > 0); }
};

// As many digits as tell the ticks apart.
std::string tick_text(const Axis & axis, double tick) {
    const bool plain = !axis.logarithmic && axis.step >= 1e-4 && axis.step < 1 && std::abs(tick) < 1000;
    if (!plain) return figure_text(tick);
    const std::string text = fixed_text(tick, int(std::ceil(-std::log10(axis.step) - 1e-9)));
    return text.find_first_of("123456789") == std::string::npos ? "0" : text;
}

// 1, 2 or 5 times a power of ten: about `count` of them in `span`.
double nice_step(double span, int count) {
    const double rough = span / count, power = std::pow(10.0, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 5.0})
        if (power * factor >= rough * 0.999) return power * factor;
    return power * 10;
}

void set_ticks(Axis & axis, bool whole, int count) {
    const double step = std::max(nice_step(axis.high - axis.low, count), whole ? 1.0 : 0.0);
    axis.step = step;
    const auto first = int64_t(std::ceil(axis.low / step - 1e-9)), last = int64_t(std::floor(axis.high / step + 1e-9));
    for (int64_t i = first; i <= last; i++) axis.ticks.push_back(double(i) * step);
}

void set_logarithmic_ticks(Axis & axis) {
    const double decades = std::log10(axis.high / axis.low);
    const auto first = int(std::floor(std::log10(axis.low))), last = int(std::ceil(std::log10(axis.high)));
    const int step = std::max(1, int(decades / 5));
    for (int power = first; power <= last; power += step)
        for (const double factor : {1.0, 2.0, 5.0}) {
            const double tick = factor * std::pow(10.0, power);
            if (factor > 1 && decades > 2) continue;
            if (tick >= axis.low * 0.999 && tick <= axis.high * 1.001) axis.ticks.push_back(tick);
        }
}

// Over all finite values; empty ranges get some room.
Axis make_axis(const std::vector<const std::vector<double> *> & lists, Scale scale) {
    Axis axis;
    axis.logarithmic = scale == Scale::logarithm;
    bool any = false;
    for (const std::vector<double> * list : lists)
        for (const double value : *list) {
            if (!axis.shows(value)) continue;
            axis.low = any ? std::min(axis.low, value) : value;
            axis.high = any ? std::max(axis.high, value) : value;
            any = true;
        }
    if (!any) return axis;
    if (axis.logarithmic) {
        if (axis.high < axis.low * 1.5) axis.low /= 2, axis.high *= 2;
        axis.low /= 1.1, axis.high *= 1.1;
        set_logarithmic_ticks(axis);
        return axis;
    }
    if (scale == Scale::from_zero) axis.low = std::min(0.0, axis.low), axis.high = std::max(0.0, axis.high);
    if (axis.high <= axis.low) {
        const double room = axis.low == 0 ? 1 : std::abs(axis.low) / 10;
        axis.low -= scale == Scale::from_zero ? 0 : room, axis.high += room;
    }
    const double step = nice_step(axis.high - axis.low, 4);
    axis.low = std::floor(axis.low / step + 1e-9) * step;
    axis.high = std::ceil(axis.high / step - 1e-9) * step;
    set_ticks(axis, false, 4);
    return axis;
}

bool any_shown(const std::vector<double> & values, const Axis & axis) {
    return std::any_of(values.begin(), values.end(), [&](double value) { return axis.shows(value); });
}

std::string grid(const Axis & y) {
    std::string out;
    for (const double tick : y.ticks) {
        const std::string at = place(y.y(tick));
        out += concat("<path class=\"g\" d=\"M", place(left), " ", at, "H", place(left + plot_width), "\"/>\n");
        out += svg_text(left - 5, y.y(tick) + 3.5, "end", tick_text(y, tick));
    }
    return out;
}

std::string axis_titles(const ChartText & text) {
    return svg_text(left + plot_width / 2, top + plot_height + 32, "middle", text.x) + svg_text(0, 10, "start", text.y);
}

// Numbers along the bottom.
Axis number_axis(const std::vector<double> & x, double margin = 0) {
    Axis axis;
    axis.low = x.front(), axis.high = std::max(x.back(), x.front() + std::max(1.0, std::abs(x.front()) / 10));
    axis.low -= margin, axis.high += margin;
    set_ticks(axis, true, 5);
    return axis;
}

std::string bottom_ticks(const Axis & x) {
    std::string out;
    for (const double tick : x.ticks) out += svg_text(x.x(tick), top + plot_height + 15, "middle", tick_text(x, tick));
    return out;
}

Html legend_of(const std::vector<std::string> & names) {
    if (names.size() < 2) return {};
    std::string out;
    for (size_t s = 0; s < names.size(); s++)
        out += concat("<li><i class=\"line s", s % 6, "\"></i>", html_escape(names[s]), "</li>");
    return element("ul", Html(out), "class=\"legend\"");
}

std::string span_of(const std::string & name, const std::vector<double> & values) {
    double low = std::nan(""), high = std::nan("");
    for (const double value : values)
        if (std::isfinite(value)) low = std::fmin(low, value), high = std::fmax(high, value);
    return concat(name, ": ", figure_text(low), " to ", figure_text(high));
}

} // namespace

Html line_chart(const ChartText & text, const std::vector<double> & x, const std::vector<Series> & series,
                Scale scale) {
    std::vector<const std::vector<double> *> lists;
    for (const Series & one : series) lists.push_back(&one.values);
    const Axis y = make_axis(lists, scale);
    if (x.empty() || !std::all_of(x.begin(), x.end(), can_be_drawn) ||
        std::none_of(series.begin(), series.end(), [&](const Series & one) { return any_shown(one.values, y); }))
        return {};
    const Axis bottom_axis = number_axis(x);
    std::string drawing = grid(y) + bottom_ticks(bottom_axis) + axis_titles(text), description;
    std::vector<std::string> names;
    for (size_t s = 0; s < series.size(); s++) {
        std::string path, dots;
        bool drawn = false;
        for (size_t i = 0; i < x.size() && i < series[s].values.size(); i++) {
            const double value = series[s].values[i];
            if (!y.shows(value)) {
                drawn = false;
                continue;
            }
            path += concat(drawn ? "L" : "M", place(bottom_axis.x(x[i])), " ", place(y.y(value)));
            if (x.size() <= 64) dots += concat("M", place(bottom_axis.x(x[i])), " ", place(y.y(value)), "h0");
            drawn = true;
        }
        drawing += concat("<path class=\"l s", s % 6, "\" d=\"", path, "\"/>\n");
        if (!dots.empty()) drawing += concat("<path class=\"d s", s % 6, "\" d=\"", dots, "\"/>\n");
        names.push_back(series[s].name);
        description += concat(s ? "; " : "", span_of(series[s].name, series[s].values));
    }
    return chart_figure(text, description, height, drawing, legend_of(names));
}

Html bar_chart(const ChartText & text, const std::vector<Bar> & bars) {
    constexpr double row = 27;
    double most = 0;
    for (const Bar & bar : bars)
        if (std::isfinite(bar.value)) most = std::max(most, bar.value);
    if (bars.empty()) return {};
    std::string drawing, description;
    for (size_t b = 0; b < bars.size(); b++) {
        const double y = 8 + row * double(b);
        const double share = std::isfinite(bars[b].value) && most > 0 ? std::max(0.0, bars[b].value) / most : 0;
        drawing += svg_text(0, y + 8, "start", bars[b].name);
        drawing += svg_text(chart_width, y + 8, "end", bars[b].label);
        drawing += concat("<rect class=\"t\" x=\"0\" y=\"", place(y + 13), "\" width=\"", place(chart_width),
                          "\" height=\"7\" rx=\"2\"/>\n<rect class=\"b\" x=\"0\" y=\"", place(y + 13), "\" width=\"",
                          place(chart_width * share), "\" height=\"7\" rx=\"2\"/>\n");
        description += concat(b ? "; " : "", bars[b].name, " ", bars[b].label);
    }
    return chart_figure(text, description, 8 + row * double(bars.size()), drawing);
}

Html column_chart(const ChartText & text, const std::vector<std::string> & labels, const std::vector<double> & values) {
    const Axis y = make_axis({&values}, Scale::from_zero);
    if (values.empty() || !any_shown(values, y)) return {};
    const double step = plot_width / double(values.size()), gap = step > 4 ? 1 : step / 5;
    std::string drawing = grid(y) + axis_titles(text), path;
    for (size_t i = 0; i < values.size(); i++) {
        if (!y.shows(values[i])) continue;
        path += concat("M", place(left + step * double(i) + gap / 2), " ", place(y.y(0)), "V", place(y.y(values[i])),
                       "h", place(step - gap), "V", place(y.y(0)), "z");
    }
    drawing += concat("<path class=\"b\" d=\"", path, "\"/>\n");
    const size_t apart = std::max<size_t>(1, size_t(std::ceil(38 / step)));
    for (size_t i = 0, last = apart; i < labels.size(); i++, last++) {
        if (labels[i].empty() || last < apart) continue;
        const bool on_border = labels.size() > values.size();
        drawing +=
            svg_text(left + step * (double(i) + (on_border ? 0 : 0.5)), top + plot_height + 15, "middle", labels[i]);
        last = 0;
    }
    return chart_figure(text, span_of(text.y, values), height, drawing);
}

Html range_chart(const ChartText & text, const std::vector<double> & x, const std::vector<RangeSeries> & series) {
    std::vector<const std::vector<double> *> lists;
    for (const RangeSeries & one : series)
        for (const std::vector<double> * list : {&one.least, &one.largest}) lists.push_back(list);
    const Axis y = make_axis(lists, Scale::logarithm);
    if (x.empty() || !std::all_of(x.begin(), x.end(), can_be_drawn) ||
        std::none_of(series.begin(), series.end(), [&](const RangeSeries & one) { return any_shown(one.least, y); }))
        return {};
    const Axis bottom_axis = number_axis(x, (x.back() - x.front() + 1) / double(2 * x.size()));
    std::string drawing = grid(y) + bottom_ticks(bottom_axis) + axis_titles(text), description;
    std::vector<std::string> names;
    const double spread = std::min(5.0, plot_width / double(x.size()) / double(series.size() + 1));
    for (size_t s = 0; s < series.size(); s++) {
        std::string bars, dots;
        const RangeSeries & one = series[s];
        for (size_t i = 0; i < x.size(); i++) {
            if (!y.shows(one.least[i]) || !y.shows(one.largest[i]) || !y.shows(one.median[i])) continue;
            const std::string at = place(bottom_axis.x(x[i]) + spread * (double(s) - double(series.size() - 1) / 2));
            bars += concat("M", at, " ", place(y.y(one.least[i])), "V", place(y.y(one.largest[i])));
            dots += concat("M", at, " ", place(y.y(one.median[i])), "h0");
        }
        drawing += concat("<path class=\"r s", s % 6, "\" d=\"", bars, "\"/>\n<path class=\"d s", s % 6, "\" d=\"",
                          dots, "\"/>\n");
        names.push_back(one.name);
        std::vector<double> all = one.least;
        all.insert(all.end(), one.largest.begin(), one.largest.end());
        description += concat(s ? "; " : "", span_of(one.name, all));
    }
    return chart_figure(text, description, height, drawing, legend_of(names));
}

} // namespace gnv
