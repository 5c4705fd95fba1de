// The first use of a device's libraries and kernels, which loads them: a tenth of a second and more.
#pragma once

#include "exec/backend.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace gnv {

// Computes a product with BF16 weights of each of these [rows, columns] once, with zeros, outside of the device's trace.
Status load_products(Backend & device, const std::vector<std::pair<int64_t, int64_t>> & weights);

} // namespace gnv
