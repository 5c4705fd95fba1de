#include "core/table.h"

#include <algorithm>

namespace gnv {

static std::string padded(const std::string & text, size_t width, bool right) {
    const std::string blanks(text.size() < width ? width - text.size() : 0, ' ');
    return right ? blanks + text : text + blanks;
}

std::string format_table(const std::vector<std::vector<std::string>> & rows, const std::vector<bool> & right) {
    std::vector<size_t> widths(right.size(), 0);
    for (const auto & row : rows)
        for (size_t c = 0; c < row.size(); c++) widths[c] = std::max(widths[c], row[c].size());
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
