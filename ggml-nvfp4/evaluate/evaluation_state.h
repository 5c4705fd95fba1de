// What a comparison saves so that a later run goes on where it was stopped: the state of its pass (pass/pass_state.h), with
// the figures by layer, in a folder of its own (output/state_folder.h).
#pragma once

#include "evaluate/evaluation.h"
#include "pass/pass_state.h"
#include "run/open_model.h"

namespace gnv::evaluate {

// Everything that the figures depend on, but not threads, budgets, the number of devices, gates, or places of files.
// `source` may be null; `logits_sha256`: of the source's predictions in a file; empty: it runs.
Result<RunIdentity> comparison_identity(const OpenModel & checkpoint, const OpenModel * source,
                                        const std::vector<Line> & lines, const EvaluationData & data,
                                        const EvaluateOptions & options, const Device & device,
                                        const std::string & logits_sha256);

class EvaluationState {
  public:
    // Before the pass: makes the folder, or finds the state to go on with. `layers`: null without figures by layer. All
    // arguments must outlive it.
    static Result<std::unique_ptr<EvaluationState>> open(const EvaluateOptions & options, const RunIdentity & identity,
                                                         LayerPass & pass, LayerComparer * layers);
    ~EvaluationState(); // removes a folder without a state

    void add_to(PassHooks & hooks); // what saves, and goes on
    StateFolder & folder() { return *folder_; }
    bool goes_on() const { return pass_.layers() > 0; }

    // After a failure: keeps the state if a repeated run may succeed, and says so.
    Status leave(Status failure);
    // After the run: the folder, to be removed when the results are where they belong.
    std::shared_ptr<StateFolder> finish() { return std::move(folder_); }

  private:
    EvaluationState(std::shared_ptr<StateFolder> folder, LayerPass & pass, LayerComparer * layers, Resume resume);
    std::shared_ptr<StateFolder> folder_;
    LayerComparer * layers_;
    PassState pass_;
};

} // namespace gnv::evaluate
