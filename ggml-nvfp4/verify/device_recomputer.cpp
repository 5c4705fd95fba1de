#include "verify/device_recomputer.h"

namespace gnv {

// A slot of both memories: weights, then codes, then block scales.
static constexpr uint64_t most_blocks = verify::Recomputer::most_blocks;
static constexpr uint64_t weight_bytes = most_blocks * 16 * sizeof(uint16_t);
static constexpr uint64_t code_bytes = most_blocks * 8;
static constexpr uint64_t slot_bytes = weight_bytes + code_bytes + most_blocks;

Result<std::unique_ptr<DeviceRecomputer>> DeviceRecomputer::create(Backend & device, int slots) {
    std::unique_ptr<DeviceRecomputer> self(new DeviceRecomputer(device, slots));
    self->quantizer_ = device.quantizer(round_to_nearest_name, formats::nvfp4);
    if (!self->quantizer_) return fail(Code::unsupported, device.device().name, " cannot pack weights");
    GNV_ASSIGN(self->device_memory_, device.allocate(uint64_t(slots) * slot_bytes));
    GNV_ASSIGN(self->host_memory_, device.allocate_host(uint64_t(slots) * slot_bytes));
    return self;
}

DeviceRecomputer::~DeviceRecomputer() {
    (void)device_.synchronize(); // queued work must end before memory is freed
}

uint16_t * DeviceRecomputer::weights(int slot) {
    return reinterpret_cast<uint16_t *>(static_cast<uint8_t *>(host_memory_.get()) + uint64_t(slot) * slot_bytes);
}

Result<verify::Recomputer::Packed> DeviceRecomputer::pack(int slot, int64_t blocks, float global_scale) {
    uint8_t * const here = static_cast<uint8_t *>(host_memory_.get()) + uint64_t(slot) * slot_bytes;
    uint8_t * const there = static_cast<uint8_t *>(device_memory_.get()) + uint64_t(slot) * slot_bytes;
    const uint64_t count = uint64_t(blocks);
    std::unique_ptr<Fence> done;
    {
        const std::lock_guard<std::mutex> lock(queueing_);
        device_.upload(there, here, count * 16 * sizeof(uint16_t));
        const PackedRows packed = {1, blocks * 16, {there + weight_bytes, there + weight_bytes + code_bytes}};
        const WeightsToPack weight = {reinterpret_cast<const uint16_t *>(there), packed, global_scale};
        quantizer_->pack({&weight, 1});
        device_.download(here + weight_bytes, there + weight_bytes, count * 8);
        device_.download(here + weight_bytes + code_bytes, there + weight_bytes + code_bytes, count);
        done = device_.fence(Queue::compute);
    }
    GNV_TRY(done->wait());
    return Packed{here + weight_bytes, here + weight_bytes + code_bytes};
}

} // namespace gnv
