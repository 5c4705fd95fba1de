// Between statistics and packing: how the weights of a unit become codes and scales. A quantizer has no state and reads no
// files; the CPU's workers and the packer of a device ask the same one.
//
//   measure   rows of the unit, in any order and number ─► UnitMeasure
//   prepare   what all rows share: the scale, and what a method derives from statistics of the inputs
//   pack      rows, independently of each other ─► bytes of the format
//
// A unit that is larger than a worker's buffer comes twice, piece by piece. Several threads may measure and pack one unit.
#pragma once

#include "codec/format.h"
#include "core/status.h"
#include "graph/ops.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

namespace gnv {

// What is known of a unit's weights.
struct UnitMeasure {
    float absolute_maximum = 0;
    bool finite = true; // no NaN or Inf so far
    void add(const UnitMeasure & other) {
        absolute_maximum = std::max(absolute_maximum, other.absolute_maximum);
        finite = finite && other.finite;
    }
};

// One statistic of the inputs of a unit, whose modules all read the same: values as graph/ops.h lays them out for one group.
struct UnitStatistic {
    Statistic kind = Statistic::maximum;
    std::span<const double> values;
};

// What the rows of a unit share while they are packed.
struct UnitScale {
    float value = 1;                   // stored in the component of Scope::unit
    std::shared_ptr<const void> state; // of the quantizer; null for most
};

class Quantizer {
  public:
    virtual ~Quantizer() = default;
    virtual const char * name() const = 0; // a device that has kernels for it knows it by this name

    // Statistics of the unit's inputs that prepare() wants; a run without calibration cannot use a quantizer that has any.
    virtual std::vector<Statistic> needs() const { return {}; }

    // Adds rows to `measure`. The result does not depend on order or number of the calls. The largest magnitude, if not overridden.
    virtual void measure(InstructionSet set, const WeightRows & rows, UnitMeasure & measure) const;
    // `statistics`: those of needs(), in that order. The scale of the largest magnitude, if not overridden.
    virtual Result<UnitScale> prepare(const Format & format, DType source, const UnitMeasure & measure,
                                      std::span<const UnitStatistic> statistics) const;
    // Packs rows to `out`. `errors` (null: not measured, at no cost) is added to.
    virtual Status pack(InstructionSet set, const Format & format, const WeightRows & rows, const UnitScale & scale,
                        const PackedRows & out, ErrorFigures * errors) const = 0;
};

// Each value to the nearest code, with the scales that the largest magnitudes give: what llm-compressor writes.
const Quantizer & round_to_nearest();

} // namespace gnv
