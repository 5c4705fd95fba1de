#include "formats/json_writer.h"
#include "quant/plan.h"

#include <algorithm>

namespace gnv {

static void write_args(JsonWriter & json, const char * key, const QuantizationArgs * args) {
    json.key(key);
    if (!args) {
        json.value(nullptr);
        return;
    }
    json.begin_object().member("actorder", nullptr).member("block_structure", nullptr).key("dynamic");
    if (args->dynamic) {
        json.value(args->dynamic);
    } else {
        json.value(false);
    }
    json.member("group_size", args->group_size).member("num_bits", args->num_bits).member("observer", args->observer);
    json.key("observer_kwargs").begin_object().end_object();
    json.member("scale_dtype", args->scale_dtype).member("strategy", args->strategy).member("symmetric", true);
    json.member("type", args->type).member("zp_dtype", nullptr).end_object();
}

// Regular expressions for the modules of the draft head that have `format` (null: that are kept): engines map their plain names to
// none. Each stands for the shortest beginning of names of which all modules belong there, and matches what engines make of
// these modules as well (self_attn.qkv_proj, mlp.experts). Kept modules may be among the others: the ignore list wins.
static std::vector<std::string> draft_patterns(const ModelLayout & layout, const Selection & selection,
                                               const Format * format) {
    std::vector<size_t> draft;
    for (size_t m = 0; m < layout.modules.size(); m++)
        if (layout.modules[m].part == Part::mtp) draft.push_back(m);
    const auto belong = [&](const std::string & beginning) {
        return std::all_of(draft.begin(), draft.end(), [&](size_t m) {
            const Format * const own = selection.format[m];
            return own == format || !own || !starts_with(layout.modules[m].name, beginning);
        });
    };
    std::vector<std::string> patterns;
    for (const size_t m : draft) {
        const std::string & name = layout.modules[m].name;
        if (selection.format[m] != format) continue;
        const size_t first = name.find('.');
        size_t end = first;
        while (end != std::string::npos && !belong(name.substr(0, end + 1))) end = name.find('.', end + 1);
        std::string pattern = "re:.*";
        for (const char c : name.substr(0, end)) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
        pattern += end == first ? ".*" : end == std::string::npos ? "$" : "(\\..*)?$";
        if (patterns.empty() || patterns.back() != pattern) patterns.push_back(std::move(pattern));
    }
    return patterns;
}

// One group for each format in use: the first, which is the recipe's scheme if a module has it, for every Linear, the others by
// names of modules.
static void write_groups(JsonWriter & json, const ModelLayout & layout, const Selection & selection,
                         const std::vector<const Format *> & formats) {
    json.key("config_groups").begin_object();
    for (size_t f = 0; f < formats.size(); f++) {
        json.key(concat("group_", f)).begin_object().member("format", formats[f]->group_format);
        write_args(json, "input_activations", formats[f]->inputs);
        json.member("output_activations", nullptr).key("targets").begin_array();
        if (f == 0) json.value("Linear");
        for (size_t m = 0; f > 0 && m < layout.modules.size(); m++)
            if (selection.format[m] == formats[f] && layout.modules[m].part != Part::mtp)
                json.value(layout.modules[m].name);
        if (f > 0)
            for (const std::string & pattern : draft_patterns(layout, selection, formats[f])) json.value(pattern);
        json.end_array();
        write_args(json, "weights", formats[f]->weights);
        json.end_object();
    }
    json.end_object();
}

static void write_quantization_config(JsonWriter & json, const ModelLayout & layout, const Selection & selection,
                                      const Format * scheme) {
    const std::vector<const Format *> formats = selection.formats(scheme);
    const std::string_view format = formats.front()->group_format;
    const bool mixed = std::any_of(formats.begin(), formats.end(),
                                   [&](const Format * other) { return other->group_format != format; });
    json.begin_object();
    write_groups(json, layout, selection, formats);
    json.member("format", mixed ? "mixed-precision" : format);
    json.member("global_compression_ratio", nullptr);
    // Explicit names, as in the reference: engines map names through their own prefixes, but not patterns. Those of a draft head
    // they do not map at all.
    json.key("ignore").begin_array();
    for (size_t i = 0; i < layout.modules.size(); i++)
        if (layout.modules[i].part != Part::mtp && !selection.format[i]) json.value(layout.modules[i].name);
    for (const std::string & pattern : draft_patterns(layout, selection, nullptr)) json.value(pattern);
    json.end_array();
    json.member("kv_cache_scheme", nullptr).member("quant_method", "compressed-tensors");
    json.member("quantization_status", "compressed");
    json.key("sparsity_config").begin_object().end_object();
    json.key("transform_config").begin_object().end_object();
    json.member("version", "0.19.0").end_object(); // of compressed-tensors, whose format this is
}

Result<std::string> quantized_config(const JsonValue & source_config, const ModelLayout & layout,
                                     const Selection & selection, const Format * scheme) {
    constexpr std::string_view name = "quantization_config";
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object();
    GNV_TRY(source_config.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        if (key != name) json.member(key, value); // in a source it can only be null
        return {};
    }));
    write_quantization_config(json.key(name), layout, selection, scheme);
    return json.end_object().take() + "\n";
}

} // namespace gnv
