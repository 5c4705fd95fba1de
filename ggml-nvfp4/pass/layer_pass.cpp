#include "pass/layer_pass_state.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace gnv {

Result<std::unique_ptr<LayerPass>> LayerPass::create(std::vector<TextVariant> variants, std::vector<Backend *> devices,
                                                     ThreadPool & threads, const std::vector<TextSequence> & sequences,
                                                     const PassOptions & options) {
    GNV_CHECK(!variants.empty() && !devices.empty());
    if (sequences.empty()) return fail(Code::invalid_argument, "there are no sequences to run");
    std::unique_ptr<State> state(new State);
    state->variants = std::move(variants);
    state->devices = std::move(devices);
    state->threads = &threads;
    state->sequences = &sequences;
    state->options = options;
    for (size_t i = 0; i < sequences.size(); i++) GNV_TRY(check_sequence(sequences[i], i, state->model().sizes()));
    state->requested = StatisticSet::plan(state->model(), options.statistics);
    GNV_ASSIGN(state->plan, plan_pass(state->request()));
    return std::unique_ptr<LayerPass>(new LayerPass(std::move(state)));
}

LayerPass::LayerPass(std::unique_ptr<State> state) : state_(std::move(state)) {}
LayerPass::~LayerPass() = default;
const PassPlan & LayerPass::plan() const { return state_->plan; }
const StatisticSet & LayerPass::statistics(size_t variant) const { return state_->statistics[variant]; }

Result<WorkByOp> LayerPass::operations() const { return pass_operations(state_->request(), state_->plan); }
Result<PassProbe> LayerPass::probe(double seconds) const {
    return probe_pass(state_->request(), state_->plan, *state_->threads, seconds);
}

const StatisticSet & LayerPass::requested_statistics() const { return state_->requested; }

bool LayerPass::has_rows() const {
    return state_->plan.lanes.size() == 1 && state_->all_on_host() && state_->plan.store_place == StorePlace::host;
}

Result<const void *> LayerPass::rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const {
    if (has_rows()) return state_->lanes.front().lane->rows().in_host_memory(variant, field, first);
    const int64_t row_bytes = state_->plan.store.columns[size_t(field)] * 4;
    for (const State::Work & work : state_->lanes) {
        const int64_t begin = std::max(first, work.share.begin);
        const int64_t end = std::min(first + count, work.share.begin + work.share.positions);
        if (begin >= end) continue;
        uint8_t * const to = static_cast<uint8_t *>(buffer) + (begin - first) * row_bytes;
        GNV_TRY(work.lane->rows().read(variant, field, begin - work.share.begin, end - begin, to, *state_->threads));
    }
    return static_cast<const void *>(buffer);
}

Status LayerPass::run(const PassHooks & hooks) {
    State & state = *state_;
    state.first_layer = hooks.first_layer;
    GNV_TRY(state.allocate());
    if (hooks.first_layer > 0) GNV_TRY(hooks.restore());
    const int64_t positions = state.plan.store.positions * int64_t(state.variants.size());
    const size_t skipped = state.list_loads().front().group;
    state.progress = {skipped, state.plan.groups.size(), positions * int64_t(skipped),
                      positions * int64_t(state.plan.groups.size())};
    for (const PassGroup & group : state.plan.groups)
        state.progress.layers = std::max(state.progress.layers, layer_of(group) + 1);
    state.progress.tokens = state.plan.store.positions;
    GNV_ASSIGN(state.costs, group_costs(state.request(), state.plan));
    for (size_t g = 0; g < state.costs.size(); g++) {
        state.cost_total += double(positions) * state.costs[g];
        if (g < skipped) state.cost_done += double(positions) * state.costs[g];
    }
    GNV_TRY(state.advance(0, hooks)); // reports the total before the first batch is done
    // A batch can take long on the host: a request to stop also counts inside it.
    std::optional<ThreadPool::Watch> watch;
    if (std::any_of(state.lanes.begin(), state.lanes.end(), [](const auto & work) { return work.lane->aliases(); }))
        watch.emplace(*state.threads, [&] { return state.advance(0, hooks).ok(); });
    return state.run(hooks);
}

// --- Rows between blocks ------------------------------------------------------------------------------------------------------

Status LayerPass::restore_statistics(size_t variant, std::string_view packed) {
    if (state_->statistics[variant].unpack(packed)) return {};
    return Status(Code::format, "the saved statistics have another size than those of this pass");
}

// What some block, or the head, reads before it is made there.
FieldSet LayerPass::State::fields_between_blocks() const {
    FieldSet read = 0, made = 0;
    int32_t layer = -1;
    for (const PassGroup & group : plan.groups) {
        if (layer_of(group) != layer) made = 0;
        const FieldUse use = field_use(group.stages, model());
        if (layer_of(group) >= 0 || is_head(group)) read |= use.reads & ~made;
        made |= use.makes;
        layer = layer_of(group);
    }
    return read;
}

