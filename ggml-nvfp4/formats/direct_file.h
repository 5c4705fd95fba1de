// A file that is read past the page cache, to measure its disk.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <string>

namespace gnv {

class DirectFile {
  public:
    static constexpr uint64_t alignment = 4096; // of offsets, sizes and memory: enough for every block size in use

    // Where the file system has no such reading, it goes through the page cache.
    static Result<DirectFile> open(const std::string & path);
    DirectFile(DirectFile && other) noexcept;
    DirectFile & operator=(DirectFile && other) noexcept;
    ~DirectFile();

    bool is_direct() const { return is_direct_; }
    uint64_t size() const { return size_; }
    // Exactly `size` bytes; safe to call from several threads.
    Status read(void * data, uint64_t size, uint64_t offset) const;
    // The first aligned byte of a block; `alignment` bytes more than needed are enough.
    static uint8_t * align(uint8_t * memory);

  private:
    explicit DirectFile(std::string path) : path_(std::move(path)) {}
    std::string path_;
    int fd_ = -1;
    bool is_direct_ = true;
    uint64_t size_ = 0;
};

} // namespace gnv
