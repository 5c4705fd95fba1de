// What a run of quantize saves so that a later run goes on where it was stopped. Finished tensors are in the journal of
// DST.partial (output/checkpoint_writer.h). A run that calibrates also saves the state of its pass between two blocks
// (pass/pass_state.h), with the counts for the report.
#pragma once

#include "output/checkpoint_writer.h"
#include "pass/pass_state.h"
#include "quantize/calibrate.h"
#include "quantize/quantization_report.h"
#include "quantize/quantize.h"

namespace gnv {

// Everything that the result depends on, but not threads, budgets, the number of devices, or places of files.
// `device`: that calibrates; null: none.
Result<RunIdentity> run_identity(const Plan & plan, const FolderFiles & shards, const QuantizeOptions & options,
                                 const Device * device);

class RunState {
  public:
    // All arguments must outlive it.
    RunState(const Plan & plan, Calibration & calibration, CheckpointWriter & writer, Resume resume);
    // Disk space of the file.
    static uint64_t disk_bytes(const Plan & plan, const LayerPass & pass);

    // Before the pass: opens the file, or makes it. Also finds the state to go on with.
    Status open();
    int32_t layers() const { return state_.layers(); } // that need not run
    // In the pass, once its memory is allocated.
    Status restore(LayerChoices & choices);
    // After some layers, if it is time to save. `finish` is called before: it finishes the units of these layers that need
    // what the pass measured, and gives the counts for the report.
    Status save_if_due(int32_t layers, const std::function<Result<LayerChoices>()> & finish, Trace & trace);
    double seconds() const { return state_.seconds(); } // spent on saving

  private:
    const Plan & plan_;
    CheckpointWriter & writer_;
    const uint64_t bytes_; // of the file
    PassState state_;
};

} // namespace gnv
