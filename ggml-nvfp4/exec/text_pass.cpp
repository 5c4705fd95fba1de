#include "exec/text_pass.h"

#include "core/memory.h"
#include "exec/device_pass.h"

#include <algorithm>

namespace gnv {

// --- Sequences ----------------------------------------------------------------------------------------------------------------

Status check_sequence(const TextSequence & sequence, size_t number, const TextModelSizes & sizes, int64_t past) {
    const int64_t length = sequence.length();
    const std::string where = concat("sequence ", number);
    if (length == 0) return fail(Code::invalid_argument, where, " is empty");
    for (int64_t t = 0; t < length; t++)
        if (sequence.ids[size_t(t)] < 0 || sequence.ids[size_t(t)] >= sizes.vocabulary)
            return fail(Code::invalid_argument, where, ", position ", t, ": token ", sequence.ids[size_t(t)],
                        " is not in the vocabulary of ", sizes.vocabulary, "; was another tokenizer used?");
    if (!sequence.mask.empty() && int64_t(sequence.mask.size()) != length)
        return fail(Code::invalid_argument, where, " has ", length, " tokens and a mask of ", sequence.mask.size());
    if (!sequence.positions.empty() && int64_t(sequence.positions.size()) != 3 * length)
        return fail(Code::invalid_argument, where, " has ", length, " tokens and ", sequence.positions.size(),
                    " positions; [3, ", length, "] are needed");
    int64_t begin = 0;
    for (size_t i = 0; i <= sequence.segments.size(); i++) {
        const int64_t end = i < sequence.segments.size() ? sequence.segments[i] : length;
        const bool first = i == 0 && !sequence.segments.empty();
        if (first ? end != 0 : end <= begin)
            return fail(Code::invalid_argument, where, ": segments must begin at 0 and grow");
        if (past + end - begin > sizes.max_positions)
            return fail(Code::invalid_argument, where, " has a text of ", past + end - begin,
                        " positions, the model has ", sizes.max_positions, "; use shorter sequences");
        begin = end;
    }
    return {};
}

BatchInputs make_batch(const TextSequence * sequences, size_t count) {
    BatchInputs batch;
    BatchShape & shape = batch.shape;
    for (size_t i = 0; i < count; i++) {
        shape.positions += sequences[i].length();
        shape.segments += int64_t(std::max<size_t>(1, sequences[i].segments.size()));
        for (const uint8_t real : sequences[i].mask) shape.masked |= real == 0;
    }
    const auto total = size_t(shape.positions);
    batch.positions.resize(3 * total);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const TextSequence & sequence = sequences[i];
        const auto length = size_t(sequence.length());
        batch.ids.insert(batch.ids.end(), sequence.ids.begin(), sequence.ids.end());
        if (shape.masked && sequence.mask.empty()) batch.mask.insert(batch.mask.end(), length, 1);
        if (shape.masked) batch.mask.insert(batch.mask.end(), sequence.mask.begin(), sequence.mask.end());
        if (sequence.segments.empty()) batch.segments.push_back(int32_t(at));
        for (const int32_t begin : sequence.segments) batch.segments.push_back(int32_t(at) + begin);
        size_t segment = 0;
        int32_t position = 0;
        for (size_t t = 0; t < length; t++, position++) {
            if (segment < sequence.segments.size() && int32_t(t) == sequence.segments[segment]) {
                position = 0;
                segment++;
            }
            for (size_t axis = 0; axis < 3; axis++)
                batch.positions[axis * total + at + t] =
                    sequence.positions.empty() ? position : sequence.positions[axis * length + t];
        }
        at += length;
    }
    for (size_t s = 1; s < batch.segments.size(); s++) batch.last_positions.push_back(batch.segments[s] - 1);
    batch.segments.push_back(int32_t(at));
    batch.last_positions.push_back(int32_t(at) - 1);
    return batch;
}

// --- Plan ---------------------------------------------------------------------------------------------------------------------

struct TextPass::State {
    std::vector<TextVariant> variants;
    Backend * device = nullptr;
    ThreadPool * threads = nullptr;
    const std::vector<TextSequence> * sequences = nullptr;
    PassOptions options;
    PassPlan plan;

