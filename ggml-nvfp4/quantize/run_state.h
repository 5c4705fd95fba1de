// What a run of quantize saves so that a later run goes on where it was stopped. Finished tensors are in the journal of
// DST.partial (output/checkpoint_writer.h). A run that calibrates also saves its state between two blocks: hidden
// states of all positions, totals, and the counts for the report. The file has two places; the journal names the last
// that is on disk, and the next state goes to the other.
#pragma once

#include "core/clock.h"
#include "output/checkpoint_writer.h"
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
    RunState(const Plan & plan, Calibration & calibration, CheckpointWriter & writer, Resume resume)
        : plan_(plan), calibration_(calibration), writer_(writer), resume_(resume) {}
    // Disk space of the file.
    static uint64_t disk_bytes(const Plan & plan, const LayerPass & pass);

    // Before the pass: opens the file, or makes it. Also finds the state to go on with.
    Status open();
    int32_t layers() const { return found_ ? found_->layers : 0; } // that need not run
    // In the pass, once its memory is allocated.
    Status restore(LayerChoices & choices);
    // After some layers, if saving takes at most 3 % of the time, or after each on request. `finish` is called before:
    // it finishes the units of these layers that need what the pass measured, and gives the counts for the report.
    Status save_if_due(int32_t layers, const std::function<Result<LayerChoices>()> & finish, Trace & trace);
    double seconds() const { return seconds_; } // spent on saving

  private:
    Status save(int32_t layers, const LayerChoices & choices);
    bool is_due() const;

    const Plan & plan_;
    Calibration & calibration_;
    CheckpointWriter & writer_;
    const Resume resume_;
    const File * file_ = nullptr;
    std::optional<StateRecord> found_;
    int32_t next_place_ = 0;
    double expected_ = 0, seconds_ = 0; // expected_: of the next save
    Clock::time_point saved_ = Clock::now();
};

} // namespace gnv
