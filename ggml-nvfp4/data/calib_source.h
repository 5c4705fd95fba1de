// A source of calibration text, and the conversion of its rows to text: the meaning of
//
//   --calib [ALIAS@]PATH[:FIELD][=WEIGHT]        --template model|alpaca|chatml|none
//
// PATH is a file or a folder. A weight is a positive number, 1 when absent. ":FIELD" takes one field as it is, ":A+B" joins
// two or more with a line end between (where no field is called "A+B"). An alias
// says which fields and which form a well-known data set has; PATH is the local copy of it. Where the whole text names an
// existing path, it is that path, so that names with ":", "=" or "@" work too.
#pragma once

#include "chat/chat_template.h"
#include "data/records/record_reader.h"

#include <optional>

namespace gnv {

enum class TextForm : uint8_t {
    automatic, // chosen by the fields: see render_record()
    alpaca,    // the prompt of the Stanford Alpaca data, then the answer, as llm-compressor does for Open-Platypus
    chatml,    // <|im_start|>role\ncontent<|im_end|>\n for every message
    none,      // the fields' content, one after another on lines of their own
    model      // the checkpoint's own chat template
};
Result<TextForm> parse_text_form(const std::string & name); // "" is automatic
const char * text_form_name(TextForm form);

// The chat template that a checkpoint has, if any.
struct ChatRule {
    std::optional<ChatTemplate> chat;
    std::string
        problem; // why there is none although there should be one: "chat_template.jinja:7: ..."; empty: it has none
};

// Which fields of a record make its text.
struct TextRule {
    TextForm form = TextForm::automatic;
    std::string text_field; // empty: by the names below
    std::string role_field; // with text_field: the author of the text, for ChatML
    ChatRule chat = {};
    bool is_tree = false; // rows may be messages of a tree: see tree_records.h
};

struct CalibSource {
    std::string path;
    double weight = 1;
    TextRule rule;
};

// `form`: of --template; it wins over that of an alias.
Result<CalibSource> parse_calib_source(const std::string & spec, TextForm form);

// The names of all fields that a rule uses, for open_records().
std::vector<std::string> wanted_fields(const TextRule & rule);

// The text of a record. The first row of this table whose required fields exist decides (? marks optional ones):
//
//   fields                           automatic / alpaca / chatml                        none
//   messages                         chatml    / -      / one turn a message            contents on lines
//   instruction, input?, output?     alpaca    / alpaca / user + assistant              values on lines
//   question, answer?                "Question: Q\nAnswer: A" / alpaca / user + assistant   values on lines
//   text                             as it is  / -      / one user turn                 as it is
//
// Turns hold calls of tools and reasoning, too, and the record's `tools` come first (chatml.h). `model` is like chatml, with the
// turns as the template writes them; it is what automatic messages are where the checkpoint has a template.
//
// With rule.text_field only that field counts. RowFault::missing_field where nothing fits, RowFault::empty when every
// field used is blank, RowFault::refused with the template's message in `text`; also checks that the text is UTF-8 without NUL.
// Fails where the template does, or where there is none to use. `unwritten`, if not null: what the messages hold and the text
// does not, as the template passes over it or as "none" takes contents alone.
Result<RowFault> render_record(const Record & record, const TextRule & rule, std::string & text,
                               std::vector<UnwrittenField> * unwritten = nullptr);

// For the message if no row fits: the expected fields and the existing ones.
std::string describe_mismatch(const Record & record, const TextRule & rule);

} // namespace gnv