    std::unique_ptr<DevicePass> remote; // on a device with memory of its own; what follows is then empty
    AlignedBlock weight_memory, arena, staging;
    std::vector<HiddenStore> stores;                      // by variant
    std::vector<std::vector<LayerStatistics>> statistics; // by variant, by layer
    PassProgress progress;

    bool is_remote() const { return device->device().kind != DeviceKind::cpu; }
    DevicePassSize device_size() const;
    Status choose_remote_plan();
    Status run_remote(const PassHooks & hooks);
    Status run_remote_group(const PassGroup & group, const WeightGroup & host, const PassHooks & hooks);
    const TextModel & model() const { return *variants.front().model; }
    StageOptions stage_options() const {
        return {options.observe, options.observe_magnitudes && !is_remote(), options.expert_tokens, plan.expert_tile,
                false};
    }
    Result<uint64_t> weight_bytes(const std::vector<Stage> & stages) const;
    Status plan_head(uint64_t logits_bytes);
    Result<std::vector<PassGroup>> cut_groups(int64_t expert_ranges) const;
    void cut_batches(int64_t wanted);
    Status make_plan(int64_t expert_ranges, int64_t batch_positions, bool in_file, uint64_t logits_bytes);
    Status choose_plan();
    Status allocate();

    Status run_group(const PassGroup & group, const PassHooks & hooks);
    Status run_head(const PassGroup & group, const PassHooks & hooks);
    Status run_batch(size_t variant, const PassGroup & group, const WeightGroup & weights, const PassBatch & batch,
                     const PassHooks & hooks);
    Status explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                   const BadInput & bad) const;
};

static bool is_head(const PassGroup & group) { return group.stages.front().kind == StageKind::head; }

// Variants run one after another, but for the head, where the weights of all are held together.
Result<uint64_t> TextPass::State::weight_bytes(const std::vector<Stage> & stages) const {
    uint64_t largest = 0, sum = 0;
    const WeightCatalog * last = nullptr;
    for (const TextVariant & variant : variants) {
        if (variant.weights == last) continue;
        last = variant.weights;
        GNV_ASSIGN(const WeightGroup group, WeightGroup::plan(*variant.weights, weights_of(model(), stages)));
        largest = std::max(largest, group.bytes());
        sum += group.bytes();
    }
    return stages.front().kind == StageKind::head ? sum : largest;
}

// As many positions as their logits fit into `logits_bytes`.
Status TextPass::State::plan_head(uint64_t logits_bytes) {
    constexpr uint64_t most = 1024; // more do not make the product faster
    const uint64_t row = uint64_t(model().sizes().vocabulary) * sizeof(float) * variants.size();
    const int64_t positions = plan.batches.back().begin + plan.batches.back().positions;
    plan.head_positions = std::min(int64_t(std::clamp<uint64_t>(logits_bytes / row, 1, most)), positions);
    BatchShape shape;
    shape.positions = plan.head_positions;
    shape.segments = 1;
    for (const TextVariant & variant : variants) {
        StageRunner runner(*device, stage_options());
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(variant, plan.groups.back().stages, shape));
        plan.head_arena_bytes = std::max(plan.head_arena_bytes, rounded_to_64(bytes));
    }
    plan.arena_bytes = std::max(plan.arena_bytes, plan.head_arena_bytes * variants.size());
    return {};
}

// One group a block, or, with several ranges of experts: everything before them, each range, everything after.
Result<std::vector<PassGroup>> TextPass::State::cut_groups(int64_t expert_ranges) const {
    std::vector<PassGroup> groups;
    groups.push_back({{Stage{StageKind::embed}}});
    for (int32_t layer = 0; layer < model().sizes().layers; layer++) {
        groups.emplace_back();
        for (const Stage & stage : model().block_stages(layer)) {
            if (stage.kind != StageKind::experts || expert_ranges <= 1) {
                groups.back().stages.push_back(stage);
                continue;
            }
            const int64_t each = (stage.expert_count + expert_ranges - 1) / expert_ranges;
            for (int64_t first = 0; first < stage.expert_count; first += each) {
                Stage range = stage;
                range.first_expert = int32_t(first);
                range.expert_count = int32_t(std::min<int64_t>(each, stage.expert_count - first));
                groups.push_back({{range}});
            }
            groups.emplace_back();
        }
    }
    if (options.head) groups.push_back({{Stage{StageKind::head}}});
    for (PassGroup & group : groups) {
        GNV_ASSIGN(group.weight_bytes, weight_bytes(group.stages));
    }
    return groups;
}

