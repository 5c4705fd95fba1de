#include "model/weights.h"

#include "core/memory.h"
#include "model/fp8_weights.h"
#include "model/weight_source.h"

#include <algorithm>
#include <cmath>

namespace gnv {

uint64_t WeightParts::memory_bytes() const {
    uint64_t sum = 0;
    for (const WeightSection & section : sections) sum += rounded_to_64(section.bytes);
    return sum;
}

Result<WeightCatalog> WeightCatalog::create(const ModelLayout & layout, const Checkpoint & checkpoint) {
    WeightCatalog catalog;
    catalog.layout_ = &layout;
    catalog.checkpoint_ = &checkpoint;
    for (uint32_t m = 0; m < layout.modules.size(); m++) {
        const LinearModule & module = layout.modules[m];
        Entry & entry = catalog.entries_[{module.part, module.role, module.layer}];
        const DType dtype = module.stored ? module.stored->graph_dtype : checkpoint.tensors()[module.source].dtype;
        const std::vector<int64_t> shape = {module.rows, module.columns};
        if (entry.modules.empty()) {
            entry.dtype = dtype;
            entry.shape = shape;
            entry.format = module.stored;
        }
        if (module.expert < 0 && !entry.modules.empty())
            entry.refusal = concat(module.name, " is not the only one in its role");
        entry.modules.push_back(m);
        if (entry.refusal.empty() && (entry.dtype != dtype || entry.shape != shape || entry.format != module.stored))
            entry.refusal =
                concat(module.name, " is stored in another way than the experts before it; such a model cannot be run");
    }
    for (const ModelTensor & tensor : layout.tensors) {
        if (tensor.role == Role::extra) continue;
        const auto [entry, added] = catalog.entries_.try_emplace({tensor.part, tensor.role, tensor.layer});
        const TensorInfo & info = checkpoint.tensors()[tensor.source];
        if (!added && entry->second.modules.empty())
            entry->second.refusal = concat(info.name, " is not the only one in its role");
        if (!added) continue; // a Linear
        entry->second.dtype = info.dtype;
        entry->second.shape = info.shape;
        entry->second.tensor = tensor.source;
    }
    return catalog;
}

Result<const WeightCatalog::Entry *> WeightCatalog::find(const WeightRef & ref) const {
    const auto found = entries_.find(ref.key());
    if (found == entries_.end())
        return fail(Code::model, checkpoint_->folder(), ": the checkpoint has no ", role_traits(ref.role).name,
                    ref.layer >= 0 ? concat(" in layer ", ref.layer) : std::string());
    if (!found->second.refusal.empty())
        return fail(Code::unsupported, checkpoint_->folder(), ": ", found->second.refusal);
    const Entry & entry = found->second;
    if (ref.expert_count > 0)
        GNV_CHECK(ref.first_expert >= 0 && size_t(ref.first_expert + ref.expert_count) <= entry.modules.size());
    return &entry;
}

// Matrices of Linears keep 16 bits if a GEMM can read them; the embedding is read row by row.
static bool keeps_dtype(Role role, DType dtype) {
    const bool matrix = role_traits(role).is_linear || role == Role::embedding || role == Role::vision_patch;
    return dtype == DType::f32 || dtype == DType::f4 || (matrix && dtype == DType::bf16);
}

Result<WeightSpec> WeightCatalog::spec(const WeightRef & ref) const {
    GNV_ASSIGN(const Entry * const entry, find(ref));
    WeightSpec spec;
    spec.dtype = keeps_dtype(ref.role, entry->dtype) ? entry->dtype : DType::f32;
    spec.format = entry->format;
    if (ref.expert_count > 0 && ref.flat) {
        spec.shape = {ref.expert_count * entry->shape[0], entry->shape[1]};
    } else if (ref.expert_count > 0) {
        spec.shape = {ref.expert_count, entry->shape[0], entry->shape[1]};
    } else {
        spec.shape = {};
        for (const int64_t extent : entry->shape) spec.shape.dims[spec.shape.rank++] = extent;
        if (ref.role == Role::vision_patch) spec.shape = {spec.shape[0], spec.shape.elements() / spec.shape[0]};
    }
    return spec;
}

Result<WeightParts> WeightCatalog::parts(const WeightRef & ref) const {
    GNV_ASSIGN(const Entry * const entry, find(ref));
    WeightParts parts;
    const bool widen = !keeps_dtype(ref.role, entry->dtype);
    const auto add = [&](size_t section, uint64_t tensor, uint64_t offset, uint64_t bytes) {
        WeightPiece piece{uint32_t(tensor), offset, bytes, widen && section == 0, -1};
        if (piece.widen && entry->dtype == DType::f8_e4m3)
            piece.fp8_scales = find_fp8_scales(*checkpoint_, checkpoint_->tensors()[tensor]);
        parts.sections[section].pieces.push_back(piece);
        parts.sections[section].bytes += piece.memory_bytes();
    };
    const auto add_whole = [&](size_t section, uint64_t tensor) {
        add(section, tensor, 0, checkpoint_->tensors()[tensor].bytes);
    };
    if (entry->modules.empty()) {
        add_whole(0, entry->tensor);
        return parts;
    }
    const int32_t first = ref.expert_count > 0 ? ref.first_expert : 0, count = std::max(ref.expert_count, 1);
    for (int32_t i = first; i < first + count; i++) {
        const LinearModule & module = layout_->modules[entry->modules[size_t(i)]];
        if (!module.stored)
            add(0, module.source, module.offset,
                uint64_t(module.rows) * uint64_t(module.columns) * uint64_t(dtype_traits(entry->dtype).bits) / 8);
        for (size_t c = 0; module.stored && c < module.stored->components.size(); c++)
            add_whole(c, uint64_t(module.parts[c]));
    }
    return parts;
}

// --- Input scales -------------------------------------------------------------------------------------------------------------

static bool is_expert(Role role) {
    return role == Role::expert_gate || role == Role::expert_up || role == Role::expert_down;
}

Result<InputScales> InputScales::read(const WeightCatalog & catalog, const FolderFiles & files, Part part) {
    InputScales scales;
    const Checkpoint & checkpoint = catalog.checkpoint();
    const WeightSource source(checkpoint, files);
    for (const LinearModule & module : catalog.layout().modules) {
        if (module.part != part || !module.has_input_scale()) continue;
        const TensorInfo & info = checkpoint.tensors()[size_t(module.input_scale())];
        float scale = 0;
        if (info.dtype != DType::f32 || info.bytes != sizeof scale)
            return fail(Code::unsupported, checkpoint.describe(info), " is not a single F32 number");
        GNV_TRY(source.read(info, 0, &scale, sizeof scale));
        if (!(scale > 0) || !std::isfinite(scale))
            return fail(Code::bad_value, checkpoint.describe(info), " is ", double(scale),
                        "; the scale must be a divisor above zero");
        std::vector<float> & list = scales.values_[{module.part, module.role, module.layer}];
        if (module.expert >= 0 && list.size() != size_t(module.expert))
            return fail(Code::unsupported, module.name, " has an input scale, an earlier expert has none");
        list.push_back(scale);
    }
    for (const auto & [key, list] : scales.values_) {
        if (list.size() != (is_expert(key.role) ? size_t(catalog.layout().expert_count) : 1))
            return fail(Code::unsupported, checkpoint.folder(), ": layer ", key.layer, " has ", list.size(),
                        " input scales of ", role_traits(key.role).name);
    }
    return scales;
}

Tensor InputScales::find(const WeightRef & ref) const {
    const std::vector<float> & list = values_.at(ref.key());
    const auto first = size_t(ref.expert_count > 0 ? ref.first_expert : 0);
    Tensor tensor;
    tensor.shape = {std::max(ref.expert_count, 1)};
    GNV_CHECK(first + size_t(tensor.shape[0]) <= list.size());
    const float * const scales = places_.empty() ? list.data() : places_.at(ref.key());
    tensor.data = const_cast<float *>(scales) + first; // graphs only read weights
    return tensor;
}

std::vector<float> InputScales::packed() const {
    std::vector<float> all;
    for (const auto & [key, list] : values_) all.insert(all.end(), list.begin(), list.end());
    return all;
}

InputScales InputScales::copy_at(const float * memory) const {
    InputScales copy = *this;
    for (const auto & [key, list] : values_) {
        copy.places_[key] = memory;
        memory += list.size();
    }
    return copy;
}

void InputScales::share_between_experts() {
    for (auto & [key, list] : values_) {
        if (!is_expert(key.role)) continue;
        float least = *std::min_element(list.begin(), list.end());
        const Role twin = key.role == Role::expert_gate ? Role::expert_up : Role::expert_gate;
        const auto other = values_.find({key.part, twin, key.layer});
        if (key.role != Role::expert_down && other != values_.end())
            least = std::min(least, *std::min_element(other->second.begin(), other->second.end()));
        std::fill(list.begin(), list.end(), least);
    }
}

} // namespace gnv
