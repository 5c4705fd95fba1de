#include "api/quantize.h"

#include "api/task_queue.h"
#include "cpu/nvfp4_pack.h"
#include "formats/json_writer.h"
#include "formats/nvfp4.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <sys/resource.h>

namespace gnv {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto progress_interval = std::chrono::milliseconds(100);
constexpr uint64_t prefetch_window = 64 << 20; // how far the kernel reads ahead of the workers

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void add_process_usage(QuantizeReport & report) {
    rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return;
    const auto seconds = [](const timeval & time) { return double(time.tv_sec) + double(time.tv_usec) * 1e-6; };
    report.cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    report.peak_rss = uint64_t(usage.ru_maxrss) * 1024;
}

// Adds the time it lives to a counter.
class Stopwatch {
  public:
    explicit Stopwatch(double & counter) : counter_(counter) {}
    ~Stopwatch() { counter_ += seconds_since(start_); }

  private:
    double & counter_;
    Clock::time_point start_ = Clock::now();
};

struct Worker {
    std::vector<uint8_t> source, output;
    QuantizeReport times; // read, measure, pack, write, bytes
};

class Run {
  public:
    Run(const Plan & plan, const QuantizeOptions & options, FolderFiles shards, CheckpointWriter & writer)
        : plan_(plan), options_(options), shards_(std::move(shards)), writer_(writer), queue_(plan) {
        progress_.source_bytes_total = plan.source_bytes_read();
        progress_.tensors_total = plan.output.tensors.size();
    }

    // Streams everything; times go to `report`.
    Status stream(ThreadPool & threads, QuantizeReport & report);
    Status check_source_unchanged() const { return plan_.checkpoint.check_unchanged(shards_); }
    // After stream(): a request to stop still counts until the result gets its name.
    Status check_cancelled() { return advance(0, 0); }

  private:
    Status work(Worker & worker);
    Status run_task(Worker & worker, const Task & task);
    Status copy(Worker & worker, const Task & task);
    Status group(Worker & worker, const Task & task);
    Status measure(Worker & worker, const Task & task, float & absolute_maximum);
    Status pack(Worker & worker, const Task & task);

    Status read_rows(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows, uint8_t * out);
    Status find_maximum(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows, const uint8_t * data,
                        float & absolute_maximum);
    Status pack_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data,
                     float global_scale);
    Status write_global_scale(const PlanModule & module, float global_scale);
    Status finish_unit(uint32_t unit);
    Status advance(uint64_t source_bytes, uint64_t tensors);
    void prefetch(uint64_t source_bytes_done);

    const Plan & plan_;
    const QuantizeOptions & options_;
    FolderFiles shards_;
    CheckpointWriter & writer_;
    TaskQueue queue_;
    const Clock::time_point start_ = Clock::now();

    std::mutex prefetch_mutex_;
    size_t prefetched_units_ = 0;
    uint64_t prefetched_bytes_ = 0;

    std::mutex progress_mutex_;
    QuantizeProgress progress_;
    Clock::time_point last_progress_;
};

Status Run::stream(ThreadPool & threads, QuantizeReport & report) {
    const int count = std::min(plan_.memory.workers, threads.size());
    std::vector<Worker> workers(static_cast<size_t>(count));
    const Clock::time_point start = Clock::now();
    prefetch(0);
    GNV_TRY(threads.parallel_for(count, [&](int64_t i) { return work(workers[size_t(i)]); }));
    report.stream_wall = seconds_since(start);
    for (const Worker & worker : workers) {
        report.read += worker.times.read;
        report.measure += worker.times.measure;
        report.pack += worker.times.pack;
        report.write += worker.times.write;
        report.bytes_read += worker.times.bytes_read;
        report.bytes_written += worker.times.bytes_written;
    }
    return advance(0, 0);
}

