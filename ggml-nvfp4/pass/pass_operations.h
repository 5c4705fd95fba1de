// The operations of a planned pass, counted from its graphs before anything runs, and what a small part of them takes on a
// device: the basis of progress and of estimates of time.
#pragma once

#include "pass/pass_plan.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

using WorkByOp = std::map<std::string, Work>; // by name in tables of times

// Whether products or the like decide the time of an op, or the bytes that it moves; and its amount of that.
bool is_bound_by_operations(std::string_view op);
inline double amount_of(std::string_view op, const Work & work) {
    return is_bound_by_operations(op) ? work.flops : work.bytes;
}

// All groups, batches and variants of the plan, the head aside.
Result<WorkByOp> pass_operations(const PassRequest & request, const PassPlan & plan);

// By group: operations of a position, where moving a byte counts as a few. In proportion to the time that a group takes, as far
// as that is known without running.
Result<std::vector<double>> group_costs(const PassRequest & request, const PassPlan & plan);

// Seconds of each op in a run of blocks of each kind.
struct PassProbe {
    struct Op {
        double seconds = 0;
        Work work;
    };
    std::map<std::string, Op> ops;
    Op other;        // of launches that compute several ops at once: their own names say nothing
    double gaps = 0; // of the time beside all ops, as a share of theirs
    double seconds() const;
};

// Made-up weights: numbers of both signs and of different magnitudes, in BF16, that also make such numbers in F32.
void fill_with_numbers(std::vector<uint16_t> & out);

// Runs one block of each kind, with made-up weights and a few experts, on positions of the pass for about so many seconds. Needs
// the memory that the plan reserves, and gives it back.
Result<PassProbe> probe_pass(const PassRequest & request, const PassPlan & plan, ThreadPool & threads, double seconds);

} // namespace gnv
