// The inputs of everything that one pass ahead queues (session/text_session_draft.cpp), in memory of the host and of the device;
// on the CPU once. They are known before anything runs, except for the ids that the draft head guesses: those go from one of its
// steps to the next, and to the pass ahead, on the device, so that the host waits for the results of all alone.
#pragma once

#include "run/stage_runner.h"

namespace gnv {

constexpr int64_t most_drafts = 15; // tokens that a pass may run beyond the one that is known

class DraftInputs {
  public:
    static constexpr int64_t most_rows = most_drafts + 1; // of a pass
    static uint64_t bytes() { return device_aligned(sizeof(Block)); }
    static Result<DraftInputs> create(Backend & device);

    // `seen`: the rows of the last pass that the draft head has not seen, with `past` rows in its caches; of more than most_rows
    // the last alone is of use. `pass`: the next one, a pass ahead of `guesses` + 1 positions, or of its ids the first. `taken`:
    // rows of a replay.
    struct Known {
        std::span<const int32_t> ids, positions; // of seen: [T], [3, T]
        int64_t past = 0, taken = 0, guesses = 0;
        const BatchInputs & pass;
    };
    // Queued; all work with the last ones is done.
    void send(Backend & device, const Known & known);
    // On the device.
    DeviceBatch of_text() const;            // for the draft head: the rows seen, each with the id behind it
    DeviceBatch of_own(int64_t step) const; // from its own stream, 1 and up: the id of guess `step`
    DeviceBatch of_replay() const;
    DeviceBatch of_pass() const;
    int32_t * guess(int64_t number) const { return there().pass_ids + number; } // from 1
    void fetch(Backend & device, int64_t guesses);                              // queued
    std::span<const int32_t> fetched(int64_t guesses) const { return {host().guesses, size_t(guesses)}; }

  private:
    struct Block {
        int32_t ids[most_rows], positions[3 * most_rows], pairs[2 * most_rows], segments[2], past[1], last[1];
        int32_t own_positions[most_rows][3], own_past[most_rows][1], own_pairs[2], own_segments[2], own_last[1];
        int32_t replay_segments[2];
        int32_t pass_ids[most_rows], pass_positions[3 * most_rows], pass_segments[2], pass_past[1];
        int32_t guesses[most_rows]; // back to the host
    };
    Block & host() const { return *static_cast<Block *>(host_.get()); }
    Block & there() const { return memory_ ? *static_cast<Block *>(memory_.get()) : host(); }

    HostMemory host_;
    DeviceMemory memory_; // of a device with memory of its own
};

} // namespace gnv
