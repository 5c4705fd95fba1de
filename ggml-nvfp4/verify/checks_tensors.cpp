// Presence, names, dtypes and shapes: L1, L2, L5, L12.
#include "verify/checks.h"
#include "verify/loader_names.h"
#include "verify/source.h"

#include "core/strings.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace gnv::verify {

void check_files(const Context & context, Findings & findings) {
    const Reporter report(findings, "L1");
    for (const std::string & problem : context.subject.index_problems)
        report.error(index_file_name, problem,
                     "loaders look for tensors where the index says: a key error, or a stale shard",
                     "write the index again from the shards' headers");
    if (!context.subject.checkpoint) return; // reported when it was opened
    for (const std::string & note : context.subject.checkpoint->notes()) report.note("", note);
}

// --- L2 -------------------------------------------------------------------------------------------------------------------

static const char * const uninitialized = "vLLM loads without an error and leaves the parameter's memory uninitialized";
static const char * const wrong_form = "loaders stop at the shape, or convert the bytes as numbers";

// One existing tensor of a quantized module.
static void check_component(const Reporter & report, const Subject & subject, const Module & module,
                            const FormatComponent & component) {
    const TensorInfo & info = subject.info(module.tensor(component.suffix));
    if (info.dtype != component.dtype)
        report.error(info.name, concat("is ", dtype_name(info.dtype), ", must be ", dtype_name(component.dtype)),
                     "loaders take the bytes for numbers of the wrong kind: no error, wrong weights",
                     "write the tensor with the right dtype in the header");
    const std::vector<int64_t> shape = component.shape(module.rows, module.columns);
    const bool is_scalar = component.scope != FormatComponent::Scope::rows;
    if (info.shape != shape && !(is_scalar && info.shape.empty()))
        report.error(info.name, concat("has shape ", shape_text(info.shape), ", must be ", shape_text(shape)),
                     wrong_form, "quantize the module again");
}

static void check_quantized_module(const Reporter & report, const Subject & subject, const Module & module) {
    const DeclaredFormat * declared = subject.declared_format(module);
    const Format * format = declared ? declared->format : nullptr;
    std::set<std::string_view> own;
    for (const FormatComponent & component : module.format->components) {
        own.insert(component.suffix);
        const bool present = module.tensor(component.suffix) >= 0;
        const bool input = component.scope == FormatComponent::Scope::input;
        const std::string name = module.name + component.suffix;
        if (present) check_component(report, subject, module, component);
        if (!present && (!input || (format && format->takes_input_scale())))
            report.error(name, concat("is missing: ", module.name, " is quantized"), uninitialized,
                         "quantize again, or take the tensor from an intact copy");
        if (present && input && format && !format->takes_input_scale())
            report.error(name, "is there, but input_activations is null: the module is declared weight-only",
                         "vLLM stops at the unknown parameter",
                         "declare input_activations, or leave the input scales out");
    }
    for (const std::string_view suffix : tensor_suffixes())
        if (own.count(suffix) == 0 && module.tensor(suffix) >= 0)
            report.error(subject.info(module.tensor(suffix)).name, "lies beside the packed weight",
                         "vLLM stops at the unknown parameter", "remove the tensor");
    if (module.columns % module.format->block != 0)
        report.error(
            module.name,
            concat("has ", module.columns, " input features, which ", module.format->block, " does not divide"),
            wrong_form, "leave the module in the source's precision");
}

static void check_other_module(const Reporter & report, const Subject & subject, const Module & module) {
    for (const std::string_view suffix : tensor_suffixes().subspan(1)) {
        if (module.tensor(suffix) < 0) continue;
        const bool fp8 = module.stored == Stored::fp8 && (suffix == fp8_scale_suffix || suffix == fp8_input_suffix);
        if (!fp8)
            report.error(subject.info(module.tensor(suffix)).name, "lies beside a weight that is not packed",
                         "loaders stop at the unknown parameter", "remove it, or quantize the module");
    }
    if (module.stored == Stored::fp8 && module.tensor(fp8_scale_suffix) < 0)
        report.error(concat(module.name, fp8_scale_suffix), "is missing: the weight has 8 bits", uninitialized,
                     "quantize again, or take the tensor from an intact copy");
}

