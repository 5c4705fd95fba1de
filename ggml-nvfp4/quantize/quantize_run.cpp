#include "quantize/quantize_run.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cstring>

namespace gnv {

namespace {

constexpr uint64_t prefetch_window = 64 << 20; // how far the kernel reads ahead of the workers

} // namespace

QuantizeRun::QuantizeRun(const Plan & plan, const QuantizeOptions & options, const FolderFiles & shards,
                         CheckpointWriter & writer, InstructionSet instructions, Trace * trace)
    : plan_(plan), options_(options), shards_(shards), source_(plan.checkpoint, shards), writer_(writer),
      instructions_(instructions), trace_(trace) {
    progress_.source_bytes_total = plan.source_bytes_read();
    progress_.tensors_total = plan.output.tensors.size();
    units_left_ = std::make_unique<std::atomic<uint64_t>[]>(shards.size());
    for (const PlanUnit & unit : plan.units)
        for (const uint32_t shard : shards_of(unit)) units_left_[shard]++;
}

// --- Units of an earlier run ------------------------------------------------------------------------------------------------

Status QuantizeRun::for_tensors(uint32_t unit_number, const std::function<Status(uint32_t tensor)> & work) const {
    const PlanUnit & unit = plan_.units[unit_number];
    if (!unit.quantize) return work(unit.first);
    const std::span<const FormatComponent> components = plan_.format(unit).components;
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++)
        for (uint32_t c = 0; c < components.size(); c++)
            if (components[c].scope != FormatComponent::Scope::input) GNV_TRY(work(plan_.modules[m].first_output + c));
    return {};
}

bool QuantizeRun::is_finished(uint32_t unit) const {
    bool finished = true;
    (void)for_tensors(unit, [&](uint32_t tensor) {
        finished = finished && writer_.is_done(tensor);
        return Status();
    }).ok();
    return finished;
}

void QuantizeRun::leave_out_finished(int32_t first_layer) {
    left_out_.assign(plan_.units.size(), false);
    for (uint32_t u = 0; u < plan_.units.size(); u++) {
        const PlanUnit & unit = plan_.units[u];
        const bool is_counted = unit.quantize && !plan_.quantizer(unit).needs().empty() &&
                                plan_.linear(plan_.modules[unit.first]).layer >= first_layer;
        if (is_counted || !is_finished(u)) continue;
        left_out_[u] = true;
        left_out_count_++;
        progress_.source_bytes += unit.source_bytes * (unit.read_twice ? 2 : 1);
        (void)for_tensors(u, [&](uint32_t) {
            progress_.tensors++;
            return Status();
        }).ok();
        for (const uint32_t shard : shards_of(unit)) units_left_[shard]--;
    }
    if (left_out_count_ == 0) left_out_.clear();
}

void QuantizeRun::add_choices(const LayerChoices & choices) {
    const std::lock_guard<std::mutex> lock(choices_mutex_);
    for (const auto & [place, choice] : choices) choices_[place].add(choice);
}

LayerChoices QuantizeRun::choices() const {
    const std::lock_guard<std::mutex> lock(choices_mutex_);
    return choices_;
}

std::vector<uint32_t> QuantizeRun::without_finished(const std::vector<uint32_t> & units) const {
    std::vector<uint32_t> others;
    for (const uint32_t unit : units)
        if (!is_left_out(unit)) others.push_back(unit);
    return others;
}

QuantizeRun::~QuantizeRun() {
    if (rest_queue_) rest_queue_->stop();
}

