// UTF-8 as the Unicode standard defines it: no surrogates, no overlong forms, nothing beyond U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gnv {

inline constexpr char32_t replacement_character = 0xfffd;

// Bytes of the longest valid beginning; text.size() when all of it is valid.
size_t utf8_valid_prefix(std::string_view text);

// The code point that starts at text[at], and how many bytes it takes. The text must be valid, `at` inside it.
char32_t utf8_decode(std::string_view text, size_t at, size_t & bytes);

void utf8_append(std::string & out, char32_t code_point);

// Valid text stays; each maximal part that starts a character and does not finish it, and each byte that starts none,
// becomes one U+FFFD (Unicode 3.9, "U+FFFD Substitution of Maximal Subparts").
std::string utf8_lossy(std::string_view bytes);

} // namespace gnv