void TextPass::State::cut_batches(int64_t wanted) {
    plan.batches.clear();
    int64_t row = 0;
    for (size_t i = 0; i < sequences->size(); i++) {
        const int64_t length = (*sequences)[i].length();
        if (plan.batches.empty() || plan.batches.back().positions + length > wanted)
            plan.batches.push_back({i, 0, row, 0});
        plan.batches.back().count++;
        plan.batches.back().positions += length;
        row += length;
    }
}

static HiddenStore::Layout store_layout(const std::vector<PassGroup> & groups, const TextModel & model,
                                        int64_t positions) {
    HiddenStore::Layout layout;
    layout.positions = positions;
    const TextModelSizes & sizes = model.sizes();
    for (const PassGroup & group : groups) {
        const FieldUse use = field_use(group.stages, model);
        const auto column = [&](bool used, Field field, int64_t columns) {
            if (used) layout.columns[size_t(field)] = columns;
        };
        column(true, Field::hidden, sizes.hidden);
        column(use.makes_routed, Field::routed, sizes.hidden);
        column(use.makes_router, Field::router_weights, sizes.experts_per_token);
        column(use.makes_router, Field::router_indices, sizes.experts_per_token);
    }
    return layout;
}

// Blocks of one kind have the same activations: one of each is enough to know the arena.
static bool same_activations(const PassGroup & a, const PassGroup & b, const TextModel & model) {
    if (a.stages.size() != b.stages.size()) return false;
    for (size_t i = 0; i < a.stages.size(); i++) {
        if (a.stages[i].kind != b.stages[i].kind || a.stages[i].expert_count != b.stages[i].expert_count) return false;
        if ((a.stages[i].first_expert == 0) != (b.stages[i].first_expert == 0)) return false; // later ranges add up
        if (a.stages[i].kind != StageKind::mixer) continue;
        const std::vector<StateSpec> first = model.states(a.stages[i].layer), second = model.states(b.stages[i].layer);
        if (std::string_view(first.front().name) != second.front().name) return false;
    }
    return true;
}

