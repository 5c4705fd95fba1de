// Runs a plan. Without calibration the source streams through a few buffers into the destination. With calibration each
// group of weights is loaded once, all sequences run through it, and its tensors are quantized and written from memory.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "output/running_hashes.h"
#include "pass/pass_state.h"
#include "pass/picture_rows.h"
#include "quant/calibration_statistics.h"
#include "quant/plan.h"
#include "quantize/estimate/estimate.h"
#include "report/disks.h"
#include "report/phases.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace gnv {

struct QuantizeProgress {
    uint64_t source_bytes = 0, source_bytes_total = 0; // bytes read twice count twice
    uint64_t tensors = 0, tensors_total = 0;           // of the result
    int64_t positions = 0, positions_total = 0;        // of calibration, over all groups of weights
    double share = 0;                                  // of its operations, done
    int32_t layer = 0, layers = 0;                     // that calibrates, from 1 on, and all; 0: none
    int64_t tokens = 0;                                // of the data
};

// The calibration data, with their description for the report.
struct CalibrationData {
    std::vector<TextSequence> sequences; // those with pictures lack the rows that stand for them
    PassPictures pictures;
    std::string sha256; // hash_sequences()
    std::string json;   // the origin of the sequences for the report: one JSON object
    uint64_t positions = 0, tokens = 0;
    uint64_t reading_bytes = 0;     // memory for reading them: a bound
    std::vector<std::string> files; // their sources
    uint32_t part = 0, parts = 0;   // the part that `sequences` are; 0: all. The hash and `json` are those of all
    // Keeps the sequences of part `number` of `count`, consecutive ones. Code::invalid_argument: no such part.
    Status take_part(uint32_t number, uint32_t count);
};

// How to estimate a run's time before it starts.
struct EstimateOptions {
    std::string assume; // recorded_rates(); empty: measured here, in about two seconds
    double price = 0;   // dollars an hour; 0: no cost
    std::string folder; // of a plan: where the result is going to be
    bool makes_card = false;
};

struct QuantizeOptions {
    std::string destination; // empty: only measures, for save_statistics
    bool overwrite = false;
    Resume resume = Resume::off;
    // Further files that the run reads, besides the source and `calibration`; they are never removed.
    std::vector<std::string> reads;
    // Scheme nvfp4 needs one of both.
    const CalibrationData * calibration = nullptr;
    const Statistics * statistics = nullptr; // of an earlier run
    // The options of the forward pass.
    Precision precision = Precision::f32;
    ExpertTokens expert_tokens = ExpertTokens::all;
    Screening screening = Screening::on;  // with ExpertTokens::all, on devices that can: the same bytes
    std::string scratch_folder;           // see PassOptions
    OpenDevice open_device = open_cpu;    // for the forward pass
    std::vector<OpenDevice> more_devices; // of the same model, which share its work; see run/device_list.h
    uint64_t device_bytes = 0;            // see PassOptions
    // Without calibration: only these layers of the text, which stay in DST.partial. A later run for all layers goes on
    // with them, or takes them from there. 0: all.
    int32_t first_layer = 0, layer_count = 0;
    std::vector<std::string> take; // unfinished folders of such runs: their tensors are copied
    std::string save_statistics;   // a new file for the statistics
    std::string trace_file;        // a new file for the timeline of the run
    std::string report_file;       // a new file for the report, by its name a page (.html) or JSON (.json)
    bool measure_limits = false;   // first the disks alone for two seconds, on CUDA the experts' products for 10

    // The text of README.md for the files in `folder`, where it alone is missing; empty: no such file. `hashes`: those of
    // files that the run knows already.
    std::function<Result<std::string>(const std::string & folder, const KnownHashes & hashes)> card;

    std::optional<EstimateOptions> estimate; // goes to the report with its error
    // The least number of tokens that the router must send to every expert; a run with fewer fails before the result gets
    // its name, with given statistics before anything is written. 0: any.
    uint64_t min_expert_tokens = 0;

