// Charts as SVG that a page holds: no script, colours from the page's variables, a title and a description for readers that
// do not see them. Numbers that are not finite are gaps.
#pragma once

#include "report/html.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

struct ChartText {
    std::string title; // above the chart
    std::string x, y;  // of the axes
    std::string note;  // below it; may be empty
};

struct Series {
    std::string name;
    std::vector<double> values;
};

enum class Scale : uint8_t {
    linear,    // from the least to the largest value
    from_zero, // from 0 on
    logarithm, // values of 0 and less are gaps
};

// Lines over the numbers `x`, which ascend. At most six series.
Html line_chart(const ChartText & text, const std::vector<double> & x, const std::vector<Series> & series, Scale scale);

struct Bar {
    std::string name;
    double value = 0;
    std::string label; // of the value
};
// Bars to the right, one below the other, from 0 on.
Html bar_chart(const ChartText & text, const std::vector<Bar> & bars);

// Columns; `labels` stand below some of them. With `edges` a column has a place on the border of two.
Html column_chart(const ChartText & text, const std::vector<std::string> & labels, const std::vector<double> & values);

// A vertical line from the least to the largest value, and a dot at the median, at every `x`, on a logarithmic scale.
struct RangeSeries {
    std::string name;
    std::vector<double> least, median, largest;
};
Html range_chart(const ChartText & text, const std::vector<double> & x, const std::vector<RangeSeries> & series);

// Rows of cells, the first row at the top. Cells with `zero_is_missing` and value 0, and those that are no number, have a
// colour of their own; the colours of others follow their values, or the logarithms of values that differ much.
struct HeatMap {
    ChartText text; // x: of columns, y: of rows
    std::vector<double> row_numbers;
    std::vector<std::vector<double>> rows;
    bool zero_is_missing = false;
    std::string missing; // the meaning of such cells
    std::string (*label)(double value) = nullptr;
};
Html heat_map(const HeatMap & map);

// Parts of charts.
bool can_be_drawn(double value);      // finite, and differences of such values are
std::string place(double coordinate); // one digit after the point, if it needs one
Html chart_figure(const ChartText & text, const std::string & description, double height, const std::string & drawing,
                  const Html & legend = {});
std::string svg_text(double x, double y, const char * kind, std::string_view text);
inline constexpr double chart_width = 360;

} // namespace gnv
