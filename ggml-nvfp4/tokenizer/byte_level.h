// The alphabet of byte-level vocabularies: one printable character for each byte.
//
// Bytes that Latin-1 prints represent themselves ("A", U+00E9 for 0xE9); the 68 others follow from U+0100 on, in order
// (U+0120, a G with dot, is the space).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gnv {

// U+0021..U+007E, U+00A1..U+00AC, U+00AE..U+00FF, or U+0100..U+0143
char32_t byte_level_character(uint8_t byte);

// Appends the bytes that `token`, valid UTF-8, represents. A token with a character outside the alphabet represents its
// own UTF-8, and the result is false; added tokens may be such.
bool byte_level_decode(std::string_view token, std::string & out);

} // namespace gnv
