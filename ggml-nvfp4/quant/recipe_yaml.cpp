#include "quant/recipe_file.h"

#include <algorithm>

namespace gnv {

// A YAML scalar inside [ ]: plain if no character has a meaning there.
static std::string yaml_scalar(const std::string & text) {
    const auto is_plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '/';
    };
    bool plain = !text.empty() && text != "true" && text != "false" && text != "null" && text != "yes" && text != "no";
    for (const char c : text) plain &= is_plain(c);
    if (plain) return text;
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? "''" : std::string(1, c);
    return out + "'";
}

// One sequence in brackets, with the line breaks of PyYAML: after the item that passes column 80.
static std::string yaml_list(const std::string & key, const std::vector<std::string> & items, size_t indent = 6) {
    constexpr size_t width = 80;
    const std::string blanks(indent, ' ');
    std::string out, line = blanks + key + ": [";
    for (size_t i = 0; i < items.size(); i++) {
        if (i > 0) {
            line += ",";
            if (line.size() > width) {
                out += line + "\n";
                line = blanks + "  ";
            } else {
                line += " ";
            }
        }
        line += yaml_scalar(items[i]);
    }
    return out + line + "]\n";
}

static std::string arguments_yaml(const char * key, const QuantizationArgs & args) {
    return concat("          ", key, ": {num_bits: ", args.num_bits, ", type: ", args.type,
                  ", symmetric: true, strategy: ", args.strategy, ", group_size: ", args.group_size,
                  ", dynamic: ", args.dynamic ? args.dynamic : "false", ", observer: ", args.observer, "}\n");
}

// A group of modules of one format, as compressed-tensors describes it.
static std::string config_group(size_t number, const Format & format, const std::vector<std::string> & targets) {
    return concat("        group_", number, ":\n", yaml_list("targets", targets, 10),
                  arguments_yaml("weights", *format.weights),
                  format.inputs ? arguments_yaml("input_activations", *format.inputs) : "");
}

// Targets and their formats. Consecutive targets of one format make a group: their order decides between them.
static std::string targets_yaml(const RecipeOptions & options) {
    const std::vector<RecipeOptions::FormatChoice> & choices = options.formats;
    if (!options.targets_only) return "      targets: [Linear]\n";
    const auto is_scheme = [&](const auto & choice) { return choice.format == options.scheme; };
    std::vector<std::string> targets;
    if (std::all_of(choices.begin(), choices.end(), is_scheme)) {
        for (const RecipeOptions::FormatChoice & choice : choices) targets.push_back(choice.pattern);
        return yaml_list("targets", targets);
    }
    std::string out = "      config_groups:\n";
    size_t groups = 0;
    for (size_t i = 0; i < choices.size(); i++) {
        targets.push_back(choices[i].pattern);
        if (i + 1 < choices.size() && choices[i + 1].format == choices[i].format) continue;
        out += config_group(groups++, *choices[i].format, targets);
        targets.clear();
    }
    return out;
}

static bool has_one_scheme(const RecipeOptions & options) {
    return !options.targets_only || std::all_of(options.formats.begin(), options.formats.end(),
                                                [&](const auto & choice) { return choice.format == options.scheme; });
}

// What only this program reads.
static std::string own_line(const char * key, const std::string & value) {
    return concat(own_comment, key, ": ", printable_line(value), "\n");
}

std::string recipe_yaml(const Recipe & recipe) {
    const RecipeOptions & options = recipe.options();
    std::vector<std::string> ignore;
    std::string own;
    for (const Rule & rule : recipe.rules()) {
        std::string text = rule.pattern.text();
        if (rule.from_caller && options.file.empty() && !starts_with(text, "re:")) text = "re:" + text;
        if (rule.kind == Rule::Kind::include) {
            own += own_line("include", text); // quantized although the list below names it
        } else if (text != draft_head_pattern &&
                   text != draft_fc_pattern) { // the reference does not load the draft head
            ignore.push_back(text);
        }
    }
    bool calibrated = options.scheme->takes_input_scale();
    for (const RecipeOptions::FormatChoice & choice : options.formats) {
        calibrated |= choice.format->takes_input_scale();
        if (!options.targets_only)
            own += concat("# ", choice.format->preset, " instead: ", printable(choice.pattern), "\n");
    }
    if (options.quantizer != &round_to_nearest()) own += own_line("method", options.quantizer->name());
    if (options.headroom != 0) own += own_line("headroom", concat(double(options.headroom)));
    if (options.draft_head) own += own_line("draft-head", options.draft_head->name);
    const bool one_scheme = has_one_scheme(options);
    return concat(own, "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n", targets_yaml(options),
                  yaml_list("ignore", ignore), one_scheme ? concat("      scheme: ", options.scheme->preset, "\n") : "",
                  "      bypass_divisibility_checks: false\n",
                  "      requires_calibration_data: ", calibrated ? "true" : "false", "\n");
}

} // namespace gnv
