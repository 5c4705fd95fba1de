#include "formats/json.h"

#include <doctest/doctest.h>

using namespace gnv;

static Result<JsonDocument> parse(const std::string & text) { return JsonDocument::parse(text, "f.json"); }

TEST_CASE("typed getters") {
    const JsonDocument document = parse(R"({"a": {"n": 7, "r": 39289152.0, "x": 1e-6, "s": "té", "b": true, "z": null},
                                            "list": [1, [2, "3"]]})")
                                      .take();
    const JsonValue root = document.root();
    const JsonValue a = root.get("a").take();
    CHECK(a.get("n").value().as_int().value() == 7);
    CHECK(a.get("r").value().as_int().value() == 39289152);
    CHECK(a.get("n").value().as_double().value() == 7.0);
    CHECK(a.get("s").value().as_string().value() == "té");
    CHECK(a.get("b").value().as_bool().value());
    CHECK(a.get("z").value().is_null());
    CHECK(a.get("x").value().text() == "1e-06");
    CHECK(root.get("list").value().array_size().value() == 2);
}

TEST_CASE("failures name the file and the path") {
    const JsonDocument document = parse(R"({"a": {"list": [1, {"k": "v"}]}})").take();
    std::string message;
    const Status status = document.root().get("a").value().get("list").value().for_each_element(
        [&](size_t index, const JsonValue & value) -> Status {
            if (index == 0) return {};
            return value.get("k").value().as_int().take_status();
        });
    CHECK(status.message() == "f.json: a.list[1].k: expected an integer, found a string");
    const JsonDocument large = parse(R"({"n": [9223372036854775808, 18446744073709551615]})").take();
    const Status too_large = large.root().get("n").value().for_each_element(
        [](size_t, const JsonValue & value) { return value.as_int().take_status(); });
    CHECK(too_large.message() == "f.json: n[0]: expected an integer below 2^63, found 9223372036854775808");
    CHECK(document.root().get("b").status().message() == "f.json: the key \"b\" is missing");
    CHECK_FALSE(document.root().as_double().ok());
    CHECK_FALSE(parse(R"({"x": 1.5})").value().root().get("x").value().as_int().ok());
    CHECK_FALSE(parse(R"({"x": 1e300})").value().root().get("x").value().as_int().ok());
}

TEST_CASE("damaged documents") {
    for (const char * text : {"", "{", "{\"a\":1}}", "{\"a\":1,}", "nul", "{\"a\":\"\xff\"}", "[1 2]"}) {
        CAPTURE(text);
        CHECK(parse(text).status().code() == Code::format);
    }
    CHECK(parse(R"({"a": {"k": 1, "k": 2}})").status().message() == "f.json: the key \"k\" occurs twice in one object");
    CHECK_FALSE(parse(std::string(300, '[') + std::string(300, ']')).ok());
    CHECK(parse(std::string(200, '[') + std::string(200, ']')).ok());
}

TEST_CASE("a text of more values than any file needs is refused before memory is spent on it") {
    const auto list = [](size_t count) {
        std::string text = "[0";
        for (size_t i = 1; i < count; i++) text += ",0";
        return text + "]";
    };
    CHECK(JsonDocument::parse(list(9'000'000), "x").ok());
    const Status status = JsonDocument::parse(list(11'000'000), "x").take_status();
    CHECK(status.code() == Code::format);
    CHECK(status.message().find("more than 10000000 values") != std::string::npos);
}

TEST_CASE("numbers of any size are valid, kept as they are, and refused only where an integer is asked for") {
    // What transformers writes where no length was set.
    const std::string text =
        R"({"max":1000000000000000019884624838656,"list":[-9223372036854775809,18446744073709551616,1e999,7],)"
        R"("word":"1000000000000000019884624838656, \"x"})";
    const JsonDocument document = parse(text).take();
    CHECK(document.root().text() == text);
    const JsonValue max = document.root().get("max").take();
    CHECK(max.type() == JsonType::large);
    CHECK_FALSE(max.is_string());
    CHECK(max.as_double().value() == 1e30);
    CHECK(max.text() == "1000000000000000019884624838656");
    CHECK(max.as_int().status().message() ==
          "f.json: max: expected an integer, found a number that 64 bits do not hold");
    CHECK_FALSE(max.as_string().ok());
    CHECK_FALSE(max.as_bool().ok());
    const JsonValue list = document.root().get("list").take();
    CHECK(list.text() == "[-9223372036854775809,18446744073709551616,1e999,7]");
    const Status numbers = list.for_each_element([](size_t index, const JsonValue & value) -> Status {
        const double expected[] = {-9223372036854775808.0, 18446744073709551616.0, 0, 7};
        CHECK(value.as_double().ok() == (index != 2)); // beyond every double
        if (index != 2) CHECK(value.as_double().value() == expected[index]);
        return {};
    });
    CHECK(numbers.ok());
    CHECK(parse("123456789012345678901234567890").value().root().type() == JsonType::large);
    CHECK(parse(R"({"n": 18446744073709551615})").value().root().get("n").value().type() == JsonType::integer);
    for (const char * bad :
         {"[01234567890123456789012]", "[-]", "[1234567890123456789012x]", "[1234567890123456789012.]",
          "[1234567890123456789012 1]", "{1234567890123456789012: 1}"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse(bad).ok());
    }
}

TEST_CASE("a text that looks like the inner form of a large number stays a text") {
    const std::string mark = "\x7fgnv number ";
    const std::string text = R"(["\")" + mark + R"(5\"",")" + mark + R"(5, 6",1234567890123456789012])";
    const JsonDocument document = parse(text).take();
    CHECK(document.root().text() == text);
}

TEST_CASE("of a key that occurs twice the last counts, where that is allowed") {
    const JsonDocument document =
        JsonDocument::parse(R"({"k": 1, "a": {"k": 2, "k": 3}, "k": 4})", "f.json", JsonKeys::last_wins).take();
    CHECK(document.root().get("k").value().as_int().value() == 4);
    CHECK(document.root().get("a").value().get("k").value().as_int().value() == 3);
    CHECK(document.has_duplicates());
    CHECK(parse(R"({"k": 1, "k": 4})").status().code() == Code::format);
}
