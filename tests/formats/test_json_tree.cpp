#include "formats/json_tree.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using nlohmann::ordered_json;

static const char * const source =
    R"({"a": {"b": [1, {"c": "x/y"}, []], "d": {}, "number": -0.5}, "e": null, "f": true, "\u20ac\"": "\n\u20ac"})";

static JsonTree tree() { return JsonTree::copy(JsonDocument::parse(source, "x").take().root()); }

TEST_CASE("a copy is written as another JSON library writes the document") {
    CHECK(tree().dump() == ordered_json::parse(source).dump());
    for (const char * whole : {"1", "\"s\"", "null", "[]", "{}", "[[1,[2]],{\"k\":[{}]}]"})
        CHECK(JsonTree::copy(JsonDocument::parse(whole, "x").take().root()).dump() == whole);
}

TEST_CASE("members are found, changed, added and removed") {
    JsonTree json = tree();
    ordered_json expected = ordered_json::parse(source);
    REQUIRE(json.find("a/number"));
    CHECK(json.find("a/number")->text == "-0.5");
    CHECK(json.find("a/number")->type == JsonType::real);
    CHECK(json.find("a/b")->is_array());
    for (const char * absent : {"b", "a/c", "a/b/c", "a/", "", "e/f", "a/b/0"}) CHECK_FALSE(json.find(absent));

    json.find("a")->set("number", "7"), expected["a"]["number"] = 7;
    json.set("new", "0.25"), expected["new"] = 0.25;
    json.find("a/b")->children.push_back(JsonTree::make_string("q\"\n")), expected["a"]["b"].push_back("q\"\n");
    CHECK(json.erase("e")), expected.erase("e");
    CHECK_FALSE(json.erase("e"));
    CHECK_FALSE(json.find("a/b")->erase("c"));
    CHECK(json.dump() == expected.dump());
}
