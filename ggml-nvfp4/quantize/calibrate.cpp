#include "quantize/calibrate.h"

#include "core/side_by_side.h"
#include "model/fingerprint.h"
#include "quantize/run_state.h"
#include "run/first_use.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace gnv {

Status no_input_scales() {
    return Status(Code::invalid_argument, "no module to quantize has input scales: leave the calibration data out, or "
                                          "quantize modules of the text by scheme nvfp4");
}

bool can_calibrate(const Plan & plan) { return plan.takes_input_scales() || !plan.quantizer().needs().empty(); }

Result<std::unique_ptr<Calibration>> Calibration::create(const Plan & plan, const FolderFiles & shards,
                                                         ThreadPool & threads, const CalibrationData & data,
                                                         const QuantizeOptions & options) {
    std::unique_ptr<Calibration> self(new Calibration(plan));
    self->shards_ = &shards;
    self->data_ = &data;
    self->options_ = options;
    GNV_ASSIGN(self->model_, OpenModel::open(plan.checkpoint, plan.layout, shards));
    GNV_ASSIGN(const UnitStatistics statistics, UnitStatistics::create(plan));
    std::vector<OpenDevice> choices = {options.open_device};
    choices.insert(choices.end(), options.more_devices.begin(), options.more_devices.end());
    GNV_ASSIGN(self->devices_, DeviceList::open(choices, threads));
    self->unit_statistics_.assign(self->devices_.count(), statistics);
    self->threads_ = &threads;
    if (!data.pictures.list.empty()) GNV_TRY(self->plan_pictures());

    GNV_ASSIGN(self->pass_, self->plan_pass(options.device_bytes, {}));
    if (self->uses_device()) GNV_TRY(self->make_packers());
    GNV_TRY(self->check_searches());
    self->find_units();
    return self;
}

Status Calibration::plan_pictures() {
    GNV_TRY(check_same_tower(*data_->pictures.vision, model_->vision).add_context(plan_.checkpoint.folder()));
    texts_ = data_->sequences;
    GNV_ASSIGN(PictureRows rows, PictureRows::create(data_->pictures, texts_));
    pictures_ = std::make_unique<PictureRows>(std::move(rows));
    return pictures_->check_budget(model_->vision_variant(options_.precision), devices_.first(), *threads_,
                                   picture_limits());
}

// The tower runs before the pass, on the first device, beside its packer.
PictureRows::Limits Calibration::picture_limits() const {
    PictureRows::Limits limits = {plan_.memory_left(), options_.device_bytes, {}};
    if (packers_.empty()) return limits;
    limits.host.reserve("packed weights", packers_.size() * packers_.front()->size().host_bytes());
    const uint64_t of_packer = packers_.front()->size().device_bytes();
    if (limits.device_bytes > 0) limits.device_bytes -= std::min(limits.device_bytes - 1, of_packer);
    return limits;
}

Status Calibration::encode_pictures(const std::function<bool()> & go_on) {
    if (!pictures_) return {};
    PictureRows::Limits limits = picture_limits();
    limits.go_on = go_on;
    return pictures_->encode(model_->vision_variant(options_.precision), devices_.first(), *threads_, limits);
}

// What is measured on a device for a method that searches is packed there, too: its window is in use again while the CPU would
// still read it.
Status Calibration::check_searches() const {
    if (!uses_device() || requests().empty()) return {};
    for (const PlanModule & module : plan_.modules) {
        const LinearModule & linear = plan_.linear(module);
        if (plan_.quantizer(linear).needs().empty()) continue;
        if (plan_.source_of(linear).dtype != DType::bf16)
            return fail(Code::unsupported, linear.name, " is not BF16, which devices need for the method ",
                        plan_.quantizer().name(), "; calibrate on the CPU (--device cpu)");
        const DeviceQuantizer * const quantizer =
            devices_.first().quantizer(plan_.quantizer().name(), plan_.format(module));
        if (!quantizer)
            return fail(Code::unsupported, "this device has no kernels for the method ", plan_.quantizer().name(),
                        "; calibrate on the CPU (--device cpu)");
    }
    return packers_.empty() ? no_room_for_search() : Status();
}

