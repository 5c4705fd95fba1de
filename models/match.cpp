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

// --- NVFP4 -----------------------------------------------------------------------------------------------------------

// The tensors of an NVFP4 Linear "X", beside X.weight_packed (codec/nvfp4.h says what they hold).
struct Nvfp4Parts {
    int64_t codes = -1, block_scales = -1, global_scale = -1, input_scale = -1;
};

static Status check_part(const Checkpoint & checkpoint, int64_t position, DType dtype,
                         const std::vector<int64_t> & shape) {
    const TensorInfo & found = checkpoint.tensors()[size_t(position)];
    if (found.dtype == dtype && found.shape == shape) return {};
    return fail(Code::model, checkpoint.describe(found), " is ", dtype_name(found.dtype), " ", shape_text(found.shape),
                ", an NVFP4 weight needs ", dtype_name(dtype), " ", shape_text(shape));
}

// Parts of the Linear whose weight would be `spec`; codes stay -1 when it is not quantized.
static Result<Nvfp4Parts> find_parts(const TensorSpec & spec, const Checkpoint & checkpoint) {
    Nvfp4Parts parts;
    constexpr std::string_view suffix = ".weight";
    if (!role_traits(spec.role).is_linear || !ends_with(spec.name, suffix)) return parts;
    const std::string module = spec.name.substr(0, spec.name.size() - suffix.size());
    parts.codes = checkpoint.find(module + ".weight_packed");
    if (parts.codes < 0) return parts;
    const int64_t rows = spec.shape[0], columns = spec.shape[1];
    const std::string names[] = {module + ".weight_scale", module + ".weight_global_scale"};
    parts.block_scales = checkpoint.find(names[0]);
    parts.global_scale = checkpoint.find(names[1]);
    parts.input_scale = checkpoint.find(module + ".input_global_scale");
    if (parts.block_scales < 0 || parts.global_scale < 0)
        return fail(Code::model, checkpoint.folder(), ": tensor ", names[parts.block_scales < 0 ? 0 : 1],
                    " is missing, ", module, ".weight_packed is there");
    if (columns % 16 != 0)
        return fail(Code::model, checkpoint.folder(), ": ", module, " is quantized with ", columns,
                    " columns, which 16 does not divide");
    GNV_TRY(check_part(checkpoint, parts.codes, DType::u8, {rows, columns / 2}));
    GNV_TRY(check_part(checkpoint, parts.block_scales, DType::f8_e4m3, {rows, columns / 16}));
    GNV_TRY(check_part(checkpoint, parts.global_scale, DType::f32, {1}));
    if (parts.input_scale >= 0) GNV_TRY(check_part(checkpoint, parts.input_scale, DType::f32, {1}));
    return parts;
}

// --- All tensors ------------------------------------------------------------------------------------------------------

static void note_extras(const std::vector<bool> & used, const Checkpoint & checkpoint, ModelLayout & layout) {
    std::vector<std::string_view> extras;
    for (size_t i = 0; i < used.size(); i++) {
        if (used[i]) continue;
        ModelTensor extra;
        extra.source = uint32_t(i);
        layout.tensors.push_back(extra);
        extras.push_back(checkpoint.tensors()[i].name);
    }
    if (!extras.empty())
        layout.notes.push_back(
            concat("tensors that config.json does not call for, kept as they are: ", name_list(extras)));
}

// `parts` receives one entry for each spec.
static Status resolve_tensors(const std::vector<TensorSpec> & specs, const Checkpoint & checkpoint, Accept accept,
                              ModelLayout & layout, std::vector<Nvfp4Parts> & parts) {
    const std::vector<TensorInfo> & infos = checkpoint.tensors();
    std::vector<bool> used(infos.size(), false);
    layout.tensors.reserve(infos.size());
    parts.resize(specs.size());
    for (size_t i = 0; i < specs.size(); i++) {
        const TensorSpec & spec = specs[i];
        int64_t found = checkpoint.find(spec.name);
        if (found < 0 && accept == Accept::nvfp4) {
            GNV_ASSIGN(parts[i], find_parts(spec, checkpoint));
            found = parts[i].codes;
            for (const int64_t part : {parts[i].block_scales, parts[i].global_scale, parts[i].input_scale})
                if (part >= 0) used[size_t(part)] = true;
        }
        if (found < 0)
            return fail(Code::model, checkpoint.folder(), ": tensor ", spec.name, " of shape ", shape_text(spec.shape),
                        " is missing; config.json calls for it");
        if (parts[i].codes < 0) GNV_TRY(check_tensor(spec, infos[size_t(found)], checkpoint));
        used[size_t(found)] = true;
        layout.tensors.push_back(ModelTensor{uint32_t(found), spec.role, spec.part, spec.layer, spec.expert});
    }
    note_extras(used, checkpoint, layout);
    return {};
}

Status match_tensors(ModelExpansion expansion, const Checkpoint & checkpoint, Accept accept, ModelLayout & layout) {
    std::vector<Nvfp4Parts> parts;
    GNV_TRY(resolve_tensors(expansion.tensors, checkpoint, accept, layout, parts));
    // The first tensors of the layout are those of the expansion, one for one.
    for (LinearModule & module : expansion.modules) {
        const Nvfp4Parts & found = parts[module.source];
        module.block_scales = found.block_scales;
        module.global_scale = found.global_scale;
        module.input_scale = found.input_scale;
        module.source = layout.tensors[module.source].source;
        module.offset *= uint64_t(dtype_traits(checkpoint.tensors()[module.source].dtype).bits) / 8;
    }
    layout.modules = std::move(expansion.modules);
    return {};
}

} // namespace gnv
