#include "pass/pass_operations.h"

#include "core/clock.h"
#include "core/trace.h"
#include "pass/pass_work.h"

#include <algorithm>
#include <set>

namespace gnv {

bool is_bound_by_operations(std::string_view op) {
    static constexpr std::string_view names[] = {expert_product_label, "linear", "grouped_linear", "attention",
                                                 "gated_delta_net"};
    return std::find(std::begin(names), std::end(names), op) != std::end(names);
}

static void add(WorkByOp & sums, const std::vector<OpWork> & ops, double times) {
    for (const OpWork & op : ops) {
        Work & sum = sums[op.name];
        sum.flops += times * op.work.flops;
        sum.bytes += times * op.work.bytes;
    }
}

static DType activation_of(const PassRequest & request) { return request.devices.front()->activation_dtype(); }

Result<WorkByOp> pass_operations(const PassRequest & request, const PassPlan & plan) {
    // Batches of one shape make the same graph, and so do blocks of one kind.
    std::vector<std::pair<BatchShape, double>> shapes;
    for (const PassBatch & batch : plan.batches) {
        const BatchShape shape = shape_of_batch(request.sequences.data() + batch.first, batch.count);
        const auto found =
            std::find_if(shapes.begin(), shapes.end(), [&](const auto & known) { return known.first == shape; });
        if (found == shapes.end()) {
            shapes.emplace_back(shape, 1);
        } else {
            found->second++;
        }
    }
    std::map<size_t, double> kinds; // the first group of each, and how many there are
    for (size_t g = 0; g < plan.groups.size(); g++)
        if (!is_head(plan.groups[g])) kinds[first_alike(plan.groups, g, request.model())]++;
    WorkByOp sums;
    for (const TextVariant & variant : request.variants)
        for (const auto & [first, groups] : kinds)
            for (const auto & [shape, batches] : shapes) {
                const std::vector<Stage> & stages = plan.groups[first].stages;
                BatchShape of_group = shape;
                if (!read_given(stages)) of_group.given_rows = of_group.given_columns = 0;
                GNV_ASSIGN(
                    const std::vector<OpWork> ops,
                    stage_operations(variant, stages, of_group, request.stage_options(plan), activation_of(request)));
                add(sums, ops, groups * batches);
            }
    return sums;
}

Result<std::vector<double>> group_costs(const PassRequest & request, const PassPlan & plan) {
    constexpr double operations_of_a_byte = 8; // between those of a CPU and of a GPU for products
    std::vector<double> costs;
    for (size_t g = 0; g < plan.groups.size(); g++) {
        const PassGroup & group = plan.groups[g];
        if (const size_t first = first_alike(plan.groups, g, request.model()); first < g) {
            costs.push_back(costs[first]);
            continue;
        }
        const PassBatch & batch = plan.batches.front();
        BatchShape shape =
            shape_of_batch(request.sequences.data() + batch.first, batch.count, read_given(group.stages));
        if (is_head(group)) {
            shape = {};
            shape.positions = std::max<int64_t>(1, plan.head_positions);
            shape.segments = 1;
        }
        GNV_ASSIGN(const std::vector<OpWork> ops,
                   stage_operations(request.variants.front(), group.stages, shape, request.stage_options(plan),
                                    activation_of(request)));
        double cost = 0;
        for (const OpWork & op : ops) cost += op.work.flops + operations_of_a_byte * op.work.bytes;
        costs.push_back(cost / double(shape.positions));
    }
    return costs;
}

double PassProbe::seconds() const {
    double sum = other.seconds;
    for (const auto & [name, op] : ops) sum += op.seconds;
    return sum;
}

void fill_with_numbers(std::vector<uint16_t> & out) {
    uint32_t state = 1;
    for (uint16_t & number : out) {
        state = state * 1664525 + 1013904223;
        number = uint16_t((state >> 16 & 0x8000) | (0x3c80 + (state >> 8 & 0x1ff))); // 2^-6 to 2^-2
    }
}

namespace {

class Probe {
  public:
    Probe(const PassRequest & request, const PassPlan & plan, ThreadPool & threads)
        : request_(request), plan_(plan), threads_(threads), device_(*request.devices.front()) {}

