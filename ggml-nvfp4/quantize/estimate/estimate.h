// How long a planned run takes, and what it costs: operations and bytes of the plan over the rates of a machine.
#pragma once

#include "formats/json_writer.h"
#include "quantize/estimate/machine_rates.h"

#include <string>

namespace gnv {

// What a run does.
struct RunWork {
    WorkByOp ops;            // of the forward pass; empty: none
    double slots_in_use = 1; // of grouped_linear: see its flops
    double byte_share =
        1; // of the bytes of activations on the machine of the rates: 0.5 for BF16 where the plan has F32
    uint64_t read_bytes = 0;   // of the source
    uint64_t weight_bytes = 0; // that are quantized
    uint64_t write_bytes = 0;
    uint64_t hash_bytes = 0;    // for the model card, by file
    uint64_t scratch_bytes = 0; // hidden states to a file and back
    uint64_t upload_bytes = 0;  // to a device
    uint64_t last_file = 0;     // of the file that is finished last
    bool reads_beside = false;  // a thread reads while the host computes
    bool searches = false;      // a method whose time is not known beforehand
};

// Seconds of the parts of a run. Where a device computes, the others go on beside it: the longest counts.
struct Estimate {
    std::string machine;
    bool is_measured = false;
    double room = 0, pass = 0, read = 0, pack = 0, write = 0, disk = 0, upload = 0, finish = 0;
    bool overlaps = false;
    bool knows_pack = true, knows_write = true;
    double total = 0;
    uint64_t disk_bytes = 0, host_bytes = 0, device_bytes = 0;
    double price = 0; // dollars an hour; 0: not given
    double cost() const { return total / 3600 * price; }
    double actual = 0; // seconds, after the run; 0: before
    double error() const { return actual > 0 ? total / actual - 1 : 0; }
};

Estimate make_estimate(const RunWork & work, const MachineRates & rates, int threads);
std::string estimate_text(const Estimate & estimate);
// The value of "estimate": docs/json.md.
void estimate_json(JsonWriter & json, const Estimate & estimate);
// "estimated 1 min 20 s, took 1 min 31 s (-12 %)"
std::string estimate_error_text(const Estimate & estimate);

} // namespace gnv
