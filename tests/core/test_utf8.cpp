#include "core/utf8.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("valid beginnings") {
    CHECK(utf8_valid_prefix("") == 0);
    CHECK(utf8_valid_prefix("plain text, longer than eight") == 29);
    CHECK(utf8_valid_prefix("\u00e9\u6f22\U0001F600") == 9);
    CHECK(utf8_valid_prefix("\xf4\x8f\xbf\xbf") == 4); // U+10FFFF
    struct Case {
        const char * text;
        size_t valid;
    };
    for (const Case & c : {Case{"a\x80", 1}, Case{"ab\xc0\x80", 2}, Case{"\xc1\xbf", 0}, Case{"\xe0\x9f\xbf", 0},
                           Case{"\xed\xa0\x80", 0}, Case{"\xf0\x8f\xbf\xbf", 0}, Case{"\xf4\x90\x80\x80", 0},
                           Case{"\xf5\x80\x80\x80", 0}, Case{"12345678\xc3", 8}, Case{"abc\xe6\xbc", 3}}) {
        CAPTURE(c.text);
        CHECK(utf8_valid_prefix(c.text) == c.valid);
    }
}

TEST_CASE("every code point there and back") {
    for (char32_t c = 0; c <= 0x10ffff; c += c < 0x900 ? 1 : 97) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        std::string text;
        utf8_append(text, c);
        size_t bytes;
        REQUIRE(utf8_valid_prefix(text) == text.size());
        REQUIRE(utf8_decode(text, 0, bytes) == c);
        REQUIRE(bytes == text.size());
    }
}

TEST_CASE("replacement of maximal invalid parts") {
    // The example of the Unicode standard, table 3-8, and its neighbours.
    CHECK(utf8_lossy("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64") ==
          "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
    CHECK(utf8_lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
    CHECK(utf8_lossy("\xED\xA0\x80\xED\xBF\xBF") == "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
    CHECK(utf8_lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB");
    CHECK(utf8_lossy("ok \xf0\x9f\x98") == "ok \uFFFD");
    CHECK(utf8_lossy("\u6f22") == "\u6f22");
    CHECK(utf8_lossy("").empty());
}
