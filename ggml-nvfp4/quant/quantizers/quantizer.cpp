#include "quant/quantizers/quantizer.h"

namespace gnv {

void Quantizer::measure(InstructionSet set, const WeightRows & rows, UnitMeasure & measure) const {
    UnitMeasure found;
    found.absolute_maximum = absolute_maximum(set, rows.dtype, rows.data, rows.rows * rows.columns, found.finite);
    measure.add(found);
}

Result<UnitScale> Quantizer::prepare(const Format & format, DType source, const UnitMeasure & measure,
                                     const UnitInputs &) const {
    return UnitScale{format.unit_scale(source, measure.absolute_maximum), nullptr};
}

namespace {

class RoundToNearest final : public Quantizer {
  public:
    const char * name() const override { return round_to_nearest_name; }
    Status pack(InstructionSet set, const Format & format, const WeightRows & rows, const UnitScale & scale,
                const PackedRows & out, ErrorFigures * errors, MethodChoices *) const override {
        format.pack(set, rows, scale.value, out);
        if (errors) errors->add(measure_errors(set, format, rows, scale.value, out));
        return {};
    }
};

} // namespace

const Quantizer & round_to_nearest() {
    static const RoundToNearest quantizer;
    return quantizer;
}

std::span<const Quantizer * const> all_quantizers() {
    static const Quantizer * const list[] = {&round_to_nearest(), &least_squares(), &local_hessian(), &gptq()};
    return list;
}

} // namespace gnv
