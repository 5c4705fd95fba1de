// Where the loss of a quantized checkpoint comes from: the distance of its predictions from the source's with one group of modules
// at a time in the source's precision. A report: it changes nothing.
#pragma once

#include "evaluate/evaluation.h"
#include "run/open_model.h"

#include <memory>
#include <string>
#include <vector>

namespace gnv::evaluate {

// The groups of a checkpoint: modules of one kind in consecutive layers, as many ranges of layers as wanted.
struct SensitivityGroup {
    const char * kind; // "attention", "routed experts"
    std::vector<Role> roles;
    int32_t first_layer, last_layer;
};
std::vector<SensitivityGroup> sensitivity_groups(const ModelLayout & layout, int ranges);

// The tensors of a checkpoint and those of its source that the checkpoint has not under the same name, as one.
Result<Checkpoint> join_checkpoints(const Checkpoint & checkpoint, const Checkpoint & source);

// A checkpoint with the modules of one group from its source. It must live no longer than both, and `joined`.
class MixedModel {
  public:
    // Code::model if the source has no module of such a name and shape.
    static Result<std::unique_ptr<MixedModel>> create(const Checkpoint & joined, const OpenModel & checkpoint,
                                                      const OpenModel & source, const SensitivityGroup & group);
    const OpenModel & model() const { return *model_; }
    const InputScales & scales() const { return scales_; } // of modules that are still quantized
    uint64_t modules() const { return modules_; }
    uint64_t bytes_added() const { return bytes_added_; } // to the tensors of the checkpoint

  private:
    MixedModel() = default;
    ModelLayout layout_;
    FolderFiles files_;
    std::unique_ptr<OpenModel> model_;
    InputScales scales_;
    uint64_t modules_ = 0, bytes_added_ = 0;
};

// Runs source, checkpoint and mixtures over the data, a few mixtures at a time, in W4A4 if the checkpoint has input scales.
Result<Sensitivity> measure_sensitivity(const OpenModel & checkpoint, const OpenModel & source,
                                        const EvaluationData & data, ThreadPool & threads,
                                        std::vector<Backend *> devices, const EvaluateOptions & options);

std::string sensitivity_text(const Sensitivity & sensitivity); // a table

} // namespace gnv::evaluate
