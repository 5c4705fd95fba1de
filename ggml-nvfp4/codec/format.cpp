#include "codec/format.h"

#include "codec/nvfp4_pack.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gnv {

std::span<const Format * const> all_formats() {
    static constexpr const Format * table[] = {&formats::nvfp4, &formats::nvfp4a16};
    return table;
}

std::vector<int64_t> FormatComponent::shape(int64_t rows, int64_t weight_columns) const {
    if (scope != Scope::rows) return {1};
    return {rows, weight_columns / columns};
}

uint64_t FormatComponent::bytes(int64_t rows, int64_t weight_columns) const {
    const uint64_t elements = scope != Scope::rows ? 1 : uint64_t(rows) * uint64_t(weight_columns / columns);
    return elements * uint64_t(dtype_traits(dtype).bits) / 8;
}

static int find_scope(const Format & format, FormatComponent::Scope scope) {
    for (size_t c = 0; c < format.components.size(); c++)
        if (format.components[c].scope == scope) return int(c);
    return -1;
}

int Format::input_component() const { return find_scope(*this, FormatComponent::Scope::input); }
int Format::unit_component() const { return find_scope(*this, FormatComponent::Scope::unit); }

uint64_t Format::packed_bytes(int64_t rows, int64_t columns) const {
    uint64_t sum = 0;
    for (const FormatComponent & component : components)
        if (component.scope == FormatComponent::Scope::rows) sum += component.bytes(rows, columns);
    return sum;
}

uint16_t absolute_maximum_bf16(InstructionSet set, const uint16_t * weights, int64_t count) {
    return nvfp4::kernels_for(set).absolute_maximum_bf16(weights, count);
}

float absolute_maximum(InstructionSet set, DType dtype, const void * weights, int64_t count, bool & finite) {
    if (dtype != DType::bf16) return nvfp4::absolute_maximum_reference(dtype, weights, count, finite);
    const uint16_t bits = absolute_maximum_bf16(set, static_cast<const uint16_t *>(weights), count);
    finite = bits < 0x7f80;
    return nvfp4::bf16_to_float(bits);
}

// --- Errors -----------------------------------------------------------------------------------------------------------------

double ErrorFigures::sqnr_db() const {
    return error_squares == 0 ? std::numeric_limits<double>::infinity()
                              : 10 * std::log10(weight_squares / error_squares);
}

void ErrorFigures::add(const ErrorFigures & other) {
    elements += other.elements;
    weight_squares += other.weight_squares;
    error_squares += other.error_squares;
    largest_error = std::max(largest_error, other.largest_error);
    saturated += other.saturated;
}

ErrorFigures measure_errors(InstructionSet set, const Format & format, const WeightRows & source, float scale,
                            const PackedRows & packed) {
    std::vector<float> values(size_t(source.rows * source.columns));
    format.unpack(set, packed, scale, values.data());
    ErrorFigures figures;
    figures.elements = values.size();
    for (size_t i = 0; i < values.size(); i++) {
        const double weight = double(nvfp4::load_element(source.dtype, source.data, int64_t(i)));
        const double error = std::fabs(double(values[i]) - weight);
        figures.weight_squares += weight * weight;
        figures.error_squares += error * error;
        figures.largest_error = std::max(figures.largest_error, error);
    }
    figures.saturated = format.count_saturated(set, source, scale, packed);
    return figures;
}

} // namespace gnv
