// What a machine does in a second: measured in about two seconds before a run, or recorded on another machine.
#pragma once

#include "pass/pass_operations.h"
#include "quant/plan.h"

#include <map>
#include <string>

namespace gnv {

class LayerPass;

struct MachineRates {
    std::string name; // "this machine", or that of the record
    bool is_measured = false;
    bool has_device = false; // memory of its own: it computes and packs while the host reads and writes

    // Seconds for each unit of amount_of(), by op; others move bytes, or compute, at the general rates.
    std::map<std::string, double> seconds_per_unit;
    double flops = 0, bytes = 0; // per second
    double gaps = 0;             // time beside ops, as a share of theirs

    // Bytes per second of all threads together; 0: not known. One thread measures `write`: the system lets one at a time
    // write to a file.
    double read = 0;            // of the source, as much of it as is in the page cache now
    double write = 0, disk = 0; // to the system; from there to the disk
    double reserve = 0;         // of room for the result; file systems in memory fill it with zeros
    double upload = 0;          // to the device
    double pack = 0;            // of source weights
    double hash = 0;            // of a thread
};

// `pass`: the planned forward pass; null: none. `folder`: where the result is going to be; "": unknown. `seconds` bounds the
// forward pass's part; the rest takes less than a second.
Result<MachineRates> measure_rates(const Plan & plan, const FolderFiles & shards, ThreadPool & threads,
                                   const LayerPass * pass, const std::string & folder, double seconds);
// "h100", "h200"; docs/performance.md. Null: no such record.
const MachineRates * recorded_rates(std::string_view name);
std::string recorded_names(); // "h100, h200"

} // namespace gnv
