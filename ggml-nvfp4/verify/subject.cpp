#include "verify/subject.h"

#include "core/strings.h"
#include "verify/loader_names.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

namespace gnv::verify {

std::span<const std::string_view> tensor_suffixes() {
    static const std::vector<std::string_view> suffixes = [] {
        std::vector<std::string_view> list = {weight_suffix};
        const auto add = [&](std::string_view suffix) {
            if (std::find(list.begin(), list.end(), suffix) == list.end()) list.push_back(suffix);
        };
        for (const Format * const format : all_formats())
            for (const FormatComponent & component : format->components) add(component.suffix);
        add(fp8_input_suffix);
        GNV_CHECK(list.size() <= most_suffixes);
        return list;
    }();
    return suffixes;
}

size_t suffix_number(std::string_view suffix) {
    const std::span<const std::string_view> all = tensor_suffixes();
    const auto found = std::find(all.begin(), all.end(), suffix);
    GNV_CHECK(found != all.end());
    return size_t(found - all.begin());
}

bool is_machine_failure(const Status & status) {
    return status.code() == Code::io || status.code() == Code::out_of_memory || status.code() == Code::internal ||
           status.code() == Code::no_space || status.code() == Code::device || status.code() == Code::changed ||
           status.code() == Code::cancelled;
}

std::string message_about(const Status & status, const std::string & subject) {
    const std::string prefix = subject + ": ";
    return starts_with(status.message(), prefix) ? status.message().substr(prefix.size()) : status.message();
}

const DeclaredFormat * Subject::declared_format(const Module & module) const {
    if (module.declared.empty() || module.declared.front() == undeclared) return nullptr;
    return &config_groups().groups[size_t(module.declared.front())].declares;
}

namespace {

using NameIndex = std::unordered_map<std::string_view, uint32_t>;

class SubjectReader {
  public:
    explicit SubjectReader(Findings & findings) : findings_(findings) {}
    Result<Subject> read(std::shared_ptr<const Folder> folder);

  private:
    Status read_config();
    Status read_headers();
    Status list_model();
    Status list_specs(const JsonValue & config);
    void add_modules(const std::vector<TensorSpec> & split);
    void assign_tensors();
    bool assign(uint32_t tensor, std::string_view name);
    bool assign_misnamed(uint32_t tensor);
    std::vector<TensorSpec> choose_forms(std::vector<TensorSpec> split, std::vector<TensorSpec> fused) const;
    bool has_module(const TensorSpec & weight) const;
    bool declares(const TensorSpec & weight) const;
    void find_fused_experts();
    void find_fused_groups();
    void classify();
    Status declare();
    bool has_tensor(const std::string & name) const { return out_.checkpoint->find(name) >= 0; }
    // What the draft head's router says of its experts; 0 where there is none.
    int64_t draft_experts() const {
        const int64_t router = out_.checkpoint->find("mtp.layers.0.mlp.gate.weight");
        const bool usable = router >= 0 && out_.info(router).shape.size() == 2;
        const int64_t count = usable ? out_.info(router).shape[0] : 0;
        constexpr int64_t most = 1 << 13; // as config.json may say
        return count <= most ? count : 0;
    }

