// Aligned columns of text for people.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gnv {

// One line per row; cells are padded to the width of their column and aligned right where `right` is true; two blanks
// separate columns. A cell is one line: see printable_line(). Rows may have fewer cells than columns.
//
// `width`: of a terminal, in characters; a table that is wider leaves columns out that are aligned right, the last ones
// first, and says so below. 0: no limit.
std::string format_table(const std::vector<std::vector<std::string>> & rows, const std::vector<bool> & right,
                         size_t width = 0);

} // namespace gnv