// Whether the pass and the search fit into so much memory of a device.
Result<bool> Calibration::has_room_for_search(uint64_t device_bytes) const {
    Result<std::unique_ptr<LayerPass>> pass = plan_pass(device_bytes, {});
    if (pass.ok()) {
        const DevicePacker::Size size = packer_size(pass.value()->plan());
        if (size.pieces == 0) return false;
        pass = plan_pass(device_bytes, size);
    }
    if (!pass.ok() && pass.status().code() != Code::out_of_memory) return pass.take_status();
    return pass.ok();
}

// The search takes a share of the memory, so the least that has room for all is tried out.
Status Calibration::no_room_for_search() const {
    constexpr uint64_t step = 1 << 20;
    uint64_t too_small = pass_->plan().device.total() / step, enough = 2 * too_small + 1;
    GNV_ASSIGN(const uint64_t free, devices_.first().free_bytes());
    const std::string failure = concat("the method ", plan_.quantizer().name(), " does not fit into the memory of ",
                                       devices_.first().device().label(), " beside the forward pass: ");
    for (bool fits = false; !fits; enough *= 2) {
        if (too_small >= free / step) return fail(Code::out_of_memory, failure, "calibrate on the CPU (--device cpu)");
        enough = std::min(enough, free / step);
        GNV_ASSIGN(fits, has_room_for_search(enough * step));
        if (fits) break;
        too_small = enough;
    }
    while (enough - too_small > 1) {
        const uint64_t middle = too_small + (enough - too_small) / 2;
        GNV_ASSIGN(const bool fits, has_room_for_search(middle * step));
        (fits ? enough : too_small) = middle;
    }
    return fail(Code::out_of_memory, failure, "the smallest sufficient budget (--vram) is ", enough * step, " bytes (",
                bytes_text(enough * step), "); give that, or calibrate on the CPU (--device cpu)");
}

Status Calibration::create_packers(const DevicePacker::Size & size) {
    for (Backend * const device : devices_.all()) {
        GNV_ASSIGN(std::unique_ptr<DevicePacker> packer, DevicePacker::create(*device, plan_, size));
        packers_.push_back(std::move(packer));
    }
    return {};
}

DevicePacker::Size Calibration::packer_size(const PassPlan & alone) const {
    return DevicePacker::size_for(plan_, alone.device.total(), alone.host.total() / devices_.count(),
                                  &devices_.first());
}

// The pass gets the budgets without packing on devices; if they are too small, the CPU packs. Packers share the host's
// memory.
Status Calibration::make_packers() {
    const DevicePacker::Size size = packer_size(pass_->plan());
    if (size.pieces == 0) return {};
    Status status = create_packers(size);
    if (status.ok()) {
        Result<std::unique_ptr<LayerPass>> pass = plan_pass(options_.device_bytes, size);
        status = pass.take_status();
        if (status.ok() && pictures_)
            status = pictures_->check_budget(model_->vision_variant(options_.precision), devices_.first(), *threads_,
                                             picture_limits());
        if (status.ok()) {
            pass_ = pass.take();
            return {};
        }
    }
    packers_.clear();
    return status.code() == Code::out_of_memory ? Status() : std::move(status);
}

std::vector<PackingLane> Calibration::packing_lanes(const std::vector<LaneWeights> & weights) {
    std::vector<PackingLane> lanes;
    for (const LaneWeights & lane : weights) {
        const size_t device = devices_.find(*lane.device);
        DevicePacker * const packer = packers_.empty() ? nullptr : packers_[device].get();
        lanes.push_back({lane.group, packer, &unit_statistics_[device]});
    }
    return lanes;
}

