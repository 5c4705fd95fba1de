// The table of files in a model card: quantize writes it into README.md, verify compares the files with it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

struct ListedFile {
    std::string name;
    uint64_t size = 0;
    std::string sha256; // 64 lower-case hex digits
};

// A text as a cell of a Markdown table: one printable line.
std::string markdown_cell(const std::string & text);

// "| file | bytes | SHA-256 |", a rule, and a row for each file.
std::string file_list_text(const std::vector<ListedFile> & files);

// The rows of the first such table in a README.md, up to the first line of another form; empty: there is no table.
std::vector<ListedFile> find_file_list(std::string_view readme);

} // namespace gnv
