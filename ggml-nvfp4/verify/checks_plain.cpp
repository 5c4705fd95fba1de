// Tensors outside NVFP4: L16.
#include "verify/checks.h"
#include "verify/measure.h"

#include "core/strings.h"

namespace gnv::verify {

static void check_fp8(const Reporter & report, const Module & module, const Fp8Values & values) {
    const std::string name = module.name + std::string(weight_suffix);
    if (values.bad_scales > 0)
        report.error(module.name + std::string(fp8_scale_suffix),
                     concat("holds ", count_text(values.bad_scales), " scales that are no positive numbers"),
                     "every output of their rows is NaN or zero", "quantize the module again");
    if (values.nan > 0)
        report.error(name,
                     concat("holds NaN in ", count_text(values.nan), " of ", count_text(values.elements), " codes"),
                     "every output of the rows is NaN", "quantize the module again");
    if (values.zero == values.elements && values.elements > 0 && (!values.compared || values.weight_squares > 0))
        report.error(name, "is zero everywhere", "the weight is lost", "quantize the module again");
}

void check_plain_values(const Context & context, Findings & findings) {
    const Reporter report(findings, "L16");
    const Subject & subject = context.subject;
    const Measurements & measurements = *context.measurements;
    for (const auto & [tensor, found] : measurements.non_finite)
        report.error(subject.info(tensor).name,
                     concat("holds NaN or Inf in ", count_text(found.count), " of ",
                            count_text(uint64_t(subject.info(tensor).elements())), " values, first at element ",
                            found.first),
                     "what is computed with it is NaN", "repair it in the source, and quantize again");
    for (size_t m = 0; m < measurements.fp8.size(); m++)
        if (measurements.fp8[m].measured) check_fp8(report, subject.modules[m], measurements.fp8[m]);
}

} // namespace gnv::verify
