#include "report/charts.h"
#include "report/figure_text.h"

#include "core/strings.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace gnv {

namespace {

constexpr size_t levels = 9;
constexpr double far = 20; // largest over least value, from which on colours follow logarithms

struct Shades {
    double least = 0, largest = 0;
    bool logarithmic = false;

    double scaled(double value) const { return logarithmic ? std::log(value) : value; }
    size_t of(double value) const {
        if (largest <= least) return levels / 2;
        const double share = (scaled(value) - scaled(least)) / (scaled(largest) - scaled(least));
        return std::min(levels - 1, size_t(share * double(levels)));
    }
};

bool is_missing(const HeatMap & map, double value) {
    return !can_be_drawn(value) || (map.zero_is_missing && value == 0);
}

Shades shades_of(const HeatMap & map, size_t & columns) {
    Shades shades;
    bool any = false;
    for (const std::vector<double> & row : map.rows) {
        columns = std::max(columns, row.size());
        for (const double value : row) {
            if (is_missing(map, value)) continue;
            shades.least = any ? std::min(shades.least, value) : value;
            shades.largest = any ? std::max(shades.largest, value) : value;
            any = true;
        }
    }
    shades.logarithmic = shades.least > 0 && shades.largest > far * shades.least;
    return shades;
}

} // namespace

Html heat_map(const HeatMap & map) {
    size_t columns = 0;
    const Shades shades = shades_of(map, columns);
    if (columns == 0) return {};
    constexpr double left = 34, top = 22, right = 6;
    const auto rows = double(map.rows.size());
    const double width = (chart_width - left - right) / double(columns), height = std::clamp(170 / rows, 3.0, 16.0);
    // One path for each colour: runs of equal cells, counted in cells.
    std::array<std::string, levels + 1> paths;
    uint64_t missing = 0;
    for (size_t r = 0; r < map.rows.size(); r++)
        for (size_t c = 0; c < map.rows[r].size();) {
            const auto level_at = [&](size_t at) {
                const double value = map.rows[r][at];
                return is_missing(map, value) ? levels : shades.of(value);
            };
            const size_t level = level_at(c), begin = c;
            while (c < map.rows[r].size() && level_at(c) == level) c++;
            if (level == levels) missing += c - begin;
            paths[level] += concat("M", begin, " ", r, "h", c - begin, "v1h-", c - begin, "z");
        }
    std::string drawing = concat("<g transform=\"translate(", place(left), " ", place(top), ") scale(",
                                 number_text(width, 6), " ", number_text(height, 6), ")\">\n");
    for (size_t level = 0; level <= levels; level++)
        if (!paths[level].empty()) drawing += concat("<path class=\"h", level, "\" d=\"", paths[level], "\"/>\n");
    drawing += "</g>\n";
    const double bottom = top + height * rows;
    const size_t step = std::max<size_t>(1, size_t(std::ceil(11 / height)));
    for (size_t r = 0; r < map.rows.size(); r += step)
        drawing += svg_text(left - 5, top + height * (double(r) + 0.5) + 3.5, "end", figure_text(map.row_numbers[r]));
    const size_t last = columns - 1;
    for (const size_t c : {size_t(0), last / 4, last / 2, last * 3 / 4, last}) {
        drawing += svg_text(left + width * (double(c) + 0.5), bottom + 13, "middle", count_text(c));
        if (last < 4) break;
    }
    drawing += svg_text(left + (chart_width - left - right) / 2, bottom + 28, "middle", map.text.x);
    drawing += svg_text(0, 10, "start", map.text.y);

    const auto label = [&](double value) { return map.label ? map.label(value) : figure_text(value); };
    std::string keys;
    const bool any =
        std::any_of(paths.begin(), paths.end() - 1, [](const std::string & path) { return !path.empty(); });
    if (any) {
        std::string ramp;
        for (size_t level = 0; level < levels; level++) ramp += concat("<i class=\"h", level, "\"></i>");
        keys = concat("<li>", html_escape(label(shades.least)), " <span class=\"ramp\">", ramp, "</span> ",
                      html_escape(label(shades.largest)), shades.logarithmic ? ", logarithmic" : "", "</li>");
    }
    if (missing > 0)
        keys += concat("<li><i class=\"key h9\"></i>", html_escape(map.missing), " (", count_text(missing), ")</li>");
    std::string description = concat(map.text.y, " by ", map.text.x, ", ", count_text(uint64_t(map.rows.size())),
                                     " by ", count_text(columns), " cells");
    if (any) description += concat("; from ", label(shades.least), " to ", label(shades.largest));
    return chart_figure(map.text, description, bottom + 34, drawing, element("ul", Html(keys), "class=\"legend\""));
}

} // namespace gnv
