// Comparing the tensors that a model calls for with those of a checkpoint; the same for every family.
#pragma once

#include "model/model_def.h"

#include <string>
#include <vector>

namespace gnv {

// A model's tensors and Linears before they are looked up in a checkpoint. In `modules`, `source` is a position in
// `tensors` and `offset` counts elements; match_tensors turns both into what model_def.h says.
struct ModelExpansion {
    std::vector<TensorSpec> tensors;
    std::vector<LinearModule> modules;
};

// True when a tensor's name starts with `prefix`.
bool has_tensors(const Checkpoint & checkpoint, std::string_view prefix);

// Code::unsupported when a name or dtype shows that the checkpoint is quantized already.
Status refuse_quantized(const Checkpoint & checkpoint);

// Fills tensors, modules and the note on extra tensors of `layout`.
Status match_tensors(ModelExpansion expansion, const Checkpoint & checkpoint, Accept accept, ModelLayout & layout);

} // namespace gnv
