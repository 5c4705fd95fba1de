#include "verify/quantization_config.h"

#include "core/strings.h"

#include <algorithm>
#include <iterator>

namespace gnv::verify {

Result<int> QuantizationConfig::declared(const std::string & module, uint64_t & budget) const {
    const auto matches = [&](const NameList & list) -> Result<bool> {
        for (const Pattern & pattern : list.patterns) {
            GNV_ASSIGN(const bool matched, pattern.matches(module, budget));
            if (matched) return true;
        }
        return false;
    };
    if (ignore.names.count(module)) return undeclared;
    GNV_ASSIGN(const bool ignored, matches(ignore));
    if (ignored) return undeclared;
    for (size_t i = 0; i < groups.size(); i++)
        if (groups[i].targets.names.count(module)) return int(i);
    for (size_t i = 0; i < groups.size(); i++) {
        GNV_ASSIGN(const bool targeted, matches(groups[i].targets));
        if (targeted) return int(i);
    }
    for (size_t i = 0; i < groups.size(); i++)
        if (groups[i].targets_linear) return int(i);
    return undeclared;
}

namespace {

constexpr const char * known_formats[] = {"nvfp4-pack-quantized", "mixed-precision", "float-quantized",
                                          "naive-quantized",      "pack-quantized",  "int-quantized"};

constexpr size_t most_patterns = 1000; // of a list; each is tried on every module
constexpr size_t longest_pattern = 10'000;
constexpr size_t most_compiled_bytes = 4 << 20; // of all patterns

class Reader {
  public:
    Reader(const NameSpace & space, Findings & findings) : space_(space), findings_(findings) {}

    Result<QuantizationConfig> read(const JsonValue & config) {
        QuantizationConfig out = read_all(config);
        if (!failure_.ok()) return std::move(failure_);
        return out;
    }

  private:
    QuantizationConfig read_all(const JsonValue & config) {
        JsonValue object;
        const bool is_there = config.find("quantization_config", object) && !object.is_null();
        if (is_there && !object.is_object()) {
            add(Severity::error, "quantization_config", concat("is ", printable(object.text(), 60), ", not an object"),
                "no loader can read it", "put the quantization_config of the tool that wrote the weights in its place");
            return {};
        }
        if (!is_there) {
            add(Severity::error, "quantization_config", "config.json has no quantization_config",
                "every loader builds the BF16 model and refuses the packed tensors",
                "add the quantization_config of the tool that wrote the weights");
            return {};
        }
        out_.present = true;
        out_.method = text(object, "quant_method");
        if (out_.method != "compressed-tensors") {
            add(Severity::error, "quantization_config.quant_method",
                out_.method.empty() ? "the key is missing" : concat("is \"", printable(out_.method), "\""),
                "loaders choose another reader, which expects other tensors",
                "set it to \"compressed-tensors\", if the tensors are named as compressed-tensors names them");
            return std::move(out_);
        }
        read_format(object);
        read_status(object);
        read_groups(object);
        JsonValue ignore;
        if (object.find("ignore", ignore) && !ignore.is_null())
            read_list(ignore, "quantization_config.ignore", out_.ignore, nullptr);
        JsonValue cache;
        if (object.find("kv_cache_scheme", cache) && !cache.is_null())
            add(Severity::warning, "quantization_config.kv_cache_scheme", "a quantized key-value cache is declared",
                "loaders expect k_scale and v_scale tensors; without them the cache uses a scale of 1",
                "set it to null, unless the checkpoint holds those scales");
        return std::move(out_);
    }

    void add(Severity severity, std::string key, std::string what, std::string effect, std::string repair) {
        findings_.add({"L10", severity, std::move(key), std::move(what), std::move(effect), std::move(repair)});
    }

    // "" for other values than strings.
    static std::string text(const JsonValue & object, const char * key) {
        JsonValue value;
        if (!object.find(key, value)) return "";
        const Result<std::string_view> string = value.as_string();
        return string.ok() ? std::string(string.value()) : "";
    }

    void read_format(const JsonValue & object) {
        format_ = text(object, "format");
        const bool known = std::any_of(std::begin(known_formats), std::end(known_formats),
                                       [&](const char * name) { return format_ == name; });
        if (!known)
            add(Severity::error, "quantization_config.format",
                format_.empty() ? "the key is missing" : concat("\"", printable(format_), "\" is unknown"),
                "loaders do not recognise the tensors, or drop the quantization of activations",
                "set it to \"nvfp4-pack-quantized\", or \"mixed-precision\" with a format in each group");
    }

    void read_status(const JsonValue & object) {
        const std::string status = text(object, "quantization_status");
        if (status != "compressed")
            add(Severity::error, "quantization_config.quantization_status",
                status.empty() ? "the key is missing" : concat("is \"", printable(status), "\""),
                "transformers and compressed-tensors take the packed tensors for plain ones",
                "set it to \"compressed\"");
    }

    void read_groups(const JsonValue & object) {
        JsonValue groups;
        if (object.find("config_groups", groups) && groups.is_object())
            (void)groups
                .for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
                    read_group(std::string(name), value);
                    return {};
                })
                .ok();
        if (out_.groups.empty())
            add(Severity::error, "quantization_config.config_groups", "declares no group",
                "loaders take every module for a plain one and refuse the packed tensors",
                "declare a group with the targets, weights and input_activations of the modules that are quantized");
    }

