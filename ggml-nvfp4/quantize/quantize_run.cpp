#include "quantize/quantize_run.h"

#include "codec/nvfp4.h"
#include "codec/nvfp4_pack.h"

#include <algorithm>

namespace gnv {

namespace {

constexpr auto progress_interval = std::chrono::milliseconds(100);
constexpr uint64_t prefetch_window = 64 << 20; // how far the kernel reads ahead of the workers

constexpr uint32_t weight_components = 3; // codes, block scales, global scale; an input scale follows

} // namespace

QuantizeRun::QuantizeRun(const Plan & plan, const QuantizeOptions & options, const FolderFiles & shards,
                         CheckpointWriter & writer, Trace * trace)
    : plan_(plan), options_(options), shards_(shards), writer_(writer), trace_(trace) {
    progress_.source_bytes_total = plan.source_bytes_read();
    progress_.tensors_total = plan.output.tensors.size();
}

QuantizeRun::~QuantizeRun() {
    if (rest_queue_) rest_queue_->stop();
}

void QuantizeRun::begin_units(std::vector<uint32_t> units, const WeightGroup * resident, int threads) {
    const int spare = plan_.memory.workers - int(rest_workers_.size());
    workers_.resize(size_t(std::min(spare, threads)));
    for (Worker & worker : workers_) worker.resident = resident;
    const std::lock_guard<std::mutex> prefetching(
        prefetch_mutex_); // writers of the last group still tell their progress
    units_ = std::move(units);
    reads_ahead_ = !resident;
    prefetched_units_ = 0;
    const std::lock_guard<std::mutex> telling(progress_mutex_);
    prefetched_bytes_ = prefetch_base_ = progress_.source_bytes;
}

static void add_times(QuantizeReport & sum, const QuantizeReport & part) {
    sum.read += part.read;
    sum.measure += part.measure;
    sum.pack += part.pack;
    sum.write += part.write;
    sum.bytes_read += part.bytes_read;
    sum.bytes_written += part.bytes_written;
}

void QuantizeRun::collect_times(std::vector<Worker> & workers, QuantizeReport & report) {
    for (Worker & worker : workers) {
        add_times(report, worker.times);
        worker.times = {};
    }
}

void QuantizeRun::collect_times(QuantizeReport & report) {
    collect_times(workers_, report);
    const std::lock_guard<std::mutex> lock(packed_mutex_);
    add_times(report, packed_times_);
    packed_times_ = {};
}

Status QuantizeRun::stream(const std::vector<uint32_t> & units, const WeightGroup * resident, ThreadPool & threads,
                           QuantizeReport & report) {
    begin_units(units, resident, threads.size());
    const Clock::time_point start = Clock::now();
    TaskQueue queue(plan_, units);
    prefetch(prefetch_base_);
    GNV_TRY(
        threads.parallel_for(int64_t(workers_.size()), [&](int64_t i) { return work(workers_[size_t(i)], queue); }));
    report.stream_wall += seconds_since(start);
    collect_times(report);
    return advance(0, 0);
}

Status QuantizeRun::work(Worker & worker, TaskQueue & queue) {
    Status status = guard_exceptions([&]() -> Status {
        worker.source.resize(plan_.memory.source_buffer);
        worker.output.resize(plan_.memory.output_buffer);
        Task task;
        while (queue.next(task)) GNV_TRY(run_task(worker, queue, task));
        return {};
    });
    if (!status.ok()) queue.stop();
    return status;
}

Status QuantizeRun::run_task(Worker & worker, TaskQueue & queue, const Task & task) {
    float absolute_maximum = 0;
    switch (task.kind) {
    case Task::Kind::copy: GNV_TRY(copy(worker, task)); break;
    case Task::Kind::group: GNV_TRY(group(worker, task)); break;
    case Task::Kind::measure: GNV_TRY(measure(worker, task, absolute_maximum)); break;
    case Task::Kind::pack: GNV_TRY(pack(worker, task)); break;
    }
    return queue.done(task, absolute_maximum) ? finish_unit(task.unit) : Status();
}

// Every tensor of the unit is complete, but for input scales: write_input_scales() does those.
Status QuantizeRun::finish_unit(uint32_t unit_number) {
    const PlanUnit & unit = plan_.units[unit_number];
    uint64_t tensors = 0;
    const auto finished = [&](uint32_t tensor) {
        tensors++;
        return writer_.finished(tensor);
    };
    if (!unit.quantize) GNV_TRY(finished(unit.first));
    for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++)
        for (uint32_t component = 0; component < weight_components; component++)
            GNV_TRY(finished(plan_.modules[m].first_output + component));
    return advance(0, tensors);
}