// `packer`: of each device; without pieces: nothing is packed there.
Result<std::unique_ptr<LayerPass>> Calibration::plan_pass(uint64_t device_bytes,
                                                          const DevicePacker::Size & packer) const {
    PassOptions pass;
    pass.host = plan_.memory_left();
    pass.device = device_bytes;
    if (pictures_) pass.host.reserve("pictures", pictures_->bytes());
    if (packer.pieces > 0) packer.reserve(uint32_t(devices_.count()), pass.host, pass.device);
    pass.scratch_folder = options_.scratch_folder;
    pass.statistics = {{&Statistic::maximum}, {&Statistic::tokens}};
    pass.statistics.insert(pass.statistics.end(), requests().begin(), requests().end());
    if (!requests().empty()) {
        uint64_t work = 0; // of a thread, where the CPU packs
        for (const PlanModule & module : plan_.modules)
            if (!device().has_own_memory())
                work = std::max(work, plan_.quantizer(plan_.linear(module)).work_bytes(plan_.linear(module).columns));
        pass.host.reserve("search for scales",
                          uint64_t(plan_.memory.workers) * work +
                              devices_.count() * unit_statistics_.front().kept_bytes(*model_->model));
        if (!options_.save_statistics.empty()) { // a group at a time, on its way to the file
            uint64_t largest = 0;
            const StatisticSet wanted = requested();
            for (const auto & [key, total] : wanted.totals())
                largest = std::max(largest, tensor_bytes(key.statistic->dtype, total.shape) / uint64_t(total.shape[0]));
            pass.host.reserve("statistics", largest);
        }
    }
    pass.expert_tokens = options_.expert_tokens;
    pass.screening = options_.screening;
    return LayerPass::create({model_->variant(options_.precision)}, devices_.all(), *threads_, sequences(), pass);
}

Status CalibrationData::take_part(uint32_t number, uint32_t count) {
    if (number == 0 || number > count)
        return fail(Code::invalid_argument, "there is no part ", number, " of ", count, " parts of the data");
    if (count > sequences.size())
        return fail(Code::invalid_argument, sequences.size(), " sequences cannot be divided into ", count, " parts");
    if (count == 1) return {};
    if (!pictures.list.empty())
        return fail(Code::unsupported, "data with ", pictures.list.size(),
                    " pictures is not divided into parts; measure it in one run");
    const auto begin = ptrdiff_t(sequences.size() * (number - 1) / count);
    const auto end = ptrdiff_t(sequences.size() * number / count);
    sequences = std::vector<TextSequence>(std::make_move_iterator(sequences.begin() + begin),
                                          std::make_move_iterator(sequences.begin() + end));
    positions = tokens = 0;
    for (const TextSequence & sequence : sequences) {
        positions += uint64_t(sequence.length());
        tokens += uint64_t(sequence.length() - std::count(sequence.mask.begin(), sequence.mask.end(), uint8_t(0)));
    }
    part = number, parts = count;
    return {};
}

double Calibration::slots_in_use() const {
    const int64_t chosen = model_->model->sizes().experts_per_token; // of a token, over all ranges of experts
    int64_t used = 0, slots = 0;
    for (const PassGroup & group : pass_->plan().groups)
        for (const Stage & stage : group.stages) {
            if (stage.kind != StageKind::experts) continue;
            used += stage.first_expert == 0 ? chosen : 0;
            slots += std::min<int64_t>(chosen, stage.expert_count);
        }
    return slots == 0 ? 1 : double(used) / double(slots);
}

