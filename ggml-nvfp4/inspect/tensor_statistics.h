// Statistics of the numbers of a tensor or a quantized weight, with the same bits for any number of threads.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "inspect/contents.h"
#include "inspect/numbers.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace gnv {

// The first four count all elements, the others describe the finite ones (0 without any).
struct Statistics {
    uint64_t elements = 0, zeros = 0, nans = 0, infinities = 0;
    double minimum = 0, maximum = 0, largest = 0; // largest: of the magnitudes
    double mean = 0, deviation = 0;               // deviation: root of the mean squared distance from the mean
    int64_t first_not_finite = -1;                // position in C order
    uint64_t finite() const { return elements - nans - infinities; }
};
Result<Statistics> measure(const Numbers & numbers, ThreadPool & threads);

using CodeCounts = std::array<uint64_t, 16>; // occurrences of each E2M1 code

// E4M3 bytes of block scales, -0 and other negative ones included.
struct BlockScaleStatistics {
    uint64_t zeros = 0, subnormals = 0, largest = 0, nans = 0, negatives = 0; // largest: magnitudes of 448
    double minimum = 0, maximum = 0;                                          // without NaN
};

// The statistics of one name, of a tensor or of a quantized module.
struct WeightStatistics {
    std::string name;
    int64_t tensor = -1, module = -1;                 // one of both
    Statistics values;                                // of a module: dequantized
    std::optional<CodeCounts> codes;                  // of a module and of its codes
    std::optional<BlockScaleStatistics> block_scales; // of a module and of its block scales
    std::optional<float> global_scale, input_scale;   // of a module, as stored
};
// Code::not_found for an unknown `name`; a tensor wins over a module of the same name.
Result<WeightStatistics> measure_name(const Contents & contents, const std::string & name, ThreadPool & threads);

// The numbers of a name, found as in measure_name().
Result<Numbers> numbers_of_name(const Contents & contents, const std::string & name);

} // namespace gnv