static void check_spec(const Reporter & report, const Subject & subject, const TensorSpec & spec, int64_t tensor,
                       const Module * module) {
    if (tensor < 0) {
        const bool elsewhere = spec.part != Part::text || spec.expert >= 0; // L11, L5
        if (!elsewhere && (!module || module->stored == Stored::absent))
            report.error(spec.name, concat("is missing; config.json calls for ", shape_text(spec.shape)), uninitialized,
                         "take it from the source");
        return;
    }
    const TensorInfo & info = subject.info(tensor);
    const bool stray = module && module->is_nvfp4();
    if (stray) return; // reported above
    if (info.shape != spec.shape)
        report.error(info.name,
                     concat("has shape ", shape_text(info.shape), ", config.json calls for ", shape_text(spec.shape)),
                     "loaders stop at the shape", "compare config.json and the tensor with the source");
    if (!is_float(info.dtype) && !(module && module->stored == Stored::fp8 && info.dtype == DType::f8_e4m3))
        report.error(info.name, concat("is ", dtype_name(info.dtype), ", expected BF16, F16 or F32"),
                     "loaders convert the bytes as numbers: no error, wrong weights",
                     "take the tensor from the source");
}

// Leftovers of other producers that loaders skip.
static bool is_skipped_by_loaders(std::string_view name) {
    for (const char * suffix : {".bias", ".k_scale", ".v_scale", ".q_scale", ".rotary_emb.inv_freq"})
        if (ends_with(name, suffix)) return true;
    return false;
}

static bool is_part_name(std::string_view name) {
    const std::string_view rest = without_prefixes(name);
    return starts_with(rest, "mtp.") || starts_with(rest, "visual.");
}

void check_tensor_forms(const Context & context, Findings & findings) {
    const Reporter report(findings, "L2");
    const Subject & subject = context.subject;
    std::map<std::string_view, const Module *> by_name;
    for (const Module & module : subject.modules) {
        by_name[module.name] = &module;
        if (module.is_nvfp4()) {
            check_quantized_module(report, subject, module);
        } else if (module.stored != Stored::absent) {
            check_other_module(report, subject, module);
        }
    }
    for (size_t i = 0; i < subject.specs.size(); i++) {
        const TensorSpec & spec = subject.specs[i];
        const auto module = by_name.find(std::string_view(spec.name).substr(0, spec.name.rfind('.')));
        check_spec(report, subject, spec, subject.spec_tensors[i], module == by_name.end() ? nullptr : module->second);
    }
    for (const uint32_t tensor : subject.unknown_tensors) {
        const std::string & name = subject.info(tensor).name;
        if (is_expert_name(name) || is_part_name(name)) continue; // L5, L11
        if (is_skipped_by_loaders(name)) {
            report.warning(name, "config.json does not call for it", "loaders skip it", "remove the tensor");
        } else if (context.source && context.source->checkpoint.find(name) >= 0) {
            // The load ends all the same, and that of the source with it.
            report.error(name, "config.json does not call for it, nor does that of the source, which has it too",
                         "vLLM stops at the unknown parameter, with the source as well",
                         "remove the tensor from the source, or correct its name there, and quantize again");
        } else {
            report.error(name, "config.json does not call for it", "vLLM stops at the unknown parameter",
                         "remove the tensor, or correct its name");
        }
    }
}

// --- L5 -------------------------------------------------------------------------------------------------------------------

// The name of the layer's experts, "model.language_model.layers.3.mlp.experts"
static std::string experts_of(const Module & module) {
    return module.name.substr(0, module.name.rfind(".experts.") + 8);
}