// The pass has not allocated its memory yet, so the measurement may use it.
Status Calibration::start_measuring(Trace & trace) {
    if (uses_device()) {
        constexpr uint64_t enough = 512 << 20;
        GNV_TRY(
            measure_copies(devices_.first(), std::min(enough, pass_->plan().device.reserved("activations")), limits_));
        const PassPlan & pass = pass_->plan();
        int64_t positions = 0;
        for (const PassBatch & batch : pass.batches) positions = std::max(positions, batch.positions);
        for (const LinearModule & linear : plan_.layout.modules) {
            if (!options_.measure_limits || linear.role != Role::expert_gate || linear.layer < 0) continue;
            constexpr double sustained_seconds = 10;
            const int64_t tile = std::min(pass.expert_tile, model_->model->sizes().experts);
            GNV_TRY(measure_product(devices_.first(), {positions, linear.columns, tile * linear.rows},
                                    sustained_seconds, limits_));
            break;
        }
    }
    for (Backend * const device : devices_.all()) {
        GNV_TRY(device->add_screening(screening_));
        device->set_trace(&trace);
        GNV_TRY(device->synchronize());
    }
    return {};
}

void Calibration::load_products() {
    if (!uses_device()) return;
    std::set<std::pair<int64_t, int64_t>> shapes;
    for (const LinearModule & linear : plan_.layout.modules)
        if (linear.part == Part::text && linear.layer >= 0 && linear.expert < 0)
            shapes.insert({linear.rows, linear.columns});
    const std::vector<std::pair<int64_t, int64_t>> weights(shapes.begin(), shapes.end());
    (void)run_side_by_side(devices_.count(), [&](size_t i) {
        return gnv::load_products(*devices_.all()[i], weights);
    }).ok();
}

// Units of the text model by the layer of their weights.
void Calibration::find_units() {
    taken_.assign(plan_.units.size(), false);
    units_of_layer_.resize(size_t(plan_.layout.layer_count) + 1);
    std::vector<int32_t> layer_of(plan_.checkpoint.tensors().size(), -1); // of tensors of the text model
    std::vector<bool> is_text(layer_of.size(), false);
    for (const ModelTensor & tensor : plan_.layout.tensors) {
        is_text[tensor.source] = tensor.part == Part::text && tensor.role != Role::extra;
        layer_of[tensor.source] = tensor.layer;
    }
    for (uint32_t u = 0; u < plan_.units.size(); u++) {
        const PlanUnit & unit = plan_.units[u];
        const uint32_t source =
            unit.quantize ? plan_.linear(plan_.modules[unit.first]).source : plan_.tensors[unit.first].source;
        if (is_text[source]) units_of_layer_[size_t(layer_of[source] + 1)].push_back(u);
    }
}

Status Calibration::describe(Plan & plan, ThreadPool & threads, const CalibrationData & data,
                             const QuantizeOptions & options) {
    if (!can_calibrate(plan)) return no_input_scales();
    std::string text, json;
    {
        GNV_ASSIGN(const FolderFiles shards, plan.checkpoint.open_shards());
        GNV_ASSIGN(const std::unique_ptr<Calibration> calibration, create(plan, shards, threads, data, options));
        PassPlan planned = calibration->pass().plan();
        planned.reading_bytes = data.reading_bytes;
        if (options.resume != Resume::off) planned.state_bytes = RunState::disk_bytes(plan, calibration->pass());
        text = pass_plan_text(planned, calibration->device());
        json = pass_plan_json(planned, calibration->device());
        if (plan.checkpoint.files().fetched()) {
            GNV_ASSIGN(const SourceReads reads, calibration->reads(0, true));
            describe_streaming(plan, reads);
        }
    }
    plan.calibration_text = std::move(text);
    plan.calibration_json = std::move(json);
    return {};
}

// Whether a stage of the group loads this weight.
static bool loads(const TextModel & model, const PassGroup & group, const WeightKey & key, int32_t expert) {
    for (const Stage & stage : group.stages)
        for (const WeightRef & ref : model.stage_weights(stage)) {
            if (ref.key() != key) continue;
            if (expert < 0 || (expert >= ref.first_expert && expert < ref.first_expert + ref.expert_count)) return true;
        }
    return false;
}

bool Calibration::holds(const PassGroup & group, const PlanUnit & unit) const {
    if (unit.quantize) {
        for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan_.linear(plan_.modules[m]);
            if (!loads(*model_->model, group, {linear.part, linear.role, linear.layer}, linear.expert)) return false;
        }
        return true;
    }
    const uint32_t source = plan_.tensors[unit.first].source;
    for (const ModelTensor & tensor : plan_.layout.tensors)
        if (tensor.source == source)
            return loads(*model_->model, group, {tensor.part, tensor.role, tensor.layer}, tensor.expert);
    return false;
}

