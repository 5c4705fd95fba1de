// The kernels of a device that quantize as one quantizer does (quant/quantizer.h), to one codec: its twin, with the
// same bits. Queued, on device memory; the more weights in one call, the better.
#pragma once

#include "codec/format.h"

#include <cstdint>
#include <span>

namespace gnv {

// BF16 weights, aligned to 16 bytes, whose largest magnitude is wanted.
struct WeightsToMeasure {
    const uint16_t * weights = nullptr;
    int64_t count = 0;
    uint32_t * largest = nullptr;
};

// Finite rows of BF16 weights, aligned to 16 bytes, and memory for their components of Scope::rows, each aligned to 8.
struct WeightsToPack {
    const uint16_t * weights = nullptr;
    PackedRows packed; // how many, and where they go
    float scale = 0;   // of the unit: positive and finite
};

class DeviceQuantizer {
  public:
    virtual ~DeviceQuantizer() = default;
    // Raises *largest of each to the largest magnitude of its weights, as BF16 bits without sign: start from 0. 0x7f80
    // or more tells of a NaN or Inf. Several may share one.
    virtual void measure(std::span<const WeightsToMeasure> weights) = 0;
    // No results overlap.
    virtual void pack(std::span<const WeightsToPack> weights) = 0;
};

} // namespace gnv
