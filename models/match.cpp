#include "models/match.h"

#include "model/fp8_weights.h"

#include <algorithm>

namespace gnv {

bool has_tensors(const Checkpoint & checkpoint, std::string_view prefix) {
    const std::vector<TensorInfo> & tensors = checkpoint.tensors();
    return std::any_of(tensors.begin(), tensors.end(),
                       [&](const TensorInfo & tensor) { return starts_with(tensor.name, prefix); });
}

// --- Quantized already ---------------------------------------------------------------------------------------------

// The names of tensors beside quantized weights in compressed-tensors, ModelOpt, FP8 releases, GPTQ, AWQ and MLX.
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

// --- Stored in a format ------------------------------------------------------------------------------------------------

namespace {

// The stored form of the Linear whose weight is a tensor of the model.
struct StoredLinear {
    const Format * format = nullptr; // null: not quantized
    std::array<int64_t, most_components> parts = {};
};

} // namespace

static Status check_part(const Checkpoint & checkpoint, int64_t position, const Format & format,
                         const FormatComponent & component, const TensorSpec & spec) {
    const TensorInfo & found = checkpoint.tensors()[size_t(position)];
    const std::vector<int64_t> shape = component.shape(spec.shape[0], spec.shape[1]);
    // A scalar is [] or [1]: engines take both.
    const bool is_scalar = component.scope != FormatComponent::Scope::rows && found.elements() == 1;
    if (found.dtype == component.dtype && (found.shape == shape || is_scalar)) return {};
    return fail(Code::model, checkpoint.describe(found), " is ", dtype_name(found.dtype), " ", shape_text(found.shape),
                ", an ", format.title, " weight needs ", dtype_name(component.dtype), " ", shape_text(shape));
}

// The first format that begins with a tensor of this name and is complete.
static Result<StoredLinear> find_stored(const TensorSpec & spec, const Checkpoint & checkpoint, Accept accept) {
    constexpr std::string_view suffix = ".weight";
    if (!role_traits(spec.role).is_linear || !ends_with(spec.name, suffix)) return StoredLinear();
    const std::string module = spec.name.substr(0, spec.name.size() - suffix.size());
    std::string missing, present;
    for (const Format * const format : accept) {
        StoredLinear stored{format, {}};
        missing.clear();
        for (size_t c = 0; c < format->components.size() && missing.empty(); c++) {
            const std::string name = module + format->components[c].suffix;
            stored.parts[c] = checkpoint.find(name);
            if (stored.parts[c] < 0) missing = name;
        }
        if (stored.parts[0] < 0) continue;
        present = module + format->components[0].suffix;
        if (!missing.empty()) continue;
        if (spec.shape[1] % format->block != 0)
            return fail(Code::model, checkpoint.folder(), ": ", module, " is quantized with ", spec.shape[1],
                        " columns, which ", format->block, " does not divide");
        for (size_t c = 0; c < format->components.size(); c++)
            GNV_TRY(check_part(checkpoint, stored.parts[c], *format, format->components[c], spec));
        return stored;
    }
    if (present.empty()) return StoredLinear();
    return fail(Code::model, checkpoint.folder(), ": tensor ", missing, " is missing, ", present, " is there");
}

// --- All tensors ------------------------------------------------------------------------------------------------------

// An extra tensor that the index does not name either stays behind: engines stop at names that they do not know, and the index
// decides what belongs to a checkpoint.
static void note_extras(const std::vector<bool> & used, const Checkpoint & checkpoint, ModelLayout & layout) {
    std::vector<std::string_view> extras, left_behind;
    for (size_t i = 0; i < used.size(); i++) {
        if (used[i]) continue;
        if (!checkpoint.tensors()[i].is_listed) {
            left_behind.push_back(checkpoint.tensors()[i].name);
            continue;
        }
        ModelTensor extra;
        extra.source = uint32_t(i);
        layout.tensors.push_back(extra);
        extras.push_back(checkpoint.tensors()[i].name);
    }
    if (!extras.empty())
        layout.notes.push_back(
            concat("tensors that config.json does not call for, kept as they are: ", name_list(extras)));
    if (!left_behind.empty())
        layout.notes.push_back(concat("tensors that neither config.json nor ", index_file_name,
                                      " calls for, left behind: ", name_list(left_behind)));
}

// `stored` receives one entry for each spec.
static Status resolve_tensors(const std::vector<TensorSpec> & specs, const Checkpoint & checkpoint, Accept accept,
                              ModelLayout & layout, std::vector<StoredLinear> & stored) {
    const std::vector<TensorInfo> & infos = checkpoint.tensors();
    std::vector<bool> used(infos.size(), false);
    layout.tensors.reserve(infos.size());
    stored.resize(specs.size());
    for (size_t i = 0; i < specs.size(); i++) {
        const TensorSpec & spec = specs[i];
        int64_t found = checkpoint.find(spec.name);
        if (found < 0) {
            GNV_ASSIGN(stored[i], find_stored(spec, checkpoint, accept));
            const Format * const format = stored[i].format;
            if (format) found = stored[i].parts[0];
            for (size_t c = 0; format && c < format->components.size(); c++) used[size_t(stored[i].parts[c])] = true;
        }
        if (found < 0)
            return fail(Code::model, checkpoint.folder(), ": tensor ", spec.name, " of shape ", shape_text(spec.shape),
                        " is missing; config.json calls for it");
        bool in_fp8 = false;
        if (!accept.empty() && !stored[i].format) {
            GNV_ASSIGN(in_fp8, check_fp8(spec, infos[size_t(found)], checkpoint));
        }
        if (in_fp8) {
            used[size_t(find_fp8_scales(checkpoint, infos[size_t(found)]))] = true;
        } else if (!stored[i].format) {
            GNV_TRY(check_tensor(spec, infos[size_t(found)], checkpoint));
        }
        used[size_t(found)] = true;
        layout.tensors.push_back(ModelTensor{uint32_t(found), spec.role, spec.part, spec.layer, spec.expert});
    }
    note_extras(used, checkpoint, layout);
    return {};
}

Status match_tensors(ModelExpansion expansion, const Checkpoint & checkpoint, Accept accept, ModelLayout & layout) {
    std::vector<StoredLinear> stored;
    GNV_TRY(resolve_tensors(expansion.tensors, checkpoint, accept, layout, stored));
    // The first tensors of the layout are those of the expansion, one for one.
    for (LinearModule & module : expansion.modules) {
        module.stored = stored[module.source].format;
        module.parts = stored[module.source].parts;
        module.source = layout.tensors[module.source].source;
        module.offset *= uint64_t(dtype_traits(checkpoint.tensors()[module.source].dtype).bits) / 8;
    }
    layout.modules = std::move(expansion.modules);
    return {};
}

} // namespace gnv