// Fills `plan` for one choice of parts, batches and places.
Status TextPass::State::make_plan(int64_t expert_ranges, int64_t batch_positions, bool in_file, uint64_t logits_bytes) {
    plan = PassPlan();
    GNV_ASSIGN(plan.groups, cut_groups(expert_ranges));
    cut_batches(batch_positions);
    plan.store_in_file = in_file;
    if (model().sizes().experts > 0) {
        // Columns of one wide product: enough to be worth its own packing, small enough to keep; few where memory is short.
        const int64_t columns = is_remote() ? 8192 : batch_positions > 1 ? 2048 : 256;
        for (const PassGroup & group : plan.groups)
            for (const Stage & stage : group.stages) {
                if (stage.kind != StageKind::experts) continue;
                GNV_ASSIGN(const WeightSpec spec,
                           variants.front().weights->spec({Role::expert_gate, stage.layer, 0, 1}));
                plan.expert_tile = std::max(plan.expert_tile, columns / std::max<int64_t>(1, spec.shape[1]));
            }
    }
    const PassBatch * largest = &plan.batches.front();
    for (const PassBatch & batch : plan.batches)
        if (batch.positions > largest->positions) largest = &batch;
    const int64_t positions = plan.batches.back().begin + plan.batches.back().positions;
    BatchShape shape = make_batch(sequences->data() + largest->first, largest->count).shape;
    for (const TextSequence & sequence : *sequences) shape.masked |= !sequence.mask.empty();
    for (const PassBatch & batch : plan.batches) {
        int64_t segments = 0;
        for (size_t i = batch.first; i < batch.first + batch.count; i++)
            segments += int64_t(std::max<size_t>(1, (*sequences)[i].segments.size()));
        shape.segments = std::max(shape.segments, segments);
    }
    for (size_t g = 0; g < plan.groups.size(); g++) {
        const PassGroup & group = plan.groups[g];
        plan.weight_bytes = std::max(plan.weight_bytes, group.weight_bytes);
        if (is_head(group)) {
            GNV_TRY(plan_head(logits_bytes));
            continue;
        }
        const bool known =
            std::any_of(plan.groups.begin(), plan.groups.begin() + ptrdiff_t(g),
                        [&](const PassGroup & other) { return same_activations(group, other, model()); });
        for (const TextVariant & variant : variants) {
            if (known) break;
            StageRunner runner(*device, stage_options());
            GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(variant, group.stages, shape));
            plan.arena_bytes = std::max(plan.arena_bytes, bytes);
        }
    }
    plan.store = store_layout(plan.groups, model(), positions);
    plan.store_bytes = plan.store.bytes() * variants.size();
    if (in_file) {
        HiddenStore::Layout batch = plan.store;
        batch.positions = largest->positions;
        plan.staging_bytes =
            std::max(batch.bytes(), uint64_t(plan.head_positions * model().sizes().hidden) * sizeof(float));
    }
    if (options.observe) {
        const TextModelSizes & sizes = model().sizes();
        uint64_t layer = sizeof(LayerStatistics) + uint64_t(sizes.experts) * (sizeof(float) + sizeof(int64_t));
        if (options.observe_magnitudes)
            layer += uint64_t(sizes.experts + int64_t(Observed::count_)) * magnitude_bins * sizeof(int64_t);
        for (const TextVariant & variant : variants)
            plan.statistic_bytes += variant.observe ? uint64_t(sizes.layers) * layer : 0;
    }
    return {};
}

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

Status TextPass::State::choose_plan() {
    if (is_remote()) return choose_remote_plan();
    const uint64_t budget = options.ram_bytes > 0 ? options.ram_bytes : available_memory() / 5 * 4;
    const int64_t experts = std::max<int64_t>(1, model().sizes().experts);
    uint64_t smallest = UINT64_MAX;
    // From the fastest to the smallest: batches that keep products large, then hidden states on disk, then blocks in parts.
    for (int64_t ranges = 1;; ranges = std::min(ranges * 2, experts)) {
        for (const bool in_file : {false, true}) {
            if (in_file && options.scratch_folder.empty()) continue;
            for (const int64_t positions : {int64_t(1024), int64_t(256), int64_t(1)}) {
                const int64_t wanted = options.batch_positions > 0 ? options.batch_positions : positions;
                for (const uint64_t logits_bytes :
                     {std::min<uint64_t>(budget / 8, uint64_t(positions) << 20), uint64_t(0)}) {
                    GNV_TRY(make_plan(ranges, wanted, in_file, logits_bytes));
                    smallest = std::min(smallest, plan.memory_bytes());
                    if (plan.memory_bytes() <= budget) return {};
                    if (!options.head) break;
                }
                if (options.batch_positions > 0) break;
            }
        }
        if (ranges == experts) break;
    }
    const auto whole = [&](uint64_t bytes) { return options.whole_budget ? options.whole_budget(bytes) : bytes; };
    return fail(Code::out_of_memory, "a memory budget of ", bytes_text(whole(budget)), " (", whole(budget),
                " bytes) is too small for a forward pass over ", plan.store.positions,
                " positions: the least that would do is ", whole(smallest), " bytes",
                options.scratch_folder.empty() ? ", less with a folder for scratch files" : "");
}

