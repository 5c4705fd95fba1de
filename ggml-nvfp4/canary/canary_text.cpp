// A canary as text: for people, for programs (schema ggml-nvfp4.canary.1, see docs/json.md), for a model card.
#include "canary/canary.h"
#include "core/table.h"
#include "formats/json_writer.h"

#include <cmath>

namespace gnv::canary {

static std::string share_text(uint64_t part, size_t all) {
    return concat(count_text(part), " (", fixed_text(100 * double(part) / double(all), 1), " %)");
}

static std::string describe(const Canary & canary) {
    const QuestionSet & questions = canary.questions;
    return concat("Greedy answers of at most ", count_text(uint64_t(canary.max_tokens)), " tokens to ",
                  count_text(questions.prompts.size()), questions.prompts.size() == 1 ? " prompt" : " prompts",
                  questions.has_template
                      ? canary.thinking ? ", in the chat template" : ", in the chat template, without thinking"
                      : ", without a chat template",
                  "; ", precision_name(canary.precision), " on ", canary.device);
}

static std::vector<std::string> cells(const LineAnswers & line) {
    const size_t count = line.answers.size();
    const bool is_source = line.line == Line::source;
    return {line_name(line.line),
            fixed_text(line.mean_tokens, 1),
            is_source ? "" : concat("x ", fixed_text(line.growth, 3)),
            share_text(line.capped, count),
            share_text(line.repeating, count),
            is_source ? "" : share_text(line.equal, count)};
}

static const std::vector<std::string> titles = {"answers of", "mean tokens", "growth",
                                                "capped",     "repeating",   "as the source"};

std::string canary_text(const Canary & canary) {
    std::vector<std::vector<std::string>> rows = {titles};
    for (const LineAnswers & line : canary.lines) rows.push_back(cells(line));
    std::string text = concat(describe(canary), "\n", format_table(rows, {false, true, true, true, true, true}));
    for (const CanaryGate & gate : canary.gates)
        text += concat(gate.flagged  ? "suspicious  "
                       : gate.passed ? "passed      "
                                     : "FAILED      ",
                       gate.gate, ": ", gate.text, "\n");
    if (canary.failed_gates() + canary.suspicions() == 0)
        text += "no sign of longer, endless or repeating answers beyond chance\n";
    for (const std::string & note : canary.notes) text += concat("note: ", note, "\n");
    return printable_text(text);
}

std::string canary_markdown(const Canary & canary) {
    std::string text = concat(describe(canary), ".\n\n");
    const auto add_row = [&](const std::vector<std::string> & row) {
        for (const std::string & cell : row) text += concat("| ", cell, " ");
        text += "|\n";
    };
    add_row(titles);
    text += "|---|---:|---:|---:|---:|---:|\n";
    for (const LineAnswers & line : canary.lines) add_row(cells(line));
    for (const CanaryGate & gate : canary.gates)
        if (gate.flagged || !gate.passed)
            text += concat("\n", gate.flagged ? "Suspicious" : "Failed", ": ", gate.text, ".\n");
    return concat(text, "\nPrompts: `", canary.questions.sha256.substr(0, 16), "`.\n");
}

static void write_line(JsonWriter & json, const LineAnswers & line) {
    const double count = double(line.answers.size());
    json.key(line_key(line.line)).begin_object().member("mean_tokens", line.mean_tokens);
    json.member("capped", double(line.capped) / count).member("repeating", double(line.repeating) / count);
    if (line.line != Line::source) {
        json.member("growth", line.growth).member("equal", double(line.equal) / count);
        json.key("chances").begin_object().member("length", line.chance_of_length);
        json.member("capped", line.chance_of_capped).member("repeating", line.chance_of_repeating).end_object();
    }
    json.end_object();
}

std::string canary_json(const Canary & canary) {
    const QuestionSet & questions = canary.questions;
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.canary.1").member("checkpoint", canary.checkpoint);
    json.member("source", canary.source).member("model", canary.model);
    json.member("precision", precision_name(canary.precision)).member("device", canary.device);
    json.member("prompts", questions.prompts.size()).member("prompts_sha256", questions.sha256);
    json.member("chat_template", questions.has_template).member("thinking", canary.thinking);
    json.member("max_tokens", canary.max_tokens);
    json.key("lines").begin_object();
    for (const LineAnswers & line : canary.lines) write_line(json, line);
    json.end_object().key("gates").begin_array();
    for (const CanaryGate & gate : canary.gates) {
        json.begin_object().member("gate", gate.gate).member("passed", gate.passed).member("flagged", gate.flagged);
        json.member("value", gate.value).member("limit", gate.limit).member("text", gate.text).end_object();
    }
    json.end_array().member("notes", canary.notes).key("answers").begin_array();
    for (size_t i = 0; i < questions.prompts.size(); i++) {
        json.begin_object().member("prompt", questions.prompts[i]);
        for (const LineAnswers & line : canary.lines) {
            const Answer & answer = line.answers[i];
            const Result<std::string> text = questions.tokenizer->decode(answer.ids);
            json.key(line_key(line.line)).begin_object().member("tokens", answer.ids.size());
            json.member("capped", answer.capped).member("repeats", answer.repeats);
            json.member("text", text.ok() ? text.value() : std::string()).end_object();
        }
        json.end_object();
    }
    return json.end_array().end_object().take() + "\n";
}

} // namespace gnv::canary
