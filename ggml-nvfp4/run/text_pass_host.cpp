// The forward pass where weights and hidden states are in host memory: the CPU.
#include "run/text_pass_state.h"

namespace gnv {

// A NaN or Inf: where it is, in terms of the caller's sequences.
Status TextPass::State::explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                                const BadInput & bad) const {
    if (bad.position < 0 || bad.input < 0 || failure.code() != Code::bad_value) return copy_of(failure);
    size_t sequence = batch.first;
    int64_t position = bad.position;
    while (position >= (*sequences)[sequence].length()) position -= (*sequences)[sequence++].length();
    return fail(Code::bad_value, "layer ", layer_of(group), ", ", model().names().inputs[size_t(bad.input)].name,
                ", sample ", sequence, ", position ", position, ": ", failure.message(),
                "; the model or its weights do not work with this text");
}

// The batches of a group are done for a variant.
Status TextPass::State::take_statistics(size_t v, const PassGroup & group, const PassHooks & hooks) {
    if (!observes(v)) return {};
    GNV_TRY(window.take(statistics[v]));
    return hooks.on_statistics ? hooks.on_statistics(v, group, window) : Status();
}

Status TextPass::State::run_batch(size_t v, const PassGroup & group, const WeightGroup & weights,
                                  const PassBatch & batch, const PassHooks & hooks) {
    const TextVariant & variant = variants[v];
    HiddenStore & store = stores[v];
    const bool in_file = store.place() == StorePlace::file;
    BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count);
    const FieldUse use = field_use(group.stages, model());

    // Rows of the store itself, or of the staging memory in front of its file.
    BatchFields rows;
    uint64_t staged = 0;
    for (Field field = 0; field < max_fields; field++) {
        if (!((use.reads | use.makes) & field_bit(field))) continue;
        void *& row = rows[size_t(field)];
        row = in_file ? staging.get() + staged : store.rows(field, batch.begin);
        staged += plan.store.with_positions(batch.positions).field_bytes(field);
        if (in_file && (use.reads & field_bit(field))) GNV_TRY(store.read(field, batch.begin, batch.positions, row));
    }
    StageRunner runner(*device, stage_options());
    BadInput bad;
    StageCall call{variant, group.stages, weights, inputs};
    call.fields = rows;
    call.statistics = &window;
    call.bad_input = &bad;
    if (hooks.on_tap)
        call.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
            if (hooks.wants_tap && !hooks.wants_tap(tap)) return {};
            return hooks.on_tap(v, batch, tap, tensor);
        };
    const Status status = runner.run(call, arena.get(), plan.arena_bytes);
    if (!status.ok()) return explain(status, group, batch, bad);
    for (Field field = 0; field < max_fields; field++)
        if (in_file && (use.makes & field_bit(field)))
            GNV_TRY(store.write(field, batch.begin, batch.positions, rows[size_t(field)]));
    return {};
}

// Positions outside, variants inside: nobody holds the logits of more than a few positions.
Status TextPass::State::run_head(const PassGroup & group, const PassHooks & hooks) {
    const std::vector<WeightRef> refs = weights_of(model(), group.stages);
    std::vector<WeightGroup> weights(variants.size());
    uint64_t used = 0;
    for (size_t v = 0; v < variants.size(); v++) {
        const TextVariant & variant = variants[v];
        if (v > 0 && variant.weights == variants[v - 1].weights) {
            weights[v] = weights[v - 1];
            continue;
        }
        GNV_ASSIGN(weights[v], WeightGroup::plan(*variant.weights, refs));
        GNV_TRY(
            weights[v].load(*variant.weights, *variant.files, weight_memory.get() + used, *threads, device->trace()));
        used += weights[v].bytes();
    }
    for (int64_t first = 0; first < plan.store.positions; first += plan.head_positions) {
        BatchInputs inputs;
        inputs.shape.positions = std::min(plan.head_positions, plan.store.positions - first);
        inputs.shape.segments = 1;
        std::vector<Tensor> logits(variants.size());
        for (size_t v = 0; v < variants.size(); v++) {
            StageRunner runner(*device, stage_options());
            StageCall call{variants[v], group.stages, weights[v], inputs};
            call.fields[hidden_field] = stores[v].rows(hidden_field, first);
            if (stores[v].place() == StorePlace::file) {
                call.fields[hidden_field] = staging.get();
                GNV_TRY(stores[v].read(hidden_field, first, inputs.shape.positions, staging.get()));
            }
            call.on_logits = [&](const Tensor & tensor) {
                logits[v] = tensor;
                return Status();
            };
            GNV_TRY(runner.run(call, arena.get() + v * plan.head_arena_bytes, plan.head_arena_bytes));
        }
        if (hooks.on_logits) GNV_TRY(hooks.on_logits(first, logits));
        GNV_TRY(advance(inputs.shape.positions * int64_t(variants.size()), hooks));
    }
    return hooks.on_group ? hooks.on_group(group, weights.front(), nullptr) : Status();
}

Status TextPass::State::run_group(const PassGroup & group, const PassHooks & hooks) {
    if (is_head(group)) return run_head(group, hooks);
    const std::vector<WeightRef> refs = weights_of(model(), group.stages);
    WeightGroup weights;
    const WeightCatalog * loaded = nullptr;
    // The first variant comes last: its weights are what on_group sees.
    for (size_t i = variants.size(); i-- > 0;) {
        const TextVariant & variant = variants[i];
        if (variant.weights != loaded) {
            GNV_ASSIGN(weights, WeightGroup::plan(*variant.weights, refs));
            GNV_TRY(weights.load(*variant.weights, *variant.files, weight_memory.get(), *threads, device->trace()));
            loaded = variant.weights;
        }
        if (observes(i)) window.open(requested, model(), group.stages);
        for (const PassBatch & batch : plan.batches) {
            GNV_TRY(run_batch(i, group, weights, batch, hooks));
            GNV_TRY(advance(batch.positions, hooks));
        }
        GNV_TRY(take_statistics(i, group, hooks));
    }
    return hooks.on_group ? hooks.on_group(group, weights, nullptr) : Status();
}

Status TextPass::State::run_on_host(const PassHooks & hooks) {
    for (size_t g = 0; g < plan.groups.size(); g++) {
        if (g + 1 < plan.groups.size()) { // the system reads ahead while this group computes
            for (const TextVariant & variant : variants) {
                const std::vector<WeightRef> refs = weights_of(model(), plan.groups[g + 1].stages);
                GNV_ASSIGN(const WeightGroup next, WeightGroup::plan(*variant.weights, refs));
                next.will_need(*variant.weights, *variant.files);
            }
        }
        progress.group = g;
        if (g > 0 && hooks.before_reuse) GNV_TRY(hooks.before_reuse());
        GNV_TRY(run_group(plan.groups[g], hooks));
    }
    return {};
}

} // namespace gnv
