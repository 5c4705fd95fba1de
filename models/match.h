// The comparison of the tensors that a model requires with those of a checkpoint, for every family.
#pragma once

#include "model/model_def.h"

#include <string>
#include <vector>

namespace gnv {

// A model's tensors and Linears before they are found in a checkpoint. In `modules`, `source` is a position in
// `tensors` and `offset` counts elements; match_tensors converts both to those of model_def.h.
struct ModelExpansion {
    std::vector<TensorSpec> tensors;
    std::vector<LinearModule> modules;
};

// True when a tensor's name starts with `prefix`.
bool has_tensors(const Checkpoint & checkpoint, std::string_view prefix);

// Code::unsupported if a name or dtype shows that the checkpoint is quantized already.
Status refuse_quantized(const Checkpoint & checkpoint);

// Fills tensors, modules and the note on extra tensors of `layout`.
Status match_tensors(ModelExpansion expansion, const Checkpoint & checkpoint, Accept accept, ModelLayout & layout);

} // namespace gnv
