// The alphabet in which byte-level vocabularies are written: one printable character for each byte.
//
// Bytes that Latin-1 prints stand for themselves ("A", U+00E9 for 0xE9); the 68 others follow from U+0100 on, in order
// (U+0120, a G with dot, is the space).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gnv {

// U+0021..U+007E, U+00A1..U+00AC, U+00AE..U+00FF, or U+0100..U+0143
char32_t byte_level_character(uint8_t byte);

// Appends the bytes that `token`, valid UTF-8, stands for. A token with any character outside the alphabet stands for its
// own UTF-8 instead, and false is returned; such tokens do occur, as added ones.
bool byte_level_decode(std::string_view token, std::string & out);

} // namespace gnv
