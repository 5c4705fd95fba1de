#include "inspect/contents.h"

#include "codec/nvfp4.h"
#include "formats/json.h"

#include <cstring>

namespace gnv {

static constexpr const char * config_name = "config.json";
static constexpr uint64_t max_config_bytes = 16 << 20;

static constexpr QuantizedNaming namings[] = {
    {"compressed-tensors", ".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale", true},
    {"modelopt", ".weight", ".weight_scale", ".weight_scale_2", ".input_scale", false},
};

const char * module_part_name(ModulePart part) {
    static const char * const names[] = {"", "codes", "block scales", "global scale", "input scale"};
    return names[size_t(part)];
}

Result<Contents> Contents::open(const std::string & folder) {
    GNV_ASSIGN(Checkpoint checkpoint, Checkpoint::open(folder));
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

// Fills `module` from its name; otherwise says what is wrong.
static std::string find_parts(const Checkpoint & checkpoint, QuantizedModule & module) {
    const auto find = [&](const char * suffix, int64_t & found) {
        found = checkpoint.find(module.name + suffix);
        return found >= 0;
    };
    int64_t block_scales, global_scale;
    if (!find(module.naming->block_scales, block_scales) || !find(module.naming->global_scale, global_scale))
        return concat("has no ", block_scales < 0 ? module.naming->block_scales : module.naming->global_scale);
    module.block_scales = uint32_t(block_scales), module.global_scale = uint32_t(global_scale);
    find(module.naming->input_scale, module.input_scale);

    const TensorInfo & codes = checkpoint.tensors()[module.codes];
    const TensorInfo & scales = checkpoint.tensors()[module.block_scales];
    if (codes.shape.size() != 2 || codes.shape[1] % (nvfp4::block_size / 2) != 0)
        return concat("has codes ", shape_text(codes.shape), ", not [N, K / 2] with a K that 16 divides");
    module.rows = codes.shape[0], module.columns = codes.shape[1] * 2;
    const std::vector<int64_t> expected = {module.rows, module.columns / nvfp4::block_size};
    if (scales.dtype != DType::f8_e4m3 || scales.shape != expected)
        return concat("has block scales ", dtype_name(scales.dtype), " ", shape_text(scales.shape), ", not F8_E4M3 ",
                      shape_text(expected));
    if (!is_scalar(checkpoint.tensors()[module.global_scale]) ||
        (module.input_scale >= 0 && !is_scalar(checkpoint.tensors()[size_t(module.input_scale)])))
        return "has a global scale that is not one F32 element";
    return {};
}

void Contents::find_modules() {
    std::string first_problem;
    uint64_t problems = 0;
    for (uint32_t t = 0; t < uses_.size(); t++) {
        for (const QuantizedNaming & naming : namings) {
            if (tensor(t).dtype != DType::u8 || !ends_with(tensor(t).name, naming.codes)) continue;
            QuantizedModule module;
            module.name = tensor(t).name.substr(0, tensor(t).name.size() - strlen(naming.codes));
            module.naming = &naming;
            module.codes = t;
            const std::string problem = find_parts(checkpoint_, module);
            if (!problem.empty()) {
                if (problems++ == 0) first_problem = printable(module.name) + " " + problem;
                continue;
            }
            const auto number = uint32_t(modules_.size());
            if (!module_by_name_.emplace(module.name, number).second) continue;
            const auto claim = [&](int64_t position, ModulePart part) {
                if (position >= 0) uses_[size_t(position)].module = number, uses_[size_t(position)].module_part = part;
            };
            claim(module.codes, ModulePart::codes);
            claim(module.block_scales, ModulePart::block_scales);
            claim(module.global_scale, ModulePart::global_scale);
            claim(module.input_scale, ModulePart::input_scale);
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
    GNV_ASSIGN(std::string text, read_file(checkpoint_.files(), config_name, max_config_bytes));
    GNV_ASSIGN(const JsonDocument config,
               JsonDocument::parse(std::move(text), join_path(checkpoint_.folder(), config_name)));
    // Every name that a tensor of the model may carry; blocks choose their layout independently of each other.
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
    const bool named_already = use.role == Role::mtp_fc || use.role == Role::mtp_norm;
    return concat(named_already ? "" : prefixes[size_t(use.part)], role_traits(use.role).name);
}

// --- Reading ----------------------------------------------------------------------------------------------------------

int64_t Contents::find_module(std::string_view name) const {
    const auto found = module_by_name_.find(std::string(name));
    return found == module_by_name_.end() ? -1 : int64_t(found->second);
}

Status Contents::read(const TensorInfo & tensor, uint64_t offset, void * data, uint64_t size) const {
    return shards_[tensor.shard]->read(data, size, tensor.offset + offset).add_context(checkpoint_.describe(tensor));
}

Result<float> Contents::read_scalar(uint32_t position) const {
    float value = 0;
    GNV_CHECK(is_scalar(tensor(position)));
    GNV_TRY(read(tensor(position), 0, &value, sizeof value));
    return value;
}

} // namespace gnv