Status QuantizeRun::fetch(Worker & worker, uint32_t tensor, uint64_t offset, uint64_t bytes, uint8_t * buffer,
                          const uint8_t *& data) {
    data = worker.resident ? worker.resident->source_bytes(tensor, offset, bytes) : nullptr;
    if (!data) {
        const Stopwatch watch(worker.times.read, trace_, "read", bytes);
        const TensorInfo & source = plan_.checkpoint.tensors()[tensor];
        GNV_TRY(shards_[source.shard]
                    ->read(buffer, bytes, source.offset + offset)
                    .add_context(plan_.checkpoint.describe(source)));
        data = buffer;
    }
    worker.times.bytes_read += bytes;
    return advance(bytes, 0);
}

Status QuantizeRun::fetch_rows(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows,
                               uint8_t * buffer, const uint8_t *& data) {
    const uint64_t row_bytes = plan_.row_bytes(linear);
    return fetch(worker, linear.source, linear.offset + row * row_bytes, rows * row_bytes, buffer, data);
}

Status QuantizeRun::copy(Worker & worker, const Task & task) {
    const PlanUnit & unit = plan_.units[task.unit];
    const uint8_t * data = nullptr;
    GNV_TRY(fetch(worker, plan_.tensors[unit.first].source, task.begin, task.size, worker.source.data(), data));
    const Stopwatch watch(worker.times.write, trace_, "write", task.size);
    GNV_TRY(writer_.write(unit.first, data, task.size, task.begin));
    worker.times.bytes_written += task.size;
    return {};
}

Status QuantizeRun::group(Worker & worker, const Task & task) {
    const PlanUnit & unit = plan_.units[task.unit];
    float absolute_maximum = 0;
    std::vector<const uint8_t *> weights(unit.count);
    uint8_t * buffer = worker.source.data();
    for (uint32_t m = 0; m < unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[unit.first + m]);
        GNV_TRY(fetch_rows(worker, linear, 0, uint64_t(linear.rows), buffer, weights[m]));
        GNV_TRY(find_maximum(worker, linear, 0, uint64_t(linear.rows), weights[m], absolute_maximum));
        buffer += plan_.weight_bytes(linear);
    }
    const DType dtype = plan_.source_of(plan_.linear(plan_.modules[unit.first])).dtype;
    const float global_scale = nvfp4::global_scale(dtype, absolute_maximum);
    for (uint32_t m = 0; m < unit.count; m++) {
        const PlanModule & module = plan_.modules[unit.first + m];
        GNV_TRY(pack_rows(worker, module, 0, uint64_t(plan_.linear(module).rows), weights[m], global_scale));
    }
    return {};
}

Status QuantizeRun::measure(Worker & worker, const Task & task, float & absolute_maximum) {
    const LinearModule & linear = plan_.linear(plan_.modules[task.module]);
    const uint8_t * data = nullptr;
    GNV_TRY(fetch_rows(worker, linear, task.begin, task.size, worker.source.data(), data));
    return find_maximum(worker, linear, task.begin, task.size, data, absolute_maximum);
}

Status QuantizeRun::pack(Worker & worker, const Task & task) {
    const LinearModule & linear = plan_.linear(plan_.modules[task.module]);
    const uint8_t * data = nullptr;
    GNV_TRY(fetch_rows(worker, linear, task.begin, task.size, worker.source.data(), data));
    return pack_rows(worker, plan_.modules[task.module], task.begin, task.size, data, task.global_scale);
}

Status QuantizeRun::not_finite(const LinearModule & linear, uint64_t row, uint64_t rows, const uint8_t * data) const {
    const TensorInfo & source = plan_.source_of(linear);
    const uint64_t element_bytes = uint64_t(dtype_traits(source.dtype).bits) / 8;
    uint64_t element = 0;
    for (bool finite = true; element < rows * uint64_t(linear.columns); element++) {
        (void)nvfp4::absolute_maximum_reference(source.dtype, data + element * element_bytes, 1, finite);
        if (!finite) break;
    }
    const uint64_t r = row + element / uint64_t(linear.columns), c = element % uint64_t(linear.columns);
    return fail(Code::bad_value, plan_.checkpoint.describe(source), ": NaN or Inf at row ", r, ", column ", c, " of ",
                linear.name, " (byte ",
                source.offset + linear.offset + (r * uint64_t(linear.columns) + c) * element_bytes,
                " of the file); it cannot be quantized: repair the source, or keep this module as it is");
}

Status QuantizeRun::find_maximum(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows,
                                 const uint8_t * data, float & absolute_maximum) {
    const TensorInfo & source = plan_.source_of(linear);
    const Stopwatch watch(worker.times.measure, trace_, "absolute maximum", rows * plan_.row_bytes(linear));
    bool finite = true;
    const float found = nvfp4::absolute_maximum(source.dtype, data, int64_t(rows) * linear.columns, finite);
    if (!finite) return not_finite(linear, row, rows, data);
    absolute_maximum = std::max(absolute_maximum, found);
    return {};
}

