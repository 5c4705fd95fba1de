#include "run/text_pass_state.h"

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
    // On a device logits leave before those of the next variant come.
    plan.arena_bytes = std::max(plan.arena_bytes, plan.head_arena_bytes * (is_remote() ? 1 : variants.size()));
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
                                        int64_t positions, DType activation) {
    HiddenStore::Layout layout;
    layout.positions = positions;
    const std::vector<FieldSpec> fields = model.fields();
    for (const PassGroup & group : groups) {
        const FieldUse use = field_use(group.stages, model);
        for (size_t f = 0; f < fields.size(); f++) {
            layout.dtypes[f] = fields[f].is_activation ? activation : fields[f].dtype;
            if (use.makes & field_bit(Field(f))) layout.columns[f] = fields[f].columns;
        }
    }
    return layout;
}

// Blocks of one kind have the same activations: one of each is enough to know the arena.
static bool same_activations(const PassGroup & a, const PassGroup & b, const TextModel & model) {
    if (a.stages.size() != b.stages.size()) return false;
    for (size_t i = 0; i < a.stages.size(); i++) {
        if (a.stages[i].kind != b.stages[i].kind || a.stages[i].expert_count != b.stages[i].expert_count) return false;
        if ((a.stages[i].first_expert == 0) != (b.stages[i].first_expert == 0)) return false; // later ranges add up
        if (a.stages[i].part != b.stages[i].part || model.block_kind(a.stages[i]) != model.block_kind(b.stages[i]))
            return false;
    }
    return true;
}

// Fills `plan` for one choice of parts, batches and places.
Status TextPass::State::make_plan(const std::vector<PassGroup> & groups, int64_t batch_positions, StorePlace place,
                                  uint64_t logits_bytes) {
    plan = PassPlan();
    plan.groups = groups;
    cut_batches(batch_positions);
    plan.store_place = place;
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
    plan.largest_batch = largest->positions;
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
        plan.statistics = plan.statistics.larger_of(StatisticWindow::size_of(requested, model(), group.stages));
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
    plan.store = store_layout(plan.groups, model(), positions, device->activation_dtype());
    add_host_memory();
    if (is_remote()) add_device_memory();
    return {};
}

void TextPass::State::add_host_memory() {
    PassMemory & memory = plan.host;
    memory.weights = plan.weight_bytes;
    memory.activations = plan.arena_bytes;
    memory.hidden_states = plan.store.bytes() * variants.size();
    if (plan.store_place == StorePlace::file) // a batch on its way from and to the file
        memory.hidden_states = std::max(plan.store.with_positions(plan.largest_batch).bytes(),
                                        plan.store.with_positions(plan.head_positions).field_bytes(hidden_field));
    for (size_t v = 0; v < variants.size(); v++) memory.statistics += observes(v) ? requested.kept_bytes() : 0;
    memory.statistics += plan.statistics.bytes + plan.statistics.kept_bytes;
}

uint64_t TextPass::State::host_budget() const {
    if (host_limit > 0) return host_limit;
    return options.ram_bytes > 0 ? options.ram_bytes : available_memory() / 5 * 4;
}

Status TextPass::State::choose_plan() {
    if (is_remote()) return choose_remote_plan();
    const uint64_t budget = host_budget();
    const int64_t experts = std::max<int64_t>(1, model().sizes().experts);
    uint64_t smallest = UINT64_MAX;
    // From the fastest to the smallest: batches that keep products large, then hidden states on disk, then blocks in parts.
    for (int64_t ranges = 1;; ranges = std::min(ranges * 2, experts)) {
        GNV_ASSIGN(const std::vector<PassGroup> groups, cut_groups(ranges));
        for (const StorePlace place : {StorePlace::host, StorePlace::file}) {
            if (place == StorePlace::file && options.scratch_folder.empty()) continue;
            for (const int64_t positions : {int64_t(1024), int64_t(256), int64_t(1)}) {
                const int64_t wanted = options.batch_positions > 0 ? options.batch_positions : positions;
                for (const uint64_t logits_bytes :
                     {std::min<uint64_t>(budget / 8, uint64_t(positions) << 20), uint64_t(0)}) {
                    GNV_TRY(make_plan(groups, wanted, place, logits_bytes));
                    plan.host_budget = budget;
                    smallest = std::min(smallest, plan.host.total());
                    if (plan.host.total() <= budget) return {};
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
    for (size_t v = 0; v < variants.size(); v++) {
        statistics.push_back(observes(v) ? requested : StatisticSet::plan(model(), {}));
        statistics.back().allocate();
    }
    if (is_remote()) return allocate_on_device();
    GNV_ASSIGN(weight_memory, allocate_block(plan.weight_bytes, "weights"));
    GNV_ASSIGN(arena, allocate_block(plan.arena_bytes, "activations"));
    GNV_ASSIGN(window, StatisticWindow::create(*device, plan.statistics));
    GNV_TRY(window.allocate_host());
    if (plan.store_place == StorePlace::file) {
        GNV_ASSIGN(staging, allocate_block(plan.host.hidden_states, "hidden states of a batch"));
    }
    return create_stores();
}

Status TextPass::State::create_stores() {
    for (size_t v = 0; v < variants.size(); v++) {
        GNV_ASSIGN(HiddenStore store,
                   HiddenStore::create(plan.store, plan.store_place, *device, options.scratch_folder));
        stores.push_back(std::move(store));
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
    state->requested = StatisticSet::plan(state->model(), options.statistics);
    GNV_TRY(state->choose_plan());
    return std::unique_ptr<TextPass>(new TextPass(std::move(state)));
}

TextPass::TextPass(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextPass::~TextPass() = default;
const PassPlan & TextPass::plan() const { return state_->plan; }
const StatisticSet & TextPass::statistics(size_t variant) const { return state_->statistics[variant]; }

// --- Run -----------------------------------------------------------------------------------------------------------------

bool TextPass::has_rows() const { return !state_->is_remote() && state_->plan.store_place == StorePlace::host; }

Result<const void *> TextPass::rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const {
    const HiddenStore & store = state_->stores[variant];
    if (has_rows()) return static_cast<const void *>(store.rows(field, first));
    if (state_->is_remote()) {
        GNV_TRY(state_->batch_rows->read(store, field, first, count, buffer, *state_->threads));
    } else {
        GNV_TRY(store.read(field, first, count, buffer));
    }
    return static_cast<const void *>(buffer);
}

Status TextPass::run(const PassHooks & hooks) {
    State & state = *state_;
    GNV_TRY(state.allocate());
    const int64_t positions = state.plan.store.positions * int64_t(state.variants.size());
    state.progress = {0, state.plan.groups.size(), 0, positions * int64_t(state.plan.groups.size())};
    GNV_TRY(state.advance(0, hooks)); // what there is to do is known before the first batch is done
    // A batch can take long: a request to stop counts inside it, too.
    const ThreadPool::Watch watch(*state.threads, [&] { return !hooks.progress || hooks.progress(state.progress); });
    return state.is_remote() ? state.run_remote(hooks) : state.run_on_host(hooks);
}

// positions: of one variant
Status TextPass::State::advance(int64_t positions, const PassHooks & hooks) {
    progress.positions += positions;
    if (hooks.progress && !hooks.progress(progress)) return Status(Code::cancelled, "stopped on request");
    return {};
}

} // namespace gnv