Status Run::work(Worker & worker) {
    Status status = guard_exceptions([&]() -> Status {
        worker.source.resize(plan_.memory.source_buffer);
        worker.output.resize(plan_.memory.output_buffer);
        Task task;
        while (queue_.next(task)) GNV_TRY(run_task(worker, task));
        return {};
    });
    if (!status.ok()) queue_.stop();
    return status;
}

Status Run::run_task(Worker & worker, const Task & task) {
    float absolute_maximum = 0;
    switch (task.kind) {
    case Task::Kind::copy: GNV_TRY(copy(worker, task)); break;
    case Task::Kind::group: GNV_TRY(group(worker, task)); break;
    case Task::Kind::measure: GNV_TRY(measure(worker, task, absolute_maximum)); break;
    case Task::Kind::pack: GNV_TRY(pack(worker, task)); break;
    }
    return queue_.done(task, absolute_maximum) ? finish_unit(task.unit) : Status();
}

// Every tensor of the unit is complete.
Status Run::finish_unit(uint32_t unit_number) {
    const PlanUnit & unit = plan_.units[unit_number];
    uint64_t tensors = 0;
    const auto finished = [&](uint32_t tensor) {
        tensors++;
        return writer_.finished(tensor);
    };
    if (!unit.quantize) GNV_TRY(finished(unit.first));
    for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++)
        for (uint32_t component = 0; component < plan_.outputs_per_module(); component++)
            GNV_TRY(finished(plan_.modules[m].first_output + component));
    return advance(0, tensors);
}

Status Run::copy(Worker & worker, const Task & task) {
    const PlanUnit & unit = plan_.units[task.unit];
    const TensorInfo & source = plan_.checkpoint.tensors()[plan_.tensors[unit.first].source];
    {
        const Stopwatch watch(worker.times.read);
        GNV_TRY(shards_[source.shard]
                    ->read(worker.source.data(), task.size, source.offset + task.begin)
                    .add_context(plan_.checkpoint.describe(source)));
    }
    const Stopwatch watch(worker.times.write);
    GNV_TRY(writer_.write(unit.first, worker.source.data(), task.size, task.begin));
    worker.times.bytes_read += task.size;
    worker.times.bytes_written += task.size;
    return advance(task.size, 0);
}

Status Run::group(Worker & worker, const Task & task) {
    const PlanUnit & unit = plan_.units[task.unit];
    float absolute_maximum = 0;
    uint8_t * at = worker.source.data();
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        GNV_TRY(read_rows(worker, linear, 0, uint64_t(linear.rows), at));
        GNV_TRY(find_maximum(worker, linear, 0, uint64_t(linear.rows), at, absolute_maximum));
        at += plan_.weight_bytes(linear);
    }
    const DType dtype = plan_.source_of(plan_.linear(plan_.modules[unit.first])).dtype;
    const float global_scale = nvfp4::global_scale(dtype, absolute_maximum);
    at = worker.source.data();
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        GNV_TRY(pack_rows(worker, plan_.modules[m], 0, uint64_t(linear.rows), at, global_scale));
        at += plan_.weight_bytes(linear);
    }
    return {};
}

Status Run::measure(Worker & worker, const Task & task, float & absolute_maximum) {
    const LinearModule & linear = plan_.linear(plan_.modules[task.module]);
    GNV_TRY(read_rows(worker, linear, task.begin, task.size, worker.source.data()));
    return find_maximum(worker, linear, task.begin, task.size, worker.source.data(), absolute_maximum);
}

Status Run::pack(Worker & worker, const Task & task) {
    const LinearModule & linear = plan_.linear(plan_.modules[task.module]);
    GNV_TRY(read_rows(worker, linear, task.begin, task.size, worker.source.data()));
    return pack_rows(worker, plan_.modules[task.module], task.begin, task.size, worker.source.data(),
                     task.global_scale);
}

