#include "exec/weight_reader.h"

#include <system_error>

namespace gnv {

Result<std::unique_ptr<WeightReader>> WeightReader::create(Backend & device, const Size & size) {
    std::unique_ptr<WeightReader> reader(new WeightReader(device));
    reader->buffer_bytes_ = size.bytes;
    for (int i = 0; i < size.buffers; i++) {
        GNV_ASSIGN(HostMemory buffer, device.allocate_host(size.bytes));
        reader->buffers_.push_back(std::move(buffer));
    }
    GNV_ASSIGN(reader->threads_, ThreadPool::create(size.threads));
    return reader;
}

WeightReader::~WeightReader() {
    if (reader_.joinable()) reader_.join();
    (void)device_.synchronize(); // it may still copy from a buffer
}

Status WeightReader::start(std::vector<WeightLoad> loads) {
    if (reader_.joinable()) reader_.join();
    turn_ = (turn_ + 1) % buffers_.size();
    reading_ = std::move(loads);
    uint64_t bytes = 0;
    for (const WeightLoad & load : reading_) bytes += load.group.bytes();
    GNV_CHECK(bytes <= buffer_bytes_);
    const auto read = [this, memory = static_cast<uint8_t *>(buffers_[turn_].get()),
                       trace = device_.trace()]() -> Status {
        uint64_t used = 0;
        for (WeightLoad & load : reading_) {
            GNV_TRY(load.group.load(*load.catalog, *load.files, memory + used, *threads_, trace));
            used += load.group.bytes();
        }
        return {};
    };
    try {
        reader_ = std::thread([this, read] { status_ = guard_exceptions(read); });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread to read weights: ", error.what());
    }
    return {};
}

Result<std::vector<LoadedWeights>> WeightReader::finish(void * memory) {
    GNV_CHECK(reader_.joinable());
    reader_.join();
    GNV_TRY(std::move(status_));
    std::vector<LoadedWeights> loaded;
    uint64_t used = 0;
    for (const WeightLoad & load : reading_) {
        loaded.push_back({load.group, load.group.copy_at(static_cast<uint8_t *>(memory) + used)});
        used += load.group.bytes();
    }
    device_.upload(memory, buffers_[turn_].get(), used);
    GNV_TRY(device_.synchronize());
    return loaded;
}

} // namespace gnv
