// Elements of tensors of any dtype as numbers.
#pragma once

#include "core/dtype.h"

#include <cstdint>

namespace gnv {

// Reads `count` elements that begin at `bytes`, at any alignment. Every value is exact, except that 64-bit integers
// beyond 2^53 are rounded. F4 starts at a low nibble.
using ElementReader = void (*)(const uint8_t * bytes, int64_t count, double * out);

// Null for 6-bit floats: their order in bytes is undefined.
ElementReader element_reader(DType dtype);

} // namespace gnv
