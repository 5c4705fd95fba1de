// The example server's reader of answers: reasoning, content and calls of tools, however the text is cut into pieces.
#include "examples/server/answer_parts.h"

#include <doctest/doctest.h>

using namespace server;

namespace {

const Json tools = Json::parse(R"([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "options": {"type": ["object", "null"]},
                   "either": {"type": ["string", "integer"]}}}}}])");

struct Answer {
    std::string reasoning, content;
    std::vector<std::string> calls; // "name arguments"
    bool operator==(const Answer & other) const {
        return reasoning == other.reasoning && content == other.content && calls == other.calls;
    }
};

void add(Answer & answer, const AnswerDelta & delta) {
    answer.reasoning += delta.reasoning;
    answer.content += delta.content;
    for (const ToolCall & call : delta.calls) answer.calls.push_back(call.name + " " + call.arguments);
}

// The answer, which is the same for pieces of every size.
Answer read(const std::string & text, bool thinks = false, const Json & known = tools) {
    Answer whole;
    for (size_t size = text.size() + 1; size > 0; size--) {
        AnswerParts parts(thinks, known);
        Answer answer;
        for (size_t at = 0; at < text.size(); at += size) add(answer, parts.push(text.substr(at, size)));
        add(answer, parts.finish());
        CHECK(parts.calls() == answer.calls.size());
        if (size > text.size()) whole = answer;
        CAPTURE(size);
        CHECK(answer == whole);
    }
    return whole;
}

const std::string tagged =
    "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n"
    "</parameter>\n</function>\n</tool_call>";

} // namespace

TEST_CASE("content, and reasoning that the prompt or the answer begins") {
    CHECK(read("Hello <b>world</b>.\n") == Answer{"", "Hello <b>world</b>.\n", {}});
    CHECK(read("I see.\n</think>\n\nYes.", true) == Answer{"I see.", "Yes.", {}});
    CHECK(read("\n<think>\nI see.\n</think>\n\nYes.") == Answer{"I see.", "Yes.", {}});
    CHECK(read("no end of thoughts </thin", true) == Answer{"no end of thoughts </thin", "", {}});
    CHECK(read("<thin") == Answer{"", "<thin", {}});
    CHECK(read("a <think> later") == Answer{"", "a <think> later", {}});
    CHECK(read("") == Answer{});
}

TEST_CASE("calls in both forms, with blanks around them left out") {
    const std::string call = R"(weather {"city":"Paris","days":3})";
    CHECK(read(tagged) == Answer{"", "", {call}});
    CHECK(read("Let me look.\n\n" + tagged + "\n" + tagged + "\n") == Answer{"", "Let me look.", {call, call}});
    CHECK(read("Hm.\n</think>\n\n" + tagged, true) == Answer{"Hm.", "", {call}});
    CHECK(
        read("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3}}\n</tool_call>") ==
        Answer{"", "", {call}});
    CHECK(read("<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>") == Answer{"", "", {"f {}"}});
    CHECK(read("<tool_call><function=f></function></tool_call>") == Answer{"", "", {"f {}"}});
    CHECK(read(tagged, false, Json()) == Answer{"", tagged, {}}); // no tools were given
}

TEST_CASE("values: JSON where the tool declares no string, else the text with its own line ends") {
    const auto value = [](const std::string & key, const std::string & text) {
        return read("<tool_call>\n<function=weather>\n<parameter=" + key + ">\n" + text +
                    "\n</parameter>\n</function>\n</tool_call>")
            .calls.at(0);
    };
    CHECK(value("city", "42") == R"(weather {"city":"42"})");
    CHECK(value("city", "a\n\nb\n") == R"(weather {"city":"a\n\nb\n"})");
    CHECK(value("days", "42") == R"(weather {"days":42})");
    CHECK(value("days", "soon") == R"(weather {"days":"soon"})");
    CHECK(value("options", R"({"b": [1, "x"]})") == R"(weather {"options":{"b":[1,"x"]}})");
    CHECK(value("either", "1") == R"(weather {"either":"1"})");
    CHECK(value("unknown", "1") == R"(weather {"unknown":"1"})");
}

TEST_CASE("JSON of many levels is text") {
    const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
    AnswerParts parts(false, tools);
    Answer answer;
    add(answer, parts.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": " + deep + "}}</tool_call>"));
    CHECK(answer.calls.empty());
    add(answer,
        parts.push("<tool_call><function=weather><parameter=days>" + deep + "</parameter></function></tool_call>"));
    REQUIRE(answer.calls.size() == 1);
    CHECK(answer.calls[0] == "weather {\"days\":\"" + deep + "\"}");
}

TEST_CASE("what is no call stays text") {
    for (const std::string body :
         {"", "weather(Paris)", "{\"name\": 5}", "{\"name\": \"f\", \"arguments\": 3}", "{broken", "<function=f",
          "<function=f><parameter=a>1</function>", "<function=f></function>x", "<function=></function>"}) {
        const std::string text = "a <tool_call>" + body + "</tool_call> b";
        CAPTURE(text);
        const Answer answer = read(text);
        CHECK(answer.calls.empty());
        CHECK(answer.content == "a <tool_call>" + body + "</tool_call> b");
    }
    CHECK(read("a " + tagged.substr(0, 40)) == Answer{"", "a " + tagged.substr(0, 40), {}});
}
