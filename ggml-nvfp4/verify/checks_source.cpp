// The checkpoint against its source: S1 to S4.
#include "verify/checks.h"
#include "verify/measure.h"
#include "verify/source.h"

#include "core/strings.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace gnv::verify {

// --- S1 -------------------------------------------------------------------------------------------------------------------

static const char * const copy_repair = "take the tensor from the source";

static void check_preserved_tensor(const Reporter & report, const Subject & subject, const Source & source,
                                   const PreservedTensor & preserved, const PreservedValues & values) {
    const TensorInfo & ours = subject.info(preserved.tensor);
    const TensorInfo & theirs = source.checkpoint.tensors()[preserved.source];
    switch (values.kind) {
    case Preserved::same: return;
    case Preserved::converted:
        report.note(ours.name, concat("is ", dtype_name(ours.dtype), ", the source has ", dtype_name(theirs.dtype),
                                      ": the numbers are the same"));
        return;
    case Preserved::norm_trip:
        report.note(ours.name, concat("went through 1 + w and back in ", dtype_name(ours.dtype),
                                      ", as llm-compressor writes norms: ", count_text(values.differing), " of ",
                                      count_text(uint64_t(ours.elements())), " values changed"));
        return;
    case Preserved::rounded:
        report.warning(ours.name,
                       concat("is ", dtype_name(ours.dtype), ", the source has ", dtype_name(theirs.dtype), ": ",
                              count_text(values.differing), " values were rounded"),
                       "the module computes with fewer bits than the source's", copy_repair);
        return;
    case Preserved::different: break;
    }
    report.error(ours.name,
                 values.differing > 0 ? concat("differs from the source in ", count_text(values.differing), " of ",
                                               count_text(uint64_t(ours.elements())), " values, first at element ",
                                               values.first_differing)
                                      : std::string("differs from the source"),
                 "loaders cannot tell: the model computes with other weights", copy_repair);
}

void check_preserved(const Context & context, Findings & findings) {
    const Reporter report(findings, "S1");
    const Source & source = *context.source;
    for (size_t i = 0; i < source.preserved.size(); i++)
        if (context.measurements->preserved[i].measured)
            check_preserved_tensor(report, context.subject, source, source.preserved[i],
                                   context.measurements->preserved[i]);
    for (const uint32_t tensor : source.unmatched)
        report.error(
            source.checkpoint.tensors()[tensor].name, "is in the source, but this config.json does not call for it",
            "loaders build a smaller model than the source's", "take config.json and the tensor from the source");
    for (const uint32_t tensor : source.added)
        report.error(context.subject.info(tensor).name, "is not in the source",
                     "loaders build another model than the source's",
                     "take config.json and the tensors from the source");
}

// --- S2, S3 ---------------------------------------------------------------------------------------------------------------

// A relative squared error above every rounding to NVFP4, by any method: a block can lose at most 4 % in the gap
// between 4 and 6. Round-to-nearest has about 0.9 %, good methods less than twice that.
static constexpr double error_bound = 0.04;
// The same for E4M3 codes: three bits of mantissa leave 0.1 %; one scale for a whole weight of very different rows costs more.
static constexpr double fp8_error_bound = 0.02;
// Share of weights that may be off by more than half of their block's largest.
static constexpr double far_bound = 0.001;

static std::string percent(double share) { return concat(std::round(share * 1e4) / 100, " %"); }

static bool is_nearest(const ModuleValues & values) {
    return values.comparison.nearest_codes == values.elements() &&
           values.comparison.nearest_scales == values.scales.blocks;
}

void check_weights(const Context & context, Findings & findings) {
    const Reporter report(findings, "S2");
    for (size_t i = 0; i < context.subject.modules.size(); i++) {
        const Module & module = context.subject.modules[i];
        const ModuleValues & values = context.measurements->modules[i];
        const Fp8Values & fp8 = context.measurements->fp8[i];
        if (fp8.compared && !(fp8.relative_error() <= fp8_error_bound))
            report.error(module.name,
                         concat("is far from the source: relative squared error ", fp8.relative_error(), " in FP8"),
                         "loaders cannot tell: the module computes with other weights", "quantize the module again");
        if (!values.measured) continue;
        if (!values.compared) {
            report.error(module.name, "is quantized, but the source has no such weight in this shape",
                         "loaders build another model than the source's", "quantize again from this source");
            continue;
        }
        const double error = values.relative_error();
        const uint64_t far = values.comparison.far_weights;
        if (!values.comparison.finite) {
            report.error(module.name, "has NaN or Inf in the source", "the module's outputs are NaN",
                         "repair the source");
        } else if (!(error <= error_bound)) {
            const bool nearest = is_nearest(values);
            report.add(nearest ? Severity::warning : Severity::error, module.name,
                       concat("is far from the source: relative squared error ", error, ", cosine ", values.cosine(),
                              nearest ? "; NVFP4 cannot do better with these scales" : ""),
                       "loaders cannot tell: the module computes with other weights",
                       nearest ? "leave it in the source's precision" : "quantize the module again");
        } else if (far > 0) {
            report.add(double(far) > far_bound * double(values.elements()) ? Severity::error : Severity::warning,
                       module.name,
                       concat("has ", count_text(far), " of ", count_text(values.elements()),
                              " weights that are off by more than half of their block's largest"),
                       "loaders cannot tell: these weights are wrong", "quantize the module again");
        }
    }
}

