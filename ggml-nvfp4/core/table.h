// Aligned columns of text for people.
#pragma once

#include <string>
#include <vector>

namespace gnv {

// One line per row; cells are padded to the width of their column and aligned right where `right` is true; two blanks
// separate columns. A cell is one line: see printable_line(). Rows may have fewer cells than columns.
std::string format_table(const std::vector<std::vector<std::string>> & rows, const std::vector<bool> & right);

} // namespace gnv
