#include "formats/json_writer.h"
#include "quant/plan.h"

namespace gnv {

// One entry of config_groups: 4-bit floats in groups of 16 under E4M3 scales (compressed-tensors' QuantizationArgs).
template <class Dynamic>
static void write_quantization_args(JsonWriter & json, const Dynamic & dynamic, const char * observer) {
    json.begin_object().member("actorder", nullptr).member("block_structure", nullptr).member("dynamic", dynamic);
    json.member("group_size", 16).member("num_bits", 4).member("observer", observer);
    json.key("observer_kwargs").begin_object().end_object();
    json.member("scale_dtype", "torch.float8_e4m3fn").member("strategy", "tensor_group").member("symmetric", true);
    json.member("type", "float").member("zp_dtype", nullptr).end_object();
}

static void write_quantization_config(JsonWriter & json, const ModelLayout & layout, const Selection & selection,
                                      Scheme scheme) {
    const char * const format = "nvfp4-pack-quantized";
    json.begin_object().key("config_groups").begin_object().key("group_0").begin_object();
    json.member("format", format).key("input_activations");
    if (scheme == Scheme::nvfp4) {
        write_quantization_args(json, "local", "static_minmax");
    } else {
        json.value(nullptr);
    }
    json.member("output_activations", nullptr).key("targets").begin_array().value("Linear").end_array();
    json.key("weights");
    write_quantization_args(json, false, "memoryless_minmax");
    json.end_object().end_object();

    json.member("format", format).member("global_compression_ratio", nullptr);
    // Explicit names, as the reference lists them: engines map them through their own prefixes, patterns they do not.
    json.key("ignore").begin_array();
    for (size_t i = 0; i < layout.modules.size(); i++)
        if (layout.modules[i].part != Part::mtp && !selection.quantize[i]) json.value(layout.modules[i].name);
    if (layout.has_mtp) json.value("re:.*mtp.*");
    json.end_array();
    json.member("kv_cache_scheme", nullptr).member("quant_method", "compressed-tensors");
    json.member("quantization_status", "compressed");
    json.key("sparsity_config").begin_object().end_object();
    json.key("transform_config").begin_object().end_object();
    json.member("version", "0.19.0").end_object(); // of compressed-tensors, whose format this is
}

Result<std::string> quantized_config(const JsonValue & source_config, const ModelLayout & layout,
                                     const Selection & selection, Scheme scheme) {
    constexpr std::string_view name = "quantization_config";
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object();
    GNV_TRY(source_config.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        if (key != name) json.member(key, value); // where the source has one it is null
        return {};
    }));
    write_quantization_config(json.key(name), layout, selection, scheme);
    return json.end_object().take() + "\n";
}

} // namespace gnv
