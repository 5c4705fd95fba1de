// The table at the end of a run: time, rate and limit of each kind of work.
#pragma once

#include "core/trace.h"
#include "formats/json_writer.h"
#include "report/device_limits.h"

#include <string>
#include <vector>

namespace gnv {

struct Phase {
    std::string lane; // the threads, or the queue of the device: see docs/json.md
    std::string name;
    uint64_t spans = 0;
    double seconds = 0;
    Work work;
    // The unit of the rate, and its limit; 0: no limit.
    enum class Rate : uint8_t { none, flops, bytes } rate = Rate::none;
    double limit = 0;
    double part = 0; // of the count before it; 0: none

    double rate_per_second() const;
    double share() const { return limit > 0 ? rate_per_second() / limit : 0; }
};

struct PhaseInput {
    std::vector<Trace::Total> totals;
    DeviceLimits limits;
    double slots_in_use = 1;   // share of the slots in the work of grouped_linear, expert_gather and expert_combine
    double pass_seconds = 0;   // of the forward pass, which the device filled or waited; 0: no pass
    size_t devices = 1;        // whose times the totals add up
    ScreeningCounts screening; // of all devices
};

// Device queues first, each from the longest to the shortest, then threads.
std::vector<Phase> make_phases(const PhaseInput & input);
std::string phases_text(const std::vector<Phase> & phases, const DeviceLimits & limits, size_t devices = 1,
                        size_t width = 0); // see format_table()
// The value of "phases": an array; see docs/json.md.
void phases_json(JsonWriter & json, const std::vector<Phase> & phases);

} // namespace gnv
