// The part of a QuantizeRun for devices: groups of weights that devices pack and threads write in the background.
#include "core/side_by_side.h"
#include "quantize/quantize_run.h"

#include <algorithm>

namespace gnv {

Result<GroupJobs> GroupJobs::create(int threads) {
    constexpr int most_writers = 4; // the system serializes writes to one file
    GroupJobs jobs;
    GNV_ASSIGN(jobs.host, BackgroundJobs::create(threads));
    GNV_ASSIGN(jobs.packed, BackgroundJobs::create(std::min(threads, most_writers)));
    return jobs;
}

Status GroupJobs::status() const {
    GNV_TRY(host->status());
    return packed->status();
}

Status QuantizeRun::begin_group(const std::vector<uint32_t> & units, const WeightGroup & host,
                                const std::vector<PackingLane> & devices, GroupJobs & jobs, QuantizeReport & report) {
    GNV_TRY(leave_host_memory(jobs, report));
    const Clock::time_point start = Clock::now();
    std::vector<uint32_t> packed, others;
    const PackingLane & first = devices.front(); // others can do the same
    for (const uint32_t unit : without_finished(units)) {
        const bool on_device = first.packer && first.packer->can_pack(plan_.units[unit], *first.weights);
        (on_device ? packed : others).push_back(unit);
    }
    // The totals of the others are not in host memory.
    for (const uint32_t unit : others)
        if (plan_.units[unit].quantize && !plan_.quantizer(plan_.units[unit]).needs().empty())
            return fail(Code::unsupported, plan_.linear(plan_.modules[plan_.units[unit].first]).name, ": the method ",
                        plan_.quantizer().name(),
                        " cannot pack it on this device; calibrate on the CPU (--device cpu)");
    group_ = host;
    begin_units(others, &group_, jobs.host->threads());
    group_queue_ = std::make_unique<TaskQueue>(plan_, std::move(others));
    for (Worker & worker : workers_) jobs.host->add([this, &worker] { return work(worker, *group_queue_); });
    if (!packed.empty()) GNV_TRY(pack_on_devices(packed, host, devices, jobs));
    report.stream_wall += seconds_since(start);
    return jobs.status();
}

Status QuantizeRun::leave_host_memory(GroupJobs & jobs, QuantizeReport & report) {
    const Clock::time_point start = Clock::now();
    const Span span(trace_, "host", "wait for writers");
    GNV_TRY(jobs.host->wait());
    report.stream_wall += seconds_since(start);
    collect_times(report);
    return {};
}

Status QuantizeRun::finish_groups(GroupJobs & jobs, QuantizeReport & report) {
    const Clock::time_point start = Clock::now();
    {
        const Span span(trace_, "host", "wait for writers");
        GNV_TRY(jobs.packed->wait());
    }
    report.stream_wall += seconds_since(start);
    return leave_host_memory(jobs, report);
}

// --- Units of no group --------------------------------------------------------------------------------------------------------

Status QuantizeRun::begin_rest(const std::vector<uint32_t> & units) {
    constexpr int most_threads = 2; // groups have priority on disk and processors
    const int threads = std::min(most_threads, plan_.memory.workers / 4);
    rest_queue_ = std::make_unique<TaskQueue>(plan_, without_finished(units));
    if (threads == 0) return {};
    GNV_ASSIGN(rest_jobs_, BackgroundJobs::create(threads));
    rest_workers_.resize(size_t(threads));
    for (Worker & worker : rest_workers_) rest_jobs_->add([this, &worker] { return work(worker, *rest_queue_); });
    return {};
}

Status QuantizeRun::finish_rest(ThreadPool & threads, QuantizeReport & report) {
    const Clock::time_point start = Clock::now();
    begin_units({}, nullptr, threads.size());
    Status done = threads.parallel_for(int64_t(workers_.size()),
                                       [&](int64_t i) { return work(workers_[size_t(i)], *rest_queue_); });
    if (rest_jobs_) GNV_TRY(rest_jobs_->wait());
    GNV_TRY(std::move(done));
    report.stream_wall += seconds_since(start);
    collect_times(rest_workers_, report);
    collect_times(report);
    return advance(0, 0);
}

// --- Weights that devices pack ------------------------------------------------------------------------------------------------

std::vector<std::vector<uint32_t>> QuantizeRun::divide(const std::vector<uint32_t> & units, size_t devices) const {
    uint64_t all = 0, before = 0;
    for (const uint32_t unit : units) all += plan_.units[unit].source_bytes;
    std::vector<std::vector<uint32_t>> shares(devices);
    for (const uint32_t unit : units) {
        shares[size_t(before * devices / std::max<uint64_t>(1, all))].push_back(unit);
        before += plan_.units[unit].source_bytes;
    }
    return shares;
}

Status QuantizeRun::pack_on_devices(const std::vector<uint32_t> & units, const WeightGroup & host,
                                    const std::vector<PackingLane> & devices, GroupJobs & jobs) {
    {
        const std::lock_guard<std::mutex> lock(packed_mutex_);
        for (const uint32_t u : units)
            for (uint32_t m = plan_.units[u].first; m < plan_.units[u].first + plan_.units[u].count; m++)
                rows_left_[u] += plan_.linear(plan_.modules[m]).rows;
    }
    DevicePacker::Receiver receiver;
    receiver.take = [&](std::shared_ptr<DevicePacker::Piece> piece) {
        jobs.packed->add([this, piece = std::move(piece)] { return write_piece(*piece); });
        return jobs.status();
    };
    receiver.not_finite = [&](uint32_t unit) { return find_not_finite(unit, host); };
    receiver.choices = [&](uint32_t module, const MethodChoices & rows) { add_choices(plan_.modules[module], rows); };
    const std::vector<std::vector<uint32_t>> shares = divide(units, devices.size());
    return run_side_by_side(devices.size(), [&](size_t i) {
        return devices[i].packer->pack(shares[i], *devices[i].weights, devices[i].statistics, receiver);
    });
}

Status QuantizeRun::write_piece(DevicePacker::Piece & piece) {
    {
        const Span span(trace_, "worker", "wait for packed weights");
        GNV_TRY(piece.wait());
    }
    std::vector<CheckpointWriter::Piece> pieces;
    uint64_t bytes = 0;
    for (const DevicePacker::Part & part : piece.parts()) {
        const PlanModule & module = plan_.modules[part.module];
        PackedRows packed{part.rows, plan_.linear(module).columns, {}};
        for (size_t c = 0; c < most_components; c++) packed.data[c] = piece.data() + part.data[c];
        add_rows(module, part.row, packed, part.scale, pieces);
        bytes += plan_.format(module).packed_bytes(packed.rows, packed.columns);
    }
    double seconds = 0;
    {
        const Stopwatch watch(seconds, trace_, "write", bytes);
        GNV_TRY(writer_.write(std::move(pieces)));
    }
    {
        const std::lock_guard<std::mutex> lock(packed_mutex_);
        packed_times_.write += seconds;
        packed_times_.bytes_written += bytes;
    }
    for (const DevicePacker::Part & part : piece.parts()) GNV_TRY(finish_part(part));
    return {};
}

Status QuantizeRun::finish_part(const DevicePacker::Part & part) {
    const PlanUnit & unit = plan_.units[part.unit];
    const uint64_t source_bytes =
        uint64_t(part.rows) * plan_.row_bytes(plan_.linear(plan_.modules[part.module])) * (unit.read_twice ? 2 : 1);
    bool complete = false;
    {
        const std::lock_guard<std::mutex> lock(packed_mutex_);
        packed_times_.bytes_read += source_bytes;
        const auto left = rows_left_.find(part.unit);
        left->second -= part.rows;
        complete = left->second == 0;
        if (complete) rows_left_.erase(left);
    }
    GNV_TRY(advance(source_bytes, 0));
    return complete ? finish_unit(part.unit) : Status();
}

// The device found a NaN or Inf in this unit; the host's copy gives the place.
Status QuantizeRun::find_not_finite(uint32_t unit, const WeightGroup & host) {
    for (uint32_t m = plan_.units[unit].first; m < plan_.units[unit].first + plan_.units[unit].count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        const TensorInfo & source = plan_.source_of(linear);
        const uint8_t * const data = host.source_bytes(linear.source, linear.offset, plan_.weight_bytes(linear));
        bool finite = true;
        (void)absolute_maximum(instructions_, source.dtype, data, linear.rows * linear.columns, finite);
        if (!finite) return not_finite(plan_.modules[m], 0, uint64_t(linear.rows), data);
    }
    const LinearModule & first = plan_.linear(plan_.modules[plan_.units[unit].first]);
    return fail(Code::device, plan_.checkpoint.describe(plan_.source_of(first)),
                ": NaN or Inf in the device's copy of ", first.name,
                " or of what shares its scale, none in the host's: is the device's memory in order?");
}

} // namespace gnv
