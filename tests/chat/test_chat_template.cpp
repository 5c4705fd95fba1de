// Where templates come from, what messages say of those that fail, and limits.
#include "chat/chat_template.h"
#include "formats/file.h"
#include "ggml-nvfp4.h"
#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string tiny_folder = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

// The text, or the message of the failure.
std::string text_of(const Result<ChatTemplate> & chat, const std::string & conversation,
                    const ChatRenderOptions & options = {}) {
    if (!chat.ok()) return chat.status().message();
    const auto document = JsonDocument::parse(conversation, "conversation");
    if (!document.ok()) return document.status().message();
    const auto text = chat.value().render(document.value().root(), options);
    return text.ok() ? text.value() : text.status().message();
}

std::string parsed(const std::string & source, const std::string & conversation = R"({"messages": []})",
                   const ChatRenderOptions & options = {}) {
    return text_of(ChatTemplate::parse(source, "t"), conversation, options);
}

} // namespace

TEST_CASE("a checkpoint's template") {
    const ScratchFolder folder;
    const std::string turn = R"({"messages": [{"role": "user", "content": "Hi"}]})";
    CHECK(text_of(ChatTemplate::load(tiny_folder), turn) == "<|im_start|>user\nHi<|im_end|>\n");
    CHECK(ChatTemplate::load(folder.path()).status().code() == Code::not_found);
    folder.save("tokenizer_config.json",
                R"({"chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}|", "bos_token": "<s>",
                "eos_token": {"content": "</s>"}, "pad_token": null})");
    CHECK(text_of(ChatTemplate::load(folder.path()), turn) == "<s></s>|");
    CHECK(text_of(ChatTemplate::load(folder.path()), R"({"messages": [], "bos_token": "B"})") == "B</s>|");
    folder.save("chat_template.jinja", "file {{ bos_token }}");
    CHECK(text_of(ChatTemplate::load(folder.path()), turn) == "file <s>");
    const std::string other = folder.save("other.jinja", "other {{ eos_token }}");
    CHECK(text_of(ChatTemplate::read(other, folder.path()), turn) == "other </s>");
    CHECK(text_of(ChatTemplate::read(other, ""), turn) == "other ");
    const ScratchFolder several;
    several.save("tokenizer_config.json",
                 R"({"chat_template": [{"name": "default", "template": "d{{ tools }}"},
                 {"name": "tool_use", "template": "t{{ tools|length }}"}, {"name": "rag", "template": "{{"}]})");
    CHECK(text_of(ChatTemplate::load(several.path()), turn) == "d");
    CHECK(text_of(ChatTemplate::load(several.path()), R"({"messages": [], "tools": [1, 2]})") == "t2");
    several.save("tokenizer_config.json", R"({"chat_template": null})");
    CHECK(ChatTemplate::load(several.path()).status().code() == Code::not_found);
}

TEST_CASE("failures name the template, the line and the construct") {
    CHECK(parsed("a\n{{ x|nofilter }}") == "t:2: the filter 'nofilter' is not supported");
    CHECK(parsed("a\n\n{% if x is odd and y is notest %}{% endif %}{{ y is notest }}") ==
          "t:3: the test 'notest' is not supported");
    CHECK(parsed("{% include 'x' %}") == "t:1: the statement {% include %} is not supported");
    CHECK(parsed("\n{% for x in y recursive %}{% endfor %}") == "t:2: a recursive {% for %} is not supported");
    CHECK(parsed("\n\n{% for x in y %}\n") == "t:3: the block that begins here has no {% endfor %}");
    CHECK(parsed("{{ a.b.c }}") == "t:1: 'a' is undefined");
    CHECK(parsed("{{ messages.b.c }}") == "t:1: 'b' is undefined");
    CHECK(parsed("\n{% macro m() %}\n{{ 1 + 'a' }}{% endmacro %}{{ m() }}") ==
          "t:3: unsupported operand types for +: 'int' and 'str'");
    CHECK(parsed("{{ 'a'|join(1, 2, 3) }}") == "t:1: join: at most 2 arguments are possible, not 3");
    CHECK(parsed("\xff") == "t: the template is not UTF-8 at byte 0");
    CHECK(parsed("x", "[]") == "conversation: a conversation is an object with \"messages\"");
    CHECK(parsed("x", "{}") == "conversation: the conversation has no \"messages\"");
    const auto refused = ChatTemplate::parse("{{ raise_exception('no') }}", "t").take();
    const auto document = JsonDocument::parse(R"({"messages": []})", "c").take();
    CHECK(refused.render(document.root()).status().code() == Code::invalid_argument);
}

