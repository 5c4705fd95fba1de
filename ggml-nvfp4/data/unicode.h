// The few properties of characters that tokenizers ask for.
#pragma once

#include <string>
#include <string_view>

namespace gnv {

// Normalization Form C of `text` (valid UTF-8): `text` itself where nothing changes, otherwise `buffer`, filled.
// Time is linear in the text up to the sorting of runs of combining marks.
std::string_view nfc(std::string_view text, std::string & buffer);

bool is_white_space(char32_t code_point); // the property White_Space
// A letter, mark, decimal or letter-like number, connector or joiner: \w of Unicode Technical Standard 18.
bool is_word_character(char32_t code_point);

} // namespace gnv
