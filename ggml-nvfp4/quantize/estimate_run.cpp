// The work of a planned run, for its estimate.
#include "quantize/estimate_run.h"

#include <algorithm>

namespace gnv {

static RunWork work_of(const Plan & plan, const QuantizeOptions & options) {
    RunWork work;
    work.read_bytes = plan.source_bytes_read();
    work.write_bytes = plan.disk_bytes();
    for (const PlanModule & module : plan.modules) work.weight_bytes += plan.weight_bytes(plan.linear(module));
    work.searches = !plan.quantizer().needs().empty();
    if (options.estimate->makes_card) work.hash_bytes = plan.disk_bytes();
    work.last_file = plan.output.last_file_bytes();
    return work;
}

static Status add_pass(const Calibration & calibration, RunWork & work) {
    const PassPlan & pass = calibration.pass().plan();
    GNV_ASSIGN(work.ops, calibration.pass().operations());
    const auto devices = double(calibration.device_count());
    for (auto & [name, done] : work.ops) done.flops /= devices, done.bytes /= devices;
    work.slots_in_use = calibration.slots_in_use();
    work.reads_beside = pass.weight_buffers > 1;
    if (pass.store_place == StorePlace::file)
        work.scratch_bytes = 2 * pass.groups.size() * pass.store.bytes(); // each group reads and writes them
    if (calibration.uses_device())
        for (const PassGroup & group : pass.groups) work.upload_bytes += group.weight_bytes;
    return {};
}

Result<Estimate> estimate_run(const Plan & plan, const FolderFiles & shards, ThreadPool & threads,
                              const Calibration * calibration, const QuantizeOptions & options) {
    const EstimateOptions & wanted = *options.estimate;
    constexpr double seconds_of_pass = 1.4;
    RunWork work = work_of(plan, options);
    if (calibration) GNV_TRY(add_pass(*calibration, work));
    MachineRates rates;
    if (wanted.assume.empty() && plan.checkpoint.files().fetched()) {
        return Status(Code::unsupported, "how long a streamed source takes is up to the network: leave the estimate "
                                         "out, or estimate another machine, which has the source (--assume)");
    } else if (wanted.assume.empty()) {
        const LayerPass * const pass = calibration ? &calibration->pass() : nullptr;
        GNV_ASSIGN(rates, measure_rates(plan, shards, threads, pass, wanted.folder, seconds_of_pass));
    } else if (const MachineRates * const known = recorded_rates(wanted.assume)) {
        rates = *known;
        if (calibration) work.upload_bytes = plan.checkpoint.tensor_bytes();
        if (calibration && !calibration->uses_device()) work.byte_share = 0.5; // it keeps activations in BF16
    } else {
        return fail(Code::invalid_argument, "there are no recorded rates of ", printable(wanted.assume),
                    ": give one of ", recorded_names());
    }
    // A device of the CPU reads as fast as it packs: where it packs by itself, the rate of its copies counts.
    if (wanted.assume.empty() && rates.has_device) rates.pack = 0.7 * rates.bytes;
    Estimate estimate = make_estimate(work, rates, threads.size());
    estimate.price = wanted.price;
    estimate.disk_bytes = plan.disk_bytes();
    estimate.host_bytes = plan.memory.total();
    if (calibration) {
        if (options.resume != Resume::off) estimate.disk_bytes += RunState::disk_bytes(plan, calibration->pass());
        estimate.host_bytes += calibration->pass().plan().host.used();
        estimate.device_bytes = calibration->pass().plan().device.used();
    }
    return estimate;
}

Result<Estimate> estimate_run(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options) {
    GNV_ASSIGN(const FolderFiles shards, plan.checkpoint.open_shards());
    std::unique_ptr<Calibration> calibration;
    if (options.calibration) {
        GNV_ASSIGN(calibration, Calibration::create(plan, shards, threads, *options.calibration, options));
    }
    return estimate_run(plan, shards, threads, calibration.get(), options);
}

} // namespace gnv
