#include "pass/lane.h"

#include <cstring>

namespace gnv {

// --- Memory -------------------------------------------------------------------------------------------------------------------

static constexpr size_t input_blocks = 2; // of the host: the inputs of a batch are written while the one before runs

uint64_t LaneSize::logits_bytes(const Backend & device) const {
    return uint64_t(logits_rows * logits_columns) * uint64_t(dtype_traits(device.activation_dtype()).bits) / 8;
}

void LaneSize::reserve(const Backend & device, Budget & on_host, Budget & on_device) const {
    const bool aliases = rows_are_aliases(device);
    if (aliases) on_host.reserve("activations", arena_bytes);
    if (aliases && given_bytes > 0) on_host.reserve("inputs", given_bytes);
    on_host.reserve("hidden states", rows.host_bytes(device));
    on_host.reserve("statistics", statistics.kept_bytes + (aliases ? statistics.bytes : 0));
    if (aliases) return;
    on_host.reserve("inputs", input_blocks * input_bytes + scale_bytes);
    const uint64_t all_logits = uint64_t(logits_rows * logits_columns) * rows.variants * sizeof(float);
    on_host.reserve("logits", all_logits + logits_bytes(device));
    on_device.reserve("weights", uint64_t(weight_buffers) * weight_bytes);
    on_device.reserve("activations", arena_bytes);
    on_device.reserve("hidden states", rows.device_bytes(device));
    on_device.reserve("inputs", input_bytes + scale_bytes);
    on_device.reserve("statistics", statistics.bytes);
    on_device.reserve("driver, libraries", device_context_bytes);
}

Result<Budget> Lane::budget(Backend & device, const Budget & wanted) {
    if (rows_are_aliases(device)) return Budget();
    GNV_ASSIGN(const uint64_t available, device.free_bytes());
    Budget budget = wanted;
    budget.limit(available, device.device().label());
    return budget;
}

Result<std::unique_ptr<Lane>> Lane::create(Backend & device, const LaneSize & size) {
    std::unique_ptr<Lane> lane(new Lane(device, size));
    GNV_ASSIGN(lane->rows_, LaneRows::create(device, size.rows));
    Result<DeviceMemory> arena = device.allocate(size.arena_bytes);
    if (!arena.ok()) return arena.take_status().add_context("activations");
    lane->arena_ = arena.take();
    GNV_ASSIGN(lane->window_, StatisticWindow::create(device, size.statistics));
    if (lane->aliases()) {
        lane->inputs_ = LaneInputs::in_place(size.given_bytes);
        return lane;
    }
    GNV_ASSIGN(lane->inputs_, LaneInputs::create(device, size.input_bytes, input_blocks));
    for (int i = 0; i < size.weight_buffers; i++) {
        GNV_ASSIGN(DeviceMemory memory, device.allocate(size.weight_bytes));
        lane->weight_memory_.push_back(std::move(memory));
    }
    if (size.scale_bytes > 0) {
        GNV_ASSIGN(lane->scales_, device.allocate(size.scale_bytes));
    }
    return lane;
}

Status Lane::allocate_host(const std::string & scratch_folder) {
    GNV_TRY(inputs_.allocate_host(device_));
    GNV_TRY(window_.allocate_host());
    GNV_TRY(rows_->allocate_host(scratch_folder));
    if (aliases()) return {};
    if (size_.scale_bytes > 0) {
        GNV_ASSIGN(host_scales_, device_.allocate_host(size_.scale_bytes));
    }
    if (size_.logits_columns == 0) return {};
    GNV_ASSIGN(host_logits_, device_.allocate_host(size_.logits_bytes(device_)));
    const uint64_t elements = uint64_t(size_.logits_rows * size_.logits_columns) * size_.rows.variants;
    GNV_ASSIGN(logits_, allocate_block(elements * sizeof(float), "logits"));
    return {};
}

Lane::~Lane() { settle(); } // queued work must end before memory is freed

void Lane::settle() {
    for (const Queue queue : {Queue::upload, Queue::compute, Queue::download}) (void)device_.synchronize(queue);
}

// --- Weights ------------------------------------------------------------------------------------------------------------------

void Lane::follow(Lane & first) {
    if (!aliases() && !first.aliases() && device_.reaches(first.device_)) upload_.follow(first.upload_);
}

Status Lane::expect_weights(const WeightStream & stream) {
    const size_t buffers = weight_memory_.size();
    turn_ = buffers > 1 ? 1 - turn_ : 0;
    return upload_.expect(stream, buffers > 1 ? weight_memory_[turn_].get() : nullptr);
}

void Lane::finish_weights(const WeightStream & stream) {
    weights_ = upload_.finish(stream, aliases() ? nullptr : weight_memory_[turn_].get());
}

// --- Inputs and outputs -------------------------------------------------------------------------------------------------------

InputScales Lane::upload_scales(const InputScales & scales) {
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

void Lane::take_variants(const std::vector<TextVariant> & variants) {
    for (const TextVariant & variant : variants) {
        variants_.push_back(variant);
        if (!variant.input_scales || aliases()) continue;
        const InputScales * there = nullptr; // of an earlier variant with the same scales
        for (size_t v = 0; v + 1 < variants_.size(); v++)
            if (variants[v].input_scales == variant.input_scales) there = variants_[v].input_scales;
        if (!there) {
            scales_of_variants_.push_back(std::make_unique<InputScales>(upload_scales(*variant.input_scales)));
            there = scales_of_variants_.back().get();
        }
        variants_.back().input_scales = there;
    }
}

Result<Tensor> Lane::show(const Tensor & tensor, HostTensor & copy) {
    if (aliases()) return Tensor(tensor);
    GNV_ASSIGN(copy, download_tensor(device_, tensor));
    return Tensor(copy.tensor);
}

Result<Tensor> Lane::show_logits(const Tensor & logits, size_t variant, ThreadPool & threads) {
    if (aliases()) return Tensor(logits);
    device_.download(host_logits_.get(), logits.data, tensor_bytes(logits.dtype, logits.shape));
    GNV_TRY(device_.synchronize());
    Tensor shown;
    shown.shape = logits.shape;
    shown.data = reinterpret_cast<float *>(logits_.get()) + int64_t(variant) * size_.logits_rows * size_.logits_columns;
    GNV_TRY(widen_to_float(logits.dtype, host_logits_.get(), logits.shape.elements(), shown.as<float>(), threads));
    return shown;
}

Lane::FetchedLogits Lane::fetch_logits(const Tensor & logits, size_t place) {
    if (aliases()) return {logits, nullptr, logits.data};
    const uint64_t begin = place * tensor_bytes(logits.dtype, {size_.logits_rows / 2, size_.logits_columns});
    const uint64_t bytes = tensor_bytes(logits.dtype, logits.shape);
    GNV_CHECK(begin + bytes <= size_.logits_bytes(device_));
    void * const here = static_cast<uint8_t *>(host_logits_.get()) + begin;
    device_.download(here, logits.data, bytes);
    return {logits, device_.fence(Queue::compute), here};
}

Status Lane::write_logits(const FetchedLogits & logits, float * to, ThreadPool & threads) {
    if (logits.copied) {
        const Span span(device_.trace(), "host", "wait for the device");
        GNV_TRY(logits.copied->wait());
    }
    const int64_t numbers = logits.there.shape.elements();
    const Span span(device_.trace(), "host", "write rows", {0, double(numbers) * sizeof(float)});
    return widen_to_float(logits.there.dtype, logits.here, numbers, to, threads);
}

} // namespace gnv
