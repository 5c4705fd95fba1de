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

std::string format_table(const std::vector<std::vector<std::string>> & given, const std::vector<bool> & right) {
    std::vector<size_t> widths(right.size(), 0);
    std::vector<std::vector<std::string>> rows = given;
    for (auto & row : rows)
        for (std::string & cell : row) cell = printable_line(cell);
    for (const auto & row : rows)
        for (size_t c = 0; c < row.size(); c++) widths[c] = std::max(widths[c], characters(row[c]));
    std::string out;
    for (const auto & row : rows) {
        std::string line;
        for (size_t c = 0; c < row.size(); c++) line += padded(row[c], widths[c], right[c]) + "  ";
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + "\n";
    }
    return out;
}

} // namespace gnv
