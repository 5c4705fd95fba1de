#include "formats/json_writer.h"

#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <nlohmann/json.hpp>

using namespace gnv;
using nlohmann::ordered_json;

TEST_CASE("strings are quoted as another JSON library quotes them") {
    std::string all;
    for (int c = 1; c < 0x80; c++) all += char(c);
    const std::string texts[] = {"",        "plain", all, std::string("\0", 1), "\u00e9\u20ac\U0001f600", "a\xff\xfe z",
                                 "\xe2\x82"};
    for (const std::string & text : texts) {
        CHECK(json_quote(text) == ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace));
        CHECK(ordered_json::accept(json_quote(text)));
    }
}

TEST_CASE("documents are laid out as another JSON library lays them out") {
    const char * const source =
        R"({"z": [1, -2, 18446744073709551615, -9223372036854775808], "a": {"empty": {}, "none": []},
        "deep": [[[]], [{"k": [1e-6, 0.1, 2.0, -0.0, 123456789.125]}]], "t": true, "f": false, "n": null, "s": "q\"\n\u20ac"})";
    const JsonDocument document = JsonDocument::parse(source, "x").take();
    const ordered_json other = ordered_json::parse(source);
    CHECK(JsonWriter(JsonWriter::Form::indented).value(document.root()).take() == other.dump(2));
    CHECK(JsonWriter().value(document.root()).take() == other.dump());
}

TEST_CASE("values of every type, and lists of them") {
    JsonWriter json;
    json.begin_object().member("text", "x").member("flag", true).member("int", -1).member("none", nullptr);
    json.member("list", std::vector<std::string>{"a", "b"})
        .member("nested", std::vector<std::vector<int>>{{1}, {}, {2, 3}});
    json.member("real", 1.0).member("nan", std::nan("")).member("inf", -std::numeric_limits<double>::infinity());
    json.key("array").begin_array().value(uint64_t(1) << 63).value(0.1).end_array().end_object();
    CHECK(json.take() == R"({"text":"x","flag":true,"int":-1,"none":null,"list":["a","b"],"nested":[[1],[],[2,3]],)"
                         R"("real":1.0,"nan":null,"inf":null,"array":[9223372036854775808,0.1]})");
}

TEST_CASE("a real number reads back as the same real number") {
    for (const double number : {1e300, 5e-324, 1.0 / 3, 1e7, 1e21, -2.5, 0.0}) {
        const JsonDocument document = JsonDocument::parse("[" + JsonWriter().value(number).take() + "]", "x").take();
        CHECK(document.root()
                  .for_each_element([&](size_t, const JsonValue & value) -> Status {
                      CHECK(value.as_double().value() == number);
                      return {};
                  })
                  .ok());
    }
}
