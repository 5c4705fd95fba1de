// The planner of a pass: division of work and memory.
#include "pass/pass_work.h"

#include <algorithm>
#include <utility>

namespace gnv {

namespace {

// The choices from the fastest to the smallest. Large batches matter more than hidden states on the device; a file is
// slow.
struct Choice {
    StorePlace place;
    int64_t positions; // of a batch
};
constexpr Choice device_choices[] = {
    {StorePlace::device, 65536}, {StorePlace::device, 32768}, {StorePlace::device, 16384}, {StorePlace::host, 16384},
    {StorePlace::device, 4096},  {StorePlace::host, 4096},    {StorePlace::file, 16384},   {StorePlace::file, 4096},
    {StorePlace::device, 1024},  {StorePlace::host, 1024},    {StorePlace::device, 1},     {StorePlace::host, 1},
    {StorePlace::file, 1024},    {StorePlace::file, 1},
};
constexpr int64_t usual_positions = 16384; // more save less time than a second buffer for weights
constexpr Choice host_choices[] = {
    {StorePlace::host, 4096}, {StorePlace::host, 1024}, {StorePlace::host, 256}, {StorePlace::host, 1},
    {StorePlace::file, 1024}, {StorePlace::file, 256},  {StorePlace::file, 1},
};

class Planner {
  public:
    explicit Planner(const PassRequest & request)
        : variants_(request.variants), request_(request), options_(request.options) {}
    Result<PassPlan> run();

  private:
    const TextModel & model() const { return request_.model(); }
    Status decide_budgets();
    Result<uint64_t> arena_bytes(const std::vector<Stage> & stages, const BatchShape & shape) const;
    Status plan_head(uint64_t logits_bytes);
    Status plan_arena(uint64_t logits_bytes);
    Status make_plan(const std::vector<PassGroup> & groups, const Choice & choice, uint64_t logits_bytes);
    void reserve();
    void reserve_second_buffer();
    Result<bool> try_choice(const std::vector<PassGroup> & groups, const Choice & choice);
    Status refusal() const;

