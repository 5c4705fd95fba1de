// Every construct against what Python's Jinja2 gives: tests/data/templates.json, recorded by scripts/record_templates.py.
#include "chat/chat_template.h"
#include "core/strings.h"

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

using gnv::ChatRenderOptions;
using gnv::ChatTemplate;
using gnv::JsonDocument;
using json = nlohmann::ordered_json;

static gnv::Result<std::string> render(const std::string & source, const json & variables, int64_t local_time) {
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(variables.dump(), "conversation"));
    GNV_ASSIGN(const ChatTemplate chat, ChatTemplate::parse(source, "t.jinja"));
    ChatRenderOptions options;
    options.local_time = local_time;
    return chat.render(document.root(), options);
}

static std::string read_all(const std::string & name) {
    std::ifstream file(GNV_TEST_DATA + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("templates give what Jinja2 gives") {
    std::ifstream file(GNV_TEST_DATA "/templates.json");
    const json recorded = json::parse(file);
    REQUIRE(recorded["jinja2"] == "3.1.6");
    REQUIRE(recorded["cases"].size() > 1000);
    const int64_t local_time = recorded["local_time"];
    for (const json & row : recorded["cases"]) {
        const std::string source =
            row.contains("file") ? read_all("/templates/" + std::string(row["file"])) : std::string(row["template"]);
        CAPTURE(source);
        CAPTURE(row.value("variables", json()).dump());
        const json & variables = row.contains("variables") ? row["variables"] : recorded["variables"];
        const auto text = render(source, variables, local_time);
        if (row.contains("error")) {
            CHECK_MESSAGE(!text.ok(), "should fail: " << std::string(row["error"]) << "\ngives: " << text.value());
        } else if (!text.ok()) {
            FAIL_CHECK(text.status().message() << "\nshould be: " << std::string(row["text"]));
        } else {
            CHECK(text.value() == std::string(row["text"]));
        }
    }
}