Status QuantizeRun::pack_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows,
                              const uint8_t * data, float global_scale) {
    constexpr nvfp4::Layout layout = nvfp4::Layout::row_major;
    const LinearModule & linear = plan_.linear(module);
    const DType dtype = plan_.source_of(linear).dtype;
    const uint64_t row_output =
        nvfp4::code_bytes(layout, 1, linear.columns) + nvfp4::scale_bytes(layout, 1, linear.columns);
    const uint64_t step = std::max<uint64_t>(1, worker.output.size() / row_output);
    for (uint64_t done = 0; done < rows; done += step) {
        nvfp4::Weight piece;
        piece.rows = int64_t(std::min(step, rows - done));
        piece.columns = linear.columns;
        piece.codes = {worker.output.data(), nvfp4::code_bytes(layout, piece.rows, piece.columns)};
        piece.scales = {worker.output.data() + piece.codes.size(),
                        nvfp4::scale_bytes(layout, piece.rows, piece.columns)};
        piece.global_scale = global_scale;
        {
            const uint64_t source_bytes = uint64_t(piece.rows) * plan_.row_bytes(linear);
            const Stopwatch watch(worker.times.pack, trace_, "pack",
                                  source_bytes + piece.codes.size() + piece.scales.size());
            nvfp4::quantize(dtype, data + done * plan_.row_bytes(linear), piece);
        }
        const Stopwatch watch(worker.times.write, trace_, "write", piece.codes.size() + piece.scales.size());
        const int64_t first = int64_t(row + done);
        GNV_TRY(writer_.write(module.first_output, piece.codes.data(), piece.codes.size(),
                              nvfp4::code_bytes(layout, first, piece.columns)));
        GNV_TRY(writer_.write(module.first_output + 1, piece.scales.data(), piece.scales.size(),
                              nvfp4::scale_bytes(layout, first, piece.columns)));
        worker.times.bytes_written += piece.codes.size() + piece.scales.size();
    }
    return row == 0 ? write_global_scale(module, global_scale) : Status();
}

// --- Small tensors ------------------------------------------------------------------------------------------------------------

Status QuantizeRun::write_global_scale(const PlanModule & module, float global_scale) {
    static_assert(sizeof(float) == 4);
    return writer_.write(module.first_output + 2, &global_scale, sizeof global_scale, 0);
}

Status QuantizeRun::write_input_scales(const std::vector<InputScale> & scales) {
    for (size_t m = 0; m < plan_.modules.size(); m++) {
        const uint32_t tensor = plan_.modules[m].first_output + weight_components;
        GNV_CHECK(plan_.tensors[tensor].content == Content::input_global_scale);
        GNV_TRY(writer_.write(tensor, &scales[m].scale, sizeof scales[m].scale, 0));
        GNV_TRY(writer_.finished(tensor));
    }
    return advance(0, plan_.modules.size());
}

// Keeps the disk busy while the workers compute: without it a cold disk is read at a third of its speed.
void QuantizeRun::prefetch(uint64_t source_bytes_done) {
    const std::unique_lock<std::mutex> lock(prefetch_mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !reads_ahead_) return; // somebody is at it, or it was read already
    for (; prefetched_units_ < units_.size(); prefetched_units_++) {
        if (prefetched_bytes_ > source_bytes_done + prefetch_window) return;
        const PlanUnit & unit = plan_.units[units_[prefetched_units_]];
        prefetched_bytes_ += unit.source_bytes * (unit.read_twice ? 2 : 1); // as progress counts
        if (!unit.quantize) {
            const TensorInfo & source = plan_.checkpoint.tensors()[plan_.tensors[unit.first].source];
            shards_[source.shard]->will_need(source.offset, std::min(source.bytes, prefetch_window));
        }
        for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan_.linear(plan_.modules[m]);
            const TensorInfo & source = plan_.source_of(linear);
            shards_[source.shard]->will_need(source.offset + linear.offset,
                                             std::min(plan_.weight_bytes(linear), prefetch_window));
        }
    }
}

// --- Progress -----------------------------------------------------------------------------------------------------------------

Status QuantizeRun::advance(uint64_t source_bytes, uint64_t tensors) {
    std::unique_lock<std::mutex> lock(progress_mutex_);
    progress_.source_bytes += source_bytes;
    progress_.tensors += tensors;
    if (source_bytes > 0) {
        const uint64_t done = progress_.source_bytes;
        lock.unlock();
        prefetch(done);
        lock.lock();
    }
    return tell(lock);
}

Status QuantizeRun::advance_positions(int64_t positions, int64_t positions_total) {
    std::unique_lock<std::mutex> lock(progress_mutex_);
    progress_.positions = positions;
    progress_.positions_total = positions_total;
    return tell(lock);
}

Status QuantizeRun::tell(std::unique_lock<std::mutex> &) {
    const Clock::time_point now = Clock::now();
    const bool complete = progress_.tensors == progress_.tensors_total;
    if (!options_.progress || (now - last_progress_ < progress_interval && !complete)) return {};
    last_progress_ = now;
    progress_.seconds = std::chrono::duration<double>(now - start_).count();
    if (options_.progress(progress_)) return {};
    return Status(Code::cancelled, "stopped on request; what was written stays in " + writer_.partial_folder());
}

} // namespace gnv
