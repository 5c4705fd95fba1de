// Running a plan: the source streams through a few buffers into the destination, nothing else is held.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "quant/plan.h"

#include <cstdint>
#include <functional>
#include <string>

namespace gnv {

struct QuantizeProgress {
    uint64_t source_bytes = 0, source_bytes_total = 0; // what is read twice counts twice
    uint64_t tensors = 0, tensors_total = 0;           // of the result
    double seconds = 0;
};

struct QuantizeOptions {
    std::string destination;
    bool overwrite = false;
    // Called from one thread at a time, several times a second; false stops the run.
    std::function<bool(const QuantizeProgress &)> progress;
};

// Seconds are summed over threads, except where said.
struct QuantizeReport {
    double read = 0, measure = 0, pack = 0, write = 0;
    double stream_wall = 0; // first byte read to last byte handed to the system
    double sync_wall = 0;   // waiting for the disk afterwards
    double finish_wall = 0; // other files, index, config, rename
    double total_wall = 0;
    double cpu = 0; // of the process so far, user and system
    uint64_t bytes_read = 0, bytes_written = 0;
    uint64_t peak_rss = 0; // of the process, in bytes
};

// Writes the planned checkpoint. On failure or cancellation DST.partial stays behind with its journal and nothing carries
// the destination's name.
Result<QuantizeReport> quantize(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options);

std::string quantize_report_json(const Plan & plan, const QuantizeReport & report);

} // namespace gnv
