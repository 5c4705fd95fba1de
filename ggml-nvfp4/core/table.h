// Aligned columns of text for people.
#pragma once

#include <string>
#include <vector>

namespace gnv {

// One line per row, cells padded to the widest of their column, which `right` says is aligned to the right; two blanks
// between columns. A cell is one line: see printable_line(). Rows may have fewer cells than there are columns.
std::string format_table(const std::vector<std::vector<std::string>> & rows, const std::vector<bool> & right);

} // namespace gnv
