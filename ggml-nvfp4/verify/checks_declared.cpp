// Declared against stored, in every loader's name space: L3, L4, L11.
#include "verify/checks.h"
#include "verify/loader_names.h"
#include "verify/source.h"

#include "core/strings.h"

#include <unordered_set>

namespace gnv::verify {

// Modules that loaders build without the config: a wrong declaration misleads other loaders.
static bool is_built_plain(Role role) {
    return role == Role::lm_head || role == Role::router || role == Role::shared_expert_gate;
}

// Whether group `declared` of the config fits how a module is stored.
static bool fits(const Subject & subject, const Module & module, int declared) {
    if (declared == undeclared) return module.stored == Stored::plain;
    const DeclaredFormat & declares = subject.config_groups().groups[size_t(declared)].declares;
    if (declares.is_fp8) return module.stored == Stored::fp8;
    if (!declares.format) return true; // unknown
    return module.format && std::string_view(module.format->codec) == declares.format->codec;
}

static const char * stored_text(const Module & module) {
    static const char * const texts[] = {"absent", "stored in the source's precision", "stored as NVFP4",
                                         "stored as FP8"};
    return texts[size_t(module.stored)];
}

static std::string declared_text(const Subject & subject, int declared) {
    if (declared == undeclared) return "ignored";
    const ConfigGroup & group = subject.config_groups().groups[size_t(declared)];
    return concat("declared ", group.declares.description(), " by ", printable(group.name, 60));
}

// The loaders for which the declaration does not fit, the checkpoint's own name space first; "" for none.
static std::string misfits(const Subject & subject, const Module & module) {
    std::string loaders;
    for (size_t s = 0; s < name_spaces().size(); s++) {
        if (fits(subject, module, module.declared[s])) continue;
        loaders += (loaders.empty() ? "" : ", ") + std::string(name_spaces()[s].loader);
    }
    return loaders;
}

static int first_misfit(const Subject & subject, const Module & module) {
    for (const int declared : module.declared)
        if (!fits(subject, module, declared)) return declared;
    return undeclared;
}

static void report_misfit(const Reporter & report, const Subject & subject, const Module & module, Severity severity,
                          const char * effect) {
    const int declared = first_misfit(subject, module);
    const bool own = !fits(subject, module, module.declared.front());
    report.add(severity, module.name,
               concat("is ", stored_text(module), ", but ", declared_text(subject, declared),
                      own ? "" : " in the names of ", own ? "" : misfits(subject, module)),
               effect,
               declared == undeclared
                   ? "take it off the ignore list, or add it to a group's targets"
                   : "add it to the ignore list; a pattern that starts with re:.* holds in every name space");
}

// A smaller share of the weights in the text model's Linears means that large modules were skipped.
static constexpr double least_share = 0.25;

static void check_share(const Reporter & report, const Subject & subject) {
    double weights = 0, quantized = 0;
    for (const Module & module : subject.modules) {
        if (module.part != Part::text) continue;
        const double count = double(module.rows) * double(module.columns);
        weights += count;
        if (module.is_nvfp4() || module.stored == Stored::fp8) quantized += count;
    }
    if (quantized < least_share * weights)
        report.warning("quantization_config.ignore",
                       concat("leaves all but ", int(100 * quantized / weights),
                              " % of the weights in the text model's Linears as they are"),
                       "loaders load it; it is hardly smaller than its source", "see in the table what was skipped");
}

void check_declared(const Context & context, Findings & findings) {
    const Reporter report(findings, "L3");
    const Subject & subject = context.subject;
    check_share(report, subject);
    for (const Module & module : subject.modules) {
        if (module.part == Part::mtp || module.stored == Stored::absent) continue; // L11, L2, L5
        const bool own_fits = fits(subject, module, module.declared.front());
        if (is_built_plain(module.role)) {
            if (own_fits && !module.is_nvfp4()) continue;
            report_misfit(report, subject, module, module.is_nvfp4() ? Severity::error : Severity::warning,
                          module.is_nvfp4()
                              ? "loaders build this module in the source's precision and stop at its packed tensors"
                              : "vLLM builds it plain all the same; other loaders look for packed tensors");
        } else if (misfits(subject, module).empty()) {
            continue;
        } else if (module.is_nvfp4() && module.expert > 0) {
            report_misfit(report, subject, module, Severity::warning,
                          "vLLM asks for expert 0 alone and loads it; other loaders take the config at its word");
        } else {
            report_misfit(report, subject, module, Severity::error,
                          module.is_nvfp4()
                              ? "loaders build a plain module and stop at its packed tensors"
                              : "loaders wait for packed tensors: a missing parameter, or uninitialized memory");
        }
    }
}

// --- L4 -------------------------------------------------------------------------------------------------------------------

// Loaders treat groups of one scheme as one; "ignored" is a scheme of its own.
static bool declared_alike(const Subject & subject, const Module & a, const Module & b) {
    for (size_t s = 0; s < a.declared.size(); s++) {
        if (a.declared[s] == b.declared[s]) continue;
        if (a.declared[s] == undeclared || b.declared[s] == undeclared) return false;
        const std::vector<ConfigGroup> & groups = subject.config_groups().groups;
        if (groups[size_t(a.declared[s])].declares != groups[size_t(b.declared[s])].declares) return false;
    }
    return true;
}

void check_fused_parameters(const Context & context, Findings & findings) {
    const Reporter report(findings, "L4");
    const Subject & subject = context.subject;
    for (const FusedGroup & group : subject.fused_groups) {
        const Module & first = subject.modules[group.modules.front()];
        const char * parameter = fused_parameters()[size_t(group.parameter)].name;
        for (size_t i = 1; i < group.modules.size(); i++) {
            const Module & other = subject.modules[group.modules[i]];
            const bool both = first.stored != Stored::absent && other.stored != Stored::absent;
            if (both && first.stored != other.stored) {
                report.error(other.name,
                             concat("is ", stored_text(other), ", ", first.name, " is ", stored_text(first),
                                    "; loaders fuse them into ", parameter),
                             "the model cannot be built", "quantize or ignore both");
            } else if (!declared_alike(subject, first, other)) {
                report.error(
                    other.name,
                    concat("and ", first.name, " are declared differently; loaders fuse them into ", parameter),
                    "the model cannot be built", "let targets and ignore list treat both alike");
            }
        }
    }
}

// --- L11 ------------------------------------------------------------------------------------------------------------------

struct PartNames {
    Part part;
    const char * what;
    const char * without; // the effect if config.json requires it and no tensor exists
};
static const PartNames part_names[] = {
    {Part::vision, "vision tower", "vLLM leaves the vision tower's memory uninitialized, without an error"},
    {Part::mtp, "draft head", "speculative decoding is lost; engines asked for it use uninitialized memory"},
};

// The tensors of one part, name by name.
static void check_part(const Reporter & report, const Subject & subject, const PartNames & names) {
    std::unordered_set<std::string> packed; // weights that other tensors replace
    for (const Module & module : subject.modules)
        if (module.part == names.part && module.is_nvfp4()) packed.insert(module.name + ".weight");
    for (size_t i = 0; i < subject.specs.size(); i++) {
        const TensorSpec & spec = subject.specs[i];
        if (spec.part != names.part || subject.spec_tensors[i] >= 0 || packed.count(spec.name)) continue;
        report.error(spec.name, concat("is missing from the ", names.what),
                     "vLLM loads without an error and leaves the parameter's memory uninitialized",
                     "take it from the source");
    }
}

// An error where the source has the part. Where it has none either, the loss is older. Without a source we cannot tell, and
// producers drop the draft head knowingly.
static void report_missing_part(const Reporter & report, const Context & context, const PartNames & names) {
    const bool is_draft = names.part == Part::mtp;
    const bool in_source =
        context.source && (is_draft ? context.source->layout.has_mtp : context.source->layout.has_vision);
    const bool is_older = context.source && !in_source;
    report.add(in_source || (!context.source && !is_draft) ? Severity::error : Severity::warning, names.what,
               concat("config.json announces a ", names.what, ", but none of its tensors is there",
                      is_older ? ", nor in the source" : ""),
               names.without,
               is_older ? "take them from the model that the source was trained from, or correct config.json"
                        : "copy its tensors from the source");
}

void check_parts(const Context & context, Findings & findings) {
    const Reporter report(findings, "L11");
    const Subject & subject = context.subject;
    for (const PartNames & names : part_names) {
        if (!subject.announces_part[size_t(names.part)]) continue;
        if (subject.has_part[size_t(names.part)]) {
            check_part(report, subject, names);
        } else {
            report_missing_part(report, context, names);
        }
    }
    if (subject.mixed_draft_experts)
        report.error("draft head", "holds its experts twice, in one tensor for each projection and one by one",
                     "loaders settle on one form and leave out or overwrite the other", "keep the source's form");
    for (const Module & module : subject.modules) {
        if (module.part != Part::mtp || module.stored == Stored::absent) continue;
        if (module.is_nvfp4() && is_built_plain(module.role))
            report.error(module.name, "is stored as NVFP4",
                         "loaders build this module in the source's precision and stop at its packed tensors",
                         "take its weight from the source, and add it to the ignore list by a pattern");
        if (module.is_nvfp4() && module.role == Role::mtp_fc)
            report.warning(module.name, "is stored as NVFP4",
                           "vLLM builds it as declared; SGLang builds it plain and leaves it uninitialized",
                           "take its weight from the source, and add it to the ignore list by a pattern");
        if (misfits(subject, module).empty()) continue;
        report_misfit(report, subject, module, Severity::error,
                      "loaders stop, or leave the draft head uninitialized; names do not reach it, only patterns do");
    }
    size_t switched_off = 0; // tensors of a draft head that config.json has none of
    for (const uint32_t tensor : subject.unknown_tensors) {
        const std::string & name = subject.info(tensor).name;
        const std::string_view rest = without_prefixes(name);
        const bool draft = starts_with(rest, "mtp.");
        if (draft && !subject.announces_part[size_t(Part::mtp)]) {
            switched_off++;
            continue;
        }
        if ((!draft && !starts_with(rest, "visual.")) || name.find(".mlp.experts.") != std::string::npos) continue;
        report.add(draft ? Severity::warning : Severity::error, name,
                   concat("belongs to a ", draft ? "draft head" : "vision tower",
                          " in a form that config.json does not call for"),
                   draft ? "loaders skip it, or stop when the draft head is used"
                         : "loaders stop at the unknown parameter",
                   "correct config.json, or remove the tensor");
    }
    if (switched_off > 0)
        report.note("draft head",
                    concat("is switched off in config.json (mtp_num_hidden_layers is 0); loaders skip its ",
                           switched_off, " tensors"));
}

} // namespace gnv::verify
