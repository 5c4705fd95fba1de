#include "models/match.h"

#include <algorithm>

namespace gnv {

bool has_tensors(const Checkpoint & checkpoint, std::string_view prefix) {
    const std::vector<TensorInfo> & tensors = checkpoint.tensors();
    return std::any_of(tensors.begin(), tensors.end(),
                       [&](const TensorInfo & tensor) { return starts_with(tensor.name, prefix); });
}

// --- Quantized already ---------------------------------------------------------------------------------------------

// Companions of quantized weights as compressed-tensors, ModelOpt, FP8 releases, GPTQ, AWQ and MLX name them.
// clang-format off
static constexpr const char * quantized_suffixes[] = {
    ".weight_packed", ".weight_scale", ".weight_scale_2", ".weight_global_scale", ".weight_zero_point",
    ".input_scale", ".input_global_scale", "_scale_inv", ".qweight", ".qzeros", ".g_idx", ".scales",
    "_proj_scale", "_proj_scales", "_proj_blocks",
};
// clang-format on
static constexpr DType quantized_dtypes[] = {
    DType::f8_e4m3, DType::f8_e5m2, DType::f8_e8m0, DType::f4, DType::f6_e2m3, DType::f6_e3m2,
};

Status refuse_quantized(const Checkpoint & checkpoint) {
    for (const TensorInfo & tensor : checkpoint.tensors()) {
        const bool by_name = std::any_of(std::begin(quantized_suffixes), std::end(quantized_suffixes),
                                         [&](const char * suffix) { return ends_with(tensor.name, suffix); });
        const bool by_dtype = std::find(std::begin(quantized_dtypes), std::end(quantized_dtypes), tensor.dtype) !=
                              std::end(quantized_dtypes);
        if (by_name || by_dtype)
            return fail(
                Code::unsupported, checkpoint.describe(tensor), " has dtype ", dtype_name(tensor.dtype),
                " and belongs to a checkpoint that is quantized already; start from the BF16 one it was made from");
    }
    return {};
}

// --- Matching ------------------------------------------------------------------------------------------------------

static bool is_float(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f32; }

static Status check_tensor(const TensorSpec & spec, const TensorInfo & found, const Checkpoint & checkpoint) {
    if (found.shape != spec.shape)
        return fail(Code::model, checkpoint.describe(found), " has shape ", shape_text(found.shape),
                    ", config.json calls for ", shape_text(spec.shape));
    if (!is_float(found.dtype))
        return fail(Code::model, checkpoint.describe(found), " has dtype ", dtype_name(found.dtype),
                    ", expected BF16, F16 or F32");
    return {};
}

// Names for a note: the first three, then a count.
static std::string name_list(const std::vector<std::string_view> & names) {
    std::string out;
    for (size_t i = 0; i < std::min<size_t>(names.size(), 3); i++) out += (i ? ", " : "") + printable(names[i]);
    if (names.size() > 3) out += concat(" and ", count_text(names.size() - 3), " more");
    return out;
}

static Status resolve_tensors(const std::vector<TensorSpec> & specs, const Checkpoint & checkpoint,
                              ModelLayout & layout) {
    const std::vector<TensorInfo> & infos = checkpoint.tensors();
    std::vector<bool> used(infos.size(), false);
    layout.tensors.reserve(infos.size());
    for (const TensorSpec & spec : specs) {
        const int64_t found = checkpoint.find(spec.name);
        if (found < 0)
            return fail(Code::model, checkpoint.folder(), ": tensor ", spec.name, " of shape ", shape_text(spec.shape),
                        " is missing; config.json calls for it");
        GNV_TRY(check_tensor(spec, infos[size_t(found)], checkpoint));
        used[size_t(found)] = true;
        layout.tensors.push_back(ModelTensor{uint32_t(found), spec.role, spec.part, spec.layer, spec.expert});
    }
    std::vector<std::string_view> extras;
    for (size_t i = 0; i < infos.size(); i++) {
        if (used[i]) continue;
        ModelTensor extra;
        extra.source = uint32_t(i);
        layout.tensors.push_back(extra);
        extras.push_back(infos[i].name);
    }
    if (!extras.empty())
        layout.notes.push_back(
            concat("tensors that config.json does not call for, kept as they are: ", name_list(extras)));
    return {};
}

Status match_tensors(ModelExpansion expansion, const Checkpoint & checkpoint, ModelLayout & layout) {
    GNV_TRY(resolve_tensors(expansion.tensors, checkpoint, layout));
    // The first tensors of the layout are those of the expansion, one for one.
    for (LinearModule & module : expansion.modules) {
        module.source = layout.tensors[module.source].source;
        module.offset *= uint64_t(dtype_traits(checkpoint.tensors()[module.source].dtype).bits) / 8;
    }
    layout.modules = std::move(expansion.modules);
    return {};
}

} // namespace gnv