TEST_CASE("work, memory, output and depth are limited") {
    const auto ends = [](const std::string & source, const char * message) {
        const std::string text = parsed(source);
        CHECK_MESSAGE(text.find(message) != std::string::npos, source.substr(0, 80) << "\n" << text.substr(0, 300));
    };
    const std::string loop = "{% for a in range(99999) %}{% for b in range(99999) %}";
    ends(loop + "{% endfor %}{% endfor %}", "it may loop without end");
    ends(loop + "{{ 'x' * 10000 }}{% endfor %}{% endfor %}", "the template writes more than 67.1 MB");
    for (const char * const large :
         {"{{ 'x' * 10**12 }}", "{{ [0] * 10**10 }}", "{{ 'x'.center(10**12) }}", "{{ 'x'.zfill(10**12) }}",
          "{{ 'a'|indent(10**12) }}", "{{ ('x' * 10**6).replace('x', 'y' * 10**6) }}",
          "{{ [1]|batch(10**12, 0)|list }}", "{% set q = 'xy' * 10**8 %}{{ (q * 2)|length }}"})
        ends(large, "of memory for its values");
    ends("{{ '%999999999d' % 5 }}{{ 1 }}", "too large");
    ends("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself too deeply");
    ends("{% set q = [] %}{% set _ = q.append(q) %}{{ q }}", "nested too deeply");
    ends("{% set q = [] %}{% set _ = q.append(q) %}{{ q|tojson }}", "nested too deeply");
    ends("{% set q = [] %}{% set p = [q] %}{% set _ = q.append(p) %}{{ q == [[q]] }}{{ q == p }}", "nested too deeply");
    ends("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}", "nested too deeply");
    ends("{{ " + std::string(5000, '-') + "1 }}", "nested too deeply");
    std::string chain = "{{ 1", members = "{{ a", tests = "{{ 1", blocks;
    for (int i = 0; i < 5000; i++) {
        chain += " + 1";
        members += ".b";
        tests += "|abs";
        blocks += "{% if 1 %}";
    }
    for (const std::string & deep : {chain + " }}", members + " }}", tests + " }}", blocks})
        ends(deep, "nested too deeply");
    ChatRenderOptions few;
    few.steps = 10;
    CHECK(parsed("{% for i in range(20) %}{% endfor %}", R"({"messages": []})", few).find("more than 10 steps") !=
          std::string::npos);
}

TEST_CASE("members of messages that a template passes over") {
    const std::string conversation =
        R"({"messages": [{"role": "user", "content": "x"}, {"tool_calls": [{"function": {"name": "f\"g"}}], "thinking": "t"},)"
        R"( {"tool_calls": [{"name": "h"}], "reasoning": " ", "function_call": null}, {"tool_calls": []}], "tools": []})";
    const auto document = JsonDocument::parse(conversation, "c");
    const auto found = [&](std::string_view source, std::string_view text) {
        std::string out;
        for (const UnwrittenField & field : find_unwritten(document.value().root(), source, text))
            out += concat(field.place(), " ", field.messages, ";");
        return out;
    };
    CHECK(found("", "") == "messages[1].tool_calls 2;messages[1].thinking 1;");
    CHECK(found("my_tool_calls thinking_", "") == "messages[1].tool_calls 2;messages[1].thinking 1;"); // other names
    CHECK(found("{{ m.tool_calls }}{{m['thinking']}}", "") == "");
    CHECK(found("", "'h' \"f\\\"g\" t") == "");
    CHECK(found("", "h \"f\\\"g\"") == "messages[2].tool_calls 1;messages[1].thinking 1;");
}

TEST_CASE("gnv_tokenizer_render_chat") {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = 1;
    std::string warnings;
    options.log = [](void * user, gnv_log_level level, const char * message) {
        if (level == GNV_LOG_WARNING) *static_cast<std::string *>(user) += std::string(message) + "|";
    };
    options.user = &warnings;
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(&options, &engine) == GNV_OK);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, (tiny_folder + "/tokenizer.json").c_str(), &tokenizer) == GNV_OK);
    const std::string conversation =
        R"({"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": true})";
    const auto render = [&](const std::string & json, const char * file) {
        gnv_text_t * text = nullptr;
        const gnv_status status = gnv_tokenizer_render_chat(tokenizer, json.data(), json.size(), file, 86'400, &text);
        const std::string out = status == GNV_OK ? gnv_text_data(text) : gnv_last_error(engine);
        CHECK((text != nullptr) == (status == GNV_OK));
        gnv_text_destroy(text);
        return out;
    };
    for (int i = 0; i < 2; i++)
        CHECK(render(conversation, nullptr) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    const ScratchFolder folder;
    CHECK(render(conversation, folder.save("d.jinja", "{{ strftime_now('%F') }} {{ eos_token }}").c_str()) ==
          "1970-01-02 <|im_end|>");
    CHECK(warnings.empty());
    // The small checkpoint's template writes contents alone.
    CHECK(
        render(R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls":)"
               R"( [{"function": {"name": "f", "arguments": {}}}]}, {"role": "assistant", "content": "", "tool_calls":)"
               R"( [{"name": "f"}]}], "tools": [{"name": "f"}]})",
               nullptr)
            .find("assistant\n<|im_end|>") != std::string::npos);
    CHECK(warnings ==
          "the chat template passes over tools: the text lacks them|"
          "the chat template passes over messages[1].tool_calls and those of 1 more message: the text lacks them|");
    CHECK(render("{", nullptr).find("conversation: ") == 0);
    CHECK(render(conversation, "/no/such/file").find("/no/such/file") != std::string::npos);
    CHECK(gnv_tokenizer_render_chat(nullptr, "{}", 2, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_render_chat(tokenizer, nullptr, 2, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
    gnv_tokenizer_destroy(tokenizer);
    gnv_engine_destroy(engine);
}
