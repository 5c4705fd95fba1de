#include "chat/unwritten.h"

#include "chat/values/unicode_text.h"
#include "core/strings.h"

#include <algorithm>
#include <iterator>

namespace gnv {

namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

// As a whole word.
bool names(std::string_view source, std::string_view word) {
    for (size_t at = 0; (at = source.find(word, at)) != source.npos; at++) {
        const size_t end = at + word.size();
        if ((at == 0 || !is_word(source[at - 1])) && (end == source.size() || !is_word(source[end]))) return true;
    }
    return false;
}

// The name of a call or of a tool, {"function": {"name": ..}} or {"name": ..}, in quotes of JSON or Python.
bool holds_function(const JsonValue & call, std::string_view text) {
    const JsonValue function = function_of(call);
    JsonValue name;
    if (!function.is_object() || !function.find("name", name) || !name.is_string()) return false;
    const std::string quoted = name.text(), inside = quoted.substr(1, quoted.size() - 2);
    return text.find(quoted) != text.npos || text.find(concat("'", inside, "'")) != text.npos;
}

// Whether there is something, and whether it stands in the text. Numbers, true and the like are nothing.
bool is_missing(const JsonValue & value, std::string_view text) {
    if (value.is_string()) {
        const Result<std::string_view> content = value.as_string();
        const std::string_view words = content.ok() ? chat::strip(content.value(), true, true) : std::string_view();
        return !words.empty() && text.find(words) == text.npos;
    }
    if (value.is_object()) return !holds_function(value, text);
    if (!value.is_array()) return false;
    bool any = false;
    (void)value.for_each_element([&](size_t, const JsonValue & call) -> Status {
        any = any || !holds_function(call, text);
        return {};
    });
    return any;
}

constexpr const char * message_fields[] = {"tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"};

} // namespace

JsonValue function_of(const JsonValue & call) {
    JsonValue function;
    return call.is_object() && call.find("function", function) && function.is_object() ? function : call;
}

std::string UnwrittenField::place() const {
    return first_message < 0 ? std::string(name) : concat("messages[", first_message, "].", name);
}

std::vector<UnwrittenField> find_unwritten(const JsonValue & conversation, std::string_view source,
                                           std::string_view text) {
    std::vector<UnwrittenField> found;
    JsonValue tools, messages;
    if (!conversation.is_object()) return found;
    if (conversation.find("tools", tools) && tools.is_array() && !names(source, "tools") && is_missing(tools, text))
        found.push_back({"tools", -1, 0});
    if (!conversation.find("messages", messages) || !messages.is_array()) return found;
    for (const char * const name : message_fields) {
        if (names(source, name)) continue;
        UnwrittenField field{name};
        (void)messages.for_each_element([&](size_t i, const JsonValue & message) -> Status {
            JsonValue value;
            if (!message.is_object() || !message.find(name, value) || !is_missing(value, text)) return {};
            if (field.messages++ == 0) field.first_message = int64_t(i);
            return {};
        });
        if (field.messages > 0) found.push_back(field);
    }
    return found;
}

} // namespace gnv
