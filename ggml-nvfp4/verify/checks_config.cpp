// config.json and sizes: L10, L13, L15.
#include "verify/checks.h"

#include "core/strings.h"

#include <algorithm>
#include <map>

namespace gnv::verify {

// Reading the config makes most findings of L10; the rest needs the modules.
void check_config(const Context & context, Findings & findings) {
    const Subject & subject = context.subject;
    if (!subject.known_model || subject.quantization.empty()) return;
    const Reporter report(findings, "L10");
    const std::vector<ConfigGroup> & groups = subject.config_groups().groups;
    for (size_t g = 0; g < groups.size(); g++) {
        const bool used = std::any_of(subject.modules.begin(), subject.modules.end(),
                                      [&](const Module & module) { return module.declared.front() == int(g); });
        if (!used)
            report.warning(concat("quantization_config.config_groups.", printable(groups[g].name, 60)),
                           "matches no module", "loaders ignore the group", "correct its targets, or remove it");
    }
}

// --- L13 ------------------------------------------------------------------------------------------------------------------

// The division of a Linear among devices in a loader.
enum class Cut : uint8_t { none, rows, columns };
static Cut cut_of(Role role) {
    switch (role) {
    case Role::attention_q:
    case Role::linear_attention_in_qkv:
    case Role::linear_attention_in_z:
    case Role::expert_gate:
    case Role::expert_up:
    case Role::shared_expert_gate_proj:
    case Role::shared_expert_up:
    case Role::mlp_gate:
    case Role::mlp_up: return Cut::rows;
    case Role::attention_o:
    case Role::linear_attention_out:
    case Role::expert_down:
    case Role::shared_expert_down:
    case Role::mlp_down: return Cut::columns;
    default: return Cut::none; // whole on every device; k and v are repeated for few heads
    }
}

void check_tensor_parallel(const Context & context, Findings & findings) {
    const Reporter report(findings, "L13");
    for (const int64_t devices : {2, 4, 8}) {
        std::map<Role, const Module *> unfit;
        for (const Module & module : context.subject.modules) {
            if (!module.is_nvfp4()) continue;
            const Cut cut = cut_of(module.role);
            if ((cut == Cut::rows && module.rows % devices != 0) ||
                (cut == Cut::columns && module.columns % (16 * devices) != 0))
                unfit.emplace(module.role, &module);
        }
        for (const auto & [role, module] : unfit)
            report.note(module->name, concat("does not divide among ", devices,
                                             " devices: ", cut_of(role) == Cut::rows ? "output" : "input", " features ",
                                             cut_of(role) == Cut::rows ? module->rows : module->columns,
                                             "; loaders refuse tensor parallelism of ", devices));
    }
}

// --- L15 ------------------------------------------------------------------------------------------------------------------

static const char * const model_opt_repair = "convert it to compressed-tensors: rename the tensors and store "
                                             "reciprocals, since ModelOpt's scales are multipliers";

void check_foreign_format(const Context & context, Findings & findings) {
    const Reporter report(findings, "L15");
    const Subject & subject = context.subject;
    if (!subject.quantization.empty() && starts_with(subject.config_groups().method, "modelopt"))
        report.error("quantization_config.quant_method", "says that this is a ModelOpt checkpoint",
                     "compressed-tensors loaders refuse it", model_opt_repair);
    if (std::any_of(subject.files.begin(), subject.files.end(),
                    [](const DirectoryEntry & file) { return file.name == "hf_quant_config.json"; }))
        report.error("hf_quant_config.json", "is ModelOpt's description of its own format",
                     "loaders that see it read the tensors by ModelOpt's rules", model_opt_repair);
    if (!subject.checkpoint) return;
    uint64_t count = 0;
    const TensorInfo * first = nullptr;
    for (const TensorInfo & tensor : subject.checkpoint->tensors()) {
        if (!ends_with(tensor.name, ".weight_scale_2")) continue;
        if (count++ == 0) first = &tensor;
    }
    if (count > 0)
        report.error(first->name,
                     concat("is named as ModelOpt names its global scales (", count_text(count), " of them)"),
                     "compressed-tensors loaders stop at the unknown parameter", model_opt_repair);
}

} // namespace gnv::verify
