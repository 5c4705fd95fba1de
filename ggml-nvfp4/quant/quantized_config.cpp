#include "quant/plan.h"

#include <nlohmann/json.hpp>

namespace gnv {

using nlohmann::ordered_json;

// One entry of config_groups: 4-bit floats in groups of 16 under E4M3 scales (compressed-tensors' QuantizationArgs).
static ordered_json quantization_args(const ordered_json & dynamic, const char * observer) {
    return {{"actorder", nullptr},   {"block_structure", nullptr},
            {"dynamic", dynamic},    {"group_size", 16},
            {"num_bits", 4},         {"observer", observer},
            {"observer_kwargs", ordered_json::object()},
            {"scale_dtype", "torch.float8_e4m3fn"},
            {"strategy", "tensor_group"},
            {"symmetric", true},     {"type", "float"},
            {"zp_dtype", nullptr}};
}

Result<std::string> quantized_config(const std::string & source_config, const ModelLayout & layout,
                                     const Selection & selection, Scheme scheme) {
    // The text was read before by simdjson, which is stricter; this parse keeps the order of the keys.
    ordered_json config = ordered_json::parse(source_config, nullptr, false);
    if (!config.is_object()) return fail(Code::format, "config.json is not a JSON object");

    // Explicit names, as the reference lists them: engines map them through their own prefixes, patterns they do not.
    ordered_json ignore = ordered_json::array();
    for (size_t i = 0; i < layout.modules.size(); i++)
        if (layout.modules[i].part != Part::mtp && !selection.quantize[i]) ignore.push_back(layout.modules[i].name);
    if (layout.has_mtp) ignore.push_back("re:.*mtp.*");

    const char * const format = "nvfp4-pack-quantized";
    const ordered_json group = {
        {"format", format},
        {"input_activations",
         scheme == Scheme::nvfp4 ? quantization_args("local", "static_minmax") : ordered_json(nullptr)},
        {"output_activations", nullptr},
        {"targets", {"Linear"}},
        {"weights", quantization_args(false, "memoryless_minmax")},
    };
    config["quantization_config"] = {
        {"config_groups", {{"group_0", group}}},
        {"format", format},
        {"global_compression_ratio", nullptr},
        {"ignore", std::move(ignore)},
        {"kv_cache_scheme", nullptr},
        {"quant_method", "compressed-tensors"},
        {"quantization_status", "compressed"},
        {"sparsity_config", ordered_json::object()},
        {"transform_config", ordered_json::object()},
        {"version", "0.19.0"}, // of compressed-tensors, whose format this is
    };
    return config.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

} // namespace gnv
