// Tables of text: as wide as they are, or as wide as a terminal.
#include "core/table.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("a table that is too wide leaves columns of numbers out, from the right, and names them") {
    const std::vector<std::vector<std::string>> rows = {
        {"layer", "first", "second", "why"}, {"0", "1", "22", "because"}, {"total", "333", "4", ""}};
    const std::vector<bool> right = {false, true, true, false};
    const std::string whole = "layer  first  second  why\n"
                              "0          1      22  because\n"
                              "total    333       4\n";
    CHECK(format_table(rows, right) == whole);
    CHECK(format_table(rows, right, 29) == whole); // its width
    CHECK(format_table(rows, right, 28) == "layer  first  why\n"
                                           "0          1  because\n"
                                           "total    333\n"
                                           "(no room for: second)\n");
    // Text and the first column stay at any width.
    CHECK(format_table(rows, right, 1) == "layer  why\n"
                                          "0      because\n"
                                          "total\n"
                                          "(no room for: first, second)\n");
}
