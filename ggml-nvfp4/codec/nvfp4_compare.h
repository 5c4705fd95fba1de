// Error figures of a quantized weight against its source: sums over a run of blocks, in one pass over both.
#pragma once

#include "codec/nvfp4.h"
#include "core/dtype.h"
#include "core/instruction_set.h"

#include <cstdint>

namespace gnv::nvfp4 {

// Sums over a run of blocks. Figures of parts are added in a fixed order, so that the result does not depend on
// threads. With x = w / d, d = scale / G, and q the value of the code:
struct Comparison {
    uint64_t blocks = 0;
    double weight_squares = 0;   // sum of w * w
    double error_squares = 0;    // sum of (w - q d) * (w - q d)
    double value_squares = 0;    // sum of (q d) * (q d)
    float absolute_maximum = 0;  // of w
    bool finite = true;          // no NaN or Inf among w
    uint64_t clipped = 0;        // |x| > 6
    uint64_t zeroed = 0;         // q = 0, w not
    uint64_t nearest_codes = 0;  // q is the value nearest to x (ties to even)
    uint64_t nearest_scales = 0; // the block scale is the one that nvfp4::block_scale gives
    // Weights with an error above half of their block's largest, in blocks with normal block scales. Rounding causes at
    // most a sixth, subnormal scales a third.
    uint64_t far_weights = 0;

    double products() const { return (weight_squares + value_squares - error_squares) / 2; } // sum of w * q d
    void add(const Comparison & other);
};

// `blocks` blocks of 16 elements, codes and scales in Layout::row_major.
Comparison compare(InstructionSet set, DType source, const void * weights, int64_t blocks, const uint8_t * codes,
                   const uint8_t * scales, float global_scale);

} // namespace gnv::nvfp4
