#include "run/device_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace gnv {

// --- Statistics of a layer ----------------------------------------------------------------------------------------------------

namespace {

// Of one observer. A row for each observed input, those of experts' down projections one for each expert, at the end.
struct StatisticsLayout {
    uint64_t rows = 0, tokens = 0, magnitudes = 0, bytes = 0; // offsets; maxima come first
    explicit StatisticsLayout(const DevicePassSize & size) : rows(size_t(Observed::count_) + uint64_t(size.experts)) {
        tokens = device_aligned(rows * sizeof(float));
        magnitudes = tokens + device_aligned(uint64_t(size.experts) * sizeof(int64_t));
        bytes = magnitudes + (size.magnitudes ? device_aligned(rows * magnitude_bins * sizeof(int64_t)) : 0);
    }
    static uint64_t row(Observed observed) {
        return observed == Observed::expert_down_input ? uint64_t(Observed::count_) : uint64_t(observed);
    }
};

} // namespace

uint64_t DevicePassSize::statistic_bytes() const { return uint64_t(observers) * StatisticsLayout(*this).bytes; }

template <class T>
T * DevicePass::statistic(size_t observer, uint64_t offset) const {
    uint8_t * const memory = static_cast<uint8_t *>(statistics_.get());
    return reinterpret_cast<T *>(memory + observer * StatisticsLayout(size_).bytes + offset);
}

void DevicePass::clear_statistics() {
    if (size_.observers > 0) device_.clear(statistics_.get(), size_.statistic_bytes());
}

void DevicePass::watch(size_t observer) {
    const StatisticsLayout layout(size_);
    device_.download(host_statistics_.get(), statistic<float>(observer, 0), layout.rows * sizeof(float));
}

Observed DevicePass::first_bad_of_watched() const {
    const auto * const maxima = static_cast<const float *>(host_statistics_.get());
    const auto finite = [](float maximum) { return std::isfinite(maximum); };
    for (size_t i = 0; i < size_t(Observed::count_); i++)
        if (!finite(maxima[i])) return Observed(i);
    const float * const experts = maxima + size_t(Observed::count_);
    return std::all_of(experts, experts + size_.experts, finite) ? Observed::count_ : Observed::expert_down_input;
}

Status DevicePass::take_statistics(size_t observer, LayerStatistics & statistics) {
    const StatisticsLayout layout(size_);
    device_.download(host_statistics_.get(), statistic<uint8_t>(observer, 0), layout.bytes);
    GNV_TRY(device_.synchronize());
    const auto * const memory = static_cast<const uint8_t *>(host_statistics_.get());
    const auto take = [&](auto & list, uint64_t offset) {
        if (!list.empty()) memcpy(list.data(), memory + offset, list.size() * sizeof list[0]);
    };
    for (size_t i = 0; i < size_t(Observed::count_); i++) {
        const uint64_t row = StatisticsLayout::row(Observed(i));
        take(statistics.maxima[i], row * sizeof(float));
        take(statistics.magnitudes[i], layout.magnitudes + row * magnitude_bins * sizeof(int64_t));
    }
    take(statistics.tokens_per_expert, layout.tokens);
    return {};
}

// --- Memory -------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<DevicePass>> DevicePass::create(Backend & device, const DevicePassSize & size, int threads,
                                                       bool & on_host) {
    std::unique_ptr<DevicePass> pass(new DevicePass(device, size));
    for (int i = 0; i < size.weight_buffers; i++) {
        GNV_ASSIGN(DeviceMemory memory, device.allocate(size.weight_bytes));
        pass->weights_.push_back(std::move(memory));
    }
    GNV_ASSIGN(pass->arena_, device.allocate(size.arena_bytes));
    GNV_ASSIGN(pass->inputs_, DeviceInputs::create(device, size.input_bytes));
    if (size.scale_bytes > 0) {
        GNV_ASSIGN(pass->scales_, device.allocate(size.scale_bytes));
    }
    if (size.observers > 0) {
        GNV_ASSIGN(pass->statistics_, device.allocate(size.statistic_bytes()));
    }
    on_host = true;
    GNV_ASSIGN(pass->reader_, WeightReader::create(device, size.weight_bytes, threads));
    GNV_TRY(pass->inputs_.allocate_host(device));
    if (size.scale_bytes > 0) {
        GNV_ASSIGN(pass->host_scales_, device.allocate_host(size.scale_bytes));
    }
    if (size.observers > 0) {
        GNV_ASSIGN(pass->host_statistics_, device.allocate_host(StatisticsLayout(size).bytes));
    }
    if (size.logits_bytes > 0) {
        GNV_ASSIGN(pass->host_logits_, device.allocate_host(size.logits_bytes));
    }
    return pass;
}

DevicePass::~DevicePass() { // nothing may be under way when memory goes
    for (const Queue queue : {Queue::upload, Queue::compute}) (void)device_.synchronize(queue);
}

Status DevicePass::start_reading(std::vector<WeightLoad> loads) {
    turn_ = (turn_ + 1) % weights_.size();
    return reader_->start(std::move(loads), weights_.size() > 1 ? weights_[turn_].get() : nullptr);
}

InputScales DevicePass::upload_scales(const InputScales & scales) {
    const std::vector<float> packed = scales.packed();
    const uint64_t bytes = packed.size() * sizeof(float), begin = scales_used_;
    scales_used_ += device_aligned(bytes);
    GNV_CHECK(scales_used_ <= size_.scale_bytes);
    uint8_t * const from = static_cast<uint8_t *>(host_scales_.get()) + begin;
    uint8_t * const to = static_cast<uint8_t *>(scales_.get()) + begin;
    memcpy(from, packed.data(), bytes);
    device_.upload(to, from, bytes);
    return scales.copy_at(reinterpret_cast<const float *>(to));
}

// --- Inputs -------------------------------------------------------------------------------------------------------------------

Result<DeviceBatch> DevicePass::upload(const BatchInputs & inputs, size_t observer) {
    GNV_ASSIGN(DeviceBatch batch, inputs_.upload(device_, inputs));
    const StatisticsLayout layout(size_);
    batch.maxima = [this, observer](int32_t, Observed observed) {
        return statistic<float>(observer, StatisticsLayout::row(observed) * sizeof(float));
    };
    batch.magnitudes = [this, observer, layout](int32_t, Observed observed) {
        const uint64_t row_bytes = magnitude_bins * sizeof(int64_t);
        return statistic<int64_t>(observer, layout.magnitudes + StatisticsLayout::row(observed) * row_bytes);
    };
    batch.tokens_per_expert = [this, observer, layout](int32_t) { return statistic<int64_t>(observer, layout.tokens); };
    return batch;
}

} // namespace gnv