Status LayerPass::State::for_rows(const std::function<Status(LaneRows &, size_t, Field)> & work) {
    const FieldSet fields = fields_between_blocks();
    for (size_t v = 0; v < variants.size(); v++)
        for (Field field = 0; field < max_fields; field++)
            for (Work & lane : lanes)
                if (fields & field_bit(field)) GNV_TRY(work(lane.lane->rows(), v, field));
    return {};
}

uint64_t LayerPass::row_bytes() const {
    const FieldSet fields = state_->fields_between_blocks();
    uint64_t bytes = 0;
    for (Field field = 0; field < max_fields; field++)
        if (fields & field_bit(field)) bytes += state_->plan.store.row_bytes(field);
    return bytes * uint64_t(state_->plan.store.positions) * state_->variants.size();
}

Status LayerPass::save_rows(const std::function<Status(const void *, uint64_t)> & take) const {
    return state_->for_rows([&](LaneRows & rows, size_t v, Field field) { return rows.save(v, field, take); });
}

Status LayerPass::restore_rows(const std::function<Status(void *, uint64_t)> & give) {
    return state_->for_rows([&](LaneRows & rows, size_t v, Field field) { return rows.restore(v, field, give); });
}

// The number of prepared graphs that a lane keeps: those of a group, for each batch shape and variant.
static constexpr size_t graphs_of_a_group = 8;

// --- Memory -------------------------------------------------------------------------------------------------------------------

// Allocates memory of devices first, then of the host, and sets `device` and `on_host` on the way, so that callers know
// which memory is short.
Status LayerPass::State::try_to_allocate(bool & on_host, const Backend *& device) {
    on_host = all_on_host();
    for (const LaneShare & share : plan.lanes) {
        device = devices[share.device];
        GNV_ASSIGN(std::unique_ptr<Lane> lane, Lane::create(*devices[share.device], lane_size(request(), plan, share)));
        auto runner = std::make_unique<StageRunner>(lane->device(), request().stage_options(plan), graphs_of_a_group);
        lanes.push_back({share, std::move(lane), std::move(runner), {}});
    }
    on_host = true;
    // If the host computes, one thread reads beside the others; all threads read while no batch computes.
    const bool beside = plan.weight_buffers > 1 || !all_on_host();
    const WeightStream::Size size = {plan.weight_bytes, !beside ? 0 : all_on_host() ? 1 : threads->size()};
    Lane * first = nullptr; // with memory of its own: it copies from the buffers, and others from there
    for (Work & work : lanes) {
        if (work.lane->aliases()) continue;
        if (first)
            work.lane->follow(*first);
        else
            first = work.lane.get();
    }
    Backend * const memory = first ? &first->device() : devices.front();
    GNV_ASSIGN(stream, WeightStream::create(*memory, size, all_on_host() ? threads : nullptr));
    for (Work & work : lanes) GNV_TRY(work.lane->allocate_host(options.scratch_folder));
    // Pinning memory takes time: the first weights are read meanwhile.
    GNV_TRY(expect_next());
    GNV_TRY(start_reading(list_loads().front()));
    return beside ? stream->add_buffer() : Status();
}

void LayerPass::State::release() {
    const Span span(lanes.empty() ? nullptr : devices.front()->trace(), "host", "free memory");
    for (Work & work : lanes) work.lane->settle(); // devices copy from each other
    lanes.clear();
    stream.reset();
}

// Memory that was free when the pass was planned may be in use now: then a smaller plan is tried, first without a
// second buffer for weights.
Status LayerPass::State::allocate() {
    const Span span(devices.front()->trace(), "host", "allocate memory");
    for (size_t v = 0; v < variants.size(); v++) {
        statistics.push_back(observes(v) ? requested : StatisticSet::plan(model(), {}));
        statistics.back().allocate();
    }
    constexpr int attempts = 6;
    for (int attempt = 1;; attempt++) {
        bool on_host = false;
        const Backend * short_device = devices.front();
        Status status = try_to_allocate(on_host, short_device);
        if (status.ok()) break;
        release();
        if (status.code() != Code::out_of_memory) return status;
        Budget & budget = on_host ? options.host : options.device;
        const Budget & short_of = on_host ? plan.host : plan.device;
        const uint64_t own = short_of.used() - budget.used();
        const bool is_second = plan.weight_buffers > 1 && on_host == all_on_host();
        budget.limit(own - (is_second ? plan.weight_bytes : (own - short_of.reserved("driver, libraries")) / 4));
        if (attempt < attempts) {
            Result<PassPlan> smaller = plan_pass(request());
            if (smaller.ok()) plan = smaller.take();
            if (smaller.ok()) continue;
        }
        const std::string device = on_host ? "" : concat(" on ", short_device->device().label());
        return std::move(status).add_context(
            concat("memory that was free when the forward pass was planned is in use now; wait for other programs",
                   device, " to end, or give a smaller budget"));
    }
    for (Work & work : lanes) work.lane->take_variants(variants);
    return {};
}

