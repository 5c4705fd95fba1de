#include "tokenizer/unicode.h"

#include "core/utf8.h"

#include <doctest/doctest.h>
#include <random>
#include <utf8proc.h>

using namespace gnv;

static std::string utf8(std::u32string_view code_points) {
    std::string out;
    for (const char32_t c : code_points) utf8_append(out, c);
    return out;
}

static std::string nfc_of(std::u32string_view code_points) {
    std::string buffer;
    return std::string(nfc(utf8(code_points), buffer));
}

static std::string by_utf8proc(std::u32string_view code_points) {
    std::vector<utf8proc_int32_t> points;
    for (const char32_t c : code_points) {
        utf8proc_int32_t parts[8];
        const auto count = utf8proc_decompose_char(utf8proc_int32_t(c), parts, 8, UTF8PROC_COMPOSE, nullptr);
        points.insert(points.end(), parts, parts + count);
    }
    std::u32string text(points.begin(), points.end());
    const std::string decomposed = utf8(text);
    utf8proc_uint8_t * out = nullptr;
    const auto size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(decomposed.data()), utf8proc_ssize_t(decomposed.size()),
                     &out, utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::string result(reinterpret_cast<const char *>(out), size_t(size));
    free(out);
    return result;
}

TEST_CASE("NFC") {
    CHECK(nfc_of(U"plain") == "plain");
    CHECK(nfc_of(U"e\u0301") == "\u00e9");
    CHECK(nfc_of(U"xe\u0301\u0323y") == "x\u1eb9\u0301y");
    CHECK(nfc_of(U"\u1100\u1161\u11a8 \uac00\u11a8") == "\uac01 \uac01");
    CHECK(nfc_of(U"\u2126\uf900\u0344") == "\u03a9\u8c48\u0308\u0301");
    CHECK(nfc_of(U"\u0301") == "\u0301");
    CHECK(nfc_of(U"") == "");
    CHECK(nfc_of(std::u32string(U"a\0\u0301", 3)) == std::string("a\0\u0301", 4));
}

TEST_CASE("marks younger than Unicode 9 stay where they are, as the reference has it") {
    CHECK(nfc_of(U"\u0345\u09fe") == utf8(U"\u0345\u09fe"));
    CHECK(nfc_of(U"e\u1abf\u0301") == utf8(U"e\u1abf\u0301"));
    CHECK(nfc_of(U"\U00011935\U00011930") == utf8(U"\U00011935\U00011930"));
    CHECK(nfc_of(U"\u0c46\u0c56") == utf8(U"\u0c48")); // beside such a range
}

TEST_CASE("NFC of random text agrees with utf8proc") {
    // Blocks where nothing is younger than Unicode 9.
    const std::pair<char32_t, char32_t> blocks[] = {
        {0x20, 0x7e},     {0xa0, 0x34e},    {0x370, 0x482},   {0x900, 0x97f},   {0x1100, 0x11ff},   {0x1e00, 0x1eff},
        {0x3040, 0x30ff}, {0x4e00, 0x9fa0}, {0xac00, 0xd7a3}, {0xf900, 0xfad0}, {0x1d15e, 0x1d1c0}, {0x2f800, 0x2fa1d}};
    std::mt19937 random(3);
    for (int round = 0; round < 3000; round++) {
        std::u32string text;
        const auto & one = blocks[random() % std::size(blocks)];
        for (int i = 0; i <= round % 12; i++) {
            const auto & block = random() % 2 ? one : blocks[random() % std::size(blocks)];
            text += char32_t(block.first + random() % (block.second - block.first + 1));
        }
        CAPTURE(utf8(text));
        REQUIRE(nfc_of(text) == by_utf8proc(text));
    }
}

TEST_CASE("spaces and words") {
    CHECK(is_white_space(' '));
    CHECK(is_white_space(0x85));
    CHECK(is_white_space(0x3000));
    CHECK_FALSE(is_white_space(0x180e));
    CHECK_FALSE(is_white_space(0x200b));
    for (const char32_t c : {U'a', U'_', U'5', U'é', U'漢', U'\u0301', U'\u200d', U'ⓐ', U'Ⅷ'})
        CHECK(is_word_character(c));
    for (const char32_t c : {U' ', U'-', U'²', U'½', U'!', U'。', U'😀'}) CHECK_FALSE(is_word_character(c));
}
