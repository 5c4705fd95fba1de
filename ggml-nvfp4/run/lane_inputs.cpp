#include "run/lane_inputs.h"

#include "codec/nvfp4.h"

#include <cstring>

namespace gnv {

// Rows as F32, of which no activation is larger, and the extents of pictures.
static uint64_t given_bytes(const BatchShape & shape) {
    if (shape.given_rows == 0) return 0;
    return device_aligned(uint64_t(shape.given_rows * shape.given_columns) * sizeof(float)) +
           device_aligned(2 * uint64_t(shape.positions) * sizeof(int32_t));
}

// Slots and pages.
static uint64_t shared_state_bytes(const BatchShape & shape) {
    if (shape.slots == 0) return 0;
    const auto segments = uint64_t(shape.segments), each = uint64_t(shape.capacity / cache_page);
    return device_aligned(segments * sizeof(int32_t)) + device_aligned(segments * each * sizeof(int32_t));
}

uint64_t LaneInputs::bytes(const BatchShape & shape) {
    const auto positions = uint64_t(shape.positions), segments = uint64_t(shape.segments);
    return device_aligned(positions * sizeof(int32_t)) + device_aligned(3 * positions * sizeof(int32_t)) +
           device_aligned(positions) + device_aligned((segments + 1) * sizeof(int32_t)) +
           2 * device_aligned(segments * sizeof(int32_t)) + given_bytes(shape) + shared_state_bytes(shape);
}

Result<LaneInputs> LaneInputs::create(Backend & device, uint64_t bytes) {
    LaneInputs inputs;
    inputs.bytes_ = bytes;
    if (bytes > 0) {
        GNV_ASSIGN(inputs.memory_, device.allocate(bytes));
    }
    return inputs;
}

Status LaneInputs::allocate_host(Backend & device) {
    if (bytes_ == 0) return {};
    GNV_ASSIGN(staging_, device.allocate_host(bytes_));
    return {};
}

Result<DeviceBatch> LaneInputs::upload(Backend & device, const BatchInputs & inputs) {
    GNV_TRY(device.synchronize());
    uint64_t used = 0;
    const auto take = [&](uint64_t bytes) { // of the block
        const uint64_t begin = used;
        used += device_aligned(bytes);
        GNV_CHECK(used <= bytes_);
        return begin;
    };
    const auto host = [&](uint64_t begin) { return static_cast<uint8_t *>(staging_.get()) + begin; };
    const auto there = [&](uint64_t begin) { return static_cast<const uint8_t *>(memory_.get()) + begin; };
    const auto place = [&](const auto & data) {
        using Element = typename std::decay_t<decltype(data)>::value_type;
        if (bytes_ == 0) return data.data();
        const uint64_t bytes = data.size() * sizeof(Element), begin = take(bytes);
        if (bytes > 0) memcpy(host(begin), data.data(), bytes);
        return reinterpret_cast<const Element *>(there(begin));
    };
    DeviceBatch batch;
    batch.ids = place(inputs.ids);
    batch.positions = place(inputs.positions);
    batch.segments = place(inputs.segments);
    batch.mask = place(inputs.mask);
    batch.past = place(inputs.past);
    batch.last_positions = place(inputs.last_positions);
    batch.slots = place(inputs.slots);
    batch.pages = place(inputs.pages);
    batch.extents = place(inputs.extents);
    if (device.activation_dtype() == DType::f32) {
        batch.given = place(inputs.given);
    } else if (!inputs.given.empty()) {
        const uint64_t begin = take(inputs.given.size() * sizeof(uint16_t));
        nvfp4::bf16_from_floats(inputs.given, reinterpret_cast<uint16_t *>(host(begin)));
        batch.given = there(begin);
    }
    if (used > 0) device.upload(memory_.get(), staging_.get(), used);
    return batch;
}

} // namespace gnv
