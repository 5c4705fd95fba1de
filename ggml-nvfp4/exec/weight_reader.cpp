#include "exec/weight_reader.h"

#include <system_error>

namespace gnv {

Result<std::unique_ptr<WeightReader>> WeightReader::create(Backend & device, uint64_t bytes, int threads) {
    std::unique_ptr<WeightReader> reader(new WeightReader(device));
    GNV_ASSIGN(reader->buffer_, device.allocate_host(bytes));
    GNV_ASSIGN(reader->threads_, ThreadPool::create(threads));
    return reader;
}

WeightReader::~WeightReader() {
    if (reader_.joinable()) reader_.join();
    (void)device_.synchronize(); // it may still copy from the buffer
}

Status WeightReader::start(const WeightGroup & group, const WeightCatalog & catalog, const FolderFiles & files) {
    if (reader_.joinable()) reader_.join();
    reading_ = group;
    try {
        reader_ = std::thread([this, &catalog, &files] {
            status_ = guard_exceptions([&] { return reading_.load(catalog, files, buffer_.get(), *threads_); });
        });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread to read weights: ", error.what());
    }
    return {};
}

Result<WeightGroup> WeightReader::finish(void * memory) {
    GNV_CHECK(reader_.joinable());
    reader_.join();
    GNV_TRY(std::move(status_));
    device_.upload(memory, buffer_.get(), reading_.bytes());
    return reading_.copy_at(memory);
}

} // namespace gnv
