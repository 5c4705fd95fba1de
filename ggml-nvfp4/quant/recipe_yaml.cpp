#include "quant/recipe.h"

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
static std::string yaml_list(const std::string & key, const std::vector<std::string> & items) {
    constexpr size_t width = 80;
    std::string out, line = "      " + key + ": [";
    for (size_t i = 0; i < items.size(); i++) {
        if (i > 0) {
            line += ",";
            if (line.size() > width) {
                out += line + "\n";
                line = "        ";
            } else {
                line += " ";
            }
        }
        line += yaml_scalar(items[i]);
    }
    return out + line + "]\n";
}

std::string recipe_yaml(const Recipe & recipe) {
    const RecipeOptions & options = recipe.options();
    std::vector<std::string> ignore;
    std::string included;
    for (const Rule & rule : recipe.rules()) {
        std::string text = rule.pattern.text();
        if (rule.from_caller && !starts_with(text, "re:")) text = "re:" + text;
        if (rule.kind == Rule::Kind::include) {
            included += concat("# quantized although the list below names it: ", printable(text), "\n");
        } else if (text != draft_head_pattern) { // the reference does not load the draft head
            ignore.push_back(text);
        }
    }
    bool calibrated = options.scheme->takes_input_scale();
    for (const RecipeOptions::FormatChoice & choice : options.formats) {
        calibrated |= choice.format->takes_input_scale();
        included += concat("# ", choice.format->preset, " instead: ", printable(choice.pattern), "\n");
    }
    if (options.quantizer != &round_to_nearest())
        included +=
            concat("# codes and scales by the method ", options.quantizer->name(), ", which this does not say\n");
    if (options.headroom != 0)
        included += concat("# input scales with headroom ", double(options.headroom), ", one for a layer's experts\n");
    return concat(included, "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n",
                  "      targets: [Linear]\n", yaml_list("ignore", ignore), "      scheme: ", options.scheme->preset,
                  "\n", "      bypass_divisibility_checks: false\n",
                  "      requires_calibration_data: ", calibrated ? "true" : "false", "\n");
}

} // namespace gnv
