#include "core/utf8.h"

#include <cstdint>
#include <cstring>

namespace gnv {

namespace {

// The start of a text: a whole character, or the maximal part of an incomplete one.
struct Sequence {
    size_t bytes = 1;
    bool valid = false;
};

uint8_t byte_at(std::string_view text, size_t at) { return static_cast<uint8_t>(text[at]); }

Sequence sequence_at(std::string_view text, size_t at) {
    const uint8_t lead = byte_at(text, at);
    if (lead < 0x80) return {1, true};
    if (lead < 0xc2 || lead > 0xf4) return {};
    const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    // The second byte's range excludes overlong forms, surrogates and code points beyond U+10FFFF.
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < length; i++) {
        if (at + i == text.size()) return {i, false};
        const uint8_t next = byte_at(text, at + i);
        const bool fits = i == 1 ? next >= low && next <= high : (next & 0xc0) == 0x80;
        if (!fits) return {i, false};
    }
    return {length, true};
}

} // namespace

size_t utf8_valid_prefix(std::string_view text) {
    size_t at = 0;
    while (at < text.size()) {
        uint64_t eight;
        if (at + sizeof eight <= text.size()) { // most text is ASCII
            memcpy(&eight, text.data() + at, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                at += sizeof eight;
                continue;
            }
        }
        const Sequence sequence = sequence_at(text, at);
        if (!sequence.valid) return at;
        at += sequence.bytes;
    }
    return at;
}

char32_t utf8_decode(std::string_view text, size_t at, size_t & bytes) {
    const char32_t lead = byte_at(text, at);
    bytes = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (bytes == 1) return lead;
    char32_t code_point = lead & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) code_point = code_point << 6 | (byte_at(text, at + i) & 0x3fu);
    return code_point;
}

void utf8_append(std::string & out, char32_t code_point) {
    const auto continuation = [&](int shift) { out += char(0x80 | (code_point >> shift & 0x3f)); };
    if (code_point < 0x80) {
        out += char(code_point);
    } else if (code_point < 0x800) {
        out += char(0xc0 | code_point >> 6);
        continuation(0);
    } else if (code_point < 0x10000) {
        out += char(0xe0 | code_point >> 12);
        continuation(6), continuation(0);
    } else {
        out += char(0xf0 | code_point >> 18);
        continuation(12), continuation(6), continuation(0);
    }
}

std::string utf8_lossy(std::string_view bytes) {
    std::string out;
    for (;;) {
        const size_t valid = utf8_valid_prefix(bytes);
        out.append(bytes.substr(0, valid));
        if (valid == bytes.size()) return out;
        utf8_append(out, replacement_character);
        bytes.remove_prefix(valid + sequence_at(bytes, valid).bytes);
    }
}

} // namespace gnv
