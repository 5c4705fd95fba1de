// Text as Python's str sees it: code points, white space, case. All text is valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gnv::chat {

size_t count_code_points(std::string_view text);
size_t bytes_of_code_point(std::string_view text, size_t at);
// Bytes of the first `count` code points; text.size() when there are fewer.
size_t offset_of_code_point(std::string_view text, size_t count);

bool is_space(char32_t code_point);     // str.isspace
bool is_printable(char32_t code_point); // str.isprintable

// Without what is at the ends: white space, or, with `chars`, any of those.
std::string_view strip(std::string_view text, bool left, bool right, const std::string_view * chars = nullptr);

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
std::string swap_case(std::string_view text);
std::string capitalized(std::string_view text); // the first letter large, all others small
std::string to_title(std::string_view text);    // the first letter of each word, as str.title has it

// Classes of characters behind str.isalpha() and the like; a text has one when all its characters do and it is not empty.
enum class CharacterClass : uint8_t { alpha, alnum, digit, decimal, numeric, space, ascii, printable };
bool all_of_class(std::string_view text, CharacterClass wanted);
bool is_lower_text(std::string_view text);
bool is_upper_text(std::string_view text);
bool is_title_text(std::string_view text);
bool is_identifier(std::string_view text);

// The pieces between line ends, as str.splitlines has them. Visits begin and end, with or without the line end.
template <class Visit>
void for_each_line(std::string_view text, bool keep_ends, const Visit & visit);

// Bytes of the line end at text[at]; 0 where there is none.
size_t line_end_at(std::string_view text, size_t at);

template <class Visit>
void for_each_line(std::string_view text, bool keep_ends, const Visit & visit) {
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
        const size_t end = line_end_at(text, at);
        if (!end) {
            at++;
            continue;
        }
        visit(text.substr(begin, at - begin + (keep_ends ? end : 0)));
        begin = at += end;
    }
    if (begin < text.size()) visit(text.substr(begin));
}

} // namespace gnv::chat
