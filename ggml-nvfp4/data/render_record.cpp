#include "core/utf8.h"
#include "data/calib_source.h"

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

std::string chat_turn(std::string_view role, std::string_view content) {
    return concat("<|im_start|>", role, "\n", content, "<|im_end|>\n");
}

std::string lines_text(const std::vector<std::string_view> & parts) {
    std::string text;
    for (const std::string_view part : parts)
        if (!part.empty()) text += concat(text.empty() ? "" : "\n", part);
    return text;
}

// A prompt and an answer of a data set, in the form that the user wants. `input` may be empty.
std::string exchange_text(TextForm form, std::string_view prompt, std::string_view input, std::string_view answer) {
    if (form == TextForm::alpaca) return alpaca_text(prompt, input, answer);
    if (form == TextForm::none) return lines_text({prompt, input, answer});
    const std::string question = input.empty() ? std::string(prompt) : concat(prompt, "\n\n", input);
    return chat_turn("user", question) + (answer.empty() ? "" : chat_turn("assistant", answer));
}

// --- Fields ---------------------------------------------------------------------------------------------------------------

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos; }

// The text of a field; "" when it is null or absent. Notes what holds no text and what is not blank.
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

RowFault render_messages(const RecordField & field, TextForm form, std::string & text) {
    if (form == TextForm::alpaca) return RowFault::missing_field;
    if (field.kind != Kind::messages) return field.kind == Kind::null ? RowFault::empty : RowFault::not_text;
    bool any_content = false;
    std::vector<std::string_view> contents;
    for (const ChatMessage & message : field.messages) {
        any_content = any_content || !is_blank(message.content);
        contents.push_back(message.content);
        if (form != TextForm::none) text += chat_turn(message.role, message.content);
    }
    if (form == TextForm::none) text = lines_text(contents);
    return any_content ? RowFault::none : RowFault::empty;
}

RowFault render_fields(const Record & record, const TextRule & rule, std::string & text) {
    const auto has = [&](std::string_view name) { return record.find(name) != nullptr; };
    FieldTexts field{record};
    if (!rule.text_field.empty()) {
        if (!has(rule.text_field)) return RowFault::missing_field;
        const std::string content(field(rule.text_field));
        const std::string_view role = rule.role_field.empty() ? "user" : field(rule.role_field);
        // OASST1 calls the user a prompter.
        text = rule.form == TextForm::chatml ? chat_turn(role == "prompter" ? "user" : role, content) : content;
        if (is_blank(content)) field.any_content = false; // a role alone is nothing
    } else if (const RecordField * const messages = record.find("messages")) {
        return render_messages(*messages, rule.form, text);
    } else if (has("instruction")) {
        const TextForm form = rule.form == TextForm::automatic ? TextForm::alpaca : rule.form;
        text = exchange_text(form, field("instruction"), field("input"), field("output"));
    } else if (has("question")) {
        const std::string_view question = field("question"), answer = field("answer");
        text = rule.form != TextForm::automatic ? exchange_text(rule.form, question, {}, answer)
               : has("answer")                  ? concat("Question: ", question, "\nAnswer: ", answer)
                                                : concat("Question: ", question, "\nAnswer:");
    } else if (has("text") && rule.form != TextForm::alpaca) {
        text = field("text");
        if (rule.form == TextForm::chatml) text = chat_turn("user", text);
    } else {
        return RowFault::missing_field;
    }
    if (field.not_text) return RowFault::not_text;
    return field.any_content ? RowFault::none : RowFault::empty;
}

} // namespace

RowFault render_record(const Record & record, const TextRule & rule, std::string & text) {
    text.clear();
    const RowFault fault = render_fields(record, rule, text);
    if (fault != RowFault::none) return fault;
    if (text.find('\0') != std::string::npos) return RowFault::nul_byte;
    return utf8_valid_prefix(text) == text.size() ? RowFault::none : RowFault::invalid_utf8;
}

std::vector<std::string> wanted_fields(const TextRule & rule) {
    if (rule.text_field.empty()) return {"messages", "instruction", "input", "output", "question", "answer", "text"};
    return {rule.text_field, rule.role_field};
}

std::string describe_mismatch(const Record & record, const TextRule & rule) {
    constexpr size_t most_names = 20;
    std::string found;
    for (size_t i = 0; i < std::min(record.fields.size(), most_names); i++)
        found += concat(found.empty() ? "" : ", ", printable(record.fields[i].name, 60));
    if (record.fields.size() > most_names) found += concat(" and ", record.fields.size() - most_names, " more");
    std::string expected = rule.form == TextForm::alpaca
                               ? "instruction (input, output), or question (answer)"
                               : "messages, instruction (input, output), question (answer), or text";
    if (!rule.text_field.empty()) expected = printable(rule.text_field);
    return concat("the fields are ", found.empty() ? "none" : found, "; expected ", expected,
                  ". Name the field that holds the text with PATH:FIELD");
}

} // namespace gnv
