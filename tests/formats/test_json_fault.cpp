// Where a text stops being JSON: found for every text that the parser refuses for its form, and for none that it takes.
#include "formats/json.h"
#include "formats/json_fault.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("the place and what is missing there") {
    struct Row {
        std::string text, fault;
    };
    const Row rows[] = {
        {"", "at byte 0, line 1: expected a value, the text ends"},
        {" \n", "at byte 2, line 2: expected a value, the text ends"},
        {"{", "at byte 1, line 1: expected the name of a member, the text ends"},
        {"{\"a\": 1,\n}", "at byte 9, line 2: expected the name of a member, found '}'"},
        {"{\"a\" 1}", "at byte 5, line 1: expected \":\", found '1'"},
        {"{\"a\": }", "at byte 6, line 1: expected a value, found '}'"},
        {"{\"a\": 1 \"b\"}", "at byte 8, line 1: expected \",\" or \"}\", found '\"'"},
        {"{\"a\": 1]", "at byte 7, line 1: expected \",\" or \"}\", found ']'"},
        {"[1, 2", "at byte 5, line 1: expected \",\" or \"]\", the text ends"},
        {"[1, ]", "at byte 4, line 1: expected a value, found ']'"},
        {"[1] x", "at byte 4, line 1: expected the end of the text, found 'x'"},
        {"[\"ab", "at byte 4, line 1: expected the end of a string, the text ends"},
        {"[\"ab\\", "at byte 5, line 1: expected the end of a string, the text ends"},
        {"[\"\\x\"]", "at byte 3, line 1: expected an escape, found 'x'"},
        {"[\"\\u12g4\"]", "at byte 6, line 1: expected a hex digit, found 'g'"},
        {"[\"\\u12", "at byte 6, line 1: expected a hex digit, the text ends"},
        {"[NaN]", "at byte 1, line 1: expected a value, found 'N'"},
        {"[01]", "at byte 2, line 1: expected \",\" or \"]\", found '1'"},
        {"[1.]", "at byte 1, line 1: expected a value, found '1'"},
        {"{'a': 1}", "at byte 1, line 1: expected the name of a member, found '''"},
    };
    for (const Row & row : rows) {
        CHECK(describe_json_fault(row.text) == row.fault);
        const Result<JsonDocument> parsed = JsonDocument::parse(row.text, "x.json");
        CHECK(parsed.status().message() == "x.json: not valid JSON " + row.fault);
    }
    CHECK(starts_with(describe_json_fault("[\"a\tb\"]"),
                      "at byte 3, line 1: expected the end of a string, or an escape"));
    CHECK(starts_with(describe_json_fault("[\"\xff\"]"), "at byte 2, line 1: expected UTF-8, found '"));
}

TEST_CASE("every cut of a document is found, and the document has no fault") {
    const std::string text = "{\"a\": [1, -2.5e+3, 0, true, false, null, {}, []],\r\n"
                             " \"b\\u00e9\\\"\\\\\": {\"c\": \"\xc3\xa9\"}, \"d\": \"\"}";
    CHECK(describe_json_fault(text + "\n") == "");
    CHECK(JsonDocument::parse(text, "x").ok());
    for (size_t size = 0; size < text.size(); size++) {
        const std::string cut = text.substr(0, size);
        CAPTURE(cut);
        CHECK_FALSE(JsonDocument::parse(cut, "x").ok());
        CHECK(describe_json_fault(cut) != "");
    }
}
