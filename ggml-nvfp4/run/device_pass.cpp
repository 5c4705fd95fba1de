#include "run/device_pass.h"

#include <cstring>

namespace gnv {

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
    on_host = true;
    GNV_ASSIGN(pass->reader_, WeightReader::create(device, size.weight_bytes, threads));
    GNV_TRY(pass->inputs_.allocate_host(device));
    if (size.scale_bytes > 0) {
        GNV_ASSIGN(pass->host_scales_, device.allocate_host(size.scale_bytes));
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

} // namespace gnv
