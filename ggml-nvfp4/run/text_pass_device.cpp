// The forward pass on a device with memory of its own.
#include "exec/host_tensor.h"
#include "run/text_pass_state.h"

#include <algorithm>
#include <utility>

namespace gnv {

// --- Weights ------------------------------------------------------------------------------------------------------------------

// Variants that share weights and run one after another share a load. The first variant comes last: its weights are what
// on_group sees.
std::vector<TextPass::State::Load> TextPass::State::list_loads() const {
    std::vector<Load> loads;
    for (size_t g = 0; g < plan.groups.size(); g++) {
        const WeightCatalog * loaded = nullptr;
        for (size_t v = variants.size(); v-- > 0;) {
            if (!loaded || (!is_head(plan.groups[g]) && variants[v].weights != loaded)) loads.push_back({g, {}, false});
            loads.back().variants.push_back(v);
            loaded = variants[v].weights;
        }
        loads.back().last = true;
    }
    return loads;
}

// A group of weights for each run of variants that share them: of the head all, else one.
Status TextPass::State::start_reading(const Load & load) {
    std::vector<WeightLoad> reads;
    const std::vector<WeightRef> refs = weights_of(model(), plan.groups[load.group].stages);
    for (const size_t v : load.variants) {
        const TextVariant & variant = variants[v];
        if (!reads.empty() && reads.back().catalog == variant.weights) continue;
        GNV_ASSIGN(WeightGroup group, WeightGroup::plan(*variant.weights, refs));
        reads.push_back({std::move(group), variant.weights, variant.files});
    }
    return remote->start_reading(std::move(reads));
}

// Starts to read the next weights, which take the place of those before these: whoever was given them must have ended. `wait`:
// now, else only where that is so already. What is queued so far is the last that the device does with them.
Status TextPass::State::start_next(const PassHooks & hooks, bool wait) {
    if (!to_read.load) return {};
    if (to_read.reuses) {
        if (!wait && hooks.may_reuse && !hooks.may_reuse()) return {};
        GNV_TRY(hooks.before_reuse());
    }
    return start_reading(*std::exchange(to_read.load, nullptr));
}

// --- Batches ------------------------------------------------------------------------------------------------------------------

// Whether the batch that ran last met NaN or Inf; after synchronize(). If so it runs again, and the host looks where.
Status TextPass::State::check_watched(const PassGroup & group, const WeightGroup & weights) {
    if (!watched.batch) return {};
    const PassBatch & batch = *watched.batch;
    const size_t v = watched.variant;
    watched.batch = nullptr;
    const int32_t first_bad = window.first_bad();
    if (first_bad < 0) return {};
    const BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count);
    GNV_ASSIGN(const DeviceBatch there, remote->upload(inputs));
    StageRunner runner(*device, stage_options());
    BadInput bad;
    StageCall call{remote_variants[v], group.stages, weights, inputs};
    call.fields = batch_rows->reopen();
    call.statistics = &window;
    call.on_device = &there;
    call.bad_input = &bad;
    call.looks_for_bad_input = true;
    const Status status = runner.run(call, remote->arena(), plan.arena_bytes);
    if (!status.ok()) return explain(status, group, batch, bad);
    return fail(Code::bad_value, "layer ", layer_of(group), ", ", model().names().inputs[size_t(first_bad)].name,
                ": NaN or Inf, which was not there when the batch was computed again: is the memory of ",
                device->device().name, " in order?");
}

Status TextPass::State::run_remote_batch(size_t v, const PassGroup & group, const WeightGroup & weights,
                                         const PassBatch & batch, const PassBatch * next, const PassHooks & hooks) {
    const FieldUse use = field_use(group.stages, model());
    const BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count);
    GNV_ASSIGN(const DeviceBatch there, remote->upload(inputs));
    GNV_TRY(check_watched(group, weights));
    StageRunner runner(*device, stage_options());
    StageCall call{remote_variants[v], group.stages, weights, inputs};
    GNV_ASSIGN(call.fields, batch_rows->open(stores[v], batch.begin, batch.positions, use));
    if (next) batch_rows->prepare(stores[v], next->begin, next->positions, use);
    call.statistics = &window;
    call.on_device = &there;
    if (hooks.on_tap)
        call.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
            if (hooks.wants_tap && !hooks.wants_tap(tap)) return {};
            GNV_ASSIGN(const HostTensor copy, download_tensor(*device, tensor));
            return hooks.on_tap(v, batch, tap, copy.tensor);
        };
    GNV_TRY(runner.run(call, remote->arena(), plan.arena_bytes));
    GNV_TRY(batch_rows->close(stores[v]));
    if (observes(v)) {
        window.watch();
        watched = {v, &batch};
    }
    return advance(batch.positions, hooks);
}

