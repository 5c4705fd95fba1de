// The kernels of a device that quantize as one quantizer does (quant/quantizers/quantizer.h), to one codec: its twin, with the
// same bits. Queued, on device memory; the more weights in one call, the better.
#pragma once

#include "codec/format.h"
#include "codec/method_choices.h"
#include "core/status.h"

#include <cstdint>
#include <span>
#include <vector>

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

// Second moments of some inputs: totals of graph/statistic.h in memory of the host or the device. Null: not measured.
struct InputMoments {
    const float * fitted = nullptr; // [K][K], or [K / 16][16][16]: as the quantizer needs
    const float * held = nullptr;
    const double * weights = nullptr; // Statistic::fitted_weights
};

// Weights that read the same input, and what was measured of it: rows of the modules of one unit.
struct UnitToPack {
    InputMoments own, layer;
    std::vector<WeightsToPack> weights; // the same number of columns
    std::vector<MethodChoices> choices; // receives those of each of the weights
};

class DeviceQuantizer {
  public:
    virtual ~DeviceQuantizer() = default;
    // Raises *largest of each to the largest magnitude of its weights, as BF16 bits without sign: start from 0. 0x7f80
    // or more tells of a NaN or Inf. Several may share one.
    virtual void measure(std::span<const WeightsToMeasure> weights) = 0;
    // No results overlap.
    virtual void pack(std::span<const WeightsToPack> weights) = 0;

    // --- Quantizers that need second moments; pack() is not for them.

    // Bytes of device memory to work in, for a unit with so many columns at least; more of it does more units at a time. 0:
    // the quantizer needs no moments.
    virtual uint64_t work_bytes(int64_t) const { return 0; }
    // Packs rows as the CPU's twin does. It waits for the device now and then; when it returns, all work is queued, and host
    // memory may change. `work`: aligned as the backend's blocks.
    virtual Status pack_units(std::span<UnitToPack>, void *, uint64_t) {
        return Status(Code::internal, "this quantizer needs no second moments");
    }
};

} // namespace gnv
