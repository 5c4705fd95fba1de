#include "core/utf8.h"
#include "data/calib_source.h"
#include "data/chatml.h"
#include "data/record_forms.h"

namespace gnv {

namespace {

using Kind = RecordField::Kind;

// --- Forms ----------------------------------------------------------------------------------------------------------------

// The prompt of the Stanford Alpaca project, byte for byte as llm-compressor's open_platypus data set has it.
std::string alpaca_text(std::string_view instruction, std::string_view input, std::string_view output) {
    if (input.empty())
        return concat(
            "Below is an instruction that describes a task. Write a response that appropriately completes the "
            "request.\n\n### Instruction:\n",
            instruction, "\n\n### Response:\n", output);
    return concat(
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\n",
        instruction, "\n\n### Input:\n", input, "\n\n### Response:\n", output);
}

std::string conversation_json(std::string_view messages, std::string_view tools) {
    return concat("{\"messages\":", messages, tools.empty() ? "" : ",\"tools\":", tools, "}");
}

// What the template makes of it. RowFault::refused, with the message as the text, where it raises an exception.
Result<RowFault> conversation_text(const ChatRule & rule, std::string_view messages, std::string_view tools,
                                   std::string & text, std::vector<UnwrittenField> & unwritten) {
    if (!rule.chat)
        return fail(Code::invalid_argument, "the chat template is needed, and the checkpoint has ",
                    rule.problem.empty() ? "none" : "one that cannot be used: ", rule.problem,
                    "; choose another form with --template");
    GNV_ASSIGN(const JsonDocument document,
               JsonDocument::parse(conversation_json(messages, tools), "the record's messages"));
    Result<std::string> rendered = rule.chat->render(document.root());
    if (rendered.status().code() == Code::invalid_argument) {
        text = rendered.status().message();
        return RowFault::refused;
    }
    if (!rendered.ok()) return rendered.take_status();
    text = rendered.take();
    unwritten = rule.chat->unwritten(document.root(), text);
    return RowFault::none;
}

std::string lines_text(const std::vector<std::string_view> & parts) {
    std::string text;
    for (const std::string_view part : parts)
        if (!part.empty()) text += concat(text.empty() ? "" : "\n", part);
    return text;
}

// A prompt and an answer of a data set, in the form that the user wants. `input` may be empty.
Result<RowFault> exchange_text(const TextRule & rule, TextForm form, std::string_view prompt, std::string_view input,
                               std::string_view answer, std::string & text) {
    std::vector<UnwrittenField> none;
    const std::string question = input.empty() ? std::string(prompt) : concat(prompt, "\n\n", input);
    if (form == TextForm::model) {
        std::vector<ChatMessage> messages = {{"user", question}};
        if (!answer.empty()) messages.push_back({"assistant", std::string(answer)});
        return conversation_text(rule.chat, messages_json(messages), {}, text, none);
    }
    text = form == TextForm::alpaca ? alpaca_text(prompt, input, answer)
           : form == TextForm::none
               ? lines_text({prompt, input, answer})
               : chat_turn("user", question) + (answer.empty() ? "" : chat_turn("assistant", answer));
    return RowFault::none;
}

// --- Fields ---------------------------------------------------------------------------------------------------------------

// The text of a field; "" if it is null or absent. Records whether a field has no text, and whether one is not blank.
struct FieldTexts {
    const Record & record;
    bool not_text = false, any_content = false;

