#include "tokenizer/byte_level.h"

#include "core/utf8.h"

namespace gnv {

namespace {

// Ranges of bytes that are not printable, with the character of the first.
struct Hidden {
    uint8_t first, last;
    char32_t character;
};
constexpr Hidden hidden[] = {{0x00, 0x20, 0x100}, {0x7f, 0xa0, 0x121}, {0xad, 0xad, 0x143}};
constexpr char32_t past_last_character = 0x144;

// The byte of a character, or -1.
int byte_of(char32_t c) {
    if (c >= past_last_character) return -1;
    for (const Hidden & range : hidden) {
        if (c >= range.first && c <= range.last) return -1;
        if (c >= range.character && c - range.character <= char32_t(range.last - range.first))
            return int(range.first + (c - range.character));
    }
    return int(c);
}

} // namespace

char32_t byte_level_character(uint8_t byte) {
    for (const Hidden & range : hidden)
        if (byte >= range.first && byte <= range.last) return range.character + (byte - range.first);
    return byte;
}

bool byte_level_decode(std::string_view token, std::string & out) {
    const size_t start = out.size();
    for (size_t at = 0, bytes = 0; at < token.size(); at += bytes) {
        const int byte = byte_of(utf8_decode(token, at, bytes));
        if (byte < 0) {
            out.replace(start, out.size() - start, token);
            return false;
        }
        out += char(byte);
    }
    return true;
}

} // namespace gnv
