// The forward pass on a device with memory of its own.
#include "exec/text_pass_state.h"

#include <algorithm>

namespace gnv {

DevicePassSize TextPass::State::device_size() const {
    DevicePassSize size;
    size.weight_bytes = plan.weight_bytes;
    size.arena_bytes = plan.arena_bytes;
    int64_t positions = 0, segments = 0;
    for (const PassBatch & batch : plan.batches) {
        const BatchShape shape = make_batch(sequences->data() + batch.first, batch.count).shape;
        positions = std::max(positions, shape.positions);
        segments = std::max(segments, shape.segments);
    }
    constexpr uint64_t bytes_a_position = 4 + 3 * 4 + 1, alignment = 4 * 256; // ids, positions, mask
    size.input_bytes = uint64_t(positions) * bytes_a_position + uint64_t(segments + 1) * 4 + alignment;
    size.store = plan.store;
    size.variants = variants.size();
    size.layers = model().sizes().layers;
    size.experts = model().sizes().experts;
    return size;
}

// Hidden states stay on the device; batches are as large as products need to be fast.
Status TextPass::State::choose_remote_plan() {
    if (options.head) return Status(Code::unsupported, "logits are not computed on CUDA devices yet: use the CPU");
    for (const TextVariant & variant : variants)
        if (variant.precision != Precision::bf16)
            return fail(Code::unsupported, device->device().name, " computes in BF16: use precision bf16, or the CPU");
    GNV_ASSIGN(const uint64_t available, device->free_bytes());
    constexpr uint64_t reserve = 512 << 20; // for the libraries that the device's kernels need
    const uint64_t free = available > reserve ? available - reserve : 0;
    const uint64_t budget = options.device_bytes > 0 ? std::min(options.device_bytes, free) : free;
    const uint64_t host_budget = options.ram_bytes > 0 ? options.ram_bytes : available_memory() / 5 * 4;
    const int64_t experts = std::max<int64_t>(1, model().sizes().experts);
    uint64_t smallest = UINT64_MAX, smallest_host = UINT64_MAX;
    for (int64_t ranges = 1;; ranges = std::min(ranges * 2, experts)) {
        for (const int64_t positions : {int64_t(16384), int64_t(4096), int64_t(1024), int64_t(1)}) {
            const int64_t wanted = options.batch_positions > 0 ? options.batch_positions : positions;
            GNV_TRY(make_plan(ranges, wanted, false, 0));
            plan.device_bytes = device_size().total();
            smallest = std::min(smallest, plan.device_bytes);
            smallest_host = std::min(smallest_host, plan.memory_bytes());
            if (plan.device_bytes <= budget && plan.memory_bytes() <= host_budget) return {};
            if (options.batch_positions > 0) break;
        }
        if (ranges == experts) break;
    }
    const auto whole = [&](uint64_t bytes) { return options.whole_budget ? options.whole_budget(bytes) : bytes; };
    return fail(Code::out_of_memory, "too little memory for a forward pass over ", plan.store.positions,
                " positions: ", bytes_text(budget), " on ", device->device().name, " (at least ", smallest,
                " bytes are needed), ", bytes_text(whole(host_budget)), " on the host (at least ", whole(smallest_host),
                ")");
}

// All batches through a group whose weights are on the device. Variants share the checkpoint.
Status TextPass::State::run_remote_group(const PassGroup & group, const WeightGroup & host, const PassHooks & hooks) {
    const WeightGroup weights = remote->on_device(host);
    for (size_t v = variants.size(); v-- > 0;) {
        for (const PassBatch & batch : plan.batches) {
            const BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count);
            GNV_ASSIGN(const DeviceBatch there, remote->upload(inputs));
            StageRunner runner(*device, stage_options());
            StageCall call{variants[v], group.stages, weights, inputs};
            call.fields = remote->fields(v, batch.begin);
            call.statistics = &statistics[v];
            call.on_device = &there;
            GNV_TRY(runner.run(call, remote->arena(), plan.arena_bytes));
            progress.positions += batch.positions;
            if (hooks.progress && !hooks.progress(progress)) return Status(Code::cancelled, "stopped on request");
        }
    }
    GNV_TRY(device->synchronize());
    return {};
}

Status TextPass::State::run_remote(const PassHooks & hooks) {
    const TextVariant & variant = variants.front();
    for (const TextVariant & other : variants)
        if (other.weights != variant.weights || hooks.on_tap || hooks.on_logits)
            return Status(Code::unsupported, "on CUDA a pass runs one checkpoint, without taps and logits");
    const auto start = [&](size_t g) -> Status {
        GNV_ASSIGN(const WeightGroup next,
                   WeightGroup::plan(*variant.weights, weights_of(model(), plan.groups[g].stages)));
        return remote->start_reading(next, *variant.weights, *variant.files);
    };
    GNV_TRY(start(0));
    for (size_t g = 0; g < plan.groups.size(); g++) {
        const PassGroup & group = plan.groups[g];
        GNV_ASSIGN(const WeightGroup host, remote->finish_reading());
        if (g + 1 < plan.groups.size()) {
            if (g > 0 && hooks.before_reuse) GNV_TRY(hooks.before_reuse());
            GNV_TRY(start(g + 1));
        }
        progress.group = g;
        GNV_TRY(run_remote_group(group, host, hooks));
        const int32_t layer = group.stages.front().layer;
        for (size_t v = 0; options.observe && layer >= 0 && v < variants.size(); v++) {
            Observed where = Observed::count_;
            GNV_TRY(remote->take_statistics(layer, statistics[v][size_t(layer)], where)
                        .add_context(concat("layer ", layer, ", ",
                                            where == Observed::count_ ? "statistics" : observed_name(where))));
        }
        const WeightGroup on_device = remote->on_device(host);
        if (hooks.on_group) GNV_TRY(hooks.on_group(group, host, &on_device));
    }
    return {};
}

} // namespace gnv