    Findings & findings_;
    Subject out_;
    NameIndex spec_names_, module_names_; // views into out_, made after it has its final size
};

Result<Subject> SubjectReader::read(std::shared_ptr<const Folder> folder) {
    out_.folder = std::move(folder);
    GNV_ASSIGN(out_.files, out_.folder->list());
    const auto present = [&](const auto & wanted) { return std::any_of(out_.files.begin(), out_.files.end(), wanted); };
    if (!present([](const DirectoryEntry & entry) {
            return entry.name == "config.json" || ends_with(entry.name, ".safetensors");
        }))
        return fail(Code::not_found, out_.folder->path(),
                    " holds neither config.json nor safetensors files: it is no checkpoint");
    GNV_TRY(read_config());
    GNV_TRY(read_headers());
    if (out_.config && out_.checkpoint) GNV_TRY(list_model());
    return std::move(out_);
}

Status SubjectReader::read_config() {
    Result<std::string> text = read_config_text(*out_.folder);
    if (!text.ok() && is_machine_failure(text.status())) return text.take_status();
    Status problem = text.ok() ? Status() : text.take_status();
    if (problem.ok()) {
        out_.config_text = text.take();
        Result<JsonDocument> document = JsonDocument::parse(out_.config_text, "config.json", JsonKeys::last_wins);
        if (document.ok()) {
            out_.config = document.take();
        } else if (is_machine_failure(document.status())) {
            return document.take_status();
        } else {
            problem = document.take_status();
        }
    }
    if (!out_.config) {
        findings_.add({"L10", Severity::error, "config.json", message_about(problem, "config.json"),
                       "no loader can start", "copy config.json from where the checkpoint was made"});
        return {};
    }
    for (const NameSpace & space : name_spaces()) {
        Findings repeated; // the same findings for the other name spaces
        GNV_ASSIGN(
            QuantizationConfig config,
            read_quantization_config(out_.config->root(), space, out_.quantization.empty() ? findings_ : repeated));
        out_.quantization.push_back(std::move(config));
    }
    return {};
}

Status SubjectReader::read_headers() {
    Result<Checkpoint> checkpoint = Checkpoint::open(out_.folder, &out_.index_problems);
    if (checkpoint.ok()) {
        out_.checkpoint = checkpoint.take();
        return {};
    }
    if (is_machine_failure(checkpoint.status())) return checkpoint.take_status();
    findings_.add({"L1", Severity::error, "safetensors files", checkpoint.status().message(),
                   "loaders stop with an error, or read beyond the data", "copy or download the file again"});
    return {};
}

Status SubjectReader::list_model() {
    const Status listed = list_specs(out_.config->root());
    if (!listed.ok()) {
        if (is_machine_failure(listed)) return copy_of(listed);
        findings_.add({"L10", Severity::error, "config.json", message_about(listed, "config.json"),
                       "loaders stop at it, or build a model that the tensors do not fit",
                       "compare it with the config.json of the model that was quantized"});
        return {};
    }
    out_.known_model = true;
    assign_tensors();
    find_fused_experts();
    find_fused_groups();
    classify();
    return declare();
}

// --- Required by config.json ----------------------------------------------------------------------------------------------

Status SubjectReader::list_specs(const JsonValue & config) {
    JsonValue nested;
    LayoutChoice split;
    split.fused_experts = split.fused_mtp_experts = false;
    split.nested_prefix = config.find("text_config", nested);
    split.draft_experts = draft_experts();
    split.with_tied_head = has_tensor("lm_head.weight");
    GNV_ASSIGN(std::vector<TensorSpec> specs, list_tensors(config, split));
    add_modules(specs);

    LayoutChoice fused = split;
    fused.fused_experts = fused.fused_mtp_experts = true;
    GNV_ASSIGN(std::vector<TensorSpec> fused_specs, list_tensors(config, fused));
    out_.specs = choose_forms(std::move(specs), std::move(fused_specs));
    out_.spec_tensors.assign(out_.specs.size(), -1);
    for (const TensorSpec & spec : out_.specs) out_.announces_part[size_t(spec.part)] = true;
    return {};
}

// Whether a tensor of the Linear whose weight this is exists, in any form.
bool SubjectReader::has_module(const TensorSpec & weight) const {
    const std::string name = weight.name.substr(0, weight.name.rfind('.'));
    return std::any_of(tensor_suffixes().begin(), tensor_suffixes().end(),
                       [&](std::string_view suffix) { return has_tensor(concat(name, suffix)); });
}

// Whether config.json calls for a quantized module of this name, as far as that can be told.
bool SubjectReader::declares(const TensorSpec & weight) const {
    if (!out_.config_groups().usable()) return true;
    uint64_t budget = pattern_budget / 100; // of each block
    const std::string name = weight.name.substr(0, weight.name.rfind('.'));
    const Result<int> group = out_.config_groups().declared(name_spaces()[0].map(name), budget);
    return !group.ok() || group.value() != undeclared;
}

// The experts of the draft head, and those of a block that are not to be quantized, may be stored in one tensor per projection,
// as in the source: the form with more of its tensors counts.
std::vector<TensorSpec> SubjectReader::choose_forms(std::vector<TensorSpec> split,
                                                    std::vector<TensorSpec> fused) const {
    using Block = std::pair<Part, int32_t>;
    std::map<Block, int64_t> lead; // of the fused form
    for (const TensorSpec & spec : fused)
        if (is_expert_name(spec.name) && has_tensor(spec.name)) lead[{spec.part, spec.layer}]++;
    std::set<Block> asked;
    for (const TensorSpec & spec : split) {
        const Block place = {spec.part, spec.layer};
        const auto block = lead.find(place);
        if (block == lead.end() || !is_expert_name(spec.name)) continue;
        if (spec.part != Part::mtp && asked.insert(place).second && declares(spec)) {
            lead.erase(block);
        } else if (has_module(spec)) {
            block->second--;
        }
    }
    const auto is_fused = [&](const TensorSpec & spec) {
        const auto block = lead.find({spec.part, spec.layer});
        return block != lead.end() && block->second > 0 && is_expert_name(spec.name);
    };
    std::erase_if(split, is_fused);
    std::erase_if(fused, [&](const TensorSpec & spec) { return !is_fused(spec); });
    split.insert(split.end(), std::make_move_iterator(fused.begin()), std::make_move_iterator(fused.end()));
    return split;
}

void SubjectReader::add_modules(const std::vector<TensorSpec> & split) {
    const std::string_view suffix = weight_suffix;
    for (const TensorSpec & spec : split) {
        if (!role_traits(spec.role).is_linear || !ends_with(spec.name, suffix)) continue;
        Module module;
        module.name = spec.name.substr(0, spec.name.size() - suffix.size());
        module.role = spec.role;
        module.part = spec.part;
        module.layer = spec.layer, module.expert = spec.expert;
        module.rows = spec.shape[0], module.columns = spec.shape[1];
        module.tensors.fill(-1);
        out_.modules.push_back(std::move(module));
    }
}

// --- Existing tensors -------------------------------------------------------------------------------------------------------

void SubjectReader::assign_tensors() {
    for (uint32_t i = 0; i < out_.specs.size(); i++) spec_names_.emplace(out_.specs[i].name, i);
    for (uint32_t i = 0; i < out_.modules.size(); i++) module_names_.emplace(out_.modules[i].name, i);
    for (uint32_t i = 0; i < out_.checkpoint->tensors().size(); i++)
        if (!assign(i, out_.checkpoint->tensors()[i].name) && !assign_misnamed(i)) out_.unknown_tensors.push_back(i);
}

// Assigns tensor number `tensor` by its (perhaps corrected) name; false if the name is unknown, or taken.
bool SubjectReader::assign(uint32_t tensor, std::string_view name) {
    const auto spec = spec_names_.find(name);
    const size_t dot = name.rfind('.');
    const auto module = dot == std::string_view::npos ? module_names_.end() : module_names_.find(name.substr(0, dot));
    bool known = false;
    if (spec != spec_names_.end() && out_.spec_tensors[spec->second] < 0) {
        out_.spec_tensors[spec->second] = tensor;
        out_.has_part[size_t(out_.specs[spec->second].part)] = known = true;
    }
    if (module == module_names_.end()) return known;
    for (size_t s = 0; s < tensor_suffixes().size(); s++) {
        int64_t & slot = out_.modules[module->second].tensors[s];
        if (name.substr(dot) != tensor_suffixes()[s] || slot >= 0) continue;
        slot = tensor;
        out_.has_part[size_t(out_.modules[module->second].part)] = known = true;
    }
    return known;
}

bool SubjectReader::assign_misnamed(uint32_t tensor) {
    const std::string & name = out_.checkpoint->tensors()[tensor].name;
    const std::string rest(without_prefixes(name));
    for (const char * prefix : {"model.language_model.", "model.", ""}) {
        const std::string candidate = prefix + rest;
        if (candidate == name || has_tensor(candidate) || !assign(tensor, candidate)) continue;
        out_.misnamed.push_back({tensor, candidate});
        return true;
    }
    return false;
}

void SubjectReader::find_fused_experts() {
    for (Module & module : out_.modules) {
        if (module.expert < 0) continue;
        const size_t experts = module.name.find(".experts.");
        const char * fused = module.role == Role::expert_down ? "down_proj" : "gate_up_proj";
        const auto spec = spec_names_.find(module.name.substr(0, experts + 9) + fused);
        if (spec == spec_names_.end() || out_.spec_tensors[spec->second] < 0) continue;
        if (module.weight() >= 0) {
            if (module.part == Part::mtp) out_.mixed_draft_experts = true;
            continue;
        }
        module.tensors[suffix_number(weight_suffix)] = out_.spec_tensors[spec->second];
        module.in_fused_tensor = true;
    }
}

void SubjectReader::find_fused_groups() {
    std::map<std::tuple<Part, int32_t, int32_t, int>, int32_t> groups; // part, layer, expert, parameter -> group
    for (uint32_t i = 0; i < out_.modules.size(); i++) {
        Module & module = out_.modules[i];
        const int parameter = fused_parameter_of(module.role);
        if (parameter < 0) continue;
        const auto [group, inserted] = groups.emplace(std::tuple(module.part, module.layer, module.expert, parameter),
                                                      int32_t(out_.fused_groups.size()));
        if (inserted) out_.fused_groups.push_back({parameter, {}});
        module.fused = group->second;
        out_.fused_groups[size_t(module.fused)].modules.push_back(i);
    }
}

// --- How modules are stored and declared --------------------------------------------------------------------------------------

// Whether a component of a module has the dtype and shape of its format; scalars may have any rank.
static bool has_form(const Module & module, const FormatComponent & component, const TensorInfo & info) {
    if (info.dtype != component.dtype) return false;
    if (component.scope != FormatComponent::Scope::rows) return info.elements() == 1;
    return info.shape == component.shape(module.rows, module.columns);
}

void SubjectReader::classify() {
    for (Module & module : out_.modules) {
        for (const Format * const format : all_formats()) {
            if (module.format || (module.weight() >= 0 && module.tensor(format->components[0].suffix) < 0)) continue;
            for (const FormatComponent & component : format->components)
                if (module.tensor(component.suffix) >= 0) module.format = format;
        }
        if (module.format) {
            module.stored = Stored::nvfp4;
        } else if (module.weight() >= 0) {
            module.stored = dtype_traits(out_.info(module.weight()).dtype).bits == 8 ? Stored::fp8 : Stored::plain;
        }
        if (!module.format || module.columns % module.format->block != 0) continue;
        module.complete = true;
        for (const FormatComponent & component : module.format->components) {
            if (component.scope == FormatComponent::Scope::input) continue;
            const int64_t tensor = module.tensor(component.suffix);
            if (tensor < 0 || !has_form(module, component, out_.info(tensor))) module.complete = false;
        }
    }
}

Status SubjectReader::declare() {
    for (Module & module : out_.modules) module.declared.assign(name_spaces().size(), undeclared);
    uint64_t budget = pattern_budget;
    for (size_t s = 0; s < name_spaces().size() && out_.config_groups().usable(); s++) {
        for (Module & module : out_.modules) {
            Result<int> group = out_.quantization[s].declared(name_spaces()[s].map(module.name), budget);
            if (!group.ok() && is_machine_failure(group.status())) return group.take_status();
            if (group.ok()) {
                module.declared[s] = group.value();
                continue;
            }
            out_.quantization.front().too_costly = true;
            findings_.add({"L10", Severity::error, "quantization_config", group.status().message(),
                           "which modules are declared cannot be told in a sensible time; loaders may hang",
                           "write expressions without nested repetitions, fewer of them, or names"});
            break;
        }
    }
    return {};
}

} // namespace

Result<Subject> read_subject(std::shared_ptr<const Folder> folder, Findings & findings) {
    return SubjectReader(findings).read(std::move(folder));
}

} // namespace gnv::verify
