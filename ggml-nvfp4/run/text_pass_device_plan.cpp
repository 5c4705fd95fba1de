// How a forward pass divides the memory of a device and of its host, and gets it.
#include "run/text_pass_state.h"

#include <algorithm>

namespace gnv {

// --- Sizes --------------------------------------------------------------------------------------------------------------------

uint64_t TextPass::State::largest_input_bytes() const {
    int64_t positions = 0, segments = 0;
    for (const PassBatch & batch : plan.batches) {
        const BatchShape shape = make_batch(sequences->data() + batch.first, batch.count).shape;
        positions = std::max(positions, shape.positions);
        segments = std::max(segments, shape.segments);
    }
    BatchShape shape;
    shape.positions = positions;
    shape.segments = segments;
    return DeviceInputs::bytes(shape);
}

// Scales that variants bring along; several may bring the same.
uint64_t TextPass::State::scale_bytes() const {
    uint64_t bytes = 0;
    for (size_t v = 0; v < variants.size(); v++) {
        const InputScales * const scales = variants[v].input_scales;
        const bool known = std::any_of(variants.begin(), variants.begin() + ptrdiff_t(v),
                                       [&](const TextVariant & other) { return other.input_scales == scales; });
        if (scales && !known) bytes += device_aligned(scales->packed().size() * sizeof(float));
    }
    return bytes;
}

DevicePassSize TextPass::State::device_size() const {
    DevicePassSize size;
    size.weight_bytes = plan.weight_bytes;
    size.weight_buffers = plan.weight_buffers;
    size.arena_bytes = plan.arena_bytes;
    size.input_bytes = largest_input_bytes();
    size.scale_bytes = scale_bytes();
    const uint64_t element = uint64_t(dtype_traits(device->activation_dtype()).bits) / 8;
    size.logits_bytes = uint64_t(plan.head_positions * model().sizes().vocabulary) * element;
    return size;
}

DeviceRowsSize TextPass::State::rows_size() const {
    bool keeps = false;
    for (size_t v = 0; v < variants.size(); v++) keeps |= observes(v);
    FieldSet rewritten = 0;
    for (const PassGroup & group : plan.groups) {
        const FieldUse use = field_use(group.stages, model());
        rewritten |= use.reads & use.makes;
    }
    return {plan.store, plan.store_place, std::max(plan.largest_batch, plan.head_positions), keeps, rewritten};
}

// After add_host_memory(), which counts as if the host computed.
void TextPass::State::add_device_memory() {
    const DevicePassSize size = device_size();
    const DeviceRowsSize batch = rows_size();
    const uint64_t store = plan.store.bytes() * variants.size();
    plan.device.weights = uint64_t(size.weight_buffers) * size.weight_bytes;
    plan.device.activations = size.arena_bytes;
    plan.device.hidden_states = batch.device_bytes() + (plan.store_place == StorePlace::device ? store : 0);
    plan.device.inputs = size.input_bytes + size.scale_bytes;
    plan.device.statistics = plan.statistics.bytes;
    plan.device.context = device_context_bytes;
    const uint64_t rows = uint64_t(plan.head_positions * model().sizes().vocabulary) * variants.size();
    plan.host.weights = 2 * size.weight_bytes;
    plan.host.activations = 0;
    plan.host.hidden_states = batch.host_bytes() + (plan.store_place == StorePlace::host ? store : 0);
    plan.host.inputs = size.input_bytes + size.scale_bytes;
    plan.host.statistics -= plan.statistics.bytes; // they are on the device
    plan.host.logits = rows * sizeof(float) + size.logits_bytes;
}

// --- Choice -------------------------------------------------------------------------------------------------------------------

// From the fastest to the smallest. Large batches are worth more than having hidden states on the device; a file is slow.
static constexpr std::pair<StorePlace, int64_t> choices[] = {
    {StorePlace::device, 16384}, {StorePlace::host, 16384}, {StorePlace::device, 4096}, {StorePlace::host, 4096},
    {StorePlace::file, 16384},   {StorePlace::file, 4096},  {StorePlace::device, 1024}, {StorePlace::host, 1024},
    {StorePlace::device, 1},     {StorePlace::host, 1},     {StorePlace::file, 1024},   {StorePlace::file, 1},
};

Status TextPass::State::choose_remote_plan() {
    for (const TextVariant & variant : variants)
        if (device->activation_dtype() == DType::bf16 && variant.precision != Precision::bf16)
            return fail(Code::unsupported, device->device().name, " computes in BF16: use precision bf16, or the CPU");
    GNV_ASSIGN(const uint64_t available, device->free_bytes());
    uint64_t budget = options.device_bytes > 0 ? std::min(options.device_bytes, available) : available;
    if (device_limit > 0) budget = std::min(budget, device_limit);
    const uint64_t on_host = host_budget();
    const int64_t experts = std::max<int64_t>(1, model().sizes().experts);
    // The least that would do: of one with what there is of the other, and of each alone.
    uint64_t device_least = UINT64_MAX, host_least = UINT64_MAX, device_alone = UINT64_MAX, host_alone = UINT64_MAX;
    const auto try_plan = [&](const std::vector<PassGroup> & groups, StorePlace place,
                              int64_t positions) -> Result<bool> {
        if (place == StorePlace::file && options.scratch_folder.empty()) return false;
        const int64_t wanted = options.batch_positions > 0 ? options.batch_positions : positions;
        constexpr uint64_t most_logits = 1 << 30;
        for (const uint64_t logits_bytes : {std::min(on_host / 8, most_logits), uint64_t(0)}) {
            GNV_TRY(make_plan(groups, wanted, place, logits_bytes));
            plan.host_budget = on_host;
            plan.device_budget = budget;
            const uint64_t here = plan.device.total(), there = plan.host.total();
            if (there <= on_host) device_least = std::min(device_least, here);
            if (here <= budget) host_least = std::min(host_least, there);
            device_alone = std::min(device_alone, here);
            host_alone = std::min(host_alone, there);
            if (here <= budget && there <= on_host) {
                if (budget - here >= plan.weight_bytes) { // nothing else is worth this room
                    plan.weight_buffers = 2;
                    plan.device.weights += plan.weight_bytes;
                }
                return true;
            }
            if (!options.head) break;
        }
        return false;
    };
    for (int64_t ranges = 1;; ranges = std::min(ranges * 2, experts)) {
        GNV_ASSIGN(const std::vector<PassGroup> groups, cut_groups(ranges));
        for (const auto & [place, positions] : choices) {
            GNV_ASSIGN(const bool fits, try_plan(groups, place, positions));
            if (fits) return {};
        }
        if (ranges == experts) break;
    }
    const auto whole = [&](uint64_t bytes) { return options.whole_budget ? options.whole_budget(bytes) : bytes; };
    const std::string pass = concat(" for a forward pass over ", plan.store.positions, " positions");
    const bool host_fits = device_least < UINT64_MAX, device_fits = host_least < UINT64_MAX;
    const std::string of_device =
        concat("a budget of ", bytes_text(budget), " (", budget, " bytes) of the memory of ", device->device().name,
               " is too small", device_fits ? "" : pass, ": the least that would do is ",
               host_fits ? device_least : device_alone, " bytes");
    const std::string of_host = concat(
        "a memory budget of ", bytes_text(whole(on_host)), " (", whole(on_host), " bytes) is too small", pass, " on ",
        device->device().name, ": the least that would do is ", whole(device_fits ? host_least : host_alone), " bytes",
        options.scratch_folder.empty() ? ", less with a folder for scratch files" : "");
    if (host_fits) return Status(Code::out_of_memory, of_device);
    return Status(Code::out_of_memory, device_fits ? of_host : concat(of_host, "; and ", of_device));
}

// --- Allocation ---------------------------------------------------------------------------------------------------------------

Status TextPass::State::try_to_allocate_on_device(bool & on_host) {
    on_host = false;
    GNV_ASSIGN(batch_rows, DeviceRows::create(*device, rows_size()));
    if (plan.store_place == StorePlace::device) GNV_TRY(create_stores());
    GNV_ASSIGN(window, StatisticWindow::create(*device, plan.statistics));
    GNV_ASSIGN(remote, DevicePass::create(*device, device_size(), threads->size(), on_host));
    GNV_TRY(batch_rows->allocate_host());
    GNV_TRY(window.allocate_host());
    if (plan.store_place != StorePlace::device) GNV_TRY(create_stores());
    const uint64_t row = uint64_t(model().sizes().vocabulary) * sizeof(float);
    if (options.head) {
        GNV_ASSIGN(logits_memory, allocate_block(uint64_t(plan.head_positions) * row * variants.size(), "logits"));
    }
    // Pinned memory takes its time: the first weights are read meanwhile.
    GNV_TRY(start_reading(list_loads().front()));
    return remote->add_host_buffer();
}

void TextPass::State::release_device() {
    remote.reset();
    window = {};
    batch_rows.reset();
    stores.clear();
    logits_memory.reset();
}

// Memory that was free when the pass was planned may be somebody else's by now: then a smaller plan is tried, first without
// a second buffer for weights.
Status TextPass::State::allocate_on_device() {
    constexpr int attempts = 6;
    for (int attempt = 1;; attempt++) {
        bool on_host = false;
        Status status = try_to_allocate_on_device(on_host);
        if (status.ok()) break;
        release_device();
        if (status.code() != Code::out_of_memory) return status;
        uint64_t & limit = on_host ? host_limit : device_limit;
        const PassMemory & short_of = on_host ? plan.host : plan.device;
        const bool is_second = !on_host && plan.weight_buffers > 1;
        limit = short_of.total() - (is_second ? plan.weight_bytes : (short_of.total() - short_of.context) / 4);
        if (attempt < attempts && choose_remote_plan().ok()) continue;
        return std::move(status).add_context(
            concat("memory that was free when the forward pass was planned is in use now; wait for other programs on ",
                   device->device().name, " to end, or give a smaller budget"));
    }
    for (const TextVariant & variant : variants) {
        remote_variants.push_back(variant);
        if (!variant.input_scales) continue;
        const InputScales * there = nullptr;
        for (size_t v = 0; v + 1 < remote_variants.size(); v++)
            if (variants[v].input_scales == variant.input_scales) there = remote_variants[v].input_scales;
        if (!there) {
            remote_scales.push_back(std::make_unique<InputScales>(remote->upload_scales(*variant.input_scales)));
            there = remote_scales.back().get();
        }
        remote_variants.back().input_scales = there;
    }
    return {};
}

} // namespace gnv
