// Running a plan. Weights only, or with statistics at hand: the source streams through a few buffers into the destination.
// With calibration: each group of weights comes in once, all sequences run through it, and its tensors are quantized and
// written from where they are.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "quant/calibration_statistics.h"
#include "quant/plan.h"
#include "report/phases.h"
#include "run/layer_pass.h"

#include <cstdint>
#include <functional>
#include <string>

namespace gnv {

struct QuantizeProgress {
    uint64_t source_bytes = 0, source_bytes_total = 0; // what is read twice counts twice
    uint64_t tensors = 0, tensors_total = 0;           // of the result
    int64_t positions = 0, positions_total = 0;        // of calibration, over all groups of weights
};

// The data to calibrate with, as far as the report tells about it.
struct CalibrationData {
    std::vector<TextSequence> sequences;
    std::string sha256; // hash_sequences()
    std::string json;   // what the report says about where the sequences come from: one JSON object
    uint64_t positions = 0, tokens = 0;
    uint64_t reading_bytes = 0;     // a bound of the memory that reading them took
    std::vector<std::string> files; // that the sequences were read from
};

struct QuantizeOptions {
    std::string destination;
    bool overwrite = false;
    // Files that the run reads besides those of the source and of `calibration`: nothing of them is ever removed.
    std::vector<std::string> reads;
    // Scheme nvfp4 needs one of the two.
    const CalibrationData * calibration = nullptr;
    const Statistics * statistics = nullptr; // measured before
    // How to calibrate.
    Precision precision = Precision::f32;
    ExpertTokens expert_tokens = ExpertTokens::all;
    std::string scratch_folder;        // see PassOptions
    OpenDevice open_device = open_cpu; // that runs the forward pass
    uint64_t device_bytes = 0;         // see PassOptions
    std::string save_statistics;       // a file to write what was measured to; must not exist
    std::string trace_file;            // a file for the timeline of the run; must not exist
    bool measure_limits = false;       // the device's rate in the experts' products, for 10 seconds before the run

    // Called from one thread at a time, after each piece of work; false stops the run.
    std::function<bool(const QuantizeProgress &)> progress;
    // Receives what the user should know of a run that goes on: one line each.
    std::function<void(const std::string &)> note;
};

// Seconds are summed over threads, except where said.
struct QuantizeReport {
    double read = 0, measure = 0, pack = 0, write = 0;
    double prepare_wall = 0; // checks, plan of the forward pass, measuring the device's limits, room for the result
    double stream_wall = 0;  // first byte read to last byte handed to the system
    double sync_wall = 0;    // waiting for the disk afterwards
    double finish_wall = 0;  // other files, index, config, rename
    double total_wall = 0;
    double cpu = 0; // of the process so far, user and system
    uint64_t bytes_read = 0, bytes_written = 0;
    uint64_t peak_rss = 0; // of the process, in bytes
    double calibrate_wall = 0;
    double pass_wall = 0;       // the forward pass with what the device's work did not hide of packing and writing
    uint64_t planned_bytes = 0; // of the forward pass: weights, activations, hidden states, packed weights on their way
    uint64_t planned_device_bytes = 0; // the same on a device with memory of its own
    uint64_t device_bytes_in_use = 0;  // of such a device, by all processes, at the end of the forward pass
    std::string device;                // that ran the forward pass
    std::string codec;                 // the instruction set that packed on the CPU
    DeviceLimits limits;
    std::vector<Phase> phases;
    uint64_t substituted_scales = 0; // input scales that stand in for experts without usable inputs
};

// Writes the planned checkpoint. On failure or cancellation DST.partial stays behind with its journal and nothing carries
// the destination's name.
Result<QuantizeReport> quantize(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options);

std::string quantize_report_json(const Plan & plan, const QuantizeReport & report);
// For people: what the run spent its time on.
std::string quantize_report_text(const QuantizeReport & report);

} // namespace gnv
