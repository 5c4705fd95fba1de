// The header of one safetensors file, whatever it is read from.
#pragma once

#include "checkpoint/safetensors.h"

#include <functional>

namespace gnv {

// `bytes` bytes at `offset` of the file; fails where it ends before.
using ReadBytes = std::function<Status(void * data, uint64_t bytes, uint64_t offset)>;

// Reads the header of a file of `file_bytes` bytes and checks it. `data_begin`: the first byte after it. Code::format, with `path`,
// if it is none: cut off, a pointer of Git LFS, a text.
Result<Header> read_header(const std::string & path, uint64_t file_bytes, const ReadBytes & read,
                           uint64_t & data_begin);

} // namespace gnv
