#include "data/calib_source.h"

#include "formats/file.h"

#include <charconv>

namespace gnv {

static const char * const form_names[] = {"automatic", "alpaca", "chatml", "none", "model"};

const char * text_form_name(TextForm form) { return form_names[size_t(form)]; }

Result<TextForm> parse_text_form(const std::string & name) {
    if (name.empty()) return TextForm::automatic;
    for (const TextForm form : {TextForm::model, TextForm::alpaca, TextForm::chatml, TextForm::none})
        if (name == text_form_name(form)) return form;
    return fail(Code::invalid_argument, "unknown template \"", printable(name),
                "\"; known are model, alpaca, chatml and none");
}

// --- Aliases --------------------------------------------------------------------------------------------------------------

namespace {

struct Alias {
    const char * name;
    TextForm form;
    const char * text_field;
    const char * role_field;
    const char * origin; // on the hub
    bool is_tree = false;
};

// The fields of the data sets' cards on the Hugging Face hub.
constexpr Alias aliases[] = {
    {"open-platypus", TextForm::alpaca, "", "", "garage-bAInd/Open-Platypus"},  // instruction, input, output
    {"gsm8k", TextForm::automatic, "", "", "openai/gsm8k:main"},                // question, answer
    {"oasst1", TextForm::chatml, "text", "role", "OpenAssistant/oasst1", true}, // a message a row: prompter, assistant
    {"the-stack", TextForm::none, "content", "", "bigcode/the-stack-smol"},     // one source file a row
    {"pg19", TextForm::none, "text", "", "emozilla/pg19"},                      // one book a row
};

Status take_alias(const std::string & name, TextRule & rule) {
    std::string known;
    for (const Alias & alias : aliases) {
        known += concat(known.empty() ? "" : ", ", alias.name);
        if (name != alias.name) continue;
        rule = {alias.form, alias.text_field, alias.role_field, {}, alias.is_tree};
        return {};
    }
    return fail(Code::invalid_argument, "unknown data set \"", printable(name), "\" before the @; known are ", known);
}

// Removes "=WEIGHT" from the path. Other text after "=" is a wrong weight only if the rest is a path.
Status take_weight(std::string & path, double & weight) {
    const size_t equals = path.rfind('=');
    if (equals == std::string::npos || path_exists(path)) return {};
    const char * const begin = path.c_str() + equals + 1;
    const char * const end = path.c_str() + path.size();
    const auto parsed = std::from_chars(begin, end, weight);
    const bool is_number = parsed.ec == std::errc() && parsed.ptr == end;
    if (!is_number && !path_exists(path.substr(0, equals))) return {};
    if (!is_number || !(weight > 0 && weight < 1e9))
        return fail(Code::invalid_argument, "\"", printable(path),
                    "\": the weight after \"=\" must be a number above 0");
    path.erase(equals);
    return {};
}

// Where ":FIELD" begins: after the first part of the text that is a path, so that both may hold colons; the last colon where
// there is no such path, for the message about it.
size_t find_field(const std::string & text) {
    if (path_exists(text)) return std::string::npos;
    for (size_t colon = text.find(':'); colon != std::string::npos; colon = text.find(':', colon + 1))
        if (colon > 0 && path_exists(text.substr(0, colon))) return colon;
    return text.rfind(':');
}

} // namespace

Result<CalibSource> parse_calib_source(const std::string & spec, TextForm form) {
    CalibSource source;
    source.path = spec;
    const size_t at = source.path.find('@');
    if (at < source.path.find('/') && at != std::string::npos && !path_exists(source.path)) {
        GNV_TRY(take_alias(source.path.substr(0, at), source.rule));
        source.path.erase(0, at + 1);
    }
    GNV_TRY(take_weight(source.path, source.weight));
    for (const Alias & alias : aliases)
        if (source.path == alias.name && !path_exists(source.path))
            return fail(Code::not_found, alias.name, " is the name of a form of data, not of a file: give ", alias.name,
                        "@PATH with a copy of ", alias.origin, ", or ", alias.name, "@hub:", alias.origin);
    const size_t colon = find_field(source.path);
    if (colon != std::string::npos) {
        source.rule = {TextForm::none, source.path.substr(colon + 1), "", {}, false};
        if (source.rule.text_field.empty())
            return fail(Code::invalid_argument, "\"", printable(spec),
                        "\": the name of a field is missing after \":\"");
        source.path.erase(colon);
    }
    if (source.path.empty())
        return fail(Code::invalid_argument, "\"", printable(spec), "\" names no file or folder; give PATH");
    if (form != TextForm::automatic) source.rule.form = form;
    if (source.rule.form == TextForm::alpaca && !source.rule.text_field.empty())
        return fail(Code::invalid_argument, "\"", printable(spec),
                    "\": the template alpaca needs more than one field; leave :FIELD out");
    return source;
}

} // namespace gnv
