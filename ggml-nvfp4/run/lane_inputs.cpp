#include "run/lane_inputs.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cstring>

namespace gnv {

static uint64_t bytes_of_rows(const BatchShape & shape, DType dtype) {
    return uint64_t(shape.given_rows * shape.given_columns) * uint64_t(dtype_traits(dtype).bits) / 8;
}

uint64_t LaneInputs::given_bytes(const BatchShape & shape, DType dtype) {
    return device_aligned(bytes_of_rows(shape, dtype));
}

// Of the grids of pictures, whose rows are given.
static uint64_t extents_bytes(const BatchShape & shape) {
    return shape.given_rows == 0 ? 0 : device_aligned(2 * uint64_t(shape.positions) * sizeof(int32_t));
}

// Slots and pages.
static uint64_t shared_state_bytes(const BatchShape & shape) {
    if (shape.slots == 0) return 0;
    const auto segments = uint64_t(shape.segments), each = uint64_t(shape.capacity / cache_page);
    return device_aligned(segments * sizeof(int32_t)) + device_aligned(segments * each * sizeof(int32_t));
}

static uint64_t pair_bytes(const BatchShape & shape) {
    return shape.draft == DraftInput::none ? 0 : device_aligned(2 * uint64_t(shape.positions) * sizeof(int32_t));
}

uint64_t LaneInputs::bytes(const BatchShape & shape, DType dtype) {
    const auto positions = uint64_t(shape.positions), segments = uint64_t(shape.segments);
    const auto asked = uint64_t(std::max(shape.segments, shape.asked));
    return device_aligned(positions * sizeof(int32_t)) + device_aligned(3 * positions * sizeof(int32_t)) +
           device_aligned(positions) + device_aligned((segments + 1) * sizeof(int32_t)) +
           device_aligned(segments * sizeof(int32_t)) + device_aligned(asked * sizeof(int32_t)) +
           given_bytes(shape, dtype) + extents_bytes(shape) + shared_state_bytes(shape) + pair_bytes(shape) +
           device_aligned(asked * sizeof(Draw));
}

Result<LaneInputs> LaneInputs::create(Backend & device, uint64_t bytes, size_t host_blocks) {
    LaneInputs inputs;
    inputs.host_blocks_.resize(host_blocks);
    inputs.bytes_ = bytes;
    if (bytes > 0) {
        GNV_ASSIGN(inputs.memory_, device.allocate(bytes));
    }
    return inputs;
}

LaneInputs LaneInputs::in_place(uint64_t given_bytes) {
    LaneInputs inputs;
    inputs.given_bytes_ = given_bytes;
    return inputs;
}

Status LaneInputs::allocate_host(Backend & device) {
    if (given_bytes_ > 0) {
        GNV_ASSIGN(given_, allocate_block(given_bytes_, "inputs"));
    }
    if (bytes_ == 0) return {};
    for (HostBlock & block : host_blocks_) {
        GNV_ASSIGN(block.memory, device.allocate_host(bytes_));
    }
    return {};
}

// The rows of all sequences, in the dtype of the activations: tasks of the pool write pieces of them, each straight to its
// place, or rounded from a piece that stays in a cache.
Status LaneInputs::write_given(const BatchInputs & inputs, DType dtype, void * to, ThreadPool & threads) {
    constexpr int64_t numbers_of_piece = 1 << 15;
    const int64_t columns = inputs.shape.given_columns;
    const int64_t most = std::max<int64_t>(1, numbers_of_piece / columns); // rows of a piece
    struct Piece {
        const GivenRows * rows;
        int64_t first, count, to; // to: row of the batch
    };
    std::vector<Piece> pieces;
    int64_t at = 0;
    for (const GivenRows * const rows : inputs.given) {
        const int64_t all = int64_t(rows->size()) / columns;
        for (int64_t first = 0; first < all; first += most)
            pieces.push_back({rows, first, std::min(most, all - first), at + first});
        at += all;
    }
    GNV_CHECK(at == inputs.shape.given_rows);
    const auto each = size_t(most * columns);
    if (dtype != DType::f32) pieces_.resize(each * size_t(threads.size()));
    return threads.parallel_for_thread(int64_t(pieces.size()), [&](int64_t index, int thread) -> Status {
        const Piece & piece = pieces[size_t(index)];
        const auto first = size_t(piece.first * columns), count = size_t(piece.count * columns);
        const int64_t place = piece.to * columns;
        if (dtype == DType::f32)
            return piece.rows->write(piece.first, piece.count, columns, static_cast<float *>(to) + place);
        std::span<const float> numbers = piece.rows->in_memory();
        if (!numbers.empty()) {
            numbers = numbers.subspan(first, count);
        } else {
            float * const own = pieces_.data() + size_t(thread) * each;
            GNV_TRY(piece.rows->write(piece.first, piece.count, columns, own));
            numbers = {own, count};
        }
        nvfp4::bf16_from_floats(numbers, static_cast<uint16_t *>(to) + place);
        return {};
    });
}

Status LaneInputs::take_turn(Backend & device) {
    if (host_blocks_.size() < 2) return device.synchronize();
    turn_ = (turn_ + 1) % host_blocks_.size();
    const std::unique_ptr<Fence> copied = std::move(host_blocks_[turn_].copied);
    if (!copied) return {};
    const Span span(device.trace(), "host", "wait for the device");
    return copied->wait();
}

Result<DeviceBatch> LaneInputs::upload(Backend & device, const BatchInputs & inputs, ThreadPool & threads) {
    GNV_TRY(take_turn(device));
    uint64_t used = 0;
    const auto take = [&](uint64_t bytes) { // of the block
        const uint64_t begin = used;
        used += device_aligned(bytes);
        GNV_CHECK(used <= bytes_);
        return begin;
    };
    const auto host = [&](uint64_t begin) { return static_cast<uint8_t *>(host_blocks_[turn_].memory.get()) + begin; };
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
    batch.pairs = place(inputs.pairs);
    batch.draws = place(inputs.draws);
    if (!inputs.given.empty()) {
        const DType dtype = device.activation_dtype();
        const uint64_t bytes = bytes_of_rows(inputs.shape, dtype);
        if (bytes_ > 0) {
            const uint64_t begin = take(bytes);
            const Span span(device.trace(), "host", "write inputs", {0, double(bytes)});
            GNV_TRY(write_given(inputs, dtype, host(begin), threads));
            batch.given = there(begin);
        } else {
            GNV_CHECK(bytes <= given_bytes_);
            GNV_TRY(write_given(inputs, dtype, given_.get(), threads));
            batch.given = given_.get();
        }
    }
    if (used == 0) return batch;
    device.upload(memory_.get(), host(0), used);
    if (host_blocks_.size() > 1) host_blocks_[turn_].copied = device.fence(Queue::compute);
    return batch;
}

} // namespace gnv
