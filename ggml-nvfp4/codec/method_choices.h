// Which method packed rows, for quantizers that choose row by row; the same on every device.
#pragma once

#include <cstdint>

namespace gnv {

// By position in all_quantizers() (quant/quantizers/quantizer.h).
enum Method : uint8_t { method_rtn, method_mse, method_hessian, method_gptq, method_count };

struct MethodChoices {
    uint64_t rows[method_count] = {};
    // Of rows that were judged: the squared error of their output on inputs that were held back, as a part of what
    // round-to-nearest leaves, summed in steps of 2^-20: the same in any order.
    uint64_t judged = 0, error_parts = 0;
    void add(const MethodChoices & other) {
        for (int m = 0; m < method_count; m++) rows[m] += other.rows[m];
        judged += other.judged;
        error_parts += other.error_parts;
    }
    double mean_error_part() const { return judged > 0 ? double(error_parts) / double(1 << 20) / double(judged) : 1; }
};

} // namespace gnv
