#include "tool_calls.h"

namespace server {

static std::string trimmed(const std::string & text) {
    const size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// Discarded where the text is no JSON. A model may write brackets without end, and to print their levels takes the stack.
static Json parse(const std::string & text) {
    constexpr int deepest = 64;
    bool is_deep = false;
    const auto check = [&](int depth, Json::parse_event_t, const Json &) { return !(is_deep |= depth > deepest); };
    Json json = Json::parse(text, check, false);
    return is_deep ? Json(Json::value_t::discarded) : json;
}

// The member `key` of an object; null without one.
static Json member(const Json & value, const char * key) {
    return value.is_object() && value.contains(key) ? value[key] : Json();
}

// Whether the tools declare the parameter as something that is no string.
static bool is_declared_as_json(const Json & tools, const std::string & function, const std::string & parameter) {
    for (const Json & tool : tools) {
        const Json declared = member(tool, "function");
        if (member(declared, "name") != function) continue;
        const Json properties = member(member(declared, "parameters"), "properties");
        const Json type = member(member(properties, parameter.c_str()), "type");
        if (type.is_string()) return type != "string";
        if (type.is_array()) return std::find(type.begin(), type.end(), "string") == type.end();
    }
    return false;
}

static std::optional<ToolCall> parse_json_form(const std::string & body) {
    const Json call = parse(body);
    const Json name = member(call, "name"), arguments = member(call, "arguments");
    if (!name.is_string()) return {};
    if (arguments.is_string()) return ToolCall{name, arguments};
    if (!arguments.is_object() && !arguments.is_null()) return {};
    return ToolCall{name, arguments.is_null() ? "{}" : arguments.dump()};
}

// A reader of the form with tags.
class TagReader {
  public:
    explicit TagReader(const std::string & text) : text_(text) {}

    // "<kind=NAME>": the name. False where there is none.
    bool open(const std::string & kind, std::string & name) {
        skip_blanks();
        const std::string begin = "<" + kind + "=";
        const size_t end = text_.find('>', at_);
        if (text_.compare(at_, begin.size(), begin) != 0 || end == std::string::npos) return false;
        name = text_.substr(at_ + begin.size(), end - at_ - begin.size());
        at_ = end + 1;
        return !name.empty() && name.find_first_of("<\n") == std::string::npos;
    }
    // The text up to "</kind>", without the line ends that the template puts around it.
    bool take_until(const std::string & kind, std::string & value) {
        const std::string end = "</" + kind + ">";
        const size_t place = text_.find(end, at_);
        if (place == std::string::npos) return false;
        value = text_.substr(at_, place - at_);
        at_ = place + end.size();
        if (!value.empty() && value.front() == '\n') value.erase(0, 1);
        if (!value.empty() && value.back() == '\n') value.pop_back();
        return true;
    }
    bool take(const std::string & tag) {
        skip_blanks();
        if (text_.compare(at_, tag.size(), tag) != 0) return false;
        at_ += tag.size();
        return true;
    }
    bool is_at_end() {
        skip_blanks();
        return at_ == text_.size();
    }

  private:
    void skip_blanks() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
    const std::string & text_;
    size_t at_ = 0;
};

static std::optional<ToolCall> parse_tag_form(const std::string & body, const Json & tools) {
    TagReader reader(body);
    std::string name, key, value;
    if (!reader.open("function", name)) return {};
    Json arguments = Json::object();
    while (!reader.take("</function>")) {
        if (!reader.open("parameter", key) || !reader.take_until("parameter", value)) return {};
        const Json parsed = is_declared_as_json(tools, name, key) ? parse(value) : Json(Json::value_t::discarded);
        arguments[key] = parsed.is_discarded() ? Json(value) : parsed;
    }
    if (!reader.is_at_end()) return {};
    return ToolCall{name, arguments.dump()};
}

std::optional<ToolCall> parse_tool_call(const std::string & body, const Json & tools) {
    const std::string text = trimmed(body);
    return !text.empty() && text.front() == '{' ? parse_json_form(text) : parse_tag_form(text, tools);
}

} // namespace server
