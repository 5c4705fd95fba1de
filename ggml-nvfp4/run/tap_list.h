// The list of a model's taps, made without running it.
#pragma once

#include "run/stage_runner.h"

#include <vector>

namespace gnv {

struct TapInfo {
    Tap tap;
    DType dtype = DType::f32;
    Shape shape; // of a pass over `positions` positions of one text, with the logits of all
};

// In the order of the model; the last is what the head makes. Of a vision tower `positions` are patches, a multiple of those
// that the head joins.
Result<std::vector<TapInfo>> list_taps(const TextVariant & variant, int64_t positions);

// Position in `taps`, those of `model` and of its vision tower (null: it has none), of the output called `name`.
// Code::invalid_argument for what is no output of any model of the family, Code::not_found for one that this model does not
// have, with those that it has.
Result<size_t> find_tap(const std::vector<TapInfo> & taps, const std::string & name, const TextModel & model,
                        const TextModel * tower);

} // namespace gnv
