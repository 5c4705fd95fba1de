#include "cpu/coded_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gnv::cpu {

using namespace screening;

int64_t rotate(float * row, int64_t k) {
    const int64_t block = k & -k;
    for (int64_t first = 0; first < k; first += block)
        for (int64_t step = 1; step < block; step *= 2)
            for (int64_t i = 0; i < block; i++) {
                if (i & step) continue;
                float &a = row[first + i], &b = row[first + i + step];
                const float sum = a + b;
                b = a - b;
                a = sum;
            }
    return block;
}

static float norm_of(const std::vector<float> & values) {
    double squares = 0;
    for (const float value : values) squares += double(value) * double(value);
    return float(std::sqrt(squares)) * norm_margin;
}

static CodedRow coded(const float * row, int64_t k, bool is_weight) {
    std::vector<float> values(row, row + k);
    const int64_t block = rotate(values.data(), k);
    float most = 0;
    for (float & value : values) {
        if (is_weight) value /= float(block); // both rows together: the normalized transform twice
        most = std::max(most, std::fabs(value));
    }
    CodedRow out;
    out.codes.resize(size_t(k));
    out.norm = norm_of(values);
    out.is_bounded = out.norm == 0 || (out.norm >= least_norm && out.norm <= most_norm); // not with a NaN
    out.s = 1;
    if (out.norm == 0 || !out.is_bounded) return out;
    out.s = most / 127;
    int64_t squares = 0;
    for (size_t i = 0; i < values.size(); i++) {
        const float code = std::clamp(std::nearbyint(values[i] * (127 / most)), -127.0f, 127.0f);
        out.codes[i] = int8_t(code);
        squares += int64_t(code) * int64_t(code);
        values[i] = std::fma(-out.s, code, values[i]);
    }
    out.codes_norm = float(std::sqrt(double(squares))) * norm_margin;
    const float rounding = is_weight ? rotation_rounding : float(k) * product_rounding + rotation_rounding;
    out.error = std::fma(rounding, out.norm, norm_of(values));
    if (!is_weight) out.error = out.error / out.s * norm_margin;
    return out;
}

CodedRow coded_activation(const float * row, int64_t k) { return coded(row, k, false); }
CodedRow coded_weight(const float * row, int64_t k) { return coded(row, k, true); }

float error_of(const CodedRow & x, const CodedRow & w) { return std::fma(x.error, w.norm, x.codes_norm * w.error); }

float activation_bound(const CodedRow & x, const CodedRow & gate, const CodedRow & up) {
    if (!x.is_bounded || !gate.is_bounded || !up.is_bounded) return std::numeric_limits<float>::quiet_NaN();
    const auto product = [&](const CodedRow & w) { // exact
        int32_t sum = 0;
        for (size_t i = 0; i < x.codes.size(); i++) sum += int32_t(x.codes[i]) * int32_t(w.codes[i]);
        return sum;
    };
    const float most_gate = std::fma(float(product(gate)), gate.s, error_of(x, gate));
    const float most_up = std::fma(float(std::abs(product(up))), up.s, error_of(x, up));
    return std::max(most_gate, silu_floor / x.s) * most_up * (rounding_margin * (x.s * x.s));
}

bool may_exceed(const CodedRow & x, const CodedRow & gate, const CodedRow & up, float known) {
    return !(activation_bound(x, gate, up) <= known);
}

} // namespace gnv::cpu
