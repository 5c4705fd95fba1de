// The size of a file and its room on the disk, apart: the size is there at once, the room takes seconds in a file system in
// memory, and other threads may write meanwhile.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <memory>
#include <string>

namespace gnv {

class FileRoom {
  public:
    static Result<std::shared_ptr<FileRoom>> open(const std::string & path); // an existing file; follows no link
    ~FileRoom();
    FileRoom(const FileRoom &) = delete;
    FileRoom & operator=(const FileRoom &) = delete;

    Status grow(uint64_t size) const; // to this size
    // Reserves the blocks of a range if the file system can, so that a full disk fails here. Keeps size and content.
    Status reserve(uint64_t offset, uint64_t size) const;

  private:
    explicit FileRoom(std::string path) : path_(std::move(path)) {}
    std::string path_;
    int fd_ = -1;
};

} // namespace gnv
