#include "inspect/contents.h"

#include "formats/single_file.h"
#include "model/matched_checkpoint.h"
#include "model/weight_source.h"

#include <cstring>

namespace gnv {

static constexpr const char * config_name = "config.json";

// Names of compressed-tensors are those of the format table.
static const std::vector<QuantizedNaming> & namings() {
    static const std::vector<QuantizedNaming> list = [] {
        std::vector<QuantizedNaming> all;
        for (const Format * const format : all_formats()) {
            if (!all.empty() && std::string_view(all.back().format->codec) == format->codec) continue;
            QuantizedNaming naming{"compressed-tensors", format, {}, true};
            for (size_t c = 0; c < format->components.size(); c++) naming.suffixes[c] = format->components[c].suffix;
            all.push_back(naming);
        }
        all.push_back(
            {"modelopt", &formats::nvfp4, {".weight", ".weight_scale", ".weight_scale_2", ".input_scale"}, false});
        return all;
    }();
    return list;
}

Result<Contents> Contents::open(const std::string & path) {
    const bool is_file = ends_with(path, ".safetensors") && path_exists(path) && !is_directory(path);
    GNV_ASSIGN(std::shared_ptr<const Folder> folder, is_file ? open_single_file(path) : open_folder(path));
    GNV_ASSIGN(Checkpoint checkpoint, Checkpoint::open(std::move(folder)));
    Contents contents(std::move(checkpoint));
    GNV_ASSIGN(contents.shards_, contents.checkpoint_.open_shards());
    contents.notes_ = contents.checkpoint_.notes();
    contents.uses_.resize(contents.checkpoint_.tensors().size());
    contents.find_modules();
    contents.find_roles();
    return contents;
}

// --- Quantized weights ------------------------------------------------------------------------------------------------

static bool is_scalar(const TensorInfo & tensor) { return tensor.dtype == DType::f32 && tensor.elements() == 1; }

// The format of the same codec that has no input scale.
static const Format * without_input_scale(const Format & format) {
    for (const Format * const other : all_formats())
        if (std::string_view(other->codec) == format.codec && !other->takes_input_scale()) return other;
    return &format;
}

// Fills `module` from its name and first tensor; otherwise returns the problem.
static std::string find_parts(const Checkpoint & checkpoint, QuantizedModule & module) {
    const Format & format = *module.naming->format;
    module.format = &format;
    for (size_t c = 1; c < format.components.size(); c++) {
        const char * const suffix = module.naming->suffixes[c];
        module.tensors[c] = checkpoint.find(module.name + suffix);
        if (module.tensors[c] >= 0) continue;
        if (format.components[c].scope != FormatComponent::Scope::input) return concat("has no ", suffix);
        module.format = without_input_scale(format);
    }
    const TensorInfo & first = checkpoint.tensors()[module.codes()];
    const int64_t each = format.components[0].columns;
    if (first.shape.size() != 2 || first.shape[1] % (format.block / each) != 0)
        return concat("has codes ", shape_text(first.shape), ", not [N, K / ", each, "] with a K that ", format.block,
                      " divides");
    module.rows = first.shape[0], module.columns = first.shape[1] * each;
    for (size_t c = 1; c < module.format->components.size(); c++) {
        const FormatComponent & component = format.components[c];
        const TensorInfo & found = checkpoint.tensors()[size_t(module.tensors[c])];
        const std::vector<int64_t> expected = component.shape(module.rows, module.columns);
        if (component.scope != FormatComponent::Scope::rows) {
            if (!is_scalar(found)) return "has a global scale that is not one F32 element";
        } else if (found.dtype != component.dtype || found.shape != expected) {
            return concat("has ", component.title, " ", dtype_name(found.dtype), " ", shape_text(found.shape), ", not ",
                          dtype_name(component.dtype), " ", shape_text(expected));
        }
    }
    return {};
}

void Contents::find_modules() {
    std::string first_problem;
    uint64_t problems = 0;
    for (uint32_t t = 0; t < uses_.size(); t++) {
        for (const QuantizedNaming & naming : namings()) {
            const char * const suffix = naming.suffixes[0];
            if (tensor(t).dtype != naming.format->components[0].dtype || !ends_with(tensor(t).name, suffix)) continue;
            QuantizedModule module;
            module.name = tensor(t).name.substr(0, tensor(t).name.size() - strlen(suffix));
            module.naming = &naming;
            module.tensors[0] = t;
            const std::string problem = find_parts(checkpoint_, module);
            if (!problem.empty()) {
                if (problems++ == 0) first_problem = printable(module.name) + " " + problem;
                continue;
            }
            const auto number = uint32_t(modules_.size());
            if (!module_by_name_.emplace(module.name, number).second) continue;
            for (size_t c = 0; c < module.format->components.size(); c++) {
                uses_[size_t(module.tensors[c])].module = number;
                uses_[size_t(module.tensors[c])].module_part = ModulePart(c);
            }
            modules_.push_back(std::move(module));
        }
    }
    if (problems > 0)
        notes_.push_back(concat(first_problem,
                                problems > 1 ? concat(" (and ", problems - 1, " more such modules)") : "",
                                ": not an NVFP4 weight, its tensors are shown one by one"));
}

// --- Roles ------------------------------------------------------------------------------------------------------------

void Contents::find_roles() {
    const Result<bool> present = has_file(checkpoint_.files(), config_name);
    if (present.ok() && !present.value()) {
        notes_.push_back(concat("no ", config_name, ": roles are not known"));
        return;
    }
    const Status status = read_model();
    if (!status.ok()) notes_.push_back("roles are not known: " + status.message());
}

Status Contents::read_model() {
    GNV_ASSIGN(const JsonDocument config, read_config(checkpoint_.files()));
    // Every possible name of a tensor of the model; each block may have another layout.
    std::unordered_map<std::string, Use> known;
    for (const bool nested : {true, false}) {
        for (const bool fused : {true, false}) {
            LayoutChoice choice;
            choice.fused_experts = choice.fused_mtp_experts = fused;
            choice.nested_prefix = nested;
            GNV_ASSIGN(std::vector<TensorSpec> specs, list_tensors(config.root(), choice));
            for (TensorSpec & spec : specs) known.emplace(std::move(spec.name), Use{spec.role, spec.part});
        }
    }
    for (size_t t = 0; t < uses_.size(); t++) {
        const bool quantized = uses_[t].module >= 0;
        const auto found = known.find(quantized ? modules_[size_t(uses_[t].module)].name + ".weight" : tensor(t).name);
        if (found == known.end()) continue;
        uses_[t].role = found->second.role;
        uses_[t].part = found->second.part;
    }
    has_model_ = true;
    if (!modules_.empty()) return {};
    Result<ModelLayout> layout = match_model(config.root(), checkpoint_);
    if (layout.ok()) {
        linear_modules_ = std::move(layout.value().modules);
    } else {
        notes_.push_back(layout.status().message());
    }
    return {};
}

std::string Contents::role_name(uint64_t tensor) const {
    static const char * const prefixes[] = {"", "", "draft head: "}; // by Part; roles of the vision tower name it
    if (!has_model_) return {};
    const Use & use = uses_[tensor];
    const bool named_already = use.role >= Role::mtp_fc && use.role <= Role::mtp_norm;
    return concat(named_already ? "" : prefixes[size_t(use.part)], role_traits(use.role).name);
}

// --- Reading ----------------------------------------------------------------------------------------------------------

int64_t Contents::find_module(std::string_view name) const {
    const auto found = module_by_name_.find(std::string(name));
    return found == module_by_name_.end() ? -1 : int64_t(found->second);
}

Status Contents::read(const TensorInfo & tensor, uint64_t offset, void * data, uint64_t size) const {
    return WeightSource(checkpoint_, shards_).read(tensor, offset, data, size);
}

Result<float> Contents::read_scalar(uint32_t position) const {
    float value = 0;
    GNV_CHECK(is_scalar(tensor(position)));
    GNV_TRY(read(tensor(position), 0, &value, sizeof value));
    return value;
}

} // namespace gnv