void QuantizeRun::begin_units(std::vector<uint32_t> units, const WeightGroup * resident, int threads) {
    const int planned = most_workers_ > 0 ? std::min(plan_.memory.workers, most_workers_) : plan_.memory.workers;
    const int spare = planned - int(rest_workers_.size());
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

Status QuantizeRun::stream(const std::vector<uint32_t> & all, const WeightGroup * resident, ThreadPool & threads,
                           QuantizeReport & report) {
    const std::vector<uint32_t> units = without_finished(all);
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
    UnitMeasure measured;
    switch (task.kind) {
    case Task::Kind::copy: GNV_TRY(copy(worker, task)); break;
    case Task::Kind::group: GNV_TRY(group(worker, task)); break;
    case Task::Kind::measure: GNV_TRY(measure(worker, task, measured)); break;
    case Task::Kind::pack: GNV_TRY(pack(worker, task)); break;
    }
    switch (queue.done(task, measured)) {
    case TaskQueue::Progress::open: return {};
    case TaskQueue::Progress::finished: return finish_unit(task.unit);
    case TaskQueue::Progress::measured: break;
    }
    GNV_ASSIGN(const UnitScale scale, prepare(task.unit, queue.measure_of(task.unit)));
    queue.start_packing(task.unit, scale);
    return {};
}

// Every tensor of the unit is complete, except input scales, which write_input_scales() writes.
Status QuantizeRun::finish_unit(uint32_t unit_number) {
    const PlanUnit & unit = plan_.units[unit_number];
    uint64_t tensors = 0;
    GNV_TRY(for_tensors(unit_number, [&](uint32_t tensor) {
        tensors++;
        return writer_.finished(tensor);
    }));
    GNV_TRY(check_finished_shards(unit));
    return advance(0, tensors);
}

// --- The source is unchanged ------------------------------------------------------------------------------------------------

std::set<uint32_t> QuantizeRun::shards_of(const PlanUnit & unit) const {
    const std::vector<TensorInfo> & sources = plan_.checkpoint.tensors();
    if (!unit.quantize) return {sources[plan_.tensors[unit.first].source].shard};
    std::set<uint32_t> shards;
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++)
        shards.insert(plan_.source_of(plan_.linear(plan_.modules[m])).shard);
    return shards;
}

// Checks a completely read shard: if it was changed, the run ends now instead of hours later.
Status QuantizeRun::check_finished_shards(const PlanUnit & unit) {
    for (const uint32_t shard : shards_of(unit))
        if (--units_left_[shard] == 0) GNV_TRY(plan_.checkpoint.check_unchanged(*shards_[shard], shard));
    return {};
}

Status QuantizeRun::check_source_unchanged() const {
    GNV_TRY(plan_.checkpoint.check_unchanged(shards_));
    const std::string path = join_path(plan_.checkpoint.folder(), "config.json");
    GNV_ASSIGN(const File config, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, config.stamp());
    if (stamp == plan_.config_stamp) return {};
    return fail(Code::changed, path, " was changed during the run; run again when nothing writes to it");
}

Status QuantizeRun::fetch(Worker & worker, uint32_t tensor, uint64_t offset, uint64_t bytes, uint8_t * buffer,
                          const uint8_t *& data) {
    data = worker.resident ? worker.resident->source_bytes(tensor, offset, bytes) : nullptr;
    if (!data) {
        const Stopwatch watch(worker.times.read, trace_, "read", bytes);
        GNV_TRY(source_.read(source_.tensor(tensor), offset, buffer, bytes));
        data = buffer;
    }
    worker.times.bytes_read += bytes;
    return advance(bytes, 0);
}

// `count` F32 numbers from `data` on as numbers of 16 bits in `out`, which may begin there, too.
static void round_rows(DType dtype, const uint8_t * data, uint64_t count, uint8_t * out) {
    const auto round = dtype == DType::bf16 ? nvfp4::bf16_from_float : nvfp4::f16_from_float;
    for (uint64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, data + i * sizeof value, sizeof value);
        const uint16_t rounded = round(value);
        memcpy(out + i * sizeof rounded, &rounded, sizeof rounded);
    }
}

Status QuantizeRun::fetch_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows,
                               uint8_t * buffer, const uint8_t *& data) {
    const LinearModule & linear = plan_.linear(module);
    const uint64_t row_bytes = plan_.row_bytes(linear);
    GNV_TRY(fetch(worker, linear.source, linear.offset + row * row_bytes, rows * row_bytes, buffer, data));
    if (module.dtype == plan_.source_of(linear).dtype) return {};
    round_rows(module.dtype, data, rows * uint64_t(linear.columns), buffer);
    data = buffer;
    return {};
}

Status QuantizeRun::copy(Worker & worker, const Task & task) {
    const PlanUnit & unit = plan_.units[task.unit];
    const uint8_t * data = nullptr;
    GNV_TRY(fetch(worker, plan_.tensors[unit.first].source, task.begin, task.size, worker.source.data(), data));
    const Stopwatch watch(worker.times.write, trace_, "write", task.size);
    GNV_TRY(writer_.write({unit.first, data, task.size, task.begin}));
    worker.times.bytes_written += task.size;
    return {};
}

