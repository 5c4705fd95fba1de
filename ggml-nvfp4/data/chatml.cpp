#include "data/chatml.h"

#include "chat/chat_template.h"
#include "chat/unwritten.h"
#include "core/strings.h"
#include "formats/json_writer.h"

#include <algorithm>

namespace gnv {

namespace {

// `reasoning` and `calls` are what read_more() makes of a message.
constexpr const char * chatml_source = R"({%- if tools %}
    {{- '<|im_start|>system\n# Tools\n\nYou have access to the following functions:\n\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + tool|tojson }}
    {%- endfor %}
    {{- '\n</tools>' }}
    {%- if messages[0].role == 'system' and messages[0].content %}
        {{- '\n\n' + messages[0].content }}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '' if loop.previtem and loop.previtem.role == 'tool' else '<|im_start|>user' }}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {{- '' if loop.nextitem and loop.nextitem.role == 'tool' else '<|im_end|>\n' }}
    {%- elif not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- if message.reasoning %}
            {{- '<think>\n' + message.reasoning + '\n</think>\n\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for call in message.calls %}
            {{- '\n' if not loop.first else '\n\n' if message.content else '' }}
            {{- '<tool_call>\n' }}
            {%- if call.name %}
                {{- '<function=' + call.name + '>\n' }}
                {%- if call.arguments is mapping %}
                    {%- for name, value in call.arguments|items %}
                        {{- '<parameter=' + name + '>\n' }}
                        {{- value if value is string else value|tojson }}
                        {{- '\n</parameter>\n' }}
                    {%- endfor %}
                {%- elif call.arguments %}
                    {{- (call.arguments if call.arguments is string else call.arguments|tojson) + '\n' }}
                {%- endif %}
                {{- '</function>' }}
            {%- else %}
                {{- call|tojson }}
            {%- endif %}
            {{- '\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %})";

constexpr const char * reasoning_names[] = {"reasoning_content", "reasoning", "thinking"};

// A text that holds an object becomes that object.
Status write_arguments(JsonWriter & json, const JsonValue & arguments, bool & changed) {
    if (arguments.is_string()) {
        GNV_ASSIGN(const std::string_view text, arguments.as_string());
        const Result<JsonDocument> parsed = JsonDocument::parse(std::string(text), "arguments", JsonKeys::last_wins);
        if (parsed.ok() && parsed.value().root().is_object()) {
            changed = true;
            json.value(parsed.value().root());
            return {};
        }
    }
    json.value(arguments);
    return {};
}

// Writes the members of an object, those called `name` by `write`.
template <class Write>
Status write_members(JsonWriter & json, const JsonValue & object, std::string_view name, const Write & write) {
    json.begin_object();
    GNV_TRY(object.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        json.key(key);
        if (key == name) return write(value);
        json.value(value);
        return {};
    }));
    json.end_object();
    return {};
}

Status write_call(JsonWriter & json, const JsonValue & call, bool & changed) {
    const auto arguments = [&](const JsonValue & value) { return write_arguments(json, value, changed); };
    JsonValue function;
    if (!call.is_object()) {
        json.value(call);
        return {};
    }
    if (!call.find("function", function) || !function.is_object())
        return write_members(json, call, "arguments", arguments);
    return write_members(json, call, "function",
                         [&](const JsonValue & value) { return write_members(json, value, "arguments", arguments); });
}

// "reasoning" and "calls" of a message for the template above.
Status write_more(JsonWriter & json, const JsonValue & message, bool & any) {
    if (!message.is_object()) return {};
    JsonValue value;
    for (const char * const name : reasoning_names) {
        if (!message.find(name, value) || !value.is_string()) continue;
        GNV_ASSIGN(const std::string_view text, value.as_string());
        if (is_blank(text)) continue;
        json.member("reasoning", text);
        any = true;
        break;
    }
    json.key("calls").begin_array();
    bool changed = false;
    const auto add = [&](const JsonValue & call) -> Status {
        any = true;
        return write_call(json, function_of(call), changed);
    };
    if (message.find("tool_calls", value) && value.is_array())
        GNV_TRY(value.for_each_element([&](size_t, const JsonValue & call) { return add(call); }));
    if (message.find("function_call", value) && value.is_object()) GNV_TRY(add(value));
    json.end_array();
    return {};
}

// Whether anything but contents may be there; the texts of messages may hold these words, too.
bool may_have_more(const RecordField & messages, const std::string & tools) {
    if (!tools.empty()) return true;
    for (const ChatMessage & message : messages.messages)
        if (message.role == "tool") return true;
    for (const char * const name : {"\"tool_calls\"", "\"function_call\"", "\"reasoning", "\"thinking\""})
        if (messages.json.find(name) != std::string::npos) return true;
    return false;
}

} // namespace

std::string chat_turn(std::string_view role, std::string_view content) {
    return concat("<|im_start|>", role, "\n", content, "<|im_end|>\n");
}

std::string messages_json(const std::vector<ChatMessage> & messages) {
    JsonWriter json;
    json.begin_array();
    for (const ChatMessage & message : messages)
        json.begin_object().member("role", message.role).member("content", message.content).end_object();
    return json.end_array().take();
}

std::string messages_json(const RecordField & field) {
    return field.json.empty() ? messages_json(field.messages) : field.json;
}

Result<std::string> chatml_text(const RecordField & messages, const std::string & tools, bool & any_content) {
    std::string text;
    any_content = std::any_of(messages.messages.begin(), messages.messages.end(),
                              [](const ChatMessage & message) { return !is_blank(message.content); });
    if (!may_have_more(messages, tools)) {
        for (const ChatMessage & message : messages.messages) text += chat_turn(message.role, message.content);
        return text;
    }
    static const ChatTemplate chatml = ChatTemplate::parse(chatml_source, "chatml").take();
    GNV_ASSIGN(const JsonDocument document,
               JsonDocument::parse(messages_json(messages), "messages", JsonKeys::last_wins));
    JsonWriter json;
    const auto write = [&](size_t i, const JsonValue & message) -> Status {
        if (i >= messages.messages.size()) return {};
        json.begin_object().member("role", messages.messages[i].role).member("content", messages.messages[i].content);
        GNV_TRY(write_more(json, message, any_content));
        json.end_object();
        return {};
    };
    json.begin_object().key("messages").begin_array();
    GNV_TRY(document.root().for_each_element(write));
    json.end_array();
    if (!tools.empty()) {
        GNV_ASSIGN(const JsonDocument list, JsonDocument::parse(tools, "tools", JsonKeys::last_wins));
        json.member("tools", list.root());
    }
    GNV_ASSIGN(const JsonDocument conversation,
               JsonDocument::parse(json.end_object().take(), "messages", JsonKeys::last_wins));
    return chatml.render(conversation.root());
}

Result<std::string> with_parsed_arguments(const std::string & messages) {
    if (messages.find("\"arguments\":\"") == std::string::npos) return std::string();
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(messages, "messages", JsonKeys::last_wins));
    JsonWriter json;
    bool changed = false;
    json.begin_array();
    const auto write_calls = [&](const JsonValue & calls) -> Status {
        if (!calls.is_array()) {
            json.value(calls);
            return {};
        }
        json.begin_array();
        GNV_TRY(
            calls.for_each_element([&](size_t, const JsonValue & call) { return write_call(json, call, changed); }));
        json.end_array();
        return {};
    };
    const auto write = [&](size_t, const JsonValue & message) -> Status {
        if (message.is_object()) return write_members(json, message, "tool_calls", write_calls);
        json.value(message);
        return {};
    };
    GNV_TRY(document.root().for_each_element(write));
    json.end_array();
    return changed ? json.take() : std::string();
}

} // namespace gnv