    Result<PassProbe> run(double seconds) {
        std::set<int32_t> kinds;
        std::vector<int32_t> layers;
        for (int32_t layer = 0; layer < request_.model().sizes().layers; layer++)
            if (kinds.insert(request_.model().block_kind(request_.model().block_stages(layer).front())).second)
                layers.push_back(layer);
        for (const int32_t layer : layers) GNV_TRY(run_block(layer, seconds / double(layers.size())));
        if (in_ops_ > 0) found_.gaps = std::max(0.0, whole_ / in_ops_ - 1);
        return std::move(found_);
    }

  private:
    // A block with as many experts as a product takes at once.
    std::vector<Stage> stages_of(int32_t layer) {
        std::vector<Stage> stages;
        share_ = 1;
        for (Stage stage : request_.model().block_stages(layer)) {
            if (stage.kind == StageKind::experts && stage.expert_count > plan_.expert_tile) {
                share_ = double(plan_.expert_tile) / double(stage.expert_count);
                stage.expert_count = int32_t(plan_.expert_tile);
                stages.push_back(stage);
                break; // what follows wants all of them
            }
            stages.push_back(stage);
        }
        return stages;
    }

    Result<DeviceMemory> numbers(uint64_t bytes) {
        GNV_ASSIGN(DeviceMemory memory, device_.allocate(std::max<uint64_t>(bytes, device_alignment)));
        std::vector<uint16_t> some(size_t(std::min<uint64_t>(bytes, 8 << 20) / 2 + 1));
        fill_with_numbers(some);
        for (uint64_t at = 0; at < bytes; at += some.size() * 2)
            device_.upload(static_cast<uint8_t *>(memory.get()) + at, some.data(),
                           std::min<uint64_t>(some.size() * 2, bytes - at));
        GNV_TRY(device_.synchronize());
        return memory;
    }

    // The first sequences, the last one cut, with so many positions; texts without pictures.
    std::vector<TextSequence> sequences(int64_t positions) const {
        std::vector<TextSequence> some;
        for (const TextSequence & whole : request_.sequences) {
            TextSequence part;
            const int64_t count = std::min(whole.length(), positions);
            for (int64_t i = 0; i < count; i++)
                part.ids.push_back(whole.ids.empty() ? 0 : std::max(0, whole.ids[size_t(i)]));
            some.push_back(std::move(part));
            positions -= count;
            if (positions <= 0) break;
        }
        return some;
    }

    Status run_block(int32_t layer, double seconds) {
        const std::vector<Stage> stages = stages_of(layer);
        const TextVariant & variant = request_.variants.front();
        GNV_ASSIGN(const WeightGroup planned,
                   WeightGroup::plan(*variant.weights, weights_of(request_.model(), stages)));
        GNV_ASSIGN(const DeviceMemory weights, numbers(planned.bytes()));
        const WeightGroup group = planned.at(weights.get());
        constexpr int64_t few = 64;
        const int64_t at_first = std::min(few, plan_.largest_batch);
        double seconds_of_few = 0;
        {
            GNV_ASSIGN(const std::unique_ptr<Batch> batch, prepare(stages, at_first));
            for (int i = 0; i < 2; i++)
                GNV_TRY(batch->run(*this, group, nullptr, seconds_of_few)); // first libraries load
        }
        const double rate = double(at_first) / std::max(seconds_of_few, 1e-6);
        const int64_t positions = std::clamp(int64_t(rate * seconds / 3), at_first, plan_.largest_batch);
        GNV_ASSIGN(const std::unique_ptr<Batch> batch, prepare(stages, positions));
        double one = 0;
        GNV_TRY(batch->run(*this, group, nullptr, one)); // memory is touched for the first time
        Trace trace;
        const auto start = Clock::now();
        do {
            GNV_TRY(batch->run(*this, group, &trace, one));
            whole_ += one;
        } while (seconds_since(start) + one < 2 * seconds / 3);
        GNV_ASSIGN(const std::vector<OpWork> ops,
                   stage_operations(request_.variants.front(), stages, batch->inputs.shape,
                                    request_.stage_options(plan_), device_.activation_dtype()));
        WorkByOp planned_ops;
        add(planned_ops, ops, 1);
        take(trace, planned_ops);
        return {};
    }

