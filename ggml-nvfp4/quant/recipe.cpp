#include "quant/recipe.h"

#include <algorithm>
#include <map>

namespace gnv {

const char * preset_name(Preset preset) {
    static const char * const names[] = {"recipe", "experts-only", "file"};
    return names[size_t(preset)];
}

std::vector<std::string> default_ignore() {
    return {"lm_head",     "re:.*embed_tokens", "re:.*mlp\\.gate$",     "re:.*shared_expert_gate.*",
            "re:.*norm.*", "re:.*visual\\..*",  "re:.*linear_attn\\..*"};
}

std::vector<std::string> experts_only_ignore() { return {"re:.*self_attn\\..*", "re:.*shared_expert\\..*"}; }

static const char * kind_name(Rule::Kind kind) {
    static const char * const names[] = {"keep", "include", "ignore"};
    return names[size_t(kind)];
}

Result<Recipe> Recipe::create(const RecipeOptions & options) {
    constexpr float most_headroom = 1024; // beyond, small inputs would be lost
    if (options.headroom != 0 && !(options.headroom >= 1 && options.headroom <= most_headroom))
        return fail(Code::invalid_argument, "a headroom of ", double(options.headroom), " is not between 1 and ",
                    double(most_headroom));
    if (options.draft_head && options.draft_head->takes_input_scale())
        return fail(Code::unsupported, "the draft head cannot be ", options.draft_head->description,
                    ": its inputs are not calibrated; choose a format of weights alone");
    Recipe recipe;
    recipe.options_ = options;
    const auto add = [&](Rule::Kind kind, const std::string & text, bool from_caller) -> Status {
        Result<Pattern> pattern = Pattern::compile(text, from_caller && options.file.empty());
        if (!pattern.ok()) return pattern.take_status().add_context(kind_name(kind));
        recipe.rules_.push_back(Rule{kind, pattern.take(), from_caller});
        return {};
    };
    for (const std::string & text : options.keep) GNV_TRY(add(Rule::Kind::keep, text, true));
    for (const std::string & text : options.include) GNV_TRY(add(Rule::Kind::include, text, true));
    if (options.preset != Preset::file)
        for (const std::string & text : default_ignore()) GNV_TRY(add(Rule::Kind::ignore, text, false));
    GNV_TRY(add(Rule::Kind::ignore, options.draft_head ? draft_fc_pattern : draft_head_pattern, false));
    if (options.preset == Preset::experts_only)
        for (const std::string & text : experts_only_ignore()) GNV_TRY(add(Rule::Kind::ignore, text, false));
    for (const std::string & text : options.ignore) GNV_TRY(add(Rule::Kind::ignore, text, true));
    for (const RecipeOptions::FormatChoice & choice : options.formats) {
        const bool is_every = !options.file.empty() && choice.pattern == "Linear";
        Result<Pattern> pattern = Pattern::compile(is_every ? "re:.*" : choice.pattern, options.file.empty());
        if (!pattern.ok()) return pattern.take_status().add_context("format");
        recipe.format_patterns_.push_back(pattern.take());
    }
    return recipe;
}

// The same text whether a pattern came from an option or from the recipe.yaml of that run.
static std::string text_of(const Rule & rule, const RecipeOptions & options) {
    const std::string & text = rule.pattern.text();
    return rule.from_caller && options.file.empty() && !starts_with(text, "re:") ? "re:" + text : text;
}

std::string Recipe::describe_rule(int rule) const {
    if (rule == no_target) return "no target";
    if (rule < 0) return "target Linear";
    return concat(kind_name(rules_[size_t(rule)].kind), " ", text_of(rules_[size_t(rule)], options_));
}

const Quantizer & Recipe::quantizer_of(Part part) const {
    const bool has_statistics = part != Part::mtp || options_.quantizer->needs().empty();
    return has_statistics ? *options_.quantizer : least_squares();
}

// Loaders treat all members of a fused parameter alike: a member that differs from the first is an error.
static Status check_uniform(const ModelLayout & layout, const Selection & selection) {
    const auto differs = [&](size_t first, size_t other, const char * group) {
        const Format * const formats[] = {selection.format[first], selection.format[other]};
        if (formats[0] && formats[1])
            return fail(Code::invalid_argument, layout.modules[first].name, " would be ", formats[0]->name, " and ",
                        layout.modules[other].name, " ", formats[1]->name, ", but loaders fuse them (", group,
                        "): give both one format");
        const auto & quantized = layout.modules[formats[0] ? first : other].name;
        const auto & kept = layout.modules[formats[0] ? other : first].name;
        return fail(Code::invalid_argument, quantized, " would be quantized and ", kept,
                    " not, but loaders fuse them (", group, "): ignore or quantize both");
    };
    std::map<int32_t, size_t> fused;                          // fused_group -> first module
    std::map<std::pair<Part, int32_t>, size_t> layer_experts; // (part, layer) -> first routed expert's module
    for (size_t i = 0; i < layout.modules.size(); i++) {
        const LinearModule & module = layout.modules[i];
        if (module.fused_group >= 0) {
            const size_t first = fused.emplace(module.fused_group, i).first->second;
            if (selection.format[first] != selection.format[i]) return differs(first, i, "one global scale");
        }
        if (module.expert >= 0) {
            const size_t first = layer_experts.emplace(std::pair(module.part, module.layer), i).first->second;
            if (selection.format[first] != selection.format[i])
                return differs(first, i, "the routed experts of a layer");
        }
    }
    return {};
}

std::vector<const Format *> Selection::formats(const Format * scheme) const {
    std::vector<const Format *> used;
    for (const Format * const one : format)
        if (one && std::find(used.begin(), used.end(), one) == used.end()) used.push_back(one);
    const auto first = std::find(used.begin(), used.end(), scheme);
    if (first != used.end()) std::rotate(used.begin(), first, first + 1);
    return used.empty() ? std::vector<const Format *>{scheme} : used;
}

// A pattern of the caller that changes nothing is a slip; the example shows how names are built.
static Status matches_nothing(const Rule & rule, const ModelLayout & layout) {
    return fail(Code::invalid_argument, kind_name(rule.kind), " \"", printable(rule.pattern.text()),
                "\" matches no module. A pattern is a regular expression that holds from the start of a module's name, "
                "such as ",
                layout.modules.empty() ? "lm_head" : layout.modules.back().name,
                "; put .* before what may stand anywhere");
}

Result<Selection> Recipe::select(const ModelLayout & layout) const {
    Selection selection;
    selection.notes = options_.notes;
    std::vector<int64_t> target_hits(format_patterns_.size(), 0);
    selection.format.assign(layout.modules.size(), nullptr);
    selection.rule.assign(layout.modules.size(), -1);
    std::vector<int64_t> hits(rules_.size(), 0);
    for (size_t i = 0; i < layout.modules.size(); i++) {
        const LinearModule & module = layout.modules[i];
        for (size_t r = 0; r < rules_.size(); r++) {
            GNV_ASSIGN(const bool matched, rules_[r].pattern.matches(module.name));
            if (!matched) continue;
            hits[r]++;
            if (selection.rule[i] < 0) selection.rule[i] = int16_t(r);
        }
        const bool is_draft = module.part == Part::mtp;
        const Format * format = options_.targets_only ? nullptr : options_.scheme;
        for (size_t p = format_patterns_.size(); p-- > 0;) {
            GNV_ASSIGN(const bool matched, format_patterns_[p].matches(module.name));
            if (matched) format = options_.formats[p].format, target_hits[p]++;
        }
        const int rule = selection.rule[i];
        const bool can_quantize = role_traits(module.role).can_quantize;
        // What engines build plain stays without a rule: a recipe.yaml need not name the router of the head.
        if (is_draft && options_.draft_head) format = can_quantize || rule >= 0 ? options_.draft_head : nullptr;
        if (rule >= 0 && rules_[size_t(rule)].kind != Rule::Kind::include) continue;
        if (!format) {
            selection.rule[i] = no_target;
            continue;
        }
        const bool has_format = module.part == Part::text || (is_draft && options_.draft_head);
        if (!can_quantize || !has_format)
            return fail(Code::invalid_argument, module.name, " (", describe_rule(rule),
                        ") cannot be quantized: loaders expect ", role_traits(module.role).name, " of the ",
                        module.part == Part::vision ? "vision tower"
                        : is_draft                  ? "draft head"
                                                    : "text model",
                        " in the source's precision",
                        is_draft && can_quantize ? ", unless --draft-head names a format" : "");
        if (module.columns % format->block != 0)
            return fail(Code::model, module.name, " has ", module.columns, " input features, which ", format->block,
                        " does not divide: it cannot be stored as ", format->title, "; ignore it");
        selection.format[i] = format;
        selection.count++;
        selection.draft_count += is_draft;
    }
    if (options_.draft_head && selection.draft_count == 0)
        return fail(Code::invalid_argument,
                    layout.has_mtp ? "the rules leave no module of the draft head to quantize: correct them, or keep it"
                                   : "the checkpoint has no draft head (tensors mtp.*) to quantize: keep it",
                    " (--draft-head keep)");
    GNV_TRY(check_uniform(layout, selection));
    for (size_t r = 0; r < rules_.size(); r++) {
        if (!rules_[r].from_caller || hits[r] > 0) continue;
        if (options_.file.empty() || rules_[r].kind == Rule::Kind::include) return matches_nothing(rules_[r], layout);
        selection.notes.push_back(concat("the recipe ignores \"", printable(rules_[r].pattern.text()),
                                         "\", which matches no module of this model"));
    }
    for (size_t p = 0; p < target_hits.size(); p++)
        if (!options_.file.empty() && target_hits[p] == 0)
            return fail(Code::invalid_argument, "the target \"", printable(options_.formats[p].pattern),
                        "\" of the recipe matches no module: give Linear, the whole name of a module, or re: and a "
                        "regular expression that holds from the start of names such as ",
                        layout.modules.empty() ? "lm_head" : layout.modules.back().name);
    if (selection.count == 0) return fail(Code::invalid_argument, "the rules leave no module to quantize");
    return selection;
}

} // namespace gnv