    // Called from one thread at a time, after each piece of work; false stops the run.
    std::function<bool(const QuantizeProgress &)> progress;
    // Receive messages for the user during the run, one line each: notes; what the run begins with; doubts.
    std::function<void(const std::string &)> note, announce, warn;
};

// Seconds are summed over threads unless stated otherwise.
struct QuantizeReport {
    double read = 0, measure = 0, pack = 0, write = 0;
    double prepare_wall = 0; // checks, plan of the forward pass, measuring the device's limits, making the files
    double stream_wall = 0;  // first byte read to last byte handed to the system
    double sync_wall = 0;    // waiting for the disk afterwards
    double hash_wall = 0;    // waiting for the hashes of shards, where they are not made before
    double finish_wall = 0;  // other files, index, config, card, rename
    double remove_wall = 0;  // removing the checkpoint that the result replaced
    double total_wall = 0;
    double cpu = 0; // of the process so far, user and system
    uint64_t bytes_read = 0, bytes_written = 0;
    uint64_t peak_rss = 0; // of the process, in bytes
    double calibrate_wall = 0;
    double pass_wall = 0; // the forward pass with the part of packing and writing that the device's work does not hide
    uint64_t planned_bytes = 0; // of the forward pass: weights, activations, hidden states, packed weights on their way
    uint64_t planned_device_bytes = 0; // the same on a device with memory of its own
    uint64_t device_bytes_in_use = 0;  // of the fullest such device, by all processes, at the end of the forward pass
    std::string device;                // of the forward pass
    size_t devices = 0;                // how many of them
    std::string codec;                 // the instruction set of packing on the CPU
    DeviceLimits limits;
    std::vector<Phase> phases;
    DiskReport disks;
    uint64_t substituted_scales = 0;          // input scales of experts without usable inputs
    uint64_t sequences = 0, tokens = 0;       // of the calibration; 0: none
    uint64_t experts = 0, silent_experts = 0; // all of its experts; those that the router sent no token
    std::vector<std::string> warnings;        // of the run, besides those of the plan
    bool resumed = false;                     // went on with a stopped run
    uint64_t resumed_units = 0;               // that it had finished
    int32_t resumed_layers = 0;               // of its forward pass that need not run again
    double state_wall = 0;                    // saving the state
    uint64_t state_bytes = 0;                 // of disk space for it
    std::string destination;                  // empty: none
    // Input scales by layer and role; empty: the format has none, or they were not computed.
    struct Scales {
        int32_t layer = 0;
        Role role = Role::extra;
        uint64_t modules = 0;
        float minimum = 0, median = 0, maximum = 0;
    };
    std::vector<Scales> scales;
    std::string result_json; // quantization_report.json of the result; empty: none was made
    std::optional<Estimate> estimate;
    double estimate_wall = 0;        // making it; a part of prepare_wall
    std::optional<FetchUse> fetched; // of a streamed source
};

// Adds to a plan what a run without calibration fetches, if its source is streamed.
void describe_streaming(Plan & plan);

// The time of the run of a plan with these options; everything that a run refuses before it starts is refused.
Result<Estimate> estimate_run(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options);

// Writes the planned checkpoint. After a failure or cancellation DST.partial stays, with its journal, and no new
// destination exists. With `resume` the next run goes on with it, to the same bytes.
Result<QuantizeReport> quantize(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options);

Result<std::string> quantize_report_json(const Plan & plan, const QuantizeReport & report);
// The table of the run's times, for people. Its first part adds up to the whole run.
std::string quantize_report_text(const QuantizeReport & report, size_t width = 0); // see format_table()
// The last lines of a run, for people: modules, bytes, data, experts, time, memory, doubts.
std::string quantize_summary_text(const Plan & plan, const QuantizeReport & report);

} // namespace gnv
