// The example server's guide to JSON, against the parser of JSON for Modern C++.
#include "examples/server/json_guide.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using server::JsonGuide;

namespace {

bool takes(const std::string & text, bool & is_complete) {
    JsonGuide guide;
    const bool fits = guide.push(text);
    is_complete = fits && guide.is_complete();
    return fits;
}

bool is_object(const std::string & text) {
    const auto parsed = nlohmann::json::parse(text, nullptr, false);
    return parsed.is_object();
}

} // namespace

TEST_CASE("every object is taken, byte by byte, and is complete at its last byte alone") {
    for (const std::string text :
         {R"({})", R"({ "a" : 1 })", R"({"a":[1,-0,0.5,1e9,2E-3,-1.25e+10,true,false,null,"x"],"b":{"c":[]}})",
          "{\n\t\"\": {}\r\n}", R"({"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00":"ü😀"})", R"({"a":[[[{}],[]],0]})",
          R"({"a":0 , "b":10 })"}) {
        CAPTURE(text);
        REQUIRE(is_object(text));
        for (size_t size = 0; size <= text.size(); size++) {
            bool is_complete = false;
            CHECK(takes(text.substr(0, size), is_complete));
            CHECK(is_complete == (size == text.size()));
        }
    }
}

TEST_CASE("texts of a few characters: what is complete is an object, and objects are complete") {
    const std::string alphabet = "{}[]\",:\\ut01-.e ";
    uint64_t state = 7;
    const auto next = [&] { return (state = state * 6364136223846793005u + 1442695040888963407u) >> 33; };
    size_t objects = 0;
    for (int i = 0; i < 200'000; i++) {
        // A random walk along bytes that are taken meets many objects; one byte at random may break it.
        JsonGuide guide;
        std::string text;
        for (size_t tries = 0; text.size() < 24 && tries < 60 && !guide.is_complete(); tries++) {
            const char byte = alphabet[next() % alphabet.size()];
            JsonGuide tried = guide;
            if (!tried.push(static_cast<unsigned char>(byte))) continue;
            guide = tried;
            text += byte;
        }
        if (!text.empty() && i % 2) text[next() % text.size()] = alphabet[next() % alphabet.size()];
        bool is_complete = false;
        takes(text, is_complete);
        const bool expected = is_object(text) && text.back() == '}';
        objects += expected;
        CAPTURE(text);
        // The parser also refuses halves of surrogate pairs and numbers beyond F64.
        const bool is_special = text.find("\\u") != std::string::npos || text.find("e1") != std::string::npos;
        if (!is_special) REQUIRE(is_complete == expected);
    }
    CHECK(objects > 1000);
}

TEST_CASE("what is no object, or never ends, is not taken") {
    for (const std::string text :
         {"[",          "1",           "\"",          "{a",          "{,",           "{\"a\",",         "{\"a\":}",
          "{\"a\":1,}", "{\"a\":01",   "{\"a\":1.}",  "{\"a\":1.e",  "{\"a\":-}",    "{\"a\":+",        "{\"a\":.5",
          "{\"a\":1e}", "{\"a\":tru}", "{\"a\":nul ", "{\"a\":\"\n", "{\"a\":\"\\x", "{\"a\":\"\\u12g", "{\"a\":[1}",
          "{\"a\":{]",  "{} ",         "{}{"}) {
        bool is_complete = false;
        CAPTURE(text);
        CHECK_FALSE(takes(text, is_complete));
    }
    bool is_complete = false;
    CHECK_FALSE(takes("{" + std::string(33, ' '), is_complete));
    std::string deep;
    for (int i = 0; i < 64; i++) deep += "{\"a\":";
    CHECK(takes(deep, is_complete));
    CHECK_FALSE(takes(deep + "{", is_complete));
}
