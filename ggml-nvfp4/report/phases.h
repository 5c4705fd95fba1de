// The table at the end of a run: what each kind of work took, how fast it was, and how fast it could have been.
#pragma once

#include "core/trace.h"
#include "formats/json_writer.h"
#include "report/device_limits.h"

#include <string>
#include <vector>

namespace gnv {

struct Phase {
    std::string lane; // which threads, or which queue of the device: see docs/json.md
    std::string name;
    uint64_t spans = 0;
    double seconds = 0;
    Work work;
    // What the rate is told in, and compared with; 0: nothing.
    enum class Rate : uint8_t { none, flops, bytes } rate = Rate::none;
    double limit = 0;

    double rate_per_second() const;
    double share() const { return limit > 0 ? rate_per_second() / limit : 0; }
};

struct PhaseInput {
    std::vector<Trace::Total> totals;
    DeviceLimits limits;
    double slots_in_use = 1; // of those that work of grouped_linear, expert_gather and expert_combine counts
    double pass_seconds = 0; // of the forward pass: what the device did not fill of it, it waited; 0: there was none
};

// Device queues first, each from the longest to the shortest, then threads.
std::vector<Phase> make_phases(const PhaseInput & input);
std::string phases_text(const std::vector<Phase> & phases, const DeviceLimits & limits);
// The value of "phases": an array; see docs/json.md.
void phases_json(JsonWriter & json, const std::vector<Phase> & phases);

} // namespace gnv
