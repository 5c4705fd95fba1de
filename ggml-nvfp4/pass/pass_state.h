// The saved state of a pass between two blocks, for a later run that goes on from there: hidden states of all positions,
// the totals of the first variant, and the caller's own part. Quantization and comparison share it. The file has two
// places; a journal names the last that is on disk, and the next state goes to the other.
#pragma once

#include "core/clock.h"
#include "core/trace.h"
#include "output/journal.h"
#include "pass/layer_pass.h"

namespace gnv {

// Whether a run saves its state and goes on with that of a stopped one.
enum class Resume : uint8_t {
    off,
    on,         // the state is saved as often as takes at most 3 % of the time
    each_layer, // after each layer, whatever it takes
};

class PassState {
  public:
    // Of the file. `most_own_bytes`: of the caller's part.
    static uint64_t disk_bytes(const LayerPass & pass, uint64_t most_own_bytes);

    // `begin_anew`: the end of messages about a state that cannot be used. `pass` must outlive it.
    PassState(LayerPass & pass, uint64_t most_own_bytes, Resume resume, std::string begin_anew);

    // Before the pass. `file` has disk_bytes() bytes, is open for reading and writing, and must outlive this; `found`:
    // the last state that the journal names; `record` adds one to the journal.
    Status open(const File & file, const std::optional<StateRecord> & found,
                std::function<Status(const StateRecord &)> record);
    int32_t layers() const { return found_ ? found_->layers : 0; } // that need not run

    // In the pass, once its memory is allocated: brings rows and totals back. Returns the caller's part.
    Result<std::string> restore();
    // After some layers, if it is time to save; `own` makes the caller's part, and finishes before what must be on disk.
    Status save_if_due(int32_t layers, const std::function<Result<std::string>()> & own, Trace * trace);
    double seconds() const { return seconds_; } // spent on saving

  private:
    Status save(int32_t layers, const std::string & own);
    bool is_due() const;
    uint64_t place_bytes() const { return disk_bytes(pass_, most_own_bytes_) / 2; }

    LayerPass & pass_;
    const uint64_t most_own_bytes_;
    const Resume resume_;
    const std::string begin_anew_;
    const File * file_ = nullptr;
    std::function<Status(const StateRecord &)> record_;
    std::optional<StateRecord> found_;
    int32_t next_place_ = 0;
    double expected_ = 0, seconds_ = 0; // expected_: of the next save
    Clock::time_point saved_ = Clock::now();
};

} // namespace gnv
