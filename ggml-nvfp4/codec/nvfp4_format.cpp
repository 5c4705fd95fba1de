// The NVFP4 rows of the format table: the names of compressed-tensors, the bytes of codec/nvfp4.h.
#include "codec/format.h"
#include "codec/nvfp4_compare.h"
#include "codec/nvfp4_pack.h"
#include "codec/nvfp4_search.h"

namespace gnv {

namespace {

constexpr FormatComponent components[] = {
    {".weight_packed", "codes", "codes", DType::u8, FormatComponent::Scope::rows, 2},
    {".weight_scale", "block_scales", "block scales", DType::f8_e4m3, FormatComponent::Scope::rows, 16},
    {".weight_global_scale", "weight_global_scale", "global scale", DType::f32, FormatComponent::Scope::unit},
    {".input_global_scale", "input_global_scale", "input scale", DType::f32, FormatComponent::Scope::input},
};
constexpr size_t codes = 0, block_scales = 1;

constexpr QuantizationArgs weight_args = {
    4, "float", "tensor_group", nvfp4::block_size, "torch.float8_e4m3fn", nullptr, "memoryless_minmax"};
constexpr QuantizationArgs input_args = {
    4, "float", "tensor_group", nvfp4::block_size, "torch.float8_e4m3fn", "local", "static_minmax"};

template <class Byte>
nvfp4::BasicWeight<Byte> weight_of(const PackedRows & rows, float scale) {
    constexpr auto layout = nvfp4::Layout::row_major;
    return {rows.rows,
            rows.columns,
            layout,
            {rows.data[codes], nvfp4::code_bytes(layout, rows.rows, rows.columns)},
            {rows.data[block_scales], nvfp4::scale_bytes(layout, rows.rows, rows.columns)},
            scale};
}

void pack(InstructionSet set, const WeightRows & source, float scale, const PackedRows & out) {
    nvfp4::quantize(set, source.dtype, source.data, weight_of<uint8_t>(out, scale));
}

void unpack(InstructionSet set, const PackedRows & packed, float scale, float * out) {
    nvfp4::dequantize(set, weight_of<const uint8_t>(packed, scale), out);
}

uint64_t count_saturated(InstructionSet set, const WeightRows & source, float scale, const PackedRows & packed) {
    const int64_t blocks = packed.rows * (packed.columns / nvfp4::block_size);
    return nvfp4::compare(set, source.dtype, source.data, blocks, packed.data[codes], packed.data[block_scales], scale)
        .clipped;
}

// The definition gives 1 if the quotient is not finite; only for a maximum of 2688 is 1 a real scale.
bool input_scale(DType source, float absolute_maximum, float & scale) {
    scale = nvfp4::global_scale(source, absolute_maximum);
    return !(absolute_maximum < 1 && scale == 1.0f);
}

constexpr Format make_format(const char * name, const char * description, const char * preset, bool inputs) {
    return {
        .name = name,
        .title = "NVFP4",
        .description = description,
        .preset = preset,
        .codec = "nvfp4",
        .block = nvfp4::block_size,
        .components = std::span(components).first(inputs ? 4 : 3),
        .graph_dtype = DType::f4,
        .group_format = "nvfp4-pack-quantized",
        .weights = &weight_args,
        .inputs = inputs ? &input_args : nullptr,
        .unit_scale = nvfp4::global_scale,
        .input_scale = inputs ? input_scale : nullptr,
        .pack = pack,
        .unpack = unpack,
        .count_saturated = count_saturated,
        .search = nvfp4::search_block,
        .store = nvfp4::store_block,
        .search_room = 448.0f / 256, // six steps of E4M3
        .load = nvfp4::load_block,
    };
}

} // namespace

constinit const Format formats::nvfp4 = make_format("nvfp4", "NVFP4 (W4A4)", "NVFP4", true);
constinit const Format formats::nvfp4a16 = make_format("nvfp4a16", "NVFP4A16 (W4A16)", "NVFP4A16", false);

} // namespace gnv