    void read_group(const std::string & name, const JsonValue & value) {
        const std::string key = "quantization_config.config_groups." + printable(name, 60);
        ConfigGroup group;
        group.name = name;
        std::string format = text(value, "format");
        if (format.empty()) format = format_;
        if (format == "mixed-precision")
            add(Severity::error, key + ".format", "a group of a mixed-precision config needs a format of its own",
                "loaders cannot tell how its tensors are stored",
                "add \"format\": \"nvfp4-pack-quantized\" or what applies");
        JsonValue targets;
        if (value.find("targets", targets) && targets.is_array()) {
            read_list(targets, key + ".targets", group.targets, &group.targets_linear);
        } else {
            add(Severity::error, key + ".targets", "the key is missing or no list", "the group applies to nothing",
                "add \"targets\": [\"Linear\"]");
        }
        group.declares = read_format_of(value, key, format);
        out_.groups.push_back(std::move(group));
    }

    DeclaredFormat read_format_of(const JsonValue & group, const std::string & key, const std::string & format_name) {
        JsonValue weights, inputs, bits;
        if (!group.find("weights", weights) || !weights.is_object()) {
            add(Severity::error, key + ".weights", "the key is missing", "loaders do not quantize the group's weights",
                "describe the weights: 4-bit float, tensor_group, group_size 16");
            return {};
        }
        const bool has_inputs = group.find("input_activations", inputs) && !inputs.is_null();
        if (weights.find("num_bits", bits) && bits.text() == "8" && text(weights, "type") == "float")
            return {nullptr, true};
        // The format with weights of this type that fits the inputs; other differences are mistakes.
        const auto found = std::find_if(all_formats().begin(), all_formats().end(), [&](const Format * format) {
            return text(weights, "type") == format->weights->type && has_inputs == (format->inputs != nullptr);
        });
        if (found == all_formats().end()) return {};
        const Format & format = **found;
        check_args(weights, key + ".weights", format, *format.weights);
        if (has_inputs) check_args(inputs, key + ".input_activations", format, *format.inputs);
        if (format_name != format.group_format)
            add(Severity::error, key + ".format",
                concat(format.weights->num_bits, "-bit floats are declared as \"", printable(format_name), "\""),
                "loaders read the group with the wrong code", concat("set it to \"", format.group_format, "\""));
        return {&format, false};
    }

    // The values that loaders compare.
    void check_args(const JsonValue & object, const std::string & key, const Format & format,
                    const QuantizationArgs & args) {
        const auto check = [&](const char * name, const std::string & accepted) {
            JsonValue value;
            const std::string found = object.find(name, value) ? value.text() : "missing";
            if (found == accepted) return;
            add(Severity::error, concat(key, ".", name),
                concat("is ", printable(found, 60), ", ", format.title, " needs ", accepted),
                "loaders find no scheme for it: vLLM and SGLang stop", concat("set it to ", accepted));
        };
        check("num_bits", std::to_string(args.num_bits));
        check("type", concat("\"", args.type, "\""));
        check("strategy", concat("\"", args.strategy, "\""));
        check("group_size", std::to_string(args.group_size));
        check("symmetric", "true");
        check("dynamic", args.dynamic ? concat("\"", args.dynamic, "\"") : "false");
    }

    // Plain names are mapped to the loader's name space, patterns are not. `linear` (may be null): set if the class
    // name "Linear" is listed.
    void read_list(const JsonValue & list, const std::string & key, NameList & out, bool * linear) {
        const Status status = list.for_each_element([&](size_t, const JsonValue & item) -> Status {
            GNV_ASSIGN(const std::string_view entry, item.as_string());
            if (starts_with(entry, "re:")) {
                if (out.patterns.size() == most_patterns)
                    return fail(Code::unsupported, "more than ", most_patterns, " patterns");
                if (entry.size() > longest_pattern)
                    return fail(Code::unsupported, "a pattern of ", entry.size(), " characters");
                GNV_ASSIGN(Pattern pattern, Pattern::compile(std::string(entry), false));
                compiled_bytes_ += pattern.compiled_bytes();
                if (compiled_bytes_ > most_compiled_bytes)
                    return fail(Code::unsupported, "patterns of more than ", most_compiled_bytes,
                                " bytes when compiled");
                out.patterns.push_back(std::move(pattern));
            } else if (linear && entry == "Linear") {
                *linear = true;
            } else if (space_.plain_draft_names || !starts_with(entry, "mtp")) {
                out.names.insert(space_.map(std::string(entry)));
            }
            return {};
        });
        if (status.code() == Code::out_of_memory) failure_ = Status::out_of_memory();
        if (!status.ok()) add(Severity::error, key, status.message(), "loaders stop at the list", "correct the entry");
    }

    const NameSpace & space_;
    Findings & findings_;
    QuantizationConfig out_;
    std::string format_;
    size_t compiled_bytes_ = 0;
    Status failure_;
};

} // namespace

Result<QuantizationConfig> read_quantization_config(const JsonValue & config, const NameSpace & space,
                                                    Findings & findings) {
    return Reader(space, findings).read(config);
}

} // namespace gnv::verify