std::vector<uint32_t> Calibration::units_of(const PassGroup & group, std::vector<bool> & taken) const {
    std::vector<uint32_t> units;
    for (const uint32_t u : units_of_layer_[size_t(layer_of(group) + 1)]) {
        if (taken[u] || !holds(group, plan_.units[u])) continue;
        taken[u] = true;
        units.push_back(u);
    }
    return units;
}

std::vector<uint32_t> Calibration::take_units(const PassGroup & group) { return units_of(group, taken_); }

Result<SourceReads> Calibration::reads(int32_t first_layer, bool quantizes,
                                       const std::function<bool(uint32_t unit)> & left_out) const {
    SourceReads reads(plan_);
    if (pictures_) reads.add_part(Part::vision);
    std::vector<bool> taken = taken_;
    for (uint32_t u = 0; u < taken.size(); u++) taken[u] = taken[u] || !quantizes || (left_out && left_out(u));
    for (const PassGroup & group : pass_->plan().groups) {
        if (first_layer > 0 && !is_head(group) && layer_of(group) < first_layer) continue;
        GNV_ASSIGN(const WeightGroup weights,
                   WeightGroup::plan(model_->weights, weights_of(*model_->model, group.stages)));
        reads.add_group(weights);
        reads.add_units(units_of(group, taken), &weights);
    }
    std::vector<uint32_t> rest;
    for (uint32_t u = 0; u < taken.size(); u++)
        if (!taken[u]) rest.push_back(u);
    reads.add_units(rest, nullptr);
    return reads;
}

std::vector<uint32_t> Calibration::take_units_of_no_group() {
    std::vector<bool> of_group(taken_.size(), false);
    for (size_t i = 1; i < units_of_layer_.size(); i++) // every weight of a layer is in some group
        for (const uint32_t u : units_of_layer_[i]) of_group[u] = true;
    for (const PassGroup & group : pass_->plan().groups)
        for (const uint32_t u : units_of_layer_.front())
            of_group[u] = of_group[u] || (layer_of(group) < 0 && holds(group, plan_.units[u]));
    std::vector<uint32_t> units;
    for (uint32_t u = 0; u < taken_.size(); u++) {
        if (taken_[u] || of_group[u]) continue;
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

Result<uint64_t> Calibration::finish() {
    uint64_t most = 0;
    ScreeningCounts counts;
    for (Backend * const device : devices_.all()) {
        device->set_trace(nullptr);
        GNV_TRY(device->synchronize());
        GNV_TRY(device->add_screening(counts));
        if (!uses_device()) continue;
        GNV_ASSIGN(const uint64_t free, device->free_bytes());
        const uint64_t all = device->device().memory_bytes;
        most = std::max(most, all - std::min(free, all));
    }
    screening_ = counts.since(screening_);
    if (screening_.different > 0)
        return fail(Code::internal, "screening changed the statistics of ", screening_.different,
                    " experts of a layer and batch: please report this model, and use --screen off");
    return most;
}

Result<Statistics> Calibration::statistics() const {
    Statistics statistics;
    GNV_ASSIGN(statistics.model_fingerprint, model_fingerprint(plan_.checkpoint, *shards_));
    statistics.data_sha256 = data_->sha256;
    statistics.parts = data_->parts;
    if (data_->parts > 0) statistics.part_numbers = {data_->part};
    statistics.sequences = data_->sequences.size();
    statistics.positions = data_->positions;
    statistics.tokens = data_->tokens;
    statistics.precision = options_.precision;
    statistics.expert_tokens = options_.expert_tokens;
    statistics.data = {data_->json};
    statistics.totals = pass_->statistics(0);
    return statistics;
}

} // namespace gnv