    const std::vector<TextVariant> & variants_;
    const PassRequest & request_;
    const PassOptions & options_;
    bool aliases_ = false;        // a lane computes in host memory
    std::vector<size_t> remote_;  // devices with memory of their own
    Budget host_;                 // without the reservations of the pass, like devices_
    std::vector<Budget> devices_; // by device; of those in remote_
    PassPlan plan_;
    // The smallest sufficient budgets: of one memory with the present one of the other, and of each alone.
    uint64_t device_least_ = UINT64_MAX, host_least_ = UINT64_MAX, device_alone_ = UINT64_MAX, host_alone_ = UINT64_MAX;
};

Status Planner::decide_budgets() {
    const DType activation = request_.devices.front()->activation_dtype();
    host_ = options_.host;
    if (!host_.is_decided()) host_.limit(Budget::of_host(0).total());
    for (size_t i = 0; i < request_.devices.size(); i++) {
        Backend & backend = *request_.devices[i];
        const Device & device = backend.device();
        for (const TextVariant & variant : variants_)
            if (backend.activation_dtype() == DType::bf16 && variant.precision != Precision::bf16)
                return fail(Code::unsupported, device.label(), " computes in BF16: use precision bf16, or the CPU");
        if (backend.activation_dtype() != activation)
            return fail(Code::unsupported, device.label(), " and ", request_.devices.front()->device().label(),
                        " keep activations in different formats: use devices of one kind");
        GNV_ASSIGN(const Budget budget, Lane::budget(backend, options_.device));
        devices_.push_back(budget);
        if (budget.is_decided()) {
            remote_.push_back(i);
        } else if (std::exchange(aliases_, true)) {
            return fail(Code::unsupported, "the host computes in one lane of a pass, not in two");
        }
    }
    return {};
}

// --- Memory -------------------------------------------------------------------------------------------------------------------

// The maximum over variants and devices.
Result<uint64_t> Planner::arena_bytes(const std::vector<Stage> & stages, const BatchShape & shape) const {
    uint64_t most = 0;
    for (size_t i = 0; i < request_.devices.size(); i++) {
        const bool known = i > 0 && request_.devices[i]->device().name == request_.devices[i - 1]->device().name;
        if (known) continue;
        StageRunner runner(*request_.devices[i], request_.stage_options(plan_));
        for (const TextVariant & variant : variants_) {
            GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(variant, stages, shape));
            most = std::max(most, bytes);
        }
    }
    return most;
}

// The number of positions whose logits fit into `logits_bytes`.
Status Planner::plan_head(uint64_t logits_bytes) {
    constexpr uint64_t most = 1024; // rows of logits; the product is not faster with more
    const uint64_t row = uint64_t(model().sizes().vocabulary) * sizeof(float) * variants_.size();
    const int64_t together = model().sizes().head_rows; // positions of a row
    const auto rows = int64_t(std::clamp<uint64_t>(logits_bytes / row, 1, most));
    plan_.head_positions = std::min(rows, plan_.store.positions / together) * together;
    BatchShape shape;
    shape.positions = plan_.head_positions;
    shape.segments = 1;
    GNV_ASSIGN(const uint64_t bytes, arena_bytes(plan_.groups.back().stages, shape));
    plan_.head_arena_bytes = rounded_to_64(bytes);
    // A device holds the logits of one variant at a time, host memory those of all.
    plan_.arena_bytes = std::max(plan_.arena_bytes, plan_.head_arena_bytes * (aliases_ ? variants_.size() : 1));
    return {};
}

Status Planner::plan_arena(uint64_t logits_bytes) {
    const BatchShape shape = largest_shape(request_, plan_.batches, {0, 0, plan_.batches.size(), 0, 0});
    plan_.largest_batch = shape.positions;
    for (size_t g = 0; g < plan_.groups.size(); g++) {
        const PassGroup & group = plan_.groups[g];
        plan_.weight_bytes = std::max(plan_.weight_bytes, group.weight_bytes);
        plan_.statistics =
            plan_.statistics.larger_of(StatisticWindow::size_of(request_.statistics, model(), group.stages));
        if (is_head(group)) {
            GNV_TRY(plan_head(logits_bytes));
            continue;
        }
        if (first_alike(plan_.groups, g, model()) < g) continue; // known
        GNV_ASSIGN(const uint64_t bytes, arena_bytes(group.stages, shape));
        plan_.arena_bytes = std::max(plan_.arena_bytes, bytes);
    }
    return {};
}

// Fills the plan for one choice of parts, batches and places.
Status Planner::make_plan(const std::vector<PassGroup> & groups, const Choice & choice, uint64_t logits_bytes) {
    plan_ = PassPlan();
    plan_.groups = groups;
    int64_t wanted = options_.batch_positions > 0 ? options_.batch_positions : choice.positions;
    plan_.batches = cut_batches(request_, wanted);
    const int64_t positions = plan_.batches.back().begin + plan_.batches.back().positions;
    if (const auto lanes = int64_t(request_.devices.size()); lanes > 1 && options_.batch_positions == 0) {
        wanted = std::min(wanted, (positions + lanes - 1) / lanes); // a batch for each lane
        plan_.batches = cut_batches(request_, wanted);
    }
    plan_.lanes = deal_batches(plan_.batches, request_.devices.size());
    plan_.store_place = choice.place;
    plan_.store = store_layout(groups, model(), positions, request_.devices.front()->activation_dtype());
    if (model().sizes().experts > 0) {
        // Columns of one wide product: enough to repay its packing, few enough to keep; fewer if memory is short.
        const int64_t columns = !remote_.empty() ? 8192 : wanted > 1 ? 2048 : 256;
        for (const PassGroup & group : plan_.groups)
            for (const Stage & stage : group.stages) {
                if (stage.kind != StageKind::experts) continue;
                GNV_ASSIGN(const WeightSpec spec,
                           variants_.front().weights->spec({Role::expert_gate, stage.layer, 0, 1}));
                plan_.expert_tile = std::max(plan_.expert_tile, columns / std::max<int64_t>(1, spec.shape[1]));
            }
    }
    GNV_TRY(plan_arena(logits_bytes));
    reserve();
    return {};
}

void Planner::reserve() {
    plan_.host = host_;
    plan_.device = Budget();
    plan_.host.reserve("weights", (remote_.empty() ? 1u : 2u) * plan_.weight_bytes);
    for (const LaneShare & share : plan_.lanes) {
        Budget here = devices_[share.device];
        lane_size(request_, plan_, share).reserve(*request_.devices[share.device], plan_.host, here);
        const auto spare = [](const Budget & budget) { return int64_t(budget.total()) - int64_t(budget.used()); };
        if (here.is_decided() && (!plan_.device.is_decided() || spare(here) < spare(plan_.device))) plan_.device = here;
    }
    for (size_t v = 0; v < variants_.size(); v++)
        if (request_.observes(v)) plan_.host.reserve("statistics", request_.statistics.kept_bytes());
}

// The rest of the memory has no better use.
void Planner::reserve_second_buffer() {
    Budget & where = remote_.empty() ? plan_.host : plan_.device;
    if (where.left() < plan_.weight_bytes) return;
    plan_.weight_buffers = 2;
    where.reserve("weights", plan_.weight_bytes);
}

// --- Choice -------------------------------------------------------------------------------------------------------------------

Result<bool> Planner::try_choice(const std::vector<PassGroup> & groups, const Choice & choice) {
    if (choice.place == StorePlace::file && options_.scratch_folder.empty()) return false;
    const uint64_t most_logits = remote_.empty() ? uint64_t(choice.positions) << 20 : 1 << 30;
    for (const uint64_t logits_bytes : {std::min(host_.left() / 8, most_logits), uint64_t(0)}) {
        GNV_TRY(make_plan(groups, choice, logits_bytes));
        const uint64_t here = plan_.device.used(), there = plan_.host.used();
        if (plan_.host.fits()) device_least_ = std::min(device_least_, here);
        if (plan_.device.fits()) host_least_ = std::min(host_least_, there);
        device_alone_ = std::min(device_alone_, here);
        host_alone_ = std::min(host_alone_, there);
        if (plan_.host.fits() && plan_.device.fits()) {
            reserve_second_buffer();
            return choice.positions <= usual_positions || plan_.weight_buffers > 1;
        }
        if (!options_.head) break;
    }
    return false;
}

Status Planner::refusal() const {
    const std::string pass = concat("for a forward pass over ", plan_.store.positions, " positions");
    const bool host_fits = device_least_ < UINT64_MAX, device_fits = host_least_ < UINT64_MAX;
    const std::string of_device =
        plan_.device.refusal(device_fits ? "" : pass, host_fits ? device_least_ : device_alone_);
    const std::string on_device =
        remote_.empty() ? "" : concat(" on ", request_.devices[remote_.front()]->device().label());
    const std::string of_host = concat(host_.refusal(pass + on_device, device_fits ? host_least_ : host_alone_),
                                       options_.scratch_folder.empty() ? ", less with a folder for scratch files" : "");
    if (host_fits) return Status(Code::out_of_memory, of_device);
    return Status(Code::out_of_memory, device_fits ? of_host : concat(of_host, "; and ", of_device));
}

Result<PassPlan> Planner::run() {
    GNV_TRY(decide_budgets());
    std::vector<Choice> choices(std::begin(device_choices), std::end(device_choices));
    // The CPU's caches like small batches, but each batch goes through all second moments.
    const bool sums_moments = !request_.statistics.is_order_free();
    if (remote_.empty()) choices.assign(std::begin(host_choices) + (sums_moments ? 0 : 1), std::end(host_choices));
    const int64_t experts = std::max<int64_t>(1, model().sizes().experts);
    for (int64_t ranges = 1;; ranges = std::min(ranges * 2, experts)) {
        GNV_ASSIGN(const std::vector<PassGroup> groups, cut_groups(request_, ranges));
        for (const Choice & choice : choices) {
            GNV_ASSIGN(const bool fits, try_choice(groups, choice));
            if (fits) return std::move(plan_);
        }
        if (ranges == experts) break;
    }
    return refusal();
}

} // namespace

Result<PassPlan> plan_pass(const PassRequest & request) { return Planner(request).run(); }

} // namespace gnv