Status QuantizeRun::group(Worker & worker, const Task & task) {
    const PlanUnit & unit = plan_.units[task.unit];
    UnitMeasure measured;
    std::vector<const uint8_t *> weights(unit.count);
    uint8_t * buffer = worker.source.data();
    for (uint32_t m = 0; m < unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[unit.first + m]);
        const PlanModule & module = plan_.modules[unit.first + m];
        GNV_TRY(fetch_rows(worker, module, 0, uint64_t(linear.rows), buffer, weights[m]));
        GNV_TRY(measure_rows(worker, module, 0, uint64_t(linear.rows), weights[m], measured));
        buffer += plan_.weight_bytes(linear);
    }
    GNV_ASSIGN(const UnitScale scale, prepare(task.unit, measured));
    for (uint32_t m = 0; m < unit.count; m++) {
        const PlanModule & module = plan_.modules[unit.first + m];
        GNV_TRY(pack_rows(worker, module, 0, uint64_t(plan_.linear(module).rows), weights[m], scale));
    }
    return {};
}

Status QuantizeRun::measure(Worker & worker, const Task & task, UnitMeasure & measured) {
    const PlanModule & module = plan_.modules[task.module];
    const uint8_t * data = nullptr;
    GNV_TRY(fetch_rows(worker, module, task.begin, task.size, worker.source.data(), data));
    return measure_rows(worker, module, task.begin, task.size, data, measured);
}

Status QuantizeRun::pack(Worker & worker, const Task & task) {
    const PlanModule & module = plan_.modules[task.module];
    const uint8_t * data = nullptr;
    GNV_TRY(fetch_rows(worker, module, task.begin, task.size, worker.source.data(), data));
    return pack_rows(worker, module, task.begin, task.size, data, task.scale);
}

Status QuantizeRun::not_finite(const PlanModule & module, uint64_t row, uint64_t rows, const uint8_t * data) const {
    const LinearModule & linear = plan_.linear(module);
    const TensorInfo & source = plan_.source_of(linear);
    const uint64_t element_bytes = uint64_t(dtype_traits(module.dtype).bits) / 8; // here
    const uint64_t source_bytes = uint64_t(dtype_traits(source.dtype).bits) / 8;  // in the file
    uint64_t element = 0;
    for (bool finite = true; element < rows * uint64_t(linear.columns); element++) {
        (void)nvfp4::absolute_maximum_reference(module.dtype, data + element * element_bytes, 1, finite);
        if (!finite) break;
    }
    const uint64_t r = row + element / uint64_t(linear.columns), c = element % uint64_t(linear.columns);
    return fail(Code::bad_value, plan_.checkpoint.describe(source), ": NaN or Inf at row ", r, ", column ", c, " of ",
                linear.name, " (byte ",
                source.offset + linear.offset + (r * uint64_t(linear.columns) + c) * source_bytes,
                " of the file); it cannot be quantized: repair the source, or keep this module as it is");
}

Status QuantizeRun::measure_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows,
                                 const uint8_t * data, UnitMeasure & measured) {
    const LinearModule & linear = plan_.linear(module);
    const Stopwatch watch(worker.times.measure, trace_, "absolute maximum", rows * plan_.row_bytes(linear));
    plan_.quantizer(linear).measure(instructions_, {module.dtype, data, int64_t(rows), linear.columns}, measured);
    return measured.finite ? Status() : not_finite(module, row, rows, data);
}

Result<UnitScale> QuantizeRun::prepare(uint32_t unit_number, const UnitMeasure & measured) const {
    const PlanUnit & unit = plan_.units[unit_number];
    UnitInputs inputs;
    MomentFiles::Totals own, layer;
    const Quantizer & quantizer = plan_.quantizer(unit);
    const bool is_measured = !quantizer.needs().empty();
    if (unit_statistics_ && is_measured) inputs = unit_statistics_->find(unit);
    if (moments_ && is_measured) {
        GNV_ASSIGN(inputs, UnitStatistics::read(plan_, unit, *moments_, own, layer));
    }
    inputs.width = plan_.linear(plan_.modules[unit.first]).columns;
    return quantizer.prepare(plan_.format(unit), plan_.modules[unit.first].dtype, measured, inputs);
}

