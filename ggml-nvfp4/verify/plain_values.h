// What elements outside NVFP4 say of themselves: NaN and Inf among floats, and FP8 weights against their source.
#pragma once

#include "codec/fp8_scales.h"
#include "core/dtype.h"

#include <cstdint>
#include <vector>

namespace gnv::verify {

// Values that are NaN or infinite, and the first of them.
struct NonFinite {
    uint64_t count = 0, first = 0;
    void add(const NonFinite & later) {
        if (count == 0) first = later.first;
        count += later.count;
    }
};

// `bytes` hold whole elements, the first of which is number `first_element` of its tensor. None for dtypes other than BF16,
// F16 and F32.
NonFinite find_non_finite(DType dtype, const uint8_t * bytes, uint64_t size, uint64_t first_element);

struct Fp8Values {
    bool measured = false, compared = false;
    uint64_t elements = 0, nan = 0, zero = 0;     // codes
    uint64_t bad_scales = 0;                      // not positive numbers
    double error_squares = 0, weight_squares = 0; // against the source
    void add(const Fp8Values & other);
    double relative_error() const; // 0 for a zero weight that stayed zero
};

// Rows of a weight from `first_row` on. `source` (may be null): the same rows of the source, of dtype `source_dtype`.
Fp8Values measure_fp8(const uint8_t * codes, const Fp8Scales & scales, int64_t first_row, int64_t rows, int64_t columns,
                      const uint8_t * source, DType source_dtype);

} // namespace gnv::verify
