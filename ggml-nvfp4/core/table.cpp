#include "core/table.h"

#include "core/strings.h"

#include <algorithm>
#include <cstdint>

namespace gnv {

static size_t characters(const std::string & text) { // of UTF-8
    return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

static std::string padded(const std::string & text, size_t width, bool right) {
    const size_t used = characters(text);
    const std::string blanks(used < width ? width - used : 0, ' ');
    return right ? blanks + text : text + blanks;
}

std::string format_table(const std::vector<std::vector<std::string>> & given, const std::vector<bool> & right,
                         size_t width) {
    std::vector<size_t> widths(right.size(), 0);
    std::vector<std::vector<std::string>> rows = given;
    for (auto & row : rows)
        for (std::string & cell : row) cell = printable_line(cell);
    for (const auto & row : rows)
        for (size_t c = 0; c < row.size(); c++) widths[c] = std::max(widths[c], characters(row[c]));
    constexpr size_t gap = 2;
    size_t all = 0;
    for (const size_t column : widths) all += column + gap;
    std::vector<bool> shown(widths.size(), true);
    std::string left_out; // titles
    for (size_t c = widths.size(); width > 0 && all > width + gap && c-- > 1;) {
        if (!right[c]) continue;
        shown[c] = false;
        all -= widths[c] + gap;
        left_out = rows[0][c] + (left_out.empty() ? "" : ", ") + left_out;
    }
    std::string out;
    for (const auto & row : rows) {
        std::string line;
        for (size_t c = 0; c < row.size(); c++)
            if (shown[c]) line += padded(row[c], widths[c], right[c]) + std::string(gap, ' ');
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + "\n";
    }
    if (!left_out.empty()) out += "(no room for: " + left_out + ")\n";
    return out;
}

} // namespace gnv
