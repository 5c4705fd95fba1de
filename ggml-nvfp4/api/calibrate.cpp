#include "api/calibrate.h"

#include "api/open_device.h"

#include <algorithm>

namespace gnv {

static constexpr uint64_t config_limit = 16 << 20;

Result<std::unique_ptr<Calibration>> Calibration::create(const Plan & plan, const FolderFiles & shards,
                                                         ThreadPool & threads, const CalibrationData & data,
                                                         const QuantizeOptions & options) {
    std::unique_ptr<Calibration> self(new Calibration(plan));
    self->shards_ = &shards;
    self->data_ = &data;
    self->options_ = options;
    GNV_ASSIGN(const JsonDocument config,
               JsonDocument::read(join_path(plan.checkpoint.folder(), "config.json"), config_limit));
    GNV_ASSIGN(self->model_, make_text_model(config.root()));
    GNV_ASSIGN(self->weights_, WeightCatalog::create(plan.layout, plan.checkpoint));
    GNV_ASSIGN(self->device_, open_device(options.device, threads));

    const TextVariant variant = {self->model_.get(), &self->weights_, &shards, options.precision, false};
    PassOptions pass;
    pass.ram_bytes = plan.calibration_ram_bytes();
    pass.whole_budget = [&plan](uint64_t bytes) { return plan.budget_to_calibrate(bytes); };
    pass.device_bytes = options.device_bytes;
    pass.scratch_folder = options.scratch_folder;
    pass.observe = true;
    pass.expert_tokens = options.expert_tokens;
    GNV_ASSIGN(self->pass_, TextPass::create({variant}, {self->device_.get()}, threads, data.sequences, pass));

    self->taken_.assign(plan.units.size(), false);
    self->units_of_layer_.resize(size_t(plan.layout.layer_count) + 1);
    std::vector<int32_t> layer_of(plan.checkpoint.tensors().size(), -1); // of tensors of the text model
    std::vector<bool> is_text(layer_of.size(), false);
    for (const ModelTensor & tensor : plan.layout.tensors) {
        is_text[tensor.source] = tensor.part == Part::text && tensor.role != Role::extra;
        layer_of[tensor.source] = tensor.layer;
    }
    for (uint32_t u = 0; u < plan.units.size(); u++) {
        const PlanUnit & unit = plan.units[u];
        const uint32_t source =
            unit.quantize ? plan.linear(plan.modules[unit.first]).source : plan.tensors[unit.first].source;
        if (is_text[source]) self->units_of_layer_[size_t(layer_of[source] + 1)].push_back(u);
    }
    return self;
}

Status Calibration::describe(Plan & plan, ThreadPool & threads, const CalibrationData & data,
                             const QuantizeOptions & options) {
    if (plan.options.recipe.scheme != Scheme::nvfp4)
        return Status(Code::invalid_argument, "scheme nvfp4a16 has no input scales: leave the calibration data out, "
                                              "or use scheme nvfp4");
    std::string text, json;
    {
        GNV_ASSIGN(const FolderFiles shards, plan.checkpoint.open_shards());
        GNV_ASSIGN(const std::unique_ptr<Calibration> calibration, create(plan, shards, threads, data, options));
        text = pass_plan_text(calibration->pass().plan(), calibration->device_->device());
        json = pass_plan_json(calibration->pass().plan(), calibration->device_->device());
    }
    plan.calibration_text = std::move(text);
    plan.calibration_json = std::move(json);
    return {};
}

// Whether a stage of the group loads this weight.
static bool loads(const TextModel & model, const PassGroup & group, Role role, int32_t layer, int32_t expert) {
    for (const Stage & stage : group.stages)
        for (const WeightRef & ref : model.stage_weights(stage)) {
            if (ref.role != role || ref.layer != layer) continue;
            if (expert < 0 || (expert >= ref.first_expert && expert < ref.first_expert + ref.expert_count)) return true;
        }
    return false;
}

bool Calibration::holds(const PassGroup & group, const PlanUnit & unit) const {
    if (unit.quantize) {
        for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan_.linear(plan_.modules[m]);
            if (!loads(*model_, group, linear.role, linear.layer, linear.expert)) return false;
        }
        return true;
    }
    const uint32_t source = plan_.tensors[unit.first].source;
    for (const ModelTensor & tensor : plan_.layout.tensors)
        if (tensor.source == source) return loads(*model_, group, tensor.role, tensor.layer, tensor.expert);
    return false;
}

std::vector<uint32_t> Calibration::take_units(const PassGroup & group) {
    std::vector<uint32_t> units;
    for (const uint32_t u : units_of_layer_[size_t(group.stages.front().layer + 1)]) {
        if (taken_[u] || !holds(group, plan_.units[u])) continue;
        taken_[u] = true;
        units.push_back(u);
    }
    return units;
}

std::vector<uint32_t> Calibration::remaining_units() const {
    std::vector<uint32_t> units;
    for (uint32_t u = 0; u < taken_.size(); u++)
        if (!taken_[u]) units.push_back(u);
    return units;
}

Result<Statistics> Calibration::statistics() const {
    Statistics statistics;
    GNV_ASSIGN(statistics.model_fingerprint, model_fingerprint(plan_.checkpoint, *shards_));
    statistics.data_sha256 = data_->sha256;
    statistics.sequences = data_->sequences.size();
    statistics.positions = data_->positions;
    statistics.tokens = data_->tokens;
    statistics.precision = options_.precision;
    statistics.expert_tokens = options_.expert_tokens;
    statistics.data = {data_->json};
    statistics.layers = pass_->statistics(0);
    return statistics;
}

} // namespace gnv