// A weight in F32 that was rounded to the model's dtype first, as the reference does: nearest codes under scales of that
// dtype's arithmetic.
static bool is_rounded_first(const Context & context, size_t module) {
    const ModuleValues & values = context.measurements->modules[module];
    const Source & source = *context.source;
    const int64_t linear = source.modules[module];
    if (linear < 0 || values.comparison.nearest_codes != values.elements()) return false;
    const uint32_t tensor = source.layout.modules[size_t(linear)].source;
    return source.checkpoint.tensors()[tensor].dtype == DType::f32;
}

double nearest_share(const Measurements & measurements) {
    uint64_t compared = 0, nearest = 0;
    for (const ModuleValues & values : measurements.modules) {
        compared += values.compared;
        nearest += values.compared && is_nearest(values);
    }
    return compared > 0 ? double(nearest) / double(compared) : 0;
}

void check_rounding(const Context & context, Findings & findings) {
    const Reporter report(findings, "S3");
    const double nearest = nearest_share(*context.measurements);
    if (nearest == 1 || nearest < rounding_share) return;
    for (size_t i = 0; i < context.subject.modules.size(); i++) {
        const ModuleValues & values = context.measurements->modules[i];
        const bool far = !(values.relative_error() <= error_bound) || values.comparison.far_weights > 0; // S2
        if (!values.compared || is_nearest(values) || far || is_rounded_first(context, i)) continue;
        report.warning(context.subject.modules[i].name,
                       concat(count_text(values.elements() - values.comparison.nearest_codes), " codes and ",
                              count_text(values.scales.blocks - values.comparison.nearest_scales),
                              " block scales are not the nearest, while those of ", percent(nearest),
                              " of the modules are"),
                       "loaders cannot tell; a few altered bits do little harm, but something altered them",
                       "compare checksums with the file that was written, or quantize again");
    }
}

// --- S4 -------------------------------------------------------------------------------------------------------------------

// Keys about the writer of the file, or about saving memory: they do not change the model.
static bool is_incidental(std::string_view path) {
    for (const char * key :
         {"transformers_version", "_name_or_path", "use_cache", "torch_dtype", "dtype", "initializer_range"})
        if (path == key || ends_with(path, std::string(".") + key)) return true;
    return false;
}

// Paths of all values but objects: "text_config.num_experts" -> "32".
static void flatten(const JsonValue & value, const std::string & path, std::map<std::string, std::string> & out) {
    if (!value.is_object()) {
        const Result<double> number = value.as_double();
        out[path] = number.ok() ? concat(number.value()) : value.text();
        return;
    }
    (void)value
        .for_each_member([&](std::string_view key, const JsonValue & member) -> Status {
            if (path.empty() && key == "quantization_config") return {};
            flatten(member, path.empty() ? std::string(key) : concat(path, ".", key), out);
            return {};
        })
        .ok();
}

void check_source_config(const Context & context, Findings & findings) {
    const Reporter report(findings, "S4");
    if (!context.subject.config) return;
    std::map<std::string, std::string> ours, theirs;
    flatten(context.subject.config->root(), "", ours);
    flatten(context.source->config.root(), "", theirs);
    for (const auto & [path, value] : theirs) {
        const auto found = ours.find(path);
        if (found != ours.end() && found->second == value) continue;
        const std::string what = found == ours.end() ? concat("is missing, the source has ", printable(value, 60))
                                                     : concat("is ", printable(found->second, 60), ", the source has ",
                                                              printable(value, 60));
        if (is_incidental(path) || value == "null") {
            report.note(path, what);
        } else if (ends_with(path, "mtp_num_hidden_layers") && found != ours.end() && found->second == "0") {
            report.warning(path, what, "loaders build the same model without its draft head",
                           "take the value from the source's config.json to keep speculative decoding");
        } else {
            report.error(path, what, "loaders build another model than the source's",
                         "take the value from the source's config.json");
        }
    }
    for (const auto & [path, value] : ours)
        if (theirs.count(path) == 0)
            report.note(path, concat("is ", printable(value, 60), ", the source does not have the key"));
}

} // namespace gnv::verify
