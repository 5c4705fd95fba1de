// Rows of a cache in E4M3 (graph/ops.h: AttentionParams), as plainly as possible.
#pragma once

#include "codec/nvfp4.h"

#include <cmath>
#include <cstdint>
#include <vector>

namespace gnv::test {

struct CodedRows {
    std::vector<uint8_t> codes, scales; // of each number; of each head
    std::vector<float> numbers;         // what they mean
};

inline CodedRows coded_rows(const std::vector<float> & rows, size_t head) {
    CodedRows out;
    for (size_t first = 0; first < rows.size(); first += head) {
        double largest = 0;
        bool finite = true;
        for (size_t i = first; i < first + head; i++) {
            finite = finite && std::isfinite(rows[i]);
            largest = std::max(largest, std::abs(double(rows[i])));
        }
        int exponent = -100;
        while (finite && largest > std::ldexp(448.0, exponent)) exponent++;
        out.scales.push_back(uint8_t(finite ? exponent + 127 : 255));
        for (size_t i = first; i < first + head; i++) {
            const double scaled = std::ldexp(double(rows[i]), -exponent);
            const uint8_t code = finite ? nvfp4::e4m3_from_float(float(scaled)) : 0x7f;
            out.codes.push_back(code);
            out.numbers.push_back(finite ? std::ldexp(nvfp4::e4m3_value(code), exponent) : NAN);
        }
    }
    return out;
}

} // namespace gnv::test
