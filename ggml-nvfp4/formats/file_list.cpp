#include "formats/file_list.h"

#include "core/strings.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace gnv {

static constexpr std::string_view title = "| file | bytes | SHA-256 |";
static constexpr std::string_view rule = "|---|---:|---|";
static constexpr size_t hash_digits = 64;

std::string markdown_cell(const std::string & text) {
    std::string out;
    for (const char c : printable_line(text)) out += c == '|' ? std::string("\\|") : std::string(1, c);
    return out;
}

std::string file_list_text(const std::vector<ListedFile> & files) {
    std::string out = concat(title, "\n", rule, "\n");
    for (const ListedFile & file : files)
        out += concat("| ", markdown_cell(file.name), " | ", count_text(file.size), " | `", file.sha256, "` |\n");
    return out;
}

// "| name | 1,024 | `hash` |"
static std::optional<ListedFile> parse_row(std::string_view line) {
    constexpr std::string_view begin = "| ", between = " | ", end = "` |";
    if (!starts_with(line, begin) || !ends_with(line, end)) return {};
    line = line.substr(begin.size(), line.size() - begin.size() - end.size());
    const size_t hash = line.rfind(" | `");
    const size_t size = hash == line.npos || hash == 0 ? line.npos : line.rfind(between, hash - 1);
    if (size == line.npos) return {};
    ListedFile file;
    const std::string_view name = line.substr(0, size);
    for (size_t i = 0; i < name.size(); i++)
        if (name.substr(i, 2) != "\\|") file.name += name[i];
    std::string digits(line.substr(size + between.size(), hash - size - between.size()));
    std::erase(digits, ',');
    const char * const last = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), last, file.size);
    file.sha256 = line.substr(hash + std::string_view(" | `").size());
    const bool is_hash = file.sha256.size() == hash_digits &&
                         std::all_of(file.sha256.begin(), file.sha256.end(),
                                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    if (file.name.empty() || error != std::errc() || stop != last || !is_hash) return {};
    return file;
}

std::vector<ListedFile> find_file_list(std::string_view readme) {
    std::vector<ListedFile> files;
    enum { outside, in_title, in_rows } place = outside;
    for (size_t at = 0; at < readme.size();) {
        std::string_view line = readme.substr(at, readme.find('\n', at) - at);
        at += line.size() + 1;
        if (ends_with(line, "\r")) line.remove_suffix(1);
        if (place == outside) {
            if (line == title) place = in_title;
        } else if (place == in_title) {
            if (line != rule) return {};
            place = in_rows;
        } else {
            std::optional<ListedFile> file = parse_row(line);
            if (!file) break;
            files.push_back(std::move(*file));
        }
    }
    return files;
}

} // namespace gnv
