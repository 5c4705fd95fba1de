// The properties of characters that tokenizers need.
#pragma once

#include <string>
#include <string_view>

namespace gnv {

// Normalization Form C of `text` (valid UTF-8): `text` if nothing changes, otherwise `buffer`, filled. Characters
// younger than Unicode 9 stay unchanged, since the `tokenizers` library normalizes by the tables of that version; so
// the result does not depend on the version of utf8proc. Time is linear in the text, except for sorting long runs of
// combining marks.
std::string_view nfc(std::string_view text, std::string & buffer);

bool is_white_space(char32_t code_point); // the property White_Space
// A letter, mark, decimal or letter-like number, connector or joiner: \w of Unicode Technical Standard 18.
bool is_word_character(char32_t code_point);

} // namespace gnv