Status Run::read_rows(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows, uint8_t * out) {
    const TensorInfo & source = plan_.source_of(linear);
    const uint64_t bytes = rows * plan_.row_bytes(linear);
    {
        const Stopwatch watch(worker.times.read);
        GNV_TRY(shards_[source.shard]
                    ->read(out, bytes, source.offset + linear.offset + row * plan_.row_bytes(linear))
                    .add_context(plan_.checkpoint.describe(source)));
    }
    worker.times.bytes_read += bytes;
    return advance(bytes, 0);
}

// The first NaN or Inf of some rows, for the message.
Status not_finite(const Plan & plan, const TensorInfo & source, const LinearModule & linear, uint64_t row,
                  uint64_t rows, const uint8_t * data) {
    const uint64_t element_bytes = uint64_t(dtype_traits(source.dtype).bits) / 8;
    uint64_t element = 0;
    for (bool finite = true; element < rows * uint64_t(linear.columns); element++) {
        (void)nvfp4::absolute_maximum_reference(source.dtype, data + element * element_bytes, 1, finite);
        if (!finite) break;
    }
    const uint64_t r = row + element / uint64_t(linear.columns), c = element % uint64_t(linear.columns);
    return fail(Code::bad_value, plan.checkpoint.describe(source), ": NaN or Inf at row ", r, ", column ", c, " of ",
                linear.name, " (byte ",
                source.offset + linear.offset + (r * uint64_t(linear.columns) + c) * element_bytes,
                " of the file); it cannot be quantized: repair the source, or keep this module as it is");
}

Status Run::find_maximum(Worker & worker, const LinearModule & linear, uint64_t row, uint64_t rows,
                         const uint8_t * data, float & absolute_maximum) {
    const Stopwatch watch(worker.times.measure);
    const TensorInfo & source = plan_.source_of(linear);
    bool finite = true;
    const float found = cpu::absolute_maximum(source.dtype, data, int64_t(rows) * linear.columns, finite);
    if (!finite) return not_finite(plan_, source, linear, row, rows, data);
    absolute_maximum = std::max(absolute_maximum, found);
    return {};
}

Status Run::pack_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data,
                      float global_scale) {
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
            const Stopwatch watch(worker.times.pack);
            cpu::quantize(dtype, data + done * plan_.row_bytes(linear), piece);
        }
        const Stopwatch watch(worker.times.write);
        const int64_t first = int64_t(row + done);
        GNV_TRY(writer_.write(module.first_output, piece.codes.data(), piece.codes.size(),
                              nvfp4::code_bytes(layout, first, piece.columns)));
        GNV_TRY(writer_.write(module.first_output + 1, piece.scales.data(), piece.scales.size(),
                              nvfp4::scale_bytes(layout, first, piece.columns)));
        worker.times.bytes_written += piece.codes.size() + piece.scales.size();
    }
    return row == 0 ? write_global_scale(module, global_scale) : Status();
}

Status Run::write_global_scale(const PlanModule & module, float global_scale) {
    static_assert(sizeof(float) == 4);
    return writer_.write(module.first_output + 2, &global_scale, sizeof global_scale, 0);
}

