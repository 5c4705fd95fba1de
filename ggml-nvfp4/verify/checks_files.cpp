// Files beside the weights: L14.
#include "verify/auxiliary.h"
#include "verify/checks.h"

#include "core/strings.h"

#include <algorithm>

namespace gnv::verify {

static const char * const copy_repair = "copy the file from the source";

static const char * missing_effect(AuxiliaryKind kind) {
    switch (kind) {
    case AuxiliaryKind::tokenizer:
    case AuxiliaryKind::tokenizer_config: return "engines cannot build the tokenizer";
    case AuxiliaryKind::tokenizer_part: return "some tokenizers are built from it";
    case AuxiliaryKind::chat_template: return "chat requests are refused, or use another template";
    case AuxiliaryKind::preprocessor: return "engines do not start a multimodal checkpoint without it";
    case AuxiliaryKind::generation: return "engines sample with other defaults, and stop at other tokens";
    }
    return "";
}

static std::string key_list(const AuxiliaryFile & file) {
    std::string out;
    for (const std::string & key : file.keys) out += (out.empty() ? " (" : ", ") + key;
    return out.empty() ? "" : out + ")";
}

static void check_missing(const Reporter & report, const AuxiliaryFiles & all, const AuxiliaryFile & file,
                          bool has_vision) {
    const bool preprocessor = file.kind == AuxiliaryKind::preprocessor;
    if (preprocessor && !has_vision) return;
    // Newer tools write one processor_config.json in place of the others.
    const bool replaced = (preprocessor && all["processor_config.json"].present) ||
                          (file.kind == AuxiliaryKind::chat_template && all.template_in_tokenizer_config) ||
                          (file.kind == AuxiliaryKind::tokenizer_part && all["tokenizer.json"].present);
    if (replaced) {
        report.note(file.name, "is in the source, but not here; another file stands for it");
    } else {
        report.error(file.name, "is in the source, but not here", missing_effect(file.kind), copy_repair);
    }
}

// Two files are one tokenizer if they give the same ids.
static void check_tokenizer(const Reporter & report, const AuxiliaryFile & file) {
    const TokenizerVerdict & verdict = file.tokenizers;
    if (!verdict.judged || !verdict.difference.empty()) {
        report.error(file.name,
                     concat("differs from the source's", key_list(file),
                            verdict.judged ? concat("; other ids for ", verdict.difference) : ""),
                     "texts become other tokens than the model was trained on", copy_repair);
    } else if (file.limits != file.source_limits) {
        report.warning(file.name,
                       file.limits.empty() ? concat("lacks the source's ", file.source_limits)
                                           : concat("carries ", file.limits, ", which the source does not have"),
                       "programs that use the file as it is cut or pad prompts otherwise", copy_repair);
    } else {
        report.note(file.name, concat("is written differently than in the source", key_list(file),
                                      ", with the same ids for all tokens and ", count_text(verdict.probes), " texts"));
    }
}

static void check_difference(const Reporter & report, const AuxiliaryFile & file) {
    if (!file.differs_in_meaning) {
        report.note(file.name, "is written differently than in the source, with the same meaning");
        return;
    }
    if (file.kind == AuxiliaryKind::tokenizer) {
        check_tokenizer(report, file);
    } else {
        const bool version = file.keys == std::vector<std::string>{"transformers_version"};
        report.add(version ? Severity::note : Severity::warning, file.name,
                   concat("differs from the source's", key_list(file)),
                   version ? "" : "engines behave otherwise than with the source", version ? "" : copy_repair);
    }
}

void check_auxiliary_files(const Context & context, Findings & findings) {
    const Reporter report(findings, "L14");
    const AuxiliaryFiles & all = context.auxiliary;
    const bool has_vision = context.subject.announces_part[size_t(Part::vision)];
    for (const AuxiliaryFile & file : all.files) {
        if (!file.problem.empty()) {
            report.error(file.name, file.problem, missing_effect(file.kind), copy_repair);
        } else if (file.in_source && !file.present) {
            check_missing(report, all, file, has_vision);
        } else if (file.in_source && file.differs) {
            check_difference(report, file);
        }
        if (!file.limits.empty() && (!file.in_source || file.limits == file.source_limits))
            report.note(file.name, concat("carries ", file.limits, file.in_source ? ", as the source does" : ""));
    }
    // Files absent on both sides; those of the source alone were reported above.
    const auto require = [&](const char * name, bool present, Severity severity) {
        if (!present && !all[name].in_source)
            report.add(severity, name, "is missing", missing_effect(all[name].kind), copy_repair);
    };
    const auto present = [&](const char * name) { return all[name].present; };
    require("tokenizer.json", present("tokenizer.json") || (present("vocab.json") && present("merges.txt")),
            Severity::error);
    require("tokenizer_config.json", present("tokenizer_config.json"), Severity::error);
    if (has_vision)
        require("preprocessor_config.json", present("preprocessor_config.json") || present("processor_config.json"),
                Severity::error);
    require("chat_template.jinja",
            present("chat_template.jinja") || present("chat_template.json") || all.template_in_tokenizer_config,
            Severity::warning);
    require("generation_config.json", present("generation_config.json"), Severity::warning);
}

} // namespace gnv::verify