Status TextPass::State::run_remote_load(const Load & load, const std::vector<LoadedWeights> & weights,
                                        const PassHooks & hooks) {
    const PassGroup & group = plan.groups[load.group];
    if (is_head(group)) return run_remote_head(group, weights, hooks);
    const WeightGroup & there = weights.front().device;
    size_t left = load.variants.size() * plan.batches.size();
    for (const size_t v : load.variants) {
        if (observes(v)) window.open(requested, model(), group.stages);
        for (size_t b = 0; b < plan.batches.size(); b++) {
            const PassBatch * const next = b + 1 < plan.batches.size() ? &plan.batches[b + 1] : nullptr;
            GNV_TRY(run_remote_batch(v, group, there, plan.batches[b], next, hooks));
            GNV_TRY(start_next(hooks, left == 1)); // beside the last batch at the latest
            remote->send_weights(left--);          // behind the rows of the next batch
        }
        GNV_TRY(device->synchronize());
        remote->send_weights(left + 1); // which may have been read by now
        GNV_TRY(check_watched(group, there));
        GNV_TRY(take_statistics(v, group, hooks));
    }
    return {};
}

// --- Head ---------------------------------------------------------------------------------------------------------------------

Status TextPass::State::remote_logits(size_t v, const PassGroup & group, const WeightGroup & weights, int64_t first,
                                      int64_t count, float * to) {
    BatchInputs inputs;
    inputs.shape.positions = count;
    inputs.shape.segments = 1;
    DeviceBatch there; // the head needs none of it
    StageRunner runner(*device, stage_options());
    StageCall call{remote_variants[v], group.stages, weights, inputs};
    GNV_ASSIGN(call.fields, batch_rows->open(stores[v], first, count, field_use(group.stages, model())));
    call.on_device = &there;
    DType dtype = DType::f32;
    const int64_t elements = count * model().sizes().vocabulary;
    call.on_logits = [&](const Tensor & tensor) -> Status {
        dtype = tensor.dtype;
        device->download(remote->logits(), tensor.data, tensor_bytes(tensor.dtype, tensor.shape));
        return device->synchronize();
    };
    GNV_TRY(runner.run(call, remote->arena(), plan.arena_bytes));
    return widen_to_float(dtype, remote->logits(), elements, to, *threads);
}

Status TextPass::State::run_remote_head(const PassGroup & group, const std::vector<LoadedWeights> & weights,
                                        const PassHooks & hooks) {
    // They come in the order in which variants run, the last first.
    std::vector<const WeightGroup *> of_variant(variants.size());
    size_t part = 0;
    for (size_t v = variants.size(); v-- > 0;) {
        if (v + 1 < variants.size() && variants[v].weights != variants[v + 1].weights) part++;
        of_variant[v] = &weights[part].device;
    }
    const int64_t vocabulary = model().sizes().vocabulary;
    for (int64_t first = 0; first < plan.store.positions; first += plan.head_positions) {
        const int64_t count = std::min(plan.head_positions, plan.store.positions - first);
        std::vector<Tensor> side_by_side(variants.size());
        for (size_t v = 0; v < variants.size(); v++) {
            float * const to =
                reinterpret_cast<float *>(logits_memory.get()) + int64_t(v) * plan.head_positions * vocabulary;
            GNV_TRY(remote_logits(v, group, *of_variant[v], first, count, to));
            side_by_side[v].shape = {count, vocabulary};
            side_by_side[v].data = to;
        }
        if (hooks.on_logits) GNV_TRY(hooks.on_logits(first, side_by_side));
        GNV_TRY(advance(count * int64_t(variants.size()), hooks));
    }
    return {};
}

// --- Run ----------------------------------------------------------------------------------------------------------------------

// The first weights are being read since there is memory for them.
Status TextPass::State::run_remote(const PassHooks & hooks) {
    const std::vector<Load> loads = list_loads();
    const auto finish_reading = [&] {
        const Span span(device->trace(), "host", "wait for weights");
        return remote->finish_reading();
    };
    for (size_t i = 0; i < loads.size(); i++) {
        const Load & load = loads[i];
        const PassGroup & group = plan.groups[load.group];
        GNV_ASSIGN(const std::vector<LoadedWeights> weights, finish_reading());
        to_read.load = i + 1 < loads.size() ? &loads[i + 1] : nullptr;
        to_read.reuses = i > 0 && loads[i - 1].last && hooks.before_reuse;
        GNV_TRY(start_next(hooks, is_head(group)));
        progress.group = load.group;
        device->begin_range(concat("group ", load.group).c_str());
        Status done = run_remote_load(load, weights, hooks);
        device->end_range();
        GNV_TRY(std::move(done));
        if (load.last && hooks.on_group) {
            const LoadedWeights & of_first = weights.back();
            GNV_TRY(hooks.on_group(group, of_first.host, &of_first.device));
        }
    }
    return {};
}

} // namespace gnv
