// The movement of bytes in a run of quantize: worker threads read, measure, pack and write the units of the plan, each
// with a few bounded buffers. If a device computes, they work in the background, and the device packs the units that it
// can.
#pragma once

#include "core/background_jobs.h"
#include "core/clock.h"
#include "model/weight_source.h"
#include "output/checkpoint_writer.h"
#include "quant/input_scales.h"
#include "quantize/packing/device_packer.h"
#include "quantize/packing/task_queue.h"
#include "quantize/packing/unit_statistics.h"
#include "quantize/quantization_report.h"
#include "quantize/quantize.h"
#include "run/weight_group.h"

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace gnv {

// The threads behind a forward pass on a device: those that read the host's copy of a group's weights before it is
// overwritten, and those that write the units that the device packed.
struct GroupJobs {
    std::unique_ptr<BackgroundJobs> host, packed;

    static Result<GroupJobs> create(int threads); // that many of the first kind
    Status status() const;                        // the first failure of either
};

// Adds its lifetime to a counter, and to the trace as work of this thread.
class Stopwatch {
  public:
    Stopwatch(double & counter, Trace * trace, const char * name, uint64_t bytes = 0)
        : counter_(counter), span_(trace, "worker", name, {0, double(bytes)}) {}
    ~Stopwatch() { counter_ += span_.seconds(); }

  private:
    double & counter_;
    const Span span_;
};

class QuantizeRun {
  public:
    // `trace` may be null. All arguments must outlive the run.
    QuantizeRun(const Plan & plan, const QuantizeOptions & options, const FolderFiles & shards,
                CheckpointWriter & writer, InstructionSet instructions, Trace * trace);
    ~QuantizeRun(); // waits for the work of begin_rest()

    // Streams units (positions in Plan::units); times go to `report`. Weights come from `resident` (may be null) if it
    // holds them, else from their files.
    Status stream(const std::vector<uint32_t> & units, const WeightGroup * resident, ThreadPool & threads,
                  QuantizeReport & report);
    // Starts to write units of a group whose weights are in host memory and in that of devices of one model: their
    // packers share the units that they can pack, the others are packed from the host's copy. When it returns, later
    // work in the devices' queues may change the weights there; those of the host may change after leave_host_memory().
    Status begin_group(const std::vector<uint32_t> & units, const WeightGroup & host,
                       const std::vector<PackingLane> & devices, GroupJobs & jobs, QuantizeReport & report);
    Status leave_host_memory(GroupJobs & jobs, QuantizeReport & report);
    Status finish_groups(GroupJobs & jobs, QuantizeReport & report); // waits until everything is written
    // Starts to stream units that no group holds, beside the groups, on a few of the threads with planned buffers; with
    // fewer than four threads it starts none. finish_rest() streams the remaining units on all threads.
    Status begin_rest(const std::vector<uint32_t> & units);
    Status rest_status() const { return rest_jobs_ ? rest_jobs_->status() : Status(); } // the first failure so far
    Status finish_rest(ThreadPool & threads, QuantizeReport & report);
    // By position in Plan::modules.
    Status write_input_scales(const std::vector<InputScale> & scales);
    // Units that an earlier run finished are left out from here on, except those that need what a pass measures in
    // layer `first_layer` or later: they count for the report.
    void leave_out_finished(int32_t first_layer);
    bool is_finished(uint32_t unit) const; // all its tensors are on disk, but input scales
    bool is_left_out(uint32_t unit) const { return !left_out_.empty() && left_out_[unit]; }
    uint64_t units_left_out() const { return left_out_count_; }
    void add_choices(const LayerChoices & choices); // of the units left out
    // What units are prepared with from here on, where the CPU packs; it must outlive the run.
    void use_statistics(const UnitStatistics & statistics) { unit_statistics_ = &statistics; }
    // The same from files, with at most so many workers.
    void use_moments(const MomentFiles & moments, int workers) { moments_ = &moments, most_workers_ = workers; }
    LayerChoices choices() const; // so far
    // Shards and config.json are the files that were planned with; the other files are compared when they are copied.
    Status check_source_unchanged() const;
    // Calls the progress callback; Code::cancelled if it asks to stop.
    Status advance(uint64_t source_bytes, uint64_t tensors);
    Status advance_positions(const PassProgress & pass);

  private:
    struct Worker {
        std::vector<uint8_t> source, output;
        const WeightGroup * resident = nullptr; // weights that are in memory
        QuantizeReport times;                   // read, measure, pack, write, bytes
    };

    std::vector<uint32_t> without_finished(const std::vector<uint32_t> & units) const;
    // Calls `work` with the tensors of a unit, except input scales.
    Status for_tensors(uint32_t unit, const std::function<Status(uint32_t tensor)> & work) const;
    // Sets the units of a stream() or group, for workers and for reading ahead.
    void begin_units(std::vector<uint32_t> units, const WeightGroup * resident, int threads);
    static void collect_times(std::vector<Worker> & workers, QuantizeReport & report);
    void collect_times(QuantizeReport & report);
    // Consecutive units for each of so many devices, of about the same bytes.
    std::vector<std::vector<uint32_t>> divide(const std::vector<uint32_t> & units, size_t devices) const;
    Status pack_on_devices(const std::vector<uint32_t> & units, const WeightGroup & host,
                           const std::vector<PackingLane> & devices, GroupJobs & jobs);
    Status write_piece(DevicePacker::Piece & piece);
    Status finish_part(const DevicePacker::Part & part);
    Status find_not_finite(uint32_t unit, const WeightGroup & host);

    Status work(Worker & worker, TaskQueue & queue);
    Status run_task(Worker & worker, TaskQueue & queue, const Task & task);
    Status copy(Worker & worker, const Task & task);
    Status group(Worker & worker, const Task & task);
    Status measure(Worker & worker, const Task & task, UnitMeasure & measure);
    Status pack(Worker & worker, const Task & task);

    // `bytes` of a source tensor from `offset`: in place in memory, or read into `buffer`.
    Status fetch(Worker & worker, uint32_t source, uint64_t offset, uint64_t bytes, uint8_t * buffer,
                 const uint8_t *& data);
    Status fetch_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows, uint8_t * buffer,
                      const uint8_t *& data);
    // The first NaN or Inf of some rows, for the message.
    Status not_finite(const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data) const;
    Status measure_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data,
                        UnitMeasure & measure);
    Result<UnitScale> prepare(uint32_t unit, const UnitMeasure & measure) const;
    Status pack_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data,
                     const UnitScale & scale);
    // `packed` and `scale` must last until the pieces are written.
    void add_rows(const PlanModule & module, int64_t row, const PackedRows & packed, const float & scale,
                  std::vector<CheckpointWriter::Piece> & pieces) const;
    void add_choices(const PlanModule & module, const MethodChoices & choices);
    Status finish_unit(uint32_t unit);
    std::set<uint32_t> shards_of(const PlanUnit & unit) const; // of its source
    Status check_finished_shards(const PlanUnit & unit);
    Status tell(std::unique_lock<std::mutex> & lock);
    void prefetch(uint64_t source_bytes_done);

    const Plan & plan_;
    const QuantizeOptions & options_;
    const FolderFiles & shards_;
    const WeightSource source_;
    CheckpointWriter & writer_;
    const InstructionSet instructions_;
    Trace * const trace_;

    std::vector<bool> left_out_; // by unit; empty: none
    uint64_t left_out_count_ = 0;
    std::vector<Worker> workers_;
    std::vector<uint32_t> units_;            // of this stream()
    bool reads_ahead_ = true;                // of `units_`: false if they are in memory
    WeightGroup group_;                      // the weights in memory for workers in the background
    std::unique_ptr<TaskQueue> group_queue_; // of its units that the device does not pack
    std::vector<Worker> rest_workers_;
    std::unique_ptr<TaskQueue> rest_queue_;
    std::unique_ptr<BackgroundJobs> rest_jobs_; // ends before the members that it uses
    std::mutex packed_mutex_;
    std::map<uint32_t, int64_t> rows_left_;               // of units that the device packs
    QuantizeReport packed_times_;                         // of writing them
    std::unique_ptr<std::atomic<uint64_t>[]> units_left_; // by shard of the source: unfinished units
    std::mutex prefetch_mutex_;
    size_t prefetched_units_ = 0; // in units_
    uint64_t prefetched_bytes_ = 0, prefetch_base_ = 0;

    const UnitStatistics * unit_statistics_ = nullptr;
    const MomentFiles * moments_ = nullptr;
    int most_workers_ = 0; // 0: as planned
    mutable std::mutex choices_mutex_;
    LayerChoices choices_;

    std::mutex progress_mutex_;
    QuantizeProgress progress_;
};

} // namespace gnv