    std::string_view operator()(std::string_view name) {
        const RecordField * const field = record.find(name);
        if (!field || field->kind == Kind::null) return {};
        not_text = not_text || field->kind != Kind::text;
        any_content = any_content || !is_blank(field->text);
        return field->text;
    }
};

// A content of null, which some templates loop over, becomes an empty text. Quotes inside texts are escaped, so that only keys
// match.
bool fill_null_contents(std::string & messages) {
    constexpr std::string_view null_content = "\"content\":null", no_content = "\"content\":\"\"";
    bool any = false;
    for (size_t at = 0; (at = messages.find(null_content, at)) != messages.npos; any = true)
        messages.replace(at, null_content.size(), no_content);
    return any;
}

// A list of tools, which columns of strings hold as JSON; "" for anything else.
std::string tools_json(const RecordField & tools) {
    if (!tools.json.empty() || tools.kind != Kind::text) return tools.json;
    const Result<JsonDocument> document = JsonDocument::parse(tools.text, "tools", JsonKeys::last_wins);
    return document.ok() && document.value().root().is_array() ? tools.text : std::string();
}

// By the checkpoint's template. What it refuses is tried again with contents and arguments of calls as most templates want them.
Result<RowFault> templated_text(const ChatRule & rule, const RecordField & field, const std::string & tools,
                                std::string & text, std::vector<UnwrittenField> & unwritten) {
    if (field.messages.empty()) return RowFault::empty;
    std::string messages = messages_json(field);
    GNV_ASSIGN(RowFault fault, conversation_text(rule, messages, tools, text, unwritten));
    if (fault == RowFault::refused) {
        GNV_ASSIGN(std::string parsed, with_parsed_arguments(messages));
        const bool changed = !parsed.empty();
        if (changed) messages = std::move(parsed);
        if (fill_null_contents(messages) || changed) {
            GNV_ASSIGN(fault, conversation_text(rule, messages, tools, text, unwritten));
        }
    }
    return fault == RowFault::none && is_blank(text) ? RowFault::empty : fault;
}

// Messages without content may hold calls of tools.
Result<RowFault> render_messages(const Record & record, const RecordField & field, const TextRule & rule,
                                 std::string & text, std::vector<UnwrittenField> & unwritten) {
    const TextForm form = rule.form;
    if (form == TextForm::alpaca) return RowFault::missing_field;
    if (field.kind != Kind::messages) return field.kind == Kind::null ? RowFault::empty : RowFault::not_text;
    const RecordField * const tool_field = record.find("tools");
    const std::string tools = tool_field ? tools_json(*tool_field) : std::string();
    const bool has_template = rule.chat.chat || !rule.chat.problem.empty();
    if (form == TextForm::model || (form == TextForm::automatic && has_template))
        return templated_text(rule.chat, field, tools, text, unwritten);
    bool any_content = false;
    if (form != TextForm::none) {
        GNV_ASSIGN(text, chatml_text(field, tools, any_content));
        return any_content ? RowFault::none : RowFault::empty;
    }
    std::vector<std::string_view> contents;
    for (const ChatMessage & message : field.messages) {
        any_content = any_content || !is_blank(message.content);
        contents.push_back(message.content);
    }
    text = lines_text(contents);
    GNV_ASSIGN(const JsonDocument document,
               JsonDocument::parse(conversation_json(messages_json(field), tools), "messages", JsonKeys::last_wins));
    unwritten = find_unwritten(document.root(), {}, text);
    return any_content ? RowFault::none : RowFault::empty;
}

Result<RowFault> render_fields(const Record & record, const TextRule & rule, std::string & text,
                               std::vector<UnwrittenField> & unwritten) {
    const auto has = [&](std::string_view name) { return record.find(name) != nullptr; };
    FieldTexts field{record};
    RowFault fault = RowFault::none;
    if (!rule.text_field.empty()) {
        if (!has(rule.text_field)) return RowFault::missing_field;
        const std::string content(field(rule.text_field));
        const std::string_view role = rule.role_field.empty() ? "user" : field(rule.role_field);
        // OASST1 calls the user a prompter.
        const std::string_view author = role == "prompter" ? "user" : role;
        text = rule.form == TextForm::chatml ? chat_turn(author, content) : content;
        if (rule.form == TextForm::model) {
            GNV_ASSIGN(fault, conversation_text(rule.chat, messages_json({{std::string(author), content}}), {}, text,
                                                unwritten));
        }
        if (is_blank(content)) field.any_content = false; // a role alone is nothing
    } else if (const RecordField * const messages = record.find("messages")) {
        return render_messages(record, *messages, rule, text, unwritten);
    } else if (has("instruction")) {
        const TextForm form = rule.form == TextForm::automatic ? TextForm::alpaca : rule.form;
        GNV_ASSIGN(fault, exchange_text(rule, form, field("instruction"), field("input"), field("output"), text));
    } else if (has("question")) {
        const std::string_view question = field("question"), answer = field("answer");
        text = concat("Question: ", question, has("answer") ? "\nAnswer: " : "\nAnswer:", answer);
        if (rule.form != TextForm::automatic) {
            GNV_ASSIGN(fault, exchange_text(rule, rule.form, question, {}, answer, text));
        }
    } else if (has("text") && rule.form != TextForm::alpaca) {
        text = field("text");
        if (rule.form == TextForm::chatml) text = chat_turn("user", text);
        if (rule.form == TextForm::model) {
            GNV_ASSIGN(fault, conversation_text(rule.chat, messages_json({{"user", text}}), {}, text, unwritten));
        }
    } else {
        return RowFault::missing_field;
    }
    if (field.not_text) return RowFault::not_text;
    return field.any_content ? fault : RowFault::empty;
}

} // namespace

Result<RowFault> render_record(const Record & record, const TextRule & rule, std::string & text,
                               std::vector<UnwrittenField> * unwritten) {
    text.clear();
    std::vector<UnwrittenField> fields;
    GNV_ASSIGN(const RowFault fault, render_fields(record, rule, text, fields));
    if (unwritten) *unwritten = std::move(fields);
    if (fault != RowFault::none) return fault;
    if (text.find('\0') != std::string::npos) return RowFault::nul_byte;
    return utf8_valid_prefix(text) == text.size() ? RowFault::none : RowFault::invalid_utf8;
}

std::vector<std::string> wanted_fields(const TextRule & rule) {
    if (rule.text_field.empty()) return form_fields();
    std::vector<std::string> fields = field_parts(rule.text_field);
    fields.push_back(rule.role_field);
    return fields;
}

std::string describe_mismatch(const Record & record, const TextRule & rule) {
    constexpr size_t most_names = 20;
    std::string found;
    for (size_t i = 0; i < std::min(record.fields.size(), most_names); i++)
        found += concat(found.empty() ? "" : ", ", printable(record.fields[i].name, 60));
    if (record.fields.size() > most_names) found += concat(" and ", record.fields.size() - most_names, " more");
    std::string expected = rule.form == TextForm::alpaca
                               ? "instruction (input, output), or question (answer)"
                               : "messages, conversations, instruction (input, output), question (answer), prompt "
                                 "(completion), chosen, or text";
    const auto is_id = [](const RecordField & field) { return field.name == "blob_id"; };
    if (std::any_of(record.fields.begin(), record.fields.end(), is_id))
        return concat("the fields are ", found,
                      "; the rows hold ids of files (blob_id), as the-stack-v2 does, and not their text: download the "
                      "contents first, or take bigcode/the-stack-smol, which holds them");
    if (!rule.text_field.empty())
        return concat("there is no field ", printable(rule.text_field), "; the fields are ",
                      found.empty() ? "none" : found);
    return concat("the fields are ", found.empty() ? "none" : found, "; expected ", expected,
                  ". Name the field that holds the text with PATH:FIELD");
}

} // namespace gnv