// --- Weights ------------------------------------------------------------------------------------------------------------------

// Consecutive variants with the same weights share a load. The first variant runs last: on_group gets its weights.
std::vector<LayerPass::State::Load> LayerPass::State::list_loads() const {
    std::vector<Load> loads;
    for (size_t g = 0; g < plan.groups.size(); g++) {
        const bool is_done = first_layer > 0 && !is_head(plan.groups[g]) && layer_of(plan.groups[g]) < first_layer;
        if (is_done) continue;
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

// A group of weights for each run of variants that share them: all runs for the head, else one.
Result<std::vector<WeightLoad>> LayerPass::State::reads_of(const Load & load) const {
    std::vector<WeightLoad> reads;
    const std::vector<WeightRef> refs = weights_of(model(), plan.groups[load.group].stages);
    for (const size_t v : load.variants) {
        const TextVariant & variant = variants[v];
        if (!reads.empty() && reads.back().catalog == variant.weights) continue;
        GNV_ASSIGN(WeightGroup group, WeightGroup::plan(*variant.weights, refs));
        reads.push_back({std::move(group), variant.weights, variant.files});
    }
    return reads;
}

Status LayerPass::State::expect_next() {
    for (Work & work : lanes) GNV_TRY(work.lane->expect_weights(*stream));
    return {};
}

Status LayerPass::State::start_reading(const Load & load) {
    GNV_ASSIGN(std::vector<WeightLoad> reads, reads_of(load));
    return stream->start(std::move(reads));
}

// Starts to read the next weights, which overwrite those that a hook received: its work there must have ended. `wait`:
// wait for that, else start only if it has ended.
Status LayerPass::State::start_next(const PassHooks & hooks, bool wait) {
    if (!to_read.load) return {};
    if (to_read.reuses) {
        if (!wait && hooks.may_reuse && !hooks.may_reuse()) return {};
        GNV_TRY(hooks.before_reuse());
    }
    return start_reading(*std::exchange(to_read.load, nullptr));
}

Status LayerPass::State::bring_weights() {
    {
        const Span span(devices.front()->trace(), "host", "wait for weights");
        GNV_TRY(stream->finish());
    }
    host_weights.clear();
    for (const WeightLoad & load : stream->loads()) host_weights.push_back(load.group);
    for (Work & work : lanes) work.lane->finish_weights(*stream);
    return {};
}

// --- Run ----------------------------------------------------------------------------------------------------------------------

// Reading of the first weights began when their memory was allocated.
Status LayerPass::State::run(const PassHooks & hooks) {
    const std::vector<Load> loads = list_loads();
    const bool reads_beside = stream->buffers() > 1;
    for (size_t i = 0; i < loads.size(); i++) {
        const Load & load = loads[i];
        const PassGroup & group = plan.groups[load.group];
        GNV_TRY(bring_weights());
        to_read.load = i + 1 < loads.size() ? &loads[i + 1] : nullptr;
        const bool reuses = reads_beside ? i > 0 && loads[i - 1].last : load.last;
        to_read.reuses = reuses && hooks.before_reuse;
        if (to_read.load) GNV_TRY(expect_next());
        if (to_read.load && all_on_host()) { // the system reads ahead of the one thread, or of none
            GNV_ASSIGN(const std::vector<WeightLoad> reads, reads_of(*to_read.load));
            for (const WeightLoad & read : reads) read.group.will_need(*read.catalog, *read.files);
        }
        if (reads_beside) GNV_TRY(start_next(hooks, is_head(group)));
        progress.group = load.group;
        progress.layer = layer_of(group) + 1;
        Backend & first = lanes.front().lane->device();
        first.begin_range(concat("group ", load.group).c_str());
        Status done = is_head(group) ? run_head(group, hooks) : run_load(load, hooks);
        first.end_range();
        GNV_TRY(std::move(done));
        if (load.last && hooks.on_group) { // the weights of the first variant, which ran last
            std::vector<LaneWeights> there;
            for (const Work & work : lanes)
                if (!work.lane->aliases()) there.push_back({&work.lane->device(), &work.lane->weights().back()});
            GNV_TRY(hooks.on_group(group, host_weights.back(), there));
        }
        const int32_t layer = layer_of(group);
        const bool ends_block =
            layer >= 0 && i + 1 < loads.size() && load.last && layer_of(plan.groups[loads[i + 1].group]) != layer;
        if (ends_block && hooks.on_layer) GNV_TRY(hooks.on_layer(layer + 1));
        if (!reads_beside) GNV_TRY(start_next(hooks, true));
    }
    return {};
}

} // namespace gnv