// Keeps the disk busy while the workers compute: without it a cold disk is read at a third of its speed.
void Run::prefetch(uint64_t source_bytes_done) {
    const std::unique_lock<std::mutex> lock(prefetch_mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return; // somebody is at it
    for (; prefetched_units_ < plan_.units.size(); prefetched_units_++) {
        if (prefetched_bytes_ > source_bytes_done + prefetch_window) return;
        const PlanUnit & unit = plan_.units[prefetched_units_];
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

Status Run::advance(uint64_t source_bytes, uint64_t tensors) {
    std::unique_lock<std::mutex> lock(progress_mutex_);
    progress_.source_bytes += source_bytes;
    progress_.tensors += tensors;
    if (source_bytes > 0) {
        const uint64_t done = progress_.source_bytes;
        lock.unlock();
        prefetch(done);
        lock.lock();
    }
    const Clock::time_point now = Clock::now();
    const bool complete = progress_.tensors == progress_.tensors_total;
    if (!options_.progress || (now - last_progress_ < progress_interval && !complete)) return {};
    last_progress_ = now;
    progress_.seconds = seconds_since(start_);
    if (options_.progress(progress_)) return {};
    return Status(Code::cancelled, "stopped on request; what was written stays in " + writer_.partial_folder());
}

} // namespace

// --- The whole run ------------------------------------------------------------------------------------------------------------

static Status check_free_space(const Plan & plan, const std::string & destination) {
    const uint64_t needed = plan.disk_bytes();
    GNV_ASSIGN(const uint64_t available, free_disk_bytes(parent_path(destination)));
    if (available >= needed) return {};
    return fail(Code::no_space, "the result needs ", bytes_text(needed), " (", needed, " bytes) at ", destination,
                ", where ", bytes_text(available), " are free");
}

Result<QuantizeReport> quantize(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options) {
    if (plan.options.recipe.scheme == Scheme::nvfp4)
        return fail(Code::unsupported, "scheme nvfp4 (W4A4) needs calibrated input scales, which this version cannot "
                                       "measure; use nvfp4a16 (weights only), or look at the plan with a dry run");
    const Clock::time_point start = Clock::now();
    GNV_TRY(check_destination(plan.checkpoint.folder(), options.destination, options.overwrite));
    GNV_TRY(check_free_space(plan, options.destination));
    GNV_ASSIGN(FolderFiles shards, plan.checkpoint.open_shards());

    QuantizeReport report;
    const CheckpointWriter::Options writer_options{options.destination, options.overwrite, plan.plan_fingerprint,
                                                   plan.source_fingerprint};
    GNV_ASSIGN(const std::unique_ptr<CheckpointWriter> writer, CheckpointWriter::create(plan.output, writer_options));
    Run run(plan, options, std::move(shards), *writer);
    GNV_TRY(run.stream(threads, report));

    const Clock::time_point streamed = Clock::now();
    GNV_TRY(writer->finish_tensors());
    report.sync_wall = seconds_since(streamed);

    const Clock::time_point synced = Clock::now();
    for (const PlanFile & file : plan.files)
        GNV_TRY(writer->copy_file(file.name, join_path(plan.checkpoint.folder(), file.name)));
    GNV_TRY(run.check_source_unchanged());
    GNV_TRY(run.check_cancelled());
    GNV_TRY(writer->publish(plan.config_text));
    report.finish_wall = seconds_since(synced);
    report.total_wall = seconds_since(start);
    add_process_usage(report);
    return report;
}

std::string quantize_report_json(const Plan & plan, const QuantizeReport & report) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.quantize.1");
    json.member("scheme", scheme_name(plan.options.recipe.scheme));
    json.member("preset", preset_name(plan.options.recipe.preset));
    json.member("source_tensors", plan.checkpoint.tensors().size());
    json.member("source_bytes", plan.checkpoint.tensor_bytes());
    json.member("quantized_modules", plan.selection.count);
    json.member("tensors", plan.output.tensors.size()).member("shards", plan.output.shards.size());
    json.member("bytes_read", report.bytes_read).member("bytes_written", report.bytes_written);
    json.key("thread_seconds").begin_object().member("read", report.read).member("measure", report.measure);
    json.member("pack", report.pack).member("write", report.write).end_object();
    json.key("seconds").begin_object().member("stream", report.stream_wall).member("sync", report.sync_wall);
    json.member("finish", report.finish_wall).member("total", report.total_wall).end_object();
    json.member("cpu_seconds", report.cpu);
    json.member("threads", plan.memory.workers).member("planned_buffer_bytes", plan.memory.total());
    json.member("peak_rss_bytes", report.peak_rss).member("codec", cpu::nvfp4_best().name);
    json.member("warnings", plan.warnings).member("notes", plan.notes);
    return json.end_object().take() + "\n";
}

} // namespace gnv