    // The memory of a batch, and its run.
    struct Batch {
        std::vector<TextSequence> texts;
        BatchInputs inputs;
        LaneInputs place;
        DeviceBatch there;
        StageRunner runner;
        std::vector<Stage> stages;
        uint64_t arena_bytes = 0;
        DeviceMemory arena;
        StatisticWindow window;
        BatchFields fields;
        std::vector<DeviceMemory> rows;

        Batch(Backend & device, const StageOptions & options) : runner(device, options) {}

        Status run(Probe & probe, const WeightGroup & weights, Trace * trace, double & seconds) {
            StageCall call{probe.request_.variants.front(), stages, weights, inputs.shape, there};
            call.fields = fields;
            call.statistics = &window;
            Backend & device = probe.device_;
            device.set_trace(trace);
            GNV_TRY(device.synchronize());
            const auto start = Clock::now();
            Status status = runner.run(call, arena.get(), arena_bytes);
            if (status.ok()) status = device.synchronize();
            seconds = seconds_since(start);
            device.set_trace(nullptr);
            return status;
        }
    };

    Result<std::unique_ptr<Batch>> prepare(const std::vector<Stage> & stages, int64_t positions) {
        auto batch = std::make_unique<Batch>(device_, request_.stage_options(plan_));
        batch->stages = stages;
        batch->texts = sequences(positions);
        batch->inputs = make_batch(batch->texts.data(), batch->texts.size(), false);
        const BatchShape & shape = batch->inputs.shape;
        const uint64_t bytes = rows_are_aliases(device_) ? 0 : LaneInputs::bytes(shape, device_.activation_dtype());
        GNV_ASSIGN(batch->place, LaneInputs::create(device_, bytes));
        GNV_TRY(batch->place.allocate_host(device_));
        GNV_ASSIGN(batch->there, batch->place.upload(device_, batch->inputs, threads_));
        GNV_ASSIGN(batch->arena_bytes, batch->runner.arena_bytes(request_.variants.front(), stages, shape));
        GNV_ASSIGN(batch->arena, device_.allocate(std::max<uint64_t>(batch->arena_bytes, device_alignment)));
        GNV_ASSIGN(batch->window, StatisticWindow::create(device_, StatisticWindow::size_of(request_.statistics,
                                                                                            request_.model(), stages)));
        batch->window.open(request_.statistics, request_.model(), stages);
        // Part of a block makes fields that the groups of the plan keep to themselves: its store has no room for those.
        const FieldUse use = field_use(stages, request_.model());
        const std::vector<FieldSpec> fields = request_.model().fields();
        for (size_t f = 0; f < fields.size(); f++) {
            if (((use.reads | use.makes) & field_bit(Field(f))) == 0) continue;
            const DType dtype = fields[f].is_activation ? device_.activation_dtype() : fields[f].dtype;
            GNV_ASSIGN(DeviceMemory memory, numbers(tensor_bytes(dtype, {shape.positions, fields[f].columns})));
            batch->fields[f] = memory.get();
            batch->rows.push_back(std::move(memory));
        }
        return batch;
    }

    // Times by op; those of several ops at once count as the others.
    void take(const Trace & trace, const WorkByOp & planned_ops) {
        for (const Trace::Total & total : trace.totals()) {
            const std::string name = total.name;
            if (std::string_view(total.lane) != "compute" || name == "upload" || name == "download") continue;
            in_ops_ += total.seconds;
            PassProbe::Op & op = planned_ops.count(name) > 0 ? found_.ops[name] : found_.other;
            const double used = name == "grouped_linear" || name == "expert_gather" ? share_ : 1;
            op.seconds += total.seconds;
            op.work.flops += used * total.work.flops;
            op.work.bytes += used * total.work.bytes;
        }
    }

    const PassRequest & request_;
    const PassPlan & plan_;
    ThreadPool & threads_;
    Backend & device_;
    double share_ = 1; // of the experts of a block that run
    PassProbe found_;
    double whole_ = 0, in_ops_ = 0; // seconds
};

} // namespace

Result<PassProbe> probe_pass(const PassRequest & request, const PassPlan & plan, ThreadPool & threads, double seconds) {
    return Probe(request, plan, threads).run(seconds);
}

} // namespace gnv