Status QuantizeRun::pack_rows(Worker & worker, const PlanModule & module, uint64_t row, uint64_t rows,
                              const uint8_t * data, const UnitScale & scale) {
    const LinearModule & linear = plan_.linear(module);
    const Format & format = plan_.format(module);
    const uint64_t row_bytes = uint64_t(linear.columns) * uint64_t(dtype_traits(module.dtype).bits) / 8;
    MethodChoices choices;
    const uint64_t step = std::max<uint64_t>(1, worker.output.size() / format.packed_bytes(1, linear.columns));
    for (uint64_t done = 0; done < rows; done += step) {
        PackedRows packed{int64_t(std::min(step, rows - done)), linear.columns, {}};
        uint64_t bytes = 0;
        for (size_t c = 0; c < format.components.size(); c++) {
            if (format.components[c].scope != FormatComponent::Scope::rows) continue;
            packed.data[c] = worker.output.data() + bytes;
            bytes += format.components[c].bytes(packed.rows, packed.columns);
        }
        {
            const Stopwatch watch(worker.times.pack, trace_, "pack", uint64_t(packed.rows) * row_bytes + bytes);
            const WeightRows source{module.dtype, data + done * row_bytes, packed.rows, packed.columns};
            GNV_TRY(plan_.quantizer(linear).pack(instructions_, format, source, scale, packed, nullptr, &choices));
        }
        const Stopwatch watch(worker.times.write, trace_, "write", bytes);
        std::vector<CheckpointWriter::Piece> pieces;
        add_rows(module, int64_t(row + done), packed, scale.value, pieces);
        GNV_TRY(writer_.write(std::move(pieces)));
        worker.times.bytes_written += bytes;
    }
    add_choices(module, choices);
    return {};
}

void QuantizeRun::add_choices(const PlanModule & module, const MethodChoices & choices) {
    const LinearModule & linear = plan_.linear(module);
    if (linear.part != Part::text) return; // layers are those of the text
    const std::lock_guard<std::mutex> lock(choices_mutex_);
    choices_[{linear.layer, linear.role}].add(choices);
}

// Adds rows [row, ...) of a module from memory of each component; with the first row also the unit's scale.
void QuantizeRun::add_rows(const PlanModule & module, int64_t row, const PackedRows & packed, const float & scale,
                           std::vector<CheckpointWriter::Piece> & pieces) const {
    static_assert(sizeof scale == 4);
    const std::span<const FormatComponent> components = plan_.format(module).components;
    for (uint32_t c = 0; c < components.size(); c++) {
        const uint32_t tensor = module.first_output + c;
        if (components[c].scope == FormatComponent::Scope::rows)
            pieces.push_back({tensor, packed.data[c], components[c].bytes(packed.rows, packed.columns),
                              components[c].bytes(row, packed.columns)});
        if (components[c].scope == FormatComponent::Scope::unit && row == 0)
            pieces.push_back({tensor, &scale, sizeof scale, 0});
    }
}

Status QuantizeRun::write_input_scales(const std::vector<InputScale> & scales) {
    uint64_t tensors = 0;
    for (size_t m = 0; m < plan_.modules.size(); m++) {
        const int component = plan_.format(plan_.modules[m]).input_component();
        if (component < 0) continue;
        const uint32_t tensor = plan_.modules[m].first_output + uint32_t(component);
        tensors++;
        if (writer_.is_done(tensor)) continue; // with these bytes: its hash need not begin anew
        GNV_TRY(writer_.write({tensor, &scales[m].scale, sizeof scales[m].scale, 0}));
        GNV_TRY(writer_.finished(tensor));
    }
    return advance(0, tensors);
}

// Keeps the disk busy while the workers compute: without it a cold disk delivers a third of its speed.
void QuantizeRun::prefetch(uint64_t source_bytes_done) {
    const std::unique_lock<std::mutex> lock(prefetch_mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !reads_ahead_) return; // another thread reads ahead, or all is read
    for (; prefetched_units_ < units_.size(); prefetched_units_++) {
        if (prefetched_bytes_ > source_bytes_done + prefetch_window) return;
        const PlanUnit & unit = plan_.units[units_[prefetched_units_]];
        prefetched_bytes_ += unit.source_bytes * (unit.read_twice ? 2 : 1); // as progress counts
        if (!unit.quantize) {
            const TensorInfo & source = plan_.checkpoint.tensors()[plan_.tensors[unit.first].source];
            source_.will_need(source, 0, std::min(source.bytes, prefetch_window));
        }
        for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan_.linear(plan_.modules[m]);
            const TensorInfo & source = plan_.source_of(linear);
            source_.will_need(source, linear.offset, std::min(plan_.weight_bytes(linear), prefetch_window));
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

Status QuantizeRun::advance_positions(const PassProgress & pass) {
    std::unique_lock<std::mutex> lock(progress_mutex_);
    progress_.positions = pass.positions;
    progress_.positions_total = pass.positions_total;
    progress_.share = pass.share;
    progress_.layer = pass.layer, progress_.layers = pass.layers;
    progress_.tokens = pass.tokens;
    return tell(lock);
}

Status QuantizeRun::tell(std::unique_lock<std::mutex> &) {
    GNV_TRY(writer_.status());
    if (!options_.progress || options_.progress(progress_)) return {};
    return Status(Code::cancelled, "stopped on request");
}

} // namespace gnv