Status TextPass::State::allocate() {
    if (is_remote()) {
        GNV_ASSIGN(remote, DevicePass::create(*device, device_size()));
        for (size_t v = 0; v < variants.size(); v++) statistics.emplace_back(size_t(model().sizes().layers));
        return {};
    }
    GNV_ASSIGN(weight_memory, allocate_block(plan.weight_bytes, "weights"));
    GNV_ASSIGN(arena, allocate_block(plan.arena_bytes, "activations"));
    GNV_ASSIGN(staging, allocate_block(plan.staging_bytes, "hidden states of a batch"));
    for (size_t v = 0; v < variants.size(); v++) {
        GNV_ASSIGN(HiddenStore store,
                   HiddenStore::create(plan.store, plan.store_in_file ? options.scratch_folder : ""));
        stores.push_back(std::move(store));
        statistics.emplace_back(size_t(model().sizes().layers));
    }
    return {};
}

Result<std::unique_ptr<TextPass>> TextPass::create(std::vector<TextVariant> variants, std::vector<Backend *> devices,
                                                   ThreadPool & threads, const std::vector<TextSequence> & sequences,
                                                   const PassOptions & options) {
    GNV_CHECK(!variants.empty());
    if (devices.size() != 1)
        return fail(Code::unsupported, "a forward pass runs on one device, not on ", devices.size());
    if (sequences.empty()) return fail(Code::invalid_argument, "there are no sequences to run");
    std::unique_ptr<State> state(new State);
    state->variants = std::move(variants);
    state->device = devices.front();
    state->threads = &threads;
    state->sequences = &sequences;
    state->options = options;
    for (size_t i = 0; i < sequences.size(); i++) GNV_TRY(check_sequence(sequences[i], i, state->model().sizes()));
    GNV_TRY(state->choose_plan());
    return std::unique_ptr<TextPass>(new TextPass(std::move(state)));
}

TextPass::TextPass(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextPass::~TextPass() = default;
const PassPlan & TextPass::plan() const { return state_->plan; }
const std::vector<LayerStatistics> & TextPass::statistics(size_t variant) const { return state_->statistics[variant]; }

// --- Run ----------------------------------------------------------------------------------------------------------------------

// A NaN or Inf: where it is, in terms of the caller's sequences.
Status TextPass::State::explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                                const BadInput & bad) const {
    if (bad.position < 0 || bad.observed == Observed::count_ || failure.code() != Code::bad_value)
        return Status(failure.code(), failure.message());
    size_t sequence = batch.first;
    int64_t position = bad.position;
    while (position >= (*sequences)[sequence].length()) position -= (*sequences)[sequence++].length();
    return fail(Code::bad_value, "layer ", group.stages.front().layer, ", ", observed_name(bad.observed), ", sample ",
                sequence, ", position ", position, ": ", failure.message(),
                "; the model or its weights do not work with this text");
}

