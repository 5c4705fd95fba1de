#include "data/record_forms.h"

#include "data/records/record_names.h"
#include "formats/json_writer.h"

#include <algorithm>

namespace gnv {

namespace {

using Kind = RecordField::Kind;

constexpr const char * known_fields[] = {"messages", "instruction", "question", "text"}; // render_record() takes them
constexpr const char * chats[] = {"conversations", "conversation", "dialogue", "dialog", "texts"};

// A question and its answer under other names; the first pair that is there counts.
struct Exchange {
    const char *prompt, *answer;
};
constexpr Exchange exchanges[] = {
    {"prompt", "completion"}, {"prompt", "response"},  {"prompt", "chosen"},
    {"input", "output"},      {"problem", "solution"}, {"problem", "generated_solution"},
    {"query", "response"},    {"query", "answer"},     {"prompt", "answer"},
};

RecordField * find_field(Record & record, std::string_view name) {
    for (RecordField & field : record.fields)
        if (field.name == name) return &field;
    return nullptr;
}

// The messages that a field stands for: its own, or its text as one turn of `role`.
std::vector<ChatMessage> turns_of(RecordField & field, const char * role) {
    if (field.kind != Kind::text) return std::move(field.messages);
    return {{role, std::move(field.text)}};
}

bool is_usable(const RecordField * field) {
    return field && (field->kind == Kind::text || field->kind == Kind::messages || !field->parts.empty());
}

// The elements of a JSON list of the same messages.
std::string elements_of(const RecordField & field, const char * role) {
    const std::string & all = field.parts.empty() ? field.json : field.parts;
    if (!all.empty()) return all.substr(1, all.size() - 2);
    std::string elements;
    const auto add = [&](const std::string & author, const std::string & content) {
        elements += concat(elements.empty() ? "" : ",", "{\"role\":", json_quote(author),
                           ",\"content\":", json_quote(content), "}");
    };
    if (field.kind == Kind::text) add(role, field.text);
    for (const ChatMessage & message : field.messages) add(message.role, message.content);
    return elements;
}

// One conversation of a prompt and its answer, with the pictures of both and what messages hold beside their content.
RecordField join_turns(RecordField & prompt, RecordField & answer) {
    RecordField field;
    field.name = "messages";
    // Messages of pictures alone are no texts.
    const bool any_other = prompt.kind == Kind::other || answer.kind == Kind::other;
    field.kind = any_other ? Kind::other : Kind::messages;
    const bool any_parts = !prompt.parts.empty() || !answer.parts.empty();
    if (any_parts || !prompt.json.empty() || !answer.json.empty()) {
        const std::string first = elements_of(prompt, "user"), second = elements_of(answer, "assistant");
        (any_parts ? field.parts : field.json) =
            concat("[", first, first.empty() || second.empty() ? "" : ",", second, "]");
    }
    field.messages = turns_of(prompt, "user");
    for (ChatMessage & message : turns_of(answer, "assistant")) field.messages.push_back(std::move(message));
    return field;
}

bool unify_exchange(Record & record, TextForm form) {
    for (const Exchange & exchange : exchanges) {
        RecordField * const prompt = find_field(record, exchange.prompt);
        RecordField * const answer = find_field(record, exchange.answer);
        if (!is_usable(prompt) || !is_usable(answer)) continue;
        // A preferred conversation repeats its prompt.
        if ((answer->kind == Kind::messages || !answer->parts.empty()) && prompt->kind == Kind::text) {
            answer->name = "messages";
        } else if (form == TextForm::alpaca && answer->kind == Kind::text && prompt->kind == Kind::text) {
            prompt->name = "instruction", answer->name = "output";
        } else {
            RecordField messages = join_turns(*prompt, *answer);
            record.fields.push_back(std::move(messages));
        }
        return true;
    }
    return false;
}

} // namespace

std::vector<std::string> form_fields() {
    std::vector<std::string> names = {"input", "output", "answer", "chosen", "tools"};
    const auto add = [&](const char * name) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    };
    for (const char * const name : known_fields) add(name);
    for (const char * const name : chats) add(name);
    for (const Exchange & exchange : exchanges) add(exchange.prompt), add(exchange.answer);
    for (const PictureField & field : picture_fields) add(field.name);
    return names;
}

std::vector<std::string> field_parts(const std::string & name) {
    std::vector<std::string> parts = {name};
    if (name.find('+') == std::string::npos) return parts;
    for (size_t begin = 0; begin <= name.size();) {
        const size_t end = std::min(name.find('+', begin), name.size());
        parts.push_back(name.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

// Nothing where a part is not there: the row then lacks the field.
static void join_fields(Record & record, const std::string & name) {
    const std::vector<std::string> parts = field_parts(name);
    if (parts.size() == 1 || record.find(name)) return;
    RecordField joined;
    joined.name = name;
    joined.kind = Kind::text;
    for (size_t i = 1; i < parts.size(); i++) {
        const RecordField * const part = record.find(parts[i]);
        if (!part) return;
        if (part->kind != Kind::text && part->kind != Kind::null) joined.kind = Kind::other;
        if (!part->text.empty()) joined.text += concat(joined.text.empty() ? "" : "\n", part->text);
    }
    record.fields.push_back(std::move(joined));
}

void unify_record(Record & record, const TextRule & rule) {
    if (!rule.text_field.empty()) return join_fields(record, rule.text_field);
    for (const char * const name : known_fields)
        if (record.find(name)) return;
    for (const char * const name : chats) {
        RecordField * const field = find_field(record, name);
        if (!field) continue;
        field->name = "messages";
        return;
    }
    if (unify_exchange(record, rule.form)) return;
    RecordField * const chosen = find_field(record, "chosen");
    if (chosen) chosen->name = chosen->kind == Kind::messages ? "messages" : "text";
}

} // namespace gnv
