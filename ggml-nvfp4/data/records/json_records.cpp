#include "core/utf8.h"
#include "data/files/json_stream.h"
#include "data/files/line_reader.h"
#include "data/records/picture_records.h"
#include "data/records/readers.h"
#include "data/records/record_names.h"

#include <algorithm>
#include <type_traits>

namespace gnv {

namespace {

// The four digits of a \u escape at text[at], or -1.
int escape_value(std::string_view text, size_t at) {
    if (at + 4 > text.size()) return -1;
    int value = 0;
    for (const char c : text.substr(at, 4)) {
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

// Whether the escapes of a JSON text hold half of a surrogate pair, which parsers treat differently.
bool has_lone_surrogate(std::string_view json) {
    for (size_t at = json.find('\\'); at != std::string_view::npos; at = json.find('\\', at)) {
        at += 2; // a backslash and its character, which may be a second backslash
        if (at > json.size() || json[at - 1] != 'u') continue;
        const int value = escape_value(json, at);
        if (value >= 0xdc00 && value <= 0xdfff) return true;
        if (value < 0xd800 || value > 0xdbff) continue;
        const int low = json.substr(at + 4, 2) == "\\u" ? escape_value(json, at + 6) : -1;
        if (low < 0xdc00 || low > 0xdfff) return true;
        at += 10;
    }
    return false;
}

// Values take memory of their own, however short they are: on the parser's tape, and as fields or messages. What
// encoding takes later has room for some.
constexpr uint64_t memory_of_value = 200, memory_of_values_anyway = 4 << 20;

// Not less than the number of values in a JSON text.
uint64_t count_values(std::string_view json) {
    uint64_t count = 1;
    bool in_string = false;
    for (size_t at = 0; at < json.size(); at++) {
        const char c = json[at];
        if (in_string) {
            at = json.find_first_of("\"\\", at);
            if (at == json.npos) break;
            in_string = json[at] != '"';
            at += in_string; // and the escaped character
        } else if (c == '"') {
            in_string = true;
        } else {
            count += c == ',' || c == ':' || c == '[' || c == '{';
        }
    }
    return count;
}

// Before a text is parsed.
Status check_values(std::string_view text, const std::string & where, const ReadControl & control) {
    if (text.size() * memory_of_value <= memory_of_values_anyway) return {};
    const uint64_t memory = memory_of_value * count_values(text);
    return control.check_record(where, text.size(), memory - std::min(memory, memory_of_values_anyway));
}

// A message's content: a string, null, or a list of strings and {"type": "text", "text": ...}; images and the like beside
// texts are passed over. False for anything else.
Result<bool> append_content(const JsonValue & content, std::string & out) {
    if (content.is_null()) return true;
    if (content.is_string()) {
        GNV_ASSIGN(const std::string_view text, content.as_string());
        out += text;
        return true;
    }
    if (!content.is_array()) return false;
    bool any_text = false, any_other = false;
    GNV_TRY(content.for_each_element([&](size_t, const JsonValue & item) -> Status {
        JsonValue text = item, type;
        const bool is_text = item.is_string() || (item.is_object() && item.find("text", text) && text.is_string() &&
                                                  (!item.find("type", type) || type.text() == "\"text\""));
        (is_text ? any_text : any_other) = true;
        if (!is_text) return {};
        GNV_ASSIGN(const std::string_view piece, text.as_string());
        out += piece;
        return {};
    }));
    return any_text || !any_other;
}

bool has_members_beside_content(const JsonValue & message) {
    JsonValue value;
    const auto has = [&](const char * name) { return message.find(name, value); };
    return has("tool_calls") || has("function_call") || has("reasoning_content") || has("reasoning") || has("thinking");
}

// A list of {role, content}, of {role, tool_calls}, or of {user, assistant}; anything else leaves the kind "other".
Status read_messages(const JsonValue & list, RecordField & field) {
    bool all_good = true, has_pictures = false, has_more = false, has_roles = true;
    GNV_TRY(list.for_each_element([&](size_t, const JsonValue & item) -> Status {
        JsonValue role, content;
        if (item.is_object() && !item.find("role", role) && item.find("user", role) && role.is_string()) {
            GNV_ASSIGN(const std::string_view question, role.as_string());
            field.messages.push_back({"user", std::string(question)});
            has_roles = false;
            if (!item.find("assistant", content) || !content.is_string()) return {};
            GNV_ASSIGN(const std::string_view answer, content.as_string());
            field.messages.push_back({"assistant", std::string(answer)});
            return {};
        }
        const bool is_message =
            item.is_object() && (item.find("role", role) || item.find("from", role)) && role.is_string();
        all_good = all_good && is_message;
        if (!is_message) return {};
        has_roles = has_roles && item.find("role", content) && !item.find("value", content);
        has_more = has_more || has_members_beside_content(item);
        const bool has_content = item.find("content", content) || item.find("value", content);
        has_pictures = has_pictures || (has_content && has_picture_parts(content));
        if (!all_good) return {};
        ChatMessage message;
        GNV_ASSIGN(const std::string_view author, role.as_string());
        message.role = chat_role(author);
        // A message without content calls tools: the same as null.
        if (has_content) {
            GNV_ASSIGN(all_good, append_content(content, message.content));
        }
        field.messages.push_back(std::move(message));
        return {};
    }));
    if (all_good) field.kind = RecordField::Kind::messages;
    if (has_pictures) field.parts = list.text();
    if (has_roles && (has_more || field.name == "messages")) field.json = list.text();
    return {};
}

Status read_field(const JsonValue & value, RecordField & field) {
    if (value.is_null()) field.kind = RecordField::Kind::null;
    if (value.is_array()) return read_messages(value, field);
    if (!value.is_string()) return {};
    field.kind = RecordField::Kind::text;
    GNV_ASSIGN(field.text, value.as_string());
    return {};
}

// A damaged line says nothing of the next one; behind a damaged element of an array nothing is certain.
template <class Splitter>
constexpr bool damage_is_local = std::is_same_v<Splitter, LineReader>;

// Lines and array elements differ only in who cuts them out of the file.
template <class Splitter>
class JsonRecords final : public RecordReader {
  public:
    explicit JsonRecords(Splitter splitter) : splitter_(std::move(splitter)) {}

    Result<bool> next() override {
        for (;;) {
            GNV_ASSIGN(const bool found, next_piece());
            if (!found || text_.find_first_not_of(" \t\r") != std::string_view::npos) {
                blank_bytes_ = 0;
                return found;
            }
            blank_bytes_ += text_.size() + 1;
            if (blank_bytes_ > most_blank_bytes) return too_many_blanks(where());
        }
    }
    Result<RowFault> read(Record & out) override {
        GNV_TRY(splitter_.control().check_record(where(), splitter_.bytes()));
        Result<RowFault> fault = parse_json_record(text_, where(), splitter_.control(), out);
        if (damage_is_local<Splitter> && fault.status().code() == Code::format) return RowFault::no_object;
        return fault;
    }
    std::string where() const override { return concat(splitter_.path(), ":", line()); }

  private:
    Result<bool> next_piece() { return splitter_.next(text_); }
    uint64_t line() const {
        if constexpr (requires { splitter_.number(); }) {
            return splitter_.number();
        } else {
            return splitter_.line();
        }
    }
    Splitter splitter_;
    std::string_view text_;
    uint64_t blank_bytes_ = 0; // before it
};

template <class Splitter>
OpenedRecords open_json(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(Splitter splitter, Splitter::open(path, max_record_bytes, control));
    return std::unique_ptr<RecordReader>(std::make_unique<JsonRecords<Splitter>>(std::move(splitter)));
}

} // namespace

Status parse_json_messages(const std::string & json, const std::string & where, const ReadControl & control,
                           RecordField & field) {
    GNV_TRY(check_values(json, where, control));
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(json, where, JsonKeys::last_wins));
    return read_messages(document.root(), field);
}

Result<RowFault> parse_json_record(std::string_view text, const std::string & where, const ReadControl & control,
                                   Record & out) {
    out = Record();
    GNV_TRY(check_values(text, where, control));
    if (utf8_valid_prefix(text) != text.size()) return RowFault::invalid_utf8;
    if (has_lone_surrogate(text)) return RowFault::lone_surrogate;
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::string(text), where, JsonKeys::last_wins));
    if (document.has_duplicates()) return RowFault::twice;
    const JsonValue root = document.root();
    if (root.is_string()) { // a list of texts
        RecordField & field = out.fields.emplace_back();
        field.name = "text";
        GNV_TRY(read_field(root, field));
        return RowFault::none;
    }
    if (!root.is_object()) return RowFault::no_object;
    GNV_TRY(root.for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
        if (const PictureField * const pictures = find_picture_field(name)) {
            Status read = read_pictures(value, pictures->is_video, out.pictures);
            if (!read.ok()) return read;
        }
        RecordField & field = out.fields.emplace_back();
        field.name = name;
        if (value.is_array() && name == "tools") field.json = value.text();
        return read_field(value, field);
    }));
    return RowFault::none;
}

OpenedRecords open_json_lines(const std::string & path, const std::vector<std::string> &, const ReadControl & control) {
    return open_json<LineReader>(path, control);
}

OpenedRecords open_json_array(const std::string & path, const std::vector<std::string> &, const ReadControl & control) {
    GNV_ASSIGN(const bool is_lines, holds_json_lines(path, control));
    if (is_lines) return open_json<LineReader>(path, control);
    return open_json<JsonArrayReader>(path, control);
}

} // namespace gnv