Status TextPass::State::run_batch(size_t v, const PassGroup & group, const WeightGroup & weights,
                                  const PassBatch & batch, const PassHooks & hooks) {
    const TextVariant & variant = variants[v];
    HiddenStore & store = stores[v];
    BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count);
    const FieldUse use = field_use(group.stages, model());

    // Rows of the store itself, or of the staging memory in front of its file.
    struct Row {
        Field field;
        bool reads, makes;
        void * memory;
    };
    Row rows[] = {{Field::hidden, use.reads_hidden, use.makes_hidden, nullptr},
                  {Field::routed, use.reads_routed, use.makes_routed, nullptr},
                  {Field::router_weights, use.reads_router, use.makes_router, nullptr},
                  {Field::router_indices, use.reads_router, use.makes_router, nullptr}};
    uint64_t staged = 0;
    for (Row & row : rows) {
        if (!row.reads && !row.makes) continue;
        row.memory = store.in_memory() ? store.rows(row.field, batch.begin) : staging.get() + staged;
        staged += rounded_to_64(uint64_t(batch.positions * plan.store.columns[size_t(row.field)]) * 4);
        if (row.reads && !store.in_memory()) GNV_TRY(store.read(row.field, batch.begin, batch.positions, row.memory));
    }
    StageRunner runner(*device, stage_options());
    BadInput bad;
    StageCall call{variant, group.stages, weights, inputs};
    call.fields = {rows[0].memory, rows[1].memory, rows[2].memory, rows[3].memory};
    call.statistics = &statistics[v];
    call.bad_input = &bad;
    if (hooks.on_tap)
        call.on_tap = [&](const Tap & tap, const Tensor & tensor) { return hooks.on_tap(v, batch, tap, tensor); };
    const Status status = runner.run(call, arena.get(), plan.arena_bytes);
    if (!status.ok()) return explain(status, group, batch, bad);
    for (const Row & row : rows)
        if (row.makes && !store.in_memory()) GNV_TRY(store.write(row.field, batch.begin, batch.positions, row.memory));
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
        GNV_TRY(weights[v].load(*variant.weights, *variant.files, weight_memory.get() + used, *threads));
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
            call.fields.hidden = stores[v].rows(Field::hidden, first);
            if (!stores[v].in_memory()) {
                call.fields.hidden = staging.get();
                GNV_TRY(stores[v].read(Field::hidden, first, inputs.shape.positions, staging.get()));
            }
            call.on_logits = [&](const Tensor & tensor) {
                logits[v] = tensor;
                return Status();
            };
            GNV_TRY(runner.run(call, arena.get() + v * plan.head_arena_bytes, plan.head_arena_bytes));
        }
        if (hooks.on_logits) GNV_TRY(hooks.on_logits(first, logits));
        progress.positions += inputs.shape.positions * int64_t(variants.size());
        if (hooks.progress && !hooks.progress(progress)) return Status(Code::cancelled, "stopped on request");
    }
    return hooks.on_group ? hooks.on_group(group, weights.front()) : Status();
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
            GNV_TRY(weights.load(*variant.weights, *variant.files, weight_memory.get(), *threads));
            loaded = variant.weights;
        }
        for (const PassBatch & batch : plan.batches) {
            GNV_TRY(run_batch(i, group, weights, batch, hooks));
            progress.positions += batch.positions;
            if (hooks.progress && !hooks.progress(progress)) return Status(Code::cancelled, "stopped on request");
        }
    }
    return hooks.on_group ? hooks.on_group(group, weights) : Status();
}

Result<const void *> TextPass::rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const {
    const HiddenStore & store = state_->stores[variant];
    if (store.in_memory()) return static_cast<const void *>(store.rows(field, first));
    GNV_TRY(store.read(field, first, count, buffer));
    return static_cast<const void *>(buffer);
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
        if (g + 1 < plan.groups.size()) GNV_TRY(start(g + 1));
        progress.group = g;
        GNV_TRY(run_remote_group(group, host, hooks));
        const int32_t layer = group.stages.front().layer;
        for (size_t v = 0; options.observe && layer >= 0 && v < variants.size(); v++) {
            Observed where = Observed::count_;
            GNV_TRY(remote->take_statistics(layer, statistics[v][size_t(layer)], where)
                        .add_context(concat("layer ", layer, ", ",
                                            where == Observed::count_ ? "statistics" : observed_name(where))));
        }
        if (hooks.on_group) GNV_TRY(hooks.on_group(group, host));
    }
    return {};
}

Status TextPass::run(const PassHooks & hooks) {
    State & state = *state_;
    GNV_TRY(state.allocate());
    const int64_t positions = state.plan.store.positions * int64_t(state.variants.size());
    state.progress = {0, state.plan.groups.size(), 0, positions * int64_t(state.plan.groups.size())};
    if (state.remote) return state.run_remote(hooks);
    for (size_t g = 0; g < state.plan.groups.size(); g++) {
        if (g + 1 < state.plan.groups.size()) { // the system reads ahead while this group computes
            for (const TextVariant & variant : state.variants) {
                const std::vector<WeightRef> refs = weights_of(state.model(), state.plan.groups[g + 1].stages);
                GNV_ASSIGN(const WeightGroup next, WeightGroup::plan(*variant.weights, refs));
                next.will_need(*variant.weights, *variant.files);
            }
        }
        state.progress.group = g;
        GNV_TRY(state.run_group(state.plan.groups[g], hooks));
    }
    return {};
}

} // namespace gnv