static void check_layer_experts(const Reporter & report, const std::vector<const Module *> & modules) {
    const auto absent = [](const Module * module) { return module->stored == Stored::absent; };
    const std::string layer = experts_of(*modules.front());
    const auto missing = std::count_if(modules.begin(), modules.end(), absent);
    if (missing == std::ptrdiff_t(modules.size())) {
        report.error(layer, concat("none of the ", modules.size(), " expert projections is there"),
                     "vLLM leaves the experts' memory uninitialized, without an error",
                     "quantize again from the source");
        return;
    }
    const auto first = std::find_if_not(modules.begin(), modules.end(), absent);
    for (const Module * module : modules) {
        if (absent(module)) {
            report.error(module->name, "is missing", uninitialized, "quantize again from the source");
        } else if (module->part != Part::mtp && module->in_fused_tensor != (*first)->in_fused_tensor) { // else L11
            report.error(
                module->name,
                concat("is stored otherwise than ", (*first)->name, ": one by one, or in a tensor of all experts"),
                "loaders settle on one form and leave out or overwrite the other", "keep the source's form");
        } else if (module->stored != (*first)->stored) {
            report.error(module->name, concat("is stored otherwise than ", (*first)->name),
                         "loaders read all experts of a layer under one scheme: an error, or memory left uninitialized",
                         "store all experts of the layer alike");
        }
    }
}

static void check_unknown_expert(const Reporter & report, const TensorInfo & info, int64_t expert_count) {
    const std::string_view name = info.name;
    const std::string_view rest = name.substr(name.find(".mlp.experts.") + 13);
    const bool numbered = !rest.empty() && isdigit(static_cast<unsigned char>(rest[0]));
    if (numbered && std::atoll(std::string(rest.substr(0, 12)).c_str()) >= expert_count) {
        report.warning(info.name, concat("belongs to an expert beyond the ", expert_count, " of config.json"),
                       "loaders skip it without a word", "correct num_experts, or remove the tensor");
    } else if (numbered) {
        report.error(info.name, "is no tensor of an expert", "vLLM stops at the unknown parameter",
                     "remove the tensor");
    } else if ((starts_with(rest, "gate_up_proj") || starts_with(rest, "down_proj")) &&
               rest.find('.') == std::string_view::npos) {
        report.error(info.name, "holds all experts in one tensor: they were not quantized one by one",
                     "loaders read this form in BF16 only; its NVFP4 scales are dropped",
                     "split the experts before quantizing");
    } else {
        report.error(info.name, "is not named experts.<number>.<projection>", "loaders stop at the unknown parameter",
                     "rename it: the number comes before the projection");
    }
}

void check_experts(const Context & context, Findings & findings) {
    const Reporter report(findings, "L5");
    const Subject & subject = context.subject;
    std::map<std::pair<Part, int32_t>, std::vector<const Module *>> layers;
    int64_t expert_count = 0;
    for (const Module & module : subject.modules) {
        if (module.expert < 0) continue;
        expert_count = std::max<int64_t>(expert_count, module.expert + 1);
        if (subject.has_part[size_t(module.part)]) layers[{module.part, module.layer}].push_back(&module);
    }
    for (const auto & [place, modules] : layers) check_layer_experts(report, modules);
    const bool has_draft = subject.announces_part[size_t(Part::mtp)]; // else L11 speaks of its tensors
    for (const uint32_t tensor : subject.unknown_tensors)
        if (is_expert_name(subject.info(tensor).name) &&
            (has_draft || !starts_with(without_prefixes(subject.info(tensor).name), "mtp.")))
            check_unknown_expert(report, subject.info(tensor), expert_count);
}

// --- L12 ------------------------------------------------------------------------------------------------------------------

void check_prefixes(const Context & context, Findings & findings) {
    struct Seen {
        uint64_t count = 0;
        const Misnamed * first = nullptr;
    };
    std::map<std::string, Seen> by_prefix;
    for (const Misnamed & misnamed : context.subject.misnamed) {
        const std::string & name = context.subject.info(misnamed.tensor).name;
        Seen & seen = by_prefix[name.substr(0, name.size() - without_prefixes(name).size())];
        if (seen.count++ == 0) seen.first = &misnamed;
    }
    for (const auto & [prefix, seen] : by_prefix)
        Reporter(findings, "L12")
            .error(context.subject.info(seen.first->tensor).name,
                   concat(count_text(seen.count), seen.count == 1 ? " tensor starts" : " tensors start", " with \"",
                          printable(prefix), "\"; the first should be ", seen.first->expected),
                   prefix.find("language_model.language_model") != std::string::npos ||
                           prefix.find("model.model") != std::string::npos
                       ? "vLLM strips a doubled prefix; other loaders find no such parameter"
                       : "loaders stop, or leave the parameters uninitialized",
                   "rename the tensors");
}

} // namespace gnv::verify
