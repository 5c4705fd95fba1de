// The moving of bytes in a run of quantize: units of the plan are read, measured, packed and written by worker threads, each
// with a few bounded buffers.
#pragma once

#include "api/quantize.h"
#include "api/task_queue.h"
#include "exec/weight_group.h"
#include "formats/checkpoint_writer.h"
#include "quant/input_scales.h"

#include <chrono>
#include <mutex>
#include <vector>

namespace gnv {

class QuantizeRun {
  public:
    QuantizeRun(const Plan & plan, const QuantizeOptions & options, const FolderFiles & shards,
                CheckpointWriter & writer);

    // Streams units (positions in Plan::units); times go to `report`. Weights that `resident` (may be null) holds are taken
    // from there, others from their files.
    Status stream(const std::vector<uint32_t> & units, const WeightGroup * resident, ThreadPool & threads,
                  QuantizeReport & report);
    // By position in Plan::modules.
    Status write_input_scales(const std::vector<InputScale> & scales);
    Status check_source_unchanged() const { return plan_.checkpoint.check_unchanged(shards_); }
    // Calls the progress callback; Code::cancelled when it asks to stop.
    Status advance(uint64_t source_bytes, uint64_t tensors);
    Status advance_positions(int64_t positions, int64_t positions_total);

  private:
    struct Worker {
        std::vector<uint8_t> source, output;
        QuantizeReport times; // read, measure, pack, write, bytes
    };
    using Clock = std::chrono::steady_clock;

    Status work(Worker & worker, TaskQueue & queue);
    Status run_task(Worker & worker, TaskQueue & queue, const Task & task);
    Status copy(Worker & worker, const Task & task);
    Status group(Worker & worker, const Task & task);
    Status measure(Worker & worker, const Task & task, float & absolute_maximum);
    Status pack(Worker & worker, const Task & task);

    // `bytes` of a source tensor from `offset`: where they are in memory, or read to `buffer`.
    Status fetch(Worker & worker, uint32_t source, uint64_t offset, uint64_t bytes, uint8_t * buffer,
                 const uint8_t *& data);
    Status fetch_rows(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows, uint8_t * buffer,
                      const uint8_t *& data);
    Status find_maximum(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows, const uint8_t * data,
                        float & absolute_maximum);
    Status pack_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data,
                     float global_scale);
    Status write_global_scale(const PlanModule & module, float global_scale);
    Status finish_unit(uint32_t unit);
    Status tell(std::unique_lock<std::mutex> & lock);
    void prefetch(uint64_t source_bytes_done);

    const Plan & plan_;
    const QuantizeOptions & options_;
    const FolderFiles & shards_;
    CheckpointWriter & writer_;
    const Clock::time_point start_ = Clock::now();

    std::vector<Worker> workers_;
    std::vector<uint32_t> units_; // of this stream()
    const WeightGroup * resident_ = nullptr;
    std::mutex prefetch_mutex_;
    size_t prefetched_units_ = 0; // in units_
    uint64_t prefetched_bytes_ = 0, prefetch_base_ = 0;

    std::mutex progress_mutex_;
    QuantizeProgress progress_;
    Clock::time_point last_progress_;
};

} // namespace gnv
