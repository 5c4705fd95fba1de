#include "exec/device_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <system_error>

namespace gnv {

static uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

// --- Sizes --------------------------------------------------------------------------------------------------------------------

static uint64_t field_bytes(const DevicePassSize & size, Field field) {
    const uint64_t element = field == Field::hidden ? 2 : 4; // BF16; sums and routing in 32 bits
    return aligned(uint64_t(size.store.positions) * uint64_t(size.store.columns[size_t(field)]) * element);
}

uint64_t DevicePassSize::hidden_bytes() const { return field_bytes(*this, Field::hidden); }

uint64_t DevicePassSize::store_bytes() const {
    uint64_t sum = 0;
    for (size_t field = 0; field < size_t(Field::count_); field++) sum += field_bytes(*this, Field(field));
    return sum;
}

// Of a layer: a maximum for each observation, those of experts for each expert, then the counts.
static uint64_t maxima_of_layer(const DevicePassSize & size) {
    return size_t(Observed::count_) + uint64_t(size.experts);
}
static uint64_t layer_bytes(const DevicePassSize & size) {
    return aligned(maxima_of_layer(size) * sizeof(float)) + aligned(uint64_t(size.experts) * sizeof(int64_t));
}

uint64_t DevicePassSize::statistic_bytes() const { return uint64_t(layers) * layer_bytes(*this); }

uint64_t DevicePassSize::total() const {
    return weight_bytes + arena_bytes + input_bytes + uint64_t(variants) * store_bytes() + statistic_bytes();
}

// --- Memory -------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<DevicePass>> DevicePass::create(Backend & device, const DevicePassSize & size) {
    std::unique_ptr<DevicePass> pass(new DevicePass(device, size));
    GNV_ASSIGN(pass->weights_, device.allocate(size.weight_bytes));
    GNV_ASSIGN(pass->arena_, device.allocate(size.arena_bytes));
    GNV_ASSIGN(pass->store_, device.allocate(size.variants * size.store_bytes()));
    GNV_ASSIGN(pass->inputs_, device.allocate(size.input_bytes));
    GNV_ASSIGN(pass->statistics_, device.allocate(size.statistic_bytes()));
    for (HostMemory & buffer : pass->host_weights_) {
        GNV_ASSIGN(buffer, device.allocate_host(size.weight_bytes));
    }
    GNV_ASSIGN(pass->host_inputs_, device.allocate_host(size.input_bytes));
    device.clear(pass->statistics_.get(), size.statistic_bytes());
    GNV_ASSIGN(pass->readers_, ThreadPool::create(0));
    return pass;
}

DevicePass::~DevicePass() {
    if (reader_.joinable()) reader_.join();
    (void)device_.synchronize(); // nothing may be under way when memory goes
}

BatchFields DevicePass::fields(size_t variant, int64_t begin) const {
    uint8_t * at = static_cast<uint8_t *>(store_.get()) + variant * size_.store_bytes();
    void * places[size_t(Field::count_)];
    for (size_t field = 0; field < size_t(Field::count_); field++) {
        const uint64_t element = Field(field) == Field::hidden ? 2 : 4;
        places[field] = at + uint64_t(begin) * uint64_t(size_.store.columns[field]) * element;
        at += field_bytes(size_, Field(field));
    }
    return {places[size_t(Field::hidden)], places[size_t(Field::routed)], places[size_t(Field::router_weights)],
            places[size_t(Field::router_indices)]};
}

// --- Weights ------------------------------------------------------------------------------------------------------------------

Status DevicePass::start_reading(const WeightGroup & group, const WeightCatalog & catalog, const FolderFiles & files) {
    slot_ = 1 - slot_;
    reading_ = group;
    void * const memory = host_weights_[slot_].get();
    try {
        reader_ = std::thread([this, memory, &catalog, &files] {
            read_status_ = guard_exceptions([&] { return reading_.load(catalog, files, memory, *readers_); });
        });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread to read weights: ", error.what());
    }
    return {};
}

Result<WeightGroup> DevicePass::finish_reading() {
    reader_.join();
    GNV_TRY(std::move(read_status_));
    GNV_CHECK(reading_.bytes() <= size_.weight_bytes);
    device_.upload(weights_.get(), host_weights_[slot_].get(), reading_.bytes());
    GNV_TRY(device_.synchronize());
    return reading_;
}

// --- Inputs -------------------------------------------------------------------------------------------------------------------

Result<DeviceBatch> DevicePass::upload(const BatchInputs & inputs) {
    GNV_TRY(device_.synchronize()); // the last batch still reads from there
    uint64_t used = 0;
    const auto place = [&](const auto & data) {
        using Element = typename std::decay_t<decltype(data)>::value_type;
        const uint64_t begin = used;
        used += aligned(data.size() * sizeof(Element));
        GNV_CHECK(used <= size_.input_bytes);
        if (!data.empty())
            memcpy(static_cast<uint8_t *>(host_inputs_.get()) + begin, data.data(), data.size() * sizeof(Element));
        return reinterpret_cast<const Element *>(static_cast<const uint8_t *>(inputs_.get()) + begin);
    };
    DeviceBatch batch;
    batch.ids = place(inputs.ids);
    batch.positions = place(inputs.positions);
    batch.segments = place(inputs.segments);
    batch.mask = place(inputs.mask);
    batch.maxima = [this](int32_t layer, Observed observed) { return maxima(layer, observed); };
    batch.tokens_per_expert = [this](int32_t layer) { return tokens_per_expert(layer); };
    device_.upload(inputs_.get(), host_inputs_.get(), used);
    return batch;
}

// --- Statistics ---------------------------------------------------------------------------------------------------------------

float * DevicePass::maxima(int32_t layer, Observed observed) const {
    auto * const first =
        reinterpret_cast<float *>(static_cast<uint8_t *>(statistics_.get()) + uint64_t(layer) * layer_bytes(size_));
    return observed == Observed::expert_down_input ? first + size_t(Observed::count_) : first + size_t(observed);
}

int64_t * DevicePass::tokens_per_expert(int32_t layer) const {
    return reinterpret_cast<int64_t *>(static_cast<uint8_t *>(statistics_.get()) +
                                       uint64_t(layer) * layer_bytes(size_) +
                                       aligned(maxima_of_layer(size_) * sizeof(float)));
}

Status DevicePass::take_statistics(int32_t layer, LayerStatistics & statistics, Observed & where) {
    for (size_t i = 0; i < size_t(Observed::count_); i++)
        if (!statistics.maxima[i].empty())
            device_.download(statistics.maxima[i].data(), maxima(layer, Observed(i)),
                             statistics.maxima[i].size() * sizeof(float));
    if (!statistics.tokens_per_expert.empty())
        device_.download(statistics.tokens_per_expert.data(), tokens_per_expert(layer),
                         statistics.tokens_per_expert.size() * sizeof(int64_t));
    GNV_TRY(device_.synchronize());
    for (size_t i = 0; i < size_t(Observed::count_); i++)
        for (const float maximum : statistics.maxima[i])
            if (!std::isfinite(maximum)) {
                where = Observed(i);
                return Status(Code::bad_value, "NaN or Inf; run with --device cpu to learn at which position");
            }
    return {};
}

} // namespace gnv
