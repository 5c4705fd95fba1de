// A quantizer stands between statistics and packing: it turns the weights of a unit into codes and scales. It has no
// state and reads no files; the CPU's workers and the packer of a device use the same one.
//
//   measure   rows of the unit, in any order and number ─► UnitMeasure
//   prepare   values that all rows share: the scale, and those that a method derives from statistics of the inputs
//   pack      rows, independently of each other ─► bytes of the format
//
// A unit that is larger than a worker's buffer comes twice, piece by piece. Several threads may measure and pack one
// unit.
#pragma once

#include "codec/format.h"
#include "codec/method_choices.h"
#include "core/status.h"
#include "graph/statistic.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

namespace gnv {

// The measurement of a unit's weights.
struct UnitMeasure {
    float absolute_maximum = 0;
    bool finite = true; // no NaN or Inf so far
    void add(const UnitMeasure & other) {
        absolute_maximum = std::max(absolute_maximum, other.absolute_maximum);
        finite = finite && other.finite;
    }
};

// One statistic of some inputs: the total of one group as graph/statistic.h lays it out.
struct UnitStatistic {
    const Statistic * kind = nullptr;
    const void * total = nullptr;
};

// What was measured of a unit's inputs; all its modules read the same.
struct UnitInputs {
    int64_t width = 0; // columns of the weights
    // Those of Quantizer::needs() that there are. `layer`: of an expert's unit, the same of all positions of the layer, where
    // it reads what all experts do.
    std::vector<UnitStatistic> own, layer;
};

// The values that the rows of a unit share while they are packed.
struct UnitScale {
    float value = 1;                   // stored in the component of Scope::unit
    std::shared_ptr<const void> state; // of the quantizer; null for most
};

class Quantizer {
  public:
    virtual ~Quantizer() = default;
    virtual const char * name() const = 0; // a device finds its kernels by this name

    // Statistics of the unit's inputs that prepare() wants; a run without calibration cannot use a quantizer that has any.
    virtual std::vector<const Statistic *> needs() const { return {}; }
    // Bytes that a thread needs beside its buffers while it prepares and packs a unit with so many columns.
    virtual uint64_t work_bytes(int64_t) const { return 0; }

    // Adds rows to `measure`. The result does not depend on order or number of the calls. The default: the largest
    // magnitude.
    virtual void measure(InstructionSet set, const WeightRows & rows, UnitMeasure & measure) const;
    // The scale of the largest magnitude, if not overridden.
    virtual Result<UnitScale> prepare(const Format & format, DType source, const UnitMeasure & measure,
                                      const UnitInputs & inputs) const;
    // Packs rows to `out`. `errors` (null: not measured, at no cost) and `choices` (null: not wanted; of quantizers that
    // choose) are added to.
    virtual Status pack(InstructionSet set, const Format & format, const WeightRows & rows, const UnitScale & scale,
                        const PackedRows & out, ErrorFigures * errors, MethodChoices * choices) const = 0;
};

// Rounds each value to the nearest code, with the scales of the largest magnitudes, as llm-compressor does.
const Quantizer & round_to_nearest();
// "mse": the block scale that leaves the least sum of squared errors, of all that there are.
const Quantizer & least_squares();
// "hessian": of 10 % less to 60 % more than the usual block scale the one with the least error of outputs, as far as inputs
// of a block tell of it. "gptq": GPTQ that searches the scale of each block when it comes to it, then one pass of block coordinate
// descent. Both judge themselves row by row on inputs that were held back, and fall back to simpler methods.
const Quantizer & local_hessian();
const Quantizer & gptq();

std::span<const Quantizer * const> all_quantizers(); // in the order of gnv_method

} // namespace gnv
