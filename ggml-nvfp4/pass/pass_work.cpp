#include "pass/pass_work.h"

#include <algorithm>

namespace gnv {

// --- Groups and batches -------------------------------------------------------------------------------------------------------

// Variants run one after another, except in the head, which holds the weights of all.
static Result<uint64_t> weight_bytes(const PassRequest & request, const std::vector<Stage> & stages) {
    uint64_t largest = 0, sum = 0;
    const WeightCatalog * last = nullptr;
    for (const TextVariant & variant : request.variants) {
        if (variant.weights == last) continue;
        last = variant.weights;
        GNV_ASSIGN(const WeightGroup group, WeightGroup::plan(*variant.weights, weights_of(request.model(), stages)));
        largest = std::max(largest, group.bytes());
        sum += group.bytes();
    }
    return stages.front().kind == StageKind::head ? sum : largest;
}

Result<std::vector<PassGroup>> cut_groups(const PassRequest & request, int64_t expert_ranges) {
    const TextModel & model = request.model();
    std::vector<PassGroup> groups;
    groups.push_back({{embed_stage(model)}});
    for (int32_t layer = 0; layer < model.sizes().layers; layer++) {
        groups.emplace_back();
        for (const Stage & stage : model.block_stages(layer)) {
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
    if (request.options.head) groups.push_back({{head_stage(model)}});
    for (PassGroup & group : groups) {
        GNV_ASSIGN(group.weight_bytes, weight_bytes(request, group.stages));
    }
    return groups;
}

std::vector<PassBatch> cut_batches(const PassRequest & request, int64_t wanted) {
    std::vector<PassBatch> batches;
    int64_t row = 0;
    for (size_t i = 0; i < request.sequences.size(); i++) {
        const int64_t length = request.sequences[i].length();
        if (batches.empty() || batches.back().positions + length > wanted) batches.push_back({i, 0, row, 0});
        batches.back().count++;
        batches.back().positions += length;
        row += length;
    }
    return batches;
}

std::vector<LaneShare> deal_batches(const std::vector<PassBatch> & batches, size_t devices) {
    const int64_t positions = batches.back().begin + batches.back().positions;
    std::vector<LaneShare> lanes;
    for (size_t b = 0; b < batches.size(); b++) {
        const auto device = size_t(batches[b].begin * int64_t(devices) / positions);
        if (lanes.empty() || lanes.back().device != device) lanes.push_back({device, b, 0, batches[b].begin, 0});
        lanes.back().count++;
        lanes.back().positions += batches[b].positions;
    }
    return lanes;
}

BatchShape largest_shape(const PassRequest & request, const std::vector<PassBatch> & batches, const LaneShare & share) {
    BatchShape largest;
    for (size_t b = share.first; b < share.first + share.count; b++) {
        const BatchShape shape = shape_of_batch(request.sequences.data() + batches[b].first, batches[b].count);
        largest.positions = std::max(largest.positions, shape.positions);
        largest.segments = std::max(largest.segments, shape.segments);
        largest.given_rows = std::max(largest.given_rows, shape.given_rows);
        largest.given_columns = std::max(largest.given_columns, shape.given_columns);
    }
    for (const TextSequence & sequence : request.sequences) largest.masked |= !sequence.mask.empty();
    return largest;
}

RowLayout store_layout(const std::vector<PassGroup> & groups, const TextModel & model, int64_t positions,
                       DType activation) {
    RowLayout layout;
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

bool same_activations(const PassGroup & a, const PassGroup & b, const TextModel & model) {
    if (a.stages.size() != b.stages.size()) return false;
    for (size_t i = 0; i < a.stages.size(); i++) {
        if (a.stages[i].kind != b.stages[i].kind || a.stages[i].expert_count != b.stages[i].expert_count) return false;
        if ((a.stages[i].first_expert == 0) != (b.stages[i].first_expert == 0)) return false; // later ranges add up
        if (a.stages[i].part != b.stages[i].part || model.block_kind(a.stages[i]) != model.block_kind(b.stages[i]))
            return false;
    }
    return true;
}

size_t first_alike(const std::vector<PassGroup> & groups, size_t at, const TextModel & model) {
    size_t first = 0;
    while (first < at && !same_activations(groups[first], groups[at], model)) first++;
    return first;
}

// --- Size of a lane -----------------------------------------------------------------------------------------------------------

// The variants' own input scales; several variants may share them.
static uint64_t scale_bytes(const std::vector<TextVariant> & variants) {
    uint64_t bytes = 0;
    for (size_t v = 0; v < variants.size(); v++) {
        const InputScales * const scales = variants[v].input_scales;
        const bool known = std::any_of(variants.begin(), variants.begin() + ptrdiff_t(v),
                                       [&](const TextVariant & other) { return other.input_scales == scales; });
        if (scales && !known) bytes += device_aligned(scales->packed().size() * sizeof(float));
    }
    return bytes;
}

LaneSize lane_size(const PassRequest & request, const PassPlan & plan, const LaneShare & share) {
    const TextModelSizes & sizes = request.model().sizes();
    LaneSize size;
    const BatchShape largest = largest_shape(request, plan.batches, share);
    bool observes = false;
    for (size_t v = 0; v < request.variants.size(); v++) observes |= request.observes(v);
    size.rows.store = plan.store.with_positions(share.positions);
    size.rows.place = plan.store_place;
    size.rows.variants = request.variants.size();
    size.rows.positions = largest.positions;
    size.rows.head_positions = plan.head_positions;
    for (const PassGroup & group : plan.groups) {
        const FieldUse use = field_use(group.stages, request.model());
        if (observes) size.rows.kept |= use.reads & use.makes;
    }
    size.weight_bytes = plan.weight_bytes;
    size.weight_buffers = plan.weight_buffers;
    size.arena_bytes = plan.arena_bytes;
    const DType activation = request.devices[share.device]->activation_dtype();
    size.input_bytes = LaneInputs::bytes(largest, activation);
    size.given_bytes = LaneInputs::given_bytes(largest, activation);
    size.scale_bytes = scale_bytes(request.variants);
    size.logits_rows = plan.head_positions / sizes.head_rows;
    size.logits_columns = request.options.head ? sizes.vocabulary : 0;
    size.statistics = plan.statistics;
    return size;
}

} // namespace gnv
